/*
 * session_fuzz.h - what the two session targets share. The bytes go into
 * sessions of one role: whole, cut, cut and streamed from somewhere on, and
 * with allocations that fail. All but the last must give the same messages and
 * control events. What came out is then sent by a session of that role to one
 * of the other, which must accept it.
 *
 * The first eight bytes of the input are options:
 *   0    limits: bits 0-1 message, 2-3 fragments, 4-5 ratio
 *   1    bit 0 deflate; 1, 2 no_context_takeover; 3 small windows
 *   2    bit 0 stream every message; bit 1 our close frame came first
 *   3    the longest cut
 *   4    the allocation that fails
 *   5-7  seed of cuts, ways of feeding and fragments
 */
#ifndef CWS_FUZZ_SESSION_FUZZ_H
#define CWS_FUZZ_SESSION_FUZZ_H

#include "../proto/deflate.h"
#include "../proto/mask.h"
#include "../proto/session.h"
#include "fuzz.h"

#define OPTIONS 8

/* What came out of one run. */
struct outcome {
    struct bytes messages; /* complete ones: opcode, flag, length, data */
    struct bytes controls; /* type, code, length, data */
    struct bytes order;    /* types as they came, pieces left out */
    struct bytes open;     /* pieces of a message that has not ended */
    struct bytes answers;  /* frames */
    bool failed;           /* a FAIL came */
};

struct plan {
    enum cws_role role;
    struct cws_session_limits limits;
    struct cws_deflate_config deflate;
    bool deflated;
    bool stream_all;
    bool close_first;
    size_t longest;
    size_t alloc;
    uint32_t seed;
    const uint8_t *data;
    size_t len;
};

enum run { RUN_WHOLE, RUN_CUT, RUN_STREAMED, RUN_FAILING };

static bool one_begins_other(const struct bytes *a, const struct bytes *b) {
    size_t len = a->len < b->len ? a->len : b->len;
    return !len || !memcmp(a->data, b->data, len);
}

static void free_outcome(struct outcome *o) {
    free(o->messages.data);
    free(o->controls.data);
    free(o->order.data);
    free(o->open.data);
    free(o->answers.data);
}

/* --- options ------------------------------------------------------------- */

static struct cws_deflate_config deflate_config(const uint8_t *options,
                                                enum cws_role role) {
    uint8_t bits = options[1] & 8 ? 9 : 15;
    struct cws_deflate_config config = {
        .params = {.server_no_context_takeover = options[1] & 2,
                   .client_no_context_takeover = options[1] & 4,
                   .server_max_window_bits = bits,
                   .client_max_window_bits = bits},
        .role = role,
        .level = 1,
        .memory_level = 1};
    return config;
}

static struct plan make_plan(const uint8_t *data, size_t size,
                             enum cws_role role) {
    static const size_t message[] = {SIZE_MAX, 1 << 20, 1000, 5};
    static const size_t fragments[] = {SIZE_MAX, 131072, 10, 1};
    static const size_t ratio[] = {SIZE_MAX, 200, 20, 1};
    struct plan plan = {
        .role = role,
        .limits = {message[data[0] & 3], fragments[data[0] >> 2 & 3],
                   ratio[data[0] >> 4 & 3]},
        .deflated = (data[1] & 1) && cws_deflate_available(),
        .stream_all = data[2] & 1,
        .close_first = data[2] & 2,
        .longest = data[3],
        .alloc = 1 + data[4] % 16,
        .seed = (uint32_t)data[5] << 16 | (uint32_t)data[6] << 8 | data[7],
        .data = data + OPTIONS,
        .len = size - OPTIONS};
    plan.deflate = deflate_config(data, role);
    return plan;
}

/* --- a run --------------------------------------------------------------- */

static void record_message(struct outcome *o, const struct cws_event *event) {
    put(&o->open, event->data, event->len);
    if (event->type == CWS_EVENT_PIECE) {
        MUST(event->len <= 65536);
        if (!event->fin)
            return;
    }
    MUST(event->opcode == CWS_OP_TEXT || event->opcode == CWS_OP_BINARY);
    if (event->opcode == CWS_OP_TEXT)
        MUST(cws_utf8_valid(o->open.data, o->open.len));
    put_byte(&o->messages, event->opcode);
    put_byte(&o->messages, event->compressed);
    put(&o->messages, &o->open.len, sizeof o->open.len);
    put(&o->messages, o->open.data, o->open.len);
    o->open.len = 0;
    put_byte(&o->order, event->opcode);
}

/* Why a message failed may depend on the cut, when it is wrong in two ways;
 * the code never does. */
