package train

import (
	"fmt"
	"math"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
	"thorax/graphs/session"
)

// written is a method whose training graph is a function.
type written func(s *nn.Scope, in framework.Inputs) []framework.Phase

func (written) Check() error { return nil }
func (w written) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	return w(s, in)
}
func (written) Score(s *nn.Scope, x tf.Output) framework.Scores {
	return framework.Scores{Image: nn.MeanImage(s, nn.MeanChannels(s, x))}
}

// scalar is the variable name of s, a number that starts at v.
func scalar(s *nn.Scope, name string, v float32) tf.Output {
	return s.Variable(name, nn.Values([]float32{v}))
}

func one(name string, vars []*nn.Variable, loss func(s *nn.Scope) tf.Output) framework.Update {
	return framework.Update{Name: name, Loss: loss, Vars: vars, Optimizer: optim.NewSGD(0.1, 0)}
}

// values runs the first n steps of the only phase of m and returns the named
// variables after each.
func values(t *testing.T, m framework.Method, n int, names ...string) [][]float64 {
	t.Helper()
	p, err := build(m, 1, framework.Inputs{Rows: 2, Batch: 2, Size: 4, Images: 4}, n)
	if err != nil {
		t.Fatal(err)
	}
	x, err := session.New(p.scope, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	vars := make([]*nn.Variable, len(names))
	for i, name := range names {
		if vars[i] = p.scope.Lookup(name); vars[i] == nil {
			t.Fatalf("no variable %s", name)
		}
	}
	var all [][]float64
	for k := range n {
		before := x.Runs
		if _, err := x.Run(nil, nil, p.phases[0].targets(k)...); err != nil {
			t.Fatal(err)
		}
		if x.Runs != before+1 {
			t.Fatalf("step %d took %d calls of TensorFlow, want 1", k, x.Runs-before)
		}
		if _, err := x.Run(nil, nil, p.bump); err != nil {
			t.Fatal(err)
		}
		out, err := x.Get(vars)
		if err != nil {
			t.Fatal(err)
		}
		var now []float64
		for _, o := range out {
			now = append(now, float64(session.Values(o)[0]))
		}
		all = append(all, now)
	}
	return all
}

// compare compares the values after each step with a loop in float64.
func compare(t *testing.T, got [][]float64, step func(k int) []float64) {
	t.Helper()
	for k, g := range got {
		want := step(k)
		for i := range want {
			if math.Abs(g[i]-want[i]) > 1e-5*max(1, math.Abs(want[i])) {
				t.Fatalf("step %d, variable %d: %g, want %g", k, i, g[i], want[i])
			}
		}
	}
}

func square(s *nn.Scope, x tf.Output) tf.Output { return nn.Square(s, x) }

// The second update of a GAN's step sees the discriminator that the first one
// left, though the generator's forward pass is shared.
func TestGAN(t *testing.T) {
	m := written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
		g := scalar(s.In("generator"), "w", 0.5)
		d := scalar(s.In("discriminator"), "w", 0.8)
		fake := nn.Scale(s, g, 1.5) // the shared forward pass
		dLoss := nn.Add(s, square(s, nn.Mul(s, d, fake)), square(s, nn.Shift(s, d, -1)))
		dVars, gVars := s.In("discriminator").Trainable(), s.In("generator").Trainable()
		return []framework.Phase{{Name: "gan", Updates: []framework.Update{
			one("discriminator", dVars, func(*nn.Scope) tf.Output { return dLoss }),
			one("generator", gVars, func(s *nn.Scope) tf.Output {
				return square(s, nn.Shift(s, nn.Mul(s, s.Read(dVars[0]), fake), -1))
			}),
		}}}
	})
	g, d := 0.5, 0.8
	compare(t, values(t, m, 20, "generator/w", "discriminator/w"), func(int) []float64 {
		f := 1.5 * g
		d -= 0.1 * (2*d*f*f + 2*(d-1))
		g -= 0.1 * 2 * (d*f - 1) * d * 1.5
		return []float64{g, d}
	})
}

