package data

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// CheXpert says how the labels of CheXpert's own tables are read and what is held out for testing; it is
// the table chexpert of a [[data]] block whose set is "chexpert".
type CheXpert struct {
	// Uncertain is what a label -1 counts as: ignore (as if the report did not mention the finding),
	// positive or negative (U-Ones and U-Zeros of Irvin et al., AAAI 2019).
	Uncertain string `toml:"uncertain"`
	// Test is the number of normal and of abnormal test images, 1 or more of each.
	Test int `toml:"test"`
}

// DefaultCheXpert ignores uncertain labels and holds out 250 + 250 images, as many as SimSID's authors.
func DefaultCheXpert() CheXpert { return CheXpert{Uncertain: "ignore", Test: 250} }

// Check names the first key out of range.
func (c CheXpert) Check() error {
	if !slices.Contains([]string{"ignore", "positive", "negative"}, c.Uncertain) {
		return fmt.Errorf("uncertain: %q, need one of ignore, positive, negative", c.Uncertain)
	}
	if c.Test < 1 || c.Test > 1e6 {
		return fmt.Errorf("test: %d, need 1 to 1000000", c.Test)
	}
	return nil
}

// The labels of CheXpert: the first says that there is nothing, the last is not a disease.
var chexpertLabels = []string{
	"No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
	"Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
}

// chexpertViews are the columns that choose the frontal radiographs taken from behind, PA.
var chexpertViews = []string{"Path", "Frontal/Lateral", "AP/PA"}

// readCheXpert reads train.csv and valid.csv of the set in root and keeps the frontal PA images. Normal is
// No Finding 1 and no other label 1, abnormal is any other label 1; images that are neither stay out. Test
// images are drawn from train.csv with the split seed, by whole patients; validation normals are those of
// valid.csv, whose abnormal images are set aside.
func readCheXpert(root string, c CheXpert, seed uint64) ([]listed, error) {
	var all []listed
	for _, table := range []struct {
		name  string
		split Split
	}{{"train.csv", Train}, {"valid.csv", Validation}} {
		name := filepath.Join(root, table.name)
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("data.root: %w; need CheXpert's train.csv and valid.csv beside its folders", err)
		}
		list, lines, err := parseCheXpert(f, c.Uncertain)
		f.Close()
		for i := 0; i < len(list) && err == nil; i++ {
			if err = present(root, list[i].Path); err != nil {
				err = fmt.Errorf("line %d: %w", lines[i], err)
			}
			if list[i].split = table.split; table.split == Validation && list[i].Abnormal {
				list[i].split = aside
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b listed) int { return byPath(a.Item, b.Item) })
	return all, holdOutTest(all, c.Test, seed)
}

var chexpertPatient = regexp.MustCompile(`^patient\d+$`)

// parseCheXpert lists the frontal PA images that are normal or abnormal, with their lines.
func parseCheXpert(r io.Reader, uncertain string) (list []listed, lines []int, err error) {
	in := csv.NewReader(r)
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("empty; need CheXpert's table")
	}
	if err != nil {
		return nil, nil, err
	}
	column := map[string]int{}
	for i, h := range header {
		column[strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))] = i
	}
	for _, need := range slices.Concat(chexpertViews, chexpertLabels) {
		if _, ok := column[need]; !ok {
			return nil, nil, fmt.Errorf("line 1: no column %q; need CheXpert's own table", need)
		}
	}
	seen := map[string]int{}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err // names the line
		}
		line, _ := in.FieldPos(0)
		get := func(name string) string { return strings.TrimSpace(record[column[name]]) }
		it, ok, err := chexpertItem(get, uncertain)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", line, err)
		}
		if before := seen[it.Path]; before > 0 {
			return nil, nil, fmt.Errorf("line %d: %s is already on line %d; keep one", line, it.Path, before)
		}
		seen[it.Path] = line
		if ok {
			list, lines = append(list, listed{Item: it}), append(lines, line)
		}
	}
	if len(list) == 0 {
		return nil, nil, errors.New("no frontal PA image that is normal or abnormal")
	}
	return list, lines, nil
}

// chexpertItem reads one row; ok is false for another view and for an image that is neither normal nor abnormal.
func chexpertItem(get func(column string) string, uncertain string) (it Item, ok bool, err error) {
	name := get("Path")
	if first, rest, found := strings.Cut(name, "/"); found && strings.HasPrefix(first, "CheXpert-") {
		name = rest // CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg
	}
	var clean bool
	if it.Path, clean = cleanPath(name); !clean || !isImage(it.Path) {
		return it, false, fmt.Errorf("Path %q: need an image (%s) below the table's folder", get("Path"), strings.Join(extensions, ", "))
	}
	for part := range strings.SplitSeq(it.Path, "/") {
		if chexpertPatient.MatchString(part) {
			it.Group = part
		}
	}
	if it.Group == "" {
		return it, false, fmt.Errorf("Path %q: no folder of a patient in it, such as patient00001", get("Path"))
	}
	var found []string
	nothing := false
	for _, label := range chexpertLabels {
		v := get(label)
		switch v {
		case "", "0", "0.0":
			continue
		case "1", "1.0":
		case "-1", "-1.0":
			if uncertain != "positive" {
				continue
			}
		default:
			return it, false, fmt.Errorf("%s %q: need 1, 0, -1 or nothing", label, v)
		}
		if label == chexpertLabels[0] {
			nothing = true
		} else {
			found = append(found, label)
		}
	}
	switch v := get("Frontal/Lateral"); v {
	case "Lateral":
		return it, false, nil
	case "Frontal":
	default:
		return it, false, fmt.Errorf("Frontal/Lateral %q: need Frontal or Lateral", v)
	}
	if get("AP/PA") != "PA" {
		return it, false, nil
	}
	it.Abnormal, it.Subtype = len(found) > 0, strings.Join(found, "/")
	return it, it.Abnormal || nothing, nil
}

