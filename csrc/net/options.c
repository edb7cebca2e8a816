#include "options.h"

#include <math.h>
#include <string.h>

const struct cws_options cws_options_default = {
    .refs = 1,
    .connect_timeout = 10,
    .handshake_timeout = 10,
    .handler_timeout = 60,
    .response_timeout = 30,
    .send_timeout = 60,
    .close_timeout = 5,
    .ping_interval = 30,
    .pong_timeout = 20,
    .idle_timeout = INFINITY,
    .session = {.max_message = 1024 * 1024,
                .max_fragments = 131072,
                .max_ratio = 200},
    .http = {.line = CWS_HTTP_LINE_MAX,
             .header = CWS_HTTP_HEADER_MAX,
             .fields = CWS_HTTP_FIELDS_MAX},
    .send_buffer = 64 * 1024,
    .max_queue = 4 * 1024 * 1024,
    .inbox_bytes = 64 * 1024,
    .inbox_messages = 256,
    .max_connections = 0,
    .compression = false,
    .deflate = {.server_max_window_bits = 15, .client_max_window_bits = 15},
    .compression_level = 1,
    .compression_memory = 8,
    .compression_threshold = 128,
};

struct cws_options *cws_options_new(const struct cws_options *from) {
    struct cws_options *options = cws_realloc(NULL, sizeof *options);
    if (!options)
        return NULL;
    *options = *from;
    options->refs = 1;
    return options;
}

struct cws_options *cws_options_keep(struct cws_options *options) {
    options->refs++;
    return options;
}

void cws_options_drop(struct cws_options *options) {
    if (options && --options->refs == 0)
        cws_free(options);
}
