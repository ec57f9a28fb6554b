package nn

import (
	"math"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// ReLU returns max(x, 0). It can be differentiated once; LeakyReLU(0) is the
// same function and can twice.
func ReLU(s *Scope, x tf.Output) tf.Output { return op.Relu(s.Op("relu"), x) }

// ReLU6 returns x limited to [0, 6].
func ReLU6(s *Scope, x tf.Output) tf.Output { return op.Relu6(s.Op("relu6"), x) }

// LeakyReLU returns x where x > 0, alpha·x elsewhere; 0 ≤ alpha < 1.
func LeakyReLU(s *Scope, x tf.Output, alpha float64) tf.Output {
	return op.LeakyRelu(s.Op("leaky_relu"), x, op.LeakyReluAlpha(float32(alpha)))
}

// ELU returns x where x > 0, eˣ-1 elsewhere.
func ELU(s *Scope, x tf.Output) tf.Output { return op.Elu(s.Op("elu"), x) }

// GELU returns x·Φ(x), Φ the standard normal distribution function: the exact
// form, not the tanh approximation.
func GELU(s *Scope, x tf.Output) tf.Output {
	phi := Scale(s, Shift(s, op.Erf(s.Op("erf"), Scale(s, x, math.Sqrt2/2)), 1), 0.5)
	return Mul(s, x, phi)
}

// SiLU returns x·sigmoid(x), also called swish.
func SiLU(s *Scope, x tf.Output) tf.Output { return Mul(s, x, Sigmoid(s, x)) }

// Sigmoid returns 1/(1+e⁻ˣ).
func Sigmoid(s *Scope, x tf.Output) tf.Output { return op.Sigmoid(s.Op("sigmoid"), x) }

// Tanh returns the hyperbolic tangent of x.
func Tanh(s *Scope, x tf.Output) tf.Output { return op.Tanh(s.Op("tanh"), x) }

// Softplus returns log(1+eˣ).
func Softplus(s *Scope, x tf.Output) tf.Output { return add(s, "softplus", "Softplus", x) }

// Softmax returns eˣ divided by its sum over the last axis.
func Softmax(s *Scope, x tf.Output) tf.Output { return op.Softmax(s.Op("softmax"), x) }

// LogSoftmax returns the logarithm of [Softmax], for any rank.
func LogSoftmax(s *Scope, x tf.Output) tf.Output {
	rows := Reshape(s, x, -1, Channels(s, x)) // the op's gradient is right for rank 2 only
	y := op.LogSoftmax(s.Op("log_softmax"), rows)
	if Rank(s, x) == 2 {
		return y
	}
	return ReshapeLike(s, y, x)
}
