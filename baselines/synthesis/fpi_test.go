package synthesis

import (
	"math"
	"os"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework/data"
	"thorax/framework/data/corrupt"
	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
)

func TestFPICheck(t *testing.T) {
	for key, edit := range map[string]func(m *FPI){
		"width":       func(m *FPI) { m.Width = 0 },
		"widen":       func(m *FPI) { m.Widen = 0 },
		"halvings":    func(m *FPI) { m.Halvings = 1 },
		"bn_momentum": func(m *FPI) { m.BNMomentum = math.NaN() },
		"core":        func(m *FPI) { m.Core = 0 },
		"half_width":  func(m *FPI) { m.HalfWidth[1] = 0.01 },
		"alpha":       func(m *FPI) { m.Alpha[1] = 1.5 },
		"tolerance":   func(m *FPI) { m.Tolerance = 0 },
		"image_score": func(m *FPI) { m.ImageScore = "median" },
		"adam.lr":     func(m *FPI) { m.Adam.LR = 0 },
	} {
		rejects(t, NewFPI, key, edit)
	}
}

// By hand from the table of the network 16-4, with kernels k·k·in·out and 2·c
// for each batch norm.
func TestFPIParameters(t *testing.T) {
	block := func(in, out int64) int64 {
		n := 2*in + 9*in*out + 2*out + 9*out*out
		if in != out {
			n += in * out
		}
		return n
	}
	want := 9*16 + block(16, 64) + block(64, 128) + block(128, 256) + 2*block(256, 256) +
		block(256, 128) + block(128, 64) + block(64, 16) + block(16, 1)
	m := NewFPI()
	if got := parameters(t, 128, func(s *nn.Scope, x tf.Output) { m.forward(s, x) }); got != want || want != 4_164_763 {
		t.Errorf("%d parameters, by hand %d, need 4164763", got, want)
	}
	m.Halvings = 5 // one more stage of 256 each way
	want += 2 * block(256, 256)
	if got := parameters(t, 128, func(s *nn.Scope, x tf.Output) { m.forward(s, x) }); got != want {
		t.Errorf("%d parameters with five halvings, need %d", got, want)
	}
}

func TestFPICorrupt(t *testing.T) {
	m := NewFPI()
	pure(t, m)
	a, b := photo(0, 32), photo(1, 32)
	image := func(i int) data.Pixels { return []data.Pixels{a, b}[i%2] }
	own, other := corrupt.Standardise(corrupt.Image(a)), corrupt.Standardise(corrupt.Image(b))
	mixed := 0
	for seed := range uint64(50) {
		s := m.Corrupt(seed, 0, image)
		if len(s) != 1 {
			t.Fatalf("%d samples, need 1", len(s))
		}
		for k, share := range s[0].Mask.V {
			want := (1-share)*own.V[k] + share*other.V[k]
			if math.Abs(float64(s[0].Image.V[k]-want)) > 2e-3 { // pixels that differ by less than the tolerance have share 0
				t.Fatalf("seed %d, pixel %d: %g, its share %g says %g", seed, k, s[0].Image.V[k], share, want)
			}
			if share > 0 {
				mixed++
			}
		}
	}
	if mixed == 0 {
		t.Error("the other image is never drawn")
	}
	if s := m.Corrupt(0, 0, func(int) data.Pixels { return photo(0, 8) }); s != nil {
		t.Error("an image of 8×8 gives samples")
	}
}

// The graph standardises as the samples are standardised.
func TestFPIStandardise(t *testing.T) {
	im := photo(3, 32)
	got := nntest.Value(t, func(s *nn.Scope) tf.Output { return standardise(s, nn.Consts(s, im.V, 1, 32, 32, 1)) })
	var want []float64
	for _, v := range corrupt.Standardise(corrupt.Image(im)).V {
		want = append(want, float64(v))
	}
	nntest.Close(t, "standardised image", got, want, 1e-5)
}

func TestFPIGradients(t *testing.T) {
	m := NewFPI()
	m.Width, m.Widen, m.Halvings = 2, 1, 2
	nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
		share := nn.Sigmoid(s, noise(s, 6, 16))
		return loss.BinaryCrossEntropy(s, m.forward(s, noise(s, 6, 16)), share)
	}, nntest.Options{Samples: 2, Step: 4e-3, Tolerance: 0.05})
}

// The proxy loss falls and scores do not depend on the scoring batch.
func TestFPILearns(t *testing.T) {
	r := run(t, small+`
[[method]]
name = "fpi"
width = 2
adam = { lr = 0.005 }
train = { steps = 40, batch = 8, log_every = 4, threads = 1 }
`, "auroc")
	r.falls(t, "interpolation", 0.3)
	r.rebatched(t, 5)
}

// With THORAX_FPI set: on the easiest generated images the proxy loss falls and
// pixel AUROC is 0.70 or more. Takes about a minute of processor time.
func TestFPIPhantom(t *testing.T) {
	if os.Getenv("THORAX_FPI") == "" {
		t.Skip("set THORAX_FPI=1 to train for a minute")
	}
	r := run(t, `
seeds = [0]
[[data]]
set = "phantom"
size = 32
validation = 0
phantom = { train = 300, test_normal = 40, test_abnormal = 40, level = 0 }
[[method]]
name = "fpi"
width = 4
bn_momentum = 0.1
adam = { lr = 0.005, schedule = { kind = "cosine" } }
train = { steps = 600, batch = 16, threads = 1 }
`, "pixel-auroc", "auroc")
	r.falls(t, "interpolation", 0.5)
	t.Logf("%v", r.figures)
	if got := r.figures["pixel-auroc"]; got < 0.7 {
		t.Errorf("pixel AUROC %.3f, need 0.70 or more", got)
	}
}
