package trivial_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"thorax/baselines/trivial"
	"thorax/framework"
	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/graphs/golden"
)

// decoded are the images of one split, each file read once.
type decoded struct {
	set    *data.Dataset
	split  data.Split
	native func(i int) (data.Native, error)
}

func open(set *data.Dataset, split data.Split) decoded {
	once := make([]func() (data.Native, error), set.Len(split))
	for i := range once {
		once[i] = sync.OnceValues(func() (data.Native, error) { return set.Native(split, i) })
	}
	return decoded{set, split, func(i int) (data.Native, error) { return once[i]() }}
}

func (x decoded) Len() int                          { return x.set.Len(x.split) }
func (x decoded) Size() int                         { return x.set.Size() }
func (x decoded) Native(i int) (data.Native, error) { return x.native(i) }
func (x decoded) Pixels(i int) data.Pixels {
	p := data.Pixels{W: x.Size(), H: x.Size(), V: make([]float32, x.Size()*x.Size())}
	x.set.Pixels(x.split, i, p.V)
	return p
}

func scores(t *testing.T, m framework.Direct, x framework.Images) []float64 {
	t.Helper()
	s := make([]float64, x.Len())
	for i := range s {
		var err error
		if s[i], _, err = m.Score(x, i); err != nil {
			t.Fatal(err)
		}
		if math.IsNaN(s[i]) || math.IsInf(s[i], 0) {
			t.Fatalf("the score of image %d is %g", i, s[i])
		}
	}
	return s
}

func direct(t *testing.T, name string) framework.Direct {
	t.Helper()
	i, err := framework.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	m := i.New().(framework.Direct)
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return m
}

// drawn are n images of 48×40 pixels: noise round a grey value that differs.
type drawn struct {
	n    int
	seed uint64
}

func (x drawn) Len() int  { return x.n }
func (x drawn) Size() int { return 32 }
func (x drawn) Native(i int) (data.Native, error) {
	r := rand.New(rand.NewPCG(x.seed, uint64(i)))
	n := data.Native{W: 48, H: 40, V: make([]uint8, 48*40), FileBytes: 1000 + r.Int64N(100)}
	level := 60 + r.IntN(100)
	for k := range n.V {
		n.V[k] = uint8(level + r.IntN(40))
	}
	return n, nil
}
func (x drawn) Pixels(i int) data.Pixels {
	n, _ := x.Native(i)
	p := data.Pixels{W: 32, H: 32, V: make([]float32, 32*32)}
	for k := range p.V {
		p.V[k] = float32(n.V[k]) / 255
	}
	return p
}

// The state after Fit is what its JSON holds.
func TestState(t *testing.T) {
	for _, name := range framework.Names() {
		t.Run(name, func(t *testing.T) {
			m, again := direct(t, name), direct(t, name)
			if err := m.Fit(drawn{40, 1}, 7); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, again); err != nil {
				t.Fatal(err)
			}
			want := scores(t, m, drawn{10, 2})
			if got := scores(t, again, drawn{10, 2}); !slices.Equal(got, want) {
				t.Errorf("scores %v after a round trip, %v before", got, want)
			}
			if slices.Max(want) == slices.Min(want) {
				t.Errorf("all scores are %g", want[0])
			}
			if err := direct(t, name).Fit(drawn{}, 0); err == nil && name != "chance" {
				t.Error("fitted to no images")
			}
		})
	}
}

// An unfitted or foreign state is an error, not a score.
func TestUnfitted(t *testing.T) {
	for _, name := range []string{"grey_histogram", "all_quantities", "pca"} {
		if s, _, err := direct(t, name).Score(drawn{1, 1}, 0); err == nil {
			t.Errorf("%s: unfitted, score %g", name, s)
		}
	}
}

// Images that are all alike: a quantity's distance is not divided by 0.
func TestNoSpread(t *testing.T) {
	m := direct(t, "file_size")
	if err := m.Fit(drawn{1, 1}, 0); err != nil {
		t.Fatal(err)
	}
	if s := scores(t, m, drawn{1, 1}); s[0] != 0 {
		t.Errorf("the training image itself scores %g, want 0", s[0])
	}
	scores(t, m, drawn{5, 2})
}

