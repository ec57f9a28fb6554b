package inpaint

import (
	"math"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// The map is that of weights by finite differences of the verdict and of a plain
// loop over positions.
func TestGradCAM(t *testing.T) {
	const images, side, c = 2, 32, 64 // two stages: 16, 32, 64 channels
	s := nn.NewScope(3)
	x := nn.Consts(s, nntest.Draw(5, images*side*side), images, side, side, 1)
	at := s.Inference()
	logit, maps := Discriminator{Widest: 256, PerSample: true}.Judge(at, x)
	y := nn.Neg(at, logit)
	cam := GradCAM(at, y, maps, side)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	run, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if err := run.Init(); err != nil {
		t.Fatal(err)
	}
	out, err := run.Run(nil, []tf.Output{maps, cam})
	if err != nil {
		t.Fatal(err)
	}
	a, got := session.Values(out[0]), session.Values(out[1])
	if len(a) != images*final*final*c {
		t.Fatalf("%d values of the last maps", len(a))
	}

	// A channel that is raised by ε everywhere raises y by ε times its summed gradient.
	const epsilon = 0.5 // y is linear in the maps
	verdict := func(channel int, by float32) []float32 {
		moved := append([]float32(nil), a...)
		for i := channel; i < len(moved); i += c {
			moved[i] += by
		}
		out, err := run.Run(map[tf.Output]*tf.Tensor{maps: session.Floats([]int{images, final, final, c}, moved)}, []tf.Output{y})
		if err != nil {
			t.Fatal(err)
		}
		return session.Values(out[0])
	}
	var coarse [images][final * final]float64
	for channel := range c {
		up, down := verdict(channel, epsilon), verdict(channel, -epsilon)
		for b := range images {
			weight := float64(up[b]-down[b]) / (2 * epsilon) / (final * final)
			for p := range final * final {
				coarse[b][p] += weight * float64(a[(b*final*final+p)*c+channel])
			}
		}
	}
	var want []float64
	positive := 0
	for b := range images {
		at := func(i, j int) float64 {
			v := max(coarse[b][min(max(i, 0), final-1)*final+min(max(j, 0), final-1)], 0)
			return v
		}
		for i := range side {
			for j := range side {
				u, v := (float64(i)+.5)*final/side-.5, (float64(j)+.5)*final/side-.5
				i0, j0 := int(math.Floor(u)), int(math.Floor(v))
				du, dv := u-float64(i0), v-float64(j0)
				value := (1-du)*((1-dv)*at(i0, j0)+dv*at(i0, j0+1)) + du*((1-dv)*at(i0+1, j0)+dv*at(i0+1, j0+1))
				want = append(want, value)
				if value > 1e-3 {
					positive++
				}
			}
		}
	}
	if positive < 100 {
		t.Fatalf("%d pixels of the map are positive: the test sees nothing", positive)
	}
	nntest.Close(t, "map", got, want, 1e-5)
}
