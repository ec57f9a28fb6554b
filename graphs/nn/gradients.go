package nn

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// Gradients returns d(sum of y)/dx for each x, by TensorFlow's gradient
// registry. An x that y does not depend on, and an operation on the way whose
// registered gradient is missing or known to be wrong, are errors that name
// the x by its variable or the operation. y is a scalar.
func Gradients(s *Scope, y tf.Output, x []tf.Output) []tf.Output {
	if s.Err() != nil {
		return make([]tf.Output, len(x))
	}
	if missing := s.unreached(y, x); len(missing) > 0 {
		s.Fail("the loss does not depend on %s", strings.Join(missing, ", "))
		return make([]tf.Output, len(x))
	}
	if bad := forbidden(y, x); bad != "" {
		s.Fail("%s", bad)
		return make([]tf.Output, len(x))
	}
	// The default seed OnesLike(y) has no gradient of its own, which second
	// derivatives would need.
	seed := op.Const(s.Op("gradient_seed"), float32(1))
	o := s.graph.root.SubScope("gradients")
	marker := op.NoOp(o)
	prefix, _, _ := strings.Cut(marker.Name(), "/NoOp")
	g, err := s.Graph().AddGradients(prefix+"/of", []tf.Output{y}, x, []tf.Output{seed})
	if err != nil {
		text, _, more := strings.Cut(err.Error(), ". Please see")
		if more {
			text += ": put StopGradient after it, or use another operation"
		}
		s.Fail("gradients: %s", text)
		return make([]tf.Output, len(x))
	}
	for i, g := range g {
		if absent(g) {
			s.Fail("no gradient of the loss arrives at %s", s.name(x[i]))
			return make([]tf.Output, len(x))
		}
	}
	return g
}

// absent reports whether TensorFlow returned no operation, which any use of g
// would crash on; graft does not say so.
func absent(g tf.Output) bool { return reflect.ValueOf(g.Op).Elem().FieldByName("c").IsNil() }

// VariableGradients returns the gradient of the scalar loss with respect to
// each variable, summed over all its reads that the loss depends on.
func VariableGradients(s *Scope, loss tf.Output, vars []*Variable) []tf.Output {
	out := make([]tf.Output, len(vars))
	if s.Err() != nil {
		return out
	}
	reached := walk(loss, sources)
	var flat []tf.Output
	counts := make([]int, len(vars))
	var missing []string
	for i, v := range vars {
		for _, r := range v.reads {
			if reached.Has(r) {
				flat = append(flat, r)
				counts[i]++
			}
		}
		if counts[i] == 0 {
			missing = append(missing, v.Path)
		}
	}
	if len(missing) > 0 {
		s.Fail("the loss does not depend on %s", list(missing))
		return out
	}
	g := Gradients(s, loss, flat)
	if s.Err() != nil {
		return out
	}
	for i, n := range counts {
		if n == 1 {
			out[i] = g[0]
		} else {
			out[i] = op.AddN(s.Op("sum"), g[:n])
		}
		g = g[n:]
	}
	return out
}

// list joins names, leaving out the middle of a long list.
func list(names []string) string {
	if len(names) > 6 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:6], ", "), len(names)-6)
	}
	return strings.Join(names, ", ")
}

// A Set holds the operations that a tensor depends on.
type Set map[string]bool

// Has reports whether the operation that makes x is in the set.
func (s Set) Has(x tf.Output) bool { return x.Op != nil && s[x.Op.Name()] }

// Ancestors returns the operations that y depends on through data, its own
// included.
func Ancestors(y tf.Output) Set { return walk(y, inputs) }

// walk returns the operation of y and all that next leads to from it.
func walk(y tf.Output, next func(*tf.Operation) []tf.Output) Set {
	seen := Set{}
	stack := []tf.Output{y}
	for len(stack) > 0 {
		o := stack[len(stack)-1].Op
		stack = stack[:len(stack)-1]
		if o == nil || seen[o.Name()] {
			continue
		}
		seen[o.Name()] = true
		stack = append(stack, next(o)...)
	}
	return seen
}

