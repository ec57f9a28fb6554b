package verify

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thorax/framework/metric"
	"thorax/framework/record"
	"thorax/framework/report"
)

var names = []string{"auroc", "ap", "sens@q-val.05", "f1@f1-test", "pixel-ap", "dice@q-val.01", "dice@best:dilated", "dice@youden-test:lungs", "dice@q-val.05:dilated:lungs", "auroc:lungs.mean"}

// made writes a complete run of 12 images of 4×4 with maps and its figures.
func made(t *testing.T, root, label string, seed int) *record.Folder {
	t.Helper()
	f, err := record.Create(filepath.Join(root, "x", "d", record.Slug(label), fmt.Sprintf("seed-%d", seed)))
	if err != nil {
		t.Fatal(err)
	}
	in := metric.Input{W: 4, H: 4}
	var scores []record.Score
	maps := record.NewMaps(12, 4, 4)
	for i := range 12 {
		s := record.Score{Split: "test", Path: fmt.Sprintf("%02d.png", i), Abnormal: i >= 6, Score: math.Sin(float64(3*i+seed)) + float64(i)/6}
		scores = append(scores, s)
		m := make([]float32, 16)
		for j := range m {
			m[j] = float32((i*j*7+13*j+5*i+seed)%64) / 64 // exact in half precision
		}
		if err := maps.Set(i, m); err != nil {
			t.Fatal(err)
		}
		in.Scores, in.Abnormal, in.Maps = append(in.Scores, s.Score), append(in.Abnormal, s.Abnormal), append(in.Maps, m)
	}
	in.Masks = lesions(12)
	in.Lungs, _ = fixed{}.Lungs(record.Entry{}, "", make([]string, 12))
	in.ValidationLungs, _ = fixed{}.Lungs(record.Entry{}, "", make([]string, 20))
	validation := record.NewMaps(20, 4, 4)
	for i := range 20 {
		v := float64(i) / 20
		scores = append(scores, record.Score{Split: "validation", Path: fmt.Sprintf("v%02d.png", i), Score: v})
		in.Validation = append(in.Validation, v)
		in.ValidationMaps = append(in.ValidationMaps, in.Maps[i%6])
		if err := validation.Set(i, in.Maps[i%6]); err != nil {
			t.Fatal(err)
		}
	}
	var specs []metric.Spec
	for _, name := range names {
		spec, err := metric.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	run := record.Run{Status: record.Complete, Experiment: "x", Data: "d", Label: label, Method: "ae", Seed: int64(seed)}
	if err := errors.Join(f.WriteScores(scores), f.WriteFigures(metric.EvalAll(specs, in)), f.WriteRun(run), f.WriteMaps("test", maps), f.WriteMaps("validation", validation)); err != nil {
		t.Fatal(err)
	}
	return f
}

// lesions is the first row of each abnormal image.
func lesions(n int) [][]bool {
	masks := make([][]bool, n)
	for i := range masks {
		masks[i] = make([]bool, 16)
		for j := range 4 {
			masks[i][j] = i >= 6
		}
	}
	return masks
}

type fixed struct{ err error }

func (m fixed) Masks(e record.Entry, paths []string) ([][]bool, int, int, error) {
	return lesions(len(paths)), 4, 4, m.err
}

func (m fixed) Lungs(e record.Entry, split string, paths []string) ([][]bool, error) {
	out := make([][]bool, len(paths))
	for i := range out {
		out[i] = make([]bool, 16)
		for j := range 16 {
			out[i][j] = j%4 < 3
		}
	}
	return out, m.err
}

func find(t *testing.T, root string) []record.Entry {
	t.Helper()
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// verdicts maps each metric to its verdict.
func verdicts(t *testing.T, root string, masks Masks) map[string]Check {
	t.Helper()
	checks, err := Runs(find(t, root), masks)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Check{}
	for _, c := range checks {
		out[c.Metric] = c
	}
	return out
}

func TestUntouchedRunIsVerified(t *testing.T) {
	root := t.TempDir()
	f := made(t, root, "AE", 0)
	for _, kept := range []bool{true, false} {
		got := verdicts(t, root, fixed{})
		for _, name := range names {
			want := Same
			if !kept && (strings.HasPrefix(name, "dice@q-val") || name == "auroc:lungs.mean") {
				want = Open
			}
			if got[name].Verdict != want || math.IsNaN(got[name].Recorded) {
				t.Errorf("%s, validation maps %t: %+v, want %s", name, kept, got[name], want)
			}
		}
		if err := os.Remove(f.Path("maps", "validation.npy")); kept && err != nil {
			t.Fatal(err)
		}
	}
	for name, m := range map[string]Masks{"no masks": nil, "unreadable masks": fixed{errors.New("no such set")}} {
		if c := verdicts(t, root, m)["pixel-ap"]; c.Verdict != Open || c.Reason == "" {
			t.Errorf("%s: %+v, want not verifiable", name, c)
		}
	}
}

// One digit of one score, or a figure that was written by hand, is found.
func TestDriftIsFound(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(f *record.Folder) error
		metric  string
		verdict Verdict
		reason  string
	}{
		{"a score was changed", func(f *record.Folder) error {
			s, err := f.Scores()
			s[11].Score = -5
			return errors.Join(err, f.WriteScores(s))
		}, "auroc", Drifted, "another value"},
		{"a label was changed", func(f *record.Folder) error {
			s, err := f.Scores()
			s[0].Abnormal = true
			return errors.Join(err, f.WriteScores(s))
		}, "ap", Drifted, "another value"},
		{"a validation score was changed", func(f *record.Folder) error {
			s, err := f.Scores()
			s[len(s)-2].Score, s[len(s)-1].Score = 1.2, 1.3
			return errors.Join(err, f.WriteScores(s))
		}, "sens@q-val.05", Drifted, "another"},
		{"a figure was improved", func(f *record.Folder) error {
			m, err := f.Figures()
			m[0].Value += 1e-5
			return errors.Join(err, f.WriteFigures(m))
		}, "auroc", Drifted, "another value"},
		{"a threshold was changed", func(f *record.Folder) error {
			m, err := f.Figures()
			m[2].Threshold *= 1.001
			return errors.Join(err, f.WriteFigures(m))
		}, "sens@q-val.05", Drifted, "another threshold"},
		{"a pixel figure was improved", func(f *record.Folder) error {
			m, err := f.Figures()
			m[4].Value += .01
			return errors.Join(err, f.WriteFigures(m))
		}, "pixel-ap", Drifted, "another value"},
		{"a map of a validation normal was changed", func(f *record.Folder) error {
			m, err := f.ReadMaps("validation")
			for i := range m.N {
				err = errors.Join(err, m.Set(i, make([]float32, 16)))
			}
			return errors.Join(err, f.WriteMaps("validation", m))
		}, "dice@q-val.01", Drifted, "another"},
		{"another definition", func(f *record.Folder) error {
			m, err := f.Figures()
			m[1].ID = "ap/interpolated"
			return errors.Join(err, f.WriteFigures(m))
		}, "ap", Drifted, "now stands for ap/step"},
		{"not computed shown as a number", func(f *record.Folder) error {
			s, err := f.Scores()
			return errors.Join(err, f.WriteScores(s[:12])) // without validation
		}, "sens@q-val.05", Drifted, "no validation normals"},
		{"no scores", func(f *record.Folder) error { return os.Remove(f.Path("scores.csv")) }, "all", Drifted, "scores.csv is missing"},
		{"no figures", func(f *record.Folder) error { return os.Remove(f.Path("metrics.json")) }, "all", Open, "nothing was recorded"},
		{"no maps", func(f *record.Folder) error { return os.RemoveAll(f.Path("maps")) }, "pixel-ap", Open, "no maps/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := tt.change(made(t, root, "AE", 0)); err != nil {
				t.Fatal(err)
			}
			c := verdicts(t, root, fixed{})[tt.metric]
			if c.Verdict != tt.verdict || !strings.Contains(c.Reason, tt.reason) {
				t.Errorf("%+v, want %s with %q", c, tt.verdict, tt.reason)
			}
		})
	}
}

