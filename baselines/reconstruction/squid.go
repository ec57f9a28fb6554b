package reconstruction

import (
	"fmt"
	"math/rand/v2"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/inpaint"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
)

func init() {
	framework.Register(framework.Info{
		Name: "squid", Family: "reconstruction",
		Source: "Xiang et al., SQUID: Deep Feature In-Painting for Unsupervised Anomaly Detection, CVPR 2023",
		New:    func() any { return NewSQUID() }, Import: ImportSQUID,
	})
}

// SQUID is the method of Xiang et al., "SQUID: Deep Feature In-Painting for
// Unsupervised Anomaly Detection", CVPR 2023 (arXiv 2111.13495): tiles of fixed
// size are painted anew from queues of the latest features of their place, and
// a discriminator's verdict on the reconstruction is the score.
type SQUID struct {
	Width         int           `toml:"width"`                // channels of the first stage, doubled by each of the four after it
	Tile          int           `toml:"tile"`                 // side of a tile in pixels, a multiple of 16; the image's side is a multiple of it
	Items         int           `toml:"items"`                // items of a queue, and of a matrix of the decoder
	TopK          int           `toml:"top_k"`                // items that may enter a read; the last of them is dropped
	Mask          float64       `toml:"mask"`                 // share of positions that pass through the memories in training, more than 0 to 1
	DiscNorm      string        `toml:"disc_norm"`            // of the discriminator in scoring: instance (each image by its own statistics, as published) or running
	Loss          inpaint.Terms `toml:"loss"`                 // weights of the terms
	Generating    optim.Adam    `toml:"generator"`            // of generator, memories and teacher; schedule.hold = 0 is an epoch
	Discriminates optim.Adam    `toml:"discriminator"`        // of the discriminator
	Critic        int           `toml:"critic"`               // updates of the discriminator for each of the generator
	Augment       bool          `toml:"augment"`              // in training, shift by up to 5 % and scale by 0.95 to 1.05
	Statistics    string        `toml:"score_stats"`          // training images behind μ and σ of the score: first201 or all; no rank depends on them
	Scale         string        `toml:"score" enters:"score"` // logit: -v, v the verdict, in the order of the published score but without ties; or release: 1-φ
}

// NewSQUID returns SQUID with the released settings for ZhangLab.
//
// Deviation: of the cosine's 300 epochs the published 200 are spread over the
// planned steps, however many they are. μ and σ come from images that are not
// augmented.
func NewSQUID() *SQUID {
	m := &SQUID{
		Width: 32, Tile: 64, Items: 200, TopK: 5, Mask: 0.95, DiscNorm: "instance",
		Loss:       inpaint.NewTerms(),
		Generating: optim.NewAdam(1e-4), Discriminates: optim.NewAdam(1e-4),
		Critic: 2, Augment: true, Statistics: "first201", Scale: "logit",
	}
	m.Generating.Beta1, m.Generating.Eps, m.Generating.WeightDecay = 0.5, 1e-7, 1e-5
	m.Generating.Schedule = optim.Schedule{Kind: "cosine", Min: 0.1, Cycle: 300. / 200}
	m.Discriminates.Beta1 = 0.5
	return m
}

// Presets are the released settings; they differ in the lowest learning rate.
func (*SQUID) Presets() map[string]any {
	chexpert := NewSQUID()
	chexpert.Generating.Schedule.Min = 0.5
	return map[string]any{"release_zhanglab": NewSQUID(), "release_chexpert": chexpert}
}

// Check implements [framework.Method].
func (m *SQUID) Check() error {
	if m.Tile < 16 || m.Tile%16 != 0 {
		return fmt.Errorf("tile: %d, need a multiple of 16", m.Tile)
	}
	if !(m.Mask > 0 && m.Mask <= 1) {
		return fmt.Errorf("mask: %g, need more than 0, up to 1", m.Mask)
	}
	for _, f := range []struct {
		key, value string
		allowed    []string
	}{
		{"disc_norm", m.DiscNorm, []string{"instance", "running"}},
		{"score_stats", m.Statistics, []string{"first201", "all"}},
		{"score", m.Scale, []string{"logit", "release"}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return fmt.Errorf("%s: %q, need one of %v", f.key, f.value, f.allowed)
		}
	}
	if err := m.Loss.Check(); err != nil {
		return fmt.Errorf("loss.%w", err)
	}
	if m.Critic < 1 {
		return fmt.Errorf("critic: %d, need 1 or more", m.Critic)
	}
	if err := m.Generating.Check(); err != nil {
		return fmt.Errorf("generator.%w", err)
	}
	if err := m.Discriminates.Check(); err != nil {
		return fmt.Errorf("discriminator.%w", err)
	}
	return m.network(m.Tile).Check()
}

// generator is the network for the images x. Tiles keep their size, so that
// larger images have more of them.
func (m *SQUID) generator(s *nn.Scope, x tf.Output) inpaint.Generator {
	side := nn.Height(s, x)
	if s.Err() == nil && side%m.Tile != 0 {
		s.Fail("images of %d×%d, need a side that is a multiple of tile, %d: set size in the data block, or tile", side, side, m.Tile)
		side = m.Tile
	}
	return m.network(side)
}

