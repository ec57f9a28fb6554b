package reconstruction

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
)

// Autoencoder is the network that AE and VAE share (reference: MedIAnomaly,
// networks/ae.py): four convolutions with stride 2, a bottleneck of two linear
// layers each way, four transposed convolutions. Convolutions have no bias,
// linear layers have; "BR" below is batch norm and ReLU.
type Autoencoder struct {
	Width      int                  `toml:"width"`                      // channels of the first stage; 2, 4 and 4 times as many follow
	Hidden     int                  `toml:"hidden"`                     // units beside the code
	Latent     int                  `toml:"latent"`                     // length of the code; small, or lesions are reproduced too
	Depth      int                  `toml:"depth"`                      // convolutions a stage; the reference's network has 1
	Bottleneck string               `toml:"bottleneck"`                 // linear, or spatial: 1×1 convolutions
	ImageScore framework.ImageScore `toml:"image_score" enters:"score"` // from map to image
	Adam       optim.Adam           `toml:"adam"`
}

func newAutoencoder() Autoencoder {
	return Autoencoder{
		Width: 16, Hidden: 1024, Latent: 16, Depth: 1, Bottleneck: "linear",
		ImageScore: framework.Mean, Adam: optim.NewAdam(1e-3),
	}
}

// Check names the first field that is out of range.
func (m *Autoencoder) Check() error {
	for _, f := range []struct {
		key   string
		value int
	}{{"width", m.Width}, {"hidden", m.Hidden}, {"latent", m.Latent}, {"depth", m.Depth}} {
		if f.value < 1 {
			return fmt.Errorf("%s: %d, need 1 or more", f.key, f.value)
		}
	}
	if m.Bottleneck != "linear" && m.Bottleneck != "spatial" {
		return fmt.Errorf("bottleneck: %q, need linear or spatial", m.Bottleneck)
	}
	if err := m.Adam.Check(); err != nil {
		return fmt.Errorf("adam.%w", err)
	}
	return m.ImageScore.Check()
}

// widths returns the channels after each stage.
func (m *Autoencoder) widths() []int {
	return []int{m.Width, 2 * m.Width, 4 * m.Width, 4 * m.Width}
}

// encode maps x [B,S,S,1] to [B,S/16,S/16,4·Width].
func (m *Autoencoder) encode(s *nn.Scope, x tf.Output) tf.Output {
	if side := nn.Height(s, x); side%16 != 0 || nn.Width(s, x) != side {
		s.Fail("images of %d×%d, need a side that is a multiple of 16: set size in the data block", side, nn.Width(s, x))
	}
	for i, width := range m.widths() {
		at := s.At(i)
		x = br(at, nn.Conv2D(at, x, nn.Conv{Out: width, Kernel: 4, Stride: 2, NoBias: true}))
		x = m.same(at, x)
	}
	return x
}

// same adds the Depth-1 further 3×3 convolutions of a stage.
func (m *Autoencoder) same(s *nn.Scope, x tf.Output) tf.Output {
	for j := 1; j < m.Depth; j++ {
		at := s.In(fmt.Sprint("same", j))
		x = br(at, nn.Conv2D(at, x, nn.Conv{Out: nn.Channels(s, x), Kernel: 3, NoBias: true}))
	}
	return x
}

// code maps the encoder's output to n values: [B,n], or [B,h,w,n] if spatial.
func (m *Autoencoder) code(s *nn.Scope, h tf.Output, n int) tf.Output {
	if m.Bottleneck == "spatial" {
		h = br(s.In("in"), nn.Conv2D(s.In("in"), h, nn.Conv{Out: m.Hidden, Kernel: 1, NoBias: true}))
		return nn.Conv2D(s.In("code"), h, nn.Conv{Out: n, Kernel: 1})
	}
	h = br(s.In("in"), nn.Dense(s.In("in"), nn.Flatten(s, h), m.Hidden))
	return nn.Dense(s.In("code"), h, n)
}

// uncode maps a code back to the shape of the encoder's output h.
func (m *Autoencoder) uncode(s *nn.Scope, z, h tf.Output) tf.Output {
	if m.Bottleneck == "spatial" {
		z = br(s.In("out"), nn.Conv2D(s.In("out"), z, nn.Conv{Out: m.Hidden, Kernel: 1, NoBias: true}))
		return nn.Conv2D(s.In("decode"), z, nn.Conv{Out: nn.Channels(s, h), Kernel: 1})
	}
	z = br(s.In("out"), nn.Dense(s.In("out"), z, m.Hidden))
	return nn.ReshapeLike(s, nn.Dense(s.In("decode"), z, nn.Size(s, h)), h)
}

// decode maps h to an image of x's channels, without norm or activation at the
// end.
func (m *Autoencoder) decode(s *nn.Scope, h, x tf.Output) tf.Output {
	widths := m.widths()
	for i := len(widths) - 1; i >= 0; i-- {
		at := s.At(i)
		h = m.same(at, h)
		up := nn.Conv{Kernel: 4, Stride: 2, NoBias: true}
		if i == 0 {
			up.Out = nn.Channels(s, x)
			return nn.ConvTranspose2D(at, h, up)
		}
		up.Out = widths[i-1]
		h = br(at, nn.ConvTranspose2D(at, h, up))
	}
	return h
}

// br is batch norm and ReLU.
func br(s *nn.Scope, x tf.Output) tf.Output {
	return nn.ReLU(s, nn.BatchNorm(s.In("norm"), x, nn.BN{}))
}

// tanhRange maps [0,1] to [-1,1].
func tanhRange(s *nn.Scope, x tf.Output) tf.Output { return nn.Shift(s, nn.Scale(s, x, 2), -1) }

// residual is (x-x̂)², [B,S,S].
func residual(s *nn.Scope, x, recon tf.Output) tf.Output {
	return nn.MeanChannels(s, nn.SquaredDiff(s, x, recon))
}

// scores smooths a residual [B,S,S] with σ = S/64 pixels for the map; the image
// score comes from the residual itself.
func scores(s *nn.Scope, residual tf.Output, rule framework.ImageScore) framework.Scores {
	smooth := nn.GaussianBlur(s, residual, nn.Blur{Sigma: float64(nn.Height(s, residual)) / 64})
	return framework.Scores{Map: smooth, Image: rule.Of(s, residual)}
}
