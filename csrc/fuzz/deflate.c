/*
 * deflate.c - bytes of a peer into the inflating side: whole, cut with little
 * room, and with allocations that fail. The first two must give the same. Then
 * the same bytes are messages that one end compresses and the other inflates.
 *
 * The first eight bytes of the input are options:
 *   0    bits 0-2 window bits less 8; 3, 4 no_context_takeover; 5 the role
 *   1    bits 0-2 level less 1; 3 memory less 1
 *   2    the longest cut
 *   3    the most room
 *   4    the allocation that fails
 *   5-7  seed of cuts and room
 * A byte before each message says how long it is.
 */
#include "../proto/deflate.h"
#include "fuzz.h"

#define OPTIONS 8
/* Of all output of a run. */
#define OUTPUT_MAX ((size_t)40000)

struct plan {
    struct cws_deflate_config config;
    bool keeps; /* the direction under test keeps its context */
    size_t longest;
    size_t room;
    size_t alloc;
    uint32_t seed;
    const uint8_t *data;
    size_t len;
};

enum run { RUN_WHOLE, RUN_CUT, RUN_FAILING };

static struct plan make_plan(const uint8_t *data, size_t size) {
    uint8_t bits = 8 + (data[0] & 7);
    bool server_drops = data[0] & 8, client_drops = data[0] & 16;
    enum cws_role role = data[0] & 32 ? CWS_CLIENT : CWS_SERVER;
    struct plan plan = {
        .config = {.params = {server_drops, client_drops, bits, bits},
                   .role = role,
                   .level = 1 + (data[1] & 7),
                   .memory_level = 1 + (data[1] >> 3 & 1)},
        .keeps = !(role == CWS_SERVER ? client_drops : server_drops),
        .longest = data[2],
        .room = data[3],
        .alloc = 1 + data[4] % 16,
        .seed = (uint32_t)data[5] << 16 | (uint32_t)data[6] << 8 | data[7],
        .data = data + OPTIONS,
        .len = size - OPTIONS};
    return plan;
}

/* The next message of the input; false when there is none. */
static bool next_message(struct plan *plan, const uint8_t **data, size_t *len) {
    if (!plan->len)
        return false;
    size_t n = *plan->data++;
    plan->len--;
    if (n > plan->len || n == 255)
        n = plan->len;
    *data = plan->data;
    *len = n;
    plan->data += n;
    plan->len -= n;
    return true;
}

static size_t piece(struct plan *plan, enum run run, size_t len) {
    size_t n = 1 + random_below(&plan->seed, plan->longest + 1);
    return run == RUN_WHOLE || n > len ? len : n;
}

/* --- inflating ----------------------------------------------------------- */

static size_t room_for(struct plan *plan, enum run run, size_t left) {
    size_t n = random_below(&plan->seed, plan->room + 2);
    return run == RUN_WHOLE || n > left ? left : n;
}

/* One piece, until it is used or OUTPUT_MAX is reached. */
static enum cws_parse expand_piece(struct plan *plan, struct cws_deflate *d,
                                   enum run run, const uint8_t *data,
                                   size_t len, bool last, struct bytes *all) {
    enum cws_parse result;
    int idle = 0;
    do {
        struct cws_buf out = {0};
        size_t before = len;
        size_t room = room_for(plan, run, OUTPUT_MAX - all->len);
        result = cws_deflate_expand(d, &data, &len, last, &out, room);
        size_t got = cws_buf_len(&out);
        MUST(got <= room);
        MUST(result != CWS_MORE || got == room);
        MUST(result != CWS_ITEM || len == 0);
        put(all, got ? cws_buf_bytes(&out) : NULL, got);
        cws_buf_free(&out);
        /* with room it gets on */
        idle = got || len != before || !room ? 0 : idle + 1;
        MUST(idle < 2);
    } while (result == CWS_MORE && all->len < OUTPUT_MAX);
    return all->len < OUTPUT_MAX ? result : CWS_MORE;
}

static enum cws_parse expand_message(struct plan *plan, struct cws_deflate *d,
                                     enum run run, const uint8_t *data,
                                     size_t len, struct bytes *all) {
    for (;;) {
        size_t n = piece(plan, run, len);
        bool last = n == len &&
                    (run == RUN_WHOLE || random_below(&plan->seed, 2) || !len);
        uint8_t *copy = exact_copy(data, n);
        enum cws_parse result = expand_piece(plan, d, run, copy, n, last, all);
        free(copy);
        if (result != CWS_ITEM || last)
            return result;
        data += n;
        len -= n;
    }
}

