package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"golang.org/x/sys/unix"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/record"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
	"thorax/graphs/session"
)

func init() {
	for name, m := range map[string]func() any{
		"line":  func() any { return &line{Rate: 0.05} },
		"noted": func() any { return &noted{} },
	} {
		framework.Register(framework.Info{Name: name, Family: "test", Source: "this test", New: m})
	}
}

// line learns an image of weights that maps an image to its mean, with noise,
// a running mean of what it saw, and a fitted threshold: every kind of state.
type line struct {
	Rate  float64 `toml:"rate"`
	Wide  bool    `toml:"wide"`  // a large variable, so that checkpoints are large
	Burst int     `toml:"burst"` // the step at which the rate grows beyond bounds
}

func (m *line) Check() error { return nil }

func (m *line) value(s *nn.Scope, x tf.Output) tf.Output {
	n := nn.Size(s, x)
	flat := nn.Flatten(s, x)
	w := s.Variable("weight", nn.Normal(0.1), n, 1)
	return nn.Add(s, nn.Reshape(s, nn.MatMul(s, flat, w), -1), s.In("bias").Variable("b", nn.Zeros()))
}

func (m *line) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	y := m.value(s, in.Image)
	target := nn.MeanImage(s, in.Image)
	noise := nn.RandomNormal(s.In("noise"), in.Rows)
	loss := nn.MeanAll(s, nn.Square(s, nn.Sub(s, y, nn.Add(s, target, nn.Scale(s, noise, 0.1)))))
	mean := s.In("seen").Buffer("mean", nn.Zeros())
	s.Assign(mean, loss, func(s *nn.Scope, old tf.Output) tf.Output {
		return nn.Add(s, nn.Scale(s, old, 0.9), nn.Scale(s, nn.MeanAll(s, y), 0.1))
	})
	vars := s.Trainable()
	if m.Wide {
		wide := s.In("wide").Variable("v", nn.Zeros(), 1<<18)
		loss = nn.Add(s, loss, nn.MeanAll(s, nn.Square(s, wide)))
		vars = s.Trainable()
	}
	if m.Burst > 0 {
		// exp(100·steps past) overflows.
		past := nn.Maximum(s, nn.Shift(s, nn.Cast(s, s.GlobalStep(), tf.Float), -float64(m.Burst)), nn.Const(s, 0))
		loss = nn.Mul(s, loss, nn.Exp(s, nn.Scale(s, past, 100)))
	}
	threshold := s.In("fit").Buffer("threshold", nn.Zeros())
	at := s.Inference()
	sum, n := 0.0, 0
	return []framework.Phase{
		framework.Minimize("line", loss, vars, optim.NewAdam(m.Rate)),
		{Name: "fit", Fit: &framework.Fit{Over: data.Train, Outputs: []tf.Output{m.value(at, in.Image)},
			Batch: func(out []framework.Rows) error {
				for _, v := range out[0].V {
					sum += float64(v)
					n++
				}
				return nil
			},
			Done: func() ([]framework.Value, error) {
				return []framework.Value{{Variable: threshold, V: []float32{float32(sum / float64(n))}}}, nil
			}}},
		{Name: "again", Steps: 7, Updates: []framework.Update{{
			Name: "again", Vars: vars[:1], Optimizer: optim.NewSGD(0.01, 0.9),
			Loss: func(s *nn.Scope) tf.Output { return nn.MeanAll(s, nn.Square(s, nn.Sub(s, y, s.Read(threshold)))) },
		}}},
	}
}

func (m *line) Score(s *nn.Scope, x tf.Output) framework.Scores {
	y := m.value(s, x)
	t := s.In("fit").Buffer("threshold", nn.Zeros())
	return framework.Scores{Image: nn.Square(s, nn.Sub(s, y, s.Read(t)))}
}

// noted is a direct method.
type noted struct {
	Mean float64 `toml:"-"`
}

