//go:build !reports

package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	tf "github.com/wamuir/graft/tensorflow"

	"thorax/framework/train"
	"thorax/graphs/nn"
	"thorax/graphs/session"
)

type doctorCmd struct{}

func (doctorCmd) Help() string { return example("thorax doctor") }

func (c *doctorCmd) Run(a *app) error {
	say := func(name, format string, args ...any) {
		fmt.Fprintf(a.stdout, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	say("thorax", "%s", or(revision(), "no source revision"))
	say("go", "%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	say("tensorflow", "%s", tf.Version())
	if tf.Version() != "2.18.1" {
		say("", "thorax is tested with 2.18.1: unset LIBTENSORFLOW and run make setup")
	}
	x, err := session.New(nn.NewScope(0), session.Options{})
	if err != nil {
		return fmt.Errorf("TensorFlow does not start: %w; run make setup", err)
	}
	defer x.Close()
	devices, err := x.Devices()
	if err != nil {
		return err
	}
	gpu := false
	for _, d := range devices {
		say("device", "%s", d)
		gpu = gpu || strings.Contains(d, "GPU:")
	}
	if !gpu {
		say("", "%s", whyNoGPU())
	}
	switch {
	case gpu:
		say("bf16", "on the GPU, where it has tensor cores for it")
	case train.BF16():
		say("bf16", "the CPU computes it: precision = \"bf16\" is faster")
	default:
		say("bf16", "the CPU has no such instructions: precision = \"bf16\" works but gains nothing")
	}
	say("cores", "%d", runtime.NumCPU())
	missing := 0
	for _, f := range []struct{ path, what, repair string }{
		{".thorax/weights/efficientnet-lite0-57934424.pth", "weights of EfficientNet-Lite0", "framework/setup/fetch.sh weights"},
	} {
		if _, err := os.Stat(filepath.FromSlash(f.path)); err != nil {
			say("missing", "%s (%s): run %s", f.what, f.path, f.repair)
			missing++
		} else {
			say("weights", "%s", f.path)
		}
	}
	if err := writable(a.Results); err != nil {
		say("results", "%v: choose another folder with --results", err)
		missing++
	}
	if missing > 0 {
		return fmt.Errorf("%d things to repair", missing)
	}
	say("", "all is well")
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// whyNoGPU says why TensorFlow sees no GPU.
func whyNoGPU() string {
	if _, err := exec.LookPath("nvidia-smi"); err != nil {
		return "no GPU: this machine has no NVIDIA driver (nvidia-smi is not there); computing on the CPU"
	}
	return "an NVIDIA driver is there, but this libtensorflow is built for CPUs: unpack the CUDA build and set LIBTENSORFLOW, see the README"
}

func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}
