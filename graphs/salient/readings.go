package salient

import (
	"fmt"
	"slices"
)

// A Reading says what is computed where the released code and what it is meant
// to compute part.
type Reading string

// The readings. The zero value leaves it to the mode.
const (
	Corrected Reading = "corrected" // what is meant
	Faithful  Reading = "faithful"  // what the released code computes
)

// Check refuses an unknown reading.
func (r Reading) Check() error {
	switch r {
	case "", Corrected, Faithful:
		return nil
	}
	return fmt.Errorf("%q, need corrected or faithful", string(r))
}

// Readings are the places where the released code and its intent part, a key
// each; what is not set is what the mode says.
type Readings struct {
	PCABasis        Reading `toml:"pca_basis"`        // matrix of eigenvectors; faithful: [8,C] reshaped, not transposed, to [C,8], so that results depend on the vectors' signs
	PCAProject      Reading `toml:"pca_project"`      // what is projected: centred features; faithful: as they are
	PCAView         Reading `toml:"pca_view"`         // projection [HW,8] as [8,HW]: transposed; faithful: reshaped
	EntropyReg      Reading `toml:"entropy_reg"`      // squared term of a spectrum without one position: its own; faithful: that of the full spectrum
	VarNorm         Reading `toml:"var_norm"`         // extremes that scale the variance: of the image; faithful: of the batch, 0/0 where all is constant
	SalientRows     Reading `toml:"salient_rows"`     // query vectors: features at the positions; faithful: rows of the channel-first memory
	BatchOffset     Reading `toml:"batch_offset"`     // whose query vectors: the own image's; faithful: all from image 0 of the batch
	NQuery          Reading `toml:"n_query"`          // query vectors an image: one a salient position; faithful: 25
	NNormal         Reading `toml:"n_normal"`         // normal positions: the rest; faithful: ⌊0.9·HW+1⌋, the surplus one being position 0
	ReliabilityMean Reading `toml:"reliability_mean"` // mean of the absolute residual; faithful: of the signed one, so that weights may be negative
	Frozen          string  `toml:"frozen_mode"`      // encoder and quantiser in stage 2: eval (either mode's default) or train: batch statistics, and averages and codebook move on, as they may have in the released code's first epoch
	Candidates      string  `toml:"cand_scope"`       // codes that may replace one: image (the pool of all salient positions, either mode's default) or own (neighbours of the position itself but its code)
	FeedForward     bool    `toml:"transformer_ffn"`  // the feed-forward layers that the released code builds and does not call
}

func (r *Readings) readings() []struct {
	key   string
	value *Reading
} {
	return []struct {
		key   string
		value *Reading
	}{
		{"pca_basis", &r.PCABasis}, {"pca_project", &r.PCAProject}, {"pca_view", &r.PCAView},
		{"entropy_reg", &r.EntropyReg}, {"var_norm", &r.VarNorm}, {"salient_rows", &r.SalientRows},
		{"batch_offset", &r.BatchOffset}, {"n_query", &r.NQuery}, {"n_normal", &r.NNormal},
		{"reliability_mean", &r.ReliabilityMean},
	}
}

// Check names the first key out of range.
func (r Readings) Check() error {
	for _, k := range r.readings() {
		if err := k.value.Check(); err != nil {
			return fmt.Errorf("%s: %w", k.key, err)
		}
	}
	if !slices.Contains([]string{"eval", "train"}, r.Frozen) {
		return fmt.Errorf("frozen_mode: %q, need eval or train", r.Frozen)
	}
	if !slices.Contains([]string{"image", "own"}, r.Candidates) {
		return fmt.Errorf("cand_scope: %q, need image or own", r.Candidates)
	}
	return nil
}

// Under returns r with every reading that is not set as the mode has it.
func (r Readings) Under(mode Reading) Readings {
	for _, k := range r.readings() {
		if *k.value == "" {
			*k.value = mode
		}
	}
	return r
}
