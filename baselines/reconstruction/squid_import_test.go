package reconstruction

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/graphs/inpaint"
	"thorax/graphs/nn"
	"thorax/graphs/weights"
)

// The registered import reads SQUID's tensors by their official names into the variables that score.
func TestImportSQUID(t *testing.T) {
	const side = 64
	m := NewSQUID()
	m.Width, m.Tile, m.Items = 2, 32, 7
	s := nn.NewScope(7)
	x := op.Placeholder(s.Op("x"), tf.Float, op.PlaceholderShape(tf.MakeShape(1, side, side, 1)))
	m.judge(s, x)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	start := map[string][]float32{}
	value := func(path string) []float32 {
		if start[path] == nil {
			var err error
			if start[path], _, err = s.Lookup(path).Initial(); err != nil {
				t.Fatal(err)
			}
		}
		return start[path]
	}
	network := m.network(side)
	network.Teacher = false // a checkpoint without it scores as well
	entries, err := network.Official("generator", side)
	if err != nil {
		t.Fatal(err)
	}
	file := map[string]weights.Array{}
	fill := func(prefix string, entries []inpaint.Entry) {
		for _, e := range entries {
			if v := e.Gather(value); v != nil {
				file[prefix+e.Key] = weights.Float32Array(e.Shape, v)
			}
		}
	}
	fill("g.", entries)
	fill("d.", inpaint.Discriminator{Widest: 128}.Official("discriminator", side))
	path := filepath.Join(t.TempDir(), "squid.safetensors")
	if err := weights.SaveSafetensors(path, file, nil); err != nil {
		t.Fatal(err)
	}
	info, err := framework.Lookup("squid")
	if err != nil {
		t.Fatal(err)
	}
	i, err := info.Import(path, "release_chexpert")
	if err != nil {
		t.Fatal(err)
	}
	if got := i.Method.(*SQUID); i.Size != side || got.Width != 2 || got.Tile != 32 || got.Items != 7 || got.Generating.Schedule.Min != 0.5 {
		t.Errorf("%+v for images of %d", got, i.Size)
	}
	compared := 0
	for path, a := range i.Variables {
		if want, ok := start[path]; ok {
			compared++
			if v, err := a.Float32(); err != nil || !slices.Equal(v, want) {
				t.Errorf("%s differs from what was saved, %v", path, err)
			}
		}
	}
	if compared < 100 {
		t.Errorf("%d variables compared, want over 100", compared)
	}
	if _, err := info.Import(path, "best"); err == nil || !strings.Contains(err.Error(), "release_chexpert, release_zhanglab") {
		t.Errorf("an unknown preset: %v", err)
	}
	file["g.module.extra"] = weights.Float32Array([]int{1}, []float32{1})
	delete(file, "d.regressor.bias")
	if err := weights.SaveSafetensors(path, file, nil); err != nil {
		t.Fatal(err)
	}
	_, err = info.Import(path, "")
	for _, want := range []string{"unknown: module.extra", "missing: regressor.bias"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}
