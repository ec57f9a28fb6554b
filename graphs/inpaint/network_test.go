package inpaint_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/inpaint"
	"thorax/graphs/inpaint/plain"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// near is relative in the L2 norm.
const near = 1e-4

// Every switch, in scoring and in training, against the plain reading, with no
// variable at its start.
func TestNetwork(t *testing.T) {
	for _, tt := range []struct {
		name   string
		side   int
		change func(g *inpaint.Generator)
	}{
		{"4×4", 64, func(g *inpaint.Generator) { g.Patches = 4 }},
		{"one tile", 32, func(g *inpaint.Generator) { g.Patches = 1 }},
		{"queue of SQUID", 64, func(g *inpaint.Generator) {
			g.Store, g.Output, g.MaskInpainting, g.MaskDecoder = "queue", "sigmoid", 0.7, 0.7
		}},
		{"shared", 32, func(g *inpaint.Generator) { g.Memory = "shared" }},
		{"global queue, v3", 32, func(g *inpaint.Generator) {
			g.Memory, g.Store, g.Decoder = "global", "queue", []string{"v3", "v1"}
		}},
		{"shared queue, all items", 32, func(g *inpaint.Generator) { g.Memory, g.Store, g.TopK = "shared", "queue", 0 }},
		{"convolution, v3", 64, func(g *inpaint.Generator) {
			g.Patches, g.Inpainting, g.Decoder, g.MaskDecoder = 4, "convolution", []string{"v3", "v3"}, 0.6
		}},
		{"memory only, inclusive", 64, func(g *inpaint.Generator) { g.Inpainting, g.Rule = "memory_only", "inclusive" }},
		{"pixel, above λ", 32, func(g *inpaint.Generator) { g.Inpainting, g.Lambda = "pixel", 0.1 }},
		{"all skips", 32, func(g *inpaint.Generator) {
			g.Skip, g.Decoder, g.MaskInpainting = []string{"concat", "concat", "concat", "concat"}, []string{"none", "v1"}, 0.5
		}},
		{"no block, all items, no skip", 32, func(g *inpaint.Generator) {
			g.Inpainting, g.TopK, g.DecoderItems = "none", -1, 0
			g.Skip, g.Decoder = []string{"none", "none", "none", "none"}, []string{"v1", "none"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := inpaint.Generator{
				Width: 2, Patches: 2, Output: "tanh", Inpainting: "transformer", Store: "matrix", Memory: "per_tile",
				Items: 6, DecoderItems: 7, Lookup: inpaint.Lookup{TopK: 4, Rule: "strict"},
				Decoder: []string{"v1", "v1"}, Skip: []string{"concat", "concat", "none", "none"},
				MaskInpainting: 1, MaskDecoder: 1, Teacher: true, StopGradient: true,
			}
			tt.change(&g)
			if err := g.Check(); err != nil {
				t.Fatal(err)
			}
			const images = 2
			x := nntest.Draw(1, images*tt.side*tt.side)
			for i := range x {
				x[i] = float32(math.Tanh(float64(x[i])))
			}
			compare(t, &plain.Network{Generator: g, Widest: 32, PerSample: true}, images, x)
		})
	}
}

func compare(t *testing.T, want *plain.Network, images int, v []float32) {
	x := plain.Images(images, v)
	g, d := want.Generator, inpaint.Discriminator{Widest: want.Widest, PerSample: want.PerSample}
	want.Masks = map[string][]float64{}
	mask := func(s *nn.Scope, x tf.Output, keep float64) tf.Output {
		name := strings.TrimSuffix(strings.TrimPrefix(s.Path(), "generator/"), "/mask")
		shape := nn.Shape(s, x)
		shape[3] = 1
		r := rand.New(rand.NewPCG(uint64(len(name)), uint64(shape[1])))
		m := make([]float32, shape[0]*shape[1]*shape[2])
		for i := range m {
			if r.Float64() < keep {
				m[i] = 1
			}
			want.Masks[name] = append(want.Masks[name], float64(m[i]))
		}
		return nn.Consts(s, m, shape...)
	}

	s := nn.NewScope(1)
	image := nn.Consts(s, v, images, x.H, x.W, 1)
	scored := g.Build(s.Inference().In("generator"), image)
	verdict := d.Build(s.Inference().In("discriminator"), scored.Recon)
	trained := g.BuildMasked(s.In("generator"), image, mask)
	g.Teach(s.In("generator"), trained)
	fake := d.Build(s.In("discriminator"), trained.Recon)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	masked := 0
	for _, keep := range []float64{g.MaskInpainting, g.MaskDecoder, g.MaskDecoder} {
		if keep < 1 {
			masked++
		}
	}
	if slices.Contains(g.Decoder, "none") {
		masked = min(masked, 1)
	}
	if len(want.Masks) != masked {
		t.Errorf("%d masks were asked for, want %d", len(want.Masks), masked)
	}

	sess, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	want.Values = plain.Start(t, s, sess)

	var what []string
	var fetch []tf.Output
	var expected [][]float64
	add := func(name string, y tf.Output, v []float64) {
		what, fetch, expected = append(what, name), append(fetch, y), append(expected, v)
	}
	features := func(name string, f *inpaint.Features, p *plain.Pass) {
		add(name+" z", f.Deepest, p.Deepest.V)
		if g.Inpainting != "none" {
			add(name+" query", f.Query, p.Query)
			add(name+" weights", f.Weights, p.Weights)
			add(name+" recalled", f.Recalled, p.Recalled)
			add(name+" painted", f.Painted, p.Painted.V)
		}
		for i, y := range f.Student {
			add(name+" student", y, p.Student[i].V)
		}
		for i, y := range f.Read {
			if y.Op != nil {
				add(name+" read", y, p.Read[i])
			}
		}
		add(name+" reconstruction", f.Recon, p.Recon.V)
	}
	p := want.Generate(x)
	features("scoring:", scored, p)
	add("scoring: logit", verdict, want.Judge(p.Recon))
	want.Training = true
	p = want.Generate(x)
	features("training:", trained, p)
	for i, y := range trained.Taught {
		add("training: taught", y, p.Taught[i].V)
	}
	add("training: lesson", trained.Lesson, p.Lesson.V)
	add("training: logit", fake, want.Judge(p.Recon))

	out, err := sess.Run(nil, fetch)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range what {
		plain.Near(t, name, session.Values(out[i]), expected[i], near)
	}
}
