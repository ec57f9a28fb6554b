package data

import (
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"thorax/framework/data/phantom"
)

// What can be learnt from is the same where options say so before images are
// drawn, and only there.
func TestLearning(t *testing.T) {
	set := func(change func(o *Options, p *phantom.Options)) Options {
		p := phantom.DefaultOptions()
		p.Train, p.TestNormal, p.TestAbnormal, p.Level = 3, 2, 2, "1"
		o := DefaultOptions()
		o.Set, o.Size, o.Validation, o.Phantom = "phantom", 32, 0, &p
		change(&o, &p)
		return o
	}
	base := set(func(*Options, *phantom.Options) {})
	cache := t.TempDir()
	first := open(t, base, cache).Learnt()
	for name, tt := range map[string]struct {
		change func(o *Options, p *phantom.Options)
		same   bool
	}{
		"name":        {func(o *Options, p *phantom.Options) { o.Name = "other" }, true},
		"level":       {func(o *Options, p *phantom.Options) { p.Level = "3" }, true},
		"test images": {func(o *Options, p *phantom.Options) { p.TestNormal, p.TestAbnormal = 1, 3 }, true},
		"types":       {func(o *Options, p *phantom.Options) { p.Types = p.Types[:1] }, true},
		"train":       {func(o *Options, p *phantom.Options) { p.Train = 4 }, false},
		"seed":        {func(o *Options, p *phantom.Options) { p.Seed = 2 }, false},
		"modality":    {func(o *Options, p *phantom.Options) { p.Modality = phantom.CT }, false},
		"size":        {func(o *Options, p *phantom.Options) { o.Size = 40 }, false},
	} {
		o := set(tt.change)
		if got := o.Learning() == base.Learning(); got != tt.same {
			t.Errorf("%s: learning is the same: %v", name, got)
		}
		if got := open(t, o, cache).Learnt() == first; got != tt.same {
			t.Errorf("%s: images are the same: %v", name, got)
		}
	}
}

// A generated set goes through the same cache as files.
func TestGenerated(t *testing.T) {
	o := DefaultOptions()
	block := `
		set = "phantom"
		size = 32
		validation = 0
		[phantom]
		modality = "ct"
		train = 3
		test_normal = 3
		test_abnormal = 3
		level = 0`
	if _, err := toml.Decode(block, &o); err != nil {
		t.Fatal(err)
	}
	cacheDir, drawn := t.TempDir(), 0
	o.Progress = func(done, total int) { drawn++ }
	d := open(t, o, cacheDir)
	if d.Len(Train) != 3 || d.Len(Test) != 6 || !d.HasMasks() || !d.HasGroups() || d.Name() != "phantom-32" || drawn != 9 {
		t.Errorf("train %d, test %d, masks %v, groups %v, name %s, drawn %d", d.Len(Train), d.Len(Test), d.HasMasks(), d.HasGroups(), d.Name(), drawn)
	}
	want := phantom.DefaultOptions()
	want.Modality, want.Size, want.Train, want.TestNormal, want.TestAbnormal, want.Level = phantom.CT, 32, 3, 3, 3, "0"
	cases := map[string]phantom.Case{}
	for _, c := range want.Plan() {
		cases[c.Path] = c
	}
	for i, it := range d.Items(Test) {
		c := cases[it.Path]
		img, lesion, err := want.Render(c)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(d.Grey(Test, i), img) || it.Abnormal != c.Abnormal || it.Subtype != c.Subtype || it.Group != c.Group {
			t.Errorf("%+v is not the image of %+v", it, c)
		}
		m, err := d.Mask(Test, i)
		if err != nil || (m == nil) == it.Abnormal {
			t.Errorf("%+v: mask of %d pixels, %v", it, len(m), err)
		}
		for k, on := range m {
			if on != (lesion[k] != 0) {
				t.Fatalf("%+v: mask differs at %d", it, k)
			}
		}
		n, err := d.Native(Test, i)
		if err != nil || n.W != 32 || n.FileBytes < 100 || !slices.Equal(n.V, img) {
			t.Errorf("%+v: native %d×%d, %d bytes, %v", it, n.W, n.H, n.FileBytes, err)
		}
	}
	open(t, o, cacheDir)
	if drawn != 9 {
		t.Errorf("drawn again: %d", drawn)
	}
	o.Phantom.Seed++
	other := open(t, o, cacheDir)
	_, a := d.Fingerprint()
	if _, b := other.Fingerprint(); drawn != 18 || a == b {
		t.Errorf("another seed: drawn %d, fingerprints %s and %s", drawn, a, b)
	}
	found, err := Check(o)
	if err != nil || slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == Error }) {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestGeneratedOptions(t *testing.T) {
	for _, tt := range []struct{ block, want string }{
		{`set = "phantom"`, ""},
		{`set = "phantom"` + "\nsize = 16", "data.phantom.size: 16"},
		{`set = "phantom"` + "\nroot = \"x\"", "data.root"},
		{`set = "phantom"` + "\nphantom.modality = \"mri\"", "data.phantom.modality"},
		{`set = "folder"` + "\nroot = \"x\"\nphantom.train = 3", "data.phantom: given with set \"folder\""},
		{`set = "folder"` + "\nroot = \"x\"", ""},
	} {
		o := DefaultOptions()
		if _, err := toml.Decode(tt.block, &o); err != nil {
			t.Fatal(err)
		}
		err := o.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.block, err, tt.want)
		}
		if again := o.Check(); err == nil && again != nil {
			t.Errorf("%s: checked twice: %v", tt.block, again)
		}
	}
}
