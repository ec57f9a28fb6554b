// Package session runs the graphs of package nn: it starts TensorFlow, moves
// tensors and variables in and out, and owns the memory of both.
package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"unsafe"

	tf "github.com/wamuir/graft/tensorflow"
	pb "github.com/wamuir/graft/tensorflow/core/protobuf/for_core_protos_go_proto"
	"google.golang.org/protobuf/proto"

	"thorax/graphs/nn"
)

// Options say how TensorFlow runs. The zero value is float32 on every core.
type Options struct {
	Threads   int    // threads inside and between operations; 0 lets TensorFlow choose
	Precision string // "float32" (default) or "bf16": mixed precision where the hardware has it
	MemoryMB  int    // GPU memory limit; 0 grows as needed
	Devices   string // visible GPUs, such as "0"; "" is all, "-1" none
}

// A Session holds the values of a graph's variables. Not safe for concurrent
// use.
type Session struct {
	scope   *nn.Scope
	session *tf.Session
	pending int // bytes of tensors since the last collection
	Runs    int // calls of Run so far
}

// New starts a session on the graph of s. It fails with the first error of s.
func New(s *nn.Scope, o Options) (*Session, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	config, err := o.Proto()
	if err != nil {
		return nil, err
	}
	x, err := tf.NewSession(s.Graph(), &tf.SessionOptions{Config: config})
	if err != nil {
		return nil, fmt.Errorf("start TensorFlow: %w", err)
	}
	return &Session{scope: s, session: x}, nil
}

// Proto returns o as TensorFlow's serialised ConfigProto.
func (o Options) Proto() ([]byte, error) {
	c := &pb.ConfigProto{
		IntraOpParallelismThreads: int32(o.Threads),
		InterOpParallelismThreads: int32(o.Threads),
		AllowSoftPlacement:        true,
		GpuOptions:                &pb.GPUOptions{AllowGrowth: o.MemoryMB == 0, VisibleDeviceList: o.Devices},
		GraphOptions:              &pb.GraphOptions{RewriteOptions: rewriting()},
	}
	if o.MemoryMB > 0 {
		c.GpuOptions.Experimental = &pb.GPUOptions_Experimental{
			VirtualDevices: []*pb.GPUOptions_Experimental_VirtualDevices{{MemoryLimitMb: []float32{float32(o.MemoryMB)}}},
		}
	}
	if o.Devices == "-1" {
		c.DeviceCount = map[string]int32{"GPU": 0}
	}
	switch o.Precision {
	case "", "float32":
	case "bf16":
		c.GraphOptions.RewriteOptions.AutoMixedPrecisionOnednnBfloat16 = pb.RewriterConfig_ON
		c.GraphOptions.RewriteOptions.AutoMixedPrecision = pb.RewriterConfig_ON
	default:
		return nil, fmt.Errorf("precision %q: use float32 or bf16", o.Precision)
	}
	return proto.Marshal(c)
}

// rewriting is what TensorFlow does to a graph before it first runs it: once
// over, without the passes that our graphs have no use for (they have no loops,
// functions or tensors to swap out). Large graphs start in two thirds of the time.
func rewriting() *pb.RewriterConfig {
	const off = pb.RewriterConfig_OFF
	return &pb.RewriterConfig{
		MetaOptimizerIterations:     pb.RewriterConfig_ONE,
		MemoryOptimization:          pb.RewriterConfig_NO_MEM_OPT,
		LoopOptimization:            off,
		FunctionOptimization:        off,
		ShapeOptimization:           off,
		ScopedAllocatorOptimization: off,
	}
}

// Raw returns the session behind x, for measuring what x adds.
func (x *Session) Raw() *tf.Session { return x.session }

// Close frees the session.
func (x *Session) Close() error { return x.session.Close() }

// Devices lists the devices TensorFlow sees, such as
// "/job:localhost/replica:0/task:0/device:CPU:0".
func (x *Session) Devices() ([]string, error) {
	devices, err := x.session.ListDevices()
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.Name
	}
	return names, err
}

// Run evaluates fetches and targets once. Errors are TensorFlow's own, without
// its list of graph nodes.
func (x *Session) Run(feeds map[tf.Output]*tf.Tensor, fetches []tf.Output, targets ...*tf.Operation) ([]*tf.Tensor, error) {
	x.Runs++
	var out []*tf.Tensor
	err := Quietly(func() (err error) {
		out, err = x.session.Run(feeds, fetches, targets)
		return err
	})
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "\n")
		text, _, _ = strings.Cut(text, "\t [[")
		return nil, errors.New(strings.TrimSpace(text))
	}
	for _, t := range feeds {
		x.pending += size(t)
	}
	for _, t := range out {
		x.pending += size(t)
	}
	x.collect()
	return out, nil
}

// collect runs Go's collector after every 16 MB of tensors. TensorFlow's memory
// hangs on Go's finalisers, and the collector sees none of it.
func (x *Session) collect() {
	if x.pending >= 16<<20 {
		x.pending = 0
		runtime.GC()
	}
}

func size(t *tf.Tensor) int {
	n := 4
	if t.DataType() == tf.Int64 || t.DataType() == tf.Double {
		n = 8
	}
	for _, d := range t.Shape() {
		n *= int(d)
	}
	return n
}

// Init sets every variable below the session's scope to its initial value.
func (x *Session) Init() error { return x.InitVariables(x.scope.Variables()) }

