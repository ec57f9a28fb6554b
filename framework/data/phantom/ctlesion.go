package phantom

import (
	"math"
	"slices"
)

// airHU is the density of air in an open bronchus.
const airHU = -960

// ctOverlay is a lesion on the fine grid. Where it is composed, add raises the
// lung's density under the vessels, then solid replaces lung and vessels by hu,
// then air replaces both.
type ctOverlay struct {
	add, solid, hu, air field
	weight              field // what the mask is cut from
	side                int
}

func (o *ctOverlay) support() []bool {
	s := make([]bool, len(o.add.v))
	for i := range s {
		s[i] = o.add.v[i] != 0 || o.solid.v[i] > 0 || o.air.v[i] > 0
	}
	return s
}

// drawLesion draws once; with the lesion's next random numbers, a second call
// gives another one.
func (s *ctSlice) drawLesion(l *lesion) *ctOverlay {
	c, area := l.draw(&ctLevels, s.lungArea())
	o := &ctOverlay{add: newField(s.n), solid: newField(s.n), hu: newField(s.n), air: newField(s.n), weight: newField(s.n)}
	d := &ctDrawing{ctSlice: s, lesion: l, ctOverlay: o, c: c}
	switch l.kind {
	case ggo:
		d.groundGlass(area)
	case cons:
		d.consolidation(area)
	case halo:
		d.haloNodules(area)
	case tib:
		d.treeInBud(area)
	case mass:
		d.mass(area)
	}
	for i, w := range s.weight.v { // all inside lung
		o.weight.v[i] *= w
		if w == 0 {
			o.add.v[i], o.solid.v[i], o.air.v[i] = 0, 0, 0
		}
	}
	return o
}

// ctDrawing is a lesion being drawn into a slice.
type ctDrawing struct {
	*ctSlice
	*lesion
	*ctOverlay
	c float64 // contrast factor
}

// on says whether a point is lung of side s.
func (d *ctDrawing) on(i int, x, s float64) bool {
	return d.ctSlice.weight.v[i] > 0 && (x-2)*s > 0
}

// put lays a solid part over a point; the larger weight wins.
func (d *ctDrawing) put(i int, w, hu float64) {
	if w > d.solid.v[i] {
		d.solid.v[i], d.hu.v[i] = w, hu
	}
	d.ctOverlay.weight.v[i] = max(d.ctOverlay.weight.v[i], w)
}

// haze adds density at a point; the larger one wins. w enters the mask.
func (d *ctDrawing) haze(i int, hu, w float64) {
	d.add.v[i] = max(d.add.v[i], hu)
	d.ctOverlay.weight.v[i] = max(d.ctOverlay.weight.v[i], w)
}

// density draws from one of three ranges, by the contrast factor.
func (d *ctDrawing) density(high, middle, low [2]float64) float64 {
	u := d.r.Float64()
	rng := low
	if d.c > 0.85 {
		rng = high
	} else if d.c > 0.6 {
		rng = middle
	}
	return rng[0] + u*(rng[1]-rng[0])
}