func TestCheck(t *testing.T) {
	for _, m := range []framework.Direct{
		&trivial.Histogram{Bins: 1}, &trivial.Histogram{Bins: 257}, &trivial.PCA{}, &trivial.PCA{Components: 5000},
	} {
		if m.Check() == nil {
			t.Errorf("%+v passes", m)
		}
	}
}

// Chance depends on the seed and on the image, not on its place.
func TestChance(t *testing.T) {
	fit := func(seed uint64) framework.Direct {
		m := direct(t, "chance")
		if err := m.Fit(drawn{}, seed); err != nil {
			t.Fatal(err)
		}
		return m
	}
	x := drawn{500, 3}
	a, b, c := scores(t, fit(1), x), scores(t, fit(1), x), scores(t, fit(2), x)
	if !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Error("scores must depend on the seed and on nothing but it and the image")
	}
	mean := 0.0
	for _, v := range a {
		mean += v / float64(len(a))
	}
	// The mean of 500 uniform numbers has a standard error of 0.013.
	if math.Abs(mean-.5) > .05 || slices.Min(a) < 0 || slices.Max(a) >= 1 {
		t.Errorf("mean %g, range %g to %g; want uniform in [0,1)", mean, slices.Min(a), slices.Max(a))
	}
}

// With as many components as training images less one, these leave no residual.
func TestPCAComplete(t *testing.T) {
	m := direct(t, "pca").(*trivial.PCA)
	if err := m.Fit(drawn{20, 1}, 0); err != nil {
		t.Fatal(err)
	}
	if len(m.Basis) != 19 {
		t.Fatalf("%d components of 20 images, want 19", len(m.Basis))
	}
	for i, b := range m.Basis {
		for j, c := range m.Basis {
			dot, want := 0.0, 0.0
			for k := range b {
				dot += float64(b[k]) * float64(c[k])
			}
			if i == j {
				want = 1
			}
			if math.Abs(dot-want) > 1e-5 {
				t.Fatalf("components %d and %d: product %g, want %g", i, j, dot, want)
			}
		}
	}
	for i, s := range scores(t, m, drawn{20, 1}) {
		if s > 1e-10 {
			t.Errorf("training image %d: residual %g, want 0", i, s)
		}
	}
	for i, s := range scores(t, m, drawn{5, 9}) {
		if s < 1e-5 {
			t.Errorf("new image %d: residual %g, want more", i, s)
		}
	}
}

// The figures are those of shared/golden/reference-auc.md, section 2, computed
// with Pillow 12, NumPy and scikit-learn on the same files.
func TestReference(t *testing.T) {
	for _, set := range []struct {
		name, kind string
		want       map[string]float64
	}{
		{"zhanglab", "zhanglab", map[string]float64{
			"mean_intensity": .498, "file_size": .805, "grey_histogram": .673, "complexity": .803, "all_quantities": .743, "pca": .440,
		}},
		{"sarscov2_ct", "folder", map[string]float64{
			"mean_intensity": .661, "file_size": .760, "grey_histogram": .875, "complexity": .547, "all_quantities": .844, "pca": .707,
		}},
	} {
		t.Run(set.name, func(t *testing.T) {
			root := filepath.Join(golden.Root(t), "..", "shared", "data", set.name)
			if _, err := os.Stat(root); err != nil {
				golden.Missing(t, "no real images: "+err.Error())
			}
			o := data.DefaultOptions()
			o.Set, o.Root, o.Size, o.Validation = set.kind, root, 64, 0
			d, err := data.Open(o, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			var abnormal []bool
			for _, it := range d.Items(data.Test) {
				abnormal = append(abnormal, it.Abnormal)
			}
			train, test := open(d, data.Train), open(d, data.Test)
			for name, want := range set.want {
				m := direct(t, name)
				if err := m.Fit(train, 0); err != nil {
					t.Fatal(err)
				}
				got, err := metric.AUROC(scores(t, m, test), abnormal)
				if err != nil || math.Abs(got-want) > .01 {
					t.Errorf("%s: AUROC %.4f, %v; want %.3f", name, got, err, want)
				}
				t.Logf("%s: AUROC %.4f, reference %.3f", name, got, want)
			}
		})
	}
}
