package data

import (
	"bytes"
	"hash/crc32"
	"image"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func crc(b []byte) []byte {
	sum := crc32.ChecksumIEEE(b)
	return []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

func TestManifest(t *testing.T) {
	files := small(t)
	files["list.csv"] = []byte("\ufeffPath,split,label,group,mask,subtype,lungs\n" +
		"train/normal/0.png,train,normal,p1,,,\n" +
		"train/normal/1.png,validation,0,p2,,,\n" +
		"train/normal/2.png,train,abnormal,p3,,cyst,\n" +
		"./test/normal/a.png,test,normal,p4,,,test/masks/nodule/c.png\n" +
		"test/nodule/c.png,test,1,p5,test/masks/nodule/c.png,nodule,\n")
	o := options(filepath.Join(tree(t, files), "list.csv"))
	o.Set, o.Validation = "manifest", 0.1 // not drawn: the manifest gives it
	d := open(t, o, t.TempDir())
	if !slices.Equal(d.Items(Train), []Item{{Path: "train/normal/0.png", Group: "p1"}}) ||
		!slices.Equal(d.Items(Validation), []Item{{Path: "train/normal/1.png", Group: "p2"}}) ||
		!slices.Equal(d.ContaminationPool(), []Item{{Path: "train/normal/2.png", Abnormal: true, Group: "p3", Subtype: "cyst"}}) ||
		!slices.Equal(d.Items(Test), []Item{
			{Path: "test/nodule/c.png", Abnormal: true, Group: "p5", Subtype: "nodule", Mask: "test/masks/nodule/c.png"},
			{Path: "test/normal/a.png", Group: "p4", Lungs: "test/masks/nodule/c.png"},
		}) {
		t.Errorf("splits %+v, pool %+v", d.items, d.pool)
	}
	if !d.HasGroups() || !d.HasMasks() || !d.HasLungs() || !strings.Contains(d.SplitRule(), "given by the set") {
		t.Errorf("groups %v, masks %v, rule %q", d.HasGroups(), d.HasMasks(), d.SplitRule())
	}
}

func TestBadManifest(t *testing.T) {
	const header = "path,split,label,mask\n"
	for _, tt := range []struct{ text, want string }{
		{"", "empty; need a header"},
		{"path,split,label,grop\n", `line 1: unknown column "grop" (did you mean "group"?)`},
		{"path,split\n", `line 1: no column "label"`},
		{"path,split,label,path\n", `line 1: column "path" twice`},
		{header, "no images"},
		{"path,split,label,lungs\na.png,test,normal,../l.png\n", `line 2: lungs "../l.png"`},
		{header + "a.png,train,normal\n", "wrong number of fields"},
		{header + "a.png,trian,normal,\n", `line 2: split "trian": need train, validation or test`},
		{header + "a.png,train,healthy,\n", `line 2: label "healthy": need normal or abnormal`},
		{header + "../a.png,train,normal,\n", `line 2: path "../a.png"`},
		{header + "/a.png,train,normal,\n", `line 2: path "/a.png"`},
		{header + "a.txt,train,normal,\n", `line 2: path "a.txt"`},
		{header + "a.png,train,normal,m.png\n", `line 2: mask "m.png" on a normal image`},
		{header + "a.png,train,normal,\nb/../a.png,test,normal,\n", "line 3: a.png is already on line 2"},
		{header + "\"a.png,train\n", "line 2"},
	} {
		if _, err := parseManifest(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.text, err, tt.want)
		}
	}
}

func FuzzManifest(f *testing.F) {
	for _, text := range []string{
		"", "path,split,label\na.png,train,normal\n", "\ufeffpath,split,label,subtype,group,mask\na/b.jpg,test,1,x,y,m.png\n",
		"path,split,label\n../a.png,test,0\n", "path,split,label\n\"a\nb.png\",test,0\n", "path,split,label\na.png,train,normal\n./a.png,test,1\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseManifest(bytes.NewReader(b))
		if (err == nil) != (len(list) > 0) {
			t.Fatalf("%d images, %v", len(list), err)
		}
		seen := map[string]bool{}
		for _, it := range list {
			for _, p := range []string{it.Path, it.Mask} {
				if p != "" && !filepath.IsLocal(filepath.FromSlash(p)) {
					t.Errorf("path %q leaves the folder", p)
				}
			}
			if seen[it.Path] || it.Mask != "" && !it.Abnormal {
				t.Errorf("accepted %+v", it)
			}
			seen[it.Path] = true
		}
	})
}

// claimed is the size in the header of an image.
func claimed(b []byte) (w, h int) {
	c, _, err := image.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return 0, 0
	}
	return c.Width, c.Height
}

// FuzzDecode reads images and masks from any bytes.
func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob("testdata/pillow/*.*")
	if err != nil {
		f.Fatal(err)
	}
	seeds := 0
	for _, name := range names {
		if base := filepath.Base(name); !isImage(name) || strings.Contains(base, "_bi") || strings.Contains(base, ".grey.") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
		seeds++
	}
	if seeds < 14 {
		f.Fatalf("%d seed images", seeds)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, h := claimed(b); w*h > 1<<20 {
			t.Skip("legal, but slow to fill")
		}
		img, format, err := decode(b)
		if err != nil {
			if _, ok := err.(*fault); !ok {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		r := img.Bounds()
		v := grey(img)
		if r.Dx() < 1 || r.Dy() < 1 || len(v) != r.Dx()*r.Dy() {
			t.Fatalf("%d×%d with %d pixels", r.Dx(), r.Dy(), len(v))
		}
		if bits, err := lesion(img, format); err == nil && len(bits) != len(v) {
			t.Errorf("a mask of %d pixels", len(bits))
		}
		if r.Dx() < 4096 && r.Dy() < 4096 {
			for _, fit := range fits {
				if n := len(geometry{9, fit, bicubic}.image(r.Dx(), r.Dy(), v)); n != 81 {
					t.Errorf("%s gives %d pixels", fit, n)
				}
			}
		}
	})
}
