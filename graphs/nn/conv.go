package nn

import (
	"slices"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// Padding says what surrounds an image before a k×k window moves over it.
type Padding int

const (
	// Same is TensorFlow's padding: ceil(n/stride) outputs; where it is odd,
	// the extra pixel goes to the bottom and right. The zero value.
	Same Padding = 0
	// Valid is none: ceil((n-k+1)/stride) outputs.
	Valid Padding = -1
)

// Symmetric is PyTorch's padding=p: p zeros on all four sides,
// floor((n+2p-k)/stride)+1 outputs. At stride 2 it is a different network from
// [Same].
func Symmetric(p int) Padding {
	if p == 0 {
		return Valid
	}
	return Padding(p)
}

// A Conv describes a convolution layer.
type Conv struct {
	Out       int     // channels after it; a depthwise layer ignores it
	Kernel    int     // side of the kernel
	Stride    int     // 0 is 1
	Pad       Padding // the zero value is Same
	OutputPad int     // transposed only: PyTorch's output_padding, rows and columns more at bottom and right
	Dilation  int     // spacing of the kernel's taps; 0 is 1. Only for Conv2D
	NoBias    bool
	Init      Initializer // of the kernel; nil is PyTorch's default
	BiasInit  Initializer // nil is PyTorch's default
}

func (c *Conv) check(s *Scope, x tf.Output) {
	c.Stride, c.Dilation = max(c.Stride, 1), max(c.Dilation, 1)
	switch {
	case s.Err() != nil:
	case c.Kernel < 1:
		s.Fail("convolution with kernel %d, need 1 or more", c.Kernel)
	case Rank(s, x) != 4:
		s.Fail("convolution of shape %v, need [B,H,W,C]", Shape(s, x))
	}
}

// positive returns the number of outputs of a layer, or fails.
func positive(s *Scope, out int) int {
	if out < 1 {
		s.Fail("layer with %d outputs, need 1 or more", out)
	}
	return out
}

// finish adds the bias, unless there is none.
func (c Conv) finish(s *Scope, y tf.Output, fanIn int) tf.Output {
	if c.NoBias {
		return y
	}
	return Bias(s, y, or(c.BiasInit, PyTorch(fanIn)))
}

// Bias adds the variable "bias" along the last axis.
func Bias(s *Scope, x tf.Output, init Initializer) tf.Output {
	bias := s.Variable("bias", init, Channels(s, x))
	return op.BiasAdd(s.Op("bias"), x, bias)
}

func or(init, otherwise Initializer) Initializer {
	if init == nil {
		return otherwise
	}
	return init
}

// Conv2D is a k×k convolution, [B,H,W,C] → [B,H',W',out], with variables
// "kernel" [k,k,C,out] and "bias" [out].
func Conv2D(s *Scope, x tf.Output, c Conv) tf.Output {
	c.check(s, x)
	in, out := Channels(s, x), positive(s, c.Out)
	fanIn := c.Kernel * c.Kernel * in
	kernel := s.Variable("kernel", or(c.Init, PyTorch(fanIn)), c.Kernel, c.Kernel, in, out)
	if c.Dilation > 1 {
		return c.finish(s, dilated(s, x, kernel, c), fanIn)
	}
	return c.finish(s, Convolve(s, x, kernel, c.Stride, c.Pad), fanIn)
}

// Convolve is the convolution of x [B,H,W,C] with a given kernel [k,k,C,out]:
// one shared by two layers, normalised, or constant.
func Convolve(s *Scope, x, kernel tf.Output, stride int, pad Padding) tf.Output {
	if Dim(s, kernel, 0) == 1 && stride > 1 && (pad == Same || pad == Valid) {
		x, stride = subsample(s, x, stride), 1
	}
	x, padding := surround(s, x, Dim(s, kernel, 0), stride, pad)
	return op.Conv2D(s.Op("conv"), x, kernel, strides(stride), padding)
}

// subsample takes every n-th row and column of x [B,H,W,C], from the first on.
// A 1×1 convolution of stride n reads no others. TensorFlow's own, in its oneDNN
// kernel for AVX2, writes beyond its memory where the channels are no multiple
// of 8: the process dies of it sooner or later, or goes on with wrong numbers.
func subsample(s *Scope, x tf.Output, n int) tf.Output {
	h, w, c := Height(s, x), Width(s, x), Channels(s, x)
	rows, cols := (h+n-1)/n, (w+n-1)/n
	if rows*n != h || cols*n != w {
		x = Pad(s, x, 0, rows*n-h, 0, cols*n-w)
	}
	x = Reshape(s, x, -1, rows, n, cols, n, c)
	x = Slice(s, x, []int{0, 0, 0, 0, 0, 0}, []int{-1, -1, 1, -1, 1, -1})
	return Reshape(s, x, -1, rows, cols, c)
}

func strides(n int) []int64 { return []int64{1, int64(n), int64(n), 1} }

// surround pads x and returns TensorFlow's name of the padding that is left to
// do. Symmetric padding is left to TensorFlow where SAME is identical.
func surround(s *Scope, x tf.Output, k, stride int, pad Padding) (tf.Output, string) {
	p := int(pad)
	switch {
	case pad == Same:
		return x, "SAME"
	case pad == Valid:
		return x, "VALID"
	case sameAs(Dim(s, x, 1), k, stride, p) && sameAs(Dim(s, x, 2), k, stride, p):
		return x, "SAME"
	}
	return Pad(s, x, p, p, p, p), "VALID"
}

// sameAs reports whether p zeros on both sides of a line of n pixels give the
// windows of SAME.
func sameAs(n, k, stride, p int) bool {
	if n < 1 {
		return false
	}
	outputs := (n + stride - 1) / stride
	total := (outputs-1)*stride + k - n // zeros that SAME adds, half of them before
	return total >= 0 && total/2 == p && (n+2*p-k)/stride+1 == outputs
}

// dilated convolves the stride² of c.Dilation² interleaved grids, each with
// stride 1: TensorFlow's own dilations have a wrong gradient.
func dilated(s *Scope, x, kernel tf.Output, c Conv) tf.Output {
	d, k := c.Dilation, c.Kernel
	reach := d * (k - 1) // beyond the first tap
	if c.Stride > 1 {
		s.Fail("convolution with stride %d and dilation %d, need one of them 1", c.Stride, d)
		return x
	}
	before, after := reach/2, reach-reach/2
	if c.Pad != Same {
		before = max(int(c.Pad), 0)
		after = before
	}
	h, w := Height(s, x)+before+after, Width(s, x)+before+after
	if s.Err() == nil && (h <= reach || w <= reach) {
		s.Fail("convolution reaches over %d pixels of a padded image of %d×%d", reach+1, h, w)
		return x
	}
	// Grids must be of one size: pad to a multiple of d, crop what that adds.
	moreH, moreW := (d-h%d)%d, (d-w%d)%d
	o := s.Op("dilate")
	block := op.Const(o.SubScope("block"), []int32{int32(d), int32(d)})
	pads := op.Const(o.SubScope("paddings"), [][]int32{{int32(before), int32(after + moreH)}, {int32(before), int32(after + moreW)}})
	crops := op.Const(o.SubScope("crops"), [][]int32{{0, int32(moreH)}, {0, int32(moreW)}})
	y := op.SpaceToBatchND(o, x, block, pads)
	y = op.Conv2D(o, y, kernel, strides(1), "VALID")
	return op.BatchToSpaceND(o, y, block, crops)
}

// DepthwiseConv2D convolves each channel by itself, [B,H,W,C] → [B,H',W',C],
// with variables "kernel" [k,k,C,1] and "bias" [C].
func DepthwiseConv2D(s *Scope, x tf.Output, c Conv) tf.Output {
	c.check(s, x)
	if c.Dilation > 1 {
		s.Fail("depthwise convolution with dilation %d, need 1", c.Dilation)
	}
	fanIn := c.Kernel * c.Kernel
	kernel := s.Variable("kernel", or(c.Init, PyTorch(fanIn)), c.Kernel, c.Kernel, Channels(s, x), 1)
	padded, padding := surround(s, x, c.Kernel, c.Stride, c.Pad)
	y := op.DepthwiseConv2dNative(s.Op("depthwise"), padded, kernel, strides(c.Stride), padding)
	return c.finish(s, y, fanIn)
}

// ConvTranspose2D is the transposed convolution, [B,H,W,C] → [B,H',W',out],
// with variables "kernel" [k,k,out,C] and "bias" [out]. H' is stride·H with
// Same padding, and as PyTorch has it, (H-1)·stride - 2p + k + OutputPad, with
// Symmetric(p) and with Valid (p = 0).
func ConvTranspose2D(s *Scope, x tf.Output, c Conv) tf.Output {
	c.check(s, x)
	switch {
	case c.Dilation > 1:
		s.Fail("transposed convolution with dilation %d, need 1", c.Dilation)
	case c.OutputPad < 0 || c.OutputPad > 0 && (c.OutputPad >= c.Stride || c.Pad == Same):
		s.Fail("transposed convolution with output padding %d, need less than the stride %d, and other than Same padding", c.OutputPad, c.Stride)
	}
	out := positive(s, c.Out)
	fanIn := c.Kernel * c.Kernel * out // PyTorch's, of the kernel as stored
	kernel := s.Variable("kernel", or(c.Init, PyTorch(fanIn)), c.Kernel, c.Kernel, out, Channels(s, x))
	return c.finish(s, ConvolveTransposed(s, x, kernel, c.Stride, c.Pad, c.OutputPad), fanIn)
}

// ConvolveTransposed is the transposed convolution of x [B,H,W,C] with a given
// kernel [k,k,out,C]; sizes as in [ConvTranspose2D].
func ConvolveTransposed(s *Scope, x, kernel tf.Output, stride int, pad Padding, outputPad int) tf.Output {
	k, p := Dim(s, kernel, 0), max(int(pad), 0)
	h, w := Height(s, x), Width(s, x)
	padding := "SAME"
	outH, outW := h*stride, w*stride
	if pad != Same {
		outH, outW = (h-1)*stride-2*p+k+outputPad, (w-1)*stride-2*p+k+outputPad
		if outH < 1 || outW < 1 {
			s.Fail("transposed convolution of %d×%d leaves nothing: kernel %d, padding %d", h, w, k, p)
			return x
		}
	}
	fullH, fullW := outH, outW
	if pad != Same && !(sameAs(outH, k, stride, p) && sameAs(outW, k, stride, p)) {
		// All that the kernel reaches, of which p rows and columns are cut off
		// at the top and left, and what is left over at the bottom and right.
		padding = "VALID"
		more := max(outputPad-p, 0)
		fullH, fullW = (h-1)*stride+k+more, (w-1)*stride+k+more
	}
	o := s.Op("conv_transpose")
	size := ints(o.SubScope("size"), []int{Batch(s, x), fullH, fullW, Dim(s, kernel, 2)})
	if Batch(s, x) < 0 {
		batch := op.Slice(o.SubScope("batch"), op.Shape(o, x), op.Const(o.SubScope("first"), []int32{0}), op.Const(o.SubScope("one"), []int32{1}))
		rest := ints(o.SubScope("rest"), []int{fullH, fullW, Dim(s, kernel, 2)})
		size = op.ConcatV2(o, []tf.Output{batch, rest}, op.Const(o.SubScope("axis"), int32(0)))
	}
	y := op.Conv2DBackpropInput(o, size, kernel, x, strides(stride), padding)
	if padding == "SAME" || fullH == outH && fullW == outW {
		return y
	}
	return Crop(s, y, p, p, outH, outW)
}

// A Linear describes what [Dense] may vary.
type Linear struct {
	NoBias   bool
	Init     Initializer // of the kernel; nil is PyTorch's default
	BiasInit Initializer // nil is PyTorch's default
}

// Dense is an affine map of the last axis, […,n] → […,out], with variables
// "kernel" [n,out] and "bias" [out] and PyTorch's default initial values.
func Dense(s *Scope, x tf.Output, out int) tf.Output { return DenseWith(s, x, out, Linear{}) }

// DenseWith is [Dense] with options.
func DenseWith(s *Scope, x tf.Output, out int, l Linear) tf.Output {
	in := Channels(s, x)
	kernel := s.Variable("kernel", or(l.Init, PyTorch(in)), in, positive(s, out))
	shape := Shape(s, x)
	rows := x
	if len(shape) != 2 {
		rows = Reshape(s, x, -1, in)
	}
	y := MatMul(s, rows, kernel)
	if !l.NoBias {
		y = Bias(s, y, or(l.BiasInit, PyTorch(in)))
	}
	if len(shape) == 2 {
		return y
	}
	if i := slices.Index(shape, -1); i > 0 {
		s.Fail("dense layer on shape %v, need all lengths but the first known", shape)
	}
	shape = append([]int{-1}, append(shape[1:len(shape)-1:len(shape)-1], out)...)
	return Reshape(s, y, shape...)
}
