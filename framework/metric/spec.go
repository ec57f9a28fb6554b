package metric

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/spell"
)

// A Spec is one metric with one definition. Specs of the same definition and
// name are equal by ==.
type Spec struct {
	Name string // as the user wrote it

	base  string  // what is measured: a key of bases
	rule  string  // how the threshold is chosen; "" for ranking metrics
	value float64 // parameter of the rule, or AUPRO's limit

	abnormal bool // pixel metrics: pool abnormal test images only
	grid          // pixel metrics: which pixels are lesion and which count
	view          // image metrics: what is scored
}

// A base is what one metric word before '@' stands for.
type base struct {
	id    string   // the ranking part of the definition id, "" with a rule
	rules []string // allowed rules; nil: none
	pixel bool
	pool  bool // may be restricted by ":abnormal"
}

// overlap tells the bases that count hits and misses against a mask.
func (b base) overlap() bool { return b.pixel && slices.Contains(b.rules, "best") }

var (
	imageRules = []string{"q-val", "max-val", "contam", "f1-val", "youden-test", "acc-test", "f1-test", "fixed"}
	pixelRules = []string{"best", "youden-test", "q-val", "max-val"}

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
		"auroc:study.mean", "auroc:study.max", "auroc:study.top3", "auroc:type.bacteria",
		"auroc:lungs.mean", "auroc:lungs.max",
		"pixel-auroc", "pixel-ap", "pixel-ap:abnormal", "pixel-ap:lungs", "pixel-auprc",
		"aupro@.3", "aupro@.05", "aupimo",
		"dice@q-val.01", "dice@youden-test", "dice@best", "dice@max-val", "dice-mean@q-val.01", "dice-mean@best",
		"dice@q-val.01:dilated", "dice@youden-test:dilated", "dice@best:dilated", "dice@best:abnormal:dilated:lungs",
		"iou@q-val.01", "iou@best", "iou-mean@q-val.01", "iou-mean@best",
	}
}

