package metric

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// pixelVector is a hand-made 5×4 example with figures computed independently: one
// abnormal image with two lesions, one normal image.
func pixelVector() Input {
	mask := make([]bool, 20)
	for _, i := range []int{0, 1, 13, 14, 18, 19} {
		mask[i] = true
	}
	return Input{
		Scores: []float64{1, 0}, Abnormal: []bool{true, false}, W: 5, H: 4,
		Maps: [][]float32{
			{9, 4, 1, 1, 1, 1, 2, 1, 1, 3, 1, 1, 1, 8, 6, 1, 1, 5, 2, 7},
			{1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 6, 1, 1, 1, 1, 1, 1, 2},
		},
		Masks: [][]bool{mask, nil},
	}
}

func TestPixelVectors(t *testing.T) {
	in := pixelVector()
	for _, tt := range []struct {
		metric string
		want   float64
	}{
		{"aupro@.05", .588235}, {"aupro@.1", .709559}, {"aupro@.3", .883578}, {"aupro@1", .965074},
		{"pixel-auroc", .963235}, {"pixel-ap", .835714}, {"pixel-auprc", .853042},
		{"dice@best", .769231}, {"iou@best", .625},
		{"pixel-auroc:abnormal", .958333}, {"pixel-ap:abnormal", .916667}, {"dice@best:abnormal", .833333},
		{"dice-mean@best", .833333}, // one abnormal image
	} {
		f := parse(t, tt.metric).Eval(in)
		if !f.OK {
			t.Errorf("%s: %s", tt.metric, f.Reason)
		}
		near(t, tt.metric, f.Value, tt.want, 5e-7)
	}
	near(t, "best Dice threshold", parse(t, "dice@best").Eval(in).Threshold, 4, 0)
}

// randomPixels has n images with a few lesions and values with ties.
func randomPixels(r *rand.Rand, n, w, h, levels int) Input {
	in := Input{W: w, H: h}
	for i := range n {
		values, mask := make([]float32, w*h), make([]bool, w*h)
		for j := range values {
			mask[j] = i%2 == 0 && r.IntN(5) == 0
			values[j] = float32(r.IntN(levels)-levels/3) / 7
			if mask[j] {
				values[j] += float32(r.IntN(levels)) / 14
			}
		}
		mask[0] = mask[0] || i == 0
		in.Maps, in.Masks = append(in.Maps, values), append(in.Masks, mask)
		in.Abnormal, in.Scores = append(in.Abnormal, i%2 == 0), append(in.Scores, float64(i))
	}
	for range 3 {
		values := make([]float32, w*h)
		for j := range values {
			values[j] = float32(r.IntN(levels)-levels/3) / 7
		}
		in.ValidationMaps = append(in.ValidationMaps, values)
	}
	return in
}

func flatten(in Input, abnormalOnly bool) (scores []float64, lesion []bool) {
	for i, values := range in.Maps {
		if abnormalOnly && !in.Abnormal[i] {
			continue
		}
		for j, v := range values {
			scores, lesion = append(scores, float64(v)), append(lesion, in.Masks[i][j])
		}
	}
	return scores, lesion
}

