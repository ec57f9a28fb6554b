package train

import (
	"encoding/binary"
	"hash/fnv"
	"io"
	"math"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/session"
)

// A feeder makes the batches of optimisation steps ahead of time. The batch of
// a step is a pure function of the seed and the step: images follow one another
// in an endless row of shuffled epochs, so every batch is full.
type feeder struct {
	data    *data.Dataset
	corrupt framework.Corrupter // nil: images as they are
	seed    uint64
	in      framework.Inputs
	feeds   map[tf.Output]bool
	ahead   []chan map[tf.Output]*tf.Tensor // batches under way, the next one first
	next    int                             // step of the batch after those
	end     int
}

// depth is how many batches are made ahead of time.
const depth = 4

func newFeeder(d *data.Dataset, m framework.Method, seed uint64, in framework.Inputs, feeds map[tf.Output]bool, from, to int) *feeder {
	f := &feeder{data: d, seed: seed, in: in, feeds: feeds, next: from, end: to}
	f.corrupt, _ = m.(framework.Corrupter)
	for range depth {
		f.start()
	}
	return f
}

// start begins to make the batch of the next step, if there is one.
func (f *feeder) start() {
	if f.next >= f.end {
		return
	}
	c := make(chan map[tf.Output]*tf.Tensor, 1)
	step := f.next
	go func() { c <- f.batch(step) }()
	f.ahead = append(f.ahead, c)
	f.next++
}

// take returns the batch of the next step.
func (f *feeder) take() map[tf.Output]*tf.Tensor {
	c := f.ahead[0]
	f.ahead = f.ahead[1:]
	f.start()
	return <-c
}

// stop waits for the batches under way: they read images that may be closed
// once the phase has ended, however it ended.
func (f *feeder) stop() {
	for _, c := range f.ahead {
		<-c
	}
}

// indices returns the training images of a step, and the epoch of each.
func (f *feeder) indices(step int) (index, epoch []int) {
	n := f.in.Images
	var order []int
	last := -1
	for j := range f.in.Batch {
		at := step*f.in.Batch + j
		if e := at / n; e != last {
			order, last = data.Order(f.seed, e, n), e
		}
		index, epoch = append(index, order[at%n]), append(epoch, last)
	}
	return index, epoch
}

// batch makes the tensors of one step, only those that the phase reads.
func (f *feeder) batch(step int) map[tf.Output]*tf.Tensor {
	index, epoch := f.indices(step)
	shape := []int{f.in.Rows, f.in.Size, f.in.Size, 1}
	out := map[tf.Output]*tf.Tensor{}
	numbers := make([]int64, 0, f.in.Rows)
	per := f.in.Rows / f.in.Batch
	for _, i := range index {
		for range per {
			numbers = append(numbers, int64(i))
		}
	}
	labels := make([]int64, f.in.Rows)
	if f.corrupt == nil {
		var images *tf.Tensor
		if f.feeds[f.in.Image] || f.feeds[f.in.Clean] {
			images = greyTensor(shape, func(j int) []uint8 { return f.data.Grey(data.Train, index[j]) })
		}
		f.put(out, f.in.Image, images)
		f.put(out, f.in.Clean, images)
		if f.feeds[f.in.Mask] {
			f.put(out, f.in.Mask, session.Floats(shape, make([]float32, f.in.Rows*f.in.Size*f.in.Size)))
		}
	} else {
		area := f.in.Size * f.in.Size
		image := make([]float32, f.in.Rows*area)
		clean := make([]float32, f.in.Rows*area)
		mask := make([]float32, f.in.Rows*area)
		for j, i := range index {
			samples := f.corrupt.Corrupt(mix(f.seed, uint64(epoch[j])), i, f.pixels)
			for k, s := range samples {
				r := j*per + k
				copy(image[r*area:(r+1)*area], s.Image.V)
				copy(clean[r*area:(r+1)*area], s.Clean.V)
				copy(mask[r*area:(r+1)*area], s.Mask.V)
				labels[r] = s.Label
			}
		}
		for x, v := range map[tf.Output][]float32{f.in.Image: image, f.in.Clean: clean, f.in.Mask: mask} {
			if f.feeds[x] {
				out[x] = session.Floats(shape, v)
			}
		}
	}
	if f.feeds[f.in.Label] {
		out[f.in.Label] = session.Ints([]int{f.in.Rows}, labels)
	}
	if f.feeds[f.in.Index] {
		out[f.in.Index] = session.Ints([]int{f.in.Rows}, numbers)
	}
	return out
}

func (f *feeder) put(out map[tf.Output]*tf.Tensor, x tf.Output, t *tf.Tensor) {
	if f.feeds[x] {
		out[x] = t
	}
}

// pixels returns training image i modulo their number.
func (f *feeder) pixels(i int) data.Pixels { return pixels(f.data, data.Train, i) }

func pixels(d *data.Dataset, split data.Split, i int) data.Pixels {
	p := data.Pixels{W: d.Size(), H: d.Size(), V: make([]float32, d.Size()*d.Size())}
	d.Pixels(split, i%d.Len(split), p.V)
	return p
}

// mix hashes a seed and a number into a seed.
func mix(seed, n uint64) uint64 {
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], seed)
	binary.LittleEndian.PutUint64(b[8:], n)
	h.Write(b[:])
	return h.Sum64()
}

// unit holds v/255 as the four bytes of a float32, for every v.
var unit = func() (t [256][4]byte) {
	for v := range t {
		binary.LittleEndian.PutUint32(t[v][:], math.Float32bits(float32(v)/255))
	}
	return t
}()

// greyTensor converts 8-bit images to float32 in [0,1] within TensorFlow's own
// buffer.
func greyTensor(shape []int, image func(j int) []uint8) *tf.Tensor {
	t, err := session.Read(shape, &greyReader{n: shape[0], image: image})
	if err != nil {
		panic("train: " + err.Error())
	}
	return t
}

type greyReader struct {
	n, j  int
	image func(j int) []uint8
	rest  []uint8
}

func (r *greyReader) Read(p []byte) (int, error) {
	written := 0
	for len(p)-written >= 4 {
		if len(r.rest) == 0 {
			if r.j == r.n {
				break
			}
			r.rest = r.image(r.j)
			r.j++
		}
		n := min(len(r.rest), (len(p)-written)/4)
		dst := p[written : written+4*n]
		for k, v := range r.rest[:n] {
			copy(dst[4*k:4*k+4], unit[v][:])
		}
		r.rest = r.rest[n:]
		written += 4 * n
	}
	if written == 0 {
		return 0, io.EOF
	}
	return written, nil
}
