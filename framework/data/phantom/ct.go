package phantom

import (
	"math"
	"math/rand/v2"
)

// The lung window: grey is (HU+1350)/1500.
const (
	windowLow   = -1350.
	windowWidth = 1500.
)

// sliceMM is the thickness of a slice in mm.
const sliceMM = 5.

// ctPatient is what the slices of one patient share. Lengths are in mm,
// densities in HU.
type ctPatient struct {
	halfWidth, halfDepth, exponent float64 // body, a superellipse
	fatLayer, muscle               float64
	angle, dx, dy, fieldOfView     float64

	base, inspiration, gravity        float64 // lung
	soft, fat, blood, marrow          float64
	coarse, fine                      float64 // s.d. of the lung's textures
	dependent, emphysema              float64 // normal variants, 0 where absent
	height                            float64 // of the lungs
	heartScale, heartX, heartAngle    float64
	pedicle, fatShare, aorta, spine   float64
	domeRight, domeLeft               float64 // levels of the diaphragm
	ribPhase, ribSlope, calibre       float64
	ribHalfLength                     [2][5]float64
	noise, psf                        float64
	vessels                           []vessel
	bodyPower, cavityPower, riseCurve curve
}

func newCTPatient(r *rand.Rand) *ctPatient {
	p := &ctPatient{}
	p.halfWidth = truncated(r, 168, 14, 140, 200)
	p.halfDepth = p.halfWidth * uniform(r, 0.62, 0.74)
	p.exponent = uniform(r, 2.2, 2.7)
	p.fatLayer = clip(math.Exp(math.Log(13)+0.35*r.NormFloat64()), 5, 30)
	p.muscle = uniform(r, 9, 16)
	p.angle = uniform(r, -6, 6) * math.Pi / 180
	p.dx, p.dy = uniform(r, -8, 8), uniform(r, -8, 8)
	p.fieldOfView = 2 * p.halfWidth * uniform(r, 1.04, 1.16)

	p.base = truncated(r, -862, 20, -905, -800)
	u := r.Float64()
	p.inspiration = 60 * u * u
	p.gravity = uniform(r, 25, 95)
	p.soft, p.fat = uniform(r, 38, 58), uniform(r, -112, -90)
	plain, enhanced := uniform(r, 35, 50), uniform(r, 120, 260)
	p.blood = plain
	if chance(r, 0.3) {
		p.blood = enhanced
	}
	p.marrow = uniform(r, 120, 240)
	p.coarse, p.fine = uniform(r, 6, 16), uniform(r, 8, 20)

	p.height = uniform(r, 200, 270)
	p.heartScale, p.heartX = uniform(r, 0.85, 1.18), uniform(r, 14, 28)
	p.heartAngle = uniform(r, 30, 50) * math.Pi / 180
	p.pedicle, p.fatShare = uniform(r, 20, 33), uniform(r, 0.2, 0.9)
	p.domeRight = uniform(r, 0.78, 0.90)
	p.domeLeft = p.domeRight + uniform(r, 0.02, 0.08)
	p.aorta, p.spine = uniform(r, 11, 15), uniform(r, 0.9, 1.1)
	p.ribPhase, p.ribSlope = r.Float64(), uniform(r, 0.6, 1)
	for s := range p.ribHalfLength {
		for j := range p.ribHalfLength[s] {
			p.ribHalfLength[s][j] = uniform(r, 9, 17)
		}
	}
	p.calibre = uniform(r, 0.75, 1.3)
	if d, has := uniform(r, 20, 140), chance(r, 0.35); has {
		p.dependent = d
	}
	if e, has := uniform(r, 10, 60), chance(r, 0.2); has {
		p.emphysema = e
	}
	p.noise, p.psf = uniform(r, 8, 26), uniform(r, 0.45, 0.85)

	p.bodyPower = tabulate(1.2, 2048, func(x float64) float64 { return math.Pow(x, p.exponent) })
	p.cavityPower = tabulate(1.2, 2048, func(x float64) float64 { return math.Pow(x, 2.3) })
	p.riseCurve = tabulate(2, 256, func(x float64) float64 { return math.Pow(clip01(x), 0.35) })
	p.growVessels(r)
	return p
}

