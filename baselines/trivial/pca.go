package trivial

import (
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"thorax/framework"
	"thorax/framework/data"
)

func init() {
	register("pca", "residual of a principal-component reconstruction at 64 pixels", func() any { return &PCA{Components: 64} })
}

// PCA scores an image, shrunk to 64×64 pixels, by the mean squared residual of
// its projection on the first principal components of the training normals: a
// linear auto-encoder in closed form.
type PCA struct {
	Components int `toml:"components"` // at most; fewer training images give fewer

	Mean  []float64   `toml:"-"` // [64·64]
	Basis [][]float32 `toml:"-"` // orthonormal, the largest variance first
}

// Check implements [framework.Direct].
func (m *PCA) Check() error {
	if m.Components < 1 || m.Components > side*side/4 {
		return fmt.Errorf("components: %d, need 1 to %d", m.Components, side*side/4)
	}
	return nil
}

// Fit finds the components by subspace iteration: X ↦ orth(XᵀX·Q) converges by
// the ratio of variances within the block and past it, and the block is wider
// than what is kept.
func (m *PCA) Fit(train framework.Images, _ uint64) error {
	rows, err := measure(train, func(n data.Native) ([]float64, error) { return small(n), nil })
	if err != nil {
		return err
	}
	n, d := len(rows), side*side
	m.Mean = make([]float64, d)
	for _, row := range rows {
		floats.AddScaled(m.Mean, 1/float64(n), row)
	}
	x := mat.NewDense(n, d, nil)
	for i, row := range rows {
		floats.Sub(row, m.Mean)
		x.SetRow(i, row)
	}
	width := min(m.Components+32, n, d)
	r := rand.New(rand.NewPCG(1, 2)) // any start does
	q := mat.NewDense(width, d, nil)
	for k := range width {
		for j := range d {
			q.Set(k, j, r.NormFloat64())
		}
	}
	var xq, next mat.Dense
	for range 6 {
		orthonormalise(q)
		xq.Mul(x, q.T()) // [n,width]
		next.Mul(xq.T(), x)
		q.Copy(&next)
	}
	width = orthonormalise(q)
	q = mat.DenseCopyOf(q.Slice(0, width, 0, d))
	xq.Reset()
	xq.Mul(x, q.T())
	var gram mat.SymDense
	gram.SymOuterK(1, xq.T())
	var e mat.EigenSym
	if width == 0 || !e.Factorize(&gram, true) {
		return fmt.Errorf("all training images are alike: they have no principal component")
	}
	var v, basis mat.Dense
	e.VectorsTo(&v)
	basis.Mul(v.T(), q) // the smallest variance first
	m.Basis = nil
	for k := width - 1; k >= max(width-m.Components, 0); k-- {
		row := make([]float32, d)
		for j, f := range basis.RawRowView(k) {
			row[j] = float32(f)
		}
		m.Basis = append(m.Basis, row)
	}
	return nil
}

// orthonormalise makes the rows of q orthonormal (Gram–Schmidt, twice), drops
// those that depend on others, and returns how many are left, in front.
func orthonormalise(q *mat.Dense) int {
	rows, _ := q.Dims()
	kept := 0
	for k := range rows {
		row := q.RawRowView(k)
		before := floats.Norm(row, 2)
		for range 2 {
			for j := range kept {
				other := q.RawRowView(j)
				floats.AddScaled(row, -floats.Dot(row, other), other)
			}
		}
		norm := floats.Norm(row, 2)
		if !(norm > 1e-10*before) {
			continue
		}
		floats.Scale(1/norm, row)
		if kept < k {
			copy(q.RawRowView(kept), row)
		}
		kept++
	}
	for k := kept; k < rows; k++ {
		clear(q.RawRowView(k))
	}
	return kept
}

// Score implements [framework.Direct].
func (m *PCA) Score(x framework.Images, i int) (float64, []float32, error) {
	n, err := x.Native(i)
	if err != nil {
		return 0, nil, err
	}
	v := small(n)
	if len(m.Mean) != len(v) {
		return 0, nil, fmt.Errorf("the fitted state has %d pixels, need %d: fit it again with --redo", len(m.Mean), len(v))
	}
	floats.Sub(v, m.Mean)
	for _, b := range m.Basis {
		if len(b) != len(v) {
			return 0, nil, fmt.Errorf("the fitted state has a component of %d pixels, need %d: fit it again with --redo", len(b), len(v))
		}
		dot := 0.0
		for j, f := range b {
			dot += float64(f) * v[j]
		}
		for j, f := range b {
			v[j] -= dot * float64(f)
		}
	}
	return floats.Dot(v, v) / float64(len(v)), nil, nil
}

// small is n at 64×64 pixels, in [0,1].
func small(n data.Native) []float64 {
	img := shrunk(n)
	v := make([]float64, side*side)
	for k, g := range img.Pix {
		v[k] = float64(g) / 255
	}
	return v
}
