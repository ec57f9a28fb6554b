package report

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// The level of intervals and of tests, and the defaults of the resampling.
const (
	level            = .95
	alpha            = .05
	defaultResamples = 2000
	defaultSeed      = 1
)

// A study is what the test images of a set say about its rows: intervals of each
// figure, and tests between rows. Rows of other test images take no part, those of an
// oracle none in the tests.
type study struct {
	resampled *metric.Resampled // nil where no row has test scores
	specs     []metric.Spec     // the image metrics that were resampled
	runs      map[*row][]int    // runs of each row among the resampled
	averaged  map[*row][]float64
	abnormal  []bool
	resamples int
	seed      uint64
	grouped   bool // groups of images were resampled, not images
}

// newStudy resamples the test images of a set, by patient or study where every
// image names one, with one seed for all rows, so that differences are paired.
func newStudy(s *set, o Options) (*study, error) {
	st := &study{runs: map[*row][]int{}, averaged: map[*row][]float64{}, seed: cmp.Or(o.Seed, defaultSeed), resamples: cmp.Or(o.Resamples, defaultResamples)}
	for _, spec := range s.all {
		if !spec.Pixel() {
			st.specs = append(st.specs, spec)
		}
	}
	var inputs []metric.Input
	var groups []string
	for _, r := range s.rows {
		if r.otherImages != "" {
			continue
		}
		sum := []float64(nil)
		for _, run := range r.complete() {
			test := run.sorted()
			if test == nil {
				continue
			}
			in := run.input()
			byPath, _ := record.Input(test)
			in.Scores, in.Abnormal, in.Groups, in.Subtypes = byPath.Scores, byPath.Abnormal, byPath.Groups, byPath.Subtypes
			groups = byPath.Groups
			for i, score := range test {
				if i == len(sum) {
					sum = append(sum, 0)
				}
				sum[i] += score.Score
			}
			st.runs[r] = append(st.runs[r], len(inputs))
			inputs, st.abnormal = append(inputs, in), in.Abnormal
		}
		for i := range sum {
			sum[i] /= float64(len(st.runs[r]))
		}
		st.averaged[r] = sum
	}
	if inputs == nil || len(st.specs) == 0 {
		return st, nil
	}
	if st.grouped = !slices.Contains(groups, ""); !st.grouped {
		groups = nil // some are unknown: images stand for themselves
	}
	var err error
	st.resampled, err = metric.Bootstrap{Resamples: st.resamples, Seed: st.seed, Groups: groups}.Run(st.specs, inputs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.data, err)
	}
	return st, nil
}

// sorted returns the test scores ordered by path, the order all runs share.
func (r *run) sorted() []record.Score {
	var test []record.Score
	for _, s := range r.scores {
		if s.Split == "test" {
			test = append(test, s)
		}
	}
	slices.SortFunc(test, func(a, b record.Score) int { return strings.Compare(a.Path, b.Path) })
	return test
}

// interval is the 95 % interval of the mean over seeds, over test images.
func (st *study) interval(r *row, spec metric.Spec) (metric.Interval, bool) {
	i := slices.Index(st.specs, spec)
	if st.resampled == nil || i < 0 || st.runs[r] == nil {
		return metric.Interval{}, false
	}
	return st.resampled.Interval(st.runs[r], i, level)
}

// A pair is two rows compared by one metric. A p that is NaN was not computed.
type pair struct {
	a, b                     *row
	spec                     metric.Spec
	difference               metric.Difference // of the means over seeds, a − b, by paired resamples
	averaged                 float64           // of the AUROCs of seed-averaged scores, which DeLong's test is of
	bootstrap, delong, welch pValue
}

// A pValue is a p value and the same adjusted by Holm.
type pValue struct{ value, holm float64 }

// pairs compares all rows by a metric: by the paired bootstrap of the means over
// seeds, for AUROC by DeLong's test on seed-averaged scores, and by Welch's test
// over seeds. Holm adjusts each kind of test over all pairs. Pixel metrics have
// Welch's test only. Rows of an oracle are left out.
func (st *study) pairs(s *set, spec metric.Spec) []pair {
	var rows []*row
	for _, r := range s.rows {
		if r.competes() && len(r.values(s, spec)) > 0 {
			rows = append(rows, r)
		}
	}
	var out []pair
	for i, a := range rows {
		for _, b := range rows[i+1:] {
			out = append(out, st.compare(s, a, b, spec))
		}
	}
	adjust(out, func(x *pair) *pValue { return &x.bootstrap })
	adjust(out, func(x *pair) *pValue { return &x.delong })
	adjust(out, func(x *pair) *pValue { return &x.welch })
	return out
}

