/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One large body in several ranges at a time. A content delivery network often
 * gives one connection a fraction of what the line could carry; apt waits for
 * one large package at a time.
 *
 * A fetch begins as one stream. When that stream is slow for longer than a
 * moment and much is left, the rest is cut into pieces, and segments (a
 * connection each) fetch them, lowest first. The fetch's own stream, the lead,
 * goes on until it meets the first piece that has bytes; there it is cut off,
 * and the segments go on alone (FETCH_SEGMENTS). Pieces are written in place.
 * The verifier, the journal and most readers see the prefix, which grows over
 * what lies ahead as soon as the gap before it is closed; an end before that
 * keeps the prefix alone.
 *
 * A reader of a part far ahead does not wait for the prefix: its part is the
 * next piece (segments_pick.c), which it reads as it comes. Of a body that one
 * stream brings well enough such parts are all that segments fetch, on demand.
 *
 * A lead that only drips (fetch_rate.c) is relieved: it is paused while one
 * segment asks for all of the rest, and goes on if there are no ranges.
 *
 *   piece    a hole (nobody's) -> taken by a segment -> complete -> part of the prefix
 *            taken -> hole     its segment broke off: the next free one goes on there
 *   segment  one request (segment.c): made by segments_schedule, ends in segment_done
 *
 * Every answer proves that it is part of the same body: 206 to If-Range, the
 * range that was asked for, equal length, equal validators. Whatever else an
 * origin does ends the segments, not the fetch: the lead goes on, or an
 * ordinary resume follows (segments_give_up). The digest covers the whole in
 * any case.
 */
#include "proxy/segment_priv.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	/* When they start: the lead has shown its speed, it is slow, and much is left. */
	SEGMENT_AFTER_MS = 150,
	SEGMENT_BEHIND_TICKS = 2,
	SEGMENT_AGAIN_AFTER_MS = 50,		/* the same where a host is known to be slow */
	SEGMENT_AGAIN_TICKS = 1,
	SEGMENT_WORTH_MS = 1000,
	SEGMENT_FAST_BYTES = 64 << 20,		/* a second: more than half of a common line */
	SEGMENT_UNREAD_BYTES = 256 << 10,	/* unread in the socket: it is us who are slow */

	/* Pieces; see segments_pick.c. */
	SEGMENT_PIECE_MAX = 16 << 20,
	SEGMENT_PIECE_MIN = 8 << 20,		/* or an eighth of segment_min */
	SEGMENT_PIECE_SHARE = 256,		/* of the whole: what a kill may cost */

	SEGMENT_FAILURES_MAX = 6,		/* in a row */
	SEGMENT_RETRY_MS = 100,			/* after the first; doubled */
	SEGMENT_BUSY_MS = 60000,		/* how long "too many" is remembered of a host */
	SEGMENT_RETRY_AFTER_MAX_S = 10,
	SEGMENT_YIELD_MS = 1000,		/* who gave its slot away does not ask at once */

	/* Is all of this faster than one stream? */
	SEGMENT_TRIAL_MS = 3000,

	/* Small pieces that the lead goes over; and what it may still be sent before a larger one. */
	SEGMENT_PASS_BYTES = 64 << 10,
	SEGMENT_LAND_BYTES = 8 << 20,		/* nobody is allowed more at a time */
	SEGMENT_LAST_WINDOW_BYTES = 16 << 10,
};

/* ---- pieces ---- */

/* Takes it off the list; a segment that works on it has nothing more to do. */
static void
segments_drop_piece(struct segments *all, struct piece *p)
{
	if (p->by != NULL)
		p->by->piece = NULL;
	piece_free(&all->pieces, p);
}

/*
 * The lead has come to this piece: may it go on over it? Yes, if nobody has brought a byte of it yet,
 * or if it is so short that fetching it twice costs less than the lead's connection.
 */
static bool
segments_is_leads(const struct piece *p)
{
	return piece_is_empty(p) || p->end - p->first <= SEGMENT_PASS_BYTES;
}

bool
segments_usable(struct segments *all)
{
	/* The lead's own bytes may have moved the body to memory. */
	all->spoilt |= !all->in_order && !flight_takes_ahead(all->ft->f);
	return !all->spoilt;
}

