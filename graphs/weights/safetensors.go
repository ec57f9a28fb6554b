package weights

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// maxHeader is the format's own limit on the length of the JSON header.
const maxHeader = 100_000_000

// fileOrder is the types in the order of the reference implementation (0.8),
// which writes the last first: wide ones in front keep every array aligned.
var fileOrder = []DType{Bool, U8, I8, F8_E5M2, F8_E4M3, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64}

// entry is one array of a safetensors header: Offsets are its first byte and
// the byte after its last, counted from the end of the header.
type entry struct {
	DType   DType   `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// ReadSafetensors reads a safetensors file of size bytes: its arrays and its
// __metadata__ (nil where there is none). As the format demands, the arrays
// must cover the data without gap or overlap, and a name must not be repeated.
// Source: https://github.com/huggingface/safetensors, section "Format".
func ReadSafetensors(r io.ReaderAt, size int64) (map[string]Array, map[string]string, error) {
	entries, metadata, start, err := readHeader(r, size)
	if err != nil {
		return nil, nil, err
	}
	data := make([]byte, size-start)
	if _, err := io.ReadFull(io.NewSectionReader(r, start, size-start), data); err != nil {
		return nil, nil, fmt.Errorf("read %d bytes of data: %w", len(data), err)
	}

	names := slices.SortedFunc(maps.Keys(entries), func(a, b string) int {
		x, y := entries[a].Offsets, entries[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(a, b))
	})
	arrays, end := make(map[string]Array, len(names)), int64(0)
	for _, name := range names {
		e := entries[name]
		from, to := e.Offsets[0], e.Offsets[1]
		if from != end || to < from {
			return nil, nil, fmt.Errorf("tensor %q lies at bytes %d to %d, need it to start at %d: gap or overlap", name, from, to, end)
		}
		if to > int64(len(data)) {
			return nil, nil, fmt.Errorf("tensor %q ends at byte %d of %d: the file is cut off", name, to, len(data))
		}
		a := Array{e.DType, e.Shape, data[from:to:to]}
		if err := a.check(); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		arrays[name], end = a, to
	}
	if end != int64(len(data)) {
		return nil, nil, fmt.Errorf("%d bytes after the last tensor", int64(len(data))-end)
	}
	return arrays, metadata, nil
}

// readHeader also returns where the data starts.
func readHeader(r io.ReaderAt, size int64) (entries map[string]entry, metadata map[string]string, start int64, err error) {
	if size < 8 {
		return nil, nil, 0, fmt.Errorf("%d bytes, need at least 8", size)
	}
	var length [8]byte
	if _, err := r.ReadAt(length[:], 0); err != nil {
		return nil, nil, 0, fmt.Errorf("read the header's length: %w", err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeader || int64(n) > size-8 {
		return nil, nil, 0, fmt.Errorf("header of %d bytes in a file of %d", n, size)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(r, 8, int64(n)), header); err != nil {
		return nil, nil, 0, fmt.Errorf("read the header: %w", err)
	}
	if !bytes.HasPrefix(header, []byte("{")) || !utf8.Valid(header) {
		return nil, nil, 0, errors.New("the header is not a JSON object")
	}
	entries, metadata, err = parseHeader(header)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("header: %w", err)
	}
	return entries, metadata, 8 + int64(n), nil
}

// parseHeader goes through the object key by key, because a map would hide
// repeated names.
func parseHeader(header []byte) (map[string]entry, map[string]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(header))
	decoder.DisallowUnknownFields()
	if _, err := decoder.Token(); err != nil { // the brace
		return nil, nil, err
	}
	entries, metadata := map[string]entry{}, map[string]string(nil)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, nil, err
		}
		name := token.(string) // a key of an object is a string
		if name == "__metadata__" {
			if metadata != nil {
				return nil, nil, errors.New("__metadata__ is repeated")
			}
			metadata = map[string]string{}
			if err := decoder.Decode(&metadata); err != nil {
				return nil, nil, fmt.Errorf("__metadata__: %w", err)
			}
			continue
		}
		if _, ok := entries[name]; ok {
			return nil, nil, fmt.Errorf("tensor %q is repeated", name)
		}
		var e entry
		if err := decoder.Decode(&e); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		if e.Shape == nil || len(e.Offsets) != 2 {
			return nil, nil, fmt.Errorf("tensor %q: need dtype, shape and two data_offsets", name)
		}
		entries[name] = e
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, nil, errors.New("text after the JSON object")
	}
	return entries, metadata, nil
}

// WriteSafetensors writes arrays and metadata (may be nil). The same arrays
// give the same bytes: types in fileOrder, then names in order. Every array is
// aligned to its element size, and the data start at a multiple of 8.
func WriteSafetensors(w io.Writer, arrays map[string]Array, metadata map[string]string) error {
	names := slices.SortedFunc(maps.Keys(arrays), func(a, b string) int {
		x, y := slices.Index(fileOrder, arrays[a].DType), slices.Index(fileOrder, arrays[b].DType)
		return cmp.Or(cmp.Compare(y, x), cmp.Compare(a, b))
	})
	var header bytes.Buffer
	put := func(name string, value any) error {
		if !utf8.ValidString(name) {
			return fmt.Errorf("name %q is not valid UTF-8", name)
		}
		if header.Len() > 0 {
			header.WriteByte(',')
		}
		key, _ := json.Marshal(name)
		text, err := json.Marshal(value)
		header.Write(key)
		header.WriteByte(':')
		header.Write(text)
		return err
	}
	if len(metadata) > 0 {
		for key, value := range metadata {
			if !utf8.ValidString(key) || !utf8.ValidString(value) {
				return fmt.Errorf("metadata %q: %q is not valid UTF-8", key, value)
			}
		}
		if err := put("__metadata__", metadata); err != nil {
			return err
		}
	}
	var end int64
	for _, name := range names {
		a := arrays[name]
		if err := a.check(); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		if name == "__metadata__" {
			return errors.New("a tensor must not be called __metadata__")
		}
		from := end
		end += int64(len(a.Data))
		e := entry{a.DType, append([]int{}, a.Shape...), []int64{from, end}}
		if err := put(name, e); err != nil {
			return err
		}
	}

	length := header.Len() + 2
	padding := -length & 7
	if length+padding > maxHeader {
		return fmt.Errorf("header of %d bytes, the format allows %d", length, maxHeader)
	}
	prefix := binary.LittleEndian.AppendUint64(nil, uint64(length+padding))
	parts := [][]byte{prefix, {'{'}, header.Bytes(), {'}'}, bytes.Repeat([]byte{' '}, padding)}
	for _, name := range names {
		parts = append(parts, arrays[name].Data)
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// SaveSafetensors writes the file whole or not at all: under a temporary name
// in the same folder, synced, then renamed.
func SaveSafetensors(path string, arrays map[string]Array, metadata map[string]string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // after the rename there is nothing to remove
	defer file.Close()
	buffered := bufio.NewWriterSize(file, 1<<20)
	if err := WriteSafetensors(buffered, arrays, metadata); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
