// Package phantom draws chest radiographs and axial chest CT slices, normal
// and with lesions of five types, together with exact lesion masks. They are
// a data set without a licence, on which methods can be trained and compared
// and on which simple intensity rules fail; a score on them ranks methods on
// this generator only.
//
// An image is a pure function of the options and its Case, to the byte on one
// processor architecture. Anatomy, noise and
// display are drawn from streams of their own, before and independently of
// the lesion, so that a normal image and an abnormal one differ by nothing
// but the lesion.
//
// Limits: lesions are two-dimensional (slices of one patient do not share
// them); there is no motion, effusion, atelectasis or device among the
// normals; bodies are elliptical, without arms, and ribs are idealised.
package phantom

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Version is that of the generator: it grows when the same options give other
// images, so that files made from them can be told apart.
const Version = 1

// The modalities.
const (
	Radiograph = "radiograph" // frontal chest radiograph, one a patient
	CT         = "ct"         // axial slice in the lung window, up to five a patient
)

// slicesPerPatient is the number of CT slices that share one anatomy.
const slicesPerPatient = 5

// The sides an image can have. Anatomy is drawn on a grid of at least
// minGrid, whatever the size, and averaged down.
const (
	minSize, maxSize = 32, 1024
	minGrid          = 256
)

// Options says which images a generated set has.
type Options struct {
	Modality     string   `toml:"modality"`      // "radiograph" or "ct"
	Size         int      `toml:"-"`             // side of an image in pixels
	Train        int      `toml:"train"`         // number of training images, all normal
	TestNormal   int      `toml:"test_normal"`   // number of normal test images
	TestAbnormal int      `toml:"test_abnormal"` // number of abnormal test images
	Level        Level    `toml:"level"`         // difficulty of the lesions
	Types        []string `toml:"types"`         // lesion types, in equal shares
	Seed         uint64   `toml:"seed"`          // of patients and lesions; not an experiment's seed
}

// DefaultOptions returns the standard set: 2000 training radiographs and 400
// normal and 400 abnormal ones to test, all lesion types, mixed levels.
func DefaultOptions() Options {
	return Options{
		Modality: Radiograph, Size: 128,
		Train: 2000, TestNormal: 400, TestAbnormal: 400,
		Level: Mix, Types: Types(), Seed: 1,
	}
}

// Check names the first key out of range.
func (o Options) Check() error {
	switch {
	case o.Modality != Radiograph && o.Modality != CT:
		return fmt.Errorf("modality: %q, need %q or %q", o.Modality, Radiograph, CT)
	case o.Size < minSize || o.Size > maxSize:
		return fmt.Errorf("size: %d, need %d to %d for generated images", o.Size, minSize, maxSize)
	case o.Train < 0:
		return fmt.Errorf("train: %d, need 0 or more", o.Train)
	case o.TestNormal < 0:
		return fmt.Errorf("test_normal: %d, need 0 or more", o.TestNormal)
	case o.TestAbnormal < 0:
		return fmt.Errorf("test_abnormal: %d, need 0 or more", o.TestAbnormal)
	case o.Train > maxImages-o.TestNormal || o.Train+o.TestNormal > maxImages-o.TestAbnormal:
		return fmt.Errorf("train, test_normal, test_abnormal: more than %d images together", maxImages)
	case !o.Level.valid():
		return fmt.Errorf("level: %q, need %q, 0, 1, 2 or 3", o.Level, Mix)
	case len(o.Types) == 0:
		return fmt.Errorf("types: none, need some of %s", strings.Join(Types(), ", "))
	}
	for i, name := range o.Types {
		if !slices.Contains(kindNames[:], name) {
			return fmt.Errorf("types: %q, need some of %s", name, strings.Join(Types(), ", "))
		}
		if slices.Contains(o.Types[:i], name) {
			return fmt.Errorf("types: %q twice", name)
		}
	}
	return nil
}

// maxImages keeps file names at six digits.
const maxImages = 1_000_000

// Level is the difficulty of lesions: "0" (very easy, for checks that a
// method works at all), "1" easy, "2" medium, "3" hard, or Mix.
type Level string

// Mix has levels 1, 2 and 3 in shares of 20, 50 and 30 %.
const Mix Level = "mix"

// UnmarshalTOML reads a level written as a string or as a number.
func (l *Level) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		*l = Level(v)
	case int64:
		*l = Level(strconv.FormatInt(v, 10))
	default:
		return fmt.Errorf("level: %v, need %q, 0, 1, 2 or 3", v, Mix)
	}
	if !l.valid() {
		return fmt.Errorf("level: %q, need %q, 0, 1, 2 or 3", *l, Mix)
	}
	return nil
}

func (l Level) valid() bool {
	return l == Mix || len(l) == 1 && l[0] >= '0' && l[0] <= '3'
}

// mixed deals the levels of Mix over ten abnormal images of one type; each
// half holds every level.
var mixed = [10]int{2, 1, 2, 3, 2, 3, 2, 1, 2, 3}

// nth returns the level of the n-th abnormal image of a type.
func (l Level) nth(n int) int {
	if l == Mix {
		return mixed[n%len(mixed)]
	}
	return int(l[0] - '0')
}

