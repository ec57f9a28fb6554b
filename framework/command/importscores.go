package command

import (
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"thorax/framework/metric"
	"thorax/framework/record"
)

type importScoresCmd struct {
	File   string `arg:"" help:"CSV file with the columns path, score and perhaps seed." type:"existingfile"`
	Method string `help:"Name of the method that made the scores." required:"" placeholder:"NAME"`
	Label  string `help:"Name of the row in tables; default: the method's." placeholder:"LABEL"`
	Family string `help:"Family of the method in tables." default:"imported"`
	Into   string `help:"Folder of the data set among the results, such as results/demo/radiograph-64; default: the only one there is." type:"existingdir" placeholder:"DIR"`
}

func (importScoresCmd) Help() string {
	return "Scores of any other program join tables, ROC curves and tests: they become runs beside those of the data set, whose test images must all be there, once for each seed. " +
		"Validation images may be given too, all or none; without them, metrics with a threshold of validation normals are not computed. A higher score must be more anomalous." +
		example("thorax import-scores squid.csv --method squid --into results/zhanglab/zhanglab-128", "thorax report results/zhanglab")
}

func (c *importScoresCmd) Run(a *app) error {
	model, list, row, err := c.model(a)
	if err != nil {
		return err
	}
	bySeed, sum, err := readForeign(c.File)
	if err != nil {
		return err
	}
	made := record.Run{
		Status: record.Complete, Experiment: model.Run.Experiment, Title: model.Run.Title, Data: model.Run.Data, Method: c.Method,
		Label: c.Label, Family: c.Family, Row: row, Hash: sum, Fingerprint: model.Run.Fingerprint,
		SplitRule: model.Run.SplitRule, Groups: model.Run.Groups,
		Notes: []string{"imported from " + filepath.Base(c.File) + ": made by another program, training and data are its authors' word"},
	}
	if made.Label == "" {
		made.Label = c.Method
	}
	slug := record.Slug(made.Label)
	if slug == "" {
		return fmt.Errorf("%w: --label %q: need letters or digits, it becomes a folder", errUsage, made.Label)
	}
	specs, err := recordedSpecs(model)
	if err != nil {
		return err
	}
	seeds := slices.Sorted(maps.Keys(bySeed))
	joined := map[int64][]record.Score{}
	for _, seed := range seeds { // all are checked before anything is written
		if joined[seed], err = join(list, bySeed[seed]); err != nil {
			return fmt.Errorf("%s: seed %d: %w", c.File, seed, err)
		}
		dir := filepath.Join(filepath.Dir(filepath.Dir(model.Dir)), slug, fmt.Sprintf("seed-%d", seed))
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("%s exists: give another --label, or remove it", dir)
		}
	}
	for _, seed := range seeds {
		dir := filepath.Join(filepath.Dir(filepath.Dir(model.Dir)), slug, fmt.Sprintf("seed-%d", seed))
		f, err := record.Create(dir)
		if err != nil {
			return err
		}
		run := made
		run.Seed, run.Finished = seed, time.Now().UTC().Truncate(time.Second)
		figures := evaluate(specs, joined[seed])
		for _, g := range figures {
			run.MetricIDs = append(run.MetricIDs, g.ID)
		}
		if err := errors.Join(f.WriteScores(joined[seed]), f.WriteFigures(figures), f.WriteRun(run)); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout, dir)
	}
	return nil
}

// model is the complete run of the data set with the most images: those are the ones
// to score. It also returns its images and the place of a new row.
func (c *importScoresCmd) model(a *app) (model record.Entry, list []record.Score, row int, err error) {
	root := c.Into
	if root == "" {
		root = a.Results
	}
	entries, err := record.Find(root)
	if err != nil {
		return model, nil, 0, err
	}
	var sets []string
	for _, e := range entries {
		if e.State() != record.State(record.Complete) {
			continue
		}
		if dir := filepath.Dir(filepath.Dir(e.Dir)); !slices.Contains(sets, dir) {
			sets = append(sets, dir)
		}
		scores, err := e.Scores()
		if err != nil {
			return model, nil, 0, fmt.Errorf("%s: %w", e.Dir, err)
		}
		if len(scores) > len(list) {
			model, list = e, scores
		}
		row = max(row, e.Run.Row+1)
	}
	switch len(sets) {
	case 0:
		return model, nil, 0, fmt.Errorf("%s: no complete run to take the list of images from; run a trivial row of the data set first", root)
	case 1:
		return model, list, row, nil
	}
	return model, nil, 0, fmt.Errorf("%w: --into: name one of %s", errUsage, strings.Join(sets, ", "))
}

