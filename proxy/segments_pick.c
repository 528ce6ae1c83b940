/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What the next of a body's parallel ranges is to be. In this order:
 *
 *   what the prefix lacks next, where no first stream brings it: most readers wait for that
 *   what a reader of a part far ahead waits for just now
 *   what one broke off from
 *   the next bytes of such a reader's part, before it waits for them
 *   the lowest bytes that nobody fetches, within so much of the prefix
 *   a share of what will take longest
 *
 * The last two where ranges bring the whole rest of the body. Pieces are of
 * one size, smaller towards the end, so that all segments end together; what
 * readers ask for begins and ends where they say. Where no connection is left
 * for it, the furthest one that nobody waits for gives way.
 */
#include "proxy/segment_priv.h"

#include "include/counter.h"

enum {
	SEGMENT_AHEAD_PIECES = 2,		/* for each segment, between prefix and furthest */
	SEGMENT_SPLIT_MS = 500,			/* what takes longer is shared with an idle one */
	SEGMENT_NEAR_MS = 250,			/* what is there sooner is no reader's far part */
	SEGMENT_NEAR_BYTES = 1 << 20,		/* so much of a piece comes first */
	SEGMENT_FAR_MAX = 16,			/* readers that are looked at, those who came first */
};

/* Up to where the bytes come in order; beyond it pieces may lie. */
static uint64_t
segments_here(const struct fetch *ft)
{
	return flight_committed(ft->f) + ft->buf_n;
}

/* Will one stream, at this rate, be there in a moment? */
static bool
segments_is_near(const struct fetch *ft, uint64_t at)
{
	uint64_t here = segments_here(ft);

	return at <= here || (at - here) * 1000 / (segments_lead_rate(ft) + 1) < SEGMENT_NEAR_MS;
}

bool
segments_far_is_wanted(const struct fetch *ft)
{
	struct flight_far far[SEGMENT_FAR_MAX];
	unsigned n = flight_find_far(ft->f, 1, far, NELEM(far));

	for (unsigned i = 0; i < n; i++)
		if (!segments_is_near(ft, far[i].at))
			return true;
	return false;
}

/* The lowest bytes that are in no piece; NULL: none, or too far ahead. */
static struct piece *
segments_extend(struct segments *all)
{
	uint64_t have = flight_committed(all->ft->f), at = have, left, gap, n;

	/* What is near is the lead's. */
	if (all->lead)
		at = segments_here(all->ft) + all->piece_bytes;
	at = piece_find_gap(&all->pieces, at, all->total, &gap);
	if (at >= all->total || at - have >= all->piece_bytes * SEGMENT_AHEAD_PIECES * all->limit_n)
		return NULL;
	left = all->total - at;
	gap -= at;
	n = left / (2 * (uint64_t)all->limit_n);
	if (n > all->piece_bytes)
		n = all->piece_bytes;
	if (n < all->piece_least)
		n = all->piece_least;
	if (n > gap || gap - n < all->piece_least)
		n = gap;
	return piece_add(&all->pieces, at, at + n);
}

/* All is given away: the second half of what will take longest. */
static struct piece *
segments_split(struct segments *all)
{
	struct segment *sg, *longest = NULL;
	int64_t ms, most = SEGMENT_SPLIT_MS, now = all->ft->u->now_ms;
	uint64_t from;

	TAILQ_FOREACH(sg, &all->running, link) {
		if (sg->piece == NULL ||
		    sg->piece->end - sg->piece->at - sg->buf_n < 2 * all->piece_least)
			continue;
		ms = segment_left_ms(sg, now);
		if (ms > most) {
			most = ms;
			longest = sg;
		}
	}
	if (longest == NULL)
		return NULL;
	from = longest->piece->at + longest->buf_n;
	return piece_split(&all->pieces, longest->piece, from + (longest->piece->end - from) / 2);
}

