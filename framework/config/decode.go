package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/spell"
)

// wrong is a value that does not fit, at its path; a document adds the line.
type wrong struct {
	path string
	msg  string
}

func (w *wrong) Error() string { return w.path + ": " + w.msg }

func wrongf(path, format string, args ...any) error {
	return &wrong{path, fmt.Sprintf(format, args...)}
}

// decode writes a TOML value into dst: every key of a table must belong to a
// field, every value must have the field's type and fit into it. What the value
// does not name keeps what dst held; a slice or map is replaced as a whole. A type
// may read itself, by UnmarshalTOML or UnmarshalText.
func decode(path string, value any, dst reflect.Value) error {
	if own, ok := dst.Addr().Interface().(toml.Unmarshaler); ok {
		if err := own.UnmarshalTOML(value); err != nil {
			key := path[strings.LastIndexByte(path, '.')+1:]
			return wrongf(path, "%s", strings.TrimPrefix(err.Error(), key+": "))
		}
		return nil
	}
	if text, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok {
		s, ok := value.(string)
		if !ok {
			return mismatch(path, value, "a string")
		}
		if err := text.UnmarshalText([]byte(s)); err != nil {
			return wrongf(path, "%q: %v", s, err)
		}
		return nil
	}
	switch dst.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(dst.Type().Elem())
		if !dst.IsNil() {
			fresh.Elem().Set(dst.Elem()) // never write into what others may share
		}
		if err := decode(path, value, fresh.Elem()); err != nil {
			return err
		}
		dst.Set(fresh)
	case reflect.Struct:
		table, ok := value.(map[string]any)
		if !ok {
			return mismatch(path, value, "a table")
		}
		return decodeTable(path, table, dst)
	case reflect.Slice, reflect.Array:
		return decodeList(path, value, dst)
	case reflect.Map:
		table, ok := value.(map[string]any)
		if !ok {
			return mismatch(path, value, "a table")
		}
		fresh := reflect.MakeMap(dst.Type())
		for _, key := range sortedKeys(table) {
			v := reflect.New(dst.Type().Elem()).Elem()
			if err := decode(join(path, key), table[key], v); err != nil {
				return err
			}
			fresh.SetMapIndex(reflect.ValueOf(key).Convert(dst.Type().Key()), v)
		}
		dst.Set(fresh)
	case reflect.String:
		s, ok := value.(string)
		if !ok {
			return mismatch(path, value, "a string")
		}
		dst.SetString(s)
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			return mismatch(path, value, "true or false")
		}
		dst.SetBool(b)
	default:
		return decodeNumber(path, value, dst)
	}
	return nil
}

func decodeTable(path string, table map[string]any, dst reflect.Value) error {
	fields := fieldsOf(dst)
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.key
	}
	for _, key := range sortedKeys(table) {
		i := slices.Index(names, key)
		if i < 0 {
			return unknown(join(path, key), key, names)
		}
		if err := decode(join(path, key), table[key], fields[i].value); err != nil {
			return err
		}
	}
	return nil
}

func decodeList(path string, value any, dst reflect.Value) error {
	list, ok := listOf(value)
	if !ok {
		return mismatch(path, value, "an array")
	}
	fresh := reflect.New(dst.Type()).Elem()
	if dst.Kind() == reflect.Slice {
		fresh = reflect.MakeSlice(dst.Type(), len(list), len(list))
	} else if len(list) != dst.Len() {
		return wrongf(path, "length %d, need %d", len(list), dst.Len())
	}
	for i, v := range list {
		if err := decode(element(path, i), v, fresh.Index(i)); err != nil {
			return err
		}
	}
	dst.Set(fresh)
	return nil
}

