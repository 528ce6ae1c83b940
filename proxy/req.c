/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The memory of requests: made from a parsed head, reused by their worker,
 * kept until a message that is under way to them has come.
 */
#include <stddef.h>
#include <stdatomic.h>

#include "include/counter.h"
#include "proxy/worker.h"

enum { REQ_POOL_MAX = 256 };

static _Atomic uint64_t req_ids;

/* Cleared memory for a request whose text needs this much. */
static struct req *
req_alloc(struct worker *w, size_t text_bytes)
{
	struct req *req = w->free_reqs;
	size_t cap = text_bytes > REQ_TEXT_BYTES ? text_bytes : REQ_TEXT_BYTES;

	if (req != NULL && text_bytes <= REQ_TEXT_BYTES) {
		w->free_reqs = req->next_free;
		w->free_reqs_n--;
	} else {
		req = malloc(sizeof(*req) + cap);
		if (req == NULL)
			return NULL;
	}
	memset(req, 0, offsetof(struct req, http));
	req->magic = REQ_MAGIC;
	req->text_cap = cap;
	arena_init(&req->text, req->memory, cap);
	return req;
}

/* Gives the memory back. */
static void
req_free(struct worker *w, struct req *req)
{
	req->magic = 0;
	if (req->text_cap != REQ_TEXT_BYTES || w->free_reqs_n >= REQ_POOL_MAX) {
		free(req);
		return;
	}
	req->next_free = w->free_reqs;
	w->free_reqs = req;
	w->free_reqs_n++;
}

/* The flight has news for us. On our worker. */
static void
req_wake_mail(struct mail *m)
{
	struct req *req = CONTAINER_OF(m, struct req, wake);

	CHECK_OBJ(req, REQ_MAGIC);
	atomic_store(&req->wake_posted, false);
	if (req->orphan) {
		free(req);	/* its connection and worker's pool may be gone */
		return;
	}
	/* One that looks ahead has nothing to do before its turn. */
	if (TAILQ_FIRST(&req->c->reqs) == req)
		conn_run(req->c);
}

/* The flight's call, from whichever thread: at most one message under way. */
static void
req_wake(struct flight_reader *r)
{
	struct req *req = CONTAINER_OF(r, struct req, reader);

	if (!atomic_exchange(&req->wake_posted, true))
		mailbox_post(&req->c->w->mailbox, &req->wake);
}

struct req *
req_new(struct conn *c, const char *head, size_t head_bytes, enum reason *r)
{
	struct worker *w = c->w;
	struct req *req;
	char *copy;

	/* The head itself, the URL in three forms, and what an error says. */
	req = req_alloc(w, head_bytes * 4 + 2048);
	if (req == NULL)
		return NULL;
	req->c = c;
	req->id = atomic_fetch_add_explicit(&req_ids, 1, memory_order_relaxed) + 1;
	req->arrived_ms = w->now_ms;
	req->reader.wake = req_wake;
	req->wake.deliver = req_wake_mail;
	copy = arena_text(&req->text, head_bytes);
	AN(copy);
	memcpy(copy, head, head_bytes);
	*r = head_bytes >= HTTPREQ_HEAD_MAX ? REASON_REQ_HEAD_TOO_BIG :
	    httpreq_parse(&req->http, copy, head_bytes);
	if (*r != REASON_OK)
		memset(&req->http, 0, offsetof(struct httpreq, fields));
	COUNT(requests_total);
	return req;
}

void
req_end(struct req *req)
{
	CHECK_OBJ(req, REQ_MAGIC);
	flight_detach(&req->reader);	/* from here on nobody posts */
	object_unref(&req->object);
	cache_gen_unref(&req->gen);
	free(req->text_body);
	req->text_body = NULL;
	if (atomic_load(&req->wake_posted))
		req->orphan = true;
	else
		req_free(req->c->w, req);
}
