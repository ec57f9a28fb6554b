package command

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"

	"thorax/framework/data"
	"thorax/framework/record"
	"thorax/framework/report"
)

// runSets opens the data sets that the runs' config.toml name, once each.
type runSets struct {
	cache string
	root  string // of the set; "" takes that of config.toml
	sets  map[string]*data.Dataset
}

func newRunSets(cache, root string) runSets {
	return runSets{cache: filepath.Clean(cache), root: root, sets: map[string]*data.Dataset{}}
}

// errNoSet is the error of a run that was imported.
var errNoSet = errors.New("names no data set: its scores or its model were imported")

// open opens the set of a run and makes sure that its images are those that the run
// saw. The root in config.toml is relative to the experiment file, so the folders
// where those usually lie are tried.
func (m *runSets) open(e record.Entry) (*data.Dataset, error) {
	if d := m.sets[e.Run.Data]; d != nil {
		return d, nil
	}
	o, err := dataOptions(e)
	if err != nil {
		return nil, err
	}
	if o.Set == "none" {
		return nil, fmt.Errorf("%s: %w", e.Dir, errNoSet)
	}
	roots := []string{m.root}
	if m.root == "" {
		roots = []string{o.Root}
		for _, dir := range experimentFolders() {
			roots = append(roots, filepath.Join(dir, o.Root))
		}
		roots = slices.Compact(roots) // an absolute root is the same from everywhere
	}
	var first error
	for _, root := range roots {
		if o.Set != "phantom" {
			o.Root = root
		}
		d, err := data.Open(o, m.cache)
		if err == nil {
			files, sum := d.Fingerprint()
			if sum != e.Run.Fingerprint.SHA256 && e.Run.Fingerprint.SHA256 != "" {
				d.Close()
				return nil, fmt.Errorf("%s holds other images (%d files) than the run saw (%d)", cmp.Or(root, "the generated set"), files, e.Run.Fingerprint.Files)
			}
			m.sets[e.Run.Data] = d
			return d, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("%w; name its folder with --data", first)
}

// experimentFolders are the folder experiments and those in it, where it exists.
func experimentFolders() []string {
	dirs := []string{"experiments"}
	filepath.WalkDir("experiments", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != "experiments" {
			dirs = append(dirs, path)
		}
		return nil // what cannot be read holds no experiment for us
	})
	return dirs
}

func (m *runSets) close() {
	for _, d := range m.sets {
		d.Close()
	}
}

// images gives the test images of every data set of the runs to a report, or says why
// they cannot be had. Whether a row trained on contaminated images makes no difference
// to them, so the first complete run that names its set serves all.
func (m *runSets) images(entries []record.Entry) (images map[string]report.Images, missing map[string]error) {
	images, missing = map[string]report.Images{}, map[string]error{}
	for _, e := range entries {
		set := e.Run.Data
		if images[set] != nil || e.State() != record.State(record.Complete) || missing[set] != nil && !errors.Is(missing[set], errNoSet) {
			continue
		}
		d, err := m.open(e)
		if err != nil {
			missing[set] = err
			continue
		}
		images[set] = newTestImages(d)
		delete(missing, set)
	}
	return images, missing
}

// dataOptions reads the data block of a run's config.toml.
func dataOptions(e record.Entry) (data.Options, error) {
	c := struct {
		Data data.Options `toml:"data"`
	}{data.DefaultOptions()}
	text, err := e.Config()
	if err != nil {
		return c.Data, fmt.Errorf("%w; without its config.toml the run %w", err, errNoSet)
	}
	if _, err := toml.Decode(string(text), &c); err != nil {
		return c.Data, fmt.Errorf("%s: %w", e.Path("config.toml"), err)
	}
	return c.Data, nil
}

// testImages are the test images of a data set by path.
type testImages struct {
	data  *data.Dataset
	index map[string]int
}

func newTestImages(d *data.Dataset) testImages {
	t := testImages{data: d, index: map[string]int{}}
	for i, item := range d.Items(data.Test) {
		t.index[item.Path] = i
	}
	return t
}

// Pixels implements [report.Images].
func (t testImages) Pixels(path string) (w, h int, v []uint8, ok bool) {
	i, ok := t.index[path]
	if !ok {
		return 0, 0, nil, false
	}
	return t.data.Size(), t.data.Size(), t.data.Grey(data.Test, i), true
}
