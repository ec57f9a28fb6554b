package nn_test

import (
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
)

// layer applies one layer to an input of the given shape.
type layer struct {
	name  string
	shape []int
	apply func(s *nn.Scope, x tf.Output) tf.Output
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
	{name: "conv k1 s2", shape: []int{2, 5, 4, 2}, apply: conv(nn.Conv{Out: 2, Kernel: 1, Stride: 2})},
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
	{name: "max pool", shape: []int{2, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.MaxPool(s, x, 2, 2, nn.Valid) }},
	{name: "max pool k3 s2 p1", shape: []int{2, 6, 6, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		return nn.MaxPool(s, x, 3, 2, nn.Symmetric(1))
	}},
	{name: "avg pool", shape: []int{2, 4, 6, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.AvgPool(s, x, 2, 2, nn.Valid) }},
	{name: "avg pool k3 p1", shape: []int{2, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		return nn.AvgPool(s, x, 3, 1, nn.Symmetric(1))
	}},
	{name: "avg pool same", shape: []int{2, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.AvgPool(s, x, 3, 1, nn.Same) }},
	{name: "mean pool", shape: []int{2, 4, 6, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.MeanPool(s, x, 2) }},
	{name: "global avg pool", shape: []int{2, 3, 4, 2}, apply: nn.GlobalAvgPool},
	{name: "global max pool", shape: []int{2, 3, 4, 2}, apply: nn.GlobalMaxPool},
	{name: "resize bilinear up", shape: []int{2, 3, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ResizeBilinear(s, x, 7, 8) }},
	{name: "resize bilinear down", shape: []int{2, 7, 8, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ResizeBilinear(s, x, 3, 5) }},
	{name: "resize aligned up", shape: []int{2, 3, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ResizeAligned(s, x, 6, 8) }},
	{name: "resize aligned down", shape: []int{2, 7, 8, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ResizeAligned(s, x, 3, 5) }},
	{name: "resize map", shape: []int{2, 3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ResizeMap(s, x, 6, 6) }},
	{name: "upsample", shape: []int{2, 3, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.Upsample(s, x, 2) }},
	{name: "resize nearest", shape: []int{2, 3, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.ResizeNearest(s, x, 5, 7) }},
	{name: "blur maps", shape: []int{2, 5, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.GaussianBlur(s, x, nn.Blur{Sigma: 1}) }},
	{name: "blur images", shape: []int{2, 5, 4, 3}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		return nn.GaussianBlur(s, x, nn.Blur{Sigma: 1, Border: nn.WholeSample})
	}},
	{name: "dropout", shape: []int{4, 5}, apply: func(s *nn.Scope, x tf.Output) tf.Output { return nn.Dropout(s, x, 0.4) }},
	{name: "sample normal", shape: []int{4, 6}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		h := nn.Split(s, x, 1, 2)
		return nn.SampleNormal(s, h[0], h[1])
	}},
	// A bias of the keys adds one number to all logits of a query: no effect.
	{name: "attention", shape: []int{2, 3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		return nn.MultiHeadAttention(s, x, x, x, nn.Attention{Heads: 2, NoBias: true})
	}},
	{name: "attention to others", shape: []int{2, 3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		y := nntest.Input(s, "others", 2, 5, 6)
		return nn.MultiHeadAttention(s, x, y, y, nn.Attention{Heads: 2, Dropout: 0.3, NoBias: true})
	}},
	{name: "arithmetic", shape: []int{3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		y := nntest.Positive(s, "y", 4)
		a := nn.Add(s, nn.Mul(s, x, y), nn.Div(s, x, nn.Sqrt(s, y)))
		b := nn.Sub(s, nn.Exp(s, nn.Neg(s, y)), nn.Mul(s, nn.Log(s, y), nn.Square(s, x)))
		return nn.Add(s, nn.Minimum(s, a, b), nn.Add(s, nn.Abs(s, x), nn.Pow(s, y, 1.5)))
	}},
	{name: "clip, where, maximum", shape: []int{5, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		y := nntest.Input(s, "y", 5, 4)
		chosen := nn.Where(s, nn.Greater(s, x, y), nn.Square(s, x), y)
		return nn.Add(s, nn.Clip(s, chosen, -0.5, 1.5), nn.Maximum(s, x, nn.Scale(s, y, 2)))
	}},
	{name: "reductions", shape: []int{2, 3, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		means := nn.Mean(s, nn.MeanChannels(s, x), 2)                       // [2,3]
		sums := nn.Sum(s, nn.Mul(s, x, nn.SumKeep(s, x, 1)), 2, 3)          // [2,3]
		most := nn.Max(s, nn.Sub(s, x, nn.MaxKeep(s, x, 1)), 2, 3)          // [2,3]
		least := nn.Min(s, nn.Mul(s, x, nn.MeanKeep(s, x, 1, 2, 3)), -1, 2) // [2,3]
		image := nn.Add(s, nn.MeanImage(s, x), nn.Mul(s, nn.MaxImage(s, x), nn.SumImage(s, x)))
		return nn.Add(s, nn.AddN(s, means, sums, most, least), nn.ExpandDims(s, image, 1))
	}},
	{name: "shapes", shape: []int{2, 4, 4, 2}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		y := nn.DepthToSpace(s, nn.SpaceToDepth(s, nn.MirrorPad(s, x, nn.HalfSample, 2), 4), 2)        // [2,4,4,8]
		y = nn.Concat(s, 3, nn.Split(s, y, 3, 4)[1], nn.Pad(s, nn.Crop(s, x, 1, 0, 3, 2), 0, 1, 2, 0)) // [2,4,4,4]
		y = nn.Gather(s, nn.Transpose(s, y, 0, 3, 1, 2), nn.Cast(s, nn.Consts(s, []float32{2, 0, 2}, 3), tf.Int64), 1)
		y = nn.Stack(s, 1, nn.Unstack(s, nn.Reverse(s, y, 2), 2)...)
		return nn.Tile(s, nn.Reshape(s, y, 2, -1), 1, 2)
	}},
	{name: "matrices", shape: []int{2, 3, 4}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		y := nntest.Input(s, "y", 5, 4)
		return nn.BatchMatMul(s, nn.Einsum(s, "bnd,md->bnm", x, y), nn.BatchMatMul(s, x, y, false, true), true, false)
	}},
	{name: "top k", shape: []int{3, 6}, apply: func(s *nn.Scope, x tf.Output) tf.Output {
		v, _ := nn.TopK(s, x, 2)
		return nn.Square(s, v)
	}},
	{name: "L2 normalize", shape: []int{3, 4}, apply: nn.L2Normalize},
}

