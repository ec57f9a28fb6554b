package train

import (
	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// A Stepper takes the steps of one phase of a method on tensors of the caller,
// by the operations of a run: for parity tests and benchmarks of a method.
type Stepper struct {
	Inputs  framework.Inputs
	Session *session.Session
	Phase   int // whose steps; the first at the start

	program *program
}

// NewStepper builds m for the sizes in in, with a budget of steps, and starts
// every variable.
func NewStepper(m framework.Method, seed uint64, in framework.Inputs, steps int, o session.Options) (*Stepper, error) {
	p, err := build(m, seed, in, steps)
	if err != nil {
		return nil, err
	}
	x, err := session.New(p.scope, o)
	if err != nil {
		return nil, err
	}
	s := &Stepper{Inputs: p.in, Session: x, program: p}
	if err := x.Init(); err != nil {
		x.Close()
		return nil, err
	}
	return s, nil
}

// Scope returns the scope that the method was built on.
func (s *Stepper) Scope() *nn.Scope { return s.program.scope }

// Step takes step k of the phase on the given inputs and returns the losses of
// the updates that step then.
func (s *Stepper) Step(k int, feeds map[tf.Output]*tf.Tensor) (map[string]float64, error) {
	c := s.program.phases[s.Phase]
	names, fetch := c.losses(k)
	out, err := s.Session.Run(feeds, fetch, c.targets(k)...)
	if err != nil {
		return nil, err
	}
	losses := map[string]float64{}
	for i, name := range names {
		losses[name] = float64(session.Values(out[i])[0])
	}
	_, err = s.Session.Run(nil, nil, s.program.bump)
	return losses, err
}
