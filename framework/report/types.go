package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"thorax/framework/metric"
)

// counts are the numbers of abnormal test images of each type, of the first complete run.
func (s *set) counts() map[string]int {
	n := map[string]int{}
	for _, r := range s.rows {
		for _, run := range r.complete() {
			for _, score := range run.scores {
				if score.Split == "test" && score.Abnormal && score.Subtype != "" {
					n[score.Subtype]++
				}
			}
			if len(n) > 0 {
				return n
			}
		}
	}
	return n
}

// ofTypes is the headline metric, the first one of images without a threshold, for each
// type of abnormal images; none where there are not two types.
func (s *set) ofTypes() []metric.Spec {
	types := slices.Sorted(maps.Keys(s.counts()))
	if len(types) < 2 {
		return nil
	}
	for _, spec := range s.specs {
		if _, ok := spec.OfType(types[0]); !ok || spec.Ruled() || spec.Pixel() {
			continue
		}
		var out []metric.Spec
		for _, t := range types {
			of, _ := spec.OfType(t)
			out = append(out, of)
		}
		return out
	}
	return nil
}

// typeTable has a column for each type of abnormal images; nil where none was asked for,
// or the set does not tell at least two.
func (s *set) typeTable(st *study, o Options) *table {
	if len(s.types) == 0 {
		return nil
	}
	typed := *s
	typed.specs = s.types
	t := newTable(&typed, st, Options{Tests: o.Tests, Resamples: o.Resamples, Seed: o.Seed})
	counts := s.counts()
	for i, c := range t.columns {
		t.columns[i].head = fmt.Sprintf("%s (%d)", c.spec.Type(), counts[c.spec.Type()])
	}
	t.part = heading(s.types[0].Base()) + " by type"
	// Seeds and split stand below the whole table.
	t.caption = slices.DeleteFunc(t.caption, func(line string) bool { return !strings.HasPrefix(line, testsAgainst) })
	t.caption = append([]string{fmt.Sprintf("One type of abnormal test images (their number) against all %d normal ones", s.normal)}, t.caption...)
	return t
}
