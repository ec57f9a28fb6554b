// Package proposed holds the methods of our own papers.
package proposed

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
		Name: "simsid", Family: "proposed",
		Source: "Xiang et al., Exploiting Structural Consistency of Chest Anatomy for Unsupervised Anomaly Detection in Radiography Images, TPAMI 2024",
		New:    func() any { return NewSimSID() }, Import: ImportSimSID,
	})
}

// SimSID is the method of Xiang et al., "Exploiting Structural Consistency of
// Chest Anatomy for Unsupervised Anomaly Detection in Radiography Images",
// TPAMI 2024 (arXiv 2403.08689). In radiographs anatomy lies where it always
// lies: the generator cuts an image into tiles and paints each anew from what
// memories of normal images hold of its place and of its neighbours. What is not
// normal is painted badly, and a discriminator, trained to tell images from
// reconstructions, notices.
type SimSID struct {
	inpaint.Generator
	HideTiles     float64       `toml:"hide_tiles"`           // with inpainting = "pixel": probability that a tile of the input is hidden in training, 0 to 1
	DiscNorm      string        `toml:"disc_norm"`            // of the discriminator in scoring: instance (each image by its own statistics, as published) or running
	Loss          inpaint.Terms `toml:"loss"`                 // weights of the terms
	Generating    optim.Adam    `toml:"generator"`            // of generator, memories and teacher; schedule.hold = 0 is an epoch
	Discriminates optim.Adam    `toml:"discriminator"`        // of the discriminator; schedule.hold = 0 is an epoch
	Critic        int           `toml:"critic"`               // updates of the discriminator for each of the generator
	Augment       bool          `toml:"augment"`              // in training, shift by up to 5 % and scale by 0.95 to 1.05
	Statistics    string        `toml:"score_stats"`          // training images behind μ and σ of the score: all or first201; no rank depends on them
	Scale         string        `toml:"score" enters:"score"` // logit: -v, v the verdict, in the order of the released score but without ties; release: 1-φ; paper: φ as printed, which is larger for normal images
	Map           string        `toml:"map" enters:"score"`   // none, as published; residual: |x-x̂|; or gradcam: of the discriminator's last maps. Neither is part of the method
}

// NewSimSID returns SimSID as the paper has it (§4.2, §5.2), with the losses of
// the released code.
//
// Deviation: the cosine spans the planned steps, however many they are; the
// paper's are 200 epochs. μ and σ come from images that are not augmented.
func NewSimSID() *SimSID {
	cosine := optim.NewAdam(1e-4)
	cosine.Beta1, cosine.WeightDecay = 0.5, 1e-5
	cosine.Schedule = optim.Schedule{Kind: "cosine", Min: 0.2, Cycle: 1}
	m := &SimSID{
		Generator: inpaint.Generator{
			Width: 32, Patches: 4, Output: "tanh", Inpainting: "transformer", Store: "matrix", Memory: "per_tile", Items: 100,
			Lookup:  inpaint.Lookup{TopK: 5, Rule: "strict"},
			Decoder: []string{"v1", "v1"}, Skip: []string{"concat", "concat", "none", "none"},
			MaskInpainting: 1, MaskDecoder: 1, Teacher: true, StopGradient: true,
		},
		HideTiles: 0.25, DiscNorm: "instance",
		Loss:       inpaint.NewTerms(),
		Generating: cosine, Discriminates: cosine, Critic: 2, Augment: true,
		Statistics: "all", Scale: "logit", Map: "none",
	}
	m.Generating.Eps = 1e-7
	return m
}

