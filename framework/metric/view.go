package metric

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A view says what an image metric scores: the images as they are (the zero view), one
// type of abnormal images among the normal ones, studies, or the anomaly map within the
// lungs.
type view struct {
	subtype string // "" for all
	study   string // "mean", "max", "topK"; "" for images
	top     int    // K of topK
	lungs   string // "mean" or "max" of the map; "" for the method's own score
}

// of returns what the view shows of a run, and for each of its scores the test image
// that stands for it. A view of a type or of a study whose images do not say theirs is
// an error.
func (v view) of(in Input) (Input, []int, error) {
	stands := make([]int, len(in.Scores))
	for i := range stands {
		stands[i] = i
	}
	var err error
	if v.lungs != "" {
		if in, err = v.withinLungs(in); err != nil {
			return in, nil, err
		}
	}
	if v.subtype != "" {
		if in, stands, err = v.ofType(in, stands); err != nil {
			return in, nil, err
		}
	}
	if v.study != "" {
		if in, stands, err = v.studies(in, stands); err != nil {
			return in, nil, err
		}
	}
	return in, stands, nil
}

// withinLungs replaces the image scores by the mean or the largest value of the maps in the lungs.
func (v view) withinLungs(in Input) (Input, error) {
	of := func(maps [][]float32, lungs [][]bool, images int, split string) ([]float64, error) {
		if len(maps) == 0 {
			return nil, errors.New("no anomaly maps")
		}
		if len(maps) != images {
			return nil, fmt.Errorf("%d anomaly maps of %d %s images", len(maps), images, split)
		}
		if err := checkLungs(lungs, len(maps), in.W*in.H, split); err != nil {
			return nil, err
		}
		scores := make([]float64, len(maps))
		for i, values := range maps {
			if err := checkMap(values, in.W*in.H, i, split); err != nil {
				return nil, err
			}
			sum, top, n := 0., math.Inf(-1), 0.
			for j, x := range values {
				if lungs[i][j] {
					sum, top, n = sum+float64(x), max(top, float64(x)), n+1
				}
			}
			if n == 0 {
				return nil, fmt.Errorf("the lungs of %s image %d have no pixels", split, i+1)
			}
			if scores[i] = sum / n; v.lungs == "max" {
				scores[i] = top
			}
		}
		return scores, nil
	}
	var err error
	if in.Scores, err = of(in.Maps, in.Lungs, len(in.Scores), "test"); err != nil {
		return in, err
	}
	if len(in.Validation) > 0 {
		in.Validation, err = of(in.ValidationMaps, in.ValidationLungs, len(in.Validation), "validation")
	}
	return in, err
}

// ofType leaves the normal images and the abnormal ones of the view's type. Where studies
// are scored, a normal image of a study with another type goes, too.
func (v view) ofType(in Input, stands []int) (Input, []int, error) {
	if len(in.Subtypes) != len(in.Scores) || len(in.Abnormal) != len(in.Scores) {
		return in, nil, errors.New("the types of the abnormal images are not known")
	}
	out := in
	out.Scores, out.Abnormal, out.Groups, out.Subtypes = nil, nil, nil, nil
	var kept []int
	other := map[string]bool{} // studies with another type
	for i, abnormal := range in.Abnormal {
		if v.study != "" && i < len(in.Groups) && abnormal && in.Subtypes[i] != v.subtype {
			other[in.Groups[i]] = true
		}
	}
	for i, abnormal := range in.Abnormal {
		if abnormal && in.Subtypes[i] != v.subtype || !abnormal && len(other) > 0 && other[in.Groups[i]] {
			continue
		}
		out.Scores, out.Abnormal = append(out.Scores, in.Scores[i]), append(out.Abnormal, abnormal)
		if in.Groups != nil {
			out.Groups = append(out.Groups, in.Groups[i])
		}
		kept = append(kept, stands[i])
	}
	if !slices.Contains(out.Abnormal, true) {
		var types []string
		for i, t := range in.Subtypes {
			if in.Abnormal[i] && t != "" && !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
		slices.Sort(types)
		return in, nil, fmt.Errorf("no abnormal test image of type %q; there are: %s", v.subtype, cmp.Or(strings.Join(types, ", "), "none"))
	}
	return out, kept, nil
}

// studies scores each study by its images, in the order in which the studies first occur.
func (v view) studies(in Input, stands []int) (Input, []int, error) {
	scores, abnormal, first, err := v.gather(in.Scores, in.Abnormal, in.Groups, "test")
	if err != nil {
		return in, nil, err
	}
	out := in
	out.Scores, out.Abnormal, out.Groups, out.Subtypes = scores, abnormal, nil, nil
	kept := make([]int, len(first))
	for i, at := range first {
		kept[i] = stands[at]
	}
	if len(in.Validation) > 0 {
		labels := in.ValidationAbnormal
		if labels == nil {
			labels = make([]bool, len(in.Validation))
		}
		out.Validation, labels, _, err = v.gather(in.Validation, labels, in.ValidationGroups, "validation")
		if err != nil {
			return in, nil, err
		}
		if in.ValidationAbnormal != nil {
			out.ValidationAbnormal = labels
		}
		out.ValidationGroups = nil
	}
	return out, kept, nil
}

// gather brings the scores of each study together, and names its first image.
func (v view) gather(scores []float64, abnormal []bool, groups []string, split string) (of []float64, labels []bool, first []int, err error) {
	if len(groups) != len(scores) || len(abnormal) != len(scores) {
		return nil, nil, nil, fmt.Errorf("the studies of the %s images are not known", split)
	}
	place := map[string]int{}
	var members [][]float64
	for i, g := range groups {
		if g == "" {
			return nil, nil, nil, fmt.Errorf("the study of %s image %d is not known", split, i+1)
		}
		at, known := place[g]
		if !known {
			at = len(members)
			place[g] = at
			members, labels, first = append(members, nil), append(labels, false), append(first, i)
		}
		members[at] = append(members[at], scores[i])
		labels[at] = labels[at] || abnormal[i]
	}
	for _, m := range members {
		of = append(of, v.score(m))
	}
	return of, labels, first, nil
}

// score is that of one study, of which m are the image scores; a study of fewer than K
// images has the mean of all.
func (v view) score(m []float64) float64 {
	slices.SortFunc(m, func(a, b float64) int { return cmp.Compare(b, a) })
	switch {
	case slices.ContainsFunc(m, math.IsNaN):
		return math.NaN()
	case v.study == "max":
		return m[0]
	case v.study != "mean":
		m = m[:min(v.top, len(m))]
	}
	sum := 0.
	for _, x := range m {
		sum += x
	}
	return sum / float64(len(m))
}
