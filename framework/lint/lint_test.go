package lint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/published"
	"thorax/framework/record"
)

// A sound is an input without a single finding; tests spoil one thing of it.
type sound struct {
	root       string
	experiment string
	paper      string
	images     map[string][]data.Finding
	runs       map[string]*made // by label and seed
}

type made struct {
	run     record.Run
	scores  []record.Score
	figures []metric.Figure
	config  string
	maps    *record.Maps
}

const soundExperiment = `
seeds = [0, 1, 2]
[[data]]
name = "chest-64"
set = "folder"
root = "images"
size = 64
[[method]]
name = "ae"
[[method]]
name = "padim"
[[method]]
name = "chance"
[[method]]
name = "mean_intensity"
[[method]]
name = "file_size"
[report]
metrics = ["auroc", "ap", "f1@q-val.05", "f1@f1-test", "sens@q-val.05", "dice@q-val.01"]
`

const soundPaper = `
source = "a paper"
url = "https://example.org"
unit = "percent"
protocol = { size = 64, repeats = 3, selection = "last", threshold = "none", split = "500/40/40" }
[[figure]]
table = "1"
data = "chest"
method = "ae"
label = "AE"
auroc = { mean = 70.0, sd = 0.4 }
`

const soundConfig = "[data]\nname = \"chest-64\"\nset = \"folder\"\nroot = \"images\"\nsize = 64\nvalidation = 0.1\n[method]\nname = \"ae\"\n[train]\nscore_batch = 16\n"

func newSound(t *testing.T) *sound {
	s := &sound{experiment: soundExperiment, paper: soundPaper, images: map[string][]data.Finding{}, runs: map[string]*made{}}
	for row, label := range []string{"AE", "PaDiM", "chance"} {
		for seed := range 3 {
			random := rand.New(rand.NewPCG(uint64(row), uint64(seed)))
			m := &made{config: soundConfig, run: record.Run{Status: record.Complete, Experiment: "x", Data: "chest-64", Method: strings.ToLower(label), Label: label,
				Family: "reconstruction", Row: row, Seed: int64(seed), Trained: true, Steps: 100, Parameters: 1000, SplitRule: "training: 500",
				Fingerprint: record.Fingerprint{Files: 700, SHA256: "c0de"}, Groups: true}}
			if label == "chance" {
				m.run.Family = trivial
			}
			for _, part := range []struct {
				split    string
				abnormal bool
				n        int
			}{{"validation", false, 120}, {"test", false, 40}, {"test", true, 40}} {
				for i := range part.n {
					score := random.NormFloat64()
					if part.abnormal && label != "chance" {
						score++
					}
					name := fmt.Sprintf("%s/%t/%03d.png", part.split, part.abnormal, i)
					m.scores = append(m.scores, record.Score{Split: part.split, Path: name, Group: name, Abnormal: part.abnormal, Score: score})
				}
			}
			for _, name := range []string{"auroc", "ap", "aupro@.3", "dice@q-val.01"} {
				spec, err := metric.Parse(name)
				if err != nil {
					t.Fatal(err)
				}
				m.figures = append(m.figures, metric.Figure{Name: name, ID: spec.ID(), OK: true, Value: .5})
			}
			s.runs[fmt.Sprint(label, seed)] = m
		}
	}
	return s
}

