package synthesis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/baselines/density"
	"thorax/framework"
	"thorax/framework/data"
	"thorax/framework/data/corrupt"
	"thorax/graphs/backbone"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
)

func init() {
	framework.Register(framework.Info{
		Name: "cutpaste", Family: "synthesis",
		Source: "Li et al., CutPaste: Self-Supervised Learning for Anomaly Detection and Localization, CVPR 2021",
		New:    func() any { return NewCutPaste() },
	})
}

// CutPaste is the method of Li, Sohn, Yoon and Pfister, "CutPaste:
// Self-Supervised Learning for Anomaly Detection and Localization", CVPR 2021,
// trained from scratch: a network learns to tell images from images into which
// a patch of their own was pasted, the proxy task; a density on its embeddings
// of the training images scores new ones.
type CutPaste struct {
	Variant    string  `toml:"variant"`     // classes beside the images: 3way (a patch; a scar), union (either, one class), normal or scar
	Channels   string  `toml:"channels"`    // of the network's input: grey, or rgb: grey three times, normalised as for ImageNet
	WidthScale float64 `toml:"width_scale"` // of all widths of the ResNet-18; 0.25 has 128 features instead of 512
	HeadLayers int     `toml:"head_layers"` // hidden layers of the projection head; 0 to 16
	Patches
	Density      string               `toml:"density"`                    // image score: gde (Gaussian), kde (kernels), or classifier: 1 - probability of normal
	KDEBandwidth string               `toml:"kde_bandwidth"`              // fixed: 1; google: from the variance of the embeddings
	Map          string               `toml:"map"`                        // gradcam or none
	CAMTarget    string               `toml:"cam_target"`                 // what gradcam explains: score, or logit: log-odds of a synthetic anomaly
	ImageScore   framework.ImageScore `toml:"image_score" enters:"score"` // from map to image; "": the density, as in the paper
	SGD          optim.SGD            `toml:"sgd"`
}

// Patches are the keys of [corrupt.CutPaste].
type Patches struct {
	Jitter      float64    `toml:"jitter"`       // colour jitter of the image and once more of the patch, in [0,1]
	Area        [2]float64 `toml:"area"`         // of a patch, as a share of the image
	Aspect      [2]float64 `toml:"aspect"`       // width over height of a patch, log-uniform
	ScarWidth   [2]float64 `toml:"scar_width"`   // in pixels at a side of 256
	ScarHeight  [2]float64 `toml:"scar_height"`  // in pixels at a side of 256
	ScarDegrees float64    `toml:"scar_degrees"` // a scar is turned by at most this angle
}

// NewCutPaste returns a 3-way CutPaste with the paper's settings.
//
// Deviation: one grey input channel, since images are grey, and Grad-CAM for
// the anomaly map instead of a second network for patches.
func NewCutPaste() *CutPaste {
	sgd := optim.NewSGD(0.03, 0.9)
	sgd.WeightDecay, sgd.Schedule.Kind = 3e-5, "cosine"
	return &CutPaste{
		Variant: "3way", Channels: "grey", WidthScale: 1, HeadLayers: 1, Patches: Patches(corrupt.NewCutPaste()),
		Density: "gde", KDEBandwidth: "fixed", Map: "gradcam", CAMTarget: "score", SGD: sgd,
	}
}

// Check implements [framework.Method].
func (m *CutPaste) Check() error {
	for _, f := range []struct {
		key, value string
		allowed    []string
	}{
		{"variant", m.Variant, []string{"3way", "union", "normal", "scar"}},
		{"channels", m.Channels, []string{"grey", "rgb"}},
		{"density", m.Density, []string{"gde", "kde", "classifier"}},
		{"kde_bandwidth", m.KDEBandwidth, []string{"fixed", "google"}},
		{"map", m.Map, []string{"gradcam", "none"}},
		{"cam_target", m.CAMTarget, []string{"score", "logit"}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return fmt.Errorf("%s: %q, need one of %s", f.key, f.value, strings.Join(f.allowed, ", "))
		}
	}
	switch {
	case !(m.WidthScale >= 1./64 && m.WidthScale <= 4):
		return fmt.Errorf("width_scale: %g, need 1/64 to 4", m.WidthScale)
	case m.HeadLayers < 0 || m.HeadLayers > 16:
		return fmt.Errorf("head_layers: %d, need 0 to 16", m.HeadLayers)
	}
	if err := corrupt.CutPaste(m.Patches).Check(); err != nil {
		return err
	}
	if err := m.SGD.Check(); err != nil {
		return fmt.Errorf("sgd.%w", err)
	}
	if m.ImageScore == "" {
		return nil
	}
	if m.Map == "none" {
		return fmt.Errorf("image_score: %q given with map none; leave it out, or set map to gradcam", m.ImageScore)
	}
	return m.ImageScore.Check()
}

