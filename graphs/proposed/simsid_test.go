package proposed

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/framework/train"
	"thorax/graphs/inpaint/plain"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// tiny is SimSID small enough for a test at 32 pixels.
func tiny() *SimSID {
	m := NewSimSID()
	m.Width, m.Patches, m.Items, m.TopK = 2, 2, 6, 3
	return m
}

func stepper(t *testing.T, m *SimSID, batch int) (*train.Stepper, map[tf.Output]*tf.Tensor) {
	t.Helper()
	st, err := train.NewStepper(m, 1, framework.Inputs{Images: 8 * batch, Batch: batch, Rows: batch, Size: 32}, 10, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Session.Close() })
	v := nntest.Draw(5, batch*32*32)
	for i := range v {
		v[i] = float32(0.5 + 0.2*math.Tanh(float64(v[i])))
	}
	return st, map[tf.Output]*tf.Tensor{st.Inputs.Image: session.Floats([]int{batch, 32, 32, 1}, v)}
}

func get(t *testing.T, st *train.Stepper, path string) []float32 {
	t.Helper()
	v := st.Scope().Lookup(path)
	if v == nil {
		t.Fatalf("no variable %s", path)
	}
	out, err := st.Session.Get([]*nn.Variable{v})
	if err != nil {
		t.Fatal(err)
	}
	if v.DType == tf.Int64 {
		return []float32{float32(session.IntValues(out[0])[0])}
	}
	return session.Values(out[0])
}

// The queue absorbs the batches of generator steps, and wraps within one; an
// iteration is one run of TensorFlow, beside the one that counts it.
func TestQueueTurns(t *testing.T) {
	m := tiny()
	m.Store = "queue"
	st, feeds := stepper(t, m, 4)
	const items, pointer = "generator/inpainting/memory/items", "generator/inpainting/memory/pointer"
	length := m.Items
	c := len(get(t, st, items)) / 4 / length
	before := get(t, st, items)
	r := m.query(t, st)
	for k, want := range []float32{4, 4, 2, 2} { // steps 0 and 2 are the generator's; 8 mod 6 is 2
		out, err := st.Session.Run(feeds, []tf.Output{r})
		if err != nil {
			t.Fatal(err)
		}
		queries := session.Values(out[0]) // [B,P²,E]
		if slices.Compare(before, get(t, st, items)) != 0 {
			t.Fatal("a forward pass alone wrote to the queue")
		}
		runs := st.Session.Runs
		if _, err := st.Step(k, feeds); err != nil {
			t.Fatal(err)
		}
		if got := st.Session.Runs - runs; got != 2 {
			t.Errorf("step %d is %d runs, want one and one to count it", k, got)
		}
		if got := get(t, st, pointer)[0]; got != want {
			t.Errorf("after step %d the pointer is %g, want %g", k, got, want)
		}
		now := get(t, st, items)
		expected := slices.Clone(before)
		if k%2 == 0 {
			first := int(want) - 4 + length
			for p := range 4 {
				for b := range 4 {
					slot := (first + b) % length
					copy(expected[(p*length+slot)*c:], queries[(b*4+p)*c:(b*4+p+1)*c])
				}
			}
		}
		for i := range now {
			if math.Abs(float64(now[i]-expected[i])) > 1e-5 {
				t.Fatalf("after step %d element %d of the queue is %g, want %g", k, i, now[i], expected[i])
			}
		}
		before = now
	}
}

// query builds the forward pass once more for the queries of the memory.
func (m *SimSID) query(t *testing.T, st *train.Stepper) tf.Output {
	t.Helper()
	y := m.play(st.Scope(), st.Inputs.Image).f.Query
	if err := st.Scope().Err(); err != nil {
		t.Fatal(err)
	}
	return y
}

