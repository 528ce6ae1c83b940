/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Connections for tunnels. A worker orders one (upstream_dial); libcurl makes
 * it here, on the upstream thread, over the way that fetches take too; the
 * worker gets a socket. Where the parent proxy is asked over TLS there is no
 * bare socket to give away: the worker gets one end of a socket pair, and the
 * bytes are passed on here.
 *
 *   CONNECT -> (CONNECT over another parent ->) handed over, or RELAY -> over
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "proxy/upstream_priv.h"

#define UPDIAL_MAGIC 0xd1a10001u

enum { UPDIAL_RELAY_BYTES = 64 << 10, UPDIAL_TURN_BYTES = 1 << 20 };

const uint32_t updial_magic = UPDIAL_MAGIC;

/* Bytes on their way through a relay. */
struct updial_pipe {
	char *buf;			/* UPDIAL_RELAY_BYTES */
	size_t n, at;
	bool eof, over;			/* no more comes; and that has been passed on */
};

struct updial {
	uint32_t magic;
	struct upstream *u;
	struct upstream_dial *d;	/* NULL: settled, this is a relay */
	TAILQ_ENTRY(updial) link;
	CURL *curl;
	struct uphost *host;
	struct upway way;
	char *via;
	char error[CURL_ERROR_SIZE];
	/* A relay's. */
	int net_fd, pair_fd;		/* libcurl's own; our end of the pair, -1: none */
	struct event net_read, net_write, pair_read, pair_write, again;
	struct updial_pipe up, down;
	int64_t moved_ms;		/* when a byte last moved */
};

/* ---- relays ---- */

/* The end of a relay; the worker sees a closed socket. */
static void
updial_relay_end(struct updial *dl)
{
	(void)event_del(&dl->net_read);
	(void)event_del(&dl->net_write);
	(void)event_del(&dl->pair_read);
	(void)event_del(&dl->pair_write);
	(void)event_del(&dl->again);
	(void)close(dl->pair_fd);
	free(dl->up.buf);
	free(dl->down.buf);
	upway_close(&dl->way);
	free(dl->via);
	curlev_remove(dl->u->curlev, dl->curl);
	curlev_release(dl->u->curlev, &dl->curl);
	TAILQ_REMOVE(&dl->u->dials, dl, link);
	OBJ_FREE(dl);
}

/* From the parent proxy to the worker. True: something moved. False in *alive: it is broken. */
static bool
updial_run_down(struct updial *dl, bool *alive)
{
	struct updial_pipe *p = &dl->down;
	bool moved = false;
	ssize_t k;
	CURLcode r;

	if (p->n == 0 && !p->eof) {
		r = curl_easy_recv(dl->curl, p->buf, UPDIAL_RELAY_BYTES, &p->n);
		p->at = 0;
		if (r == CURLE_OK && p->n == 0)
			p->eof = true;
		else if (r != CURLE_OK && r != CURLE_AGAIN)
			*alive = false;
		if (r != CURLE_OK)
			p->n = 0;
		moved = r == CURLE_OK;
	}
	if (p->n > 0) {
		k = send(dl->pair_fd, p->buf + p->at, p->n, MSG_NOSIGNAL);
		if (k > 0) {
			p->at += (size_t)k;
			p->n -= (size_t)k;
			moved = true;
		} else if (errno != EAGAIN && errno != EINTR)
			*alive = false;
	}
	if (p->n == 0 && p->eof && !p->over) {
		(void)shutdown(dl->pair_fd, SHUT_WR);
		p->over = true;
	}
	return moved;
}

/* From the worker to the parent proxy. */
static bool
updial_run_up(struct updial *dl, bool *alive)
{
	struct updial_pipe *p = &dl->up;
	bool moved = false;
	size_t sent = 0;
	ssize_t k;
	CURLcode r;

	if (p->n == 0 && !p->eof) {
		k = recv(dl->pair_fd, p->buf, UPDIAL_RELAY_BYTES, 0);
		p->at = 0;
		if (k > 0)
			p->n = (size_t)k;
		else if (k == 0)
			p->eof = true;
		else if (errno != EAGAIN && errno != EINTR)
			*alive = false;
		moved = k >= 0;
	}
	if (p->n > 0) {
		r = curl_easy_send(dl->curl, p->buf + p->at, p->n, &sent);
		if (r == CURLE_OK) {
			p->at += sent;
			p->n -= sent;
			moved |= sent > 0;
		} else if (r != CURLE_AGAIN)
			*alive = false;
	}
	return moved;
}

/* Which sockets are worth watching now. */
static void
updial_watch(struct event *ev, bool wanted)
{
	if (wanted)
		(void)event_add(ev, NULL);
	else
		(void)event_del(ev);
}

