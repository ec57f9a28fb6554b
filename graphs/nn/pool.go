package nn

import (
	"math"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// MaxPool returns the maximum of each k×k window: [B,H,W,C] → [B,H',W',C].
// Padding never wins.
func MaxPool(s *Scope, x tf.Output, k, stride int, pad Padding) tf.Output {
	padding := "VALID"
	if p := int(pad); pad == Same || p > 0 && sameAs(Dim(s, x, 1), k, stride, p) && sameAs(Dim(s, x, 2), k, stride, p) {
		padding = "SAME"
	} else if p > 0 {
		x = PadWith(s, x, -math.MaxFloat32, p, p, p, p)
	}
	return op.MaxPool(s.Op("max_pool"), x, strides(k), strides(stride), padding)
}

// AvgPool returns the mean of each k×k window: [B,H,W,C] → [B,H',W',C].
// Symmetric padding counts as zeros, as in PyTorch; Same padding does not
// count, as in TensorFlow.
func AvgPool(s *Scope, x tf.Output, k, stride int, pad Padding) tf.Output {
	padding := "VALID"
	if pad == Same {
		padding = "SAME"
	} else if p := int(pad); p > 0 {
		x = Pad(s, x, p, p, p, p)
	}
	return op.AvgPool(s.Op("avg_pool"), x, strides(k), strides(stride), padding)
}

// MeanPool returns the mean of each k×k cell: [B,H,W,C] → [B,H/k,W/k,C], H and W
// divisible by k. Unlike AvgPool it can be differentiated twice.
func MeanPool(s *Scope, x tf.Output, k int) tf.Output {
	h, w, c := Height(s, x), Width(s, x), Channels(s, x)
	if h%k != 0 || w%k != 0 {
		s.Fail("mean pool of %d×%d in cells of %d: not divisible", h, w, k)
	}
	return Mean(s, Reshape(s, x, -1, h/k, k, w/k, k, c), 2, 4)
}

// GlobalAvgPool returns the mean over pixels: [B,H,W,C] → [B,C].
func GlobalAvgPool(s *Scope, x tf.Output) tf.Output { return Mean(s, x, 1, 2) }

// GlobalMaxPool returns the maximum over pixels: [B,H,W,C] → [B,C].
func GlobalMaxPool(s *Scope, x tf.Output) tf.Output { return Max(s, x, 1, 2) }
