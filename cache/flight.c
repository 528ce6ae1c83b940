/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One object being fetched: its state, its readers, its bytes. See
 * include/flight.h for the story. cache.c makes flights and keeps the table;
 * the upstream thread writes; workers read; verify.c, sync.c and the index
 * writer take a finished body the rest of its way:
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

enum {
	FLIGHT_RESERVE_BYTES = 64 << 20,	/* preallocation ahead of the writer */
	FLIGHT_RESERVE_MIN = 1 << 20,		/* smaller bodies are not preallocated */
	/* first journal mark; then doubled up to PARTIAL_MARK_BYTES */
	FLIGHT_MARK_FIRST = 1 << 20,
};
/* Bodies that no disk would take live in memory, up to this much in all. */
static const uint64_t FLIGHT_MEMORY_MAX = 256 << 20;

static _Atomic uint64_t flight_ids;
static _Atomic uint64_t flight_memory_bytes;

static const char *const flight_state_names[] = {
	[FLIGHT_WAITING] = "waiting", [FLIGHT_STREAMING] = "streaming",
	[FLIGHT_COMPLETE] = "complete", [FLIGHT_CONFIRMED] = "confirmed",
	[FLIGHT_FAILED] = "failed",
};

const char *
flight_state_name(enum flight_state s)
{
	MUST((unsigned)s < NELEM(flight_state_names));
	return flight_state_names[s];
}

