package command

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/config"
	"thorax/framework/metric"
	"thorax/framework/record"
)

type diffCmd struct {
	A         string   `arg:"" help:"Folder of a row (its seeds) or of one run." type:"existingdir"`
	B         string   `arg:"" help:"Folder of the changed row or run." type:"existingdir"`
	Metrics   []string `help:"What to compare; default: the image metrics that both recorded." short:"m"`
	Resamples int      `help:"Resamples of the test images." default:"2000"`
}

func (diffCmd) Help() string {
	return "Lists the keys that differ, tells which of them had no effect on any score, and tests the change on the same test images and seeds. Two rows of different names and one configuration are an error." +
		example("thorax diff results/zhanglab/zhanglab-64/ae results/zhanglab/zhanglab-64/ae-latent=16")
}

// A side is one of the two rows.
type side struct {
	dir, label string
	runs       map[int64]record.Entry
	scores     map[int64][]record.Score
	keys       map[string]any // of one run, without its seed; nil without config.toml
}

func (c *diffCmd) Run(a *app) error {
	x, err := readSide(c.A)
	if err != nil {
		return err
	}
	y, err := readSide(c.B)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "A: %s (%s, %d seeds)\nB: %s (%s, %d seeds)\n", x.label, x.dir, len(x.runs), y.label, y.dir, len(y.runs))
	changed := changes(x.keys, y.keys)
	switch {
	case x.keys == nil || y.keys == nil:
		fmt.Fprintln(a.stdout, "\nchanged keys: unknown, one side has no config.toml")
	case len(changed) == 0 && x.label != y.label:
		return fmt.Errorf("%s and %s are named differently but resolve to the same configuration; keep one of them", x.dir, y.dir)
	case len(changed) == 0:
		fmt.Fprintln(a.stdout, "\nchanged keys: none")
	default:
		fmt.Fprintln(a.stdout, "\nchanged keys:")
		for _, line := range changed {
			fmt.Fprintln(a.stdout, "  "+line)
		}
	}
	seeds := slices.DeleteFunc(slices.Sorted(maps.Keys(x.runs)), func(s int64) bool { _, both := y.runs[s]; return !both })
	if len(seeds) == 0 {
		return errors.New("no seed is complete on both sides, so nothing can be tested")
	}
	same, comparable := sameScores(x, y, seeds)
	if !comparable {
		fmt.Fprintln(a.stdout, "\nno test: the two sides scored other test images")
		return nil
	}
	if same && len(changed) > 0 {
		fmt.Fprintf(a.stdout, "\nunused keys: every score of seeds %s is the same to the last digit, so none of the changed keys had an effect\n", seedList(seeds))
		return nil
	}
	return c.test(a.stdout, x, y, seeds)
}

