package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// texture is a grey image of its own for every seed.
func texture(w, h int, seed uint64) *image.Gray {
	r := rand.New(rand.NewPCG(seed, 0))
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = uint8(r.UintN(256))
	}
	return img
}

// block is a mask of 255 in a rectangle.
func block(w, h int, r image.Rectangle) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, w, h))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			img.SetGray(x, y, color.Gray{Y: 255})
		}
	}
	return img
}

func encode(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tree writes files below a new folder. Their change is an hour old, so that the index trusts them.
func tree(t testing.TB, files map[string][]byte) string {
	t.Helper()
	root := t.TempDir()
	for name, b := range files {
		write(t, filepath.Join(root, filepath.FromSlash(name)), b, time.Hour)
	}
	return root
}

func write(t testing.TB, name string, b []byte, age time.Duration) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o666); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

// small is a set of 4 training normals, 2 test normals and 2 abnormal ones, one with a mask.
func small(t testing.TB) map[string][]byte {
	files := map[string][]byte{}
	add := func(name string, seed uint64) { files[name] = encode(t, texture(20, 10, seed)) }
	for i := range uint64(4) {
		add(fmt.Sprintf("train/normal/%d.png", i), i)
	}
	add("test/normal/a.png", 10)
	add("test/Normal/b.png", 11)
	add("test/nodule/c.png", 12)
	add("test/effusion/deep/d.png", 13)
	files["test/masks/nodule/c.png"] = encode(t, block(20, 10, image.Rect(0, 0, 10, 10)))
	files["test/nodule/notes.txt"] = []byte("not an image")
	files["test/nodule/.hidden.png"] = nil
	return files
}

func options(root string) Options {
	o := DefaultOptions()
	o.Root, o.Size, o.Validation = root, 16, 0
	return o
}

