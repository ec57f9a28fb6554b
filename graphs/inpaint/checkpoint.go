package inpaint

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/nn"
	"thorax/graphs/weights"
)

// A Checkpoint is an official pair of files: model.pth, or another name with
// "model" in it, and its discriminator beside it.
type Checkpoint struct {
	Generator, Discriminator map[string]weights.Array
}

// Open reads the checkpoint at path: the generator's file or the folder with
// model.pth. A file of safetensors whose keys start with "g." and "d." holds
// both.
func Open(path string) (*Checkpoint, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "model.pth")
	}
	g, err := weights.Load(path)
	if err != nil {
		return nil, err
	}
	both := &Checkpoint{map[string]weights.Array{}, map[string]weights.Array{}}
	for key, a := range g {
		switch {
		case strings.HasPrefix(key, "g."):
			both.Generator[key[2:]] = a
		case strings.HasPrefix(key, "d."):
			both.Discriminator[key[2:]] = a
		}
	}
	if len(both.Generator)+len(both.Discriminator) == len(g) {
		return both, nil
	}
	dir, name := filepath.Split(path)
	if !strings.Contains(name, "model") {
		return nil, fmt.Errorf("%s: its discriminator is looked for beside it by putting \"discriminator\" for \"model\" in its name: rename it", path)
	}
	d, err := weights.Load(dir + strings.Replace(name, "model", "discriminator", 1))
	if err != nil {
		return nil, fmt.Errorf("the discriminator, whose verdict is the score: %w", err)
	}
	return &Checkpoint{g, d}, nil
}

// Describe sets what the shapes in the checkpoint tell of g: width, patches,
// items, memories, skips, teacher. It returns the side of the images. Whether
// the store is a queue or a matrix, the top-k rule, the range of the images and
// what is switched off, they do not tell: these are as they are in g.
func (c *Checkpoint) Describe(g *Generator) (side int, err error) {
	shape := func(key string, rank int) []int {
		a, ok := c.Generator[key]
		if err == nil && (!ok || len(a.Shape) != rank || slices.Contains(a.Shape, 0)) {
			err = fmt.Errorf("generator: %s: missing or of a shape %v that is not of %d dimensions: no checkpoint of SimSID or SQUID", key, a.Shape, rank)
		}
		if err != nil {
			return make([]int, 4)
		}
		return a.Shape
	}
	g.Width = shape("in_conv.conv.conv1.0.weight", 4)[0]
	tiles := c.count("inpaint_block.memory")
	g.Patches = int(math.Round(math.Sqrt(float64(tiles))))
	store := shape("inpaint_block.memory.0.memMatrix", 2)
	g.Items = store[0]
	if err != nil {
		return 0, err
	}
	r := int(math.Round(math.Sqrt(float64(store[1]) / float64(4*g.Width))))
	if g.Patches*g.Patches != tiles || 4*g.Width*r*r != store[1] || r < 1 {
		return 0, fmt.Errorf("generator: %d stores of items of length %d: not those of square tiles with width %d", tiles, store[1], g.Width)
	}
	g.Skip, g.Decoder, g.DecoderItems = nil, nil, 0
	for i := range stages {
		in, kind := shape(fmt.Sprintf("up_blocks.%d.conv.conv1.0.weight", i), 4)[1], "none"
		if in == 3*(g.Width<<(stages-1-i)) {
			kind = "concat"
		}
		g.Skip = append(g.Skip, kind)
	}
	for i := range combine {
		n, kind := c.count(fmt.Sprintf("memory_blocks.%d.memory", i)), "none"
		if n > 0 {
			items := shape(fmt.Sprintf("memory_blocks.%d.memory.0.memMatrix", i), 2)
			g.DecoderItems = items[0]
			whole := (g.Width << (stages - 1 - i)) * (r << (i + 1)) * (r << (i + 1))
			kind = "v1"
			if items[1] == whole {
				kind = "v3"
			}
		}
		g.Decoder = append(g.Decoder, kind)
	}
	_, g.Teacher = c.Generator["teacher_out.conv.weight"]
	return 16 * g.Patches * r, err
}

var memoryKey = regexp.MustCompile(`^(.*)\.(\d+)\.memMatrix$`)

// count is the number of matrices below key.
func (c *Checkpoint) count(key string) int {
	n := 0
	for k := range c.Generator {
		if m := memoryKey.FindStringSubmatch(k); m != nil && m[1] == key {
			if i, err := strconv.Atoi(m[2]); err == nil {
				n = max(n, i+1)
			}
		}
	}
	return min(n, len(c.Generator))
}

// Import converts the checkpoint into the variables below "generator" and
// "discriminator" that score, the building of a method's scores for images x
// [1,side,side,1], asks for; the other variables of it start as in training.
// unused names tensors of parts that g switches off. Tensors that are missing,
// misshapen or unknown are all named.
func (c *Checkpoint) Import(g Generator, d Discriminator, side int, score func(s *nn.Scope, x tf.Output)) (variables map[string]weights.Array, unused []string, err error) {
	if Stages(side) == 0 {
		return nil, nil, fmt.Errorf("images of %d pixels: the discriminator takes 16, 32, 64, 128 …", side)
	}
	ofG, err := g.Official("generator", side)
	if err != nil {
		return nil, nil, err
	}
	flat := map[string][]float32{}
	var errs []error
	for _, part := range []struct {
		name    string
		entries []Entry
		arrays  map[string]weights.Array
	}{{"generator", ofG, c.Generator}, {"discriminator", d.Official("discriminator", side), c.Discriminator}} {
		values, more, err := Import(part.entries, part.arrays)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.name, err))
		}
		maps.Copy(flat, values)
		unused = append(unused, more...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	unused = slices.DeleteFunc(unused, func(key string) bool {
		return strings.HasSuffix(key, "num_batches_tracked") || strings.HasPrefix(key, "inpaint_block.conv.")
	})
	variables, err = shaped(flat, side, score)
	return variables, unused, err
}

func shaped(flat map[string][]float32, side int, score func(s *nn.Scope, x tf.Output)) (map[string]weights.Array, error) {
	s := nn.NewScope(0)
	image := tf.MakeShape(1, int64(side), int64(side), 1)
	score(s.Inference(), op.Placeholder(s.Op("image"), tf.Float, op.PlaceholderShape(image)))
	if err := s.Err(); err != nil {
		return nil, err
	}
	out := map[string]weights.Array{}
	for _, v := range s.Variables() {
		value, ok := flat[v.Path]
		switch {
		case v.DType == tf.Int64:
			out[v.Path] = weights.Int64Array(v.Shape, make([]int64, v.Size()))
			continue
		case ok && int64(len(value)) != v.Size():
			return nil, fmt.Errorf("variable %s: the checkpoint has %d values", v, len(value))
		case !ok && (strings.HasPrefix(v.Path, "generator/") || strings.HasPrefix(v.Path, "discriminator/")):
			return nil, fmt.Errorf("variable %s: the checkpoint does not have it", v)
		case !ok:
			var err error
			if value, _, err = v.Initial(); err != nil {
				return nil, err
			}
		}
		out[v.Path] = weights.Float32Array(v.Shape, value)
	}
	return out, nil
}