// growVessels draws an artery and a vein tree for each lung.
func (p *ctPatient) growVessels(r *rand.Rand) {
	for _, s := range []float64{-1, 1} {
		for _, root := range []point3{{y: -6, z: 0.44 * p.height}, {y: 4, z: 0.49 * p.height}} {
			root.x = s * (p.pedicle + uniform(r, 1, 7))
			ends := make([]point3, 450+r.IntN(351))
			for i := range ends {
				ends[i] = p.lungPoint(r, s)
			}
			p.vessels = append(p.vessels, growTree(r, root, ends, 2.55, 0.45*p.calibre, 9)...)
		}
	}
}

// lungPoint draws a place in the lung of side s, uniform in its volume.
func (p *ctPatient) lungPoint(r *rand.Rand, s float64) point3 {
	for {
		z := uniform(r, 0.02, 1)
		x, y := s*r.Float64()*p.halfWidth, uniform(r, -p.halfDepth, p.halfDepth)
		if c := p.section(z); c.lung(x, y) {
			return point3{x, y, z * p.height}
		}
	}
}

// section is the anatomy at one level z, 0 at the apex of the lungs and 1 at
// their base.
type section struct {
	p                      *ctPatient
	z, a, b                float64 // half-axes of the chest cavity
	pedicle, spine         oval
	heart                  oval
	domeRight, domeLeft    oval
	hasHeart, hasRt, hasLt bool
}

func (p *ctPatient) section(z float64) section {
	c := section{p: p, z: z}
	narrow := 1.
	if q := clip01((0.60 - z) / 0.62); q > 0 {
		narrow = math.Pow(1-math.Pow(q, 2.2), 1/2.2)
	}
	c.a = (p.halfWidth - p.fatLayer - p.muscle) * narrow
	c.b = (p.halfDepth - 0.8*p.fatLayer - p.muscle) * math.Pow(narrow, 0.85)
	c.pedicle = oval{x: 2, y: -0.05 * c.b, a: p.pedicle, b: 0.9 * c.b, cos: 1}
	c.spine = oval{y: 0.72 * c.b, a: 26 * p.spine, b: 32, cos: 1}
	if h := math.Sin(math.Pi * clip01((z-0.42)/0.75)); h > 0 {
		h = math.Pow(h, 0.6) * p.heartScale
		c.hasHeart = true
		c.heart = newOval(p.heartX, -0.22*c.b, 56*h, 44*h, p.heartAngle)
	}
	if q := math.Sqrt(clip01((z - p.domeRight) / (1.05 - p.domeRight))); q > 0 {
		c.hasRt = true
		c.domeRight = oval{x: -0.46 * c.a, y: 0.02 * c.b, a: 0.52 * c.a * q, b: 0.85 * c.b * q, cos: 1}
	}
	if q := math.Sqrt(clip01((z - p.domeLeft) / (1.08 - p.domeLeft))); q > 0 {
		c.hasLt = true
		c.domeLeft = oval{x: 0.5 * c.a, y: -0.05 * c.b, a: 0.48 * c.a * q, b: 0.8 * c.b * q, cos: 1}
	}
	return c
}

// inside says whether a place is within the chest cavity.
func (c *section) inside(x, y float64) bool {
	u, v := math.Abs(x)/(0.97*c.a), math.Abs(y-2)/(0.97*c.b)
	return u < 1 && v < 1 && c.p.cavityPower.at(u)+c.p.cavityPower.at(v) < 1
}

// dome says whether a place is below the diaphragm.
func (c *section) dome(x, y float64) bool {
	return c.hasRt && c.domeRight.has(x, y) || c.hasLt && c.domeLeft.has(x, y)
}

// lung says whether a place holds aerated lung.
func (c *section) lung(x, y float64) bool {
	return c.inside(x, y) && !c.pedicle.has(x, y) && !c.spine.has(x, y) &&
		!(c.hasHeart && c.heart.has(x, y)) && !c.dome(x, y)
}

// back is the place between the front (0) and the back (1) of the cavity.
func (c *section) back(y float64) float64 { return clip01((y + c.b) / (2 * c.b)) }

