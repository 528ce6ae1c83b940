/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SEGMENT_PRIV_H
#define SEGMENT_PRIV_H
/*
 * What segment.c (one range, one request), segments.c (all ranges of a fetch)
 * and segments_pick.c (which one is next) share. The story is in segments.c.
 */
#include "proxy/piece.h"
#include "proxy/segment.h"
#include "proxy/upstream_priv.h"

enum segment_verdict {
	SEGMENT_UNKNOWN,	/* no final head yet */
	SEGMENT_GOOD,
	SEGMENT_WHOLE,		/* the origin ignores ranges */
	SEGMENT_CHANGED,	/* it is another body now */
	SEGMENT_LIES,		/* a part, but not the one that was asked for */
	SEGMENT_BUSY,		/* 429, 503: fewer, and later */
	SEGMENT_FAILED,		/* another 5xx: as if the connection had broken */
	SEGMENT_REFUSED,	/* anything else */
};

/* One request. */
struct segment {
	uint32_t magic;
	TAILQ_ENTRY(segment) link;
	struct segments *all;
	struct piece *piece;		/* NULL: it has no work any more */
	CURL *curl;
	struct curl_slist *headers;
	struct httpresp *resp;
	struct upway way;
	char error[CURL_ERROR_SIZE];
	char peer[INET6_ADDRSTRLEN];
	char *buf;			/* FETCH_BUFFER_BYTES */
	size_t buf_n;
	uint64_t asked_at, asked_end;	/* piece->end may have moved since */
	enum segment_verdict verdict;
	bool sent;
	bool robbed;			/* the lead has taken its piece back */
	uint64_t got;
	int64_t started_ms, quiet_ms;
	struct uprate speed;
};

enum segments_trial { TRIAL_MANY, TRIAL_ONE, TRIAL_OVER };

struct segments {
	struct fetch *ft;
	struct uphost *host;
	uint64_t total;
	uint64_t piece_bytes, piece_least;
	struct piece_list pieces;	/* what is not here is in no piece yet, or in the prefix */
	TAILQ_HEAD(segment_list, segment) running;
	unsigned running_n, limit_n;	/* limit_n: the lead included */
	unsigned held_n;		/* slots without a transfer */
	bool lead;			/* the fetch's own stream runs */
	bool on_demand;			/* the lead brings all but what readers far ahead ask for */
	bool in_order;			/* the body only grows at its end: one at a time */
	bool met;			/* the lead has come to a piece with bytes, and takes no more */
	bool landing;			/* little is on its way to the lead */
	/* The lead is paused for one segment that is to replace it; limit_was: for afterwards. */
	bool relief;
	bool proven;			/* some segment was good */
	bool spoilt;			/* what lies ahead can't be used: memory, or a failed write */
	enum reason broken;		/* the body itself can't be written */
	unsigned failures_n;
	int64_t retry_ms;		/* none is started before */
	struct uprate front;		/* of the foremost segment: only replaced_n and again_ms */

	enum segments_trial trial;
	int64_t trial_ms, started_ms, far_ms;	/* far_ms: of the last part for a reader far ahead */
	uint64_t trial_got, got, started_at;
	uint64_t lead_rate, many_rate;
	unsigned limit_was;
	unsigned requests_n;
};

/* ---- segment.c ---- */
/* Has nobody brought a byte of it yet? */
bool piece_is_empty(const struct piece *p);
/* Sends a request for the piece. It has a slot. False: out of memory. */
bool segment_start(struct segments *all, struct piece *p) MUSTCHECK;
/*
 * Writes what it has received at its place, at the end of the prefix or ahead of it. False: that
 * could not be done, see `spoilt`.
 */
bool segment_write(struct segment *sg) MUSTCHECK;
/* It is over: its piece, if incomplete, is a hole again. The slot is not touched. */
void segment_free(struct segment *sg);
/* Stops it in the middle; what it has received is written first. */
void segment_stop(struct segment *sg);
/* How long it will still need for its piece, at the rate that it showed; 0: it has shown none. */
int64_t segment_left_ms(const struct segment *sg, int64_t now_ms);
/* Does it bring nothing, or far less than connections do here while readers wait for it? */
bool segment_is_stuck(struct segment *sg);

/* ---- segments.c ---- */
/* Can the body still take parts that come before their turn? */
bool segments_usable(struct segments *all) MUSTCHECK;
/* Lets the prefix grow over what is written; complete pieces behind its end are forgotten. */
void segments_advance(struct segments *all);
/* Bytes per second of the lead since its body began. */
uint64_t segments_lead_rate(const struct fetch *ft);

/* ---- segments_pick.c ---- */
/* What the next segment is to fetch. NULL: nothing at present. */
struct piece *segments_pick(struct segments *all) MUSTCHECK;
/*
 * A reader waits for a part that no connection is left for: the one that has to give way; NULL:
 * none.
 */
struct segment *segments_pick_victim(struct segments *all) MUSTCHECK;
/* Does a reader wait for what one stream will not have for a while? */
bool segments_far_is_wanted(const struct fetch *ft);

#endif
