/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One object being fetched: its state, its readers. See include/flight.h for
 * the story. cache.c makes flights and keeps the table; the upstream thread
 * writes (flight_body.c); workers read; verify.c, sync.c and the index writer
 * take a finished body the rest of its way:
 *
 *   flight_finish -> verify.c -> flight_digest_ok -> sync.c -> flight_store
 *   -> index writer -> flight_stored -> cache_unlist
 *
 * The lock guards the list of readers and changes of state; bytes are
 * published by release stores, so readers look without it.
 */
#include "cache/flight_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/evict.h"
#include "cache/repo.h"
#include "cache/stage.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

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
	size_t i;

	if (f->af.class != APTFILE_BYHASH)
		return;
	MUST(f->af.hash_hex.n <= 2 * sizeof(f->expect.digest));
	for (i = 0; i < f->af.hash_hex.n / 2; i++) {
		unsigned v;
		char two[3] = {f->af.hash_hex.p[2 * i], f->af.hash_hex.p[2 * i + 1], '\0'};

		if (sscanf(two, "%2x", &v) != 1)
			return;
		f->expect.digest[i] = (uint8_t)v;
	}
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
	f->started_ms = clock_mono_ms();
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

void
flight_set_by_hash(struct flight *f, size_t dir_n, enum aptfile_hash hash, const uint8_t *digest)
{
	char hex[2 * sizeof(f->expect.digest) + 1];
	size_t n = hash == APTFILE_SHA512 ? 64 : 32, i;

	for (i = 0; i < n; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	free(f->alternate);
	if (asprintf(&f->alternate, "%.*sby-hash/%s/%s", (int)dir_n, f->url.p,
	    n == 64 ? "SHA512" : "SHA256", hex) < 0)
		f->alternate = NULL;
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
	free(f->partial_text);
	free(f->alternate);
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

/* ---- readers ---- */

/* Tells every waiting reader that something changed. */
static void
flight_wake_readers(struct flight *f)
{
	struct flight_reader *r;

	TAILQ_FOREACH(r, &f->readers, link) {
		if (r->waiting) {
			r->waiting = false;
			r->wake(r);
		}
	}
}

/*
 * The reader turns away from its body. One that is shown no more is closed with its last reader
 * (lock held).
 */
static void
flight_leave_body(struct flight *f, struct flight_reader *r)
{
	struct flight_body *b = r->body;

	r->body = NULL;
	AN(b->readers_n);
	if (--b->readers_n == 0 && b != flight_shown(f))
		flight_body_close(f, b);
}

void
flight_attach(struct flight *f, struct flight_reader *r, bool owner)
{
	bool news;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(r->f);
	r->f = flight_ref(f);
	r->waiting = false;
	r->owner = owner;
	r->begun = false;
	atomic_store(&r->at, 0);
	r->slow_ms = 0;
	AZ(pthread_mutex_lock(&f->lock));
	TAILQ_INSERT_TAIL(&f->readers, r, link);
	r->body = flight_shown(f);
	r->body->readers_n++;
	atomic_store(&r->left_behind, !flight_ring_has_start(r->body));
	news = f->readers_n == 0 || (!r->ahead && f->readers_n == f->ahead_n);
	f->readers_n++;
	f->ahead_n += r->ahead;
	if (news && f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg, true);
	AZ(pthread_mutex_unlock(&f->lock));
	COUNT(flight_readers_open);
}

void
flight_detach(struct flight_reader *r)
{
	struct flight *f = r->f;

	if (f == NULL)
		return;
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	TAILQ_REMOVE(&f->readers, r, link);
	flight_leave_body(f, r);
	flight_ring_moved(f);
	AN(f->readers_n);
	f->ahead_n -= r->ahead;
	if (--f->readers_n == 0 && f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg, false);
	AZ(pthread_mutex_unlock(&f->lock));
	COUNT_DOWN(flight_readers_open);
	r->waiting = false;
	flight_unref(&r->f);
}

void
flight_reader_front(struct flight_reader *r)
{
	struct flight *f = r->f;

	if (!r->ahead || f == NULL) {
		r->ahead = false;
		return;
	}
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	r->ahead = false;
	AN(f->ahead_n);
	f->ahead_n--;
	if (f->readers_n - f->ahead_n == 1 && f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg, true);
	AZ(pthread_mutex_unlock(&f->lock));
}

bool
flight_wait(struct flight_reader *r, uint64_t seen_bytes, enum flight_state seen_state)
{
	struct flight *f = r->f;
	bool wait;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	wait = flight_visible(f) <= seen_bytes && flight_state(f) == seen_state &&
	    !(r->begun && atomic_load(&r->body->lost)) && !atomic_load(&r->left_behind);
	r->waiting = wait;
	AZ(pthread_mutex_unlock(&f->lock));
	return wait;
}

bool
flight_refresh(struct flight_reader *r)
{
	struct flight *f = r->f;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(!r->begun);
	if (atomic_load(&r->left_behind))
		return false;
	if (r->body == flight_shown(f))
		return true;
	AZ(pthread_mutex_lock(&f->lock));
	flight_leave_body(f, r);
	r->body = flight_shown(f);
	r->body->readers_n++;
	AZ(pthread_mutex_unlock(&f->lock));
	return true;
}

/* The reader is done with all before `at`: a writer may wait for that. */
static void
flight_pass(struct flight_reader *r, uint64_t at)
{
	struct flight *f = r->f;

	if (atomic_load_explicit(&r->at, memory_order_relaxed) == at)
		return;
	atomic_store(&r->at, at);
	if (!flight_ring_is_full(r->body))
		return;
	AZ(pthread_mutex_lock(&f->lock));
	flight_ring_moved(f);
	AZ(pthread_mutex_unlock(&f->lock));
}

enum flight_follow
flight_follow(struct flight_reader *r, uint64_t at)
{
	struct flight *f = r->f;
	struct flight_body *was = r->body, *now = flight_shown(f);
	bool fits;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	r->begun = true;
	if (atomic_load(&was->lost) || atomic_load(&r->left_behind))
		return FLIGHT_LOST;
	if (was == now) {
		flight_pass(r, at);
		return FLIGHT_ON;
	}
	/* Its client knows a length, and has the bytes before `at`. */
	fits = at <= atomic_load(&f->diverges_at) &&
	    was->head.total_bytes == now->head.total_bytes;
	if (!fits)
		return FLIGHT_LOST;
	AZ(pthread_mutex_lock(&f->lock));
	flight_leave_body(f, r);
	r->body = now;
	now->readers_n++;
	AZ(pthread_mutex_unlock(&f->lock));
	return FLIGHT_MOVED;
}

bool
flight_left_behind(const struct flight_reader *r)
{
	return r->f != NULL && atomic_load(&r->left_behind);
}

struct flight_span
flight_reader_span(const struct flight_reader *r, uint64_t at, uint64_t n)
{
	return flight_body_span(r->body, at, n);
}

bool
flight_passes_through(const struct flight *f)
{
	return atomic_load(&f->in_memory);
}

const struct flight_head *
flight_reader_head(const struct flight_reader *r)
{
	AN(flight_head(r->f));
	return &r->body->head;
}

int64_t
flight_reader_total(const struct flight_reader *r)
{
	return atomic_load_explicit(&r->body->total, memory_order_acquire);
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

bool
flight_is_private(const struct flight *f)
{
	return f->private_;
}

bool
flight_validators(const struct flight *f, struct cache_validators *out)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (f->has_validators)
		*out = f->validators;
	return f->has_validators;
}

/* ---- the one place where the state changes (lock held) ---- */
static void
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
	flight_wake_readers(f);
	log_debug("flight=%llu %s -> %s committed=%llu", (unsigned long long)f->id,
	    flight_state_name(from), flight_state_name(to),
	    (unsigned long long)flight_committed(f));
}

/* Whoever waits for it to be stored need not any longer. */
static void
flight_settle(struct flight *f)
{
	AZ(pthread_mutex_lock(&f->lock));
	atomic_store_explicit(&f->is_settled, true, memory_order_release);
	flight_wake_readers(f);
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
		keep_back = FLIGHT_WITHHELD_BYTES;
		if (total >= 0 && (uint64_t)total > n)	/* the tail is yet to come */
			keep_back = keep_back > (uint64_t)total - n ?
			    keep_back - ((uint64_t)total - n) : 0;
	}
	n = n > keep_back ? n - keep_back : 0;
	if (n > flight_visible(f)) {
		atomic_store_explicit(&f->visible, n, memory_order_release);
		flight_wake_readers(f);
	}
	if (flight_state(f) == FLIGHT_WAITING && f->begun &&
	    ((!f->expected && !f->gated) || f->verified || n > 0 || flight_body(f)->head.no_body))
		flight_set_state(f, FLIGHT_STREAMING);
}

