// Package quantise replaces vectors by the nearest entries of a learned
// codebook, once or several times over on what is left (residual
// quantisation). VQ-VAE and the CT method share it.
package quantise

import (
	"fmt"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/loss"
	"thorax/graphs/nn"
)

// A Quantiser is a residual vector quantiser whose depths share one codebook
// (van den Oord et al., "Neural Discrete Representation Learning", NeurIPS
// 2017; Lee et al., "Autoregressive Image Generation using Residual
// Quantization", CVPR 2022). Its fields are TOML keys.
type Quantiser struct {
	Codes   int     `toml:"codes"`   // K, entries of the codebook
	Depth   int     `toml:"depth"`   // how often what is left is quantised again, with the same codebook; 1 is plain VQ
	Update  string  `toml:"update"`  // of the codebook: ema (moving averages, no gradient) or gradient
	Decay   float64 `toml:"decay"`   // γ of the moving averages
	Debias  bool    `toml:"debias"`  // averages without the bias towards their start, as Sonnet has them; ema only
	Init    string  `toml:"init"`    // codes at the start: normal, N(0,1); uniform, ±1/K; data, random vectors of the first batch
	Restart bool    `toml:"restart"` // a code whose average count is below 1 becomes a random vector of the batch; ema only
	Beta    float64 `toml:"beta"`    // weight of the commitment loss
}

// RQVAE returns the settings of the released CT code, whose quantiser is that
// of RQ-VAE. Its restart is aggressive: counts start at 0, so that the first
// step replaces nearly all codes.
func RQVAE() Quantiser {
	return Quantiser{Codes: 2048, Depth: 1, Update: "ema", Decay: 0.99, Init: "normal", Restart: true, Beta: 1}
}

// VQVAE returns the settings of Sonnet's example of VQ-VAE.
//
// Deviation: codes start at vectors of the first batch and unused ones restart;
// Sonnet's start small and die.
func VQVAE() Quantiser {
	return Quantiser{Codes: 512, Depth: 1, Update: "ema", Decay: 0.99, Debias: true, Init: "data", Restart: true, Beta: 0.25}
}

// Check names the first field that is out of range and the remedy.
func (q Quantiser) Check() error {
	switch {
	case q.Codes < 1:
		return fmt.Errorf("codes: %d, need 1 or more", q.Codes)
	case q.Depth < 1:
		return fmt.Errorf("depth: %d, need 1 or more", q.Depth)
	case !slices.Contains([]string{"ema", "gradient"}, q.Update):
		return fmt.Errorf("update: %q, need ema or gradient", q.Update)
	case !(q.Decay >= 0 && q.Decay < 1):
		return fmt.Errorf("decay: %g, need 0 or more and less than 1", q.Decay)
	case !slices.Contains([]string{"normal", "uniform", "data"}, q.Init):
		return fmt.Errorf("init: %q, need normal, uniform or data", q.Init)
	case !(q.Beta >= 0):
		return fmt.Errorf("beta: %g, need 0 or more", q.Beta)
	case q.Update == "gradient" && q.Restart:
		return fmt.Errorf(`restart: true, but update = "gradient" keeps no counts; set restart = false or update = "ema"`)
	case q.Update == "gradient" && q.Debias:
		return fmt.Errorf(`debias: true, but update = "gradient" keeps no averages; set debias = false or update = "ema"`)
	}
	return nil
}

// Quantised is what [Quantiser.Build] makes of z [B,h,w,C].
type Quantised struct {
	Q          tf.Output // [B,h,w,C] the sum of the codes; its gradient is that of z (straight-through)
	Codes      tf.Output // int64 [B,h,w,Depth]
	Residual   tf.Output // [B,h,w] mean over channels of (z-q)²; no gradient
	Commitment tf.Output // scalar, mean (z - stop_gradient(q))², over depths the mean of that of the sums so far
	Loss       tf.Output // scalar, Beta·Commitment; with update gradient, plus mean (stop_gradient(z) - q)²
	Active     tf.Output // scalar, number of different codes in the batch
	Perplexity tf.Output // scalar, exp of the entropy of the codes in the batch, 1 to Codes
	Codebook   tf.Output // [Codes,C] as the first depth read it
}

