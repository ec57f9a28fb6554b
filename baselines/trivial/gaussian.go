package trivial

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// A gaussian is the mean of the training vectors and an inverse of their
// covariance.
type gaussian struct {
	Mean      []float64
	Precision []float64 // D×D
}

// moments returns the mean of the rows and their covariance.
func moments(rows [][]float64) ([]float64, *mat.SymDense) {
	d := len(rows[0])
	x := mat.NewDense(len(rows), d, nil)
	for i, row := range rows {
		x.SetRow(i, row)
	}
	mean := make([]float64, d)
	for k := range mean {
		mean[k] = stat.Mean(mat.Col(nil, k, x), nil)
	}
	cov := mat.NewSymDense(d, nil)
	if len(rows) > 1 {
		stat.CovarianceMatrix(cov, x, nil)
	}
	return mean, cov
}

// fit gives g the mean of the rows and the pseudo-inverse of their covariance
// plus ridge·I: eigenvalues of at most D·2⁻⁵² of the largest count as 0.
func fit(rows [][]float64, ridge float64) (gaussian, error) {
	mean, cov := moments(rows)
	d := len(mean)
	for k := range d {
		cov.SetSym(k, k, cov.At(k, k)+ridge)
	}
	var e mat.EigenSym
	if !e.Factorize(cov, true) {
		return gaussian{}, fmt.Errorf("the covariance of the training images has no eigenvalues")
	}
	values := e.Values(nil) // ascending
	floor := float64(d) * 0x1p-52 * values[d-1]
	var v mat.Dense
	e.VectorsTo(&v)
	inverse := mat.NewSymDense(d, nil)
	for k, value := range values {
		if value > floor {
			inverse.SymRankOne(inverse, 1/value, v.ColView(k))
		}
	}
	g := gaussian{Mean: mean, Precision: make([]float64, d*d)}
	for i := range d {
		for j := range d {
			g.Precision[i*d+j] = inverse.At(i, j)
		}
	}
	return g, nil
}

// distance is the squared Mahalanobis distance (x−mean)ᵀ·Precision·(x−mean).
func (g gaussian) distance(x []float64) (float64, error) {
	d := len(g.Mean)
	if d == 0 || len(x) != d || len(g.Precision) != d*d {
		return 0, fmt.Errorf("the fitted state has %d means and a precision of %d, need %d and %d: fit it again with --redo",
			d, len(g.Precision), len(x), len(x)*len(x))
	}
	diff := make([]float64, d)
	for k := range diff {
		diff[k] = x[k] - g.Mean[k]
	}
	v := mat.NewVecDense(d, diff)
	return mat.Inner(v, mat.NewDense(d, d, g.Precision), v), nil
}
