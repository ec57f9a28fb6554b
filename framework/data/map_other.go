//go:build !linux && !darwin

package data

import (
	"io"
	"os"
)

// mapFile reads n bytes of a file, where memory mapping is not used.
func mapFile(f *os.File, n int) ([]byte, func() error, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(f, b)
	return b, func() error { return nil }, err
}
