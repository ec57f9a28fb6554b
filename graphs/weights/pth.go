package weights

import (
	"archive/zip"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/big"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// storage is a flat array that tensors are views of.
type storage struct {
	dtype DType
	n     int // elements
	data  []byte
}

// slice is a storage from an element on: what old files call a view.
type slice struct {
	*storage
	offset int
}

// tensor is a strided view of a storage; offset and strides count elements.
type tensor struct {
	storage       *storage
	offset        int
	shape, stride []int
}

// budget is how many more bytes may be asked for.
type budget int64

func newBudget(size int64) budget { return budget(4*size + 1<<20) }

func (b *budget) take(n int) error {
	if *b -= budget(n); *b < 0 {
		return errors.New("the tensors are far larger than the file: it repeats or expands its storages")
	}
	return nil
}

// rebuildTensor is torch._utils._rebuild_tensor_v2(storage, offset, shape,
// stride, …); the further arguments concern gradients.
func rebuildTensor(args ...any) (any, error) {
	if len(args) < 4 {
		return nil, errors.New("a tensor needs storage, offset, shape and stride")
	}
	s, ok := args[0].(slice)
	offset, ok1 := args[1].(int)
	shape, ok2 := ints(args[2])
	stride, ok3 := ints(args[3])
	if !ok || !ok1 || !ok2 || !ok3 || len(shape) != len(stride) || offset < 0 {
		return nil, errors.New("a tensor needs storage, offset, shape and stride")
	}
	if offset > s.n {
		return nil, errOutside
	}
	return &tensor{s.storage, s.offset + offset, shape, stride}, nil
}

var errOutside = errors.New("a tensor reaches beyond its storage")

func ints(v any) ([]int, bool) {
	tuple, ok := v.(*types.Tuple)
	if !ok {
		return nil, false
	}
	out := make([]int, tuple.Len())
	for i := range out {
		if out[i], ok = tuple.Get(i).(int); !ok {
			return nil, false
		}
	}
	return out, true
}

// array is the tensor's elements: a part of its storage where they are
// contiguous there, otherwise a copy.
func (t *tensor) array(left *budget) (Array, error) {
	a := Array{DType: t.storage.dtype, Shape: t.shape}
	n, err := product(t.shape)
	if err != nil {
		return a, err
	}
	if n == 0 {
		return a, nil
	}
	last := t.offset // index of the last element; every step is checked, so nothing overflows
	contiguous, expected := true, 1
	for i := len(t.shape) - 1; i >= 0; i-- {
		d, stride := t.shape[i], t.stride[i]
		if d > 1 {
			if stride < 0 || stride > (t.storage.n-last)/(d-1) {
				return a, errOutside
			}
			last += (d - 1) * stride
			contiguous = contiguous && stride == expected
		}
		expected *= d
	}
	if last >= t.storage.n {
		return a, errOutside
	}
	size := a.DType.Size()
	if len(t.storage.data) != t.storage.n*size {
		return a, errors.New("its storage is not in the file")
	}
	if contiguous {
		from, to := t.offset*size, (t.offset+n)*size
		a.Data = t.storage.data[from:to:to]
		return a, nil
	}
	if int64(n) > int64(*left) {
		n = int(*left)/size + 1 // more than is left, without overflow
	}
	if err := left.take(n * size); err != nil {
		return a, err
	}
	a.Data = gather(t.storage.data, size, t.offset, t.shape, t.stride)
	return a, nil
}

// storages resolves the persistent ids of a pickle,
// ("storage", type, key, device, elements[, view]), where a view is
// (key, offset, elements). It fills byKey.
func storages(byKey map[string]*storage, size int64) func(any) (any, error) {
	return func(id any) (any, error) {
		tuple, ok := id.(*types.Tuple)
		if !ok || tuple.Len() == 0 {
			return nil, errors.New("persistent id is not a tuple")
		}
		if tuple.Get(0) == "module" { // source code of a pickled class
			if tuple.Len() < 2 {
				return nil, errors.New("module without a class")
			}
			return tuple.Get(1), nil
		}
		if tuple.Get(0) != "storage" || tuple.Len() < 5 {
			return nil, errors.New("persistent id is not a storage")
		}
		dtype, ok1 := tuple.Get(1).(DType)
		key, ok2 := tuple.Get(2).(string)
		n, ok3 := tuple.Get(4).(int)
		if !ok1 || !ok2 || !ok3 || n < 0 {
			return nil, errors.New("storage without type, key or size")
		}
		if int64(n) > size/int64(dtype.Size()) {
			return nil, fmt.Errorf("storage %q declares %d elements of %s, more than the file's %d bytes: the file is cut off", key, n, dtype, size)
		}
		s := byKey[key]
		if s == nil {
			s = &storage{dtype: dtype, n: n}
			byKey[key] = s
		}
		if s.dtype != dtype || s.n != n {
			return nil, fmt.Errorf("storage %q is declared twice and differently", key)
		}
		if tuple.Len() == 5 || tuple.Get(5) == nil {
			return slice{s, 0}, nil
		}
		view, ok := ints(dropFirst(tuple.Get(5)))
		if !ok || len(view) != 2 || view[0] < 0 || view[0] > n {
			return nil, fmt.Errorf("storage %q has a malformed view", key)
		}
		return slice{s, view[0]}, nil
	}
}

func dropFirst(v any) any {
	if tuple, ok := v.(*types.Tuple); ok && tuple.Len() > 0 {
		rest := (*tuple)[1:]
		return &rest
	}
	return nil
}

// readPTHZip reads what torch.save writes since PyTorch 1.6: a zip of
// NAME/data.pkl and one uncompressed member NAME/data/KEY per storage.
func readPTHZip(archive *zip.Reader, size int64) (map[string]Array, error) {
	members := make(map[string]*zip.File, len(archive.File))
	var program *zip.File
	for _, f := range archive.File {
		members[f.Name] = f
		switch path.Base(f.Name) {
		case "data.pkl":
			program = f
		case "constants.pkl":
			return nil, errors.New("a TorchScript program, not weights; save it again with torch.save(model.state_dict(), PATH)")
		}
	}
	if program == nil {
		return nil, errors.New("no data.pkl in the archive")
	}
	left := newBudget(size)
	data, err := readStored(program, &left)
	if err != nil {
		return nil, err
	}
	byKey := map[string]*storage{}
	root, _, err := unpickle(data, storages(byKey, size))
	if err != nil {
		return nil, err
	}
	folder := strings.TrimSuffix(program.Name, "data.pkl")
	big := false
	if f := members[folder+"byteorder"]; f != nil {
		order, err := readStored(f, &left)
		if err != nil {
			return nil, err
		}
		big = string(order) == "big"
	}
	for key, s := range byKey {
		f := members[folder+"data/"+key]
		if f == nil {
			return nil, fmt.Errorf("%sdata/%s is missing from the archive", folder, key)
		}
		want := s.n * s.dtype.Size()
		if f.UncompressedSize64 != uint64(want) {
			return nil, fmt.Errorf("%s has %d bytes, need %d", f.Name, f.UncompressedSize64, want)
		}
		if s.data, err = readStored(f, &left); err != nil {
			return nil, err
		}
		if big {
			swapBytes(s.data, s.dtype.Size())
		}
	}
	return flatten(root, &left)
}

// readStored reads an uncompressed member and checks its CRC-32.
func readStored(f *zip.File, left *budget) ([]byte, error) {
	if f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64 {
		return nil, fmt.Errorf("%s is compressed, which torch.save never does; save the file again", f.Name)
	}
	if f.UncompressedSize64 > uint64(max(*left, 0)) {
		return nil, fmt.Errorf("%s declares %d bytes, far more than the file has", f.Name, f.UncompressedSize64)
	}
	if err := left.take(int(f.UncompressedSize64)); err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	defer r.Close()
	data := make([]byte, f.UncompressedSize64)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF { // the end brings the CRC's verdict
		return nil, fmt.Errorf("%s: %w", f.Name, cmp.Or(err, zip.ErrFormat))
	}
	return data, nil
}

// swapBytes reverses the bytes of every element.
func swapBytes(data []byte, size int) {
	for ; len(data) >= size; data = data[size:] {
		slices.Reverse(data[:size])
	}
}

// The first two pickles of a legacy file are its magic number and version.
const (
	legacyMagic   = "1950a86a20f9469cfc6c"
	legacyVersion = 1001
)

// readPTHLegacy reads what torch.save wrote before PyTorch 1.6: five pickles
// (magic number, version, system, object, storage keys), then per key the
// number of elements (int64) and the elements, all little endian.
func readPTHLegacy(data []byte) (map[string]Array, error) {
	size := int64(len(data))
	magic, data, err := unpickle(data, nil)
	if err != nil {
		return nil, err
	}
	if n, ok := magic.(*big.Int); !ok || n.Text(16) != legacyMagic {
		return nil, errors.New("a pickle, but not one of torch.save")
	}
	version, data, err := unpickle(data, nil)
	if err != nil {
		return nil, err
	}
	if version != legacyVersion {
		return nil, fmt.Errorf("version %v, need %d", version, legacyVersion)
	}
	if _, data, err = unpickle(data, nil); err != nil {
		return nil, err
	}
	byKey := map[string]*storage{}
	root, data, err := unpickle(data, storages(byKey, size))
	if err != nil {
		return nil, err
	}
	keys, data, err := unpickle(data, nil)
	if err != nil {
		return nil, err
	}
	list, ok := keys.(*types.List)
	if !ok {
		return nil, errors.New("the storage keys are not a list")
	}
	for _, k := range *list {
		key, _ := k.(string)
		s := byKey[key]
		if s == nil || s.data != nil {
			return nil, fmt.Errorf("storage key %.60q is unknown or repeated", key)
		}
		want := s.n * s.dtype.Size()
		if len(data) < 8 || len(data)-8 < want {
			return nil, fmt.Errorf("storage %q needs %d bytes, %d are left: the file is cut off", key, want+8, len(data))
		}
		if n := binary.LittleEndian.Uint64(data); n != uint64(s.n) {
			return nil, fmt.Errorf("storage %q has %d elements, its tensors need %d", key, n, s.n)
		}
		s.data, data = data[8:8+want:8+want], data[8+want:]
	}
	left := newBudget(size)
	return flatten(root, &left)
}

// checkpointKeys are under which training scripts keep the weights, beside
// optimiser states and counters.
var checkpointKeys = []string{"state_dict", "model_state_dict", "model"}

// flatten names the tensors of a saved object as Load documents, and leaves out
// everything else. A tensor's data are checked only here.
func flatten(root any, left *budget) (map[string]Array, error) {
	for _, key := range checkpointKeys {
		for k, v := range items(root) {
			if _, single := v.(*tensor); k != key || single {
				continue
			}
			if arrays, err := collect(v, left); err != nil || len(arrays) > 0 {
				return arrays, err
			}
		}
	}
	arrays, err := collect(root, left)
	if err == nil && len(arrays) == 0 {
		what := "the saved object"
		if o, ok := root.(inert); ok {
			what = "a Python object of class " + string(o)
		}
		return nil, fmt.Errorf("no tensors in %s; save them with torch.save(model.state_dict(), PATH)", what)
	}
	return arrays, err
}

func collect(root any, left *budget) (map[string]Array, error) {
	arrays, visited := map[string]Array{}, 0
	var walk func(name string, v any, depth int) error
	walk = func(name string, v any, depth int) error {
		if visited++; visited > maxObjects || depth > maxDepth {
			return errors.New("the saved dictionaries are nested too deep or refer to themselves")
		}
		if t, ok := v.(*tensor); ok {
			if name == "" {
				name = "tensor"
			}
			a, err := t.array(left)
			if err != nil {
				return fmt.Errorf("tensor %q: %w", name, err)
			}
			if _, ok := arrays[name]; ok {
				return fmt.Errorf("tensor %q is repeated", name)
			}
			arrays[name] = a
			return nil
		}
		for key, child := range items(v) {
			if name != "" {
				key = name + "." + key
			}
			if len(key) > 4096 {
				return fmt.Errorf("tensor name %.60q… is too long", key)
			}
			if err := walk(key, child, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk("", root, 0); err != nil {
		return nil, err
	}
	return withoutPrefix(arrays, "module."), nil
}

// items goes through a dictionary's entries with string or integer keys, or a
// list's, in order, and through nothing for any other value.
func items(v any) iter.Seq2[string, any] {
	switch v := v.(type) {
	case *types.Dict:
		return func(yield func(string, any) bool) {
			for _, e := range *v {
				if key, ok := keyText(e.Key); ok && !yield(key, e.Value) {
					return
				}
			}
		}
	case *types.OrderedDict:
		return func(yield func(string, any) bool) {
			for e := v.List.Front(); e != nil; e = e.Next() {
				entry := e.Value.(*types.OrderedDictEntry)
				if key, ok := keyText(entry.Key); ok && !yield(key, entry.Value) {
					return
				}
			}
		}
	case *types.List:
		return sequence(*v)
	case *types.Tuple:
		return sequence(*v)
	}
	return sequence(nil)
}

func sequence(values []any) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for i, v := range values {
			if !yield(strconv.Itoa(i), v) {
				return
			}
		}
	}
}

func keyText(key any) (string, bool) {
	switch key := key.(type) {
	case string:
		return key, true
	case int:
		return strconv.Itoa(key), true
	}
	return "", false
}

func withoutPrefix(arrays map[string]Array, prefix string) map[string]Array {
	out := make(map[string]Array, len(arrays))
	for name, a := range arrays {
		short, ok := strings.CutPrefix(name, prefix)
		if !ok || short == "" {
			return arrays
		}
		out[short] = a
	}
	return out
}
