//go:build !reports

package main

import (
	"encoding/csv"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const localise = `
title = "localisation"
seeds = [0]
[[data]]
name = "slices"
set = "manifest"
root = "list.csv"
size = 32
window = { centre = -600, width = 1500, intercept = -1024 }
[[method]]
name = "ae"
width = 4
hidden = 16
latent = 4
train = { steps = 4, batch = 4 }
[report]
maps = true
types = true
metrics = ["auroc", "auroc:study.mean", "ap:study.max", "sens@max-val:study.top2", "auroc:type.COVID-19", "auroc:lungs.mean",
  "pixel-auroc", "pixel-ap:lungs", "aupro@.3", "dice@q-val.01", "dice@youden-test", "dice@best",
  "dice@q-val.01:dilated", "dice@youden-test:dilated", "dice@best:dilated", "dice@q-val.05:lungs", "dice@best:dilated:lungs"]
`

// slice writes an image of 16 bits, brighter in a square at (at, at), and the masks of that
// square and of the left half.
func slice(t *testing.T, dir, name string, seed, at int) {
	t.Helper()
	img := image.NewGray16(image.Rect(0, 0, 32, 32))
	lesion, lungs := image.NewGray(img.Rect), image.NewGray(img.Rect)
	for y := range 32 {
		for x := range 32 {
			v := 200 + (x*(7+seed)+y*(11+2*seed))%97*3
			if at > 0 && x >= at && x < at+6 && y >= at && y < at+6 {
				v += 600
				lesion.SetGray(x, y, color.Gray{Y: 255})
			}
			if x < 20 {
				lungs.SetGray(x, y, color.Gray{Y: 255})
			}
			img.SetGray16(x, y, color.Gray16{Y: uint16(v)})
		}
	}
	for suffix, img := range map[string]image.Image{"": img, "_lesion": lesion, "_lungs": lungs} {
		f, err := os.Create(filepath.Join(dir, name+suffix+".png"))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// CT slices of 16 bits with studies, types, lesions and lungs, from the files to figures
// that verify computes anew, those of validation normals' pixels included.
func TestLocalisation(t *testing.T) {
	x := tool{t, t.TempDir()}
	list := "path,split,label,subtype,group,mask,lungs\n"
	for i := range 24 {
		name, split, kind, mask, at := fmt.Sprintf("%02d", i), "train", "normal,", "", 0
		switch {
		case i >= 16 && i%2 == 0:
			split, kind, mask, at = "test", "abnormal,"+[]string{"COVID-19", "cancer"}[i/2%2], fmt.Sprintf("%02d_lesion.png", i), 4+i%12
		case i >= 16:
			split = "test"
		case i >= 10:
			split = "validation"
		}
		slice(t, x.dir, name, i, at)
		list += fmt.Sprintf("%s.png,%s,%s,%s-%d,%s,%s_lungs.png\n", name, split, kind, split, i/4*2+i%2, mask, name)
	}
	x.write("list.csv", list)
	experiment := x.write("localise.toml", localise)
	table, _ := x.must("run", experiment)
	results := filepath.Join(x.dir, "results", "localise")
	stdout, _ := x.must("verify", results, "--data", filepath.Join(x.dir, "list.csv"), "--all")
	contains(t, "verify", stdout, "17 figures verified, 0 drifted, 0 not verifiable")
	if strings.Contains(stdout, "–") {
		t.Errorf("a figure was not computed:\n%s", stdout)
	}

	contains(t, "table", table, "AUROC by type", "COVID-19 (2)", "cancer (2)")
	f, err := os.Open(filepath.Join(results, "table.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	value := map[string]string{}
	for _, row := range rows[1:] {
		value[row[7]] = row[10]
	}
	if value["dice@best"] == value["dice@best:dilated"] || value["dice@best"] == "" {
		t.Errorf("dilation changed nothing: %v", value)
	}

	if err := os.Remove(filepath.Join(results, "slices", "ae", "seed-0", "maps", "validation.npy")); err != nil {
		t.Fatal(err)
	}
	stdout, _ = x.must("verify", results, "--data", filepath.Join(x.dir, "list.csv"))
	contains(t, "verify without the maps of validation normals", stdout, "dice@q-val.01", "maps of validation images are not kept", "0 drifted, 4 not verifiable")
}