static void record_control(struct outcome *o, const struct cws_event *event) {
    o->failed |= event->type == CWS_EVENT_FAIL;
    size_t len = event->type == CWS_EVENT_FAIL ? 0 : event->len;
    uint16_t code = event->type >= CWS_EVENT_CLOSE ? event->code : 0;
    put_byte(&o->controls, event->type);
    put(&o->controls, &code, sizeof code);
    put(&o->controls, &len, sizeof len);
    put(&o->controls, event->data, len);
    put_byte(&o->order, 16 + event->type);
}

/* Pulls all events. False when memory is out. */
static bool pull(const struct plan *plan, struct cws_session *s,
                 struct outcome *o, bool take_back) {
    struct cws_event event;
    uint8_t out[CWS_SESSION_CONTROL_MAX];
    enum cws_parse result;
    while ((result = cws_session_next(s, &event)) == CWS_ITEM) {
        MUST(!o->failed);
        if (event.type <= CWS_EVENT_PIECE)
            record_message(o, &event);
        else
            record_control(o, &event);
        int n = cws_session_answer(s, &event, out);
        MUST(n >= 0);
        put(&o->answers, out, (size_t)n);
        if (plan->stream_all)
            cws_session_stream(s);
        uint8_t *rest;
        size_t left = take_back ? cws_session_rest(s, &rest) : 0;
        if (left)
            cws_session_feed(s, rest, left);
    }
    MUST(!cws_session_pending(s));
    return result == CWS_MORE;
}

/* Puts the next bytes in, by one of the three ways. */
static size_t feed_some(struct plan *plan, struct cws_session *s, size_t at,
                        enum run run, bool *alive, struct outcome *o) {
    size_t n = plan->len - at, room = 0;
    if (run != RUN_WHOLE) {
        size_t most = 1 + random_below(&plan->seed, plan->longest + 1);
        n = n < most ? n : most;
    }
    bool by_place = run != RUN_WHOLE && random_below(&plan->seed, 2);
    uint8_t *place = by_place ? cws_session_place(s, 1, &room) : NULL;
    if (place) {
        n = n < room ? n : room;
        memcpy(place, plan->data + at, n);
        cws_session_placed(s, n);
        *alive = pull(plan, s, o, false);
        return n;
    }
    uint8_t *copy = exact_copy(plan->data + at, n);
    cws_session_feed(s, copy, n);
    *alive = pull(plan, s, o, run != RUN_WHOLE);
    free(copy);
    return n;
}

/* Buffers grow with what was received, or inflated from it. */
static void check_memory(const struct plan *plan, const struct cws_session *s,
                         size_t received) {
    size_t growth = plan->deflated ? 2 * 1040 : 4;
    MUST(s->message.cap <= growth * received + (1 << 18));
}

static bool start(struct cws_session *s, const struct plan *plan,
                  enum cws_role role, const struct cws_session_limits *limits,
                  struct cws_deflate_pool *pool) {
    struct cws_deflate_config config = plan->deflate;
    config.role = role;
    struct cws_deflate *deflate = NULL;
    if (plan->deflated && !(deflate = cws_deflate_new(&config, pool)))
        return false;
    cws_session_init(s, role, limits, deflate);
    return true;
}

static void run_session(struct plan plan, enum run run, struct outcome *o,
                        struct cws_deflate_pool *pool) {
    struct cws_session s;
    uint8_t out[CWS_SESSION_CONTROL_MAX];
    bool alive = true;
    *o = (struct outcome){0};
    MUST(start(&s, &plan, plan.role, &plan.limits, pool));
    if (plan.stream_all)
        cws_session_stream(&s);
    if (plan.close_first)
        MUST(cws_session_close(&s, CWS_CLOSE_NORMAL, "", 0, out) > 0);
    if (run == RUN_FAILING)
        cws_alloc_fail(plan.alloc, plan.seed & 1);
    size_t stream_at = random_below(&plan.seed, plan.len + 1);
    for (size_t at = 0; at < plan.len && alive;) {
        if (run == RUN_STREAMED && at >= stream_at)
            cws_session_stream(&s);
        at += feed_some(&plan, &s, at, run, &alive, o);
        check_memory(&plan, &s, at);
    }
    cws_alloc_fail(0, false);
    MUST(alive || run == RUN_FAILING);
    cws_session_free(&s);
}

/* --- what must hold ------------------------------------------------------ */

static void compare(const struct plan *plan, const struct outcome *whole,
                    const struct outcome *other, enum run run) {
    MUST(whole->failed == other->failed);
    MUST(same(&whole->messages, &other->messages));
    MUST(same(&whole->controls, &other->controls));
    if (run == RUN_CUT && plan->stream_all) {
        MUST(whole->failed ? one_begins_other(&whole->open, &other->open)
                           : same(&whole->open, &other->open));
    }
    if (run == RUN_CUT)
        MUST(same(&whole->order, &other->order));
}

