/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What becomes of a flight's body once the verifier has read it (verify.c,
 * whose thread calls most of this): shown to the end, stored, or wrong and
 * fetched again. See include/flight.h for the story.
 *
 *   verify.c -> flight_digest_ok -> sync.c -> flight_store -> index writer -> flight_stored
 *            -> flight_digest_bad -> the writer (verdict) -> flight_restart, or flight_fail
 */
#include "cache/flight_priv.h"

#include <stdio.h>
#include <unistd.h>

#include "cache/repo.h"
#include "cache/stage.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

bool
flight_tell_writer(struct flight *f)
{
	if (f->driver.verdict == NULL)
		return false;
	f->driver.verdict(f->driver.arg);
	return true;
}

void
flight_hashed(struct flight *f)
{
	if (!flight_ring_is_full(flight_body(f)))
		return;
	AZ(pthread_mutex_lock(&f->lock));
	flight_ring_moved(f);
	AZ(pthread_mutex_unlock(&f->lock));
}

void
flight_not_digested(struct flight *f)
{
	AZ(pthread_mutex_lock(&f->lock));
	f->digested = false;
	flight_ring_moved(f);
	AZ(pthread_mutex_unlock(&f->lock));
}

/* Puts the body in the place of a wrong one that was shown before (lock held). */
static void
flight_show(struct flight *f)
{
	struct flight_body *old = flight_shown(f), *new = flight_body(f);
	uint64_t n = flight_committed(f), compared = flight_visible(f);

	if (old == new)
		return;
	/* Nothing is known of bytes that only one of them has, or that came before their turn. */
	if (n < compared)
		compared = n;
	if (compared < atomic_load(&f->diverges_at))
		atomic_store(&f->diverges_at, compared);
	/* In this order: who sees the new bytes asks flight_follow before it reads any. */
	atomic_store_explicit(&f->shown, new, memory_order_release);
	atomic_store_explicit(&f->visible, n, memory_order_release);
	if (old->readers_n == 0)
		flight_body_close(f, old);
}

/* Every byte may be read. False: it failed meanwhile (the depot stops), and stays so. */
static bool
flight_complete(struct flight *f)
{
	bool ok;

	AZ(pthread_mutex_lock(&f->lock));
	ok = !f->ending;
	if (ok) {
		f->verified = true;
		flight_show(f);
		flight_note_total(f);
		flight_publish(f);
		flight_set_state(f, FLIGHT_COMPLETE);
		(void)flight_tell_writer(f);
	}
	AZ(pthread_mutex_unlock(&f->lock));
	return ok;
}

/* Durability and index, or out of the table at once. */
static void
flight_pass_on(struct flight *f)
{
	if (f->keep)
		sync_submit(cache_parts(f->cache)->sync, f);
	else {
		cache_unlist(f);
		flight_settle(f);
	}
}

void
flight_digest_ok(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (f->gated) {
		stage_submit(cache_parts(f->cache)->stage, f);
		return;
	}
	if (!f->expected || flight_complete(f))
		flight_pass_on(f);
}

void
flight_store_gated(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->gated);
	if (f->keep)
		sync_submit(cache_parts(f->cache)->sync, f);
	else
		flight_settle(f);
}

void
flight_open_gate(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->gated);
	if (!flight_complete(f))
		return;
	if (flight_is_settled(f) || !f->keep)
		cache_unlist(f);
	else
		flight_pass_on(f);
}

/* Whoever has wrong bytes may come back with their validators, whenever that is. False: nobody new. */
static bool
flight_mark(struct flight *f)
{
	if (flight_visible(f) == 0 || atomic_exchange(&f->marked, true) || f->private_)
		return false;
	index_mark_wrong(cache_parts(f->cache)->index, &f->key);
	return true;
}

const uint8_t *
flight_digest(const struct flight *f)
{
	return f->digest;
}

void
flight_expected_text(const struct flight *f, char *out, size_t cap)
{
	static const unsigned sizes[] = {
		[APTFILE_MD5] = 16, [APTFILE_SHA1] = 20, [APTFILE_SHA256] = 32, [APTFILE_SHA512] = 64,
	};
	static const char *const names[] = {
		[APTFILE_MD5] = "MD5", [APTFILE_SHA1] = "SHA1",
		[APTFILE_SHA256] = "SHA256", [APTFILE_SHA512] = "SHA512",
	};
	size_t at;

	MUST(f->expected && cap > 160);
	at = (size_t)snprintf(out, cap, "%s:", names[f->expect.hash]);
	key_hex_of(f->expect.digest, sizes[f->expect.hash], out + at);
}

