package quantise

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// epsilon keeps the division by a count finite.
const epsilon = 1e-5

// variables hold the state of a codebook from step to step.
type variables struct {
	codes, counts, sums, updates *nn.Variable // those that there are
}

// A book is the state of a codebook at one moment of a step.
type book struct {
	codes   tf.Output // [K,C]
	counts  tf.Output // [K] moving average of how often a code is assigned
	sums    tf.Output // [K,C] moving average of the sum of what it is assigned to
	updates tf.Output // int64, updates before this step
}

// open returns the codebook as the step finds it; x [n,C] are the vectors of
// the batch.
func (q Quantiser) open(s *nn.Scope, x tf.Output) (v variables, b book) {
	c := nn.Channels(s, x)
	first := q.first(s)
	if q.Update == "gradient" {
		b.codes = s.Variable("codebook", first, q.Codes, c)
		v.codes = lookup(s, "codebook")
	} else {
		v.codes = s.Buffer("codebook", first, q.Codes, c)
		b.codes = s.Read(v.codes)
	}
	if !s.Training() {
		return v, b
	}
	if q.Update == "ema" {
		v.counts, v.sums = s.Buffer("counts", nn.Zeros(), q.Codes), s.Buffer("sums", first, q.Codes, c)
		b.counts, b.sums = s.Read(v.counts), s.Read(v.sums)
	}
	if q.Debias || q.Init == "data" {
		v.updates = s.Counter("updates")
		b.updates = s.Read(v.updates)
	}
	if q.Init == "data" {
		begin, drawn := q.begins(s, b), q.draw(s.In("first"), x)
		b.codes = nn.Where(s, begin, drawn, b.codes)
		if q.Update == "ema" {
			b.sums = nn.Where(s, begin, drawn, b.sums)
		}
	}
	return v, b
}

func lookup(s *nn.Scope, name string) *nn.Variable {
	if s.Path() != "" {
		name = s.Path() + "/" + name
	}
	return s.Lookup(name)
}

// begins is whether this is the first step.
func (q Quantiser) begins(s *nn.Scope, b book) tf.Output {
	return nn.Equal(s, b.updates, op.Const(s.Op("none"), int64(0)))
}

// first is how the codes start, and the sums with them: at the same values,
// however they are drawn.
func (q Quantiser) first(s *nn.Scope) nn.Initializer {
	init := nn.Uniform(-1/float64(q.Codes), 1/float64(q.Codes))
	if q.Init == "normal" {
		init = nn.Normal(1)
	}
	h := fnv.New64a()
	h.Write([]byte(s.Path()))
	return func(shape []int, _ *rand.Rand) ([]float32, error) {
		return init(shape, rand.New(rand.NewPCG(s.Seed(), h.Sum64())))
	}
}

// record says what the variables become after the step whose loss reaches from.
func (q Quantiser) record(s *nn.Scope, v variables, b book, from tf.Output) {
	become := func(v *nn.Variable, value tf.Output) {
		s.Assign(v, from, func(*nn.Scope, tf.Output) tf.Output { return value })
	}
	if !s.Training() {
		return
	}
	if q.Update == "ema" {
		become(v.counts, b.counts)
		become(v.sums, b.sums)
		become(v.codes, b.codes)
	} else if q.Init == "data" {
		// The first step's gradient went past the variable.
		s.Assign(v.codes, from, func(s *nn.Scope, old tf.Output) tf.Output {
			return nn.Where(s, q.begins(s, b), b.codes, old)
		})
	}
	if v.updates != nil {
		s.Assign(v.updates, from, func(s *nn.Scope, old tf.Output) tf.Output {
			return op.Add(s.Op("more"), old, op.Const(s.Op("depth"), int64(q.Depth)))
		})
	}
}

// count returns how often each code is chosen, float32 [K].
func (q Quantiser) count(s *nn.Scope, chosen tf.Output) tf.Output {
	one := nn.Cast(s, op.OnesLike(s.Op("ones"), chosen), tf.Float)
	return q.sum(s, one, chosen)
}

// sum adds up the rows of x [n,…] of each code: [K,…].
func (q Quantiser) sum(s *nn.Scope, x, chosen tf.Output) tf.Output {
	o := s.Op("sum")
	return op.UnsortedSegmentSum(o, x, chosen, op.Const(o, int32(q.Codes)))
}

