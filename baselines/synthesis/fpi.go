package synthesis

import (
	"fmt"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/framework/data/corrupt"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
)

func init() {
	framework.Register(framework.Info{
		Name: "fpi", Family: "synthesis",
		Source: "Tan et al., Detecting Outliers with Foreign Patch Interpolation, MELBA 2022",
		New:    func() any { return NewFPI() },
	})
}

// FPI is the foreign patch interpolation of Tan, Hou, Batten, Qiu and Kainz,
// "Detecting Outliers with Foreign Patch Interpolation", MELBA 2022: inside one
// square an image is mixed with the same place of another normal image, and a
// network estimates for each pixel the share of the other. That share is the
// anomaly map.
type FPI struct {
	Width       int  `toml:"width"`       // channels of the first convolution
	Widen       int  `toml:"widen"`       // the stages have 1, 2, 4, 4, … times widen·width channels
	Halvings    int  `toml:"halvings"`    // stages that halve the side; 5 for images of 512
	Standardise bool `toml:"standardise"` // images get mean 0 and variance 1, each by itself
	Squares
	BNMomentum float64              `toml:"bn_momentum"`                // share of a batch in the running statistics of batch norm
	ImageScore framework.ImageScore `toml:"image_score" enters:"score"` // from map to image
	Adam       optim.Adam           `toml:"adam"`
}

// Squares are the keys of [corrupt.FPI].
type Squares struct {
	Core      float64    `toml:"core"`       // share of each side, about the middle, that holds a square's centre
	HalfWidth [2]float64 `toml:"half_width"` // half a square's side as a share of the image's
	Alpha     [2]float64 `toml:"alpha"`      // share of the other image in a square
	Tolerance float64    `toml:"tolerance"`  // values equal after flooring to multiples of it do not differ
}

// NewFPI returns an FPI with the authors' settings for chest radiographs: the
// wide residual network 16-4.
//
// Deviation: the authors train on both images of a pair, in two updates one
// after the other. Here every image draws its own partner, which gives samples
// of the same distribution that do not depend on each other. Their weight decay
// of 5e-4 never reached their loss, so it is 0.
func NewFPI() *FPI {
	return &FPI{
		Width: 16, Widen: 4, Halvings: 4, Standardise: true, Squares: Squares(corrupt.NewFPI()),
		BNMomentum: 0.01, ImageScore: framework.Mean, Adam: optim.NewAdam(1e-3),
	}
}

// Check implements [framework.Method].
func (m *FPI) Check() error {
	switch {
	case m.Width < 1:
		return fmt.Errorf("width: %d, need 1 or more", m.Width)
	case m.Widen < 1:
		return fmt.Errorf("widen: %d, need 1 or more", m.Widen)
	case m.Halvings < 2 || m.Halvings > 8:
		return fmt.Errorf("halvings: %d, need 2 to 8", m.Halvings)
	case !(m.BNMomentum > 0 && m.BNMomentum <= 1):
		return fmt.Errorf("bn_momentum: %g, need above 0 and at most 1", m.BNMomentum)
	}
	if err := corrupt.FPI(m.Squares).Check(); err != nil {
		return err
	}
	if err := m.Adam.Check(); err != nil {
		return fmt.Errorf("adam.%w", err)
	}
	return m.ImageScore.Check()
}

// Corrupt mixes image i with a random other one. The mask is the share of the
// other image where the two differ. Images of the batch are standardised; they
// are not standardised again after mixing.
func (m *FPI) Corrupt(seed uint64, i int, image func(i int) data.Pixels) []framework.Sample {
	r := corrupt.Rand(seed, i)
	own, other := corrupt.Image(image(i)), corrupt.Image(image(int(r.Uint32()>>1)))
	if m.Standardise {
		own, other = corrupt.Standardise(own), corrupt.Standardise(other)
	}
	p, err := corrupt.FPI(m.Squares).Pair(r, own, other)
	if err != nil {
		return nil // images too small for a square
	}
	return []framework.Sample{{Image: data.Pixels(p.A), Clean: data.Pixels(own), Mask: data.Pixels(p.Label)}}
}

