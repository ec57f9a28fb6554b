package config

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// TOML returns the resolved configuration: every key of the run, defaults
// included, in a fixed order, so that equal runs give equal bytes. The root of
// the data block is written as the experiment file has it.
func (r Run) TOML() ([]byte, error) {
	sections, err := r.sections()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	write(&b, "", sections)
	return []byte(b.String()), nil
}

// Hash identifies what the run's results depend on: the first 16 hexadecimal
// digits of the SHA-256 over the data block, the method with its keys, the train
// block and the seed. Names, labels, the title and the report are no part of it;
// neither is the preset, because the keys it set are.
func (r Run) Hash() string {
	keys, err := r.relevant()
	if err != nil {
		panic("config: hash of a run that was not made by Runs: " + err.Error())
	}
	return digest(keys)
}

// Training identifies what the run's variables depend on: what the caller learns
// from, images and program, and what Hash has but the data block, whose test
// images do not matter, and the keys that enter the score alone.
func (r Run) Training(from string) string {
	keys, err := r.relevant()
	if err != nil {
		panic("config: hash of a run that was not made by Runs: " + err.Error())
	}
	maps.DeleteFunc(keys, func(k string, _ any) bool { return strings.HasPrefix(k, "data.") || k == "train.score_batch" })
	keys["from"] = from
	for _, f := range fieldsOf(reflect.ValueOf(r.Keys).Elem()) {
		if f.scoring {
			delete(keys, join("method", f.key))
		}
	}
	return digest(keys)
}