void
segments_advance(struct segments *all)
{
	struct flight *f = all->ft->f;
	struct piece *p;

	while (segments_usable(all) && (p = TAILQ_FIRST(&all->pieces)) != NULL &&
	    p->first <= flight_committed(f)) {
		if (all->lead && segments_is_leads(p))
			return;
		all->met = true;
		if (p->at > flight_committed(f)) {
			flight_advance(f, p->at);
			all->ft->progress_ms = all->ft->u->now_ms;
		}
		/* It has become the foremost: readers wait for what it holds. */
		if (p->by != NULL && !segment_write(p->by))
			return;
		if (p->at < p->end)
			return;
		segments_drop_piece(all, p);
	}
}

void
segments_flush(struct segments *all)
{
	struct piece *p = TAILQ_FIRST(&all->pieces);

	if (!all->spoilt && p != NULL && p->by != NULL && p->at == flight_committed(all->ft->f) &&
	    segment_write(p->by))
		segments_advance(all);
}

/* Limits how many more bytes the origin may send before it hears from us. */
static void
segments_set_window(const struct segments *all, uint32_t bytes)
{
	int clamp = (int)bytes;

	(void)setsockopt(all->ft->socket, IPPROTO_TCP, TCP_WINDOW_CLAMP, &clamp, sizeof(clamp));
}

/*
 * The lead comes to a piece that is there: what the origin has sent beyond it by then is lost, as
 * much as is on its way. What it was allowed to send can't be taken back, so it is allowed no more
 * from where that reaches the piece.
 */
static void
segments_land(struct segments *all, uint64_t left)
{
	struct tcp_info info;
	socklen_t n = sizeof(info);
	uint32_t last;

	if (all->landing || left > SEGMENT_LAND_BYTES || all->ft->socket == CURL_SOCKET_BAD ||
	    getsockopt(all->ft->socket, IPPROTO_TCP, TCP_INFO, &info, &n) != 0)
		return;
	/* A window that takes no two packets stops it. */
	last = 2 * info.tcpi_rcv_mss;
	if (last < SEGMENT_LAST_WINDOW_BYTES)
		last = SEGMENT_LAST_WINDOW_BYTES;
	if (left > info.tcpi_rcv_ssthresh + last)
		return;
	all->landing = true;
	segments_set_window(all, last);
}

size_t
segments_room(struct segments *all, size_t n)
{
	uint64_t at = flight_committed(all->ft->f) + all->ft->buf_n;
	struct piece *p;

	if (all->met)
		return 0;
	if (all->spoilt)
		return n;
	while ((p = TAILQ_FIRST(&all->pieces)) != NULL && p->first <= at && segments_is_leads(p)) {
		if (p->by != NULL)
			p->by->robbed = true;
		segments_drop_piece(all, p);
	}
	if (p == NULL)
		return n;
	if (!segments_is_leads(p))
		segments_land(all, p->first - at);
	return p->first - at < n ? (size_t)(p->first - at) : n;
}

/* ---- all of them ---- */

/* Gives back all but `keep` of the slots on which nothing runs. */
static void
segments_drop_slots(struct segments *all, unsigned keep)
{
	while (all->held_n > keep) {
		all->held_n--;
		upstream_leave_extra(all->ft->u, all->host);
	}
}

void
segments_free(struct segments **all_p)
{
	struct segments *all = *all_p;
	struct segment *sg;

	*all_p = NULL;
	if (all == NULL)
		return;
	while ((sg = TAILQ_FIRST(&all->running)) != NULL) {
		curlev_remove(all->ft->u->curlev, sg->curl);
		segment_free(sg);
		all->held_n++;
	}
	while (!TAILQ_EMPTY(&all->pieces))
		segments_drop_piece(all, TAILQ_FIRST(&all->pieces));
	segments_drop_slots(all, 0);
	flight_drop_ahead(all->ft->f);
	free(all);
}