// ofSide lists the lung's points on side s, or all where there are none.
func (d *ctDrawing) ofSide(s float64) []int {
	var out []int
	for _, i := range d.points {
		if x, _ := d.at(i); (x-2)*s > 0 {
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return d.points
	}
	return out
}

// start records the side of the first part and returns that of the point.
func (d *ctDrawing) start(i int) (x, y, s float64) {
	x, y = d.at(i)
	if d.side == 0 {
		d.side = side(x - 2)
	}
	return x, y, float64(side(x - 2))
}

// groundGlass is 1 to 4 foci along the pleura, mostly at the back, under
// visible vessels.
func (d *ctDrawing) groundGlass(area float64) {
	r := d.r
	edge, inner := d.texture(r, 14), d.texture(r, 6)
	paving, paved := d.texture(r, 8), chance(r, 0.25)
	for _, share := range shares(r, 1+r.IntN(4), 2) {
		points := d.ofSide(eitherSide(r))
		x0, y0, s := d.start(pick(r, points, func(i int) float64 {
			w := math.Exp(-d.depth.v[i] / 7)
			if _, y := d.at(i); d.back(y) > 0.5 {
				return 0.8 * w
			}
			return 0.2 * w
		}))
		aspect := uniform(r, 1.2, 2.6)
		across := math.Sqrt(2 * area * share / (math.Pi * aspect)) // depth below the pleura
		along := across * aspect
		row, col := d.pixel(x0, y0)
		depth0 := d.depth.v[int(math.Round(row))*d.n+int(math.Round(col))]
		gain := d.c * uniform(r, 170, 330)
		d.disc(x0, y0, 2.2*along, func(i int, x, _, rho float64) {
			if !d.on(i, x, s) {
				return
			}
			depth := d.depth.v[i]
			u := max(rho-0.6*math.Abs(depth-depth0), 0) / along
			v := depth / (1.15 * across)
			m := clip01(2 * (1 - u*u - v*v + 0.45*edge.v[i]))
			hu := gain * m * (1 + 0.25*inner.v[i])
			if paved {
				hu += 60 * d.c * m * math.Exp(-paving.v[i]*paving.v[i]/0.02)
			}
			d.haze(i, hu, m)
		})
	}
}

// consolidation fills part of one lobe from the pleura, up to a sharp straight
// fissure, with air left in its bronchi.
func (d *ctDrawing) consolidation(area float64) {
	r := d.r
	points := d.ofSide(eitherSide(r))
	var mx, my float64
	for _, i := range points {
		x, y := d.at(i)
		mx, my = mx+x/float64(len(points)), my+y/float64(len(points))
	}
	sin, cos := math.Sincos(uniform(r, -0.5, 0.5))
	upper := -1. // the lower lobe lies behind the fissure
	if chance(r, 0.35) {
		upper = 1
	}
	beyond := func(x, y float64) float64 { return upper * (sin*(x-mx) - cos*(y-my)) } // mm into the lobe
	seed := pick(r, points, func(i int) float64 {
		if x, y := d.at(i); d.depth.v[i] < 4 && beyond(x, y) > 0 {
			return 1
		}
		return 0
	})
	x0, y0, s := d.start(seed)

	border, inner := d.texture(r, 16), d.texture(r, 8)
	near := func(i int, x, y float64) float64 { return -math.Hypot(x-x0, y-y0) + 7*border.v[i] }
	var ranked []float64
	for _, i := range points {
		if x, y := d.at(i); beyond(x, y) > 0 {
			ranked = append(ranked, near(i, x, y))
		}
	}
	if len(ranked) == 0 {
		return // drawn again
	}
	slices.Sort(ranked)
	wanted := min(int(area/(d.px*d.px)), len(ranked)*19/20)
	limit := ranked[max(len(ranked)-1-wanted, 0)]

	width := uniform(r, 4, 9)
	hu := d.density([2]float64{-60, 45}, [2]float64{-220, 20}, [2]float64{-420, -120})
	d.each(func(i int, x, y float64) {
		if !d.on(i, x, s) {
			return
		}
		w := cover(near(i, x, y)-limit, width) * clip01(beyond(x, y)/2)
		if w > 0 {
			d.put(i, w*clip01(0.92+0.08*inner.v[i]), hu)
		}
	})
	d.airBronchogram(s, limit, near)
}

// airBronchogram opens branching airways within the consolidation, from its
// point nearest to the hilum.
func (d *ctDrawing) airBronchogram(s, limit float64, near func(i int, x, y float64) float64) {
	r := d.r
	hx, hy := s*(d.p.pedicle+4), -1.
	var mx, my, sum float64
	ex, ey, closest := hx, hy, math.Inf(1)
	for _, i := range d.points {
		if d.solid.v[i] < 0.5 {
			continue
		}
		x, y := d.at(i)
		mx, my, sum = mx+x, my+y, sum+1
		if h := math.Hypot(x-hx, y-hy); h < closest {
			ex, ey, closest = x, y, h
		}
	}
	first, length := uniform(r, 1.8, 2.6), uniform(r, 14, 24)
	if sum == 0 {
		return
	}
	direction := math.Atan2(my/sum-ey, mx/sum-ex)
	for _, b := range bronchi(r, ex, ey, direction, first, length) {
		d.capsule(b.x0, b.y0, b.x1, b.y1, b.radius+d.px, func(i int, _, distance float64) {
			if w := d.solid.v[i] * cover(b.radius-distance, d.px); w > d.air.v[i] {
				d.air.v[i] = w
			}
		})
	}
}

// haloNodules are 1 to 4 nodules, each dense in its core and hazy around it.
func (d *ctDrawing) haloNodules(area float64) {
	r := d.r
	for _, share := range shares(r, 1+r.IntN(4), 3) {
		points := d.ofSide(eitherSide(r))
		x0, y0, s := d.start(pick(r, points, func(i int) float64 {
			if d.depth.v[i] > 3 {
				return 1
			}
			return 0
		}))
		radius := clip(math.Sqrt(area*share/math.Pi), 4.5, 28)
		core := radius * uniform(r, 0.45, 0.65)
		shape := wavy(r)
		glass := d.c * uniform(r, 150, 300)
		hu := d.density([2]float64{-20, 45}, [2]float64{-150, 10}, [2]float64{-350, -120})
		d.disc(x0, y0, 1.3*radius+3, func(i int, x, y, rho float64) {
			if !d.on(i, x, s) {
				return
			}
			f := shape(math.Atan2(y-y0, x-x0))
			if w := cover(radius*f-rho, 3); w > 0 {
				d.haze(i, glass*w, w)
			}
			if w := cover(core*f-rho, 2); w > 0 {
				d.put(i, w, hu)
			}
		})
	}
}

// budSpacing is the least distance of tree-in-bud nodules by level, in mm.
var budSpacing = [4]float64{7, 7.5, 8.5, 10}

// treeInBud is a cluster of small nodules on twigs.
func (d *ctDrawing) treeInBud(area float64) {
	r := d.r
	points := d.ofSide(eitherSide(r))
	x0, y0, s := d.start(pick(r, points, func(i int) float64 {
		if d.depth.v[i] > 4 {
			return 1
		}
		return 0
	}))
	radius := clip(math.Sqrt(3.2*area/math.Pi), 14, 50)
	spacing := budSpacing[d.level]
	hx, hy := s*(d.p.pedicle+4), -1.
	dot := func(x0, y0, x1, y1, r0, r1, hu float64) {
		d.capsule(x0, y0, x1, y1, max(r0, r1)+d.px, func(i int, t, distance float64) {
			if x, _ := d.at(i); d.on(i, x, s) {
				d.put(i, min(d.c, 1)*cover(r0+t*(r1-r0)-distance, d.px), hu)
			}
		})
	}
	for _, q := range spread(r, x0, y0, radius, spacing, int(radius*radius/(spacing*spacing)*2)+3) {
		x, y := q[0], q[1]
		nodule := uniform(r, 1.4, 2.6)
		if d.level == 3 {
			nodule *= 0.85
		}
		hu := uniform(r, -250, 0)
		twig, length := chance(r, 0.6), uniform(r, 5, 10)
		turn := uniform(r, 0.5, 1.1)
		dot(x, y, x, y, nodule, nodule, hu)
		if !twig {
			continue
		}
		direction := math.Atan2(hy-y, hx-x)
		dot(x, y, x+length*math.Cos(direction), y+length*math.Sin(direction), 0.55*nodule, 0.55*nodule, hu)
		for _, sign := range []float64{-1, 1} {
			a := direction + math.Pi + sign*turn
			bx, by := x+2*nodule*math.Cos(a), y+2*nodule*math.Sin(a)
			dot(bx, by, bx, by, 0.7*nodule, 0.7*nodule, hu)
		}
	}
	if chance(r, 0.4) {
		d.disc(x0, y0, 1.2*radius, func(i int, x, _, rho float64) {
			if d.on(i, x, s) {
				d.haze(i, 60*d.c*smoothstep((1.2*radius-rho)/(0.6*radius)), 0)
			}
		})
	}
	if chance(r, 0.6) {
		for _, v := range d.walls {
			if math.Hypot(v[0]-x0, v[1]-y0) < radius {
				d.disc(v[0], v[1], v[2]+1.5+d.px, func(i int, x, _, rho float64) {
					if d.on(i, x, s) {
						d.put(i, min(d.c, 1)*cover(0.75-math.Abs(rho-v[2]-0.75), d.px), 0)
					}
				})
			}
		}
	}
}

// mass is one lobulated, spiculated lump.
func (d *ctDrawing) mass(area float64) {
	r := d.r
	radius := clip(math.Sqrt(area/math.Pi), 5, 30)
	points := d.ofSide(eitherSide(r))
	away := min(radius/2, 8)
	x0, y0, s := d.start(pick(r, points, func(i int) float64 {
		if d.depth.v[i] > away {
			return 1
		}
		return 0
	}))
	shape := lobulated(r, 0.16)
	hu := d.density([2]float64{10, 55}, [2]float64{-120, 30}, [2]float64{-350, -100})
	d.disc(x0, y0, 1.8*radius+2, func(i int, x, y, rho float64) {
		if !d.on(i, x, s) {
			return
		}
		if w := cover(radius*shape(math.Atan2(y-y0, x-x0))-rho, 1.5); w > 0 {
			d.put(i, w, hu)
		}
	})
	ray := func(angle, length, width float64) {
		sin, cos := math.Sincos(angle)
		from, to := 0.8*radius*shape(angle), radius+length
		d.capsule(x0+from*cos, y0+from*sin, x0+to*cos, y0+to*sin, width+d.px, func(i int, t, distance float64) {
			if x, _ := d.at(i); d.on(i, x, s) {
				d.put(i, 0.8*cover(width*(1-0.8*t)-distance, d.px), hu)
			}
		})
	}
	for range 6 + r.IntN(9) {
		ray(uniform(r, -math.Pi, math.Pi), radius*uniform(r, 0.35, 0.9)+2, uniform(r, 0.6, 1.4))
	}
	if chance(r, 0.3) { // a tail to the nearest pleura
		angle, closest := 0., math.Inf(1)
		for _, i := range points {
			x, y := d.at(i)
			if h := math.Hypot(x-x0, y-y0); d.depth.v[i] < 1.5*d.px && h < closest {
				angle, closest = math.Atan2(y-y0, x-x0), h
			}
		}
		if closest > radius && !math.IsInf(closest, 1) {
			ray(angle, closest-radius, 1.2)
		}
	}
}
