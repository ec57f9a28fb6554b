package reconstruction

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/graphs/inpaint"
	"thorax/graphs/nn"
)

// ImportSQUID reads an official checkpoint of SQUID, a .pth file of either
// container or the folder that it is in, with the discriminator's beside it, as
// far as its names are those of SimSID's. Sizes come from the file; the presets
// differ in training only, and "" is the defaults. Every tensor that is missing,
// misshapen or unknown is named. μ and σ of the score are not in the file: they
// are 0 and 1, which changes no rank.
func ImportSQUID(path, preset string) (*framework.Imported, error) {
	m := NewSQUID()
	if preset != "" {
		presets := m.Presets()
		if presets[preset] == nil {
			return nil, fmt.Errorf("no preset %q: need one of %s", preset, strings.Join(slices.Sorted(maps.Keys(presets)), ", "))
		}
		m = presets[preset].(*SQUID)
	}
	c, err := inpaint.Open(path)
	if err != nil {
		return nil, err
	}
	out := &framework.Imported{Method: m}
	var g inpaint.Generator
	if out.Size, err = c.Describe(&g); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.Width, m.Tile, m.Items = g.Width, out.Size/g.Patches, g.Items
	known := m.network(out.Size)
	if !slices.Equal(g.Skip, known.Skip) || !slices.Equal(g.Decoder, known.Decoder) || g.DecoderItems != g.Items {
		return nil, fmt.Errorf("%s: skips %v, decoder memories %v of %d items: not SQUID, which has %v, %v of %d", path,
			g.Skip, g.Decoder, g.DecoderItems, known.Skip, known.Decoder, g.Items)
	}
	known.Teacher = g.Teacher
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	score := func(s *nn.Scope, x tf.Output) { m.Score(s, x) }
	out.Variables, out.Unused, err = c.Import(known, inpaint.Discriminator{Widest: 128}, out.Size, score)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}
