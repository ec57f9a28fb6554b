package golden

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thorax/graphs/weights"
)

// TestGoldenParse reads every golden file, and checks that no tensor of it
// holds a NaN.
func TestGoldenParse(t *testing.T) {
	files, tensors := 0, 0
	err := filepath.WalkDir(Dir(t, ""), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".safetensors" {
			return err
		}
		for name, a := range Load(t, path) {
			v, err := a.Float64()
			if err != nil {
				t.Errorf("%s: %s: %v", path, name, err)
			}
			for _, x := range v {
				if math.IsNaN(x) {
					t.Errorf("%s: %s has a NaN", path, name)
					break
				}
			}
			tensors++
		}
		files++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("no golden file")
	}
	t.Logf("read %d files, %d tensors", files, tensors)
}

// fake records what a test would have reported.
type fake struct {
	testing.TB
	errors, logs []string
	cleanups     []func()
	skipped      bool
}

func (f *fake) Helper()                   {}
func (f *fake) Cleanup(c func())          { f.cleanups = append(f.cleanups, c) }
func (f *fake) Failed() bool              { return len(f.errors) > 0 }
func (f *fake) Skipped() bool             { return f.skipped }
func (f *fake) Logf(s string, a ...any)   { f.logs = append(f.logs, fmt.Sprintf(s, a...)) }
func (f *fake) Error(a ...any)            { f.errors = append(f.errors, fmt.Sprint(a...)) }
func (f *fake) Errorf(s string, a ...any) { f.errors = append(f.errors, fmt.Sprintf(s, a...)) }
func (f *fake) Fatal(a ...any)            { f.Error(a...); panic(f) }
func (f *fake) Fatalf(s string, a ...any) { f.Errorf(s, a...); panic(f) }
func (f *fake) Skip(a ...any)             { f.skipped = true; f.logs = append(f.logs, fmt.Sprint(a...)); panic(f) }

// report runs a test and its cleanups, and returns its errors and logs.
func report(test func(t testing.TB)) (errors, logs string, skipped bool) {
	f := &fake{}
	run := func(part func()) {
		defer func() {
			if p := recover(); p != nil && p != any(f) {
				panic(p)
			}
		}()
		part()
	}
	run(func() { test(f) })
	for _, c := range f.cleanups {
		run(c)
	}
	return strings.Join(f.errors, "\n"), strings.Join(f.logs, "\n"), f.skipped
}

func vector(v ...float32) weights.Array { return weights.Float32Array([]int{len(v)}, v) }

func TestTracker(t *testing.T) {
	arrays := map[string]weights.Array{"x": vector(1), "y": vector(2), "z": vector(3)}
	for _, tt := range []struct {
		name   string
		test   func(t testing.TB, k *Tracker)
		errors string // part of them; none where empty
		logs   string
	}{
		{"all read", func(t testing.TB, k *Tracker) {
			k.Case("one")
			k.Get("x")
			k.Compare("y", []float32{2}, 0)
			k.Skip("z", "of no use")
		}, "", "compared 1 tensors in 1 cases; 3 golden tensors"},
		{"unread", func(t testing.TB, k *Tracker) {
			k.Case("one")
			k.Compare("y", []float32{2}, 0)
		}, "2 golden tensors were not read: x, z", ""},
		{"no case", func(t testing.TB, k *Tracker) {
			for _, name := range k.Names("") {
				k.Compare(name, []float32{1}, 5)
			}
		}, "no golden case was run", ""},
		{"no comparison", func(t testing.TB, k *Tracker) {
			k.Case("one")
			for _, name := range k.Names("") {
				k.Get(name)
			}
		}, "no golden tensor was compared", ""},
		{"unknown name", func(t testing.TB, k *Tracker) { k.Get("w") }, `no golden tensor "w"`, ""},
		{"tracked twice", func(t testing.TB, k *Tracker) { k.Add("", map[string]weights.Array{"x": vector(1)}) }, "tracked twice", ""},
		{"prefixed and unread", func(t testing.TB, k *Tracker) {
			k.Case("one")
			k.Compare("x", []float32{1}, 0)
			k.Compare("y", []float32{2}, 0)
			k.Compare("z", []float32{3}, 0)
			k.Add("more/", map[string]weights.Array{"x": vector(1)})
		}, "not read: more/x", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			errors, logs, _ := report(func(f testing.TB) { tt.test(f, Track(f, arrays)) })
			if (errors == "") != (tt.errors == "") || !strings.Contains(errors, tt.errors) || !strings.Contains(logs, tt.logs) {
				t.Errorf("errors %q, want %q; logs %q, want %q", errors, tt.errors, logs, tt.logs)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, tt := range []struct {
		name      string
		got, want []float32
		tolerance float64
		fails     bool
	}{
		{"equal", []float32{1, -4}, []float32{1, -4}, 0, false},
		{"at the limit", []float32{1.5, -4}, []float32{1, -4}, 0.125, false}, // 0.5 of max 4
		{"beyond it", []float32{1.5, -4}, []float32{1, -4}, 0.124, true},
		{"NaN", []float32{nan}, []float32{1}, 10, true},
		{"NaN in both", []float32{nan}, []float32{nan}, 10, true},
		{"infinite in both", []float32{inf}, []float32{inf}, 10, true},
		{"infinite golden", []float32{1}, []float32{inf}, 10, true},
		{"too short", []float32{1}, []float32{1, 1}, 10, true},
		{"zeros", []float32{0}, []float32{0}, 0.1, false},
		{"not zero", []float32{1e-9}, []float32{0}, 0.1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			errors, _, _ := report(func(f testing.TB) { Compare(f, "x", tt.got, vector(tt.want...), tt.tolerance) })
			if (errors != "") != tt.fails {
				t.Errorf("errors %q, fails %v", errors, tt.fails)
			}
		})
	}
}

func TestDir(t *testing.T) {
	t.Setenv("REQUIRE_SHARED", "")
	t.Setenv("GOLDEN", filepath.Join(t.TempDir(), "none"))
	dir := func(f testing.TB) { Dir(f, "simsid") }
	if errors, logs, skipped := report(dir); errors != "" || !skipped || !strings.Contains(logs, "GOLDEN") {
		t.Errorf("missing folder: errors %q, logs %q, skipped %v", errors, logs, skipped)
	}
	t.Setenv("REQUIRE_SHARED", "1")
	if errors, _, skipped := report(dir); errors == "" || skipped {
		t.Errorf("missing folder and REQUIRE_SHARED=1: errors %q, skipped %v", errors, skipped)
	}
	t.Setenv("GOLDEN", "graphs") // relative to the module's root, not to this folder
	if got, want := Dir(t, "golden"), filepath.Join(Root(t), "graphs", "golden"); got != want {
		t.Errorf("Dir = %s, want %s", got, want)
	}
	if _, err := os.Stat(filepath.Join(Root(t), "go.mod")); err != nil {
		t.Error(err)
	}
}
