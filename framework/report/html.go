package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"thorax/framework/record"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// A page is what page.html shows.
type page struct {
	Title    string
	Ramp     template.CSS
	Findings []Finding
	Sets     []pageSet
}

type pageSet struct {
	Name, Anchor string
	Table        pageTable
	Types        *pageTable // by type of abnormal images
	TypesTitle   string
	Matrix       *pageMatrix
	ROC          template.HTML // "" where no curve could be drawn
	PR, Dots     template.HTML // the same
	Histograms   []pageHistogram
	Curves       []template.HTML // of training, one for each row that has a log
	Sheet        *sheet
	Runs         []pageRun
	Data         []string // fingerprints and split rules
	Definitions  []pageHead
}

type (
	pageTable struct {
		Head       []pageHead
		Rows       []pageRow
		Floor      []string
		FloorLabel string
		Caption    string
		Best       string // explains the marks of the best
		Notes      []pageNote
	}
	pageHead struct {
		Text, ID, Class string
		Oracle, Figure  bool
	}
	pageRow struct {
		Label, Family, Seeds, Marks string
		First                       bool // of the trivial rows
		Oracle                      bool // marked †
		Cells                       []pageCell
	}
	pageCell struct {
		Text, Marks, Full, Class string
		Sort                     string // number to sort by; "" where there is none
		Best                     bool
	}
	pageMatrix struct {
		Note string
		Head []string
		Rows []pageMatrixRow
	}
	pageMatrixRow struct {
		Label string
		Cells []pageCell
	}
	pageNote      struct{ Mark, Text string }
	pageHistogram struct {
		Label, Rule string
		Seed        int64
		SVG         template.HTML
	}
	pageRun struct {
		Label, State, Started, Trained, Device, Versions string
		Run                                              record.Run
		ShortHash, ShortRevision                         string
	}
)

// newPage writes one HTML page that needs nothing else: styles, plots, pictures
// and the few lines that sort a table are inside.
func newPage(sets []*set, studies []*study, tables, types []*table, o Options) ([]byte, error) {
	p := page{Title: o.Title, Ramp: rampCSS(), Findings: o.Findings}
	for i, s := range sets {
		if p.Title == "" && len(s.rows[0].runs) > 0 {
			p.Title = s.rows[0].runs[0].Run.Title
		}
		ps, err := newPageSet(s, studies[i], tables[i], types[i], o)
		if err != nil {
			return nil, err
		}
		p.Sets = append(p.Sets, ps)
	}
	if p.Title == "" {
		p.Title = tables[0].experiment
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("report.html: %w", err)
	}
	return b.Bytes(), nil
}

// page lays the table out.
func (t *table) page() pageTable {
	p := pageTable{FloorLabel: floorLabel, Caption: strings.Join(t.caption, ". ") + ".", Best: t.bestNote("Bold", "≈") + t.starNote() + "."}
	for j, c := range t.columns {
		p.Head = append(p.Head, pageHead{Text: c.head, ID: c.id, Class: c.class(), Oracle: c.oracle, Figure: c.kind == figures})
		p.Floor = append(p.Floor, c.text(t.floor[j]))
	}
	for i, r := range t.rows {
		row := pageRow{Label: r.label, Family: r.family, Seeds: r.seedText(), Marks: r.marks, Oracle: r.oracle, First: r.trivial && i > 0 && !t.rows[i-1].trivial}
		for j, c := range t.columns {
			x := r.cells[j]
			cell := pageCell{Text: c.text(x), Marks: join(",", x.standing.mark(), x.marks), Best: x.best, Class: c.class(), Full: x.full(c)}
			if x.n > 0 {
				value := x.mean
				if c.kind == interval {
					value = x.low
				}
				cell.Sort = strconv.FormatFloat(value, 'g', -1, 64)
			}
			row.Cells = append(row.Cells, cell)
		}
		p.Rows = append(p.Rows, row)
	}
	if t.oracle {
		p.Notes = append(p.Notes, pageNote{"†", t.oracleText()})
	}
	for i, note := range t.notes {
		p.Notes = append(p.Notes, pageNote{letter(i), note})
	}
	return p
}

