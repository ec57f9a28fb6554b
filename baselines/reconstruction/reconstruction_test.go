package reconstruction

import (
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

func images(s *nn.Scope, batch, side int) tf.Output {
	return op.Placeholder(s.In("inputs").Op("image"), tf.Float, op.PlaceholderShape(tf.MakeShape(int64(batch), int64(side), int64(side), 1)))
}

// The counts are sums over the layer table of the specification at S = 128:
// kernels without bias, linear layers with, two values a batch norm channel.
func TestParameters(t *testing.T) {
	const (
		down   = 16*1*16 + 16*16*32 + 16*32*64 + 16*64*64 + 2*(16+32+64+64)
		up     = 16*64*64 + 16*64*32 + 16*32*16 + 16*16*1 + 2*(64+32+16)
		linear = (4096*1024 + 1024) + 2*1024 + (1024*4096 + 4096)
	)
	for _, tt := range []struct {
		name   string
		method framework.Method
		want   int64
	}{
		{"ae", NewAE(), down + up + linear + (1024*16 + 16) + (16*1024 + 1024) + 2*1024},
		{"vae", NewVAE(), down + up + linear + (1024*32 + 32) + (16*1024 + 1024) + 2*1024},
		{"ae, spatial", &AE{Autoencoder: spatial(), Loss: "l2"}, down + up + 64*1024 + 2*1024 + 1024*16 + 16 + 16*1024 + 2*1024 + 1024*64 + 64},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := nn.NewScope(0)
			tt.method.Train(s, framework.Inputs{Image: images(s, 2, 128)})
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			var got int64
			for _, v := range s.Trainable() {
				got += v.Size()
			}
			if got != tt.want {
				t.Errorf("%d trained parameters, want %d", got, tt.want)
			}
		})
	}
}

func spatial() Autoencoder {
	a := newAutoencoder()
	a.Bottleneck = "spatial"
	return a
}

// tiny has few enough parameters for finite differences.
func tiny() Autoencoder {
	a := newAutoencoder()
	a.Width, a.Hidden, a.Latent = 2, 6, 3
	return a
}

func TestLossGradients(t *testing.T) {
	vae := &VAE{Autoencoder: tiny(), KL: 0.5}
	for name, m := range map[string]framework.Method{
		"l2":   &AE{Autoencoder: tiny(), Loss: "l2"},
		"l1":   &AE{Autoencoder: tiny(), Loss: "l1"},
		"ssim": &AE{Autoencoder: tiny(), Loss: "ssim"},
		"vae":  vae,
	} {
		t.Run(name, func(t *testing.T) {
			nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
				x := nn.Sigmoid(s.In("x"), nntest.Input(s, "image", 6, 32, 32, 1))
				return m.Train(s, framework.Inputs{Image: x})[0].Updates[0].Loss(s)
			}, nntest.Options{Samples: 2, Step: 2e-3, Tolerance: 3e-2})
		})
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		change func(*VAE)
		want   string
	}{
		{func(m *VAE) { m.Latent = 0 }, "latent: 0, need 1 or more"},
		{func(m *VAE) { m.KL = -1 }, "kl: -1, need 0 or more"},
		{func(m *VAE) { m.Bottleneck = "none" }, `bottleneck: "none", need linear or spatial`},
		{func(m *VAE) { m.Adam.LR = 0 }, "adam.lr: 0, need more than 0"},
		{func(m *VAE) { m.ImageScore = "median" }, `image_score: "median", need mean, max or topk_mean`},
	} {
		m := NewVAE()
		tt.change(m)
		if err := m.Check(); err == nil || err.Error() != tt.want {
			t.Errorf("Check() = %v, want %s", err, tt.want)
		}
	}
}

func TestSizeMustDivide(t *testing.T) {
	s := nn.NewScope(0)
	NewAE().Train(s, framework.Inputs{Image: images(s, 1, 40)})
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "multiple of 16") {
		t.Errorf("error = %v, want one that names the multiple", err)
	}
}

// Trap: the output has no activation, and clipping it would change the score.
func TestScoreIsNotClipped(t *testing.T) {
	m := &AE{Autoencoder: tiny(), Loss: "l2"}
	s := nn.NewScope(3)
	x := images(s, 2, 16)
	scores := m.Score(s.Inference(), x)
	sess, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	if err := sess.Init(); err != nil {
		t.Fatal(err)
	}
	// A last kernel of great weights drives the output far out of [-1,1].
	last := s.Lookup("decoder/0/kernel")
	big := make([]float32, last.Size())
	for i := range big {
		big[i] = 1e4
	}
	if err := sess.Set(last, last.Shape, big); err != nil {
		t.Fatal(err)
	}
	out, err := sess.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{2, 16, 16, 1}, make([]float32, 512))}, []tf.Output{scores.Image})
	if err != nil {
		t.Fatal(err)
	}
	// Within [-1,1] no squared error can exceed 4.
	if v := session.Values(out[0]); v[0] <= 4 {
		t.Errorf("score = %g: the output seems to be clipped", v[0])
	}
}
