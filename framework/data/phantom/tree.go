package phantom

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// point3 is a place in mm: x to the patient's left, y to the back, z down.
type point3 struct{ x, y, z float64 }

func (p point3) distance(q point3) float64 {
	dx, dy, dz := p.x-q.x, p.y-q.y, p.z-q.z
	return math.Sqrt(dx*dx + dy*dy + dz*dz)
}

// vessel is a piece of a vessel tree: a capsule whose radius changes linearly.
type vessel struct {
	from, to             point3
	fromRadius, toRadius float64
}

// at returns the axis and the radius at t in [0,1].
func (v vessel) at(t float64) (axis point3, radius float64) {
	return point3{
		v.from.x + t*(v.to.x-v.from.x),
		v.from.y + t*(v.to.y-v.from.y),
		v.from.z + t*(v.to.z-v.from.z),
	}, v.fromRadius + t*(v.toRadius-v.fromRadius)
}

// growTree joins the end points, in the order of their distance from the
// root, each to the node that makes the way short: |end-node| plus a quarter
// of the node's own way from the root, with a joint in between. Radii follow
// from the ends by rᵞ(parent) = Σ rᵞ(child).
func growTree(r *rand.Rand, root point3, ends []point3, gamma, endRadius, maxRadius float64) []vessel {
	slices.SortFunc(ends, func(a, b point3) int {
		return cmp.Compare(root.distance(a), root.distance(b))
	})
	nodes := make([]point3, 1, 2*len(ends)+1)
	path := make([]float64, 1, cap(nodes)) // way from the root
	parent := make([]int, 1, cap(nodes))
	nodes[0] = root
	for _, end := range ends {
		best, way := 0, math.Inf(1)
		for j, p := range nodes {
			if d := 0.25 * path[j]; d < way {
				if d += p.distance(end); d < way {
					best, way = j, d
				}
			}
		}
		p := nodes[best]
		joint := point3{
			0.55*p.x + 0.45*end.x + 1.2*r.NormFloat64(),
			0.55*p.y + 0.45*end.y + 1.2*r.NormFloat64(),
			0.55*p.z + 0.45*end.z + 1.2*r.NormFloat64(),
		}
		toJoint := path[best] + p.distance(joint)
		nodes = append(nodes, joint, end)
		path = append(path, toJoint, toJoint+joint.distance(end))
		parent = append(parent, best, len(nodes)-2)
	}

	flow := make([]float64, len(nodes)) // rᵞ of the piece that leads to a node
	leaf := math.Pow(endRadius, gamma)
	radius := make([]float64, len(nodes))
	for i := len(nodes) - 1; i >= 0; i-- {
		if flow[i] == 0 {
			flow[i] = leaf
		}
		radius[i] = min(math.Pow(flow[i], 1/gamma), maxRadius)
		if i > 0 {
			flow[parent[i]] += flow[i]
		}
	}
	vessels := make([]vessel, 0, len(nodes)-1)
	for i := 1; i < len(nodes); i++ {
		p := parent[i]
		vessels = append(vessels, vessel{
			from: nodes[p], to: nodes[i],
			fromRadius: min(radius[p], 1.25*radius[i]), toRadius: radius[i],
		})
	}
	return vessels
}
