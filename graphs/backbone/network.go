package backbone

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
)

// A network is one backbone while it is built.
type network struct {
	descriptor
	file   *file // nil: random weights
	frozen bool
	want   []string
	got    map[string]tf.Output
	open   int // taps still to come
}

// tap offers x under a name and reports whether nothing further is wanted.
func (n *network) tap(name string, x tf.Output) (done bool) {
	if slices.Contains(n.want, name) {
		n.got[name] = x
		n.open--
	}
	return n.open == 0
}

// A layer is a convolution; keys are its names in a file of weights.
type layer struct {
	conv, norm string // conv.weight; norm.weight, .bias, .running_mean, .running_var
	in, out    int
	kernel     int
	stride     int
	depthwise  bool // out = in
	bias       bool // conv.bias, and no batch norm
}

func (l layer) shape() []int {
	if l.depthwise {
		return []int{l.kernel, l.kernel, l.in, 1}
	}
	return []int{l.kernel, l.kernel, l.in, l.out}
}

// conv adds a convolution with its bias or batch norm, without activation.
// Frozen, batch norm is folded: y = γ(Wx-μ)/√(v+ε) + β = (kW)x + (β-kμ) with
// k = γ/√(v+ε), in float64.
func (n *network) conv(s *nn.Scope, x tf.Output, l layer) tf.Output {
	if n.frozen {
		kernel := s.Read(s.Buffer("kernel", n.kernel(l, !l.bias), l.shape()...))
		bias := s.Read(s.Buffer("bias", n.bias(l), l.out))
		return op.BiasAdd(s.Op("bias_add"), n.convolve(s, x, kernel, l), bias)
	}
	y := n.convolve(s, x, s.Variable("kernel", n.kernel(l, false), l.shape()...), l)
	if l.bias {
		return op.BiasAdd(s.Op("bias_add"), y, s.Variable("bias", n.vector(l.conv+".bias", 0), l.out))
	}
	// Declared here for their first values; the layer finds them by path.
	first := s.In("norm")
	first.Variable("gamma", n.vector(l.norm+".weight", 1), l.out)
	first.Variable("beta", n.vector(l.norm+".bias", 0), l.out)
	first.Buffer("mean", n.vector(l.norm+".running_mean", 0), l.out)
	first.Buffer("variance", n.vector(l.norm+".running_var", 1), l.out)
	return nn.BatchNorm(s.In("norm"), y, nn.BN{Eps: n.epsilon, Momentum: n.momentum})
}

func (n *network) convolve(s *nn.Scope, x, kernel tf.Output, l layer) tf.Output {
	p := (l.kernel - 1) / 2
	if !l.depthwise {
		padding := nn.Same
		if !n.same {
			padding = nn.Symmetric(p)
		}
		return nn.Convolve(s, x, kernel, l.stride, padding)
	}
	padding := "SAME"
	if !n.same && l.stride > 1 {
		if padding = "VALID"; p > 0 {
			x = pad(s, x, p)
		}
	}
	return op.DepthwiseConv2dNative(s.Op("depthwise"), x, kernel, []int64{1, int64(l.stride), int64(l.stride), 1}, padding)
}

// dense adds the linear layer key.weight [out,in], key.bias [out].
func (n *network) dense(s *nn.Scope, x tf.Output, key string, in, out int) tf.Output {
	kernel := n.values(func() ([]float64, error) { return n.file.values(key+".weight", []int{out, in}, 1, 0) }, nn.PyTorch(in))
	bias := n.vector(key+".bias", 0)
	var w, b tf.Output
	if n.frozen {
		w, b = s.Read(s.Buffer("kernel", kernel, in, out)), s.Read(s.Buffer("bias", bias, out))
	} else {
		w, b = s.Variable("kernel", kernel, in, out), s.Variable("bias", bias, out)
	}
	return op.BiasAdd(s.Op("bias_add"), op.MatMul(s.Op("matmul"), x, w), b)
}

// kernel starts a convolution at its weights, scaled by k if folded. At random
// it is Kaiming normal, fan-out, and batch norm the identity.
func (n *network) kernel(l layer, fold bool) nn.Initializer {
	return n.values(func() ([]float64, error) {
		stored, order := []int{l.out, l.in, l.kernel, l.kernel}, []int{2, 3, 1, 0}
		if l.depthwise {
			stored[1], order = 1, []int{2, 3, 0, 1}
		}
		w, err := n.file.values(l.conv+".weight", stored, order...)
		if err != nil || !fold {
			return w, err
		}
		k, err := n.scale(l)
		for i := range w {
			if err != nil {
				break
			}
			w[i] *= k[i%l.out]
		}
		return w, err
	}, nn.KaimingNormalFanOut())
}

// bias starts the bias of a frozen convolution.
func (n *network) bias(l layer) nn.Initializer {
	if l.bias {
		return n.vector(l.conv+".bias", 0)
	}
	return n.values(func() ([]float64, error) {
		k, err := n.scale(l)
		if err != nil {
			return nil, err
		}
		mean, err := n.file.values(l.norm+".running_mean", []int{l.out})
		if err != nil {
			return nil, err
		}
		b, err := n.file.values(l.norm+".bias", []int{l.out})
		for i := range b {
			b[i] -= k[i] * mean[i]
		}
		return b, err
	}, nn.Zeros())
}

// scale is k = γ/√(v+ε).
func (n *network) scale(l layer) ([]float64, error) {
	k, err := n.file.values(l.norm+".weight", []int{l.out})
	if err != nil {
		return nil, err
	}
	v, err := n.file.values(l.norm+".running_var", []int{l.out})
	for i, v := range v {
		if v < 0 {
			return nil, fmt.Errorf("%s: %s.running_var[%d] is %g, a variance", n.file.path, l.norm, i, v)
		}
		k[i] /= math.Sqrt(v + n.epsilon)
	}
	return k, err
}

// vector starts a variable at a vector of the file, at random at c.
func (n *network) vector(key string, c float64) nn.Initializer {
	if n.file == nil {
		return nn.Constant(c)
	}
	return func(shape []int, _ *rand.Rand) ([]float32, error) {
		v, err := n.file.values(key, shape)
		return float32s(v), err
	}
}

// values starts a variable at what load returns, without a file at random.
func (n *network) values(load func() ([]float64, error), random nn.Initializer) nn.Initializer {
	if n.file == nil {
		return random
	}
	return nn.Load(func() ([]float32, error) {
		v, err := load()
		return float32s(v), err
	})
}

func float32s(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// pad surrounds [B,H,W,C] with p zeros.
func pad(s *nn.Scope, x tf.Output, p int) tf.Output {
	q := int32(p)
	return op.Pad(s.Op("pad"), x, op.Const(s.Op("paddings"), [][]int32{{0, 0}, {q, q}, {q, q}, {0, 0}}))
}

func relu(s *nn.Scope, x tf.Output) tf.Output { return op.Relu(s.Op("relu"), x) }

func relu6(s *nn.Scope, x tf.Output) tf.Output { return op.Relu6(s.Op("relu6"), x) }

// globalMean is the mean over H and W: [B,H,W,C] → [B,C].
func globalMean(s *nn.Scope, x tf.Output) tf.Output {
	return op.Mean(s.Op("mean"), x, op.Const(s.Op("axes"), []int32{1, 2}))
}
