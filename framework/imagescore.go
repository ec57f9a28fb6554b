package framework

import (
	"fmt"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// ImageScore is the rule that makes an image score of an anomaly map. It moves
// AUROC by many points and is part of every protocol.
type ImageScore string

// The rules.
const (
	Mean     ImageScore = "mean"      // of all pixels
	Max      ImageScore = "max"       // of all pixels
	TopKMean ImageScore = "topk_mean" // of the largest hundredth of the pixels
)

// Check refuses an unknown rule.
func (r ImageScore) Check() error {
	switch r {
	case Mean, Max, TopKMean:
		return nil
	}
	return fmt.Errorf("image_score: %q, need mean, max or topk_mean", string(r))
}

// Of returns the image scores [B] of the maps m [B,H,W].
func (r ImageScore) Of(s *nn.Scope, m tf.Output) tf.Output {
	switch r {
	case Max:
		return nn.MaxImage(s, m)
	case TopKMean:
		flat := nn.Flatten(s, m)
		top, _ := nn.TopK(s, flat, max(nn.Dim(s, flat, 1)/100, 1))
		return nn.Mean(s, top, 1)
	}
	return nn.MeanImage(s, m)
}