// ctSlice is one slice on the fine grid, ready for a lesion.
type ctSlice struct {
	frame
	section
	lung       []bool
	points     []int        // of the lung
	weight     field        // share of the slice's thickness that is lung
	depth      field        // mm to the pleura
	tissue     field        // HU of everything but lung
	parenchyma field        // HU of lung without vessels
	vessel     field        // coverage by vessels
	walls      [][3]float64 // x, y, radius of the vessels wider than 1.5 mm
	noise      field        // at output size, s.d. 1
}

func newCTSlice(p *ctPatient, r *rand.Rand, size int) *ctSlice {
	n := gridSide(size)
	s := &ctSlice{
		frame:   newFrame(n, p.fieldOfView, p.angle, p.dx, p.dy, 0),
		section: p.section(uniform(r, 0.28, 0.86)),
		lung:    make([]bool, n*n),
		weight:  newField(n),
	}
	s.outlineLung()
	s.depth = distances(s.lung, n)
	for i := range s.depth.v {
		s.depth.v[i] *= s.px
	}
	s.fillTissue(r)
	s.fillParenchyma(r)
	s.fillVessels()
	white := newField(size)
	for i := range white.v {
		white.v[i] = r.NormFloat64()
	}
	s.noise = blur(white, 0.6, periodic)
	s.noise.standardise()
	return s
}

// gridSide is the side of the fine grid: at least twice the image's.
func gridSide(size int) int { return size * max(2, (minGrid+size-1)/size) }

// texture is a Gaussian field whose correlation length is given in mm.
func (s *ctSlice) texture(r *rand.Rand, length float64) field {
	return gaussianField(r, s.n, length/2/s.px)
}

// outlineLung finds the lung in the middle of the slice and, from five levels
// within its thickness, the share of it that is lung: domes blur.
func (s *ctSlice) outlineLung() {
	for k := -2; k <= 2; k++ {
		c := s.p.section(s.z + float64(k)*sliceMM/4/s.p.height)
		s.each(func(i int, x, y float64) {
			if c.lung(x, y) {
				s.weight.v[i] += 0.2
				if k == 0 {
					s.lung[i] = true
					s.points = append(s.points, i)
				}
			}
		})
	}
}

// organ is an oval with a density, for the organs of a slice.
type organ struct {
	oval
	hu float64
}

func (s *ctSlice) fillTissue(r *rand.Rand) {
	p, b := s.p, s.b
	streaks, fat := s.texture(r, 9), s.texture(r, 22)
	organs := s.mediastinum()
	bones := s.bones()
	a := p.halfWidth * (1 - 0.06*math.Exp(-s.z/0.15))
	innerA, innerB := a-p.fatLayer, p.halfDepth-0.8*p.fatLayer
	s.tissue = newField(s.n)
	s.each(func(i int, x, y float64) {
		hu := -1000.
		switch {
		case s.inside(x, y):
			hu = p.soft - 5
			switch {
			case s.lung[i], s.dome(x, y):
				hu = p.soft + 8
			default:
				if fat.v[i] < 2*p.fatShare-1 {
					hu = p.fat
				}
				if s.hasHeart && s.heart.has(x, y) {
					hu = p.blood - 4
				}
				for _, o := range organs {
					if o.has(x, y) {
						hu = o.hu
					}
				}
			}
		case p.bodyPower.at(x/innerA)+p.bodyPower.at(y/innerB) < 1 && math.Abs(x) < innerA && math.Abs(y) < innerB:
			hu = p.soft - 120*clip01(streaks.v[i]-1.1)
		case p.bodyPower.at(x/a)+p.bodyPower.at(y/p.halfDepth) < 1 && math.Abs(x) < a && math.Abs(y) < p.halfDepth:
			hu = p.fat
		}
		s.tissue.v[i] = hu
	})
	for _, o := range bones {
		s.disc(o.x, o.y, max(o.a, o.b), func(i int, x, y, _ float64) {
			if o.has(x, y) && !s.lung[i] && s.tissue.v[i] > -1000 && (o.y > 0.5*b || !s.inside(x, y)) {
				s.tissue.v[i] = o.hu
			}
		})
	}
}

