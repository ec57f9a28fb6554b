// Package data opens image sets: it lists their files, splits them, decodes and
// resizes every image once into a packed cache, and hands out grey images in [0,1].
//
// A set is one of
//
//   - folder: ROOT/{train,test}/{normal,CLASS…}; every class but normal is abnormal and names the
//     subtype. Masks of ROOT/test/CLASS/NAME.EXT lie in ROOT/test/masks/CLASS/NAME.png (or
//     ROOT/masks/test/CLASS/NAME.png, NAME with or without "_mask"); what is not black is lesion.
//     Masks of the lungs, of normal images too, lie the same way under "lungs" (NAME with or without "_lungs").
//   - zhanglab: the same with {NORMAL,PNEUMONIA}, and patients and germs from the file names.
//   - covidx: ROOT/{train,test} and the lists train_squid.txt, train_squid_abnormal.txt, val_squid.txt and
//     test_COVIDx9A.txt, with lines "patient file label source".
//   - chexpert: CheXpert's train.csv and valid.csv, its frontal PA images.
//   - chexpert-pa: ROOT/{train,val,our_test}_256_pa/{normal,abnormal}_256.
//   - manifest: a CSV file with the columns path, split, label and, if known, subtype, group, mask, lungs.
//   - phantom: generated images.
//
// Images are PNG, JPEG, BMP or TIFF. Colour becomes luma and 16 bits become 8, through
// [Options].Window where one is given; resizing is antialiased
// and agrees with Pillow's to the last bit.
package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Pixels is one grey image, row-major, in [0,1].
type Pixels struct {
	W, H int
	V    []float32
}

// Item is one listed image.
type Item struct {
	Path     string // relative to the root of the set, with '/'
	Abnormal bool
	Subtype  string // class folder, manifest column or finding; "" if unknown
	Group    string // patient or study; "" if unknown
	Mask     string // path of the lesion mask, relative to the root; "" if none
	Lungs    string // path of the mask of the lungs, relative to the root; "" if none
}

// Split names the part of a set an image belongs to.
type Split int

// Train and Validation hold normal images only, but for [Options].Contamination; Test holds both kinds.
const (
	Train Split = iota
	Validation
	Test
)

// aside is where listed images are that belong to no split: abnormal ones of an official validation list,
// and those of test patients that are not needed.
const aside Split = -1

// String is the word used in manifests and in scores.csv.
func (s Split) String() string {
	switch s {
	case Train:
		return "train"
	case Validation:
		return "validation"
	case Test:
		return "test"
	}
	return fmt.Sprintf("split(%d)", int(s))
}

// Native is an image at its stored size, 8-bit grey, row-major.
type Native struct {
	W, H      int
	V         []uint8
	FileBytes int64 // length of the file
}

// Dataset is an opened set. Its methods may be called from several goroutines
// at once; none may be called after Close.
type Dataset struct {
	opts  Options
	items [3][]Item
	slots [3][]int // place of each item in the cache
	pool  []Item
	rule  string
	files int
	sum   string
	cache *cache
	src   source

	learnt    sync.Once
	learntSum string
}

// source reads the images behind a listing.
type source interface {
	load(it Item) (picture, error)                           // its mask too, unless it.Mask is ""
	lungs(it Item) mask                                      // it.Lungs is not ""
	manifest(cacheDir string, used []Item) ([]string, error) // a line with path and digest for each file
}

// A picture is an image at its stored size and what lies beside it.
type picture struct {
	Native
	deep bool // stored with more than 8 bits
	mask mask
}

// A mask is true on a lesion; err says why it could not be read.
type mask struct {
	w, h int
	bits []bool
	err  error
}

