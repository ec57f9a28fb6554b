package data

import (
	"errors"
	"fmt"
	"math"
)

// Window maps stored 16-bit values to grey: h = Slope·v + Intercept, in Hounsfield units for CT, goes
// linearly from black at Centre − Width/2 to white at Centre + Width/2, and is cut off beyond. It is
// applied at the stored size, before values are reduced to 8 bits and the image is resized.
type Window struct {
	Centre    float64 `toml:"centre"`
	Width     float64 `toml:"width"`     // above 0
	Slope     float64 `toml:"slope"`     // default 1
	Intercept float64 `toml:"intercept"` // value of a stored 0; -1024 and -32768 are usual
}

// checkWindow checks the window and completes its slope.
func (o *Options) checkWindow() error {
	if o.Window == nil {
		return nil
	}
	w := *o.Window
	switch {
	case o.Set == "phantom":
		return errors.New("data.window: given with set \"phantom\", whose images are 8 bits deep; remove it")
	case !(w.Width > 0) || math.IsInf(w.Width, 0):
		return fmt.Errorf("data.window.width: %g, need more than 0", w.Width)
	case !finite(w.Centre, w.Slope, w.Intercept):
		return fmt.Errorf("data.window: centre %g, slope %g, intercept %g, need finite numbers", w.Centre, w.Slope, w.Intercept)
	case w.Slope == 0:
		w.Slope = 1
	}
	o.Window = &w
	return nil
}

func finite(values ...float64) bool {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// grey is the 8-bit grey of a stored value.
func (w *Window) grey(v uint16) uint8 {
	share := (w.Slope*float64(v)+w.Intercept-w.Centre)/w.Width + .5
	return uint8(math.Round(255 * min(1, max(0, share))))
}
