package bench

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"context"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/record"
	"thorax/framework/train"
	"thorax/graphs/session"
)

// A Result is one figure against its goal. A smaller figure is better.
type Result struct {
	Name    string
	Goal    float64
	Figure  float64
	Unit    string
	Skipped string // why it was not measured
}

// Met reports whether the goal was met or not measured.
func (r Result) Met() bool { return r.Skipped != "" || r.Figure <= r.Goal }

func (r Result) String() string {
	if r.Skipped != "" {
		return fmt.Sprintf("%-52s goal %8.3g %-6s        –         not measured: %s", r.Name, r.Goal, r.Unit, r.Skipped)
	}
	verdict := "met"
	if !r.Met() {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%-52s goal %8.3g %-6s figure %8.3g %-6s %s", r.Name, r.Goal, r.Unit, r.Figure, r.Unit, verdict)
}

// Options say what to measure on.
type Options struct {
	ZhangLab string // folder of the ZhangLab set; not there: what needs it is skipped
	Cache    string
	Threads  int
	Only     []string // methods to measure; none means all
}

// Run measures everything and prints each figure as it comes. It returns the
// results; nothing else should run on the machine.
func Run(ctx context.Context, w io.Writer, o Options) ([]Result, error) {
	proto, err := session.Options{Threads: o.Threads}.Proto()
	if err != nil {
		return nil, err
	}
	reference, err := NewUnit(proto)
	if err != nil {
		return nil, fmt.Errorf("reference auto-encoder: %w", err)
	}
	unit, err := reference.Best(20)
	if err != nil {
		return nil, err
	}
	if err := reference.Close(); err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "unit: one step of the reference auto-encoder takes %.3f s on this machine\n", unit.Seconds())
	var all []Result
	for _, b := range []struct {
		method  string
		measure func(context.Context, Options, time.Duration) ([]Result, error)
	}{{"bootstrap", statistics}, {"ae", steps}, {"patchcore", patchcore}, {simsid.method, simsid.run}, {salient.method, salient.run}} {
		if len(o.Only) > 0 && !slices.Contains(o.Only, b.method) {
			continue
		}
		results, err := b.measure(ctx, o, unit)
		if err != nil {
			return all, err
		}
		for _, r := range results {
			fmt.Fprintln(w, r)
		}
		all = append(all, results...)
	}
	return all, nil
}

// run returns the configuration of a method with its defaults on generated or
// real images.
func run(method string, d data.Options, t config.Train) (config.Run, framework.Info, error) {
	info, err := framework.Lookup(method)
	if err != nil {
		return config.Run{}, info, err
	}
	err = d.Check()
	return config.Run{Experiment: "bench", Data: d, Method: method, Label: method, Slug: method, Train: t, Keys: info.New(), Dir: "results/bench/" + d.Name + "/" + method + "/seed-0"}, info, err
}

// steps measures what trainer and feeding add to the steps of ae.
func steps(ctx context.Context, o Options, _ time.Duration) ([]Result, error) {
	const goalStep, goalFeed = 1.05, 0.02
	d := data.DefaultOptions()
	d.Set, d.Size, d.Validation = "phantom", 128, 0
	d.Phantom.Train, d.Phantom.TestNormal, d.Phantom.TestAbnormal = 64, 1, 1
	t := config.DefaultTrain()
	t.Threads = o.Threads
	r, _, err := run("ae", d, t)
	if err != nil {
		return nil, err
	}
	set, err := data.Open(r.Data, o.Cache)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	s, err := train.MeasureSpeed(r, set, 100)
	if err != nil {
		return nil, err
	}
	return []Result{
		{Name: "ae, 128 px, batch 16: step against a bare loop", Goal: goalStep, Figure: s.Step / s.Bare, Unit: "×"},
		{Name: "ae, 128 px, batch 16: waiting for batches", Goal: goalFeed, Figure: s.Feed / s.Step, Unit: "steps"},
	}, ctx.Err()
}

// patchcore measures extraction, fit and scoring of PatchCore at 128 px on
// ZhangLab, without decoding.
func patchcore(ctx context.Context, o Options, unit time.Duration) ([]Result, error) {
	// 27 CPU seconds where the unit takes 0.3 s.
	goal, memory := 27*unit.Seconds()/0.3, 1.6
	results := []Result{
		{Name: "patchcore 1 %, 128 px, ZhangLab: processor time", Goal: goal, Unit: "s"},
		{Name: "patchcore 1 %, 128 px, ZhangLab: peak memory", Goal: memory, Unit: "GB"},
	}
	if _, err := os.Stat(o.ZhangLab); err != nil {
		for i := range results {
			results[i].Skipped = o.ZhangLab + " is not there"
		}
		return results, nil
	}
	d := data.DefaultOptions()
	d.Set, d.Root, d.Size, d.Validation = "zhanglab", o.ZhangLab, 128, 0
	t := config.DefaultTrain()
	t.Threads, t.Batch, t.ScoreBatch = o.Threads, 32, 32
	r, info, err := run("patchcore", d, t)
	if err != nil {
		return nil, err
	}
	set, err := data.Open(r.Data, o.Cache)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	dir, err := os.MkdirTemp("", "thorax-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	auroc, err := metric.Parse("auroc")
	if err != nil {
		return nil, err
	}
	job := train.Job{Run: r, Info: info, Data: set, Results: dir, Metrics: []metric.Spec{auroc}}
	before := cpu()
	if _, err := job.Do(ctx); err != nil {
		return nil, err
	}
	results[0].Figure = (cpu() - before).Seconds()
	folder, err := record.Open(filepath.FromSlash(job.Dir()))
	if err != nil {
		return nil, err
	}
	done, err := folder.Run()
	results[1].Figure = float64(done.PeakMemory) / 1e9
	return results, err
}

// cpu is the processor time of this process so far, over all threads.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