// Corrupt returns the jittered image and its synthetic anomalies, labelled by
// class: 0, 1 and, 3-way, 2.
func (m *CutPaste) Corrupt(seed uint64, i int, image func(i int) data.Pixels) []framework.Sample {
	r := corrupt.Rand(seed, i)
	clean := corrupt.Jitter(r, corrupt.Image(image(i)), m.Jitter)
	samples := []framework.Sample{{Image: data.Pixels(clean), Clean: data.Pixels(clean)}}
	for k, draw := range m.anomalies() {
		pasted, mask, err := draw(r, clean)
		if err != nil {
			return nil // images too small for a patch
		}
		samples = append(samples, framework.Sample{
			Image: data.Pixels(pasted), Clean: data.Pixels(clean), Mask: data.Pixels(mask), Label: int64(k + 1),
		})
	}
	return samples
}

// A draw makes a synthetic anomaly and its mask from an image.
type draw = func(r *rand.Rand, im corrupt.Image) (pasted, mask corrupt.Image, err error)

// anomalies returns what makes each class of the proxy task but the first.
func (m *CutPaste) anomalies() []draw {
	c := corrupt.CutPaste(m.Patches)
	switch m.Variant {
	case "union":
		return []draw{c.Union}
	case "normal":
		return []draw{c.Normal}
	case "scar":
		return []draw{c.Scar}
	}
	return []draw{c.Normal, c.Scar}
}

// trunk maps x [B,S,S,1] to layer4 of the network [B,S/32,S/32,D] and its mean
// over pixels [B,D], D = 512·WidthScale.
func (m *CutPaste) trunk(s *nn.Scope, x tf.Output) (layer4, features tf.Output) {
	if side := nn.Height(s, x); side%32 != 0 || nn.Width(s, x) != side {
		s.Fail("images of %d×%d, need a side that is a multiple of 32: set size in the data block", side, nn.Width(s, x))
	}
	if m.Channels == "rgb" {
		x = nn.Sub(s, x, nn.Consts(s, []float32{0.485, 0.456, 0.406}, 3)) // repeats grey
		x = nn.Div(s, x, nn.Consts(s, []float32{0.229, 0.224, 0.225}, 3))
	} else {
		x = nn.Shift(s, nn.Scale(s, x, 2), -1)
	}
	return backbone.ResNet18Trunk(s.In("trunk"), x, backbone.ResNetOptions{WidthScale: m.WidthScale})
}

// codeWidth is the length of the projection head's output.
const codeWidth = 128

// logits maps features [B,D] to the classes [B,K], through the projection head.
func (m *CutPaste) logits(s *nn.Scope, features tf.Output) tf.Output {
	h, d := features, nn.Channels(s, features)
	layer := func(s *nn.Scope, width int) {
		h = nn.ReLU(s, nn.BatchNorm(s.In("norm"), nn.Dense(s, h, width), nn.BN{}))
	}
	for i := range m.HeadLayers {
		layer(s.In("head").At(i), d)
	}
	layer(s.In("head").In("code"), codeWidth)
	return nn.Dense(s.In("classes"), h, 1+len(m.anomalies()))
}