/* Every frame that was sent in answer is fine for the other side. */
static void check_answers(const struct plan *plan, struct outcome *o) {
    static const struct cws_session_limits unlimited = {SIZE_MAX, SIZE_MAX,
                                                        SIZE_MAX};
    struct cws_session s;
    struct cws_event event;
    enum cws_role other = plan->role == CWS_SERVER ? CWS_CLIENT : CWS_SERVER;
    cws_session_init(&s, other, &unlimited, NULL);
    cws_session_feed(&s, o->answers.data, o->answers.len);
    while (cws_session_next(&s, &event) == CWS_ITEM)
        MUST(event.type == CWS_EVENT_PONG || event.type == CWS_EVENT_CLOSE);
    MUST(!cws_session_partial(&s));
    cws_session_free(&s);
}

static void send_frame(struct cws_session *s, uint8_t opcode, bool fin,
                       bool compressed, const uint8_t *data, size_t len,
                       struct bytes *wire) {
    struct cws_frame frame = {0};
    uint8_t head[CWS_FRAME_HEADER_MAX];
    int n = cws_session_header(s, opcode, fin, compressed, len, &frame, head);
    MUST(n >= 2);
    put(wire, head, (size_t)n);
    put(wire, data, len);
    if (frame.masked)
        cws_mask(wire->data + wire->len - len, len, frame.key, 0);
}

/* One message in fragments. */
static void send_message(struct plan *plan, struct cws_session *s,
                         uint8_t opcode, const uint8_t *data, size_t len,
                         struct bytes *wire) {
    bool compressed = plan->deflated && random_below(&plan->seed, 2);
    bool first = true, fin = false;
    while (!fin) {
        size_t n = random_below(&plan->seed, len + 1);
        if (!random_below(&plan->seed, 3))
            n = len;
        fin = n == len;
        struct cws_buf packed = {0};
        if (compressed)
            MUST(!cws_session_compress(s, data, n, fin, &packed));
        uint8_t op = first ? opcode : CWS_OP_CONTINUATION;
        if (packed.data)
            send_frame(s, op, fin, first, cws_buf_bytes(&packed),
                       cws_buf_len(&packed), wire);
        else
            send_frame(s, op, fin, compressed && first, data,
                       compressed ? 0 : n, wire);
        cws_buf_free(&packed);
        data += n;
        len -= n;
        first = false;
    }
}

/* Sends every message that came, and reads it on the other side. */
static void check_round_trip(struct plan *plan, const struct outcome *o,
                             struct cws_deflate_pool *pool) {
    static const struct cws_session_limits unlimited = {SIZE_MAX, SIZE_MAX,
                                                        SIZE_MAX};
    struct cws_session from, to;
    struct cws_event event;
    enum cws_role other = plan->role == CWS_SERVER ? CWS_CLIENT : CWS_SERVER;
    MUST(start(&from, plan, plan->role, &unlimited, pool));
    MUST(start(&to, plan, other, &unlimited, pool));
    for (size_t at = 0; at < o->messages.len;) {
        struct bytes wire = {0};
        size_t len;
        uint8_t opcode = o->messages.data[at];
        memcpy(&len, o->messages.data + at + 2, sizeof len);
        const uint8_t *data = o->messages.data + at + 2 + sizeof len;
        send_message(plan, &from, opcode, data, len, &wire);
        cws_session_feed(&to, wire.data, wire.len);
        MUST(cws_session_next(&to, &event) == CWS_ITEM);
        MUST(event.type == CWS_EVENT_MESSAGE && event.opcode == opcode);
        MUST(event.len == len && (!len || !memcmp(event.data, data, len)));
        MUST(cws_session_next(&to, &event) == CWS_MORE);
        free(wire.data);
        at += 2 + sizeof len + len;
    }
    cws_session_free(&from);
    cws_session_free(&to);
}

static int fuzz_session(const uint8_t *data, size_t size, enum cws_role role) {
    if (size < OPTIONS)
        return 0;
    struct plan plan = make_plan(data, size, role);
    struct cws_deflate_pool *pool = NULL;
    if (plan.deflated && !(pool = cws_deflate_pool_new()))
        return 0;
    struct outcome whole;
    run_session(plan, RUN_WHOLE, &whole, pool);
    for (enum run run = RUN_CUT; run <= RUN_FAILING; run++) {
        struct outcome other;
        run_session(plan, run, &other, pool);
        if (run != RUN_FAILING)
            compare(&plan, &whole, &other, run);
        free_outcome(&other);
    }
    check_answers(&plan, &whole);
    check_round_trip(&plan, &whole, pool);
    free_outcome(&whole);
    cws_deflate_pool_free(pool);
    return 0;
}

#endif
