package report

import (
	"bytes"
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgpdf"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart is a plot with its legend at the right.
type chart struct {
	axes          *plot.Plot
	legend        *plot.Legend // nil: none
	labels        []string     // all lines of the legend
	width, height vg.Length    // of the plot with its tick labels; width 0 makes the axes square
}

// dpi is the resolution of a PNG in print.
const dpi = 220

// draw writes the chart as png, svg or pdf.
func (c *chart) draw(w io.Writer, format string) error {
	const margin = 8 // points around all, and between axes and legend
	width, height, key := c.width, c.height, vg.Length(0)
	if c.legend != nil {
		key = c.legendWidth() + margin
		height = max(height, c.legendHeight())
	}
	if width == 0 {
		// The margins for tick labels and titles differ, so the width is what makes
		// the axes square.
		width = c.height
		probe := c.axes.DataCanvas(draw.NewCanvas(vgsvg.New(width, c.height), width, c.height))
		width += probe.Size().Y - probe.Size().X
	}
	return render(w, format, width+key+2*margin, height+2*margin, func(whole draw.Canvas) {
		inner := draw.Crop(whole, margin, -margin, margin, -margin)
		c.axes.Draw(draw.Crop(inner, 0, -key, height-c.height, 0))
		if c.legend != nil {
			c.legend.Draw(draw.Crop(inner, width+margin, 0, 0, -vg.Points(26)))
		}
	})
}

// render paints on a white canvas of some format.
func render(w io.Writer, format string, width, height vg.Length, paint func(draw.Canvas)) error {
	var canvas vg.CanvasWriterTo
	switch format {
	case "png":
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(dpi))}
	case "svg":
		canvas = vgsvg.New(width, height)
	case "pdf":
		canvas = vgpdf.New(width, height)
	default:
		return fmt.Errorf("plot format %q, need png, svg or pdf", format)
	}
	whole := draw.NewCanvas(canvas, width, height)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	paint(whole)
	if format != "svg" {
		_, err := canvas.WriteTo(w)
		return err
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Where the font is missing, take one of the same widths.
	_, err := w.Write(bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")))
	return err
}

// sans is the plot's font, as wide as Arial.
func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

// newAxes is an empty plot in the style of all our plots.
func newAxes(title, x, y string) *plot.Plot {
	axes := plot.New()
	axes.Title.Text = title
	axes.Title.TextStyle.Font = sans(11)
	axes.Title.Padding = vg.Points(6)
	for axis, name := range map[*plot.Axis]string{&axes.X: x, &axes.Y: y} {
		axis.Label.Text = name
		axis.Label.TextStyle.Font = sans(10)
		axis.Tick.Label.Font = sans(9)
		axis.Padding = 0
	}
	return axes
}

func newLegend() *plot.Legend {
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.TextStyle.Font = sans(8.5)
	legend.Padding = vg.Points(3.2)
	legend.ThumbnailWidth = vg.Points(30)
	legend.YPosition = draw.PosCenter
	return &legend
}

func (c *chart) legendWidth() vg.Length {
	width := vg.Length(0)
	for _, label := range c.labels {
		width = max(width, c.legend.TextStyle.Width(label))
	}
	return width + c.legend.ThumbnailWidth + vg.Points(16)
}

func (c *chart) legendHeight() vg.Length {
	line := c.legend.TextStyle.Height("0Ag±") + c.legend.Padding
	return vg.Length(len(c.labels))*line + vg.Points(40)
}
