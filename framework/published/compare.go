package published

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/metric"
)

// Margin is the margin of equivalence: 2 points.
const Margin = .02

// alpha is the level of the verdict's tests.
const alpha = .05

// Row is one row of our table, as far as a published figure can be matched to it.
type Row struct {
	Data     []string // names of the data set: of the block, of its layout
	Method   string
	Label    string
	Keys     map[string]string // of the method's configuration, as text
	Protocol Protocol          // Threshold is left out: each metric has its own
}

// A Field is one in which two protocols are unlike.
type Field struct{ Name, Ours, Theirs string }

func (f Field) String() string {
	return fmt.Sprintf("%s: ours %s, theirs %s", f.Name, f.Ours, f.Theirs)
}

// Verdict says whether a figure was reproduced.
type Verdict string

const (
	// Met means that two one-sided tests put the difference within [Margin].
	Met Verdict = "met"
	// Short means that they do not; the reason says how.
	Short Verdict = "short"
	// NotComparable means that the protocols differ.
	NotComparable Verdict = "not comparable"
)

// Comparison is a published value beside ours.
type Comparison struct {
	Figure *Figure
	Source string
	Value  Value
	Unlike []Field // not empty: the values are not subtracted
	Gap    float64 // ours − theirs, as a share; 0 where not comparable
	GapSD  float64 // Gap in combined sd, √(ours² + theirs²); NaN where either has none
	P      float64 // the larger of the two one-sided p; NaN where not tested
	Verdict
	Reason string // of a verdict other than Met
}

// Compare finds the published figure of a row and a metric and compares ours, the
// mean and sd over seeds, with it. Of several figures that of the row's variant
// counts, then the one with the fewest unlike fields, then the first. ok is false
// where the source has none.
func (f *File) Compare(row Row, spec metric.Spec, ours metric.Summary) (c Comparison, ok bool) {
	for i := range f.Figures {
		g := &f.Figures[i]
		value, found := f.value(g, row, spec)
		if !found {
			continue
		}
		unlike := f.unlike(g, row, spec)
		ablation, before := g.Variant != "", ok && c.Figure.Variant != ""
		if !ok || ablation && !before || ablation == before && len(unlike) < len(c.Unlike) {
			c, ok = Comparison{Figure: g, Source: f.Source, Value: value, Unlike: unlike}, true
		}
	}
	if !ok {
		return c, false
	}
	c.GapSD, c.P = math.NaN(), math.NaN()
	if len(c.Unlike) > 0 {
		var fields []string
		for _, u := range c.Unlike {
			fields = append(fields, u.String())
		}
		c.Verdict, c.Reason = NotComparable, strings.Join(fields, "; ")
		return c, true
	}
	c.Gap = ours.Mean - c.Value.Mean
	if sd := math.Hypot(ours.SD, c.Value.SD); c.Value.HasSD && ours.N > 1 && sd > 0 {
		c.GapSD = c.Gap / sd
	}
	c.judge(ours, f.Protocol)
	return c, true
}

// judge is the verdict of comparable values.
func (c *Comparison) judge(ours metric.Summary, p Protocol) {
	c.Verdict = Short
	theirs := metric.Summary{Mean: c.Value.Mean, N: 1}
	if n, err := strconv.Atoi(p.Repeats); err == nil && n > 1 && c.Value.HasSD {
		theirs.SD, theirs.N = c.Value.SD, n
	}
	e, err := metric.TOST(ours, theirs, Margin)
	switch {
	case err != nil:
		c.Reason = fmt.Sprintf("%d seed, the test needs two", ours.N)
		return
	case e.P < alpha:
		c.P, c.Verdict = e.P, Met
		return
	}
	c.P = e.P
	switch {
	case math.Abs(c.Gap) < Margin:
		c.Reason = fmt.Sprintf("within %g points, but the repeats are too few or too wide to show it (p %.3f)", 100*Margin, e.P)
	case c.Gap < 0:
		c.Reason = fmt.Sprintf("below the published value by %g points or more", 100*Margin)
	default:
		c.Reason = fmt.Sprintf("above the published value by %g points or more", 100*Margin)
	}
}

