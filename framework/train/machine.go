package train

import (
	"bufio"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"thorax/graphs/session"
)

// cpuName returns the processor's model, "" where the system does not tell.
func cpuName() string { return procField("/proc/cpuinfo", "model name") }

// Peak returns the largest resident size of the process since ResetPeak, in
// bytes, 0 where the system does not tell.
func Peak() int64 {
	kb, _, _ := strings.Cut(procField("/proc/self/status", "VmHWM"), " ")
	n, _ := strconv.ParseInt(kb, 10, 64)
	return n << 10
}

// ResetPeak forgets the peak of earlier runs in this process, where it can.
func ResetPeak() {
	debug.FreeOSMemory()
	session.Trim()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

func procField(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// BF16 reports whether the processor computes bfloat16.
func BF16() bool {
	flags := strings.Fields(procField("/proc/cpuinfo", "flags"))
	return slices.Contains(flags, "avx512_bf16") || slices.Contains(flags, "amx_bf16")
}

// device names where a session computes: its first GPU, else the CPU.
func device(x *session.Session) (string, error) {
	names, err := x.Devices()
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if i := strings.Index(n, "GPU:"); i >= 0 {
			return n[i:], nil
		}
	}
	return "CPU", nil
}
