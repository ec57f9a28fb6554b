package backbone

import (
	"fmt"
	"math"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// A resNet is one of torchvision's ResNets: He et al., "Deep Residual Learning
// for Image Recognition", CVPR 2016, with the stride on the 3×3 convolution of
// a bottleneck; wide: Zagoruyko & Komodakis, BMVC 2016.
type resNet struct {
	blocks     [4]int
	bottleneck bool
	inner      int     // width of a bottleneck's middle, in units of the layer's planes
	scale      float64 // of all widths; 0 is 1
}

var resNets = map[string]resNet{
	"resnet18":        {blocks: [4]int{2, 2, 2, 2}},
	"wide_resnet50_2": {blocks: [4]int{3, 4, 6, 3}, bottleneck: true, inner: 2},
	"resnet152":       {blocks: [4]int{3, 8, 36, 3}, bottleneck: true, inner: 1},
}

var resNetTaps = []string{"layer1", "layer2", "layer3", "layer4", "pooled", "logits"}

// ResNetOptions shape a ResNet-18 that is trained from scratch.
type ResNetOptions struct {
	WidthScale float64 // of all widths, 0.25 has 16 to 128 channels; 0 is 1
}

// ResNet18Trunk is a ResNet-18 without its classifier, trained from scratch:
// convolutions Kaiming normal, fan-out; batch norm 1 and 0. x is [B,H,W,C] of
// any number of channels, as the caller normalised it, H and W multiples of 32.
// It returns layer4 [B,H/32,W/32,D] and its mean over space [B,D], D = 512 ×
// WidthScale.
func ResNet18Trunk(s *nn.Scope, x tf.Output, o ResNetOptions) (layer4, pooled tf.Output) {
	got := map[string]tf.Output{}
	if s.Err() != nil {
		return
	}
	if o.WidthScale < 0 || o.WidthScale > 4 {
		s.Fail("width scale %g, need 0 to 4", o.WidthScale)
		return
	}
	spec := resNets["resnet18"]
	spec.scale = o.WidthScale
	d := torchvision(resNetTaps, nil)
	spec.build(&network{descriptor: d, want: []string{"layer4", "pooled"}, got: got, open: 2}, s, x)
	return got["layer4"], got["pooled"]
}

func (r resNet) width(planes int) int {
	if r.scale == 0 {
		return planes
	}
	return max(1, int(math.Round(r.scale*float64(planes))))
}

func (r resNet) build(n *network, s *nn.Scope, x tf.Output) {
	if s.Err() != nil {
		return
	}
	colours := int(x.Shape().Size(3))
	if colours < 1 {
		s.Fail("the number of channels must be known when the graph is built")
		return
	}
	in, stem := r.width(64), s.In("conv1")
	x = relu(stem, n.conv(stem, x, layer{conv: "conv1", norm: "bn1", in: colours, out: in, kernel: 7, stride: 2}))
	// After a ReLU, zeros outside are as good as PyTorch's -∞.
	x = op.MaxPool(stem.Op("max_pool"), pad(stem, x, 1), []int64{1, 3, 3, 1}, []int64{1, 2, 2, 1}, "VALID")
	for l, blocks := range r.blocks {
		name, stride := fmt.Sprintf("layer%d", l+1), 1
		if l > 0 {
			stride = 2
		}
		for j := range blocks {
			s, key := s.In(name).At(j), fmt.Sprintf("%s.%d.", name, j)
			if j > 0 {
				stride = 1
			}
			if r.bottleneck {
				x, in = r.wide(n, s, key, x, in, 64<<l, stride)
			} else {
				x, in = r.basic(n, s, key, x, in, r.width(64<<l), stride)
			}
		}
		if n.tap(name, x) {
			return
		}
	}
	x = globalMean(s, x)
	if n.tap("pooled", x) {
		return
	}
	n.tap("logits", n.dense(s.In("fc"), x, "fc", in, 1000))
}

// basic is two 3×3 convolutions and a shortcut.
func (r resNet) basic(n *network, s *nn.Scope, key string, x tf.Output, in, out, stride int) (tf.Output, int) {
	conv1, conv2 := s.In("conv1"), s.In("conv2")
	y := relu(conv1, n.conv(conv1, x, layer{conv: key + "conv1", norm: key + "bn1", in: in, out: out, kernel: 3, stride: stride}))
	y = n.conv(conv2, y, layer{conv: key + "conv2", norm: key + "bn2", in: out, out: out, kernel: 3, stride: 1})
	return r.join(n, s, key, x, y, in, out, stride), out
}

// wide is the bottleneck: 1×1, 3×3 with the stride, 1×1 to four times planes.
func (r resNet) wide(n *network, s *nn.Scope, key string, x tf.Output, in, planes, stride int) (tf.Output, int) {
	inner, out := r.width(planes*r.inner), r.width(4*planes)
	conv1, conv2, conv3 := s.In("conv1"), s.In("conv2"), s.In("conv3")
	y := relu(conv1, n.conv(conv1, x, layer{conv: key + "conv1", norm: key + "bn1", in: in, out: inner, kernel: 1, stride: 1}))
	y = relu(conv2, n.conv(conv2, y, layer{conv: key + "conv2", norm: key + "bn2", in: inner, out: inner, kernel: 3, stride: stride}))
	y = n.conv(conv3, y, layer{conv: key + "conv3", norm: key + "bn3", in: inner, out: out, kernel: 1, stride: 1})
	return r.join(n, s, key, x, y, in, out, stride), out
}

// join adds the shortcut, the identity or a 1×1 convolution.
func (r resNet) join(n *network, s *nn.Scope, key string, x, y tf.Output, in, out, stride int) tf.Output {
	if in != out || stride > 1 {
		x = n.conv(s.In("downsample"), x, layer{conv: key + "downsample.0", norm: key + "downsample.1", in: in, out: out, kernel: 1, stride: stride})
	}
	return relu(s, op.AddV2(s.Op("add"), y, x))
}
