//go:build !reports

package command

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/record"
)

// planned is a method that never trains.
type neverTrained struct {
	Latent int `toml:"latent"`
}

func (*neverTrained) Check() error                       { return nil }
func (*neverTrained) Fit(framework.Images, uint64) error { return errors.New("trained") }
func (*neverTrained) Score(framework.Images, int) (float64, []float32, error) {
	return 0, nil, errors.New("scored")
}

func TestPlan(t *testing.T) {
	framework.Register(framework.Info{Name: "never", Family: "test", New: func() any { return &neverTrained{Latent: 4} }})
	dir := t.TempDir()
	file := filepath.Join(dir, "x.toml")
	text := "seeds = [0, 1, 2, 3, 4]\n[train]\nsteps = 100\n[[data]]\nset = \"phantom\"\nsize = 32\n[[method]]\nname = \"never\"\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(dir, "results")
	if out, err := command(t, "plan", file, "--results", results); err != nil || !strings.Contains(out, "5 runs: 5 new. 5 to do; no earlier run tells how long.") {
		t.Errorf("nothing was run: %v\n%s", err, out)
	}
	// Seed 0 is done, 1 failed, 2 was interrupted at step 60, 3 was made with other keys.
	write := func(results string, seed int, sets []string, r record.Run) *record.Folder {
		e, err := config.Load(file, framework.Registry{}, sets)
		if err != nil {
			t.Fatal(err)
		}
		runs, err := e.Runs()
		if err != nil {
			t.Fatal(err)
		}
		c := runs[seed]
		_, rest, _ := strings.Cut(c.Dir, "/")
		f, err := record.Create(filepath.Join(results, rest))
		if err != nil {
			t.Fatal(err)
		}
		toml, err := c.TOML()
		r.Experiment, r.Data, r.Method, r.Label, r.Seed, r.Hash = "x", c.Data.Name, c.Method, c.Label, int64(seed), c.Hash()
		if err := errors.Join(err, f.WriteConfig(toml), f.WriteRun(r)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	write(results, 0, nil, record.Run{Status: record.Complete, TrainSeconds: 100, ScoreSeconds: 20, PeakMemory: 500e6, Finished: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	write(results, 1, nil, record.Run{Status: record.Failed, Error: "step 7: loss is NaN"})
	f := write(results, 2, nil, record.Run{Status: record.Running})
	if err := errors.Join(f.AppendLog(record.Step{Step: 60}), os.Mkdir(f.Path("checkpoint"), 0o755)); err != nil {
		t.Fatal(err)
	}
	write(results, 3, []string{"method.never.latent=8"}, record.Run{Status: record.Complete})
	out, err := command(t, "plan", file, "--results", results)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"finished 2026-01-02 03:04:05", "would be tried again: step 7: loss is NaN", "last checkpoint, at or before step 60",
		"needs --redo: method.latent: 8 → 4", "never started",
		"5 runs: 1 done, 1 new, 1 interrupted, 1 failed, 1 stale. 3 to do, about 6 min one after another, at most 500 MB;", // 3 × 120 s
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// Seed 4 came with the archive; so did seed 2, which is interrupted here. What the
	// archive holds of other keys, or unfinished, is not the run.
	archive := filepath.Join(results, "archive")
	done := record.Run{Status: record.Complete, TrainSeconds: 100, ScoreSeconds: 20, PeakMemory: 500e6}
	write(archive, 4, nil, done)
	write(archive, 2, nil, done)
	if out, err = command(t, "plan", file, "--results", results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"archived", "complete in archive/, without its checkpoint; would train anew", "last checkpoint, at or before step 60",
		"5 runs: 1 done, 1 archived, 1 interrupted, 1 failed, 1 stale. 3 to do, about 6 min",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, err = command(t, "plan", file, "--results", results, "--set", "method.never.latent=8", "--set", "seeds=[4]"); err != nil ||
		!strings.Contains(out, "never started; archived with other keys: method.latent: 4 → 8") || !strings.Contains(out, "1 runs: 1 new.") {
		t.Errorf("archived with other keys: %v\n%s", err, out)
	}
	done.Status = record.Failed
	write(archive, 4, nil, done)
	if out, err = command(t, "plan", file, "--results", results, "--set", "seeds=[4]"); err != nil || !strings.Contains(out, "1 runs: 1 new.") {
		t.Errorf("unfinished in the archive: %v\n%s", err, out)
	}
	// Twice the steps: 200 s of training and 20 s of scoring.
	if out, err = command(t, "plan", file, "--results", results, "--set", "train.steps=200", "--set", "seeds=[9]"); err != nil || !strings.Contains(out, "about 4 min") {
		t.Errorf("twice the steps: %v\n%s", err, out)
	}
	// Twice the side: four times all of it.
	if out, err = command(t, "plan", file, "--results", results, "--set", "data.size=64", "--set", "seeds=[9]"); err != nil || !strings.Contains(out, "about 8 min") {
		t.Errorf("twice the side: %v\n%s", err, out)
	}
	if _, err := command(t, "plan", file, "--only", "nobody"); !errors.Is(err, errUsage) {
		t.Errorf("an unknown row: %v", err)
	}
}

// scoredTwice is a method with a key that enters the score alone.
type scoredTwice struct {
	framework.Method
	Latent int    `toml:"latent"`
	Rule   string `toml:"score" enters:"score"`
}

func (*scoredTwice) Check() error { return nil }

// Rows that differ in scoring alone are planned as one training.
func TestPlanTrainsOnce(t *testing.T) {
	framework.Register(framework.Info{Name: "twice", Family: "test", New: func() any { return &scoredTwice{Latent: 4, Rule: "mean"} }})
	dir := t.TempDir()
	file := filepath.Join(dir, "x.toml")
	text := "seeds = [0, 1]\ntrain = { steps = 100 }\n[[data]]\nset = \"phantom\"\nsize = 32\n[[method]]\nname = \"twice\"\n" +
		"[[method]]\nname = \"twice\"\nlabel = \"sum\"\nscore = \"sum\"\n[[method]]\nname = \"twice\"\nlabel = \"wide\"\nlatent = 8\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(dir, "results")
	out, err := command(t, "plan", file, "--results", results)
	if err != nil || strings.Count(out, "trained with twice") != 2 || strings.Count(out, "never started") != 6 {
		t.Errorf("%v\n%s", err, out)
	}
	e, err := config.Load(file, framework.Registry{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := e.Runs()
	if err != nil {
		t.Fatal(err)
	}
	past := []earlier{{record.Run{Method: "twice", Data: runs[0].Data.Name, TrainSeconds: 50, ScoreSeconds: 3},
		map[string]any{"data.size": 32, "train.steps": 50, "train.batch": 16}}}
	for _, tt := range []struct {
		train bool
		want  float64
	}{{true, 103}, {false, 3}} {
		if got, _, ok := estimate(runs[0], past, tt.train); !ok || got != tt.want {
			t.Errorf("%g s with training %t, want %g", got, tt.train, tt.want)
		}
	}
}