/* Segments are of no use: one stream does the rest. The fetch may be gone afterwards. */
static void
segments_give_up(struct segments *all, const char *why, int64_t remember_ms)
{
	struct fetch *ft = all->ft;
	bool lead = all->lead && !all->met, relief = all->relief;
	enum reason broken = all->broken;

	/* The prefix has gone past it. */
	if (all->lead && all->met)
		curlev_remove(ft->u->curlev, ft->curl);

	if (remember_ms > 0)
		uphost_limit_segments(all->host, 1, ft->u->now_ms + remember_ms);
	COUNT(segment_fallbacks_total);
	log_info("flight=%llu no parallel ranges: %s: one stream brings the rest from byte %llu",
	    (unsigned long long)flight_id(ft->f), why,
	    (unsigned long long)flight_committed(ft->f));
	ft->no_segments = !relief || all->requests_n > 0;	/* or no slot was free: later */
	if (lead && all->landing)
		segments_set_window(all, SEGMENT_LAND_BYTES);
	segments_free(&ft->segments);
	if (broken != REASON_OK && !lead) {
		fetch_plan_fail(ft, broken, "%s", reason_text(broken));
		fetch_fail_planned(ft, 0);
	} else if (!lead)
		fetch_again(ft, REASON_UP_CLOSED, 0, why);
	else if (relief)
		fetch_unpause(ft);
}

/* Everything is here. The fetch is gone afterwards. */
static void
segments_complete(struct segments *all)
{
	struct fetch *ft = all->ft;
	uint64_t n = all->total - all->started_at;
	int64_t ms = ft->u->now_ms - all->started_ms;

	log_info("flight=%llu %llu bytes came in %u ranges in %lld ms: %.1f MB/s",
	    (unsigned long long)flight_id(ft->f), (unsigned long long)n, all->requests_n,
	    (long long)ms, (double)n / 1000.0 / (double)(ms > 0 ? ms : 1));
	segments_free(&ft->segments);
	fetch_complete(ft);
}

/* Is this body only asked for behind others, or guessed (prefetch = closure)? */
static bool
segments_is_ahead(const struct fetch *ft)
{
	return flight_waiting_readers(ft->f) == 0;
}

/* One slot more for a segment. */
static bool
segments_get_slot(struct segments *all)
{
	bool ahead = segments_is_ahead(all->ft);

	/* The fetch's own slot; more of them only while nobody waits. */
	if (all->held_n > 0 && ((all->running_n == 0 && !all->lead) ||
	    !upstream_is_wanted(all->ft->u, all->host))) {
		all->held_n--;
		return true;
	}
	return upstream_take_extra(all->ft->u, all->host, ahead) ||
	    (!ahead && segments_yield(all->ft->u, all->host, true) &&
	    upstream_take_extra(all->ft->u, all->host, false));
}

/* Starts as many as may run, and have something to do. False: out of memory. */
static bool
segments_schedule(struct segments *all)
{
	struct piece *p;

	while (all->running_n + all->lead < all->limit_n &&
	    all->ft->u->now_ms >= all->retry_ms) {
		/* No slot is taken in vain; but a piece is not split in vain either. */
		p = all->on_demand ? segments_pick(all) : NULL;
		if ((all->on_demand && p == NULL) || !segments_get_slot(all))
			break;
		if (p == NULL)
			p = segments_pick(all);
		if (p == NULL) {
			all->held_n++;
			break;
		}
		if (!segment_start(all, p)) {
			all->held_n++;
			return false;
		}
	}
	segments_drop_slots(all, all->running_n == 0 && !all->lead ? 1 : 0);
	return true;
}

/*
 * After anything that happened: done, given up, or more to do. True: the first stream runs on; if
 * not, the fetch may be gone.
 */
static bool
segments_settle(struct segments *all)
{
	struct segment *sg, *next;
	bool lead;

	segments_advance(all);
	for (sg = TAILQ_FIRST(&all->running); sg != NULL; sg = next) {
		next = TAILQ_NEXT(sg, link);
		if (sg->robbed) {
			segment_stop(sg);
			all->held_n++;
		}
	}
	if (all->lead && all->met && !all->spoilt) {
		curlev_remove(all->ft->u->curlev, all->ft->curl);
		if (!segments_take_over(all->ft, NULL))
			fetch_again(all->ft, REASON_UP_CLOSED, 0, reason_text(REASON_NO_MEMORY));
		return false;
	}
	if (!all->lead && flight_committed(all->ft->f) == all->total) {
		segments_complete(all);
		return false;
	}
	lead = all->lead && !all->met;
	if (all->spoilt)
		segments_give_up(all, all->broken != REASON_OK ? reason_text(all->broken) :
		    "the disk takes nothing ahead", 0);
	else if (all->failures_n >= SEGMENT_FAILURES_MAX)
		segments_give_up(all, "too many of them fail", SEGMENT_BUSY_MS);
	else if (!segments_schedule(all))
		segments_give_up(all, reason_text(REASON_NO_MEMORY), 0);
	else if (lead && all->relief && all->running_n == 0)
		segments_give_up(all, "no other connection brings more", 0);
	return lead;
}

