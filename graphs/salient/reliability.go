package salient

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// cell is the side in pixels of a feature position.
const cell = 8

// Reliability returns how far the repaired images y fell short of the clean
// images x, both [B,S,S,1], at each feature position: w [B,HW]. Replaced
// positions that the decoder repairs well look normal and count little. It is
// variance plus mean of the residual, each divided by its Euclidean norm over
// the image's positions; without the mean only the former.
func (r Readings) Reliability(s *nn.Scope, y, x tf.Output, withMean bool) tf.Output {
	variance, mean := r.Residual(s, y, x)
	if !withMean {
		return unit(s, variance)
	}
	return nn.Add(s, unit(s, variance), unit(s, mean))
}

// Residual returns variance (unbiased) and mean of the absolute value of the
// residual y-x, pooled 2×2, over the 16 pooled pixels of each feature position:
// [B,HW]. No gradient flows through it.
func (r Readings) Residual(s *nn.Scope, y, x tf.Output) (variance, mean tf.Output) {
	const side, area = cell / 2, cell * cell / 4
	n := nn.Height(s, x) / cell
	d := nn.MeanPool(s, nn.StopGradient(s, nn.Sub(s, y, x)), 2)
	d = nn.Reshape(s, d, -1, n, side, n, side)
	centre := nn.MeanKeep(s, d, 2, 4)
	variance = nn.Scale(s, nn.Mean(s, nn.Square(s, nn.Sub(s, d, centre)), 2, 4), area/(area-1.))
	if r.ReliabilityMean != Faithful {
		d = nn.Abs(s, d)
	}
	return nn.Reshape(s, variance, -1, n*n), nn.Reshape(s, nn.Mean(s, d, 2, 4), -1, n*n)
}

// unit divides the rows of v by their Euclidean norm, or by 1e-12.
func unit(s *nn.Scope, v tf.Output) tf.Output {
	norm := op.Sqrt(s.Op("norm"), nn.SumKeep(s, nn.Square(s, v), 1))
	return nn.Div(s, v, nn.Maximum(s, norm, nn.Const(s, 1e-12)))
}

// Weights divides w [B,HW] by its largest value, over the whole batch, where the
// mask [B,HW] is 1, and is 0 elsewhere. No gradient flows through it.
func (r Readings) Weights(s *nn.Scope, w, mask tf.Output) tf.Output {
	inside := nn.Greater(s, mask, nn.Const(s, 0.5))
	largest := nn.Max(s, nn.Where(s, inside, w, nn.Const(s, -1e30)), 0, 1)
	if r.ReliabilityMean != Faithful {
		largest = nn.Maximum(s, largest, nn.Const(s, 1e-12))
	}
	return nn.StopGradient(s, nn.Mul(s, nn.Div(s, w, largest), mask))
}
