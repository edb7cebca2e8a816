/*
 * loop.h - one libev loop, what all its connections share, and the work that
 * is done between two sleeps.
 *
 * A turn is: run the jobs that are ready (one round), flush what is dirty, free
 * what is dead, sleep until something happens (not when jobs ran), run the
 * watchers' callbacks.
 * Everything runs in the thread of the loop.
 */
#ifndef CWS_NET_LOOP_H
#define CWS_NET_LOOP_H

#include <ev.h>

#include "../cws.h"
#include "../proto/buf.h"

#ifndef ev_io_modify /* libev before 4.32 */
#define ev_io_modify(io, events) ev_io_set(io, (io)->fd, events)
#endif

#define CWS_LOOP_INPUT (512 * 1024) /* shared receive buffer, bytes */

struct cws_deflate_pool;
struct cws_conn;
struct cws_event;
struct cws_exchange;
struct cws_dial;

/* An element of a doubly linked list with a head of the same type. Zero value:
 * not linked. */
struct cws_link {
    struct cws_link *next;
    struct cws_link *prev;
};
void cws_link_init(struct cws_link *head); /* an empty list */
void cws_link_append(struct cws_link *head, struct cws_link *link);
void cws_link_remove(struct cws_link *link); /* also when not linked */
static inline bool cws_link_empty(const struct cws_link *head) {
    return head->next == head || !head->next;
}

/* A piece of work for the next turn. Owned by whoever embeds it. */
struct cws_job {
    struct cws_link link;
    void (*run)(struct cws_job *job);
};

/* The batch under way: what one read brought to one connection (conn.c). */
struct cws_batch {
    struct cws_conn *conn;  /* NULL: none */
    struct cws_event *held; /* a message that nobody took yet */
    size_t messages;        /* given so far */
    size_t bytes;
};

/* Nodes of output queues that nobody uses now, all of one size. */
struct cws_out_spare {
    struct cws_out_node *first;
    size_t count;
};

struct cws_loop {
    struct ev_loop *ev;
    bool own;       /* made by cws_loop_new: destroyed with it */
    bool driven;    /* inside cws_loop_turn or cws_loop_run */
    bool running;   /* the same, or in a callback of `ev` */
    uint8_t *input; /* CWS_LOOP_INPUT bytes, lent to whoever reads now */
    struct cws_buf scratch; /* lent like `input`: compressed messages */
    struct cws_batch batch;
    struct cws_deflate_pool *deflate;
    struct cws_link ready; /* struct cws_job */
    struct cws_link dirty; /* struct cws_job: flushed at the end of the turn */
    struct cws_link conns, exchanges, dials, listeners; /* for teardown */
    size_t live; /* conns, exchanges, dials, listeners, resolutions */
    struct cws_out_spare spare[2]; /* see outq.h */
    bool bulk;                     /* cws_loop_expect_bulk was called */
    ev_prepare prepare;
    ev_idle idle;
    unsigned forks; /* cws_loop_forks when it was made */
    double now;     /* as of the last wake-up; 0: not asked for yet */
    uint32_t turn;  /* counts sleeps */
};

/* `borrowed`: a libev loop of the program's, or NULL for a private one. NULL
 * when memory is out. */
struct cws_loop *cws_loop_new(struct ev_loop *borrowed);

/* How often this process was forked since the first loop was made; do not
 * write. */
extern unsigned cws_loop_forks;

/* True in a child of the process that made it: the sockets, and what the kernel
 * keeps of the loop, are the parent's. Only memory may be touched. */
static inline bool cws_loop_forked(const struct cws_loop *loop) {
    return loop->forks != cws_loop_forks;
}

/* Aborts what is still open (no callback runs any more), then frees. */
void cws_loop_free(struct cws_loop *loop);

/*
 * One turn; sleeps at most `timeout` seconds (0: poll, INFINITY: as long as it
 * takes). Returns true while there are watchers or jobs that could ever make
 * anything happen, without those that do not count (signals).
 */
bool cws_loop_turn(struct cws_loop *loop, double timeout);

/* Turns until cws_loop_break, or until nothing could ever happen: false. */
bool cws_loop_run(struct cws_loop *loop);
/* Whoever drives the loop has something to look at: this turn is the last. */
void cws_loop_break(struct cws_loop *loop);

/* Runs at the next turn; nothing when it waits already. */
void cws_loop_post(struct cws_loop *loop, struct cws_job *job);
/* Runs at the end of the turn, after all ready jobs. */
void cws_loop_post_flush(struct cws_loop *loop, struct cws_job *job);
void cws_job_cancel(struct cws_job *job);

/* Grows libev's tables for that many descriptors ahead: it aborts when it
 * cannot grow them later. */
void cws_loop_reserve(struct cws_loop *loop, size_t descriptors);

/* Large messages come: prepares for them, once. */
void cws_loop_expect_bulk(struct cws_loop *loop);

/* True when something else than the callback that runs now is waiting for its
 * turn: a pending watcher or a ready job. */
bool cws_loop_others(const struct cws_loop *loop);

/* Monotonic seconds as of this turn: no system call inside the loop. */
double cws_loop_now(struct cws_loop *loop);
/* Brings the clocks up to date: before a deadline is set after what may have
 * taken long. */
void cws_loop_update(struct cws_loop *loop);

/* Wall clock in seconds as of this turn, for Date. */
int64_t cws_loop_time(const struct cws_loop *loop);

#endif
