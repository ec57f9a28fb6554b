package backbone

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/golden"
	"thorax/graphs/nn"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

func image(s *nn.Scope, dims ...int64) tf.Output {
	return op.Placeholder(s.Op("image"), tf.Float, op.PlaceholderShape(tf.MakeShape(dims...)))
}

// run evaluates the taps on one image batch.
func run(t *testing.T, s *nn.Scope, x tf.Output, shape []int, v []float32, taps map[string]tf.Output) map[string][]float32 {
	t.Helper()
	on, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	if err := on.Init(); err != nil {
		t.Fatal(err)
	}
	var names []string
	var fetches []tf.Output
	for name, y := range taps {
		names, fetches = append(names, name), append(fetches, y)
	}
	out, err := on.Run(map[tf.Output]*tf.Tensor{x: session.Floats(shape, v)}, fetches)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]float32{}
	for i, name := range names {
		values[name] = session.Values(out[i])
	}
	return values
}

// needLite0 skips the test where the weights were not fetched.
func needLite0(t *testing.T) Backbone {
	t.Helper()
	b := New(Lite0)
	if err := b.Check(); err != nil {
		golden.Missing(t, err.Error())
	}
	return b
}

// The golden file was computed in float64; see its names.md for the tolerance
// and for what the usual mistakes give.
func TestGoldenEfficientNetLite0(t *testing.T) {
	b := needLite0(t)
	k := golden.Open(t, "efficientnet_lite0/io.safetensors")
	taps := []string{"reduction_1", "reduction_2", "reduction_3", "reduction_4", "reduction_5", "pooled", "logits"}
	for _, name := range []string{"square", "rect"} {
		k.Case(name)
		in := k.Get(name + "/input")
		v, err := in.Float32()
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"frozen", "tuned"} {
			s := nn.NewScope(0).Inference()
			x := image(s, -1, int64(in.Shape[1]), int64(in.Shape[2]), 3)
			features := b.Features
			if mode == "tuned" {
				features = b.Tuned
			}
			got := run(t, s, x, in.Shape, v, features(s.In("backbone"), x, taps...))
			for _, tap := range taps {
				k.Compare(name+"/"+tap, got[tap], 1e-4)
			}
		}
	}
}

// Folding batch norm into convolutions changes rounding only.
func TestFoldedEqualsPlain(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		b    Backbone
		taps []string
	}{
		{Backbone{Name: Lite0, Weights: made(t, dir, Lite0)}, []string{"stem", "reduction_2", "reduction_5", "pooled", "logits"}},
		{Backbone{Name: "resnet18", Weights: made(t, dir, "resnet18")}, []string{"layer1", "layer2", "layer3", "layer4", "pooled", "logits"}},
	} {
		t.Run(tt.b.Name, func(t *testing.T) {
			if err := tt.b.Check(); err != nil {
				t.Fatal(err)
			}
			s := nn.NewScope(0).Inference()
			x := image(s, -1, 64, 64, 1)
			both := map[string]tf.Output{}
			for tap, y := range tt.b.Features(s.In("frozen"), x, tt.taps...) {
				both["frozen/"+tap] = y
			}
			for tap, y := range tt.b.Tuned(s.In("tuned"), x, tt.taps...) {
				both["tuned/"+tap] = y
			}
			r := rand.New(rand.NewPCG(1, 2))
			v := make([]float32, 2*64*64)
			for i := range v {
				v[i] = r.Float32()
			}
			got := run(t, s, x, []int{2, 64, 64, 1}, v, both)
			for _, tap := range tt.taps {
				a, b := got["frozen/"+tap], got["tuned/"+tap]
				var scale, largest float64
				for i := range a {
					scale = max(scale, math.Abs(float64(b[i])))
					largest = max(largest, math.Abs(float64(a[i]-b[i])))
				}
				if !(largest <= 1e-5*scale) || scale == 0 {
					t.Errorf("%s: folded and plain differ by %.3g of %.3g", tap, largest, scale)
				}
			}
		})
	}
}

