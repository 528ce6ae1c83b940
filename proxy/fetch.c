/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One flight's way upstream, over as many requests as it takes: redirects,
 * retries, resumes. Runs on the upstream thread; see FETCH_STATES in
 * upstream_priv.h.
 *
 *   NEW -> (PARTIAL ->) QUEUED -> ASK -> BODY -> (VERIFY ->) OVER
 *             ASK, BODY, VERIFY -> PAUSE      what came was wrong: all of it again
 *             ASK, BODY -> PAUSE -> QUEUED     it broke and is worth another try
 *             ASK -> QUEUED                    a redirect
 *             BODY -> SEGMENTS -> OVER         parallel ranges bring the rest (segments.c)
 *             SEGMENTS -> PAUSE                they don't, after all
 *
 * libcurl's callbacks only record what came and what it means (ft->plan);
 * what follows is done in fetch_done, outside of libcurl. A fetch belongs to
 * its flight and to nobody else: what happens when the last reader leaves is
 * decided in fetch_check_lonely (fetch_rate.c).
 */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

#include "include/cache.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "proxy/segment.h"
#include "proxy/upstream_priv.h"

enum {
	FETCH_EDGE_MS = 1000,		/* between two new connections for Releases */
	/* before a client has bytes: refused, reset, garbage, 5xx */
	FETCH_TRIES_MAX = 3,
	FETCH_CHECK_TRIES_MAX = 2,	/* where something stored can be served instead */
	FETCH_TIMEOUTS_MAX = 2,
	FETCH_PATIENCE_S = 10,		/* a Retry-After up to this is waited for, once */
	FETCH_STUCK_MS = 20000,		/* in the middle of a body: tried again for so long */
	FETCH_REST_MS = 1000,		/* for a body that is only read to keep its connection */
	FETCH_NO_OTHER_MS = 10000,	/* that a host has no better address is believed for so long */
};
static const int64_t fetch_pause_ms[] = {20, 200, 400, 1000, 2000, 4000};

static const char *const fetch_state_names[FETCH_STATE_N] = {
#define S(name, waits_for) [FETCH_##name] = #name,
	FETCH_STATES(S)
#undef S
};

/* The one place where the state changes. */
void
fetch_set_state(struct fetch *ft, enum fetch_state to)
{
	CHECK_OBJ(ft, FETCH_MAGIC);
	MUST(ft->state != FETCH_OVER);
	if (ft->state == to)
		return;
	log_debug("flight=%llu fetch %s -> %s", (unsigned long long)flight_id(ft->f),
	    fetch_state_names[ft->state], fetch_state_names[to]);
	ft->state = to;
}

/* ---- birth and end ---- */

/* A worker's order has come. */
static void
fetch_order_mail(struct mail *m)
{
	fetch_begin(CONTAINER_OF(m, struct fetch, order));
}

/* Frees what is left once no message is under way. */
static void
fetch_free(struct fetch *ft)
{
	free(ft->url_text);
	free(ft->fields);
	free(ft->via);
	upway_close(&ft->way);
	OBJ_FREE(ft);
}

/* The fetch is over: frees it, now or with the last message that is still under way to it. */
void
fetch_free_when_quiet(struct fetch *ft)
{
	ft->dead = true;
	if (!atomic_load(&ft->crowd_posted) && !atomic_load(&ft->verdict_posted) &&
	    !ft->partial_pending)
		fetch_free(ft);
}

/* Readers may have made room: libcurl offers its bytes again, and pauses again if there is none. */
void
fetch_unpause(struct fetch *ft)
{
	if (!ft->paused || ft->curl == NULL)
		return;
	ft->paused = false;
	ft->quiet_ms = ft->u->now_ms = clock_mono_ms();
	(void)curl_easy_pause(ft->curl, CURLPAUSE_CONT);
}

/* Readers came, went, or made room. */
static void
fetch_crowd_mail(struct mail *m)
{
	struct fetch *ft = CONTAINER_OF(m, struct fetch, crowd);

	CHECK_OBJ(ft, FETCH_MAGIC);
	atomic_store(&ft->crowd_posted, false);
	if (ft->dead)
		fetch_free_when_quiet(ft);
	else {
		ft->lonely_ms = flight_readers(ft->f) == 0 ? ft->u->now_ms : 0;
		if (!segments_relieving(ft))
			fetch_unpause(ft);
		if (ft->state == FETCH_QUEUED)
			upstream_requeue(ft);
	}
}

/* The flight calls this under its lock, from any thread: it only posts; the mail looks for itself. */
static void
fetch_crowd(void *arg)
{
	struct fetch *ft = arg;

	if (!atomic_exchange(&ft->crowd_posted, true))
		mailbox_post(&ft->u->mailbox, &ft->crowd);
}

