/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The keeper thread. It sleeps until somebody kicks it (a body was stored or
 * begun) or ten seconds passed, compares what is stored with the budget, and
 * where that is exceeded walks all blob records once per run, keeping a heap
 * of just as many least recently used ones as must go. A run ends at 95 % of
 * the budget, so that a full cache does not walk for each body that arrives.
 * Blobs that somebody reads (index_is_held) are passed over, and so is what a
 * pinned generation refers to; Releases and indexes of kept generations go
 * last. When nothing else is left, the keeper waits for its next look instead
 * of trying again.
 *
 * Who met a full disk asks for room (evict_want), whatever the budget says; a
 * body that is still in memory waits for it (evict_wait_for_room). A run for
 * room frees a twentieth of the cache, so that not each body costs a walk.
 *
 * Once in a while it also forgets URLs whose blob has gone and unfinished
 * bodies that nobody came back for.
 *
 * Life: evict_start when the index is open, evict_stop before it closes (which
 * may still bring wishes), evict_free after it.
 */
#include "cache/evict.h"
#include "cache/blob.h"
#include "cache/repo.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "include/obj.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/statvfs.h>

#define EVICT_MAGIC 0xe71c70beu

enum {
	EVICT_LOOK_MS = 10000,
	EVICT_STEP_N = 1000,		/* records per short transaction */
	EVICT_HEAP_MAX = 65536,		/* candidates per walk */
	EVICT_TARGET_PERCENT = 95,
	EVICT_ROOM_MAX = 1 << 30,	/* the most that is freed because a disk is full, if less is wanted */
	EVICT_CLOSE_MS = 2000,		/* for workers to close what was dropped */
	EVICT_CLOSE_STEP_MS = 10,
	EVICT_TIDY_MS = 3600 * 1000,
	EVICT_TIDY_DROPS = 1000,	/* fewer dangling URLs are not worth a walk */
	EVICT_PARTIAL_S = 7 * 86400,
	EVICT_KEEP_LONG_S = 365 * 86400,	/* what generations list counts as younger by this */
};

/* A blob that might go. */
struct evict_candidate {
	int64_t used_at_s;
	uint64_t size_bytes;
	uint8_t digest[32];
};

/* The oldest blobs met so far: a heap with the youngest of them on top. */
struct evict_heap {
	struct evict_candidate *v;
	size_t n, cap;
	uint64_t bytes, want_bytes;	/* together; enough is enough */
};

/* Owned by the cache; the thread is its own, others come through lock. */
struct evict {
	uint32_t magic;
	struct evict_conf conf;
	struct index_view *view;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool stop, kicked, asked;	/* asked: by evict_want, evict_wait_for_room */
	uint64_t want_bytes;		/* of evict_want, the most */
	STAILQ_HEAD(evict_wishes, evict_wish) wishes;
	/* The thread's own. */
	bool stuck;			/* the last run could not free what was needed */
	atomic_bool over;		/* and that was the budget's need */
	uint64_t drops_n;		/* since the last tidying */
	int64_t tidied_ms;
};

/* ---- candidates ---- */

static bool
evict_is_younger(const struct evict_candidate *a, const struct evict_candidate *b)
{
	return a->used_at_s > b->used_at_s;
}

static void
evict_swap(struct evict_candidate *a, struct evict_candidate *b)
{
	struct evict_candidate was = *a;

	*a = *b;
	*b = was;
}

/* Moves entry i down to its place. */
static void
evict_heap_sink(struct evict_heap *h, size_t i)
{
	for (;;) {
		size_t top = i, left = 2 * i + 1;

		if (left < h->n && evict_is_younger(&h->v[left], &h->v[top]))
			top = left;
		if (left + 1 < h->n && evict_is_younger(&h->v[left + 1], &h->v[top]))
			top = left + 1;
		if (top == i)
			return;
		evict_swap(&h->v[i], &h->v[top]);
		i = top;
	}
}

/* Takes the youngest off. */
static struct evict_candidate
evict_heap_pop(struct evict_heap *h)
{
	struct evict_candidate top = h->v[0];

	h->bytes -= top.size_bytes;
	h->v[0] = h->v[--h->n];
	evict_heap_sink(h, 0);
	return top;
}

