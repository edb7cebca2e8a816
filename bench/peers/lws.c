/* libwebsockets, as its own minimal echo example does it.   lws PORT */
#include <libwebsockets.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct message {
    struct message *next;
    size_t len;
    int first, final, binary;
    unsigned char data[];
};

struct session {
    struct message *head, *tail;
};

static void append(struct lws *wsi, struct session *s, void *in, size_t len) {
    struct message *m = malloc(sizeof *m + LWS_PRE + len);
    m->next = NULL;
    m->len = len;
    m->first = lws_is_first_fragment(wsi);
    m->final = lws_is_final_fragment(wsi);
    m->binary = lws_frame_is_binary(wsi);
    memcpy(m->data + LWS_PRE, in, len);
    if (s->tail)
        s->tail->next = m;
    else
        s->head = m;
    s->tail = m;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason,
                    void *user, void *in, size_t len) {
    struct session *s = user;
    struct message *m;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        memset(s, 0, sizeof *s);
        break;
    case LWS_CALLBACK_RECEIVE:
        append(wsi, s, in, len);
        lws_callback_on_writable(wsi);
        break;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        m = s->head;
        if (!m)
            break;
        if (lws_write(wsi, m->data + LWS_PRE, m->len,
                      lws_write_ws_flags(m->binary ? LWS_WRITE_BINARY
                                                   : LWS_WRITE_TEXT,
                                         m->first, m->final)) < (int)m->len)
            return -1;
        s->head = m->next;
        if (!s->head)
            s->tail = NULL;
        free(m);
        if (s->head)
            lws_callback_on_writable(wsi);
        break;
    case LWS_CALLBACK_CLOSED:
        while ((m = s->head) != NULL) {
            s->head = m->next;
            free(m);
        }
        break;
    default:
        break;
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct lws_protocols protocols[] = {
        {"http", on_event, sizeof(struct session), 64 * 1024, 0, NULL, 0},
        {NULL, NULL, 0, 0, 0, NULL, 0}};
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof info);
    lws_set_log_level(LLL_ERR, NULL);
    info.port = atoi(argc > 1 ? argv[1] : "9001");
    info.iface = "127.0.0.1";
    info.protocols = protocols;
    info.pt_serv_buf_size = 64 * 1024;
    struct lws_context *context = lws_create_context(&info);
    while (context && lws_service(context, 0) >= 0)
        ;
    return 1;
}
