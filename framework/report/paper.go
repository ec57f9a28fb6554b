package report

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/metric"
	"thorax/framework/published"
)

// published returns the cell of a published figure beside the row's, with its
// source, and why it is not subtracted, as a footnote.
func (t *table) published(s *set, r *row, spec metric.Spec, files []*published.File) cell {
	ours := metric.Summarize(r.values(s, spec))
	c, ok := published.Compare(files, r.asPublished(s), spec, ours)
	if !ok || ours.N == 0 {
		return cell{}
	}
	note := fmt.Sprintf("%s, %s, %s", c.Source, c.Figure.Table, c.Figure.Label)
	if c.Figure.Mark != "" {
		note += " (marked " + c.Figure.Mark + " there)"
	}
	if c.Reason != "" {
		note += ": " + string(c.Verdict) + ", " + c.Reason
	}
	return cell{mean: c.Value.Mean, sd: c.Value.SD, n: 1, words: c.Text(), marks: t.note(note)}
}

// asPublished describes the row by its protocol, as far as its folders say.
func (r *row) asPublished(s *set) published.Row {
	out := published.Row{Data: []string{s.data}, Method: r.method, Label: r.label, Keys: map[string]string{}}
	runs := r.complete()
	if len(runs) == 0 {
		return out
	}
	var config struct {
		Data   map[string]any `toml:"data"`
		Method map[string]any `toml:"method"`
		Train  map[string]any `toml:"train"`
	}
	text, err := runs[0].Config()
	if err == nil {
		_, err = toml.Decode(string(text), &config)
	}
	if err != nil {
		return out // an imported run has none: its protocol is unknown, and equals nothing
	}
	for _, key := range slices.Sorted(maps.Keys(config.Method)) {
		out.Keys[key] = fmt.Sprint(config.Method[key])
	}
	size := fmt.Sprint(config.Data["size"])
	out.Data = append(out.Data, strings.TrimSuffix(s.data, "-"+size))
	layout, _ := config.Data["set"].(string)
	p := &out.Protocol
	p.Size, p.Repeats, p.Selection = size, fmt.Sprint(len(runs)), "last"
	for _, s := range []any{config.Method["selection"], config.Train["selection"]} {
		if selection, ok := s.(string); ok {
			p.Selection = selection
		}
	}
	var splits []string
	switch layout {
	case "zhanglab", "covidx", "chexpert-pa": // these layouts are official splits
		out.Data = append(out.Data, strings.TrimSuffix(layout, "-pa"))
		splits = append(splits, "official test")
	case "chexpert": // its test images are drawn by us
		out.Data = append(out.Data, layout)
	}
	if n := trainingImages.FindStringSubmatch(runs[0].Run.SplitRule); n != nil {
		splits = append(splits, fmt.Sprintf("%s/%d/%d", n[1], s.normal, s.abnormal))
	}
	p.Split = strings.Join(splits, ", ")
	if share, ok := config.Data["contamination"].(float64); ok { // no source trains on such images unless it says so
		p.Split = fmt.Sprintf("training contaminated by %g %%", 100*share)
	}
	return out
}

// trainingImages finds their number in a run's split rule.
var trainingImages = regexp.MustCompile(`training: (?:all )?(\d+)`)
