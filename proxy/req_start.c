/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A request's first step, START: where it goes, whether it may, and what the
 * cache says to it. Called by req_step.c for the request whose turn it is and,
 * early, for those behind it, so that their upstream work begins; a request
 * that must wait for another one's answer is looked at again whenever its
 * connection runs. The later steps come back to req_ask when what they were
 * given is gone.
 */
#include <string.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/forward.h"
#include "proxy/limits.h"
#include "proxy/page.h"
#include "proxy/req_priv.h"
#include "proxy/upstream.h"

enum {
	REQ_INDEX_WAIT_MS = 1000,	/* for an index that may name the package to be read */
	REQ_ASKS_MAX = 6,		/* how often the cache is asked again */
};

/* One of our own pages: made at once. */
static enum step
req_serve_page(struct req *req)
{
	page_make(req, &req->page);
	if (req->page.body == NULL)
		return req_fail(req, REASON_NO_MEMORY, NULL);
	req->text_body = req->page.body;
	if (req->page.reason != REASON_OK)
		return req_fail(req, req->page.reason, NULL);
	req->source = SOURCE_TEXT;
	req->cache_status = "detail=page";
	return req_go(req, REQ_HEAD);
}

/* Has upstream fetch the flight. alone: with the client's own fields, credentials included. */
static void
req_launch(struct req *req, bool alone)
{
	struct upstream_ask ask = {
		.head = req->http.method == HTTP_HEAD && flight_is_private(req->reader.f),
		.no_cache = req->http.cc_no_cache || req->anew,
		/* What generations are made of is kept whoever asks for it. */
		.no_store = req->http.cc_no_store && (req->af.class == APTFILE_PACKAGE ||
		    req->af.class == APTFILE_OTHER),
		.via = req->http.via,
	};

	if (req->af.class == APTFILE_OTHER || alone)
		ask.fields = forward_client_fields(req);
	upstream_fetch(req_depot(req)->upstream, req->reader.f, &ask);
}

/* Credentials make the answer this client's own. */
static bool
req_is_alone(const struct req *req)
{
	return req->http.authorization.p != NULL || req->route.userinfo.n != 0;
}

const char *
req_forward_words(const struct req *req, bool confirmed)
{
#define W(why) {{"fwd=" why, "fwd=" why "; collapsed"},                        \
	{"fwd=" why "; fwd-status=304", "fwd=" why "; fwd-status=304; collapsed"}}
	static const char *const words[][2][2] = {
		[FORWARD_BYPASS] = W("bypass"), [FORWARD_MISS] = W("uri-miss"),
		[FORWARD_STALE] = W("stale"), [FORWARD_REQUEST] = W("request"),
	};
#undef W

	return words[req->forward][confirmed][!req->reader.owner];
}

bool
req_may_serve_stale(const struct req *req)
{
	/* What a repository says of its files holds for clients that mistrust their proxy, too. */
	return req->object != NULL && !req->object_strict &&
	    (!req->http.cc_no_cache || req->af.class != APTFILE_OTHER) &&
	    cache_stale_ok(req->c->w->view, req->object, &req->af, req->c->w->now_s);
}

enum step
req_serve_stale(struct req *req, const char *why)
{
	/* Perhaps it is known by now why the newest publication can't be had. */
	if (req->gen != NULL && strstr(why, "generation") == NULL &&
	    cache_gen_is_held(req->c->w->view, req->gen)) {
		COUNT(generation_held_total);
		why = "hit; detail=generation-held";
	}
	flight_detach(&req->reader);
	req->cache_status = why;
	COUNT(stale_served_total);
	return req_go(req, REQ_OPEN);
}

struct cache_client *
req_client(struct req *req)
{
	struct cache_client *client = &req->c->client;
	struct sockaddr_in in;

	if (client->has_address)
		return client;
	if (req->c->peer.sin6_family == AF_INET6)
		memcpy(client->address, &req->c->peer.sin6_addr, 16);
	else if (req->c->peer.sin6_family == AF_INET) {
		memcpy(&in, &req->c->peer, sizeof(in));
		memset(client->address, 0, 10);
		memset(client->address + 10, 0xff, 2);
		memcpy(client->address + 12, &in.sin_addr, 4);
	} else
		return client;	/* a unix socket: by connection alone */
	client->has_address = true;
	return client;
}

struct cache_ask
req_question(struct req *req)
{
	struct worker *w = req->c->w;
	const struct config_upstream *conf =
	    config_for_upstream(w->depot->config, req->route.url.host);

	return (struct cache_ask){
		.url = &req->route.url, .key = &req->key, .af = &req->af,
		.client = req_client(req), .at = req->route.at,
		.fresh = {
			.no_cache = req->http.cc_no_cache,
			.only_if_cached = req->http.cc_only_if_cached,
			.max_age_s = req->http.cc_max_age_s,
		},
		.index_max_age_s = conf->index_max_age / 1000,
		.now_ms = w->now_ms, .now_s = w->now_s,
		.head_only = req->http.method == HTTP_HEAD,
		.alone = req_is_alone(req),
	};
}

