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

// salient measures the steps of both stages of salient_ct with its defaults at
// its own size and batch: 2,048 codes, 12 layers.
func salient(ctx context.Context, o Options, unit time.Duration) ([]Result, error) {
	const batch, size, rounds = 16, 128, 5
	info, err := framework.Lookup("salient_ct")
	if err != nil {
		return nil, err
	}
	m := info.New().(framework.Method)
	in := framework.Inputs{Images: 1000, Batch: batch, Rows: batch, Size: size}
	var results []Result
	for _, precision := range []string{"float32", "bf16"} {
		goals := map[string][2]float64{"float32": {7.2, 17}, "bf16": {4.5, 10.5}}[precision]
		stages := []Result{
			{Name: "salient_ct, 128 px, batch 16, " + precision + ": stage 1", Goal: goals[0], Unit: "units"},
			{Name: "salient_ct, 128 px, batch 16, " + precision + ": stage 2", Goal: goals[1], Unit: "units"},
		}
		if precision == "bf16" && !train.BF16() {
			for i := range stages {
				stages[i].Skipped = "the processor has no bf16 instructions"
			}
			results = append(results, stages...)
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
		numbers := make([]int64, batch)
		for i := range numbers {
			numbers[i] = int64(i)
		}
		image := session.Floats([]int{batch, size, size, 1}, pixels)
		for i, feeds := range []map[tf.Output]*tf.Tensor{
			{st.Inputs.Image: image},
			{st.Inputs.Image: image, st.Inputs.Index: session.Ints([]int{batch}, numbers)},
		} {
			st.Phase = 2 * i // between them lies a fit
			var best time.Duration
			for k := range rounds {
				if err := ctx.Err(); err != nil {
					return results, err
				}
				start := time.Now()
				if _, err := st.Step(k, feeds); err != nil {
					return results, err
				}
				if d := time.Since(start); k > 0 && (best == 0 || d < best) {
					best = d
				}
			}
			stages[i].Figure = best.Seconds() / unit.Seconds()
		}
		if err := st.Session.Close(); err != nil {
			return results, err
		}
		results = append(results, stages...)
		if precision == "float32" {
			results = append(results, Result{Name: "salient_ct, 128 px, batch 16, float32: peak memory", Goal: 3.6, Figure: float64(train.Peak()) / (1 << 30), Unit: "GiB"})
		}
	}
	return results, nil
}
