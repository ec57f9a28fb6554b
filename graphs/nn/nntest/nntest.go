// Package nntest checks layers, losses and whole models: their values, and
// their gradients against central differences.
package nntest

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// Options say how to check gradients; the zero value suits layers.
type Options struct {
	Samples   int      // elements checked per variable; 0 is 10
	Step      float64  // half the distance of the two points; 0 is 1e-2
	Tolerance float64  // relative to the largest gradient of the variable; 0 is 1e-2
	Except    []string // paths of variables that are left out
}

// CheckGradients builds a graph, weights the elements of what build returns by
// fixed random numbers and compares the gradient of the sum with respect to
// sampled elements of every trained variable with central differences. Inputs
// of a layer are trained variables too: see [Input]. Where neither the step nor
// a quarter of it agrees, the test fails, naming variable and element.
func CheckGradients(t testing.TB, build func(s *nn.Scope) tf.Output, o Options) {
	t.Helper()
	o.Samples = cmp.Or(o.Samples, 10)
	o.Step = cmp.Or(o.Step, 1e-2)
	o.Tolerance = cmp.Or(o.Tolerance, 1e-2)

	s := nn.NewScope(1)
	y := build(s)
	weights := projection(s, y)
	loss := nn.SumAll(s, nn.Mul(s, y, nn.Consts(s, weights, nn.Shape(s, y)...)))
	vars := slices.DeleteFunc(s.Trainable(), func(v *nn.Variable) bool { return slices.Contains(o.Except, v.Path) })
	gradients := nn.VariableGradients(s, loss, vars)
	x := start(t, s)

	analytic := run(t, x, gradients)
	value := func() float64 {
		sum := 0.0
		for i, y := range run(t, x, []tf.Output{y})[0] {
			sum += float64(weights[i]) * float64(y)
		}
		return sum
	}
	rng := rand.New(rand.NewPCG(2, 0))
	for i, v := range vars {
		start := run(t, x, []tf.Output{s.Read(v)})[0]
		at := func(j int, h float64) float64 {
			moved := slices.Clone(start)
			moved[j] += float32(h)
			if err := x.Set(v, v.Shape, moved); err != nil {
				t.Fatal(err)
			}
			return value()
		}
		largest := 0.0
		for _, g := range analytic[i] {
			largest = max(largest, math.Abs(float64(g)))
		}
		if largest == 0 {
			t.Errorf("%s: the gradient is zero everywhere", v.Path)
		}
		for _, j := range sample(rng, len(start), o.Samples) {
			var seen []float64
			ok := false
			for h := o.Step; h > o.Step/20 && !ok; h /= 4 {
				d := (at(j, h) - at(j, -h)) / (float64(start[j]+float32(h)) - float64(start[j]+float32(-h)))
				seen = append(seen, d)
				ok = math.Abs(d-float64(analytic[i][j])) <= o.Tolerance*(largest+1e-3)
			}
			if !ok {
				t.Errorf("%s[%d]: gradient %.6g, differences %.6g", v, j, analytic[i][j], seen)
			}
		}
		if err := x.Set(v, v.Shape, start); err != nil {
			t.Fatal(err)
		}
	}
}

// Input returns a trained variable drawn from N(0,1): an input whose gradient
// is to be checked.
func Input(s *nn.Scope, name string, dims ...int) tf.Output {
	return s.In("input").Variable(name, nn.Normal(1), dims...)
}

// Positive is [Input] drawn from U(0.2, 1).
func Positive(s *nn.Scope, name string, dims ...int) tf.Output {
	return s.In("input").Variable(name, nn.Uniform(0.2, 1), dims...)
}

// Values builds a graph and returns the values of what build returns, each
// row-major, with all variables at their start.
func Values(t testing.TB, build func(s *nn.Scope) []tf.Output) [][]float32 {
	t.Helper()
	s := nn.NewScope(1)
	fetches := build(s)
	return run(t, start(t, s), fetches)
}

// Value is [Values] of one tensor.
func Value(t testing.TB, build func(s *nn.Scope) tf.Output) []float32 {
	t.Helper()
	return Values(t, func(s *nn.Scope) []tf.Output { return []tf.Output{build(s)} })[0]
}

// Close fails the test unless got and want agree to the given tolerance,
// absolute below 1 and relative above.
func Close(t testing.TB, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= tolerance*max(1, math.Abs(want[i]))) {
			t.Fatalf("%s: element %d is %.8g, want %.8g", what, i, got[i], want[i])
		}
	}
}

// Draw returns n numbers from N(0,1), the same for the same seed.
func Draw(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

func start(t testing.TB, s *nn.Scope) *session.Session {
	t.Helper()
	x, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	return x
}

func run(t testing.TB, x *session.Session, fetches []tf.Output) [][]float32 {
	t.Helper()
	out, err := x.Run(nil, fetches)
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]float32, len(out))
	for i := range out {
		values[i] = session.Values(out[i])
	}
	return values
}

// projection returns the weights of y's elements.
func projection(s *nn.Scope, y tf.Output) []float32 {
	n := 1
	for _, d := range nn.Shape(s, y) {
		if d < 0 {
			s.Fail("shape %v is not known: check gradients on tensors of fixed shape", nn.Shape(s, y))
			return nil
		}
		n *= d
	}
	w := make([]float32, n)
	rng := rand.New(rand.NewPCG(3, 0))
	for i := range w {
		w[i] = float32(0.5 + rng.Float64())
		if rng.IntN(2) == 0 {
			w[i] = -w[i]
		}
	}
	return w
}

func sample(rng *rand.Rand, n, k int) []int {
	return rng.Perm(n)[:min(n, k)]
}
