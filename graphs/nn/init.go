package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// An Initializer returns the first value of a variable, row-major. A random one
// draws from rng, which depends on the run's seed and the variable's path only:
// initial values are the same on every machine. They are fed, never constants
// of the graph.
type Initializer func(shape []int, rng *rand.Rand) ([]float32, error)

// Constant starts every element at c.
func Constant(c float64) Initializer {
	return func(shape []int, _ *rand.Rand) ([]float32, error) {
		v := make([]float32, elements(shape))
		if c != 0 {
			for i := range v {
				v[i] = float32(c)
			}
		}
		return v, nil
	}
}

// Zeros starts every element at 0.
func Zeros() Initializer { return Constant(0) }

// Ones starts every element at 1.
func Ones() Initializer { return Constant(1) }

// Values starts a variable at v, which must have as many elements as it.
func Values(v []float32) Initializer { return Load(func() ([]float32, error) { return v, nil }) }

// Load starts a variable at what load returns when the first session starts:
// weights from a file.
func Load(load func() ([]float32, error)) Initializer {
	return func(shape []int, _ *rand.Rand) ([]float32, error) {
		v, err := load()
		if err == nil && len(v) != elements(shape) {
			err = fmt.Errorf("%d values for shape %v", len(v), shape)
		}
		return v, err
	}
}

// Uniform draws from U(low, high).
func Uniform(low, high float64) Initializer {
	return draw(func([]int) func(*rand.Rand) float64 {
		return func(r *rand.Rand) float64 { return low + (high-low)*r.Float64() }
	})
}

// Normal draws from N(0, std²).
func Normal(std float64) Initializer {
	return draw(func([]int) func(*rand.Rand) float64 {
		return func(r *rand.Rand) float64 { return std * r.NormFloat64() }
	})
}

// TruncatedNormal draws from N(0, std²), redrawing values beyond two std.
func TruncatedNormal(std float64) Initializer {
	return draw(func([]int) func(*rand.Rand) float64 { return truncated(std) })
}

// PyTorch is the default of PyTorch's convolution and linear layers, weights
// and biases alike: U(-1/√f, 1/√f) with f the fan-in of the weight.
func PyTorch(fanIn int) Initializer {
	bound := 1 / math.Sqrt(float64(max(fanIn, 1)))
	return Uniform(-bound, bound)
}

// KaimingNormalFanOut is PyTorch's kaiming_normal_(mode="fan_out") for ReLU,
// the start of torchvision's ResNets: N(0, 2/fan-out).
func KaimingNormalFanOut() Initializer {
	return draw(func(shape []int) func(*rand.Rand) float64 {
		_, out := fans(shape)
		std := math.Sqrt(2 / float64(out))
		return func(r *rand.Rand) float64 { return std * r.NormFloat64() }
	})
}

// KaimingNormal is PyTorch's kaiming_normal_ for ReLU: N(0, 2/fan-in).
func KaimingNormal() Initializer {
	return draw(func(shape []int) func(*rand.Rand) float64 {
		in, _ := fans(shape)
		std := math.Sqrt(2 / float64(in))
		return func(r *rand.Rand) float64 { return std * r.NormFloat64() }
	})
}

// GlorotUniform is Keras's default and PyTorch's xavier_uniform_:
// U(-a, a), a = √(6/(fan-in + fan-out)).
func GlorotUniform() Initializer {
	return draw(func(shape []int) func(*rand.Rand) float64 {
		in, out := fans(shape)
		a := math.Sqrt(6 / float64(in+out))
		return func(r *rand.Rand) float64 { return a * (2*r.Float64() - 1) }
	})
}

// GlorotNormal is PyTorch's xavier_normal_: N(0, 2/(fan-in + fan-out)).
func GlorotNormal() Initializer {
	return draw(func(shape []int) func(*rand.Rand) float64 {
		in, out := fans(shape)
		std := math.Sqrt(2 / float64(in+out))
		return func(r *rand.Rand) float64 { return std * r.NormFloat64() }
	})
}

// HeNormal is Keras's he_normal: a normal truncated at two standard deviations
// whose variance after truncation is 2/fan-in.
func HeNormal() Initializer {
	return draw(func(shape []int) func(*rand.Rand) float64 {
		in, _ := fans(shape)
		return truncated(math.Sqrt(2/float64(in)) / truncatedStd)
	})
}

// truncatedStd is the standard deviation of a standard normal truncated at ±2.
const truncatedStd = 0.87962566103423978

func truncated(std float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 {
		for {
			if z := r.NormFloat64(); math.Abs(z) <= 2 {
				return std * z
			}
		}
	}
}

func draw(of func(shape []int) func(*rand.Rand) float64) Initializer {
	return func(shape []int, rng *rand.Rand) ([]float32, error) {
		next := of(shape)
		v := make([]float32, elements(shape))
		for i := range v {
			v[i] = float32(next(rng))
		}
		return v, nil
	}
}

// fans returns fan-in and fan-out of a kernel [k,k,in,out] or matrix [in,out].
func fans(shape []int) (in, out int) {
	n := len(shape)
	switch n {
	case 0:
		return 1, 1
	case 1:
		return shape[0], shape[0]
	}
	area := 1
	for _, d := range shape[:n-2] {
		area *= d
	}
	return shape[n-2] * area, shape[n-1] * area
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= max(d, 0)
	}
	return n
}
