/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef FRESH_H
#define FRESH_H
/*
 * May a stored object be served now? A pure function of record, request and
 * clock. Repository files follow their class (see aptfile.h); everything
 * else follows RFC 9111 section 4.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/aptfile.h"

/* What the origin said about freshness when it last confirmed the object. */
struct fresh_terms {
	int64_t checked_at_s;		/* wall clock, when the answer (200 or 304) came */
	int64_t date_s;			/* its Date; checked_at_s when it had none */
	int64_t age_s;			/* its Age; 0 when none */
	int64_t lifetime_s;		/* s-maxage, max-age, Expires - Date; -1: none of them */
	int64_t last_modified_s;	/* INT64_MIN: none; for the heuristic lifetime */
	int64_t stale_if_error_s;	/* -1: not given */
	bool no_cache;			/* must be revalidated each time */
	bool must_revalidate;		/* must not be served stale */
};

struct fresh_ask {
	bool no_cache, only_if_cached;
	int64_t max_age_s;		/* -1: not given */
};

struct fresh_policy {
	int64_t now_s;
	int64_t index_max_age_s;	/* index_max_age */
	int64_t stale_if_error_s;	/* stale_if_error */
	bool offline;
};

enum fresh_verdict {
	FRESH_HIT,		/* serve it, ask nobody */
	FRESH_CHECK,		/* revalidate first; it may be served stale if that fails */
	FRESH_CHECK_STRICT,	/* revalidate first, and never serve it stale */
};

/*
 * Class rules: BYHASH and immutable PACKAGE are hits whatever the request
 * says, except no-cache, which revalidates a PACKAGE. Other PACKAGEs are hits
 * (the caller knows whether their index still names them). RELEASE and INDEX
 * are checked once older than index_max_age; max-age=0, which apt sends with
 * every index, asks for no more than that; no-cache always checks. OTHER
 * follows RFC 9111. offline: everything is a hit.
 */
enum fresh_verdict fresh_judge(const struct aptfile *af, const struct fresh_terms *t,
    const struct fresh_ask *ask, const struct fresh_policy *p);

/* Did its origin say in so many words how long it is good? */
bool fresh_is_said(const struct fresh_terms *t);

/* May a stale object be served in place of an error, now? An origin's stale-if-error beats ours. */
bool fresh_stale_ok(const struct aptfile *af, const struct fresh_terms *t,
    const struct fresh_policy *p);

/* Current age in seconds, for the Age field (RFC 9111 4.2.3). */
int64_t fresh_age(const struct fresh_terms *t, int64_t now_s);

#endif