// Open lists, splits and, if the cache in cacheDir does not hold them yet, decodes the images of o.
// Of the training images only the normal ones are read, unless o asks for contamination. Its errors name the file and the remedy.
func Open(o Options, cacheDir string) (*Dataset, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if cacheDir == "" {
		return nil, fmt.Errorf("data %s: no cache folder given", o.Name)
	}
	if err := os.MkdirAll(cacheDir, 0o777); err != nil {
		return nil, fmt.Errorf("data %s: make the cache folder: %w", o.Name, err)
	}
	list, src, err := listing(o)
	if err != nil {
		return nil, err
	}
	d := &Dataset{opts: o, src: src}
	if err := d.split(list); err != nil {
		return nil, err
	}
	used := d.used()
	lines, err := src.manifest(cacheDir, used)
	if err != nil {
		return nil, err
	}
	d.files, d.sum = fingerprint(lines)
	if d.cache, err = openCache(cacheDir, o, src, used, d.sum); err != nil {
		return nil, err
	}
	return d, nil
}

// Close gives the mapped cache back.
func (d *Dataset) Close() error { return d.cache.close() }

// used returns every image that is ever read, ordered by path, and notes each one's place.
func (d *Dataset) used() []Item {
	var all []Item
	for _, items := range d.items {
		all = append(all, items...)
	}
	slices.SortFunc(all, byPath)
	place := make(map[string]int, len(all))
	for i, it := range all {
		place[it.Path] = i
	}
	for s, items := range d.items {
		d.slots[s] = make([]int, len(items))
		for i, it := range items {
			d.slots[s][i] = place[it.Path]
		}
	}
	return all
}

// fingerprint is the number of lines, one per file with its path and digest, and their SHA-256 in sorted order.
func fingerprint(lines []string) (files int, sum string) {
	slices.Sort(lines)
	lines = slices.Compact(lines)
	h := sha256.New()
	for _, line := range lines {
		fmt.Fprintln(h, line)
	}
	return len(lines), hex.EncodeToString(h.Sum(nil))
}

// Name is the name of the set in tables and folders.
func (d *Dataset) Name() string { return d.opts.Name }

// Size is the side of the square images in pixels.
func (d *Dataset) Size() int { return d.opts.Size }

// Items lists a split, ordered by path. The slice must not be changed.
func (d *Dataset) Items(s Split) []Item { return d.items[s] }

// Len is the number of images of a split.
func (d *Dataset) Len(s Split) int { return len(d.items[s]) }

// Grey is image i of a split, Size×Size, row-major, as stored in the cache. It must not be changed.
func (d *Dataset) Grey(s Split, i int) []uint8 { return d.cache.image(d.slots[s][i]) }

// Pixels writes image i of a split into dst, Size×Size values in [0,1], row-major. It does not allocate.
func (d *Dataset) Pixels(s Split, i int, dst []float32) {
	for k, v := range d.Grey(s, i) {
		dst[k] = unit[v]
	}
}

// unit is v/255.
var unit = func() (t [256]float32) {
	for v := range t {
		t[v] = float32(v) / 255
	}
	return t
}()

// Native reads image i of a split at its stored size. A generated image has the size of the set, and
// the file length of its PNG.
func (d *Dataset) Native(s Split, i int) (Native, error) {
	if d.opts.Set == "phantom" {
		return encoded(d.opts.Size, d.Grey(s, i))
	}
	it := d.items[s][i]
	it.Mask = ""
	p, err := d.src.load(it)
	return p.Native, err
}

// Mask is the lesion mask of image i on the Size×Size grid, in the geometry of the image, nearest
// neighbour; nil for an image without one.
func (d *Dataset) Mask(s Split, i int) ([]bool, error) {
	stored := d.cache.mask(d.slots[s][i])
	if stored == nil {
		return nil, nil
	}
	m := make([]bool, len(stored))
	for k, v := range stored {
		m[k] = v != 0
	}
	return m, nil
}

// Lungs is the mask of the lungs of image i on the Size×Size grid, as Mask; nil for an image without one.
// It is read from its file, or generated, at each call.
func (d *Dataset) Lungs(s Split, i int) ([]bool, error) {
	it := d.items[s][i]
	if it.Lungs == "" {
		return nil, nil
	}
	m := d.src.lungs(it)
	if m.err != nil {
		return nil, m.err
	}
	if n, err := d.Native(s, i); err != nil {
		return nil, err
	} else if m.w != n.W || m.h != n.H {
		return nil, fmt.Errorf("lungs %s: %d×%d, its image %s is %d×%d; make the mask on the grid of its image",
			it.Lungs, m.w, m.h, it.Path, n.W, n.H)
	}
	return d.opts.geometry().mask(m.w, m.h, m.bits), nil
}