/* Moves what can be moved, both ways, for a bounded turn. */
static void
updial_relay_run(struct updial *dl)
{
	const struct timeval at_once = {0, 0};
	bool alive = true, moved = true;
	unsigned turns = UPDIAL_TURN_BYTES / UPDIAL_RELAY_BYTES;

	while (alive && moved && turns-- > 0) {
		moved = updial_run_down(dl, &alive);
		if (alive)
			moved |= updial_run_up(dl, &alive);
		if (moved)
			dl->moved_ms = clock_mono_ms();
	}
	/* TLS has no half-close of ours: what the client has finished, the origin may still answer. */
	if (!alive || (dl->down.over && dl->up.n == 0)) {
		updial_relay_end(dl);
		return;
	}
	updial_watch(&dl->net_read, dl->down.n == 0 && !dl->down.eof);
	updial_watch(&dl->net_write, dl->up.n > 0);
	updial_watch(&dl->pair_read, dl->up.n == 0 && !dl->up.eof);
	updial_watch(&dl->pair_write, dl->down.n > 0);
	/* Bytes that OpenSSL holds already make no socket readable. Other work of the loop goes first. */
	if (moved)
		(void)event_add(&dl->again, &at_once);
}

/* Something happened at either socket. */
static void
updial_relay_cb(evutil_socket_t fd, short what, void *arg)
{
	struct updial *dl = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(dl, UPDIAL_MAGIC);
	updial_relay_run(dl);
}

void
updial_tick(struct upstream *u)
{
	struct updial *dl, *next;

	for (dl = TAILQ_FIRST(&u->dials); dl != NULL; dl = next) {
		struct pollfd p = {.fd = dl->pair_fd};
		bool done;

		next = TAILQ_NEXT(dl, link);
		if (dl->d != NULL)
			upway_tick(&dl->way);
		/*
		 * The worker closed its end; a mere half-close is no hang-up. What it left may
		 * still go to the parent, as long as that takes some, as in tunnels.
		 */
		done = dl->d == NULL && (dl->up.eof ||
		    u->now_ms - dl->moved_ms >= u->config->client_timeout);
		if (done && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP))
			updial_relay_end(dl);
	}
}

/* Makes the pair and what a relay needs. */
static bool
updial_relay_begin(struct updial *dl, curl_socket_t fd)
{
	struct event_base *base = dl->u->base;
	int pair[2];

	dl->up.buf = malloc(UPDIAL_RELAY_BYTES);
	dl->down.buf = malloc(UPDIAL_RELAY_BYTES);
	if (dl->up.buf == NULL || dl->down.buf == NULL ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
		free(dl->up.buf);
		free(dl->down.buf);
		return false;
	}
	dl->moved_ms = clock_mono_ms();
	dl->net_fd = fd;
	dl->pair_fd = pair[0];
	dl->d->fd = pair[1];
	AZ(event_assign(&dl->net_read, base, fd, EV_READ | EV_PERSIST, updial_relay_cb, dl));
	AZ(event_assign(&dl->net_write, base, fd, EV_WRITE | EV_PERSIST, updial_relay_cb, dl));
	AZ(event_assign(&dl->pair_read, base, pair[0], EV_READ | EV_PERSIST, updial_relay_cb, dl));
	AZ(event_assign(&dl->pair_write, base, pair[0], EV_WRITE | EV_PERSIST, updial_relay_cb, dl));
	AZ(event_assign(&dl->again, base, -1, 0, updial_relay_cb, dl));
	return true;
}

/* ---- connecting ---- */

/* Tells the owner, for better or worse. */
static void
updial_tell(struct updial *dl, enum reason r, const char *text)
{
	struct upstream_dial *d = dl->d;

	d->reason = r;
	(void)snprintf(d->detail, sizeof(d->detail), "%s", text);
	dl->d = NULL;
	if (dl->host != NULL)
		dl->host->dials_n--;
	dl->host = NULL;
	mailbox_post(d->home, &d->mail);
}

/* The end of one that is no relay; its handle is not in the multi. */
static void
updial_over(struct updial *dl, enum reason r, const char *text)
{
	updial_tell(dl, r, text);
	upway_close(&dl->way);
	free(dl->via);
	curlev_release(dl->u->curlev, &dl->curl);
	TAILQ_REMOVE(&dl->u->dials, dl, link);
	OBJ_FREE(dl);
}

