package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// command runs a command line in a folder of made-up results.
func command(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	err = Run(context.Background(), args, &out, &errOut)
	return out.String(), err
}

// makeRun writes a complete run with 120 validation normals, 40 normal and 40
// abnormal test images; shift is the distance of the abnormal ones in sd.
func makeRun(t *testing.T, root, label string, row, seed int, shift float64, config string) *record.Folder {
	t.Helper()
	f, err := record.Create(filepath.Join(root, "made", "set-32", record.Slug(label), fmt.Sprintf("seed-%d", seed)))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(row), uint64(seed)))
	var scores []record.Score
	for _, part := range []struct {
		split    string
		abnormal bool
		n        int
	}{{"validation", false, 120}, {"test", false, 40}, {"test", true, 40}} {
		for i := range part.n {
			s := record.Score{Split: part.split, Path: fmt.Sprintf("%s/%t/%03d.png", part.split, part.abnormal, i), Abnormal: part.abnormal, Score: random.NormFloat64()}
			if s.Abnormal {
				s.Score += shift
			}
			scores = append(scores, s)
		}
	}
	var specs []metric.Spec
	for _, name := range []string{"auroc", "ap", "f1@q-val.05"} {
		spec, err := metric.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	run := record.Run{Status: record.Complete, Experiment: "made", Data: "set-32", Method: "ae", Label: label, Family: "reconstruction",
		Row: row, Seed: int64(seed), Hash: fmt.Sprint(label, seed), SplitRule: "validation: 120 normal images, given by the set; training: 500 normal images",
		Fingerprint: record.Fingerprint{Files: 700, SHA256: "c0de"}, TrainSeconds: 10, ScoreSeconds: 2, PeakMemory: 1 << 30, Parameters: 1000, Trained: true}
	if err := errors.Join(f.WriteScores(scores), f.WriteFigures(evaluate(specs, scores)), f.WriteRun(run)); err != nil {
		t.Fatal(err)
	}
	if config != "" {
		if err := f.WriteConfig([]byte(fmt.Sprintf("experiment = \"made\"\nseed = %d\n", seed) + config)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

const aeConfig = "[data]\nname = \"set-32\"\nset = \"folder\"\nroot = \"images\"\nsize = 32\n[method]\nname = \"ae\"\nlabel = \"AE\"\nlatent = 4\n[train]\nsteps = 100\nlog_every = 50\n"

// makeResults writes two rows with three seeds.
func makeResults(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "results")
	for seed := range 3 {
		makeRun(t, root, "AE", 0, seed, .5, aeConfig)
		makeRun(t, root, "AE-16", 1, seed, 2, strings.NewReplacer("latent = 4", "latent = 16", `"AE"`, `"AE-16"`).Replace(aeConfig))
	}
	return root
}

func TestTableOptions(t *testing.T) {
	root := makeResults(t)
	plain, err := command(t, "table", root)
	if err != nil {
		t.Fatal(err)
	}
	full, err := command(t, "table", root, "--intervals", "--tests", "--twins", "--resamples", "200")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"95 % interval", "gap †", "F1@f1-test †", "row − column", "200 resamples of test images, stratified by label (seed 1)"} {
		if strings.Contains(plain, want) || !strings.Contains(full, want) {
			t.Errorf("%q: in the plain table %v, in the full one %v", want, strings.Contains(plain, want), strings.Contains(full, want))
		}
	}
	if _, err := command(t, "table", root, "--resamples", "3"); !errors.Is(err, errUsage) {
		t.Errorf("3 resamples: %v", err)
	}
}

func TestReportFiles(t *testing.T) {
	root := makeResults(t)
	out := t.TempDir()
	listed, err := command(t, "report", root, "--out", out, "--resamples", "200")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"table.md", "table.tex", "table.csv", "significance.csv", "report.html"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil || !strings.Contains(listed, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerify(t *testing.T) {
	root := makeResults(t)
	if _, err := command(t, "report", root, "--out", root, "--resamples", "200"); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(root, "table.csv")
	out, err := command(t, "verify", root, "--against", table)
	if err != nil || !strings.Contains(out, "24 figures verified, 0 drifted, 0 not verifiable") { // 6 runs and 2 rows of 3 metrics
		t.Errorf("untouched: %v\n%s", err, out)
	}
	f, err := record.Open(filepath.Join(root, "made/set-32/ae/seed-1"))
	if err != nil {
		t.Fatal(err)
	}
	figures, err := f.Figures()
	if err != nil {
		t.Fatal(err)
	}
	figures[0].Value += .05
	if err := f.WriteFigures(figures); err != nil {
		t.Fatal(err)
	}
	out, err = command(t, "verify", root)
	if err == nil || errors.Is(err, errUsage) || !strings.Contains(err.Error(), "1 figures drifted") || !strings.Contains(out, "ae/seed-1: auroc: recorded") {
		t.Errorf("an improved figure: %v\n%s", err, out)
	}
}

func TestImportScores(t *testing.T) {
	root := makeResults(t)
	source, err := record.Open(filepath.Join(root, "made/set-32/ae-16/seed-0"))
	if err != nil {
		t.Fatal(err)
	}
	scores, err := source.Scores()
	if err != nil {
		t.Fatal(err)
	}
	var all, test []string
	for _, s := range scores {
		line := fmt.Sprintf("%s,%g", s.Path, s.Score)
		all = append(all, line)
		if s.Split == "test" {
			test = append(test, line)
		}
	}
	write := func(head string, lines ...string) string {
		path := filepath.Join(t.TempDir(), "squid.csv")
		if err := os.WriteFile(path, []byte(head+"\n"+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	twoSeeds := []string{}
	for seed := range 2 {
		for _, line := range all {
			twoSeeds = append(twoSeeds, fmt.Sprint(line, ",", seed))
		}
	}
	for _, tt := range []struct {
		name, file string
		args       []string
		want       string // in the error; "" for none
	}{
		{"a missing image", write("path,score", test[1:]...), nil, "1 missing images: test/false/000.png"},
		{"an extra image", write("path,score", append([]string{"other.png,1"}, test...)...), nil, "1 extra images: other.png"},
		{"a duplicate image", write("path,score", append(test, test[0])...), nil, "1 duplicate images: test/false/000.png (seed 0, line 82)"},
		{"some validation images", write("path,score", append(test, all[0])...), nil, "119 missing images"},
		{"not a number", write("path,score", append(test[1:], "test/false/000.png,NaN")...), nil, "need a finite number"},
		{"no column", write("file,score", test...), nil, "need the columns path and score"},
		{"no images", write("path,score"), nil, "no scores"},
		{"a folder that exists", write("path,score", test...), []string{"--label", "AE"}, "exists"},
		{"test images only", write("path,score", test...), []string{"--label", "SQUID test"}, ""},
		{"two seeds", write("score,path,seed", func() (turned []string) {
			for _, l := range twoSeeds {
				p := strings.Split(l, ",")
				turned = append(turned, p[1]+","+p[0]+","+p[2])
			}
			return turned
		}()...), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"import-scores", tt.file, "--method", "squid", "--results", root}, tt.args...)
			_, err := command(t, args...)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	table, err := command(t, "table", root)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"squid", "SQUID test", "imported from squid.csv", "no validation normals"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	// The same scores give the same figures.
	a, errA := source.Figures()
	b, errB := (&record.Folder{Dir: filepath.Join(root, "made/set-32/squid/seed-1")}).Figures()
	if errA != nil || errB != nil || a[0].Value != b[0].Value || a[2].Value != b[2].Value {
		t.Errorf("imported %+v, %v; its source %+v, %v", b, errB, a, errA)
	}
	if out, err := command(t, "verify", root); err != nil {
		t.Errorf("verify after the import: %v\n%s", err, out)
	}
}

func TestLint(t *testing.T) {
	root := makeResults(t)
	file := filepath.Join(t.TempDir(), "x.toml")
	text := "seeds = [0, 1, 2]\n[[data]]\nset = \"folder\"\nroot = \"images\"\n[[method]]\nname = \"chance\"\n[[method]]\nname = \"mean_intensity\"\n[[method]]\nname = \"file_size\"\n[report]\nmetrics = [\"auroc\", \"f1@f1-test\"]\n"
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	out, err := command(t, "lint", file)
	if err == nil || !strings.Contains(err.Error(), "1 findings") || !strings.Contains(out, "L1 ") || !strings.Contains(out, "remedy: ") {
		t.Errorf("an oracle alone: %v\n%s", err, out)
	}
	write(text + "annotate = { L1 = \"for comparison with older papers\" }\n")
	if out, err = command(t, "lint", file); err != nil || !strings.Contains(out, "annotated: for comparison with older papers") {
		t.Errorf("annotated: %v\n%s", err, out)
	}
	write(strings.Replace(text, "f1@f1-test", "f1@q-val.05", 1))
	if out, err = command(t, "lint", file); err != nil {
		t.Errorf("sound: %v\n%s", err, out)
	}
	if out, err = command(t, "lint", root); err == nil || !strings.Contains(out, "L5 ") { // no patient ids, no trivial row
		t.Errorf("results: %v\n%s", err, out)
	}
	if _, err = command(t, "lint", root, "--annotate", "L99=x; y"); !errors.Is(err, errUsage) {
		t.Errorf("unknown code: %v", err)
	}
	// What is kept beside the runs comes into later reports.
	if err := writeAnnotations(root, map[string]string{"L5": "ids were removed by the hospital"}); err != nil {
		t.Fatal(err)
	}
	if _, err = command(t, "report", root, "--resamples", "200"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.html", "table.md"} {
		page, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !strings.Contains(string(page), "ids were removed by the hospital") {
			t.Errorf("%s lacks the annotation: %v", name, err)
		}
	}
}

func TestDiff(t *testing.T) {
	root := filepath.Join(makeResults(t), "made/set-32")
	out, err := command(t, "diff", filepath.Join(root, "ae"), filepath.Join(root, "ae-16"), "--resamples", "500")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  method.latent: 4 → 16\n", "B − A on seeds 0, 1, 2", "auroc", "paired t over seeds", "DeLong of seed-averaged"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "unused") || strings.Contains(out, "label") {
		t.Errorf("names are no change of the configuration:\n%s", out)
	}
	// The same scores under another key: the key is unused.
	results := filepath.Dir(filepath.Dir(root))
	makeRun(t, results, "AE unused", 0, 0, .5, strings.Replace(aeConfig, "latent = 4", "latent = 4\nwidth = 9", 1))
	out, err = command(t, "diff", filepath.Join(root, "ae"), filepath.Join(root, "ae-unused"))
	if err != nil || !strings.Contains(out, "method.width: none → 9") || !strings.Contains(out, "unused keys: every score of seeds 0 is the same") {
		t.Errorf("an unused key: %v\n%s", err, out)
	}
	// One configuration under two names.
	makeRun(t, results, "AE again", 5, 0, .5, strings.Replace(aeConfig, `"AE"`, `"AE again"`, 1))
	if _, err = command(t, "diff", filepath.Join(root, "ae"), filepath.Join(root, "ae-again")); err == nil || !strings.Contains(err.Error(), "resolve to the same configuration") {
		t.Errorf("one configuration twice: %v", err)
	}
	if _, err = command(t, "diff", filepath.Join(root, "ae"), root); !errors.Is(err, errUsage) {
		t.Errorf("several rows on one side: %v", err)
	}
	// Other test images are not tested.
	f := makeRun(t, results, "AE other images", 6, 0, .5, strings.Replace(aeConfig, "latent = 4", "latent = 5", 1))
	scores, err := f.Scores()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteScores(scores[:len(scores)-1]); err != nil {
		t.Fatal(err)
	}
	out, err = command(t, "diff", filepath.Join(root, "ae"), filepath.Join(root, "ae-other-images"))
	if err != nil || !strings.Contains(out, "no test: the two sides scored other test images") {
		t.Errorf("other images: %v\n%s", err, out)
	}
}

func TestPlot(t *testing.T) {
	root := makeResults(t)
	out := t.TempDir()
	listed, err := command(t, "plot", root, "--kind", "dots,sweep", "--format", "svg", "--out", out, "--resamples", "200")
	if err != nil || strings.TrimSpace(listed) != filepath.Join(out, "dots-set-32.svg") { // nothing was varied
		t.Errorf("%v\n%s", err, listed)
	}
	if _, err = command(t, "plot", root, "--kind", "ranks", "--out", out); err == nil {
		t.Error("ranks over one data set: no error")
	}
	if _, err = command(t, "plot", root, "--kind", "pie"); !errors.Is(err, errUsage) {
		t.Errorf("a pie: %v", err)
	}
}

// Every command has an example in its help.
func TestHelp(t *testing.T) {
	for _, name := range []string{"table", "roc", "plot", "report", "verify", "diff", "lint", "import-scores"} {
		out, err := command(t, name, "--help")
		if err != nil || !strings.Contains(out, "Example:") || !strings.Contains(out, "thorax "+name) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
