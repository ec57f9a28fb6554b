package nn_test

import (
	"math"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// Every layer takes batches whose length is not known while building, with the
// values and gradients of a fixed one. Dropout and sampling draw by shape, so
// they too agree.
func TestUnknownBatch(t *testing.T) {
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			s := nn.NewScope(1)
			elements, static := 1, make([]int64, len(l.shape))
			for i, d := range l.shape {
				elements *= d
				static[i] = int64(d)
			}
			fixed := placeholder(s, static)
			static[0] = -1
			open := placeholder(s, static)
			var fetches []tf.Output
			for _, x := range []tf.Output{fixed, open} {
				y := l.apply(s.In("layer"), x)
				g := nn.Gradients(s, nn.SumAll(s, nn.Square(s, y)), []tf.Output{x})
				fetches = append(fetches, y, g[0])
			}
			run := started(t, s)
			feed := session.Floats(l.shape, nntest.Draw(5, elements))
			out, err := run.Run(map[tf.Output]*tf.Tensor{fixed: feed, open: feed}, fetches)
			if err != nil {
				t.Fatal(err)
			}
			nntest.Close(t, "output", session.Values(out[2]), float64s(session.Values(out[0])), 1e-6)
			nntest.Close(t, "gradient", session.Values(out[3]), float64s(session.Values(out[1])), 1e-5)
		})
	}
}

func TestSimilarityOfUnknownBatch(t *testing.T) {
	s := nn.NewScope(1)
	x, y := placeholder(s, []int64{-1, 16, 16, 2}), placeholder(s, []int64{-1, 16, 16, 2})
	index, _ := loss.MultiScaleSSIM(s, x, y, []float64{0.5, 0.5}, loss.Similarity{Window: 7})
	run := started(t, s)
	a, b := nntest.Draw(1, 3*512), nntest.Draw(2, 3*512)
	for i := range b {
		b[i] = a[i] + 0.3*b[i]
	}
	three, err := run.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{3, 16, 16, 2}, a), y: session.Floats([]int{3, 16, 16, 2}, b)}, []tf.Output{index})
	if err != nil {
		t.Fatal(err)
	}
	one, err := run.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{1, 16, 16, 2}, a[512:1024]), y: session.Floats([]int{1, 16, 16, 2}, b[512:1024])}, []tf.Output{index})
	if err != nil {
		t.Fatal(err)
	}
	all, single := session.Values(three[0]), session.Values(one[0])
	if len(all) != 3 || len(single) != 1 || math.Abs(float64(all[1]-single[0])) > 1e-5 {
		t.Errorf("index of an image is %v among three and %v alone", all, single)
	}
}

func placeholder(s *nn.Scope, shape []int64) tf.Output {
	return op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(shape...)))
}
