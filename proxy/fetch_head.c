/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What the head of an origin's answer means for a fetch: pure decisions on
 * ft->resp, called by fetch.c when a final head is complete.
 */
#include <stdarg.h>
#include <stdio.h>

#include "include/clock.h"
#include "proxy/upstream_priv.h"

enum { FETCH_RETRY_AFTER_MAX_S = 3600 };	/* clients are told no more */

void
fetch_plan_fail(struct fetch *ft, enum reason r, const char *fmt, ...)
{
	va_list ap;

	ft->plan = PLAN_FAIL;
	ft->fail_reason = r;
	va_start(ap, fmt);
	(void)vsnprintf(ft->fail_detail, sizeof(ft->fail_detail), fmt, ap);
	va_end(ap);
}

void
fetch_plan_too_large(struct fetch *ft)
{
	fetch_plan_fail(ft, REASON_UP_GARBAGE, "the header fields of %.*s are too large: more than %d "
	    "bytes in one, or more than %d of them", SLICE_ARG(ft->url.authority), HTTPRESP_LINE_MAX,
	    HTTPRESP_LINES_MAX);
}

bool
fetch_is_html(const char *p, size_t n)
{
	static const struct slice starts[] = {{"<!doctype", 9}, {"<html", 5}};
	size_t i = 0, k;

	while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n'))
		i++;
	for (k = 0; k < NELEM(starts); k++)
		if (n - i >= starts[k].n && strncasecmp(p + i, starts[k].p, starts[k].n) == 0)
			return true;
	return false;
}

/* Is the object one of a repository's files, whose answers follow its class and not RFC 9111? */
static bool
fetch_is_repo_file(const struct fetch *ft)
{
	return flight_aptfile(ft->f)->class != APTFILE_OTHER;
}

/*
 * Does the origin say that its answer is for one client alone? What generations are made of, and
 * what they list, is for all; a package that no index names is what its fields say, but was asked
 * for with our own fields, whatever the client's (Vary).
 */
static bool
fetch_is_for_one(const struct fetch *ft, const struct httpresp *r)
{
	enum aptfile_class class = flight_aptfile(ft->f)->class;

	if (class != APTFILE_OTHER && (class != APTFILE_PACKAGE || flight_expected(ft->f) != NULL))
		return false;
	return r->cc.is_private || r->cc.no_store || (class == APTFILE_OTHER && r->vary_any);
}

/* How long the origin says that it stays fresh; -1: it does not say. */
static int64_t
fetch_lifetime(const struct httpresp *r, int64_t now_s)
{
	int64_t date = r->date != HTTP_NO_DATE ? r->date : now_s;

	if (r->cc.s_maxage_s >= 0)
		return r->cc.s_maxage_s;
	if (r->cc.max_age_s >= 0)
		return r->cc.max_age_s;
	if (r->expires != HTTP_NO_DATE)
		return r->expires > date ? r->expires - date : 0;
	return -1;
}

struct flight_head
fetch_flight_head(const struct fetch *ft)
{
	const struct httpresp *r = ft->resp;
	int64_t now_s = clock_wall_s();
	const struct flight_expect *e = flight_expected(ft->f);
	struct flight_head h = {
		.total_bytes = r->status != 206 ? (r->chunked ? -1 : r->length) :
		    r->range_total >= 0 ? r->range_total : ft->want_total,
		.checked_at_ms = ft->asked_wall_ms,
		.terms = {
			.checked_at_s = now_s,
			.date_s = r->date != HTTP_NO_DATE ? r->date : now_s,
			.age_s = r->age_s > 0 ? r->age_s : 0,
			.lifetime_s = fetch_lifetime(r, now_s),
			.last_modified_s = r->last_modified,
			.stale_if_error_s = r->cc.stale_if_error_s,
			.no_cache = r->cc.no_cache,
			.must_revalidate = r->cc.must_revalidate,
		},
		.etag = slice_of(r->etag),
		.fields = {r->kept, r->kept_n},
		.from = ft->from,
		.shareable = true, .keep = true,
	};

	/* A Last-Modified that apt could not be told word for word counts as none. */
	if (r->last_modified_text[0] == '\0')
		h.terms.last_modified_s = INT64_MIN;
	if (flight_is_private(ft->f) || fetch_is_for_one(ft, r))
		h.shareable = h.keep = false;
	/* A body that ends with the connection may have been cut: only a digest could tell. */
	if (ft->head_only || ft->no_store || (h.total_bytes < 0 && !r->chunked &&
	    e == NULL))
		h.keep = false;
	/* So that a body that ends too early is known to be cut, and can be continued. */
	if (h.total_bytes < 0 && e != NULL && !ft->head_only)
		h.total_bytes = e->size_bytes;
	return h;
}

