package data

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// deepImage is an 8×8 image of 16 bits whose stored values rise by step.
func deepImage(t testing.TB, step int) []byte {
	t.Helper()
	img := image.NewGray16(image.Rect(0, 0, 8, 8))
	for i := range 64 {
		img.SetGray16(i%8, i/8, color.Gray16{Y: uint16(min(65535, i*step))})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// By hand, the lung window −600 ± 750 on values stored with −1024: a stored 0 is −1024 HU
// and (−1024+1350)/1500 of white.
func TestWindowGrey(t *testing.T) {
	w := Window{Centre: -600, Width: 1500, Slope: 1, Intercept: -1024}
	for v, want := range map[uint16]uint8{0: 55, 424: 128, 1024: 230, 1174: 255, 4095: 255} {
		if got := w.grey(v); got != want {
			t.Errorf("stored %d is %d, want %d", v, got, want)
		}
	}
	half := Window{Centre: 0, Width: 100, Slope: .5, Intercept: -50} // 0 is −50 HU, 100 is 0, 200 is 50
	for v, want := range map[uint16]uint8{0: 0, 50: 64, 100: 128, 200: 255} {
		if got := half.grey(v); got != want {
			t.Errorf("stored %d is %d, want %d", v, got, want)
		}
	}
}

func windowed(t testing.TB) (Options, map[string][]byte) {
	files := map[string][]byte{}
	for _, name := range []string{"train/normal/a", "train/normal/b", "test/normal/c", "test/cancer/d"} {
		files[name+".png"] = deepImage(t, 40)
	}
	o := options(tree(t, files))
	o.Size = 8
	return o, files
}

func TestWindow(t *testing.T) {
	o, _ := windowed(t)
	cacheDir := t.TempDir()
	whole := open(t, o, cacheDir)
	o.Window = &Window{Centre: -600, Width: 1500, Intercept: -1024} // the slope is 1 by default
	shown := open(t, o, cacheDir)
	for i := range 64 {
		want := Window{Centre: -600, Width: 1500, Slope: 1, Intercept: -1024}
		if got := shown.Grey(Test, 0)[i]; got != want.grey(uint16(40*i)) {
			t.Errorf("pixel %d is %d, want %d", i, got, want.grey(uint16(40*i)))
		}
		if got, want := whole.Grey(Test, 0)[i], uint8((40*i+128)/257); got != want {
			t.Errorf("pixel %d is %d without a window, want %d", i, got, want)
		}
	}
	n, err := shown.Native(Test, 0)
	if err != nil || !slices.Equal(n.V, shown.Grey(Test, 0)) {
		t.Errorf("at the stored size the image is another: %v", err)
	}
	p, err := ReadImage(filepath.Join(o.Root, "test", "cancer", "d.png"), o)
	if err != nil || p.V[63] != unit[shown.Grey(Test, 0)[63]] {
		t.Errorf("a single image is another: %v", err)
	}
	for _, tt := range []struct {
		window *Window
		lost   bool
	}{{nil, true}, {o.Window, false}} { // L25 is met where bits are lost
		o.Window = tt.window
		found, err := Check(o)
		if err != nil {
			t.Fatal(err)
		}
		if lost := slices.ContainsFunc(found, func(f Finding) bool { return f.Code == CodeDepth }); lost != tt.lost {
			t.Errorf("window %v: bits lost %t, want %t", tt.window, lost, tt.lost)
		}
	}
}

func TestWindowErrors(t *testing.T) {
	o, files := windowed(t)
	for _, tt := range []struct {
		window Window
		set    string
		want   string
	}{
		{Window{Centre: 40}, "folder", "data.window.width: 0, need more than 0"},
		{Window{Width: -1}, "folder", "data.window.width: -1, need more than 0"},
		{Window{Width: 400}, "phantom", "remove it"},
	} {
		bad := DefaultOptions()
		bad.Set, bad.Root, bad.Window = tt.set, "x", &tt.window
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.window, err, tt.want)
		}
	}
	files["test/normal/c.png"] = encode(t, texture(8, 8, 1))
	o.Root, o.Window = tree(t, files), &Window{Centre: 40, Width: 400}
	if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), "c.png: 8 bits a sample, but data.window needs 16; export it") {
		t.Errorf("an image of 8 bits: %v", err)
	}
}

