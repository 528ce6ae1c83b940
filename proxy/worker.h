/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef WORKER_H
#define WORKER_H
/*
 * One serving thread: an event loop, its connections, its view of the cache.
 * Nothing of a connection is touched by another thread; others talk to it
 * through the mailbox.
 */
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "proxy/conn.h"
#include "proxy/depot.h"
#include "proxy/mailbox.h"

#define WORKER_MAGIC 0x30a4e401u

enum {
	WORKER_IN_BYTES = 64 << 10,	/* what one recv may bring */
	WORKER_HEAD_BYTES = 24 << 10,	/* room for a response head */
	WORKER_BODY_BYTES = 1 << 20,	/* what one turn may send */
	WORKER_TICK_MS = 200,
	WORKER_PACE_MS = 20,
};

struct req;

struct worker {
	uint32_t magic;
	unsigned n;
	struct depot *depot;
	pthread_t thread;
	struct event_base *base;
	struct event *mail_event, *tick_event, *run_event, *pace_event;
	struct mailbox mailbox;
	struct cache_view *view;
	int64_t now_ms, now_s;		/* read at each callback's start */
	int64_t turn_ended_ms;		/* when those with more to do last had theirs */
	_Atomic unsigned conns_n;
	struct conn_list conns[CONN_STATE_N];	/* each connection is on the list of its state */
	TAILQ_HEAD(conn_run_list, conn) runnable;	/* have more to do next turn */
	TAILQ_HEAD(conn_pace_list, conn) paced;	/* are run again in a moment */
	struct conn_list dead;		/* freed on a later turn */
	struct req *free_reqs;		/* reused request memory */
	unsigned free_reqs_n;
	bool stopping;
	int64_t stopping_ms;
	char *in;			/* WORKER_IN_BYTES, scratch */
	char *out;			/* WORKER_HEAD_BYTES + WORKER_BODY_BYTES, scratch */
	struct mail stop_mail;
};

struct worker *worker_start(struct depot *d, unsigned n) MUSTCHECK;
/* Finishes or cuts its connections within 5 s, from any thread; worker_join waits for that. */
void worker_stop(struct worker *w);
void worker_join(struct worker *w);
/* After everybody who might post to it is gone too. */
void worker_free(struct worker **w_p);

void worker_update_clock(struct worker *w);
/* The connection has more to do: run it again next turn. */
void worker_run_later(struct worker *w, struct conn *c);
/* The connection waits for bandwidth, or an index to be read: run it again in a moment. */
void worker_pace(struct worker *w, struct conn *c);
/*
 * A new client socket for this worker; from any thread. The descriptor belongs to the worker.
 * one_too_many: only told so.
 */
void worker_adopt(struct worker *w, int fd, const struct sockaddr *sa, socklen_t sa_n,
    enum conn_way way, bool one_too_many);

#endif
