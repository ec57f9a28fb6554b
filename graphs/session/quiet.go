package session

// TensorFlow's start-up messages are not for users. It reads
// TF_CPP_MIN_LOG_LEVEL when its library is loaded, before any Go code runs. A
// function in .preinit_array runs earlier still, but the C library has not
// taken over the environment then, so that nothing can be added to it: the
// entry of a variable that only shells use is replaced. What the user set is
// left alone.

/*
#include <string.h>
#if defined(__linux__)
static int thorax_named(const char *entry, const char *name) {
	return strncmp(entry, name, strlen(name)) == 0;
}
static void thorax_quiet(int argc, char **argv, char **env) {
	char **spare = 0;
	for (; *env; env++) {
		if (thorax_named(*env, "TF_CPP_MIN_LOG_LEVEL=")) return;
		if (thorax_named(*env, "_=") || (!spare && (thorax_named(*env, "SHLVL=") || thorax_named(*env, "OLDPWD=")))) spare = env;
	}
	if (spare) *spare = "TF_CPP_MIN_LOG_LEVEL=2";
}
__attribute__((section(".preinit_array"), used)) static void (*thorax_preinit)(int, char **, char **) = thorax_quiet;
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

var first sync.Once

// quietly calls run. The first call of TensorFlow prints two lines that no
// setting silences; they are taken out of what it writes to standard error.
func quietly(run func() error) (err error) {
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
