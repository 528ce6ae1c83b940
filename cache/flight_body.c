/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The bytes of a flight: where its body is put, how it grows, and what is
 * kept of it when it ends early. Called by the upstream thread, which writes,
 * and by flight.c at a flight's turns. A body is born in flight_begin (in
 * partial/ or unnamed; a short one in memory, since making and renaming a file
 * costs more than all the rest), grows in flight_append, moves to a ring in
 * memory where there is no room for it (flight_ring.c), and goes with the
 * flight, after the index writer renamed its file into blobs/ or wrote it
 * there; or before, as the wrong one of two (struct flight_body).
 */
#include "cache/flight_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cache/evict.h"
#include "cache/window.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	FLIGHT_RESERVE_BYTES = 64 << 20,	/* preallocation ahead of the writer */
	FLIGHT_RESERVE_MIN = 1 << 20,		/* smaller bodies are not preallocated */
	/* first journal mark; then doubled up to PARTIAL_MARK_BYTES */
	FLIGHT_MARK_FIRST = 1 << 20,
	FLIGHT_SHORT_BYTES = 256 << 10,		/* bodies up to this stay in memory until stored, */
	FLIGHT_SHORT_ALL_BYTES = 16 << 20,	/* as long as they are no more than this */
};
static _Atomic uint64_t flight_short_bytes_n;

/* 1, 2, 4, 8 MiB, then every 8 MiB: small bodies can be resumed too. */
uint64_t
flight_mark_end(uint32_t mark)
{
	if (mark < 3)
		return (uint64_t)FLIGHT_MARK_FIRST << mark;
	return (uint64_t)PARTIAL_MARK_BYTES * (mark - 2);
}

void
flight_body_init(struct flight_body *b)
{
	atomic_init(&b->fd, -1);
	atomic_init(&b->total, -1);
	b->window_id = window_id();
}

/*
 * Counts n body bytes as being fetched: they use the budget as stored ones do. False, and not
 * counted: the budget has no room for them, whatever is evicted.
 */
static bool
flight_count(struct flight *f, uint64_t n)
{
	if (!cache_note_partial_bytes(f->cache, (int64_t)n))
		return false;
	(void)atomic_fetch_add(&flight_body(f)->counted_bytes, n);
	return true;
}

void
flight_uncount(struct flight *f, struct flight_body *b)
{
	(void)cache_note_partial_bytes(f->cache, -(int64_t)atomic_exchange(&b->counted_bytes, 0));
}

void
flight_close_file(struct flight_body *b)
{
	int fd = atomic_exchange(&b->fd, -1);

	if (fd >= 0)
		(void)close(fd);
}

/* Memory for a short body of a known length; false: it gets a file, as others do. */
static bool
flight_open_bytes(struct flight *f, struct flight_body *b)
{
	uint64_t n = (uint64_t)b->head.total_bytes;

	/* Releases are read through their files when they are judged. */
	if (b->head.total_bytes < 0 || n > FLIGHT_SHORT_BYTES || f->af.class == APTFILE_RELEASE)
		return false;
	if (atomic_fetch_add(&flight_short_bytes_n, n) + n <= FLIGHT_SHORT_ALL_BYTES)
		b->bytes = malloc((size_t)n + 1);
	if (b->bytes == NULL)
		(void)atomic_fetch_sub(&flight_short_bytes_n, n);
	else
		b->bytes_cap = n;
	return b->bytes != NULL;
}

static void
flight_close_bytes(struct flight_body *b)
{
	if (b->bytes == NULL)
		return;
	(void)atomic_fetch_sub(&flight_short_bytes_n, b->bytes_cap);
	free(b->bytes);
	b->bytes = NULL;
}

void
flight_body_close(struct flight *f, struct flight_body *b)
{
	flight_close_file(b);
	flight_close_bytes(b);
	flight_ring_close(b);
	flight_uncount(f, b);
}

static void
flight_forget_head(struct flight_body *b)
{
	free(b->head_text);
	b->head_text = NULL;
	memset(&b->head, 0, sizeof(b->head));
}

void
flight_body_clear(struct flight *f, struct flight_body *b)
{
	flight_body_close(f, b);
	flight_forget_head(b);
	b->window_id = window_id();
	atomic_store(&b->total, -1);
	atomic_store(&b->lost, false);
}

