package salient

import "fmt"

// matrix is the order of a linear layer's dimensions, [out,in] → [in,out].
var matrix = []int{1, 0}

// ClassifierEntries lists the tensors of the official classifier, whose keys
// begin with prefix ("decoder."), for [Classifier.Build] below the scope path on
// images of n positions.
func ClassifierEntries(prefix, path string, c Classifier, n int, feedForward bool) []Entry {
	norm := func(key, at string) []Entry {
		return []Entry{
			{Key: prefix + key + ".weight", Shape: []int{Channels}, Path: path + at + "/gamma"},
			{Key: prefix + key + ".bias", Shape: []int{Channels}, Path: path + at + "/beta"},
		}
	}
	linear := func(key, at string, out, in int) []Entry {
		return []Entry{
			{Key: prefix + key + ".weight", Shape: []int{out, in}, Path: path + at + "/kernel", Perm: matrix},
			{Key: prefix + key + ".bias", Shape: []int{out}, Path: path + at + "/bias"},
		}
	}
	list := []Entry{{Key: prefix + "pos_embedding", Shape: []int{1, n, Channels}, Path: path + "/position"}}
	for j := range c.Layers {
		key, at := fmt.Sprintf("transformer.layers.%d.0.fn.", j), fmt.Sprintf("/layer/%d/attention", j)
		list = append(list, norm(key+"norm", at+"/norm")...)
		list = append(list, linear(key+"to_qkv", at+"/qkv", 3*Channels, Channels)[0])
		list = append(list, linear(key+"to_out.0", at+"/output", Channels, Channels)...)
		if feedForward {
			key, at := fmt.Sprintf("transformer.layers.%d.1.net.", j), fmt.Sprintf("/layer/%d/feed_forward", j)
			list = append(list, norm(key+"0", at+"/norm")...)
			list = append(list, linear(key+"1", at+"/0", 4*Channels, Channels)...)
			list = append(list, linear(key+"4", at+"/1", Channels, 4*Channels)...)
		}
	}
	list = append(list, norm("mlp_head.0", "/head/norm")...)
	return append(list, linear("mlp_head.1", "/head", 2, Channels)...)
}
