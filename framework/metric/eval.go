package metric

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Input is everything one run left behind that metrics are computed from. The
// slices are only read.
type Input struct {
	Scores   []float64 // image scores of the test images
	Abnormal []bool    // their labels

	Validation         []float64 // image scores of the validation images
	ValidationAbnormal []bool    // their labels; nil: all normal, as is usual

	Maps           [][]float32 // anomaly maps of the test images in the order of Scores, row-major; nil: none
	Masks          [][]bool    // lesions on the same grid; a normal image's mask may be nil
	W, H           int         // the one grid of maps and masks
	ValidationMaps [][]float32 // anomaly maps of the validation normals on the same grid
}

// Figure is one metric's value, or the reason why there is none.
type Figure struct {
	Name, ID     string
	Value        float64 // 0 when !OK, and then never to be printed
	OK           bool
	Reason       string // why not computed, when !OK
	Oracle       bool   // the threshold was chosen with test labels
	Threshold    float64
	HasThreshold bool // abnormal means score ≥ Threshold
}

// Eval computes one figure. For several use EvalAll, which sorts once.
func (s Spec) Eval(in Input) Figure { return EvalAll([]Spec{s}, in)[0] }

// EvalAll computes the figures in the order of specs. It never fails as a whole:
// a figure that cannot be computed has OK false and the reason.
func EvalAll(specs []Spec, in Input) []Figure {
	e := evaluator{Input: in}
	figures := make([]Figure, len(specs))
	for i, s := range specs {
		f := &figures[i]
		*f = Figure{Name: s.Name, ID: s.ID(), Oracle: s.Oracle()}
		var err error
		if s.Pixel() {
			err = e.pixelFigure(s, f)
		} else {
			err = e.imageFigure(s, f)
		}
		if err == nil && math.IsNaN(f.Value) {
			err = errors.New("value is not a number")
		}
		if err != nil {
			*f = Figure{Name: f.Name, ID: f.ID, Oracle: f.Oracle, Reason: err.Error()}
			continue
		}
		f.OK = true
	}
	return figures
}

// once keeps the result of a computation, and its error, for all specs.
type once[T any] struct {
	done  bool
	value T
	err   error
}

func (o *once[T]) get(compute func() (T, error)) (T, error) {
	if !o.done {
		o.value, o.err = compute()
		o.done = true
	}
	return o.value, o.err
}

type evaluator struct {
	Input
	images     once[ranking]
	sorted     once[*pixels]
	validation once[[]uint64]
}

func (e *evaluator) imageFigure(s Spec, f *Figure) error {
	r, err := e.images.get(func() (ranking, error) { return rank(e.Scores, e.Abnormal) })
	if err != nil {
		return err
	}
	switch {
	case s.rule == "":
		f.Value = r.area(s.base)
		return nil
	case s.rule == "spec":
		f.Value = r.sensitivity(s.value)
		return nil
	case s.rule == "sens":
		f.Value = r.specificity(s.value)
		return nil
	}
	t, err := e.threshold(s, r)
	if err != nil {
		return err
	}
	f.Threshold, f.HasThreshold = t, true
	c := r.at(t)
	tp, fp, n1, n0 := float64(c.tp), float64(c.fp), float64(r.n1), float64(r.n0)
	switch s.base {
	case "acc":
		f.Value = (tp + n0 - fp) / (n1 + n0)
	case "f1":
		f.Value = 2 * tp / (tp + fp + n1)
	case "sens":
		f.Value = tp / n1
	case "spec":
		f.Value = (n0 - fp) / n0
	case "prec":
		if c.tp+c.fp == 0 {
			return fmt.Errorf("no image scores at or above the threshold %g, precision is undefined", t)
		}
		f.Value = c.precision()
	}
	return nil
}

// area is the value of a metric without a threshold.
func (r ranking) area(base string) float64 {
	switch base {
	case "ap", "pixel-ap":
		return r.averagePrecision()
	case "auprc", "pixel-auprc":
		return r.auprc()
	}
	return r.auroc()
}

