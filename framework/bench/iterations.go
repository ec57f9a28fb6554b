package bench

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/train"
	"thorax/graphs/session"
)

// iterations are the kinds of steps of a large method, measured at its own size
// of 128 px and batch of 16 with its defaults.
type iterations struct {
	method string
	kinds  []kind
	memory float64 // goal of the peak in float32, GiB
	// measure returns the best time of each kind; image holds a batch.
	measure func(ctx context.Context, st *train.Stepper, image *tf.Tensor) ([]time.Duration, error)
}

// A kind of step has a goal in units for each precision.
type kind struct {
	name          string
	float32, bf16 float64
}

const (
	batch = 16
	never = time.Duration(math.MaxInt64)
)

// run measures both precisions, bf16 only where the processor has it.
func (b iterations) run(ctx context.Context, o Options, unit time.Duration) ([]Result, error) {
	const size = 128
	info, err := framework.Lookup(b.method)
	if err != nil {
		return nil, err
	}
	m := info.New().(framework.Method)
	in := framework.Inputs{Images: 1000, Batch: batch, Rows: batch, Size: size}
	pixels := make([]float32, batch*size*size)
	for i := range pixels {
		pixels[i] = rand.Float32()
	}
	var results []Result
	for _, precision := range []string{"float32", "bf16"} {
		name := b.method + ", 128 px, batch 16, " + precision + ": "
		kinds := make([]Result, len(b.kinds))
		for i, k := range b.kinds {
			kinds[i] = Result{Name: name + k.name, Goal: k.float32, Unit: "units"}
			if precision == "bf16" {
				kinds[i].Goal = k.bf16
			}
		}
		if precision == "bf16" && !train.BF16() {
			for i := range kinds {
				kinds[i].Skipped = "the processor has no bf16 instructions"
			}
			results = append(results, kinds...)
			continue
		}
		train.ResetPeak()
		st, err := train.NewStepper(m, 1, in, 1000, session.Options{Threads: o.Threads, Precision: precision})
		if err != nil {
			return results, err
		}
		best, err := b.measure(ctx, st, session.Floats([]int{batch, size, size, 1}, pixels))
		if err != nil {
			return results, err
		}
		if err := st.Session.Close(); err != nil {
			return results, err
		}
		for i := range kinds {
			kinds[i].Figure = best[i].Seconds() / unit.Seconds()
		}
		results = append(results, kinds...)
		if precision == "float32" {
			results = append(results, Result{Name: name + "peak memory", Goal: b.memory, Figure: float64(train.Peak()) / (1 << 30), Unit: "GiB"})
		}
	}
	return results, nil
}

// timed takes step k.
func timed(ctx context.Context, st *train.Stepper, k int, feeds map[tf.Output]*tf.Tensor) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	start := time.Now()
	_, err := st.Step(k, feeds)
	return time.Since(start), err
}