/* The verifier has read the kept part. */
static void
fetch_partial_mail(struct mail *m)
{
	struct fetch *ft = CONTAINER_OF(m, struct fetch, partial);

	CHECK_OBJ(ft, FETCH_MAGIC);
	ft->partial_pending = false;
	if (ft->dead) {
		fetch_free_when_quiet(ft);
		return;
	}
	ft->u->now_ms = clock_mono_ms();
	upstream_queue(ft);
}

struct fetch *
fetch_new(struct upstream *u, struct flight *f, const struct upstream_ask *ask)
{
	struct fetch *ft;

	OBJ_NEW(ft, FETCH_MAGIC);
	if (ft == NULL)
		return NULL;
	ft->url_text = malloc(FETCH_URL_BYTES);
	ft->fields = malloc(ask->fields.n + 1);
	ft->way.via = ft->via = upway_via(u, ask->via);
	if (ft->url_text == NULL || ft->fields == NULL || ft->via == NULL) {
		fetch_free(ft);
		return NULL;
	}
	if (ask->fields.n != 0)
		memcpy(ft->fields, ask->fields.p, ask->fields.n);
	ft->fields[ask->fields.n] = '\0';
	ft->u = u;
	ft->f = flight_ref(f);
	ft->head_only = ask->head;
	ft->no_cache = ask->no_cache;
	ft->no_store = ask->no_store;
	ft->fresh = ft->look = ask->fresh;
	ft->want_total = -1;
	ft->socket = CURL_SOCKET_BAD;
	ft->order.deliver = fetch_order_mail;
	ft->crowd.deliver = fetch_crowd_mail;
	ft->partial.deliver = fetch_partial_mail;
	ft->verdict.deliver = fetch_verdict_mail;
	(void)snprintf(ft->address, sizeof(ft->address), "nowhere");
	return ft;
}

/* Lets go of the handle of one try, and of what was known of its answer. */
static void
fetch_end_transfer(struct fetch *ft)
{
	if (ft->curl != NULL && ft->host != NULL && ft->began_here && !flight_passes_through(ft->f))
		uphost_note_rate(ft->host, ft->body_bytes, ft->u->now_ms - ft->rate_ms,
		    ft->u->now_ms);
	curlev_release(ft->u->curlev, &ft->curl);
	ft->socket = CURL_SOCKET_BAD;
	curl_slist_free_all(ft->headers);
	ft->headers = NULL;
	free(ft->resp);
	ft->resp = NULL;
}

void
fetch_end_try(struct fetch *ft)
{
	fetch_end_transfer(ft);
	upstream_leave_slot(ft);
}

/* The flight has its outcome: the fetch is over. */
void
fetch_over(struct fetch *ft)
{
	struct upstream *u = ft->u;

	flight_drive(ft->f, NULL);	/* from here on nobody posts */
	if (ft->state == FETCH_QUEUED)
		upstream_unqueue(ft);
	if (ft->partial_pending && flight_cancel_partial(ft->f))
		ft->partial_pending = false;
	(void)event_del(&ft->pause);
	segments_free(&ft->segments);
	fetch_end_try(ft);
	if (ft->dirty)
		TAILQ_REMOVE(&u->dirty, ft, dirty_link);
	ft->dirty = false;
	upstream_buffer_put(u, &ft->buf);
	TAILQ_REMOVE(&u->fetches, ft, link);
	fetch_set_state(ft, FETCH_OVER);
	flight_unref(&ft->f);
	fetch_free_when_quiet(ft);
}

void
fetch_fail(struct fetch *ft, enum reason r, int status, const char *fmt, ...)
{
	struct cache *cache = ft->u->depot->cache;
	char text[1024];
	bool keep = r != REASON_UP_CHANGED && r != REASON_UP_HTML && r != REASON_UP_DIGEST;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (r != REASON_UP_NOT_FOUND && r != REASON_CLIENT_GONE)
		COUNT(upstream_failures_total);
	log_msg(r == REASON_UP_NOT_FOUND || r == REASON_CLIENT_GONE ? LOG_INFO : LOG_WARNING,
	    "flight=%llu failed: %s: %.*s: %s", (unsigned long long)flight_id(ft->f),
	    reason_name(r), SLICE_ARG(flight_url(ft->f)), text);
	if ((status == 404 || status == 410) && !flight_is_private(ft->f))
		cache_note_status(cache, flight_key(ft->f), status, ft->u->now_ms);
	if (r == REASON_UP_BUSY && ft->retry_after_s > 0)
		flight_set_retry_after(ft->f, (unsigned)ft->retry_after_s);
	if (status == 401 && ft->resp != NULL)
		flight_set_challenge(ft->f, ft->resp->www_authenticate);
	flight_fail(ft->f, r, status, keep, "%s", text);
	fetch_over(ft);
}

