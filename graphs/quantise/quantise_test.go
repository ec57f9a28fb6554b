package quantise

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/golden"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// A bench is a quantiser in a session, whose writes are done by hand.
type bench struct {
	t       *testing.T
	s       *nn.Scope
	x       *session.Session
	z       tf.Output
	out     Quantised
	after   map[string]tf.Output // what the step makes of each variable
	changed []*nn.Variable
}

// open builds q for z of the given shape; images are its first dimension.
func open(t *testing.T, q Quantiser, training bool, shape ...int) *bench {
	t.Helper()
	s := nn.NewScope(1)
	dims := make([]int64, len(shape))
	for i, d := range shape {
		dims[i] = int64(d)
	}
	b := &bench{t: t, s: s, after: map[string]tf.Output{}}
	b.z = op.Placeholder(s.Op("z"), tf.Float, op.PlaceholderShape(tf.MakeShape(dims...)))
	at := s.In("quantiser")
	if !training {
		at = at.Inference()
	}
	b.out = q.Build(at, b.z)
	for _, w := range s.Writes() {
		b.after[w.Variable.Path] = w.New(s, s.Read(w.Variable))
		b.changed = append(b.changed, w.Variable)
	}
	x, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	b.x = x
	return b
}

// set gives a variable of the quantiser its value.
func (b *bench) set(name string, v []float32) {
	b.t.Helper()
	variable := b.s.Lookup("quantiser/" + name)
	if variable == nil {
		b.t.Fatalf("no variable %s", name)
	}
	if err := b.x.Set(variable, variable.Shape, v); err != nil {
		b.t.Fatal(err)
	}
}

// random returns the operation that draws below the scope called name.
func (b *bench) random(name string) tf.Output {
	b.t.Helper()
	for _, o := range b.s.Graph().Operations() {
		if o.Type() == "StatelessRandomUniform" && strings.Contains(o.Name(), name) {
			return o.Output(0)
		}
	}
	b.t.Fatalf("nothing is drawn in %s", name)
	return tf.Output{}
}

func (b *bench) feeds(z []float32) map[tf.Output]*tf.Tensor {
	return map[tf.Output]*tf.Tensor{b.z: session.Floats(nn.Shape(b.s, b.z), z)}
}

