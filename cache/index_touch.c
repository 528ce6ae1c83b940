/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What is used, what is held and what is still open. A hit costs no disk
 * write: its view notes the blob in a ring of its own (index_view_touch), the
 * writer thread moves the rings into a table about a second later, and from
 * there to the records once a minute, where it makes a difference, or when
 * somebody flushes the index (eviction does, before it judges). What was not
 * written is lost with the process, which costs some order among the least
 * recently used.
 *
 * Holds are slots in the view that eviction looks through; what it dropped has
 * its room back when no view is behind with closing (index_drops_closed).
 */
#include "cache/index_priv.h"
#include "include/clock.h"
#include "include/counter.h"

/* ---- a view's side ---- */

/* Any spread-out number of a digest, never 0. */
static uint64_t
index_digest_number(const uint8_t digest[32])
{
	uint64_t n;

	memcpy(&n, digest, sizeof(n));
	return n != 0 ? n : 1;
}

/* The first touch since the last drain, or one that makes a drain urgent, wakes the writer. */
static void
index_touch_wake(struct index *ix, bool hurry)
{
	bool wake = !atomic_load_explicit(&ix->touched, memory_order_relaxed) &&
	    !atomic_exchange(&ix->touched, true);

	if (hurry && !atomic_load_explicit(&ix->touch_hurry, memory_order_relaxed))
		wake |= !atomic_exchange(&ix->touch_hurry, true);
	if (wake)
		AZ(sem_post(&ix->wake));
}

void
index_view_touch(struct index_view *v, const uint8_t digest[32], int64_t now_s)
{
	struct index_ring *ring = atomic_load_explicit(&v->ring, memory_order_relaxed);
	struct index_touch *seen;
	uint32_t head, used;

	CHECK_OBJ(v, INDEX_VIEW_MAGIC);
	if (ring == NULL) {
		ring = calloc(1, sizeof(*ring));
		if (ring == NULL)
			return;
		atomic_store(&v->ring, ring);
	}
	seen = &ring->seen[index_digest_number(digest) % INDEX_SEEN];
	if (seen->used_at_s == now_s && memcmp(seen->digest, digest, 32) == 0)
		return;
	head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	used = head - atomic_load_explicit(&ring->tail, memory_order_acquire);
	if (used == INDEX_RING)
		return;
	memcpy(seen->digest, digest, 32);
	seen->used_at_s = now_s;
	ring->slot[head % INDEX_RING] = *seen;
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	index_touch_wake(v->ix, used > INDEX_RING / 2);
}

/* A view closes: the writer drains its ring for the last time. */
void
index_touch_leave(struct index *ix, struct index_ring *ring)
{
	if (ring == NULL)
		return;
	AZ(pthread_mutex_lock(&ix->views_lock));
	ring->next = ix->left_rings;
	ix->left_rings = ring;
	AZ(pthread_mutex_unlock(&ix->views_lock));
	index_touch_wake(ix, false);
}

/* The view's slots, made at the first hold. */
static struct index_holds *
index_view_holds(struct index_view *v)
{
	struct index_holds *h = atomic_load_explicit(&v->holds, memory_order_relaxed);

	if (h == NULL) {
		h = calloc(1, sizeof(*h));
		if (h != NULL)
			atomic_store(&v->holds, h);
	}
	return h;
}

int
index_view_hold(struct index_view *v, const uint8_t digest[32])
{
	struct index_holds *h;
	unsigned slot;

	CHECK_OBJ(v, INDEX_VIEW_MAGIC);
	h = index_view_holds(v);
	if (h == NULL)
		return -1;
	if (h->free_n > 0)
		slot = h->free[--h->free_n];
	else {
		slot = atomic_load_explicit(&h->top_n, memory_order_relaxed);
		if (slot == INDEX_HOLDS)
			return -1;
		atomic_store_explicit(&h->top_n, slot + 1, memory_order_release);
	}
	atomic_store_explicit(&h->slot[slot], index_digest_number(digest), memory_order_release);
	return (int)slot;
}

void
index_view_release(struct index_view *v, int slot)
{
	struct index_holds *h;

	CHECK_OBJ(v, INDEX_VIEW_MAGIC);
	if (slot < 0)
		return;
	h = atomic_load_explicit(&v->holds, memory_order_relaxed);
	AN(h);
	MUST(slot < INDEX_HOLDS && atomic_load(&h->slot[slot]) != 0);
	atomic_store_explicit(&h->slot[slot], 0, memory_order_release);
	h->free[h->free_n++] = (uint16_t)slot;
}

/* Does a view hold a blob with this number? */
static bool
index_holds_has(struct index_holds *h, uint64_t number)
{
	unsigned top_n = atomic_load_explicit(&h->top_n, memory_order_acquire);

	for (unsigned i = 0; i < top_n; i++)
		if (atomic_load_explicit(&h->slot[i], memory_order_acquire) == number)
			return true;
	return false;
}

/* Does some view answer yes? Looking takes the list's lock. */
static bool
index_any_view(const struct index *ix, bool (*says)(struct index_view *v, uint64_t number),
    uint64_t number)
{
	union {
		const struct index *c;
		struct index *v;
	} u = {.c = ix};
	struct index_view *v;
	bool any = false;

	CHECK_OBJ(ix, INDEX_MAGIC);
	AZ(pthread_mutex_lock(&u.v->views_lock));
	TAILQ_FOREACH(v, &ix->views, link)
		if (says(v, number)) {
			any = true;
			break;
		}
	AZ(pthread_mutex_unlock(&u.v->views_lock));
	return any;
}

static bool
index_view_has(struct index_view *v, uint64_t number)
{
	struct index_holds *h = atomic_load_explicit(&v->holds, memory_order_acquire);

	return h != NULL && index_holds_has(h, number);
}