// lint writes the input and returns the findings; without the experiment where it is
// empty, and the same for the paper.
func (s *sound) lint(t *testing.T, notes map[string]string) []Finding {
	t.Helper()
	in := Input{Images: s.images}
	s.root = t.TempDir()
	if err := os.CopyFS(s.root, os.DirFS(pristine(t))); err != nil {
		t.Fatal(err)
	}
	untouched := newSound(t)
	for key, m := range untouched.runs {
		if s.runs[key] == nil {
			os.RemoveAll(m.dir(s.root))
		}
	}
	for key, m := range s.runs {
		if !reflect.DeepEqual(m, untouched.runs[key]) {
			m.write(t, s.root)
		}
	}
	var err error
	if in.Entries, err = record.Find(s.root); err != nil {
		t.Fatal(err)
	}
	if s.experiment != "" {
		path := filepath.Join(t.TempDir(), "x.toml")
		if err := os.WriteFile(path, []byte(s.experiment), 0o644); err != nil {
			t.Fatal(err)
		}
		if in.Experiment, err = ReadExperiment(path); err != nil {
			t.Fatal(err)
		}
	}
	if s.paper != "" {
		path := filepath.Join(t.TempDir(), "paper.toml")
		if err := os.WriteFile(path, []byte(s.paper), 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := published.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		in.Published = append(in.Published, file)
	}
	found, err := Run(in, notes)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (m *made) dir(root string) string {
	return filepath.Join(root, "x", m.run.Data, record.Slug(m.run.Label), fmt.Sprintf("seed-%d", m.run.Seed))
}

func (m *made) write(t *testing.T, root string) {
	t.Helper()
	f, err := record.Create(m.dir(root))
	if err != nil {
		t.Fatal(err)
	}
	if m.maps != nil {
		err = f.WriteMaps("test", m.maps)
	}
	if err := errors.Join(err, f.WriteRun(m.run), f.WriteScores(m.scores), f.WriteFigures(m.figures), f.WriteConfig([]byte(m.config))); err != nil {
		t.Fatal(err)
	}
}

// pristine is a folder with the runs of a sound input, written once: each file is
// synced to the disk.
func pristine(t *testing.T) string {
	once.Do(func() {
		if once.dir, once.err = os.MkdirTemp("", "lint"); once.err == nil {
			for _, m := range newSound(t).runs {
				m.write(t, once.dir)
			}
		}
	})
	if once.err != nil {
		t.Fatal(once.err)
	}
	return once.dir
}

var once struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(once.dir)
	os.Exit(code)
}

func replace(t *testing.T, text *string, old, new string) {
	t.Helper()
	if !strings.Contains(*text, old) {
		t.Fatalf("no %q to replace", old)
	}
	*text = strings.Replace(*text, old, new, 1)
}

// Nothing is found in a sound input: this is what each rule stays silent on.
func TestSilent(t *testing.T) {
	for name, change := range map[string]func(s *sound){
		"experiment, runs and paper": func(s *sound) {},
		"runs alone":                 func(s *sound) { s.experiment, s.paper = "", "" },
		"an honest zero": func(s *sound) { // all abnormal below all normal: AUROC is 0
			s.experiment = ""
			m := s.runs["AE0"]
			for i := range m.scores {
				if m.scores[i].Split == "test" {
					m.scores[i].Score = float64(i)
					if m.scores[i].Abnormal {
						m.scores[i].Score = -float64(i)
					}
				}
			}
			m.figures[0].Value = 0
			spec, _ := metric.Parse("sens@q-val.05") // no abnormal image reaches the threshold
			m.figures = append(m.figures, metric.Figure{Name: spec.Name, ID: spec.ID(), OK: true})
		},
		"dilated lesions beside others": func(s *sound) {
			s.experiment = strings.Replace(s.experiment, `"dice@q-val.01"`, `"dice@q-val.01", "dice@q-val.01:dilated"`, 1)
		},
		"saturated chance": func(s *sound) {
			for i := range s.runs["chance0"].scores {
				s.runs["chance0"].scores[i].Score = .5
			}
		},
		"one duplicated score in one row only": func(s *sound) {
			m := s.runs["AE0"]
			m.scores[130].Score = m.scores[131].Score
		},
		"another batch, the same scores": func(s *sound) {
			m := *s.runs["AE0"]
			m.run.Label, m.run.Parameters = "AE batch 1", 1000
			m.config = strings.Replace(m.config, "16", "1", 1)
			s.runs["again0"] = &m
			for seed := 1; seed < 3; seed++ {
				m := *s.runs[fmt.Sprint("AE", seed)]
				m.run.Label = "AE batch 1"
				s.runs[fmt.Sprint("again", seed)] = &m
			}
		},
		"no published protocol field matters where it is unknown": func(s *sound) {
			s.paper = strings.Replace(s.paper, `"last"`, `"unknown"`, 1)
		},
		"maps of their own images": func(s *sound) {
			s.runs["AE0"].maps = places(t, func(i, k int) float32 { return float32((i*31+k*7)%16) + float32(k%4) })
		},
		"maps without anything":      func(s *sound) { s.runs["AE0"].maps = record.NewMaps(80, 4, 4) },
		"labels of images elsewhere": func(s *sound) { s.images["x"] = []data.Finding{{Code: "D4", Text: "constant"}} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSound(t)
			change(s)
			for _, f := range s.lint(t, nil) {
				t.Errorf("%s: %s", f.Code, f.Text)
			}
		})
	}
}

