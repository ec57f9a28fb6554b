package salient

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// evaluate runs the tensors that build returns, as float32.
func evaluate(t *testing.T, build func(s *nn.Scope) []tf.Output) [][]float32 {
	t.Helper()
	s := nn.NewScope(1)
	var fetch []tf.Output
	for _, y := range build(s) {
		fetch = append(fetch, nn.Cast(s, y, tf.Float))
	}
	x, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	out, err := x.Run(nil, fetch)
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]float32, len(out))
	for i, o := range out {
		values[i] = session.Values(o)
	}
	return values
}

func same(t *testing.T, what string, got []float32, want []float64, limit float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d values, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= limit) {
			t.Errorf("%s[%d] is %g, want %g", what, i, got[i], w)
			return
		}
	}
}

func ints(v ...int) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

var corrected = Readings{Frozen: "eval", Candidates: "image"}.Under(Corrected)

// Values of another implementation of the definition, in float64.
func TestSaliencyOfWaves(t *testing.T) {
	const hw, c = 16, 12
	z := make([]float32, hw*c)
	for p := range hw {
		for k := range c {
			z[p*c+k] = float32(math.Sin(0.7*float64(k)+0.13*float64(p*p)) + 0.1*math.Cos(1.1*float64(k*p)))
		}
	}
	got := evaluate(t, func(s *nn.Scope) []tf.Output {
		x := nn.Consts(s, z, 1, hw, c)
		e := Eigenvectors(s, x)
		return []tf.Output{corrected.Variance(s, x), corrected.Entropy(s, x, e), Order(s, corrected.Saliency(s, x, e)),
			corrected.Entropy(s, x, nn.Cast(s, nn.Neg(s, e), tf.Float))}
	})
	entropy := []float64{0.0127, 0.1164, 0.2413, 0.3208, 0.9028, 0.4701, 0.9181, 0.1240, 1, 0.1573, 0.2415, 0.3679, 0.0757, 0.3195, 0.2413, 0}
	same(t, "V", got[0], []float64{0.6134, 0.5513, 0.9326, 0.9969, 0.5551, 1, 0.9199, 0.5735, 0.6187, 0.9426, 0.7788, 0, 0.8622, 0.6266, 0.9047, 0.9523}, 6e-5)
	same(t, "H", got[1], entropy, 6e-5)
	same(t, "order", got[2], ints(6, 5, 3, 8, 2, 14, 9, 4, 15, 12, 10, 13, 7, 0, 1, 11), 0)
	same(t, "H of eigenvectors of the other sign", got[3], entropy, 6e-5)
}

// jacobi returns the eigenvalues of a symmetric matrix.
func jacobi(a [][]float64) []float64 {
	n := len(a)
	for range 60 {
		for p := range n {
			for q := p + 1; q < n; q++ {
				if a[p][q] == 0 {
					continue
				}
				θ := (a[q][q] - a[p][p]) / (2 * a[p][q])
				τ := math.Copysign(1, θ) / (math.Abs(θ) + math.Sqrt(θ*θ+1))
				c := 1 / math.Sqrt(τ*τ+1)
				s := τ * c
				for k := range n {
					a[k][p], a[k][q] = c*a[k][p]-s*a[k][q], s*a[k][p]+c*a[k][q]
				}
				for k := range n {
					a[p][k], a[q][k] = c*a[p][k]-s*a[q][k], s*a[p][k]+c*a[q][k]
				}
			}
		}
	}
	λ := make([]float64, n)
	for i := range λ {
		λ[i] = a[i][i]
	}
	return λ
}

func normalised(v []float64, low, high, ε float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = (x - low) / (high - low + ε)
	}
	return out
}

