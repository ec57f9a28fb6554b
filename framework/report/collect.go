package report

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"thorax/framework/metric"
	"thorax/framework/record"
)

// A set is all that ran on one data set.
type set struct {
	data  string
	specs []metric.Spec // asked for
	types []metric.Spec // the headline metric of each type of abnormal images
	all   []metric.Spec // all of these and the twins of specs
	rows  []*row        // methods in experiment order, then trivial rows

	normal, abnormal int // test images
	validation       int // validation normals
}

// A row is one label with its seeds.
type row struct {
	experiment, label, method, family string
	order                             int
	runs                              []*run // by seed
	otherImages                       string // how its test images differ from the set's; "" if they do not
	oracle                            bool   // the labels of the test images chose its model
}

// A run is one seed.
type run struct {
	record.Entry
	state   record.State
	scores  []record.Score  // all splits; nil unless complete
	stored  []metric.Figure // of metrics.json
	figures []metric.Figure // one for each of the set's metrics; nil unless complete
	oracle  bool            // the labels of the test images chose its model
}

// Families whose rows need no learning stand apart in tables and plots.
const trivial = "trivial"

func (r *row) trivial() bool { return r.family == trivial }

// competes reports whether the row may be the best or be tested against others: an
// oracle's row may not, nor one of other test images.
func (r *row) competes() bool { return r.otherImages == "" && !r.oracle }

// name is the label, marked † on an oracle's row.
func (r *row) name() string { return r.label + mark(r.oracle, " †") }

// complete returns the runs that figures are taken from.
func (r *row) complete() []*run {
	var runs []*run
	for _, run := range r.runs {
		if run.state == record.State(record.Complete) {
			runs = append(runs, run)
		}
	}
	return runs
}

// test returns scores and labels of the test images.
func (r *run) test() (scores []float64, abnormal []bool) {
	for _, s := range r.scores {
		if s.Split == "test" {
			scores, abnormal = append(scores, s.Score), append(abnormal, s.Abnormal)
		}
	}
	return scores, abnormal
}

// collect reads the runs and sorts them into data sets and rows.
func collect(entries []record.Entry, o Options) ([]*set, error) {
	if len(entries) == 0 {
		return nil, errors.New("no runs found; run an experiment first or name another folder")
	}
	if _, err := parseMetrics(o.Metrics); err != nil {
		return nil, err
	}
	var sets []*set
	for _, e := range entries {
		r, err := open(e)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(sets, func(s *set) bool { return s.data == e.Run.Data })
		if i < 0 {
			i = len(sets)
			sets = append(sets, &set{data: e.Run.Data})
		}
		if err := sets[i].add(r); err != nil {
			return nil, err
		}
	}
	names := o.Metrics
	if names == nil {
		names = recordedMetrics(sets)
	}
	specs, err := parseMetrics(names)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		s.specs = specs
		s.arrange()
		s.all = slices.Clone(specs)
		if o.Types {
			s.types = s.ofTypes()
		}
		for _, spec := range slices.Concat(s.twins(), s.types) {
			if !slices.Contains(s.all, spec) {
				s.all = append(s.all, spec)
			}
		}
		for _, r := range s.rows {
			for _, run := range r.complete() {
				run.evaluate(s.all)
			}
		}
	}
	return sets, nil
}