/* ---- the pause before another try ---- */

/* The pause is over. */
static void
fetch_pause_cb(evutil_socket_t fd, short what, void *arg)
{
	struct fetch *ft = arg;

	(void)fd;
	(void)what;
	CHECK_OBJ(ft, FETCH_MAGIC);
	ft->u->now_ms = clock_mono_ms();
	upstream_queue(ft);
}

void
fetch_pause(struct fetch *ft, int64_t ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	fetch_set_state(ft, FETCH_PAUSE);
	(void)event_add(&ft->pause, &tv);
}

/* A little longer each time, or as long as the origin asks for. */
static int64_t
fetch_next_pause_ms(const struct fetch *ft)
{
	unsigned n = ft->tries_n + ft->timeouts_n;

	if (ft->retry_after_s > 0)
		return 1000 * (ft->retry_after_s < FETCH_PATIENCE_S ? ft->retry_after_s : FETCH_PATIENCE_S);
	return fetch_pause_ms[n < NELEM(fetch_pause_ms) ? n : NELEM(fetch_pause_ms) - 1];
}

/* Which failures are worth another try, and how many; 0: never. */
static unsigned
fetch_tries_allowed(const struct fetch *ft, enum reason r)
{
	switch ((int)r) {
	case REASON_UP_CONNECT:
	case REASON_UP_CLOSED:
	case REASON_UP_TLS:
	case REASON_UP_GARBAGE:
	case REASON_UP_STATUS:
	case REASON_NO_DISK:
		return ft->check ? FETCH_CHECK_TRIES_MAX : FETCH_TRIES_MAX;
	case REASON_UP_TIMEOUT:
		return ft->check ? 1 : FETCH_TIMEOUTS_MAX;
	case REASON_UP_BUSY:
		return ft->retry_after_s > 0 && ft->retry_after_s <= FETCH_PATIENCE_S && !ft->waited ?
		    UINT_MAX : 1;
	default:
		return 0;
	}
}

/* The origin's own word, which one more request would not change. */
static bool
fetch_is_refusal(enum reason r)
{
	return r == REASON_UP_NOT_FOUND || r == REASON_UP_GONE || r == REASON_UP_REFUSED;
}

/* Every try begins at the flight's own URL: where it was redirected to may not be good for long. */
void
fetch_go_home(struct fetch *ft)
{
	struct arena a;
	const char *alternate = ft->alternate_gone ? NULL : flight_alternate(ft->f);

	arena_init(&a, ft->url_text, FETCH_URL_BYTES);
	if (alternate == NULL || url_parse(&ft->url, &a, slice_of(alternate)) != REASON_OK) {
		arena_init(&a, ft->url_text, FETCH_URL_BYTES);
		MUST(url_parse(&ft->url, &a, flight_url(ft->f)) == REASON_OK);
	}
	key_of_url(&ft->url, &ft->visited[0]);
	ft->visited_n = 1;
	ft->abroad = false;
}

/* The by-hash name is not there: asks for the file's own name. False: there is no other name. */
static bool
fetch_try_plain(struct fetch *ft)
{
	if (ft->begun || ft->alternate_gone || flight_alternate(ft->f) == NULL ||
	    flight_committed(ft->f) != 0)
		return false;
	ft->alternate_gone = true;
	fetch_end_try(ft);
	fetch_go_home(ft);
	upstream_queue(ft);
	return true;
}

/*
 * Before a client has bytes there are a few quick tries; afterwards they go on until FETCH_STUCK_MS
 * have brought nothing new. Where segments can bring the rest, they take over instead.
 */
