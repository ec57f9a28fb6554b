package corrupt

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

const size = 128

// ramp is an image whose pixels all differ: a patch tells where it came from.
func ramp(offset float64) Image {
	im := New(size, size)
	for i := range im.V {
		im.V[i] = float32(math.Mod(0.1+0.8*float64(i)/float64(len(im.V))+offset, 1))
	}
	return im
}

// box returns the mask's bounding box and its sum.
func box(m Image) (w, h int, sum float64) {
	x0, x1, y0, y1 := m.W, -1, m.H, -1
	for i, v := range m.V {
		sum += float64(v)
		if v > 0 {
			x, y := i%m.W, i/m.W
			x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
		}
	}
	return x1 - x0 + 1, y1 - y0 + 1, sum
}

func TestNormalSizes(t *testing.T) {
	c, im := NewCutPaste(), ramp(0)
	const n = 2000
	var share, logAspect, wide float64
	for i := range n {
		_, mask, err := c.Normal(Rand(1, i), im)
		if err != nil {
			t.Fatal(err)
		}
		w, h, sum := box(mask)
		if sum != float64(w*h) {
			t.Fatalf("sample %d: mask of area %g in a box of %d×%d, need a full rectangle", i, sum, w, h)
		}
		if a := sum / size / size; a < 0.018 || a > 0.158 { // rounding of both sides included
			t.Errorf("sample %d: area share %g outside 0.02 to 0.15", i, a)
		}
		share += sum / size / size / n
		logAspect += math.Log(float64(w)/float64(h)) / n
		if w > h {
			wide += 1. / n
		}
	}
	// Means of U(0.02,0.15) and of a symmetric log-uniform draw; tolerances are
	// four standard errors.
	if math.Abs(share-0.085) > 4*0.0375/math.Sqrt(n) {
		t.Errorf("mean area share %g, need 0.085", share)
	}
	if math.Abs(logAspect) > 4*0.695/math.Sqrt(n) {
		t.Errorf("mean log aspect %g, need 0", logAspect)
	}
	if wide < 0.44 || wide > 0.56 {
		t.Errorf("%g of the patches are wider than high, need about half", wide)
	}
}

func TestNormalPastesAPatchOfTheImage(t *testing.T) {
	c, im := NewCutPaste(), ramp(0)
	c.Jitter = 0
	pasted, mask, err := c.Normal(Rand(3, 5), im)
	if err != nil {
		t.Fatal(err)
	}
	shift := math.NaN() // source minus target, in units of the ramp
	for i, m := range mask.V {
		d := float64(pasted.V[i] - im.V[i])
		switch {
		case m == 0 && d != 0:
			t.Fatalf("pixel %d outside the mask changed by %g", i, d)
		case m == 1 && math.IsNaN(shift):
			shift = d
		case m == 1 && math.Abs(d-shift) > 1e-6:
			t.Fatalf("pixel %d: patch moved by %g, others by %g", i, d, shift)
		}
	}
	if shift == 0 || math.IsNaN(shift) {
		t.Errorf("patch moved by %g, need another place", shift)
	}
}

func TestScarSizes(t *testing.T) {
	c, im := NewCutPaste(), ramp(0)
	var soft int
	for i := range 500 {
		pasted, mask, err := c.Scar(Rand(2, i), im)
		if err != nil {
			t.Fatal(err)
		}
		w, h, sum := box(mask)
		// At 128: 1 to 8 by 5 to 13 pixels (12.5 rounds up), turned by up to 45°.
		if sum < 3 || sum > 8*13+1 {
			t.Errorf("sample %d: alpha sums to %g, need about 5 to 104", i, sum)
		}
		if limit := int(math.Ceil((8 + 13) / math.Sqrt2)); w > limit || h > limit {
			t.Errorf("sample %d: canvas %d×%d above %d", i, w, h, limit)
		}
		for j, m := range mask.V {
			if m < 0 || m > 1 {
				t.Fatalf("sample %d: alpha %g outside [0,1]", i, m)
			}
			if m > 0 && m < 1 {
				soft++
			}
			if m == 0 && pasted.V[j] != im.V[j] {
				t.Fatalf("sample %d: pixel %d changed where alpha is 0", i, j)
			}
		}
	}
	if soft == 0 {
		t.Error("no scar has a soft rim")
	}
}

