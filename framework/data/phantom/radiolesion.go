package phantom

import (
	"math"
	"slices"
)

// shadow is a lesion of a radiograph on the fine grid.
type shadow struct {
	add    field // to the log-attenuation
	weight field // what the mask is cut from
	side   int
}

func (o *shadow) support() []bool {
	s := make([]bool, len(o.add.v))
	for i, x := range o.add.v {
		s[i] = x != 0 || o.weight.v[i] > 0
	}
	return s
}

// gains make lesions visible at 128 pixels. Those above 1.6 exceed the
// physical attenuation of small nodules, which at that size are invisible in
// real images too; from 256 pixels on every type has 1.6.
var gains = [kinds]float64{ggo: 2.2, cons: 1.6, halo: 3.0, tib: 3.5, mass: 2.2}

// gain is that of an image's size, linear between 128 and 256 pixels.
func (k kind) gain(size int) float64 {
	w := clip01(float64(size-128) / 128)
	return (1-w)*gains[k] + w*1.6
}

// drawLesion draws once; with the lesion's next random numbers, a second call
// gives another one.
func (f *film) drawLesion(l *lesion, size int) *shadow {
	c, area := l.draw(&radiographLevels, f.lungArea())
	o := &shadow{add: newField(f.n), weight: newField(f.n)}
	d := &shadowing{film: f, lesion: l, shadow: o, c: c}
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
	// Paths in mm become attenuation, and fade where the lung does.
	scale := 0.1 * (f.soft - f.lung) * l.kind.gain(size)
	for i, fade := range f.fade.v {
		o.add.v[i] *= scale * fade
		o.weight.v[i] *= fade
		if !f.clear[i] {
			o.weight.v[i] = 0
		}
	}
	return o
}

// shadowing is a lesion being drawn on a film. Until it is done, add holds mm
// of soft tissue in place of lung.
type shadowing struct {
	*film
	*lesion
	*shadow
	c float64 // contrast factor
}

// put lays a path in mm at a point; the longest counts. w enters the mask.
func (d *shadowing) put(i int, path, w float64) {
	d.add.v[i] = max(d.add.v[i], path)
	d.weight.v[i] = max(d.weight.v[i], w)
}

// texture is a Gaussian field whose correlation length is given in mm.
func (d *shadowing) texture(length float64) field {
	return gaussianField(d.r, d.n, length/2/d.px)
}

