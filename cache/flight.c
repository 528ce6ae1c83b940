/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One object being fetched: its life and its state. See include/flight.h for
 * the story. cache.c makes flights and keeps the table; the upstream thread
 * writes (flight_body.c); workers read (flight_reader.c); verify.c, sync.c and
 * the index writer take a finished body the rest of its way (flight_verdict.c).
 *
 * The lock guards the list of readers and changes of state; bytes are
 * published by release stores, so readers look without it.
 */
#include "cache/flight_priv.h"

#include <stdarg.h>
#include <stdio.h>

#include "cache/repo.h"
#include "cache/stage.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	FLIGHT_SILENT_MS = 10000,	/* for so long its clients may get nothing of a body that grows */
	FLIGHT_YIELD_PART = 4,		/* then they get one part of so many of what is withheld */
};

static _Atomic uint64_t flight_ids;

static const char *const flight_state_names[] = {
	[FLIGHT_WAITING] = "waiting", [FLIGHT_STREAMING] = "streaming",
	[FLIGHT_HELD] = "held",
	[FLIGHT_COMPLETE] = "complete", [FLIGHT_CONFIRMED] = "confirmed",
	[FLIGHT_FAILED] = "failed",
};

const char *
flight_state_name(enum flight_state s)
{
	MUST((unsigned)s < NELEM(flight_state_names));
	return flight_state_names[s];
}

/* The digest that a by-hash name promises, as bytes. */
static void
flight_expect_name(struct flight *f)
{
	if (f->af.class != APTFILE_BYHASH)
		return;
	MUST(f->af.hash_hex.n <= 2 * sizeof(f->expect.digest));
	MUST(slice_read_hex(f->af.hash_hex, f->expect.digest, f->af.hash_hex.n / 2));
	f->expect.hash = f->af.hash;
	f->expect.size_bytes = -1;
	f->expected = true;
}

/* A new WAITING flight with one reference. NULL: out of memory. */
struct flight *
flight_new(struct cache *c, const struct url *url, const struct key *key,
    const struct flight_expect *expect, bool private_)
{
	struct flight *f;
	char *text;

	OBJ_NEW(f, FLIGHT_MAGIC);
	text = malloc(url->text.n + 1);
	if (f == NULL || text == NULL) {
		free(f);
		free(text);
		return NULL;
	}
	memcpy(text, url->text.p, url->text.n);
	text[url->text.n] = '\0';
	f->url = (struct slice){text, url->text.n};
	f->cache = c;
	f->key = *key;
	f->private_ = private_;
	f->id = atomic_fetch_add(&flight_ids, 1) + 1;
	f->started_ms = f->given_ms = clock_mono_ms();
	f->withheld_bytes = FLIGHT_WITHHELD_BYTES;
	f->validators.last_modified_s = INT64_MIN;
	flight_body_init(&f->bodies[0]);
	flight_body_init(&f->bodies[1]);
	atomic_init(&f->body, &f->bodies[0]);
	atomic_init(&f->shown, &f->bodies[0]);
	atomic_init(&f->diverges_at, UINT64_MAX);
	atomic_init(&f->refs, 1);
	atomic_init(&f->state, FLIGHT_WAITING);
	AZ(pthread_mutex_init(&f->lock, NULL));
	TAILQ_INIT(&f->readers);
	aptfile_classify(&f->af, (struct slice){text + (url->path.p - url->text.p), url->path.n});
	if (expect != NULL) {
		f->expect = *expect;
		f->expected = true;
	} else
		flight_expect_name(f);
	return f;
}

struct flight *
flight_ref(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	(void)atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	return f;
}

/* Frees what the last reference held. */
static void
flight_free(struct flight *f)
{
	MUST(TAILQ_EMPTY(&f->readers));
	MUST(!f->listed && !f->in_verify);
	flight_body_clear(f, &f->bodies[0]);
	flight_body_clear(f, &f->bodies[1]);
	EVP_MD_CTX_free(f->sha256);
	EVP_MD_CTX_free(f->named);
	AZ(pthread_mutex_destroy(&f->lock));
	stage_unread_end(cache_parts(f->cache)->stage, &f->unread);
	free(f->islands);
	free(f->partial_text);
	free(f->alternate);
	repo_gen_unref(&f->gen);
	free(f->detail);
	free(f->challenge);
	free((void *)(uintptr_t)f->url.p);
	OBJ_FREE(f);
}

