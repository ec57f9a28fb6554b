package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A row may contaminate its training images: a sweep of rows on one data block.
func TestContamination(t *testing.T) {
	clean := mustRuns(t, oneAE)[0]
	runs := mustRuns(t, oneAE+"vary = { data.contamination = [0, 0.1, 0.5] }\n")
	var got []string
	for _, r := range runs {
		got = append(got, fmt.Sprintf("%s: %g in %s", r.Label, r.Data.Contamination, r.Dir))
	}
	want := []string{
		"ae data.contamination=0: 0 in results/x/zhanglab-128/ae-data.contamination=0/seed-0",
		"ae data.contamination=0.1: 0.1 in results/x/zhanglab-128/ae-data.contamination=0.1/seed-0",
		"ae data.contamination=0.5: 0.5 in results/x/zhanglab-128/ae-data.contamination=0.5/seed-0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	// None is the configuration that there was before the key; any enters the identity, and reads back.
	if runs[0].Hash() != clean.Hash() || runs[1].Hash() == clean.Hash() || runs[1].Hash() == runs[2].Hash() {
		t.Errorf("hashes %s, %s, %s, clean %s", runs[0].Hash(), runs[1].Hash(), runs[2].Hash(), clean.Hash())
	}
	text, err := runs[1].TOML()
	if err != nil || !strings.Contains(string(text), "contamination = 0.1\n") {
		t.Errorf("%v\n%s", err, text)
	}
	if plain, err := clean.TOML(); err != nil || strings.Contains(string(plain), "contamination") {
		t.Errorf("a clean configuration speaks of it: %v\n%s", err, plain)
	}
	if diff := clean.Diff(text); !slices.Equal(diff, []string{"data.contamination: 0.1 → none"}) {
		t.Errorf("diff %q", diff)
	}
	// The block's own holds for rows that set none.
	runs = mustRuns(t, plainData+"contamination = 0.2\n[[method]]\nname = \"ae\"\n[[method]]\nname = \"ae\"\nlabel = \"clean\"\ndata = { contamination = 0 }\n")
	if runs[0].Data.Contamination != 0.2 || runs[1].Data.Contamination != 0 {
		t.Errorf("%g, %g; want the block's 0.2, and 0", runs[0].Data.Contamination, runs[1].Data.Contamination)
	}
}
