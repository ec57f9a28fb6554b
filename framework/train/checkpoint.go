package train

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

// keep is how many checkpoints of a running run are kept.
const keep = 2

// A position is how far a run has come.
type position struct {
	phase   int     // phase to go on with
	step    int     // steps of it that are finished
	global  int     // steps of all phases that are finished
	seconds float64 // of training so far
}

// A checkpoint is the whole state of a run: every variable, optimiser state and
// the step counter among them, and the position.
type checkpoint struct {
	path   string
	arrays map[string]weights.Array
	position
}

const finalName = "final.safetensors"

func stepName(global, phase int) string {
	return fmt.Sprintf("step-%09d-%02d.safetensors", global, phase)
}

// save writes all variables of s to dir, whole or not at all, and removes all
// but the newest checkpoints. A variable that is not finite is an error that
// names it, and nothing is written.
func save(dir, name string, x *session.Session, s *nn.Scope, at position) error {
	arrays, err := snapshot(x, s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := weights.SaveSafetensors(filepath.Join(dir, name), arrays, at.meta()); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return prune(dir)
}

// snapshot returns all variables of s. One that is not finite is an error that
// names it.
func snapshot(x *session.Session, s *nn.Scope) (map[string]weights.Array, error) {
	vars := s.Variables()
	values, err := x.Get(vars)
	if err != nil {
		return nil, fmt.Errorf("read variables: %w", err)
	}
	arrays := make(map[string]weights.Array, len(vars))
	for i, v := range vars {
		shape := make([]int, len(values[i].Shape()))
		for k, d := range values[i].Shape() {
			shape[k] = int(d)
		}
		if v.DType == tf.Int64 {
			arrays[v.Path] = weights.Int64Array(shape, session.IntValues(values[i]))
			continue
		}
		f := session.Values(values[i])
		if !finite(f) {
			return nil, &notFinite{what: "variable " + v.Path}
		}
		arrays[v.Path] = weights.Float32Array(shape, f)
	}
	return arrays, nil
}

// meta is the position as a checkpoint's metadata.
func (at position) meta() map[string]string {
	return map[string]string{
		"format":  "thorax checkpoint 1",
		"phase":   strconv.Itoa(at.phase),
		"step":    strconv.Itoa(at.step),
		"global":  strconv.Itoa(at.global),
		"seconds": strconv.FormatFloat(at.seconds, 'f', 3, 64),
	}
}

// notFinite is the error of a loss or variable that is NaN or infinite.
type notFinite struct{ what string }

func (e *notFinite) Error() string { return e.what + " is not finite" }

func finite(v []float32) bool {
	for _, f := range v {
		if math.Float32bits(f)&0x7f800000 == 0x7f800000 {
			return false
		}
	}
	return true
}

// prune removes all but the newest step checkpoints, and all of them once the
// final one is there.
func prune(dir string) error {
	steps := list(dir)
	n := keep
	if _, err := os.Stat(filepath.Join(dir, finalName)); err == nil {
		n = 0
	}
	for _, name := range steps[:max(len(steps)-n, 0)] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweep removes what a killed process was writing in dir.
func sweep(dir string) error {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if n := e.Name(); strings.HasPrefix(n, ".") && strings.HasSuffix(n, ".tmp") {
			if err := os.Remove(filepath.Join(dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// list returns the step checkpoints in dir, oldest first.
func list(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if n := e.Name(); strings.HasPrefix(n, "step-") && strings.HasSuffix(n, ".safetensors") {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}

// newest returns the checkpoint to go on from, or nil. One that cannot be read
// is passed over for the one before it, with a note.
func newest(dir string, note func(string)) *checkpoint {
	names := list(dir)
	if _, err := os.Stat(filepath.Join(dir, finalName)); err == nil {
		names = append(names, finalName)
	}
	for _, name := range slices.Backward(names) {
		c, err := load(filepath.Join(dir, name))
		if err == nil {
			return c
		}
		note(fmt.Sprintf("%v; going on from an earlier checkpoint", err))
	}
	return nil
}

func load(path string) (*checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	arrays, meta, err := weights.ReadSafetensors(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	c := &checkpoint{path: path, arrays: arrays}
	for _, field := range []struct {
		key string
		to  *int
	}{{"phase", &c.phase}, {"step", &c.step}, {"global", &c.global}} {
		if *field.to, err = strconv.Atoi(meta[field.key]); err != nil {
			return nil, fmt.Errorf("checkpoint %s: no %s in its metadata: not a checkpoint of thorax", path, field.key)
		}
	}
	c.seconds, _ = strconv.ParseFloat(meta["seconds"], 64)
	return c, nil
}

// restore gives every variable of s its value in c. A missing or misshapen one
// is an error that names it.
func (c *checkpoint) restore(x *session.Session, s *nn.Scope) error {
	l := x.Loader()
	for _, v := range s.Variables() {
		a, ok := c.arrays[v.Path]
		if !ok {
			return fmt.Errorf("checkpoint %s has no variable %s: it was made by another version of the method", c.path, v.Path)
		}
		var err error
		if v.DType == tf.Int64 {
			var ints []int64
			if ints, err = a.Int64(); err == nil {
				err = l.Set(v, session.Ints(a.Shape, ints))
			}
		} else {
			var floats []float32
			if floats, err = a.Float32(); err == nil {
				err = l.Set(v, session.Floats(a.Shape, floats))
			}
		}
		if err != nil {
			return fmt.Errorf("checkpoint %s: %w", c.path, err)
		}
	}
	if err := l.Flush(); err != nil {
		return fmt.Errorf("checkpoint %s: %w", c.path, err)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
