//go:build !reports && linux

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"thorax/framework/record"
	"thorax/graphs/weights"
)

// TestMain makes the test program the program itself where a test asks for it,
// so that tests can kill it.
func TestMain(m *testing.M) {
	if os.Getenv("THORAX_TEST_COMMAND") == "1" {
		main()
		return
	}
	dir, err := os.MkdirTemp("", "thorax-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cache = dir
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// cache holds the decoded images of all tests: drawing them takes longest.
var cache string

const killed = `
title = "Runs that are killed"
seeds = [3]

[[data]]
name = "phantom"
set = "phantom"
size = 32
validation = 0
phantom = { train = 60, test_normal = 8, test_abnormal = 8 }

[[method]]
name = "ae"
width = 4
hidden = 16
latent = 4
train = { steps = 150, batch = 4, save_every = 12, log_every = 5 }

[[method]]
name = "padim"
channels = 8
backbone = { random = true }

[[method]]
name = "grey_histogram"

[report]
metrics = ["auroc", "ap", "pixel-ap"]
formats = ["md"]
maps = true
`

// A program is the command line with an experiment and a cache of its own.
type program struct {
	t    *testing.T
	dir  string
	exec string
}

func newProgram(t *testing.T) *program {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, dir: t.TempDir(), exec: path}
	if err := os.WriteFile(filepath.Join(p.dir, "killed.toml"), []byte(killed), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// start starts `thorax run` of one row, or of all for "".
func (p *program) start(results, row string) (*exec.Cmd, *bytes.Buffer) {
	p.t.Helper()
	args := []string{"run", filepath.Join(p.dir, "killed.toml"), "--results", results, "--cache", cache}
	if row != "" {
		args = append(args, "--only", row)
	}
	c := exec.Command(p.exec, args...)
	c.Env = append(os.Environ(), "THORAX_TEST_COMMAND=1")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	return c, &out
}

// finish runs a row, or all, to the end.
func (p *program) finish(results, row string) {
	p.t.Helper()
	c, out := p.start(results, row)
	if err := c.Wait(); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
}

func (p *program) run(results, row string) string {
	return filepath.Join(results, "killed", "phantom", row, "seed-3")
}

// A moment is when to kill: delay after the n-th event on a file of the run
// whose name starts with prefix. A file being written is called .NAME.*.tmp.
type moment struct {
	event  uint32
	prefix string
	n      int
	delay  time.Duration // at most; the real one is drawn
}

const (
	written = unix.IN_CREATE   // begins to be written
	named   = unix.IN_MOVED_TO // has its name
	grown   = unix.IN_MODIFY
	removed = unix.IN_DELETE
)

// Killed processes of every kind, at moments in every file that a run writes,
// go on to the bytes of a run that was left alone.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts some forty processes")
	}
	p := newProgram(t)
	left, hit := filepath.Join(p.dir, "left-alone"), filepath.Join(p.dir, "killed")
	p.finish(left, "")
	draw := rand.New(rand.NewPCG(20261121, 0))
	kills := 0
	for _, row := range []struct {
		name    string
		moments []moment
	}{
		{"ae", []moment{
			{written, ".config.toml.", 1, 0},
			{named, "config.toml", 1, 0},
			{written, ".run.json.", 1, 0},
			{named, "run.json", 1, 300 * time.Millisecond}, // building, before the first step
			{grown, "train.jsonl", 1, 0},
			{grown, "train.jsonl", 2, 30 * time.Millisecond},
			{written, ".step-", 1, 0},
			{written, ".step-", 1, 2 * time.Millisecond},
			{named, "step-", 1, 0},
			{written, ".train.jsonl.", 1, 0}, // the log is cut back to the checkpoint
			{written, ".step-", 2, 3 * time.Millisecond},
			{named, "step-", 2, time.Millisecond},
			{removed, "step-", 1, 0},
			{grown, "train.jsonl", 5, 30 * time.Millisecond},
			{grown, "train.jsonl", 8, 50 * time.Millisecond},
			{written, ".step-", 3, time.Millisecond},
			{written, ".final.safetensors.", 1, time.Millisecond},
			{named, "final.safetensors", 1, 0},
			{named, "run.json", 1, 400 * time.Millisecond}, // scoring
			{written, ".test.npy.", 1, 0},
			{named, "test.npy", 1, 0},
			{written, ".scores.csv.", 1, 0},
			{named, "scores.csv", 1, 0},
			{written, ".metrics.json.", 1, 0},
			{named, "metrics.json", 1, 0},
			{written, ".run.json.", 2, 0},
		}},
		{"padim", []moment{
			{named, "run.json", 1, 0},
			{named, "run.json", 1, 600 * time.Millisecond}, // the fit
			{named, "run.json", 1, 900 * time.Millisecond},
			{written, ".final.safetensors.", 1, 0},
			{written, ".final.safetensors.", 1, 5 * time.Millisecond},
			{named, "final.safetensors", 1, 0},
			{written, ".scores.csv.", 1, 0},
			{written, ".run.json.", 2, 0},
		}},
		{"grey_histogram", []moment{
			{named, "run.json", 1, 20 * time.Millisecond}, // the fit
			{written, ".final.json.", 1, 0},
			{named, "final.json", 1, 0},
			{written, ".scores.csv.", 1, 0},
			{written, ".metrics.json.", 1, 0},
			{written, ".run.json.", 2, 0},
		}},
	} {
		dir := p.run(hit, row.name)
		for i, m := range row.moments {
			m.delay = time.Duration(draw.Float64() * float64(m.delay))
			before := func(i int) string { return filepath.Join(p.dir, "before", row.name, fmt.Sprint(i)) }
			p.copy(dir, before(i))
			tries := 0
			for ; tries < 6 && !p.kill(hit, row.name, m); tries++ {
				// An earlier signal came late, and the event is past: from the moment before that.
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				p.copy(before(max(i-tries-1, 0)), dir)
			}
			if tries == 6 {
				t.Errorf("%s, moment %d: the run always ended before event %d of %s", row.name, i, m.n, m.prefix)
				continue
			}
			kills++
			p.whole(dir)
		}
		p.finish(hit, row.name)
		p.compare(p.run(left, row.name), dir)
	}
	t.Logf("%d processes killed", kills)
	if kills < 30 {
		t.Errorf("%d processes killed, want 30 or more", kills)
	}
}

// copy copies a folder, if there is one.
func (p *program) copy(from, to string) {
	p.t.Helper()
	if err := os.MkdirAll(from, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		p.t.Fatal(err)
	}
}

// kill starts a row and kills it at m. It returns false if the row ended first.
func (p *program) kill(results, row string, m moment) bool {
	p.t.Helper()
	dir := p.run(results, row)
	w := watch(p.t, dir)
	defer w.close()
	c, out := p.start(results, row)
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for seen := 0; seen < m.n; {
		select {
		case err := <-ended:
			if err != nil {
				p.t.Fatalf("%s: %v\n%s", row, err, out)
			}
			return false
		default:
		}
		for _, e := range w.events(5 * time.Millisecond) {
			if e.mask&m.event != 0 && strings.HasPrefix(e.name, m.prefix) {
				seen++
			}
		}
	}
	time.Sleep(m.delay)
	if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	var exit *exec.ExitError
	err := <-ended
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// whole checks that no file of a killed run is half a file.
func (p *program) whole(dir string) {
	p.t.Helper()
	f := &record.Folder{Dir: dir}
	for name, read := range map[string]func() error{
		"run.json":     func() error { _, err := f.Run(); return err },
		"train.jsonl":  func() error { _, err := f.Log(); return err },
		"scores.csv":   func() error { _, err := f.Scores(); return err },
		"metrics.json": func() error { _, err := f.Figures(); return err },
		"maps":         func() error { _, err := f.ReadMaps("test"); return err },
	} {
		if err := read(); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.t.Errorf("%s of a killed run: %v", name, err)
		}
	}
	states, _ := filepath.Glob(filepath.Join(dir, "checkpoint", "[a-z]*.safetensors"))
	for _, s := range states {
		if _, err := weights.Load(s); err != nil {
			p.t.Errorf("checkpoint of a killed run: %v", err)
		}
	}
}

// compare compares a run that was killed with one that was left alone.
func (p *program) compare(want, got string) {
	p.t.Helper()
	for _, name := range []string{"config.toml", "scores.csv", "metrics.json", "maps/test.npy", "checkpoint/final.json"} {
		a, errA := os.ReadFile(filepath.Join(want, name))
		b, errB := os.ReadFile(filepath.Join(got, name))
		if os.IsNotExist(errA) && os.IsNotExist(errB) && name != "scores.csv" && name != "config.toml" {
			continue
		}
		if errA != nil || errB != nil || sha256.Sum256(a) != sha256.Sum256(b) {
			p.t.Errorf("%s: SHA-256 %x (%v), left alone %x (%v)", filepath.Join(got, name), sha256.Sum256(b), errB, sha256.Sum256(a), errA)
		}
	}
	a, _ := weights.Load(filepath.Join(want, "checkpoint", "final.safetensors"))
	b, _ := weights.Load(filepath.Join(got, "checkpoint", "final.safetensors"))
	if !reflect.DeepEqual(a, b) {
		p.t.Errorf("%s: the final checkpoints differ", got)
	}
	steps := func(dir string) []string {
		var lines []string
		log, _ := (&record.Folder{Dir: dir}).Log()
		for _, s := range log {
			lines = append(lines, fmt.Sprint(s.Step, s.Phase, s.Losses, s.LearningRates))
		}
		return lines
	}
	if a, b := steps(want), steps(got); !slices.Equal(a, b) {
		p.t.Errorf("%s: the logs differ:\n%s\nleft alone:\n%s", got, strings.Join(b, "\n"), strings.Join(a, "\n"))
	}
	files := func(dir string) map[string]bool {
		all := map[string]bool{}
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if rel, _ := filepath.Rel(dir, path); err == nil && !d.IsDir() {
				all[rel] = true
			}
			return err
		})
		return all
	}
	if a, b := files(want), files(got); !maps.Equal(a, b) {
		p.t.Errorf("%s holds %v, left alone %v", got, slices.Sorted(maps.Keys(b)), slices.Sorted(maps.Keys(a)))
	}
}

