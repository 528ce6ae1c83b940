/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Windows: copies in memory of what several readers are being sent. Called by
 * object.c and cache.c, on the worker whose readers they are.
 *
 * One reader is best served by sendfile, which copies nothing. Where several
 * want the same bytes, sendfile goes through the page cache page by page for
 * each of them; one copy into large pages and plain sends from there cost
 * less (measured on loopback with 8 and 32 clients). Copying never faults and
 * never waits: what is not in the page cache is no window.
 *
 * A new window is fresh: there are two of these at most, so that readers that
 * share nothing go through memory that stays in the processor's cache. One
 * that a second reader finds is kept, for as long as it is used. Who would
 * need a new one lets the others go first (deliver.c), so that those behind
 * catch up and all of them share: of 32 readers one in ten copies, or fewer.
 */
#include "cache/window.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "include/counter.h"

enum {
	WINDOWS_MAX = 32,		/* of all threads, and of one */
	WINDOWS_SHARE_MIN = 4,		/* that each thread may have in any case */
	WINDOWS_FRESH_MAX = 2,
	WINDOW_IDLE_MS = 1000,
	WINDOW_ALIGN_BYTES = 2 << 20,	/* of large pages */
	WINDOWS_POOL_BYTES = WINDOWS_MAX * WINDOW_BYTES,
};

#define WINDOWS_MAGIC 0x317d0002u

TAILQ_HEAD(window_list, window);

struct window {
	TAILQ_ENTRY(window) link;
	struct window_list *list;	/* on which it is */
	uint64_t id, number;		/* of which body, and where */
	char *p;
	uint32_t filled;		/* bytes that are there */
	uint32_t begin;			/* where it was used last */
	int64_t used_ms;		/* 0: not yet */
};

/* One thread's. */
struct windows {
	uint32_t magic;
	struct window_list none, fresh, kept;	/* the latter two: most recent last */
	unsigned fresh_n, n;			/* n: fresh and kept */
	char *region;
	struct window all[WINDOWS_MAX];
};

static _Atomic uint64_t window_ids;
static _Atomic unsigned windows_threads_n;

uint64_t
window_id(void)
{
	return atomic_fetch_add_explicit(&window_ids, 1, memory_order_relaxed) + 1;
}

