// Package density holds one-class densities on embeddings: how far a vector
// lies from normal ones. It is plain Go; training sets have thousands of rows.
package density

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// A Gaussian is a normal distribution with Ledoit-Wolf covariance.
type Gaussian struct {
	Mean      []float64     // [d]
	Cov       *mat.SymDense // [d,d], shrunk
	Shrinkage float64       // ρ in [0,1]: Cov = (1-ρ)S + ρ·(tr S/d)·I
	whiten    *mat.TriDense // W of Cov
}

// FitGaussian fits rows x [n,d], n ≥ 2, with the shrinkage of Ledoit & Wolf,
// "A well-conditioned estimator for large-dimensional covariance matrices",
// Journal of Multivariate Analysis 2004, in scikit-learn's form (S has 1/n).
func FitGaussian(x []float32, d int) (*Gaussian, error) {
	if d < 1 || len(x)%d != 0 {
		return nil, fmt.Errorf("density: %d values are not rows of %d", len(x), d)
	}
	n := len(x) / d
	if n < 2 {
		return nil, fmt.Errorf("density: a Gaussian needs 2 training images or more, not %d", n)
	}
	mean := make([]float64, d)
	for i, v := range x {
		mean[i%d] += float64(v)
	}
	for j := range mean {
		mean[j] /= float64(n)
	}
	centred := mat.NewDense(n, d, nil)
	var fourth float64 // Σ ‖x_k‖⁴
	for k := range n {
		row, square := centred.RawRowView(k), 0.0
		for j := range row {
			row[j] = float64(x[k*d+j]) - mean[j]
			square += row[j] * row[j]
		}
		fourth += square * square
	}
	s := mat.NewSymDense(d, nil)
	s.SymOuterK(1/float64(n), centred.T())

	var trace, norm float64 // tr S, ‖S‖²_F
	for i := range d {
		trace += s.At(i, i)
		for j := range d {
			norm += s.At(i, j) * s.At(i, j)
		}
	}
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return nil, errors.New("density: features are not finite")
	}
	m := trace / float64(d)
	if m == 0 {
		return nil, errors.New("density: all training features are equal")
	}
	delta := (norm - 2*m*trace + float64(d)*m*m) / float64(d)
	beta := min(delta, (fourth/float64(n)-norm)/float64(d)/float64(n))
	rho := 0.0
	if delta > 0 {
		rho = max(0, beta/delta)
	}
	for i := range d {
		for j := i; j < d; j++ {
			v := (1 - rho) * s.At(i, j)
			if i == j {
				v += rho * m
			}
			s.SetSym(i, j, v)
		}
	}
	w, err := Whiten(s)
	if err != nil {
		return nil, fmt.Errorf("density: covariance of %d features over %d images: %w", d, n, err)
	}
	return &Gaussian{Mean: mean, Cov: s, Shrinkage: rho, whiten: w}, nil
}

// ErrSingular is the error of a covariance that is not positive definite.
var ErrSingular = errors.New("not positive definite")

// Whiten returns the upper triangular W of a covariance, with Σ⁻¹ = W·Wᵀ: the
// Mahalanobis distance of x is ‖(x-μ)·W‖. It is L⁻ᵀ, Σ = L·Lᵀ (Cholesky).
func Whiten(cov *mat.SymDense) (*mat.TriDense, error) {
	var chol mat.Cholesky
	if !chol.Factorize(cov) {
		return nil, ErrSingular
	}
	var upper mat.TriDense
	chol.UTo(&upper)
	w := mat.NewTriDense(cov.SymmetricDim(), mat.Upper, nil)
	if err := w.InverseTri(&upper); err != nil {
		var condition mat.Condition
		if !errors.As(err, &condition) || math.IsInf(float64(condition), 1) {
			return nil, ErrSingular
		}
	}
	return w, nil
}

// Whitening returns Whiten(Cov) [d,d], row-major.
func (g *Gaussian) Whitening() []float32 { return Rows(g.whiten) }

// Rows returns the elements of a matrix, row-major.
func Rows(m mat.Matrix) []float32 {
	r, c := m.Dims()
	v := make([]float32, 0, r*c)
	for i := range r {
		for j := range c {
			v = append(v, float32(m.At(i, j)))
		}
	}
	return v
}

// Distance returns the Mahalanobis distance √((x-μ)ᵀΣ⁻¹(x-μ)).
func (g *Gaussian) Distance(x []float32) float64 {
	centred := mat.NewVecDense(len(x), nil)
	for i, v := range x {
		centred.SetVec(i, float64(v)-g.Mean[i])
	}
	var y mat.VecDense
	y.MulVec(g.whiten.T(), centred)
	return mat.Norm(&y, 2)
}

// KDE scores by the logarithm of a kernel density, without its constant:
// -(1/Scale)·log Σᵢ exp(-Gamma·‖f-fᵢ‖²).
type KDE struct {
	Train []float32 // [n,D]
	D     int
	Gamma float64
	Scale float64
}

// NewKDE returns a density over rows x [n,d]. bandwidth "fixed" is a standard
// deviation of 1, Gamma ½ and Scale 1; "google" is γ = 10/(d·Var) over all
// entries of x for both (google-research/deep_representation_one_class).
func NewKDE(x []float32, d int, bandwidth string) (*KDE, error) {
	if d < 1 || len(x) == 0 || len(x)%d != 0 {
		return nil, fmt.Errorf("density: %d values are not rows of %d", len(x), d)
	}
	k := &KDE{Train: x, D: d, Gamma: 0.5, Scale: 1}
	switch bandwidth {
	case "fixed":
	case "google":
		var sum, square float64
		for _, v := range x {
			sum += float64(v)
		}
		mean := sum / float64(len(x))
		for _, v := range x {
			square += (float64(v) - mean) * (float64(v) - mean)
		}
		if square == 0 {
			return nil, errors.New("density: all training features are equal")
		}
		k.Gamma = 10 / (float64(d) * square / float64(len(x)))
		k.Scale = k.Gamma
	default:
		return nil, fmt.Errorf("bandwidth: %q, need fixed or google", bandwidth)
	}
	return k, nil
}

// Score returns the score of one vector.
func (k *KDE) Score(f []float32) float64 {
	exponents := make([]float64, len(k.Train)/k.D)
	for i := range exponents {
		row := k.Train[i*k.D:][:k.D]
		for j, v := range row {
			d := float64(f[j]) - float64(v)
			exponents[i] -= k.Gamma * d * d
		}
	}
	top := math.Inf(-1)
	for _, e := range exponents {
		top = max(top, e)
	}
	var sum float64
	for _, e := range exponents {
		sum += math.Exp(e - top)
	}
	return -(top + math.Log(sum)) / k.Scale
}
