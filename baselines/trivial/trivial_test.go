package trivial_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	_ "thorax/baselines/trivial"
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

var _ = json.Marshal
