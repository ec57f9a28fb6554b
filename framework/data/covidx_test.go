package data

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// covidx is a small set with the lists of COVIDx.
func covidx(t testing.TB) map[string][]byte {
	files := map[string][]byte{}
	var lists = map[string]string{
		"train_squid.txt":          "p1 a.png normal rsna\np2 b.png normal rsna\n\np2 c.png normal rsna\n",
		"train_squid_abnormal.txt": "p3 d.png COVID-19 cohen\np4 e.png pneumonia rsna\n",
		"val_squid.txt":            "p5 f.png normal rsna\np6 g.png pneumonia rsna\np7 h.png COVID-19 sirm\n",
		"test_COVIDx9A.txt":        "p8 i.png normal rsna\np9 j.jpg.png COVID-19 ricord\n",
	}
	for name, text := range lists {
		files[name] = []byte(text)
		folder := "train"
		if name == "test_COVIDx9A.txt" {
			folder = "test"
		}
		for line := range strings.Lines(text) {
			if words := strings.Fields(line); len(words) > 0 {
				files[folder+"/"+words[1]] = encode(t, texture(20, 10, uint64(words[1][0])))
			}
		}
	}
	files["train/unlisted.png"] = encode(t, texture(20, 10, 99))
	return files
}

func TestCOVIDx(t *testing.T) {
	o := options(tree(t, covidx(t)))
	o.Set, o.Validation = "covidx", 0.1 // not drawn: the set gives it
	d := open(t, o, t.TempDir())
	for _, tt := range []struct {
		name      string
		got, want []Item
	}{
		{"train", d.Items(Train), []Item{{Path: "train/a.png", Group: "p1"}, {Path: "train/b.png", Group: "p2"}, {Path: "train/c.png", Group: "p2"}}},
		{"validation", d.Items(Validation), []Item{{Path: "train/f.png", Group: "p5"}}},
		{"test", d.Items(Test), []Item{{Path: "test/i.png", Group: "p8"}, {Path: "test/j.jpg.png", Group: "p9", Abnormal: true, Subtype: "COVID-19"}}},
		{"pool", d.ContaminationPool(), []Item{{Path: "train/d.png", Group: "p3", Abnormal: true, Subtype: "COVID-19"}, {Path: "train/e.png", Group: "p4", Abnormal: true, Subtype: "pneumonia"}}},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: %+v", tt.name, tt.got)
		}
	}
	if want := "2 images set aside"; !strings.Contains(d.SplitRule(), want) || d.Name() != "covidx-16" || !d.HasGroups() {
		t.Errorf("%s, groups %v, rule %q, want %q in it", d.Name(), d.HasGroups(), d.SplitRule(), want)
	}
	// Contamination takes training abnormals only; those of the validation list are none.
	o.Contamination = 1. / 3
	d = open(t, o, t.TempDir())
	if n := len(slices.DeleteFunc(slices.Clone(d.Items(Train)), func(it Item) bool { return !it.Abnormal })); n != 1 || d.Len(Train) != 3 {
		t.Errorf("contaminated: %+v", d.Items(Train))
	}
	o.Contamination = 1
	if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), "needs 3 abnormal training images") {
		t.Errorf("more than there are: %v", err)
	}
	if _, err := Check(o); err != nil {
		t.Errorf("check: %v", err)
	}
}