/* All messages: output and how each ended, up to the first that fails. */
static void expand_all(struct plan plan, enum run run, struct bytes *out,
                       struct bytes *ends, struct cws_deflate_pool *pool) {
    const uint8_t *data;
    size_t len;
    enum cws_parse result = CWS_ITEM;
    if (run == RUN_FAILING)
        cws_alloc_fail(plan.alloc, plan.seed & 1);
    struct cws_deflate *d = cws_deflate_new(&plan.config, pool);
    MUST(d || run == RUN_FAILING);
    while (d && result == CWS_ITEM && next_message(&plan, &data, &len)) {
        result = expand_message(&plan, d, run, data, len, out);
        put_byte(ends, (unsigned)result);
        put(ends, &out->len, sizeof out->len);
        MUST(plan.keeps || result != CWS_ITEM || !cws_deflate_memory(d));
    }
    if (result == CWS_BAD)
        MUST(cws_deflate_error(d) == CWS_EPROTOCOL || run == RUN_FAILING);
    cws_alloc_fail(0, false);
    cws_deflate_free(d);
}

static void check_expand(const struct plan *plan,
                         struct cws_deflate_pool *pool) {
    struct bytes out[3] = {{0}}, ends[3] = {{0}};
    for (enum run run = RUN_WHOLE; run <= RUN_FAILING; run++)
        expand_all(*plan, run, &out[run], &ends[run], pool);
    MUST(same(&out[RUN_WHOLE], &out[RUN_CUT]));
    MUST(same(&ends[RUN_WHOLE], &ends[RUN_CUT]));
    for (int i = 0; i < 3; i++) {
        free(out[i].data);
        free(ends[i].data);
    }
}

/* --- there and back ------------------------------------------------------ */

static int compress_message(struct plan *plan, struct cws_deflate *d,
                            enum run run, const uint8_t *data, size_t len,
                            struct cws_buf *out) {
    for (;;) {
        size_t n = piece(plan, run, len);
        bool last = n == len &&
                    (run == RUN_WHOLE || random_below(&plan->seed, 2) || !len);
        uint8_t *copy = exact_copy(data, n);
        int err = cws_deflate_compress(d, copy, n, last, out);
        free(copy);
        if (err < 0 || last)
            return err;
        data += n;
        len -= n;
    }
}

static void check_message(struct plan *plan, struct cws_deflate *from,
                          struct cws_deflate *to, enum run run,
                          const uint8_t *data, size_t len) {
    struct cws_buf packed = {0};
    struct bytes out = {0};
    MUST(!compress_message(plan, from, run, data, len, &packed));
    MUST(cws_buf_len(&packed) > 0);
    MUST(expand_message(plan, to, run, cws_buf_bytes(&packed),
                        cws_buf_len(&packed), &out) == CWS_ITEM);
    MUST(out.len == len && (!len || !memcmp(out.data, data, len)));
    cws_buf_free(&packed);
    free(out.data);
}

static void check_round_trip(struct plan plan, enum run run,
                             struct cws_deflate_pool *pool) {
    struct cws_deflate_config config = plan.config;
    const uint8_t *data;
    size_t len;
    struct cws_deflate *to = cws_deflate_new(&config, pool);
    config.role = config.role == CWS_SERVER ? CWS_CLIENT : CWS_SERVER;
    struct cws_deflate *from = cws_deflate_new(&config, pool);
    MUST(from && to);
    while (next_message(&plan, &data, &len)) {
        check_message(&plan, from, to, run, data, len);
        MUST(plan.keeps ||
             !(cws_deflate_memory(from) || cws_deflate_memory(to)));
    }
    cws_deflate_free(from);
    cws_deflate_free(to);
}

/* After an error it never says that all is well. */
static void check_failing(struct plan plan, struct cws_deflate_pool *pool) {
    const uint8_t *data;
    size_t len;
    int failed = 0;
    cws_alloc_fail(plan.alloc, plan.seed & 1);
    struct cws_deflate *d = cws_deflate_new(&plan.config, pool);
    while (d && next_message(&plan, &data, &len)) {
        struct cws_buf out = {0};
        int err = compress_message(&plan, d, RUN_CUT, data, len, &out);
        MUST(err == 0 || err == CWS_EMEMORY);
        MUST(err < 0 || !failed);
        failed |= err < 0 && len;
        cws_buf_free(&out);
    }
    cws_alloc_fail(0, false);
    cws_deflate_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < OPTIONS || !cws_deflate_available())
        return 0;
    struct plan plan = make_plan(data, size);
    struct cws_deflate_pool *pool = cws_deflate_pool_new();
    MUST(pool);
    check_expand(&plan, pool);
    check_round_trip(plan, RUN_WHOLE, pool);
    check_round_trip(plan, RUN_CUT, pool);
    check_failing(plan, pool);
    cws_deflate_pool_free(pool);
    return 0;
}
