/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One range of a large body: a request on a connection of its own, from
 * segment_start to segment_done (segments.c, which says what it is part of).
 * Its answer is judged here, its bytes are written to the flight from here.
 */
#include "proxy/segment_priv.h"

#include <stdio.h>

#include "include/counter.h"
#include "include/log.h"

enum {
	SEGMENT_DISCARD_BYTES = 64 << 10,	/* of an answer that is no part, to keep the connection */
	SEGMENT_SHOWN_MS = 500,			/* a younger one has shown no rate yet */
	/* The foremost one is what readers wait for. */
	SEGMENT_SLOW_MS = 2000,
	SEGMENT_SLOW_SHARE = 8,			/* so many times slower than usual here: replaced */
	SEGMENT_SLOW_LEFT_MS = 1000,		/* unless it is over sooner than that */
	SEGMENT_SLOW_BACKOFF_MAX = 5,		/* a replacement that did not help: ever later */
};

/* ---- bytes ---- */

bool
piece_is_empty(const struct piece *p)
{
	return p->at == p->first && (p->by == NULL || p->by->buf_n == 0);
}

bool
segment_write(struct segment *sg)
{
	struct segments *all = sg->all;
	struct flight *f = all->ft->f;
	struct piece *p = sg->piece;
	size_t n = sg->buf_n;
	enum reason r;

	if (p == NULL || n == 0)
		return true;
	sg->buf_n = 0;
	if (!segments_usable(all))
		return false;
	if (p->at != flight_committed(f)) {
		r = flight_write_ahead(f, p->at, sg->buf, n);
		all->spoilt = r != REASON_OK;	/* a full disk: one stream knows what to do */
	} else {
		all->met = true;
		r = flight_append(f, sg->buf, n);
		all->ft->progress_ms = all->ft->u->now_ms;
		if (r != REASON_OK)
			all->broken = r;
		all->spoilt = r != REASON_OK || (!all->in_order && !flight_takes_ahead(f));
	}
	if (r != REASON_OK)
		return false;
	p->at += n;
	return true;
}

/* ---- what libcurl brings ---- */

/* Is this the part that was asked for, of the body that we have? */
static enum segment_verdict
segment_judge_part(const struct segment *sg)
{
	const struct httpresp *r = sg->resp;

	if (r->range_bad || r->range_first != (int64_t)sg->asked_at ||
	    r->range_last < r->range_first || r->range_last >= (int64_t)sg->asked_end ||
	    fetch_is_encoded(sg->all->ft, r) || (r->length >= 0 &&
	    r->length != r->range_last - r->range_first + 1))
		return SEGMENT_LIES;
	if (r->range_total != (int64_t)sg->all->total || !fetch_is_same_version(sg->all->ft, r))
		return SEGMENT_CHANGED;
	return SEGMENT_GOOD;
}

/* What the answer's head means. */
static enum segment_verdict
segment_judge(const struct segment *sg)
{
	const struct httpresp *r = sg->resp;

	if (r->bad)
		return SEGMENT_LIES;
	switch (r->status) {
	case 206:
		return segment_judge_part(sg);
	case 200:
	case 203:
		return r->length == (int64_t)sg->all->total &&
		    fetch_is_same_version(sg->all->ft, r) ? SEGMENT_WHOLE : SEGMENT_CHANGED;
	case 416:
		return SEGMENT_CHANGED;
	case 429:
	case 503:
		return SEGMENT_BUSY;
	default:
		return r->status >= 500 ? SEGMENT_FAILED : SEGMENT_REFUSED;
	}
}

/* libcurl: one header line. */
static size_t
segment_header_cb(char *p, size_t one, size_t n, void *arg)
{
	struct segment *sg = arg;
	bool blank = n <= 2 && (n == 0 || p[0] == '\r' || p[0] == '\n');

	(void)one;
	CHECK_OBJ(sg, SEGMENT_MAGIC);
	if (sg->verdict != SEGMENT_UNKNOWN)
		return n;		/* trailers */
	if (!blank) {
		if (!httpresp_line(sg->resp, (struct slice){p, n}))
			sg->verdict = SEGMENT_LIES;
		return sg->verdict == SEGMENT_UNKNOWN ? n : 0;
	}
	if (sg->resp->status < 200)
		return n;
	sg->quiet_ms = sg->all->ft->u->now_ms;
	sg->verdict = segment_judge(sg);
	if (sg->verdict == SEGMENT_GOOD)
		sg->all->proven = true;
	return n;
}

