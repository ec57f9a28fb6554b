package published

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"thorax/framework/metric"
)

const sample = `
source = "a paper"
url = "https://example.org"
unit = "percent"
protocol = { size = 64, repeats = 3, selection = "last", threshold = "acc-test", split = "100/20/30 RSNA, 7/8/9 other" }

[[figure]]
table = "1"
data = "rsna"
method = "ae"
label = "AE 16"
latent = 16
auroc = { mean = 70.0, sd = 0.4 }
f1 = { mean = 60 }

[[figure]]
table = "1"
data = "rsna"
method = "ae"
label = "AE 4"
latent = 4
auroc = { mean = 80.0, sd = 0.3 }

[[figure]]
table = "2"
data = "rsna"
method = "ae"
label = "w/o skip"
variant = "no_skip"
latent = 4
auroc = { mean = 50.0, sd = 0.3 }
`

func read(t *testing.T, text string) *File {
	t.Helper()
	f, err := parse("sample.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func spec(t *testing.T, name string) metric.Spec {
	t.Helper()
	s, err := metric.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ours() Row {
	return Row{Data: []string{"rsna-64", "rsna"}, Method: "ae", Label: "ae", Keys: map[string]string{"latent": "4"},
		Protocol: Protocol{Size: "64", Repeats: "3", Selection: "last", Split: "official test, 100/20/30"}}
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name     string
		metric   string
		change   func(*Row)
		mean     float64
		sd       float64
		verdict  Verdict
		gap, sds float64 // by hand
		unlike   []Field
	}{
		// Combined sd √(.4² + .3²) = .5 points.
		{"near", "auroc", nil, .805, .004, Met, .005, 1, nil},
		{"below", "auroc", nil, .75, .004, Short, -.05, -10, nil},
		{"above is no reproduction either", "auroc", nil, .85, .004, Short, .05, 10, nil},
		{"near, but too wide", "auroc", nil, .805, .04, Short, .005, .005 / math.Hypot(.04, .003), nil},
		{"another key picks another figure", "auroc", func(r *Row) { r.Keys["latent"] = "16" }, .7, .003, Met, 0, 0, nil},
		{"another size", "auroc", func(r *Row) { r.Protocol.Size = "128" }, .8, .01, NotComparable, 0, math.NaN(),
			[]Field{{"size", "128", "64"}}},
		{"what we do not know equals nothing", "auroc", func(r *Row) { r.Protocol.Selection = "" }, .8, .01, NotComparable, 0, math.NaN(),
			[]Field{{"selection", "unknown", "last"}}},
		{"two fields", "auroc", func(r *Row) { r.Protocol.Repeats = "5"; r.Protocol.Split = "1/2/3" }, .8, .01, NotComparable, 0, math.NaN(),
			[]Field{{"repeats", "5", "3"}, {"split", "1/2/3", "100/20/30 RSNA, 7/8/9 other"}}},
		{"F1 under another threshold", "f1@f1-test", func(r *Row) { r.Keys["latent"] = "16" }, .6, .01, NotComparable, 0, math.NaN(),
			[]Field{{"threshold", "f1-test", "acc-test"}}},
		{"F1 as printed, without sd", "f1@acc-test", func(r *Row) { r.Keys["latent"] = "16" }, .6, .001, Met, 0, math.NaN(), nil},
		{"an ablation", "auroc", func(r *Row) { r.Label = "ae no-skip"; r.Keys["latent"] = "4" }, .5, .004, Met, 0, 0, nil},
		{"one seed, as the paper", "auroc", func(r *Row) { r.Protocol.Repeats = "3" }, .805, 0, Short, .005, math.NaN(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			row := ours()
			if tt.change != nil {
				tt.change(&row)
			}
			n := 3
			if tt.sd == 0 {
				n = 1
			}
			c, ok := read(t, sample).Compare(row, spec(t, tt.metric), metric.Summary{Mean: tt.mean, SD: tt.sd, N: n})
			if !ok {
				t.Fatal("no figure found")
			}
			same := math.Abs(c.GapSD-tt.sds) < 1e-9 || math.IsNaN(c.GapSD) && math.IsNaN(tt.sds)
			if c.Verdict != tt.verdict || math.Abs(c.Gap-tt.gap) > 1e-12 || !same {
				t.Errorf("%s (%s), gap %g, %g sd; want %s, %g, %g", c.Verdict, c.Reason, c.Gap, c.GapSD, tt.verdict, tt.gap, tt.sds)
			}
			if diff := cmp.Diff(tt.unlike, c.Unlike); diff != "" {
				t.Error(diff)
			}
			if (c.Verdict == Met) != (c.Reason == "") {
				t.Errorf("verdict %s with reason %q", c.Verdict, c.Reason)
			}
		})
	}
}

func TestNothingToCompare(t *testing.T) {
	f := read(t, sample)
	for name, change := range map[string]func(*Row){
		"another method": func(r *Row) { r.Method = "vae" },
		"another set":    func(r *Row) { r.Data = []string{"ct"} },
	} {
		row := ours()
		change(&row)
		if c, ok := f.Compare(row, spec(t, "auroc"), metric.Summary{Mean: .5, N: 1}); ok {
			t.Errorf("%s: found %+v", name, c)
		}
	}
	if c, ok := f.Compare(ours(), spec(t, "ap"), metric.Summary{Mean: .5, N: 1}); ok {
		t.Errorf("ap, which is not printed: found %+v", c)
	}
}

// Unknown on both sides is not the same protocol.
func TestUnknownEqualsNothing(t *testing.T) {
	f := read(t, strings.ReplaceAll(sample, `"last"`, `"unknown"`))
	row := ours()
	row.Protocol.Selection = Unknown
	c, ok := f.Compare(row, spec(t, "auroc"), metric.Summary{Mean: .8, SD: .001, N: 3})
	if !ok || c.Verdict != NotComparable || c.Gap != 0 {
		t.Errorf("unknown against unknown: %+v, %v", c, ok)
	}
}

func TestText(t *testing.T) {
	f := read(t, sample)
	row := ours()
	c, _ := f.Compare(row, spec(t, "auroc"), metric.Summary{Mean: .75, SD: .004, N: 3})
	if got, want := c.Text(), "80.0 ± 0.3, −5.0 (−10.0 sd), short"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	row.Protocol.Size = "32"
	c, _ = f.Compare(row, spec(t, "auroc"), metric.Summary{Mean: .75, SD: .004, N: 3})
	if got, want := c.Text()+"; "+c.Reason, "80.0 ± 0.3, not comparable; size: ours 32, theirs 64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"unit", `"percent"`, `"points"`, "unit"},
		{"no source", `"a paper"`, `""`, "source"},
		{"protocol field missing", `size = 64, `, ``, "protocol.size: missing"},
		{"protocol field unknown", `size = 64`, `size = 64, crop = 3`, "protocol.crop"},
		{"top-level key", `unit =`, "sauce = 1\nunit =", "sauce"},
		{"out of range", `70.0`, `170.0`, "figure 1 (1, rsna, AE 16): auroc: mean"},
		{"unknown metric", `f1 =`, `f2 =`, "f2: no metric"},
		{"no mean", `{ mean = 60 }`, `{ sd = 1 }`, "mean: missing"},
		{"twice", `"AE 4"` + "\nlatent = 4", `"AE 16"` + "\nlatent = 16", "figure 2 (1, rsna, AE 16): listed twice"},
		{"no label", `label = "AE 4"`, ``, "label: missing"},
		{"not TOML", `[[figure]]`, `[[figure`, "sample.toml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(sample, tt.old, tt.new, 1)
			if text == sample {
				t.Fatal("nothing replaced")
			}
			if _, err := parse("sample.toml", text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// The files that come with the experiments; the values are those of arXiv
// 2403.08689, Table I, and of AE4AD, Table 1.
func TestExperimentsFigures(t *testing.T) {
	paths, err := filepath.Glob("../../experiments/published/*.toml")
	if err != nil || len(paths) < 5 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	n := 0
	for _, path := range paths {
		f, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		n += len(f.Figures)
		for _, g := range f.Figures {
			switch {
			case filepath.Base(path) == "simsid.toml" && g.Table == "Table I" && g.Data == "zhanglab" && g.Method == "squid":
				if v := g.Values["auroc"]; math.Abs(v.Mean-.876) > 1e-12 || math.Abs(v.SD-.015) > 1e-12 || !v.HasSD {
					t.Errorf("SQUID on ZhangLab: %+v", g.Values)
				}
			case filepath.Base(path) == "ae4ad.toml" && g.Data == "rsna" && g.Label == "AE 4":
				if g.Keys["latent"] != "4" || math.Abs(g.Values["auroc"].Mean-.729) > 1e-12 {
					t.Errorf("AE 4 on RSNA: %+v", g)
				}
			}
		}
	}
	if n != 112 {
		t.Errorf("%d figures, want the 112 transcribed ones", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parse("x.toml", text)
		if err != nil {
			return
		}
		for _, g := range file.Figures {
			for _, v := range g.Values {
				if !(v.Mean >= 0 && v.Mean <= 1 && v.SD >= 0 && v.SD <= 1) {
					t.Errorf("value %+v", v)
				}
			}
		}
	})
}
