package report

import (
	"errors"
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"thorax/framework/metric"
)

// errNoCurve says that no run of a data set has test scores of both classes.
var errNoCurve = errors.New("no complete run with scores of both classes")

// curves is one data set's plot of a curve for each row, in the unit square.
type curves struct {
	title, x, y    string
	head           string      // of the legend
	reference      plotter.XYs // dotted: what needs no model
	referenceLabel string
	curves         []curve
}

// newCurves is an empty plot of ROC curves.
func newCurves(s *set) *curves {
	return &curves{
		title: s.rows[0].experiment + ": " + s.data, x: "false-positive rate (1 − specificity)", y: "true-positive rate (sensitivity)",
		head: "AUROC, mean ± sd over seeds", reference: plotter.XYs{{X: 0, Y: 0}, {X: 1, Y: 1}}, referenceLabel: chanceLabel,
	}
}

// A curve is the vertical average of a row's ROC curves over its seeds: at each
// false-positive rate the mean of the true-positive rates, and their sample
// standard deviation as a band.
type curve struct {
	label    string
	trivial  bool
	mean     plotter.XYs
	low, top plotter.XYs // mean ∓ sd in [0,1]; nil for one seed
}

// newROC averages the curves of a set. A row without a usable run is left out;
// if all are, the error is errNoCurve.
func newROC(s *set) (*curves, error) {
	p := newCurves(s)
	for _, r := range s.rows {
		var seeds [][]metric.ROCPoint
		var areas []float64
		if r.otherImages != "" {
			continue
		}
		for _, run := range r.complete() {
			scores, abnormal := run.test()
			points, err := metric.ROC(scores, abnormal)
			if errors.Is(err, metric.ErrOneClass) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", run.Path("scores.csv"), err)
			}
			area, err := metric.AUROC(scores, abnormal)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", run.Path("scores.csv"), err)
			}
			seeds, areas = append(seeds, points), append(areas, area)
		}
		if seeds == nil {
			continue
		}
		mean, sd := summarize(areas)
		auroc := column{format: threeDigits}.text(cell{mean: mean, sd: sd, n: len(areas)})
		c := average(seeds)
		c.label, c.trivial = r.name()+"  "+auroc, r.trivial()
		p.curves = append(p.curves, c)
	}
	if p.curves == nil {
		return nil, errNoCurve
	}
	return p, nil
}

// average is the vertical average on a grid of 256 steps; one curve stays exact.
func average(seeds [][]metric.ROCPoint) curve {
	var c curve
	if len(seeds) == 1 {
		for _, p := range seeds[0] {
			c.mean = append(c.mean, plotter.XY{X: p.FPR, Y: p.TPR})
		}
		return c
	}
	const steps = 256
	c.mean = plotter.XYs{{}}
	c.low, c.top = plotter.XYs{{}}, plotter.XYs{{}}
	values := make([]float64, len(seeds))
	for i := range steps + 1 {
		x := float64(i) / steps
		for j, points := range seeds {
			values[j] = tprAt(points, x)
		}
		mean, sd := summarize(values)
		c.mean = append(c.mean, plotter.XY{X: x, Y: mean})
		c.low = append(c.low, plotter.XY{X: x, Y: max(0, mean-sd)})
		c.top = append(c.top, plotter.XY{X: x, Y: min(1, mean+sd)})
	}
	return c
}

// tprAt is the highest true-positive rate of the straight-line ROC at a
// false-positive rate.
func tprAt(points []metric.ROCPoint, fpr float64) float64 {
	last := points[0]
	for _, p := range points[1:] {
		if p.FPR > fpr {
			return last.TPR + (p.TPR-last.TPR)*(fpr-last.FPR)/(p.FPR-last.FPR)
		}
		last = p
	}
	return last.TPR
}

