package command

import (
	"fmt"
	"slices"

	"thorax/framework/report"
)

type plotCmd struct {
	folders
	Kind      []string `help:"roc (bands over test images), pr, scores, calibration, dots, sweep, ranks, curve (test AUROC and losses in training) or cases (the images of highest and lowest scores); default: all but cases." default:"roc,pr,scores,calibration,dots,sweep,ranks,curve" enum:"roc,pr,scores,calibration,dots,sweep,ranks,curve,cases" short:"k"`
	Out       string   `help:"Where to write; default: the first folder." short:"o" type:"path"`
	Format    []string `help:"png, svg or pdf." default:"png,svg,pdf" enum:"png,svg,pdf"`
	Metrics   []string `help:"The first image metric is what dots, sweep and ranks show; default: those recorded." short:"m"`
	Resamples int      `help:"Resamples of the test images." default:"2000"`
	Data      string   `help:"Root of the data set, for cases; default: the one in the runs' config.toml." type:"path" placeholder:"DIR"`
}

func (plotCmd) Help() string {
	return "sweep needs rows made by vary; ranks needs the same rows on several data sets; curve and cases make a file for each row, and cases reads the images. What cannot be drawn is named with its reason." +
		example("thorax plot results/zhanglab --kind dots,calibration --format pdf",
			"thorax plot results/zhanglab --kind cases --format png")
}

func (c *plotCmd) Run(a *app) error {
	if c.Resamples < 100 || c.Resamples > 1e6 {
		return fmt.Errorf("%w: --resamples %d, need 100 to 1000000", errUsage, c.Resamples)
	}
	entries, err := c.entries()
	if err != nil {
		return err
	}
	if c.Out == "" {
		c.Out = c.Paths[0]
	}
	o := report.Options{Metrics: c.Metrics, Plots: c.Format, Resamples: c.Resamples}
	if slices.Contains(c.Kind, "cases") {
		sets := newRunSets(a.Cache, c.Data)
		defer sets.close()
		o.Images, o.NoImages = sets.images(entries)
	}
	files, left, err := report.Plots(c.Out, entries, c.Kind, o)
	for _, f := range files {
		fmt.Fprintln(a.stdout, f)
	}
	for _, why := range left {
		fmt.Fprintln(a.stderr, "not drawn:", why)
	}
	if err == nil && len(files) == 0 {
		return fmt.Errorf("nothing was drawn")
	}
	return err
}
