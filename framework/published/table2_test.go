package published

import (
	"math"
	"testing"

	"github.com/BurntSushi/toml"

	"thorax/framework/metric"
)

// Every row of the experiment is beside its own row of Table II, and each of these is used; with the
// protocol of the source the values are subtracted.
func TestTableII(t *testing.T) {
	f, err := Read("../../experiments/published/simsid.toml")
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, g := range f.Figures {
		if g.Table == "Table II" {
			left[g.Label] = true
		}
	}
	if len(left) != 12 {
		t.Fatalf("%d rows of Table II, want 12", len(left))
	}
	for _, name := range []string{"table2", "table2-quick"} {
		var experiment struct {
			Method []struct {
				Name  string `toml:"name"`
				Label string `toml:"label"`
			} `toml:"method"`
		}
		if _, err := toml.DecodeFile("../../experiments/simsid/"+name+".toml", &experiment); err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for _, m := range experiment.Method {
			row := Row{Data: []string{"zhanglab"}, Method: m.Name, Label: m.Label, Protocol: f.Protocol,
				Keys: map[string]string{"patches": "4", "items": "100", "top_k": "5"}}
			for _, word := range []string{"auroc", "acc@acc-test", "f1@acc-test"} {
				c, ok := f.Compare(row, spec(t, word), metric.Summary{Mean: .7, SD: .01, N: 3})
				if !ok || c.Figure.Table != "Table II" || c.Verdict == NotComparable || math.Abs(c.Gap-(.7-c.Value.Mean)) > 1e-12 || c.Gap == 0 {
					t.Errorf("%s, %s, %s: %+v, %v", name, m.Label, word, c, ok)
					continue
				}
				used[c.Figure.Label] = true
			}
		}
		for label := range left {
			if !used[label] {
				t.Errorf("%s: no row for %q", name, label)
			}
		}
	}
	// A row of a sweep has other keys than the published one: they are named.
	row := Row{Data: []string{"zhanglab"}, Method: "simsid", Label: "SimSID patches=2", Protocol: f.Protocol,
		Keys: map[string]string{"patches": "2", "items": "100", "top_k": "5"}}
	c, ok := f.Compare(row, spec(t, "auroc"), metric.Summary{Mean: .9, N: 1})
	if !ok || c.Verdict != NotComparable || c.Reason != "patches: ours 2, theirs 4" {
		t.Errorf("%+v, %v", c, ok)
	}
}