// Every switch trains: losses, and the statistics that a step leaves, are those
// of the plain reading, every trained variable moves, and one image alone is a
// batch. Masks and hidden tiles are those that the graph draws.
func TestSwitches(t *testing.T) {
	for name, change := range map[string]func(m *SimSID){
		"pixel, shared, all skips": func(m *SimSID) {
			m.Inpainting, m.Memory, m.Rule, m.HideTiles = "pixel", "shared", "inclusive", 0.5
			m.Skip = []string{"concat", "concat", "concat", "concat"}
		},
		"convolution, global queue, masks": func(m *SimSID) {
			m.Inpainting, m.Memory, m.Store = "convolution", "global", "queue"
			m.MaskInpainting, m.MaskDecoder = 0.6, 0.7
		},
		"one tile, no teacher": func(m *SimSID) { m.Patches, m.Teacher = 1, false },
	} {
		t.Run(name, func(t *testing.T) {
			m := tiny()
			change(m)
			if err := m.Check(); err != nil {
				t.Fatal(err)
			}
			st, feeds := stepper(t, m, 1)
			scope := st.Scope()
			before := plain.Start(t, scope, st.Session)
			drawn := map[string][]float32{}
			var names []string
			var fetch []tf.Output
			if m.Inpainting == "pixel" {
				names, fetch = append(names, "hide"), append(fetch, plain.Drawn(t, scope, "hide"))
			}
			if m.MaskInpainting < 1 {
				for _, at := range []string{"inpainting", "student/0", "student/1"} {
					names, fetch = append(names, at), append(fetch, plain.Drawn(t, scope, "generator/"+at+"/mask"))
				}
			}
			if len(fetch) > 0 {
				out, err := st.Session.Run(nil, fetch)
				if err != nil {
					t.Fatal(err)
				}
				for i, name := range names {
					drawn[name] = session.Values(out[i])
					if v := drawn[name]; slices.Min(v) != 0 || slices.Max(v) != 1 {
						t.Fatalf("%s is %v: draw anew, with both", name, v)
					}
				}
			}
			losses, err := st.Step(0, feeds)
			if err != nil {
				t.Fatal(err)
			}
			now := plain.Values(t, scope, st.Session)

			x := plain.Images(1, session.Values(feeds[st.Inputs.Image])).Each(func(v float64) float64 { return 2*v - 1 })
			want := &plain.Network{Generator: m.Generator, Widest: 256, Training: true, Values: before, Masks: map[string][]float64{}}
			want.Follow()
			seen := x
			for at, v := range drawn {
				if at == "hide" {
					seen = x.Hide(m.Patches, v)
				} else {
					want.Masks[at] = plain.Widen(v)
				}
			}
			plain.Step(t, losses, want.Losses(x, want.Generate(seen), m.Loss, now), 1e-4)
			for path, v := range want.Running {
				plain.Near(t, path, plain.Narrow(now[path]), v, 1e-4)
			}
			for _, v := range scope.Trainable() {
				// All eight neighbours of an only tile are the same: it does not matter what asks them.
				asks := strings.Contains(v.Path, "attention/query") || strings.Contains(v.Path, "attention/key")
				if slices.Equal(now[v.Path], before[v.Path]) && !(m.Patches == 1 && asks) {
					t.Errorf("%s does not move", v.Path)
				}
			}
		})
	}
}

// Tiles are hidden in training and not in scoring, and losses are against the
// whole image.
func TestPixelScoresWholeImages(t *testing.T) {
	score := func(inpainting string) []float32 {
		m := tiny()
		m.Inpainting = inpainting
		return nntest.Value(t, func(s *nn.Scope) tf.Output {
			return m.Score(s.Inference(), nn.Consts(s, nntest.Draw(1, 2*32*32), 2, 32, 32, 1)).Image
		})
	}
	if a, b := score("pixel"), score("memory_only"); !slices.Equal(a, b) {
		t.Errorf("scores %v with hidden tiles in training, %v without", a, b)
	}
}

