package feature

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

	"thorax/framework"
	"thorax/framework/data"
	"thorax/graphs/backbone"
	"thorax/graphs/nn"
)

func init() {
	framework.Register(framework.Info{
		Name: "patchcore", Family: "feature",
		Source: "Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022",
		New:    func() any { return NewPatchCore() },
	})
}

// PatchCore scores patches by the distance to the nearest of a memory of normal
// ones: Roth et al., "Towards Total Recall in Industrial Anomaly Detection",
// CVPR 2022.
type PatchCore struct {
	Backbone     backbone.Backbone    `toml:"backbone"`
	Taps         []string             `toml:"taps"`                       // outputs of the backbone, finest first; brought to its grid
	Embedding    string               `toml:"embedding"`                  // concat: 3×3 means, joined; official: 3×3 patches pooled to 1024 features, of two taps
	CoresetRatio float64              `toml:"coreset_ratio"`              // share of the patches that the memory keeps
	Projection   int                  `toml:"projection"`                 // dimensions in which the coreset is chosen
	MaxPatches   int                  `toml:"max_patches"`                // patches the coreset is chosen from, drawn uniformly; 0: all
	Neighbours   int                  `toml:"neighbours"`                 // b of the reweighting
	Sigma        float64              `toml:"sigma"`                      // of the Gaussian that smooths the map, in pixels
	ImageScore   framework.ImageScore `toml:"image_score" enters:"score"` // reweight (eq. 7) or max, of the patches; mean or topk_mean, of the map
}

// Reweight is the image score of eq. 6 and 7: the largest patch distance,
// smaller where the nearest memory is itself in a crowd.
const Reweight framework.ImageScore = "reweight"

// NewPatchCore returns PatchCore with the defaults of the paper, on
// EfficientNet-Lite0 and with the 1 % coreset.
//
// Deviation: images are not cropped at the centre, which would cut the edge of
// the lungs. The official code scores by the maximum; eq. 7 is in the paper.
func NewPatchCore() *PatchCore {
	return &PatchCore{
		Backbone: backbone.New(backbone.Lite0), Taps: []string{"reduction_3", "reduction_4"}, Embedding: "concat",
		CoresetRatio: 0.01, Projection: 128, Neighbours: 9, Sigma: 4, ImageScore: Reweight,
	}
}

// Check implements [framework.Method].
func (m *PatchCore) Check() error {
	if err := m.Backbone.Check(); err != nil {
		return err
	}
	if err := checkMapTaps(m.Backbone, m.Taps); err != nil {
		return err
	}
	switch {
	case m.Embedding != "concat" && m.Embedding != "official":
		return fmt.Errorf("embedding: %q, need concat or official", m.Embedding)
	case m.Embedding == "official" && len(m.Taps) != 2:
		return fmt.Errorf("taps: %d, but the official embedding takes two", len(m.Taps))
	case !(m.CoresetRatio > 0 && m.CoresetRatio <= 1):
		return fmt.Errorf("coreset_ratio: %g, need more than 0, at most 1", m.CoresetRatio)
	case m.Projection < 1:
		return fmt.Errorf("projection: %d, need 1 or more", m.Projection)
	case m.MaxPatches < 0:
		return fmt.Errorf("max_patches: %d, need 0 (all) or more", m.MaxPatches)
	case m.Neighbours < 1:
		return fmt.Errorf("neighbours: %d, need 1 or more", m.Neighbours)
	case !(m.Sigma >= 0):
		return fmt.Errorf("sigma: %g, need 0 or more", m.Sigma)
	}
	if m.ImageScore != Reweight && m.ImageScore.Check() != nil {
		return fmt.Errorf("image_score: %q, need reweight, max, mean or topk_mean", string(m.ImageScore))
	}
	return nil
}

// Notes says what a reader of the results must know.
func (m *PatchCore) Notes() []string { return m.Backbone.Notes() }

