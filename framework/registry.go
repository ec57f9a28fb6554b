package framework

import (
	"fmt"
	"slices"

	"thorax/graphs/weights"
)

// Info describes a registered method for lists, tables and readers.
type Info struct {
	Name   string
	Family string     // reconstruction, feature, synthesis, trivial, proposed
	Source string     // paper or origin
	New    func() any // a Method or a Direct with its defaults

	// Import reads an official checkpoint; preset names what the file does not tell. nil: none is known.
	Import func(path, preset string) (*Imported, error)
}

// Imported is an official checkpoint as a method with its variables.
type Imported struct {
	Method    Method
	Size      int                      // side of the images
	Variables map[string]weights.Array // by path, with their shapes: all that scoring needs
	Unused    []string                 // tensors of parts that the preset switches off
}

var registry = map[string]Info{}

// Register adds a method; packages of methods call it from init. A name taken
// twice, or a constructor of something else than a [Method] or [Direct], is a
// mistake of ours and panics.
func Register(i Info) {
	if _, taken := registry[i.Name]; taken {
		panic(fmt.Sprintf("framework: method %q registered twice", i.Name))
	}
	switch i.New().(type) {
	case Method, Direct:
	default:
		panic(fmt.Sprintf("framework: %q is neither a Method nor a Direct", i.Name))
	}
	registry[i.Name] = i
}

// Lookup returns the method of the given name.
func Lookup(name string) (Info, error) {
	i, ok := registry[name]
	if !ok {
		return Info{}, fmt.Errorf("no method %q: one of %v", name, Names())
	}
	return i, nil
}

// Names returns the registered names in alphabetical order.
func Names() []string {
	var names []string
	for name := range registry {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Registry gives package config the registered methods.
type Registry struct{}

// New returns a pointer to the named method's struct with its defaults.
func (Registry) New(name string) (any, error) {
	i, err := Lookup(name)
	if err != nil {
		return nil, err
	}
	return i.New(), nil
}

// Names returns the registered names.
func (Registry) Names() []string { return Names() }
