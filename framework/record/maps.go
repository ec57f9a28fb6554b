package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
)

// Maps are the anomaly maps of one split, [N,H,W], in the order of the split's
// lines in scores.csv. They are kept in half precision: 11 bits, at most 65504,
// steps of 6e-8 below 6e-5.
type Maps struct {
	N, H, W   int
	Saturated int // values beyond ±65504 that were stored as ±65504
	half      []uint16
}

// NewMaps returns n maps of zeros of h×w.
func NewMaps(n, h, w int) *Maps {
	return &Maps{N: n, H: h, W: w, half: make([]uint16, n*h*w)}
}

// Set stores map i, row-major; its length must be H·W and its values finite.
func (m *Maps) Set(i int, v []float32) error {
	if i < 0 || i >= m.N || len(v) != m.H*m.W {
		return fmt.Errorf("map %d of %d values, need one of %d maps of %d×%d", i, len(v), m.N, m.H, m.W)
	}
	for j, x := range v {
		if x != x || math.IsInf(float64(x), 0) {
			return fmt.Errorf("map %d: %g at row %d, column %d, need finite values", i, x, j/m.W, j%m.W)
		}
		if x > maxHalf || x < -maxHalf {
			m.Saturated++
		}
		m.half[i*m.H*m.W+j] = toHalf(x)
	}
	return nil
}

// At returns map i, row-major.
func (m *Maps) At(i int) []float32 {
	v := make([]float32, m.H*m.W)
	for j := range v {
		v[j] = fromHalf(m.half[i*m.H*m.W+j])
	}
	return v
}

// WriteMaps replaces maps/SPLIT.npy, a NumPy array of shape (N, H, W) and type <f2.
func (f *Folder) WriteMaps(split string, m *Maps) error {
	return f.WriteFile("maps/"+split+".npy", m.writeTo)
}

// ReadMaps reads maps/SPLIT.npy. A missing file is [os.ErrNotExist].
func (f *Folder) ReadMaps(split string) (*Maps, error) {
	path := f.Path("maps", split+".npy")
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := decodeMaps(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return m, nil
}

const npyMagic = "\x93NUMPY\x01\x00"

func (m *Maps) writeTo(w io.Writer) error {
	// The array starts at a multiple of 64 bytes, as the format asks for.
	header := fmt.Sprintf("{'descr': '<f2', 'fortran_order': False, 'shape': (%d, %d, %d), }", m.N, m.H, m.W)
	header += fmt.Sprintf("%*s\n", 63-(len(npyMagic)+2+len(header))%64, "")
	b := append([]byte(npyMagic), byte(len(header)), byte(len(header)>>8))
	if _, err := w.Write(append(b, header...)); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, m.half)
}

var npyHeader = regexp.MustCompile(
	`^\{'descr': '<f2', 'fortran_order': False, 'shape': \((\d{1,9}), (\d{1,9}), (\d{1,9})\),? ?\} *\n?$`)

func decodeMaps(b []byte) (*Maps, error) {
	rest, ok := bytes.CutPrefix(b, []byte(npyMagic))
	if !ok || len(rest) < 2 {
		return nil, fmt.Errorf("not a NumPy file of version 1.0")
	}
	size := int(binary.LittleEndian.Uint16(rest))
	if len(rest) < 2+size {
		return nil, fmt.Errorf("truncated header")
	}
	fields := npyHeader.FindSubmatch(rest[2 : 2+size])
	if fields == nil {
		return nil, fmt.Errorf("header %q, need float16 maps of shape (N, H, W)", rest[2:2+size])
	}
	var shape [3]int
	for i := range shape {
		shape[i], _ = strconv.Atoi(string(fields[i+1])) // at most nine digits
	}
	rest = rest[2+size:]
	// In floating point, so that a forged shape cannot overflow.
	if want := 2 * float64(shape[0]) * float64(shape[1]) * float64(shape[2]); want != float64(len(rest)) {
		return nil, fmt.Errorf("%d bytes of maps, need %.0f for shape %v; score the run again", len(rest), want, shape)
	}
	m := NewMaps(shape[0], shape[1], shape[2])
	for i := range m.half {
		m.half[i] = binary.LittleEndian.Uint16(rest[2*i:])
	}
	return m, nil
}

const maxHalf = 65504

// toHalf rounds to the nearest half-precision number, ties to even, and to the
// largest finite one beyond that.
func toHalf(x float32) uint16 {
	bits := math.Float32bits(x)
	sign := uint16(bits >> 16 & 0x8000)
	abs := math.Float32frombits(bits &^ (1 << 31))
	switch {
	case abs >= maxHalf:
		return sign | 0x7bff
	case abs < 0x1p-14: // subnormal: a multiple of 2^-24
		return sign | uint16(math.RoundToEven(float64(abs)*0x1p24))
	}
	// Rounding may carry into the exponent, which is then right.
	mantissa := bits & (1<<31 - 1)
	mantissa += 0xfff + mantissa>>13&1
	return sign | uint16(mantissa>>13-(127-15)<<10)
}

func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	switch exponent {
	case 0: // subnormal: a multiple of 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 31: // infinite or not a number
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}
