#include "crypto.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* RFC 6455 section 1.3. */
static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static unsigned failing; /* random requests that a test lets fail */

void cws_crypto_fail(unsigned n) {
    failing = n;
}

/* Fetched once: given EVP_sha1(), OpenSSL looks for a provider each time. Of
 * two threads that come together one gives its own back. */
static const EVP_MD *sha1(void) {
    static EVP_MD *_Atomic fetched;
    EVP_MD *have = atomic_load(&fetched);
    if (have)
        return have;
    EVP_MD *mine = EVP_MD_fetch(NULL, "SHA1", NULL);
    if (!mine || atomic_compare_exchange_strong(&fetched, &have, mine))
        return mine;
    EVP_MD_free(mine);
    return have;
}

int cws_crypto_accept(const char *key, size_t len,
                      char out[CWS_CRYPTO_ACCEPT_LEN + 1]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!context)
        return CWS_EINTERNAL;
    const EVP_MD *algorithm = sha1();
    bool ok = algorithm && EVP_DigestInit_ex(context, algorithm, NULL) &&
              EVP_DigestUpdate(context, key, len) &&
              EVP_DigestUpdate(context, guid, sizeof guid - 1) &&
              EVP_DigestFinal_ex(context, digest, &size);
    EVP_MD_CTX_free(context);
    if (!ok || size != 20)
        return CWS_EINTERNAL;
    (void)EVP_EncodeBlock((unsigned char *)out, digest, 20);
    return 0;
}

int cws_crypto_random(void *out, size_t len) {
    if (failing) {
        failing--;
        return CWS_EINTERNAL;
    }
    return RAND_bytes(out, (int)len) == 1 ? 0 : CWS_EINTERNAL;
}

int cws_crypto_key(char out[CWS_CRYPTO_KEY_LEN + 1]) {
    unsigned char bytes[16];
    int err = cws_crypto_random(bytes, sizeof bytes);
    if (err < 0)
        return err;
    (void)EVP_EncodeBlock((unsigned char *)out, bytes, sizeof bytes);
    return 0;
}

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool cws_crypto_key_valid(const char *key, size_t len) {
    if (len != CWS_CRYPTO_KEY_LEN || key[22] != '=' || key[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++)
        if (base64_value(key[i]) < 0)
            return false;
    /* RFC 4648 3.5: the bits that pad are zero */
    return (base64_value(key[21]) & 15) == 0;
}

/* --- masking keys --------------------------------------------------------- */

static _Thread_local struct {
    uint8_t bytes[1024];
    size_t left;
    unsigned epoch; /* of the process that filled it */
} pool;

static unsigned epoch = 1; /* changes in a forked child */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void in_child(void) {
    epoch++;
}

static void watch_forks(void) {
    (void)pthread_atfork(NULL, NULL, in_child);
}

int cws_crypto_mask_key(uint8_t key[4]) {
    if (pool.left < 4 || pool.epoch != epoch || failing) {
        (void)pthread_once(&once, watch_forks);
        pool.left = 0;
        int err = cws_crypto_random(pool.bytes, sizeof pool.bytes);
        if (err < 0)
            return err;
        pool.left = sizeof pool.bytes;
        pool.epoch = epoch;
    }
    pool.left -= 4;
    memcpy(key, pool.bytes + pool.left, 4);
    memset(pool.bytes + pool.left, 0, 4);
    return 0;
}
