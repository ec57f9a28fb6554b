package phantom

import (
	"math"
	"math/rand/v2"
)

// field is a square grid of values, row-major.
type field struct {
	n int
	v []float64
}

func newField(n int) field { return field{n: n, v: make([]float64, n*n)} }

// gaussianField is white noise filtered with a Gaussian of s.d. sigma grid
// points and a periodic border, then scaled to mean 0 and variance 1. Wide
// filters work on a coarser grid, which is interpolated.
func gaussianField(r *rand.Rand, n int, sigma float64) field {
	step := coarsen(sigma)
	coarse := newField((n + step - 1) / step)
	for i := range coarse.v {
		coarse.v[i] = r.NormFloat64()
	}
	f := enlarge(blur(coarse, sigma/float64(step), periodic), n, step, periodic)
	f.standardise()
	return f
}

// coarsen returns the step of the grid on which a filter of s.d. sigma is
// still smooth enough to be interpolated.
func coarsen(sigma float64) int { return max(int(sigma/2.5), 1) }

func (f field) standardise() {
	var sum, ss float64
	for _, x := range f.v {
		sum += x
	}
	mean := sum / float64(len(f.v))
	for _, x := range f.v {
		ss += (x - mean) * (x - mean)
	}
	scale := 1 / math.Sqrt(ss/float64(len(f.v))+1e-12)
	for i, x := range f.v {
		f.v[i] = (x - mean) * scale
	}
}

// border says what lies beyond a grid's edge.
type border int

const (
	periodic border = iota
	repeated        // the edge's value
)

// index maps i to [0,n).
func (b border) index(i, n int) int {
	if b == periodic {
		return ((i % n) + n) % n
	}
	return min(max(i, 0), n-1)
}

// blur convolves with a Gaussian of s.d. sigma grid points, cut at 3 sigma.
func blur(f field, sigma float64, b border) field {
	radius := int(math.Ceil(3 * sigma))
	if radius < 1 {
		return field{n: f.n, v: append([]float64(nil), f.v...)}
	}
	kernel := make([]float64, 2*radius+1)
	var sum float64
	for i := range kernel {
		d := float64(i - radius)
		kernel[i] = math.Exp(-d * d / (2 * sigma * sigma))
		sum += kernel[i]
	}
	for i := range kernel {
		kernel[i] /= sum
	}
	n := f.n
	rows, out := newField(n), newField(n)
	padded := make([]float64, n+2*radius)
	for y := range n {
		row := f.v[y*n : (y+1)*n]
		for i := range padded {
			padded[i] = row[b.index(i-radius, n)]
		}
		dst := rows.v[y*n : (y+1)*n]
		for k, w := range kernel {
			for x, v := range padded[k : k+n] {
				dst[x] += w * v
			}
		}
	}
	for y := range n {
		dst := out.v[y*n : (y+1)*n]
		for k, w := range kernel {
			src := b.index(y+k-radius, n)
			for x, v := range rows.v[src*n : (src+1)*n] {
				dst[x] += w * v
			}
		}
	}
	return out
}

// smooth is blur for any sigma with the edge repeated; wide filters work on
// averages over blocks.
func smooth(f field, sigma float64) field {
	step := coarsen(sigma)
	for f.n%step != 0 {
		step--
	}
	if step == 1 {
		return blur(f, sigma, repeated)
	}
	s := sigma / float64(step)
	return enlarge(blur(shrink(f, step), s, repeated), f.n, step, repeated)
}

// shrink averages blocks of step×step; step divides the side.
func shrink(f field, step int) field {
	out := newField(f.n / step)
	for y := range f.n {
		for x := range f.n {
			out.v[y/step*out.n+x/step] += f.v[y*f.n+x]
		}
	}
	scale := 1 / float64(step*step)
	for i := range out.v {
		out.v[i] *= scale
	}
	return out
}

// enlarge interpolates linearly between the centres of blocks of step×step,
// to a side of n.
func enlarge(f field, n, step int, b border) field {
	if step == 1 {
		return f
	}
	low, high, weight := make([]int, n), make([]int, n), make([]float64, n)
	for i := range n {
		p := (float64(i)+0.5)/float64(step) - 0.5
		k := math.Floor(p)
		low[i], high[i], weight[i] = b.index(int(k), f.n), b.index(int(k)+1, f.n), p-k
	}
	out := newField(n)
	for y := range n {
		top, bottom, wy := f.v[low[y]*f.n:], f.v[high[y]*f.n:], weight[y]
		dst := out.v[y*n : (y+1)*n]
		for x := range dst {
			l, h, wx := low[x], high[x], weight[x]
			upper := top[l] + wx*(top[h]-top[l])
			lower := bottom[l] + wx*(bottom[h]-bottom[l])
			dst[x] = upper + wy*(lower-upper)
		}
	}
	return out
}

