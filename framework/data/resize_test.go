package data

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// Expected images are Pillow's, made by testdata/pillow/make.py with Pillow 13.0.0.
func TestResizePillow(t *testing.T) {
	names, err := filepath.Glob("testdata/pillow/*_bi*_*.png")
	if err != nil || len(names) < 20 {
		t.Fatalf("found %d expected images, %v", len(names), err)
	}
	pattern := regexp.MustCompile(`^(.*)_(bilinear|bicubic)_(\d+)x(\d+)\.png$`)
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			m := pattern.FindStringSubmatch(name)
			w, _ := strconv.Atoi(m[3])
			h, _ := strconv.Atoi(m[4])
			in, want := mustRead(t, m[1]+".png"), mustRead(t, name)
			f := bilinear
			if m[2] == "bicubic" {
				f = bicubic
			}
			got := resize(in.V, axis{in.W, w, 0, w}, axis{in.H, h, 0, h}, f)
			if !slices.Equal(got, want.V) {
				t.Errorf("differs by up to %d grey levels", farthest(got, want.V))
			}
		})
	}
}

func mustRead(t *testing.T, name string) Native {
	t.Helper()
	n, _, err := readImage(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// farthest is the largest difference of two images, 256 for unequal lengths.
func farthest(a, b []uint8) int {
	if len(a) != len(b) {
		return 256
	}
	far := 0
	for i := range a {
		far = max(far, int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return far
}

func TestGreyPillow(t *testing.T) {
	names, err := filepath.Glob("testdata/pillow/*.grey.png")
	if err != nil || len(names) != 10 {
		t.Fatalf("found %d expected images, %v", len(names), err)
	}
	for _, name := range names {
		source := name[:len(name)-len(".grey.png")]
		allowed := 0
		if filepath.Ext(source) == ".jpg" {
			allowed = 2 // another inverse cosine transform and colour conversion
		}
		got, want := mustRead(t, source), mustRead(t, name)
		if far := farthest(got.V, want.V); far > allowed {
			t.Errorf("%s differs by up to %d grey levels, allowed %d", source, far, allowed)
		}
	}
}

func TestDeepGrey(t *testing.T) {
	n := mustRead(t, "testdata/pillow/deep.png")
	for i, v := range n.V {
		if int(v) != i {
			t.Fatalf("257·%d in 16 bits became %d", i, v)
		}
	}
}

func TestGeometry(t *testing.T) {
	// A 4×2 image of one value: what is image and what is border, by hand.
	for _, tt := range []struct {
		fit  string
		w, h int
		want string
	}{
		{"stretch", 4, 2, "11111111 11111111 11111111 11111111 11111111 11111111 11111111 11111111"},
		{"pad", 4, 2, "00000000 00000000 11111111 11111111 11111111 11111111 00000000 00000000"},
		{"pad", 2, 4, "00111100 00111100 00111100 00111100 00111100 00111100 00111100 00111100"},
		{"crop", 4, 2, "11111111 11111111 11111111 11111111 11111111 11111111 11111111 11111111"},
	} {
		o := Options{Size: 8, Fit: tt.fit, Resize: "bilinear"}
		v, m := make([]uint8, tt.w*tt.h), make([]bool, tt.w*tt.h)
		for i := range v {
			v[i], m[i] = 1, true
		}
		image, mask := "", ""
		grid := o.geometry().image(tt.w, tt.h, v)
		for i, on := range o.geometry().mask(tt.w, tt.h, m) {
			if i > 0 && i%8 == 0 {
				image, mask = image+" ", mask+" "
			}
			image += fmt.Sprint(grid[i])
			if on {
				mask += "1"
			} else {
				mask += "0"
			}
		}
		if image != tt.want || mask != tt.want {
			t.Errorf("%s of %d×%d:\n%s\n%s, want\n%s", tt.fit, tt.w, tt.h, image, mask, tt.want)
		}
	}
}

// A crop is the middle of the whole image scaled.
func TestCropIsMiddle(t *testing.T) {
	n := mustRead(t, "testdata/pillow/b_96x64.png")
	whole := resize(n.V, axis{96, 48, 0, 48}, axis{64, 32, 0, 32}, bicubic)
	o := Options{Size: 32, Fit: "crop", Resize: "bicubic"}
	got := o.geometry().image(n.W, n.H, n.V)
	for y := range 32 {
		if !slices.Equal(got[y*32:][:32], whole[y*48+8:][:32]) {
			t.Fatalf("row %d differs", y)
		}
	}
}

func TestThinImage(t *testing.T) {
	o := Options{Size: 16, Fit: "crop", Resize: "bilinear"}
	for _, fit := range fits {
		o.Fit = fit
		if got := len(o.geometry().image(1, 9000, make([]uint8, 9000))); got != 256 {
			t.Errorf("%s: %d pixels", fit, got)
		}
	}
}

func BenchmarkResize(b *testing.B) {
	v := make([]uint8, 224*224)
	for b.Loop() {
		resize(v, axis{224, 128, 0, 128}, axis{224, 128, 0, 128}, bilinear)
	}
}

// moduleRoot is the folder of go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the package")
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal(err)
	return ""
}
