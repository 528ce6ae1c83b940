/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The bytes of an answer, from libcurl to the flight: looked at (a page in
 * place of a file?), compared where a body starts over, gathered and written
 * in large pieces, the first ones and those of a slow origin soon. Called by
 * libcurl within fetch.c's transfers, so that trouble is only planned here
 * (ft->plan).
 */
#include <string.h>

#include "include/cache.h"
#include "include/counter.h"
#include "proxy/segment.h"
#include "proxy/upstream_priv.h"

enum {
	FETCH_SNIFF_BYTES = 16,
	FETCH_DISCARD_BYTES = 64 << 10,	/* of a body that nobody wants, to keep the connection */
};

bool
fetch_begin_body(struct fetch *ft)
{
	struct flight_head h = fetch_flight_head(ft);
	enum reason r;

	if (!h.shareable && !flight_is_private(ft->f))
		cache_note_unshareable(ft->u->depot->cache, flight_key(ft->f), ft->u->now_ms);
	r = flight_begin(ft->f, &h);
	if (r != REASON_OK) {
		fetch_plan_fail(ft, r, "%s", reason_text(r));
		return false;
	}
	ft->began_here = ft->begun = true;
	ft->check = false;
	ft->want_total = h.total_bytes;
	ft->want.last_modified_s = h.terms.last_modified_s;
	(void)snprintf(ft->want.etag, sizeof(ft->want.etag), "%s", ft->resp->etag);
	ft->rate_ms = ft->u->now_ms;
	ft->rate_from = flight_committed(ft->f);
	fetch_set_state(ft, FETCH_BODY);
	return true;
}

bool
fetch_sniff(struct fetch *ft)
{
	if (ft->sniffed)
		return true;
	ft->sniffed = true;
	if (flight_aptfile(ft->f)->class != APTFILE_OTHER && ft->resume_at == 0 &&
	    fetch_is_html(ft->buf, ft->buf_n)) {
		fetch_plan_fail(ft, REASON_UP_HTML, "the upstream sent an HTML page in place of a "
		    "repository file: a login page or a filter on the way?");
		return false;
	}
	return ft->began_here || fetch_begin_body(ft);
}

/* Too few bytes to tell a page from a file? */
static bool
fetch_may_be_html(const struct fetch *ft)
{
	return ft->buf_n < FETCH_SNIFF_BYTES && strchr("< \t\r\n", ft->buf[0]) != NULL;
}

void
fetch_flush_soon(struct fetch *ft)
{
	if (ft->dirty)
		return;
	ft->dirty = true;
	TAILQ_INSERT_TAIL(&ft->u->dirty, ft, dirty_link);
	upstream_flush_later(ft->u);
}

void
fetch_flush(struct fetch *ft)
{
	enum reason r;

	CHECK_OBJ(ft, FETCH_MAGIC);
	if (ft->dirty)
		TAILQ_REMOVE(&ft->u->dirty, ft, dirty_link);
	ft->dirty = false;
	if (ft->segments != NULL)
		segments_flush(ft->segments);
	if (ft->buf_n > 0 && ft->plan == PLAN_BODY && !ft->began_here && !fetch_may_be_html(ft))
		(void)fetch_sniff(ft);
	if (ft->buf_n == 0 || !ft->began_here || ft->plan == PLAN_FAIL)
		return;
	r = flight_append(ft->f, ft->buf, ft->buf_n);
	ft->buf_n = 0;
	ft->progress_ms = ft->u->now_ms;
	ft->tries_n = ft->timeouts_n = 0;
	upway_progress(&ft->way);
	if (r != REASON_OK)
		fetch_plan_fail(ft, r, "%s", reason_text(r));
}

/* Does the whole body go into one buffer? Then its head waits for it, for a few milliseconds. */
static bool
fetch_is_short(const struct fetch *ft)
{
	return ft->resp->length >= 0 && ft->resp->length <= FETCH_BUFFER_BYTES;
}

