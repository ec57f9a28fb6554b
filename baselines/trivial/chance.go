package trivial

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"thorax/framework"
)

func init() {
	register("chance", "uniform noise", func() any { return &Chance{} })
}

// Chance scores every image by a uniform number in [0,1) that depends on the
// seed and the image alone, wherever in a list the image stands. Its AUROC is
// ½ but for the error of a finite test set.
type Chance struct {
	Seed uint64 `toml:"-"`
}

// Check implements [framework.Direct].
func (m *Chance) Check() error { return nil }

// Fit keeps the seed.
func (m *Chance) Fit(_ framework.Images, seed uint64) error {
	m.Seed = seed
	return nil
}

// Score implements [framework.Direct].
func (m *Chance) Score(x framework.Images, i int) (float64, []float32, error) {
	h := fnv.New64a()
	for _, v := range x.Pixels(i).V {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
		h.Write(b[:])
	}
	return rand.New(rand.NewPCG(m.Seed, h.Sum64())).Float64(), nil, nil
}
