//go:build !reports

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thorax/framework/command"
)

// tool runs one command line in a folder of its own and returns what it
// printed.
type tool struct {
	t   *testing.T
	dir string
}

func (x tool) run(args ...string) (stdout, stderr string, err error) {
	x.t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "--results", filepath.Join(x.dir, "results"), "--cache", filepath.Join(x.dir, "cache"))
	err = command.Run(context.Background(), args, &out, &errs)
	return out.String(), errs.String(), err
}

func (x tool) must(args ...string) (stdout, stderr string) {
	x.t.Helper()
	stdout, stderr, err := x.run(args...)
	if err != nil {
		x.t.Fatalf("thorax %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout, stderr
}

func (x tool) write(name, text string) string {
	x.t.Helper()
	path := filepath.Join(x.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		x.t.Fatal(err)
	}
	return path
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}

const tiny = `
title = "tiny"
seeds = [0, 1]
[[data]]
name = "tiny"
set = "phantom"
size = 32
validation = 0
phantom = { train = 24, test_normal = 8, test_abnormal = 8 }
[[method]]
name = "ae"
width = 4
hidden = 16
latent = 4
train = { steps = 6, batch = 8 }
[[method]]
name = "mean_intensity"
[report]
metrics = ["auroc", "pixel-ap", "sens@q-val.05"]
maps = true
`

// The whole road: experiment, table, second call, changed key, new images,
// broken images, export.
func TestCommands(t *testing.T) {
	x := tool{t, t.TempDir()}
	experiment := x.write("tiny.toml", tiny)

	stdout, _ := x.must("run", experiment)
	contains(t, "table", stdout, "ae", "mean_intensity", "AUROC", "–")
	results := filepath.Join(x.dir, "results", "tiny")
	for _, name := range []string{"table.md", "table.csv", "table.tex", "roc-tiny.png", "roc-tiny.svg", "report.html"} {
		if info, err := os.Stat(filepath.Join(results, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	page, err := os.ReadFile(filepath.Join(results, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "report.html", string(page), "<svg", "tiny", "mean_intensity")

	run := filepath.Join(results, "tiny", "ae", "seed-0")
	before := sum(t, filepath.Join(run, "scores.csv"))
	_, stderr := x.must("run", experiment)
	contains(t, "second call", stderr, "already complete")

	_, _, err = x.run("run", experiment, "--set", "method.ae.latent=5", "--only", "ae")
	if err == nil {
		t.Fatal("a changed key was not refused")
	}
	contains(t, "error", err.Error(), "latent", "4 → 5", "--redo")
	if sum(t, filepath.Join(run, "scores.csv")) != before {
		t.Error("the refused run changed the scores of the old one")
	}

	images := filepath.Join(x.dir, "new")
	x.must("data", "phantom", images, "--size", "32", "--train", "2", "--normal", "2", "--abnormal", "2")
	broken := filepath.Join(images, "test", "broken.png")
	if err := os.WriteFile(broken, []byte("\x89PNG\r\n\x1a\nshort"), 0o666); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(x.dir, "scores")
	_, stderr, err = x.run("score", run, filepath.Join(images, "test"), "--out", out)
	if err == nil {
		t.Error("a broken image went unnoticed")
	}
	contains(t, "score", stderr, "broken.png")
	csv, err := os.ReadFile(filepath.Join(out, "scores.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(csv), "\n"); n != 5 { // a header and four images
		t.Errorf("%d lines of scores, want 5:\n%s", n, csv)
	}
	if maps, _ := filepath.Glob(filepath.Join(out, "maps", "*", "*.png")); len(maps) != 4 {
		t.Errorf("%d overlays, want 4", len(maps))
	}

	weights := filepath.Join(x.dir, "ae.safetensors")
	stdout, _ = x.must("export", run, weights)
	contains(t, "export", stdout, "arrays")
	if _, _, err := x.run("export", run, weights); err == nil {
		t.Error("export overwrote a file")
	}

	stdout, _ = x.must("table", results, "--metrics", "auroc,ap", "--costs")
	contains(t, "table", stdout, "AUROC", "AP", "parameters")
}

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

func TestListAndShow(t *testing.T) {
	x := tool{t, t.TempDir()}
	stdout, _ := x.must("list")
	contains(t, "list", stdout, "ae", "padim", "cutpaste", "grey_histogram")
	stdout, _ = x.must("show", "vae")
	contains(t, "show", stdout, "Kingma", "latent", "16", "length of the code", "adam.lr", "0.001")
}

// What a user gets wrong names the file or key and the remedy.
func TestBadUse(t *testing.T) {
	x := tool{t, t.TempDir()}
	missing := x.write("missing.toml", strings.NewReplacer(`set = "phantom"`, `root = "nowhere"`,
		"phantom = { train = 24, test_normal = 8, test_abnormal = 8 }\n", "").Replace(tiny))
	misspelt := x.write("misspelt.toml", strings.ReplaceAll(tiny, "latent", "latnet"))
	noSteps := x.write("nosteps.toml", strings.ReplaceAll(tiny, "steps = 6, ", ""))
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"run", misspelt}, []string{"misspelt.toml:", "latnet", "latent"}},
		{[]string{"run", noSteps, "--only", "ae"}, []string{"train.steps"}},
		{[]string{"run", missing}, []string{"nowhere"}},
		{[]string{"run", x.write("ok.toml", tiny), "--only", "nothing"}, []string{"--only nothing"}},
		{[]string{"run", x.write("ok.toml", tiny), "--shard", "2/2"}, []string{"--shard"}},
		{[]string{"show", "nothing"}, []string{"nothing", "ae"}},
		{[]string{"score", x.dir, x.dir}, []string{"config.toml"}},
		{[]string{"run"}, []string{"experiment"}},
	} {
		_, _, err := x.run(tt.args...)
		if err == nil {
			t.Errorf("thorax %s: no error", strings.Join(tt.args, " "))
			continue
		}
		contains(t, "thorax "+strings.Join(tt.args, " "), err.Error(), tt.want...)
		if strings.Contains(err.Error(), "goroutine") || strings.Contains(err.Error(), "Stacktrace") {
			t.Errorf("stack trace: %v", err)
		}
	}
}
