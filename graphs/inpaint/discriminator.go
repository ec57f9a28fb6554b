package inpaint

import (
	"math/bits"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// A Discriminator tells images from reconstructions.
type Discriminator struct {
	Widest int // most channels of a stage
	// PerSample normalises each image by itself in scoring, as the published
	// scores were made: the networks were never put into evaluation mode, and
	// saw one image at a time.
	PerSample bool
}

// first is the number of channels before the stages, final the side of the
// last map.
const first, final = 16, 4

// Build returns the logits [B] of x [B,S,S,1], S = 8·2ᴸ with L ≥ 1 stages; an image is
// real where they are large.
func (d Discriminator) Build(s *nn.Scope, x tf.Output) tf.Output {
	logit, _ := d.Judge(s, x)
	return logit
}

// Judge also returns the last maps [B,4,4,C], of which the logits are a linear
// function.
func (d Discriminator) Judge(s *nn.Scope, x tf.Output) (logit, maps tf.Output) {
	n := Stages(nn.Height(s, x))
	if n < 1 {
		s.Fail("the discriminator takes images of 16, 32, 64, 128 … pixels, not %d: set size in the data block", nn.Height(s, x))
		return x, x
	}
	conv := nn.Conv{Out: first, Kernel: 5, Stride: 2, Pad: nn.Symmetric(2)}
	h := nn.LeakyReLU(s, nn.Conv2D(s.In("in"), x, conv), 0.2)
	for i := range n {
		conv.Out = d.width(i)
		at := s.At(i)
		h = convNorm(at, h, conv, nn.BN{PerSample: d.PerSample && !s.Training()})
		h = nn.LeakyReLU(at, h, 0.2)
	}
	return nn.Reshape(s, nn.Dense(s.In("out"), nn.Flatten(s, h), 1), -1), h
}

// width is the number of channels of stage i.
func (d Discriminator) width(i int) int { return min(first<<(i+1), d.Widest) }

// Stages returns the number L of the discriminator's normalised stages for
// images of side 8·2ᴸ, 0 for another side.
func Stages(side int) int {
	n := bits.Len(uint(side)) - 1 - 3
	if side < 16 || side != 8<<n {
		return 0
	}
	return n
}
