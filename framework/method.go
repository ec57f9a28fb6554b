// Package framework is the vocabulary that methods are written in: a method
// says what to compute, phases say when, and the trainer does it.
package framework

import (
	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework/data"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
)

// A Method learns from normal images and scores new ones. Its exported fields
// are its TOML keys; a constructor gives their defaults. Images enter as
// [B,S,S,1] float32 in [0,1]. A field tagged enters:"score" does not change what
// is learnt, except that it may leave out last phases that write nothing its score
// reads: rows that differ there alone are trained once.
type Method interface {
	// Check names the first field that is out of range and the remedy.
	Check() error
	// Train builds the graph that learns from in and says in which phases.
	Train(s *nn.Scope, in Inputs) []Phase
	// Score builds the graph that scores x, on a scope in inference mode. It
	// must build without Train: a finished run is scored from its checkpoint.
	Score(s *nn.Scope, x tf.Output) Scores
}

// Inputs are the placeholders of a training step, fed only where a phase
// reaches them. Without a [Corrupter], Image and Clean are the same images,
// Mask is zero and Label is zero.
type Inputs struct {
	Image tf.Output // [Rows,S,S,1], as the method's Corrupter made it
	Clean tf.Output // [Rows,S,S,1], before corruption
	Mask  tf.Output // [Rows,S,S,1], where corruption changed the image, or how much
	Label tf.Output // int64 [Rows]
	Index tf.Output // int64 [Rows], number of the training image

	Images int // training images
	Batch  int // training images a step
	Rows   int // samples a step: Batch times the samples of one corruption
	Size   int // S
}

// A Phase is either optimisation (Updates, for Steps steps) or a fit (Fit).
// Phases run in order.
type Phase struct {
	Name    string
	Steps   int     // 0: the steps of the experiment, or Share of them
	Share   float64 // of the experiment's steps, 0 to 1, where several phases divide them; 0: all
	Updates []Update
	Fit     *Fit
}

// Minimize is the phase of one loss, one optimiser and the experiment's steps.
func Minimize(name string, loss tf.Output, vars []*nn.Variable, o optim.Optimizer) Phase {
	return Phase{Name: name, Updates: []Update{{
		Name: name, Loss: func(*nn.Scope) tf.Output { return loss }, Vars: vars, Optimizer: o,
	}}}
}

// An Update is one optimiser's share of a step. All updates of a step run in
// order in one call of TensorFlow.
type Update struct {
	Name string
	// Loss returns the scalar to minimise. Variables read on s hold what the
	// step's earlier updates wrote, and writes recorded on s belong to this
	// update; a tensor built in Train keeps what variables were at the start.
	Loss      func(s *nn.Scope) tf.Output
	Vars      []*nn.Variable
	Optimizer optim.Optimizer
	Every     int                  // runs each Every steps, 0 is 1; a multiple of every earlier update's
	Log       map[string]tf.Output // further scalars for the log
}

// A Fit sees each image of a split once, in order, not corrupted, and then
// gives variables their values: statistics, memories, thresholds.
type Fit struct {
	Over    data.Split  // Train or Validation
	Outputs []tf.Output // first dimension is the batch; built on s.Inference() of in.Image
	// Batch receives the outputs of n images; rows beyond n are padding, and
	// already cut off.
	Batch func(outputs []Rows) error
	Done  func() ([]Value, error)
}

// Rows is one output for n images, row-major.
type Rows struct {
	N     int
	Shape []int // of one image
	V     []float32
}

// A Value is what a fit gives a variable.
type Value struct {
	Variable *nn.Variable
	Shape    []int
	V        []float32
}

// Scores are a method's verdict on a batch. A higher score is more anomalous.
type Scores struct {
	Map   tf.Output // [B,S,S] anomaly map; the zero Output if the method has none
	Image tf.Output // [B]
}

// A Corrupter makes the training samples of a method from normal images:
// synthetic anomalies, augmentation. Corrupt is a pure function of its
// arguments; i is the training image, image returns training image i modulo
// their number, so that any random number draws one, and seed differs by run
// and epoch. Every call returns as many samples. It is called by several goroutines at once.
type Corrupter interface {
	Corrupt(seed uint64, i int, image func(i int) data.Pixels) []Sample
}

// A Sample is one row of a training batch. Mask may be empty: all zero.
type Sample struct {
	Image, Clean, Mask data.Pixels
	Label              int64
}

// A Direct method has no graph: it is fitted to and scores files and decoded
// images at their stored size. Its exported fields after Fit are its whole
// state, kept as JSON.
type Direct interface {
	Check() error
	// Fit learns from the training normals. The seed is the run's.
	Fit(train Images, seed uint64) error
	// Score returns the score of the i-th image and, if the method has one, its
	// anomaly map of S×S, else nil.
	Score(images Images, i int) (score float64, m []float32, err error)
}

// Images are the images of one split.
type Images interface {
	Len() int
	Size() int                         // S
	Pixels(i int) data.Pixels          // S×S, resized
	Native(i int) (data.Native, error) // as stored
}
