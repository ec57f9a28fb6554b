package command

import (
	"fmt"
	"math"
	"strconv"

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
	masks := &runMasks{newRunSets(a.Cache, c.Data)}
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

// runMasks gives the masks of the runs' data sets.
type runMasks struct{ runSets }

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
