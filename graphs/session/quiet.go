package session

// TensorFlow's start-up messages are not for users. It reads
// TF_CPP_MIN_LOG_LEVEL when its library is loaded, before any Go code runs. A
// function in .preinit_array runs earlier still, but the C library has not
// taken over the environment then, so that nothing can be added to it: the
// entry of a variable that only shells use is replaced. What the user set is
// left alone. The messages of Abseil's log have a level of their own.

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

extern void _ZN4absl12lts_2023080214SetMinLogLevelENS0_18LogSeverityAtLeastE(int) __attribute__((weak));
static void thorax_abseil(int level) {
	if (_ZN4absl12lts_2023080214SetMinLogLevelENS0_18LogSeverityAtLeastE)
		_ZN4absl12lts_2023080214SetMinLogLevelENS0_18LogSeverityAtLeastE(level);
}
*/
import "C"

import "os"

func init() {
	if os.Getenv("TF_CPP_MIN_LOG_LEVEL") == "2" {
		C.thorax_abseil(2)
	}
}
