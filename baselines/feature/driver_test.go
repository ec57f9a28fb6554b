package feature

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/graphs/golden"
	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// A source gives image i of a set, as S×S values in [0,1].
type source struct {
	n  int
	at func(i int, dst []float32)
}

func images(v [][]float32) source {
	return source{len(v), func(i int, dst []float32) { copy(dst, v[i]) }}
}

// A fitted is a method with its session, for tests of one method at a time.
type fitted struct {
	scope   *nn.Scope
	session *session.Session
	image   tf.Output
	scores  framework.Scores
	batch   int
	side    int
}

// fit runs the fits of m over the training images and builds its scores.
func fit(t testing.TB, m framework.Method, seed uint64, batch, side int, train source) *fitted {
	t.Helper()
	f, err := tryFit(m, seed, batch, side, train)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.session.Close() })
	return f
}

func tryFit(m framework.Method, seed uint64, batch, side int, train source) (*fitted, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	s := nn.NewScope(seed)
	placeholder := func(name string) tf.Output {
		return op.Placeholder(s.Op(name), tf.Float, op.PlaceholderShape(tf.MakeShape(int64(batch), int64(side), int64(side), 1)))
	}
	in := framework.Inputs{Image: placeholder("image"), Images: train.n, Batch: batch, Rows: batch, Size: side}
	f := &fitted{scope: s, image: placeholder("scored"), batch: batch, side: side}
	phases := m.Train(s, in)
	f.scores = m.Score(s.Inference(), f.image)
	var err error
	if f.session, err = session.New(s, session.Options{Threads: 2}); err != nil {
		return nil, err
	}
	if err := f.session.Init(); err != nil {
		return nil, err
	}
	for _, p := range phases {
		err := f.each(in.Image, train, p.Fit.Outputs, func(_ int, out []framework.Rows) error { return p.Fit.Batch(out) })
		if err != nil {
			return nil, err
		}
		values, err := p.Fit.Done()
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			if err := f.session.Set(v.Variable, v.Shape, v.V); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// each feeds all images in batches, the last one padded, and hands out rows.
func (f *fitted) each(x tf.Output, from source, outputs []tf.Output, use func(first int, out []framework.Rows) error) error {
	pixels := f.side * f.side
	v := make([]float32, f.batch*pixels)
	for first := 0; first < from.n; first += f.batch {
		n := min(f.batch, from.n-first)
		for i := range f.batch {
			from.at(first+min(i, n-1), v[i*pixels:][:pixels])
		}
		out, err := f.session.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{f.batch, f.side, f.side, 1}, v)}, outputs)
		if err != nil {
			return err
		}
		rows := make([]framework.Rows, len(out))
		for i, o := range out {
			values := session.Values(o)
			rows[i] = framework.Rows{N: n, V: values[:len(values)/f.batch*n]}
			for _, d := range o.Shape()[1:] {
				rows[i].Shape = append(rows[i].Shape, int(d))
			}
		}
		if err := use(first, rows); err != nil {
			return err
		}
	}
	return nil
}

// rebatch returns f with scores for another batch size.
func (f *fitted) rebatch(m framework.Method, batch int) *fitted {
	g := *f
	g.batch = batch
	shape := tf.MakeShape(int64(batch), int64(f.side), int64(f.side), 1)
	g.image = op.Placeholder(f.scope.Op("scored"), tf.Float, op.PlaceholderShape(shape))
	g.scores = m.Score(f.scope.Inference(), g.image)
	return &g
}

// score returns image scores and, if the method has them, maps.
func (f *fitted) score(t testing.TB, from source) (scores []float64, maps [][]float32) {
	t.Helper()
	outputs := []tf.Output{f.scores.Image}
	if f.scores.Map.Op != nil {
		outputs = append(outputs, f.scores.Map)
	}
	err := f.each(f.image, from, outputs, func(_ int, out []framework.Rows) error {
		for _, v := range out[0].V {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("score of image %d is %g", len(scores), v)
			}
			scores = append(scores, float64(v))
		}
		if len(out) > 1 {
			if s := out[1].Shape; len(s) != 2 || s[0] != f.side || s[1] != f.side {
				t.Fatalf("map of shape %v, need %d×%d", s, f.side, f.side)
			}
			for i := range out[1].N {
				maps = append(maps, out[1].V[i*f.side*f.side:][:f.side*f.side])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return scores, maps
}

// A real set beside the repository, at 128 pixels without validation.
type realSet struct {
	train, test source
	abnormal    []bool
}

// openReal opens a set of ../shared/data, and skips where it or the weights are
// missing, and in short runs.
func openReal(t testing.TB, kind, name string) realSet {
	t.Helper()
	if testing.Short() {
		t.Skip("real images take their time")
	}
	root := filepath.Join(golden.Root(t), "..", "shared", "data", name)
	if _, err := os.Stat(root); err != nil {
		golden.Missing(t, err.Error())
	}
	o := data.DefaultOptions()
	o.Set, o.Root, o.Validation = kind, root, 0
	d, err := data.Open(o, filepath.Join(golden.Root(t), ".thorax", "cache"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	split := func(s data.Split) source {
		return source{d.Len(s), func(i int, dst []float32) { d.Pixels(s, i, dst) }}
	}
	r := realSet{train: split(data.Train), test: split(data.Test)}
	for _, it := range d.Items(data.Test) {
		r.abnormal = append(r.abnormal, it.Abnormal)
	}
	return r
}

func auroc(t testing.TB, scores []float64, abnormal []bool) float64 {
	t.Helper()
	v, err := metric.AUROC(scores, abnormal)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// values returns a variable of the fitted method.
func (f *fitted) values(t testing.TB, path string) []float32 {
	t.Helper()
	v := f.scope.Lookup(path)
	if v == nil {
		t.Fatalf("no variable %s", path)
	}
	out, err := f.session.Get([]*nn.Variable{v})
	if err != nil {
		t.Fatal(err)
	}
	return session.Values(out[0])
}

// eval returns the rows of what build makes of the images.
func (f *fitted) eval(t testing.TB, from source, build func(s *nn.Scope, x tf.Output) tf.Output) [][]float32 {
	t.Helper()
	y := build(f.scope.Inference(), f.image)
	if err := f.scope.Err(); err != nil {
		t.Fatal(err)
	}
	var out [][]float32
	err := f.each(f.image, from, []tf.Output{y}, func(_ int, rows []framework.Rows) error {
		size := len(rows[0].V) / rows[0].N
		for i := range rows[0].N {
			out = append(out, rows[0].V[i*size:][:size])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// near fails the test where got is off by more than tol of the largest want.
func near(t testing.TB, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	var scale float64
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*scale) {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], w)
		}
	}
}
