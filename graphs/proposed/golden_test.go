package proposed

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/framework/metric"
	"thorax/framework/train"
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
	m.Loss = inpaint.Terms{Reconstruction: w.Recon, Teacher: w.Teacher, Distillation: w.Dist, Adversarial: w.Gen, Discriminator: w.Dis}
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
			// Without the file, the limits of the README stand alone.
			if b, err := os.ReadFile(filepath.Join(c.folder, "tolerance.json")); err == nil {
				if err := json.Unmarshal(b, &c.official); err != nil {
					t.Fatal(err)
				}
			}
			c.open(t)
			test(t, c)
		})
	}
}

// A goldenState is a case with its files and a graph.
type goldenState struct {
	official struct { // how far float32 is from float64 in the official code
		Loss map[string]float64   `json:"scalar.loss"`
		Run  []map[string]float64 `json:"scalar.run"`
	}
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

// feed gives the images x [B,S,S], in the network's range, in place of what
// that is computed from: 2·(x+1)/2-1 is not quite x, and one ReLU of another
// sign moves all gradients before it.
func (c *goldenState) feed(t *testing.T, image tf.Output, x []float32) map[tf.Output]*tf.Tensor {
	t.Helper()
	v := session.Floats([]int{c.Case.B, c.Case.S, c.Case.S, 1}, x)
	if !c.Case.Tanh {
		return map[tf.Output]*tf.Tensor{image: v}
	}
	feeds := map[tf.Output]*tf.Tensor{}
	for _, double := range image.Consumers() {
		for _, minus := range double.Op.Output(0).Consumers() {
			if double.Op.Type() != "Mul" || minus.Op.Type() != "AddV2" {
				t.Fatalf("the images enter by %s and %s", double.Op.Type(), minus.Op.Type())
			}
			feeds[minus.Op.Output(0)] = v
		}
	}
	if len(feeds) == 0 {
		t.Fatal("the images do not enter")
	}
	return feeds
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
func (c *goldenState) compare(t *testing.T, k *golden.Tracker, x *session.Session, feeds map[tf.Output]*tf.Tensor, prefix string, probes []probe, more ...tf.Output) []*tf.Tensor {
	t.Helper()
	var fetch []tf.Output
	var have []probe
	for _, p := range probes {
		if _, ok := c.io[prefix+p.name]; ok && p.y.Op != nil {
			fetch, have = append(fetch, p.y), append(have, p)
		}
	}
	out, err := x.Run(feeds, append(fetch, more...))
	if err != nil {
		t.Fatal(err)
	}
	worst, at := 0.0, "no map"
	defer func() { t.Logf("%s%s is the worst, off by %.2g in the L2 norm", prefix, at, worst) }()
	for i, p := range have {
		dims := make([]int, len(out[i].Shape()))
		for j, d := range out[i].Shape() {
			dims[j] = int(d)
		}
		want := k.Get(prefix + p.name)
		got := p.order(dims, session.Values(out[i]))
		_, base, dotted := strings.Cut(p.name, ".")
		if !dotted {
			base = p.name
		}
		if n := want.Len(); slices.Contains([]string{"s2", "s3", "t2", "t3"}, base) && n < len(got) {
			got = got[:n] // the first image only
		}
		if strings.HasPrefix(base, "d_") || base == "dist_loss" {
			limit := logitLimit
			if base == "dist_loss" {
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
		d := distance(got, floats(t, want))
		if d > worst {
			worst, at = d, p.name
		}
		if !(d <= featureLimit) {
			t.Errorf("%s %v is off by %.3g in the L2 norm, allowed %.3g", prefix+p.name, want.Shape, d, featureLimit)
		}
		k.Compare(prefix+p.name, got, 10*featureLimit)
	}
	return out[len(have):]
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
		c.compare(t, k, sess, c.feed(t, x, image), "eval.", probes)
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

func prefixed(prefix string, probes []probe) []probe {
	var out []probe
	for _, p := range probes {
		p.name = prefix + p.name
		out = append(out, p)
	}
	return out
}

// except is what an array file holds but not under the given prefix.
func except(arrays map[string]weights.Array, prefix string) map[string]weights.Array {
	out := maps.Clone(arrays)
	maps.DeleteFunc(out, func(name string, _ weights.Array) bool { return strings.HasPrefix(name, prefix) })
	return out
}

// mirrored is the batch x [B,S,S] with every image flipped left to right.
func mirrored(x []float32, side int) []float32 {
	out := make([]float32, len(x))
	for i := range x {
		out[i] = x[i/side*side+side-1-i%side]
	}
	return out
}

// current returns the values of our variables as an official tensor.
func (c *goldenState) current(t *testing.T, s *nn.Scope, x *session.Session) func(path string) []float32 {
	t.Helper()
	vars := slices.DeleteFunc(slices.Clone(s.Variables()), func(v *nn.Variable) bool {
		return v.DType != tf.Float || strings.HasPrefix(v.Path, "optimizer/")
	})
	out, err := x.Get(vars)
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string][]float32{}
	for i, v := range vars {
		byPath[v.Path] = session.Values(out[i])
	}
	return func(path string) []float32 {
		if byPath[path] == nil {
			t.Fatalf("no variable %s", path)
		}
		return byPath[path]
	}
}

// gradients compares the gradient of every parameter of a network with its
// norm, and of some with its values.
func (c *goldenState) gradients(t *testing.T, k *golden.Tracker, prefix string, norms map[string]float64, zero []string, value func(path string) []float32) {
	t.Helper()
	largest := 0.0
	for _, n := range norms {
		largest = max(largest, n)
	}
	for key, want := range norms {
		e, ok := c.entries[prefix+"."+key]
		if !ok || len(e.Paths) == 0 {
			t.Errorf("%s has a golden gradient but no variable", key)
			continue
		}
		g := e.Gather(value)
		got := norm(g)
		if slices.Contains(zero, key) || want < 1e-6*largest {
			if !(got < 1e-4*largest) {
				t.Errorf("gradient of %s has norm %g, want 0", key, got)
			}
			continue
		}
		if !(math.Abs(got-want) <= normLimit*want) {
			t.Errorf("gradient of %s has norm %g, want %g", key, got, want)
		}
		for _, kind := range []string{"grad_" + prefix + ".", "grad_" + prefix + "_head."} {
			if _, ok := c.io[kind+key]; !ok {
				continue
			}
			golden := k.Get(kind + key)
			if d := distance(g[:golden.Len()], floats(t, golden)); !(d <= gradientLimit) {
				t.Errorf("%s%s is off by %.3g in the L2 norm, allowed %g", kind, key, d, gradientLimit)
			}
			k.Compare(kind+key, g[:golden.Len()], 2*gradientLimit)
		}
	}
}

// deltas compares the first step of Adam.
func (c *goldenState) deltas(t *testing.T, k *golden.Tracker, prefix string, norms map[string]float64, zero []string, limit float64, value func(path string) []float32) {
	t.Helper()
	lr := c.Case.Optimiser.LR
	for key, want := range norms {
		e := c.entries[prefix+"."+key]
		before := e.Gather(func(path string) []float32 { return c.values[path] })
		d := e.Gather(value)
		for i := range d {
			d[i] -= before[i]
		}
		head := "delta_" + prefix + "_head." + key
		if slices.Contains(zero, key) {
			if _, ok := c.io[head]; ok {
				k.Skip(head, "its gradient is zero: the step is rounding noise")
			}
			continue
		}
		if got := norm(d); !strings.HasSuffix(key, "in_proj_bias") && !(math.Abs(got-want) <= limit*want) {
			t.Errorf("first step of %s has norm %g, want %g", key, got, want)
		}
		if _, ok := c.io[head]; !ok {
			continue
		}
		wrong := 0
		golden := floats(t, k.Get(head))
		for i, w := range golden {
			key := strings.HasSuffix(key, "in_proj_bias") && i*3/len(d) == 1 // of the attention: no gradient
			if !key && !(math.Abs(float64(d[i])-w) <= 0.01*lr) {
				wrong++
			}
		}
		if wrong > 3 {
			t.Errorf("%s: %d of %d values are off by more than 1 %% of the learning rate", head, wrong, len(golden))
		}
		k.Compare(head, d[:len(golden)], 3) // counts it; a wrong sign is off by 2
	}
	for key, e := range c.entries {
		trained := len(e.Paths) > 0 && !strings.Contains(key, "running_") && !(c.Case.Queue && strings.HasPrefix(key, "g.inpaint_block.memory."))
		if _, ok := norms[key[2:]]; trained && key[:2] == prefix+"." && !ok {
			t.Errorf("%s is trained here, and not in the official code", key)
		}
	}
}

// losses compares what a step returned. Where the official code itself, in
// float32, strays by more than a quarter of the limit, a case is as badly
// conditioned as that, and four times its error is allowed.
func (c *goldenState) losses(t *testing.T, when string, got, want, official map[string]float64, limit float64, logged bool) {
	t.Helper()
	seen := map[string]float64{
		"L_dis":   got["discriminator"] / c.m.Loss.Discriminator,
		"L_s":     got["generator/reconstruction"],
		"L_gen":   got["generator/adversarial"],
		"L_t":     got["generator/teacher"],
		"L_dist":  got["generator/distillation"],
		"G_total": got["generator"],
		"D_total": got["discriminator"],
	}
	if logged && math.Abs(c.Run[0]["L_dis"]-c.Loss["L_dis"]) > 1e-3*c.Loss["L_dis"] {
		// The official loop logs its weighted total plus the loss on fakes.
		seen["L_dis"] = got["discriminator"] + got["discriminator/fake"]
	}
	if len(want) == 0 {
		t.Errorf("%s: no golden losses", when)
	}
	for name, w := range want {
		g, ok := seen[name]
		if strings.HasPrefix(name, "L_dist_") {
			g, ok = got[name]
		}
		limit := max(limit, 4*official[name])
		if !ok || !(math.Abs(g-w) <= limit*math.Abs(w)) {
			t.Errorf("%s: %s is %.9g, want %.9g: off by %.3g, allowed %.3g", when, name, g, w, math.Abs(g-w)/math.Abs(w), limit)
		}
	}
}

// reached returns the official modules whose parameters a gradient of y
// reaches.
func (c *goldenState) reached(s *nn.Scope, y tf.Output) []string {
	seen := map[string]bool{}
	stack := []*tf.Operation{y.Op}
	for len(stack) > 0 {
		o := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[o.Name()] {
			continue
		}
		seen[o.Name()] = true
		if o.Type() == "StopGradient" {
			continue
		}
		for i := range o.NumInputs() {
			stack = append(stack, tf.Consumer{Op: o, Index: i}.Producer().Op)
		}
	}
	modules := map[string]bool{}
	for key, e := range c.entries {
		for _, path := range e.Paths {
			v := s.Lookup(path)
			if key[:2] != "g." || v == nil || !v.Trained {
				continue
			}
			for _, r := range v.Reads() {
				if seen[r.Op.Name()] {
					name, _, _ := strings.Cut(key[2:], ".")
					modules[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(modules))
}

// masked builds the forward pass with the masks of the case.
func (c *goldenState) masked(t *testing.T, k *golden.Tracker, s *nn.Scope, image tf.Output) []probe {
	t.Helper()
	m := *c.m
	m.MaskInpainting, m.MaskDecoder = *c.Case.MaskExtra, *c.Case.MaskExtra
	given := map[string]string{
		"generator/inpainting/mask": "mask.inpaint", "generator/student/0/mask": "mask.dec0", "generator/student/1/mask": "mask.dec1",
	}
	f := m.BuildMasked(s.In("generator"), m.Unit(s, image), func(s *nn.Scope, x tf.Output, keep float64) tf.Output {
		a := k.Get(given[s.Path()]) // [B·P²,1,h,w]
		v, err := a.Float32()
		if err != nil {
			t.Fatal(err)
		}
		if keep != *c.Case.MaskExtra || nn.Batch(s, x) != a.Shape[0] || nn.Height(s, x) != a.Shape[2] || nn.Width(s, x) != a.Shape[3] {
			t.Errorf("mask of %v with probability %g, golden %v", nn.Shape(s, x), keep, a.Shape)
		}
		return nn.Consts(s, v, a.Shape[0], a.Shape[2], a.Shape[3], 1)
	})
	return []probe{
		{"recon", f.Recon, channelsFirst}, {"inpaint_out", f.Painted, channelsFirst},
		{"s0", f.Student[0], channelsFirst}, {"s1", f.Student[1], channelsFirst},
	}
}

func TestGoldenSimSIDTraining(t *testing.T) {
	goldenCases(t, func(t *testing.T, c *goldenState) {
		k := golden.Track(t, except(c.io, "eval."))
		k.Case(filepath.Base(c.folder))
		values, err := k.Get("x").Float32()
		if err != nil {
			t.Fatal(err)
		}
		short := strings.HasPrefix(filepath.Base(c.folder), "x_")
		in := framework.Inputs{Images: 100 * c.Case.B, Batch: c.Case.B, Rows: c.Case.B, Size: c.Case.S}
		st, err := train.NewStepper(c.m, 1, in, len(c.Run), session.Options{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Session.Close() })
		s, x := st.Scope(), st.Session
		// The same graph once more, for what a run does not show.
		r := c.m.play(s, st.Inputs.Image)
		phase := c.m.adversaries(s, st.Inputs, r)
		var loss [2]tf.Output
		var vars [2][]*nn.Variable
		var gradients [2][]tf.Output
		for i, u := range phase.Updates {
			loss[i], vars[i] = u.Loss(s), u.Vars
			gradients[i] = nn.VariableGradients(s, loss[i], u.Vars)
		}
		probes := append(c.probes(s, r.f), probe{"d_real", r.real, asIs}, probe{"d_fake", r.fake, asIs})
		updated := []probe{{"d_fake_updated", r.fake, asIs}}
		var maskedProbes []probe
		if c.Case.MaskExtra != nil {
			maskedProbes = c.masked(t, k, s, st.Inputs.Image)
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		terms := phase.Updates[1].Log
		for name, y := range map[string]tf.Output{"L_s": terms["reconstruction"], "L_gen": terms["adversarial"], "L_t": terms["teacher"], "L_dist": terms["distillation"]} {
			want, ok := c.GradientMap[name]
			if !ok != (y.Op == nil) {
				t.Errorf("%s: one side has no such loss", name)
			} else if ok && !slices.Equal(c.reached(s, y), want) {
				t.Errorf("%s reaches %v, want %v", name, c.reached(s, y), want)
			}
		}

		// Runs of other tensors cost TensorFlow a plan each, which takes longer
		// than the run: few of them fetch a lot.
		batches := []map[tf.Output]*tf.Tensor{c.feed(t, st.Inputs.Image, values), c.feed(t, st.Inputs.Image, mirrored(values, c.Case.S))}
		byPath := func(i int, out []*tf.Tensor) func(path string) []float32 {
			values := map[string][]float32{}
			for j, v := range vars[i] {
				values[v.Path] = session.Values(out[j])
			}
			return func(path string) []float32 {
				if values[path] == nil {
					t.Fatalf("no gradient of %s", path)
				}
				return values[path]
			}
		}
		c.start(t, s, x)
		out := c.compare(t, k, x, batches[0], "", append(prefixed("train.", probes), prefixed("mask.", maskedProbes)...), gradients[0]...)
		c.gradients(t, k, "d", c.GradD, c.ZeroD, byPath(0, out))
		if _, err := st.Step(1, batches[0]); err != nil { // the discriminator alone
			t.Fatal(err)
		}
		out = c.compare(t, k, x, batches[0], "train.", updated, gradients[1]...)
		c.gradients(t, k, "g", c.GradG, c.ZeroG, byPath(1, out))

		c.start(t, s, x)
		strict := slices.Contains([]string{"x_no_decmem", "x_no_block", "x_no_stopgrad", "x_top1"}, filepath.Base(c.folder))
		for i, want := range c.Run {
			got, err := st.Step(i, batches[i%2])
			if err != nil {
				t.Fatal(err)
			}
			limit := 0.1
			switch {
			case i == 0:
				limit = lossLimit
			case i == 1 || strict:
				limit = 1e-3
			}
			var official map[string]float64
			if i < len(c.official.Run) {
				official = c.official.Run[i]
			}
			c.losses(t, fmt.Sprint("iteration ", i), got, want, official, limit, true)
			if i > 0 {
				continue
			}
			full := maps.Clone(c.Loss)
			maps.DeleteFunc(full, func(name string, _ float64) bool { return strings.HasPrefix(name, "L_dist_") })
			c.losses(t, "first iteration", got, full, c.official.Loss, lossLimit, false)
			now := c.current(t, s, x)
			limit = normLimit
			if short {
				limit = 0.1
			}
			c.deltas(t, k, "g", c.DeltaG, c.ZeroG, limit, now)
			c.deltas(t, k, "d", c.DeltaD, c.ZeroD, limit, now)
			for _, name := range k.Names("after.") {
				got := c.entries[strings.TrimPrefix(name, "after.")].Gather(now)
				if d := distance(got, floats(t, k.Get(name))); !(d <= stateLimit) {
					t.Errorf("%s is off by %.3g in the L2 norm, allowed %g", name, d, stateLimit)
				}
				k.Compare(name, got, 10*stateLimit)
			}
		}
		if _, ok := c.io["run.queue"]; ok {
			now := c.current(t, s, x)
			var got []float32
			for p := range c.Case.P * c.Case.P {
				got = append(got, c.entries[fmt.Sprintf("g.inpaint_block.memory.%d.memMatrix", p)].Gather(now)...)
			}
			if d := distance(got, floats(t, k.Get("run.queue"))); !(d <= queueLimit) {
				t.Errorf("run.queue is off by %.3g in the L2 norm, allowed %g", d, queueLimit)
			}
			k.Compare("run.queue", got, 2*queueLimit)
		}
	})
}

func TestGoldenSimSIDScores(t *testing.T) {
	path := filepath.Join(golden.Dir(t, "simsid"), "scores.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name                           string
			Train                          []float32 `json:"train_logits"`
			Logits                         []float32
			Labels                         []int
			Mu, Sigma                      float64
			Release                        []float64 `json:"score_release"`
			Paper                          []float64 `json:"score_paper"`
			AUC, Acc, F1                   float64
			Threshold                      any
			Recall, Precision, Specificity float64
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) == 0 {
		t.Fatalf("%s holds no cases", path)
	}
	near := func(t *testing.T, what string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= scoreLimit*max(1, math.Abs(want))) {
			t.Errorf("%s is %.9g, want %.9g", what, got, want)
		}
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			mean, deviation := inpaint.Moments(c.Train)
			near(t, "μ", mean, c.Mu)
			near(t, "σ", deviation, c.Sigma)
			s := nn.NewScope(1)
			verdict := inpaint.NewVerdict(s)
			normality := verdict.Normality(s, nn.Consts(s, c.Logits, len(c.Logits)))
			release, paper := nn.Sigmoid(s, nn.Neg(s, normality)), nn.Sigmoid(s, normality)
			x := newSession(t, s)
			for v, at := range map[*nn.Variable]float64{verdict.Mean: mean, verdict.Deviation: deviation} {
				if err := x.Set(v, v.Shape, []float32{float32(at)}); err != nil {
					t.Fatal(err)
				}
			}
			out, err := x.Run(nil, []tf.Output{release, paper})
			if err != nil {
				t.Fatal(err)
			}
			v := [][]float32{session.Values(out[0]), session.Values(out[1])}
			if len(v[0]) != len(c.Release) || len(v[1]) != len(c.Paper) {
				t.Fatalf("%d scores, want %d", len(v[0]), len(c.Release))
			}
			in := metric.Input{}
			for i := range v[0] {
				near(t, "release score", float64(v[0][i]), c.Release[i])
				near(t, "paper score", float64(v[1][i]), c.Paper[i])
				in.Scores, in.Abnormal = append(in.Scores, float64(v[0][i])), append(in.Abnormal, c.Labels[i] == 1)
			}
			auc, err := metric.AUROC(in.Scores, in.Abnormal)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "AUC", 100*auc, c.AUC)
			for name, want := range map[string]float64{
				"acc@acc-test": c.Acc, "f1@acc-test": c.F1, "sens@acc-test": c.Recall,
				"prec@acc-test": c.Precision, "spec@acc-test": c.Specificity,
			} {
				spec, err := metric.Parse(name)
				if err != nil {
					t.Fatal(err)
				}
				figure := spec.Eval(in)
				threshold, predicts := c.Threshold.(float64)
				if !predicts { // "predict none": precision has no value
					if figure.OK != (spec.Name != "prec@acc-test") || figure.OK && !math.IsInf(figure.Threshold, 1) {
						t.Errorf("%s: threshold %g, want infinity", name, figure.Threshold)
					}
					if !figure.OK {
						continue
					}
					threshold = figure.Threshold
				}
				near(t, name, 100*figure.Value, want)
				if predicts {
					near(t, "threshold", figure.Threshold, threshold)
				}
			}
		})
	}
}