void
flight_unref(struct flight **f_p)
{
	struct flight *f = *f_p;

	*f_p = NULL;
	if (f == NULL)
		return;
	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
		flight_free(f);
}

struct flight_body *
flight_body(const struct flight *f)
{
	return atomic_load_explicit(&f->body, memory_order_acquire);
}

struct flight_body *
flight_shown(const struct flight *f)
{
	return atomic_load_explicit(&f->shown, memory_order_acquire);
}

enum flight_state
flight_state(const struct flight *f)
{
	return (enum flight_state)atomic_load_explicit(&f->state, memory_order_acquire);
}

uint64_t
flight_visible(const struct flight *f)
{
	return atomic_load_explicit(&f->visible, memory_order_acquire);
}

bool
flight_is_whole(const struct flight *f)
{
	enum flight_state s = flight_state(f);
	int64_t total = atomic_load(&flight_shown(f)->total);

	return s == FLIGHT_COMPLETE || (s == FLIGHT_STREAMING && total >= 0 &&
	    flight_visible(f) == (uint64_t)total);
}

uint64_t
flight_committed(const struct flight *f)
{
	return atomic_load_explicit(&f->committed, memory_order_acquire);
}

int64_t
flight_total(const struct flight *f)
{
	return atomic_load_explicit(&flight_body(f)->total, memory_order_acquire);
}

int
flight_fd(const struct flight *f)
{
	return atomic_load_explicit(&flight_body(f)->fd, memory_order_acquire);
}

const struct flight_head *
flight_head(const struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	switch (flight_state(f)) {
	case FLIGHT_STREAMING:
	case FLIGHT_HELD:
	case FLIGHT_COMPLETE:
	case FLIGHT_CONFIRMED:
		return &flight_shown(f)->head;
	case FLIGHT_WAITING:
		return NULL;
	case FLIGHT_FAILED:
		return flight_shown(f)->head_text != NULL ? &flight_shown(f)->head : NULL;
	}
	WRONG("flight state");
}

enum reason
flight_reason(const struct flight *f)
{
	MUST(flight_state(f) == FLIGHT_FAILED);
	return f->reason;
}

int
flight_upstream_status(const struct flight *f)
{
	MUST(flight_state(f) == FLIGHT_FAILED);
	return f->upstream_status;
}

const char *
flight_challenge(const struct flight *f)
{
	MUST(flight_state(f) == FLIGHT_FAILED);
	return f->challenge != NULL ? f->challenge : "";
}

void
flight_set_credentials(struct flight *f)
{
	f->from_credentials = true;
}

void
flight_set_challenge(struct flight *f, const char *challenge)
{
	free(f->challenge);
	f->challenge = challenge[0] != '\0' ? strdup(challenge) : NULL;
}

unsigned
flight_retry_after(const struct flight *f)
{
	MUST(flight_state(f) == FLIGHT_FAILED);
	return f->retry_after_s;
}

void
flight_set_retry_after(struct flight *f, unsigned s)
{
	f->retry_after_s = s;
}

const char *
flight_detail(const struct flight *f)
{
	MUST(flight_state(f) == FLIGHT_FAILED);
	return f->detail != NULL ? f->detail : reason_text(f->reason);
}

uint64_t
flight_id(const struct flight *f)
{
	return f->id;
}

struct slice
flight_url(const struct flight *f)
{
	return f->url;
}

const struct key *
flight_key(const struct flight *f)
{
	return &f->key;
}

const struct aptfile *
flight_aptfile(const struct flight *f)
{
	return &f->af;
}

const struct flight_expect *
flight_expected(const struct flight *f)
{
	return f->expected ? &f->expect : NULL;
}

bool
flight_is_gated(const struct flight *f)
{
	return f->gated;
}

const char *
flight_alternate(const struct flight *f)
{
	return f->alternate;
}

int64_t
flight_wait_until(const struct flight *f, int64_t wait_ms, int64_t now_ms)
{
	return f->gen != NULL ? repo_gen_wait(f->gen, wait_ms, now_ms) : 0;
}

bool
flight_is_private(const struct flight *f)
{
	return f->private_;
}

bool
flight_passes_through(const struct flight *f)
{
	return atomic_load(&f->in_memory);
}

bool
flight_validators(const struct flight *f, struct cache_validators *out)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (f->has_validators)
		*out = f->validators;
	return f->has_validators;
}

