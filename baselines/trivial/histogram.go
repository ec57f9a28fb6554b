package trivial

import (
	"fmt"

	"thorax/framework"
	"thorax/framework/data"
)

func init() {
	register("grey_histogram", "Mahalanobis distance of the grey-value histogram", func() any { return &Histogram{Bins: 32} })
}

// Histogram scores an image by the squared Mahalanobis distance of the shares
// of its pixels in equal bins of grey values, under mean and covariance of the
// training normals. The shares sum to 1, so the covariance has no inverse; its
// pseudo-inverse stands in.
type Histogram struct {
	Bins int `toml:"bins"` // of the 256 grey values

	Normal gaussian `toml:"-"`
}

// Check implements [framework.Direct].
func (m *Histogram) Check() error {
	if m.Bins < 2 || m.Bins > 256 {
		return fmt.Errorf("bins: %d, need 2 to 256", m.Bins)
	}
	return nil
}

// Fit implements [framework.Direct].
func (m *Histogram) Fit(train framework.Images, _ uint64) error {
	rows, err := measure(train, func(n data.Native) ([]float64, error) { return m.shares(n), nil })
	if err != nil {
		return err
	}
	m.Normal, err = fit(rows, 0)
	return err
}

// Score implements [framework.Direct].
func (m *Histogram) Score(x framework.Images, i int) (float64, []float32, error) {
	n, err := x.Native(i)
	if err != nil {
		return 0, nil, err
	}
	d, err := m.Normal.distance(m.shares(n))
	return d, nil, err
}

// shares returns the share of n's pixels in each bin.
func (m *Histogram) shares(n data.Native) []float64 {
	h := make([]float64, m.Bins)
	for _, v := range n.V {
		h[int(v)*m.Bins/256]++
	}
	for k := range h {
		h[k] /= float64(len(n.V))
	}
	return h
}
