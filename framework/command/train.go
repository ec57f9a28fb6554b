//go:build !reports

package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/framework/lint"
	"thorax/framework/metric"
	"thorax/framework/published"
	"thorax/framework/record"
	"thorax/framework/report"
	"thorax/framework/train"
)

type runCmd struct {
	Experiments []string `arg:"" name:"experiment" help:"Experiment files." type:"existingfile"`
	Set         []string `help:"Override a key: method.ae.latent=8, train.steps=100, data.size=64, seeds=[0]. Repeatable." sep:"none" placeholder:"KEY=VALUE"`
	Only        []string `help:"Only these rows, by method or slug." placeholder:"ROW"`
	Shard       string   `help:"Only every n-th run, for several machines." placeholder:"I/N"`
	Redo        bool     `help:"Replace runs of another configuration and repeat finished ones."`
}

func (runCmd) Help() string {
	return "Finished runs are left alone, killed ones go on from their last checkpoint." +
		example("thorax run experiments/demo.toml", "thorax run experiments/demo.toml --set train.steps=200 --only ae")
}

func (c *runCmd) Run(a *app) error {
	var failed []error
	for _, path := range c.Experiments {
		e, err := config.Load(path, framework.Registry{}, c.Set)
		if err != nil {
			return fmt.Errorf("%w: %v", errUsage, err)
		}
		if err := c.experiment(a, e); err != nil {
			if a.ctx.Err() != nil {
				return err
			}
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// experiment does the runs of e one data block after another, then reports.
func (c *runCmd) experiment(a *app, e *config.Experiment) error {
	runs, err := e.Runs()
	if err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	if runs, err = c.choose(runs); err != nil {
		return err
	}
	specs := make([]metric.Spec, len(e.Report.Metrics))
	for i, name := range e.Report.Metrics {
		if specs[i], err = metric.Parse(name); err != nil {
			return err
		}
	}
	sets := dataSets{}
	defer sets.close()
	show := newProgress(a.stderr, len(runs))
	defer show.close()
	var failed []string
	for i, r := range runs {
		d, err := sets.open(r.Data, filepath.Clean(a.Cache), show)
		if err != nil {
			return err
		}
		info, err := framework.Lookup(r.Method)
		if err != nil {
			return err
		}
		show.begin(i, fmt.Sprintf("%s · %s · seed %d", d.Name(), r.Label, r.Seed))
		job := train.Job{
			Run: r, Info: info, Data: d, Results: a.Results, Metrics: specs, Maps: e.Report.Maps,
			Redo: c.Redo, Revision: revision(), Progress: show,
		}
		did, err := job.Do(a.ctx)
		switch {
		case errors.Is(err, train.ErrInterrupted):
			show.close()
			return fmt.Errorf("%s: %w: thorax run %s", job.Dir(), err, strings.Join(c.Experiments, " "))
		case err != nil:
			show.Note(fmt.Sprintf("failed: %v", err))
			failed = append(failed, fmt.Sprintf("%s: %v", job.Dir(), err))
		case !did:
			show.finish("already complete")
		default:
			show.finish("done")
		}
	}
	show.close()
	if err := c.report(a, e, sets); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d runs failed:\n  %s", len(failed), len(runs), strings.Join(failed, "\n  "))
	}
	return nil
}

// choose applies --only and --shard.
func (c *runCmd) choose(runs []config.Run) ([]config.Run, error) {
	i, n := 0, 1
	if c.Shard != "" {
		if _, err := fmt.Sscanf(c.Shard, "%d/%d", &i, &n); err != nil || n < 1 || i < 0 || i >= n {
			return nil, fmt.Errorf("%w: --shard %s: need I/N with I from 0 to N-1, such as 0/4", errUsage, c.Shard)
		}
	}
	known := map[string]bool{}
	var out []config.Run
	for k, r := range runs {
		known[r.Method], known[r.Slug] = true, true
		wanted := len(c.Only) == 0
		for _, o := range c.Only {
			wanted = wanted || o == r.Method || o == r.Slug
		}
		if wanted && k%n == i {
			out = append(out, r)
		}
	}
	for _, o := range c.Only {
		if !known[o] {
			return nil, fmt.Errorf("%w: --only %s: the experiment has no such row", errUsage, o)
		}
	}
	return out, nil
}

// report prints the table of an experiment and writes its files.
func (c *runCmd) report(a *app, e *config.Experiment, sets dataSets) error {
	dir := filepath.Join(a.Results, e.Name)
	entries, err := record.Find(dir)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	o := report.Options{Title: e.Title, Metrics: e.Report.Metrics, Costs: e.Report.Costs, Types: e.Report.Types, Images: sets.images(), Bold: terminal(a.stdout)}
	for _, f := range e.Report.Formats {
		switch f {
		case "png", "svg", "pdf":
			o.Plots = append(o.Plots, f)
		}
	}
	if e.Report.Published != "" {
		f, err := published.Read(e.Report.Published)
		if err != nil {
			return err
		}
		o.Published = append(o.Published, f)
	}
	if err := writeAnnotations(dir, e.Report.Annotate); err != nil {
		return err
	}
	if o.Findings, err = findings(lint.Input{Entries: entries, Published: o.Published}, e.Report.Annotate); err != nil {
		return err
	}
	if err := report.Terminal(a.stdout, entries, o); err != nil {
		return err
	}
	return write(a, entries, dir, dir, o)
}

// dataSets are the opened data sets of a command.
type dataSets map[dataKey]*data.Dataset

// A dataKey tells the data sets of an experiment apart: rows may train on a contaminated version.
type dataKey struct {
	name          string
	contamination float64
}

func (s dataSets) open(o data.Options, cache string, show *progress) (*data.Dataset, error) {
	key := dataKey{o.Name, o.Contamination}
	if d := s[key]; d != nil {
		return d, nil
	}
	o.Progress = show.decoding(o.Name)
	d, err := data.Open(o, cache)
	if err == nil {
		s[key] = d
	}
	return d, err
}

func (s dataSets) close() {
	for _, d := range s {
		d.Close()
	}
}

// images gives the test images of each set to a report.
func (s dataSets) images() map[string]report.Images {
	out := map[string]report.Images{}
	for key, d := range s { // the test images of all versions of a set are the same
		out[key.name] = newTestImages(d)
	}
	return out
}

// revision is the revision of the code that runs, with "+" if it was changed: as the
// build noted it, or else, under go run and go test, as git has it at the first call.
// "" if neither says.
var revision = sync.OnceValue(func() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		noted := map[string]string{}
		for _, s := range b.Settings {
			noted[s.Key] = s.Value
		}
		if r := noted["vcs.revision"]; len(r) >= 12 {
			if noted["vcs.modified"] == "true" {
				return r[:12] + "+"
			}
			return r[:12]
		}
	}
	out, err := exec.CommandContext(context.Background(), "git", "describe", "--always", "--dirty=+", "--abbrev=12").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
})
