package metric

import (
	"errors"
	"fmt"
)

// dice is 2TP/(2TP+FP+FN), and iou TP/(TP+FP+FN), of a non-empty mask or prediction.
func dice(tp, fp, lesion int) float64 { return 2 * float64(tp) / float64(tp+fp+lesion) }
func iou(tp, fp, lesion int) float64  { return float64(tp) / float64(fp+lesion) }

// An overlap scores tp and fp pixels against a mask of lesion pixels.
type overlap func(tp, fp, lesion int) float64

// meanOverlap is the mean of the per-image overlap at one threshold over the
// abnormal test images whose mask has a lesion.
func (p *pixels) meanOverlap(t float64, f overlap) (float64, error) {
	var sum float64
	n := 0
	for i, mask := range p.masks {
		tp, fp, lesion := 0, 0, 0
		for j, is := range mask {
			if !p.counts(i, j) {
				continue
			}
			hit := float64(p.maps[i][j]) >= t
			switch {
			case is && hit:
				tp++
				lesion++
			case is:
				lesion++
			case hit:
				fp++
			}
		}
		if lesion > 0 {
			sum += f(tp, fp, lesion)
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("no lesion pixels: %w", ErrOneClass)
	}
	return sum / float64(n), nil
}

// bestMeanOverlap finds the threshold, one for all images and the first from the
// highest value down, with the largest meanOverlap. Each pixel that crosses the
// threshold changes the overlap of its own image only.
func (p *pixels) bestMeanOverlap(f overlap) (float64, error) {
	type count struct{ tp, fp, lesion int }
	images := make([]count, len(p.maps))
	for i, mask := range p.masks {
		for _, is := range mask {
			if is {
				images[i].lesion++
			}
		}
	}
	var sum, best, at float64
	found := false
	for from, to := range p.groups {
		for _, word := range p.order[from:to] {
			c := &images[p.image(word)]
			if c.lesion == 0 {
				continue
			}
			sum -= f(c.tp, c.fp, c.lesion)
			c.tp += int(word & 1)
			c.fp += int(1 - word&1)
			sum += f(c.tp, c.fp, c.lesion)
		}
		if sum > best+1e-9 || !found && sum > 0 {
			best, at, found = sum, keyValue(uint32(p.order[from]>>32)), true
		}
	}
	if !found {
		return 0, fmt.Errorf("no lesion pixels: %w", ErrOneClass)
	}
	return at, nil
}

// sortedValidation returns the pixel values of the validation normals as sorted words:
// all of them, or those of the lungs unless lungs is nil.
func sortedValidation(maps [][]float32, lungs [][]bool, size int) ([]uint64, error) {
	if len(maps) == 0 {
		return nil, errors.New("no anomaly maps of validation normals")
	}
	words := make([]uint64, 0, len(maps)*size)
	for i, values := range maps {
		if err := checkMap(values, size, i, "validation"); err != nil {
			return nil, err
		}
		for j, v := range values {
			if lungs == nil || lungs[i][j] {
				words = append(words, uint64(descendingKey(v))<<32)
			}
		}
	}
	if len(words) == 0 {
		return nil, errors.New("the lungs of the validation normals have no pixels")
	}
	sortByKey(words)
	return words, nil
}
