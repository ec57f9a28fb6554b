// Package record is a run's folder: the types of its files, reading them, and
// writing them so that a folder never holds half a file.
//
// A run lies in EXPERIMENT/DATA/METHOD/seed-N, where METHOD is the [Slug] of the
// row's label. Its files are config.toml, run.json, train.jsonl, scores.csv,
// metrics.json, maps/ and checkpoint/; all but the last are read and written here.
package record

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Status is how far a run came, as its run.json says it.
type Status string

// The states a run.json can hold. A killed process leaves Running behind:
// [Entry.State] tells such a run from one at work.
const (
	Running  Status = "running"
	Failed   Status = "failed"
	Complete Status = "complete"
)

// Run is run.json: what was run, on what, for how long, and with what outcome.
// Times are in seconds and memory is in bytes; a zero stands for "not measured".
type Run struct {
	Status Status `json:"status"`
	Error  string `json:"error,omitempty"` // of a failed run, one line

	Experiment string `json:"experiment"`
	Title      string `json:"title,omitempty"`
	Data       string `json:"data"`   // name of the data block
	Method     string `json:"method"` // registered name
	Label      string `json:"label"`  // name of the row in tables
	Family     string `json:"family"` // reconstruction, feature, synthesis, trivial, …
	Row        int    `json:"row"`    // place of the row in the experiment, from 0
	Seed       int64  `json:"seed"`
	Hash       string `json:"hash"`                 // of the resolved configuration
	Training   string `json:"training,omitempty"`   // of what training depends on: images, keys, seed, program
	TrainedAs  string `json:"trained_as,omitempty"` // "ROW on DATA" whose training this run shares, and whose cost it names

	Revision   string `json:"revision,omitempty"`
	TensorFlow string `json:"tensorflow,omitempty"`
	Go         string `json:"go,omitempty"`
	Device     string `json:"device,omitempty"`
	CPU        string `json:"cpu,omitempty"`
	Threads    int    `json:"threads,omitempty"`
	Precision  string `json:"precision,omitempty"`
	OneDNN     string `json:"onednn,omitempty"` // TF_ENABLE_ONEDNN_OPTS: with or without its kernels last bits differ

	Started      time.Time `json:"started,omitzero"`
	Finished     time.Time `json:"finished,omitzero"`
	TrainSeconds float64   `json:"train_seconds,omitempty"`
	ScoreSeconds float64   `json:"score_seconds,omitempty"`
	MsPerImage   float64   `json:"ms_per_image,omitempty"` // scoring, decoding left out
	Parameters   int64     `json:"parameters,omitempty"`
	PeakMemory   int64     `json:"peak_memory_bytes,omitempty"`
	Steps        int       `json:"steps,omitempty"`
	Trained      bool      `json:"trained"` // some variable was learnt or fitted

	Fingerprint Fingerprint `json:"fingerprint"`
	SplitRule   string      `json:"split_rule,omitempty"`
	Groups      bool        `json:"groups"` // the split kept patients together
	Notes       []string    `json:"notes,omitempty"`
	MetricIDs   []string    `json:"metric_ids,omitempty"`
}

// Fingerprint identifies the images of a data set by their number and the
// SHA-256, in hexadecimal, of their contents.
type Fingerprint struct {
	Files  int    `json:"files"`
	SHA256 string `json:"sha256"`
}

// WriteRun replaces run.json. An unknown status is an error.
func (f *Folder) WriteRun(r Run) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("write %s: %w", f.Path("run.json"), err)
	}
	return f.writeJSON("run.json", r)
}

// Run reads run.json. A missing file is [os.ErrNotExist].
func (f *Folder) Run() (Run, error) {
	var r Run
	if err := f.readJSON("run.json", &r); err != nil {
		return Run{}, err
	}
	if err := r.check(); err != nil {
		return Run{}, fmt.Errorf("%s: %w", f.Path("run.json"), err)
	}
	return r, nil
}

func (r Run) check() error {
	switch r.Status {
	case Running, Failed, Complete:
		return nil
	}
	return fmt.Errorf("status: %q, need %q, %q or %q", r.Status, Running, Failed, Complete)
}

func (f *Folder) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Path(name), err)
	}
	return f.WriteFile(name, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

func (f *Folder) readJSON(name string, v any) error {
	b, err := os.ReadFile(f.Path(name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w; the file is damaged, run again with --redo", f.Path(name), err)
	}
	return nil
}