func TestLayerGradients(t *testing.T) {
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
				return l.apply(s.In("layer"), nntest.Input(s, "x", l.shape...))
			}, nntest.Options{})
		})
	}
}

// What a critic with a gradient penalty may use has right second derivatives:
// here those of a weighted sum of squares, by the input and by each variable.
func TestSecondDerivatives(t *testing.T) {
	twice := map[string]bool{}
	for _, name := range []string{
		"conv k3", "conv k3 s2 same", "conv k3 s2 p1", "conv k5 s2 valid", "dense", "dense rank 3", "leaky relu", "gelu", "softmax",
		"layer norm", "instance norm", "image norm", "batch norm per sample", "mean pool", "global avg pool",
		"blur images", "dropout", "L2 normalize", "matrices", "top k",
	} {
		twice[name] = true
	}
	for _, l := range layers {
		if !twice[l.name] {
			continue
		}
		delete(twice, l.name)
		t.Run(l.name, func(t *testing.T) {
			nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
				x := nntest.Input(s, "x", l.shape...)
				y := l.apply(s.In("layer"), x)
				weights := nn.Consts(s, nntest.Draw(9, nn.Size(s, y)), append([]int{1}, nn.Shape(s, y)[1:]...)...)
				z := nn.SumAll(s, nn.Mul(s, weights, nn.Square(s, y)))
				return nn.Gradients(s, z, []tf.Output{x})[0]
			}, nntest.Options{Samples: 5})
		})
	}
	for name := range twice {
		t.Errorf("there is no layer %q", name)
	}
}
