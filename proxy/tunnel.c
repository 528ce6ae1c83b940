/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * CONNECT tunnels. The CONNECT step of a request makes one (tunnel_begin),
 * upstream connects, its message sets the outcome and runs the connection,
 * which opens the tunnel or answers with an error. An open tunnel belongs to
 * its connection and runs on that connection's worker.
 *
 *   DIAL -> DIALLED -> OPEN -> OVER     or OVER from any state, by tunnel_end
 *
 * Bytes go through the worker's scratch memory. Only what the other side did
 * not take at once gets memory of its own, and nothing more is read until
 * that is gone: an idle tunnel holds no buffer, a stuck one at most 64 KiB a
 * way. Freed on a later turn of the loop, by a message to itself, or by
 * upstream's message if that is still to come.
 */
#include "proxy/tunnel.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/loopset.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#define TUNNEL_MAGIC 0x70a3e100u

enum {
	TUNNEL_TURN_BYTES = 1 << 20,		/* one way, in one turn */
	TUNNEL_IDLE_MS = 15 * 60 * 1000,
	TUNNEL_STOP_MS = 1000,			/* quiet for so long: ended when the depot stops */
};

#define TUNNEL_STATES(S) S(DIAL) S(DIALLED) S(OPEN) S(OVER)

enum tunnel_state {
#define S(name) TUNNEL_IS_##name,
	TUNNEL_STATES(S)
#undef S
	TUNNEL_STATE_N
};

static const char *const tunnel_state_names[TUNNEL_STATE_N] = {
#define S(name) [TUNNEL_IS_##name] = #name,
	TUNNEL_STATES(S)
#undef S
};

/* A socket and what its edges said; the client's flags are its connection's. */
struct tunnel_side {
	int fd;
	struct tls *tls;		/* the connection's; NULL: plain */
	bool *can_read, *can_write;
};

/* One direction. */
struct tunnel_half {
	struct tunnel_side *from, *to;
	char *kept;			/* read, and not taken by `to` yet; NULL: nothing */
	size_t kept_n, kept_at;
	int64_t stuck_ms;		/* when `to` last took something of it */
	bool eof;			/* `from` sends no more, or is not asked any more */
	bool over;			/* and `to` knows, or is gone */
	bool dropped;			/* over because `to` is gone */
	uint64_t moved_bytes;
};

enum { TUNNEL_UP, TUNNEL_DOWN };	/* client to upstream, upstream to client */

struct tunnel {
	uint32_t magic;
	enum tunnel_state state;
	struct conn *c;			/* NULL: OVER */
	struct worker *w;
	uint64_t req_id;		/* the request that it was begun for; 0: none */
	struct upstream_dial dial;	/* its mail also brings our end */
	int fd;				/* upstream */
	struct event ev;
	bool can_read, can_write;
	struct tunnel_side client, upstream;
	struct tunnel_half halves[2];
	int64_t opened_ms, moved_ms;	/* when it began; when a byte last moved */
	struct loopset_entry own_end;	/* while there are redirected connections */
};

/* The one place where the state changes. */
static void
tunnel_set_state(struct tunnel *t, enum tunnel_state to)
{
	MUST(to > t->state);
	log_debug("req=%llu tunnel %s:%u %s -> %s", (unsigned long long)t->req_id, t->dial.host,
	    t->dial.port, tunnel_state_names[t->state], tunnel_state_names[to]);
	t->state = to;
}

/* ---- connecting ---- */

/* Later than anything that could still speak of it. */
static void
tunnel_free_mail(struct mail *m)
{
	struct tunnel *t = CONTAINER_OF(m, struct tunnel, dial.mail);

	CHECK_OBJ(t, TUNNEL_MAGIC);
	MUST(t->state == TUNNEL_IS_OVER);
	OBJ_FREE(t);
}

