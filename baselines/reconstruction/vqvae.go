package reconstruction

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/inpaint"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
	"thorax/graphs/quantise"
)

func init() {
	framework.Register(framework.Info{
		Name: "vqvae", Family: "reconstruction",
		Source: "van den Oord, Vinyals & Kavukcuoglu, Neural Discrete Representation Learning, NeurIPS 2017; network of Sonnet's example",
		New:    func() any { return NewVQVAE() },
	})
}

// VQVAE is the vector-quantised auto-encoder of van den Oord, Vinyals &
// Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017, in the
// network of Sonnet's example, scored by its residual. Nothing is normalised.
type VQVAE struct {
	Down         int                  `toml:"down"`     // halvings: 2 as published, 3 for a coarser grid of codes, which reproduces fewer lesions
	Width        int                  `toml:"width"`    // channels, half as many in the first and last layer
	Blocks       int                  `toml:"blocks"`   // residual layers of encoder and decoder, each
	Residual     int                  `toml:"residual"` // channels inside a residual layer
	Length       int                  `toml:"length"`   // of a code
	Quantiser    quantise.Quantiser   `toml:"quantiser"`
	Error        string               `toml:"error"`                      // l2 or l1, in scoring
	LatentWeight float64              `toml:"latent_weight"`              // λ of the distance to the nearest code in the score; 0: none
	ImageScore   framework.ImageScore `toml:"image_score" enters:"score"` // from map to image
	Augment      bool                 `toml:"augment"`                    // in training, shift by up to 5 % and scale by 0.95 to 1.05
	Adam         optim.Adam           `toml:"adam"`
}

// NewVQVAE returns a VQVAE with our defaults.
//
// Deviation: three halvings instead of two, for at 128 pixels a grid of 32×32
// codes reproduces most lesions; images are shifted and scaled a little.
func NewVQVAE() *VQVAE {
	return &VQVAE{
		Down: 3, Width: 128, Blocks: 2, Residual: 32, Length: 64,
		Quantiser: quantise.VQVAE(), Error: "l2", ImageScore: framework.Mean, Augment: true,
		Adam: optim.NewAdam(3e-4),
	}
}

// Presets are the settings of Sonnet's example; the same with the codebook of
// the paper, which a gradient moves; and our defaults with the quantiser of the
// CT method.
func (*VQVAE) Presets() map[string]any {
	sonnet := NewVQVAE()
	sonnet.Down, sonnet.Augment = 2, false
	sonnet.Quantiser.Init, sonnet.Quantiser.Restart = "uniform", false
	paper := *sonnet
	paper.Quantiser.Update, paper.Quantiser.Debias = "gradient", false
	ct := NewVQVAE()
	ct.Quantiser = quantise.RQVAE()
	return map[string]any{"sonnet": sonnet, "gradient": &paper, "ct_quantiser": ct}
}

// Check implements [framework.Method].
func (m *VQVAE) Check() error {
	if m.Down != 2 && m.Down != 3 {
		return fmt.Errorf("down: %d, need 2 or 3", m.Down)
	}
	if m.Width < 2 || m.Width%2 != 0 {
		return fmt.Errorf("width: %d, need an even number from 2 on", m.Width)
	}
	if m.Blocks < 0 {
		return fmt.Errorf("blocks: %d, need 0 or more", m.Blocks)
	}
	for _, f := range []struct {
		key   string
		value int
	}{{"residual", m.Residual}, {"length", m.Length}} {
		if f.value < 1 {
			return fmt.Errorf("%s: %d, need 1 or more", f.key, f.value)
		}
	}
	if m.Error != "l2" && m.Error != "l1" {
		return fmt.Errorf("error: %q, need l2 or l1", m.Error)
	}
	if !(m.LatentWeight >= 0) || math.IsInf(m.LatentWeight, 0) {
		return fmt.Errorf("latent_weight: %g, need 0 or more", m.LatentWeight)
	}
	if err := m.Quantiser.Check(); err != nil {
		return fmt.Errorf("quantiser.%w", err)
	}
	if err := m.Adam.Check(); err != nil {
		return fmt.Errorf("adam.%w", err)
	}
	return m.ImageScore.Check()
}

