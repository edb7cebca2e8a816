/*
 * crypto.h - what the handshake and the mask need of libcrypto.
 */
#ifndef CWS_PROTO_CRYPTO_H
#define CWS_PROTO_CRYPTO_H

#include "../cws.h"

#define CWS_CRYPTO_KEY_LEN 24    /* base64 of 16 bytes */
#define CWS_CRYPTO_ACCEPT_LEN 28 /* base64 of 20 bytes */

/* Sec-WebSocket-Accept of a key, RFC 6455 section 4.2.2 (5.4). `out` gets 28
 * characters and a NUL. Returns 0 or CWS_EINTERNAL. */
int cws_crypto_accept(const char *key, size_t len,
                      char out[CWS_CRYPTO_ACCEPT_LEN + 1]);

/* A fresh Sec-WebSocket-Key: 24 characters and a NUL. 0 or CWS_EINTERNAL. */
int cws_crypto_key(char out[CWS_CRYPTO_KEY_LEN + 1]);

/* True when the text is base64 (RFC 4648, canonical padding) of exactly 16
 * bytes. */
bool cws_crypto_key_valid(const char *key, size_t len);

/* len bytes from the CSPRNG. 0 or CWS_EINTERNAL: never weak bytes. */
int cws_crypto_random(void *out, size_t len);

/* A masking key from a pool of CSPRNG bytes (RFC 6455 5.3: unpredictable);
 * each pool byte is used once and then overwritten; one pool a thread; a
 * forked child never shares one with its parent. 0 or CWS_EINTERNAL. */
int cws_crypto_mask_key(uint8_t key[4]);

/* For tests: the next n random requests fail. */
void cws_crypto_fail(unsigned n);

#endif