func TestBadCOVIDx(t *testing.T) {
	good := covidx(t)
	for _, tt := range []struct{ list, text, want string }{
		{"val_squid.txt", "", "val_squid.txt: no images"},
		{"val_squid.txt", "p5 f.png normal\n", "val_squid.txt: line 1: 3 words, need patient, file, label and source"},
		{"val_squid.txt", "p5 f.png normal rsna\np6 g.png pneumona rsna\n", `val_squid.txt: line 2: label "pneumona": need normal, pneumonia, COVID-19`},
		{"val_squid.txt", "p5 ../f.png normal rsna\n", `line 1: file "../f.png": need an image`},
		{"val_squid.txt", "p5 f.txt normal rsna\n", `line 1: file "f.txt"`},
		{"val_squid.txt", "\np1 a.png normal rsna\n", "val_squid.txt: line 2: train/a.png is already on line 1 of train_squid.txt; keep one"},
		{"train_squid.txt", "p1 a.png COVID-19 rsna\n", `train_squid.txt: line 1: label "COVID-19" in a list of normal images; move the line`},
		{"train_squid_abnormal.txt", "p1 d.png normal rsna\n", `train_squid_abnormal.txt: line 1: label "normal" in a list of abnormal images`},
		{"test_COVIDx9A.txt", "p8 i.png normal rsna\np8 nowhere.png normal rsna\n", "test_COVIDx9A.txt: line 2: no image test/nowhere.png"},
		{"test_COVIDx9A.txt", "gone", "test_COVIDx9A.txt: no such file"},
	} {
		files := maps.Clone(good)
		if files[tt.list] = []byte(tt.text); tt.text == "gone" {
			delete(files, tt.list)
		}
		o := options(tree(t, files))
		o.Set = "covidx"
		if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %q: got %v, want %q", tt.list, tt.text, err, tt.want)
		}
	}
	o := options(filepath.Dir(tree(t, map[string][]byte{"x/y.txt": nil})))
	o.Set, o.Root = "covidx", filepath.Join(o.Root, "none")
	if _, err := Open(o, t.TempDir()); err == nil {
		t.Error("a set that is not there opens")
	}
}

func FuzzCOVIDx(f *testing.F) {
	f.Add("p1 a.png normal rsna\np2 b.jpg COVID-19 x\n", "both")
	f.Add("p1 ../a.png normal rsna\n", "normal")
	f.Fuzz(func(t *testing.T, text, kind string) {
		list, lines, err := parseCOVIDx(strings.NewReader(text), "train", kind)
		if (err == nil) != (len(list) > 0) || len(list) != len(lines) {
			t.Fatalf("%d images on %d lines, %v", len(list), len(lines), err)
		}
		for i, it := range list {
			if !filepath.IsLocal(filepath.FromSlash(it.Path)) || !strings.HasPrefix(it.Path, "train/") || it.Group == "" || it.Abnormal != (it.Subtype != "") {
				t.Errorf("accepted %+v", it)
			}
			if i > 0 && lines[i] <= lines[i-1] {
				t.Errorf("lines %v", lines)
			}
		}
	})
}

// chexpertRow is a line of CheXpert's table: labels by name.
func chexpertRow(path, view, side string, labels map[string]string) string {
	row := []string{path, "Female", "68", view, side}
	for _, l := range chexpertLabels {
		row = append(row, labels[l])
	}
	return strings.Join(row, ",") + "\n"
}

var chexpertHeader = "Path,Sex,Age,Frontal/Lateral,AP/PA," + strings.Join(chexpertLabels, ",") + "\n"

type labels = map[string]string

