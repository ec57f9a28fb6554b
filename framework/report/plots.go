package report

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot/plotter"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// A figure paints itself in some format.
type painter interface {
	draw(w io.Writer, format string) error
}

// errNothing says that the runs do not give a plot.
var errNothing = errors.New("nothing to plot")

// plotKinds are the plots of one data set, by name.
var plotKinds = map[string]func(s *set, st *study) (painter, error){
	"roc":         rocWithIntervals,
	"pr":          precisionRecall,
	"scores":      scoreHistograms,
	"calibration": calibration,
	"dots":        dotsAndIntervals,
	"sweep":       sweeps,
}

// rowKinds are the plots of one row on one data set, by name.
var rowKinds = map[string]func(s *set, r *row, o Options) (painter, error){
	"curve": func(s *set, r *row, _ Options) (painter, error) { return newLearning(s, r) },
	"cases": func(s *set, r *row, o Options) (painter, error) { return newExtremes(s, r, o) },
}

// PlotKinds lists what Plots can draw.
func PlotKinds() []string {
	return []string{"roc", "pr", "scores", "calibration", "dots", "sweep", "ranks", "curve", "cases"}
}

// Plots draws the kinds for every data set in the formats of o.Plots, and returns the
// paths of the files and why some plots were not made:
//
//	roc          ROC curves, the mean over seeds, with a 95 % band over test images
//	pr           precision–recall curves, the mean over seeds
//	scores       histograms of the test scores of normal and abnormal images
//	calibration  specificity on the test set by the one promised on validation normals
//	dots         every row's mean, interval and seeds of the first metric
//	sweep        the first metric by a varied key, a line for each method
//	ranks        critical-difference diagram of the rows over all data sets
//	curve        a file for each row: AUROC of the test images, if the run looked at
//	             them (an oracle's figure), and losses in training, a line for each seed
//	cases        a file for each row: the images with the highest and lowest scores of
//	             either class, with maps where they were kept; needs o.Images
//
// Errors: as Write, and an unknown kind.
func Plots(dir string, entries []record.Entry, kinds []string, o Options) (files, left []string, err error) {
	sets, err := collect(entries, o)
	if err != nil {
		return nil, nil, err
	}
	formats := o.Plots
	if formats == nil {
		formats = []string{"png", "svg", "pdf"}
	}
	save := func(name string, p painter) error {
		for _, format := range formats {
			var b bytes.Buffer
			if err := p.draw(&b, format); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			path := filepath.Join(dir, name+"."+format)
			err := record.WriteFile(path, func(w io.Writer) error {
				_, err := w.Write(b.Bytes())
				return err
			})
			if err != nil {
				return err
			}
			files = append(files, path)
		}
		return nil
	}
	studies := make([]*study, len(sets)) // made once, when first needed
	for _, kind := range kinds {
		if kind == "ranks" {
			p, err := criticalDifference(sets)
			if errors.Is(err, errNothing) {
				left = append(left, "ranks: "+err.Error())
				continue
			}
			if err == nil {
				err = save("ranks", p)
			}
			if err != nil {
				return files, left, err
			}
			continue
		}
		if paint, ok := rowKinds[kind]; ok {
			for _, s := range sets {
				why, drawn := error(nil), 0
				for _, r := range s.rows {
					p, err := paint(s, r, o)
					if errors.Is(err, errNothing) {
						why = err
						continue
					}
					if err == nil {
						err = save(kind+"-"+record.Slug(s.data)+"-"+record.Slug(r.label), p)
					}
					if err != nil {
						return files, left, err
					}
					drawn++
				}
				if drawn == 0 {
					left = append(left, fmt.Sprintf("%s of %s: %v", kind, s.data, why))
				}
			}
			continue
		}
		paint, ok := plotKinds[kind]
		if !ok {
			return files, left, fmt.Errorf("plot %q: need one of %s", kind, strings.Join(PlotKinds(), ", "))
		}
		for i, s := range sets {
			if studies[i] == nil {
				if studies[i], err = newStudy(s, o); err != nil {
					return files, left, err
				}
			}
			p, err := paint(s, studies[i])
			if errors.Is(err, errNothing) || errors.Is(err, errNoCurve) {
				left = append(left, fmt.Sprintf("%s of %s: %v", kind, s.data, err))
				continue
			}
			if err == nil {
				name := kind + "-" + record.Slug(s.data)
				if kind == "roc" {
					name = "roc-interval-" + record.Slug(s.data) // beside the one with bands over seeds
				}
				err = save(name, p)
			}
			if err != nil {
				return files, left, err
			}
		}
	}
	return files, left, nil
}