// readSide reads a row's complete runs.
func readSide(dir string) (*side, error) {
	entries, err := record.Find(dir)
	if err != nil {
		return nil, err
	}
	s := &side{dir: dir, runs: map[int64]record.Entry{}, scores: map[int64][]record.Score{}}
	for _, e := range entries {
		if e.State() != record.State(record.Complete) {
			continue
		}
		if s.label != "" && s.label != e.Run.Label {
			return nil, fmt.Errorf("%w: %s holds more than one row; name one of them, such as %s", errUsage, dir, filepath.Dir(e.Dir))
		}
		if _, twice := s.runs[e.Run.Seed]; twice {
			return nil, fmt.Errorf("%w: %s holds seed %d twice; name one row of one data set", errUsage, dir, e.Run.Seed)
		}
		s.label = e.Run.Label
		s.runs[e.Run.Seed] = e
		if s.scores[e.Run.Seed], err = e.Scores(); err != nil {
			return nil, err
		}
		if text, err := e.Config(); err == nil {
			if s.keys, err = config.Relevant(text); err != nil {
				return nil, fmt.Errorf("%s: %w", e.Path("config.toml"), err)
			}
			delete(s.keys, "seed")
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if s.label == "" {
		return nil, fmt.Errorf("%s: no complete run", dir)
	}
	return s, nil
}

// changes lists the keys that differ as "key: old → new".
func changes(a, b map[string]any) (out []string) {
	all := maps.Clone(a)
	if all == nil || b == nil {
		return nil
	}
	maps.Copy(all, b)
	word := func(v any) string {
		if v == nil {
			return "none"
		}
		return fmt.Sprint(v)
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if word(a[k]) != word(b[k]) {
			out = append(out, fmt.Sprintf("%s: %s → %s", k, word(a[k]), word(b[k])))
		}
	}
	return out
}

// sameScores reports whether all scores of the seeds agree, and whether both sides
// scored the same test images.
func sameScores(a, b *side, seeds []int64) (same, comparable bool) {
	same = true
	for _, seed := range seeds {
		x, y := inOrder(a.scores[seed]), inOrder(b.scores[seed])
		if len(x) != len(y) {
			return false, false
		}
		for i := range x {
			if x[i].Path != y[i].Path || x[i].Abnormal != y[i].Abnormal {
				return false, false
			}
			same = same && x[i].Score == y[i].Score
		}
	}
	return same, true
}

// inOrder are the test images by path.
func inOrder(scores []record.Score) []record.Score {
	test := slices.DeleteFunc(slices.Clone(scores), func(s record.Score) bool { return s.Split != "test" })
	slices.SortFunc(test, func(a, b record.Score) int { return strings.Compare(a.Path, b.Path) })
	return test
}

// test prints the paired tests of each metric.
func (c *diffCmd) test(w io.Writer, x, y *side, seeds []int64) error {
	specs, err := c.specs(x, y, seeds[0])
	if err != nil {
		return err
	}
	var inputs []metric.Input
	var first, second []int
	var groups []string
	var averaged [2][]float64
	for i, s := range []*side{x, y} {
		for _, seed := range seeds {
			in, _ := record.Input(s.scores[seed])
			test := inOrder(s.scores[seed])
			byPath, _ := record.Input(test)
			in.Scores, in.Abnormal, in.Groups, in.Subtypes = byPath.Scores, byPath.Abnormal, byPath.Groups, byPath.Subtypes
			groups = byPath.Groups
			for j, score := range test {
				if len(averaged[i]) == j {
					averaged[i] = append(averaged[i], 0)
				}
				averaged[i][j] += score.Score / float64(len(seeds))
			}
			if i == 0 {
				first = append(first, len(inputs))
			} else {
				second = append(second, len(inputs))
			}
			inputs = append(inputs, in)
		}
	}
	if slices.Contains(groups, "") {
		groups = nil
	}
	b := metric.Bootstrap{Resamples: c.Resamples, Seed: 1, Groups: groups}
	resampled, err := b.Run(specs, inputs)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nB − A on seeds %s, the same test images:\n", seedList(seeds))
	for j, spec := range specs {
		var va, vb []float64
		for i := range seeds {
			fa, fb := resampled.Figures[first[i]][j], resampled.Figures[second[i]][j]
			if fa.OK && fb.OK {
				va, vb = append(va, fa.Value), append(vb, fb.Value)
			}
		}
		d, ok := resampled.Compare(second, first, j, .95)
		if !ok {
			fmt.Fprintf(w, "  %-16s not computed: %s\n", spec.Name, resampled.Figures[first[0]][j].Reason)
			continue
		}
		fmt.Fprintf(w, "  %-16s %.3f → %.3f, difference %+.3f, 95 %% interval [%+.3f, %+.3f], paired bootstrap p %.4f", spec.Name,
			metric.Summarize(va).Mean, metric.Summarize(vb).Mean, d.Value, d.Low, d.High, d.P)
		if t, err := metric.PairedT(vb, va); err == nil {
			fmt.Fprintf(w, ", paired t over seeds p %.4f", t.P)
		}
		if spec.Name == "auroc" {
			if t, err := metric.DeLong(averaged[1], averaged[0], inputs[0].Abnormal); err == nil {
				fmt.Fprintf(w, ", DeLong of seed-averaged scores %+.3f p %.4f", t.Difference, t.P)
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d resamples of the test images, seed %d; each metric on its own, without correction for their number\n", c.Resamples, b.Seed)
	return nil
}

// specs are the image metrics to compare.
func (c *diffCmd) specs(x, y *side, seed int64) ([]metric.Spec, error) {
	if c.Resamples < 100 {
		return nil, fmt.Errorf("%w: --resamples %d, need 100 or more", errUsage, c.Resamples)
	}
	var specs []metric.Spec
	for _, name := range c.Metrics {
		spec, err := metric.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", errUsage, err)
		}
		specs = append(specs, spec)
	}
	if specs == nil {
		a, err := recordedSpecs(x.runs[seed])
		if err != nil {
			return nil, err
		}
		b, err := recordedSpecs(y.runs[seed])
		if err != nil {
			return nil, err
		}
		specs = slices.DeleteFunc(a, func(s metric.Spec) bool { return s.Pixel() || !slices.Contains(b, s) })
	}
	if len(specs) == 0 {
		specs = append(specs, must("auroc"), must("ap"))
	}
	return specs, nil
}

// must parses a name of ours.
func must(name string) metric.Spec {
	s, err := metric.Parse(name)
	if err != nil {
		panic(err)
	}
	return s
}

func seedList(seeds []int64) string {
	words := make([]string, len(seeds))
	for i, s := range seeds {
		words[i] = strconv.FormatInt(s, 10)
	}
	return strings.Join(words, ", ")
}
