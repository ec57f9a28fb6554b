package proposed

import (
	"fmt"
	"maps"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
	"thorax/graphs/quantise"
	"thorax/graphs/salient"
)

func init() {
	framework.Register(framework.Info{
		Name: "salient_ct", Family: "proposed",
		Source: "Hao et al., Local salient location-aware anomaly mask synthesis for pulmonary disease anomaly detection and lesion localization in CT images, Medical Image Analysis 2025",
		New:    func() any { return NewSalientCT() },
	})
}

// SalientCT is the method of Hao et al., "Local salient location-aware anomaly
// mask synthesis for pulmonary disease anomaly detection and lesion localization
// in CT images", Medical Image Analysis 2025 (doi 10.1016/j.media.2025.103523).
// Stage 1 is a VQ-VAE of normal images. In stage 2 the codes of their salient
// positions are replaced by similar ones: a classifier learns to find those, a
// decoder to repair them, and what it repairs well counts little as an anomaly.
// An image is scored where the classifier finds codes that do not belong, by how
// far the repaired image is from it.
type SalientCT struct {
	Mode salient.Reading `toml:"mode"` // where the released code and its intent part: corrected or faithful; the keys from pca_basis to transformer_ffn override it
	salient.Readings
	Pretrained  string             `toml:"pretrained"`        // file of ImageNet ResNet-18 weights that the encoder starts from; "": random
	Quantiser   quantise.Quantiser `toml:"quantiser"`         // between encoder and decoders
	Classifier  salient.Classifier `toml:"classifier"`        // of replaced positions
	Positions   string             `toml:"positions"`         // replaced in stage 2: salient, variance (its first term alone) or random, anew in each step
	Reliability string             `toml:"reliability"`       // weights of anomalous positions: full, variance (without the mean residual) or none
	Whole       float64            `toml:"whole,omitzero"`    // share of the images of a batch that stage 2 replaces nothing in, so that the classifier also sees salient positions that are normal; published: 0
	Restore     bool               `toml:"restore_corrupted"` // the first decoder also sees the replaced codes, which moves its batch norms and nothing else
	Loss        SalientTerms       `toml:"loss"`              // weights of the terms of stage 2
	Stage1      float64            `toml:"stage1"`            // share of the experiment's steps, more than 0 and less than 1
	Learn       optim.AdamW        `toml:"stage1_optimizer"`
	Adam        optim.Adam         `toml:"stage2_optimizer"`
	Map         string             `toml:"map" enters:"score"`       // weighted: the residual by the classifier's probability; or one of them alone: probability, residual
	Threshold   float64            `toml:"threshold" enters:"score"` // probabilities below it count as 0
	Scale       string             `toml:"score" enters:"score"`     // image score: mean or sum of the map, or stage1, for which there is no stage 2: the reconstruction error of the VQ-VAE
}

// SalientTerms are the weights of the terms of stage 2.
type SalientTerms struct {
	Reconstruction float64 `toml:"reconstruction"` // squared error, of clean codes
	Repair         float64 `toml:"repair"`         // squared error, of replaced codes
	Normal         float64 `toml:"normal"`         // cross-entropy of normal positions
	Anomalous      float64 `toml:"anomalous"`      // cross-entropy of replaced positions, by reliability
}

func (w SalientTerms) check() error {
	for _, k := range []struct {
		key    string
		weight float64
	}{{"reconstruction", w.Reconstruction}, {"repair", w.Repair}, {"normal", w.Normal}, {"anomalous", w.Anomalous}} {
		if !(k.weight > 0) {
			return fmt.Errorf("loss.%s: %g, need more than 0", k.key, k.weight)
		}
	}
	return nil
}

// NewSalientCT returns the method with the settings of the released code:
// batches of 16, 100 epochs of stage 1 for 200 of stage 2.
//
// Deviation: stage 1 is not released; its loss and optimiser are those of a
// script of the same group, without a contrastive term that is constant there.
// Batches are always full.
func NewSalientCT() *SalientCT {
	m := &SalientCT{
		Mode:      salient.Corrected,
		Readings:  salient.Readings{Frozen: "eval", Candidates: "image"},
		Quantiser: quantise.RQVAE(), Classifier: salient.Classifier{Layers: 12, Heads: 16, Dropout: 0.1, Position: "learned"},
		Positions: "salient", Reliability: "full", Restore: true,
		Loss:   SalientTerms{Reconstruction: 2, Repair: 2, Normal: 1, Anomalous: 1},
		Stage1: 1. / 3, Learn: optim.NewAdamW(1e-4, 0), Adam: optim.NewAdam(1e-4),
		Map: "weighted", Threshold: 0.5, Scale: "mean",
	}
	m.Learn.Beta1, m.Learn.Beta2 = 0.5, 0.9
	return m
}

