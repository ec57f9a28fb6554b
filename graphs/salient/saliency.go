package salient

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// components is how many principal components the spectra have.
const components = 8

// Variance is V [B,HW]: the unbiased variance of z [B,HW,C] over its channels,
// scaled to [0,1] by the extremes of its image.
func (r Readings) Variance(s *nn.Scope, z tf.Output) tf.Output {
	c := float64(nn.Channels(s, z))
	v := nn.Mean(s, nn.Square(s, nn.Sub(s, z, nn.MeanKeep(s, z, -1))), -1)
	v = nn.Scale(s, v, c/(c-1))
	if r.VarNorm != Faithful {
		return scaled(s, v)
	}
	low, high := nn.Min(s, v, 0, 1), nn.Max(s, v, 0, 1)
	return nn.Div(s, nn.Sub(s, v, low), nn.Sub(s, high, low))
}

// scaled moves the rows of x [B,n] into [0,1] by their extremes; a constant row
// is 0.
func scaled(s *nn.Scope, x tf.Output) tf.Output {
	low, high := nn.ExpandDims(s, nn.Min(s, x, 1), 1), nn.MaxKeep(s, x, 1)
	return nn.Div(s, nn.Sub(s, x, low), nn.Shift(s, nn.Sub(s, high, low), 1e-8))
}

// Eigenvectors returns the leading eigenvectors [B,8,C], largest first, of the
// covariance over channels of z [B,HW,C], float64, of arbitrary sign; zeros
// where all features are equal. Of the two matrices FᵀF and FFᵀ, which share
// their spectrum, it solves the smaller.
func Eigenvectors(s *nn.Scope, z tf.Output) tf.Output {
	s = s.OnCPU()
	f := centred(s, nn.Cast(s, z, tf.Double))
	if n, c := nn.Dim(s, f, 1), nn.Channels(s, f); s.Err() == nil && min(n, c) < components {
		s.Fail("%d positions of %d channels have no %d components: need larger images", n, c, components)
		return tf.Output{}
	}
	if nn.Channels(s, f) <= nn.Dim(s, f, 1) {
		_, v := leading(s, nn.BatchMatMul(s, f, f, true, false))
		return nn.Transpose(s, v, 0, 2, 1)
	}
	λ, q := leading(s, nn.BatchMatMul(s, f, f, false, true)) // [B,8], [B,HW,8]
	v := nn.BatchMatMul(s, q, f, true, false)                // [B,8,C], of length √λ
	length := op.Sqrt(s.Op("length"), op.Maximum(s.Op("positive"), λ, op.Const(s.Op("tiny"), float64(1e-30))))
	return nn.Div(s, v, nn.ExpandDims(s, length, -1))
}

// leading returns the largest eigenvalues [B,8] of symmetric matrices m
// [B,n,n], descending, and their vectors as columns [B,n,8].
func leading(s *nn.Scope, m tf.Output) (values, vectors tf.Output) {
	n := nn.Channels(s, m)
	values, vectors = op.SelfAdjointEigV2(s.Op("eigen"), m) // ascending
	values = nn.Reverse(s, nn.Slice(s, values, []int{0, n - components}, []int{-1, components}), 1)
	vectors = nn.Reverse(s, nn.Slice(s, vectors, []int{0, 0, n - components}, []int{-1, n, components}), 2)
	return values, vectors
}

// centred returns f [B,HW,C] less its mean over positions.
func centred(s *nn.Scope, f tf.Output) tf.Output { return nn.Sub(s, f, nn.MeanKeep(s, f, 1)) }

// Entropy is H [B,HW]: how much the regularised entropy R of the spectrum of
// z's principal components changes if a position is left out, |R-R_i|, scaled
// to [0,1] by the extremes of its image. eigenvectors is what [Eigenvectors]
// returns.
//
// With U [8,HW] the projected features and λ̄ the eigenvalues of UUᵀ/HW divided
// by their sum, R = -Σ λ̄ ln(λ̄+1e-9) + 0.1 Σ λ̄². Leaving out position i takes
// uᵢuᵢᵀ/HW from UUᵀ/HW: all HW+1 spectra are one batched 8×8 problem.
//
// Deviation: computed in float64; negative eigenvalues, which are rounding, are
// 0, so that a constant image has entropies and no NaN.
func (r Readings) Entropy(s *nn.Scope, z, eigenvectors tf.Output) tf.Output {
	n := nn.Dim(s, z, 1)
	u := r.project(s, nn.Cast(s, z, tf.Double), nn.Cast(s, eigenvectors, tf.Double)) // [B,HW,8]
	one := op.Const(s.Op("share"), 1/float64(n))
	full := nn.Mul(s, nn.BatchMatMul(s, u, u, true, false), one)
	parts := nn.Mul(s, nn.Mul(s, nn.ExpandDims(s, u, 3), nn.ExpandDims(s, u, 2)), one) // [B,HW,8,8]
	full = nn.ExpandDims(s, full, 1)
	spectra := nn.Concat(s, 1, full, nn.Sub(s, full, parts)) // [B,HW+1,8,8]
	λ, _ := op.SelfAdjointEigV2(s.OnCPU().Op("spectra"), spectra, op.SelfAdjointEigV2ComputeV(false))

	c := func(v float64) tf.Output { return op.Const(s.Op("const"), v) }
	λ = nn.Maximum(s, λ, c(0))
	λ = nn.Div(s, λ, nn.Maximum(s, nn.SumKeep(s, λ, -1), c(1e-30)))
	entropy := nn.Neg(s, nn.Sum(s, nn.Mul(s, λ, nn.Log(s, nn.Add(s, λ, c(1e-9)))), -1)) // [B,HW+1]
	if r.EntropyReg != Faithful {                                                       // else it cancels in R-R_i
		entropy = nn.Add(s, entropy, nn.Mul(s, nn.Sum(s, nn.Square(s, λ), -1), c(0.1)))
	}
	whole, without := nn.Slice(s, entropy, []int{0, 0}, []int{-1, 1}), nn.Slice(s, entropy, []int{0, 1}, []int{-1, n})
	return scaled(s, nn.Cast(s, nn.AbsDiff(s, whole, without), tf.Float))
}

// project returns the rows uᵢ [B,HW,8] that positions contribute.
func (r Readings) project(s *nn.Scope, f, eigenvectors tf.Output) tf.Output {
	n, c := nn.Dim(s, f, 1), nn.Channels(s, f)
	if r.PCAProject != Faithful {
		f = centred(s, f)
	}
	var u tf.Output // [B,HW,8]
	if r.PCABasis == Faithful {
		u = nn.BatchMatMul(s, f, nn.Reshape(s, eigenvectors, -1, c, components), false, false)
	} else {
		u = nn.BatchMatMul(s, f, eigenvectors, false, true)
	}
	if r.PCAView == Faithful {
		u = nn.Transpose(s, nn.Reshape(s, u, -1, components, n), 0, 2, 1)
	}
	return u
}

// Saliency is 0.5·H+V [B,HW].
func (r Readings) Saliency(s *nn.Scope, z, eigenvectors tf.Output) tf.Output {
	return nn.Add(s, nn.Scale(s, r.Entropy(s, z, eigenvectors), 0.5), r.Variance(s, z))
}

// Order returns the positions [B,HW], int32, by descending score [B,HW]; of
// equal ones the first comes first.
func Order(s *nn.Scope, score tf.Output) tf.Output {
	_, order := nn.TopK(s, score, nn.Dim(s, score, 1))
	return order
}
