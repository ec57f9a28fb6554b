package train

import (
	"fmt"
	"slices"
	"time"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/graphs/session"
)

// Speed is how the steps of a method's first optimised phase spend their time.
type Speed struct {
	Step float64 // seconds of a step as the trainer runs it: feeding, step, counter; median
	Bare float64 // seconds of one call of TensorFlow on the same operations with a fixed batch; median
	Feed float64 // seconds of a step spent waiting for its batch; mean
}

// MeasureSpeed runs n steps of a run's first optimised phase, and as many bare
// ones in turn with them, so that a machine's changing speed meets both.
func MeasureSpeed(run config.Run, d *data.Dataset, n int) (Speed, error) {
	m, ok := run.Keys.(framework.Method)
	if !ok {
		return Speed{}, fmt.Errorf("%s has no graph", run.Method)
	}
	r := &runner{Job: &Job{Run: run, Data: d}}
	in, err := r.inputs(m)
	if err != nil {
		return Speed{}, err
	}
	const warm = 5
	p, err := build(m, run.Seed, in, n+warm)
	if err != nil {
		return Speed{}, err
	}
	i := slices.IndexFunc(p.phases, func(c *phase) bool { return c.Fit == nil })
	if i < 0 {
		return Speed{}, fmt.Errorf("%s optimises nothing", run.Method)
	}
	c := p.phases[i]
	x, err := session.New(p.scope, r.options())
	if err != nil {
		return Speed{}, err
	}
	defer x.Close()
	if err := x.Init(); err != nil {
		return Speed{}, err
	}
	feed := newFeeder(d, m, run.Seed, p.in, c.feeds, 0, n+warm)
	var fixed map[tf.Output]*tf.Tensor
	var steps, bare []float64
	var wait time.Duration
	for k := range n + warm {
		start := time.Now()
		batch := feed.take()
		waited := time.Since(start)
		if _, err := x.Run(batch, nil, c.targets(0)...); err != nil {
			return Speed{}, err
		}
		if _, err := x.Run(nil, nil, p.bump); err != nil {
			return Speed{}, err
		}
		step := time.Since(start)
		if fixed == nil {
			fixed = batch
		}
		start = time.Now()
		if _, err := x.Raw().Run(fixed, nil, c.targets(0)); err != nil {
			return Speed{}, err
		}
		if k >= warm {
			steps, bare = append(steps, step.Seconds()), append(bare, time.Since(start).Seconds())
			wait += waited
		}
	}
	return Speed{Step: median(steps), Bare: median(bare), Feed: wait.Seconds() / float64(n)}, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
