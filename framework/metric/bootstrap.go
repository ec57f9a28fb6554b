package metric

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Bootstrap resamples test images with replacement, stratified by label, so that
// each resample has the same numbers of normal and abnormal images. With groups
// (patients, studies) it resamples groups instead, stratified by whether their
// images are normal, abnormal or both; the numbers of images then vary.
type Bootstrap struct {
	Resamples int      // 0: 2,000
	Seed      uint64   // of the resampling alone
	Groups    []string // group of each test image, "" for an image on its own; nil: no groups
}

// Resampled holds every metric of every run on every resample. All runs saw the
// same resamples, so that their differences are paired.
type Resampled struct {
	Figures [][]Figure    // [run][spec], on the complete test set
	draws   [][][]float64 // [run][spec][resample], NaN where not computed
}

// Run evaluates the image metrics specs on all resamples of the test images, which
// must be the same, in the same order, in all runs. Thresholds transferred from
// validation stay fixed; those chosen on the test set are chosen anew on every
// resample. Each run is sorted once, a resample then costs O(N). A metric that
// cannot be computed for a run is so marked in Figures. Errors: pixel metrics,
// labels that differ between runs, a number of groups that does not fit.
func (b Bootstrap) Run(specs []Spec, runs []Input) (*Resampled, error) {
	if b.Resamples == 0 {
		b.Resamples = 2000
	}
	for _, s := range specs {
		if s.Pixel() {
			return nil, fmt.Errorf("metric %s: pixel metrics cannot be resampled", s.Name)
		}
	}
	if len(runs) == 0 || b.Resamples < 0 {
		return nil, fmt.Errorf("%d runs, %d resamples: nothing to resample", len(runs), b.Resamples)
	}
	abnormal := runs[0].Abnormal
	out := &Resampled{}
	var columns [][]resampledView
	for i, in := range runs {
		if !slices.Equal(in.Abnormal, abnormal) {
			return nil, fmt.Errorf("run %d: its test labels are not those of run 1", i+1)
		}
		figures := EvalAll(specs, in)
		columns = append(columns, b.newColumn(in, specs, figures))
		out.Figures = append(out.Figures, figures)
		draws := make([][]float64, len(specs))
		for k := range draws {
			draws[k] = make([]float64, b.Resamples)
		}
		out.draws = append(out.draws, draws)
	}
	sampler, err := newSampler(abnormal, b.Groups, b.Seed)
	if err != nil {
		return nil, err
	}
	cuts := make([]cut, 0, len(abnormal))
	for k := range b.Resamples {
		sampler.draw()
		for i, c := range columns {
			for j := range specs {
				out.draws[i][j][k] = math.NaN()
			}
			for _, v := range c {
				var r ranking
				if r, cuts = v.ranking(sampler.times, cuts); r.n1 == 0 || r.n0 == 0 {
					continue // a rare type was not drawn
				}
				for n, j := range v.specs {
					if x, _, err := specs[j].image(r, v.transferred[n]); err == nil {
						out.draws[i][j][k] = x
					}
				}
			}
		}
	}
	return out, nil
}

// A resampledView is one view of one run, sorted once: its scores are of images or of
// studies, and each is drawn as often as the image that stands for it.
type resampledView struct {
	view
	scores      []float64
	abnormal    []bool
	stands      []int // the image behind each score
	order       []int
	specs       []int     // what is computed of it
	transferred []float64 // threshold of each spec, NaN where the test set chooses
}

// newColumn prepares the views of one run. A figure that does not exist is not
// resampled, nor is one of studies unless studies are what is drawn.
func (b Bootstrap) newColumn(in Input, specs []Spec, figures []Figure) []resampledView {
	var column []resampledView
	for j, s := range specs {
		if !figures[j].OK || s.Study() && !slices.Equal(b.Groups, in.Groups) {
			continue
		}
		seen, stands, err := s.view.of(in)
		if err != nil {
			continue // impossible: the figure exists
		}
		at := slices.IndexFunc(column, func(v resampledView) bool { return v.view == s.view })
		if at < 0 {
			at = len(column)
			column = append(column, resampledView{view: s.view, scores: seen.Scores, abnormal: seen.Abnormal,
				stands: stands, order: descending(seen.Scores)})
		}
		t, _ := s.transferred(seen)
		column[at].specs = append(column[at].specs, j)
		column[at].transferred = append(column[at].transferred, t)
	}
	return column
}

// ranking counts each score as often as it was drawn, with cuts as its memory.
func (v resampledView) ranking(times []int, cuts []cut) (ranking, []cut) {
	cuts = cuts[:0]
	var now cut
	for _, i := range v.order {
		n := times[v.stands[i]]
		if n == 0 {
			continue
		}
		if now.tp+now.fp > 0 && v.scores[i] != now.t {
			cuts = append(cuts, now)
		}
		if v.abnormal[i] {
			now.tp += n
		} else {
			now.fp += n
		}
		now.t = v.scores[i]
	}
	cuts = append(cuts, now)
	return ranking{slices.Values(cuts), now.tp, now.fp}, cuts
}

