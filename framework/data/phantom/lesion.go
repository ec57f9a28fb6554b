package phantom

import (
	"math"
	"math/rand/v2"
	"slices"
)

// kind is a type of lesion.
type kind int

const (
	ggo  kind = iota // ground-glass opacities, as in viral pneumonia
	cons             // consolidation of a lobe with air bronchogram, as in bacterial pneumonia
	halo             // nodules with a ground-glass halo, as in invasive aspergillosis
	tib              // tree-in-bud cluster of small nodules, as in mycoplasma pneumonia
	mass             // lobulated mass with spicules, as in lung cancer
	kinds
)

var kindNames = [kinds]string{"ggo", "cons", "halo", "tib", "mass"}

// Types returns the names of the lesion types.
func Types() []string { return slices.Clone(kindNames[:]) }

// lesion is what is to be drawn, with its own random numbers.
type lesion struct {
	kind  kind
	level int
	r     *rand.Rand
}

// difficulty is the contrast factor of a level and, per kind, the range of the
// lesion's area as a share of the aerated lung in the image.
type difficulty struct {
	contrast float64
	share    [kinds][2]float64
}

var ctLevels = [4]difficulty{
	{1.15, [kinds][2]float64{{.20, .35}, {.20, .35}, {.09, .16}, {.13, .22}, {.09, .15}}},
	{1.00, [kinds][2]float64{{.08, .18}, {.08, .20}, {.03, .08}, {.05, .12}, {.03, .08}}},
	{0.75, [kinds][2]float64{{.035, .09}, {.03, .09}, {.012, .035}, {.025, .06}, {.012, .035}}},
	{0.50, [kinds][2]float64{{.015, .04}, {.012, .035}, {.005, .015}, {.012, .03}, {.005, .015}}},
}

var radiographLevels = [4]difficulty{
	{1.20, [kinds][2]float64{{.30, .50}, {.28, .45}, {.08, .14}, {.25, .40}, {.08, .13}}},
	{1.00, [kinds][2]float64{{.12, .28}, {.12, .28}, {.03, .07}, {.12, .25}, {.03, .07}}},
	{0.70, [kinds][2]float64{{.06, .14}, {.05, .12}, {.014, .03}, {.06, .14}, {.014, .03}}},
	{0.45, [kinds][2]float64{{.03, .07}, {.02, .05}, {.006, .014}, {.03, .07}, {.006, .014}}},
}

// draw returns the contrast factor and the target area in mm².
func (l *lesion) draw(levels *[4]difficulty, lungArea float64) (contrast, area float64) {
	d := levels[l.level]
	contrast = d.contrast * uniform(l.r, 0.85, 1.15)
	return contrast, lungArea * uniform(l.r, d.share[l.kind][0], d.share[l.kind][1])
}

// attempts is how often a lesion that came out too small is drawn again.
const attempts = 20

// visible reduces a weight map to a mask at output size. ok is false when
// fewer than need pixels are above the limit; then a mask of at least one
// pixel, at a limit relative to the largest weight, stands in for it.
func visible(weight field, factor int, limit float64, need int) (mask []uint8, ok bool) {
	small := shrink(weight, factor)
	mask, count := threshold(small, limit)
	if count >= need {
		return mask, true
	}
	mask, _ = threshold(small, limit*slices.Max(small.v))
	return mask, false
}

// shares splits 1 into n random parts, Dirichlet-distributed with all
// parameters equal to the whole number a.
func shares(r *rand.Rand, n, a int) []float64 {
	parts := make([]float64, n)
	var sum float64
	for i := range parts {
		for range a {
			parts[i] += r.ExpFloat64()
		}
		sum += parts[i]
	}
	for i := range parts {
		parts[i] /= sum
	}
	return parts
}

// pick returns one of the points, with a probability proportional to its
// weight; any point when all weights are 0.
func pick(r *rand.Rand, points []int, weight func(i int) float64) int {
	total := make([]float64, len(points))
	var sum float64
	for k, i := range points {
		sum += weight(i)
		total[k] = sum
	}
	u := r.Float64() * sum
	if sum == 0 {
		return points[r.IntN(len(points))]
	}
	k, _ := slices.BinarySearch(total, u)
	return points[min(k, len(points)-1)]
}

// outline is the radius of a shape as a function of the angle, relative to its
// mean.
type outline func(theta float64) float64

// lobulated is Π(1+a·k^-½·N(0,1)·cos(kθ+φ)) for k = 2…6.
func lobulated(r *rand.Rand, a float64) outline {
	var amplitude, phase [7]float64
	for k := 2; k <= 6; k++ {
		amplitude[k] = a / math.Sqrt(float64(k)) * r.NormFloat64()
		phase[k] = uniform(r, 0, 2*math.Pi)
	}
	return tabulated(func(theta float64) float64 {
		radius := 1.
		for k := 2; k <= 6; k++ {
			radius *= 1 + amplitude[k]*math.Cos(float64(k)*theta+phase[k])
		}
		return clip(radius, 0.5, 1.8)
	})
}

// wavy is 1+0.12cos(2θ+·)+0.08cos(3θ+·).
func wavy(r *rand.Rand) outline {
	a, b := uniform(r, 0, 2*math.Pi), uniform(r, 0, 2*math.Pi)
	return tabulated(func(theta float64) float64 {
		return 1 + 0.12*math.Cos(2*theta+a) + 0.08*math.Cos(3*theta+b)
	})
}

func tabulated(f outline) outline {
	c := tabulate(2*math.Pi, 256, f)
	return func(theta float64) float64 {
		if theta < 0 {
			theta += 2 * math.Pi
		}
		return c.at(theta)
	}
}

// spread draws up to n points in a disc with a least distance between them.
func spread(r *rand.Rand, x, y, radius, spacing float64, n int) [][2]float64 {
	var out [][2]float64
	for range 30 * n {
		if len(out) == n {
			break
		}
		rho, theta := radius*math.Sqrt(r.Float64()), uniform(r, 0, 2*math.Pi)
		px, py := x+rho*math.Cos(theta), y+rho*math.Sin(theta)
		if !slices.ContainsFunc(out, func(q [2]float64) bool {
			return math.Hypot(q[0]-px, q[1]-py) < spacing
		}) {
			out = append(out, [2]float64{px, py})
		}
	}
	return out
}

// branch is a straight piece of a branching line, with its radius.
type branch struct{ x0, y0, x1, y1, radius float64 }

// bronchi grows three generations of branches from a point; each branch ends
// in two, turned by ±U(0.25,0.6), with 0.78 of the radius and 0.8 of the
// length.
func bronchi(r *rand.Rand, x, y, direction, radius, length float64) []branch {
	var out []branch
	var grow func(x, y, direction, radius, length float64, generation int)
	grow = func(x, y, direction, radius, length float64, generation int) {
		x1, y1 := x+length*math.Cos(direction), y+length*math.Sin(direction)
		out = append(out, branch{x, y, x1, y1, radius})
		if generation == 3 {
			return
		}
		for _, sign := range []float64{-1, 1} {
			grow(x1, y1, direction+sign*uniform(r, 0.25, 0.6), 0.78*radius, 0.8*length, generation+1)
		}
	}
	grow(x, y, direction, radius, length, 1)
	return out
}

// side is -1 for the patient's right and +1 for the left.
func side(x float64) int {
	if x < 0 {
		return -1
	}
	return 1
}

// eitherSide draws a side.
func eitherSide(r *rand.Rand) float64 {
	if r.IntN(2) == 0 {
		return -1
	}
	return 1
}