/* Puts one in; there is room. */
static void
evict_heap_push(struct evict_heap *h, const struct evict_candidate *c)
{
	size_t i = h->n++;

	h->v[i] = *c;
	h->bytes += c->size_bytes;
	for (; i > 0 && evict_is_younger(&h->v[i], &h->v[(i - 1) / 2]); i = (i - 1) / 2)
		evict_swap(&h->v[i], &h->v[(i - 1) / 2]);
}

/* Room for one more; false when memory is out or the heap is as large as it may be. */
static bool
evict_heap_grow(struct evict_heap *h)
{
	size_t cap = h->cap != 0 ? h->cap * 2 : 256;
	struct evict_candidate *v;

	if (h->n < h->cap)
		return true;
	if (cap > EVICT_HEAP_MAX || (v = realloc(h->v, cap * sizeof(*v))) == NULL)
		return false;
	h->v = v;
	h->cap = cap;
	return true;
}

/* Considers a blob: it stays in the heap if it is among the oldest that make up want_bytes. */
static void
evict_heap_offer(struct evict_heap *h, const struct evict_candidate *c)
{
	bool enough = h->bytes >= h->want_bytes;

	if (enough && h->n > 0 && !evict_is_younger(&h->v[0], c))
		return;
	if (!evict_heap_grow(h)) {
		if (h->n == 0 || !evict_is_younger(&h->v[0], c))
			return;
		(void)evict_heap_pop(h);
	}
	evict_heap_push(h, c);
	while (h->n > 1 && h->bytes - h->v[0].size_bytes >= h->want_bytes)
		(void)evict_heap_pop(h);
}

struct evict_walk {
	struct evict *e;
	struct repo_keep *keep;		/* NULL: nothing is special */
	struct evict_heap heap;
};

static void
evict_walk_each(void *arg, const uint8_t digest[32], const struct blob_rec *rec)
{
	struct evict_walk *w = arg;
	struct evict_candidate c = {.used_at_s = rec->used_at_s, .size_bytes = rec->size_bytes};

	if (index_is_held(w->e->conf.index, digest))
		return;
	switch (w->keep != NULL ? repo_keep_find(w->keep, digest) : REPO_KEEP_NO) {
	case REPO_KEEP_NO:
		break;
	case REPO_KEEP_LONG:
		c.used_at_s += EVICT_KEEP_LONG_S;
		break;
	case REPO_KEEP_PINNED:
		return;
	}
	memcpy(c.digest, digest, sizeof(c.digest));
	evict_heap_offer(&w->heap, &c);
}

static bool
evict_is_stopping(struct evict *e)
{
	bool stop;

	AZ(pthread_mutex_lock(&e->lock));
	stop = e->stop;
	AZ(pthread_mutex_unlock(&e->lock));
	return stop;
}

/* Meets every blob once, in steps between which the index's pages may change. */
static void
evict_walk(struct evict *e, struct evict_walk *w)
{
	uint8_t after[32], last[32];
	uint32_t seen_n = 0;
	bool first = true;

	do {
		if (index_walk_blobs(e->view, first ? NULL : after, EVICT_STEP_N,
		    evict_walk_each, w, last, &seen_n) != REASON_OK)
			return;
		memcpy(after, last, sizeof(after));
		first = false;
	} while (seen_n == EVICT_STEP_N && !evict_is_stopping(e));
}

static int
evict_compare(const void *a, const void *b)
{
	const struct evict_candidate *ca = a, *cb = b;

	return (ca->used_at_s > cb->used_at_s) - (ca->used_at_s < cb->used_at_s);
}

/* Drops the oldest candidates until want_bytes are freed. Returns what was. */
static uint64_t
evict_drop(struct evict *e, struct evict_heap *h, uint64_t want_bytes, uint64_t *dropped_n)
{
	uint64_t freed_bytes = 0;

	if (h->n > 1)
		qsort(h->v, h->n, sizeof(*h->v), evict_compare);
	for (size_t i = 0; i < h->n && freed_bytes < want_bytes; i++) {
		if (index_is_held(e->conf.index, h->v[i].digest))
			continue;	/* somebody came for it meanwhile */
		index_drop_blob(e->conf.index, h->v[i].digest);
		freed_bytes += h->v[i].size_bytes;
		(*dropped_n)++;
	}
	index_flush(e->conf.index);
	return freed_bytes;
}

