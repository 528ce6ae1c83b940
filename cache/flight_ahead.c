/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Bytes of a body that come before their turn, from other connections than
 * the one that brings it in order: islands beyond the prefix, written at their
 * place in its file. Readers of a part that lies there get them at once
 * (flight_readable), others when the prefix has grown over them
 * (flight_advance); and the writer learns which parts readers wait for
 * (flight_find_far). What is withheld of the prefix is withheld here.
 *
 *   0 ......... committed ........ island ........ island ........ total
 *
 * The list of islands is the writer's, changed under the flight's lock, under
 * which readers look at it. It is short: who gives out parts joins them.
 */
#include "cache/flight_priv.h"

#include "include/counter.h"

/* How far islands may be read (lock held): 0 if not at all. */
static uint64_t
flight_ahead_limit(const struct flight *f)
{
	int64_t total = flight_total(f);
	uint64_t withheld = f->expected && !f->verified ? f->withheld_bytes : 0;

	if (flight_state(f) != FLIGHT_STREAMING || atomic_load(&f->in_memory) || f->gated ||
	    total < 0 || (uint64_t)total <= withheld)
		return 0;
	return (uint64_t)total - withheld;
}

uint64_t
flight_readable_locked(const struct flight *f, uint64_t at)
{
	uint64_t n = flight_visible(f), limit;
	unsigned i;

	if (at < n || f->islands_n == 0)
		return n;
	for (i = 0; i < f->islands_n && f->islands[i].end <= at; i++)
		;
	if (i == f->islands_n || f->islands[i].first > at)
		return n;
	limit = flight_ahead_limit(f);
	limit = limit < f->islands[i].end ? limit : f->islands[i].end;
	return limit > n ? limit : n;
}

uint64_t
flight_readable(const struct flight_reader *r, uint64_t at)
{
	struct flight *f = r->f;
	uint64_t n = flight_visible(f);

	if (at < n || atomic_load_explicit(&f->islands_n, memory_order_relaxed) == 0)
		return n;
	AZ(pthread_mutex_lock(&f->lock));
	n = flight_readable_locked(f, at);
	AZ(pthread_mutex_unlock(&f->lock));
	return n;
}

void
flight_reader_want(struct flight_reader *r, uint64_t first, uint64_t end)
{
	struct flight *f = r->f;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	r->want_first = first;
	r->want_end = end;
	AZ(pthread_mutex_unlock(&f->lock));
}

/* What this reader needs next, when it lies beyond the prefix and is not there yet (lock held). */
static bool
flight_reader_is_far(const struct flight *f, const struct flight_reader *r, uint64_t window,
    struct flight_far *far)
{
	uint64_t at = atomic_load(&r->at), limit = flight_ahead_limit(f), have;

	if (at < r->want_first)
		at = r->want_first;
	if (r->want_end < limit)
		limit = r->want_end;
	if (r->ahead || at <= flight_committed(f) || at >= limit)
		return false;
	have = flight_readable_locked(f, at);
	if (have < at)
		have = at;
	*far = (struct flight_far){.at = have, .end = limit, .starved = have == at};
	return have < limit && have - at < window;
}

unsigned
flight_find_far(struct flight *f, uint64_t window, struct flight_far *out, unsigned max_n)
{
	struct flight_reader *r;
	unsigned n = 0;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	TAILQ_FOREACH(r, &f->readers, link) {
		if (n == max_n)
			break;
		n += flight_reader_is_far(f, r, window, &out[n]);
	}
	AZ(pthread_mutex_unlock(&f->lock));
	return n;
}

/* ---- the writer's side ---- */

/* Room for one island more; false: no memory. */
static bool
flight_grow_islands(struct flight *f)
{
	unsigned cap = f->islands_cap == 0 ? 8 : 2 * f->islands_cap;
	struct flight_island *v;

	if (f->islands_n < f->islands_cap)
		return true;
	v = realloc(f->islands, cap * sizeof(*v));
	if (v == NULL)
		return false;
	f->islands = v;
	f->islands_cap = cap;
	return true;
}

/* [first, end) is there; joins what it touches (lock held, there is room for one more). */
static void
flight_add_island(struct flight *f, uint64_t first, uint64_t end)
{
	struct flight_island *v = f->islands;
	unsigned n = f->islands_n, i = 0, k;

	while (i < n && v[i].end < first)
		i++;
	for (k = i; k < n && v[k].first <= end; k++) {
		first = v[k].first < first ? v[k].first : first;
		end = v[k].end > end ? v[k].end : end;
	}
	memmove(&v[i + 1], &v[k], (n - k) * sizeof(*v));
	v[i] = (struct flight_island){first, end};
	f->islands_n = n - (k - i) + 1;
}

void
flight_trim_islands(struct flight *f, uint64_t upto)
{
	struct flight_island *v = f->islands;
	unsigned n = f->islands_n, k = 0;

	while (k < n && v[k].end <= upto)
		k++;
	if (k > 0)
		memmove(v, v + k, (n - k) * sizeof(*v));
	f->islands_n = n - k;
	if (k < n && v[0].first < upto)
		v[0].first = upto;
}

bool
flight_takes_ahead(const struct flight *f)
{
	return f->begun && !f->in_memory && !f->writer_done && flight_body(f)->bytes == NULL;
}

enum reason
flight_write_ahead(struct flight *f, uint64_t at, const void *data, size_t n)
{
	struct flight_reader *r;
	enum reason e;
	bool room;

	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(f->begun && !f->in_memory);
	MUST(at >= flight_committed(f) && (int64_t)(at + n) <= flight_total(f));
	if (f->writer_done)
		return REASON_DISK_ERROR;	/* the verifier could not read it back */
	AZ(pthread_mutex_lock(&f->lock));
	room = flight_grow_islands(f);
	AZ(pthread_mutex_unlock(&f->lock));
	e = room ? flight_write_at(f, at, data, n) : REASON_NO_MEMORY;
	if (e != REASON_OK)
		return e;
	AZ(pthread_mutex_lock(&f->lock));
	flight_add_island(f, at, at + n);
	TAILQ_FOREACH(r, &f->readers, link)
		if (r->seen_bytes >= at && r->seen_bytes < at + n &&
		    flight_readable_locked(f, r->seen_bytes) > r->seen_bytes)
			flight_wake_reader(r);
	AZ(pthread_mutex_unlock(&f->lock));
	return REASON_OK;
}

void
flight_advance(struct flight *f, uint64_t upto)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	MUST(!f->in_memory);
	if (upto == flight_committed(f) || f->writer_done)
		return;
	MUST(f->islands_n > 0 && f->islands[0].first <= flight_committed(f) &&
	    f->islands[0].end >= upto);
	AZ(pthread_mutex_lock(&f->lock));
	flight_grow_prefix(f, upto);
	AZ(pthread_mutex_unlock(&f->lock));
	if (f->keep || f->expected)
		verify_poke(cache_parts(f->cache)->verify, f);
}

void
flight_drop_ahead(struct flight *f)
{
	CHECK_OBJ(f, FLIGHT_MAGIC);
	AZ(pthread_mutex_lock(&f->lock));
	f->islands_n = 0;
	AZ(pthread_mutex_unlock(&f->lock));
}

bool
flight_had_ahead(const struct flight *f)
{
	return f->islands_cap > 0;
}