func (m *SQUID) network(side int) inpaint.Generator {
	return inpaint.Generator{
		Width: m.Width, Patches: side / m.Tile, Output: "sigmoid",
		Inpainting: "transformer", Store: "queue", Memory: "per_tile", Items: m.Items,
		Lookup:  inpaint.Lookup{TopK: m.TopK, Rule: "strict"},
		Decoder: []string{"v1", "v1"}, Skip: []string{"concat", "concat", "none", "none"},
		MaskInpainting: m.Mask, MaskDecoder: m.Mask, Teacher: true, StopGradient: true,
	}
}

// discriminate returns the logits [B] of x: large where it looks real.
func (m *SQUID) discriminate(s *nn.Scope, x tf.Output) tf.Output {
	d := inpaint.Discriminator{Widest: 128, PerSample: m.DiscNorm == "instance"}
	return d.Build(s.In("discriminator"), x)
}

// Train lets discriminator and generator learn against each other and then
// takes the statistics of the score.
//
// Deviation: one forward pass of the generator, with one draw of the masks,
// serves both updates, as in the authors' later code.
func (m *SQUID) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	x := in.Image
	g := m.generator(s, x)
	f := g.Build(s.In("generator"), x)
	g.Teach(s.In("generator"), f)
	told := map[string]tf.Output{ // cross-entropies
		"real": nn.MeanAll(s, nn.Softplus(s, nn.Neg(s, m.discriminate(s, x)))),
		"fake": nn.MeanAll(s, nn.Softplus(s, m.discriminate(s, nn.StopGradient(s, f.Recon)))),
	}
	terms := map[string]tf.Output{
		"reconstruction": loss.MeanSquared(s, f.Recon, x),
		"teacher":        loss.MeanSquared(s, f.Lesson, x),
		"distillation":   f.Distance(s),
	}
	optimizer := m.Generating
	if optimizer.Schedule.Hold == 0 {
		optimizer.Schedule.Hold = max(in.Images/(in.Batch*m.Critic), 1)
	}
	adversaries := framework.Phase{Name: "adversaries", Updates: []framework.Update{{
		Name: "discriminator",
		Loss: func(s *nn.Scope) tf.Output {
			return nn.Scale(s, nn.Add(s, told["real"], told["fake"]), m.Loss.Discriminator)
		},
		Vars: s.In("discriminator").Trainable(), Optimizer: m.Discriminates, Log: told,
	}, {
		Name: "generator",
		Loss: func(s *nn.Scope) tf.Output { // the discriminator on s is the updated one
			terms["adversarial"] = nn.MeanAll(s, nn.Softplus(s, nn.Neg(s, m.discriminate(s, f.Recon))))
			f.Queue.Push(s)
			return m.Loss.Total(s, terms)
		},
		Vars: s.In("generator").Trainable(), Optimizer: optimizer, Every: m.Critic, Log: terms,
	}}}
	return []framework.Phase{adversaries, m.statistics(s, in)}
}

// statistics is the phase that finds μ and σ of the verdicts on training
// images.
func (m *SQUID) statistics(s *nn.Scope, in framework.Inputs) framework.Phase {
	_, logit := m.judge(s.Inference(), in.Image)
	verdict := inpaint.NewVerdict(s.In("verdict"))
	var seen []float32
	return framework.Phase{Name: "statistics", Fit: &framework.Fit{
		Over: data.Train, Outputs: []tf.Output{logit},
		Batch: func(outputs []framework.Rows) error {
			seen = append(seen, outputs[0].V...)
			return nil
		},
		Done: func() ([]framework.Value, error) {
			if m.Statistics == "first201" {
				seen = seen[:min(len(seen), 201)]
			}
			mean, deviation := inpaint.Moments(seen)
			return []framework.Value{
				{Variable: verdict.Mean, V: []float32{float32(mean)}},
				{Variable: verdict.Deviation, V: []float32{float32(deviation)}},
			}, nil
		},
	}}
}

// judge reconstructs images and returns the discriminator's verdict on the
// reconstructions.
func (m *SQUID) judge(s *nn.Scope, x tf.Output) (recon, logit tf.Output) {
	recon = m.generator(s, x).Build(s.In("generator"), x).Recon
	return recon, m.discriminate(s, recon)
}

// Score is 1-φ((v-μ)/(σ+1e-8)), φ the sigmoid and v the discriminator's logit
// on the reconstruction; by default -v, which has the same order, without ties
// where φ saturates. The map is |x-x̂|, smoothed; it is no part of the method.
func (m *SQUID) Score(s *nn.Scope, x tf.Output) framework.Scores {
	recon, logit := m.judge(s, x)
	score := nn.Neg(s, logit)
	if m.Scale == "release" {
		score = nn.Sigmoid(s, nn.Neg(s, inpaint.NewVerdict(s.In("verdict")).Normality(s, logit)))
	}
	residual := nn.MeanChannels(s, nn.AbsDiff(s, x, recon))
	smooth := nn.GaussianBlur(s, residual, nn.Blur{Sigma: float64(nn.Height(s, x)) / 64})
	return framework.Scores{Map: smooth, Image: score}
}

// Corrupt implements [framework.Corrupter]: it moves and scales training
// images a little. Nothing is made abnormal.
func (m *SQUID) Corrupt(seed uint64, i int, image func(int) data.Pixels) []framework.Sample {
	p := image(i)
	if m.Augment {
		p.V = inpaint.Jitter(p.V, p.W, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	return []framework.Sample{{Image: p, Clean: p}}
}
