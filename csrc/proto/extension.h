/*
 * extension.h - Sec-WebSocket-Extensions (RFC 6455 section 9.1) and the
 * negotiation of permessage-deflate (RFC 7692 section 7.1), both roles.
 * Negotiation only: works without zlib.
 */
#ifndef CWS_PROTO_EXTENSION_H
#define CWS_PROTO_EXTENSION_H

#include "buf.h"

/* What was agreed, or what one side is ready to do. */
struct cws_deflate_params {
    bool server_no_context_takeover;
    bool client_no_context_takeover;
    uint8_t server_max_window_bits; /* 8..15; 15 is the default */
    uint8_t client_max_window_bits; /* 8..15; in a client's wish, 0 leaves the
                                       parameter out of the offer */
    bool server_bits_offered; /* in what a server agreed to: the offer named
                                 server_max_window_bits, so the answer must
                                 name it too (RFC 7692 7.1.2.1) */
};

/* True when the text is a list as 9.1 demands: names are tokens, a parameter
 * is token [= token | quoted-string whose content is a token]. Linear. */
bool cws_extension_valid(struct cws_span list);

/*
 * Server: looks through all offers of the list (which must be valid) for the
 * first permessage-deflate that can be agreed to with what `mine` allows (its
 * flags force no_context_takeover, its bits are the largest windows). Returns
 * true and fills *agreed; false when there is none. An offer with an unknown,
 * repeated or malformed parameter is passed over (7.1), and so is one with
 * server_max_window_bits=8: zlib has no raw deflate with 8 bits.
 */
bool cws_extension_negotiate(struct cws_span list,
                             const struct cws_deflate_params *mine,
                             struct cws_deflate_params *agreed);

/* Server: the element to answer with, for what cws_extension_negotiate agreed
 * to. Appends to `out`. 0 or CWS_EMEMORY. */
int cws_extension_write_answer(const struct cws_deflate_params *agreed,
                               struct cws_buf *out);

/* Client: the offer for its wish, always the whole field value. */
int cws_extension_write_offer(const struct cws_deflate_params *wish,
                              struct cws_buf *out);

/*
 * Client: checks the server's answer against the offer (7.1: an answer that is
 * not valid for the offer fails the connection). Returns 1 when
 * permessage-deflate was agreed (*agreed filled), 0 when the list is empty,
 * CWS_EHANDSHAKE otherwise with a static text in *why. `offered` is NULL when
 * nothing was offered.
 */
int cws_extension_check_answer(struct cws_span list,
                               const struct cws_deflate_params *offered,
                               struct cws_deflate_params *agreed,
                               const char **why);

#endif
