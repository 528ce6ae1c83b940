/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A body that no disk takes: passed on to its readers through a small ring in
 * memory, and not kept. Made by flight_body.c when the disk or the budget is
 * full, at the beginning of a body or in its middle: what the file had by
 * then (bytes before `base`) is read from there until everybody has passed.
 *
 *           0 ......... base ........ tail ........ committed
 *           in the file |   gone      | in the ring |
 *
 * Nobody's bytes are overwritten: the slowest reader paces the writer
 * (flight_takes says no, crowd says that there is room again). Who does not
 * keep up while others wait is cut; who comes when the beginning is gone, or
 * whose turn does not come, fetches for itself. Positions are each reader's
 * own (flight_follow); the verifier's counts where a digest is expected.
 */
#include "cache/flight_priv.h"
#include "cache/repo.h"

#include "include/counter.h"
#include "include/log.h"

enum {
	FLIGHT_RING_BYTES = 1 << 20,		/* of one flight; a shorter body takes its size */
	FLIGHT_RING_SLOW_MS = 5000,		/* a reader that holds others back is looked at */
	FLIGHT_RING_RATE_MIN = 64 << 10,	/* and cut if it takes less than this a second */
	FLIGHT_RING_JOIN_MS = 1000,		/* so long for one that has not begun */
};
static const uint64_t FLIGHT_RINGS_BYTES = 32 << 20;	/* of all flights */

static _Atomic uint64_t flight_rings_bytes;

struct flight_ring {
	char *mem;
	uint64_t cap, base;		/* base: bytes before it are in the body's file */
	uint64_t tail;			/* lock: the oldest byte that is still here */
	_Atomic bool full;		/* the writer waits for room */
};

/*
 * A Release that no disk takes can't become a generation: clients of an
 * earlier one keep that, and others get what upstream has, as it comes.
 */
static bool
flight_ring_open_gate(struct flight *f)
{
	struct slice root;
	enum repo_file which;
	struct repo_gen *current = NULL;
	bool open;

	if (!f->gated)
		return true;
	if (repo_split_release(f->url, &root, &which))
		current = repo_current(cache_parts(f->cache)->repos, root);
	open = current == NULL;
	repo_gen_unref(&current);
	AZ(pthread_mutex_lock(&f->lock));
	f->gated = !open;
	AZ(pthread_mutex_unlock(&f->lock));
	return open;
}

enum reason
flight_ring_open(struct flight *f, uint64_t base)
{
	struct flight_body *b = flight_body(f);
	int64_t total = flight_total(f);
	struct flight_ring *ring;
	uint64_t cap = FLIGHT_RING_BYTES;

	AZ(b->ring);
	if (!flight_ring_open_gate(f))
		return REASON_NO_DISK;
	if (total >= 0 && (uint64_t)total - base < cap)
		cap = (uint64_t)total > base ? (uint64_t)total - base : 1;
	if (atomic_fetch_add(&flight_rings_bytes, cap) + cap > FLIGHT_RINGS_BYTES) {
		(void)atomic_fetch_sub(&flight_rings_bytes, cap);
		return REASON_NO_DISK;
	}
	ring = calloc(1, sizeof(*ring));
	if (ring != NULL)
		ring->mem = malloc(cap);
	if (ring == NULL || ring->mem == NULL) {
		free(ring);
		(void)atomic_fetch_sub(&flight_rings_bytes, cap);
		return REASON_NO_MEMORY;
	}
	ring->cap = cap;
	ring->base = ring->tail = base;
	COUNT(streamed_through_total);
	atomic_store_explicit(&b->ring, ring, memory_order_release);
	return REASON_OK;
}

void
flight_ring_close(struct flight_body *b)
{
	struct flight_ring *ring = atomic_exchange(&b->ring, NULL);

	if (ring == NULL)
		return;
	(void)atomic_fetch_sub(&flight_rings_bytes, ring->cap);
	free(ring->mem);
	free(ring);
}

bool
flight_ring_has_start(const struct flight_body *b)
{
	const struct flight_ring *ring = atomic_load(&b->ring);

	return ring == NULL || (ring->tail == ring->base &&
	    (ring->base == 0 || atomic_load(&b->fd) >= 0));
}

/* Drops what everybody has passed, and closes the file that nobody reads any more (lock held). */
static void
flight_ring_trim(struct flight *f, struct flight_body *b)
{
	struct flight_ring *ring = b->ring;
	uint64_t at, min = flight_committed(f);
	struct flight_reader *r;

	if (f->digested && atomic_load(&f->hashed_bytes) < min)
		min = atomic_load(&f->hashed_bytes);
	TAILQ_FOREACH(r, &f->readers, link) {
		at = atomic_load(&r->at);
		if ((!r->left_behind || atomic_load(&r->in_use)) && at < min)
			min = at;
	}
	if (min > ring->tail)
		ring->tail = min;
	/* Who reads beyond the prefix is not seen by its place: then the file stays. */
	if (min >= ring->base && atomic_load(&b->fd) >= 0 && f->islands_cap == 0) {
		flight_close_file(b);
		flight_uncount(f, b);
	}
}

