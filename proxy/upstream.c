/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The upstream thread: its loop and the queue before libcurl. libcurl's own
 * queue is first come first served; ours lets indexes overtake bulk and keeps
 * two slots per host for them. What a transfer does is in fetch.c, how an
 * origin is reached in upway.c, connections for tunnels are made in updial.c.
 */
#include <stdio.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "proxy/segment.h"
#include "proxy/upstream_priv.h"

enum {
	UPSTREAM_FLUSH_MS = 3,		/* received bytes wait no longer for more */
	UPSTREAM_IDLE_MAX = 64,		/* kept-alive connections */
	UPSTREAM_HOSTS_KEPT = 64,	/* records of origins that nobody asks */
};

/* ---- the queue ---- */

/* Indexes are small and clients wait for them one by one; bulk is waited for, or not yet. */
static enum upclass
upstream_class(const struct fetch *ft)
{
	switch (flight_aptfile(ft->f)->class) {
	case APTFILE_RELEASE:
	case APTFILE_INDEX:
	case APTFILE_BYHASH:
		return UP_INDEX;
	case APTFILE_PACKAGE:
	case APTFILE_OTHER:
		return flight_waiting_readers(ft->f) > 0 ? UP_BULK : UP_AHEAD;
	}
	WRONG("file class");
}

/* Forgets an origin that nobody asks. */
static void
upstream_host_free(struct upstream *u, struct uphost *h)
{
	TAILQ_REMOVE(&u->hosts, h, link);
	upway_host_fini(&h->way);
	free(h);
}

struct uphost *
upstream_host(struct upstream *u, const struct url *url)
{
	struct uphost *h;
	char name[sizeof(h->authority)];
	enum upclass class;

	(void)snprintf(name, sizeof(name), "%s://%.*s", url->tls ? "https" : "http",
	    SLICE_ARG(url->authority));
	TAILQ_FOREACH(h, &u->hosts, link)
		if (!h->old && strcmp(h->authority, name) == 0)
			return h;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return NULL;
	memcpy(h->authority, name, sizeof(name));
	for (class = UP_INDEX; class < UP_CLASS_N; class++)
		TAILQ_INIT(&h->waiting[class]);
	TAILQ_INSERT_TAIL(&u->hosts, h, link);
	if (!upway_host_init(&h->way, u, url->host)) {
		upstream_host_free(u, h);
		return NULL;
	}
	h->conf = h->way.conf;
	return h;
}

/* How many of so many slots bulk may have: the last ones are for indexes. */
static uint64_t
upstream_bulk_limit(uint64_t limit)
{
	return limit > UPSTREAM_INDEX_SLOTS ? limit - UPSTREAM_INDEX_SLOTS : 1;
}

/* May one more of the kind start where n bulk transfers run under this limit? */
static bool
upstream_has_room(enum upclass class, unsigned n, uint64_t limit)
{
	switch (class) {
	case UP_INDEX:
		return true;
	case UP_BULK:
		return n < limit;
	case UP_AHEAD:
		/* It never takes the last ones, but one may run where there are few. */
		return n == 0 || n + UPSTREAM_WAITED_SLOTS < limit;
	case UP_CLASS_N:
		break;
	}
	WRONG("upstream class");
}

/* Has this host (and the depot as a whole) a slot for one more of the kind? */
static bool
upstream_has_slot(const struct upstream *u, const struct uphost *h, enum upclass class)
{
	uint64_t limit = h->conf->upstream_connections, total =
	    u->depot->config->upstream_connections_total;

	if (u->active_n >= total || h->active_n >= limit)
		return false;
	return upstream_has_room(class, h->bulk_n, upstream_bulk_limit(limit)) &&
	    upstream_has_room(class, u->bulk_n, upstream_bulk_limit(total));
}

