package feature

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// coreset picks m of the n vectors z [n,d] greedily, each the farthest from
// those picked before (k-center): the "approximate greedy" selection of
// amazon-science/patchcore-inspection, whose first distances are the mean
// distances to ten random vectors that are not picked themselves. It returns
// indices in the order of picking. z is centred in place.
//
// Picking is lazy. A distance only shrinks as vectors are picked, so an old one
// is an upper bound. A round brings the largest bounds up to date, all at once
// as one product of matrices, and picks among the largest of those for as long
// as their maximum is not below every other bound. The selection is that of the
// plain loop, which computes all n distances after each pick.
func coreset(z []float32, d, m int, rng *rand.Rand) ([]int, error) {
	c := newPicker(z, d, rng)
	if c.n < m || m < 1 {
		return nil, errors.New("coreset: no patches")
	}
	for _, b := range c.bound {
		if math.IsNaN(float64(b)) || math.IsInf(float64(b), 0) {
			return nil, errors.New("coreset: features are not finite")
		}
	}
	refresher, err := newRefresher(d)
	if err != nil {
		return nil, err
	}
	defer refresher.session.Close()
	for len(c.picked) < m {
		fresh, cut := largest(c.bound, nil, refreshed)
		if err := refresher.refresh(c, fresh); err != nil {
			return nil, err
		}
		working, inner := largest(c.bound, fresh, worked)
		c.pick(working, max(cut, inner), m)
	}
	return c.picked, nil
}

// A round refreshes and works on so many vectors.
const (
	refreshed = 1 << 15
	worked    = 1 << 12
)

// A picker is the state of a selection. Distances are squared.
type picker struct {
	z      []float32 // [n,d], centred
	n, d   int
	square []float32 // [n], ‖z‖²
	bound  []float32 // [n], at least the squared distance to the nearest picked; -1 once picked
	seen   []int32   // [n], how many of the picked the bound knows
	picked []int
}

func newPicker(z []float32, d int, rng *rand.Rand) *picker {
	n := len(z) / d
	c := &picker{z: z, n: n, d: d, square: make([]float32, n), bound: make([]float32, n), seen: make([]int32, n)}
	mean := make([]float64, d)
	for i := range n {
		for j, v := range c.row(i) {
			mean[j] += float64(v)
		}
	}
	for i := range n {
		row := c.row(i)
		for j := range row {
			row[j] -= float32(mean[j] / float64(n))
		}
		c.square[i] = blas32.Dot(vector(row), vector(row))
	}
	starts := min(10, n)
	for _, start := range distinct(n, starts, rng) {
		c.distances(z, c.square, start, func(i int, square float32) {
			c.bound[i] += float32(math.Sqrt(float64(square))) / float32(starts)
		})
	}
	for i, b := range c.bound {
		c.bound[i] = b * b
	}
	return c
}

func (c *picker) row(i int) []float32 { return c.z[i*c.d:][:c.d] }

func vector(v []float32) blas32.Vector { return blas32.Vector{N: len(v), Inc: 1, Data: v} }