/* It broke: someone goes on there, a little later each time. */
static void
segments_note_failure(struct segments *all, const char *why)
{
	/* Up to 64 may break in one tick, before segments_settle gives up: no doubling beyond that. */
	all->retry_ms = all->ft->u->now_ms + (SEGMENT_RETRY_MS << (all->failures_n <
	    SEGMENT_FAILURES_MAX ? all->failures_n : SEGMENT_FAILURES_MAX));
	all->failures_n++;
	log_info("flight=%llu one of %u ranges broke (%u in a row): %s",
	    (unsigned long long)flight_id(all->ft->f), all->running_n + all->lead,
	    all->failures_n, why);
}

/* The origin wants fewer at a time. */
static void
segments_shrink(struct segments *all, const struct segment *sg)
{
	int64_t now = all->ft->u->now_ms, wait_s = httpresp_retry_after(sg->resp, clock_wall_s());
	unsigned good_n = all->running_n - 1 + all->lead;

	if (wait_s > SEGMENT_RETRY_AFTER_MAX_S)
		wait_s = SEGMENT_RETRY_AFTER_MAX_S;
	if (all->limit_n > 1)
		all->limit_n = good_n > 1 ? good_n < all->limit_n ? good_n : all->limit_n - 1 : 1;
	uphost_limit_segments(all->host, all->limit_n, now + SEGMENT_BUSY_MS);
	if (good_n == 0)
		segments_note_failure(all, "the origin is busy");
	else
		all->retry_ms = now + 2 * SEGMENT_RETRY_MS;
	if (wait_s > 0)
		all->retry_ms = now + wait_s * 1000;
	COUNT(segments_refused_total);
	log_info("flight=%llu %.*s answered %d to one range more: %u at a time",
	    (unsigned long long)flight_id(all->ft->f), SLICE_ARG(all->ft->url.authority),
	    sg->resp->status, all->limit_n);
}

/* One that was good, or got no answer, is over: was it a failure, and how fast is its host? */
static void
segment_note_end(struct segment *sg, CURLcode result)
{
	struct segments *all = sg->all;
	struct fetch *ft = all->ft;
	struct upway_failure f = {
		.authority = ft->url.authority, .host = ft->url.host, .tls = ft->url.tls,
		.sent = sg->sent, .result = result, .error = sg->error,
	};
	enum upway_blame blame;
	char text[UPWAY_TEXT_BYTES];

	if (sg->way.choice.list) {
		/* Not a try: which addresses there are is known now. */
		all->host->addrs.listed_ms = ft->u->now_ms;
		return;
	}
	if (sg->got > 0)
		uphost_note_rate(all->host, sg->got, ft->u->now_ms - sg->started_ms,
		    ft->u->now_ms);
	if (sg->piece == NULL || sg->piece->at == sg->piece->end)
		all->failures_n = sg->got > 0 ? 0 : all->failures_n;
	else if (result == CURLE_OK && sg->verdict == SEGMENT_GOOD && sg->got > 0)
		all->failures_n = 0;	/* a shorter part than asked for: the rest is a hole */
	else {
		if (sg->way.choice.only[0] != '\0' && !sg->sent)
			upstream_avoid(ft->u, all->host, sg->way.choice.only, "can't be reached");
		(void)upway_explain(&sg->way, sg->curl, &f, &blame, text);
		segments_note_failure(all, text);
	}
}

void
segment_done(struct segment *sg, CURLcode result)
{
	struct segments *all = sg->all;
	enum segment_verdict verdict = sg->verdict;
	int status = sg->resp->status;
	char why[128];

	CHECK_OBJ(sg, SEGMENT_MAGIC);
	all->ft->u->now_ms = clock_mono_ms();
	if (verdict == SEGMENT_GOOD && segment_write(sg))
		segments_advance(all);
	if (verdict == SEGMENT_GOOD || verdict == SEGMENT_UNKNOWN || verdict == SEGMENT_FAILED)
		segment_note_end(sg, result);
	else if (verdict == SEGMENT_BUSY)
		segments_shrink(all, sg);
	segment_free(sg);
	all->held_n++;
	switch (verdict) {
	case SEGMENT_UNKNOWN:
	case SEGMENT_GOOD:
	case SEGMENT_BUSY:
	case SEGMENT_FAILED:
		(void)segments_settle(all);
		return;
	case SEGMENT_WHOLE:
		segments_give_up(all, "the origin ignores Range", UPHOST_NO_RANGES_MS);
		return;
	case SEGMENT_CHANGED:
		segments_give_up(all, "the origin shows another version now", 0);
		return;
	case SEGMENT_LIES:
		segments_give_up(all, "the origin sent another range than asked for",
		    UPHOST_NO_RANGES_MS);
		return;
	case SEGMENT_REFUSED:
		(void)snprintf(why, sizeof(why), "the origin answered %d to a range", status);
		segments_give_up(all, why, SEGMENT_BUSY_MS);
		return;
	}
	WRONG("segment verdict");
}

