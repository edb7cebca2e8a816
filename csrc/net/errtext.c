/*
 * errtext.c - texts of errno values.
 */
#include "errtext.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "Connection refused" but "RPC struct is bad": only a word whose second
 * letter is small loses its capital. */
static void uncapitalize(char *text) {
    if (text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a' && text[1] <= 'z')
        text[0] = (char)(text[0] + ('a' - 'A'));
}

const char *cws_errtext(int code, char out[CWS_ERRTEXT_MAX]) {
    char buffer[CWS_ERRTEXT_MAX];
    int saved = errno;
    const char *text = strerror_r(code, buffer, sizeof buffer); /* GNU's */
    snprintf(out, CWS_ERRTEXT_MAX, "%s", text);
    uncapitalize(out);
    errno = saved;
    return out;
}
