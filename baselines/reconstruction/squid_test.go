package reconstruction

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/train"
	"thorax/graphs/inpaint"
	"thorax/graphs/inpaint/plain"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// tinySQUID cuts images of 64 pixels into 2×2 tiles.
func tinySQUID() *SQUID {
	m := NewSQUID()
	m.Width, m.Tile, m.Items, m.Mask = 2, 32, 7, 0.7
	return m
}

// specified is the plain reading of tinySQUID: every setting as the
// specification has it.
func specified(values map[string][]float64) *plain.Network {
	return &plain.Network{
		Generator: inpaint.Generator{
			Width: 2, Patches: 2, Output: "sigmoid", Inpainting: "transformer", Store: "queue", Memory: "per_tile", Items: 7,
			Lookup:  inpaint.Lookup{TopK: 5, Rule: "strict"},
			Decoder: []string{"v1", "v1"}, Skip: []string{"concat", "concat", "none", "none"}, Teacher: true,
		},
		Widest: 128, Values: values,
	}
}

// unitImages are images in [0,1].
func unitImages(seed uint64, n, side int) []float32 {
	v := nntest.Draw(seed, n*side*side)
	for i := range v {
		v[i] = float32(0.5 + 0.5*math.Tanh(float64(v[i])))
	}
	return v
}

// Expected values are those of the plain reading of the specification.
func TestSQUIDScores(t *testing.T) {
	const images, side = 3, 64
	v := unitImages(1, images, side)
	s := nn.NewScope(1)
	x := nn.Consts(s, v, images, side, side, 1)
	var fetch []tf.Output
	variants := []struct{ norm, scale string }{{"instance", "logit"}, {"instance", "release"}, {"running", "logit"}}
	for _, tt := range variants {
		m := tinySQUID()
		m.DiscNorm, m.Scale = tt.norm, tt.scale
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		fetch = append(fetch, m.Score(s.Inference(), x).Image)
	}
	m := tinySQUID()
	f := m.network(side).Build(s.Inference().In("generator"), x)
	fetch = append(fetch, f.Recon, f.Weights, f.Read[0], f.Read[1])
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	sess, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	want := specified(plain.Start(t, s, sess))
	want.Teacher = false // it does not score
	out, err := sess.Run(nil, fetch)
	if err != nil {
		t.Fatal(err)
	}
	p := want.Generate(plain.Images(images, v)) // in [0,1], as they are
	for i, tt := range variants {
		want.PerSample = tt.norm == "instance"
		scores := want.Judge(p.Recon)
		for j, v := range scores {
			scores[j] = -v
			if tt.scale == "release" {
				mean, deviation := want.Values["verdict/mean"][0], want.Values["verdict/deviation"][0]
				scores[j] = 1 - 1/(1+math.Exp(-(v-mean)/(deviation+1e-8)))
			}
		}
		plain.Near(t, tt.norm+", "+tt.scale, session.Values(out[i]), scores, 1e-4)
	}
	out = out[len(variants):]
	recon := session.Values(out[0])
	plain.Near(t, "reconstruction", recon, p.Recon.V, 1e-4)
	if low, high := slices.Min(recon), slices.Max(recon); low <= 0 || high >= 1 {
		t.Errorf("reconstructions in [%g,%g], a sigmoid is between 0 and 1", low, high)
	}
	for i, weights := range [][]float64{p.Weights, p.Read[0], p.Read[1]} {
		got := session.Values(out[1+i])
		plain.Near(t, fmt.Sprint("weights of memory ", i), got, weights, 1e-4)
		for row := range slices.Chunk(got, m.Items) { // the fifth item is dropped
			active := 0
			for _, w := range row {
				if math.Abs(float64(w)) > 1e-6 {
					active++
				}
			}
			if active != 4 {
				t.Errorf("memory %d: %d items are active, want 4: %v", i, active, row)
			}
		}
	}
}