func (b *bench) run(feeds map[tf.Output]*tf.Tensor, fetch ...tf.Output) []*tf.Tensor {
	b.t.Helper()
	out, err := b.x.Run(feeds, fetch)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// step runs the quantiser on z and then writes what is to be written. It
// returns the fetched values and the variables after the step.
func (b *bench) step(feeds map[tf.Output]*tf.Tensor, fetch ...tf.Output) ([]*tf.Tensor, map[string][]float32) {
	b.t.Helper()
	n := len(fetch)
	for _, v := range b.changed {
		fetch = append(fetch, b.after[v.Path])
	}
	out := b.run(feeds, fetch...)
	state := map[string][]float32{}
	for i, v := range b.changed {
		if err := b.x.SetTensor(v, out[n+i]); err != nil {
			b.t.Fatal(err)
		}
		if v.DType == tf.Float {
			state[strings.TrimPrefix(v.Path, "quantiser/")] = session.Values(out[n+i])
		}
	}
	if err := b.x.SetInts(b.s.GlobalStepVariable(), nil, []int64{b.steps() + 1}); err != nil {
		b.t.Fatal(err)
	}
	return out[:n], state
}

func (b *bench) steps() int64 {
	out, err := b.x.Get([]*nn.Variable{b.s.GlobalStepVariable()})
	if err != nil {
		b.t.Fatal(err)
	}
	return session.IntValues(out[0])[0]
}

// plain is a quantiser with the given codes, restart off.
func plain(codes, depth int) Quantiser {
	return Quantiser{Codes: codes, Depth: depth, Update: "ema", Decay: 0.99, Init: "normal", Beta: 1}
}

// The check values of the specification.
func TestMovingAverage(t *testing.T) {
	b := open(t, plain(3, 1), true, 4, 1, 1, 2)
	codes := []float32{0, 0, 1, 1, -1, 2}
	b.set("codebook", codes)
	b.set("sums", codes)
	b.set("counts", []float32{2, 3, 1})
	out, state := b.step(b.feeds([]float32{0.2, 0.1, 0.9, 1.2, 1.1, 0.7, -0.8, 1.5}), b.out.Codes, b.out.Q, b.out.Active, b.out.Perplexity)
	if got := session.IntValues(out[0]); !slices.Equal(got, []int64{0, 1, 1, 2}) {
		t.Errorf("codes %v, want 0 1 1 2", got)
	}
	nntest.Close(t, "output, of the codes before the step", session.Values(out[1]), []float64{0, 0, 1, 1, 1, 1, -1, 2}, 1e-6)
	nntest.Close(t, "active codes", session.Values(out[2]), []float64{3}, 0)
	// Shares 1/4, 1/2, 1/4: entropy 1.5 ln 2.
	nntest.Close(t, "perplexity", session.Values(out[3]), []float64{math.Pow(2, 1.5)}, 1e-6)
	nntest.Close(t, "counts", state["counts"], []float64{1.99, 2.99, 1}, 1e-6)
	nntest.Close(t, "sums", state["sums"], []float64{0.002, 0.001, 1.01, 1.009, -0.998, 1.995}, 1e-6)
	nntest.Close(t, "codebook", state["codebook"], []float64{0.001005, 0.000503, 0.337793, 0.337459, -0.997995, 1.994990}, 1e-6)
}

// Golden values of the released quantiser, in float64.
func TestGoldenSalientToys(t *testing.T) {
	k := golden.Open(t, "salient_ct/toys.safetensors")
	values := func(name string) []float32 {
		v, err := k.Get(name).Float32()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, name := range k.Names("") {
		c, is := strings.CutSuffix(name, "/codes")
		if !is {
			continue
		}
		t.Run(c, func(t *testing.T) {
			k.Case(c)
			weight, codes := k.Get(c+"/before_weight"), k.Get(name)
			q := plain(weight.Shape[0], 1)
			q.Restart = strings.Contains(c, "restart")
			length := weight.Shape[1]
			var z []float32
			var shape []int
			residual := strings.HasPrefix(c, "rq")
			if residual {
				q.Depth = codes.Shape[len(codes.Shape)-1]
				a := k.Get(c + "/x") // [B,C,h,w]
				shape = []int{a.Shape[0], a.Shape[2], a.Shape[3], a.Shape[1]}
				a, err := a.Transpose(0, 2, 3, 1)
				if err == nil {
					z, err = a.Float32()
				}
				if err != nil {
					t.Fatal(err)
				}
			} else {
				z = values(c + "/vectors")
				shape = []int{len(z) / length, 1, 1, length}
			}
			b := open(t, q, !strings.HasSuffix(c, "eval"), shape...)
			b.set("codebook", values(c+"/before_weight"))
			if b.s.Lookup("quantiser/sums") != nil {
				b.set("sums", values(c+"/before_e"))
				b.set("counts", values(c+"/before_n"))
			}
			feeds := b.feeds(z)
			if q.Restart {
				perm, err := k.Get(c + "/perm").Int64()
				if err != nil {
					t.Fatal(err)
				}
				order := make([]float32, len(perm))
				for rank, row := range perm {
					order[row] = 1 - float32(rank)/float32(len(perm)) // the largest is chosen first
				}
				feeds[b.random("restart/order")] = session.Floats([]int{len(order)}, order)
				if strings.HasSuffix(c, "tiled") {
					var chosen []float32
					noise := values(c + "/noise_uniform")
					for _, row := range perm[:q.Codes] {
						chosen = append(chosen, noise[int(row)*length:][:length]...)
					}
					feeds[b.random("restart/noise")] = session.Floats([]int{q.Codes, length}, chosen)
				}
			}
			fetch := []tf.Output{b.out.Codes, b.out.Q, b.out.Commitment}
			if residual {
				up := make([]float32, len(z))
				at := func(i int) int { // of element i of ours in [B,C,h,w]
					area := shape[1] * shape[2]
					image, rest := i/(area*length), i%(area*length)
					return (image*length+rest%length)*area + rest/length
				}
				for i := range up {
					up[i] = float32(float64(at(i)) / float64(len(up)))
				}
				total := nn.Add(b.s, b.out.Commitment, nn.SumAll(b.s, nn.Mul(b.s, b.out.Q, nn.Consts(b.s, up, shape...))))
				grad := nn.Gradients(b.s, total, []tf.Output{b.z})[0]
				fetch[1] = nn.Transpose(b.s, b.out.Q, 0, 3, 1, 2)
				fetch = append(fetch, nn.Transpose(b.s, grad, 0, 3, 1, 2))
			}
			out, state := b.step(feeds, fetch...)
			want, err := codes.Int64()
			if err != nil {
				t.Fatal(err)
			}
			if got := session.IntValues(out[0]); !slices.Equal(got, want) {
				t.Errorf("codes %v, want %v", got, want)
			}
			k.Compare(c+"/out", session.Values(out[1]), 1e-5)
			if residual {
				k.Compare(c+"/commitment", session.Values(out[2]), 1e-5)
				k.Compare(c+"/grad_x", session.Values(out[3]), 1e-5)
			}
			for of, name := range map[string]string{"weight": "codebook", "e": "sums", "n": "counts"} {
				if got, ok := state[name]; ok {
					k.Compare(c+"/after_"+of, got, 1e-5)
				} else if !slices.Equal(values(c+"/before_"+of), values(c+"/after_"+of)) {
					t.Errorf("%s changes in the released code, not here", name)
				}
			}
		})
	}
}

// Averages without bias, as a plain loop over Sonnet's definition: hidden ←
// hidden - (1-γ)(hidden - value), average = hidden/(1-γ^t).
func TestDebias(t *testing.T) {
	const codes, n, c, decay = 5, 12, 3, 0.9
	q := plain(codes, 1)
	q.Debias, q.Decay = true, decay
	b := open(t, q, true, n, 1, 1, c)
	book := nntest.Draw(1, codes*c)
	b.set("codebook", book)
	b.set("sums", nntest.Draw(2, codes*c)) // whatever they were, the first average forgets them
	hiddenN, hiddenM := make([]float64, codes), make([]float64, codes*c)
	for step := range 4 {
		z := nntest.Draw(uint64(10+step), n*c)
		value, sums := make([]float64, codes), make([]float64, codes*c)
		for i := range n {
			best, least := 0, math.Inf(1)
			for j := range codes {
				d := 0.0
				for l := range c {
					d += sq(float64(z[i*c+l]) - float64(book[j*c+l]))
				}
				if d < least {
					best, least = j, d
				}
			}
			value[best]++
			for l := range c {
				sums[best*c+l] += float64(z[i*c+l])
			}
		}
		correction, total := 1-math.Pow(decay, float64(step+1)), 0.0
		averageN, averageM := make([]float64, codes), make([]float64, codes*c)
		for j := range codes {
			hiddenN[j] -= (1 - decay) * (hiddenN[j] - value[j])
			averageN[j] = hiddenN[j] / correction
			total += averageN[j]
			for l := j * c; l < (j+1)*c; l++ {
				hiddenM[l] -= (1 - decay) * (hiddenM[l] - sums[l])
				averageM[l] = hiddenM[l] / correction
			}
		}
		want := make([]float64, codes*c)
		for l := range want {
			want[l] = averageM[l] / ((averageN[l/c] + epsilon) / (total + codes*epsilon) * total)
		}
		_, state := b.step(b.feeds(z))
		nntest.Close(t, fmt.Sprint("counts after step ", step), state["counts"], averageN, 1e-5)
		nntest.Close(t, fmt.Sprint("sums after step ", step), state["sums"], averageM, 1e-5)
		nntest.Close(t, fmt.Sprint("codebook after step ", step), state["codebook"], want, 1e-4)
		book = state["codebook"]
	}
}

func sq(x float64) float64 { return x * x }

// Codes that nothing is near to become vectors of the batch; without restart
// they stay out of reach.
func TestDeadCodes(t *testing.T) {
	const codes, n, c = 8, 32, 2
	for _, restart := range []bool{true, false} {
		q := plain(codes, 1)
		q.Restart = restart
		b := open(t, q, true, n, 1, 1, c)
		far := make([]float32, codes*c)
		for i := range far {
			far[i] = 100
		}
		copy(far, []float32{0, 0}) // all vectors are nearest to the first
		b.set("codebook", far)
		b.set("sums", far)
		active, state := 0.0, map[string][]float32{}
		z := nntest.Draw(3, n*c)
		for step := range 3 {
			var out []*tf.Tensor
			out, state = b.step(b.feeds(z), b.out.Active)
			active = float64(session.Values(out[0])[0])
			if step == 0 && active != 1 {
				t.Fatalf("%g active codes at first, want 1", active)
			}
		}
		if restart && active < 6 {
			t.Errorf("%g of %d codes are active after restarts, want most", active, codes)
		}
		if !restart && active != 1 {
			t.Errorf("%g codes are active without restart, want 1", active)
		}
		if restart {
			// Just restarted, or counted: no code is left with less than 1.
			for j, count := range state["counts"] {
				if count < 1 {
					t.Errorf("code %d has count %g", j, count)
				}
			}
		}
	}
}

// Without replacement: as many vectors as there are codes become all of them.
func TestDrawWithoutReplacement(t *testing.T) {
	const codes, c = 16, 3
	q := plain(codes, 1)
	q.Init, q.Restart = "data", true
	b := open(t, q, true, codes, 1, 1, c)
	z := nntest.Draw(4, codes*c)
	out, _ := b.step(b.feeds(z), b.out.Codebook, b.out.Active, b.out.Commitment)
	rows := func(v []float32) []string {
		var list []string
		for i := 0; i < len(v); i += c {
			list = append(list, fmt.Sprint(v[i:i+c]))
		}
		slices.Sort(list)
		return list
	}
	if got, want := rows(session.Values(out[0])), rows(z); !slices.Equal(got, want) {
		t.Errorf("the first codebook is %v, want the batch %v", got, want)
	}
	if got := session.Values(out[1])[0]; got != codes {
		t.Errorf("%g active codes, want %d", got, codes)
	}
	if got := session.Values(out[2])[0]; got != 0 {
		t.Errorf("commitment %g, want 0", got)
	}
	// The next step reads what the first wrote, not the batch.
	next, _ := b.step(b.feeds(nntest.Draw(5, codes*c)), b.out.Codebook)
	if slices.Equal(rows(session.Values(next[0])), rows(nntest.Draw(5, codes*c))) {
		t.Error("the codebook is drawn anew in the second step")
	}
}

// The draw differs from step to step, and a restart takes the same vectors in
// the same step of the same run.
func TestDrawByStep(t *testing.T) {
	q := plain(4, 1)
	q.Restart = true
	draw := func() (all [][]float32) {
		b := open(t, q, true, 64, 1, 1, 2)
		z := nntest.Draw(6, 128)
		for range 2 {
			b.set("counts", make([]float32, 4)) // all dead
			out := b.run(b.feeds(z), b.after["quantiser/sums"])
			all = append(all, session.Values(out[0]))
			b.step(b.feeds(z))
		}
		return all
	}
	one, two := draw(), draw()
	if !slices.EqualFunc(one, two, slices.Equal[[]float32]) {
		t.Error("two runs of one seed draw different vectors")
	}
	if slices.Equal(one[0], one[1]) {
		t.Error("two steps draw the same vectors")
	}
}

// The straight-through gradient: that of f at q, with respect to q, arrives at z.
func TestStraightThrough(t *testing.T) {
	for _, depth := range []int{1, 3} {
		b := open(t, plain(6, depth), true, 2, 2, 2, 3)
		up := nntest.Draw(8, 24)
		f := nn.SumAll(b.s, nn.Mul(b.s, nn.Square(b.s, b.out.Q), nn.Consts(b.s, up, 2, 2, 2, 3)))
		grad := nn.Gradients(b.s, f, []tf.Output{b.z})[0]
		out := b.run(b.feeds(nntest.Draw(7, 24)), b.out.Q, grad)
		quantised := session.Values(out[0])
		want := make([]float64, len(up))
		for i := range want {
			want[i] = 2 * float64(up[i]) * float64(quantised[i])
		}
		nntest.Close(t, fmt.Sprintf("gradient at depth %d", depth), session.Values(out[1]), want, 1e-5)
	}
}

// Within the cell of a code the losses are smooth.
func TestLossGradients(t *testing.T) {
	for name, q := range map[string]Quantiser{
		"ema":            {Codes: 5, Depth: 1, Update: "ema", Decay: 0.9, Init: "normal", Beta: 0.7},
		"gradient":       {Codes: 5, Depth: 1, Update: "gradient", Init: "normal", Beta: 0.7},
		"gradient, deep": {Codes: 5, Depth: 2, Update: "gradient", Init: "normal", Beta: 0.7},
	} {
		t.Run(name, func(t *testing.T) {
			// Each term alone: what one stops, the other moves.
			nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
				return q.Build(s.In("quantiser"), nntest.Input(s, "z", 3, 2, 2, 4)).Commitment
			}, nntest.Options{Step: 2e-3, Except: []string{"quantiser/codebook"}})
			if q.Update == "gradient" {
				nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
					q := q
					q.Beta = 0
					return q.Build(s.In("quantiser"), nn.Consts(s, nntest.Draw(9, 48), 3, 2, 2, 4)).Loss
				}, nntest.Options{Step: 2e-3, Samples: 20})
			}
		})
	}
}

