package salient

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/golden"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/quantise"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

// A network is the first stage with the golden weights.
type network struct {
	s       *nn.Scope
	x       tf.Output
	session *session.Session
	entries []Entry // with keys as in the golden files
}

// goldenNetwork returns a scope for images as the golden ones, and load, which
// starts its variables once the graph is built.
func goldenNetwork(t *testing.T, image weights.Array) (n *network, load func(arrays map[string]weights.Array)) {
	t.Helper()
	s := nn.NewScope(1)
	b, side := int64(image.Shape[0]), int64(image.Shape[2])
	n = &network{s: s, x: op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(b, side, side, 1)))}
	return n, func(arrays map[string]weights.Array) {
		t.Helper()
		x, err := session.New(s, session.Options{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		n.session = x
		loader, loaded := x.Loader(), map[string]bool{}
		for _, e := range n.entries {
			v := s.Lookup(e.Path)
			if v == nil {
				continue // of training only
			}
			value, err := e.Import(stored(t, arrays, e.Key))
			if err == nil {
				err = loader.Set(v, session.Floats(v.Shape, value))
			}
			if err != nil {
				t.Fatalf("%s: %v", e.Key, err)
			}
			loaded[e.Path] = true
		}
		if err := loader.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, v := range s.Variables() {
			if !loaded[v.Path] && v != s.GlobalStepVariable() {
				t.Errorf("no official tensor is for %s", v)
			}
		}
		if err := x.InitVariables([]*nn.Variable{s.GlobalStepVariable()}); err != nil {
			t.Fatal(err)
		}
	}
}

// stored returns a tensor of the weights file, which leaves out 4-D tensors of
// decoder_vit: they are those of decoder_ori, read backwards.
func stored(t *testing.T, arrays map[string]weights.Array, key string) weights.Array {
	t.Helper()
	if a, ok := arrays[key]; ok {
		return a
	}
	a, ok := arrays[strings.Replace(key, "decoder_vit", "decoder_ori", 1)]
	if !ok {
		t.Fatalf("no weight %s", key)
	}
	v, err := a.Float32()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(v)
	return weights.Float32Array(a.Shape, v)
}

func floats(t *testing.T, a weights.Array) []float32 {
	t.Helper()
	v, err := a.Float32()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The official networks and quantiser: a forward and backward pass of stage 1
// in training mode, and one in evaluation mode.
func TestGoldenSalientNetworks(t *testing.T) {
	dir := golden.Dir(t, "salient_ct")
	arrays := golden.Load(t, filepath.Join(dir, "weights.safetensors"))
	image := golden.Load(t, filepath.Join(dir, "inputs.safetensors"))["x"]
	rows := arrays["embedding.codebooks.0.weight"].Shape[0]
	q := quantise.RQVAE()
	q.Codes, q.Restart = rows-1, false // as the golden steps were made
	encoder, codebook := EncoderEntries("encoder.", "encoder"), CodebookEntries("embedding.", "quantiser", q)
	entries := slices.Concat(encoder, codebook,
		DecoderEntries("decoder.decoder_ori.", "decoder_ori"), DecoderEntries("decoder.decoder_vit.", "decoder_vit"))

	last := func(s *nn.Scope, x tf.Output) tf.Output { return nn.Transpose(s, x, 0, 3, 1, 2) }
	// run fetches tensors and compares them with the golden ones of their names.
	run := func(t *testing.T, k *golden.Tracker, n *network, limits map[string]float64, fetch map[string]tf.Output) {
		t.Helper()
		names, outputs := []string{"codes"}, []tf.Output{fetch["codes"]}
		for name, y := range fetch {
			if name != "codes" {
				names, outputs = append(names, name), append(outputs, y)
			}
		}
		out, err := n.session.Run(map[tf.Output]*tf.Tensor{n.x: session.Floats(nn.Shape(n.s, n.x), floats(t, image))}, outputs)
		if err != nil {
			t.Fatal(err)
		}
		want, err := k.Get("codes").Int64()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(session.IntValues(out[0]), want) {
			t.Error("codes differ from the official ones")
		}
		for i, name := range names[1:] {
			got := session.Values(out[i+1])
			kind, key, keyed := strings.Cut(name, "/")
			switch {
			case kind == "grad":
				e := n.entries[slices.IndexFunc(n.entries, func(e Entry) bool { return e.Key == key })]
				if got, err = e.Export(got); err != nil {
					t.Fatal(err)
				}
				if slices.Contains(k.Names(name), name) {
					compareL2(t, k, name, got, 1e-2)
				} else {
					compareL2(t, k, "grad_first64/"+key, got[:64], 1e-2)
					k.Compare("grad_l2/"+key, []float32{norm(got)}, 1e-2)
				}
			case keyed:
				k.Compare(name, got, 1e-5)
			default:
				k.Compare(name, got, limits[name])
			}
		}
	}

	t.Run("training", func(t *testing.T) {
		file := golden.Load(t, filepath.Join(dir, "stage1.safetensors"))
		for name := range file { // an optimiser's step, and taps within the encoder
			if strings.HasPrefix(name, "delta") || strings.HasPrefix(name, "tap") {
				delete(file, name)
			}
		}
		k := golden.Track(t, file)
		k.Case("stage 1")
		n, load := goldenNetwork(t, image)
		n.entries = entries
		s := n.s
		z := Encode(s.In("encoder"), n.x)
		quantised := q.Build(s.In("quantiser"), z)
		rec := Decode(s.In("decoder_ori"), quantised.Q)
		mse := loss.MeanSquared(s, n.x, rec)
		total := nn.Add(s, mse, quantised.Loss)
		fetch := map[string]tf.Output{
			"codes": quantised.Codes, "z": last(s, z), "rec": last(s, rec),
			"commitment": quantised.Commitment, "mse": mse, "loss": total,
		}
		byPath := map[string]Entry{}
		for _, e := range entries {
			byPath[e.Path] = e
		}
		vars := s.Trainable()
		for i, g := range nn.VariableGradients(s, total, vars) {
			fetch["grad/"+byPath[vars[i].Path].Key] = g
		}
		for _, w := range s.Writes() {
			after := w.New(s, s.Read(w.Variable))
			e := byPath[w.Variable.Path]
			if name, is := strings.CutPrefix(e.Key, "embedding.codebooks.0."); is {
				if name == "cluster_size_ema" {
					fetch["ema_after/"+name] = after
				} else {
					fetch["ema_after/"+name+"_first16cols"] = nn.Slice(s, after, []int{0, 0}, []int{-1, 16})
					fetch["ema_after/"+name+"_row_l2"] = nn.Sqrt(s, nn.Sum(s, nn.Square(s, after), 1))
				}
				continue
			}
			fetch["bn_after/"+e.Key] = after
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		load(arrays)
		run(t, k, n, map[string]float64{"z": 2e-5, "rec": 1e-5, "commitment": 1e-5, "mse": 1e-5, "loss": 1e-5}, fetch)
	})

	t.Run("evaluation", func(t *testing.T) {
		file := golden.Load(t, filepath.Join(dir, "test.safetensors"))
		for name := range file {
			if !slices.Contains([]string{"z", "codes", "q", "rec", "rec_v"}, name) { // the rest is of the classifier
				delete(file, name)
			}
		}
		k := golden.Track(t, file)
		k.Case("test time")
		n, load := goldenNetwork(t, image)
		n.entries = entries
		s := n.s.Inference()
		z := Encode(s.In("encoder"), n.x)
		quantised := q.Build(s.In("quantiser"), z)
		fetch := map[string]tf.Output{
			"codes": quantised.Codes, "z": last(s, z), "q": last(s, quantised.Q),
			"rec": last(s, Decode(s.In("decoder_ori"), quantised.Q)), "rec_v": last(s, Decode(s.In("decoder_vit"), quantised.Q)),
		}
		load(arrays)
		run(t, k, n, map[string]float64{"z": 2e-5, "q": 1e-5, "rec": 1e-5, "rec_v": 1e-5}, fetch)
	})
}

// compareL2 compares by the relative distance in the L2 norm.
func compareL2(t *testing.T, k *golden.Tracker, name string, got []float32, limit float64) {
	t.Helper()
	want := floats(t, k.Get(name))
	d := make([]float32, len(want))
	for i := range want {
		d[i] = got[i] - want[i]
	}
	if off := float64(norm(d)) / float64(norm(want)); !(off <= limit) {
		t.Errorf("%s is off by %.3g in the L2 norm, allowed %.3g", name, off, limit)
	}
	k.Compare(name, got, 1)
}

func norm(v []float32) float32 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return float32(math.Sqrt(sum))
}

// The counts of the specification, and for the encoder a sum over its table:
// kernels, two values a batch norm channel, and the 1×1 convolution with bias.
func TestParameters(t *testing.T) {
	s := nn.NewScope(1)
	x := op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(2, 32, 32, 1)))
	z := Encode(s.In("encoder"), x)
	y := Decode(s.In("decoder"), z)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if got := nn.Shape(s, z); !slices.Equal(got, []int{2, 4, 4, 512}) {
		t.Errorf("z has shape %v", got)
	}
	if got := nn.Shape(s, y); !slices.Equal(got, []int{2, 32, 32, 1}) {
		t.Errorf("the reconstruction has shape %v", got)
	}
	basic := func(in, out int) int { return 9*in*out + 9*out*out + 4*out }
	encoder := 49*64 + 2*64 + 2*basic(64, 64) + basic(64, 128) + 64*128 + 2*128 + basic(128, 128) +
		basic(128, 256) + 128*256 + 2*256 + basic(256, 256) + 256*512 + 512
	for name, want := range map[string]int{"encoder": encoder, "decoder": 2238721} {
		got := 0
		for _, v := range s.In(name).Trainable() {
			got += int(v.Size())
		}
		if got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
	}
}

