package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// stamp is what tells quickly whether a file is still the one that was read.
type stamp struct {
	Size   int64  `json:"size"`
	Time   int64  `json:"time"` // of the last change, Unix nanoseconds
	SHA256 string `json:"sha256"`
}

// settled is how old a change must be before a stamp is trusted: a second write within the resolution
// of the file system's clock would not show.
const settled = 2 * time.Second

// manifest returns a line "path sha256" for each file behind the used items. Digests are kept in cacheDir, and a
// file is read again when its size or time of change differs.
func (f folder) manifest(cacheDir string, used []Item) ([]string, error) {
	root, err := filepath.Abs(f.root)
	if err != nil {
		return nil, fmt.Errorf("data.root: %w", err)
	}
	digest := sha256.Sum256([]byte(root))
	store := filepath.Join(cacheDir, "index-"+hex.EncodeToString(digest[:8])+".json")
	known := map[string]stamp{}
	if b, err := os.ReadFile(store); err == nil {
		if json.Unmarshal(b, &known) != nil {
			known = map[string]stamp{} // a damaged index is made anew
		}
	}
	var paths []string
	for _, it := range used {
		paths = append(paths, it.Path)
		for _, p := range []string{it.Mask, it.Lungs} {
			if p != "" {
				paths = append(paths, p)
			}
		}
	}
	fresh := map[string]stamp{}
	lines := make([]string, len(paths))
	var mu sync.Mutex
	changed := false
	err = parallel(len(paths), func(i int) error {
		name := f.path(paths[i])
		var now stamp
		info, err := os.Stat(name)
		if err == nil {
			now = stamp{Size: info.Size(), Time: info.ModTime().UnixNano()}
		}
		mu.Lock()
		old := known[paths[i]]
		mu.Unlock()
		now.SHA256 = old.SHA256
		read := err != nil || now != old || old.SHA256 == ""
		if read {
			b, err := readFile(name)
			if err != nil {
				return fmt.Errorf("image %s: %w", name, err)
			}
			sum := sha256.Sum256(b)
			now.SHA256 = hex.EncodeToString(sum[:])
		}
		lines[i] = paths[i] + " " + now.SHA256
		mu.Lock()
		defer mu.Unlock()
		changed = changed || read
		if !read || time.Since(time.Unix(0, now.Time)) > settled {
			fresh[paths[i]] = now
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if changed {
		for p, s := range known { // other experiments may use other files of this root
			if _, ok := fresh[p]; !ok {
				fresh[p] = s
			}
		}
		b, err := json.Marshal(fresh)
		if err != nil {
			return nil, err
		}
		if err := writeAtomic(store, func(w *os.File) error { _, err := w.Write(b); return err }); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// writeAtomic makes a file appear complete or not at all.
func writeAtomic(name string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// parallel calls do for 0..n-1 on all processors and returns the error of the lowest index.
func parallel(n int, do func(i int) error) error {
	errs := make([]error, n)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error { errs[i] = do(i); return nil })
	}
	g.Wait()
	count := 0
	var first error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if count++; first == nil {
			first = err
		}
	}
	if count > 1 {
		return fmt.Errorf("%w (and %d more; \"thorax data check\" lists them)", first, count-1)
	}
	return first
}