func TestFires(t *testing.T) {
	for _, tt := range []struct {
		code, name string
		change     func(s *sound)
		want       string
	}{
		{"L1", "no honest twin", func(s *sound) { replace(t, &s.experiment, `"f1@q-val.05", `, "") }, "f1@f1-test"},
		{"L2", "selection by labels", func(s *sound) { replace(t, &s.experiment, `"padim"`, "\"padim\"\nselection = \"val-auc\"") }, "padim"},
		{"L2", "the best test step of a learning curve", oracle, "AE, best test step (oracle), seed 0: selection \"best-test\""},
		{"L2", "published figures", func(s *sound) { replace(t, &s.paper, `"last"`, `"val-auc"`) }, "a paper"},
		{"L3", "fixed threshold", func(s *sound) { replace(t, &s.experiment, `"f1@q-val.05"`, `"f1@q-val.05", "f1@fixed.0.2"`) }, "f1@fixed.0.2"},
		{"L3", "min–max", func(s *sound) {
			m := s.runs["AE1"]
			for i := range m.scores {
				m.scores[i].Score = float64(i%80) / 79
			}
		}, "span exactly 0 to 1"},
		{"L4", "none", func(s *sound) { replace(t, &s.experiment, "size = 64", "size = 64\nvalidation = 0") }, "validation = 0"},
		{"L4", "the test set", func(s *sound) { s.runs["AE0"].scores[0].Path = s.runs["AE0"].scores[150].Path }, "in validation and test"},
		{"L5", "both sides", func(s *sound) { s.runs["AE0"].scores[0].Group = s.runs["AE0"].scores[150].Group }, "1 patients"},
		{"L5", "unknown", func(s *sound) {
			for i := range s.runs["AE0"].scores {
				s.runs["AE0"].scores[i].Group = ""
			}
		}, "unknown"},
		{"L5", "images", func(s *sound) {
			s.images["chest"] = []data.Finding{{Code: "L5", Text: "group 7 twice", Remedy: "move"}}
		}, "group 7"},
		{"L6", "SARS-CoV-2-CT", func(s *sound) { replace(t, &s.experiment, `"images"`, `"../data/sarscov2_ct"`) }, "non-COVID"},
		{"L7", "the same scores in all rows", func(s *sound) {
			for _, m := range s.runs {
				m.scores[130].Score = m.scores[131].Score
			}
		}, "test/false/010.png and test/false/011.png"},
		{"L7", "images", func(s *sound) {
			s.images["chest"] = []data.Finding{{Code: "L7", Path: "a.png", Text: "the same pixels as b.png"}}
		}, "b.png"},
		{"L8", "another share of abnormal images", func(s *sound) { replace(t, &s.paper, "500/40/40", "500/10/90") }, "0.90"},
		{"L8", "two sets", func(s *sound) {
			m := *s.runs["AE0"]
			m.run.Data, m.scores = "ct", m.scores[:165]
			s.runs["other"] = &m
		}, "between the data sets"},
		{"L9", "no trivial rows", func(s *sound) { replace(t, &s.experiment, "[[method]]\nname = \"file_size\"", "") }, "file_size"},
		{"L9", "a telling file size", func(s *sound) {
			s.runs["chance2"].scores = s.runs["AE0"].scores
		}, "chance alone has an AUROC"},
		{"L10", "batch statistics", func(s *sound) { replace(t, &s.experiment, `"padim"`, "\"padim\"\nbatch_norm = \"batch\"") }, "batch_norm"},
		{"L10", "another batch, other scores", func(s *sound) {
			m := *s.runs["AE0"]
			m.run.Label, m.config = "AE batch 1", strings.Replace(m.config, "16", "1", 1)
			m.scores = append([]record.Score{}, m.scores...)
			m.scores[140].Score += .01
			s.runs["again"] = &m
		}, "train.score_batch only"},
		{"L11", "saturated", func(s *sound) {
			for i := range 4 {
				s.runs["PaDiM0"].scores[160+i].Score = 99
			}
		}, "share the highest"},
		{"L12", "another AUROC", func(s *sound) { s.runs["AE0"].figures[0].ID = "auroc/scaled" }, "auroc/scaled"},
		{"L13", "images", func(s *sound) {
			s.images["chest"] = []data.Finding{{Code: "L13", Path: "m.png", Text: "the lesion vanishes"}}
		}, "m.png"},
		{"L14", "images", func(s *sound) {
			s.images["chest"] = []data.Finding{{Code: "L14", Path: "m.png", Text: "a mask without an image"}}
		}, "m.png"},
		{"L15", "zero for none", func(s *sound) { s.runs["AE0"].figures[2].Value = 0 }, "aupro@.3 is recorded as exactly 0"},
		{"L15", "published zero", func(s *sound) { replace(t, &s.paper, "70.0", "0") }, "auroc is 0"},
		{"L16", "trapezoid", func(s *sound) { replace(t, &s.experiment, `"ap"`, `"ap", "auprc"`) }, "auprc"},
		{"L17", "another AUPRO", func(s *sound) { s.runs["AE0"].figures[2].ID = "aupro/200-steps/0.3" }, "aupro/200-steps"},
		{"L17", "published AUPRO", func(s *sound) { replace(t, &s.paper, "auroc =", "\"aupro@.3\" = { mean = 50 }\nauroc =") }, "prints AUPRO"},
		{"L18", "two pools", func(s *sound) { replace(t, &s.experiment, `"dice@q-val.01"`, `"dice@q-val.01", "dice-mean@q-val.01"`) }, "2 pools"},
		{"L18", "lungs", func(s *sound) {
			replace(t, &s.experiment, `"dice@q-val.01"`, `"dice@q-val.01", "dice@q-val.01:dilated:lungs"`)
		}, "2 pools"},
		{"L18", "two grids", func(s *sound) {
			s.runs["AE0"].maps, s.runs["PaDiM0"].maps = record.NewMaps(80, 4, 4), record.NewMaps(80, 8, 8)
		}, "4×4 and 8×8"},
		{"L18", "another Dice", func(s *sound) { s.runs["AE0"].figures[3].ID = "dice/other" }, "dice/other"},
		{"L19", "two seeds", func(s *sound) { replace(t, &s.experiment, "[0, 1, 2]", "[0, 1]") }, "2 seeds"},
		{"L19", "a row of one seed", func(s *sound) { delete(s.runs, "AE1"); delete(s.runs, "AE2") }, "AE (1)"},
		{"L20", "contaminated", func(s *sound) { replace(t, &s.experiment, `"padim"`, "\"padim\"\ncontamination = 0.3") }, "0.3"},
		{"L20", "a contaminated block", func(s *sound) { replace(t, &s.experiment, "size = 64", "size = 64\ncontamination = 0.2") }, "chest-64: contamination = 0.2"},
		{"L20", "a sweep", func(s *sound) {
			replace(t, &s.experiment, `"padim"`, "\"padim\"\nvary = { data.contamination = [0, 0.1, 0.5] }")
		}, "[0 0.1 0.5]"},
		{"L20", "an abnormal validation image", func(s *sound) { s.runs["AE0"].scores[0].Abnormal = true }, "1 abnormal images"},
		{"L21", "another version", func(s *sound) { s.runs["AE0"].run.Fingerprint.SHA256 = "beef" }, "2 versions"},
		{"L21", "another split", func(s *sound) { s.runs["AE0"].run.SplitRule = "training: 400" }, "2 splits"},
		{"L22", "no parameters", func(s *sound) { s.runs["AE0"].run.Parameters = 0 }, "no parameters"},
		{"L23", "two selections", func(s *sound) { replace(t, &s.experiment, `"padim"`, "\"padim\"\npatience = 5") }, "val-loss (padim)"},
		{"L23", "the best test step of a learning curve", oracle, "best-test (chest-64, AE, best test step (oracle), seed 0), last ("},
		{"L23", "the paper's", func(s *sound) { replace(t, &s.paper, `"last"`, `"val-loss"`) }, "selects by val-loss"},
		{"L24", "few", func(s *sound) {
			for _, m := range s.runs {
				m.scores = m.scores[104:]
			}
		}, "16 validation images"},
		{"L25", "images", func(s *sound) { s.images["chest"] = []data.Finding{{Code: "L25", Text: "12 files of 16 bits"}} }, "16 bits"},
		{"L26", "the same places", func(s *sound) {
			s.runs["AE0"].maps = places(t, func(i, k int) float32 { return float32(k%16) + float32(i%2) })
		}, "AE, seed 0: 99 % of"},
	} {
		t.Run(tt.code+" "+tt.name, func(t *testing.T) {
			s := newSound(t)
			tt.change(s)
			for _, f := range s.lint(t, nil) {
				if f.Code == tt.code && strings.Contains(f.Text, tt.want) {
					return
				}
			}
			t.Errorf("no finding %s with %q in %+v", tt.code, tt.want, s.lint(t, nil))
		})
	}
}

