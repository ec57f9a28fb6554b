package main

import (
	"fmt"
	"go/build"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module     = "thorax"
	tensorFlow = "github.com/wamuir/graft"
)

// A rule says what a package may import of this module. "x/..." matches x and
// what is below it.
type rule struct {
	who string
	may []string
}

// allowed are the rules; the first one that matches a package counts.
var allowed = []rule{
	{"framework/spell", nil},
	{"framework/metric", []string{"framework/spell"}},
	{"framework/data/phantom", nil},
	{"framework/data/corrupt", nil},
	{"framework/data", []string{"framework/data/phantom", "framework/spell"}},
	{"framework/published", []string{"framework/metric"}},
	{"framework/record", []string{"framework/metric"}},
	{"framework/report", []string{"framework/metric", "framework/record", "framework/published"}},
	{"framework/config", []string{"framework/data", "framework/metric", "framework/spell"}},
	{"framework", []string{"framework/data", "graphs/nn", "graphs/optim", "graphs/weights"}},
	{"framework/train", []string{
		"framework", "framework/config", "framework/data", "framework/metric", "framework/record",
		"graphs/nn", "graphs/session", "graphs/weights",
	}},
	{"framework/...", []string{"framework/...", "graphs/nn", "graphs/session", "graphs/weights"}}, // the commands

	{"baselines/density", nil},
	{"baselines/...", []string{"framework", "framework/data", "framework/data/corrupt", "baselines/density", "graphs/..."}},
	{"graphs/proposed", []string{"framework", "framework/data", "framework/data/corrupt", "baselines/density", "graphs/..."}},
	{"graphs/weights", nil},
	{"graphs/golden", []string{"graphs/weights"}},
	{"graphs/nn", nil},
	{"graphs/...", []string{"graphs/..."}},

	{".", []string{"framework/command", "baselines/...", "graphs/proposed"}},
}

// pure are the packages that build where there is no TensorFlow.
var pure = []string{
	"framework/spell", "framework/metric", "framework/data", "framework/data/phantom", "framework/data/corrupt", "framework/published",
	"framework/record", "framework/report", "framework/config", "graphs/weights", "baselines/density",
}

// forTests are the packages that only tests import.
var forTests = []string{"graphs/golden", "graphs/inpaint/plain", "graphs/nn/nntest"}

// isMethod tells whether a package holds methods: nothing but the root, where
// they are linked, knows them.
func isMethod(pkg string) bool {
	return matches("baselines/...", pkg) && pkg != "baselines/density" && pkg != "baselines" || pkg == "graphs/proposed"
}

func matches(pattern, pkg string) bool {
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == above || strings.HasPrefix(pkg, above+"/")
	}
	return pkg == pattern
}

// packages lists every package of the module, by path below the root, as it is
// built under the given tags. It needs no TensorFlow.
func packages(t *testing.T, tags ...string) map[string]*build.Package {
	t.Helper()
	context := build.Default
	context.BuildTags = tags
	context.CgoEnabled = true
	all := map[string]*build.Package{}
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if n := d.Name(); n != "." && (strings.HasPrefix(n, ".") || n == "testdata" || n == "results" || n == "data" && dir == "data") {
			return filepath.SkipDir
		}
		p, err := context.ImportDir(dir, 0)
		if _, none := err.(*build.NoGoError); none {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		all[filepath.ToSlash(dir)] = p
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// local returns those of the imports that are packages of this module.
func local(imports ...string) []string {
	var out []string
	for _, i := range imports {
		if i == module {
			out = append(out, ".")
		} else if p, ok := strings.CutPrefix(i, module+"/"); ok {
			out = append(out, p)
		}
	}
	return out
}

// road returns the imports that lead from a package to TensorFlow, or nil.
func road(all map[string]*build.Package, pkg string, seen map[string]bool) []string {
	if seen[pkg] || all[pkg] == nil {
		return nil
	}
	seen[pkg] = true
	for _, i := range all[pkg].Imports {
		if matches(tensorFlow+"/...", i) {
			return []string{pkg, i}
		}
	}
	for _, i := range local(all[pkg].Imports...) {
		if r := road(all, i, seen); r != nil {
			return append([]string{pkg}, r...)
		}
	}
	return nil
}

func TestImports(t *testing.T) {
	all := packages(t)
	for _, want := range append(append(pure, forTests...), "framework", "framework/train", "framework/command", "graphs/nn", "graphs/session") {
		if all[want] == nil {
			t.Errorf("no package %s: bring this test up to date", want)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(all)) {
		p := all[pkg]
		i := slices.IndexFunc(allowed, func(r rule) bool { return matches(r.who, pkg) })
		if i < 0 {
			t.Errorf("%s: say in this test what it may import", pkg)
			continue
		}
		test := slices.Contains(forTests, pkg)
		for _, to := range local(p.Imports...) {
			if !slices.ContainsFunc(allowed[i].may, func(a string) bool { return matches(a, to) }) {
				t.Errorf("%s imports %s, may import %v", pkg, to, allowed[i].may)
			}
			if slices.Contains(forTests, to) && !test {
				t.Errorf("%s imports %s, which is for tests", pkg, to)
			}
		}
		for _, to := range local(slices.Concat(p.Imports, p.TestImports, p.XTestImports)...) {
			if isMethod(to) && pkg != "." && to != pkg {
				t.Errorf("%s imports the methods of %s: only the root does", pkg, to)
			}
		}
		if name := path.Base(pkg); slices.Contains([]string{"utils", "util", "common", "helpers", "misc", "base"}, name) {
			t.Errorf("%s: a package's name says what it does", pkg)
		}
	}
	for _, pkg := range pure {
		if r := road(all, pkg, map[string]bool{}); r != nil {
			t.Errorf("%s must build without TensorFlow: %s", pkg, strings.Join(r, " → "))
		}
	}
	if r := road(all, ".", map[string]bool{}); r == nil {
		t.Error("the program does not reach TensorFlow: this test no longer sees imports")
	}
	if r := road(packages(t, "reports"), ".", map[string]bool{}); r != nil {
		t.Errorf("the program for reading results must build without TensorFlow: %s", strings.Join(r, " → "))
	}
}
