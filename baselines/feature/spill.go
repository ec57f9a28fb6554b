package feature

import (
	"fmt"
	"os"
	"unsafe"
)

// A spill keeps vectors of d features in a temporary file, not in memory, until
// it is known which few are wanted.
type spill struct {
	d    int
	n    int
	file *os.File
	name string
}

func newSpill(d int) (*spill, error) {
	f, err := os.CreateTemp("", "thorax-patches-*")
	if err != nil {
		return nil, fmt.Errorf("keep patch features: %w; set TMPDIR to a folder with room", err)
	}
	// Removed at once where the system allows it, so that a killed run leaves
	// nothing; else in close.
	os.Remove(f.Name())
	return &spill{d: d, file: f, name: f.Name()}, nil
}

// add appends vectors, row-major.
func (s *spill) add(v []float32) error {
	if len(v) == 0 {
		return nil
	}
	if _, err := s.file.Write(raw(v)); err != nil {
		return fmt.Errorf("keep patch features: %w; set TMPDIR to a folder with room, or max_patches", err)
	}
	s.n += len(v) / s.d
	return nil
}

// rows returns the vectors of the given indices.
func (s *spill) rows(indices []int) ([]float32, error) {
	out := make([]float32, len(indices)*s.d)
	for i, at := range indices {
		if _, err := s.file.ReadAt(raw(out[i*s.d:][:s.d]), 4*int64(at)*int64(s.d)); err != nil {
			return nil, fmt.Errorf("read patch features: %w", err)
		}
	}
	return out, nil
}

func (s *spill) close() {
	if s != nil {
		s.file.Close()
		os.Remove(s.name)
	}
}

// raw is the memory of v.
func raw(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}
