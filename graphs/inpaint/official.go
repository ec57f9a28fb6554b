package inpaint

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"thorax/graphs/weights"
)

// An Entry relates one tensor of an official PyTorch checkpoint to variables.
// Official maps lie in memory as [C,H,W], ours as [H,W,C].
type Entry struct {
	Key   string
	Shape []int    // official
	Paths []string // of the variables that hold its elements; none: not used
	// At says where official element i, row-major, lies: in which of Paths, and
	// where in it.
	At func(i int) (path, j int)
}

// An order is where element i of an official dimension lies in ours.
type order func(i int) int

func same(i int) int { return i }

// channelsLast is the order of a flattened map of c channels and area pixels.
func channelsLast(c, area int) order {
	return func(i int) int { return i%area*c + i/area }
}

// A table collects entries.
type table struct{ entries []Entry }

func (t *table) add(key string, shape []int, path string, at func(i int) int) {
	e := Entry{Key: key, Shape: shape}
	if path != "" {
		e.Paths = []string{path}
		e.At = func(i int) (int, int) { return 0, at(i) }
	}
	t.entries = append(t.entries, e)
}

func (t *table) vector(key, path string, n int, o order) { t.add(key, []int{n}, path, o) }

// matrix is a linear layer [out,in] → [in,out].
func (t *table) matrix(key, path string, out, in int, ofOut, ofIn order) {
	t.add(key, []int{out, in}, path, func(i int) int { return ofIn(i%in)*out + ofOut(i/in) })
}

// conv is a kernel [out,in,k,k] → [k,k,in,out] and its bias.
func (t *table) conv(key, path string, out, in, k int, bias bool) {
	t.add(key+".weight", []int{out, in, k, k}, path+"/kernel", func(i int) int {
		o, rest := i/(in*k*k), i%(in*k*k)
		return (rest%(k*k)*in+rest/(k*k))*out + o
	})
	if bias {
		t.vector(key+".bias", path+"/bias", out, same)
	}
}

func (t *table) batchNorm(key, path string, n int) {
	for _, p := range [][2]string{{".weight", "/gamma"}, {".bias", "/beta"}, {".running_mean", "/mean"}, {".running_var", "/variance"}} {
		t.vector(key+p[0], path+p[1], n, same)
	}
	t.add(key+".num_batches_tracked", nil, "", nil)
}

func (t *table) residual(key, path string, out, in int) {
	for i, k := range []string{"conv1.0", "conv2.0", "conv2.3"} {
		if i > 0 {
			in = out
		}
		at := fmt.Sprintf("%s/%d", path, i)
		t.conv(key+"."+k, at, out, in, 3, true)
		t.batchNorm(key+"."+[]string{"conv1.1", "conv2.1", "conv2.4"}[i], at+"/norm", out)
	}
}

// items are n matrices [N,C] → one variable [n,N,C], or an unused one if path
// is "".
func (t *table) items(key, path string, n, items, c int, o order) {
	for q := range n {
		t.add(fmt.Sprintf("%s.%d.memMatrix", key, q), []int{items, c}, path, func(i int) int {
			return (q*items+i/c)*c + o(i%c)
		})
	}
}