func TestAgainst(t *testing.T) {
	root := t.TempDir()
	made(t, root, "AE", 0)
	made(t, root, "AE", 1)
	made(t, root, "PaDiM", 0)
	entries := find(t, root)
	if _, err := report.Write(root, entries, report.Options{Resamples: 20, Plots: []string{}}); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(root, "table.csv")
	checks, err := Against(table, entries)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, c := range checks {
		if c.Verdict == Drifted {
			t.Errorf("untouched: %+v", c)
		}
		if c.Verdict == Same {
			same++
		}
	}
	if same != 8 { // two rows of four image metrics
		t.Errorf("%d figures verified, want 8", same)
	}
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"another label", ",AE,", ",VAE,", "no complete run of this row"},
		{"another mean", "auroc/mann-whitney,false,0.", "auroc/mann-whitney,false,0.9", "another mean"},
		{"another definition", "ap/step", "ap/other", "now stands for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forged := filepath.Join(t.TempDir(), "table.csv")
			if err := os.WriteFile(forged, []byte(strings.Replace(string(text), tt.old, tt.new, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			checks, err := Against(forged, entries)
			if err != nil {
				t.Fatal(err)
			}
			drifted := 0
			for _, c := range checks {
				if c.Verdict == Drifted && strings.Contains(c.Reason, tt.want) {
					drifted++
				}
			}
			if drifted != 1 {
				t.Errorf("%d figures drifted, want 1: %+v", drifted, checks)
			}
		})
	}
	if _, err := Against(filepath.Join(root, "table.md"), entries); err == nil {
		t.Error("a Markdown table: no error")
	}
}
