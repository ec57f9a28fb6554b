package loss_test

import (
	"math"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
)

// plane is one channel of one image.
type plane struct {
	h, w int
	v    []float64
}

// similarity is the definition: a two-dimensional window at every pixel where
// it fits, or at every pixel.
func similarity(x, y plane, window int, sigma, spread float64, zeroPad bool) (index, contrast plane) {
	r := window / 2
	g := make([]float64, window*window)
	sum := 0.0
	for i := range g {
		a, b := float64(i/window-r), float64(i%window-r)
		g[i] = math.Exp(-(a*a + b*b) / (2 * sigma * sigma))
		sum += g[i]
	}
	c1, c2 := math.Pow(0.01*spread, 2), math.Pow(0.03*spread, 2)
	first, h, w := r, x.h-2*r, x.w-2*r
	if zeroPad {
		first, h, w = 0, x.h, x.w
	}
	index, contrast = plane{h: h, w: w}, plane{h: h, w: w}
	for i := range h {
		for j := range w {
			var mx, my, xx, yy, xy float64
			for t, g := range g {
				a, b := first+i+t/window-r, first+j+t%window-r
				if a < 0 || b < 0 || a >= x.h || b >= x.w {
					continue
				}
				g /= sum
				p, q := x.v[a*x.w+b], y.v[a*x.w+b]
				mx, my, xx, yy, xy = mx+g*p, my+g*q, xx+g*p*p, yy+g*q*q, xy+g*p*q
			}
			cs := (2*(xy-mx*my) + c2) / (xx - mx*mx + yy - my*my + c2)
			contrast.v = append(contrast.v, cs)
			index.v = append(index.v, cs*(2*mx*my+c1)/(mx*mx+my*my+c1))
		}
	}
	return index, contrast
}

func (p plane) mean() float64 {
	sum := 0.0
	for _, v := range p.v {
		sum += v
	}
	return sum / float64(len(p.v))
}

func (p plane) half() plane {
	q := plane{h: p.h / 2, w: p.w / 2}
	for i := range q.h {
		for j := range q.w {
			k := 2*i*p.w + 2*j
			q.v = append(q.v, (p.v[k]+p.v[k+1]+p.v[k+p.w]+p.v[k+p.w+1])/4)
		}
	}
	return q
}

// pair returns B images of C channels in [0,1] and noisy copies, [B,H,W,C], and
// their channel c of image b.
func pair(b, h, w, c int) (x, y []float32, channel func(v []float32, i, j int) plane) {
	x, y = nntest.Draw(1, b*h*w*c), nntest.Draw(2, b*h*w*c)
	for i := range x {
		smooth := 0.5 + 0.3*math.Sin(float64(i/c)/7)
		x[i], y[i] = float32(smooth)+0.1*x[i], float32(smooth)+0.1*x[i]+0.05*y[i]
	}
	return x, y, func(v []float32, i, j int) plane {
		p := plane{h: h, w: w}
		for k := range h * w {
			p.v = append(p.v, float64(v[(i*h*w+k)*c+j]))
		}
		return p
	}
}

func TestSSIM(t *testing.T) {
	const b, h, w, c = 2, 14, 13, 2
	x, y, channel := pair(b, h, w, c)
	for _, tt := range []struct {
		name    string
		options loss.Similarity
		window  int
		sigma   float64
		spread  float64
	}{
		{"default", loss.Similarity{}, 11, 1.5, 1},
		{"zero-padded", loss.Similarity{ZeroPad: true, Range: 2}, 11, 1.5, 2},
		{"window 7", loss.Similarity{Window: 7, Sigma: 1}, 7, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := nntest.Values(t, func(s *nn.Scope) []tf.Output {
				x, y := nn.Consts(s, x, b, h, w, c), nn.Consts(s, y, b, h, w, c)
				return []tf.Output{loss.SSIMMap(s, x, y, tt.options), loss.SSIM(s, x, y, tt.options)}
			})
			var want []float64
			mean := 0.0
			for i := range b {
				p, _ := similarity(channel(x, i, 0), channel(y, i, 0), tt.window, tt.sigma, tt.spread, tt.options.ZeroPad)
				q, _ := similarity(channel(x, i, 1), channel(y, i, 1), tt.window, tt.sigma, tt.spread, tt.options.ZeroPad)
				for k := range p.v {
					want = append(want, p.v[k], q.v[k])
				}
				mean += (p.mean() + q.mean()) / (b * c)
			}
			// The variances are differences of float32 squares.
			nntest.Close(t, "map", out[0], want, 1e-3)
			nntest.Close(t, "loss", out[1], []float64{1 - mean}, 1e-4)
		})
	}
	same := nntest.Value(t, func(s *nn.Scope) tf.Output {
		x := nn.Consts(s, x, b, h, w, c)
		return loss.SSIM(s, x, x, loss.Similarity{})
	})
	nntest.Close(t, "loss of an image and itself", same, []float64{0}, 1e-6)
}

func TestMultiScaleSSIM(t *testing.T) {
	const b, h, w, c, window, scales = 2, 28, 24, 2, 5, 3
	x, y, channel := pair(b, h, w, c)
	weights := loss.MultiScaleWeights[:scales]
	out := nntest.Values(t, func(s *nn.Scope) []tf.Output {
		index, maps := loss.MultiScaleSSIM(s, nn.Consts(s, x, b, h, w, c), nn.Consts(s, y, b, h, w, c), weights, loss.Similarity{Window: window})
		return append([]tf.Output{index}, maps...)
	})
	var want []float64
	for i := range b {
		mean := 0.0
		for j := range c {
			p, q := channel(x, i, j), channel(y, i, j)
			product := 1.0
			for l, weight := range weights {
				if l > 0 {
					p, q = p.half(), q.half()
				}
				index, contrast := similarity(p, q, window, 1.5, 1, false)
				if l == scales-1 {
					contrast = index
				}
				product *= math.Pow(max(contrast.mean(), 1e-6), weight)
			}
			mean += product / c
		}
		want = append(want, mean)
	}
	nntest.Close(t, "index", out[0], want, 1e-4)
	for l, size := range []int{24 * 20, 10 * 8, 3 * 2} {
		if got := len(out[1+l]); got != b*size*c {
			t.Errorf("map of scale %d has %d values, want %d", l, got, b*size*c)
		}
	}
}

func TestSimilarityMistakes(t *testing.T) {
	for _, o := range []loss.Similarity{{Window: 4}, {Window: 15}, {Range: -1}} {
		s := nn.NewScope(1)
		x := nn.RandomNormal(s, 2, 12, 12, 1)
		loss.SSIM(s, x, x, o)
		if s.Err() == nil {
			t.Errorf("%+v is accepted on 12×12", o)
		}
	}
}