// encode maps x [B,S,S,1] in [-1/2,1/2] to z [B,S/2^Down,S/2^Down,Length].
func (m *VQVAE) encode(s *nn.Scope, x tf.Output) tf.Output {
	if side, unit := nn.Height(s, x), 1<<m.Down; s.Err() == nil && (side%unit != 0 || nn.Width(s, x) != side) {
		s.Fail("images of %d×%d, need a side that is a multiple of %d: set size in the data block", side, nn.Width(s, x), unit)
	}
	width := m.Width / 2
	for i := range m.Down {
		x = nn.ReLU(s, conv(s.In("down").At(i), x, nn.Conv{Out: width, Kernel: 4, Stride: 2}))
		width = m.Width
	}
	x = nn.ReLU(s, conv(s.In("in"), x, nn.Conv{Out: m.Width, Kernel: 3}))
	return conv(s.In("out"), m.stack(s.In("stack"), x), nn.Conv{Out: m.Length, Kernel: 1})
}

// decode maps q back to images of one channel, without activation.
func (m *VQVAE) decode(s *nn.Scope, q tf.Output) tf.Output {
	q = m.stack(s.In("stack"), conv(s.In("in"), q, nn.Conv{Out: m.Width, Kernel: 3}))
	for i := range m.Down {
		up := nn.Conv{Out: m.Width, Kernel: 4, Stride: 2}
		switch i {
		case m.Down - 1:
			up.Out = 1
		case m.Down - 2:
			up.Out = m.Width / 2
		}
		at := s.In("up").At(i)
		up.Init, up.BiasInit = sonnetInit(at, q, up), nn.Zeros()
		q = nn.ConvTranspose2D(at, q, up)
		if i < m.Down-1 {
			q = nn.ReLU(at, q)
		}
	}
	return q
}

// stack adds Blocks residual layers, then ReLU.
func (m *VQVAE) stack(s *nn.Scope, h tf.Output) tf.Output {
	for i := range m.Blocks {
		inner, outer := s.At(i).In("inner"), s.At(i).In("outer")
		r := conv(inner, nn.ReLU(inner, h), nn.Conv{Out: m.Residual, Kernel: 3})
		r = conv(outer, nn.ReLU(outer, r), nn.Conv{Out: nn.Channels(s, h), Kernel: 1, NoBias: true})
		// The bias after the sum: TensorFlow fails to fuse it before.
		h = nn.Bias(outer, nn.Add(s, h, r), nn.Zeros())
	}
	return nn.ReLU(s, h)
}

// conv is a convolution with Sonnet's first values.
func conv(s *nn.Scope, x tf.Output, c nn.Conv) tf.Output {
	c.Init, c.BiasInit = sonnetInit(s, x, c), nn.Zeros()
	return nn.Conv2D(s, x, c)
}

// sonnetInit draws from a truncated normal of standard deviation 1/√fan-in.
func sonnetInit(s *nn.Scope, x tf.Output, c nn.Conv) nn.Initializer {
	return nn.TruncatedNormal(1 / math.Sqrt(float64(c.Kernel*c.Kernel*nn.Channels(s, x))))
}

// forward reconstructs images in [0,1], in [-1/2,1/2].
func (m *VQVAE) forward(s *nn.Scope, image tf.Output) (x, recon tf.Output, q quantise.Quantised) {
	x = nn.Shift(s, image, -0.5)
	q = m.Quantiser.Build(s.In("quantiser"), m.encode(s.In("encoder"), x))
	return x, m.decode(s.In("decoder"), q.Q), q
}

// Train minimises the mean squared error over the variance of all training
// pixels, plus the quantiser's loss. A first phase finds that variance, and
// with LatentWeight a last one what the two terms of the score are divided by.
func (m *VQVAE) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	x, recon, q := m.forward(s, in.Image)
	variance := s.Buffer("variance", nn.Ones())
	error := nn.Div(s, loss.MeanSquared(s, x, recon), s.Read(variance))
	training := framework.Minimize("autoencoder", nn.Add(s, error, q.Loss), s.Trainable(), m.Adam)
	// Few active codes, less than a twentieth, are collapse.
	training.Updates[0].Log = map[string]tf.Output{
		"error": error, "commitment": q.Commitment, "active_codes": q.Active, "perplexity": q.Perplexity,
	}
	phases := []framework.Phase{m.variance(s, in, variance), training}
	if m.LatentWeight > 0 {
		phases = append(phases, m.scale(s, in))
	}
	return phases
}

