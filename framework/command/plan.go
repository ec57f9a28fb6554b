//go:build !reports

package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/record"
)

type planCmd struct {
	Experiments []string `arg:"" name:"experiment" help:"Experiment files." type:"existingfile"`
	Set         []string `help:"Override a key, as for thorax run." sep:"none" placeholder:"KEY=VALUE"`
	Only        []string `help:"Only these rows, by method or slug." placeholder:"ROW"`
	Shard       string   `help:"Only every n-th run." placeholder:"I/N"`
}

func (planCmd) Help() string {
	return "Lists every run with what thorax run would do and why, and estimates time and memory from earlier runs of the same method. Runs in archive/ are complete but have no checkpoint: reports read them, thorax run trains anew. Nothing is trained or read." +
		example("thorax plan experiments/zhanglab.toml", "thorax plan experiments/demo.toml --set train.steps=200")
}

func (c *planCmd) Run(a *app) error {
	past, err := readPast(a.Results)
	if err != nil {
		return err
	}
	for _, path := range c.Experiments {
		e, err := config.Load(path, framework.Registry{}, c.Set)
		if err != nil {
			return fmt.Errorf("%w: %v", errUsage, err)
		}
		runs, err := e.Runs()
		if err != nil {
			return fmt.Errorf("%w: %v", errUsage, err)
		}
		if runs, err = (&runCmd{Only: c.Only, Shard: c.Shard}).choose(runs); err != nil {
			return err
		}
		if err := c.print(a, e, runs, past); err != nil {
			return err
		}
	}
	return nil
}

// planned is a run, what became of it so far, and what is left to do.
type planned struct {
	state, why string
	todo       bool
}

func (c *planCmd) print(a *app, e *config.Experiment, runs []config.Run, past []earlier) error {
	out := tablewriter.NewTable(a.stdout, tablewriter.WithHeaderAutoFormat(tw.Off), tablewriter.WithRowAutoWrap(tw.WrapNone))
	out.Header([]string{"data", "row", "seed", "state", "time", "memory", "why"})
	count := map[string]int{}
	var seconds float64
	var memory int64
	todo, unknown := 0, 0
	trained := map[string]string{} // labels, by what training depends on
	for _, r := range runs {
		p := planOf(a.Results, r)
		count[p.state]++
		training := r.Training(r.Data.Learning())
		other, shares := trained[training]
		_, graph := r.Keys.(framework.Method)
		if shares = shares && graph && p.todo && r.Train.CurveEvery == 0; shares {
			p.why += "; trained with " + other
		} else {
			trained[training] = r.Label + " on " + r.Data.Name
		}
		duration, most := "", ""
		if p.todo {
			todo++
			s, m, ok := estimate(r, past, !shares)
			if ok {
				seconds, memory = seconds+s, max(memory, m)
				duration, most = about(s), megabytes(m)
			} else {
				unknown++
				duration, most = "?", "?"
			}
		}
		if err := out.Append([]string{r.Data.Name, r.Label, strconv.FormatUint(r.Seed, 10), p.state, duration, most, p.why}); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.stdout, e.Title)
	if err := out.Render(); err != nil {
		return err
	}
	var parts []string
	for _, s := range []string{"done", "archived", "new", "interrupted", "failed", "stale", "running"} {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	fmt.Fprintf(a.stdout, "%d runs: %s. ", len(runs), strings.Join(parts, ", "))
	switch {
	case todo == 0:
		fmt.Fprintln(a.stdout, "Nothing to do.")
	case unknown == todo:
		fmt.Fprintf(a.stdout, "%d to do; no earlier run tells how long.\n", todo)
	default:
		fmt.Fprintf(a.stdout, "%d to do, about %s one after another, at most %s", todo, about(seconds), megabytes(memory))
		if unknown > 0 {
			fmt.Fprintf(a.stdout, ", and %d of unknown length", unknown)
		}
		fmt.Fprintln(a.stdout, "; by earlier runs of the same methods.")
	}
	return nil
}

// planOf says what thorax run would do with a run.
func planOf(results string, r config.Run) planned {
	_, rest, _ := strings.Cut(r.Dir, "/")
	dir := filepath.Join(results, filepath.FromSlash(rest))
	stored, err := os.ReadFile(filepath.Join(dir, "config.toml"))
	if err != nil {
		return planOfArchived(filepath.Join(results, "archive", filepath.FromSlash(rest)), r)
	}
	if diff := r.Diff(stored); len(diff) > 0 {
		return planned{"stale", "needs --redo: " + strings.Join(diff, ", "), false}
	}
	entries, err := record.Find(dir)
	if err != nil || len(entries) != 1 {
		return planned{"new", "never started", true}
	}
	e := entries[0]
	switch e.State() {
	case record.State(record.Complete):
		return planned{"done", "finished " + e.Run.Finished.Format(time.DateTime), false}
	case record.State(record.Failed):
		return planned{"failed", "would be tried again: " + e.Run.Error, true}
	case record.State(record.Running):
		owner, _ := e.Locked()
		return planned{"running", owner.String(), false}
	}
	step := 0
	if log, err := e.Log(); err == nil && len(log) > 0 {
		step = log[len(log)-1].Step
	}
	if _, err := os.Stat(e.Path("checkpoint")); err != nil || step == 0 {
		return planned{"interrupted", "would start anew, no checkpoint was saved", true}
	}
	return planned{"interrupted", fmt.Sprintf("would go on from its last checkpoint, at or before step %d", step), true}
}

// planOfArchived says what thorax run would do with a run that never started here and
// may lie, complete but without its checkpoint, in the archive.
func planOfArchived(dir string, r config.Run) planned {
	never := planned{"new", "never started", true}
	entries, err := record.Find(dir)
	if err != nil || len(entries) != 1 || entries[0].State() != record.State(record.Complete) {
		return never
	}
	stored, err := entries[0].Config()
	if err != nil {
		return never
	}
	if diff := r.Diff(stored); len(diff) > 0 {
		never.why += "; archived with other keys: " + strings.Join(diff, ", ")
		return never
	}
	return planned{"archived", "complete in archive/, without its checkpoint; would train anew", true}
}

// An earlier run is complete and tells what its method costs.
type earlier struct {
	run  record.Run
	keys map[string]any
}

func readPast(results string) ([]earlier, error) {
	if _, err := os.Stat(results); err != nil {
		return nil, nil // nothing was ever run
	}
	entries, err := record.Find(results)
	if err != nil {
		return nil, err
	}
	var past []earlier
	for _, e := range entries {
		text, err := e.Config()
		if err != nil || e.State() != record.State(record.Complete) || e.Run.TrainSeconds+e.Run.ScoreSeconds == 0 {
			continue
		}
		keys, err := config.Relevant(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path("config.toml"), err)
		}
		past = append(past, earlier{e.Run, keys})
	}
	return past, nil
}