/* Upstream has connected, or knows why it can't. On the worker. */
static void
tunnel_dial_mail(struct mail *m)
{
	struct tunnel *t = CONTAINER_OF(m, struct tunnel, dial.mail);
	struct req *req;

	CHECK_OBJ(t, TUNNEL_MAGIC);
	if (t->state == TUNNEL_IS_OVER) {
		if (t->dial.fd >= 0)
			(void)close(t->dial.fd);
		OBJ_FREE(t);
		return;
	}
	t->fd = t->dial.fd;
	t->dial.fd = -1;
	tunnel_set_state(t, TUNNEL_IS_DIALLED);
	/* Its request may have been told something else in the meantime. */
	req = TAILQ_FIRST(&t->c->reqs);
	if (t->req_id == 0 || (req != NULL && req->id == t->req_id))
		conn_run(t->c);
}

bool
tunnel_begin(struct conn *c, uint64_t req_id, struct slice host, uint16_t port,
    struct slice via)
{
	struct tunnel *t;

	CHECK_OBJ(c, CONN_MAGIC);
	AZ(c->tunnel);
	OBJ_NEW(t, TUNNEL_MAGIC);
	if (t == NULL)
		return false;
	t->state = TUNNEL_IS_DIAL;
	t->c = c;
	t->w = c->w;
	t->req_id = req_id;
	t->fd = t->dial.fd = -1;
	t->dial.mail.deliver = tunnel_dial_mail;
	t->dial.home = &c->w->mailbox;
	/* A host name has at most 255 bytes; routing has let no longer one through. */
	MUST(host.n > 0 && host.n < sizeof(t->dial.host));
	memcpy(t->dial.host, host.p, host.n);
	t->dial.port = port;
	if (via.n != 0 && via.n < sizeof(t->dial.via))
		memcpy(t->dial.via, via.p, via.n);
	c->tunnel = t;
	upstream_dial(c->w->depot->upstream, &t->dial);
	return true;
}

/* Tells the request why there is no connection; the text must outlive the tunnel. */
static void
tunnel_explain(const struct tunnel *t, struct req *req)
{
	struct slice detail = slice_of(t->dial.detail);

	req->reason = t->dial.reason != REASON_OK ? t->dial.reason : REASON_UP_CONNECT;
	if (detail.n > 0)
		req->detail = arena_copy(&req->text, detail).p;
}

enum reason
tunnel_failure(const struct tunnel *t, const char **detail)
{
	CHECK_OBJ(t, TUNNEL_MAGIC);
	*detail = t->dial.detail;
	return t->dial.reason != REASON_OK ? t->dial.reason : REASON_UP_CONNECT;
}

struct slice
tunnel_host(const struct tunnel *t)
{
	CHECK_OBJ(t, TUNNEL_MAGIC);
	return slice_of(t->dial.host);
}

enum tunnel_progress
tunnel_progress(struct conn *c, struct req *req)
{
	CHECK_OBJ(c, CONN_MAGIC);
	CHECK_OBJ(c->tunnel, TUNNEL_MAGIC);
	if (req != NULL && c->tunnel->req_id != req->id) {
		/* Left behind by a request that was answered before its dial was. */
		tunnel_end(&c->tunnel);
		if (!tunnel_begin(c, req->id, req->route.host, req->route.port, req->http.via)) {
			req->reason = REASON_NO_MEMORY;
			return TUNNEL_FAILED;
		}
	}
	switch (c->tunnel->state) {
	case TUNNEL_IS_DIAL:
		return TUNNEL_CONNECTING;
	case TUNNEL_IS_DIALLED:
		if (c->tunnel->fd >= 0)
			return TUNNEL_READY;
		if (req != NULL)
			tunnel_explain(c->tunnel, req);
		return TUNNEL_FAILED;
	case TUNNEL_IS_OPEN:
	case TUNNEL_IS_OVER:
	case TUNNEL_STATE_N:
		break;
	}
	WRONG("tunnel state");
}

/* ---- relaying ---- */

/* The receiver is gone: there is no use in reading for it. */
static void
tunnel_half_drop(struct tunnel_half *h)
{
	free(h->kept);
	h->kept = NULL;
	h->kept_n = h->kept_at = 0;
	h->eof = h->over = h->dropped = true;
}