// A variable that two updates of one step write: the second starts from what
// the first left, and its gradient is taken there.
func TestWrittenTwice(t *testing.T) {
	m := written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
		scalar(s, "w", 1)
		vars := s.Trainable()
		return []framework.Phase{{Name: "both", Updates: []framework.Update{
			one("first", vars, func(s *nn.Scope) tf.Output { return square(s, nn.Shift(s, s.Read(vars[0]), -5)) }),
			one("second", vars, func(s *nn.Scope) tf.Output { return square(s, nn.Shift(s, s.Read(vars[0]), 3)) }),
		}}}
	})
	w := 1.0
	compare(t, values(t, m, 5, "w"), func(int) []float64 {
		w -= 0.1 * 2 * (w - 5)
		w -= 0.1 * 2 * (w + 3)
		return []float64{w}
	})
}

// Update second runs in steps 0, 3, 6, …
func TestEvery(t *testing.T) {
	m := written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
		a, b := scalar(s, "a", 1), scalar(s.In("b"), "b", 1)
		aVar, bVar := s.Lookup("a"), s.Lookup("b/b")
		phase := framework.Phase{Name: "p", Updates: []framework.Update{
			one("first", []*nn.Variable{aVar}, func(s *nn.Scope) tf.Output { return square(s, a) }),
			one("second", []*nn.Variable{bVar}, func(s *nn.Scope) tf.Output { return square(s, nn.Sub(s, b, s.Read(aVar))) }),
		}}
		phase.Updates[1].Every = 3
		return []framework.Phase{phase}
	})
	a, b := 1.0, 1.0
	compare(t, values(t, m, 8, "a", "b/b"), func(k int) []float64 {
		a -= 0.1 * 2 * a
		if k%3 == 0 {
			b -= 0.1 * 2 * (b - a)
		}
		return []float64{a, b}
	})
}

// Writes of a forward pass follow the update whose loss reaches them, one after
// another, and read what it left.
func TestWrites(t *testing.T) {
	m := written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
		w := scalar(s, "w", 1)
		wVar := s.Lookup("w")
		queue := s.Buffer("queue", nn.Zeros())
		mean := s.Buffer("mean", nn.Zeros())
		other := s.Buffer("other", nn.Zeros())
		h := nn.Scale(s, w, 2)
		s.Assign(queue, h, func(s *nn.Scope, old tf.Output) tf.Output { return nn.Scale(s, nn.Shift(s, old, 1), 2) })
		s.Assign(queue, h, func(s *nn.Scope, old tf.Output) tf.Output { return nn.Add(s, old, h) })
		s.Assign(mean, h, func(s *nn.Scope, old tf.Output) tf.Output {
			return nn.Add(s, nn.Scale(s, old, 0.9), nn.Scale(s, s.Read(wVar), 0.1)) // of the updated w
		})
		// Nothing that is minimised reaches this one.
		s.Assign(other, nn.Scale(s, w, 5), func(s *nn.Scope, old tf.Output) tf.Output { return nn.Shift(s, old, 1) })
		loss := nn.Add(s, square(s, h), square(s, s.Read(queue))) // the queue at the start of the step
		return []framework.Phase{framework.Minimize("p", loss, []*nn.Variable{wVar}, optim.NewSGD(0.01, 0))}
	})
	w, queue, mean := 1.0, 0.0, 0.0
	compare(t, values(t, m, 6, "w", "queue", "mean", "other"), func(int) []float64 {
		h := 2 * w
		w -= 0.01 * 8 * w
		queue = 2*(queue+1) + h
		mean = 0.9*mean + 0.1*w
		return []float64{w, queue, mean, 0}
	})
}

