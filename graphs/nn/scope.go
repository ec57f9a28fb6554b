// Package nn is the graph core: scopes that own variables by path, and the
// layers built on them.
//
// A [Scope] is a place in a graph: it names operations and variables, knows
// whether the model trains or scores, and keeps the first error, so that graph
// code reads as mathematics and is checked once. Images are [B,H,W,C] float32.
package nn

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// A Scope is a place in a graph. Scopes derived from one root share its graph,
// variables and first error. Not safe for concurrent use.
type Scope struct {
	*graph
	path      string    // prefix of variable paths, "" at the root
	ops       *op.Scope // where operations go
	inference bool
	view      *view
	asked     map[string]bool // variables this very Scope was asked for
}

// graph is what all scopes of one root share.
type graph struct {
	graph     *tf.Graph
	root      *op.Scope
	seed      uint64
	variables []*Variable // in order of creation
	byPath    map[string]*Variable
	writes    []*Write
	base      *view
	step      *Variable
}

// A view is a moment in a step: what a variable read through it holds.
// The base view is the start of the step; a later one follows some writes.
type view struct {
	written map[*Variable]bool // read anew, after the operations in after
	after   []*tf.Operation
	reads   map[*Variable]tf.Output
}

// NewScope returns the root scope of an empty graph. The seed is the seed of
// the run: initial values and all randomness derive from it and from paths.
func NewScope(seed uint64) *Scope {
	g := tf.NewGraph()
	ops := op.NewScopeWithGraph(g)
	base := &view{reads: map[*Variable]tf.Output{}}
	s := &Scope{
		graph: &graph{graph: g, root: ops, seed: seed, byPath: map[string]*Variable{}, base: base},
		ops:   ops, view: base, asked: map[string]bool{},
	}
	s.graph.step = s.In("global").Counter("step")
	return s
}

func (s *Scope) derive() *Scope {
	t := *s
	t.asked = map[string]bool{}
	return &t
}

// In returns the scope name below s. Variables made in it have the path of s,
// a slash and the name; calling In twice with one name shares variables.
func (s *Scope) In(name string) *Scope {
	t := s.derive()
	if t.path != "" {
		t.path += "/"
	}
	t.path += name
	t.ops = s.ops.SubScope(strings.ReplaceAll(name, " ", "_"))
	return t
}

// At returns the scope of the i-th of several like parts: encoder.At(0).
func (s *Scope) At(i int) *Scope { return s.In(strconv.Itoa(i)) }

// Op returns where to add one named operation; names are made unique.
func (s *Scope) Op(name string) *op.Scope { return s.ops.SubScope(name) }

// Path returns the prefix of the variables made on s.
func (s *Scope) Path() string { return s.path }

// Inference returns s in inference mode: batch norm uses its running
// statistics, dropout and sampling are off, nothing is written.
func (s *Scope) Inference() *Scope {
	t := s.derive()
	t.inference = true
	return t
}

// Training reports whether s is in training mode.
func (s *Scope) Training() bool { return !s.inference }

// After returns s with every further operation waiting for the given ones.
func (s *Scope) After(ops ...*tf.Operation) *Scope {
	t := s.derive()
	if s.Err() == nil {
		t.ops = s.ops.WithControlDependencies(s.join(ops)...)
	}
	return t
}

// join returns one operation that follows all the given ones. Without it, m
// operations that wait for n others are m·n edges, over which TensorFlow plans
// for longer than it computes.
func (s *Scope) join(ops []*tf.Operation) []*tf.Operation {
	if len(ops) <= 1 {
		return ops
	}
	return []*tf.Operation{op.NoOp(s.graph.root.SubScope("join").WithControlDependencies(ops...))}
}

// OnCPU returns s with every further operation on the CPU, for what has no
// kernel worth calling on a GPU (symmetric eigenproblems, Cholesky).
func (s *Scope) OnCPU() *Scope {
	t := s.derive()
	t.ops = s.ops.WithDevice("/device:CPU:0")
	return t
}

// Graph returns the TensorFlow graph that s builds.
func (s *Scope) Graph() *tf.Graph { return s.graph.graph }

// Seed returns the seed of the run.
func (s *Scope) Seed() uint64 { return s.graph.seed }

// Err returns the first error met while building, without TensorFlow's stack
// trace, or nil.
func (s *Scope) Err() error {
	err := s.root.Err()
	if err == nil {
		return nil
	}
	text, _, _ := strings.Cut(err.Error(), " (Stacktrace: ")
	return errors.New(strings.TrimPrefix(text, `failed to add operation "": `))
}

// Fail records a mistake in the graph, such as a wrong shape. The first one is
// kept; no operation is added after it.
func (s *Scope) Fail(format string, args ...any) {
	where := s.path
	if where == "" {
		where = "graph"
	}
	s.ops.UpdateErr("", fmt.Errorf("%s: "+format, append([]any{where}, args...)...))
}

// hash maps a path to the seed of what is drawn there.
func (s *Scope) hash(path string) int64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s", s.graph.seed, path)
	return int64(h.Sum64() >> 1)
}

// StepSeed returns the [2] int64 seed for the stateless random operations of
// s: it differs by run, path and step, and by nothing else.
func (s *Scope) StepSeed() tf.Output {
	o := s.Op("seed")
	parts := []tf.Output{op.Const(o.SubScope("path"), s.hash(s.path)), s.GlobalStep()}
	return op.Pack(o, parts)
}

// GlobalStep returns the number of steps finished before this one, int64 [].
func (s *Scope) GlobalStep() tf.Output { return s.Read(s.graph.step) }

// GlobalStepVariable returns the variable behind GlobalStep, which the trainer
// bumps between steps.
func (s *Scope) GlobalStepVariable() *Variable { return s.graph.step }

// Later returns s as it stands after the given operations, which wrote the
// given variables: those are read anew, all others as before.
func (s *Scope) Later(written []*Variable, after []*tf.Operation) *Scope {
	t := s.derive()
	t.view = &view{written: map[*Variable]bool{}, reads: map[*Variable]tf.Output{}}
	if s.Err() == nil {
		t.view.after = s.join(after)
	}
	for _, v := range written {
		t.view.written[v] = true
	}
	return t
}

// A Write is a change of a variable that belongs to a forward pass.
type Write struct {
	Variable *Variable
	From     tf.Output // the forward pass this write belongs to
	New      func(s *Scope, old tf.Output) tf.Output
	on       *view
}

// Assign records that each step whose loss reaches from sets v to new(s, old).
// The trainer runs it after the update whose loss reached from; old and every
// variable read on the scope handed to new are what that update left. Several
// writes of one variable follow one another in the order of recording. In
// inference mode nothing is recorded.
func (s *Scope) Assign(v *Variable, from tf.Output, new func(s *Scope, old tf.Output) tf.Output) {
	if s.inference || s.Err() != nil {
		return
	}
	s.graph.writes = append(s.graph.writes, &Write{Variable: v, From: from, New: new, on: s.view})
}

// Writes returns the recorded writes in order.
func (s *Scope) Writes() []*Write { return s.graph.writes }

// RecordedOn reports whether the write was recorded on s or on a scope derived
// from it by In, At, Op, After or Inference.
func (w *Write) RecordedOn(s *Scope) bool { return w.on == s.view }
