/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * How fast upstream connections are, and when one is given up: because it has
 * all but stopped, or because nobody reads what it brings. Called by fetch.c
 * and segment.c on the upstream thread.
 *
 * read_timeout ends a connection that brings nothing. One that drips would
 * hold its client for hours, so it is given up below FETCH_SLOW_BYTES a
 * second while somebody waits, unless the origin gives nobody more than that:
 * on a line that slow, a new connection only costs another handshake. The
 * next one goes to another address where the origin has several. It must have
 * its 206 before the slow one is let go (segments_relieve): an origin without
 * ranges would start over, and be no faster.
 */
#include <stdio.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/segment.h"
#include "proxy/upstream_priv.h"

enum {
	FETCH_SLOW_MS = 10000,		/* measured over this, or read_timeout if that is less */
	FETCH_SLOW_BYTES = 16 << 10,	/* a second */
	FETCH_SLOW_SHARE = 4,		/* and this many times less than the origin gave lately */
	FETCH_SLOW_LEFT_MS = 2000,	/* what is over sooner than that is left alone */
	FETCH_SLOW_BACKOFF_MAX = 5,	/* a replacement that did not help is repeated ever later */
	FETCH_LONELY_DROP_MS = 5000,	/* hardly begun, and nobody reads: dropped after this */
	FETCH_LONELY_LEFT_MS = 30000,	/* nobody reads: goes on when this much time */
	UPHOST_RATE_MS = 300000,	/* how long a measured rate is believed */
	UPHOST_RATE_BYTES = 128 << 10,	/* what brings less says nothing about rates */
};
static const uint64_t FETCH_LONELY_LEFT_BYTES = 64 << 20;	/* or this much body is left */

void
uphost_note_rate(struct uphost *h, uint64_t bytes, int64_t ms, int64_t now_ms)
{
	uint64_t rate = bytes * 1000 / (uint64_t)(ms > 0 ? ms : 1);

	if (bytes < UPHOST_RATE_BYTES)
		return;
	h->rate = uphost_rate(h, now_ms) == 0 ? rate : (h->rate * 3 + rate) / 4;
	h->rate_ms = now_ms;
}

uint64_t
uphost_rate(const struct uphost *h, int64_t now_ms)
{
	return h->rate_ms != 0 && now_ms - h->rate_ms < UPHOST_RATE_MS ? h->rate : 0;
}

void
uphost_limit_segments(struct uphost *h, unsigned max, int64_t until_ms)
{
	h->segments_max = max;
	h->segments_max_until_ms = until_ms;
}

void
fetch_avoid_address(struct fetch *ft, const char *why)
{
	struct uphost *h = ft->host != NULL ? ft->host : upstream_host(ft->u, &ft->url);

	if (h == NULL || !h->way.direct)
		return;
	upstream_avoid(ft->u, h, ft->address, why);
}

/* Bytes per second since the last look, when it is time to look; false: it is not. */
static bool
fetch_measure(struct fetch *ft, uint64_t *rate)
{
	struct uprate *s = &ft->speed;
	int64_t now = ft->u->now_ms, window = ft->host->conf->read_timeout;

	if (window > FETCH_SLOW_MS)
		window = FETCH_SLOW_MS;
	if (s->since_ms == 0 || ft->body_bytes < s->bytes) {
		s->since_ms = now;
		s->bytes = ft->body_bytes;
		return false;
	}
	if (now - s->since_ms < window)
		return false;
	*rate = (ft->body_bytes - s->bytes) * 1000 / (uint64_t)(now - s->since_ms);
	s->since_ms = now;
	s->bytes = ft->body_bytes;
	return true;
}

bool
fetch_check_slow(struct fetch *ft)
{
	struct uprate *s = &ft->speed;
	uint64_t rate, usual, left;
	char detail[256];

	/* What is only passed on is as slow as its readers, and a paused one as its replacement. */
	if (!segments_allowed(ft) || flight_waiting_readers(ft->f) == 0 ||
	    flight_passes_through(ft->f) || ft->paused) {
		s->since_ms = 0;
		return false;
	}
	/* One that brings nothing at all is left to read_timeout. */
	if (!fetch_measure(ft, &rate) || rate == 0 || rate >= FETCH_SLOW_BYTES)
		return false;
	usual = uphost_rate(ft->host, ft->u->now_ms);
	left = (uint64_t)ft->want_total - flight_committed(ft->f);
	if ((usual != 0 && usual < rate * FETCH_SLOW_SHARE) || ft->u->now_ms < s->again_ms ||
	    left * 1000 / rate < FETCH_SLOW_LEFT_MS)
		return false;
	s->since_ms = 0;
	s->again_ms = ft->u->now_ms + ((int64_t)FETCH_SLOW_MS << s->replaced_n);
	if (s->replaced_n < FETCH_SLOW_BACKOFF_MAX)
		s->replaced_n++;
	fetch_avoid_address(ft, "hardly sent anything");
	if (!segments_proven(ft)) {
		segments_relieve(ft);
		return false;
	}
	COUNT(upstream_slow_replaced_total);
	(void)snprintf(detail, sizeof(detail), "%.*s at %s: only %llu bytes a second",
	    SLICE_ARG(ft->url.host), ft->address, (unsigned long long)rate);
	fetch_break_off(ft, REASON_UP_TIMEOUT, detail);
	return true;
}

/* Ends it because nobody wants it any more. False: somebody came in this very moment. */
static bool
fetch_abandon(struct fetch *ft)
{
	if (!flight_close_unread(ft->f))
		return false;
	COUNT(flights_abandoned_total);
	if (ft->curl != NULL)
		curlev_remove(ft->u->curlev, ft->curl);
	fetch_flush(ft);
	fetch_fail(ft, REASON_CLIENT_GONE, 0, "the last reader left; %llu bytes had come",
	    (unsigned long long)flight_committed(ft->f));
	return true;
}

bool
fetch_check_lonely(struct fetch *ft)
{
	uint64_t have = flight_committed(ft->f), left, rate;
	int64_t total, now = ft->u->now_ms;

	/* Somebody may have come whose message has not. */
	if (ft->lonely_ms != 0 && flight_readers(ft->f) > 0)
		ft->lonely_ms = 0;
	if (ft->lonely_ms == 0 || ft->state == FETCH_PARTIAL || ft->state == FETCH_VERIFY)
		return false;
	total = ft->want_total;	/* the verifier's to write while it reads a kept part */
	if (!ft->began_here && have == 0 && ft->check)
		return false;	/* a check: the next client profits */
	if (flight_is_private(ft->f) || flight_passes_through(ft->f))
		return fetch_abandon(ft);
	if (total < 0 || have < (uint64_t)total / 10)
		return now - ft->lonely_ms >= FETCH_LONELY_DROP_MS && fetch_abandon(ft);
	left = (uint64_t)total - have;
	rate = (have - ft->rate_from) * 1000 / (uint64_t)(now - ft->rate_ms + 1);
	if (left <= FETCH_LONELY_LEFT_BYTES || left < rate * (FETCH_LONELY_LEFT_MS / 1000))
		return false;
	return fetch_abandon(ft);
}
