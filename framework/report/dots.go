package report

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"thorax/framework/metric"
)

// firstImageMetric is the metric that plots of one number show: the table's first
// that has an interval.
func firstImageMetric(s *set) (metric.Spec, bool) {
	for _, spec := range s.specs {
		if !spec.Pixel() {
			return spec, true
		}
	}
	return metric.Spec{}, false
}

// A plain chart draws itself.
type plain struct{ chart }

func (p *plain) draw(w io.Writer, format string) error { return p.chart.draw(w, format) }

// dotsAndIntervals draws a line for each row: the interval over test images, the
// seeds as small rings and their mean as a dot; dashed, a row of an oracle; dotted, what
// needs no model.
func dotsAndIntervals(s *set, st *study) (painter, error) {
	spec, ok := firstImageMetric(s)
	if !ok {
		return nil, fmt.Errorf("%w: no image metric", errNothing)
	}
	axes := newAxes(s.rows[0].experiment+": "+s.data, heading(spec.Name)+": mean, seeds, 95 % interval over test images", "")
	var ticks plot.ConstantTicks
	var shown []*row
	for _, r := range s.rows {
		if len(r.values(s, spec)) > 0 && r.otherImages == "" {
			shown = append(shown, r)
		}
	}
	if shown == nil {
		return nil, fmt.Errorf("%w: no complete run has %s", errNothing, spec.Name)
	}
	low, high := math.Inf(1), math.Inf(-1)
	for i, r := range shown {
		y := float64(len(shown) - i)
		ticks = append(ticks, plot.Tick{Value: y, Label: r.name()})
		values := r.values(s, spec)
		mean := metric.Summarize(values).Mean
		style := style(0, false)
		if r.trivial() {
			style.Color = color.Gray{0x80}
		}
		if r.oracle {
			style.Dashes = dashes[1]
		}
		if ci, ok := st.interval(r, spec); ok {
			line, err := plotter.NewLine(plotter.XYs{{X: ci.Low, Y: y}, {X: ci.High, Y: y}})
			if err != nil {
				return nil, err
			}
			line.LineStyle = style
			axes.Add(line)
			low, high = min(low, ci.Low), max(high, ci.High)
		}
		seeds := make(plotter.XYs, len(values))
		for k, v := range values {
			seeds[k] = plotter.XY{X: v, Y: y}
			low, high = min(low, v), max(high, v)
		}
		for _, dot := range []struct {
			at     plotter.XYs
			radius vg.Length
			shape  draw.GlyphDrawer
		}{{seeds, 2.2, draw.RingGlyph{}}, {plotter.XYs{{X: mean, Y: y}}, 3.4, draw.CircleGlyph{}}} {
			p, err := plotter.NewScatter(dot.at)
			if err != nil {
				return nil, err
			}
			p.GlyphStyle = draw.GlyphStyle{Color: style.Color, Radius: dot.radius, Shape: dot.shape}
			axes.Add(p)
		}
	}
	if floor, ok := metric.Floor(spec, float64(s.abnormal)/float64(max(1, s.normal+s.abnormal))); ok {
		line, err := plotter.NewLine(plotter.XYs{{X: floor, Y: .4}, {X: floor, Y: float64(len(shown)) + .6}})
		if err != nil {
			return nil, err
		}
		line.LineStyle = draw.LineStyle{Color: color.Gray{0x50}, Width: vg.Points(.8), Dashes: []vg.Length{1, 2}}
		axes.Add(line)
		low, high = min(low, floor), max(high, floor)
	}
	axes.Y.Min, axes.Y.Max = .4, float64(len(shown))+.6
	axes.X.Min, axes.X.Max = max(0, low-.02), min(1, high+.02)
	axes.Y.Tick.Marker = ticks
	axes.Y.Tick.Length = 0
	return &plain{chart{axes: axes, width: 15 * vg.Centimeter, height: vg.Length(2.2+.62*float64(len(shown))) * vg.Centimeter}}, nil
}

// sweeps draws the first metric against a varied key, whose value vary appends to the
// label, a line for each method and key; bars are the intervals over test images.
func sweeps(s *set, st *study) (painter, error) {
	spec, ok := firstImageMetric(s)
	if !ok {
		return nil, fmt.Errorf("%w: no image metric", errNothing)
	}
	type point struct{ x, y, low, high float64 }
	lines := map[string][]point{}
	var names []string
	for _, r := range s.rows {
		name, x, ok := varied(r.label)
		values := r.values(s, spec)
		if !ok || len(values) == 0 || r.otherImages != "" {
			continue
		}
		m := metric.Summarize(values).Mean
		p := point{x, m, m, m}
		if ci, ok := st.interval(r, spec); ok {
			p.low, p.high = ci.Low, ci.High
		}
		if lines[name] == nil {
			names = append(names, name)
		}
		lines[name] = append(lines[name], p)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return len(lines[n]) < 2 })
	if names == nil {
		return nil, fmt.Errorf("%w: no row was varied over two numbers or more", errNothing)
	}
	_, key, _ := strings.Cut(names[0], ", by ")
	axes := newAxes(s.rows[0].experiment+": "+s.data, key, heading(spec.Name)+", 95 % interval over test images")
	legend := newLegend()
	low, high, positive := math.Inf(1), 0., true
	for i, name := range names {
		points := lines[name]
		slices.SortFunc(points, func(a, b point) int { return int(math.Copysign(1, a.x-b.x)) })
		xys := make(plotter.XYs, len(points))
		bars := make(plotter.YErrors, len(points))
		for k, p := range points {
			xys[k] = plotter.XY{X: p.x, Y: p.y}
			bars[k].Low, bars[k].High = p.y-p.low, p.high-p.y
			low, high, positive = min(low, p.x), max(high, p.x), positive && p.x > 0
		}
		line, dots, err := plotter.NewLinePoints(xys)
		if err != nil {
			return nil, err
		}
		whiskers, err := plotter.NewYErrorBars(struct {
			plotter.XYer
			plotter.YErrorer
		}{xys, bars})
		if err != nil {
			return nil, err
		}
		line.LineStyle = style(i, false)
		dots.GlyphStyle = draw.GlyphStyle{Color: line.LineStyle.Color, Radius: 2.6, Shape: draw.CircleGlyph{}}
		whiskers.LineStyle = draw.LineStyle{Color: line.LineStyle.Color, Width: vg.Points(.9)}
		axes.Add(line, dots, whiskers)
		legend.Add(name, line, dots)
	}
	if positive && high/low >= 8 { // sweeps over latent sizes and shares double
		axes.X.Scale = plot.LogScale{}
		axes.X.Tick.Marker = plot.LogTicks{Prec: -1}
		axes.X.Min, axes.X.Max = low/1.2, high*1.2
	}
	return &plain{chart{axes: axes, legend: legend, labels: names, width: 13 * vg.Centimeter, height: 10 * vg.Centimeter}}, nil
}

