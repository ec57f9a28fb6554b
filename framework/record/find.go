package record

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Entry is one run folder found below a root.
type Entry struct {
	*Folder
	Run Run   // zero but for the names and the seed of its path where Err is set
	Err error // run.json is missing or unreadable
}

// State is what became of a run: Complete, Failed, Running (a process works on
// it) or Interrupted (nothing does: start it again to go on).
type State string

// Interrupted is the state of a run whose process ended without a word.
const Interrupted State = "interrupted"

// State tells a run at work from one that was killed.
func (e Entry) State() State {
	if e.Err == nil && e.Run.Status != Running {
		return State(e.Run.Status)
	}
	if _, held := e.Locked(); held {
		return State(Running)
	}
	return Interrupted
}

// Find returns all runs in and below root, complete or not, sorted by path in
// natural order (seed-2 before seed-10). A run is a folder seed-N, or one with a
// run.json; folders inside a run are not searched.
func Find(root string) ([]Entry, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, fmt.Errorf("find runs: %w", err)
	}
	var entries []Entry
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		_, seeded := seedOf(path)
		_, statErr := os.Stat(filepath.Join(path, "run.json"))
		if !seeded && statErr != nil {
			return nil
		}
		entries = append(entries, read(path))
		return fs.SkipDir
	})
	if err != nil {
		return nil, fmt.Errorf("find runs: %w", err)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return slices.CompareFunc(parts(a.Dir), parts(b.Dir), compareNatural)
	})
	return entries, nil
}

// read reads the run at dir. Where run.json cannot be read, the names come from
// the path EXPERIMENT/DATA/METHOD/seed-N.
func read(dir string) Entry {
	e := Entry{Folder: &Folder{Dir: dir}}
	if e.Run, e.Err = e.Folder.Run(); e.Err == nil {
		return e
	}
	if errors.Is(e.Err, os.ErrNotExist) {
		e.Err = fmt.Errorf("%s: no run.json, the run never started: %w; start it again", dir, os.ErrNotExist)
	}
	full := dir
	if abs, err := filepath.Abs(dir); err == nil {
		full = abs
	}
	p := parts(full)
	e.Run.Seed, _ = seedOf(full)
	for i, name := range []*string{&e.Run.Label, &e.Run.Data, &e.Run.Experiment} {
		if at := len(p) - 2 - i; at >= 0 {
			*name = p[at]
		}
	}
	return e
}

func seedOf(path string) (int64, bool) {
	digits, ok := strings.CutPrefix(filepath.Base(path), "seed-")
	seed, err := strconv.ParseInt(digits, 10, 64)
	return seed, ok && err == nil
}

func parts(path string) []string { return strings.Split(filepath.ToSlash(path), "/") }

// compareNatural compares runs of digits by value and the rest by bytes.
func compareNatural(a, b string) int {
	for x, y := a, b; ; {
		i, j := digits(x), digits(y)
		if i == 0 || j == 0 {
			if x == "" || y == "" || x[0] != y[0] {
				return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
			}
			x, y = x[1:], y[1:]
			continue
		}
		m, n := strings.TrimLeft(x[:i], "0"), strings.TrimLeft(y[:j], "0")
		if c := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n)); c != 0 {
			return c
		}
		x, y = x[i:], y[j:]
	}
}

// digits is the length of the run of digits at the start of s.
func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}