func open(e record.Entry) (*run, error) {
	r := &run{Entry: e, state: e.State(), oracle: chosenByTest(e)}
	if r.state != record.State(record.Complete) {
		return r, nil
	}
	var err error
	if r.scores, err = e.Scores(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if r.stored, err = e.Figures(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return r, nil
}

// add puts a run into its row. A run without run.json is known by the slug in its
// path only.
func (s *set) add(r *run) error {
	i := slices.IndexFunc(s.rows, func(known *row) bool {
		return known.experiment == r.Run.Experiment && record.Slug(known.label) == record.Slug(r.Run.Label)
	})
	if i < 0 {
		i = len(s.rows)
		s.rows = append(s.rows, &row{experiment: r.Run.Experiment, label: r.Run.Label, order: math.MaxInt})
	}
	to := s.rows[i]
	for _, other := range to.runs {
		if other.Run.Seed == r.Run.Seed {
			return fmt.Errorf("%s and %s are the same row %q, seed %d; remove one", other.Dir, r.Dir, to.label, r.Run.Seed)
		}
	}
	if r.Err == nil && to.order == math.MaxInt {
		to.label, to.method, to.family, to.order = r.Run.Label, r.Run.Method, r.Run.Family, r.Run.Row
	}
	to.runs, to.oracle = append(to.runs, r), to.oracle || r.oracle
	return nil
}

// arrange sorts the rows and compares their test images with those of the first.
func (s *set) arrange() {
	slices.SortStableFunc(s.rows, func(a, b *row) int {
		return cmp.Or(ordinal(a.trivial())-ordinal(b.trivial()), cmp.Compare(a.order, b.order),
			cmp.Compare(a.experiment, b.experiment), cmp.Compare(a.label, b.label))
	})
	if slices.ContainsFunc(s.rows, func(r *row) bool { return r.experiment != s.rows[0].experiment }) {
		for _, r := range s.rows {
			r.label += " (" + r.experiment + ")"
		}
	}
	var images, owner string
	for _, r := range s.rows {
		slices.SortStableFunc(r.runs, func(a, b *run) int { return cmp.Compare(a.Run.Seed, b.Run.Seed) })
		for _, run := range r.complete() {
			switch these := run.images(); {
			case these == "":
			case images == "":
				images, owner = these, r.label
				s.count(run)
			case images != these:
				r.otherImages = fmt.Sprintf("scored other test images than %s, seed %d: not comparable", owner, run.Run.Seed)
			}
		}
	}
}

// ordinal orders false before true.
func ordinal(b bool) int {
	if b {
		return 1
	}
	return 0
}

// images identifies the test images and their labels, whatever their order.
func (r *run) images() string {
	var lines []string
	for _, s := range r.scores {
		if s.Split == "test" {
			lines = append(lines, fmt.Sprintf("%s\x00%t", s.Path, s.Abnormal))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\x00")
}

func (s *set) count(r *run) {
	for _, score := range r.scores {
		switch {
		case score.Split == "test" && score.Abnormal:
			s.abnormal++
		case score.Split == "test":
			s.normal++
		case score.Split == "validation" && !score.Abnormal:
			s.validation++
		}
	}
}

// evaluate fills figures: those of metrics.json where the definition is still the
// same, image metrics from scores.csv otherwise.
func (r *run) evaluate(specs []metric.Spec) {
	in := r.input()
	r.figures = make([]metric.Figure, len(specs))
	var missing []metric.Spec
	var at []int
	for i, spec := range specs {
		old := slices.IndexFunc(r.stored, func(f metric.Figure) bool { return f.ID == spec.ID() })
		same := slices.IndexFunc(r.stored, func(f metric.Figure) bool { return f.Name == spec.Name })
		switch {
		case old >= 0:
			r.figures[i] = r.stored[old]
			r.figures[i].Name = spec.Name
		case !spec.Pixel() && in.Scores != nil:
			missing, at = append(missing, spec), append(at, i)
		default:
			r.figures[i] = metric.Figure{Name: spec.Name, ID: spec.ID(), Oracle: spec.Oracle(), Reason: r.absent(spec, same)}
		}
	}
	for i, f := range metric.EvalAll(missing, in) {
		r.figures[at[i]] = f
	}
	for i := range r.figures {
		r.figures[i].Oracle = r.figures[i].Oracle || r.oracle
	}
}

// input is what image metrics are computed from.
func (r *run) input() metric.Input {
	in, _ := record.Input(r.scores)
	return in
}

// absent says why a figure can be neither read nor recomputed; same is the place
// of a stored figure of the same name and another definition, or -1.
func (r *run) absent(spec metric.Spec, same int) string {
	switch {
	case !spec.Pixel():
		return "no test scores in scores.csv; score the run again"
	case same >= 0:
		return fmt.Sprintf("recorded under another definition, %s; score the run again", r.stored[same].ID)
	}
	return "not recorded by the run; add it to the experiment's metrics and score the run again"
}
