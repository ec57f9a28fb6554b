package reconstruction

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/config"
	"thorax/framework/data"
	"thorax/framework/record"
	"thorax/framework/train"
	"thorax/graphs/golden"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// tinyVQVAE has few enough parameters for finite differences.
func tinyVQVAE() *VQVAE {
	m := NewVQVAE()
	m.Down, m.Width, m.Residual, m.Length = 2, 8, 4, 3
	m.Quantiser.Codes = 6
	return m
}

// The counts are sums over the layer table of the specification.
func TestVQVAEParameters(t *testing.T) {
	conv := func(k, in, out int) int { return k*k*in*out + out }
	stack := 2 * (conv(3, 128, 32) + conv(1, 32, 128))
	two := conv(4, 1, 64) + conv(4, 64, 128) + conv(3, 128, 128) + stack + conv(1, 128, 64) +
		conv(3, 64, 128) + stack + conv(4, 128, 64) + conv(4, 64, 1)
	for _, tt := range []struct {
		name   string
		change func(*VQVAE)
		grid   int
		want   int
	}{
		{"two halvings", func(m *VQVAE) { m.Down = 2 }, 32, two},
		{"three halvings", func(*VQVAE) {}, 16, two + 2*conv(4, 128, 128)},
		{"gradient", func(m *VQVAE) { *m = *m.Presets()["gradient"].(*VQVAE) }, 32, two + 512*64},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := NewVQVAE()
			tt.change(m)
			s := nn.NewScope(0)
			x := images(s, 2, 128)
			if m.Train(s, framework.Inputs{Image: x}); s.Err() != nil {
				t.Fatal(s.Err())
			}
			got := 0
			for _, v := range s.Trainable() {
				got += int(v.Size())
			}
			if got != tt.want {
				t.Errorf("%d trained parameters, want %d", got, tt.want)
			}
			_, recon, q := m.forward(s.Inference(), x)
			if got, want := nn.Shape(s, recon), []int{2, 128, 128, 1}; !slices.Equal(got, want) {
				t.Errorf("the reconstruction has shape %v, want %v", got, want)
			}
			if got, want := nn.Shape(s, q.Codes), []int{2, tt.grid, tt.grid, 1}; !slices.Equal(got, want) {
				t.Errorf("the codes have shape %v, want %v", got, want)
			}
		})
	}
}

// Behind the straight-through step the loss is no function of the encoder that
// differences could follow: the decoder is checked through the whole loss, the
// encoder through the commitment, with the codes held.
func TestVQVAEGradients(t *testing.T) {
	m := tinyVQVAE()
	m.Quantiser.Init = "normal"
	input := func(s *nn.Scope) tf.Output {
		return nn.Sigmoid(s.In("x"), nn.Consts(s, nntest.Draw(1, 3*64), 3, 8, 8, 1))
	}
	paths := func(part string) (list []string) {
		s := nn.NewScope(1)
		m.Train(s, framework.Inputs{Image: images(s, 3, 8)})
		for _, v := range s.In(part).Trainable() {
			list = append(list, v.Path)
		}
		return list
	}
	t.Run("decoder", func(t *testing.T) {
		nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
			return m.Train(s, framework.Inputs{Image: input(s)})[1].Updates[0].Loss(s)
		}, nntest.Options{Samples: 2, Step: 2e-3, Tolerance: 3e-2, Except: paths("encoder")})
	})
	t.Run("encoder", func(t *testing.T) {
		nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
			_, _, q := m.forward(s, input(s))
			return q.Loss
		}, nntest.Options{Samples: 2, Step: 2e-3, Tolerance: 3e-2, Except: paths("decoder")})
	})
}