// follow moves the averages to the vectors x [n,C], their codes and counts, in
// the order of the released code, and returns the codebook after it:
// n ← γn + (1-γ)·counts; e ← γe + (1-γ)·sums; restart;
// codes ← e / (n̄·(n+ε)/(n̄+Kε)), n̄ = Σn. d is the depth.
func (q Quantiser) follow(s *nn.Scope, b book, x, chosen, counts tf.Output, d int) book {
	keep, take := q.decay(s, b.updates, d)
	move := func(old, new tf.Output) tf.Output {
		return nn.Add(s, nn.Mul(s, old, keep), nn.Mul(s, new, take))
	}
	n, e := move(b.counts, counts), move(b.sums, q.sum(s, x, chosen))
	if q.Restart {
		n, e = q.restart(s, n, e, q.draw(s.In("restart"), x))
	}
	total := nn.SumAll(s, n)
	share := nn.Div(s, nn.Shift(s, n, epsilon), nn.Shift(s, total, float64(q.Codes)*epsilon))
	codes := nn.Div(s, e, nn.ExpandDims(s, nn.Mul(s, share, total), 1))
	return book{codes: codes, counts: n, sums: e, updates: b.updates}
}

// restart replaces the codes whose average count is below 1 by the vectors of
// the same number, with count 1.
func (q Quantiser) restart(s *nn.Scope, n, e, vectors tf.Output) (counts, sums tf.Output) {
	dead := nn.Less(s, n, nn.Const(s, 1))
	return nn.Where(s, dead, nn.Const(s, 1), n), nn.Where(s, nn.ExpandDims(s, dead, 1), vectors, e)
}

// decay returns the weights of old and new in a moving average: γ and 1-γ; or
// without bias towards the start, γ(1-γ^(t-1))/(1-γ^t) and (1-γ)/(1-γ^t) in the
// t-th update, with which the variables hold Sonnet's averages themselves.
func (q Quantiser) decay(s *nn.Scope, updates tf.Output, d int) (keep, take tf.Output) {
	if !q.Debias {
		return nn.Const(s, q.Decay), nn.Const(s, 1-q.Decay)
	}
	o := s.Op("decay")
	wide := func(v float64) tf.Output { return op.Const(o.SubScope("const"), v) }
	before := op.Add(o.SubScope("before"), op.Cast(o, updates, tf.Double), wide(float64(d)))
	power := op.Pow(o, wide(q.Decay), op.Add(o.SubScope("t"), before, wide(1)))
	new := op.RealDiv(o, wide(1-q.Decay), op.Sub(o.SubScope("rest"), wide(1), power))
	old := op.Sub(o.SubScope("keep"), wide(1), new)
	return nn.Cast(s, old, tf.Float), nn.Cast(s, new, tf.Float)
}

// draw returns Codes vectors at random from the rows of x [n,C], without
// replacement. Where there are fewer, x is repeated first and each vector moved
// by uniform[0,1)·0.01/√C.
func (q Quantiser) draw(s *nn.Scope, x tf.Output) tf.Output {
	n := nn.Batch(s, x)
	if n < 1 {
		s.Fail("the quantiser draws vectors of the batch, whose size must be known when the graph is built")
		return x
	}
	copies := (q.Codes + n - 1) / n
	order := nn.RandomUniform(s.In("order"), copies*n)
	_, chosen := op.TopKV2(s.Op("chosen"), order, op.Const(s.Op("codes"), int32(q.Codes)))
	var noise tf.Output
	if copies > 1 {
		noise = nn.RandomUniform(s.In("noise"), q.Codes, nn.Channels(s, x))
	}
	return pick(s, x, chosen, noise)
}

// pick returns the chosen (int32 [K]) rows of x [n,C], repeated, with their
// noise [K,C] in [0,1), if any.
func pick(s *nn.Scope, x, chosen, noise tf.Output) tf.Output {
	if noise.Op == nil {
		return nn.Gather(s, x, chosen, 0)
	}
	row := op.FloorMod(s.Op("row"), chosen, op.Const(s.Op("rows"), int32(nn.Batch(s, x))))
	off := nn.Scale(s, noise, 0.01/math.Sqrt(float64(nn.Channels(s, x))))
	return nn.Add(s, nn.Gather(s, x, row, 0), off)
}