// Case is one image of a plan, before it is drawn.
type Case struct {
	Split    string // "train" or "test"
	Path     string // unique in the plan, with '/', says nothing of the label
	Group    string // patient; a patient is in one split only
	Abnormal bool
	Subtype  string // lesion type, "" when normal
	Level    int    // 0 to 3, meaningless when normal

	patient, image int // number of the patient, of the image within the patient
}

// patientPlan is what a patient's images share.
type patientPlan struct {
	abnormal bool
	kind     int   // index into Options.Types
	levels   []int // one per image; only the length counts when normal
}

// Plan lists the images of the set in a fixed order that says nothing of the
// labels: the test patients are shuffled, then numbered. The options must
// pass Check.
func (o Options) Plan() []Case {
	perPatient := 1
	if o.Modality == CT {
		perPatient = slicesPerPatient
	}
	train := normalPatients(o.Train, perPatient)
	test := append(normalPatients(o.TestNormal, perPatient), o.abnormalPatients(perPatient)...)
	r := stream(o.Seed, streamPlan, 0, 0)
	r.Shuffle(len(test), func(i, j int) { test[i], test[j] = test[j], test[i] })

	var cases []Case
	add := func(split string, patient int, plans []patientPlan) {
		n := 0
		for _, p := range plans {
			for k, level := range p.levels {
				c := Case{
					Split: split, Path: fmt.Sprintf("%s/%06d.png", split, n),
					Group: fmt.Sprintf("patient-%07d", patient), patient: patient, image: k,
				}
				if p.abnormal {
					c.Abnormal, c.Subtype, c.Level = true, o.Types[p.kind], level
				}
				cases = append(cases, c)
				n++
			}
			patient++
		}
	}
	add("train", 0, train)
	add("test", maxImages, test) // so that the test images do not depend on Train
	return cases
}

// normalPatients spreads n images over patients.
func normalPatients(n, perPatient int) []patientPlan {
	var plans []patientPlan
	for ; n > 0; n -= perPatient {
		plans = append(plans, patientPlan{levels: make([]int, min(n, perPatient))})
	}
	return plans
}

// abnormalPatients spreads the abnormal test images over patients. A patient
// has one type of lesion; types and levels come in their shares.
func (o Options) abnormalPatients(perPatient int) []patientPlan {
	plans := normalPatients(o.TestAbnormal, perPatient)
	seen := make([]int, len(o.Types))
	for i := range plans {
		p := &plans[i]
		p.abnormal, p.kind = true, i%len(o.Types)
		for k := range p.levels {
			p.levels[k] = o.Level.nth(seen[p.kind])
			seen[p.kind]++
		}
	}
	return plans
}

// Render draws one image of the plan: Size×Size grey values, row-major, and
// the lesion's mask with 0 or 255, nil when the image is normal. The result
// depends on the options' Modality, Size and Seed and on the case only.
func (o Options) Render(c Case) (image, mask []uint8, err error) {
	out, err := o.render(c)
	return out.image, out.mask, err
}

// LungMask returns the aerated lung of the image, Size×Size with 0 or 255. On
// a radiograph it is the clear lung, not hidden by heart, mediastinum or
// diaphragm. It is the same with and without a lesion.
func (o Options) LungMask(c Case) ([]uint8, error) {
	c.Abnormal = false
	out, err := o.render(c)
	return out.lung, err
}

// rendering is an image with what only tests look at.
type rendering struct {
	image, mask, lung []uint8
	grid              int       // side of the fine grid
	signal            []float64 // on the fine grid: HU, or log-attenuation before the detector
	support           []bool    // on the fine grid: where the lesion has any weight
	side              int       // of the lesion's first part: -1 patient's right, +1 left
}

func (o Options) render(c Case) (rendering, error) {
	if err := o.Check(); err != nil {
		return rendering{}, fmt.Errorf("phantom: %w", err)
	}
	var l *lesion
	if c.Abnormal {
		k := slices.Index(kindNames[:], c.Subtype)
		if k < 0 || c.Level < 0 || c.Level > 3 {
			return rendering{}, fmt.Errorf("phantom: %s: type %q, level %d: not a case of a plan", c.Path, c.Subtype, c.Level)
		}
		l = &lesion{kind: kind(k), level: c.Level, r: stream(o.Seed, streamLesion, c.patient, c.image)}
	}
	patient := stream(o.Seed, streamPatient, c.patient, 0)
	image := stream(o.Seed, streamImage, c.patient, c.image)
	if o.Modality == CT {
		return renderCT(patient, image, l, o.Size), nil
	}
	return renderRadiograph(patient, image, l, o.Size), nil
}

// The random streams.
const (
	streamPlan = iota
	streamPatient
	streamImage
	streamLesion
)

// stream returns the random numbers of one use, patient and image. They are
// unrelated to those of any other.
func stream(seed uint64, use, patient, image int) *rand.Rand {
	key := uint64(use)<<56 ^ uint64(patient)<<16 ^ uint64(image)
	return rand.New(rand.NewPCG(mix(seed), mix(seed^mix(key))))
}

// mix is the finaliser of SplitMix64 (Steele, Lea & Flood, "Fast splittable
// pseudorandom number generators", OOPSLA 2014): a bijection in which each
// bit of z moves about half of the bits of the result.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
