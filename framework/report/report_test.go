package report

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"thorax/framework/metric"
	"thorax/framework/record"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// made describes the runs of one row of the made-up experiment.
type made struct {
	label, method, family string
	seeds                 int
	shift                 float64 // of abnormal scores, in sd of the normal ones
	notes                 []string
	maps                  bool
	spoil                 func(f *record.Folder, r *record.Run) // of the last seed
}

// makeRuns writes two data sets of made-up runs: 24 validation normals, 40 normal
// and 60 abnormal test images, scores from a seeded generator.
func makeRuns(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "made")
	for d, data := range []string{"phantom-32", "ct-32"} {
		for row, m := range []made{
			{label: "AE (latent 64)", method: "ae", family: "reconstruction", seeds: 3, shift: 1, maps: true},
			{label: "PaDiM_R", method: "padim", family: "feature", seeds: 3, shift: 1.7, notes: []string{"random backbone weights"}, maps: true},
			{label: "CutPaste 50% & more", method: "cutpaste", family: "synthesis", seeds: 3, shift: 1.3, spoil: func(f *record.Folder, r *record.Run) {
				r.Status, r.Error = record.Failed, "step 120: loss density is NaN"
			}},
			{label: "FPI", method: "fpi", family: "synthesis", seeds: 2, spoil: func(f *record.Folder, r *record.Run) {
				os.Remove(f.Path("run.json"))
				os.Remove(f.Path("scores.csv"))
			}},
			{label: "chance", method: "chance", family: "trivial", seeds: 3, shift: 0},
			{label: "file size", method: "file_size", family: "trivial", seeds: 1, shift: .8},
		} {
			if data == "ct-32" && row > 1 && m.family != "trivial" {
				continue
			}
			for seed := range m.seeds {
				makeRun(t, root, d, data, row, seed, m)
			}
		}
	}
	return root
}