// Train minimises the cross-entropy of the proxy task, then fits the density
// to the embeddings of the training images as they are.
func (m *CutPaste) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	_, features := m.trunk(s, in.Image)
	logits := m.logits(s, features)
	total := loss.CrossEntropyLabels(s, logits, in.Label)
	proxy := framework.Minimize("proxy", total, s.Trainable(), m.SGD)
	// Near 1 within a few hundred steps means that edges of patches are found.
	right := nn.Equal(s, nn.ArgMax(s, logits, 1), in.Label)
	proxy.Updates[0].Log = map[string]tf.Output{"accuracy": nn.MeanAll(s, nn.Cast(s, right, tf.Float))}
	if m.Density == "classifier" {
		return []framework.Phase{proxy}
	}
	_, features = m.trunk(s.Inference(), in.Image)
	return []framework.Phase{proxy, {Name: "density", Fit: m.fit(s, nn.L2Normalize(s, features))}}
}

// fit gathers embeddings [B,D] of length 1 and gives the density its values.
func (m *CutPaste) fit(s *nn.Scope, embedding tf.Output) *framework.Fit {
	d := nn.Channels(s, embedding)
	vars := newDensityVars(s, m.Density, d)
	var rows []float32
	return &framework.Fit{
		Over: data.Train, Outputs: []tf.Output{embedding},
		Batch: func(outputs []framework.Rows) error {
			rows = append(rows, outputs[0].V...)
			return nil
		},
		Done: func() ([]framework.Value, error) {
			defer func() { rows = nil }()
			if m.Density == "kde" {
				return vars.kernels(rows, d, m.KDEBandwidth)
			}
			return vars.gaussian(rows, d)
		},
	}
}

// Score is the density of the embedding, or the classifier's probability of a
// synthetic anomaly. The map is Grad-CAM of that score or of the log-odds.
func (m *CutPaste) Score(s *nn.Scope, x tf.Output) framework.Scores {
	layer4, features := m.trunk(s, x)
	classifier := m.Density == "classifier"
	var logits, score tf.Output
	if classifier || m.Map == "gradcam" && m.CAMTarget == "logit" {
		logits = m.logits(s, features)
	}
	if classifier {
		_, anomalous := m.split(s, nn.Softmax(s, logits))
		score = nn.Sum(s, anomalous, 1)
	} else {
		vars := newDensityVars(s, m.Density, nn.Channels(s, features))
		score = vars.score(s, nn.L2Normalize(s, features))
	}
	if m.Map == "none" {
		return framework.Scores{Image: score}
	}
	target := score
	if m.CAMTarget == "logit" {
		normal, anomalous := m.split(s, nn.LogSoftmax(s, logits))
		target = nn.Sub(s, logSumExp(s, anomalous), nn.Squeeze(s, normal, 1))
	}
	cam := gradCAM(s, target, layer4, features)
	side := nn.Height(s, x)
	cam = nn.GaussianBlur(s, nn.ResizeMap(s, cam, side, side), nn.Blur{Sigma: float64(side) / 32})
	if m.ImageScore != "" {
		score = m.ImageScore.Of(s, cam)
	}
	return framework.Scores{Map: cam, Image: score}
}

// split cuts columns [B,K] into normal [B,1] and synthetic anomalies [B,K-1].
func (m *CutPaste) split(s *nn.Scope, x tf.Output) (normal, anomalous tf.Output) {
	return nn.Slice(s, x, []int{0, 0}, []int{-1, 1}), nn.Slice(s, x, []int{0, 1}, []int{-1, -1})
}

// gradCAM is the sum of the channels of layer4 [B,h,w,D], weighted by their
// influence on the target [B] and cut at 0: [B,h,w] (Selvaraju et al.,
// "Grad-CAM", ICCV 2017, eq. 1 and 2). The target depends on layer4 by its mean
// over pixels, features, alone; so each pixel has the same influence.
func gradCAM(s *nn.Scope, target, layer4, features tf.Output) tf.Output {
	gradient := nn.Gradients(s, nn.SumAll(s, target), []tf.Output{features})[0]
	h, w, d := nn.Height(s, layer4), nn.Width(s, layer4), nn.Channels(s, layer4)
	influence := nn.Scale(s, nn.Reshape(s, gradient, -1, 1, 1, d), 1/float64(h*w))
	return nn.ReLU(s, nn.Sum(s, nn.Mul(s, layer4, influence), -1))
}

