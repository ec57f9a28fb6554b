package metric

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The vectors A and B were computed independently of this package; the scores
// have ties within and across classes.
var (
	labels  = []bool{false, false, false, false, false, true, true, true, true, true}
	scoresA = []float64{.10, .20, .30, .30, .60, .30, .50, .60, .80, .90}
	scoresB = []float64{.20, .10, .40, .50, .70, .30, .60, .40, .90, .80}
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s = %.9g, want %.9g", what, got, want)
	}
}

func parse(t testing.TB, name string) Spec {
	t.Helper()
	s, err := Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReferenceVectors(t *testing.T) {
	a := Input{Scores: scoresA, Abnormal: labels}
	b := Input{Scores: scoresB, Abnormal: labels}
	for _, tt := range []struct {
		metric    string
		in        Input
		want      float64
		threshold float64
	}{
		{"auroc", a, .86, 0},
		{"ap", a, .835, 0},
		{"auprc", a, .8725, 0},
		{"acc@acc-test", a, .8, .5},
		{"f1@f1-test", a, .8, .5},
		{"acc@youden-test", a, .8, .5}, // Youden .6 at .5: sens .8, spec .8
		{"sens@youden-test", a, .8, .5},
		{"spec@youden-test", a, .8, .5},
		{"auroc", b, .74, 0},
		{"ap", b, .789286, 0},
		{"auprc", b, .778452, 0},
		{"acc@acc-test", b, .7, .8}, // ties at .8, .6, .3: the highest wins
		{"f1@f1-test", b, .769231, .3},
		{"f1@acc-test", b, 4. / 7, .8}, // 2 of 5 found, no false alarm
	} {
		f := parse(t, tt.metric).Eval(tt.in)
		if !f.OK {
			t.Errorf("%s: %s", tt.metric, f.Reason)
		}
		near(t, tt.metric, f.Value, tt.want, 5e-7)
		if f.HasThreshold {
			near(t, tt.metric+" threshold", f.Threshold, tt.threshold, 0)
		}
	}
}

func TestErrors(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		name     string
		scores   []float64
		abnormal []bool
		err      error
	}{
		{"no anomaly", []float64{.1, .2}, []bool{false, false}, ErrOneClass},
		{"no normal", []float64{.1, .2}, []bool{true, true}, ErrOneClass},
		{"nothing", nil, nil, ErrOneClass},
		{"NaN", []float64{.1, nan}, []bool{false, true}, ErrNaN},
	} {
		_, e1 := AUROC(tt.scores, tt.abnormal)
		_, e2 := AveragePrecision(tt.scores, tt.abnormal)
		_, e3 := AUPRCTrapezoid(tt.scores, tt.abnormal)
		_, e4 := ROC(tt.scores, tt.abnormal)
		_, e5 := PR(tt.scores, tt.abnormal)
		for _, err := range []error{e1, e2, e3, e4, e5} {
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
			}
		}
	}
	if _, err := AUROC([]float64{1}, []bool{true, false}); err == nil {
		t.Error("two labels for one score: no error")
	}
}

// randomScores has n scores with many ties where levels is small.
func randomScores(r *rand.Rand, n, levels int) ([]float64, []bool) {
	scores, abnormal := make([]float64, n), make([]bool, n)
	for i := range scores {
		abnormal[i] = i < 2 && i == 1 || i >= 2 && r.IntN(3) == 0
		scores[i] = float64(r.IntN(levels+1)) / 64 // exact, so that maps part no ties
		if abnormal[i] && r.IntN(2) == 0 {
			scores[i] += .25
		}
	}
	return scores, abnormal
}

// TestAUROCDefinition compares with the count over all pairs.
func TestAUROCDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		scores, abnormal := randomScores(r, 2+r.IntN(60), 1+r.IntN(20))
		var won, pairs float64
		for i, a := range abnormal {
			for j, b := range abnormal {
				if a && !b {
					pairs++
					switch {
					case scores[i] > scores[j]:
						won++
					case scores[i] == scores[j]:
						won += .5
					}
				}
			}
		}
		got, err := AUROC(scores, abnormal)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "AUROC", got, won/pairs, 1e-12)
	}
}

