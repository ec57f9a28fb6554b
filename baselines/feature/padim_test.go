package feature

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
	"gonum.org/v1/gonum/mat"

	"thorax/framework"
	"thorax/graphs/backbone"
	"thorax/graphs/nn"
)

func smallPaDiM() *PaDiM {
	m := NewPaDiM()
	m.Backbone, m.Channels = random(backbone.Lite0), 20
	return m
}

// Mean, covariance and distances at every position, by plain loops in float64
// over the same features.
func TestPaDiMEqualsPlainLoop(t *testing.T) {
	m := smallPaDiM()
	m.Sigma, m.ImageScore = 0, framework.Mean
	train, test := noise(30, 32, 1), noise(6, 32, 2)
	f := fit(t, m, 3, 8, 32, images(train))
	x, y := f.eval(t, images(train), m.features), f.eval(t, images(test), m.features)
	const p, d = 64, 20 // an 8×8 grid
	_, maps := f.score(t, images(test))

	mean := make([]float64, p*d)
	for _, row := range x {
		for i, v := range row {
			mean[i] += float64(v) / float64(len(x))
		}
	}
	near(t, "mean", f.values(t, "mean"), mean, 1e-6)
	want := make([][]float64, len(y)) // distances [p] of each image
	for i := range p {
		cov := mat.NewDense(d, d, nil)
		for _, row := range x {
			for a := range d {
				for b := range d {
					v := (float64(row[i*d+a]) - mean[i*d+a]) * (float64(row[i*d+b]) - mean[i*d+b])
					cov.Set(a, b, cov.At(a, b)+v/float64(len(x)-1))
				}
			}
		}
		for a := range d {
			cov.Set(a, a, cov.At(a, a)+0.01)
		}
		var inverse mat.Dense
		if err := inverse.Inverse(cov); err != nil {
			t.Fatal(err)
		}
		for k, row := range y {
			v := mat.NewVecDense(d, nil)
			for a := range d {
				v.SetVec(a, float64(row[i*d+a])-mean[i*d+a])
			}
			want[k] = append(want[k], math.Sqrt(mat.Inner(v, &inverse, v)))
		}
	}
	for k := range y {
		near(t, "map", maps[k], bilinear(want[k], 8, 32), 1e-3)
	}
}

// bilinear resizes a square map, pixel centres at half integers.
func bilinear(v []float64, n, size int) []float64 {
	at := func(i int) (int, int, float64) {
		c := (float64(i)+0.5)*float64(n)/float64(size) - 0.5
		c = min(max(c, 0), float64(n-1))
		low := int(c)
		return low, min(low+1, n-1), c - float64(low)
	}
	out := make([]float64, 0, size*size)
	for i := range size {
		r0, r1, fr := at(i)
		for j := range size {
			c0, c1, fc := at(j)
			top := v[r0*n+c0]*(1-fc) + v[r0*n+c1]*fc
			bottom := v[r1*n+c0]*(1-fc) + v[r1*n+c1]*fc
			out = append(out, top*(1-fr)+bottom*fr)
		}
	}
	return out
}

// The moments of one pass over unequal batches far from zero, and in several
// chunks of positions, are those of two passes in float64.
func TestScatter(t *testing.T) {
	const p, d, n = 3, 5, 37
	c, err := newScatter(p, d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	x := clusters(n, p*d, 4)
	for i := range x {
		x[i] += 1000
	}
	for first := 0; first < n; {
		count := min(1+first%7, n-first)
		if err := c.add(x[first*p*d:][:count*p*d], count); err != nil {
			t.Fatal(err)
		}
		first += count
	}
	err = c.covariances(func(i int, cov *mat.SymDense) error {
		columns := mat.NewDense(n, d, nil)
		for k := range n {
			for j := range d {
				columns.Set(k, j, float64(x[k*p*d+i*d+j]))
			}
		}
		for a := range d {
			for b := range d {
				want := covariance(mat.Col(nil, a, columns), mat.Col(nil, b, columns))
				if got := cov.At(a, b); math.Abs(got-want) > 1e-5*max(1, math.Abs(want)) {
					return errors.New("covariance differs")
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func covariance(x, y []float64) float64 {
	var mx, my, sum float64
	for i := range x {
		mx, my = mx+x[i]/float64(len(x)), my+y[i]/float64(len(y))
	}
	for i := range x {
		sum += (x[i] - mx) * (y[i] - my)
	}
	return sum / float64(len(x)-1)
}

// Channels are drawn without repetition, from the run's seed alone.
func TestPaDiMChannels(t *testing.T) {
	draw := func(seed uint64) []float32 {
		s := nn.NewScope(seed)
		x := op.Placeholder(s.Op("image"), tf.Float, op.PlaceholderShape(tf.MakeShape(1, 32, 32, 1)))
		smallPaDiM().features(s.Inference(), x)
		v, _, err := s.Lookup("channels").Initial()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	a, again, b := draw(1), draw(1), draw(2)
	if !slices.Equal(a, again) || slices.Equal(a, b) {
		t.Errorf("seed 1 draws %v and %v, seed 2 %v", a, again, b)
	}
	slices.Sort(a)
	if a[0] < 0 || a[19] > 175 || len(slices.Compact(a)) != 20 {
		t.Errorf("channels %v, need 20 of 0 to 175", a)
	}
}

func TestPaDiMCheck(t *testing.T) {
	for _, tt := range []struct {
		change func(m *PaDiM)
		want   string
	}{
		{func(m *PaDiM) { m.Taps = []string{"pooled"} }, `taps: "pooled" has no positions`},
		{func(m *PaDiM) { m.Channels = -1 }, "channels"},
		{func(m *PaDiM) { m.Channels = 177 }, "channels: 177, but the taps [reduction_2 reduction_3 reduction_4] have 176"},
		{func(m *PaDiM) { m.Regularizer = 0 }, "regularizer"},
		{func(m *PaDiM) { m.Sigma = math.NaN() }, "sigma"},
		{func(m *PaDiM) { m.ImageScore = "reweight" }, "image_score"},
	} {
		m := smallPaDiM()
		tt.change(m)
		_, err := tryFit(m, 1, 4, 32, images(noise(5, 32, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
	if _, err := tryFit(smallPaDiM(), 1, 4, 32, images(noise(1, 32, 1))); err == nil || !strings.Contains(err.Error(), "2 training images") {
		t.Errorf("one image: %v", err)
	}
}
