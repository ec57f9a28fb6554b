// Package feature holds methods that compare features of a frozen, pretrained
// backbone with those of normal images.
package feature

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// A memory holds m vectors of one length, centred: distances stay as they are,
// and ‖x‖²-2x·y+‖y‖² loses fewer digits.
type memory struct {
	vectors tf.Output // [m,D], less their mean
	mean    tf.Output // [D]
	squares tf.Output // [m], ‖y‖²
}

func newMemory(s *nn.Scope, vectors tf.Output) memory {
	mean := nn.Mean(s, vectors, 0)
	y := nn.Sub(s, vectors, mean)
	return memory{vectors: y, mean: mean, squares: nn.Sum(s, nn.Square(s, y), 1)}
}

// partial returns ‖y‖²-2x·y [n,m] of centred x [n,D]: squared distances less
// ‖x‖².
func (m memory) partial(s *nn.Scope, x tf.Output) tf.Output {
	product := op.MatMul(s.Op("product"), nn.Scale(s, x, -2), m.vectors, op.MatMulTransposeB(true))
	return op.BiasAdd(s.Op("add_squares"), product, m.squares)
}

// nearest returns the distance of each x [n,D] to the nearest vector, [n]. It
// works through step rows at a time, one after the other, so that n×m distances
// never exist at once.
func (m memory) nearest(s *nn.Scope, x tf.Output, step int) tf.Output {
	x = nn.Sub(s, x, m.mean)
	n := nn.Dim(s, x, 0)
	if n < 0 {
		step = n
	}
	var parts []tf.Output
	at := s
	for i := 0; i == 0 || i < n; i += step {
		rows := x
		if n > step {
			rows = nn.Slice(at, x, []int{i, 0}, []int{min(step, n-i), -1})
		}
		square := nn.Add(at, nn.Min(at, m.partial(at, rows), 1), nn.Sum(at, nn.Square(at, rows), 1))
		part := distance(at, square)
		parts = append(parts, part)
		if s.Err() != nil || n < 0 {
			break
		}
		at = s.After(part.Op)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return nn.Concat(s, 0, parts...)
}

// neighbours returns the k nearest vectors of each x [n,D] and their squared
// distances, nearest first: [n,k,D] as they are in the memory (centred), [n,k].
func (m memory) neighbours(s *nn.Scope, x tf.Output, k int) (vectors, squares tf.Output) {
	x = nn.Sub(s, x, m.mean)
	_, indices := nn.TopK(s, nn.Neg(s, m.partial(s, x)), k)
	vectors = nn.Gather(s, m.vectors, indices, 0)
	return vectors, m.between(s, nn.ExpandDims(s, x, 1), vectors)
}

// between returns squared distances along the last axis, computed from
// differences: exact where they are small.
func (m memory) between(s *nn.Scope, x, y tf.Output) tf.Output {
	d := nn.SquaredDiff(s, x, y)
	return nn.Sum(s, d, nn.Rank(s, d)-1)
}

// distance is the root of a squared distance that rounding may have made
// negative.
func distance(s *nn.Scope, square tf.Output) tf.Output {
	return op.Sqrt(s.Op("sqrt"), nn.Maximum(s, square, nn.Const(s, 0)))
}
