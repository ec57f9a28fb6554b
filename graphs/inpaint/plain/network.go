// Package plain is for tests only: the network of SQUID and SimSID, read from
// its specification as loops in float64 without TensorFlow. Vectors are
// flattened maps, channels fastest, as graphs/inpaint stores them.
package plain

import (
	"fmt"
	"math"
	"math/bits"

	"thorax/graphs/inpaint"
)

// A Network is generator and discriminator with their variables. Of
// [inpaint.Generator] it knows the settings alone.
type Network struct {
	inpaint.Generator
	Widest    int  // most channels of a stage of the discriminator
	PerSample bool // in scoring the discriminator normalises by each image, else by running statistics
	Training  bool // batch statistics, masks, and skips as in training

	Values map[string][]float64 // variables by path
	Masks  map[string][]float64 // in training, of the shortcuts "inpainting", "student/0" and "student/1", [B·P²,h,w]; none: the memory everywhere

	// Running are the running statistics by path, if they are to follow the
	// batches of training: see Follow.
	Running map[string][]float64
}

// A Pass is what the generator computes of a batch. Maps of up-stages 0 and 1
// are those of tiles.
type Pass struct {
	Deepest         Maps
	Query           []float64    // of the in-painting memory, [B,P²,E]
	Recalled        []float64    // what it answers, [P²,B,E]
	Weights         []float64    // of its items, by place and image
	Read            [2][]float64 // weights of a decoder memory's items, by place, image and tile
	Painted         Maps
	Student, Taught [4]Maps
	Recon, Lesson   Maps

	skips [4]Maps // of up-stages
}

// value returns a variable of n elements.
func (n *Network) value(path string, size int) []float64 {
	v, ok := n.Values[path]
	if !ok || len(v) != size {
		panic(fmt.Sprintf("plain: variable %s has %d values, need %d", path, len(v), size))
	}
	return v
}

// Generate reconstructs images x, in the range of the network.
func (n *Network) Generate(x Maps) *Pass {
	p := &Pass{}
	h := n.residual("generator/encoder/in", split(x, n.Patches), n.Width, 1)
	fade := []float64{1, 1, 1, 1}
	if n.Training {
		fade = []float64{0, 0, 1, 1}
	}
	for i := range 4 {
		skip := h.Each(func(v float64) float64 { return fade[i] * v })
		if i < 2 {
			skip = merge(skip, n.Patches)
		}
		p.skips[3-i] = skip
		h = n.residual(fmt.Sprint("generator/encoder/down/", i), h, n.Width<<(i+1), 2)
	}
	p.Deepest, p.Painted = h, h
	if n.Inpainting != "none" {
		p.Painted = n.block("generator/inpainting", h, p)
	}
	p.Recon = n.decode("generator/student", p.Painted, p, true)
	if n.Teacher {
		p.Lesson = n.decode("generator/teacher", p.Deepest, p, false)
	}
	return p
}

func (n *Network) decode(path string, h Maps, p *Pass, student bool) Maps {
	for i := range 4 {
		h = upsample(h)
		if n.Skip[i] == "concat" {
			h = concat(p.skips[i], h)
		}
		at := fmt.Sprint(path, "/", i)
		h = n.residual(at, h, n.Width<<(3-i), 1)
		if !student {
			p.Taught[i] = h
		} else {
			if i < 2 && n.Decoder[i] != "none" {
				y := n.decoderMemory(at+"/memory", h, n.Decoder[i], p, i)
				h = n.shortcut(fmt.Sprint("student/", i), y, h)
			}
			p.Student[i] = h
		}
		if i == 1 {
			h = merge(h, n.Patches)
		}
	}
	y := n.conv(path+"/out", h, 1, 1, 1, true)
	if n.Output == "sigmoid" {
		return y.Each(sigmoid)
	}
	return y.Each(math.Tanh)
}

// shortcut passes by a memory in training: m·y + (1-m)·x.
func (n *Network) shortcut(name string, y, x Maps) Maps {
	mask, ok := n.Masks[name]
	if !n.Training || !ok {
		return y
	}
	out := newMaps(y.N, y.H, y.W, y.C)
	for i := range out.V {
		m := mask[i/y.C]
		out.V[i] = m*y.V[i] + (1-m)*x.V[i]
	}
	return out
}

// Judge returns the discriminator's logits of images x.
func (n *Network) Judge(x Maps) []float64 {
	by := batch
	if !n.Training {
		by = running
		if n.PerSample {
			by = instance
		}
	}
	h := n.conv("discriminator/in", x, 16, 5, 2, true).Each(leaky)
	for j := range bits.Len(uint(x.H/8)) - 1 {
		at := fmt.Sprint("discriminator/", j)
		h = n.conv(at, h, min(16<<(j+1), n.Widest), 5, 2, true)
		h = n.batchNorm(at+"/norm", h, by).Each(leaky)
	}
	var logits []float64
	for b := range h.N {
		logits = append(logits, n.linear("discriminator/out", h.one(b), 1)[0])
	}
	return logits
}

// Losses are those of one step on images x, by the names under which they are
// logged. after are the variables after the discriminator's step, seen by the
// generator's; nil in iterations in which it takes none.
func (n *Network) Losses(x Maps, p *Pass, t inpaint.Terms, after map[string][]float64) map[string]float64 {
	l := map[string]float64{}
	l["discriminator/real"] = crossEntropy(n.Judge(x), true)
	l["discriminator/fake"] = crossEntropy(n.Judge(p.Recon), false)
	l["discriminator"] = t.Discriminator * (l["discriminator/real"] + l["discriminator/fake"])
	if after == nil {
		return l
	}
	updated := *n
	updated.Values = after
	l["generator/adversarial"] = crossEntropy(updated.Judge(p.Recon), true)
	l["generator/reconstruction"] = squared(p.Recon, x)
	l["generator"] = t.Reconstruction*l["generator/reconstruction"] + t.Adversarial*l["generator/adversarial"]
	if n.Teacher {
		l["generator/teacher"] = squared(p.Lesson, x)
		for i := range p.Student {
			l["generator/distillation"] += squared(p.Student[i], p.Taught[i])
		}
		l["generator"] += t.Teacher*l["generator/teacher"] + t.Distillation*l["generator/distillation"]
	}
	return l
}

// squared is the mean squared difference.
func squared(a, b Maps) float64 {
	sum := 0.0
	for i := range a.V {
		sum += (a.V[i] - b.V[i]) * (a.V[i] - b.V[i])
	}
	return sum / float64(len(a.V))
}

// crossEntropy of the verdicts and what is true, its mean.
func crossEntropy(logits []float64, real bool) float64 {
	sum := 0.0
	for _, v := range logits {
		if !real {
			v = -v
		}
		sum -= math.Log(sigmoid(v))
	}
	return sum / float64(len(logits))
}
