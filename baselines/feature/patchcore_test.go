package feature

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/graphs/backbone"
	"thorax/graphs/nn"
	"thorax/graphs/session"
)

func smallPatchCore() *PatchCore {
	m := NewPatchCore()
	m.Backbone, m.CoresetRatio, m.Sigma, m.Projection = random(backbone.Lite0), 0.5, 0, 16
	return m
}

// Map and both patch scores by plain loops over the same features and memory.
func TestPatchCoreEqualsPlainLoop(t *testing.T) {
	m := smallPatchCore()
	train, test := noise(9, 64, 1), noise(5, 64, 2)
	const d, p = 40 + 112, 64 // an 8×8 grid
	f := fit(t, m, 1, 4, 64, images(train))
	reweighted, maps := f.score(t, images(test))
	m.ImageScore = framework.Max
	maximum := f.eval(t, images(test), func(s *nn.Scope, x tf.Output) tf.Output { return m.Score(s, x).Image })
	memory := f.values(t, "memory")
	if len(memory) != 9*p/2*d {
		t.Fatalf("memory of %d values, want %d", len(memory), 9*p/2*d)
	}
	known := f.eval(t, images(train), m.patches)
	for i := range 9 * p / 2 {
		if !slices.ContainsFunc(known, func(row []float32) bool { return contains(row, memory[i*d:][:d]) }) {
			t.Fatalf("vector %d of the memory is no patch of the training images", i)
		}
	}
	rows := func(v []float32) (out [][]float32) {
		for i := 0; i < len(v); i += d {
			out = append(out, v[i:][:d])
		}
		return
	}
	from := func(x []float32) (distances []float64) {
		for _, y := range rows(memory) {
			distances = append(distances, math.Sqrt(squaredDistance(x, y)))
		}
		return
	}
	for i, image := range f.eval(t, images(test), m.patches) {
		var nearest []float64
		for _, x := range rows(image) {
			nearest = append(nearest, slices.Min(from(x)))
		}
		near(t, "map", maps[i], bilinear(nearest, 8, 64), 1e-4)
		far := slices.Index(nearest, slices.Max(nearest))
		near(t, "max", maximum[i], []float64{nearest[far]}, 1e-5)

		x := rows(image)[far]
		at := from(x)
		star := slices.Index(at, nearest[far])
		crowd := from(rows(memory)[star])
		order := make([]int, len(crowd))
		for j := range order {
			order[j] = j
		}
		slices.SortFunc(order, func(a, b int) int { return int(math.Copysign(1, crowd[a]-crowd[b])) })
		var sum float64
		for _, j := range order[:9] {
			sum += math.Exp(at[j])
		}
		want := (1 - math.Exp(at[star])/sum) * at[star]
		near(t, "reweight", []float32{float32(reweighted[i])}, []float64{want}, 1e-4)
	}
}

func contains(row, v []float32) bool {
	for i := 0; i < len(row); i += len(v) {
		if squaredDistance(row[i:][:len(v)], v) < 1e-8 {
			return true
		}
	}
	return false
}

// Long distances saturate the softmax, and must not overflow it.
func TestReweightOfLongDistances(t *testing.T) {
	m := smallPatchCore()
	m.Neighbours = 2
	s := nn.NewScope(0)
	memory := newMemory(s, nn.Consts(s, []float32{0, 0, 1, 0, 50, 0}, 3, 2))
	f := nn.Consts(s, []float32{-1000, 0, 0.5, 0}, 1, 2, 2)
	distances := nn.Reshape(s, memory.nearest(s, nn.Reshape(s, f, -1, 2), 1), 1, 2)
	y := m.reweight(s, memory, f, distances)
	x, err := session.New(s, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	out, err := x.Run(nil, []tf.Output{y, distances})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "distances", session.Values(out[1]), []float64{1000, 0.5}, 1e-6)
	// m* = (0,0) at 1000, the other at 1001.
	near(t, "score", session.Values(out[0]), []float64{1000 * (1 - 1/(1+math.E))}, 1e-5)
}

