package inpaint

import (
	"fmt"
	"math"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// Lookup is how a query reads from the items of a memory.
type Lookup struct {
	TopK   int     `toml:"top_k"`      // items that may enter a read: 1 to items; 0 or less: all, without shrinkage
	Rule   string  `toml:"top_k_rule"` // strict: the k-th itself is dropped, k-1 items stay, as released; inclusive: k items stay
	Lambda float64 `toml:"lambda"`     // above 0: similarities above it instead of a softmax and its top-k
}

// Check names the first field that is out of range for memories of n items.
func (l Lookup) Check(n int) error {
	switch {
	case l.TopK > n:
		return fmt.Errorf("top_k: %d, need at most the %d items of a memory", l.TopK, n)
	case l.Rule != "strict" && l.Rule != "inclusive":
		return fmt.Errorf("top_k_rule: %q, need strict or inclusive", l.Rule)
	case !(l.Lambda >= 0):
		return fmt.Errorf("lambda: %g, need 0 (off) or more", l.Lambda)
	}
	return nil
}

// Read lets queries x [G,n,C] read from the items m [G,N,C] of their group:
// y = weights·m [G,n,C], weights [G,n,N]. Without shrinkage a queue, unlike a
// trained memory, is weighted by the dot products themselves.
//
// Weights are the softmax of the plain dot products; for the forward pass alone
// all but the top are zero and the rest is scaled to sum 1, while gradients are
// those of the full softmax (straight-through). The papers speak of Gumbel
// shrinkage; there is no noise.
func (l Lookup) Read(s *nn.Scope, x, m tf.Output, queue bool) (y, weights tf.Output) {
	a := nn.BatchMatMul(s, x, m, false, true)
	switch {
	case l.Lambda > 0:
		kept := nn.StopGradient(s, step(s, nn.Shift(s, a, -l.Lambda)))
		weights = normalize(s, nn.Mul(s, a, kept))
	case l.TopK > 0:
		soft := nn.Softmax(s, a)
		weights = nn.Add(s, soft, nn.StopGradient(s, l.shrink(s, soft)))
	case queue:
		weights = a
	default:
		weights = nn.Softmax(s, a)
	}
	return nn.BatchMatMul(s, weights, m, false, false), weights
}

// shrink returns what makes soft [G,n,N] the weights of its top items alone.
func (l Lookup) shrink(s *nn.Scope, soft tf.Output) tf.Output {
	top, _ := op.TopKV2(s.Op("top_k"), soft, op.Const(s.Op("k"), int32(l.TopK)))
	least := nn.Slice(s, top, []int{0, 0, l.TopK - 1}, []int{-1, -1, 1})
	var kept tf.Output
	if l.Rule == "inclusive" {
		kept = nn.Cast(s, nn.GreaterEqual(s, soft, least), tf.Float)
	} else {
		kept = step(s, nn.Sub(s, soft, least))
	}
	return nn.Sub(s, normalize(s, nn.Mul(s, soft, kept)), soft)
}

// step is 1 where d > 0 and 0 elsewhere, smoothed over 1e-12 as the reference
// has it.
func step(s *nn.Scope, d tf.Output) tf.Output {
	return nn.Div(s, nn.ReLU(s, d), nn.Shift(s, nn.Abs(s, d), 1e-12))
}

// normalize divides rows by the sum of their absolute values; a row of zeros
// stays one.
func normalize(s *nn.Scope, x tf.Output) tf.Output {
	return nn.Div(s, x, nn.Maximum(s, nn.SumKeep(s, nn.Abs(s, x), -1), nn.Const(s, 1e-12)))
}

// initial is how the items of length c start.
func initial(c int) nn.Initializer {
	bound := 1 / math.Sqrt(float64(c))
	return nn.Uniform(-bound, bound)
}

// A Queue is a memory of the latest queries: ring buffers that no gradient
// reaches and that only [Queue.Push] changes.
type Queue struct {
	Items   *nn.Variable // [G,N,C]
	Pointer *nn.Variable // the slot that is overwritten next
	queries tf.Output    // [G,n,C], of the forward pass
}

// NewQueue returns ring buffers of n items for the queries x [G,·,C].
func NewQueue(s *nn.Scope, x tf.Output, n int) *Queue {
	c := nn.Channels(s, x)
	return &Queue{
		Items:   s.Buffer("items", initial(c), nn.Dim(s, x, 0), n, c),
		Pointer: s.Counter("pointer"),
		queries: x,
	}
}

// Push records on s that the queries enter the queue, each in the place of the
// oldest item. s is the scope of the update after which they do: the
// generator's, so that steps of the discriminator alone leave no trace.
func (q *Queue) Push(s *nn.Scope) {
	s = s.In("push")
	s.Assign(q.Items, q.queries, func(s *nn.Scope, old tf.Output) tf.Output {
		return ring(s, old, q.queries, s.Read(q.Pointer))
	})
	s.Assign(q.Pointer, q.queries, q.moved)
}

// moved is the slot after those that the queries take from slot at on.
func (q *Queue) moved(s *nn.Scope, at tf.Output) tf.Output {
	end := op.Add(s.Op("end"), at, op.Const(s.Op("rows"), int64(nn.Dim(s, q.queries, 1))))
	return op.FloorMod(s.Op("next"), end, op.Const(s.Op("length"), int64(q.Items.Shape[1])))
}

// ring writes rows x [G,n,C] one after another into old [G,N,C] from slot at
// on, over the end to the start.
func ring(s *nn.Scope, old, x, at tf.Output) tf.Output {
	length, n := nn.Dim(s, old, 1), nn.Dim(s, x, 1)
	c := func(v int64) tf.Output { return op.Const(s.Op("const"), v) }
	slots := make([]int64, length)
	for i := range slots {
		slots[i] = int64(i)
	}
	// The first row that reaches a slot, and how often others do after it.
	first := op.FloorMod(s.Op("first"), op.Sub(s.Op("ahead"), op.Const(s.Op("slots"), slots), at), c(int64(length)))
	rounds := op.FloorDiv(s.Op("rounds"), op.Sub(s.Op("left"), c(int64(n-1)), first), c(int64(length)))
	reached := op.GreaterEqual(s.Op("reached"), rounds, c(0))
	row := op.Add(s.Op("last"), first, op.Mul(s.Op("later"), rounds, c(int64(length))))
	row = op.Maximum(s.Op("row"), row, c(0)) // of slots that are not reached too
	return nn.Where(s, nn.Reshape(s, reached, 1, length, 1), nn.Gather(s, x, row, 1), old)
}

// A memory says who reads from which items.
type memory struct {
	Lookup
	items    int
	indexing string // per_tile, shared or global
	queue    bool
}

func (g Generator) memory(items int, queue bool) memory {
	return memory{g.Lookup, items, g.Memory, queue}
}

// recall lets vectors x [G,n,C], of which each image has per in every group,
// read from a memory; the answers have the shape of x. The matrices are one
// variable [G,N,C], or [1,N,C] where all vectors share one, or [1,N,G·per·C]
// where all vectors of an image make one query. The queue is nil if the items
// are trained.
func (m memory) recall(s *nn.Scope, x tf.Output, per int) (y, weights tf.Output, q *Queue) {
	shape := nn.Shape(s, x)
	g, n, c := shape[0], shape[1], shape[len(shape)-1]
	query := x
	switch m.indexing {
	case "shared":
		query = nn.Reshape(s, x, 1, g*n, c)
	case "global":
		query = nn.Transpose(s, nn.Reshape(s, x, g, n/per, per, c), 1, 0, 2, 3)
		query = nn.Reshape(s, query, 1, n/per, g*per*c)
	}
	var items tf.Output
	if m.queue {
		q = NewQueue(s, query, m.items)
		items = s.Read(q.Items)
	} else {
		length := nn.Channels(s, query)
		items = s.Variable("items", initial(length), nn.Dim(s, query, 0), m.items, length)
	}
	y, weights = m.Read(s, query, items, m.queue)
	switch m.indexing {
	case "shared":
		y = nn.Reshape(s, y, g, n, c)
	case "global":
		y = nn.Transpose(s, nn.Reshape(s, y, n/per, g, per, c), 1, 0, 2, 3)
		y = nn.Reshape(s, y, g, n, c)
	}
	return y, weights, q
}
