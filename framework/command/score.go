//go:build !reports

package command

import (
	"encoding/csv"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/data"
	"thorax/framework/record"
	"thorax/framework/train"
)

type scoreCmd struct {
	RunDir string `arg:"" name:"run" help:"Folder of a finished run, such as results/demo/phantom-64/ae/seed-0." type:"existingdir"`
	Folder string `arg:"" help:"Folder with images; subfolders are searched." type:"existingdir"`
	Out    string `help:"Where to write scores.csv and the overlays." short:"o" default:"scores" type:"path"`
	Maps   bool   `help:"Write map overlays." default:"true" negatable:""`
}

func (scoreCmd) Help() string {
	return "Images are resized as the run's were. Broken files are listed and left out; a higher score is more anomalous." +
		example("thorax score results/demo/radiograph-64/ae/seed-0 my-images --out my-scores")
}

func (c *scoreCmd) Run(a *app) error {
	m, err := train.OpenModel(c.RunDir)
	if err != nil {
		return err
	}
	defer m.Close()
	set, broken, err := readFolder(c.Folder, m.Run.Data)
	if err != nil {
		return err
	}
	for _, err := range broken {
		fmt.Fprintln(a.stderr, err)
	}
	if set.Len() == 0 {
		return fmt.Errorf("%s: no readable images (png, jpeg, bmp or tiff)", c.Folder)
	}
	type result struct {
		score float64
		m     []float32
	}
	var results []result
	err = m.Score(set, func(i int, score float64, m []float32) error {
		results = append(results, result{score, slices.Clone(m)})
		return a.ctx.Err()
	})
	if err != nil {
		return err
	}
	err = record.WriteFile(filepath.Join(c.Out, "scores.csv"), func(w io.Writer) error {
		t := csv.NewWriter(w)
		t.Write([]string{"path", "score"})
		for i, r := range results {
			t.Write([]string{set.paths[i], strconv.FormatFloat(r.score, 'g', 9, 64)})
		}
		t.Flush()
		return t.Error()
	})
	if err != nil {
		return err
	}
	if c.Maps && results[0].m != nil {
		// One scale for all images: the largest value of all maps is red.
		top := float32(0)
		for _, r := range results {
			top = max(top, slices.Max(r.m))
		}
		for i, r := range results {
			name := strings.TrimSuffix(set.paths[i], filepath.Ext(set.paths[i])) + ".png"
			err := record.WriteFile(filepath.Join(c.Out, "maps", name), func(w io.Writer) error {
				return png.Encode(w, overlay(set.images[i], r.m, top))
			})
			if err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(a.stdout, "%s: %d images scored, %d left out\n", filepath.Join(c.Out, "scores.csv"), set.Len(), len(broken))
	if len(broken) > 0 {
		return fmt.Errorf("%d images could not be read", len(broken))
	}
	return nil
}

// overlay paints an anomaly map in red over an image; top is full red.
func overlay(p data.Pixels, m []float32, top float32) image.Image {
	out := image.NewRGBA(image.Rect(0, 0, p.W, p.H))
	for i, v := range p.V {
		heat := float32(0)
		if top > 0 {
			heat = min(max(m[i]/top, 0), 1)
		}
		grey := v * (1 - 0.6*heat)
		out.SetRGBA(i%p.W, i/p.W, color.RGBA{uint8(255 * max(grey, min(v*(1-0.6*heat)+heat*0.8, 1))), uint8(255 * grey), uint8(255 * grey), 255})
	}
	return out
}

// A folderSet is the images below a folder, as framework.Images.
type folderSet struct {
	root   string
	size   int
	window *data.Window
	paths  []string
	images []data.Pixels
}

func readFolder(root string, o data.Options) (*folderSet, []error, error) {
	s := &folderSet{root: root, size: o.Size, window: o.Window}
	var broken []error
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		switch strings.ToLower(filepath.Ext(path)) {
		case ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff":
		default:
			return nil
		}
		p, err := data.ReadImage(path, o)
		if err != nil {
			broken = append(broken, err)
			return nil
		}
		rel, err := filepath.Rel(root, path)
		s.paths, s.images = append(s.paths, filepath.ToSlash(rel)), append(s.images, p)
		return err
	})
	return s, broken, err
}

func (s *folderSet) Len() int                 { return len(s.paths) }
func (s *folderSet) Size() int                { return s.size }
func (s *folderSet) Pixels(i int) data.Pixels { return s.images[i] }
func (s *folderSet) Native(i int) (data.Native, error) {
	return data.ReadNative(filepath.Join(s.root, filepath.FromSlash(s.paths[i])), s.window)
}

type exportCmd struct {
	RunDir string `arg:"" name:"run" help:"Folder of a finished run." type:"existingdir"`
	Out    string `arg:"" help:"File to write, such as ae.safetensors." type:"path"`
}

func (exportCmd) Help() string {
	return "The file holds what scoring needs, under the variables' paths, kernels as [k,k,in,out]." +
		example("thorax export results/demo/radiograph-64/ae/seed-0 ae.safetensors")
}

func (c *exportCmd) Run(a *app) error {
	if _, err := os.Stat(c.Out); err == nil {
		return fmt.Errorf("%s exists: name another file", c.Out)
	}
	n, err := train.Export(c.RunDir, c.Out)
	if err == nil {
		fmt.Fprintf(a.stdout, "%s: %d arrays\n", c.Out, n)
	}
	return err
}
