package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// override applies one "key=value" of the command line.
func (d *document) override(text string, m Methods) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("--set %s: %s", text, fmt.Sprintf(format, args...))
	}
	key, raw, ok := strings.Cut(text, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" || slices.Contains(strings.Split(key, "."), "") {
		return fail("need key=value, such as train.steps=100")
	}
	value := overrideValue(strings.TrimSpace(raw))
	kind, rest, nested := strings.Cut(key, ".")
	var targets []string // tables, by path
	switch {
	case nested && (kind == "data" || kind == "method"):
		blocks, err := d.tables(kind)
		if err != nil {
			return d.locate(err, nil)
		}
		var names []string
		for i, block := range blocks {
			for _, name := range called(kind, block) {
				names = append(names, name)
				if after, ok := strings.CutPrefix(rest, name+"."); ok {
					targets = append(targets, element(kind, i))
					key = after
					break
				}
			}
		}
		switch {
		case len(targets) > 0:
		case kind == "data": // all blocks
			key = rest
			for i := range blocks {
				targets = append(targets, element(kind, i))
			}
		default:
			name, _, _ := strings.Cut(rest, ".")
			return fail("%s", suggest("no row", name, slices.Compact(slices.Sorted(slices.Values(names)))))
		}
	case nested && kind == "train": // over the rows' own train tables too
		targets = append(targets, "")
		rows, _ := listOf(d.root["method"])
		for i := range rows {
			targets = append(targets, element("method", i))
		}
	default:
		targets = []string{""}
	}
	for _, target := range targets {
		if err := d.put(target, key, value, text, m); err != nil {
			return fail("%v", err)
		}
	}
	return nil
}

// called lists the names by which an override may address a block.
func called(kind string, block map[string]any) []string {
	var names []string
	word := func(key string) string { s, _ := block[key].(string); return s }
	if kind == "method" {
		names = []string{word("name"), Slug(word("label")), word("label")}
	} else {
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

// put writes the value into the table at target ("" is the file itself).
func (d *document) put(target, key string, value any, text string, m Methods) error {
	table := d.root
	i := -1
	kind := ""
	if target != "" {
		k, rest, _ := strings.Cut(target, "[")
		fmt.Sscanf(rest, "%d]", &i)
		kind = k
		all, _ := listOf(d.root[kind])
		t, ok := all[i].(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no table", target)
		}
		table = t
		if kind == "method" && slices.Contains(trainKeys(), key) && !hasKey(m, table["name"], key) {
			key = "train." + key // method.ae.steps means the budget
		}
	}
	path := strings.Split(key, ".")
	if n := len(path); n >= 2 && path[n-2] == "train" && (path[n-1] == "steps" || path[n-1] == "epochs") {
		if train, ok := table["train"].(map[string]any); ok { // the other unit gives way
			other := map[string]string{"steps": "epochs", "epochs": "steps"}[path[n-1]]
			fresh := map[string]any{}
			for k, v := range train {
				if k != other {
					fresh[k] = v
				}
			}
			table["train"] = fresh
		}
	}
	fresh, err := put(target, table, path, value)
	if err != nil {
		return err
	}
	if target == "" {
		d.root = fresh
	} else {
		all, _ := listOf(d.root[kind])
		all = slices.Clone(all)
		all[i] = fresh
		d.root[kind] = all
	}
	full := join(target, key)
	for p := range d.at { // what the file said there is gone
		if strings.HasPrefix(p, full+".") || strings.HasPrefix(p, full+"[") {
			delete(d.at, p)
		}
	}
	delete(d.at, full)
	d.set[full] = text
	return nil
}

// hasKey reports whether the method has the key itself.
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