/* Copies the head to its body; its text lives as long. */
enum reason
flight_copy_head(struct flight *f, const struct flight_head *h)
{
	struct flight_body *b = flight_body(f);
	size_t etag_n = h->etag.n, fields_n = h->fields.n;
	char *text;

	AZ(b->head_text);
	text = malloc(etag_n + fields_n + 1);
	if (text == NULL)
		return REASON_NO_MEMORY;
	if (etag_n != 0)
		memcpy(text, h->etag.p, etag_n);
	if (fields_n != 0)
		memcpy(text + etag_n, h->fields.p, fields_n);
	b->head = *h;
	f->keep = h->keep;
	b->head.etag = (struct slice){text, etag_n};
	b->head.fields = (struct slice){text + etag_n, fields_n};
	b->head_text = text;
	return REASON_OK;
}

/* Writes down what is needed to go on with this body after a restart. */
static void
flight_begin_journal(struct flight *f)
{
	const struct flight_head *h = &flight_body(f)->head;
	struct partial_rec p = {
		.total_bytes = h->total_bytes,
		.started_at_s = clock_wall_s(),
		.last_modified_s = h->terms.last_modified_s,
		.url = f->url, .etag = h->etag, .fields = h->fields,
	};

	if (!f->keep || f->private_ || (h->total_bytes >= 0 && h->total_bytes <= FLIGHT_MARK_FIRST))
		return;
	if ((p.etag.n == 0 || p.etag.p[0] == 'W') && p.last_modified_s == INT64_MIN)
		return;		/* nothing could prove that a resumed part belongs to it */
	index_partial_begin(cache_parts(f->cache)->index, &f->key, &p);
	f->journal = true;
}

/* Opens the body where the head wants it: in memory, in a file that will be stored, or unnamed. */
static enum reason
flight_open_body(struct flight *f)
{
	const struct cache_parts *parts = cache_parts(f->cache);
	struct flight_body *b = flight_body(f);
	enum reason r;
	int fd = -1;

	if (f->private_)
		f->keep = false;
	if (flight_open_bytes(f, b))
		return REASON_OK;
	if (f->keep)
		r = blob_partial_create(parts->blobs, &f->key, &fd);
	else
		r = blob_scratch_create(parts->blobs, &fd);
	atomic_store_explicit(&b->fd, fd, memory_order_release);
	return r;
}

/*
 * The disk or the budget takes no more: from here on through a ring in memory. What the file has
 * stays readable as long as somebody needs it; nothing is kept.
 */
static enum reason
flight_move_to_ring(struct flight *f)
{
	const struct cache_parts *parts = cache_parts(f->cache);
	uint64_t have = flight_committed(f);
	enum reason r;
	bool unused;

	if (flight_body(f)->bytes != NULL) {
		COUNT(store_failures_total);
		f->keep = false;	/* and it is in memory already */
		return REASON_OK;
	}
	/* The second of two bodies must be whole before a byte of it shows. */
	if (f->in_memory || flight_state(f) == FLIGHT_HELD)
		return REASON_NO_DISK;
	r = flight_ring_open(f, have);
	if (r != REASON_OK)
		return r;
	log_info("flight=%llu the cache has no room for the rest of %.*s: passed on from byte %llu "
	    "without keeping it", (unsigned long long)f->id, SLICE_ARG(f->url),
	    (unsigned long long)have);
	COUNT(store_failures_total);
	if (f->journal)
		index_partial_end(parts->index, &f->key);
	if (f->keep && !f->private_)
		(void)!blob_partial_remove(parts->blobs, &f->key);
	f->journal = false;
	f->keep = false;
	AZ(pthread_mutex_lock(&f->lock));
	f->digested = f->expected || have > 0;
	atomic_store(&f->in_memory, true);
	unused = have == 0 && f->islands_cap == 0;
	if (unused)
		flight_close_file(flight_body(f));
	AZ(pthread_mutex_unlock(&f->lock));
	if (unused)
		flight_uncount(f, flight_body(f));
	else
		verify_poke(parts->verify, f);	/* so that it knows */
	return REASON_OK;
}

/*
 * The disk took no more, and err says why: where eviction helps, the next body should find some
 * room, whatever the budget says.
 */
