package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// A histogram shows the test scores of one run, each class as shares of itself.
// The outer bins also hold what lies beyond the range, which spans the middle
// 99 % of the scores.
type histogram struct {
	low, high        float64
	normal, abnormal [bins]float64
	threshold        float64 // of the first figure with an honest threshold; NaN: none
	rule             string
}

const bins = 32

func newHistogram(r *run) (*histogram, bool) {
	scores, abnormal := r.test()
	if len(scores) == 0 {
		return nil, false
	}
	sorted := slices.Sorted(slices.Values(scores))
	h := &histogram{threshold: math.NaN()}
	h.low, h.high = sorted[len(sorted)/200], sorted[len(sorted)-1-len(sorted)/200]
	if h.low == h.high {
		h.low, h.high = h.low-.5, h.high+.5
	}
	var n [2]int
	for i, s := range scores {
		bin := int(float64(bins) * (s - h.low) / (h.high - h.low))
		bin = min(bins-1, max(0, bin))
		if abnormal[i] {
			h.abnormal[bin]++
		} else {
			h.normal[bin]++
		}
		n[ordinal(abnormal[i])]++
	}
	for i := range bins {
		h.normal[i] /= math.Max(1, float64(n[0]))
		h.abnormal[i] /= math.Max(1, float64(n[1]))
	}
	for _, f := range r.figures {
		if f.OK && f.HasThreshold && !f.Oracle && !strings.Contains(f.ID, "all-images") && !strings.Contains(f.ID, "abnormal-images") {
			h.threshold = f.Threshold
			_, h.rule, _ = strings.Cut(f.Name, "@")
			break
		}
	}
	return h, true
}

// svg draws the histogram, 280×120: normal as a filled area, abnormal as a line,
// so that it reads without colours, and the threshold dashed.
func (h *histogram) svg() template.HTML {
	const width, height, base = 280., 120., 104.
	var top float64
	for i := range bins {
		top = max(top, h.normal[i], h.abnormal[i])
	}
	outline := func(shares [bins]float64) string {
		var b strings.Builder
		fmt.Fprintf(&b, "M0 %g", base)
		for i, share := range shares {
			y := base - (base-6)*share/top
			fmt.Fprintf(&b, "L%.2f %.2fL%.2f %.2f", width*float64(i)/bins, y, width*float64(i+1)/bins, y)
		}
		fmt.Fprintf(&b, "L%g %g", width, base)
		return b.String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="histogram" viewBox="-2 0 %g %g" role="img">`, width+4, height)
	fmt.Fprintf(&b, `<path d="%s" fill="#56b4e9" fill-opacity=".55"/>`, outline(h.normal))
	fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="#d55e00" stroke-width="1.8"/>`, outline(h.abnormal))
	if x := width * (h.threshold - h.low) / (h.high - h.low); x >= 0 && x <= width {
		fmt.Fprintf(&b, `<path d="M%.2f 4V%g" stroke="#000" stroke-width="1" stroke-dasharray="4 3"/>`, x, base)
	}
	fmt.Fprintf(&b, `<path d="M0 %gH%g" stroke="#555"/>`, base, width)
	fmt.Fprintf(&b, `<text x="0" y="117">%.3g</text><text x="%g" y="117" text-anchor="end">%.3g</text></svg>`, h.low, width, h.high)
	return template.HTML(b.String()) // numbers only
}
