package inpaint

import (
	"strconv"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/golden"
	"thorax/graphs/nn"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

// unitLimit is the golden README's for single operations.
const unitLimit = 1e-5

func start(t *testing.T, s *nn.Scope) *session.Session {
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

func values(t *testing.T, x *session.Session, y ...tf.Output) [][]float32 {
	t.Helper()
	out, err := x.Run(nil, y)
	if err != nil {
		t.Fatal(err)
	}
	v := make([][]float32, len(out))
	for i := range out {
		v[i] = session.Values(out[i])
	}
	return v
}

func float32s(t *testing.T, a weights.Array) []float32 {
	t.Helper()
	v, err := a.Float32()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// parameter returns a trained variable of one group that starts at a.
func parameter(t *testing.T, s *nn.Scope, name string, a weights.Array) tf.Output {
	t.Helper()
	return s.Variable(name, nn.Values(float32s(t, a)), append([]int{1}, a.Shape...)...)
}

func TestGoldenLookup(t *testing.T) {
	k := golden.Open(t, "simsid/unit.safetensors")
	x, m, upstream := k.Get("mem.x"), k.Get("mem.M"), k.Get("mem.upstream")
	for _, name := range k.Names("") {
		store, rest, _ := strings.Cut(name, ".")
		rule, is := strings.CutSuffix(rest, ".out")
		if !is || store != "mem" && store != "queue" {
			continue
		}
		l := Lookup{Rule: "strict"}
		var err error
		switch {
		case rule == "none":
		case strings.HasPrefix(rule, "lambda"):
			l.Lambda, err = strconv.ParseFloat(strings.TrimPrefix(rule, "lambda"), 64)
		default:
			l.TopK, err = strconv.Atoi(strings.TrimPrefix(rule, "k"))
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		prefix := store + "." + rule + "."
		t.Run(prefix, func(t *testing.T) {
			k.Case(prefix)
			s := nn.NewScope(1)
			query, items := parameter(t, s, "x", x), parameter(t, s, "m", m)
			read := items
			if store == "queue" {
				read = nn.StopGradient(s, items)
			}
			y, w := l.Read(s, query, read, store == "queue")
			up := nn.Consts(s, float32s(t, upstream), append([]int{1}, upstream.Shape...)...)
			of := []tf.Output{query}
			names := []string{"out", "weights", "grad_x"}
			if store == "mem" {
				of, names = append(of, items), append(names, "grad_M")
			}
			g := nn.Gradients(s, nn.SumAll(s, nn.Mul(s, y, up)), of)
			for i, v := range values(t, start(t, s), append([]tf.Output{y, w}, g...)...) {
				k.Compare(prefix+names[i], v, unitLimit)
			}
		})
	}

	// Six batches enter a ring, each in the place of the oldest rows.
	k.Case("ring")
	begin, batches, pointers := k.Get("ring.start"), k.Get("ring.values"), k.Get("ring.pointer")
	s := nn.NewScope(1)
	n, c, length := batches.Shape[1], batches.Shape[2], begin.Shape[0]
	rows := float32s(t, batches)
	old := parameter(t, s, "start", begin)
	var after, at []tf.Output
	pointer := s.In("ring").Counter("pointer")
	next := s.Read(pointer)
	for i := range batches.Shape[0] {
		q := &Queue{Items: &nn.Variable{Shape: []int{1, length, c}}, queries: nn.Consts(s, rows[i*n*c:(i+1)*n*c], 1, n, c)}
		old = ring(s, old, q.queries, next)
		next = q.moved(s, next)
		after, at = append(after, old), append(at, nn.Cast(s, next, tf.Float))
	}
	sess := start(t, s)
	for i, v := range values(t, sess, after...) {
		k.Compare("ring.after"+strconv.Itoa(i), v, 0)
	}
	for i, v := range values(t, sess, at...) {
		if want := float32s(t, pointers)[i]; v[0] != want {
			t.Errorf("pointer after batch %d is %g, want %g", i, v[0], want)
		}
	}
}
