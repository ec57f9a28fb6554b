package nn_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
	"thorax/graphs/nn/nntest"
	"thorax/graphs/session"
)

// Expected values in this file come from the definitions as plain loops.

// A tensor is [b,h,w,c], row-major.
type tensor struct {
	b, h, w, c int
	v          []float64
}

func newTensor(b, h, w, c int) tensor { return tensor{b, h, w, c, make([]float64, b*h*w*c)} }

func drawn(seed uint64, b, h, w, c int) tensor {
	t := newTensor(b, h, w, c)
	for i, v := range nntest.Draw(seed, len(t.v)) {
		t.v[i] = float64(v)
	}
	return t
}

func (t tensor) at(b, i, j, c int) *float64 { return &t.v[((b*t.h+i)*t.w+j)*t.c+c] }

// in is the value at a pixel, zero outside.
func (t tensor) in(b, i, j, c int) float64 {
	if i < 0 || j < 0 || i >= t.h || j >= t.w {
		return 0
	}
	return *t.at(b, i, j, c)
}

func (t tensor) floats() []float32 {
	v := make([]float32, len(t.v))
	for i := range v {
		v[i] = float32(t.v[i])
	}
	return v
}

func (t tensor) constant(s *nn.Scope) tf.Output { return nn.Consts(s, t.floats(), t.b, t.h, t.w, t.c) }

// convolve has before pixels of padding at the top and left, and as many
// windows as out says. The kernel is [k,k,in,out].
func convolve(x, kernel tensor, stride, dilation, before, outH, outW int) tensor {
	y := newTensor(x.b, outH, outW, kernel.c)
	for n := range y.b {
		for i := range y.h {
			for j := range y.w {
				for o := range y.c {
					for a := range kernel.b {
						for b := range kernel.h {
							for c := range x.c {
								*y.at(n, i, j, o) += x.in(n, i*stride+a*dilation-before, j*stride+b*dilation-before, c) * *kernel.at(a, b, c, o)
							}
						}
					}
				}
			}
		}
	}
	return y
}