// leastOfDisease is how many test images of each disease are drawn first, where there are as many.
const leastOfDisease = 10

// holdOutTest moves n normal and n abnormal training images to test, patient by patient in the order of the
// seed: first images of each disease until there are leastOfDisease, then any. What else such patients have
// is set aside, so that nobody is on two sides. The list is ordered by path.
func holdOutTest(list []listed, n int, seed uint64) error {
	images := map[string][]int{} // of patients, in training
	var patients []string
	total := map[bool]int{}
	for i, it := range list {
		if it.split != Train {
			continue
		}
		if images[it.Group] == nil {
			patients = append(patients, it.Group)
		}
		images[it.Group] = append(images[it.Group], i)
		total[it.Abnormal]++
	}
	if least := min(total[false], total[true]); least < n {
		return fmt.Errorf("data.chexpert.test: %d of each class, and train.csv has %d normal and %d abnormal frontal PA images; give %d or fewer",
			n, total[false], total[true], least)
	}
	const stream = 3 // of the split seed
	order := Order(seed, stream, len(patients))
	drawn, taken := map[bool]int{}, map[string]bool{}
	diseases := map[string]int{}
	take := func(p string, wanted func(i int) bool) {
		taken[p] = true
		for _, i := range images[p] {
			it := &list[i]
			if it.split == Test {
				continue
			}
			if it.split = aside; wanted(i) && drawn[it.Abnormal] < n {
				it.split = Test
				drawn[it.Abnormal]++
				for d := range strings.SplitSeq(it.Subtype, "/") {
					diseases[d]++
				}
			}
		}
	}
	least := min(leastOfDisease, n/len(chexpertLabels))
	for _, disease := range chexpertLabels[1 : len(chexpertLabels)-1] {
		for _, k := range order {
			if diseases[disease] >= least {
				break
			}
			has := func(i int) bool {
				return list[i].split != Test && slices.Contains(strings.Split(list[i].Subtype, "/"), disease)
			}
			if p := patients[k]; slices.ContainsFunc(images[p], has) {
				take(p, has)
			}
		}
	}
	for _, again := range []bool{true, false} { // first what those drawn already have besides
		for _, k := range order {
			lacks := func(i int) bool { return list[i].split != Test && drawn[list[i].Abnormal] < n }
			if p := patients[k]; taken[p] == again && slices.ContainsFunc(images[p], lacks) {
				take(p, lacks)
			}
		}
	}
	return nil
}

// chexpertFolders are the folders of CheXpert's frontal PA images as SQUID's authors prepared them.
var chexpertFolders = []struct {
	name  string
	split Split
}{{"train_256_pa", Train}, {"val_256_pa", Validation}, {"our_test_256_pa", Test}}

// walkCheXpert lists root/{train,val,our_test}_256_pa/{normal,abnormal}_256. Abnormal validation images
// are set aside. diseases.txt in root or in the test folder, with lines "file/disease/disease…", names
// the subtypes of abnormal test images.
func walkCheXpert(root string) ([]listed, error) {
	var all []listed
	for _, f := range chexpertFolders {
		for _, class := range []string{"normal_256", "abnormal_256"} {
			abnormal := class == "abnormal_256"
			names, err := images(root, path.Join(f.name, class), 0)
			if err != nil {
				return nil, err
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("%s: no images (%s)", filepath.Join(root, f.name, class), strings.Join(extensions, ", "))
			}
			for _, name := range names {
				it := listed{Item{Path: name, Abnormal: abnormal}, f.split}
				if abnormal {
					it.Subtype = "abnormal"
				}
				if f.split == Validation && abnormal {
					it.split = aside
				}
				it.Group = chexpertName.FindString(name)
				all = append(all, it)
			}
		}
	}
	for _, name := range []string{"diseases.txt", "our_test_256_pa/diseases.txt"} {
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			continue // it is optional
		}
		err = readDiseases(f, all)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(root, name), err)
		}
		break
	}
	return all, nil
}

// chexpertName finds the patient in a file's name or path.
var chexpertName = regexp.MustCompile(`patient\d+`)

// readDiseases gives the abnormal test images in list the diseases that lines "file/disease/disease…" name.
func readDiseases(r io.Reader, list []listed) error {
	test := map[string]*listed{}
	for i, it := range list {
		if it.split == Test {
			test[path.Base(it.Path)] = &list[i]
		}
	}
	in := bufio.NewScanner(r)
	for line := 1; in.Scan(); line++ {
		file, diseases, found := strings.Cut(strings.TrimSpace(in.Text()), "/")
		if file == "" {
			continue
		}
		it := test[file]
		switch {
		case it == nil:
			return fmt.Errorf("line %d: no test image %q", line, file)
		case !found || diseases == "":
			return fmt.Errorf("line %d: no disease of %s; need file/disease/disease", line, file)
		case !it.Abnormal:
			return fmt.Errorf("line %d: %s is among the normal images", line, it.Path)
		}
		it.Subtype = diseases
	}
	return in.Err()
}
