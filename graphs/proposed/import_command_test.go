package proposed

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"image"
	"image/png"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework/command"
	"thorax/framework/data"
	"thorax/framework/record"
	"thorax/framework/train"
	"thorax/graphs/golden"
	"thorax/graphs/nn"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

// run runs a command line in dir.
func run(t *testing.T, dir string, args ...string) (stdout string, err error) {
	t.Helper()
	t.Chdir(dir)
	var out, progress bytes.Buffer
	err = command.Run(context.Background(), args, &out, &progress)
	return out.String(), err
}

func writeImage(t *testing.T, path string, seed uint64, side int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	img := image.NewGray(image.Rect(0, 0, side, side))
	for i := range img.Pix {
		img.Pix[i] = uint8(r.UintN(100 + 50*uint(seed%4))) // noise of some brightness
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// plainScores scores images by the graph of m alone, its variables as they start.
func plainScores(t *testing.T, m *SimSID, start map[string][]float32, images []data.Pixels) []float64 {
	t.Helper()
	side := images[0].W
	s := nn.NewScope(0)
	x := placeholder(s, 1, side)
	score := m.Score(s.Inference(), x).Image
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	x1, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer x1.Close()
	l := x1.Loader()
	for _, v := range s.Variables() {
		if value, ok := start[v.Path]; ok {
			if err := l.Set(v, session.Floats(v.Shape, value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	var out []float64
	for _, p := range images {
		y, err := x1.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{1, side, side, 1}, p.V)}, []tf.Output{score})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, float64(session.Values(y[0])[0]))
	}
	return out
}

// An official checkpoint becomes a run that scores a folder, and the test images of an experiment, as the
// graph with its weights does.
func TestImportCommand(t *testing.T) {
	m := NewSimSID()
	m.Width, m.Patches, m.Items = 2, 2, 7
	g, d, start := official(t, m, 32)
	dir := t.TempDir()
	writePTH(t, filepath.Join(dir, "model.pth"), g, true)
	writePTH(t, filepath.Join(dir, "discriminator.pth"), d, false)
	for i := range uint64(4) {
		writeImage(t, filepath.Join(dir, "set/train/normal", fmt.Sprint(i, ".png")), i, 40)
		writeImage(t, filepath.Join(dir, "set/test", []string{"normal", "sick"}[i%2], fmt.Sprint(i, ".png")), 10+i, 40)
	}
	experiment := "seeds = [0]\n[[data]]\nset = \"folder\"\nroot = \"set\"\nsize = 32\nresize = \"bicubic\"\nvalidation = 0\n[[method]]\nname = \"simsid\"\ntrain = { steps = 1 }\n"
	if err := os.WriteFile(filepath.Join(dir, "x.toml"), []byte(experiment), 0o644); err != nil {
		t.Fatal(err)
	}

	out, err := run(t, dir, "import", "model.pth", "--preset", "paper")
	folder := filepath.Join("results", "imported", "none-32", "simsid-official", "seed-0")
	if err != nil || !strings.Contains(out, folder) {
		t.Fatalf("%q, %v", out, err)
	}
	if _, err := run(t, dir, "score", folder, filepath.Join("set", "test"), "--out", "scores"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "scores", "scores.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d lines, %v", len(rows), err)
	}
	o := data.DefaultOptions()
	o.Size, o.Resize = 32, "bicubic"
	var images []data.Pixels
	for _, row := range rows[1:] {
		p, err := data.ReadImage(filepath.Join(dir, "set", "test", row[0]), o)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, p)
	}
	want := map[string]float64{}
	for i, v := range plainScores(t, m, start, images) {
		path := rows[1+i][0]
		want[path] = v
		if got, err := strconv.ParseFloat(rows[1+i][1], 64); err != nil || !(math.Abs(got-v) <= 5e-6) {
			t.Errorf("%s: %g, want %g, %v", path, got, v, err)
		}
	}
	if a := slices.Collect(maps.Values(want)); len(a) != 4 || slices.Max(a)-slices.Min(a) < 1e-4 {
		t.Errorf("scores %v say nothing", a)
	}

	if out, err = run(t, dir, "import", "model.pth", "--preset", "paper", "--data", "x.toml", "--label", "theirs"); err != nil {
		t.Fatal(out, err)
	}
	made := &record.Folder{Dir: filepath.Join(dir, "results", "imported", "folder-32", "theirs", "seed-0")}
	scores, err := made.Scores()
	if err != nil || len(scores) != 4 {
		t.Fatalf("%d scores, %v", len(scores), err)
	}
	for _, s := range scores {
		if v := want[strings.TrimPrefix(s.Path, "test/")]; !(math.Abs(s.Score-v) <= 5e-6) {
			t.Errorf("%s: %g, want %g", s.Path, s.Score, v)
		}
	}
	r, err := made.Run()
	if err != nil || r.Status != record.Complete || r.Label != "theirs" || r.Parameters == 0 || r.Fingerprint.Files != 8 ||
		len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "imported from model.pth (SHA-256 ") {
		t.Errorf("%+v, %v", r, err)
	}
	if out, err = run(t, dir, "table", filepath.Join("results", "imported", "folder-32")); err != nil || !strings.Contains(out, "theirs") {
		t.Errorf("table %q, %v", out, err)
	}

	broken := maps.Clone(g)
	delete(broken, "down_blocks.1.mpconv.conv1.0.bias")
	broken["module.extra"] = weights.Float32Array([]int{1}, []float32{1})
	writePTH(t, filepath.Join(dir, "broken-model.pth"), broken, false)
	writePTH(t, filepath.Join(dir, "broken-discriminator.pth"), d, false)
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"import model.pth --preset paper", []string{folder, "holds a run already"}},
		{"import model.pth", []string{`no preset ""`, "release_zhanglab"}},
		{"import model.pth --preset paper --method ae", []string{"--method"}},
		{"import model.pth --preset paper --data x.toml --block other", []string{"need a data block of 32 pixels", "folder-32 of 32 pixels"}},
		{"import broken-model.pth --preset paper --label broken", []string{"missing: down_blocks.1.mpconv.conv1.0.bias", "unknown: module.extra"}},
		{"import nowhere.pth --preset paper", []string{"nowhere.pth"}},
	} {
		_, err := run(t, dir, strings.Fields(tt.args)...)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q in it", tt.args, err, want)
			}
		}
	}
}