/* One slot more in use, or one less. */
static void
upstream_count_slot(struct upstream *u, struct uphost *h, enum upclass class, int n)
{
	bool bulk = class != UP_INDEX;

	MUST(n > 0 || (h->active_n > 0 && u->active_n > 0));
	h->active_n += (unsigned)n;
	u->active_n += (unsigned)n;
	h->bulk_n += bulk ? (unsigned)n : 0;
	u->bulk_n += bulk ? (unsigned)n : 0;
	counter_add(COUNTER_upstream_active, n);
	/* Those that wait are started from the loop, not from inside the end of this one. */
	if (n < 0 && u->waiting_n > 0)
		event_active(u->start_event, EV_TIMEOUT, 0);
}

/* Gives the fetch its slot and sets it going. */
static void
upstream_take_slot(struct upstream *u, struct uphost *h, struct fetch *ft)
{
	ft->host = h;
	upstream_count_slot(u, h, ft->class, 1);
	fetch_start(ft);
}

bool
upstream_is_wanted(const struct upstream *u, const struct uphost *h)
{
	if (!TAILQ_EMPTY(&h->waiting[UP_INDEX]) || !TAILQ_EMPTY(&h->waiting[UP_BULK]))
		return true;
	return u->waiting_n > 0 && (u->active_n >= u->depot->config->upstream_connections_total ||
	    u->bulk_n >= upstream_bulk_limit(u->depot->config->upstream_connections_total));
}

bool
upstream_take_extra(struct upstream *u, struct uphost *h, bool ahead)
{
	if (upstream_is_wanted(u, h) || !upstream_has_slot(u, h, ahead ? UP_AHEAD : UP_BULK) ||
	    (ahead && !TAILQ_EMPTY(&h->waiting[UP_AHEAD])))
		return false;
	upstream_count_slot(u, h, UP_BULK, 1);
	return true;
}

void
upstream_leave_extra(struct upstream *u, struct uphost *h)
{
	upstream_count_slot(u, h, UP_BULK, -1);
}

void
upstream_pass_slot(struct fetch *ft)
{
	struct uphost *h = ft->host;

	AN(h);
	/* An index that is large enough for segments is bulk from here on. */
	upstream_count_slot(ft->u, h, UP_BULK, 1);
	upstream_count_slot(ft->u, h, ft->class, -1);
	ft->host = NULL;
}

void
upstream_queue(struct fetch *ft)
{
	struct upstream *u = ft->u;
	struct uphost *h = upstream_host(u, &ft->url);

	fetch_set_state(ft, FETCH_QUEUED);
	if (ft->host != NULL && ft->host == h) {	/* kept since the last try */
		fetch_start(ft);
		return;
	}
	upstream_leave_slot(ft);
	ft->class = upstream_class(ft);
	if (h != NULL && (ft->begun || TAILQ_EMPTY(&h->waiting[ft->class])) &&
	    upstream_has_slot(u, h, ft->class)) {
		upstream_take_slot(u, h, ft);
		return;
	}
	if (h == NULL || u->waiting_n >= UPSTREAM_QUEUE_MAX) {
		fetch_abort(ft, REASON_UP_OVERLOAD);
		return;
	}
	ft->waiting_at = h;
	if (ft->begun)		/* clients have a part of it: before those that have nothing yet */
		TAILQ_INSERT_HEAD(&h->waiting[ft->class], ft, wait_link);
	else
		TAILQ_INSERT_TAIL(&h->waiting[ft->class], ft, wait_link);
	u->waiting_n++;
	COUNT(upstream_queued);
	/* One more connection of somebody else's file is worth less than the first of this one. */
	if (ft->class != UP_AHEAD)
		(void)segments_yield(u, h->active_n < h->conf->upstream_connections &&
		    h->bulk_n < upstream_bulk_limit(h->conf->upstream_connections) ? NULL : h,
		    false);
}

void
upstream_requeue(struct fetch *ft)
{
	if (ft->waiting_at == NULL || ft->class == upstream_class(ft))
		return;
	upstream_unqueue(ft);
	upstream_queue(ft);
}

void
upstream_unqueue(struct fetch *ft)
{
	struct uphost *h = ft->waiting_at;

	if (h == NULL)
		return;
	TAILQ_REMOVE(&h->waiting[ft->class], ft, wait_link);
	ft->waiting_at = NULL;
	ft->u->waiting_n--;
	COUNT_DOWN(upstream_queued);
}

