package nn

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// A Variable is a tensor that lives from step to step. Its path is its key in
// checkpoints.
type Variable struct {
	Path    string
	DType   tf.DataType // Float or Int64
	Shape   []int       // -1 where the length may change
	Trained bool        // an optimiser may change it

	init   Initializer
	seed   uint64
	handle tf.Output
	reads  []tf.Output   // every ReadVariableOp made of it
	feed   tf.Output     // placeholder of load
	load   *tf.Operation // sets the variable to feed
}

// Size returns the number of elements; a length that may change counts as 0.
func (v *Variable) Size() int64 { return int64(elements(v.Shape)) }

// String returns the path and shape of v.
func (v *Variable) String() string { return fmt.Sprintf("%s %v", v.Path, v.Shape) }

// Reads returns every read of v that the graph holds, for gradients.
func (v *Variable) Reads() []tf.Output { return v.reads }

// Handle returns the resource handle of v.
func (v *Variable) Handle() tf.Output { return v.handle }

// Load returns the operation that sets v and the placeholder that it sets v to.
func (v *Variable) Load() (*tf.Operation, tf.Output) { return v.load, v.feed }

// Initial returns the first value of v and its shape, in which a length that
// may change is 0.
func (v *Variable) Initial() ([]float32, []int, error) {
	shape := slices.Clone(v.Shape)
	for i, d := range shape {
		shape[i] = max(d, 0)
	}
	value, err := v.init(shape, rand.New(rand.NewPCG(v.seed, 0)))
	if err != nil {
		return nil, nil, fmt.Errorf("initial value of %s: %w", v.Path, err)
	}
	return value, shape, nil
}

// Variable returns the value of the trained variable name below s, creating it
// on first use: float32, of the given shape.
func (s *Scope) Variable(name string, init Initializer, shape ...int) tf.Output {
	return s.Read(s.declare(name, tf.Float, true, init, shape))
}

// Buffer returns the variable name below s that no optimiser touches, creating
// it on first use: float32, of the given shape, -1 where the length may change
// (0 at the start). Read it with [Scope.Read].
func (s *Scope) Buffer(name string, init Initializer, shape ...int) *Variable {
	return s.declare(name, tf.Float, false, init, shape)
}

// IntBuffer is [Scope.Buffer] of int64 elements.
func (s *Scope) IntBuffer(name string, init Initializer, shape ...int) *Variable {
	return s.declare(name, tf.Int64, false, init, shape)
}

// Counter returns an int64 scalar that starts at 0 and no optimiser touches.
func (s *Scope) Counter(name string) *Variable { return s.IntBuffer(name, Zeros()) }

// Trainable returns the trained variables below s in order of creation. That
// there are none is an error: it is called after the model is built.
func (s *Scope) Trainable() []*Variable {
	var out []*Variable
	for _, v := range s.Variables() {
		if v.Trained {
			out = append(out, v)
		}
	}
	if len(out) == 0 && s.Err() == nil {
		s.Fail("has no trained variables yet: build the model before asking for them")
	}
	return out
}

// Variables returns all variables below s in order of creation.
func (s *Scope) Variables() []*Variable {
	var out []*Variable
	for _, v := range s.graph.variables {
		if s.path == "" || strings.HasPrefix(v.Path, s.path+"/") {
			out = append(out, v)
		}
	}
	return out
}

// Lookup returns the variable of the given path, or nil.
func (s *Scope) Lookup(path string) *Variable { return s.graph.byPath[path] }

func (s *Scope) declare(name string, dtype tf.DataType, trained bool, init Initializer, shape []int) *Variable {
	path := name
	if s.path != "" {
		path = s.path + "/" + name
	}
	if s.asked[name] {
		s.Fail("variable %q is asked for twice: give each layer a scope of its own", name)
	}
	s.asked[name] = true
	if v := s.graph.byPath[path]; v != nil {
		if !slices.Equal(v.Shape, shape) || v.DType != dtype {
			s.Fail("variable %q has shape %v elsewhere, here %v", name, v.Shape, shape)
		}
		return v
	}
	v := &Variable{Path: path, DType: dtype, Shape: slices.Clone(shape), Trained: trained, init: init, seed: uint64(s.hash(path))}
	s.graph.byPath[path] = v
	s.graph.variables = append(s.graph.variables, v)
	if s.Err() != nil {
		return v
	}
	static := make([]int64, len(shape))
	for i, d := range shape {
		static[i] = int64(d)
	}
	o := s.graph.root.SubScope("variables/" + strings.ReplaceAll(path, " ", "_"))
	v.handle = op.VarHandleOp(o, dtype, tf.MakeShape(static...), op.VarHandleOpSharedName(path))
	v.feed = op.Placeholder(o.SubScope("feed"), dtype, op.PlaceholderShape(tf.MakeShape(static...)))
	v.load = op.AssignVariableOp(o.SubScope("load"), v.handle, v.feed)
	return v
}

// Read returns the value of v at the moment that s stands for.
func (s *Scope) Read(v *Variable) tf.Output {
	if s.Err() != nil {
		return tf.Output{}
	}
	w := s.graph.base
	if s.view.written[v] {
		w = s.view
	}
	if r, ok := w.reads[v]; ok {
		return r
	}
	o := s.graph.root.SubScope("reads/" + strings.ReplaceAll(v.Path, " ", "_"))
	if len(w.after) > 0 {
		o = o.WithControlDependencies(w.after...)
	}
	r := op.ReadVariableOp(o, v.handle, v.DType)
	w.reads[v] = r
	v.reads = append(v.reads, r)
	return r
}

// Write returns the operation that sets v to value, after the operations that
// s waits for.
func (s *Scope) Write(v *Variable, value tf.Output) *tf.Operation {
	return op.AssignVariableOp(s.Op("assign"), v.handle, value)
}
