package weights

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxInflated bounds what the compressed members of one .npz may expand to.
const maxInflated = 2 << 30

const npyMagic = "\x93NUMPY"

// npyHeader matches the Python dictionary that NumPy writes: the type, the
// order and the shape, in this (alphabetical) order.
var npyHeader = regexp.MustCompile(`^\{'descr': ?'([^']*)', ?'fortran_order': ?(True|False), ?'shape': ?\(([0-9L, ]*)\),? ?\}[ \x00]*\n?$`)

// npyTypes are NumPy's kind and width of each element type.
var npyTypes = map[string]DType{
	"b1": Bool, "u1": U8, "i1": I8, "u2": U16, "i2": I16, "u4": U32, "i4": I32,
	"u8": U64, "i8": I64, "f2": F16, "f4": F32, "f8": F64,
}

// readNPY reads one array. data is the whole file.
// Source: numpy.lib.format, versions 1.0 to 3.0.
func readNPY(data []byte) (Array, error) {
	if !bytes.HasPrefix(data, []byte(npyMagic)) || len(data) < 12 {
		return Array{}, errors.New("not a NumPy array")
	}
	var length, start int
	switch major := data[6]; major {
	case 1:
		length, start = int(binary.LittleEndian.Uint16(data[8:])), 10
	case 2, 3:
		length, start = int(binary.LittleEndian.Uint32(data[8:])), 12
	default:
		return Array{}, fmt.Errorf("NumPy format version %d, need 1 to 3", major)
	}
	if length > len(data)-start {
		return Array{}, errors.New("the header is cut off")
	}
	header, data := data[start:start+length], data[start+length:]
	if len(header) > 1<<16 {
		return Array{}, fmt.Errorf("header of %d bytes", len(header))
	}
	m := npyHeader.FindSubmatch(header)
	if m == nil {
		return Array{}, fmt.Errorf("header %.80q is not that of a plain array; save numeric arrays", header)
	}
	order, kind := byte('|'), string(m[1])
	if kind != "" && strings.IndexByte("<>=|", kind[0]) >= 0 {
		order, kind = kind[0], kind[1:]
	}
	a := Array{DType: npyTypes[kind], Shape: []int{}}
	if a.DType == "" {
		return a, fmt.Errorf("element type %q is not supported; save the array as float32", m[1])
	}
	for _, field := range strings.Split(string(m[3]), ",") {
		field = strings.TrimSuffix(strings.TrimSpace(field), "L")
		if field == "" {
			continue
		}
		d, err := strconv.Atoi(field)
		if err != nil {
			return a, fmt.Errorf("shape (%s): %w", m[3], err)
		}
		a.Shape = append(a.Shape, d)
	}
	a.Data = data
	if err := a.check(); err != nil {
		return a, err
	}
	if order == '>' {
		a.Data = slices.Clone(data)
		swapBytes(a.Data, a.DType.Size())
	}
	if string(m[2]) == "True" { // column-major: row-major of the reversed shape
		reversed := make([]int, len(a.Shape))
		for i := range reversed {
			reversed[i] = len(a.Shape) - 1 - i
		}
		slices.Reverse(a.Shape)
		return a.Transpose(reversed...)
	}
	return a, nil
}

// readNPZ reads a zip of NAME.npy members, compressed or not.
func readNPZ(archive *zip.Reader, size int64) (map[string]Array, error) {
	arrays := make(map[string]Array, len(archive.File))
	inflated, left := int64(maxInflated), newBudget(size)
	for _, f := range archive.File {
		name, ok := strings.CutSuffix(f.Name, ".npy")
		if !ok {
			continue
		}
		if _, ok := arrays[name]; ok {
			return nil, fmt.Errorf("array %q is repeated", name)
		}
		var data []byte
		var err error
		if f.Method == zip.Store {
			data, err = readStored(f, &left)
		} else {
			data, err = inflate(f, inflated)
			inflated -= int64(len(data))
		}
		if err != nil {
			return nil, err
		}
		if arrays[name], err = readNPY(data); err != nil {
			return nil, fmt.Errorf("array %q: %w", name, err)
		}
	}
	return arrays, nil
}

// inflate reads a compressed member. Memory grows with what really comes out
// and never beyond limit, so a declared size costs nothing.
func inflate(f *zip.File, limit int64) ([]byte, error) {
	if f.UncompressedSize64 > uint64(limit) {
		return nil, fmt.Errorf("%s declares %d bytes, more than the %d MiB that compressed arrays may have; save with numpy.savez", f.Name, f.UncompressedSize64, maxInflated>>20)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New("expands to more than it declares")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return data, nil
}
