package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"
)

// Step is one line of train.jsonl.
type Step struct {
	Step            int                `json:"step"`
	Phase           string             `json:"phase"`
	Losses          map[string]float64 `json:"losses,omitempty"`        // by update
	LearningRates   map[string]float64 `json:"learning_rate,omitempty"` // by update
	ImagesPerSecond float64            `json:"images_per_second,omitempty"`
	TestAUROC       *float64           `json:"test_auroc,omitempty"` // of the test images, for the learning curve: an oracle's figure
	Time            time.Time          `json:"time,omitzero"`
}

// AppendLog adds a line to train.jsonl. A value that is not finite is an error
// that names it, since JSON has no such numbers.
func (f *Folder) AppendLog(s Step) error {
	for name, v := range s.Losses {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("write %s: step %d: loss %s is %g", f.Path("train.jsonl"), s.Step, name, v)
		}
	}
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write %s: step %d: %w", f.Path("train.jsonl"), s.Step, err)
	}
	file, err := os.OpenFile(f.Path("train.jsonl"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n')) // in one call, so that lines never mix
	return errors.Join(err, file.Close())
}

// TruncateLog keeps the lines of train.jsonl up to and including the given step,
// as a run resumed from a checkpoint of that step needs, and drops a line cut
// short by a kill. A missing file stays missing.
func (f *Folder) TruncateLog(step int) error {
	log, err := f.Log()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.WriteFile("train.jsonl", func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		for _, s := range log {
			if s.Step > step {
				continue
			}
			if err := encoder.Encode(s); err != nil {
				return err
			}
		}
		return nil
	})
}

// Log reads train.jsonl. A last line without its line break is left out: a
// process was killed while writing it. A missing file is [os.ErrNotExist].
func (f *Folder) Log() ([]Step, error) {
	b, err := os.ReadFile(f.Path("train.jsonl"))
	if err != nil {
		return nil, err
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	var log []Step
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, len(b)+1)
	for n := 1; lines.Scan(); n++ {
		var s Step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("read %s: line %d: %w; remove the line", f.Path("train.jsonl"), n, err)
		}
		log = append(log, s)
	}
	return log, lines.Err()
}