/* Bytes that can be written now (lock held). */
static uint64_t
flight_ring_room(const struct flight *f, const struct flight_ring *ring)
{
	return ring->cap - (flight_committed(f) - ring->tail);
}

bool
flight_takes(struct flight *f, size_t n)
{
	struct flight_body *b = flight_body(f);
	struct flight_ring *ring;
	bool takes, start;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	if (!f->begun || !atomic_load(&f->in_memory))
		return true;
	AZ(pthread_mutex_lock(&f->lock));
	ring = b->ring;
	if (flight_ring_room(f, ring) < n)
		flight_ring_trim(f, b);
	takes = flight_ring_room(f, ring) >= n;
	ring->full = !takes;
	start = flight_ring_has_start(b);
	AZ(pthread_mutex_unlock(&f->lock));
	/* Who comes now would miss the beginning. */
	if (!start)
		cache_unlist(f);
	return takes;
}

bool
flight_ring_is_full(const struct flight_body *b)
{
	const struct flight_ring *ring = atomic_load(&b->ring);

	return ring != NULL && atomic_load(&ring->full);
}

void
flight_ring_moved(struct flight *f)
{
	struct flight_body *b = flight_body(f);
	struct flight_ring *ring = b->ring;

	if (ring == NULL || !ring->full)
		return;
	flight_ring_trim(f, b);
	/* Not for each byte: the writer wakes when a quarter is free. */
	if (flight_ring_room(f, ring) < ring->cap / 4)
		return;
	ring->full = false;
	if (f->driver.crowd != NULL)
		f->driver.crowd(f->driver.arg);
}

enum reason
flight_ring_put(struct flight *f, const char *p, size_t n)
{
	struct flight_ring *ring = flight_body(f)->ring;
	uint64_t at = flight_committed(f);

	if (!flight_takes(f, n))
		return REASON_NO_DISK;
	while (n > 0) {
		size_t pos = (size_t)((at - ring->base) % ring->cap), k = (size_t)(ring->cap - pos);

		if (k > n)
			k = n;
		memcpy(ring->mem + pos, p, k);
		p += k;
		at += k;
		n -= k;
	}
	return REASON_OK;
}

struct flight_span
flight_body_span(const struct flight_body *b, uint64_t at, uint64_t n)
{
	const struct flight_ring *ring = atomic_load_explicit(&b->ring, memory_order_acquire);
	uint64_t pos;

	if (b->bytes != NULL)
		return (struct flight_span){b->bytes + at, -1, n};
	if (ring == NULL)
		return (struct flight_span){NULL, atomic_load(&b->fd), n};
	if (at < ring->base)
		return (struct flight_span){NULL, atomic_load(&b->fd),
		    n < ring->base - at ? n : ring->base - at};
	pos = (at - ring->base) % ring->cap;
	return (struct flight_span){ring->mem + pos, -1, n < ring->cap - pos ? n : ring->cap - pos};
}

/* Does this reader hold the others back? Then it has to be quick about it (lock held). */
static void
flight_ring_judge(struct flight *f, struct flight_ring *ring, struct flight_reader *r,
    int64_t now_ms)
{
	uint64_t at = atomic_load(&r->at);
	int64_t ms = now_ms - r->slow_ms;

	if (r->left_behind || flight_committed(f) - ring->tail < ring->cap / 2 ||
	    at > ring->tail + ring->cap / 4) {
		r->slow_ms = 0;
		return;
	}
	if (r->slow_ms == 0) {
		r->slow_ms = now_ms;
		r->slow_at = at;
		return;
	}
	if (ms < (r->begun ? FLIGHT_RING_SLOW_MS : FLIGHT_RING_JOIN_MS))
		return;
	if (r->begun && at - r->slow_at >= FLIGHT_RING_RATE_MIN * (uint64_t)ms / 1000) {
		r->slow_ms = now_ms;
		r->slow_at = at;
		return;
	}
	atomic_store(&r->left_behind, true);
	if (r->begun) {
		COUNT(streamed_slow_cuts_total);
		log_info("flight=%llu a reader took %llu bytes in %lld ms and held others back: cut",
		    (unsigned long long)f->id, (unsigned long long)(at - r->slow_at),
		    (long long)ms);
	}
	r->waiting = false;
	r->wake(r);
}

void
flight_ring_tick(struct flight *f, int64_t now_ms)
{
	struct flight_body *b = flight_body(f);
	struct flight_reader *r;

	if (!f->begun || !atomic_load(&f->in_memory))
		return;
	AZ(pthread_mutex_lock(&f->lock));
	TAILQ_FOREACH(r, &f->readers, link)
		flight_ring_judge(f, b->ring, r, now_ms);
	flight_ring_moved(f);
	AZ(pthread_mutex_unlock(&f->lock));
}
