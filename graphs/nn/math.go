package nn

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// Arithmetic is element by element and broadcasts: dimensions are matched from
// the last one, and one of length 1 is repeated.

// Add returns x+y.
func Add(s *Scope, x, y tf.Output) tf.Output { return op.AddV2(s.Op("add"), x, y) }

// Sub returns x-y.
func Sub(s *Scope, x, y tf.Output) tf.Output { return op.Sub(s.Op("sub"), x, y) }

// Mul returns x·y.
func Mul(s *Scope, x, y tf.Output) tf.Output { return op.Mul(s.Op("mul"), x, y) }

// Div returns x/y.
func Div(s *Scope, x, y tf.Output) tf.Output { return op.RealDiv(s.Op("div"), x, y) }

// AddN returns the sum of tensors of one shape.
func AddN(s *Scope, xs ...tf.Output) tf.Output { return op.AddN(s.Op("add_n"), xs) }

// Scale returns c·x.
func Scale(s *Scope, x tf.Output, c float64) tf.Output {
	o := s.Op("scale")
	return op.Mul(o, x, op.Const(o, float32(c)))
}

// Shift returns x+c.
func Shift(s *Scope, x tf.Output, c float64) tf.Output {
	o := s.Op("shift")
	return op.AddV2(o, x, op.Const(o, float32(c)))
}

// Neg returns -x.
func Neg(s *Scope, x tf.Output) tf.Output { return op.Neg(s.Op("neg"), x) }

// Square returns x².
func Square(s *Scope, x tf.Output) tf.Output { return op.Square(s.Op("square"), x) }

// Abs returns |x|.
func Abs(s *Scope, x tf.Output) tf.Output { return op.Abs(s.Op("abs"), x) }

// AbsDiff returns |x-y|.
func AbsDiff(s *Scope, x, y tf.Output) tf.Output { return Abs(s, Sub(s, x, y)) }

// SquaredDiff returns (x-y)².
func SquaredDiff(s *Scope, x, y tf.Output) tf.Output {
	return op.SquaredDifference(s.Op("squared_difference"), x, y)
}

// Sqrt returns √max(x, 1e-12), whose gradient is finite at 0. It can be
// differentiated once; [Pow] twice.
func Sqrt(s *Scope, x tf.Output) tf.Output {
	o := s.Op("sqrt")
	return op.Sqrt(o, op.Maximum(o, x, op.Const(o, float32(1e-12))))
}

// Pow returns x^p, x > 0.
func Pow(s *Scope, x tf.Output, p float64) tf.Output {
	o := s.Op("pow")
	return op.Pow(o, x, op.Const(o, float32(p)))
}

// Exp returns eˣ.
func Exp(s *Scope, x tf.Output) tf.Output { return op.Exp(s.Op("exp"), x) }

// Log returns the natural logarithm of x, x > 0.
func Log(s *Scope, x tf.Output) tf.Output { return op.Log(s.Op("log"), x) }

// Clip returns x limited to [low, high]; outside, its gradient is 0.
func Clip(s *Scope, x tf.Output, low, high float64) tf.Output {
	o := s.Op("clip")
	return op.ClipByValue(o, x, op.Const(o.SubScope("low"), float32(low)), op.Const(o.SubScope("high"), float32(high)))
}

// Minimum returns the smaller of x and y.
func Minimum(s *Scope, x, y tf.Output) tf.Output { return op.Minimum(s.Op("minimum"), x, y) }

// Maximum returns the larger of x and y.
func Maximum(s *Scope, x, y tf.Output) tf.Output { return op.Maximum(s.Op("maximum"), x, y) }

// Sign returns -1, 0 or 1; no gradient.
func Sign(s *Scope, x tf.Output) tf.Output {
	return StopGradient(s, op.Sign(s.Op("sign"), x))
}

// Less returns x < y, bool.
func Less(s *Scope, x, y tf.Output) tf.Output { return op.Less(s.Op("less"), x, y) }

// Greater returns x > y, bool.
func Greater(s *Scope, x, y tf.Output) tf.Output { return op.Greater(s.Op("greater"), x, y) }

// GreaterEqual returns x ≥ y, bool.
func GreaterEqual(s *Scope, x, y tf.Output) tf.Output {
	return op.GreaterEqual(s.Op("greater_equal"), x, y)
}

// Equal returns x = y, bool.
func Equal(s *Scope, x, y tf.Output) tf.Output { return op.Equal(s.Op("equal"), x, y) }

// Where returns x where the condition (bool) holds and y elsewhere; all three
// broadcast.
func Where(s *Scope, condition, x, y tf.Output) tf.Output {
	return add(s, "where", "SelectV2", condition, x, y)
}

