package train

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/record"
	"thorax/graphs/nn"
)

func init() {
	framework.Register(framework.Info{Name: "twofold", Family: "test", Source: "this test", New: func() any { return &twofold{Rate: 0.05} }})
}

// twofold is line with a key for scoring. With Partial it learns no threshold, and scores without one.
type twofold struct {
	line    line
	Rate    float64 `toml:"rate"`
	Sign    float64 `toml:"sign" enters:"score"`
	Partial bool    `toml:"partial" enters:"score"`
}

func (m *twofold) Check() error { return nil }

func (m *twofold) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	m.line.Rate = m.Rate
	phases := m.line.Train(s, in)
	if m.Partial {
		return phases[:1]
	}
	return phases[:2]
}

func (m *twofold) Score(s *nn.Scope, x tf.Output) framework.Scores {
	if m.Partial {
		return framework.Scores{Image: m.line.value(s, x)}
	}
	f := m.line.Score(s, x)
	f.Image = nn.Scale(s, f.Image, 1+m.Sign)
	return f
}

func runOf(t *testing.T, j *Job) record.Run {
	t.Helper()
	f, err := record.Open(j.Dir())
	if err != nil {
		t.Fatal(err)
	}
	run, err := f.Run()
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// TestSibling checks that a row that differs in scoring alone is trained once and
// scores to the bits that its own training gives.
func TestSibling(t *testing.T) {
	for _, c := range []struct {
		name, first, second string
		shares              bool
	}{
		{"another score", "sign = 1.0\n", "sign = 2.0\n", true},
		{"a part of it", "sign = 1.0\n", "partial = true\n", true},
		{"more than it", "partial = true\n", "sign = 1.0\n", false},
		{"another rate", "sign = 1.0\n", "sign = 2.0\nrate = 0.1\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			alone, both := t.TempDir(), t.TempDir()
			want := job(t, alone, "twofold", "label = \"second\"\n"+c.second+budget)
			first := job(t, both, "twofold", "label = \"first\"\n"+c.first+budget)
			second := job(t, both, "twofold", "label = \"second\"\n"+c.second+budget)
			steps := 0
			second.Progress = &watcher{step: func(phase string, _ int) {
				if phase == "line" {
					steps++
				}
			}}
			for _, j := range []*Job{want, first, second} {
				if _, err := j.Do(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if got := scoresOf(t, second); got != scoresOf(t, want) {
				t.Error("the scores differ from those of a training of its own")
			}
			run := runOf(t, second)
			if shared := run.TrainedAs == "first on phantom"; shared != c.shares || (steps == 0) != c.shares {
				t.Errorf("trained as %q in %d steps, want shared %t", run.TrainedAs, steps, c.shares)
			}
			if run.TrainSeconds <= 0 || run.Steps == 0 {
				t.Errorf("the cost of training is missing: %g s, %d steps", run.TrainSeconds, run.Steps)
			}
			if err := os.RemoveAll(first.Dir()); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(second.Dir(), "scores.csv")); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(second.Dir(), "run.json")); err != nil {
				t.Fatal(err)
			}
			if _, err := second.Do(context.Background()); err != nil {
				t.Fatal(err)
			}
			if scoresOf(t, second) != scoresOf(t, want) {
				t.Error("without its sibling's folder the run scores otherwise")
			}
		})
	}
}

// TestSiblingAnew checks that a repetition trains.
func TestSiblingAnew(t *testing.T) {
	results := t.TempDir()
	first := job(t, results, "twofold", "label = \"first\"\n"+budget)
	second := job(t, results, "twofold", "label = \"second\"\nsign = 1.0\n"+budget)
	second.Redo = true
	w := &watcher{}
	var phases []string
	w.step = func(phase string, _ int) {
		if !slices.Contains(phases, phase) {
			phases = append(phases, phase)
		}
	}
	second.Progress = w
	for _, j := range []*Job{first, second} {
		if _, err := j.Do(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Contains(phases, "line") || runOf(t, second).TrainedAs != "" {
		t.Errorf("--redo did not train: phases %v", phases)
	}
}

// TestSiblingElsewhere checks that a training serves other test images too, and
// other training images not.
func TestSiblingElsewhere(t *testing.T) {
	other := strings.Replace(set, `name = "phantom"`, `name = "other"`, 1)
	for _, c := range []struct {
		name, set string
		shares    bool
	}{
		{"test images", strings.Replace(other, "test_normal = 6", "level = 0, test_normal = 6", 1), true},
		{"training images", strings.Replace(other, "train = 30", "train = 29", 1), false},
		{"their size", strings.Replace(other, "size = 32", "size = 48", 1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			results := t.TempDir()
			first := job(t, results, "twofold", budget)
			second, err := newJobOn(results, c.set, "twofold", budget)
			if err != nil {
				t.Fatal(err)
			}
			defer second.Data.Close()
			for _, j := range []*Job{first, second} {
				if _, err := j.Do(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if as := runOf(t, second).TrainedAs; (as == "twofold on phantom") != c.shares {
				t.Errorf("trained as %q, want shared %t", as, c.shares)
			}
			if scoresOf(t, first) == scoresOf(t, second) {
				t.Error("the scores of other images are the same")
			}
		})
	}
}
