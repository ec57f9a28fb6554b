package optim_test

import (
	"math"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/optim"
	"thorax/graphs/session"
)

// The loss of these tests is Σ ½·curveₖ·(θₖ−centreₖ)² over two variables of
// different shapes.
var (
	start    = [][]float64{{1, -2, 0.5}, {0.3, 4}}
	centre   = [][]float64{{0.2, 0.1, -1}, {2, 3}}
	curve    = [][]float64{{1, 10, 0.1}, {3, 0.5}}
	gradient = func(theta [][]float64) [][]float64 {
		g := make([][]float64, len(theta))
		for i := range theta {
			for k, v := range theta[i] {
				g[i] = append(g[i], curve[i][k]*(v-centre[i][k]))
			}
		}
		return g
	}
)

// trajectory runs n steps of the optimiser and returns the parameters and the
// rate of each step.
func trajectory(t *testing.T, o optim.Optimizer, steps int) (theta [][][]float64, rates []float64) {
	t.Helper()
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	s := nn.NewScope(1)
	var terms []tf.Output
	narrow := func(v []float64) []float32 {
		out := make([]float32, len(v))
		for i, x := range v {
			out[i] = float32(x)
		}
		return out
	}
	for i := range start {
		x := s.At(i).Variable("theta", nn.Values(narrow(start[i])), len(start[i]))
		off := nn.Square(s, nn.Sub(s, x, nn.Consts(s, narrow(centre[i]), len(start[i]))))
		terms = append(terms, nn.SumAll(s, nn.Mul(s, off, nn.Consts(s, narrow(curve[i]), len(start[i])))))
	}
	loss := nn.Scale(s, nn.AddN(s, terms...), 0.5)
	vars := s.Trainable()
	grads := nn.VariableGradients(s, loss, vars)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	var wait []*tf.Operation
	for _, g := range grads {
		wait = append(wait, g.Op)
	}
	rate, done := o.Apply(s.In("optimizer").After(wait...), vars, grads, steps)
	x, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	for range steps {
		out, err := x.Run(nil, []tf.Output{rate}, done...)
		if err != nil {
			t.Fatal(err)
		}
		rates = append(rates, float64(session.Values(out[0])[0]))
		now, err := x.Get(vars)
		if err != nil {
			t.Fatal(err)
		}
		var row [][]float64
		for _, v := range now {
			var wide []float64
			for _, f := range session.Values(v) {
				wide = append(wide, float64(f))
			}
			row = append(row, wide)
		}
		theta = append(theta, row)
	}
	return theta, rates
}

// state is an optimiser in float64, one step a call.
type state struct {
	theta [][]float64
	t     int
	a, b  [][]float64
}

func newState() *state {
	s := &state{}
	for _, v := range start {
		s.theta = append(s.theta, append([]float64(nil), v...))
		s.a, s.b = append(s.a, make([]float64, len(v))), append(s.b, make([]float64, len(v)))
	}
	return s
}

// each calls f with the gradient of every parameter.
func (s *state) each(clip, l2 float64, f func(theta, g, a, b *float64)) {
	g := gradient(s.theta)
	norm := 0.0
	for i := range g {
		for _, v := range g[i] {
			norm += v * v
		}
	}
	factor := 1.0
	if clip > 0 {
		factor = min(1, clip/(math.Sqrt(norm)+1e-6)) // as torch.nn.utils.clip_grad_norm_
	}
	s.t++
	for i := range g {
		for k := range g[i] {
			f(&s.theta[i][k], new(factor*g[i][k]+l2*s.theta[i][k]), &s.a[i][k], &s.b[i][k])
		}
	}
}

func (s *state) sgd(lr, mu, l2, clip float64, nesterov bool) {
	s.each(clip, l2, func(theta, g, buf, _ *float64) {
		*buf = mu**buf + *g
		d := *buf
		if nesterov {
			d = *g + mu**buf
		}
		*theta -= lr * d
	})
}

