package nn

import (
	"bytes"
	"encoding/binary"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// Shape returns the static shape of x, -1 for a length that is not known while
// building. On a failed scope it is four ones: building goes on, adding nothing.
func Shape(s *Scope, x tf.Output) []int {
	if x.Op == nil {
		s.Fail("a tensor is missing") // keeps an earlier error
	}
	if s.Err() != nil {
		return []int{1, 1, 1, 1}
	}
	shape := x.Shape()
	rank := shape.NumDimensions()
	if rank < 0 {
		s.Fail("the rank of %s is not known: give its placeholder a shape", x.Op.Name())
		return []int{1, 1, 1, 1}
	}
	dims := make([]int, rank)
	for i := range dims {
		dims[i] = int(shape.Size(i))
	}
	return dims
}

// Rank returns the number of dimensions of x, 4 on a failed scope.
func Rank(s *Scope, x tf.Output) int { return len(Shape(s, x)) }

// Dim returns the static length of dimension i, counted from the end if i is
// negative; -1 if it is not known, 1 on a failed scope.
func Dim(s *Scope, x tf.Output, i int) int {
	shape := Shape(s, x)
	if s.Err() != nil {
		return 1
	}
	if i < 0 {
		i += len(shape)
	}
	if i < 0 || i >= len(shape) {
		s.Fail("%s of shape %v has no dimension %d", x.Op.Name(), shape, i)
		return 1
	}
	return shape[i]
}

// Batch returns the first dimension of x, -1 if it is not known.
func Batch(s *Scope, x tf.Output) int { return Dim(s, x, 0) }

// Height returns the second dimension of x [B,H,W] or [B,H,W,C].
func Height(s *Scope, x tf.Output) int { return known(s, x, 1) }

// Width returns the third dimension of x [B,H,W] or [B,H,W,C].
func Width(s *Scope, x tf.Output) int { return known(s, x, 2) }

// Channels returns the last dimension of x.
func Channels(s *Scope, x tf.Output) int { return known(s, x, -1) }

// Size returns the number of elements of x per image: all but the first
// dimension.
func Size(s *Scope, x tf.Output) int {
	n := 1
	for i := 1; i < Rank(s, x); i++ {
		n *= known(s, x, i)
	}
	return n
}

// known is Dim where only a known length will do.
func known(s *Scope, x tf.Output, i int) int {
	n := Dim(s, x, i)
	if n < 0 {
		s.Fail("dimension %d of %s is not known: give its placeholder a shape", i, x.Op.Name())
		return 1
	}
	return n
}

// Reshape returns x with the given dimensions, at most one of them -1: what is
// left over.
func Reshape(s *Scope, x tf.Output, dims ...int) tf.Output {
	o := s.Op("reshape")
	return op.Reshape(o, x, ints(o, dims))
}

// Flatten returns [B,…] as [B,Size].
func Flatten(s *Scope, x tf.Output) tf.Output { return Reshape(s, x, -1, Size(s, x)) }

// ReshapeLike returns x with the shape of like; the batch is what is left over.
func ReshapeLike(s *Scope, x, like tf.Output) tf.Output {
	dims := Shape(s, like)
	for i := range dims {
		if i > 0 {
			dims[i] = known(s, like, i) // fails if unknown
		}
	}
	if len(dims) > 0 {
		dims[0] = -1
	}
	return Reshape(s, x, dims...)
}

// ExpandDims inserts a dimension of length 1 before the given axis; -1 appends.
func ExpandDims(s *Scope, x tf.Output, axis int) tf.Output {
	o := s.Op("expand_dims")
	return op.ExpandDims(o, x, op.Const(o, int32(axis)))
}

// Squeeze removes the given axis, of length 1.
func Squeeze(s *Scope, x tf.Output, axis int) tf.Output {
	return op.Squeeze(s.Op("squeeze"), x, op.SqueezeAxis([]int64{int64(axis)}))
}

// Concat joins tensors along an existing axis.
func Concat(s *Scope, axis int, xs ...tf.Output) tf.Output {
	o := s.Op("concat")
	return op.ConcatV2(o, xs, op.Const(o, int32(axis)))
}

// Stack joins n tensors of one shape along a new axis of length n.
func Stack(s *Scope, axis int, xs ...tf.Output) tf.Output {
	return op.Pack(s.Op("stack"), xs, op.PackAxis(int64(axis)))
}

// Unstack undoes [Stack].
func Unstack(s *Scope, x tf.Output, axis int) []tf.Output {
	n := known(s, x, axis)
	return whole(n, op.Unpack(s.Op("unstack"), x, int64(n), op.UnpackAxis(int64(axis))))
}

// Split cuts x into n equal parts along axis.
func Split(s *Scope, x tf.Output, axis, n int) []tf.Output {
	o := s.Op("split")
	return whole(n, op.Split(o, op.Const(o, int32(axis)), x, int64(n)))
}

// whole gives a failed operation as many outputs as its caller counts on.
func whole(n int, xs []tf.Output) []tf.Output {
	if len(xs) < n {
		return make([]tf.Output, n)
	}
	return xs
}

// Slice returns size elements from begin in each dimension; a size of -1 is
// all that follow.
func Slice(s *Scope, x tf.Output, begin, size []int) tf.Output {
	o := s.Op("slice")
	return op.Slice(o, x, ints(o.SubScope("begin"), begin), ints(o.SubScope("size"), size))
}

// Crop returns rows top… and columns left… of x [B,H,W,C] as [B,h,w,C].
func Crop(s *Scope, x tf.Output, top, left, h, w int) tf.Output {
	return Slice(s, x, []int{0, top, left, 0}, []int{-1, h, w, -1})
}

// Gather returns x at the given indices (int32 or int64) of axis.
func Gather(s *Scope, x, indices tf.Output, axis int) tf.Output {
	o := s.Op("gather")
	return op.GatherV2(o, x, indices, op.Const(o, int32(axis)))
}

// Transpose reorders dimensions: dimension i of the result is perm[i] of x.
func Transpose(s *Scope, x tf.Output, perm ...int) tf.Output {
	o := s.Op("transpose")
	return op.Transpose(o, x, ints(o, perm))
}

// Tile repeats x multiples[i] times along dimension i.
func Tile(s *Scope, x tf.Output, multiples ...int) tf.Output {
	o := s.Op("tile")
	return op.Tile(o, x, ints(o, multiples))
}

// Reverse flips x along the given axes.
func Reverse(s *Scope, x tf.Output, axes ...int) tf.Output {
	o := s.Op("reverse")
	return op.ReverseV2(o, x, ints(o, axes))
}

// Pad surrounds x [B,H,W,C] with zeros: top and bottom rows, left and right
// columns.
func Pad(s *Scope, x tf.Output, top, bottom, left, right int) tf.Output {
	o := s.Op("pad")
	return op.Pad(o, x, paddings(o, top, bottom, left, right))
}

// PadWith is [Pad] with the given value.
func PadWith(s *Scope, x tf.Output, value float64, top, bottom, left, right int) tf.Output {
	o := s.Op("pad")
	return op.PadV2(o, x, paddings(o, top, bottom, left, right), op.Const(o.SubScope("value"), float32(value)))
}

// A Border says how an image continues beyond its edge.
type Border string

const (
	HalfSample  Border = "SYMMETRIC" // mirrored, the edge twice: cba|abc; SciPy's "reflect"
	WholeSample Border = "REFLECT"   // mirrored, the edge once: cb|abc; PyTorch's "reflect"
)

// MirrorPad surrounds x [B,H,W,C] with its own mirror image, p pixels on every
// side: p at most H and W (HalfSample) or H-1 and W-1 (WholeSample).
func MirrorPad(s *Scope, x tf.Output, border Border, p int) tf.Output {
	o := s.Op("mirror_pad")
	return op.MirrorPad(o, x, paddings(o, p, p, p, p), string(border))
}

func paddings(o *op.Scope, top, bottom, left, right int) tf.Output {
	return op.Const(o, [][]int32{{0, 0}, {int32(top), int32(bottom)}, {int32(left), int32(right)}, {0, 0}})
}

// SpaceToDepth moves blocks of n×n pixels into channels:
// [B,H,W,C] → [B,H/n,W/n,n²·C].
func SpaceToDepth(s *Scope, x tf.Output, n int) tf.Output {
	return op.SpaceToDepth(s.Op("space_to_depth"), x, int64(n))
}

// DepthToSpace undoes [SpaceToDepth].
func DepthToSpace(s *Scope, x tf.Output, n int) tf.Output {
	return op.DepthToSpace(s.Op("depth_to_space"), x, int64(n))
}

// StopGradient is x for the forward pass and a constant for gradients.
func StopGradient(s *Scope, x tf.Output) tf.Output {
	return op.StopGradient(s.Op("stop_gradient"), x)
}

// Const returns the float32 scalar v.
func Const(s *Scope, v float64) tf.Output { return op.Const(s.Op("const"), float32(v)) }

// Consts returns v, row-major, as a float32 constant of the given dimensions.
// For small tables only: weights are variables.
func Consts(s *Scope, v []float32, dims ...int) tf.Output {
	if elements(dims) != len(v) {
		s.Fail("%d values for a constant of shape %v", len(v), dims)
		return tf.Output{}
	}
	shape := make([]int64, len(dims))
	for i, d := range dims {
		shape[i] = int64(d)
	}
	var raw bytes.Buffer
	binary.Write(&raw, binary.LittleEndian, v) // a Buffer takes all
	t, err := tf.ReadTensor(tf.Float, shape, &raw)
	if err != nil {
		s.Fail("constant of shape %v: %v", dims, err)
		return tf.Output{}
	}
	return op.Const(s.Op("const"), t)
}

// Cast converts the elements of x.
func Cast(s *Scope, x tf.Output, to tf.DataType) tf.Output { return op.Cast(s.Op("cast"), x, to) }

// OneHot returns labels (int32 or int64) as float32 rows of length depth with a
// 1 at the label: […] → […,depth].
func OneHot(s *Scope, labels tf.Output, depth int) tf.Output {
	o := s.Op("one_hot")
	return op.OneHot(o, labels, op.Const(o.SubScope("depth"), int32(depth)), op.Const(o.SubScope("on"), float32(1)), op.Const(o.SubScope("off"), float32(0)))
}

// shapeOf returns the shape of x as an int32 tensor, a constant where it is
// known while building. No gradient flows through it.
func shapeOf(s *Scope, o *op.Scope, x tf.Output) tf.Output {
	if dims := Shape(s, x); !slices.Contains(dims, -1) {
		return ints(o, dims)
	}
	return op.Shape(o, x)
}

// ints returns dims as an int32 vector.
func ints(o *op.Scope, dims []int) tf.Output {
	v := make([]int32, len(dims))
	for i, d := range dims {
		v[i] = int32(d)
	}
	return op.Const(o, v)
}
