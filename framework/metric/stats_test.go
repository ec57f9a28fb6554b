package metric

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestDeLongVector(t *testing.T) {
	d, err := DeLong(scoresA, scoresB, labels) // computed independently of this package
	if err != nil {
		t.Fatal(err)
	}
	near(t, "A", d.A, .86, 1e-12)
	near(t, "B", d.B, .74, 1e-12)
	near(t, "var A", d.VarA, .0142, 1e-12)
	near(t, "var B", d.VarB, .0292, 1e-12)
	near(t, "cov", d.Cov, .0168, 1e-12)
	near(t, "difference", d.Difference, .12, 1e-12)
	near(t, "z", d.Z, 1.212183, 5e-7)
	near(t, "p", d.P, .225442, 5e-7)
	low, high := d.Interval(.95)
	near(t, "half width", (high-low)/2, 1.959963985*d.SE, 1e-9)
}

// plainDeLong is the O(N²) definition with its 2×2 covariance matrices.
func plainDeLong(a, b []float64, abnormal []bool) (varA, varB, cov, difference float64) {
	psi := func(x, y float64) float64 {
		switch {
		case x > y:
			return 1
		case x == y:
			return .5
		}
		return 0
	}
	var v10, v01 [2][]float64
	for k, s := range [][]float64{a, b} {
		for i := range s {
			var sum, n float64
			for j := range s {
				if abnormal[i] != abnormal[j] {
					n++
					if abnormal[i] {
						sum += psi(s[i], s[j])
					} else {
						sum += psi(s[j], s[i])
					}
				}
			}
			if abnormal[i] {
				v10[k] = append(v10[k], sum/n)
			} else {
				v01[k] = append(v01[k], sum/n)
			}
		}
	}
	s := func(i, j int) float64 {
		return covariance(v10[i], v10[j])/float64(len(v10[0])) + covariance(v01[i], v01[j])/float64(len(v01[0]))
	}
	return s(0, 0), s(1, 1), s(0, 1), mean(v10[0]) - mean(v10[1])
}

func TestDeLongDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 100 {
		n, levels := 10+r.IntN(60), 2+r.IntN(60)
		a, abnormal := randomScores(r, n, levels)
		b, _ := randomScores(r, n, levels)
		for i := range b {
			b[i] += a[i]
		}
		abnormal[0], abnormal[1], abnormal[2], abnormal[3] = true, true, false, false
		varA, varB, cov, difference := plainDeLong(a, b, abnormal)
		d, err := DeLong(a, b, abnormal)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "var A", d.VarA, varA, 1e-12)
		near(t, "var B", d.VarB, varB, 1e-12)
		near(t, "cov", d.Cov, cov, 1e-12)
		near(t, "difference", d.Difference, difference, 1e-12)
		near(t, "SE²", d.SE*d.SE, varA+varB-2*cov, 1e-12)
		other, _ := DeLong(b, a, abnormal)
		near(t, "p of B − A", other.P, d.P, 1e-12)
		auroc, _ := AUROC(a, abnormal)
		near(t, "AUROC", d.A, auroc, 1e-12)
	}
}

func TestDeLongEdges(t *testing.T) {
	abnormal := []bool{false, false, true, true}
	up, down := []float64{1, 2, 3, 4}, []float64{4, 3, 2, 1}
	if d, err := DeLong(up, []float64{10, 20, 30, 40}, abnormal); err != nil || d.P != 1 || d.Z != 0 {
		t.Errorf("two perfect curves: z %g, p %g, %v; want 0, 1", d.Z, d.P, err)
	}
	if _, err := DeLong(up, down, abnormal); !errors.Is(err, ErrNoVariance) {
		t.Errorf("perfect against reversed: %v", err)
	}
	if _, err := DeLong(up, []float64{1, 2, math.NaN(), 4}, abnormal); !errors.Is(err, ErrNaN) {
		t.Errorf("NaN: %v", err)
	}
	if _, err := DeLong(up[:3], up[:3], abnormal[:3]); err == nil {
		t.Error("one abnormal image: no error")
	}
	if _, err := DeLong(up, up[:3], abnormal); err == nil {
		t.Error("three scores for four images: no error")
	}
}