void
fetch_again(struct fetch *ft, enum reason r, int status, const char *detail)
{
	bool looking = ft->wait_until_ms != 0 && !ft->begun;
	/* Readers that are held wait as those of a body do. */
	bool begun = flight_committed(ft->f) > 0 || (ft->wrong_n > 0 && !looking) ||
	    r == REASON_NO_DISK;
	bool hopeless;
	/* A kept-alive connection that the origin had closed meanwhile: nobody's failure. */
	bool at_once = ft->reused && r == REASON_UP_CLOSED && ft->resp != NULL &&
	    ft->resp->status == 0 && ft->tries_n == 0;
	unsigned allowed = fetch_tries_allowed(ft, r);

	if (ft->segments != NULL && ft->curl != NULL && allowed != 0 &&
	    segments_take_over(ft, detail))
		return;
	segments_free(&ft->segments);
	fetch_end_transfer(ft);
	fetch_go_home(ft);
	if (r == REASON_UP_TIMEOUT)
		ft->timeouts_n++;
	ft->tries_n++;
	/* In the middle of a body a name server that hiccups is no reason to give up, or a mirror. */
	hopeless = allowed == 0 && !(begun && (r == REASON_UP_RESOLVE || r == REASON_UP_PROXY ||
	    fetch_is_refusal(r)));
	ft->fresh = true;
	if (hopeless || (begun ? ft->u->now_ms - ft->progress_ms > FETCH_STUCK_MS :
	    (ft->tries_n >= allowed || looking) && !at_once)) {
		if (fetch_may_wait(ft, r))
			fetch_look(ft);
		else
			fetch_fail(ft, looking ? ft->wait_reason : r, status, "%s", detail);
		return;
	}
	ft->waited |= r == REASON_UP_BUSY;
	COUNT(upstream_retries_total);
	log_info("flight=%llu trying again (%u) at byte %llu: %s: %s",
	    (unsigned long long)flight_id(ft->f), ft->tries_n,
	    (unsigned long long)flight_committed(ft->f), reason_name(r), detail);
	/* Clients that have a part of it would wait for as long as the bodies of newcomers take. */
	if (!ft->begun)
		upstream_leave_slot(ft);
	fetch_pause(ft, at_once ? 0 : fetch_next_pause_ms(ft));
}

void
fetch_fail_planned(struct fetch *ft, int status)
{
	MUST(ft->plan == PLAN_FAIL);
	/* Bodies that are passed on may be over soon, and eviction is at it. */
	if (ft->fail_reason == REASON_NO_DISK)
		fetch_again(ft, REASON_NO_DISK, 0, "no room on the disk or in the budget, and too many "
		    "bodies are being passed on without it");
	else if (fetch_heal_answer(ft))
		return;
	else if (fetch_may_wait(ft, ft->fail_reason))
		fetch_look(ft);
	else
		fetch_fail(ft, ft->fail_reason, status, "%s", ft->fail_detail);
}

/*
 * The way failed, not the origin: the same through the next parent proxy, if
 * there is one. It costs none of the origin's tries.
 */
static bool
fetch_switch_way(struct fetch *ft, enum upway_blame blame, const char *detail)
{
	if (!upway_failed(&ft->way, blame))
		return false;
	log_info("flight=%llu trying another way: %s", (unsigned long long)flight_id(ft->f), detail);
	segments_free(&ft->segments);
	fetch_end_transfer(ft);
	if (!ft->begun)
		upstream_leave_slot(ft);
	fetch_go_home(ft);
	fetch_pause(ft, 0);
	return true;
}

/* ---- what libcurl brings ---- */

/*
 * An answer that ends the try: the origin's, or, to a plain request, perhaps
 * its parent proxy's. That one's own troubles are 407, 502, 503 and 504.
 */
static enum upway_blame
fetch_blame(const struct fetch *ft)
{
	int s = ft->resp->status;

	if (ft->url.tls || ft->way.parent == NULL)
		return BLAME_NOBODY;
	return s == 407 ? BLAME_PARENT : s >= 502 && s <= 504 ? BLAME_ROUTE : BLAME_NOBODY;
}

/* The final head is complete. */
static void
fetch_head_complete(struct fetch *ft)
{
	ft->u->now_ms = ft->head_ms = clock_mono_ms();
	cache_note_host(ft->u->depot->cache, ft->url.authority, false, ft->u->now_ms);
	fetch_judge_head(ft);
	if (fetch_blame(ft) != BLAME_PARENT)
		upway_worked(&ft->way);
	if ((ft->plan == PLAN_BODY || ft->plan == PLAN_COMPARE) && ft->url.tls &&
	    ft->resp->length < 0 && !ft->resp->chunked)
		upway_await_goodbye(&ft->way, ft->curl);
	/*
	 * A repository file's head waits for its first bytes (fetch_sniff); those of others go out at
	 * once.
	 */
	if (ft->plan == PLAN_BODY && ft->begun) {
		ft->sniffed = ft->began_here = true;
		ft->rate_ms = ft->u->now_ms;
	} else if (ft->plan == PLAN_BODY && (ft->resume_at > 0 ||
	    flight_aptfile(ft->f)->class == APTFILE_OTHER))
		(void)fetch_begin_body(ft);
}