func TestConvolutionValues(t *testing.T) {
	for _, tt := range []struct {
		name               string
		h, w               int
		conv               nn.Conv
		before, outH, outW int
	}{
		{name: "k3 same", h: 5, w: 6, conv: nn.Conv{Kernel: 3}, before: 1, outH: 5, outW: 6},
		{name: "k3 p1", h: 5, w: 6, conv: nn.Conv{Kernel: 3, Pad: nn.Symmetric(1)}, before: 1, outH: 5, outW: 6},
		{name: "k3 s2 same, even", h: 6, w: 6, conv: nn.Conv{Kernel: 3, Stride: 2}, before: 0, outH: 3, outW: 3},
		{name: "k3 s2 p1, even", h: 6, w: 8, conv: nn.Conv{Kernel: 3, Stride: 2, Pad: nn.Symmetric(1)}, before: 1, outH: 3, outW: 4},
		{name: "k3 s2 p1, odd", h: 7, w: 5, conv: nn.Conv{Kernel: 3, Stride: 2, Pad: nn.Symmetric(1)}, before: 1, outH: 4, outW: 3},
		{name: "k3 s2 p1, mixed", h: 7, w: 6, conv: nn.Conv{Kernel: 3, Stride: 2, Pad: nn.Symmetric(1)}, before: 1, outH: 4, outW: 3},
		{name: "k5 s2 p2, even", h: 6, w: 6, conv: nn.Conv{Kernel: 5, Stride: 2, Pad: nn.Symmetric(2)}, before: 2, outH: 3, outW: 3},
		{name: "k4 s2 p1, even", h: 6, w: 6, conv: nn.Conv{Kernel: 4, Stride: 2, Pad: nn.Symmetric(1)}, before: 1, outH: 3, outW: 3},
		{name: "k4 s1 p2", h: 5, w: 5, conv: nn.Conv{Kernel: 4, Pad: nn.Symmetric(2)}, before: 2, outH: 6, outW: 6},
		{name: "k7 s2 p3", h: 9, w: 8, conv: nn.Conv{Kernel: 7, Stride: 2, Pad: nn.Symmetric(3)}, before: 3, outH: 5, outW: 4},
		{name: "k1 s2 p0", h: 6, w: 5, conv: nn.Conv{Kernel: 1, Stride: 2, Pad: nn.Symmetric(0)}, before: 0, outH: 3, outW: 3},
		{name: "k3 valid", h: 5, w: 6, conv: nn.Conv{Kernel: 3, Pad: nn.Valid}, before: 0, outH: 3, outW: 4},
		{name: "k3 d2 same", h: 7, w: 6, conv: nn.Conv{Kernel: 3, Dilation: 2}, before: 2, outH: 7, outW: 6},
		{name: "k3 d3 valid", h: 9, w: 8, conv: nn.Conv{Kernel: 3, Dilation: 3, Pad: nn.Valid}, before: 0, outH: 3, outW: 2},
		{name: "k3 d2 p1", h: 7, w: 6, conv: nn.Conv{Kernel: 3, Dilation: 2, Pad: nn.Symmetric(1)}, before: 1, outH: 5, outW: 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, kernel := drawn(1, 2, tt.h, tt.w, 2), drawn(2, tt.conv.Kernel, tt.conv.Kernel, 2, 3)
			got := nntest.Value(t, func(s *nn.Scope) tf.Output {
				tt.conv.Out, tt.conv.Init, tt.conv.BiasInit = 3, nn.Values(kernel.floats()), nn.Constant(0.5)
				y := nn.Conv2D(s.In("conv"), x.constant(s), tt.conv)
				if h, w := nn.Height(s, y), nn.Width(s, y); h != tt.outH || w != tt.outW {
					t.Errorf("size %d×%d, want %d×%d", h, w, tt.outH, tt.outW)
				}
				return y
			})
			want := convolve(x, kernel, max(tt.conv.Stride, 1), max(tt.conv.Dilation, 1), tt.before, tt.outH, tt.outW)
			for i := range want.v {
				want.v[i] += 0.5
			}
			nntest.Close(t, "convolution", got, want.v, 1e-5)
		})
	}
}

// TensorFlow's own 1×1 convolution with a stride corrupts memory on some
// processors, in its gradient: no layer may ask for one.
func TestNoStridedPoints(t *testing.T) {
	for _, pad := range []nn.Padding{nn.Same, nn.Valid} {
		s := nn.NewScope(1)
		y := nn.Conv2D(s, drawn(1, 2, 6, 5, 2).constant(s), nn.Conv{Out: 3, Kernel: 1, Stride: 2, Pad: pad})
		nn.VariableGradients(s, nn.SumAll(s, y), s.Trainable())
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		for _, o := range s.Graph().Operations() {
			if !strings.HasPrefix(o.Type(), "Conv2D") {
				continue
			}
			if stride, err := o.Attr("strides"); err != nil || !slices.Equal(stride.([]int64), []int64{1, 1, 1, 1}) {
				t.Errorf("%s has strides %v, %v", o.Type(), stride, err)
			}
		}
	}
}

