package report

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"thorax/framework/record"
)

// learning is the course of a row's training, from train.jsonl: the AUROC of the test
// images where the run has a learning curve, and below it the terms of each update's
// loss. Every seed is a line, of runs that are not complete too.
type learning struct {
	title, x string
	last     float64 // of all lines on the x axis
	panels   []*panel
}

// A panel is one plot of the course: the AUROC, or the loss of one update.
type panel struct {
	title, y string
	dots     bool
	terms    []string // by colour; nil: a colour for each seed
	lines    []course
}

// A course is one seed's line.
type course struct {
	label  string
	term   int // place in the panel's terms
	seed   int // place among the row's runs that have a log
	points plotter.XYs
}

// The most points of a line of losses, and the ratio of its ends from which positive
// losses get a logarithmic axis.
const (
	coursePoints = 400
	wideLosses   = 30
)

// newLearning reads the logs of a row. Without any, the error is errNothing.
func newLearning(s *set, r *row) (*learning, error) {
	type logged struct {
		run *run
		log []record.Step
	}
	var all []logged
	epoch := math.NaN() // steps in one, if known and the same for all
	for _, run := range r.runs {
		log, err := run.Log()
		if errors.Is(err, os.ErrNotExist) || err == nil && len(log) == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		steps := run.stepsPerEpoch()
		if len(all) == 0 {
			epoch = steps
		} else if steps != epoch {
			epoch = math.NaN()
		}
		all = append(all, logged{run, log})
	}
	if all == nil {
		return nil, fmt.Errorf("%w: no run of the row has a train.jsonl", errNothing)
	}
	p := &learning{title: s.rows[0].experiment + ": " + s.data + ", " + r.name(), x: "epoch"}
	if math.IsNaN(epoch) {
		p.x, epoch = "step", 1
	}
	for seed, l := range all {
		p.add(l.run, l.log, seed, epoch)
	}
	if len(p.panels) == 0 {
		return nil, fmt.Errorf("%w: the logs of the row hold neither losses nor a learning curve", errNothing)
	}
	return p, nil
}

// stepsPerEpoch is the number of steps in which a run sees every training image once;
// NaN where its folder does not tell.
func (r *run) stepsPerEpoch() float64 {
	var config struct {
		Train struct {
			Batch float64 `toml:"batch"`
		} `toml:"train"`
	}
	text, err := r.Config()
	if err == nil {
		_, err = toml.Decode(string(text), &config)
	}
	n := trainingImages.FindStringSubmatch(r.Run.SplitRule)
	if err != nil || n == nil || config.Train.Batch < 1 {
		return math.NaN()
	}
	images, err := strconv.ParseFloat(n[1], 64)
	if err != nil || images < 1 {
		return math.NaN()
	}
	return images / config.Train.Batch
}

// add sorts a log into panels: one for the AUROC, one for each phase and update.
func (p *learning) add(r *run, log []record.Step, seed int, epoch float64) {
	phases := map[string]bool{}
	for _, step := range log {
		phases[step.Phase] = true
	}
	name := fmt.Sprintf("seed %d", r.Run.Seed)
	if r.state != record.State(record.Complete) {
		name += ", " + string(r.state)
	}
	auroc := course{label: name, seed: seed}
	lines := map[[2]string]*course{} // by title of the panel and term
	var order [][2]string
	for _, step := range log {
		x := float64(step.Step) / epoch
		p.last = max(p.last, x)
		if v := step.TestAUROC; v != nil {
			auroc.points = append(auroc.points, plotter.XY{X: x, Y: *v})
		}
		for loss, v := range step.Losses {
			update, term, ok := strings.Cut(loss, "/")
			if !ok {
				term = "total"
			}
			if step.Phase != update && len(phases) > 1 {
				update = step.Phase + ": " + update
			}
			key := [2]string{update, term}
			if lines[key] == nil {
				lines[key] = &course{label: name, seed: seed}
				order = append(order, key)
			}
			lines[key].points = append(lines[key].points, plotter.XY{X: x, Y: v})
		}
	}
	if auroc.points != nil {
		best := slices.MaxFunc(auroc.points, func(a, b plotter.XY) int { return compareFloats(a.Y, b.Y) })
		auroc.label += fmt.Sprintf(": %.3f last, %.3f best, at %s %.3g", auroc.points[len(auroc.points)-1].Y, best.Y, p.x, best.X)
		to := p.panel("learning curve: AUROC of the test images, an oracle's figure", "AUROC")
		to.dots = true
		to.lines = append(to.lines, auroc)
	}
	slices.SortFunc(order, func(a, b [2]string) int { // the total first
		return slices.Compare([]string{a[0], strings.Replace(a[1], "total", "", 1)}, []string{b[0], strings.Replace(b[1], "total", "", 1)})
	})
	for _, key := range order {
		to := p.panel(key[0], "loss")
		if !slices.Contains(to.terms, key[1]) {
			to.terms = append(to.terms, key[1])
		}
		line := *lines[key]
		line.term = slices.Index(to.terms, key[1])
		each := 1 + (len(line.points)-1)/coursePoints
		line.points = thin(line.points, each)
		if each > 1 {
			to.y = fmt.Sprintf("loss, means of %d logged steps", each)
		}
		to.lines = append(to.lines, line)
	}
}

