package phantom

import (
	"math"
	"math/rand/v2"
	"slices"
)

// clearMM is the depth of air-filled lung above which a point of a radiograph
// counts as clear lung.
const clearMM = 35.

// vesselGain thickens the paths through vessels, so that their pattern shows
// at 128 pixels as it does on a real film; lesions have gains for the same
// reason.
const vesselGain = 1.8

// chest is one patient of a radiograph. Lengths are in mm, attenuations in
// 1/cm. x runs to the patient's left, v down from the upper edge of the film.
type chest struct {
	soft, lung                  float64 // attenuation
	angle, dx, dy, fieldOfView  float64
	apex, height, width         float64 // of the lungs: v of the apex, length, half-width
	domeRight, domeLeft         float64 // v of the diaphragm
	lungDepth                   float64
	bodyDepth, side, shoulder   float64
	heart                       oval
	pedicle                     float64
	knob                        float64 // radius of the aortic knob
	tilt                        float64 // of the trachea
	calibre                     float64
	ribs                        ribcage
	scapula                     bool
	bubble, breasts, marker     bool
	breastDepth, breastLevel    float64
	bubbleSize, markerX         float64
	exposure                    float64
	scatter, noise, sharpen     float64
	lowPercent, highPercent     float64
	gamma                       float64
	vessels                     [][]vessel
	outerEdge, bodyWidth        curve // by v
	power26, power6, clavicleAt curve
}

// ribcage holds the course of 11 pairs of ribs as tables over |x| in mm.
type ribcage struct {
	outer, cortex float64 // diameter, thickness
	posterior     []rib
	anterior      []rib
}

// rib is one rib on both sides.
type rib struct {
	v, cosine curve   // place, and cosine of the slope
	end       float64 // |x| of its lateral end
}

func newChest(r *rand.Rand) *chest {
	p := &chest{}
	p.soft, p.lung = uniform(r, 0.188, 0.202), uniform(r, 0.042, 0.068)
	p.angle = uniform(r, -4, 4) * math.Pi / 180
	p.dx, p.dy = uniform(r, -9, 9), uniform(r, -9, 9)
	p.fieldOfView = truncated(r, 345, 13, 318, 375)

	p.apex = uniform(r, 38, 62)
	p.height = truncated(r, 245, 20, 200, 290)
	p.width = truncated(r, 138, 9, 115, 160)
	p.domeLeft = p.apex + 0.86*p.height
	p.domeRight = p.domeLeft - uniform(r, 5, 22)
	p.lungDepth = uniform(r, 140, 185)
	p.bodyDepth = 2 * truncated(r, 118, 12, 92, 150)
	p.side = p.width + uniform(r, 22, 48)
	p.shoulder = uniform(r, 25, 60)

	ratio := truncated(r, 0.45, 0.045, 0.36, 0.54) // cardiothoracic
	heart, scale := 2*p.width*ratio, uniform(r, 0.9, 1.2)
	p.heart = newOval(0.16*heart, p.domeLeft-42*scale, 0.52*heart, 58*scale, 0.45)
	p.pedicle = uniform(r, 20, 30)
	p.knob = uniform(r, 12, 18)
	p.tilt = 0.4 * uniform(r, -6, 6)
	p.calibre = uniform(r, 0.75, 1.3)

	p.scapula = chance(r, 0.5)
	p.bubble, p.bubbleSize = chance(r, 0.6), uniform(r, 0.7, 1.2)
	p.breasts = chance(r, 0.5)
	p.breastDepth, p.breastLevel = uniform(r, 12, 40), uniform(r, 0.55, 0.75)
	p.marker, p.markerX = chance(r, 0.25), eitherSide(r)
	p.exposure = uniform(r, -0.075, 0.075)
	p.scatter, p.noise = uniform(r, 0.05, 0.25), uniform(r, 0.003, 0.010)
	p.sharpen = uniform(r, 0.1, 0.6)
	p.lowPercent, p.highPercent = uniform(r, 0.1, 1), uniform(r, 96, 99.5)
	p.gamma = uniform(r, 0.8, 1.3)

	p.tables()
	p.ribs = p.newRibcage(r)
	p.growVessels(r)
	return p
}