// places are 80 maps of 4×4 pixels, value of image i and pixel k.
func places(t *testing.T, value func(i, k int) float32) *record.Maps {
	t.Helper()
	m := record.NewMaps(80, 4, 4)
	for i := range m.N {
		v := make([]float32, 16)
		for k := range v {
			v[k] = value(i, k)
		}
		if err := m.Set(i, v); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// Maps of one value have no variance, of places or of images, for any number of them.
func TestBetweenPlacesOfOneValue(t *testing.T) {
	for n := 1; n < 100; n++ {
		m, v := record.NewMaps(n, 7, n), make([]float32, 7*n)
		for k := range v {
			v[k] = .3
		}
		for i := range n {
			if err := m.Set(i, v); err != nil {
				t.Fatal(err)
			}
		}
		if share := betweenPlaces(m); share != 0 {
			t.Errorf("%d maps of one value: %g of the variance is between places", n, share)
		}
	}
}

// oracle adds the row that a learning curve on the test images gives.
func oracle(s *sound) {
	for seed := range 3 {
		m := *s.runs[fmt.Sprint("AE", seed)]
		m.run.Label += ", best test step (oracle)"
		m.config = strings.Replace(m.config, "[train]\n", "[train]\nselection = \"best-test\"\n", 1)
		s.runs[fmt.Sprint("oracle", seed)] = &m
	}
}

// Every code is tested to fire, is explained and has a remedy.
func TestRules(t *testing.T) {
	if len(rules) != 26 {
		t.Errorf("%d rules, want L1 to L26", len(rules))
	}
	for i, r := range rules {
		if r.code != fmt.Sprintf("L%d", i+1) || r.why == "" || r.remedy == "" {
			t.Errorf("rule %d: %+v", i+1, r)
		}
	}
}

func TestAnnotations(t *testing.T) {
	s := newSound(t)
	replace(t, &s.experiment, "[0, 1, 2]", "[0, 1]")
	replace(t, &s.experiment, "[report]", "[report]\nannotate = { L19 = \"a first look\" }")
	found := s.lint(t, nil)
	if len(found) != 1 || found[0].Annotation != "a first look" {
		t.Errorf("%+v, want one annotated finding", found)
	}
	if found = s.lint(t, map[string]string{"L19": "said otherwise"}); found[0].Annotation != "said otherwise" {
		t.Errorf("%+v", found)
	}
	for _, notes := range []map[string]string{{"L27": "x"}, {"L5": " "}} {
		if _, err := Run(Input{}, notes); err == nil {
			t.Errorf("%v: no error", notes)
		}
	}
}
