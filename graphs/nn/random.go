package nn

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// Random numbers depend on the run's seed, the path of s and the step alone:
// two calls on one path draw the same numbers. A second call on the very same
// Scope is an error; where networks run twice and must not share noise, give
// each run a scope of its own.

func (s *Scope) draws() {
	const key = " random numbers"
	if s.asked[key] {
		s.Fail("random numbers are drawn twice: give each draw a scope of its own")
	}
	s.asked[key] = true
}

// RandomNormal returns numbers drawn anew in each step from N(0,1), float32 of
// the given dimensions.
func RandomNormal(s *Scope, dims ...int) tf.Output {
	s.draws()
	o := s.Op("random_normal")
	return op.StatelessRandomNormal(o, ints(o, dims), s.StepSeed())
}

// RandomNormalLike is [RandomNormal] of the shape of x.
func RandomNormalLike(s *Scope, x tf.Output) tf.Output {
	s.draws()
	o := s.Op("random_normal")
	return StopGradient(s, op.StatelessRandomNormal(o, shapeOf(s, o, x), s.StepSeed()))
}

// RandomUniform returns numbers drawn anew in each step from U(0,1), float32
// of the given dimensions.
func RandomUniform(s *Scope, dims ...int) tf.Output {
	s.draws()
	o := s.Op("random_uniform")
	return op.StatelessRandomUniform(o, ints(o, dims), s.StepSeed())
}

// RandomUniformLike is [RandomUniform] of the shape of x.
func RandomUniformLike(s *Scope, x tf.Output) tf.Output {
	s.draws()
	o := s.Op("random_uniform")
	return StopGradient(s, op.StatelessRandomUniform(o, shapeOf(s, o, x), s.StepSeed()))
}

// Dropout sets each element to 0 with probability rate, 0 ≤ rate < 1, and
// divides the others by 1-rate; in inference it is x (Srivastava et al.,
// "Dropout", JMLR 2014).
func Dropout(s *Scope, x tf.Output, rate float64) tf.Output {
	if rate < 0 || rate >= 1 {
		s.Fail("dropout rate %g, need at least 0 and less than 1", rate)
	}
	if rate == 0 || !s.Training() {
		return x
	}
	keep := GreaterEqual(s, RandomUniformLike(s, x), Const(s, rate))
	return Mul(s, Scale(s, x, 1/(1-rate)), Cast(s, keep, tf.Float))
}

// SampleNormal draws from N(mean, exp(logVar)), element by element, as
// mean + exp(logVar/2)·ε, through which gradients flow; in inference it is the
// mean (Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, §2.4).
func SampleNormal(s *Scope, mean, logVar tf.Output) tf.Output {
	if !s.Training() {
		return mean
	}
	std := Exp(s, Scale(s, logVar, 0.5))
	return Add(s, mean, Mul(s, std, RandomNormalLike(s, mean)))
}
