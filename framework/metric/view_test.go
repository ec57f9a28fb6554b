package metric

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Two normal studies and two abnormal ones, b of which has a normal slice.
func studies() Input {
	return Input{
		Scores:   []float64{.1, .2, .9, .3, .8, .4, .5, .6},
		Abnormal: []bool{false, false, false, false, true, true, false, true},
		Groups:   []string{"a", "a", "a", "b", "b", "c", "d", "c"},
		Subtypes: []string{"", "", "", "", "fungal", "cancer", "", "cancer"},

		Validation: []float64{.1, .5, .2, .4}, ValidationGroups: []string{"v", "v", "w", "w"},
	}
}

// TestStudies: scores of the studies a, b, c, d by hand are, by mean, .4 .55 .5 .5,
// by maximum .9 .8 .6 .5, by the two largest .55 .55 .5 .5; b and c are abnormal.
func TestStudies(t *testing.T) {
	in := studies()
	for name, want := range map[string]float64{
		"auroc":                       11. / 15, // .8 and .6 are above four normals, .4 above three
		"auroc:study.mean":            3.5 / 4,
		"auroc:study.max":             2. / 4,
		"auroc:study.top2":            2. / 4, // b ties with a, c with d; b above d
		"auroc:study.top1":            2. / 4,
		"auroc:study.top9":            3.5 / 4, // no study has as many: the mean
		"auroc:type.fungal":           4. / 5,
		"auroc:type.cancer":           7. / 10,
		"auroc:study.max:type.cancer": 1. / 2, // .6 against .9 and .5; b is of another type
		"sens@max-val:study.mean":     1,      // v .3, w .3: both above
		"spec@max-val:study.mean":     0,
		"sens@max-val:study.max":      1,  // v .5, w .4: .8 and .6 are above
		"spec@max-val:study.max":      .5, // .5 is not above .5
	} {
		f := parse(t, name).Eval(in)
		if !f.OK {
			t.Errorf("%s: %s", name, f.Reason)
		}
		near(t, name, f.Value, want, 1e-12)
	}
	for name, reason := range map[string]string{
		"auroc:type.viral": `no abnormal test image of type "viral"; there are: cancer, fungal`,
		"auroc:lungs.mean": "no anomaly maps",
	} {
		if f := parse(t, name).Eval(in); f.OK || !strings.Contains(f.Reason, reason) {
			t.Errorf("%s: %+v, want the reason %q", name, f, reason)
		}
	}
	in.Groups[3], in.Subtypes = "", nil
	for name, reason := range map[string]string{
		"auroc:study.max":   "the study of test image 4 is not known",
		"auroc:type.fungal": "the types of the abnormal images are not known",
	} {
		if f := parse(t, name).Eval(in); f.OK || !strings.Contains(f.Reason, reason) {
			t.Errorf("%s: %+v, want the reason %q", name, f, reason)
		}
	}
}

// TestStudyBootstrap draws whole studies and gives each copy a name of its own.
func TestStudyBootstrap(t *testing.T) {
	var specs []Spec
	for _, name := range []string{"auroc:study.mean", "ap:study.max", "auroc:study.top2", "f1@f1-test:study.max", "auroc:study.mean:type.virus"} {
		specs = append(specs, parse(t, name))
	}
	in := bootstrapRuns(rand.New(rand.NewPCG(31, 31)), 1, 90)[0]
	for i := range in.Scores {
		in.Groups = append(in.Groups, fmt.Sprint(i*7%31))
	}
	in.Validation = nil
	b := Bootstrap{Resamples: 60, Seed: 9, Groups: in.Groups}
	fast, err := b.Run(specs, []Input{in})
	if err != nil {
		t.Fatal(err)
	}
	sampler, _ := newSampler(in.Abnormal, b.Groups, b.Seed)
	computed := 0
	for k := range b.Resamples {
		sampler.draw()
		drawn := Input{}
		for i, n := range sampler.times {
			for copy := range n {
				drawn.Scores, drawn.Abnormal = append(drawn.Scores, in.Scores[i]), append(drawn.Abnormal, in.Abnormal[i])
				drawn.Subtypes, drawn.Groups = append(drawn.Subtypes, in.Subtypes[i]), append(drawn.Groups, fmt.Sprint(in.Groups[i], "#", copy))
			}
		}
		for j, f := range EvalAll(specs, drawn) {
			if f.OK {
				computed++
				near(t, f.Name, fast.draws[0][j][k], f.Value, 1e-12)
			}
		}
	}
	if computed < 250 {
		t.Errorf("only %d figures compared", computed)
	}
	b.Groups = nil // images are drawn: studies would be torn
	torn, err := b.Run(specs, []Input{in})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := torn.Interval([]int{0}, 0, .95); ok || !torn.Figures[0][0].OK {
		t.Error("studies were resampled by image")
	}
}