// tables fills the curves that every grid point reads.
func (p *chest) tables() {
	p.power26 = tabulate(1, 1024, func(x float64) float64 { return math.Pow(clip01(x), 2.6) })
	p.power6 = tabulate(1, 256, func(x float64) float64 { return math.Pow(x, 6) })
	p.outerEdge = tabulate(400, 800, func(v float64) float64 {
		t := p.t(v)
		tau := clip01(t / 0.92)
		return p.width * math.Pow(1-math.Pow(1-tau, 2.4), 1/2.4) * (1 - 0.05*clip01((t-0.8)/0.2))
	})
	p.bodyWidth = tabulate(400, 800, func(v float64) float64 {
		d := (v - p.apex - 12) / 55
		below := p.side + p.shoulder*math.Exp(-d*d)
		return 62 + (below-62)*smoothstep((v-p.apex+62)/62)
	})
	p.clavicleAt = tabulate(170, 340, func(x float64) float64 {
		return p.apex + 26 - 0.36*x + 9*math.Sin(2*math.Pi*x/170)
	})
}

// t is the level in the lung: 0 at the apex, 1 at the lowest recess.
func (p *chest) t(v float64) float64 { return (v - p.apex) / p.height }

// edges returns the inner and outer edge of the lung at v, as |x|.
func (p *chest) edges(v float64) (inner, outer float64) {
	return 8 + 4*(1-p.t(v)), p.outerEdge.at(max(v, 0))
}

// diaphragm returns v of the lower edge of the lung.
func (p *chest) diaphragm(x float64) float64 {
	dome := p.domeLeft
	if x < 0 {
		dome = p.domeRight
	}
	d := math.Abs(x) - 0.52*p.width
	if d > 0 {
		return dome + 0.0067*d*d
	}
	return dome + 0.0012*d*d
}

// lungPath is the depth of the chest cavity's lung along the ray through
// (x, v), before heart and mediastinum take their part; 0 outside the lung's
// silhouette.
func (p *chest) lungPath(x, v float64) float64 {
	t := p.t(v)
	if t <= 0 {
		return 0
	}
	inner, outer := p.edges(v)
	ax := math.Abs(x)
	low := p.diaphragm(x)
	if ax <= inner || ax >= outer || v >= low {
		return 0
	}
	u := (2*ax - inner - outer) / (outer - inner)
	return p.lungDepth * math.Sqrt(1-p.power26.at(u)) * math.Sqrt(clip01(t/0.35)) * (0.45 + 0.55*clip01((low-v)/70))
}

// newRibcage draws the ribs' courses.
func (p *chest) newRibcage(r *rand.Rand) ribcage {
	pitch, first := uniform(r, 20.5, 25.5), p.apex+uniform(r, -2, 10)
	s1, s2, s3 := uniform(r, -14, 0), uniform(r, 28, 52), uniform(r, 70, 120)
	c := ribcage{outer: uniform(r, 9, 12.5), cortex: uniform(r, 0.8, 1.5)}
	course := func(end float64, v, slope func(xi float64) float64) rib {
		return rib{
			v:      tabulate(200, 200, func(x float64) float64 { return v(x / p.width) }),
			cosine: tabulate(200, 200, func(x float64) float64 { return 1 / math.Hypot(1, slope(x/p.width)/p.width) }),
			end:    end,
		}
	}
	for k := range 11 {
		v0 := first + float64(k)*pitch
		back := func(xi float64) float64 { return v0 + s1*xi + s2*xi*xi }
		end := 20.
		for end < p.width+5 && end < p.outerEdge.at(max(back(end/p.width), 0))+5 {
			end++
		}
		c.posterior = append(c.posterior, course(end, back, func(xi float64) float64 { return s1 + 2*s2*xi }))
		if k >= 8 {
			continue
		}
		lateral := end / p.width
		vEnd := back(lateral)
		c.anterior = append(c.anterior, course(end,
			func(xi float64) float64 { d := lateral - xi; return vEnd + s3*d + 14*d*d },
			func(xi float64) float64 { return -s3 - 28*(lateral-xi) }))
	}
	return c
}