/* It is for a reader far ahead; NULL: out of memory. */
static struct piece *
segments_note_far(struct segments *all, struct piece *p)
{
	if (p == NULL)
		return NULL;
	p->wanted = true;
	COUNT(far_ranges_total);
	all->far_ms = all->ft->u->now_ms;
	return p;
}

/* The piece from this byte on, which lies in one: as it is, or its rest. NULL: it will be there. */
static struct piece *
segments_take_from(struct segments *all, struct piece *p, uint64_t at)
{
	struct segment *sg = p->by;
	uint64_t next = p->at + (sg != NULL ? sg->buf_n : 0);

	if (at <= next + SEGMENT_NEAR_BYTES)
		return sg == NULL ? p : NULL;
	if (sg != NULL && segment_left_ms(sg, all->ft->u->now_ms) < SEGMENT_SPLIT_MS)
		return NULL;
	return segments_note_far(all, piece_split(&all->pieces, p, at));
}

/* What this reader needs that nobody fetches yet. */
static struct piece *
segments_take_far(struct segments *all, const struct flight_far *far)
{
	uint64_t at = far->at, gap, end = far->end;
	struct piece *p = piece_find(&all->pieces, at);

	if (all->lead && segments_is_near(all->ft, at))
		return NULL;
	for (; p != NULL && p->first <= at; p = TAILQ_NEXT(p, link)) {
		struct piece *own = p->at < p->end ? segments_take_from(all, p, at) : NULL;

		/* Where it waits for this very byte, for nothing else. */
		if (own != NULL || far->starved)
			return own;
		at = p->end;
	}
	/* Not more than the next piece of what it reads. */
	if (at >= far->end || at - far->at >= all->piece_bytes)
		return NULL;
	at = piece_find_gap(&all->pieces, at, all->total, &gap);
	if (end > gap)
		end = gap;
	if (end - at > all->piece_bytes + all->piece_least)
		end = at + all->piece_bytes;
	if (at >= end)
		return NULL;
	return segments_note_far(all, piece_add(&all->pieces, at, end));
}

/* What readers far ahead need: those that have nothing to read, or the others. */
static struct piece *
segments_pick_far(struct segments *all, bool starved)
{
	struct flight_far far[SEGMENT_FAR_MAX];
	unsigned n = flight_find_far(all->ft->f, starved ? 1 : all->piece_bytes, far, NELEM(far));
	struct piece *p = NULL;

	for (unsigned i = 0; i < n && p == NULL; i++)
		if (far[i].starved == starved)
			p = segments_take_far(all, &far[i]);
	return p;
}

struct segment *
segments_pick_victim(struct segments *all)
{
	struct segment *sg, *furthest = NULL;

	if (all->running_n + all->lead < all->limit_n || segments_pick_far(all, true) == NULL)
		return NULL;
	/* Not what others wait for, and not what is over in a moment. */
	TAILQ_FOREACH(sg, &all->running, link)
		if (sg->piece != NULL && !sg->piece->wanted &&
		    (all->lead || sg->piece != TAILQ_FIRST(&all->pieces)) &&
		    segment_left_ms(sg, all->ft->u->now_ms) > SEGMENT_SPLIT_MS &&
		    (furthest == NULL || sg->piece->first > furthest->piece->first))
			furthest = sg;
	return furthest;
}

struct piece *
segments_pick(struct segments *all)
{
	struct piece *first = TAILQ_FIRST(&all->pieces), *p = NULL;

	if (!all->lead && (first == NULL || first->first > flight_committed(all->ft->f)))
		p = segments_extend(all);
	else if (!all->lead && piece_is_hole(first))
		p = first;
	if (p == NULL)
		p = segments_pick_far(all, true);
	if (p != NULL)
		return p;
	TAILQ_FOREACH(p, &all->pieces, link)
		if (piece_is_hole(p))
			return p;
	p = segments_pick_far(all, false);
	if (p == NULL && !all->on_demand)
		p = segments_extend(all);
	if (p == NULL && !all->on_demand)
		p = segments_split(all);
	return p;
}
