package salient

import (
	"fmt"
	"slices"

	"thorax/graphs/quantise"
	"thorax/graphs/weights"
)

// An Entry relates a tensor of the official state dictionaries (PyTorch) to a
// variable.
type Entry struct {
	Key   string
	Shape []int  // official
	Path  string // of the variable
	Perm  []int  // dimension i of the variable is official dimension Perm[i]; nil: the same
	Extra int    // rows at the end that the variable does not hold: the codebook's padding row
}

// kernel is the order of a convolution's dimensions, [out,in,k,k] → [k,k,in,out],
// and of a transposed one's, [in,out,k,k] → [k,k,out,in].
var kernel = []int{2, 3, 1, 0}

// EncoderEntries lists the tensors of the official encoder, whose keys begin
// with prefix ("encoder."), for [Encode] below the scope path.
func EncoderEntries(prefix, path string) []Entry {
	conv := func(key, norm, at string, shape ...int) []Entry {
		e := Entry{Key: prefix + key + ".weight", Shape: shape, Path: path + at + "/kernel", Perm: kernel}
		return append([]Entry{e}, normEntries(prefix+norm, path+at+"/norm", shape[0])...)
	}
	list := conv("conv1", "bn1", "/conv1", stageWidths[0], 1, 7, 7)
	in := stageWidths[0]
	for i, out := range stageWidths {
		for j := range 2 {
			key, at := fmt.Sprintf("layer%d.%d.", i+1, j), fmt.Sprintf("/layer%d/%d/", i+1, j)
			list = append(list, conv(key+"conv1", key+"bn1", at+"conv1", out, in, 3, 3)...)
			list = append(list, conv(key+"conv2", key+"bn2", at+"conv2", out, out, 3, 3)...)
			if in != out {
				list = append(list, conv(key+"downsample.0", key+"downsample.1", at+"downsample", out, in, 1, 1)...)
			}
			in = out
		}
	}
	return append(list,
		Entry{Key: prefix + "conv1x1.weight", Shape: []int{Channels, in, 1, 1}, Path: path + "/proj/kernel", Perm: kernel},
		Entry{Key: prefix + "conv1x1.bias", Shape: []int{Channels}, Path: path + "/proj/bias"})
}

// DecoderEntries lists the tensors of an official decoder, whose keys begin
// with prefix ("decoder.decoder_ori."), for [Decode] below the scope path.
func DecoderEntries(prefix, path string) []Entry {
	var list []Entry
	in := Channels
	for i, out := range decoderWidths {
		key, at := fmt.Sprintf("%sblocks.%d.", prefix, i), fmt.Sprintf("%s/%d/", path, i)
		list = append(list,
			Entry{Key: key + "up.weight", Shape: []int{in, out, 2, 2}, Path: at + "up/kernel", Perm: kernel},
			Entry{Key: key + "up.bias", Shape: []int{out}, Path: at + "up/bias"})
		for _, conv := range []string{"conv1", "conv2"} {
			list = append(list, Entry{Key: key + conv + ".0.weight", Shape: []int{out, out, 3, 3}, Path: at + conv + "/kernel", Perm: kernel})
			list = append(list, normEntries(key+conv+".1", at+conv+"/norm", out)...)
		}
		in = out
	}
	return append(list,
		Entry{Key: prefix + "last.0.weight", Shape: []int{1, in, 1, 1}, Path: path + "/out/kernel", Perm: kernel},
		Entry{Key: prefix + "last.0.bias", Shape: []int{1}, Path: path + "/out/bias"})
}

// CodebookEntries lists the tensors of the official quantiser, whose keys begin
// with prefix ("embedding."), for q built below the scope path with update ema.
func CodebookEntries(prefix, path string, q quantise.Quantiser) []Entry {
	prefix += "codebooks.0."
	return []Entry{
		{Key: prefix + "weight", Shape: []int{q.Codes + 1, Channels}, Path: path + "/codebook", Extra: 1},
		{Key: prefix + "cluster_size_ema", Shape: []int{q.Codes}, Path: path + "/counts"},
		{Key: prefix + "embed_ema", Shape: []int{q.Codes, Channels}, Path: path + "/sums"},
	}
}

func normEntries(key, path string, n int) []Entry {
	var list []Entry
	for _, p := range [][2]string{{".weight", "/gamma"}, {".bias", "/beta"}, {".running_mean", "/mean"}, {".running_var", "/variance"}} {
		list = append(list, Entry{Key: key + p[0], Shape: []int{n}, Path: path + p[1]})
	}
	return list
}

// Import returns the value of the variable, row-major, from the official tensor.
func (e Entry) Import(a weights.Array) ([]float32, error) {
	if !slices.Equal(a.Shape, e.Shape) {
		return nil, fmt.Errorf("%s: shape %v, need %v", e.Key, a.Shape, e.Shape)
	}
	if e.Perm != nil {
		var err error
		if a, err = a.Transpose(e.Perm...); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Key, err)
		}
	}
	v, err := a.Float32()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Key, err)
	}
	return v[:len(v)/e.Shape[0]*(e.Shape[0]-e.Extra)], nil
}

// Export returns the official tensor, row-major and without its extra rows,
// from the value of the variable, or a gradient from a gradient.
func (e Entry) Export(v []float32) ([]float32, error) {
	if e.Perm == nil {
		return v, nil
	}
	shape, back := make([]int, len(e.Perm)), make([]int, len(e.Perm))
	for i, p := range e.Perm {
		shape[i], back[p] = e.Shape[p], i
	}
	a, err := weights.Float32Array(shape, v).Transpose(back...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Key, err)
	}
	return a.Float32()
}
