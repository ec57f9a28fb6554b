package report

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// Every kind in every format, from made-up runs with a sweep.
func TestPlots(t *testing.T) {
	root := makeRuns(t)
	for i, latent := range []int{4, 16, 64} {
		for seed := range 2 {
			for d, data := range []string{"phantom-32", "ct-32"} {
				makeRun(t, root, d, data, 10+i, seed, made{label: fmt.Sprintf("AE latent=%d", latent), method: "ae", family: "reconstruction", seeds: 2, shift: .8 + .4*float64(i)})
			}
		}
	}
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if dir := os.Getenv("THORAX_SCREENSHOT"); dir != "" { // for people to look at
		out = dir
	}
	o := Options{Metrics: []string{"auroc", "sens@q-val.05"}, Resamples: 200}
	o.Plots = []string{"svg"}
	files, left, err := Plots(out, entries, []string{"roc", "pr", "scores", "calibration", "dots", "sweep", "ranks"}, o)
	if err != nil || len(left) > 0 || len(files) != 6*2+1 {
		t.Fatalf("%v, left out %q, files %q", err, left, files)
	}
	o.Plots, o.Resamples = []string{"png", "pdf"}, 100
	one, err := record.Find(filepath.Join(root, "ct-32"))
	if err != nil {
		t.Fatal(err)
	}
	more, left, err := Plots(out, one, []string{"roc", "scores", "dots"}, o)
	if err != nil || len(left) > 0 || len(more) != 6 {
		t.Fatalf("%v, left out %q, files %q", err, left, more)
	}
	files = append(files, more...)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Ext(file) {
		case ".png":
			img, err := png.Decode(bytes.NewReader(b))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			first, painted := img.At(0, 0), false
			for x := range img.Bounds().Dx() {
				painted = painted || img.At(x, img.Bounds().Dy()/2) != first
			}
			if !painted {
				t.Errorf("%s: nothing across its middle", file)
			}
		case ".pdf":
			if !bytes.HasPrefix(b, []byte("%PDF-")) {
				t.Errorf("%s is no PDF", file)
			}
		case ".svg":
			if bytes.Contains(b, []byte("NaN")) || !bytes.Contains(b, []byte("AE")) {
				t.Errorf("%s holds NaN or lacks the rows", file)
			}
		}
	}
	if _, _, err := Plots(out, entries, []string{"pie"}, o); err == nil || !strings.Contains(err.Error(), "calibration") {
		t.Errorf("a pie: %v", err)
	}
	few, err := record.Find(filepath.Join(root, "ct-32/chance"))
	if err != nil {
		t.Fatal(err)
	}
	if _, left, err = Plots(out, few, []string{"sweep", "ranks"}, o); err != nil || len(left) != 2 {
		t.Errorf("nothing varied, one set: %v, left out %q", err, left)
	}
}

// On all images once, the curve is the trapezoid of package metric.
func TestAddTPR(t *testing.T) {
	scores := []float64{.1, .2, .3, .3, .6, .3, .5, .6, .8, .9}
	abnormal := []bool{false, false, false, false, false, true, true, true, true, true}
	order := []int{9, 8, 4, 7, 6, 2, 3, 5, 1, 0}
	points, err := metric.ROC(scores, abnormal)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float64, grid+1)
	addTPR(got, order, scores, abnormal, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 1)
	for k, v := range got {
		if want := tprAt(points, float64(k)/grid); math.Abs(v-want) > 1e-12 {
			t.Errorf("at %d/%d: %g, want %g", k, grid, v, want)
		}
	}
	// An image drawn twice counts as two.
	twice := make([]float64, grid+1)
	addTPR(twice, order, scores, abnormal, []int{1, 1, 0, 1, 2, 0, 1, 2, 1, 1}, 1)
	again := make([]float64, grid+1)
	s2 := []float64{.1, .2, .3, .6, .6, .5, .6, .6, .8, .9}
	addTPR(again, []int{9, 8, 3, 4, 6, 7, 5, 2, 1, 0}, s2, abnormal, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 1)
	if diff := cmp.Diff(again, twice); diff != "" {
		t.Error(diff)
	}
}

