package bench

import (
	"context"
	"time"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework/train"
)

// simsid measures the two kinds of iteration of preset "paper": those that train
// the discriminator alone and, in turn with them, those that train the generator
// too.
var simsid = iterations{
	method: "simsid",
	kinds:  []kind{{"D iteration", 3.3, 2.1}, {"D and G iteration", 9.4, 6.0}},
	memory: 3.2,
	measure: func(ctx context.Context, st *train.Stepper, image *tf.Tensor) ([]time.Duration, error) {
		const rounds = 6 // the first plans
		feeds := map[tf.Output]*tf.Tensor{st.Inputs.Image: image}
		best := []time.Duration{never, never}
		for k := range 2 * rounds {
			d, err := timed(ctx, st, k, feeds)
			if err != nil {
				return nil, err
			}
			if k > 1 {
				i := 1 - k%2 // even ones train both
				best[i] = min(best[i], d)
			}
		}
		return best, nil
	},
}
