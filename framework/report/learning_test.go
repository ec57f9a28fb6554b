package report

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/plot/plotter"

	"thorax/framework/record"
)

// logTraining writes the log of a made-up GAN of 300 steps: 75 steps are an epoch, and
// the AUROC peaks at step 200 in seed 0 and at step 300 in the others.
func logTraining(t *testing.T, f *record.Folder, seed int) {
	t.Helper()
	if err := f.WriteConfig([]byte("[train]\nbatch = 16\n")); err != nil {
		t.Fatal(err)
	}
	for step := 50; step <= 300; step += 50 {
		x := float64(step)
		s := record.Step{Step: step, Phase: "adversaries", Losses: map[string]float64{
			"generator": 4 * math.Exp(-x/50), "generator/reconstruction": 3 * math.Exp(-x/50), "generator/adversarial": math.Exp(-x / 50),
			"discriminator": .7 - x/1000, "discriminator/real": .3 + .01*float64(seed), "discriminator/fake": -.1,
		}}
		if step%100 == 0 {
			auroc := .6 + x/1000
			if seed == 0 && step == 300 {
				auroc = .75
			}
			if err := f.AppendLog(record.Step{Step: step, Phase: s.Phase, TestAUROC: &auroc}); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.AppendLog(s); err != nil {
			t.Fatal(err)
		}
	}
}

// makeTrained writes made-up runs of one data set, of which the first row has logs.
func makeTrained(t *testing.T, rule string) []record.Entry {
	t.Helper()
	root := t.TempDir()
	for seed := range 2 {
		makeRun(t, root, 0, "ct-32", 0, seed, made{label: "GAN", method: "gan", family: "proposed", shift: 1})
		makeRun(t, root, 0, "ct-32", 1, seed, made{label: "chance", method: "chance", family: trivial})
		f, err := record.Open(filepath.Join(root, "ct-32/gan", fmt.Sprintf("seed-%d", seed)))
		if err != nil {
			t.Fatal(err)
		}
		logTraining(t, f, seed)
		run, err := f.Run()
		if err != nil {
			t.Fatal(err)
		}
		run.SplitRule = rule
		if seed == 1 {
			run.Status, run.Error = record.Failed, "step 301: loss generator is NaN"
		}
		if err := f.WriteRun(run); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := record.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestLearning(t *testing.T) {
	sets, err := collect(makeTrained(t, "validation: 134 of 1334 normal training images; training: 1200"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := sets[0]
	p, err := newLearning(s, s.rows[0])
	if err != nil {
		t.Fatal(err)
	}
	if p.x != "epoch" || p.last != 4 || len(p.panels) != 3 { // 300 steps of 16 of 1,200 images
		t.Fatalf("%d panels over %g by %s", len(p.panels), p.last, p.x)
	}
	auroc, discriminator, generator := p.panels[0], p.panels[1], p.panels[2]
	if !strings.Contains(auroc.title, "oracle") || auroc.y != "AUROC" || len(auroc.lines) != 2 {
		t.Errorf("AUROC: %q, %q, %d lines", auroc.title, auroc.y, len(auroc.lines))
	}
	for seed, want := range []string{"seed 0: 0.750 last, 0.800 best, at epoch 2.67", "seed 1, failed: 0.900 last, 0.900 best, at epoch 4"} {
		if got := auroc.lines[seed].label; got != want {
			t.Errorf("seed %d: %q, want %q", seed, got, want)
		}
	}
	if got := fmt.Sprint(discriminator.title, discriminator.terms, discriminator.logarithmic()); got != "discriminator[total fake real] false" { // fake is negative
		t.Errorf("discriminator: %s", got)
	}
	if got := fmt.Sprint(generator.title, generator.terms, generator.logarithmic()); got != "generator[total adversarial reconstruction] true" { // over e⁵
		t.Errorf("generator: %s", got)
	}
	if len(generator.lines) != 6 || len(generator.lines[0].points) != 6 || generator.lines[0].points[5] != (plotter.XY{X: 4, Y: 4 * math.Exp(-6)}) {
		t.Errorf("generator: %d lines, the first %v", len(generator.lines), generator.lines[0].points)
	}
	if _, err := newLearning(s, s.rows[1]); !errors.Is(err, errNothing) {
		t.Errorf("a row without logs: %v", err)
	}
}

// Where the number of training images is unknown, the axis counts steps.
func TestLearningBySteps(t *testing.T) {
	sets, err := collect(makeTrained(t, ""), Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newLearning(sets[0], sets[0].rows[0])
	if err != nil || p.x != "step" || p.last != 300 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Phases in turn have panels of their own; a name that a phase shares with its update
// is said once.
func TestLearningPhases(t *testing.T) {
	p := &learning{x: "step"}
	p.add(&run{state: record.State(record.Complete)}, []record.Step{
		{Step: 1, Phase: "autoencoder", Losses: map[string]float64{"autoencoder": 1}},
		{Step: 2, Phase: "encoder", Losses: map[string]float64{"izi": 2}},
	}, 0, 1)
	var titles []string
	for _, q := range p.panels {
		titles = append(titles, q.title)
	}
	if got := strings.Join(titles, "|"); got != "autoencoder|encoder: izi" {
		t.Error(got)
	}
}

func TestLearningFiles(t *testing.T) {
	entries := makeTrained(t, "training: 1200")
	out := t.TempDir()
	if dir := os.Getenv("THORAX_SCREENSHOT"); dir != "" { // for people to look at
		out = dir
	}
	files, left, err := Plots(out, entries, []string{"curve"}, Options{Plots: []string{"svg", "png"}})
	if err != nil || len(left) > 0 || len(files) != 2 || filepath.Base(files[0]) != "curve-ct-32-gan.svg" {
		t.Fatalf("%v, left out %q, files %q", err, left, files)
	}
	svg, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	page, err := Write(t.TempDir(), entries, Options{Resamples: 100, Plots: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	html, err := os.ReadFile(page[len(page)-1])
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"the plot": string(svg), "the page": string(html)} {
		for _, want := range []string{"reconstruction", "epoch", "an oracle", "0.800 best"} {
			if !strings.Contains(text, want) || strings.Contains(text, "NaN\"") {
				t.Errorf("%s lacks %q, or holds NaN", name, want)
			}
		}
	}
	if _, left, err = Plots(out, entries[:1], []string{"curve"}, Options{Plots: []string{"svg"}}); err != nil || len(left) != 1 || !strings.Contains(left[0], "train.jsonl") {
		t.Errorf("no log: %v, left out %q", err, left)
	}
}

// By hand: seven points in stretches of three.
func TestThin(t *testing.T) {
	var points plotter.XYs
	for i := range 7 {
		points = append(points, plotter.XY{X: float64(i), Y: float64(i * i)})
	}
	got := thin(points, 3)
	for i, want := range (plotter.XYs{{X: 1, Y: 5. / 3}, {X: 4, Y: 50. / 3}, {X: 6, Y: 36}}) {
		if math.Abs(got[i].X-want.X)+math.Abs(got[i].Y-want.Y) > 1e-12 {
			t.Errorf("stretch %d: %v, want %v", i, got[i], want)
		}
	}
}
