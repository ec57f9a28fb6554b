package plain

import (
	"math"
	"slices"
)

// heads of the attention.
const heads = 8

// block is the in-painting block on the deepest features z of tiles.
func (n *Network) block(path string, z Maps, p *Pass) Maps {
	tiles := n.Patches * n.Patches
	images := z.N / tiles
	reduced := n.batchNorm(path+"/reduce/norm", n.conv(path+"/reduce", z, z.C/4, 1, 1, false), n.generating()).Each(relu)

	query := make([][][][]float64, tiles) // by place, image
	for t := range query {
		query[t] = make([][][]float64, images)
		for b := range images {
			query[t][b] = [][]float64{reduced.one(b*tiles + t)}
		}
	}
	answer, weights := n.recall(path+"/memory", query, n.Items, n.Store == "queue")
	p.Query, p.Weights = reduced.V, slices.Concat(weights...)
	for t := range tiles {
		for b := range images {
			p.Recalled = append(p.Recalled, answer[t][b][0]...)
		}
	}

	painted := newMaps(z.N, z.H, z.W, z.C/4)
	for b := range images {
		f, recalled := make([][]float64, tiles), make([][]float64, tiles)
		for t := range tiles {
			f[t], recalled[t] = query[t][b][0], answer[t][b][0]
		}
		for t := range tiles {
			y := recalled[t]
			switch n.Inpainting {
			case "transformer":
				y = n.transformer(path, f[t], recalled, t)
			case "convolution":
				y = n.surroundings(path+"/convolution", recalled, t)
			}
			copy(painted.one(b*tiles+t), y)
		}
	}

	bits := int(math.Floor(math.Log2(float64(tiles)))) + 1
	code := newMaps(z.N, z.H, z.W, bits)
	for k := range code.N {
		for i := range code.H {
			for j := range code.W {
				for bit := range bits {
					code.at(k, i, j)[bits-1-bit] = float64(k % tiles >> bit & 1)
				}
			}
		}
	}
	y := n.conv(path+"/expand", concat(painted, code), z.C, 1, 1, true)
	y = n.batchNorm(path+"/expand/norm", y, n.generating()).Each(relu)
	return n.shortcut("inpainting", y, z)
}

// neighbours are the vectors around tile t, row by row without its own; nil
// beyond the border.
func (n *Network) neighbours(grid [][]float64, t int) [][]float64 {
	var out [][]float64
	for di := -1; di <= 1; di++ {
		for dj := -1; dj <= 1; dj++ {
			i, j := t/n.Patches+di, t%n.Patches+dj
			switch {
			case di == 0 && dj == 0:
			case i < 0 || j < 0 || i >= n.Patches || j >= n.Patches:
				out = append(out, nil)
			default:
				out = append(out, grid[i*n.Patches+j])
			}
		}
	}
	return out
}

// transformer paints tile t with features f from the memory's answers for all
// tiles of its image.
func (n *Network) transformer(path string, f []float64, recalled [][]float64, t int) []float64 {
	e := len(f)
	attention := path + "/attention"
	q := n.linear(attention+"/query", f, e)
	var keys, values [][]float64
	for _, token := range n.neighbours(recalled, t) {
		if token == nil {
			token = make([]float64, e)
		}
		keys = append(keys, n.linear(attention+"/key", token, e))
		values = append(values, n.linear(attention+"/value", token, e))
	}
	size := e / heads
	var mixed []float64
	for h := range heads {
		from, to := h*size, (h+1)*size
		logits := make([]float64, len(keys))
		for i, k := range keys {
			logits[i] = dot(q[from:to], k[from:to]) / math.Sqrt(float64(size))
		}
		y := make([]float64, size)
		for i, w := range softmax(logits) {
			for j := range y {
				y[j] += w * values[i][from+j]
			}
		}
		mixed = append(mixed, y...)
	}
	attended := n.layerNorm(path+"/norm/0", n.linear(attention+"/output", mixed, e))
	u := make([]float64, e)
	for i := range u {
		u[i] = relu(attended[i] + recalled[t][i])
	}
	hidden := n.linear(path+"/feed/0", u, e/4)
	for i := range hidden {
		hidden[i] = relu(hidden[i])
	}
	fed := n.layerNorm(path+"/norm/1", n.linear(path+"/feed/1", hidden, e))
	for i := range u {
		u[i] = relu(fed[i] + u[i])
	}
	return u
}

// surroundings is the 3×3 convolution of the vectors around tile t, the centre
// and what is beyond the border 0, and a ReLU.
func (n *Network) surroundings(path string, grid [][]float64, t int) []float64 {
	e := len(grid[t])
	y := make([]float64, e)
	copy(y, n.value(path+"/bias", e))
	kernel := n.value(path+"/kernel", 9*e*e)
	for k, v := range n.neighbours(grid, t) {
		if k >= 4 { // the centre is left out
			k++
		}
		for c := range v {
			for o := range y {
				y[o] += v[c] * kernel[(k*e+c)*e+o]
			}
		}
	}
	for o := range y {
		y[o] = relu(y[o])
	}
	return y
}
