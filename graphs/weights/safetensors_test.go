package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() map[string]Array {
	return map[string]Array{
		"b":    Float32Array([]int{2, 3}, []float32{1, 2, 3, 4, 5, float32(math.Inf(1))}),
		"a":    Float32Array(nil, []float32{-0.5}),
		"step": Int64Array([]int{1}, []int64{1 << 40}),
		"mask": {Bool, []int{3}, []byte{1, 0, 1}},
		"none": Float32Array([]int{0, 4}, nil),
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	metadata := map[string]string{"method": "ae", "<step>": "20"}
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := SaveSafetensors(path, sample(), metadata); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(data); n%8 != 0 {
		t.Errorf("header of %d bytes, need a multiple of 8", n)
	}
	for range 20 { // the order of a map must not reach the file
		var again bytes.Buffer
		if err := WriteSafetensors(&again, sample(), metadata); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Fatalf("written again, the file differs: %v", err)
		}
	}
	arrays, got, err := ReadSafetensors(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain(t, sample()), plain(t, arrays)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(metadata, got); diff != "" {
		t.Error(diff)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("%d files beside it, want none", len(files)-1)
	}
}

// The file of the reference implementation must come out of ours byte by byte.
func TestSafetensorsLikeReference(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "reference.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	arrays, metadata, err := ReadSafetensors(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if metadata["made"] != "by safetensors" {
		t.Errorf("metadata %v", metadata)
	}
	var got bytes.Buffer
	if err := WriteSafetensors(&got, arrays, metadata); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Errorf("got  %q\nwant %q", got.Bytes(), data)
	}
}

func TestSaveSafetensorsKeepsOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	bad := map[string]Array{"x": {F32, []int{2}, make([]byte, 7)}}
	if err := SaveSafetensors(path, bad, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no error that names the file: %v", err)
	}
	if data, _ := os.ReadFile(path); string(data) != "old" {
		t.Errorf("the old file became %q", data)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Error("a temporary file was left")
	}
	err := SaveSafetensors(filepath.Join(t.TempDir(), "no", "w.safetensors"), sample(), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

func TestReadSafetensorsErrors(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		data         int
		want         string
	}{
		{"not an object", `["a"]`, 0, "not a JSON object"},
		{"broken", `{"a":`, 0, "header"},
		{"text behind", `{} {}`, 0, "text after"},
		{"invalid UTF-8", "{\"\xff\":1}", 0, "not a JSON object"},
		{"repeated", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2, "repeated"},
		{"gap", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2, "gap or overlap"},
		{"overlap", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2, "gap or overlap"},
		{"backwards", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,-1]}}`, 2, "gap or overlap"},
		{"beyond the end", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 2, "cut off"},
		{"other length", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2]}}`, 2, "do not belong together"},
		{"overflow", `{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0, "too large"},
		{"bytes overflow", `{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}`, 0, "do not belong together"},
		{"negative dimension", `{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}`, 0, "negative"},
		{"unknown type", `{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}`, 8, `unknown element type "C64"`},
		{"no shape", `{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1, "need dtype, shape"},
		{"three offsets", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1, "two data_offsets"},
		{"unknown field", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1, "unknown field"},
		{"metadata of numbers", `{"__metadata__":{"a":1}}`, 0, "__metadata__"},
		{"data behind", `{}`, 1, "after the last tensor"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := binary.LittleEndian.AppendUint64(nil, uint64(len(tt.header)))
			data = append(append(data, tt.header...), make([]byte, tt.data)...)
			_, _, err := ReadSafetensors(bytes.NewReader(data), int64(len(data)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	for _, length := range []uint64{3, 1 << 40, math.MaxUint64} {
		data := binary.LittleEndian.AppendUint64(nil, length)
		if _, _, err := ReadSafetensors(bytes.NewReader(data), 8); err == nil {
			t.Errorf("header of %d bytes in a file of 8: no error", length)
		}
	}
}

func TestHalf(t *testing.T) {
	// every binary16 against its definition in float64
	for i := range 1 << 16 {
		exponent, fraction := i>>10&31, float64(i&1023)
		var want float64
		switch exponent {
		case 0:
			want = math.Ldexp(fraction, -24)
		case 31:
			want = math.Inf(1)
			if fraction > 0 {
				want = math.NaN()
			}
		default:
			want = math.Ldexp(1+fraction/1024, exponent-15)
		}
		if i>>15 == 1 {
			want = -want
		}
		got := float64(half(uint16(i)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != math.Signbit(want) && !math.IsNaN(want) {
			t.Fatalf("half(%#04x) = %g, want %g", i, got, want)
		}
	}
}

func TestTranspose(t *testing.T) {
	shape := []int{2, 3, 4, 5}
	v := make([]float32, 120)
	for i := range v {
		v[i] = float32(i)
	}
	perm := []int{2, 3, 1, 0} // OIHW → HWIO
	got, err := Float32Array(shape, v).Transpose(perm...)
	if err != nil || !slices.Equal(got.Shape, []int{4, 5, 3, 2}) {
		t.Fatalf("%v, %v", got.Shape, err)
	}
	w, _ := got.Float32()
	for o := range 2 {
		for i := range 3 {
			for h := range 4 {
				for x := range 5 {
					if a, b := v[((o*3+i)*4+h)*5+x], w[((h*5+x)*3+i)*2+o]; a != b {
						t.Fatalf("[%d %d %d %d]: %g, want %g", o, i, h, x, b, a)
					}
				}
			}
		}
	}
	for _, perm := range [][]int{{}, {0, 1, 2}, {0, 1, 2, 2}, {0, 1, 2, 4}, {-1, 0, 1, 2}} {
		if _, err := Float32Array(shape, v).Transpose(perm...); err == nil {
			t.Errorf("Transpose(%v): no error", perm)
		}
	}
	if a, err := Float32Array(nil, []float32{3}).Transpose(); err != nil || a.Len() != 1 {
		t.Errorf("scalar: %v, %v", a, err)
	}
}

func TestConversionErrors(t *testing.T) {
	if _, err := Float32Array([]int{1}, []float32{1}).Int64(); err == nil {
		t.Error("F32 to int64: no error")
	}
	if _, err := (Array{U64, []int{1}, bytes.Repeat([]byte{255}, 8)}).Int64(); err == nil {
		t.Error("2^64-1 to int64: no error")
	}
	if v, err := (Array{U64, []int{1}, bytes.Repeat([]byte{255}, 8)}).Float64(); err != nil || v[0] != 0x1p64 {
		t.Errorf("2^64-1 to float64: %v, %v", v, err)
	}
	if _, err := (Array{F8_E4M3, []int{1}, []byte{0}}).Float32(); err == nil {
		t.Error("F8_E4M3 to float32: no error")
	}
	if _, err := (Array{F32, []int{2}, make([]byte, 4)}).Float32(); err == nil {
		t.Error("too few bytes: no error")
	}
}
