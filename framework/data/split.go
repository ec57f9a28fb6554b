package data

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// split fills the items and the rule. Validation is a share of the training normals, drawn by whole
// groups, unless the manifest gives it.
func (d *Dataset) split(list []listed) error {
	o := d.opts
	given, unused := false, 0
	for _, it := range list {
		switch {
		case it.split == aside:
			unused++
			continue
		case it.split == Train && it.Abnormal:
			d.pool = append(d.pool, it.Item)
			continue
		case it.split == Validation && it.Abnormal:
			return fmt.Errorf("data %s: %s: an abnormal validation image; move it to test", o.Name, it.Path)
		case it.split == Validation:
			given = true
		}
		d.items[it.split] = append(d.items[it.split], it.Item)
	}
	normals := len(d.items[Train])
	if normals == 0 {
		return fmt.Errorf("data %s: no normal training images in %s; put them into train/normal", o.Name, o.Root)
	}
	if len(d.items[Test]) == 0 {
		return fmt.Errorf("data %s: no test images in %s; put them into test/normal and test/abnormal", o.Name, o.Root)
	}
	switch {
	case given:
		d.rule = fmt.Sprintf("validation: %d normal images, given by the set; training: %d normal images",
			len(d.items[Validation]), normals)
	case o.Validation == 0:
		d.rule = fmt.Sprintf("validation: none; training: all %d normal images", normals)
	default:
		n := max(minValidation, int(math.Round(o.Validation*float64(normals))))
		if 2*n > normals {
			return fmt.Errorf("data %s: %d normal training images; validation takes at least %d and must leave as many; add images or set validation = 0",
				o.Name, normals, n)
		}
		unit := "images"
		if slices.ContainsFunc(d.items[Train], func(it Item) bool { return it.Group != "" }) {
			unit = "groups"
		}
		d.items[Train], d.items[Validation] = holdOut(d.items[Train], n, o.SplitSeed)
		d.rule = fmt.Sprintf("validation: %d of %d normal training images (share %g, at least %d), whole %s drawn with split seed %d; training: %d",
			len(d.items[Validation]), normals, o.Validation, minValidation, unit, o.SplitSeed, len(d.items[Train]))
	}
	if unused > 0 {
		d.rule += fmt.Sprintf("; %d images set aside, in no split", unused)
	}
	if o.Contamination > 0 {
		return d.contaminate()
	}
	if len(d.pool) > 0 {
		d.rule += fmt.Sprintf("; %d abnormal training images not used", len(d.pool))
	}
	return nil
}

// contaminate replaces a share of the training normals by as many abnormal images, as
// [Options].Contamination says. Abnormal images of patients whose images validate or test stay out.
func (d *Dataset) contaminate() error {
	o := d.opts
	kept := map[string]bool{}
	for _, it := range slices.Concat(d.items[Validation], d.items[Test]) {
		kept[it.Group] = it.Group != ""
	}
	pool := slices.DeleteFunc(slices.Clone(d.pool), func(it Item) bool { return kept[it.Group] })
	slices.SortFunc(pool, byPath)
	all := d.items[Train]
	normals := int(math.Floor((1-o.Contamination)*float64(len(all)) + 1e-9)) // 1-0.9 is less than 0.1
	abnormals := len(all) - normals
	if abnormals > len(pool) {
		return fmt.Errorf("data %s: contamination %g needs %d abnormal training images, of patients that neither validate nor test, and %s has %d; add images or lower it",
			o.Name, o.Contamination, abnormals, o.Root, len(pool))
	}
	const stream, other = 1, 2 // of the split seed; 0 draws validation
	mixed := make([]Item, 0, len(all))
	for _, i := range Order(o.SplitSeed, stream, len(all))[:normals] {
		mixed = append(mixed, all[i])
	}
	for _, i := range Order(o.SplitSeed, other, len(pool))[:abnormals] {
		mixed = append(mixed, pool[i])
	}
	slices.SortFunc(mixed, byPath)
	d.items[Train] = mixed
	d.rule += fmt.Sprintf("; contamination %g: %d of them replaced by as many of %d abnormal training images, drawn with split seed %d",
		o.Contamination, abnormals, len(pool), o.SplitSeed)
	return nil
}

// holdOut draws whole groups until at least n items are drawn; an item without a group is one of its
// own. Both results keep the order of items.
func holdOut(items []Item, n int, seed uint64) (kept, drawn []Item) {
	members := map[string]int{}
	var groups []string
	id := func(it Item) string {
		if it.Group == "" {
			return "\x00" + it.Path
		}
		return it.Group
	}
	for _, it := range items {
		if members[id(it)] == 0 {
			groups = append(groups, id(it))
		}
		members[id(it)]++
	}
	out := map[string]bool{}
	for _, g := range Order(seed, 0, len(groups)) {
		if n <= 0 {
			break
		}
		out[groups[g]] = true
		n -= members[groups[g]]
	}
	for _, it := range items {
		if out[id(it)] {
			drawn = append(drawn, it)
		} else {
			kept = append(kept, it)
		}
	}
	return kept, drawn
}

// Order is the order of n training images in an epoch: a permutation of 0..n-1, the same for the same
// arguments on every machine.
func Order(seed uint64, epoch, n int) []int {
	return rand.New(rand.NewPCG(seed, uint64(epoch))).Perm(n)
}

// cleanPath checks a path of a manifest: relative, inside the root, with '/'.
func cleanPath(p string) (string, bool) {
	c := path.Clean(p)
	ok := p != "" && !path.IsAbs(p) && c != "." && c != ".." && !strings.HasPrefix(c, "../") &&
		!strings.ContainsAny(p, "\\\x00\n\r")
	return c, ok
}
