package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thorax/framework/record"
)

// points returns the learning curve in a job's log.
func points(t *testing.T, j *Job) (steps []int, auroc []float64) {
	t.Helper()
	log, err := (&record.Folder{Dir: j.Dir()}).Log()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range log {
		if s.TestAUROC != nil {
			steps, auroc = append(steps, s.Step), append(auroc, *s.TestAUROC)
		}
	}
	return steps, auroc
}

// twin returns the oracle's row of a job with a curve.
func twin(t *testing.T, j *Job) *record.Folder {
	t.Helper()
	row := filepath.Dir(j.Dir())
	return &record.Folder{Dir: filepath.Join(filepath.Dir(row), filepath.Base(row)+"-best-test-step-oracle", filepath.Base(j.Dir()))}
}

// A learning curve changes nothing in a run, is the same after interruptions,
// also where they meet its points, and its best point is a row that says it is
// an oracle's.
func TestCurve(t *testing.T) {
	plain := job(t, t.TempDir(), "line", budget)
	if _, err := plain.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	keys := strings.Replace(budget, "steps = 40", "steps = 40, curve_every = 10", 1)
	whole := job(t, t.TempDir(), "line", keys)
	if _, err := whole.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if scoresOf(t, whole) != scoresOf(t, plain) {
		t.Error("a learning curve changes the scores of the last step")
	}
	steps, auroc := points(t, whole)
	if want := []int{10, 20, 30, 40, 47}; !slices.Equal(steps, want) { // the last phase has 7 steps
		t.Fatalf("points at steps %v, want %v", steps, want)
	}

	stopped := job(t, t.TempDir(), "line", keys)
	for _, n := range []int{5, 20, 31} {
		ctx, cancel := context.WithCancel(context.Background())
		j := job(t, stopped.Results, "line", keys)
		j.Progress = &watcher{step: func(p string, done int) {
			if p == "line" && done == n {
				cancel()
			}
		}}
		if _, err := j.Do(ctx); !errors.Is(err, ErrInterrupted) {
			t.Fatal(err)
		}
		cancel()
		if _, err := os.Stat(twin(t, j).Dir); err == nil {
			t.Error("the oracle's row is there before the run is complete")
		}
	}
	if _, err := stopped.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s, a := points(t, stopped); !slices.Equal(s, steps) || !slices.Equal(a, auroc) {
		t.Errorf("after interruptions the curve is %v %v, want %v %v", s, a, steps, auroc)
	}

	best := slices.Max(auroc)
	for _, j := range []*Job{whole, stopped} {
		f := twin(t, j)
		run, err := f.Run()
		if err != nil {
			t.Fatal(err)
		}
		if want := steps[slices.Index(auroc, best)]; run.Steps != want || run.Status != record.Complete || !strings.Contains(run.Label, "oracle") {
			t.Errorf("the oracle's row is %s of step %d, %s; want step %d", run.Label, run.Steps, run.Status, want)
		}
		figures, err := f.Figures()
		if err != nil || len(figures) != 1 || figures[0].Value != best || !figures[0].Oracle {
			t.Errorf("its figures are %+v, %v; want %g, an oracle's", figures, err, best)
		}
		if config, err := f.Config(); err != nil || !strings.Contains(string(config), `selection = "best-test"`) {
			t.Errorf("its configuration does not say how its step was chosen: %v", err)
		}
	}
}