// plainEntropy is H of one image, f [HW][C], with matrix-shaped eigenvectors e
// [8·C], by loops.
func plainEntropy(r Readings, f [][]float64, e []float64) []float64 {
	n, c := len(f), len(f[0])
	if r.PCAProject != Faithful {
		mean := make([]float64, c)
		for _, row := range f {
			for k, x := range row {
				mean[k] += x / float64(n)
			}
		}
		centred := make([][]float64, n)
		for i, row := range f {
			for k, x := range row {
				centred[i] = append(centred[i], x-mean[k])
			}
		}
		f = centred
	}
	flat := make([]float64, n*components) // [HW,8]
	for i := range n {
		for j := range components {
			for k := range c {
				w := e[j*c+k]
				if r.PCABasis == Faithful {
					w = e[k*components+j]
				}
				flat[i*components+j] += f[i][k] * w
			}
		}
	}
	u := func(d, i int) float64 { // U [8,HW]
		if r.PCAView == Faithful {
			return flat[d*n+i]
		}
		return flat[i*components+d]
	}
	terms := func(without int) (entropy, square float64) {
		g := make([][]float64, components)
		for a := range g {
			g[a] = make([]float64, components)
			for b := range g[a] {
				for i := range n {
					if i != without {
						g[a][b] += u(a, i) * u(b, i) / float64(n)
					}
				}
			}
		}
		λ := jacobi(g)
		sum := 0.0
		for i := range λ {
			λ[i] = max(λ[i], 0)
			sum += λ[i]
		}
		for _, l := range λ {
			entropy -= l / sum * math.Log(l/sum+1e-9)
			square += 0.1 * l / sum * l / sum
		}
		return entropy, square
	}
	entropy, square := terms(-1)
	h := make([]float64, n)
	for i := range h {
		e, q := terms(i)
		if r.EntropyReg == Faithful {
			q = square
		}
		h[i] = math.Abs(entropy + square - e - q)
	}
	return normalised(h, slices.Min(h), slices.Max(h), 1e-8)
}

// Each reading alone, and all of them, against loops.
func TestSaliencyReadings(t *testing.T) {
	const b, hw, c = 2, 16, 10
	rng := rand.New(rand.NewPCG(1, 0))
	z, e := make([]float32, b*hw*c), make([]float32, b*components*c)
	for i := range z {
		z[i] = float32(rng.NormFloat64() + 0.3)
	}
	for i := range e {
		e[i] = float32(rng.NormFloat64())
	}
	readings := map[string]Readings{"corrected": corrected, "faithful": Readings{Frozen: "eval", Candidates: "image"}.Under(Faithful)}
	for _, k := range []string{"pca_basis", "pca_project", "pca_view", "entropy_reg", "var_norm"} {
		r := corrected
		for _, f := range r.readings() {
			if f.key == k {
				*f.value = Faithful
			}
		}
		readings[k] = r
	}
	var names []string
	got := evaluate(t, func(s *nn.Scope) []tf.Output {
		var out []tf.Output
		for name, r := range readings {
			names = append(names, name)
			x := nn.Consts(s, z, b, hw, c)
			out = append(out, r.Variance(s, x), r.Entropy(s, x, nn.Consts(s, e, b, components, c)))
		}
		return out
	})
	for i, name := range names {
		r := readings[name]
		var variance, entropy []float64
		for j := range b {
			f := make([][]float64, hw)
			for p := range f {
				mean, v := 0.0, 0.0
				for _, x := range z[(j*hw+p)*c:][:c] {
					f[p] = append(f[p], float64(x))
					mean += float64(x) / c
				}
				for _, x := range f[p] {
					v += (x - mean) * (x - mean) / (c - 1)
				}
				variance = append(variance, v)
			}
			vectors := make([]float64, components*c)
			for k := range vectors {
				vectors[k] = float64(e[j*components*c+k])
			}
			entropy = append(entropy, plainEntropy(r, f, vectors)...)
		}
		if r.VarNorm == Faithful {
			variance = normalised(variance, slices.Min(variance), slices.Max(variance), 0)
		} else {
			var all []float64
			for j := range b {
				v := variance[j*hw:][:hw]
				all = append(all, normalised(v, slices.Min(v), slices.Max(v), 1e-8)...)
			}
			variance = all
		}
		same(t, name+": V", got[2*i], variance, 1e-5)
		same(t, name+": H", got[2*i+1], entropy, 1e-5)
	}
}

