package data

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Severity is how much a finding matters.
type Severity string

// An Error stops Open or makes results wrong, a Warning can move them, a Note should be known.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Codes of findings. L codes are those of the project's list of pitfalls.
const (
	CodeUnreadable = "D1"  // a file that cannot be read or decoded
	CodeZero       = "D2"  // no bytes or no pixels
	CodeConflict   = "D3"  // the same pixels, normal and abnormal
	CodeConstant   = "D4"  // one grey value everywhere
	CodeSplit      = "D5"  // a split that cannot be made
	CodeGroup      = "L5"  // one patient in two splits, or patients unknown
	CodeDuplicate  = "L7"  // the same or nearly the same image twice
	CodeMask       = "L13" // a mask that is empty or vanishes at the working size
	CodePairing    = "L14" // a mask of the wrong size, a mask or an image without the other
	CodeValidation = "L24" // a validation split too small for a threshold
	CodeDepth      = "L25" // more than 8 bits reduced to 8
)

// A Finding is something to know or repair before training.
type Finding struct {
	Code     string
	Severity Severity
	Path     string // image or mask, relative to the root; "" for the set as a whole
	Text     string
	Remedy   string
}

// similar is the correlation of two images shrunk to thumb×thumb pixels above which they are reported.
const (
	similar = 0.97
	thumb   = 48
)

// An inspection is what Check keeps of one image.
type inspection struct {
	fault    error
	hash     [sha256.Size]byte // of size and grey pixels
	constant bool
	deep     bool
	mask     *Finding
	lungs    *Finding
	thumb    []float32 // zero mean, unit length; nil if unreadable or constant
}

// Check reads every image and mask of a set, training abnormals included, and reports what is wrong
// with them, ordered by severity, code and path. Its error says that the set could not be listed.
func Check(o Options) ([]Finding, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	list, src, err := listing(o)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(it listed) bool { return it.split == aside })
	seen := make([]inspection, len(list))
	var mu sync.Mutex
	done := 0
	parallel(len(list), func(i int) error {
		seen[i] = inspect(src, o.geometry(), list[i].Item)
		if o.Progress != nil {
			mu.Lock()
			defer mu.Unlock()
			done++
			o.Progress(done, len(list))
		}
		return nil
	})
	var found []Finding
	if err := (&Dataset{opts: o}).split(list); err != nil {
		text, remedy := err.Error(), ""
		if at := strings.LastIndex(text, "; "); at >= 0 {
			text, remedy = text[:at], text[at+2:]
		}
		found = append(found, Finding{CodeSplit, Error, "", text, remedy})
	}
	found = append(found, files(list, seen)...)
	found = append(found, duplicates(list, seen)...)
	found = append(found, nearDuplicates(list, seen)...)
	found = append(found, groups(list)...)
	found = append(found, masks(o, list, src)...)
	found = append(found, validation(o, list, src)...)
	rank := map[Severity]int{Error: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), strings.Compare(a.Code, b.Code), strings.Compare(a.Path, b.Path))
	})
	return found, nil
}

func inspect(src source, g geometry, it Item) (s inspection) {
	n, err := src.load(it)
	if err != nil {
		s.fault = err
		return s
	}
	s.deep = n.deep
	s.hash = sha256.Sum256(append(fmt.Appendf(nil, "%d %d ", n.W, n.H), n.V...))
	s.constant = slices.Min(n.V) == slices.Max(n.V)
	s.thumb = thumbnail(n.Native)
	if it.Mask != "" {
		s.mask = inspectMask(g, it, n)
	}
	if it.Lungs != "" {
		s.lungs = inspectLungs(it, n, src.lungs(it))
	}
	return s
}

// thumbnail shrinks an image and brings it to zero mean and unit length, so that a dot product is a
// correlation; nil if nothing varies.
func thumbnail(n Native) []float32 {
	grid := geometry{thumb, "stretch", bilinear}.image(n.W, n.H, n.V)
	mean := 0.0
	for _, v := range grid {
		mean += float64(v) / float64(len(grid))
	}
	square := 0.0
	for _, v := range grid {
		square += (float64(v) - mean) * (float64(v) - mean)
	}
	if square < 1 {
		return nil
	}
	t := make([]float32, len(grid))
	for i, v := range grid {
		t[i] = float32((float64(v) - mean) / math.Sqrt(square))
	}
	return t
}

