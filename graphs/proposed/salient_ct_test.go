package proposed

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/graphs/nn"
	"thorax/graphs/salient"
	"thorax/graphs/session"
)

// smallSalient is the method with little of everything that may be small.
func smallSalient() *SalientCT {
	m := NewSalientCT()
	m.Quantiser.Codes, m.Classifier.Layers = 32, 1
	return m
}

// noise is n grey values, the same in every call.
func noise(n int) []float32 {
	rng := rand.New(rand.NewPCG(7, 0))
	v := make([]float32, n)
	for i := range v {
		v[i] = rng.Float32()
	}
	return v
}

func TestSalientCheck(t *testing.T) {
	for _, tt := range []struct {
		change func(m *SalientCT)
		want   string
	}{
		{func(m *SalientCT) {}, ""},
		{func(m *SalientCT) { m.Mode = salient.Faithful }, ""},
		{func(m *SalientCT) { m.Mode = "" }, `mode: "", need corrected or faithful`},
		{func(m *SalientCT) { m.PCAView = "old" }, `pca_view: "old", need corrected or faithful`},
		{func(m *SalientCT) { m.Frozen = "" }, `frozen_mode: "", need eval or train`},
		{func(m *SalientCT) { m.Candidates = "all" }, `cand_scope: "all", need image or own`},
		{func(m *SalientCT) { m.Candidates, m.Mode = "own", salient.Faithful }, "cand_scope: own, but n_query = \"faithful\""},
		{func(m *SalientCT) { m.Positions = "all" }, `positions: "all", need one of [salient variance random]`},
		{func(m *SalientCT) { m.Reliability = "" }, `reliability: "", need one of [full variance none]`},
		{func(m *SalientCT) { m.Scale = "max" }, `score: "max", need one of [mean sum stage1]`},
		{func(m *SalientCT) { m.Pretrained = "no/such.pth" }, "pretrained: stat no/such.pth"},
		{func(m *SalientCT) { m.Quantiser.Codes = 0 }, "quantiser.codes: 0"},
		{func(m *SalientCT) { m.Quantiser.Update, m.Quantiser.Restart = "gradient", false }, `quantiser.update: "gradient", need ema`},
		{func(m *SalientCT) { m.Classifier.Heads = 3 }, "classifier.heads: 3, need a divisor of 512"},
		{func(m *SalientCT) { m.Classifier.Position = "none" }, `classifier.position: "none", need learned or sincos`},
		{func(m *SalientCT) { m.Loss.Normal = 0 }, "loss.normal: 0, need more than 0"},
		{func(m *SalientCT) { m.Stage1 = 1 }, "stage1: 1, need more than 0 and less than 1"},
		{func(m *SalientCT) { m.Stage1, m.Scale = 1, "stage1" }, ""},
		{func(m *SalientCT) { m.Map = "none" }, `map: "none", need one of [weighted probability residual]`},
		{func(m *SalientCT) { m.Threshold = 2 }, "threshold: 2, need 0 to 1"},
		{func(m *SalientCT) { m.Whole = 1 }, "whole: 1, need at least 0 and less than 1"},
		{func(m *SalientCT) { m.Frozen, m.Scale = "train", "stage1" }, `frozen_mode: "train" says what stage 2 does`},
		{func(m *SalientCT) { m.Learn.LR = 0 }, "stage1_optimizer.lr: 0"},
		{func(m *SalientCT) { m.Adam.LR = 0 }, "stage2_optimizer.lr: 0"},
	} {
		m := NewSalientCT()
		tt.change(m)
		err := m.Check()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

// What the variants train: which have a cache, and which keep the encoder as it
// is in stage 2.
func TestSalientVariants(t *testing.T) {
	const b, size = 2, 64
	for _, tt := range []struct {
		name   string
		change func(m *SalientCT)
		phases string
		writes bool // stage 2 moves encoder and codebook
	}{
		{"corrected", func(m *SalientCT) {}, "stage1 candidates stage2", false},
		{"faithful", func(m *SalientCT) { m.Mode = salient.Faithful }, "stage1 stage2", false},
		{"faithful but what couples images", func(m *SalientCT) {
			m.Mode, m.VarNorm, m.BatchOffset = salient.Faithful, salient.Corrected, salient.Corrected
		}, "stage1 candidates stage2", false},
		{"coupled variance", func(m *SalientCT) { m.VarNorm = salient.Faithful }, "stage1 stage2", false},
		{"coupled queries", func(m *SalientCT) { m.BatchOffset = salient.Faithful }, "stage1 stage2", false},
		{"random positions", func(m *SalientCT) { m.Positions = "random" }, "stage1 stage2", false},
		{"by variance", func(m *SalientCT) { m.Positions, m.Reliability = "variance", "none" }, "stage1 candidates stage2", false},
		{"released ablation", func(m *SalientCT) {
			m.Positions, m.Reliability, m.Classifier.Position = "variance", "none", "sincos"
		}, "stage1 candidates stage2", false},
		{"own", func(m *SalientCT) { m.Candidates, m.FeedForward = "own", true }, "stage1 candidates stage2", false},
		{"residual", func(m *SalientCT) { m.Quantiser.Depth, m.Restore = 2, false }, "stage1 candidates stage2", false},
		{"half whole", func(m *SalientCT) { m.Whole = 0.5 }, "stage1 candidates stage2", false},
		{"not frozen", func(m *SalientCT) { m.Frozen = "train" }, "stage1 stage2", true},
		{"plain VQ-VAE", func(m *SalientCT) { m.Scale = "stage1" }, "stage1", false},
	} {
		m := smallSalient()
		tt.change(m)
		s := nn.NewScope(1)
		in := framework.Inputs{Images: 5, Batch: b, Rows: b, Size: size, Image: placeholder(s, b, size)}
		in.Index = op.Placeholder(s.Op("index"), tf.Int64, op.PlaceholderShape(tf.MakeShape(b)))
		phases := m.Train(s, in)
		var names []string
		for _, p := range phases {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != tt.phases {
			t.Errorf("%s: phases %s, want %s", tt.name, got, tt.phases)
		}
		last := phases[len(phases)-1]
		for _, v := range last.Updates[0].Vars {
			frozen := strings.HasPrefix(v.Path, "encoder/") || strings.HasPrefix(v.Path, "quantiser/") || strings.HasPrefix(v.Path, "decoder/")
			if last.Name == "stage2" && frozen {
				t.Errorf("%s: stage 2 trains %s", tt.name, v.Path)
			}
		}
		if last.Name == "stage2" {
			above := nn.Ancestors(last.Updates[0].Loss(s.Later(nil, nil)))
			moved := false
			for _, w := range s.Writes() {
				moved = moved || above.Has(w.From) && (strings.HasPrefix(w.Variable.Path, "encoder/") || strings.HasPrefix(w.Variable.Path, "quantiser/"))
			}
			if moved != tt.writes {
				t.Errorf("%s: stage 2 moves encoder or codebook: %v, want %v", tt.name, moved, tt.writes)
			}
			if image := above.Has(phases[0].Updates[0].Log["commitment"]); image {
				t.Errorf("%s: stage 2 runs stage 1's forward pass", tt.name)
			}
		}
		m.Score(s.Inference(), in.Image)
		if err := s.Err(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A blank slice has candidates and a finite score.
func TestSalientBlank(t *testing.T) {
	const b, size = 2, 32
	m := smallSalient()
	s := nn.NewScope(1)
	in := framework.Inputs{Images: b, Batch: b, Rows: b, Size: size, Image: placeholder(s, b, size)}
	fit, _ := m.prepare(s, in)
	scores := m.Score(s.Inference(), in.Image)
	x := newSession(t, s)
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	images := make([]float32, b*size*size) // one black, one white
	for i := size * size; i < len(images); i++ {
		images[i] = 1
	}
	out, err := x.Run(map[tf.Output]*tf.Tensor{in.Image: session.Floats([]int{b, size, size, 1}, images)},
		append(fit.Fit.Outputs, scores.Image, scores.Map))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"codes", "order", "pool", "image score", "map"} {
		for _, v := range session.Values(out[i]) {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
				t.Fatalf("%s of a blank slice is %g", name, v)
			}
		}
	}
}

// The cache gives a batch, whatever its images, what the encoder would.
func TestSalientCache(t *testing.T) {
	const b, images, size = 2, 4, 32
	m := smallSalient()
	m.Quantiser.Depth = 2
	s := nn.NewScope(1)
	in := framework.Inputs{Images: images, Batch: b, Rows: b, Size: size, Image: placeholder(s, b, size)}
	in.Index = op.Placeholder(s.Op("index"), tf.Int64, op.PlaceholderShape(tf.MakeShape(b)))
	fit, cached := m.prepare(s, in)
	read, found := cached.read(s, in), m.search(s, in.Image)
	x := newSession(t, s)
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	all := noise(images * size * size)
	for i := range all {
		all[i] = all[i] * float32(i/(size*size)+1) / images
	}
	batch := func(numbers ...int64) map[tf.Output]*tf.Tensor {
		var v []float32
		for _, i := range numbers {
			v = append(v, all[int(i)*size*size:][:size*size]...)
		}
		return map[tf.Output]*tf.Tensor{in.Image: session.Floats([]int{b, size, size, 1}, v), in.Index: session.Ints([]int{b}, numbers)}
	}
	fill(t, fit.Fit, x, batch(0, 1), batch(2, 3))
	float := func(y tf.Output) tf.Output { return nn.Cast(s, y, tf.Float) }
	out, err := x.Run(batch(3, 0), []tf.Output{
		read.q, found.q, float(read.code), float(found.code), float(read.order), float(found.order), float(read.pool), float(found.pool),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"tokens", "codes", "order", "pool"} {
		got, want := session.Values(out[2*i]), session.Values(out[2*i+1])
		for j := range want {
			if d := math.Abs(float64(got[j] - want[j])); !(d <= 1e-5) {
				t.Errorf("%s[%d] is %g from the cache, %g from the encoder", name, j, got[j], want[j])
				break
			}
		}
	}
}

// Images that stage 2 leaves whole have their own codes, and every position of
// theirs counts as normal.
func TestSalientWhole(t *testing.T) {
	const b, size, hw = 4, 32, 16
	for _, share := range []float64{0, 0.5} {
		m := smallSalient()
		m.Whole, m.Reliability, m.Classifier.Dropout = share, "none", 0
		s := nn.NewScope(1)
		image := placeholder(s, b, size)
		c := m.search(s.Inference(), image)
		f := m.play(s.Inference(), image, c)
		same := nn.Sum(s, nn.AbsDiff(s, f.replaced, c.q), 1, 2) // [B]
		x := newSession(t, s)
		if err := x.Init(); err != nil {
			t.Fatal(err)
		}
		v := noise(b * size * size)
		out, err := x.Run(map[tf.Output]*tf.Tensor{image: session.Floats([]int{b, size, size, 1}, v)},
			[]tf.Output{same, nn.Sum(s, f.mask, 1), f.logits, f.terms["normal"], f.terms["anomalous"], f.mask, f.found, f.weight})
		if err != nil {
			t.Fatal(err)
		}
		moved, masked, logits := session.Values(out[0]), session.Values(out[1]), session.Values(out[2])
		whole := int(share * b)
		for i := range b {
			if i < whole && (moved[i] != 0 || masked[i] != 0) {
				t.Errorf("image %d of a share of %g is changed by %g at %g positions", i, share, moved[i], masked[i])
			}
			if i >= whole && masked[i] != 1 {
				t.Errorf("image %d of a share of %g is replaced at %g positions, want 1", i, share, masked[i])
			}
		}
		if whole > 0 { // the means, position by position
			mask := session.Values(out[5])
			var normal, anomalous, found float64
			for p := range b * hw {
				d := float64(logits[2*p] - logits[2*p+1]) // of the anomalous class
				if mask[p] > 0.5 {
					anomalous += math.Log1p(math.Exp(-d)) / float64(b-whole)
					if d > 0 {
						found += 1 / float64(b-whole)
					}
				} else {
					normal += math.Log1p(math.Exp(d)) / float64(b*hw-(b-whole))
				}
			}
			for k, want := range []float64{normal, anomalous} {
				if got := float64(session.Values(out[3+k])[0]); math.Abs(got-want) > 1e-5*want+1e-6 {
					t.Errorf("cross-entropy %d is %g, want %g", k, got, want)
				}
			}
			if got := float64(session.Values(out[6])[0]); math.Abs(got-found) > 1e-6 {
				t.Errorf("a share of %g is found, want %g", got, found)
			}
			if got := session.Values(out[7])[0]; math.Abs(float64(got)-1) > 1e-6 { // without reliability
				t.Errorf("the mean weight is %g, want 1", got)
			}
		}
	}
}

// The weighted map is the product of the other two, and the threshold decides
// which probabilities are left.
func TestSalientMaps(t *testing.T) {
	const b, size = 2, 32
	s := nn.NewScope(1)
	image := placeholder(s, b, size)
	var fetch []tf.Output
	kinds := []struct {
		name      string
		threshold float64
	}{{"weighted", 0}, {"probability", 0}, {"residual", 0}, {"weighted", 0.5}, {"probability", 0.5}, {"probability", 1}}
	for _, k := range kinds {
		m := smallSalient()
		m.Map, m.Threshold, m.Scale = k.name, k.threshold, "sum"
		f := m.Score(s.Inference(), image)
		fetch = append(fetch, f.Map, f.Image)
	}
	x := newSession(t, s)
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	v := noise(b * size * size)
	out, err := x.Run(map[tf.Output]*tf.Tensor{image: session.Floats([]int{b, size, size, 1}, v)}, fetch)
	if err != nil {
		t.Fatal(err)
	}
	maps := make([][]float32, len(kinds))
	for i := range kinds {
		maps[i] = session.Values(out[2*i])
		sum := 0.0
		for _, a := range maps[i][:size*size] {
			sum += float64(a)
		}
		if got := float64(session.Values(out[2*i+1])[0]); math.Abs(got-sum) > 1e-3*sum {
			t.Errorf("%v: image score %g, sum of the map %g", kinds[i], got, sum)
		}
	}
	kept, dropped := 0, 0
	for i, p := range maps[1] {
		if d := maps[0][i] - p*maps[2][i]; math.Abs(float64(d)) > 1e-6 {
			t.Fatalf("weighted %g, probability %g, residual %g", maps[0][i], p, maps[2][i])
		}
		want := p
		if p < 0.5 {
			want = 0
			dropped++
		} else {
			kept++
		}
		if maps[4][i] != want || maps[3][i] != want*maps[2][i] || maps[5][i] != 0 {
			t.Fatalf("probability %g with a threshold of 0.5 is %g, with 1 %g", p, maps[4][i], maps[5][i])
		}
	}
	if kept == 0 || dropped == 0 {
		t.Errorf("%d probabilities are at least a half and %d are not: the test sees nothing", kept, dropped)
	}
}
