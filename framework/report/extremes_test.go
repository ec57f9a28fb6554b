package report

import (
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/plot/vg"

	"thorax/framework/record"
)

// By hand: of five normals three are high and two low; the tie goes by path.
func TestChooseExtremes(t *testing.T) {
	var test []record.Score
	for path, score := range map[string]float64{"n1": 1, "n2": 5, "n3": 5, "n4": 2, "n5": 4} {
		test = append(test, record.Score{Path: path, Score: score})
	}
	for i := range 20 {
		test = append(test, record.Score{Path: "a" + string(rune('a'+i)), Abnormal: true, Score: float64(i)})
	}
	var got []string
	for _, g := range chooseExtremes(test) {
		word, _, _ := strings.Cut(g.title, ":")
		for _, s := range g.cases {
			word += " " + s.Path
		}
		got = append(got, word)
	}
	want := "False alarms n2 n3 n5|Hits at as ar aq ap ao|Misses aa ab ac ad ae af|Rightly silent n1 n4"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("%s, want %s", s, want)
	}
}

// A sheet for each complete row, with maps where they were kept; without the images a
// reason.
func TestExtremes(t *testing.T) {
	entries, err := record.Find(filepath.Join(makeRuns(t), "phantom-32"))
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if dir := os.Getenv("THORAX_SCREENSHOT"); dir != "" { // for people to look at
		out = dir
	}
	o := Options{Plots: []string{"png"}, Images: map[string]Images{"phantom-32": squares{}}}
	files, left, err := Plots(out, entries, []string{"cases"}, o)
	if err != nil || len(left) > 0 || len(files) != 6 {
		t.Fatalf("%v, left out %q, files %q", err, left, files)
	}
	heights := map[string]int{}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		heights[filepath.Base(file)] = picture.Bounds().Dy()
	}
	if with, without := heights["cases-phantom-32-ae-latent-64.png"], heights["cases-phantom-32-chance.png"]; without == 0 || with <= without {
		t.Errorf("sheets %d high with maps and %d without", with, without)
	}

	sets, err := collect(entries, o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newExtremes(sets[0], sets[0].rows[0], o)
	if err != nil {
		t.Fatal(err)
	}
	hit := p.groups[1].cases[0]
	if len(p.groups) != 4 || hit.overlay == nil || hit.picture == nil || hit.lines[0] != "cancer" && hit.lines[0] != "fungal" || !strings.HasPrefix(hit.lines[1], "score ") {
		t.Errorf("%d groups, first hit %q", len(p.groups), hit.lines)
	}
	o.Images, o.NoImages = nil, map[string]error{"phantom-32": errors.New("data/x is missing")}
	if _, left, err = Plots(out, entries, []string{"cases"}, o); err != nil || len(left) != 1 || !strings.Contains(left[0], "not at hand: data/x is missing") {
		t.Errorf("no images: %v, left out %q", err, left)
	}
	o.Images = map[string]Images{"phantom-32": nowhere{}}
	if _, left, err = Plots(out, entries, []string{"cases"}, o); err != nil || len(left) != 1 || !strings.Contains(left[0], "holds none of the images") {
		t.Errorf("other images: %v, left out %q", err, left)
	}
}

// nowhere has no image.
type nowhere struct{}

func (nowhere) Pixels(string) (w, h int, v []uint8, ok bool) { return 0, 0, nil, false }

func TestElide(t *testing.T) {
	style := newLegend().TextStyle
	long := "person1_bacteria_00000000000000000001.jpeg"
	got := elide(long, style, 80)
	if style.Width(got) > 80 || !strings.HasPrefix(got, "person") || !strings.HasSuffix(got, ".jpeg") || elide("short", style, 80*vg.Points(1)) != "short" {
		t.Errorf("elided to %q", got)
	}
}