func TestCheXpertLabels(t *testing.T) {
	for _, tt := range []struct {
		name       string
		view, side string
		labels     labels
		want       map[string]string // by what uncertain counts as: normal, out, or the subtype
	}{
		{"normal", "Frontal", "PA", labels{"No Finding": "1.0"}, labels{"ignore": "normal", "positive": "normal", "negative": "normal"}},
		{"normal with zeros", "Frontal", "PA", labels{"No Finding": "1.0", "Edema": "0.0"}, labels{"ignore": "normal", "positive": "normal", "negative": "normal"}},
		{"a tube is no normal image", "Frontal", "PA", labels{"No Finding": "1.0", "Support Devices": "1.0"},
			labels{"ignore": "Support Devices", "positive": "Support Devices", "negative": "Support Devices"}},
		{"an uncertain tube", "Frontal", "PA", labels{"No Finding": "1.0", "Support Devices": "-1.0"},
			labels{"ignore": "normal", "positive": "Support Devices", "negative": "normal"}},
		{"two findings", "Frontal", "PA", labels{"Edema": "1", "Fracture": "1.0"}, labels{"ignore": "Edema/Fracture", "positive": "Edema/Fracture", "negative": "Edema/Fracture"}},
		{"one sure, one not", "Frontal", "PA", labels{"Edema": "1.0", "Fracture": "-1"}, labels{"ignore": "Edema", "positive": "Edema/Fracture", "negative": "Edema"}},
		{"uncertain alone", "Frontal", "PA", labels{"Edema": "-1.0"}, labels{"ignore": "out", "positive": "Edema", "negative": "out"}},
		{"nothing said", "Frontal", "PA", nil, labels{"ignore": "out", "positive": "out", "negative": "out"}},
		{"lateral", "Lateral", "", labels{"No Finding": "1.0"}, labels{"ignore": "out", "positive": "out", "negative": "out"}},
		{"AP", "Frontal", "AP", labels{"No Finding": "1.0"}, labels{"ignore": "out", "positive": "out", "negative": "out"}},
	} {
		for _, uncertain := range []string{"ignore", "positive", "negative"} {
			sure := chexpertRow("CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg", "Frontal", "PA", labels{"No Finding": "1"})
			text := chexpertHeader + chexpertRow("CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg", tt.view, tt.side, tt.labels) + sure
			list, lines, err := parseCheXpert(strings.NewReader(text), uncertain)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			got := "out"
			if len(list) == 2 {
				got = "normal"
				if it := list[0]; it.Abnormal {
					got = it.Subtype
				}
				if it := list[0]; it.Path != "train/patient00001/study1/view1_frontal.jpg" || it.Group != "patient00001" || lines[0] != 2 {
					t.Errorf("%s: %+v on line %d", tt.name, it, lines[0])
				}
			}
			if got != tt.want[uncertain] {
				t.Errorf("%s, uncertain %s: %s, want %s", tt.name, uncertain, got, tt.want[uncertain])
			}
		}
	}
}

