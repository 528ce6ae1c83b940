/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The steps of one request, from its parsed head to its last byte:
 *
 *   START -> OPEN -> HEAD -> BODY -> DONE          a hit
 *   START -> FOLLOW -> HEAD -> BODY -> DONE        a flight, joined or started
 *   START -> FOLLOW -> OPEN -> ...                 a check that ended in "still good", or in stale
 *   START -> CONNECT                               a tunnel
 *   START -> INTERCEPT -> BODY -> DONE             from then on the connection is the host's
 *   any   -> HEAD (with req->reason set)           an error, as long as no status is out
 *
 * START is in req_start.c, the others are here. A step does one thing and
 * says: again, wait (after setting the connection's state), or close. conn_run
 * calls req_run for the first request of a connection; those behind it only
 * do START, early.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/answer.h"
#include "proxy/deliver.h"
#include "proxy/forward.h"
#include "proxy/iopool.h"
#include "proxy/panic.h"
#include "proxy/req_priv.h"
#include "proxy/tunnel.h"

enum {
	/* A client gets a status line within 25 s; the clock is looked at once a tick. */
	REQ_HEAD_WAIT_MS = 25000 - 2 * WORKER_TICK_MS,
	REQ_RANGE_WAIT_MS = 5000,	/* for a range far ahead in a flight */
	REQ_STRIDE_BYTES = 16 << 10,	/* disks are read in larger pieces than this */
};

static const char *const req_step_names[REQ_STEP_N] = {
#define S(name, func) [REQ_##name] = #name,
	REQ_STEPS(S)
#undef S
};

enum step
req_go(struct req *req, enum req_step to)
{
	if (req->step != to)
		log_debug("req=%llu %s -> %s", (unsigned long long)req->id,
		    req_step_names[req->step], req_step_names[to]);
	req->step = to;
	return GO_ON;
}

const char *
req_text(struct req *req, const char *fmt, ...)
{
	size_t room = req->text.cap - req->text.used;
	char *p = req->text.base + req->text.used;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(p, room, fmt, ap);
	va_end(ap);
	if (n < 0 || room == 0)
		return "";
	req->text.used += (size_t)n < room ? (size_t)n + 1 : room;
	return p;
}

enum step
req_fail(struct req *req, enum reason r, const char *detail)
{
	flight_detach(&req->reader);
	object_unref(&req->object);
	req->reason = r;
	if (detail != NULL)
		req->detail = detail;
	return req_go(req, REQ_HEAD);
}

/* ---- OPEN ---- */

/* A body that is being opened or read by a pool thread. */
struct req_job {
	struct iojob io;
	struct conn *c;			/* kept alive by jobs_n */
	uint64_t req_id;		/* to see whether it is still the same request */
	struct object_job *open;	/* or NULL: read ahead */
	int fd;				/* to read ahead from: a duplicate */
	uint64_t at, end;
};

static void
req_job_run(struct iojob *io)
{
	struct req_job *job = CONTAINER_OF(io, struct req_job, io);
	uint64_t at;
	char byte;

	if (job->open != NULL) {
		object_job_run(job->open);
		return;
	}
	/*
	 * A byte here and there waits for all that comes and copies nothing; the last first, which is
	 * mostly the last to come: one sleep and not one for each piece that the disk brings.
	 */
	(void)readahead(job->fd, (off_t)job->at, (size_t)(job->end - job->at));
	for (at = job->end - 1; pread(job->fd, &byte, 1, (off_t)at) == 1 &&
	    at >= job->at + REQ_STRIDE_BYTES; at -= REQ_STRIDE_BYTES)
		;
	(void)close(job->fd);
}

/* Back on the worker: the request goes on, if it is still there. */
static void
req_job_mail(struct mail *m)
{
	struct req_job *job = CONTAINER_OF(m, struct req_job, io.mail);
	struct conn *c = job->c;
	struct req *req = TAILQ_FIRST(&c->reqs);
	enum object_open opened = OBJECT_OPENED;

	CHECK_OBJ(c, CONN_MAGIC);
	AN(c->jobs_n);
	c->jobs_n--;
	worker_update_clock(c->w);
	if (job->open != NULL)
		opened = object_job_finish(&job->open);
	if (c->state == CONN_DISK && req != NULL && req->id == job->req_id) {
		conn_set_state(c, CONN_RUN);
		if (opened == OBJECT_MUST_WAIT)
			(void)req_fail(req, REASON_NO_DESCRIPTORS, NULL);
		else if (opened == OBJECT_GONE)
			(void)req_ask(req, true);
		else if (job->end > 0)
			req->probed = job->end;
		conn_run(c);
	}
	free(job);
}

/* Hands a job to the pool; the connection waits in state DISK. */
static enum step
req_submit_job(struct req *req, struct object_job *open, int fd, uint64_t end)
{
	struct conn *c = req->c;
	struct req_job *job = calloc(1, sizeof(*job));

	if (job == NULL) {
		if (fd >= 0)
			(void)close(fd);
		if (open != NULL)
			(void)object_job_finish(&open);
		req->reason = REASON_NO_MEMORY;
		return CLOSE;
	}
	job->io.run = req_job_run;
	job->io.home = &c->w->mailbox;
	job->io.mail.deliver = req_job_mail;
	job->c = c;
	job->req_id = req->id;
	job->open = open;
	job->fd = fd;
	job->at = req->at;
	job->end = end;
	c->jobs_n++;
	conn_set_state(c, CONN_DISK);
	iopool_submit(c->w->depot->iopool, &job->io);
	return WAIT;
}

static enum step
req_step_open(struct req *req)
{
	struct object_job *job;

	AN(req->object);
	req->source = SOURCE_OBJECT;
	if (req->gen != NULL && req->route.at.n == 0)
		cache_note_given(req->c->w->view, req_client(req), req->gen, req->c->w->now_ms);
	if (req->http.method == HTTP_HEAD)
		return req_go(req, REQ_HEAD);
	switch (object_open_now(req->object)) {
	case OBJECT_OPENED:
		return req_go(req, REQ_HEAD);
	case OBJECT_GONE:
		return req_ask(req, true);
	case OBJECT_MUST_WAIT:
		job = object_job_new(req->object);
		if (job == NULL)
			return req_fail(req, REASON_NO_MEMORY, NULL);
		return req_submit_job(req, job, -1, 0);
	}
	WRONG("open result");
}

/* ---- FOLLOW ---- */

/* Why what is stored is served: for Cache-Status. */
static const char *
req_stale_words(enum reason r)
{
	switch ((int)r) {
	case REASON_REPO_DISAGREES:
		COUNT(generation_held_total);
		return "hit; detail=generation-held";
	case REASON_REPO_OLDER:
		COUNT(generation_held_total);
		return "hit; detail=generation-newer";
	case REASON_REPO_SIGNATURE:
	case REASON_RELEASE_BAD:
	case REASON_NOT_A_RELEASE:
	case REASON_LIST_BAD:
		COUNT(generation_held_total);
		return "hit; detail=generation-refused-newer";
	default:
		return "hit; detail=stale-if-error";
	}
}

/* The flight ended badly: what is stored, if that may be served; else the error in words. */
static enum step
req_follow_failed(struct req *req)
{
	struct flight *f = req->reader.f;
	enum reason r = flight_reason(f);

	if (req_may_serve_stale(req) && r != REASON_UP_NOT_FOUND && r != REASON_UP_GONE)
		return req_serve_stale(req, req_stale_words(r));
	req->detail = req_text(req, "%s", flight_detail(f));
	if (req_is_incomplete(req, r))
		return req_fail_incomplete(req);
	req->error_status = flight_upstream_status(f);
	req->challenge = req_text(req, "%s", flight_challenge(f));
	req->retry_after_s = flight_retry_after(f);
	return req_fail(req, r, NULL);
}

/* The origin confirmed what is stored. */
static enum step
req_follow_confirmed(struct req *req)
{
	if (req->object == NULL)
		return req_ask(req, false);	/* joined a check of what we had not */
	cache_confirm(req->c->w->view, req->object, req->reader.f);
	req->cache_status = req_forward_words(req, true);
	flight_detach(&req->reader);
	return req_go(req, REQ_OPEN);
}

/* A gated Release may be shown: served from its generation, by now the newest, if there is one. */
static enum step
req_follow_gated(struct req *req)
{
	struct cache_ask ask = req_question(req);
	struct cache_answer a;

	ask.checked = true;
	cache_ask(req->c->w->view, &ask, &a);
	MUST(a.flight == NULL);
	object_unref(&req->object);
	if (a.object == NULL) {
		cache_gen_unref(&a.gen);
		req->source = SOURCE_FLIGHT;
		return req_go(req, REQ_HEAD);
	}
	req_take_object(req, &a);
	req->stored = !req->whole && !a.held;
	flight_detach(&req->reader);
	return req_go(req, REQ_OPEN);
}

static enum step
req_step_follow(struct req *req)
{
	struct flight *f = req->reader.f;
	enum flight_state s;

	CHECK_OBJ(req, REQ_MAGIC);
	AN(f);
	s = flight_state(f);
	switch (s) {
	case FLIGHT_WAITING:
	case FLIGHT_HELD:
		conn_set_state(req->c, CONN_FLIGHT);
		return flight_wait(&req->reader, UINT64_MAX, s) ? WAIT : GO_ON;
	case FLIGHT_FAILED:
		/* It was called off before we came, for want of readers. */
		if (flight_reason(f) == REASON_CLIENT_GONE)
			return req_ask(req, false);
		if (flight_reason(f) == REASON_REPO_ANEW) {
			req->anew = true;
			return req_ask(req, false);
		}
		return req_follow_failed(req);
	case FLIGHT_CONFIRMED:
		return req_follow_confirmed(req);
	case FLIGHT_STREAMING:
	case FLIGHT_COMPLETE:
		/* Called off for want of readers before we came: it fails in a moment, and we ask anew. */
		if (req->reader.late) {
			conn_set_state(req->c, CONN_FLIGHT);
			return flight_wait(&req->reader, UINT64_MAX, s) ? WAIT : GO_ON;
		}
		/*
		 * What belongs to the one who asked first is not for others: they ask for
		 * themselves.
		 */
		if (!flight_head(f)->shareable && !req->reader.owner)
			return req_ask(req, false);
		if (flight_is_gated(f))
			return req_follow_gated(req);
		object_unref(&req->object);
		req->source = SOURCE_FLIGHT;
		return req_go(req, REQ_HEAD);
	}
	WRONG("flight state");
}

bool
req_give_up_waiting(struct req *req)
{
	struct worker *w = req->c->w;
	const struct config_upstream *conf =
	    config_for_upstream(w->depot->config, req->route.url.host);
	int64_t waited = w->now_ms - req->front_ms;

	if (req->status != 0 || req->front_ms == 0)
		return false;
	if (req->step == REQ_HEAD)
		return waited >= REQ_RANGE_WAIT_MS;
	if (req->step == REQ_FOLLOW && req_may_serve_stale(req) && waited >= conf->revalidate_wait) {
		/*
		 * The check goes on without us; until the host answers, nobody else waits for it.
		 */
		cache_note_host(w->depot->cache, req->route.url.authority, true, w->now_ms);
		(void)req_serve_stale(req, "hit; detail=stale-while-checking");
		return true;
	}
	if (waited < REQ_HEAD_WAIT_MS)
		return false;
	(void)req_fail(req, REASON_UP_TIMEOUT, req->step == REQ_FOLLOW ? "no answer from upstream "
	    "within 25 seconds; the fetch goes on, and a repeat of this request joins it" :
	    "no connection to the upstream within 25 seconds");
	return true;
}

/* ---- HEAD ---- */

/*
 * A range that the flight has not reached and that If-Range lets us ignore: worth a short wait
 * only.
 */
static bool
req_range_too_far(const struct req *req, const struct httpcond_verdict *v)
{
	return req->source == SOURCE_FLIGHT && v->status == 206 && req->http.if_range.p != NULL &&
	    flight_state(req->reader.f) == FLIGHT_STREAMING &&
	    flight_readable(&req->reader, v->first) <= v->first;
}

/* The answer ends in the middle, through no fault of its client. */
static enum step
req_cut(struct req *req, enum reason r)
{
	COUNT(cut_answers_total);
	req->reason = r;
	answer_note_trouble(req, 0);
	log_warning("req=%llu flight=%llu cut after %llu bytes of %.*s: %s",
	    (unsigned long long)req->id, (unsigned long long)req->flight_id,
	    (unsigned long long)req->sent_bytes, SLICE_ARG(req->route.url.text), reason_text(r));
	if (req->end_known < 0 && !req->chunked) {
		/* Only a reset tells this client that the body is not whole. */
		struct linger hard = {1, 0};

		(void)setsockopt(req->c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	}
	return CLOSE;
}

/* Turns what deliver says into what the connection does. */
static enum step
req_delivered(struct req *req, enum deliver_result r)
{
	struct conn *c = req->c;
	int fd;

	switch (r) {
	case DELIVER_DONE:
		return req_go(req, REQ_DONE);
	case DELIVER_BLOCKED:
		if (req->source == SOURCE_OBJECT)
			object_hold(req->object);
		conn_set_state(c, CONN_WRITE);
		return WAIT;
	case DELIVER_STARVED:
		conn_set_state(c, CONN_FLIGHT);
		if (flight_state(req->reader.f) == FLIGHT_HELD)
			return flight_wait(&req->reader, UINT64_MAX, FLIGHT_HELD) ? WAIT : GO_ON;
		return flight_wait(&req->reader, req->at, FLIGHT_STREAMING) ? WAIT : GO_ON;
	case DELIVER_COLD:
		object_hold(req->object);
		fd = fcntl(object_fd(req->object), F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return req_cut(req, REASON_NO_DESCRIPTORS);
		return req_submit_job(req, NULL, fd, deliver_window_end(req));
	case DELIVER_PACED:
		if (req->source == SOURCE_OBJECT)
			object_hold(req->object);
		conn_set_state(c, CONN_PACE);
		return WAIT;
	case DELIVER_TURN:
		worker_run_later(c->w, c);
		conn_set_state(c, CONN_RUN);
		return WAIT;
	case DELIVER_CUT:
		if (req->source == SOURCE_OBJECT)
			object_damaged(req->object);
		return req_cut(req, req->source != SOURCE_FLIGHT ? REASON_DAMAGED :
		    flight_state(req->reader.f) == FLIGHT_FAILED ? flight_reason(req->reader.f) :
		    flight_left_behind(&req->reader) ? REASON_CLIENT_SLOW :
		    flight_follow(&req->reader, req->at) == FLIGHT_LOST ? REASON_UP_DIGEST :
		    REASON_DAMAGED);
	case DELIVER_GONE:
		return CLOSE;
	}
	WRONG("deliver result");
}

/* What its answer says of the connection: the last one closes it, those before it do not. */
static struct slice
req_connection_field(const struct req *req)
{
	bool ends_body = req->end_known < 0 && !req->chunked;

	if ((req->c->close_when_done || req->c->w->stopping) &&
	    (TAILQ_NEXT(req, link) == NULL || ends_body))
		return SLICE("Connection: close\r\n");
	return req->http.minor == 0 ? SLICE("Connection: keep-alive\r\n") : SLICE_NONE;
}

static enum step
req_step_head(struct req *req)
{
	struct worker *w = req->c->w;
	struct httpcond_verdict v = {.status = 200};
	struct headbuf h;
	int64_t total;
	bool ok;

	/* Small answers go out whole: what they took beyond the share is waited for before the next one. */
	if (conn_allowance(req->c) == 0) {
		conn_set_state(req->c, CONN_PACE);
		return WAIT;
	}
	headbuf_init(&h, w->out, WORKER_HEAD_BYTES);
	if (req->source == SOURCE_FLIGHT && req->reason == REASON_OK) {
		if (flight_state(req->reader.f) == FLIGHT_HELD)
			return req_go(req, REQ_FOLLOW);
		/* Only passed on, and the beginning is gone. */
		if (!flight_refresh(&req->reader))
			return req_ask(req, false);
	}
	if (req->reason != REASON_OK)
		ok = answer_make_error(req, &h);
	else if (req->source == SOURCE_TEXT)
		ok = answer_make_page(req, &h);
	else if (req->source == SOURCE_FLIGHT && flight_state(req->reader.f) == FLIGHT_FAILED)
		return req_follow_failed(req);
	else {
		total = req->source == SOURCE_FLIGHT ? flight_reader_total(&req->reader) :
		    (int64_t)object_size(req->object);
		answer_judge(req, total, &v);
		if (req->source == SOURCE_FLIGHT && v.status == 206)
			flight_reader_want(&req->reader, v.first, v.end);
		if (req_range_too_far(req, &v)) {
			/* What is only passed on does not get there while we have not begun. */
			if (w->now_ms - req->front_ms < REQ_RANGE_WAIT_MS &&
			    !flight_passes_through(req->reader.f)) {
				conn_set_state(req->c, CONN_FLIGHT);
				return flight_wait(&req->reader, v.first, FLIGHT_STREAMING) ?
				    WAIT : GO_ON;
			}
			v.status = 200;
			flight_reader_want(&req->reader, 0, UINT64_MAX);
		}
		if (v.status == 412 || v.status == 416) {
			req->end_known = total;
			return req_fail(req, v.status == 412 ? REASON_PRECONDITION : REASON_RANGE, NULL);
		}
		ok = answer_make_object(req, &h, &v, total);
	}
	headbuf_text(&h, req_connection_field(req));
	headbuf_end(&h);
	if (!ok || !headbuf_ok(&h))
		return CLOSE;
	(void)req_go(req, REQ_BODY);
	return req_delivered(req, deliver_start(req, h.n));
}

/* ---- BODY, CONNECT, DONE ---- */

static enum step
req_step_body(struct req *req)
{
	if (flight_left_behind(&req->reader))
		return req_delivered(req, DELIVER_CUT);
	if (!req->c->can_write) {
		conn_set_state(req->c, CONN_WRITE);
		return WAIT;
	}
	return req_delivered(req, deliver_more(req));
}

static enum step
req_step_connect(struct req *req)
{
	struct conn *c = req->c;

	if (c->tunnel == NULL &&
	    !tunnel_begin(c, req->id, req->route.host, req->route.port, req->http.via))
		return req_fail(req, REASON_NO_MEMORY, NULL);
	switch (tunnel_progress(c, req)) {
	case TUNNEL_CONNECTING:
		conn_set_state(c, CONN_FLIGHT);
		return WAIT;
	case TUNNEL_FAILED:
		tunnel_end(&c->tunnel);
		return req_fail(req, req->reason != REASON_OK ? req->reason : REASON_UP_CONNECT, NULL);
	case TUNNEL_READY:
		req->status = 200;
		req->cache_status = "fwd=method";
		req_log(req, REASON_OK);
		conn_end_request(c, req);
		tunnel_open(c, true);
		return WAIT;
	}
	WRONG("tunnel progress");
}

/* conn.c goes on with TLS when it is out. */
static enum step
req_step_intercept(struct req *req)
{
	static const char answer[] = "HTTP/1.1 200 Connection established\r\n\r\n";

	memcpy(req->c->w->out, answer, sizeof(answer) - 1);
	req->status = 200;
	req->cache_status = "detail=intercepted";
	req->source = SOURCE_TEXT;
	(void)req_go(req, REQ_BODY);
	return req_delivered(req, deliver_start(req, sizeof(answer) - 1));
}

static enum step
req_step_done(struct req *req)
{
	(void)req;
	return FINISHED;
}

/* For a panic's report. */
static void
req_describe(const void *obj, char *out, size_t cap)
{
	const struct req *req = obj;
	struct slice url = answer_url(req);

	(void)snprintf(out, cap, "%llu in step %s: %.*s", (unsigned long long)req->id,
	    (unsigned)req->step < REQ_STEP_N ? req_step_names[req->step] : "?", SLICE_ARG(url));
}

static enum step_result
req_run_steps(struct req *req)
{
	static enum step (*const steps[REQ_STEP_N])(struct req *) = {
#define S(name, func) [REQ_##name] = req_step_##func,
		REQ_STEPS(S)
#undef S
	};

	for (;;) {
		switch (steps[req->step](req)) {
		case GO_ON:
			break;
		case WAIT:
			return STEP_WAIT;
		case CLOSE:
			return STEP_CLOSE;
		case FINISHED:
			return STEP_AGAIN;
		}
	}
}

enum step_result
req_run(struct req *req)
{
	enum step_result r;

	CHECK_OBJ(req, REQ_MAGIC);
	panic_works_on("request", req, req_describe);
	r = req_run_steps(req);
	panic_works_on(NULL, NULL, NULL);
	return r;
}

void
req_log(const struct req *req, enum reason end)
{
	struct worker *w = req->c->w;
	char peer[INET6_ADDRSTRLEN], cache[128];
	struct log_access a;

	if (!log_access_enabled())
		return;
	conn_peer_text(req->c, peer, sizeof(peer));
	(void)snprintf(cache, sizeof(cache), "%s%s", req->cache_status != NULL ? req->cache_status : "",
	    req->stored ? "; stored" : "");
	a = (struct log_access){
		.req_id = req->id, .flight_id = req->flight_id, .client = peer,
		.method = req->http.method_text,
		.url = answer_url(req),
		.user_agent = req->http.user_agent,
		.status = req->status, .body_bytes = req->sent_bytes,
		.total_bytes = req->end_known,
		.wait_ms = req->first_byte_ms != 0 ?
		    (uint32_t)(req->first_byte_ms - req->arrived_ms) : 0,
		.total_ms = (uint32_t)(w->now_ms - req->arrived_ms),
		.cache = cache,
		.end = end == REASON_OK ? "done" : reason_name(end),
	};
	log_access_line(&a);
}
