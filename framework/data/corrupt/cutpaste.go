package corrupt

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// CutPaste cuts a patch out of an image and pastes it elsewhere into the same
// image: Li, Sohn, Yoon & Pfister, "CutPaste: Self-Supervised Learning for
// Anomaly Detection and Localization", CVPR 2021.
type CutPaste struct {
	Jitter      float64    // colour jitter of the patch, in [0,1]
	Area        [2]float64 // area of a normal patch as a share of the image
	Aspect      [2]float64 // width over height of a normal patch, log-uniform
	ScarWidth   [2]float64 // pixels at a side of 256
	ScarHeight  [2]float64 // pixels at a side of 256
	ScarDegrees float64    // a scar is turned by U(-ScarDegrees, ScarDegrees)
}

// NewCutPaste returns the paper's patch sizes. The aspect is log-uniform, as
// in the best-known reimplementation (pytorch-cutpaste); the paper draws from
// (0.3,1) or (1,3.3) with probability one half each.
func NewCutPaste() CutPaste {
	return CutPaste{
		Jitter:      0.1,
		Area:        [2]float64{0.02, 0.15},
		Aspect:      [2]float64{0.3, 1 / 0.3},
		ScarWidth:   [2]float64{2, 16},
		ScarHeight:  [2]float64{10, 25},
		ScarDegrees: 45,
	}
}

// Check names the first field out of range.
func (c CutPaste) Check() error {
	switch {
	case !(c.Jitter >= 0 && c.Jitter <= 1):
		return fmt.Errorf("jitter: %g, need 0 to 1", c.Jitter)
	case !ordered(c.Area) || c.Area[1] > 0.25:
		return fmt.Errorf("area: %v, need 0 < low ≤ high ≤ 0.25 of the image", c.Area)
	case !ordered(c.Aspect) || c.Aspect[0] < 0.25 || c.Aspect[1] > 4:
		return fmt.Errorf("aspect: %v, need 0.25 ≤ low ≤ high ≤ 4", c.Aspect)
	case !ordered(c.ScarWidth) || c.ScarWidth[1] > 90:
		return fmt.Errorf("scar_width: %v, need 0 < low ≤ high ≤ 90 pixels at 256", c.ScarWidth)
	case !ordered(c.ScarHeight) || c.ScarHeight[1] > 90:
		return fmt.Errorf("scar_height: %v, need 0 < low ≤ high ≤ 90 pixels at 256", c.ScarHeight)
	case !(c.ScarDegrees >= 0 && c.ScarDegrees <= 180):
		return fmt.Errorf("scar_degrees: %g, need 0 to 180", c.ScarDegrees)
	}
	return nil
}

func ordered(v [2]float64) bool { return v[0] > 0 && v[0] <= v[1] }

// Normal pastes one rectangle. Its area is U(Area) of the image, its corner
// before and after independent and uniform over the positions that fit. The
// mask is 1 on the rectangle and 0 elsewhere.
func (c CutPaste) Normal(r *rand.Rand, im Image) (pasted, mask Image, err error) {
	if err := im.check(); err != nil {
		return Image{}, Image{}, err
	}
	area := uniform(r, c.Area[0], c.Area[1]) * float64(im.W*im.H)
	aspect := math.Exp(uniform(r, math.Log(c.Aspect[0]), math.Log(c.Aspect[1])))
	w := side(math.Sqrt(area*aspect), im.W)
	h := side(math.Sqrt(area/aspect), im.H)

	patch := Jitter(r, cut(r, im, w, h), c.Jitter)
	opaque := New(w, h)
	for i := range opaque.V {
		opaque.V[i] = 1
	}
	pasted, mask = paste(r, im, patch, opaque)
	return pasted, mask, nil
}

// Scar pastes one thin rectangle, turned by a random angle on a canvas
// enlarged to hold it, through its own alpha. The mask is that alpha: 1
// inside, between 0 and 1 on the rim, 0 elsewhere.
func (c CutPaste) Scar(r *rand.Rand, im Image) (pasted, mask Image, err error) {
	if err := im.check(); err != nil {
		return Image{}, Image{}, err
	}
	w := side(uniform(r, c.ScarWidth[0], c.ScarWidth[1])*float64(im.W)/256, im.W)
	h := side(uniform(r, c.ScarHeight[0], c.ScarHeight[1])*float64(im.H)/256, im.H)
	patch := Jitter(r, cut(r, im, w, h), c.Jitter)
	turned, alpha := rotate(patch, uniform(r, -c.ScarDegrees, c.ScarDegrees)*math.Pi/180)
	if turned.W > im.W || turned.H > im.H {
		return Image{}, Image{}, fmt.Errorf("corrupt: scar of %d×%d does not fit into an image of %d×%d: lower scar_width or scar_height",
			turned.W, turned.H, im.W, im.H)
	}
	pasted, mask = paste(r, im, turned, alpha)
	return pasted, mask, nil
}

