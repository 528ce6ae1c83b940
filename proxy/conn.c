/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Client connections: birth, input, states and their time limits, end. What
 * is done for a request is in req_step.c. The socket is registered once,
 * edge-triggered, for reading and writing: can_read and can_write remember
 * edges until a call says EAGAIN, so that no request costs an epoll_ctl.
 */
#include "proxy/conn.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/limits.h"
#include "proxy/entry.h"
#include "proxy/tunnel.h"
#include "proxy/worker.h"

enum {
	CONN_DISK_MS = 60000,
	CONN_ENTRY_MS = 10000,		/* for all that comes before requests, each state of it */
	CONN_LINGER_MS = 2000,
	CONN_REFUSED_MS = 5000,
	CONN_LINGER_BYTES = 1 << 20,	/* discarded at most while lingering */
	CONN_TURN_REQUESTS = 16,	/* answered in one turn, however fast more of them come */
	CONN_REFILL_REQUESTS = CONN_LOOKAHEAD_MAX / 2 + 1,	/* fewer than these: look for more */
};

static const char *const conn_state_names[CONN_STATE_N] = {
#define S(name, waits_for) [CONN_##name] = #name,
	CONN_STATES(S)
#undef S
};

void
conn_set_state(struct conn *c, enum conn_state to)
{
	struct worker *w = c->w;

	CHECK_OBJ(c, CONN_MAGIC);
	MUST(c->state != CONN_DEAD);
	if (c->state == to)
		return;
	log_debug("conn=%p %s -> %s", (void *)c, conn_state_names[c->state],
	    conn_state_names[to]);
	TAILQ_REMOVE(&w->conns[c->state], c, link);
	c->state = to;
	c->state_ms = w->now_ms;
	TAILQ_INSERT_TAIL(to == CONN_DEAD ? &w->dead : &w->conns[to], c, link);
}

void
conn_peer_text(const struct conn *c, char *out, size_t cap)
{
	if (c->peer.sin6_family == AF_UNIX)
		(void)snprintf(out, cap, "unix");
	else
		access_address_text((const struct sockaddr *)&c->peer, out, cap);
}

/* Lets go of its address' limits. */
static void
conn_leave_limits(struct conn *c)
{
	if (c->share != NULL)
		limits_leave(c->w->depot->limits, &c->share,
		    c->refusal == REASON_CLIENT_CONNECTIONS);
}

void
conn_end_request(struct conn *c, struct req *req)
{
	TAILQ_REMOVE(&c->reqs, req, link);
	c->reqs_n--;
	c->reqs_bytes -= req->text_cap;
	req_end(req);
}

void
conn_close(struct conn *c, enum reason why)
{
	struct worker *w = c->w;
	struct req *req;
	char peer[INET6_ADDRSTRLEN];

	CHECK_OBJ(c, CONN_MAGIC);
	if (c->state == CONN_DEAD)
		return;
	if (why != REASON_CLIENT_DONE) {
		conn_peer_text(c, peer, sizeof(peer));
		log_debug("client %s: closed in state %s: %s", peer, conn_state_names[c->state],
		    reason_text(why));
	}
	if (why == REASON_CLIENT_TIMEOUT)
		COUNT(client_timeouts_total);
	if ((why == REASON_CLIENT_RESET || why == REASON_CLIENT_GONE) && c->reqs_n > 0)
		COUNT(client_aborts_total);
	while ((req = TAILQ_FIRST(&c->reqs)) != NULL) {
		if (req->status != 0 || TAILQ_NEXT(req, link) == NULL)
			req_log(req, why);
		conn_end_request(c, req);
	}
	tunnel_end(&c->tunnel);
	conn_leave_limits(c);
	if (c->tls != NULL && (why == REASON_CLIENT_DONE || why == REASON_CLIENT_TIMEOUT ||
	    why == REASON_SHUTDOWN) && c->out_n == 0)
		tls_finish(c->tls);
	tls_free(&c->tls);
	(void)event_del(&c->ev);
	(void)close(c->fd);
	c->fd = -1;
	cache_client_fini(&c->client);
	free(c->in);
	free(c->out);
	c->in = c->out = NULL;
	c->in_n = 0;
	if (c->runnable) {
		TAILQ_REMOVE(&w->runnable, c, run_link);
		c->runnable = false;
	}
	if (c->paced) {
		TAILQ_REMOVE(&w->paced, c, pace_link);
		c->paced = false;
	}
	conn_set_state(c, CONN_DEAD);
	(void)atomic_fetch_sub_explicit(&w->conns_n, 1, memory_order_relaxed);
	COUNT_DOWN(connections_open);
}