void
flight_digest_bad(struct flight *f, const char *got_hex)
{
	char want[192];
	bool told;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	/* Before a reader is cut and comes back, perhaps after a kill: the verifier may wait for it. */
	if (flight_mark(f))
		index_flush(cache_parts(f->cache)->index);
	AZ(pthread_mutex_lock(&f->lock));
	told = flight_tell_writer(f);
	AZ(pthread_mutex_unlock(&f->lock));
	if (told)
		return;
	COUNT(digest_mismatches_total);
	flight_expected_text(f, want, sizeof(want));
	log_warning("flight=%llu %.*s has the digest SHA256:%s, expected %s: not kept",
	    (unsigned long long)f->id, SLICE_ARG(f->url), got_hex, want);
	flight_fail(f, REASON_UP_DIGEST, 0, false, "the bytes that the upstream sent for %.*s "
	    "have the digest SHA256:%s, expected is %s", SLICE_ARG(f->url), got_hex, want);
}

void
flight_doubt(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->expected && f->begun);
	(void)flight_mark(f);
	atomic_store(&f->doubted, true);
	verify_poke(cache_parts(f->cache)->verify, f);
}

void
flight_doubt_settled(struct flight *f)
{
	bool told;

	if (f->marked)
		index_flush(cache_parts(f->cache)->index);
	AZ(pthread_mutex_lock(&f->lock));
	told = flight_tell_writer(f);
	AZ(pthread_mutex_unlock(&f->lock));
	if (!told)
		flight_fail(f, REASON_UP_DIGEST, 0, false, "%s", reason_text(REASON_UP_DIGEST));
}

void
flight_restart(struct flight *f)
{
	struct flight_body *next = flight_body(f);

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->expected && (!f->begun || f->settled));
	MUST(!f->in_memory || flight_state(f) == FLIGHT_WAITING);
	if (f->begun)
		flight_end_partial(f, false);
	else if (f->partial_bytes > 0)
		flight_drop_partial(f);
	flight_forget_digests(f);
	AZ(pthread_mutex_lock(&f->lock));
	if (flight_state(f) == FLIGHT_STREAMING)
		flight_set_state(f, FLIGHT_HELD);
	/* What readers were shown stays as it is; what nobody saw goes. */
	if (flight_state(f) == FLIGHT_HELD && next == flight_shown(f))
		next = &f->bodies[next == &f->bodies[0]];
	flight_body_clear(f, next);
	atomic_store(&f->diverges_at, UINT64_MAX);
	f->islands_n = 0;
	atomic_store_explicit(&f->body, next, memory_order_release);
	atomic_store_explicit(&f->committed, 0, memory_order_release);
	f->begun = false;
	AZ(pthread_mutex_unlock(&f->lock));
	atomic_store(&f->in_memory, false);
	f->reserved_bytes = 0;
	f->journal = false;
	atomic_store(&f->writer_done, false);
	atomic_store(&f->doubted, false);
	/* Last: from here on the verifier may look again. */
	atomic_store(&f->settled, false);
}

void
flight_let_go(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	if (flight_state(f) == FLIGHT_HELD) {
		atomic_store(&flight_shown(f)->lost, true);
		flight_wake_readers(f, UINT64_MAX);
	}
	AZ(pthread_mutex_unlock(&f->lock));
}

bool
flight_validators_shared(const struct flight *f)
{
	return atomic_load(&f->marked);
}

void
flight_verify_failed(struct flight *f, enum reason r)
{
	COUNT(store_failures_total);
	log_error("flight=%llu %.*s could not be read back for its digest: %s; not kept",
	    (unsigned long long)f->id, SLICE_ARG(f->url), reason_text(r));
	flight_fail(f, r, 0, false, "%s", reason_text(r));
	AZ(pthread_mutex_lock(&f->lock));
	(void)flight_tell_writer(f);
	AZ(pthread_mutex_unlock(&f->lock));
	if (flight_state(f) == FLIGHT_COMPLETE) {
		/* Its readers have every byte; it is only not kept. */
		flight_end_partial(f, false);
		cache_unlist(f);
		flight_settle(f);
	}
}