// variance is the phase that finds the variance of all training pixels.
func (m *VQVAE) variance(s *nn.Scope, in framework.Inputs, variance *nn.Variable) framework.Phase {
	var mean, square float64
	return meansPhase("variance", []tf.Output{nn.MeanImage(s, in.Image), nn.MeanImage(s, nn.Square(s, in.Image))},
		[]*float64{&mean, &square}, func() ([]framework.Value, error) {
			v := square - mean*mean
			if !(v > 1e-9) {
				return nil, errors.New("all training pixels have the same value: check the images")
			}
			return []framework.Value{{Variable: variance, V: []float32{float32(v)}}}, nil
		})
}

// scale is the phase that finds the means of error and latent distance over
// training images.
func (m *VQVAE) scale(s *nn.Scope, in framework.Inputs) framework.Phase {
	pixels, cells := m.terms(s.Inference(), in.Image)
	var ofPixels, ofCells float64
	variables := m.scales(s)
	return meansPhase("scale", []tf.Output{nn.MeanImage(s, pixels), nn.MeanImage(s, cells)},
		[]*float64{&ofPixels, &ofCells}, func() ([]framework.Value, error) {
			var values []framework.Value
			for i, mean := range []float64{ofPixels, ofCells} {
				values = append(values, framework.Value{Variable: variables[i], V: []float32{float32(max(mean, 1e-12))}})
			}
			return values, nil
		})
}

// meansPhase takes the means of outputs [B] over the training images, then does
// what done does with them.
func meansPhase(name string, outputs []tf.Output, means []*float64, done func() ([]framework.Value, error)) framework.Phase {
	sums, n := make([]float64, len(outputs)), 0
	return framework.Phase{Name: name, Fit: &framework.Fit{
		Over: data.Train, Outputs: outputs,
		Batch: func(rows []framework.Rows) error {
			n += rows[0].N
			for i, r := range rows {
				for _, v := range r.V {
					sums[i] += float64(v)
				}
			}
			return nil
		},
		Done: func() ([]framework.Value, error) {
			for i, sum := range sums {
				*means[i] = sum / float64(max(n, 1))
			}
			return done()
		},
	}}
}

// scales are the means over training images of error and latent distance.
func (m *VQVAE) scales(s *nn.Scope) []*nn.Variable {
	s = s.In("scale")
	return []*nn.Variable{s.Buffer("error", nn.Ones()), s.Buffer("latent", nn.Ones())}
}

// terms returns the error of each pixel [B,S,S] and the squared distance of
// each cell to its code, a mean over channels, [B,h,w].
func (m *VQVAE) terms(s *nn.Scope, image tf.Output) (pixels, cells tf.Output) {
	x, recon, q := m.forward(s, image)
	if m.Error == "l1" {
		return nn.MeanChannels(s, nn.AbsDiff(s, x, recon)), q.Residual
	}
	return residual(s, x, recon), q.Residual
}

// Score is (x-x̂)² or |x-x̂|. With LatentWeight λ it is err/mean(err) +
// λ·q/mean(q), where q is the squared distance of each cell to its code,
// bilinearly resized, and means are over training images.
func (m *VQVAE) Score(s *nn.Scope, x tf.Output) framework.Scores {
	pixels, cells := m.terms(s, x)
	if m.LatentWeight > 0 {
		v := m.scales(s)
		cells = nn.ResizeMap(s, cells, nn.Height(s, pixels), nn.Width(s, pixels))
		pixels = nn.Add(s, nn.Div(s, pixels, s.Read(v[0])), nn.Scale(s, nn.Div(s, cells, s.Read(v[1])), m.LatentWeight))
	}
	return scores(s, pixels, m.ImageScore)
}

// Corrupt implements [framework.Corrupter]: it moves and scales training
// images a little. Nothing is made abnormal.
func (m *VQVAE) Corrupt(seed uint64, i int, image func(int) data.Pixels) []framework.Sample {
	p := image(i)
	if m.Augment {
		p.V = inpaint.Jitter(p.V, p.W, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	return []framework.Sample{{Image: p, Clean: p}}
}
