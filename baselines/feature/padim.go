package feature

import (
	"fmt"
	"math/rand/v2"

	tf "github.com/wamuir/graft/tensorflow"
	"gonum.org/v1/gonum/mat"

	"thorax/baselines/density"
	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/backbone"
	"thorax/graphs/nn"
)

func init() {
	framework.Register(framework.Info{
		Name: "padim", Family: "feature",
		Source: "Defard et al., PaDiM: a Patch Distribution Modeling Framework, ICPR workshops 2020",
		New:    func() any { return NewPaDiM() },
	})
}

// PaDiM fits a Gaussian to the features at each position of the images:
// Defard, Setkov, Loesch & Audigier, "PaDiM: a Patch Distribution Modeling
// Framework for Anomaly Detection and Localization", ICPR workshops 2020.
type PaDiM struct {
	Backbone    backbone.Backbone    `toml:"backbone"`
	Taps        []string             `toml:"taps"`                       // outputs of the backbone, finest first; repeated to its grid and joined
	Channels    int                  `toml:"channels"`                   // features kept, drawn from all by the run's seed; 0 keeps all
	Regularizer float64              `toml:"regularizer"`                // added to the diagonal of each covariance
	Sigma       float64              `toml:"sigma"`                      // of the Gaussian that smooths the map, in pixels
	ImageScore  framework.ImageScore `toml:"image_score" enters:"score"` // of the smoothed map
}

// NewPaDiM returns PaDiM with the defaults of the paper, on EfficientNet-Lite0.
//
// Deviation: images are not cropped at the centre, which would cut the edge of
// the lungs.
func NewPaDiM() *PaDiM {
	return &PaDiM{
		Backbone: backbone.New(backbone.Lite0), Taps: []string{"reduction_2", "reduction_3", "reduction_4"},
		Channels: 100, Regularizer: 0.01, Sigma: 4, ImageScore: framework.Max,
	}
}

// Check implements [framework.Method].
func (m *PaDiM) Check() error {
	if err := m.Backbone.Check(); err != nil {
		return err
	}
	if err := checkMapTaps(m.Backbone, m.Taps); err != nil {
		return err
	}
	switch {
	case m.Channels < 0:
		return fmt.Errorf("channels: %d, need 0 (all) or more", m.Channels)
	case !(m.Regularizer > 0):
		return fmt.Errorf("regularizer: %g, need more than 0: a covariance of few images is singular", m.Regularizer)
	case !(m.Sigma >= 0):
		return fmt.Errorf("sigma: %g, need 0 or more", m.Sigma)
	}
	return m.ImageScore.Check()
}

// checkMapTaps reports taps that the backbone does not have or that have no
// position.
func checkMapTaps(b backbone.Backbone, taps []string) error {
	if err := b.CheckTaps(taps); err != nil {
		return fmt.Errorf("taps: %w", err)
	}
	for _, tap := range taps {
		if tap == "pooled" || tap == "logits" {
			return fmt.Errorf("taps: %q has no positions", tap)
		}
	}
	return nil
}

// Notes says what a reader of the results must know.
func (m *PaDiM) Notes() []string { return m.Backbone.Notes() }

// features maps x [B,S,S,1] to [B,h,w,d], on the grid of the first tap.
func (m *PaDiM) features(s *nn.Scope, x tf.Output) tf.Output {
	taps := m.Backbone.Features(s.In("backbone"), x, m.Taps...)
	first := taps[m.Taps[0]]
	parts := []tf.Output{first}
	for _, tap := range m.Taps[1:] {
		parts = append(parts, nn.ResizeNearest(s, taps[tap], nn.Height(s, first), nn.Width(s, first)))
	}
	f := first
	if len(parts) > 1 {
		f = nn.Concat(s, 3, parts...)
	}
	all := nn.Channels(s, f)
	if m.Channels == 0 || s.Err() != nil {
		return f
	}
	if m.Channels > all {
		s.Fail("channels: %d, but the taps %v have %d; 0 keeps all", m.Channels, m.Taps, all)
		return f
	}
	draw := func(shape []int, rng *rand.Rand) ([]float32, error) {
		v := make([]float32, shape[0])
		for i, c := range rng.Perm(all)[:shape[0]] {
			v[i] = float32(c)
		}
		return v, nil
	}
	kept := nn.Gather(s, f, s.Read(s.IntBuffer("channels", draw, m.Channels)), 3)
	return nn.Reshape(s, kept, -1, nn.Height(s, f), nn.Width(s, f), m.Channels)
}