void
conn_reap(struct worker *w)
{
	struct conn *c, *next;

	for (c = TAILQ_FIRST(&w->dead); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->jobs_n > 0)
			continue;	/* a pool thread will still speak of it */
		TAILQ_REMOVE(&w->dead, c, link);
		OBJ_FREE(c);
	}
}

/* Keeps bytes for later: the beginning of a request, or more requests than may be queued. */
static bool
conn_keep_input(struct conn *c, const char *p, size_t n)
{
	char *mine = NULL;

	if (n > 0) {
		mine = malloc(n);
		if (mine == NULL)
			return false;
		memcpy(mine, p, n);
	}
	free(c->in);
	c->in = mine;
	c->in_n = n;
	return true;
}

/* Queues a request made of one head, good or bad. */
static bool
conn_queue_request(struct conn *c, const char *head, size_t head_bytes)
{
	enum reason r = REASON_OK;
	struct req *req = req_new(c, head, head_bytes, &r);

	if (req == NULL)
		return false;
	if (r != REASON_OK) {
		/* What follows can't be told apart from this one's rest. */
		req->reason = r;
		c->close_when_done = c->refused_input = true;
		COUNT(bad_requests_total);
	}
	if (req->http.has_body && r == REASON_OK) {
		/* Its bytes must never be taken for the next request. */
		req->reason = req->http.method == HTTP_OTHER ? REASON_METHOD : REASON_REQ_BODY;
		c->close_when_done = c->refused_input = true;
	}
	if (c->refusal != REASON_OK) {
		req->reason = c->refusal;
		c->close_when_done = c->refused_input = true;
	}
	if (!req->http.keep_alive)
		c->close_when_done = true;
	/* What follows a CONNECT is not ours to parse, unless it is refused. */
	c->connecting = req->http.method == HTTP_CONNECT && req->reason == REASON_OK;
	TAILQ_INSERT_TAIL(&c->reqs, req, link);
	c->reqs_n++;
	c->reqs_bytes += req->text_cap;
	return true;
}

/* Does it look as far ahead as it may? */
static bool
conn_is_full(const struct conn *c)
{
	return c->reqs_n >= CONN_LOOKAHEAD_MAX ||
	    (c->reqs_n > 0 && c->reqs_bytes >= CONN_LOOKAHEAD_BYTES);
}

/* Turns received bytes into requests, as many as may be queued, and keeps the rest. */
static void
conn_parse(struct conn *c, const char *p, size_t n)
{
	size_t at = 0, end;

	while (at < n && !conn_is_full(c) && !c->close_when_done && !c->connecting) {
		end = httpreq_head_end(p + at, n - at, &c->in_scanned);
		if (end == 0 && n - at >= HTTPREQ_HEAD_MAX)
			end = n - at;		/* too big: parsed as such, refused */
		if (end == 0)
			break;
		c->in_scanned = 0;
		if (!conn_queue_request(c, p + at, end)) {
			conn_close(c, REASON_NO_MEMORY);
			return;
		}
		at += end;
	}
	if (c->connecting) {
		/* Kept for the tunnel. */
	} else if (c->close_when_done)
		at = n;		/* nothing after this one is answered */
	else if (at < n && conn_is_full(c))
		COUNT(lookahead_full_total);
	if (at == n)
		c->header_ms = 0;
	else if (c->header_ms == 0 || at > 0)
		c->header_ms = c->w->now_ms;
	if (!conn_keep_input(c, p + at, n - at))
		conn_close(c, REASON_NO_MEMORY);
}

/* Receives once; in lingering state what comes is thrown away. */
static void
conn_fill(struct conn *c)
{
	struct worker *w = c->w;
	size_t had = c->in_n, room;
	ssize_t k;

	MUST(had < WORKER_IN_BYTES);
	if (had > 0)
		memcpy(w->in, c->in, had);
	room = WORKER_IN_BYTES - had;
	k = conn_recv(c, w->in + had, room);
	if (k < 0) {
		if (errno == EAGAIN || errno == EINTR) {
			c->can_read = errno == EINTR;
			return;
		}
		entry_note_gone(c);
		conn_close(c, REASON_CLIENT_RESET);
		return;
	}
	if (k == 0) {
		entry_note_gone(c);
		c->eof = true;
		c->can_read = false;
		return;
	}
	/*
	 * A short read has emptied the socket; what comes later makes a new edge, but for a FIN
	 * already seen. TLS has a record at a time: only EAGAIN says that there is no more.
	 */
	if ((size_t)k < room && c->tls == NULL)
		c->can_read = c->peer_closed;
	conn_parse(c, w->in, had + (size_t)k);
}

