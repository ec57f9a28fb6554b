package metric

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Spec is one metric with one definition. Specs of the same definition and
// name are equal by ==.
type Spec struct {
	Name string // as the user wrote it

	base     string  // what is measured: a key of bases
	rule     string  // how the threshold is chosen; "" for ranking metrics
	value    float64 // parameter of the rule, or AUPRO's limit
	abnormal bool    // pixel metrics: pool abnormal test images only
}

// A base is what one metric word before '@' stands for.
type base struct {
	id    string   // the ranking part of the definition id, "" with a rule
	rules []string // allowed rules; nil: none
	pixel bool
	pool  bool // may be restricted by ":abnormal"
}

var (
	imageRules = []string{"q-val", "max-val", "contam", "f1-val", "youden-test", "acc-test", "f1-test", "fixed"}
	pixelRules = []string{"best", "q-val", "max-val"}

	bases = map[string]base{
		"auroc":       {id: "auroc/mann-whitney"},
		"ap":          {id: "ap/step"},
		"auprc":       {id: "auprc/trapezoid"},
		"acc":         {rules: imageRules},
		"f1":          {rules: imageRules},
		"sens":        {rules: append([]string{"spec"}, imageRules...)},
		"spec":        {rules: append([]string{"sens"}, imageRules...)},
		"prec":        {rules: imageRules},
		"pixel-auroc": {id: "pixel-auroc/mann-whitney", pixel: true, pool: true},
		"pixel-ap":    {id: "pixel-ap/step", pixel: true, pool: true},
		"pixel-auprc": {id: "pixel-auprc/trapezoid", pixel: true, pool: true},
		"aupro":       {rules: []string{""}, pixel: true},
		"aupimo":      {id: "aupimo/step/1e-05-0.0001/mean-per-image", pixel: true},
		"dice":        {rules: pixelRules, pixel: true, pool: true},
		"iou":         {rules: pixelRules, pixel: true, pool: true},
		"dice-mean":   {rules: pixelRules, pixel: true},
		"iou-mean":    {rules: pixelRules, pixel: true},
	}

	// withNumber are the rules that a number follows; "" is AUPRO's limit.
	withNumber = []string{"q-val", "contam", "fixed", "spec", "sens", ""}
)

// Names returns a documented example of every metric and rule.
func Names() []string {
	return []string{
		"auroc", "ap", "auprc",
		"f1@q-val.05", "acc@q-val.05", "sens@q-val.05", "spec@q-val.05", "prec@q-val.05",
		"f1@max-val", "f1@contam.10", "f1@f1-val", "f1@fixed.0.2",
		"f1@f1-test", "acc@acc-test", "f1@acc-test", "sens@youden-test", "spec@youden-test",
		"sens@spec.95", "spec@sens.95",
		"pixel-auroc", "pixel-ap", "pixel-ap:abnormal", "pixel-auprc",
		"aupro@.3", "aupro@.05", "aupimo",
		"dice@q-val.01", "dice@best", "dice@max-val", "dice-mean@q-val.01", "dice-mean@best",
		"iou@q-val.01", "iou@best", "iou-mean@q-val.01", "iou-mean@best",
	}
}

