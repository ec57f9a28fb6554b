package train

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/framework/record"
	"thorax/graphs/session"
)

// train runs the phases that are left and returns the final checkpoint.
func (r *runner) train(m framework.Method) (*checkpoint, error) {
	dir := r.folder.Path("checkpoint")
	at := newest(dir, r.Progress.Note)
	if at != nil && filepath.Base(at.path) == finalName {
		return at, prune(dir)
	}
	in, err := r.inputs(m)
	if err != nil {
		return nil, err
	}
	p, err := build(m, r.Run.Seed, in, r.steps(in))
	if err != nil {
		return nil, err
	}
	if at == nil {
		if c, err := r.adopt(m, len(p.phases)); c != nil || err != nil {
			return c, err
		}
	}
	x, err := session.New(p.scope, r.options())
	if err != nil {
		return nil, err
	}
	defer x.Close()
	var now position
	if at != nil {
		if err := at.restore(x, p.scope); err != nil {
			return nil, err
		}
		now = at.position
		at = nil // frees its arrays
	} else if err := x.Init(); err != nil {
		return nil, err
	}
	if err := r.folder.TruncateLog(now.global); err != nil {
		return nil, err
	}
	t := &trainer{runner: r, method: m, program: p, session: x, dir: dir, now: now}
	defer t.closeCurve()
	for now := t.now.phase; now < len(p.phases); now++ {
		if err := t.phase(p.phases[now]); err != nil {
			return nil, err
		}
		t.now.phase, t.now.step = now+1, 0
		if now < len(p.phases)-1 {
			if err := t.save(stepName(t.now.global, t.now.phase)); err != nil {
				return nil, err
			}
		}
	}
	if err := t.save(finalName); err != nil {
		return nil, err
	}
	return load(filepath.Join(dir, finalName))
}

// inputs sizes a step: a corrupter makes several samples of one image.
func (r *runner) inputs(m framework.Method) (framework.Inputs, error) {
	in := framework.Inputs{Images: r.Data.Len(data.Train), Batch: r.Run.Train.Batch, Size: r.Data.Size()}
	in.Rows = in.Batch
	if c, ok := m.(framework.Corrupter); ok {
		samples := c.Corrupt(0, 0, func(i int) data.Pixels { return pixels(r.Data, data.Train, i) })
		if len(samples) == 0 {
			return in, fmt.Errorf("%s: its corruption makes no samples", r.Run.Method)
		}
		in.Rows *= len(samples)
	}
	return in, nil
}

// steps is the budget of the experiment in steps.
func (r *runner) steps(in framework.Inputs) int {
	t := r.Run.Train
	if t.Steps > 0 {
		return t.Steps
	}
	return int(math.Ceil(float64(t.Epochs) * float64(in.Images) / float64(in.Batch)))
}

// A trainer is a runner with a session.
type trainer struct {
	*runner
	method  framework.Method
	program *program
	session *session.Session
	dir     string
	now     position
	curve   *scorer // for the learning curve; nil until it is first needed
	best    float64 // AUROC on it so far
}

// save writes a checkpoint of the present position.
func (t *trainer) save(name string) error {
	return t.bad("", save(t.dir, name, t.session, t.program.scope, t.now))
}

// bad completes the error of a value that is not finite with where to go back to.
func (t *trainer) bad(phase string, err error) error {
	var n *notFinite
	if !errors.As(err, &n) {
		return err
	}
	last := "there is no checkpoint before it"
	if names := list(t.dir); len(names) > 0 {
		last = "the last good checkpoint is " + filepath.Join(t.dir, names[len(names)-1])
	}
	return fmt.Errorf("%w at step %d; %s; a lower learning rate or precision = \"float32\" may help", n, t.now.global, last)
}

func (t *trainer) phase(c *phase) error {
	if c.Fit != nil {
		return t.fit(c)
	}
	return t.optimise(c)
}

