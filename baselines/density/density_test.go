package density

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
)

func close(a, b, tol float64) bool { return math.Abs(a-b) <= tol*max(1, math.Abs(b)) }

// The formula written out on a 4×2 set by hand: x = (±1,0), (0,±2), mean 0,
// S = diag(½, 2), m = 1.25, δ = ((¼+4) - 2·1.25·2.5 + 2·1.5625)/2 = 0.5625,
// β = ((1+1+16+16)/4 - 4.25)/(2·4) = 0.53125, ρ = 0.944….
func TestGaussianByHand(t *testing.T) {
	x := []float32{1, 0, -1, 0, 0, 2, 0, -2}
	for i := range x {
		x[i] += float32(3 + i%2) // the mean is taken out
	}
	g, err := FitGaussian(x, 2)
	if err != nil {
		t.Fatal(err)
	}
	rho := 0.53125 / 0.5625
	if !close(g.Shrinkage, rho, 1e-12) || !close(g.Mean[0], 3, 1e-12) || !close(g.Mean[1], 4, 1e-12) {
		t.Errorf("shrinkage %g, mean %v; want %g and 3, 4", g.Shrinkage, g.Mean, rho)
	}
	a, b := (1-rho)*0.5+rho*1.25, (1-rho)*2+rho*1.25
	if !close(g.Cov.At(0, 0), a, 1e-12) || !close(g.Cov.At(1, 1), b, 1e-12) || g.Cov.At(0, 1) != 0 {
		t.Errorf("covariance %v, want diag(%g, %g)", mat.Formatted(g.Cov), a, b)
	}
	if got, want := g.Distance([]float32{5, 5}), math.Sqrt(4/a+1/b); !close(got, want, 1e-12) {
		t.Errorf("distance %g, want %g", got, want)
	}
}

// The whitening matrix reproduces the distance, also with more features than
// images, where only shrinkage keeps the covariance regular.
func TestWhiten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n, d = 20, 30
	x := make([]float32, n*d)
	for i := range x {
		x[i] = float32(r.NormFloat64() * float64(1+i%d))
	}
	g, err := FitGaussian(x, d)
	if err != nil {
		t.Fatal(err)
	}
	w := g.Whitening()
	var inverse mat.Dense
	if err := inverse.Inverse(g.Cov); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		f := make([]float32, d)
		v := mat.NewVecDense(d, nil)
		for i := range f {
			f[i] = float32(10 * r.NormFloat64())
			v.SetVec(i, float64(f[i])-g.Mean[i])
		}
		want := math.Sqrt(mat.Inner(v, &inverse, v))
		var sum float64
		for j := range d {
			var y float64
			for i := range d {
				y += v.AtVec(i) * float64(w[i*d+j])
			}
			sum += y * y
		}
		if got := g.Distance(f); !close(got, want, 1e-9) || !close(math.Sqrt(sum), want, 1e-5) {
			t.Errorf("distance %g, by whitening %g; want %g", got, math.Sqrt(sum), want)
		}
	}
}

func TestKDE(t *testing.T) {
	x := []float32{0, 0, 2, 0}
	k, err := NewKDE(x, 2, "fixed")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := k.Score([]float32{0, 1}), -math.Log(math.Exp(-0.5)+math.Exp(-2.5)); !close(got, want, 1e-12) {
		t.Errorf("fixed: %g, want %g", got, want)
	}
	// Entries 0, 0, 2, 0 have variance ¾: γ = 10/1.5.
	if k, err = NewKDE(x, 2, "google"); err != nil {
		t.Fatal(err)
	}
	gamma := 10 / 1.5
	want := -math.Log(math.Exp(-gamma)+math.Exp(-5*gamma)) / gamma
	if got := k.Score([]float32{0, 1}); !close(got, want, 1e-12) {
		t.Errorf("google: %g, want %g", got, want)
	}
	// Far away the kernels underflow, the score does not.
	if got := k.Score([]float32{1000, 0}); math.IsInf(got, 0) || !close(got, 998*998, 1e-6) {
		t.Errorf("far away: %g, want about %g", got, 998.0*998)
	}
}

func TestErrors(t *testing.T) {
	nan := float32(math.NaN())
	for _, tt := range []struct {
		x    []float32
		d    int
		want string
	}{
		{[]float32{1, 2, 3}, 2, "not rows"},
		{[]float32{1, 2}, 2, "2 training images or more"},
		{[]float32{1, 1, 1, 1}, 2, "all training features are equal"},
		{[]float32{1, nan, 1, 1}, 2, "not finite"},
	} {
		if _, err := FitGaussian(tt.x, tt.d); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v, want %q", tt.x, err, tt.want)
		}
	}
	if _, err := NewKDE([]float32{1, 2}, 1, "wide"); err == nil || !strings.Contains(err.Error(), "fixed or google") {
		t.Errorf("bandwidth: %v", err)
	}
	if _, err := NewKDE([]float32{1, 1}, 1, "google"); err == nil {
		t.Error("equal features: no error")
	}
}