// panel is the panel of a title; the AUROC's is the first.
func (p *learning) panel(title, y string) *panel {
	for _, known := range p.panels {
		if known.title == title {
			return known
		}
	}
	to := &panel{title: title, y: y}
	if y == "AUROC" {
		p.panels = slices.Insert(p.panels, 0, to)
	} else {
		p.panels = append(p.panels, to)
	}
	return to
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// thin replaces each stretch of n points by its mean.
func thin(points plotter.XYs, n int) plotter.XYs {
	if n <= 1 {
		return points
	}
	var out plotter.XYs
	for stretch := range slices.Chunk(points, n) {
		var mean plotter.XY
		for _, q := range stretch {
			mean.X += q.X / float64(len(stretch))
			mean.Y += q.Y / float64(len(stretch))
		}
		out = append(out, mean)
	}
	return out
}

// logarithmic reports whether the panel's values are positive and spread widely.
func (p *panel) logarithmic() bool {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range p.lines {
		for _, q := range l.points {
			low, high = min(low, q.Y), max(high, q.Y)
		}
	}
	return !p.dots && low > 0 && high/low >= wideLosses
}

// style is a line's: terms differ by colour and seeds by dashes; of the AUROC, seeds
// differ by both.
func (p *panel) style(c course) draw.LineStyle {
	colour := c.term
	if p.terms == nil {
		colour = c.seed
	}
	return draw.LineStyle{Color: palette[colour%len(palette)], Width: vg.Points(1.1), Dashes: dashes[c.seed%len(dashes)]}
}

// build makes the plot of a panel and its legend. A legend of terms shows the first
// seed's lines; the seeds themselves are in the legend of the first panel.
func (p *panel) build(x string, last float64, first bool) (*plot.Plot, *chart, error) {
	axes := newAxes(p.title, x, p.y)
	axes.Title.TextStyle.Font = sans(9.5)
	c := &chart{axes: axes, legend: newLegend()}
	shown := map[int]bool{} // terms of the legend
	for _, l := range p.lines {
		line, dots, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.title, err)
		}
		line.LineStyle = p.style(l)
		dots.GlyphStyle = draw.GlyphStyle{Color: line.LineStyle.Color, Radius: vg.Points(1.7), Shape: draw.CircleGlyph{}}
		axes.Add(line)
		if p.dots || len(l.points) == 1 { // one point makes no line
			axes.Add(dots)
		}
		switch {
		case p.terms == nil:
			c.legend.Add(l.label, line)
			c.labels = append(c.labels, l.label)
		case !shown[l.term]:
			shown[l.term] = true
			solid := *line
			solid.Dashes = nil
			c.legend.Add(p.terms[l.term], &solid)
			c.labels = append(c.labels, p.terms[l.term])
		}
	}
	several := slices.ContainsFunc(p.lines, func(l course) bool { return l.seed != p.lines[0].seed })
	if p.terms != nil && first && several {
		seeds := map[int]bool{}
		for _, l := range p.lines {
			if seeds[l.seed] {
				continue
			}
			seeds[l.seed] = true
			c.legend.Add(l.label, &plotter.Line{LineStyle: draw.LineStyle{Color: color.Gray{Y: 128}, Width: vg.Points(1.1), Dashes: dashes[l.seed%len(dashes)]}})
			c.labels = append(c.labels, l.label)
		}
	}
	if p.logarithmic() {
		axes.Y.Scale = plot.LogScale{}
		axes.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	}
	axes.X.Min, axes.X.Max = 0, last
	return axes, c, nil
}

// draw stacks the panels, their data areas aligned, each with its legend at the right.
func (p *learning) draw(w io.Writer, format string) error {
	const margin, head, tile = 8, 22, 5.6 * vg.Centimeter
	width := 15 * vg.Centimeter
	plots := make([][]*plot.Plot, len(p.panels))
	charts := make([]*chart, len(p.panels))
	key := vg.Length(0)
	for i, panel := range p.panels {
		axes, c, err := panel.build(p.x, p.last, i == 0)
		if err != nil {
			return err
		}
		plots[i], charts[i] = []*plot.Plot{axes}, c
		key = max(key, c.legendWidth())
	}
	height := tile * vg.Length(len(p.panels))
	return render(w, format, width+key+3*margin, height+2*margin+head, func(whole draw.Canvas) {
		inner := draw.Crop(whole, margin, -margin, margin, -margin)
		text := newLegend().TextStyle
		text.Font = sans(11)
		inner.FillText(text, vg.Point{X: inner.Min.X, Y: inner.Max.Y - 11}, p.title)
		inner = draw.Crop(inner, 0, -key-margin, 0, -head)
		tiles := draw.Tiles{Rows: len(p.panels), Cols: 1, PadY: 10}
		for i, canvas := range plot.Align(plots, tiles, inner) {
			plots[i][0].Draw(canvas[0])
			legend := draw.Crop(canvas[0], 0, 0, 0, -18)
			legend.Min.X, legend.Max.X = inner.Min.X+width+margin, whole.Max.X
			charts[i].legend.Draw(legend)
		}
	})
}