// made writes a file of random weights with batch norm far from the identity,
// with PyTorch's keys and layouts.
func made(t *testing.T, dir, name string) string {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	arrays := map[string]weights.Array{}
	add := func(key string, draw func() float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(draw())
		}
		arrays[key] = weights.Float32Array(shape, v)
	}
	unit := func(conv, norm string, shape ...int) {
		fan := shape[1] * shape[2] * shape[3]
		add(conv+".weight", func() float64 { return r.NormFloat64() * math.Sqrt(2/float64(fan)) }, shape...)
		add(norm+".weight", func() float64 { return 0.5 + r.Float64() }, shape[0])
		add(norm+".bias", func() float64 { return 0.3 * r.NormFloat64() }, shape[0])
		add(norm+".running_mean", func() float64 { return 0.3 * r.NormFloat64() }, shape[0])
		add(norm+".running_var", func() float64 { return 0.5 + r.Float64() }, shape[0])
	}
	fc := func(key string, in int) {
		add(key+".weight", func() float64 { return 0.03 * r.NormFloat64() }, 1000, in)
		add(key+".bias", func() float64 { return r.NormFloat64() }, 1000)
	}
	switch name {
	case Lite0:
		unit("_conv_stem", "_bn0", 32, 3, 3, 3)
		for i, b := range lite0Blocks {
			key, width := fmt.Sprintf("_blocks.%d.", i), b.in*b.expand
			if b.expand > 1 {
				unit(key+"_expand_conv", key+"_bn0", width, b.in, 1, 1)
			}
			unit(key+"_depthwise_conv", key+"_bn1", width, 1, b.kernel, b.kernel)
			unit(key+"_project_conv", key+"_bn2", b.out, width, 1, 1)
		}
		unit("_conv_head", "_bn1", 1280, 320, 1, 1)
		fc("_fc", 1280)
	case "resnet18":
		unit("conv1", "bn1", 64, 3, 7, 7)
		in := 64
		for l, out := range []int{64, 128, 256, 512} {
			for j := range 2 {
				key := fmt.Sprintf("layer%d.%d.", l+1, j)
				unit(key+"conv1", key+"bn1", out, in, 3, 3)
				unit(key+"conv2", key+"bn2", out, out, 3, 3)
				if in != out {
					unit(key+"downsample.0", key+"downsample.1", out, in, 1, 1)
				}
				in = out
			}
		}
		fc("fc", 512)
	}
	path := filepath.Join(dir, name+".safetensors")
	if err := weights.SaveSafetensors(path, arrays, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// Counts and sizes are those of torchvision and of tensorflow/tpu.
func TestParameters(t *testing.T) {
	for _, tt := range []struct {
		name, tap string
		want      int64
		shape     [4]int64 // of the tap at 128×128; 0 ends it
	}{
		{Lite0, "reduction_2", 928 + 896 + 5136 + 8832, [4]int64{1, 32, 32, 24}},
		{Lite0, "reduction_3", 928 + 896 + 5136 + 8832 + 13472 + 26240, [4]int64{1, 16, 16, 40}},
		{Lite0, "reduction_5", 2958848, [4]int64{1, 4, 4, 320}},
		{Lite0, "pooled", 3371008, [4]int64{1, 1280}},
		{Lite0, "logits", 4652008, [4]int64{1, 1000}},
		{"resnet18", "layer3", 2782784, [4]int64{1, 8, 8, 256}},
		{"resnet18", "pooled", 11176512, [4]int64{1, 512}},
		{"resnet18", "logits", 11689512, [4]int64{1, 1000}},
		{"wide_resnet50_2", "layer3", 24862528, [4]int64{1, 8, 8, 1024}},
		{"wide_resnet50_2", "logits", 68883240, [4]int64{1, 1000}},
		{"resnet152", "layer2", 9408 + 128 + 215808 + 2339840, [4]int64{1, 16, 16, 512}},
		{"resnet152", "logits", 60192808, [4]int64{1, 1000}},
		{"vgg16", "pool5", 14714688, [4]int64{1, 4, 4, 512}},
	} {
		s := nn.NewScope(0)
		x := image(s, 1, 128, 128, 1)
		b := Backbone{Name: tt.name, Random: true}
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		y := b.Tuned(s.In("backbone"), x, tt.tap)[tt.tap]
		z := b.Features(s.In("frozen"), x, tt.tap)[tt.tap]
		if err := s.Err(); err != nil {
			t.Fatalf("%s to %s: %v", tt.name, tt.tap, err)
		}
		var got int64
		for _, v := range s.Trainable() {
			got += v.Size()
		}
		if got != tt.want {
			t.Errorf("%s to %s has %d parameters, want %d", tt.name, tt.tap, got, tt.want)
		}
		for _, y := range []tf.Output{y, z} {
			for i, d := range tt.shape {
				if d > 0 && y.Shape().Size(i) != d {
					t.Errorf("%s %s: shape %v, want %v", tt.name, tt.tap, y.Shape(), tt.shape)
				}
			}
		}
		for _, v := range s.In("frozen").Variables() {
			if v.Trained {
				t.Errorf("%s: %s is trained, the backbone is frozen", tt.name, v.Path)
			}
		}
	}
}

// The kernel marks one corner, so that a shifted sampling grid shows:
// torchvision pads 3 on both sides of a 7×7 with stride 2.
func TestSymmetricPadding(t *testing.T) {
	s := nn.NewScope(0)
	x := image(s, 1, 8, 8, 1)
	n := &network{descriptor: torchvision(nil, nil), frozen: true}
	kernel := make([]float32, 49)
	kernel[0] = 1 // top left: reads x[2r-3, 2c-3]
	y := n.convolve(s, x, op.Const(s.Op("kernel"), reshape7(kernel)), layer{kernel: 7, stride: 2})
	v := make([]float32, 64)
	for i := range v {
		v[i] = float32(i + 1)
	}
	got := run(t, s, x, []int{1, 8, 8, 1}, v, map[string]tf.Output{"y": y})["y"]
	for r := range 4 {
		for c := range 4 {
			var want float32
			if r >= 2 && c >= 2 {
				want = v[(2*r-3)*8+2*c-3]
			}
			if got[r*4+c] != want {
				t.Errorf("y[%d,%d] = %g, want %g", r, c, got[r*4+c], want)
			}
		}
	}
}

func reshape7(v []float32) [][][][]float32 {
	out := make([][][][]float32, 7)
	for i := range out {
		out[i] = make([][][]float32, 7)
		for j := range out[i] {
			out[i][j] = [][]float32{{v[i*7+j]}}
		}
	}
	return out
}

func TestResNet18Trunk(t *testing.T) {
	for _, tt := range []struct {
		scale    float64
		channels int64
		width    int64
		want     int64
	}{
		{1, 3, 512, 11176512},
		{0, 1, 512, 11176512 - 2*64*49},
		{0.25, 1, 128, 0},
	} {
		s := nn.NewScope(7)
		x := image(s, 2, 64, 64, tt.channels)
		layer4, pooled := ResNet18Trunk(s.In("trunk"), x, ResNetOptions{WidthScale: tt.scale})
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		if layer4.Shape().String() != tf.MakeShape(2, 2, 2, tt.width).String() || pooled.Shape().Size(1) != tt.width {
			t.Errorf("scale %g: layer4 %v, pooled %v", tt.scale, layer4.Shape(), pooled.Shape())
		}
		var got int64
		for _, v := range s.Trainable() {
			got += v.Size()
		}
		if tt.want > 0 && got != tt.want {
			t.Errorf("scale %g on %d channels: %d parameters, want %d", tt.scale, tt.channels, got, tt.want)
		}
		// Every trained variable is on the way from the image to the features.
		loss := op.Sum(s.Op("sum"), pooled, op.Const(s.Op("axes"), []int32{0, 1}))
		if nn.VariableGradients(s, loss, s.Trainable()); s.Err() != nil {
			t.Error(s.Err())
		}
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	resnet := made(t, dir, "resnet18")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"unknown", Backbone{Name: "resnet50"}.Check(), `no backbone "resnet50"; use one of`},
		{"no file", Backbone{Name: "resnet18"}.Check(), "none are shipped for resnet18"},
		{"missing file", Backbone{Name: "resnet18", Weights: filepath.Join(dir, "none.pth")}.Check(), "backbone.weights: stat"},
		{"both", Backbone{Name: "resnet18", Weights: resnet, Random: true}.Check(), "backbone.random"},
		{"tap", New(Lite0).CheckTaps([]string{"layer2"}), `no "layer2"; it has stem`},
		{"tap twice", New(Lite0).CheckTaps([]string{"stem", "stem"}), "twice"},
		{"wrong network", initError(Backbone{Name: "wide_resnet50_2", Weights: resnet}, "layer2"), "has shape"},
		{"wrong library", initError(Backbone{Name: Lite0, Weights: resnet}, "stem"), `no "_conv_stem.weight"`},
		{"damaged", verify(resnet, lite0Sum), "delete the file and run make setup"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, tt.err, tt.want)
		}
	}
	if n := (Backbone{Name: "resnet18", Random: true}).Notes(); len(n) != 1 || !strings.Contains(n[0], "random weights") {
		t.Errorf("notes of random weights: %q", n)
	}
	if n := New(Lite0).Notes(); len(n) != 0 {
		t.Errorf("notes of the fetched weights: %q", n)
	}
}

func initError(b Backbone, tap string) error {
	s := nn.NewScope(0)
	b.Features(s, image(s, 1, 32, 32, 1), tap)
	x, err := session.New(s, session.Options{})
	if err != nil {
		return err
	}
	defer x.Close()
	return x.Init()
}