/* May more be queued? Where bytes are kept, only once the queue is half empty: each look copies them. */
static bool
conn_has_room(const struct conn *c)
{
	return !conn_is_full(c) && (c->in_n == 0 || c->reqs_n < CONN_REFILL_REQUESTS);
}

/* More input is of use now: another request may be queued. */
static bool
conn_wants_input(const struct conn *c)
{
	return c->can_read && !c->eof && !c->close_when_done && !c->connecting &&
	    conn_has_room(c) && c->in_n < HTTPREQ_HEAD_MAX && !(c->w->stopping && c->reqs_n > 0);
}

/* After a full look-ahead: requests received long ago may be parsed now. */
static void
conn_parse_kept(struct conn *c)
{
	size_t n = c->in_n;

	if (n == 0 || !conn_has_room(c) || c->close_when_done)
		return;
	memcpy(c->w->in, c->in, n);
	conn_parse(c, c->w->in, n);
}

/* Would closing cost the client the end of its answer? Then EV_WRITE comes back to it. */
static bool
conn_is_held(struct conn *c)
{
	if (c->tls == NULL || !tls_is_held(c->tls))
		return false;
	conn_set_state(c, CONN_WRITE);
	return true;
}

/* No request is queued: waits for the next one, or for the rest of one, or closes. */
static void
conn_rest(struct conn *c)
{
	if ((c->eof || c->w->stopping) && conn_is_held(c))
		return;
	if (c->eof)
		conn_close(c, c->in_n > 0 ? REASON_CLIENT_GONE : REASON_CLIENT_DONE);
	else if (c->in_n > 0)
		conn_set_state(c, CONN_HEADER);
	else if (c->w->stopping)
		conn_close(c, REASON_SHUTDOWN);
	else
		conn_set_state(c, CONN_IDLE);
}

void
conn_stop(struct conn *c)
{
	CHECK_OBJ(c, CONN_MAGIC);
	c->close_when_done = true;
	if (!conn_is_held(c))
		conn_close(c, REASON_SHUTDOWN);
}

/*
 * The last answer is out. What the client still sends must be read, or the
 * kernel would reset the connection and the answer could be lost on the way.
 */
static void
conn_linger(struct conn *c)
{
	if (conn_is_held(c))
		return;
	if (c->eof || (!c->refused_input && !c->can_read && c->in_n == 0)) {
		conn_close(c, REASON_CLIENT_DONE);
		return;
	}
	if (c->tls != NULL)
		tls_finish(c->tls);
	(void)shutdown(c->fd, SHUT_WR);
	conn_set_state(c, CONN_LINGER);
}

/* Reads and forgets until the client closes; what TLS made of it is of no interest. */
static void
conn_run_linger(struct conn *c)
{
	size_t n = 0;
	ssize_t k = 1;

	while (n < CONN_LINGER_BYTES && (k = recv(c->fd, c->w->in, WORKER_IN_BYTES, 0)) > 0)
		n += (size_t)k;
	if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR) || n >= CONN_LINGER_BYTES)
		conn_close(c, REASON_CLIENT_DONE);
}

/* Drops requests that wait: they are not answered any more. */
static void
conn_drop_requests(struct conn *c)
{
	struct req *req;

	while ((req = TAILQ_FIRST(&c->reqs)) != NULL)
		conn_end_request(c, req);
}

/* The first request is answered in full. */
static void
conn_finish_request(struct conn *c, struct req *req)
{
	bool ends_body = req->end_known < 0 && req->http.minor == 0 && req->status == 200;

	req_log(req, REASON_OK);
	c->served_n++;
	if (req->http.method == HTTP_CONNECT) {
		c->connecting = false;
		if (req->status == 200)
			entry_intercept(c, req->route.host, req->route.port);
		if (c->state == CONN_DEAD)
			return;		/* no session could be made: its requests have ended with it */
	}
	conn_end_request(c, req);
	if (ends_body)
		conn_drop_requests(c);
	if (c->w->stopping && TAILQ_EMPTY(&c->reqs))
		c->close_when_done = true;	/* what else has come is not answered */
}