/* Starts one that waits and may go, indexes first; hosts take turns. */
static bool
upstream_start_waiting(struct upstream *u)
{
	struct uphost *h;
	struct fetch *ft;
	enum upclass class;

	for (class = UP_INDEX; class < UP_CLASS_N; class++)
		TAILQ_FOREACH(h, &u->hosts, link) {
			ft = TAILQ_FIRST(&h->waiting[class]);
			if (ft == NULL || !upstream_has_slot(u, h, class))
				continue;
			TAILQ_REMOVE(&u->hosts, h, link);
			TAILQ_INSERT_TAIL(&u->hosts, h, link);
			upstream_unqueue(ft);
			upstream_take_slot(u, h, ft);
			return true;
		}
	return false;
}

void
upstream_leave_slot(struct fetch *ft)
{
	struct upstream *u = ft->u;
	struct uphost *h = ft->host;

	if (h == NULL)
		return;
	ft->host = NULL;
	upstream_count_slot(u, h, ft->class, -1);
}

/* Slots became free. */
static void
upstream_start_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	while (u->waiting_n > 0 && upstream_start_waiting(u))
		;
}

/* ---- received bytes ---- */

char *
upstream_buffer_get(struct upstream *u)
{
	if (u->spare_buffers_n > 0)
		return u->spare_buffers[--u->spare_buffers_n];
	return malloc(FETCH_BUFFER_BYTES);
}

void
upstream_buffer_put(struct upstream *u, char **buf_p)
{
	char *buf = *buf_p;

	*buf_p = NULL;
	if (buf != NULL && u->spare_buffers_n < NELEM(u->spare_buffers))
		u->spare_buffers[u->spare_buffers_n++] = buf;
	else
		free(buf);
}

void
upstream_flush_later(struct upstream *u)
{
	struct timeval tv = {0, UPSTREAM_FLUSH_MS * 1000};

	if (u->flush_armed)
		return;
	u->flush_armed = true;
	(void)event_add(u->flush_event, &tv);
}

/* What was received a moment ago has waited long enough for more. */
static void
upstream_flush_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;
	struct fetch *ft;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	u->flush_armed = false;
	while ((ft = TAILQ_FIRST(&u->dirty)) != NULL)
		fetch_flush(ft);
}

/* ---- the thread ---- */

/* An owner begins with its magic number, which tells what kind of transfer this was. */
static void
upstream_done(void *owner, CURL *curl, CURLcode result)
{
	uint32_t magic;

	(void)curl;
	memcpy(&magic, owner, sizeof(magic));
	if (magic == updial_magic)
		updial_done(owner, result);
	else if (magic == SEGMENT_MAGIC)
		segment_done(owner, result);
	else {
		struct fetch *ft = owner;

		CHECK_OBJ(ft, FETCH_MAGIC);
		ft->u->now_ms = clock_mono_ms();
		fetch_done(ft, result);
	}
}

static bool
upstream_peek(void *owner, CURL *curl, CURLcode result)
{
	uint32_t magic;

	(void)curl;
	memcpy(&magic, owner, sizeof(magic));
	return magic == updial_magic && updial_peek(owner, result);
}

/* libcurl waits for this socket on behalf of a transfer. */
static void
upstream_watch(void *owner, curl_socket_t fd)
{
	uint32_t magic;

	memcpy(&magic, owner, sizeof(magic));
	if (magic == FETCH_MAGIC)
		((struct fetch *)owner)->socket = fd;
}

/* Orders from workers, news from flights. */
static void
upstream_mail_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	mailbox_drain(&u->mailbox);
}

