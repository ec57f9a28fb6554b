package report

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"slices"

	"golang.org/x/image/draw"

	"thorax/framework/record"
)

// A sheet shows the same cases for all methods.
type sheet struct {
	Note    string // why there is none; "" if there is one
	Methods []sheetMethod
	Groups  []caseGroup
}

// A sheetMethod is one method's column: the run it is from and the scale of its maps.
type sheetMethod struct {
	Label     string
	Seed      int64
	Low, High string // of the map's colours; "" without maps
	Note      string
}

type caseGroup struct {
	Title string
	Cases []shownCase
}

type shownCase struct {
	Path, Class string
	Picture     template.URL // "" where there is none
	Cells       []caseCell   // one for each method
}

type caseCell struct {
	Picture template.URL // the map over the image; "" without a map
	Score   string
	Rank    int // 1 is the most anomalous; equal scores share the best rank
	Of      int
}

// Cases of each kind, and the seed of the random ones.
const (
	casesEach = 4
	casesSeed = 1
)

// caseColumn is one method's run with ranks by image.
type caseColumn struct {
	label string
	run   *run
	index map[string]int // of a path among the test images, which is also its map
	test  []record.Score
	rank  []int
	share []float64 // (mid-rank from the top − ½)/N, in (0,1): what cases are chosen by
}

// newSheet chooses the cases of a data set by rule. Worst misses are the abnormal
// images, and worst false alarms the normal ones, with the lowest and the highest
// rank averaged over all methods that are neither trivial nor an oracle's; the random ones are drawn
// from the rest with a fixed seed. Each method shows its complete run of the
// lowest seed. Without the images the sheet is a note; missing may say why.
func newSheet(s *set, images Images, missing error) (*sheet, error) {
	if images == nil && missing != nil {
		return &sheet{Note: fmt.Sprintf("The case sheet is left out: %v.", missing)}, nil
	}
	if images == nil {
		return &sheet{Note: "The case sheet is left out: the images were not at hand when this page was made."}, nil
	}
	columns := caseColumns(s)
	if columns == nil {
		return &sheet{Note: "The case sheet is left out: no run is complete."}, nil
	}
	out := &sheet{}
	groups := chooseCases(columns)
	pictures := make(map[string]*image.Gray)
	for _, g := range groups {
		group := caseGroup{Title: g.title}
		for _, score := range g.cases {
			c := shownCase{Path: score.Path, Class: "normal"}
			if score.Abnormal {
				c.Class = cmp.Or(score.Subtype, "abnormal")
			}
			if picture, ok := pixels(images, score.Path, pictureSize); ok {
				pictures[score.Path] = picture
				var err error
				if c.Picture, err = dataURL(picture); err != nil {
					return nil, err
				}
			}
			group.Cases = append(group.Cases, c)
		}
		out.Groups = append(out.Groups, group)
	}
	for _, column := range columns { // one method's maps in memory at a time
		method, err := out.fill(column, pictures)
		if err != nil {
			return nil, err
		}
		out.Methods = append(out.Methods, method)
	}
	return out, nil
}

func caseColumns(s *set) []caseColumn {
	var columns []caseColumn
	for _, r := range s.rows {
		runs := r.complete()
		if len(runs) == 0 || !r.competes() || r.trivial() && columns != nil && !s.rows[0].trivial() {
			continue
		}
		if c := newColumn(r); c.test != nil {
			columns = append(columns, c)
		}
	}
	return columns
}

// newColumn ranks the test images of a row's complete run of the lowest seed.
func newColumn(r *row) caseColumn {
	run := r.complete()[0]
	c := caseColumn{label: r.label, run: run, index: make(map[string]int)}
	for _, score := range run.scores {
		if score.Split == "test" {
			c.index[score.Path] = len(c.test)
			c.test = append(c.test, score)
		}
	}
	c.setRanks()
	return c
}

// maps reads the column's maps and their one scale; note says why there are none.
func (c caseColumn) maps() (maps *record.Maps, low, high float32, note string) {
	maps, err := c.run.ReadMaps("test")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, 0, 0, "no maps kept"
	case err != nil:
		return nil, 0, 0, "maps are damaged"
	case maps.N != len(c.test):
		return nil, 0, 0, fmt.Sprintf("%d maps for %d test images", maps.N, len(c.test))
	}
	low, high = mapScale(maps)
	return maps, low, high, ""
}

func (c *caseColumn) setRanks() {
	order := make([]int, len(c.test))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.test[b].Score, c.test[a].Score) })
	c.rank, c.share = make([]int, len(order)), make([]float64, len(order))
	for first := 0; first < len(order); {
		end := first + 1
		for end < len(order) && c.test[order[end]].Score == c.test[order[first]].Score {
			end++
		}
		for _, i := range order[first:end] {
			c.rank[i] = first + 1
			c.share[i] = float64(first+end) / 2 / float64(len(order))
		}
		first = end
	}
}

type chosen struct {
	title string
	cases []record.Score
}

func chooseCases(columns []caseColumn) []chosen {
	type candidate struct {
		record.Score
		share float64 // mean over the methods
	}
	var all []candidate
	for _, score := range columns[0].test {
		k := candidate{Score: score}
		for _, c := range columns {
			k.share += c.share[c.index[score.Path]] / float64(len(columns)) // all have the same images
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.share, b.share), cmp.Compare(a.Path, b.Path))
	})
	groups := []chosen{
		{title: "Worst misses: abnormal images that all methods together rank lowest"},
		{title: "Worst false alarms: normal images that all methods together rank highest"},
		{title: fmt.Sprintf("Random cases, drawn with seed %d", casesSeed)},
	}
	var rest []candidate
	for _, k := range all {
		if !k.Abnormal && len(groups[1].cases) < casesEach {
			groups[1].cases = append(groups[1].cases, k.Score)
		} else {
			rest = append(rest, k)
		}
	}
	all, rest = rest, nil
	for _, k := range slices.Backward(all) {
		if k.Abnormal && len(groups[0].cases) < casesEach {
			groups[0].cases = append(groups[0].cases, k.Score)
		} else {
			rest = append(rest, k)
		}
	}
	slices.SortFunc(rest, func(a, b candidate) int { return cmp.Compare(a.Path, b.Path) })
	random := rand.New(rand.NewPCG(casesSeed, 0))
	for _, i := range random.Perm(len(rest))[:min(casesEach, len(rest))] {
		groups[2].cases = append(groups[2].cases, rest[i].Score)
	}
	return groups
}

