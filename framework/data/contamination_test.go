package data

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// polluted is a set of n training normals, m training abnormals, one test image of either kind.
func polluted(n, m int) (l []listed) {
	for i := range n {
		l = append(l, listed{Item{Path: fmt.Sprintf("train/normal/%03d", i)}, Train})
	}
	for i := range m {
		l = append(l, listed{Item{Path: fmt.Sprintf("train/sick/%03d", i), Abnormal: true}, Train})
	}
	return append(l, listed{Item{Path: "test/normal/0"}, Test}, listed{Item{Path: "test/sick/0", Abnormal: true}, Test})
}

func TestContamination(t *testing.T) {
	for _, tt := range []struct {
		normals, abnormals int
		contamination      float64
		want               int // abnormal training images, T - ⌊ρT⌋ by hand; -1 for an error
	}{
		{10, 5, 0, 0}, {10, 5, 0.1, 1}, {10, 5, 0.3, 3}, {10, 5, 0.5, 5}, {10, 5, 0.6, -1}, {10, 10, 0.9, 9}, {10, 10, 1, 10},
		{7, 5, 0.1, 1}, // ⌊0.9·7⌋ = 6
		{10, 0, 0.1, -1},
	} {
		o := DefaultOptions()
		o.Root, o.Validation, o.Contamination = "set", 0, tt.contamination
		d := &Dataset{opts: o}
		err := d.split(polluted(tt.normals, tt.abnormals))
		if tt.want < 0 {
			if err == nil || !strings.Contains(err.Error(), "abnormal training images") || !strings.Contains(err.Error(), fmt.Sprint("has ", tt.abnormals)) {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		got := 0
		for _, it := range d.Items(Train) {
			if it.Abnormal {
				got++
			}
		}
		if got != tt.want || d.Len(Train) != tt.normals {
			t.Errorf("%+v: %d abnormal of %d training images", tt, got, d.Len(Train))
		}
		if !slices.IsSortedFunc(d.Items(Train), byPath) {
			t.Errorf("%+v: not in the order of paths", tt)
		}
		if strings.Contains(d.SplitRule(), "contamination") != (tt.contamination > 0) {
			t.Errorf("%+v: rule %q", tt, d.SplitRule())
		}
	}
}

// More contamination keeps the abnormal images of less; another seed draws others.
func TestContaminationIsNested(t *testing.T) {
	abnormal := func(c float64, seed uint64) (paths []string) {
		o := DefaultOptions()
		o.Validation, o.Contamination, o.SplitSeed = 0, c, seed
		d := &Dataset{opts: o}
		if err := d.split(polluted(40, 40)); err != nil {
			t.Fatal(err)
		}
		for _, it := range d.Items(Train) {
			if it.Abnormal {
				paths = append(paths, it.Path)
			}
		}
		return paths
	}
	few, many := abnormal(.1, 1), abnormal(.5, 1)
	for _, p := range few {
		if !slices.Contains(many, p) {
			t.Errorf("%s is at 0.1 and not at 0.5", p)
		}
	}
	if slices.Equal(many, abnormal(.5, 2)) {
		t.Error("another seed draws the same images")
	}
}

// Abnormal images of patients who validate or test do not train.
func TestContaminationKeepsPatientsApart(t *testing.T) {
	l := polluted(200, 150)
	for i := range l {
		switch n := i % 50; { // fifty patients with normal and abnormal training images, some of them in test
		case l[i].split == Train:
			l[i].Group = fmt.Sprint("p", n)
		default:
			l[i].Group = "p7"
		}
	}
	o := DefaultOptions()
	o.Validation, o.Contamination = 0.1, 0.5
	d := &Dataset{opts: o}
	if err := d.split(l); err != nil {
		t.Fatal(err)
	}
	held := map[string]bool{"p7": true}
	for _, it := range d.Items(Validation) {
		held[it.Group] = true
	}
	n := 0
	for _, it := range d.Items(Train) {
		if it.Abnormal && held[it.Group] {
			t.Errorf("%s of %s trains", it.Path, it.Group)
		}
		if it.Abnormal {
			n++
		}
	}
	if len(held) < 20 || n != d.Len(Train)-d.Len(Train)/2 {
		t.Errorf("%d patients held out, %d abnormal images", len(held), n)
	}
}

// A contaminated set reads the images that it asks for, keeps the test images and has another fingerprint.
func TestContaminatedSet(t *testing.T) {
	files := small(t)
	for i := range 3 {
		files[fmt.Sprintf("train/nodule/%d.png", i)] = encode(t, texture(20, 10, uint64(20+i)))
	}
	root, cache := tree(t, files), t.TempDir()
	o := options(root)
	clean := open(t, o, cache)
	o.Contamination = 0.5
	d := open(t, o, cache)
	if !slices.Equal(d.Items(Test), clean.Items(Test)) || d.Len(Train) != 4 {
		t.Errorf("%d training images, test %+v", d.Len(Train), d.Items(Test))
	}
	_, a := clean.Fingerprint()
	_, b := d.Fingerprint()
	if a == b {
		t.Error("the fingerprint is that of the clean set")
	}
	dst, n := make([]float32, 256), 0
	for i, it := range d.Items(Train) {
		if !it.Abnormal {
			continue
		}
		n++
		d.Pixels(Train, i, dst)
		p, err := ReadImage(filepath.Join(root, filepath.FromSlash(it.Path)), o)
		if err != nil || !slices.Equal(p.V, dst) {
			t.Errorf("%s: not its pixels, %v", it.Path, err)
		}
	}
	if n != 2 {
		t.Errorf("%d abnormal training images, want 2", n)
	}
	if err := (&Options{Set: "folder", Root: "x", Size: 16, Resize: "bilinear", Fit: "stretch", Contamination: 1.5}).Check(); err == nil || !strings.Contains(err.Error(), "data.contamination: 1.5, need 0 to 1") {
		t.Errorf("1.5: %v", err)
	}
}
