package data

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"thorax/framework/spell"
)

var manifestColumns = []string{"path", "split", "label", "subtype", "group", "mask", "lungs"}

// readManifest reads a CSV file with a header: path, split (train, validation, test) and label (normal,
// abnormal) are required, subtype, group, mask and lungs optional. Paths are relative to the file's folder, with '/'.
func readManifest(name string) ([]listed, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("data.root: read manifest: %w", err)
	}
	defer f.Close()
	list, err := parseManifest(f)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	return list, nil
}

func parseManifest(r io.Reader) ([]listed, error) {
	in := csv.NewReader(r)
	in.TrimLeadingSpace = true
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("empty; need a header %s", strings.Join(manifestColumns, ","))
	}
	if err != nil {
		return nil, err
	}
	column := map[string]int{}
	for i, h := range header {
		h = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")))
		if !slices.Contains(manifestColumns, h) {
			hint := ""
			if near := spell.Nearest(strings.ToLower(h), manifestColumns); near != "" {
				hint = fmt.Sprintf(" (did you mean %q?)", near)
			}
			return nil, fmt.Errorf("line 1: unknown column %q%s; known: %s", h, hint, strings.Join(manifestColumns, ", "))
		}
		if _, twice := column[h]; twice {
			return nil, fmt.Errorf("line 1: column %q twice", h)
		}
		column[h] = i
	}
	for _, need := range manifestColumns[:3] {
		if _, ok := column[need]; !ok {
			return nil, fmt.Errorf("line 1: no column %q; need path, split and label", need)
		}
	}
	var list []listed
	seen := map[string]int{}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err // names the line
		}
		line, _ := in.FieldPos(0)
		get := func(name string) string {
			if i, ok := column[name]; ok {
				return strings.TrimSpace(record[i])
			}
			return ""
		}
		it, err := manifestItem(get)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if before := seen[it.Path]; before > 0 {
			return nil, fmt.Errorf("line %d: %s is already on line %d; keep one", line, it.Path, before)
		}
		seen[it.Path] = line
		list = append(list, it)
	}
	if len(list) == 0 {
		return nil, errors.New("no images after the header")
	}
	return list, nil
}

// manifestItem reads one row through its columns.
func manifestItem(get func(column string) string) (listed, error) {
	it := listed{Item: Item{Subtype: get("subtype"), Group: get("group")}}
	var ok bool
	if it.Path, ok = cleanPath(get("path")); !ok || !isImage(it.Path) {
		return it, fmt.Errorf("path %q: need an image (%s) below the manifest's folder, with '/'", get("path"), strings.Join(extensions, ", "))
	}
	switch v := get("split"); strings.ToLower(v) {
	case "train":
		it.split = Train
	case "validation":
		it.split = Validation
	case "test":
		it.split = Test
	default:
		return it, fmt.Errorf("split %q: need train, validation or test", v)
	}
	switch v := get("label"); strings.ToLower(v) {
	case "normal", "0":
	case "abnormal", "1":
		it.Abnormal = true
	default:
		return it, fmt.Errorf("label %q: need normal or abnormal", v)
	}
	if mask := get("mask"); mask != "" {
		if it.Mask, ok = cleanPath(mask); !ok || !isImage(it.Mask) {
			return it, fmt.Errorf("mask %q: need an image below the manifest's folder, with '/'", mask)
		}
		if !it.Abnormal {
			return it, fmt.Errorf("mask %q on a normal image; clear it or set label to abnormal", mask)
		}
	}
	if lungs := get("lungs"); lungs != "" {
		if it.Lungs, ok = cleanPath(lungs); !ok || !isImage(it.Lungs) {
			return it, fmt.Errorf("lungs %q: need an image below the manifest's folder, with '/'", lungs)
		}
	}
	return it, nil
}