// Build quantises z [B,h,w,C]. On a training scope it records what the codebook
// becomes after the step, so that it is built there once a step, and draws
// random vectors; on one in inference mode it only reads. Variables: "codebook"
// [Codes,C]; with update ema, "counts" [Codes] and "sums" [Codes,C]; with
// debias or init data, the counter "updates".
//
// In training with update ema the codebook changes between depths. In precision
// bf16 distances are rounded to eight bits, so that one of several near codes is
// taken, not always the nearest.
func (q Quantiser) Build(s *nn.Scope, z tf.Output) Quantised {
	if s.Err() == nil && nn.Rank(s, z) != 4 {
		s.Fail("quantiser of shape %v, need [B,h,w,C]", nn.Shape(s, z))
	}
	if err := q.Check(); err != nil {
		s.Fail("%v", err)
	}
	rows := nn.Reshape(s, z, -1, nn.Channels(s, z))
	x := nn.StopGradient(s, rows)
	vars, b := q.open(s, x)
	out := Quantised{Codebook: b.codes}

	var codes, commitments, pulls, counts []tf.Output
	var sum tf.Output
	left := x
	for d := range q.Depth {
		at := s.At(d)
		chosen := nearest(at, left, b.codes)
		e := Embed(at, b.codes, chosen)
		if d == 0 {
			sum = e
		} else {
			sum = nn.Add(at, sum, e)
		}
		count := q.count(at, chosen)
		codes, counts = append(codes, chosen), append(counts, count)
		commitments = append(commitments, loss.MeanSquared(at, rows, nn.StopGradient(at, sum)))
		pulls = append(pulls, loss.MeanSquared(at, x, sum))
		if s.Training() && q.Update == "ema" {
			b = q.follow(at, b, left, chosen, count, d)
		}
		left = nn.Sub(at, left, nn.StopGradient(at, e))
	}
	if q.Update == "ema" {
		sum = nn.StopGradient(s, sum)
	}

	straight := nn.Add(s, rows, nn.StopGradient(s, nn.Sub(s, sum, x)))
	out.Q = nn.ReshapeLike(s, straight, z)
	h, w := nn.Height(s, z), nn.Width(s, z)
	out.Codes = nn.Reshape(s, nn.Stack(s, 1, codes...), -1, h, w, q.Depth)
	out.Residual = nn.Reshape(s, nn.Mean(s, nn.Square(s, left), 1), -1, h, w)
	out.Commitment = mean(s, commitments)
	out.Loss = nn.Scale(s, out.Commitment, q.Beta)
	if q.Update == "gradient" {
		out.Loss = nn.Add(s, out.Loss, mean(s, pulls))
	}
	out.Active, out.Perplexity = usage(s, nn.AddN(s, counts...))
	q.record(s, vars, b, out.Q)
	return out
}

// Embed returns the entries of the codebook [K,C] with the given numbers (int32
// or int64): […] → […,C].
func Embed(s *nn.Scope, codebook, codes tf.Output) tf.Output {
	return nn.Gather(s, codebook, codes, 0)
}

// Nearest returns the numbers of the k nearest entries of the codebook [K,C] to
// each row of x [n,C], nearest first, int32 [n,k], 1 ≤ k ≤ K. No gradient.
func Nearest(s *nn.Scope, x, codebook tf.Output, k int) tf.Output {
	o := s.Op("nearest")
	_, codes := op.TopKV2(o, nn.Neg(s, distances(s, x, codebook)), op.Const(o, int32(k)))
	return codes
}

// nearest is the number of the nearest entry of the codebook to each row of x,
// int64 [n].
func nearest(s *nn.Scope, x, codebook tf.Output) tf.Output {
	o := s.Op("nearest")
	return op.ArgMin(o, distances(s, x, codebook), op.Const(o, int32(1)))
}

// distances is ‖e‖² - 2x·e [n,K]: the squared distances less ‖x‖², which
// changes no order within a row.
func distances(s *nn.Scope, x, codebook tf.Output) tf.Output {
	x, codebook = nn.StopGradient(s, x), nn.StopGradient(s, codebook)
	square := nn.Sum(s, nn.Square(s, codebook), 1)
	product := op.MatMul(s.Op("product"), x, nn.Scale(s, codebook, -2), op.MatMulTransposeB(true))
	return op.BiasAdd(s.Op("distance"), product, square)
}

// usage returns how many codes have a count and the perplexity of counts [K].
func usage(s *nn.Scope, counts tf.Output) (active, perplexity tf.Output) {
	active = nn.SumAll(s, nn.Minimum(s, counts, nn.Const(s, 1)))
	p := nn.Div(s, counts, nn.SumAll(s, counts))
	entropy := nn.SumAll(s, nn.Mul(s, p, nn.Log(s, nn.Shift(s, p, 1e-10))))
	return active, nn.Exp(s, nn.Neg(s, entropy))
}

// mean is the mean of scalars.
func mean(s *nn.Scope, xs []tf.Output) tf.Output {
	if len(xs) == 1 {
		return xs[0]
	}
	return nn.Scale(s, nn.AddN(s, xs...), 1/float64(len(xs)))
}