/* The opposite direction. */
static struct tunnel_half *
tunnel_half_other(struct tunnel *t, const struct tunnel_half *h)
{
	return &t->halves[h == &t->halves[TUNNEL_UP] ? TUNNEL_DOWN : TUNNEL_UP];
}

/* As recv and send, whatever the side speaks. */
static ssize_t
tunnel_side_recv(const struct tunnel_side *side, void *p, size_t n)
{
	return side->tls == NULL ? recv(side->fd, p, n, 0) : tls_recv(side->tls, p, n);
}

static ssize_t
tunnel_side_send(const struct tunnel_side *side, const void *p, size_t n)
{
	return side->tls == NULL ? send(side->fd, p, n, MSG_NOSIGNAL) : tls_send(side->tls, p, n);
}

/* Sends as much as the socket takes; false: the receiver is gone. */
static bool
tunnel_half_send(struct tunnel *t, struct tunnel_half *h, const char *p, size_t n, size_t *sent)
{
	ssize_t k;

	*sent = 0;
	while (*sent < n) {
		k = tunnel_side_send(h->to, p + *sent, n - *sent);
		if (k > 0) {
			*sent += (size_t)k;
			continue;
		}
		if (k < 0 && errno == EINTR)
			continue;
		/* Until EAGAIN is seen, no edge is promised. */
		*h->to->can_write = false;
		if (k < 0 && errno != EAGAIN)
			return false;
		break;
	}
	if (*sent > 0)
		h->stuck_ms = t->moved_ms = t->w->now_ms;
	return true;
}

/* Sends what was kept. */
static void
tunnel_half_flush(struct tunnel *t, struct tunnel_half *h)
{
	size_t sent;

	if (!tunnel_half_send(t, h, h->kept + h->kept_at, h->kept_n - h->kept_at, &sent)) {
		tunnel_half_drop(h);
		return;
	}
	h->kept_at += sent;
	if (h->kept_at < h->kept_n)
		return;
	free(h->kept);
	h->kept = NULL;
	h->kept_n = h->kept_at = 0;
}

/* Sends what is in scratch memory, keeps what is not taken; false: no memory. */
static bool
tunnel_half_pass(struct tunnel *t, struct tunnel_half *h, const char *p, size_t n)
{
	size_t sent;

	if (!tunnel_half_send(t, h, p, n, &sent)) {
		tunnel_half_drop(h);
		return true;
	}
	if (sent == n)
		return true;
	h->kept = malloc(n - sent);
	if (h->kept == NULL)
		return false;
	memcpy(h->kept, p + sent, n - sent);
	h->kept_n = n - sent;
	h->kept_at = 0;
	h->stuck_ms = t->w->now_ms;
	return true;
}

/* So much has come from this half's sender. */
static void
tunnel_half_count(struct tunnel *t, struct tunnel_half *h, size_t n)
{
	h->moved_bytes += n;
	t->moved_ms = t->w->now_ms;
	COUNT_ADD(tunnel_bytes_total, n);
	if (h == &t->halves[TUNNEL_DOWN])
		conn_sent(t->c, n);
}

/*
 * Receives once, into scratch memory. A reset ends both directions, but what
 * its sender had sent before is still delivered.
 */
static size_t
tunnel_half_receive(struct tunnel *t, struct tunnel_half *h)
{
	ssize_t k;

	do
		k = tunnel_side_recv(h->from, t->w->in, WORKER_IN_BYTES);
	while (k < 0 && errno == EINTR);
	if (k > 0) {
		/* Read on even after a short read: a reset that came with it makes no new edge. */
		tunnel_half_count(t, h, (size_t)k);
		return (size_t)k;
	}
	*h->from->can_read = false;
	if (k == 0)
		h->eof = true;
	else if (errno != EAGAIN) {
		h->eof = true;
		tunnel_half_drop(tunnel_half_other(t, h));
	}
	return 0;
}