// given are images that are not files.
type given []data.Pixels

func (g given) Len() int                        { return len(g) }
func (g given) Size() int                       { return g[0].W }
func (g given) Pixels(i int) data.Pixels        { return g[i] }
func (g given) Native(int) (data.Native, error) { return data.Native{}, os.ErrNotExist }

// Imported official weights score as the official code does: minus its discriminator's verdict on the
// reconstruction, each image by its own statistics.
func TestGoldenImportCommand(t *testing.T) {
	root := golden.Dir(t, "simsid")
	for _, tt := range []struct{ name, preset string }{{"a_release_queue", "release_zhanglab"}, {"c_paper_p4", "paper"}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := run(t, dir, "import", filepath.Join(root, tt.name, "weights.safetensors"), "--preset", tt.preset); err != nil {
				t.Fatal(err)
			}
			io := golden.Load(t, filepath.Join(root, tt.name, "io.safetensors"))
			x, err := io["x"].Float32()
			if err != nil {
				t.Fatal(err)
			}
			want, err := io["eval.d_instance_recon"].Float32()
			if err != nil {
				t.Fatal(err)
			}
			side := io["x"].Shape[2]
			var images given
			for chunk := range slices.Chunk(x, side*side) {
				p := data.Pixels{W: side, H: side}
				for _, v := range chunk {
					p.V = append(p.V, (v+1)/2)
				}
				images = append(images, p)
			}
			m, err := train.OpenModel(filepath.Join("results", "imported", fmt.Sprint("none-", side), "simsid-official", "seed-0"))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			err = m.Score(images, func(i int, score float64, _ []float32) error {
				if d := math.Abs(score + float64(want[i])); !(d <= 2e-5*max(1, math.Abs(score))) {
					t.Errorf("image %d: %g, want %g", i, score, -want[i])
				}
				return nil
			})
			if err != nil || len(images) != len(want) || slices.Max(want)-slices.Min(want) < 1e-3 {
				t.Errorf("%d images, verdicts %v, %v", len(images), want, err)
			}
		})
	}
}