// A sampler draws how many times each image enters a resample.
type sampler struct {
	strata [][][]int // [stratum][group] → its images
	times  []int
	random *rand.Rand
}

func newSampler(abnormal []bool, groups []string, seed uint64) (*sampler, error) {
	if groups != nil && len(groups) != len(abnormal) {
		return nil, fmt.Errorf("%d groups for %d test images", len(groups), len(abnormal))
	}
	var members [][]int
	known := map[string]int{}
	for i := range abnormal {
		if groups == nil || groups[i] == "" {
			members = append(members, []int{i})
		} else if at, ok := known[groups[i]]; ok {
			members[at] = append(members[at], i)
		} else {
			known[groups[i]] = len(members)
			members = append(members, []int{i})
		}
	}
	s := &sampler{strata: make([][][]int, 3), times: make([]int, len(abnormal)), random: rand.New(rand.NewPCG(seed, 0))}
	for _, images := range members {
		n := 0
		for _, i := range images {
			if abnormal[i] {
				n++
			}
		}
		stratum := 0
		switch {
		case n == len(images):
			stratum = 1
		case n > 0:
			stratum = 2
		}
		s.strata[stratum] = append(s.strata[stratum], images)
	}
	return s, nil
}

func (s *sampler) draw() {
	clear(s.times)
	for _, groups := range s.strata {
		for range groups {
			for _, i := range groups[s.random.IntN(len(groups))] {
				s.times[i]++
			}
		}
	}
}

// mean is the mean over runs of one metric on every resample.
func (r *Resampled) mean(runs []int, spec int) (full float64, draws []float64) {
	for n, i := range runs {
		if n == 0 {
			draws = slices.Clone(r.draws[i][spec])
		} else {
			for k, v := range r.draws[i][spec] {
				draws[k] += v
			}
		}
		full += r.Figures[i][spec].Value
		if !r.Figures[i][spec].OK {
			full = math.NaN()
		}
	}
	for k := range draws {
		draws[k] /= float64(len(runs))
	}
	return full / float64(len(runs)), draws
}

// Interval is a value with its percentile interval.
type Interval struct{ Value, Low, High float64 }

// Interval returns the metric's mean over runs (the seeds of one method) and its
// percentile interval over test images at a level such as 0.95. ok is false where
// a run lacks the figure. Resamples on which it is undefined are left out.
func (r *Resampled) Interval(runs []int, spec int, level float64) (i Interval, ok bool) {
	full, draws := r.mean(runs, spec)
	low, high, ok := percentiles(draws, level)
	return Interval{full, low, high}, ok && !math.IsNaN(full)
}

// Difference is a paired difference A − B.
type Difference struct {
	Interval
	P         float64 // two-sided
	Resamples int     // on which it is defined
}

// Compare returns the difference of the means over the runs a and b, paired by
// resample, with p = 2·min(#{d ≤ 0}, #{d ≥ 0}), one added to counts and B. ok as
// Interval.
func (r *Resampled) Compare(a, b []int, spec int, level float64) (d Difference, ok bool) {
	fullA, drawsA := r.mean(a, spec)
	fullB, drawsB := r.mean(b, spec)
	var draws []float64
	down, up := 1, 1
	for k := range min(len(drawsA), len(drawsB)) {
		v := drawsA[k] - drawsB[k]
		if math.IsNaN(v) {
			continue
		}
		draws = append(draws, v)
		if v <= 0 {
			down++
		}
		if v >= 0 {
			up++
		}
	}
	low, high, ok := percentiles(draws, level)
	d = Difference{Interval{fullA - fullB, low, high}, 1, len(draws)}
	if ok {
		d.P = min(1, 2*float64(min(down, up))/float64(len(draws)+1))
	}
	return d, ok && !math.IsNaN(d.Value)
}

// percentiles cuts (1−level)/2 off both ends, interpolating between order statistics.
func percentiles(draws []float64, level float64) (low, high float64, ok bool) {
	sorted := slices.DeleteFunc(slices.Clone(draws), math.IsNaN)
	if len(sorted) == 0 {
		return 0, 0, false
	}
	slices.Sort(sorted)
	at := func(share float64) float64 {
		x := share * float64(len(sorted)-1)
		i := int(x)
		if i+1 == len(sorted) {
			return sorted[i]
		}
		return sorted[i] + (x-float64(i))*(sorted[i+1]-sorted[i])
	}
	return at((1 - level) / 2), at((1 + level) / 2), true
}
