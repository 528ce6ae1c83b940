/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What becomes of a fetch whose object has an expected digest. When all has
 * come it waits in state VERIFY for the verifier's word. Bytes that are not
 * the expected ones (or an answer that can't have them: another length) are
 * asked for again, on a new connection and past caches on the way; readers
 * are held meanwhile, but not for ever. The same wrong bytes twice are what
 * this origin has: that is remembered for a while, and nobody asks. A Release
 * waits in the same state for its repository's word. Called by fetch.c on the
 * upstream thread.
 */
#include <stdio.h>

#include "include/cache.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "proxy/segment.h"
#include "proxy/upstream_priv.h"

/* The flight's call, under its lock, from the verifier's thread. */
void
fetch_verdict(void *arg)
{
	struct fetch *ft = arg;

	if (!atomic_exchange(&ft->verdict_posted, true))
		mailbox_post(&ft->u->mailbox, &ft->verdict);
}

/* The flight failed without us. */
static void
fetch_take_failure(struct fetch *ft)
{
	if (flight_reason(ft->f) == REASON_REPO_OLDER)
		fetch_avoid_address(ft, "shows an older Release");
	fetch_over(ft);
}

void
fetch_await_verdict(struct fetch *ft)
{
	segments_free(&ft->segments);
	fetch_end_try(ft);
	fetch_set_state(ft, FETCH_VERIFY);
	/* A body that can't be read back may fail before its last bytes: no other verdict comes. */
	if (flight_state(ft->f) == FLIGHT_FAILED)
		fetch_take_failure(ft);
}

/* Forgets everything about what came, and asks anew. */
static void
fetch_start_over(struct fetch *ft, int64_t pause_ms)
{
	flight_restart(ft->f);
	fetch_end_try(ft);
	/*
	 * A by-hash name that gave wrong bytes is not asked for again: the file's own name is. One that
	 * was missing may be there after a pause.
	 */
	ft->alternate_bad |= !ft->alternate_gone;
	ft->alternate_gone = ft->alternate_bad || pause_ms == 0;
	fetch_go_home(ft);
	ft->begun = ft->check = ft->wrong_answer = false;
	ft->partial_bytes = 0;
	ft->want_total = -1;
	ft->want.etag[0] = '\0';
	ft->want.last_modified_s = INT64_MIN;
	ft->no_cache = ft->fresh = true;
	ft->no_segments = true;		/* so that one address answers for all of it */
	ft->tries_n = ft->timeouts_n = 0;
	ft->progress_ms = ft->u->now_ms;
	fetch_pause(ft, pause_ms);
}

bool
fetch_may_wait(struct fetch *ft, enum reason r)
{
	int64_t until_ms = ft->wait_until_ms;
	/* Trouble upstream (5xx) says nothing about what it has: fetch_again has tried. */
	bool is_missing = r == REASON_UP_DIGEST || r == REASON_UP_CHANGED ||
	    r == REASON_UP_NOT_FOUND || r == REASON_UP_GONE;

	/* A body that had begun goes on, or its verifier has let go of it. */
	if (ft->begun && ft->state != FETCH_VERIFY)
		return false;
	if (until_ms == 0 && is_missing)
		until_ms = flight_wait_until(ft->f, ft->wait_ms, ft->u->now_ms);
	if (ft->u->now_ms + FETCH_LOOK_MS > until_ms) {
		if (ft->wait_until_ms != 0)
			COUNT(index_waits_in_vain_total);
		return false;
	}
	if (ft->wait_until_ms != 0)
		return true;
	COUNT(index_waits_total);
	ft->wait_until_ms = until_ms;
	ft->wait_reason = r;
	log_info("flight=%llu %.*s: its Release lists it, upstream has it not: held for %lld ms at most",
	    (unsigned long long)flight_id(ft->f), SLICE_ARG(flight_url(ft->f)),
	    (long long)(until_ms - ft->u->now_ms));
	return true;
}

void
fetch_look(struct fetch *ft)
{
	COUNT(index_looks_total);
	/* What came first is what this origin has. */
	if (ft->wrong_n > 1)
		ft->wrong_n = 1;
	fetch_start_over(ft, FETCH_LOOK_MS);
}

bool
fetch_check_look(struct fetch *ft)
{
	if (ft->wait_until_ms == 0 || ft->plan != PLAN_NONE || ft->u->now_ms < ft->wait_until_ms)
		return false;
	fetch_break_off(ft, REASON_UP_TIMEOUT, "upstream has not what its Release lists, and took too "
	    "long to answer when asked again");
	return true;
}

/*
 * What came is wrong: ft->wrong[ft->wrong_n] tells the kind, ft->wrong_text says it in words. Asks
 * again, at once or later, or fails.
 */
static void
fetch_judge_wrong(struct fetch *ft)
{
	char want[192];
	bool same = false, late, again, wait, enough;
	unsigned i;

	for (i = 0; i < ft->wrong_n; i++)
		same |= memcmp(&ft->wrong[i], &ft->wrong[ft->wrong_n], sizeof(ft->wrong[i])) == 0;
	if (ft->wrong_n++ == 0)
		ft->wrong_ms = ft->u->now_ms;
	late = ft->u->now_ms - ft->wrong_ms >= FETCH_HELD_MS;
	COUNT(digest_mismatches_total);
	flight_expected_text(ft->f, want, sizeof(want));
	/* What was passed on without being kept can't be compared with anything. */
	late |= flight_passes_through(ft->f) && flight_state(ft->f) != FLIGHT_WAITING;
	/* A look makes one request for each name: who wants more repeats it, twice a second at most. */
	enough = ft->look && (ft->alternate_gone || flight_alternate(ft->f) == NULL);
	again = !same && !late && !enough && ft->wrong_n < FETCH_WRONG_MAX && ft->wait_until_ms == 0;
	wait = !again && !late && fetch_may_wait(ft, REASON_UP_DIGEST);
	log_warning("flight=%llu %.*s from %s: %s, expected %s: %s",
	    (unsigned long long)flight_id(ft->f), SLICE_ARG(flight_url(ft->f)), ft->address,
	    ft->wrong_text, want, again ? "asking again" : wait ? "asking again later" :
	    same ? "the same again, giving up" : "giving up");
	upstream_note_bad_address(ft->u, &ft->url, ft->address);
	if (again || wait)
		COUNT(digest_refetches_total);
	if (again) {
		fetch_start_over(ft, 0);
		return;
	}
	if (wait) {
		fetch_look(ft);
		return;
	}
	if (same && !flight_is_private(ft->f))
		cache_note_digest(ft->u->depot->cache, flight_key(ft->f),
		    flight_aptfile(ft->f)->class, ft->u->now_ms);
	fetch_fail(ft, REASON_UP_DIGEST, 0, "%s from %.*s (%s), expected %s", ft->wrong_text,
	    SLICE_ARG(ft->url.authority), ft->address, want);
}

void
fetch_verdict_mail(struct mail *m)
{
	struct fetch *ft = CONTAINER_OF(m, struct fetch, verdict);
	char hex[KEY_HEX_BYTES];

	CHECK_OBJ(ft, FETCH_MAGIC);
	atomic_store(&ft->verdict_posted, false);
	if (ft->dead) {
		fetch_free_when_quiet(ft);
		return;
	}
	if (ft->state != FETCH_VERIFY)
		return;		/* it failed on its own; the writer will see */
	ft->u->now_ms = clock_mono_ms();
	switch (flight_state(ft->f)) {
	case FLIGHT_COMPLETE:
		if (ft->wrong_n > 0)
			COUNT(digest_healed_total);
		fetch_over(ft);
		return;
	case FLIGHT_FAILED:
		fetch_take_failure(ft);
		return;
	case FLIGHT_WAITING:
	case FLIGHT_STREAMING:
	case FLIGHT_HELD:
		break;
	case FLIGHT_CONFIRMED:
		WRONG("a verdict on a confirmed flight");
	}
	if (!ft->wrong_answer) {
		memcpy(ft->wrong[ft->wrong_n].b, flight_digest(ft->f), KEY_BYTES);
		key_hex(flight_digest(ft->f), hex);
		(void)snprintf(ft->wrong_text, sizeof(ft->wrong_text),
		    "the bytes have the digest SHA256:%s", hex);
	}
	fetch_judge_wrong(ft);
}

bool
fetch_heal_answer(struct fetch *ft)
{
	if (flight_expected(ft->f) == NULL ||
	    (ft->fail_reason != REASON_UP_DIGEST && ft->fail_reason != REASON_UP_CHANGED))
		return false;
	(void)snprintf(ft->wrong_text, sizeof(ft->wrong_text), "%s", ft->fail_detail);
	key_of_text(slice_of(ft->wrong_text), &ft->wrong[ft->wrong_n]);
	/* That it changed again says nothing about what comes next. */
	if (ft->fail_reason == REASON_UP_CHANGED)
		ft->wrong[ft->wrong_n].b[0] ^= (uint8_t)(ft->wrong_n + 1);
	ft->wrong_answer = true;
	if (ft->begun) {
		/* The verifier may be at it. */
		flight_doubt(ft->f);
		fetch_await_verdict(ft);
	} else
		fetch_judge_wrong(ft);
	return true;
}

void
fetch_check_held(struct fetch *ft)
{
	if (ft->wrong_n == 0 || ft->let_go || ft->u->now_ms - ft->wrong_ms < FETCH_HELD_MS)
		return;
	ft->let_go = true;
	log_info("flight=%llu %.*s: the right bytes take too long: cutting who has wrong ones",
	    (unsigned long long)flight_id(ft->f), SLICE_ARG(flight_url(ft->f)));
	flight_let_go(ft->f);
}
