/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * How connections begin that do not begin with a request. conn_new and
 * conn_run call it, until the connection is IDLE (requests are read as on any
 * other) or a tunnel.
 *
 *   PREFACE    a load balancer's header, from proxy_protocol_from
 *   HELLO      redirected here: the first bytes tell TLS from plain HTTP
 *   HANDSHAKE  listen_tls, or interception
 *   DIAL       redirected TLS that is not intercepted: becomes a tunnel
 *
 *   plain:       [PREFACE] -> IDLE
 *   TLS:         [PREFACE] -> HANDSHAKE -> IDLE
 *   redirected:  [PREFACE] -> HELLO -> IDLE, or -> HANDSHAKE -> IDLE, or -> DIAL -> TUNNEL
 *   CONNECT:     ... -> HANDSHAKE -> IDLE
 *
 * HELLO only peeks: what it looked at is still there for TLS or the tunnel.
 */
#include "proxy/entry.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/hello.h"
#include "proxy/loopset.h"
#include "proxy/mint.h"
#include "proxy/proxyhdr.h"
#include "proxy/tlsconf.h"
#include "proxy/tunnel.h"
#include "proxy/worker.h"

enum { ENTRY_TLS_RECORD = 22, ENTRY_TLS_PORT = 443, ENTRY_NAME_BYTES = 512 };

/* Ends it, after what the client still sends was read: it may have to see an alert of ours. */
static bool
entry_reject(struct conn *c, enum reason why, const char *detail)
{
	char peer[INET6_ADDRSTRLEN];

	conn_peer_text(c, peer, sizeof(peer));
	log_info("client %s: %s: %s", peer, reason_text(why), detail);
	if (c->tls == NULL) {
		conn_close(c, why);
		return false;
	}
	tls_free(&c->tls);
	(void)shutdown(c->fd, SHUT_WR);
	conn_set_state(c, CONN_LINGER);
	conn_run(c);
	return false;
}

/*
 * Looks at what has come without taking it; false: wait for more, or it is
 * closed. *n is never 0.
 */
static bool
entry_peek(struct conn *c, size_t *n)
{
	ssize_t k;

	do
		k = recv(c->fd, c->w->in, WORKER_IN_BYTES, MSG_PEEK);
	while (k < 0 && errno == EINTR);
	if (k > 0) {
		*n = (size_t)k;
		return true;
	}
	if (k < 0 && errno == EAGAIN)
		return false;
	conn_close(c, k == 0 ? REASON_CLIENT_GONE : REASON_CLIENT_RESET);
	return false;
}

/* More is needed than has come: wait for it, unless it never will. */
static bool
entry_wait_for_more(struct conn *c)
{
	if (c->peer_closed)
		conn_close(c, REASON_CLIENT_GONE);
	return false;
}

/* ---- TLS ---- */

/* The session with the depot itself. */
static bool
entry_begin_tls(struct conn *c)
{
	struct ssl_ctx_st *ctx = tlsconf_server(c->w->depot->tls);
	struct tls *t;

	AN(ctx);
	AZ(c->tls);
	t = tls_new(ctx, c->fd, &c->tls, &c->in, 0);
	SSL_CTX_free(ctx);
	c->tls = t;
	if (t == NULL) {
		conn_close(c, REASON_NO_MEMORY);
		return false;
	}
	conn_set_state(c, CONN_HANDSHAKE);
	return true;
}

/* A session in a host's name, above what the connection has now. */
static bool
entry_begin_intercepted(struct conn *c, struct slice host, uint16_t port)
{
	struct tlsconf *conf = c->w->depot->tls;
	struct tls *t = tls_new(tlsconf_intercept(conf), c->fd, &c->tls, &c->in, c->in_n);

	if (t == NULL || !tls_pin(t, host, port) ||
	    !mint_dress(tlsconf_mint(conf), tls_session(t), host, c->w->now_s)) {
		tls_free(&t);
		conn_close(c, REASON_NO_MEMORY);
		return false;
	}
	c->tls = t;
	c->in_n = c->in_scanned = 0;
	c->header_ms = 0;
	COUNT(intercepted_total);
	conn_set_state(c, CONN_HANDSHAKE);
	return true;
}

void
entry_intercept(struct conn *c, struct slice host, uint16_t port)
{
	CHECK_OBJ(c, CONN_MAGIC);
	/* Said of the CONNECT, which is over. */
	c->close_when_done = c->connecting = false;
	(void)entry_begin_intercepted(c, host, port);
}

