package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// Folder is the folder of one run.
type Folder struct {
	Dir  string
	lock *os.File // nil: not held by us
}

// Open returns the run folder at dir, which must exist.
func Open(dir string) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open run: %s is a file, need a run folder", dir)
	}
	return &Folder{Dir: dir}, nil
}

// Create returns the run folder at dir and makes it, with its parents, if needed.
func Create(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create run: %w", err)
	}
	return Open(dir)
}

// Path returns the path of a file or folder of the run.
func (f *Folder) Path(elem ...string) string {
	return filepath.Join(append([]string{f.Dir}, elem...)...)
}

// WriteConfig replaces config.toml, the resolved configuration.
func (f *Folder) WriteConfig(toml []byte) error {
	return f.WriteFile("config.toml", func(w io.Writer) error {
		_, err := w.Write(toml)
		return err
	})
}

// Config reads config.toml. A missing file is [os.ErrNotExist].
func (f *Folder) Config() ([]byte, error) { return os.ReadFile(f.Path("config.toml")) }

// WriteFile replaces the named file of the run by what write gives; see [WriteFile].
func (f *Folder) WriteFile(name string, write func(io.Writer) error) error {
	return WriteFile(f.Path(name), write)
}

// tempSuffix ends the name of a file that is being written.
const tempSuffix = ".tmp"

// WriteFile replaces the file at path by what write gives: written under a
// temporary name in the same folder, synced, renamed, and the folder synced. A
// process killed at any moment leaves the old file or the new one. The folder is
// made if needed.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*"+tempSuffix)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			temp.Close()
			os.Remove(temp.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	buf := bufio.NewWriterSize(temp, 1<<16)
	if err := write(buf); err != nil {
		return err
	}
	if err := errors.Join(buf.Flush(), temp.Chmod(0o644), temp.Sync()); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir durable, where the file system can sync a folder.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// removeTemps deletes what a killed process was writing in dir.
func removeTemps(dir string) error {
	names, err := filepath.Glob(filepath.Join(escapeGlob(dir), ".*"+tempSuffix))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// escapeGlob quotes the characters of a path that filepath.Glob would interpret.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Slug turns a row's label into a folder name: lower case, runs of anything but
// letters, digits, '=', '.', '_' and '+' become one '-', and no '-' or '.' at
// either end. A label without such characters gives "".
func Slug(label string) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(label) {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("=._+", r) {
			gap = true
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('-')
		}
		gap = false
		b.WriteRune(r)
	}
	return strings.Trim(b.String(), "-.")
}