static void
flight_ask_eviction(struct flight *f, int err)
{
	int64_t total = flight_total(f);
	uint64_t n = FLIGHT_RESERVE_BYTES;

	if (err != ENOSPC && err != EDQUOT)
		return;
	if (total >= 0 && (uint64_t)total - flight_committed(f) < n)
		n = (uint64_t)total - flight_committed(f);
	evict_want(cache_parts(f->cache)->evict, n);
}

/* Takes disk space ahead of the writer, so that a full disk shows before the bytes do. */
static enum reason
flight_reserve(struct flight *f, uint64_t upto)
{
	struct evict *evict = cache_parts(f->cache)->evict;
	int64_t total = flight_total(f);
	enum reason r;
	uint64_t n;

	if (total < FLIGHT_RESERVE_MIN || upto <= f->reserved_bytes)
		return REASON_OK;
	while (upto > f->reserved_bytes && f->reserved_bytes < (uint64_t)total) {
		n = (uint64_t)total - f->reserved_bytes;
		if (n > FLIGHT_RESERVE_BYTES)
			n = FLIGHT_RESERVE_BYTES;
		if (fallocate(flight_fd(f), FALLOC_FL_KEEP_SIZE, (off_t)f->reserved_bytes,
		    (off_t)n) != 0 && errno != EOPNOTSUPP && errno != EINTR && errno != ENOSYS) {
			r = blob_errno_reason(errno);
			flight_ask_eviction(f, errno);
			return r;
		}
		f->reserved_bytes += n;
	}
	/* The keeper makes room ahead of us; where it can't, the budget counts. */
	evict_kick(evict);
	return evict_is_over(evict) && f->keep ? REASON_NO_DISK : REASON_OK;
}

/* Takes a file, or a ring, for the body whose head is copied. */
static enum reason
flight_begin_body(struct flight *f)
{
	struct flight_body *b = flight_body(f);
	int64_t total = b->head.total_bytes;
	enum reason r = REASON_OK;

	atomic_store_explicit(&b->total, total, memory_order_release);
	if (f->partial_bytes > 0) {
		/* The verifier has read this far and its digests go on from here. */
		if (ftruncate(flight_fd(f), (off_t)f->partial_bytes) != 0)
			return blob_errno_reason(errno);
		f->journal = true;
		f->reserved_bytes = f->partial_bytes;
		COUNT(partials_resumed_total);
		COUNT_ADD(partial_bytes_reused_total, f->partial_bytes);
	} else if (!b->head.no_body)
		r = flight_open_body(f);
	if (b->head.no_body)
		return r;
	if (r == REASON_OK && f->keep && !flight_count(f, total >= 0 ? (uint64_t)total :
	    f->partial_bytes))
		r = REASON_NO_DISK;
	/* A disk that won't take it should show before a client has its 200. */
	if (r == REASON_OK)
		r = flight_reserve(f, f->unpaced && total > 0 ? (uint64_t)total :
		    f->partial_bytes + 1);
	atomic_store_explicit(&f->committed, f->partial_bytes, memory_order_release);
	if ((r == REASON_NO_DISK || r == REASON_DISK_ERROR) && !f->unpaced)
		r = flight_move_to_ring(f);
	if (r == REASON_OK && f->keep && f->partial_bytes == 0)
		flight_begin_journal(f);
	return r;
}

enum reason
flight_begin(struct flight *f, const struct flight_head *h)
{
	struct flight_body *b = flight_body(f);
	enum reason r;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(flight_state(f) == FLIGHT_WAITING || flight_state(f) == FLIGHT_HELD);
	MUST(!f->begun);
	r = flight_copy_head(f, h);
	if (r == REASON_OK)
		r = flight_begin_body(f);
	if (r != REASON_OK) {
		if (f->keep && !f->private_ && f->partial_bytes == 0)
			(void)!blob_partial_remove(cache_parts(f->cache)->blobs, &f->key);
		atomic_store_explicit(&f->committed, 0, memory_order_release);
		if (f->partial_bytes == 0)
			flight_body_clear(f, b);
		else {
			flight_uncount(f, b);
			flight_forget_head(b);
		}
		return r;
	}
	b->head.keep = f->keep;		/* as readers will be told */
	AZ(pthread_mutex_lock(&f->lock));
	f->begun = true;
	flight_publish(f);
	AZ(pthread_mutex_unlock(&f->lock));
	/* What belongs to one client can't be found by others. */
	if (!b->head.shareable)
		cache_unlist(f);
	return REASON_OK;
}