// digest is the first 16 hexadecimal digits of the SHA-256 over keys and values.
func digest(keys map[string]any) string {
	sum := sha256.New()
	for _, k := range sortedKeys(keys) {
		fmt.Fprintf(sum, "%s = %s\n", k, keys[k])
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

// Diff compares the stored configuration of a run with this one and returns the
// keys that enter Hash and differ, in alphabetical order, as "key: old → new"
// with "none" for a key one side lacks. It is empty if and only if the hashes agree.
func (r Run) Diff(resolved []byte) []string {
	old, err := Relevant(resolved)
	if err != nil {
		return []string{fmt.Sprintf("config.toml: not readable (%v)", err)}
	}
	now, err := r.relevant()
	if err != nil {
		return []string{err.Error()}
	}
	var diff []string
	for _, k := range sortedKeys(now) {
		if was, ok := old[k]; !ok {
			diff = append(diff, fmt.Sprintf("%s: none → %s", k, now[k]))
		} else if was != now[k] {
			diff = append(diff, fmt.Sprintf("%s: %s → %s", k, was, now[k]))
		}
	}
	for _, k := range sortedKeys(old) {
		if _, ok := now[k]; !ok {
			diff = append(diff, fmt.Sprintf("%s: %s → none", k, old[k]))
		}
	}
	slices.Sort(diff)
	return diff
}

// Relevant reads a stored configuration and returns its keys that enter Hash, by
// dotted name, as TOML literals. It does not check them.
func Relevant(resolved []byte) (map[string]any, error) {
	var table map[string]any
	if _, err := toml.Decode(string(resolved), &table); err != nil {
		return nil, err
	}
	stored, err := tree(reflect.ValueOf(table))
	if err != nil {
		return nil, err
	}
	keys := map[string]any{}
	flatten("", stored, keys)
	keep(keys)
	return keys, nil
}

// relevant maps each key that enters Hash to its TOML literal.
func (r Run) relevant() (map[string]any, error) {
	sections, err := r.sections()
	if err != nil {
		return nil, err
	}
	keys := map[string]any{}
	flatten("", sections, keys)
	keep(keys)
	return keys, nil
}

// keep deletes the keys that results do not depend on.
func keep(keys map[string]any) {
	for _, k := range []string{"title", "experiment", "data.name", "method.label", "method.preset"} {
		delete(keys, k)
	}
}

// node is a key with its TOML literal, or a table.
type node struct {
	key     string
	literal string
	table   []node // used if literal is ""
}

// sections lays the run out as config.toml has it.
func (r Run) sections() ([]node, error) {
	block := r.Data
	if r.root != "" {
		block.Root = r.root
	}
	dataKeys, err := tree(reflect.ValueOf(block))
	if err != nil {
		return nil, fmt.Errorf("data.%w", err)
	}
	methodKeys, err := tree(reflect.ValueOf(r.Keys))
	if err != nil {
		return nil, fmt.Errorf("method.%s.%w", r.Method, err)
	}
	train, err := tree(reflect.ValueOf(r.Train))
	if err != nil {
		return nil, fmt.Errorf("train.%w", err)
	}
	head := []node{{key: "name", literal: quote(r.Method)}, {key: "label", literal: quote(r.Label)}}
	if r.Preset != "" {
		head = append(head, node{key: "preset", literal: quote(r.Preset)})
	}
	return []node{
		{key: "title", literal: quote(r.Title)},
		{key: "experiment", literal: quote(r.Experiment)},
		{key: "seed", literal: strconv.FormatUint(r.Seed, 10)},
		{key: "data", table: dataKeys},
		{key: "method", table: append(head, methodKeys...)},
		{key: "train", table: train},
	}, nil
}

// tree lays out a struct in the order of its fields, or a map in that of its keys.
func tree(v reflect.Value) ([]node, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	var nodes []node
	add := func(key string, v reflect.Value) error {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return nil // an optional table that is not there
			}
			if _, ok := v.Interface().(encoding.TextMarshaler); ok {
				break
			}
			v = v.Elem()
		}
		n := node{key: key}
		var err error
		if table(v) {
			n.table, err = tree(v)
		} else {
			n.literal, err = literal(v)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		nodes = append(nodes, n)
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range fieldsOf(v) {
			if f.omit {
				continue
			}
			if err := add(f.key, f.value); err != nil {
				return nil, err
			}
		}
	case reflect.Map:
		for _, key := range keysOf(v) {
			if err := add(key.String(), v.MapIndex(key)); err != nil {
				return nil, err
			}
		}
	default:
		return nil, fmt.Errorf("%s is no table", v.Kind())
	}
	return nodes, nil
}

func table(v reflect.Value) bool {
	if v.Kind() != reflect.Struct && v.Kind() != reflect.Map {
		return false
	}
	_, text := v.Interface().(encoding.TextMarshaler)
	return !text
}

func keysOf(m reflect.Value) []reflect.Value {
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// literal writes a value on one line as TOML; tables inside arrays have their
// keys in alphabetical order.
func literal(v reflect.Value) (string, error) {
	if !v.IsValid() {
		return "", fmt.Errorf("no value")
	}
	if text, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := text.MarshalText()
		return quote(string(b)), err
	}
	switch {
	case v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer:
		return literal(v.Elem())
	case v.Kind() == reflect.String:
		return quote(v.String()), nil
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), nil
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), nil
	case v.CanFloat():
		return literalFloat(v.Float(), v.Type().Bits()), nil
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		items := make([]string, v.Len())
		for i := range items {
			var err error
			if items[i], err = literal(v.Index(i)); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(items, ", ") + "]", nil
	case table(v):
		nodes, err := tree(v)
		if err != nil {
			return "", err
		}
		keys := map[string]any{}
		flatten("", nodes, keys)
		items := make([]string, 0, len(keys))
		for _, k := range sortedKeys(keys) {
			items = append(items, fmt.Sprintf("%s = %s", k, keys[k]))
		}
		return "{" + strings.Join(items, ", ") + "}", nil
	}
	return "", fmt.Errorf("has no TOML form (%s)", v.Type())
}

// literalFloat writes the shortest decimal that reads back as f, always as a float.
func literalFloat(f float64, bits int) string {
	s := strconv.FormatFloat(f, 'g', -1, bits)
	if strings.Trim(s, "-0123456789") == "" {
		s += ".0"
	}
	return strings.ToLower(strings.TrimPrefix(s, "+"))
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// flatten collects the literals under their dotted keys.
func flatten(path string, nodes []node, keys map[string]any) {
	for _, n := range nodes {
		key := join(path, toml.Key{n.key}.String())
		if n.literal != "" {
			keys[key] = n.literal
		} else {
			flatten(key, n.table, keys)
		}
	}
}

// write prints a table: first its own keys, then its tables under their headers.
func write(b *strings.Builder, path string, nodes []node) {
	for _, n := range nodes {
		if n.literal != "" {
			fmt.Fprintf(b, "%s = %s\n", toml.Key{n.key}, n.literal)
		}
	}
	for _, n := range nodes {
		if n.literal == "" && len(n.table) > 0 {
			key := join(path, toml.Key{n.key}.String())
			fmt.Fprintf(b, "\n[%s]\n", key)
			write(b, key, n.table)
		}
	}
}
