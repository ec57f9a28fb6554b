// Package reconstruction holds methods that learn to reproduce normal images
// and score what they fail to reproduce.
package reconstruction

import (
	"fmt"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
)

func init() {
	framework.Register(framework.Info{
		Name: "ae", Family: "reconstruction",
		Source: "convolutional auto-encoder as in Cai et al., MedIAnomaly, Medical Image Analysis 2025",
		New:    func() any { return NewAE() },
	})
}

// AE is the plain convolutional auto-encoder of Cai et al., "MedIAnomaly: A
// comparative study of anomaly detection in medical images", Medical Image
// Analysis 2025, scored by its squared residual.
type AE struct {
	Autoencoder
	Loss string `toml:"loss"` // l2 (the paper's main one), l1 or ssim
}

// NewAE returns an AE with the defaults of the reference.
func NewAE() *AE { return &AE{Autoencoder: newAutoencoder(), Loss: "l2"} }

// Check implements [framework.Method].
func (m *AE) Check() error {
	if !slices.Contains([]string{"l2", "l1", "ssim"}, m.Loss) {
		return fmt.Errorf("loss: %q, need l2, l1 or ssim", m.Loss)
	}
	return m.Autoencoder.Check()
}

// forward maps x [B,S,S,1] in [-1,1] to its reconstruction.
func (m *AE) forward(s *nn.Scope, x tf.Output) tf.Output {
	h := m.encode(s.In("encoder"), x)
	z := m.code(s.In("bottleneck"), h, m.Latent)
	return m.decode(s.In("decoder"), m.uncode(s.In("bottleneck"), z, h), x)
}

// Train minimises the mean error over pixels and batch.
func (m *AE) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	x := tanhRange(s, in.Image)
	recon := m.forward(s, x)
	var total tf.Output
	switch m.Loss {
	case "l1":
		total = loss.MeanAbsolute(s, x, recon)
	case "ssim":
		unit := func(x tf.Output) tf.Output { return nn.Scale(s, nn.Shift(s, x, 1), 0.5) }
		total = loss.SSIM(s, unit(x), unit(recon), loss.Similarity{})
	default:
		total = loss.MeanSquared(s, x, recon)
	}
	return []framework.Phase{framework.Minimize("autoencoder", total, s.Trainable(), m.Adam)}
}

// Score is (x-x̂)²; the output is not clipped. The image score is taken before
// the map is smoothed.
func (m *AE) Score(s *nn.Scope, x tf.Output) framework.Scores {
	x = tanhRange(s, x)
	return scores(s, residual(s, x, m.forward(s, x)), m.ImageScore)
}
