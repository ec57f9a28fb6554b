package corrupt

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// FPI is foreign patch interpolation: inside one square an image is mixed with
// the same place of another one. Tan, Hou, Batten, Qiu & Kainz, "Detecting
// Outliers with Foreign Patch Interpolation", MELBA 2022.
type FPI struct {
	Core      float64    // share of each side, about the middle, that holds the square's centre
	HalfWidth [2]float64 // half the square's side as a share of the smaller side, high end excluded
	Alpha     [2]float64 // weight of the other image
	Tolerance float64    // values equal after flooring to multiples of it do not differ
}

// NewFPI returns the authors' settings for chest images.
func NewFPI() FPI {
	return FPI{Core: 0.8, HalfWidth: [2]float64{0.05, 0.2}, Alpha: [2]float64{0.05, 0.95}, Tolerance: 1e-3}
}

// Check names the first field out of range.
func (f FPI) Check() error {
	switch {
	case !(f.Core > 0 && f.Core <= 1):
		return fmt.Errorf("core: %g, need above 0 and at most 1", f.Core)
	case !ordered(f.HalfWidth) || f.HalfWidth[1] > 0.5:
		return fmt.Errorf("half_width: %v, need 0 < low ≤ high ≤ 0.5 of the side", f.HalfWidth)
	case !ordered(f.Alpha) || f.Alpha[1] > 1:
		return fmt.Errorf("alpha: %v, need 0 < low ≤ high ≤ 1", f.Alpha)
	case !(f.Tolerance > 0):
		return fmt.Errorf("tolerance: %g, need above 0", f.Tolerance)
	}
	return nil
}

// Pair is one draw of foreign patch interpolation: two images of the same size
// exchange a share alpha of one square. Label is alpha on the pixels of the
// square where the two differ by more than the tolerance, and 0 elsewhere; it
// holds for both results.
type Pair struct {
	A, B  Image // (1-alpha)·a + alpha·b and (1-alpha)·b + alpha·a in the square
	Label Image
	Alpha float64
}

// Pair mixes a and b, whose values may be standardised (the tolerance is meant
// for these) or grey values in [0,1].
func (f FPI) Pair(r *rand.Rand, a, b Image) (Pair, error) {
	if err := a.check(); err != nil {
		return Pair{}, err
	}
	if a.W != b.W || a.H != b.H || len(b.V) != len(a.V) {
		return Pair{}, fmt.Errorf("corrupt: images of %d×%d and %d×%d, need the same size", a.W, a.H, b.W, b.H)
	}
	x0, x1, y0, y1 := f.square(r, a.W, a.H)
	alpha := uniform(r, f.Alpha[0], f.Alpha[1])
	p := Pair{A: a.Clone(), B: b.Clone(), Label: New(a.W, a.H), Alpha: alpha}
	own, other := float32(1-alpha), float32(alpha)
	for y := y0; y < y1; y++ {
		for i := y*a.W + x0; i < y*a.W+x1; i++ {
			va, vb := a.V[i], b.V[i]
			p.A.V[i] = own*va + other*vb
			p.B.V[i] = own*vb + other*va
			if math.Floor(float64(va)/f.Tolerance) != math.Floor(float64(vb)/f.Tolerance) {
				p.Label.V[i] = other
			}
		}
	}
	return p, nil
}

// square draws the square [x0,x1)×[y0,y1), clipped to w×h. The half-width is
// one value for both axes.
func (f FPI) square(r *rand.Rand, w, h int) (x0, x1, y0, y1 int) {
	size := float64(min(w, h))
	low := max(int(math.Round(f.HalfWidth[0]*size)), 1)
	high := max(int(math.Round(f.HalfWidth[1]*size)), low+1)
	half := low + r.IntN(high-low)
	margin := (1 - f.Core) / 2
	cx := int(uniform(r, margin, 1-margin) * float64(w))
	cy := int(uniform(r, margin, 1-margin) * float64(h))
	return max(cx-half, 0), min(cx+half, w), max(cy-half, 0), min(cy+half, h)
}
