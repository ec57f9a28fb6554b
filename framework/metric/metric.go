// Package metric computes the figures of a comparison from scores, labels,
// anomaly maps and masks: ranking metrics, thresholded metrics under named
// threshold rules, pixel and region metrics, and the statistics between methods.
//
// One name stands for one definition (Parse), and every figure carries the
// definition's id (Spec.ID). Everywhere a higher score is more anomalous, an
// image or pixel is called abnormal when its score s ≥ t, and equal scores cross
// a threshold together.
package metric

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
)

var (
	// ErrOneClass says that the labels do not hold both normal and abnormal.
	ErrOneClass = errors.New("only one class, need both normal and abnormal")
	// ErrNaN says that a score is not a number and cannot be ranked.
	ErrNaN = errors.New("score is NaN")
)

// A cut counts what lies at or above one threshold: tp abnormal and fp normal.
type cut struct {
	t      float64
	tp, fp int
}

// A ranking holds the cuts at all distinct scores, from the highest down, and
// the totals n1 of abnormal and n0 of normal.
type ranking struct {
	cuts   iter.Seq[cut]
	n1, n0 int
}

// rank sorts the scores once. Errors: lengths that differ, ErrNaN, ErrOneClass.
func rank(scores []float64, abnormal []bool) (ranking, error) {
	if len(scores) != len(abnormal) {
		return ranking{}, fmt.Errorf("%d scores but %d labels", len(scores), len(abnormal))
	}
	if err := checkNaN(scores); err != nil {
		return ranking{}, err
	}
	r := ranking{}
	for _, a := range abnormal {
		if a {
			r.n1++
		} else {
			r.n0++
		}
	}
	if r.n1 == 0 || r.n0 == 0 {
		return ranking{}, fmt.Errorf("%d normal and %d abnormal: %w", r.n0, r.n1, ErrOneClass)
	}
	var cuts []cut
	var c cut
	order := descending(scores)
	for k, i := range order {
		if abnormal[i] {
			c.tp++
		} else {
			c.fp++
		}
		if k+1 == len(order) || scores[order[k+1]] != scores[i] {
			c.t = scores[i]
			cuts = append(cuts, c)
		}
	}
	r.cuts = slices.Values(cuts)
	return r, nil
}

func checkNaN(scores []float64) error {
	for i, s := range scores {
		if math.IsNaN(s) {
			return fmt.Errorf("score %d of %d: %w", i+1, len(scores), ErrNaN)
		}
	}
	return nil
}

// descending returns the positions of the scores from the highest to the lowest.
func descending(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return order
}

// AUROC is P(abnormal > normal) + ½ P(tie), the Mann–Whitney U over n1·n0, in
// [0,1]; chance is 0.5. It is the trapezoid under the ROC on distinct scores and
// is never flipped. Errors: ErrOneClass, ErrNaN, lengths that differ.
func AUROC(scores []float64, abnormal []bool) (float64, error) {
	r, err := rank(scores, abnormal)
	if err != nil {
		return 0, err
	}
	return r.auroc(), nil
}

// AveragePrecision is Σ (R_k − R_{k−1})·P_k over distinct scores in descending
// order, in (0,1]; chance is the prevalence. Errors as AUROC.
func AveragePrecision(scores []float64, abnormal []bool) (float64, error) {
	r, err := rank(scores, abnormal)
	if err != nil {
		return 0, err
	}
	return r.averagePrecision(), nil
}

// AUPRCTrapezoid is the area under the precision–recall points joined by
// straight lines from recall 0, precision 1. It is not AveragePrecision: it can
// lie above or below. Errors as AUROC.
func AUPRCTrapezoid(scores []float64, abnormal []bool) (float64, error) {
	r, err := rank(scores, abnormal)
	if err != nil {
		return 0, err
	}
	return r.auprc(), nil
}

// ROCPoint is one point of the receiver operating characteristic: the rates of
// normal and abnormal images with a score ≥ Threshold.
type ROCPoint struct{ FPR, TPR, Threshold float64 }

// ROC returns the points at all distinct scores, from (0,0) at threshold +Inf to
// (1,1) at the lowest score. Errors as AUROC.
func ROC(scores []float64, abnormal []bool) ([]ROCPoint, error) {
	r, err := rank(scores, abnormal)
	if err != nil {
		return nil, err
	}
	points := []ROCPoint{{0, 0, math.Inf(1)}}
	for c := range r.cuts {
		points = append(points, ROCPoint{float64(c.fp) / float64(r.n0), float64(c.tp) / float64(r.n1), c.t})
	}
	return points, nil
}

// PRPoint is one point of the precision–recall curve for score ≥ Threshold.
type PRPoint struct{ Recall, Precision, Threshold float64 }

// PR returns the points at all distinct scores, after recall 0, precision 1 at
// threshold +Inf. Errors as AUROC.
func PR(scores []float64, abnormal []bool) ([]PRPoint, error) {
	r, err := rank(scores, abnormal)
	if err != nil {
		return nil, err
	}
	points := []PRPoint{{0, 1, math.Inf(1)}}
	for c := range r.cuts {
		points = append(points, PRPoint{float64(c.tp) / float64(r.n1), c.precision(), c.t})
	}
	return points, nil
}

func (c cut) precision() float64 { return float64(c.tp) / float64(c.tp+c.fp) }

