package metric

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// A Summary is what a paper prints of repeats: mean ± sample sd of N values. SD is
// 0 and N is 1 for a single value.
type Summary struct {
	Mean, SD float64 // SD with n − 1
	N        int
}

// Summarize returns the mean and sample sd; all zero without values.
func Summarize(values []float64) Summary {
	s := Summary{N: len(values)}
	if s.N > 0 {
		s.Mean = mean(values)
	}
	if s.N > 1 {
		s.SD = math.Sqrt(covariance(values, values))
	}
	return s
}

// TTest is the result of a t test of the difference of two means.
type TTest struct {
	Difference, SE float64
	T, DF, P       float64 // P is two-sided
}

// Interval is the t interval of the difference at a level such as 0.95.
func (t TTest) Interval(level float64) (low, high float64) {
	if t.SE == 0 {
		return t.Difference, t.Difference
	}
	half := t.SE * student(t.DF).Quantile((1+level)/2)
	return t.Difference - half, t.Difference + half
}

func student(df float64) distuv.StudentsT { return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df} }

// upper is P(T > t) with df degrees of freedom.
func upper(t, df float64) float64 { return student(df).CDF(-t) }

// Welch compares the means of repeats without assuming equal variances, degrees of
// freedom by Welch and Satterthwaite. It measures what the seeds change and
// ignores the sampling of test images. Errors: a side with fewer than two values,
// ErrNoVariance when means differ and both sd are 0.
func Welch(a, b Summary) (TTest, error) {
	if a.N < 2 || b.N < 2 {
		return TTest{}, fmt.Errorf("%d and %d repeats, Welch's test needs two of each", a.N, b.N)
	}
	return welch(a, b)
}

// welch also takes a single value as a constant.
func welch(a, b Summary) (TTest, error) {
	va, dfA := perRepeat(a)
	vb, dfB := perRepeat(b)
	t := TTest{Difference: a.Mean - b.Mean, SE: math.Sqrt(va + vb), P: 1}
	if t.SE == 0 {
		if t.Difference != 0 {
			return t, ErrNoVariance
		}
		return t, nil
	}
	t.T = t.Difference / t.SE
	t.DF = (va + vb) * (va + vb) / (va*va/dfA + vb*vb/dfB)
	t.P = 2 * upper(math.Abs(t.T), t.DF)
	return t, nil
}

// perRepeat is the variance of the mean and its degrees of freedom, 0 and 1 for a
// constant, whose term then vanishes.
func perRepeat(s Summary) (variance, df float64) {
	if s.N < 2 {
		return 0, 1
	}
	return s.SD * s.SD / float64(s.N), float64(s.N - 1)
}

// PairedT compares repeats matched by seed or split. Errors: lengths that differ
// or are below two, ErrNoVariance when all differences are equal and not 0.
func PairedT(a, b []float64) (TTest, error) {
	if len(a) != len(b) || len(a) < 2 {
		return TTest{}, fmt.Errorf("%d and %d repeats, the paired t test needs two pairs or more", len(a), len(b))
	}
	return welch(Summarize(subtract(a, b)), Summary{N: 1})
}

// Equivalence is the verdict of two one-sided tests.
type Equivalence struct {
	TTest
	Margin float64
	P      float64 // the larger of the two one-sided p; equivalent where below α
}

// TOST tests whether the means differ by less than margin, both ways (Schuirmann
// 1987): a small P supports equivalence, a large one is no proof of a difference.
// A single published value (N 1) is taken as a constant. Errors: a margin not
// above 0, a first side with fewer than two values.
func TOST(a, b Summary, margin float64) (Equivalence, error) {
	if !(margin > 0) {
		return Equivalence{}, fmt.Errorf("margin %g, need more than 0", margin)
	}
	if a.N < 2 {
		return Equivalence{}, fmt.Errorf("%d repeats, TOST needs two", a.N)
	}
	t, _ := welch(a, b) // without variance the differences alone decide
	e := Equivalence{TTest: t, Margin: margin}
	switch {
	case t.SE > 0:
		e.P = max(upper((margin-t.Difference)/t.SE, t.DF), upper((margin+t.Difference)/t.SE, t.DF))
	case math.Abs(t.Difference) >= margin:
		e.P = 1
	}
	return e, nil
}

// Holm adjusts p values for the number of tests, in their order: the k-th smallest
// of m times m − k + 1, never below a smaller one's, at most 1 (Holm 1979). NaN
// marks a test that was not made: it stays NaN and is not counted.
func Holm(p []float64) []float64 {
	adjusted := slices.Clone(p)
	var order []int
	for i := range p {
		if !math.IsNaN(p[i]) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	floor := 0.
	for k, i := range order {
		floor = max(floor, min(1, p[i]*float64(len(order)-k)))
		adjusted[i] = floor
	}
	return adjusted
}