// A transposed convolution adds the kernel, times each pixel, to its place in
// the output; p pixels are cut off at the top and left.
func TestConvTransposeValues(t *testing.T) {
	for _, tt := range []struct {
		name       string
		conv       nn.Conv
		cut        int
		outH, outW int
	}{
		{"k4 s2 p1", nn.Conv{Kernel: 4, Stride: 2, Pad: nn.Symmetric(1)}, 1, 6, 8},
		{"k3 s2 p1 op1", nn.Conv{Kernel: 3, Stride: 2, Pad: nn.Symmetric(1), OutputPad: 1}, 1, 6, 8},
		{"k3 s2 p1", nn.Conv{Kernel: 3, Stride: 2, Pad: nn.Symmetric(1)}, 1, 5, 7},
		{"k2 s2 valid", nn.Conv{Kernel: 2, Stride: 2, Pad: nn.Valid}, 0, 6, 8},
		{"k4 s1 valid", nn.Conv{Kernel: 4, Pad: nn.Valid}, 0, 6, 7},
		{"k2 s3 op1", nn.Conv{Kernel: 2, Stride: 3, Pad: nn.Valid, OutputPad: 1}, 0, 9, 12},
		{"k5 s2 same", nn.Conv{Kernel: 5, Stride: 2}, 1, 6, 8}, // a SAME convolution of 6 pads 1 before, 2 after
		{"k3 s1 p1", nn.Conv{Kernel: 3, Pad: nn.Symmetric(1)}, 1, 3, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, stride := tt.conv.Kernel, max(tt.conv.Stride, 1)
			x, kernel := drawn(1, 2, 3, 4, 2), drawn(2, k, k, 3, 2) // [k,k,out,in]
			want := newTensor(2, tt.outH, tt.outW, 3)
			for n := range x.b {
				for i := range x.h * k {
					for j := range x.w * k {
						row, column := i/k*stride+i%k-tt.cut, j/k*stride+j%k-tt.cut
						if row < 0 || column < 0 || row >= tt.outH || column >= tt.outW {
							continue
						}
						for o := range 3 {
							for c := range 2 {
								*want.at(n, row, column, o) += *x.at(n, i/k, j/k, c) * *kernel.at(i%k, j%k, o, c)
							}
						}
					}
				}
			}
			got := nntest.Value(t, func(s *nn.Scope) tf.Output {
				tt.conv.Out, tt.conv.Init, tt.conv.NoBias = 3, nn.Values(kernel.floats()), true
				return nn.ConvTranspose2D(s, x.constant(s), tt.conv)
			})
			nntest.Close(t, "transposed convolution", got, want.v, 1e-5)
		})
	}
}

func TestDepthwiseValues(t *testing.T) {
	x, kernel := drawn(1, 2, 6, 6, 3), drawn(2, 3, 3, 3, 1)
	got := nntest.Value(t, func(s *nn.Scope) tf.Output {
		return nn.DepthwiseConv2D(s, x.constant(s), nn.Conv{Kernel: 3, Stride: 2, Pad: nn.Symmetric(1), NoBias: true, Init: nn.Values(kernel.floats())})
	})
	want := newTensor(2, 3, 3, 3)
	for n := range 2 {
		for i := range 3 {
			for j := range 3 {
				for c := range 3 {
					for k := range 9 {
						*want.at(n, i, j, c) += x.in(n, 2*i+k/3-1, 2*j+k%3-1, c) * *kernel.at(k/3, k%3, c, 0)
					}
				}
			}
		}
	}
	nntest.Close(t, "depthwise", got, want.v, 1e-5)
}

func TestPoolingValues(t *testing.T) {
	x := drawn(1, 2, 6, 7, 2)
	for i := range x.v {
		x.v[i] -= 10 // zeros of padding would win
	}
	most, mean := newTensor(2, 3, 4, 2), newTensor(2, 3, 4, 2)
	for n := range 2 {
		for i := range 3 {
			for j := range 4 {
				for c := range 2 {
					m, sum := math.Inf(-1), 0.0
					for k := range 9 {
						a, b := 2*i+k/3-1, 2*j+k%3-1
						sum += x.in(n, a, b, c)
						if a >= 0 && b >= 0 && a < 6 && b < 7 {
							m = max(m, *x.at(n, a, b, c))
						}
					}
					*most.at(n, i, j, c), *mean.at(n, i, j, c) = m, sum/9
				}
			}
		}
	}
	out := nntest.Values(t, func(s *nn.Scope) []tf.Output {
		x := x.constant(s)
		return []tf.Output{nn.MaxPool(s, x, 3, 2, nn.Symmetric(1)), nn.AvgPool(s, x, 3, 2, nn.Symmetric(1))}
	})
	nntest.Close(t, "max pool", out[0], most.v, 1e-6)
	nntest.Close(t, "avg pool", out[1], mean.v, 1e-5)
	cells := nntest.Values(t, func(s *nn.Scope) []tf.Output {
		x := nn.Crop(s, x.constant(s), 0, 0, 6, 6)
		return []tf.Output{nn.MeanPool(s, x, 2), nn.AvgPool(s, x, 2, 2, nn.Valid)}
	})
	nntest.Close(t, "mean pool", cells[0], float64s(cells[1]), 1e-5)
}