// Parse reads a metric's name: BASE[@RULE][:OPTION…]. Numbers follow a rule after a
// point that belongs to them, q-val.05 is 0.05; after "fixed." the number stands in
// full, fixed.0.2. The options are, of pixel metrics:
//
//	abnormal   pools abnormal test images only
//	dilated    grows the lesions by the 3×3 ellipse, which is a cross, before counting; dice and iou only
//	lungs      counts the pixels of the lungs only, of lesions and of validation normals too
//
// and of image metrics:
//
//	study.mean, study.max, study.topK
//	           scores a study by the mean, the largest or the mean of the K largest scores
//	           of its images; it is abnormal if one of them is
//	type.NAME  takes one type of abnormal images, and all normal ones; the last option
//	lungs.mean, lungs.max
//	           takes the mean or the largest value of the anomaly map within the lungs as
//	           the image score
//
// The error lists the nearest names.
func Parse(name string) (Spec, error) {
	s := Spec{Name: name}
	rest, options, optional := strings.Cut(name, ":")
	word, rule, ruled := strings.Cut(rest, "@")
	b, known := bases[word]
	s.base = word
	if !known || ruled != (b.rules != nil) {
		return Spec{}, unknown(name)
	}
	for optional {
		var option string
		if strings.HasPrefix(options, "type.") {
			option, options, optional = options, "", false
		} else {
			option, options, optional = strings.Cut(options, ":")
		}
		if !s.set(b, option) {
			return Spec{}, unknown(name)
		}
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

// set takes one option; false if there is none of this name, or it is given twice.
func (s *Spec) set(b base, option string) bool {
	word, value, _ := strings.Cut(option, ".")
	switch {
	case option == "abnormal" && b.pool && !s.abnormal:
		s.abnormal = true
	case option == "dilated" && b.overlap() && !s.dilated:
		s.dilated = true
	case option == "lungs" && b.pixel && !s.inLungs:
		s.inLungs = true
	case b.pixel:
		return false
	case word == "lungs" && s.lungs == "" && (value == "mean" || value == "max"):
		s.lungs = value
	case word == "type" && value != "":
		s.subtype = value
	case word == "study" && s.study == "":
		k, err := strconv.Atoi(strings.TrimPrefix(value, "top"))
		if value != "mean" && value != "max" && (err != nil || k < 1 || value != fmt.Sprintf("top%d", k)) {
			return false
		}
		s.study, s.top = value, k
	default:
		return false
	}
	return true
}

func unknown(name string) error {
	names := Names()
	word, _, _ := strings.Cut(name, "@")
	far := func(valid string) int { // what is measured counts more than the rule
		base, _, _ := strings.Cut(valid, "@")
		return 3*spell.Distance(word, base) + spell.Distance(name, valid)
	}
	slices.SortStableFunc(names, func(a, b string) int { return far(a) - far(b) })
	return fmt.Errorf("metric %q: unknown, nearest: %s", name, strings.Join(names[:4], ", "))
}

// ID names the definition, not the spelling: auroc/mann-whitney,
// aupro/exact/0.3/pooled/8n, f1/q-val/0.05/ge, pixel-ap/step/all-images,
// dice/best/pooled/all-images/ge/dilated-3x3-cross. It changes whenever a definition does.
func (s Spec) ID() string {
	id := s.coreID()
	for _, option := range []struct {
		on   bool
		text string
	}{
		{s.dilated, "dilated-3x3-cross"}, {s.inLungs, "lungs"}, {s.lungs != "", "lungs-" + s.lungs},
		{s.study != "", "study-" + s.study}, {s.subtype != "", "type-" + s.subtype},
	} {
		if option.on {
			id += "/" + option.text
		}
	}
	return id
}

func (s Spec) coreID() string {
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

// Pixel reports whether the metric needs anomaly maps, so that scores alone do not give it.
func (s Spec) Pixel() bool { return bases[s.base].pixel || s.lungs != "" }

// Lungs reports whether the metric needs to know the lungs.
func (s Spec) Lungs() bool { return s.inLungs || s.lungs != "" }

// Study reports whether the metric is of studies, not of images.
func (s Spec) Study() bool { return s.study != "" }

// Masks reports whether the metric needs lesion masks.
func (s Spec) Masks() bool { return bases[s.base].pixel }

// Ruled reports whether the metric is read at a threshold or at a point of the curve.
func (s Spec) Ruled() bool { return s.rule != "" }

// Type is the type of abnormal images that alone count, "" for all.
func (s Spec) Type() string { return s.subtype }

// Base is the metric's word before '@' and ':'.
func (s Spec) Base() string { return s.base }

// OfType is the metric restricted to one type of abnormal images; ok is false for
// pixel metrics and for one that is restricted already.
func (s Spec) OfType(subtype string) (of Spec, ok bool) {
	if bases[s.base].pixel || s.subtype != "" || subtype == "" {
		return s, false
	}
	s.Name, s.subtype = s.Name+":type."+subtype, subtype
	return s, true
}

// Floor is the value that needs no model: of calling every image abnormal for
// acc, prec and f1, of a constant score for auroc, and the prevalence for ap and
// auprc. prevalence is the share of abnormal test images in [0,1]. ok is false
// where there is no such value, as for sens and spec, or where it depends on the
// lesions' area or on the share of abnormal studies.
func Floor(s Spec, prevalence float64) (floor float64, ok bool) {
	switch s.base {
	case "auroc", "pixel-auroc":
		return .5, true
	}
	if s.study != "" || s.subtype != "" {
		return 0, false // of another prevalence
	}
	switch s.base {
	case "ap", "auprc", "acc", "prec":
		return prevalence, true
	case "f1":
		return 2 * prevalence / (1 + prevalence), true
	}
	return 0, false
}
