package reconstruction

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
)

func init() {
	framework.Register(framework.Info{
		Name: "vae", Family: "reconstruction",
		Source: "Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014; network of MedIAnomaly",
		New:    func() any { return NewVAE() },
	})
}

// VAE is the variational auto-encoder of Kingma & Welling, "Auto-Encoding
// Variational Bayes", ICLR 2014, in the network of MedIAnomaly, scored by its
// squared residual.
type VAE struct {
	Autoencoder
	KL          float64 `toml:"kl"`                          // weight of the divergence, a mean over the code's dimensions
	TestSamples int     `toml:"test_samples" enters:"score"` // reconstructions averaged in scoring; 0: one, of the mean code
}

// NewVAE returns a VAE with the defaults of the reference.
//
// Deviation: the reference draws one code when it scores as well; the mean code
// is deterministic and no worse (test_samples = 1 restores it).
func NewVAE() *VAE { return &VAE{Autoencoder: newAutoencoder(), KL: 0.005} }

// Check implements [framework.Method].
func (m *VAE) Check() error {
	if m.KL < 0 {
		return fmt.Errorf("kl: %g, need 0 or more", m.KL)
	}
	if m.TestSamples < 0 {
		return fmt.Errorf("test_samples: %d, need 0 or more", m.TestSamples)
	}
	return m.Autoencoder.Check()
}

// encodeCode returns mean and log-variance of the code of x, and the encoder's
// output, whose shape the decoder needs.
func (m *VAE) encodeCode(s *nn.Scope, x tf.Output) (mean, logVar, h tf.Output) {
	h = m.encode(s.In("encoder"), x)
	code := m.code(s.In("bottleneck"), h, 2*m.Latent)
	parts := nn.Split(s, code, -1, 2)
	return parts[0], nn.Clip(s, parts[1], -20, 10), h
}

// decodeCode returns the image of the code z.
func (m *VAE) decodeCode(s *nn.Scope, z, h, x tf.Output) tf.Output {
	return m.decode(s.In("decoder"), m.uncode(s.In("bottleneck"), z, h), x)
}

// Train minimises the mean squared error plus KL times the divergence from the
// standard normal (the negative of eq. 10 up to scale).
func (m *VAE) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	x := tanhRange(s, in.Image)
	mean, logVar, h := m.encodeCode(s, x)
	recon := m.decodeCode(s, nn.SampleNormal(s.In("sample"), mean, logVar), h, x)
	kl := loss.KLStandardNormal(s, mean, logVar)
	error := loss.MeanSquared(s, x, recon)
	phase := framework.Minimize("autoencoder", nn.Add(s, error, nn.Scale(s, kl, m.KL)), s.Trainable(), m.Adam)
	// A divergence that falls to 0 is posterior collapse.
	phase.Updates[0].Log = map[string]tf.Output{"error": error, "kl": kl}
	return []framework.Phase{phase}
}

// Score is (x-x̂)², x̂ the reconstruction of the mean code, or the mean of that
// over the reconstructions of TestSamples drawn codes.
func (m *VAE) Score(s *nn.Scope, x tf.Output) framework.Scores {
	x = tanhRange(s, x)
	mean, logVar, h := m.encodeCode(s, x)
	if m.TestSamples == 0 {
		return scores(s, residual(s, x, m.decodeCode(s, mean, h, x)), m.ImageScore)
	}
	var residuals []tf.Output
	deviation := nn.Exp(s, nn.Scale(s, logVar, 0.5))
	for i := range m.TestSamples {
		// One draw for all images, so that scores do not depend on the batch.
		noise := nn.RandomNormal(s.In("sample").At(i), append([]int{1}, nn.Shape(s, mean)[1:]...)...)
		z := nn.Add(s, mean, nn.Mul(s, deviation, noise))
		residuals = append(residuals, residual(s, x, m.decodeCode(s, z, h, x)))
	}
	return scores(s, nn.Scale(s, nn.AddN(s, residuals...), 1/float64(m.TestSamples)), m.ImageScore)
}