func float64s(v []float32) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

// The centre of output pixel i lies at (i+½)·n/m-½ of the input (half-pixel),
// or at i·(n-1)/(m-1) (aligned); beyond the edge the edge goes on.
func TestResizeValues(t *testing.T) {
	x := drawn(1, 2, 4, 6, 2)
	bilinear := func(h, w int, at func(i, n, m int) float64) []float64 {
		y := newTensor(2, h, w, 2)
		for n := range 2 {
			for i := range h {
				for j := range w {
					for c := range 2 {
						a, b := min(max(at(i, 4, h), 0), 3), min(max(at(j, 6, w), 0), 5)
						a0, b0 := int(a), int(b)
						a1, b1 := min(a0+1, 3), min(b0+1, 5)
						fa, fb := a-float64(a0), b-float64(b0)
						top := *x.at(n, a0, b0, c)*(1-fb) + *x.at(n, a0, b1, c)*fb
						bottom := *x.at(n, a1, b0, c)*(1-fb) + *x.at(n, a1, b1, c)*fb
						*y.at(n, i, j, c) = top*(1-fa) + bottom*fa
					}
				}
			}
		}
		return y.v
	}
	half := func(i, n, m int) float64 { return (float64(i)+0.5)*float64(n)/float64(m) - 0.5 }
	aligned := func(i, n, m int) float64 { return float64(i) * float64(n-1) / float64(m-1) }
	floor := func(i, n, m int) float64 { return float64(i * n / m) }
	out := nntest.Values(t, func(s *nn.Scope) []tf.Output {
		x := x.constant(s)
		m := nn.Squeeze(s, nn.Slice(s, x, []int{0, 0, 0, 0}, []int{-1, -1, -1, 1}), -1)
		return []tf.Output{
			nn.ResizeBilinear(s, x, 9, 8), nn.ResizeBilinear(s, x, 3, 4), nn.ResizeAligned(s, x, 7, 9),
			nn.ResizeNearest(s, x, 7, 4), nn.Upsample(s, x, 2),
			nn.ResizeMap(s, m, 9, 8), nn.ResizeMap(s, m, 4, 6),
		}
	})
	nntest.Close(t, "bilinear up", out[0], bilinear(9, 8, half), 1e-5)
	nntest.Close(t, "bilinear down", out[1], bilinear(3, 4, half), 1e-5)
	nntest.Close(t, "aligned", out[2], bilinear(7, 9, aligned), 1e-5)
	nntest.Close(t, "nearest", out[3], bilinear(7, 4, floor), 0)
	nntest.Close(t, "upsample", out[4], bilinear(8, 12, floor), 0)
	first := func(v []float64) (one []float64) {
		for i := 0; i < len(v); i += 2 {
			one = append(one, v[i])
		}
		return one
	}
	nntest.Close(t, "map", out[5], first(bilinear(9, 8, half)), 1e-5)
	nntest.Close(t, "map of the same size", out[6], first(x.v), 0)
}

