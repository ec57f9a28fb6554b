package report

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// makeOracle adds to made-up runs the row of the best step of a learning curve, which
// is far ahead of all others.
func makeOracle(t *testing.T, root string) {
	t.Helper()
	for seed := range 3 {
		makeRun(t, root, 0, "phantom-32", 0, seed, made{label: "AE (latent 64), best test step (oracle)", method: "ae", family: "reconstruction", seeds: 3, shift: 5,
			notes: []string{"oracle: step 100 of 300, chosen for its AUROC of 0.9990 on the test images"}})
	}
}

// A row of an oracle changes nothing in what the others get, and is marked in each format.
func TestOracle(t *testing.T) {
	root := makeRuns(t)
	o := Options{Metrics: []string{"auroc", "ap"}, Resamples: 100, Plots: []string{}}
	write := func() (string, *set, *study) {
		entries, err := record.Find(filepath.Join(root, "phantom-32"))
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		if _, err := Write(out, entries, o); err != nil {
			t.Fatal(err)
		}
		var terminal bytes.Buffer
		if err := Terminal(&terminal, entries, Options{Metrics: o.Metrics}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, "table.txt"), terminal.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		sets, err := collect(entries, o)
		if err != nil {
			t.Fatal(err)
		}
		st, err := newStudy(sets[0], o)
		if err != nil {
			t.Fatal(err)
		}
		return out, sets[0], st
	}
	_, before, studyBefore := write()
	makeOracle(t, root)
	out, after, studyAfter := write()

	want, got := map[string]standing{}, map[string]standing{}
	for r, s := range studyBefore.standings(before, before.specs[0]) {
		want[r.label] = s
	}
	for r, s := range studyAfter.standings(after, after.specs[0]) {
		got[r.label] = s
	}
	if len(want) < 3 || len(got) != len(want) {
		t.Errorf("standings %v, without the oracle %v", got, want)
	}
	for label, s := range want {
		if got[label] != s {
			t.Errorf("%s stands at %d, without the oracle at %d", label, got[label], s)
		}
	}
	if a, b := len(studyBefore.pairs(before, before.specs[0])), len(studyAfter.pairs(after, after.specs[0])); a != b || a == 0 {
		t.Errorf("%d pairs, without the oracle %d", b, a)
	}

	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, marked := range map[string]string{
		"table.txt":   "AE (latent 64), best test step (oracle) †",
		"table.md":    "AE (latent 64), best test step (oracle) †",
		"table.tex":   `AE (latent 64), best test step (oracle)\textsuperscript{\dag`,
		"report.html": `class="oracle"><td>AE (latent 64), best test step (oracle) †`,
	} {
		text := read(name)
		if !strings.Contains(text, marked) || !strings.Contains(text, "a row so marked is never the best") {
			t.Errorf("%s lacks %q or its explanation", name, marked)
		}
		for line := range strings.Lines(text) {
			if !strings.Contains(line, marked) {
				continue
			}
			line, _, _ = strings.Cut(line, `<h3>ROC`)
			for _, best := range []string{"*", "**", `\textbf`, "<b>", "≈", "approx"} {
				if strings.Contains(line, best) {
					t.Errorf("%s: %q in the oracle's row %s", name, best, line)
				}
			}
		}
	}
	if strings.Contains(read("significance.csv"), "oracle") {
		t.Error("significance.csv tests the oracle's row")
	}
	lines, err := csv.NewReader(strings.NewReader(read("table.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, line := range lines[1:] {
		label, oracle, best, place := line[2], line[9], line[15], line[16]
		if strings.HasSuffix(label, "(oracle)") {
			n++
			if oracle != "true" || best != "false" || place != "untested" {
				t.Errorf("the oracle's line %q", line)
			}
		} else if oracle != "false" {
			t.Errorf("no oracle's line %q", line)
		}
	}
	if n != 2 {
		t.Errorf("%d lines of the oracle, want one for each metric", n)
	}
}

// config.toml tells an oracle's row too, whatever its label, and its figures say so.
func TestOracleBySelection(t *testing.T) {
	root := t.TempDir()
	for seed := range 2 {
		makeRun(t, root, 0, "ct-32", 0, seed, made{label: "best", method: "ae", family: "reconstruction", shift: 5})
		makeRun(t, root, 0, "ct-32", 1, seed, made{label: "last", method: "ae", family: "reconstruction", shift: 1})
	}
	for label, config := range map[string]string{"best": "[train]\nselection = \"best-test\"\n", "last": "[train]\nsteps = 10\n"} {
		for _, seed := range []string{"seed-0", "seed-1"} {
			if err := os.WriteFile(filepath.Join(root, "ct-32", label, seed, "config.toml"), []byte(config), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	sets, err := collect(entries, Options{Metrics: []string{"auroc"}})
	if err != nil {
		t.Fatal(err)
	}
	s := sets[0]
	if !s.rows[0].oracle || s.rows[1].oracle {
		t.Fatalf("rows %q %t and %q %t", s.rows[0].label, s.rows[0].oracle, s.rows[1].label, s.rows[1].oracle)
	}
	if !s.rows[0].runs[0].figures[0].Oracle || s.rows[1].runs[0].figures[0].Oracle {
		t.Error("the figures of the row of best-test are not an oracle's, or the others are")
	}
	if got := s.rows[0].asPublished(s).Protocol.Selection; got != "best-test" {
		t.Errorf("selection %q beside published figures, want best-test", got)
	}
	table := newTable(s, nil, Options{Metrics: []string{"auroc"}})
	if table.rows[0].cells[0].best || metric.Summarize(s.rows[0].values(s, s.all[0])).Mean < .9 {
		t.Error("the oracle's row is marked best, or is not ahead")
	}
}

// Ranks over data sets leave the oracle's row out.
func TestOracleHasNoRank(t *testing.T) {
	root := t.TempDir()
	for d, set := range []string{"phantom-32", "ct-32"} {
		for row, label := range []string{"AE", "PaDiM", "AE, best test step (oracle)"} {
			makeRun(t, root, d, set, row, 0, made{label: label, method: "ae", family: "reconstruction", shift: float64(row)})
		}
	}
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	sets, err := collect(entries, Options{Metrics: []string{"auroc"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := criticalDifference(sets)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.labels, "|"); got != "PaDiM|AE" {
		t.Errorf("ranks of %s", got)
	}
}
