package phantom

import (
	"flag"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"gonum.org/v1/gonum/mat"
)

var full = flag.Bool("full", false, "test the generator on 600 normal and 600 abnormal images a setting, not 100 and 100")

// drawn is a set of images of one modality and level.
type drawn struct {
	normal, abnormal [][]float64 // grey values 0 to 255
	masks            [][]uint8   // of the abnormal ones
	kinds            []string
	size             int
}

// draw renders the test images of a plan on all cores.
func draw(t *testing.T, modality string, level Level, types []string, normal, abnormal int) drawn {
	t.Helper()
	o := DefaultOptions()
	o.Modality, o.Level, o.Types = modality, level, types
	o.Train, o.TestNormal, o.TestAbnormal = 0, normal, abnormal
	// One slice a patient, so that the images are independent.
	plan := o.Plan()
	for i := range plan {
		plan[i].patient, plan[i].image = i, i%slicesPerPatient
	}
	grey, masks := make([][]float64, len(plan)), make([][]uint8, len(plan))
	errs := make([]error, len(plan))
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				image, mask, err := o.Render(plan[i])
				masks[i], errs[i] = mask, err
				grey[i] = make([]float64, len(image))
				for j, v := range image {
					grey[i][j] = float64(v)
				}
			}
		})
	}
	for i := range plan {
		next <- i
	}
	close(next)
	wg.Wait()
	d := drawn{size: o.Size}
	for i, c := range plan {
		switch {
		case errs[i] != nil:
			t.Fatal(errs[i])
		case c.Abnormal:
			d.abnormal, d.masks = append(d.abnormal, grey[i]), append(d.masks, masks[i])
			d.kinds = append(d.kinds, c.Subtype)
		default:
			d.normal = append(d.normal, grey[i])
		}
	}
	return d
}

// auc is the share of pairs (abnormal, normal) in which the abnormal score is
// higher, ties counted as half.
func auc(normal, abnormal []float64) float64 {
	type scored struct {
		v        float64
		abnormal bool
	}
	all := make([]scored, 0, len(normal)+len(abnormal))
	for _, v := range normal {
		all = append(all, scored{v, false})
	}
	for _, v := range abnormal {
		all = append(all, scored{v, true})
	}
	slices.SortFunc(all, func(a, b scored) int {
		switch {
		case a.v < b.v:
			return -1
		case a.v > b.v:
			return 1
		}
		return 0
	})
	var won, below float64
	for i := 0; i < len(all); {
		var n, a float64
		j := i
		for ; j < len(all) && all[j].v == all[i].v; j++ {
			if all[j].abnormal {
				a++
			} else {
				n++
			}
		}
		won += a * (below + n/2)
		below += n
		i = j
	}
	return won / float64(len(normal)) / float64(len(abnormal))
}

func each(images [][]float64, f func([]float64) float64) []float64 {
	out := make([]float64, len(images))
	for i, im := range images {
		out[i] = f(im)
	}
	return out
}

// twoSided is max(AUC, 1-AUC).
func twoSided(d drawn, f func([]float64) float64) float64 {
	a := auc(each(d.normal, f), each(d.abnormal, f))
	return max(a, 1-a)
}

