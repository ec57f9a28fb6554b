package nn_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"thorax/graphs/nn"
)

// Initialisers have the deviation and the bound that their papers and the
// libraries' documentation give for a kernel [3,3,16,64]: fan-in 144, fan-out
// 576.
func TestInitializers(t *testing.T) {
	const in, out = 144.0, 576.0
	uniform := func(bound float64) (float64, float64) { return bound / math.Sqrt(3), bound }
	for _, tt := range []struct {
		name string
		init nn.Initializer
		want func() (deviation, bound float64) // bound 0: none
	}{
		{"PyTorch", nn.PyTorch(in), func() (float64, float64) { return uniform(1 / math.Sqrt(in)) }},
		{"Glorot uniform", nn.GlorotUniform(), func() (float64, float64) { return uniform(math.Sqrt(6 / (in + out))) }},
		{"Glorot normal", nn.GlorotNormal(), func() (float64, float64) { return math.Sqrt(2 / (in + out)), 0 }},
		{"Kaiming normal", nn.KaimingNormal(), func() (float64, float64) { return math.Sqrt(2 / in), 0 }},
		{"Kaiming normal, fan-out", nn.KaimingNormalFanOut(), func() (float64, float64) { return math.Sqrt(2 / out), 0 }},
		{"He normal", nn.HeNormal(), func() (float64, float64) { return math.Sqrt(2 / in), 2 * math.Sqrt(2/in) / 0.87962566103423978 }},
		{"normal", nn.Normal(0.02), func() (float64, float64) { return 0.02, 0 }},
		{"truncated normal", nn.TruncatedNormal(0.02), func() (float64, float64) { return 0.02 * 0.87962566103423978, 0.04 }},
	} {
		v, err := tt.init([]int{3, 3, 16, 64}, rand.New(rand.NewPCG(1, 0)))
		if err != nil || len(v) != 9216 {
			t.Errorf("%s: %d values, %v", tt.name, len(v), err)
			continue
		}
		var sum, squares, largest float64
		for _, v := range v {
			sum += float64(v)
			squares += float64(v) * float64(v)
			largest = max(largest, math.Abs(float64(v)))
		}
		n := float64(len(v))
		deviation, bound := tt.want()
		if mean := sum / n; math.Abs(mean) > 5*deviation/math.Sqrt(n) {
			t.Errorf("%s: mean %g, want 0", tt.name, mean)
		}
		if got := math.Sqrt(squares / n); math.Abs(got/deviation-1) > 0.04 { // five standard errors of a normal's
			t.Errorf("%s: standard deviation %g, want %g", tt.name, got, deviation)
		}
		if bound > 0 && (largest > bound*(1+1e-6) || largest < 0.97*bound) {
			t.Errorf("%s: largest value %g, bound %g", tt.name, largest, bound)
		}
	}
	if _, err := nn.Values([]float32{1, 2})([]int{3}, nil); err == nil {
		t.Error("two values for three elements are accepted")
	}
}
