// Package lint looks for the known pitfalls of evaluating anomaly detection in
// experiments, run folders, published figures and images. A finding has a code from L1
// to L26; the codes are explained by [Explain]. What an experiment annotates is kept
// with the authors' words, not hidden.
package lint

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/published"
	"thorax/framework/record"
)

// Finding is one pitfall that was met.
type Finding struct {
	Code       string
	Text       string // what was seen and where
	Remedy     string
	Annotation string // what the authors say to it; "" for nothing
}

// Input is what is looked at; every part may be left out.
type Input struct {
	Experiment *Experiment
	Entries    []record.Entry
	Published  []*published.File
	Images     map[string][]data.Finding // of [data.Check], by name of the data set
}

// Experiment is an experiment file as it is written, without defaults.
type Experiment struct {
	Path    string
	Seeds   []uint64          `toml:"seeds"`
	Data    []map[string]any  `toml:"data"`
	Methods []map[string]any  `toml:"method"`
	Train   map[string]any    `toml:"train"`
	Report  map[string]any    `toml:"report"`
	Notes   map[string]string `toml:"-"` // report.annotate
}

// ReadExperiment reads an experiment file for linting; whether its keys are known is
// for thorax run to say.
func ReadExperiment(path string) (*Experiment, error) {
	e := &Experiment{Path: path, Notes: map[string]string{}}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read experiment: %w", err)
	}
	if _, err := toml.Decode(string(text), e); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	notes, _ := e.Report["annotate"].(map[string]any)
	for code, v := range notes {
		note, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%s: report.annotate.%s: need a string", path, code)
		}
		e.Notes[code] = note
	}
	if err := CheckCodes(e.Notes); err != nil {
		return nil, fmt.Errorf("%s: report.annotate: %w", path, err)
	}
	return e, nil
}

// published is the path of report.published, "" without one.
func (e *Experiment) published() string {
	name, _ := e.Report["published"].(string)
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(e.Path), name)
}

// CheckCodes refuses annotations of codes that do not exist.
func CheckCodes(notes map[string]string) error {
	for _, code := range slices.Sorted(maps.Keys(notes)) {
		if _, ok := Explain(code); !ok {
			return fmt.Errorf("%q is no code, need L1 to L%d", code, len(rules))
		}
		if strings.TrimSpace(notes[code]) == "" {
			return fmt.Errorf("%s: empty, say why the finding does not hurt", code)
		}
	}
	return nil
}

// Explain returns what a code stands for.
func Explain(code string) (string, bool) {
	for _, r := range rules {
		if r.code == code {
			return r.why, true
		}
	}
	return "", false
}

// A rule is one pitfall; check lists where it was met.
type rule struct {
	code, why, remedy string
	check             func(*facts) []string
}

// Run returns the findings in the order of their codes, with the annotations of the
// experiment and of notes. Errors: a damaged file of a run, of published figures, or
// an annotation of a code that does not exist.
func Run(in Input, notes map[string]string) ([]Finding, error) {
	if err := CheckCodes(notes); err != nil {
		return nil, err
	}
	f, err := collect(in)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	if in.Experiment != nil {
		maps.Copy(all, in.Experiment.Notes)
	}
	maps.Copy(all, notes)
	var out []Finding
	for _, r := range rules {
		for _, text := range r.check(f) {
			out = append(out, Finding{r.code, text, r.remedy, all[r.code]})
		}
		for _, name := range slices.Sorted(maps.Keys(in.Images)) {
			out = append(out, images(name, r, in.Images[name], all[r.code])...)
		}
	}
	return out, nil
}

// images turns the findings of [data.Check] that have the rule's code into ours: one
// for each kind and text of severity, the first image named.
func images(name string, r rule, found []data.Finding, note string) []Finding {
	type kind struct {
		severity data.Severity
		remedy   string
	}
	var order []kind
	count, first := map[kind]int{}, map[kind]data.Finding{}
	for _, d := range found {
		if d.Code != r.code {
			continue
		}
		k := kind{d.Severity, d.Remedy}
		if count[k]++; count[k] == 1 {
			order, first[k] = append(order, k), d
		}
	}
	var out []Finding
	for _, k := range order {
		text := name + ": "
		if first[k].Path != "" {
			text += first[k].Path + ": "
		}
		text += first[k].Text
		if n := count[k] - 1; n > 0 {
			text += fmt.Sprintf(" (and %d more images)", n)
		}
		out = append(out, Finding{r.code, text, k.remedy, note})
	}
	return out
}

// facts are what the rules look at.
type facts struct {
	Input
	files   []*published.File
	metrics []metric.Spec // columns of the experiment, or else those recorded
	blocks  []block
	rows    []configured
	runs    []run
	sets    []string // data sets of the runs, in order
}

// A block is a data block of the experiment, or of a run's configuration.
type block struct {
	name, set, root string
	validation      float64
	contamination   float64
}