// The gradient variant starts at the batch too, and its first step's write does
// not undo later steps of the optimiser.
func TestGradientFromData(t *testing.T) {
	q := Quantiser{Codes: 3, Depth: 1, Update: "gradient", Init: "data", Beta: 0.25}
	b := open(t, q, true, 6, 1, 1, 2)
	out, _ := b.step(b.feeds(nntest.Draw(11, 12)), b.out.Codebook)
	drawn := session.Values(out[0])
	moved := []float32{5, 6, 7, 8, 9, 10}
	next := b.run(b.feeds(nntest.Draw(12, 12)), b.out.Codebook)
	if got := session.Values(next[0]); !slices.Equal(got, drawn) {
		t.Errorf("the second step reads %v, want what the first drew, %v", got, drawn)
	}
	b.set("codebook", moved) // as an optimiser would
	_, state := b.step(b.feeds(nntest.Draw(12, 12)))
	if !slices.Equal(state["codebook"], moved) {
		t.Errorf("the write leaves %v, want %v", state["codebook"], moved)
	}
}

// Nearest against a plain sort.
func TestNearest(t *testing.T) {
	const n, codes, c, k = 7, 20, 5, 6
	x, book := nntest.Draw(13, n*c), nntest.Draw(14, codes*c)
	s := nn.NewScope(1)
	got := Nearest(s, nn.Consts(s, x, n, c), nn.Consts(s, book, codes, c), k)
	sess, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	out, err := sess.Run(nil, []tf.Output{nn.Cast(s, got, tf.Int64)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		order := make([]int64, codes)
		d := make([]float64, codes)
		for j := range codes {
			order[j] = int64(j)
			for l := range c {
				d[j] += sq(float64(x[i*c+l]) - float64(book[j*c+l]))
			}
		}
		slices.SortFunc(order, func(a, b int64) int {
			if d[a] < d[b] {
				return -1
			}
			return 1
		})
		if g := session.IntValues(out[0])[i*k : (i+1)*k]; !slices.Equal(g, order[:k]) {
			t.Errorf("row %d: nearest %v, want %v", i, g, order[:k])
		}
	}
}

// Scoring reads the codebook, whatever the batch, and writes nothing.
func TestInference(t *testing.T) {
	q := VQVAE()
	q.Codes = 6
	b := open(t, q, false, -1, 2, 2, 3)
	if len(b.changed) != 0 {
		t.Errorf("inference writes %v", b.changed)
	}
	for _, v := range b.s.Variables() {
		if v.Path != "quantiser/codebook" && v.Path != "global/step" {
			t.Errorf("inference has the variable %s", v)
		}
	}
	b.set("codebook", nntest.Draw(15, 18))
	out := b.run(map[tf.Output]*tf.Tensor{b.z: session.Floats([]int{2, 2, 2, 3}, nntest.Draw(16, 24))}, b.out.Codes, b.out.Residual, b.out.Commitment)
	if got := out[0].Shape(); !slices.Equal(got, []int64{2, 2, 2, 1}) {
		t.Errorf("codes have shape %v", got)
	}
	sum := 0.0
	for _, r := range session.Values(out[1]) {
		sum += float64(r)
	}
	nntest.Close(t, "commitment", session.Values(out[2]), []float64{sum / 8}, 1e-5)
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		change func(*Quantiser)
		want   string
	}{
		{func(q *Quantiser) { q.Codes = 0 }, "codes: 0, need 1 or more"},
		{func(q *Quantiser) { q.Depth = 0 }, "depth: 0, need 1 or more"},
		{func(q *Quantiser) { q.Update = "sgd" }, `update: "sgd", need ema or gradient`},
		{func(q *Quantiser) { q.Decay = 1 }, "decay: 1, need 0 or more and less than 1"},
		{func(q *Quantiser) { q.Decay = math.NaN() }, "decay: NaN, need 0 or more and less than 1"},
		{func(q *Quantiser) { q.Init = "zeros" }, `init: "zeros", need normal, uniform or data`},
		{func(q *Quantiser) { q.Beta = -1 }, "beta: -1, need 0 or more"},
		{func(q *Quantiser) { q.Update = "gradient" }, `restart: true, but update = "gradient" keeps no counts; set restart = false or update = "ema"`},
	} {
		q := RQVAE()
		tt.change(&q)
		if err := q.Check(); err == nil || err.Error() != tt.want {
			t.Errorf("Check() = %v, want %s", err, tt.want)
		}
	}
	for _, q := range []Quantiser{RQVAE(), VQVAE()} {
		if err := q.Check(); err != nil {
			t.Errorf("the settings %+v do not pass: %v", q, err)
		}
	}
}