/* While the first request waits, upstream work for those behind it begins. */
static void
conn_look_ahead(struct conn *c)
{
	struct req *req;

	if (c->w->depot->config->prefetch == PREFETCH_OFF)
		return;
	TAILQ_FOREACH(req, &c->reqs, link)
		if (!req->started)
			req_start_early(req);
}

void
conn_run(struct conn *c)
{
	unsigned answered_n = 0;
	struct req *req;

	CHECK_OBJ(c, CONN_MAGIC);
	if (c->state == CONN_LINGER) {
		conn_run_linger(c);
		return;
	}
	if (c->state == CONN_TUNNEL) {
		tunnel_run(c->tunnel);
		return;
	}
	while (c->state != CONN_DEAD) {
		if (conn_is_entering(c) && !entry_run(c))
			return;
		if (conn_wants_input(c)) {
			conn_fill(c);
			continue;
		}
		if (c->state == CONN_DISK)
			return;		/* the pool's message goes on with it */
		req = TAILQ_FIRST(&c->reqs);
		if (req == NULL) {
			if (c->close_when_done)
				conn_linger(c);
			else
				conn_rest(c);
			return;
		}
		if (req->front_ms == 0) {
			req->front_ms = c->w->now_ms;
			flight_reader_front(&req->reader);
		}
		switch (req_run(req)) {
		case STEP_AGAIN:
			conn_finish_request(c, req);
			conn_parse_kept(c);
			if (++answered_n < CONN_TURN_REQUESTS || c->state == CONN_DEAD ||
			    conn_is_entering(c))
				break;
			COUNT(client_turns_total);
			worker_run_later(c->w, c);
			conn_set_state(c, CONN_RUN);
			return;
		case STEP_WAIT:
			if (c->state != CONN_DEAD && c->state != CONN_TUNNEL)
				conn_look_ahead(c);
			return;
		case STEP_CLOSE:
			conn_close(c, req->reason != REASON_OK ? req->reason : REASON_CLIENT_RESET);
			return;
		}
	}
}

/* A reset while nothing is received, since nothing more is wanted: recv won't tell of it. */
static bool
conn_is_reset(const struct conn *c)
{
	socklen_t n = sizeof(int);
	int err = 0;

	return c->reqs_n > 0 && !conn_wants_input(c) &&
	    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err != 0;
}

/* Something happened at the socket. */
static void
conn_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	CHECK_OBJ(c, CONN_MAGIC);
	worker_update_clock(c->w);
	if (what & EV_CLOSED)
		c->peer_closed = true;
	if (what & (EV_READ | EV_CLOSED))
		c->can_read = true;
	if (what & EV_WRITE)
		c->can_write = true;
	if (c->tls != NULL && tls_is_crossed(c->tls))
		c->can_read = c->can_write = true;
	if ((what & EV_READ) && conn_is_reset(c))
		conn_close(c, REASON_CLIENT_RESET);
	else
		conn_run(c);
}

/* May this client ask at all? Unix sockets are guarded by their directory. */
static bool
conn_client_allowed(const struct conn *c)
{
	return c->peer.sin6_family == AF_UNIX || cidrset_has(&c->w->depot->config->allow_clients,
	    (const struct sockaddr *)&c->peer);
}

bool
conn_admit(struct conn *c)
{
	struct limits *l = c->w->depot->limits;

	conn_leave_limits(c);
	if (!conn_client_allowed(c))
		c->refusal = REASON_DENIED_CLIENT;
	if (l == NULL || c->refusal != REASON_OK)
		return true;
	switch (limits_enter(l, (const struct sockaddr *)&c->peer, &c->share)) {
	case LIMITS_WELCOME:
		return true;
	case LIMITS_TELL:
		c->refusal = REASON_CLIENT_CONNECTIONS;
		return true;
	case LIMITS_CLOSE:
		return false;
	}
	WRONG("limits verdict");
}

uint64_t
conn_allowance(struct conn *c)
{
	uint64_t n;

	if (c->share == NULL)
		return UINT64_MAX;
	n = limits_allowance(c->w->depot->limits, c->share, c->w->now_ms);
	if (n == 0) {
		COUNT(client_paced_total);
		worker_pace(c->w, c);
	}
	return n;
}

void
conn_sent(struct conn *c, uint64_t bytes)
{
	if (c->share != NULL)
		limits_sent(c->w->depot->limits, c->share, bytes, c->w->now_ms);
}