/* One try. False: out of memory. */
static bool
updial_try(struct updial *dl)
{
	struct upstream *u = dl->u;

	dl->error[0] = '\0';
	dl->curl = curlev_handle(u->curlev, dl);
	return dl->curl != NULL && upway_prepare(&dl->way, u, &dl->host->way, dl->curl, true) &&
	    curl_easy_setopt(dl->curl, CURLOPT_URL, dl->host->authority) == CURLE_OK &&
	    curl_easy_setopt(dl->curl, CURLOPT_CONNECT_ONLY, 1L) == CURLE_OK &&
	    curl_easy_setopt(dl->curl, CURLOPT_HTTPPROXYTUNNEL, 1L) == CURLE_OK &&
	    curl_easy_setopt(dl->curl, CURLOPT_ERRORBUFFER, dl->error) == CURLE_OK &&
	    curlev_add(u->curlev, dl->curl) == CURLM_OK;
}

/* Connected or not: the connection must be taken while libcurl still holds it. */
bool
updial_peek(void *owner, CURLcode result)
{
	struct updial *dl = owner;
	curl_socket_t fd = CURL_SOCKET_BAD;

	CHECK_OBJ(dl, UPDIAL_MAGIC);
	if (result != CURLE_OK ||
	    curl_easy_getinfo(dl->curl, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
	    fd == CURL_SOCKET_BAD)
		return false;
	if (!upway_is_tls_parent(&dl->way)) {
		dl->d->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return false;
	}
	if (!updial_relay_begin(dl, fd))
		return false;
	upway_worked(&dl->way);
	updial_tell(dl, REASON_OK, "");
	updial_relay_run(dl);
	return true;
}

void
updial_done(void *owner, CURLcode result)
{
	struct updial *dl = owner;
	struct upway_failure f = {
		.authority = slice_of(strstr(dl->host->authority, "://") + 3),
		.tls = true, .result = result, .error = dl->error,
	};
	char text[UPWAY_TEXT_BYTES];
	enum upway_blame blame;
	enum reason r;

	CHECK_OBJ(dl, UPDIAL_MAGIC);
	f.host = f.authority;
	dl->u->now_ms = clock_mono_ms();
	if (result == CURLE_OK) {
		upway_worked(&dl->way);
		updial_over(dl, dl->d->fd >= 0 ? REASON_OK : REASON_NO_DESCRIPTORS,
		    reason_text(REASON_NO_DESCRIPTORS));
		return;
	}
	r = upway_explain(&dl->way, dl->curl, &f, &blame, text);
	if (upway_failed(&dl->way, blame)) {
		log_info("tunnel to %s: trying another way: %s", dl->host->authority, text);
		curlev_release(dl->u->curlev, &dl->curl);
		if (!updial_try(dl))
			updial_over(dl, REASON_NO_MEMORY, reason_text(REASON_NO_MEMORY));
		return;
	}
	updial_over(dl, r, text);
}

/* A worker wants a connection. */
static void
updial_order_mail(struct mail *m)
{
	struct upstream_dial *d = CONTAINER_OF(m, struct upstream_dial, order);
	struct upstream *u = d->upstream;
	struct url url = {.host = slice_of(d->host), .port = d->port};
	char authority[300];
	struct updial *dl;

	u->now_ms = clock_mono_ms();
	(void)snprintf(authority, sizeof(authority), strchr(d->host, ':') != NULL ?
	    "[%s]:%u" : "%s:%u", d->host, d->port);
	url.authority = slice_of(authority);
	OBJ_NEW(dl, UPDIAL_MAGIC);
	if (dl == NULL) {
		d->reason = REASON_NO_MEMORY;
		mailbox_post(d->home, &d->mail);
		return;
	}
	dl->u = u;
	dl->d = d;
	dl->pair_fd = -1;
	TAILQ_INSERT_TAIL(&u->dials, dl, link);
	dl->host = upstream_host(u, &url);
	if (dl->host != NULL)
		dl->host->dials_n++;
	dl->way.via = dl->via = upway_via(u, slice_of(d->via));
	if (dl->host == NULL || dl->via == NULL || !updial_try(dl))
		updial_over(dl, REASON_NO_MEMORY, reason_text(REASON_NO_MEMORY));
}

void
updial_abort_all(struct upstream *u)
{
	struct updial *dl;

	while ((dl = TAILQ_FIRST(&u->dials)) != NULL) {
		if (dl->d == NULL) {
			updial_relay_end(dl);
			continue;
		}
		curlev_remove(u->curlev, dl->curl);
		updial_over(dl, REASON_SHUTDOWN, reason_text(REASON_SHUTDOWN));
	}
}

void
upstream_dial(struct upstream *u, struct upstream_dial *d)
{
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	d->fd = -1;
	d->upstream = u;
	d->order.deliver = updial_order_mail;
	mailbox_post(&u->mailbox, &d->order);
}
