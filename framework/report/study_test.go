package report

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"thorax/framework/metric"
	"thorax/framework/published"
	"thorax/framework/record"
)

// writeRow writes a complete run for each seed; score gives the score of test
// image i, of which the first ten are normal.
func writeRow(t *testing.T, root, label string, seeds int, score func(seed, i int) float64, group func(i int) string) {
	t.Helper()
	for seed := range seeds {
		f, err := record.Create(filepath.Join(root, "d-32", record.Slug(label), fmt.Sprintf("seed-%d", seed)))
		if err != nil {
			t.Fatal(err)
		}
		var scores []record.Score
		for i := range 40 {
			s := record.Score{Split: "test", Path: fmt.Sprintf("%02d.png", i), Abnormal: i >= 20, Score: score(seed, i)}
			if group != nil {
				s.Group = group(i)
			}
			scores = append(scores, s)
		}
		for i := range 20 {
			scores = append(scores, record.Score{Split: "validation", Path: fmt.Sprintf("v%02d.png", i), Score: float64(i) / 20})
		}
		config := "seed = 0\n[data]\nset = \"folder\"\nsize = 32\n[method]\nname = \"ae\"\nlatent = 4\n"
		run := record.Run{Status: record.Complete, Experiment: "x", Data: "d-32", Method: "ae", Label: label, Seed: int64(seed),
			SplitRule: "validation: 20 of 120 normal training images; training: 100"}
		if err := errors.Join(f.WriteScores(scores), f.WriteRun(run), f.WriteConfig([]byte(config))); err != nil {
			t.Fatal(err)
		}
	}
}