bool
index_is_held(const struct index *ix, const uint8_t digest[32])
{
	return index_any_view(ix, index_view_has, index_digest_number(digest));
}

void
index_view_closed(struct index_view *v, uint32_t drop_version)
{
	CHECK_OBJ(v, INDEX_VIEW_MAGIC);
	atomic_store(&v->closed_drops, drop_version);
	atomic_store(&v->keeps_open, true);
}

static bool
index_view_is_behind(struct index_view *v, uint64_t drop_version)
{
	return atomic_load(&v->keeps_open) && atomic_load(&v->closed_drops) != drop_version;
}

bool
index_drops_closed(const struct index *ix)
{
	return !index_any_view(ix, index_view_is_behind, index_drop_version(ix));
}

/* ---- the writer's side ---- */

/* The table's slot of a digest, or the free one where it belongs. */
static struct index_touch *
index_touch_find(struct index *ix, const uint8_t digest[32])
{
	uint32_t i;

	memcpy(&i, digest, sizeof(i));
	for (;; i++) {
		struct index_touch *t = &ix->touches[i % INDEX_TOUCHED];

		if (t->used_at_s == 0 || memcmp(t->digest, digest, 32) == 0)
			return t;
	}
}

/* Writes one time; *keep when the difference is not worth a write yet. */
static int
index_touch_write(struct index *ix, const struct index_touch *t, int64_t least_s, bool *keep)
{
	struct record_blob blob;
	int64_t newer_s;
	int rc = index_txn_get_blob(ix, t->digest, &blob);

	*keep = false;
	if (rc != 0)
		return rc == MDB_NOTFOUND ? 0 : rc;
	newer_s = t->used_at_s - blob.pub.used_at_s;
	*keep = newer_s > 0 && newer_s < least_s;
	if (newer_s < least_s || newer_s <= 0)
		return 0;
	blob.pub.used_at_s = t->used_at_s;
	return index_txn_put_blob(ix, t->digest, &blob);
}

/* Writes times that differ by least_s or more; the others stay in the table. */
void
index_touch_flush(struct index *ix, int64_t least_s)
{
	struct index_touch *was = ix->touches;
	struct index_touch *now = calloc(INDEX_TOUCHED, sizeof(*now));
	int rc;

	ix->touch_write_ms = INT64_MAX;
	if (ix->touched_n == 0 || now == NULL) {
		free(now);
		return;
	}
	ix->touches = now;
	ix->touched_n = 0;
	rc = index_batch_begin(ix);
	for (uint32_t i = 0; i < INDEX_TOUCHED && rc == 0; i++) {
		bool keep;

		if (was[i].used_at_s == 0)
			continue;
		rc = index_touch_write(ix, &was[i], least_s, &keep);
		if (keep) {
			*index_touch_find(ix, was[i].digest) = was[i];
			ix->touched_n++;
		}
	}
	free(was);
	if (rc == 0)
		rc = index_batch_commit(ix);
	else if (ix->batch.txn != NULL)
		mdb_txn_abort(ix->batch.txn);
	if (rc == 0)
		index_batch_publish(ix);
	else
		index_note_error(ix, rc);
}

/* One view's touches go to the table. */
static void
index_ring_drain(struct index *ix, struct index_ring *ring)
{
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

	for (; tail != head; tail++) {
		const struct index_touch *from = &ring->slot[tail % INDEX_RING];
		struct index_touch *to = index_touch_find(ix, from->digest);

		if (to->used_at_s == 0 && ix->touched_n >= INDEX_TOUCHED / 4 * 3)
			continue;	/* more than the table holds: these count as not used */
		ix->touched_n += to->used_at_s == 0;
		memcpy(to->digest, from->digest, sizeof(to->digest));
		if (from->used_at_s > to->used_at_s)
			to->used_at_s = from->used_at_s;
	}
	atomic_store_explicit(&ring->tail, tail, memory_order_release);
}

/* All views' touches go to the table. */
void
index_touch_drain(struct index *ix)
{
	struct index_view *v;
	struct index_ring *ring;

	ix->touch_drain_ms = INT64_MAX;
	atomic_store(&ix->touched, false);
	atomic_store(&ix->touch_hurry, false);
	AZ(pthread_mutex_lock(&ix->views_lock));
	TAILQ_FOREACH(v, &ix->views, link) {
		ring = atomic_load_explicit(&v->ring, memory_order_acquire);
		if (ring != NULL)
			index_ring_drain(ix, ring);
	}
	while ((ring = ix->left_rings) != NULL) {
		ix->left_rings = ring->next;
		index_ring_drain(ix, ring);
		free(ring);
	}
	AZ(pthread_mutex_unlock(&ix->views_lock));
	if (ix->touched_n > 0 && ix->touch_write_ms == INT64_MAX)
		ix->touch_write_ms = clock_mono_ms() + INDEX_TOUCH_WRITE_MS;
	if (ix->touched_n > INDEX_TOUCHED / 2)
		index_touch_flush(ix, 1);
}

/* What is due of the touches; returns when to look again. */
int64_t
index_touch_step(struct index *ix, int64_t now_ms)
{
	if (atomic_load(&ix->touched) && ix->touch_drain_ms == INT64_MAX)
		ix->touch_drain_ms = now_ms + INDEX_TOUCH_TICK_MS;
	if (now_ms >= ix->touch_drain_ms || atomic_load(&ix->touch_hurry))
		index_touch_drain(ix);
	if (now_ms >= ix->touch_write_ms)
		index_touch_flush(ix, INDEX_TOUCH_WRITE_S);
	return ix->touch_drain_ms < ix->touch_write_ms ? ix->touch_drain_ms : ix->touch_write_ms;
}