// add adds an operation of one output that graft has no function for.
func add(s *Scope, name, kind string, inputs ...tf.Output) tf.Output {
	if s.Err() != nil {
		return tf.Output{}
	}
	spec := tf.OpSpec{Type: kind}
	for _, x := range inputs {
		spec.Input = append(spec.Input, x)
	}
	return s.Op(name).AddOperation(spec).Output(0)
}

// MatMul returns the product of matrices x [n,k] and y [k,m].
func MatMul(s *Scope, x, y tf.Output) tf.Output { return op.MatMul(s.Op("matmul"), x, y) }

// BatchMatMul returns the matrix products of the last two dimensions of x and
// y, each transposed first if asked for; the other dimensions broadcast.
func BatchMatMul(s *Scope, x, y tf.Output, transposeX, transposeY bool) tf.Output {
	return op.BatchMatMulV2(s.Op("batch_matmul"), x, y, op.BatchMatMulV2AdjX(transposeX), op.BatchMatMulV2AdjY(transposeY))
}

// Einsum returns the sum of products that the equation names: "bnd,md->bnm".
func Einsum(s *Scope, equation string, xs ...tf.Output) tf.Output {
	return op.Einsum(s.Op("einsum"), xs, equation)
}

// Mean returns the mean over the given axes, which disappear.
func Mean(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("mean")
	return op.Mean(o, x, ints(o, axes))
}

// MeanKeep is [Mean] with the axes kept at length 1.
func MeanKeep(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("mean")
	return op.Mean(o, x, ints(o, axes), op.MeanKeepDims(true))
}

// Sum returns the sum over the given axes, which disappear.
func Sum(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("sum")
	return op.Sum(o, x, ints(o, axes))
}

// SumKeep is [Sum] with the axes kept at length 1.
func SumKeep(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("sum")
	return op.Sum(o, x, ints(o, axes), op.SumKeepDims(true))
}

// Max returns the maximum over the given axes, which disappear.
func Max(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("max")
	return op.Max(o, x, ints(o, axes))
}

// MaxKeep is [Max] with the axes kept at length 1.
func MaxKeep(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("max")
	return op.Max(o, x, ints(o, axes), op.MaxKeepDims(true))
}

// Min returns the minimum over the given axes, which disappear.
func Min(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("min")
	return op.Min(o, x, ints(o, axes))
}

// MeanAll returns the mean of all elements, a scalar.
func MeanAll(s *Scope, x tf.Output) tf.Output { return Mean(s, x, axes(s, x, 0)...) }

// SumAll returns the sum of all elements, a scalar.
func SumAll(s *Scope, x tf.Output) tf.Output { return Sum(s, x, axes(s, x, 0)...) }

// MeanImage returns the mean of each image: [B,…] → [B].
func MeanImage(s *Scope, x tf.Output) tf.Output { return Mean(s, x, axes(s, x, 1)...) }

// SumImage returns the sum over each image: [B,…] → [B].
func SumImage(s *Scope, x tf.Output) tf.Output { return Sum(s, x, axes(s, x, 1)...) }

// MaxImage returns the maximum of each image: [B,…] → [B].
func MaxImage(s *Scope, x tf.Output) tf.Output { return Max(s, x, axes(s, x, 1)...) }

// MeanChannels returns the mean over channels: [B,H,W,C] → [B,H,W].
func MeanChannels(s *Scope, x tf.Output) tf.Output { return Mean(s, x, -1) }

// axes returns from … rank-1.
func axes(s *Scope, x tf.Output, from int) []int {
	var a []int
	for i := from; i < Rank(s, x); i++ {
		a = append(a, i)
	}
	return a
}

// ArgMax returns the index of the largest element along axis, int64; no
// gradient.
func ArgMax(s *Scope, x tf.Output, axis int) tf.Output {
	o := s.Op("arg_max")
	return op.ArgMax(o, StopGradient(s, x), op.Const(o, int32(axis)), op.ArgMaxOutputType(tf.Int64))
}

// TopK returns the k largest elements of x [B,n], descending, and their
// indices, both [B,k]. Gradients flow through the values.
func TopK(s *Scope, x tf.Output, k int) (values, indices tf.Output) {
	o := s.Op("top_k")
	_, indices = op.TopKV2(o, StopGradient(s, x), op.Const(o, int32(k)))
	values = op.GatherV2(o, x, indices, op.Const(o.SubScope("axis"), int32(1)), op.GatherV2BatchDims(1))
	return values, indices
}

// L2Normalize divides x by its Euclidean norm along the last axis, or by 1e-12
// where that is larger.
func L2Normalize(s *Scope, x tf.Output) tf.Output {
	square := Maximum(s, SumKeep(s, Square(s, x), -1), Const(s, 1e-24))
	return Mul(s, x, Pow(s, square, -0.5))
}