/* Takes body bytes: written in large pieces, the first ones and those of a slow origin soon. */
static bool
fetch_take(struct fetch *ft, const char *p, size_t n)
{
	bool is_short = fetch_is_short(ft), first;
	size_t room;

	if (ft->buf == NULL) {
		ft->buf = upstream_buffer_get(ft->u);
		if (ft->buf == NULL) {
			fetch_plan_fail(ft, REASON_NO_MEMORY, "%s", reason_text(REASON_NO_MEMORY));
			return false;
		}
	}
	while (n > 0) {
		room = FETCH_BUFFER_BYTES - ft->buf_n;
		if (room > n)
			room = n;
		if (ft->segments != NULL)
			room = segments_room(ft->segments, room);
		if (room == 0) {
			fetch_flush(ft);
			if (ft->plan != PLAN_FAIL)
				ft->plan = PLAN_CUT;
			return false;
		}
		memcpy(ft->buf + ft->buf_n, p, room);
		ft->buf_n += room;
		p += room;
		n -= room;
		if (ft->buf_n >= FETCH_SNIFF_BYTES && !is_short && !fetch_sniff(ft))
			return false;
		first = flight_committed(ft->f) == ft->rate_from && ft->began_here && !is_short;
		if (ft->buf_n == FETCH_BUFFER_BYTES || first)
			fetch_flush(ft);
		if (ft->plan == PLAN_FAIL)
			return false;
	}
	if (ft->buf_n > 0)
		fetch_flush_soon(ft);
	return true;
}

/* Bytes of a body that started over: equal to what we have, then new. */
static bool
fetch_compare(struct fetch *ft, const char *p, size_t n)
{
	uint64_t left = ft->rate_from - ft->compare_at;	/* what we had when this try began */
	size_t same = left < n ? (size_t)left : n;

	if (!flight_same_bytes(ft->f, ft->compare_at, p, same)) {
		fetch_plan_fail(ft, REASON_UP_CHANGED, "the file changed upstream while it was being "
		    "fetched (other bytes before %llu)",
		    (unsigned long long)ft->compare_at + same);
		return false;
	}
	ft->compare_at += same;
	if (ft->compare_at < ft->rate_from)
		return true;
	ft->plan = PLAN_BODY;
	ft->sniffed = ft->began_here = true;
	return fetch_take(ft, p + same, n - same);
}

/* A body that is only passed on goes as fast as its readers. */
static bool
fetch_has_room(struct fetch *ft, size_t n)
{
	if (!ft->began_here || !flight_passes_through(ft->f))
		return true;
	fetch_flush(ft);	/* there was room for it when it came */
	return ft->plan == PLAN_FAIL || flight_takes(ft->f, n);
}

size_t
fetch_write_cb(char *p, size_t one, size_t n, void *arg)
{
	struct fetch *ft = arg;

	(void)one;
	CHECK_OBJ(ft, FETCH_MAGIC);
	ft->quiet_ms = ft->u->now_ms;
	if (!fetch_has_room(ft, n)) {
		ft->paused = true;
		return CURL_WRITEFUNC_PAUSE;	/* the same bytes come again */
	}
	ft->body_bytes += n;
	COUNT_ADD(upstream_body_bytes_total, n);
	switch (ft->plan) {
	case PLAN_BODY:
		return fetch_take(ft, p, n) ? n : 0;
	case PLAN_COMPARE:
		return fetch_compare(ft, p, n) ? n : 0;
	case PLAN_CONFIRM:
	case PLAN_HEAD:
	case PLAN_REDIRECT:
	case PLAN_RETRY:
	case PLAN_FAIL:
		return ft->body_bytes <= FETCH_DISCARD_BYTES ? n : 0;
	case PLAN_NONE:
	case PLAN_CUT:
	case PLAN_RESTART:
		return 0;
	}
	WRONG("fetch plan");
}
