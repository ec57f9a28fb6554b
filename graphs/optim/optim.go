// Package optim holds optimisers and learning-rate schedules as graph
// operations. Their state lies in variables, so that a checkpoint continues bit
// for bit.
package optim

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// An Optimizer moves variables against their gradients.
type Optimizer interface {
	// Check names the first setting that is out of range.
	Check() error
	// Apply adds one step for vars to the graph, with state below s. All of it
	// runs after the operations that s waits for. steps is the length of the
	// phase, which schedules without a length of their own span. It returns the
	// learning rate of the step and the operations that end it.
	Apply(s *nn.Scope, vars []*nn.Variable, grads []tf.Output, steps int) (rate tf.Output, done []*tf.Operation)
}

// Common are the settings that all optimisers share.
type Common struct {
	LR          float64  `toml:"lr"`           // learning rate at its highest
	WeightDecay float64  `toml:"weight_decay"` // λ; added to the gradient (L2), decoupled in AdamW
	ClipNorm    float64  `toml:"clip_norm"`    // gradients are scaled to at most this joint norm; 0: not
	Schedule    Schedule `toml:"schedule"`
}

// Check names the first setting that is out of range.
func (c Common) Check() error {
	switch {
	case !(c.LR > 0):
		return fmt.Errorf("lr: %g, need more than 0", c.LR)
	case c.WeightDecay < 0:
		return fmt.Errorf("weight_decay: %g, need 0 or more", c.WeightDecay)
	case c.ClipNorm < 0:
		return fmt.Errorf("clip_norm: %g, need 0 or more", c.ClipNorm)
	}
	return c.Schedule.Check()
}

// SGD is stochastic gradient descent with momentum in PyTorch's form:
// g ← g + λθ, b ← μb + g (b = g at first), θ ← θ − lr·b, or with Nesterov's
// momentum θ ← θ − lr·(g + μb).
type SGD struct {
	Common
	Momentum float64 `toml:"momentum"` // share of the last step that the next one keeps; 0: none
	Nesterov bool    `toml:"nesterov"`
}

// NewSGD returns SGD with constant rate and the given momentum.
func NewSGD(lr, momentum float64) SGD { return SGD{Common: Common{LR: lr}, Momentum: momentum} }

// Check names the first setting that is out of range.
func (o SGD) Check() error {
	if !(o.Momentum >= 0 && o.Momentum < 1) {
		return fmt.Errorf("momentum: %g, need 0 or more and less than 1", o.Momentum)
	}
	if o.Nesterov && o.Momentum == 0 {
		return fmt.Errorf("nesterov: true without a momentum, need momentum more than 0")
	}
	return o.Common.Check()
}

// Apply implements [Optimizer].
func (o SGD) Apply(s *nn.Scope, vars []*nn.Variable, grads []tf.Output, steps int) (tf.Output, []*tf.Operation) {
	p := o.prepare(s, vars, grads, steps, o.WeightDecay)
	for i, v := range vars {
		at := s.In(v.Path)
		if o.Momentum == 0 {
			p.add(op.ResourceApplyGradientDescent(at.Op("apply"), v.Handle(), p.rate, p.grads[i]))
			continue
		}
		b := at.Buffer("momentum", nn.Zeros(), v.Shape...)
		p.add(op.ResourceApplyMomentum(at.Op("apply"), v.Handle(), b.Handle(), p.rate, p.grads[i],
			op.Const(at.Op("mu"), float32(o.Momentum)), op.ResourceApplyMomentumUseNesterov(o.Nesterov)))
	}
	return p.finish()
}

// Adam is Kingma & Ba, ICLR 2015, with PyTorch's ε convention:
// θ ← θ − lr·m̂/(√v̂ + ε), where m̂ and v̂ are bias-corrected. Weight decay is
// added to the gradient.
type Adam struct {
	Common
	Beta1 float64 `toml:"beta1"` // decay of the mean of the gradient
	Beta2 float64 `toml:"beta2"` // decay of the mean of its square
	Eps   float64 `toml:"eps"`   // ε, beside the root of that
}

