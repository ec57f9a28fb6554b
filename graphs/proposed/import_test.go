package proposed

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thorax/graphs/inpaint"
	"thorax/graphs/nn"
	"thorax/graphs/weights"
)

// A pickler writes what torch.save writes of a state dict, as far as a reader
// of tensors needs it.
type pickler struct{ bytes.Buffer }

func (p *pickler) text(s string) {
	p.WriteByte('X')
	binary.Write(p, binary.LittleEndian, uint32(len(s)))
	p.WriteString(s)
}

func (p *pickler) number(n int) {
	p.WriteByte('J')
	binary.Write(p, binary.LittleEndian, int32(n))
}

func (p *pickler) numbers(v []int) {
	p.WriteByte('(')
	for _, n := range v {
		p.number(n)
	}
	p.WriteByte('t')
}

// object writes the state dict; tensor i lies in storage i.
func (p *pickler) object(keys []string, arrays map[string]weights.Array, legacy bool) {
	p.WriteString("\x80\x02}(")
	for i, key := range keys {
		a := arrays[key]
		kind := "FloatStorage"
		if a.DType == weights.I64 {
			kind = "LongStorage"
		}
		p.text(key)
		p.WriteString("ctorch._utils\n_rebuild_tensor_v2\n((")
		p.text("storage")
		p.WriteString("ctorch\n" + kind + "\n")
		p.text(fmt.Sprint(i))
		p.text("cpu")
		p.number(a.Len())
		if legacy {
			p.WriteByte('N')
		}
		p.WriteString("tQ")
		p.number(0)
		p.numbers(a.Shape)
		strides := make([]int, len(a.Shape))
		n := 1
		for j := len(strides) - 1; j >= 0; j-- {
			strides[j] = n
			n *= a.Shape[j]
		}
		p.numbers(strides)
		p.WriteString("\x89ccollections\nOrderedDict\n)RtR")
	}
	p.WriteString("u.")
}

