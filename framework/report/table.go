package report

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/metric"
	"thorax/framework/published"
	"thorax/framework/record"
)

// A table is one data set's table before it is written in some format.
type table struct {
	experiment, data string
	part             string   // what of the data set it shows; "" for all
	caption          []string // sentences
	columns          []column
	rows             []tableRow // methods, then trivial rows
	floor            []cell     // of calling every image abnormal
	notes            []string   // footnotes a, b, …
	oracle           bool       // some column or row is marked †
	tested           bool       // cells are marked by tests, not by their means
}

type column struct {
	head   string // for people
	name   string // for machines
	id     string // definition id
	oracle bool
	format func(v float64) string
	kind   kind
	spec   metric.Spec // of all but costs
	twin   twin        // of a gap
}

// A kind is what a column shows.
type kind int

const (
	figures  kind = iota // mean ± sd over seeds
	interval             // over test images
	gap                  // oracle − honest
	paper                // published values
	cost
)

type tableRow struct {
	label, method, family string
	trivial               bool
	oracle                bool // marked †
	done, seeds           int
	marks                 string // footnotes, as "a,c"
	cells                 []cell
}

// A cell is a mean over n seeds; n 0 means not computed.
type cell struct {
	mean, sd float64 // sd is the sample standard deviation, for n ≥ 2
	n        int
	low, top float64 // ends of the interval over test images, where ranged
	ranged   bool
	best     bool
	standing standing // by tests, where the table is tested
	words    string   // printed instead of the numbers
	marks    string
}

// dash is printed for what was not computed.
const dash = "–"

// text is "0.843 ± 0.012", a cost or a gap without its deviation.
func (col column) text(c cell) string {
	switch {
	case c.n == 0:
		return dash
	case c.words != "":
		return c.words
	case c.n == 1 || col.kind == cost || col.kind == gap:
		return col.format(c.mean)
	}
	return col.format(c.mean) + " ± " + col.format(c.sd)
}

// summarize is the mean and the sample standard deviation; NaN below two values.
func summarize(values []float64) (mean, sd float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	if len(values) < 2 {
		return mean, math.NaN()
	}
	var sum float64
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(sum / float64(len(values)-1))
}

// newTable makes the table that the options ask for; st may be nil where they ask
// for neither intervals nor tests.
func newTable(s *set, st *study, o Options) *table {
	t := &table{data: s.data, experiment: s.rows[0].experiment, columns: s.columns(o), tested: o.Tests}
	for _, c := range t.columns {
		t.oracle = t.oracle || c.oracle
		floor := cell{}
		if n := s.normal + s.abnormal; n > 0 && c.kind == figures {
			if v, ok := metric.Floor(c.spec, float64(s.abnormal)/float64(n)); ok {
				floor = cell{mean: v, n: 1}
			}
		}
		t.floor = append(t.floor, floor)
	}
	for _, r := range s.rows {
		t.rows = append(t.rows, t.newRow(s, st, r, o))
		t.oracle = t.oracle || r.oracle
	}
	if o.Tests {
		t.markStandings(s, st)
	} else {
		t.markBest(s)
	}
	t.caption = caption(s, st, t.columns, o)
	return t
}

// columns lists what the options ask for: each metric, its interval, its gap to
// the oracle and the published value; then the costs.
func (s *set) columns(o Options) []column {
	var out []column
	specs := s.specs
	if o.Twins {
		specs = s.twins()
	}
	for _, spec := range specs {
		head := heading(spec.Name)
		out = append(out, column{head: head, name: spec.Name, id: spec.ID(), oracle: spec.Oracle(), format: threeDigits, spec: spec})
		if o.Intervals && !spec.Pixel() {
			out = append(out, column{head: "95 % interval", name: "interval:" + spec.Name, id: spec.ID(), oracle: spec.Oracle(), kind: interval, spec: spec})
		}
		if t, ok := twinOf(spec); o.Twins && ok && spec.Oracle() && hasID(specs, t.honest) {
			out = append(out, column{head: "gap", name: "gap:" + spec.Name, id: t.oracle.ID() + " - " + t.honest.ID(), oracle: true, format: signedDigits, kind: gap, spec: spec, twin: t})
		}
		if s.printed(spec, o.Published) {
			out = append(out, column{head: "published " + head, name: "published:" + spec.Name, id: spec.ID(), oracle: spec.Oracle(), format: threeDigits, kind: paper, spec: spec})
		}
	}
	if o.Costs {
		for _, c := range costs {
			out = append(out, c.column)
		}
	}
	return out
}