// The colours of Okabe & Ito, "Color universal design", 2008, which colour-blind
// readers tell apart; their yellow is left out, it is lost on white.
var palette = []color.NRGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0x00, 0x00, 0x00, 0xff},
	{0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

// The dashes tell lines apart in black and white. Their number and the palette's
// are coprime, so that 35 rows differ.
var dashes = [][]vg.Length{
	nil, {6, 2}, {2, 2}, {7, 2, 2, 2}, {10, 3},
}

// style is the line of the i-th method or, counted apart, trivial row.
func style(i int, trivial bool) draw.LineStyle {
	if trivial {
		grey := uint8(0x78 + 0x10*(i%4))
		return draw.LineStyle{Color: color.NRGBA{grey, grey, grey, 0xff}, Width: vg.Points(.7), Dashes: dashes[i%len(dashes)]}
	}
	return draw.LineStyle{Color: palette[i%len(palette)], Width: vg.Points(1.6), Dashes: dashes[i%len(dashes)]}
}

// draw writes the plot as png, svg or pdf: square axes 11 cm wide, the legend at
// their right.
func (p *curves) draw(w io.Writer, format string) error {
	axes, legend, err := p.build()
	if err != nil {
		return err
	}
	labels := []string{p.head, p.referenceLabel}
	for _, c := range p.curves {
		labels = append(labels, c.label)
	}
	c := chart{axes: axes, legend: legend, labels: labels, height: 12.5 * vg.Centimeter}
	return c.draw(w, format)
}

func (p *curves) build() (*plot.Plot, *plot.Legend, error) {
	axes := newAxes(p.title, p.x, p.y)
	for _, a := range []*plot.Axis{&axes.X, &axes.Y} {
		a.Min, a.Max = 0, 1
		a.Tick.Marker = plot.ConstantTicks{
			{Value: 0, Label: "0"}, {Value: .2, Label: "0.2"}, {Value: .4, Label: "0.4"},
			{Value: .6, Label: "0.6"}, {Value: .8, Label: "0.8"}, {Value: 1, Label: "1"},
		}
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{0xe8}, color.Gray{0xe8}
	chance, err := plotter.NewLine(p.reference)
	if err != nil {
		return nil, nil, err
	}
	chance.LineStyle = draw.LineStyle{Color: color.Gray{0x50}, Width: vg.Points(.8), Dashes: []vg.Length{1, 2}}
	axes.Add(grid, chance)

	// Bands lie below all lines, trivial lines below those of methods.
	styles := make([]draw.LineStyle, len(p.curves))
	var methods, trivials int
	for i, c := range p.curves {
		n := &methods
		if c.trivial {
			n = &trivials
		}
		styles[i] = style(*n, c.trivial)
		*n++
		if c.low == nil || c.trivial {
			continue
		}
		outline := append(plotter.XYs{}, c.top...)
		for j := len(c.low) - 1; j >= 0; j-- {
			outline = append(outline, c.low[j])
		}
		band, err := plotter.NewPolygon(outline)
		if err != nil {
			return nil, nil, err
		}
		shade := styles[i].Color.(color.NRGBA)
		shade.A = 0x2c
		if len(p.curves) > 8 {
			shade.A = 0x1a // many bands overlap
		}
		band.Color, band.LineStyle.Width = shade, 0
		axes.Add(band)
	}
	lines := make([]*plotter.Line, len(p.curves))
	for _, trivial := range []bool{true, false} {
		for i, c := range p.curves {
			if c.trivial != trivial {
				continue
			}
			if lines[i], err = plotter.NewLine(c.mean); err != nil {
				return nil, nil, err
			}
			lines[i].LineStyle = styles[i]
			axes.Add(lines[i])
		}
	}
	legend := newLegend()
	legend.Add(p.head)
	for i, c := range p.curves {
		legend.Add(c.label, lines[i])
	}
	legend.Add(p.referenceLabel, chance)
	return axes, legend, nil
}

const chanceLabel = "chance line  0.500"
