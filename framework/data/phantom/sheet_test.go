package phantom

import (
	"flag"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

var (
	sheet     = flag.String("sheet", "", "write contact sheets of both modalities into this folder")
	sheetSide = flag.Int("side", 192, "side of an image on a contact sheet")
)

// TestSheet draws images to be looked at: a row of normals, then a row per
// lesion type with levels 0 to 3, each beside its mask's outline.
func TestSheet(t *testing.T) {
	if *sheet == "" {
		t.Skip("give -sheet DIR to see contact sheets")
	}
	for _, modality := range []string{Radiograph, CT} {
		o := DefaultOptions()
		o.Modality, o.Size = modality, *sheetSide
		const columns = 8
		out := image.NewRGBA(image.Rect(0, 0, columns*o.Size, 6*o.Size))
		show := func(row, column int, c Case) {
			grey, mask, err := o.Render(c)
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range grey {
				x, y := i%o.Size, i/o.Size
				pixel := color.RGBA{g, g, g, 255}
				if mask != nil && column%2 == 1 && mask[i] > 0 && x > 0 && y > 0 && x < o.Size-1 && y < o.Size-1 &&
					(mask[i-1] == 0 || mask[i+1] == 0 || mask[i-o.Size] == 0 || mask[i+o.Size] == 0) {
					pixel = color.RGBA{255, 60, 0, 255}
				}
				out.SetRGBA(column*o.Size+x, row*o.Size+y, pixel)
			}
		}
		for column := range columns {
			show(0, column, Case{patient: column})
			for k, name := range kindNames {
				show(k+1, column, Case{patient: 10*k + 20 + column/2, Abnormal: true, Subtype: name, Level: column / 2})
			}
		}
		f, err := os.Create(filepath.Join(*sheet, modality+".png"))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, out); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	for _, modality := range []string{Radiograph, CT} {
		b.Run(modality, func(b *testing.B) {
			o := DefaultOptions()
			o.Modality = modality
			i := 0
			for b.Loop() {
				c := Case{patient: i, Abnormal: true, Subtype: kindNames[i%int(kinds)], Level: 2}
				if _, _, err := o.Render(c); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
