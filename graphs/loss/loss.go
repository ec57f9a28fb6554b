// Package loss holds training losses, distances and structural similarity, as
// graph functions on float32 tensors. What is called a loss is a scalar.
package loss

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// MeanSquared is the mean of (x-y)² over all elements.
func MeanSquared(s *nn.Scope, x, y tf.Output) tf.Output {
	return nn.MeanAll(s, nn.SquaredDiff(s, x, y))
}

// MeanAbsolute is the mean of |x-y| over all elements.
func MeanAbsolute(s *nn.Scope, x, y tf.Output) tf.Output {
	return nn.MeanAll(s, nn.AbsDiff(s, x, y))
}

// Huber is the mean over all elements of d²/2 where d = |x-y| ≤ delta, and of
// delta·(d - delta/2) beyond.
func Huber(s *nn.Scope, x, y tf.Output, delta float64) tf.Output {
	d := nn.AbsDiff(s, x, y)
	near := nn.Minimum(s, d, nn.Const(s, delta))
	far := nn.Sub(s, d, near)
	return nn.MeanAll(s, nn.Add(s, nn.Scale(s, nn.Square(s, near), 0.5), nn.Scale(s, far, delta)))
}

// KLStandardNormal is the divergence of N(mean, exp(logVar)) from N(0,1),
// -½(1 + logVar - mean² - exp(logVar)), averaged over batch and latent
// elements. mean and logVar have one shape.
func KLStandardNormal(s *nn.Scope, mean, logVar tf.Output) tf.Output {
	return nn.MeanAll(s, kl(s, mean, logVar))
}

// KLStandardNormalSum is [KLStandardNormal] summed over the latent elements of
// each image and averaged over the batch: the form in the variational bound.
func KLStandardNormalSum(s *nn.Scope, mean, logVar tf.Output) tf.Output {
	return nn.MeanAll(s, nn.SumImage(s, kl(s, mean, logVar)))
}

func kl(s *nn.Scope, mean, logVar tf.Output) tf.Output {
	power := nn.Add(s, nn.Square(s, mean), nn.Exp(s, logVar))
	return nn.Scale(s, nn.Shift(s, nn.Sub(s, power, logVar), -1), 0.5)
}

// CrossEntropy is the mean over rows of -Σ target·log softmax(logits), logits
// and target […,K] of one shape; rows of target sum to 1.
func CrossEntropy(s *nn.Scope, logits, target tf.Output) tf.Output {
	k := nn.Channels(s, logits)
	rows, _ := op.SoftmaxCrossEntropyWithLogits(s.Op("cross_entropy"), nn.Reshape(s, logits, -1, k), nn.Reshape(s, target, -1, k))
	return nn.MeanAll(s, rows)
}

// CrossEntropyLabels is [CrossEntropy] with class numbers (int32 or int64) of
// shape […] instead of rows.
func CrossEntropyLabels(s *nn.Scope, logits, labels tf.Output) tf.Output {
	return CrossEntropy(s, logits, nn.OneHot(s, labels, nn.Channels(s, logits)))
}

// BinaryCrossEntropy is the mean over all elements of
// -target·log p - (1-target)·log(1-p), p = sigmoid(logits), target in [0,1];
// computed from the logits without overflow.
func BinaryCrossEntropy(s *nn.Scope, logits, target tf.Output) tf.Output {
	return nn.MeanAll(s, nn.Sub(s, nn.Softplus(s, logits), nn.Mul(s, logits, target)))
}

// Focal is the mean over rows of -(1-p)^gamma·log p, p = Σ target·probability
// + 1e-5, with probabilities and one-hot target […,K], the target clipped to
// [1e-5, 1-1e-5] (Lin et al., "Focal Loss for Dense Object Detection", ICCV
// 2017, eq. 4; smoothed as anomaly segmentation networks do).
func Focal(s *nn.Scope, probabilities, target tf.Output, gamma float64) tf.Output {
	const smooth = 1e-5
	target = nn.Clip(s, target, smooth, 1-smooth)
	p := nn.Shift(s, nn.Sum(s, nn.Mul(s, target, probabilities), -1), smooth)
	weight := nn.Pow(s, nn.Maximum(s, nn.Shift(s, nn.Neg(s, p), 1), nn.Const(s, 1e-6)), gamma)
	return nn.Neg(s, nn.MeanAll(s, nn.Mul(s, weight, nn.Log(s, p))))
}

// FocalMask is [Focal] for probabilities [B,H,W,2] of normal and abnormal, and
// a mask [B,H,W] or [B,H,W,1] that is 1 where abnormal.
func FocalMask(s *nn.Scope, probabilities, mask tf.Output, gamma float64) tf.Output {
	if nn.Rank(s, mask) == 3 {
		mask = nn.ExpandDims(s, mask, -1)
	}
	normal := nn.Shift(s, nn.Neg(s, mask), 1)
	return Focal(s, probabilities, nn.Concat(s, -1, normal, mask), gamma)
}

// CosineDistance is 1 - x·y/max(|x||y|, 1e-8) along the last axis, in [0,2]:
// […,C] → […].
func CosineDistance(s *nn.Scope, x, y tf.Output) tf.Output {
	dot := nn.Sum(s, nn.Mul(s, x, y), -1)
	squares := nn.Mul(s, nn.Sum(s, nn.Square(s, x), -1), nn.Sum(s, nn.Square(s, y), -1))
	norms := nn.Pow(s, nn.Maximum(s, squares, nn.Const(s, 1e-16)), 0.5)
	return nn.Shift(s, nn.Neg(s, nn.Div(s, dot, norms)), 1)
}

// SquaredNorm is the sum of the squares of all elements of the variables: the
// penalty of weight decay is half of it times the decay.
func SquaredNorm(s *nn.Scope, vars []*nn.Variable) tf.Output {
	if len(vars) == 0 {
		s.Fail("squared norm of no variables")
		return tf.Output{}
	}
	sums := make([]tf.Output, len(vars))
	for i, v := range vars {
		sums[i] = nn.SumAll(s, nn.Square(s, s.Read(v)))
	}
	return nn.AddN(s, sums...)
}

// GradientPenalty is the mean over images of (|∂critic/∂x| - 1)², the critic's
// output being [B] or [B,1] and the norm over all of an image (Gulrajani et
// al., "Improved Training of Wasserstein GANs", NIPS 2017, eq. 3). The critic
// must consist of what can be differentiated twice: nn.LeakyReLU, nn.Conv2D,
// nn.Dense, nn.MeanPool, nn.LayerNorm, nn.ImageNorm.
func GradientPenalty(s *nn.Scope, critic, x tf.Output) tf.Output {
	g := nn.Gradients(s, nn.SumAll(s, critic), []tf.Output{x})[0]
	if s.Err() != nil {
		return tf.Output{}
	}
	g = nn.ReshapeLike(s, g, x)
	norm := nn.Pow(s, nn.Shift(s, nn.SumImage(s, nn.Square(s, g)), 1e-12), 0.5)
	return nn.MeanAll(s, nn.Square(s, nn.Shift(s, norm, -1)))
}
