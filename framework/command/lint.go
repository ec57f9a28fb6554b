package command

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/data"
	"thorax/framework/lint"
	"thorax/framework/published"
	"thorax/framework/record"
	"thorax/framework/report"
)

type lintCmd struct {
	Paths     []string          `arg:"" name:"path" help:"Experiment files and result folders." type:"path"`
	Images    bool              `help:"Read the images of each experiment too, as thorax data check does."`
	Published []string          `help:"TOML files of published figures, held against the rest." type:"existingfile" placeholder:"FILE"`
	Annotate  map[string]string `help:"What you say to a finding, such as L6='negatives have other diseases'; it is kept with the finding." placeholder:"CODE=TEXT" mapsep:"none"`
}

func (lintCmd) Help() string {
	return "Each finding has a code, what it means and what to do. A finding that the experiment annotates (annotate = { L6 = \"…\" } under [report]) is listed with its annotation and does not count. Exits 1 if others are left." +
		example("thorax lint experiments/zhanglab.toml results/zhanglab", "thorax lint --images experiments/zhanglab.toml")
}

func (c *lintCmd) Run(a *app) error {
	var shared lint.Input
	var experiments []*lint.Experiment
	var dirs []string
	for _, path := range c.Paths {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("%w: %v", errUsage, err)
		}
		if info.IsDir() {
			dirs = append(dirs, path)
			entries, err := record.Find(path)
			if err != nil {
				return err
			}
			shared.Entries = append(shared.Entries, entries...)
			continue
		}
		e, err := lint.ReadExperiment(path)
		if err != nil {
			return err
		}
		experiments = append(experiments, e)
	}
	for _, path := range c.Published {
		f, err := published.Read(path)
		if err != nil {
			return err
		}
		shared.Published = append(shared.Published, f)
	}
	notes, err := annotations(dirs, c.Annotate)
	if err != nil {
		return err
	}
	open, said := 0, map[lint.Finding]bool{}
	look := func(in lint.Input) error {
		found, err := lint.Run(in, notes)
		for _, f := range found {
			if said[f] {
				continue
			}
			said[f] = true
			why, _ := lint.Explain(f.Code)
			fmt.Fprintf(a.stdout, "%-4s %s\n     %s\n     remedy: %s\n", f.Code, f.Text, why, f.Remedy)
			if f.Annotation != "" {
				fmt.Fprintf(a.stdout, "     annotated: %s\n", f.Annotation)
			} else {
				open++
			}
		}
		return err
	}
	for _, e := range experiments {
		in := shared
		in.Experiment = e
		if c.Images {
			if in.Images, err = readImages(e); err != nil {
				return err
			}
		}
		if err := look(in); err != nil {
			return err
		}
	}
	if len(experiments) == 0 {
		if err := look(shared); err != nil {
			return err
		}
	}
	if open > 0 {
		return fmt.Errorf("%d findings", open)
	}
	fmt.Fprintf(a.stdout, "%s: nothing found, %d annotated\n", strings.Join(c.Paths, ", "), len(said))
	return nil
}

// readImages checks the images of an experiment's data blocks.
func readImages(e *lint.Experiment) (map[string][]data.Finding, error) {
	out := map[string][]data.Finding{}
	for _, block := range e.Data {
		text, err := toml.Marshal(block)
		if err != nil {
			return nil, err
		}
		o := data.DefaultOptions()
		if _, err := toml.Decode(string(text), &o); err != nil {
			return nil, fmt.Errorf("%s: data: %w", e.Path, err)
		}
		if o.Set == "phantom" {
			continue // generated images have no such faults
		}
		if !filepath.IsAbs(o.Root) {
			o.Root = filepath.Join(filepath.Dir(e.Path), o.Root)
		}
		if err := o.Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
		if out[o.Name], err = data.Check(o); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// findings are what a report says of its figures.
func findings(in lint.Input, notes map[string]string) ([]report.Finding, error) {
	found, err := lint.Run(in, notes)
	if err != nil {
		return nil, err
	}
	out := make([]report.Finding, len(found))
	for i, f := range found {
		out[i] = report.Finding{Code: f.Code, Text: f.Text, Remedy: f.Remedy, Annotation: f.Annotation}
	}
	return out, nil
}

// annotationsFile keeps the annotations of an experiment beside its runs, so that
// reports made later, elsewhere, have them too.
const annotationsFile = "annotations.toml"

func writeAnnotations(dir string, notes map[string]string) error {
	path := filepath.Join(dir, annotationsFile)
	if len(notes) == 0 {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	if err := lint.CheckCodes(notes); err != nil {
		return fmt.Errorf("report.annotate: %w", err)
	}
	return record.WriteFile(path, func(w io.Writer) error { return toml.NewEncoder(w).Encode(notes) })
}

// annotations are those kept in result folders, and those of the command line.
func annotations(dirs []string, given map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for _, dir := range slices.Backward(dirs) { // the first folder has the last word
		text, err := os.ReadFile(filepath.Join(dir, annotationsFile))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := toml.Decode(string(text), &out); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, annotationsFile), err)
		}
	}
	maps.Copy(out, given)
	if err := lint.CheckCodes(out); err != nil {
		return nil, fmt.Errorf("%w: --annotate: %v", errUsage, err)
	}
	return out, nil
}
