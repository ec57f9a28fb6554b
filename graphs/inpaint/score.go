package inpaint

import (
	"math"
	"math/rand/v2"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// A Verdict turns the discriminator's logits on reconstructions into scores,
// by their mean μ and deviation σ on training images.
type Verdict struct {
	Mean, Deviation *nn.Variable // scalars; 0 and 1 until they are fitted
}

// NewVerdict returns the verdict whose variables lie on s.
func NewVerdict(s *nn.Scope) Verdict {
	return Verdict{s.Buffer("mean", nn.Zeros()), s.Buffer("deviation", nn.Ones())}
}

// Normality is φ's argument, (v-μ)/(σ+1e-8): large where the logit v [B] says
// that the reconstruction looks real.
func (d Verdict) Normality(s *nn.Scope, v tf.Output) tf.Output {
	return nn.Div(s, nn.Sub(s, v, s.Read(d.Mean)), nn.Shift(s, s.Read(d.Deviation), 1e-8))
}

// Moments returns mean and population deviation of v, 0 and 1 if it is empty.
func Moments(v []float32) (mean, deviation float64) {
	if len(v) == 0 {
		return 0, 1
	}
	for _, x := range v {
		mean += float64(x) / float64(len(v))
	}
	for _, x := range v {
		deviation += (float64(x) - mean) * (float64(x) - mean) / float64(len(v))
	}
	return mean, math.Sqrt(deviation)
}

// Jitter returns the side×side image v [side²] moved by up to 5 % of the side
// along each axis, in whole pixels, and scaled by 0.95 to 1.05 about its
// centre; pixels are those nearest, 0 beyond the border.
func Jitter(v []float32, side int, r *rand.Rand) []float32 {
	const most = 0.05
	shift := func() float64 { return math.RoundToEven(most * float64(side) * (2*r.Float64() - 1)) }
	dx, dy := shift(), shift()
	scale := 1 + most*(2*r.Float64()-1)
	from := make([]int, side) // per axis
	source := func(i int, d float64) int {
		centre := float64(side) / 2
		return int(math.Floor((float64(i)+0.5-centre-d)/scale + centre))
	}
	for j := range from {
		from[j] = source(j, dx)
	}
	out := make([]float32, side*side)
	for i := range side {
		y := source(i, dy)
		if y < 0 || y >= side {
			continue
		}
		for j, x := range from {
			if x >= 0 && x < side {
				out[i*side+j] = v[y*side+x]
			}
		}
	}
	return out
}