/* Address space for all windows; memory is taken when one is used. */
static bool
windows_reserve(struct windows *ws)
{
	void *p = mmap(NULL, WINDOWS_POOL_BYTES + WINDOW_ALIGN_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *pool;

	if (p == MAP_FAILED)
		return false;
	ws->region = p;
	pool = ws->region + (-(uintptr_t)p & (WINDOW_ALIGN_BYTES - 1));
	(void)madvise(pool, WINDOWS_POOL_BYTES, MADV_HUGEPAGE);
	for (unsigned i = 0; i < WINDOWS_MAX; i++)
		ws->all[i].p = pool + (size_t)i * WINDOW_BYTES;
	return true;
}

/* The one place where a window changes its list; who uses it goes last. */
static void
window_move(struct windows *ws, struct window *w, struct window_list *to)
{
	if (w->list != NULL)
		TAILQ_REMOVE(w->list, w, link);
	ws->fresh_n += (unsigned)(to == &ws->fresh) - (unsigned)(w->list == &ws->fresh);
	ws->n += (unsigned)(to != &ws->none) - (unsigned)(w->list != NULL && w->list != &ws->none);
	w->list = to;
	/* Of those that are free the latest is used next: its memory is there. */
	if (to == &ws->none)
		TAILQ_INSERT_HEAD(to, w, link);
	else
		TAILQ_INSERT_TAIL(to, w, link);
}

struct windows *
windows_new(void)
{
	struct windows *ws;

	OBJ_NEW(ws, WINDOWS_MAGIC);
	if (ws == NULL)
		return NULL;
	if (!windows_reserve(ws)) {
		OBJ_FREE(ws);
		return NULL;
	}
	TAILQ_INIT(&ws->none);
	TAILQ_INIT(&ws->fresh);
	TAILQ_INIT(&ws->kept);
	for (unsigned i = WINDOWS_MAX; i-- > 0;)
		window_move(ws, &ws->all[i], &ws->none);
	(void)atomic_fetch_add(&windows_threads_n, 1);
	return ws;
}

void
windows_free(struct windows **ws_p)
{
	struct windows *ws = *ws_p;

	*ws_p = NULL;
	if (ws == NULL)
		return;
	CHECK_OBJ(ws, WINDOWS_MAGIC);
	AZ(munmap(ws->region, WINDOWS_POOL_BYTES + WINDOW_ALIGN_BYTES));
	(void)atomic_fetch_sub(&windows_threads_n, 1);
	OBJ_FREE(ws);
}

/* Nobody used it lately: its memory goes back to the system. */
static void
windows_drop_idle(struct windows *ws, struct window_list *list, int64_t now_ms)
{
	struct window *w;

	while ((w = TAILQ_FIRST(list)) != NULL && now_ms - w->used_ms >= WINDOW_IDLE_MS) {
		window_move(ws, w, &ws->none);
		(void)madvise(w->p, WINDOW_BYTES, MADV_DONTNEED);
	}
}

void
windows_tick(struct windows *ws, int64_t now_ms)
{
	CHECK_OBJ(ws, WINDOWS_MAGIC);
	windows_drop_idle(ws, &ws->fresh, now_ms);
	windows_drop_idle(ws, &ws->kept, now_ms);
}

/* How many this thread may have. */
static unsigned
windows_share(void)
{
	unsigned n = WINDOWS_MAX / atomic_load_explicit(&windows_threads_n, memory_order_relaxed);

	return n < WINDOWS_SHARE_MIN ? WINDOWS_SHARE_MIN : n;
}

/* An empty window in the place of the one before last, or of what was used longest ago. */
static struct window *
window_new(struct windows *ws, uint64_t id, uint64_t number)
{
	struct window *w;

	if (ws->fresh_n == WINDOWS_FRESH_MAX)
		window_move(ws, TAILQ_FIRST(&ws->fresh), &ws->none);
	while (ws->n >= windows_share())
		window_move(ws, TAILQ_FIRST(TAILQ_EMPTY(&ws->kept) ? &ws->fresh : &ws->kept),
		    &ws->none);
	w = TAILQ_FIRST(&ws->none);
	AN(w);
	w->id = id;
	w->number = number;
	w->filled = w->begin = 0;
	w->used_ms = 0;
	window_move(ws, w, &ws->fresh);
	return w;
}

static struct window *
window_find(struct windows *ws, uint64_t id, uint64_t number)
{
	for (unsigned i = 0; i < WINDOWS_MAX; i++)
		if (ws->all[i].id == id && ws->all[i].number == number &&
		    ws->all[i].list != &ws->none)
			return &ws->all[i];
	return NULL;
}

/* Copies what there is up to `end` in the window, if it can be had at once. */
static void
window_fill(struct window *w, int fd, uint64_t end)
{
	struct iovec iov = {w->p + w->filled, (size_t)(end < WINDOW_BYTES ? end : WINDOW_BYTES) - w->filled};
	off_t from = (off_t)(w->number * WINDOW_BYTES + w->filled);
	ssize_t k = preadv2(fd, &iov, 1, from, RWF_NOWAIT);

	if (k < 0 && errno == EOPNOTSUPP)	/* the file system can't tell whether it would wait */
		k = preadv(fd, &iov, 1, from);
	if (k <= 0)
		return;
	COUNT(window_copies_total);
	w->filled += (uint32_t)k;
}

/* Its bytes from `begin` on, at most *n. */
static const char *
window_use(struct windows *ws, struct window *w, uint32_t begin, uint64_t *n, int64_t now_ms)
{
	/* One reader only goes forward. */
	bool second = w->list == &ws->fresh && w->used_ms != 0 && begin <= w->begin;

	if (second || w->used_ms != now_ms)
		window_move(ws, w, second ? &ws->kept : w->list);
	w->used_ms = now_ms;
	w->begin = begin;
	if (*n > w->filled - begin)
		*n = w->filled - begin;
	return w->p + begin;
}

const char *
window_bytes(struct windows *ws, uint64_t id, int fd, uint64_t at, uint64_t *n, bool fill,
    int64_t now_ms)
{
	uint64_t number = at / WINDOW_BYTES;
	uint32_t begin = (uint32_t)(at % WINDOW_BYTES);
	struct window *w;

	CHECK_OBJ(ws, WINDOWS_MAGIC);
	w = window_find(ws, id, number);
	if (w == NULL && fill)
		w = window_new(ws, id, number);
	if (w == NULL)
		return NULL;
	if (w->filled <= begin && fill)
		window_fill(w, fd, begin + *n);
	if (w->filled > begin)
		return window_use(ws, w, begin, n, now_ms);
	if (w->filled == 0)
		window_move(ws, w, &ws->none);
	return NULL;
}
