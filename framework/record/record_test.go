package record

import (
	"bytes"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRunRoundTrip(t *testing.T) {
	f := create(t)
	want := Run{
		Status: Failed, Error: "loss is NaN", Experiment: "demo", Data: "phantom-64", Method: "ae", Label: "AE (64)",
		Family: "reconstruction", Row: 3, Seed: 2, Hash: "ab12", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		TrainSeconds: 1.5, Parameters: 12345678901, Trained: true, Fingerprint: Fingerprint{Files: 7, SHA256: "00ff"},
		Notes: []string{"random backbone weights"}, MetricIDs: []string{"auroc/mann-whitney"},
	}
	if err := f.WriteRun(want); err != nil {
		t.Fatal(err)
	}
	got, err := f.Run()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := f.WriteRun(Run{Status: "done"}); err == nil || !strings.Contains(err.Error(), `"done"`) {
		t.Errorf("unknown status: %v", err)
	}
}

// A writer that fails half-way, as one that is killed, must leave the old file
// and nothing else.
func TestWriteFileIsAtomic(t *testing.T) {
	f := create(t)
	if err := f.WriteScores([]Score{{Split: "test", Path: "a.png", Score: 1}}); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(f.Path("scores.csv"))
	err := f.WriteScores([]Score{{Split: "test", Path: "a.png", Score: 2}, {Split: "test", Path: "b.png", Score: math.NaN()}})
	if err == nil || !strings.Contains(err.Error(), "b.png") || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("NaN score: error %v, need one that names b.png", err)
	}
	after, _ := os.ReadFile(f.Path("scores.csv"))
	if !bytes.Equal(before, after) {
		t.Errorf("a failed write changed the file to %q", after)
	}
	names, _ := filepath.Glob(f.Path(".*"))
	if len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestScoresRoundTrip(t *testing.T) {
	f := create(t)
	want := []Score{
		{Split: "validation", Path: "n/1.png", Group: "p1", Score: float64(float32(0.1))},
		{Split: "test", Path: `odd, "name".png`, Group: "p,2", Subtype: "bacteria", Abnormal: true, Score: float64(math.Float32frombits(0x7f7fffff))},
		{Split: "test", Path: "n/1.png", Score: -float64(math.Float32frombits(1))},
	}
	if err := f.WriteScores(want); err != nil {
		t.Fatal(err)
	}
	got, err := f.Scores()
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if float32(got[i].Score) != float32(want[i].Score) {
			t.Errorf("score %d: %g, want %g", i, got[i].Score, want[i].Score)
		}
		got[i].Score = want[i].Score
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadScoresRefuses(t *testing.T) {
	const header = "split,path,group,subtype,label,score\n"
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", "no header"},
		{"other header", "a,b,c,d,e,f\n", "need split"},
		{"label", header + "test,a,,,sick,1\n", "line 2: label \"sick\""},
		{"number", header + "test,a,,,normal,high\n", "line 2: score \"high\""},
		{"NaN", header + "test,a,,,normal,1\ntest,b,,,normal,NaN\n", "line 3: the score of b is NaN"},
		{"twice", header + "test,a,,,normal,1\ntest,a,,,normal,1\n", "line 3: a is in split test twice, first at line 2"},
		{"split", header + "exam,a,,,normal,1\n", "split \"exam\""},
		{"fields", header + "test,a\n", "wrong number of fields"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadScores(strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzReadScores(f *testing.F) {
	f.Add([]byte("split,path,group,subtype,label,score\ntest,a,,,normal,1\nvalidation,\"b\nc\",g,s,abnormal,-1e-3\n"))
	f.Add([]byte("split,path,group,subtype,label,score\r\ntest,a,,,normal,0x1p-2\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		scores, err := ReadScores(bytes.NewReader(b))
		if err != nil {
			return
		}
		var once, twice bytes.Buffer
		if err := WriteScores(&once, scores); err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		again, err := ReadScores(bytes.NewReader(once.Bytes()))
		if err != nil {
			t.Fatalf("written but not read: %v", err)
		}
		if err := WriteScores(&twice, again); err != nil || !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Fatalf("%q became %q, %v", once.Bytes(), twice.Bytes(), err)
		}
	})
}

func TestTruncateLog(t *testing.T) {
	f := create(t)
	if err := f.TruncateLog(5); err != nil {
		t.Fatalf("no log yet: %v", err)
	}
	for _, step := range []int{0, 10, 20} {
		if err := f.AppendLog(Step{Step: step, Phase: "train", Losses: map[string]float64{"g": 1.0 / 3, "d": float64(step)}}); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := f.Log()
	// Killed inside a line.
	file, _ := os.OpenFile(f.Path("train.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	file.WriteString(`{"step":30,"ph`)
	file.Close()

	if got, err := f.Log(); err != nil || !cmp.Equal(got, want) {
		t.Errorf("with a line cut short: %v, %v", got, err)
	}
	if err := f.TruncateLog(10); err != nil {
		t.Fatal(err)
	}
	if err := f.AppendLog(Step{Step: 20, Phase: "train", Losses: map[string]float64{"g": 1.0 / 3, "d": 20}}); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Log(); err != nil || !cmp.Equal(got, want) {
		t.Errorf("resumed: %v, %v\nwant %v", got, err, want)
	}
	err := f.AppendLog(Step{Step: 30, Losses: map[string]float64{"critic": math.Inf(1)}})
	if err == nil || !strings.Contains(err.Error(), "critic") {
		t.Errorf("infinite loss: %v", err)
	}
}

// TestHoldLock is not a test: the other tests start it as a second process, which
// takes the lock of the run in RECORD_TEST_DIR and waits to be killed.
func TestHoldLock(t *testing.T) {
	dir := os.Getenv("RECORD_TEST_DIR")
	if dir == "" {
		t.Skip("a helper process of TestLock")
	}
	f, err := Open(dir)
	if err == nil {
		err = f.Lock()
	}
	os.Stdout.WriteString(map[bool]string{true: "held\n", false: "refused\n"}[err == nil])
	time.Sleep(time.Minute)
}

func TestLock(t *testing.T) {
	f := create(t)
	f.WriteRun(Run{Status: Running})
	second := exec.Command(os.Args[0], "-test.run=^TestHoldLock$")
	second.Env = append(os.Environ(), "RECORD_TEST_DIR="+f.Dir)
	out, err := second.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	defer second.Process.Kill()
	said := make([]byte, 5)
	if _, err := out.Read(said); err != nil || string(said) != "held\n" {
		t.Fatalf("second process: %q, %v", said, err)
	}
	if err := f.Lock(); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("held by another process: %v", err)
	}
	if got := (Entry{Folder: f, Run: Run{Status: Running}}).State(); got != State(Running) {
		t.Errorf("state while held: %s", got)
	}

	second.Process.Kill() // SIGKILL: the file stays
	second.Wait()
	if _, err := os.Stat(f.Path("lock")); err != nil {
		t.Fatalf("the killed process left no lock file: %v", err)
	}
	if got := (Entry{Folder: f, Run: Run{Status: Running}}).State(); got != Interrupted {
		t.Errorf("state after the kill: %s", got)
	}
	os.WriteFile(f.Path(".scores.csv.123.tmp"), nil, 0o644)
	if err := f.Lock(); err != nil {
		t.Fatalf("stale lock: %v", err)
	}
	if _, err := os.Stat(f.Path(".scores.csv.123.tmp")); err == nil {
		t.Error("a half-written file survived the lock")
	}
	other, _ := Open(f.Dir)
	if err := other.Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice in one process: %v", err)
	}
	if err := f.Unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.Path("lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock file after Unlock: %v", err)
	}
	if err := other.Lock(); err != nil {
		t.Errorf("after Unlock: %v", err)
	}
	other.Unlock()
}

// Readers that look whether a run is at work must not keep a process from it.
func TestReadersDoNotLock(t *testing.T) {
	f := create(t)
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				f.Locked()
			}
		}
	}()
	for range 50 {
		writer, _ := Open(f.Dir)
		if err := writer.Lock(); err != nil {
			t.Fatal(err)
		}
		if err := writer.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
}

func TestLockOfAnotherHost(t *testing.T) {
	f := create(t)
	os.WriteFile(f.Path("lock"), []byte(`{"pid":1,"host":"no-such-host.invalid","started":"2026-01-02T03:04:05Z"}`), 0o644)
	err := f.Lock()
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "no-such-host.invalid") || !strings.Contains(err.Error(), "remove "+f.Path("lock")) {
		t.Errorf("error %v, need host and remedy", err)
	}
	if owner, held := f.Locked(); !held || owner.PID != 1 {
		t.Errorf("Locked = %v, %v", owner, held)
	}
}

// The expected bits are those of IEEE 754 binary16.
func TestHalf(t *testing.T) {
	for _, tt := range []struct {
		in   float32
		want uint16
	}{
		{0, 0}, {1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {1e9, 0x7bff}, {-1e9, 0xfbff},
		{0x1p-14, 0x0400}, {0x1p-24, 1}, {0x1p-25, 0}, {0x3p-25, 2}, {0x1.ff8p-15, 0x03ff}, {0x1.ffcp-15, 0x0400}, {0x1.fffp-15, 0x0400},
		{1 + 0x1p-11, 0x3c00}, {1 + 0x3p-11, 0x3c02}, {1.9999, 0x4000}, {1.0 / 3, 0x3555},
	} {
		if got := toHalf(tt.in); got != tt.want {
			t.Errorf("toHalf(%g) = %#04x, want %#04x", tt.in, got, tt.want)
		}
	}
	for h := range uint16(0x7c00) {
		for _, bits := range []uint16{h, h | 0x8000} {
			if got := toHalf(fromHalf(bits)); got != bits {
				t.Fatalf("%#04x became %#04x", bits, got)
			}
		}
	}
}

func TestMaps(t *testing.T) {
	f := create(t)
	m := NewMaps(2, 2, 3)
	if err := m.Set(1, []float32{0, .5, -1, 2, 1e6, 0x1p-24}); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteMaps("test", m); err != nil {
		t.Fatal(err)
	}
	got, err := f.ReadMaps("test")
	if err != nil {
		t.Fatal(err)
	}
	if got.N != 2 || got.H != 2 || got.W != 3 {
		t.Errorf("shape %d×%d×%d", got.N, got.H, got.W)
	}
	if diff := cmp.Diff([]float32{0, .5, -1, 2, 65504, 0x1p-24}, got.At(1)); diff != "" {
		t.Error(diff)
	}
	if m.Saturated != 1 {
		t.Errorf("saturated %d, want 1", m.Saturated)
	}
	if err := m.Set(0, []float32{0, 0, 0, 0, float32(math.NaN()), 0}); err == nil || !strings.Contains(err.Error(), "row 1, column 1") {
		t.Errorf("NaN: %v", err)
	}
	if err := m.Set(2, make([]float32, 6)); err == nil {
		t.Error("map 2 of 2 was taken")
	}
	b, _ := os.ReadFile(f.Path("maps/test.npy"))
	if at := bytes.IndexByte(b, '\n') + 1; at%64 != 0 || len(b) != at+24 {
		t.Errorf("the array starts at byte %d of %d", at, len(b))
	}
	os.WriteFile(f.Path("maps/test.npy"), b[:len(b)-1], 0o644)
	if _, err := f.ReadMaps("test"); err == nil || !strings.Contains(err.Error(), "23 bytes of maps, need 24") {
		t.Errorf("truncated: %v", err)
	}
}

func FuzzDecodeMaps(f *testing.F) {
	var b bytes.Buffer
	NewMaps(1, 2, 2).writeTo(&b)
	f.Add(b.Bytes())
	f.Add(bytes.Replace(b.Bytes(), []byte("(1, 2, 2)"), []byte("(999999999, 999999999, 999999999)"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMaps(b)
		if err != nil {
			return
		}
		for i := range min(m.N, 3) {
			if len(m.At(i)) != m.H*m.W {
				t.Fatalf("map %d of %d values", i, len(m.At(i)))
			}
		}
	})
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"x/ct-64/ae/seed-10", "x/ct-64/ae/seed-2", "x/ct-128/ae/seed-0", "x/ct-64/ae-v2/seed-0", "x/ct-64/ae/seed-2/checkpoint/seed-1"} {
		f, err := Create(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		if dir == "x/ct-64/ae/seed-10" {
			continue // never started
		}
		if err := f.WriteRun(Run{Status: Complete, Label: "AE", Data: "d"}); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(root, "x/ct-64/ae-v2/seed-0/run.json"), []byte("{"), 0o644)
	entries, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		rel, _ := filepath.Rel(root, e.Dir)
		got = append(got, rel+" "+e.Run.Label+" "+string(e.State()))
	}
	want := []string{
		"x/ct-64/ae/seed-2 AE complete", "x/ct-64/ae/seed-10 ae interrupted",
		"x/ct-64/ae-v2/seed-0 ae-v2 interrupted", "x/ct-128/ae/seed-0 AE complete",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	never := entries[1]
	if never.Err == nil || never.Run.Seed != 10 || never.Run.Data != "ct-64" || never.Run.Experiment != "x" {
		t.Errorf("a run that never started: %+v, %v", never.Run, never.Err)
	}
	if _, err := Find(filepath.Join(root, "nothing")); err == nil {
		t.Error("a missing root is no error")
	}
}

func TestSlug(t *testing.T) {
	for _, tt := range []struct{ label, want string }{
		{"ae", "ae"}, {"SimSID w/o in-painting", "simsid-w-o-in-painting"}, {"AE memory.items=10", "ae-memory.items=10"},
		{"  Größe (β) ", "größe-β"}, {"../../etc", "etc"}, {"!?", ""},
	} {
		if got := Slug(tt.label); got != tt.want {
			t.Errorf("Slug(%q) = %q, want %q", tt.label, got, tt.want)
		}
	}
}

func create(t *testing.T) *Folder {
	t.Helper()
	f, err := Create(filepath.Join(t.TempDir(), "x/d/m/seed-0"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}