// Images whose sides are no multiples of 8 would come back in another size.
func TestSizeMustDivide(t *testing.T) {
	s := nn.NewScope(1)
	Encode(s.In("encoder"), op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(2, 36, 36, 1))))
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "multiples of 8") {
		t.Errorf("error %v, want one that names the multiple", err)
	}
}

// A file of ImageNet weights starts all that fits: neither conv1, of three
// channels there, nor the last convolution.
func TestPretrained(t *testing.T) {
	arrays := map[string]weights.Array{"fc.weight": weights.Float32Array([]int{2, 2}, make([]float32, 4))}
	entries := EncoderEntries("", "encoder")
	for i, e := range entries {
		if strings.HasPrefix(e.Key, "conv1x1") {
			continue
		}
		shape := slices.Clone(e.Shape)
		if e.Key == "conv1.weight" {
			shape[1] = 3
		}
		n := 1
		for _, d := range shape {
			n *= d
		}
		arrays[e.Key] = weights.Float32Array(shape, nntest.Draw(uint64(i), n))
	}
	write := func(name string, arrays map[string]weights.Array) string {
		path := filepath.Join(t.TempDir(), name)
		if err := weights.SaveSafetensors(path, arrays, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	build := func(path string) *nn.Scope {
		s := nn.NewScope(1)
		EncodePretrained(s.In("encoder"), op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(1, 16, 16, 1))), path)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	path := write("resnet18.safetensors", arrays)
	if err := CheckPretrained(path); err != nil {
		t.Error(err)
	}
	s, random := build(path), build("")
	for _, e := range entries {
		got, _, err := s.Lookup(e.Path).Initial()
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := random.Lookup(e.Path).Initial()
		if a, ok := arrays[e.Key]; ok && e.Key != "conv1.weight" && err == nil {
			want, err = e.Import(a)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s does not start where it should", e.Path)
		}
	}

	delete(arrays, "layer3.1.conv2.weight")
	if _, _, err := build(write("cut.safetensors", arrays)).Lookup("encoder/layer3/1/conv2/kernel").Initial(); err == nil || !strings.Contains(err.Error(), `no "layer3.1.conv2.weight"`) {
		t.Errorf("error %v, want one that names the missing tensor", err)
	}
	arrays["layer3.1.conv2.weight"] = weights.Float32Array([]int{1}, []float32{1})
	if _, _, err := build(write("shape.safetensors", arrays)).Lookup("encoder/layer3/1/conv2/kernel").Initial(); err == nil || !strings.Contains(err.Error(), "has shape [1]") {
		t.Errorf("error %v, want one that names the shape", err)
	}
	if err := CheckPretrained(filepath.Join(t.TempDir(), "none.pth")); err == nil {
		t.Error("a missing file passes")
	}
}

// Export undoes Import.
func TestEntries(t *testing.T) {
	for _, e := range []Entry{
		{Key: "conv", Shape: []int{2, 3, 5, 5}, Perm: kernel},
		{Key: "vector", Shape: []int{4}},
	} {
		n := 1
		for _, d := range e.Shape {
			n *= d
		}
		v := nntest.Draw(1, n)
		ours, err := e.Import(weights.Float32Array(e.Shape, v))
		if err != nil {
			t.Fatal(err)
		}
		back, err := e.Export(ours)
		if err != nil || !slices.Equal(back, v) {
			t.Errorf("%s comes back as %v, %v; want %v", e.Key, back, err, v)
		}
		if e.Perm != nil && slices.Equal(ours, v) {
			t.Errorf("%s is not reordered", e.Key)
		}
	}
	if _, err := (Entry{Key: "k", Shape: []int{3}}).Import(weights.Float32Array([]int{2}, make([]float32, 2))); err == nil {
		t.Error("another shape passes")
	}
}

// The matrix product in place of a transposed convolution, with its gradients.
func TestDouble(t *testing.T) {
	build := func(up func(s *nn.Scope, x tf.Output) tf.Output) func(s *nn.Scope) []tf.Output {
		return func(s *nn.Scope) []tf.Output {
			x := nntest.Input(s, "x", 2, 3, 5, 4)
			y := up(s.In("up"), x)
			weights := nn.Consts(s, nntest.Draw(1, 2*6*10*3), 2, 6, 10, 3)
			return append([]tf.Output{y}, nn.VariableGradients(s, nn.SumAll(s, nn.Mul(s, nn.Square(s, y), weights)), s.Trainable())...)
		}
	}
	got := nntest.Values(t, build(func(s *nn.Scope, x tf.Output) tf.Output { return double(s, x, 3) }))
	want := nntest.Values(t, build(func(s *nn.Scope, x tf.Output) tf.Output {
		return nn.ConvTranspose2D(s, x, nn.Conv{Out: 3, Kernel: 2, Stride: 2, Pad: nn.Valid})
	}))
	for i, name := range []string{"output", "gradient of x", "gradient of kernel", "gradient of bias"} {
		w := make([]float64, len(want[i]))
		for j, v := range want[i] {
			w[j] = float64(v)
		}
		nntest.Close(t, name, got[i], w, 1e-5)
	}
}
