package plain

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"path"
	"regexp"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// Start sets all variables of s to random values, none as training starts it,
// and returns them.
func Start(t testing.TB, s *nn.Scope, x *session.Session) map[string][]float64 {
	t.Helper()
	values := map[string][]float64{}
	l := x.Loader()
	for _, v := range s.Variables() {
		var err error
		if v.DType == tf.Int64 {
			err = l.Set(v, session.Ints(v.Shape, make([]int64, v.Size())))
		} else {
			value := draw(v)
			values[v.Path] = widen(value)
			err = l.Set(v, session.Floats(v.Shape, value))
		}
		if err != nil {
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

// Values returns the variables of s whose path starts with prefix.
func Values(t testing.TB, s *nn.Scope, x *session.Session, prefix string) map[string][]float64 {
	t.Helper()
	var vars []*nn.Variable
	for _, v := range s.Variables() {
		if strings.HasPrefix(v.Path, prefix) && v.DType == tf.Float {
			vars = append(vars, v)
		}
	}
	got, err := x.Get(vars)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]float64{}
	for i, v := range vars {
		values[v.Path] = widen(session.Values(got[i]))
	}
	return values
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
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