/* Notes it for pages, in the place of the one that is over first. */
static void
upstream_show_avoided(struct upstream *u, const struct uphost *h, const char *ip, const char *why)
{
	struct upstream_avoided *a = &u->avoided[0];
	unsigned i;

	AZ(pthread_mutex_lock(&u->avoided_lock));
	for (i = 0; i < NELEM(u->avoided); i++) {
		if (strcmp(u->avoided[i].address, ip) == 0 &&
		    strcmp(u->avoided[i].origin, h->authority) == 0) {
			a = &u->avoided[i];
			break;
		}
		if (u->avoided[i].until_ms < a->until_ms)
			a = &u->avoided[i];
	}
	(void)snprintf(a->origin, sizeof(a->origin), "%s", h->authority);
	(void)snprintf(a->address, sizeof(a->address), "%s", ip);
	a->why = why;
	a->until_ms = u->now_ms + UPADDR_AVOID_MS;
	AZ(pthread_mutex_unlock(&u->avoided_lock));
}

unsigned
upstream_list_avoided(struct upstream *u, struct upstream_avoided *out, unsigned max_n)
{
	int64_t now_ms = clock_mono_ms();
	unsigned i, n = 0;

	if (u == NULL)
		return 0;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	AZ(pthread_mutex_lock(&u->avoided_lock));
	for (i = 0; i < NELEM(u->avoided) && n < max_n; i++)
		if (u->avoided[i].address[0] != '\0' && u->avoided[i].until_ms > now_ms)
			out[n++] = u->avoided[i];
	AZ(pthread_mutex_unlock(&u->avoided_lock));
	return n;
}

void
upstream_avoid(struct upstream *u, struct uphost *h, const char *ip, const char *why)
{
	bool news = upaddr_avoid(&h->addrs, ip, u->now_ms);

	if (ip[0] != '\0')
		upstream_show_avoided(u, h, ip, why);
	if (!news)
		return;
	COUNT(upstream_addresses_avoided_total);
	log_info("%s: address %s %s: others are taken for %d s", h->authority, ip, why,
	    UPADDR_AVOID_MS / 1000);
}

void
upstream_note_bad_address(struct upstream *u, const struct url *url, const char *ip)
{
	struct uphost *h = upstream_host(u, url);

	if (h != NULL && h->way.direct)
		upstream_avoid(u, h, ip, "sent wrong bytes");
}

void
upstream_note_peer(struct upstream *u, struct uphost *h, const struct upaddr_choice *c,
    const char *ip)
{
	unsigned i;

	for (i = 0; i < c->tried_n; i++)
		if (strcmp(c->tried[i], ip) != 0)
			upstream_avoid(u, h, c->tried[i], "did not answer");
}

/* Forgets origins that nobody asks, but for a few. */
static void
upstream_forget_hosts(struct upstream *u)
{
	struct uphost *h, *next;
	unsigned n = 0;

	for (h = TAILQ_FIRST(&u->hosts); h != NULL; h = next) {
		next = TAILQ_NEXT(h, link);
		if (h->active_n > 0 || h->dials_n > 0 || !TAILQ_EMPTY(&h->waiting[UP_INDEX]) ||
		    !TAILQ_EMPTY(&h->waiting[UP_BULK]) || !TAILQ_EMPTY(&h->waiting[UP_AHEAD]) ||
		    (!h->old && ++n <= UPSTREAM_HOSTS_KEPT))
			continue;
		upstream_host_free(u, h);
	}
}

/* ---- another configuration ---- */

/* Read by main, on its way to the upstream thread. */
struct upstream_change {
	struct mail mail;
	struct upstream *u;
	const struct config *config;
	struct upway_store *stores;
	struct upauth *auth;
};

/* Frees it with what it brings, or with what that has replaced. */
static void
upstream_change_free(struct upstream_change **ch_p)
{
	struct upstream_change *ch = *ch_p;

	*ch_p = NULL;
	if (ch == NULL)
		return;
	upway_free_stores(&ch->stores);
	upauth_free(&ch->auth);
	free(ch);
}

/* Fetches that wait for a slot wait at their host's new record. */
static void
upstream_move_waiting(struct uphost *h)
{
	struct fetch *ft;
	enum upclass class;

	for (class = UP_INDEX; class < UP_CLASS_N; class++)
		while ((ft = TAILQ_FIRST(&h->waiting[class])) != NULL) {
			upstream_unqueue(ft);
			upstream_queue(ft);
		}
}

