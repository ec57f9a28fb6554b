package data

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// covidxLists are the list files of COVIDx 9A (Wang et al., "COVID-Net", Scientific Reports 2020) as
// SQUID and SimSID train on it. The images of the validation list lie in train/.
var covidxLists = []struct {
	name, folder string
	split        Split
	kind         string // of the images in it: normal, abnormal or both
}{
	{"train_squid.txt", "train", Train, "normal"},
	{"train_squid_abnormal.txt", "train", Train, "abnormal"},
	{"val_squid.txt", "train", Validation, "both"},
	{"test_COVIDx9A.txt", "test", Test, "both"},
}

// covidxLabels are the labels of a line; all but the first are abnormal.
var covidxLabels = []string{"normal", "pneumonia", "COVID-19"}

// readCOVIDx reads the lists of the set in root. Abnormal validation images are set aside: nothing here
// selects by labels.
func readCOVIDx(root string) ([]listed, error) {
	var all []listed
	seen := map[string]string{} // path to list and line
	for _, l := range covidxLists {
		name := filepath.Join(root, l.name)
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("data.root: %w; COVIDx needs %s, with lines \"patient file label source\"", err, l.name)
		}
		list, lines, err := parseCOVIDx(f, l.folder, l.kind)
		f.Close()
		for i := 0; i < len(list) && err == nil; i++ {
			if before := seen[list[i].Path]; before != "" {
				err = fmt.Errorf("line %d: %s is already on %s; keep one", lines[i], list[i].Path, before)
			} else if err = present(root, list[i].Path); err != nil {
				err = fmt.Errorf("line %d: %w", lines[i], err)
			}
			seen[list[i].Path] = fmt.Sprintf("line %d of %s", lines[i], l.name)
			if list[i].split = l.split; l.split == Validation && list[i].Abnormal {
				list[i].split = aside
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// present reports an image that is listed and not there.
func present(root, name string) error {
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err != nil {
		return fmt.Errorf("no image %s; %s", name, restore)
	}
	return nil
}

// parseCOVIDx reads the lines "patient file label source" of a list of images of one kind in folder.
func parseCOVIDx(r io.Reader, folder, kind string) (list []listed, lines []int, err error) {
	in := bufio.NewScanner(r)
	for line := 1; in.Scan(); line++ {
		words := strings.Fields(in.Text())
		if len(words) == 0 {
			continue
		}
		if len(words) != 4 {
			return nil, nil, fmt.Errorf("line %d: %d words, need patient, file, label and source", line, len(words))
		}
		it := listed{Item: Item{Group: words[0]}}
		file, ok := cleanPath(path.Join(folder, words[1]))
		if !ok || !strings.HasPrefix(file, folder+"/") || !isImage(file) {
			return nil, nil, fmt.Errorf("line %d: file %q: need an image (%s) in %s", line, words[1], strings.Join(extensions, ", "), folder)
		}
		it.Path = file
		label := slices.IndexFunc(covidxLabels, func(l string) bool { return strings.EqualFold(words[2], l) })
		if label < 0 {
			return nil, nil, fmt.Errorf("line %d: label %q: need %s", line, words[2], strings.Join(covidxLabels, ", "))
		}
		if it.Abnormal = label > 0; it.Abnormal {
			it.Subtype = covidxLabels[label]
		}
		if kind == "normal" && it.Abnormal || kind == "abnormal" && !it.Abnormal {
			return nil, nil, fmt.Errorf("line %d: label %q in a list of %s images; move the line", line, words[2], kind)
		}
		list, lines = append(list, it), append(lines, line)
	}
	if err := in.Err(); err != nil {
		return nil, nil, err
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("no images; a line is \"patient file label source\"")
	}
	return list, lines, nil
}
