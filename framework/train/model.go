package train

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/graphs/weights"
)

// A Model is a finished run, ready to score images.
type Model struct {
	Run    config.Run
	direct framework.Direct
	scorer *scorer
}

// OpenModel loads the finished run in dir.
func OpenModel(dir string) (*Model, error) {
	run, path, err := finished(dir)
	if err != nil {
		return nil, err
	}
	m := &Model{Run: run}
	if d, ok := run.Keys.(framework.Direct); ok {
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, d)
		}
		m.direct = d
		return m, err
	}
	c, err := load(path)
	if err != nil {
		return nil, err
	}
	r := runner{Job: &Job{Run: run}}
	m.scorer, err = newScorer(run.Keys.(framework.Method), run.Seed, run.Data.Size, run.Train.ScoreBatch, r.options(), c)
	return m, err
}

// finished returns the run in dir and the path of its final state.
func finished(dir string) (config.Run, string, error) {
	run, err := config.ReadRun(filepath.Join(dir, "config.toml"), framework.Registry{})
	if err != nil {
		return run, "", err
	}
	name := finalName
	if _, ok := run.Keys.(framework.Direct); ok {
		name = "final.json"
	}
	path := filepath.Join(dir, "checkpoint", name)
	if _, err := os.Stat(path); err != nil {
		return run, "", fmt.Errorf("%s has no final checkpoint: train it first, with thorax run", dir)
	}
	return run, path, nil
}

// Close frees the model.
func (m *Model) Close() error {
	if m.scorer == nil {
		return nil
	}
	return m.scorer.session.Close()
}

// Score scores images in order and calls each once an image with its score and
// its S×S anomaly map, nil if the method has none.
func (m *Model) Score(x framework.Images, each func(i int, score float64, m []float32) error) error {
	if m.direct != nil {
		for i := range x.Len() {
			s, a, err := m.direct.Score(x, i)
			if err != nil {
				return err
			}
			if err := each(i, s, a); err != nil {
				return err
			}
		}
		return nil
	}
	return m.scorer.score(x.Len(), func(i int, dst []float32) error {
		copy(dst, x.Pixels(i).V)
		return nil
	}, func(i int, s float32, a []float32) error { return each(i, float64(s), a) })
}

// Export writes the variables of the finished run in dir that scoring needs to
// a safetensors file, under their paths.
func Export(dir, to string) (int, error) {
	run, path, err := finished(dir)
	if err != nil {
		return 0, err
	}
	method, ok := run.Keys.(framework.Method)
	if !ok {
		return 0, fmt.Errorf("%s: %s has no weights", dir, run.Method)
	}
	c, err := load(path)
	if err != nil {
		return 0, err
	}
	r := runner{Job: &Job{Run: run}}
	s, err := newScorer(method, run.Seed, run.Data.Size, run.Train.ScoreBatch, r.options(), c)
	if err != nil {
		return 0, err
	}
	defer s.session.Close()
	keep := map[string]bool{}
	for _, v := range s.scope.Variables() {
		keep[v.Path] = v != s.scope.GlobalStepVariable()
	}
	maps.DeleteFunc(c.arrays, func(path string, _ weights.Array) bool { return !keep[path] })
	return len(c.arrays), weights.SaveSafetensors(to, c.arrays, map[string]string{"method": run.Method, "hash": run.Hash()})
}

// Split is one split of an open data set as images.
func Split(d *data.Dataset, split data.Split) framework.Images { return images{d, split} }