/*
 * Brings a waiting change into force: credentials and authorities are exchanged, and every host gets
 * a new record when it is next asked. The old ones go when their transfers have ended.
 */
static void
upstream_apply_change(struct upstream *u)
{
	struct upstream_change *ch = u->change;
	struct upway_store *stores = u->stores;
	struct upauth *auth = u->auth;
	struct uphost *h, *next;

	if (ch == NULL || upauth_is_looking(auth))
		return;
	upauth_log_changes(ch->auth, auth);
	u->stores = ch->stores;
	u->auth = ch->auth;
	ch->stores = stores;
	ch->auth = auth;
	u->config = ch->config;
	upstream_change_free(&u->change);
	TAILQ_FOREACH(h, &u->hosts, link)
		h->old = true;
	for (h = TAILQ_FIRST(&u->hosts); h != NULL; h = next) {
		next = TAILQ_NEXT(h, link);
		if (h->old)
			upstream_move_waiting(h);
	}
}

static void
upstream_change_mail(struct mail *m)
{
	struct upstream_change *ch = CONTAINER_OF(m, struct upstream_change, mail);
	struct upstream *u = ch->u;

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	upstream_change_free(&u->change);	/* one that still waits is out of date */
	u->change = ch;
	upstream_apply_change(u);
}

bool
upstream_reload(struct upstream *u, const struct config *config)
{
	struct upstream_change *ch = calloc(1, sizeof(*ch));

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	if (ch != NULL && upway_load_stores(&ch->stores, config))
		ch->auth = upauth_new(config, u->depot->iopool, &u->mailbox);
	if (ch == NULL || ch->auth == NULL) {
		upstream_change_free(&ch);
		return false;
	}
	ch->u = u;
	ch->config = config;
	ch->mail.deliver = upstream_change_mail;
	mailbox_post(&u->mailbox, &ch->mail);
	return true;
}

/* Time passes for every fetch. */
static void
upstream_tick_cb(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;
	struct fetch *ft, *next;

	(void)fd;
	(void)what;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	u->now_ms = clock_mono_ms();
	for (ft = TAILQ_FIRST(&u->fetches); ft != NULL; ft = next) {
		next = TAILQ_NEXT(ft, link);
		fetch_tick(ft);
	}
	updial_tick(u);
	upstream_apply_change(u);
	upauth_tick(u->auth, u->now_ms);
	upstream_forget_hosts(u);
}

/* Told to stop: every fetch ends, and keeps what can be continued. */
static void
upstream_stop_mail(struct mail *m)
{
	struct upstream *u = CONTAINER_OF(m, struct upstream, stop_mail);

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	while (!TAILQ_EMPTY(&u->fetches))
		fetch_abort(TAILQ_FIRST(&u->fetches), REASON_SHUTDOWN);
	updial_abort_all(u);
	(void)event_base_loopbreak(u->base);
}

/* SIGHUP, and the configuration is no good: credentials are read again all the same. */
static void
upstream_reload_mail(struct mail *m)
{
	struct upstream *u = CONTAINER_OF(m, struct upstream, reload_mail);

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	atomic_store(&u->reload_posted, false);
	upauth_reload(u->auth, u->now_ms);
}

void
upstream_reload_auth(struct upstream *u)
{
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	if (!atomic_exchange(&u->reload_posted, true))
		mailbox_post(&u->mailbox, &u->reload_mail);
}

