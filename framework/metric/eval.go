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

	Groups   []string // the study or patient of each, "" where unknown; nil: none known
	Subtypes []string // the type of each abnormal image, "" where unknown; nil: none known

	Validation         []float64 // image scores of the validation images
	ValidationAbnormal []bool    // their labels; nil: all normal, as is usual
	ValidationGroups   []string  // as Groups

	Maps           [][]float32 // anomaly maps of the test images in the order of Scores, row-major; nil: none
	Masks          [][]bool    // lesions on the same grid; nil: a normal image, or an abnormal one to leave out
	W, H           int         // the one grid of maps and masks
	ValidationMaps [][]float32 // anomaly maps of the validation normals on the same grid

	Lungs           [][]bool // the lungs of the test images on the same grid, nil where unknown; nil: none known
	ValidationLungs [][]bool // those of the validation normals
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
	e := evaluator{Input: in, images: map[view]*once[ranked]{}, validation: map[bool]*once[[]uint64]{}}
	figures := make([]Figure, len(specs))
	for _, i := range byGrid(specs) {
		s, f := specs[i], &figures[i]
		*f = Figure{Name: s.Name, ID: s.ID(), Oracle: s.Oracle()}
		var err error
		if s.Masks() {
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

// byGrid orders the specs so that those of one grid follow each other: the sorted
// pixels of one grid at a time are kept.
func byGrid(specs []Spec) []int {
	var grids []grid
	for _, s := range specs {
		if !slices.Contains(grids, s.grid) {
			grids = append(grids, s.grid)
		}
	}
	order := make([]int, len(specs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return slices.Index(grids, specs[a].grid) - slices.Index(grids, specs[b].grid)
	})
	return order
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

// at returns the entry of a key, a new one if need be.
func at[K comparable, T any](all map[K]*once[T], key K) *once[T] {
	if all[key] == nil {
		all[key] = &once[T]{}
	}
	return all[key]
}

type evaluator struct {
	Input
	images     map[view]*once[ranked]
	grid       grid // of sorted
	sorted     once[*pixels]
	validation map[bool]*once[[]uint64] // by whether the lungs alone count
}

// ranked is what a view shows.
type ranked struct {
	in Input
	r  ranking
}

func (e *evaluator) imageFigure(s Spec, f *Figure) error {
	v, err := at(e.images, s.view).get(func() (v ranked, err error) {
		if v.in, _, err = s.view.of(e.Input); err == nil {
			v.r, err = rank(v.in.Scores, v.in.Abnormal)
		}
		return v, err
	})
	if err != nil {
		return err
	}
	t, err := s.transferred(v.in)
	if err != nil {
		return err
	}
	f.Value, f.Threshold, err = s.image(v.r, t)
	f.HasThreshold = s.thresholded() && !math.IsInf(f.Threshold, 1) // no score lies at or above +Inf
	return err
}

// thresholded reports whether an image metric reads one threshold's counts.
func (s Spec) thresholded() bool { return s.rule != "" && s.rule != "spec" && s.rule != "sens" }

// image is the value of an image metric on a ranking, and its threshold: t where
// the rule transfers one, otherwise chosen on the ranking itself.
func (s Spec) image(r ranking, t float64) (value, threshold float64, err error) {
	switch s.rule {
	case "":
		return r.area(s.base), 0, nil
	case "spec":
		return r.sensitivity(s.value), 0, nil
	case "sens":
		return r.specificity(s.value), 0, nil
	case "youden-test":
		t = r.best(r.higherYouden).t
	case "acc-test":
		// Calling nothing abnormal comes first, as in the scans of SQUID and SimSID.
		if c := r.best(moreAccurate); c.tp > c.fp {
			t = c.t
		} else {
			t = math.Inf(1)
		}
	case "f1-test":
		t = r.best(r.higherF1).t
	case "contam":
		t, err = r.quantile(s.value)
	case "fixed":
		t, err = r.scaled(s.value)
	}
	if err != nil {
		return 0, 0, err
	}
	c := r.at(t)
	tp, fp, n1, n0 := float64(c.tp), float64(c.fp), float64(r.n1), float64(r.n0)
	switch s.base {
	case "acc":
		value = (tp + n0 - fp) / (n1 + n0)
	case "f1":
		value = 2 * tp / (tp + fp + n1)
	case "sens":
		value = tp / n1
	case "spec":
		value = (n0 - fp) / n0
	case "prec":
		if c.tp+c.fp == 0 {
			return 0, t, fmt.Errorf("no image scores at or above the threshold %g, precision is undefined", t)
		}
		value = c.precision()
	}
	return value, t, nil
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

// transferred is the threshold of a rule that chooses it on validation images, NaN
// for the others. The rules of image metrics:
//
//	q-val.α      Quantile(validation normals, α)
//	max-val      just above the maximum of the validation normals
//	contam.ρ     Quantile(test scores, ρ). Deviation: pyod takes it of the training scores.
//	f1-val       argmax F1 on a labelled validation set
//	fixed.x      min + x·(max − min) of the test scores, as in GANomaly's evaluation
//	youden-test  argmax sensitivity + specificity − 1 on the test set; so acc-test, f1-test
//
// An argmax is the first score met from the highest down. For acc-test the scan
// begins above all scores, where nothing is called abnormal: threshold +Inf.
func (s Spec) transferred(in Input) (float64, error) {
	switch s.rule {
	case "q-val", "max-val":
		normals, err := in.validationNormals()
		if err != nil {
			return 0, err
		}
		t, err := Quantile(normals, s.value) // max-val: 0
		if err != nil {
			return 0, fmt.Errorf("validation normals: %w", err)
		}
		return t, nil
	case "f1-val":
		if !slices.Contains(in.ValidationAbnormal, true) {
			return 0, errors.New("validation has no abnormal images, f1-val needs a labelled validation set")
		}
		r, err := rank(in.Validation, in.ValidationAbnormal)
		if err != nil {
			return 0, fmt.Errorf("validation: %w", err)
		}
		return r.best(r.higherF1).t, nil
	}
	return math.NaN(), nil
}

func (in Input) validationNormals() ([]float64, error) {
	if in.ValidationAbnormal != nil && len(in.ValidationAbnormal) != len(in.Validation) {
		return nil, fmt.Errorf("%d validation scores but %d labels", len(in.Validation), len(in.ValidationAbnormal))
	}
	var normals []float64
	for i, s := range in.Validation {
		if in.ValidationAbnormal == nil || !in.ValidationAbnormal[i] {
			normals = append(normals, s)
		}
	}
	if len(normals) == 0 {
		return nil, errors.New("no validation normals, set validation above 0")
	}
	return normals, nil
}

func (e *evaluator) pixelFigure(s Spec, f *Figure) error {
	if e.grid != s.grid {
		e.grid, e.sorted = s.grid, once[*pixels]{}
	}
	p, err := e.sorted.get(func() (*pixels, error) { return newPixels(e.Input, s.grid) })
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
	case s.rule == "youden-test": // over all pixels, also for the mean of images
		f.Threshold = r.best(r.higherYouden).t
	default:
		f.Threshold, err = e.pixelQuantile(s.value, p.size, s.inLungs)
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

// pixelQuantile is Quantile over all pixels of the validation normals, or over those of
// their lungs.
func (e *evaluator) pixelQuantile(alpha float64, size int, inLungs bool) (float64, error) {
	words, err := at(e.validation, inLungs).get(func() ([]uint64, error) {
		if !inLungs {
			return sortedValidation(e.ValidationMaps, nil, size)
		}
		if err := checkLungs(e.ValidationLungs, len(e.ValidationMaps), size, "validation"); err != nil {
			return nil, err
		}
		return sortedValidation(e.ValidationMaps, e.ValidationLungs, size)
	})
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