// grid is the number of steps of averaged curves.
const grid = 128

// rocWithIntervals draws ROC curves with percentile bands over test images: on each
// resample the true-positive rates are averaged over seeds at every false-positive rate.
func rocWithIntervals(s *set, st *study) (painter, error) {
	p, err := newROC(s)
	if err != nil {
		return nil, err
	}
	p.title += ", bands: 95 % over test images"
	i := 0
	for _, r := range s.rows {
		if len(st.runs[r]) == 0 || r.otherImages != "" || i == len(p.curves) {
			continue
		}
		low, top, mean, err := st.band(r)
		if err != nil {
			return nil, err
		}
		c := &p.curves[i]
		c.low, c.top, c.mean = low, top, mean
		i++
	}
	return p, nil
}

// band is the 95 % band of a row's ROC curve over resamples of the test images, and
// the curve itself, vertical averages over seeds.
func (st *study) band(r *row) (low, top, mean plotter.XYs, err error) {
	type seed struct {
		order  []int
		scores []float64
	}
	var seeds []seed
	var groups []string
	for _, run := range r.complete() {
		test := run.sorted()
		if test == nil {
			continue
		}
		x := seed{}
		for i, t := range test {
			x.scores, x.order = append(x.scores, t.Score), append(x.order, i)
			if len(groups) < len(test) {
				groups = append(groups, t.Group)
			}
		}
		slices.SortStableFunc(x.order, func(a, b int) int { return cmp.Compare(x.scores[b], x.scores[a]) })
		seeds = append(seeds, x)
	}
	if !st.grouped {
		groups = nil
	}
	curve := func(times []int) []float64 {
		sum := make([]float64, grid+1)
		for _, x := range seeds {
			addTPR(sum, x.order, x.scores, st.abnormal, times, 1/float64(len(seeds)))
		}
		return sum
	}
	draws := make([][]float64, grid+1)
	b := metric.Bootstrap{Resamples: min(st.resamples, 1000), Seed: st.seed, Groups: groups}
	err = b.Draw(st.abnormal, func(times []int) {
		for k, v := range curve(times) {
			draws[k] = append(draws[k], v)
		}
	})
	if err != nil {
		return nil, nil, nil, err
	}
	ones := make([]int, len(st.abnormal))
	for i := range ones {
		ones[i] = 1
	}
	for k, v := range curve(ones) {
		x := float64(k) / grid
		slices.Sort(draws[k])
		n := len(draws[k])
		mean = append(mean, plotter.XY{X: x, Y: v})
		low = append(low, plotter.XY{X: x, Y: draws[k][int(.025*float64(n-1))]})
		top = append(top, plotter.XY{X: x, Y: draws[k][int(.975*float64(n-1)+.5)]})
	}
	return low, top, mean, nil
}

// addTPR adds weight times the true-positive rate at each false-positive rate of the
// grid, on straight lines between distinct scores; each image counts as often as it
// was drawn.
func addTPR(sum []float64, order []int, scores []float64, abnormal []bool, times []int, weight float64) {
	var n0, n1 float64
	for i, a := range abnormal {
		if a {
			n1 += float64(times[i])
		} else {
			n0 += float64(times[i])
		}
	}
	var fp, tp, lastFP, lastTP float64
	k := 0
	for j, i := range order {
		if abnormal[i] {
			tp += float64(times[i])
		} else {
			fp += float64(times[i])
		}
		if j+1 < len(order) && scores[order[j+1]] == scores[i] {
			continue
		}
		for ; k <= grid && float64(k)/grid*n0 < fp; k++ {
			share := (float64(k)/grid*n0 - lastFP) / (fp - lastFP)
			sum[k] += weight * (lastTP + share*(tp-lastTP)) / n1
		}
		lastFP, lastTP = fp, tp
	}
	for ; k <= grid; k++ {
		sum[k] += weight
	}
}