/* Walks and drops until want_bytes are freed or nothing more can be. */
static uint64_t
evict_free_bytes(struct evict *e, uint64_t want_bytes, uint64_t *dropped_n)
{
	uint64_t freed_bytes = 0, got_bytes, before_n;

	index_flush(e->conf.index);	/* last-used times come up to date */
	do {
		struct evict_walk w = {.e = e, .heap.want_bytes = want_bytes - freed_bytes};

		before_n = *dropped_n;
		if (e->conf.repos != NULL)
			w.keep = repo_keep_new(e->conf.repos);
		evict_walk(e, &w);
		repo_keep_free(&w.keep);
		got_bytes = evict_drop(e, &w.heap, want_bytes - freed_bytes, dropped_n);
		freed_bytes += got_bytes;
		free(w.heap.v);
	} while (freed_bytes < want_bytes && *dropped_n > before_n && !evict_is_stopping(e));
	return freed_bytes;
}

/* ---- what is needed ---- */

/* Bytes above the budget, down to its 95 %; 0 within it. */
static uint64_t
evict_over_budget(const struct evict *e)
{
	uint64_t have = index_blob_bytes(e->conf.index), max = e->conf.cache_max_bytes;

	if (e->conf.partial_bytes != NULL)
		have += e->conf.partial_bytes(e->conf.arg);
	if (have <= max)
		return 0;
	return have - max + max / 100 * (100 - EVICT_TARGET_PERCENT);
}

/* Bytes that the file system lacks, and a twentieth more; 0 when it has enough. */
static uint64_t
evict_under_free(const struct evict *e)
{
	uint64_t free_bytes, min = e->conf.min_free_bytes;
	struct statvfs vfs;

	if (min == 0 || fstatvfs(blobstore_dirfd(e->conf.blobs), &vfs) != 0)
		return 0;
	free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return free_bytes >= min ? 0 : min - free_bytes + min / 20;
}

/* How much to free for those who want room_bytes, so that the next ones find some too. */
static uint64_t
evict_room(const struct evict *e, uint64_t room_bytes)
{
	uint64_t more = index_blob_bytes(e->conf.index) / 100 * (100 - EVICT_TARGET_PERCENT);

	if (more > EVICT_ROOM_MAX)
		more = EVICT_ROOM_MAX;
	return room_bytes == 0 || room_bytes > more ? room_bytes : more;
}

/* Says what a run did, and once when it could not do enough. */
static void
evict_log(struct evict *e, uint64_t dropped_n, uint64_t freed_bytes, uint64_t need_bytes,
    int64_t took_ms)
{
	bool stuck = freed_bytes < need_bytes;

	if (dropped_n > 0)
		log_info("evicted %llu bodies, %llu MiB, in %lld ms; %llu bodies, %llu MiB stay",
		    (unsigned long long)dropped_n, (unsigned long long)(freed_bytes >> 20),
		    (long long)took_ms, (unsigned long long)index_blob_count(e->conf.index),
		    (unsigned long long)(index_blob_bytes(e->conf.index) >> 20));
	if (stuck && !e->stuck)
		log_warning("%llu MiB more should be freed, but what is left is being read or "
		    "fetched, or is not the depot's (see cache_max, cache_min_free)",
		    (unsigned long long)((need_bytes - freed_bytes) >> 20));
	e->stuck = stuck;
}

static uint64_t
evict_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* One look at the budget, with a run if need be. Returns the bytes that it freed. */
static uint64_t
evict_look(struct evict *e, uint64_t room_bytes)
{
	uint64_t budget_bytes = evict_max(evict_over_budget(e), evict_under_free(e));
	uint64_t want_bytes = evict_max(budget_bytes, evict_room(e, room_bytes));
	uint64_t dropped_n = 0, freed_bytes = 0;
	int64_t began_ms = clock_mono_ms();

	if (want_bytes > 0) {
		freed_bytes = evict_free_bytes(e, want_bytes, &dropped_n);
		COUNT_ADD(blobs_evicted_total, dropped_n);
		e->drops_n += dropped_n;
	}
	atomic_store(&e->over, freed_bytes < budget_bytes);
	evict_log(e, dropped_n, freed_bytes, evict_max(budget_bytes, room_bytes),
	    clock_mono_ms() - began_ms);
	return freed_bytes;
}