func (m *noted) Check() error { return nil }
func (m *noted) Fit(x framework.Images, _ uint64) error {
	for i := range x.Len() {
		for _, v := range x.Pixels(i).V {
			m.Mean += float64(v) / float64(x.Len())
		}
	}
	return nil
}
func (m *noted) Score(x framework.Images, i int) (float64, []float32, error) {
	sum := 0.0
	for _, v := range x.Pixels(i).V {
		sum += float64(v)
	}
	return math.Abs(sum - m.Mean), nil, nil
}

// cache holds the decoded images of all tests.
var cache string

const set = `
[[data]]
name = "phantom"
set = "phantom"
size = 32
validation = 0
phantom = { train = 30, test_normal = 6, test_abnormal = 6 }
`

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "thorax-train-")
	if err != nil {
		panic(err)
	}
	cache = dir
	if root := os.Getenv("THORAX_TEST_HOLD"); root != "" {
		hold(root)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// job returns a job of a method on the set; keys are TOML lines of its row.
func job(t testing.TB, results, method, keys string) *Job {
	t.Helper()
	j, err := newJob(results, method, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Data.Close() })
	return j
}

func newJob(results, method, keys string) (*Job, error) { return newJobOn(results, set, method, keys) }

func newJobOn(results, set, method, keys string) (*Job, error) {
	path := filepath.Join(results, "x.toml")
	text := "seeds = [5]\n" + set + "[[method]]\nname = \"" + method + "\"\n" + keys
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, err
	}
	e, err := config.Load(path, framework.Registry{}, nil)
	if err != nil {
		return nil, err
	}
	runs, err := e.Runs()
	if err != nil {
		return nil, err
	}
	d, err := data.Open(runs[0].Data, cache)
	if err != nil {
		return nil, err
	}
	info, err := framework.Lookup(method)
	if err != nil {
		return nil, err
	}
	spec, err := metric.Parse("auroc")
	return &Job{Run: runs[0], Info: info, Data: d, Results: results, Metrics: []metric.Spec{spec}}, err
}

// watcher is a Progress that calls step after every step of a phase.
type watcher struct {
	step  func(phase string, done int)
	phase string
	notes []string
}

func (w *watcher) Phase(name string, done, total int) { w.phase = name }
func (w *watcher) Step(done int, _ map[string]float64, _ float64) {
	if w.step != nil {
		w.step(w.phase, done)
	}
}
func (w *watcher) Note(text string) { w.notes = append(w.notes, text) }

const budget = "train = { steps = 40, batch = 4, save_every = 15, log_every = 10, score_batch = 4 }\n"