/*
 * Some origins label a file that is called .gz with the coding by which it was made, and send it as
 * it is: apt does not look at that, and the client gets it without the label.
 */
bool
fetch_is_encoded(const struct fetch *ft, const struct httpresp *r)
{
	static const struct {
		const char *coding, *ends;
	} own[] = {
		{"gzip", ".gz"}, {"x-gzip", ".gz"}, {"gzip", ".tgz"}, {"x-gzip", ".tgz"},
		{"bzip2", ".bz2"}, {"x-bzip2", ".bz2"}, {"xz", ".xz"}, {"x-xz", ".xz"}, {"zstd", ".zst"},
	};
	struct slice path = flight_url(ft->f);

	if (r->transfer_encoded || !r->content_encoded)
		return r->transfer_encoded;
	for (size_t i = 0; i < NELEM(own); i++)
		if (slice_caseeq(slice_of(r->content_coding), slice_of(own[i].coding)) &&
		    slice_ends(path, slice_of(own[i].ends)))
			return false;
	return true;
}

bool
fetch_is_same_version(const struct fetch *ft, const struct httpresp *r)
{
	struct slice etag = slice_of(ft->want.etag);

	if (ft->want_total >= 0 && r->range_total >= 0 && ft->want_total != r->range_total)
		return false;
	if (etag.n != 0 && http_etag_is_strong(etag))
		return slice_eq(etag, slice_of(r->etag)) ||
		    (r->etag[0] == '\0' && r->last_modified == ft->want.last_modified_s &&
		    ft->want.last_modified_s != INT64_MIN);
	return ft->want.last_modified_s != INT64_MIN && r->last_modified == ft->want.last_modified_s;
}

/*
 * Do the validators of an answer that starts over say that it is another version? Its first bytes
 * may be equal all the same. Edges of one network may not agree on ETags: equal dates are enough.
 */
static bool
fetch_is_other_version(const struct fetch *ft, const struct httpresp *r)
{
	struct slice was = slice_of(ft->want.etag), now = slice_of(r->etag);
	bool both = http_etag_is_strong(was) && http_etag_is_strong(now);

	if (both && slice_eq(was, now))
		return false;
	if (ft->want.last_modified_s != INT64_MIN && r->last_modified != HTTP_NO_DATE)
		return r->last_modified != ft->want.last_modified_s;
	return both;
}

/* An answer that announces another length can't have the expected bytes: not one of them shows. */
static bool
fetch_refuse_length(struct fetch *ft, int64_t total)
{
	const struct flight_expect *e = flight_expected(ft->f);

	if (e == NULL || e->size_bytes < 0 || total < 0 || total == e->size_bytes || ft->head_only)
		return false;
	fetch_plan_fail(ft, REASON_UP_DIGEST, "the upstream announces %lld bytes in place of %lld",
	    (long long)total, (long long)e->size_bytes);
	return true;
}

/* The rest of a body that we have a part of. */
static void
fetch_judge_partial(struct fetch *ft)
{
	const struct httpresp *r = ft->resp;

	if (ft->resume_at == 0 || r->range_bad) {
		fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream sent part of the file (206) %s",
		    ft->resume_at == 0 ? "although all of it was asked for" :
		    "without a readable Content-Range");
		return;
	}
	/* Neither what was asked for nor a sign of another version: a broken answer, asked for again. */
	if (ft->begun && (r->range_first != (int64_t)ft->resume_at || fetch_is_encoded(ft, r) ||
	    (r->etag[0] == '\0' && r->last_modified == HTTP_NO_DATE))) {
		fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream sent part of the file (206) %s",
		    r->range_first != (int64_t)ft->resume_at ? "from another byte than asked for" :
		    fetch_is_encoded(ft, r) ? "in a coding that was not asked for" :
		    "without the validators that it was asked with");
		return;
	}
	if (r->range_first != (int64_t)ft->resume_at || !fetch_is_same_version(ft, r) ||
	    fetch_is_encoded(ft, r) ||
	    (r->range_total < 0 && ft->want_total < 0) ||
	    (r->length >= 0 && r->range_last >= r->range_first &&
	    r->length != r->range_last - r->range_first + 1)) {
		if (ft->begun)
			fetch_plan_fail(ft, REASON_UP_CHANGED, "the file changed upstream while it was "
			    "being fetched (other validators than before)");
		else
			ft->plan = PLAN_RESTART;
		return;
	}
	if (!fetch_refuse_length(ft, r->range_total))
		ft->plan = PLAN_BODY;
}

