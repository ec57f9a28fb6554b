// Package inpaint is the network of SQUID and SimSID: a generator that cuts an
// image into tiles, paints the deepest features of each anew from memories of
// normal anatomy, and reconstructs the image; a teacher without memories; and a
// discriminator, whose verdict on the reconstruction is the score.
package inpaint

import (
	"fmt"
	"slices"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// A Generator describes the network that reconstructs.
type Generator struct {
	Width          int      `toml:"width"`         // channels of the first stage, doubled by each of the four after it; 32 as published
	Patches        int      `toml:"patches"`       // P: an image is cut into P×P tiles; 16·P must divide its side
	Output         string   `toml:"output"`        // tanh: images in [-1,1]; sigmoid: in [0,1]
	Inpainting     string   `toml:"inpainting"`    // transformer, convolution, memory_only, pixel (tiles of the input are hidden instead), or none: no block and no memory of it
	Store          string   `toml:"store"`         // items of the in-painting memory: matrix (trained) or queue (of latest features)
	Memory         string   `toml:"memory"`        // per_tile: a matrix for each place; shared: one for all; global: one for whole images
	Items          int      `toml:"items"`         // N, items of a matrix
	DecoderItems   int      `toml:"decoder_items"` // items of a matrix of the decoder; 0: as items
	Lookup                  // how memories are read
	Decoder        []string `toml:"decoder_memory"`        // of the first two up-stages: v1 (a matrix for each quarter of a tile), v3 (for each tile) or none
	Skip           []string `toml:"skip"`                  // of the four up-stages: concat the encoder's features of that size, or none
	MaskInpainting float64  `toml:"mask_inpainting"`       // share of positions where the block's output is used in training, else its input; 1: all
	MaskDecoder    float64  `toml:"mask_decoder"`          // the same for the decoder's memories
	Teacher        bool     `toml:"teacher"`               // a second decoder without memories, whose features the first imitates
	StopGradient   bool     `toml:"teacher_stop_gradient"` // the teacher does not train the encoder
}

// stages is the number of times the encoder halves its tiles.
const stages = 4

// combine is the up-stage before which tiles are put together to the image.
const combine = 2

// trainSkip is what the encoder's features are multiplied by in training where
// they skip to up-stage i. It is 1 in scoring.
var trainSkip = [stages]float64{1, 1, 0, 0}

// Check names the first field that is out of range.
func (g Generator) Check() error {
	for _, f := range []struct {
		key, value string
		allowed    []string
	}{
		{"output", g.Output, []string{"tanh", "sigmoid"}},
		{"inpainting", g.Inpainting, []string{"transformer", "convolution", "memory_only", "pixel", "none"}},
		{"store", g.Store, []string{"matrix", "queue"}},
		{"memory", g.Memory, []string{"per_tile", "shared", "global"}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return fmt.Errorf("%s: %q, need one of %v", f.key, f.value, f.allowed)
		}
	}
	switch {
	case g.Width < 2 || g.Width > 1024 || g.Width%2 != 0:
		return fmt.Errorf("width: %d, need an even number from 2 to 1024", g.Width)
	case !slices.Contains([]int{1, 2, 4, 8, 16}, g.Patches):
		return fmt.Errorf("patches: %d, need 1, 2, 4, 8 or 16", g.Patches)
	case g.Items < 1:
		return fmt.Errorf("items: %d, need 1 or more", g.Items)
	case g.DecoderItems < 0:
		return fmt.Errorf("decoder_items: %d, need 0 (as items) or more", g.DecoderItems)
	case !(g.MaskInpainting > 0 && g.MaskInpainting <= 1):
		return fmt.Errorf("mask_inpainting: %g, need more than 0, up to 1", g.MaskInpainting)
	case !(g.MaskDecoder > 0 && g.MaskDecoder <= 1):
		return fmt.Errorf("mask_decoder: %g, need more than 0, up to 1", g.MaskDecoder)
	}
	if err := choices("decoder_memory", g.Decoder, combine, "v1", "v3", "none"); err != nil {
		return err
	}
	if err := choices("skip", g.Skip, stages, "concat", "none"); err != nil {
		return err
	}
	return g.Lookup.Check(min(g.Items, g.decoderItems()))
}

func choices(key string, values []string, n int, allowed ...string) error {
	if len(values) != n {
		return fmt.Errorf("%s: %d values, need %d", key, len(values), n)
	}
	for _, v := range values {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("%s: %q, need one of %v", key, v, allowed)
		}
	}
	return nil
}

func (g Generator) decoderItems() int {
	if g.DecoderItems == 0 {
		return g.Items
	}
	return g.DecoderItems
}