func scoresOf(t *testing.T, j *Job) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(j.Dir(), "scores.csv"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A run that is told to stop, at any step of any phase, is saved, and goes on to
// the bytes of a run that was left alone.
func TestInterrupt(t *testing.T) {
	for _, method := range []string{"line", "noted"} {
		keys := budget
		if method == "noted" {
			keys = ""
		}
		left := job(t, t.TempDir(), method, keys)
		if did, err := left.Do(context.Background()); !did || err != nil {
			t.Fatal(did, err)
		}
		if did, err := left.Do(context.Background()); did || err != nil {
			t.Errorf("a complete run is done again: %v, %v", did, err)
		}
		stopped := job(t, t.TempDir(), method, keys)
		at := map[string][]int{"line": {1, 2, 15, 23, 39}, "fit": {4, 28}, "again": {1, 6}, "scoring test": {1, 8}}
		if method == "noted" {
			at = map[string][]int{"scoring test": {1, 8}}
		}
		stops := 0
		for _, phase := range []string{"line", "fit", "again", "scoring test"} {
			for _, n := range at[phase] {
				ctx, cancel := context.WithCancel(context.Background())
				j := job(t, stopped.Results, method, keys)
				j.Progress = &watcher{step: func(p string, done int) {
					if p == phase && done == n {
						cancel()
					}
				}}
				_, err := j.Do(ctx)
				cancel()
				if !errors.Is(err, ErrInterrupted) {
					t.Errorf("%s, %d of %s: %v, want ErrInterrupted", method, n, phase, err)
				}
				run, err := (&record.Folder{Dir: j.Dir()}).Run()
				if err != nil || run.Status != record.Running {
					t.Errorf("%s, %d of %s: status %s, %v", method, n, phase, run.Status, err)
				}
				stops++
			}
		}
		again := job(t, stopped.Results, method, keys)
		if did, err := again.Do(context.Background()); !did || err != nil {
			t.Fatal(did, err)
		}
		if got, want := scoresOf(t, again), scoresOf(t, left); got != want {
			t.Errorf("%s: stopped %d times, scores\n%s\nleft alone\n%s", method, stops, got, want)
		}
	}
}

// A step is one call of TensorFlow, and the counter another; a checkpoint reads
// all variables in one.
func TestCalls(t *testing.T) {
	j := job(t, t.TempDir(), "line", "train = { steps = 30, batch = 4, save_every = 1000, log_every = 10 }\n")
	tr, p := prepared(t, j)
	before := tr.session.Runs
	if err := tr.phase(p.phases[0]); err != nil {
		t.Fatal(err)
	}
	if got := tr.session.Runs - before; got != 60 {
		t.Errorf("30 steps took %d calls, want 60", got)
	}
}

// prepared returns a trainer at the start of a job's first phase.
func prepared(t *testing.T, j *Job) (*trainer, *program) {
	t.Helper()
	j.Progress = silent{}
	folder, err := record.Create(j.Dir())
	if err != nil {
		t.Fatal(err)
	}
	m := j.Run.Keys.(framework.Method)
	r := &runner{Job: j, folder: folder, ctx: context.Background()}
	in, err := r.inputs(m)
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(m, j.Run.Seed, in, r.steps(in))
	if err != nil {
		t.Fatal(err)
	}
	x, err := session.New(p.scope, r.options())
	if err == nil {
		err = x.Init()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return &trainer{runner: r, method: m, program: p, session: x, dir: folder.Path("checkpoint")}, p
}

// A loss that is not finite stops the run with step, name and the checkpoint to
// go back to, and no checkpoint holds such a value.
func TestNotFinite(t *testing.T) {
	j := job(t, t.TempDir(), "line", "burst = 20\ntrain = { steps = 100, batch = 4, save_every = 10, log_every = 1000 }\n")
	_, err := j.Do(context.Background())
	last := filepath.Join(j.Dir(), "checkpoint", "step-000000020-00.safetensors")
	for _, want := range []string{"phase line: loss line is not finite", "at step 2", "the last good checkpoint is " + last, "learning rate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	run, _ := (&record.Folder{Dir: j.Dir()}).Run()
	if run.Status != record.Failed || !strings.Contains(run.Error, "not finite") {
		t.Errorf("run.json: %s, %q", run.Status, run.Error)
	}
	saved := list(filepath.Join(j.Dir(), "checkpoint"))
	if !slices.Equal(saved, []string{"step-000000010-00.safetensors", "step-000000020-00.safetensors"}) {
		t.Errorf("checkpoints %v", saved)
	}
	for _, name := range saved {
		c, err := load(filepath.Join(j.Dir(), "checkpoint", name))
		if err != nil {
			t.Fatal(err)
		}
		for path, a := range c.arrays {
			if v, err := a.Float32(); err == nil && !finite(v) {
				t.Errorf("%s: %s is not finite", name, path)
			}
		}
	}
}

// A disk that fills up while a checkpoint is written is a clear error, and the
// checkpoint before it stays; with room again the run goes on to the same bytes.
func TestFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	keys := "wide = true\n" + budget
	left := job(t, t.TempDir(), "line", keys)
	if _, err := left.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	j := job(t, t.TempDir(), "line", keys)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	j.Progress = &watcher{step: func(phase string, done int) {
		if phase == "line" && done == 20 {
			if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: old.Max}); err != nil {
				t.Error(err)
			}
		}
	}}
	_, err := j.Do(context.Background())
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"save checkpoint: write ", "step-000000030-00.safetensors", "file too large"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	dir := filepath.Join(j.Dir(), "checkpoint")
	if saved := list(dir); !slices.Equal(saved, []string{"step-000000015-00.safetensors"}) {
		t.Errorf("checkpoints %v", saved)
	} else if _, err := load(filepath.Join(dir, saved[0])); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files in %s, want only the checkpoint", len(entries), dir)
	}
	again := job(t, j.Results, "line", keys)
	if _, err := again.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if scoresOf(t, again) != scoresOf(t, left) {
		t.Error("the scores differ from those of a run that was left alone")
	}
}

