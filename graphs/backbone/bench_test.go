package backbone

import (
	"math/rand/v2"
	"slices"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// BenchmarkLite0 measures the frozen network to reduction_4 on 32 images of
// 128×128.
func BenchmarkLite0(b *testing.B) {
	s := nn.NewScope(0).Inference()
	x := image(s, 32, 128, 128, 1)
	taps := []string{"reduction_2", "reduction_3", "reduction_4"}
	got := Backbone{Name: Lite0, Random: true}.Features(s.In("backbone"), x, taps...)
	on, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer on.Close()
	if err := on.Init(); err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	v := slices.Repeat([]float32{0}, 32*128*128)
	for i := range v {
		v[i] = r.Float32()
	}
	feed := map[tf.Output]*tf.Tensor{x: session.Floats([]int{32, 128, 128, 1}, v)}
	for b.Loop() {
		if _, err := on.Run(feed, []tf.Output{got["reduction_3"], got["reduction_4"]}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/32/float64(b.N), "ms/image")
}
