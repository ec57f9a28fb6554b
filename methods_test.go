//go:build !reports

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/record"
	"thorax/framework/train"
	"thorax/graphs/nn"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

// small makes methods cheap enough for a test; what it leaves out has its
// defaults.
var small = map[string]string{
	"ae":         "width = 8\nhidden = 64",
	"vae":        "width = 8\nhidden = 64",
	"vqvae":      "width = 16\nresidual = 8\nlength = 8\nquantiser = { codes = 16 }\nlatent_weight = 0.5",
	"dn2":        "backbone = { random = true }",
	"padim":      "backbone = { random = true }\nchannels = 20",
	"cutpaste":   "width_scale = 0.125",
	"simsid":     "width = 4\npatches = 2\nitems = 10",
	"squid":      "width = 4\ntile = 16\nitems = 10",
	"patchcore":  "backbone = { random = true }\ncoreset_ratio = 0.05",
	"salient_ct": "quantiser = { codes = 64 }\nclassifier = { layers = 1 }",
}

// logit holds the unit of scores that are log-odds: however small they are, an
// error is judged against 1.
var logit = map[string]float64{"simsid": 1, "squid": 1}

// What every registered method must hold to, at 32×32 pixels.
func TestMethods(t *testing.T) {
	for _, name := range framework.Names() {
		t.Run(name, func(t *testing.T) {
			info, err := framework.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Source == "" || info.Family == "" {
				t.Errorf("source %q, family %q: name both", info.Source, info.Family)
			}
			switch m := info.New().(type) {
			case framework.Method:
				if err := m.Check(); err != nil && !strings.Contains(err.Error(), "make setup") {
					t.Errorf("the defaults do not pass Check: %v", err)
				}
				job := newJob(t, name)
				losses(t, job)
				scored(t, job)
			case framework.Direct:
				if err := m.Check(); err != nil {
					t.Errorf("the defaults do not pass Check: %v", err)
				}
				scored(t, newJob(t, name))
			}
		})
	}
}

