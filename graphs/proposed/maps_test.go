package proposed

import (
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework"
	"thorax/framework/train"
	"thorax/graphs/nn"
	"thorax/graphs/session"
)

// The optional maps have the image's size, are not negative, change no score, and are labelled.
func TestSimSIDMaps(t *testing.T) {
	const side, images = 32, 2
	v := make([]float32, images*side*side)
	for i := range v {
		v[i] = float32(i*i%97) / 97
	}
	var scores [][]float32
	for _, kind := range []string{"none", "residual", "gradcam"} {
		m := NewSimSID()
		m.Width, m.Patches, m.Items, m.Map = 2, 2, 7, kind
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		s := nn.NewScope(3)
		x := placeholder(s, images, side)
		out := m.Score(s.Inference(), x)
		if err := s.Err(); err != nil {
			t.Fatal(kind, err)
		}
		fetch := []tf.Output{out.Image}
		if kind != "none" {
			fetch = append(fetch, out.Map)
		} else if out.Map.Op != nil {
			t.Error("a map, and none is asked for")
		}
		run, err := session.New(s, session.Options{Threads: 2})
		if err == nil {
			err = run.Init()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		got, err := run.Run(map[tf.Output]*tf.Tensor{x: session.Floats([]int{images, side, side, 1}, v)}, fetch)
		if err != nil {
			t.Fatal(err)
		}
		scores = append(scores, session.Values(got[0]))
		if kind == "none" {
			if notes := m.Notes(); notes != nil {
				t.Errorf("notes %q", notes)
			}
			continue
		}
		a := session.Values(got[1])
		if len(a) != images*side*side || slices.Min(a) < 0 || slices.Max(a) <= 0 {
			t.Errorf("%s: %d values from %g to %g", kind, len(a), slices.Min(a), slices.Max(a))
		}
		if notes := m.Notes(); len(notes) != 1 || !strings.Contains(notes[0], kind) || !strings.Contains(notes[0], "no part of the method") {
			t.Errorf("notes %q", notes)
		}
	}
	for _, other := range scores[1:] {
		if !slices.Equal(other, scores[0]) {
			t.Errorf("scores %v, without a map %v", other, scores[0])
		}
	}
	m := NewSimSID()
	m.Width, m.Patches, m.Items, m.Map = 2, 2, 7, "gradcam"
	if _, err := train.NewStepper(m, 1, framework.Inputs{Images: 8, Batch: 2, Rows: 2, Size: side}, 4, session.Options{Threads: 2}); err != nil {
		t.Error(err)
	}
	m.Map = "cam"
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), `map: "cam"`) {
		t.Errorf("an unknown map: %v", err)
	}
}