// Scores are those of the plain reading: networks with random running
// statistics, the discriminator on each image by itself or on them.
func TestScoresPlain(t *testing.T) {
	const images, side = 3, 32
	v := nntest.Draw(1, images*side*side)
	s := nn.NewScope(1)
	image := nn.Consts(s, v, images, side, side, 1)
	var fetch []tf.Output
	variants := []struct{ norm, scale string }{{"instance", "logit"}, {"instance", "release"}, {"running", "logit"}}
	for _, tt := range variants {
		m := tiny()
		m.DiscNorm, m.Scale = tt.norm, tt.scale
		fetch = append(fetch, m.Score(s.Inference(), image).Image)
	}
	sess, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	want := &plain.Network{Generator: tiny().Generator, Widest: 256, Values: plain.Start(t, s, sess)}
	want.Teacher = false // it does not score
	out, err := sess.Run(nil, fetch)
	if err != nil {
		t.Fatal(err)
	}
	x := plain.Images(images, v).Each(func(v float64) float64 { return 2*v - 1 })
	recon := want.Generate(x).Recon
	for i, tt := range variants {
		want.PerSample = tt.norm == "instance"
		scores := want.Judge(recon)
		for j, v := range scores {
			scores[j] = -v
			if tt.scale == "release" {
				mean, deviation := want.Values["verdict/mean"][0], want.Values["verdict/deviation"][0]
				scores[j] = 1 - 1/(1+math.Exp(-(v-mean)/(deviation+1e-8)))
			}
		}
		plain.Near(t, tt.norm+", "+tt.scale, session.Values(out[i]), scores, 1e-4)
	}
}

// The discriminator normalises each image by itself in scoring: a batch does
// not matter. Scales of the score agree: 1-φ, φ.
func TestScores(t *testing.T) {
	v := nntest.Draw(1, 3*32*32)
	score := func(scale string, images int) []float32 {
		m := tiny()
		m.Scale = scale
		return nntest.Value(t, func(s *nn.Scope) tf.Output {
			return m.Score(s.Inference(), nn.Consts(s, v[:images*32*32], images, 32, 32, 1)).Image
		})
	}
	logit, release, paper := score("logit", 3), score("release", 3), score("paper", 3)
	for i := range logit { // μ and σ are 0 and 1 before they are fitted
		φ := 1 / (1 + math.Exp(-float64(logit[i])))
		nntest.Close(t, fmt.Sprint("release ", i), release[i:i+1], []float64{φ}, 1e-6)
		nntest.Close(t, fmt.Sprint("paper ", i), paper[i:i+1], []float64{1 - φ}, 1e-6)
	}
	nntest.Close(t, "alone", score("logit", 1), []float64{float64(logit[0])}, 1e-5)
}

// The look-ups of all matrices are one product: more tiles, no more operations.
func TestLookupsAreBatched(t *testing.T) {
	count := func(patches int) int {
		m := tiny()
		m.Patches = patches
		s := nn.NewScope(1)
		m.play(s, nn.Consts(s, make([]float32, 2*64*64), 2, 64, 64, 1))
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, o := range s.Graph().Operations() {
			if strings.Contains(o.Type(), "MatMul") {
				n++
			}
		}
		return n
	}
	if a, b := count(2), count(4); a != b {
		t.Errorf("%d products for 2×2 tiles, %d for 4×4", a, b)
	}
}

// Published counts of the generator with its teacher, in millions. The queue's
// items are not parameters.
func TestParameters(t *testing.T) {
	for _, tt := range []struct {
		patches, items int
		store          string
		want           float64
	}{{2, 200, "matrix", 46.1}, {2, 200, "queue", 44.5}, {4, 100, "matrix", 18.98}, {8, 100, "matrix", 16.95}} {
		m := NewSimSID()
		m.Patches, m.Items, m.Store = tt.patches, tt.items, tt.store
		s := nn.NewScope(1)
		m.Teach(s.In("generator"), m.Build(s.In("generator"), placeholder(s, 1, 128)))
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		var n int64
		for _, v := range s.Trainable() {
			n += v.Size()
		}
		if got := float64(n) / 1e6; math.Abs(got-tt.want) > 0.06 {
			t.Errorf("%d×%d, %s: %.2f million parameters, want %.2f", tt.patches, tt.patches, tt.store, got, tt.want)
		}
	}
}

