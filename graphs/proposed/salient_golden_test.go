package proposed

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/framework/train"
	"thorax/graphs/golden"
	"thorax/graphs/nn"
	"thorax/graphs/optim"
	"thorax/graphs/salient"
	"thorax/graphs/session"
	"thorax/graphs/weights"
)

// A salientGolden is golden/salient_ct: sizes come from its files.
type salientGolden struct {
	m       *SalientCT
	k       *golden.Tracker // of the file under test
	in      framework.Inputs
	x       *tf.Tensor               // images [B,S,S,1]
	inputs  map[string]weights.Array // inputs.safetensors
	entries map[string]salient.Entry // by official key
	values  map[string][]float32     // of variables, by path
}

// openSalient reads inputs and weights and the file under test. decoder is the
// path of the official decoder_ori.
func openSalient(t *testing.T, file, decoder string) *salientGolden {
	t.Helper()
	dir := golden.Dir(t, "salient_ct")
	g := &salientGolden{
		m: NewSalientCT(), k: golden.Open(t, "salient_ct/"+file+".safetensors"),
		inputs:  golden.Load(t, filepath.Join(dir, "inputs.safetensors")),
		entries: map[string]salient.Entry{}, values: map[string][]float32{},
	}
	g.k.Case(file)
	state := golden.Load(t, filepath.Join(dir, "weights.safetensors"))
	g.m.Quantiser.Codes = state["embedding.codebooks.0.weight"].Shape[0] - 1
	g.m.Quantiser.Restart = false
	g.m.Classifier.Layers, g.m.Classifier.Dropout = 0, 0
	for key := range state {
		if strings.HasSuffix(key, "to_qkv.weight") {
			g.m.Classifier.Layers++
		}
	}
	images := g.inputs["x"] // [B,1,S,S]
	b, size := images.Shape[0], images.Shape[2]
	g.in = framework.Inputs{Images: b, Batch: b, Rows: b, Size: size}
	v, err := images.Float32()
	if err != nil {
		t.Fatal(err)
	}
	g.x = session.Floats([]int{b, size, size, 1}, v)

	list := slices.Concat(
		salient.EncoderEntries("encoder.", "encoder"),
		salient.CodebookEntries("embedding.", "quantiser", g.m.Quantiser),
		salient.DecoderEntries("decoder.decoder_ori.", decoder))
	if decoder == "decoder_ori" {
		list = append(list, salient.DecoderEntries("decoder.decoder_vit.", "decoder_vit")...)
		list = append(list, salient.ClassifierEntries("decoder.", "classifier", g.m.Classifier, size*size/64, false)...)
	}
	for _, e := range list {
		a, ok := state[e.Key]
		if !ok { // a kernel of decoder_vit: the other's, backwards
			a = state[strings.Replace(e.Key, "decoder_vit", "decoder_ori", 1)]
			v, err := a.Float32()
			if err != nil {
				t.Fatal(err)
			}
			v = slices.Clone(v)
			slices.Reverse(v)
			a = weights.Float32Array(a.Shape, v)
		}
		if g.values[e.Path], err = e.Import(a); err != nil {
			t.Fatal(err)
		}
		g.entries[e.Key] = e
	}
	return g
}

// stepper builds the method and gives every variable its golden value.
func (g *salientGolden) stepper(t *testing.T, phase int) *train.Stepper {
	t.Helper()
	if err := g.m.Check(); err != nil {
		t.Fatal(err)
	}
	st, err := train.NewStepper(g.m, 1, g.in, 3, session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Session.Close() })
	st.Phase = phase
	g.load(t, st.Scope(), st.Session)
	return st
}