/* ---- tidying ---- */

/* URLs met in one step of the walk. */
struct evict_urls {
	unsigned n;
	struct {
		struct key key;
		uint8_t digest[32];
	} v[EVICT_STEP_N];
};

static void
evict_url_each(void *arg, const struct key *key, const struct object_rec *rec)
{
	struct evict_urls *u = arg;

	u->v[u->n].key = *key;
	memcpy(u->v[u->n].digest, rec->digest, 32);
	u->n++;
}

/* URLs whose blob has gone are misses: they need not be remembered. */
static void
evict_tidy_urls(struct evict *e)
{
	struct evict_urls *u = malloc(sizeof(*u));
	struct key after, last;
	struct blob_rec blob;
	uint32_t seen_n = 0;
	bool first = true;

	if (u == NULL)
		return;
	do {
		u->n = 0;
		if (index_walk_objects(e->view, first ? NULL : &after, EVICT_STEP_N,
		    evict_url_each, u, &last, &seen_n) != REASON_OK)
			break;
		for (unsigned i = 0; i < u->n; i++)
			if (index_get_blob(e->view, u->v[i].digest, &blob) == REASON_NOT_FOUND)
				index_forget_dangling(e->conf.index, &u->v[i].key);
		index_flush(e->conf.index);
		after = last;
		first = false;
	} while (seen_n == EVICT_STEP_N && !evict_is_stopping(e));
	free(u);
}

/* Unfinished bodies that nobody came back for. One that is being fetched is not that old. */
static bool
evict_partial_each(void *arg, const uint8_t name[32], const struct blob_stat *st)
{
	struct evict *e = arg;
	struct key key;

	memcpy(key.b, name, KEY_BYTES);
	if (clock_wall_s() - st->mtime_ns / 1000000000 > EVICT_PARTIAL_S) {
		index_partial_end(e->conf.index, &key);
		if (blob_partial_remove(e->conf.blobs, &key) != REASON_OK)
			return false;
	}
	return !evict_is_stopping(e);
}

static void
evict_tidy(struct evict *e, int64_t now_ms)
{
	if (now_ms - e->tidied_ms < EVICT_TIDY_MS)
		return;
	e->tidied_ms = now_ms;
	if (blob_partial_walk(e->conf.blobs, evict_partial_each, e) != REASON_OK)
		log_warning("unfinished bodies can't be listed");
	if (e->drops_n >= EVICT_TIDY_DROPS) {
		evict_tidy_urls(e);
		e->drops_n = 0;
	}
}

/* ---- the thread ---- */

/* Sleeps until kicked or time is up. A kick does not help where nothing can go. */
static bool
evict_wait(struct evict *e, uint64_t *room_bytes, struct evict_wishes *wishes)
{
	struct evict_wish *w;
	struct timespec until = clock_deadline(EVICT_LOOK_MS);
	int rc = 0;

	AZ(pthread_mutex_lock(&e->lock));
	while (!e->stop && !e->asked && (!e->kicked || e->stuck) && rc == 0)
		rc = pthread_cond_timedwait(&e->news, &e->lock, &until);
	MUST(rc == 0 || rc == ETIMEDOUT);
	*room_bytes = e->want_bytes;
	e->want_bytes = 0;
	e->kicked = e->asked = false;
	STAILQ_CONCAT(wishes, &e->wishes);
	STAILQ_FOREACH(w, wishes, next)
		*room_bytes += w->want_bytes;
	AZ(pthread_mutex_unlock(&e->lock));
	return !evict_is_stopping(e);
}

/* What was dropped has its room until the last worker closed it, in its next round. */
static void
evict_wait_closed(struct evict *e)
{
	struct timespec step = {.tv_nsec = EVICT_CLOSE_STEP_MS * 1000000};
	unsigned n = EVICT_CLOSE_MS / EVICT_CLOSE_STEP_MS;

	while (n-- > 0 && !index_drops_closed(e->conf.index) && !evict_is_stopping(e))
		(void)nanosleep(&step, NULL);
}

