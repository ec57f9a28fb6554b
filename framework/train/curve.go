package train

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/record"
)

// bestName holds the scores of the best point of the learning curve so far.
const bestName = "best.csv"

// mark adds a point to the learning curve: it scores the test images with the
// model as it stands. Nothing in training depends on it. What later fits give
// their variables is not there yet.
func (t *trainer) mark(phase string) error {
	arrays, err := snapshot(t.session, t.program.scope)
	if err != nil {
		return t.bad(phase, err)
	}
	now := &checkpoint{path: "in memory", arrays: arrays}
	if t.curve == nil {
		t.curve, err = newScorer(t.method, t.Run.Seed, t.Run.Data.Size, t.Run.Train.ScoreBatch, t.options(), now)
		if err == nil {
			t.best, _, err = t.peak() // of a run that goes on
		}
	} else {
		err = now.restore(t.curve.session, t.curve.scope)
	}
	if err != nil {
		return fmt.Errorf("learning curve: %w", err)
	}
	items := t.Data.Items(data.Test)
	scores := make([]record.Score, 0, len(items))
	err = t.curve.score(len(items), func(i int, dst []float32) error {
		t.Data.Pixels(data.Test, i, dst)
		return nil
	}, func(i int, score float32, _ []float32) error {
		scores = append(scores, scoreOf(items[i], data.Test, float64(score)))
		return nil
	})
	if err != nil {
		return fmt.Errorf("learning curve: %w", err)
	}
	in, _ := record.Input(scores)
	auroc, err := metric.AUROC(in.Scores, in.Abnormal)
	if err != nil {
		return fmt.Errorf("learning curve: %w", err)
	}
	t.Progress.Note(fmt.Sprintf("step %d: AUROC of the test images %.4f", t.now.global, auroc))
	if auroc > t.best {
		t.best = auroc
		if err := t.folder.WriteFile(bestName, func(w io.Writer) error { return record.WriteScores(w, scores) }); err != nil {
			return err
		}
	}
	return t.folder.AppendLog(record.Step{Step: t.now.global, Phase: phase, TestAUROC: &auroc, Time: time.Now().UTC()})
}

// missed makes up for the point of the curve that belongs to the present step,
// if the log has none.
func (t *trainer) missed(phase string) error {
	log, err := t.folder.Log()
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, s := range log {
		if s.TestAUROC != nil && s.Step == t.now.global {
			return err
		}
	}
	return errors.Join(err, t.mark(phase))
}

// peak is the best point of the learning curve in the log: its AUROC and step,
// 0 without any. Of equal ones it is the first.
func (r *runner) peak() (auroc float64, step int, err error) {
	log, err := r.folder.Log()
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, s := range log {
		if s.TestAUROC != nil && *s.TestAUROC > auroc {
			auroc, step = *s.TestAUROC, s.Step
		}
	}
	return auroc, step, err
}

func (t *trainer) closeCurve() {
	if t.curve != nil {
		t.curve.session.Close()
	}
}

// oracle makes a run with a learning curve a second row: the scores of the step
// that the labels of the test images chose. Its name says so.
func (r *runner) oracle() error {
	b, err := os.ReadFile(r.folder.Path(bestName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	scores, err := record.ReadScores(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%s: %w", r.folder.Path(bestName), err)
	}
	auroc, step, err := r.peak()
	if err != nil {
		return err
	}
	run := r.run
	run.Label += ", best test step (oracle)"
	run.Steps = step
	run.Notes = append(run.Notes[:len(run.Notes):len(run.Notes)],
		fmt.Sprintf("oracle: step %d of %d, chosen for its AUROC of %.4f on the test images", step, r.run.Steps, auroc))
	run.TrainSeconds, run.ScoreSeconds, run.MsPerImage = 0, 0, 0 // those of the run it comes from
	run.MetricIDs = nil
	in, _ := record.Input(scores)
	var specs []metric.Spec
	for _, s := range r.Metrics {
		if !s.Pixel() {
			specs = append(specs, s)
		}
	}
	figures := metric.EvalAll(specs, in)
	for i := range figures {
		figures[i].Oracle = true
		run.MetricIDs = append(run.MetricIDs, figures[i].ID)
	}
	config, err := r.folder.Config()
	if err != nil {
		return err
	}
	row := filepath.Dir(r.folder.Dir)
	folder, err := record.Create(filepath.Join(filepath.Dir(row), record.Slug(run.Label), filepath.Base(r.folder.Dir)))
	if err != nil {
		return err
	}
	config = bytes.Replace(config, []byte("[train]\n"), []byte("[train]\nselection = \"best-test\"\n"), 1)
	return errors.Join(folder.WriteConfig(config), folder.WriteScores(scores), folder.WriteFigures(figures), folder.WriteRun(run))
}