/* ---- the writer's side ---- */

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
flight_finish(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->begun);
	AZ(pthread_mutex_lock(&f->lock));
	if (f->ending) {
		AZ(pthread_mutex_unlock(&f->lock));
		return;
	}
	atomic_store_explicit(&flight_body(f)->total, (int64_t)flight_committed(f),
	    memory_order_release);
	atomic_store(&f->writer_done, true);
	flight_publish(f);
	if (!f->expected && !f->gated)
		flight_set_state(f, FLIGHT_COMPLETE);
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
	AZ(pthread_mutex_unlock(&f->lock));
	if (f->begun && f->keep)
		verify_poke(cache_parts(f->cache)->verify, f);	/* so that it lets go */
}

/* ---- going on with what an earlier flight left ---- */

/* ---- the verifier's words ---- */

/* Tells the writer that the verifier has said what it can (lock held); false: nobody listens. */
static bool
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
	uint64_t n = flight_committed(f);

	if (old == new)
		return;
	/* One that ends before the other differs from it there. */
	if (n < flight_visible(f) && n < atomic_load(&f->diverges_at))
		atomic_store(&f->diverges_at, n);
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

/* Whoever has wrong bytes may come back with their validators, whenever that is. */
static void
flight_mark(struct flight *f)
{
	if (flight_visible(f) == 0 || atomic_exchange(&f->marked, true) || f->private_)
		return;
	index_mark_wrong(cache_parts(f->cache)->index, &f->key);
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
	unsigned i;

	MUST(f->expected && cap > 160);
	at = (size_t)snprintf(out, cap, "%s:", names[f->expect.hash]);
	for (i = 0; i < sizes[f->expect.hash]; i++)
		at += (size_t)snprintf(out + at, cap - at, "%02x", f->expect.digest[i]);
}

void
flight_digest_bad(struct flight *f, const char *got_hex)
{
	char want[192];
	bool told;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	flight_mark(f);
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
	flight_mark(f);
	atomic_store(&f->doubted, true);
	verify_poke(cache_parts(f->cache)->verify, f);
}

void
flight_doubt_settled(struct flight *f)
{
	bool told;

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
		flight_wake_readers(f);
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

/* The index has it, or could not take it: either way the flight has done its work. */
static void
flight_stored(void *arg, enum reason r)
{
	struct flight *f = arg;

	CHECK_OBJ(f, FLIGHT_MAGIC);
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
	if (f->expected || f->af.class != APTFILE_PACKAGE || url_parse(&url, &a, f->url) != REASON_OK ||
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
