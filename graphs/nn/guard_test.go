package nn_test

import (
	"fmt"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
)

// gradient asks for the gradient of the sum of y(x) with respect to x.
func gradient(y func(s *nn.Scope, x tf.Output) tf.Output, shape ...int) error {
	s := nn.NewScope(1)
	x := nntest.Input(s, "x", shape...)
	nn.Gradients(s, nn.SumAll(s, y(s, x)), []tf.Output{x})
	return s.Err()
}

// Operations whose gradient is missing or wrong are refused by name.
func TestForbiddenOperations(t *testing.T) {
	image := []int{2, 6, 6, 2}
	kernel := func(s *nn.Scope) tf.Output { return nn.Consts(s, nntest.Draw(1, 3*3*2*2), 3, 3, 2, 2) }
	for _, tt := range []struct {
		name  string
		shape []int
		apply func(s *nn.Scope, x tf.Output) tf.Output
	}{
		{"Conv2D", image, func(s *nn.Scope, x tf.Output) tf.Output {
			return op.Conv2D(s.Op("dilated"), x, kernel(s), []int64{1, 1, 1, 1}, "SAME", op.Conv2DDilations([]int64{1, 2, 2, 1}))
		}},
		{"Conv2D", image, func(s *nn.Scope, x tf.Output) tf.Output {
			return op.Conv2D(s.Op("explicit"), x, kernel(s), []int64{1, 1, 1, 1}, "EXPLICIT", op.Conv2DExplicitPaddings([]int64{0, 0, 1, 1, 1, 1, 0, 0}))
		}},
		{"DepthwiseConv2dNative", image, func(s *nn.Scope, x tf.Output) tf.Output {
			return op.DepthwiseConv2dNative(s.Op("dilated"), x, kernel(s), []int64{1, 1, 1, 1}, "SAME", op.DepthwiseConv2dNativeDilations([]int64{1, 2, 2, 1}))
		}},
		{"LogSoftmax", []int{2, 3, 4}, func(s *nn.Scope, x tf.Output) tf.Output { return op.LogSoftmax(s.Op("wrong"), x) }},
		{"Concat", []int{2, 3}, func(s *nn.Scope, x tf.Output) tf.Output {
			o := s.Op("concat")
			return op.Concat(o, op.Const(o, int32(0)), []tf.Output{x, x})
		}},
		{"TopKV2", []int{2, 3}, func(s *nn.Scope, x tf.Output) tf.Output {
			o := s.Op("top")
			v, _ := op.TopKV2(o, x, op.Const(o, int32(1)))
			return v
		}},
		{"SparseSoftmaxCrossEntropyWithLogits", []int{2, 3}, func(s *nn.Scope, x tf.Output) tf.Output {
			o := s.Op("sparse")
			l, _ := op.SparseSoftmaxCrossEntropyWithLogits(o, x, op.Const(o, []int32{0, 1}))
			return l
		}},
		{"Cholesky", []int{3, 3}, func(s *nn.Scope, x tf.Output) tf.Output { return op.Cholesky(s.Op("root"), x) }},
		{"ExtractImagePatches", image, func(s *nn.Scope, x tf.Output) tf.Output {
			ones := []int64{1, 1, 1, 1}
			return op.ExtractImagePatches(s.Op("patches"), x, []int64{1, 3, 3, 1}, ones, ones, "SAME")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := gradient(tt.apply, tt.shape...)
			if err == nil || !strings.Contains(err.Error(), "("+tt.name+")") {
				t.Errorf("error is %v, want one that names %s", err, tt.name)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %v", err)
			}
			// Before a StopGradient all of them are welcome. After one they are
			// not: TensorFlow differentiates all that lies between x and y.
			if err := gradient(func(s *nn.Scope, x tf.Output) tf.Output {
				return nn.Mul(s, nn.SumAll(s, x), nn.SumAll(s, nn.StopGradient(s, tt.apply(s, x))))
			}, tt.shape...); err != nil {
				t.Errorf("before StopGradient: %v", err)
			}
		})
	}
}

// A second derivative that TensorFlow lacks is an error, not a wrong number.
func TestNoSecondDerivative(t *testing.T) {
	for name, layer := range map[string]func(s *nn.Scope, x tf.Output) tf.Output{
		"Relu":           nn.ReLU,
		"Sigmoid":        nn.Sigmoid,
		"MaxPool":        func(s *nn.Scope, x tf.Output) tf.Output { return nn.MaxPool(s, x, 2, 2, nn.Valid) },
		"FusedBatchNorm": func(s *nn.Scope, x tf.Output) tf.Output { return nn.BatchNorm(s, x, nn.BN{}) },
	} {
		err := gradient(func(s *nn.Scope, x tf.Output) tf.Output {
			y := nn.SumAll(s, nn.Square(s, layer(s, x)))
			return nn.Gradients(s, y, []tf.Output{x})[0]
		}, 2, 4, 4, 2)
		if err == nil || !strings.Contains(err.Error(), name+"Grad") || strings.Contains(err.Error(), "http") {
			t.Errorf("%s: error is %v, want one that names its gradient", name, err)
		}
	}
}

