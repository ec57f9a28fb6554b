package feature

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// plain is the loop that coreset avoids, in float64.
func plain(z []float32, d, m int, rng *rand.Rand) []int {
	n := len(z) / d
	distance := func(i, j int) float64 { return math.Sqrt(squaredDistance(z[i*d:][:d], z[j*d:][:d])) }
	starts := distinct(n, min(10, n), rng)
	far := make([]float64, n)
	for i := range far {
		for _, s := range starts {
			far[i] += distance(i, s) / float64(len(starts))
		}
	}
	var picked []int
	for range m {
		best := 0
		for i := range far {
			if far[i] > far[best] {
				best = i
			}
		}
		picked = append(picked, best)
		for i := range far {
			far[i] = min(far[i], distance(i, best))
		}
	}
	return picked
}

// clusters are n vectors in clusters of unlike width, as patches are.
func clusters(n, d int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 2))
	z := make([]float32, n*d)
	centres := make([]float32, 40*d)
	for i := range centres {
		centres[i] = float32(3 * r.NormFloat64())
	}
	for i := range n {
		k := r.IntN(40)
		for j := range d {
			z[i*d+j] = 5 + centres[k*d+j] + float32(float64(k)/20*r.NormFloat64())
		}
	}
	return z
}

func TestCoresetEqualsPlainLoop(t *testing.T) {
	for _, tt := range []struct{ n, d, m int }{{9000, 16, 300}, {6000, 128, 200}, {40000, 8, 200}, {50, 4, 50}, {3, 2, 2}} {
		z := clusters(tt.n, tt.d, uint64(tt.n))
		want := plain(slices.Clone(z), tt.d, tt.m, rand.New(rand.NewPCG(5, 6)))
		got, err := coreset(z, tt.d, tt.m, rand.New(rand.NewPCG(5, 6)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%v: pick %d is %d, the plain loop's %d", tt, i, got[i], want[i])
					break
				}
			}
		}
	}
}

// Equal vectors are picked once each; what is not finite is refused.
func TestCoresetOfEqualVectors(t *testing.T) {
	z := make([]float32, 20*3)
	got, err := coreset(z, 3, 20, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != 20 {
		t.Errorf("picked %v, want all 20 once", got)
	}
	z[5] = float32(math.NaN())
	if _, err := coreset(z, 3, 2, rand.New(rand.NewPCG(1, 1))); err == nil {
		t.Error("NaN: no error")
	}
}

func TestLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		v := make([]float32, 1+r.IntN(60))
		for i := range v {
			v[i] = float32(r.IntN(12))
		}
		k := 1 + r.IntN(len(v))
		got, cut := largest(v, nil, k)
		if len(got) != k || !slices.IsSorted(got) {
			t.Fatalf("largest %d of %v: %v", k, v, got)
		}
		for i, x := range v {
			if in := slices.Contains(got, int32(i)); in && x < cut || !in && x > cut {
				t.Fatalf("largest %d of %v: %v with cut %g, element %d is wrong", k, v, got, cut, i)
			}
		}
	}
}

// THORAX_BENCH=1 measures 1 % of the patches of ZhangLab at 128 pixels, as many
// and as long.
func TestCoresetTime(t *testing.T) {
	if os.Getenv("THORAX_BENCH") == "" {
		t.Skip("a measurement: set THORAX_BENCH=1")
	}
	z := clusters(343296, 128, 1)
	start := time.Now()
	if _, err := coreset(z, 128, 3432, rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s", time.Since(start).Seconds())
}
