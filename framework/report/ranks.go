package report

import (
	"cmp"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"thorax/framework/metric"
)

// ranks are the places of the rows over data sets: Friedman's test and Nemenyi's
// critical difference (Demšar, "Statistical comparisons of classifiers over multiple
// data sets", JMLR 7, 2006).
type ranks struct {
	metric string
	labels []string // best first
	mean   []float64
	sets   int
	p      float64 // of Friedman's χ²
	cd     float64
}

// studentized holds q₀.₀₅/√2 of the studentised range for 2 to 20 rows (Demšar 2006,
// table 5(a), continued to 20).
var studentized = []float64{1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164,
	3.219, 3.268, 3.313, 3.354, 3.391, 3.426, 3.458, 3.489, 3.517, 3.544}

// criticalDifference ranks the rows that every data set has, but for those of an oracle,
// by the first image metric.
func criticalDifference(sets []*set) (*ranks, error) {
	if len(sets) < 2 {
		return nil, fmt.Errorf("%w: one data set, ranks need several", errNothing)
	}
	spec, ok := firstImageMetric(sets[0])
	if !ok {
		return nil, fmt.Errorf("%w: no image metric", errNothing)
	}
	values := map[string][]float64{} // one for each set
	for _, s := range sets {
		for _, r := range s.rows {
			if v := r.values(s, spec); len(v) > 0 && !r.oracle {
				values[r.label] = append(values[r.label], metric.Summarize(v).Mean)
			}
		}
	}
	var labels []string
	for label, v := range values {
		if len(v) == len(sets) {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	if len(labels) < 2 || len(labels) > len(studentized)+1 {
		return nil, fmt.Errorf("%w: %d rows are on every data set, need 2 to %d", errNothing, len(labels), len(studentized)+1)
	}
	table := make([][]float64, len(sets))
	for i := range table {
		for _, label := range labels {
			table[i] = append(table[i], values[label][i])
		}
	}
	c := friedman(table)
	c.metric = heading(spec.Name)
	order := make([]int, len(labels))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.mean[a], c.mean[b]) })
	mean := c.mean
	c.mean = nil
	for _, i := range order {
		c.labels, c.mean = append(c.labels, labels[i]), append(c.mean, mean[i])
	}
	return c, nil
}

// friedman ranks the columns of each line, the highest first and equals in the middle.
func friedman(table [][]float64) *ranks {
	n, k := float64(len(table)), len(table[0])
	c := &ranks{sets: len(table), mean: make([]float64, k)}
	for _, line := range table {
		for i, v := range line {
			rank := 1.
			for j, w := range line {
				if w > v {
					rank++
				} else if w == v && i != j {
					rank += .5
				}
			}
			c.mean[i] += rank / n
		}
	}
	var squares float64
	for _, r := range c.mean {
		squares += r * r
	}
	f := float64(k)
	chi := 12 * n / (f * (f + 1)) * (squares - f*(f+1)*(f+1)/4)
	c.p = distuv.ChiSquared{K: f - 1}.Survival(chi)
	c.cd = studentized[k-2] * math.Sqrt(f*(f+1)/(6*n))
	return c
}

// draw paints an axis of mean ranks, best at the left, a line to each row's name, and
// bars over rows whose ranks differ by less than the critical difference.
func (c *ranks) draw(w io.Writer, format string) error {
	width, k := vg.Length(15)*vg.Centimeter, len(c.labels)
	half := (k + 1) / 2
	bars := c.cliques()
	top := vg.Length(40 + 14*len(bars))
	height := vg.Length(60) + top + vg.Length(half)*16
	return render(w, format, width+32, height, func(whole draw.Canvas) {
		text := newLegend().TextStyle
		ink := draw.LineStyle{Color: color.Black, Width: vg.Points(.9)}
		thick := draw.LineStyle{Color: palette[0], Width: vg.Points(3)}
		left, right := vg.Length(130), width-130+32
		at := func(rank float64) vg.Length {
			return left + (right-left)*vg.Length((rank-1)/float64(max(1, k-1)))
		}
		y := whole.Max.Y - 52
		title := fmt.Sprintf("mean rank by %s over %d data sets; critical difference %.2f (Nemenyi, .05); Friedman p %s", c.metric, c.sets, c.cd, pText(c.p))
		whole.FillText(text, vg.Point{X: 12, Y: whole.Max.Y - 16}, title)
		whole.StrokeLine2(ink, left, y, right, y)
		for rank := 1; rank <= k; rank++ {
			x := at(float64(rank))
			whole.StrokeLine2(ink, x, y, x, y+5)
			whole.FillText(text, vg.Point{X: x - 2.5, Y: y + 8}, fmt.Sprint(rank))
		}
		for i, b := range bars {
			line := y - vg.Length(12+14*i)
			whole.StrokeLine2(thick, at(b[0])-3, line, at(b[1])+3, line)
		}
		for i, label := range c.labels {
			x := at(c.mean[i])
			name := fmt.Sprintf("%s  %.2f", label, c.mean[i])
			if i < half {
				line := y - top + 30 - vg.Length(i)*16
				whole.StrokeLine2(ink, x, y, x, line)
				whole.StrokeLine2(ink, x, line, left-6, line)
				whole.FillText(text, vg.Point{X: left - 10 - text.Width(name), Y: line - 3}, name)
			} else {
				line := y - top + 30 - vg.Length(k-1-i)*16
				whole.StrokeLine2(ink, x, y, x, line)
				whole.StrokeLine2(ink, x, line, right+6, line)
				whole.FillText(text, vg.Point{X: right + 10, Y: line - 3}, name)
			}
		}
	})
}

// cliques are the longest stretches of ranks within the critical difference.
func (c *ranks) cliques() [][2]float64 {
	var out [][2]float64
	last := -1
	for i := range c.mean {
		j := i
		for j+1 < len(c.mean) && c.mean[j+1]-c.mean[i] < c.cd {
			j++
		}
		if j > i && j > last {
			out = append(out, [2]float64{c.mean[i], c.mean[j]})
			last = j
		}
	}
	return out
}
