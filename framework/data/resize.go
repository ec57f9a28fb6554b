package data

import "math"

// A filter is a resampling kernel and its half width at scale 1.
type filter struct {
	support float64
	weight  func(x float64) float64
}

// bilinear is the triangle kernel.
var bilinear = filter{1, func(x float64) float64 { return max(0, 1-math.Abs(x)) }}

// bicubic is Keys' kernel with a = -1/2.
var bicubic = filter{2, func(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}}

// precision is the number of fractional bits of a weight.
const precision = 22

// taps are the weights of one output sample: input samples from first on.
type taps struct {
	first   int
	weights []int32
}

// An axis is one direction of a resampling: in samples become full ones, of which those from
// first on are kept.
type axis struct{ in, full, first, kept int }

func (a axis) same() bool { return a.in == a.full && a.kept == a.full }

// taps returns the weights of every kept sample. When shrinking, the kernel is widened by the
// scale, which is what removes aliasing; when growing, it interpolates. Weights sum to one before
// they are rounded.
func (a axis) taps(f filter) []taps {
	scale := float64(a.in) / float64(a.full)
	wide := max(scale, 1)
	support := f.support * wide
	table := make([]taps, a.kept)
	for o := range table {
		center := (float64(a.first+o) + 0.5) * scale
		first := max(0, int(center-support+0.5))
		last := min(a.in, int(center+support+0.5))
		w := make([]float64, last-first)
		sum := 0.0
		for i := range w {
			w[i] = f.weight((float64(first+i) - center + 0.5) / wide)
			sum += w[i]
		}
		fixed := make([]int32, len(w))
		for i := range w {
			fixed[i] = int32(math.Round(w[i] / sum * (1 << precision)))
		}
		table[o] = taps{first, fixed}
	}
	return table
}

// nearest returns for every kept sample the input sample whose area holds its centre.
func (a axis) nearest() []int {
	at := make([]int, a.kept)
	for o := range at {
		at[o] = min(a.in-1, int((float64(a.first+o)+0.5)*float64(a.in)/float64(a.full)))
	}
	return at
}

// resize resamples an 8-bit grey image of x.in×y.in to x.kept×y.kept: first the rows, then the
// columns, with 8-bit values in between, as Pillow does it. A pass that keeps its length is left
// out; then the result may share the memory of src.
func resize(src []uint8, x, y axis, f filter) []uint8 {
	if !x.same() {
		dst := make([]uint8, x.kept*y.in)
		for col, t := range x.taps(f) {
			for row := range y.in {
				line := src[row*x.in+t.first:][:len(t.weights)]
				sum := int32(1) << (precision - 1)
				for i, k := range t.weights {
					sum += int32(line[i]) * k
				}
				dst[row*x.kept+col] = clip(sum >> precision)
			}
		}
		src = dst
	}
	if !y.same() {
		w := x.kept
		dst := make([]uint8, w*y.kept)
		sums := make([]int32, w)
		for row, t := range y.taps(f) {
			for col := range sums {
				sums[col] = 1 << (precision - 1)
			}
			for i, k := range t.weights {
				for col, v := range src[(t.first+i)*w:][:w] {
					sums[col] += int32(v) * k
				}
			}
			for col, sum := range sums {
				dst[row*w+col] = clip(sum >> precision)
			}
		}
		src = dst
	}
	return src
}

func clip(v int32) uint8 { return uint8(min(max(v, 0), 255)) }

// geometry is how an image of any shape is laid on the square grid.
type geometry struct {
	size   int
	fit    string
	filter filter
}

// axes returns how both directions of a w×h image are resampled.
func (g geometry) axes(w, h int) (x, y axis) {
	side := w
	switch g.fit {
	case "pad":
		side = max(w, h)
	case "crop":
		side = min(w, h)
	default:
		return axis{w, g.size, 0, g.size}, axis{h, g.size, 0, g.size}
	}
	return g.axis(w, side), g.axis(h, side)
}

// axis scales a direction of length n by size/side and keeps at most the middle size samples.
func (g geometry) axis(n, side int) axis {
	full := max(1, int(math.Round(float64(n)*float64(g.size)/float64(side))))
	kept := min(full, g.size)
	return axis{n, full, (full - kept) / 2, kept}
}

// image lays a grey image on the size×size grid; a border is black.
func (g geometry) image(w, h int, v []uint8) []uint8 {
	x, y := g.axes(w, h)
	return onGrid(g.size, x, y, resize(v, x, y, g.filter))
}

// mask lays a mask on the grid by nearest neighbour; a border is no lesion.
func (g geometry) mask(w, h int, m []bool) []bool {
	x, y := g.axes(w, h)
	cols, rows := x.nearest(), y.nearest()
	r := make([]bool, 0, len(cols)*len(rows))
	for _, row := range rows {
		for _, col := range cols {
			r = append(r, m[row*w+col])
		}
	}
	return onGrid(g.size, x, y, r)
}

// onGrid puts v, x.kept×y.kept, into the middle of a size×size grid of zeros.
func onGrid[T any](size int, x, y axis, v []T) []T {
	if x.kept == size && y.kept == size {
		return v
	}
	grid := make([]T, size*size)
	left, top := (size-x.kept)/2, (size-y.kept)/2
	for row := range y.kept {
		copy(grid[(top+row)*size+left:], v[row*x.kept:][:x.kept])
	}
	return grid
}
