package verify

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// Against recomputes the means and deviations that a table.csv of a report holds,
// from the scores of the runs. A line of an image metric that the runs do not give,
// or give otherwise, has drifted; costs, floors, gaps and published values are no
// figures of ours and are passed over. Errors: a file that is not such a table, or a
// damaged scores.csv.
func Against(path string, entries []record.Entry) ([]Check, error) {
	lines, err := readTable(path)
	if err != nil {
		return nil, err
	}
	type key struct{ experiment, data, slug string }
	inputs := map[key][]metric.Input{}
	for _, e := range entries {
		if e.State() != record.State(record.Complete) {
			continue
		}
		scores, err := e.Scores()
		if err != nil {
			return nil, err
		}
		in, _ := record.Input(scores)
		k := key{e.Run.Experiment, e.Run.Data, record.Slug(e.Run.Label)}
		inputs[k] = append(inputs[k], in)
	}
	var out []Check
	for _, l := range lines {
		spec, err := metric.Parse(l.metric)
		if err != nil {
			continue
		}
		c := Check{Where: fmt.Sprintf("%s: %s, %s", path, l.data, l.label), Metric: l.metric, Recorded: l.mean, Now: math.NaN(), Verdict: Drifted}
		k := key{l.experiment, l.data, record.Slug(l.label)}
		if i := strings.LastIndex(l.label, " ("); inputs[k] == nil && i >= 0 { // "AE (demo)" in a table of several experiments
			k = key{strings.TrimSuffix(l.label[i+2:], ")"), l.data, record.Slug(l.label[:i])}
		}
		var values []float64
		reason := "no complete run of this row was given"
		for _, in := range inputs[k] {
			if f := spec.Eval(in); f.OK {
				values = append(values, f.Value)
			} else {
				reason = f.Reason
			}
		}
		now := metric.Summarize(values)
		if now.N > 0 {
			c.Now = now.Mean
		}
		switch {
		case spec.ID() != l.id:
			c.Reason = fmt.Sprintf("the table has %s, the name now stands for %s", l.id, spec.ID())
		case spec.Pixel():
			c.Verdict, c.Reason = Open, "pixel figures of a table are checked run by run, without --against"
		case now.N == 0 && math.IsNaN(l.mean):
			c.Verdict = Same
		case now.N == 0:
			c.Reason = reason
		case math.IsNaN(l.mean):
			c.Reason = "not computed in the table"
		case now.N != l.n:
			c.Reason = fmt.Sprintf("the table has %d seeds, %d give the figure now", l.n, now.N)
		case math.Abs(now.Mean-l.mean) > imageTolerance:
			c.Reason = "another mean"
		case now.N > 1 && math.Abs(now.SD-l.sd) > imageTolerance:
			c.Reason = fmt.Sprintf("another deviation, in the table %g, now %g", l.sd, now.SD)
		default:
			c.Verdict = Same
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no line of a metric to verify", path)
	}
	return out, nil
}

// A line is one cell of a table.csv; mean and sd are NaN where empty.
type line struct {
	experiment, data, label, metric, id string
	mean, sd                            float64
	n                                   int
}

func readTable(path string) ([]line, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := csv.NewReader(f)
	head, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	at := map[string]int{}
	for _, column := range []string{"experiment", "data", "label", "family", "metric", "id", "mean", "sd", "n"} {
		if at[column] = slices.Index(head, column); at[column] < 0 {
			return nil, fmt.Errorf("%s: no column %q; need a table.csv that thorax report wrote", path, column)
		}
	}
	var lines []line
	for {
		row, err := in.Read()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if row[at["family"]] == "floor" {
			continue
		}
		l := line{experiment: row[at["experiment"]], data: row[at["data"]], label: row[at["label"]], metric: row[at["metric"]], id: row[at["id"]]}
		for column, to := range map[string]*float64{"mean": &l.mean, "sd": &l.sd} {
			*to = math.NaN()
			if text := row[at[column]]; text != "" {
				if *to, err = strconv.ParseFloat(text, 64); err != nil {
					return nil, fmt.Errorf("%s: %s, %s: %s %q is not a number", path, l.label, l.metric, column, text)
				}
			}
		}
		if l.n, err = strconv.Atoi(row[at["n"]]); err != nil {
			return nil, fmt.Errorf("%s: %s, %s: n %q is not a number", path, l.label, l.metric, row[at["n"]])
		}
		lines = append(lines, l)
	}
}
