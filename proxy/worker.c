/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The serving thread: sets up its loop, turns mail and ticks into calls on
 * connections, ends them in order when told to stop. What a connection does
 * is in conn.c and req_step.c.
 */
#include "proxy/worker.h"

#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	WORKER_GRACE_MS = 4000,
	WORKER_TURN_MS = 1,		/* at least, for those with more to do, before others' work */
};

void
worker_update_clock(struct worker *w)
{
	w->now_ms = clock_mono_ms();
	w->now_s = clock_wall_s();
}

/* Mail has come. */
static void
worker_mail_cb(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(w, WORKER_MAGIC);
	worker_update_clock(w);
	mailbox_drain(&w->mailbox);
}

/*
 * Another turn of the loop for those that wait for one. By a time-out: what is
 * made active while active events are processed is processed with them, and
 * sockets and timers would wait until nobody wants another turn.
 */
static void
worker_ask_turn(struct worker *w)
{
	const struct timeval at_once = {0, 0};

	(void)event_add(w->run_event, &at_once);
}

/* Connections that used up their turn go on. */
static void
worker_run_cb(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct conn *c, *last;
	int64_t others_ms, until_ms;

	(void)fd;
	(void)what;
	CHECK_OBJ(w, WORKER_MAGIC);
	worker_update_clock(w);
	/* As long as the loop's other work took: half of the worker's time each. */
	others_ms = w->now_ms - w->turn_ended_ms;
	until_ms = w->now_ms + (others_ms > WORKER_TURN_MS ? others_ms : WORKER_TURN_MS);
	/* Only those that are here now: who comes back waits for the next turn. */
	last = TAILQ_LAST(&w->runnable, conn_run_list);
	while ((c = TAILQ_FIRST(&w->runnable)) != NULL) {
		TAILQ_REMOVE(&w->runnable, c, run_link);
		c->runnable = false;
		conn_run(c);
		worker_update_clock(w);
		if (c == last || w->now_ms > until_ms)
			break;
	}
	w->turn_ended_ms = w->now_ms;
	if (!TAILQ_EMPTY(&w->runnable))
		worker_ask_turn(w);
}

void
worker_run_later(struct worker *w, struct conn *c)
{
	CHECK_OBJ(w, WORKER_MAGIC);
	if (c->runnable)
		return;
	c->runnable = true;
	if (TAILQ_EMPTY(&w->runnable))
		worker_ask_turn(w);
	TAILQ_INSERT_TAIL(&w->runnable, c, run_link);
}

/* Some bandwidth has come for those that wait for it. */
static void
worker_pace_cb(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct conn *c, *last;

	(void)fd;
	(void)what;
	CHECK_OBJ(w, WORKER_MAGIC);
	worker_update_clock(w);
	/* Who has to wait again stands behind `last`: they take turns. */
	last = TAILQ_LAST(&w->paced, conn_pace_list);
	while ((c = TAILQ_FIRST(&w->paced)) != NULL) {
		TAILQ_REMOVE(&w->paced, c, pace_link);
		c->paced = false;
		conn_run(c);
		if (c == last)
			break;
	}
}

void
worker_pace(struct worker *w, struct conn *c)
{
	struct timeval tv = {0, WORKER_PACE_MS * 1000};

	CHECK_OBJ(w, WORKER_MAGIC);
	if (c->paced)
		return;
	c->paced = true;
	TAILQ_INSERT_TAIL(&w->paced, c, pace_link);
	if (!event_pending(w->pace_event, EV_TIMEOUT, NULL))
		(void)event_add(w->pace_event, &tv);
}

/* Everything is closed, or time is up. */
static void
worker_check_stop(struct worker *w)
{
	if (w->stopping && (atomic_load(&w->conns_n) == 0 ||
	    w->now_ms - w->stopping_ms >= WORKER_GRACE_MS))
		(void)event_base_loopbreak(w->base);
}

/* A few times a second: time-outs, the dead, objects not used lately. */
static void
worker_tick_cb(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(w, WORKER_MAGIC);
	worker_update_clock(w);
	conn_check_timeouts(w);
	conn_reap(w);
	cache_view_tick(w->view, w->now_ms);
	worker_check_stop(w);
}

/* Told to stop: idle connections end now, busy ones after their answer. */
static void
worker_stop_mail(struct mail *m)
{
	struct worker *w = CONTAINER_OF(m, struct worker, stop_mail);
	struct conn *c, *next;
	unsigned i;

	CHECK_OBJ(w, WORKER_MAGIC);
	w->stopping = true;
	w->stopping_ms = w->now_ms;
	for (i = CONN_IDLE; i <= CONN_HANDSHAKE; i++)
		for (c = TAILQ_FIRST(&w->conns[i]); c != NULL; c = next) {
			next = TAILQ_NEXT(c, link);
			if (i != CONN_HEADER)
				conn_stop(c);
		}
	worker_check_stop(w);
}

/* The thread. */
static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	struct conn *c;
	char name[16];
	unsigned i;

	CHECK_OBJ(w, WORKER_MAGIC);
	(void)snprintf(name, sizeof(name), "worker-%u", w->n);
	(void)pthread_setname_np(pthread_self(), name);
	worker_update_clock(w);
	(void)event_base_loop(w->base, EVLOOP_NO_EXIT_ON_EMPTY);
	for (i = 0; i < CONN_STATE_N; i++)
		while ((c = TAILQ_FIRST(&w->conns[i])) != NULL)
			conn_close(c, REASON_SHUTDOWN);
	return NULL;
}

