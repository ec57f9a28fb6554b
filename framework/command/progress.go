//go:build !reports

package command

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows what a run does: a bar on a terminal, else a plain line every
// few seconds.
type progress struct {
	out   io.Writer
	bars  *mpb.Progress // nil: plain lines
	bar   *mpb.Bar
	runs  int
	run   string
	start time.Time // of the phase

	phase       string
	from, total int
	losses      string
	rate        float64
	printed     time.Time
}

// pause is the time between two plain lines.
const pause = 10 * time.Second

func newProgress(out io.Writer, runs int) *progress {
	p := &progress{out: out, runs: runs}
	if terminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(30), mpb.WithRefreshRate(200*time.Millisecond))
	}
	return p
}

// begin starts run i of all.
func (p *progress) begin(i int, name string) { p.run = fmt.Sprintf("[%d/%d] %s", i+1, p.runs, name) }

// Phase implements [train.Progress].
func (p *progress) Phase(name string, done, total int) {
	p.endBar()
	p.phase, p.from, p.total, p.losses, p.rate = name, done, total, "", 0
	p.start, p.printed = time.Now(), time.Now()
	if p.bars == nil {
		return
	}
	p.bar = p.bars.AddBar(int64(total), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(p.run+" · "+name+" ")),
		mpb.AppendDecorators(decor.CountersNoUnit("%d/%d "), decor.Any(func(decor.Statistics) string { return p.tail() })))
	p.bar.SetCurrent(int64(done))
}

// Step implements [train.Progress].
func (p *progress) Step(done int, losses map[string]float64, rate float64) {
	if losses != nil {
		var parts []string
		for name, v := range losses {
			parts = append(parts, fmt.Sprintf("%s %.4g", name, v))
		}
		slices.Sort(parts)
		p.losses, p.rate = strings.Join(parts, ", "), rate
	} else if rate > 0 {
		p.rate = rate
	}
	if p.bar != nil {
		p.bar.SetCurrent(int64(done))
		return
	}
	if time.Since(p.printed) >= pause {
		p.printed = time.Now()
		fmt.Fprintf(p.out, "%s · %s %d/%d · %s%s\n", p.run, p.phase, done, p.total, eta(p.start, done-p.from, p.total-done), p.tail())
	}
}

func (p *progress) tail() string {
	s := ""
	if p.rate > 0 {
		s += fmt.Sprintf(" · %.0f images/s", p.rate)
	}
	if p.losses != "" {
		s += " · " + p.losses
	}
	return s
}

// eta estimates the time that the steps left will take.
func eta(start time.Time, done, left int) string {
	if done <= 0 {
		return "-"
	}
	per := time.Since(start) / time.Duration(done)
	return (per * time.Duration(left)).Round(time.Second).String() + " left"
}

// Note implements [train.Progress].
func (p *progress) Note(text string) { p.line(p.run + ": " + text) }

// finish ends a run.
func (p *progress) finish(how string) {
	p.endBar()
	p.line(p.run + ": " + how)
}

func (p *progress) line(text string) {
	if p.bars != nil {
		fmt.Fprintln(p.bars, text)
		return
	}
	fmt.Fprintln(p.out, text)
}

func (p *progress) endBar() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bar = nil
	}
}

// close ends the display; it may be called twice.
func (p *progress) close() {
	p.endBar()
	if p.bars != nil {
		p.bars.Wait()
		p.bars = nil
	}
}

// decoding returns the callback for the images of a set being decoded.
func (p *progress) decoding(name string) func(done, total int) {
	started := false
	return func(done, total int) {
		if !started {
			started = true
			p.run = name
			p.Phase("decoding", 0, total)
		}
		p.Step(done, nil, 0)
		if done == total {
			p.endBar()
		}
	}
}