// normal returns mean [P,d] and whitening [P,d,d] of the training images.
func (m *PaDiM) normal(s *nn.Scope, positions, d int) (mean, whitening *nn.Variable) {
	return s.Buffer("mean", nn.Zeros(), positions, d), s.Buffer("whitening", nn.Zeros(), positions, d, d)
}

// Train fits mean and covariance at each position, in one pass.
func (m *PaDiM) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	f := m.features(s.Inference(), in.Image)
	p, d := nn.Height(s, f)*nn.Width(s, f), nn.Channels(s, f)
	mean, whitening := m.normal(s, p, d)
	var c *scatter
	return []framework.Phase{{Name: "gaussians", Fit: &framework.Fit{
		Over:    data.Train,
		Outputs: []tf.Output{f},
		Batch: func(outputs []framework.Rows) (err error) {
			if c == nil {
				if c, err = newScatter(p, d); err != nil {
					return err
				}
			}
			return c.add(outputs[0].V, outputs[0].N)
		},
		Done: func() ([]framework.Value, error) {
			defer func() { c.close(); c = nil }()
			if c == nil || c.n < 2 {
				return nil, fmt.Errorf("padim needs 2 training images or more")
			}
			w := make([]float32, 0, p*d*d)
			err := c.covariances(func(i int, cov *mat.SymDense) error {
				for j := range d {
					cov.SetSym(j, j, cov.At(j, j)+m.Regularizer)
				}
				white, err := density.Whiten(cov)
				if err != nil {
					return fmt.Errorf("covariance at position %d of %d: %w; set a larger regularizer", i, p, err)
				}
				w = append(w, density.Rows(white)...)
				return nil
			})
			if err != nil {
				return nil, err
			}
			mu := make([]float32, p*d)
			for i, v := range c.mean {
				mu[i] = float32(v)
			}
			return []framework.Value{
				{Variable: mean, Shape: []int{p, d}, V: mu},
				{Variable: whitening, Shape: []int{p, d, d}, V: w},
			}, nil
		},
	}}}
}

// Score is the Mahalanobis distance at each position, brought to the image's
// size and smoothed.
func (m *PaDiM) Score(s *nn.Scope, x tf.Output) framework.Scores {
	f := m.features(s, x)
	h, w, d := nn.Height(s, f), nn.Width(s, f), nn.Channels(s, f)
	mean, whitening := m.normal(s, h*w, d)

	centred := nn.Sub(s, nn.Reshape(s, f, -1, h*w, d), s.Read(mean))
	byPosition := nn.Transpose(s, centred, 1, 0, 2)                                    // [P,B,d]
	white := nn.BatchMatMul(s, byPosition, s.Read(whitening), false, false)            // [P,B,d]
	distances := distance(s, nn.Sum(s, nn.Square(s, white), 2))                        // [P,B]
	grid := nn.Reshape(s, nn.Transpose(s, distances, 1, 0), -1, h, w)                  // [B,h,w]
	full := nn.ResizeMap(s, grid, nn.Height(s, x), nn.Width(s, x))                     // [B,S,S]
	smooth := nn.GaussianBlur(s, full, nn.Blur{Sigma: m.Sigma, Border: nn.HalfSample}) // [B,S,S]
	return framework.Scores{Map: smooth, Image: m.ImageScore.Of(s, smooth)}
}