// Presets are the paper's settings and those of the three configurations that
// were released, which differ from it: 2×2 tiles, 200 items, no decay and a
// constant rate for the discriminator, schedules that climb again. That of
// ZhangLab is, by its components, the ablation with a memory queue.
//
// The released CheXpert and COVIDx files also replace 10 % and 30 % of the
// training normals by abnormal images, left over from a contamination study:
// the data block's business, and off by default.
func (*SimSID) Presets() map[string]any {
	release := func(store string, mask, lowest, cycle float64) *SimSID {
		m := NewSimSID()
		m.Patches, m.Items, m.Store, m.MaskInpainting = 2, 200, store, mask
		m.Generating.Schedule.Min, m.Generating.Schedule.Cycle = lowest, cycle
		m.Discriminates.WeightDecay, m.Discriminates.Schedule = 0, optim.Schedule{}
		m.Statistics = "first201"
		return m
	}
	return map[string]any{
		"paper":            NewSimSID(),
		"release_zhanglab": release("queue", 1, 0.1, 300./1000), // T_max over epochs
		"release_chexpert": release("matrix", 0.9, 0.5, 300./600),
		"release_covidx":   release("matrix", 1, 0.1, 300./300),
	}
}

// Check implements [framework.Method].
func (m *SimSID) Check() error {
	if err := m.Generator.Check(); err != nil {
		return err
	}
	for _, f := range []struct {
		key, value string
		allowed    []string
	}{
		{"disc_norm", m.DiscNorm, []string{"instance", "running"}},
		{"score_stats", m.Statistics, []string{"all", "first201"}},
		{"score", m.Scale, []string{"logit", "release", "paper"}},
		{"map", m.Map, []string{"none", "residual", "gradcam"}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return fmt.Errorf("%s: %q, need one of %v", f.key, f.value, f.allowed)
		}
	}
	if err := m.Loss.Check(); err != nil {
		return fmt.Errorf("loss.%w", err)
	}
	if !(m.HideTiles >= 0 && m.HideTiles < 1) {
		return fmt.Errorf("hide_tiles: %g, need at least 0 and less than 1", m.HideTiles)
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
	return nil
}

// Notes says of a run with anomaly maps whose they are.
func (m *SimSID) Notes() []string {
	if m.Map == "none" {
		return nil
	}
	return []string{fmt.Sprintf("map = %q: the anomaly maps are no part of the method, whose authors define none", m.Map)}
}

// discriminate returns the logits [B] of x: large where it looks real.
func (m *SimSID) discriminate(s *nn.Scope, x tf.Output) tf.Output {
	logit, _ := m.explain(s, x)
	return logit
}

// explain also returns the discriminator's last maps.
func (m *SimSID) explain(s *nn.Scope, x tf.Output) (logit, maps tf.Output) {
	d := inpaint.Discriminator{Widest: 256, PerSample: m.DiscNorm == "instance"}
	return d.Judge(s.In("discriminator"), x)
}

// Train lets discriminator and generator learn against each other, one forward
// pass of the generator for both, and then takes the statistics of the score.
//
// Deviation: batches are always full, and the turns of the generator do not
// begin anew with an epoch. The teacher runs in its turns only; in others its
// batch norms, which nothing reads, keep their running statistics.
func (m *SimSID) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	r := m.play(s, in.Image)
	return []framework.Phase{m.adversaries(s, in, r), m.statistics(s, in)}
}

// A round is one forward pass in training.
type round struct {
	x          tf.Output // images, in the generator's range
	f          *inpaint.Features
	real, fake tf.Output // the discriminator's verdicts on them and on their reconstructions
}

func (m *SimSID) play(s *nn.Scope, image tf.Output) round {
	r := round{x: m.Unit(s, image)}
	seen := r.x
	if m.Inpainting == "pixel" {
		seen = inpaint.Hide(s.In("hide"), r.x, m.Patches, m.HideTiles)
	}
	r.f = m.Build(s.In("generator"), seen)
	r.real = m.discriminate(s, r.x)
	r.fake = m.discriminate(s, nn.StopGradient(s, r.f.Recon))
	if m.Teacher {
		m.Teach(s.In("generator"), r.f)
	}
	return r
}

