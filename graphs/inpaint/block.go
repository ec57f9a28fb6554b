package inpaint

import (
	"math"
	"math/bits"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// heads of the attention among neighbouring tiles.
const heads = 8

// block paints each tile of z [B·P²,r,r,C] anew from what the memories recall
// of its neighbours: the in-painting block. It fills in the fields of f that
// belong to it and returns f.Painted.
func (g Generator) block(s *nn.Scope, z tf.Output, f *Features, mask Masks) tf.Output {
	tiles := g.Patches * g.Patches
	r, c := nn.Height(s, z), nn.Channels(s, z)
	reduced := nn.ReLU(s, convNorm(s.In("reduce"), z, nn.Conv{Out: c / 4, Kernel: 1, NoBias: true}, nn.BN{}))
	f.Query = nn.Reshape(s, reduced, -1, tiles, r*r*c/4) // [B,P²,E]

	queries := nn.Transpose(s, f.Query, 1, 0, 2) // [P²,B,E]: a tile's place in the image is its group
	f.Recalled, f.Weights, f.Queue = g.memory(g.Items, g.Store == "queue").recall(s.In("memory"), queries, 1)
	n := nn.Transpose(s, f.Recalled, 1, 0, 2) // [B,P²,E]

	switch g.Inpainting {
	case "transformer":
		n = g.transformer(s, n, f)
	case "convolution":
		n = g.neighbourhood(s.In("convolution"), n)
	}

	n = nn.Reshape(s, n, -1, r, r, c/4)
	code := nn.Tile(s, g.code(s, r), nn.Batch(s, z)/tiles, 1, 1, 1)
	y := nn.Concat(s, -1, n, code)
	y = nn.ReLU(s, convNorm(s.In("expand"), y, nn.Conv{Out: c, Kernel: 1}, nn.BN{}))
	f.Painted = mask.shortcut(s.In("mask"), y, z, g.MaskInpainting)
	return f.Painted
}

// transformer lets each tile ask its eight neighbours, then adds what they
// answer to its own memory n [B,P²,E]. The layer norms cover the branches only.
func (g Generator) transformer(s *nn.Scope, n tf.Output, f *Features) tf.Output {
	f.Attention = g.attention(s.In("attention"), f.Query, n)
	n = nn.ReLU(s, nn.Add(s, nn.LayerNorm(s.In("norm").At(0), f.Attention, nn.Norm{}), n))
	e := nn.Channels(s, n)
	y := nn.ReLU(s, nn.Dense(s.In("feed").At(0), n, e/4))
	f.Fed = nn.LayerNorm(s.In("norm").At(1), nn.Dense(s.In("feed").At(1), y, e), nn.Norm{})
	return nn.ReLU(s, nn.Add(s, f.Fed, n))
}

// attention of the queries q over the eight neighbours of each tile in n, both
// [B,P²,E]. A neighbour beyond the border is a zero vector, and is not masked:
// it takes part with the biases for key and value.
func (g Generator) attention(s *nn.Scope, q, n tf.Output) tf.Output {
	tiles, e := g.Patches*g.Patches, nn.Channels(s, q)
	if e%heads != 0 {
		s.Fail("%d heads on vectors of length %d: not divisible; set an even width", heads, e)
		return n
	}
	beyond := nn.Tile(s, nn.Consts(s, make([]float32, e), 1, 1, e), nn.Batch(s, q), 1, 1)
	tokens := nn.Concat(s, 1, n, beyond) // [B,P²+1,E]
	bound := math.Sqrt(6 / float64(4*e)) // Xavier's, of the three kernels as one
	project := func(name string, x tf.Output) tf.Output {
		y := nn.DenseWith(s.In(name), x, e, nn.Linear{Init: nn.Uniform(-bound, bound), BiasInit: nn.Zeros()})
		return nn.Transpose(s, nn.Reshape(s, y, -1, nn.Dim(s, x, 1), heads, e/heads), 0, 2, 1, 3) // [B,heads,·,E/heads]
	}
	query, key, value := project("query", q), project("key", tokens), project("value", tokens)
	similarity := nn.BatchMatMul(s, nn.Scale(s, query, 1/math.Sqrt(float64(e/heads))), key, false, true)
	weights := nn.Softmax(s, nn.Add(s, similarity, nn.Consts(s, g.multiplicity(), tiles, tiles+1)))
	y := nn.BatchMatMul(s, weights, value, false, false)
	y = nn.Reshape(s, nn.Transpose(s, y, 0, 2, 1, 3), -1, tiles, e)
	return nn.DenseWith(s.In("output"), y, e, nn.Linear{BiasInit: nn.Zeros()})
}

// multiplicity is the logarithm of how often each tile, and in the last column
// the vector beyond the border, is among the eight neighbours of a tile: added
// to similarities, it makes a softmax over P²+1 tokens one over those eight.
func (g Generator) multiplicity() []float32 {
	const never = -1e9
	p := g.Patches
	var out []float32
	for i := range p * p {
		beyond := 8.0
		for j := range p * p {
			di, dj := i/p-j/p, i%p-j%p
			if i != j && di*di <= 1 && dj*dj <= 1 {
				out = append(out, 0)
				beyond--
			} else {
				out = append(out, never)
			}
		}
		out = append(out, float32(max(math.Log(beyond), never)))
	}
	return out
}

// neighbourhood replaces each vector of n [B,P²,E] by a 3×3 convolution of the
// grid around it, itself left out, and a ReLU.
func (g Generator) neighbourhood(s *nn.Scope, n tf.Output) tf.Output {
	e := nn.Channels(s, n)
	grid := nn.Reshape(s, n, -1, g.Patches, g.Patches, e)
	kernel := s.Variable("kernel", nn.PyTorch(9*e), 3, 3, e, e)
	ring := nn.Consts(s, []float32{1, 1, 1, 1, 0, 1, 1, 1, 1}, 3, 3, 1, 1)
	y := nn.Convolve(s, grid, nn.Mul(s, kernel, ring), 1, nn.Same)
	return nn.Reshape(s, nn.ReLU(s, nn.Bias(s, y, nn.PyTorch(9*e))), -1, g.Patches*g.Patches, e)
}

// codeBits is the number of channels that hold the number of a tile.
func (g Generator) codeBits() int { return bits.Len(uint(g.Patches * g.Patches)) }

// code is the number of each tile in binary, most significant bit first, at
// every position: [P²,r,r,bits].
func (g Generator) code(s *nn.Scope, r int) tf.Output {
	tiles, n := g.Patches*g.Patches, g.codeBits()
	var v []float32
	for tile := range tiles {
		for range r * r {
			for bit := n - 1; bit >= 0; bit-- {
				v = append(v, float32(tile>>bit&1))
			}
		}
	}
	return nn.Consts(s, v, tiles, r, r, n)
}
