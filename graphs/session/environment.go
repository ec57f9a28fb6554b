package session

// Two settings of TensorFlow are wanted that it reads when its library is
// loaded, before any Go code runs: no start-up messages, which are not for
// users, and its oneDNN kernels, which make a training step a third faster but
// are on by themselves only where the processor has AVX-512; on everywhere,
// machines differ less in speed and in last bits.
//
// A function in .preinit_array runs earlier still, but the C library has not
// taken over the environment then, so that nothing can be added to it: entries
// of variables that only shells use are replaced. What the user set is left
// alone.

/*
#include <string.h>
#if defined(__GLIBC__)
#include <malloc.h>
static void thorax_trim(void) { malloc_trim(0); }
#else
static void thorax_trim(void) {}
#endif
#if defined(__linux__)
static int thorax_named(const char *entry, const char *name) {
	size_t n = strlen(name);
	return strncmp(entry, name, n) == 0 && entry[n] == '=';
}
static void thorax_set(char **env, const char *name, char *entry) {
	static const char *spare[] = {"_", "SHLVL", "OLDPWD", "PWD", "LS_COLORS", "MAKELEVEL", 0};
	for (char **e = env; *e; e++)
		if (thorax_named(*e, name)) return;
	for (const char **s = spare; *s; s++)
		for (char **e = env; *e; e++)
			if (thorax_named(*e, *s)) {
				*e = entry;
				return;
			}
}
static void thorax_preset(int argc, char **argv, char **env) {
	thorax_set(env, "TF_CPP_MIN_LOG_LEVEL", "TF_CPP_MIN_LOG_LEVEL=2");
	thorax_set(env, "TF_ENABLE_ONEDNN_OPTS", "TF_ENABLE_ONEDNN_OPTS=1");
}
__attribute__((section(".preinit_array"), used)) static void (*thorax_preinit)(int, char **, char **) = thorax_preset;
#endif
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Trim gives memory that TensorFlow has freed back to the system, where the C
// library can: it keeps some, which would count as that of the next run.
func Trim() { C.thorax_trim() }

var first sync.Once

// Quietly calls run. The first call of TensorFlow prints two lines that no
// setting silences; they are taken out of what it writes to standard error.
func Quietly(run func() error) (err error) {
	done := false
	first.Do(func() {
		if os.Getenv("TF_CPP_MIN_LOG_LEVEL") == "2" {
			done = true
			err = filtered(run)
		}
	})
	if !done {
		err = run()
	}
	return err
}

func filtered(run func() error) error {
	r, w, err := os.Pipe()
	if err != nil {
		return run()
	}
	defer r.Close()
	saved, err := unix.Dup(2)
	if err != nil {
		w.Close()
		return run()
	}
	out := os.NewFile(uintptr(saved), "stderr")
	defer out.Close()
	if err := unix.Dup2(int(w.Fd()), 2); err != nil {
		w.Close()
		return run()
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if l := lines.Text(); !strings.Contains(l, "absl::InitializeLog()") && !strings.Contains(l, "MLIR V1 optimization pass") {
				fmt.Fprintln(out, l)
			}
		}
	}()
	err = run()
	restore := unix.Dup2(saved, 2)
	w.Close()
	if restore == nil {
		<-drained
	}
	return err
}