// widths returns the channels after each stage down and each stage up; the
// first stage down keeps the side, the last stage up ends at the map.
func (m *FPI) widths() (down, up []int) {
	full := m.Width * m.Widen
	down = []int{full, 2 * full}
	for len(down) < m.Halvings+1 {
		down = append(down, 4*full)
	}
	up = []int{1, m.Width}
	for i := 0; len(up) < m.Halvings; i++ {
		up = append(up, down[i])
	}
	slices.Reverse(up)
	return down, up
}

// forward maps standardised images x [B,S,S,1] to logits [B,S,S,1] of the
// share of another image.
func (m *FPI) forward(s *nn.Scope, x tf.Output) tf.Output {
	if side, cell := nn.Height(s, x), 1<<m.Halvings; side%cell != 0 || nn.Width(s, x) != side {
		s.Fail("images of %d×%d, need a side that is a multiple of %d: set size in the data block, or lower halvings",
			side, nn.Width(s, x), cell)
	}
	down, up := m.widths()
	x = nn.Conv2D(s.In("input"), x, nn.Conv{Out: m.Width, Kernel: 3, NoBias: true, Init: nn.HeNormal()})
	for i, width := range down {
		way := halve
		if i == 0 {
			way = keep
		}
		x = m.block(s.In("encoder").At(i), x, width, way)
	}
	for i, width := range up {
		x = m.block(s.In("decoder").At(i), x, width, double)
	}
	return x
}

// A way is what a block does to the side of the image.
type way int

const (
	keep way = iota
	halve
	double
)

// block is a residual block with batch norm and ReLU before each of its two
// convolutions. Where the number of channels changes the shortcut is a 1×1
// convolution of the block's activated input, else the input itself, pooled or
// repeated.
func (m *FPI) block(s *nn.Scope, x tf.Output, out int, way way) tf.Output {
	stride := 1
	if way == halve {
		stride = 2
	}
	grow := func(x tf.Output) tf.Output {
		if way == double {
			return nn.Upsample(s, x, 2)
		}
		return x
	}
	conv := func(s *nn.Scope, x tf.Output, kernel, stride int) tf.Output {
		return nn.Conv2D(s, x, nn.Conv{Out: out, Kernel: kernel, Stride: stride, NoBias: true, Init: nn.HeNormal()})
	}
	first, second := s.In("conv1"), s.In("conv2")
	h := m.activate(first, x)
	shortcut := x
	switch {
	case nn.Channels(s, x) != out:
		shortcut = grow(conv(s.In("shortcut"), h, 1, stride))
	case way == halve:
		shortcut = nn.AvgPool(s, x, 2, 2, nn.Valid)
	default:
		shortcut = grow(x)
	}
	h = grow(conv(first, h, 3, stride))
	return nn.Add(s, shortcut, conv(second, m.activate(second, h), 3, 1))
}

// activate is batch norm, with Keras's ε, and ReLU.
func (m *FPI) activate(s *nn.Scope, x tf.Output) tf.Output {
	return nn.ReLU(s, nn.BatchNorm(s.In("norm"), x, nn.BN{Eps: 1e-3, Momentum: m.BNMomentum}))
}

// Train minimises the binary cross-entropy with the shares as soft targets,
// whose least value is above 0.
func (m *FPI) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	total := loss.BinaryCrossEntropy(s, m.forward(s, in.Image), in.Mask)
	return []framework.Phase{framework.Minimize("interpolation", total, s.Trainable(), m.Adam)}
}

// Score is the estimated share of another image, in [0,1].
func (m *FPI) Score(s *nn.Scope, x tf.Output) framework.Scores {
	if m.Standardise {
		x = standardise(s, x)
	}
	share := nn.Squeeze(s, nn.Sigmoid(s, m.forward(s, x)), -1)
	return framework.Scores{Map: share, Image: m.ImageScore.Of(s, share)}
}

// standardise is [corrupt.Standardise] of x [B,S,S,1].
func standardise(s *nn.Scope, x tf.Output) tf.Output {
	d := nn.Sub(s, x, nn.MeanKeep(s, x, 1, 2, 3))
	variance := nn.MeanKeep(s, nn.Square(s, d), 1, 2, 3)
	return nn.Mul(s, d, nn.Pow(s, nn.Shift(s, variance, 1e-8), -0.5))
}
