// Package weights reads named arrays from PyTorch (.pth), safetensors and
// NumPy (.npy, .npz) files, and writes safetensors.
//
// All readers treat a file as untrusted: a declared size is checked against
// the file before memory is asked for, and nothing in a file is executed.
package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// DType names an element type as safetensors does.
type DType string

// The element types that files may hold.
const (
	Bool    DType = "BOOL" // one byte, 0 or 1
	U8      DType = "U8"
	I8      DType = "I8"
	U16     DType = "U16"
	I16     DType = "I16"
	U32     DType = "U32"
	I32     DType = "I32"
	U64     DType = "U64"
	I64     DType = "I64"
	F16     DType = "F16" // IEEE 754 binary16
	BF16    DType = "BF16"
	F32     DType = "F32"
	F64     DType = "F64"
	F8_E4M3 DType = "F8_E4M3" // kept as bytes, not converted
	F8_E5M2 DType = "F8_E5M2" // kept as bytes, not converted
)

// Size is the number of bytes of an element, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case Bool, U8, I8, F8_E4M3, F8_E5M2:
		return 1
	case U16, I16, F16, BF16:
		return 2
	case U32, I32, F32:
		return 4
	case U64, I64, F64:
		return 8
	}
	return 0
}

// Array is a dense array of any rank; a scalar has an empty shape.
// Arrays of one file may share memory: Data is to be read, not changed.
type Array struct {
	DType DType
	Shape []int
	Data  []byte // little endian, row-major, contiguous
}

// Float32Array is v as an F32 array. It panics where shape does not hold
// exactly len(v) elements.
func Float32Array(shape []int, v []float32) Array {
	a := Array{F32, append([]int{}, shape...), make([]byte, 4*len(v))}
	for i, x := range v {
		binary.LittleEndian.PutUint32(a.Data[4*i:], math.Float32bits(x))
	}
	a.mustHold(len(v))
	return a
}

// Int64Array is v as an I64 array. It panics where shape does not hold exactly
// len(v) elements.
func Int64Array(shape []int, v []int64) Array {
	a := Array{I64, append([]int{}, shape...), make([]byte, 8*len(v))}
	for i, x := range v {
		binary.LittleEndian.PutUint64(a.Data[8*i:], uint64(x))
	}
	a.mustHold(len(v))
	return a
}

func (a Array) mustHold(n int) {
	if want, err := product(a.Shape); err != nil || want != n {
		panic(fmt.Sprintf("weights: shape %v for %d values", a.Shape, n))
	}
}

// Len is the number of elements, the product of the shape.
func (a Array) Len() int {
	n := 1
	for _, d := range a.Shape {
		n *= d
	}
	return n
}

// check reports a shape, type and data that do not belong together.
func (a Array) check() error {
	size := a.DType.Size()
	if size == 0 {
		return fmt.Errorf("unknown element type %q", a.DType)
	}
	n, err := product(a.Shape)
	if err != nil {
		return err
	}
	if n > math.MaxInt/size || len(a.Data) != n*size {
		return fmt.Errorf("shape %v of %s and %d bytes do not belong together", a.Shape, a.DType, len(a.Data))
	}
	return nil
}

// product is the number of elements of a shape; an error where a dimension is
// negative or the product overflows.
func product(shape []int) (int, error) {
	n, zero := 1, false
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if d == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(uint64(n), uint64(d))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n = int(lo)
	}
	if zero {
		return 0, nil
	}
	return n, nil
}

// Float64 converts any real type to float64; integers beyond 2^53 are rounded.
func (a Array) Float64() ([]float64, error) {
	return convert[float64](a)
}

// Float32 converts any real type to float32: F16 and BF16 exactly, F64 and
// integers beyond 2^24 rounded.
func (a Array) Float32() ([]float32, error) {
	return convert[float32](a)
}

