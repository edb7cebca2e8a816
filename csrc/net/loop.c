#include "loop.h"

#include <math.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "../proto/deflate.h"
#include "conn.h"
#include "dial.h"
#include "exchange.h"
#include "listener.h"
#include "outq.h"

/* Free heap that is kept while large messages come and go. */
#define BULK_HEAP ((size_t)32 * 1024 * 1024)

/* --- lists ---------------------------------------------------------------- */

void cws_link_init(struct cws_link *head) {
    head->next = head->prev = head;
}

void cws_link_append(struct cws_link *head, struct cws_link *link) {
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

void cws_link_remove(struct cws_link *link) {
    if (!link->next)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
}

static struct cws_link *first(struct cws_link *head) {
    struct cws_link *link = head->next;
    cws_link_remove(link);
    return link;
}

/* Moves all of a list to an empty head. */
static void move_all(struct cws_link *to, struct cws_link *from) {
    cws_link_init(to);
    if (cws_link_empty(from))
        return;
    *to = *from;
    to->next->prev = to->prev->next = to;
    cws_link_init(from);
}

/* --- jobs ----------------------------------------------------------------- */

/* The idle watcher keeps the loop from sleeping: while jobs are ready, and in
 * the turn in which some ran, since whoever drives the loop may have waited
 * for nothing else. */
static void update_idle(struct cws_loop *loop, bool ran) {
    bool busy = ran || !cws_link_empty(&loop->ready);
    if (busy && !ev_is_active(&loop->idle))
        ev_idle_start(loop->ev, &loop->idle);
    else if (!busy && ev_is_active(&loop->idle))
        ev_idle_stop(loop->ev, &loop->idle);
}

void cws_loop_post(struct cws_loop *loop, struct cws_job *job) {
    if (job->link.next)
        return;
    cws_link_append(&loop->ready, &job->link);
    if (!ev_is_active(&loop->idle))
        ev_idle_start(loop->ev, &loop->idle);
}

void cws_loop_post_flush(struct cws_loop *loop, struct cws_job *job) {
    if (!job->link.next)
        cws_link_append(&loop->dirty, &job->link);
}

void cws_job_cancel(struct cws_job *job) {
    cws_link_remove(&job->link);
}

/* One round: what is posted meanwhile waits for the next. True when there was
 * something to run. */
static bool run_ready(struct cws_loop *loop) {
    struct cws_link round;
    move_all(&round, &loop->ready);
    bool some = !cws_link_empty(&round);
    while (!cws_link_empty(&round)) {
        struct cws_job *job = (struct cws_job *)(void *)first(&round);
        job->run(job);
    }
    return some;
}

static void run_dirty(struct cws_loop *loop) {
    while (!cws_link_empty(&loop->dirty)) {
        struct cws_job *job = (struct cws_job *)(void *)first(&loop->dirty);
        job->run(job);
    }
}

/* Before each sleep. */
static void on_prepare(struct ev_loop *ev, ev_prepare *prepare, int revents) {
    struct cws_loop *loop = prepare->data;
    (void)ev, (void)revents;
    bool nested = loop->running;
    if (!nested) /* a loop that the program runs: nobody knows since when */
        cws_loop_update(loop);
    loop->running = true;
    loop->turn++;
    bool ran = run_ready(loop);
    run_dirty(loop);
    loop->running = nested;
    loop->now = 0; /* of before the sleep */
    update_idle(loop, ran);
}

static void on_idle(struct ev_loop *ev, ev_idle *idle, int revents) {
    (void)ev, (void)idle, (void)revents;
}

/* --- time ----------------------------------------------------------------- */

static double monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void cws_loop_update(struct cws_loop *loop) {
    ev_now_update(loop->ev);
    loop->now = monotonic();
}

double cws_loop_now(struct cws_loop *loop) {
    if (!loop->running)
        cws_loop_update(loop);
    else if (loop->now <= 0)
        loop->now = monotonic();
    return loop->now;
}

int64_t cws_loop_time(const struct cws_loop *loop) {
    return (int64_t)ev_now(loop->ev);
}

/* --- forks ---------------------------------------------------------------- */

unsigned cws_loop_forks;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void in_child(void) {
    cws_loop_forks++;
}

static void watch_forks(void) {
    (void)pthread_atfork(NULL, NULL, in_child);
}

/* --- life ----------------------------------------------------------------- */

static bool acquire(struct cws_loop *loop, struct ev_loop *borrowed) {
    loop->own = !borrowed;
    loop->ev = borrowed ? borrowed : ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    loop->input = cws_realloc(NULL, CWS_LOOP_INPUT);
    loop->deflate = cws_deflate_pool_new();
    return loop->ev && loop->input && loop->deflate;
}

static void release(struct cws_loop *loop) {
    if (loop->ev && loop->own)
        ev_loop_destroy(loop->ev);
    cws_outq_free_spare(loop);
    cws_buf_free(&loop->scratch);
    cws_deflate_pool_free(loop->deflate);
    cws_free(loop->input);
    cws_free(loop);
}

struct cws_loop *cws_loop_new(struct ev_loop *borrowed) {
    struct cws_loop *loop = cws_calloc(sizeof *loop);
    if (!loop)
        return NULL;
    (void)pthread_once(&once, watch_forks);
    loop->forks = cws_loop_forks;
    struct cws_link *lists[] = {&loop->ready, &loop->dirty,
                                &loop->conns, &loop->exchanges,
                                &loop->dials, &loop->listeners};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        cws_link_init(lists[i]);
    if (!acquire(loop, borrowed)) {
        release(loop);
        return NULL;
    }
    ev_idle_init(&loop->idle, on_idle);
    ev_prepare_init(&loop->prepare, on_prepare);
    loop->prepare.data = loop;
    ev_prepare_start(loop->ev, &loop->prepare);
    ev_unref(loop->ev); /* it is no reason to go on */
    return loop;
}

void cws_loop_free(struct cws_loop *loop) {
    while (!cws_link_empty(&loop->dials))
        cws_dial_cancel(cws_dial_from_link(loop->dials.next));
    while (!cws_link_empty(&loop->exchanges))
        cws_exchange_abort(cws_exchange_from_link(loop->exchanges.next));
    while (!cws_link_empty(&loop->conns))
        cws_conn_abort(cws_conn_from_link(loop->conns.next));
    while (!cws_link_empty(&loop->listeners))
        cws_listener_abort(cws_listener_from_link(loop->listeners.next));
    ev_ref(loop->ev);
    ev_prepare_stop(loop->ev, &loop->prepare);
    ev_idle_stop(loop->ev, &loop->idle);
    release(loop);
}

/* --- turning -------------------------------------------------------------- */

static void on_timeout(struct ev_loop *ev, ev_timer *timer, int revents) {
    (void)ev, (void)timer, (void)revents;
}

/* How many watchers are left that could make something happen. */
static int drive(struct cws_loop *loop, int flags) {
    loop->running = loop->driven = true;
    int active = ev_run(loop->ev, flags);
    run_dirty(loop); /* what the callbacks corked */
    loop->running = loop->driven = false;
    return active;
}

bool cws_loop_turn(struct cws_loop *loop, double timeout) {
    ev_timer timer;
    bool bounded = timeout > 0 && isfinite(timeout);
    cws_loop_update(loop);
    if (bounded) {
        ev_timer_init(&timer, on_timeout, timeout, 0.);
        ev_timer_start(loop->ev, &timer);
    }
    int active = drive(loop, timeout > 0 ? EVRUN_ONCE : EVRUN_NOWAIT);
    if (bounded && ev_is_active(&timer)) {
        ev_timer_stop(loop->ev, &timer);
        active--; /* the bound itself is no reason to go on */
    }
    return active > 0 || !cws_link_empty(&loop->ready);
}

bool cws_loop_run(struct cws_loop *loop) {
    cws_loop_update(loop);
    return drive(loop, 0) > 0 || !cws_link_empty(&loop->ready);
}

void cws_loop_break(struct cws_loop *loop) {
    if (loop->driven) /* not a run of the program's own */
        ev_break(loop->ev, EVBREAK_ONE);
}

/* glibc gives the top of the heap back to the kernel when 128 KiB of it are
 * free, and takes it again: with strings of some KiB that come and go each of
 * them is paid for with page faults. Having freed one large block it keeps as
 * much as twice its size (mallopt(3), M_MMAP_THRESHOLD). The block itself is
 * never touched; elsewhere this does nothing. */
void cws_loop_expect_bulk(struct cws_loop *loop) {
    if (!loop->bulk)
        cws_free(cws_realloc(NULL, BULK_HEAP / 2));
    loop->bulk = true;
}

bool cws_loop_others(const struct cws_loop *loop) {
    return ev_pending_count(loop->ev) > 0 || !cws_link_empty(&loop->ready);
}

void cws_loop_reserve(struct cws_loop *loop, size_t descriptors) {
    ev_io io;
    if (!descriptors)
        return;
    ev_init(&io, NULL);
    ev_io_set(&io, (int)descriptors - 1, EV_READ);
    ev_io_start(loop->ev, &io);
    ev_io_stop(loop->ev, &io);
}