/* ---- when ---- */

uint64_t
segments_lead_rate(const struct fetch *ft)
{
	uint64_t got = flight_committed(ft->f) + ft->buf_n - ft->rate_from;

	return got * 1000 / (uint64_t)(ft->u->now_ms - ft->rate_ms + 1);
}

/* Has it been slow with others lately? */
static bool
segments_is_known_slow(const struct fetch *ft)
{
	uint64_t rate = uphost_rate(ft->host, ft->u->now_ms);

	return rate > 0 && rate < SEGMENT_FAST_BYTES;
}

bool
segments_allowed(const struct fetch *ft)
{
	const struct uphost *h = ft->host;

	return !ft->no_segments && ft->curl != NULL && ft->began_here &&
	    ft->plan == PLAN_BODY && !ft->resp->accept_ranges_none && ft->want_total >= 0 &&
	    (h->segments_max_until_ms <= ft->u->now_ms || h->segments_max > 1) &&
	    (http_etag_is_strong(slice_of(ft->want.etag)) ||
	    ft->want.last_modified_s != INT64_MIN);
}

/* Is it time to look whether they would help? */
static bool
segments_possible(const struct fetch *ft)
{
	return segments_allowed(ft) && ft->host->conf->segments > 1 &&
	    !flight_is_private(ft->f) && flight_takes_ahead(ft->f) &&
	    ft->u->now_ms - ft->rate_ms >= (segments_is_known_slow(ft) ?
	    SEGMENT_AGAIN_AFTER_MS : SEGMENT_AFTER_MS);
}

/* Is the lead slow, with much to come, and not for our own slowness? */
static bool
segments_would_help(struct fetch *ft)
{
	uint64_t rate, left;
	int unread = 0;

	if ((uint64_t)ft->want_total < ft->u->depot->config->segment_min ||
	    flight_readers(ft->f) == 0)
		return false;
	rate = segments_lead_rate(ft);
	left = (uint64_t)ft->want_total - flight_committed(ft->f) - ft->buf_n;
	if (rate >= SEGMENT_FAST_BYTES || left * 1000 / (rate + 1) < SEGMENT_WORTH_MS)
		return false;
	return ft->socket == CURL_SOCKET_BAD || ioctl(ft->socket, FIONREAD, &unread) != 0 ||
	    unread < SEGMENT_UNREAD_BYTES;
}

/* Have they looked worth it for enough ticks in a row? */
static bool
segments_look(struct fetch *ft)
{
	ft->behind_n = segments_would_help(ft) ? ft->behind_n + 1 : 0;
	return ft->behind_n >= (segments_is_known_slow(ft) ? SEGMENT_AGAIN_TICKS :
	    SEGMENT_BEHIND_TICKS);
}

/* Makes what they need. NULL: out of memory. */
static struct segments *
segments_new(struct fetch *ft)
{
	struct segments *all = calloc(1, sizeof(*all));
	const struct uphost *h = ft->host;

	if (all == NULL)
		return NULL;
	all->ft = ft;
	all->host = ft->host;
	all->lead = all->on_demand = true;
	all->trial = TRIAL_OVER;
	all->total = (uint64_t)ft->want_total;
	all->limit_n = (unsigned)h->conf->segments;
	if (h->segments_max_until_ms > ft->u->now_ms && h->segments_max < all->limit_n)
		all->limit_n = h->segments_max;
	all->piece_least = ft->u->depot->config->segment_min / 8;
	if (all->piece_least > SEGMENT_PIECE_MIN)
		all->piece_least = SEGMENT_PIECE_MIN;
	all->piece_bytes = all->total / SEGMENT_PIECE_SHARE;
	if (all->piece_bytes > SEGMENT_PIECE_MAX)
		all->piece_bytes = SEGMENT_PIECE_MAX;
	if (all->piece_bytes < all->piece_least)
		all->piece_bytes = all->piece_least;
	all->piece_least /= 4;
	TAILQ_INIT(&all->pieces);
	TAILQ_INIT(&all->running);
	all->started_ms = ft->u->now_ms;
	all->started_at = flight_committed(ft->f) + ft->buf_n;
	return all;
}

