package metric

import (
	"math"
	"testing"
)

// The AUROCs counted by hand on the resamples of Draw give the interval of Run.
func TestDrawIsRun(t *testing.T) {
	scores := []float64{.1, .2, .3, .3, .6, .3, .5, .6, .8, .9}
	abnormal := []bool{false, false, false, false, false, true, true, true, true, true}
	b := Bootstrap{Resamples: 200, Seed: 3}
	spec, err := Parse("auroc")
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Run([]Spec{spec}, []Input{{Scores: scores, Abnormal: abnormal}})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := r.Interval([]int{0}, 0, .95)
	var draws []float64
	err = b.Draw(abnormal, func(times []int) {
		var wins, pairs float64
		for i, a := range scores {
			for j, n := range scores {
				if !abnormal[i] || abnormal[j] {
					continue
				}
				w := float64(times[i] * times[j])
				pairs += w
				switch {
				case a > n:
					wins += w
				case a == n:
					wins += w / 2
				}
			}
		}
		draws = append(draws, wins/pairs)
	})
	if err != nil {
		t.Fatal(err)
	}
	low, high, ok := percentiles(draws, .95)
	if !ok || len(draws) != 200 || math.Abs(low-want.Low) > 1e-12 || math.Abs(high-want.High) > 1e-12 {
		t.Errorf("[%g, %g] of %d draws, want [%g, %g]", low, high, len(draws), want.Low, want.High)
	}
	if err := (Bootstrap{Groups: []string{"a"}}).Draw(abnormal, func([]int) {}); err == nil {
		t.Error("one group for ten images: no error")
	}
}