// Overflow: products of 40,000 and 40,000 images do not fit 32 bits, and squared
// not 53.
func TestDeLongLarge(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	const n = 80_000
	a, b, abnormal := make([]float64, n), make([]float64, n), make([]bool, n)
	for i := range a {
		abnormal[i] = i%2 == 0
		a[i], b[i] = r.NormFloat64(), r.NormFloat64()
		if abnormal[i] {
			a[i]++
			b[i]++
		}
	}
	d, err := DeLong(a, b, abnormal)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "AUROC", d.A, .5*math.Erfc(-.5), .01) // Φ(1/√2)
	if !(d.SE > 1e-4 && d.SE < 1e-2) {
		t.Errorf("SE %g", d.SE)
	}
}

// imageSpecs are all metrics of image scores.
func imageSpecs(t testing.TB) (specs []Spec) {
	for _, name := range Names() {
		if s := parse(t, name); !s.Pixel() && !s.Study() {
			specs = append(specs, s)
		}
	}
	return specs
}

// bootstrapRuns are runs over the same n test images, with ties.
func bootstrapRuns(r *rand.Rand, runs, n int) []Input {
	_, abnormal := randomScores(r, n, 4)
	var inputs []Input
	for range runs {
		in := Input{Abnormal: abnormal}
		for i := range n {
			s := math.Round(16*r.NormFloat64()) / 16
			if abnormal[i] {
				s++
			}
			in.Scores = append(in.Scores, s)
			in.Subtypes = append(in.Subtypes, []string{"bacteria", "virus"}[i%2])
		}
		for range 50 {
			in.Validation = append(in.Validation, r.NormFloat64())
		}
		inputs = append(inputs, in)
	}
	return inputs
}

// TestBootstrapAgainstPlain copies the drawn images out and evaluates them afresh.
func TestBootstrapAgainstPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	for _, grouped := range []bool{false, true} {
		specs, runs := imageSpecs(t), bootstrapRuns(r, 3, 60)
		b := Bootstrap{Resamples: 50, Seed: 7}
		if grouped {
			for i := range 60 {
				b.Groups = append(b.Groups, fmt.Sprint(i/3))
			}
			b.Groups[0], b.Groups[1] = "", ""
		}
		fast, err := b.Run(specs, runs)
		if err != nil {
			t.Fatal(err)
		}
		sampler, _ := newSampler(runs[0].Abnormal, b.Groups, b.Seed)
		computed := 0
		for k := range b.Resamples {
			sampler.draw()
			for i, in := range runs {
				drawn := Input{Validation: in.Validation}
				for j, n := range sampler.times {
					for range n {
						drawn.Scores = append(drawn.Scores, in.Scores[j])
						drawn.Abnormal = append(drawn.Abnormal, in.Abnormal[j])
						drawn.Subtypes = append(drawn.Subtypes, in.Subtypes[j])
					}
				}
				for j, f := range EvalAll(specs, drawn) {
					got := fast.draws[i][j][k]
					if !f.OK {
						if !math.IsNaN(got) {
							t.Errorf("%s = %g, want none: %s", f.Name, got, f.Reason)
						}
						continue
					}
					computed++
					near(t, f.Name, got, f.Value, 1e-12)
				}
			}
		}
		if computed < 2000 {
			t.Errorf("only %d figures compared", computed)
		}
	}
}