// A tensor of Train that a later update uses holds what a variable was at the
// start of the step, in every step, though an earlier update writes it.
func TestStartOfStep(t *testing.T) {
	m := written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
		a, b := scalar(s, "a", 1), scalar(s, "b", 0)
		count := s.Buffer("count", nn.Zeros())
		s.Assign(count, a, func(s *nn.Scope, old tf.Output) tf.Output { return nn.Shift(s, old, 1) })
		stale := s.Read(count)
		return []framework.Phase{{Name: "p", Updates: []framework.Update{
			one("first", []*nn.Variable{s.Lookup("a")}, func(s *nn.Scope) tf.Output { return square(s, a) }),
			// Its gradient is count, so that b falls by count/10.
			one("second", []*nn.Variable{s.Lookup("b")}, func(s *nn.Scope) tf.Output { return nn.Mul(s, b, stale) }),
		}}}
	})
	b := 0.0
	compare(t, values(t, m, 2000, "b"), func(k int) []float64 {
		b -= 0.1 * float64(k)
		return []float64{b}
	})
}

// The same for a variable that an optimiser writes, which the first update
// reads only as it writes it.
func TestStartOfStepOptimised(t *testing.T) {
	m := written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
		a, b, c := scalar(s, "a", 1), scalar(s, "b", 1), scalar(s, "c", 1)
		aVar, bVar, cVar := s.Lookup("a"), s.Lookup("b"), s.Lookup("c")
		return []framework.Phase{{Name: "p", Updates: []framework.Update{
			one("a", []*nn.Variable{aVar}, func(s *nn.Scope) tf.Output { return square(s, a) }),
			one("b", []*nn.Variable{bVar, aVar}, func(s *nn.Scope) tf.Output { return square(s, nn.Sub(s, b, s.Read(aVar))) }),
			one("c", []*nn.Variable{cVar}, func(s *nn.Scope) tf.Output { return square(s, nn.Sub(s, c, a)) }),
		}}}
	})
	a, b, c := 1.0, 1.0, 1.0
	compare(t, values(t, m, 500, "a", "b", "c"), func(int) []float64 {
		start := a
		a -= 0.1 * 2 * a
		a, b = a+0.1*2*(b-a), b-0.1*2*(b-a)
		c -= 0.1 * 2 * (c - start)
		return []float64{a, b, c}
	})
}

func TestMistakes(t *testing.T) {
	vars := func(s *nn.Scope) []*nn.Variable { scalar(s, "w", 1); return s.Trainable() }
	loss := func(s *nn.Scope) tf.Output { return square(s, s.Read(s.Lookup("w"))) }
	for _, tt := range []struct {
		name string
		m    written
		want string
	}{
		{"no phases", func(s *nn.Scope, in framework.Inputs) []framework.Phase { return nil }, "the method has no phases"},
		{"unreached", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			all := vars(s)
			scalar(s.In("head"), "lost", 1)
			all = append(all, s.Lookup("head/lost"))
			return []framework.Phase{{Name: "p", Updates: []framework.Update{one("u", all, loss)}}}
		}, "phase p: update u: graph: the loss does not depend on head/lost"},
		{"every", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			v := vars(s)
			a, b := one("a", v, loss), one("b", v, loss)
			a.Every, b.Every = 2, 3
			return []framework.Phase{{Name: "p", Updates: []framework.Update{a, b}}}
		}, "phase p: update b runs every 3 steps, which is no multiple of a's 2"},
		{"not a scalar", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			v := vars(s)
			return []framework.Phase{{Name: "p", Updates: []framework.Update{one("u", v, func(s *nn.Scope) tf.Output {
				return nn.Mul(s, s.Read(v[0]), nn.Consts(s, []float32{1, 2}, 2))
			})}}}
		}, "phase p: update u: the loss has shape [2], need a scalar"},
		{"both", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			return []framework.Phase{{Name: "p", Fit: &framework.Fit{}, Updates: []framework.Update{one("u", vars(s), loss)}}}
		}, "phase p: has both updates and a fit: make them two phases"},
		{"neither", func(s *nn.Scope, in framework.Inputs) []framework.Phase { return []framework.Phase{{Name: "p"}} },
			"phase p: has neither updates nor a fit"},
		{"one name twice", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			u := []framework.Update{one("u", vars(s), loss)}
			return []framework.Phase{{Name: "p", Updates: u}, {Name: "p", Updates: u}}
		}, `phase "p": need a name that no other phase has`},
		{"nameless update", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			return []framework.Phase{{Name: "p", Updates: []framework.Update{one("", vars(s), loss)}}}
		}, "phase p: update 0 has no name"},
		{"two updates of one name", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			v := vars(s)
			return []framework.Phase{{Name: "p", Updates: []framework.Update{one("u", v, loss), one("u", v, loss)}}}
		}, "phase p: update u: need a name that no other update has"},
		{"learning rate", func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			u := one("u", vars(s), loss)
			u.Optimizer = optim.NewSGD(-1, 0)
			return []framework.Phase{{Name: "p", Updates: []framework.Update{u}}}
		}, "phase p: update u: lr: -1, need more than 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := build(tt.m, 1, framework.Inputs{Rows: 1, Batch: 1, Size: 4, Images: 1}, 5)
			if err == nil || err.Error() != tt.want {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
	_, err := build(written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
		return []framework.Phase{{Name: "p", Updates: []framework.Update{one("u", vars(s), loss)}}}
	}), 1, framework.Inputs{Rows: 1, Batch: 1, Size: 4, Images: 1}, 0)
	if err == nil || !strings.Contains(err.Error(), "has no steps: set train.steps or train.epochs") {
		t.Errorf("no budget: %v", err)
	}
}

