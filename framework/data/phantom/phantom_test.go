package phantom

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/BurntSushi/toml"
)

// small is a set whose images are quick to draw.
func small(modality string, normal, abnormal int) Options {
	o := DefaultOptions()
	o.Modality, o.Size = modality, 64
	o.Train, o.TestNormal, o.TestAbnormal = 0, normal, abnormal
	return o
}

func TestPlan(t *testing.T) {
	for _, modality := range []string{Radiograph, CT} {
		o := DefaultOptions()
		o.Modality = modality
		o.Train, o.TestNormal, o.TestAbnormal = 103, 200, 250
		plan := o.Plan()
		count := map[string]int{}
		levels := map[int]int{}
		paths, split := map[string]bool{}, map[string]string{}
		perPatient := map[string]int{}
		var normal, abnormal []float64 // places in the test list
		for i, c := range plan {
			switch {
			case c.Split == "train":
				count["train"]++
				if c.Abnormal {
					t.Errorf("%s: %s is abnormal", modality, c.Path)
				}
			case c.Abnormal:
				count[c.Subtype]++
				levels[c.Level]++
				abnormal = append(abnormal, float64(i))
			default:
				count["normal"]++
				normal = append(normal, float64(i))
			}
			if paths[c.Path] || !strings.HasPrefix(c.Path, c.Split+"/") {
				t.Errorf("%s: path %q twice or outside its split", modality, c.Path)
			}
			paths[c.Path] = true
			if s, seen := split[c.Group]; seen && s != c.Split {
				t.Errorf("%s: %s is in two splits", modality, c.Group)
			}
			split[c.Group] = c.Split
			perPatient[c.Group]++
		}
		if count["train"] != 103 || count["normal"] != 200 {
			t.Errorf("%s: %d training and %d normal test images, need 103 and 200", modality, count["train"], count["normal"])
		}
		for _, name := range Types() {
			if count[name] != 50 {
				t.Errorf("%s: %d images of %s, need 50", modality, count[name], name)
			}
		}
		if levels[0] != 0 || levels[1] != 50 || levels[2] != 125 || levels[3] != 75 {
			t.Errorf("%s: levels %v, need 50, 125 and 75 of 1, 2 and 3", modality, levels)
		}
		if a := auc(normal, abnormal); a < 0.4 || a > 0.6 {
			t.Errorf("%s: the order of the list tells the label with AUC %.2f", modality, a)
		}
		for group, n := range perPatient {
			if want := map[string]int{Radiograph: 1, CT: 5}[modality]; n > want {
				t.Errorf("%s: %s has %d images, at most %d", modality, group, n, want)
			}
		}
	}
}

func TestPlanDoesNotDependOnTrain(t *testing.T) {
	o := small(CT, 20, 20)
	before := o.Plan()
	o.Train = 50
	if after := o.Plan()[50:]; !slices.Equal(before, after) {
		t.Error("the test images change with the number of training images")
	}
	o.Seed++
	a, _, err := o.Render(before[0])
	if err != nil {
		t.Fatal(err)
	}
	o.Seed--
	if b, _, _ := o.Render(before[0]); bytes.Equal(a, b) {
		t.Error("another seed gives the same image")
	}
}

func TestCheck(t *testing.T) {
	if err := DefaultOptions().Check(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key    string
		change func(*Options)
	}{
		{"modality", func(o *Options) { o.Modality = "mri" }},
		{"size", func(o *Options) { o.Size = 8 }},
		{"train", func(o *Options) { o.Train = -1 }},
		{"test_normal", func(o *Options) { o.TestNormal = -1 }},
		{"test_abnormal", func(o *Options) { o.TestAbnormal = -1 }},
		{"train", func(o *Options) { o.Train = math.MaxInt }},
		{"level", func(o *Options) { o.Level = "4" }},
		{"types", func(o *Options) { o.Types = nil }},
		{"types", func(o *Options) { o.Types = []string{"ggo", "gg0"} }},
		{"types", func(o *Options) { o.Types = []string{"ggo", "ggo"} }},
	} {
		o := DefaultOptions()
		tt.change(&o)
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), tt.key) {
			t.Errorf("error %v, need one of %s", err, tt.key)
		}
		if _, _, err := o.Render(Case{}); err == nil {
			t.Errorf("%s out of range is rendered", tt.key)
		}
	}
	if _, _, err := DefaultOptions().Render(Case{Abnormal: true, Subtype: "wart"}); err == nil {
		t.Error("an unknown lesion type is rendered")
	}
}