// The official embedding by its definition: patches, two adaptive poolings.
func TestOfficialEmbedding(t *testing.T) {
	const h, c1, c2 = 4, 40, 112
	r := rand.New(rand.NewPCG(1, 9))
	draw := func(c int) []float32 {
		v := make([]float32, h*h*c)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	a, b := draw(c1), draw(c2)
	s := nn.NewScope(0)
	both := nn.Concat(s, 3, official(s.At(0), nn.Consts(s, a, 1, h, h, c1)), official(s.At(1), nn.Consts(s, b, 1, h, h, c2)))
	x, err := session.New(s, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	out, err := x.Run(nil, []tf.Output{both})
	if err != nil {
		t.Fatal(err)
	}
	var want []float64
	for row := range h {
		for column := range h {
			var stacked []float64
			for _, tap := range []struct {
				v []float32
				c int
			}{{a, c1}, {b, c2}} {
				var patch []float64
				for c := range tap.c {
					for dr := -1; dr <= 1; dr++ {
						for dc := -1; dc <= 1; dc++ {
							v, y, x := 0.0, row+dr, column+dc
							if y >= 0 && y < h && x >= 0 && x < h {
								v = float64(tap.v[(y*h+x)*tap.c+c])
							}
							patch = append(patch, v)
						}
					}
				}
				stacked = append(stacked, adaptive(patch, 1024)...)
			}
			want = append(want, adaptive(stacked, 1024)...)
		}
	}
	near(t, "embedding", session.Values(out[0]), want, 1e-5)

	// For 512 channels it is the kernel [1 1 1; 1 2 1; 1 1 1]/10.
	k := officialKernel(512)
	for i := range 9 {
		want := float32(0.1)
		if i == 4 {
			want = 0.2
		}
		if got := k[(i*512+7)*512+7]; math.Abs(float64(got-want)) > 1e-7 {
			t.Errorf("kernel[%d] of 512 channels is %g, want %g", i, got, want)
		}
	}
}

// adaptive is PyTorch's adaptive average pooling of a vector.
func adaptive(v []float64, m int) (out []float64) {
	n := len(v)
	for i := range m {
		first, last := int(math.Floor(float64(i)*float64(n)/float64(m))), int(math.Ceil(float64(i+1)*float64(n)/float64(m)))
		var sum float64
		for _, x := range v[first:last] {
			sum += x
		}
		out = append(out, sum/float64(last-first))
	}
	return out
}

// A drawn share of the patches is as large as asked for.
func TestPatchCoreMaxPatches(t *testing.T) {
	m := smallPatchCore()
	m.MaxPatches, m.CoresetRatio = 100, 1
	f := fit(t, m, 1, 4, 64, images(noise(9, 64, 1)))
	if got := len(f.values(t, "memory")); got != 100*152 {
		t.Errorf("memory of %d values, want %d", got, 100*152)
	}
}

func TestPatchCoreCheck(t *testing.T) {
	for _, tt := range []struct {
		change func(m *PatchCore)
		want   string
	}{
		{func(m *PatchCore) { m.Taps = []string{"logits"} }, "no positions"},
		{func(m *PatchCore) { m.Embedding = "mean" }, "embedding"},
		{func(m *PatchCore) { m.Embedding, m.Taps = "official", m.Taps[:1] }, "takes two"},
		{func(m *PatchCore) { m.CoresetRatio = 0 }, "coreset_ratio"},
		{func(m *PatchCore) { m.CoresetRatio = math.NaN() }, "coreset_ratio"},
		{func(m *PatchCore) { m.Projection = 0 }, "projection"},
		{func(m *PatchCore) { m.MaxPatches = -1 }, "max_patches"},
		{func(m *PatchCore) { m.Neighbours = 0 }, "neighbours"},
		{func(m *PatchCore) { m.Sigma = -1 }, "sigma"},
		{func(m *PatchCore) { m.ImageScore = "median" }, "need reweight, max, mean or topk_mean"},
	} {
		m := smallPatchCore()
		tt.change(m)
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
	m := smallPatchCore()
	m.CoresetRatio = 0.01
	if _, err := tryFit(m, 1, 4, 64, images(noise(2, 64, 1))); err == nil || !strings.Contains(err.Error(), "larger coreset_ratio") {
		t.Errorf("fewer patches than neighbours: %v", err)
	}
}