// Both of the matrices that share a spectrum give the same entropy.
func TestEigenvectors(t *testing.T) {
	for _, size := range [][2]int{{16, 12}, {12, 16}} {
		hw, c := size[0], size[1]
		rng := rand.New(rand.NewPCG(2, 0))
		z := make([]float32, hw*c)
		for i := range z {
			z[i] = float32(rng.NormFloat64())
		}
		got := evaluate(t, func(s *nn.Scope) []tf.Output {
			x := nn.Consts(s, z, 1, hw, c)
			e := Eigenvectors(s, x)
			f := centred(s, nn.Cast(s, x, tf.Double))
			projected := nn.BatchMatMul(s, f, e, false, true)
			return []tf.Output{nn.BatchMatMul(s, e, e, false, true), nn.BatchMatMul(s, projected, projected, true, false)}
		})
		last := math.Inf(1)
		for i := range components {
			for j := range components {
				want := 0.0
				if i == j {
					want = 1
					λ := float64(got[1][i*components+i])
					if λ > last {
						t.Errorf("%d×%d: eigenvalue %d is %g, larger than the one before", hw, c, i, λ)
					}
					last = λ
				} else if off := math.Abs(float64(got[1][i*components+j])); off > 1e-4 {
					t.Errorf("%d×%d: the covariance of components %d and %d is %g, want 0", hw, c, i, j, off)
				}
				if d := math.Abs(float64(got[0][i*components+j]) - want); d > 1e-6 {
					t.Errorf("%d×%d: the product of eigenvectors %d and %d is off by %g", hw, c, i, j, d)
				}
			}
		}
	}
}

// A blank slice has features that are all equal: everything stays finite.
func TestBlank(t *testing.T) {
	const hw, c = 16, 12
	got := evaluate(t, func(s *nn.Scope) []tf.Output {
		x := nn.Consts(s, slices.Repeat([]float32{0.3}, hw*c), 1, hw, c)
		e := Eigenvectors(s, x)
		order := Order(s, corrected.Saliency(s, x, e))
		y := nn.Consts(s, make([]float32, 32*32), 1, 32, 32, 1)
		w := corrected.Reliability(s, y, y, true)
		return []tf.Output{corrected.Variance(s, x), corrected.Entropy(s, x, e), order, w,
			corrected.Weights(s, w, nn.Consts(s, slices.Repeat([]float32{1}, hw), 1, hw))}
	})
	for i, name := range []string{"V", "H", "order", "reliability", "weights"} {
		for _, v := range got[i] {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Errorf("%s of a blank slice: %v", name, got[i])
				break
			}
		}
	}
	want := make([]int, hw)
	for i := range want {
		want[i] = i
	}
	same(t, "order of ties", got[2], ints(want...), 0)
}