/* They bring all of the rest from now on. */
static void
segments_begin(struct segments *all)
{
	struct fetch *ft = all->ft;

	all->on_demand = false;
	all->started_ms = all->trial_ms = ft->u->now_ms;
	all->started_at = flight_committed(ft->f) + ft->buf_n;
	all->lead_rate = segments_lead_rate(ft);
	all->trial = TRIAL_MANY;
	all->trial_got = all->got + ft->body_bytes;
	COUNT(segmented_fetches_total);
	log_info("flight=%llu one stream brings %.1f MB/s: up to %u parallel ranges from byte %llu",
	    (unsigned long long)flight_id(ft->f), (double)all->lead_rate / 1e6, all->limit_n,
	    (unsigned long long)all->started_at);
}

bool
segments_take_over(struct fetch *ft, const char *why)
{
	struct segments *all = ft->segments;

	if (all == NULL || !all->proven || all->spoilt || ft->host == NULL || !ft->begun)
		return false;
	if (why != NULL)
		log_info("flight=%llu the first stream broke at byte %llu: %s",
		    (unsigned long long)flight_id(ft->f),
		    (unsigned long long)flight_committed(ft->f), why);
	uphost_note_rate(ft->host, ft->body_bytes, ft->u->now_ms - ft->rate_ms, ft->u->now_ms);
	if (all->relief) {
		COUNT(upstream_slow_replaced_total);
		all->limit_n = all->limit_was;
	} else if (all->on_demand)
		COUNT(segmented_fetches_total);
	all->lead = all->on_demand = all->relief = false;
	upstream_pass_slot(ft);
	all->held_n++;
	fetch_end_try(ft);
	fetch_set_state(ft, FETCH_SEGMENTS);
	(void)segments_settle(all);
	return true;
}

bool
segments_proven(const struct fetch *ft)
{
	return ft->segments != NULL && ft->segments->proven;
}

bool
segments_relieving(const struct fetch *ft)
{
	return ft->segments != NULL && ft->segments->relief;
}

void
segments_relieve(struct fetch *ft)
{
	struct segments *all;

	if (ft->segments != NULL)
		return;		/* they are at it */
	fetch_flush(ft);
	all = ft->plan == PLAN_BODY ? segments_new(ft) : NULL;
	if (all == NULL)
		return;
	all->in_order = flight_is_private(ft->f) || !flight_takes_ahead(ft->f);
	/* Afterwards a small body is one stream's again. */
	all->limit_was = all->in_order || all->total < ft->u->depot->config->segment_min ? 1 :
	    all->limit_n;
	all->limit_n = 2;
	all->relief = true;
	ft->segments = all;
	if (piece_add(&all->pieces, flight_committed(ft->f), all->total) == NULL) {
		segments_free(&ft->segments);
		return;
	}
	/* What it brought meanwhile would come twice. */
	ft->paused = true;
	(void)curl_easy_pause(ft->curl, CURLPAUSE_RECV);
	log_info("flight=%llu a stream that hardly sends anything waits for another one from byte "
	    "%llu", (unsigned long long)flight_id(ft->f),
	    (unsigned long long)flight_committed(ft->f));
	(void)segments_settle(all);
}

/* ---- as time passes ---- */

/* Replaces those that are stuck. */
static void
segments_replace_stuck(struct segments *all)
{
	struct segment *sg, *next;

	for (sg = TAILQ_FIRST(&all->running); sg != NULL; sg = next) {
		next = TAILQ_NEXT(sg, link);
		if (!segment_is_stuck(sg))
			continue;
		COUNT(upstream_slow_replaced_total);
		if (sg->way.choice.addrs != NULL)
			upstream_avoid(all->ft->u, all->host, sg->peer, "hardly sent anything");
		segments_note_failure(all, "it hardly sent anything");
		segment_stop(sg);
		all->held_n++;
	}
}