// patches maps x [B,S,S,1] to patch features [B,h,w,D] on the grid of the first
// tap.
func (m *PatchCore) patches(s *nn.Scope, x tf.Output) tf.Output {
	taps := m.Backbone.Features(s.In("backbone"), x, m.Taps...)
	h, w := nn.Height(s, taps[m.Taps[0]]), nn.Width(s, taps[m.Taps[0]])
	var parts []tf.Output
	for i, tap := range m.Taps {
		f := taps[tap]
		if m.Embedding == "official" {
			f = official(s.In("embedding").At(i), f)
		} else {
			f = nn.AvgPool(s, f, 3, 1, nn.Symmetric(1))
		}
		if nn.Height(s, f) != h || nn.Width(s, f) != w {
			f = nn.ResizeBilinear(s, f, h, w)
		}
		parts = append(parts, f)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return nn.Concat(s, 3, parts...)
}

// officialWidth is the length of an official embedding.
const officialWidth = 1024

// official maps a tap [B,h,w,C] to its half of the embedding of
// amazon-science/patchcore-inspection, [B,h,w,512]: 3×3 patches with zeros
// outside, flattened to 9C, averaged to 1024 by adaptive pooling; then the
// 1024 of both taps, one after the other, to 1024 in pairs. All of it is one
// convolution.
func official(s *nn.Scope, f tf.Output) tf.Output {
	c := nn.Channels(s, f)
	kernel := s.Read(s.Buffer("kernel", nn.Load(func() ([]float32, error) { return officialKernel(c), nil }), 3, 3, c, officialWidth/2))
	return nn.Convolve(s, f, kernel, 1, nn.Same)
}

// officialKernel is the kernel [3,3,c,512]. Window i of m over n inputs is
// ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉, PyTorch's adaptive pooling; input c·9+3·row+column.
func officialKernel(c int) []float32 {
	k := make([]float32, 9*c*officialWidth/2)
	n := 9 * c
	for i := range officialWidth {
		first, last := i*n/officialWidth, ((i+1)*n+officialWidth-1)/officialWidth
		for j := first; j < last; j++ {
			k[((j%9)*c+j/9)*officialWidth/2+i/2] += float32(0.5 / float64(last-first))
		}
	}
	return k
}

// Train chooses the memory: a coreset of the patches of all training images.
func (m *PatchCore) Train(s *nn.Scope, in framework.Inputs) []framework.Phase {
	f := m.patches(s.Inference(), in.Image)
	d, perImage := nn.Channels(s, f), nn.Height(s, f)*nn.Width(s, f)
	memory := s.Buffer("memory", nn.Zeros(), -1, d)
	bound := 1 / math.Sqrt(float64(d))
	projection := s.Read(s.Buffer("projection", nn.Uniform(-bound, bound), d, m.Projection))
	rows := nn.Reshape(s, f, -1, d)
	projected := nn.Reshape(s, nn.MatMul(s, rows, projection), -1, perImage, m.Projection)

	total := in.Images * perImage
	kept := total
	if m.MaxPatches > 0 {
		kept = min(total, m.MaxPatches)
	}
	rng := rand.New(rand.NewPCG(s.Seed(), 0x636f7265736574))
	var features *spill
	var z []float32 // [·,Projection]
	left, open := total, kept
	return []framework.Phase{{Name: "memory", Fit: &framework.Fit{
		Over:    data.Train,
		Outputs: []tf.Output{nn.Reshape(s, f, -1, perImage, d), projected},
		Batch: func(outputs []framework.Rows) (err error) {
			if features == nil {
				if features, err = newSpill(d); err != nil {
					return err
				}
				z = make([]float32, 0, kept*m.Projection)
			}
			if kept == total {
				z = append(z, outputs[1].V...)
				return features.add(outputs[0].V)
			}
			// Selection sampling (Knuth, vol. 2, 3.4.2, algorithm S).
			for i := range outputs[0].N * perImage {
				if rng.IntN(left) < open {
					open--
					z = append(z, outputs[1].V[i*m.Projection:][:m.Projection]...)
					if err := features.add(outputs[0].V[i*d:][:d]); err != nil {
						return err
					}
				}
				left--
			}
			return nil
		},
		Done: func() ([]framework.Value, error) {
			defer func() { features.close(); features, z = nil, nil }()
			if features == nil {
				return nil, errors.New("patchcore has no training images")
			}
			size := max(1, int(float64(features.n)*m.CoresetRatio))
			picked, err := coreset(z, m.Projection, size, rng)
			if err != nil {
				return nil, err
			}
			if m.ImageScore == Reweight && size < m.Neighbours {
				return nil, fmt.Errorf("neighbours: %d, but the memory holds %d patches; set a larger coreset_ratio", m.Neighbours, size)
			}
			rows, err := features.rows(picked)
			return []framework.Value{{Variable: memory, Shape: []int{size, d}, V: rows}}, err
		},
	}}}
}

// Score is the distance of each patch to the nearest in memory, brought to the
// image's size and smoothed.
func (m *PatchCore) Score(s *nn.Scope, x tf.Output) framework.Scores {
	f := m.patches(s, x)
	h, w, d := nn.Height(s, f), nn.Width(s, f), nn.Channels(s, f)
	memory := newMemory(s, s.Read(s.Buffer("memory", nn.Zeros(), -1, d)))

	const step = 256 // rows of one product; with a memory of 100,000 it takes 100 MB
	patches := nn.Reshape(s, f, -1, d)
	distances := nn.Reshape(s, memory.nearest(s, patches, step), -1, h*w)
	full := nn.ResizeMap(s, nn.Reshape(s, distances, -1, h, w), nn.Height(s, x), nn.Width(s, x))
	smooth := nn.GaussianBlur(s, full, nn.Blur{Sigma: m.Sigma, Border: nn.HalfSample})

	scores := framework.Scores{Map: smooth}
	switch m.ImageScore {
	case Reweight:
		scores.Image = m.reweight(s, memory, nn.Reshape(s, f, -1, h*w, d), distances)
	case framework.Max:
		scores.Image = nn.Max(s, distances, 1)
	default:
		scores.Image = m.ImageScore.Of(s, smooth)
	}
	return scores
}

// reweight is eq. 6 and 7: s* = ‖x*-m*‖ of the patch farthest from the memory,
// times 1 - exp s* / Σ exp ‖x*-m‖ over the b vectors nearest to m*, m* among
// them.
func (m *PatchCore) reweight(s *nn.Scope, memory memory, f, distances tf.Output) tf.Output {
	farthest := nn.ArgMax(s, distances, 1)
	x := op.GatherV2(s.Op("farthest"), f, nn.ExpandDims(s, farthest, 1), op.Const(s.Op("axis"), int32(1)), op.GatherV2BatchDims(1)) // [B,1,D]
	x = nn.Reshape(s, x, -1, nn.Dim(s, f, 2))
	nearest, square := memory.neighbours(s, x, 1) // [B,1,D], [B,1]
	star := nn.Reshape(s, distance(s, square), -1)

	// The vectors are centred already: add the mean that neighbours takes off.
	crowd, _ := memory.neighbours(s, nn.Add(s, nn.Reshape(s, nearest, -1, nn.Dim(s, f, 2)), memory.mean), m.Neighbours)
	centred := nn.ExpandDims(s, nn.Sub(s, x, memory.mean), 1)
	away := distance(s, memory.between(s, centred, crowd)) // [B,b]

	// Distances are 10 and more: a softmax, with the largest exponent taken off.
	top := nn.Max(s, away, 1)
	sum := nn.Sum(s, nn.Exp(s, nn.Sub(s, away, nn.ExpandDims(s, top, 1))), 1)
	weight := nn.Shift(s, nn.Neg(s, nn.Div(s, nn.Exp(s, nn.Sub(s, star, top)), sum)), 1)
	return nn.Mul(s, weight, star)
}