// precisionRecall draws, at each recall, the mean over seeds of the precision of the
// highest threshold that reaches it.
func precisionRecall(s *set, _ *study) (painter, error) {
	prevalence := float64(s.abnormal) / float64(max(1, s.normal+s.abnormal))
	p := newCurves(s)
	p.x, p.y, p.head = "recall (sensitivity)", "precision", "AP, mean ± sd over seeds"
	p.reference = plotter.XYs{{X: 0, Y: prevalence}, {X: 1, Y: prevalence}}
	p.referenceLabel = fmt.Sprintf("prevalence  %.3f", prevalence)
	err := p.add(s, func(run *run) (points plotter.XYs, value float64, err error) {
		scores, abnormal := run.test()
		if value, err = metric.AveragePrecision(scores, abnormal); err != nil {
			return nil, 0, err
		}
		pr, err := metric.PR(scores, abnormal)
		if err != nil {
			return nil, 0, err
		}
		at := 1
		for k := range grid + 1 {
			recall := float64(k) / grid
			for at+1 < len(pr) && pr[at].Recall < recall {
				at++
			}
			points = append(points, plotter.XY{X: recall, Y: pr[at].Precision})
		}
		return points, value, nil
	})
	return p, err
}

// calibration draws the specificity on normal test images against the one that the
// threshold has on validation normals: below the line, false alarms are more frequent
// than promised.
func calibration(s *set, _ *study) (painter, error) {
	p := newCurves(s)
	p.title += ", calibration"
	p.x, p.y, p.head = "nominal specificity, on validation normals", "realised specificity, on test normals", "realised at nominal 0.95"
	p.referenceLabel = "as promised"
	if s.validation == 0 {
		return nil, fmt.Errorf("%w: no run scored validation normals; hold some out, validation = 0.1", errNothing)
	}
	err := p.add(s, func(run *run) (points plotter.XYs, value float64, err error) {
		in := run.input()
		var normals []float64
		for i, v := range in.Validation {
			if in.ValidationAbnormal == nil || !in.ValidationAbnormal[i] {
				normals = append(normals, v)
			}
		}
		if len(normals) == 0 {
			return nil, 0, metric.ErrOneClass
		}
		for k := range grid + 1 {
			nominal := float64(k) / grid
			realised := 0.
			if nominal > 0 {
				if realised, err = specificity(in, normals, 1-nominal); err != nil {
					return nil, 0, err
				}
			}
			points = append(points, plotter.XY{X: nominal, Y: realised})
		}
		value, err = specificity(in, normals, .05)
		return points, value, err
	})
	return p, err
}

// specificity is that on test normals of the threshold above all but a share of the
// validation normals.
func specificity(in metric.Input, normals []float64, share float64) (float64, error) {
	t, err := metric.Quantile(normals, share)
	if err != nil {
		return 0, err
	}
	var below, n float64
	for i, s := range in.Scores {
		if in.Abnormal[i] {
			continue
		}
		n++
		if s < t {
			below++
		}
	}
	if n == 0 {
		return 0, metric.ErrOneClass
	}
	return below / n, nil
}

// add averages a curve on the grid over the seeds of each row. A seed that has none,
// ErrOneClass, is left out; if all are, the error is errNoCurve.
func (p *curves) add(s *set, of func(*run) (plotter.XYs, float64, error)) error {
	for _, r := range s.rows {
		if r.otherImages != "" {
			continue
		}
		var all []plotter.XYs
		var values []float64
		for _, run := range r.complete() {
			points, value, err := of(run)
			if errors.Is(err, metric.ErrOneClass) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", run.Path("scores.csv"), err)
			}
			all, values = append(all, points), append(values, value)
		}
		if all == nil {
			continue
		}
		mean, sd := summarize(values)
		c := curve{label: r.name() + "  " + column{format: threeDigits}.text(cell{mean: mean, sd: sd, n: len(values)}), trivial: r.trivial()}
		for k := range all[0] {
			var at []float64
			for _, points := range all {
				at = append(at, points[k].Y)
			}
			m, d := summarize(at)
			x := all[0][k].X
			c.mean = append(c.mean, plotter.XY{X: x, Y: m})
			if len(all) > 1 {
				c.low = append(c.low, plotter.XY{X: x, Y: max(0, m-d)})
				c.top = append(c.top, plotter.XY{X: x, Y: min(1, m+d)})
			}
		}
		p.curves = append(p.curves, c)
	}
	if p.curves == nil {
		return errNoCurve
	}
	return nil
}
