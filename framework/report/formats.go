package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"

	"thorax/framework/record"
)

// markdown writes the tables for a README: pipes, the best in bold.
func markdown(tables []*table, findings []Finding) []byte {
	var b bytes.Buffer
	for i, t := range tables {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "### %s\n\n", escapeMarkdown(t.title()))
		line := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
		head, rule := []string{"method", "family", "seeds"}, []string{":---", ":---", "---:"}
		for _, c := range t.columns {
			head, rule = append(head, escapeMarkdown(c.head)+mark(c.oracle, " †")), append(rule, "---:")
		}
		line(head...)
		line(rule...)
		for i, r := range t.rows {
			if r.trivial && i > 0 && !t.rows[i-1].trivial {
				line(append([]string{"*trivial*"}, make([]string, 2+len(t.columns))...)...)
			}
			cells := []string{escapeMarkdown(r.label) + mark(r.oracle, " †") + sup(r.marks), escapeMarkdown(r.family), r.seedText()}
			for j, c := range t.columns {
				text := c.text(r.cells[j])
				if r.cells[j].best {
					text = "**" + text + "**"
				}
				cells = append(cells, text+sup(join(",", escapeMarkdown(r.cells[j].standing.mark()), r.cells[j].marks)))
			}
			line(cells...)
		}
		floor := []string{"*" + floorLabel + "*", "", ""}
		for j, c := range t.columns {
			floor = append(floor, c.text(t.floor[j]))
		}
		line(floor...)
		fmt.Fprintf(&b, "\n%s. %s.\n", escapeMarkdown(strings.Join(t.caption, ". ")), escapeMarkdown(t.bestNote("Bold", "≈")+t.starNote()))
		if t.oracle {
			fmt.Fprintf(&b, "\n† %s.\n", t.oracleText())
		}
		for i, note := range t.notes {
			fmt.Fprintf(&b, "\n<sup>%s</sup> %s\n", letter(i), escapeMarkdown(note))
		}
	}
	if len(findings) > 0 {
		b.WriteString("\n### Limits of these figures\n\n")
	}
	for _, f := range findings {
		fmt.Fprintf(&b, "- %s\n", escapeMarkdown(f.String()))
	}
	return b.Bytes()
}

// String is "L6: text. Authors: annotation".
func (f Finding) String() string {
	s := f.Code + ": " + f.Text
	if f.Annotation != "" {
		s += ". Authors: " + f.Annotation
	}
	return s
}

// mark is what stands beside a cell: ≈ for a tie with the best, stars below it.
func (s standing) mark() string {
	if s == tied {
		return "≈"
	}
	return s.stars()
}

// starNote explains the stars of a tested table.
func (t *table) starNote() string {
	if !t.tested {
		return ""
	}
	return "; *, **, ***: below the highest mean with p < .05, .01, .001"
}