/* There is no generation of the name or time asked for: says which there are. */
static enum step
req_fail_then(struct req *req)
{
	char times[2048];

	cache_list_times(req->c->w->view, &req->route.url, times, sizeof(times));
	return req_fail(req, REASON_NO_SUCH_TIME, times[0] == '\0' ?
	    "no generation of this repository is kept: let a client update from it first" :
	    req_text(req, "it is not in a generation named @%.*s; there are: %s",
	    SLICE_ARG(req->route.at), times));
}

void
req_take_object(struct req *req, struct cache_answer *a)
{
	req->object = a->object;
	req->object_strict = a->strict;
	cache_gen_unref(&req->gen);
	req->gen = a->gen;
}

bool
req_is_incomplete(const struct req *req, enum reason r)
{
	return req->listed && !aptfile_may_be_package(&req->af) &&
	    req->af.class != APTFILE_RELEASE && (r == REASON_UP_NOT_FOUND ||
	    r == REASON_UP_GONE || r == REASON_UP_DIGEST || r == REASON_UP_CHANGED);
}

enum step
req_fail_incomplete(struct req *req)
{
	cache_suspect(req->c->w->view, &req->route.url);
	req->error_status = 0;
	return req_fail(req, REASON_REPO_INCOMPLETE, NULL);
}

/* Tells ahead.c of this package, after its own request: what follows may be fetched ahead. */
static void
req_note_asked(struct req *req, const struct cache_ask *ask, bool started)
{
	struct worker *w = req->c->w;

	if (w->depot->config->prefetch == PREFETCH_CLOSURE && req->listed &&
	    req->af.class == APTFILE_PACKAGE && !ask->head_only)
		cache_note_asked(w->view, ask, started);
}

/* May it still be put off until it is known which bytes it must have? */
static bool
req_may_be_early(const struct req *req)
{
	return req->step == REQ_START && (req->early_ms == 0 ||
	    req->c->w->now_ms - req->early_ms < REQ_INDEX_WAIT_MS);
}

/* An index that may name this package is being read: the cache is asked again in a moment. */
static enum step
req_wait_for_index(struct req *req)
{
	struct conn *c = req->c;

	if (req->early_ms == 0) {
		req->early_ms = c->w->now_ms;
		COUNT(packages_early_total);
	}
	req->asked_n = 0;
	req->started = false;
	if (TAILQ_FIRST(&c->reqs) == req)
		conn_set_state(c, CONN_INDEX);
	worker_pace(c->w, c);
	return WAIT;
}

enum step
req_ask(struct req *req, bool object_bad)
{
	struct worker *w = req->c->w;
	struct cache_ask ask = req_question(req);
	bool alone = ask.alone;
	struct cache_answer a;

	ask.object_bad = object_bad;
	ask.may_wait = req_may_be_early(req);
	flight_detach(&req->reader);
	object_unref(&req->object);
	req->whole = req->stored = false;
	if (req->asked_n++ >= REQ_ASKS_MAX)
		return req_fail(req, REASON_DAMAGED, NULL);
	cache_ask(w->view, &ask, &a);
	if (a.unread)
		return req_wait_for_index(req);
	if (a.reason == REASON_NO_SUCH_TIME)
		return req_fail_then(req);
	req->listed = a.listed;
	if (a.reason != REASON_OK) {
		req->error_status = a.status;
		return req_is_incomplete(req, a.reason) ? req_fail_incomplete(req) :
		    req_fail(req, a.reason, NULL);
	}
	req_take_object(req, &a);
	if (a.flight == NULL) {
		COUNT(hits_total);
		req->cache_status = a.held ? "hit; detail=generation-held" : "hit";
		req_note_asked(req, &ask, false);
		return req_go(req, REQ_OPEN);
	}
	req->flight_id = flight_id(a.flight);
	req->reader.ahead = TAILQ_FIRST(&req->c->reqs) != req;
	flight_attach(a.flight, &req->reader, a.created);
	req->forward = alone || (flight_is_private(a.flight) && !ask.head_only) ? FORWARD_BYPASS :
	    a.object == NULL ? FORWARD_MISS :
	    req->http.cc_no_cache || a.insisted ? FORWARD_REQUEST : FORWARD_STALE;
	req->cache_status = a.whole ? "hit" : req_forward_words(req, false);
	req->whole = a.whole;
	flight_unref(&a.flight);
	if (a.created && !a.launched)
		req_launch(req, alone || (flight_is_private(req->reader.f) &&
		    req->af.class == APTFILE_OTHER));
	req_note_asked(req, &ask, a.created);
	/*
	 * apt asks its sources one after the other: a host that hangs is not waited for again and
	 * again.
	 */
	if (req_may_serve_stale(req) &&
	    cache_host_is_slow(req_depot(req)->cache, req->route.url.authority, w->now_ms))
		return req_serve_stale(req, "hit; detail=stale-host-slow");
	return req_go(req, REQ_FOLLOW);
}

/*
 * Does what this connection asked for before have to be answered first? Which generation the client
 * sees is not known until it has its Release, nor what a package must be until it has an index.
 */
