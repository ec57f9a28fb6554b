package proposed

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/graphs/golden"
	"thorax/graphs/inpaint"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

// Limits of the golden README, relative in the L2 norm unless they say else.
const (
	featureLimit  = 1e-4
	logitLimit    = 1e-4 // absolute
	lossLimit     = 3e-5
	stateLimit    = 1e-4 // statistics and queue after one step
	unitLimit     = 1e-5
	scoreLimit    = 1e-6
	gradientLimit = 3e-2
	normLimit     = 2e-2
	queueLimit    = 5e-2 // after the short run
)

// A goldenCase is one folder of golden/simsid.
type goldenCase struct {
	Case struct {
		S, P, B      int
		Width        int
		Items        int `json:"n_inpaint"`
		DecoderItems int `json:"n_dec"`
		K            int
		Queue        bool
		Ops, Dec     []string
		Mask         float64
		UseInpaint   bool `json:"use_inpaint"`
		UseBlock     bool `json:"use_block"`
		Teacher      bool
		TeacherSG    bool `json:"teacher_sg"`
		Tanh         bool
		R, E         int
		Stages       int      `json:"disc_stages"`
		MaskExtra    *float64 `json:"mask_extra"`
		Optimiser    struct {
			LR, Beta1, Beta2 float64
			EpsG             float64 `json:"eps_g"`
			L2G              float64 `json:"l2_g"`
			EpsD             float64 `json:"eps_d"`
			L2D              float64 `json:"l2_d"`
		}
		Weights struct{ Recon, Teacher, Dist, Gen, Dis float64 } `json:"weights_of_losses"`
	}
	Loss        map[string]float64
	GradG       map[string]float64 `json:"grad_g_norm"`
	GradD       map[string]float64 `json:"grad_d_norm"`
	DeltaG      map[string]float64 `json:"delta_g_norm"`
	DeltaD      map[string]float64 `json:"delta_d_norm"`
	Run         []map[string]float64
	ZeroG       []string            `json:"zero_gradient_g"`
	ZeroD       []string            `json:"zero_gradient_d"`
	NoGradient  []string            `json:"no_gradient"`
	GradientMap map[string][]string `json:"gradient_map"`
}

// method is SimSID with the switches of the case.
func (c *goldenCase) method() *SimSID {
	k := c.Case
	m := NewSimSID()
	m.Width, m.Patches, m.Items, m.DecoderItems, m.TopK = k.Width, k.P, k.Items, k.DecoderItems, k.K
	m.Inpainting = "transformer"
	if !k.UseInpaint {
		m.Inpainting = "memory_only"
	}
	if !k.UseBlock {
		m.Inpainting = "none"
	}
	m.Store = "matrix"
	if k.Queue {
		m.Store = "queue"
	}
	m.Skip = k.Ops
	m.Decoder = nil
	for _, d := range k.Dec[:2] {
		m.Decoder = append(m.Decoder, strings.ToLower(d))
	}
	m.MaskInpainting, m.MaskDecoder = k.Mask, k.Mask
	m.Teacher, m.StopGradient = k.Teacher, k.TeacherSG
	m.Output = "sigmoid"
	if k.Tanh {
		m.Output = "tanh"
	}
	w, o := k.Weights, k.Optimiser
	m.Loss = SimSIDTerms{Reconstruction: w.Recon, Teacher: w.Teacher, Distillation: w.Dist, Adversarial: w.Gen, Discriminator: w.Dis}
	adam := optim.NewAdam(o.LR)
	adam.Beta1, adam.Beta2 = o.Beta1, o.Beta2
	m.Generating, m.Discriminates = adam, adam
	m.Generating.Eps, m.Generating.WeightDecay = o.EpsG, o.L2G
	m.Discriminates.Eps, m.Discriminates.WeightDecay = o.EpsD, o.L2D
	return m
}

// goldenCases calls test for every case folder.
func goldenCases(t *testing.T, test func(t *testing.T, c *goldenState)) {
	dir := golden.Dir(t, "simsid")
	folders, err := filepath.Glob(filepath.Join(dir, "*", "scalars.json"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	for _, path := range folders {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			c := &goldenState{folder: filepath.Dir(path)}
			b, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(b, &c.goldenCase)
			}
			if err != nil {
				t.Fatal(err)
			}
			c.open(t)
			test(t, c)
		})
	}
}

// A goldenState is a case with its files and a graph.
type goldenState struct {
	goldenCase
	folder  string
	m       *SimSID
	io      map[string]weights.Array
	entries map[string]inpaint.Entry // by official key with its prefix
	values  map[string][]float32     // start of every variable
}