func TestBlurValues(t *testing.T) {
	const h, w, sigma = 5, 9, 1.7 // the radius, 7, is larger than the image is high
	x := drawn(1, 2, h, w, 1)
	symmetric := func(i, n int) int { // cba|abc|cba
		for i < 0 || i >= n {
			if i < 0 {
				i = -1 - i
			} else {
				i = 2*n - 1 - i
			}
		}
		return i
	}
	reflect := func(i, n int) int { // cb|abc|ba
		for i < 0 || i >= n {
			if i < 0 {
				i = -i
			} else {
				i = 2*n - 2 - i
			}
		}
		return i
	}
	blur := func(border func(i, n int) int) []float64 {
		const r = 7 // int(4·1.7+0.5)
		y, sum := newTensor(2, h, w, 1), 0.0
		for a := -r; a <= r; a++ {
			for b := -r; b <= r; b++ {
				g := math.Exp(-float64(a*a+b*b) / (2 * sigma * sigma))
				sum += g
				for n := range 2 {
					for i := range h {
						for j := range w {
							*y.at(n, i, j, 0) += g * *x.at(n, border(i+a, h), border(j+b, w), 0)
						}
					}
				}
			}
		}
		for i := range y.v {
			y.v[i] /= sum
		}
		return y.v
	}
	out := nntest.Values(t, func(s *nn.Scope) []tf.Output {
		x := x.constant(s)
		return []tf.Output{
			nn.GaussianBlur(s, x, nn.Blur{Sigma: sigma}),
			nn.GaussianBlur(s, nn.Squeeze(s, x, -1), nn.Blur{Sigma: sigma, Border: nn.WholeSample}),
			nn.GaussianBlur(s, x, nn.Blur{}),
		}
	})
	nntest.Close(t, "half-sample border", out[0], blur(symmetric), 1e-5)
	nntest.Close(t, "whole-sample border", out[1], blur(reflect), 1e-5)
	nntest.Close(t, "sigma 0", out[2], x.v, 0)
}

func TestNormValues(t *testing.T) {
	x := drawn(1, 3, 2, 4, 5)
	gamma, beta := drawn(2, 1, 1, 1, 5), drawn(3, 1, 1, 1, 5)
	// normal normalises the groups of elements that have one key.
	normal := func(key func(n, i, j, c int) int) []float64 {
		var sum, squares, count [64]float64
		each := func(f func(k, c int, v *float64)) {
			for i := range x.v {
				f(key(i/40, i/20%2, i/5%4, i%5), i%5, &x.v[i])
			}
		}
		each(func(k, _ int, v *float64) { sum[k] += *v; count[k]++ })
		each(func(k, _ int, v *float64) { squares[k] += math.Pow(*v-sum[k]/count[k], 2) })
		var y []float64
		each(func(k, c int, v *float64) {
			y = append(y, gamma.v[c]*(*v-sum[k]/count[k])/math.Sqrt(squares[k]/count[k]+1e-5)+beta.v[c])
		})
		return y
	}
	for _, tt := range []struct {
		name  string
		apply func(s *nn.Scope, x tf.Output) tf.Output
		key   func(n, i, j, c int) int
	}{
		{"layer norm", func(s *nn.Scope, x tf.Output) tf.Output { return nn.LayerNorm(s, x, nn.Norm{}) }, func(n, i, j, c int) int { return n*8 + i*4 + j }},
		{"instance norm", func(s *nn.Scope, x tf.Output) tf.Output { return nn.InstanceNorm(s, x, nn.Norm{}) }, func(n, i, j, c int) int { return n*5 + c }},
		{"image norm", func(s *nn.Scope, x tf.Output) tf.Output { return nn.ImageNorm(s, x, nn.Norm{}) }, func(n, i, j, c int) int { return n }},
		{"batch norm", func(s *nn.Scope, x tf.Output) tf.Output { return nn.BatchNorm(s, x, nn.BN{}) }, func(n, i, j, c int) int { return c }},
		{"batch norm per sample", func(s *nn.Scope, x tf.Output) tf.Output {
			return nn.BatchNorm(s.Inference(), x, nn.BN{PerSample: true})
		}, func(n, i, j, c int) int { return n*5 + c }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := nn.NewScope(1)
			y := tt.apply(s.In("norm"), x.constant(s))
			run := started(t, s)
			for name, v := range map[string]tensor{"norm/gamma": gamma, "norm/beta": beta} {
				if err := run.Set(s.Lookup(name), []int{5}, v.floats()); err != nil {
					t.Fatal(err)
				}
			}
			nntest.Close(t, tt.name, fetch(t, run, y), normal(tt.key), 1e-4)
		})
	}
}