func (s *state) adam(lr, beta1, beta2, eps, l2, decoupled, clip float64) {
	// The betas reach TensorFlow as float32.
	beta1, beta2 = float64(float32(beta1)), float64(float32(beta2))
	s.each(clip, l2, func(theta, g, m, v *float64) {
		*theta -= lr * decoupled * *theta
		*m = beta1**m + (1-beta1)**g
		*v = beta2**v + (1-beta2)**g**g
		mHat := *m / (1 - math.Pow(beta1, float64(s.t)))
		vHat := *v / (1 - math.Pow(beta2, float64(s.t)))
		*theta -= lr * mHat / (math.Sqrt(vHat) + eps)
	})
}

// Expected numbers: the formulas of PyTorch's documentation (torch.optim.SGD,
// Adam, AdamW, torch.nn.utils.clip_grad_norm_), in float64.
func TestOptimisers(t *testing.T) {
	const steps = 50
	common := func(lr, decay, clip float64) optim.Common {
		return optim.Common{LR: lr, WeightDecay: decay, ClipNorm: clip}
	}
	adam := func(lr, b1, b2, eps, decay, clip float64) optim.Adam {
		return optim.Adam{Common: common(lr, decay, clip), Beta1: b1, Beta2: b2, Eps: eps}
	}
	for _, tt := range []struct {
		name      string
		optimizer optim.Optimizer
		step      func(s *state)
	}{
		{"sgd", optim.SGD{Common: common(0.05, 0, 0)}, func(s *state) { s.sgd(0.05, 0, 0, 0, false) }},
		{"sgd momentum", optim.SGD{Common: common(0.02, 0, 0), Momentum: 0.9}, func(s *state) { s.sgd(0.02, 0.9, 0, 0, false) }},
		{"sgd nesterov", optim.SGD{Common: common(0.02, 0, 0), Momentum: 0.9, Nesterov: true}, func(s *state) { s.sgd(0.02, 0.9, 0, 0, true) }},
		{"sgd l2", optim.SGD{Common: common(0.05, 0.1, 0), Momentum: 0.5}, func(s *state) { s.sgd(0.05, 0.5, 0.1, 0, false) }},
		{"sgd clipped", optim.SGD{Common: common(0.05, 0.1, 0.7)}, func(s *state) { s.sgd(0.05, 0, 0.1, 0.7, false) }},
		{"adam", optim.NewAdam(0.03), func(s *state) { s.adam(0.03, 0.9, 0.999, 1e-8, 0, 0, 0) }},
		{"adam, a large epsilon", adam(0.03, 0.5, 0.9, 0.1, 0, 0), func(s *state) { s.adam(0.03, 0.5, 0.9, 0.1, 0, 0, 0) }},
		{"adam l2 clipped", adam(0.03, 0.9, 0.999, 1e-8, 0.2, 0.5), func(s *state) { s.adam(0.03, 0.9, 0.999, 1e-8, 0.2, 0, 0.5) }},
		{"adamw", optim.NewAdamW(0.03, 0.1), func(s *state) { s.adam(0.03, 0.9, 0.999, 1e-8, 0, 0.1, 0) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := trajectory(t, tt.optimizer, steps)
			s := newState()
			worst := 0.0
			for k := range steps {
				tt.step(s)
				scale := 0.0
				for i := range s.theta {
					for _, v := range s.theta[i] {
						scale = max(scale, math.Abs(v))
					}
				}
				for i := range s.theta {
					for j, want := range s.theta[i] {
						d := math.Abs(got[k][i][j]-want) / scale
						worst = max(worst, d)
						if d > 4e-7 { // of the largest parameter
							t.Fatalf("step %d, parameter %d/%d: %.9g, want %.9g: off by %.2g", k+1, i, j, got[k][i][j], want, d)
						}
					}
				}
			}
			t.Logf("off by at most %.2g", worst)
		})
	}
}

