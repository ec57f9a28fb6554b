package proposed

import (
	"fmt"
	"slices"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/graphs/inpaint"
	"thorax/graphs/nn"
)

// ImportSimSID reads an official checkpoint of SimSID, a .pth file of either
// container or the folder that it is in, with the discriminator's beside it.
// Sizes come from the file; what the file does not tell (queue or matrix, top-k,
// range of the images, parts switched off) from the preset. Every tensor that
// is missing, misshapen or unknown is named.
//
// μ and σ of the score are not in the file: they are 0 and 1, which changes no
// rank. The memory queue's pointer starts at 0.
func ImportSimSID(path, preset string) (*framework.Imported, error) {
	presets := (*SimSID)(nil).Presets()
	m, ok := presets[preset].(*SimSID)
	if !ok {
		var names []string
		for name := range presets {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("no preset %q: the file does not tell a queue from a matrix, nor the top-k; say which of %s it is", preset, strings.Join(names, ", "))
	}
	c, err := inpaint.Open(path)
	if err != nil {
		return nil, err
	}
	out := &framework.Imported{Method: m}
	if out.Size, err = c.Describe(&m.Generator); err == nil {
		err = m.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	score := func(s *nn.Scope, x tf.Output) { m.Score(s, x) }
	out.Variables, out.Unused, err = c.Import(m.Generator, inpaint.Discriminator{Widest: 256}, out.Size, score)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}
