package feature

import (
	"fmt"
	"math"
	"testing"

	"thorax/framework"
)

// A score belongs to its image: neither the size of the batch nor the images
// beside it move it.
func TestBatchSizeDoesNotMoveScores(t *testing.T) {
	gauss := NewDN2()
	gauss.Density, gauss.Taps = "gauss", []string{"reduction_2", "reduction_3"}
	knn, maximum := NewDN2(), smallPatchCore()
	maximum.ImageScore = framework.Max
	gauss.Backbone, knn.Backbone = maximum.Backbone, maximum.Backbone
	train, test := noise(20, 64, 1), noise(9, 64, 2)
	for i, m := range []framework.Method{gauss, knn, smallPaDiM(), smallPatchCore(), maximum} {
		t.Run(fmt.Sprintf("%d %T", i, m), func(t *testing.T) {
			f := fit(t, m, 1, 8, 64, images(train))
			want, maps := f.score(t, images(test))
			for _, batch := range []int{1, 5} {
				got, others := f.rebatch(m, batch).score(t, images(test))
				for i := range want {
					if math.Abs(got[i]-want[i]) > 1e-5*math.Abs(want[i]) {
						t.Errorf("image %d scores %g in batches of %d, %g of 8", i, got[i], batch, want[i])
					}
				}
				for i := range maps {
					for p := range maps[i] {
						if d := math.Abs(float64(others[i][p] - maps[i][p])); d > 1e-5*math.Abs(float64(maps[i][p])) {
							t.Fatalf("map %d differs by %g at pixel %d", i, d, p)
						}
					}
				}
			}
		})
	}
}
