package report

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// Each type of abnormal images stands against all normal ones, in a table of its own.
func TestTypes(t *testing.T) {
	entries, err := record.Find(filepath.Join(makeRuns(t), "ct-32"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Metrics: []string{"f1@q-val.05", "auroc", "ap"}, Types: true, Tests: true, Resamples: 200}
	sets, err := collect(entries, o)
	if err != nil {
		t.Fatal(err)
	}
	st, err := newStudy(sets[0], o)
	if err != nil {
		t.Fatal(err)
	}
	tbl := sets[0].typeTable(st, o)
	if tbl == nil || len(tbl.columns) != 2 || tbl.columns[0].head != "cancer (20)" || tbl.columns[1].head != "fungal (40)" || !strings.HasSuffix(tbl.title(), "AUROC by type") {
		t.Fatalf("%+v, want AUROC of 20 cancers and 40 fungal", tbl)
	}
	if len(tbl.caption) != 2 || !strings.HasPrefix(tbl.caption[0], "One type") || !strings.HasPrefix(tbl.caption[1], testsAgainst) {
		t.Errorf("caption %q", tbl.caption)
	}
	for i, r := range sets[0].rows {
		var values []float64
		for _, run := range r.complete() {
			var scores []float64
			var abnormal []bool
			for _, s := range run.scores {
				if s.Split == "test" && s.Subtype != "cancer" {
					scores, abnormal = append(scores, s.Score), append(abnormal, s.Abnormal)
				}
			}
			v, err := metric.AUROC(scores, abnormal)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
		if mean := metric.Summarize(values).Mean; math.Abs(tbl.rows[i].cells[1].mean-mean) > 1e-12 {
			t.Errorf("%s: %g, want %g", r.label, tbl.rows[i].cells[1].mean, mean)
		}
		if !tbl.rows[i].cells[1].ranged {
			t.Errorf("%s: no interval over test images", r.label)
		}
	}
	dir := t.TempDir()
	if _, err := Write(dir, entries, o); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"table.md", "table.csv", "table.tex", "report.html"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("fungal")) {
			t.Errorf("%s has no figures of fungal", name)
		}
	}
	o.Types = false
	if sets, err = collect(entries, o); err != nil || sets[0].typeTable(st, o) != nil {
		t.Errorf("a table by type that was not asked for: %v", err)
	}
}

// The caption explains what stands behind the colon of a metric's name.
func TestOptionTexts(t *testing.T) {
	for name, want := range map[string][]string{
		"auroc":                              nil,
		"dice@best:abnormal:dilated:lungs":   {"abnormal: pixels of abnormal", "dilated: lesions grown", "lungs: pixels of the lungs"},
		"auroc:study.top3":                   {"study.top3: a study's score is the mean of the 3 largest"},
		"f1@q-val.05:study.max:type.a:lungs": {"type: one type", "study.max: a study's score is the largest"},
		"auroc:lungs.mean":                   {"lungs.mean: an image's score is the mean"},
		"auroc:lungs.max":                    {"lungs.max: an image's score is the largest"},
	} {
		spec, err := metric.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		got := optionTexts(spec)
		if len(got) != len(want) {
			t.Errorf("%s: %q, want %q", name, got, want)
			continue
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], want[i])
			}
		}
	}
}
