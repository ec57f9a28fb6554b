package session

// TensorFlow reads TF_CPP_MIN_LOG_LEVEL when its library is loaded, before any
// Go code runs. A function in .preinit_array runs earlier still.

/*
#include <stdlib.h>
#if defined(__linux__)
static void quiet(int argc, char **argv, char **env) {
	setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0);
	setenv("TF_ENABLE_ONEDNN_OPTS", "1", 0);
}
__attribute__((section(".preinit_array"), used)) static void (*thorax_quiet)(int, char **, char **) = quiet;
#endif
*/
import "C"
