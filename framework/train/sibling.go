package train

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"thorax/framework"
	"thorax/framework/record"
	"thorax/graphs/weights"
)

// adopt gives a run that has no checkpoint yet that of its sibling: a finished run
// of the same experiment, training images, seed and program whose keys differ in
// scoring alone, on whatever test images, and which went through at least as many
// phases. Training would have given the same bits. It returns nil where there is
// no sibling, where the user asked for a repetition, and where a learning curve is
// wanted, because a curve is one of scores.
func (r *runner) adopt(m framework.Method, phases int) (*checkpoint, error) {
	r.run.TrainedAs = ""
	if r.Redo || r.Run.Train.CurveEvery > 0 || r.Data == nil {
		return nil, nil
	}
	runs, err := record.Find(filepath.Dir(filepath.Dir(filepath.Dir(r.Dir()))))
	if err != nil {
		return nil, nil
	}
	for _, e := range runs {
		sibling := e.Run
		if e.Err != nil || !r.shares(sibling) {
			continue
		}
		c, err := load(e.Path("checkpoint", finalName))
		if err != nil || c.phase < phases || !r.scorable(m, c) {
			continue
		}
		r.run.TrainedAs = cmp.Or(sibling.TrainedAs, sibling.Label+" on "+sibling.Data)
		if err := r.folder.WriteRun(r.run); err != nil { // before the checkpoint, which a killed run would take for its own
			return nil, err
		}
		if err := r.take(e.Folder); err != nil {
			return nil, err
		}
		r.Progress.Note(fmt.Sprintf("trained already, as %s: only the scoring differs", r.run.TrainedAs))
		return c, nil
	}
	return nil, nil
}

// shares reports whether training this run would repeat that of sibling.
func (r *runner) shares(sibling record.Run) bool {
	now := r.run
	return sibling.Status == record.Complete && sibling.Training == now.Training && now.Training != "" &&
		sibling.TensorFlow == now.TensorFlow && sibling.CPU == now.CPU && sibling.OneDNN == now.OneDNN
}

// scorable reports whether c has all variables that scoring reads: a key may also
// leave out what its score does not need.
func (r *runner) scorable(m framework.Method, c *checkpoint) bool {
	s, _, _, err := scoring(m, r.Run.Seed, r.Run.Data.Size, r.Run.Train.ScoreBatch)
	if err != nil {
		return false
	}
	for _, v := range s.Variables() {
		if _, ok := c.arrays[v.Path]; !ok {
			return false
		}
	}
	return true
}

// take copies log and checkpoint of a sibling, the checkpoint last.
func (r *runner) take(sibling *record.Folder) error {
	log, err := os.ReadFile(sibling.Path("train.jsonl"))
	if err == nil {
		err = r.folder.WriteFile("train.jsonl", func(w io.Writer) error {
			_, err := w.Write(log)
			return err
		})
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	final := r.folder.Path("checkpoint", finalName)
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return err
	}
	if os.Link(sibling.Path("checkpoint", finalName), final) == nil { // no bytes where the file system can
		return nil
	}
	return r.folder.WriteFile("checkpoint/"+finalName, func(w io.Writer) error {
		f, err := os.Open(sibling.Path("checkpoint", finalName))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
}

// executable is the SHA-256 of the running program: the same revision with changes that
// were never committed is another program. It is "" where it cannot be read.
var executable = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	sum, _ := weights.Checksum(path)
	return sum
})