// distances returns for each point the exact Euclidean distance, in grid
// steps, to the nearest point outside the region; 0 outside. Felzenszwalb &
// Huttenlocher, "Distance transforms of sampled functions", Theory of
// Computing 2012.
func distances(region []bool, n int) field {
	out := newField(n)
	far := float64(4 * n * n)
	for i, in := range region {
		if in {
			out.v[i] = far
		}
	}
	line, hull := make([]float64, n), make([]int, n)
	start := make([]float64, n+1)
	for x := range n {
		for y := range n {
			line[y] = out.v[y*n+x]
		}
		lowerEnvelope(line, hull, start, func(y int, v float64) { out.v[y*n+x] = v })
	}
	for y := range n {
		row := out.v[y*n : (y+1)*n]
		copy(line, row)
		lowerEnvelope(line, hull, start, func(x int, v float64) { row[x] = math.Sqrt(v) })
	}
	return out
}

// lowerEnvelope sets, for each q, min over p of (q-p)²+f[p].
func lowerEnvelope(f []float64, hull []int, start []float64, set func(q int, v float64)) {
	k := 0
	hull[0], start[0], start[1] = 0, math.Inf(-1), math.Inf(1)
	for q := 1; q < len(f); q++ {
		meet := crossing(f, hull[k], q)
		for meet <= start[k] {
			k--
			meet = crossing(f, hull[k], q)
		}
		k++
		hull[k], start[k], start[k+1] = q, meet, math.Inf(1)
	}
	k = 0
	for q := range f {
		for start[k+1] < float64(q) {
			k++
		}
		d := float64(q - hull[k])
		set(q, d*d+f[hull[k]])
	}
}

// crossing is where the parabolas of p and q meet, p < q.
func crossing(f []float64, p, q int) float64 {
	return (f[q] + float64(q*q) - f[p] - float64(p*p)) / float64(2*(q-p))
}

// curve is a function on [0,limit] as a table, read by linear interpolation.
type curve struct {
	scale float64
	v     []float64
}

// tabulate samples f at points+1 places of [0,limit].
func tabulate(limit float64, points int, f func(float64) float64) curve {
	c := curve{scale: float64(points) / limit, v: make([]float64, points+2)}
	for i := range c.v {
		c.v[i] = f(float64(i) / c.scale)
	}
	return c
}

// at reads the table at |x|, at most at the limit.
func (c curve) at(x float64) float64 {
	p := math.Abs(x) * c.scale
	i := min(int(p), len(c.v)-2)
	w := min(p-float64(i), 1)
	return c.v[i] + w*(c.v[i+1]-c.v[i])
}

// frame places a grid of n×n points, px mm apart, over the patient: shifted
// by (dx, dy) mm and turned, with the point (0, top) of the patient in the
// middle. x runs to the patient's left, which is the image's right.
type frame struct {
	n                int
	px               float64
	cos, sin, dx, dy float64
	top              float64
}

func newFrame(n int, fieldOfView, angle, dx, dy, top float64) frame {
	sin, cos := math.Sincos(angle)
	return frame{n: n, px: fieldOfView / float64(n), cos: cos, sin: sin, dx: dx, dy: dy, top: top}
}

// point returns the place of a grid point in the patient, in mm.
func (f frame) point(row, col int) (x, y float64) {
	u := (float64(col)+0.5-float64(f.n)/2)*f.px - f.dx
	v := (float64(row)+0.5-float64(f.n)/2)*f.px - f.dy
	return f.cos*u + f.sin*v, -f.sin*u + f.cos*v + f.top
}

// at is point by index.
func (f frame) at(i int) (x, y float64) { return f.point(i/f.n, i%f.n) }

// pixel is the inverse of point.
func (f frame) pixel(x, y float64) (row, col float64) {
	y -= f.top
	u, v := f.cos*x-f.sin*y+f.dx, f.sin*x+f.cos*y+f.dy
	return v/f.px + float64(f.n)/2 - 0.5, u/f.px + float64(f.n)/2 - 0.5
}

