package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg"
	_ "image/png"
	"io/fs"
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
	maxPixels = 100_000_000
	maxFile   = 1 << 30 // bytes

	// No PNG, JPEG or BMP has more pixels in a byte: deflate writes at most 1032 bytes for one, of 8 pixels each.
	densest = 1032 * 8
)

var extensions = []string{".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}

// isImage tells by its name whether a file is read as an image.
func isImage(name string) bool {
	return slices.Contains(extensions, strings.ToLower(path.Ext(name)))
}

// A fault is what is wrong with a file and what to do about it.
type fault struct {
	text, remedy string
	zero         bool // no bytes or no pixels
}

func (f *fault) Error() string { return f.text + "; " + f.remedy }

const restore = "restore it or remove it"

// decode reads an image of any known format after checking its size. Its errors are faults; a decoder
// that panics on malformed bytes gives one, too.
func decode(b []byte) (img image.Image, format string, err error) {
	defer func() {
		if r := recover(); r != nil {
			img, err = nil, &fault{text: fmt.Sprintf("malformed (%v)", r), remedy: restore}
		}
	}()
	if len(b) == 0 {
		return nil, "", &fault{"the file is empty", restore, true}
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(b))
	switch w, h := config.Width, config.Height; {
	case errors.Is(err, image.ErrFormat):
		return nil, "", &fault{text: "not a PNG, JPEG, BMP or TIFF image", remedy: "convert it or remove it"}
	case err != nil:
		return nil, format, damaged(err)
	case w < 1 || h < 1:
		return nil, format, &fault{fmt.Sprintf("size %d×%d", w, h), restore, true}
	case w > maxSide || h > maxSide || w*h > maxPixels:
		return nil, format, &fault{
			text:   fmt.Sprintf("size %d×%d, at most %d a side and %d million pixels", w, h, maxSide, maxPixels/1_000_000),
			remedy: "shrink it or remove it",
		}
	case format != "tiff" && w*h > densest*len(b):
		return nil, format, damaged(fmt.Errorf("%d bytes cannot hold %d×%d pixels", len(b), w, h))
	}
	img, format, err = image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, format, damaged(err)
	}
	return img, format, nil
}

func damaged(err error) error {
	return &fault{text: fmt.Sprintf("truncated or damaged (%v)", err), remedy: restore}
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
				y, c := p.Y[p.YOffset(x, y)], p.COffset(x, y)
				if p.Cb[c] != 128 || p.Cr[c] != 128 { // else grey already
					y = luma(color.YCbCrToRGB(y, p.Cb[c], p.Cr[c]))
				}
				v = append(v, y)
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
		return nil, &fault{text: "a JPEG mask has no exact edge", remedy: "store it as PNG"}
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

// readFile reads a regular file of at most maxFile bytes. Its errors are faults.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &fault{text: "the file is not there", remedy: "restore it or take it out of the set"}
	case err != nil:
		return nil, unreadable(err)
	case !info.Mode().IsRegular():
		return nil, &fault{text: "not a regular file", remedy: "remove it"}
	case info.Size() > maxFile:
		return nil, &fault{text: fmt.Sprintf("%d bytes, at most %d", info.Size(), maxFile), remedy: "shrink it or remove it"}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, unreadable(err)
	}
	return b, nil
}

func unreadable(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return &fault{text: fmt.Sprintf("cannot be read (%v)", err), remedy: "make it readable or remove it"}
}

// ReadNative decodes one file at its stored size, through a window unless that is nil.
func ReadNative(name string, w *Window) (Native, error) {
	n, _, err := readImage(name, w)
	if err != nil {
		return Native{}, fmt.Errorf("image %s: %w", name, err)
	}
	return n, nil
}

// readImage reads one file as grey, through a window unless that is nil, and tells whether stored samples of
// more than 8 bits were reduced without one.
func readImage(name string, w *Window) (n Native, reduced bool, err error) {
	b, err := readFile(name)
	if err != nil {
		return Native{}, false, err
	}
	img, _, err := decode(b)
	if err != nil {
		return Native{}, false, err
	}
	r := img.Bounds()
	n = Native{W: r.Dx(), H: r.Dy(), FileBytes: int64(len(b))}
	if w == nil {
		n.V = grey(img)
		return n, deep(img), nil
	}
	if !deep(img) {
		return Native{}, false, &fault{text: "8 bits a sample, but data.window needs 16", remedy: "export it with 16 bits, or remove data.window"}
	}
	n.V = make([]uint8, 0, n.W*n.H)
	for _, v := range grey16(img) {
		n.V = append(n.V, w.grey(v))
	}
	return n, false, nil
}

func readMask(name string) mask {
	b, err := readFile(name)
	if err == nil {
		var m mask
		if m, err = decodeMask(b); err == nil {
			return m
		}
	}
	return mask{err: fmt.Errorf("mask %s: %w", name, err)}
}

func decodeMask(b []byte) (mask, error) {
	img, format, err := decode(b)
	if err != nil {
		return mask{}, err
	}
	bits, err := lesion(img, format)
	return mask{w: img.Bounds().Dx(), h: img.Bounds().Dy(), bits: bits}, err
}
