package loss_test

import (
	"math"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/loss"
	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
)

// target returns one-hot rows.
func target(s *nn.Scope) tf.Output {
	return nn.Consts(s, []float32{1, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0}, 4, 3)
}

func TestLossGradients(t *testing.T) {
	for _, tt := range []struct {
		name  string
		shape []int
		loss  func(s *nn.Scope, x, y tf.Output) tf.Output
	}{
		{"mean squared", []int{2, 5}, loss.MeanSquared},
		{"mean absolute", []int{2, 5}, loss.MeanAbsolute},
		{"huber", []int{4, 5}, func(s *nn.Scope, x, y tf.Output) tf.Output { return loss.Huber(s, x, y, 0.5) }},
		{"kl", []int{2, 5}, loss.KLStandardNormal},
		{"kl sum", []int{2, 5}, loss.KLStandardNormalSum},
		{"cosine distance", []int{2, 3, 5}, loss.CosineDistance},
		{"cross entropy", []int{4, 3}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			return loss.CrossEntropy(s, nn.Add(s, x, y), target(s))
		}},
		{"cross entropy of labels", []int{2, 2, 3}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			labels := nn.Cast(s, nn.Consts(s, []float32{0, 2, 1, 1}, 2, 2), tf.Int64)
			return loss.CrossEntropyLabels(s, nn.Mul(s, x, y), labels)
		}},
		{"binary cross entropy", []int{2, 5}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			return loss.BinaryCrossEntropy(s, x, nn.Sigmoid(s, y))
		}},
		{"focal", []int{4, 3}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			return loss.Focal(s, nn.Softmax(s, nn.Add(s, x, y)), target(s), 2)
		}},
		{"focal mask", []int{2, 2, 2, 2}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			mask := nn.Consts(s, []float32{0, 1, 0, 0, 1, 1, 0, 0}, 2, 2, 2)
			return loss.FocalMask(s, nn.Softmax(s, nn.Add(s, x, y)), mask, 1.5)
		}},
		{"ssim", []int{2, 7, 6, 1}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			return loss.SSIM(s, nn.Sigmoid(s, x), nn.Sigmoid(s, y), loss.Similarity{Window: 5})
		}},
		{"ssim zero-padded", []int{2, 5, 6, 2}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			return loss.SSIM(s, x, y, loss.Similarity{Range: 4, ZeroPad: true})
		}},
		{"multi-scale ssim", []int{1, 12, 14, 2}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			y = nn.Add(s, x, nn.Scale(s, y, 0.5)) // similar, or every factor is at its floor
			index, _ := loss.MultiScaleSSIM(s, x, y, loss.MultiScaleWeights[:3], loss.Similarity{Window: 3})
			return index
		}},
		{"squared norm", []int{2, 3}, func(s *nn.Scope, x, y tf.Output) tf.Output {
			return loss.SquaredNorm(s, s.In("input").Trainable())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
				return tt.loss(s, nntest.Input(s, "x", tt.shape...), nntest.Input(s, "y", tt.shape...))
			}, nntest.Options{})
		})
	}
}

// The penalty is a function of second derivatives; its own gradient checks
// every layer that a critic may use.
func TestGradientPenalty(t *testing.T) {
	critic := func(s *nn.Scope, x tf.Output) tf.Output {
		h := nn.Conv2D(s.In("conv"), x, nn.Conv{Out: 3, Kernel: 3, Stride: 2, Pad: nn.Symmetric(1)})
		h = nn.LeakyReLU(s, nn.ImageNorm(s.In("norm"), h, nn.Norm{}), 0.2)
		h = nn.MeanPool(s, h, 2)
		return nn.Dense(s.In("dense"), nn.LayerNorm(s.In("norm2"), nn.Flatten(s, h), nn.Norm{}), 1)
	}
	nntest.CheckGradients(t, func(s *nn.Scope) tf.Output {
		x := nntest.Input(s, "x", 2, 8, 8, 2)
		return loss.GradientPenalty(s, critic(s, x), x)
	}, nntest.Options{Except: []string{"dense/bias", "norm2/beta"}})

	// Of a linear critic w·x it is (|w|-1)².
	got := nntest.Value(t, func(s *nn.Scope) tf.Output {
		x := nntest.Input(s, "x", 3, 2)
		return loss.GradientPenalty(s, nn.MatMul(s, x, nn.Consts(s, []float32{3, 4}, 2, 1)), x)
	})
	nntest.Close(t, "penalty", got, []float64{16}, 1e-5)
}

