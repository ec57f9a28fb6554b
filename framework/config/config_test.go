package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// fakes stands in for the registry.
type fakes struct{}

type rate struct {
	Rate  float64    `toml:"rate"`
	Betas [2]float64 `toml:"betas"`
}

type stage struct {
	Width  int  `toml:"width"`
	Pooled bool `toml:"pooled"`
}

type autoencoder struct {
	Widths []int              `toml:"widths"`
	Latent int                `toml:"latent"`
	Beta   float32            `toml:"beta"`
	Score  string             `toml:"image_score" enters:"score"`
	Depth  uint8              `toml:"depth"`
	Skip   bool               `toml:"skip"`
	Adam   rate               `toml:"adam"`
	Stages []stage            `toml:"stages"`
	Warm   *stage             `toml:"warm"`
	Weight map[string]float64 `toml:"weight"`
	hidden int
}

func (a *autoencoder) Check() error {
	if a.Latent < 1 {
		return fmt.Errorf("latent: %d, need 1 or more", a.Latent)
	}
	if a.Adam.Rate <= 0 {
		return fmt.Errorf("adam.rate: %g, need more than 0", a.Adam.Rate)
	}
	for i, w := range a.Widths {
		if w < 1 {
			return fmt.Errorf("ae: widths[%d]: %d, need 1 or more", i, w)
		}
	}
	return nil
}

func (a *autoencoder) Presets() map[string]any {
	small, paper := newAutoencoder(), newAutoencoder()
	small.Latent, small.Widths = 8, []int{4, 8}
	paper.Latent = 500
	return map[string]any{"small": small, "paper": paper}
}

func newAutoencoder() *autoencoder {
	return &autoencoder{
		Widths: []int{32, 64}, Latent: 128, Beta: .1, Score: "mean", Depth: 3,
		Adam: rate{1e-4, [2]float64{.9, .999}}, Stages: []stage{{16, true}},
	}
}

// chance has no key, no Check and no preset.
type chance struct{}

func (fakes) Names() []string { return []string{"ae", "chance"} }

func (fakes) New(name string) (any, error) {
	switch name {
	case "ae":
		return newAutoencoder(), nil
	case "chance":
		return &chance{}, nil
	}
	return nil, fmt.Errorf("no method %s", name)
}

// load parses text as experiments/x.toml.
func load(text string, sets ...string) (*Experiment, error) {
	return parse("experiments/x.toml", []byte(text), fakes{}, sets)
}

const plainData = "seeds = [0]\n[[data]]\nset = \"zhanglab\"\nroot = \"z\"\n"