// The band holds the curve, and is that of the AUROC's interval at its mean height.
func TestBand(t *testing.T) {
	root := t.TempDir()
	writeRow(t, root, "a", 2, func(seed, i int) float64 { return float64(i%20) + float64(i)/4 + float64(seed*i%3) }, nil)
	s := collected(t, root, "auroc")
	st := studied(t, s)
	low, top, mean, err := st.band(s.rows[0])
	if err != nil {
		t.Fatal(err)
	}
	var area float64
	for k := range mean {
		if !(low[k].Y <= mean[k].Y+1e-9 && mean[k].Y <= top[k].Y+1e-9) {
			t.Errorf("at %g: %g not in [%g, %g]", mean[k].X, mean[k].Y, low[k].Y, top[k].Y)
		}
		if k > 0 {
			area += (mean[k].Y + mean[k-1].Y) / 2 / grid
		}
	}
	if want := metric.Summarize(s.rows[0].values(s, s.all[0])).Mean; math.Abs(area-want) > .02 {
		t.Errorf("area %g under the mean curve, AUROC %g", area, want)
	}
}

// By hand: of validation normals 0 … .95 in steps of .05, the threshold at a share of
// .1 lies just above .85; of the test normals 0, .5, .85, .9 three are below.
func TestSpecificity(t *testing.T) {
	var normals []float64
	for i := range 20 {
		normals = append(normals, float64(i)/20)
	}
	in := metric.Input{Scores: []float64{0, .5, .85, .9, .99}, Abnormal: []bool{false, false, false, false, true}}
	if got, err := specificity(in, normals, .1); err != nil || got != .75 {
		t.Errorf("specificity %g, %v, want .75", got, err)
	}
	if _, err := specificity(metric.Input{Scores: []float64{1}, Abnormal: []bool{true}}, normals, .1); !errors.Is(err, metric.ErrOneClass) {
		t.Errorf("no test normals: %v", err)
	}
}

// By hand: three sets, ranks 1 2 3, 1 3 2 and 1.5 1.5 3; means 3.5/3, 6.5/3, 8/3;
// χ² = 12·3/(3·4)·(Σ r² − 3·16/4) = 3·(1.3611 + 4.6944 + 7.1111 − 12) = 3.5,
// of which the tail with 2 degrees of freedom is e^(−1.75).
func TestFriedman(t *testing.T) {
	c := friedman([][]float64{{.9, .8, .7}, {.9, .6, .7}, {.8, .8, .1}})
	for i, want := range []float64{3.5 / 3, 6.5 / 3, 8. / 3} {
		if math.Abs(c.mean[i]-want) > 1e-12 {
			t.Errorf("mean rank %d: %g, want %g", i, c.mean[i], want)
		}
	}
	if want := math.Exp(-1.75); math.Abs(c.p-want) > 1e-9 {
		t.Errorf("p %g, want %g", c.p, want)
	}
	if want := 2.343 * math.Sqrt(12./18); math.Abs(c.cd-want) > 1e-9 {
		t.Errorf("critical difference %g, want %g", c.cd, want)
	}
	c.labels, c.cd = []string{"a", "b", "c"}, .6
	if diff := cmp.Diff([][2]float64{{6.5 / 3, 8. / 3}}, c.cliques()); diff != "" {
		t.Error(diff)
	}
}

func TestVaried(t *testing.T) {
	for label, want := range map[string]string{"ae latent=16": "ae, by latent 16 true", "ae size=big": "ae, by size 0 false", "ae": " 0 false", "my ae": "my, by ae 0 false"} {
		name, x, ok := varied(label)
		if got := fmt.Sprint(name, " ", x, " ", ok); got != want {
			t.Errorf("%q: %s, want %s", label, got, want)
		}
	}
}