func sup(marks string) string {
	if marks == "" {
		return ""
	}
	return "<sup>" + marks + "</sup>"
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", ">", "&gt;", "[", `\[`, "]", `\]`, "\n", " ")

func escapeMarkdown(s string) string { return markdownEscapes.Replace(s) }

// csvTable writes one line for each cell, in full precision: the form that other
// programs read. What was not computed has n 0 and empty mean and sd; sd is also
// empty for a single seed; oracle is true where the metric's threshold or the row's
// model was chosen with the labels of the test images; low and high are the ends of the 95 % interval over test
// images where it was computed.
func csvTable(tables []*table) []byte {
	var b bytes.Buffer
	out := csv.NewWriter(&b) // a bytes.Buffer does not fail
	out.Write([]string{"experiment", "data", "label", "method", "family", "seeds_complete", "seeds", "metric", "id", "oracle", "mean", "sd", "n", "low", "high", "best", "standing", "notes"})
	number := func(v float64, there bool) string {
		if !there {
			return ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	for _, t := range tables {
		write := func(r tableRow, seeds []string, c column, x cell) {
			out.Write(append(append([]string{t.experiment, t.data, r.label, r.method, r.family}, seeds...),
				c.name, c.id, strconv.FormatBool(c.oracle || r.oracle), number(x.mean, x.n > 0), number(x.sd, x.n > 1),
				strconv.Itoa(x.n), number(x.low, x.ranged), number(x.top, x.ranged), strconv.FormatBool(x.best), x.place(c), t.noteTexts(r.marks, x.marks)))
		}
		for _, r := range t.rows {
			for j, c := range t.columns {
				if c.kind == interval {
					continue // low and high of the metric's own line
				}
				write(r, []string{strconv.Itoa(r.done), strconv.Itoa(r.seeds)}, c, r.cells[j])
			}
		}
		for j, c := range t.columns {
			if t.floor[j].n > 0 {
				write(tableRow{label: floorLabel, family: "floor"}, []string{"", ""}, c, t.floor[j])
			}
		}
	}
	out.Flush()
	return b.Bytes()
}

// place names a cell's standing by tests, or the gap and verdict of a published value.
func (x cell) place(c column) string {
	switch c.kind {
	case figures:
		return [...]string{"untested", "best", "tie", "p<.05", "p<.01", "p<.001"}[x.standing]
	case paper:
		return x.words
	}
	return ""
}

// noteTexts spells the footnotes out, separated by " | ".
func (t *table) noteTexts(marks ...string) string {
	var texts []string
	for i, note := range t.notes {
		for _, m := range marks {
			if strings.Contains(","+m+",", ","+letter(i)+",") {
				texts = append(texts, note)
			}
		}
	}
	return strings.Join(texts, " | ")
}

// latex writes a booktabs table for each data set; the document needs
// \usepackage{booktabs}.
func latex(tables []*table) []byte {
	var b bytes.Buffer
	for i, t := range tables {
		if i > 0 {
			b.WriteByte('\n')
		}
		line := func(cells ...string) { fmt.Fprintf(&b, "%s \\\\\n", strings.Join(cells, " & ")) }
		fmt.Fprintf(&b, "\\begin{table}\n\\centering\n\\caption{%s. %s.}\n\\label{tab:%s}\n", escapeLaTeX(t.title()),
			escapeLaTeX(strings.Join(t.caption, ". ")), record.Slug(t.experiment+" "+t.data))
		fmt.Fprintf(&b, "\\begin{tabular}{llr%s}\n\\toprule\n", strings.Repeat("r", len(t.columns)))
		head := []string{"method", "family", "seeds"}
		for _, c := range t.columns {
			head = append(head, escapeLaTeX(c.head)+mark(c.oracle, `\textsuperscript{\dag}`))
		}
		line(head...)
		b.WriteString("\\midrule\n")
		for i, r := range t.rows {
			if r.trivial && i > 0 && !t.rows[i-1].trivial {
				b.WriteString("\\midrule\n")
			}
			cells := []string{escapeLaTeX(r.label) + superscript(join(",", mark(r.oracle, `\dag`), r.marks)), escapeLaTeX(r.family), r.seedText()}
			for j, c := range t.columns {
				text := escapeLaTeX(c.text(r.cells[j]))
				if r.cells[j].best {
					text = `\textbf{` + text + `}`
				}
				mark := strings.NewReplacer("*", `$\ast$`, "≈", `$\approx$`).Replace(r.cells[j].standing.mark())
				cells = append(cells, text+superscript(join(",", mark, r.cells[j].marks)))
			}
			line(cells...)
		}
		b.WriteString("\\midrule\n")
		floor := []string{`\emph{` + floorLabel + `}`, "", ""}
		for j, c := range t.columns {
			floor = append(floor, escapeLaTeX(c.text(t.floor[j])))
		}
		line(floor...)
		b.WriteString("\\bottomrule\n\\end{tabular}\n")
		var notes []string
		if t.tested {
			notes = append(notes, escapeLaTeX(t.bestNote("Bold", "≈"))+`; $\ast$, $\ast\ast$, $\ast\ast\ast$: below the highest mean with $p$ $<$ .05, .01, .001`)
		}
		if t.oracle {
			notes = append(notes, `\textsuperscript{\dag} `+t.oracleText())
		}
		for i, note := range t.notes {
			notes = append(notes, superscript(letter(i))+" "+escapeLaTeX(note))
		}
		if notes != nil {
			fmt.Fprintf(&b, "\\par\\smallskip\n\\begin{minipage}{\\linewidth}\\footnotesize\n%s.\n\\end{minipage}\n", strings.Join(notes, ".\\\\\n"))
		}
		b.WriteString("\\end{table}\n")
	}
	return b.Bytes()
}

func superscript(marks string) string {
	if marks == "" {
		return ""
	}
	return `\textsuperscript{` + marks + `}`
}

var latexEscapes = strings.NewReplacer(
	`\`, `\textbackslash{}`, "{", `\{`, "}", `\}`, "$", `\$`, "&", `\&`, "#", `\#`, "%", `\%`, "_", `\_`,
	"^", `\textasciicircum{}`, "~", `\textasciitilde{}`, "<", `$<$`, ">", `$>$`, "|", `$|$`, "\n", " ",
	"±", `$\pm$`, "–", "--", "≥", `$\ge$`, "≤", `$\le$`, "≈", `$\approx$`, "−", `$-$`, "†", `\dag{}`, "‡", `\ddag{}`, "×", `$\times$`,
	"α", `$\alpha$`, "β", `$\beta$`, "γ", `$\gamma$`, "λ", `$\lambda$`, "μ", `$\mu$`, "σ", `$\sigma$`)

func escapeLaTeX(s string) string { return latexEscapes.Replace(s) }