enum reason
flight_write_at(struct flight *f, uint64_t at, const char *p, size_t n)
{
	enum reason r = REASON_OK;

	/* For what lies far beyond the prefix a hole is left. */
	if (at == flight_committed(f) || at + n <= f->reserved_bytes + FLIGHT_RESERVE_BYTES)
		r = flight_reserve(f, at + n);
	if (r == REASON_OK) {
		r = blob_write_all(flight_fd(f), at, p, n);
		if (r == REASON_NO_DISK)
			flight_ask_eviction(f, errno);
	}
	return r;
}

void
flight_grow_prefix(struct flight *f, uint64_t upto)
{
	atomic_store_explicit(&f->committed, upto, memory_order_release);
	if (f->islands_n > 0)
		flight_trim_islands(f, upto);
	flight_publish(f);
}

/* Writes at the end of what is there, wherever that is. */
static enum reason
flight_put(struct flight *f, const char *p, size_t n)
{
	struct flight_body *b = flight_body(f);
	uint64_t at = flight_committed(f);
	enum reason r = REASON_OK;

	if (f->in_memory)
		return flight_ring_put(f, p, n);
	if (b->bytes != NULL) {
		if (n > b->bytes_cap - at)
			return REASON_UP_GARBAGE;	/* more than was announced */
		memcpy(b->bytes + at, p, n);
		return REASON_OK;
	}
	/* What is announced is counted from the beginning. */
	if (f->keep && flight_total(f) < 0 && !flight_count(f, n))
		r = REASON_NO_DISK;
	if (r == REASON_OK)
		r = flight_write_at(f, at, p, n);
	if ((r != REASON_NO_DISK && r != REASON_DISK_ERROR) || f->unpaced)
		return r;
	r = flight_move_to_ring(f);
	return r == REASON_OK ? flight_ring_put(f, p, n) : r;
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
	if (f->expected && f->expect.size_bytes >= 0 && at + n > (uint64_t)f->expect.size_bytes)
		return REASON_UP_DIGEST;	/* it has more bytes than the right one */
	r = flight_put(f, data, n);
	if (r != REASON_OK)
		return r;
	AZ(pthread_mutex_lock(&f->lock));
	flight_grow_prefix(f, at + n);
	AZ(pthread_mutex_unlock(&f->lock));
	/* Small bodies are hashed in one go at their end; a ring waits for its hashing. */
	if ((at + n > FLIGHT_MARK_FIRST || f->in_memory) && (f->keep || f->expected))
		verify_poke(cache_parts(f->cache)->verify, f);
	return REASON_OK;
}

bool
flight_same_bytes(const struct flight *f, uint64_t at, const void *data, size_t n)
{
	const struct flight_body *b = flight_body(f);
	const char *p = data;
	char buf[65536];

	if (at + n > flight_committed(f))
		return false;
	if (b->bytes != NULL)
		return memcmp(b->bytes + at, p, n) == 0;
	while (n > 0) {
		ssize_t k;

		/* Of a ring, parts may be gone: there is nothing to compare with. */
		k = f->in_memory ? 0 :
		    pread(flight_fd(f), buf, n < sizeof(buf) ? n : sizeof(buf), (off_t)at);
		if (k <= 0 || memcmp(buf, p, (size_t)k) != 0)
			return false;
		p += k;
		at += (uint64_t)k;
		n -= (size_t)k;
	}
	return true;
}

void
flight_end_partial(struct flight *f, bool keep)
{
	const struct cache_parts *parts = cache_parts(f->cache);

	if (!f->begun || !f->keep || f->private_ || flight_body(f)->bytes != NULL)
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
	atomic_store_explicit(&flight_body(f)->fd, fd, memory_order_release);
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
flight_forget_digests(struct flight *f)
{
	f->partial_bytes = 0;
	f->hashed_bytes = 0;
	f->marks_n = 0;
	EVP_MD_CTX_free(f->sha256);
	EVP_MD_CTX_free(f->named);
	f->sha256 = f->named = NULL;
}

void
flight_drop_partial(struct flight *f)
{
	MUST(!f->begun);
	flight_body_close(f, flight_body(f));
	flight_forget_digests(f);
	index_partial_end(cache_parts(f->cache)->index, &f->key);
	(void)!blob_partial_remove(cache_parts(f->cache)->blobs, &f->key);
}
