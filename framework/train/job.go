package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/record"
	"thorax/graphs/session"
)

// A Job is one run: a method on a data set with a seed, and where it goes.
type Job struct {
	Run      config.Run
	Info     framework.Info
	Data     *data.Dataset // nil for an imported run that is given its images later
	Results  string        // root of all results; the run's folder is Results and Run.Dir without its first element
	Metrics  []metric.Spec
	Maps     bool // keep the anomaly maps of the test images
	Redo     bool // throw an existing run away
	Notes    []string
	Revision string
	Progress Progress // nil: silent
}

// Progress is told what a run does.
type Progress interface {
	// Phase begins: "autoencoder" of total steps, "scoring" of total images.
	Phase(name string, done, total int)
	// Step says that done of the phase's total are finished; losses is nil
	// between logged steps.
	Step(done int, losses map[string]float64, imagesPerSecond float64)
	// Note is something the user should know.
	Note(text string)
}

// ErrInterrupted is the error of a run that was told to stop: it is saved and
// goes on when it is started again.
var ErrInterrupted = errors.New("interrupted; the run is saved and goes on when it is started again")

// ErrDiffers is the error of a folder that holds a run of another
// configuration.
var ErrDiffers = errors.New("holds a run of another configuration")

// Do runs the job. A complete run of the same configuration is left as it is,
// an interrupted one goes on from its last checkpoint to the same bits. It
// returns whether anything was done.
func (j *Job) Do(ctx context.Context) (did bool, err error) {
	if j.Progress == nil {
		j.Progress = silent{}
	}
	dir := j.Dir()
	folder, err := record.Create(dir)
	if err != nil {
		return false, err
	}
	if err := folder.Lock(); err != nil {
		return false, fmt.Errorf("%s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, folder.Unlock()) }()

	if j.Redo {
		if err := clear(folder); err != nil {
			return false, err
		}
	}
	stored, err := folder.Config()
	switch {
	case errors.Is(err, os.ErrNotExist):
		toml, err := j.Run.TOML()
		if err != nil {
			return false, err
		}
		if err := folder.WriteConfig(toml); err != nil {
			return false, err
		}
	case err != nil:
		return false, err
	default:
		if diff := j.Run.Diff(stored); len(diff) > 0 {
			return false, fmt.Errorf("%s %w: %s; use --redo to replace it, or another label", dir, ErrDiffers, strings.Join(diff, ", "))
		}
	}
	if run, err := folder.Run(); err == nil && run.Status == record.Complete && run.Hash == j.Run.Hash() {
		return false, nil
	}
	r := &runner{Job: j, folder: folder, ctx: ctx}
	return true, r.do()
}

// Dir returns the folder of the run.
func (j *Job) Dir() string {
	_, rest, _ := strings.Cut(j.Run.Dir, "/")
	return j.Results + "/" + rest
}

// clear removes what an earlier run wrote.
func clear(f *record.Folder) error {
	for _, name := range []string{"config.toml", "run.json", "train.jsonl", "scores.csv", "metrics.json", bestName, "maps", "checkpoint"} {
		if err := os.RemoveAll(f.Path(name)); err != nil {
			return err
		}
	}
	return nil
}

// A runner is a job at work.
type runner struct {
	*Job
	folder *record.Folder
	ctx    context.Context
	run    record.Run
}

func (r *runner) do() error {
	c := r.Run
	r.run = record.Run{
		Status: record.Running, Experiment: c.Experiment, Title: c.Title, Data: c.Data.Name, Method: c.Method,
		Label: c.Label, Family: r.Info.Family, Row: c.Row, Seed: int64(c.Seed), Hash: c.Hash(), Revision: r.Revision,
		TensorFlow: tf.Version(), Go: runtime.Version(), CPU: cpuName(), Threads: c.Train.Threads, Precision: c.Train.Precision,
		OneDNN:  os.Getenv("TF_ENABLE_ONEDNN_OPTS"),
		Started: time.Now().UTC().Truncate(time.Second), Notes: r.Notes,
	}
	if d := r.Data; d != nil {
		files, sum := d.Fingerprint()
		r.run.Fingerprint = record.Fingerprint{Files: files, SHA256: sum}
		if p := executable(); p != "" {
			r.run.Training = c.Training(d.Learnt() + " " + p)
		}
		r.run.SplitRule, r.run.Groups = d.SplitRule(), d.HasGroups()
	}
	if n, ok := c.Keys.(interface{ Notes() []string }); ok {
		r.run.Notes = append(r.run.Notes, n.Notes()...)
	}
	if old, err := r.folder.Run(); err == nil && old.Hash == r.run.Hash {
		r.run.TrainedAs = old.TrainedAs
	}
	if err := r.folder.WriteRun(r.run); err != nil {
		return err
	}
	if err := sweep(r.folder.Path("checkpoint")); err != nil {
		return err
	}
	ResetPeak()
	var err error
	switch m := c.Keys.(type) {
	case framework.Method:
		err = r.graph(m)
	case framework.Direct:
		err = r.direct(m)
	default:
		err = fmt.Errorf("%s is neither a Method nor a Direct", c.Method)
	}
	if err == nil {
		r.run.Status, r.run.Finished = record.Complete, time.Now().UTC().Truncate(time.Second)
		r.run.PeakMemory = Peak()
		if err := r.oracle(); err != nil {
			return err
		}
		return r.folder.WriteRun(r.run)
	}
	if errors.Is(err, ErrInterrupted) {
		return err
	}
	r.run.Status, r.run.Error = record.Failed, oneLine(err)
	return errors.Join(err, r.folder.WriteRun(r.run))
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// stopped reports whether the run was told to stop.
func (r *runner) stopped() bool { return r.ctx.Err() != nil }

// graph trains and scores a method with a graph.
func (r *runner) graph(m framework.Method) error {
	final, err := r.train(m)
	if err != nil {
		return err
	}
	scorer, err := newScorer(m, r.Run.Seed, r.Run.Data.Size, r.Run.Train.ScoreBatch, r.options(), final)
	if err != nil {
		return err
	}
	defer scorer.session.Close()
	if r.run.Device, err = device(scorer.session); err != nil {
		return err
	}
	for _, v := range scorer.scope.Variables() {
		n := int64(1)
		for _, d := range final.arrays[v.Path].Shape {
			n *= int64(d)
		}
		if v != scorer.scope.GlobalStepVariable() {
			r.run.Parameters += n
		}
	}
	r.run.Trained, r.run.Steps = true, final.global
	r.run.TrainSeconds = final.seconds
	final.arrays = nil
	if r.Data == nil {
		return nil
	}
	return r.score(func(split data.Split, each func(i int, score float64, m []float32) error) error {
		return scorer.score(r.Data.Len(split), func(i int, dst []float32) error {
			r.Data.Pixels(split, i, dst)
			return r.interrupted()
		}, func(i int, score float32, m []float32) error { return each(i, float64(score), m) })
	})
}

func (r *runner) interrupted() error {
	if r.stopped() {
		return ErrInterrupted
	}
	return nil
}

func (r *runner) options() session.Options {
	return session.Options{Threads: r.Run.Train.Threads, Precision: r.Run.Train.Precision}
}

// direct fits and scores a method without a graph. Its state is JSON.
func (r *runner) direct(m framework.Direct) error {
	const state = "checkpoint/final.json"
	if b, err := os.ReadFile(r.folder.Path(state)); err == nil {
		if err := json.Unmarshal(b, m); err != nil {
			return fmt.Errorf("%s: %w", r.folder.Path(state), err)
		}
	} else {
		start := time.Now()
		r.Progress.Phase("fit", 0, 1)
		if err := m.Fit(images{r.Data, data.Train}, r.Run.Seed); err != nil {
			return err
		}
		if err := r.folder.WriteFile(state, func(w io.Writer) error { return json.NewEncoder(w).Encode(m) }); err != nil {
			return err
		}
		r.Progress.Step(1, nil, 0)
		r.run.TrainSeconds = time.Since(start).Seconds()
	}
	r.run.Trained, r.run.Device = true, "CPU"
	return r.score(func(split data.Split, each func(i int, score float64, m []float32) error) error {
		all := images{r.Data, split}
		for i := range all.Len() {
			if err := r.interrupted(); err != nil {
				return err
			}
			s, a, err := m.Score(all, i)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Data.Items(split)[i].Path, err)
			}
			if err := each(i, s, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// images is one split of a data set.
type images struct {
	data  *data.Dataset
	split data.Split
}

func (x images) Len() int                          { return x.data.Len(x.split) }
func (x images) Size() int                         { return x.data.Size() }
func (x images) Pixels(i int) data.Pixels          { return pixels(x.data, x.split, i) }
func (x images) Native(i int) (data.Native, error) { return x.data.Native(x.split, i) }