func inspectMask(g geometry, it Item, n picture) *Finding {
	m := n.mask
	switch {
	case m.err != nil:
		return broken(it.Mask, m.err)
	case m.w != n.W || m.h != n.H:
		return &Finding{CodePairing, Error, it.Mask, fmt.Sprintf("%d×%d, its image %s is %d×%d", m.w, m.h, it.Path, n.W, n.H),
			"make the mask on the grid of its image"}
	case !slices.Contains(m.bits, true):
		return &Finding{CodeMask, Error, it.Mask, "empty, but its image " + it.Path + " is abnormal",
			"draw the lesion, remove the mask, or move the image to normal"}
	case !slices.Contains(g.mask(m.w, m.h, m.bits), true):
		return &Finding{CodeMask, Warning, it.Mask, fmt.Sprintf("the lesion vanishes at %d pixels with fit %q", g.size, g.fit),
			"train at a larger size, or with fit = \"pad\""}
	}
	return nil
}

func inspectLungs(it Item, n picture, m mask) *Finding {
	switch {
	case m.err != nil:
		return broken(it.Lungs, m.err)
	case m.w != n.W || m.h != n.H:
		return &Finding{CodePairing, Error, it.Lungs, fmt.Sprintf("%d×%d, its image %s is %d×%d", m.w, m.h, it.Path, n.W, n.H),
			"make the mask on the grid of its image"}
	case !slices.Contains(m.bits, true):
		return &Finding{CodeMask, Warning, it.Lungs, "empty, so the lungs of " + it.Path + " have no pixels",
			"draw the lungs; metrics of the lungs' mean need them"}
	}
	return nil
}

// broken makes a finding of an unreadable file.
func broken(name string, err error) *Finding {
	f, ok := errors.AsType[*fault](err)
	if !ok {
		f = &fault{text: err.Error(), remedy: restore}
	}
	if f.zero {
		return &Finding{CodeZero, Error, name, f.text, f.remedy}
	}
	return &Finding{CodeUnreadable, Error, name, f.text, f.remedy}
}

// files reports what is wrong with single files.
func files(list []listed, seen []inspection) (found []Finding) {
	reduced := 0
	for i, s := range seen {
		if s.fault != nil {
			found = append(found, *broken(list[i].Path, s.fault))
			continue
		}
		if s.constant {
			found = append(found, Finding{CodeConstant, Warning, list[i].Path, "one grey value everywhere", "look at it; remove it if it shows nothing"})
		}
		for _, f := range []*Finding{s.mask, s.lungs} {
			if f != nil {
				found = append(found, *f)
			}
		}
		if s.deep {
			reduced++
		}
	}
	if reduced > 0 {
		found = append(found, Finding{CodeDepth, Note, "", fmt.Sprintf("%d images have more than 8 bits and are reduced to 8", reduced),
			"give data.window, apply the display window before the export, or accept the loss"})
	}
	return found
}

// duplicates reports images with the same pixels, each with the first of its kind.
func duplicates(list []listed, seen []inspection) (found []Finding) {
	first := map[[sha256.Size]byte]int{}
	for i, s := range seen {
		if s.fault != nil || s.constant {
			continue
		}
		j, twice := first[s.hash]
		if !twice {
			first[s.hash] = i
			continue
		}
		a, b := list[j], list[i]
		switch {
		case a.Abnormal != b.Abnormal:
			found = append(found, Finding{CodeConflict, Error, b.Path, "the same pixels as " + a.Path + ", which has the other label", "remove the one that is wrong, or both"})
		case a.split != b.split:
			found = append(found, Finding{CodeDuplicate, Error, b.Path, "the same pixels as " + a.Path + ", in another split", "remove it from the training images"})
		default:
			found = append(found, Finding{CodeDuplicate, Warning, b.Path, "the same pixels as " + a.Path, "remove one"})
		}
	}
	return found
}

// nearDuplicates reports for every test image the most similar image of another split above the
// threshold. Exact copies are left to duplicates.
func nearDuplicates(list []listed, seen []inspection) (found []Finding) {
	var others []int
	coarse := make([]signature, len(list))
	for i := range list {
		if seen[i].thumb == nil {
			continue
		}
		coarse[i] = sign(seen[i].thumb)
		if list[i].split != Test {
			others = append(others, i)
		}
	}
	results := make([]*Finding, len(list))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range list {
		if list[i].split != Test || seen[i].thumb == nil {
			continue
		}
		g.Go(func() error {
			best, at := float32(similar), -1
			for _, j := range others {
				if coarse[i].bound(coarse[j]) <= best || seen[i].hash == seen[j].hash {
					continue
				}
				if r := dot(seen[i].thumb, seen[j].thumb); r > best {
					best, at = r, j
				}
			}
			if at >= 0 {
				results[i] = &Finding{CodeDuplicate, Warning, list[i].Path,
					fmt.Sprintf("nearly %s (%s): correlation %.3f at %d pixels", list[at].Path, list[at].split, best, thumb),
					"if both are of one patient, keep them in one split"}
			}
			return nil
		})
	}
	g.Wait()
	for _, f := range results {
		if f != nil {
			found = append(found, *f)
		}
	}
	return found
}

