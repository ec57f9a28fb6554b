package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// document is a parsed file whose values know where they were written.
type document struct {
	file string
	text string
	root map[string]any
	at   map[string]int    // path to byte offset
	set  map[string]string // path to the override that wrote it
}

// maxBytes bounds a file; the largest sensible experiment is far below.
const maxBytes = 256 << 10

func newDocument(file string, text []byte) (*document, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("%s: larger than %d KiB, no experiment is", file, maxBytes>>10)
	}
	d := &document{file: file, text: string(text), set: map[string]string{}}
	if _, err := toml.Decode(d.text, &d.root); err != nil {
		if syntax, ok := errors.AsType[toml.ParseError](err); ok {
			message := strings.TrimSuffix(syntax.Message, ".")
			if message != "" {
				message = strings.ToLower(message[:1]) + message[1:]
			}
			return nil, fmt.Errorf("%s:%d: %s", file, syntax.Position.Line, message)
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d.at = positions(d.text)
	return d, nil
}

// line returns the line of a path or of what encloses it, 0 if there is none.
func (d *document) line(path string) int {
	for ; path != ""; path = parent(path) {
		if offset, ok := d.at[path]; ok {
			return 1 + strings.Count(d.text[:offset], "\n")
		}
	}
	return 0
}

// locate turns a value error into one that names file, line and key. A path in
// from stands for another: that of the list a varied value was taken from.
func (d *document) locate(err error, from map[string]string) error {
	w, ok := errors.AsType[*wrong](err)
	if !ok {
		return fmt.Errorf("%s: %w", d.file, err)
	}
	place := w.path
	for p := w.path; p != ""; p = parent(p) {
		if origin, ok := from[p]; ok {
			place = origin + w.path[len(p):]
			break
		}
	}
	key := d.display(w.path)
	for p := place; p != ""; p = parent(p) {
		if override, ok := d.set[p]; ok {
			return fmt.Errorf("--set %s: %s: %s", override, key, w.msg)
		}
		if _, ok := d.at[p]; ok {
			break
		}
	}
	if n := d.line(place); n > 0 {
		return fmt.Errorf("%s:%d: %s: %s", d.file, n, key, w.msg)
	}
	return fmt.Errorf("%s: %s: %s", d.file, key, w.msg)
}

// display writes a path for readers: blocks and rows by their names.
func (d *document) display(path string) string {
	for _, kind := range []string{"data", "method"} {
		rest, ok := strings.CutPrefix(path, kind+"[")
		if !ok {
			continue
		}
		var i int
		if _, err := fmt.Sscanf(rest, "%d]", &i); err != nil {
			continue
		}
		_, rest, _ = strings.Cut(rest, "]")
		name := d.name(kind, i)
		if rest == ".name" || name == "" {
			return kind + rest
		}
		path = kind + "." + name + rest
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, path)
}

// name is what block i of data or method is called in messages and overrides.
func (d *document) name(kind string, i int) string {
	blocks, _ := listOf(d.root[kind])
	if i < 0 || i >= len(blocks) {
		return ""
	}
	block, _ := blocks[i].(map[string]any)
	for _, key := range []string{"name", "set"} {
		if s, ok := block[key].(string); ok && (key == "name" || kind == "data") {
			return s
		}
	}
	return ""
}

// checked turns an error of a Check method, "key: reason", into a value error at
// that key below path. The key may be prefixed by the kind of block and a name.
func checked(path string, keys any, err error, prefixes ...string) error {
	if err == nil {
		return nil
	}
	key, reason, ok := strings.Cut(err.Error(), ": ")
	for _, p := range prefixes {
		if key == p { // "ae: latent: 0"
			key, reason, ok = strings.Cut(reason, ": ")
		}
		key = strings.TrimPrefix(key, p+".")
	}
	if ok {
		for _, f := range fieldsOf(reflect.ValueOf(keys).Elem()) {
			if first, _, _ := strings.Cut(key, "."); strings.HasPrefix(first, f.key) && strings.Trim(first[len(f.key):], "[]0123456789") == "" {
				return &wrong{join(path, key), reason}
			}
		}
	}
	return &wrong{path, err.Error()}
}

// parent cuts the last key or index off a path.
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }
