package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
)

// ReadRun reads a resolved configuration that TOML wrote, such as the config.toml
// of a run's folder, and checks it as Load does. Keys it lacks have their
// defaults. Data.Root is as written in the experiment, relative to that file, not
// to the run's folder; Row is 0.
func ReadRun(path string, m Methods) (Run, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Run{}, fmt.Errorf("read run configuration: %w", err)
	}
	d, err := newDocument(path, text)
	if err != nil {
		return Run{}, err
	}
	run, err := resolved(d, m)
	if err != nil {
		return Run{}, d.locate(err, nil)
	}
	return run, nil
}

func resolved(d *document, m Methods) (Run, error) {
	e := &Experiment{methods: m}
	run := Run{Train: DefaultTrain()}
	head := struct {
		Title      string `toml:"title"`
		Experiment string `toml:"experiment"`
		Seed       uint64 `toml:"seed"`
	}{}
	rest := map[string]any{}
	tables := map[string]map[string]any{}
	for _, key := range sortedKeys(d.root) {
		value := d.root[key]
		switch key {
		case "title", "experiment", "seed":
			rest[key] = value
		case "data", "method", "train":
			table, ok := value.(map[string]any)
			if !ok {
				return Run{}, mismatch(key, value, "a table")
			}
			tables[key] = table
		default:
			return Run{}, unknown(key, key, []string{"title", "experiment", "seed", "data", "method", "train"})
		}
	}
	for _, key := range []string{"data", "method", "train"} {
		if tables[key] == nil {
			return Run{}, wrongf(key, "missing, so this is no resolved configuration")
		}
	}
	if err := decode("", rest, reflect.ValueOf(&head).Elem()); err != nil {
		return Run{}, err
	}
	block, err := readBlock("data", tables["data"])
	if err != nil {
		return Run{}, err
	}
	run.Data, run.root = block, block.Root
	e.Data = append(e.Data, block)
	row, err := e.row("method", variant{table: tables["method"]}, run.Train)
	if err != nil {
		return Run{}, err
	}
	if err := row.Train.overlay("train", tables["train"]); err != nil {
		return Run{}, err
	}
	run.Experiment, run.Title, run.Seed = head.Experiment, head.Title, head.Seed
	run.Method, run.Preset, run.Label, run.Slug = row.Method, row.Preset, row.Label, row.Slug
	run.Train, run.Keys = row.Train, row.Keys
	run.Dir = strings.Join([]string{"results", run.Experiment, block.Name, run.Slug, fmt.Sprintf("seed-%d", run.Seed)}, "/")
	return run, nil
}
