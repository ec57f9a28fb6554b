package backbone

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// vgg16Blocks are the widths and numbers of convolutions before each pooling.
var vgg16Blocks = []struct{ width, convs int }{{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}

// vgg16Taps are relu1_1, relu1_2, pool1, relu2_1 … pool5, and pooled.
func vgg16Taps() []string {
	var taps []string
	for i, b := range vgg16Blocks {
		for j := range b.convs {
			taps = append(taps, fmt.Sprintf("relu%d_%d", i+1, j+1))
		}
		taps = append(taps, fmt.Sprintf("pool%d", i+1))
	}
	return append(taps, "pooled")
}

// vgg16 is torchvision's VGG-16 without its classifier: Simonyan & Zisserman,
// "Very Deep Convolutional Networks", ICLR 2015, configuration D. pooled is the
// spatial mean of pool5.
func vgg16(n *network, s *nn.Scope, x tf.Output) {
	in, index := 3, 0
	for i, b := range vgg16Blocks {
		for j := range b.convs {
			s := s.In("features").At(index)
			x = relu(s, n.conv(s, x, layer{conv: fmt.Sprintf("features.%d", index), in: in, out: b.width, kernel: 3, stride: 1, bias: true}))
			if n.tap(fmt.Sprintf("relu%d_%d", i+1, j+1), x) {
				return
			}
			in, index = b.width, index+2
		}
		x = op.MaxPool(s.Op("max_pool"), x, []int64{1, 2, 2, 1}, []int64{1, 2, 2, 1}, "VALID")
		index++
		if n.tap(fmt.Sprintf("pool%d", i+1), x) {
			return
		}
	}
	n.tap("pooled", globalMean(s, x))
}
