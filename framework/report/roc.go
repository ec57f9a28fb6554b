package report

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgpdf"
	"gonum.org/v1/plot/vg/vgsvg"

	"thorax/framework/metric"
)

// errNoCurve says that no run of a data set has test scores of both classes.
var errNoCurve = errors.New("no complete run with scores of both classes")

// A roc is one data set's plot of all methods.
type roc struct {
	title  string
	curves []curve
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
func newROC(s *set) (*roc, error) {
	p := &roc{title: s.rows[0].experiment + ": " + s.data}
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
		c.label, c.trivial = r.label+"  "+auroc, r.trivial()
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

// dpi is the resolution of a PNG in print.
const dpi = 220

// draw writes the plot as png, svg or pdf: square axes 11 cm wide, the legend at
// their right with the AUROC of each row.
func (p *roc) draw(w io.Writer, format string) error {
	axes, legend, err := p.build()
	if err != nil {
		return err
	}
	side := 12.5 * vg.Centimeter
	key := legendWidth(legend, p.curves)
	width, height := side, max(side, legendHeight(legend, len(p.curves)+2))
	const margin = 8 // points around all, and between axes and legend

	// The margins for tick labels and titles differ, so the width is what makes
	// the axes square.
	probe := axes.DataCanvas(draw.NewCanvas(vgsvg.New(width, side), width, side))
	width += probe.Size().Y - probe.Size().X
	w0, h0 := width+key+3*margin, height+2*margin
	var canvas vg.CanvasWriterTo
	switch format {
	case "png":
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(w0, h0), vgimg.UseDPI(dpi))}
	case "svg":
		canvas = vgsvg.New(w0, h0)
	case "pdf":
		canvas = vgpdf.New(w0, h0)
	default:
		return fmt.Errorf("plot format %q, need png, svg or pdf", format)
	}
	whole := draw.NewCanvas(canvas, w0, h0)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	inner := draw.Crop(whole, margin, -margin, margin, -margin)
	axes.Draw(draw.Crop(inner, 0, -key-margin, height-side, 0))
	legend.Draw(draw.Crop(inner, width+margin, 0, 0, -vg.Points(26)))
	if format != "svg" {
		_, err = canvas.WriteTo(w)
		return err
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Where the font is missing, take one of the same widths.
	_, err = w.Write(bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")))
	return err
}

// sans is the plot's font, as wide as Arial.
func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

func (p *roc) build() (*plot.Plot, *plot.Legend, error) {
	axes := plot.New()
	axes.Title.Text = p.title
	axes.Title.TextStyle.Font = sans(11)
	axes.Title.Padding = vg.Points(6)
	for _, a := range []struct {
		axis *plot.Axis
		name string
	}{{&axes.X, "false-positive rate (1 − specificity)"}, {&axes.Y, "true-positive rate (sensitivity)"}} {
		a.axis.Min, a.axis.Max = 0, 1
		a.axis.Label.Text = a.name
		a.axis.Label.TextStyle.Font = sans(10)
		a.axis.Tick.Label.Font = sans(9)
		a.axis.Padding = 0
		a.axis.Tick.Marker = plot.ConstantTicks{
			{Value: 0, Label: "0"}, {Value: .2, Label: "0.2"}, {Value: .4, Label: "0.4"},
			{Value: .6, Label: "0.6"}, {Value: .8, Label: "0.8"}, {Value: 1, Label: "1"},
		}
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{0xe8}, color.Gray{0xe8}
	chance, err := plotter.NewLine(plotter.XYs{{X: 0, Y: 0}, {X: 1, Y: 1}})
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
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.TextStyle.Font = sans(8.5)
	legend.Padding = vg.Points(3.2)
	legend.ThumbnailWidth = vg.Points(30)
	legend.YPosition = draw.PosCenter
	legend.Add("AUROC, mean ± sd over seeds")
	for i, c := range p.curves {
		legend.Add(c.label, lines[i])
	}
	legend.Add(chanceLabel, chance)
	return axes, &legend, nil
}

const chanceLabel = "chance line  0.500"

func legendWidth(l *plot.Legend, curves []curve) vg.Length {
	width := l.TextStyle.Width(chanceLabel)
	for _, c := range curves {
		width = max(width, l.TextStyle.Width(c.label))
	}
	return max(width, l.TextStyle.Width("AUROC, mean ± sd over seeds")) + l.ThumbnailWidth + vg.Points(16)
}

func legendHeight(l *plot.Legend, entries int) vg.Length {
	line := l.TextStyle.Height("0Ag±") + l.Padding
	return vg.Length(entries)*line + vg.Points(40)
}
