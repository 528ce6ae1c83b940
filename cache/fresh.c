/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * May a stored object be served now? The cache's lookup asks for every
 * candidate hit, and again when a check upstream has failed. Pure: the clock
 * comes in with the policy.
 *
 * Every number of an origin is clamped before it is added to another: Age and
 * max-age are whatever the peer wrote. only-if-cached changes no verdict here;
 * whoever would have asked upstream answers 504 instead.
 */
#include "include/fresh.h"

#include "include/obj.h"

enum {
	FRESH_MAX_S = INT32_MAX,	/* "a very long time": RFC 9111 1.2.2 */
	FRESH_HEURISTIC_MAX_S = 86400,
};

/* Seconds from 0 to FRESH_MAX_S. */
static int64_t
fresh_clamp(int64_t s)
{
	return s < 0 ? 0 : s > FRESH_MAX_S ? FRESH_MAX_S : s;
}

/* later - earlier, clamped; 0 when a clock went back. */
static int64_t
fresh_since(int64_t later_s, int64_t earlier_s)
{
	int64_t diff;

	if (later_s <= earlier_s)
		return 0;
	if (__builtin_sub_overflow(later_s, earlier_s, &diff))
		return FRESH_MAX_S;
	return fresh_clamp(diff);
}

int64_t
fresh_age(const struct fresh_terms *t, int64_t now_s)
{
	int64_t apparent = fresh_since(t->checked_at_s, t->date_s);
	int64_t claimed = fresh_clamp(t->age_s);

	return fresh_clamp((apparent > claimed ? apparent : claimed) +
	    fresh_since(now_s, t->checked_at_s));
}

/* What the origin gave, or a tenth of the time it had not changed (RFC 9111 4.2.2). */
static int64_t
fresh_lifetime(const struct aptfile *af, const struct fresh_terms *t)
{
	int64_t tenth;

	if (t->lifetime_s >= 0)
		return fresh_clamp(t->lifetime_s);
	if (t->last_modified_s == INT64_MIN || af->is_volatile)
		return 0;
	tenth = fresh_since(t->date_s, t->last_modified_s) / 10;
	return tenth < FRESH_HEURISTIC_MAX_S ? tenth : FRESH_HEURISTIC_MAX_S;
}

/* RELEASE and INDEX: by the time since upstream last confirmed them, whatever its fields say. */
static enum fresh_verdict
fresh_judge_index(const struct fresh_terms *t, const struct fresh_ask *ask,
    const struct fresh_policy *p)
{
	if (ask->no_cache)
		return FRESH_CHECK;
	/* A check in the future means that the clock was set back: it proves nothing. */
	if (p->now_s < t->checked_at_s)
		return FRESH_CHECK;
	if (fresh_since(p->now_s, t->checked_at_s) < p->index_max_age_s)
		return FRESH_HIT;
	return FRESH_CHECK;
}

/* Everything else: RFC 9111 4.2, 5.2.1 and 5.2.2. */
static enum fresh_verdict
fresh_judge_other(const struct aptfile *af, const struct fresh_terms *t,
    const struct fresh_ask *ask, const struct fresh_policy *p)
{
	int64_t age = fresh_age(t, p->now_s);
	bool fresh = p->now_s >= t->checked_at_s && fresh_lifetime(af, t) > age;

	if (t->no_cache)
		return FRESH_CHECK_STRICT;
	if (!fresh)
		return t->must_revalidate ? FRESH_CHECK_STRICT : FRESH_CHECK;
	/* max-age=0 is how clients spell "revalidate", also within the answer's first second. */
	if (ask->no_cache || ask->max_age_s == 0 || (ask->max_age_s > 0 && age > ask->max_age_s))
		return FRESH_CHECK;
	return FRESH_HIT;
}

bool
fresh_is_said(const struct fresh_terms *t)
{
	return t->lifetime_s >= 0 || t->no_cache;
}

enum fresh_verdict
fresh_judge(const struct aptfile *af, const struct fresh_terms *t, const struct fresh_ask *ask,
    const struct fresh_policy *p)
{
	if (p->offline)
		return FRESH_HIT;
	switch (af->class) {
	case APTFILE_BYHASH:
		return FRESH_HIT;
	case APTFILE_PACKAGE:
		return ask->no_cache ? FRESH_CHECK : FRESH_HIT;
	case APTFILE_RELEASE:
	case APTFILE_INDEX:
		return fresh_judge_index(t, ask, p);
	case APTFILE_OTHER:
		return fresh_judge_other(af, t, ask, p);
	}
	WRONG("not an aptfile_class");
}

bool
fresh_stale_ok(const struct aptfile *af, const struct fresh_terms *t,
    const struct fresh_policy *p)
{
	int64_t limit = p->stale_if_error_s, stale;

	if (p->offline)
		return true;
	switch (af->class) {
	case APTFILE_BYHASH:
	case APTFILE_PACKAGE:
		return true;	/* age says nothing about these */
	case APTFILE_RELEASE:
	case APTFILE_INDEX:
		return limit > 0 && fresh_since(p->now_s, t->checked_at_s) <= limit;
	case APTFILE_OTHER:
		break;
	}
	if (t->no_cache)
		return false;
	stale = fresh_age(t, p->now_s) - fresh_lifetime(af, t);
	if (stale < 0)
		return true;	/* only the request wanted a check */
	if (t->stale_if_error_s >= 0)	/* the origin knows its object better than we do */
		limit = t->stale_if_error_s;
	return !t->must_revalidate && limit > 0 && stale <= limit;
}