// Check implements [framework.Method].
func (m *SalientCT) Check() error {
	if err := m.Mode.Check(); err != nil || m.Mode == "" {
		return fmt.Errorf("mode: %q, need corrected or faithful", string(m.Mode))
	}
	if err := m.Readings.Check(); err != nil {
		return err
	}
	for _, f := range []struct {
		key, value string
		allowed    []string
	}{
		{"positions", m.Positions, []string{"salient", "variance", "random"}},
		{"reliability", m.Reliability, []string{"full", "variance", "none"}},
		{"map", m.Map, []string{"weighted", "probability", "residual"}},
		{"score", m.Scale, []string{"mean", "sum", "stage1"}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return fmt.Errorf("%s: %q, need one of %v", f.key, f.value, f.allowed)
		}
	}
	if m.Candidates == "own" && m.Under(m.Mode).NQuery == salient.Faithful {
		return fmt.Errorf("cand_scope: own, but n_query = \"faithful\" takes no query for each position; set n_query = \"corrected\"")
	}
	if err := salient.CheckPretrained(m.Pretrained); err != nil {
		return fmt.Errorf("pretrained: %w", err)
	}
	if err := m.Quantiser.Check(); err != nil {
		return fmt.Errorf("quantiser.%w", err)
	}
	if m.Quantiser.Update != "ema" {
		return fmt.Errorf("quantiser.update: %q, need ema: stage 2 keeps the codebook as it is", m.Quantiser.Update)
	}
	if err := m.Classifier.Check(salient.Channels); err != nil {
		return fmt.Errorf("classifier.%w", err)
	}
	if err := m.Loss.check(); err != nil {
		return err
	}
	if !(m.Stage1 > 0 && m.Stage1 < 1) && !(m.Scale == "stage1" && m.Stage1 == 1) {
		return fmt.Errorf("stage1: %g, need more than 0 and less than 1, or 1 with score = \"stage1\"", m.Stage1)
	}
	if m.Scale == "stage1" && m.Frozen != "eval" {
		return fmt.Errorf("frozen_mode: %q says what stage 2 does, which score = \"stage1\" leaves out; set it to eval", m.Frozen)
	}
	if !(m.Whole >= 0 && m.Whole < 1) {
		return fmt.Errorf("whole: %g, need at least 0 and less than 1", m.Whole)
	}
	if !(m.Threshold >= 0 && m.Threshold <= 1) {
		return fmt.Errorf("threshold: %g, need 0 to 1", m.Threshold)
	}
	if err := m.Learn.Check(); err != nil {
		return fmt.Errorf("stage1_optimizer.%w", err)
	}
	if err := m.Adam.Check(); err != nil {
		return fmt.Errorf("stage2_optimizer.%w", err)
	}
	return nil
}

// Notes say what of a run is no part of the published method.
func (m *SalientCT) Notes() []string {
	var notes []string
	if m.Whole > 0 {
		notes = append(notes, fmt.Sprintf("stage 2 leaves %g of the images whole: no part of the published method", m.Whole))
	}
	if m.Scale == "stage1" {
		return notes
	}
	switch {
	case m.Map != "weighted":
		notes = append(notes, fmt.Sprintf("the map is the %s alone: one factor of the published one", m.Map))
	case m.Threshold != 0.5:
		notes = append(notes, fmt.Sprintf("probabilities count from %g on, from 0.5 as published", m.Threshold))
	}
	return notes
}

// encode returns the features z [B,S/8,S/8,512] of images and their codes.
func (m *SalientCT) encode(s *nn.Scope, x tf.Output) (z tf.Output, q quantise.Quantised) {
	z = salient.EncodePretrained(s.In("encoder"), x, m.Pretrained)
	return z, m.Quantiser.Build(s.In("quantiser"), z)
}

// tokens returns maps [B,h,w,C] as [B,HW,C].
func tokens(s *nn.Scope, x tf.Output) tf.Output {
	return nn.Reshape(s, x, -1, nn.Height(s, x)*nn.Width(s, x), nn.Channels(s, x))
}

// grid returns square token maps [B,HW,C] as [B,h,w,C].
func grid(s *nn.Scope, x tf.Output, side int) tf.Output {
	return nn.Reshape(s, x, -1, side, side, nn.Channels(s, x))
}