bool
flight_is_stored(const struct flight *f)
{
	return atomic_load_explicit(&f->is_stored, memory_order_acquire);
}

bool
flight_is_settled(const struct flight *f)
{
	return atomic_load_explicit(&f->is_settled, memory_order_acquire);
}

/* ---- the one place where the state changes (lock held) ---- */

void
flight_set_state(struct flight *f, enum flight_state to)
{
	enum flight_state from = flight_state(f);

	switch (to) {
	case FLIGHT_WAITING:
		WRONG("a flight never waits again");
	case FLIGHT_STREAMING:
	case FLIGHT_CONFIRMED:
		MUST(from == FLIGHT_WAITING);
		break;
	case FLIGHT_HELD:
		MUST(from == FLIGHT_STREAMING);
		break;
	case FLIGHT_COMPLETE:
		MUST(from == FLIGHT_WAITING || from == FLIGHT_STREAMING || from == FLIGHT_HELD);
		break;
	case FLIGHT_FAILED:
		MUST(from != FLIGHT_FAILED && from != FLIGHT_CONFIRMED && from != FLIGHT_COMPLETE);
		break;
	}
	atomic_store_explicit(&f->state, to, memory_order_release);
	flight_wake_readers(f, UINT64_MAX);
	log_debug("flight=%llu %s -> %s committed=%llu", (unsigned long long)f->id,
	    flight_state_name(from), flight_state_name(to),
	    (unsigned long long)flight_committed(f));
}

void
flight_settle(struct flight *f)
{
	AZ(pthread_mutex_lock(&f->lock));
	stage_unread_end(cache_parts(f->cache)->stage, &f->unread);
	atomic_store_explicit(&f->is_settled, true, memory_order_release);
	flight_wake_readers(f, UINT64_MAX);
	AZ(pthread_mutex_unlock(&f->lock));
}

/*
 * A body that promises a digest keeps its tail back; the second one everything, until it may take
 * the place of the first.
 */
void
flight_publish(struct flight *f)
{
	uint64_t n = flight_committed(f), keep_back = 0;
	int64_t total = flight_total(f);

	if (flight_body(f) != flight_shown(f))
		return;
	if (f->gated && !f->verified)
		keep_back = n;
	else if (f->expected && !f->verified) {
		keep_back = f->withheld_bytes;
		if (total >= 0 && (uint64_t)total > n)	/* the tail is yet to come */
			keep_back = keep_back > (uint64_t)total - n ?
			    keep_back - ((uint64_t)total - n) : 0;
	}
	/* Before anybody has all of it: who does may ask for a package at once. */
	if (f->expected && f->verified && f->unread == NULL &&
	    (f->af.class == APTFILE_INDEX || f->af.class == APTFILE_BYHASH))
		f->unread = stage_unread_begin(cache_parts(f->cache)->stage, f->url, f->digest);
	n = n > keep_back ? n - keep_back : 0;
	if (n > flight_visible(f)) {
		atomic_store_explicit(&f->visible, n, memory_order_release);
		flight_wake_readers(f, n);
	}
	if (flight_state(f) == FLIGHT_WAITING && f->begun &&
	    ((!f->expected && !f->gated) || f->verified || n > 0 || flight_body(f)->head.no_body))
		flight_set_state(f, FLIGHT_STREAMING);
}

/*
 * apt gives up after 30 s of silence. So a body that comes slowly gives away what is withheld of
 * it, little by little: its head first, and never its last byte.
 */
static void
flight_yield(struct flight *f, int64_t now_ms)
{
	uint64_t n = flight_committed(f), visible = flight_visible(f), end, upto;
	int64_t total = flight_total(f);

	if (visible != f->given_bytes) {
		f->given_bytes = visible;
		f->given_of_bytes = n;
		f->given_ms = now_ms;
	}
	if (n <= visible || n == f->given_of_bytes || now_ms - f->given_ms < FLIGHT_SILENT_MS ||
	    !f->begun || !f->expected || f->gated || f->writer_done || flight_waiting_readers(f) == 0)
		return;
	AZ(pthread_mutex_lock(&f->lock));
	if (flight_state(f) == FLIGHT_WAITING)
		flight_set_state(f, FLIGHT_STREAMING);
	else if (flight_state(f) == FLIGHT_STREAMING) {
		end = total >= 0 ? (uint64_t)total : n;
		upto = visible + (n - visible + FLIGHT_YIELD_PART - 1) / FLIGHT_YIELD_PART;
		f->withheld_bytes = end > upto ? end - upto : 1;
		flight_publish(f);
	}
	AZ(pthread_mutex_unlock(&f->lock));
	f->given_of_bytes = n;
	f->given_ms = now_ms;
}

