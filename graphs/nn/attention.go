package nn

import (
	"math"

	tf "github.com/wamuir/graft/tensorflow"
)

// An Attention describes a multi-head attention layer.
type Attention struct {
	Heads   int
	NoBias  bool    // of query, key and value; the output has one
	Dropout float64 // of the attention weights, in training
}

// MultiHeadAttention lets each query token [B,N,E] read from M tokens, key
// [B,M,·] and value [B,M,·]: softmax(q·kᵀ/√(E/Heads))·v in each head, then a
// linear map of all heads together, [B,N,E] (Vaswani et al., "Attention Is All
// You Need", NeurIPS 2017, §3.2). Variables are dense layers "query", "key",
// "value" and "output". They start as PyTorch's do: the first three Xavier
// uniform as if one matrix [E,3E], biases 0.
func MultiHeadAttention(s *Scope, query, key, value tf.Output, a Attention) tf.Output {
	e := Channels(s, query)
	if Rank(s, query) != 3 && s.Err() == nil {
		s.Fail("attention of shape %v, need [B,N,E]", Shape(s, query))
	}
	if a.Heads < 1 || e%a.Heads != 0 {
		s.Fail("attention of %d heads on length %d: not divisible", a.Heads, e)
		return query
	}
	size := e / a.Heads
	heads := func(name string, x tf.Output) tf.Output { // [B,N,·] → [B,heads,N,size]
		bound := math.Sqrt(6 / float64(Channels(s, x)+3*e))
		y := DenseWith(s.In(name), x, e, Linear{NoBias: a.NoBias, Init: Uniform(-bound, bound), BiasInit: Zeros()})
		return Transpose(s, Reshape(s, y, -1, Dim(s, x, 1), a.Heads, size), 0, 2, 1, 3)
	}
	y := attend(s, heads("query", query), heads("key", key), heads("value", value), a.Dropout)
	y = Reshape(s, Transpose(s, y, 0, 2, 1, 3), -1, Dim(s, query, 1), e)
	return DenseWith(s.In("output"), y, e, Linear{BiasInit: Zeros()})
}

// DotAttention returns softmax(q·kᵀ/√D)·v over the last two dimensions: q
// […,N,D], k […,M,D], v […,M,E] → […,N,E].
func DotAttention(s *Scope, q, k, v tf.Output) tf.Output { return attend(s, q, k, v, 0) }

func attend(s *Scope, q, k, v tf.Output, dropout float64) tf.Output {
	q = Scale(s, q, 1/math.Sqrt(float64(Channels(s, q))))
	weights := Softmax(s, BatchMatMul(s, q, k, false, true)) // […,N,M]
	return BatchMatMul(s, Dropout(s.In("dropout"), weights, dropout), v, false, false)
}