func TestBadCheXpert(t *testing.T) {
	row := func(path, view string, l labels) string { return chexpertHeader + chexpertRow(path, view, "PA", l) }
	const name = "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg"
	for _, tt := range []struct{ text, want string }{
		{"", "empty; need CheXpert's table"},
		{strings.Replace(chexpertHeader, "Edema,", "", 1), `line 1: no column "Edema"`},
		{strings.Replace(chexpertHeader, "AP/PA,", "", 1), `line 1: no column "AP/PA"`},
		{chexpertHeader, "no frontal PA image"},
		{chexpertHeader + "a.png,Female\n", "wrong number of fields"},
		{row(name, "Frontal", labels{"Edema": "2"}), `line 2: Edema "2": need 1, 0, -1 or nothing`},
		{row(name, "Sideways", labels{"Edema": "1"}), `line 2: Frontal/Lateral "Sideways"`},
		{row("CheXpert-v1.0/train/someone/view1.jpg", "Frontal", labels{"Edema": "1"}), "line 2: Path \"CheXpert-v1.0/train/someone/view1.jpg\": no folder of a patient"},
		{row("../patient00001/view1.jpg", "Frontal", labels{"Edema": "1"}), "line 2: Path \"../patient00001/view1.jpg\""},
		{row(name, "Frontal", labels{"Edema": "1"}) + chexpertRow(name, "Frontal", "PA", labels{"Edema": "1"}), "line 3: train/patient00001/study1/view1_frontal.jpg is already on line 2"},
	} {
		if _, _, err := parseCheXpert(strings.NewReader(tt.text), "ignore"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: got %v, want %q", tt.text, err, tt.want)
		}
	}
	for _, tt := range []struct {
		edit func(*Options)
		want string
	}{
		{func(o *Options) { o.CheXpert.Uncertain = "maybe" }, `data.chexpert.uncertain: "maybe", need one of`},
		{func(o *Options) { o.CheXpert.Test = 0 }, "data.chexpert.test: 0, need 1 to"},
		{func(o *Options) { o.Set = "folder"; o.CheXpert.Test = 7 }, `data.chexpert: given with set "folder"`},
	} {
		o := DefaultOptions()
		o.Root, o.Set = "x", "chexpert"
		tt.edit(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

// The test images are as many as asked for, of each disease if there are any, and no patient is on two sides.
func TestCheXpertHoldOut(t *testing.T) {
	var list []listed
	for i := range 1200 { // 300 patients with four images, the first normal; each disease is rare in one
		it := listed{Item{Path: fmt.Sprintf("train/patient%05d/%d.jpg", i/4, i%4), Group: fmt.Sprintf("patient%05d", i/4)}, Train}
		if it.Abnormal = i%4 > 0; it.Abnormal {
			it.Subtype = "Edema"
			if k := i / 4 % 30; k < 12 && i%4 == 2 {
				it.Subtype = chexpertLabels[1+k] + "/Support Devices"
			}
		}
		list = append(list, it)
	}
	drawn := slices.Clone(list)
	if err := holdOutTest(drawn, 140, 7); err != nil {
		t.Fatal(err)
	}
	count, diseases, sides := map[string]int{}, map[string]int{}, map[string]Split{}
	for _, it := range drawn {
		count[fmt.Sprint(it.split, it.Abnormal)]++
		if it.split == Test {
			for d := range strings.SplitSeq(it.Subtype, "/") {
				diseases[d]++
			}
		}
		if it.split != aside {
			if side, ok := sides[it.Group]; ok && side != it.split {
				t.Errorf("%s is in %s and %s", it.Group, side, it.split)
			}
			sides[it.Group] = it.split
		}
	}
	if count["test false"] != 140 || count["test true"] != 140 || count["train false"] != 160 {
		t.Errorf("counts %v", count)
	}
	for _, d := range chexpertLabels[1 : len(chexpertLabels)-1] {
		if diseases[d] < 10 {
			t.Errorf("%d test images of %s", diseases[d], d)
		}
	}
	again, other := slices.Clone(list), slices.Clone(list)
	if holdOutTest(again, 140, 7) != nil || holdOutTest(other, 140, 8) != nil || !slices.Equal(again, drawn) || slices.Equal(other, drawn) {
		t.Error("not a function of the seed")
	}
	if err := holdOutTest(slices.Clone(list), 301, 7); err == nil || !strings.Contains(err.Error(), "has 300 normal and 900 abnormal") {
		t.Errorf("too many: %v", err)
	}
}

func TestCheXpert(t *testing.T) {
	files := map[string][]byte{}
	table := func(folder string, patients, first int) string {
		text := chexpertHeader
		for i := range patients {
			for study, l := range []labels{{"No Finding": "1.0"}, {"Edema": "1.0"}} {
				name := fmt.Sprintf("%s/patient%05d/study%d/view1_frontal.png", folder, first+i, 1+study)
				text += chexpertRow("CheXpert-v1.0-small/"+name, "Frontal", "PA", l)
				files[name] = encode(t, texture(16, 16, uint64(100*first+10*i+study)))
			}
		}
		return text
	}
	files["train.csv"], files["valid.csv"] = []byte(table("train", 6, 1)), []byte(table("valid", 2, 50))
	o := options(tree(t, files))
	o.Set = "chexpert"
	tables := DefaultCheXpert()
	tables.Test = 2
	o.CheXpert = &tables
	d := open(t, o, t.TempDir())
	if d.Len(Train) != 4 || d.Len(Validation) != 2 || d.Len(Test) != 4 || len(d.ContaminationPool()) != 4 || !d.HasGroups() || !strings.Contains(d.SplitRule(), "2 images set aside") {
		t.Errorf("%d, %d, %d images, pool %d, rule %q", d.Len(Train), d.Len(Validation), d.Len(Test), len(d.ContaminationPool()), d.SplitRule())
	}
	delete(files, "train/patient00003/study2/view1_frontal.png")
	o.Root = tree(t, files)
	if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), "train.csv: line 7: no image train/patient00003/study2/view1_frontal.png") {
		t.Errorf("a missing image: %v", err)
	}
	delete(files, "valid.csv")
	files["train/patient00003/study2/view1_frontal.png"] = encode(t, texture(16, 16, 1))
	o.Root = tree(t, files)
	if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), "valid.csv: no such file") {
		t.Errorf("a missing table: %v", err)
	}
}

