/*
 * server.h - what server.c (listening) and request.c (one request) share.
 */
#ifndef LCWS_SERVER_H
#define LCWS_SERVER_H

#include "binding.h"

#include "../net/listener.h"

/* A userdata, in registry[address of this] while it listens or anything that
 * came from it is open. User value 1: what finds the
 * handler and makes the response. */
struct lcws_server {
    struct lcws *s;
    struct cws_listener *listener; /* NULL before it stands and after __gc */
    bool listening;
    struct cws_link idlers; /* struct lcws_wait: until nothing is open */
};

/* Events of layer 2 with a struct lcws_server as user. */
void lcws_request_arrived(struct cws_exchange *x, void *user);
void lcws_request_gone(struct cws_exchange *x, void *owner);

#endif
