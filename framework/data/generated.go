package data

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"slices"

	"thorax/framework/data/phantom"
)

// generated is the source of phantom images: nothing is read, an image is drawn when it is asked for.
type generated struct {
	opts  phantom.Options
	cases map[string]phantom.Case // by path
	list  []listed                // ordered by path
}

func newGenerated(o phantom.Options) *generated {
	g := &generated{opts: o, cases: map[string]phantom.Case{}}
	splits := map[string]Split{Train.String(): Train, Validation.String(): Validation, Test.String(): Test}
	for _, c := range o.Plan() {
		it := Item{Path: c.Path, Abnormal: c.Abnormal, Subtype: c.Subtype, Group: c.Group, Lungs: "lungs/" + c.Path}
		if c.Abnormal {
			it.Mask = "masks/" + c.Path
		}
		g.cases[c.Path] = c
		g.list = append(g.list, listed{it, splits[c.Split]})
	}
	slices.SortFunc(g.list, func(a, b listed) int { return byPath(a.Item, b.Item) })
	return g
}

// load draws an image. FileBytes is left out: see encoded.
func (g *generated) load(it Item) (picture, error) {
	img, lesion, err := g.opts.Render(g.cases[it.Path])
	if err != nil {
		return picture{}, fmt.Errorf("image %s: %w", it.Path, err)
	}
	side := g.opts.Size
	p := picture{Native: Native{W: side, H: side, V: img}}
	if it.Mask != "" {
		bits := make([]bool, len(lesion))
		for i, v := range lesion {
			bits[i] = v != 0
		}
		p.mask = mask{w: side, h: side, bits: bits}
	}
	return p, nil
}

func (g *generated) lungs(it Item) mask {
	lung, err := g.opts.LungMask(g.cases[it.Path])
	if err != nil {
		return mask{err: fmt.Errorf("lungs of %s: %w", it.Path, err)}
	}
	m := mask{w: g.opts.Size, h: g.opts.Size, bits: make([]bool, len(lung))}
	for i, v := range lung {
		m.bits[i] = v != 0
	}
	return m
}

// encoded is a generated image as a file would hold it.
func encoded(side int, v []uint8) (Native, error) {
	var b bytes.Buffer
	img := &image.Gray{Pix: v, Stride: side, Rect: image.Rect(0, 0, side, side)}
	if err := png.Encode(&b, img); err != nil {
		return Native{}, fmt.Errorf("encode a generated image: %w", err)
	}
	return Native{W: side, H: side, V: v, FileBytes: int64(b.Len())}, nil
}

// manifest returns a line for each image: its case, and what else it is a function of.
func (g *generated) manifest(_ string, used []Item) ([]string, error) {
	lines := make([]string, len(used))
	for i, it := range used {
		lines[i] = fmt.Sprintf("%s %+v %+v version %d", it.Path, g.cases[it.Path], g.opts, phantom.Version)
	}
	return lines, nil
}