// Official lists the tensors of the official generator checkpoint for images of
// the given side, with the variables of [Generator.Build] and
// [Generator.Teach] below the scope path. What a checkpoint holds of parts that
// g switches off has no Paths. Only memories per tile have an official form.
func (g Generator) Official(path string, side int) ([]Entry, error) {
	if g.Memory != "per_tile" {
		return nil, fmt.Errorf("memory: %q has no official checkpoint, need per_tile", g.Memory)
	}
	t := &table{}
	w, r := g.Width, side/(16*g.Patches)
	t.residual("in_conv.conv", path+"/encoder/in", w, 1)
	for i := range stages {
		t.residual(fmt.Sprintf("down_blocks.%d.mpconv", i), fmt.Sprintf("%s/encoder/down/%d", path, i), w<<(i+1), w<<i)
	}
	decoder := func(key, out, path string) {
		for i := range stages {
			to := w << (stages - 1 - i)
			in := 2 * to
			if g.Skip[i] == "concat" {
				in += to
			}
			t.residual(fmt.Sprintf("%s.%d.conv", key, i), fmt.Sprintf("%s/%d", path, i), to, in)
		}
		t.conv(out, path+"/out", 1, w, 1, true)
	}
	decoder("up_blocks", "out_conv.conv", path+"/student")
	if g.Teacher {
		decoder("teacher_ups", "teacher_out.conv", path+"/teacher")
	}
	for i, kind := range g.Decoder {
		c, n := w<<(stages-1-i), r<<(i+1)
		key, at := fmt.Sprintf("memory_blocks.%d.memory", i), fmt.Sprintf("%s/student/%d/memory/items", path, i)
		switch kind {
		case "v1":
			t.items(key, at, 4, g.decoderItems(), c*n*n/4, channelsLast(c, n*n/4))
		case "v3":
			t.items(key, at, g.Patches*g.Patches, g.decoderItems(), c*n*n, channelsLast(c, n*n))
		}
	}
	t.block(g, path+"/inpainting", 16*w, r)
	return t.entries, nil
}

// block lists the in-painting block, for features of c channels and side r.
// Official checkpoints hold all of it whatever is switched off.
func (t *table) block(g Generator, path string, c, r int) {
	const key = "inpaint_block"
	e := c / 4 * r * r
	vec := channelsLast(c/4, r*r)
	transformer := &table{}
	transformer.entries = append(transformer.entries,
		packed(key+".attention.in_proj_weight", []int{3 * e, e}, path+"/attention/%s/kernel", func(i int) int { return vec(i%e)*e + i/e%e }),
		packed(key+".attention.in_proj_bias", []int{3 * e}, path+"/attention/%s/bias", func(i int) int { return i % e }))
	transformer.matrix(key+".attention.out_proj.weight", path+"/attention/output/kernel", e, e, vec, same)
	transformer.vector(key+".attention.out_proj.bias", path+"/attention/output/bias", e, vec)
	for i := range 2 {
		transformer.vector(fmt.Sprintf("%s.attn_norm%d.weight", key, i+1), fmt.Sprintf("%s/norm/%d/gamma", path, i), e, vec)
		transformer.vector(fmt.Sprintf("%s.attn_norm%d.bias", key, i+1), fmt.Sprintf("%s/norm/%d/beta", path, i), e, vec)
	}
	transformer.matrix(key+".ff.0.weight", path+"/feed/0/kernel", e/4, e, same, vec)
	transformer.vector(key+".ff.0.bias", path+"/feed/0/bias", e/4, same)
	transformer.matrix(key+".ff.3.weight", path+"/feed/1/kernel", e, e/4, vec, same)
	transformer.vector(key+".ff.3.bias", path+"/feed/1/bias", e, vec)

	convolution := &table{}
	convolution.add(key+".conv.weight", []int{e, e, 3, 3}, path+"/convolution/kernel", func(i int) int {
		o, rest := i/(e*9), i%(e*9)
		return (rest%9*e+vec(rest/9))*e + vec(o)
	})
	convolution.vector(key+".conv.bias", path+"/convolution/bias", e, vec)

	rest := &table{}
	rest.conv(key+".bottleneck_conv1.0", path+"/reduce", c/4, c, 1, false)
	rest.batchNorm(key+".bottleneck_conv1.1", path+"/reduce/norm", c/4)
	rest.items(key+".memory", path+"/memory/items", g.Patches*g.Patches, g.Items, e, vec)
	rest.conv(key+".bottleneck_conv2.0", path+"/expand", c, c/4+g.codeBits(), 1, true)
	rest.batchNorm(key+".bottleneck_conv2.1", path+"/expand/norm", c)

	t.take(transformer, g.Inpainting == "transformer")
	t.take(convolution, g.Inpainting == "convolution")
	t.take(rest, g.Inpainting != "none")
}