// Three iterations: losses and running statistics are those of the plain
// reading, with the masks that the graph draws. The first and the third are the
// generator's too, and after them alone its queries enter the queue, in the
// third over its end.
func TestSQUIDSteps(t *testing.T) {
	const batch, side = 4, 64
	m := tinySQUID()
	st, err := train.NewStepper(m, 1, framework.Inputs{Images: 8 * batch, Batch: batch, Rows: batch, Size: side}, 10, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Session.Close()
	scope := st.Scope()
	v := unitImages(2, batch, side)
	feeds := map[tf.Output]*tf.Tensor{st.Inputs.Image: session.Floats([]int{batch, side, side, 1}, v)}
	x := plain.Images(batch, v)

	at := []string{"inpainting", "student/0", "student/1"}
	var fetch []tf.Output
	for _, name := range at {
		fetch = append(fetch, plain.Drawn(t, scope, "generator/"+name+"/mask"))
	}
	const queue = "generator/inpainting/memory/items"
	before := plain.Start(t, scope, st.Session)
	terms := inpaint.Terms{Reconstruction: 10, Teacher: 0.01, Distillation: 0.001, Adversarial: 0.005, Discriminator: 0.005}
	slot := 0
	for k := range 3 {
		drawn, err := st.Session.Run(nil, fetch)
		if err != nil {
			t.Fatal(err)
		}
		losses, err := st.Step(k, feeds)
		if err != nil {
			t.Fatal(err)
		}
		now := plain.Values(t, scope, st.Session)

		want := specified(before)
		want.Training, want.Masks = true, map[string][]float64{}
		for i, name := range at {
			want.Masks[name] = plain.Widen(session.Values(drawn[i]))
			if share := mean(want.Masks[name]); share < 0.4 || share > 0.95 { // of 64 positions and more, at 0.7
				t.Errorf("step %d: %.2f of the mask of %s is 1", k, share, name)
			}
		}
		after := now
		items := slices.Clone(before[queue])
		if k%2 == 1 {
			after, want.Teacher = nil, false // it runs in turns of the generator only
		}
		want.Follow()
		p := want.Generate(x)
		plain.Step(t, losses, want.Losses(x, p, terms, after), 1e-4)
		for path, v := range want.Running {
			plain.Near(t, fmt.Sprint("step ", k, ": ", path), plain.Narrow(now[path]), v, 1e-4)
		}

		if k%2 == 0 {
			length := len(p.Query) / (batch * 4)
			for b := range batch {
				for tile := range 4 {
					copy(items[(tile*m.Items+slot)*length:], p.Query[(b*4+tile)*length:][:length])
				}
				slot = (slot + 1) % m.Items
			}
			plain.Near(t, fmt.Sprint("queue after step ", k), plain.Narrow(now[queue]), items, 1e-4)
		} else if !slices.Equal(now[queue], before[queue]) {
			t.Errorf("step %d of the discriminator alone wrote to the queue", k)
		}
		for _, path := range slices.Sorted(maps.Keys(now)) {
			if k%2 == 1 && strings.HasPrefix(path, "generator/") && scope.Lookup(path).Trained && !slices.Equal(now[path], before[path]) {
				t.Errorf("step %d of the discriminator alone moved %s", k, path)
			}
		}
		before = now
	}
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// The discriminator's last two widths are 128, unlike SimSID's: 0.68 million
// parameters by the layer table, the sum below.
func TestSQUIDDiscriminator(t *testing.T) {
	s := nn.NewScope(1)
	NewSQUID().Score(s.Inference(), images(s, 1, 128))
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	in, want := 16, int64(25*1*16+16+(4*4*128+1))
	for i, width := range []int{32, 64, 128, 128} {
		kernel := s.Lookup(fmt.Sprintf("discriminator/%d/kernel", i))
		if kernel == nil || !slices.Equal(kernel.Shape, []int{5, 5, in, width}) {
			t.Fatalf("stage %d has %v, want [5 5 %d %d]", i, kernel, in, width)
		}
		want += int64(25*in*width + width + 2*width)
		in = width
	}
	var got int64
	for _, v := range s.In("discriminator").Trainable() {
		got += v.Size()
	}
	if got != want || want != 681921 {
		t.Errorf("%d parameters, want %d", got, want)
	}
}