// A damaged checkpoint is passed over for the one before it, with a note.
func TestDamaged(t *testing.T) {
	left := job(t, t.TempDir(), "line", budget)
	if _, err := left.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	results := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	first := job(t, results, "line", budget)
	first.Progress = &watcher{step: func(phase string, done int) {
		if phase == "line" && done == 33 {
			cancel()
		}
	}}
	if _, err := first.Do(ctx); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	newest := filepath.Join(first.Dir(), "checkpoint", "step-000000033-00.safetensors")
	if err := os.Truncate(newest, 100); err != nil {
		t.Fatal(err)
	}
	second := job(t, results, "line", budget)
	w := &watcher{}
	second.Progress = w
	if _, err := second.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(w.notes) != 1 || !strings.Contains(w.notes[0], newest) {
		t.Errorf("notes %q, want one that names %s", w.notes, newest)
	}
	if scoresOf(t, second) != scoresOf(t, left) {
		t.Error("the scores differ from those of a run that was left alone")
	}
}

// A folder that holds a run of another configuration is refused with the keys
// that differ.
func TestDiffers(t *testing.T) {
	results := t.TempDir()
	if _, err := job(t, results, "line", budget).Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	other := job(t, results, "line", "rate = 0.01\n"+budget)
	_, err := other.Do(context.Background())
	if !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "rate") || !strings.Contains(err.Error(), "--redo") {
		t.Errorf("%v, want ErrDiffers that names rate and --redo", err)
	}
	other.Redo = true
	if did, err := other.Do(context.Background()); !did || err != nil {
		t.Errorf("with redo: %v, %v", did, err)
	}
}

// hold is a process that works on a run until its standard input ends.
func hold(results string) {
	j, err := newJob(results, "line", budget)
	if err == nil {
		j.Progress = &watcher{step: func(_ string, done int) {
			if done == 3 {
				fmt.Println("holding")
				os.Stdin.Read(make([]byte, 1))
			}
		}}
		_, err = j.Do(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Two processes never work on one run; one that was killed is taken over.
func TestLock(t *testing.T) {
	results := t.TempDir()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path)
	c.Env = append(os.Environ(), "THORAX_TEST_HOLD="+results)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	said := make([]byte, 100)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "holding\n" {
		t.Fatalf("the other process said %q, %v, %s", said[:n], err, stderr.String())
	}
	j := job(t, results, "line", budget)
	did, err := j.Do(context.Background())
	if did || !errors.Is(err, record.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(c.Process.Pid)) {
		t.Errorf("%v, %v; want ErrLocked that names process %d", did, err, c.Process.Pid)
	}
	c.Process.Kill()
	c.Wait()
	if did, err := j.Do(context.Background()); !did || err != nil {
		t.Errorf("after the other was killed: %v, %v", did, err)
	}
}

// Memory does not grow with the steps: 2,000 batches of 1 MiB are fed.
func TestMemory(t *testing.T) {
	j := job(t, t.TempDir(), "line", "train = { steps = 2000, batch = 256, save_every = 10000, log_every = 1000 }\n")
	resident := map[int]int64{}
	tr, p := prepared(t, j)
	j.Progress = &watcher{step: func(_ string, done int) {
		if done == 200 || done == 2000 {
			resident[done] = rss()
		}
	}}
	if err := tr.phase(p.phases[0]); err != nil {
		t.Fatal(err)
	}
	if resident[200] == 0 {
		t.Skip("this system does not tell the resident size")
	}
	t.Logf("resident: %d MiB at step 200, %d MiB at step 2000", resident[200]>>20, resident[2000]>>20)
	if grown := resident[2000] - resident[200]; grown > 32<<20 {
		t.Errorf("grew by %d MiB, want at most 32", grown>>20)
	}
	runtime.KeepAlive(tr)
}

// rss is the resident size of this process in bytes.
func rss() int64 {
	var pages, resident int64
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fmt.Sscan(string(b), &pages, &resident)
	return resident * int64(os.Getpagesize())
}
