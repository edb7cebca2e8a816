/*
 * tcp.h - sockets: addresses, listening, connecting. Every socket is
 * non-blocking, close-on-exec and has TCP_NODELAY.
 */
#ifndef CWS_NET_TCP_H
#define CWS_NET_TCP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "../cws.h"

/* An IPv4 or IPv6 address with its port; smaller than sockaddr_storage. */
union cws_address {
    struct sockaddr sa;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
};
socklen_t cws_address_size(const union cws_address *a);

/* "1.2.3.4:80" or "[::1]:80"; "" when the family is unknown. */
#define CWS_ADDRESS_TEXT 64
void cws_address_format(const union cws_address *a, char out[CWS_ADDRESS_TEXT]);

/* A numeric host (IPv4 or IPv6 without brackets). False when it is a name. */
bool cws_address_parse(const char *host, int port, union cws_address *out);

/* Descriptor, or a negative enum cws_err with errno kept. */
int cws_tcp_listen(const union cws_address *a, int backlog);
int cws_tcp_connect(const union cws_address *a); /* in progress or done */

/* errno of a connect that was in progress, 0 when it succeeded. */
int cws_tcp_connect_result(int fd);

/* Raises the soft descriptor limit to the hard one (as Go does) and returns
 * the limit in force. */
size_t cws_tcp_raise_limit(void);

#endif