// newJob returns a short run of a method on generated images.
func newJob(t *testing.T, name string) *train.Job {
	t.Helper()
	dir := t.TempDir()
	text := `
title = "Contract"
seeds = [1]
[[data]]
name = "phantom"
set = "phantom"
size = 32
validation = 0
phantom = { train = 60, test_normal = 8, test_abnormal = 8 }
[[method]]
name = "` + name + "\"\n" + small[name] + "\n"
	info, _ := framework.Lookup(name)
	if _, ok := info.New().(framework.Method); ok {
		text += "train = { steps = 12, batch = 4, score_batch = 6, save_every = 5, log_every = 1 }\n"
	}
	path := filepath.Join(dir, "contract.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := config.Load(path, framework.Registry{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := e.Runs()
	if err != nil {
		t.Fatal(err)
	}
	d, err := data.Open(runs[0].Data, cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	auroc, err := metric.Parse("auroc")
	if err != nil {
		t.Fatal(err)
	}
	return &train.Job{Run: runs[0], Info: info, Data: d, Results: dir, Metrics: []metric.Spec{auroc}}
}

// losses checks that every optimised loss falls when its update alone is
// repeated on one batch, and that every trained variable belongs to an update.
func losses(t *testing.T, job *train.Job) {
	t.Helper()
	m := job.Run.Keys.(framework.Method)
	s := nn.NewScope(1)
	in, feeds := batch(s, job)
	phases := m.Train(s, in)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	type update struct {
		name string
		loss tf.Output
		done []*tf.Operation
	}
	var updates []update
	optimised := map[*nn.Variable]bool{}
	for _, p := range phases {
		for _, u := range p.Updates {
			name := p.Name + "/" + u.Name
			us := s.Later(nil, nil)
			loss := u.Loss(us)
			grads := nn.VariableGradients(us, loss, u.Vars)
			if err := s.Err(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wait := []*tf.Operation{loss.Op}
			for i, g := range grads {
				wait = append(wait, g.Op)
				optimised[u.Vars[i]] = true
			}
			_, done := u.Optimizer.Apply(s.In("contract").In(name).After(wait...), u.Vars, grads, 100)
			updates = append(updates, update{name, loss, done})
		}
	}
	var left []string
	for _, v := range s.Variables() {
		if v.Trained && !optimised[v] {
			left = append(left, v.Path)
		}
	}
	if len(left) > 0 && len(updates) > 0 {
		t.Errorf("no update trains %v: take them into one, or make them buffers", left)
	}
	x, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for _, u := range updates {
		if err := x.Init(); err != nil {
			t.Fatal(err)
		}
		value := func() float64 {
			out, err := x.Run(feeds, []tf.Output{u.loss})
			if err != nil {
				t.Fatalf("%s: %v", u.name, err)
			}
			return float64(session.Values(out[0])[0])
		}
		first := value()
		if math.IsNaN(first) || math.IsInf(first, 0) {
			t.Errorf("%s: the loss is %g", u.name, first)
			continue
		}
		last := first
		for k := 0; k < 10 && !(last < first); k++ {
			if _, err := x.Run(feeds, nil, u.done...); err != nil {
				t.Fatalf("%s: %v", u.name, err)
			}
			last = value()
		}
		if !(last < first) {
			t.Errorf("%s: ten steps on one batch take the loss from %g to %g, want less", u.name, first, last)
		}
	}
}

// batch returns the inputs of a step and values for them.
func batch(s *nn.Scope, job *train.Job) (framework.Inputs, map[tf.Output]*tf.Tensor) {
	images := train.Split(job.Data, data.Train)
	in := framework.Inputs{Images: images.Len(), Batch: job.Run.Train.Batch, Size: images.Size()}
	var rows []framework.Sample
	var index []int64
	for i := range in.Batch {
		samples := []framework.Sample{{Image: images.Pixels(i), Clean: images.Pixels(i)}}
		if c, ok := job.Run.Keys.(framework.Corrupter); ok {
			samples = c.Corrupt(1, i, images.Pixels)
		}
		for _, r := range samples {
			rows, index = append(rows, r), append(index, int64(i))
		}
	}
	in.Rows = len(rows)
	shape := []int{in.Rows, in.Size, in.Size, 1}
	feeds := map[tf.Output]*tf.Tensor{}
	image := func(name string, of func(framework.Sample) []float32) tf.Output {
		x := op.Placeholder(s.Op(name), tf.Float, op.PlaceholderShape(tf.MakeShape(int64(in.Rows), int64(in.Size), int64(in.Size), 1)))
		v := make([]float32, in.Rows*in.Size*in.Size)
		for r, sample := range rows {
			copy(v[r*in.Size*in.Size:][:in.Size*in.Size], of(sample))
		}
		feeds[x] = session.Floats(shape, v)
		return x
	}
	number := func(name string, v []int64) tf.Output {
		x := op.Placeholder(s.Op(name), tf.Int64, op.PlaceholderShape(tf.MakeShape(int64(in.Rows))))
		feeds[x] = session.Ints([]int{in.Rows}, v)
		return x
	}
	in.Image = image("image", func(r framework.Sample) []float32 { return r.Image.V })
	in.Clean = image("clean", func(r framework.Sample) []float32 { return r.Clean.V })
	in.Mask = image("mask", func(r framework.Sample) []float32 { return r.Mask.V })
	labels := make([]int64, in.Rows)
	for r, sample := range rows {
		labels[r] = sample.Label
	}
	in.Label, in.Index = number("label", labels), number("index", index)
	return in, feeds
}

// scored runs the job and checks its record, its scores, and that its
// checkpoint alone gives them again, whatever the batch.
func scored(t *testing.T, job *train.Job) {
	t.Helper()
	if did, err := job.Do(context.Background()); !did || err != nil {
		t.Fatalf("run: %v, %v", did, err)
	}
	f := &record.Folder{Dir: job.Dir()}
	run, err := f.Run()
	if err != nil || run.Status != record.Complete || !run.Trained {
		t.Errorf("run.json: %+v, %v", run, err)
	}
	stored, err := f.Scores()
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != 16 {
		t.Fatalf("%d scores, want 16", len(stored))
	}
	scale, same := 0.0, true
	for _, s := range stored {
		scale = max(scale, math.Abs(s.Score))
		same = same && s.Score == stored[0].Score
	}
	if same || math.IsInf(scale, 0) {
		t.Errorf("scores %v: need finite ones that differ", stored)
	}

	model, err := train.OpenModel(job.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	images := train.Split(job.Data, data.Test)
	n := 0
	if err := model.Score(images, func(i int, score float64, m []float32) error {
		if float32(score) != float32(stored[i].Score) { // scores.csv has nine digits
			t.Errorf("image %d scores %g from the checkpoint, %g in scores.csv", i, score, stored[i].Score)
		}
		if m != nil && len(m) != images.Size()*images.Size() {
			t.Errorf("image %d: a map of %d pixels, want %d×%d", i, len(m), images.Size(), images.Size())
		}
		n++
		return nil
	}); err != nil || n != 16 {
		t.Errorf("scored %d images from the checkpoint: %v", n, err)
	}

	if m, ok := job.Run.Keys.(framework.Method); ok {
		arrays := golden(t, filepath.Join(job.Dir(), "checkpoint", "final.safetensors"))
		moved(t, m, job, arrays)
		for _, rows := range []int{1, 5} {
			for i, got := range scoresOf(t, m, job.Run.Seed, arrays, images, rows) {
				if !(math.Abs(got-stored[i].Score) <= 1e-5*max(scale, logit[job.Run.Method])) {
					t.Errorf("image %d scores %.9g in batches of %d, %.9g in batches of %d", i, got, rows, stored[i].Score, job.Run.Train.ScoreBatch)
				}
			}
		}
	}
}

func golden(t *testing.T, path string) map[string]weights.Array {
	t.Helper()
	arrays, err := weights.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return arrays
}

// moved checks that training changed every variable that is optimised.
func moved(t *testing.T, m framework.Method, job *train.Job, final map[string]weights.Array) {
	t.Helper()
	s := nn.NewScope(job.Run.Seed)
	in, _ := batch(s, job)
	var still []string
	for _, p := range m.Train(s, in) {
		for _, u := range p.Updates {
			for _, v := range u.Vars {
				start, _, err := v.Initial()
				if err != nil {
					t.Fatal(err)
				}
				end, err := final[v.Path].Float32()
				if err != nil {
					t.Fatalf("%s: %v", v.Path, err)
				}
				// A bias before a batch norm has no gradient: only a decay moves it.
				layer, bias := strings.CutSuffix(v.Path, "/bias")
				if slices.Equal(start, end) && !(bias && s.Lookup(layer+"/norm/gamma") != nil) {
					still = append(still, fmt.Sprintf("%s (update %s)", v.Path, u.Name))
				}
			}
		}
	}
	if len(still) > 0 {
		t.Errorf("training did not change %v", still)
	}
}

// scoresOf builds the scoring graph alone, loads it and scores in batches of rows.
func scoresOf(t *testing.T, m framework.Method, seed uint64, arrays map[string]weights.Array, images framework.Images, rows int) []float64 {
	t.Helper()
	s := nn.NewScope(seed)
	size := images.Size()
	x := op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(int64(rows), int64(size), int64(size), 1)))
	scores := m.Score(s.Inference(), x)
	sess, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	if shape := nn.Shape(s, scores.Image); !slices.Equal(shape, []int{rows}) {
		t.Errorf("image scores have shape %v, want [%d]", shape, rows)
	}
	if scores.Map.Op != nil {
		if shape := nn.Shape(s, scores.Map); !slices.Equal(shape, []int{rows, size, size}) {
			t.Errorf("anomaly maps have shape %v, want [%d %d %d]", shape, rows, size, size)
		}
	}
	for _, v := range s.Variables() {
		a, ok := arrays[v.Path]
		if !ok {
			t.Fatalf("the checkpoint has no %s", v.Path)
		}
		if v.DType == tf.Int64 {
			ints, err := a.Int64()
			if err == nil {
				err = sess.SetInts(v, a.Shape, ints)
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		floats, err := a.Float32()
		if err == nil {
			err = sess.Set(v, a.Shape, floats)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var all []float64
	for first := 0; first < images.Len(); first += rows {
		var v []float32
		for j := range rows {
			v = append(v, images.Pixels(min(first+j, images.Len()-1)).V...)
		}
		out, err := sess.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{rows, size, size, 1}, v)}, []tf.Output{scores.Image})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range session.Values(out[0])[:min(rows, images.Len()-first)] {
			all = append(all, float64(f))
		}
	}
	return all
}
