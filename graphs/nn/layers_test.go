package nn_test

import (
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
)

// layer applies one layer to an input of the given shape.
type layer struct {
	name   string
	shape  []int
	apply  func(s *nn.Scope, x tf.Output) tf.Output
	except []string
}

func conv(c nn.Conv) func(*nn.Scope, tf.Output) tf.Output {
	return func(s *nn.Scope, x tf.Output) tf.Output { return nn.Conv2D(s, x, c) }
}

func transposed(c nn.Conv) func(*nn.Scope, tf.Output) tf.Output {
	return func(s *nn.Scope, x tf.Output) tf.Output { return nn.ConvTranspose2D(s, x, c) }
}

// layers are all layers of the package, each in every form that takes another
// path through the code.
var layers = []layer{
	{name: "conv k3", shape: []int{2, 5, 4, 3}, apply: conv(nn.Conv{Out: 2, Kernel: 3})},
	{name: "conv k3 s2 same", shape: []int{2, 6, 6, 2}, apply: conv(nn.Conv{Out: 2, Kernel: 3, Stride: 2})},
	{name: "conv k3 s2 p1", shape: []int{2, 6, 6, 2}, apply: conv(nn.Conv{Out: 2, Kernel: 3, Stride: 2, Pad: nn.Symmetric(1)})},
	{name: "conv k5 s2 valid", shape: []int{2, 8, 8, 2}, apply: conv(nn.Conv{Out: 2, Kernel: 5, Stride: 2, Pad: nn.Valid, NoBias: true})},
	{name: "conv dilated same", shape: []int{2, 7, 6, 2}, apply: conv(nn.Conv{Out: 2, Kernel: 3, Dilation: 2})},
	{name: "conv dilated p3", shape: []int{1, 7, 8, 2}, apply: conv(nn.Conv{Out: 2, Kernel: 3, Dilation: 3, Pad: nn.Symmetric(3)})},
	{name: "depthwise k3 s2 p1", shape: []int{2, 6, 6, 3}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		return nn.DepthwiseConv2D(s, x, nn.Conv{Kernel: 3, Stride: 2, Pad: nn.Symmetric(1)})
	}},
	{name: "transposed k4 s2 p1", shape: []int{2, 3, 4, 2}, apply: transposed(nn.Conv{Out: 3, Kernel: 4, Stride: 2, Pad: nn.Symmetric(1)})},
	{name: "transposed k3 s2 p1 op1", shape: []int{2, 3, 4, 2}, apply: transposed(nn.Conv{Out: 3, Kernel: 3, Stride: 2, Pad: nn.Symmetric(1), OutputPad: 1})},
	{name: "transposed k5 s2 same", shape: []int{2, 3, 4, 2}, apply: transposed(nn.Conv{Out: 3, Kernel: 5, Stride: 2})},
	{name: "dense", shape: []int{3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.Dense(s, x, 3) }},
	{name: "dense rank 3", shape: []int{2, 3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.Dense(s, x, 5) }},
	{name: "batch norm", shape: []int{3, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.BatchNorm(s, x, nn.BN{}) }},
	{name: "batch norm rank 2", shape: []int{6, 3}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.BatchNorm(s, x, nn.BN{}) }},
	{name: "batch norm without affine", shape: []int{6, 3}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.BatchNorm(s, x, nn.BN{NoAffine: true}) }},
	{name: "batch norm in inference", shape: []int{3, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.BatchNorm(s.Inference(), x, nn.BN{}) }},
	{name: "batch norm per sample", shape: []int{3, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		return nn.BatchNorm(s.Inference(), x, nn.BN{PerSample: true})
	}},
	{name: "layer norm", shape: []int{3, 2, 5}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.LayerNorm(s, x, nn.Norm{}) }},
	{name: "instance norm", shape: []int{2, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.InstanceNorm(s, x, nn.Norm{}) }},
	{name: "image norm", shape: []int{2, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ImageNorm(s, x, nn.Norm{NoAffine: true}) }},
	{name: "relu", shape: []int{3, 4}, apply: nn.ReLU},
	{name: "relu6", shape: []int{3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ReLU6(s, nn.Scale(s, x, 5)) }},
	{name: "leaky relu", shape: []int{3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.LeakyReLU(s, x, 0.2) }},
	{name: "elu", shape: []int{3, 4}, apply: nn.ELU},
	{name: "gelu", shape: []int{3, 4}, apply: nn.GELU},
	{name: "silu", shape: []int{3, 4}, apply: nn.SiLU},
	{name: "sigmoid", shape: []int{3, 4}, apply: nn.Sigmoid},
	{name: "tanh", shape: []int{3, 4}, apply: nn.Tanh},
	{name: "softplus", shape: []int{3, 4}, apply: nn.Softplus},
	{name: "softmax", shape: []int{2, 3, 4}, apply: nn.Softmax},
	{name: "log softmax", shape: []int{3, 4}, apply: nn.LogSoftmax},
	{name: "log softmax rank 4", shape: []int{2, 2, 2, 3}, apply: nn.LogSoftmax},
}

func TestLayerGradients(t *testing.T) {
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
				return l.apply(s.In("layer"), nntest.Input(s, "x", l.shape...))
			}, nntest.Options{Except: l.except})
		})
	}
}
