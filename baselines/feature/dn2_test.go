package feature

import (
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"thorax/graphs/backbone"
)

// noise returns n images of random blocks, brighter from one to the next.
func noise(n, side int, seed uint64) [][]float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([][]float32, n)
	for i := range out {
		out[i] = make([]float32, side*side)
		var cells [64]float32
		for j := range cells {
			cells[j] = r.Float32()
		}
		for p := range out[i] {
			out[i][p] = 0.7*cells[p/side*8/side*8+p%side*8/side] + 0.3*r.Float32()
		}
	}
	return out
}

func random(name string) backbone.Backbone { return backbone.Backbone{Name: name, Random: true} }

// In the graph and by a plain loop over the same features.
func TestDN2EqualsPlainLoop(t *testing.T) {
	m := NewDN2()
	m.Backbone, m.Taps, m.K = random(backbone.Lite0), []string{"reduction_2", "reduction_3"}, 3
	for _, unit := range []bool{false, true} {
		m.UnitLength = unit
		train, test := noise(11, 32, 1), noise(5, 32, 2)
		f := fit(t, m, 1, 4, 32, images(train))
		got, _ := f.score(t, images(test))

		memory := f.values(t, "memory")
		d := 24 + 40
		if len(memory) != 11*d {
			t.Fatalf("memory has %d values, want %d", len(memory), 11*d)
		}
		g := fit(t, m, 1, 4, 32, images(test)) // a memory of test features
		features := g.values(t, "memory")
		for i := range test {
			x := features[i*d:][:d]
			var length float64
			var all []float64
			for j := range train {
				all = append(all, squaredDistance(x, memory[j*d:][:d]))
			}
			for _, v := range x {
				length += float64(v) * float64(v)
			}
			if unit && math.Abs(length-1) > 1e-5 {
				t.Errorf("image %d: squared length %g, want 1", i, length)
			}
			want := smallest(all, 3)
			if math.Abs(got[i]-want) > 1e-4*want {
				t.Errorf("unit %v, image %d: score %g, want %g", unit, i, got[i], want)
			}
		}
		if same, _ := f.score(t, images(train[:1])); m.K == 1 && same[0] != 0 {
			t.Errorf("a training image scores %g, want 0", same[0])
		}
	}
}

func squaredDistance(x, y []float32) float64 {
	var d float64
	for i := range x {
		v := float64(x[i]) - float64(y[i])
		d += v * v
	}
	return d
}

// smallest is the mean of the k smallest.
func smallest(v []float64, k int) float64 {
	var sum float64
	for range k {
		best := 0
		for i := range v {
			if v[i] < v[best] {
				best = i
			}
		}
		sum += v[best]
		v[best] = math.Inf(1)
	}
	return sum / float64(k)
}

func TestDN2Check(t *testing.T) {
	for _, tt := range []struct {
		change func(m *DN2)
		want   string
	}{
		{func(m *DN2) { m.Backbone = random("vgg") }, "backbone.name"},
		{func(m *DN2) { m.Backbone, m.Taps = random("vgg16"), []string{"stem"} }, "taps: vgg16 has no"},
		{func(m *DN2) { m.Taps = nil }, "taps: none"},
		{func(m *DN2) { m.Density = "mean" }, "density"},
		{func(m *DN2) { m.K = 0 }, "k: 0"},
	} {
		m := NewDN2()
		m.Backbone = random(backbone.Lite0)
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		tt.change(m)
		if err := m.Check(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
	m := NewDN2()
	m.Backbone, m.Taps, m.K = random(backbone.Lite0), []string{"stem"}, 9
	if _, err := tryFit(m, 1, 4, 32, images(noise(5, 32, 1))); err == nil || !strings.Contains(err.Error(), "5 training images") {
		t.Errorf("more neighbours than images: %v", err)
	}
}

// Figures of golden/reference-auc.md §3, deterministic and without a resize.
// THORAX_REAL=1 adds the Gaussian.
func TestDN2OnCT(t *testing.T) {
	set := openReal(t, "folder", "sarscov2_ct")
	for _, tt := range []struct {
		taps    []string
		unit    bool
		density string
		want    float64
	}{
		{[]string{"pooled"}, false, "knn", 0.816},
		{[]string{"reduction_2", "reduction_3", "reduction_4"}, true, "knn", 0.880},
		{[]string{"pooled"}, false, "gauss", 0.777},
	} {
		if tt.density == "gauss" && os.Getenv("THORAX_REAL") == "" {
			continue
		}
		m := NewDN2()
		m.Taps, m.UnitLength, m.Density = tt.taps, tt.unit, tt.density
		scores, _ := fit(t, m, 0, 16, 128, set.train).score(t, set.test)
		got := auroc(t, scores, set.abnormal)
		t.Logf("%v unit %v %s: AUROC %.4f, reference %.3f", tt.taps, tt.unit, tt.density, got, tt.want)
		if math.Abs(got-tt.want) > 0.01 {
			t.Errorf("%v unit %v %s: AUROC %.4f, want %.3f ± 0.01", tt.taps, tt.unit, tt.density, got, tt.want)
		}
	}
}
