package salient

import (
	tf "github.com/wamuir/graft/tensorflow"
	"github.com/wamuir/graft/tensorflow/op"

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
		q = double(at.In("up"), q, width)
		for _, name := range []string{"conv1", "conv2"} {
			at := at.In(name)
			q = nn.Conv2D(at, q, nn.Conv{Out: width, Kernel: 3, NoBias: true})
			q = nn.ReLU(at, nn.BatchNorm(at.In("norm"), q, nn.BN{}))
		}
	}
	return nn.Sigmoid(s, nn.Conv2D(s.In("out"), q, nn.Conv{Out: 1, Kernel: 1}))
}

// double is the transposed 2×2 convolution with stride 2, [B,h,w,C] →
// [B,2h,2w,out], with the variables and first values of [nn.ConvTranspose2D].
// Its windows do not overlap, so that it is one matrix product, in half the
// time.
func double(s *nn.Scope, x tf.Output, out int) tf.Output {
	in, h, w := nn.Channels(s, x), nn.Height(s, x), nn.Width(s, x)
	kernel := s.Variable("kernel", nn.PyTorch(4*out), 2, 2, out, in)
	bias := s.Variable("bias", nn.PyTorch(4*out), out)
	y := op.MatMul(s.Op("matmul"), nn.Reshape(s, x, -1, in), nn.Reshape(s, kernel, 4*out, in), op.MatMulTransposeB(true))
	y = op.BiasAdd(s.Op("bias"), y, nn.Tile(s, bias, 4))
	return nn.DepthToSpace(s, nn.Reshape(s, y, -1, h, w, 4*out), 2)
}
