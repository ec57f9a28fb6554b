package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg"
	_ "image/png"
	"os"
	"path"
	"slices"
	"strings"

	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/tiff"
)

// Limits on an image, checked before its memory is asked for.
const (
	maxSide   = 1<<16 - 1
	maxPixels = 100e6
	maxFile   = 1 << 30 // bytes
)

var extensions = []string{".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}

// isImage tells by its name whether a file is read as an image.
func isImage(name string) bool {
	return slices.Contains(extensions, strings.ToLower(path.Ext(name)))
}

var (
	errEmpty  = errors.New("the file is empty; restore it or remove it")
	errFormat = errors.New("not a PNG, JPEG, BMP or TIFF image; convert it or remove it")
)

// decode reads an image of any known format after checking its size. A decoder that panics on
// malformed bytes gives an error.
func decode(b []byte) (img image.Image, format string, err error) {
	defer func() {
		if r := recover(); r != nil {
			img, err = nil, fmt.Errorf("malformed (%v); restore it or remove it", r)
		}
	}()
	if len(b) == 0 {
		return nil, "", errEmpty
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(b))
	switch {
	case errors.Is(err, image.ErrFormat):
		return nil, "", errFormat
	case err != nil:
		return nil, format, broken(err)
	case config.Width < 1 || config.Height < 1:
		return nil, format, fmt.Errorf("size %d×%d; remove it", config.Width, config.Height)
	case config.Width > maxSide || config.Height > maxSide || config.Width*config.Height > maxPixels:
		return nil, format, fmt.Errorf("size %d×%d, at most %d a side and %.0f million pixels; shrink it or remove it",
			config.Width, config.Height, maxSide, maxPixels/1e6)
	}
	img, format, err = image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, format, broken(err)
	}
	return img, format, nil
}

func broken(err error) error {
	return fmt.Errorf("truncated or damaged (%w); restore it or remove it", err)
}

// grey is the luma of an image in 8 bits: 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point, which is
// Pillow's convert("L"). Alpha is ignored. 16-bit values are divided by 257 and rounded.
func grey(img image.Image) []uint8 {
	r := img.Bounds()
	w, h := r.Dx(), r.Dy()
	v := make([]uint8, 0, w*h)
	switch p := img.(type) {
	case *image.Gray:
		for y := range h {
			v = append(v, p.Pix[y*p.Stride:][:w]...)
		}
	case *image.YCbCr:
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				c := p.COffset(x, y)
				v = append(v, luma(color.YCbCrToRGB(p.Y[p.YOffset(x, y)], p.Cb[c], p.Cr[c])))
			}
		}
	case *image.RGBA:
		for y := range h {
			for line := p.Pix[y*p.Stride:][:4*w]; len(line) > 0; line = line[4:] {
				v = append(v, luma(line[0], line[1], line[2]))
			}
		}
	case *image.NRGBA:
		for y := range h {
			for line := p.Pix[y*p.Stride:][:4*w]; len(line) > 0; line = line[4:] {
				v = append(v, luma(line[0], line[1], line[2]))
			}
		}
	case *image.Paletted:
		table := make([]uint8, 256) // an index past the palette is black
		for i, c := range p.Palette {
			n := color.NRGBAModel.Convert(c).(color.NRGBA)
			table[i] = luma(n.R, n.G, n.B)
		}
		for y := range h {
			for _, i := range p.Pix[y*p.Stride:][:w] {
				v = append(v, table[i])
			}
		}
	case *image.CMYK:
		for y := range h {
			for line := p.Pix[y*p.Stride:][:4*w]; len(line) > 0; line = line[4:] {
				v = append(v, luma(color.CMYKToRGB(line[0], line[1], line[2], line[3])))
			}
		}
	default: // 16 bits a sample
		for _, deep := range grey16(img) {
			v = append(v, uint8((uint32(deep)+128)/257))
		}
	}
	return v
}

// grey16 is the luma of an image in 16 bits.
func grey16(img image.Image) []uint16 {
	r := img.Bounds()
	v := make([]uint16, 0, r.Dx()*r.Dy())
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.NRGBA64Model.Convert(img.At(x, y)).(color.NRGBA64)
			v = append(v, uint16((19595*uint32(c.R)+38470*uint32(c.G)+7471*uint32(c.B)+1<<15)>>16))
		}
	}
	return v
}

func luma(r, g, b uint8) uint8 {
	return uint8((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

// deep tells whether the stored samples have more than 8 bits.
func deep(img image.Image) bool {
	switch img.(type) {
	case *image.Gray16, *image.NRGBA64, *image.RGBA64:
		return true
	}
	return false
}

// lesion is true where a mask is not zero. A mask stored with loss is an error: its edge is noise.
func lesion(img image.Image, format string) ([]bool, error) {
	if format == "jpeg" {
		return nil, errors.New("a JPEG mask has no exact edge; store it as PNG")
	}
	b := img.Bounds()
	m := make([]bool, 0, b.Dx()*b.Dy())
	if deep(img) {
		for _, v := range grey16(img) {
			m = append(m, v != 0)
		}
		return m, nil
	}
	for _, v := range grey(img) {
		m = append(m, v != 0)
	}
	return m, nil
}

// readFile reads a file of at most maxFile bytes.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file; remove it", name)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, at most %d; shrink it or remove it", name, info.Size(), maxFile)
	}
	return os.ReadFile(name)
}

func readNative(name string) (Native, error) {
	b, err := readFile(name)
	if err != nil {
		return Native{}, fmt.Errorf("read image: %w", err)
	}
	n, err := decodeNative(b)
	if err != nil {
		return Native{}, fmt.Errorf("image %s: %w", name, err)
	}
	return n, nil
}

func decodeNative(b []byte) (Native, error) {
	img, _, err := decode(b)
	if err != nil {
		return Native{}, err
	}
	r := img.Bounds()
	return Native{W: r.Dx(), H: r.Dy(), V: grey(img), FileBytes: int64(len(b))}, nil
}

func readMask(name string) (bits []bool, w, h int, err error) {
	b, err := readFile(name)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("read mask: %w", err)
	}
	img, format, err := decode(b)
	if err == nil {
		w, h = img.Bounds().Dx(), img.Bounds().Dy()
		bits, err = lesion(img, format)
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("mask %s: %w", name, err)
	}
	return bits, w, h, nil
}