func started(t *testing.T, s *nn.Scope) *session.Session {
	t.Helper()
	x, err := session.New(s, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	return x
}

func fetch(t *testing.T, x *session.Session, y tf.Output) []float32 {
	t.Helper()
	out, err := x.Run(nil, []tf.Output{y})
	if err != nil {
		t.Fatal(err)
	}
	return session.Values(out[0])
}

// After two steps the running statistics are those of PyTorch's rule, which
// with Momentum 0.01 is Keras's with momentum 0.99; two uses in one step count
// one after the other; inference uses them.
func TestBatchNormRunningStatistics(t *testing.T) {
	const b, c = 6, 3
	for _, tt := range []struct {
		name     string
		bn       nn.BN
		momentum float64
		shape    []int
	}{
		{"PyTorch", nn.BN{}, 0.1, []int{2, 3, 1, c}},
		{"Keras 0.99", nn.BN{Momentum: 0.01, Eps: 1e-3}, 0.01, []int{1, 2, 3, c}},
		{"rank 2", nn.BN{}, 0.1, []int{b, c}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := nn.NewScope(1)
			first, second := drawn(1, 1, 1, b, c), drawn(2, 1, 1, b, c)
			for i := range second.v {
				second.v[i] = 2*second.v[i] + 1
			}
			x, y := nn.Consts(s, first.floats(), tt.shape...), nn.Consts(s, second.floats(), tt.shape...)
			nn.BatchNorm(s.In("bn"), x, tt.bn)
			nn.BatchNorm(s.In("bn"), y, tt.bn)
			scored := nn.BatchNorm(s.Inference().In("bn"), x, tt.bn)
			step := writes(s)
			run := started(t, s)
			mean, variance := make([]float64, c), []float64{1, 1, 1}
			for range 2 {
				if _, err := run.Run(nil, nil, step...); err != nil {
					t.Fatal(err)
				}
				for _, batch := range []tensor{first, second} {
					for j := range c {
						m, v := moments(batch, j)
						mean[j] += tt.momentum * (m - mean[j])
						variance[j] += tt.momentum * (v - variance[j])
					}
				}
			}
			nntest.Close(t, "mean", fetch(t, run, s.Read(s.Lookup("bn/mean"))), mean, 1e-5)
			nntest.Close(t, "variance", fetch(t, run, s.Read(s.Lookup("bn/variance"))), variance, 1e-5)
			var want []float64
			eps := max(tt.bn.Eps, 1e-5)
			for i, v := range first.v {
				want = append(want, (v-mean[i%c])/math.Sqrt(variance[i%c]+eps))
			}
			nntest.Close(t, "inference", fetch(t, run, scored), want, 1e-4)
		})
	}
}

// moments returns mean and unbiased variance of channel c.
func moments(x tensor, c int) (mean, variance float64) {
	n := float64(x.w)
	for j := range x.w {
		mean += *x.at(0, 0, j, c) / n
	}
	for j := range x.w {
		variance += math.Pow(*x.at(0, 0, j, c)-mean, 2) / (n - 1)
	}
	return mean, variance
}

// writes adds the operations of all recorded writes, each after the one before.
func writes(s *nn.Scope) []*tf.Operation {
	var done []*tf.Operation
	var written []*nn.Variable
	for _, w := range s.Writes() {
		now := s.Later(written, done).After(done...)
		o := now.Write(w.Variable, w.New(now, now.Read(w.Variable)))
		done, written = append(done, o), append(written, w.Variable)
	}
	return done
}