/* The loop and what wakes it. */
static bool
worker_make_loop(struct worker *w)
{
	struct event_config *cfg = event_config_new();
	struct timeval tick = {WORKER_TICK_MS / 1000, WORKER_TICK_MS % 1000 * 1000};

	if (cfg == NULL || mailbox_init(&w->mailbox) != 0)
		return false;
	/* One thread, edge-triggered sockets: no locks, no repeated epoll_ctl. */
	(void)event_config_require_features(cfg, EV_FEATURE_ET);
	(void)event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	w->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (w->base == NULL)
		return false;
	w->mail_event = event_new(w->base, w->mailbox.event_fd, EV_READ | EV_PERSIST,
	    worker_mail_cb, w);
	w->tick_event = event_new(w->base, -1, EV_PERSIST, worker_tick_cb, w);
	w->run_event = event_new(w->base, -1, 0, worker_run_cb, w);
	w->pace_event = event_new(w->base, -1, 0, worker_pace_cb, w);
	return w->mail_event != NULL && w->tick_event != NULL && w->run_event != NULL &&
	    w->pace_event != NULL &&
	    event_add(w->mail_event, NULL) == 0 && event_add(w->tick_event, &tick) == 0;
}

void
worker_free(struct worker **w_p)
{
	struct worker *w = *w_p;
	struct req *req;

	*w_p = NULL;
	if (w->base != NULL)
		mailbox_drain(&w->mailbox);
	conn_reap(w);
	while ((req = w->free_reqs) != NULL) {
		w->free_reqs = req->next_free;
		free(req);
	}
	cache_view_close(&w->view);
	if (w->mail_event != NULL)
		event_free(w->mail_event);
	if (w->tick_event != NULL)
		event_free(w->tick_event);
	if (w->run_event != NULL)
		event_free(w->run_event);
	if (w->pace_event != NULL)
		event_free(w->pace_event);
	if (w->base != NULL)
		event_base_free(w->base);
	mailbox_fini(&w->mailbox);
	free(w->in);
	free(w->out);
	OBJ_FREE(w);
}

struct worker *
worker_start(struct depot *d, unsigned n)
{
	struct worker *w;
	unsigned i;

	OBJ_NEW(w, WORKER_MAGIC);
	if (w == NULL)
		return NULL;
	w->n = n;
	w->depot = d;
	w->mailbox.event_fd = -1;
	w->stop_mail.deliver = worker_stop_mail;
	TAILQ_INIT(&w->runnable);
	TAILQ_INIT(&w->paced);
	TAILQ_INIT(&w->dead);
	for (i = 0; i < CONN_STATE_N; i++)
		TAILQ_INIT(&w->conns[i]);
	w->in = malloc(WORKER_IN_BYTES);
	w->out = malloc(WORKER_HEAD_BYTES + WORKER_BODY_BYTES);
	w->view = cache_view_open(d->cache);
	if (w->in == NULL || w->out == NULL || w->view == NULL || !worker_make_loop(w) ||
	    pthread_create(&w->thread, NULL, worker_main, w) != 0)
		worker_free(&w);
	return w;
}

void
worker_stop(struct worker *w)
{
	CHECK_OBJ(w, WORKER_MAGIC);
	mailbox_post(&w->mailbox, &w->stop_mail);
}

void
worker_join(struct worker *w)
{
	AZ(pthread_join(w->thread, NULL));
}

/* A socket that another thread accepted. */
struct worker_gift {
	struct mail mail;
	struct worker *w;
	int fd;
	enum conn_way way;
	bool one_too_many;
	socklen_t sa_n;
	struct sockaddr_storage sa;
};

static void
worker_gift_mail(struct mail *m)
{
	struct worker_gift *g = CONTAINER_OF(m, struct worker_gift, mail);

	if (g->w->stopping) {
		(void)close(g->fd);
		(void)atomic_fetch_sub(&g->w->conns_n, 1);
		free(g);
		return;
	}
	conn_new(g->w, g->fd, (const struct sockaddr *)&g->sa, g->sa_n, g->way,
	    g->one_too_many);
	free(g);
}

void
worker_adopt(struct worker *w, int fd, const struct sockaddr *sa, socklen_t sa_n,
    enum conn_way way, bool one_too_many)
{
	struct worker_gift *g;

	CHECK_OBJ(w, WORKER_MAGIC);
	/* Counted now, so that the next accept sees it. */
	(void)atomic_fetch_add_explicit(&w->conns_n, 1, memory_order_relaxed);
	if (pthread_equal(pthread_self(), w->thread)) {
		conn_new(w, fd, sa, sa_n, way, one_too_many);
		return;
	}
	g = malloc(sizeof(*g));
	if (g == NULL) {
		(void)close(fd);
		(void)atomic_fetch_sub(&w->conns_n, 1);
		return;
	}
	g->mail.deliver = worker_gift_mail;
	g->w = w;
	g->fd = fd;
	g->way = way;
	g->one_too_many = one_too_many;
	g->sa_n = sa_n;
	memcpy(&g->sa, sa, sa_n < sizeof(g->sa) ? sa_n : sizeof(g->sa));
	mailbox_post(&w->mailbox, &g->mail);
}