// Parse reads a metric's name: BASE[@RULE][:abnormal]. Numbers follow a rule
// after a point that belongs to them, q-val.05 is 0.05; after "fixed." the number
// stands in full, fixed.0.2. The error lists the nearest names.
func Parse(name string) (Spec, error) {
	s := Spec{Name: name}
	rest, pool, restricted := strings.Cut(name, ":")
	word, rule, ruled := strings.Cut(rest, "@")
	b, known := bases[word]
	s.base, s.abnormal = word, restricted
	if !known || restricted && (!b.pool || pool != "abnormal") || ruled != (b.rules != nil) {
		return Spec{}, unknown(name)
	}
	if !ruled {
		return s, nil
	}
	for _, r := range b.rules {
		number, ok := strings.CutPrefix(rule, r)
		if !ok {
			continue
		}
		if !slices.Contains(withNumber, r) {
			if number == "" {
				s.rule = r
				return s, nil
			}
			continue
		}
		if r == "fixed" {
			number, ok = strings.CutPrefix(number, ".")
		} else if r != "" {
			ok = strings.HasPrefix(number, ".")
		}
		v, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil {
			continue
		}
		if !(v > 0 && v < 1 || v == 1 && (r == "" || r == "fixed") || v == 0 && r == "fixed") {
			return Spec{}, fmt.Errorf("metric %q: %s is out of range, need a number between 0 and 1", name, number)
		}
		s.rule, s.value = r, v
		return s, nil
	}
	return Spec{}, unknown(name)
}

func unknown(name string) error {
	names := Names()
	word, _, _ := strings.Cut(name, "@")
	far := func(valid string) int { // what is measured counts more than the rule
		base, _, _ := strings.Cut(valid, "@")
		return 3*distance(word, base) + distance(name, valid)
	}
	slices.SortStableFunc(names, func(a, b string) int { return far(a) - far(b) })
	return fmt.Errorf("metric %q: unknown, nearest: %s", name, strings.Join(names[:4], ", "))
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// ID names the definition, not the spelling: auroc/mann-whitney,
// aupro/exact/0.3/pooled/8n, f1/q-val/0.05/ge, pixel-ap/step/all-images.
// It changes whenever a definition does.
func (s Spec) ID() string {
	b := bases[s.base]
	value := strconv.FormatFloat(s.value, 'g', -1, 64)
	word, mean := strings.CutSuffix(s.base, "-mean")
	var parts []string
	switch {
	case s.base == "aupro":
		return "aupro/exact/" + value + "/pooled/8n"
	case s.rule == "":
		parts = []string{b.id}
	case s.rule == "spec" || s.rule == "sens":
		return s.base + "/at-" + s.rule + "/" + value + "/interpolated-test-roc"
	case s.rule == "contam":
		parts = []string{s.base, s.rule, value, "test-scores", "ge"}
	case s.rule == "fixed":
		parts = []string{s.base, s.rule, value, "test-min-max", "ge"}
	case s.rule == "q-val":
		parts = []string{word, s.rule, value}
	default:
		parts = []string{word, s.rule}
	}
	switch {
	case mean:
		parts = append(parts, "mean-per-image", "abnormal-images", "ge")
	case b.pixel && s.rule != "":
		parts = append(parts, "pooled", pool(s.abnormal), "ge")
	case b.pool:
		parts = append(parts, pool(s.abnormal))
	case s.rule != "" && parts[len(parts)-1] != "ge":
		parts = append(parts, "ge")
	}
	return strings.Join(parts, "/")
}

func pool(abnormalOnly bool) string {
	if abnormalOnly {
		return "abnormal-images"
	}
	return "all-images"
}

// Oracle reports whether the threshold is chosen with test labels or test masks.
func (s Spec) Oracle() bool {
	return slices.Contains([]string{"youden-test", "acc-test", "f1-test", "spec", "sens", "best"}, s.rule)
}

// Pixel reports whether the metric needs anomaly maps and masks.
func (s Spec) Pixel() bool { return bases[s.base].pixel }

// Floor is the value that needs no model: of calling every image abnormal for
// acc, prec and f1, of a constant score for auroc, and the prevalence for ap and
// auprc. prevalence is the share of abnormal test images in [0,1]. ok is false
// where there is no such value, as for sens and spec, or where it depends on the
// lesions' area.
func Floor(s Spec, prevalence float64) (floor float64, ok bool) {
	switch s.base {
	case "auroc", "pixel-auroc":
		return .5, true
	case "ap", "auprc", "acc", "prec":
		return prevalence, true
	case "f1":
		return 2 * prevalence / (1 + prevalence), true
	}
	return 0, false
}