/* A part that is all of it: some servers say so without being asked, and apt takes it. */
static bool
fetch_is_whole_part(const struct httpresp *r)
{
	return !r->range_bad && r->range_first == 0 && r->range_total == r->range_last + 1 &&
	    (r->length < 0 || r->length == r->range_total);
}

/* The whole object. */
static void
fetch_judge_whole(struct fetch *ft)
{
	const struct httpresp *r = ft->resp;

	if (r->length_conflict) {
		fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream named two different lengths");
		return;
	}
	if (fetch_is_encoded(ft, r)) {
		fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream encoded the body (Content-Encoding or "
		    "Transfer-Encoding) in a way that was not asked for");
		return;
	}
	if (fetch_is_repo_file(ft) && r->is_html) {
		fetch_plan_fail(ft, REASON_UP_HTML, "the upstream sent an HTML page (%s) in place of a "
		    "repository file: a login page or a filter on the way?", r->content_type);
		return;
	}
	if (fetch_refuse_length(ft, r->chunked ? -1 : r->length))
		return;
	if (ft->head_only)
		ft->plan = PLAN_HEAD;
	else if (ft->begun) {
		/* Asked to go on, or not able to ask: it starts over. */
		if (ft->want_total >= 0 && r->length >= 0 && r->length != ft->want_total) {
			fetch_plan_fail(ft, REASON_UP_CHANGED, "the file changed upstream while it was being "
			    "fetched (another length)");
			return;
		}
		/* Where a digest is expected, it will tell; else the validators must. */
		if (flight_expected(ft->f) == NULL && (fetch_is_other_version(ft, r) ||
		    (flight_had_ahead(ft->f) && !fetch_is_same_version(ft, r)))) {
			fetch_plan_fail(ft, REASON_UP_CHANGED, "the file changed upstream while it was being "
			    "fetched (other validators than before)");
			return;
		}
		ft->plan = PLAN_COMPARE;
		ft->compare_at = 0;
		/* It ignores Range: nothing could replace this connection. */
		if (ft->resume_at > 0 && fetch_is_same_version(ft, r))
			uphost_limit_segments(ft->host, 1, ft->u->now_ms + UPHOST_NO_RANGES_MS);
	} else if (ft->resume_at > 0)
		ft->plan = PLAN_RESTART;	/* only a kept part, nothing shown yet */
	else
		ft->plan = PLAN_BODY;
}

/* 4xx: the origin's word, passed on; never asked twice. */
static void
fetch_judge_refusal(struct fetch *ft)
{
	int s = ft->resp->status;
	enum reason r = s == 404 ? REASON_UP_NOT_FOUND : s == 410 ? REASON_UP_GONE : REASON_UP_REFUSED;

	if (s == 407 && ft->way.parent != NULL && !ft->url.tls) {
		char way[320];

		upway_text(&ft->way, way, sizeof(way));
		fetch_plan_fail(ft, REASON_UP_PROXY, "%.*s%s: the parent proxy wants other credentials "
		    "(407): check user and password in parent_proxy", SLICE_ARG(ft->url.authority), way);
	} else if (s == 407)
		fetch_plan_fail(ft, REASON_UP_PROXY, "%.*s answered 407 as if it were a proxy: a proxy "
		    "that intercepts connections? Name it in parent_proxy, with user and password",
		    SLICE_ARG(ft->url.authority));
	else if (s == 401 && ft->auth_match == AUTHFILE_FOUND)
		fetch_plan_fail(ft, r, "%.*s refused the credentials that auth has for it (401): check "
		    "login and password in that file", SLICE_ARG(ft->url.authority));
	else if (s == 401 && ft->auth_match == AUTHFILE_CLEAR)
		fetch_plan_fail(ft, r, "%.*s wants credentials (401), and those in auth are for TLS: ask "
		    "for it with HTTPS///, add it to https_upgrade, or write machine http://%.*s to "
		    "send them in clear text", SLICE_ARG(ft->url.authority), SLICE_ARG(ft->url.host));
	else
		fetch_plan_fail(ft, r, "%.*s answered %d %s", SLICE_ARG(ft->url.authority), s,
		    s == 404 ? "Not Found" : s == 410 ? "Gone" : s == 401 ? "Unauthorized" :
		    s == 403 ? "Forbidden" : "to this request");
}