/* What came before CONNECT's answer, or was left over, goes first; then reads and sends in turn. */
static bool
tunnel_half_run(struct tunnel *t, struct tunnel_half *h, bool *more)
{
	size_t n, turn = 0;

	while (!h->over) {
		if (h->kept != NULL) {
			if (*h->to->can_write)
				tunnel_half_flush(t, h);
			if (h->kept != NULL)
				return true;
			continue;
		}
		if (h->eof) {
			if (h->to->tls != NULL && tls_is_held(h->to->tls))
				return true;
			if (h->to->tls != NULL)
				tls_finish(h->to->tls);
			(void)shutdown(h->to->fd, SHUT_WR);
			h->over = true;
			break;
		}
		if (!*h->from->can_read || !*h->to->can_write)
			return true;
		/* What a client is sent counts against its client_bandwidth; it is run again. */
		if (h == &t->halves[TUNNEL_DOWN] && conn_allowance(t->c) == 0)
			return true;
		if (turn >= TUNNEL_TURN_BYTES) {
			*more = true;
			return true;
		}
		n = tunnel_half_receive(t, h);
		turn += n;
		if (n > 0 && !tunnel_half_pass(t, h, t->w->in, n))
			return false;
	}
	return true;
}

/*
 * Both directions are over. If the client may still be sending, closing at
 * once would reset the connection and could cost it the last bytes.
 */
static void
tunnel_finish(struct tunnel *t)
{
	struct conn *c = t->c;

	if (!t->halves[TUNNEL_UP].dropped || t->halves[TUNNEL_DOWN].dropped) {
		conn_close(c, REASON_CLIENT_DONE);
		return;
	}
	tunnel_end(&c->tunnel);
	conn_set_state(c, CONN_LINGER);
	conn_run(c);
}

void
tunnel_run(struct tunnel *t)
{
	bool more = false;
	unsigned i;

	CHECK_OBJ(t, TUNNEL_MAGIC);
	if (t->state != TUNNEL_IS_OPEN)
		return;
	for (i = 0; i < NELEM(t->halves); i++)
		if (!tunnel_half_run(t, &t->halves[i], &more)) {
			conn_close(t->c, REASON_NO_MEMORY);
			return;
		}
	if (t->halves[TUNNEL_UP].over && t->halves[TUNNEL_DOWN].over)
		tunnel_finish(t);
	else if (more)
		worker_run_later(t->w, t->c);
}

/* Something happened at the upstream socket. */
static void
tunnel_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct tunnel *t = arg;

	(void)fd;
	CHECK_OBJ(t, TUNNEL_MAGIC);
	worker_update_clock(t->w);
	if (what & (EV_READ | EV_CLOSED))
		t->can_read = true;
	if (what & EV_WRITE)
		t->can_write = true;
	conn_run(t->c);
}

/* Puts the two sockets and the two directions together. */
static void
tunnel_join(struct tunnel *t)
{
	struct conn *c = t->c;
	struct tunnel_half *up = &t->halves[TUNNEL_UP], *down = &t->halves[TUNNEL_DOWN];

	t->client = (struct tunnel_side){c->fd, c->tls, &c->can_read, &c->can_write};
	t->upstream = (struct tunnel_side){t->fd, NULL, &t->can_read, &t->can_write};
	t->can_read = t->can_write = true;
	if (t->w->depot->config->listen_transparent.n > 0)
		loopset_add_socket(&t->own_end, t->fd);
	up->from = down->to = &t->client;
	up->to = down->from = &t->upstream;
	t->opened_ms = t->moved_ms = up->stuck_ms = down->stuck_ms = t->w->now_ms;
	/* A client need not wait for the answer before it speaks. */
	up->kept = c->in;
	up->kept_n = c->in_n;
	tunnel_half_count(t, up, c->in_n);
	c->in = NULL;
	c->in_n = c->in_scanned = 0;
	c->header_ms = 0;
	up->eof = c->eof;
}