// tube is the attenuation of a hollow bone of outer diameter and cortex in mm,
// at a distance from its axis, over that of soft tissue.
func (p *chest) tube(distance, outer, cortex float64) float64 {
	r := outer / 2
	if distance >= r {
		return 0
	}
	chord := 2 * math.Sqrt(r*r-distance*distance)
	marrow := 0.
	if in := r - cortex; distance < in {
		marrow = 2 * math.Sqrt(in*in-distance*distance)
	}
	return 0.1 * ((0.55-p.soft)*(chord-marrow) + 0.05*marrow)
}

// growVessels draws an artery and a vein tree for each lung.
func (p *chest) growVessels(r *rand.Rand) {
	for _, s := range []float64{-1, 1} {
		for _, depth := range []float64{-5, 5} {
			level := 0.46
			if s > 0 {
				level = 0.43
			}
			root := point3{s * uniform(r, 24, 32), depth, p.apex + level*p.height}
			ends := make([]point3, 380+r.IntN(271))
			for i := range ends {
				ends[i] = p.lungPoint(r, s)
			}
			p.vessels = append(p.vessels, growTree(r, root, ends, 2.2, 0.5*p.calibre, 7.5))
		}
	}
}

// lungPoint draws a place in the lung of side s, uniform in its volume.
func (p *chest) lungPoint(r *rand.Rand, s float64) point3 {
	for {
		x, v := s*uniform(r, 8, p.width), p.apex+r.Float64()*p.height
		y := uniform(r, -0.5, 0.5) * p.lungDepth
		if 2*math.Abs(y) < p.lungPath(x, v) {
			return point3{x, y, v}
		}
	}
}

// film is one radiograph on the fine grid, ready for a lesion.
type film struct {
	frame
	*chest
	attenuation field // log-attenuation without lesion
	air         field // mm of lung along the ray
	clear       []bool
	points      []int // of the clear lung
	fade        field // smoothed clear lung
	noise       field // at output size, s.d. 1
}

func newFilm(p *chest, r *rand.Rand, size int) *film {
	n := gridSide(size)
	f := &film{
		frame:       newFrame(n, p.fieldOfView, p.angle, p.dx, p.dy, p.fieldOfView/2),
		chest:       p,
		attenuation: newField(n), air: newField(n), clear: make([]bool, n*n),
	}
	vessels := f.vesselPath()
	terms := f.mediastinum()
	f.each(func(i int, x, v float64) {
		air := p.lungPath(x, v)
		if air > 0 {
			t := p.t(v)
			air -= 90*p.heart.dome(x, v) + 110*pedicleProfile(x, p.pedicle*(1+0.25*clip01(t-0.2)))
			for _, o := range terms {
				air -= o.depth * o.dome(x, v)
			}
			air = max(air, 6)
		}
		f.air.v[i] = air
		if air > clearMM {
			f.clear[i] = true
			f.points = append(f.points, i)
		}
		f.attenuation.v[i] = f.softAndBone(x, v, air, min(vesselGain*vessels.v[i], air))
	})
	if p.marker {
		f.drawMarker()
	}
	f.fade = newField(n)
	for _, i := range f.points {
		f.fade.v[i] = 1
	}
	f.fade = smooth(f.fade, 3/f.px)
	f.noise = newField(size)
	for i := range f.noise.v {
		f.noise.v[i] = r.NormFloat64()
	}
	return f
}

// pedicleProfile is 1-(|x-2|/w)⁴ within w of the midline.
func pedicleProfile(x, w float64) float64 {
	u := (x - 2) / w
	u *= u
	return max(1-u*u, 0)
}

// bulge is half an ellipsoid of soft tissue.
type bulge struct {
	oval
	depth float64
}

// mediastinum lists what stands out of the mediastinum: aortic knob, left
// hilum, superior vena cava, descending aorta.
func (f *film) mediastinum() []bulge {
	at := func(x, t, a, b, depth float64) bulge {
		return bulge{oval{x: x, y: f.apex + t*f.chest.height, a: a, b: b, cos: 1}, depth}
	}
	return []bulge{
		at(26, 0.27, f.knob, f.knob, 38),
		at(24, 0.40, 15, 11, 30),
		at(-22, 0.30, 9, 45, 26),
		at(22, 0.62, 11, 110, 24),
	}
}