// logSumExp is log Σ exp over the last axis, which disappears.
func logSumExp(s *nn.Scope, x tf.Output) tf.Output {
	top := nn.StopGradient(s, nn.MaxKeep(s, x, -1))
	return nn.Add(s, nn.Log(s, nn.Sum(s, nn.Exp(s, nn.Sub(s, x, top)), -1)), nn.Squeeze(s, top, -1))
}

// densityVars are the variables of a fitted density on D features.
type densityVars struct {
	mean    *nn.Variable // [D]
	whiten  *nn.Variable // gde [D,D]
	centred *nn.Variable // kde [n,D], training embeddings less their mean
	kernel  *nn.Variable // kde [2], Gamma and Scale of density.KDE
}

func newDensityVars(s *nn.Scope, kind string, d int) densityVars {
	s = s.In("density")
	v := densityVars{mean: s.Buffer("mean", nn.Zeros(), d)}
	if kind == "kde" {
		v.centred, v.kernel = s.Buffer("centred", nn.Zeros(), -1, d), s.Buffer("kernel", nn.Ones(), 2)
	} else {
		v.whiten = s.Buffer("whiten", nn.Zeros(), d, d)
	}
	return v
}

func (v densityVars) gaussian(rows []float32, d int) ([]framework.Value, error) {
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
		{Variable: v.whiten, Shape: []int{d, d}, V: g.Whitening()},
	}, nil
}

func (v densityVars) kernels(rows []float32, d int, bandwidth string) ([]framework.Value, error) {
	k, err := density.NewKDE(rows, d, bandwidth)
	if err != nil {
		return nil, err
	}
	n := len(rows) / d
	sums := make([]float64, d)
	for i, x := range rows {
		sums[i%d] += float64(x)
	}
	mean, centred := make([]float32, d), make([]float32, len(rows))
	for j := range mean {
		mean[j] = float32(sums[j] / float64(n))
	}
	for i, x := range rows {
		centred[i] = x - mean[i%d]
	}
	return []framework.Value{
		{Variable: v.mean, Shape: []int{d}, V: mean},
		{Variable: v.centred, Shape: []int{n, d}, V: centred},
		{Variable: v.kernel, Shape: []int{2}, V: []float32{float32(k.Gamma), float32(k.Scale)}},
	}, nil
}

// score returns the scores [B] of embeddings f [B,D]: the Mahalanobis distance,
// or -log(mean exp(-γ‖f-fᵢ‖²))/Scale over the training embeddings.
//
// Deviation: a sum in the reference, which differs by a constant; near 0
// float32 has more digits.
func (v densityVars) score(s *nn.Scope, f tf.Output) tf.Output {
	f = nn.Sub(s, f, s.Read(v.mean))
	if v.whiten != nil {
		return nn.Sqrt(s, nn.Sum(s, nn.Square(s, nn.MatMul(s, f, s.Read(v.whiten))), 1))
	}
	train := s.Read(v.centred)
	kernel := nn.Split(s, s.Read(v.kernel), 0, 2)
	// ‖f-g‖² = ‖f‖² + ‖g‖² - 2f·g, which is exact enough since both are centred.
	norms := nn.Add(s, nn.SumKeep(s, nn.Square(s, f), 1), nn.Reshape(s, nn.Sum(s, nn.Square(s, train), 1), 1, -1))
	products := op.MatMul(s.Op("products"), f, train, op.MatMulTransposeB(true))
	distances := nn.Mul(s, nn.Sub(s, norms, nn.Scale(s, products, 2)), kernel[0]) // [B,n]
	least := nn.StopGradient(s, op.Min(s.Op("least"), distances, op.Const(s.Op("axis"), int32(1)), op.MinKeepDims(true)))
	rest := nn.Mean(s, op.Expm1(s.Op("expm1"), nn.Sub(s, least, distances)), 1)
	return nn.Div(s, nn.Sub(s, nn.Squeeze(s, least, 1), op.Log1p(s.Op("log1p"), rest)), kernel[1])
}