func (c *goldenState) open(t *testing.T) {
	c.m = c.method()
	if err := c.m.Check(); err != nil {
		t.Fatal(err)
	}
	c.io = golden.Load(t, filepath.Join(c.folder, "io.safetensors"))
	state := golden.Load(t, filepath.Join(c.folder, "weights.safetensors"))
	parts := map[string]map[string]weights.Array{"g.": {}, "d.": {}}
	for key, a := range state {
		if parts[key[:2]] == nil {
			t.Fatalf("weight %s is of neither network", key)
		}
		parts[key[:2]][key[2:]] = a
	}
	g, err := c.m.Official("generator", c.Case.S)
	if err != nil {
		t.Fatal(err)
	}
	d := inpaint.Discriminator{Widest: 256}.Official("discriminator", c.Case.S)
	c.entries, c.values = map[string]inpaint.Entry{}, map[string][]float32{}
	for prefix, entries := range map[string][]inpaint.Entry{"g.": g, "d.": d} {
		values, _, err := inpaint.Import(entries, parts[prefix])
		if err != nil {
			t.Fatal(err)
		}
		for path, v := range values {
			c.values[path] = v
		}
		for _, e := range entries {
			c.entries[prefix+e.Key] = e
		}
	}
}

// start sets the variables of s to those of the case; one that the case does
// not have keeps its initial value if it is none of the networks'.
func (c *goldenState) start(t *testing.T, s *nn.Scope, x *session.Session) {
	t.Helper()
	if err := x.Init(); err != nil {
		t.Fatal(err)
	}
	set, l := 0, x.Loader()
	for _, v := range s.Variables() {
		value, ok := c.values[v.Path]
		if !ok {
			if strings.HasPrefix(v.Path, "generator/") && v.DType == tf.Float || strings.HasPrefix(v.Path, "discriminator/") {
				t.Errorf("variable %s is not in the checkpoint", v)
			}
			continue
		}
		if err := l.Set(v, session.Floats(v.Shape, value)); err != nil {
			t.Fatal(err)
		}
		set++
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if set == 0 {
		t.Fatal("no variable was set")
	}
}

// image is x as [B,S,S,1] in [0,1].
func (c *goldenState) image(t *testing.T, x []float32) *tf.Tensor {
	v := slices.Clone(x)
	if c.Case.Tanh {
		for i := range v {
			v[i] = (v[i] + 1) / 2
		}
	}
	return session.Floats([]int{c.Case.B, c.Case.S, c.Case.S, 1}, v)
}

func placeholder(s *nn.Scope, b, side int) tf.Output {
	return op.Placeholder(s.Op("image"), tf.Float, op.PlaceholderShape(tf.MakeShape(int64(b), int64(side), int64(side), 1)))
}

func newSession(t *testing.T, s *nn.Scope) *session.Session {
	t.Helper()
	x, err := session.New(s, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// A probe is a tensor with the order in which the golden files hold it.
type probe struct {
	name  string
	y     tf.Output
	order func(dims []int, v []float32) []float32
}

// channelsFirst reorders [B,H,W,C] to [B,C,H,W].
func channelsFirst(dims []int, v []float32) []float32 {
	area, ch := dims[1]*dims[2], dims[3]
	out := make([]float32, len(v))
	for i := range v {
		b, rest := i/(area*ch), i%(area*ch)
		out[(b*ch+rest%ch)*area+rest/ch] = v[i]
	}
	return out
}

// swapped reorders [A,B,C] to [B,A,C].
func swapped(dims []int, v []float32) []float32 {
	a, b, n := dims[0], dims[1], dims[2]
	out := make([]float32, 0, len(v))
	for j := range b {
		for i := range a {
			out = append(out, v[(i*b+j)*n:(i*b+j+1)*n]...)
		}
	}
	return out
}

// vectors reorders rows of [H,W,C] to rows of [C,H,W].
func vectors(area int) func([]int, []float32) []float32 {
	return func(dims []int, v []float32) []float32 {
		n := dims[len(dims)-1]
		return channelsFirst([]int{len(v) / n, area, 1, n / area}, v)
	}
}

func asIs(_ []int, v []float32) []float32 { return v }

// distance is |got-want|/|want| in the L2 norm; infinite if lengths differ or
// anything is not finite.
func distance(got []float32, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var d, n float64
	for i, w := range want {
		d += (float64(got[i]) - w) * (float64(got[i]) - w)
		n += w * w
	}
	r := math.Sqrt(d) / max(math.Sqrt(n), 1e-30)
	if d == 0 {
		r = 0
	}
	if math.IsNaN(r) {
		return math.Inf(1)
	}
	return r
}

func norm(v []float32) float64 {
	n := 0.0
	for _, x := range v {
		n += float64(x) * float64(x)
	}
	return math.Sqrt(n)
}

func floats(t *testing.T, a weights.Array) []float64 {
	t.Helper()
	v, err := a.Float64()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// compare fetches the probes that the case has and compares them.
func (c *goldenState) compare(t *testing.T, k *golden.Tracker, x *session.Session, feeds map[tf.Output]*tf.Tensor, prefix string, probes []probe) {
	t.Helper()
	var fetch []tf.Output
	var have []probe
	for _, p := range probes {
		if _, ok := c.io[prefix+p.name]; ok && p.y.Op != nil {
			fetch, have = append(fetch, p.y), append(have, p)
		}
	}
	out, err := x.Run(feeds, fetch)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range have {
		dims := make([]int, len(out[i].Shape()))
		for j, d := range out[i].Shape() {
			dims[j] = int(d)
		}
		want := k.Get(prefix + p.name)
		got := p.order(dims, session.Values(out[i]))
		if n := want.Len(); strings.Contains("s2 s3 t2 t3", p.name) && n < len(got) {
			got = got[:n] // the first image only
		}
		if strings.HasPrefix(p.name, "d_") || p.name == "dist_loss" {
			limit := logitLimit
			if p.name == "dist_loss" {
				limit = lossLimit * floats(t, want)[0]
			}
			for j, w := range floats(t, want) {
				if !(math.Abs(float64(got[j])-w) <= limit) {
					t.Errorf("%s[%d] is %g, want %g", prefix+p.name, j, got[j], w)
				}
			}
			k.Compare(prefix+p.name, got, 1) // counts it; lengths and finiteness
			continue
		}
		if d := distance(got, floats(t, want)); !(d <= featureLimit) {
			t.Errorf("%s %v is off by %.3g in the L2 norm, allowed %.3g", prefix+p.name, want.Shape, d, featureLimit)
		}
		k.Compare(prefix+p.name, got, 10*featureLimit)
	}
}

// probes lists everything that golden files hold of a forward pass.
func (c *goldenState) probes(s *nn.Scope, f *inpaint.Features) []probe {
	area := c.Case.R * c.Case.R
	list := []probe{
		{"z", f.Deepest, channelsFirst},
		{"inpaint.out", f.Painted, channelsFirst},
		{"inpaint.weights", f.Weights, swapped},
		{"recon", f.Recon, channelsFirst},
		{"teacher", f.Lesson, channelsFirst},
		{"inpaint.attn", f.Attention, vectors(area)},
		{"inpaint.ln2", f.Fed, vectors(area)},
		{"w0", f.Read[0], swapped},
		{"w1", f.Read[1], swapped},
	}
	if f.Query.Op != nil {
		per := nn.Channels(s, f.Query) / area
		list = append(list,
			probe{"inpaint.f", nn.Reshape(s, f.Query, -1, c.Case.R, c.Case.R, per), channelsFirst},
			probe{"inpaint.mem", nn.Transpose(s, f.Recalled, 1, 0, 2), vectors(area)})
	}
	for i := range f.Student {
		list = append(list, probe{fmt.Sprint("s", i), f.Student[i], channelsFirst}, probe{fmt.Sprint("t", i), f.Taught[i], channelsFirst})
		if i < 2 {
			list = append(list, probe{fmt.Sprint("up", i), f.Raw[i], channelsFirst})
		}
	}
	return list
}

func TestGoldenSimSIDScoring(t *testing.T) {
	goldenCases(t, func(t *testing.T, c *goldenState) {
		k := golden.Track(t, part(c.io, "eval.", "x"))
		k.Case(filepath.Base(c.folder))
		image, err := k.Get("x").Float32()
		if err != nil {
			t.Fatal(err)
		}
		root := nn.NewScope(1)
		x := placeholder(root, c.Case.B, c.Case.S)
		s := root.Inference()
		f := c.m.Build(s.In("generator"), c.m.Unit(s, x))
		probes := c.probes(s, f)
		if c.Case.Teacher {
			c.m.Teach(s.In("generator"), f)
			probes = append(c.probes(s, f), probe{"dist_loss", nn.Reshape(s, f.Distance(s), 1), asIs})
		}
		if got := inpaint.Stages(c.Case.S); got != c.Case.Stages {
			t.Errorf("discriminator of %d stages, want %d", got, c.Case.Stages)
		}
		for _, norm := range []string{"instance", "running"} {
			m := *c.m
			m.DiscNorm = norm
			probes = append(probes,
				probe{"d_" + norm + "_x", m.discriminate(s, c.m.Unit(s, x)), asIs},
				probe{"d_" + norm + "_recon", m.discriminate(s, f.Recon), asIs})
		}
		sess := newSession(t, root)
		c.start(t, root, sess)
		c.compare(t, k, sess, map[tf.Output]*tf.Tensor{x: c.image(t, image)}, "eval.", probes)
	})
}

// part is what an array file holds under the given prefixes.
func part(arrays map[string]weights.Array, prefixes ...string) map[string]weights.Array {
	out := map[string]weights.Array{}
	for name, a := range arrays {
		for _, p := range prefixes {
			if name == p || strings.HasPrefix(name, p) && strings.HasSuffix(p, ".") {
				out[name] = a
			}
		}
	}
	return out
}
