package feature

import (
	"fmt"
	"math"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
	"gonum.org/v1/gonum/mat"

	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// A scatter accumulates means and centred second moments of vectors of d
// features at p positions, batch by batch and in one pass: each batch is
// centred on its own mean, and moments are merged as in Chan, Golub & LeVeque,
// "Updating formulae and a pairwise algorithm for computing sample variances",
// 1979. Nothing large is ever subtracted, so float32 sums lose no digits.
type scatter struct {
	p, d, n int
	mean    []float64 // [p,d]
	chunks  []scatterChunk
	session *session.Session
}

// A scatterChunk is a share of the positions, so that a product of matrices
// [p,d,d] stays small beside the sums themselves.
type scatterChunk struct {
	first, last int
	sum         *nn.Variable // [last-first,d,d]
	rows        tf.Output    // [last-first,·,d]
	add         *tf.Operation
}

// chunkBytes bounds the temporary product of one chunk.
const chunkBytes = 32 << 20

func newScatter(p, d int) (*scatter, error) {
	c := &scatter{p: p, d: d, mean: make([]float64, p*d)}
	s := nn.NewScope(0)
	step := max(1, chunkBytes/(4*d*d))
	for first := 0; first < p; first += step {
		at, n := s.At(len(c.chunks)), min(step, p-first)
		chunk := scatterChunk{first: first, last: first + n}
		chunk.sum = at.Buffer("sum", nn.Zeros(), n, d, d)
		chunk.rows = op.Placeholder(at.Op("rows"), tf.Float, op.PlaceholderShape(tf.MakeShape(int64(n), -1, int64(d))))
		product := nn.BatchMatMul(at, chunk.rows, chunk.rows, true, false)
		chunk.add = op.AssignAddVariableOp(at.Op("add"), chunk.sum.Handle(), product)
		c.chunks = append(c.chunks, chunk)
	}
	var err error
	if c.session, err = session.New(s, fitOptions); err != nil {
		return nil, err
	}
	return c, c.session.Init()
}

// fitOptions runs the small graphs of a fit on the CPU with a fixed number of
// threads, so that the same seed gives the same bits everywhere.
var fitOptions = session.Options{Threads: 2, Devices: "-1"}

// add takes n vectors at each position, x [n,p,d].
func (c *scatter) add(x []float32, n int) error {
	pd := c.p * c.d
	mean := make([]float64, pd)
	for i := range n {
		for j, v := range x[i*pd:][:pd] {
			mean[j] += float64(v)
		}
	}
	// One more row, √(n·m/(n+m)) times the difference of the means, merges.
	total := float64(c.n + n)
	weight := math.Sqrt(float64(c.n) * float64(n) / total)
	last := make([]float32, pd)
	for j := range mean {
		mean[j] /= float64(n)
		difference := mean[j] - c.mean[j]
		last[j] = float32(weight * difference)
		c.mean[j] += difference * float64(n) / total
	}
	c.n += n
	for _, chunk := range c.chunks {
		count := chunk.last - chunk.first
		rows := make([]float32, 0, count*(n+1)*c.d)
		for p := chunk.first; p < chunk.last; p++ {
			centre := mean[p*c.d:][:c.d]
			for i := range n {
				for j, v := range x[i*pd+p*c.d:][:c.d] {
					rows = append(rows, float32(float64(v)-centre[j]))
				}
			}
			rows = append(rows, last[p*c.d:][:c.d]...)
		}
		feed := map[tf.Output]*tf.Tensor{chunk.rows: session.Floats([]int{count, n + 1, c.d}, rows)}
		if _, err := c.session.Run(feed, nil, chunk.add); err != nil {
			return fmt.Errorf("covariance: %w", err)
		}
	}
	return nil
}

// covariances calls each with the position and its covariance, 1/(n-1) of the
// scatter, in order. The matrix is reused.
func (c *scatter) covariances(each func(p int, cov *mat.SymDense) error) error {
	cov := mat.NewSymDense(c.d, nil)
	for _, chunk := range c.chunks {
		out, err := c.session.Get([]*nn.Variable{chunk.sum})
		if err != nil {
			return err
		}
		sum := session.Values(out[0])
		for p := chunk.first; p < chunk.last; p++ {
			s := sum[(p-chunk.first)*c.d*c.d:]
			for i := range c.d {
				for j := i; j < c.d; j++ {
					cov.SetSym(i, j, float64(s[i*c.d+j])/float64(c.n-1))
				}
			}
			if err := each(p, cov); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *scatter) close() {
	if c != nil && c.session != nil {
		c.session.Close()
	}
}