// fill adds one method's cell to every case.
func (s *sheet) fill(c caseColumn, pictures map[string]*image.Gray) (sheetMethod, error) {
	m := sheetMethod{Label: c.label, Seed: c.run.Run.Seed}
	maps, low, high, note := c.maps()
	if m.Note = note; note == "" {
		m.Low, m.High = fmt.Sprintf("%.3g", low), fmt.Sprintf("%.3g", high)
	}
	for g := range s.Groups {
		for k := range s.Groups[g].Cases {
			shown := &s.Groups[g].Cases[k]
			i := c.index[shown.Path]
			cell := caseCell{Score: fmt.Sprintf("%.4g", c.test[i].Score), Rank: c.rank[i], Of: len(c.test)}
			if picture := pictures[shown.Path]; picture != nil && m.Note == "" {
				var err error
				if cell.Picture, err = dataURL(overlay(picture, maps.At(i), maps.W, maps.H, low, high)); err != nil {
					return m, err
				}
			}
			shown.Cells = append(shown.Cells, cell)
		}
	}
	return m, nil
}

// mapScale is the one scale of a method's maps: from the median to the 99.5 %
// quantile of at most about 200,000 pixels spread evenly over all test maps.
func mapScale(m *record.Maps) (low, high float32) {
	each := max(1, m.H*m.W*m.N/200_000) | 1 // odd, so that it meets all columns of a map of even width
	var values []float32
	skip := 0
	for i := range m.N {
		v := m.At(i)
		for ; skip < len(v); skip += each {
			values = append(values, v[skip])
		}
		skip -= len(v)
	}
	if len(values) == 0 {
		return 0, 1
	}
	slices.Sort(values)
	return values[len(values)/2], values[len(values)-1-len(values)/200]
}

// pictureSize is the longest side of a picture on the page.
const pictureSize = 144

// pixels gets an image, shrunk if its longest side is above size.
func pixels(images Images, path string, size int) (*image.Gray, bool) {
	w, h, v, ok := images.Pixels(path)
	if !ok || w < 1 || h < 1 || len(v) != w*h {
		return nil, false
	}
	full := &image.Gray{Pix: v, Stride: w, Rect: image.Rect(0, 0, w, h)}
	long := max(w, h)
	if long <= size {
		return full, true
	}
	small := image.NewGray(image.Rect(0, 0, max(1, w*size/long), max(1, h*size/long)))
	draw.CatmullRom.Scale(small, small.Rect, full, full.Rect, draw.Src, nil)
	return small, true
}

// overlay lays a map of h×w over a picture: the higher the value between low and
// high, the warmer and the less transparent.
func overlay(picture *image.Gray, values []float32, w, h int, low, high float32) image.Image {
	size := picture.Rect.Size()
	out := image.NewRGBA(picture.Rect)
	for y := range size.Y {
		for x := range size.X {
			t := float64(0)
			if high > low {
				t = float64((sample(values, w, h, float32(x)+.5, float32(y)+.5, size) - low) / (high - low))
				t = min(1, max(0, t))
			}
			over, a := ramp(t), .75*t
			grey := float64(picture.GrayAt(x, y).Y)
			mix := func(c uint8) uint8 { return uint8((1-a)*grey + a*float64(c) + .5) }
			out.SetRGBA(x, y, color.RGBA{mix(over.R), mix(over.G), mix(over.B), 0xff})
		}
	}
	return out
}

// sample reads a map bilinearly at a point of a picture of another size; both
// cover the same frame.
func sample(values []float32, w, h int, x, y float32, size image.Point) float32 {
	place := func(p float32, n, of int) (int, int, float32) {
		q := min(float32(n-1), max(0, p*float32(n)/float32(of)-.5))
		i := int(q)
		return i, min(n-1, i+1), q - float32(i)
	}
	x0, x1, fx := place(x, w, size.X)
	y0, y1, fy := place(y, h, size.Y)
	top := values[y0*w+x0]*(1-fx) + values[y0*w+x1]*fx
	bottom := values[y1*w+x0]*(1-fx) + values[y1*w+x1]*fx
	return top*(1-fy) + bottom*fy
}

// rampColors rise in lightness, so that the order survives printing and colour
// blindness; page.html draws the same ones as a bar.
var rampColors = []color.RGBA{
	{0x2c, 0x11, 0x5f, 0xff}, {0x8c, 0x29, 0x81, 0xff}, {0xde, 0x49, 0x68, 0xff}, {0xfe, 0x9f, 0x6d, 0xff}, {0xfc, 0xfd, 0xbf, 0xff},
}

// ramp is the colour of t in [0,1].
func ramp(t float64) color.RGBA {
	p := t * float64(len(rampColors)-1)
	i := min(int(p), len(rampColors)-2)
	a, b, f := rampColors[i], rampColors[i+1], p-float64(i)
	mix := func(a, b uint8) uint8 { return uint8((1-f)*float64(a) + f*float64(b) + .5) }
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 0xff}
}

func dataURL(img image.Image) (template.URL, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return "", err
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), nil
}
