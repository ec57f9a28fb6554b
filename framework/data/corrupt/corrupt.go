// Package corrupt makes synthetic anomalies and their masks from normal
// images: CutPaste and foreign patch interpolation.
//
// Every function is pure: its result depends on its arguments and on the
// random numbers it draws from the generator given to it, never on a global
// one. With one generator per sample (Rand) the samples do not depend on the
// number of workers.
package corrupt

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Image is one grey image, row-major: pixel (x, y) is V[y*W+x]. Grey values
// are in [0,1]; a mask holds weights or labels in [0,1].
type Image struct {
	W, H int
	V    []float32
}

// New returns a zero image of w×h pixels.
func New(w, h int) Image { return Image{W: w, H: h, V: make([]float32, w*h)} }

// Clone returns a copy that shares nothing with im.
func (im Image) Clone() Image {
	return Image{W: im.W, H: im.H, V: append([]float32(nil), im.V...)}
}

// check reports an image whose values do not fill W×H, or that is too small
// to cut a patch from.
func (im Image) check() error {
	if im.W < minSide || im.H < minSide || len(im.V) != im.W*im.H {
		return fmt.Errorf("corrupt: image of %d×%d with %d values, need W·H values and sides of %d or more",
			im.W, im.H, len(im.V), minSide)
	}
	return nil
}

// minSide is the smallest side on which every patch of this package fits.
const minSide = 16

// Rand returns the random numbers of sample i under a seed. Neighbouring
// samples and neighbouring seeds are independent.
func Rand(seed uint64, i int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed), mix(seed^mix(uint64(i)))))
}

// mix is the finaliser of SplitMix64 (Steele, Lea & Flood, "Fast splittable
// pseudorandom number generators", OOPSLA 2014): a bijection in which each
// bit of z moves about half of the bits of the result.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Jitter is colour jitter of strength q in [0,1] on a grey image: a brightness
// factor U(1-q,1+q) on the values and a contrast factor U(1-q,1+q) about
// their mean, in random order, each clipped to [0,1]. Saturation and hue have
// no effect on grey.
func Jitter(r *rand.Rand, im Image, q float64) Image {
	out := im.Clone()
	brightness, contrast := uniform(r, 1-q, 1+q), uniform(r, 1-q, 1+q)
	if r.IntN(2) == 0 {
		scale(out.V, brightness, 0)
		scale(out.V, contrast, mean(out.V))
	} else {
		scale(out.V, contrast, mean(out.V))
		scale(out.V, brightness, 0)
	}
	return out
}

// Standardise returns (v-mean)/√(variance+1e-8) of an image, the input of
// foreign patch interpolation on radiographs.
func Standardise(im Image) Image {
	m := mean(im.V)
	var ss float64
	for _, v := range im.V {
		ss += (float64(v) - m) * (float64(v) - m)
	}
	s := math.Sqrt(ss/float64(len(im.V)) + 1e-8)
	out := im.Clone()
	for i, v := range out.V {
		out.V[i] = float32((float64(v) - m) / s)
	}
	return out
}

// scale sets v to about + factor·(v-about), clipped to [0,1].
func scale(v []float32, factor, about float64) {
	for i := range v {
		v[i] = float32(min(max(about+factor*(float64(v[i])-about), 0), 1))
	}
}

func mean(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x)
	}
	return sum / float64(len(v))
}

// uniform draws from [a,b).
func uniform(r *rand.Rand, a, b float64) float64 { return a + (b-a)*r.Float64() }