// Features are what the generator computes on its way, for losses and tests. A
// map of up-stages 0 and 1 is one per tile, [B·P²,h,w,C], later ones are [B,h,w,C].
type Features struct {
	Deepest  tf.Output          // z, [B·P²,r,r,16w]
	Query    tf.Output          // of the in-painting memory, [B,P²,E]
	Recalled tf.Output          // what it answers, [P²,B,E]
	Weights  tf.Output          // of its items, [P²,B,N] where each place has a matrix
	Painted  tf.Output          // z after the in-painting block
	Read     [combine]tf.Output // weights of a decoder memory's items
	Raw      [stages]tf.Output  // student up-stages before their memory
	Student  [stages]tf.Output  // and after it
	Taught   [stages]tf.Output  // teacher up-stages
	Recon    tf.Output          // x̂, [B,S,S,1]
	Lesson   tf.Output          // the teacher's reconstruction
	Queue    *Queue             // of the in-painting block; nil if its memory is trained

	Attention, Fed tf.Output // branches of the transformer, [B,P²,E]

	skips [stages]tf.Output // for up-stage i
}

// Unit maps images in [0,1] to the range the generator works in.
func (g Generator) Unit(s *nn.Scope, x tf.Output) tf.Output {
	if g.Output == "sigmoid" {
		return x
	}
	return nn.Shift(s, nn.Scale(s, x, 2), -1)
}

// Build reconstructs x [B,S,S,1], in the range of g. The teacher is not built.
func (g Generator) Build(s *nn.Scope, x tf.Output) *Features { return g.BuildMasked(s, x, nil) }

// BuildMasked is Build with the masks of the shortcuts given.
func (g Generator) BuildMasked(s *nn.Scope, x tf.Output, masks Masks) *Features {
	f := &Features{}
	if s.Err() != nil {
		return f
	}
	if side := nn.Height(s, x); side%(16*g.Patches) != 0 || nn.Width(s, x) != side {
		s.Fail("images of %d×%d in %d×%d patches, need a side that is a multiple of %d: set size in the data block, or patches",
			side, nn.Width(s, x), g.Patches, g.Patches, 16*g.Patches)
		return f
	}
	g.encode(s.In("encoder"), split(s, x, g.Patches), f)
	h := f.Deepest
	if g.Inpainting != "none" {
		h = g.block(s.In("inpainting"), h, f, masks)
	}
	f.Recon = g.decode(s.In("student"), h, &f.Student, f.skips, func(i int, h tf.Output) tf.Output {
		f.Raw[i] = h
		if i < combine && g.Decoder[i] != "none" {
			at := s.In("student").At(i)
			y := g.recall(at.In("memory"), i, h, f)
			return masks.shortcut(at.In("mask"), y, h, g.MaskDecoder)
		}
		return h
	})
	return f
}

// Teach adds the teacher to f. No gradient of it reaches what skips, and none
// the deepest features either if StopGradient is set.
func (g Generator) Teach(s *nn.Scope, f *Features) {
	z, skips := f.Deepest, f.skips
	if g.StopGradient {
		z = nn.StopGradient(s, z)
	}
	for i := range skips {
		if skips[i].Op != nil {
			skips[i] = nn.StopGradient(s, skips[i])
		}
	}
	f.Lesson = g.decode(s.In("teacher"), z, &f.Taught, skips, func(_ int, h tf.Output) tf.Output { return h })
}

// Distance is the mean squared distance of student and teacher, summed over
// up-stages. Neither side is held fixed.
func (f *Features) Distance(s *nn.Scope) tf.Output {
	var d []tf.Output
	for i := range f.Student {
		d = append(d, nn.MeanAll(s, nn.SquaredDiff(s, f.Student[i], f.Taught[i])))
	}
	return nn.AddN(s, d...)
}

// encode maps tiles to the deepest features and what skips.
func (g Generator) encode(s *nn.Scope, x tf.Output, f *Features) {
	h := residual(s.In("in"), x, g.Width, 1)
	for i := range stages {
		up := stages - 1 - i
		if g.Skip[up] == "concat" {
			f.skips[up] = h
			if up >= combine {
				f.skips[up] = merge(s, h, g.Patches)
			}
			if w := trainSkip[up]; s.Training() && w != 1 {
				f.skips[up] = nn.Scale(s, f.skips[up], w)
			}
		}
		h = residual(s.In("down").At(i), h, g.Width<<(i+1), 2)
	}
	f.Deepest = h
}

// decode maps features h of tiles to an image; each up-stage's features pass
// through recall, and are kept in out.
func (g Generator) decode(s *nn.Scope, h tf.Output, out *[stages]tf.Output, skips [stages]tf.Output, recall func(i int, h tf.Output) tf.Output) tf.Output {
	for i := range stages {
		if i == combine {
			h = merge(s, h, g.Patches)
		}
		h = nn.ResizeBilinear(s, h, 2*nn.Height(s, h), 2*nn.Width(s, h))
		if skips[i].Op != nil {
			h = nn.Concat(s, -1, skips[i], h)
		}
		h = recall(i, residual(s.At(i), h, g.Width<<(stages-1-i), 1))
		out[i] = h
	}
	y := nn.Conv2D(s.In("out"), h, nn.Conv{Out: 1, Kernel: 1})
	if g.Output == "sigmoid" {
		return nn.Sigmoid(s, y)
	}
	return nn.Tanh(s, y)
}

