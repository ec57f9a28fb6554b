package optim

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// A Schedule scales a learning rate over the steps of a phase. With u the
// finished steps after the warm-up, rounded down to a multiple of Hold, and T
// the steps after the warm-up:
//
//	constant  lr
//	step      lr·Gamma^⌊u/Every⌋
//	cosine    Min·lr + ½(1−Min)·lr·(1+cos(πu/T))
//
// With Cycle above 0 the cosine has half-waves of Cycle·T steps and goes on up
// and down, as PyTorch's CosineAnnealingLR does past its T_max.
//
// During the first Warmup steps the rate is lr·(t+1)/Warmup instead.
type Schedule struct {
	Kind   string  `toml:"kind"`   // constant (default), step or cosine
	Every  int     `toml:"every"`  // step: steps between two drops
	Gamma  float64 `toml:"gamma"`  // step: factor of a drop
	Min    float64 `toml:"min"`    // cosine: last rate as a share of the first
	Cycle  float64 `toml:"cycle"`  // cosine: a half-wave as a share of the steps, then up again; 0: one, over all of them
	Warmup int     `toml:"warmup"` // steps of linear warm-up
	Total  int     `toml:"total"`  // cosine: steps to the minimum; 0: the phase
	Hold   int     `toml:"hold"`   // steps between two changes of the rate, such as an epoch; 0 is 1
}

// Check names the first setting that is out of range.
func (c Schedule) Check() error {
	switch {
	case c.Kind != "" && c.Kind != "constant" && c.Kind != "step" && c.Kind != "cosine":
		return fmt.Errorf("schedule.kind: %q, need constant, step or cosine", c.Kind)
	case c.Kind == "step" && (c.Every < 1 || !(c.Gamma > 0)):
		return fmt.Errorf("schedule.every and schedule.gamma: %d and %g, need 1 or more and more than 0", c.Every, c.Gamma)
	case c.Min < 0 || c.Min > 1:
		return fmt.Errorf("schedule.min: %g, need a share from 0 to 1", c.Min)
	case !(c.Cycle >= 0):
		return fmt.Errorf("schedule.cycle: %g, need 0 or more", c.Cycle)
	case c.Warmup < 0 || c.Total < 0 || c.Hold < 0:
		return fmt.Errorf("schedule.warmup, schedule.total, schedule.hold: need 0 or more")
	}
	return nil
}

// rate returns the learning rate float32 [] of the step after t finished ones.
func (c Schedule) rate(s *nn.Scope, t tf.Output, lr float64, steps int) tf.Output {
	constant := func(v float64) tf.Output { return op.Const(s.Op("value"), v) }
	f := op.Cast(s.Op("finished"), t, tf.Double)
	u := op.Maximum(s.Op("after_warmup"), op.Sub(s.Op("minus_warmup"), f, constant(float64(c.Warmup))), constant(0))
	if c.Hold > 1 {
		hold := constant(float64(c.Hold))
		u = op.Mul(s.Op("held"), op.Floor(s.Op("holds"), op.Div(s.Op("per_hold"), u, hold)), hold)
	}
	rate := constant(lr)
	switch c.Kind {
	case "step":
		drops := op.Floor(s.Op("drops"), op.Div(s.Op("per_drop"), u, constant(float64(c.Every))))
		rate = op.Mul(s.Op("dropped"), rate, op.Pow(s.Op("factor"), constant(c.Gamma), drops))
	case "cosine":
		total := c.Total
		if total == 0 {
			total = steps
		}
		span := float64(max(total-c.Warmup, 1))
		if c.Cycle > 0 {
			span *= c.Cycle
		}
		share := op.Div(s.Op("ratio"), u, constant(span))
		if c.Cycle == 0 {
			share = op.Minimum(s.Op("share"), share, constant(1))
		}
		wave := op.Add(s.Op("wave"), op.Cos(s.Op("cos"), op.Mul(s.Op("angle"), share, constant(3.141592653589793))), constant(1))
		rate = op.Add(s.Op("rate"), constant(c.Min*lr), op.Mul(s.Op("swing"), wave, constant(0.5*(1-c.Min)*lr)))
	}
	if c.Warmup > 0 {
		ramp := op.Mul(s.Op("ramp"), op.Add(s.Op("next"), f, constant(1)), constant(lr/float64(c.Warmup)))
		warm := op.Less(s.Op("warm"), f, constant(float64(c.Warmup)))
		rate = op.Select(s.Op("select"), warm, ramp, rate)
	}
	return op.Cast(s.Op("float32"), rate, tf.Float)
}
