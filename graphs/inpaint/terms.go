package inpaint

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// Terms are the weights of the losses.
type Terms struct {
	Reconstruction float64 `toml:"reconstruction"` // mean squared error of the student's image
	Teacher        float64 `toml:"teacher"`        // mean squared error of the teacher's image
	Distillation   float64 `toml:"distillation"`   // mean squared distance of their features, summed over up-stages
	Adversarial    float64 `toml:"adversarial"`    // cross-entropy of the discriminator's verdict and "real"
	Discriminator  float64 `toml:"discriminator"`  // the discriminator's own loss
}

// NewTerms returns the weights that both papers and all released
// configurations share.
func NewTerms() Terms {
	return Terms{Reconstruction: 10, Teacher: 0.01, Distillation: 0.001, Adversarial: 0.005, Discriminator: 0.005}
}

// A term is a weight with its key.
type term struct {
	key    string
	weight float64
}

func (t Terms) list() []term {
	return []term{
		{"reconstruction", t.Reconstruction}, {"teacher", t.Teacher}, {"distillation", t.Distillation},
		{"adversarial", t.Adversarial}, {"discriminator", t.Discriminator},
	}
}

// Check names the first weight that is out of range.
func (t Terms) Check() error {
	for _, f := range t.list() {
		if !(f.weight >= 0) {
			return fmt.Errorf("%s: %g, need 0 or more", f.key, f.weight)
		}
	}
	return nil
}

// Total is the weighted sum of the given losses, by their keys: the
// generator's loss.
func (t Terms) Total(s *nn.Scope, losses map[string]tf.Output) tf.Output {
	var sum []tf.Output
	for _, f := range t.list() {
		if y, ok := losses[f.key]; ok {
			sum = append(sum, nn.Scale(s, y, f.weight))
		}
	}
	return nn.AddN(s, sum...)
}
