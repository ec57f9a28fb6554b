package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"thorax/framework/data"
	"thorax/framework/spell"
)

// entry is a row before its keys are decoded into the method's struct.
type entry struct {
	method string
	preset string
	keys   map[string]any // without the keys every row has
}

// maxRows bounds what vary can expand to.
const maxRows = 1000

// rowKeys are the keys that every row has beside those of its method.
type rowKeys struct {
	Name   string   `toml:"name"`
	Label  string   `toml:"label"`
	On     []string `toml:"on"`
	Preset string   `toml:"preset"`
	Data   struct {
		Contamination *float64 `toml:"contamination"`
	} `toml:"data"`
}

var shared = []string{"name", "label", "on", "preset", "data", "train", "vary"}

// rows reads the rows and expands vary.
func (e *Experiment) rows(d *document) error {
	tables, err := d.tables("method")
	if err != nil {
		return d.locate(err, nil)
	}
	common := DefaultTrain()
	if err := common.overlay("train", d.root["train"]); err != nil {
		return d.locate(err, nil)
	}
	seen := map[string]Row{} // by slug, and by configuration on a data block
	for i, t := range tables {
		path := element("method", i)
		variants, err := expand(path, t, d.at)
		if err != nil {
			return d.locate(err, nil)
		}
		for _, v := range variants {
			if len(e.Methods) == maxRows {
				return d.locate(wrongf(join(path, "vary"), "expands to more than %d rows", maxRows), nil)
			}
			row, err := e.row(path, v, common)
			if err == nil {
				err = e.distinct(row, seen, d)
			}
			if err != nil {
				return d.locate(err, v.from)
			}
			e.Methods = append(e.Methods, row)
		}
	}
	return nil
}

// row reads and checks one row.
func (e *Experiment) row(path string, v variant, common Train) (Row, error) {
	var head rowKeys
	given, own := map[string]any{}, map[string]any{}
	for key, value := range v.table {
		switch key {
		case "name", "label", "on", "preset", "data":
			given[key] = value
		case "train", "vary":
		default:
			own[key] = value
		}
	}
	if err := decode(path, given, reflect.ValueOf(&head).Elem()); err != nil {
		return Row{}, err
	}
	row := Row{Method: head.Name, Label: head.Label, Preset: head.Preset, On: head.On, Contamination: head.Data.Contamination, Train: common, path: path}
	row.entry = &entry{head.Name, head.Preset, own}
	var err error
	if row.Keys, err = row.entry.decode(e.methods, path); err != nil {
		return Row{}, err
	}
	if err := row.Train.overlay(join(path, "train"), v.table["train"]); err != nil {
		return Row{}, err
	}
	if row.Label == "" {
		row.Label = row.Method
	}
	row.Label += v.suffix
	if row.Slug = Slug(row.Label); row.Slug == "" || len(row.Slug) > 200 {
		return Row{}, wrongf(join(path, "label"), "%q, need 1 to 200 letters or digits: it becomes a folder", row.Label)
	}
	if err := e.on(&row, given["on"] != nil); err != nil {
		return Row{}, err
	}
	for _, o := range e.Data {
		o = row.on(o)
		if err := o.Check(); err != nil {
			return Row{}, wrongf(join(path, "data.contamination"), "%s", strings.TrimPrefix(err.Error(), "data.contamination: "))
		}
	}
	return row, nil
}

// on returns the data block as the row has it.
func (r *Row) on(block data.Options) data.Options {
	if r.Contamination != nil {
		block.Contamination = *r.Contamination
	}
	return block
}

// on checks the names of the row's data blocks; without any the row is on all.
func (e *Experiment) on(row *Row, given bool) error {
	names := make([]string, len(e.Data))
	for i, o := range e.Data {
		names[i] = o.Name
	}
	if !given {
		row.On = names
		return nil
	}
	if len(row.On) == 0 {
		return wrongf(join(row.path, "on"), "empty, need data blocks (%s); leave it out for all", list(names))
	}
	for i, name := range row.On {
		path := element(join(row.path, "on"), i)
		if !slices.Contains(names, name) {
			return wrongf(path, "%s", suggest("no data block", name, names))
		}
		if slices.Contains(row.On[:i], name) {
			return wrongf(path, "%q is listed twice", name)
		}
	}
	return nil
}

