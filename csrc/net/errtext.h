/*
 * errtext.h - what an errno says, as Go writes it ("connection refused"): no
 * capital at the start, so that it can follow "connect: 127.0.0.1:1: ".
 */
#ifndef CWS_NET_ERRTEXT_H
#define CWS_NET_ERRTEXT_H

#define CWS_ERRTEXT_MAX 80

/* Returns `out`, NUL-terminated. Safe beside other threads. */
const char *cws_errtext(int code, char out[CWS_ERRTEXT_MAX]);

#endif