// mediastinum lists the vessels and airways between the lungs at this level;
// later ones lie over earlier ones.
func (s *ctSlice) mediastinum() []organ {
	p, z, b := s.p, s.z, s.b
	organs := []organ{{oval{x: 20, y: 0.72*b - 22, a: p.aorta, b: p.aorta, cos: 1}, p.blood}}
	if z > 0.22 && z < 0.62 {
		organs = append(organs, organ{oval{x: -6, y: -0.25 * b, a: 1.25 * p.aorta, b: 1.25 * p.aorta, cos: 1}, p.blood})
	}
	if z < 0.7 {
		organs = append(organs, organ{oval{x: -22, y: -0.2 * b, a: 9, b: 8, cos: 1}, p.blood})
	}
	if z > 0.36 && z < 0.5 {
		organs = append(organs, organ{newOval(6, -0.12*b, 26, 11, 0.3), p.blood})
	}
	organs = append(organs, organ{oval{x: 4, y: 0.72*b - 30, a: 8, b: 6, cos: 1}, p.soft - 5})
	switch {
	case z < 0.36:
		organs = append(organs,
			organ{oval{x: 2, y: 0.05 * b, a: 10.5, b: 10.5, cos: 1}, p.soft},
			organ{oval{x: 2, y: 0.05 * b, a: 8.5, b: 8.5, cos: 1}, -985})
	case z < 0.52:
		x := 10 + 0.55*(z-0.36)*p.height
		for _, side := range []float64{-1, 1} {
			organs = append(organs,
				organ{oval{x: 2 + side*x, y: 0.05 * b, a: 8, b: 7.5, cos: 1}, p.soft},
				organ{oval{x: 2 + side*x, y: 0.05 * b, a: 6, b: 5.5, cos: 1}, -985})
		}
	}
	return organs
}

// bones lists spine, sternum, ribs and shoulder blades; later ones lie over
// earlier ones.
func (s *ctSlice) bones() []organ {
	p, k := s.p, s.p.spine
	y := 0.72 * s.b
	bones := []organ{
		{oval{y: y, a: 19 * k, b: 15 * k, cos: 1}, 500},
		{oval{y: y, a: 17 * k, b: 13 * k, cos: 1}, p.marrow},
		{newOval(0, y+46, 5, 15, 0), 400},
	}
	for _, side := range []float64{-1, 1} {
		bones = append(bones,
			organ{newOval(side*14*k, y+17, 5, 9, 0), 450},
			organ{newOval(side*26*k, y+28, 15, 5, side*0.35), 400},
			organ{newOval(side*8*k, y+35, 12, 5, side*0.6), 380})
	}
	bones = append(bones, organ{oval{y: y + 24, a: 9, b: 8, cos: 1}, 25})

	ringA, ringB := s.a+0.45*p.muscle, s.b+0.45*p.muscle
	bones = append(bones,
		organ{oval{y: -ringB, a: 20, b: 6, cos: 1}, 400},
		organ{oval{y: -ringB, a: 17, b: 3.5, cos: 1}, p.marrow})
	_, turn := math.Modf(p.ribPhase + 6*p.ribSlope*s.z)
	for i, side := range []float64{-1, 1} {
		for j, length := range p.ribHalfLength[i] {
			phi := -1.25 + 0.56*(float64(j)+turn)
			x, y := side*ringA*math.Cos(phi), ringB*math.Sin(phi)
			angle := math.Atan2(ringB*math.Cos(phi), -side*ringA*math.Sin(phi))
			bones = append(bones,
				organ{newOval(x, y, length, 4.6, angle), 650},
				organ{newOval(x, y, length-2, 2.6, angle), p.marrow})
		}
		if s.z < 0.5 {
			bones = append(bones, organ{newOval(side*0.62*p.halfWidth, 0.62*p.halfDepth, 42, 5, -side*0.6), 380})
		}
	}
	return bones
}

func (s *ctSlice) fillParenchyma(r *rand.Rand) {
	p := s.p
	coarse, fine := s.texture(r, 45), s.texture(r, 4)
	dependent, patches := s.texture(r, 20), s.texture(r, 14)
	s.parenchyma = newField(s.n)
	s.each(func(i int, _, y float64) {
		if s.weight.v[i] == 0 {
			return
		}
		back, d := s.back(y), s.depth.v[i]
		hu := p.base + p.inspiration + p.gravity*(back-0.5) + p.coarse*coarse.v[i] + p.fine*fine.v[i]
		if p.dependent > 0 && back > 0.62 {
			hu += p.dependent * math.Exp(-d*d/49) * clip01((back-0.62)/0.2) * clip(0.6+0.4*dependent.v[i], 0, 1.3)
		}
		s.parenchyma.v[i] = hu - p.emphysema*clip(patches.v[i]-0.8, 0, 2)
	})
}