func mustRuns(t *testing.T, text string, sets ...string) []Run {
	t.Helper()
	e, err := load(text, sets...)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := e.Runs()
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

const full = `title = "Two sets"
seeds = [0, 7]

[train]
batch = 8
steps = 100

[[data]]
set  = "zhanglab"
root = "../data/z"
size = 64

[[data]]
name = "slices"
set  = "folder"
root = "/ct"

[[method]]
name = "ae"
latent = 64
train = { epochs = 3, precision = "bf16" }
[method.adam]
rate = 1

[[method]]
name  = "ae"
label = "AE w/o skip"
on    = ["slices"]
preset = "small"
beta = 2
vary = { image_score = ["max", "mean"], "adam.rate" = [0.1, 0.2] }

[[method]]
name = "chance"

[report]
metrics = ["auroc", "f1@q-val.05"]
formats = ["md"]
`

func TestRuns(t *testing.T) {
	var got []string
	for _, r := range mustRuns(t, full) {
		line := fmt.Sprintf("%d %s | %s", r.Row, r.Dir, r.Label)
		if a, ok := r.Keys.(*autoencoder); ok {
			line += fmt.Sprintf(" | %d %g %s %g %v", a.Latent, a.Beta, a.Score, a.Adam.Rate, a.Widths)
		}
		got = append(got, fmt.Sprintf("%s | %d %d %d %s", line, r.Train.Steps, r.Train.Epochs, r.Train.Batch, r.Train.Precision))
	}
	want := []string{ // by hand
		"0 results/x/zhanglab-64/ae/seed-0 | ae | 64 0.1 mean 1 [32 64] | 0 3 8 bf16",
		"0 results/x/zhanglab-64/ae/seed-7 | ae | 64 0.1 mean 1 [32 64] | 0 3 8 bf16",
		"5 results/x/zhanglab-64/chance/seed-0 | chance | 100 0 8 float32",
		"5 results/x/zhanglab-64/chance/seed-7 | chance | 100 0 8 float32",
		"0 results/x/slices/ae/seed-0 | ae | 64 0.1 mean 1 [32 64] | 0 3 8 bf16",
		"0 results/x/slices/ae/seed-7 | ae | 64 0.1 mean 1 [32 64] | 0 3 8 bf16",
	}
	for i, v := range []string{"max 0.1", "max 0.2", "mean 0.1", "mean 0.2"} {
		score, rate, _ := strings.Cut(v, " ")
		for _, seed := range []int{0, 7} {
			want = append(want, fmt.Sprintf("%d results/x/slices/ae-w-o-skip-image_score=%s-adam.rate=%s/seed-%d | AE w/o skip image_score=%s adam.rate=%s | 8 2 %s [4 8] | 100 0 8 float32",
				i+1, score, rate, seed, score, rate, v))
		}
	}
	want = append(want,
		"5 results/x/slices/chance/seed-0 | chance | 100 0 8 float32",
		"5 results/x/slices/chance/seed-7 | chance | 100 0 8 float32")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "chest.toml")
	if _, err := Load(path, fakes{}, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("missing file: %v", err)
	}
	for name, text := range map[string]string{
		"chest.toml": oneAE + "[report]\npublished = \"ours.toml\"\n", "ours.toml": "", "a b.toml": oneAE,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	e, err := Load(path, fakes{}, []string{"method.ae.latent=3"})
	if err != nil {
		t.Fatal(err)
	}
	if e.Name != "chest" || e.Title != "chest" || e.Report.Published != filepath.Join(dir, "ours.toml") || e.Data[0].Root != filepath.Join(dir, "z") {
		t.Errorf("name %q, title %q, published %q, root %q", e.Name, e.Title, e.Report.Published, e.Data[0].Root)
	}
	path = filepath.Join(dir, "a b.toml")
	want := path + ": the file's name becomes a folder: need letters, digits, '-', '_' and '.' only"
	if _, err := Load(path, fakes{}, nil); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestExperiment(t *testing.T) {
	e, err := load(full)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := e.Data[0].Root, filepath.Join("data", "z"); got != want {
		t.Errorf("relative root = %q, want %q", got, want)
	}
	if got := e.Data[1].Root; got != "/ct" {
		t.Errorf("absolute root = %q, want /ct", got)
	}
	if e.Title != "Two sets" || e.Name != "x" || e.Dir != "experiments" || e.Data[1].Size != 128 {
		t.Errorf("title %q, name %q, dir %q, size %d", e.Title, e.Name, e.Dir, e.Data[1].Size)
	}
	want := Report{Metrics: []string{"auroc", "f1@q-val.05"}, Formats: []string{"md"}}
	if diff := cmp.Diff(want, e.Report); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestRunsShareNothing(t *testing.T) {
	runs := mustRuns(t, strings.Replace(plainData, "[0]", "[0, 1]", 1)+"[[method]]\nname = \"ae\"\npreset = \"small\"\n")
	runs[0].Keys.(*autoencoder).Widths[0] = 99
	runs[0].Keys.(*autoencoder).Latent = 99
	if a := runs[1].Keys.(*autoencoder); a.Widths[0] != 4 || a.Latent != 8 {
		t.Errorf("the second run has widths %v and latent %d of the first", a.Widths, a.Latent)
	}
}

func TestOverride(t *testing.T) {
	const text = plainData + `size = 32
[[data]]
set = "folder"
root = "f"
[train]
steps = 5
[[method]]
name = "ae"
train = { epochs = 2 }
[[method]]
name = "ae"
label = "AE big"
latent = 512
`
	for _, tt := range []struct {
		sets []string
		want string // size, size | steps, epochs, latent, score, rate of each row
	}{
		{nil, "32 128 | 0 2 128 mean 0.0001 | 5 0 512 mean 0.0001"},
		{[]string{"data.size=64"}, "64 64 | 0 2 128 mean 0.0001 | 5 0 512 mean 0.0001"},
		{[]string{"data.folder.size=64"}, "32 64 | 0 2 128 mean 0.0001 | 5 0 512 mean 0.0001"},
		{[]string{"data.zhanglab-32.size=64"}, "64 128 | 0 2 128 mean 0.0001 | 5 0 512 mean 0.0001"},
		{[]string{"train.steps=10"}, "32 128 | 10 0 128 mean 0.0001 | 10 0 512 mean 0.0001"},
		{[]string{"train.epochs=10"}, "32 128 | 0 10 128 mean 0.0001 | 0 10 512 mean 0.0001"},
		{[]string{"train.steps=10", "method.ae.steps=11"}, "32 128 | 11 0 128 mean 0.0001 | 11 0 512 mean 0.0001"},
		{[]string{"method.ae-big.train.steps=9"}, "32 128 | 0 2 128 mean 0.0001 | 9 0 512 mean 0.0001"},
		{[]string{"method.ae.image_score=max"}, "32 128 | 0 2 128 max 0.0001 | 5 0 512 max 0.0001"},
		{[]string{` method.ae-big.adam.rate = 0.5 `}, "32 128 | 0 2 128 mean 0.0001 | 5 0 512 mean 0.5"},
	} {
		t.Run(strings.Join(tt.sets, " "), func(t *testing.T) {
			e, err := load(text, tt.sets...)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%d %d", e.Data[0].Size, e.Data[1].Size)
			for _, row := range e.Methods {
				a := row.Keys.(*autoencoder)
				got += fmt.Sprintf(" | %d %d %d %s %g", row.Train.Steps, row.Train.Epochs, a.Latent, a.Score, a.Adam.Rate)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	e, err := load(text, "seeds=[4, 5]", `title="new"`, "report.metrics=[\"ap\"]")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.Seeds, []uint64{4, 5}) || e.Title != "new" || !slices.Equal(e.Report.Metrics, []string{"ap"}) {
		t.Errorf("seeds %v, title %q, metrics %v", e.Seeds, e.Title, e.Report.Metrics)
	}
}

const resolvedAE = `title = "x"
experiment = "x"
seed = 0

[data]
name = "zhanglab-128"
set = "zhanglab"
root = "z"
size = 128
resize = "bilinear"
fit = "stretch"
validation = 0.1
split_seed = 20260101

[method]
name = "ae"
label = "tab\u0009\"q\""
preset = "small"
widths = [4, 8]
latent = 8
beta = 0.1
image_score = "mean"
depth = 3
skip = false
stages = [{pooled = false, width = 5}, {pooled = true, width = 6}]

[method.adam]
rate = 1e-05
betas = [0.9, 0.999]

[method.weight]
"a b" = 1.0

[train]
steps = 100
epochs = 0
batch = 16
precision = "float32"
threads = 2
log_every = 50
save_every = 500
score_batch = 16
`

const inputAE = plainData + `[[method]]
name = "ae"
preset = "small"
label = "tab\t\"q\""
stages = [{ width = 5 }, { width = 6, pooled = true }]
weight = { "a b" = 1 }
train = { steps = 100 }
adam.rate = 1e-5
`

func TestTOML(t *testing.T) {
	run := mustRuns(t, inputAE)[0]
	got, err := run.TOML()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(resolvedAE, string(got)); diff != "" {
		t.Errorf("config.toml (-want +got):\n%s", diff)
	}
	if again, _ := mustRuns(t, inputAE)[0].TOML(); string(again) != string(got) {
		t.Error("a second Load gives other bytes")
	}
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, got, 0o666); err != nil {
		t.Fatal(err)
	}
	back, err := ReadRun(path, fakes{})
	if err != nil {
		t.Fatal(err)
	}
	if back.Data.Root != "z" {
		t.Errorf("root = %q, want it as written", back.Data.Root)
	}
	back.Data.Root = run.Data.Root
	if diff := cmp.Diff(run, back, cmp.AllowUnexported(Run{}, autoencoder{}), cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".Progress"
	}, cmp.Ignore())); diff != "" {
		t.Errorf("ReadRun (-want +got):\n%s", diff)
	}
	if back.Hash() != run.Hash() {
		t.Errorf("hash %s, read back %s", run.Hash(), back.Hash())
	}
}

func TestPhantomBlock(t *testing.T) {
	run := mustRuns(t, phantomData+"modality = \"ct\"\nlevel = 2\n[[method]]\nname = \"chance\"\n")[0]
	got, err := run.TOML()
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ = bytes.Cut(got, []byte("[data.phantom]\n"))
	got, _, _ = bytes.Cut(got, []byte("\n\n"))
	const want = `modality = "ct"
train = 2000
test_normal = 400
test_abnormal = 400
level = "2"
`
	if !strings.HasPrefix(string(got), want) {
		t.Errorf("data.phantom is\n%s\nwant first\n%s", got, want)
	}
	if run.Data.Root != "" {
		t.Errorf("root = %q, want none", run.Data.Root)
	}
	for set, same := range map[string]bool{"data.phantom.level=\"2\"": true, "data.phantom.level=1": false, "data.phantom.phantom.level=1": false} {
		other := mustRuns(t, phantomData+"modality = \"ct\"\nlevel = 2\n[[method]]\nname = \"chance\"\n", set)[0]
		if (other.Hash() == run.Hash()) != same {
			t.Errorf("%s: hash %s, was %s", set, other.Hash(), run.Hash())
		}
	}
}

func TestReadRunErrors(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ old, new, want string }{
		{"latent = 8", "latnet = 8", "FILE:20: method.latnet: unknown key; did you mean latent?"},
		{"size = 128", "size = 1", "FILE:9: data.size: 1, need 8 to 4096"},
		{"batch = 16\n", "batch = true\n", "FILE:37: train.batch: true is a boolean, need an integer"},
		{"seed = 0", "sead = 0", "FILE:3: sead: unknown key; did you mean seed?"},
		{"[train]", "[method.train]", "FILE: train: missing, so this is no resolved configuration"},
		{"[data]", "data", "FILE:5: expected '.' or '=', but got '\\n' instead"},
	} {
		path := filepath.Join(dir, "config.toml")
		if err := os.WriteFile(path, []byte(strings.Replace(resolvedAE, tt.old, tt.new, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := ReadRun(path, fakes{})
		if want := strings.ReplaceAll(tt.want, "FILE", path); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", tt.new, err, want)
		}
	}
}

func TestHashAndDiff(t *testing.T) {
	stored, err := mustRuns(t, inputAE)[0].TOML()
	if err != nil {
		t.Fatal(err)
	}
	same := mustRuns(t, inputAE)[0].Hash()
	if len(same) != 16 {
		t.Errorf("hash %q, want 16 digits", same)
	}
	for _, tt := range []struct {
		set  string
		diff []string
	}{
		{`title="other"`, nil},
		{`data.name="other"`, nil},
		{`method.ae.label="other"`, nil},
		{`report.costs=true`, nil},
		{`report.types=true`, nil},
		{`seeds=[1]`, []string{"seed: 0 → 1"}},
		{`data.size=64`, []string{"data.size: 128 → 64"}},
		{`data.root="y"`, []string{`data.root: "z" → "y"`}},
		{`train.threads=4`, []string{"train.threads: 2 → 4"}},
		{`train.epochs=1`, []string{"train.epochs: 0 → 1", "train.steps: 100 → 0"}},
		{`method.ae.adam.betas=[0, 1]`, []string{"method.adam.betas: [0.9, 0.999] → [0.0, 1.0]"}},
		{`method.ae.weight={b = 2}`, []string{`method.weight."a b": 1.0 → none`, "method.weight.b: none → 2.0"}},
		{`method.ae.warm.width=4`, []string{"method.warm.pooled: none → false", "method.warm.width: none → 4"}},
		{`method.ae.preset=paper`, []string{"method.latent: 8 → 500", "method.widths: [4, 8] → [32, 64]"}},
	} {
		t.Run(tt.set, func(t *testing.T) {
			run := mustRuns(t, inputAE, tt.set)[0]
			if diff := cmp.Diff(tt.diff, run.Diff(stored)); diff != "" {
				t.Errorf("Diff (-want +got):\n%s", diff)
			}
			if changed := run.Hash() != same; changed != (tt.diff != nil) {
				t.Errorf("hash changed: %t, with differences %q", changed, tt.diff)
			}
		})
	}
	want := []string{"config.toml: not readable (toml: line 1: expected '.' or '=', but got '!' instead)"}
	if diff := cmp.Diff(want, mustRuns(t, inputAE)[0].Diff([]byte("!"))); diff != "" {
		t.Errorf("Diff of no TOML (-want +got):\n%s", diff)
	}
}

func TestDefaultsPassCheck(t *testing.T) {
	train, report := DefaultTrain(), DefaultReport()
	if err := train.Check(); err != nil {
		t.Error(err)
	}
	if err := report.check("."); err != nil {
		t.Error(err)
	}
}

func TestSlug(t *testing.T) {
	for label, want := range map[string]string{
		"ae":                   "ae",
		"SimSID w/o in-paint.": "simsid-w-o-in-paint",
		"../../etc":            "etc",
		"β-VAE β=4":            "β-vae-β=4",
		"a  --  b":             "a-b",
		"...":                  "",
		"=_=":                  "",
		"":                     "",
	} {
		if got := Slug(label); got != want {
			t.Errorf("Slug(%q) = %q, want %q", label, got, want)
		}
	}
}

func TestTraining(t *testing.T) {
	same := mustRuns(t, inputAE)[0].Training("images")
	for _, tt := range []struct {
		set     string
		changes bool
	}{
		{`title="other"`, false}, {`data.name="other"`, false}, {`data.root="y"`, false}, {`data.validation=0.5`, false},
		{`method.ae.image_score=max`, false}, {`train.score_batch=3`, false},
		{`seeds=[1]`, true}, {`train.threads=4`, true}, {`train.epochs=1`, true}, {`method.ae.latent=9`, true}, {`method.ae.adam.betas=[0, 1]`, true},
	} {
		if changed := mustRuns(t, inputAE, tt.set)[0].Training("images") != same; changed != tt.changes {
			t.Errorf("%s changes it: %t, want %t", tt.set, changed, tt.changes)
		}
	}
	if mustRuns(t, inputAE)[0].Training("others") == same {
		t.Error("other images change nothing")
	}
}

func TestPositions(t *testing.T) {
	const text = `a.b = 1 # "c = 2"
"x.y" = ''' [t]
''''' 
[[m]]
n = [ 1, # one
  { p = "}" }, [2,
  3] ]
[m.q] # table
s = """\""" r = 1
"""
[[m]]
"n\u006E" = 1
[[m.k]]
[[m.k]]
z = 2`
	got := map[string]int{}
	for path, offset := range positions(text) {
		got[path] = 1 + strings.Count(text[:offset], "\n")
	}
	want := map[string]int{
		"a": 1, "a.b": 1, "x.y": 2, "m": 4, "m[0]": 4, "m[0].n": 5, "m[0].n[0]": 5, "m[0].n[1]": 6,
		"m[0].n[1].p": 6, "m[0].n[2]": 6, "m[0].n[2][0]": 6, "m[0].n[2][1]": 7, "m[0].q": 8, "m[0].q.s": 9,
		"m[1]": 11, "m[1].nn": 12, "m[1].k": 13, "m[1].k[0]": 13, "m[1].k[1]": 14, "m[1].k[1].z": 15,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// FuzzLoad: no input panics, errors are one line that names the file, what loads
// resolves to TOML that reads back to the same hash, and every key has a line.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{full, inputAE, resolvedAE, plainData, "[[method]]", "data = 1", "a=[[[{}]]]", "\"method[-1]\" = 1"} {
		f.Add([]byte(text), "data.size=64")
	}
	f.Add([]byte(phantomData+"level = 1\n[[method]]\nname = \"chance\"\n"), "data.phantom.level=2")
	f.Add([]byte(full), "method.ae.vary.latent=[1, 2]")
	f.Fuzz(func(t *testing.T, text []byte, set string) {
		var table map[string]any
		meta, err := toml.Decode(string(text), &table)
		if err == nil {
			at := positions(string(text))
			known := map[string]bool{}
			for path := range at {
				known[withoutIndices(path)] = true
			}
			for _, key := range meta.Keys() {
				path := ""
				for _, k := range key {
					path = join(path, k)
				}
				if path = withoutIndices(path); !known[path] {
					t.Errorf("key %q has no line", path)
				}
			}
		}
		for _, sets := range [][]string{nil, {set}} {
			e, err := load(string(text), sets...)
			if err != nil {
				if msg := err.Error(); !strings.Contains(msg, "experiments/x.toml") && !strings.HasPrefix(msg, "--set ") {
					t.Errorf("error %q names no file", msg)
				}
				continue
			}
			runs, err := e.Runs()
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range runs[:min(len(runs), 10)] {
				config, err := run.TOML()
				if err != nil {
					t.Fatal(err)
				}
				d, err := newDocument("config.toml", config)
				if err != nil {
					t.Fatalf("%v in\n%s", err, config)
				}
				back, err := resolved(d, fakes{})
				if err != nil {
					t.Fatalf("%v in\n%s", err, config)
				}
				if back.Hash() != run.Hash() || back.Dir != run.Dir || len(run.Diff(config)) > 0 || !reflect.DeepEqual(back.Train, run.Train) {
					t.Errorf("read back otherwise:\n%s\n%q", config, run.Diff(config))
				}
			}
		}
	})
}

// withoutIndices cuts [0], [1] … from a path, and the brackets of quoted keys alike.
func withoutIndices(path string) string {
	for {
		open := strings.LastIndexByte(path, '[')
		if open < 0 {
			return path
		}
		if shut := strings.IndexByte(path[open:], ']'); shut < 0 {
			path = path[:open] + path[open+1:]
		} else {
			path = path[:open] + path[open+shut+1:]
		}
	}
}

func TestExperimentName(t *testing.T) {
	for path, want := range map[string]string{
		"a/experiments/simsid/table2.toml": "simsid-table2",
		"a/experiments/demo.toml":          "demo",
		"a/b/mine.toml":                    "mine",
	} {
		if got := name(path); got != want {
			t.Errorf("%s is named %s, want %s", path, got, want)
		}
	}
}