/* Plain HTTP at a port that speaks TLS: in words that such a client understands. */
static void
entry_say_tls(struct conn *c)
{
	static const char body[] =
	    "apt-depot: this port speaks TLS: write https:// in the address of the proxy.\n";
	char text[256];
	int n = snprintf(text, sizeof(text), "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
	    "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s", sizeof(body) - 1, body);

	MUST(n > 0 && (size_t)n < sizeof(text));
	(void)send(c->fd, text, (size_t)n, MSG_NOSIGNAL);
}

/* Goes on with the handshake. */
static bool
entry_handshake(struct conn *c)
{
	struct slice host;
	uint16_t port;
	char why[256];

	switch (tls_handshake(c->tls, why, sizeof(why))) {
	case TLS_READY:
		c->can_read = c->can_write = true;
		conn_set_state(c, CONN_IDLE);
		return true;
	case TLS_WAITS:
		return false;
	case TLS_FAILED:
		COUNT(tls_handshake_failures_total);
		return entry_reject(c, REASON_TLS_HANDSHAKE, why);
	case TLS_IS_OTHER:
		COUNT(not_tls_total);
		if (!tls_pinned(c->tls, &host, &port))
			entry_say_tls(c);
		return entry_reject(c, REASON_NOT_TLS, why);
	}
	WRONG("handshake");
}

void
entry_note_gone(const struct conn *c)
{
	char peer[INET6_ADDRSTRLEN];
	struct slice host;
	uint16_t port;

	/* Newer libcurls (8.23) judge a certificate after the handshake, and go without an alert. */
	if (c->tls == NULL || !tls_is_mute(c->tls) || !tls_pinned(c->tls, &host, &port))
		return;
	COUNT(tls_handshake_failures_total);
	conn_peer_text(c, peer, sizeof(peer));
	log_info("client %s: it left right behind the TLS handshake for %.*s: if it does not trust the "
	    "certificate, install /-/ca.pem there, as \"apt-depot ca\" says", peer, SLICE_ARG(host));
}

/* ---- redirected connections ---- */

/* One line for the access log: there is no request that could have it. */
static void
entry_log(const struct conn *c, struct slice host, const char *cache, enum reason end)
{
	char peer[INET6_ADDRSTRLEN], url[ENTRY_NAME_BYTES];
	struct log_access a = {.client = peer, .method = SLICE("TLS"), .total_bytes = -1,
	    .status = end == REASON_OK ? 200 : reason_status(end), .cache = cache,
	    .end = end == REASON_OK ? "done" : reason_name(end)};

	if (!log_access_enabled())
		return;
	conn_peer_text(c, peer, sizeof(peer));
	(void)snprintf(url, sizeof(url), "%.*s:%d", SLICE_ARG(host), ENTRY_TLS_PORT);
	a.url = slice_of(url);
	log_access_line(&a);
}

/* May this host be reached by a connection of which only the name is known? */
static enum reason
entry_check(const struct conn *c, struct slice host, bool intercepted)
{
	const struct config *cfg = c->w->depot->config;
	enum reason r = c->refusal;

	if (r == REASON_OK && loopset_has((const struct sockaddr *)&c->peer))
		r = REASON_LOOP;
	if (r == REASON_OK)
		r = depot_check_target(cfg, host, ENTRY_TLS_PORT, &cfg->connect_ports);
	if (r == REASON_DENIED_PORT)
		r = REASON_DENIED_CONNECT;
	if (r == REASON_OK && !intercepted && cfg->connect == CONNECT_REFUSE)
		r = REASON_DENIED_CONNECT;
	if (r == REASON_OK && !intercepted && cfg->offline)
		r = REASON_OFFLINE;
	return r;
}

/* The client wants this host: play it, or connect to it. */
static bool
entry_take_name(struct conn *c, struct slice host)
{
	bool intercepted = globset_has(&c->w->depot->config->intercept_hosts, host,
	    ENTRY_TLS_PORT);
	enum reason r = entry_check(c, host, intercepted);
	char detail[ENTRY_NAME_BYTES];

	c->can_read = c->can_write = true;
	if (r != REASON_OK) {
		if (reason_status(r) == 403)
			COUNT(refused_total);
		entry_log(c, host, "", r);
		(void)snprintf(detail, sizeof(detail), "redirected connection to %.*s",
		    SLICE_ARG(host));
		return entry_reject(c, r, detail);
	}
	if (intercepted)
		return entry_begin_intercepted(c, host, ENTRY_TLS_PORT);
	if (!tunnel_begin(c, 0, host, ENTRY_TLS_PORT, SLICE_NONE)) {
		conn_close(c, REASON_NO_MEMORY);
		return false;
	}
	conn_set_state(c, CONN_DIAL);
	return true;
}