func convert[T float32 | float64](a Array) ([]T, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	out := make([]T, a.Len())
	le, b := binary.LittleEndian, a.Data
	switch a.DType {
	case F32:
		for i := range out {
			out[i] = T(math.Float32frombits(le.Uint32(b[4*i:])))
		}
	case F64:
		for i := range out {
			out[i] = T(math.Float64frombits(le.Uint64(b[8*i:])))
		}
	case F16:
		for i := range out {
			out[i] = T(half(le.Uint16(b[2*i:])))
		}
	case BF16:
		for i := range out {
			out[i] = T(math.Float32frombits(uint32(le.Uint16(b[2*i:])) << 16))
		}
	case U64:
		for i := range out {
			out[i] = T(le.Uint64(b[8*i:]))
		}
	default:
		v, err := a.Int64()
		if err != nil {
			return nil, fmt.Errorf("%s cannot be converted to floating point", a.DType)
		}
		for i, x := range v {
			out[i] = T(x)
		}
	}
	return out, nil
}

// Int64 converts booleans and integers; an error for floating point and for a
// U64 beyond the range of int64.
func (a Array) Int64() ([]int64, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	le, b := binary.LittleEndian, a.Data
	var at func(i int) int64
	switch a.DType {
	case Bool, U8:
		at = func(i int) int64 { return int64(b[i]) }
	case I8:
		at = func(i int) int64 { return int64(int8(b[i])) }
	case U16:
		at = func(i int) int64 { return int64(le.Uint16(b[2*i:])) }
	case I16:
		at = func(i int) int64 { return int64(int16(le.Uint16(b[2*i:]))) }
	case U32:
		at = func(i int) int64 { return int64(le.Uint32(b[4*i:])) }
	case I32:
		at = func(i int) int64 { return int64(int32(le.Uint32(b[4*i:]))) }
	case I64, U64:
		at = func(i int) int64 { return int64(le.Uint64(b[8*i:])) }
	default:
		return nil, fmt.Errorf("%s is not an integer type", a.DType)
	}
	out := make([]int64, a.Len())
	for i := range out {
		out[i] = at(i)
		if a.DType == U64 && out[i] < 0 {
			return nil, fmt.Errorf("element %d, %d, is beyond int64", i, uint64(out[i]))
		}
	}
	return out, nil
}

// half is the value of an IEEE 754 binary16: 1 sign, 5 exponent (bias 15) and
// 10 fraction bits.
func half(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exponent {
	case 0: // zero or subnormal: fraction · 2^-24, exact in float32
		return math.Float32frombits(math.Float32bits(float32(fraction)/(1<<24)) | sign)
	case 31: // infinity or NaN
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// Transpose copies the array with its dimensions in the order perm: dimension i
// of the result is dimension perm[i] of a. PyTorch's OIHW becomes TensorFlow's
// HWIO by Transpose(2, 3, 1, 0).
func (a Array) Transpose(perm ...int) (Array, error) {
	if err := a.check(); err != nil {
		return Array{}, err
	}
	if len(perm) != len(a.Shape) {
		return Array{}, fmt.Errorf("transpose %v by %v: need %d dimensions", a.Shape, perm, len(a.Shape))
	}
	strides, seen := rowMajor(a.Shape), make([]bool, len(perm))
	shape, moved := make([]int, len(perm)), make([]int, len(perm))
	for i, p := range perm {
		if p < 0 || p >= len(perm) || seen[p] {
			return Array{}, fmt.Errorf("transpose %v by %v: not a permutation", a.Shape, perm)
		}
		seen[p] = true
		shape[i], moved[i] = a.Shape[p], strides[p]
	}
	return Array{a.DType, shape, gather(a.Data, a.DType.Size(), 0, shape, moved)}, nil
}

// rowMajor is the strides, in elements, of a contiguous array.
func rowMajor(shape []int) []int {
	strides, n := make([]int, len(shape)), 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = n
		n *= shape[i]
	}
	return strides
}

// gather copies the elements at offset + Σ index·stride (in elements of size
// bytes) in row-major order. The caller has checked that all lie inside data.
func gather(data []byte, size, offset int, shape, strides []int) []byte {
	n, _ := product(shape)
	out := make([]byte, 0, n*size)
	if n == 0 {
		return out
	}
	index, at := make([]int, len(shape)), offset
	for {
		out = append(out, data[at*size:(at+1)*size]...)
		d := len(shape) - 1
		for ; d >= 0; d-- {
			index[d]++
			at += strides[d]
			if index[d] < shape[d] {
				break
			}
			at -= index[d] * strides[d]
			index[d] = 0
		}
		if d < 0 {
			return out
		}
	}
}
