/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef REQ_PRIV_H
#define REQ_PRIV_H
/* What req_start.c and req_step.c, which have a request's steps, use of each other. */
#include "proxy/worker.h"

/* Between a step and the runner: go on with the (new) step, wait, or close. */
enum step { GO_ON, WAIT, CLOSE, FINISHED };

static inline struct depot *
req_depot(const struct req *req)
{
	return req->c->w->depot;
}

/* req_step.c */
/* The one place where the step changes. */
enum step req_go(struct req *req, enum req_step to);
/* Answers with an error instead, if no status is out yet; detail: in the arena, static, or NULL. */
enum step req_fail(struct req *req, enum reason r, const char *detail);
/* Text in the request's arena; a fixed text when that is full. */
const char *req_text(struct req *req, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* req_start.c */
enum step req_step_start(struct req *req);
/* The client's address as the repositories know it. */
struct cache_client *req_client(struct req *req);
/* What the cache is asked for this request. */
struct cache_ask req_question(struct req *req);
/* Asks the cache: an object to serve, a flight to follow, or why neither. */
enum step req_ask(struct req *req, bool object_bad);
/* Takes what the cache has: a reference each. */
void req_take_object(struct req *req, struct cache_answer *a);
/* What RFC 9211 says of an answer that follows a flight, its own or another's; 304 confirmed it. */
const char *req_forward_words(const struct req *req, bool confirmed);
/* Is there something stored that may stand in when upstream has no answer in time? */
bool req_may_serve_stale(const struct req *req);
/* Serves what is stored although it is stale. */
enum step req_serve_stale(struct req *req, const char *why);
/* A file that the signed Release lists is never said not to exist, or to be another. */
bool req_is_incomplete(const struct req *req, enum reason r);
/* Upstream has not got it now: there may be a newer generation. */
enum step req_fail_incomplete(struct req *req);

#endif