// adversaries is the phase that trains both networks.
func (m *SimSID) adversaries(s *nn.Scope, in framework.Inputs, r round) framework.Phase {
	x, f := r.x, r.f
	terms := map[string]tf.Output{}
	told := map[string]tf.Output{ // cross-entropies
		"real": nn.MeanAll(s, nn.Softplus(s, nn.Neg(s, r.real))),
		"fake": nn.MeanAll(s, nn.Softplus(s, r.fake)),
	}
	discriminator := framework.Update{
		Name: "discriminator",
		Loss: func(s *nn.Scope) tf.Output {
			return nn.Scale(s, nn.Add(s, told["real"], told["fake"]), m.Loss.Discriminator)
		},
		Vars:      s.In("discriminator").Trainable(),
		Optimizer: perEpoch(m.Discriminates, in, 1),
		Log:       told,
	}
	generator := framework.Update{
		Name: "generator",
		Loss: func(s *nn.Scope) tf.Output { // the discriminator on s is the updated one
			verdict := m.discriminate(s, f.Recon)
			terms["reconstruction"] = loss.MeanSquared(s, f.Recon, x)
			terms["adversarial"] = nn.MeanAll(s, nn.Softplus(s, nn.Neg(s, verdict)))
			if m.Teacher {
				terms["teacher"] = loss.MeanSquared(s, f.Lesson, x)
				terms["distillation"] = f.Distance(s)
			}
			if f.Queue != nil {
				f.Queue.Push(s)
			}
			return m.Loss.Total(s, terms)
		},
		Vars:      s.In("generator").Trainable(),
		Optimizer: perEpoch(m.Generating, in, m.Critic),
		Every:     m.Critic,
		Log:       terms,
	}
	return framework.Phase{Name: "adversaries", Updates: []framework.Update{discriminator, generator}}
}

// perEpoch changes the rate of an optimiser that steps every few iterations
// once an epoch, unless it says when.
func perEpoch(o optim.Adam, in framework.Inputs, every int) optim.Adam {
	if o.Schedule.Hold == 0 {
		o.Schedule.Hold = max(in.Images/max(in.Batch*every, 1), 1)
	}
	return o
}

// statistics is the phase that finds μ and σ of the verdicts on training
// images.
func (m *SimSID) statistics(s *nn.Scope, in framework.Inputs) framework.Phase {
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

// judge reconstructs images in [0,1] and returns the discriminator's verdict
// on the reconstructions; on the images themselves it is not asked. Grad-CAM is that
// of -v, the score.
func (m *SimSID) judge(s *nn.Scope, image tf.Output) (anomaly, logit tf.Output) {
	x := m.Unit(s, image)
	recon := m.Build(s.In("generator"), x).Recon
	logit, maps := m.explain(s, recon)
	switch m.Map {
	case "residual":
		anomaly = nn.MeanChannels(s, nn.AbsDiff(s, x, recon))
	case "gradcam":
		anomaly = inpaint.GradCAM(s, nn.Neg(s, logit), maps, nn.Height(s, x))
	}
	return anomaly, logit
}

// Score is 1-φ((v-μ)/(σ+1e-8)), φ the sigmoid and v the discriminator's logit
// on the reconstruction, as released. By default it is -v, which has the same
// order: where φ saturates, images tie.
//
// Deviation: eq. 2 of the paper prints φ alone; with a discriminator that is
// trained to give large logits to real images it is larger for normal ones.
func (m *SimSID) Score(s *nn.Scope, x tf.Output) framework.Scores {
	anomaly, logit := m.judge(s, x)
	normality := func() tf.Output { return inpaint.NewVerdict(s.In("verdict")).Normality(s, logit) }
	scores := framework.Scores{Map: anomaly}
	switch m.Scale {
	case "release":
		scores.Image = nn.Sigmoid(s, nn.Neg(s, normality()))
	case "paper":
		scores.Image = nn.Sigmoid(s, normality())
	default:
		scores.Image = nn.Neg(s, logit)
	}
	return scores
}

// Corrupt implements [framework.Corrupter]: it moves and scales training
// images a little. Nothing is made abnormal.
func (m *SimSID) Corrupt(seed uint64, i int, image func(int) data.Pixels) []framework.Sample {
	p := image(i)
	if m.Augment {
		p.V = inpaint.Jitter(p.V, p.W, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	return []framework.Sample{{Image: p, Clean: p}}
}