func inputs(o *tf.Operation) []tf.Output {
	in := make([]tf.Output, o.NumInputs())
	for i := range in {
		in[i] = tf.Consumer{Op: o, Index: i}.Producer()
	}
	return in
}

// sources returns the inputs that a gradient at o flows on to.
func sources(o *tf.Operation) []tf.Output {
	switch o.Type() {
	case "StopGradient", "ReadVariableOp":
		return nil
	}
	return slices.DeleteFunc(inputs(o), func(x tf.Output) bool { return !differentiable(x.DataType()) })
}

// unreached names those x that no gradient of y can reach.
func (s *Scope) unreached(y tf.Output, x []tf.Output) []string {
	reached := walk(y, sources)
	var names []string
	for _, x := range x {
		if !reached.Has(x) {
			names = append(names, s.name(x))
		}
	}
	return names
}

// name returns the path of the variable that x is a read of, or the name of
// its operation.
func (s *Scope) name(x tf.Output) string {
	for _, v := range s.graph.variables {
		if slices.Contains(v.reads, x) {
			return v.Path
		}
	}
	return x.Op.Name()
}

// forbidden walks from y to the xs along the edges that a gradient flows
// through and describes the first operation whose gradient in TensorFlow 2.18
// is missing or, worse, silently wrong; "" if there is none.
func forbidden(y tf.Output, x []tf.Output) string {
	targets := Set{}
	for _, x := range x {
		targets[x.Op.Name()] = true
	}
	onPath := map[string]bool{}
	var problem string
	var visit func(o *tf.Operation) bool
	visit = func(o *tf.Operation) bool {
		if on, ok := onPath[o.Name()]; ok {
			return on
		}
		onPath[o.Name()] = false // graphs have no cycles; this only marks the visit
		on := targets[o.Name()]
		for _, in := range sources(o) {
			if visit(in.Op) {
				on = true
			}
		}
		onPath[o.Name()] = on
		if on && problem == "" && !targets[o.Name()] {
			problem = refuse(o)
		}
		return on
	}
	visit(y.Op)
	return problem
}

func differentiable(t tf.DataType) bool {
	return t == tf.Float || t == tf.Double || t == tf.Half || t == tf.Bfloat16
}

// refuse says why no gradient may flow through o, and what to write instead.
func refuse(o *tf.Operation) string {
	say := func(why string) string {
		return fmt.Sprintf("operation %s (%s): %s", o.Name(), o.Type(), why)
	}
	switch o.Type() {
	case "Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative":
		if d, err := o.Attr("dilations"); err == nil {
			if d, ok := d.([]int64); ok && slices.ContainsFunc(d, func(d int64) bool { return d > 1 }) {
				return say("its gradient is wrong with dilations: use nn.Conv2D, whose Dilation is right")
			}
		}
		if p, err := o.Attr("padding"); err == nil && p == "EXPLICIT" {
			return say("its gradient fails with explicit padding: pad, then use VALID")
		}
	case "LogSoftmax":
		in := tf.Consumer{Op: o, Index: 0}.Producer()
		if in.Shape().NumDimensions() != 2 {
			return say("its gradient is wrong for rank 3 and more: use nn.LogSoftmax")
		}
	case "Concat":
		return say("it has no gradient: use ConcatV2 (nn.Concat)")
	case "TopK", "TopKV2":
		return say("it has no gradient: take the indices through StopGradient and gather the values")
	case "SparseSoftmaxCrossEntropyWithLogits":
		return say("it has no gradient: use one-hot labels (loss.CrossEntropy)")
	case "Cholesky", "ExtractImagePatches", "SelfAdjointEigV2":
		return say("it has no gradient: put StopGradient after it")
	}
	return ""
}
