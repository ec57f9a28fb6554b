// Package command is the command line of thorax: it wires experiments, data,
// training and reports together.
package command

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"thorax/framework/data"
	"thorax/framework/data/phantom"
	"thorax/framework/lint"
	"thorax/framework/published"
	"thorax/framework/record"
	"thorax/framework/report"
)

// cli is the command line. The commands of this file read files only; those
// that need TensorFlow are in the files that the build tag "reports" leaves out.
type cli struct {
	tensorflowCommands
	Table  tableCmd        `cmd:"" group:"results" help:"Print the tables of finished runs."`
	Roc    rocCmd          `cmd:"" group:"results" name:"roc" help:"Draw ROC curves of finished runs."`
	Plot   plotCmd         `cmd:"" group:"results" help:"Draw other plots: precision and recall, scores, calibration, intervals, sweeps, ranks, learning curves, cases."`
	Report reportCmd       `cmd:"" group:"results" help:"Write tables, ROC plots and an HTML page of finished runs."`
	Verify verifyCmd       `cmd:"" group:"results" help:"Compute every recorded figure anew from the raw scores; exits 1 and lists what drifted."`
	Diff   diffCmd         `cmd:"" group:"results" help:"Compare two rows: changed keys, keys without effect, paired tests of the change."`
	Lint   lintCmd         `cmd:"" group:"results" help:"Look for pitfalls of evaluation in experiments and finished runs."`
	Import importScoresCmd `cmd:"" group:"results" name:"import-scores" help:"Let scores of any other program join the tables and tests."`
	Data   struct {
		Check   checkCmd   `cmd:"" help:"Look for broken, doubled and mislabelled images before any training."`
		Phantom phantomCmd `cmd:"" help:"Write a folder of generated chest images with masks."`
	} `cmd:"" group:"images" help:"Check or generate image sets."`

	Results string `help:"Folder of all results." default:"results" placeholder:"DIR"`
	Cache   string `help:"Folder of decoded images." default:"${cache}" placeholder:"DIR"`
}

// app is what commands get to see.
type app struct {
	*cli
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
}

// errUsage marks bad use, exit status 2.
var errUsage = errors.New("usage")

// Main runs the command line and exits: 0, 1 (failed), 2 (bad use), 130 or 143
// (interrupted and saved).
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	got := make(chan os.Signal, 1)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	err := Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "thorax: %v\n", err)
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case ctx.Err() != nil:
		if <-got == syscall.SIGTERM {
			os.Exit(143)
		}
		os.Exit(130)
	}
	os.Exit(1)
}

// Run runs one command line.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var c cli
	exited := false
	parser, err := kong.New(&c,
		kong.Name("thorax"),
		kong.Description("Unsupervised anomaly detection in chest imaging: compare methods on your images, honestly.\n\nStart with: thorax run experiments/demo.toml"),
		kong.Vars{"cache": filepath.Join(".thorax", "cache")},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ExplicitGroups([]kong.Group{{Key: "train", Title: "Train and score:"}, {Key: "results", Title: "Results, without training:"}, {Key: "images", Title: "Images:"}, {Key: "machine", Title: "This machine:"}}),
	)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exited {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %v; see thorax --help", errUsage, err)
	}
	return command.Run(&app{cli: &c, ctx: ctx, stdout: stdout, stderr: stderr})
}

// example is the end of a command's --help.
func example(lines ...string) string { return "\n\nExample:\n\n  " + strings.Join(lines, "\n  ") }

// A folders argument names result folders.
type folders struct {
	Paths []string `arg:"" name:"folder" help:"Result folders, such as results/demo." type:"existingdir"`
}