// A signature bounds a correlation without all pixels: the means of 4×4 blocks, scaled so that they are
// coordinates in an orthonormal basis, and the length of what they leave out.
type signature struct {
	blocks []float32
	rest   float32
}

func sign(t []float32) signature {
	const block = 4
	blocks := make([]float32, (thumb/block)*(thumb/block))
	for i, v := range t {
		blocks[i/thumb/block*(thumb/block)+i%thumb/block] += v / block
	}
	return signature{blocks, float32(math.Sqrt(max(0, 1-float64(dot(blocks, blocks)))))}
}

// bound is at least the correlation of the two images, by Cauchy and Schwarz.
func (a signature) bound(b signature) float32 {
	return dot(a.blocks, b.blocks) + a.rest*b.rest + 1e-5
}

// dot is the inner product of two vectors whose length is a multiple of four.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	for ; len(a) >= 4 && len(b) >= 4; a, b = a[4:], b[4:] {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
	}
	return s0 + s1 + s2 + s3
}

// groups reports patients on two sides of a split.
func groups(list []listed) (found []Finding) {
	first := map[string]int{}
	told := map[string]bool{}
	without := 0
	for i, it := range list {
		if it.Group == "" {
			without++
			continue
		}
		j, known := first[it.Group]
		if !known {
			first[it.Group] = i
		} else if list[j].split != it.split && !told[it.Group] {
			told[it.Group] = true
			found = append(found, Finding{CodeGroup, Error, it.Path,
				fmt.Sprintf("group %s is in %s and, with %s, in %s", it.Group, it.split, list[j].Path, list[j].split), "move all its images to one split"})
		}
	}
	switch {
	case without == len(list):
		found = append(found, Finding{CodeGroup, Note, "", "no patient or study ids: images of one patient may lie on both sides of a split, and intervals cannot be made by patient",
			"give them in the column group of a manifest, if they are known"})
	case without > 0:
		found = append(found, Finding{CodeGroup, Warning, "", fmt.Sprintf("%d of %d images have no patient or study id", without, len(list)),
			"complete the column group, or the file names"})
	}
	return found
}

// masks reports abnormal test images without a mask where others have one, and masks without an image.
func masks(o Options, list []listed, src source) (found []Finding) {
	used := map[string]bool{}
	for _, it := range list {
		if it.Mask != "" {
			used[it.Mask] = true
		}
	}
	if len(used) > 0 {
		for _, it := range list {
			if it.Abnormal && it.Mask == "" && it.split == Test {
				found = append(found, Finding{CodePairing, Warning, it.Path, "abnormal, without a mask, where other images have one",
					"draw the mask; pixel metrics leave the image out"})
			}
		}
	}
	f, ok := src.(folder)
	if !ok || o.Set != "folder" && o.Set != "zhanglab" {
		return found
	}
	normal := map[string]bool{}
	for _, it := range list {
		if !it.Abnormal {
			normal[stem(it.Path)] = true
		}
	}
	for _, split := range []Split{Train, Test} {
		all, err := findMasks(f.root, split.String(), "masks", "_mask")
		if err != nil {
			continue // listing the set has met and reported it
		}
		for name, mask := range all {
			if !used[mask] && !normal[path.Join(split.String(), name)] {
				found = append(found, Finding{CodePairing, Warning, mask, "a mask without an image of its class and name",
					"rename it as its image, or remove it"})
			}
		}
	}
	return found
}

// validation reports an official validation split that is too small or not used.
func validation(o Options, list []listed, src source) (found []Finding) {
	n := 0
	for _, it := range list {
		if it.split == Validation {
			n++
		}
	}
	if n > 0 && n < minValidation {
		found = append(found, Finding{CodeValidation, Warning, "", fmt.Sprintf("%d validation images are too few for a threshold", n),
			fmt.Sprintf("give %d or more, or none, so that they are drawn from the training normals", minValidation)})
	}
	f, ok := src.(folder)
	if !ok || o.Set != "folder" && o.Set != "zhanglab" {
		return found
	}
	for _, dir := range []string{"val", "validation"} {
		if info, err := os.Stat(filepath.Join(f.root, dir)); err != nil || !info.IsDir() {
			continue
		}
		names, err := images(f.root, dir, 0)
		if err == nil {
			found = append(found, Finding{CodeValidation, Note, dir, fmt.Sprintf("%d images in a validation folder are not used", len(names)),
				"validation is drawn from the training normals; a manifest can name another"})
		}
	}
	return found
}