/* ---- the writer's side ---- */

void
flight_tick(struct flight *f, int64_t now_ms)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	flight_yield(f, now_ms);
	flight_ring_tick(f, now_ms);
}

void
flight_drive(struct flight *f, const struct flight_driver *d)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	f->driver = d != NULL ? *d : (struct flight_driver){NULL};
	AZ(pthread_mutex_unlock(&f->lock));
}

unsigned
flight_readers(const struct flight *f)
{
	return atomic_load(&f->readers_n);
}

bool
flight_close_unread(struct flight *f)
{
	bool unread;

	AZ(pthread_mutex_lock(&f->lock));
	unread = f->readers_n == 0;
	f->closed |= unread;
	AZ(pthread_mutex_unlock(&f->lock));
	return unread;
}

unsigned
flight_waiting_readers(const struct flight *cf)
{
	struct flight *f = (struct flight *)(uintptr_t)cf;
	unsigned n;

	AZ(pthread_mutex_lock(&f->lock));
	n = f->readers_n - f->ahead_n;
	AZ(pthread_mutex_unlock(&f->lock));
	return n;
}

void
flight_note_total(struct flight *f)
{
	atomic_store_explicit(&flight_body(f)->total, (int64_t)flight_committed(f),
	    memory_order_release);
}

void
flight_finish(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->begun);
	AZ(pthread_mutex_lock(&f->lock));
	if (f->ending) {
		AZ(pthread_mutex_unlock(&f->lock));
		return;
	}
	atomic_store(&f->writer_done, true);
	flight_publish(f);
	if (!f->expected && !f->gated) {
		flight_note_total(f);
		flight_set_state(f, FLIGHT_COMPLETE);
	}
	AZ(pthread_mutex_unlock(&f->lock));
	if (f->keep || f->expected || f->gated)
		verify_poke(cache_parts(f->cache)->verify, f);
	else {
		cache_unlist(f);
		flight_settle(f);
	}
}

void
flight_confirmed(struct flight *f, const struct flight_head *h)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (flight_copy_head(f, h) != REASON_OK) {
		flight_fail(f, REASON_NO_MEMORY, 0, false, "%s", reason_text(REASON_NO_MEMORY));
		return;
	}
	/* Out of the table first: who asks from now on wants a check of its own. */
	cache_unlist(f);
	AZ(pthread_mutex_lock(&f->lock));
	flight_set_state(f, FLIGHT_CONFIRMED);
	AZ(pthread_mutex_unlock(&f->lock));
}

/*
 * Writer and verifier may both find that it failed: true for the first, if it is not complete by
 * then.
 */
static bool
flight_claim_end(struct flight *f)
{
	enum flight_state s;
	bool mine;

	AZ(pthread_mutex_lock(&f->lock));
	s = flight_state(f);
	mine = !f->ending && s != FLIGHT_COMPLETE && s != FLIGHT_CONFIRMED;
	f->ending |= mine;
	AZ(pthread_mutex_unlock(&f->lock));
	return mine;
}

void
flight_fail(struct flight *f, enum reason r, int upstream_status, bool keep_partial,
    const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(r != REASON_OK);
	if (!flight_claim_end(f))
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	/* The partial is put in order before the table lets a successor begin. */
	flight_end_partial(f, keep_partial);
	cache_unlist(f);
	AZ(pthread_mutex_lock(&f->lock));
	f->reason = r;
	f->upstream_status = upstream_status;
	f->detail = text;
	/* In this order: who sees that the writer is done sees also that it failed. */
	flight_set_state(f, FLIGHT_FAILED);
	atomic_store(&f->writer_done, true);
	atomic_store_explicit(&f->is_settled, true, memory_order_release);
	/* A Release that is not adopted: the writer waits for that verdict. */
	if (f->gated)
		(void)flight_tell_writer(f);
	AZ(pthread_mutex_unlock(&f->lock));
	if (f->begun && f->keep)
		verify_poke(cache_parts(f->cache)->verify, f);	/* so that it lets go */
}