// softAndBone is the log-attenuation of a ray with so many mm of lung, and so
// many of vessels in the lung.
func (f *film) softAndBone(x, v, air, vessels float64) float64 {
	p := f.chest
	t, ax := p.t(v), math.Abs(x)
	body := 0.
	if w := p.bodyWidth.at(max(v, 0)); ax < w {
		body = p.bodyDepth * math.Sqrt(1-p.power26.at(ax/w)) * (0.86 + 0.14*clip01(t))
	}
	soft := max(body-air, 0) + vessels
	if t < 0.36 { // trachea
		if u := (x - p.tilt*(0.36-t)/0.36) / 8; u*u < 1 {
			soft -= 16 * math.Sqrt(1-u*u)
		}
	}
	if t > 0.34 && t < 0.47 { // main bronchi
		dv := 0.09 * p.height
		along := clip01((ax*28 + (t-0.36)*p.height*dv) / (28*28 + dv*dv))
		if d := math.Hypot(ax-28*along, (t-0.36)*p.height-dv*along); d < 6 {
			soft -= 2 * math.Sqrt(36-d*d)
		}
	}
	if p.bubble {
		bubble := oval{x: 0.45 * p.width, y: p.domeLeft + 26, a: 26 * p.bubbleSize, b: 17 * p.bubbleSize, cos: 1}
		soft -= 55 * bubble.dome(x, v)
	}
	if p.breasts {
		breast := oval{x: 0.52 * p.width, y: p.apex + p.breastLevel*p.height, a: 62, b: 58, cos: 1}
		soft += p.breastDepth * max(1-breast.level(ax, v), 0)
	}
	a := 0.1 * (p.soft*max(soft, 0) + p.lung*(air-vessels))
	if body > 0 {
		a += f.bones(x, v)
	}
	return a + p.exposure*x/(p.fieldOfView/2)
}

// bones is the log-attenuation of ribs, clavicles, shoulder blades and spine.
func (f *film) bones(x, v float64) float64 {
	p := f.chest
	ax := math.Abs(x)
	var a float64
	if ax > 12 {
		for k := range p.ribs.posterior {
			b := &p.ribs.posterior[k]
			if d := math.Abs(v-b.v.at(ax)) * b.cosine.at(ax); ax < b.end && d < p.ribs.outer/2 {
				a += 0.7 * p.tube(d, p.ribs.outer, p.ribs.cortex)
			}
		}
		if xi := ax / p.width; xi > 0.3 {
			for k := range p.ribs.anterior {
				b := &p.ribs.anterior[k]
				if d := math.Abs(v-b.v.at(ax)) * b.cosine.at(ax); ax < b.end && d < 0.6*p.ribs.outer {
					a += 0.5 * smoothstep((xi-0.3)/0.25) * p.tube(d, 1.2*p.ribs.outer, p.ribs.cortex)
				}
			}
		}
	}
	if ax > 18 && ax < 165 {
		if d := math.Abs(v - p.clavicleAt.at(ax)); d < 9 {
			a += 0.7 * p.tube(0.94*d, 13, 1.5) * smoothstep((ax-18)/6) * smoothstep((165-ax)/6)
		}
	}
	if p.scapula {
		blade := newOval(p.width+8, p.apex+70, 24, 55, 0.25)
		a += 0.15 * smoothstep((1-blade.level(ax, v))/0.3)
	}
	if ax < 17 {
		disc := 0.5 + 0.5*math.Cos(2*math.Pi*v/24)
		a += 34 * 0.006 * (1 - p.power6.at(ax/17)) * (0.65 + 0.35*disc)
	}
	return a
}