/* 1, 2, 4, 8 MiB, then every 8 MiB: small bodies can be resumed too. */
uint64_t
flight_mark_end(uint32_t mark)
{
	if (mark < 3)
		return (uint64_t)FLIGHT_MARK_FIRST << mark;
	return (uint64_t)PARTIAL_MARK_BYTES * (mark - 2);
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
	f->memory_fd_was = -1;
	atomic_init(&f->refs, 1);
	atomic_init(&f->fd, -1);
	atomic_init(&f->total, -1);
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

/* Counts n body bytes as being fetched: they use the budget as stored ones do. */
static void
flight_count(struct flight *f, uint64_t n)
{
	(void)atomic_fetch_add(&f->counted_bytes, n);
	cache_note_partial_bytes(f->cache, (int64_t)n);
}

/* The body's bytes are no longer the flight's: stored, or gone. */
static void
flight_uncount(struct flight *f)
{
	cache_note_partial_bytes(f->cache,
	    -(int64_t)atomic_exchange(&f->counted_bytes, 0));
}

/* Frees what the last reference held. */
static void
flight_free(struct flight *f)
{
	int fd = atomic_load(&f->fd);

	MUST(TAILQ_EMPTY(&f->readers));
	MUST(!f->listed && !f->in_verify);
	if (fd >= 0)
		(void)close(fd);
	if (f->memory_fd_was >= 0)
		(void)close(f->memory_fd_was);
	(void)atomic_fetch_sub(&flight_memory_bytes, f->memory_bytes);
	flight_uncount(f);
	EVP_MD_CTX_free(f->sha256);
	EVP_MD_CTX_free(f->named);
	AZ(pthread_mutex_destroy(&f->lock));
	free(f->head_text);
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

void
flight_attach(struct flight *f, struct flight_reader *r, bool owner)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(r->f);
	r->f = flight_ref(f);
	r->waiting = false;
	r->owner = owner;
	AZ(pthread_mutex_lock(&f->lock));
	TAILQ_INSERT_TAIL(&f->readers, r, link);
	if (f->readers_n++ == 0 && f->driver.crowd != NULL)
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
	AN(f->readers_n);
	if (--f->readers_n == 0 && f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg, false);
	AZ(pthread_mutex_unlock(&f->lock));
	COUNT_DOWN(flight_readers_open);
	r->waiting = false;
	flight_unref(&r->f);
}

bool
flight_wait(struct flight_reader *r, uint64_t seen_bytes, enum flight_state seen_state)
{
	struct flight *f = r->f;
	bool wait;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	wait = flight_visible(f) <= seen_bytes && flight_state(f) == seen_state;
	r->waiting = wait;
	AZ(pthread_mutex_unlock(&f->lock));
	return wait;
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
	return atomic_load_explicit(&f->total, memory_order_acquire);
}

int
flight_fd(const struct flight *f)
{
	return atomic_load_explicit(&f->fd, memory_order_acquire);
}

const struct flight_head *
flight_head(const struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	switch (flight_state(f)) {
	case FLIGHT_STREAMING:
	case FLIGHT_COMPLETE:
	case FLIGHT_CONFIRMED:
		return &f->head;
	case FLIGHT_WAITING:
		return NULL;
	case FLIGHT_FAILED:
		return f->begun ? &f->head : NULL;
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
	case FLIGHT_COMPLETE:
		MUST(from == FLIGHT_WAITING || from == FLIGHT_STREAMING);
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
 * Shows readers what they may have by now; a body that promises a digest keeps its tail back (lock
 * held).
 */
static void
flight_publish(struct flight *f)
{
	uint64_t n = flight_committed(f), keep_back = 0;
	int64_t total = flight_total(f);

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
	    ((!f->expected && !f->gated) || f->verified || n > 0 || f->head.no_body))
		flight_set_state(f, FLIGHT_STREAMING);
}

/* ---- the writer's side ---- */

void
flight_drive(struct flight *f, const struct flight_driver *d)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	f->driver = d != NULL ? *d : (struct flight_driver){NULL, NULL};
	AZ(pthread_mutex_unlock(&f->lock));
}

unsigned
flight_readers(const struct flight *cf)
{
	struct flight *f = (struct flight *)(uintptr_t)cf;
	unsigned n;

	AZ(pthread_mutex_lock(&f->lock));
	n = f->readers_n;
	AZ(pthread_mutex_unlock(&f->lock));
	return n;
}

/* Copies the head into the flight; its text lives as long as the flight. */
static enum reason
flight_copy_head(struct flight *f, const struct flight_head *h)
{
	size_t etag_n = h->etag.n, fields_n = h->fields.n;
	char *text;

	AZ(f->head_text);
	text = malloc(etag_n + fields_n + 1);
	if (text == NULL)
		return REASON_NO_MEMORY;
	if (etag_n != 0)
		memcpy(text, h->etag.p, etag_n);
	if (fields_n != 0)
		memcpy(text + etag_n, h->fields.p, fields_n);
	f->head = *h;
	f->keep = h->keep;
	f->head.etag = (struct slice){text, etag_n};
	f->head.fields = (struct slice){text + etag_n, fields_n};
	f->head_text = text;
	return REASON_OK;
}

/* Has room for n more bytes in memory been granted? */
static bool
flight_memory_grant(struct flight *f, uint64_t n)
{
	if (atomic_fetch_add(&flight_memory_bytes, n) + n > FLIGHT_MEMORY_MAX) {
		(void)atomic_fetch_sub(&flight_memory_bytes, n);
		return false;
	}
	f->memory_bytes += n;
	return true;
}

/* A body file in memory of up to n bytes, for when no disk takes it. */
static enum reason
flight_memory_file(struct flight *f, uint64_t n, int *fd)
{
	if (!flight_memory_grant(f, n))
		return REASON_NO_DISK;
	*fd = memfd_create("apt-depot-body", MFD_CLOEXEC);
	if (*fd < 0)
		return blob_errno_reason(errno);
	f->in_memory = true;
	COUNT(store_failures_total);
	log_warning("flight=%llu the cache's disk takes no more: streaming %.*s without keeping it",
	    (unsigned long long)f->id, SLICE_ARG(f->url));
	return REASON_OK;
}

/* Writes down what is needed to go on with this body after a restart. */
static void
flight_begin_journal(struct flight *f)
{
	struct partial_rec p = {
		.total_bytes = f->head.total_bytes,
		.started_at_s = clock_wall_s(),
		.last_modified_s = f->head.terms.last_modified_s,
		.url = f->url, .etag = f->head.etag, .fields = f->head.fields,
	};

	if (!f->keep || f->private_ || (f->head.total_bytes >= 0 &&
	    f->head.total_bytes <= FLIGHT_MARK_FIRST))
		return;
	if ((p.etag.n == 0 || p.etag.p[0] == 'W') && p.last_modified_s == INT64_MIN)
		return;		/* nothing could prove that a resumed part belongs to it */
	index_partial_begin(cache_parts(f->cache)->index, &f->key, &p);
	f->journal = true;
}

/* Opens the body file where the head wants it: stored, unnamed, or in memory. */
static enum reason
flight_open_body(struct flight *f)
{
	const struct cache_parts *parts = cache_parts(f->cache);
	enum reason r;
	int fd = -1;

	if (f->head.no_body)
		return REASON_OK;
	if (f->keep && !f->private_) {
		r = blob_partial_create(parts->blobs, &f->key, &fd);
		if (r != REASON_OK)
			f->keep = false;
	} else {
		f->keep = false;
		r = blob_scratch_create(parts->blobs, &fd);
	}
	if (r == REASON_NO_DISK || r == REASON_DISK_ERROR)
		r = flight_memory_file(f, f->head.total_bytes >= 0 ?
		    (uint64_t)f->head.total_bytes : FLIGHT_RESERVE_BYTES, &fd);
	if (r == REASON_OK)
		atomic_store_explicit(&f->fd, fd, memory_order_release);
	return r;
}

/* Writes all of it at its place. */
static enum reason
flight_write(int fd, uint64_t at, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = pwrite(fd, p, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k == 0 ? REASON_NO_DISK : blob_errno_reason(errno);
		p += k;
		at += (uint64_t)k;
		n -= (size_t)k;
	}
	return REASON_OK;
}

/*
 * The disk took no more: goes on in memory, where the body is small enough.
 * Readers that still use the old file find there all that was visible then.
 */
static enum reason
flight_move_to_memory(struct flight *f)
{
	uint64_t at = 0, have = flight_committed(f);
	int64_t total = flight_total(f);
	uint64_t need = total >= 0 ? (uint64_t)total : have + FLIGHT_RESERVE_BYTES;
	char buf[65536];
	int fd = -1;
	enum reason r;

	evict_kick(cache_parts(f->cache)->evict);
	if (f->in_memory)
		return REASON_NO_DISK;
	r = flight_memory_file(f, need, &fd);
	while (r == REASON_OK && at < have) {
		ssize_t k = pread(flight_fd(f), buf, sizeof(buf) < have - at ? sizeof(buf) :
		    (size_t)(have - at), (off_t)at);

		r = k > 0 ? flight_write(fd, at, buf, (size_t)k) : REASON_DISK_ERROR;
		at += k > 0 ? (uint64_t)k : 0;
	}
	if (r != REASON_OK) {
		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	f->memory_fd_was = atomic_exchange(&f->fd, fd);
	if (f->keep && f->journal)
		index_partial_end(cache_parts(f->cache)->index, &f->key);
	if (f->keep)
		(void)!blob_partial_remove(cache_parts(f->cache)->blobs, &f->key);
	f->journal = false;
	f->keep = false;
	return REASON_OK;
}

/* Takes disk space ahead of the writer, so that a full disk shows before the bytes do. */
static enum reason
flight_reserve(struct flight *f, uint64_t upto)
{
	int64_t total = flight_total(f);
	uint64_t n;

	if (f->in_memory)
		return upto <= f->memory_bytes || flight_memory_grant(f, FLIGHT_RESERVE_BYTES) ?
		    REASON_OK : REASON_NO_DISK;
	if (total < FLIGHT_RESERVE_MIN || upto <= f->reserved_bytes)
		return REASON_OK;
	n = (uint64_t)total - f->reserved_bytes;
	if (n > FLIGHT_RESERVE_BYTES)
		n = FLIGHT_RESERVE_BYTES;
	if (fallocate(flight_fd(f), FALLOC_FL_KEEP_SIZE, (off_t)f->reserved_bytes, (off_t)n) != 0 &&
	    errno != EOPNOTSUPP && errno != EINTR && errno != ENOSYS)
		return blob_errno_reason(errno);
	f->reserved_bytes += n;
	return REASON_OK;
}

enum reason
flight_begin(struct flight *f, const struct flight_head *h)
{
	enum reason r;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(flight_state(f) == FLIGHT_WAITING);
	MUST(!f->begun);
	r = flight_copy_head(f, h);
	if (r != REASON_OK)
		return r;
	if (f->partial_bytes > 0) {
		/* The verifier has read this far and its digests go on from here. */
		if (ftruncate(flight_fd(f), (off_t)f->partial_bytes) != 0)
			return blob_errno_reason(errno);
		f->journal = true;
		f->reserved_bytes = f->partial_bytes;
		COUNT(partials_resumed_total);
		COUNT_ADD(partial_bytes_reused_total, f->partial_bytes);
	} else {
		r = flight_open_body(f);
		if (r != REASON_OK) {
			free(f->head_text);
			f->head_text = NULL;
			return r;
		}
		flight_begin_journal(f);
	}
	f->head.keep = f->keep;		/* as readers will be told */
	atomic_store_explicit(&f->total, h->total_bytes, memory_order_release);
	/* A disk that won't take it should show before a client has its 200. */
	r = flight_reserve(f, 1);
	if (r == REASON_NO_DISK || r == REASON_DISK_ERROR)
		r = flight_move_to_memory(f);
	if (r != REASON_OK)
		return r;
	AZ(pthread_mutex_lock(&f->lock));
	f->begun = true;
	atomic_store_explicit(&f->committed, f->partial_bytes, memory_order_release);
	flight_publish(f);
	AZ(pthread_mutex_unlock(&f->lock));
	flight_count(f, f->partial_bytes);
	/* What belongs to one client can't be found by others. */
	if (!f->head.shareable)
		cache_unlist(f);
	return REASON_OK;
}

enum reason
flight_append(struct flight *f, const void *data, size_t n)
{
	uint64_t at;
	enum reason r;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->begun);
	if (f->writer_done)
		return REASON_DISK_ERROR;	/* the verifier could not read it back */
	if (n == 0)
		return REASON_OK;
	at = flight_committed(f);
	r = flight_reserve(f, at + n);
	if (r == REASON_OK)
		r = flight_write(flight_fd(f), at, data, n);
	if (r == REASON_NO_DISK || r == REASON_DISK_ERROR) {
		r = flight_move_to_memory(f);
		if (r == REASON_OK)
			r = flight_write(flight_fd(f), at, data, n);
	}
	if (r != REASON_OK)
		return r;
	AZ(pthread_mutex_lock(&f->lock));
	atomic_store_explicit(&f->committed, at + n, memory_order_release);
	flight_publish(f);
	AZ(pthread_mutex_unlock(&f->lock));
	flight_count(f, n);
	/* Small bodies are hashed in one go at their end. */
	if (at + n > FLIGHT_MARK_FIRST && (f->keep || f->expected))
		verify_poke(cache_parts(f->cache)->verify, f);
	return REASON_OK;
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
	atomic_store_explicit(&f->total, (int64_t)flight_committed(f), memory_order_release);
	atomic_store(&f->writer_done, true);
	flight_publish(f);
	if (!f->expected && !f->gated)
		flight_set_state(f, FLIGHT_COMPLETE);
	AZ(pthread_mutex_unlock(&f->lock));
	if (f->keep || f->expected || f->gated)
		verify_poke(cache_parts(f->cache)->verify, f);
	else
		cache_unlist(f);
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

/* Leaves the unfinished body for a later flight, or removes it. */
static void
flight_end_partial(struct flight *f, bool keep)
{
	const struct cache_parts *parts = cache_parts(f->cache);

	if (!f->begun || !f->keep || f->private_)
		return;
	if (keep && f->journal && flight_committed(f) >= FLIGHT_MARK_FIRST) {
		/* Give back what was preallocated ahead. */
		(void)!ftruncate(flight_fd(f), (off_t)flight_committed(f));
		COUNT(partials_kept_total);
		return;
	}
	if (f->journal)
		index_partial_end(parts->index, &f->key);
	(void)!blob_partial_remove(parts->blobs, &f->key);
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

bool
flight_same_bytes(const struct flight *f, uint64_t at, const void *data, size_t n)
{
	const char *p = data;
	char buf[65536];

	if (at + n > flight_committed(f))
		return false;
	while (n > 0) {
		ssize_t k = pread(flight_fd(f), buf, n < sizeof(buf) ? n : sizeof(buf), (off_t)at);

		if (k <= 0 || memcmp(buf, p, (size_t)k) != 0)
			return false;
		p += k;
		at += (uint64_t)k;
		n -= (size_t)k;
	}
	return true;
}

/* ---- going on with what an earlier flight left ---- */

bool
flight_find_partial(struct flight *f, flight_partial_f *done, void *arg)
{
	const struct cache_parts *parts = cache_parts(f->cache);
	struct blob_stat st;
	int fd = -1;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(!f->begun);
	if (f->private_ || blob_partial_open(parts->blobs, &f->key, &fd, &st) != REASON_OK)
		return false;
	atomic_store_explicit(&f->fd, fd, memory_order_release);
	f->partial_done = done;
	f->partial_arg = arg;
	verify_poke(parts->verify, f);
	return true;
}

bool
flight_cancel_partial(struct flight *f)
{
	return verify_cancel_partial(cache_parts(f->cache)->verify, f);
}

void
flight_drop_partial(struct flight *f)
{
	int fd = atomic_exchange(&f->fd, -1);

	MUST(!f->begun);
	if (fd >= 0)
		(void)close(fd);
	f->partial_bytes = 0;
	f->hashed_bytes = 0;
	f->marks_n = 0;
	EVP_MD_CTX_free(f->sha256);
	EVP_MD_CTX_free(f->named);
	f->sha256 = f->named = NULL;
	index_partial_end(cache_parts(f->cache)->index, &f->key);
	(void)!blob_partial_remove(cache_parts(f->cache)->blobs, &f->key);
}

/* ---- the verifier's words ---- */

/* Every byte may be read; then it goes the rest of its way. */
static void
flight_complete(struct flight *f)
{
	AZ(pthread_mutex_lock(&f->lock));
	f->verified = true;
	flight_publish(f);
	flight_set_state(f, FLIGHT_COMPLETE);
	AZ(pthread_mutex_unlock(&f->lock));
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
	if (f->expected)
		flight_complete(f);
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
	flight_complete(f);
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

void
flight_digest_bad(struct flight *f, const char *got_hex)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	COUNT(digest_mismatches_total);
	log_warning("flight=%llu digest of %.*s is %s: not what its name promises; not kept",
	    (unsigned long long)f->id, SLICE_ARG(f->url), got_hex);
	flight_fail(f, REASON_UP_DIGEST, 0, false, "the bytes that the upstream sent for %.*s "
	    "have the digest %s, which is not the one in the name", SLICE_ARG(f->url), got_hex);
}

void
flight_verify_failed(struct flight *f, enum reason r)
{
	COUNT(store_failures_total);
	log_error("flight=%llu %.*s could not be read back for its digest: %s; not kept",
	    (unsigned long long)f->id, SLICE_ARG(f->url), reason_text(r));
	flight_fail(f, r, 0, false, "%s", reason_text(r));
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
	flight_uncount(f);
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
	struct object_rec rec = {
		.size_bytes = flight_committed(f),
		.stored_at_ms = clock_wall_ms(),
		.checked_at_ms = f->head.checked_at_ms,
		.class = f->af.class,
		.from_credentials = f->from_credentials,
		.terms = f->head.terms,
		.url = f->url, .etag = f->head.etag, .fields = f->head.fields,
	};

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
		index_store(cache_parts(f->cache)->index, &f->key, &rec, flight_stored,
		    flight_ref(f));
		if (named)
			flight_link(f, &key);
		return;
	}
	COUNT(digest_mismatches_total);
	log_warning("flight=%llu %.*s is not what its repository says by now: not kept",
	    (unsigned long long)f->id, SLICE_ARG(f->url));
	flight_end_partial(f, false);
	flight_uncount(f);
	cache_unlist(f);
	flight_settle(f);
}