// fillVessels draws the capsules that reach into the slice. Vessels thinner
// than 2.5 mm in radius fade: part of the slice's thickness is not vessel.
func (s *ctSlice) fillVessels() {
	s.vessel = newField(s.n)
	z := s.z * s.p.height
	for _, v := range s.p.vessels {
		widest := max(v.fromRadius, v.toRadius) + s.px/2
		low, high := z-sliceMM/2-widest, z+sliceMM/2+widest
		if max(v.from.z, v.to.z) < low || min(v.from.z, v.to.z) > high {
			continue
		}
		// Cut the capsule's axis to the slab, widened by its radius.
		t0, t1 := 0., 1.
		if dz := v.to.z - v.from.z; math.Abs(dz) > 1e-9 {
			a, b := (low-v.from.z)/dz, (high-v.from.z)/dz
			t0, t1 = max(t0, min(a, b)), min(t1, max(a, b))
		}
		from, r0 := v.at(t0)
		to, r1 := v.at(t1)
		s.capsule(from.x, from.y, to.x, to.y, widest, func(i int, t, distance float64) {
			beyond := max(math.Abs(from.z+t*(to.z-from.z)-z)-sliceMM/2, 0)
			if beyond > 0 {
				distance = math.Sqrt(distance*distance + beyond*beyond)
			}
			radius := r0 + t*(r1-r0)
			cover := clip01((radius-distance)/s.px+0.5) * s.p.riseCurve.at(min(0.4*radius, 1))
			s.vessel.v[i] = max(s.vessel.v[i], cover)
		})
		if (from.z-z)*(to.z-z) < 0 && min(r0, r1) > 1.5 {
			s.walls = append(s.walls, [3]float64{(from.x + to.x) / 2, (from.y + to.y) / 2, (r0 + r1) / 2})
		}
	}
}

// lungArea is the area of the aerated lung in mm².
func (s *ctSlice) lungArea() float64 { return float64(len(s.points)) * s.px * s.px }

// compose returns the slice in HU on the fine grid; o may be nil.
func (s *ctSlice) compose(o *ctOverlay) field {
	hu := newField(s.n)
	blood := min(s.p.blood, 180)
	for i, w := range s.weight.v {
		if w == 0 {
			hu.v[i] = s.tissue.v[i]
			continue
		}
		lung := s.parenchyma.v[i]
		if o != nil {
			lung += o.add.v[i]
		}
		lung += s.vessel.v[i] * (blood - lung)
		if o != nil {
			lung += o.solid.v[i] * (max(lung, o.hu.v[i]) - lung)
			lung += o.air.v[i] * (airHU - lung)
		}
		hu.v[i] = w*lung + (1-w)*s.tissue.v[i]
	}
	return hu
}

// image measures the slice: point spread, partial volume, noise, window.
func (s *ctSlice) image(hu field) []uint8 {
	factor := s.n / s.noise.n
	out := shrink(blur(hu, s.p.psf*float64(factor), repeated), factor)
	for i, x := range out.v {
		out.v[i] = (x + s.p.noise*s.noise.v[i] - windowLow) / windowWidth
	}
	return quantise(out)
}

func renderCT(patient, image *rand.Rand, l *lesion, size int) rendering {
	s := newCTSlice(newCTPatient(patient), image, size)
	factor := s.n / size
	out := rendering{grid: s.n}
	out.lung, _ = threshold(shrink(s.weight, factor), 0.5)
	var o *ctOverlay
	if l != nil {
		limit := 0.4
		if l.kind == tib {
			limit = 0.3
		}
		for range attempts {
			o = s.drawLesion(l)
			var ok bool
			if out.mask, ok = visible(o.weight, factor, limit, 3); ok {
				break
			}
		}
		out.support, out.side = o.support(), o.side
	}
	hu := s.compose(o)
	out.signal = hu.v
	out.image = s.image(hu)
	return out
}