func collected(t *testing.T, root string, metrics ...string) *set {
	t.Helper()
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	sets, err := collect(entries, Options{Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	return sets[0]
}

func studied(t *testing.T, s *set) *study {
	t.Helper()
	st, err := newStudy(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// perfect and blind rank all images right and half of the pairs right.
func perfect(seed, i int) float64 { return float64(i) }
func blind(seed, i int) float64   { return float64((i*7 + seed) % 20) }

func TestStandings(t *testing.T) {
	// The lowest p of 2,000 resamples is 2/2001; Holm doubles it for two comparisons.
	for _, tt := range []struct {
		name string
		rows map[string]func(seed, i int) float64
		want map[string]standing
	}{
		{"one is far better", map[string]func(int, int) float64{"a": perfect, "b": blind}, map[string]standing{"a": best, "b": farWorse}},
		{"two are equal", map[string]func(int, int) float64{"a": perfect, "b": perfect, "c": blind}, map[string]standing{"a": tied, "b": tied, "c": muchWorse}},
		{"nothing is best alone", map[string]func(int, int) float64{"a": perfect}, map[string]standing{"a": untested}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for label, score := range tt.rows {
				writeRow(t, root, label, 2, score, nil)
			}
			s := collected(t, root, "auroc")
			got := map[string]standing{}
			st := studied(t, s)
			for _, r := range s.rows {
				got[r.label] = st.standings(s, s.all[0])[r]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The tests of a pair are those of package metric on scores in the order of paths.
func TestPairs(t *testing.T) {
	root := t.TempDir()
	weak := func(seed, i int) float64 { return float64(i%20) + float64(i)/4 + float64(seed) }
	writeRow(t, root, "a", 3, weak, nil)
	writeRow(t, root, "b", 3, blind, nil)
	s := collected(t, root, "auroc", "ap")
	st := studied(t, s)
	pairs := st.pairs(s, s.all[0])
	if len(pairs) != 1 {
		t.Fatalf("%d pairs of two rows", len(pairs))
	}
	var a, b, aurocA, aurocB []float64
	var abnormal []bool
	for i := range 40 {
		var x, y float64
		for seed := range 3 {
			x, y = x+weak(seed, i)/3, y+blind(seed, i)/3
		}
		a, b, abnormal = append(a, x), append(b, y), append(abnormal, i >= 20)
	}
	for seed := range 3 {
		var x, y []float64
		for i := range 40 {
			x, y = append(x, weak(seed, i)), append(y, blind(seed, i))
		}
		u, _ := metric.AUROC(x, abnormal)
		v, _ := metric.AUROC(y, abnormal)
		aurocA, aurocB = append(aurocA, u), append(aurocB, v)
	}
	delong, err := metric.DeLong(a, b, abnormal)
	if err != nil {
		t.Fatal(err)
	}
	welch, err := metric.Welch(metric.Summarize(aurocA), metric.Summarize(aurocB))
	if err != nil {
		t.Fatal(err)
	}
	x := pairs[0]
	if math.Abs(x.delong.value-delong.P) > 1e-9 || math.Abs(x.welch.value-welch.P) > 1e-9 || x.delong.holm != x.delong.value || math.Abs(x.averaged-delong.Difference) > 1e-12 {
		t.Errorf("DeLong %g, Welch %g; want %g, %g", x.delong.value, x.welch.value, delong.P, welch.P)
	}
	if want := metric.Summarize(aurocA).Mean - metric.Summarize(aurocB).Mean; math.Abs(x.difference.Value-want) > 1e-12 || !(x.difference.Low < want && want < x.difference.High) {
		t.Errorf("difference %+v, want %g inside", x.difference, want)
	}
	if ap := st.pairs(s, s.all[1])[0]; !math.IsNaN(ap.delong.value) || math.IsNaN(ap.bootstrap.value) {
		t.Errorf("AP: %+v, want a bootstrap and no DeLong", ap)
	}
	if got, want := x.text(), signedDigits(delong.Difference); !strings.HasPrefix(got, want) {
		t.Errorf("the matrix says %s, DeLong's difference is %s", got, want)
	}
	m, ok := st.newMatrix(s)
	if !ok || m.cells[0][1].difference.Value != -m.cells[1][0].difference.Value || m.cells[0][1].difference.Low != -m.cells[1][0].difference.High {
		t.Errorf("matrix %+v", m)
	}
}

// Where every image names its patient, patients are resampled: with all normal
// images of one and all abnormal ones of another nothing varies.
func TestGroupsAreResampled(t *testing.T) {
	root := t.TempDir()
	writeRow(t, root, "a", 1, blind, func(i int) string { return fmt.Sprint("patient", i/20) })
	s := collected(t, root, "auroc")
	st := studied(t, s)
	if i, ok := st.interval(s.rows[0], s.all[0]); !ok || !st.grouped || i.Low != i.High {
		t.Errorf("interval %+v, grouped %v", i, st.grouped)
	}
	other := t.TempDir()
	writeRow(t, other, "a", 1, blind, func(i int) string { return strings.Repeat("p", i%2) })
	s = collected(t, other, "auroc")
	st = studied(t, s)
	if i, ok := st.interval(s.rows[0], s.all[0]); !ok || st.grouped || i.Low >= i.High {
		t.Errorf("some patients unknown: interval %+v, grouped %v", i, st.grouped)
	}
}

func TestTwins(t *testing.T) {
	root := t.TempDir()
	writeRow(t, root, "a", 2, blind, nil)
	s := collected(t, root, "auroc", "f1@q-val.05", "acc@acc-test", "f1@f1-test", "sens@spec.95", "dice@q-val.01")
	var heads []string
	columns := s.columns(Options{Twins: true})
	for _, c := range columns {
		heads = append(heads, c.name)
	}
	// dice@best was recorded by no run, and f1@f1-test is there already.
	want := []string{"auroc", "f1@q-val.05", "f1@f1-test", "gap:f1@f1-test", "acc@q-val.05", "acc@acc-test", "gap:acc@acc-test",
		"sens@q-val.05", "sens@spec.95", "gap:sens@spec.95", "dice@q-val.01"}
	if diff := cmp.Diff(want, heads); diff != "" {
		t.Error(diff)
	}
	tbl := newTable(s, nil, Options{Twins: true})
	cells := tbl.rows[0].cells
	if got, want := cells[3].mean, cells[2].mean-cells[1].mean; cells[3].n != 2 || math.Abs(got-want) > 1e-12 || got < 0 {
		t.Errorf("gap %+v, want %g", cells[3], want)
	}
	if !tbl.columns[2].oracle || tbl.columns[1].oracle || !tbl.columns[3].oracle {
		t.Error("the oracle is not marked")
	}
}

func TestPublishedColumn(t *testing.T) {
	dir := t.TempDir()
	text := `source = "a paper"
url = "https://example.org"
unit = "percent"
protocol = { size = 32, repeats = 2, selection = "last", threshold = "none", split = "100/20/20" }
[[figure]]
table = "Table 1"
data = "d"
method = "ae"
label = "AE"
latent = 4
auroc = { mean = 97.5, sd = 0.1 }
`
	path := filepath.Join(dir, "paper.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := published.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	writeRow(t, root, "a", 2, perfect, nil)
	s := collected(t, root, "auroc", "ap")
	tbl := newTable(s, nil, Options{Published: []*published.File{file}})
	if got, want := tbl.columns[1].text(tbl.rows[0].cells[1]), "97.5 ± 0.1, +2.5 (+25.0 sd), short"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if len(tbl.columns) != 3 || tbl.columns[2].name != "ap" {
		t.Errorf("AP, which the paper lacks, has a column: %+v", tbl.columns)
	}
	// A third seed is another protocol.
	writeRow(t, root, "a", 3, perfect, nil)
	s = collected(t, root, "auroc")
	tbl = newTable(s, nil, Options{Published: []*published.File{file}})
	cell := tbl.rows[0].cells[1]
	if got := tbl.columns[1].text(cell); got != "97.5 ± 0.1, not comparable" || !strings.Contains(tbl.noteTexts(cell.marks), "repeats: ours 3, theirs 2") {
		t.Errorf("%q with notes %q", got, tbl.notes)
	}
	// So are training images with abnormal ones among them.
	root = t.TempDir()
	writeRow(t, root, "a", 2, perfect, nil)
	for seed := range 2 {
		f := &record.Folder{Dir: filepath.Join(root, "d-32", "a", fmt.Sprintf("seed-%d", seed))}
		if err := f.WriteConfig([]byte("seed = 0\n[data]\nset = \"folder\"\nsize = 32\ncontamination = 0.1\n[method]\nname = \"ae\"\nlatent = 4\n")); err != nil {
			t.Fatal(err)
		}
	}
	s = collected(t, root, "auroc")
	tbl = newTable(s, nil, Options{Published: []*published.File{file}})
	cell = tbl.rows[0].cells[1]
	if got := tbl.columns[1].text(cell); got != "97.5 ± 0.1, not comparable" || !strings.Contains(tbl.noteTexts(cell.marks), "split: ours training contaminated by 10 %") {
		t.Errorf("%q with notes %q", got, tbl.notes)
	}
}

// Every option at once, and twice to the same bytes.
func TestFullTable(t *testing.T) {
	entries, err := record.Find(filepath.Join(makeRuns(t), "ct-32"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Metrics: []string{"auroc", "f1@q-val.05"}, Intervals: true, Tests: true, Twins: true, Resamples: 200}
	var first, second bytes.Buffer
	if err := errors.Join(Terminal(&first, entries, o), Terminal(&second, entries, o)); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() {
		t.Error("two tables of the same runs differ")
	}
	golden(t, "full.txt", first.Bytes())
}