// take adds the entries of part, without their variables if they are not used.
func (t *table) take(part *table, used bool) {
	for _, e := range part.entries {
		if !used {
			e.Paths, e.At = nil, nil
		}
		t.entries = append(t.entries, e)
	}
}

// packed is a tensor of query, key and value, one after another, each with
// elements placed by at.
func packed(key string, shape []int, path string, at func(i int) int) Entry {
	third := 1
	for _, d := range shape {
		third *= d
	}
	third /= 3
	e := Entry{Key: key, Shape: shape, At: func(i int) (int, int) { return i / third, at(i % third) }}
	for _, part := range []string{"query", "key", "value"} {
		e.Paths = append(e.Paths, fmt.Sprintf(path, part))
	}
	return e
}

// Official lists the tensors of the official discriminator checkpoint, as
// [Generator.Official] does.
func (d Discriminator) Official(path string, side int) []Entry {
	t := &table{}
	t.conv("conv_model.0", path+"/in", first, 1, 5, true)
	in := first
	for i := range Stages(side) {
		at := fmt.Sprintf("%s/%d", path, i)
		t.conv(fmt.Sprintf("conv_model.%d", 2+3*i), at, d.width(i), in, 5, true)
		t.batchNorm(fmt.Sprintf("conv_model.%d", 3+3*i), at+"/norm", d.width(i))
		in = d.width(i)
	}
	t.matrix("regressor.weight", path+"/out/kernel", 1, in*final*final, same, channelsLast(in, final*final))
	t.vector("regressor.bias", path+"/out/bias", 1, same)
	return t.entries
}

// Import converts an official checkpoint into variables by path, flat and in
// our order. Every missing, misshapen or unknown key is named in the error.
// unused are the keys that were left out: those of parts that are switched off.
func Import(entries []Entry, arrays map[string]weights.Array) (values map[string][]float32, unused []string, err error) {
	values = map[string][]float32{}
	var missing, misshapen, unknown []string
	known := map[string]bool{}
	size := map[string]int{} // of variables, by all their parts
	for _, e := range entries {
		for k := range e.Paths {
			size[e.Paths[k]] += elements(e.Shape) / len(e.Paths)
		}
	}
	for _, e := range entries {
		known[e.Key] = true
		a, ok := arrays[e.Key]
		switch {
		case !ok && len(e.Paths) == 0:
		case !ok:
			missing = append(missing, e.Key)
		case len(e.Paths) == 0:
			unused = append(unused, e.Key)
		case !slices.Equal(a.Shape, e.Shape):
			misshapen = append(misshapen, fmt.Sprintf("%s %v, need %v", e.Key, a.Shape, e.Shape))
		default:
			v, err := a.Float32()
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", e.Key, err)
			}
			for _, p := range e.Paths {
				if values[p] == nil {
					values[p] = make([]float32, size[p])
				}
			}
			for i, x := range v {
				if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
					return nil, nil, fmt.Errorf("%s: element %d is %g", e.Key, i, x)
				}
				p, j := e.At(i)
				values[e.Paths[p]][j] = x
			}
		}
	}
	for key := range arrays {
		if !known[key] {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	var errs []error
	for _, list := range []struct {
		what string
		keys []string
	}{{"missing", missing}, {"misshapen", misshapen}, {"unknown", unknown}} {
		if len(list.keys) > 0 {
			errs = append(errs, fmt.Errorf("%s: %s", list.what, strings.Join(list.keys, ", ")))
		}
	}
	return values, unused, errors.Join(errs...)
}

// Gather returns the values of an official tensor, in its order, from our
// variables; nil if it has none.
func (e Entry) Gather(value func(path string) []float32) []float32 {
	if len(e.Paths) == 0 {
		return nil
	}
	parts := make([][]float32, len(e.Paths))
	for k, p := range e.Paths {
		parts[k] = value(p)
	}
	v := make([]float32, elements(e.Shape))
	for i := range v {
		p, j := e.At(i)
		v[i] = parts[p][j]
	}
	return v
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
