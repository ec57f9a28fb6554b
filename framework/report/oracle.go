package report

import (
	"strings"

	"github.com/BurntSushi/toml"

	"thorax/framework/record"
)

// bestTest is the value of train.selection in the config.toml of a run whose step was
// chosen by the labels of the test images, and oracleLabel how such rows' labels end.
const (
	bestTest    = "best-test"
	oracleLabel = "(oracle)"
)

// chosenByTest reports whether the labels of the test images chose a run's model, so
// that all its figures are upper bounds: its config.toml or its label says so.
func chosenByTest(e record.Entry) bool {
	return selection(e) == bestTest || strings.HasSuffix(e.Run.Label, oracleLabel)
}

// selection is train.selection of a run's config.toml; "" without one.
func selection(e record.Entry) string {
	var config struct {
		Train struct {
			Selection string `toml:"selection"`
		} `toml:"train"`
	}
	text, err := e.Config()
	if err != nil {
		return ""
	}
	if _, err := toml.Decode(string(text), &config); err != nil {
		return ""
	}
	return config.Train.Selection
}

// oracleNote explains the mark † of a column.
const oracleNote = "oracle: chosen with the test labels or masks, an upper bound and not a result"

// oracleText explains the marks † of the table's columns and rows.
func (t *table) oracleText() string {
	for _, r := range t.rows {
		if r.oracle {
			return oracleNote + "; a row so marked is never the best, and no other row is tested against it"
		}
	}
	return oracleNote
}
