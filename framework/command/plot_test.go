package command

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thorax/framework/data"
	"thorax/framework/data/phantom"
	"thorax/framework/record"
)

// Case sheets read the images of a made-up folder set, which the runs name relative to
// an experiment in a folder of experiments; where they are gone or are others, the
// reason is said.
func TestPlotCases(t *testing.T) {
	t.Chdir(t.TempDir())
	o := phantom.DefaultOptions()
	o.Size, o.Train, o.TestNormal, o.TestAbnormal = 32, 4, 6, 6
	if err := writePhantom(t.Context(), "images/made", o); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("experiments/deeper", 0o755); err != nil {
		t.Fatal(err)
	}
	options := data.DefaultOptions()
	options.Root, options.Size, options.Validation = "images/made", 32, 0
	set, err := data.Open(options, "cache")
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	files, sum := set.Fingerprint()
	f, err := record.Create("results/x/made-32/simsid/seed-0")
	if err != nil {
		t.Fatal(err)
	}
	var scores []record.Score
	for i, item := range set.Items(data.Test) {
		scores = append(scores, record.Score{Split: "test", Path: item.Path, Abnormal: item.Abnormal, Subtype: item.Subtype, Score: float64(i)})
	}
	config := "[data]\nname = \"made-32\"\nset = \"folder\"\nroot = \"../../images/made\"\nsize = 32\nvalidation = 0.0\n"
	run := record.Run{Status: record.Complete, Experiment: "x", Data: "made-32", Method: "simsid", Label: "SimSID", Fingerprint: record.Fingerprint{Files: files, SHA256: sum}}
	if err := errors.Join(f.WriteScores(scores), f.WriteConfig([]byte(config)), f.WriteRun(run)); err != nil {
		t.Fatal(err)
	}
	plot := func(more ...string) (listed, told string, err error) {
		var out, errOut bytes.Buffer
		err = Run(context.Background(), append([]string{"plot", "results/x", "--kind", "cases", "--format", "png", "--cache", "cache"}, more...), &out, &errOut)
		return out.String(), errOut.String(), err
	}
	listed, told, err := plot()
	if err != nil || !strings.HasSuffix(listed, "/results/x/cases-made-32-simsid.png\n") {
		t.Fatalf("%v\n%s%s", err, listed, told)
	}
	sheet, err := os.Open(strings.TrimSpace(listed))
	if err != nil {
		t.Fatal(err)
	}
	defer sheet.Close()
	picture, err := png.Decode(sheet)
	if err != nil {
		t.Fatal(err)
	}
	middle := 0 // pixels of neither ink nor paper: those of the images
	for x := range picture.Bounds().Dx() {
		if r, _, _, _ := picture.At(x, 300).RGBA(); r>>8 > 20 && r>>8 < 235 {
			middle++
		}
	}
	if middle < picture.Bounds().Dx()/4 {
		t.Errorf("%d grey pixels in a line through the first images", middle)
	}

	// The page of a report shows them on request.
	for _, args := range [][]string{{"report", "results/x", "--resamples", "100", "--cache", "cache"}, {"report", "results/x", "--resamples", "100", "--cache", "cache", "--cases"}} {
		if _, err := command(t, args...); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile("results/x/report.html")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := bytes.Contains(page, []byte(`<img src="data:image/png`)), args[len(args)-1] == "--cases"; got != want {
			t.Errorf("%q: pictures on the page: %t", args, got)
		}
	}

	// Moved, the images are found by --data only.
	if err := os.Rename("images", "elsewhere"); err != nil {
		t.Fatal(err)
	}
	if listed, told, err = plot(); err == nil || listed != "" || !strings.Contains(told, "images are not at hand") || !strings.Contains(told, "name its folder with --data") {
		t.Errorf("moved: %v\n%s%s", err, listed, told)
	}
	if listed, told, err = plot("--data", "elsewhere/made"); err != nil || listed == "" {
		t.Errorf("moved and named: %v\n%s%s", err, listed, told)
	}
	// Other images are not taken for them.
	image := filepath.Join("elsewhere/made", filepath.FromSlash(scores[0].Path))
	other, err := os.ReadFile(filepath.Join("elsewhere/made", filepath.FromSlash(scores[1].Path)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, other, 0o644); err != nil {
		t.Fatal(err)
	}
	if listed, told, err = plot("--data", "elsewhere/made"); err == nil || listed != "" || !strings.Contains(told, "holds other images") {
		t.Errorf("another image: %v\n%s%s", err, listed, told)
	}
	// An imported run has none.
	if err := f.WriteConfig([]byte("[data]\nname = \"made-32\"\nset = \"none\"\n")); err != nil {
		t.Fatal(err)
	}
	if _, told, err = plot(); err == nil || !strings.Contains(told, "names no data set") {
		t.Errorf("imported: %v\n%s", err, told)
	}
}
