// Package config reads experiments: TOML files that name data sets, methods and
// seeds. Load checks every key and value, and Runs lists each combination of a
// data block, a row and a seed with its complete, resolved configuration.
package config

import (
	"fmt"
	"slices"

	"thorax/framework/data"
	"thorax/framework/spell"
)

// Methods gives access to the registered methods.
type Methods interface {
	// New returns a pointer to the method's struct with its defaults; the toml
	// tags of its fields are its keys. The method may have Check() error, and
	// Presets() map[string]any with pointers to structs of the same type.
	New(name string) (any, error)
	// Names lists the registered names.
	Names() []string
}

// Experiment is a checked experiment file.
type Experiment struct {
	Title   string         // default: Name
	Name    string         // base name of the file, without .toml
	Seeds   []uint64       // distinct, at least one
	Data    []data.Options // Root is resolved against Dir
	Methods []Row          // after vary; the rows of the table, in order
	Report  Report         // Published is resolved against Dir
	Dir     string         // folder of the file, as given to Load

	roots   []string // the root of each data block as written
	methods Methods
}

// Row is one row of the comparison: a method with its keys, on some data blocks.
type Row struct {
	Method string   // registered name
	Label  string   // in tables; default the method's name, vary appends key=value
	Slug   string   // of the label, as folder name
	On     []string // names of data blocks, never empty
	Preset string   // "" if none
	Train  Train
	Keys   any // pointer to the method's struct, checked

	// Contamination replaces that of the data blocks: the one key of theirs that leaves the test images
	// as they are, so that rows with and without it stand in one table. nil: the block's own.
	Contamination *float64

	path  string // of the row's table in the file
	entry *entry
}

// Run is one combination of a data block, a row and a seed: what is trained,
// scored and stored together.
type Run struct {
	Experiment, Title string
	Row               int // index into Experiment.Methods
	Data              data.Options
	Method            string
	Preset            string // the preset Keys started from; "" if none
	Label             string
	Slug              string
	Seed              uint64
	Train             Train
	Keys              any    // pointer to the method's struct, this run's own
	Dir               string // results/EXPERIMENT/DATA/SLUG/seed-N, with '/'

	root string // the data block's root as written, relative to the experiment file
}

// Train is the budget and the conduct of training. Of Steps and Epochs at most
// one is above 0; both are 0 for methods that only fit.
type Train struct {
	Steps      int    `toml:"steps"`       // optimisation steps
	Epochs     int    `toml:"epochs"`      // passes over the training images
	Batch      int    `toml:"batch"`       // images a step
	Precision  string `toml:"precision"`   // float32, or bf16 where the device has it
	Threads    int    `toml:"threads"`     // of TensorFlow; another number gives other last bits
	LogEvery   int    `toml:"log_every"`   // steps between logged losses
	SaveEvery  int    `toml:"save_every"`  // steps between checkpoints
	ScoreBatch int    `toml:"score_batch"` // images scored together

	// CurveEvery is the number of steps between two scorings of the test images
	// in training, which give a learning curve and, as a row of its own that is
	// marked oracle, the step of best AUROC; 0: none. It changes nothing else.
	CurveEvery int `toml:"curve_every,omitzero"`
}

// DefaultTrain returns the defaults: batches of 16, float32, 2 threads, a log
// line every 50 steps, a checkpoint every 500. It sets no budget.
func DefaultTrain() Train {
	return Train{Batch: 16, Precision: "float32", Threads: 2, LogEvery: 50, SaveEvery: 500, ScoreBatch: 16}
}

// Check names the first key out of range.
func (t *Train) Check() error {
	for _, k := range []struct {
		key              string
		value, low, high int
	}{
		{"steps", t.Steps, 0, 1e9},
		{"epochs", t.Epochs, 0, 1e6},
		{"batch", t.Batch, 1, 65536},
		{"threads", t.Threads, 1, 1024},
		{"log_every", t.LogEvery, 1, 1e9},
		{"save_every", t.SaveEvery, 1, 1e9},
		{"score_batch", t.ScoreBatch, 1, 65536},
		{"curve_every", t.CurveEvery, 0, 1e9},
	} {
		if k.value < k.low || k.value > k.high {
			return fmt.Errorf("%s: %d, need %d to %d", k.key, k.value, k.low, k.high)
		}
	}
	if t.Steps > 0 && t.Epochs > 0 {
		return fmt.Errorf("epochs: steps is set too, need one of them")
	}
	if msg := choice(t.Precision, precisions); msg != "" {
		return fmt.Errorf("precision: %s", msg)
	}
	return nil
}

// Report says what is shown of an experiment.
type Report struct {
	Metrics   []string `toml:"metrics"`   // names known to metric.Parse, the columns in order
	Costs     bool     `toml:"costs"`     // parameters, time and memory as columns
	Types     bool     `toml:"types"`     // a table of each type of abnormal images against the normal ones
	Published string   `toml:"published"` // TOML file of published figures, relative to the experiment; "" if none
	Maps      bool     `toml:"maps"`      // store anomaly maps and overlays of a few cases
	Formats   []string `toml:"formats"`   // files to write besides the terminal's table

	Annotate map[string]string `toml:"annotate"` // what the authors say to findings of lint, by code, such as L6
}

// DefaultReport returns the defaults: AUROC and AP in every format but PDF.
func DefaultReport() Report {
	return Report{Metrics: []string{"auroc", "ap"}, Formats: []string{"md", "csv", "tex", "html", "png", "svg"}}
}

var (
	precisions = []string{"float32", "bf16"}
	formats    = []string{"md", "csv", "tex", "html", "png", "svg", "pdf"}
)

// choice says what is wrong with a value that is not one of the allowed; "" if it is.
func choice(value string, allowed []string) string {
	if slices.Contains(allowed, value) {
		return ""
	}
	if near := spell.Nearest(value, allowed); near != "" {
		return fmt.Sprintf("%q; did you mean %q?", value, near)
	}
	return fmt.Sprintf("%q, need one of %s", value, list(allowed))
}