func TestAttentionValues(t *testing.T) {
	const b, n, m, e, f, heads = 2, 3, 4, 6, 5, 2
	q, kv := drawn(1, 1, b, n, e), drawn(2, 1, b, m, f)
	s := nn.NewScope(1)
	keys := nn.Consts(s, kv.floats(), b, m, f)
	y := nn.MultiHeadAttention(s.In("attention"), nn.Consts(s, q.floats(), b, n, e), keys, keys, nn.Attention{Heads: heads, Dropout: 0.5})
	y2 := nn.MultiHeadAttention(s.Inference().In("attention"), nn.Consts(s, q.floats(), b, n, e), keys, keys, nn.Attention{Heads: heads, Dropout: 0.5})
	run := started(t, s)
	dense := func(name string, x tensor) tensor { // x [1,b,·,in] → [1,b,·,e], with a bias drawn here
		path := "attention/" + name
		bias := drawn(7, 1, 1, 1, e)
		if err := run.Set(s.Lookup(path+"/bias"), []int{e}, bias.floats()); err != nil {
			t.Fatal(err)
		}
		kernel := fetch(t, run, s.Read(s.Lookup(path+"/kernel")))
		y := newTensor(1, x.h, x.w, e)
		for i := range x.h * x.w {
			for o := range e {
				y.v[i*e+o] = bias.v[o]
				for c := range x.c {
					y.v[i*e+o] += x.v[i*x.c+c] * float64(kernel[c*e+o])
				}
			}
		}
		return y
	}
	query, key, value := dense("query", q), dense("key", kv), dense("value", kv)
	read := newTensor(1, b, n, e)
	const size = e / heads
	for i := range b {
		for head := range heads {
			for a := range n {
				weights, sum := make([]float64, m), 0.0
				for k := range m {
					dot := 0.0
					for c := head * size; c < head*size+size; c++ {
						dot += *query.at(0, i, a, c) * *key.at(0, i, k, c)
					}
					weights[k] = math.Exp(dot / math.Sqrt(size))
					sum += weights[k]
				}
				for c := head * size; c < head*size+size; c++ {
					for k := range m {
						*read.at(0, i, a, c) += weights[k] / sum * *value.at(0, i, k, c)
					}
				}
			}
		}
	}
	want := dense("output", read).v
	nntest.Close(t, "attention", fetch(t, run, y2), want, 1e-5)
	if got := fetch(t, run, y); math.Abs(float64(got[0])-want[0]) < 1e-6 {
		t.Error("dropout changes nothing in training")
	}
}

func TestRandom(t *testing.T) {
	const n = 20000
	s := nn.NewScope(1)
	ones := nn.Shift(s, nn.RandomUniform(s.In("u"), n), 0)
	kept := nn.Dropout(s.In("drop"), nn.Consts(s, nntest.Draw(1, n), n), 0.3)
	again := nn.Dropout(s.In("drop"), nn.Consts(s, nntest.Draw(1, n), n), 0.3)
	normal := nn.SampleNormal(s.In("z"), nn.Scale(s, ones, 0), nn.Shift(s, nn.Scale(s, ones, 0), math.Log(4)))
	scoring := s.Inference()
	off := nn.Dropout(scoring.In("drop"), nn.Const(s, 3), 0.3)
	mean := nn.SampleNormal(scoring.In("z"), nn.Const(s, 5), nn.Const(s, 9))
	run := started(t, s)
	u, z, d := fetch(t, run, ones), fetch(t, run, normal), fetch(t, run, kept)

	sum, zeros, squares := 0.0, 0, 0.0
	for i, x := range nntest.Draw(1, n) {
		sum += float64(u[i])
		squares += float64(z[i]) * float64(z[i])
		if d[i] == 0 {
			zeros++
		} else if math.Abs(float64(d[i]-x/0.7)) > 1e-5 {
			t.Fatalf("kept element is %g, want %g", d[i], x/0.7)
		}
	}
	// Five standard errors of n draws.
	if m := sum / n; math.Abs(m-0.5) > 5*math.Sqrt(1.0/12/n) {
		t.Errorf("mean of uniform numbers %g, want 0.5", m)
	}
	if v := squares / n; math.Abs(v-4) > 5*4*math.Sqrt(2.0/n) {
		t.Errorf("variance of samples %g, want 4", v)
	}
	if f := float64(zeros) / n; math.Abs(f-0.3) > 5*math.Sqrt(0.21/n) {
		t.Errorf("fraction dropped %g, want 0.3", f)
	}
	nntest.Close(t, "one path, one step", fetch(t, run, again), float64s(d), 0)
	nntest.Close(t, "dropout in inference", fetch(t, run, off), []float64{3}, 0)
	nntest.Close(t, "sample in inference", fetch(t, run, mean), []float64{5}, 0)
	if err := run.SetInts(s.GlobalStepVariable(), nil, []int64{1}); err != nil {
		t.Fatal(err)
	}
	if next := fetch(t, run, ones); next[0] == u[0] && next[1] == u[1] {
		t.Error("the next step draws the same numbers")
	}
}

