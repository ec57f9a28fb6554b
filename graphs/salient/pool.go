package salient

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
	"thorax/graphs/quantise"
)

// neighbours is how many codes each query adds to the pool.
const neighbours = 20

// faithfulQueries is how many queries the released code takes of every image.
const faithfulQueries = 25

// Anomalous returns how many of n positions are replaced: a tenth, rounded down.
func Anomalous(n int) int { return n / 10 }

// Queries returns how many query vectors an image of n positions has.
func (r Readings) Queries(n int) int {
	if r.NQuery == Faithful {
		return faithfulQueries
	}
	return Anomalous(n)
}

// Query returns the query vectors [B,n,C] of z [B,HW,C] at the first n
// positions of the order [B,·], n = [Readings.Queries].
func (r Readings) Query(s *nn.Scope, z, order tf.Output) tf.Output {
	hw, c := nn.Dim(s, z, 1), nn.Channels(s, z)
	n := r.Queries(hw)
	if s.Err() == nil && (n < 1 || n > nn.Dim(s, order, 1)) {
		s.Fail("%d queries of %d positions: need larger images, or n_query = \"corrected\"", n, hw)
		return z
	}
	order = nn.Slice(s, order, []int{0, 0}, []int{-1, n})
	if r.SalientRows == Faithful {
		z = nn.Reshape(s, nn.Transpose(s, z, 0, 2, 1), -1, hw, c)
	}
	if r.BatchOffset == Faithful {
		return nn.Gather(s, nn.Reshape(s, nn.Slice(s, z, []int{0, 0, 0}, []int{1, -1, -1}), hw, c), order, 0)
	}
	return rows(s, z, order)
}

// rows returns x[b,index[b,j]] for x [B,n,…] and index [B,m].
func rows(s *nn.Scope, x, index tf.Output) tf.Output {
	o := s.Op("rows")
	return op.GatherV2(o, x, index, op.Const(o, int32(1)), op.GatherV2BatchDims(1))
}

// Near returns the numbers of the 20 nearest codes of each query [B,n,C], or of
// all where there are fewer: int32 [B,n,20].
func Near(s *nn.Scope, query, codebook tf.Output) tf.Output {
	n, c := nn.Dim(s, query, 1), nn.Channels(s, query)
	k := min(neighbours, nn.Dim(s, codebook, 0))
	return nn.Reshape(s, quantise.Nearest(s, nn.Reshape(s, query, -1, c), codebook, k), -1, n, k)
}

// Choose returns the codes [B,n] that replace those of the positions order [B,n].
// u [B,P], uniform, is the draw; pool [B,P] the candidates, P/n neighbours of
// each query in turn, and codes [B,HW] those that the positions have.
//
// In the scope image, the entries of the pool with the n largest draws are taken,
// the largest first: the start of a random permutation. In the scope own, P is a
// multiple of n and each position takes the one of its own neighbours with the
// largest draw that is not the code it has.
func (r Readings) Choose(s *nn.Scope, pool, codes, order, u tf.Output) tf.Output {
	n := nn.Dim(s, order, 1)
	if r.Candidates == "image" {
		_, first := nn.TopK(s, u, n)
		return rows(s, pool, first)
	}
	current := rows(s, codes, order)
	own := nn.Reshape(s, pool, -1, n, nn.Dim(s, pool, 1)/n) // [B,n,k]
	other := op.NotEqual(s.Op("other"), own, nn.ExpandDims(s, current, 2))
	best := nn.ArgMax(s, nn.Mul(s, nn.Reshape(s, u, nn.Shape(s, own)...), nn.Cast(s, other, tf.Float)), 2)
	o := s.Op("pick")
	chosen := op.GatherV2(o, own, nn.ExpandDims(s, best, 2), op.Const(o, int32(2)), op.GatherV2BatchDims(2))
	return nn.Squeeze(s, chosen, 2)
}

// Replace puts the codes chosen [B,n] in the place of tokens q [B,HW,C] at
// positions order [B,n], none twice. It returns the tokens and the mask [B,HW]
// that is 1 where they were replaced, be it by the code they had.
func Replace(s *nn.Scope, q, codebook, order, chosen tf.Output) (replaced, mask tf.Output) {
	b, hw, n := nn.Batch(s, q), nn.Dim(s, q, 1), nn.Dim(s, order, 1)
	first := make([]int64, b)
	for i := range first {
		first[i] = int64(i * hw)
	}
	at := op.Add(s.Op("flat"), nn.Cast(s, order, tf.Int64), nn.Reshape(s, op.Const(s.Op("first"), first), b, 1))
	at = nn.Reshape(s, at, b*n, 1)
	scatter := func(v tf.Output) tf.Output {
		o := s.Op("scatter")
		flat := op.ScatterNd(o, at, nn.Reshape(s, v, b*n), op.Const(o, []int64{int64(b * hw)}))
		return nn.Reshape(s, flat, b, hw)
	}
	mask = scatter(nn.Consts(s, ones(b*n), b*n))
	codes := nn.Gather(s, codebook, scatter(chosen), 0)
	return nn.Where(s, nn.Greater(s, nn.ExpandDims(s, mask, 2), nn.Const(s, 0.5)), codes, q), mask
}

// LeaveWhole gives the first n images of a batch their own tokens q [B,HW,C] back,
// in which nothing is replaced, and masks [B,HW] of zeros.
func LeaveWhole(s *nn.Scope, q, replaced, mask tf.Output, n int) (tf.Output, tf.Output) {
	b := nn.Batch(s, q)
	changed := ones(b)
	clear(changed[:min(n, b)])
	keep := nn.Consts(s, changed, b, 1)
	mask = nn.Mul(s, mask, keep)
	return nn.Where(s, nn.Greater(s, nn.ExpandDims(s, keep, 2), nn.Const(s, 0.5)), replaced, q), mask
}

func ones(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 1
	}
	return v
}