// TestMonotone: increasing maps of the scores change no figure whose threshold
// comes from the same scores or is mapped with them; order of the images neither.
func TestMonotone(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var specs []Spec
	for _, name := range Names() {
		if s := parse(t, name); !s.Pixel() && s.rule != "fixed" && s.rule != "f1-val" {
			specs = append(specs, s)
		}
	}
	for range 50 {
		scores, abnormal := randomScores(r, 5+r.IntN(80), 1+r.IntN(30))
		validation, _ := randomScores(r, 3+r.IntN(50), 20)
		in := Input{Scores: scores, Abnormal: abnormal, Validation: validation}
		mapped := Input{Abnormal: abnormal}
		for _, s := range scores {
			mapped.Scores = append(mapped.Scores, math.Exp(3*s)-7)
		}
		for _, s := range validation {
			mapped.Validation = append(mapped.Validation, math.Exp(3*s)-7)
		}
		shuffled := Input{Scores: slices.Clone(scores), Abnormal: slices.Clone(abnormal), Validation: validation}
		r.Shuffle(len(scores), func(i, j int) {
			shuffled.Scores[i], shuffled.Scores[j] = shuffled.Scores[j], shuffled.Scores[i]
			shuffled.Abnormal[i], shuffled.Abnormal[j] = shuffled.Abnormal[j], shuffled.Abnormal[i]
		})
		want := EvalAll(specs, in)
		for _, other := range []Input{mapped, shuffled} {
			for i, f := range EvalAll(specs, other) {
				if f.OK != want[i].OK || math.Abs(f.Value-want[i].Value) > 1e-12 {
					t.Errorf("%s = %g %t, want %g %t", f.Name, f.Value, f.OK, want[i].Value, want[i].OK)
				}
			}
		}
	}
}

// TestReversed: AUROC of −s is 1 − AUROC of s.
func TestReversed(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	scores, abnormal := randomScores(r, 100, 10)
	a, _ := AUROC(scores, abnormal)
	for i := range scores {
		scores[i] = -scores[i]
	}
	b, _ := AUROC(scores, abnormal)
	near(t, "AUROC + reversed", a+b, 1, 1e-12)
}

func TestConstantScores(t *testing.T) {
	scores := []float64{1, 1, 1, 1, 1}
	abnormal := []bool{true, false, false, true, false}
	for name, want := range map[string]float64{"auroc": .5, "ap": .4, "f1@f1-test": 4. / 7, "acc@acc-test": 3. / 5 /* nothing abnormal */} {
		near(t, name, parse(t, name).Eval(Input{Scores: scores, Abnormal: abnormal}).Value, want, 1e-12)
	}
}

func TestQuantile(t *testing.T) {
	up := func(x float64) float64 { return math.Nextafter(x, 10) }
	for _, tt := range []struct {
		scores []float64
		alpha  float64
		want   float64
	}{
		{[]float64{3, 1, 2}, 0, up(3)},
		{[]float64{3, 1, 2}, .3, up(3)},  // a third is one image, .3 allows none
		{[]float64{3, 1, 2}, .34, up(2)}, // one image, 3, may exceed
		{[]float64{3, 3, 2}, .34, up(3)}, // two equal images cannot be parted
		{[]float64{5}, .5, up(5)},
	} {
		got, err := Quantile(tt.scores, tt.alpha)
		if err != nil || got != tt.want {
			t.Errorf("Quantile(%v, %g) = %v, %v; want %v", tt.scores, tt.alpha, got, err, tt.want)
		}
	}
	r := rand.New(rand.NewPCG(4, 4))
	for range 200 {
		scores, _ := randomScores(r, 2+r.IntN(200), 1+r.IntN(300))
		alpha := float64(r.IntN(100)) / 100
		at, err := Quantile(scores, alpha)
		if err != nil {
			t.Fatal(err)
		}
		count := func(t float64) (n int) {
			for _, s := range scores {
				if s >= t {
					n++
				}
			}
			return n
		}
		n := float64(len(scores))
		if float64(count(at)) > alpha*n+1e-9 {
			t.Errorf("alpha %g: %d of %d at or above", alpha, count(at), len(scores))
		}
		if below := math.Nextafter(at, -10); float64(count(below)) <= alpha*n+1e-9 {
			t.Errorf("alpha %g: threshold %g is not the lowest", alpha, at)
		}
	}
	if _, err := Quantile(nil, .1); err == nil {
		t.Error("no scores: no error")
	}
	if _, err := Quantile([]float64{1, math.NaN()}, .1); !errors.Is(err, ErrNaN) {
		t.Errorf("NaN: %v", err)
	}
}