func decodeNumber(path string, value any, dst reflect.Value) error {
	switch {
	case dst.CanInt():
		n, ok := value.(int64)
		if !ok {
			return mismatch(path, value, "an integer")
		}
		if dst.OverflowInt(n) {
			return wrongf(path, "%d, does not fit into %d bits", n, dst.Type().Bits())
		}
		dst.SetInt(n)
	case dst.CanUint():
		n, ok := value.(int64)
		if !ok {
			return mismatch(path, value, "an integer")
		}
		if n < 0 {
			return wrongf(path, "%d, need 0 or more", n)
		}
		if dst.OverflowUint(uint64(n)) {
			return wrongf(path, "%d, does not fit into %d bits", n, dst.Type().Bits())
		}
		dst.SetUint(uint64(n))
	case dst.CanFloat():
		f, ok := value.(float64)
		if n, whole := value.(int64); whole {
			f, ok = float64(n), true
		}
		if !ok {
			return mismatch(path, value, "a number")
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return wrongf(path, "%s, need a finite number", literalFloat(f, 64))
		}
		if dst.OverflowFloat(f) {
			return wrongf(path, "%g, does not fit into %d bits", f, dst.Type().Bits())
		}
		dst.SetFloat(f)
	default:
		return wrongf(path, "has no TOML form (%s)", dst.Type())
	}
	return nil
}

// field is one settable key of a struct.
type field struct {
	key     string
	value   reflect.Value
	omit    bool // of a written table: tagged omitzero, and zero
	scoring bool // tagged enters:"score"
}

// fieldsOf lists the keys of a struct in order: the toml tag or else the field's
// name in lower case; "-" leaves out; an embedded struct without a tag counts as
// if its fields stood there.
func fieldsOf(v reflect.Value) []field {
	var fields []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, option, _ := strings.Cut(f.Tag.Get("toml"), ",")
		omit, scoring := option == "omitzero" && v.Field(i).IsZero(), f.Tag.Get("enters") == "score"
		switch {
		case key == "-" || !f.IsExported():
		case key == "" && f.Anonymous && f.Type.Kind() == reflect.Struct:
			fields = append(fields, fieldsOf(v.Field(i))...)
		case key == "":
			fields = append(fields, field{strings.ToLower(f.Name), v.Field(i), omit, scoring})
		default:
			fields = append(fields, field{key, v.Field(i), omit, scoring})
		}
	}
	return fields
}

// listOf accepts the two forms in which the parser returns arrays.
func listOf(value any) ([]any, bool) {
	switch list := value.(type) {
	case []any:
		return list, true
	case []map[string]any:
		all := make([]any, len(list))
		for i, t := range list {
			all[i] = t
		}
		return all, true
	}
	return nil, false
}

func mismatch(path string, value any, need string) error {
	switch v := value.(type) {
	case string:
		return wrongf(path, "%s is a string, need %s", strconv.Quote(v), need)
	case bool:
		return wrongf(path, "%t is a boolean, need %s", v, need)
	case int64:
		return wrongf(path, "%d is an integer, need %s", v, need)
	case float64:
		return wrongf(path, "%s is a float, need %s", literalFloat(v, 64), need)
	case map[string]any:
		return wrongf(path, "is a table, need %s", need)
	case []any, []map[string]any:
		return wrongf(path, "is an array, need %s", need)
	}
	return wrongf(path, "is a date or time, need %s", need)
}

// unknown says that a key does not exist and which one may have been meant.
func unknown(path, key string, valid []string) error {
	if path != key && (key == "seeds" || key == "title") {
		return wrongf(path, "unknown key; %s belongs above the first table of the file", key)
	}
	if near := spell.Nearest(key, valid); near != "" {
		return wrongf(path, "unknown key; did you mean %s?", near)
	}
	if len(valid) == 0 {
		return wrongf(path, "unknown key; no key can be set here")
	}
	return wrongf(path, "unknown key; valid keys: %s", list(valid))
}

func list(names []string) string {
	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

func sortedKeys(table map[string]any) []string {
	keys := make([]string, 0, len(table))
	for k := range table {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
