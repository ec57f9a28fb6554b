package trivial

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"

	"thorax/framework"
	"thorax/framework/data"
)

func init() {
	register("all_quantities", "Mahalanobis distance of 21 global quantities", func() any { return &Quantities{} })
}

// Quantities scores an image by the squared Mahalanobis distance of all that
// can be said of it without looking: grey values, contrast, sharpness,
// compressibility, shape, symmetry. Quantities without spread over the training
// normals are left out, the rest is standardised, and 0.01·I is added to the
// covariance before it is inverted.
type Quantities struct {
	Mean   []float64 `toml:"-"`
	SD     []float64 `toml:"-"` // 0: left out
	Normal gaussian  `toml:"-"` // of the standardised ones
}

// Check implements [framework.Direct].
func (m *Quantities) Check() error { return nil }

// Fit implements [framework.Direct].
func (m *Quantities) Fit(train framework.Images, _ uint64) error {
	rows, err := measure(train, quantities)
	if err != nil {
		return err
	}
	d := len(rows[0])
	m.Mean, m.SD = make([]float64, d), make([]float64, d)
	column := make([]float64, len(rows))
	kept := 0
	for k := range d {
		for i, row := range rows {
			column[i] = row[k]
		}
		m.Mean[k], m.SD[k] = stat.PopMeanStdDev(column, nil)
		if !(m.SD[k] > 1e-9*math.Abs(m.Mean[k])) {
			m.SD[k] = 0
			continue
		}
		kept++
	}
	if kept == 0 {
		return fmt.Errorf("all training images are alike: nothing to measure a distance by")
	}
	for i, row := range rows {
		rows[i] = m.standardised(row)
	}
	m.Normal, err = fit(rows, 0.01)
	return err
}

// Score implements [framework.Direct].
func (m *Quantities) Score(x framework.Images, i int) (float64, []float32, error) {
	n, err := x.Native(i)
	if err != nil {
		return 0, nil, err
	}
	q, err := quantities(n)
	if err != nil {
		return 0, nil, err
	}
	if len(m.Mean) != len(q) || len(m.SD) != len(q) {
		return 0, nil, fmt.Errorf("the fitted state has %d quantities, need %d: fit it again with --redo", len(m.Mean), len(q))
	}
	d, err := m.Normal.distance(m.standardised(q))
	return d, nil, err
}

func (m *Quantities) standardised(q []float64) []float64 {
	var z []float64
	for k, v := range q {
		if m.SD[k] > 0 {
			z = append(z, (v-m.Mean[k])/m.SD[k])
		}
	}
	return z
}

// quantities returns the numbers of one image, grey values in [0,1].
func quantities(n data.Native) ([]float64, error) {
	jpeg, err := jpegBytes(n)
	if err != nil {
		return nil, err
	}
	png, err := pngBytes(shrunk(n))
	if err != nil {
		return nil, err
	}
	var h [256]float64
	for _, v := range n.V {
		h[v] += 1 / float64(len(n.V))
	}
	mean := meanGrey(n)
	variance, entropy, bright, dark := 0.0, 0.0, 0.0, 0.0
	for v, share := range h {
		variance += share * (float64(v)/255 - mean) * (float64(v)/255 - mean)
		if share > 0 {
			entropy -= share * math.Log2(share)
		}
		switch {
		case v > 250:
			bright += share
		case v < 5:
			dark += share
		}
	}
	sd := math.Sqrt(variance)
	energy, laplacian := edges(n)
	crisp := 0.0
	if sd > 0 {
		crisp = math.Sqrt(energy) / sd
	}
	border, centre, mirror := places(n)
	return []float64{
		mean, sd, quantile(h, 0.5), quantile(h, 0.95), quantile(h, 0.05), quantile(h, 1), quantile(h, 0), bright, dark,
		entropy, energy, laplacian, crisp, float64(n.FileBytes), jpeg, png,
		float64(n.W) / float64(n.H), float64(n.W * n.H), mirror, border, centre,
	}, nil
}

// quantile is the least grey value that a share p of the pixels does not exceed.
func quantile(h [256]float64, p float64) float64 {
	sum, last := 0.0, 0
	for v, share := range h {
		if share == 0 {
			continue
		}
		if sum += share; sum > p-1e-9 {
			return float64(v) / 255
		}
		last = v
	}
	return float64(last) / 255
}

// edges returns the mean of gx²+gy² by central differences and the variance of
// the Laplacian, over the pixels with four neighbours.
func edges(n data.Native) (energy, laplacian float64) {
	var sum, squares, count float64
	at := func(x, y int) float64 { return float64(n.V[y*n.W+x]) / 255 }
	for y := 1; y < n.H-1; y++ {
		for x := 1; x < n.W-1; x++ {
			l, r, u, d := at(x-1, y), at(x+1, y), at(x, y-1), at(x, y+1)
			energy += ((r-l)*(r-l) + (d-u)*(d-u)) / 4
			lap := l + r + u + d - 4*at(x, y)
			sum += lap
			squares += lap * lap
			count++
		}
	}
	if count == 0 {
		return 0, 0
	}
	return energy / count, squares/count - sum/count*sum/count
}

// places returns the mean of the outer sixteenths, the mean of the central
// half (a quarter of the area), and the mean difference from the mirrored image.
func places(n data.Native) (border, centre, mirror float64) {
	var outside, inside, borders, centres float64
	bx, by := max(n.W/16, 1), max(n.H/16, 1)
	for y := range n.H {
		for x := range n.W {
			v := float64(n.V[y*n.W+x]) / 255
			mirror += math.Abs(v - float64(n.V[y*n.W+n.W-1-x])/255)
			if x < bx || x >= n.W-bx || y < by || y >= n.H-by {
				outside += v
				borders++
			}
			if x >= n.W/4 && x < n.W-n.W/4 && y >= n.H/4 && y < n.H-n.H/4 {
				inside += v
				centres++
			}
		}
	}
	return outside / borders, inside / centres, mirror / float64(n.W*n.H)
}
