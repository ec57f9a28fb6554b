package feature

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/baselines/density"
	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/backbone"
	"thorax/graphs/nn"
)

func init() {
	framework.Register(framework.Info{
		Name: "dn2", Family: "feature",
		Source: "Bergman, Cohen & Hoshen, Deep Nearest Neighbor Anomaly Detection, arXiv 2002.10445",
		New:    func() any { return NewDN2() },
	})
}

// DN2 scores an image by the distance of its pooled features to those of the
// training images: nearest neighbours as in Bergman, Cohen & Hoshen, "Deep
// Nearest Neighbor Anomaly Detection", arXiv 2002.10445, or a Gaussian. It has
// no anomaly map.
type DN2 struct {
	Backbone   backbone.Backbone `toml:"backbone"`
	Taps       []string          `toml:"taps"`        // outputs of the backbone: each one's mean over space, joined
	UnitLength bool              `toml:"unit_length"` // feature vectors are divided by their length
	Density    string            `toml:"density"`     // knn: mean squared distance to the K nearest; gauss: squared Mahalanobis distance
	K          int               `toml:"k"`           // neighbours of knn
}

// NewDN2 returns DN2 with the defaults of the paper on EfficientNet-Lite0.
func NewDN2() *DN2 {
	return &DN2{Backbone: backbone.New(backbone.Lite0), Taps: []string{"pooled"}, Density: "knn", K: 2}
}

// Check implements [framework.Method].
func (m *DN2) Check() error {
	if err := m.Backbone.Check(); err != nil {
		return err
	}
	if err := m.Backbone.CheckTaps(m.Taps); err != nil {
		return fmt.Errorf("taps: %w", err)
	}
	if m.Density != "knn" && m.Density != "gauss" {
		return fmt.Errorf("density: %q, need knn or gauss", m.Density)
	}
	if m.K < 1 {
		return fmt.Errorf("k: %d, need 1 or more", m.K)
	}
	return nil
}

// Notes says what a reader of the results must know.
func (m *DN2) Notes() []string { return m.Backbone.Notes() }

// features maps x [B,S,S,1] to [B,D].
func (m *DN2) features(s *nn.Scope, x tf.Output) tf.Output {
	taps := m.Backbone.Features(s.In("backbone"), x, m.Taps...)
	var parts []tf.Output
	for _, tap := range m.Taps {
		f := taps[tap]
		if nn.Rank(s, f) == 4 {
			f = nn.GlobalAvgPool(s, f)
		}
		parts = append(parts, f)
	}
	f := parts[0]
	if len(parts) > 1 {
		f = nn.Concat(s, 1, parts...)
	}
	if m.UnitLength {
		f = nn.L2Normalize(s, f)
	}
	return f
}

// normal is what the training images leave behind.
type normal struct {
	memory          *nn.Variable // [-1,D], knn
	mean, whitening *nn.Variable // [D], [D,D], gauss
}

func (m *DN2) normal(s *nn.Scope, d int) normal {
	if m.Density == "knn" {
		return normal{memory: s.Buffer("memory", nn.Zeros(), -1, d)}
	}
	return normal{mean: s.Buffer("mean", nn.Zeros(), d), whitening: s.Buffer("whitening", nn.Zeros(), d, d)}
}

// Train keeps the features of all training images, or fits the Gaussian.
func (m *DN2) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	f := m.features(s.Inference(), in.Image)
	d := nn.Channels(s, f)
	v := m.normal(s, d)
	var rows []float32
	return []framework.Phase{{Name: "features", Fit: &framework.Fit{
		Over:    data.Train,
		Outputs: []tf.Output{f},
		Batch: func(outputs []framework.Rows) error {
			rows = append(rows, outputs[0].V...)
			return nil
		},
		Done: func() ([]framework.Value, error) {
			if m.Density == "knn" {
				if n := len(rows) / d; n < m.K {
					return nil, fmt.Errorf("k: %d neighbours, but there are %d training images", m.K, n)
				}
				return []framework.Value{{Variable: v.memory, Shape: []int{len(rows) / d, d}, V: rows}}, nil
			}
			g, err := density.FitGaussian(rows, d)
			if err != nil {
				return nil, err
			}
			mean := make([]float32, d)
			for i, x := range g.Mean {
				mean[i] = float32(x)
			}
			return []framework.Value{
				{Variable: v.mean, Shape: []int{d}, V: mean},
				{Variable: v.whitening, Shape: []int{d, d}, V: g.Whitening()},
			}, nil
		},
	}}}
}

// Score is the mean squared distance to the K nearest training images, or the
// squared Mahalanobis distance.
func (m *DN2) Score(s *nn.Scope, x tf.Output) framework.Scores {
	f := m.features(s, x)
	v := m.normal(s, nn.Channels(s, f))
	if m.Density == "knn" {
		_, squares := newMemory(s, s.Read(v.memory)).neighbours(s, f, m.K)
		return framework.Scores{Image: nn.Mean(s, squares, 1)}
	}
	white := nn.MatMul(s, nn.Sub(s, f, s.Read(v.mean)), s.Read(v.whitening))
	return framework.Scores{Image: nn.Sum(s, nn.Square(s, white), 1)}
}
