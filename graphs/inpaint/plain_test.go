package inpaint

import (
	"fmt"
	"math"
	"slices"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
)

// Expected values in this file come from the specification as plain loops in
// float64, or are worked out by hand where it says so.

// plainRead is a read of one query from the rows of items.
func plainRead(l Lookup, queue bool, x []float64, items [][]float64) (y, w []float64) {
	w = make([]float64, len(items))
	for i, m := range items {
		for j := range x {
			w[i] += x[j] * m[j]
		}
	}
	if queue && l.TopK <= 0 {
		return mix(w, items), w
	}
	sum, top := 0.0, slices.Max(w)
	for i := range w {
		w[i] = math.Exp(w[i] - top)
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	if l.TopK > 0 {
		sorted := slices.Sorted(slices.Values(w))
		least := sorted[len(w)-l.TopK]
		kept := 0.0
		for i := range w {
			if w[i] < least || w[i] == least && l.Rule == "strict" {
				w[i] = 0
			}
			kept += w[i]
		}
		for i := range w {
			w[i] /= max(kept, 1e-12)
		}
	}
	return mix(w, items), w
}

func mix(w []float64, items [][]float64) []float64 {
	y := make([]float64, len(items[0]))
	for i, m := range items {
		for j := range y {
			y[j] += w[i] * m[j]
		}
	}
	return y
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// rows cuts v into rows of n.
func rows(v []float32, n int) [][]float64 {
	var out [][]float64
	for r := range slices.Chunk(v, n) {
		out = append(out, widen(r))
	}
	return out
}

func TestLookupRules(t *testing.T) {
	// With the identity as items, logits are the query itself: by hand.
	logits := []float32{2, 1, 0.5, 0, -1, -2}
	identity := make([]float32, 36)
	for i := range 6 {
		identity[i*7] = 1
	}
	for _, tt := range []struct {
		k    int
		rule string
		want []float64
	}{
		{1, "strict", []float64{0, 0, 0, 0, 0, 0}},
		{2, "strict", []float64{1, 0, 0, 0, 0, 0}},
		{3, "strict", []float64{0.731059, 0.268941, 0, 0, 0, 0}},
		{5, "strict", []float64{0.579258, 0.213097, 0.12925, 0.078394, 0, 0}},
		{1, "inclusive", []float64{1, 0, 0, 0, 0, 0}},
		{2, "inclusive", []float64{0.731059, 0.268941, 0, 0, 0, 0}},
		{4, "inclusive", []float64{0.579258, 0.213097, 0.12925, 0.078394, 0, 0}},
	} {
		got := nntest.Values(t, func(s *nn.Scope) []tf.Output {
			l := Lookup{TopK: tt.k, Rule: tt.rule}
			y, w := l.Read(s, nn.Consts(s, logits, 1, 1, 6), nn.Consts(s, identity, 1, 6, 6), false)
			return []tf.Output{w, y}
		})
		nntest.Close(t, fmt.Sprintf("weights of top %d, %s", tt.k, tt.rule), got[0], tt.want, 2e-6)
		nntest.Close(t, fmt.Sprintf("read of top %d, %s", tt.k, tt.rule), got[1], tt.want, 2e-6)
	}

	// The items that tie with the k-th are dropped with it, and a row where
	// nothing is left is zero, not NaN.
	got := nntest.Value(t, func(s *nn.Scope) tf.Output {
		_, w := Lookup{TopK: 3, Rule: "strict"}.Read(s, nn.Consts(s, make([]float32, 6), 1, 1, 6), nn.Consts(s, identity, 1, 6, 6), false)
		return w
	})
	nntest.Close(t, "weights where all tie", got, make([]float64, 6), 0)
	got = nntest.Value(t, func(s *nn.Scope) tf.Output {
		y, _ := Lookup{Lambda: 9, Rule: "strict"}.Read(s, nn.Consts(s, logits, 1, 1, 6), nn.Consts(s, identity, 1, 6, 6), false)
		return y
	})
	nntest.Close(t, "read where nothing is above λ", got, make([]float64, 6), 0)
}

// Gradients pass as if nothing had been shrunk: those of the same weighted sum
// with a softmax whose values are replaced.
func TestLookupGradient(t *testing.T) {
	const n, items, c = 3, 7, 4
	x, m, up := nntest.Draw(1, n*c), nntest.Draw(2, items*c), nntest.Draw(3, n*c)
	for _, l := range []Lookup{{TopK: 3, Rule: "inclusive"}, {TopK: 3, Rule: "strict"}, {TopK: 1, Rule: "strict"}} {
		s := nn.NewScope(1)
		query := s.Variable("x", nn.Values(x), 1, n, c)
		y, _ := l.Read(s, query, nn.Consts(s, m, 1, items, c), false)
		g := nn.Gradients(s, nn.SumAll(s, nn.Mul(s, y, nn.Consts(s, up, 1, n, c))), []tf.Output{query})
		got := values(t, start(t, s), g...)[0]
		var want []float64
		for i, row := range rows(x, c) {
			_, soft := plainRead(Lookup{}, false, row, rows(m, c))
			u := widen(up[i*c : (i+1)*c])
			dot := make([]float64, items) // of the loss by the weights
			mean := 0.0
			for k, item := range rows(m, c) {
				for j := range u {
					dot[k] += u[j] * item[j]
				}
				mean += soft[k] * dot[k]
			}
			gradient := make([]float64, c)
			for k, item := range rows(m, c) {
				for j := range gradient {
					gradient[j] += soft[k] * (dot[k] - mean) * item[j]
				}
			}
			want = append(want, gradient...)
		}
		nntest.Close(t, fmt.Sprintf("gradient of %+v", l), got, want, 1e-5)
	}
}

func TestMemoryIndexing(t *testing.T) {
	const groups, images, per, c, items = 4, 3, 2, 5, 6
	const n = images * per
	x := nntest.Draw(1, groups*n*c)
	vector := func(g, i int) []float64 { return widen(x[(g*n+i)*c : (g*n+i+1)*c]) }
	for _, queue := range []bool{false, true} {
		for _, k := range []int{0, 4} {
			for _, indexing := range []string{"per_tile", "shared", "global"} {
				name := fmt.Sprintf("%s, queue %v, top %d", indexing, queue, k)
				l := Lookup{TopK: k, Rule: "inclusive"}
				s := nn.NewScope(3)
				y, _, q := memory{l, items, indexing, queue}.recall(s, nn.Consts(s, x, groups, n, c), per)
				if (q != nil) != queue {
					t.Errorf("%s: queue is %v", name, q)
				}
				v := s.Lookup("items")
				initial, shape, err := v.Initial()
				if err != nil {
					t.Fatal(err)
				}
				length := shape[2]
				if want := map[string][]int{"per_tile": {groups, items, c}, "shared": {1, items, c}, "global": {1, items, groups * per * c}}[indexing]; !slices.Equal(shape, want) {
					t.Errorf("%s: items of shape %v, want %v", name, shape, want)
				}
				all := rows(initial, length)
				bound := 1 / math.Sqrt(float64(length))
				if low, high := slices.Min(initial), slices.Max(initial); float64(low) < -bound || float64(high) > bound || float64(high) < bound/2 {
					t.Errorf("%s: items start in [%g,%g], want U(±%g)", name, low, high, bound)
				}
				want := make([]float64, 0, len(x))
				for g := range groups {
					for i := range n {
						switch indexing {
						case "per_tile":
							y, _ := plainRead(l, queue, vector(g, i), all[g*items:(g+1)*items])
							want = append(want, y...)
						case "shared":
							y, _ := plainRead(l, queue, vector(g, i), all)
							want = append(want, y...)
						case "global":
							var whole []float64 // all vectors of the image
							for h := range groups {
								for j := range per {
									whole = append(whole, vector(h, i/per*per+j)...)
								}
							}
							y, _ := plainRead(l, queue, whole, all)
							at := (g*per + i%per) * c
							want = append(want, y[at:at+c]...)
						}
					}
				}
				nntest.Close(t, name, values(t, start(t, s), y)[0], want, 1e-5)
			}
		}
	}
}

func TestRing(t *testing.T) {
	for _, tt := range []struct{ length, n, at int }{{7, 3, 0}, {7, 3, 5}, {7, 7, 2}, {4, 6, 3}, {3, 10, 1}, {5, 1, 4}} {
		old, x := nntest.Draw(1, tt.length*2), nntest.Draw(2, tt.n*2)
		want := widen(old)
		for i := range tt.n { // one after another
			slot := (tt.at + i) % tt.length
			copy(want[slot*2:], widen(x[i*2:i*2+2]))
		}
		got := nntest.Value(t, func(s *nn.Scope) tf.Output {
			at := s.IntBuffer("at", nn.Constant(float64(tt.at)))
			return ring(s, nn.Consts(s, old, 1, tt.length, 2), nn.Consts(s, x, 1, tt.n, 2), s.Read(at))
		})
		nntest.Close(t, fmt.Sprint("ring ", tt), got, want, 0)
	}
}

func TestNeighbourhood(t *testing.T) {
	const p, e, images = 3, 4, 2
	g := Generator{Patches: p}
	s := nn.NewScope(5)
	n := nntest.Draw(1, images*p*p*e)
	y := g.neighbourhood(s, nn.Consts(s, n, images, p*p, e))
	kernel, _, err := s.Lookup("kernel").Initial()
	if err != nil {
		t.Fatal(err)
	}
	bias, _, err := s.Lookup("bias").Initial()
	if err != nil {
		t.Fatal(err)
	}
	var want []float64
	for b := range images {
		for i := range p {
			for j := range p {
				for o := range e {
					sum := float64(bias[o])
					for di := -1; di <= 1; di++ {
						for dj := -1; dj <= 1; dj++ {
							if di == 0 && dj == 0 || i+di < 0 || i+di >= p || j+dj < 0 || j+dj >= p {
								continue
							}
							for c := range e {
								sum += float64(n[((b*p+i+di)*p+j+dj)*e+c]) * float64(kernel[(((di+1)*3+dj+1)*e+c)*e+o])
							}
						}
					}
					want = append(want, max(sum, 0))
				}
			}
		}
	}
	nntest.Close(t, "convolution of neighbours", values(t, start(t, s), y)[0], want, 1e-5)
}

// Padding takes part in attention: at 2×2 tiles it is five of eight, at 1×1 all.
func TestMultiplicity(t *testing.T) {
	for _, tt := range []struct {
		p      int
		beyond []float64 // tokens beyond the border, by hand
	}{
		{1, []float64{8}},
		{2, []float64{5, 5, 5, 5}},
		{4, []float64{5, 3, 3, 5, 3, 0, 0, 3, 3, 0, 0, 3, 5, 3, 3, 5}},
	} {
		got := Generator{Patches: tt.p}.multiplicity()
		for i, want := range tt.beyond {
			row := got[i*(tt.p*tt.p+1) : (i+1)*(tt.p*tt.p+1)]
			neighbours := 0.0
			for _, v := range row[:tt.p*tt.p] {
				neighbours += math.Exp(float64(v))
			}
			if beyond := math.Exp(float64(row[tt.p*tt.p])); math.Abs(beyond-want) > 1e-5 || neighbours != 8-want {
				t.Errorf("%d×%d, tile %d: %g neighbours and %g beyond, want %g beyond", tt.p, tt.p, i, neighbours, beyond, want)
			}
		}
	}
}

func TestTiles(t *testing.T) {
	image := make([]float32, 16)
	for i := range image {
		image[i] = float32(i)
	}
	got := nntest.Values(t, func(s *nn.Scope) []tf.Output {
		tiles := split(s, nn.Consts(s, image, 1, 4, 4, 1), 2)
		return []tf.Output{tiles, merge(s, tiles, 2)}
	})
	nntest.Close(t, "tiles", got[0], []float64{0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15}, 0) // by hand
	nntest.Close(t, "tiles put together", got[1], widen(image), 0)
}

func TestCode(t *testing.T) {
	for p, want := range map[int][]float64{1: {0}, 2: {0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1}} { // by hand
		got := nntest.Value(t, func(s *nn.Scope) tf.Output { return Generator{Patches: p}.code(s, 1) })
		nntest.Close(t, fmt.Sprint("code of ", p), got, want, 0)
	}
	for p, want := range map[int]int{1: 1, 2: 3, 4: 5, 8: 7} {
		if got := (Generator{Patches: p}).codeBits(); got != want {
			t.Errorf("%d×%d tiles: %d bits, want %d", p, p, got, want)
		}
	}
}

func TestHide(t *testing.T) {
	const b, side, p = 32, 8, 4
	ones := make([]float32, b*side*side)
	for i := range ones {
		ones[i] = 1
	}
	got := nntest.Value(t, func(s *nn.Scope) tf.Output { return Hide(s, nn.Consts(s, ones, b, side, side, 1), p, 0.25) })
	hidden := 0
	for i := range b {
		for tile := range p * p {
			sum := float32(0)
			for k := range 4 {
				sum += got[(i*side+tile/p*2+k/2)*side+tile%p*2+k%2]
			}
			switch sum {
			case 0:
				hidden++
			case 4:
			default:
				t.Fatalf("tile %d of image %d is hidden in part", tile, i)
			}
		}
	}
	if share := float64(hidden) / (b * p * p); math.Abs(share-0.25) > 0.08 { // four standard deviations
		t.Errorf("%.3f of the tiles are hidden, want 0.25", share)
	}
}

// In training a shortcut passes by the memory at some positions, the same for
// all channels; in scoring nowhere.
func TestShortcut(t *testing.T) {
	const b, h, c = 64, 4, 3
	ones := make([]float32, b*h*h*c)
	for i := range ones {
		ones[i] = 1
	}
	for _, training := range []bool{true, false} {
		got := nntest.Value(t, func(s *nn.Scope) tf.Output {
			if !training {
				s = s.Inference()
			}
			y := nn.Consts(s, ones, b, h, h, c)
			return Masks(nil).shortcut(s, y, nn.Scale(s, y, 0), 0.9)
		})
		used := 0.0
		for i := 0; i < len(got); i += c {
			if got[i] != got[i+1] || got[i] != got[i+2] || got[i] != 0 && got[i] != 1 {
				t.Fatalf("position %d is %v", i/c, got[i:i+c])
			}
			used += float64(got[i]) / (b * h * h)
		}
		if training && math.Abs(used-0.9) > 0.04 || !training && used != 1 {
			t.Errorf("training %v: the memory is used at %.3f of the positions", training, used)
		}
	}
}

// The released discriminators have these widths.
func TestDiscriminatorWidths(t *testing.T) {
	for _, tt := range []struct {
		widest, side int
		want         []int
		parameters   int64 // 0: not published
	}{
		{256, 128, []int{32, 64, 128, 256}, 1093953},
		{256, 256, []int{32, 64, 128, 256, 256}, 0},
		{128, 128, []int{32, 64, 128, 128}, 0},
		{256, 32, []int{32, 64}, 0},
	} {
		s := nn.NewScope(1)
		Discriminator{Widest: tt.widest}.Build(s, nn.Consts(s, make([]float32, tt.side*tt.side), 1, tt.side, tt.side, 1))
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		var got []int
		for i := range 9 {
			if v := s.Lookup(fmt.Sprint(i, "/kernel")); v != nil {
				got = append(got, v.Shape[3])
			}
		}
		total := int64(0)
		for _, v := range s.Trainable() {
			total += v.Size()
		}
		if !slices.Equal(got, tt.want) || tt.parameters > 0 && total != tt.parameters {
			t.Errorf("%d pixels: widths %v and %d parameters, want %v and %d", tt.side, got, total, tt.want, tt.parameters)
		}
	}
	for side, want := range map[int]int{8: 0, 16: 1, 32: 2, 48: 0, 100: 0, 128: 4, 512: 6} {
		if got := Stages(side); got != want {
			t.Errorf("%d stages at %d pixels, want %d", got, side, want)
		}
	}
}

// Each image is normalised by itself in scoring, and by the batch in training.
func TestDiscriminatorPerSample(t *testing.T) {
	v := nntest.Draw(4, 3*32*32)
	logits := func(from, to int) []float32 {
		return nntest.Value(t, func(s *nn.Scope) tf.Output {
			x := nn.Consts(s, v[from*1024:to*1024], to-from, 32, 32, 1)
			return Discriminator{Widest: 256, PerSample: true}.Build(s.Inference(), x)
		})
	}
	together := logits(0, 3)
	for i := range 3 {
		nntest.Close(t, fmt.Sprint("image ", i, " alone"), logits(i, i+1), widen(together[i:i+1]), 1e-5)
	}
}

// What batch norm makes of a convolution is not changed by taking off the mean
// before it, nor are its running statistics.
func TestConvNorm(t *testing.T) {
	const b, side, in, out = 3, 4, 2, 3
	const n = b * side * side
	v := nntest.Draw(6, n*in)
	for _, noBias := range []bool{false, true} {
		s := nn.NewScope(2)
		y := convNorm(s, nn.Consts(s, v, b, side, side, in), nn.Conv{Out: out, Kernel: 1, NoBias: noBias}, nn.BN{})
		kernel, _, err := s.Lookup("kernel").Initial()
		if err != nil {
			t.Fatal(err)
		}
		bias := make([]float32, out)
		if !noBias {
			if bias, _, err = s.Lookup("bias").Initial(); err != nil {
				t.Fatal(err)
			}
		}
		want, mean, variance := make([]float64, n*out), make([]float64, out), make([]float64, out)
		for o := range out {
			for i := range n {
				want[i*out+o] = float64(bias[o])
				for c := range in {
					want[i*out+o] += float64(v[i*in+c]) * float64(kernel[c*out+o])
				}
				mean[o] += want[i*out+o] / n
			}
			for i := range n {
				want[i*out+o] -= mean[o]
				variance[o] += want[i*out+o] * want[i*out+o] / n
			}
			for i := range n {
				want[i*out+o] /= math.Sqrt(variance[o] + 1e-5)
			}
			mean[o], variance[o] = 0.1*mean[o], 0.9+0.1*variance[o]*n/(n-1) // from 0 and 1
		}
		fetch := []tf.Output{y}
		for _, w := range s.Writes() {
			fetch = append(fetch, w.New(s, s.Read(w.Variable)))
		}
		got := values(t, start(t, s), fetch...)
		nntest.Close(t, "output", got[0], want, 1e-5)
		nntest.Close(t, "running mean", got[1], mean, 1e-6)
		nntest.Close(t, "running variance", got[2], variance, 1e-5)
	}
}