func TestUnreachedVariable(t *testing.T) {
	for name, loss := range map[string]func(s *nn.Scope, a, b tf.Output) tf.Output{
		"not used":     func(s *nn.Scope, a, b tf.Output) tf.Output { return a },
		"stopped":      func(s *nn.Scope, a, b tf.Output) tf.Output { return nn.Add(s, a, nn.StopGradient(s, b)) },
		"by its shape": func(s *nn.Scope, a, b tf.Output) tf.Output { return nn.ReshapeLike(s, a, b) },
		"by its index": func(s *nn.Scope, a, b tf.Output) tf.Output { return nn.Gather(s, a, nn.ArgMax(s, b, 0), 0) },
	} {
		s := nn.NewScope(1)
		y := loss(s, nntest.Input(s, "a", 3), nntest.Input(s.In("decoder"), "b", 3))
		nn.VariableGradients(s, nn.SumAll(s, y), s.Trainable())
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "decoder/input/b") {
			t.Errorf("%s: error is %v, want one that names decoder/input/b", name, err)
		}
	}
}

// Mistakes are errors that say what is wrong.
func TestMistakes(t *testing.T) {
	for name, build := range map[string]func(s *nn.Scope){
		"kernel":         func(s *nn.Scope) { nn.Dense(s, nn.Dense(s, nn.Consts(s, []float32{1, 2}, 1, 2), 2), 2) },
		"shape":          func(s *nn.Scope) { nn.Dense(s.In("a"), nn.Dense(s.In("a"), nn.Consts(s, []float32{1, 2}, 1, 2), 3), 3) },
		"random numbers": func(s *nn.Scope) { nn.Add(s, nn.RandomNormal(s, 2), nn.RandomNormal(s, 2)) },
		"0 outputs":      func(s *nn.Scope) { nn.Dense(s, nn.Consts(s, []float32{1, 2}, 1, 2), 0) },
		"is missing":     func(s *nn.Scope) { nn.Flatten(s, tf.Output{}) },
		"need at least":  func(s *nn.Scope) { nn.Dropout(s, nn.Const(s, 1), 1) },
	} {
		s := nn.NewScope(1)
		build(s)
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	s := nn.NewScope(1)
	x := nn.Consts(s, []float32{1, 2}, 1, 2)
	nn.Add(s, nn.Dense(s.In("a"), x, 3), nn.Dense(s.In("a"), x, 3))
	if err := s.Err(); err != nil {
		t.Errorf("a layer used on two inputs: %v", err)
	}
	if n := len(s.Variables()); n != 3 { // kernel, bias, the global step
		t.Errorf("a layer used on two inputs has %d variables, want 3", n)
	}
}

// Layers on a scope that has failed add nothing and do not panic; the first
// error stays.
func TestFailedScope(t *testing.T) {
	for _, l := range layers {
		s := nn.NewScope(1)
		x := nntest.Input(s, "x", l.shape...)
		s.Fail("the first mistake")
		l.apply(s.In("layer"), l.apply(s.In("one more"), x))
		l.apply(s.In("layer").Inference(), tf.Output{})
		if err := s.Err(); err == nil || err.Error() != "graph: the first mistake" {
			t.Errorf("%s: error is %v", l.name, err)
		}
	}
}

// recorder is a testing.TB that fails without failing.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// The check itself: gradients that are wrong do not pass.
func TestCheckGradientsFinds(t *testing.T) {
	for name, build := range map[string]func(s *nn.Scope) tf.Output{
		"half a gradient": func(s *nn.Scope) tf.Output {
			x := nntest.Input(s, "x", 3)
			return nn.Add(s, x, nn.StopGradient(s, nn.Square(s, x)))
		},
		"two per cent more": func(s *nn.Scope) tf.Output {
			x := nntest.Input(s, "x", 3)
			return nn.Sub(s, nn.Scale(s, x, 1.02), nn.StopGradient(s, nn.Scale(s, x, 0.02)))
		},
	} {
		r := &recorder{TB: t}
		nntest.CheckGradients(r, build, nntest.Options{})
		if len(r.errors) != 3 || !strings.Contains(r.errors[0], "input/x") {
			t.Errorf("%s: errors are %q, want one for each element of input/x", name, r.errors)
		}
	}
}