// Values of another implementation of the definition, in float64.
func TestReliabilityOfWaves(t *testing.T) {
	const side = 16
	x, y := make([]float32, side*side), make([]float32, side*side)
	for i := range side {
		for j := range side {
			x[i*side+j] = float32(0.5 + 0.5*math.Sin(0.3*float64(i)+0.5*float64(j)))
			y[i*side+j] = float32(0.5 + 0.4*math.Cos(0.02*float64(i*j)))
		}
	}
	signed := corrected
	signed.ReliabilityMean = Faithful
	got := evaluate(t, func(s *nn.Scope) []tf.Output {
		a, b := nn.Consts(s, x, 1, side, side, 1), nn.Consts(s, y, 1, side, side, 1)
		variance, mean := corrected.Residual(s, b, a)
		_, mean2 := signed.Residual(s, b, a)
		mask := nn.Consts(s, []float32{0, 1, 0, 1}, 1, 4)
		w := signed.Reliability(s, b, a, true)
		return []tf.Output{variance, mean, mean2, corrected.Reliability(s, b, a, true), w, corrected.Reliability(s, b, a, false),
			signed.Weights(s, w, mask), signed.Weights(s, w, nn.Consts(s, []float32{0, 0, 0, 1}, 1, 4))}
	})
	variance := []float64{0.106336, 0.194699, 0.188769, 0.090778}
	same(t, "variance", got[0], variance, 1e-6)
	same(t, "mean of the absolute residual", got[1], []float64{0.340678, 0.369544, 0.517505, 0.352534}, 1e-6)
	same(t, "mean residual", got[2], []float64{0.316401, 0.149901, 0.396604, -0.298265}, 1e-6)
	same(t, "corrected", got[3], []float64{0.772809, 1.098375, 1.263210, 0.736583}, 2e-6)
	same(t, "faithful", got[4], []float64{0.869501, 0.884961, 1.271741, -0.193587}, 2e-6)
	length := 0.0
	for _, v := range variance {
		length += v * v
	}
	for i := range variance {
		variance[i] /= math.Sqrt(length)
	}
	same(t, "variance only", got[5], variance, 1e-5)
	same(t, "weights", got[6], []float64{0, 1, 0, -0.193587 / 0.884961}, 1e-5)
	same(t, "weights whose largest is negative", got[7], []float64{0, 0, 0, 1}, 1e-6) // the sign flips
}

// Query vectors by index arithmetic on the channel-first memory.
func TestQuery(t *testing.T) {
	const b, hw, c = 2, 36, 6
	z := make([]float32, b*hw*c)
	for i := range z {
		z[i] = float32(i)
	}
	order := make([]int32, 0, b*hw)
	rng := rand.New(rand.NewPCG(3, 0))
	for range b {
		for _, p := range rng.Perm(hw) {
			order = append(order, int32(p))
		}
	}
	for _, tt := range []struct {
		rows, offset, n Reading
	}{
		{Corrected, Corrected, Corrected}, {Faithful, Corrected, Corrected}, {Corrected, Faithful, Corrected},
		{Faithful, Faithful, Faithful}, {Corrected, Corrected, Faithful},
	} {
		r := corrected
		r.SalientRows, r.BatchOffset, r.NQuery = tt.rows, tt.offset, tt.n
		n := 3
		if tt.n == Faithful {
			n = 25
		}
		var want []float64
		for i := range b {
			image := i
			if tt.offset == Faithful {
				image = 0
			}
			for _, p := range order[i*hw:][:n] {
				for k := range c {
					at := (image*hw+int(p))*c + k
					if tt.rows == Faithful { // element c·p+k of image's [C,HW]
						flat := c*int(p) + k
						at = (image*hw+flat%hw)*c + flat/hw
					}
					want = append(want, float64(z[at]))
				}
			}
		}
		got := evaluate(t, func(s *nn.Scope) []tf.Output {
			o := op.Const(s.Op("order"), [][]int32{order[:hw], order[hw:]})
			return []tf.Output{r.Query(s, nn.Consts(s, z, b, hw, c), o)}
		})
		same(t, fmt.Sprint(tt), got[0], want, 0)
	}
	s := nn.NewScope(1)
	r := corrected
	r.NQuery = Faithful
	r.Query(s, nn.Consts(s, make([]float32, 16*c), 1, 16, c), op.Const(s.Op("order"), [][]int32{make([]int32, 16)}))
	if s.Err() == nil {
		t.Error("25 queries of 16 positions: want an error")
	}
}