/* Gives what was freed to those who waited for this look, in their order. */
static void
evict_answer(struct evict *e, struct evict_wishes *wishes, uint64_t freed_bytes)
{
	struct evict_wish *w;
	bool enough;

	if (freed_bytes > 0 && !STAILQ_EMPTY(wishes))
		evict_wait_closed(e);
	while ((w = STAILQ_FIRST(wishes)) != NULL) {
		STAILQ_REMOVE_HEAD(wishes, next);
		enough = freed_bytes >= w->want_bytes;
		if (enough)
			freed_bytes -= w->want_bytes;
		w->done(w->arg, enough);
	}
}

static void *
evict_main(void *arg)
{
	struct evict_wishes wishes = STAILQ_HEAD_INITIALIZER(wishes);
	struct evict *e = arg;
	uint64_t room_bytes = 0;

	CHECK_OBJ(e, EVICT_MAGIC);
	(void)pthread_setname_np(pthread_self(), "keeper");
	do {
		evict_answer(e, &wishes, evict_look(e, room_bytes));
		evict_tidy(e, clock_mono_ms());
	} while (evict_wait(e, &room_bytes, &wishes));
	evict_answer(e, &wishes, 0);
	return NULL;
}

struct evict *
evict_start(const struct evict_conf *conf)
{
	struct evict *e;

	OBJ_NEW(e, EVICT_MAGIC);
	if (e == NULL)
		return NULL;
	e->conf = *conf;
	e->tidied_ms = clock_mono_ms();
	STAILQ_INIT(&e->wishes);
	AZ(pthread_mutex_init(&e->lock, NULL));
	clock_cond_init(&e->news);
	e->view = index_view_open(conf->index);
	if (e->view == NULL || pthread_create(&e->thread, NULL, evict_main, e) != 0) {
		index_view_close(&e->view);
		OBJ_FREE(e);
	}
	return e;
}

void
evict_stop(struct evict *e)
{
	if (e == NULL)
		return;
	CHECK_OBJ(e, EVICT_MAGIC);
	AZ(pthread_mutex_lock(&e->lock));
	e->stop = true;
	AZ(pthread_cond_signal(&e->news));
	AZ(pthread_mutex_unlock(&e->lock));
	AZ(pthread_join(e->thread, NULL));
	index_view_close(&e->view);
}

void
evict_free(struct evict **e_p)
{
	struct evict *e = *e_p;

	if (e == NULL)
		return;
	CHECK_OBJ(e, EVICT_MAGIC);
	MUST(e->stop && STAILQ_EMPTY(&e->wishes));
	*e_p = NULL;
	AZ(pthread_cond_destroy(&e->news));
	AZ(pthread_mutex_destroy(&e->lock));
	OBJ_FREE(e);
}

void
evict_kick(struct evict *e)
{
	CHECK_OBJ(e, EVICT_MAGIC);
	AZ(pthread_mutex_lock(&e->lock));
	if (!e->kicked)
		AZ(pthread_cond_signal(&e->news));
	e->kicked = true;
	AZ(pthread_mutex_unlock(&e->lock));
}

void
evict_set_budget(struct evict *e, uint64_t cache_max_bytes, uint64_t min_free_bytes)
{
	CHECK_OBJ(e, EVICT_MAGIC);
	e->conf.cache_max_bytes = cache_max_bytes;
	e->conf.min_free_bytes = min_free_bytes;
	evict_kick(e);
}

void
evict_want(struct evict *e, uint64_t want_bytes)
{
	CHECK_OBJ(e, EVICT_MAGIC);
	AZ(pthread_mutex_lock(&e->lock));
	e->want_bytes = evict_max(e->want_bytes, want_bytes);
	e->asked = true;
	AZ(pthread_cond_signal(&e->news));
	AZ(pthread_mutex_unlock(&e->lock));
}

void
evict_wait_for_room(struct evict *e, struct evict_wish *wish)
{
	bool stopped;

	CHECK_OBJ(e, EVICT_MAGIC);
	AZ(pthread_mutex_lock(&e->lock));
	stopped = e->stop;
	if (!stopped) {
		STAILQ_INSERT_TAIL(&e->wishes, wish, next);
		e->asked = true;
		AZ(pthread_cond_signal(&e->news));
	}
	AZ(pthread_mutex_unlock(&e->lock));
	if (stopped)
		wish->done(wish->arg, false);
}

bool
evict_is_over(const struct evict *e)
{
	return atomic_load(&e->over);
}