/* The index has the body or could not take it: either way the flight's work is done. */
static void
flight_store_end(struct flight *f, enum reason r)
{
	if (r != REASON_OK) {
		COUNT(store_failures_total);
		log_error("flight=%llu %.*s was fetched but could not be stored: %s",
		    (unsigned long long)f->id, SLICE_ARG(f->url), reason_text(r));
	} else
		log_debug("flight=%llu stored %.*s", (unsigned long long)f->id, SLICE_ARG(f->url));
	flight_uncount(f, flight_body(f));
	atomic_store_explicit(&f->is_stored, r == REASON_OK, memory_order_release);
	if (r == REASON_OK && (f->af.class == APTFILE_INDEX || f->af.class == APTFILE_BYHASH))
		stage_note_stored(cache_parts(f->cache)->stage, f->digest);
	evict_kick(cache_parts(f->cache)->evict);
	/* A gated one stays findable until its generation is what lookups find. */
	if (!f->gated || flight_state(f) == FLIGHT_COMPLETE)
		cache_unlist(f);
	flight_settle(f);
	flight_unref(&f);
}

/* Eviction has looked for room on a full disk. */
static void
flight_room(void *arg, bool freed)
{
	struct flight *f = arg;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (freed) {
		flight_store(f);
		flight_unref(&f);
	} else
		flight_store_end(f, REASON_NO_DISK);
}

/* A short body meets a full disk here, and is in memory still: it waits for room, once. */
static void
flight_stored(void *arg, enum reason r)
{
	struct flight *f = arg;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (r != REASON_NO_DISK || flight_body(f)->bytes == NULL || f->room.done != NULL) {
		flight_store_end(f, r);
		return;
	}
	COUNT(store_waits_total);
	f->room = (struct evict_wish){.want_bytes = flight_committed(f), .done = flight_room, .arg = f};
	evict_wait_for_room(cache_parts(f->cache)->evict, &f->room);
}

/* What the index is told of it. */
static struct object_rec
flight_record(const struct flight *f)
{
	const struct flight_head *h = &flight_body(f)->head;
	struct object_rec rec = {
		.size_bytes = flight_committed(f),
		.stored_at_ms = clock_wall_ms(),
		.checked_at_ms = h->checked_at_ms,
		.class = f->af.class,
		.from_credentials = f->from_credentials,
		.validators_shared = f->marked,
		.terms = h->terms,
		.url = f->url, .etag = h->etag, .fields = h->fields,
		.from = h->from,
	};

	rec.from.proof = !f->expected ? PROVENANCE_UNPROVEN : f->af.class == APTFILE_BYHASH ?
	    PROVENANCE_NAME : PROVENANCE_LISTED;
	memcpy(rec.digest, f->digest, sizeof(rec.digest));
	return rec;
}

void
flight_link(struct flight *f, const struct key *key)
{
	struct object_rec rec = flight_record(f);

	index_link(cache_parts(f->cache)->index, key, &rec, NULL, NULL);
}

/*
 * The index that names this package was read while it was being fetched:
 * what does it say now? False: something else. *named: that, under this key.
 */
static bool
flight_check_late(struct flight *f, struct key *key, bool *named)
{
	char room[8192];
	struct flight_expect e;
	struct arena a;
	struct url url;

	*named = false;
	arena_init(&a, room, sizeof(room));
	if (f->expected || !aptfile_may_be_package(&f->af) ||
	    url_parse(&url, &a, f->url) != REASON_OK ||
	    !repo_late_expect(cache_parts(f->cache)->repos, &url, &f->af, &e) ||
	    e.hash != APTFILE_SHA256)
		return true;
	if (memcmp(e.digest, f->digest, 32) != 0)
		return false;
	repo_version_key(f->url, &e, key);
	*named = true;
	return true;
}

void
flight_store(struct flight *f)
{
	struct object_rec rec = flight_record(f);
	struct key key;
	bool named;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (flight_check_late(f, &key, &named)) {
		if (named)
			rec.from.proof = PROVENANCE_LISTED;
		index_store_bytes(cache_parts(f->cache)->index, &f->key, &rec, flight_body(f)->bytes,
		    flight_stored, flight_ref(f));
		if (named)
			flight_link(f, &key);
		return;
	}
	COUNT(digest_mismatches_total);
	log_warning("flight=%llu %.*s is not what its repository says by now: not kept",
	    (unsigned long long)f->id, SLICE_ARG(f->url));
	flight_end_partial(f, false);
	flight_uncount(f, flight_body(f));
	cache_unlist(f);
	flight_settle(f);
}