static bool
req_waits_for_another(const struct req *req)
{
	const struct req *before = req;

	if (req->af.class == APTFILE_RELEASE)
		return false;
	while ((before = TAILQ_PREV(before, req_list, link)) != NULL) {
		if (!before->routed)
			continue;
		if (before->af.class == APTFILE_RELEASE && before->status == 0)
			return true;
		if (aptfile_may_be_package(&req->af) && (before->af.class == APTFILE_INDEX ||
		    before->af.class == APTFILE_BYHASH))
			return true;
	}
	return false;
}

/* Asks the cache, unless that has to be put off; looked at again whenever the connection runs. */
static enum step
req_ask_in_turn(struct req *req)
{
	if (!req_waits_for_another(req))
		return req_ask(req, false);
	req->started = false;
	return WAIT;
}

/* Target, key and class of a request for an object; the cache is not asked yet. */
static enum step
req_find_target(struct req *req)
{
	struct depot *d = req_depot(req);
	enum reason r = depot_check_target(d->config, req->route.url.host, req->route.url.port,
	    &d->config->allow_ports);
	size_t path_n = req->route.url.path.n;
	const char *q = path_n > 0 ? memchr(req->route.url.path.p, '?', path_n) : NULL;

	if (r != REASON_OK)
		return req_fail(req, r, NULL);
	key_of_url(&req->route.url, &req->key);
	if (q != NULL)
		path_n = (size_t)(q - req->route.url.path.p);
	aptfile_classify(&req->af, (struct slice){req->route.url.path.p, path_n});
	req->routed = true;
	return req_ask_in_turn(req);
}

/* A CONNECT: is it allowed, and does it become a tunnel, or is its host intercepted? */
static enum step
req_start_connect(struct req *req)
{
	const struct config *cfg = req_depot(req)->config;
	bool intercepted = globset_has(&cfg->intercept_hosts, req->route.host, req->route.port);
	enum reason r;

	if (!intercepted && cfg->offline)
		return req_fail(req, REASON_OFFLINE, NULL);
	if (!intercepted && cfg->connect == CONNECT_REFUSE)
		return req_fail(req, REASON_DENIED_CONNECT, NULL);
	r = depot_check_target(cfg, req->route.host, req->route.port, &cfg->connect_ports);
	if (r == REASON_DENIED_PORT)
		r = REASON_DENIED_CONNECT;
	if (r != REASON_OK)
		return req_fail(req, r, NULL);
	return req_go(req, intercepted ? REQ_INTERCEPT : REQ_CONNECT);
}

/* Where does it want to go, and is it through this connection that one may ask for that? */
static enum reason
req_route(struct req *req)
{
	const struct route_conf *conf = &req_depot(req)->route;
	struct route_inside in;

	if (conn_inside(req->c, &in))
		return route_parse_inside(&req->route, &req->text, &req->http, conf, &in);
	return route_parse(&req->route, &req->text, &req->http, conf);
}

/* Has it been here before? A list of proxies that is too long to be passed on hides the answer. */
static bool
req_is_looping(const struct req *req)
{
	const struct depot *d = req_depot(req);
	unsigned i;

	if (req->http.via.n >= UPSTREAM_VIA_BYTES)
		return true;
	for (i = 0; req->http.via.p != NULL && i < req->http.fields_n; i++) {
		const struct httpfield *f = &req->http.fields[i];

		if (slice_caseeq(f->name, SLICE("Via")) &&
		    memmem(f->value.p, f->value.n, d->id, strlen(d->id)) != NULL)
			return true;
	}
	return false;
}

enum step
req_step_start(struct req *req)
{
	struct depot *d = req_depot(req);
	enum reason r = req->reason;

	req->started = true;
	if (req->routed)
		return req_ask_in_turn(req);
	if (r == REASON_OK && req->c->share != NULL) {
		req->retry_after_s = limits_take_request(d->limits, req->c->share, req->c->w->now_ms);
		if (req->retry_after_s > 0)
			r = REASON_CLIENT_RATE;
	}
	if (r == REASON_OK)
		r = req_route(req);
	if (r == REASON_OK && req->http.method == HTTP_OTHER)
		r = REASON_METHOD;
	if (r == REASON_OK && req_is_looping(req))
		r = REASON_LOOP;
	if (r != REASON_OK)
		return req_fail(req, r, NULL);
	switch (req->route.kind) {
	case ROUTE_USAGE:
	case ROUTE_PAGE:
	case ROUTE_REPORT:
		return req_serve_page(req);
	case ROUTE_TUNNEL:
		return req_start_connect(req);
	case ROUTE_OBJECT:
		break;
	}
	return req_find_target(req);
}

void
req_start_early(struct req *req)
{
	/* Our own pages and tunnels write to the socket: not before their turn. */
	if (req->http.method == HTTP_CONNECT || req->http.target.n == 0 ||
	    (req->http.target.p[0] == '/' && (req->http.target.n == 1 ||
	    slice_starts(req->http.target, SLICE("/-")) ||
	    slice_starts(req->http.target, SLICE("/acng")))))
		return;
	MUST(req->step == REQ_START);
	(void)req_step_start(req);
}
