package inpaint

import (
	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// GradCAM is the gradient-weighted activation of Selvaraju et al., "Grad-CAM:
// Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
// 2017 (eq. 1 and 2): ReLU(Σ w A) over the channels of maps A [B,h,w,C], where a
// channel's w is the mean over its positions of ∂y/∂A, bilinear to [B,side,side].
// y [B] depends on each image's own maps alone.
func GradCAM(s *nn.Scope, y, maps tf.Output, side int) tf.Output {
	gradient := nn.Gradients(s, nn.SumAll(s, y), []tf.Output{maps})[0]
	if s.Err() != nil {
		return maps
	}
	weight := nn.MeanKeep(s, gradient, 1, 2)
	cam := nn.ReLU(s, nn.Sum(s, nn.Mul(s, weight, maps), -1))
	return nn.ResizeMap(s, cam, side, side)
}