// AllLungs is Lungs of every image of a split.
func (d *Dataset) AllLungs(s Split) ([][]bool, error) {
	all := make([][]bool, d.Len(s))
	err := parallel(len(all), func(i int) (err error) {
		all[i], err = d.Lungs(s, i)
		return err
	})
	return all, err
}

// HasLungs tells whether any test image has a mask of the lungs.
func (d *Dataset) HasLungs() bool {
	return slices.ContainsFunc(d.items[Test], func(it Item) bool { return it.Lungs != "" })
}

// HasMasks tells whether any test image has a lesion mask.
func (d *Dataset) HasMasks() bool {
	return slices.ContainsFunc(d.items[Test], func(it Item) bool { return it.Mask != "" })
}

// HasGroups tells whether every image has a patient or study id, so that splits and
// intervals can be made by group.
func (d *Dataset) HasGroups() bool {
	for _, items := range d.items {
		if slices.ContainsFunc(items, func(it Item) bool { return it.Group == "" }) {
			return false
		}
	}
	return true
}

// Fingerprint is the number of files behind the three splits (images and masks) and the SHA-256 of
// their paths and contents; for generated images, their number and the SHA-256 of what they are made from.
func (d *Dataset) Fingerprint() (files int, sha256 string) { return d.files, d.sum }

// Learnt identifies what can be learnt from: the SHA-256 of the decoded training and validation images, in
// order. Data blocks that differ in their test images alone have the same.
func (d *Dataset) Learnt() string {
	d.learnt.Do(func() {
		h := sha256.New()
		for _, s := range []Split{Train, Validation} {
			fmt.Fprintln(h, s, d.Len(s), d.Size())
			for i := range d.Len(s) {
				h.Write(d.Grey(s, i))
			}
		}
		d.learntSum = hex.EncodeToString(h.Sum(nil))
	})
	return d.learntSum
}

// SplitRule says in words how the splits were made.
func (d *Dataset) SplitRule() string { return d.rule }

// ContaminationPool lists the abnormal images of the training folder. Open reads none of them that
// [Options].Contamination does not ask for; PoolPixels does.
func (d *Dataset) ContaminationPool() []Item { return d.pool }

// PoolPixels reads image i of the contamination pool into dst, Size×Size values in [0,1]. It decodes
// the file at each call.
func (d *Dataset) PoolPixels(i int, dst []float32) error {
	it := d.pool[i]
	it.Mask = ""
	p, err := d.src.load(it)
	if err != nil {
		return err
	}
	for k, v := range d.opts.geometry().image(p.W, p.H, p.V) {
		dst[k] = unit[v]
	}
	return nil
}

// ReadImage decodes one file and brings it to the size, filter and fit of o, as Open does.
func ReadImage(path string, o Options) (Pixels, error) {
	if err := o.checkGeometry(); err != nil {
		return Pixels{}, err
	}
	if err := o.checkWindow(); err != nil {
		return Pixels{}, err
	}
	n, _, err := readImage(path, o.Window)
	if err != nil {
		return Pixels{}, fmt.Errorf("image %s: %w", path, err)
	}
	p := Pixels{W: o.Size, H: o.Size, V: make([]float32, o.Size*o.Size)}
	for k, v := range o.geometry().image(n.W, n.H, n.V) {
		p.V[k] = unit[v]
	}
	return p, nil
}

// folder is the source of sets whose images are files under one root.
type folder struct {
	root   string
	window *Window // nil: all of the stored range
}

func (f folder) path(rel string) string { return filepath.Join(f.root, filepath.FromSlash(rel)) }

func (f folder) load(it Item) (p picture, err error) {
	if p.Native, p.deep, err = readImage(f.path(it.Path), f.window); err != nil {
		return p, fmt.Errorf("image %s: %w", f.path(it.Path), err)
	}
	if it.Mask != "" {
		p.mask = readMask(f.path(it.Mask))
	}
	return p, nil
}

func (f folder) lungs(it Item) mask { return readMask(f.path(it.Lungs)) }
