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
// positions that the decoder repairs well look normal and count little. Without
// the mean only the variance counts. No gradient flows through it.
//
// The residual is pooled 2×2; variance (unbiased) and mean of its absolute value
// over the 16 pooled pixels of a position are divided by their Euclidean norms
// over the image's positions, and added.
func (r Readings) Reliability(s *nn.Scope, y, x tf.Output, withMean bool) tf.Output {
	variance, mean := r.residual(s, y, x)
	if !withMean {
		return variance
	}
	return nn.Add(s, variance, mean)
}

// residual returns variance and mean of the residual, each of unit norm.
func (r Readings) residual(s *nn.Scope, y, x tf.Output) (variance, mean tf.Output) {
	const side, area = cell / 2, cell * cell / 4
	n := nn.Height(s, x) / cell
	d := nn.MeanPool(s, nn.StopGradient(s, nn.Sub(s, y, x)), 2)
	d = nn.Reshape(s, d, -1, n, side, n, side)
	centre := nn.MeanKeep(s, d, 2, 4)
	variance = nn.Scale(s, nn.Mean(s, nn.Square(s, nn.Sub(s, d, centre)), 2, 4), area/(area-1.))
	mean = nn.Mean(s, d, 2, 4)
	if r.ReliabilityMean != Faithful {
		mean = nn.Mean(s, nn.Abs(s, d), 2, 4)
	}
	unit := func(v tf.Output) tf.Output {
		v = nn.Reshape(s, v, -1, n*n)
		norm := op.Sqrt(s.Op("norm"), nn.SumKeep(s, nn.Square(s, v), 1))
		return nn.Div(s, v, nn.Maximum(s, norm, nn.Const(s, 1e-12)))
	}
	return unit(variance), unit(mean)
}

// Weights divides w [B,HW] by its largest value, over the whole batch, where the
// mask [B,HW] is 1, and is 0 elsewhere.
func (r Readings) Weights(s *nn.Scope, w, mask tf.Output) tf.Output {
	inside := nn.Greater(s, mask, nn.Const(s, 0.5))
	largest := nn.Max(s, nn.Where(s, inside, w, nn.Const(s, -1e30)), 0, 1)
	if r.ReliabilityMean != Faithful {
		largest = nn.Maximum(s, largest, nn.Const(s, 1e-12))
	}
	return nn.StopGradient(s, nn.Mul(s, nn.Div(s, w, largest), mask))
}
