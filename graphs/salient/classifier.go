package salient

import (
	"fmt"
	"math"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// A Classifier tells replaced positions from others: a transformer of attention
// layers alone, as released.
type Classifier struct {
	Layers   int     `toml:"layers"`   // attention layers
	Heads    int     `toml:"heads"`    // a divisor of the length of a token
	Dropout  float64 `toml:"dropout"`  // of attention weights and of each layer's output
	Position string  `toml:"position"` // embedding of a token's place: learned, or sincos, which is fixed
}

// Check names the first field out of range for tokens of length c.
func (c Classifier) Check(length int) error {
	switch {
	case c.Layers < 1:
		return fmt.Errorf("layers: %d, need 1 or more", c.Layers)
	case c.Heads < 1 || length%c.Heads != 0:
		return fmt.Errorf("heads: %d, need a divisor of %d", c.Heads, length)
	case c.Position != "learned" && c.Position != "sincos":
		return fmt.Errorf("position: %q, need learned or sincos", c.Position)
	case c.Position == "sincos" && length%4 != 0:
		return fmt.Errorf("position: sincos needs tokens of a multiple of 4, not of %d", length)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("dropout: %g, need at least 0 and less than 1", c.Dropout)
	}
	return nil
}

// Build returns the logits [B,HW,2] of tokens q [B,HW,C], class 0 anomalous,
// class 1 normal. feedForward adds to each layer a feed-forward part of four
// times the length.
func (c Classifier) Build(s *nn.Scope, q tf.Output, feedForward bool) tf.Output {
	n, e := nn.Dim(s, q, 1), nn.Channels(s, q)
	var place tf.Output
	if c.Position == "sincos" {
		place = nn.Consts(s, sinCos(n, e), 1, n, e)
	} else {
		place = s.Variable("position", nn.Normal(1), 1, n, e)
	}
	t := nn.Add(s, q, place)
	for i := range c.Layers {
		layer := s.In("layer").At(i)
		t = nn.Add(layer, t, c.attention(layer.In("attention"), t))
		if feedForward {
			t = nn.Add(layer, t, c.feedForward(layer.In("feed_forward"), t))
		}
	}
	head := s.In("head")
	return nn.Dense(head, nn.LayerNorm(head.In("norm"), t, nn.Norm{}), 2)
}

// sinCos is the fixed embedding [n,e] of the places of a square grid of n, row by
// row: a half of the e channels for the column and a half for the row, of each a
// half sines and a half cosines of the number times 10000^(-4i/e), i = 0…e/4-1.
//
// Deviation: the released code says no more than "2-D sine and cosine"; this is
// the usual form.
func sinCos(n, e int) []float32 {
	side := int(math.Round(math.Sqrt(float64(n))))
	v := make([]float32, n*e)
	for p := range n {
		for axis, place := range []int{p % side, p / side} {
			for i := range e / 4 {
				at := p*e + axis*e/2 + i
				sin, cos := math.Sincos(float64(place) * math.Pow(10000, -4*float64(i)/float64(e)))
				v[at], v[at+e/4] = float32(sin), float32(cos)
			}
		}
	}
	return v
}

// attention lets the tokens t [B,N,E] of an image read from one another. What is
// multiplied in a row is folded into the kernel, as most of the time of a layer
// goes into reading and writing [B,heads,N,N].
//
// Deviation: the images of a batch share the mask of the attention weights.
func (c Classifier) attention(s *nn.Scope, t tf.Output) tf.Output {
	n, e := nn.Dim(s, t, 1), nn.Channels(s, t)
	size := e / c.Heads
	norm := s.In("norm")
	gamma, beta := norm.Variable("gamma", nn.Ones(), e), norm.Variable("beta", nn.Zeros(), e)
	x := nn.Reshape(s, nn.LayerNorm(norm, t, nn.Norm{NoAffine: true}), -1, e)
	kernel := s.In("qkv").Variable("kernel", nn.PyTorch(e), e, 3*e)
	scale := make([]float32, 3*e) // of the queries, 1/√size
	for i := range scale {
		scale[i] = 1
		if i < e {
			scale[i] = float32(1 / math.Sqrt(float64(size)))
		}
	}
	kernel = nn.Mul(s, kernel, nn.Consts(s, scale, 3*e))
	bias := nn.Reshape(s, nn.MatMul(s, nn.Reshape(s, beta, 1, e), kernel), 3*e)
	x = op.BiasAdd(s.Op("bias"), nn.MatMul(s, x, nn.Mul(s, kernel, nn.Reshape(s, gamma, e, 1))), bias)

	x = nn.Transpose(s, nn.Reshape(s, x, -1, n, 3, c.Heads, size), 2, 0, 3, 1, 4) // [3,B,heads,N,size]
	parts := nn.Unstack(s, x, 0)
	weights := nn.Softmax(s, nn.BatchMatMul(s, parts[0], parts[1], false, true)) // [B,heads,N,N]
	weights = c.drop(s.In("weights"), weights, 1, c.Heads, n, n)
	y := nn.BatchMatMul(s, weights, parts[2], false, false)
	y = nn.Reshape(s, nn.Transpose(s, y, 0, 2, 1, 3), -1, n, e)
	y = nn.Dense(s.In("output"), y, e)
	return c.drop(s.In("dropout"), y, nn.Shape(s, y)...)
}

// drop is dropout by a mask of the given shape, which x has but for lengths of 1.
func (c Classifier) drop(s *nn.Scope, x tf.Output, shape ...int) tf.Output {
	if c.Dropout == 0 || !s.Training() {
		return x
	}
	keep := nn.GreaterEqual(s, nn.RandomUniform(s, shape...), nn.Const(s, c.Dropout))
	return nn.Mul(s, x, nn.Where(s, keep, nn.Const(s, 1/(1-c.Dropout)), nn.Const(s, 0)))
}

func (c Classifier) feedForward(s *nn.Scope, t tf.Output) tf.Output {
	e := nn.Channels(s, t)
	x := nn.LayerNorm(s.In("norm"), t, nn.Norm{})
	x = nn.GELU(s, nn.Dense(s.In("0"), x, 4*e))
	x = nn.Dense(s.In("1"), c.drop(s.In("hidden"), x, nn.Shape(s, x)...), e)
	return c.drop(s.In("dropout"), x, nn.Shape(s, x)...)
}

// margin is the logit [B,HW] of an anomalous code: the difference of the two.
func margin(s *nn.Scope, logits tf.Output) tf.Output {
	parts := nn.Unstack(s, logits, 2)
	return nn.Sub(s, parts[0], parts[1])
}

// Probability is that of an anomalous code, by the softmax of logits [B,HW,2]:
// [B,HW,1].
func Probability(s *nn.Scope, logits tf.Output) tf.Output {
	return nn.Sigmoid(s, nn.ExpandDims(s, margin(s, logits), 2))
}

// CrossEntropies returns the mean cross-entropy of the normal positions, where
// mask [B,HW] is 0, and the mean of weights·cross-entropy of the anomalous ones,
// where it is 1; weights [B,HW] are 0 elsewhere. In whole images of the batch the
// mask is 0 everywhere.
func (r Readings) CrossEntropies(s *nn.Scope, logits, mask, weights tf.Output, whole int) (normal, anomalous tf.Output) {
	b, hw := nn.Batch(s, mask), nn.Dim(s, mask, 1)
	n := Anomalous(hw)
	m := margin(s, logits)
	rest := nn.Shift(s, nn.Neg(s, mask), 1)
	others := hw - n
	if r.NNormal == Faithful {
		// ⌊0.9·HW+1⌋ slots; one too many is position 0, as normal.
		if slots := (9*hw + 10) / 10; slots > others {
			first := make([]float32, hw)
			first[0] = float32(slots - others)
			rest, others = nn.Add(s, rest, nn.Consts(s, first, hw)), slots
		}
	}
	mean := func(margin, weights tf.Output, n int) tf.Output {
		return nn.Scale(s, nn.SumAll(s, nn.Mul(s, weights, nn.Softplus(s, margin))), 1/float64(n))
	}
	return mean(m, rest, b*others+whole*n), mean(nn.Neg(s, m), weights, (b-whole)*n)
}
