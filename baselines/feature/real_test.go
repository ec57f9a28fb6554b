package feature

import (
	"math"
	"os"
	"testing"

	"thorax/framework"
)

// Figures of golden/reference-auc.md §1, at 128 pixels and without a resize on
// the CT slices. THORAX_REAL=1 runs them; results/ holds the same figures from
// whole experiments.
func TestMapsOnRealImages(t *testing.T) {
	if os.Getenv("THORAX_REAL") == "" {
		t.Skip("minutes of real images: set THORAX_REAL=1")
	}
	padim := func(rule framework.ImageScore) framework.Method {
		m := NewPaDiM()
		m.ImageScore = rule
		return m
	}
	patchcore := func(rule framework.ImageScore) framework.Method {
		m := NewPatchCore()
		m.ImageScore = rule
		return m
	}
	for _, tt := range []struct {
		kind, set   string
		name        string
		m           framework.Method
		want, below float64 // expected, and broken below
	}{
		{"folder", "sarscov2_ct", "padim max", padim(framework.Max), 0.755, 0.73},
		{"folder", "sarscov2_ct", "padim mean", padim(framework.Mean), 0.810, 0.79},
		{"folder", "sarscov2_ct", "patchcore reweight", patchcore(Reweight), 0.776, 0.75},
		{"folder", "sarscov2_ct", "patchcore mean", patchcore(framework.Mean), 0.871, 0.84},
		{"zhanglab", "zhanglab", "padim max", padim(framework.Max), 0.754, 0.72},
		{"zhanglab", "zhanglab", "patchcore reweight", patchcore(Reweight), 0.812, 0.78},
	} {
		t.Run(tt.set+" "+tt.name, func(t *testing.T) {
			set := openReal(t, tt.kind, tt.set)
			scores, _ := fit(t, tt.m, 0, 16, 128, set.train).score(t, set.test)
			got := auroc(t, scores, set.abnormal)
			t.Logf("AUROC %.4f, reference %.3f", got, tt.want)
			if got < tt.below || math.Abs(got-tt.want) > 0.05 {
				t.Errorf("AUROC %.4f, want %.3f, at least %.2f", got, tt.want, tt.below)
			}
		})
	}
}