// Random start: the stacked projections of attention as one Xavier matrix.
func TestAttentionStart(t *testing.T) {
	s := nn.NewScope(1)
	m := NewSimSID()
	m.Patches = 2
	m.Build(s.In("generator"), placeholder(s, 1, 128)) // E = 2048
	for _, part := range []string{"query", "key", "value"} {
		v, _, err := s.Lookup("generator/inpainting/attention/" + part + "/kernel").Initial()
		if err != nil {
			t.Fatal(err)
		}
		const bound = 0.02706 // measured of the official code
		if low, high := slices.Min(v), slices.Max(v); math.Abs(float64(high)-bound) > 1e-5 || math.Abs(float64(low)+bound) > 1e-5 {
			t.Errorf("%s starts in [%g,%g], want ±%g", part, low, high, bound)
		}
	}
}

func TestCheckNamesKeys(t *testing.T) {
	for key, change := range map[string]func(m *SimSID){
		"width:":               func(m *SimSID) { m.Width = 3 },
		"patches:":             func(m *SimSID) { m.Patches = 3 },
		"items:":               func(m *SimSID) { m.Items = 0 },
		"decoder_items:":       func(m *SimSID) { m.DecoderItems = -1 },
		"top_k:":               func(m *SimSID) { m.TopK = 101 },
		"top_k_rule:":          func(m *SimSID) { m.Rule = "loose" },
		"lambda:":              func(m *SimSID) { m.Lambda = math.NaN() },
		"inpainting:":          func(m *SimSID) { m.Inpainting = "" },
		"store:":               func(m *SimSID) { m.Store = "list" },
		"memory:":              func(m *SimSID) { m.Memory = "tile" },
		"output:":              func(m *SimSID) { m.Output = "relu" },
		"decoder_memory:":      func(m *SimSID) { m.Decoder = []string{"v1"} },
		"skip:":                func(m *SimSID) { m.Skip = []string{"add", "none", "none", "none"} },
		"mask_inpainting:":     func(m *SimSID) { m.MaskInpainting = 0 },
		"mask_decoder:":        func(m *SimSID) { m.MaskDecoder = 1.1 },
		"hide_tiles:":          func(m *SimSID) { m.HideTiles = 1 },
		"disc_norm:":           func(m *SimSID) { m.DiscNorm = "batch" },
		"loss.distillation:":   func(m *SimSID) { m.Loss.Distillation = -1 },
		"generator.lr:":        func(m *SimSID) { m.Generating.LR = 0 },
		"discriminator.beta1:": func(m *SimSID) { m.Discriminates.Beta1 = 1 },
		"critic:":              func(m *SimSID) { m.Critic = 0 },
		"score_stats:":         func(m *SimSID) { m.Statistics = "201" },
		"score:":               func(m *SimSID) { m.Scale = "z" },
		"map:":                 func(m *SimSID) { m.Map = "cam" },
	} {
		m := NewSimSID()
		change(m)
		if err := m.Check(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s %v", key, err)
		}
	}
	for name, p := range (*SimSID)(nil).Presets() {
		if err := p.(*SimSID).Check(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
}

func TestAugment(t *testing.T) {
	const side = 40
	p := data.Pixels{W: side, H: side, V: make([]float32, side*side)}
	for i := range p.V {
		p.V[i] = float32(i%side+1) / side
	}
	image := func(int) data.Pixels { return data.Pixels{W: side, H: side, V: slices.Clone(p.V)} }
	m := NewSimSID()
	moved := map[int]bool{}
	for i := range 50 {
		a, b := m.Corrupt(7, i, image), m.Corrupt(7, i, image)
		if len(a) != 1 || !slices.Equal(a[0].Image.V, b[0].Image.V) || !slices.Equal(a[0].Image.V, a[0].Clean.V) {
			t.Fatal("augmentation is not a pure function that gives one sample, its own target")
		}
		// The value in the middle tells the shift: two pixels at most, and half a
		// one by scale and rounding.
		at := int(math.Round(float64(a[0].Image.V[side/2*side+side/2])*side)) - 1 - side/2
		moved[at] = true
		if at < -3 || at > 3 {
			t.Errorf("image %d moved by %d pixels", i, at)
		}
	}
	if len(moved) < 4 {
		t.Errorf("images moved by %v only", moved)
	}
	m.Augment = false
	if a := m.Corrupt(7, 1, image); !slices.Equal(a[0].Image.V, p.V) {
		t.Error("an image moved without augmentation")
	}
}