func TestRotateKeepsAreaAndValue(t *testing.T) {
	p := New(8, 12)
	for i := range p.V {
		p.V[i] = 0.25
	}
	for _, angle := range []float64{0, 0.3, -math.Pi / 4} {
		turned, alpha := rotate(p, angle)
		_, _, area := box(alpha)
		if math.Abs(area-96) > 5 {
			t.Errorf("angle %g: area %g, need about 96", angle, area)
		}
		for i, v := range turned.V {
			if math.Abs(float64(v)-0.25) > 1e-6 {
				t.Errorf("angle %g: value %g at %d, need 0.25", angle, v, i)
			}
		}
	}
	turned, alpha := rotate(p, 0)
	if turned.W != 8 || turned.H != 12 || alpha.V[0] != 1 {
		t.Errorf("angle 0 gives %d×%d with alpha %g, need the patch itself", turned.W, turned.H, alpha.V[0])
	}
}

func TestUnionDrawsBoth(t *testing.T) {
	c, im := NewCutPaste(), ramp(0)
	var rectangles int
	for i := range 400 {
		_, mask, err := c.Union(Rand(4, i), im)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, sum := box(mask); sum > 200 { // the smallest rectangle has 327 pixels, the largest scar 104
			rectangles++
		}
	}
	if rectangles < 150 || rectangles > 250 {
		t.Errorf("%d of 400 are rectangles, need about half", rectangles)
	}
}

func TestThreeWayMakesOneOfEach(t *testing.T) {
	pasted, masks, err := NewCutPaste().ThreeWay(Rand(5, 0), ramp(0))
	if err != nil {
		t.Fatal(err)
	}
	_, _, first := box(masks[0])
	_, _, second := box(masks[1])
	if first < 200 || second > 200 || reflect.DeepEqual(pasted[0], pasted[1]) {
		t.Errorf("mask areas %g and %g, need a rectangle and a scar", first, second)
	}
}

func TestFPI(t *testing.T) {
	f, a, b := NewFPI(), ramp(0), ramp(0.37)
	minHalf, maxHalf := size, 0
	for i := range 1000 {
		p, err := f.Pair(Rand(6, i), a, b)
		if err != nil {
			t.Fatal(err)
		}
		if p.Alpha < 0.05 || p.Alpha >= 0.95 {
			t.Fatalf("sample %d: alpha %g outside [0.05,0.95)", i, p.Alpha)
		}
		w, h, sum := box(p.Label)
		if math.Abs(sum-p.Alpha*float64(w*h)) > 1e-2 {
			t.Fatalf("sample %d: label sums to %g over %d×%d, need alpha %g on each pixel", i, sum, w, h, p.Alpha)
		}
		if w%2 == 0 && w == h { // not cut by the border
			minHalf, maxHalf = min(minHalf, w/2), max(maxHalf, w/2)
		}
		for j, l := range p.Label.V {
			wantA, wantB := a.V[j], b.V[j]
			if l != 0 {
				wantA, wantB = (1-l)*a.V[j]+l*b.V[j], (1-l)*b.V[j]+l*a.V[j]
			}
			if math.Abs(float64(p.A.V[j]-wantA)) > 1e-6 || math.Abs(float64(p.B.V[j]-wantB)) > 1e-6 {
				t.Fatalf("sample %d: pixel %d is (%g, %g), need (%g, %g)", i, j, p.A.V[j], p.B.V[j], wantA, wantB)
			}
		}
	}
	if minHalf != 6 || maxHalf != 25 { // round(0.05·128) and round(0.2·128)-1
		t.Errorf("half-widths %d to %d, need 6 to 25", minHalf, maxHalf)
	}
}

