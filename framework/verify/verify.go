// Package verify recomputes the figures of run folders from what was measured: image
// metrics from scores.csv, pixel metrics from maps/ and the masks of the data set.
// What is recorded in metrics.json or in a table is only compared, never used.
package verify

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// Verdict is what became of a recorded figure.
type Verdict string

const (
	// Same means that the figure was computed again within the tolerance.
	Same Verdict = "same"
	// Drifted means that another value, or none, comes out.
	Drifted Verdict = "drifted"
	// Open means that what the figure needs was not kept.
	Open Verdict = "not verifiable"
)

// Tolerances. Scores have nine significant digits in scores.csv. Maps are kept in
// half precision, with steps of 2⁻¹¹ of a value: neighbours in the ranking of pixels
// may change places, and a threshold may move by one step.
const (
	imageTolerance = 1e-6
	pixelTolerance = 2e-3
)

// Check is one recorded figure and what comes out of the scores now.
type Check struct {
	Where  string // run folder, or row and file of a table
	Metric string
	Verdict
	Recorded, Now float64 // NaN where there is no value
	Reason        string  // of a verdict other than Same
}

// Masks gives the lesion masks of a run's test images.
type Masks interface {
	// Masks returns the mask of each path on a grid of w×h; nil for a normal
	// image, and for an abnormal one whose lesions are not known.
	Masks(e record.Entry, paths []string) (masks [][]bool, w, h int, err error)
	// Lungs returns the lungs of the images of a split, in the order of scores.csv, on the
	// same grid; nil for an image whose lungs are not known.
	Lungs(e record.Entry, split string, paths []string) ([][]bool, error)
}

// Runs recomputes the figures of all complete runs. masks may be nil: pixel figures
// are then not verifiable. The error says that a file of a run is damaged.
func Runs(entries []record.Entry, masks Masks) ([]Check, error) {
	var all []Check
	for _, e := range entries {
		if e.State() != record.State(record.Complete) {
			continue
		}
		checks, err := one(e, masks)
		if err != nil {
			return nil, err
		}
		all = append(all, checks...)
	}
	return all, nil
}

func one(e record.Entry, masks Masks) ([]Check, error) {
	stored, err := e.Figures()
	if errors.Is(err, os.ErrNotExist) {
		return []Check{{e.Dir, "all", Open, math.NaN(), math.NaN(), "metrics.json is missing: nothing was recorded"}}, nil
	}
	if err != nil {
		return nil, err
	}
	scores, err := e.Scores()
	if errors.Is(err, os.ErrNotExist) {
		return []Check{{e.Dir, "all", Drifted, math.NaN(), math.NaN(), "scores.csv is missing: no figure can be computed from it"}}, nil
	}
	if err != nil {
		return nil, err
	}
	in, _ := record.Input(scores)
	var pixel error // why pixel metrics cannot be computed
	loaded := false
	var out []Check
	for _, f := range stored {
		c := Check{Where: e.Dir, Metric: f.Name, Recorded: value(f), Now: math.NaN()}
		spec, err := metric.Parse(f.Name)
		switch {
		case err != nil:
			c.Verdict, c.Reason = Drifted, "no metric of this name is known"
		case spec.ID() != f.ID:
			c.Verdict, c.Reason = Drifted, fmt.Sprintf("recorded as %s, the name now stands for %s; score the run again", f.ID, spec.ID())
		case spec.Pixel():
			if !loaded {
				pixel, loaded = pixels(e, masks, scores, &in, needLungs(stored)), true
			}
			if c.Verdict = Open; pixel != nil {
				if c.Reason = pixel.Error(); !f.OK {
					c.Reason = "not computed by the run: " + f.Reason
				}
				break
			}
			now := spec.Eval(in)
			if now.OK || in.ValidationMaps != nil {
				c.compare(f, now, pixelTolerance)
			} else {
				c.Reason = now.Reason + "; maps of validation images are not kept"
			}
		default:
			c.compare(f, spec.Eval(in), imageTolerance)
		}
		out = append(out, c)
	}
	return out, nil
}

// needLungs reports whether some recorded figure looks at the lungs.
func needLungs(stored []metric.Figure) bool {
	return slices.ContainsFunc(stored, func(f metric.Figure) bool {
		spec, err := metric.Parse(f.Name)
		return err == nil && spec.Lungs()
	})
}

// pixels adds maps, masks and, if asked for, lungs to the input.
func pixels(e record.Entry, source Masks, scores []record.Score, in *metric.Input, lungs bool) error {
	paths := pathsOf(scores, "test")
	maps, err := e.ReadMaps("test")
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("no maps/ were kept; score again with maps = true")
	}
	if err != nil {
		return err
	}
	if maps.N != len(paths) {
		return fmt.Errorf("%d maps for %d test images", maps.N, len(paths))
	}
	if source == nil {
		return errors.New("the masks of the data set are not at hand")
	}
	masks, w, h, err := source.Masks(e, paths)
	if err != nil {
		return err
	}
	if w != maps.W || h != maps.H {
		return fmt.Errorf("masks of %d×%d for maps of %d×%d", w, h, maps.W, maps.H)
	}
	in.W, in.H, in.Masks = w, h, masks
	for i := range maps.N {
		in.Maps = append(in.Maps, maps.At(i))
	}
	if validation, err := e.ReadMaps("validation"); err == nil {
		for i := range validation.N {
			in.ValidationMaps = append(in.ValidationMaps, validation.At(i))
		}
	}
	if !lungs {
		return nil
	}
	if in.Lungs, err = source.Lungs(e, "test", paths); err != nil {
		return err
	}
	in.ValidationLungs, err = source.Lungs(e, "validation", pathsOf(scores, "validation"))
	return err
}

func pathsOf(scores []record.Score, split string) (paths []string) {
	for _, s := range scores {
		if s.Split == split {
			paths = append(paths, s.Path)
		}
	}
	return paths
}

// value is NaN where a figure was not computed.
func value(f metric.Figure) float64 {
	if !f.OK {
		return math.NaN()
	}
	return f.Value
}

// compare judges a recorded figure by the one of now.
func (c *Check) compare(recorded, now metric.Figure, tolerance float64) {
	c.Recorded, c.Now = value(recorded), value(now)
	c.Verdict = Drifted
	switch {
	case !recorded.OK && !now.OK:
		c.Verdict = Same
	case !now.OK:
		c.Reason = "cannot be computed: " + now.Reason
	case !recorded.OK:
		c.Reason = "recorded as not computed: " + recorded.Reason
	case math.Abs(c.Recorded-c.Now) > tolerance:
		c.Reason = "another value"
	case tolerance == pixelTolerance && recorded.Oracle:
		c.Verdict = Same // another threshold of the same value: the best one is not unique
	case recorded.HasThreshold != now.HasThreshold || recorded.HasThreshold && far(recorded.Threshold, now.Threshold, tolerance):
		c.Reason = fmt.Sprintf("another threshold, recorded %g, now %g", recorded.Threshold, now.Threshold)
	default:
		c.Verdict = Same
	}
}

// far compares relative to the larger value.
func far(a, b, tolerance float64) bool {
	return math.Abs(a-b) > tolerance*max(math.Abs(a), math.Abs(b))
}
