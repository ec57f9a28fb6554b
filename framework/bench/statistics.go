package bench

import (
	"context"
	"math/rand/v2"
	"runtime"
	"time"

	"thorax/framework/metric"
)

// statistics measures the bootstrap of a table of five methods with three seeds each on
// one core: AUROC, AP, accuracy and F1 of 624 images, the size of ZhangLab's test set.
func statistics(ctx context.Context, _ Options, _ time.Duration) ([]Result, error) {
	const images, normals, validation, runs = 624, 234, 134, 15
	random := rand.New(rand.NewPCG(1, 1))
	inputs := make([]metric.Input, runs)
	for r := range inputs {
		in := &inputs[r]
		for i := range images {
			abnormal := i >= normals
			score := random.NormFloat64()
			if abnormal {
				score++
			}
			in.Scores, in.Abnormal = append(in.Scores, score), append(in.Abnormal, abnormal)
		}
		for range validation {
			in.Validation = append(in.Validation, random.NormFloat64())
		}
	}
	var specs []metric.Spec
	for _, name := range []string{"auroc", "ap", "acc@q-val.05", "f1@q-val.05"} {
		spec, err := metric.Parse(name)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	start := time.Now()
	if _, err := (metric.Bootstrap{Seed: 1}).Run(specs, inputs); err != nil {
		return nil, err
	}
	return []Result{{Name: "bootstrap, 15 runs of 624 images, 2,000 resamples", Goal: 2, Figure: time.Since(start).Seconds(), Unit: "s"}}, ctx.Err()
}