func writePTH(t *testing.T, path string, arrays map[string]weights.Array, legacy bool) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(arrays))
	var out bytes.Buffer
	if legacy {
		out.WriteString("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.") // magic number
		out.WriteString("\x80\x02M\xe9\x03.")                                        // protocol 1001
		out.WriteString("\x80\x02}.")                                                // system
		var p pickler
		p.object(keys, arrays, true)
		out.Write(p.Bytes())
		var names pickler
		names.WriteString("\x80\x02](")
		for i := range keys {
			names.text(fmt.Sprint(i))
		}
		names.WriteString("e.")
		out.Write(names.Bytes())
		for _, key := range keys {
			binary.Write(&out, binary.LittleEndian, int64(arrays[key].Len()))
			out.Write(arrays[key].Data)
		}
	} else {
		z := zip.NewWriter(&out)
		put := func(name string, b []byte) {
			w, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
			if err == nil {
				_, err = w.Write(b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var p pickler
		p.object(keys, arrays, false)
		put("data.pkl", p.Bytes())
		for i, key := range keys {
			put(fmt.Sprint("data/", i), arrays[key].Data)
		}
		put("version", []byte("3\n"))
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// official returns a checkpoint of m with the values that its variables start
// with, and these values.
func official(t *testing.T, m *SimSID, side int) (g, d map[string]weights.Array, start map[string][]float32) {
	t.Helper()
	s := nn.NewScope(7)
	x := placeholder(s, 1, side)
	m.Teach(s.In("generator"), m.Build(s.In("generator"), x))
	m.discriminate(s, x)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	start = map[string][]float32{}
	value := func(path string) []float32 {
		v := s.Lookup(path)
		if v == nil {
			t.Fatalf("no variable %s", path)
		}
		if start[path] == nil {
			var err error
			if start[path], _, err = v.Initial(); err != nil {
				t.Fatal(err)
			}
		}
		return start[path]
	}
	entries, err := m.Official("generator", side)
	if err != nil {
		t.Fatal(err)
	}
	g, d = map[string]weights.Array{}, map[string]weights.Array{}
	fill := func(to map[string]weights.Array, entries []inpaint.Entry) {
		for _, e := range entries {
			switch v := e.Gather(value); {
			case v != nil:
				to[e.Key] = weights.Float32Array(e.Shape, v)
			case strings.HasSuffix(e.Key, "num_batches_tracked"):
				to[e.Key] = weights.Int64Array(nil, []int64{3})
			default:
				to[e.Key] = weights.Float32Array(e.Shape, make([]float32, weights.Array{Shape: e.Shape}.Len()))
			}
		}
	}
	fill(g, entries)
	fill(d, inpaint.Discriminator{Widest: 256}.Official("discriminator", side))
	return g, d, start
}

func TestImportSimSID(t *testing.T) {
	m := NewSimSID()
	m.Width, m.Patches, m.Items, m.DecoderItems, m.TopK = 2, 2, 7, 9, 3
	m.Skip = []string{"concat", "none", "none", "none"}
	m.Decoder = []string{"v3", "none"}
	g, d, start := official(t, m, 64)
	for _, legacy := range []bool{true, false} {
		dir := t.TempDir()
		writePTH(t, filepath.Join(dir, "model.pth"), g, legacy)
		writePTH(t, filepath.Join(dir, "discriminator.pth"), d, legacy)
		for preset, store := range map[string]string{"paper": "matrix", "release_zhanglab": "queue"} {
			i, err := ImportSimSID(filepath.Join(dir, "model.pth"), preset)
			if err != nil {
				t.Fatal(err)
			}
			got := i.Method.(*SimSID)
			if got.Width != 2 || got.Patches != 2 || got.Items != 7 || got.DecoderItems != 9 || got.TopK != 5 || got.Store != store ||
				!slices.Equal(got.Skip, m.Skip) || !slices.Equal(got.Decoder, m.Decoder) || !got.Teacher || i.Size != 64 {
				t.Errorf("preset %s: %+v for images of %d", preset, got.Generator, i.Size)
			}
			compared := 0
			for path, a := range i.Variables {
				v, err := a.Float32()
				if err != nil {
					t.Fatal(err)
				}
				if want, ok := start[path]; ok {
					compared++
					if !slices.Equal(v, want) {
						t.Errorf("%s differs from what was saved", path)
					}
				}
			}
			if compared < 100 {
				t.Errorf("%d variables compared, want over 100", compared)
			}
		}
	}

	for _, tt := range []struct {
		name   string
		change func(g, d map[string]weights.Array)
		preset string
		want   []string
	}{
		{"preset", func(g, d map[string]weights.Array) {}, "best", []string{`no preset "best"`, "release_zhanglab"}},
		{"missing", func(g, d map[string]weights.Array) {
			delete(g, "down_blocks.1.mpconv.conv1.0.bias")
			delete(d, "regressor.bias")
		}, "paper", []string{"generator: missing: down_blocks.1.mpconv.conv1.0.bias", "discriminator: missing: regressor.bias"}},
		{"misshapen", func(g, d map[string]weights.Array) {
			g["out_conv.conv.weight"] = weights.Float32Array([]int{2, 1, 1, 1}, []float32{1, 2})
		}, "paper", []string{"misshapen: out_conv.conv.weight [2 1 1 1], need [1 2 1 1]"}},
		{"unknown", func(g, d map[string]weights.Array) {
			g["module.extra"] = weights.Float32Array([]int{1}, []float32{1})
		}, "paper", []string{"unknown: module.extra"}},
		{"another network", func(g, d map[string]weights.Array) {
			clear(g)
			g["layer1.weight"] = weights.Float32Array([]int{1}, []float32{1})
		}, "paper", []string{"in_conv.conv.conv1.0.weight", "no checkpoint of SimSID"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, d, dir := maps.Clone(g), maps.Clone(d), t.TempDir()
			tt.change(g, d)
			writePTH(t, filepath.Join(dir, "model.pth"), g, false)
			writePTH(t, filepath.Join(dir, "discriminator.pth"), d, false)
			_, err := ImportSimSID(dir, tt.preset)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q in it", err, want)
				}
			}
		})
	}
}
