package plain

import (
	"math"
	"slices"
	"strings"
)

// A statistic is what batch norm normalises by.
type statistic int

const (
	running  statistic = iota
	batch              // of all maps together
	instance           // of each map
)

// conv is a k×k convolution of the given stride, k/2 zeros around the map.
func (n *Network) conv(path string, x Maps, out, k, stride int, bias bool) Maps {
	pad := k / 2
	y := newMaps(x.N, (x.H+2*pad-k)/stride+1, (x.W+2*pad-k)/stride+1, out)
	kernel, start := n.value(path+"/kernel", k*k*x.C*out), make([]float64, out)
	if bias {
		start = n.value(path+"/bias", out)
	}
	for b := range y.N {
		for i := range y.H {
			for j := range y.W {
				sum := y.at(b, i, j)
				copy(sum, start)
				for di := range k {
					for dj := range k {
						from, column := i*stride+di-pad, j*stride+dj-pad
						if from < 0 || from >= x.H || column < 0 || column >= x.W {
							continue
						}
						for c, v := range x.at(b, from, column) {
							row := kernel[((di*k+dj)*x.C+c)*out:]
							for o := range sum {
								sum[o] += v * row[o]
							}
						}
					}
				}
			}
		}
	}
	return y
}

func (n *Network) batchNorm(path string, x Maps, by statistic) Maps {
	gamma, beta := n.value(path+"/gamma", x.C), n.value(path+"/beta", x.C)
	y := newMaps(x.N, x.H, x.W, x.C)
	pixels := x.H * x.W
	for c := range x.C {
		channel := make([]float64, x.N*pixels)
		for i := range channel {
			channel[i] = x.V[i*x.C+c]
		}
		switch by {
		case running:
			mean, variance := n.value(path+"/mean", x.C)[c], n.value(path+"/variance", x.C)[c]
			for i := range channel {
				channel[i] = (channel[i] - mean) / math.Sqrt(variance+1e-5)
			}
		case batch:
			n.follow(path, c, channel)
			channel = normalize(channel)
		case instance:
			for b := range x.N {
				copy(channel[b*pixels:], normalize(channel[b*pixels:(b+1)*pixels]))
			}
		}
		for i, v := range channel {
			y.V[i*x.C+c] = gamma[c]*v + beta[c]
		}
	}
	return y
}

// Follow lets the running statistics of n follow the batches from now on.
func (n *Network) Follow() {
	n.Running = map[string][]float64{}
	for path, v := range n.Values {
		if strings.HasSuffix(path, "/norm/mean") || strings.HasSuffix(path, "/norm/variance") {
			n.Running[path] = slices.Clone(v)
		}
	}
}

// follow moves the running statistics of channel c by a tenth towards those of
// its values v, the unbiased variance.
func (n *Network) follow(path string, c int, v []float64) {
	if n.Running == nil {
		return
	}
	mean, variance := 0.0, 0.0
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		variance += (x - mean) * (x - mean) / float64(len(v)-1)
	}
	n.Running[path+"/mean"][c] = 0.9*n.Running[path+"/mean"][c] + 0.1*mean
	n.Running[path+"/variance"][c] = 0.9*n.Running[path+"/variance"][c] + 0.1*variance
}

// generating is how the generator's batch norms normalise.
func (n *Network) generating() statistic {
	if n.Training {
		return batch
	}
	return running
}

// residual is the residual double convolution.
func (n *Network) residual(path string, x Maps, out, stride int) Maps {
	by := n.generating()
	a := n.batchNorm(path+"/0/norm", n.conv(path+"/0", x, out, 3, stride, true), by).Each(relu)
	y := n.batchNorm(path+"/1/norm", n.conv(path+"/1", a, out, 3, 1, true), by).Each(relu)
	y = n.batchNorm(path+"/2/norm", n.conv(path+"/2", y, out, 3, 1, true), by)
	return add(y, a).Each(relu)
}

// linear is a layer of out units with biases.
func (n *Network) linear(path string, x []float64, out int) []float64 {
	kernel, bias := n.value(path+"/kernel", len(x)*out), n.value(path+"/bias", out)
	y := make([]float64, out)
	copy(y, bias)
	for i, v := range x {
		for o := range y {
			y[o] += v * kernel[i*out+o]
		}
	}
	return y
}

func (n *Network) layerNorm(path string, x []float64) []float64 {
	gamma, beta := n.value(path+"/gamma", len(x)), n.value(path+"/beta", len(x))
	y := normalize(x)
	for i := range y {
		y[i] = gamma[i]*y[i] + beta[i]
	}
	return y
}

func softmax(a []float64) []float64 {
	top := math.Inf(-1)
	for _, v := range a {
		top = max(top, v)
	}
	y, sum := make([]float64, len(a)), 0.0
	for i, v := range a {
		y[i] = math.Exp(v - top)
		sum += y[i]
	}
	for i := range y {
		y[i] /= sum
	}
	return y
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}