func makeRun(t *testing.T, root string, d int, data string, row, seed int, m made) {
	t.Helper()
	f, err := record.Create(filepath.Join(root, data, record.Slug(m.label), fmt.Sprintf("seed-%d", seed)))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(d), uint64(100*row+seed)))
	var scores []record.Score
	add := func(split string, abnormal bool, n int) {
		for i := range n {
			s := record.Score{Split: split, Path: fmt.Sprintf("%s/%t/%02d.png", split, abnormal, i), Abnormal: abnormal, Score: random.NormFloat64()}
			if abnormal {
				s.Score += m.shift
				s.Subtype = []string{"cancer", "fungal", "fungal"}[i%3]
			}
			scores = append(scores, s)
		}
	}
	add("validation", false, 24)
	add("test", false, 40)
	add("test", true, 60)
	figures := []metric.Figure{{Name: "pixel-ap", ID: "pixel-ap/step/all-images", Reason: "the method has no anomaly map"}}
	if m.maps {
		figures[0] = metric.Figure{Name: "pixel-ap", ID: "pixel-ap/step/all-images", OK: true, Value: .25 + .01*float64(seed)*m.shift}
		maps := record.NewMaps(100, 8, 8)
		for i := range 100 {
			v := make([]float32, 64)
			for j := range v {
				v[j] = float32(math.Abs(random.NormFloat64())) / 4
			}
			v[27], v[28], v[35], v[36] = 1, 2, 3, 4
			if err := maps.Set(i, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.WriteMaps("test", maps); err != nil {
			t.Fatal(err)
		}
	}
	run := record.Run{
		Status: record.Complete, Experiment: "made", Title: "Made-up runs", Data: data, Method: m.method, Label: m.label,
		Family: m.family, Row: row, Seed: int64(seed), Hash: fmt.Sprintf("%064x", row*10+seed), Revision: "0123456789abcdef",
		TensorFlow: "2.18.1", Go: "go1.26", Device: "CPU", CPU: "made-up processor", Threads: 2, Precision: "float32",
		Started: time.Date(2026, 1, 2, 3, 4, 5+seed, 0, time.UTC), Notes: m.notes,
		Fingerprint: record.Fingerprint{Files: 300, SHA256: strings.Repeat("c0de", 16)}, SplitRule: "0.1 of the training normals, split seed 0",
	}
	if m.family != trivial {
		run.TrainSeconds, run.MsPerImage, run.Parameters, run.PeakMemory = 61.5+float64(seed), 3.25, 4_713_000*int64(row+1), 512<<20
	}
	if err := errors.Join(f.WriteScores(scores), f.WriteFigures(figures)); err != nil {
		t.Fatal(err)
	}
	spoil := m.spoil != nil && seed == m.seeds-1
	if spoil {
		m.spoil(f, &run)
		if run.Status == record.Complete {
			return
		}
	}
	if err := f.WriteRun(run); err != nil {
		t.Fatal(err)
	}
}

var options = Options{
	Metrics: []string{"auroc", "ap", "sens@q-val.05", "f1@q-val.05", "f1@f1-test", "pixel-ap"},
	Costs:   true, Resamples: 200,
	Images: map[string]Images{"ct-32": squares{}}, // none for phantom-32
}

// squares is a grey picture with a bright square for every path.
type squares struct{}

func (squares) Pixels(path string) (w, h int, v []uint8, ok bool) {
	v = make([]uint8, 32*32)
	for i := range v {
		v[i] = uint8(4 * (i % 32))
		if i/32 > 12 && i/32 < 20 && i%32 > 12 && i%32 < 20 {
			v[i] = 230
		}
	}
	return 32, 32, v, true
}

func TestGolden(t *testing.T) {
	root := makeRuns(t)
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	files, err := Write(out, entries, options)
	if err != nil {
		t.Fatal(err)
	}
	var terminal bytes.Buffer
	if err := Terminal(&terminal, entries, options); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", terminal.Bytes())
	for _, file := range files {
		switch b, err := os.ReadFile(file); {
		case err != nil:
			t.Error(err)
		case filepath.Ext(file) == ".svg" || filepath.Ext(file) == ".png": // TestROC
		case filepath.Ext(file) == ".html":
			golden(t, "report.html", withoutPictures(b))
		default:
			golden(t, filepath.Base(file), b)
		}
	}
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(file))
	}
	want := []string{"table.md", "table.csv", "table.tex", "significance.csv", "roc-ct-32.png", "roc-ct-32.svg", "roc-phantom-32.png", "roc-phantom-32.svg", "report.html"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

var pictures = regexp.MustCompile(`(?s)<svg.*?</svg>|data:image/[a-z]+;base64,[A-Za-z0-9+/=&#;]+`)

func withoutPictures(page []byte) []byte { return pictures.ReplaceAll(page, []byte("PICTURE")) }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update makes it", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// By hand: mean 3, squared distances 4+0+4 over n−1 = 2.
func TestSummarize(t *testing.T) {
	if mean, sd := summarize([]float64{1, 3, 5}); mean != 3 || sd != 2 {
		t.Errorf("summarize = %g ± %g, want 3 ± 2", mean, sd)
	}
	if mean, sd := summarize([]float64{7}); mean != 7 || !math.IsNaN(sd) {
		t.Errorf("summarize of one = %g ± %g, want 7 ± NaN", mean, sd)
	}
}

// Image metrics are recomputed, pixel metrics are not, and a changed definition
// does not pass silently.
func TestFiguresAreRecomputed(t *testing.T) {
	f, err := record.Create(filepath.Join(t.TempDir(), "x/d/ae/seed-0"))
	if err != nil {
		t.Fatal(err)
	}
	// Scores A of the reference vectors: AUROC 0.86, AP 0.835.
	var scores []record.Score
	for i, s := range []float64{.1, .2, .3, .3, .6, .3, .5, .6, .8, .9} {
		scores = append(scores, record.Score{Split: "test", Path: fmt.Sprint(i), Abnormal: i > 4, Score: s})
	}
	err = errors.Join(f.WriteScores(scores), f.WriteRun(record.Run{Status: record.Complete, Label: "ae", Data: "d"}),
		f.WriteFigures([]metric.Figure{
			{Name: "ap", ID: "ap/another-definition", OK: true, Value: .1},
			{Name: "pixel-ap", ID: "pixel-ap/another-definition", OK: true, Value: .1},
		}))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := record.Find(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	sets, err := collect(entries, Options{Metrics: []string{"auroc", "ap", "pixel-ap", "sens@q-val.05"}})
	if err != nil {
		t.Fatal(err)
	}
	figures := sets[0].rows[0].runs[0].figures
	for i, want := range []float64{.86, .835} {
		if math.Abs(figures[i].Value-want) > 1e-12 {
			t.Errorf("%s = %g, want %g", figures[i].Name, figures[i].Value, want)
		}
	}
	if figures[2].OK || !strings.Contains(figures[2].Reason, "another-definition") {
		t.Errorf("pixel-ap of another definition: %+v", figures[2])
	}
	if figures[3].OK || !strings.Contains(figures[3].Reason, "validation") {
		t.Errorf("q-val without validation: %+v", figures[3])
	}
}

func TestCollectRefuses(t *testing.T) {
	if _, err := collect(nil, Options{}); err == nil {
		t.Error("no runs: no error")
	}
	root := t.TempDir()
	for _, dir := range []string{"x/d/ae/seed-0", "copy/d/ae/seed-0"} {
		f, err := record.Create(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.WriteRun(record.Run{Status: record.Complete, Experiment: "x", Label: "AE", Data: "d"}); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(entries, Options{}); err == nil || !strings.Contains(err.Error(), "same row") {
		t.Errorf("one run twice: %v", err)
	}
	if _, err := collect(entries[:1], Options{Metrics: []string{"aurok"}}); err == nil || !strings.Contains(err.Error(), "auroc") {
		t.Errorf("unknown metric: %v", err)
	}
}

// A row on other test images neither competes nor hides.
func TestOtherImages(t *testing.T) {
	root := makeRuns(t)
	dir := filepath.Join(root, "phantom-32/padim_r/seed-0")
	f, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	scores, err := f.Scores()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteScores(scores[:len(scores)-1]); err != nil {
		t.Fatal(err)
	}
	entries, err := record.Find(filepath.Join(root, "phantom-32"))
	if err != nil {
		t.Fatal(err)
	}
	sets, err := collect(entries, Options{Metrics: []string{"auroc"}})
	if err != nil {
		t.Fatal(err)
	}
	tbl := newTable(sets[0], nil, Options{})
	row := tbl.rows[1]
	if row.label != "PaDiM_R" || row.cells[0].best || !strings.Contains(tbl.noteTexts(row.marks), "other test images than AE (latent 64), seed 0") {
		t.Errorf("row %+v, notes %q", row, tbl.notes)
	}
}

func TestEscapes(t *testing.T) {
	if got, want := escapeLaTeX(`50% & a_b {c} \ 1~2 ± <`), `50\% \& a\_b \{c\} \textbackslash{} 1\textasciitilde{}2 $\pm$ $<$`; got != want {
		t.Errorf("escapeLaTeX = %q, want %q", got, want)
	}
	if got, want := escapeMarkdown(`a|b *c* <d> a_b`), `a\|b \*c\* &lt;d&gt; a\_b`; got != want {
		t.Errorf("escapeMarkdown = %q, want %q", got, want)
	}
}

// The vertical average of the two curves (0,0)(.5,1)(1,1) and (0,0)(.5,0)(1,1) is
// .25 at .25 (.5 and 0), half way at .5 (1 and 0) and .75 at .75 (1 and .5).
func TestAverage(t *testing.T) {
	c := average([][]metric.ROCPoint{
		{{FPR: 0, TPR: 0}, {FPR: .5, TPR: 1}, {FPR: 1, TPR: 1}},
		{{FPR: 0, TPR: 0}, {FPR: .5, TPR: 0}, {FPR: 1, TPR: 1}},
	})
	found := 0
	for i, p := range c.mean {
		for x, want := range map[float64][2]float64{.25: {.25, .5 / math.Sqrt2}, .5: {.5, 1 / math.Sqrt2}, .75: {.75, .5 / math.Sqrt2}} {
			if p.X != x {
				continue
			}
			found++
			if math.Abs(p.Y-want[0]) > 1e-12 || math.Abs(c.low[i].Y-max(0, want[0]-want[1])) > 1e-12 || math.Abs(c.top[i].Y-min(1, want[0]+want[1])) > 1e-12 {
				t.Errorf("at %g: %g in [%g,%g], want %g ± %g", x, p.Y, c.low[i].Y, c.top[i].Y, want[0], want[1])
			}
		}
	}
	if found != 3 {
		t.Errorf("%d of 3 places on the grid", found)
	}
}

func TestROC(t *testing.T) {
	entries, err := record.Find(makeRuns(t))
	if err != nil {
		t.Fatal(err)
	}
	sets, err := collect(entries, Options{Metrics: []string{"auroc"}})
	if err != nil {
		t.Fatal(err)
	}
	plot, err := newROC(sets[1])
	if err != nil {
		t.Fatal(err)
	}
	var svg, picture, pdf bytes.Buffer
	if err := errors.Join(plot.draw(&svg, "svg"), plot.draw(&picture, "png"), plot.draw(&pdf, "pdf")); err != nil {
		t.Fatal(err)
	}
	tbl := newTable(sets[1], nil, Options{})
	for _, r := range tbl.rows {
		if r.done > 0 && !strings.Contains(svg.String(), r.label[:3]) {
			t.Errorf("the SVG does not name %s", r.label)
		}
		if r.done > 0 && !strings.Contains(svg.String(), tbl.columns[0].text(r.cells[0])) {
			t.Errorf("the SVG lacks the AUROC %s of %s", tbl.columns[0].text(r.cells[0]), r.label)
		}
	}
	img, err := png.Decode(&picture)
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dy() < 900 || b.Dx() < b.Dy() { // 12.5 cm at 200 dpi are 984 pixels
		t.Errorf("PNG of %d×%d pixels", b.Dx(), b.Dy())
	}
	if !bytes.HasPrefix(pdf.Bytes(), []byte("%PDF-")) {
		t.Error("not a PDF")
	}
	if err := plot.draw(&pdf, "gif"); err == nil {
		t.Error("a gif was drawn")
	}
}

// Three methods agree on the worst images but one; the choice is by the mean rank.
func TestChooseCases(t *testing.T) {
	s := &set{rows: []*row{fixedRow("a"), fixedRow("b"), fixedRow("c")}}
	s.rows[2].runs[0].scores[0].Score = 90 // one method sees the worst miss
	sheet, err := newSheet(s, squares{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	paths := func(g caseGroup) (paths []string) {
		for _, c := range g.Cases {
			paths = append(paths, c.Path)
		}
		return paths
	}
	// Of 16 places from the top, abnormal/1, /2 and /3 hold 15, 14 and 12.5 with two
	// methods and one more with the third; abnormal/0 holds 16, 16 and 1, a mean of
	// 11, still below abnormal/4 with 10.5, 10.5 and 11.5.
	if diff := cmp.Diff([]string{"abnormal/1", "abnormal/2", "abnormal/3", "abnormal/0"}, paths(sheet.Groups[0])); diff != "" {
		t.Errorf("misses: %s", diff)
	}
	if diff := cmp.Diff([]string{"normal/0", "normal/1", "normal/2", "normal/3"}, paths(sheet.Groups[1])); diff != "" {
		t.Errorf("false alarms: %s", diff)
	}
	random := paths(sheet.Groups[2])
	if len(random) != casesEach {
		t.Errorf("random: %v", random)
	}
	for _, path := range random {
		if digit := path[len(path)-1]; digit < '4' {
			t.Errorf("random: %s is shown already", path)
		}
	}
	cell := sheet.Groups[1].Cases[0].Cells[2]
	if cell.Rank != 2 || cell.Of != 16 || cell.Score != "10" || cell.Picture != "" {
		t.Errorf("normal/0 under the third method: %+v, want rank 2 of 16, no map", cell)
	}
	if none, err := newSheet(s, nil, errors.New("data/x is missing")); err != nil || !strings.Contains(none.Note, "data/x is missing") {
		t.Errorf("missing images: %+v, %v", none, err)
	}
	if none, err := newSheet(s, nil, nil); err != nil || none.Note == "" {
		t.Errorf("without images: %+v, %v", none, err)
	}
}

// fixedRow is a row of eight abnormal images with scores 0, 1, … and eight normal
// ones with 10, 9, …, without maps.
func fixedRow(label string) *row {
	r := &run{state: record.State(record.Complete)}
	r.Folder = &record.Folder{Dir: "testdata/nowhere"}
	for i := range 8 {
		r.scores = append(r.scores, record.Score{Split: "test", Path: fmt.Sprintf("abnormal/%d", i), Abnormal: true, Score: float64(i)})
	}
	for i := range 8 {
		r.scores = append(r.scores, record.Score{Split: "test", Path: fmt.Sprintf("normal/%d", i), Score: float64(10 - i)})
	}
	return &row{label: label, runs: []*run{r}}
}

func TestSharedRanks(t *testing.T) {
	c := caseColumn{}
	for _, s := range []float64{.5, .9, .5, .1} {
		c.test = append(c.test, record.Score{Score: s})
	}
	c.setRanks()
	if diff := cmp.Diff([]int{2, 1, 2, 4}, c.rank); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]float64{.5, .125, .5, .875}, c.share); diff != "" { // (mid-rank − ½)/4 of 2.5, 1, 2.5, 4
		t.Error(diff)
	}
}

// A map of the picture's size is read as it is, and pixels at or below the low end
// leave the picture untouched.
func TestOverlay(t *testing.T) {
	picture := &image.Gray{Pix: []uint8{10, 20, 30, 40}, Stride: 2, Rect: image.Rect(0, 0, 2, 2)}
	out := overlay(picture, []float32{-1, 0, 2, 9}, 2, 2, 0, 2)
	for i, want := range []color.RGBA{{10, 10, 10, 255}, {20, 20, 20, 255}} {
		if got := out.At(i, 0); got != want {
			t.Errorf("pixel %d = %v, want %v", i, got, want)
		}
	}
	// A quarter of grey 30 and three quarters of the ramp's end fc fd bf: 196.5, 197.25, 150.75.
	if got, want := out.At(0, 1), (color.RGBA{197, 197, 151, 255}); got != want {
		t.Errorf("high end = %v, want %v", got, want)
	}
	if got := sample([]float32{0, 4}, 2, 1, 2, .5, image.Pt(4, 1)); got != 2 { // half way
		t.Errorf("sample = %g, want 2", got)
	}
}

func TestHistogram(t *testing.T) {
	r := fixedRow("a").runs[0]
	h, ok := newHistogram(r)
	if !ok || h.low != 0 || h.high != 10 {
		t.Fatalf("histogram %+v, %v", h, ok)
	}
	var normal, abnormal float64
	for i := range bins {
		normal, abnormal = normal+h.normal[i], abnormal+h.abnormal[i]
	}
	if math.Abs(normal-1) > 1e-12 || math.Abs(abnormal-1) > 1e-12 || h.normal[bins-1] != .125 || h.abnormal[0] != .125 {
		t.Errorf("shares sum to %g and %g, ends %g and %g", normal, abnormal, h.normal[bins-1], h.abnormal[0])
	}
	for i := range r.scores {
		r.scores[i].Score = 3
	}
	if h, ok = newHistogram(r); !ok || !(h.low < 3 && 3 < h.high) || strings.Contains(string(h.svg()), "NaN") {
		t.Errorf("equal scores: %+v", h)
	}
}

// The page needs nothing from elsewhere.
func TestPageIsSelfContained(t *testing.T) {
	entries, err := record.Find(makeRuns(t))
	if err != nil {
		t.Fatal(err)
	}
	entries[0].Run.Label = `<script>alert("x")</script>`
	out := t.TempDir()
	if _, err := Write(out, entries, options); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(out, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, foreign := range regexp.MustCompile(`(?i)(src|href)="([^"#d][^"]*|d[^a][^"]*)"|@import|url\(|<script[^>]|<script>alert|<link`).FindAll(page, -1) {
		t.Errorf("the page holds %s", foreign)
	}
	for _, want := range []string{"<svg class=\"histogram\"", "Worst misses", "data:image/png;base64,", "AUROC, mean ± sd over seeds", "step 120: loss density is NaN"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