// printed reports whether a source prints a metric of some row; a column of dashes
// would say nothing.
func (s *set) printed(spec metric.Spec, files []*published.File) bool {
	return len(files) > 0 && slices.ContainsFunc(s.rows, func(r *row) bool {
		_, ok := published.Compare(files, r.asPublished(s), spec, metric.Summary{N: 1})
		return ok
	})
}

func hasID(specs []metric.Spec, spec metric.Spec) bool {
	return slices.ContainsFunc(specs, func(s metric.Spec) bool { return s.ID() == spec.ID() })
}

func (t *table) newRow(s *set, st *study, r *row, o Options) tableRow {
	runs := r.complete()
	out := tableRow{label: r.label, method: r.method, family: r.family, trivial: r.trivial(), oracle: r.oracle, done: len(runs), seeds: len(r.runs)}
	var marks []string
	for _, note := range rowNotes(r) {
		marks = append(marks, t.note(note))
	}
	out.marks = strings.Join(slices.Compact(marks), ",")
	costOf := 0
	for _, c := range t.columns {
		var x cell
		switch c.kind {
		case figures:
			x = t.metricCell(runs, slices.Index(s.all, c.spec))
			if st != nil {
				x.setInterval(st.interval(r, c.spec))
			}
		case interval:
			x.setInterval(st.interval(r, c.spec))
			if x.ranged {
				x.n, x.words = 1, fmt.Sprintf("[%.3f, %.3f]", x.low, x.top)
			}
		case gap:
			x = r.gap(s, c.twin)
		case paper:
			x = t.published(s, r, c.spec, o.Published)
		case cost:
			x = costCell(runs, costs[costOf].of)
			costOf++
		}
		out.cells = append(out.cells, x)
	}
	return out
}

func (x *cell) setInterval(i metric.Interval, ok bool) {
	if ok {
		x.low, x.top, x.ranged = i.Low, i.High, true
	}
}

func costCell(runs []*run, of func(record.Run) float64) cell {
	var values []float64
	for _, run := range runs {
		if v := of(run.Run); v > 0 { // 0 is "not measured"
			values = append(values, v)
		}
	}
	mean, sd := summarize(values)
	return cell{mean: mean, sd: sd, n: len(values)}
}

// metricCell is the mean of figure i over the runs, with footnotes for the seeds
// that lack it.
func (t *table) metricCell(runs []*run, i int) cell {
	var values []float64
	var reasons []string
	for _, run := range runs {
		if f := run.figures[i]; f.OK {
			values = append(values, f.Value)
		} else {
			reasons = append(reasons, f.Reason)
		}
	}
	missing := len(reasons)
	var marks []string
	slices.Sort(reasons)
	for _, reason := range slices.Compact(reasons) {
		if missing < len(runs) {
			reason = fmt.Sprintf("mean of %d seeds, the others: %s", len(values), reason)
		}
		marks = append(marks, t.note(reason))
	}
	mean, sd := summarize(values)
	return cell{mean: mean, sd: sd, n: len(values), marks: strings.Join(marks, ",")}
}

// note returns the letter of a footnote; equal texts share one.
func (t *table) note(text string) string {
	i := slices.Index(t.notes, text)
	if i < 0 {
		i = len(t.notes)
		t.notes = append(t.notes, text)
	}
	return letter(i)
}

// letter counts a … z, aa, ab, …
func letter(i int) string {
	s := string(rune('a' + i%26))
	if i >= 26 {
		return letter(i/26-1) + s
	}
	return s
}