// TestPixelsAgainstPlain compares every pixel metric with a plain computation
// from its definition.
func TestPixelsAgainstPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 40 {
		in := randomPixels(r, 2+r.IntN(5), 1+r.IntN(9), 3+r.IntN(9), 2+r.IntN(40))
		value := func(name string) float64 {
			f := parse(t, name).Eval(in)
			if !f.OK {
				t.Fatalf("%s: %s", name, f.Reason)
			}
			return f.Value
		}
		for _, abnormalOnly := range []bool{false, true} {
			scores, lesion := flatten(in, abnormalOnly)
			suffix := ""
			if abnormalOnly {
				suffix = ":abnormal"
			}
			auroc, err := AUROC(scores, lesion)
			if err != nil {
				t.Fatal(err)
			}
			ap, _ := AveragePrecision(scores, lesion)
			auprc, _ := AUPRCTrapezoid(scores, lesion)
			near(t, "pixel-auroc"+suffix, value("pixel-auroc"+suffix), auroc, 1e-12)
			near(t, "pixel-ap"+suffix, value("pixel-ap"+suffix), ap, 1e-12)
			near(t, "pixel-auprc"+suffix, value("pixel-auprc"+suffix), auprc, 1e-12)
			best := 0.
			for _, at := range scores {
				best = max(best, plainDice(scores, lesion, at))
			}
			near(t, "dice@best"+suffix, value("dice@best"+suffix), best, 1e-12)
			near(t, "iou@best"+suffix, value("iou@best"+suffix), best/(2-best), 1e-12)
		}
		scores, lesion := flatten(in, false)
		var validation []float64
		for _, values := range in.ValidationMaps {
			for _, v := range values {
				validation = append(validation, float64(v))
			}
		}
		at, _ := Quantile(validation, .1)
		near(t, "dice@q-val.10", value("dice@q-val.10"), plainDice(scores, lesion, at), 1e-12)
		abnormalScores, abnormalLesion := flatten(in, true)
		near(t, "dice@q-val.10:abnormal", value("dice@q-val.10:abnormal"), plainDice(abnormalScores, abnormalLesion, at), 1e-12)
		near(t, "dice-mean@q-val.10", value("dice-mean@q-val.10"), plainMeanDice(in, at), 1e-12)
		top, _ := Quantile(validation, 0)
		near(t, "dice@max-val", value("dice@max-val"), plainDice(scores, lesion, top), 1e-12)
		best := 0.
		for _, at := range scores {
			best = max(best, plainMeanDice(in, at))
		}
		near(t, "dice-mean@best", value("dice-mean@best"), best, 1e-9)
		for _, limit := range []string{".05", ".3", "1"} {
			near(t, "aupro@"+limit, value("aupro@"+limit), plainAUPRO(in, parse(t, "aupro@"+limit).value), 1e-9)
		}
	}
}

// TestPixelsMonotone: neither an increasing map of all values nor the order of the
// images changes a pixel metric.
func TestPixelsMonotone(t *testing.T) {
	var specs []Spec
	for _, name := range Names() {
		if s := parse(t, name); s.Masks() && !s.inLungs && s.base != "aupimo" {
			specs = append(specs, s)
		}
	}
	in := randomPixels(rand.New(rand.NewPCG(16, 16)), 8, 9, 7, 30)
	other := Input{W: in.W, H: in.H}
	cube := func(values []float32) []float32 {
		out := make([]float32, len(values))
		for i, v := range values {
			v = float32(math.Round(14 * float64(v))) // the values are multiples of 1/14
			out[i] = v*v*v - 5
		}
		return out
	}
	for _, i := range rand.New(rand.NewPCG(17, 17)).Perm(len(in.Maps)) {
		other.Maps, other.Masks = append(other.Maps, cube(in.Maps[i])), append(other.Masks, in.Masks[i])
		other.Abnormal = append(other.Abnormal, in.Abnormal[i])
	}
	for _, values := range in.ValidationMaps {
		other.ValidationMaps = append(other.ValidationMaps, cube(values))
	}
	for i := range in.Maps { // sums of fractions that differ in the last bit would be parted
		for j, v := range in.Maps[i] {
			in.Maps[i][j] = float32(math.Round(14 * float64(v)))
		}
	}
	for i := range in.ValidationMaps {
		for j, v := range in.ValidationMaps[i] {
			in.ValidationMaps[i][j] = float32(math.Round(14 * float64(v)))
		}
	}
	want := EvalAll(specs, in)
	for i, f := range EvalAll(specs, other) {
		if !f.OK || !want[i].OK || math.Abs(f.Value-want[i].Value) > 1e-9 {
			t.Errorf("%s = %g (%s), want %g (%s)", f.Name, f.Value, f.Reason, want[i].Value, want[i].Reason)
		}
	}
}

func plainDice(scores []float64, lesion []bool, at float64) float64 {
	var tp, fp, fn float64
	for i, s := range scores {
		switch {
		case s >= at && lesion[i]:
			tp++
		case s >= at:
			fp++
		case lesion[i]:
			fn++
		}
	}
	return 2 * tp / (2*tp + fp + fn)
}

func plainMeanDice(in Input, at float64) float64 {
	var sum, n float64
	for i := range in.Maps {
		one := Input{Maps: in.Maps[i : i+1], Masks: in.Masks[i : i+1], Abnormal: in.Abnormal[i : i+1]}
		scores, lesion := flatten(one, true)
		if !slices.Contains(lesion, true) {
			continue
		}
		sum += plainDice(scores, lesion, at)
		n++
	}
	return sum / n
}