// Train is stage 1, what stage 2 needs to know of each image, and stage 2.
func (m *SalientCT) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	phases := []framework.Phase{m.reconstruct(s, in.Image)}
	if m.Scale == "stage1" {
		return phases
	}
	var c candidates
	if m.cached() {
		fit, cache := m.prepare(s, in)
		phases, c = append(phases, fit), cache.read(s, in)
	} else {
		c = m.search(s, in.Image)
	}
	return append(phases, m.synthesise(s, in.Image, c))
}

// reconstruct is stage 1: encoder, codebook and a decoder that stage 2 does not
// use.
func (m *SalientCT) reconstruct(s *nn.Scope, x tf.Output) framework.Phase {
	a := m.autoencode(s, x)
	p := framework.Minimize("stage1", a.loss, append(s.In("encoder").Trainable(), s.In("decoder").Trainable()...), m.Learn)
	p.Share = m.Stage1
	p.Updates[0].Log = map[string]tf.Output{"error": a.error, "commitment": a.q.Commitment, "active": a.q.Active, "perplexity": a.q.Perplexity}
	return p
}

// An autoencoding is one forward pass of stage 1.
type autoencoding struct {
	z, recon    tf.Output
	q           quantise.Quantised
	error, loss tf.Output // squared error; with the commitment loss
}

func (m *SalientCT) autoencode(s *nn.Scope, x tf.Output) (a autoencoding) {
	a.z, a.q = m.encode(s, x)
	a.recon = salient.Decode(s.In("decoder"), a.q.Q)
	a.error = loss.MeanSquared(s, a.recon, x)
	a.loss = nn.Add(s, a.error, a.q.Loss)
	return a
}

// candidates are what stage 2 needs to know of a batch: constants.
type candidates struct {
	q        tf.Output // [B,HW,C] codes as tokens
	code     tf.Output // int64 [B,HW] their numbers, the first of each depth
	codebook tf.Output // [K,C]
	order    tf.Output // int64 [B,n] positions to replace
	pool     tf.Output // int64 [B,P] numbers of codes to replace them by
}

// search finds the candidates of images x with the frozen encoder.
func (m *SalientCT) search(s *nn.Scope, x tf.Output) candidates {
	frozen := s
	if m.Frozen == "eval" {
		frozen = s.Inference()
	}
	z, q := m.encode(frozen, x)
	c, _ := m.choose(s.In("candidates"), nn.StopGradient(s, tokens(s, z)), q)
	return c
}

// A saliency is how positions were chosen: what there is of it.
type saliency struct{ eigenvectors, score, order, query, near tf.Output }

// choose finds positions and pools for the features z [B,HW,C].
func (m *SalientCT) choose(s *nn.Scope, z tf.Output, q quantise.Quantised) (candidates, saliency) {
	r := m.Under(m.Mode)
	b, hw := nn.Batch(s, z), nn.Dim(s, z, 1)
	var f saliency
	switch m.Positions {
	case "random":
		f.score = nn.RandomUniform(s.In("positions"), b, hw)
	case "variance":
		f.score = r.Variance(s, z)
	default:
		f.eigenvectors = salient.Eigenvectors(s, z)
		f.score = r.Saliency(s, z, f.eigenvectors)
	}
	f.order = salient.Order(s, f.score)
	f.query = r.Query(s, z, f.order)
	f.near = salient.Near(s, f.query, q.Codebook) // [B,n,k]

	c := candidates{q: nn.StopGradient(s, tokens(s, q.Q)), codebook: q.Codebook}
	codes := nn.Reshape(s, q.Codes, -1, hw, m.Quantiser.Depth)
	c.code = nn.Reshape(s, nn.Slice(s, codes, []int{0, 0, 0}, []int{-1, -1, 1}), -1, hw)
	c.order = nn.Cast(s, nn.Slice(s, f.order, []int{0, 0}, []int{-1, salient.Anomalous(hw)}), tf.Int64)
	c.pool = nn.Cast(s, nn.Flatten(s, f.near), tf.Int64)
	return c, f
}

// cached reports whether the candidates of an image are always the same, so
// that stage 2 needs no encoder.
func (m *SalientCT) cached() bool {
	r := m.Under(m.Mode)
	return m.Positions != "random" && r.Frozen == "eval" && r.VarNorm == salient.Corrected && r.BatchOffset == salient.Corrected
}