func TestThresholdRules(t *testing.T) {
	in := Input{
		Scores: scoresA, Abnormal: labels,
		Validation: []float64{.1, .2, .3, .55, .1, .1, .2, .2, .3, .1},
	}
	for _, tt := range []struct {
		metric string
		want   float64
	}{
		// q-val.10 of ten validation scores allows one above: s > .3.
		{"sens@q-val.10", .8}, {"spec@q-val.10", .8}, {"prec@q-val.10", .8}, {"acc@q-val.10", .8}, {"f1@q-val.10", .8},
		// the maximum, .55: abnormal .6 .8 .9, normal .6
		{"sens@max-val", .6}, {"spec@max-val", .8}, {"f1@max-val", 6. / 9},
		{"spec@q-val.05", .8}, // half an image may exceed: none
		// three tenths of ten test scores: .9 .8 and two of .6, one too many, so s > .6
		{"prec@contam.30", 1}, {"sens@contam.30", .4},
		// .1 + .2·.8 = .26: all but .1 and .2
		{"sens@fixed.0.2", 1}, {"spec@fixed.0.2", .4},
		// ROC: (0,.4) (.2,.6) (.2,.8) (.6,1) (1,1)
		{"sens@spec.95", .45}, {"sens@spec.90", .5}, {"sens@spec.8", .8}, {"sens@spec.7", .85},
		{"spec@sens.95", 1 - .5}, {"spec@sens.90", 1 - .4}, {"spec@sens.5", .9}, {"spec@sens.4", 1},
	} {
		f := parse(t, tt.metric).Eval(in)
		if !f.OK {
			t.Errorf("%s: %s", tt.metric, f.Reason)
		}
		near(t, tt.metric, f.Value, tt.want, 1e-9)
	}
	labelled := in
	labelled.Validation, labelled.ValidationAbnormal = scoresB, labels
	f := parse(t, "f1@f1-val").Eval(labelled)
	near(t, "f1@f1-val threshold", f.Threshold, .3, 0) // as TestReferenceVectors
	near(t, "f1@f1-val", f.Value, 10./13, 1e-12)       // A at .3: 5 found, 3 false alarms
	f = parse(t, "spec@max-val").Eval(labelled)
	near(t, "max-val of normals only", f.Threshold, math.Nextafter(.7, 1), 0)
}

func TestNotComputed(t *testing.T) {
	ok := Input{Scores: scoresA, Abnormal: labels}
	one := Input{Scores: []float64{1, 2}, Abnormal: []bool{true, true}, Validation: []float64{1}}
	nan := Input{Scores: []float64{1, math.NaN()}, Abnormal: []bool{true, false}, Validation: []float64{1}}
	high := Input{Scores: scoresA, Abnormal: labels, Validation: []float64{9}}
	for _, tt := range []struct {
		metric string
		in     Input
		reason string
	}{
		{"f1@q-val.05", ok, "no validation normals, set validation above 0"},
		{"f1@f1-val", ok, "validation has no abnormal images, f1-val needs a labelled validation set"},
		{"pixel-ap", ok, "no anomaly maps"},
		{"aupro@.3", ok, "no anomaly maps"},
		{"dice@q-val.01", ok, "no anomaly maps"},
		{"auroc", one, "0 normal and 2 abnormal: only one class, need both normal and abnormal"},
		{"acc@q-val.05", one, "0 normal and 2 abnormal: only one class, need both normal and abnormal"},
		{"ap", nan, "score 2 of 2: score is NaN"},
		{"prec@max-val", high, "no image scores at or above the threshold 9.000000000000002, precision is undefined"},
	} {
		f := parse(t, tt.metric).Eval(tt.in)
		if f.OK || f.Value != 0 || f.Reason != tt.reason {
			t.Errorf("%s: OK %t, value %g, reason %q; want %q", tt.metric, f.OK, f.Value, f.Reason, tt.reason)
		}
	}
}

func TestCurves(t *testing.T) {
	roc, err := ROC(scoresA, labels)
	if err != nil {
		t.Fatal(err)
	}
	want := []ROCPoint{{0, 0, math.Inf(1)}, {0, .2, .9}, {0, .4, .8}, {.2, .6, .6}, {.2, .8, .5}, {.6, 1, .3}, {.8, 1, .2}, {1, 1, .1}}
	if !slices.Equal(roc, want) {
		t.Errorf("ROC = %v\nwant %v", roc, want)
	}
	pr, err := PR(scoresA, labels)
	if err != nil {
		t.Fatal(err)
	}
	if first, last := pr[0], pr[len(pr)-1]; first != (PRPoint{0, 1, math.Inf(1)}) || last != (PRPoint{1, .5, .1}) {
		t.Errorf("PR from %v to %v", first, last)
	}
}