// InitVariables sets the given variables to their initial values.
func (x *Session) InitVariables(vars []*nn.Variable) error {
	l := x.Loader()
	for _, v := range vars {
		value, shape, err := v.Initial()
		if err != nil {
			return err
		}
		if v.DType == tf.Int64 {
			ints := make([]int64, len(value))
			for i, f := range value {
				ints[i] = int64(f)
			}
			err = l.Set(v, Ints(shape, ints))
		} else {
			err = l.Set(v, Floats(shape, value))
		}
		if err != nil {
			return err
		}
	}
	return l.Flush()
}

// A Loader sets many variables in few runs. TensorFlow plans the whole graph
// anew for every new set of operations to run: a run for each variable takes
// longer than a step of training.
type Loader struct {
	session *Session
	feeds   map[tf.Output]*tf.Tensor
	loads   []*tf.Operation
	bytes   int
}

// Loader returns a loader without variables.
func (x *Session) Loader() *Loader { return &Loader{session: x, feeds: map[tf.Output]*tf.Tensor{}} }

// Set gives a variable a value, at the latest by Flush. A wrong type or shape
// is an error that names the variable.
func (l *Loader) Set(v *nn.Variable, t *tf.Tensor) error {
	if err := fits(v, t); err != nil {
		return err
	}
	load, feed := v.Load()
	l.feeds[feed] = t
	l.loads = append(l.loads, load)
	if l.bytes += size(t); l.bytes >= 256<<20 {
		return l.Flush()
	}
	return nil
}

// Flush sets what is not set yet.
func (l *Loader) Flush() error {
	if len(l.loads) == 0 {
		return nil
	}
	_, err := l.session.Run(l.feeds, nil, l.loads...)
	*l = *l.session.Loader()
	return err
}

// Set gives a float32 variable the given shape and row-major values.
func (x *Session) Set(v *nn.Variable, shape []int, value []float32) error {
	return x.SetTensor(v, Floats(shape, value))
}

// SetInts gives an int64 variable the given shape and row-major values.
func (x *Session) SetInts(v *nn.Variable, shape []int, value []int64) error {
	return x.SetTensor(v, Ints(shape, value))
}

// SetTensor gives a variable a value. A wrong type or shape is an error that
// names the variable.
func (x *Session) SetTensor(v *nn.Variable, t *tf.Tensor) error {
	if err := fits(v, t); err != nil {
		return err
	}
	load, feed := v.Load()
	if _, err := x.Run(map[tf.Output]*tf.Tensor{feed: t}, nil, load); err != nil {
		return fmt.Errorf("variable %s: %w", v.Path, err)
	}
	return nil
}

func fits(v *nn.Variable, t *tf.Tensor) error {
	got := t.Shape()
	ok := len(got) == len(v.Shape) && t.DataType() == v.DType
	for i := range v.Shape {
		ok = ok && (v.Shape[i] < 0 || int64(v.Shape[i]) == got[i])
	}
	if !ok {
		return fmt.Errorf("variable %s: has shape %v, the value has %v", v.Path, v.Shape, got)
	}
	return nil
}

// Get returns the values of the given variables in order.
func (x *Session) Get(vars []*nn.Variable) ([]*tf.Tensor, error) {
	fetches := make([]tf.Output, len(vars))
	for i, v := range vars {
		fetches[i] = x.scope.Read(v)
	}
	if err := x.scope.Err(); err != nil {
		return nil, err
	}
	return x.Run(nil, fetches)
}

// Floats returns a float32 tensor of the given shape. It panics if the number
// of values does not fit, which is a mistake of the caller.
func Floats(shape []int, value []float32) *tf.Tensor {
	return tensor(tf.Float, shape, len(value), unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(value))), 4*len(value)))
}

// Ints returns an int64 tensor of the given shape; see [Floats].
func Ints(shape []int, value []int64) *tf.Tensor {
	return tensor(tf.Int64, shape, len(value), unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(value))), 8*len(value)))
}

// Read returns a float32 tensor whose bytes r writes straight into
// TensorFlow's buffer: the cheapest way in.
func Read(shape []int, r io.Reader) (*tf.Tensor, error) {
	return tf.ReadTensor(tf.Float, dims(shape), r)
}

func tensor(dtype tf.DataType, shape []int, n int, raw []byte) *tf.Tensor {
	want := 1
	for _, d := range shape {
		want *= d
	}
	if want != n {
		panic(fmt.Sprintf("session: %d values for shape %v", n, shape))
	}
	t, err := tf.ReadTensor(dtype, dims(shape), bytes.NewReader(raw))
	if err != nil {
		panic("session: " + err.Error())
	}
	return t
}

func dims(shape []int) []int64 {
	d := make([]int64, len(shape))
	for i, n := range shape {
		d[i] = int64(n)
	}
	return d
}

// Values returns the elements of a float32 tensor, row-major.
func Values(t *tf.Tensor) []float32 {
	raw := contents(t)
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

// IntValues returns the elements of an int64 tensor, row-major.
func IntValues(t *tf.Tensor) []int64 {
	raw := contents(t)
	out := make([]int64, len(raw)/8)
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
	}
	return out
}

// Bytes returns the elements of a tensor as they lie in memory, little endian.
func Bytes(t *tf.Tensor) []byte { return contents(t) }

func contents(t *tf.Tensor) []byte {
	var b bytes.Buffer
	b.Grow(size(t))
	if _, err := t.WriteContentsTo(&b); err != nil {
		panic("session: " + err.Error())
	}
	return b.Bytes()
}