func TestCheXpertFolders(t *testing.T) {
	files := map[string][]byte{}
	for i, name := range []string{
		"train_256_pa/normal_256/patient1_study1.png", "train_256_pa/normal_256/other.png", "train_256_pa/abnormal_256/patient2.png",
		"val_256_pa/normal_256/v.png", "val_256_pa/abnormal_256/w.png",
		"our_test_256_pa/normal_256/n.png", "our_test_256_pa/abnormal_256/a.png", "our_test_256_pa/abnormal_256/b.png",
	} {
		files[name] = encode(t, texture(16, 16, uint64(i)))
	}
	files["diseases.txt"] = []byte("a.png/Edema/Fracture\n\n")
	o := options(tree(t, files))
	o.Set = "chexpert-pa"
	d := open(t, o, t.TempDir())
	if !slices.Equal(d.Items(Train), []Item{{Path: "train_256_pa/normal_256/other.png"}, {Path: "train_256_pa/normal_256/patient1_study1.png", Group: "patient1"}}) ||
		!slices.Equal(d.Items(Validation), []Item{{Path: "val_256_pa/normal_256/v.png"}}) ||
		!slices.Equal(d.ContaminationPool(), []Item{{Path: "train_256_pa/abnormal_256/patient2.png", Abnormal: true, Subtype: "abnormal", Group: "patient2"}}) ||
		!slices.Equal(d.Items(Test), []Item{
			{Path: "our_test_256_pa/abnormal_256/a.png", Abnormal: true, Subtype: "Edema/Fracture"},
			{Path: "our_test_256_pa/abnormal_256/b.png", Abnormal: true, Subtype: "abnormal"},
			{Path: "our_test_256_pa/normal_256/n.png"},
		}) {
		t.Errorf("splits %+v, pool %+v", d.items, d.pool)
	}
	for text, want := range map[string]string{
		"a.png/Edema\nz.png/Edema\n": `diseases.txt: line 2: no test image "z.png"`,
		"a.png\n":                    "diseases.txt: line 1: no disease of a.png",
		"n.png/Edema\n":              "diseases.txt: line 1: our_test_256_pa/normal_256/n.png is among the normal images",
	} {
		files["diseases.txt"] = []byte(text)
		o.Root = tree(t, files)
		if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	delete(files, "val_256_pa/normal_256/v.png")
	o.Root = tree(t, files)
	if _, err := Open(o, t.TempDir()); err == nil || !strings.Contains(err.Error(), "val_256_pa/normal_256") {
		t.Errorf("a missing folder: %v", err)
	}
}

func FuzzCheXpert(f *testing.F) {
	f.Add(chexpertHeader + chexpertRow("CheXpert-v1.0/train/patient1/a.jpg", "Frontal", "PA", labels{"No Finding": "1.0"}))
	f.Add(chexpertHeader + chexpertRow("train/patient1/../../a.jpg", "Frontal", "PA", labels{"Edema": "-1"}))
	f.Fuzz(func(t *testing.T, text string) {
		list, lines, err := parseCheXpert(strings.NewReader(text), "positive")
		if (err == nil) != (len(list) > 0) || len(list) != len(lines) {
			t.Fatalf("%d images on %d lines, %v", len(list), len(lines), err)
		}
		for _, it := range list {
			if !filepath.IsLocal(filepath.FromSlash(it.Path)) || it.Group == "" || it.Abnormal != (it.Subtype != "") {
				t.Errorf("accepted %+v", it)
			}
		}
	})
}