// optimise runs the steps of a phase that are left.
func (t *trainer) optimise(c *phase) error {
	t.Progress.Phase(c.Name, t.now.step, c.Steps)
	offset := t.now.global - t.now.step // the step of the run at which the phase began
	feed := newFeeder(t.Data, t.method, t.Run.Seed, t.program.in, c.feeds, t.now.global, offset+c.Steps)
	defer feed.stop()
	start, began := time.Now(), t.now.seconds
	logged, at := start, t.now.step
	logEvery, saveEvery := t.Run.Train.LogEvery, t.Run.Train.SaveEvery
	if every := t.Run.Train.CurveEvery; every > 0 && t.now.step > 0 && t.now.step%every == 0 {
		if err := t.missed(c.Name); err != nil { // stopped before its point of the curve
			return err
		}
		start = time.Now()
	}
	for t.now.step < c.Steps {
		k := t.now.step
		last := k+1 == c.Steps
		saving := last || (k+1)%saveEvery == 0
		logging := k == 0 || (k+1)%logEvery == 0 || saving
		var names []string
		var fetch []tf.Output
		if logging {
			names, fetch = c.losses(k)
			for _, u := range c.updates {
				if k%u.every == 0 {
					fetch = append(fetch, u.rate)
				}
			}
		}
		out, err := t.session.Run(feed.take(), fetch, c.targets(k)...)
		if err != nil {
			return fmt.Errorf("phase %s, step %d: %w", c.Name, k, err)
		}
		losses := map[string]float64{}
		for i, name := range names {
			v := session.Values(out[i])[0]
			if !finite([]float32{v}) {
				return t.bad(c.Name, &notFinite{fmt.Sprintf("phase %s: loss %s", c.Name, name)})
			}
			losses[name] = float64(v)
		}
		if _, err := t.session.Run(nil, nil, t.program.bump); err != nil {
			return err
		}
		t.now.step++
		t.now.global++
		t.now.seconds = began + time.Since(start).Seconds()
		halt := time.Now()
		if logging {
			rate := float64((t.now.step-at)*t.program.in.Batch) / time.Since(logged).Seconds()
			logged, at = time.Now(), t.now.step
			rates := map[string]float64{}
			i := len(names)
			for _, u := range c.updates {
				if k%u.every == 0 {
					rates[u.name] = float64(session.Values(out[i])[0])
					i++
				}
			}
			if err := t.folder.AppendLog(record.Step{
				Step: t.now.global, Phase: c.Name, Losses: losses, LearningRates: rates, ImagesPerSecond: rate,
				Time: time.Now().UTC(),
			}); err != nil {
				return err
			}
			t.Progress.Step(t.now.step, losses, rate)
		} else {
			t.Progress.Step(t.now.step, nil, 0)
		}
		if stop := t.stopped() && !last; stop || saving && !last {
			if err := t.save(stepName(t.now.global, t.now.phase)); err != nil {
				return err
			}
			if stop {
				return ErrInterrupted
			}
		}
		if every := t.Run.Train.CurveEvery; every > 0 && (last || t.now.step%every == 0) {
			if err := t.mark(c.Name); err != nil {
				return err
			}
			start, logged, at = start.Add(time.Since(halt)), time.Now(), t.now.step
		}
	}
	return nil
}

// fit shows a phase every image once. Rows beyond the last image are padding.
func (t *trainer) fit(c *phase) error {
	f := c.Fit
	n, rows, size := t.Data.Len(f.Over), t.program.in.Rows, t.Data.Size()
	start, began := time.Now(), t.now.seconds
	t.Progress.Phase(c.Name, 0, n)
	if len(f.Outputs) == 0 {
		n = 0
	}
	for first := 0; first < n; first += rows {
		if t.stopped() {
			return ErrInterrupted // a fit starts anew
		}
		feeds := map[tf.Output]*tf.Tensor{}
		if c.feeds[t.program.in.Image] {
			feeds[t.program.in.Image] = greyTensor([]int{rows, size, size, 1}, func(j int) []uint8 {
				return t.Data.Grey(f.Over, min(first+j, n-1))
			})
		}
		if c.feeds[t.program.in.Index] {
			index := make([]int64, rows)
			for j := range index {
				index[j] = int64(min(first+j, n-1))
			}
			feeds[t.program.in.Index] = session.Ints([]int{rows}, index)
		}
		out, err := t.session.Run(feeds, f.Outputs)
		if err != nil {
			return fmt.Errorf("phase %s: %w", c.Name, err)
		}
		k := min(rows, n-first)
		batch := make([]framework.Rows, len(out))
		for i, o := range out {
			shape := make([]int, 0, 4)
			per := 1
			for _, d := range o.Shape()[1:] {
				shape = append(shape, int(d))
				per *= int(d)
			}
			batch[i] = framework.Rows{N: k, Shape: shape, V: session.Values(o)[:k*per]}
		}
		if err := f.Batch(batch); err != nil {
			return fmt.Errorf("phase %s: %w", c.Name, err)
		}
		t.Progress.Step(first+k, nil, float64(first+k)/time.Since(start).Seconds())
	}
	values, err := f.Done()
	if err != nil {
		return fmt.Errorf("phase %s: %w", c.Name, err)
	}
	for _, v := range values {
		if err := t.set(v); err != nil {
			return fmt.Errorf("phase %s: %w", c.Name, err)
		}
	}
	t.now.seconds = began + time.Since(start).Seconds()
	return nil
}

func (t *trainer) set(v framework.Value) error {
	if v.Variable.DType == tf.Int64 {
		ints := make([]int64, len(v.V))
		for i, f := range v.V {
			ints[i] = int64(f)
		}
		return t.session.SetInts(v.Variable, v.Shape, ints)
	}
	return t.session.Set(v.Variable, v.Shape, v.V)
}
