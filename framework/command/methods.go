//go:build !reports

package command

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/BurntSushi/toml"

	"thorax/framework"
)

// Sources holds the source files of the methods and of what they are
// configured by, under their paths in the module: the comments there are what
// thorax show prints.
var Sources fs.FS

type listCmd struct {
	Names bool `help:"Names only, one a line."`
}

func (listCmd) Help() string { return example("thorax list", "thorax show padim") }

func (c *listCmd) Run(a *app) error {
	infos := make([]framework.Info, 0, len(framework.Names()))
	for _, name := range framework.Names() {
		i, err := framework.Lookup(name)
		if err != nil {
			return err
		}
		infos = append(infos, i)
	}
	slices.SortStableFunc(infos, func(x, y framework.Info) int { return strings.Compare(x.Family, y.Family) })
	for _, i := range infos {
		if c.Names {
			fmt.Fprintln(a.stdout, i.Name)
		} else {
			fmt.Fprintf(a.stdout, "%-16s %-15s %s\n", i.Name, i.Family, i.Source)
		}
	}
	return nil
}

type showCmd struct {
	Method string `arg:"" help:"Name of a method, see thorax list."`
}

func (showCmd) Help() string { return example("thorax show vae") }

func (c *showCmd) Run(a *app) error {
	i, err := framework.Lookup(c.Method)
	if err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	m := i.New()
	fmt.Fprintf(a.stdout, "%s (%s)\n%s\n", i.Name, i.Family, i.Source)
	keys, err := keysOf(m)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		fmt.Fprintln(a.stdout, "\nno keys of its own")
		return nil
	}
	fmt.Fprintf(a.stdout, "\nkeys of a [[method]] block, with their defaults:\n")
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, k := range keys {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", k.name, k.value, k.doc)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if p, ok := m.(interface{ Presets() map[string]any }); ok {
		var names []string
		for name := range p.Presets() {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(a.stdout, "\npresets: %s\n", strings.Join(names, ", "))
	}
	return nil
}

// A key is one TOML key of a method.
type key struct{ name, value, doc string }

// keysOf lists the keys of a method's struct with default and meaning.
func keysOf(m any) ([]key, error) {
	docs := map[string]map[string]string{}
	var keys []key
	var walk func(prefix string, v reflect.Value) error
	walk = func(prefix string, v reflect.Value) error {
		t := v.Type()
		if docs[t.PkgPath()] == nil {
			d, err := fieldDocs(t.PkgPath())
			if err != nil {
				return err
			}
			docs[t.PkgPath()] = d
		}
		for i := range t.NumField() {
			f, fv := t.Field(i), v.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			switch {
			case f.Anonymous && name == "" && fv.Kind() == reflect.Struct:
				if err := walk(prefix, fv); err != nil {
					return err
				}
			case !f.IsExported() || name == "" || name == "-":
			case fv.Kind() == reflect.Struct:
				if err := walk(prefix+name+".", fv); err != nil {
					return err
				}
			default:
				value, err := tomlValue(fv.Interface())
				if err != nil {
					return err
				}
				doc := docs[t.PkgPath()][t.Name()+"."+f.Name]
				if f.Tag.Get("enters") == "score" {
					doc += " [scoring only: trains nothing anew]"
				}
				keys = append(keys, key{prefix + name, value, doc})
			}
		}
		return nil
	}
	return keys, walk("", reflect.ValueOf(m).Elem())
}

func tomlValue(v any) (string, error) {
	b, err := toml.Marshal(map[string]any{"v": v})
	return strings.TrimSpace(strings.TrimPrefix(string(b), "v = ")), err
}

// fieldDocs returns the comments of all struct fields of a package, under
// TYPE.FIELD.
func fieldDocs(pkg string) (map[string]string, error) {
	docs := map[string]string{}
	dir := strings.TrimPrefix(pkg, "thorax/")
	if Sources == nil {
		return docs, nil
	}
	files, err := fs.Glob(Sources, path.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		src, err := fs.ReadFile(Sources, name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			t, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := t.Type.(*ast.StructType)
			if !ok {
				return false
			}
			for _, f := range s.Fields.List {
				text := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
				for _, id := range f.Names {
					docs[t.Name.Name+"."+id.Name] = text
				}
			}
			return false
		})
	}
	return docs, nil
}