func TestFPILabelLeavesOutEqualPixels(t *testing.T) {
	a := ramp(0)
	p, err := NewFPI().Pair(Rand(7, 0), a, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, sum := box(p.Label); sum != 0 {
		t.Errorf("label sums to %g for two equal images, need 0", sum)
	}
}

func TestJitter(t *testing.T) {
	im := ramp(0)
	if got := Jitter(Rand(8, 0), im, 0); !reflect.DeepEqual(got.V, im.V) {
		t.Error("jitter of strength 0 changes the image")
	}
	flat := New(16, 16)
	for i := range flat.V {
		flat.V[i] = 0.5
	}
	low, high := 1., 0.
	for i := range 1000 {
		v := float64(Jitter(Rand(9, i), flat, 0.4).V[0]) // contrast does nothing to a flat image
		low, high = min(low, v), max(high, v)
	}
	if low < 0.3-1e-6 || low > 0.31 || high > 0.7+1e-6 || high < 0.69 {
		t.Errorf("brightness gives %g to %g, need 0.3 to 0.7", low, high)
	}
}

func TestStandardise(t *testing.T) {
	s := Standardise(ramp(0))
	var ss float64
	for _, v := range s.V {
		ss += float64(v) * float64(v)
	}
	if m := mean(s.V); math.Abs(m) > 1e-5 || math.Abs(ss/float64(len(s.V))-1) > 1e-4 {
		t.Errorf("mean %g, mean square %g; need 0 and 1", m, ss/float64(len(s.V)))
	}
}

func TestSameSeedSameSample(t *testing.T) {
	c, f, a, b := NewCutPaste(), NewFPI(), ramp(0), ramp(0.2)
	before := a.Clone()
	for _, tt := range []struct {
		name string
		draw func(r *rand.Rand) (any, error)
	}{
		{"normal", func(r *rand.Rand) (any, error) { x, m, err := c.Normal(r, a); return []Image{x, m}, err }},
		{"scar", func(r *rand.Rand) (any, error) { x, m, err := c.Scar(r, a); return []Image{x, m}, err }},
		{"fpi", func(r *rand.Rand) (any, error) { return f.Pair(r, a, b) }},
	} {
		x, err1 := tt.draw(Rand(10, 3))
		y, err2 := tt.draw(Rand(10, 3))
		z, err3 := tt.draw(Rand(10, 4))
		w, err4 := tt.draw(Rand(11, 3))
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
			t.Fatal(err1, err2, err3, err4)
		}
		if !reflect.DeepEqual(x, y) {
			t.Errorf("%s: two draws of one sample differ", tt.name)
		}
		if reflect.DeepEqual(x, z) || reflect.DeepEqual(x, w) {
			t.Errorf("%s: another index or seed gives the same sample", tt.name)
		}
	}
	if !reflect.DeepEqual(a, before) {
		t.Error("a draw changed its input")
	}
}

func TestErrors(t *testing.T) {
	r := Rand(0, 0)
	if _, _, err := NewCutPaste().Normal(r, New(8, 8)); err == nil {
		t.Error("an image of 8×8 is accepted")
	}
	if _, _, err := NewCutPaste().Scar(r, Image{W: 32, H: 32}); err == nil {
		t.Error("an image without values is accepted")
	}
	if _, err := NewFPI().Pair(r, New(32, 32), New(64, 64)); err == nil {
		t.Error("images of two sizes are accepted")
	}
	for name, err := range map[string]error{
		"jitter": CutPaste{Jitter: 2}.Check(),
		"area":   func() error { c := NewCutPaste(); c.Area[1] = 1; return c.Check() }(),
		"core":   FPI{}.Check(),
	} {
		if err == nil {
			t.Errorf("%s out of range is accepted", name)
		}
	}
	if err := NewCutPaste().Check(); err != nil {
		t.Error(err)
	}
	if err := NewFPI().Check(); err != nil {
		t.Error(err)
	}
}