bool
conn_inside(const struct conn *c, struct route_inside *in)
{
	*in = (struct route_inside){.tls = c->tls != NULL};
	if (c->tls != NULL)
		return tls_pinned(c->tls, &in->host, &in->port);
	return c->way == WAY_REDIRECTED;
}

void
conn_new(struct worker *w, int fd, const struct sockaddr *sa, socklen_t sa_n,
    enum conn_way way, bool one_too_many)
{
	struct conn *c;

	OBJ_NEW(c, CONN_MAGIC);
	if (c == NULL) {
		(void)close(fd);
		(void)atomic_fetch_sub(&w->conns_n, 1);
		return;
	}
	c->fd = fd;
	c->w = w;
	TAILQ_INIT(&c->reqs);
	if (sa->sa_family == AF_INET || sa->sa_family == AF_INET6)
		memcpy(&c->peer, sa, sa_n < sizeof(c->peer) ? sa_n : sizeof(c->peer));
	else
		c->peer.sin6_family = AF_UNIX;
	c->way = (uint8_t)way;
	c->refusal = one_too_many ? REASON_CONNECTIONS : REASON_OK;
	c->state = CONN_IDLE;
	c->state_ms = w->now_ms;
	TAILQ_INSERT_TAIL(&w->conns[CONN_IDLE], c, link);
	COUNT(connections_open);
	if (event_assign(&c->ev, w->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
	    conn_event_cb, c) != 0 || event_add(&c->ev, NULL) != 0) {
		conn_close(c, REASON_NO_MEMORY);
		return;
	}
	/* The first request has often come with the connection. */
	c->can_read = c->can_write = true;
	if (way != WAY_PLAIN || w->depot->config->proxy_protocol_from.n != 0)
		entry_begin(c);
	else if (!conn_admit(c)) {
		conn_close(c, REASON_CLIENT_CONNECTIONS);
		return;
	}
	conn_run(c);
}

/* The time limit of a state, counted from state_ms; 0: none here. */
static int64_t
conn_limit_ms(const struct conn *c)
{
	int64_t client_ms = c->w->depot->config->client_timeout;

	switch (c->state) {
	case CONN_IDLE:
	case CONN_HEADER:
	case CONN_WRITE:
		/* One that is to be told no holds a place until it asks. */
		return c->refusal != REASON_OK && client_ms > CONN_REFUSED_MS ? CONN_REFUSED_MS :
		    client_ms;
	case CONN_PREFACE:
	case CONN_HELLO:
	case CONN_HANDSHAKE:
		return client_ms < CONN_ENTRY_MS ? client_ms : CONN_ENTRY_MS;
	case CONN_DISK:
		return CONN_DISK_MS;
	case CONN_LINGER:
		return CONN_LINGER_MS;
	case CONN_INDEX:	/* so does this one; it looks again and again */
	case CONN_PACE:		/* its client's share comes, slow as it may be */
	case CONN_DIAL:		/* upstream answers each dial in time */
	case CONN_FLIGHT:	/* the request knows how long */
	case CONN_TUNNEL:	/* so does the tunnel */
	case CONN_RUN:
	case CONN_DEAD:
	case CONN_STATE_N:
		return 0;
	}
	WRONG("connection state");
}

/* Is this connection's time up? */
static void
conn_check_timeout(struct conn *c)
{
	int64_t limit = conn_limit_ms(c), since = c->state_ms;

	if (c->state == CONN_HEADER)
		since = c->header_ms;	/* a deadline for the whole header, however it trickles */
	if (limit > 0 && c->w->now_ms - since >= limit) {
		if (c->state == CONN_HANDSHAKE)
			COUNT(tls_handshake_failures_total);
		conn_close(c, c->state == CONN_DISK ? REASON_DISK_ERROR : REASON_CLIENT_TIMEOUT);
	} else if (c->state == CONN_FLIGHT && !TAILQ_EMPTY(&c->reqs) &&
	    req_give_up_waiting(TAILQ_FIRST(&c->reqs)))
		conn_run(c);
	else if (c->state == CONN_TUNNEL)
		tunnel_check_timeout(c->tunnel);
}

void
conn_check_timeouts(struct worker *w)
{
	struct conn *c, *next;
	unsigned i;

	for (i = 0; i < CONN_STATE_N; i++)
		for (c = TAILQ_FIRST(&w->conns[i]); c != NULL; c = next) {
			next = TAILQ_NEXT(c, link);
			conn_check_timeout(c);
		}
}