func TestReplace(t *testing.T) {
	const b, hw, c, k, n = 2, 20, 3, 9, 2
	rng := rand.New(rand.NewPCG(4, 0))
	book := make([]float32, k*c)
	for i := range book {
		book[i] = float32(i)
	}
	codes, q := make([][]int64, b), []float32{}
	for i := range b {
		for range hw {
			code := rng.IntN(k)
			codes[i] = append(codes[i], int64(code))
			q = append(q, book[code*c:][:c]...)
		}
	}
	order := [][]int64{{7, 3}, {0, 19}}
	pool := [][]int64{{1, 2, 3, 4, 5, 6}, {codes[1][0], 8, 7, 6, codes[1][19], 0}}
	u := []float32{.1, .9, .3, .8, .2, .4, .9, .1, .2, .3, .8, .7}
	for scope, chosen := range map[string][]int{
		"image": {2, 4, int(codes[1][0]), int(codes[1][19])}, // the two largest draws, and codes that were there before
		"own":   {2, 4, 7, 0},                                // the largest of three draws each, but for the codes they have
	} {
		if scope == "own" {
			codes[0][7], codes[0][3] = 0, 0 // in no pool
			copy(q[7*c:], book[:c])
			copy(q[3*c:], book[:c])
		}
		r := corrected
		r.Candidates = scope
		got := evaluate(t, func(s *nn.Scope) []tf.Output {
			at := op.Const(s.Op("order"), order)
			picked := r.Choose(s, op.Const(s.Op("pool"), pool), op.Const(s.Op("codes"), codes), at, nn.Consts(s, u, b, 6))
			tokens, mask := Replace(s, nn.Consts(s, q, b, hw, c), nn.Consts(s, book, k, c), at, picked)
			return []tf.Output{picked, tokens, mask}
		})
		same(t, scope+": chosen", got[0], ints(chosen...), 0)
		tokens, mask := make([]float64, len(q)), make([]float64, b*hw)
		for i, v := range q {
			tokens[i] = float64(v)
		}
		for i := range b {
			for j, p := range order[i] {
				mask[i*hw+int(p)] = 1
				for d := range c {
					tokens[(i*hw+int(p))*c+d] = float64(book[chosen[i*n+j]*c+d])
				}
			}
		}
		same(t, scope+": tokens", got[1], tokens, 0)
		same(t, scope+": mask", got[2], mask, 0)
	}
}

// The draw is a permutation: over many steps every entry of the pool comes as
// often, and none twice.
func TestChooseUniform(t *testing.T) {
	const b, p, n = 4000, 6, 2
	pool, codes, order := make([][]int64, b), make([][]int64, b), make([][]int64, b)
	for i := range b {
		pool[i], codes[i], order[i] = []int64{0, 1, 2, 3, 4, 5}, make([]int64, 20), []int64{0, 1}
	}
	got := evaluate(t, func(s *nn.Scope) []tf.Output {
		draw := nn.RandomUniform(s.In("draw"), b, p)
		return []tf.Output{corrected.Choose(s, op.Const(s.Op("pool"), pool), op.Const(s.Op("codes"), codes), op.Const(s.Op("order"), order), draw)}
	})
	count := make([]float64, p)
	for i := range b {
		if got[0][2*i] == got[0][2*i+1] {
			t.Fatalf("image %d: entry %g twice", i, got[0][2*i])
		}
		for _, v := range got[0][2*i:][:2] {
			count[int(v)]++
		}
	}
	sort.Float64s(count)
	const want = b * n / p
	if d := 5 * math.Sqrt(want); count[0] < want-d || count[p-1] > want+d {
		t.Errorf("entries were taken %v times, want %d each", count, want)
	}
}

