package nn

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// BN describes a batch norm layer. The zero value is PyTorch's.
type BN struct {
	Eps float64 // added to the variance; 0 is 1e-5
	// Momentum is PyTorch's: running ← (1-Momentum)·running + Momentum·batch.
	// 0 is 0.1. Keras's momentum m is Momentum 1-m.
	Momentum float64
	// PerSample normalises each image by its own statistics in inference, as
	// networks do that are never put into evaluation mode and score images one
	// by one. There are no running statistics then.
	PerSample bool
	NoAffine  bool        // no scale and shift
	Init      Initializer // of the scale gamma; nil is ones
	// Offset [C] is left out of x in training, such as the bias of a convolution,
	// which the mean takes off again: it is added to the running mean. A gradient
	// with respect to it is zero.
	Offset tf.Output
}

// BatchNorm normalises each channel of x [B,H,W,C] or [B,C] over the batch,
// then scales by the variable "gamma" and shifts by "beta", both [C]. The
// buffers "mean" and "variance" [C] run after the batch's mean and unbiased
// variance, and are what normalises in inference (Ioffe and Szegedy, "Batch
// Normalization", ICML 2015, alg. 1 and 2). It can be differentiated once.
func BatchNorm(s *Scope, x tf.Output, b BN) tf.Output {
	if b.Eps == 0 {
		b.Eps = 1e-5
	}
	if b.Momentum == 0 {
		b.Momentum = 0.1
	}
	c := Channels(s, x)
	rank := Rank(s, x)
	if rank != 2 && rank != 4 {
		s.Fail("batch norm of shape %v, need [B,H,W,C] or [B,C]", Shape(s, x))
	}
	if b.PerSample && rank == 2 {
		s.Fail("batch norm per sample of shape %v, need [B,H,W,C]", Shape(s, x))
	}
	gamma, beta := affine(s, c, b.NoAffine, or(b.Init, Ones()))
	if b.PerSample && !s.Training() {
		return scaleShift(s, standardize(s, x, []int{1, 2}, b.Eps), gamma, beta)
	}
	if b.NoAffine { // the op wants them
		gamma, beta = Consts(s, filled(c, 1), c), Consts(s, filled(c, 0), c)
	}
	image := x
	if rank == 2 {
		image = Reshape(s, x, -1, 1, 1, c)
	}
	var y tf.Output
	if s.Training() {
		y = trainBN(s, image, gamma, beta, b, c)
	} else {
		mean, variance := s.Buffer("mean", Zeros(), c), s.Buffer("variance", Ones(), c)
		y, _, _, _, _, _ = op.FusedBatchNormV3(s.Op("batch_norm"), image, gamma, beta, s.Read(mean), s.Read(variance),
			op.FusedBatchNormV3Epsilon(float32(b.Eps)), op.FusedBatchNormV3IsTraining(false))
	}
	if rank == 2 {
		return Reshape(s, y, -1, c)
	}
	return y
}

// trainBN normalises by the batch and records what the running statistics
// become. The op's variance output is the unbiased one.
func trainBN(s *Scope, x, gamma, beta tf.Output, b BN, c int) tf.Output {
	if b.Offset.Op != nil { // within reach of the loss, as every variable has to be
		beta = Add(s, beta, Scale(s, b.Offset, 0))
	}
	none := Consts(s, nil, 0)
	y, mean, variance, _, _, _ := op.FusedBatchNormV3(s.Op("batch_norm"), x, gamma, beta, none, none,
		op.FusedBatchNormV3Epsilon(float32(b.Eps)), op.FusedBatchNormV3IsTraining(true))
	if b.PerSample {
		return y
	}
	if b.Offset.Op != nil {
		mean = Add(s, mean, b.Offset)
	}
	follow := func(batch tf.Output) func(*Scope, tf.Output) tf.Output {
		return func(s *Scope, running tf.Output) tf.Output {
			return Add(s, running, Scale(s, Sub(s, batch, running), b.Momentum))
		}
	}
	s.Assign(s.Buffer("mean", Zeros(), c), y, follow(mean))
	s.Assign(s.Buffer("variance", Ones(), c), y, follow(variance))
	return y
}

// A Norm describes a layer or instance norm.
type Norm struct {
	Eps      float64 // added to the variance; 0 is 1e-5
	NoAffine bool    // no scale and shift
}

// LayerNorm normalises each row of x […,C] over the last axis, then scales by
// the variable "gamma" and shifts by "beta", both [C] (Ba, Kiros and Hinton,
// "Layer Normalization", 2016). It can be differentiated twice.
func LayerNorm(s *Scope, x tf.Output, n Norm) tf.Output { return n.over(s, x, -1) }

// InstanceNorm normalises each channel of each image of x [B,H,W,C] over its
// pixels, then scales and shifts as [LayerNorm] does (Ulyanov et al., 2016).
func InstanceNorm(s *Scope, x tf.Output, n Norm) tf.Output { return n.over(s, x, 1, 2) }

// ImageNorm normalises each image of x [B,H,W,C] over pixels and channels
// together, then scales and shifts each channel as [LayerNorm] does: the layer
// norm of convolutional critics.
func ImageNorm(s *Scope, x tf.Output, n Norm) tf.Output { return n.over(s, x, 1, 2, 3) }

func (n Norm) over(s *Scope, x tf.Output, axes ...int) tf.Output {
	if n.Eps == 0 {
		n.Eps = 1e-5
	}
	if len(axes) > 1 && Rank(s, x) != 4 {
		s.Fail("norm over pixels of shape %v, need [B,H,W,C]", Shape(s, x))
	}
	gamma, beta := affine(s, Channels(s, x), n.NoAffine, Ones())
	return scaleShift(s, standardize(s, x, axes, n.Eps), gamma, beta)
}

func affine(s *Scope, c int, none bool, init Initializer) (gamma, beta tf.Output) {
	if none {
		return
	}
	return s.Variable("gamma", init, c), s.Variable("beta", Zeros(), c)
}

// scaleShift returns gamma·x+beta, or x if there is no gamma.
func scaleShift(s *Scope, x, gamma, beta tf.Output) tf.Output {
	if gamma.Op == nil {
		return x
	}
	return Add(s, Mul(s, x, gamma), beta)
}

// standardize returns x less its mean over axes, divided by √(biased variance
// + eps). Pow, not Rsqrt, whose gradient has no gradient.
func standardize(s *Scope, x tf.Output, axes []int, eps float64) tf.Output {
	d := Sub(s, x, MeanKeep(s, x, axes...))
	variance := MeanKeep(s, Square(s, d), axes...)
	return Mul(s, d, Pow(s, Shift(s, variance, eps), -0.5))
}

func filled(n int, v float32) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = v
	}
	return out
}