// foreign are the scores of one seed by path.
type foreign map[string]float64

// readForeign reads a CSV file of path, score and perhaps seed, in any order of
// columns, and its hash. An image given twice for a seed is an error that lists all
// of them.
func readForeign(path string) (bySeed map[int64]foreign, sum string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	in := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff")))
	in.TrimLeadingSpace = true
	head, err := in.Read()
	if err != nil {
		return nil, "", fmt.Errorf("%s: no header, need the columns path, score and perhaps seed: %w", path, err)
	}
	column := func(name string) int {
		return slices.IndexFunc(head, func(h string) bool { return strings.EqualFold(strings.TrimSpace(h), name) })
	}
	image, score, seed := column("path"), column("score"), column("seed")
	if image < 0 || score < 0 {
		return nil, "", fmt.Errorf("%s: header %s, need the columns path and score", path, strings.Join(head, ","))
	}
	bySeed = map[int64]foreign{}
	var twice []string
	for {
		row, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		line, _ := in.FieldPos(0)
		v, err := strconv.ParseFloat(strings.TrimSpace(row[score]), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, "", fmt.Errorf("%s: line %d: the score of %s is %q, need a finite number", path, line, row[image], row[score])
		}
		n := int64(0)
		if seed >= 0 {
			if n, err = strconv.ParseInt(strings.TrimSpace(row[seed]), 10, 64); err != nil || n < 0 {
				return nil, "", fmt.Errorf("%s: line %d: seed %q, need a whole number from 0", path, line, row[seed])
			}
		}
		if bySeed[n] == nil {
			bySeed[n] = foreign{}
		}
		p := filepath.ToSlash(row[image])
		if _, known := bySeed[n][p]; known {
			twice = append(twice, fmt.Sprintf("%s (seed %d, line %d)", p, n, line))
		}
		bySeed[n][p] = v
	}
	if len(twice) > 0 {
		return nil, "", fmt.Errorf("%s: %d duplicate images: %s", path, len(twice), some(twice))
	}
	if len(bySeed) == 0 {
		return nil, "", fmt.Errorf("%s: no scores", path)
	}
	digest := sha256.Sum256(text)
	return bySeed, fmt.Sprintf("imported-%x", digest[:8]), nil
}

// join gives the images of a run the scores of another program. All test images
// must be scored, all validation images or none, and no others.
func join(list []record.Score, scores foreign) ([]record.Score, error) {
	var out []record.Score
	var missing, lacking []string
	used, validation := map[string]bool{}, 0
	for _, s := range list {
		v, ok := scores[s.Path]
		switch {
		case ok:
			s.Score = v
			out = append(out, s)
			used[s.Path] = true
			if s.Split == "validation" {
				validation++
			}
		case s.Split == "test":
			missing = append(missing, s.Path)
		case s.Split == "validation":
			lacking = append(lacking, s.Path)
		}
	}
	if validation > 0 {
		missing = append(missing, lacking...)
	}
	var extra []string
	for _, p := range slices.Sorted(maps.Keys(scores)) {
		if !used[p] {
			extra = append(extra, p)
		}
	}
	var problems []string
	if len(missing) > 0 {
		problems = append(problems, fmt.Sprintf("%d missing images: %s", len(missing), some(missing)))
	}
	if len(extra) > 0 {
		problems = append(problems, fmt.Sprintf("%d extra images: %s", len(extra), some(extra)))
	}
	if problems != nil {
		return nil, errors.New(strings.Join(problems, "; "))
	}
	return out, nil
}

// some lists the first of many.
func some(names []string) string {
	const most = 50
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// recordedSpecs are the metrics that a run recorded.
func recordedSpecs(e record.Entry) ([]metric.Spec, error) {
	figures, err := e.Figures()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var specs []metric.Spec
	for _, f := range figures {
		if spec, err := metric.Parse(f.Name); err == nil {
			specs = append(specs, spec)
		}
	}
	return specs, nil
}

// evaluate computes the figures of scores alone.
func evaluate(specs []metric.Spec, scores []record.Score) []metric.Figure {
	in, _ := record.Input(scores)
	figures := metric.EvalAll(specs, in)
	for i, spec := range specs {
		if spec.Pixel() {
			figures[i].Reason = "imported scores have no anomaly maps"
		}
	}
	return figures
}
