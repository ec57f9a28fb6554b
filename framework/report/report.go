// Package report makes tables, ROC plots and an HTML page from run folders, and
// from nothing else: no TensorFlow, no data set, no experiment file.
//
// A row is a label of the experiment, a column a metric. A cell is the mean over
// the seeds that are complete, ± the sample standard deviation (n−1) from two
// seeds on. What was not computed is printed as –, with its reason.
package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"thorax/framework/metric"
	"thorax/framework/published"
	"thorax/framework/record"
)

// Options says what a report shows.
type Options struct {
	Title   string   // of the page; "" takes it from the runs
	Metrics []string // columns, by [metric.Parse]; nil: those the runs recorded
	Costs   bool     // adds parameters, time and memory
	Bold    bool     // Terminal: the best in bold as well as starred

	Intervals bool              // a column beside each image metric: its 95 % interval over test images
	Tests     bool              // marks by tests between rows, and the matrix of tests
	Types     bool              // a table of each type of abnormal images against the normal ones
	Twins     bool              // each thresholded metric honest and oracle, and the gap
	Published []*published.File // a column beside each metric: the printed value, gap and verdict
	Resamples int               // of the test images; 0: 2,000
	Seed      uint64            // of the resampling; 0: 1
	Findings  []Finding         // what readers must know of the figures, by code

	Plots []string // "png", "svg", "pdf"; nil: png and svg

	// Images are for the case sheets, by name of the data set; where there are
	// none, the page says that the sheet is left out.
	Images   map[string]Images
	NoImages map[string]error // why there are none, by name of the data set
}

// A Finding is a pitfall that the figures have, and what the authors say to it.
type Finding struct {
	Code, Text, Remedy string
	Annotation         string // "" where nothing was said
}

// Images gives the pictures of a case sheet.
type Images interface {
	// Pixels returns the grey image at a path of scores.csv, row-major, w·h long,
	// in the frame that the anomaly maps cover; false where there is none.
	Pixels(path string) (w, h int, v []uint8, ok bool)
}

// Terminal prints a table for each data set.
func Terminal(w io.Writer, entries []record.Entry, o Options) error {
	sets, err := collect(entries, o)
	if err != nil {
		return err
	}
	for i, s := range sets {
		if i > 0 {
			fmt.Fprintln(w)
		}
		var st *study
		if o.Intervals || o.Tests {
			if st, err = newStudy(s, o); err != nil {
				return err
			}
		}
		if err := newTable(s, st, o).terminal(w, o.Bold); err != nil {
			return err
		}
		if o.Tests {
			if err := terminalMatrix(w, s, st); err != nil {
				return err
			}
		}
		if t := s.typeTable(st, o); t != nil {
			fmt.Fprintln(w)
			if err := t.terminal(w, o.Bold); err != nil {
				return err
			}
		}
	}
	return nil
}

// Write writes table.md, table.csv, table.tex, significance.csv, roc-DATA in the
// formats of o.Plots and report.html into dir, and returns their paths. Tests are
// made for all of them; the page also has intervals and twins. A data set without a
// complete run has its row in the table but no ROC. Errors: no runs, an unknown
// metric, two folders of one label and seed, a damaged scores.csv.
func Write(dir string, entries []record.Entry, o Options) (files []string, err error) {
	sets, err := collect(entries, o)
	if err != nil {
		return nil, err
	}
	write := func(name string, content []byte) error {
		path := filepath.Join(dir, name)
		err := record.WriteFile(path, func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
		if err == nil {
			files = append(files, path)
		}
		return err
	}

	var tables, full, types []*table
	var studies []*study
	o.Tests = true
	everything := o
	everything.Intervals, everything.Twins = true, true
	for _, s := range sets {
		st, err := newStudy(s, o)
		if err != nil {
			return nil, err
		}
		studies = append(studies, st)
		tables, full = append(tables, newTable(s, st, o)), append(full, newTable(s, st, everything))
		byType := s.typeTable(st, o)
		if types = append(types, byType); byType != nil {
			tables = append(tables, byType)
		}
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"table.md", markdown(tables, o.Findings)},
		{"table.csv", csvTable(tables)},
		{"table.tex", latex(tables)},
		{"significance.csv", significance(sets, studies)},
	} {
		if err := write(f.name, f.content); err != nil {
			return files, err
		}
	}
	formats := o.Plots
	if formats == nil {
		formats = []string{"png", "svg"}
	}
	for _, s := range sets {
		plot, err := newROC(s)
		if errors.Is(err, errNoCurve) {
			continue
		}
		if err != nil {
			return files, err
		}
		for _, format := range formats {
			var b bytes.Buffer
			if err := plot.draw(&b, format); err != nil {
				return files, fmt.Errorf("roc of %s: %w", s.data, err)
			}
			if err := write("roc-"+record.Slug(s.data)+"."+format, b.Bytes()); err != nil {
				return files, err
			}
		}
	}
	page, err := newPage(sets, studies, full, types, o)
	if err != nil {
		return files, err
	}
	return files, write("report.html", page)
}

// recordedMetrics returns the metric names that the runs recorded, in their order; AUROC and
// AP where none did.
func recordedMetrics(sets []*set) []string {
	var names []string
	for _, s := range sets {
		for _, r := range s.rows {
			for _, run := range r.runs {
				for _, f := range run.stored {
					if !slices.Contains(names, f.Name) {
						names = append(names, f.Name)
					}
				}
			}
		}
	}
	if names == nil {
		return []string{"auroc", "ap"}
	}
	return names
}

func parseMetrics(names []string) ([]metric.Spec, error) {
	var specs []metric.Spec
	for _, name := range names {
		spec, err := metric.Parse(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(specs, spec) {
			specs = append(specs, spec)
		}
	}
	return specs, nil
}
