//go:build linux || darwin

package data

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps n > 0 bytes of a file for reading.
func mapFile(f *os.File, n int) ([]byte, func() error, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return b, func() error { return unix.Munmap(b) }, nil
}
