/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Response heads: for stored objects and flights (status by RFC 9110, fields
 * by the origin), for our own pages, and for errors, whose bodies say what
 * happened, to which upstream, and what to do. No I/O.
 */
#include "proxy/answer.h"

#include <stdio.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/trouble.h"
#include "proxy/worker.h"

/* The error's status as the client sees it. */
static int
answer_error_status(const struct req *req)
{
	if (req->error_status >= 400 && req->error_status <= 599)
		return req->error_status;
	return reason_status(req->reason) != 0 ? reason_status(req->reason) : 502;
}

struct slice
answer_url(const struct req *req)
{
	struct slice target = req->http.target;

	if (req->route.url.text.n != 0)
		return req->route.url.text;
	/* Behind an @, which browsers escape in a form, there may have been a password. */
	if (target.n != 0 && (memchr(target.p, '@', target.n) != NULL ||
	    memmem(target.p, target.n, "%40", 3) != NULL))
		return SLICE("(hidden)");
	return target;
}

/* The body of an error, for a tired operator at night; a page has put what to do there already. */
static bool
answer_error_body(struct req *req, int status)
{
	struct slice url = answer_url(req);
	const char *detail = req->detail != NULL ? req->detail : reason_text(req->reason);
	const char *advice = reason_advice(req->reason);
	char *own = req->text_body;
	int n;

	if (own != NULL && own[0] != '\0')
		advice = own;
	n = asprintf(&req->text_body, "%d %s\n\napt-depot: %s.\n%s%.*s%s%s%sreason %s, request %llu\n",
	    status, http_phrase(status), detail, url.n != 0 ? "URL: " : "", SLICE_ARG(url),
	    url.n != 0 ? "\n" : "", advice != NULL ? advice : "", advice != NULL && advice != own ?
	    "\n" : "", reason_name(req->reason), (unsigned long long)req->id);
	free(own);
	if (n < 0) {
		req->text_body = NULL;
		return false;
	}
	req->end = (uint64_t)n;
	return true;
}

void
answer_note_trouble(const struct req *req, int status)
{
	trouble_note(req->c->w->now_s, req->id, status, req->reason, answer_url(req),
	    req->detail != NULL ? req->detail : reason_text(req->reason));
}

bool
answer_make_error(struct req *req, struct headbuf *h)
{
	int status = answer_error_status(req);

	req->source = SOURCE_TEXT;
	req->at = 0;
	if (!answer_error_body(req, status))
		return false;
	req->status = status;
	if (status >= 500)
		COUNT(errors_sent_total);
	if (status == 403)
		COUNT(refused_total);
	if (status >= 500 || status == 403)
		answer_note_trouble(req, status);
	headbuf_status(h, status, SLICE_NONE);
	headbuf_field_date(h, SLICE("Date"), req->c->w->now_s);
	headbuf_text(h, SLICE("Content-Type: text/plain; charset=utf-8\r\n"));
	headbuf_field_u64(h, SLICE("Content-Length"), req->end);
	if (req->reason == REASON_RANGE && req->end_known >= 0)
		headbuf_printf(h, "Content-Range: bytes */%lld\r\n", (long long)req->end_known);
	if (req->challenge != NULL && req->challenge[0] != '\0')
		headbuf_field(h, SLICE("WWW-Authenticate"), slice_of(req->challenge));
	if (req->retry_after_s > 0)
		headbuf_field_u64(h, SLICE("Retry-After"), req->retry_after_s);
	if (req->reason == REASON_METHOD)
		headbuf_text(h, SLICE("Allow: GET, HEAD, CONNECT\r\n"));
	headbuf_printf(h, "Cache-Control: no-store\r\nVia: 1.1 apt-depot\r\n"
	    "Cache-Status: apt-depot%s%s; detail=%s\r\n", req->cache_status != NULL ? "; " : "",
	    req->cache_status != NULL ? req->cache_status : "", reason_name(req->reason));
	if (req->http.method == HTTP_HEAD)
		req->end = 0;
	req->end_known = (int64_t)req->end;
	log_msg(status >= 500 ? LOG_WARNING : LOG_INFO,
	    "req=%llu flight=%llu %d %s: %.*s: %s", (unsigned long long)req->id,
	    (unsigned long long)req->flight_id, status, reason_name(req->reason),
	    SLICE_ARG(answer_url(req)), req->detail != NULL ? req->detail :
	    reason_text(req->reason));
	return true;
}

