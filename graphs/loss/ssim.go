package loss

import (
	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// A Similarity describes structural similarity. The zero value is the usual
// one: a Gaussian window of 11 pixels and σ 1.5, for images in [0,1].
type Similarity struct {
	Window int     // odd side of the window; 0 is 11
	Sigma  float64 // of the Gaussian; 0 is 1.5
	Range  float64 // of the pixel values; 0 is 1
	// ZeroPad computes the index at every pixel, with zeros around the images;
	// otherwise only where the window fits.
	ZeroPad bool
}

func (o *Similarity) defaults(s *nn.Scope) {
	if o.Window == 0 {
		o.Window = 11
	}
	if o.Sigma == 0 {
		o.Sigma = 1.5
	}
	if o.Range == 0 {
		o.Range = 1
	}
	if o.Window < 1 || o.Window%2 == 0 || o.Sigma < 0 || o.Range < 0 {
		s.Fail("structural similarity with window %d, sigma %g, range %g: need an odd window and positive numbers", o.Window, o.Sigma, o.Range)
		o.Window = 1
	}
}

// SSIMMap is the structural similarity index of x and y [B,H,W,C], at most 1:
// [B,h,w,C], h = H-Window+1 or, zero-padded, H. With local means μ, variances
// σ² and covariance σxy it is (2μxμy+C1)(2σxy+C2)/((μx²+μy²+C1)(σx²+σy²+C2)),
// C1 = (0.01·Range)², C2 = (0.03·Range)² (Wang et al., "Image Quality
// Assessment", IEEE TIP 2004, eq. 13).
func SSIMMap(s *nn.Scope, x, y tf.Output, o Similarity) tf.Output {
	index, _ := o.maps(s, x, y)
	return index
}

// SSIM is the loss 1 - mean of [SSIMMap].
func SSIM(s *nn.Scope, x, y tf.Output, o Similarity) tf.Output {
	return nn.Shift(s, nn.Neg(s, nn.MeanAll(s, SSIMMap(s, x, y, o))), 1)
}

// MultiScaleWeights are the exponents of five scales, from fine to coarse
// (Wang, Simoncelli and Bovik, Asilomar 2003, §3.2).
var MultiScaleWeights = []float64{0.0448, 0.2856, 0.3001, 0.2363, 0.1333}

// MultiScaleSSIM is the multi-scale index of each image, [B]: the mean over
// channels of the product over scales of (mean contrast-structure)^weight, and
// of the whole index at the coarsest scale (Wang, Simoncelli and Bovik, 2003,
// eq. 7). Each scale halves the image by 2×2 means; each factor is at least
// 1e-6, which keeps its gradient finite. The maps are the index of each scale,
// [B,h,w,C].
func MultiScaleSSIM(s *nn.Scope, x, y tf.Output, weights []float64, o Similarity) (index tf.Output, maps []tf.Output) {
	for i, weight := range weights {
		if i > 0 {
			x, y = nn.AvgPool(s, x, 2, 2, nn.Valid), nn.AvgPool(s, y, 2, 2, nn.Valid)
		}
		whole, contrast := o.maps(s, x, y)
		maps = append(maps, whole)
		if i == len(weights)-1 {
			contrast = whole
		}
		factor := nn.Maximum(s, nn.Mean(s, contrast, 1, 2), nn.Const(s, 1e-6)) // [B,C]
		factor = nn.Pow(s, factor, weight)
		if i == 0 {
			index = factor
		} else {
			index = nn.Mul(s, index, factor)
		}
	}
	if len(weights) == 0 {
		s.Fail("multi-scale similarity with no weights")
		return x, nil
	}
	return nn.Mean(s, index, 1), maps
}

// maps returns the index and its contrast-structure part at each pixel.
func (o Similarity) maps(s *nn.Scope, x, y tf.Output) (index, contrast tf.Output) {
	o.defaults(s)
	c := nn.Channels(s, x)
	h, w := nn.Height(s, x), nn.Width(s, x)
	if s.Err() == nil && !o.ZeroPad && (h < o.Window || w < o.Window) {
		s.Fail("structural similarity with a window of %d on %d×%d: need a smaller window, fewer scales or larger images", o.Window, h, w)
		return x, x
	}
	x, y = nn.Planes(s, x), nn.Planes(s, y)
	all := nn.Concat(s, 0, x, y, nn.Square(s, x), nn.Square(s, y), nn.Mul(s, x, y))
	m := nn.Split(s, nn.Filter(s, all, o.band(h), o.band(w)), 0, 5)
	xx, yy, xy := nn.Square(s, m[0]), nn.Square(s, m[1]), nn.Mul(s, m[0], m[1])
	varX, varY, cov := nn.Sub(s, m[2], xx), nn.Sub(s, m[3], yy), nn.Sub(s, m[4], xy)

	ratio := func(product, x, y tf.Output, c float64) tf.Output {
		return nn.Div(s, nn.Shift(s, nn.Scale(s, product, 2), c), nn.Shift(s, nn.Add(s, x, y), c))
	}
	c1, c2 := 0.01*o.Range, 0.03*o.Range
	contrast = ratio(cov, varX, varY, c2*c2)
	index = nn.Mul(s, contrast, ratio(xy, xx, yy, c1*c1))
	return nn.FromPlanes(s, index, c), nn.FromPlanes(s, contrast, c)
}

// band is the window as a matrix on a line of n pixels.
func (o Similarity) band(n int) nn.Matrix {
	taps := nn.Gaussian(o.Window/2, o.Sigma)
	first, rows := 0, max(n-o.Window+1, 0)
	if o.ZeroPad {
		first, rows = -(o.Window / 2), n
	}
	m := nn.NewMatrix(rows, n)
	for i := range rows {
		for t, tap := range taps {
			if j := first + i + t; j >= 0 && j < n {
				m.V[i*n+j] = float32(tap)
			}
		}
	}
	return m
}