func TestSampler(t *testing.T) {
	abnormal := []bool{false, false, false, true, true, false, true, false, true}
	groups := []string{"a", "a", "", "b", "b", "c", "c", "d", ""}
	s, err := newSampler(abnormal, groups, 1)
	if err != nil {
		t.Fatal(err)
	}
	plain, _ := newSampler(abnormal, nil, 1)
	varied := false
	for range 200 {
		s.draw()
		n := s.times
		if n[0] != n[1] || n[3] != n[4] || n[5] != n[6] {
			t.Fatalf("groups are torn: %v", n)
		}
		if n[0]+n[2]+n[7] != 3 || n[3]+n[8] != 2 || n[5] != 1 {
			t.Fatalf("strata are not kept: %v", n)
		}
		varied = varied || n[0] > 1
		plain.draw()
		normal := 0
		for i, k := range plain.times {
			if !abnormal[i] {
				normal += k
			}
		}
		if normal != 5 {
			t.Fatalf("%d normal images, want 5", normal)
		}
	}
	if !varied {
		t.Error("no group was drawn twice")
	}
}

// TestBootstrapInterval: on independent scores the interval agrees with DeLong's
// standard error, and a paired comparison is narrower than an unpaired one.
func TestBootstrapInterval(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	runs := bootstrapRuns(r, 1, 500)
	similar := runs[0]
	similar.Scores = slices.Clone(similar.Scores)
	for i := range similar.Scores {
		similar.Scores[i] += r.NormFloat64() / 4
	}
	runs = append(runs, similar)
	out, err := Bootstrap{Seed: 3}.Run([]Spec{parse(t, "auroc")}, runs)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := DeLong(runs[0].Scores, runs[1].Scores, runs[0].Abnormal)
	i, ok := out.Interval([]int{0}, 0, .95)
	if !ok {
		t.Fatal("no interval")
	}
	near(t, "value", i.Value, d.A, 1e-12)
	near(t, "width / DeLong's", (i.High-i.Low)/(2*1.96*math.Sqrt(d.VarA)), 1, .08)
	c, ok := out.Compare([]int{0}, []int{1}, 0, .95)
	if !ok {
		t.Fatal("no comparison")
	}
	near(t, "difference", c.Value, d.Difference, 1e-12)
	near(t, "width of difference / DeLong's", (c.High-c.Low)/(2*1.96*d.SE), 1, .08)
	near(t, "p", c.P, d.P, .05)
	same, ok := out.Compare([]int{0, 1}, []int{1, 0}, 0, .95)
	if !ok || math.Abs(same.Value) > 1e-12 || same.P < .5 {
		t.Errorf("same runs: %+v", same)
	}
	again, _ := Bootstrap{Seed: 3}.Run([]Spec{parse(t, "auroc")}, runs[1:])
	if !slices.Equal(again.draws[0][0], out.draws[1][0]) {
		t.Error("one seed gives two sets of resamples")
	}
}

// TestComparePValue by hand: of four differences 1, 2, 3, −1 one is ≤ 0, so p =
// 2·(1+1)/(4+1); the fifth resample is undefined.
func TestComparePValue(t *testing.T) {
	r := Resampled{
		Figures: [][]Figure{{{Value: 3, OK: true}}, {{Value: 1, OK: true}}},
		draws:   [][][]float64{{{2, 3, 4, 0, math.NaN()}}, {{1, 1, 1, 1, 1}}},
	}
	d, ok := r.Compare([]int{0}, []int{1}, 0, .5)
	if !ok || d.Value != 2 || d.Resamples != 4 {
		t.Errorf("%+v, %t", d, ok)
	}
	near(t, "p", d.P, .8, 1e-12)
	near(t, "low", d.Low, .5, 1e-12) // quartiles of −1 1 2 3
	near(t, "high", d.High, 2.25, 1e-12)
}