bool
answer_make_page(struct req *req, struct headbuf *h)
{
	const struct page *page = &req->page;

	req->status = page->status;
	req->at = 0;
	req->end = req->http.method == HTTP_HEAD ? 0 : page->body_n;
	req->end_known = (int64_t)req->end;
	headbuf_status(h, page->status, slice_of(page->phrase));
	headbuf_field_date(h, SLICE("Date"), req->c->w->now_s);
	headbuf_field(h, SLICE("Content-Type"), slice_of(page->type));
	headbuf_field_u64(h, SLICE("Content-Length"), page->body_n);
	headbuf_text(h, SLICE("Cache-Control: no-store\r\nVia: 1.1 apt-depot\r\n"
	    "Cache-Status: apt-depot; detail=page\r\n"));
	if (page->location != NULL)
		headbuf_field(h, SLICE("Location"), slice_of(page->location));
	if (page->status >= 400 && page->phrase == NULL)
		log_msg(LOG_INFO, "req=%llu %d page: %.*s", (unsigned long long)req->id, page->status,
		    SLICE_ARG(answer_url(req)));
	return true;
}

/* Age, Via, Cache-Status, X-Original-Source: what every object's answer says. */
static void
answer_head_tail(const struct req *req, struct headbuf *h, const struct fresh_terms *t)
{
	int64_t now_s = req->c->w->now_s, age = fresh_age(t, now_s);

	headbuf_field_date(h, SLICE("Date"), t->date_s > 0 && t->date_s <= now_s ? t->date_s :
	    now_s);
	if (req->source == SOURCE_OBJECT || req->whole || age > 0)
		headbuf_field_u64(h, SLICE("Age"), age > 0 ? (uint64_t)age : 0);
	headbuf_text(h, SLICE("Accept-Ranges: bytes\r\nVia: 1.1 apt-depot\r\n"));
	headbuf_text(h, SLICE("Cache-Status: apt-depot; "));
	headbuf_text(h, slice_of(req->cache_status));
	headbuf_text(h, req->stored ? SLICE("; stored\r\n") : SLICE("\r\n"));
	headbuf_field(h, SLICE("X-Original-Source"), req->route.url.text);
}

bool
answer_make_object(struct req *req, struct headbuf *h, const struct httpcond_verdict *v,
    int64_t total)
{
	const struct flight_head *fh = req->source == SOURCE_FLIGHT ?
	    flight_reader_head(&req->reader) : NULL;
	struct slice fields = fh != NULL ? fh->fields : object_fields(req->object);

	req->status = v->status;
	req->at = v->status == 206 ? v->first : 0;
	req->end = v->status == 206 ? v->end : total >= 0 ? (uint64_t)total : UINT64_MAX;
	if (v->status == 304)
		req->at = req->end = 0;
	req->end_known = req->end == UINT64_MAX ? -1 : (int64_t)req->end;
	headbuf_status(h, v->status, SLICE_NONE);
	headbuf_text(h, fields);
	if (v->status == 206)
		headbuf_printf(h, "Content-Range: bytes %llu-%llu/%lld\r\n",
		    (unsigned long long)v->first, (unsigned long long)v->end - 1, (long long)total);
	if (v->status == 304)
		;	/* no length: RFC 9110 8.6 */
	else if (req->end_known >= 0)
		headbuf_field_u64(h, SLICE("Content-Length"), req->end - req->at);
	else if (req->http.method == HTTP_HEAD)
		;
	else if (req->http.minor >= 1) {
		req->chunked = true;
		headbuf_text(h, SLICE("Transfer-Encoding: chunked\r\n"));
	} else
		req->c->close_when_done = true;
	if (fh != NULL)
		req->stored = fh->keep && !req->whole;
	answer_head_tail(req, h, fh != NULL ? &fh->terms : object_terms(req->object));
	if (req->http.method == HTTP_HEAD) {
		req->at = req->end = 0;
		req->end_known = 0;
		req->chunked = false;
	}
	return true;
}

void
answer_judge(struct req *req, int64_t total, struct httpcond_verdict *v)
{
	const struct flight_head *fh = req->source == SOURCE_FLIGHT ?
	    flight_reader_head(&req->reader) : NULL;
	struct httpcond_object o = {
		.etag = fh != NULL ? fh->etag : object_etag(req->object),
		.last_modified = fh != NULL ? fh->terms.last_modified_s :
		    object_terms(req->object)->last_modified_s,
		.size_bytes = total,
		.validators_shared = fh != NULL ? flight_validators_shared(req->reader.f) :
		    object_validators_shared(req->object),
		.exact_dates = req->af.class != APTFILE_OTHER,
	};

	httpcond_evaluate(&req->http, &o, v);
}
