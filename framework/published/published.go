// Package published reads the figures that papers print, and sets them beside
// ours: subtracted where the protocols agree, otherwise with every field in which
// they do not.
//
// A file names its source and the protocol of its figures once:
//
//	source   = "arXiv 2403.08689"
//	url      = "https://arxiv.org/abs/2403.08689"
//	unit     = "percent"
//	protocol = { size = 128, repeats = 3, selection = "val-auc", threshold = "acc-test", split = "official test" }
//
//	[[figure]]
//	table  = "Table I"
//	data   = "zhanglab"
//	method = "squid"
//	label  = "SQUID"
//	auroc  = { mean = 87.6, sd = 1.5 }
//
// A figure may carry a mark of the paper, a variant (an ablation, matched to a row
// of that label) and keys of the method, such as latent = 16, which are compared
// with the row's configuration.
package published

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/metric"
)

// Unknown is the value of a protocol field that a source leaves open. It equals
// nothing, not even itself.
const Unknown = "unknown"

// Protocol is how figures were made, as far as it decides whether they compare.
type Protocol struct {
	Size      string // side of the images in pixels
	Repeats   string // number of seeds
	Selection string // of the checkpoint: last, val-loss, val-auc, …
	Threshold string // rule of thresholded metrics; "none" where there are none
	Split     string // train/normal/abnormal image counts, or words; alternatives separated by ", "
}

// File is one source.
type File struct {
	Path     string
	Source   string
	URL      string
	Protocol Protocol
	Figures  []Figure
}

// Figure is one row of a printed table.
type Figure struct {
	Table, Data, Method, Label string
	Variant                    string            // "" for the method as it is
	Mark                       string            // the paper's footnote mark; "" if none
	Keys                       map[string]string // of the method, such as latent
	Values                     map[string]Value  // by metric word, such as auroc
}

// Value is a mean with its deviation, as a share: 0.876 for a printed 87.6 %.
type Value struct {
	Mean, SD float64
	HasSD    bool
}

// head is what a file says once.
type head struct {
	Source   string           `toml:"source"`
	URL      string           `toml:"url"`
	Unit     string           `toml:"unit"`
	Protocol map[string]any   `toml:"protocol"`
	Figure   []map[string]any `toml:"figure"`
}

// Read reads and checks a file of published figures. Its errors name the file,
// the figure and the key.
func Read(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read published figures: %w", err)
	}
	return parse(path, string(text))
}

func parse(path, text string) (*File, error) {
	var h head
	meta, err := toml.Decode(text, &h)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, k := range meta.Undecoded() {
		if len(k) == 1 {
			return nil, fmt.Errorf("%s: %s: unknown key, need source, url, unit, protocol or [[figure]]", path, k)
		}
	}
	f := &File{Path: path, Source: h.Source, URL: h.URL}
	scale := 0.
	switch h.Unit {
	case "percent":
		scale = 100
	case "share":
		scale = 1
	default:
		return nil, fmt.Errorf("%s: unit: %q, need percent or share", path, h.Unit)
	}
	if h.Source == "" || h.URL == "" {
		return nil, fmt.Errorf("%s: source and url: need both, figures without a source cannot be checked", path)
	}
	if f.Protocol, err = protocol(h.Protocol); err != nil {
		return nil, fmt.Errorf("%s: protocol.%w", path, err)
	}
	if len(h.Figure) == 0 {
		return nil, fmt.Errorf("%s: no [[figure]]", path)
	}
	seen := map[string]bool{}
	for i, table := range h.Figure {
		g, err := figure(table, scale)
		if err != nil {
			return nil, fmt.Errorf("%s: figure %d (%s, %s, %s): %w", path, i+1, g.Table, g.Data, g.Label, err)
		}
		id := fmt.Sprint(g.Table, "\x00", g.Data, "\x00", g.Method, "\x00", g.Label, "\x00", g.Variant, "\x00", g.Keys)
		if seen[id] {
			return nil, fmt.Errorf("%s: figure %d (%s, %s, %s): listed twice", path, i+1, g.Table, g.Data, g.Label)
		}
		seen[id] = true
		f.Figures = append(f.Figures, g)
	}
	return f, nil
}

// protocol reads the protocol's fields; each is required.
func protocol(table map[string]any) (Protocol, error) {
	var p Protocol
	fields := map[string]*string{"size": &p.Size, "repeats": &p.Repeats, "selection": &p.Selection, "threshold": &p.Threshold, "split": &p.Split}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		to := fields[key]
		text, ok := literal(table[key])
		if to == nil || !ok || text == "" {
			return p, fmt.Errorf("%s: need size, repeats, selection, threshold and split, each a word or a number", key)
		}
		*to = text
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if *fields[key] == "" {
			return p, fmt.Errorf("%s: missing; write \"unknown\" where the source leaves it open", key)
		}
	}
	return p, nil
}

// literal writes a string or a number as text.
func literal(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func figure(table map[string]any, scale float64) (Figure, error) {
	g := Figure{Keys: map[string]string{}, Values: map[string]Value{}}
	words := map[string]*string{"table": &g.Table, "data": &g.Data, "method": &g.Method, "label": &g.Label, "variant": &g.Variant, "mark": &g.Mark}
	for key, to := range words { // first, so that errors can name the figure
		if s, ok := table[key].(string); ok {
			*to = s
		} else if table[key] != nil {
			return g, fmt.Errorf("%s: need a string", key)
		}
	}
	for _, required := range []string{"table", "data", "method", "label"} {
		if *words[required] == "" {
			return g, fmt.Errorf("%s: missing", required)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if words[key] != nil {
			continue
		}
		if value, ok := table[key].(map[string]any); ok {
			v, err := number(value, scale)
			if err == nil && !isMetric(key) {
				err = fmt.Errorf("no metric, need one such as auroc, ap, acc or f1")
			}
			if err != nil {
				return g, fmt.Errorf("%s: %w", key, err)
			}
			g.Values[key] = v
			continue
		}
		text, ok := literal(table[key])
		if !ok {
			return g, fmt.Errorf("%s: need a metric { mean, sd } or a key of the method", key)
		}
		g.Keys[key] = text
	}
	if len(g.Values) == 0 {
		return g, fmt.Errorf("no value, need one such as auroc = { mean = 87.6, sd = 1.5 }")
	}
	return g, nil
}

func number(table map[string]any, scale float64) (Value, error) {
	var v Value
	found := false
	for _, key := range slices.Sorted(maps.Keys(table)) {
		var x float64
		switch n := table[key].(type) {
		case int64:
			x = float64(n)
		case float64:
			x = n
		default:
			return v, fmt.Errorf("%s: need a number", key)
		}
		x /= scale
		if !(x >= 0 && x <= 1) {
			return v, fmt.Errorf("%s: %g, need 0 to %g", key, x*scale, scale)
		}
		switch key {
		case "mean":
			v.Mean, found = x, true
		case "sd":
			v.SD, v.HasSD = x, true
		default:
			return v, fmt.Errorf("%s: unknown key, need mean and perhaps sd", key)
		}
	}
	if !found {
		return v, fmt.Errorf("mean: missing")
	}
	return v, nil
}

// isMetric reports whether a word is a metric, alone or with a rule.
func isMetric(word string) bool {
	for _, rule := range []string{"", "@f1-test", "@best", "@.3"} {
		if _, err := metric.Parse(word + rule); err == nil {
			return true
		}
	}
	return false
}

// word splits a metric's name into what is measured and the threshold's rule.
func word(s metric.Spec) (base, rule string) {
	base, rule, _ = strings.Cut(s.Name, "@")
	return base, rule
}