func TestBootstrapNotComputed(t *testing.T) {
	specs := []Spec{parse(t, "auroc"), parse(t, "f1@q-val.05")}
	runs := bootstrapRuns(rand.New(rand.NewPCG(12, 12)), 2, 40)
	runs[0].Validation = nil
	runs[1].Scores[3] = math.NaN()
	out, err := Bootstrap{Resamples: 20}.Run(specs, runs)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		run, spec int
		ok        bool
	}{{0, 0, true}, {0, 1, false}, {1, 0, false}, {1, 1, false}} {
		if _, ok := out.Interval([]int{tt.run}, tt.spec, .95); ok != tt.ok {
			t.Errorf("run %d, %s: interval %t, want %t", tt.run, specs[tt.spec].Name, ok, tt.ok)
		}
	}
	if _, ok := out.Compare([]int{0}, []int{1}, 0, .95); ok {
		t.Error("compared with a run without a figure")
	}
	other := runs[0]
	other.Abnormal = slices.Clone(other.Abnormal)
	other.Abnormal[5] = !other.Abnormal[5]
	if _, err := (Bootstrap{}).Run(specs, []Input{runs[0], other}); err == nil {
		t.Error("different labels: no error")
	}
	if _, err := (Bootstrap{}).Run([]Spec{parse(t, "aupimo")}, runs); err == nil {
		t.Error("pixel metric: no error")
	}
	if _, err := (Bootstrap{Groups: []string{"a"}}).Run(specs, runs); err == nil {
		t.Error("one group for 40 images: no error")
	}
}

func TestWelch(t *testing.T) {
	// AE with latent size 4 against 16 on RSNA, three runs each (AE4AD, table 1).
	w, err := Welch(Summary{72.9, 2.1, 3}, Summary{67.5, .9, 3})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "t", w.T, 4.09, .005)
	near(t, "df", w.DF, 2.7, .05)
	near(t, "p", w.P, .032, .0005)
	// Equal sd and n: df = 2(n − 1) = 2 for n = 2, where P(T > t) = ½ − t/(2√(2+t²)).
	w, _ = Welch(Summary{3, 1, 2}, Summary{0, 1, 2})
	near(t, "df", w.DF, 2, 1e-12)
	near(t, "p", w.P, 1-3/math.Sqrt(2+9), 1e-9)
	low, high := w.Interval(.95)
	near(t, "interval", (high-low)/2, 4.302652730, 1e-6) // t.975 with 2 degrees of freedom
	// One side without variance: the other side's n − 1.
	w, _ = Welch(Summary{3, 0, 3}, Summary{1, 2, 5})
	near(t, "df", w.DF, 4, 1e-12)

	if _, err := Welch(Summary{3, 1, 1}, Summary{0, 1, 2}); err == nil {
		t.Error("one repeat: no error")
	}
	if _, err := Welch(Summary{3, 0, 3}, Summary{2, 0, 3}); !errors.Is(err, ErrNoVariance) {
		t.Errorf("no variance: %v", err)
	}
	if w, err := Welch(Summary{3, 0, 3}, Summary{3, 0, 3}); err != nil || w.P != 1 {
		t.Errorf("equal constants: p %g, %v", w.P, err)
	}
}

// TestWelchPower simulates the power of three and five repeats against differences
// of one to four sd, known from an independent simulation.
func TestWelchPower(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 13))
	for n, powers := range map[int][]float64{3: {.13, .38, .68, .89}, 5: {.27, .76, .98, 1}} {
		for k, want := range powers {
			const trials = 4000
			found := 0.
			for range trials {
				a, b := make([]float64, n), make([]float64, n)
				for i := range n {
					a[i], b[i] = r.NormFloat64()+float64(k+1), r.NormFloat64()
				}
				w, err := Welch(Summarize(a), Summarize(b))
				if err != nil {
					t.Fatal(err)
				}
				if w.P < .05 {
					found++
				}
			}
			near(t, fmt.Sprintf("power, n %d, %d sd", n, k+1), found/trials, want, .03)
		}
	}
}

func TestPairedT(t *testing.T) {
	p, err := PairedT([]float64{2, 4, 9}, []float64{1, 2, 6}) // differences 1 2 3: mean 2, sd 1
	if err != nil {
		t.Fatal(err)
	}
	at := 2 * math.Sqrt(3)
	near(t, "t", p.T, at, 1e-12)
	near(t, "df", p.DF, 2, 1e-12)
	near(t, "p", p.P, 1-at/math.Sqrt(2+at*at), 1e-9)
	if _, err := PairedT([]float64{1, 2}, []float64{1}); err == nil {
		t.Error("different lengths: no error")
	}
}