func open(t testing.TB, o Options, cacheDir string) *Dataset {
	t.Helper()
	d, err := Open(o, cacheDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestFolder(t *testing.T) {
	d := open(t, options(tree(t, small(t))), t.TempDir())
	want := []Item{
		{Path: "test/Normal/b.png"},
		{Path: "test/effusion/deep/d.png", Abnormal: true, Subtype: "effusion"},
		{Path: "test/nodule/c.png", Abnormal: true, Subtype: "nodule", Mask: "test/masks/nodule/c.png"},
		{Path: "test/normal/a.png"},
	}
	if !slices.Equal(d.Items(Test), want) {
		t.Errorf("test is %+v", d.Items(Test))
	}
	if d.Len(Train) != 4 || d.Len(Validation) != 0 || !d.HasMasks() || d.HasGroups() || d.Name() != "folder-16" {
		t.Errorf("train %d, validation %d, masks %v, groups %v, name %s", d.Len(Train), d.Len(Validation), d.HasMasks(), d.HasGroups(), d.Name())
	}
	if files, sum := d.Fingerprint(); files != 9 || len(sum) != 64 { // 8 images, 1 mask
		t.Errorf("fingerprint %d %s", files, sum)
	}
	dst := make([]float32, 256)
	for _, s := range []Split{Train, Test} {
		for i := range d.Len(s) {
			d.Pixels(s, i, dst)
			n, err := d.Native(s, i)
			if err != nil {
				t.Fatal(err)
			}
			if n.W != 20 || n.H != 10 || n.FileBytes < 100 {
				t.Errorf("%+v is %d×%d, %d bytes", d.Items(s)[i], n.W, n.H, n.FileBytes)
			}
			for k, v := range d.opts.geometry().image(n.W, n.H, n.V) {
				if dst[k] != float32(v)/255 {
					t.Fatalf("%+v: pixel %d is %g, want %d/255", d.Items(s)[i], k, dst[k], v)
				}
			}
		}
	}
	if m, err := d.Mask(Test, 0); m != nil || err != nil {
		t.Errorf("mask of a normal image: %v, %v", m, err)
	}
	m, err := d.Mask(Test, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, on := range m { // the left half, stretched
		if on != (i%16 < 8) {
			t.Fatalf("mask at row %d, column %d is %v", i/16, i%16, on)
		}
	}
	if n := testing.AllocsPerRun(10, func() { d.Pixels(Test, 1, dst) }); n != 0 {
		t.Errorf("Pixels allocates %g times", n)
	}
}

// The other place of masks, and names with "_mask".
func TestMaskMirror(t *testing.T) {
	files := small(t)
	files["masks/test/effusion/deep/d_mask.png"] = encode(t, block(20, 10, image.Rect(5, 5, 6, 6)))
	d := open(t, options(tree(t, files)), t.TempDir())
	if got := d.Items(Test)[1].Mask; got != "masks/test/effusion/deep/d_mask.png" {
		t.Errorf("mask %q", got)
	}
}

func TestRootIsParent(t *testing.T) {
	files := map[string][]byte{}
	for name, b := range small(t) {
		files["images/"+name] = b
	}
	open(t, options(tree(t, files)), t.TempDir())
	files["other/x.txt"] = []byte("x")
	root := tree(t, files)
	if _, err := Open(options(root), t.TempDir()); err == nil || !strings.Contains(err.Error(), root) {
		t.Errorf("a parent with two folders: %v", err)
	}
}

// Training abnormals are listed and not opened: these are links to nothing.
func TestTrainingAbnormalsAreNotRead(t *testing.T) {
	root := tree(t, small(t))
	for _, name := range []string{"train/nodule/x.png", "train/effusion/y.png"} {
		name = filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, "nowhere.png"), name); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	d := open(t, options(root), t.TempDir())
	pool := d.ContaminationPool()
	want := []Item{
		{Path: "train/effusion/y.png", Abnormal: true, Subtype: "effusion"},
		{Path: "train/nodule/x.png", Abnormal: true, Subtype: "nodule"},
	}
	if !slices.Equal(pool, want) {
		t.Fatalf("pool %+v", pool)
	}
	for _, s := range []Split{Train, Validation} {
		if slices.ContainsFunc(d.Items(s), func(it Item) bool { return it.Abnormal }) {
			t.Errorf("an abnormal image in %s", s)
		}
	}
	dst := make([]float32, 256)
	if err := d.PoolPixels(0, dst); err == nil {
		t.Error("reading the pool did not open the file")
	}
	os.Remove(filepath.Join(root, "train/effusion/y.png"))
	write(t, filepath.Join(root, "train/effusion/y.png"), encode(t, texture(16, 16, 5)), 0)
	if err := d.PoolPixels(0, dst); err != nil || dst[0] != float32(texture(16, 16, 5).Pix[0])/255 {
		t.Errorf("pool pixel %g, %v", dst[0], err)
	}
}

func TestCache(t *testing.T) {
	root, cacheDir := tree(t, small(t)), t.TempDir()
	decoded := 0
	o := options(root)
	o.Progress = func(done, total int) { decoded++ }
	look := func(want int) (grey []uint8, sum string) {
		t.Helper()
		decoded = 0
		d, err := Open(o, cacheDir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if decoded != want {
			t.Errorf("decoded %d, want %d", decoded, want)
		}
		_, sum = d.Fingerprint()
		return slices.Clone(d.Grey(Train, 0)), sum
	}
	first, sum := look(8)
	look(0)

	// Another geometry has a file of its own; both stay.
	o.Fit = "pad"
	padded, _ := look(8)
	if slices.Equal(padded, first) {
		t.Error("the fit does not matter")
	}
	o.Fit = "stretch"
	look(0)

	// A changed file of the same length is noticed.
	name := filepath.Join(root, "train", "normal", "0.png")
	raw := &image.Gray{Pix: slices.Clone(texture(20, 10, 0).Pix), Stride: 20, Rect: image.Rect(0, 0, 20, 10)}
	slices.Reverse(raw.Pix)
	write(t, name, encode(t, raw), time.Minute)
	second, changed := look(8)
	if changed == sum || slices.Equal(first, second) {
		t.Error("a changed file gives the old pixels")
	}

	// One just written is not trusted to stay, even at the same time and length.
	b := encode(t, texture(20, 10, 0))
	write(t, name, b, 0)
	if _, s := look(0); s != sum { // its content is known from the first time
		t.Errorf("fingerprint %s, want %s", s, sum)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(name, b, 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(name, info.ModTime(), info.ModTime())
	if _, err := Open(o, cacheDir); err == nil { // the checksum of the PNG is wrong now
		t.Error("a file changed within the clock's resolution is not noticed")
	}
	write(t, name, encode(t, texture(20, 10, 0)), time.Minute)

	// Damaged caches and indexes are made anew; nothing temporary stays.
	caches, _ := filepath.Glob(filepath.Join(cacheDir, "*"))
	for _, name := range caches {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(name, ".tmp") {
			t.Errorf("%s stays", name)
		}
		b[len(b)/2] ^= 1
		if strings.HasSuffix(name, ".json") {
			b = b[:len(b)/2]
		}
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if again, s := look(8); s != sum || !slices.Equal(again, first) {
		t.Error("a damaged cache is used")
	}
	for _, name := range caches {
		if err := os.Truncate(name, 10); err != nil {
			t.Fatal(err)
		}
	}
	look(8)

	// What a killed process left is swept when the next cache is made, but not what another is writing.
	write(t, filepath.Join(cacheDir, ".tmp-1"), nil, 2*abandoned)
	write(t, filepath.Join(cacheDir, ".tmp-2"), nil, abandoned/2)
	o.Size = 17
	look(8)
	if left, _ := filepath.Glob(filepath.Join(cacheDir, ".tmp-*")); len(left) != 1 || filepath.Base(left[0]) != ".tmp-2" {
		t.Errorf("left %v", left)
	}
}

// A failed decode leaves no cache behind, and says what to do.
func TestBadImages(t *testing.T) {
	good := encode(t, texture(20, 10, 1))
	huge := slices.Clone(good)
	copy(huge[16:], []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff}) // IHDR: 65535×65535
	huge = append(huge[:29], crc(huge[12:29])...)
	hollow := slices.Clone(good)
	copy(hollow[16:], []byte{0, 0, 0x20, 0, 0, 0, 0x20, 0}) // 8192×8192 in less than 300 bytes
	hollow = append(append(hollow[:29], crc(hollow[12:29])...), good[33:]...)
	zero := slices.Clone(good)
	copy(zero[16:], []byte{0, 0, 0, 0, 0, 0, 0, 0})
	zero = append(zero[:29], crc(zero[12:29])...)
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "the file is empty"},
		{"truncated", good[:len(good)/2], "truncated or damaged"},
		{"text", []byte("a letter"), "not a PNG, JPEG, BMP or TIFF image"},
		{"huge", huge, "65535×65535"},
		{"hollow", hollow, "bytes cannot hold 8192×8192 pixels"},
		{"no pixels", zero, "non-positive dimension"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := small(t)
			files["test/nodule/c.png"] = tt.b
			cacheDir := t.TempDir()
			o := options(tree(t, files))
			_, err := Open(o, cacheDir)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "c.png") ||
				!strings.Contains(err.Error(), "remove it") {
				t.Errorf("got %v", err)
			}
			left, _ := filepath.Glob(filepath.Join(cacheDir, "*.cache"))
			hidden, _ := filepath.Glob(filepath.Join(cacheDir, ".tmp*"))
			if len(left)+len(hidden) > 0 {
				t.Errorf("left %v %v", left, hidden)
			}
			found, err := Check(o)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(found, func(f Finding) bool {
				return f.Severity == Error && (f.Code == CodeUnreadable || f.Code == CodeZero) && f.Path == "test/nodule/c.png" && strings.Contains(f.Text, tt.want)
			}) {
				t.Errorf("Check found %+v", found)
			}
		})
	}
}

func TestBadLayouts(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(map[string][]byte)
		want string
	}{
		{"nothing", func(m map[string][]byte) { clear(m); m["x.txt"] = nil }, "no folder train"},
		{"no test", func(m map[string][]byte) {
			for name := range m {
				if strings.HasPrefix(name, "test") {
					delete(m, name)
				}
			}
			m["readme.txt"] = nil
		}, "no folder test"},
		{"loose image", func(m map[string][]byte) { m["train/x.png"] = nil }, "outside a class folder"},
		{"empty class", func(m map[string][]byte) { m["test/cyst/x.txt"] = nil }, "no images"},
		{"no normals", func(m map[string][]byte) {
			for name, b := range m {
				if strings.HasPrefix(name, "train/normal") {
					delete(m, name)
					m["train/nodule/"+filepath.Base(name)] = b
				}
			}
		}, "no normal training images"},
		{"wrong mask", func(m map[string][]byte) {
			m["test/masks/nodule/c.png"] = encode(t, block(10, 20, image.Rect(0, 0, 5, 5)))
		}, "10×20, its image test/nodule/c.png is 20×10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := small(t)
			tt.edit(files)
			if _, err := Open(options(tree(t, files)), t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		edit func(*Options)
		want string
	}{
		{func(o *Options) {}, ""},
		{func(o *Options) { o.Set = "zhang" }, "data.set"},
		{func(o *Options) { o.Root = "" }, "data.root"},
		{func(o *Options) { o.Size = 7 }, "data.size: 7, need 8 to 4096"},
		{func(o *Options) { o.Resize = "box" }, "data.resize"},
		{func(o *Options) { o.Fit = "zoom" }, "data.fit"},
		{func(o *Options) { o.Validation = -0.1 }, "data.validation"},
		{func(o *Options) { o.Validation = 0.6 }, "data.validation"},
		{func(o *Options) { o.Name = "a/b" }, "data.name"},
		{func(o *Options) { o.Name = ".." }, "data.name"},
	} {
		o := DefaultOptions()
		o.Root = "x"
		tt.edit(&o)
		err := o.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestHoldOut(t *testing.T) {
	items := make([]Item, 400)
	for i := range items {
		items[i] = Item{Path: fmt.Sprintf("%04d", i), Group: fmt.Sprint(i / 3)}
	}
	kept, drawn := holdOut(items, 100, 7)
	if len(drawn) < 100 || len(drawn) > 102 || len(kept)+len(drawn) != 400 {
		t.Fatalf("drew %d, kept %d", len(drawn), len(kept))
	}
	sides := map[string]bool{}
	for _, it := range drawn {
		sides[it.Group] = true
	}
	for _, it := range kept {
		if sides[it.Group] {
			t.Errorf("group %s on both sides", it.Group)
		}
	}
	if !slices.IsSortedFunc(kept, byPath) || !slices.IsSortedFunc(drawn, byPath) {
		t.Error("the order of the images is lost")
	}
	if _, again := holdOut(items, 100, 7); !slices.Equal(drawn, again) {
		t.Error("the same seed draws others")
	}
	if _, other := holdOut(items, 100, 8); slices.Equal(drawn, other) {
		t.Error("another seed draws the same")
	}
}

func TestValidation(t *testing.T) {
	list := func(n int) (l []listed) {
		for i := range n {
			l = append(l, listed{Item{Path: fmt.Sprintf("%05d", i)}, Train})
		}
		return append(l, listed{Item{Path: "test"}, Test})
	}
	for _, tt := range []struct {
		normals int
		share   float64
		want    int // validation images, -1 for an error
	}{
		{199, 0.1, -1}, {199, 0, 0}, {200, 0.1, 100}, {1340, 0.1, 134}, {1340, 0.05, 100}, {1000, 0.5, 500},
	} {
		o := DefaultOptions()
		o.Validation = tt.share
		d := &Dataset{opts: o}
		err := d.split(list(tt.normals))
		if tt.want < 0 {
			if err == nil || !strings.Contains(err.Error(), "validation = 0") {
				t.Errorf("%d normals: %v", tt.normals, err)
			}
			continue
		}
		if err != nil || d.Len(Validation) != tt.want || d.Len(Train) != tt.normals-tt.want {
			t.Errorf("%d normals at %g: %d and %d, %v", tt.normals, tt.share, d.Len(Train), d.Len(Validation), err)
		}
	}
}

func TestOrder(t *testing.T) {
	a := Order(1, 2, 50)
	if sorted := slices.Sorted(slices.Values(a)); sorted[0] != 0 || sorted[49] != 49 || len(slices.Compact(sorted)) != 50 {
		t.Errorf("not a permutation: %v", a)
	}
	if !slices.Equal(a, Order(1, 2, 50)) || slices.Equal(a, Order(1, 3, 50)) || slices.Equal(a, Order(2, 2, 50)) {
		t.Error("not a function of seed and epoch")
	}
	// PCG and Perm of math/rand/v2, go1.26: a change would change every run.
	if got := Order(0, 0, 8); !slices.Equal(got, []int{6, 1, 0, 3, 5, 7, 4, 2}) {
		t.Errorf("Order(0, 0, 8) = %v", got)
	}
	if len(Order(1, 1, 0)) != 0 {
		t.Error("an empty set has an order")
	}
}

func TestZhanglabNames(t *testing.T) {
	for _, tt := range []struct{ path, group, subtype string }{
		{"train/NORMAL/IM-0429-0001-0002.jpeg", "IM-0429", ""},
		{"test/NORMAL/NORMAL2-IM-0381-0001.jpeg", "NORMAL2-IM-0381", ""},
		{"train/PNEUMONIA/person1_bacteria_2.jpeg", "train/person1", "bacteria"},
		{"test/PNEUMONIA/person1_virus_6.jpeg", "test/person1", "virus"},
		{"test/PNEUMONIA/other.jpeg", "", "PNEUMONIA"},
	} {
		it := Item{Path: tt.path}
		if strings.Contains(tt.path, "PNEUMONIA") {
			it.Abnormal, it.Subtype = true, "PNEUMONIA"
		}
		if got := zhanglab(it); got.Group != tt.group || got.Subtype != tt.subtype {
			t.Errorf("%s: group %q, subtype %q", tt.path, got.Group, got.Subtype)
		}
	}
}

func TestReadImage(t *testing.T) {
	root := tree(t, small(t))
	o := options(root)
	name := filepath.Join(root, "test", "normal", "a.png")
	p, err := ReadImage(name, o)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, o, t.TempDir())
	dst := make([]float32, 256)
	d.Pixels(Test, 3, dst)
	if p.W != 16 || p.H != 16 || !slices.Equal(p.V, dst) {
		t.Error("differs from the cache")
	}
	if _, err := ReadImage(filepath.Join(root, "no.png"), o); err == nil || !strings.Contains(err.Error(), "no.png: the file is not there") {
		t.Errorf("missing: %v", err)
	}
}

func BenchmarkPixels(b *testing.B) {
	d := open(b, options(tree(b, small(b))), b.TempDir())
	dst := make([]float32, 256)
	for b.Loop() {
		d.Pixels(Train, 0, dst)
	}
}
