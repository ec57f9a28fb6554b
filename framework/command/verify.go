package command

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"strconv"

	"github.com/BurntSushi/toml"

	"thorax/framework/data"
	"thorax/framework/record"
	"thorax/framework/verify"
)

type verifyCmd struct {
	folders
	Against string `help:"A table.csv of an earlier report whose means and deviations must come out again." type:"existingfile"`
	Data    string `help:"Root of the data set, for the masks of pixel figures; default: the one in the runs' config.toml." type:"path" placeholder:"DIR"`
	All     bool   `help:"List every figure, not only what drifted or cannot be verified."`
}

func (verifyCmd) Help() string {
	return "Figures are computed anew from scores.csv, pixel figures from maps/ and the masks of the data set, and compared with what was recorded. Exits 1 and lists what drifted." +
		example("thorax verify results/demo", "thorax verify results/demo --against results/demo/table.csv")
}

func (c *verifyCmd) Run(a *app) error {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	masks := &runMasks{cache: filepath.Clean(a.Cache), root: c.Data, sets: map[string]*data.Dataset{}}
	defer masks.close()
	checks, err := verify.Runs(entries, masks)
	if err != nil {
		return err
	}
	if c.Against != "" {
		more, err := verify.Against(c.Against, entries)
		if err != nil {
			return err
		}
		checks = append(checks, more...)
	}
	count := map[verify.Verdict]int{}
	for _, k := range checks {
		count[k.Verdict]++
		if k.Verdict != verify.Same || c.All {
			fmt.Fprintf(a.stdout, "%-14s %s: %s: recorded %s, now %s%s\n", k.Verdict, k.Where, k.Metric, number(k.Recorded), number(k.Now), clause(k.Reason))
		}
	}
	fmt.Fprintf(a.stdout, "%d figures verified, %d drifted, %d not verifiable\n", count[verify.Same], count[verify.Drifted], count[verify.Open])
	switch {
	case count[verify.Drifted] > 0:
		return fmt.Errorf("%d figures drifted", count[verify.Drifted])
	case count[verify.Same] == 0:
		return fmt.Errorf("no figure could be verified: no complete run has recorded one")
	}
	return nil
}

// number writes a value, or – for none.
func number(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return strconv.FormatFloat(v, 'f', 6, 64)
}

func clause(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// runMasks opens the data sets that the runs' config.toml name, once each.
type runMasks struct {
	cache, root string
	sets        map[string]*data.Dataset
}

// Masks implements [verify.Masks].
func (m *runMasks) Masks(e record.Entry, paths []string) (masks [][]bool, w, h int, err error) {
	d, err := m.open(e)
	if err != nil {
		return nil, 0, 0, err
	}
	index := map[string]int{}
	for i, item := range d.Items(data.Test) {
		index[item.Path] = i
	}
	for _, p := range paths {
		i, ok := index[p]
		if !ok {
			return nil, 0, 0, fmt.Errorf("%s is no test image of the data set", p)
		}
		mask, err := d.Mask(data.Test, i)
		if err != nil {
			return nil, 0, 0, err
		}
		masks = append(masks, mask)
	}
	return masks, d.Size(), d.Size(), nil
}

// Lungs implements [verify.Masks].
func (m *runMasks) Lungs(e record.Entry, split string, paths []string) ([][]bool, error) {
	d, err := m.open(e)
	if err != nil {
		return nil, err
	}
	s := data.Test
	if split == data.Validation.String() {
		s = data.Validation
	}
	index := map[string]int{}
	for i, item := range d.Items(s) {
		index[item.Path] = i
	}
	lungs := make([][]bool, len(paths))
	for i, p := range paths {
		at, ok := index[p]
		if !ok {
			return nil, fmt.Errorf("%s is no %s image of the data set", p, split)
		}
		if lungs[i], err = d.Lungs(s, at); err != nil {
			return nil, err
		}
	}
	return lungs, nil
}

// open opens the set of a run. The root in config.toml is relative to the
// experiment file, so the folders where those usually lie are tried.
func (m *runMasks) open(e record.Entry) (*data.Dataset, error) {
	if d := m.sets[e.Run.Data]; d != nil {
		return d, nil
	}
	o, err := dataOptions(e)
	if err != nil {
		return nil, err
	}
	roots := []string{m.root}
	if m.root == "" {
		roots = []string{o.Root, filepath.Join("experiments", o.Root)}
	}
	var first error
	for _, root := range roots {
		if o.Set != "phantom" {
			o.Root = root
		}
		d, err := data.Open(o, m.cache)
		if err == nil {
			files, sum := d.Fingerprint()
			if sum != e.Run.Fingerprint.SHA256 && e.Run.Fingerprint.SHA256 != "" {
				d.Close()
				return nil, fmt.Errorf("%s holds other images (%d files) than the run saw (%d)", cmp.Or(root, "the generated set"), files, e.Run.Fingerprint.Files)
			}
			m.sets[e.Run.Data] = d
			return d, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("%w; name its folder with --data", first)
}

func (m *runMasks) close() {
	for _, d := range m.sets {
		d.Close()
	}
}

// dataOptions reads the data block of a run's config.toml.
func dataOptions(e record.Entry) (data.Options, error) {
	c := struct {
		Data data.Options `toml:"data"`
	}{data.DefaultOptions()}
	text, err := e.Config()
	if err != nil {
		return c.Data, fmt.Errorf("the run has no config.toml: %w", err)
	}
	if _, err := toml.Decode(string(text), &c); err != nil {
		return c.Data, fmt.Errorf("%s: %w", e.Path("config.toml"), err)
	}
	return c.Data, nil
}