// A run that is asked to stop finishes its step, saves, says how to go on, and
// goes on to the same bytes.
func TestSignals(t *testing.T) {
	p := newProgram(t)
	left := filepath.Join(p.dir, "left-alone")
	p.finish(left, "ae")
	for signal, status := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		results := filepath.Join(p.dir, signal.String())
		dir := p.run(results, "ae")
		w := watch(t, dir)
		c, out := p.start(results, "ae")
		for seen := 0; seen < 3; {
			for _, e := range w.events(time.Second) {
				if e.mask&grown != 0 && e.name == "train.jsonl" {
					seen++
				}
			}
		}
		w.close()
		if err := c.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		if c.ProcessState.ExitCode() != status || !strings.Contains(out.String(), "interrupted; the run is saved") {
			t.Errorf("%v: exit status %d, want %d\n%s", signal, c.ProcessState.ExitCode(), status, out)
		}
		if saved, _ := filepath.Glob(filepath.Join(dir, "checkpoint", "step-*.safetensors")); len(saved) == 0 {
			t.Errorf("%v: nothing is saved", signal)
		}
		if _, err := os.Stat(filepath.Join(dir, "lock")); err == nil {
			t.Errorf("%v: the lock is left behind", signal)
		}
		p.finish(results, "ae")
		p.compare(p.run(left, "ae"), dir)
	}
}

// A watcher sees what happens to the files of a run, as it happens.
type watcher struct {
	t  *testing.T
	fd int
}

type event struct {
	mask uint32
	name string
}

func watch(t *testing.T, dir string) *watcher {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "checkpoint"), filepath.Join(dir, "maps")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.InotifyAddWatch(fd, d, written|named|grown|removed); err != nil {
			t.Fatal(err)
		}
	}
	return &watcher{t, fd}
}

func (w *watcher) close() { unix.Close(w.fd) }

// events returns what has happened, or nothing after the given time.
func (w *watcher) events(wait time.Duration) []event {
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(wait.Milliseconds())); n == 0 || err != nil {
		return nil
	}
	var buf [1 << 14]byte
	n, err := unix.Read(w.fd, buf[:])
	if err != nil {
		w.t.Fatal(err)
	}
	var all []event
	for rest := buf[:n]; len(rest) > 0; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
		name := rest[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+int(e.Len)]
		all = append(all, event{e.Mask, strings.TrimRight(string(name), "\x00")})
		rest = rest[unix.SizeofInotifyEvent+int(e.Len):]
	}
	return all
}