// NewAdam returns Adam with β = (0.9, 0.999), ε = 1e-8 and constant rate.
func NewAdam(lr float64) Adam {
	return Adam{Common: Common{LR: lr}, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
}

// Check names the first setting that is out of range.
func (o Adam) Check() error {
	switch {
	case o.Beta1 < 0 || o.Beta1 >= 1:
		return fmt.Errorf("beta1: %g, need 0 or more and less than 1", o.Beta1)
	case o.Beta2 < 0 || o.Beta2 >= 1:
		return fmt.Errorf("beta2: %g, need 0 or more and less than 1", o.Beta2)
	case !(o.Eps > 0):
		return fmt.Errorf("eps: %g, need more than 0", o.Eps)
	}
	return o.Common.Check()
}

// Apply implements [Optimizer].
func (o Adam) Apply(s *nn.Scope, vars []*nn.Variable, grads []tf.Output, steps int) (tf.Output, []*tf.Operation) {
	p := o.prepare(s, vars, grads, steps, o.WeightDecay)
	o.moments(s, p, vars)
	return p.finish()
}

// moments adds the Adam updates. TensorFlow's operation puts ε beside √v, not
// beside √v̂; with its beta powers at 0, lr·√(1−β₂ᵗ)/(1−β₁ᵗ) for its rate and
// ε·√(1−β₂ᵗ) for its ε it computes PyTorch's formula. The scalars are float64.
func (o Adam) moments(s *nn.Scope, p *step, vars []*nn.Variable) {
	f := s.In("scalars")
	t := op.Cast(f.Op("t"), p.t, tf.Double)
	one := op.Const(f.Op("one"), float64(1))
	power := func(name string, beta float64) tf.Output {
		b := op.Const(f.Op(name), float64(float32(beta)))
		return op.Sub(f.Op(name+"_rest"), one, op.Pow(f.Op(name+"_power"), b, t))
	}
	rest1, rest2 := power("beta1", o.Beta1), power("beta2", o.Beta2)
	root := op.Sqrt(f.Op("root"), rest2)
	rate := op.Mul(f.Op("rate"), op.Cast(f.Op("lr"), p.rate, tf.Double), op.Div(f.Op("ratio"), root, rest1))
	eps := op.Mul(f.Op("eps"), op.Const(f.Op("epsilon"), o.Eps), root)
	rate32, eps32 := op.Cast(f.Op("rate32"), rate, tf.Float), op.Cast(f.Op("eps32"), eps, tf.Float)
	zero := op.Const(f.Op("zero"), float32(0))
	beta1, beta2 := op.Const(f.Op("b1"), float32(o.Beta1)), op.Const(f.Op("b2"), float32(o.Beta2))
	for i, v := range vars {
		at := s.In(v.Path)
		m := at.Buffer("m", nn.Zeros(), v.Shape...)
		u := at.Buffer("v", nn.Zeros(), v.Shape...)
		p.add(op.ResourceApplyAdam(at.Op("apply"), v.Handle(), m.Handle(), u.Handle(), zero, zero,
			rate32, beta1, beta2, eps32, p.grads[i]))
	}
}

// AdamW is Adam with decoupled weight decay, Loshchilov & Hutter, ICLR 2019:
// θ ← θ − lr·λ·θ before the Adam step.
type AdamW struct {
	Adam
}

// NewAdamW returns AdamW with Adam's defaults and the given decay.
func NewAdamW(lr, decay float64) AdamW {
	o := AdamW{NewAdam(lr)}
	o.WeightDecay = decay
	return o
}

// Apply implements [Optimizer].
func (o AdamW) Apply(s *nn.Scope, vars []*nn.Variable, grads []tf.Output, steps int) (tf.Output, []*tf.Operation) {
	p := o.prepare(s, vars, grads, steps, 0)
	if o.WeightDecay > 0 {
		decay := op.Mul(s.Op("decay"), p.rate, op.Const(s.Op("lambda"), float32(o.WeightDecay)))
		var decayed []*tf.Operation
		for _, v := range vars {
			at := s.In(v.Path).In("decay")
			now := op.ReadVariableOp(at.Op("read"), v.Handle(), tf.Float)
			decayed = append(decayed, op.AssignSubVariableOp(at.Op("apply"), v.Handle(), op.Mul(at.Op("by"), now, decay)))
		}
		s = s.After(decayed...)
	}
	o.moments(s, p, vars)
	return p.finish()
}

// A step is one optimiser step under construction.
type step struct {
	s     *nn.Scope
	count *nn.Variable
	t     tf.Output // number of this step, from 1, int64
	rate  tf.Output // float32 []
	grads []tf.Output
	ops   []*tf.Operation
}

// prepare reads the step counter, evaluates the schedule, clips the gradients
// and adds λθ to them. Gradients are clipped before decay is added, as
// PyTorch's clip_grad_norm_ leads to.
func (c Common) prepare(s *nn.Scope, vars []*nn.Variable, grads []tf.Output, steps int, decay float64) *step {
	p := &step{s: s, count: s.Counter("step")}
	one := op.Const(s.Op("one"), int64(1))
	before := op.ReadVariableOp(s.Op("count"), p.count.Handle(), tf.Int64)
	p.t = op.Add(s.Op("t"), before, one)
	p.rate = c.Schedule.rate(s.In("schedule"), before, c.LR, steps)
	p.grads = append(p.grads, grads...)
	if c.ClipNorm > 0 {
		at := s.In("clip")
		squares := make([]tf.Output, len(grads))
		for i, g := range grads {
			squares[i] = op.L2Loss(at.Op("square"), g)
		}
		norm := op.Sqrt(at.Op("norm"), op.Mul(at.Op("sum"), op.AddN(at.Op("halves"), squares), op.Const(at.Op("two"), float32(2))))
		limit := op.Const(at.Op("limit"), float32(c.ClipNorm))
		factor := op.Minimum(at.Op("factor"), op.Const(at.Op("one"), float32(1)),
			op.Div(at.Op("ratio"), limit, op.Add(at.Op("safe"), norm, op.Const(at.Op("tiny"), float32(1e-6)))))
		for i, g := range grads {
			p.grads[i] = op.Mul(at.Op("clipped"), g, factor)
		}
	}
	if decay > 0 {
		at := s.In("l2")
		lambda := op.Const(at.Op("lambda"), float32(decay))
		for i, v := range vars {
			now := op.ReadVariableOp(at.Op("read"), v.Handle(), tf.Float)
			p.grads[i] = op.Add(at.Op("add"), p.grads[i], op.Mul(at.Op("times"), now, lambda))
		}
	}
	return p
}

func (p *step) add(o *tf.Operation) { p.ops = append(p.ops, o) }

// finish bumps the counter after all updates have run.
func (p *step) finish() (tf.Output, []*tf.Operation) {
	s := p.s.After(p.ops...)
	return p.rate, []*tf.Operation{s.Write(p.count, p.t)}
}
