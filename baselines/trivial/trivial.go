// Package trivial holds rows that look at nothing medical: chance, the length
// of a file, grey values, compressibility. A method that does not beat them has
// found how a set was made, not disease.
package trivial

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"runtime"

	"golang.org/x/image/draw"
	"golang.org/x/sync/errgroup"

	"thorax/framework"
	"thorax/framework/data"
)

func register(name, source string, m func() any) {
	framework.Register(framework.Info{Name: name, Family: "trivial", Source: source, New: m})
}

// measure returns what of says of each image as it is stored, in order.
func measure[T any](x framework.Images, of func(data.Native) (T, error)) ([]T, error) {
	if x.Len() == 0 {
		return nil, fmt.Errorf("no training images to fit to")
	}
	all := make([]T, x.Len())
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range all {
		g.Go(func() error {
			n, err := x.Native(i)
			if err != nil {
				return err
			}
			all[i], err = of(n)
			return err
		})
	}
	return all, g.Wait()
}

// gray is n as an image of the standard library; it shares n's pixels.
func gray(n data.Native) *image.Gray {
	return &image.Gray{Pix: n.V, Stride: n.W, Rect: image.Rect(0, 0, n.W, n.H)}
}

// jpegBytes is the length of n as a JPEG of quality 75.
func jpegBytes(n data.Native) (float64, error) {
	var b bytes.Buffer
	err := jpeg.Encode(&b, gray(n), &jpeg.Options{Quality: 75})
	return float64(b.Len()), err
}

// pngBytes is the length of n as a PNG.
func pngBytes(n *image.Gray) (float64, error) {
	var b bytes.Buffer
	err := png.Encode(&b, n)
	return float64(b.Len()), err
}

// side is that of the shrunk images.
const side = 64

// shrunk is n stretched to 64×64 pixels, bilinear, antialiased.
func shrunk(n data.Native) *image.Gray {
	to := image.NewGray(image.Rect(0, 0, side, side))
	draw.BiLinear.Scale(to, to.Rect, gray(n), image.Rect(0, 0, n.W, n.H), draw.Src, nil)
	return to
}
