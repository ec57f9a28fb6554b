// Package golden is for tests only: it finds the shared golden files, compares
// tensors with them, and fails a test that leaves one unread.
//
//	k := golden.Open(t, "efficientnet_lite0/io.safetensors")
//	k.Case("square")
//	x := k.Get("square/input")
//	k.Compare("square/logits", logits, 1e-4)
package golden

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thorax/graphs/weights"
)

// Root is the module's root: the nearest folder upwards with a go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod in this folder or above it")
		}
		dir = parent
	}
}

// Dir is the folder sub of the golden files: $GOLDEN, by default
// ../shared/golden; a relative path is meant from the module's root. Where it is
// missing the test is skipped, or fails if REQUIRE_SHARED=1.
func Dir(t testing.TB, sub string) string {
	t.Helper()
	base := os.Getenv("GOLDEN")
	if base == "" {
		base = filepath.Join("..", "shared", "golden")
	}
	if !filepath.IsAbs(base) {
		base = filepath.Join(Root(t), base)
	}
	dir := filepath.Join(base, filepath.FromSlash(sub))
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		Missing(t, fmt.Sprintf("no golden files in %s; set GOLDEN to their folder", dir))
	}
	return dir
}

// Missing ends a test that lacks its data: skipped, or failed if
// REQUIRE_SHARED=1.
func Missing(t testing.TB, message string) {
	t.Helper()
	if os.Getenv("REQUIRE_SHARED") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// Load reads a file of arrays, and ends the test where that fails.
func Load(t testing.TB, path string) map[string]weights.Array {
	t.Helper()
	arrays, err := weights.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(arrays) == 0 {
		t.Fatalf("%s holds no tensors", path)
	}
	return arrays
}

// Compare fails the test unless max |got-want| <= atolRel · max |want|. A NaN
// or an infinity on either side fails, and so do lengths that differ.
func Compare(t testing.TB, name string, got []float32, want weights.Array, atolRel float64) {
	t.Helper()
	if err := named(name, got, want, atolRel); err != nil {
		t.Error(err)
	}
}

func named(name string, got []float32, want weights.Array, atolRel float64) error {
	if err := difference(got, want, atolRel); err != nil {
		return fmt.Errorf("%s %v: %w", name, want.Shape, err)
	}
	return nil
}

func difference(got []float32, want weights.Array, atolRel float64) error {
	golden, err := want.Float64()
	if err != nil {
		return err
	}
	if len(got) != len(golden) {
		return fmt.Errorf("%d values, need %d", len(got), len(golden))
	}
	var largest, scale float64
	at := 0
	for i, w := range golden {
		g := float64(got[i])
		if math.IsNaN(g-w) || math.IsInf(g-w, 0) {
			return fmt.Errorf("element %d is %g, need %g: not finite", i, g, w)
		}
		scale = max(scale, math.Abs(w))
		if d := math.Abs(g - w); d > largest {
			largest, at = d, i
		}
	}
	if largest > atolRel*scale {
		return fmt.Errorf("element %d is %g, need %g: off by %.3g of max |golden| = %g, allowed %.3g",
			at, got[at], golden[at], largest/scale, scale, atolRel)
	}
	return nil
}

// Tracker holds golden arrays and knows which were read. At the end of the test
// it names the unread ones, fails without any case or comparison, and logs how
// many cases and tensors were compared.
type Tracker struct {
	t        testing.TB
	arrays   map[string]weights.Array
	unread   map[string]bool
	cases    map[string]bool
	compared map[string]bool
}

// Open tracks the arrays of one golden file; path is relative to Dir.
func Open(t testing.TB, path string) *Tracker {
	t.Helper()
	sub, file := filepath.Split(filepath.FromSlash(path))
	return Track(t, Load(t, filepath.Join(Dir(t, sub), file)))
}

// Track tracks arrays; more may follow by Add.
func Track(t testing.TB, arrays map[string]weights.Array) *Tracker {
	t.Helper()
	k := &Tracker{t: t, arrays: map[string]weights.Array{}, unread: map[string]bool{},
		cases: map[string]bool{}, compared: map[string]bool{}}
	k.Add("", arrays)
	t.Cleanup(k.finish)
	return k
}

// Add tracks further arrays under prefix + name.
func (k *Tracker) Add(prefix string, arrays map[string]weights.Array) {
	k.t.Helper()
	for name, a := range arrays {
		name = prefix + name
		if _, ok := k.arrays[name]; ok {
			k.t.Fatalf("golden tensor %q is tracked twice", name)
		}
		k.arrays[name], k.unread[name] = a, true
	}
}

// Case counts a case of the test by its name.
func (k *Tracker) Case(name string) { k.cases[name] = true }

// Names lists the tracked tensors that start with prefix, in order.
func (k *Tracker) Names(prefix string) []string {
	var names []string
	for name := range k.arrays {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Get reads a tensor, such as an input or a weight; the test ends if there is
// none.
func (k *Tracker) Get(name string) weights.Array {
	k.t.Helper()
	a, ok := k.arrays[name]
	if !ok {
		k.t.Fatalf("no golden tensor %q", name)
	}
	delete(k.unread, name)
	return a
}

// Compare compares got with the tensor called name, as the function Compare.
func (k *Tracker) Compare(name string, got []float32, atolRel float64) {
	k.t.Helper()
	if err := k.Difference(name, got, atolRel); err != nil {
		k.t.Error(err)
	}
}

// Difference is [Tracker.Compare] for a caller who decides what an error means.
func (k *Tracker) Difference(name string, got []float32, atolRel float64) error {
	k.t.Helper()
	want := k.Get(name)
	k.compared[name] = true
	return named(name, got, want, atolRel)
}

// Skip marks a tensor as left out on purpose; the log says why.
func (k *Tracker) Skip(name, why string) {
	k.t.Helper()
	k.Get(name)
	k.t.Logf("%s is not compared: %s", name, why)
}

func (k *Tracker) finish() {
	k.t.Helper()
	if k.t.Skipped() {
		return
	}
	k.t.Logf("compared %d tensors in %d cases; %d golden tensors in all", len(k.compared), len(k.cases), len(k.arrays))
	if len(k.cases) == 0 {
		k.t.Error("no golden case was run")
	}
	if len(k.compared) == 0 {
		k.t.Error("no golden tensor was compared")
	}
	if len(k.unread) > 0 && k.t.Failed() { // the test may have ended early: the names would drown its reason
		k.t.Errorf("%d golden tensors were not read", len(k.unread))
	} else if len(k.unread) > 0 {
		names := make([]string, 0, len(k.unread))
		for name := range k.unread {
			names = append(names, name)
		}
		slices.Sort(names)
		k.t.Errorf("%d golden tensors were not read: %s", len(names), strings.Join(names, ", "))
	}
}