// distinct draws k of 0…n-1.
func distinct(n, k int, rng *rand.Rand) []int {
	var out []int
	for len(out) < k {
		if i := rng.IntN(n); !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out
}

// distances calls each with the squared distance of every row to vector i.
func (c *picker) distances(rows, squares []float32, i int, each func(row int, square float32)) {
	n := len(squares)
	product := make([]float32, n)
	a := blas32.General{Rows: n, Cols: c.d, Stride: c.d, Data: rows}
	blas32.Gemv(blas.NoTrans, -2, a, vector(c.row(i)), 0, vector(product))
	for j, p := range product {
		each(j, max(0, squares[j]+c.square[i]+p))
	}
}

// largest returns the k indices of the largest values, among the given ones or
// all, ascending, and the largest value left out: -1 if none is.
func largest(v []float32, among []int32, k int) (indices []int32, cut float32) {
	n := len(v)
	at := func(i int) int { return i }
	if among != nil {
		n, at = len(among), func(i int) int { return int(among[i]) }
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = v[at(i)]
	}
	if k >= n {
		for i := range n {
			indices = append(indices, int32(at(i)))
		}
		return indices, -1
	}
	limit := kthLargest(values, k)
	above := 0
	for i := range n {
		if v[at(i)] > limit {
			above++
		}
	}
	indices = make([]int32, 0, k)
	for i := range n {
		switch x := v[at(i)]; {
		case x > limit:
			indices = append(indices, int32(at(i)))
		case x == limit && above < k:
			above++
			indices = append(indices, int32(at(i)))
		}
	}
	return indices, limit
}

// kthLargest reorders v (Hoare's quickselect) and returns its k-th largest.
func kthLargest(v []float32, k int) float32 {
	low, high := 0, len(v)-1
	k--
	for low < high {
		middle := v[(low+high)/2]
		i, j := low, high
		for i <= j {
			for v[i] > middle {
				i++
			}
			for v[j] < middle {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k <= j:
			high = j
		case k >= i:
			low = i
		default:
			return v[k]
		}
	}
	return v[k]
}

// pick picks among vectors with exact bounds while their largest is not below
// cut, until m are picked.
func (c *picker) pick(working []int32, cut float32, m int) {
	rows := make([]float32, 0, len(working)*c.d)
	squares, bounds := make([]float32, len(working)), make([]float32, len(working))
	for i, w := range working {
		rows = append(rows, c.row(int(w))...)
		squares[i], bounds[i] = c.square[w], c.bound[w]
	}
	for len(c.picked) < m {
		best := 0
		for i, b := range bounds {
			if b > bounds[best] {
				best = i
			}
		}
		if bounds[best] < max(cut, 0) {
			break
		}
		c.distances(rows, squares, int(working[best]), func(i int, square float32) {
			bounds[i] = min(bounds[i], square)
		})
		bounds[best] = -1
		c.picked = append(c.picked, int(working[best]))
	}
	for i, w := range working {
		c.bound[w], c.seen[w] = bounds[i], int32(len(c.picked))
	}
}

// A refresher computes min over y of ‖y‖²-2z·y by TensorFlow.
type refresher struct {
	session          *session.Session
	z, y, squares, o tf.Output
}

func newRefresher(d int) (*refresher, error) {
	s := nn.NewScope(0)
	placeholder := func(name string, dims ...int64) tf.Output {
		return op.Placeholder(s.Op(name), tf.Float, op.PlaceholderShape(tf.MakeShape(dims...)))
	}
	r := &refresher{z: placeholder("z", -1, int64(d)), y: placeholder("y", int64(d), -1), squares: placeholder("squares", -1)}
	r.o = nn.Min(s, op.BiasAdd(s.Op("add"), op.MatMul(s.Op("product"), r.z, r.y), r.squares), 1)
	var err error
	r.session, err = session.New(s, fitOptions)
	return r, err
}

// refresh makes the bounds of the given vectors exact.
func (r *refresher) refresh(c *picker, indices []int32) error {
	const step = 4096
	stale := make([]int32, 0, len(indices))
	for _, i := range indices {
		if c.bound[i] >= 0 && int(c.seen[i]) < len(c.picked) {
			stale = append(stale, i)
		}
	}
	// Vectors of one product know about equally many; knowing one twice is no harm.
	slices.SortStableFunc(stale, func(a, b int32) int { return int(c.seen[a] - c.seen[b]) })
	for chunk := range slices.Chunk(stale, step) {
		picked := c.picked[c.seen[chunk[0]]:]
		k := len(picked)
		y, squares := make([]float32, c.d*k), make([]float32, k)
		for i, p := range picked {
			squares[i] = c.square[p]
			for j, v := range c.row(p) {
				y[j*k+i] = -2 * v
			}
		}
		z := make([]float32, 0, len(chunk)*c.d)
		for _, i := range chunk {
			z = append(z, c.row(int(i))...)
		}
		out, err := r.session.Run(map[tf.Output]*tf.Tensor{
			r.z: session.Floats([]int{len(chunk), c.d}, z), r.y: session.Floats([]int{c.d, k}, y), r.squares: session.Floats([]int{k}, squares),
		}, []tf.Output{r.o})
		if err != nil {
			return err
		}
		for i, v := range session.Values(out[0]) {
			p := chunk[i]
			c.bound[p] = min(c.bound[p], max(0, c.square[p]+v))
			c.seen[p] = int32(len(c.picked))
		}
	}
	return nil
}
