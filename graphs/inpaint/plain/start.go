package plain

import (
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// networks tells whether a variable is one of the method, not of an optimiser
// or the trainer.
func networks(v *nn.Variable) bool {
	top, _, _ := strings.Cut(v.Path, "/")
	return v.DType == tf.Float && slices.Contains([]string{"generator", "discriminator", "verdict"}, top)
}

// Start sets the variables of networks and score to random values, none as
// training starts it, and returns them. All others stay as they are.
func Start(t testing.TB, s *nn.Scope, x *session.Session) map[string][]float64 {
	t.Helper()
	values := map[string][]float64{}
	l := x.Loader()
	for _, v := range s.Variables() {
		if !networks(v) {
			continue
		}
		value := draw(v)
		values[v.Path] = Widen(value)
		if err := l.Set(v, session.Floats(v.Shape, value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	return values
}

// draw returns a value of v for which features neither vanish nor grow, and
// queries tell items apart.
func draw(v *nn.Variable) []float32 {
	h := fnv.New64a()
	h.Write([]byte(v.Path))
	r := rand.New(rand.NewPCG(h.Sum64(), 0))
	uniform := func(low, high float64) float64 { return low + (high-low)*r.Float64() }
	in := 1
	for _, d := range v.Shape[:max(len(v.Shape)-1, 0)] {
		in *= d
	}
	out := make([]float32, v.Size())
	for i := range out {
		switch path.Base(v.Path) {
		case "kernel":
			bound := math.Sqrt(3 / float64(in))
			out[i] = float32(uniform(-bound, bound))
		case "items":
			bound := math.Sqrt(6 / float64(v.Shape[2]))
			out[i] = float32(uniform(-bound, bound))
		case "gamma", "variance", "deviation":
			out[i] = float32(uniform(0.5, 1.5))
		default: // bias, beta, mean
			out[i] = float32(uniform(-0.3, 0.3))
		}
	}
	return out
}

// Values returns the variables of networks and score as they are now.
func Values(t testing.TB, s *nn.Scope, x *session.Session) map[string][]float64 {
	t.Helper()
	vars := slices.DeleteFunc(s.Variables(), func(v *nn.Variable) bool { return !networks(v) })
	got, err := x.Get(vars)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]float64{}
	for i, v := range vars {
		values[v.Path] = Widen(session.Values(got[i]))
	}
	return values
}

// Widen returns v in float64.
func Widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// Narrow returns v in float32.
func Narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// Step fails the test unless the losses of a step have the names in want, and
// the values to a tolerance relative to each.
func Step(t testing.TB, got, want map[string]float64, tolerance float64) {
	t.Helper()
	if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
		t.Errorf("losses %v, want %v", a, b)
	}
	for name, w := range want {
		if g := got[name]; !(math.Abs(g-w) <= tolerance*math.Abs(w)) {
			t.Errorf("%s is %.8g, want %.8g", name, g, w)
		}
	}
}

// Near fails the test unless the difference of got and want is at most
// tolerance of want, both by their L2 norms.
func Near(t testing.TB, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	var d, norm float64
	for i, w := range want {
		d += (float64(got[i]) - w) * (float64(got[i]) - w)
		norm += w * w
	}
	if norm == 0 || !(math.Sqrt(d/norm) <= tolerance) {
		t.Errorf("%s: off by %.3g of its norm %.3g, allowed %.3g", what, math.Sqrt(d/norm), math.Sqrt(norm), tolerance)
	}
}

// again is what makes the name of a scope unique.
var again = regexp.MustCompile(`_\d+(/|$)`)

// Drawn returns what a training graph draws below path on its own: 0 or 1 per
// position.
func Drawn(t testing.TB, s *nn.Scope, path string) tf.Output {
	t.Helper()
	for _, o := range s.Graph().Operations() {
		if o.Type() == "Cast" && strings.HasPrefix(again.ReplaceAllString(o.Name(), "$1"), path+"/") {
			return o.Output(0)
		}
	}
	t.Fatalf("nothing is drawn below %s", path)
	return tf.Output{}
}