func adjust(pairs []pair, of func(*pair) *pValue) {
	values := make([]float64, len(pairs))
	for i := range pairs {
		values[i] = of(&pairs[i]).value
	}
	for i, v := range metric.Holm(values) {
		of(&pairs[i]).holm = v
	}
}

// compare makes the tests between two rows, not adjusted.
func (st *study) compare(s *set, a, b *row, spec metric.Spec) pair {
	none := pValue{math.NaN(), math.NaN()}
	out := pair{a: a, b: b, spec: spec, bootstrap: none, delong: none, welch: none}
	va, vb := metric.Summarize(a.values(s, spec)), metric.Summarize(b.values(s, spec))
	out.difference = metric.Difference{Interval: metric.Interval{Value: va.Mean - vb.Mean, Low: math.NaN(), High: math.NaN()}}
	if i := slices.Index(st.specs, spec); i >= 0 && st.resampled != nil && st.runs[a] != nil && st.runs[b] != nil {
		if d, ok := st.resampled.Compare(st.runs[a], st.runs[b], i, level); ok {
			out.difference, out.bootstrap.value = d, d.P
		}
		if spec.ID() == aurocID {
			d, err := metric.DeLong(st.averaged[a], st.averaged[b], st.abnormal)
			if err == nil || errors.Is(err, metric.ErrNoVariance) {
				out.delong.value, out.averaged = d.P, d.Difference
			}
			if errors.Is(err, metric.ErrNoVariance) {
				out.delong.value = 0 // one ranks perfectly, the other perfectly wrong
			}
		}
	}
	if t, err := metric.Welch(va, vb); err == nil {
		out.welch.value = t.P
	}
	return out
}

// aurocID is the definition that DeLong's test is for.
const aurocID = "auroc/mann-whitney"

// values are a row's figures of a metric, one for each complete seed that has it.
func (r *row) values(s *set, spec metric.Spec) []float64 {
	i := slices.Index(s.all, spec)
	var values []float64
	for _, run := range r.complete() {
		if f := run.figures[i]; f.OK {
			values = append(values, f.Value)
		}
	}
	return values
}

// A standing is a row's place in a column.
type standing int

const (
	untested  standing = iota
	best               // every other row is significantly worse
	tied               // the highest mean, or not significantly below it
	worse              // p < .05 below the highest mean
	muchWorse          // p < .01
	farWorse           // p < .001
)

// standings compares every row with the highest mean of a metric: by the paired
// bootstrap, pixel metrics by Welch's test over seeds; Holm over the comparisons.
// A row that cannot be compared is untested, and then no row is the best. A row of an
// oracle is untested and nothing is tested against it.
func (st *study) standings(s *set, spec metric.Spec) map[*row]standing {
	var top *row
	high := math.Inf(-1)
	var rows []*row
	for _, r := range s.rows {
		values := r.values(s, spec)
		if !r.competes() || len(values) == 0 {
			continue
		}
		rows = append(rows, r)
		if m := metric.Summarize(values).Mean; m > high {
			top, high = r, m
		}
	}
	out := map[*row]standing{}
	if len(rows) < 2 {
		return out
	}
	var others []*row
	var values []float64
	for _, r := range rows {
		if r == top {
			continue
		}
		x := st.compare(s, top, r, spec)
		v := x.bootstrap.value
		if spec.Pixel() {
			v = x.welch.value
		}
		others, values = append(others, r), append(values, v)
	}
	out[top] = best
	for i, v := range metric.Holm(values) {
		switch {
		case math.IsNaN(v):
			out[others[i]] = untested
		case v < .001:
			out[others[i]] = farWorse
		case v < .01:
			out[others[i]] = muchWorse
		case v < alpha:
			out[others[i]] = worse
		default:
			out[others[i]] = tied
		}
		if out[others[i]] <= tied && out[top] == best {
			out[top] = tied
		}
		if math.IsNaN(v) {
			out[top] = untested
		}
	}
	return out
}

// stars is the usual mark of a p value.
func (s standing) stars() string {
	switch s {
	case worse:
		return "*"
	case muchWorse:
		return "**"
	case farWorse:
		return "***"
	}
	return ""
}

// method says how the intervals and the marks were made.
func (st *study) method() string {
	of := "test images, stratified by label"
	if st.grouped {
		of = "patients or studies, stratified by their labels"
	}
	return fmt.Sprintf("%d resamples of %s (seed %d)", st.resamples, of, st.seed)
}