// A cache holds the candidates of every training image.
type cache struct {
	codes, order, pool *nn.Variable // int64 [images,HW·depth], [images,n], [images,P]
	codebook           tf.Output
	depth              int
}

// prepare is the phase that fills the cache.
func (m *SalientCT) prepare(s *nn.Scope, in framework.Inputs) (framework.Phase, cache) {
	z, q := m.encode(s.Inference(), in.Image)
	found, _ := m.choose(s.In("candidates"), tokens(s, z), q)
	outputs := []tf.Output{nn.Flatten(s, q.Codes), found.order, found.pool}
	at := s.In("cache")
	variables := make([]*nn.Variable, len(outputs))
	values := make([]framework.Value, len(outputs))
	for i, name := range []string{"codes", "order", "pool"} {
		variables[i] = at.IntBuffer(name, nn.Zeros(), in.Images, nn.Dim(s, outputs[i], 1))
		values[i] = framework.Value{Variable: variables[i], Shape: variables[i].Shape}
		outputs[i] = nn.Cast(s, outputs[i], tf.Float) // exact: below 2²⁴
	}
	fit := &framework.Fit{
		Over: data.Train, Outputs: outputs,
		Batch: func(rows []framework.Rows) error {
			for i, r := range rows {
				values[i].V = append(values[i].V, r.V...)
			}
			return nil
		},
		Done: func() ([]framework.Value, error) { return values, nil },
	}
	return framework.Phase{Name: "candidates", Fit: fit}, cache{variables[0], variables[1], variables[2], q.Codebook, m.Quantiser.Depth}
}

// read returns the candidates of the batch.
func (c cache) read(s *nn.Scope, in framework.Inputs) candidates {
	take := func(v *nn.Variable) tf.Output { return nn.Gather(s, s.Read(v), in.Index, 0) }
	hw := c.codes.Shape[1] / c.depth
	codes := nn.Reshape(s, take(c.codes), in.Rows, hw, c.depth)
	first := nn.Reshape(s, nn.Slice(s, codes, []int{0, 0, 0}, []int{-1, -1, 1}), in.Rows, hw)
	q := quantise.Embed(s, c.codebook, first)
	if c.depth > 1 {
		q = nn.Sum(s, quantise.Embed(s, c.codebook, codes), 2)
	}
	return candidates{q: q, code: first, codebook: c.codebook, order: take(c.order), pool: take(c.pool)}
}

// A synthesis is one forward pass of stage 2.
type synthesis struct {
	draw, chosen         tf.Output // uniform [B,P]; codes [B,n] in the place of others
	replaced, mask       tf.Output // tokens [B,HW,C]; 1 where replaced [B,HW]
	logits               tf.Output // [B,HW,2]
	rec, repaired        tf.Output // [B,S,S,1], of clean and of replaced codes
	reliability, weights tf.Output // [B,HW]
	terms                map[string]tf.Output
	// Of the replaced positions, for the log: the share that the classifier finds,
	// which nears 1 as it saturates, and the mean weight.
	found, weight tf.Output
}

// play replaces codes and computes the terms of the loss. The commitment loss of
// the frozen encoder, a constant, is not among them.
func (m *SalientCT) play(s *nn.Scope, x tf.Output, c candidates) synthesis {
	r := m.Under(m.Mode)
	side := nn.Height(s, x) / 8
	f := synthesis{draw: nn.RandomUniform(s.In("draw"), nn.Shape(s, c.pool)...)}
	f.chosen = r.Choose(s, c.pool, c.code, c.order, f.draw)
	f.replaced, f.mask = salient.Replace(s, c.q, c.codebook, c.order, f.chosen)
	whole := int(m.Whole * float64(nn.Batch(s, x)))
	if m.Whole > 0 && whole == 0 {
		s.Fail("whole: %g of %d images is none; need a larger share or batch", m.Whole, nn.Batch(s, x))
	}
	if whole > 0 { // the first images of the batch
		f.replaced, f.mask = salient.LeaveWhole(s, c.q, f.replaced, f.mask, whole)
	}

	f.logits = m.Classifier.Build(s.In("classifier"), f.replaced, r.FeedForward)
	f.rec = salient.Decode(s.In("decoder_ori"), grid(s, c.q, side))
	f.repaired = salient.Decode(s.In("decoder_vit"), grid(s, f.replaced, side))
	f.weights = f.mask
	if m.Reliability != "none" {
		f.reliability = r.Reliability(s, f.repaired, x, m.Reliability == "full")
		f.weights = r.Weights(s, f.reliability, f.mask)
	}
	normal, anomalous := r.CrossEntropies(s, f.logits, f.mask, f.weights, whole)
	f.terms = map[string]tf.Output{
		"reconstruction": loss.MeanSquared(s, f.rec, x), "repair": loss.MeanSquared(s, f.repaired, x),
		"normal": normal, "anomalous": anomalous,
	}
	mean := func(x tf.Output) tf.Output {
		return nn.Div(s, nn.SumAll(s, nn.Mul(s, x, f.mask)), nn.SumAll(s, f.mask))
	}
	found := nn.Greater(s, nn.Squeeze(s, salient.Probability(s, f.logits), -1), nn.Const(s, 0.5))
	f.found, f.weight = mean(nn.Cast(s, found, tf.Float)), mean(f.weights)
	return f
}

