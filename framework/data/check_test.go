package data

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"
	"strings"
	"testing"
)

// Each defect is found once, with its code, and a clean set gives only the note that patients are unknown.
func TestCheck(t *testing.T) {
	type finding struct {
		code     string
		severity Severity
		path     string
		text     string
	}
	unknown := finding{CodeGroup, Note, "", "no patient or study ids"}
	noMask := finding{CodePairing, Warning, "test/effusion/deep/d.png", "without a mask"}
	for _, tt := range []struct {
		name string
		edit func(map[string][]byte)
		want []finding
	}{
		{"clean", func(m map[string][]byte) {}, nil},
		{"truncated mask", func(m map[string][]byte) { m["test/masks/nodule/c.png"] = m["test/masks/nodule/c.png"][:60] },
			[]finding{{CodeUnreadable, Error, "test/masks/nodule/c.png", "truncated or damaged"}}},
		{"empty file", func(m map[string][]byte) { m["train/normal/0.png"] = nil },
			[]finding{{CodeZero, Error, "train/normal/0.png", "the file is empty"}}},
		{"mask of another size", func(m map[string][]byte) {
			m["test/masks/nodule/c.png"] = encode(t, block(21, 10, image.Rect(0, 0, 9, 9)))
		}, []finding{{CodePairing, Error, "test/masks/nodule/c.png", "21×10"}}},
		{"empty mask", func(m map[string][]byte) { m["test/masks/nodule/c.png"] = encode(t, block(20, 10, image.Rectangle{})) },
			[]finding{{CodeMask, Error, "test/masks/nodule/c.png", "empty"}}},
		{"vanishing mask", func(m map[string][]byte) { // 160×16 to 16×16: column 0 lies between the samples
			m["test/nodule/c.png"] = encode(t, texture(160, 16, 30))
			m["test/masks/nodule/c.png"] = encode(t, block(160, 16, image.Rect(0, 0, 1, 9)))
		}, []finding{{CodeMask, Warning, "test/masks/nodule/c.png", "vanishes at 16 pixels"}}},
		{"damaged lungs", func(m map[string][]byte) { m["lungs/test/normal/a.png"] = m["test/masks/nodule/c.png"][:60] },
			[]finding{{CodeUnreadable, Error, "lungs/test/normal/a.png", "truncated or damaged"}}},
		{"lungs of another size", func(m map[string][]byte) {
			m["lungs/test/normal/a.png"] = encode(t, block(10, 10, image.Rect(0, 0, 5, 5)))
		}, []finding{{CodePairing, Error, "lungs/test/normal/a.png", "10×10"}}},
		{"empty lungs", func(m map[string][]byte) { m["lungs/test/normal/a.png"] = encode(t, block(20, 10, image.Rectangle{})) },
			[]finding{{CodeMask, Warning, "lungs/test/normal/a.png", "empty"}}},
		{"mask without an image", func(m map[string][]byte) { m["masks/test/nodule/z.png"] = m["test/masks/nodule/c.png"] },
			[]finding{{CodePairing, Warning, "masks/test/nodule/z.png", "without an image"}}},
		{"copy in a split", func(m map[string][]byte) { m["train/normal/0.png"] = m["train/normal/2.png"] },
			[]finding{{CodeDuplicate, Warning, "train/normal/2.png", "the same pixels as train/normal/0.png"}}},
		{"copy across splits", func(m map[string][]byte) { m["train/normal/0.png"] = m["test/normal/a.png"] },
			[]finding{{CodeDuplicate, Error, "train/normal/0.png", "in another split"}}},
		{"conflict", func(m map[string][]byte) { m["train/normal/0.png"] = m["test/nodule/c.png"] },
			[]finding{{CodeConflict, Error, "train/normal/0.png", "the other label"}}},
		{"near copy", func(m map[string][]byte) {
			img := texture(20, 10, 10)
			for i := range img.Pix {
				img.Pix[i] = uint8(0.9*float64(img.Pix[i]) + float64(i%3))
			}
			m["train/normal/3.png"] = encode(t, img)
		}, []finding{{CodeDuplicate, Warning, "test/normal/a.png", "nearly train/normal/3.png"}}},
		{"constant", func(m map[string][]byte) { m["train/normal/0.png"] = encode(t, block(20, 10, image.Rectangle{})) },
			[]finding{{CodeConstant, Warning, "train/normal/0.png", "one grey value"}}},
		{"16 bits", func(m map[string][]byte) {
			img := image.NewGray16(image.Rect(0, 0, 20, 10))
			for i, v := range texture(20, 10, 50).Pix {
				img.SetGray16(i%20, i/20, color.Gray16{Y: uint16(v) * 200})
			}
			m["train/normal/0.png"] = encode(t, img)
		}, []finding{{CodeDepth, Note, "", "1 images have more than 8 bits"}}},
		{"official validation", func(m map[string][]byte) { m["val/normal/x.png"] = nil },
			[]finding{{CodeValidation, Note, "val", "1 images in a validation folder"}}},
		{"training abnormals are checked", func(m map[string][]byte) { m["train/nodule/x.png"] = []byte("text") },
			[]finding{{CodeUnreadable, Error, "train/nodule/x.png", "not a PNG"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := small(t)
			tt.edit(files)
			found, err := Check(options(tree(t, files)))
			if err != nil {
				t.Fatal(err)
			}
			want := append(slices.Clone(tt.want), unknown, noMask)
			if len(found) != len(want) {
				t.Errorf("found %+v", found)
			}
			for _, w := range want {
				if !slices.ContainsFunc(found, func(f Finding) bool {
					return f.Code == w.code && f.Severity == w.severity && f.Path == w.path && strings.Contains(f.Text, w.text) && f.Remedy != ""
				}) {
					t.Errorf("no %+v in %+v", w, found)
				}
			}
		})
	}
}

// A set that cannot be split is a finding beside the others.
func TestCheckSplit(t *testing.T) {
	o := options(tree(t, small(t)))
	o.Validation = 0.1
	found, err := Check(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 || found[0].Code != CodeSplit || found[0].Remedy != "add images or set validation = 0" {
		t.Errorf("found %+v", found)
	}
}

func TestCheckGroups(t *testing.T) {
	item := func(path, group string, s Split) listed { return listed{Item{Path: path, Group: group}, s} }
	found := groups([]listed{
		item("a", "p1", Train), item("b", "p1", Test), item("c", "p1", Test), item("d", "p2", Train), item("e", "p2", Train), item("f", "", Test),
	})
	if len(found) != 2 || found[0].Path != "b" || found[0].Severity != Error || found[0].Code != CodeGroup || found[1].Severity != Warning {
		t.Errorf("found %+v", found)
	}
}

// The bound never hides a pair: it is at least the correlation, which is Pearson's.
func TestSignatureBound(t *testing.T) {
	var thumbs [][]float32
	for seed := range uint64(6) {
		img := texture(60, 50, seed)
		for i := range img.Pix { // smooth parts, so that bounds are near
			img.Pix[i] = uint8(100 + 80*math.Sin(float64(i%60)/float64(5+seed)) + float64(img.Pix[i])/8)
		}
		thumbs = append(thumbs, thumbnail(Native{W: 60, H: 50, V: img.Pix}))
	}
	for i, a := range thumbs {
		if r := dot(a, a); math.Abs(float64(r)-1) > 1e-4 {
			t.Errorf("correlation of an image with itself is %g", r)
		}
		for j, b := range thumbs {
			r, bound := dot(a, b), sign(a).bound(sign(b))
			if bound < r || bound > r+1 {
				t.Errorf("images %d and %d: correlation %g, bound %g", i, j, r, bound)
			}
		}
	}
	if thumbnail(Native{W: 8, H: 8, V: make([]uint8, 64)}) != nil {
		t.Error("a constant image has a correlation")
	}
}

func ExampleCheck() {
	o := DefaultOptions()
	o.Root = "nowhere"
	_, err := Check(o)
	fmt.Println(err)
	// Output: data.root: open nowhere: no such file or directory
}