// varied takes "ae latent=16" apart into "ae, by latent" and 16.
func varied(label string) (name string, x float64, ok bool) {
	at := strings.LastIndexByte(label, ' ')
	if at < 0 {
		return "", 0, false
	}
	key, value, found := strings.Cut(label[at+1:], "=")
	x, err := strconv.ParseFloat(value, 64)
	return label[:at] + ", by " + key, x, found && err == nil && key != ""
}

// histogramGrid draws the histograms of the page for print, each class as shares of
// itself.
type histogramGrid struct {
	title string
	tiles [][]*plot.Plot
}

// scoreHistograms draws for each row the test scores of its first complete seed.
func scoreHistograms(s *set, _ *study) (painter, error) {
	const columns = 3
	g := &histogramGrid{title: s.rows[0].experiment + ": " + s.data + ", test scores, blue: normal, red: abnormal"}
	n, dashed := 0, false
	for _, r := range s.rows {
		runs := r.complete()
		if len(runs) == 0 {
			continue
		}
		h, ok := newHistogram(runs[0])
		if !ok {
			continue
		}
		dashed = dashed || h.rule != ""
		p, err := h.plot(fmt.Sprintf("%s, seed %d", r.name(), runs[0].Run.Seed))
		if err != nil {
			return nil, err
		}
		if n%columns == 0 {
			g.tiles = append(g.tiles, make([]*plot.Plot, columns))
		}
		g.tiles[n/columns][n%columns] = p
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: no run is complete", errNothing)
	}
	if dashed {
		g.title += ", dashed: threshold"
	}
	return g, nil
}

// plot draws a histogram: normal filled, abnormal as a line, the threshold dashed.
func (h *histogram) plot(title string) (*plot.Plot, error) {
	axes := newAxes(title, "", "")
	axes.Title.TextStyle.Font = sans(8.5)
	axes.X.Tick.Label.Font = sans(7)
	axes.HideY()
	outline := func(shares [bins]float64) plotter.XYs {
		xys := plotter.XYs{{X: h.low}}
		for i, v := range shares {
			left, right := h.low+(h.high-h.low)*float64(i)/bins, h.low+(h.high-h.low)*float64(i+1)/bins
			xys = append(xys, plotter.XY{X: left, Y: v}, plotter.XY{X: right, Y: v})
		}
		return append(xys, plotter.XY{X: h.high})
	}
	area, err := plotter.NewPolygon(outline(h.normal))
	if err != nil {
		return nil, err
	}
	area.Color, area.LineStyle.Width = color.NRGBA{0x56, 0xb4, 0xe9, 0x8c}, 0
	line, err := plotter.NewLine(outline(h.abnormal))
	if err != nil {
		return nil, err
	}
	line.LineStyle = draw.LineStyle{Color: palette[1], Width: vg.Points(1.2)}
	axes.Add(area, line)
	if !math.IsNaN(h.threshold) && h.threshold >= h.low && h.threshold <= h.high {
		top := max(slices.Max(h.normal[:]), slices.Max(h.abnormal[:]))
		cut, err := plotter.NewLine(plotter.XYs{{X: h.threshold}, {X: h.threshold, Y: top}})
		if err != nil {
			return nil, err
		}
		cut.LineStyle = draw.LineStyle{Color: color.Black, Width: vg.Points(.8), Dashes: []vg.Length{3, 2}}
		axes.Add(cut)
	}
	return axes, nil
}

func (g *histogramGrid) draw(w io.Writer, format string) error {
	columns, rows := len(g.tiles[0]), len(g.tiles)
	width, height := vg.Length(columns)*5.2*vg.Centimeter, vg.Length(rows)*3.6*vg.Centimeter
	const margin, head = 8, 18
	return render(w, format, width+2*margin, height+2*margin+head, func(whole draw.Canvas) {
		inner := draw.Crop(whole, margin, -margin, margin, -margin)
		text := newLegend().TextStyle
		inner.FillText(text, vg.Point{X: inner.Min.X, Y: inner.Max.Y - 10}, g.title)
		inner = draw.Crop(inner, 0, 0, 0, -head)
		tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: 10, PadY: 10}
		for j, line := range g.tiles {
			for i, p := range line {
				if p != nil {
					p.Draw(tiles.At(inner, i, j))
				}
			}
		}
	})
}