// each visits every grid point.
func (f frame) each(visit func(i int, x, y float64)) {
	i := 0
	for row := range f.n {
		x, y := f.point(row, 0)
		for range f.n {
			visit(i, x, y)
			x, y = x+f.cos*f.px, y-f.sin*f.px
			i++
		}
	}
}

// disc visits the grid points nearer than radius to (cx, cy).
func (f frame) disc(cx, cy, radius float64, visit func(i int, x, y, distance float64)) {
	f.capsule(cx, cy, cx, cy, radius, func(i int, _, distance float64) {
		x, y := f.at(i)
		visit(i, x, y, distance)
	})
}

// capsule visits the grid points nearer than radius to the segment from
// (x0, y0) to (x1, y1); t in [0,1] is the nearest place on it.
func (f frame) capsule(x0, y0, x1, y1, radius float64, visit func(i int, t, distance float64)) {
	r0, c0 := f.pixel(x0, y0)
	r1, c1 := f.pixel(x1, y1)
	reach := radius / f.px
	dr, dc := r1-r0, c1-c0
	length := dr*dr + dc*dc
	inverse := 0.
	if length > 1e-12 {
		inverse = 1 / length
	}
	top, bottom := max(int(min(r0, r1)-reach), 0), min(int(max(r0, r1)+reach)+1, f.n-1)
	left, right := max(int(min(c0, c1)-reach), 0), min(int(max(c0, c1)+reach)+1, f.n-1)
	for row := top; row <= bottom; row++ {
		for col := left; col <= right; col++ {
			pr, pc := float64(row)-r0, float64(col)-c0
			t := clip01((pr*dr + pc*dc) * inverse)
			pr, pc = pr-t*dr, pc-t*dc
			if d := pr*pr + pc*pc; d < reach*reach {
				visit(row*f.n+col, t, math.Sqrt(d)*f.px)
			}
		}
	}
}

// oval is an ellipse with half-axes a and b, turned by angle.
type oval struct{ x, y, a, b, cos, sin float64 }

func newOval(x, y, a, b, angle float64) oval {
	sin, cos := math.Sincos(angle)
	return oval{x, y, a, b, cos, sin}
}

// level is the squared relative radius: below 1 inside.
func (o oval) level(x, y float64) float64 {
	x, y = x-o.x, y-o.y
	u, v := (o.cos*x+o.sin*y)/o.a, (-o.sin*x+o.cos*y)/o.b
	return u*u + v*v
}

func (o oval) has(x, y float64) bool { return o.level(x, y) < 1 }

// dome is √(1-level) inside, 0 outside: the height of half an ellipsoid.
func (o oval) dome(x, y float64) float64 { return math.Sqrt(max(1-o.level(x, y), 0)) }

func uniform(r *rand.Rand, a, b float64) float64 { return a + (b-a)*r.Float64() }

// truncated is a normal draw clipped to [low,high].
func truncated(r *rand.Rand, mean, sd, low, high float64) float64 {
	return min(max(mean+sd*r.NormFloat64(), low), high)
}

// chance is true with probability p. It always draws one number.
func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

func clip(x, low, high float64) float64 { return min(max(x, low), high) }

func clip01(x float64) float64 { return min(max(x, 0), 1) }

// smoothstep rises from 0 to 1 on [0,1] with flat ends.
func smoothstep(x float64) float64 { x = clip01(x); return x * x * (3 - 2*x) }

// cover is the share of a grid point inside a shape whose edge is distance mm
// inside of it (negative: outside), for an edge width in mm.
func cover(inside, width float64) float64 { return clip01(inside/width + 0.5) }

// quantise turns values in [0,1] into 8 bits.
func quantise(f field) []uint8 {
	out := make([]uint8, len(f.v))
	for i, x := range f.v {
		out[i] = uint8(math.Round(255 * clip01(x)))
	}
	return out
}

// threshold is 255 where the value is above the limit, else 0, with the
// number of such pixels.
func threshold(f field, limit float64) (mask []uint8, count int) {
	mask = make([]uint8, len(f.v))
	for i, x := range f.v {
		if x > limit {
			mask[i] = 255
			count++
		}
	}
	return mask, count
}