/* libcurl: one header line. */
static size_t
fetch_header_cb(char *p, size_t one, size_t n, void *arg)
{
	struct fetch *ft = arg;
	bool blank = n <= 2 && (n == 0 || p[0] == '\r' || p[0] == '\n');

	(void)one;
	CHECK_OBJ(ft, FETCH_MAGIC);
	if (ft->plan != PLAN_NONE)
		return n;		/* trailers */
	if (!blank) {
		if (!httpresp_line(ft->resp, (struct slice){p, n}))
			fetch_judge_head(ft);	/* says what is wrong with it */
		return ft->plan == PLAN_NONE ? n : 0;
	}
	/* 1xx is swallowed, and does not count as a sign of life. */
	if (ft->resp->status >= 200) {
		ft->quiet_ms = ft->u->now_ms;
		fetch_head_complete(ft);
	}
	return n;
}

/* Notes who answers: for messages, and for the body's record. */
static void
fetch_note_peer(struct fetch *ft, const char *ip, int port)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	(void)snprintf(ft->address, sizeof(ft->address), "%s", ip);
	ft->from = (struct provenance){.way = ft->way.parent != NULL ? PROVENANCE_PARENT :
	    PROVENANCE_ORIGIN, .port = (uint16_t)port};
	if (inet_pton(AF_INET6, ip, ft->from.address) == 1)
		return;
	memcpy(ft->from.address, mapped, sizeof(mapped));
	if (inet_pton(AF_INET, ip, ft->from.address + sizeof(mapped)) != 1)
		ft->from.way = PROVENANCE_UNKNOWN;
}

/* libcurl: connected, about to send the request. Reused connections are judged here. */
static int
fetch_prereq_cb(void *arg, char *peer_ip, char *own_ip, int peer_port, int own_port)
{
	struct fetch *ft = arg;
	bool again = ft->sent;		/* libcurl tries by itself what a kept-alive one broke */
	long fresh = 1;

	(void)own_ip;
	(void)own_port;
	CHECK_OBJ(ft, FETCH_MAGIC);
	if (!upway_reuse_ok(&ft->way, peer_ip))
		return CURL_PREREQFUNC_ABORT;
	ft->sent = true;
	fetch_note_peer(ft, peer_ip, peer_port);
	ft->way.denied = false;
	if (ft->url.tls)
		upway_worked(&ft->way);	/* else its parent proxy has accepted a connection, no more */
	ft->quiet_ms = ft->u->now_ms;
	(void)curl_easy_getinfo(ft->curl, CURLINFO_NUM_CONNECTS, &fresh);
	ft->reused = fresh == 0;
	if (again && ft->reused)
		return CURL_PREREQFUNC_ABORT;	/* which may be as dead; ours takes a new one */
	ft->tries_n += again;
	if (ft->way.choice.addrs == NULL)
		return CURL_PREREQFUNC_OK;
	upstream_note_peer(ft->u, ft->host, &ft->way.choice, peer_ip);
	/*
	 * A kept-alive connection to an address that did badly meanwhile: as if it had died, but not
	 * where there is no other.
	 */
	return ft->reused && upaddr_is_avoided(&ft->host->addrs, peer_ip, ft->u->now_ms) &&
	    (ft->host->addrs.none_ms == 0 ||
	    ft->u->now_ms - ft->host->addrs.none_ms >= FETCH_NO_OTHER_MS) ?
	    CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* ---- one try ---- */

/* Everything that libcurl is told of this try. */
static bool
fetch_setup(struct fetch *ft)
{
	CURL *curl = ft->curl;

	if (!fetch_make_request(ft))
		return false;
	(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, fetch_header_cb);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, ft);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, fetch_write_cb);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, ft);
	(void)curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, fetch_prereq_cb);
	(void)curl_easy_setopt(curl, CURLOPT_PREREQDATA, ft);
	return true;
}

/*
 * A kept connection sticks to one edge of a CDN, which may be hours behind:
 * Releases come over a new one now and then.
 */
static void
fetch_change_edge(struct fetch *ft)
{
	if (flight_aptfile(ft->f)->class != APTFILE_RELEASE)
		return;
	if (!ft->fresh && ft->host->fresh_ms != 0 &&
	    ft->u->now_ms - ft->host->fresh_ms < FETCH_EDGE_MS)
		return;
	ft->host->fresh_ms = ft->u->now_ms;
	ft->fresh = true;
}