/* TLS: whose name is in its first message? */
static bool
entry_read_hello(struct conn *c, size_t n)
{
	struct slice name = SLICE_NONE, host;
	char text[ENTRY_NAME_BYTES];
	struct arena a;
	uint16_t port;

	switch (hello_parse(c->w->in, n, c->w->out, &name)) {
	case HELLO_MORE:
		return entry_wait_for_more(c);
	case HELLO_NAMED:
		break;
	case HELLO_NAMELESS:
		COUNT(redirected_nameless_total);
		return entry_reject(c, REASON_NO_NAME, "redirected TLS without a server name");
	case HELLO_BAD:
		COUNT(tls_handshake_failures_total);
		return entry_reject(c, REASON_NOT_TLS, "its first message can't be read");
	}
	arena_init(&a, text, sizeof(text));
	if (name.n > 253 || !url_split_authority(name, &host, &port) || port != 0 ||
	    depot_is_address(host)) {
		COUNT(redirected_nameless_total);
		return entry_reject(c, REASON_NO_NAME, "its server name is no host name");
	}
	host = url_host_copy(&a, host);
	AN(host.p);
	return entry_take_name(c, host);
}

static bool
entry_hello(struct conn *c)
{
	size_t n;

	if (!entry_peek(c, &n))
		return false;
	if (c->w->in[0] == ENTRY_TLS_RECORD)
		return entry_read_hello(c, n);
	c->can_read = true;
	conn_set_state(c, CONN_IDLE);
	return true;
}

/* Connected to the host, or not. */
static bool
entry_dial(struct conn *c)
{
	const char *detail = "";
	struct slice host;
	enum reason r;

	switch (tunnel_progress(c, NULL)) {
	case TUNNEL_CONNECTING:
		return false;
	case TUNNEL_READY:
		host = tunnel_host(c->tunnel);
		entry_log(c, host, "fwd=method", REASON_OK);
		tunnel_open(c, false);
		return false;
	case TUNNEL_FAILED:
		r = tunnel_failure(c->tunnel, &detail);
		entry_log(c, tunnel_host(c->tunnel), "", r);
		return entry_reject(c, r, detail);
	}
	WRONG("tunnel progress");
}

/* ---- the beginning ---- */

/* Its address is known: what comes first now? */
static bool
entry_choose(struct conn *c)
{
	if (!conn_admit(c)) {
		conn_close(c, REASON_CLIENT_CONNECTIONS);
		return false;
	}
	switch ((enum conn_way)c->way) {
	case WAY_PLAIN:
		conn_set_state(c, CONN_IDLE);
		return true;
	case WAY_TLS:
		return entry_begin_tls(c);
	case WAY_REDIRECTED:
		COUNT(redirected_total);
		conn_set_state(c, CONN_HELLO);
		return true;
	}
	WRONG("way of a connection");
}

static bool
entry_preface(struct conn *c)
{
	struct sockaddr_in6 client;
	size_t n, used = 0;
	enum proxyhdr_result r;

	if (!entry_peek(c, &n))
		return false;
	r = proxyhdr_parse(c->w->in, n, &client, &used);
	if (r == PROXYHDR_MORE)
		return entry_wait_for_more(c);
	if (r == PROXYHDR_BAD || recv(c->fd, c->w->in, used, 0) != (ssize_t)used) {
		COUNT(proxy_headers_bad_total);
		return entry_reject(c, REASON_PROXY_HEADER, "it is in proxy_protocol_from, so it must "
		    "begin with one");
	}
	COUNT(proxy_headers_total);
	if (r == PROXYHDR_CLIENT)
		c->peer = client;
	c->can_read = true;
	return entry_choose(c);
}

void
entry_begin(struct conn *c)
{
	const struct config *cfg = c->w->depot->config;

	CHECK_OBJ(c, CONN_MAGIC);
	if (cidrset_has(&cfg->proxy_protocol_from, (const struct sockaddr *)&c->peer))
		conn_set_state(c, CONN_PREFACE);
	else
		(void)entry_choose(c);
}

bool
entry_run(struct conn *c)
{
	bool on = true;

	CHECK_OBJ(c, CONN_MAGIC);
	while (on && conn_is_entering(c)) {
		if (c->state == CONN_PREFACE)
			on = entry_preface(c);
		else if (c->state == CONN_HELLO)
			on = entry_hello(c);
		else if (c->state == CONN_HANDSHAKE)
			on = entry_handshake(c);
		else
			on = entry_dial(c);
	}
	return on && c->state == CONN_IDLE;
}