// number reads a key of an earlier configuration, 0 where it has none.
func (e earlier) number(key string) float64 {
	v, _ := strconv.ParseFloat(fmt.Sprint(e.keys[key]), 64)
	return v
}

// work is what training costs, up to a factor of the method: pixels seen. unit tells
// steps, epochs and fits apart, which are not compared.
func work(steps, epochs, batch, size float64) (pixels float64, unit string) {
	switch {
	case steps > 0:
		return steps * batch * size * size, "steps"
	case epochs > 0:
		return epochs * size * size, "epochs"
	}
	return size * size, "fit"
}

// estimate scales the mean cost of earlier runs of the method, on the same data set
// where there are any, by the pixels to be seen; without training it is that of
// scoring. Memory is the highest of them.
func estimate(r config.Run, past []earlier, train bool) (seconds float64, memory int64, ok bool) {
	size := float64(r.Data.Size)
	pixels, unit := work(float64(r.Train.Steps), float64(r.Train.Epochs), float64(r.Train.Batch), size)
	for _, sameData := range []bool{true, false} {
		n := 0.
		for _, e := range past {
			theirs := e.number("data.size")
			before, u := work(e.number("train.steps"), e.number("train.epochs"), e.number("train.batch"), theirs)
			if e.run.Method != r.Method || u != unit || theirs == 0 || sameData && e.run.Data != r.Data.Name {
				continue
			}
			n++
			seconds += e.run.ScoreSeconds * size * size / (theirs * theirs)
			if train {
				seconds += e.run.TrainSeconds * pixels / before
			}
			memory = max(memory, e.run.PeakMemory)
		}
		if n > 0 {
			return seconds / n, memory, true
		}
	}
	return 0, 0, false
}

// about writes a duration for planning.
func about(seconds float64) string {
	switch {
	case seconds >= 3600:
		return fmt.Sprintf("%.1f h", seconds/3600)
	case seconds >= 60:
		return fmt.Sprintf("%.0f min", seconds/60)
	}
	return fmt.Sprintf("%.0f s", seconds)
}

func megabytes(n int64) string {
	if n == 0 {
		return "?"
	}
	return fmt.Sprintf("%d MB", n/1e6)
}
