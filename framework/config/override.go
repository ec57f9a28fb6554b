package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/data"
)

// override applies one "key=value" of the command line.
func (d *document) override(text string, m Methods) error {
	key, raw, ok := strings.Cut(text, "=")
	key = strings.TrimSpace(key)
	if !ok || slices.Contains(strings.Split(key, "."), "") {
		return fmt.Errorf("--set %s: need key=value, such as train.steps=100", text)
	}
	targets, key, err := d.targets(key)
	if err != nil {
		return fmt.Errorf("--set %s: %w", text, err)
	}
	value := overrideValue(strings.TrimSpace(raw))
	for _, target := range targets {
		path, err := d.assign(target, key, value, m)
		if w, ok := errors.AsType[*wrong](err); ok {
			return fmt.Errorf("--set %s: %s: %s", text, d.display(w.path), w.msg)
		}
		maps.DeleteFunc(d.at, func(p string, _ int) bool { // what the file says there is gone
			return p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[")
		})
		for ; path != target && path != ""; path = parent(path) {
			if _, ok := d.at[path]; !ok { // the key itself, and tables that it made
				d.set[path] = text
			}
		}
	}
	return nil
}

// targets returns the paths of the tables that an override's key speaks of ("" is
// the file itself) and the key inside them.
func (d *document) targets(key string) ([]string, string, error) {
	kind, rest, nested := strings.Cut(key, ".")
	blocks, _ := listOf(d.root[kind])
	var names, targets []string
	inside := rest
	switch {
	case kind == "train" && nested: // over the rows' own train tables too
		targets = append(targets, "")
		rows, _ := listOf(d.root["method"])
		for i := range rows {
			targets = append(targets, element("method", i))
		}
		return targets, key, nil
	case kind != "data" && kind != "method" || !nested:
		return []string{""}, key, nil
	}
	for i := range blocks {
		for _, name := range d.names(kind, i) {
			if after, ok := strings.CutPrefix(rest, name+"."); ok {
				targets, inside = append(targets, element(kind, i)), after
				if kind == "data" && blockKey(rest) && !blockKey(after) {
					inside = rest // "phantom" is a set and a key
				}
				break
			}
		}
		names = append(names, d.names(kind, i)...)
	}
	switch {
	case len(targets) > 0:
	case kind == "data":
		for i := range blocks {
			targets = append(targets, element(kind, i))
		}
	default:
		name, _, _ := strings.Cut(rest, ".")
		return nil, "", errors.New(suggest("no row", name, slices.Compact(slices.Sorted(slices.Values(names)))))
	}
	return targets, inside, nil
}

// blockKey reports whether a dotted key begins with one of a data block.
func blockKey(key string) bool {
	first, _, _ := strings.Cut(key, ".")
	return slices.ContainsFunc(fieldsOf(reflect.ValueOf(data.Options{})), func(f field) bool { return f.key == first })
}

// names lists the names by which an override may address a block.
func (d *document) names(kind string, i int) []string {
	blocks, _ := listOf(d.root[kind])
	block, _ := blocks[i].(map[string]any)
	word := func(key string) string { s, _ := block[key].(string); return s }
	names := []string{word("name"), Slug(word("label"))}
	if kind == "data" {
		names = []string{word("name"), fmt.Sprintf("%s-%v", word("set"), block["size"]), word("set")}
	}
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

// overrideValue reads a TOML value; what is none is a string.
func overrideValue(raw string) any {
	var table map[string]any
	if _, err := toml.Decode("v = "+raw, &table); err != nil || len(table) != 1 {
		return raw
	}
	return table["v"]
}

// assign writes the value into the table at target and returns its full path.
func (d *document) assign(target, key string, value any, m Methods) (string, error) {
	if target == "" {
		fresh, err := put("", replaceBudget(d.root, key), strings.Split(key, "."), value)
		if err == nil {
			d.root = fresh
		}
		return key, err
	}
	kind, index, _ := strings.Cut(target, "[")
	var i int
	if _, err := fmt.Sscanf(index, "%d]", &i); err != nil {
		return "", wrongf(target, "%v", err)
	}
	all, _ := listOf(d.root[kind])
	table, ok := all[i].(map[string]any)
	if !ok {
		return "", mismatch(target, all[i], "a table")
	}
	if kind == "method" && slices.Contains(trainKeys(), key) && !hasKey(m, table["name"], key) {
		key = "train." + key // method.ae.steps can only mean the budget
	}
	fresh, err := put(target, replaceBudget(table, key), strings.Split(key, "."), value)
	if err != nil {
		return "", err
	}
	all = slices.Clone(all)
	all[i] = fresh
	d.root[kind] = all
	return join(target, key), nil
}

// replaceBudget returns the table without the budget, in steps or epochs, that a
// new one at key replaces.
func replaceBudget(table map[string]any, key string) map[string]any {
	train, ok := table["train"].(map[string]any)
	if !ok || key != "train.steps" && key != "train.epochs" {
		return table
	}
	table, train = maps.Clone(table), maps.Clone(train)
	delete(train, "steps")
	delete(train, "epochs")
	table["train"] = train
	return table
}

// hasKey reports whether the method itself has the key.
func hasKey(m Methods, name any, key string) bool {
	s, _ := name.(string)
	if !slices.Contains(m.Names(), s) {
		return false
	}
	keys, err := m.New(s)
	if err != nil {
		return false
	}
	v := reflect.ValueOf(keys)
	return v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct &&
		slices.ContainsFunc(fieldsOf(v.Elem()), func(f field) bool { return f.key == key })
}