// rowNotes says what a reader must know of a row: seeds that are not complete,
// other test images, and what the runs noted themselves.
func rowNotes(r *row) []string {
	var notes []string
	count := func(state record.State, verb string) {
		var n int
		var details []string
		for _, run := range r.runs {
			if run.state != state {
				continue
			}
			n++
			switch {
			case errors.Is(run.Err, os.ErrNotExist):
				details = append(details, fmt.Sprintf("seed %d has no run.json", run.Run.Seed))
			case run.Err != nil: // its text has a path, which is not for a table
				details = append(details, fmt.Sprintf("seed %d has a damaged run.json", run.Run.Seed))
			case run.Run.Error != "":
				details = append(details, fmt.Sprintf("seed %d: %s", run.Run.Seed, run.Run.Error))
			default:
				details = append(details, fmt.Sprintf("seed %d", run.Run.Seed))
			}
		}
		if n > 0 {
			notes = append(notes, fmt.Sprintf("%d of %d seeds %s: %s", n, len(r.runs), verb, strings.Join(details, "; ")))
		}
	}
	count(record.State(record.Failed), "failed")
	count(record.State(record.Running), "still running")
	count(record.Interrupted, "unfinished (run it again to go on)")
	if r.otherImages != "" {
		notes = append(notes, r.otherImages)
	}
	for _, run := range r.complete() {
		all := run.Run.Notes
		if as := run.Run.TrainedAs; as != "" {
			all = append(slices.Clone(all), fmt.Sprintf("trained once, as %s: only the scoring differs, and the cost of training is of that run", as))
		}
		for _, note := range all {
			if !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
	}
	return notes
}

// markBest marks the highest mean of each metric, and what equals it as printed.
// A row of other test images or of an oracle does not compete, and nothing is best alone.
func (t *table) markBest(s *set) {
	for j, c := range t.columns {
		if c.kind != figures {
			continue
		}
		best, n := math.Inf(-1), 0
		for i, r := range t.rows {
			if r.cells[j].n > 0 && s.rows[i].competes() {
				best, n = max(best, r.cells[j].mean), n+1
			}
		}
		for i, r := range t.rows {
			t.rows[i].cells[j].best = n > 1 && r.cells[j].n > 0 && s.rows[i].competes() &&
				c.format(r.cells[j].mean) == c.format(best)
		}
	}
}

// markStandings marks each metric by tests: the best where every other row is
// significantly worse, otherwise the ties.
func (t *table) markStandings(s *set, st *study) {
	for j, c := range t.columns {
		if c.kind != figures {
			continue
		}
		place := st.standings(s, c.spec)
		for i, r := range s.rows {
			t.rows[i].cells[j].standing = place[r]
			t.rows[i].cells[j].best = place[r] == best
		}
	}
}

// bestNote explains the mark of the best.
func (t *table) bestNote(bold, tie string) string {
	if !t.tested {
		return bold + ": best mean of the column, and what equals it as printed"
	}
	return bold + ": best of the column, every other row being significantly worse (p < .05); " + tie + ": the highest mean and what is not significantly below it"
}

// caption says what the figures are of.
func caption(s *set, st *study, columns []column, o Options) []string {
	var seeds []string
	var splits, fingerprints []string
	grouped, ungrouped := false, false
	for _, r := range s.rows {
		for _, run := range r.runs {
			if seed := strconv.FormatInt(run.Run.Seed, 10); !slices.Contains(seeds, seed) {
				seeds = append(seeds, seed)
			}
		}
		for _, run := range r.complete() {
			if rule := run.Run.SplitRule; rule != "" && !slices.Contains(splits, rule) {
				splits = append(splits, rule)
			}
			if sum := run.Run.Fingerprint.SHA256; sum != "" && !slices.Contains(fingerprints, sum) {
				fingerprints = append(fingerprints, sum)
			}
			grouped, ungrouped = grouped || run.Run.Groups, ungrouped || !run.Run.Groups
		}
	}
	var out []string
	switch n := s.normal + s.abnormal; n {
	case 0:
		out = append(out, "No run is complete yet")
	default:
		out = append(out, fmt.Sprintf("%d test images, %d abnormal (prevalence %.3f); %d validation normals",
			n, s.abnormal, float64(s.abnormal)/float64(n), s.validation))
	}
	seedWord := "seeds"
	if len(seeds) == 1 {
		seedWord = "seed"
	}
	out = append(out, fmt.Sprintf("%d %s (%s), mean ± sample sd over seeds", len(seeds), seedWord, strings.Join(seeds, ", ")))
	if splits != nil {
		out = append(out, "Split: "+strings.Join(splits, " / "))
	}
	switch {
	case grouped && !ungrouped:
		out = append(out, "Patients are kept together by the split")
	case ungrouped && !grouped:
		out = append(out, "Patients are unknown: images of one may lie on both sides of the split")
	}
	if len(fingerprints) > 1 {
		out = append(out, fmt.Sprintf("Warning: the rows saw %d different versions of the data set", len(fingerprints)))
	}
	if st != nil && st.resampled != nil {
		if o.Intervals {
			out = append(out, "95 % intervals of the mean over seeds: percentiles of "+st.method())
		}
		if o.Tests {
			out = append(out, testsAgainst+": paired bootstrap of the means over seeds, "+st.method()+
				"; pixel metrics: Welch's test over seeds; Holm's correction over the rows")
		}
	}
	if o.Twins {
		out = append(out, "gap: what choosing the threshold with the test labels adds")
	}
	if slices.ContainsFunc(columns, func(c column) bool { return c.kind == paper }) {
		out = append(out, fmt.Sprintf("Published: as printed, in percent, then the signed gap in points and in combined sd, and the verdict of two one-sided tests with a margin of %g points; unlike protocols are not subtracted", 100*published.Margin))
	}
	for _, c := range columns {
		if c.kind != figures {
			continue
		}
		for _, text := range append([]string{ruleText(c.spec)}, optionTexts(c.spec)...) {
			if text != "" && !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	if o.Costs {
		out = append(out, "Costs: "+hardware(s))
	}
	return out
}

// hardware names what the complete runs ran on.
func hardware(s *set) string {
	var on []string
	for _, r := range s.rows {
		for _, run := range r.complete() {
			name := strings.TrimSpace(run.Run.Device + " " + run.Run.CPU)
			if name == "" {
				name = "unknown device"
			}
			if run.Run.Threads > 0 {
				name += fmt.Sprintf(", %d threads", run.Run.Threads)
			}
			if !slices.Contains(on, name) {
				on = append(on, name)
			}
		}
	}
	if len(on) > 1 {
		return "not on one machine: " + strings.Join(on, "; ")
	}
	return strings.Join(on, "")
}

// ruleText explains a metric's threshold rule; "" where it has none.
func ruleText(spec metric.Spec) string {
	_, rule, _ := strings.Cut(spec.Name, "@")
	rule, _, _ = strings.Cut(rule, ":")
	word, number, _ := strings.Cut(rule, ".")
	what := "scores"
	if spec.Masks() {
		what = "pixels"
	}
	var text string
	switch word {
	case "q-val":
		text = fmt.Sprintf("threshold above all but a share of .%s of the %s of validation normals", number, what)
	case "max-val":
		text = fmt.Sprintf("threshold just above the highest of the %s of validation normals", what)
	case "contam":
		text = fmt.Sprintf("threshold above all but a share of .%s of the test scores", number)
	case "f1-val":
		text = "threshold of the best F1 on a labelled validation set"
	case "fixed":
		text = fmt.Sprintf("threshold %s between the lowest and the highest test score", number)
	case "youden-test":
		text = "threshold of the best sensitivity + specificity on the test set"
	case "acc-test":
		text = "threshold of the best accuracy on the test set"
	case "f1-test":
		text = "threshold of the best F1 on the test set"
	case "best":
		text = "threshold of the best value on the test masks"
	case "spec":
		text = fmt.Sprintf("read off the test ROC at specificity .%s", number)
	case "sens":
		text = fmt.Sprintf("read off the test ROC at sensitivity .%s", number)
	default:
		return ""
	}
	return rule + ": " + text
}

// testsAgainst begins the sentence that says how rows were tested.
const testsAgainst = "Tests against the highest mean of a column"

// optionTexts explain what follows the colons of a metric's name.
func optionTexts(spec metric.Spec) (texts []string) {
	_, options, _ := strings.Cut(spec.Name, ":")
	if spec.Type() != "" {
		options = strings.TrimSuffix(options, "type."+spec.Type())
		texts = append(texts, "type: one type of abnormal images against all normal ones")
	}
	for option := range strings.SplitSeq(options, ":") {
		var text string
		switch {
		case option == "abnormal":
			text = "pixels of abnormal test images only"
		case option == "dilated":
			text = "lesions grown by the 3×3 cross before counting"
		case option == "lungs":
			text = "pixels of the lungs only"
		case option == "lungs.mean":
			text = "an image's score is the mean of its anomaly map within the lungs"
		case option == "lungs.max":
			text = "an image's score is the largest value of its anomaly map within the lungs"
		case option == "study.mean":
			text = "a study's score is the mean of those of its images"
		case option == "study.max":
			text = "a study's score is the largest of those of its images"
		case strings.HasPrefix(option, "study.top"):
			text = fmt.Sprintf("a study's score is the mean of the %s largest of its images", strings.TrimPrefix(option, "study.top"))
		default:
			continue
		}
		texts = append(texts, option+": "+text)
	}
	return texts
}

// heading writes a metric's name as papers do: AUROC, F1@q-val.05.
func heading(name string) string {
	word, rule, ruled := strings.Cut(name, "@")
	word, pool, pooled := strings.Cut(word, ":")
	pixel := ""
	if rest, ok := strings.CutPrefix(word, "pixel-"); ok {
		pixel, word = "pixel ", rest
	}
	switch word {
	case "auroc", "ap", "aupro", "aupimo", "f1":
		word = strings.ToUpper(word)
	case "auprc":
		word = "AUPRC (trapezoid)"
	case "acc":
		word = "accuracy"
	case "sens":
		word = "sensitivity"
	case "spec":
		word = "specificity"
	case "prec":
		word = "precision"
	case "dice":
		word = "Dice"
	case "dice-mean":
		word = "mean Dice"
	case "iou":
		word = "IoU"
	case "iou-mean":
		word = "mean IoU"
	}
	word = pixel + word
	if ruled {
		word += "@" + rule
	}
	if pooled {
		word += ":" + pool
	}
	return word
}

// signedDigits writes +0.031 or −0.031.
func signedDigits(v float64) string {
	if v < 0 {
		return "−" + threeDigits(-v)
	}
	return "+" + threeDigits(v)
}

func threeDigits(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

// costs are the columns on request.
var costs = []struct {
	column
	of func(record.Run) float64
}{
	{column{head: "parameters", name: "parameters", kind: cost, format: count},
		func(r record.Run) float64 { return float64(r.Parameters) }},
	{column{head: "ms/image", name: "ms_per_image", kind: cost, format: milliseconds},
		func(r record.Run) float64 { return r.MsPerImage }},
	{column{head: "training", name: "train_seconds", kind: cost, format: duration},
		func(r record.Run) float64 { return r.TrainSeconds }},
	{column{head: "memory", name: "peak_memory_bytes", kind: cost, format: bytesText},
		func(r record.Run) float64 { return float64(r.PeakMemory) }},
}

// count writes 4.71 M.
func count(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3g k", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}

func milliseconds(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func duration(seconds float64) string {
	switch {
	case seconds >= 3600:
		return fmt.Sprintf("%.1f h", seconds/3600)
	case seconds >= 60:
		return fmt.Sprintf("%.1f min", seconds/60)
	}
	return fmt.Sprintf("%.1f s", seconds)
}

func bytesText(v float64) string {
	if v >= 1e9 {
		return fmt.Sprintf("%.2f GB", v/1e9)
	}
	return fmt.Sprintf("%.0f MB", v/1e6)
}