/* The thread. */
static void *
upstream_main(void *arg)
{
	struct upstream *u = arg;

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	(void)pthread_setname_np(pthread_self(), "upstream");
	u->now_ms = clock_mono_ms();
	(void)event_base_loop(u->base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

/* Frees what upstream_start made; the thread is gone or never was. */
static void
upstream_free(struct upstream **u_p)
{
	struct upstream *u = *u_p;
	struct uphost *h;

	*u_p = NULL;
	if (u->base != NULL)
		mailbox_drain(&u->mailbox);
	curlev_free(&u->curlev);
	while ((h = TAILQ_FIRST(&u->hosts)) != NULL)
		upstream_host_free(u, h);
	upauth_free(&u->auth);
	upstream_change_free(&u->change);
	upway_fini(u);
	while (u->spare_buffers_n > 0)
		free(u->spare_buffers[--u->spare_buffers_n]);
	if (u->mail_event != NULL)
		event_free(u->mail_event);
	if (u->tick_event != NULL)
		event_free(u->tick_event);
	if (u->flush_event != NULL)
		event_free(u->flush_event);
	if (u->start_event != NULL)
		event_free(u->start_event);
	if (u->base != NULL)
		event_base_free(u->base);
	mailbox_fini(&u->mailbox);
	AZ(pthread_mutex_destroy(&u->avoided_lock));
	OBJ_FREE(u);
}

/* The loop and what wakes it. */
static bool
upstream_make_loop(struct upstream *u)
{
	struct event_config *cfg = event_config_new();
	struct timeval tick = {UPSTREAM_TICK_MS / 1000, UPSTREAM_TICK_MS % 1000 * 1000};

	if (cfg == NULL || mailbox_init(&u->mailbox) != 0)
		return false;
	(void)event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	u->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (u->base == NULL)
		return false;
	u->curlev = curlev_new(u->base, UPSTREAM_IDLE_MAX, upstream_done, upstream_peek,
	    upstream_watch);
	u->mail_event = event_new(u->base, u->mailbox.event_fd, EV_READ | EV_PERSIST,
	    upstream_mail_cb, u);
	u->tick_event = event_new(u->base, -1, EV_PERSIST, upstream_tick_cb, u);
	u->flush_event = event_new(u->base, -1, 0, upstream_flush_cb, u);
	u->start_event = event_new(u->base, -1, 0, upstream_start_cb, u);
	return u->curlev != NULL && u->mail_event != NULL && u->tick_event != NULL &&
	    u->flush_event != NULL && u->start_event != NULL &&
	    event_add(u->mail_event, NULL) == 0 && event_add(u->tick_event, &tick) == 0;
}

struct upstream *
upstream_start(struct depot *d)
{
	struct upstream *u;

	OBJ_NEW(u, UPSTREAM_MAGIC);
	if (u == NULL)
		return NULL;
	u->depot = d;
	u->mailbox.event_fd = -1;
	AZ(pthread_mutex_init(&u->avoided_lock, NULL));
	u->stop_mail.deliver = upstream_stop_mail;
	u->reload_mail.deliver = upstream_reload_mail;
	TAILQ_INIT(&u->fetches);
	TAILQ_INIT(&u->dirty);
	TAILQ_INIT(&u->hosts);
	TAILQ_INIT(&u->dials);
	u->config = d->config;
	if (upstream_make_loop(u) && upway_load_stores(&u->stores, u->config))
		u->auth = upauth_new(u->config, d->iopool, &u->mailbox);
	if (u->auth == NULL || pthread_create(&u->thread, NULL, upstream_main, u) != 0)
		upstream_free(&u);
	return u;
}

void
upstream_stop(struct upstream **u_p)
{
	struct upstream *u = *u_p;

	if (u == NULL)
		return;
	CHECK_OBJ(u, UPSTREAM_MAGIC);
	mailbox_post(&u->mailbox, &u->stop_mail);
	AZ(pthread_join(u->thread, NULL));
	upstream_free(u_p);
}

void
upstream_fetch(struct upstream *u, struct flight *f, const struct upstream_ask *ask)
{
	struct fetch *ft;

	CHECK_OBJ(u, UPSTREAM_MAGIC);
	ft = fetch_new(u, f, ask);
	if (ft == NULL) {
		flight_fail(f, REASON_NO_MEMORY, 0, false, "%s", reason_text(REASON_NO_MEMORY));
		return;
	}
	mailbox_post(&u->mailbox, &ft->order);
}