func TestCrossEntropies(t *testing.T) {
	const b, hw = 2, 100
	rng := rand.New(rand.NewPCG(5, 0))
	logits, mask, weights := make([]float32, b*hw*2), make([]float32, b*hw), make([]float32, b*hw)
	for i := range logits {
		logits[i] = float32(3 * rng.NormFloat64())
	}
	for i := range b {
		for _, p := range rng.Perm(hw)[:hw/10] {
			mask[i*hw+p], weights[i*hw+p] = 1, rng.Float32()
		}
	}
	var normal, anomalous, first float64
	for i := range mask {
		a, n := float64(logits[2*i]), float64(logits[2*i+1])
		log := math.Log(math.Exp(a) + math.Exp(n))
		if mask[i] == 1 {
			anomalous += float64(weights[i]) * (log - a)
		} else {
			normal += log - n
		}
		if i%hw == 0 {
			first += log - n
		}
	}
	surplus := corrected
	surplus.NNormal = Faithful
	got := evaluate(t, func(s *nn.Scope) []tf.Output {
		l, m, w := nn.Consts(s, logits, b, hw, 2), nn.Consts(s, mask, b, hw), nn.Consts(s, weights, b, hw)
		n1, a1 := corrected.CrossEntropies(s, l, m, w, 0)
		n2, a2 := surplus.CrossEntropies(s, l, m, w, 0)
		return []tf.Output{n1, a1, n2, a2}
	})
	for i, want := range []float64{normal / (b * 90), anomalous / (b * 10), (normal + first) / (b * 91), anomalous / (b * 10)} {
		same(t, fmt.Sprint("cross-entropy ", i), got[i], []float64{want}, 1e-5)
	}
}

func TestClassifierGradients(t *testing.T) {
	for _, feedForward := range []bool{false, true} {
		nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
			q := s.In("input").Variable("x", nn.Normal(1), 2, 6, 8)
			return Classifier{Layers: 2, Heads: 2, Dropout: 0.1}.Build(s.In("classifier"), q, feedForward)
		}, nntest.Options{Samples: 4})
	}
}

// Dropout is off in inference and changes things in training.
func TestClassifierDropout(t *testing.T) {
	got := evaluate(t, func(s *nn.Scope) []tf.Output {
		rng := rand.New(rand.NewPCG(6, 0))
		x := make([]float32, 2*6*8)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		q := nn.Consts(s, x, 2, 6, 8)
		build := func(s *nn.Scope, rate float64) tf.Output {
			return Classifier{Layers: 1, Heads: 2, Dropout: rate}.Build(s.In("classifier"), q, true)
		}
		return []tf.Output{build(s, 0.5), build(s, 0), build(s.Inference(), 0.5)}
	})
	want := make([]float64, len(got[1]))
	for i, v := range got[1] {
		want[i] = float64(v)
	}
	same(t, "inference", got[2], want, 1e-6)
	if slices.Equal(got[0], got[1]) {
		t.Error("dropout changes nothing in training")
	}
}

// The fixed embedding tells every place from every other, and the distance of
// two depends on nothing but their offset.
func TestSinCos(t *testing.T) {
	const side, e = 6, 16
	v := sinCos(side*side, e)
	at := func(p int) []float32 { return v[p*e : (p+1)*e] }
	square := func(p, q int) (d float64) {
		for i, x := range at(p) {
			d += float64(x-at(q)[i]) * float64(x-at(q)[i])
		}
		return d
	}
	for i, want := range []float64{0, 0, 0, 0, 1, 1, 1, 1} {
		if at(0)[i] != float32(want) || at(0)[e/2+i] != float32(want) {
			t.Errorf("place 0, channel %d: %g and %g, want %g", i, at(0)[i], at(0)[e/2+i], want)
		}
	}
	// Column 3, row 2: the slowest sine is of 3·10000^(-3/4).
	if got, want := float64(at(2*side + 3)[3]), math.Sin(3*math.Pow(10000, -0.75)); math.Abs(got-want) > 1e-7 {
		t.Errorf("sine of column 3 is %g, want %g", got, want)
	}
	for p := range side * side {
		for q := range p {
			if square(p, q) < 0.1 {
				t.Errorf("places %d and %d are %g apart", p, q, square(p, q))
			}
		}
	}
	if a, b := square(0, 2*side+1), square(3*side+2, 5*side+3); math.Abs(a-b) > 1e-5 {
		t.Errorf("one offset, two distances: %g and %g", a, b)
	}
}