// configured is a row of the experiment, or a run's configuration: keys by dotted name.
type configured struct {
	where string
	keys  map[string]string
}

// A run is a complete run with its scores.
type run struct {
	record.Entry
	scores  []record.Score
	figures []metric.Figure
	keys    map[string]string // of config.toml; nil without one

	grid     string  // H×W of its maps of the test images; "" without maps
	between  float64 // share of their variance that is between places
	unopened error   // why its maps could not be read
}

func (r run) test() (scores []float64, abnormal []bool) {
	for _, s := range r.scores {
		if s.Split == "test" {
			scores, abnormal = append(scores, s.Score), append(abnormal, s.Abnormal)
		}
	}
	return scores, abnormal
}

func (r run) name() string {
	return fmt.Sprintf("%s, %s, seed %d", r.Run.Data, r.Run.Label, r.Run.Seed)
}

const trivial = "trivial"

func collect(in Input) (*facts, error) {
	f := &facts{Input: in, files: slices.Clone(in.Published)}
	add := func(name string) {
		if spec, err := metric.Parse(name); err == nil && !slices.Contains(f.metrics, spec) {
			f.metrics = append(f.metrics, spec)
		}
	}
	if e := in.Experiment; e != nil {
		names, _ := e.Report["metrics"].([]any)
		for _, name := range names {
			add(fmt.Sprint(name))
		}
		if names == nil {
			add("auroc")
			add("ap")
		}
		for _, b := range e.Data {
			f.blocks = append(f.blocks, blockOf(flatten(b)))
		}
		for _, m := range e.Methods {
			keys := flatten(map[string]any{"train": e.Train})
			maps.Copy(keys, flatten(m))
			where := keys["name"]
			if keys["label"] != "" {
				where = keys["label"]
			}
			f.rows = append(f.rows, configured{where, keys})
		}
		if path := e.published(); path != "" {
			file, err := published.Read(path)
			if err != nil {
				return nil, err
			}
			f.files = append(f.files, file)
		}
	}
	for _, e := range in.Entries {
		if e.State() != record.State(record.Complete) {
			continue
		}
		r := run{Entry: e}
		var err error
		if r.scores, err = e.Scores(); err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		if r.figures, err = e.Figures(); err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		switch m, err := e.ReadMaps("test"); {
		case err == nil:
			r.grid, r.between = fmt.Sprintf("%d×%d", m.H, m.W), betweenPlaces(m)
		case !errors.Is(err, os.ErrNotExist):
			r.unopened = err
		}
		if text, err := e.Config(); err == nil {
			var table map[string]any
			if _, err := toml.Decode(string(text), &table); err != nil {
				return nil, fmt.Errorf("%s: %w", e.Path("config.toml"), err)
			}
			r.keys = flatten(table)
		}
		if in.Experiment == nil {
			for _, g := range r.figures {
				add(g.Name)
			}
		}
		// The rows of an experiment are those it names, and those that choose the
		// best step of a learning curve, which only the runs have.
		if r.keys != nil && (in.Experiment == nil || r.keys["train.selection"] != "") {
			own := map[string]string{}
			for k, v := range r.keys {
				own[strings.TrimPrefix(k, "method.")] = v
			}
			f.rows = append(f.rows, configured{r.name(), own})
		}
		if !slices.Contains(f.sets, e.Run.Data) {
			f.sets = append(f.sets, e.Run.Data)
			if in.Experiment == nil && r.keys != nil {
				f.blocks = append(f.blocks, blockOf(under(r.keys, "data.")))
			}
		}
		f.runs = append(f.runs, r)
	}
	return f, nil
}

func under(keys map[string]string, prefix string) map[string]string {
	out := map[string]string{}
	for k, v := range keys {
		if rest, ok := strings.CutPrefix(k, prefix); ok {
			out[rest] = v
		}
	}
	return out
}

func blockOf(keys map[string]string) block {
	o := data.DefaultOptions()
	b := block{name: keys["name"], set: keys["set"], root: keys["root"], validation: o.Validation}
	if v, err := strconv.ParseFloat(keys["validation"], 64); err == nil {
		b.validation = v
	}
	b.contamination, _ = strconv.ParseFloat(keys["contamination"], 64)
	if b.name == "" {
		b.name = b.set + "-" + keys["size"]
	}
	return b
}

// flatten writes a table's values under dotted names, lists as one text.
func flatten(table map[string]any) map[string]string {
	out := map[string]string{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		if t, ok := v.(map[string]any); ok {
			for k, x := range t {
				walk(strings.TrimPrefix(prefix+"."+k, "."), x)
			}
			return
		}
		out[prefix] = fmt.Sprint(v)
	}
	walk("", table)
	return out
}

// of returns the runs on a data set.
func (f *facts) of(set string) []run {
	var out []run
	for _, r := range f.runs {
		if r.Run.Data == set {
			out = append(out, r)
		}
	}
	return out
}