// Folders below the class are studies, on whatever side they lie.
func TestGroupByFolder(t *testing.T) {
	files := map[string][]byte{}
	for i, name := range []string{"train/normal/p1/1", "train/normal/p1/2", "test/normal/p2/1", "test/COVID-19/p3/1", "test/COVID-19/p3/b/2", "test/cancer/p2/2"} {
		files[name+".png"] = encode(t, texture(20, 10, uint64(i)))
	}
	o := options(tree(t, files))
	if d := open(t, o, t.TempDir()); d.HasGroups() {
		t.Error("studies that were not asked for")
	}
	o.Group = "folder"
	d := open(t, o, t.TempDir())
	want := []Item{
		{Path: "test/COVID-19/p3/1.png", Abnormal: true, Subtype: "COVID-19", Group: "p3"},
		{Path: "test/COVID-19/p3/b/2.png", Abnormal: true, Subtype: "COVID-19", Group: "p3/b"},
		{Path: "test/cancer/p2/2.png", Abnormal: true, Subtype: "cancer", Group: "p2"},
		{Path: "test/normal/p2/1.png", Group: "p2"},
	}
	if !slices.Equal(d.Items(Test), want) || !d.HasGroups() {
		t.Errorf("%+v, want %+v", d.Items(Test), want)
	}
	write(t, filepath.Join(o.Root, "test", "normal", "loose.png"), encode(t, texture(20, 10, 9)), time.Hour)
	if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), "loose.png: in no folder of a study") {
		t.Errorf("an image outside a study: %v", err)
	}
	o.Set = "zhanglab"
	if err := o.Check(); err == nil || !strings.Contains(err.Error(), `data.group: "folder" with set "zhanglab"`) {
		t.Errorf("%v", err)
	}
}

func TestLungs(t *testing.T) {
	files := small(t)
	left := block(20, 10, image.Rect(0, 0, 10, 10))
	files["lungs/test/normal/a_lungs.png"] = encode(t, left)
	files["lungs/test/nodule/c.png"] = encode(t, left)
	plain := open(t, options(tree(t, small(t))), t.TempDir())
	o := options(tree(t, files))
	d := open(t, o, t.TempDir())
	if !d.HasLungs() || plain.HasLungs() {
		t.Errorf("lungs known: %t with masks, %t without", d.HasLungs(), plain.HasLungs())
	}
	with, _ := d.Fingerprint()
	without, _ := plain.Fingerprint()
	if with != without+2 {
		t.Errorf("%d files, want the 2 masks beside %d", with, without)
	}
	for i, it := range d.Items(Test) {
		l, err := d.Lungs(Test, i)
		if err != nil {
			t.Fatal(err)
		}
		known := strings.HasSuffix(it.Path, "a.png") || strings.HasSuffix(it.Path, "c.png")
		if known != (l != nil) {
			t.Errorf("%s: lungs %v", it.Path, l)
		}
		for k, in := range l { // the left half of the 16×16 grid
			if in != (k%16 < 8) {
				t.Fatalf("%s: pixel %d is lung: %t", it.Path, k, in)
			}
		}
	}
	files["lungs/test/normal/a_lungs.png"] = encode(t, block(10, 10, image.Rect(0, 0, 5, 5)))
	d = open(t, options(tree(t, files)), t.TempDir())
	if _, err := d.Lungs(Test, slices.IndexFunc(d.Items(Test), func(it Item) bool { return it.Path == "test/normal/a.png" })); err == nil ||
		!strings.Contains(err.Error(), "lungs/test/normal/a_lungs.png: 10×10, its image test/normal/a.png is 20×10") {
		t.Errorf("lungs on another grid: %v", err)
	}

	o = DefaultOptions()
	o.Set, o.Size, o.Validation = "phantom", 32, 0
	o.Phantom.Modality, o.Phantom.Train, o.Phantom.TestNormal, o.Phantom.TestAbnormal = "ct", 4, 2, 2
	d = open(t, o, t.TempDir())
	for i := range d.Len(Test) {
		l, err := d.Lungs(Test, i)
		n := 0
		for _, in := range l {
			if in {
				n++
			}
		}
		if err != nil || len(l) != 32*32 || n < 100 || n > 600 { // lungs fill a tenth to a half of a slice
			t.Errorf("generated image %d: %d pixels of lung: %v", i, n, err)
		}
	}
}