func TestLevelInTOML(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Level
	}{
		{`level = 2`, "2"},
		{`level = "0"`, "0"},
		{`level = "mix"`, Mix},
		{`level = 4`, ""},
		{`level = "hard"`, ""},
		{`level = 1.5`, ""},
	} {
		o := Options{}
		_, err := toml.Decode(tt.text, &o)
		if tt.want == "" {
			if err == nil || !strings.Contains(err.Error(), "level") {
				t.Errorf("%s: error %v, need one of level", tt.text, err)
			}
			continue
		}
		if err != nil || o.Level != tt.want {
			t.Errorf("%s: %q, %v; need %q", tt.text, o.Level, err, tt.want)
		}
		var text bytes.Buffer
		if err := toml.NewEncoder(&text).Encode(o); err != nil {
			t.Fatal(err)
		}
		var again Options
		if _, err := toml.Decode(text.String(), &again); err != nil || again.Level != tt.want {
			t.Errorf("%s: written and read again as %q, %v", tt.text, again.Level, err)
		}
	}
}

// TestVersion pins images of this version. When a change of the generator is
// meant, raise Version and take the new sums.
func TestVersion(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("other processors round differently")
	}
	want := map[string]string{Radiograph: "68fd7769e3ae4b59", CT: "2314de8f9c0bdf35"}
	for modality, sum := range want {
		o := small(modality, 0, 0)
		image, mask, err := o.Render(Case{Abnormal: true, Subtype: "mass", Level: 1, patient: 7})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(append(image, mask...)))[:16]; Version != 1 || got != sum {
			t.Errorf("%s: version %d has %s, pinned is version 1 with %s", modality, Version, got, sum)
		}
	}
}

// TestSameBytesOnAnyWorkers draws the same cases in turn and at once.
func TestSameBytesOnAnyWorkers(t *testing.T) {
	for _, modality := range []string{Radiograph, CT} {
		o := small(modality, 5, 5)
		plan := o.Plan()
		type result struct{ image, mask []uint8 }
		alone, together := make([]result, len(plan)), make([]result, len(plan))
		for i, c := range plan {
			image, mask, err := o.Render(c)
			if err != nil {
				t.Fatal(err)
			}
			alone[i] = result{image, mask}
		}
		var wg sync.WaitGroup
		for i, c := range plan {
			wg.Go(func() {
				image, mask, err := o.Render(c)
				if err != nil {
					t.Error(err)
				}
				together[i] = result{image, mask}
			})
		}
		wg.Wait()
		for i, c := range plan {
			if !bytes.Equal(alone[i].image, together[i].image) || !bytes.Equal(alone[i].mask, together[i].mask) {
				t.Errorf("%s: %s differs between two drawings", modality, c.Path)
			}
			if got := alone[i].mask != nil; got != c.Abnormal {
				t.Errorf("%s: %s has a mask: %t, is abnormal: %t", modality, c.Path, got, c.Abnormal)
			}
			if len(alone[i].image) != 64*64 || c.Abnormal && len(alone[i].mask) != 64*64 {
				t.Errorf("%s: %s has %d pixels and a mask of %d", modality, c.Path, len(alone[i].image), len(alone[i].mask))
			}
		}
	}
}

// dilate widens a region by a square of the given radius.
func dilate(region []bool, n, radius int) []bool {
	spread := func(in []bool, step, line int) []bool {
		out := make([]bool, len(in))
		for i, set := range in {
			if !set {
				continue
			}
			at := i / step % n
			for d := -min(radius, at); d <= min(radius, n-1-at); d++ {
				out[i+d*step] = true
			}
		}
		return out
	}
	return spread(spread(region, 1, n), n, n)
}