/* Takes body bytes up to the end of the piece; false: there, or no further. */
static bool
segment_take(struct segment *sg, const char *p, size_t n)
{
	struct segments *all = sg->all;

	uint64_t left, end = 0;

	while (n > 0) {
		size_t room = FETCH_BUFFER_BYTES - sg->buf_n;

		if (sg->piece == NULL || all->spoilt)
			return false;
		end = sg->piece->end;
		left = end - sg->piece->at - sg->buf_n;
		if (left == 0)
			return false;
		if (room > n)
			room = n;
		if (room > left)
			room = (size_t)left;
		memcpy(sg->buf + sg->buf_n, p, room);
		sg->buf_n += room;
		p += room;
		n -= room;
		if ((sg->buf_n == FETCH_BUFFER_BYTES || room == left) && !segment_write(sg))
			return false;
		if (sg->buf_n == 0)
			segments_advance(all);
	}
	if (sg->piece != NULL && sg->piece->at == flight_committed(all->ft->f))
		fetch_flush_soon(all->ft);
	/* Complete: what was asked for beyond it is not waited for. */
	return (sg->piece != NULL && sg->piece->at < end) || sg->asked_end == end;
}

/* libcurl: body bytes. Anything but n ends the transfer. */
static size_t
segment_write_cb(char *p, size_t one, size_t n, void *arg)
{
	struct segment *sg = arg;

	(void)one;
	CHECK_OBJ(sg, SEGMENT_MAGIC);
	sg->quiet_ms = sg->all->ft->u->now_ms;
	sg->got += n;
	sg->all->got += n;
	COUNT_ADD(upstream_body_bytes_total, n);
	switch (sg->verdict) {
	case SEGMENT_GOOD:
		return segment_take(sg, p, n) ? n : 0;
	case SEGMENT_BUSY:
	case SEGMENT_FAILED:
	case SEGMENT_REFUSED:
		return sg->got <= SEGMENT_DISCARD_BYTES ? n : 0;
	case SEGMENT_UNKNOWN:
	case SEGMENT_WHOLE:
	case SEGMENT_CHANGED:
	case SEGMENT_LIES:
		return 0;
	}
	WRONG("segment verdict");
}

/* libcurl: connected, about to send the request. */
static int
segment_prereq_cb(void *arg, char *peer_ip, char *own_ip, int peer_port, int own_port)
{
	struct segment *sg = arg;

	(void)own_ip;
	(void)peer_port;
	(void)own_port;
	CHECK_OBJ(sg, SEGMENT_MAGIC);
	if (!upway_reuse_ok(&sg->way, peer_ip))
		return CURL_PREREQFUNC_ABORT;
	/* A connection was kept alive, although this one was only to ask which addresses there are. */
	if (sg->way.choice.list)
		return CURL_PREREQFUNC_ABORT;
	sg->sent = true;
	if (sg->all->ft->url.tls)
		upway_worked(&sg->way);
	sg->quiet_ms = sg->all->ft->u->now_ms;
	(void)snprintf(sg->peer, sizeof(sg->peer), "%s", peer_ip);
	upstream_note_peer(sg->all->ft->u, sg->all->host, &sg->way.choice, peer_ip);
	return CURL_PREREQFUNC_OK;
}

/* ---- its life ---- */

/* Of the addresses known, the one that the fewest of this fetch use and that did not do badly. */
static const char *
segment_choose_address(const struct segments *all)
{
	const struct upaddrs *a = &all->host->addrs;
	const struct segment *sg;
	const char *best = "";
	unsigned i, n, least = UINT32_MAX;

	for (i = 0; i < a->n; i++) {
		if (a->v[i].avoid_until_ms > all->ft->u->now_ms)
			continue;
		n = all->lead && strcmp(all->ft->address, a->v[i].ip) == 0;
		TAILQ_FOREACH(sg, &all->running, link)
			n += strcmp(sg->peer, a->v[i].ip) == 0;
		if (n < least) {
			least = n;
			best = a->v[i].ip;
		}
	}
	return best;
}

/* Which address it is to use; where they are not known, it only asks for them first. */
static void
segment_choose(struct segment *sg)
{
	struct segments *all = sg->all;
	struct upaddr_choice *c = &sg->way.choice;
	struct uphost *h = all->host;

	*c = (struct upaddr_choice){.now_ms = all->ft->u->now_ms};
	if (!h->way.direct)
		return;
	c->addrs = &h->addrs;
	if (h->addrs.listed_ms == 0 || c->now_ms - h->addrs.listed_ms > UPADDR_LIST_MS) {
		upaddr_begin_list(&h->addrs, c->now_ms);
		c->list = true;
		return;
	}
	(void)snprintf(c->only, sizeof(c->only), "%s", segment_choose_address(all));
	/* Noted at once, so that the next one takes another. */
	(void)snprintf(sg->peer, sizeof(sg->peer), "%s", c->only);
	c->any = c->only[0] == '\0';
}