func meanOf(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func deviation(v []float64) float64 {
	m := meanOf(v)
	var ss float64
	for _, x := range v {
		ss += (x - m) * (x - m)
	}
	return math.Sqrt(ss / float64(len(v)))
}

func quantile(p float64) func([]float64) float64 {
	return func(v []float64) float64 {
		return percentile(slices.Sorted(slices.Values(v)), 100*p)
	}
}

// histogram has 32 equal bins, as shares.
func histogram(v []float64) []float64 {
	h := make([]float64, 32)
	for _, x := range v {
		h[int(x)/8] += 1 / float64(len(v))
	}
	return h
}

func entropy(v []float64) float64 {
	var e float64
	for _, p := range histogram(v) {
		if p > 0 {
			e -= p * math.Log(p)
		}
	}
	return e
}

func gradientEnergy(v []float64) float64 {
	n := int(math.Sqrt(float64(len(v))))
	var e float64
	for y := range n - 1 {
		for x := range n - 1 {
			dx, dy := v[y*n+x+1]-v[y*n+x], v[(y+1)*n+x]-v[y*n+x]
			e += dx*dx + dy*dy
		}
	}
	return e
}

// bestThreshold is the best of 63 rules "share of pixels above t", chosen with
// its sign on the test images themselves.
func bestThreshold(d drawn) float64 {
	var best float64
	for t := 4.; t < 256; t += 4 {
		best = max(best, twoSided(d, func(v []float64) float64 {
			var n float64
			for _, x := range v {
				if x > t {
					n++
				}
			}
			return n
		}))
	}
	return best
}

// gaussian is a normal distribution fitted to vectors, with a ridge on the
// covariance relative to its mean variance.
type gaussian struct {
	mean    []float64
	inverse *mat.Dense
}

func fit(vectors [][]float64, ridge float64) gaussian {
	d := len(vectors[0])
	g := gaussian{mean: make([]float64, d), inverse: mat.NewDense(d, d, nil)}
	for _, v := range vectors {
		for i, x := range v {
			g.mean[i] += x / float64(len(vectors))
		}
	}
	cov := mat.NewSymDense(d, nil)
	for _, v := range vectors {
		for i := range d {
			for j := i; j < d; j++ {
				cov.SetSym(i, j, cov.At(i, j)+(v[i]-g.mean[i])*(v[j]-g.mean[j])/float64(len(vectors)))
			}
		}
	}
	trace := mat.Trace(cov) / float64(d)
	for i := range d {
		cov.SetSym(i, i, cov.At(i, i)+ridge*trace+1e-12)
	}
	if err := g.inverse.Inverse(cov); err != nil {
		panic(err)
	}
	return g
}

// distance is the squared Mahalanobis distance.
func (g gaussian) distance(v []float64) float64 {
	d := len(v)
	diff := make([]float64, d)
	for i := range v {
		diff[i] = v[i] - g.mean[i]
	}
	raw := g.inverse.RawMatrix().Data
	var sum float64
	for i := range d {
		for j := range d {
			sum += diff[i] * raw[i*d+j] * diff[j]
		}
	}
	return sum
}

// histogramDistance scores by the Mahalanobis distance of the histogram, whose
// distribution is fitted on the first half of the normals.
func histogramDistance(d drawn) float64 {
	half := len(d.normal) / 2
	fitted := fit(func() (h [][]float64) {
		for _, im := range d.normal[:half] {
			h = append(h, histogram(im))
		}
		return h
	}(), 1e-3)
	score := func(im []float64) float64 { return fitted.distance(histogram(im)) }
	return auc(each(d.normal[half:], score), each(d.abnormal, score))
}

// principalResidual scores by what 60 principal components of the first
// two thirds of the normals leave.
func principalResidual(d drawn) float64 {
	n := len(d.normal) * 2 / 3
	dim := len(d.normal[0])
	mean := make([]float64, dim)
	for _, im := range d.normal[:n] {
		for i, x := range im {
			mean[i] += x / float64(n)
		}
	}
	x := mat.NewDense(n, dim, nil)
	for k, im := range d.normal[:n] {
		row := x.RawRowView(k)
		for i, v := range im {
			row[i] = v - mean[i]
		}
	}
	var gram mat.SymDense
	gram.SymOuterK(1, x)
	var eigen mat.EigenSym
	if !eigen.Factorize(&gram, true) {
		panic("no eigenvalues")
	}
	values := eigen.Values(nil)
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	components := min(60, n/2)
	basis := mat.NewDense(components, dim, nil)
	for k := range components {
		column := n - 1 - k
		weights := mat.NewDense(1, n, nil)
		for i := range n {
			weights.Set(0, i, vectors.At(i, column)/math.Sqrt(values[column]))
		}
		basis.Slice(k, k+1, 0, dim).(*mat.Dense).Mul(weights, x)
	}
	score := func(im []float64) float64 {
		diff := mat.NewVecDense(dim, nil)
		for i, v := range im {
			diff.SetVec(i, v-mean[i])
		}
		var code, back mat.VecDense
		code.MulVec(basis, diff)
		back.MulVec(basis.T(), &code)
		diff.SubVec(diff, &back)
		return mat.Norm(diff, 2)
	}
	return auc(each(d.normal[n:], score), each(d.abnormal, score))
}

// patchStep is the grid of the patch Gaussian.
const patchStep = 4

// filters are 12 responses at every fourth pixel: grey at four scales, its
// gradient at two, Laplacian at three, and local deviation at one.
func filters(im []float64, size int) [][]float64 {
	f := field{n: size, v: im}
	var g [5]field
	g[0] = f
	for i, sigma := range []float64{1, 2, 4, 8} {
		g[i+1] = smooth(f, sigma)
	}
	square := newField(size)
	for i, v := range im {
		d := v - g[2].v[i]
		square.v[i] = d * d
	}
	square = smooth(square, 3)
	cells := size / patchStep
	out := make([][]float64, cells*cells)
	for k := range out {
		y, x := k/cells*patchStep+patchStep/2, k%cells*patchStep+patchStep/2
		at := func(f field, dy, dx int) float64 {
			return f.v[clampIndex(y+dy, size)*size+clampIndex(x+dx, size)]
		}
		i := y*size + x
		out[k] = []float64{
			g[1].v[i], g[2].v[i], g[3].v[i], g[4].v[i],
			at(g[1], 0, 1) - at(g[1], 0, -1), at(g[1], 1, 0) - at(g[1], -1, 0),
			at(g[3], 0, 3) - at(g[3], 0, -3), at(g[3], 3, 0) - at(g[3], -3, 0),
			g[1].v[i] - g[2].v[i], g[2].v[i] - g[3].v[i], g[3].v[i] - g[4].v[i],
			math.Sqrt(square.v[i]),
		}
	}
	return out
}

func clampIndex(i, n int) int { return min(max(i, 0), n-1) }

// patchGaussian fits a Gaussian at every position on half of the normals. An
// image's score is the mean of its highest 2 % distances; pixel is the AUC of
// the distances over all positions of the test images.
func patchGaussian(d drawn) (image, pixel float64) {
	half := len(d.normal) / 2
	cells := d.size / patchStep
	vectors := make([][][]float64, cells*cells)
	for _, im := range d.normal[:half] {
		for k, v := range filters(im, d.size) {
			vectors[k] = append(vectors[k], v)
		}
	}
	fitted := make([]gaussian, len(vectors))
	for k := range fitted {
		fitted[k] = fit(vectors[k], 1e-2)
	}
	var inside, outside []float64
	score := func(im []float64, mask []uint8) float64 {
		scores := newField(cells)
		for k, v := range filters(im, d.size) {
			scores.v[k] = math.Sqrt(fitted[k].distance(v))
		}
		scores = blur(scores, 1, repeated)
		for k, s := range scores.v {
			y, x := k/cells*patchStep+patchStep/2, k%cells*patchStep+patchStep/2
			if mask != nil && mask[y*d.size+x] > 0 {
				inside = append(inside, s)
			} else {
				outside = append(outside, s)
			}
		}
		sorted := slices.Sorted(slices.Values(scores.v))
		return meanOf(sorted[len(sorted)*98/100:])
	}
	var normal, abnormal []float64
	for _, im := range d.normal[half:] {
		normal = append(normal, score(im, nil))
	}
	for i, im := range d.abnormal {
		abnormal = append(abnormal, score(im, d.masks[i]))
	}
	return auc(normal, abnormal), auc(outside, inside)
}

// intensityRules are the plain rules that must not solve the task.
var intensityRules = []struct {
	name string
	f    func([]float64) float64
}{
	{"mean", meanOf}, {"s.d.", deviation}, {"median", quantile(0.5)}, {"p95", quantile(0.95)},
	{"entropy", entropy}, {"gradient", gradientEnergy},
}

// TestPlainRulesFail: no rule on grey values alone may separate abnormal from
// normal images.
func TestPlainRulesFail(t *testing.T) {
	if testing.Short() {
		t.Skip("draws 400 images")
	}
	n, limit := 100, 0.80 // the standard error is about 0.04
	if *full {
		n, limit = 600, 0.75
	}
	for _, modality := range []string{Radiograph, CT} {
		t.Run(modality, func(t *testing.T) {
			d := draw(t, modality, Mix, Types(), n, n)
			report := func(name string, value float64) string {
				if value > limit {
					t.Errorf("%s separates abnormal from normal with AUC %.3f, at most %.2f allowed", name, value, limit)
				}
				return fmt.Sprintf("%s %.3f  ", name, value)
			}
			var line strings.Builder
			for _, rule := range intensityRules {
				line.WriteString(report(rule.name, twoSided(d, rule.f)))
			}
			line.WriteString(report("best threshold", bestThreshold(d)))
			line.WriteString(report("histogram", histogramDistance(d)))
			t.Log("mix: ", line.String())
			if !*full {
				return
			}
			for _, name := range Types() {
				one := draw(t, modality, Mix, []string{name}, 0, 200)
				one.normal = d.normal
				line.Reset()
				for _, rule := range intensityRules {
					line.WriteString(report(rule.name, twoSided(one, rule.f)))
				}
				line.WriteString(report("best threshold", bestThreshold(one)))
				t.Log(name+": ", line.String())
			}
			image, pixel := patchGaussian(d)
			t.Logf("mix: principal components %.3f  patch %.3f / %.3f", principalResidual(d), image, pixel)
			if pixel < 0.70 {
				t.Errorf("patch Gaussian: pixel AUC %.3f on the default mix, need 0.70", pixel)
			}
		})
	}
}

// TestLevelZeroIsSolvable: what a method can learn from appearance is there.
func TestLevelZeroIsSolvable(t *testing.T) {
	if testing.Short() {
		t.Skip("draws 240 images")
	}
	normal, abnormal, limit := 90, 30, 0.70 // fewer normals to fit on
	if *full {
		normal, abnormal, limit = 600, 600, 0.75
	}
	for _, modality := range []string{Radiograph, CT} {
		t.Run(modality, func(t *testing.T) {
			d := draw(t, modality, "0", Types(), normal, abnormal)
			image, pixel := patchGaussian(d)
			principal := principalResidual(d)
			if *full {
				var line strings.Builder
				for _, rule := range intensityRules {
					fmt.Fprintf(&line, "%s %.3f  ", rule.name, twoSided(d, rule.f))
				}
				t.Logf("level 0: %sbest threshold %.3f  histogram %.3f", line.String(), bestThreshold(d), histogramDistance(d))
			}
			t.Logf("level 0: principal components %.3f  patch %.3f / %.3f", principal, image, pixel)
			if principal < limit || image < limit {
				t.Errorf("principal components %.3f, patch Gaussian %.3f; need %.2f", principal, image, limit)
			}
		})
	}
}