// Union is Normal or Scar with probability one half each: the two-class task.
func (c CutPaste) Union(r *rand.Rand, im Image) (pasted, mask Image, err error) {
	if r.IntN(2) == 0 {
		return c.Normal(r, im)
	}
	return c.Scar(r, im)
}

// ThreeWay makes both from one image: the three-class task, whose labels are
// 0 for im itself, 1 for normal, 2 for scar.
func (c CutPaste) ThreeWay(r *rand.Rand, im Image) (pasted, masks [2]Image, err error) {
	for i, draw := range []func(*rand.Rand, Image) (Image, Image, error){c.Normal, c.Scar} {
		if pasted[i], masks[i], err = draw(r, im); err != nil {
			return pasted, masks, err
		}
	}
	return pasted, masks, nil
}

// side rounds a length to pixels, 1 to limit.
func side(v float64, limit int) int { return min(max(int(math.Round(v)), 1), limit) }

// cut copies a w×h patch from a uniform position.
func cut(r *rand.Rand, im Image, w, h int) Image {
	x0, y0 := r.IntN(im.W-w+1), r.IntN(im.H-h+1)
	patch := New(w, h)
	for y := range h {
		copy(patch.V[y*w:(y+1)*w], im.V[(y0+y)*im.W+x0:])
	}
	return patch
}

// paste puts a patch at a uniform position through its alpha.
func paste(r *rand.Rand, im, patch, alpha Image) (pasted, mask Image) {
	x0, y0 := r.IntN(im.W-patch.W+1), r.IntN(im.H-patch.H+1)
	pasted, mask = im.Clone(), New(im.W, im.H)
	for y := range patch.H {
		for x := range patch.W {
			i, j := (y0+y)*im.W+x0+x, y*patch.W+x
			a := alpha.V[j]
			pasted.V[i] = (1-a)*pasted.V[i] + a*patch.V[j]
			mask.V[i] = a
		}
	}
	return pasted, mask
}

// rotate turns a patch about its centre on a canvas that just holds it. The
// values are bilinear with the rim's continued outside, alpha is the coverage
// of the turned rectangle, with a ramp of one pixel across its rim.
func rotate(p Image, angle float64) (turned, alpha Image) {
	sin, cos := math.Sincos(angle)
	w, h := float64(p.W), float64(p.H)
	turned = New(int(math.Ceil(w*math.Abs(cos)+h*math.Abs(sin)-1e-9)), int(math.Ceil(w*math.Abs(sin)+h*math.Abs(cos)-1e-9)))
	alpha = New(turned.W, turned.H)
	for y := range turned.H {
		for x := range turned.W {
			dx, dy := float64(x)+0.5-float64(turned.W)/2, float64(y)+0.5-float64(turned.H)/2
			u, v := cos*dx+sin*dy, -sin*dx+cos*dy // from the patch's centre, along its own sides
			i := y*turned.W + x
			alpha.V[i] = float32(clip(w/2+0.5-math.Abs(u)) * clip(h/2+0.5-math.Abs(v)))
			turned.V[i] = p.bilinear(u+w/2-0.5, v+h/2-0.5)
		}
	}
	return turned, alpha
}

// bilinear reads between pixel centres; outside, the nearest pixel counts.
func (im Image) bilinear(x, y float64) float32 {
	x, y = min(max(x, 0), float64(im.W-1)), min(max(y, 0), float64(im.H-1))
	x0, y0 := int(x), int(y)
	x1, y1 := min(x0+1, im.W-1), min(y0+1, im.H-1)
	fx, fy := float32(x-float64(x0)), float32(y-float64(y0))
	top := (1-fx)*im.V[y0*im.W+x0] + fx*im.V[y0*im.W+x1]
	bottom := (1-fx)*im.V[y1*im.W+x0] + fx*im.V[y1*im.W+x1]
	return (1-fy)*top + fy*bottom
}

func clip(v float64) float64 { return min(max(v, 0), 1) }
