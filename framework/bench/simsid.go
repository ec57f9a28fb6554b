package bench

import (
	"context"
	"math/rand/v2"
	"time"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/train"
	"thorax/graphs/session"
)

// simsid measures the two kinds of iteration of preset "paper" at its own size
// and batch: those that train the discriminator alone and those that train the
// generator too.
func simsid(ctx context.Context, o Options, unit time.Duration) ([]Result, error) {
	const batch, size, rounds = 16, 128, 6
	info, err := framework.Lookup("simsid")
	if err != nil {
		return nil, err
	}
	m := info.New().(framework.Method)
	in := framework.Inputs{Images: 1000, Batch: batch, Rows: batch, Size: size}
	var results []Result
	for _, precision := range []string{"float32", "bf16"} {
		goals := map[string][2]float64{"float32": {3.3, 9.4}, "bf16": {2.1, 6.0}}[precision]
		d := Result{Name: "simsid, 128 px, batch 16, " + precision + ": D iteration", Goal: goals[0], Unit: "units"}
		g := Result{Name: "simsid, 128 px, batch 16, " + precision + ": D and G iteration", Goal: goals[1], Unit: "units"}
		if precision == "bf16" && !train.BF16() {
			d.Skipped = "the processor has no bf16 instructions"
			g.Skipped = d.Skipped
			results = append(results, d, g)
			continue
		}
		train.ResetPeak()
		st, err := train.NewStepper(m, 1, in, 1000, session.Options{Threads: o.Threads, Precision: precision})
		if err != nil {
			return results, err
		}
		pixels := make([]float32, batch*size*size)
		for i := range pixels {
			pixels[i] = rand.Float32()
		}
		feeds := map[tf.Output]*tf.Tensor{st.Inputs.Image: session.Floats([]int{batch, size, size, 1}, pixels)}
		var best [2]time.Duration // both networks, the discriminator alone
		for k := range 2 * rounds {
			if err := ctx.Err(); err != nil {
				return results, err
			}
			start := time.Now()
			if _, err := st.Step(k, feeds); err != nil {
				return results, err
			}
			if d := time.Since(start); k > 1 && (best[k%2] == 0 || d < best[k%2]) {
				best[k%2] = d
			}
		}
		if err := st.Session.Close(); err != nil {
			return results, err
		}
		d.Figure, g.Figure = best[1].Seconds()/unit.Seconds(), best[0].Seconds()/unit.Seconds()
		results = append(results, d, g)
		if precision == "float32" {
			results = append(results, Result{Name: "simsid, 128 px, batch 16, float32: peak memory", Goal: 3.2, Figure: float64(train.Peak()) / (1 << 30), Unit: "GiB"})
		}
	}
	return results, nil
}