func TestSchedules(t *testing.T) {
	const steps, lr = 40, 0.2
	cosine := func(u, span, low float64) float64 {
		return low*lr + 0.5*(1-low)*lr*(1+math.Cos(math.Pi*u/span))
	}
	for _, tt := range []struct {
		name     string
		schedule optim.Schedule
		want     func(t float64) float64
	}{
		{"constant", optim.Schedule{}, func(float64) float64 { return lr }},
		{"step", optim.Schedule{Kind: "step", Every: 15, Gamma: 0.1}, func(t float64) float64 { return lr * math.Pow(0.1, math.Floor(t/15)) }},
		{"cosine", optim.Schedule{Kind: "cosine"}, func(t float64) float64 { return cosine(t, steps, 0) }},
		{"cosine to a tenth in 20", optim.Schedule{Kind: "cosine", Min: 0.1, Total: 20}, func(t float64) float64 { return cosine(min(t, 20), 20, 0.1) }},
		{"warm-up", optim.Schedule{Warmup: 8}, func(t float64) float64 { return lr * min(1, (t+1)/8) }},
		{"warm-up and cosine", optim.Schedule{Kind: "cosine", Warmup: 10}, func(t float64) float64 {
			if t < 10 {
				return lr * (t + 1) / 10
			}
			return cosine(t-10, steps-10, 0)
		}},
		{"held cosine", optim.Schedule{Kind: "cosine", Hold: 6}, func(t float64) float64 { return cosine(6*math.Floor(t/6), steps, 0) }},
		{"held warm-up and step", optim.Schedule{Kind: "step", Every: 10, Gamma: 0.5, Warmup: 4, Hold: 7}, func(t float64) float64 {
			if t < 4 {
				return lr * (t + 1) / 4
			}
			return lr * math.Pow(0.5, math.Floor(7*math.Floor((t-4)/7)/10))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := optim.SGD{Common: optim.Common{LR: lr, Schedule: tt.schedule}}
			_, rates := trajectory(t, o, steps)
			for k, got := range rates {
				if want := tt.want(float64(k)); math.Abs(got-want) > 1e-6*lr {
					t.Fatalf("step %d: rate %g, want %g", k, got, want)
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	adam := func(change func(*optim.Adam)) optim.Optimizer {
		a := optim.NewAdam(1e-3)
		change(&a)
		return a
	}
	for want, o := range map[string]optim.Optimizer{
		"lr: 0":                             adam(func(a *optim.Adam) { a.LR = 0 }),
		"lr: NaN":                           adam(func(a *optim.Adam) { a.LR = math.NaN() }),
		"beta1: 1,":                         adam(func(a *optim.Adam) { a.Beta1 = 1 }),
		"beta2: -0.1":                       adam(func(a *optim.Adam) { a.Beta2 = -0.1 }),
		"eps: 0":                            adam(func(a *optim.Adam) { a.Eps = 0 }),
		"weight_decay: -1":                  adam(func(a *optim.Adam) { a.WeightDecay = -1 }),
		"clip_norm: -1":                     adam(func(a *optim.Adam) { a.ClipNorm = -1 }),
		"schedule.kind: \"linear\"":         adam(func(a *optim.Adam) { a.Schedule.Kind = "linear" }),
		"schedule.every":                    adam(func(a *optim.Adam) { a.Schedule.Kind = "step" }),
		"schedule.min: 2":                   adam(func(a *optim.Adam) { a.Schedule.Min = 2 }),
		"schedule.warmup":                   adam(func(a *optim.Adam) { a.Schedule.Warmup = -1 }),
		"momentum: 1,":                      optim.NewSGD(0.1, 1),
		"nesterov: true without a momentum": optim.SGD{Common: optim.Common{LR: 1}, Nesterov: true},
	} {
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s…", err, want)
		}
	}
	if err := optim.NewAdamW(1e-3, 1e-2).Check(); err != nil {
		t.Error(err)
	}
}