// TestLesionsAreLocal: a normal and an abnormal image of one patient differ by
// the lesion only, which lies in the lung.
func TestLesionsAreLocal(t *testing.T) {
	if testing.Short() {
		t.Skip("draws 80 images")
	}
	for _, modality := range []string{Radiograph, CT} {
		o := small(modality, 0, 0)
		sides := map[string]map[int]bool{}
		for k, name := range kindNames {
			sides[name] = map[int]bool{}
			for i := range 4 {
				c := Case{Path: name, Abnormal: true, Subtype: name, Level: i % 4, patient: 10*k + i}
				abnormal, err := o.render(c)
				if err != nil {
					t.Fatal(err)
				}
				c.Abnormal = false
				normal, err := o.render(c)
				if err != nil {
					t.Fatal(err)
				}
				sides[name][abnormal.side] = true

				var changed int
				for j, a := range abnormal.signal {
					if a != normal.signal[j] {
						changed++
						if !abnormal.support[j] {
							t.Fatalf("%s %s, level %d: point %d changes outside the lesion", modality, name, c.Level, j)
						}
					}
				}
				if changed == 0 {
					t.Errorf("%s %s, level %d: the lesion changes nothing", modality, name, c.Level)
				}
				if !bytes.Equal(abnormal.lung, normal.lung) {
					t.Errorf("%s %s: the lung mask depends on the lesion", modality, name)
				}

				inLung := make([]bool, len(normal.lung))
				for j, v := range normal.lung {
					inLung[j] = v > 0
				}
				inLung = dilate(inLung, o.Size, 1)
				var marked int
				for j, v := range abnormal.mask {
					if v > 0 {
						marked++
						if !inLung[j] {
							t.Errorf("%s %s, level %d: mask outside the lung", modality, name, c.Level)
							break
						}
					}
				}
				if marked == 0 {
					t.Errorf("%s %s, level %d: empty mask", modality, name, c.Level)
				}

				if modality == CT { // a film's scatter and display reach further
					factor := abnormal.grid / o.Size
					near := make([]bool, o.Size*o.Size)
					for j, set := range abnormal.support {
						if set {
							near[j/abnormal.grid/factor*o.Size+j%abnormal.grid/factor] = true
						}
					}
					near = dilate(near, o.Size, 3)
					for j, v := range abnormal.image {
						if v != normal.image[j] && !near[j] {
							t.Errorf("%s %s, level %d: pixel %d changes far from the lesion", modality, name, c.Level, j)
							break
						}
					}
				}
			}
		}
		for name, seen := range sides {
			if !seen[-1] || !seen[1] {
				t.Errorf("%s %s: sides %v, need both", modality, name, seen)
			}
		}
	}
}

// TestLevelsGrow: an easier level has larger lesions.
func TestLevelsGrow(t *testing.T) {
	if testing.Short() {
		t.Skip("draws 40 images")
	}
	for _, modality := range []string{Radiograph, CT} {
		o := small(modality, 0, 0)
		var area [4]int
		for level := range area {
			for i := range kinds {
				_, mask, err := o.Render(Case{Abnormal: true, Subtype: kindNames[i], Level: level, patient: int(i)})
				if err != nil {
					t.Fatal(err)
				}
				area[level] += bytes.Count(mask, []byte{255})
			}
		}
		if !(area[0] > area[1] && area[1] > area[2] && area[2] > area[3]) {
			t.Errorf("%s: mask pixels %v by level, need them to fall", modality, area)
		}
	}
}

func TestPatientsDiffer(t *testing.T) {
	for _, modality := range []string{Radiograph, CT} {
		o := small(modality, 0, 0)
		draw := func(patient int) ([]uint8, []uint8) {
			c := Case{patient: patient}
			image, _, err := o.Render(c)
			if err != nil {
				t.Fatal(err)
			}
			lung, err := o.LungMask(c)
			if err != nil {
				t.Fatal(err)
			}
			return image, lung
		}
		for i := range 4 {
			a, lungA := draw(2 * i)
			b, lungB := draw(2*i + 1)
			var va, vb []float64
			for j := range a {
				if lungA[j] > 0 && lungB[j] > 0 {
					va, vb = append(va, float64(a[j])), append(vb, float64(b[j]))
				}
			}
			if len(va) < 300 {
				t.Fatalf("%s: the lungs of two patients share %d pixels of %d", modality, len(va), len(a))
			}
			ma, mb := meanOf(va), meanOf(vb)
			var ab float64
			for j := range va {
				ab += (va[j] - ma) * (vb[j] - mb)
			}
			if r := ab / float64(len(va)) / deviation(va) / deviation(vb); r > 0.98 {
				t.Errorf("%s: the lung fields of patients %d and %d correlate with %.3f", modality, 2*i, 2*i+1, r)
			}
		}
	}
}