/* An answer that has none of the object: worth another try, or not. */
static void
fetch_judge_error(struct fetch *ft)
{
	const struct httpresp *r = ft->resp;
	int n;

	if (r->status == 429 || ft->retry_after_s > 0) {
		ft->plan = PLAN_RETRY;
		ft->fail_reason = REASON_UP_BUSY;
		if (ft->retry_after_s > FETCH_RETRY_AFTER_MAX_S)
			ft->retry_after_s = FETCH_RETRY_AFTER_MAX_S;
		n = snprintf(ft->fail_detail, sizeof(ft->fail_detail), "%.*s answered %d: it asks for "
		    "patience", SLICE_ARG(ft->url.authority), r->status);
		if (ft->retry_after_s > 0)
			(void)snprintf(ft->fail_detail + n, sizeof(ft->fail_detail) - (size_t)n,
			    ", for %lld s", (long long)ft->retry_after_s);
	} else if (r->status >= 500) {
		ft->plan = PLAN_RETRY;
		ft->fail_reason = REASON_UP_STATUS;
		(void)snprintf(ft->fail_detail, sizeof(ft->fail_detail), "%.*s answered %d",
		    SLICE_ARG(ft->url.authority), r->status);
	} else if (r->status >= 400)
		fetch_judge_refusal(ft);
	else
		fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream answered %d, which is no answer to "
		    "this request", r->status);
}

void
fetch_judge_head(struct fetch *ft)
{
	const struct httpresp *r = ft->resp;

	if (r->too_large) {
		fetch_plan_too_large(ft);
		return;
	}
	if (r->bad) {
		fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream's header is malformed");
		return;
	}
	ft->retry_after_s = r->status == 429 || r->status == 503 ?
	    httpresp_retry_after(r, clock_wall_s()) : 0;
	switch (r->status) {
	case 200:
	case 203:
		fetch_judge_whole(ft);
		return;
	case 206:
		if (ft->resume_at == 0 && fetch_is_whole_part(r))
			fetch_judge_whole(ft);
		else
			fetch_judge_partial(ft);
		return;
	case 304:
		if (ft->check)
			ft->plan = PLAN_CONFIRM;
		else
			fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream answered 304 to a request "
			    "without conditions");
		return;
	case 301:
	case 302:
	case 303:
	case 307:
	case 308:
		if (r->location[0] != '\0')
			ft->plan = PLAN_REDIRECT;
		else
			fetch_plan_fail(ft, REASON_UP_GARBAGE, "the upstream redirected (%d) without "
			    "saying where to", r->status);
		return;
	case 416:
		if (ft->resume_at > 0 && flight_committed(ft->f) == 0) {
			ft->plan = PLAN_RESTART;
			return;
		}
		if (ft->resume_at > 0) {
			fetch_plan_fail(ft, REASON_UP_CHANGED, "the file changed upstream while it was "
			    "being fetched (it is shorter now)");
			return;
		}
		break;
	default:
		break;
	}
	fetch_judge_error(ft);
}

int
fetch_status_to_pass(const struct fetch *ft)
{
	int s = ft->resp->status;

	if (ft->plan == PLAN_RETRY)
		return s == 429 || s == 500 || s == 503 || s == 504 ? s : 502;
	if (s >= 400 && s < 500 && s != 407 && ft->fail_reason != REASON_UP_CHANGED &&
	    ft->fail_reason != REASON_UP_GARBAGE)
		return s;
	return 0;
}
