package metric

import (
	"fmt"
	"math"
)

// groups yields the runs of equal values in order, from the highest down, as
// half-open ranges.
func (p *pixels) groups(yield func(from, to int) bool) {
	for from := 0; from < len(p.order); {
		to := from + 1
		for to < len(p.order) && p.order[to]>>32 == p.order[from]>>32 {
			to++
		}
		if !yield(from, to) {
			return
		}
		from = to
	}
}

// aupro is the area under the per-region overlap up to a false-positive rate of
// limit in (0,1], divided by limit. PRO(t) is the mean over all regions of the
// set of |s ≥ t within the region| / |region|, FPR(t) the share of all
// non-lesion pixels of the set with s ≥ t; the curve has a point at every
// distinct value and is interpolated linearly, also at the limit.
// (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, §5.)
func (p *pixels) aupro(limit float64) (float64, error) {
	regions, other := len(p.regions)-1, p.regions[0]
	if regions == 0 || other == 0 {
		return 0, fmt.Errorf("%d regions and %d non-lesion pixels: %w", regions, other, ErrOneClass)
	}
	stop := snap(limit * float64(other))
	var area, pro, x float64 // pro in regions, x in false-positive pixels
	for from, to := range p.groups {
		lastPro, lastX := pro, x
		for _, word := range p.order[from:to] {
			if word&1 == 1 {
				pro += 1 / float64(p.regions[p.region[p.pixel(word)]])
			} else {
				x++
			}
		}
		if x >= stop && x > lastX {
			share := (stop - lastX) / (x - lastX)
			area += (stop - lastX) * (lastPro + share*(pro-lastPro)/2)
			break
		}
		area += (x - lastX) * (pro + lastPro) / 2
	}
	return area / stop / float64(regions), nil
}

// The bounds of AUPIMO's integral.
const pimoLow, pimoHigh = 1e-5, 1e-4

// AUPIMO returns one value in [0,1] for every test image, NaN where there is no
// lesion, for paired tests over images; their mean is the metric aupimo. Errors:
// maps or masks that are missing or do not fit, ErrNaN, fewer than 100,000 pixels
// on normal test images, ErrOneClass.
func AUPIMO(in Input) ([]float64, error) {
	p, err := newPixels(in, grid{})
	if err != nil {
		return nil, err
	}
	return p.aupimo()
}

// aupimo returns, for every abnormal test image with a lesion, the mean recall of
// its lesion pixels over ln FPR from 1e-5 to 1e-4, and NaN for other images
// (Bertoldo et al., "AUPIMO", arXiv 2401.01984). FPR(t) is the mean over the
// normal test images of the share of their pixels ≥ t; at a given rate the
// lowest threshold that keeps it is used, so that recall is a step function and
// the integral exact: a lesion pixel of value v contributes ln(1e-4/FPR(v)),
// clipped to [0, ln 10].
func (p *pixels) aupimo() ([]float64, error) {
	normal := p.normal
	if float64(normal)*pimoLow < 1 {
		return nil, fmt.Errorf("normal test images have %d pixels in all, need %.0f to resolve a false-positive rate of %g", normal, 1/pimoLow, pimoLow)
	}
	recall := make([]float64, len(p.maps))
	lesion := make([]int, len(p.maps))
	fp := 0
	for from, to := range p.groups {
		for _, word := range p.order[from:to] {
			if !p.abnormal[p.image(word)] {
				fp++
			}
		}
		rate := max(pimoLow, float64(fp)/float64(normal))
		gain := max(0, math.Log(pimoHigh/rate)/math.Log(pimoHigh/pimoLow))
		for _, word := range p.order[from:to] {
			if word&1 == 1 {
				recall[p.image(word)] += gain
				lesion[p.image(word)]++
			}
		}
	}
	found := false
	for i, n := range lesion {
		recall[i] /= float64(n) // NaN where n is 0
		found = found || n > 0
	}
	if !found {
		return nil, fmt.Errorf("no lesion pixels: %w", ErrOneClass)
	}
	return recall, nil
}
