//go:build !reports

package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/train"
	"thorax/graphs/weights"
)

type importCmd struct {
	File   string `arg:"" help:"Official checkpoint (.pth, or safetensors of the same tensors); its discriminator lies beside it." type:"path"`
	Method string `help:"Method that the checkpoint is of." default:"simsid" placeholder:"NAME"`
	Preset string `help:"What the file does not tell, such as release_zhanglab; thorax show METHOD lists the presets." placeholder:"NAME"`
	Label  string `help:"Name of the row in tables; default: METHOD, official." placeholder:"LABEL"`
	Data   string `help:"Experiment whose data block of the checkpoint's size is scored, so that tables can list the run." type:"existingfile" placeholder:"EXPERIMENT"`
	Block  string `help:"Name of the data block; default: the only one of that size." placeholder:"NAME"`
	Resize string `help:"Without --data: how images are brought to the checkpoint's size; bicubic is what the official code does." default:"bicubic" enum:"bilinear,bicubic"`
}

func (importCmd) Help() string {
	return "The run goes to RESULTS/imported. Tensors that are missing, misshapen or unknown are all named." +
		example("thorax import model.pth --preset release_zhanglab", "thorax score results/imported/none-128/simsid-official/seed-0 my-images",
			"thorax import model.pth --preset release_zhanglab --data experiments/zhanglab.toml")
}

func (c *importCmd) Run(a *app) error {
	info, err := framework.Lookup(c.Method)
	if err != nil {
		return fmt.Errorf("%w: --method: %v", errUsage, err)
	}
	if info.Import == nil {
		var known []string
		for _, name := range framework.Names() {
			if i, _ := framework.Lookup(name); i.Import != nil {
				known = append(known, name)
			}
		}
		return fmt.Errorf("%w: --method %s: no official checkpoint of it is known; need one of %s", errUsage, c.Method, strings.Join(known, ", "))
	}
	m, err := info.Import(c.File, c.Preset)
	if err != nil {
		return err
	}
	sum, err := digest(c.File)
	if err != nil {
		return err
	}
	run, e, err := c.choose(m.Size)
	if err != nil {
		return err
	}
	if c.Label == "" {
		c.Label = c.Method + ", official"
	}
	run.Experiment, run.Title, run.Row, run.Seed, run.Train = "imported", "Imported checkpoints", 0, 0, config.DefaultTrain()
	run.Method, run.Preset, run.Label, run.Slug, run.Keys = c.Method, c.Preset, c.Label, config.Slug(c.Label), m.Method
	if run.Slug == "" {
		return fmt.Errorf("%w: --label %q: need letters or digits, it becomes a folder", errUsage, c.Label)
	}
	run.Dir = fmt.Sprintf("results/imported/%s/%s/seed-0", run.Data.Name, run.Slug)
	show := newProgress(a.stderr, 1)
	defer show.close()
	job := train.Job{Run: run, Info: info, Results: a.Results, Revision: revision(), Progress: show,
		Notes: []string{fmt.Sprintf("imported from %s (SHA-256 %s), preset %q: trained by the method's authors", filepath.Base(c.File), sum, c.Preset)}}
	if e != nil {
		sets := dataSets{}
		defer sets.close()
		if job.Data, err = sets.open(run.Data, filepath.Clean(a.Cache), show); err != nil {
			return err
		}
		job.Maps = e.Report.Maps
		for _, name := range e.Report.Metrics {
			spec, err := metric.Parse(name)
			if err != nil {
				return err
			}
			job.Metrics = append(job.Metrics, spec)
		}
	}
	if err := job.Import(a.ctx, m.Variables); err != nil {
		return err
	}
	show.close()
	fmt.Fprintf(a.stdout, "%s: %d arrays for images of %d pixels", job.Dir(), len(m.Variables), m.Size)
	if len(m.Unused) > 0 {
		fmt.Fprintf(a.stdout, "; %d tensors of parts that are switched off were left out", len(m.Unused))
	}
	fmt.Fprintln(a.stdout)
	return nil
}

// choose returns a run on the data block of the given size, and its experiment; without --data a run that is
// given its images later, and nil.
func (c *importCmd) choose(size int) (config.Run, *config.Experiment, error) {
	if c.Data == "" {
		if c.Block != "" {
			return config.Run{}, nil, fmt.Errorf("%w: --block %s: needs --data", errUsage, c.Block)
		}
		o := data.DefaultOptions()
		o.Set, o.Size, o.Resize, o.Validation = "none", size, c.Resize, 0
		err := o.Check() // completes the name
		return config.Run{Data: o}, nil, err
	}
	e, err := config.Load(c.Data, framework.Registry{}, nil)
	if err != nil {
		return config.Run{}, nil, fmt.Errorf("%w: %v", errUsage, err)
	}
	runs, err := e.Runs()
	if err != nil {
		return config.Run{}, nil, err
	}
	found := map[string]config.Run{}
	var names, fit []string
	for _, r := range runs {
		if found[r.Data.Name].Dir == "" {
			names = append(names, fmt.Sprintf("%s of %d pixels", r.Data.Name, r.Data.Size))
			if r.Data.Size == size {
				fit = append(fit, r.Data.Name)
			}
		}
		found[r.Data.Name] = r
	}
	switch {
	case c.Block == "" && len(fit) == 1:
		c.Block = fit[0]
	case c.Block == "" && len(fit) > 1:
		return config.Run{}, nil, fmt.Errorf("%w: --data %s: has several data blocks of %d pixels; say which with --block: %s", errUsage, c.Data, size, strings.Join(fit, ", "))
	case found[c.Block].Data.Size != size:
		return config.Run{}, nil, fmt.Errorf("%w: --data %s: need a data block of %d pixels, the checkpoint's size; it has %s", errUsage, c.Data, size, strings.Join(names, ", "))
	}
	run := found[c.Block]
	run.Data.Contamination = 0 // of rows; nothing is trained here
	return run, e, nil
}

// digest is the SHA-256 of the file; of a folder with checkpoints, of its model.pth.
func digest(path string) (string, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "model.pth")
	}
	return weights.Checksum(path)
}
