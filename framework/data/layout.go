package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A listed image knows the split its folder or manifest gives it.
type listed struct {
	Item
	split Split
}

func byPath(a, b Item) int { return strings.Compare(a.Path, b.Path) }

// listing finds the images of a set and what reads them, ordered by path.
func listing(o Options) ([]listed, source, error) {
	var list []listed
	var root string
	var err error
	switch o.Set {
	case "phantom":
		g := newGenerated(*o.Phantom)
		return g.list, g, nil
	case "none":
		return nil, nil, fmt.Errorf("data.set: \"none\" has no images; name a set and its root")
	case "manifest":
		root = filepath.Dir(o.Root)
		list, err = readManifest(o.Root)
	case "folder", "zhanglab":
		if root, err = findRoot(o.Root, "train", "ROOT/train/normal and ROOT/test/{normal,abnormal}"); err == nil {
			list, err = walk(root, o.Set)
		}
		if err == nil && o.Group == "folder" {
			err = groupByFolder(root, list)
		}
	case "covidx":
		if root, err = findRoot(o.Root, "train", "ROOT/train, ROOT/test and the lists beside them"); err == nil {
			list, err = readCOVIDx(root)
		}
	case "chexpert":
		if root, err = findRoot(o.Root, "train", "ROOT/train and ROOT/valid with train.csv and valid.csv beside them"); err == nil {
			list, err = readCheXpert(root, *o.CheXpert, o.SplitSeed)
		}
	case "chexpert-pa":
		if root, err = findRoot(o.Root, "train_256_pa", "ROOT/{train,val,our_test}_256_pa/{normal,abnormal}_256"); err == nil {
			list, err = walkCheXpert(root)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(list, func(a, b listed) int { return byPath(a.Item, b.Item) })
	return list, folder{root, o.Window}, nil
}

// findRoot returns root, or the folder in it when there is nothing else, whichever holds the folder train;
// need is the layout, for the error.
func findRoot(root, train, need string) (string, error) {
	for dir := root; ; {
		if info, err := os.Stat(filepath.Join(dir, train)); err == nil && info.IsDir() {
			return dir, nil
		}
		entries, err := visible(dir)
		if err != nil {
			return "", fmt.Errorf("data.root: %w", err)
		}
		if len(entries) != 1 || !entries[0].IsDir() {
			return "", fmt.Errorf("data.root: %s has no folder %s; need %s", root, train, need)
		}
		dir = filepath.Join(dir, entries[0].Name())
	}
}

// visible lists a folder without hidden files, by name.
func visible(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }), err
}

// walk lists root/{train,test}/CLASS. Any class but "normal" is abnormal and is the subtype of its
// images. Masks lie in root/SPLIT/masks/CLASS/NAME.png or root/masks/SPLIT/CLASS/NAME.png, NAME being
// that of the image with or without "_mask", and are paired by name; so are the lungs, with "lungs" for
// "masks" and for "_mask".
func walk(root, set string) ([]listed, error) {
	var list []listed
	for _, split := range []Split{Train, Test} {
		dir := split.String()
		classes, err := visible(filepath.Join(root, dir))
		if errors.Is(err, fs.ErrNotExist) && split == Test {
			return nil, fmt.Errorf("data.root: %s has no folder test; need ROOT/test/{normal,abnormal}", root)
		}
		if err != nil {
			return nil, fmt.Errorf("data.root: %w", err)
		}
		masks, err := findMasks(root, dir, "masks", "_mask")
		if err != nil {
			return nil, err
		}
		lungs, err := findMasks(root, dir, "lungs", "_lungs")
		if err != nil {
			return nil, err
		}
		for _, class := range classes {
			rel := path.Join(dir, class.Name())
			if isImage(class.Name()) {
				return nil, fmt.Errorf("%s: an image outside a class folder; move it to %s/normal or %s/abnormal",
					filepath.Join(root, rel), dir, dir)
			}
			if class.Name() == "masks" || class.Name() == "lungs" || !isDir(root, rel, class) {
				continue
			}
			names, err := images(root, rel, 0)
			if err != nil {
				return nil, err
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("%s: no images (%s); fill the folder or remove it",
					filepath.Join(root, rel), strings.Join(extensions, ", "))
			}
			for _, name := range names {
				it := Item{Path: name, Lungs: lungs[stem(strings.TrimPrefix(name, dir+"/"))]}
				if it.Abnormal = !strings.EqualFold(class.Name(), "normal"); it.Abnormal {
					it.Subtype = class.Name()
					it.Mask = masks[stem(strings.TrimPrefix(name, dir+"/"))]
				}
				if set == "zhanglab" {
					it = zhanglab(it)
				}
				list = append(list, listed{it, split})
			}
		}
	}
	return list, nil
}

func isDir(root, rel string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(filepath.Join(root, rel))
	return err == nil && info.IsDir()
}

// images lists the images below root/rel, with '/' and relative to root. It opens none of them.
func images(root, rel string, depth int) ([]string, error) {
	if depth > 8 {
		return nil, fmt.Errorf("%s: more than 8 folders deep; is there a link to a parent?", filepath.Join(root, rel))
	}
	entries, err := visible(filepath.Join(root, rel))
	if err != nil {
		return nil, fmt.Errorf("data.root: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		switch {
		case isImage(name) && !e.IsDir():
			names = append(names, name)
		case isDir(root, name, e):
			below, err := images(root, name, depth+1)
			if err != nil {
				return nil, err
			}
			names = append(names, below...)
		}
	}
	return names, nil
}

// groupByFolder makes the folder below that of the class the study of its images.
func groupByFolder(root string, list []listed) error {
	for i := range list {
		parts := strings.Split(list[i].Path, "/") // SPLIT/CLASS/STUDY…/IMAGE
		if len(parts) < 4 {
			return fmt.Errorf("%s: in no folder of a study, but data.group is \"folder\"; move it into one below %s",
				filepath.Join(root, list[i].Path), path.Dir(list[i].Path))
		}
		list[i].Group = strings.Join(parts[2:len(parts)-1], "/")
	}
	return nil
}

// findMasks maps CLASS/NAME to the path of its mask; kind is the name of the folder and suffix what NAME may end in.
func findMasks(root, split, kind, suffix string) (map[string]string, error) {
	masks := map[string]string{}
	for _, dir := range []string{path.Join(split, kind), path.Join(kind, split)} {
		if info, err := os.Stat(filepath.Join(root, dir)); err != nil || !info.IsDir() {
			continue
		}
		names, err := images(root, dir, 0)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			masks[strings.TrimSuffix(stem(strings.TrimPrefix(name, dir+"/")), suffix)] = name
		}
	}
	return masks, nil
}

// stem is a path without its extension.
func stem(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }

var (
	zhanglabPerson = regexp.MustCompile(`^(person\d+)_(bacteria|virus)_`)
	zhanglabNormal = regexp.MustCompile(`^((?:NORMAL2-)?IM-\d+)-`)
)

// zhanglab fills group and subtype from a file name of the ZhangLab chest X-rays (Kermany et al.,
// Cell 2018). The numbering of persons restarts in each split of PNEUMONIA, so there the split is part
// of the group.
func zhanglab(it Item) Item {
	name := path.Base(it.Path)
	if m := zhanglabPerson.FindStringSubmatch(name); m != nil && it.Abnormal {
		split, _, _ := strings.Cut(it.Path, "/")
		it.Group, it.Subtype = split+"/"+m[1], m[2]
	} else if m := zhanglabNormal.FindStringSubmatch(name); m != nil && !it.Abnormal {
		it.Group = m[1]
	}
	return it
}