// value is the figure's value of a metric where figure and row are of one data set
// and one method, as the metric was printed: f1 stands for F1 under whatever rule.
func (f *File) value(g *Figure, row Row, spec metric.Spec) (Value, bool) {
	if g.Method != row.Method || !slices.Contains(row.Data, g.Data) || !g.isVariant(row.Label) {
		return Value{}, false
	}
	if v, ok := g.Values[spec.Name]; ok {
		return v, true
	}
	base, _ := word(spec)
	v, ok := g.Values[base]
	return v, ok
}

// isVariant matches an ablation to a row that names it.
func (g *Figure) isVariant(label string) bool {
	plain := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
	}
	return g.Variant == "" || strings.Contains(plain(label), plain(g.Variant)) || plain(label) == plain(g.Label)
}

// unlike lists the fields in which a figure's protocol is not the row's.
func (f *File) unlike(g *Figure, row Row, spec metric.Spec) []Field {
	var out []Field
	check := func(name, ours, theirs string, equal bool) {
		if ours == "" {
			ours = Unknown
		}
		if ours == Unknown || theirs == Unknown || !equal {
			out = append(out, Field{name, ours, theirs})
		}
	}
	ours, theirs := row.Protocol, f.Protocol
	check("size", ours.Size, theirs.Size, ours.Size == theirs.Size)
	check("repeats", ours.Repeats, theirs.Repeats, ours.Repeats == theirs.Repeats)
	check("selection", ours.Selection, theirs.Selection, ours.Selection == theirs.Selection)
	if _, rule := word(spec); rule != "" {
		check("threshold", rule, theirs.Threshold, rule == theirs.Threshold)
	}
	check("split", ours.Split, theirs.Split, meet(ours.Split, theirs.Split))
	for _, key := range slices.Sorted(maps.Keys(g.Keys)) {
		check(key, row.Keys[key], g.Keys[key], row.Keys[key] == g.Keys[key])
	}
	return out
}

// meet reports whether two lists of alternatives share one. What follows a count
// ("3851/1000/1000 RSNA") is the name of the set and is left out.
func meet(a, b string) bool {
	for x := range strings.SplitSeq(a, ", ") {
		for y := range strings.SplitSeq(b, ", ") {
			if counts(x) == counts(y) && x != "" {
				return true
			}
		}
	}
	return false
}

func counts(s string) string {
	if first, _, _ := strings.Cut(s, " "); strings.Contains(first, "/") {
		return first
	}
	return s
}

// Text writes a comparison as a table's cell: "87.6 ± 1.5, −3.1 (−1.6 sd), short",
// or the reason why nothing is subtracted.
func (c Comparison) Text() string {
	printed := fmt.Sprintf("%.1f", 100*c.Value.Mean)
	if c.Value.HasSD {
		printed += fmt.Sprintf(" ± %.1f", 100*c.Value.SD)
	}
	printed += c.Figure.Mark
	if c.Verdict == NotComparable {
		return printed + ", " + string(c.Verdict)
	}
	gap := signed(100 * c.Gap)
	if !math.IsNaN(c.GapSD) {
		gap += " (" + signed(c.GapSD) + " sd)"
	}
	return printed + ", " + gap + ", " + string(c.Verdict)
}

// signed writes +3.1 or −3.1.
func signed(v float64) string {
	if v < 0 {
		return fmt.Sprintf("−%.1f", -v)
	}
	return fmt.Sprintf("+%.1f", v)
}

// Compare looks a row up in several files: the first comparable figure, or else
// the first figure.
func Compare(files []*File, row Row, spec metric.Spec, ours metric.Summary) (best Comparison, ok bool) {
	for _, f := range files {
		c, found := f.Compare(row, spec, ours)
		if found && (!ok || best.Verdict == NotComparable && c.Verdict != NotComparable) {
			best, ok = c, true
		}
	}
	return best, ok
}
