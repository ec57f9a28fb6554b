package synthesis

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
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
	"thorax/graphs/nn/nntest"
)

var cache string // of decoded images, shared by the tests

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "synthesis")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		cache = dir
		return m.Run()
	}())
}

// small is a data block of a few generated images.
const small = `
seeds = [0]
[[data]]
set = "phantom"
size = 32
validation = 0
phantom = { train = 40, test_normal = 8, test_abnormal = 8 }
`

// A result is a finished run.
type result struct {
	data    *data.Dataset
	folder  *record.Folder
	scores  []record.Score
	figures map[string]float64
	log     []record.Step
}

// run trains and scores the only run of an experiment with the given data and
// method blocks.
func run(t *testing.T, experiment string, metrics ...string) result {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.toml")
	must(t, os.WriteFile(path, []byte(experiment), 0o600))
	e, err := config.Load(path, framework.Registry{}, nil)
	must(t, err)
	runs, err := e.Runs()
	must(t, err)
	info, err := framework.Lookup(runs[0].Method)
	must(t, err)
	d, err := data.Open(runs[0].Data, cache)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	job := train.Job{Run: runs[0], Info: info, Data: d, Results: t.TempDir()}
	for _, m := range metrics {
		spec, err := metric.Parse(m)
		must(t, err)
		job.Metrics = append(job.Metrics, spec)
	}
	_, err = job.Do(context.Background())
	must(t, err)
	r := result{data: d, figures: map[string]float64{}}
	r.folder, err = record.Open(job.Dir())
	must(t, err)
	r.scores, err = r.folder.Scores()
	must(t, err)
	r.log, err = r.folder.Log()
	must(t, err)
	figures, err := r.folder.Figures()
	must(t, err)
	for i, f := range figures {
		if !f.OK {
			t.Fatalf("%s was not computed: %s", f.Name, f.Reason)
		}
		r.figures[metrics[i]] = f.Value
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// falls checks that the mean of the last third of a logged value is below the
// first by the given share.
func (r result) falls(t *testing.T, name string, share float64) {
	t.Helper()
	var v []float64
	for _, s := range r.log {
		if x, ok := s.Losses[name]; ok {
			v = append(v, x)
		}
	}
	if len(v) < 4 {
		t.Fatalf("%s is logged %d times", name, len(v))
	}
	mean := 0.0
	late := v[len(v)*2/3:]
	for _, x := range late {
		mean += x / float64(len(late))
	}
	t.Logf("%s: %.4g", name, v)
	if !(mean < (1-share)*v[0]) {
		t.Errorf("%s went from %.4g to %.4g, need a fall by %g or more", name, v[0], mean, share)
	}
}

// rebatched checks that the test images score the same in batches of n.
func (r result) rebatched(t *testing.T, n int) {
	t.Helper()
	c, err := config.ReadRun(r.folder.Path("config.toml"), framework.Registry{})
	must(t, err)
	c.Train.ScoreBatch = n
	toml, err := c.TOML()
	must(t, err)
	must(t, r.folder.WriteConfig(toml))
	m, err := train.OpenModel(r.folder.Path())
	must(t, err)
	defer m.Close()
	var first []float64
	for _, s := range r.scores {
		if s.Split == data.Test.String() {
			first = append(first, s.Score)
		}
	}
	worst := 0.0
	must(t, m.Score(train.Split(r.data, data.Test), func(i int, score float64, _ []float32) error {
		worst = max(worst, math.Abs(score-first[i])/math.Abs(first[i]))
		return nil
	}))
	if worst > 1e-5 {
		t.Errorf("in batches of %d scores move by %.2g, need 1e-5 or less", n, worst)
	}
}

// photo is an image without equal pixels.
func photo(seed uint64, side int) data.Pixels {
	im := data.Pixels{W: side, H: side, V: nntest.Draw(seed, side*side)}
	for i, v := range im.V {
		im.V[i] = float32(0.2 + 0.5*float64(i)/float64(len(im.V)) + 0.02*math.Tanh(float64(v)))
	}
	return im
}

// pure checks that Corrupt repeats, changes with seed and image, and leaves its
// input alone.
func pure(t *testing.T, m framework.Corrupter) {
	t.Helper()
	photos := []data.Pixels{photo(0, 32), photo(1, 32), photo(2, 32)}
	image := func(i int) data.Pixels { return photos[i%len(photos)] }
	first := m.Corrupt(7, 1, image)
	if !reflect.DeepEqual(first, m.Corrupt(7, 1, image)) {
		t.Error("a second call gives other samples")
	}
	if reflect.DeepEqual(first, m.Corrupt(8, 1, image)) {
		t.Error("another seed gives the same samples")
	}
	if reflect.DeepEqual(first, m.Corrupt(7, 2, image)) {
		t.Error("another image gives the same samples")
	}
	for i := range photos {
		if !reflect.DeepEqual(photos[i], photo(uint64(i), 32)) {
			t.Errorf("image %d was written to", i)
		}
	}
}

// rejects checks that Check names the key that edit spoils.
func rejects[M framework.Method](t *testing.T, fresh func() M, key string, edit func(m M)) {
	t.Helper()
	m := fresh()
	must(t, m.Check())
	edit(m)
	if err := m.Check(); err == nil || len(err.Error()) < len(key) || err.Error()[:len(key)+1] != key+":" {
		t.Errorf("%s: Check says %v", key, err)
	}
}

// parameters counts the trained variables of forward at side pixels.
func parameters(t *testing.T, side int, forward func(s *nn.Scope, x tf.Output)) (n int64) {
	t.Helper()
	s := nn.NewScope(1)
	forward(s, op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(2, int64(side), int64(side), 1))))
	must(t, s.Err())
	for _, v := range s.Trainable() {
		n += v.Size()
	}
	return n
}

// noise returns constant images [n,side,side,1].
func noise(s *nn.Scope, n, side int) tf.Output {
	return nn.Consts(s, nntest.Draw(5, n*side*side), n, side, side, 1)
}