void
tunnel_open(struct conn *c, bool answered)
{
	static const char answer[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	struct tunnel *t = c->tunnel;
	struct tunnel_half *down;

	CHECK_OBJ(c, CONN_MAGIC);
	CHECK_OBJ(t, TUNNEL_MAGIC);
	MUST(t->state == TUNNEL_IS_DIALLED && t->fd >= 0);
	conn_set_state(c, CONN_TUNNEL);
	tunnel_join(t);
	tunnel_set_state(t, TUNNEL_IS_OPEN);
	COUNT(tunnels_total);
	COUNT(tunnels_open);
	if (evutil_make_socket_nonblocking(t->fd) != 0 ||
	    event_assign(&t->ev, t->w->base, t->fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET |
	    EV_PERSIST, tunnel_event_cb, t) != 0 || event_add(&t->ev, NULL) != 0) {
		conn_close(c, REASON_NO_MEMORY);
		return;
	}
	down = &t->halves[TUNNEL_DOWN];
	if (answered && !tunnel_half_pass(t, down, answer, sizeof(answer) - 1)) {
		conn_close(c, REASON_NO_MEMORY);
		return;
	}
	tunnel_run(t);
}

/* ---- ending ---- */

/* Has a receiver taken nothing of what waits for it for too long? */
static bool
tunnel_half_is_stuck(const struct tunnel *t, const struct tunnel_half *h)
{
	return h->kept != NULL &&
	    t->w->now_ms - h->stuck_ms >= t->w->depot->config->client_timeout;
}

void
tunnel_check_timeout(struct tunnel *t)
{
	const struct tunnel_half *up, *down;
	int64_t quiet_ms;

	CHECK_OBJ(t, TUNNEL_MAGIC);
	if (t->state != TUNNEL_IS_OPEN)
		return;		/* upstream answers each dial in time */
	up = &t->halves[TUNNEL_UP];
	down = &t->halves[TUNNEL_DOWN];
	quiet_ms = t->w->now_ms - t->moved_ms;
	if (t->w->stopping && quiet_ms >= TUNNEL_STOP_MS)
		conn_close(t->c, REASON_SHUTDOWN);
	else if (tunnel_half_is_stuck(t, down) || quiet_ms >= TUNNEL_IDLE_MS)
		conn_close(t->c, REASON_CLIENT_TIMEOUT);
	else if (tunnel_half_is_stuck(t, up))
		conn_close(t->c, REASON_UP_TIMEOUT);
	else if ((up->over || down->over) && quiet_ms >= t->w->depot->config->client_timeout)
		conn_close(t->c, up->over ? REASON_UP_TIMEOUT : REASON_CLIENT_TIMEOUT);
}

/* Lets go of what an open tunnel holds, and says what it did. */
static void
tunnel_shut(struct tunnel *t)
{
	unsigned i;

	COUNT_DOWN(tunnels_open);
	loopset_remove(&t->own_end);
	if (event_initialized(&t->ev))
		(void)event_del(&t->ev);
	log_debug("req=%llu tunnel %s:%u over after %lld ms: %llu bytes up, %llu bytes down",
	    (unsigned long long)t->req_id, t->dial.host, t->dial.port,
	    (long long)(t->w->now_ms - t->opened_ms),
	    (unsigned long long)t->halves[TUNNEL_UP].moved_bytes,
	    (unsigned long long)t->halves[TUNNEL_DOWN].moved_bytes);
	for (i = 0; i < NELEM(t->halves); i++) {
		free(t->halves[i].kept);
		t->halves[i].kept = NULL;
	}
}

void
tunnel_end(struct tunnel **t_p)
{
	struct tunnel *t = *t_p;
	enum tunnel_state was;

	if (t == NULL)
		return;
	CHECK_OBJ(t, TUNNEL_MAGIC);
	*t_p = NULL;
	was = t->state;
	if (was == TUNNEL_IS_OPEN)
		tunnel_shut(t);
	if (t->fd >= 0)
		(void)close(t->fd);
	t->fd = -1;
	t->c = NULL;
	tunnel_set_state(t, TUNNEL_IS_OVER);
	if (was == TUNNEL_IS_DIAL)
		return;		/* upstream's message frees it */
	t->dial.mail.deliver = tunnel_free_mail;
	mailbox_post(&t->w->mailbox, &t->dial.mail);
}