func TestElementValues(t *testing.T) {
	x := []float32{-3, -1, -0.5, 0, 0.5, 1, 3, 8}
	for _, tt := range []struct {
		name  string
		apply func(s *nn.Scope, x tf.Output) tf.Output
		want  func(x float64) float64
	}{
		{"relu", nn.ReLU, func(x float64) float64 { return max(x, 0) }},
		{"relu6", nn.ReLU6, func(x float64) float64 { return min(max(x, 0), 6) }},
		{"leaky relu", func(s *nn.Scope, x tf.Output) tf.Output { return nn.LeakyReLU(s, x, 0.1) }, func(x float64) float64 { return max(x, 0.1*x) }},
		{"elu", nn.ELU, func(x float64) float64 { return max(x, 0) + math.Expm1(min(x, 0)) }},
		{"gelu", nn.GELU, func(x float64) float64 { return x * 0.5 * (1 + math.Erf(x/math.Sqrt2)) }},
		{"silu", nn.SiLU, func(x float64) float64 { return x / (1 + math.Exp(-x)) }},
		{"sigmoid", nn.Sigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }},
		{"tanh", nn.Tanh, math.Tanh},
		{"softplus", nn.Softplus, func(x float64) float64 { return math.Log1p(math.Exp(x)) }},
		{"sqrt", nn.Sqrt, func(x float64) float64 { return math.Sqrt(max(x, 1e-12)) }},
		{"sign", nn.Sign, func(x float64) float64 {
			if x == 0 {
				return 0
			}
			return math.Copysign(1, x)
		}},
		{"softmax", nn.Softmax, func(v float64) float64 { return math.Exp(v) / expSum(x) }},
		{"log softmax", nn.LogSoftmax, func(v float64) float64 { return v - math.Log(expSum(x)) }},
		{"where", func(s *nn.Scope, x tf.Output) tf.Output {
			return nn.Where(s, nn.Less(s, x, nn.Const(s, 0)), nn.Neg(s, x), nn.Square(s, x))
		}, func(x float64) float64 {
			if x < 0 {
				return -x
			}
			return x * x
		}},
		{"L2 normalize", nn.L2Normalize, func(v float64) float64 { return v / math.Sqrt(9+1+.25+0+.25+1+9+64) }},
	} {
		got := nntest.Value(t, func(s *nn.Scope) tf.Output { return tt.apply(s, nn.Consts(s, x, 1, len(x))) })
		var want []float64
		for _, v := range x {
			want = append(want, tt.want(float64(v)))
		}
		nntest.Close(t, tt.name, got, want, 1e-5)
	}
	zero := nntest.Value(t, func(s *nn.Scope) tf.Output { return nn.L2Normalize(s, nn.Consts(s, []float32{0, 0}, 1, 2)) })
	nntest.Close(t, "L2 normalize of zero", zero, []float64{0, 0}, 0)
}

func expSum(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v))
	}
	return sum
}
