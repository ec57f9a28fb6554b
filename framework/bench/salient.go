package bench

import (
	"context"
	"time"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework/train"
	"thorax/graphs/session"
)

// salient measures the steps of both stages of salient_ct: 2,048 codes, 12
// layers.
var salient = iterations{
	method: "salient_ct",
	kinds:  []kind{{"stage 1", 7.2, 4.5}, {"stage 2", 17, 10.5}},
	memory: 3.6,
	measure: func(ctx context.Context, st *train.Stepper, image *tf.Tensor) ([]time.Duration, error) {
		const rounds = 5 // the first plans
		numbers := make([]int64, batch)
		for i := range numbers {
			numbers[i] = int64(i)
		}
		best := []time.Duration{never, never}
		for i, feeds := range []map[tf.Output]*tf.Tensor{
			{st.Inputs.Image: image},
			{st.Inputs.Image: image, st.Inputs.Index: session.Ints([]int{batch}, numbers)},
		} {
			st.Phase = 2 * i // between them lies a fit
			for k := range rounds {
				d, err := timed(ctx, st, k, feeds)
				if err != nil {
					return nil, err
				}
				if k > 0 {
					best[i] = min(best[i], d)
				}
			}
		}
		return best, nil
	},
}
