package session_test

import (
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
	"thorax/graphs/session"
)

func TestVariablesAndGradients(t *testing.T) {
	s := nn.NewScope(1)
	w := s.In("a").Variable("w", nn.Constant(3), 2)
	loss := op.Sum(s.Op("sum"), op.Mul(s.Op("mul"), w, w), op.Const(s.Op("axes"), []int32{0}))
	g := nn.VariableGradients(s, loss, s.Trainable())
	x, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	out, err := x.Run(nil, []tf.Output{loss, g[0]})
	if err != nil {
		t.Fatal(err)
	}
	if v := session.Values(out[0])[0]; v != 18 {
		t.Errorf("loss = %g, want 18", v)
	}
	if v := session.Values(out[1]); v[0] != 6 || v[1] != 6 {
		t.Errorf("gradient = %v, want 6 6", v)
	}
}