// newPageSet lays out one data set; byType may be nil.
func newPageSet(s *set, st *study, t, byType *table, o Options) (pageSet, error) {
	ps := pageSet{Name: s.data, Anchor: record.Slug(s.data), Table: t.page()}
	for _, head := range ps.Table.Head {
		if head.Figure {
			ps.Definitions = append(ps.Definitions, head)
		}
	}
	if byType != nil {
		p := byType.page()
		ps.Types, ps.TypesTitle = &p, byType.part
	}
	if m, ok := st.newMatrix(s); ok {
		ps.Matrix = m.page()
	}
	var err error
	for _, plot := range []struct {
		to   *template.HTML
		make func(*set, *study) (painter, error)
	}{
		{&ps.ROC, func(s *set, _ *study) (painter, error) { return newROC(s) }},
		{&ps.PR, precisionRecall},
		{&ps.Dots, dotsAndIntervals},
	} {
		if *plot.to, err = inline(plot.make(s, st)); err != nil {
			return ps, fmt.Errorf("plot of %s: %w", s.data, err)
		}
	}
	for _, r := range s.rows {
		for _, run := range r.runs {
			ps.Runs = append(ps.Runs, newPageRun(r, run))
			if run.state == record.State(record.Complete) {
				ps.addData(run.Run)
			}
		}
		p, err := newLearning(s, r)
		curve, err := inline(p, err)
		if err != nil {
			return ps, fmt.Errorf("learning curve of %s: %w", r.label, err)
		}
		if curve != "" {
			ps.Curves = append(ps.Curves, curve)
		}
		if runs := r.complete(); len(runs) > 0 {
			if h, ok := newHistogram(runs[0]); ok {
				ps.Histograms = append(ps.Histograms, pageHistogram{Label: r.name(), Rule: h.rule, Seed: runs[0].Run.Seed, SVG: h.svg()})
			}
		}
	}
	ps.Sheet, err = newSheet(s, o.Images[s.data], o.NoImages[s.data])
	return ps, err
}

// class is the style of a column.
func (col column) class() string {
	var words []string
	if col.oracle {
		words = append(words, "oracle")
	}
	if col.kind == interval {
		words = append(words, "interval")
	}
	return strings.Join(words, " ")
}

// full is what hovering over a cell tells.
func (x cell) full(c column) string {
	switch {
	case x.n == 0 || c.kind == interval || c.kind == paper:
		return ""
	case x.ranged:
		return fmt.Sprintf("%.6g, %d seeds; 95 %% interval over test images %.6g to %.6g", x.mean, x.n, x.low, x.top)
	}
	return fmt.Sprintf("%.6g, %d seeds", x.mean, x.n)
}

func (m *matrix) page() *pageMatrix {
	out := &pageMatrix{Note: m.note() + ".", Head: m.labels}
	for i, label := range m.labels {
		row := pageMatrixRow{Label: label}
		for j, x := range m.cells[i] {
			if i == j {
				row.Cells = append(row.Cells, pageCell{})
				continue
			}
			_, p := x.shown()
			row.Cells = append(row.Cells, pageCell{Text: x.text(), Full: x.full(), Best: p < alpha})
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// inline is a plot's SVG without its XML declaration; "" where there is nothing to plot.
func inline(p painter, err error) (template.HTML, error) {
	if errors.Is(err, errNoCurve) || errors.Is(err, errNothing) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := p.draw(&b, "svg"); err != nil {
		return "", err
	}
	i := bytes.Index(b.Bytes(), []byte("<svg"))
	return template.HTML(b.Bytes()[max(0, i):]), nil // the plotter escapes labels
}

func newPageRun(r *row, run *run) pageRun {
	out := pageRun{Label: r.label, State: string(run.state), Run: run.Run,
		ShortHash: short(run.Run.Hash), ShortRevision: short(run.Run.Revision)}
	if !run.Run.Started.IsZero() {
		out.Started = run.Run.Started.UTC().Format(time.DateTime)
	}
	if run.Run.TrainSeconds > 0 {
		out.Trained = duration(run.Run.TrainSeconds)
	}
	out.Device = join(" · ", run.Run.Device, run.Run.CPU, run.Run.Precision)
	if run.Run.Threads > 0 {
		out.Device = join(" · ", out.Device, fmt.Sprintf("%d threads", run.Run.Threads))
	}
	if run.Run.TensorFlow != "" {
		out.Versions = "TensorFlow " + run.Run.TensorFlow
	}
	out.Versions = join(" · ", out.Versions, run.Run.Go)
	return out
}

func (ps *pageSet) addData(r record.Run) {
	for _, line := range []string{
		fmt.Sprintf("%d files, SHA-256 %s", r.Fingerprint.Files, r.Fingerprint.SHA256),
		"split: " + r.SplitRule,
	} {
		if line != "split: " && r.Fingerprint.SHA256 != "" && !slices.Contains(ps.Data, line) {
			ps.Data = append(ps.Data, line)
		}
	}
}

func join(separator string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), separator)
}

func short(hash string) string { return hash[:min(12, len(hash))] }

// rampCSS is the bar of the map's colours.
func rampCSS() template.CSS {
	var stops []string
	for _, c := range rampColors {
		stops = append(stops, fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B))
	}
	return template.CSS("linear-gradient(90deg, " + strings.Join(stops, ", ") + ")")
}
