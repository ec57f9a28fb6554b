// Package bench measures speed against stated goals, in units of one reference
// auto-encoder step measured in the same run, because machines differ.
package bench

import (
	"fmt"
	"time"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/session"
)

// Unit is the reference: an auto-encoder in bare TensorFlow, without any of
// this project's layers, trainer or feeding. Input [16,128,128,1]; encoder
// 4 × [conv 3×3, BN, ReLU, conv 3×3 stride 2, BN, ReLU] with 32, 64, 128, 256
// channels; decoder 4 × [nearest ×2, conv 3×3, BN, ReLU, conv 3×3, BN, ReLU]
// with 128, 64, 32, 16; conv 3×3 to 1; mean squared error; Adam 1e-3. About
// 80 GFLOP a step. The data lie in a variable and are gathered by index.
type Unit struct {
	session *tf.Session
	index   tf.Output
	batch   *tf.Tensor
	targets []*tf.Operation
}

// builder adds the reference network to a graph.
type builder struct {
	s     *op.Scope
	vars  []tf.Output // handles
	reads []tf.Output
	inits []*tf.Operation
}

// variable is a float32 variable with the given initial value.
func (b *builder) variable(init tf.Output, shape ...int64) (handle tf.Output) {
	o := b.s.SubScope("variable")
	handle = op.VarHandleOp(o, tf.Float, tf.MakeShape(shape...), op.VarHandleOpSharedName(fmt.Sprint("unit", len(b.inits))))
	b.inits = append(b.inits, op.AssignVariableOp(o, handle, init))
	return handle
}

func (b *builder) trained(init tf.Output, shape ...int64) tf.Output {
	h := b.variable(init, shape...)
	r := op.ReadVariableOp(b.s.SubScope("read"), h, tf.Float)
	b.vars, b.reads = append(b.vars, h), append(b.reads, r)
	return r
}

func (b *builder) filled(v float32, shape ...int64) tf.Output {
	o := b.s.SubScope("fill")
	return op.Fill(o, op.Const(o.SubScope("shape"), shape), op.Const(o.SubScope("value"), v))
}

// conv is a 3×3 convolution with He's initial values and no bias.
func (b *builder) conv(x tf.Output, in, out, stride int64) tf.Output {
	o := b.s.SubScope("conv")
	shape := []int64{3, 3, in, out}
	seed := op.Const(o.SubScope("seed"), []int64{1, int64(len(b.vars))})
	noise := op.StatelessRandomNormal(o, op.Const(o.SubScope("shape"), shape), seed)
	std := op.Const(o.SubScope("std"), float32(1)/sqrt32(float32(9*in)/2))
	kernel := b.trained(op.Mul(o, noise, std), shape...)
	return op.Conv2D(o, x, kernel, []int64{1, stride, stride, 1}, "SAME")
}

func sqrt32(x float32) float32 {
	z := x
	for range 30 {
		z = (z + x/z) / 2
	}
	return z
}

// block is convolution, batch norm in training mode and ReLU.
func (b *builder) block(x tf.Output, in, out, stride int64) tf.Output {
	x = b.conv(x, in, out, stride)
	gamma, beta := b.trained(b.filled(1, out), out), b.trained(b.filled(0, out), out)
	o := b.s.SubScope("norm")
	empty := op.Const(o.SubScope("empty"), []float32{})
	y, _, _, _, _, _ := op.FusedBatchNormV3(o, x, gamma, beta, empty, empty, op.FusedBatchNormV3IsTraining(true))
	return op.Relu(o, y)
}

// NewUnit builds the reference and runs its first step.
func NewUnit(config []byte) (*Unit, error) {
	const n, batch, side = 64, 16, 128
	b := &builder{s: op.NewScope()}
	s := b.s
	shape := op.Const(s.SubScope("shape"), []int64{n, side, side, 1})
	images := b.variable(op.StatelessRandomUniform(s, shape, op.Const(s.SubScope("seed"), []int64{1, 2})), n, side, side, 1)
	index := op.Placeholder(s.SubScope("index"), tf.Int64, op.PlaceholderShape(tf.MakeShape(batch)))
	x := op.ResourceGather(s.SubScope("gather"), images, index, tf.Float)
	h, in := x, int64(1)
	for _, out := range []int64{32, 64, 128, 256} {
		h = b.block(b.block(h, in, out, 1), out, out, 2)
		in = out
	}
	size := int64(side / 16)
	for _, out := range []int64{128, 64, 32, 16} {
		size *= 2
		o := s.SubScope("up")
		h = op.ResizeNearestNeighbor(o, h, op.Const(o.SubScope("size"), []int32{int32(size), int32(size)}))
		h = b.block(b.block(h, in, out, 1), out, out, 1)
		in = out
	}
	y := b.conv(h, in, 1, 1)
	o := s.SubScope("loss")
	loss := op.Mean(o, op.SquaredDifference(o.SubScope("error"), x, y), op.Const(o.SubScope("axes"), []int32{0, 1, 2, 3}))
	grads := op.Gradients(s.SubScope("gradients"), []tf.Output{loss}, b.reads)
	u := &Unit{index: index}
	scalar := func(v float32) tf.Output { return op.Const(s.SubScope("scalar"), v) }
	for i, v := range b.vars {
		a := s.SubScope("adam")
		shape := op.Shape(a.SubScope("shape"), b.reads[i])
		zero := op.Fill(a.SubScope("zero"), shape, op.Const(a.SubScope("value"), float32(0)))
		dims, err := b.reads[i].Shape().ToSlice()
		if err != nil {
			return nil, err
		}
		m, w := b.variable(zero, dims...), b.variable(zero, dims...)
		u.targets = append(u.targets, op.ResourceApplyAdam(a, v, m, w, scalar(0.9), scalar(0.999), scalar(1e-3), scalar(0.9), scalar(0.999), scalar(1e-8), grads[i]))
	}
	graph, err := s.Finalize()
	if err != nil {
		return nil, err
	}
	if u.session, err = tf.NewSession(graph, &tf.SessionOptions{Config: config}); err != nil {
		return nil, err
	}
	for _, init := range b.inits { // in order: moments read the shape of their variable
		if err := u.run(nil, init); err != nil {
			return nil, err
		}
	}
	numbers := make([]int64, batch)
	for i := range numbers {
		numbers[i] = int64(i * 3)
	}
	if u.batch, err = tf.NewTensor(numbers); err != nil {
		return nil, err
	}
	_, err = u.Step()
	return u, err
}

// Step runs one step and returns its time.
func (u *Unit) Step() (time.Duration, error) {
	start := time.Now()
	err := u.run(map[tf.Output]*tf.Tensor{u.index: u.batch}, u.targets...)
	return time.Since(start), err
}

func (u *Unit) run(feeds map[tf.Output]*tf.Tensor, targets ...*tf.Operation) error {
	return session.Quietly(func() error {
		_, err := u.session.Run(feeds, nil, targets)
		return err
	})
}

// Best returns the best of n steps.
func (u *Unit) Best(n int) (time.Duration, error) {
	best := time.Duration(1<<63 - 1)
	for range n {
		d, err := u.Step()
		if err != nil {
			return 0, err
		}
		best = min(best, d)
	}
	return best, nil
}

// Close frees the reference.
func (u *Unit) Close() error { return u.session.Close() }
