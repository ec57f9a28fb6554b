package weights

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// values is an array in a form that is easy to write down: floating point as
// []float64, integers as []int64.
type values struct {
	DType DType
	Shape []int
	V     any
}

func plain(t *testing.T, arrays map[string]Array) map[string]values {
	t.Helper()
	out := map[string]values{}
	for name, a := range arrays {
		if err := a.check(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v := values{DType: a.DType, Shape: a.Shape}
		integers, err := a.Int64()
		if v.V = integers; err != nil {
			floats, err := a.Float64()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			v.V = floats
		}
		out[name] = v
	}
	return out
}

// The expected values are written in testdata/fixtures.py.
var (
	matrix = values{F32, []int{2, 3}, []float64{-1, -0.5, 0, 0.5, 1, 1.5}}

	stateDict = map[string]values{
		"conv.weight": matrix,
		"transposed":  {F32, []int{3, 2}, []float64{-1, 0.5, -0.5, 1, 0, 1.5}},
		"tail":        {F32, []int{3}, []float64{0.5, 1, 1.5}},
		"column":      {F32, []int{2}, []float64{-0.5, 1}},
		"half":        {F16, []int{4}, []float64{1.5, -2, 65504, 0x1p-24}},
		"bfloat16":    {BF16, []int{2}, []float64{1.5, -2}},
		"double":      {F64, []int{1, 1}, []float64{0.1}},
		"step":        {I64, []int{}, []int64{-7}},
		"int":         {I32, []int{2}, []int64{-3, 4}},
		"short":       {I16, []int{1}, []int64{-300}},
		"char":        {I8, []int{1}, []int64{-5}},
		"byte":        {U8, []int{1}, []int64{250}},
		"bool":        {Bool, []int{2}, []int64{1, 0}},
		"empty":       {F32, []int{0, 3}, []float64{}},
	}

	numpyArrays = map[string]values{
		"a/weight": matrix,
		"fortran":  matrix,
		"big":      matrix,
		"half":     {F16, matrix.Shape, matrix.V},
		"double":   {F64, matrix.Shape, matrix.V},
		"step":     {I64, []int{}, []int64{-7}},
		"bool":     {Bool, []int{2}, []int64{1, 0}},
		"cube":     {I32, []int{2, 3, 4}, upTo(24)},
		"empty":    {U8, []int{0, 3}, []int64{}},
	}
)

func upTo(n int) []int64 {
	v := make([]int64, n)
	for i := range v {
		v[i] = int64(i)
	}
	return v
}

func floats(v ...float64) values { return values{F32, []int{len(v)}, v} }

func TestLoad(t *testing.T) {
	for file, want := range map[string]map[string]values{
		"state_proto2.pth":        stateDict,
		"state_proto4.pth":        stateDict,
		"state_legacy_proto1.pth": stateDict,
		"state_legacy_proto2.pth": stateDict,
		"state_legacy_proto4.pth": stateDict,
		"checkpoint.pth":          {"a": floats(1, 2), "b": floats(3)},
		"nested.pth":              {"encoder.w": floats(1), "banks.0": floats(2), "banks.1.0": floats(3), "5": floats(4)},
		"view.pth":                {"v": floats(3, 4)},
		"plain.npz":               numpyArrays,
		"compressed.npz":          numpyArrays,
		"single.npy":              {"single": matrix},
		"reference.safetensors": {
			"weight": matrix, "half": numpyArrays["half"], "step": numpyArrays["step"],
			"bool": numpyArrays["bool"], "empty": numpyArrays["empty"],
		},
	} {
		t.Run(file, func(t *testing.T) {
			arrays, err := Load(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, plain(t, arrays)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLoadByPyTorch reads the files that PyTorch itself wrote for the tests of
// gopickle: one tensor of four elements each.
func TestLoadByPyTorch(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/nlpodyssey/gopickle").Output()
	if err != nil {
		t.Skip("the go command does not find the module gopickle")
	}
	files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "pytorch", "testdata", "*.pt"))
	if len(files) == 0 {
		t.Skip("gopickle came without its test data")
	}
	want := map[string][]float64{
		"bfloat16": {1.203125, -3.40625, 5.59375, -7.8125}, "float16": {1.2001953125, -3.400390625, 5.6015625, -7.80078125},
		"float32": {float64(float32(1.2)), float64(float32(-3.4)), float64(float32(5.6)), float64(float32(-7.8))},
		"float64": {1.2, -3.4, 5.6, -7.8}, "bool": {1, 0, 1, 0}, "uint8": {1, 10, 100, 255},
		"int8": {1, -2, 3, -4}, "int16": {1, -2, 3, -4}, "int32": {1, -2, 3, -4}, "int64": {1, -2, 3, -4},
	}
	for _, file := range files {
		arrays, err := Load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := arrays["tensor"].Float64()
		kind := strings.Split(filepath.Base(file), "_")[1]
		if err != nil || !slices.Equal(got, want[kind]) {
			t.Errorf("%s: %v, %v; want %v", filepath.Base(file), got, err, want[kind])
		}
	}
	t.Logf("%d files", len(files))
}

// TestLoadLite0 reads the weights that set-up fetches. The number of parameters
// is that of the paper's EfficientNet-Lite0; the rest are running statistics.
func TestLoadLite0(t *testing.T) {
	path := filepath.Join("..", "..", ".thorax", "weights", "efficientnet-lite0-57934424.pth")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no backbone weights; make setup fetches them")
	}
	arrays, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	parameters := 0
	for name, a := range arrays {
		if a.DType == F32 && !strings.Contains(name, ".running_") {
			parameters += a.Len()
		}
		if err := a.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(arrays) != 296 || parameters != 4_652_008 {
		t.Errorf("%d tensors and %d parameters, want 296 and 4652008", len(arrays), parameters)
	}
	if got := arrays["_blocks.3._depthwise_conv.weight"].Shape; !slices.Equal(got, []int{144, 1, 5, 5}) {
		t.Errorf("_blocks.3._depthwise_conv.weight is %v", got)
	}
}

func TestLoadErrors(t *testing.T) {
	fixture := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	cut := func(name string, n int) []byte {
		data := fixture(name)
		return data[:len(data)-n]
	}
	edit := func(name, old, new string) []byte {
		data := fixture(name)
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("%s does not hold %q", name, old)
		}
		return bytes.Replace(data, []byte(old), []byte(new), 1)
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string // part of the error, beside the path
	}{
		{"empty", nil, "empty file: fetch it again"},
		{"html", []byte("<!DOCTYPE html><p>404"), "HTML"},
		{"lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"},
		{"keras", []byte("\x89HDF\r\n\x1a\n"), "Keras"},
		{"gzip", []byte("\x1f\x8b\x08"), "unpack it"},
		{"text", []byte("hello, world"), "unknown format: need PyTorch"},
		{"tar", append(make([]byte, 257), "ustar\x00.........."...), "tar"},
		{"zip of something else", edit("single.npy", "\x93NUMPY", "PK\x03\x04!!"), "damaged or cut off"},
		{"zip cut off", cut("state_proto2.pth", 100), "damaged or cut off"},
		{"legacy cut off", cut("state_legacy_proto2.pth", 3), "cut off"},
		{"legacy cut in a pickle", fixture("state_legacy_proto2.pth")[:300], "cut off"},
		{"other pickle", []byte("\x80\x02K\x01."), "not one of torch.save"},
		{"a model", fixture("model.pth"), "class models.Net; save them with torch.save(model.state_dict()"},
		{"objects", fixture("objects.npz"), `array "words": element type "|O" is not supported`},
		{"npy cut off", cut("single.npy", 4), "do not belong together"},
		{"npz changed", edit("plain.npz", "\x00\x00\x80\xbf\x00\x00\x00\xbf", "\x00\x00\x80\x3f\x00\x00\x00\xbf"), "checksum"},
		{"zip changed", edit("state_proto2.pth", "\x00\x00\x80\xbf", "\x00\x00\x80\x3f"), "checksum"},
		{"storage too large", edit("state_legacy_proto4.pth", "\x8c\x03cpu\x94K\x06N", "\x8c\x03cpu\x94J\xff\xff\xff\x7fN")[:1000], "cut off"},
		{"safetensors cut off", cut("reference.safetensors", 1), "cut off"},
		{"safetensors longer", append(fixture("reference.safetensors"), 0), "after the last tensor"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weights.bin")
			if err := os.WriteFile(path, tt.data, 0o644); err != nil {
				t.Fatal(err)
			}
			arrays, err := Load(path)
			if err == nil {
				t.Fatalf("no error, %d arrays", len(arrays))
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant one line with the path and %q", err, tt.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.pth")); !os.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder: no error")
	}
}

// program is a legacy file whose object is the pickle p, without storages.
func program(p string) []byte {
	return []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + "\x80\x02M\xe9\x03." + "\x80\x02}." + p + "\x80\x02].")
}

// Programs made to exhaust memory or time, or to run code, end in an error.
func TestHostilePickles(t *testing.T) {
	storage := "(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x00tQ"
	tensor := func(shape, stride string) string {
		return "}U\x01wctorch._utils\n_rebuild_tensor_v2\n(" + storage + "K\x00(" + shape + "t(" + stride + "t\x89NtRs."
	}
	many := strings.Repeat("(", maxObjects+1)
	doubled := "}q\x00" // d0 = {}; each further dictionary holds the last one twice
	for i := 1; i < 60; i++ {
		doubled += "}q" + string(rune(i)) + "U\x01ah" + string(rune(i-1)) + "sU\x01bh" + string(rune(i-1)) + "s"
	}
	for _, tt := range []struct{ name, program, want string }{
		{"string of 4 GiB", "X\xff\xff\xff\xff.", "declares"},
		{"frame of 2^62 bytes", "\x95\x00\x00\x00\x00\x00\x00\x00\x40.", "declares"},
		{"bytes of 2^63", "\x8e\x00\x00\x00\x00\x00\x00\x00\x80.", "declares"},
		{"too many marks", many + ".", "objects"},
		{"huge integer", "\x8b\x00\x00\x00\x10", "opcode 0x8b"},
		{"extension", "\x82\x01.", "opcode 0x82"},
		{"unknown opcode", "\xff.", "opcode 0xff"},
		{"no memo", "}U\x01aU\x01bs0h\x07.", "no tensors"},
		{"empty stack", "R.", "malformed pickle"},
		{"unhashable key", "ccollections\nOrderedDict\n)R(]]u.", "no tensors"},
		{"odd dictionary", "(K\x01d.", "malformed pickle"},
		{"refers to itself", "}q\x00U\x01ah\x00s.", "refer to themselves"},
		{"2^60 paths", doubled + ".", "refer to themselves"},
		{"runs a command", "cos\nsystem\n(U\x02lstR.", "class os.system"},
		{"shape overflows", tensor("J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f", "K\x00K\x00K\x00"), "too large"},
		{"expanded", tensor("J\xff\xff\xff\x7f", "K\x00"), "beyond its storage"},
		{"negative", tensor("J\xff\xff\xff\xff", "K\x01"), "negative"},
		{"sparse", "ctorch._utils\n_rebuild_sparse_tensor\n.", "_rebuild_sparse_tensor is not supported"},
		{"complex", "ctorch\nComplexFloatStorage\n.", "ComplexFloatStorage is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := program(tt.program)
			arrays, _, err := read(bytes.NewReader(data), int64(len(data)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%d arrays, %v; want an error with %q", len(arrays), err, tt.want)
			}
		})
	}
}

// seeds adds the files of testdata that match, and the members of those that
// are zips: a mutated zip mostly fails on its checksums, a mutated member goes
// deeper.
func seeds(f *testing.F, patterns ...string) {
	for _, pattern := range patterns {
		files, _ := filepath.Glob(filepath.Join("testdata", pattern))
		if len(files) == 0 {
			f.Fatalf("no seed %s", pattern)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
			archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				continue
			}
			for _, member := range archive.File {
				if data, err := inflate(member, 1<<20); err == nil && len(data) > 64 {
					f.Add(data)
				}
			}
		}
	}
}

// readable fails unless every array that came out of data can be converted.
func readable(t *testing.T, arrays map[string]Array) {
	for _, name := range slices.Sorted(maps.Keys(arrays)) {
		a := arrays[name]
		if err := a.check(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := a.Float32(); err != nil && a.DType != F8_E4M3 && a.DType != F8_E5M2 {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// FuzzPTH reads data as a file, and as a pickle program whose storages are all
// there and hold zeros.
func FuzzPTH(f *testing.F) {
	seeds(f, "*.pth")
	f.Fuzz(func(t *testing.T, data []byte) {
		arrays, _, _ := read(bytes.NewReader(data), int64(len(data)))
		readable(t, arrays)
		byKey, left := map[string]*storage{}, newBudget(1<<16)
		root, _, err := unpickle(data, storages(byKey, 1<<16))
		if err != nil {
			return
		}
		for _, s := range byKey {
			s.data = make([]byte, s.n*s.dtype.Size())
		}
		if arrays, err := flatten(root, &left); err == nil {
			readable(t, arrays)
		}
	})
}

func FuzzNPZ(f *testing.F) {
	seeds(f, "*.npz", "*.npy")
	f.Fuzz(func(t *testing.T, data []byte) {
		arrays, _, _ := read(bytes.NewReader(data), int64(len(data)))
		readable(t, arrays)
	})
}

func FuzzSafetensors(f *testing.F) {
	seeds(f, "*.safetensors")
	for _, header := range []string{
		`{}`, `{"__metadata__":{"a":"b"}}`,
		`{"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}      `,
		`{"a":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]},"b":{"dtype":"F64","shape":[0],"data_offsets":[2,2]}}`,
	} {
		data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		f.Add(append(append(data, header...), 1, 2))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		arrays, metadata, err := ReadSafetensors(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		readable(t, arrays)
		var again bytes.Buffer
		if err := WriteSafetensors(&again, arrays, metadata); err != nil {
			t.Fatal(err)
		}
		arrays2, _, err := ReadSafetensors(bytes.NewReader(again.Bytes()), int64(again.Len()))
		if diff := cmp.Diff(arrays, arrays2); err != nil || diff != "" {
			t.Errorf("written and read again: %v\n%s", err, diff)
		}
	})
}
