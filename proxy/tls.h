/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef TLS_H
#define TLS_H
/*
 * The server's end of a TLS session on a client's socket, called like the
 * socket itself: counts, or -1 and errno. It never waits. The descriptor
 * stays the caller's. Sessions may lie in one another: a client that reached
 * the depot over TLS and sent CONNECT has a second one inside of the first.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "include/obj.h"
#include "include/slice.h"

struct ssl_ctx_st;	/* OpenSSL's SSL_CTX */
struct ssl_st;		/* OpenSSL's SSL */
struct tls;

/* What must be so for every context that sessions are made from: versions, ciphers, modes. */
bool tls_prepare_context(struct ssl_ctx_st *ctx) MUSTCHECK;

/*
 * Takes over *under_p, the session that this one lies in (NULL: it is on the
 * bare socket), and *early_p, malloced bytes already received (NULL: none).
 * NULL when memory is out; then nothing was taken.
 */
struct tls *tls_new(struct ssl_ctx_st *ctx, int fd, struct tls **under_p, char **early_p,
    size_t early_n) MUSTCHECK;
void tls_free(struct tls **t_p);
struct ssl_st *tls_session(struct tls *t);	/* for certificates */

/*
 * The session is for this host and port alone: another server name in the
 * handshake is refused. False: no memory.
 */
bool tls_pin(struct tls *t, struct slice host, uint16_t port) MUSTCHECK;
/* False: it is not pinned, the session is with the depot itself. */
bool tls_pinned(const struct tls *t, struct slice *host, uint16_t *port);

enum tls_progress { TLS_READY, TLS_WAITS, TLS_FAILED, TLS_IS_OTHER };
/*
 * Goes on with the handshake. FAILED: why says what was wrong. IS_OTHER: what
 * the client sends is no TLS at all.
 */
enum tls_progress tls_handshake(struct tls *t, char *why, size_t why_cap);

/* As recv: EINTR when there may be more although nothing was read. */
ssize_t tls_recv(struct tls *t, void *p, size_t n);
/* Has nothing come since the handshake? */
bool tls_is_mute(const struct tls *t);
/*
 * As send: as much as the socket takes, -1 and EAGAIN when that is nothing.
 * What was not taken must be offered again, unchanged.
 */
ssize_t tls_send(struct tls *t, const void *p, size_t n);
/* Does the kernel encrypt, so that tls_sendfile may be called? */
bool tls_has_sendfile(const struct tls *t);
ssize_t tls_sendfile(struct tls *t, int fd, off_t at, size_t n);
/* Some call waits for the other direction: after any event, all are to be tried again. */
bool tls_is_crossed(const struct tls *t);
/*
 * Must the socket be written to again before it is closed or shut down? The kernel counts a record
 * as sent that its buffer had no room for, and forgets that one then. EV_WRITE says when not.
 */
bool tls_is_held(const struct tls *t);
/* Tells the client that nothing more will come, if the socket has room for that. */
void tls_finish(struct tls *t);

#endif
