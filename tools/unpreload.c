/*
 * Preloaded behind the sanitizer's runtime: takes LD_PRELOAD out of the
 * environment again, so that only Lua runs under the sanitizer and not the
 * browsers and tools that a spec starts.
 */
#include <stdlib.h>

__attribute__((constructor)) static void unpreload(void) {
    unsetenv("LD_PRELOAD");
}
