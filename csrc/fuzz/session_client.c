/* session_client.c - bytes of a peer into a session as client. */
#include "session_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_session(data, size, CWS_CLIENT);
}