// ofSide lists the clear lung's points on side s, or all where there are none.
func (d *shadowing) ofSide(s float64) []int {
	var out []int
	for _, i := range d.points {
		if x, _ := d.at(i); x*s > 0 {
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return d.points
	}
	return out
}

// start records the side of the first part and returns that of the point.
func (d *shadowing) start(i int) (x, v, s float64) {
	x, v = d.at(i)
	if d.side == 0 {
		d.side = side(x)
	}
	return x, v, float64(side(x))
}

// groundGlass is 2 to 5 soft patches, mostly lateral and low.
func (d *shadowing) groundGlass(area float64) {
	r := d.r
	edge, inner := d.texture(22), d.texture(7)
	for _, share := range shares(r, 2+r.IntN(4), 2) {
		x0, v0, s := d.start(pick(r, d.ofSide(eitherSide(r)), func(i int) float64 {
			x, v := d.at(i)
			return x * x / (d.width * d.width) * max(d.t(v), 0)
		}))
		radius, aspect := math.Sqrt(area*share/math.Pi), math.Sqrt(uniform(r, 0.7, 1.4))
		deep, dense := uniform(r, 50, 90), d.c*uniform(r, 0.22, 0.42)
		d.disc(x0, v0, 2.2*radius*max(aspect, 1/aspect), func(i int, x, v, _ float64) {
			if x*s <= 0 {
				return
			}
			u, w := (x-x0)/(radius*aspect), (v-v0)*aspect/radius
			m := clip01(2 * (1 - u*u - w*w + 0.45*edge.v[i]))
			d.put(i, min(deep, d.air.v[i])*dense*m*(1+0.2*inner.v[i]), m)
		})
	}
}

// consolidation fills part of one lobe, above or below a fissure, with air
// left in its bronchi.
func (d *shadowing) consolidation(area float64) {
	r := d.r
	points := d.ofSide(eitherSide(r))
	level, slope := truncated(r, 0.42, 0.05, 0.3, 0.54), uniform(r, -0.15, 0.15)
	lobe, transition := 1., 18. // the lower zone, soft upper border
	if chance(r, 0.35) {
		lobe, transition = -1, 3 // the upper lobe, sharp lower border
	}
	into := func(x, v float64) float64 { // mm into the lobe
		return lobe * (v - d.apex - level*d.chest.height - slope*(math.Abs(x)-0.5*d.width))
	}
	x0, v0, s := d.start(pick(r, points, func(i int) float64 {
		if x, v := d.at(i); into(x, v) > transition/2 {
			return 1
		}
		return 0
	}))
	border := d.texture(24)
	near := func(i int, x, v float64) float64 { return -math.Hypot(x-x0, v-v0) + 9*border.v[i] }
	var ranked []float64
	for _, i := range points {
		if x, v := d.at(i); into(x, v) > 0 {
			ranked = append(ranked, near(i, x, v))
		}
	}
	if len(ranked) == 0 {
		return // drawn again
	}
	slices.Sort(ranked)
	wanted := min(int(area/(d.px*d.px)), len(ranked)*19/20)
	limit := ranked[max(len(ranked)-1-wanted, 0)]
	deep, dense := uniform(r, 50, 95), d.c*uniform(r, 0.55, 0.9)
	d.each(func(i int, x, v float64) {
		if x*s <= 0 || d.air.v[i] == 0 {
			return
		}
		if w := cover(near(i, x, v)-limit, 7) * clip01(into(x, v)/transition+0.5); w > 0 {
			d.put(i, min(deep, d.air.v[i])*dense*w, w)
		}
	})

	hx, hv := s*28, d.apex+0.45*d.chest.height
	first, length := uniform(r, 1.8, 2.6), uniform(r, 14, 24)
	direction := math.Atan2(v0-hv, x0-hx)
	from := max(math.Hypot(x0-hx, v0-hv)-math.Sqrt(area/math.Pi), 0)
	hx, hv = hx+from*math.Cos(direction), hv+from*math.Sin(direction)
	gone := newField(d.n)
	for _, b := range bronchi(r, hx, hv, direction, first, length) {
		d.capsule(b.x0, b.y0, b.x1, b.y1, b.radius, func(i int, _, distance float64) {
			chord := 2 * math.Sqrt(b.radius*b.radius-distance*distance)
			gone.v[i] = max(gone.v[i], chord*d.weight.v[i])
		})
	}
	open := 1.2 * d.soft / ((d.soft - d.lung) * cons.gain(128)) // so that the gain cancels
	for i, chord := range gone.v {
		d.add.v[i] -= open * chord
	}
}

// haloNodules are 1 to 5 nodules, each dense in its core and hazy around it.
func (d *shadowing) haloNodules(area float64) {
	r := d.r
	for _, share := range shares(r, 1+r.IntN(5), 3) {
		points := d.ofSide(eitherSide(r))
		x0, v0, _ := d.start(points[r.IntN(len(points))])
		radius := clip(math.Sqrt(area*share/math.Pi), 6, 24)
		core := radius * uniform(r, 0.5, 0.7)
		shape := wavy(r)
		d.disc(x0, v0, 1.25*radius+1, func(i int, x, v, rho float64) {
			rho /= shape(math.Atan2(v-v0, x-x0))
			path := d.c * (0.95*chord(core, rho) + 0.35*chord(radius, rho))
			d.put(i, path, cover(radius-rho, 2))
		})
	}
}

// chord is the path through a ball at a distance from its centre.
func chord(radius, distance float64) float64 {
	return 2 * math.Sqrt(max(radius*radius-distance*distance, 0))
}

// budArea is the area of the cluster in mm² per tree-in-bud nodule, by level.
var budArea = [4]float64{85, 95, 120, 160}

// treeInBud is a cluster of small nodules with streaks from the hilum and a
// faint haze; its mask is the cluster.
func (d *shadowing) treeInBud(area float64) {
	r := d.r
	points := d.ofSide(eitherSide(r))
	x0, v0, s := d.start(points[r.IntN(len(points))])
	radius := clip(math.Sqrt(area/math.Pi), 18, 75)
	shape := wavy(r)
	envelope := func(x, v, rho float64) float64 {
		return cover(radius*shape(math.Atan2(v-v0, x-x0))-rho, 0.3*radius)
	}
	dots := newField(d.n)
	for range int(math.Pi*radius*radius/budArea[d.level]) + 1 {
		rho, theta := radius*math.Sqrt(r.Float64()), uniform(r, 0, 2*math.Pi)
		ball := uniform(r, 1.8, 3.6)
		d.disc(x0+rho*math.Cos(theta), v0+rho*math.Sin(theta), ball, func(i int, _, _, rho float64) {
			dots.v[i] += d.c * chord(ball, rho)
		})
	}
	hx, hv := s*28, d.apex+0.45*d.chest.height
	for range 6 {
		rho, theta := radius*math.Sqrt(r.Float64()), uniform(r, 0, 2*math.Pi)
		ex, ev := x0+rho*math.Cos(theta), v0+rho*math.Sin(theta)
		thin := uniform(r, 0.8, 1.4)
		d.capsule(hx, hv, ex, ev, thin, func(i int, _, distance float64) {
			dots.v[i] = max(dots.v[i], d.c*chord(thin, distance))
		})
	}
	d.disc(x0, v0, 1.4*radius, func(i int, x, v, rho float64) {
		if x*s <= 0 {
			return
		}
		if w := envelope(x, v, rho); w > 0 {
			d.put(i, w*(dots.v[i]+0.14*d.c*min(45, d.air.v[i])), w)
		}
	})
}

// mass is one lobulated, spiculated lump, mostly in the upper zones.
func (d *shadowing) mass(area float64) {
	r := d.r
	radius := clip(math.Sqrt(area/math.Pi), 7, 34)
	x0, v0, _ := d.start(pick(r, d.ofSide(eitherSide(r)), func(i int) float64 {
		_, v := d.at(i)
		return 1 - 0.7*clip01(d.t(v))
	}))
	shape := lobulated(r, 0.14)
	d.disc(x0, v0, 1.8*radius, func(i int, x, v, rho float64) {
		rho /= shape(math.Atan2(v-v0, x-x0))
		d.put(i, 0.9*d.c*chord(radius, rho), cover(radius-rho, 2))
	})
	for range 6 + r.IntN(8) {
		angle := uniform(r, -math.Pi, math.Pi)
		sin, cos := math.Sincos(angle)
		from, to := 0.8*radius*shape(angle), radius*(1+uniform(r, 0.35, 0.9))+2
		thick := uniform(r, 0.6, 1.4)
		d.capsule(x0+from*cos, v0+from*sin, x0+to*cos, v0+to*sin, thick, func(i int, t, distance float64) {
			path := 0.8 * d.c * chord(thick*(1-0.8*t), distance)
			d.put(i, path, 0)
		})
	}
}
