package plain

import (
	"fmt"
	"math"
	"slices"
)

// read lets the query x read from items of its own length: their weighted sum,
// and the weights.
func (n *Network) read(x []float64, items [][]float64, queue bool) (y, w []float64) {
	a := make([]float64, len(items))
	for i, m := range items {
		a[i] = dot(x, m)
	}
	switch {
	case n.Lambda > 0:
		w = make([]float64, len(a))
		for i, v := range a {
			w[i] = relu(v-n.Lambda) * v / (math.Abs(v-n.Lambda) + 1e-12)
		}
		w = shares(w)
	case n.TopK > 0:
		w = softmax(a)
		descending := slices.Clone(w)
		slices.Sort(descending)
		slices.Reverse(descending)
		t := descending[n.TopK-1]
		for i, v := range w {
			if n.Rule == "strict" {
				w[i] = relu(v-t) * v / (math.Abs(v-t) + 1e-12) // 0 for the k-th itself
			} else if v < t {
				w[i] = 0
			}
		}
		w = shares(w)
	case queue:
		w = a
	default:
		w = softmax(a)
	}
	y = make([]float64, len(x))
	for i, m := range items {
		for j := range y {
			y[j] += w[i] * m[j]
		}
	}
	return y, w
}

// shares divides w by the sum of its absolute values.
func shares(w []float64) []float64 {
	sum := 0.0
	for _, v := range w {
		sum += math.Abs(v)
	}
	y := make([]float64, len(w))
	for i, v := range w {
		y[i] = v / max(sum, 1e-12)
	}
	return y
}

// recall lets queries read from the memory at path: query[g][image][j] is one
// of the vectors of an image that are in place g. Each place has a matrix of its
// own (per_tile), all share one (shared), or the vectors of an image, one after
// another, are one query (global).
func (n *Network) recall(path string, query [][][][]float64, items int, queue bool) (answer [][][][]float64, weights [][]float64) {
	places, images, per, length := len(query), len(query[0]), len(query[0][0]), len(query[0][0][0])
	matrices, size := 1, length
	switch n.Memory {
	case "per_tile":
		matrices = places
	case "shared":
	case "global":
		size = places * per * length
	default:
		panic(fmt.Sprintf("plain: memory %q", n.Memory))
	}
	rows := slices.Collect(slices.Chunk(n.value(path+"/items", matrices*items*size), size))

	answer = make([][][][]float64, places)
	for g := range answer {
		answer[g] = make([][][]float64, images)
	}
	if n.Memory == "global" {
		for b := range images {
			var whole []float64
			for g := range places {
				for _, v := range query[g][b] {
					whole = append(whole, v...)
				}
			}
			y, w := n.read(whole, rows, queue)
			weights = append(weights, w)
			for g := range places {
				for range per {
					answer[g][b] = append(answer[g][b], y[:length])
					y = y[length:]
				}
			}
		}
		return answer, weights
	}
	for g := range places {
		own := rows
		if n.Memory == "per_tile" {
			own = rows[g*items : (g+1)*items]
		}
		for b := range images {
			for _, v := range query[g][b] {
				y, w := n.read(v, own, queue)
				answer[g][b], weights = append(answer[g][b], y), append(weights, w)
			}
		}
	}
	return answer, weights
}

// decoderMemory replaces the features of tiles by what the memory of up-stage i
// holds of them: version 1 of each quarter of a tile, version 3 of whole tiles.
func (n *Network) decoderMemory(path string, x Maps, version string, p *Pass, i int) Maps {
	items := n.DecoderItems
	if items == 0 {
		items = n.Items
	}
	tiles := n.Patches * n.Patches
	images := x.N / tiles
	cut, places, per := 1, tiles, 1
	if version == "v1" {
		cut, places, per = 2, 4, tiles
	}
	windows := split(x, cut) // tile by tile
	// where window k of all lies among the queries
	place := func(k int) (g, image, j int) {
		if version == "v1" {
			return k % 4, k / 4 / tiles, k / 4 % tiles
		}
		return k % tiles, k / tiles, 0
	}
	query := make([][][][]float64, places)
	for g := range query {
		query[g] = make([][][]float64, images)
		for b := range query[g] {
			query[g][b] = make([][]float64, per)
		}
	}
	for k := range windows.N {
		g, b, j := place(k)
		query[g][b][j] = windows.one(k)
	}
	answer, weights := n.recall(path, query, items, false)
	p.Read[i] = slices.Concat(weights...)
	y := newMaps(windows.N, windows.H, windows.W, windows.C)
	for k := range y.N {
		g, b, j := place(k)
		copy(y.one(k), answer[g][b][j])
	}
	return merge(y, cut)
}