void
fetch_start(struct fetch *ft)
{
	CHECK_OBJ(ft, FETCH_MAGIC);
	AN(ft->host);
	ft->plan = PLAN_NONE;
	ft->sent = ft->sniffed = ft->began_here = ft->reused = ft->paused = false;
	ft->buf_n = 0;
	ft->body_bytes = 0;
	ft->rate_from = flight_committed(ft->f);
	ft->error[0] = '\0';
	ft->quiet_ms = ft->u->now_ms;
	ft->asked_wall_ms = clock_wall_ms();
	ft->retry_after_s = 0;
	ft->speed.since_ms = 0;
	ft->way.choice = (struct upaddr_choice){.now_ms = ft->u->now_ms, .any = ft->any_address};
	if (ft->host->way.direct)
		ft->way.choice.addrs = &ft->host->addrs;
	fetch_choose_range(ft);
	fetch_change_edge(ft);
	if (ft->resume_at == 0 && ft->partial_bytes > 0) {
		/* Nothing could prove that more belongs to it. */
		flight_drop_partial(ft->f);
		ft->partial_bytes = 0;
	}
	ft->resp = malloc(sizeof(*ft->resp));
	ft->curl = curlev_handle(ft->u->curlev, ft);
	fetch_set_state(ft, FETCH_ASK);
	if (ft->resp != NULL)
		httpresp_reset(ft->resp);
	if (ft->resp == NULL || ft->curl == NULL || !fetch_setup(ft) ||
	    curlev_add(ft->u->curlev, ft->curl) != CURLM_OK) {
		fetch_fail(ft, REASON_NO_MEMORY, 0, "%s", reason_text(REASON_NO_MEMORY));
		return;
	}
	if (!ft->same_try)
		COUNT(upstream_requests_total);
	ft->same_try = false;
	log_debug("flight=%llu asking %.*s from byte %llu", (unsigned long long)flight_id(ft->f),
	    SLICE_ARG(ft->url.text), (unsigned long long)ft->resume_at);
}

/* ---- the end of one try ---- */

void
fetch_complete(struct fetch *ft)
{
	log_info("flight=%llu fetched %.*s: %llu bytes", (unsigned long long)flight_id(ft->f),
	    SLICE_ARG(flight_url(ft->f)), (unsigned long long)flight_committed(ft->f));
	flight_finish(ft->f);
	if (flight_expected(ft->f) != NULL || flight_is_gated(ft->f))
		fetch_await_verdict(ft);
	else
		fetch_over(ft);
}

/*
 * The body ended before the length that an index gives. Is that all there is of it, and no accident?
 * Yes, if it was chunked, or ended with its connection where the try before had ended, too.
 */
static bool
fetch_is_shorter(const struct fetch *ft)
{
	const struct httpresp *r = ft->resp;

	return flight_expected(ft->f) != NULL && r->status != 206 && (r->chunked ||
	    (r->length < 0 && flight_committed(ft->f) == ft->rate_from));
}

/* Everything has come: to the flight. */
static void
fetch_finish(struct fetch *ft)
{
	/* An empty body has nothing to compare. */
	if (ft->plan == PLAN_COMPARE && ft->rate_from > 0) {
		fetch_plan_fail(ft, REASON_UP_CHANGED, "the file changed upstream while it was being "
		    "fetched (it is shorter now)");
		fetch_fail_planned(ft, 0);
		return;
	}
	if (ft->plan == PLAN_BODY && fetch_sniff(ft))
		fetch_flush(ft);
	if (ft->plan == PLAN_FAIL) {
		fetch_fail_planned(ft, 0);
		return;
	}
	if (ft->want_total >= 0 && (uint64_t)ft->want_total != flight_committed(ft->f)) {
		if (fetch_is_shorter(ft)) {
			fetch_plan_fail(ft, REASON_UP_DIGEST, "the upstream sent %llu bytes in place of %lld",
			    (unsigned long long)flight_committed(ft->f), (long long)ft->want_total);
			fetch_fail_planned(ft, 0);
			return;
		}
		fetch_again(ft, REASON_UP_CLOSED, 0, "the body ended before its announced length");
		return;
	}
	/* The body was begun without a length, and this part of it tells one. */
	if (ft->want_total < 0 && ft->resp->status == 206 && ft->resp->range_total >= 0 &&
	    (uint64_t)ft->resp->range_total != flight_committed(ft->f)) {
		fetch_again(ft, REASON_UP_CLOSED, 0, "the part ended before the body does");
		return;
	}
	fetch_complete(ft);
}

/* The kept part belongs to another version: forget it and ask for all. */
static void
fetch_restart(struct fetch *ft)
{
	log_info("flight=%llu the kept part of %.*s is of another version: starting over",
	    (unsigned long long)flight_id(ft->f), SLICE_ARG(flight_url(ft->f)));
	flight_drop_partial(ft->f);
	ft->partial_bytes = 0;
	ft->want_total = -1;
	ft->want.etag[0] = '\0';
	ft->want.last_modified_s = INT64_MIN;
	fetch_end_try(ft);
	upstream_queue(ft);
}

/* Is its length known, and has as much come? */
static bool
fetch_has_all(struct fetch *ft)
{
	fetch_flush(ft);
	return ft->plan == PLAN_BODY && ft->want_total >= 0 &&
	    flight_committed(ft->f) == (uint64_t)ft->want_total;
}

