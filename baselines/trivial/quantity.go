package trivial

import (
	"math"

	"gonum.org/v1/gonum/stat"

	"thorax/framework"
	"thorax/framework/data"
)

func init() {
	register("mean_intensity", "mean grey value", func() any {
		return &Quantity{of: func(n data.Native) (float64, error) { return meanGrey(n), nil }}
	})
	register("file_size", "length of the file in bytes", func() any {
		return &Quantity{of: func(n data.Native) (float64, error) { return float64(n.FileBytes), nil }}
	})
	register("complexity", "length as a JPEG of quality 75", func() any { return &Quantity{of: jpegBytes} })
}

// A Quantity scores an image by how far one number of it, taken of the image as
// it is stored, lies from that of the training normals: |q−mean|/sd, so that
// nobody has to know on which side abnormal images lie.
type Quantity struct {
	of func(data.Native) (float64, error)

	Mean float64 `toml:"-"`
	SD   float64 `toml:"-"` // 1 where the training images have no spread
}

// Check implements [framework.Direct].
func (m *Quantity) Check() error { return nil }

// Fit implements [framework.Direct].
func (m *Quantity) Fit(train framework.Images, _ uint64) error {
	q, err := measure(train, m.of)
	if err != nil {
		return err
	}
	m.Mean, m.SD = spread(q)
	return nil
}

// Score implements [framework.Direct].
func (m *Quantity) Score(x framework.Images, i int) (float64, []float32, error) {
	n, err := x.Native(i)
	if err != nil {
		return 0, nil, err
	}
	q, err := m.of(n)
	if err != nil {
		return 0, nil, err
	}
	return math.Abs(q-m.Mean) / m.SD, nil, nil
}

// spread is the mean and the standard deviation of q, 1 for the latter if q is
// constant but for rounding.
func spread(q []float64) (mean, sd float64) {
	mean, sd = stat.PopMeanStdDev(q, nil)
	if !(sd > 1e-12*math.Abs(mean)) {
		sd = 1
	}
	return mean, sd
}

// meanGrey is the mean of n in [0,1].
func meanGrey(n data.Native) float64 {
	sum := 0
	for _, v := range n.V {
		sum += int(v)
	}
	return float64(sum) / 255 / float64(len(n.V))
}
