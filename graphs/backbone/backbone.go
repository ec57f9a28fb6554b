// Package backbone builds image classification networks with named taps, from
// weights in PyTorch's layout: frozen as feature extractors, or to be tuned.
//
// A backbone takes grey [B,H,W,1] or colour [B,H,W,3] images in [0,1], repeats
// grey to three channels and normalises inside, as its weights need it.
package backbone

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// A Backbone names a network and its weights. Its fields are TOML keys.
type Backbone struct {
	Name    string `toml:"name"`    // efficientnet_lite0, resnet18, wide_resnet50_2, resnet152 or vgg16
	Weights string `toml:"weights"` // .pth or .safetensors file; "" is the file that make setup fetches (efficientnet_lite0 only)
	Random  bool   `toml:"random"`  // random weights, for an ablation; the results say so
}

// New returns the backbone of the given name with its own weights.
func New(name string) Backbone { return Backbone{Name: name} }

// Lite0 is the name of the backbone whose weights are fetched by make setup.
const Lite0 = "efficientnet_lite0"

// A descriptor is what sets one network apart.
type descriptor struct {
	mean, std [3]float64
	epsilon   float64 // of batch norm
	momentum  float64 // of batch norm when tuned, PyTorch's convention
	same      bool    // TensorFlow's SAME padding; else (k-1)/2 on both sides
	taps      []string
	build     func(n *network, s *nn.Scope, x tf.Output)
}

var (
	imageNetMean = [3]float64{0.485, 0.456, 0.406}
	imageNetStd  = [3]float64{0.229, 0.224, 0.225}
)

func torchvision(taps []string, build func(n *network, s *nn.Scope, x tf.Output)) descriptor {
	return descriptor{mean: imageNetMean, std: imageNetStd, epsilon: 1e-5, momentum: 0.1, taps: taps, build: build}
}

func describe(name string) (descriptor, error) {
	switch name {
	case Lite0:
		const mean, std = 127. / 255, 128. / 255
		return descriptor{
			mean: [3]float64{mean, mean, mean}, std: [3]float64{std, std, std},
			epsilon: 1e-3, momentum: 0.01, same: true,
			taps:  []string{"stem", "reduction_1", "reduction_2", "reduction_3", "reduction_4", "reduction_5", "pooled", "logits"},
			build: efficientNetLite0,
		}, nil
	case "resnet18", "wide_resnet50_2", "resnet152":
		spec := resNets[name]
		return torchvision(resNetTaps, spec.build), nil
	case "vgg16":
		return torchvision(vgg16Taps(), vgg16), nil
	}
	return descriptor{}, fmt.Errorf("name: no backbone %q; use one of %s", name, strings.Join(Names(), ", "))
}

// Names returns the names of all backbones.
func Names() []string {
	return []string{Lite0, "resnet18", "wide_resnet50_2", "resnet152", "vgg16"}
}

// Check names the first field that cannot be used, and the remedy. It looks for
// the file of weights but does not read it.
func (b Backbone) Check() error {
	if _, err := describe(b.Name); err != nil {
		return fmt.Errorf("backbone.%w", err)
	}
	if b.Random {
		if b.Weights != "" {
			return errors.New("backbone.random: true, but backbone.weights names a file; leave one of them out")
		}
		return nil
	}
	path, err := b.path()
	if err != nil {
		return fmt.Errorf("backbone.weights: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("backbone.weights: %w", err)
	}
	return nil
}

// CheckTaps reports a tap that the backbone does not have.
func (b Backbone) CheckTaps(taps []string) error {
	d, err := describe(b.Name)
	if err != nil {
		return fmt.Errorf("backbone.%w", err)
	}
	if len(taps) == 0 {
		return fmt.Errorf("none; %s has %s", b.Name, strings.Join(d.taps, ", "))
	}
	for i, tap := range taps {
		if !slices.Contains(d.taps, tap) {
			return fmt.Errorf("%s has no %q; it has %s", b.Name, tap, strings.Join(d.taps, ", "))
		}
		if slices.Contains(taps[:i], tap) {
			return fmt.Errorf("%q is named twice", tap)
		}
	}
	return nil
}

// Notes says what a reader of the results must know about the weights.
func (b Backbone) Notes() []string {
	switch {
	case b.Random:
		return []string{fmt.Sprintf("backbone %s has random weights, as asked for", b.Name)}
	case b.Weights != "":
		return []string{fmt.Sprintf("backbone %s has the weights of %s, %s", b.Name, b.Weights, fingerprint(b.Weights))}
	}
	return nil
}

// Features returns the named taps of x, [B,H,W,C] each but for "pooled" and
// "logits", [B,C]. The network is frozen: its variables are buffers below s,
// and batch norm is folded into the convolution before it. It is built no
// further than the last tap.
func (b Backbone) Features(s *nn.Scope, x tf.Output, taps ...string) map[string]tf.Output {
	return b.features(s, x, true, taps)
}

// Tuned is [Backbone.Features] with trained variables: batch norm follows the
// mode of s. Its variables are not those of Features.
func (b Backbone) Tuned(s *nn.Scope, x tf.Output, taps ...string) map[string]tf.Output {
	return b.features(s, x, false, taps)
}

func (b Backbone) features(s *nn.Scope, x tf.Output, frozen bool, taps []string) map[string]tf.Output {
	d, err := describe(b.Name)
	if err == nil {
		err = b.CheckTaps(taps)
	}
	if err != nil {
		s.Fail("%v", err)
	}
	out := make(map[string]tf.Output, len(taps))
	if s.Err() != nil {
		for _, tap := range taps {
			out[tap] = tf.Output{}
		}
		return out
	}
	n := &network{descriptor: d, frozen: frozen, open: len(taps), want: taps, got: out}
	if !b.Random {
		n.file = b.open()
	}
	d.build(n, s, normalise(s.In("input"), x, d.mean, d.std))
	return out
}

// normalise repeats grey to three channels and returns (x-mean)/std.
func normalise(s *nn.Scope, x tf.Output, mean, std [3]float64) tf.Output {
	if s.Err() != nil {
		return x
	}
	shape := x.Shape()
	if shape.NumDimensions() != 4 || shape.Size(3) != 1 && shape.Size(3) != 3 {
		s.Fail("a backbone takes [B,H,W,1] or [B,H,W,3], not %v", shape)
		return x
	}
	scale, shift := make([]float32, 3), make([]float32, 3)
	for c := range 3 {
		scale[c], shift[c] = float32(1/std[c]), float32(-mean[c]/std[c])
	}
	// Broadcasting a grey image over three scales repeats it.
	y := op.Mul(s.Op("scale"), x, op.Const(s.Op("inverse_std"), scale))
	return op.AddV2(s.Op("shift"), y, op.Const(s.Op("shift_by"), shift))
}