/* The head was all that was asked for, or all there is to say. */
static void
fetch_finish_head(struct fetch *ft)
{
	struct flight_head h = fetch_flight_head(ft);
	enum reason r = REASON_OK;

	h.no_body = ft->plan == PLAN_HEAD;
	if (ft->plan == PLAN_CONFIRM) {
		COUNT(revalidated_total);
		flight_confirmed(ft->f, &h);
	} else
		r = flight_begin(ft->f, &h);
	if (r != REASON_OK)
		fetch_fail(ft, r, 0, "%s", reason_text(r));
	else
		fetch_over(ft);
}

/* In the middle of a head: a field that is larger than libcurl's own limit, 100 KiB? */
static bool
fetch_is_too_large(CURLcode result)
{
#if LIBCURL_VERSION_NUM >= 0x080600
	if (result == CURLE_TOO_LARGE)
		return true;
#endif
	return result == CURLE_OUT_OF_MEMORY;
}

/* A transfer broke, or its time was up: in which words? */
static void
fetch_broke(struct fetch *ft, CURLcode result, int64_t waited_ms)
{
	struct upway_failure f = {
		.authority = ft->url.authority, .host = ft->url.host, .tls = ft->url.tls,
		.sent = ft->sent, .result = result, .waited_ms = waited_ms, .error = ft->error,
	};
	char text[UPWAY_TEXT_BYTES];
	enum upway_blame blame;
	enum reason r = upway_explain(&ft->way, ft->curl, &f, &blame, text);

	if (ft->way.choice.skipped && !ft->way.allowed && !ft->any_address) {
		/* Every address is avoided: any is better than none. */
		ft->any_address = ft->same_try = true;
		if (ft->host != NULL)
			ft->host->addrs.none_ms = ft->u->now_ms;
		fetch_end_try(ft);
		upstream_queue(ft);
		return;
	}
	fetch_flush(ft);
	if (ft->plan == PLAN_NONE && ft->resp->status != 0 && fetch_is_too_large(result))
		fetch_plan_too_large(ft);
	if (ft->plan == PLAN_FAIL)
		fetch_fail_planned(ft, 0);
	else if (ft->segments != NULL && segments_take_over(ft, text))
		return;
	else if (!fetch_switch_way(ft, blame, text))
		fetch_again(ft, r, 0, text);
}

void
fetch_done(struct fetch *ft, CURLcode result)
{
	CHECK_OBJ(ft, FETCH_MAGIC);
	switch (ft->plan) {
	case PLAN_BODY:
	case PLAN_COMPARE:
		if (result == CURLE_OK && upway_was_cut(&ft->way) && !fetch_has_all(ft)) {
			(void)snprintf(ft->error, sizeof(ft->error), "TLS ended without close_notify, and "
			    "nothing says that the body did");
			result = CURLE_RECV_ERROR;
		}
		if (result == CURLE_OK)
			fetch_finish(ft);
		else
			fetch_broke(ft, result, 0);
		return;
	case PLAN_CONFIRM:
	case PLAN_HEAD:
		fetch_finish_head(ft);
		return;
	case PLAN_REDIRECT:
		fetch_redirect(ft);
		return;
	case PLAN_RESTART:
		fetch_restart(ft);
		return;
	case PLAN_CUT:
		if (!segments_take_over(ft, NULL))
			fetch_again(ft, REASON_UP_CLOSED, 0, "cut off for its segments");
		return;
	case PLAN_RETRY:
		if (!fetch_switch_way(ft, fetch_blame(ft), ft->fail_detail))
			fetch_again(ft, ft->fail_reason, fetch_status_to_pass(ft), ft->fail_detail);
		return;
	case PLAN_FAIL:
		if (ft->fail_reason == REASON_UP_PROXY &&
		    fetch_switch_way(ft, fetch_blame(ft), ft->fail_detail))
			return;
		if (fetch_try_plain(ft))
			return;
		if (ft->fail_reason == REASON_UP_GARBAGE ||
		    (ft->begun && flight_committed(ft->f) > 0 && fetch_is_refusal(ft->fail_reason)))
			fetch_again(ft, ft->fail_reason, fetch_status_to_pass(ft), ft->fail_detail);
		else
			fetch_fail_planned(ft, fetch_status_to_pass(ft));
		return;
	case PLAN_NONE:
		fetch_broke(ft, result != CURLE_OK ? result : CURLE_GOT_NOTHING, 0);
		return;
	}
	WRONG("fetch plan");
}

/* ---- start, time, loneliness ---- */

