package plain

import "math"

// Maps are feature maps: N of them, H×W pixels of C channels each, row-major.
type Maps struct {
	N, H, W, C int
	V          []float64
}

func newMaps(n, h, w, c int) Maps { return Maps{n, h, w, c, make([]float64, n*h*w*c)} }

// Images are n square images of one channel.
func Images(n int, v []float32) Maps {
	side := int(math.Sqrt(float64(len(v) / n)))
	m := newMaps(n, side, side, 1)
	for i, x := range v {
		m.V[i] = float64(x)
	}
	return m
}

// Each returns f of every element.
func (m Maps) Each(f func(float64) float64) Maps {
	y := newMaps(m.N, m.H, m.W, m.C)
	for i, x := range m.V {
		y.V[i] = f(x)
	}
	return y
}

// at returns the channels of one pixel.
func (m Maps) at(n, i, j int) []float64 {
	k := ((n*m.H+i)*m.W + j) * m.C
	return m.V[k : k+m.C]
}

// one returns map n, flattened.
func (m Maps) one(n int) []float64 {
	size := m.H * m.W * m.C
	return m.V[n*size : (n+1)*size]
}

func relu(x float64) float64 { return max(x, 0) }

func leaky(x float64) float64 {
	if x < 0 {
		return 0.2 * x
	}
	return x
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func add(a, b Maps) Maps {
	y := newMaps(a.N, a.H, a.W, a.C)
	for i := range y.V {
		y.V[i] = a.V[i] + b.V[i]
	}
	return y
}

// concat appends the channels of b to those of a.
func concat(a, b Maps) Maps {
	y := newMaps(a.N, a.H, a.W, a.C+b.C)
	for n := range y.N {
		for i := range y.H {
			for j := range y.W {
				to := y.at(n, i, j)
				copy(to, a.at(n, i, j))
				copy(to[a.C:], b.at(n, i, j))
			}
		}
	}
	return y
}

// split cuts every map into p×p tiles: map by map, row by row.
func split(x Maps, p int) Maps {
	y := newMaps(x.N*p*p, x.H/p, x.W/p, x.C)
	for n := range y.N {
		image, row, column := n/(p*p), n/p%p, n%p
		for i := range y.H {
			for j := range y.W {
				copy(y.at(n, i, j), x.at(image, row*y.H+i, column*y.W+j))
			}
		}
	}
	return y
}

// merge is the inverse of split.
func merge(x Maps, p int) Maps {
	y := newMaps(x.N/(p*p), x.H*p, x.W*p, x.C)
	for n := range y.N {
		for i := range y.H {
			for j := range y.W {
				tile := n*p*p + i/x.H*p + j/x.W
				copy(y.at(n, i, j), x.at(tile, i%x.H, j%x.W))
			}
		}
	}
	return y
}

// Hide returns m with every tile of p×p multiplied by its element of keep:
// map by map, row by row.
func (m Maps) Hide(p int, keep []float32) Maps {
	tiles := split(m, p)
	for n := range tiles.N {
		for i := range tiles.one(n) {
			tiles.one(n)[i] *= float64(keep[n])
		}
	}
	return merge(tiles, p)
}

// upsample doubles height and width, bilinear with half-pixel centres.
func upsample(x Maps) Maps {
	y := newMaps(x.N, 2*x.H, 2*x.W, x.C)
	source := func(i, length int) (low, high int, part float64) {
		at := max((float64(i)+0.5)/2-0.5, 0)
		low = int(at)
		return low, min(low+1, length-1), at - float64(low)
	}
	for n := range y.N {
		for i := range y.H {
			top, bottom, v := source(i, x.H)
			for j := range y.W {
				left, right, h := source(j, x.W)
				for c := range y.C {
					upper := (1-h)*x.at(n, top, left)[c] + h*x.at(n, top, right)[c]
					lower := (1-h)*x.at(n, bottom, left)[c] + h*x.at(n, bottom, right)[c]
					y.at(n, i, j)[c] = (1-v)*upper + v*lower
				}
			}
		}
	}
	return y
}

// normalize takes off the mean of v and divides by its deviation, biased, with
// ε = 1e-5.
func normalize(v []float64) []float64 {
	mean, variance := 0.0, 0.0
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		variance += (x - mean) * (x - mean) / float64(len(v))
	}
	y := make([]float64, len(v))
	for i, x := range v {
		y[i] = (x - mean) / math.Sqrt(variance+1e-5)
	}
	return y
}
