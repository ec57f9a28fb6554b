package metric

import (
	"strings"
	"testing"
)

func TestNamesParse(t *testing.T) {
	seen := map[string]string{}
	for _, name := range Names() {
		s := parse(t, name)
		if s.Name != name {
			t.Errorf("%s: Name %q", name, s.Name)
		}
		if other, twice := seen[s.ID()]; twice {
			t.Errorf("%s and %s have one id, %s", name, other, s.ID())
		}
		seen[s.ID()] = name
	}
}

func TestID(t *testing.T) {
	for _, tt := range []struct {
		name, id      string
		oracle, pixel bool
	}{
		{"auroc", "auroc/mann-whitney", false, false},
		{"ap", "ap/step", false, false},
		{"auprc", "auprc/trapezoid", false, false},
		{"f1@q-val.05", "f1/q-val/0.05/ge", false, false},
		{"spec@q-val.05", "spec/q-val/0.05/ge", false, false},
		{"f1@max-val", "f1/max-val/ge", false, false},
		{"acc@contam.10", "acc/contam/0.1/test-scores/ge", false, false},
		{"f1@f1-val", "f1/f1-val/ge", false, false},
		{"f1@fixed.0.2", "f1/fixed/0.2/test-min-max/ge", false, false},
		{"sens@youden-test", "sens/youden-test/ge", true, false},
		{"f1@acc-test", "f1/acc-test/ge", true, false},
		{"f1@f1-test", "f1/f1-test/ge", true, false},
		{"sens@spec.95", "sens/at-spec/0.95/interpolated-test-roc", true, false},
		{"spec@sens.95", "spec/at-sens/0.95/interpolated-test-roc", true, false},
		{"pixel-auroc", "pixel-auroc/mann-whitney/all-images", false, true},
		{"pixel-ap", "pixel-ap/step/all-images", false, true},
		{"pixel-ap:abnormal", "pixel-ap/step/abnormal-images", false, true},
		{"aupro@.3", "aupro/exact/0.3/pooled/8n", false, true},
		{"aupro@0.30", "aupro/exact/0.3/pooled/8n", false, true},
		{"aupro@1", "aupro/exact/1/pooled/8n", false, true},
		{"aupimo", "aupimo/step/1e-05-0.0001/mean-per-image", false, true},
		{"dice@best", "dice/best/pooled/all-images/ge", true, true},
		{"dice@best:abnormal", "dice/best/pooled/abnormal-images/ge", true, true},
		{"dice@q-val.01", "dice/q-val/0.01/pooled/all-images/ge", false, true},
		{"dice-mean@q-val.01", "dice/q-val/0.01/mean-per-image/abnormal-images/ge", false, true},
		{"iou@best", "iou/best/pooled/all-images/ge", true, true},
		{"dice@youden-test", "dice/youden-test/pooled/all-images/ge", true, true},
		{"dice@q-val.01:dilated", "dice/q-val/0.01/pooled/all-images/ge/dilated-3x3-cross", false, true},
		{"dice@best:dilated:abnormal", "dice/best/pooled/abnormal-images/ge/dilated-3x3-cross", true, true},
		{"aupro@.3:lungs", "aupro/exact/0.3/pooled/8n/lungs", false, true},
		{"auroc:lungs.mean", "auroc/mann-whitney/lungs-mean", false, true},
		{"ap:study.top3", "ap/step/study-top3", false, false},
		{"f1@q-val.05:study.max:type.others: a", "f1/q-val/0.05/ge/study-max/type-others: a", false, false},
	} {
		s := parse(t, tt.name)
		if s.ID() != tt.id || s.Oracle() != tt.oracle || s.Pixel() != tt.pixel {
			t.Errorf("%s: %s, oracle %t, pixel %t; want %s, %t, %t", tt.name, s.ID(), s.Oracle(), s.Pixel(), tt.id, tt.oracle, tt.pixel)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for name, hint := range map[string]string{
		"auc":                       "auroc",
		"":                          "nearest",
		"f1@q-val":                  "f1@q-val.05",
		"f1@qval.05":                "f1@q-val.05",
		"f1":                        "nearest",
		"auroc@q-val.05":            "nearest",
		"sens@sens.95":              "sens@spec.95",
		"pixel-ap:normal":           "pixel-ap:abnormal",
		"ap:abnormal":               "pixel-ap:abnormal",
		"aupimo:abnormal":           "aupimo",
		"dice":                      "dice@best",
		"f1@q-val.0":                "out of range",
		"sens@spec.":                "sens@spec.95",
		"aupro@0":                   "out of range",
		"aupro@nan":                 "out of range",
		"aupro@3":                   "out of range",
		"f1@fixed.2":                "out of range",
		"f1@max-val.1":              "f1@max-val",
		"dice@f1-test":              "dice@best",
		"dice-mean@best:all":        "dice-mean@best",
		"auroc:study":               "auroc:study.mean",
		"auroc:study.top0":          "auroc:study.top3",
		"auroc:study.top03":         "auroc:study.top3",
		"auroc:study.3":             "auroc:study.top3",
		"auroc:type.":               "auroc",
		"auroc:dilated":             "nearest",
		"auroc:lungs":               "auroc:lungs.mean",
		"pixel-ap:dilated":          "pixel-ap",
		"pixel-ap:lungs.mean":       "pixel-ap:lungs",
		"pixel-ap:lungs:lungs":      "pixel-ap:lungs",
		"pixel-ap:study.mean":       "pixel-ap",
		"auroc:study.max:study.max": "auroc:study.max",
		"auroc:":                    "auroc",
	} {
		_, err := Parse(name)
		if err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("Parse(%q): %v, want a hint at %q", name, err, hint)
		}
	}
}

func TestFloor(t *testing.T) {
	for name, want := range map[string]float64{"acc@q-val.05": .625, "ap": .625, "auroc:study.max": .5, "f1@f1-test": .769230769, "auroc": .5} {
		got, ok := Floor(parse(t, name), 390./624)
		if !ok {
			t.Errorf("%s: no floor", name)
		}
		near(t, name, got, want, 1e-9)
	}
	for _, name := range []string{"sens@q-val.05", "pixel-ap", "dice@best", "ap:type.virus", "f1@q-val.05:study.max"} {
		if _, ok := Floor(parse(t, name), .5); ok {
			t.Errorf("%s: a floor", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		f.Add(name)
	}
	f.Add("f1@fixed.")
	f.Add("@:")
	f.Fuzz(func(t *testing.T, name string) {
		s, err := Parse(name)
		if err != nil {
			return
		}
		if again, err := Parse(name); err != nil || again != s || s.ID() == "" {
			t.Errorf("Parse(%q) = %v, %v, then %v", name, s, s.ID(), err)
		}
	})
}