/* The kept part is read; on the verifier's thread: notes what the part is, nothing more. */
static void
fetch_partial_done(void *arg, uint64_t bytes, const struct flight_head *h)
{
	struct fetch *ft = arg;

	ft->partial_bytes = bytes;
	if (bytes > 0) {
		ft->want_total = h->total_bytes;
		ft->want.last_modified_s = h->terms.last_modified_s;
		if (h->etag.n < sizeof(ft->want.etag)) {
			memcpy(ft->want.etag, h->etag.p, h->etag.n);
			ft->want.etag[h->etag.n] = '\0';
		}
	}
	mailbox_post(&ft->u->mailbox, &ft->partial);
}

void
fetch_begin(struct fetch *ft)
{
	struct upstream *u = ft->u;
	struct flight_driver driver = {fetch_crowd, fetch_verdict, ft};

	CHECK_OBJ(ft, FETCH_MAGIC);
	TAILQ_INSERT_TAIL(&u->fetches, ft, link);
	ft->progress_ms = u->now_ms;
	AZ(event_assign(&ft->pause, u->base, -1, 0, fetch_pause_cb, ft));
	flight_drive(ft->f, &driver);
	if (flight_readers(ft->f) == 0)
		ft->lonely_ms = u->now_ms;
	fetch_go_home(ft);
	ft->wait_ms = config_for_upstream(u->config, ft->url.host)->revalidate_wait;
	ft->want.last_modified_s = INT64_MIN;
	ft->check = flight_validators(ft->f, &ft->want);
	if (!ft->check && !ft->head_only && flight_find_partial(ft->f, fetch_partial_done, ft)) {
		ft->partial_pending = true;
		fetch_set_state(ft, FETCH_PARTIAL);
		return;
	}
	upstream_queue(ft);
}

void
fetch_break_off(struct fetch *ft, enum reason r, const char *detail)
{
	curlev_remove(ft->u->curlev, ft->curl);
	fetch_flush(ft);
	if (ft->plan == PLAN_FAIL)
		fetch_fail_planned(ft, 0);
	else
		fetch_again(ft, r, 0, detail);
}

/* Has the head said it all? Then the rest is read for the connection's sake alone. */
static bool
fetch_has_its_answer(const struct fetch *ft)
{
	switch (ft->plan) {
	case PLAN_CONFIRM:
	case PLAN_HEAD:
	case PLAN_REDIRECT:
	case PLAN_RETRY:
	case PLAN_RESTART:
	case PLAN_FAIL:
		return true;
	case PLAN_NONE:
	case PLAN_BODY:
	case PLAN_COMPARE:
	case PLAN_CUT:
		return false;
	}
	WRONG("fetch plan");
}

void
fetch_tick(struct fetch *ft)
{
	const struct config_upstream *conf;
	int64_t limit;

	CHECK_OBJ(ft, FETCH_MAGIC);
	if (fetch_check_lonely(ft))
		return;
	flight_tick(ft->f, ft->u->now_ms);
	if (segments_tick(ft))
		return;
	fetch_check_held(ft);
	if (ft->paused)
		ft->quiet_ms = ft->u->now_ms;	/* its readers are silent, not the origin */
	if (ft->curl == NULL || fetch_check_slow(ft))
		return;
	if (!ft->sent)
		upway_tick(&ft->way);
	if (fetch_has_its_answer(ft) && ft->u->now_ms - ft->head_ms >= FETCH_REST_MS) {
		curlev_remove(ft->u->curlev, ft->curl);
		fetch_done(ft, CURLE_OK);
		return;
	}
	if (fetch_check_look(ft))
		return;
	conf = ft->host->conf;
	limit = ft->sent ? conf->read_timeout : conf->connect_timeout + UPSTREAM_TICK_MS;
	if (ft->u->now_ms - ft->quiet_ms < limit)
		return;
	if (ft->sent)
		fetch_avoid_address(ft, "fell silent");
	curlev_remove(ft->u->curlev, ft->curl);
	fetch_broke(ft, CURLE_OPERATION_TIMEDOUT, ft->u->now_ms - ft->quiet_ms);
}

void
fetch_abort(struct fetch *ft, enum reason why)
{
	CHECK_OBJ(ft, FETCH_MAGIC);
	if (ft->state == FETCH_VERIFY && !ft->wrong_answer) {
		/* All is there, and the verifier ends it by itself, if it has not said "wrong" already. */
		flight_drive(ft->f, NULL);
		if (atomic_load(&ft->verdict_posted))
			flight_fail(ft->f, why, 0, false, "%s", reason_text(why));
		fetch_over(ft);
		return;
	}
	if (ft->curl != NULL)
		curlev_remove(ft->u->curlev, ft->curl);
	fetch_flush(ft);
	fetch_fail(ft, why, 0, "%s", reason_text(why));
}