func TestVQVAECheck(t *testing.T) {
	for _, tt := range []struct {
		change func(*VQVAE)
		want   string
	}{
		{func(m *VQVAE) { m.Down = 4 }, "down: 4, need 2 or 3"},
		{func(m *VQVAE) { m.Width = 5 }, "width: 5, need an even number from 2 on"},
		{func(m *VQVAE) { m.Blocks = -1 }, "blocks: -1, need 0 or more"},
		{func(m *VQVAE) { m.Residual = 0 }, "residual: 0, need 1 or more"},
		{func(m *VQVAE) { m.Length = 0 }, "length: 0, need 1 or more"},
		{func(m *VQVAE) { m.Error = "ssim" }, `error: "ssim", need l2 or l1`},
		{func(m *VQVAE) { m.LatentWeight = -1 }, "latent_weight: -1, need 0 or more"},
		{func(m *VQVAE) { m.Quantiser.Codes = 0 }, "quantiser.codes: 0, need 1 or more"},
		{func(m *VQVAE) { m.Adam.LR = 0 }, "adam.lr: 0, need more than 0"},
		{func(m *VQVAE) { m.ImageScore = "median" }, `image_score: "median", need mean, max or topk_mean`},
	} {
		m := NewVQVAE()
		tt.change(m)
		if err := m.Check(); err == nil || err.Error() != tt.want {
			t.Errorf("Check() = %v, want %s", err, tt.want)
		}
	}
	for name, m := range NewVQVAE().Presets() {
		if err := m.(*VQVAE).Check(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
	s := nn.NewScope(0)
	NewVQVAE().Train(s, framework.Inputs{Image: images(s, 1, 36)})
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "multiple of 8") {
		t.Errorf("error = %v, want one that names the multiple", err)
	}
}

// A short run of each preset on generated images: the loss falls and the
// codebook is used; the fits find what plain loops over the images find.
func TestVQVAETraining(t *testing.T) {
	cache := t.TempDir()
	for _, tt := range []struct {
		preset string
		keys   string
		active float64 // codes, at least, of 24
	}{
		{"", "down = 2\nlatent_weight = 0.5", 12},
		{"ct_quantiser", "down = 2\nquantiser.codes = 24\nerror = \"l1\"", 12},
		{"gradient", "", 2},
	} {
		t.Run("preset "+tt.preset, func(t *testing.T) {
			job := vqvaeJob(t, cache, tt.preset, tt.keys)
			if did, err := job.Do(context.Background()); !did || err != nil {
				t.Fatalf("run: %v, %v", did, err)
			}
			steps, err := (&record.Folder{Dir: job.Dir()}).Log()
			if err != nil {
				t.Fatal(err)
			}
			first, last := steps[0].Losses, steps[len(steps)-1].Losses
			t.Logf("first %v, last %v", first, last)
			if !(last["autoencoder/error"] < 0.8*first["autoencoder/error"]) {
				t.Errorf("the error falls from %g to %g only", first["autoencoder/error"], last["autoencoder/error"])
			}
			if got := last["autoencoder/active_codes"]; !(got >= tt.active) {
				t.Errorf("%g of 24 codes are active, want %g", got, tt.active)
			}
			if p := last["autoencoder/perplexity"]; !(p > 1 && p <= 24) {
				t.Errorf("perplexity %g, want more than 1 and at most 24", p)
			}

			m := job.Run.Keys.(*VQVAE)
			final := golden.Load(t, filepath.Join(job.Dir(), "checkpoint", "final.safetensors"))
			scalar := func(path string) float64 {
				v, err := final[path].Float64()
				if err != nil || len(v) != 1 {
					t.Fatalf("%s: %v, %v", path, v, err)
				}
				return v[0]
			}
			split := train.Split(job.Data, data.Train)
			var sum, square, n float64
			for i := range split.Len() {
				for _, v := range split.Pixels(i).V {
					sum, square, n = sum+float64(v), square+float64(v)*float64(v), n+1
				}
			}
			want := square/n - sum/n*sum/n
			if got := scalar("variance"); math.Abs(got-want) > 1e-4*want {
				t.Errorf("variance of the training pixels %g, want %g", got, want)
			}
			if m.LatentWeight == 0 {
				return
			}
			// By the definition, the mean score of the training images is 1+λ.
			mean := trainingMean(t, job, m)
			if math.Abs(mean-1-m.LatentWeight) > 1e-3 {
				t.Errorf("the mean score of the training images is %g, want %g", mean, 1+m.LatentWeight)
			}
		})
	}
}

// trainingMean is the mean image score of the training images.
func trainingMean(t *testing.T, job *train.Job, m *VQVAE) float64 {
	t.Helper()
	model, err := train.OpenModel(job.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	split := train.Split(job.Data, data.Train)
	sum := 0.0
	if err := model.Score(split, func(_ int, score float64, _ []float32) error {
		sum += score
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return sum / float64(split.Len())
}

// vqvaeJob returns a short run on generated images of 32×32 pixels.
func vqvaeJob(t *testing.T, cache, preset, keys string) *train.Job {
	t.Helper()
	dir := t.TempDir()
	if preset != "" {
		keys = "preset = \"" + preset + "\"\n" + keys
	}
	if !strings.Contains(keys, "quantiser.codes") {
		keys += "\nquantiser.codes = 24"
	}
	text := `
title = "A short run"
seeds = [1]
[[data]]
name = "phantom"
set = "phantom"
size = 32
validation = 0
phantom = { train = 32, test_normal = 4, test_abnormal = 4 }
[[method]]
name = "vqvae"
width = 16
residual = 8
length = 8
adam.lr = 2e-3
train = { steps = 60, batch = 8, log_every = 10 }
` + keys + "\n"
	path := filepath.Join(dir, "short.toml")
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
	info, err := framework.Lookup("vqvae")
	if err != nil {
		t.Fatal(err)
	}
	return &train.Job{Run: runs[0], Info: info, Data: d, Results: dir}
}

// The two errors and the latent term, from the parts that they are made of.
func TestVQVAEScore(t *testing.T) {
	for _, tt := range []struct {
		error  string
		weight float64
	}{{"l2", 0}, {"l1", 0}, {"l2", 2}} {
		m := tinyVQVAE()
		m.Error, m.LatentWeight = tt.error, tt.weight
		s := nn.NewScope(3)
		x := images(s, 2, 16)
		at := s.Inference()
		scores := m.Score(at, x)
		in, recon, q := m.forward(s.Inference(), x)
		sess, err := session.New(s, session.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer sess.Close()
		if err := sess.Init(); err != nil {
			t.Fatal(err)
		}
		of, to := 1.0, 1.0
		if tt.weight > 0 {
			of, to = 0.25, 0.5
			for path, v := range map[string]float64{"scale/error": of, "scale/latent": to} {
				if err := sess.Set(s.Lookup(path), nil, []float32{float32(v)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		out, err := sess.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{2, 16, 16, 1}, nntest.Draw(2, 512))}, []tf.Output{scores.Image, in, recon, q.Residual})
		if err != nil {
			t.Fatal(err)
		}
		a, b, cells := session.Values(out[1]), session.Values(out[2]), session.Values(out[3])
		want := make([]float64, 2)
		for i := range a {
			d := float64(a[i] - b[i])
			if tt.error == "l1" {
				d = math.Abs(d)
			} else {
				d *= d
			}
			want[i/256] += d / 256 / of
		}
		// A bilinear resize by whole factors with half-pixel centres keeps no
		// mean exactly: resize here as well, for the image score.
		for i := range 2 {
			want[i] += tt.weight * resizedMean(cells[i*16:][:16], 4, 16) / to
		}
		nntest.Close(t, "scores with error "+tt.error, session.Values(out[0]), want, 1e-5)
	}
}

// resizedMean is the mean of v [n,n] bilinearly resized to [m,m], with pixel
// centres at half integers and the edge continued.
func resizedMean(v []float32, n, m int) float64 {
	weights := make([]float64, n) // of each row, and column, in the mean
	for i := range m {
		at := (float64(i)+0.5)*float64(n)/float64(m) - 0.5
		low := math.Floor(at)
		for _, p := range [][2]float64{{low, 1 - (at - low)}, {low + 1, at - low}} {
			weights[min(max(int(p[0]), 0), n-1)] += p[1] / float64(m)
		}
	}
	sum := 0.0
	for i, x := range v {
		sum += weights[i/n] * weights[i%n] * float64(x)
	}
	return sum
}