// auroc counts twice U in integers, so that it is exact before the division.
func (r ranking) auroc() float64 {
	var twiceU int
	var last cut
	for c := range r.cuts {
		twiceU += (c.fp - last.fp) * (c.tp + last.tp)
		last = c
	}
	return float64(twiceU) / 2 / float64(r.n1) / float64(r.n0)
}

func (r ranking) averagePrecision() float64 {
	var sum float64
	tp := 0
	for c := range r.cuts {
		sum += float64(c.tp-tp) * c.precision()
		tp = c.tp
	}
	return sum / float64(r.n1)
}

func (r ranking) auprc() float64 {
	var sum float64
	tp, precision := 0, 1.
	for c := range r.cuts {
		p := c.precision()
		sum += float64(c.tp-tp) * (p + precision) / 2
		tp, precision = c.tp, p
	}
	return sum / float64(r.n1)
}

// best returns the first cut, from the highest score down, that no other exceeds:
// better reports a strict improvement of its first argument over its second.
func (r ranking) best(better func(a, b cut) bool) cut {
	var best cut
	first := true
	for c := range r.cuts {
		if first || better(c, best) {
			best, first = c, false
		}
	}
	return best
}

// moreAccurate compares tp + tn, and n0 is the same on both sides.
func moreAccurate(a, b cut) bool { return a.tp-a.fp > b.tp-b.fp }

// higherF1 compares F1 = 2tp/(tp+fp+n1), which is also Dice, without rounding.
func (r ranking) higherF1(a, b cut) bool {
	return a.tp*(b.tp+b.fp+r.n1) > b.tp*(a.tp+a.fp+r.n1)
}

// higherYouden compares tp/n1 − fp/n0 without rounding.
func (r ranking) higherYouden(a, b cut) bool {
	return a.tp*r.n0-a.fp*r.n1 > b.tp*r.n0-b.fp*r.n1
}

// at counts what lies at or above t.
func (r ranking) at(t float64) cut {
	n := cut{t: t}
	for c := range r.cuts {
		if c.t < t {
			break
		}
		n.tp, n.fp = c.tp, c.fp
	}
	return n
}

// quantile is Quantile of the ranked scores.
func (r ranking) quantile(alpha float64) (float64, error) {
	limit := allowed(alpha, r.n1+r.n0)
	for c := range r.cuts {
		if c.tp+c.fp > limit {
			return above(c.t)
		}
	}
	return 0, errors.New("no scores")
}

// scaled is the score at a share of the way from the lowest to the highest.
func (r ranking) scaled(share float64) (float64, error) {
	low, high := 0., 0.
	first := true
	for c := range r.cuts {
		if first {
			high, first = c.t, false
		}
		low = c.t
	}
	if math.IsInf(high-low, 0) || high == low {
		return 0, fmt.Errorf("test scores from %g to %g cannot be scaled to [0,1]", low, high)
	}
	return low + share*(high-low), nil
}

// sensitivity reads the highest TPR on the straight-line ROC at FPR = 1 − specificity.
func (r ranking) sensitivity(specificity float64) float64 {
	limit := snap((1 - specificity) * float64(r.n0))
	var last cut
	for c := range r.cuts {
		if float64(c.fp) > limit {
			share := (limit - float64(last.fp)) / float64(c.fp-last.fp)
			return (float64(last.tp) + share*float64(c.tp-last.tp)) / float64(r.n1)
		}
		last = c
	}
	return 1
}

// specificity reads 1 − the lowest FPR on the straight-line ROC at TPR = sensitivity.
func (r ranking) specificity(sensitivity float64) float64 {
	goal := snap(sensitivity * float64(r.n1))
	var last cut
	for c := range r.cuts {
		if float64(c.tp) >= goal {
			fp := float64(c.fp)
			if c.tp > last.tp {
				share := (goal - float64(last.tp)) / float64(c.tp-last.tp)
				fp = float64(last.fp) + share*float64(c.fp-last.fp)
			}
			return 1 - fp/float64(r.n0)
		}
		last = c
	}
	return 0
}

// snap removes the rounding of products such as 0.29·100 = 28.999…, which would
// miss a whole count.
func snap(x float64) float64 {
	if whole := math.Round(x); math.Abs(x-whole) < 1e-9*max(1, math.Abs(x)) {
		return whole
	}
	return x
}

// Quantile returns the lowest threshold t at which at most a share alpha of the
// scores satisfies s ≥ t: the next float64 above the (⌊alpha·n⌋+1)-th highest
// score. On the scores it was computed from, the realised specificity is
// therefore never below 1 − alpha, ties included; alpha 0 puts t just above the
// maximum. Range of alpha: [0,1). Errors: no scores, ErrNaN, a score of +Inf there.
func Quantile(scores []float64, alpha float64) (float64, error) {
	if len(scores) == 0 {
		return 0, errors.New("no scores")
	}
	if err := checkNaN(scores); err != nil {
		return 0, err
	}
	sorted := slices.Sorted(slices.Values(scores))
	return above(sorted[len(sorted)-1-allowed(alpha, len(sorted))])
}

// allowed is ⌊alpha·n⌋, the number of n normals that may exceed a quantile.
func allowed(alpha float64, n int) int {
	return min(n-1, max(0, int(math.Floor(snap(alpha*float64(n))))))
}

func above(score float64) (float64, error) {
	if math.IsInf(score, 1) {
		return 0, errors.New("quantile is infinite")
	}
	return math.Nextafter(score, math.Inf(1)), nil
}
