package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// variant is a row's table with one choice of its varied values written in.
type variant struct {
	table  map[string]any
	suffix string            // of the label: " key=value" for each varied key
	from   map[string]string // path of a varied value to where it was written
}

// dimension is one varied key with its values.
type dimension struct {
	key    string
	path   string
	values []any
}

// expand returns the row's variants: the cartesian product of the lists under
// vary, the key written last changing fastest; the row itself without vary.
func expand(path string, table map[string]any, at map[string]int) ([]variant, error) {
	variants := []variant{{table: table}}
	value, ok := table["vary"]
	if !ok {
		return variants, nil
	}
	vary, ok := value.(map[string]any)
	if !ok {
		return nil, mismatch(join(path, "vary"), value, "a table of lists")
	}
	dimensions, err := dimensionsOf(join(path, "vary"), "", vary)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(dimensions, func(a, b dimension) int { return at[a.path] - at[b.path] })
	for i, dim := range dimensions {
		if has(table, strings.Split(dim.key, ".")) {
			return nil, wrongf(dim.path, "%s is also set in the row, need one of them", dim.key)
		}
		for _, other := range dimensions[:i] {
			if dim.key == other.key {
				return nil, wrongf(dim.path, "is varied twice")
			}
		}
		if len(variants)*len(dim.values) > maxRows {
			return nil, wrongf(join(path, "vary"), "expands to more than %d rows", maxRows)
		}
		var next []variant
		for _, v := range variants {
			for j, value := range dim.values {
				nv, err := v.with(path, dim, j, value)
				if err != nil {
					return nil, err
				}
				next = append(next, nv)
			}
		}
		variants = next
	}
	return variants, nil
}

// dimensionsOf lists the varied keys; nested tables are dotted keys.
func dimensionsOf(path, prefix string, table map[string]any) ([]dimension, error) {
	var all []dimension
	for _, k := range sortedKeys(table) {
		key, path := join(prefix, k), join(path, k)
		if nested, ok := table[k].(map[string]any); ok {
			inner, err := dimensionsOf(path, key, nested)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
			continue
		}
		values, ok := listOf(table[k])
		if !ok {
			return nil, mismatch(path, table[k], "a list of values")
		}
		if len(values) == 0 {
			return nil, wrongf(path, "empty, need a list of values")
		}
		switch first, _, _ := strings.Cut(key, "."); first {
		case "name", "label", "on", "vary":
			return nil, wrongf(path, "cannot be varied; write another [[method]]")
		}
		for i, v := range values {
			for _, other := range values[:i] {
				if reflect.DeepEqual(v, other) {
					return nil, wrongf(element(path, i), "%s is listed twice", plain(v))
				}
			}
		}
		all = append(all, dimension{key, path, values})
	}
	return all, nil
}

// with returns a copy of v that has value j of the dimension.
func (v variant) with(path string, dim dimension, j int, value any) (variant, error) {
	table, err := put(path, v.table, strings.Split(dim.key, "."), value)
	if err != nil {
		return variant{}, err
	}
	from := maps.Clone(v.from)
	if from == nil {
		from = map[string]string{}
	}
	from[join(path, dim.key)] = element(dim.path, j)
	return variant{table, fmt.Sprintf("%s %s=%s", v.suffix, dim.key, plain(value)), from}, nil
}

// has reports whether the table holds a value under the keys.
func has(table map[string]any, keys []string) bool {
	value, ok := table[keys[0]]
	if !ok || len(keys) == 1 {
		return ok
	}
	inner, ok := value.(map[string]any)
	return ok && has(inner, keys[1:])
}

// put returns a copy of table with the value under the keys; what it does not
// touch is shared. Path is that of the table, for errors.
func put(path string, table map[string]any, keys []string, value any) (map[string]any, error) {
	fresh := maps.Clone(table)
	if fresh == nil {
		fresh = map[string]any{}
	}
	if len(keys) == 1 {
		fresh[keys[0]] = value
		return fresh, nil
	}
	path = join(path, keys[0])
	inner, ok := table[keys[0]].(map[string]any)
	if !ok && table[keys[0]] != nil {
		return nil, wrongf(path, "is no table, so %s cannot be set in it", strings.Join(keys[1:], "."))
	}
	inner, err := put(path, inner, keys[1:], value)
	fresh[keys[0]] = inner
	return fresh, err
}

// plain writes a value for a label: strings without quotes, lists with commas.
func plain(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	if values, ok := listOf(value); ok {
		items := make([]string, len(values))
		for i, v := range values {
			items[i] = plain(v)
		}
		return strings.Join(items, ",")
	}
	s, err := literal(reflect.ValueOf(value))
	if err != nil {
		return fmt.Sprint(value)
	}
	return s
}
