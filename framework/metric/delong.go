package metric

import (
	"errors"
	"fmt"
	"math"
)

// ErrNoVariance says that a test has nothing to measure its difference by.
var ErrNoVariance = errors.New("difference without any variance, the test is undefined")

// DeLongTest compares two AUROCs on the same test images.
type DeLongTest struct {
	A, B            float64 // AUROC
	VarA, VarB, Cov float64
	Difference, SE  float64 // of A − B
	Z, P            float64 // P is two-sided
}

// Interval is the normal interval of the difference at a level such as 0.95.
func (d DeLongTest) Interval(level float64) (low, high float64) {
	half := d.SE * math.Sqrt2 * math.Erfinv(level)
	return d.Difference - half, d.Difference + half
}

// DeLong is the paired test of DeLong, DeLong & Clarke-Pearson, Biometrics 44
// (1988), on mid-ranks in O(N log N) (Sun & Xu, IEEE SPL 21, 2014). a and b score
// the same images, higher meaning more anomalous in both. It compares two trained
// models, not two methods: give it seed-averaged scores and say so. Equal
// placements throughout give z 0 and p 1. Errors: as AUROC, fewer than two images
// of a class, and ErrNoVariance when the AUROCs differ without variance, as when
// one curve is perfect and the other perfectly wrong.
func DeLong(a, b []float64, abnormal []bool) (DeLongTest, error) {
	var d DeLongTest
	var placements [2][2][]float64 // [a, b][normal, abnormal]
	for k, scores := range [][]float64{a, b} {
		r, err := rank(scores, abnormal)
		if err != nil {
			return d, err
		}
		if r.n1 < 2 || r.n0 < 2 {
			return d, fmt.Errorf("%d normal and %d abnormal images, DeLong's test needs two of each", r.n0, r.n1)
		}
		placements[k] = place(scores, abnormal, r)
	}
	v01, v10 := 0, 1
	n0, n1 := float64(len(placements[0][v01])), float64(len(placements[0][v10]))
	d.A, d.B = mean(placements[0][v10]), mean(placements[1][v10])
	covariance := func(i, j int) float64 {
		return covariance(placements[i][v10], placements[j][v10])/n1 + covariance(placements[i][v01], placements[j][v01])/n0
	}
	d.VarA, d.VarB, d.Cov = covariance(0, 0), covariance(1, 1), covariance(0, 1)
	// The variance of the difference from the differences: no cancellation.
	diff10, diff01 := subtract(placements[0][v10], placements[1][v10]), subtract(placements[0][v01], placements[1][v01])
	d.SE = math.Sqrt(covarianceOf(diff10)/n1 + covarianceOf(diff01)/n0)
	d.Difference = mean(diff10)
	switch {
	case d.SE > 0:
		d.Z = d.Difference / d.SE
		d.P = math.Erfc(math.Abs(d.Z) / math.Sqrt2)
	case d.Difference == 0:
		d.P = 1
	default:
		return d, ErrNoVariance
	}
	return d, nil
}

// place returns the placement values in the order of the images: for a normal
// one the share of abnormal scores above it, for an abnormal one the share of
// normal scores below it, ties counting half.
func place(scores []float64, abnormal []bool, r ranking) [2][]float64 {
	at := make(map[float64]cut, r.n1+r.n0) // score → counts strictly above, plus half of the ties, doubled
	var last cut
	for c := range r.cuts {
		at[c.t] = cut{tp: c.tp + last.tp, fp: c.fp + last.fp}
		last = c
	}
	placed := [2][]float64{make([]float64, 0, r.n0), make([]float64, 0, r.n1)}
	for i, s := range scores {
		twice := at[s]
		if abnormal[i] {
			placed[1] = append(placed[1], 1-float64(twice.fp)/float64(2*r.n0))
		} else {
			placed[0] = append(placed[0], float64(twice.tp)/float64(2*r.n1))
		}
	}
	return placed
}

func subtract(a, b []float64) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}

func covarianceOf(a []float64) float64 { return covariance(a, a) }

// covariance is the sample covariance, with n − 1.
func covariance(a, b []float64) float64 {
	ma, mb := mean(a), mean(b)
	var sum float64
	for i := range a {
		sum += (a[i] - ma) * (b[i] - mb)
	}
	return sum / float64(len(a)-1)
}

func mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