// Phases that divide the budget take all of it between them.
func TestShares(t *testing.T) {
	for _, tt := range []struct {
		budget int
		shares []float64
		want   []int
	}{
		{300, []float64{1. / 3, 2. / 3}, []int{100, 200}},
		{25, []float64{0.5, 0.5}, []int{13, 12}}, // 12.5 rounds up once
		{10, []float64{1. / 3, 1. / 3, 1. / 3}, []int{3, 4, 3}},
		{7, []float64{0, 0.5}, []int{7, 4}},
	} {
		p, err := build(written(func(s *nn.Scope, in framework.Inputs) []framework.Phase {
			var phases []framework.Phase
			for i, share := range tt.shares {
				w := scalar(s.At(i), "w", 1)
				p := framework.Minimize(fmt.Sprint("p", i), square(s, w), s.At(i).Trainable(), optim.NewSGD(0.1, 0))
				p.Share = share
				phases = append(phases, p)
			}
			return phases
		}), 1, framework.Inputs{Rows: 1, Batch: 1, Size: 4, Images: 1}, tt.budget)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range tt.want {
			if got := p.phases[i].Steps; got != want {
				t.Errorf("phase %d with share %.3g of %d steps has %d, want %d", i, tt.shares[i], tt.budget, got, want)
			}
		}
	}
}

// A phase reads only the placeholders that its losses, writes and outputs need.
func TestFeeds(t *testing.T) {
	var in framework.Inputs
	m := written(func(s *nn.Scope, i framework.Inputs) []framework.Phase {
		in = i
		w := scalar(s, "w", 1)
		memory := s.Buffer("memory", nn.Zeros())
		loss := nn.Mul(s, w, nn.MeanAll(s, i.Image))
		s.Assign(memory, loss, func(s *nn.Scope, old tf.Output) tf.Output { return nn.MeanAll(s, i.Mask) })
		return []framework.Phase{
			framework.Minimize("steps", loss, s.Trainable(), optim.NewSGD(0.1, 0)),
			{Name: "fit", Fit: &framework.Fit{Over: data.Train, Outputs: []tf.Output{i.Index}}},
		}
	})
	p, err := build(m, 1, framework.Inputs{Rows: 2, Batch: 2, Size: 4, Images: 4}, 3)
	if err != nil {
		t.Fatal(err)
	}
	names := map[tf.Output]string{in.Image: "image", in.Clean: "clean", in.Mask: "mask", in.Label: "label", in.Index: "index"}
	for i, want := range []string{"[image mask]", "[index]"} {
		var got []string
		for _, x := range []tf.Output{in.Image, in.Clean, in.Mask, in.Label, in.Index} {
			if p.phases[i].feeds[x] {
				got = append(got, names[x])
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("phase %d is fed %v, want %s", i, got, want)
		}
	}
}
