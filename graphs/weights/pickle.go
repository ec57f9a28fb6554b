package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

const (
	maxPickle  = 32 << 20 // bytes; the state dict of ResNet-152 has 0.2 MB
	maxObjects = 1 << 20  // a tensor takes about ten
	maxDepth   = 64       // of dictionaries in dictionaries
)

// scanPickle finds the end of the pickle program that data starts with, and
// refuses what a file of weights never holds: lengths beyond the data, more
// than maxObjects objects, huge integers, extension codes and buffers. The
// unpickler may then trust every length.
func scanPickle(data []byte) (end int, err error) {
	objects, at := 0, 0
	for {
		if at >= len(data) || at > maxPickle {
			return 0, errors.New("the pickle has no end: the file is cut off")
		}
		op := data[at]
		at++
		width, counted, lines := 0, 0, 0
		switch op {
		case '.':
			return at, nil
		case '(', ']', '}', ')', 'R', 0x81, 0x8f, 0x91, 0x92, 0x94, 'o', 't', 'l', 'd':
			objects++
		case '0', '1', '2', 'N', 'Q', 'a', 'b', 'e', 's', 'u', 0x85, 0x86, 0x87, 0x88, 0x89, 0x90, 0x93:
		case 'K', 'h', 'q', 0x80:
			width = 1
		case 'M':
			width = 2
		case 'J', 'j', 'r':
			width = 4
		case 'G':
			width = 8
		case 'U', 'C', 0x8a, 0x8c:
			counted = 1
		case 'B', 'T', 'X':
			counted = 4
		case 0x8d, 0x8e, 0x95, 0x96: // 0x95 is a frame: its contents are opcodes
			counted = 8
		case 'F', 'I', 'L', 'S', 'V', 'g', 'p':
			lines = 1
		case 'c', 'i':
			lines = 2
			objects++
		default:
			return 0, fmt.Errorf("pickle opcode 0x%02x at byte %d is not one that weights use", op, at-1)
		}
		if objects > maxObjects {
			return 0, fmt.Errorf("the pickle makes more than %d objects", maxObjects)
		}
		for range lines {
			n := bytes.IndexByte(data[at:], '\n')
			if n < 0 || n > 4096 {
				return 0, fmt.Errorf("pickle opcode 0x%02x at byte %d: no line", op, at-1)
			}
			at += n + 1
		}
		rest := data[at:]
		if width+counted > len(rest) {
			return 0, errors.New("the pickle has no end: the file is cut off")
		}
		if counted > 0 {
			var length [8]byte
			copy(length[:], rest[:counted])
			n := binary.LittleEndian.Uint64(length[:])
			if n > uint64(len(rest)-counted) {
				return 0, fmt.Errorf("pickle opcode 0x%02x at byte %d declares %d bytes of %d: the file is cut off", op, at-1, n, len(rest)-counted)
			}
			if op != 0x95 {
				width = int(n)
			}
		}
		at += counted + width
	}
}

// unpickle runs the pickle program that data starts with, and returns what
// follows it. No class of the program exists here: findClass stands in.
func unpickle(data []byte, persistent func(any) (any, error)) (value any, rest []byte, err error) {
	end, err := scanPickle(data)
	if err != nil {
		return nil, nil, err
	}
	defer func() { // the unpickler panics on some malformed programs
		if p := recover(); p != nil {
			value, rest, err = nil, nil, fmt.Errorf("malformed pickle: %.120v", p)
		}
	}()
	u := pickle.NewUnpickler(bytes.NewReader(data[:end]))
	u.FindClass = findClass
	u.PersistentLoad = persistent
	value, err = u.Load()
	if err != nil {
		return nil, nil, fmt.Errorf("malformed pickle: %.120s", err)
	}
	return value, data[end:], nil
}

// storageTypes are the element types of PyTorch's storage classes.
var storageTypes = map[string]DType{
	"BoolStorage": Bool, "ByteStorage": U8, "CharStorage": I8, "ShortStorage": I16,
	"IntStorage": I32, "LongStorage": I64, "HalfStorage": F16, "BFloat16Storage": BF16,
	"FloatStorage": F32, "DoubleStorage": F64,
}

// findClass maps the few names that make up tensors and dictionaries to their
// meaning, and every other name to an inert object.
func findClass(module, name string) (any, error) {
	if module == "torch" || module == "torch.cuda" {
		if dtype, ok := storageTypes[name]; ok {
			return dtype, nil
		}
		if strings.HasSuffix(name, "Storage") {
			return nil, fmt.Errorf("storage type %s is not supported; save the tensors as float32", name)
		}
	}
	switch module + "." + name {
	case "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2":
		return function(rebuildTensor), nil
	case "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state":
		return function(firstArgument), nil
	case "collections.defaultdict":
		return function(func(...any) (any, error) { return types.NewDict(), nil }), nil
	}
	if module == "torch._utils" || module == "torch._tensor" {
		return nil, fmt.Errorf("%s.%s is not supported; save plain dense tensors", module, name)
	}
	return inert(module + "." + name), nil
}

// function is a callable of the pickle program.
type function func(args ...any) (any, error)

func (f function) Call(args ...any) (any, error) { return f(args...) }

func firstArgument(args ...any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("a parameter without its tensor")
	}
	return args[0], nil
}

// inert stands for an object of a class that is not ours, by the class's name:
// it takes whatever the program gives it and does nothing.
type inert string

func (o inert) Call(...any) (any, error)  { return o, nil }
func (o inert) PyNew(...any) (any, error) { return o, nil }
func (o inert) PySetState(any) error      { return nil }
func (o inert) Append(any)                {}
func (o inert) Set(_, _ any)              {}
func (o inert) Add(any)                   {}