// The sums start where the codes do, as the released buffers.
func TestFirstValues(t *testing.T) {
	b := open(t, plain(4, 1), true, 4, 1, 1, 3)
	out := b.run(b.feeds(make([]float32, 12)), b.s.Read(b.s.Lookup("quantiser/codebook")), b.s.Read(b.s.Lookup("quantiser/sums")))
	if a, b := session.Values(out[0]), session.Values(out[1]); !slices.Equal(a, b) {
		t.Errorf("codes %v, sums %v: want the same", a, b)
	}
}

// The step of the CT method at 128 pixels, batch 16.
func BenchmarkStep(b *testing.B) {
	s := nn.NewScope(1)
	z := op.Placeholder(s.Op("z"), tf.Float, op.PlaceholderShape(tf.MakeShape(16, 16, 16, 512)))
	q := RQVAE()
	out := q.Build(s.In("quantiser"), z)
	targets := []*tf.Operation{out.Loss.Op, out.Q.Op}
	for _, w := range s.Writes() {
		targets = append(targets, s.After(s.Read(w.Variable).Op, out.Q.Op).Write(w.Variable, w.New(s, s.Read(w.Variable))))
	}
	x, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	if err := x.Init(); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	v := make([]float32, 16*256*512)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	feeds := map[tf.Output]*tf.Tensor{z: session.Floats([]int{16, 16, 16, 512}, v)}
	for b.Loop() {
		if _, err := x.Run(feeds, nil, targets...); err != nil {
			b.Fatal(err)
		}
	}
}