// TestSizes: odd and small sides work; the smallest lesions keep a mask.
func TestSizes(t *testing.T) {
	for _, modality := range []string{Radiograph, CT} {
		for _, size := range []int{32, 100, 129} {
			o := small(modality, 0, 0)
			o.Size = size
			image, mask, err := o.Render(Case{Abnormal: true, Subtype: "tib", Level: 3, patient: size})
			if err != nil {
				t.Fatal(err)
			}
			if len(image) != size*size || len(mask) != size*size || bytes.Count(mask, []byte{255}) == 0 {
				t.Errorf("%s at %d: %d pixels, %d of the mask set", modality, size, len(image), bytes.Count(mask, []byte{255}))
			}
			if slices.Max(image) < 200 || slices.Min(image) > 60 {
				t.Errorf("%s at %d: grey values %d to %d", modality, size, slices.Min(image), slices.Max(image))
			}
		}
	}
}

// TestDistances compares the distance transform with its definition.
func TestDistances(t *testing.T) {
	const n = 23
	region := make([]bool, n*n)
	for i := range region {
		x, y := i%n-11, i/n-9
		region[i] = x*x+2*y*y < 80 && (x+3*y)%7 != 0
	}
	got := distances(region, n)
	for i := range region {
		want := math.Inf(1)
		for j, in := range region {
			if !in {
				want = min(want, math.Hypot(float64(i%n-j%n), float64(i/n-j/n)))
			}
		}
		if math.Abs(got.v[i]-want) > 1e-9 {
			t.Errorf("point %d: %g, need %g", i, got.v[i], want)
		}
	}
}

func TestGaussianField(t *testing.T) {
	const n, sigma = 240, 6.0
	f := gaussianField(stream(1, 0, 0, 0), n, sigma)
	if m, s := meanOf(f.v), deviation(f.v); math.Abs(m) > 1e-9 || math.Abs(s-1) > 1e-6 {
		t.Errorf("mean %g, s.d. %g; need 0 and 1", m, s)
	}
	// White noise under a Gaussian of s.d. σ has autocorrelation exp(-d²/4σ²).
	for _, lag := range []int{6, 12} {
		var c float64
		for i, v := range f.v {
			c += v * f.v[i/n*n+(i+lag)%n] / float64(len(f.v))
		}
		if want := math.Exp(-float64(lag*lag) / (4 * sigma * sigma)); math.Abs(c-want) > 0.08 {
			t.Errorf("autocorrelation %.3f at lag %d, need %.3f", c, lag, want)
		}
	}
}

func TestTreeRadii(t *testing.T) {
	r := stream(2, 0, 0, 0)
	ends := make([]point3, 100)
	for i := range ends {
		ends[i] = point3{uniform(r, 10, 90), uniform(r, -40, 40), uniform(r, -100, 100)}
	}
	const gamma, end = 2.55, 0.4
	vessels := growTree(r, point3{}, slices.Clone(ends), gamma, end, 100)
	reached := map[point3]bool{}
	out := map[point3]float64{} // Σ rᵞ of what leaves a node
	for _, v := range vessels {
		reached[v.to] = true
		out[v.from] += math.Pow(v.toRadius, gamma)
	}
	for _, e := range ends {
		if !reached[e] {
			t.Fatalf("end point %v is not reached", e)
		}
	}
	for _, v := range vessels {
		want := end
		if sum := out[v.to]; sum > 0 {
			want = math.Pow(sum, 1/gamma)
		}
		if math.Abs(v.toRadius-want) > 1e-9 {
			t.Errorf("radius %g at %v, need %g", v.toRadius, v.to, want)
		}
	}
}
