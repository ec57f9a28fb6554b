package report

import (
	"cmp"
	"fmt"
	"image"
	"image/color"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"thorax/framework/record"
)

// extremes is the case sheet of one row for print: the images with the highest and the
// lowest scores of either class, by its complete run of the lowest seed.
type extremes struct {
	title, note string
	groups      []extremeGroup
}

type extremeGroup struct {
	title string
	cases []extreme
}

// An extreme is one image with its caption; overlay is nil without a map, and both
// pictures are where the image was not found.
type extreme struct {
	picture, overlay image.Image
	lines            []string
}

// The number of cases of a group and the longest side of their pictures.
const (
	extremesEach = 6
	extremeSize  = 256
)

// newExtremes chooses the cases. No image is in two groups: of fewer than twice six
// images of a class, half are high and half are low. Errors: errNothing without a
// complete run or without the images; a file of the run is damaged.
func newExtremes(s *set, r *row, o Options) (*extremes, error) {
	runs := r.complete()
	if len(runs) == 0 {
		return nil, fmt.Errorf("%w: no run of %s is complete", errNothing, r.label)
	}
	images := o.Images[s.data]
	if images == nil {
		why := "the images are not at hand"
		if err := o.NoImages[s.data]; err != nil {
			why += ": " + err.Error()
		}
		return nil, fmt.Errorf("%w: %s", errNothing, why)
	}
	c := newColumn(r)
	if c.test == nil {
		return nil, fmt.Errorf("%w: %s has no test scores; score the run again", errNothing, r.label)
	}
	maps, low, high, note := c.maps()
	p := &extremes{title: fmt.Sprintf("%s: %s, %s, seed %d", s.rows[0].experiment, s.data, r.name(), runs[0].Run.Seed), note: note}
	if note == "" {
		p.note = fmt.Sprintf("maps from %.3g (dark) to %.3g (bright), median and 99.5 %% quantile of all", low, high)
	}
	p.note = fmt.Sprintf("rank 1 of %d test images is the most anomalous; %s", len(c.test), p.note)
	found := 0
	for _, g := range chooseExtremes(c.test) {
		group := extremeGroup{title: g.title}
		for _, score := range g.cases {
			i := c.index[score.Path]
			class := "normal"
			if score.Abnormal {
				class = cmp.Or(score.Subtype, "abnormal")
			}
			x := extreme{lines: []string{class, fmt.Sprintf("score %.4g", score.Score), fmt.Sprintf("rank %d", c.rank[i]), path.Base(score.Path)}}
			if picture, ok := pixels(images, score.Path, extremeSize); ok {
				found++
				x.picture = picture
				if maps != nil {
					x.overlay = overlay(picture, maps.At(i), maps.W, maps.H, low, high)
				}
			}
			group.cases = append(group.cases, x)
		}
		if group.cases != nil {
			p.groups = append(p.groups, group)
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("%w: the data set holds none of the images of %s", errNothing, runs[0].Path("scores.csv"))
	}
	return p, nil
}

// chooseExtremes takes the highest and the lowest scores of either class; of equal
// scores the first by path.
func chooseExtremes(test []record.Score) []chosen {
	var groups []chosen
	for _, abnormal := range []bool{false, true} {
		var class []record.Score
		for _, s := range test {
			if s.Abnormal == abnormal {
				class = append(class, s)
			}
		}
		n := len(class)
		slices.SortFunc(class, func(a, b record.Score) int {
			return cmp.Or(cmp.Compare(b.Score, a.Score), strings.Compare(a.Path, b.Path))
		})
		top := slices.Clone(class[:min(extremesEach, (n+1)/2)])
		slices.SortFunc(class, func(a, b record.Score) int {
			return cmp.Or(cmp.Compare(a.Score, b.Score), strings.Compare(a.Path, b.Path))
		})
		low := slices.DeleteFunc(class, func(s record.Score) bool { return slices.Contains(top, s) })
		low = low[:min(extremesEach, n/2)]
		if abnormal {
			groups = append(groups, chosen{"Hits: abnormal images with the highest scores", top}, chosen{"Misses: abnormal images with the lowest scores", low})
		} else {
			groups = append(groups, chosen{"False alarms: normal images with the highest scores", top}, chosen{"Rightly silent: normal images with the lowest scores", low})
		}
	}
	return []chosen{groups[0], groups[2], groups[3], groups[1]}
}

// draw paints a line of pictures for each group, the maps below the images, captions
// below both.
func (p *extremes) draw(w io.Writer, format string) error {
	const margin, gap, head, line, title = 12, 8, 34, 10, 18
	const side = 2.7 * vg.Centimeter
	pictures := 1
	for _, g := range p.groups {
		for _, x := range g.cases {
			if x.overlay != nil {
				pictures = 2
			}
		}
	}
	text := newLegend().TextStyle
	text.Font = sans(7.5)
	tall := vg.Length(title+4*line+gap) + vg.Length(pictures)*(side+2)
	width := extremesEach*(side+gap) - gap + 2*margin
	height := head + vg.Length(len(p.groups))*tall + 2*margin
	return render(w, format, width, height, func(whole draw.Canvas) {
		large, bold := text, text
		large.Font, bold.Font = sans(11), sans(9)
		whole.FillText(large, vg.Point{X: margin, Y: whole.Max.Y - margin - 10}, elide(p.title, large, width-2*margin))
		whole.FillText(text, vg.Point{X: margin, Y: whole.Max.Y - margin - 24}, elide(p.note, text, width-2*margin))
		for i, g := range p.groups {
			top := whole.Max.Y - margin - head - vg.Length(i)*tall
			whole.FillText(bold, vg.Point{X: margin, Y: top - 10}, g.title)
			for k, x := range g.cases {
				at := vg.Point{X: margin + vg.Length(k)*(side+gap), Y: top - title}
				for _, picture := range []image.Image{x.picture, x.overlay}[:pictures] {
					at.Y -= side + 2
					box := vg.Rectangle{Min: at, Max: vg.Point{X: at.X + side, Y: at.Y + side}}
					if picture != nil {
						whole.DrawImage(box, picture)
					} else {
						whole.SetColor(color.Gray{0xe0})
						whole.Fill(box.Path())
						whole.FillText(text, vg.Point{X: at.X + 6, Y: at.Y + side/2}, mark(x.picture == nil, "image not found"))
					}
				}
				for _, words := range x.lines {
					at.Y -= line
					whole.FillText(text, at, elide(words, text, side))
				}
			}
		}
	})
}

// elide cuts a text in its middle to a width.
func elide(words string, style draw.TextStyle, width vg.Length) string {
	if style.Width(words) <= width {
		return words
	}
	runes := []rune(words)
	for n := utf8.RuneCountInString(words) - 1; n > 1; n-- {
		short := string(runes[:(n+1)/2]) + "…" + string(runes[len(runes)-n/2:])
		if style.Width(short) <= width {
			return short
		}
	}
	return "…"
}
