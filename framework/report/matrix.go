package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"

	"thorax/framework/metric"
)

// A matrix holds the tests of all pairs of rows by one metric.
type matrix struct {
	spec   metric.Spec
	oracle bool // rows of an oracle are left out
	labels []string
	cells  [][]pair // [row][column], the difference is row − column; the diagonal is empty
}

// newMatrix compares all rows by the first image metric, AUROC where it is one of
// the columns; false with fewer than two rows.
func (st *study) newMatrix(s *set) (*matrix, bool) {
	if len(st.specs) == 0 {
		return nil, false
	}
	m := &matrix{spec: st.specs[0]}
	for _, spec := range st.specs {
		if spec.ID() == aurocID {
			m.spec = spec
		}
	}
	place := map[*row]int{}
	pairs := st.pairs(s, m.spec)
	for _, r := range s.rows {
		m.oracle = m.oracle || r.oracle
		for _, x := range pairs {
			if x.a == r || x.b == r {
				place[r] = len(m.labels)
				m.labels = append(m.labels, r.label)
				break
			}
		}
	}
	m.cells = make([][]pair, len(m.labels))
	for i := range m.cells {
		m.cells[i] = make([]pair, len(m.labels))
	}
	for _, x := range pairs {
		m.cells[place[x.a]][place[x.b]] = x
		m.cells[place[x.b]][place[x.a]] = x.turned()
	}
	return m, len(pairs) > 0
}

// turned is the comparison the other way round.
func (x pair) turned() pair {
	x.a, x.b = x.b, x.a
	x.averaged = -x.averaged
	d := &x.difference
	d.Value, d.Low, d.High = -d.Value, -d.High, -d.Low
	return x
}

// shown is what the matrix shows: difference and adjusted p of DeLong's test for
// AUROC, otherwise of the paired bootstrap.
func (x pair) shown() (difference, p float64) {
	if x.spec.ID() == aurocID {
		return x.averaged, x.delong.holm
	}
	return x.difference.Value, x.bootstrap.holm
}

// text is the difference with the mark of its p.
func (x pair) text() string {
	difference, p := x.shown()
	mark := ""
	switch {
	case math.IsNaN(p):
		return "not tested"
	case p < .001:
		mark = "***"
	case p < .01:
		mark = "**"
	case p < alpha:
		mark = "*"
	}
	return signedDigits(difference) + mark
}

// full spells the three tests out.
func (x pair) full() string {
	return fmt.Sprintf("%s − %s, means over seeds: %s [%.3f, %.3f], p after Holm: bootstrap %s, Welch %s; DeLong of seed-averaged scores: %s, p %s", x.a.label, x.b.label,
		signedDigits(x.difference.Value), x.difference.Low, x.difference.High, pText(x.bootstrap.holm), pText(x.welch.holm), signedDigits(x.averaged), pText(x.delong.holm))
}

func pText(p float64) string {
	switch {
	case math.IsNaN(p):
		return "not made"
	case p < .001:
		return "< .001"
	}
	return strconv.FormatFloat(p, 'f', 3, 64)
}

// note explains the matrix.
func (m *matrix) note() string {
	what, test := "means over seeds", "paired bootstrap"
	if m.spec.ID() == aurocID {
		what, test = "seed-averaged scores", "DeLong's paired test, which compares these trained models and not their seeds"
	}
	return fmt.Sprintf("%s (%s) of the row minus that of the column. *, **, ***: p < .05, .01, .001 by %s, Holm's correction over all pairs%s", heading(m.spec.Name), what, test, mark(m.oracle, "; rows of an oracle (†) are left out"))
}

// terminalMatrix prints the matrix below a table.
func terminalMatrix(w io.Writer, s *set, st *study) error {
	m, ok := st.newMatrix(s)
	if !ok {
		_, err := fmt.Fprintf(w, "No tests: fewer than two rows%s have scores of the same test images.\n", mark(m != nil && m.oracle, ", without those of an oracle (†),"))
		return err
	}
	out := tablewriter.NewTable(w, tablewriter.WithHeaderAutoFormat(tw.Off), tablewriter.WithRowAutoWrap(tw.WrapNone), tablewriter.WithHeaderAutoWrap(tw.WrapNone))
	out.Header(append([]string{"row − column"}, m.labels...))
	for i, label := range m.labels {
		line := []string{label}
		for j, x := range m.cells[i] {
			if i == j {
				line = append(line, "")
			} else {
				line = append(line, x.text())
			}
		}
		if err := out.Append(line); err != nil {
			return err
		}
	}
	if err := out.Render(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, m.note()+".")
	return err
}

// significance writes every test between two rows of a set: one line for each pair
// and image or pixel metric, in full precision. A test that was not made is empty.
func significance(sets []*set, studies []*study) []byte {
	var b bytes.Buffer
	out := csv.NewWriter(&b) // a bytes.Buffer does not fail
	out.Write([]string{"data", "metric", "id", "a", "b", "difference", "low", "high",
		"p_bootstrap", "p_bootstrap_holm", "delong_difference", "p_delong", "p_delong_holm", "p_welch", "p_welch_holm", "resamples", "seed"})
	number := func(v float64) string {
		if math.IsNaN(v) {
			return ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	for i, s := range sets {
		st := studies[i]
		for _, spec := range s.all {
			for _, x := range st.pairs(s, spec) {
				d, delong := x.difference, ""
				if !math.IsNaN(x.delong.value) {
					delong = number(x.averaged)
				}
				out.Write([]string{s.data, spec.Name, spec.ID(), x.a.label, x.b.label, number(d.Value), number(d.Low), number(d.High),
					number(x.bootstrap.value), number(x.bootstrap.holm), delong, number(x.delong.value), number(x.delong.holm),
					number(x.welch.value), number(x.welch.holm), strconv.Itoa(st.resamples), strconv.FormatUint(st.seed, 10)})
			}
		}
	}
	out.Flush()
	return b.Bytes()
}