// recall replaces the features h [B·P²,n,n,C] of up-stage i by what its memory
// holds of them: of quarters of tiles (v1) or of whole tiles (v3).
func (g Generator) recall(s *nn.Scope, i int, h tf.Output, f *Features) tf.Output {
	tiles, n, c := g.Patches*g.Patches, nn.Height(s, h), nn.Channels(s, h)
	m := g.memory(g.decoderItems(), false)
	var y tf.Output
	if g.Decoder[i] == "v3" {
		x := nn.Transpose(s, nn.Reshape(s, h, -1, tiles, n*n*c), 1, 0, 2)
		y, f.Read[i], _ = m.recall(s, x, 1)
		y = nn.Transpose(s, y, 1, 0, 2)
	} else {
		x := nn.Transpose(s, nn.Reshape(s, h, -1, 2, n/2, 2, n/2, c), 1, 3, 0, 2, 4, 5)
		x = nn.Reshape(s, x, 4, -1, n/2*n/2*c)
		y, f.Read[i], _ = m.recall(s, x, tiles)
		y = nn.Transpose(s, nn.Reshape(s, y, 2, 2, -1, n/2, n/2, c), 2, 0, 3, 1, 4, 5)
	}
	return nn.Reshape(s, y, -1, n, n, c)
}

// Masks gives the mask [B,h,w,1] of a shortcut, 1 where the features x
// [B,h,w,C] are used and 0 where they are passed by. A nil one draws each
// position from Bernoulli(keep).
type Masks func(s *nn.Scope, x tf.Output, keep float64) tf.Output

// shortcut mixes y and what it was made of, x, position by position, in
// training.
func (m Masks) shortcut(s *nn.Scope, y, x tf.Output, keep float64) tf.Output {
	if !s.Training() || keep == 1 {
		return y
	}
	var mask tf.Output
	if m != nil {
		mask = m(s, y, keep)
	} else {
		shape := nn.Shape(s, y)
		mask = bernoulli(s, keep, shape[0], shape[1], shape[2], 1)
	}
	return nn.Add(s, nn.Mul(s, mask, y), nn.Mul(s, nn.Shift(s, nn.Neg(s, mask), 1), x))
}

// bernoulli draws 1 with probability p, else 0.
func bernoulli(s *nn.Scope, p float64, dims ...int) tf.Output {
	return nn.Cast(s, nn.Less(s, nn.RandomUniform(s, dims...), nn.Const(s, p)), tf.Float)
}

// Hide sets each of the p×p tiles of x [B,S,S,1] to 0 with the given
// probability.
func Hide(s *nn.Scope, x tf.Output, p int, probability float64) tf.Output {
	keep := bernoulli(s, 1-probability, nn.Batch(s, x), p, p, 1)
	return nn.Mul(s, x, nn.Upsample(s, keep, nn.Height(s, x)/p))
}

// residual is three convolutions 3×3 with batch norm and ReLU, the first of
// the given stride, and a shortcut around the last two:
// [B,H,W,·] → [B,H/stride,W/stride,out].
func residual(s *nn.Scope, x tf.Output, out, stride int) tf.Output {
	conv := nn.Conv{Out: out, Kernel: 3, Stride: stride, Pad: nn.Symmetric(1)}
	a := nn.ReLU(s, convNorm(s.At(0), x, conv, nn.BN{}))
	conv.Stride = 1
	y := nn.ReLU(s, convNorm(s.At(1), a, conv, nn.BN{}))
	y = convNorm(s.At(2), y, conv, nn.BN{})
	return nn.ReLU(s, nn.Add(s, y, a))
}

// convNorm is a convolution and its batch norm. In training the bias is not
// added, since the mean takes it off again: two passes over the features less,
// and sums around 0 are more exact. The running mean has the bias, whose
// gradient is zero, so that an optimiser's decay alone moves it.
func convNorm(s *nn.Scope, x tf.Output, c nn.Conv, n nn.BN) tf.Output {
	if !s.Training() || c.NoBias {
		return nn.BatchNorm(s.In("norm"), nn.Conv2D(s, x, c), n)
	}
	c.NoBias = true
	y := nn.Conv2D(s, x, c)
	n.Offset = s.Variable("bias", nn.PyTorch(c.Kernel*c.Kernel*nn.Channels(s, x)), c.Out)
	return nn.BatchNorm(s.In("norm"), y, n)
}

// split cuts x [B,S,S,C] into p×p tiles, image by image, row by row:
// [B·p²,S/p,S/p,C].
func split(s *nn.Scope, x tf.Output, p int) tf.Output {
	if p == 1 {
		return x
	}
	n, c := nn.Height(s, x)/p, nn.Channels(s, x)
	x = nn.Transpose(s, nn.Reshape(s, x, -1, p, n, p, n, c), 0, 1, 3, 2, 4, 5)
	return nn.Reshape(s, x, -1, n, n, c)
}

// merge undoes split for tiles of any size.
func merge(s *nn.Scope, x tf.Output, p int) tf.Output {
	if p == 1 {
		return x
	}
	n, c := nn.Height(s, x), nn.Channels(s, x)
	x = nn.Transpose(s, nn.Reshape(s, x, -1, p, p, n, n, c), 0, 1, 3, 2, 4, 5)
	return nn.Reshape(s, x, -1, p*n, p*n, c)
}