// distinct refuses a row that one in seen already is, and adds it there.
func (e *Experiment) distinct(row Row, seen map[string]Row, d *document) error {
	if other, ok := seen["slug "+row.Slug]; ok {
		return wrongf(row.path, "row %q would use the folder %q of row %q on line %d; give one another label",
			row.Label, row.Slug, other.Label, d.line(other.path))
	}
	seen["slug "+row.Slug] = row
	for _, block := range e.Data {
		if !slices.Contains(row.On, block.Name) {
			continue
		}
		keys, err := Run{Data: row.on(block), Method: row.Method, Train: row.Train, Keys: row.Keys}.relevant()
		if err != nil {
			return wrongf(row.path, "%v", err)
		}
		id := fmt.Sprintf("keys %v %s", keys, block.Name) // fmt sorts a map's keys
		if other, ok := seen[id]; ok {
			return wrongf(row.path, "row %q resolves to the same configuration as row %q on line %d",
				row.Label, other.Label, d.line(other.path))
		}
		seen[id] = row
	}
	return nil
}

// decode returns a fresh method struct: defaults, then preset, then keys, checked.
func (en *entry) decode(m Methods, path string) (any, error) {
	if en.method == "" {
		return nil, wrongf(join(path, "name"), "missing, need one of %s", list(m.Names()))
	}
	if !slices.Contains(m.Names(), en.method) {
		return nil, wrongf(join(path, "name"), "%s", suggest("no method", en.method, m.Names()))
	}
	keys, err := m.New(en.method)
	if err != nil {
		return nil, wrongf(join(path, "name"), "%v", err)
	}
	target := reflect.ValueOf(keys)
	if target.Kind() != reflect.Pointer || target.Elem().Kind() != reflect.Struct {
		return nil, wrongf(join(path, "name"), "%T is no pointer to a struct", keys)
	}
	if en.preset != "" {
		if err := applyPreset(target, en.preset, join(path, "preset")); err != nil {
			return nil, err
		}
	}
	if err := decodeOwn(path, en.keys, target.Elem()); err != nil {
		return nil, err
	}
	if c, ok := keys.(interface{ Check() error }); ok {
		if err := checked(path, keys, c.Check(), "method", en.method); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// decodeOwn decodes the method's keys; its suggestions know the keys of every row.
func decodeOwn(path string, keys map[string]any, target reflect.Value) error {
	valid := slices.Clone(shared)
	for _, f := range fieldsOf(target) {
		valid = append(valid, f.key)
	}
	for _, key := range sortedKeys(keys) {
		if slices.Contains(valid, key) {
			continue
		}
		if slices.Contains(trainKeys(), key) {
			return wrongf(join(path, key), "unknown key; did you mean train.%s?", key)
		}
		return unknown(join(path, key), key, valid)
	}
	return decode(path, keys, target)
}

func applyPreset(target reflect.Value, name, path string) error {
	var presets map[string]any
	if p, ok := target.Interface().(interface{ Presets() map[string]any }); ok {
		presets = p.Presets()
	}
	if len(presets) == 0 {
		return wrongf(path, "%q, but the method has no presets", name)
	}
	preset, ok := presets[name]
	if !ok {
		return wrongf(path, "%s", suggest("no preset", name, sortedKeys(presets)))
	}
	from := reflect.ValueOf(preset)
	if from.Type() != target.Type() || from.IsNil() {
		return wrongf(path, "%q is a %T, not a %s", name, preset, target.Type())
	}
	target.Elem().Set(from.Elem())
	return nil
}

func suggest(what, name string, valid []string) string {
	if near := spell.Nearest(name, valid); near != "" {
		return fmt.Sprintf("%s %q; did you mean %q?", what, name, near)
	}
	return fmt.Sprintf("%s %q, need one of %s", what, name, list(valid))
}

func trainKeys() []string {
	var keys []string
	for _, f := range fieldsOf(reflect.ValueOf(Train{})) {
		keys = append(keys, f.key)
	}
	return keys
}

// overlay writes a train table over t; a budget replaces the one below it,
// whichever unit either has.
func (t *Train) overlay(path string, value any) error {
	if value == nil {
		return nil
	}
	table, ok := value.(map[string]any)
	if !ok {
		return mismatch(path, value, "a table")
	}
	_, steps := table["steps"]
	_, epochs := table["epochs"]
	if steps || epochs {
		t.Steps, t.Epochs = 0, 0
	}
	if err := decode(path, table, reflect.ValueOf(t).Elem()); err != nil {
		return err
	}
	return checked(path, t, t.Check())
}

// Slug turns a label into a folder name: lower case, with one '-' for each run of
// characters other than letters, digits, '.', '_', '=' and '+', and neither '-'
// nor '.' at its ends. It is empty for a label without letters and digits.
func Slug(label string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(label) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._=+", r) {
			b.WriteRune(r)
		} else if !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	slug := strings.Trim(b.String(), "-.")
	if !strings.ContainsFunc(slug, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return ""
	}
	return slug
}
