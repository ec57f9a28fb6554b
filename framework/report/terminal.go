package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
)

// terminal prints the table with the best of each column starred.
func (t *table) terminal(w io.Writer, bold bool) error {
	fmt.Fprintln(w, t.title())
	align := []tw.Align{tw.AlignLeft, tw.AlignLeft, tw.AlignRight}
	head := []string{"method", "family", "seeds"}
	for _, c := range t.columns {
		align = append(align, tw.AlignRight)
		head = append(head, c.head+mark(c.oracle, " †"))
	}
	out := tablewriter.NewTable(w,
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithFooterAutoFormat(tw.Off),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithFooterAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithFooterAutoWrap(tw.WrapNone),
	)
	out.Header(head)
	footer := []string{floorLabel, "", ""}
	for j, c := range t.columns {
		footer = append(footer, c.text(t.floor[j])+" ") // under the digits, beside the stars
	}
	for i, r := range t.rows {
		if r.trivial && i > 0 && !t.rows[i-1].trivial {
			if err := out.Append(append([]string{"· trivial ·"}, make([]string, 2+len(t.columns))...)); err != nil {
				return err
			}
		}
		line := []string{r.label + mark(r.oracle, " †") + brackets(r.marks), r.family, r.seedText()}
		for j, c := range t.columns {
			text := c.text(r.cells[j])
			switch {
			case r.cells[j].standing == tied:
				text += "~" + brackets(r.cells[j].marks)
			case r.cells[j].best && bold:
				text = "\x1b[1m" + text + "*\x1b[0m"
			case r.cells[j].best:
				text += "*"
			default:
				text += brackets(r.cells[j].marks) + mark(r.cells[j].marks == "", " ")
			}
			if r.cells[j].best {
				text += brackets(r.cells[j].marks)
			}
			line = append(line, text)
		}
		if err := out.Append(line); err != nil {
			return err
		}
	}
	out.Footer(footer)
	if err := out.Render(); err != nil {
		return err
	}
	for _, line := range t.legend() {
		fmt.Fprintln(w, line)
	}
	return nil
}

// floorLabel names the row of [metric.Floor].
const floorLabel = "all abnormal (floor)"

func (t *table) title() string {
	if t.part != "" {
		return t.experiment + ": " + t.data + ", " + t.part
	}
	return t.experiment + ": " + t.data
}

// legend is the caption, the marks and the footnotes as lines of plain text.
func (t *table) legend() []string {
	lines := []string{strings.Join(t.caption, ". ") + "."}
	lines = append(lines, t.bestNote("*", "~")+".")
	if t.oracle {
		lines = append(lines, "† "+t.oracleText()+".")
	}
	for i, note := range t.notes {
		lines = append(lines, "["+letter(i)+"] "+note)
	}
	return lines
}

// seedText is "3", or "2/3" where one is not complete.
func (r tableRow) seedText() string {
	if r.done < r.seeds {
		return fmt.Sprintf("%d/%d", r.done, r.seeds)
	}
	return fmt.Sprint(r.done)
}

func brackets(marks string) string {
	if marks == "" {
		return ""
	}
	return " [" + marks + "]"
}

func mark(on bool, text string) string {
	if on {
		return text
	}
	return ""
}
