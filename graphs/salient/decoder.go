package salient

import (
	tf "github.com/wamuir/graft/tensorflow"

	"thorax/graphs/nn"
)

// decoderWidths are the channels of the decoder's blocks.
var decoderWidths = []int{256, 128, 64}

// Decode maps q [B,h,w,512] to images [B,8h,8w,1] in (0,1): three blocks of a
// transposed 2×2 convolution with stride 2 and twice a 3×3 convolution, batch
// norm and ReLU; then a 1×1 convolution and a sigmoid. 2,238,721 parameters.
func Decode(s *nn.Scope, q tf.Output) tf.Output {
	for i, width := range decoderWidths {
		at := s.At(i)
		q = nn.ConvTranspose2D(at.In("up"), q, nn.Conv{Out: width, Kernel: 2, Stride: 2, Pad: nn.Valid})
		for _, name := range []string{"conv1", "conv2"} {
			at := at.In(name)
			q = nn.Conv2D(at, q, nn.Conv{Out: width, Kernel: 3, NoBias: true})
			q = nn.ReLU(at, nn.BatchNorm(at.In("norm"), q, nn.BN{}))
		}
	}
	return nn.Sigmoid(s, nn.Conv2D(s.In("out"), q, nn.Conv{Out: 1, Kernel: 1}))
}
