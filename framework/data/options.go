package data

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/data/phantom"
)

// Options says which set to open and how; it is a [[data]] block of an experiment.
type Options struct {
	Name       string  `toml:"name"`       // in tables and folders; default SET-SIZE
	Set        string  `toml:"set"`        // folder, zhanglab, covidx, chexpert, chexpert-pa, manifest, phantom, or none: images come from elsewhere
	Root       string  `toml:"root"`       // folder of the set, or its parent when that holds nothing else; the CSV file of a manifest
	Size       int     `toml:"size"`       // side of the images in pixels, 8 to 4096
	Resize     string  `toml:"resize"`     // bilinear or bicubic, antialiased
	Fit        string  `toml:"fit"`        // stretch, pad (black border) or crop (centre)
	Validation float64 `toml:"validation"` // share of training normals, at least 100 images; 0 is none
	SplitSeed  uint64  `toml:"split_seed"` // draws the validation images; apart from the training seeds

	// Contamination is the share of abnormal images among the training images, 0 to 1, for a study of
	// what they do; 0 everywhere else. With T training normals after validation is held out and ρ = 1 -
	// Contamination, training has the first ⌊ρT⌋ of a shuffle of the normals and the first T-⌊ρT⌋ of one
	// of the training abnormals, both by SplitSeed: T stays what it is. No method sees which is which.
	Contamination float64 `toml:"contamination,omitzero"`

	// Window is the range of grey values that is shown, for images of 16 bits such as CT in Hounsfield
	// units; without one, 16 bits are scaled to 8 as a whole.
	Window *Window `toml:"window"`

	// Group = "folder" takes the folder below that of the class for the study of an image:
	// SPLIT/CLASS/STUDY/IMAGE. Folders of one name are one study, in whatever class or split they lie.
	Group string `toml:"group,omitzero"`

	Phantom  *phantom.Options `toml:"phantom"`  // what is generated; only with set = "phantom"
	CheXpert *CheXpert        `toml:"chexpert"` // labels and test images; only with set = "chexpert"

	Progress func(done, total int) `toml:"-"` // called while images are decoded, from one goroutine at a time; may be nil
}

// DefaultOptions returns the defaults: 128 pixels, bilinear, stretched, a tenth of the training normals for validation.
func DefaultOptions() Options {
	generated, tables := phantom.DefaultOptions(), DefaultCheXpert()
	return Options{
		Set: "folder", Size: 128, Resize: "bilinear", Fit: "stretch", Validation: 0.1, SplitSeed: 20260101,
		Phantom: &generated, CheXpert: &tables,
	}
}

var (
	sets    = []string{"folder", "zhanglab", "covidx", "chexpert", "chexpert-pa", "manifest", "phantom", "none"}
	filters = []string{"bilinear", "bicubic"}
	fits    = []string{"stretch", "pad", "crop"}
)

// minValidation is the least number of validation images: a threshold at 5 % false alarms needs a tail.
const minValidation = 100

// Learning identifies, before any image is read, what can be learnt from: options that have it in common have
// the same training and validation images. It knows the keys of generated sets that make the test images only;
// [Dataset.Learnt] knows all.
func (o Options) Learning() string {
	if o.Set == "phantom" && o.Phantom != nil && o.Contamination == 0 {
		train := *o.Phantom
		train.TestNormal, train.TestAbnormal, train.Level, train.Types = 0, 0, "", nil
		o.Name, o.Phantom = "", &train
	}
	text, err := toml.Marshal(o)
	if err != nil {
		panic("data: options cannot be written: " + err.Error())
	}
	return string(text)
}

// Check names the first key out of range. It completes an empty Name to SET-SIZE and the size of what is
// generated, and drops Phantom and CheXpert where they are not used.
func (o *Options) Check() error {
	if err := oneOf("set", o.Set, sets); err != nil {
		return err
	}
	if o.Root == "" && o.Set != "phantom" && o.Set != "none" {
		return fmt.Errorf("data.root: empty, need the folder of the set %q", o.Set)
	}
	if err := o.checkGeometry(); err != nil {
		return err
	}
	if !(o.Validation >= 0 && o.Validation <= 0.5) { // also refuses NaN
		return fmt.Errorf("data.validation: %g, need 0 to 0.5", o.Validation)
	}
	if !(o.Contamination >= 0 && o.Contamination <= 1) {
		return fmt.Errorf("data.contamination: %g, need 0 to 1", o.Contamination)
	}
	if o.SplitSeed > math.MaxInt64 {
		return fmt.Errorf("data.split_seed: %d, need at most %d", o.SplitSeed, int64(math.MaxInt64))
	}
	if err := o.checkWindow(); err != nil {
		return err
	}
	if o.Group != "" && (o.Group != "folder" || o.Set != "folder") {
		return fmt.Errorf("data.group: %q with set %q, need \"folder\" with set \"folder\", or nothing", o.Group, o.Set)
	}
	if err := o.checkPhantom(); err != nil {
		return err
	}
	if err := o.checkCheXpert(); err != nil {
		return err
	}
	if o.Name == "" {
		o.Name = fmt.Sprintf("%s-%d", o.Set, o.Size)
	}
	for _, r := range o.Name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", r) {
			return fmt.Errorf("data.name: %q, need letters, digits, '-', '_' and '.' only", o.Name)
		}
	}
	if strings.HasPrefix(o.Name, ".") {
		return fmt.Errorf("data.name: %q, must not start with a dot", o.Name)
	}
	return nil
}

// checkPhantom checks what is generated.
func (o *Options) checkPhantom() error {
	generated := phantom.DefaultOptions()
	if o.Set != "phantom" {
		if o.Phantom != nil && !reflect.DeepEqual(*o.Phantom, generated) {
			return fmt.Errorf("data.phantom: given with set %q; remove it, or set = \"phantom\"", o.Set)
		}
		o.Phantom = nil
		return nil
	}
	if o.Root != "" {
		return fmt.Errorf("data.root: %q given with set \"phantom\", which reads no files; remove it", o.Root)
	}
	if o.Phantom != nil {
		generated = *o.Phantom
	}
	generated.Size = o.Size
	o.Phantom = &generated
	if err := generated.Check(); err != nil {
		return fmt.Errorf("data.phantom.%w", err)
	}
	return nil
}

// checkCheXpert checks how CheXpert's tables are read.
func (o *Options) checkCheXpert() error {
	tables := DefaultCheXpert()
	if o.Set != "chexpert" {
		if o.CheXpert != nil && *o.CheXpert != tables {
			return fmt.Errorf("data.chexpert: given with set %q; remove it, or set = \"chexpert\"", o.Set)
		}
		o.CheXpert = nil
		return nil
	}
	if o.CheXpert != nil {
		tables = *o.CheXpert
	}
	o.CheXpert = &tables
	if err := tables.Check(); err != nil {
		return fmt.Errorf("data.chexpert.%w", err)
	}
	return nil
}

// checkGeometry checks what brings an image to its grid.
func (o *Options) checkGeometry() error {
	if o.Size < 8 || o.Size > 4096 {
		return fmt.Errorf("data.size: %d, need 8 to 4096", o.Size)
	}
	if err := oneOf("resize", o.Resize, filters); err != nil {
		return err
	}
	return oneOf("fit", o.Fit, fits)
}

func oneOf(key, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("data.%s: %q, need one of %s", key, value, strings.Join(allowed, ", "))
}

func (o *Options) geometry() geometry {
	g := geometry{size: o.Size, fit: o.Fit, filter: bilinear}
	if o.Resize == "bicubic" {
		g.filter = bicubic
	}
	return g
}
