package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shared returns the folder of a real set beside the repository. Without it the test is skipped, or
// fails where REQUIRE_SHARED=1.
func shared(t testing.TB, set string) string {
	t.Helper()
	dir := filepath.Join(moduleRoot(t), "..", "shared", "data", set)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("REQUIRE_SHARED") == "1" {
			t.Fatalf("REQUIRE_SHARED=1, but %v", err)
		}
		t.Skipf("real images are not here: %v", err)
	}
	return dir
}

// The counts are those of the published splits (ZhangLab) and of golden/reference-auc.md.
func TestRealSets(t *testing.T) {
	for _, tt := range []struct {
		set, kind               string
		train, normal, abnormal int
		groups                  bool
		pool                    int
		drawn                   string // SHA-256 of the validation paths at the default share and seed: a change moves every result
	}{
		{"zhanglab", "zhanglab", 1341, 234, 390, true, 3875, "9e77e125d69e4871f4d63fba52e8d4f6b0ae7f72883e504bed41ee048942fcb8"},
		{"sarscov2_ct", "folder", 929, 300, 300, false, 0, "fbf36dc9e269e104a1926737b9d5cdf908b5ad9f9455a4a123b43c68ffa30b32"},
	} {
		t.Run(tt.set, func(t *testing.T) {
			o := DefaultOptions()
			o.Set, o.Root, o.Validation = tt.kind, shared(t, tt.set), 0
			cacheDir := t.TempDir()
			calls := 0
			o.Progress = func(done, total int) { calls++ }
			d, err := Open(o, cacheDir)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			files, sum := d.Fingerprint()
			if want := tt.train + tt.normal + tt.abnormal; files != want || calls != want {
				t.Errorf("%d files, %d decoded, want %d", files, calls, want)
			}
			abnormal := 0
			for _, it := range d.Items(Test) {
				if it.Abnormal {
					abnormal++
				}
			}
			if d.Len(Train) != tt.train || abnormal != tt.abnormal || d.Len(Test)-abnormal != tt.normal {
				t.Errorf("train %d, test %d of which %d abnormal", d.Len(Train), d.Len(Test), abnormal)
			}
			if d.HasGroups() != tt.groups || d.HasMasks() || len(d.ContaminationPool()) != tt.pool {
				t.Errorf("groups %v, masks %v, pool %d", d.HasGroups(), d.HasMasks(), len(d.ContaminationPool()))
			}

			// The cache holds what decoding and resizing give.
			for _, i := range []int{0, d.Len(Test) / 2, d.Len(Test) - 1} {
				n, err := d.Native(Test, i)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(o.geometry().image(n.W, n.H, n.V), d.Grey(Test, i)) {
					t.Errorf("%s: cached pixels differ from the file", d.Items(Test)[i].Path)
				}
			}

			// A second time nothing is decoded; the validation split is whole groups.
			calls = 0
			o.Validation = 0.1
			again, err := Open(o, cacheDir)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if _, s := again.Fingerprint(); s != sum || calls != 0 {
				t.Errorf("fingerprint %s, then %s; decoded %d again", sum, s, calls)
			}
			if v := again.Len(Validation); v < max(100, tt.train/10) || v > tt.train/10+20 || v+again.Len(Train) != tt.train {
				t.Errorf("validation %d, train %d", v, again.Len(Train))
			}
			list := sha256.New()
			for _, v := range again.Items(Validation) {
				fmt.Fprintln(list, v.Path)
				if v.Group != "" && slices.ContainsFunc(again.Items(Train), func(it Item) bool { return it.Group == v.Group }) {
					t.Errorf("group %s in training and validation", v.Group)
				}
			}
			if got := hex.EncodeToString(list.Sum(nil)); got != tt.drawn {
				t.Errorf("validation list %s, want %s", got, tt.drawn)
			}
		})
	}
}

// The counts for training normals and for test images are those of golden/reference-auc.md, section 2,
// "Overlap", which compared with training normals.
func TestRealCheck(t *testing.T) {
	for _, tt := range []struct {
		set, kind string
		same      map[string]int // images with the pixels of an earlier one of their folder
		near      int            // test images with a near copy among the training normals
		groups    int            // findings about groups
	}{
		{"zhanglab", "zhanglab", map[string]int{"test/NORMAL": 3, "test/PNEUMONIA": 3, "train/NORMAL": 1}, 0, 0},
		{"sarscov2_ct", "folder", map[string]int{}, 3, 1},
	} {
		t.Run(tt.set, func(t *testing.T) {
			o := DefaultOptions()
			o.Set, o.Root = tt.kind, shared(t, tt.set)
			found, err := Check(o)
			if err != nil {
				t.Fatal(err)
			}
			same, near, groups := map[string]int{}, 0, 0
			for _, f := range found {
				switch {
				case f.Severity == Error:
					t.Errorf("%+v", f)
				case f.Code == CodeDuplicate && strings.HasPrefix(f.Text, "nearly train/PNEUMONIA"):
				case f.Code == CodeDuplicate && strings.HasPrefix(f.Text, "nearly "):
					near++
				case f.Code == CodeDuplicate:
					same[path.Dir(f.Path)]++
				case f.Code == CodeGroup:
					groups++
				}
			}
			delete(same, "train/PNEUMONIA") // not in the reference
			if !maps.Equal(same, tt.same) || near != tt.near || groups != tt.groups {
				t.Errorf("same %v, near %d, groups %d; want %v, %d, %d", same, near, groups, tt.same, tt.near, tt.groups)
			}
		})
	}
}
