package report

import (
	"slices"
	"strings"

	"thorax/framework/metric"
)

// A twin is a thresholded metric twice: with the threshold frozen on validation
// normals, and with the best one of the test set.
type twin struct{ honest, oracle metric.Spec }

// twinOf pairs a metric with its counterpart; ok is false for ranking metrics,
// which have no threshold. Oracle readings are paired with the threshold above all
// but 5 % of the validation normals (1 % of their pixels).
func twinOf(s metric.Spec) (t twin, ok bool) {
	name, pool, pooled := strings.Cut(s.Name, ":")
	base, rule, ruled := strings.Cut(name, "@")
	if !ruled || base == "aupro" {
		return t, false
	}
	honest, oracle := "@q-val.05", "@youden-test"
	switch {
	case s.Masks():
		honest, oracle = "@q-val.01", "@best"
	case base == "acc":
		oracle = "@acc-test"
	case base == "f1":
		oracle = "@f1-test"
	}
	if s.Oracle() {
		oracle = "@" + rule
	} else {
		honest = "@" + rule
	}
	if pooled {
		pool = ":" + pool
	}
	h, err1 := metric.Parse(base + honest + pool)
	o, err2 := metric.Parse(base + oracle + pool)
	return twin{h, o}, err1 == nil && err2 == nil
}

// twins lists the metrics a table with twins shows: each thresholded one followed
// by its counterpart. A pixel metric that no run recorded is left out.
func (s *set) twins() []metric.Spec {
	var out []metric.Spec
	add := func(spec metric.Spec) {
		if !slices.ContainsFunc(out, func(o metric.Spec) bool { return o.ID() == spec.ID() }) {
			out = append(out, spec)
		}
	}
	for _, spec := range s.specs {
		t, ok := twinOf(spec)
		if !ok {
			add(spec)
			continue
		}
		for _, half := range []metric.Spec{t.honest, t.oracle} {
			if half.ID() == spec.ID() {
				add(spec)
			} else if !half.Pixel() || s.recorded(half) {
				add(half)
			}
		}
	}
	return out
}

// recorded reports whether some run holds a figure of this definition.
func (s *set) recorded(spec metric.Spec) bool {
	for _, r := range s.rows {
		for _, run := range r.runs {
			if slices.ContainsFunc(run.stored, func(f metric.Figure) bool { return f.ID == spec.ID() }) {
				return true
			}
		}
	}
	return false
}

// gap is the advantage of choosing the threshold on the test set: the mean over
// seeds of oracle − honest.
func (r *row) gap(s *set, t twin) cell {
	h := slices.IndexFunc(s.all, func(x metric.Spec) bool { return x.ID() == t.honest.ID() })
	o := slices.IndexFunc(s.all, func(x metric.Spec) bool { return x.ID() == t.oracle.ID() })
	if h < 0 || o < 0 {
		return cell{}
	}
	var values []float64
	for _, run := range r.complete() {
		if run.figures[h].OK && run.figures[o].OK {
			values = append(values, run.figures[o].Value-run.figures[h].Value)
		}
	}
	mean, sd := summarize(values)
	return cell{mean: mean, sd: sd, n: len(values)}
}