// drawMarker lays a lead letter on an upper corner.
func (f *film) drawMarker() {
	x, y := f.markerX*0.40*f.fieldOfView, 0.07*f.fieldOfView
	stroke := func(x0, y0, x1, y1 float64) {
		f.capsule(x0, y0, x1, y1, 2.2, func(i int, _, _ float64) { f.attenuation.v[i] += 2.5 })
	}
	stroke(x-4, y-8, x-4, y+8)
	if f.markerX > 0 { // L
		stroke(x-4, y+8, x+5, y+8)
		return
	}
	stroke(x-4, y-8, x+4, y-6) // R
	stroke(x+4, y-6, x-4, y)
	stroke(x-4, y, x+5, y+8)
}

// vesselPath is the length of vessels along each ray: within a tree the
// longest counts, the trees add up. Vessels finer than 0.6 grid points are
// drawn that wide, with the same cross-section.
func (f *film) vesselPath() field {
	sum, tree := newField(f.n), newField(f.n)
	thinnest := 0.6 * f.px
	for _, vessels := range f.vessels {
		clear(tree.v)
		for _, v := range vessels {
			widest := max(v.fromRadius, v.toRadius, thinnest)
			f.capsule(v.from.x, v.from.z, v.to.x, v.to.z, widest, func(i int, t, distance float64) {
				radius := v.fromRadius + t*(v.toRadius-v.fromRadius)
				drawn := max(radius, thinnest)
				if distance < drawn {
					share := radius / drawn
					path := 2 * math.Sqrt(drawn*drawn-distance*distance) * share * share
					tree.v[i] = max(tree.v[i], path)
				}
			})
		}
		for i, path := range tree.v {
			sum.v[i] += path
		}
	}
	return sum
}

// lungArea is the area of the clear lung in mm².
func (f *film) lungArea() float64 { return float64(len(f.points)) * f.px * f.px }

// image measures log-attenuation: scatter, blur, noise, unsharp mask, display.
func (f *film) image(a field) []uint8 {
	factor := f.n / f.noise.n
	light := newField(f.n)
	for i, x := range a.v {
		light.v[i] = math.Exp(-x)
	}
	veil := smooth(light, 28/f.px)
	for i := range light.v {
		light.v[i] += f.scatter * (veil.v[i] - light.v[i])
	}
	out := shrink(blur(light, 0.5*float64(factor), repeated), factor)
	for i, x := range out.v {
		x = -math.Log(x)
		out.v[i] = x + f.noise.v[i]*f.chest.noise*math.Exp((x-2.2)/2)
	}
	wide := smooth(out, 9*float64(out.n)/128)
	var exposed []float64
	for i := range out.v {
		out.v[i] += f.sharpen * (out.v[i] - wide.v[i])
		if out.v[i] > 0.8 {
			exposed = append(exposed, out.v[i])
		}
	}
	slices.Sort(exposed)
	low, high := percentile(exposed, f.lowPercent), percentile(exposed, f.highPercent)
	for i, x := range out.v {
		out.v[i] = math.Pow(clip01((x-low)/(high-low)), f.gamma)
	}
	return quantise(out)
}

// percentile reads sorted values, at least one.
func percentile(sorted []float64, p float64) float64 {
	at := p / 100 * float64(len(sorted)-1)
	i := int(at)
	j := min(i+1, len(sorted)-1)
	return sorted[i] + (at-float64(i))*(sorted[j]-sorted[i])
}

func renderRadiograph(patient, image *rand.Rand, l *lesion, size int) rendering {
	f := newFilm(newChest(patient), image, size)
	factor := f.n / size
	clear := newField(f.n)
	for _, i := range f.points {
		clear.v[i] = 1
	}
	out := rendering{grid: f.n}
	out.lung, _ = threshold(shrink(clear, factor), 0.5)
	a := f.attenuation
	if l != nil {
		var o *shadow
		for range attempts {
			o = f.drawLesion(l, size)
			var ok bool
			if out.mask, ok = visible(o.weight, factor, 0.4, 4); ok {
				break
			}
		}
		out.support, out.side = o.support(), o.side
		a = newField(f.n)
		for i, x := range f.attenuation.v {
			a.v[i] = x + o.add.v[i]
		}
	}
	out.signal = a.v
	out.image = f.image(a)
	return out
}