// Expected values are the definitions in float64.
func TestLossValues(t *testing.T) {
	const n, k = 4, 3
	x, y := nntest.Draw(1, n*k), nntest.Draw(2, n*k)
	each := func(f func(x, y float64) float64) float64 {
		sum := 0.0
		for i := range x {
			sum += f(float64(x[i]), float64(y[i]))
		}
		return sum / float64(len(x))
	}
	labels := []int{0, 2, 1, 0}
	logp := func(i int) float64 { // log softmax of row i at its label
		sum := 0.0
		for _, v := range x[i*k : i*k+k] {
			sum += math.Exp(float64(v))
		}
		return float64(x[i*k+labels[i]]) - math.Log(sum)
	}
	rows := func(f func(i int) float64) float64 {
		sum := 0.0
		for i := range n {
			sum += f(i)
		}
		return sum / n
	}
	sigmoid := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	divergence := func(m, l float64) float64 { return 0.5 * (m*m + math.Exp(l) - 1 - l) }

	for _, tt := range []struct {
		name string
		loss func(s *nn.Scope, x, y tf.Output) tf.Output
		want float64
	}{
		{"mean squared", loss.MeanSquared, each(func(x, y float64) float64 { return (x - y) * (x - y) })},
		{"mean absolute", loss.MeanAbsolute, each(func(x, y float64) float64 { return math.Abs(x - y) })},
		{
			"huber", func(s *nn.Scope, x, y tf.Output) tf.Output { return loss.Huber(s, x, y, 0.7) },
			each(func(x, y float64) float64 {
				if d := math.Abs(x - y); d > 0.7 {
					return 0.7 * (d - 0.35)
				}
				return (x - y) * (x - y) / 2
			}),
		},
		{"kl", loss.KLStandardNormal, each(divergence)},
		{"kl sum", loss.KLStandardNormalSum, k * each(divergence)},
		{
			"cross entropy", func(s *nn.Scope, x, _ tf.Output) tf.Output { return loss.CrossEntropy(s, x, target(s)) },
			rows(func(i int) float64 { return -logp(i) }),
		},
		{
			"cross entropy of labels", func(s *nn.Scope, x, _ tf.Output) tf.Output {
				return loss.CrossEntropyLabels(s, x, nn.Cast(s, nn.Consts(s, []float32{0, 2, 1, 0}, 4), tf.Int64))
			},
			rows(func(i int) float64 { return -logp(i) }),
		},
		{
			"binary cross entropy", func(s *nn.Scope, x, y tf.Output) tf.Output {
				return loss.BinaryCrossEntropy(s, nn.Scale(s, x, 20), nn.Sigmoid(s, y)) // log(1-p) itself would overflow
			},
			each(func(x, y float64) float64 {
				p := sigmoid(y)
				return p*math.Log1p(math.Exp(-20*x)) + (1-p)*math.Log1p(math.Exp(20*x))
			}),
		},
		{
			"focal", func(s *nn.Scope, x, _ tf.Output) tf.Output { return loss.Focal(s, nn.Softmax(s, x), target(s), 2) },
			rows(func(i int) float64 {
				p := math.Exp(logp(i))
				p = p*(1-1e-5) + (1-p)*1e-5 + 1e-5
				return -(1 - p) * (1 - p) * math.Log(p)
			}),
		},
		{
			"cosine distance", func(s *nn.Scope, x, y tf.Output) tf.Output {
				return nn.MeanAll(s, loss.CosineDistance(s, x, y))
			},
			rows(func(i int) float64 {
				var xy, xx, yy float64
				for j := i * k; j < i*k+k; j++ {
					xy += float64(x[j]) * float64(y[j])
					xx += float64(x[j]) * float64(x[j])
					yy += float64(y[j]) * float64(y[j])
				}
				return 1 - xy/math.Sqrt(xx*yy)
			}),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := nntest.Value(t, func(s *nn.Scope) tf.Output {
				return tt.loss(s, nn.Consts(s, x, n, k), nn.Consts(s, y, n, k))
			})
			nntest.Close(t, tt.name, got, []float64{tt.want}, 1e-5)
		})
	}
}
