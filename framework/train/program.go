// Package train runs methods: it builds their graphs, feeds their phases,
// keeps checkpoints from which a killed run goes on to the same bits, and
// scores images with finished runs.
package train

import (
	"fmt"
	"math"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// A program is a method's training graph with its phases as operations to run.
type program struct {
	scope  *nn.Scope
	in     framework.Inputs
	phases []*phase
	bump   *tf.Operation // ends a step
}

// A phase is a framework.Phase whose updates are operations.
type phase struct {
	framework.Phase
	updates []*update
	feeds   map[tf.Output]bool // placeholders that the phase reads
}

// An update is one optimiser's share of a step.
type update struct {
	name  string
	every int
	loss  tf.Output
	rate  tf.Output
	log   map[string]tf.Output
	done  []*tf.Operation // its optimiser and its writes
}

// build makes the training graph of m. steps is the budget of phases that do
// not set their own.
func build(m framework.Method, seed uint64, in framework.Inputs, steps int) (*program, error) {
	s := nn.NewScope(seed)
	in = placeholders(s, in)
	p := &program{scope: s, in: in}
	phases := m.Train(s, in)
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(phases) == 0 {
		return nil, fmt.Errorf("the method has no phases")
	}
	names := map[string]bool{}
	whole := quota{steps: steps}
	for _, f := range phases {
		if f.Name == "" || names[f.Name] {
			return nil, fmt.Errorf("phase %q: need a name that no other phase has", f.Name)
		}
		names[f.Name] = true
		if f.Fit == nil && f.Steps == 0 {
			f.Steps = whole.take(f.Share)
		}
		c, err := p.compile(f)
		if err != nil {
			return nil, fmt.Errorf("phase %s: %w", f.Name, err)
		}
		p.phases = append(p.phases, c)
	}
	counter := s.GlobalStepVariable()
	o := s.In("next")
	p.bump = op.AssignAddVariableOp(o.Op("step"), counter.Handle(), op.Const(o.Op("one"), int64(1)))
	return p, s.Err()
}

// A quota is the experiment's steps, which phases may divide.
type quota struct {
	steps int
	taken float64 // by the shares so far
}

// take returns the steps of a share, of all steps if it is 0. Shares that add
// up to 1 take every step, and none twice.
func (q *quota) take(share float64) int {
	if share == 0 {
		return q.steps
	}
	before := math.Round(q.taken * float64(q.steps))
	q.taken += share
	return int(math.Round(q.taken*float64(q.steps)) - before)
}

func placeholders(s *nn.Scope, in framework.Inputs) framework.Inputs {
	o := s.In("inputs")
	rows, size := int64(in.Rows), int64(in.Size)
	images := func(name string) tf.Output {
		return op.Placeholder(o.Op(name), tf.Float, op.PlaceholderShape(tf.MakeShape(rows, size, size, 1)))
	}
	ints := func(name string) tf.Output {
		return op.Placeholder(o.Op(name), tf.Int64, op.PlaceholderShape(tf.MakeShape(rows)))
	}
	in.Image, in.Clean, in.Mask = images("image"), images("clean"), images("mask")
	in.Label, in.Index = ints("label"), ints("index")
	return in
}

// compile turns the updates of f into operations that run in order within one
// call: update k waits for its gradients and its loss, and for all that update
// k-1 wrote; what update k's loss reads on its own scope is read after that.
func (p *program) compile(f framework.Phase) (*phase, error) {
	c := &phase{Phase: f, feeds: map[tf.Output]bool{}}
	if f.Fit != nil {
		if len(f.Updates) > 0 {
			return nil, fmt.Errorf("has both updates and a fit: make them two phases")
		}
		p.reach(c, f.Fit.Outputs...)
		return c, nil
	}
	if len(f.Updates) == 0 {
		return nil, fmt.Errorf("has neither updates nor a fit")
	}
	if f.Steps <= 0 {
		return nil, fmt.Errorf("has no steps: set train.steps or train.epochs in the experiment")
	}
	s := p.scope
	var after []*tf.Operation
	var written []*nn.Variable
	taken := map[*nn.Write]bool{}
	for k, u := range f.Updates {
		if u.Name == "" {
			return nil, fmt.Errorf("update %d has no name", k)
		}
		if slices.ContainsFunc(c.updates, func(e *update) bool { return e.name == u.Name }) {
			return nil, fmt.Errorf("update %s: need a name that no other update has", u.Name)
		}
		every := max(u.Every, 1)
		for _, e := range c.updates {
			if every%e.every != 0 {
				return nil, fmt.Errorf("update %s runs every %d steps, which is no multiple of %s's %d", u.Name, every, e.name, e.every)
			}
		}
		us := s.Later(written, after)
		loss := u.Loss(us)
		if s.Err() == nil && loss.Shape().NumDimensions() != 0 {
			return nil, fmt.Errorf("update %s: the loss has shape %v, need a scalar", u.Name, loss.Shape())
		}
		grads := nn.VariableGradients(us, loss, u.Vars)
		if err := s.Err(); err != nil {
			return nil, fmt.Errorf("update %s: %w", u.Name, err)
		}
		if err := u.Optimizer.Check(); err != nil {
			return nil, fmt.Errorf("update %s: %w", u.Name, err)
		}
		wait := append([]*tf.Operation{loss.Op}, after...)
		for i, g := range grads {
			// Whoever reads a variable as it was at the start of the step must have it by then.
			wait = append(wait, g.Op, s.Read(u.Vars[i]).Op)
		}
		at := s.In("optimizer").In(f.Name).In(u.Name)
		rate, done := u.Optimizer.Apply(at.After(wait...), u.Vars, grads, (f.Steps+every-1)/every)
		after = append(after, done...)
		written = append(written, u.Vars...)

		above := nn.Ancestors(loss)
		for _, w := range s.Writes() {
			if taken[w] || !w.RecordedOn(us) && !above.Has(w.From) {
				continue
			}
			taken[w] = true
			ws := s.Later(append(written, w.Variable), after)
			value := w.New(ws, ws.Read(w.Variable))
			if err := s.Err(); err != nil {
				return nil, fmt.Errorf("update %s: write of %s: %w", u.Name, w.Variable.Path, err)
			}
			p.reach(c, value)
			wait := append([]*tf.Operation{s.Read(w.Variable).Op}, after...)
			o := ws.In("writes").After(wait...).Write(w.Variable, value)
			after, done = []*tf.Operation{o}, append(done, o) // o has waited for the rest
			written = append(written, w.Variable)
		}
		p.reach(c, loss)
		for _, l := range u.Log {
			p.reach(c, l)
		}
		c.updates = append(c.updates, &update{name: u.Name, every: every, loss: loss, rate: rate, log: u.Log, done: done})
	}
	return c, s.Err()
}

// reach notes the placeholders that the phase needs for y.
func (p *program) reach(c *phase, y ...tf.Output) {
	if p.scope.Err() != nil {
		return
	}
	for _, y := range y {
		above := nn.Ancestors(y)
		for _, x := range []tf.Output{p.in.Image, p.in.Clean, p.in.Mask, p.in.Label, p.in.Index} {
			if above.Has(x) {
				c.feeds[x] = true
			}
		}
	}
}

// targets returns the operations of step t of the phase.
func (c *phase) targets(t int) []*tf.Operation {
	var ops []*tf.Operation
	for _, u := range c.updates {
		if t%u.every == 0 {
			ops = append(ops, u.done...)
		}
	}
	return ops
}

// losses returns the scalars of step t and their names in the log. Those of an
// update that rests at t are left out.
func (c *phase) losses(t int) (names []string, fetch []tf.Output) {
	for _, u := range c.updates {
		if t%u.every != 0 {
			continue
		}
		names, fetch = append(names, u.name), append(fetch, u.loss)
		for _, name := range sortedKeys(u.log) {
			names, fetch = append(names, u.name+"/"+name), append(fetch, u.log[name])
		}
	}
	return names, fetch
}

// scorer is a method's scoring graph with a session.
type scorer struct {
	scope   *nn.Scope
	session *session.Session
	x       tf.Output
	scores  framework.Scores
	batch   int
	size    int
}

// scoring builds only what scoring images x needs.
func scoring(m framework.Method, seed uint64, size, batch int) (s *nn.Scope, x tf.Output, f framework.Scores, err error) {
	s = nn.NewScope(seed)
	x = op.Placeholder(s.In("inputs").Op("image"), tf.Float, op.PlaceholderShape(tf.MakeShape(int64(batch), int64(size), int64(size), 1)))
	f = m.Score(s.Inference(), x)
	if err = s.Err(); err == nil {
		err = checkScores(f, size, batch)
	}
	return s, x, f, err
}

// newScorer builds the graph of scoring and loads it from a checkpoint.
func newScorer(m framework.Method, seed uint64, size, batch int, o session.Options, c *checkpoint) (*scorer, error) {
	s, x, scores, err := scoring(m, seed, size, batch)
	if err != nil {
		return nil, err
	}
	sess, err := session.New(s, o)
	if err != nil {
		return nil, err
	}
	if err := c.restore(sess, s); err != nil {
		sess.Close()
		return nil, err
	}
	return &scorer{scope: s, session: sess, x: x, scores: scores, batch: batch, size: size}, nil
}

func checkScores(f framework.Scores, size, batch int) error {
	if f.Image.Op == nil {
		return fmt.Errorf("the method gives no image score")
	}
	if f.Image.Shape().NumDimensions() != 1 {
		return fmt.Errorf("image score has shape %v, need [%d]", f.Image.Shape(), batch)
	}
	if f.Map.Op != nil {
		if got, err := f.Map.Shape().ToSlice(); err != nil || len(got) != 3 || got[1] != int64(size) || got[2] != int64(size) {
			return fmt.Errorf("anomaly map has shape %v, need [%d,%d,%d]", f.Map.Shape(), batch, size, size)
		}
	}
	return nil
}

// score gives score and map (nil without one) of n images in order; image
// writes the i-th into dst. each is called once an image.
func (r *scorer) score(n int, image func(i int, dst []float32) error, each func(i int, score float32, m []float32) error) error {
	area := r.size * r.size
	buf := make([]float32, r.batch*area)
	fetch := []tf.Output{r.scores.Image}
	if r.scores.Map.Op != nil {
		fetch = append(fetch, r.scores.Map)
	}
	for start := 0; start < n; start += r.batch {
		for j := range r.batch { // the last batch is filled up with the last image
			if err := image(min(start+j, n-1), buf[j*area:(j+1)*area]); err != nil {
				return err
			}
		}
		out, err := r.session.Run(map[tf.Output]*tf.Tensor{r.x: session.Floats([]int{r.batch, r.size, r.size, 1}, buf)}, fetch)
		if err != nil {
			return err
		}
		scores := session.Values(out[0])
		var maps []float32
		if len(out) > 1 {
			maps = session.Values(out[1])
		}
		for j := range min(r.batch, n-start) {
			var m []float32
			if maps != nil {
				m = maps[j*area : (j+1)*area]
			}
			if err := each(start+j, scores[j], m); err != nil {
				return err
			}
		}
	}
	return nil
}