// TestGrids compares dilation and restriction to the lungs with a plain computation.
func TestGrids(t *testing.T) {
	r := rand.New(rand.NewPCG(32, 32))
	for range 30 {
		in := randomPixels(r, 4, 4+r.IntN(6), 4+r.IntN(6), 2+r.IntN(30))
		region := func() []bool {
			l := make([]bool, in.W*in.H)
			for j := range l {
				l[j] = r.IntN(3) > 0
			}
			l[0] = true
			return l
		}
		for range in.Maps {
			in.Lungs = append(in.Lungs, region())
		}
		var normals []float64
		for _, values := range in.ValidationMaps {
			l := region()
			in.ValidationLungs = append(in.ValidationLungs, l)
			for j, v := range values {
				if l[j] {
					normals = append(normals, float64(v))
				}
			}
		}
		var scores []float64
		var lesion []bool
		for i, values := range in.Maps {
			for j, v := range values {
				x, y, hit := j%in.W, j/in.W, false
				for k, on := range in.Masks[i] {
					dx, dy := k%in.W-x, k/in.W-y
					hit = hit || on && dx*dx+dy*dy <= 1
				}
				if in.Lungs[i][j] {
					scores, lesion = append(scores, float64(v)), append(lesion, hit)
				}
			}
		}
		at, _ := Quantile(normals, .1)
		near(t, "dice@q-val.10:dilated:lungs", parse(t, "dice@q-val.10:dilated:lungs").Eval(in).Value, plainDice(scores, lesion, at), 1e-12)
		best, youden, atYouden := 0., -1., 0.
		for _, at := range scores {
			best = max(best, plainDice(scores, lesion, at))
			var tp, fp, n1 float64
			for i, s := range scores {
				if lesion[i] {
					n1++
				}
				if s >= at && lesion[i] {
					tp++
				} else if s >= at {
					fp++
				}
			}
			j := tp/n1 - fp/(float64(len(scores))-n1)
			if j > youden+1e-12 || j > youden-1e-12 && at > atYouden {
				youden, atYouden = max(j, youden), at
			}
		}
		near(t, "dice@best:dilated:lungs", parse(t, "dice@best:dilated:lungs").Eval(in).Value, best, 1e-12)
		f := parse(t, "dice@youden-test:dilated:lungs").Eval(in)
		near(t, "Youden's threshold", f.Threshold, atYouden, 1e-12)
		near(t, f.Name, f.Value, plainDice(scores, lesion, atYouden), 1e-12)
		auroc, _ := AUROC(scores, lesion)
		specs := []Spec{parse(t, "pixel-auroc"), parse(t, "dice@best:dilated:lungs"), parse(t, "pixel-auroc:lungs"), parse(t, "auroc:lungs.max")}
		all := EvalAll(specs, in) // of several grids at once
		for i, s := range specs {
			if one := s.Eval(in); one != all[i] || !one.OK {
				t.Errorf("%s: %+v alone, %+v among others", s.Name, one, all[i])
			}
		}
		in.Masks = dilated(in)
		near(t, "pixel-auroc:lungs", parse(t, "pixel-auroc:lungs").Eval(in).Value, auroc, 1e-12)
	}
}

func dilated(in Input) (masks [][]bool) {
	for _, m := range in.Masks {
		masks = append(masks, dilate(m, in.W))
	}
	return masks
}

// TestLungs: by hand, the map within the lungs, and what is said where none are known.
func TestLungs(t *testing.T) {
	in := Input{
		Scores: []float64{1, 0}, Abnormal: []bool{false, true}, W: 3, H: 1,
		Maps:  [][]float32{{9, 1, 2}, {0, 1, 5}},
		Masks: [][]bool{nil, {false, false, true}},
		Lungs: [][]bool{{false, true, true}, {false, true, true}},

		Validation: []float64{7}, ValidationMaps: [][]float32{{8, 2, 2}}, ValidationLungs: [][]bool{{false, true, true}},
	}
	for name, want := range map[string]float64{
		"auroc": 0, "auroc:lungs.mean": 1, "auroc:lungs.max": 1, "sens@max-val:lungs.mean": 1, "spec@max-val:lungs.mean": 1,
		"pixel-auroc": .8, "pixel-auroc:lungs": 1, "dice@max-val:lungs": 1, "dice@max-val": 0,
	} {
		f := parse(t, name).Eval(in)
		if !f.OK {
			t.Errorf("%s: %s", name, f.Reason)
		}
		near(t, name, f.Value, want, 1e-12)
	}
	in.Lungs[1] = nil
	if f := parse(t, "pixel-ap:lungs").Eval(in); f.OK || f.Reason != "the lungs of test image 2 are not known" {
		t.Errorf("%+v", f)
	}
	in.Lungs = nil
	for _, name := range []string{"pixel-ap:lungs", "auroc:lungs.mean"} {
		if f := parse(t, name).Eval(in); f.OK || f.Reason != "the lungs of the test images are not known" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
