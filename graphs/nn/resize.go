package nn

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"
)

// ResizeBilinear resizes x [B,H,W,C] to [B,h,w,C]. Pixel centres are at half
// integers: PyTorch's align_corners=False. Nothing smooths before it shrinks.
func ResizeBilinear(s *Scope, x tf.Output, h, w int) tf.Output {
	o := s.Op("resize")
	return op.ResizeBilinear(o, x, ints(o, []int{h, w}), op.ResizeBilinearHalfPixelCenters(true))
}

// ResizeAligned is bilinear with the centres of the corner pixels kept in
// place: PyTorch's align_corners=True.
func ResizeAligned(s *Scope, x tf.Output, h, w int) tf.Output {
	o := s.Op("resize")
	return op.ResizeBilinear(o, x, ints(o, []int{h, w}), op.ResizeBilinearAlignCorners(true))
}

// ResizeNearest resizes x [B,H,W,C] to [B,h,w,C]: pixel (i,j) is that of
// (⌊iH/h⌋, ⌊jW/w⌋), as PyTorch's "nearest".
func ResizeNearest(s *Scope, x tf.Output, h, w int) tf.Output {
	o := s.Op("resize")
	return op.ResizeNearestNeighbor(o, x, ints(o, []int{h, w}))
}

// Upsample repeats each pixel n×n times: [B,H,W,C] → [B,nH,nW,C].
func Upsample(s *Scope, x tf.Output, n int) tf.Output {
	return ResizeNearest(s, x, n*Height(s, x), n*Width(s, x))
}

// ResizeMap resizes anomaly maps m [B,H,W] to [B,h,w] as [ResizeBilinear] does.
func ResizeMap(s *Scope, m tf.Output, h, w int) tf.Output {
	if Height(s, m) == h && Width(s, m) == w {
		return m
	}
	return Squeeze(s, ResizeBilinear(s, ExpandDims(s, m, -1), h, w), -1)
}