/* Who waits goes before what is only ahead. */
static void
segments_make_way(struct segments *all)
{
	struct segment *sg = segments_pick_victim(all);

	if (sg == NULL)
		return;
	COUNT(segments_yielded_total);
	segment_stop(sg);
	all->held_n++;
}

/*
 * Are several connections faster than one? Measured once. If they seem to be slower, one alone is
 * measured too, before that is believed.
 */
static void
segments_judge_trial(struct segments *all)
{
	int64_t now = all->ft->u->now_ms, ms = now - all->trial_ms;
	uint64_t got = all->got + all->ft->body_bytes, rate;
	bool measured = ms >= SEGMENT_TRIAL_MS;

	if (all->trial == TRIAL_OVER)
		return;
	/* Readers' parts are short, and say nothing of what the connections can do. */
	if (all->far_ms >= all->trial_ms) {
		all->trial_ms = now;
		all->trial_got = got;
		return;
	}
	if (all->trial == TRIAL_ONE && all->running_n + all->lead > 1)
		measured = true;	/* not alone yet: the measure begins anew */
	if (!measured)
		return;
	rate = (got - all->trial_got) * 1000 / (uint64_t)(ms + 1);
	all->trial_ms = now;
	all->trial_got = got;
	if (all->trial == TRIAL_MANY) {
		all->trial = TRIAL_OVER;
		if (all->running_n + all->lead < 2 || rate >= all->lead_rate / 10 * 9)
			return;
		all->many_rate = rate;
		all->limit_was = all->limit_n;
		all->limit_n = 1;
		all->trial = TRIAL_ONE;
	} else if (ms >= SEGMENT_TRIAL_MS && all->running_n + all->lead <= 1) {
		all->trial = TRIAL_OVER;
		if (rate <= all->many_rate) {
			all->limit_n = all->limit_was;
			return;
		}
		COUNT(segment_fallbacks_total);
		uphost_limit_segments(all->host, 1, now + UPHOST_NO_RANGES_MS);
		log_info("flight=%llu parallel ranges are slower than one stream (%.1f, %.1f MB/s)",
		    (unsigned long long)flight_id(all->ft->f), (double)all->many_rate / 1e6,
		    (double)rate / 1e6);
	}
}

/* There are none yet: begins them if they would help. Returns as segments_settle does. */
static bool
segments_consider(struct fetch *ft)
{
	struct segments *all;
	bool help = segments_look(ft);

	if (!help && !segments_far_is_wanted(ft))
		return true;
	all = segments_new(ft);
	if (all == NULL)
		return true;
	if (help)
		segments_begin(all);
	ft->segments = all;
	return segments_settle(all);
}

bool
segments_tick(struct fetch *ft)
{
	struct segments *all = ft->segments;

	if (all == NULL)
		return segments_possible(ft) && !segments_consider(ft);
	if (all->on_demand && all->lead && !all->met && !all->relief && segments_possible(ft) &&
	    segments_look(ft))
		segments_begin(all);
	segments_replace_stuck(all);
	segments_make_way(all);
	segments_judge_trial(all);
	return !segments_settle(all);	/* while the lead runs its own limits count too */
}

/* The furthest ahead of those that nobody waits for, else the first of the others. */
static struct segments *
segments_find_yielding(struct upstream *u, const struct uphost *h, bool ahead_only)
{
	struct segments *found = NULL;
	struct fetch *ft;

	TAILQ_FOREACH(ft, &u->fetches, link) {
		struct segments *all = ft->segments;

		if (all == NULL || (h != NULL && all->host != h) ||
		    all->running_n + all->lead < 2)
			continue;
		if (segments_is_ahead(ft))
			found = all;
		else if (found == NULL && !ahead_only)
			found = all;
	}
	return found;
}

bool
segments_yield(struct upstream *u, const struct uphost *h, bool ahead_only)
{
	struct segments *all = segments_find_yielding(u, h, ahead_only);

	if (all == NULL)
		return false;
	/* A body that somebody waits for could take the slot back at once. */
	if (!segments_is_ahead(all->ft))
		all->retry_ms = u->now_ms + SEGMENT_YIELD_MS;
	COUNT(segments_yielded_total);
	segment_stop(TAILQ_LAST(&all->running, segment_list));
	upstream_leave_extra(u, all->host);
	return true;
}