func (g *salientGolden) load(t *testing.T, s *nn.Scope, x *session.Session) {
	t.Helper()
	l := x.Loader()
	set := 0
	for _, v := range s.Variables() {
		if value, ok := g.values[v.Path]; ok {
			if err := l.Set(v, session.Floats(v.Shape, value)); err != nil {
				t.Fatal(err)
			}
			set++
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if set == 0 {
		t.Fatal("no variable was set")
	}
}

// A measured tensor is ours, to be compared with a golden one within limit,
// absolute or relative to the largest.
type measured struct {
	name     string
	y        tf.Output
	limit    float64
	relative bool
}

func near(name string, y tf.Output, limit float64) measured { return measured{name, y, limit, false} }

// compare runs and compares; images of the golden files are [B,C,H,W]. It
// returns what else was fetched.
func (g *salientGolden) compare(t *testing.T, x *session.Session, feeds map[tf.Output]*tf.Tensor, list []measured, more ...tf.Output) []*tf.Tensor {
	t.Helper()
	var fetch []tf.Output
	for _, p := range list {
		fetch = append(fetch, p.y)
	}
	out, err := x.Run(feeds, append(fetch, more...))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range list {
		got := session.Values(out[i])
		if shape := out[i].Shape(); len(shape) == 4 {
			got = channelsFirst([]int{int(shape[0]), int(shape[1]), int(shape[2]), int(shape[3])}, got)
		}
		g.near(t, p, got)
	}
	return out[len(list):]
}

// near fails where a value is further off than the limit.
func (g *salientGolden) near(t *testing.T, p measured, got []float32) {
	t.Helper()
	want := floats(t, g.k.Get(p.name))
	largest := 0.0
	for _, w := range want {
		largest = max(largest, math.Abs(w))
	}
	limit := p.limit
	if p.relative {
		limit *= largest
	}
	g.k.Compare(p.name, got, limit/max(largest, 1e-30))
}

// firsts is the start of each row of v.
func firsts(rows, n int, v []float32) []float32 {
	var out []float32
	for i := range rows {
		out = append(out, v[i*len(v)/rows:][:n]...)
	}
	return out
}

// official returns our tensor of an official key, from the variables' values.
func (g *salientGolden) official(t *testing.T, key string, value func(path string) []float32) []float32 {
	t.Helper()
	e, ok := g.entries[key]
	if !ok {
		t.Fatalf("no variable for %s", key)
	}
	v, err := e.Export(value(e.Path))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// roundings is how often a step may be taken. Where an activation lies within
// rounding of a ReLU's kink, the kernels decide whether it is on, and the
// gradients of all layers before it move by 1e-3. So the step is taken again from
// weights moved by one unit in the last place, which throws those dice anew: a
// wrong gradient is wrong every time.
const roundings = 6

// A trained part is what a training step changes: its variables and the path of
// their slots in the optimiser.
type trained struct {
	vars  []*nn.Variable
	slots string
	adam  optim.Adam
}

// learned takes a training step and compares its loss, called name, and the
// gradients, first updates and batch norms of one of several roundings. It
// returns the variables after that step.
func (g *salientGolden) learned(t *testing.T, st *train.Stepper, feeds map[tf.Output]*tf.Tensor, p trained, name string, loss float64) (after func(path string) []float32) {
	t.Helper()
	s, x := st.Scope(), st.Session
	start, err := x.Get(s.Variables())
	if err != nil {
		t.Fatal(err)
	}
	var first []string
	for n := range roundings {
		before := g.round(t, s, x, start, p.vars, n)
		losses, err := st.Step(0, feeds)
		if err != nil {
			t.Fatal(err)
		}
		after = variables(t, s, x)
		if !(math.Abs(losses[name]-loss) <= 1e-5*loss) {
			t.Errorf("the step's loss is %g, want %g", losses[name], loss)
		}
		wrong := g.wrong(t, p, before, after)
		if len(wrong) == 0 {
			t.Logf("agrees in rounding %d of %d", n+1, roundings)
			return after
		}
		if n == 0 {
			first = wrong
		}
	}
	for _, w := range first {
		t.Error(w)
	}
	t.Errorf("so it is, or like it, in each of %d roundings", roundings)
	return after
}

// round gives all variables their values at the start, but vars, moved by at
// most one unit in the last place: none in rounding 0. It returns the values of vars.
func (g *salientGolden) round(t *testing.T, s *nn.Scope, x *session.Session, start []*tf.Tensor, vars []*nn.Variable, n int) func(path string) []float32 {
	t.Helper()
	moved := map[string][]float32{}
	for i, v := range vars {
		w := slices.Clone(g.values[v.Path])
		rng := rand.New(rand.NewPCG(uint64(n), uint64(i)))
		for j := range w {
			if n > 0 {
				w[j] = math.Nextafter32(w[j], float32(math.Inf(2*rng.IntN(2)-1)))
			}
		}
		moved[v.Path] = w
	}
	l := x.Loader()
	for i, v := range s.Variables() {
		value := start[i]
		if w, ok := moved[v.Path]; ok {
			value = session.Floats(v.Shape, w)
		}
		if err := l.Set(v, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	return func(path string) []float32 { return moved[path] }
}

// wrong says what is wrong with the gradients, first updates and batch norms of
// a step, for every variable: those that have no golden gradient have no business
// here. The gradients are what Adam's first moments hold.
func (g *salientGolden) wrong(t *testing.T, p trained, before, after func(path string) []float32) (list []string) {
	t.Helper()
	say := func(format string, a ...any) { list = append(list, fmt.Sprintf(format, a...)) }
	gradient := func(path string) []float32 {
		g := slices.Clone(after(p.slots + path + "/m"))
		for i := range g {
			g[i] /= float32(1 - p.adam.Beta1)
		}
		return g
	}
	left := map[string]bool{}
	for _, v := range p.vars {
		left[v.Path] = true
	}
	var distances []float64
	for key, e := range g.entries {
		if !left[e.Path] {
			continue
		}
		delete(left, e.Path)
		ours := g.official(t, key, gradient)
		old, now := g.official(t, key, before), g.official(t, key, after)
		delta := make([]float32, len(now))
		for i := range delta {
			delta[i] = now[i] - old[i]
		}
		for i, d := range delta {
			rule := -p.adam.LR * float64(ours[i]) / (math.Abs(float64(ours[i])) + 1e-8)
			if off := math.Abs(float64(d) - rule); !(off <= 2e-6+2e-7*math.Abs(float64(old[i]))) {
				say("%s[%d] moves by %g, its gradient %g says %g", key, i, d, ours[i], rule)
				break
			}
		}
		for kind, v := range map[string][]float32{"grad": ours, "delta": delta} {
			name := kind + "/" + key
			if !slices.Contains(g.k.Names(name), name) {
				want := floats(t, g.k.Get(kind+"_l2/"+key))[0]
				if got := norm(v); !(math.Abs(got-want) <= 1e-2*want) {
					say("%s of %s has norm %g, want %g", kind, key, got, want)
				}
				name, v = kind+"_first64/"+key, v[:64]
			}
			want := floats(t, g.k.Get(name))
			limit := 2.1 // a wrong sign, counted below, is off by 2
			if kind == "grad" {
				limit = 5e-2
			}
			if err := g.k.Difference(name, v, limit); err != nil {
				say("%v", err)
			}
			if kind == "grad" {
				d := distance(v, want)
				distances = append(distances, d)
				if !(d <= 1e-2) {
					say("%s is off by %.3g in the L2 norm, allowed 1e-2", name, d)
				}
				continue
			}
			flipped := 0
			for i, w := range want {
				if !(math.Abs(float64(v[i])-w) <= 2e-6) {
					flipped++
				}
			}
			if flipped > max(3*len(v)/100, 1) {
				say("%s: %d of %d values are off by more than 2e-6", name, flipped, len(v))
			}
		}
	}
	for path := range left {
		say("%s is trained here, and not in the official code", path)
	}
	slices.Sort(distances)
	middle, worst := distances[len(distances)/2], distances[len(distances)-1]
	t.Logf("gradients are off by %.2g (median) and %.2g (worst) in the L2 norm", middle, worst)
	if !(middle <= 1e-3) {
		say("gradients are off by %.3g in the median, allowed 1e-3", middle)
	}
	for _, name := range g.k.Names("bn_after/") {
		key := strings.TrimPrefix(name, "bn_after/")
		g.near(t, measured{name, tf.Output{}, 1e-5, true}, g.official(t, key, after))
	}
	return list
}

// variables returns the values of those of s by path.
func variables(t *testing.T, s *nn.Scope, x *session.Session) func(path string) []float32 {
	t.Helper()
	var vars []*nn.Variable
	for _, v := range s.Variables() {
		if v.DType == tf.Float && !strings.HasSuffix(v.Path, "/v") {
			vars = append(vars, v)
		}
	}
	out, err := x.Get(vars)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]float32{}
	for i, v := range vars {
		all[v.Path] = session.Values(out[i])
	}
	return func(path string) []float32 {
		if all[path] == nil {
			t.Fatalf("no value of %s", path)
		}
		return all[path]
	}
}

func TestGoldenSalientStage1(t *testing.T) {
	g := openSalient(t, "stage1", "decoder")
	g.m.Scale, g.m.Stage1 = "stage1", 1
	st := g.stepper(t, 0)
	s, x, image := st.Scope(), st.Session, st.Inputs.Image
	a := g.m.autoencode(s, image) // once more, for what a step does not show
	vars := append(s.In("encoder").Trainable(), s.In("decoder").Trainable()...)
	feeds := map[tf.Output]*tf.Tensor{image: g.x}
	g.compare(t, x, feeds, []measured{
		near("z", a.z, 1e-4), near("codes", nn.Cast(s, a.q.Codes, tf.Float), 0), near("rec", a.recon, 1e-4),
		{"mse", a.error, 1e-5, true}, {"commitment", a.q.Commitment, 1e-5, true}, {"loss", a.loss, 1e-5, true},
	})
	after := g.learned(t, st, feeds, trained{vars, "optimizer/stage1/stage1/", g.m.Learn.Adam}, "stage1", floats(t, g.k.Get("loss"))[0])

	// The codebook after the step: its first columns and the norms of its rows.
	k := g.m.Quantiser.Codes
	counts := g.official(t, "embedding.codebooks.0.cluster_size_ema", after)
	g.near(t, measured{"ema_after/cluster_size_ema", tf.Output{}, 1e-5, true}, counts)
	for _, name := range []string{"weight", "embed_ema"} {
		v := g.official(t, "embedding.codebooks.0."+name, after)
		columns := g.k.Get("ema_after/" + name + "_first16cols").Shape[1]
		g.near(t, measured{"ema_after/" + name + "_first16cols", tf.Output{}, 1e-5, true}, firsts(k, columns, v))
		var lengths []float32
		for i := range k {
			lengths = append(lengths, float32(norm(v[i*salient.Channels:][:salient.Channels])))
		}
		g.near(t, measured{"ema_after/" + name + "_row_l2", tf.Output{}, 1e-5, true}, lengths)
	}
	for _, name := range g.k.Names("tap") {
		g.k.Skip(name, "the encoder's own test compares it")
	}
}

// only returns the one operation of the graph, of those that were there before
// the test added its own, whose first output has the type and shape.
func only(t *testing.T, ops []tf.Operation, kind string, shape ...int64) tf.Output {
	t.Helper()
	var found []tf.Output
	for i := range ops {
		o := &ops[i]
		if o.Type() != kind {
			continue
		}
		if got, err := o.Output(0).Shape().ToSlice(); err == nil && slices.Equal(got, shape) {
			found = append(found, o.Output(0))
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d operations %s of shape %v, need 1", len(found), kind, shape)
	}
	return found[0]
}

func TestGoldenSalientStage2(t *testing.T) {
	for _, mode := range []salient.Reading{salient.Corrected, salient.Faithful} {
		t.Run(string(mode), func(t *testing.T) { stage2(t, mode) })
	}
}

func stage2(t *testing.T, mode salient.Reading) {
	g := openSalient(t, "stage2_"+string(mode), "decoder_ori")
	g.m.Mode = mode
	r := g.m.Under(mode)
	phase := 1
	if g.m.cached() != (mode == salient.Corrected) {
		t.Fatalf("candidates of mode %s are cached: %v", mode, g.m.cached())
	}
	if g.m.cached() {
		phase = 2
	}
	st := g.stepper(t, phase)
	s, x, image := st.Scope(), st.Session, st.Inputs.Image
	ops := s.Graph().Operations()

	// What the golden files give: the permutation, and with mode faithful the
	// eigenvectors.
	feeds := map[tf.Output]*tf.Tensor{image: g.x}
	perm := g.inputs["perm_"+string(mode)]
	order := floats(t, perm)
	b, p := perm.Shape[0], perm.Shape[1]
	draw := make([]float32, len(order))
	for i := range draw {
		draw[i/p*p+int(order[i])] = 1 - (float32(i%p)+0.5)/float32(p)
	}
	given := session.Floats([]int{b, p}, draw)
	feeds[only(t, ops, "StatelessRandomUniform", int64(b), int64(p))] = given

	// The same graph once more, for what a step does not show.
	z, q := g.m.encode(s.Inference(), image)
	c, f := g.m.choose(s.In("candidates"), nn.StopGradient(s, tokens(s, z)), q)
	if mode == salient.Faithful {
		a := g.inputs["eigvecs"]
		v := floats(t, a)
		vectors, err := tf.NewTensor(cube(v, a.Shape))
		if err != nil {
			t.Fatal(err)
		}
		shape := []int64{int64(a.Shape[0]), int64(a.Shape[1]), int64(a.Shape[2])}
		feeds[only(t, ops, f.eigenvectors.Op.Type(), shape...)] = vectors
		feeds[f.eigenvectors] = vectors
	} else {
		prepared, _ := g.m.prepare(s, st.Inputs)
		numbers := make([]int64, b)
		for i := range numbers {
			numbers[i] = int64(i)
		}
		feeds[st.Inputs.Index] = session.Ints([]int{b}, numbers)
		fill(t, prepared.Fit, x, feeds)
	}
	y := g.m.play(s, image, c)
	feeds[y.draw] = given
	corrupted := salient.Decode(s.In("decoder_ori"), grid(s, nn.StopGradient(s, y.replaced), nn.Height(s, z)))
	_, unweighted := r.CrossEntropies(s, y.logits, y.mask, y.mask, 0)
	var vars []*nn.Variable
	for _, part := range []string{"decoder_ori", "decoder_vit", "classifier"} {
		vars = append(vars, s.In(part).Trainable()...)
	}
	total := g.m.Loss.total(s, y.terms)
	float := func(y tf.Output) tf.Output { return nn.Cast(s, y, tf.Float) }
	n := nn.Dim(s, c.order, 1)
	at := nn.Slice(s, f.order, []int{0, 0}, []int{-1, n})
	pick := func(x, index tf.Output) tf.Output {
		o := s.Op("pick")
		return op.GatherV2(o, x, index, op.Const(o, int32(1)), op.GatherV2BatchDims(1))
	}
	variance, mean := r.Residual(s, y.repaired, image)
	list := []measured{
		near("codes", float(q.Codes), 0), {"commitment", q.Commitment, 1e-5, true},
		near("V", r.Variance(s, tokens(s, z)), 1e-5), near("H", r.Entropy(s, tokens(s, z), f.eigenvectors), 5e-4), near("s", f.score, 5e-4),
		near("query_first64", nn.Slice(s, f.query, []int{0, 0, 0}, []int{-1, -1, 64}), 1e-4),
		near("chosen", float(y.chosen), 0), near("q_tilde", y.replaced, 1e-4), near("logits", y.logits, 1e-5),
		near("logits_anom", pick(y.logits, at), 1e-5),
		near("rec", y.rec, 1e-4), near("rec_v", y.repaired, 1e-4),
		near("w_var", variance, 1e-5), near("w_mean", mean, 1e-5), near("w", y.reliability, 1e-5),
		near("w_anom", pick(y.reliability, at), 1e-5), near("w_anom_scaled", pick(y.weights, at), 1e-5),
		{"mse_rec", y.terms["reconstruction"], 1e-5, true}, {"mse_rec_v", y.terms["repair"], 1e-5, true},
		{"ce_normal", y.terms["normal"], 1e-5, true}, {"ce_anom_weighted", y.terms["anomalous"], 1e-5, true},
		{"ce_anom_plain", unweighted, 1e-5, true},
		{"total", nn.Add(s, total, q.Loss), 1e-5, true},
	}
	if mode == salient.Faithful {
		list = append(list, near("rec_c", corrupted, 1e-4))
	}
	out := g.compare(t, x, feeds, list, float(f.order), float(f.near), y.logits)
	g.positions(t, n, session.Values(out[0]), session.Values(out[2]))
	g.sets(t, "knn", nn.Dim(s, f.near, 2), session.Values(out[1]))

	loss := floats(t, g.k.Get("total"))[0] - floats(t, g.k.Get("commitment"))[0]
	after := g.learned(t, st, feeds, trained{vars, "optimizer/stage2/stage2/", g.m.Adam}, "stage2", loss)
	for _, e := range g.entries { // the first stage is frozen
		first := strings.HasPrefix(e.Path, "encoder/") || strings.HasPrefix(e.Path, "quantiser/")
		if first && !slices.Equal(after(e.Path), g.values[e.Path]) {
			t.Errorf("stage 2 changes %s", e.Path)
		}
	}
}

// positions compares the order of positions: the first n exactly, the others,
// which are the normal ones, as sets, with the logits there.
func (g *salientGolden) positions(t *testing.T, n int, order, logits []float32) {
	t.Helper()
	want, normal := g.k.Get("order"), floats(t, g.k.Get("index_normal"))
	b, hw := want.Shape[0], want.Shape[1]
	golden := floats(t, want)
	var picked []float32
	for i := range b {
		ours := order[i*hw:][:hw]
		for j := range n {
			if float64(ours[j]) != golden[i*hw+j] {
				t.Errorf("image %d: position %d in order is %g, want %g", i, j, ours[j], golden[i*hw+j])
			}
		}
		rest := normal[i*len(normal)/b:][:len(normal)/b]
		for _, p := range rest {
			picked = append(picked, logits[(i*hw+int(p))*2:][:2]...)
		}
		if got := sorted(ours[n:]); !slices.Equal(got, sorted(rest)) {
			t.Errorf("image %d: normal positions %v, want %v", i, got, sorted(rest))
		}
	}
	g.near(t, near("logits_norm", tf.Output{}, 1e-5), picked)
	g.k.Compare("order", order, 1) // counts it
	g.k.Compare("index_normal", func() []float32 {
		var all []float32
		for i := range b {
			all = append(all, order[i*hw+n:(i+1)*hw]...)
		}
		return all
	}(), 1)
}

// sets compares rows of n numbers whatever their order: near ties may swap.
func (g *salientGolden) sets(t *testing.T, name string, n int, got []float32) {
	t.Helper()
	want := floats(t, g.k.Get(name))
	for i := 0; i+n <= len(got); i += n {
		if a, b := sorted(got[i:i+n]), sorted(want[i:i+n]); !slices.Equal(a, b) {
			t.Errorf("%s, row %d: %v, want %v", name, i/n, a, b)
		}
	}
	g.k.Compare(name, got, 1) // counts it
}

func sorted[T float32 | float64](v []T) []int {
	out := make([]int, len(v))
	for i, x := range v {
		out[i] = int(x)
	}
	slices.Sort(out)
	return out
}

// cube is v, row-major, as nested slices of the given lengths.
func cube(v []float64, shape []int) [][][]float64 {
	out := make([][][]float64, shape[0])
	for i := range out {
		out[i] = make([][]float64, shape[1])
		for j := range out[i] {
			out[i][j] = v[(i*shape[1]+j)*shape[2]:][:shape[2]]
		}
	}
	return out
}

// fill runs a fit on batches and gives its variables their values.
func fill(t *testing.T, f *framework.Fit, x *session.Session, batches ...map[tf.Output]*tf.Tensor) {
	t.Helper()
	for _, feeds := range batches {
		out, err := x.Run(feeds, f.Outputs)
		if err != nil {
			t.Fatal(err)
		}
		rows := make([]framework.Rows, len(out))
		for i, o := range out {
			rows[i] = framework.Rows{N: int(o.Shape()[0]), V: session.Values(o)}
		}
		if err := f.Batch(rows); err != nil {
			t.Fatal(err)
		}
	}
	values, err := f.Done()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		ints := make([]int64, len(v.V))
		for i, n := range v.V {
			ints[i] = int64(n)
		}
		if err := x.SetInts(v.Variable, v.Shape, ints); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGoldenSalientScoring(t *testing.T) {
	g := openSalient(t, "test", "decoder_ori")
	s := nn.NewScope(1)
	image := placeholder(s, g.in.Batch, g.in.Size)
	e := s.Inference()
	z, q := g.m.encode(e, image)
	side := nn.Height(s, z)
	logits := g.m.Classifier.Build(e.In("classifier"), tokens(s, q.Q), false)
	probability, _ := g.m.judge(e, image, q)
	cells := nn.MaxPool(s, nn.ExpandDims(s, probability, -1), 8, 8, nn.Valid)
	mean := g.m.Score(e, image)
	g.m.Scale = "sum"
	sum := g.m.Score(e, image)
	list := []measured{
		near("z", z, 1e-4), near("q", q.Q, 1e-4), near("codes", nn.Cast(s, q.Codes, tf.Float), 0), near("logits", logits, 1e-5),
		near("prob", grid(s, salient.Probability(s, logits), side), 1e-5),
		near("prob_thresholded", cells, 1e-5), near("upsampled", nn.ExpandDims(s, probability, -1), 1e-5),
		near("rec", salient.Decode(e.In("decoder_ori"), q.Q), 1e-4), near("rec_v", salient.Decode(e.In("decoder_vit"), q.Q), 1e-4),
		near("map", nn.ExpandDims(s, mean.Map, -1), 1e-4), near("score_A", mean.Image, 1e-6), near("score_B", sum.Image, 1e-3),
	}
	x := newSession(t, s)
	g.load(t, s, x)
	g.compare(t, x, map[tf.Output]*tf.Tensor{image: g.x}, list)
}