// threshold applies the rules of image metrics.
//
//	q-val.α      Quantile(validation normals, α)
//	max-val      just above the maximum of the validation normals
//	contam.ρ     Quantile(test scores, ρ). Deviation: pyod takes it of the training scores.
//	f1-val       argmax F1 on a labelled validation set
//	fixed.x      min + x·(max − min) of the test scores, as in GANomaly's evaluation
//	youden-test  argmax sensitivity + specificity − 1 on the test set; so acc-test, f1-test
//
// An argmax is the first score met from the highest down; calling nothing
// abnormal is not a candidate.
func (e *evaluator) threshold(s Spec, r ranking) (float64, error) {
	switch s.rule {
	case "q-val", "max-val":
		normals, err := e.validationNormals()
		if err != nil {
			return 0, err
		}
		t, err := Quantile(normals, s.value)
		if err != nil {
			return 0, fmt.Errorf("validation normals: %w", err)
		}
		return t, nil
	case "contam":
		return Quantile(e.Scores, s.value)
	case "fixed":
		low, high := slices.Min(e.Scores), slices.Max(e.Scores)
		if math.IsInf(high-low, 0) || high == low {
			return 0, fmt.Errorf("test scores from %g to %g cannot be scaled to [0,1]", low, high)
		}
		return low + s.value*(high-low), nil
	case "f1-val":
		if e.ValidationAbnormal == nil {
			return 0, errors.New("validation has no abnormal images, f1-val needs a labelled validation set")
		}
		v, err := rank(e.Validation, e.ValidationAbnormal)
		if err != nil {
			return 0, fmt.Errorf("validation: %w", err)
		}
		return v.best(v.higherF1).t, nil
	case "youden-test":
		return r.best(r.higherYouden).t, nil
	case "acc-test":
		return r.best(moreAccurate).t, nil
	}
	return r.best(r.higherF1).t, nil // f1-test
}

func (e *evaluator) validationNormals() ([]float64, error) {
	if e.ValidationAbnormal != nil && len(e.ValidationAbnormal) != len(e.Validation) {
		return nil, fmt.Errorf("%d validation scores but %d labels", len(e.Validation), len(e.ValidationAbnormal))
	}
	var normals []float64
	for i, s := range e.Validation {
		if e.ValidationAbnormal == nil || !e.ValidationAbnormal[i] {
			normals = append(normals, s)
		}
	}
	if len(normals) == 0 {
		return nil, errors.New("no validation normals, set validation above 0")
	}
	return normals, nil
}

func (e *evaluator) pixelFigure(s Spec, f *Figure) error {
	p, err := e.sorted.get(func() (*pixels, error) { return newPixels(e.Input) })
	if err != nil {
		return err
	}
	switch s.base {
	case "aupro":
		f.Value, err = p.aupro(s.value)
		return err
	case "aupimo":
		perImage, err := p.aupimo()
		f.Value = meanOfNumbers(perImage)
		return err
	}
	r, err := p.ranking(s.abnormal)
	if err != nil {
		return err
	}
	if s.rule == "" {
		f.Value = r.area(s.base)
		return nil
	}
	pooled := s.base == "dice" || s.base == "iou"
	measure := dice
	if s.base == "iou" || s.base == "iou-mean" {
		measure = iou
	}
	f.HasThreshold = true
	switch {
	case s.rule == "best" && pooled: // the best IoU = Dice/(2−Dice) is at the same threshold
		c := r.best(r.higherF1)
		f.Threshold, f.Value = c.t, measure(c.tp, c.fp, r.n1)
		return nil
	case s.rule == "best":
		f.Threshold, err = p.bestMeanOverlap(measure)
	default:
		f.Threshold, err = e.pixelQuantile(s.value, p.size)
	}
	if err != nil {
		return err
	}
	if pooled {
		c := p.at(f.Threshold, s.abnormal)
		f.Value = measure(c.tp, c.fp, r.n1)
		return nil
	}
	f.Value, err = p.meanOverlap(f.Threshold, measure)
	return err
}

// pixelQuantile is Quantile over all pixels of the validation normals.
func (e *evaluator) pixelQuantile(alpha float64, size int) (float64, error) {
	words, err := e.validation.get(func() ([]uint64, error) { return sortedValidation(e.ValidationMaps, size) })
	if err != nil {
		return 0, err
	}
	return above(keyValue(uint32(words[allowed(alpha, len(words))] >> 32)))
}

func meanOfNumbers(values []float64) float64 {
	var sum float64
	n := 0
	for _, v := range values {
		if !math.IsNaN(v) {
			sum += v
			n++
		}
	}
	return sum / float64(n)
}