// plainAUPRO finds regions by repeated merging and counts anew at every threshold.
func plainAUPRO(in Input, limit float64) float64 {
	type pixel struct{ image, x, y int }
	number := map[pixel]int{}
	for i, mask := range in.Masks {
		for j, is := range mask {
			if is {
				number[pixel{i, j % in.W, j / in.W}] = len(number)
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for p, n := range number {
			for dy := -1; dy <= 1; dy++ {
				for dx := -1; dx <= 1; dx++ {
					if m, ok := number[pixel{p.image, p.x + dx, p.y + dy}]; ok && m < n {
						number[p], n, changed = m, m, true
					}
				}
			}
		}
	}
	size := map[int]float64{}
	for _, n := range number {
		size[n]++
	}
	scores, lesion := flatten(in, false)
	var other float64
	for _, is := range lesion {
		if !is {
			other++
		}
	}
	points, err := ROC(scores, lesion) // for its distinct thresholds
	if err != nil {
		panic(err)
	}
	var area, lastFPR, lastPRO float64
	for _, point := range points {
		hit := map[int]float64{}
		var fp float64
		for i, values := range in.Maps {
			for j, v := range values {
				if float64(v) < point.Threshold {
					continue
				}
				if n, ok := number[pixel{i, j % in.W, j / in.W}]; ok {
					hit[n]++
				} else {
					fp++
				}
			}
		}
		var pro float64
		for n, h := range hit {
			pro += h / size[n] / float64(len(size))
		}
		fpr := fp / other
		if fpr > limit {
			end := lastPRO + (pro-lastPRO)*(limit-lastFPR)/(fpr-lastFPR)
			return (area + (limit-lastFPR)*(lastPRO+end)/2) / limit
		}
		area += (fpr - lastFPR) * (pro + lastPRO) / 2
		lastFPR, lastPRO = fpr, pro
	}
	return area / limit
}

// TestAUPIMO compares with a Riemann sum of the definition over ln FPR.
func TestAUPIMO(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	in := randomPixels(r, 10, 160, 150, 20000)
	for i := range in.Maps { // heavy tail: lesions reach the values of the top normals
		for j, is := range in.Masks[i] {
			if is {
				in.Maps[i][j] += float32(1500 * r.ExpFloat64())
			}
		}
	}
	got, err := AUPIMO(in)
	if err != nil {
		t.Fatal(err)
	}
	var normals []float64
	for i, values := range in.Maps {
		if !in.Abnormal[i] {
			for _, v := range values {
				normals = append(normals, float64(v))
			}
		}
	}
	recall := func(i int, at float64) float64 {
		var hit, lesion float64
		for j, is := range in.Masks[i] {
			if is {
				lesion++
				if float64(in.Maps[i][j]) >= at {
					hit++
				}
			}
		}
		return hit / lesion
	}
	const steps = 2000
	want := make([]float64, len(in.Maps))
	for i := range want {
		last, value := -1, 0.
		for k := range steps {
			rate := pimoLow * math.Pow(10, (float64(k)+.5)/steps)
			if n := allowed(rate, len(normals)); n != last {
				at, err := Quantile(normals, rate)
				if err != nil {
					t.Fatal(err)
				}
				last, value = n, recall(i, at)
			}
			want[i] += value / steps
		}
	}
	sum := 0.
	for i, v := range got {
		if !in.Abnormal[i] {
			if !math.IsNaN(v) {
				t.Errorf("normal image %d has AUPIMO %g", i, v)
			}
			continue
		}
		sum += v
		near(t, "AUPIMO", v, want[i], 2e-3)
	}
	if sum < .1 {
		t.Errorf("sum %g: the example tests nothing", sum)
	}
	near(t, "aupimo", parse(t, "aupimo").Eval(in).Value, sum/5, 1e-12)
}

// TestComponents: diagonal neighbours belong together, image borders part.
func TestComponents(t *testing.T) {
	mask := []bool{
		true, false, false, true,
		false, true, false, false,
		false, false, false, true,
	}
	sizes := label(mask, 4, make([]int32, 12), []int{0})
	if len(sizes) != 4 || sizes[1] != 2 || sizes[2] != 1 || sizes[3] != 1 {
		t.Errorf("sizes %v, want [0 2 1 1]", sizes)
	}
}

func TestSortKeys(t *testing.T) {
	values := []float32{float32(math.Inf(1)), math.MaxFloat32, 1, 1e-40, 0, -1e-40, -1, float32(math.Inf(-1))}
	for i, v := range values {
		if got := keyValue(descendingKey(v)); got != float64(v) {
			t.Errorf("%g comes back as %g", v, got)
		}
		if i > 0 && descendingKey(values[i-1]) >= descendingKey(v) {
			t.Errorf("%g does not come before %g", values[i-1], v)
		}
	}
	if descendingKey(float32(math.Copysign(0, -1))) != descendingKey(0) {
		t.Error("−0 and 0 have different keys")
	}
}

// TestLeftOut: an abnormal image without a mask changes no pixel metric, whatever its map.
func TestLeftOut(t *testing.T) {
	want := pixelVector()
	in := pixelVector()
	in.Scores, in.Abnormal = []float64{1, 5, 0}, []bool{true, true, false}
	in.Maps = [][]float32{in.Maps[0], {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, in.Maps[1]}
	in.Masks = [][]bool{in.Masks[0], nil, nil}
	for _, name := range Names() {
		s := parse(t, name)
		if !s.Masks() || s.Lungs() || s.base == "aupimo" {
			continue
		}
		a, b := s.Eval(want), s.Eval(in)
		if a.OK != b.OK || math.Abs(a.Value-b.Value) > 1e-12 || a.Threshold != b.Threshold {
			t.Errorf("%s: %+v, want %+v", name, b, a)
		}
	}
}

func TestPixelReasons(t *testing.T) {
	for _, tt := range []struct {
		metric, reason string
		change         func(*Input)
	}{
		{"pixel-ap", "no masks", func(in *Input) { in.Masks = nil }},
		{"pixel-ap", "0 lesion and 20 other pixels", func(in *Input) { in.Masks = [][]bool{nil, nil} }},
		{"pixel-ap", "map of test image 2, pixel 1: score is NaN", func(in *Input) { in.Maps[1][0] = float32(math.NaN()) }},
		{"aupro@.3", "map of test image 2: 3 pixels", func(in *Input) { in.Maps[1] = in.Maps[1][:3] }},
		{"pixel-ap", "mask of test image 1: 3 pixels", func(in *Input) { in.Masks[0] = in.Masks[0][:3] }},
		{"pixel-ap", "labelled normal but its mask has a lesion", func(in *Input) { in.Masks[1] = in.Masks[0] }},
		{"pixel-ap", "1 maps and 1 masks for 2", func(in *Input) { in.Maps, in.Masks = in.Maps[:1], in.Masks[:1] }},
		{"pixel-ap", "only one class", func(in *Input) { in.Masks[0] = make([]bool, 20) }},
		{"aupro@.3", "only one class", func(in *Input) { in.Masks[0] = make([]bool, 20) }},
		{"pixel-ap", "5×0 pixels", func(in *Input) { in.H = 0 }},
		{"dice@q-val.01", "no anomaly maps of validation normals", func(*Input) {}},
		{"dice@q-val.01", "map of validation image 1: 2 pixels", func(in *Input) { in.ValidationMaps = [][]float32{{1, 2}} }},
		{"aupimo", "need 100000 to resolve", func(*Input) {}},
	} {
		in := pixelVector()
		tt.change(&in)
		f := parse(t, tt.metric).Eval(in)
		if f.OK || !strings.Contains(f.Reason, tt.reason) {
			t.Errorf("%s: OK %t, %q; want %q", tt.metric, f.OK, f.Reason, tt.reason)
		}
	}
}

// BenchmarkPixels evaluates all pixel metrics on 600 maps of 128×128.
func BenchmarkPixels(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 7))
	in := Input{W: 128, H: 128}
	for i := range 600 {
		values, mask := make([]float32, 128*128), make([]bool, 128*128)
		for j := range values {
			values[j] = r.Float32()
			mask[j] = i%2 == 0 && j%128 < 20 && j/128 < 20
		}
		in.Maps, in.Masks = append(in.Maps, values), append(in.Masks, mask)
		in.Abnormal, in.Scores = append(in.Abnormal, i%2 == 0), append(in.Scores, float64(i))
	}
	in.ValidationMaps = in.Maps[:100]
	var specs []Spec
	for _, name := range Names() {
		if s := parse(b, name); s.Pixel() && !s.Lungs() {
			specs = append(specs, s)
		}
	}
	for b.Loop() {
		for _, f := range EvalAll(specs, in) {
			if !f.OK {
				b.Fatal(f.Reason)
			}
		}
	}
}
