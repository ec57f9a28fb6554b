// Package salient holds the networks of the CT method: the encoder and decoders
// of its VQ-VAE, the saliency of positions, the replacement of salient ones by
// neighbouring codes, the classifier that finds them, and its reliability
// weights.
package salient

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/weights"
)

// Channels is the length of the vectors that [Encode] makes and [Decode] takes.
const Channels = 512

// stageWidths are the channels of the encoder's residual stages.
var stageWidths = []int{64, 128, 256}

// Encode maps images x [B,S,S,1] in [0,1], S a multiple of 8, to z
// [B,S/8,S/8,512]: a ResNet-18 (He et al., CVPR 2016) without its max-pool and
// fourth stage, then a 1×1 convolution. Convolutions start Kaiming normal,
// fan-out. Batch norm follows the mode of s.
func Encode(s *nn.Scope, x tf.Output) tf.Output { return encoder{}.build(s, x) }

// EncodePretrained is [Encode] with every tensor that fits started from a .pth
// or .safetensors file of an ImageNet ResNet-18 with torchvision's keys: all
// but the first convolution, which has another number of channels, and the
// last, which it does not have. "" is [Encode]. The file is read once, when
// variables start.
func EncodePretrained(s *nn.Scope, x tf.Output, file string) tf.Output {
	if file == "" {
		return Encode(s, x)
	}
	return encoder{file: file, load: sync.OnceValues(func() (map[string]weights.Array, error) { return weights.Load(file) })}.build(s, x)
}

// CheckPretrained reports a file that is not there; "" is none.
func CheckPretrained(file string) error {
	if file == "" {
		return nil
	}
	_, err := os.Stat(file)
	return err
}

// An encoder builds the network; load is nil without pretrained weights.
type encoder struct {
	file string
	load func() (map[string]weights.Array, error)
}

func (e encoder) build(s *nn.Scope, x tf.Output) tf.Output {
	if h, w := nn.Height(s, x), nn.Width(s, x); s.Err() == nil && (h%8 != 0 || w%8 != 0) {
		s.Fail("images of %d×%d, need sides that are multiples of 8: set size in the data block", h, w)
	}
	x = nn.ReLU(s, e.conv(s.In("conv1"), x, "conv1", "bn1", nn.Conv{Out: stageWidths[0], Kernel: 7, Stride: 2, Pad: nn.Symmetric(3)}))
	for i, width := range stageWidths {
		for j := range 2 {
			stride := 1
			if i > 0 && j == 0 {
				stride = 2
			}
			x = e.block(s.In(fmt.Sprint("layer", i+1)).At(j), fmt.Sprintf("layer%d.%d.", i+1, j), x, width, stride)
		}
	}
	return nn.Conv2D(s.In("proj"), x, nn.Conv{Out: Channels, Kernel: 1, Init: nn.KaimingNormalFanOut()})
}

// block is two 3×3 convolutions and a shortcut: the identity, or a 1×1
// convolution where the shape changes.
func (e encoder) block(s *nn.Scope, key string, x tf.Output, out, stride int) tf.Output {
	three := func(name, norm string, x tf.Output, stride int) tf.Output {
		return e.conv(s.In(name), x, key+name, key+norm, nn.Conv{Out: out, Kernel: 3, Stride: stride, Pad: nn.Symmetric(1)})
	}
	y := nn.ReLU(s, three("conv1", "bn1", x, stride))
	y = three("conv2", "bn2", y, 1)
	if stride > 1 {
		x = e.conv(s.In("downsample"), x, key+"downsample.0", key+"downsample.1", nn.Conv{Out: out, Kernel: 1, Stride: stride, Pad: nn.Valid})
	}
	return nn.ReLU(s, nn.Add(s, y, x))
}

// conv is a convolution without bias and its batch norm; key and norm are their
// names in a file of weights.
func (e encoder) conv(s *nn.Scope, x tf.Output, key, norm string, c nn.Conv) tf.Output {
	c.NoBias = true
	c.Init = e.first(key+".weight", nn.KaimingNormalFanOut(), 3, 2, 0, 1)
	y := nn.Conv2D(s, x, c)
	// Declared here for their first values; the layer finds them by path.
	first := s.In("norm")
	first.Variable("gamma", e.first(norm+".weight", nn.Ones()), c.Out)
	first.Variable("beta", e.first(norm+".bias", nn.Zeros()), c.Out)
	first.Buffer("mean", e.first(norm+".running_mean", nn.Zeros()), c.Out)
	first.Buffer("variance", e.first(norm+".running_var", nn.Ones()), c.Out)
	return nn.BatchNorm(s.In("norm"), y, nn.BN{})
}

// first starts a variable at the tensor called key. Dimension i of the stored
// tensor is dimension stored[i] of the variable; none: the same.
func (e encoder) first(key string, random nn.Initializer, stored ...int) nn.Initializer {
	if e.load == nil {
		return random
	}
	return func(shape []int, rng *rand.Rand) ([]float32, error) {
		arrays, err := e.load()
		if err != nil {
			return nil, err
		}
		want, back := slices.Clone(shape), []int{}
		for i, d := range stored {
			want[i] = shape[d]
			back = append(back, slices.Index(stored, i))
		}
		a, ok := arrays[key]
		if key == "conv1.weight" && (!ok || !slices.Equal(a.Shape, want)) {
			return random(shape, rng)
		}
		if !ok {
			return nil, fmt.Errorf("%s: no %q; need a ResNet-18 with torchvision's keys", e.file, key)
		}
		if !slices.Equal(a.Shape, want) {
			return nil, fmt.Errorf("%s: %q has shape %v, need %v: a ResNet-18's", e.file, key, a.Shape, want)
		}
		if len(back) > 0 {
			if a, err = a.Transpose(back...); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", e.file, key, err)
			}
		}
		v, err := a.Float32()
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", e.file, key, err)
		}
		return v, nil
	}
}