func TestSummarize(t *testing.T) {
	s := Summarize([]float64{1, 2, 3, 4})
	if s.N != 4 || s.Mean != 2.5 {
		t.Errorf("%+v", s)
	}
	near(t, "sample sd", s.SD, math.Sqrt(5./3), 1e-12)
	if s := Summarize([]float64{7}); s != (Summary{7, 0, 1}) {
		t.Errorf("one value: %+v", s)
	}
	if s := Summarize(nil); s != (Summary{}) {
		t.Errorf("no value: %+v", s)
	}
}

func TestTOST(t *testing.T) {
	upper2 := func(t float64) float64 { return .5 - t/2/math.Sqrt(2+t*t) } // 2 degrees of freedom
	root := math.Sqrt(3)
	for _, tt := range []struct {
		name   string
		a, b   Summary
		margin float64
		p      float64
	}{
		{"equal to a constant", Summary{70, 1, 3}, Summary{70, 0, 1}, 2, upper2(2 * root)},
		{"half the margin away", Summary{71, 1, 3}, Summary{70, 0, 1}, 2, upper2(root)},
		{"as far below", Summary{69, 1, 3}, Summary{70, 0, 1}, 2, upper2(root)},
		{"on the margin", Summary{72, 1, 3}, Summary{70, 0, 1}, 2, .5},
		{"beyond it", Summary{73, 1, 3}, Summary{70, 0, 1}, 2, 1 - upper2(root)},
		{"two of two repeats", Summary{70, 1, 2}, Summary{70, 1, 2}, 2, upper2(2)},
		{"no variance, inside", Summary{70, 0, 3}, Summary{69, 0, 1}, 2, 0},
		{"no variance, outside", Summary{73, 0, 3}, Summary{70, 0, 1}, 2, 1},
	} {
		e, err := TOST(tt.a, tt.b, tt.margin)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		near(t, tt.name, e.P, tt.p, 1e-9)
	}
	if _, err := TOST(Summary{70, 1, 3}, Summary{70, 1, 3}, 0); err == nil {
		t.Error("margin 0: no error")
	}
	if _, err := TOST(Summary{70, 0, 1}, Summary{70, 1, 3}, 1); err == nil {
		t.Error("one repeat: no error")
	}
}

func TestHolm(t *testing.T) {
	nan := math.NaN()
	got := Holm([]float64{.01, .04, nan, .03, .005, .9})
	// sorted .005 .01 .03 .04 .9 times 5 4 3 2 1, never falling
	want := []float64{.04, .09, nan, .09, .025, .9}
	for i := range want {
		if math.IsNaN(want[i]) != math.IsNaN(got[i]) || math.Abs(got[i]-want[i]) > 1e-12 {
			t.Errorf("Holm = %v, want %v", got, want)
		}
	}
	if got := Holm([]float64{.8, .7}); got[0] != 1 || got[1] != 1 {
		t.Errorf("Holm = %v, want at most 1", got)
	}
}

// BenchmarkBootstrap: 5 methods × 3 seeds × 624 images, 2,000 resamples of four
// metrics on one core; goal 2 s.
func BenchmarkBootstrap(b *testing.B) {
	runs := bootstrapRuns(rand.New(rand.NewPCG(14, 14)), 15, 624)
	var specs []Spec
	for _, name := range []string{"auroc", "ap", "acc@q-val.05", "f1@q-val.05"} {
		specs = append(specs, parse(b, name))
	}
	for b.Loop() {
		if _, err := (Bootstrap{Seed: 1}).Run(specs, runs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeLong(b *testing.B) {
	runs := bootstrapRuns(rand.New(rand.NewPCG(15, 15)), 2, 17_194)
	for b.Loop() {
		if _, err := DeLong(runs[0].Scores, runs[1].Scores, runs[0].Abnormal); err != nil {
			b.Fatal(err)
		}
	}
}
