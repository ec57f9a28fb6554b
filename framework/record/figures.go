package record

import (
	"fmt"
	"math"

	"thorax/framework/metric"
)

// figure is a [metric.Figure] in metrics.json; a value that was not computed is
// absent, never 0.
type figure struct {
	Name      string   `json:"name"`
	ID        string   `json:"id"`
	Value     *float64 `json:"value,omitempty"`
	Reason    string   `json:"reason,omitempty"` // why there is no value
	Oracle    bool     `json:"oracle,omitempty"`
	Threshold *float64 `json:"threshold,omitempty"`
}

// WriteFigures replaces metrics.json, in the given order. A value or threshold
// that is not finite is an error that names the figure.
func (f *Folder) WriteFigures(figures []metric.Figure) error {
	out := make([]figure, len(figures))
	for i, g := range figures {
		out[i] = figure{Name: g.Name, ID: g.ID, Oracle: g.Oracle, Reason: g.Reason}
		if g.OK {
			out[i].Value = &g.Value
		}
		if g.HasThreshold {
			out[i].Threshold = &g.Threshold
		}
		for _, v := range []*float64{out[i].Value, out[i].Threshold} {
			if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
				return fmt.Errorf("write %s: %s has the value or threshold %g", f.Path("metrics.json"), g.Name, *v)
			}
		}
	}
	return f.writeJSON("metrics.json", out)
}

// Figures reads metrics.json. A missing file is [os.ErrNotExist].
func (f *Folder) Figures() ([]metric.Figure, error) {
	var in []figure
	if err := f.readJSON("metrics.json", &in); err != nil {
		return nil, err
	}
	figures := make([]metric.Figure, len(in))
	for i, g := range in {
		figures[i] = metric.Figure{Name: g.Name, ID: g.ID, Oracle: g.Oracle, Reason: g.Reason, OK: g.Value != nil}
		if g.Value != nil {
			figures[i].Value = *g.Value
		}
		if g.Threshold != nil {
			figures[i].Threshold, figures[i].HasThreshold = *g.Threshold, true
		}
	}
	return figures, nil
}
