package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"thorax/framework/data"
	"thorax/framework/metric"
)

// Load reads and checks the experiment at path. Each of sets is an override
// "key=value" with a TOML value (a bare word counts as a string), applied in
// order before anything is checked: "seeds=[0]", "train.steps=10" for all rows,
// "data.size=64" for all blocks, "data.NAME.size=64" for one, and
// "method.NAME.latent=8" for the rows of a method or with that label's slug.
//
// Unknown keys, wrong types and values out of range are errors that name file,
// line and key, or the override, and the nearest valid key.
func Load(path string, m Methods, sets []string) (*Experiment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read experiment: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read experiment: %w", err)
	}
	return parse(path, text, m, sets)
}

// parse is Load on the bytes of the file at path.
func parse(path string, text []byte, m Methods, sets []string) (*Experiment, error) {
	d, err := newDocument(path, text)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if err := d.override(s, m); err != nil {
			return nil, err
		}
	}
	e := &Experiment{Dir: filepath.Dir(path), Report: DefaultReport(), methods: m}
	e.Name = name(path)
	if Slug(e.Name) != strings.ToLower(e.Name) {
		return nil, fmt.Errorf("%s: the file's name becomes a folder: need letters, digits, '-', '_' and '.' only", path)
	}
	if err := e.head(d.root); err != nil {
		return nil, d.locate(err, nil)
	}
	if err := e.blocks(d); err != nil {
		return nil, d.locate(err, nil)
	}
	if err := e.rows(d); err != nil {
		return nil, err
	}
	return e, nil
}

// head reads all but the data blocks and the rows.
func (e *Experiment) head(root map[string]any) error {
	keys := struct {
		Title  string   `toml:"title"`
		Seeds  []uint64 `toml:"seeds"`
		Report *Report  `toml:"report"`
	}{e.Name, nil, &e.Report}
	rest := map[string]any{}
	for _, key := range sortedKeys(root) {
		switch key {
		case "title", "seeds", "report":
			rest[key] = root[key]
		case "data", "method", "train": // read later
		default:
			return unknown(key, key, []string{"title", "seeds", "data", "method", "train", "report"})
		}
	}
	if err := decode("", rest, reflect.ValueOf(&keys).Elem()); err != nil {
		return err
	}
	e.Title, e.Seeds, e.Report = keys.Title, keys.Seeds, *keys.Report
	if len(e.Seeds) == 0 {
		return wrongf("seeds", "none given, need at least one, such as seeds = [0, 1, 2]")
	}
	for i, s := range e.Seeds {
		if slices.Contains(e.Seeds[:i], s) {
			return wrongf(element("seeds", i), "%d is listed twice", s)
		}
	}
	return e.Report.check(e.Dir)
}

// check checks names and resolves Published against dir.
func (r *Report) check(dir string) error {
	if len(r.Metrics) == 0 {
		return wrongf("report.metrics", "empty, need at least one, such as metrics = [\"auroc\"]")
	}
	for i, name := range r.Metrics {
		path := element("report.metrics", i)
		if _, err := metric.Parse(name); err != nil {
			return wrongf(path, "%v", err)
		}
		if slices.Contains(r.Metrics[:i], name) {
			return wrongf(path, "%q is listed twice", name)
		}
	}
	for i, name := range r.Formats {
		if msg := choice(name, formats); msg != "" {
			return wrongf(element("report.formats", i), "%s", msg)
		}
	}
	if r.Published != "" {
		written := r.Published
		r.Published = resolve(dir, written)
		if info, err := os.Stat(r.Published); err != nil || info.IsDir() {
			return wrongf("report.published", "%q, no file %s (paths are relative to the experiment)", written, r.Published)
		}
	}
	return nil
}

// resolve makes a path of an experiment in dir usable from here.
func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// tables returns the elements of [[kind]].
func (d *document) tables(kind string) ([]map[string]any, error) {
	value, ok := d.root[kind]
	if !ok {
		return nil, wrongf(kind, "missing, need at least one [[%s]] table", kind)
	}
	if _, single := value.(map[string]any); single {
		return nil, wrongf(kind, "is one table, need an array of tables: write [[%s]]", kind)
	}
	all, ok := listOf(value)
	if !ok {
		return nil, mismatch(kind, value, "[["+kind+"]] tables")
	}
	if len(all) == 0 {
		return nil, wrongf(kind, "empty, need at least one [[%s]] table", kind)
	}
	tables := make([]map[string]any, len(all))
	for i, v := range all {
		if tables[i], ok = v.(map[string]any); !ok {
			return nil, mismatch(element(kind, i), v, "a table")
		}
	}
	return tables, nil
}

// blocks reads the data blocks.
func (e *Experiment) blocks(d *document) error {
	tables, err := d.tables("data")
	if err != nil {
		return err
	}
	for i, t := range tables {
		path := element("data", i)
		o, err := readBlock(path, t)
		if err != nil {
			return err
		}
		root := o.Root
		o.Root = resolve(e.Dir, root)
		for j, other := range e.Data {
			if strings.EqualFold(o.Name, other.Name) {
				return wrongf(path, "has the name %q of the block on line %d; give one another name", o.Name, d.line(element("data", j)))
			}
			same := o
			same.Name = other.Name
			if reflect.DeepEqual(same, other) {
				return wrongf(path, "%q has the same configuration as the block %q on line %d", o.Name, other.Name, d.line(element("data", j)))
			}
		}
		e.Data = append(e.Data, o)
		e.roots = append(e.roots, root)
	}
	return nil
}

// readBlock reads and checks one data block; its root stays as written.
func readBlock(path string, table map[string]any) (data.Options, error) {
	o := data.DefaultOptions()
	if err := decode(path, table, reflect.ValueOf(&o).Elem()); err != nil {
		return o, err
	}
	err := checked(path, &o, o.Check(), "data") // completes the name
	return o, err
}

// Runs lists the runs: for each data block each row on it with each seed. No two
// runs share memory that a method could write to.
func (e *Experiment) Runs() ([]Run, error) {
	var runs []Run
	for i, block := range e.Data {
		for j, row := range e.Methods {
			if !slices.Contains(row.On, block.Name) {
				continue
			}
			for _, seed := range e.Seeds {
				keys, err := row.entry.decode(e.methods, row.path)
				if err != nil {
					return nil, fmt.Errorf("method.%s: %w", row.Method, err)
				}
				runs = append(runs, Run{
					Experiment: e.Name, Title: e.Title, Row: j, Data: row.on(block), Seed: seed,
					Method: row.Method, Preset: row.Preset, Label: row.Label, Slug: row.Slug,
					Train: row.Train, Keys: keys, root: e.roots[i],
					Dir: fmt.Sprintf("results/%s/%s/%s/seed-%d", e.Name, block.Name, row.Slug, seed),
				})
			}
		}
	}
	return runs, nil
}

// name is that of an experiment's folder of results: its file's without .toml,
// after the folders that lie between it and the last one called experiments.
// experiments/simsid/table2.toml is simsid-table2.
func name(path string) string {
	path = strings.TrimSuffix(path, ".toml")
	base := filepath.Base(path)
	full, err := filepath.Abs(path)
	if err != nil {
		return base
	}
	parts := strings.Split(filepath.ToSlash(full), "/")
	for i := len(parts) - 2; i >= 0; i-- {
		if parts[i] == "experiments" {
			return strings.Join(parts[i+1:], "-")
		}
	}
	return base
}