func (f folders) entries() ([]record.Entry, error) {
	var all []record.Entry
	for _, p := range f.Paths {
		e, err := record.Find(p)
		if err != nil {
			return nil, err
		}
		all = append(all, e...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no runs; make some with thorax run", strings.Join(f.Paths, ", "))
	}
	return all, nil
}

type tableCmd struct {
	folders
	Metrics []string `help:"Columns, such as auroc,ap,f1@q-val.05; default: those recorded." short:"m"`
	Costs   bool     `help:"Add parameters, time per image, training time and peak memory."`
	evidence
	Intervals bool `help:"Add the 95 % interval over test images beside each image metric."`
	Tests     bool `help:"Mark the best by paired tests, and print the matrix of tests between rows."`
	Twins     bool `help:"Show each thresholded metric with the threshold of the validation normals, with the best on the test set, and the gap."`
	Types     bool `help:"Add a table of each type of abnormal images against the normal ones."`
}

func (tableCmd) Help() string {
	return example("thorax table results/demo --metrics auroc,ap,sens@q-val.05 --costs",
		"thorax table results/zhanglab --intervals --tests --published experiments/published/simsid.toml")
}

// evidence are the options of tables that look beyond the means.
type evidence struct {
	Published     []string `help:"TOML files of published figures, shown beside ours." type:"existingfile" placeholder:"FILE"`
	Resamples     int      `help:"Resamples of the test images." default:"2000"`
	BootstrapSeed uint64   `help:"Seed of the resampling." default:"1"`
}

func (e evidence) apply(o *report.Options) error {
	if e.Resamples < 100 || e.Resamples > 1e6 {
		return fmt.Errorf("%w: --resamples %d, need 100 to 1000000", errUsage, e.Resamples)
	}
	if e.BootstrapSeed == 0 {
		return fmt.Errorf("%w: --bootstrap-seed 0, need 1 or more", errUsage)
	}
	o.Resamples, o.Seed = e.Resamples, e.BootstrapSeed
	for _, path := range e.Published {
		f, err := published.Read(path)
		if err != nil {
			return err
		}
		o.Published = append(o.Published, f)
	}
	return nil
}

func (c *tableCmd) Run(a *app) error {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	o := report.Options{Metrics: c.Metrics, Costs: c.Costs, Bold: terminal(a.stdout), Intervals: c.Intervals, Tests: c.Tests, Twins: c.Twins, Types: c.Types}
	if err := c.apply(&o); err != nil {
		return err
	}
	return report.Terminal(a.stdout, entries, o)
}

type reportCmd struct {
	folders
	Out     string   `help:"Where to write; default: the first folder." short:"o" type:"path"`
	Metrics []string `help:"Columns; default: those recorded." short:"m"`
	Costs   bool     `help:"Add parameters, time per image, training time and peak memory."`
	Title   string   `help:"Title of the page."`
	evidence
	Intervals bool              `help:"Add intervals and twins to the Markdown and LaTeX tables too."`
	Types     bool              `help:"Add a table of each type of abnormal images against the normal ones."`
	Cases     bool              `help:"Read the images of the data sets, for the case sheets of the page."`
	Data      string            `help:"Root of the data set, for --cases; default: the one in the runs' config.toml." type:"path" placeholder:"DIR"`
	Annotate  map[string]string `help:"What you say to a finding of thorax lint, such as L6='negatives have other diseases'." placeholder:"CODE=TEXT" mapsep:"none"`
}

func (reportCmd) Help() string {
	return example("thorax report results/demo", "open results/demo/report.html", "thorax report results/zhanglab --cases --data data/zhanglab")
}

func (c *reportCmd) Run(a *app) error {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	o := report.Options{Title: c.Title, Metrics: c.Metrics, Costs: c.Costs, Intervals: c.Intervals, Twins: c.Intervals, Types: c.Types}
	if err := c.apply(&o); err != nil {
		return err
	}
	notes, err := annotations(c.Paths, c.Annotate)
	if err != nil {
		return err
	}
	if o.Findings, err = findings(lint.Input{Entries: entries, Published: o.Published}, notes); err != nil {
		return err
	}
	if c.Cases {
		sets := newRunSets(a.Cache, c.Data)
		defer sets.close()
		o.Images, o.NoImages = sets.images(entries)
	}
	return write(a, entries, c.Out, c.Paths[0], o)
}

type rocCmd struct {
	folders
	Out    string   `help:"Where to write; default: the first folder." short:"o" type:"path"`
	Format []string `help:"png, svg or pdf." default:"png,svg,pdf" enum:"png,svg,pdf"`
}

func (rocCmd) Help() string { return example("thorax roc results/demo --format pdf") }

func (c *rocCmd) Run(a *app) error {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	return write(a, entries, c.Out, c.Paths[0], report.Options{Plots: c.Format})
}

// write writes a report and lists its files.
func write(a *app, entries []record.Entry, out, otherwise string, o report.Options) error {
	if out == "" {
		out = otherwise
	}
	files, err := report.Write(out, entries, o)
	for _, f := range files {
		fmt.Fprintln(a.stdout, f)
	}
	return err
}

type checkCmd struct {
	Root       string  `arg:"" help:"Folder of the set, or the CSV file of a manifest." type:"path"`
	Set        string  `help:"Layout: folder, zhanglab, covidx, chexpert, chexpert-pa or manifest." default:"folder"`
	Size       int     `help:"Side in pixels that masks must survive." default:"128"`
	Validation float64 `help:"Share of training normals held out." default:"0.1"`
}

func (checkCmd) Help() string {
	return "Reads every image and mask, and reports each problem with a code and a remedy. Exits 1 if there are errors." +
		example("thorax data check my-images", "thorax data check --set zhanglab data/zhanglab")
}

func (c *checkCmd) Run(a *app) error {
	o := data.DefaultOptions()
	o.Set, o.Root, o.Size, o.Validation = c.Set, c.Root, c.Size, c.Validation
	if err := o.Check(); err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	findings, err := data.Check(o)
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range findings {
		where := f.Path
		if where == "" {
			where = c.Root
		}
		fmt.Fprintf(a.stdout, "%-7s %-4s %s: %s\n             %s\n", f.Severity, f.Code, where, f.Text, f.Remedy)
		if f.Severity == data.Error {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%s: %d errors", c.Root, bad)
	}
	fmt.Fprintf(a.stdout, "%s: no errors, %d findings\n", c.Root, len(findings))
	return nil
}

type phantomCmd struct {
	Out      string `arg:"" help:"Folder to write; it must not exist." type:"path"`
	Modality string `help:"radiograph or ct." default:"radiograph" enum:"radiograph,ct"`
	Size     int    `help:"Side in pixels." default:"128"`
	Train    int    `help:"Normal training images." default:"300"`
	Normal   int    `help:"Normal test images." default:"100"`
	Abnormal int    `help:"Abnormal test images." default:"100"`
	Level    string `help:"Difficulty: mix, or 0 (easiest) to 3." default:"mix"`
	Seed     uint64 `help:"Another seed gives other patients." default:"1"`
}

func (phantomCmd) Help() string {
	return example("thorax data phantom my-phantoms --modality ct --level 1")
}

func (c *phantomCmd) Run(a *app) error {
	o := phantom.DefaultOptions()
	o.Modality, o.Size, o.Train, o.TestNormal, o.TestAbnormal = c.Modality, c.Size, c.Train, c.Normal, c.Abnormal
	o.Level, o.Seed = phantom.Level(c.Level), c.Seed
	if err := o.Check(); err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	return writePhantom(a.ctx, c.Out, o)
}

// writePhantom writes a generated set in the folder layout.
func writePhantom(ctx context.Context, dir string, o phantom.Options) error {
	if _, err := os.Stat(dir); err == nil {
		return fmt.Errorf("%s exists: name a folder that does not", dir)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, c := range o.Plan() {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			img, mask, err := o.Render(c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Path, err)
			}
			class, name := "normal", strings.TrimSuffix(filepath.Base(c.Path), filepath.Ext(c.Path))+".png"
			if c.Abnormal {
				class = c.Subtype
			}
			lungs, err := o.LungMask(c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Path, err)
			}
			if err := writePNG(filepath.Join(dir, "lungs", c.Split, class, name), lungs, o.Size); err != nil {
				return err
			}
			if err := writePNG(filepath.Join(dir, c.Split, class, name), img, o.Size); err != nil || mask == nil {
				return err
			}
			return writePNG(filepath.Join(dir, "masks", c.Split, class, name), mask, o.Size)
		})
	}
	return g.Wait()
}

func writePNG(path string, v []uint8, size int) error {
	return record.WriteFile(path, func(w io.Writer) error {
		return png.Encode(w, &image.Gray{Pix: v, Stride: size, Rect: image.Rect(0, 0, size, size)})
	})
}

// terminal reports whether w is a person's screen.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