// total is the weighted sum of the terms.
func (w SalientTerms) total(s *nn.Scope, terms map[string]tf.Output) tf.Output {
	return nn.AddN(s,
		nn.Scale(s, terms["reconstruction"], w.Reconstruction), nn.Scale(s, terms["repair"], w.Repair),
		nn.Scale(s, terms["normal"], w.Normal), nn.Scale(s, terms["anomalous"], w.Anomalous))
}

// synthesise is stage 2: decoders and classifier learn on replaced codes.
func (m *SalientCT) synthesise(s *nn.Scope, x tf.Output, c candidates) framework.Phase {
	f := m.play(s, x, c)
	var vars []*nn.Variable
	for _, part := range []string{"decoder_ori", "decoder_vit", "classifier"} {
		vars = append(vars, s.In(part).Trainable()...)
	}
	total := func(s *nn.Scope) tf.Output {
		if m.Restore { // after the pass of the clean codes; recorded here, as no loss depends on it
			side := nn.Height(s, x) / 8
			salient.Decode(s.In("decoder_ori"), grid(s, nn.StopGradient(s, f.replaced), side))
		}
		return m.Loss.total(s, f.terms)
	}
	log := maps.Clone(f.terms)
	log["found"], log["weight"] = f.found, f.weight
	return framework.Phase{Name: "stage2", Share: 1 - m.Stage1, Updates: []framework.Update{
		{Name: "stage2", Loss: total, Vars: vars, Optimizer: m.Adam, Log: log},
	}}
}

// Score is the residual |x-x̂| where the classifier's probability of an anomalous
// code, at least the threshold, weights it; x̂ is the second decoder's image of
// the codes as they are. The image score is the map's sum, or its sum divided by
// one more than the number of its pixels above 0. With score stage1 the map is the
// residual of the first stage's own decoder, and the image score its mean.
func (m *SalientCT) Score(s *nn.Scope, x tf.Output) framework.Scores {
	_, q := m.encode(s, x)
	if m.Scale == "stage1" {
		residual := nn.MeanChannels(s, nn.AbsDiff(s, x, salient.Decode(s.In("decoder"), q.Q)))
		return framework.Scores{Map: residual, Image: nn.MeanImage(s, residual)}
	}
	probability, residual := m.judge(s, x, q)
	anomaly := nn.Mul(s, probability, residual)
	switch m.Map {
	case "probability":
		anomaly = probability
	case "residual":
		anomaly = residual
	}
	scores := framework.Scores{Map: anomaly, Image: nn.SumImage(s, anomaly)}
	if m.Scale == "mean" {
		above := nn.SumImage(s, nn.Cast(s, nn.Greater(s, anomaly, nn.Const(s, 0)), tf.Float))
		scores.Image = nn.Div(s, scores.Image, nn.Shift(s, above, 1))
	}
	return scores
}

// judge returns the probability of an anomalous code, 0 where it is below the
// threshold, and the residual, both [B,S,S].
func (m *SalientCT) judge(s *nn.Scope, x tf.Output, q quantise.Quantised) (probability, residual tf.Output) {
	side := nn.Height(s, q.Q)
	logits := m.Classifier.Build(s.In("classifier"), tokens(s, q.Q), m.FeedForward)
	p := grid(s, salient.Probability(s, logits), side)
	p = nn.Where(s, nn.Less(s, p, nn.Const(s, m.Threshold)), nn.Const(s, 0), p)
	residual = nn.AbsDiff(s, x, salient.Decode(s.In("decoder_vit"), q.Q))
	return nn.Squeeze(s, nn.Upsample(s, p, nn.Height(s, x)/side), -1), nn.Squeeze(s, residual, -1)
}