/* Everything that libcurl is told of it. */
static bool
segment_setup(struct segment *sg)
{
	struct fetch *ft = sg->all->ft;
	CURL *curl = sg->curl;

	sg->way.via = ft->via;
	if (!upway_prepare(&sg->way, ft->u, &sg->all->host->way, curl, ft->url.tls) ||
	    !fetch_make_range(ft, sg->all->host->conf, curl, &sg->headers, sg->piece->at,
	    sg->asked_end))
		return false;
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, sg->error);
	if (sg->way.choice.list || sg->all->failures_n > 0)
		(void)curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, segment_header_cb);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, sg);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, segment_write_cb);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, sg);
	(void)curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, segment_prereq_cb);
	(void)curl_easy_setopt(curl, CURLOPT_PREREQDATA, sg);
	return true;
}

void
segment_free(struct segment *sg)
{
	struct segments *all = sg->all;
	struct upstream *u = all->ft->u;

	if (sg->piece != NULL)
		sg->piece->by = NULL;
	TAILQ_REMOVE(&all->running, sg, link);
	all->running_n--;
	curlev_release(u->curlev, &sg->curl);
	curl_slist_free_all(sg->headers);
	upway_close(&sg->way);
	free(sg->resp);
	upstream_buffer_put(u, &sg->buf);
	OBJ_FREE(sg);
}

void
segment_stop(struct segment *sg)
{
	curlev_remove(sg->all->ft->u->curlev, sg->curl);
	if (segment_write(sg))
		segments_advance(sg->all);
	segment_free(sg);
}

bool
segment_start(struct segments *all, struct piece *p)
{
	struct upstream *u = all->ft->u;
	struct segment *sg;

	OBJ_NEW(sg, SEGMENT_MAGIC);
	if (sg == NULL)
		return false;
	sg->all = all;
	sg->piece = p;
	p->by = sg;
	sg->asked_at = p->at;
	sg->asked_end = p->end;
	sg->started_ms = sg->quiet_ms = u->now_ms;
	TAILQ_INSERT_TAIL(&all->running, sg, link);
	all->running_n++;
	segment_choose(sg);
	sg->buf = upstream_buffer_get(u);
	sg->resp = malloc(sizeof(*sg->resp));
	sg->curl = curlev_handle(u->curlev, sg);
	if (sg->resp != NULL)
		httpresp_reset(sg->resp);
	if (sg->buf == NULL || sg->resp == NULL || sg->curl == NULL || !segment_setup(sg) ||
	    curlev_add(u->curlev, sg->curl) != CURLM_OK) {
		segment_free(sg);
		return false;
	}
	if (sg->way.choice.list)
		return true;
	all->requests_n++;
	COUNT(segments_total);
	COUNT(upstream_requests_total);
	log_debug("flight=%llu asking for bytes %llu-%llu%s%s",
	    (unsigned long long)flight_id(all->ft->f), (unsigned long long)p->at,
	    (unsigned long long)p->end - 1, sg->peer[0] != '\0' ? " of " : "", sg->peer);
	return true;
}

/* ---- how it does ---- */

int64_t
segment_left_ms(const struct segment *sg, int64_t now_ms)
{
	uint64_t left = sg->piece->end - sg->piece->at - sg->buf_n;
	int64_t ms = now_ms - sg->started_ms;

	if (ms < SEGMENT_SHOWN_MS)
		return 0;	/* has not shown any */
	return (int64_t)(left * (uint64_t)ms / (sg->got + 1));
}

bool
segment_is_stuck(struct segment *sg)
{
	const struct config_upstream *conf = sg->all->host->conf;
	int64_t now = sg->all->ft->u->now_ms;
	struct uprate *s = &sg->speed;
	uint64_t rate, usual;

	if (now - sg->quiet_ms >= (sg->sent ? conf->read_timeout :
	    conf->connect_timeout + UPSTREAM_TICK_MS))
		return true;
	if (sg->piece == NULL || sg->piece != TAILQ_FIRST(&sg->all->pieces) || s->since_ms == 0) {
		s->since_ms = now;
		s->bytes = sg->got;
		return false;
	}
	if (now - s->since_ms < SEGMENT_SLOW_MS || now < sg->all->front.again_ms)
		return false;
	rate = (sg->got - s->bytes) * 1000 / (uint64_t)(now - s->since_ms);
	s->since_ms = now;
	s->bytes = sg->got;
	usual = uphost_rate(sg->all->host, now);
	if (usual == 0 || rate >= usual / SEGMENT_SLOW_SHARE ||
	    (sg->piece->end - sg->piece->at) * 1000 / (rate + 1) < SEGMENT_SLOW_LEFT_MS)
		return false;
	sg->all->front.again_ms = now + ((int64_t)SEGMENT_SLOW_MS << sg->all->front.replaced_n);
	if (sg->all->front.replaced_n < SEGMENT_SLOW_BACKOFF_MAX)
		sg->all->front.replaced_n++;
	return true;
}
