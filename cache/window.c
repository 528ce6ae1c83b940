/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Windows of mapped bodies. Called by object.c, on the worker whose objects
 * they are of.
 *
 * A mapping costs address space only; pages come in as they are sent from,
 * and go again (MADV_DONTNEED: out of the page table, not out of the page
 * cache) when their window is the least recently used one and its bytes are
 * wanted. A window that is in use right now is never taken away from itself:
 * readers at many different places would only chase each other's windows, so
 * the later ones get none and send by sendfile.
 */
#include "cache/window.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/queue.h>

enum {
	WINDOW_BYTES = 4 << 20,		/* what one turn sends */
	WINDOW_BUSY_MS = 5,		/* touched so lately: still in use */
	WINDOW_IDLE_MS = 1000,
	/* Pages that the system maps around one that is touched: they may lie outside. */
	WINDOW_AROUND_BYTES = 64 << 10,
};
static const uint64_t WINDOW_RESIDENT_MAX = 32 << 20;	/* of all threads */
/* More page tables than this would be worth are not made. */
static const uint64_t WINDOW_MAP_MAX = 512 << 20;

#define WINDOWS_MAGIC 0x317d0001u

struct window {
	TAILQ_ENTRY(window) lru;
	struct mapping *m;
	uint32_t number;
	uint64_t bytes;
	int64_t used_ms;
};

struct windows {
	uint32_t magic;
	TAILQ_HEAD(, window) lru;	/* most recent last */
};

static _Atomic uint64_t window_bytes_n;

uint64_t
window_resident_bytes(void)
{
	return atomic_load(&window_bytes_n);
}

struct windows *
windows_new(void)
{
	struct windows *ws;

	OBJ_NEW(ws, WINDOWS_MAGIC);
	if (ws != NULL)
		TAILQ_INIT(&ws->lru);
	return ws;
}

/* Its pages are no longer ours. */
static void
window_drop(struct windows *ws, struct window *w)
{
	struct mapping *m = w->m;
	uint64_t from = (uint64_t)w->number * WINDOW_BYTES, end = from + w->bytes;

	from = from > WINDOW_AROUND_BYTES ? from - WINDOW_AROUND_BYTES : 0;
	end = end + WINDOW_AROUND_BYTES < m->size_bytes ? end + WINDOW_AROUND_BYTES : m->size_bytes;
	(void)madvise((void *)(uintptr_t)(m->p + from), (size_t)(end - from), MADV_DONTNEED);
	m->window[w->number] = NULL;
	TAILQ_REMOVE(&ws->lru, w, lru);
	(void)atomic_fetch_sub(&window_bytes_n, w->bytes);
	free(w);
}

void
windows_tick(struct windows *ws, int64_t now_ms)
{
	struct window *w;

	CHECK_OBJ(ws, WINDOWS_MAGIC);
	while ((w = TAILQ_FIRST(&ws->lru)) != NULL && now_ms - w->used_ms >= WINDOW_IDLE_MS)
		window_drop(ws, w);
}

void
windows_free(struct windows **ws_p)
{
	struct windows *ws = *ws_p;

	*ws_p = NULL;
	if (ws == NULL)
		return;
	CHECK_OBJ(ws, WINDOWS_MAGIC);
	MUST(TAILQ_EMPTY(&ws->lru));
	OBJ_FREE(ws);
}

void
window_map(struct mapping *m, int fd, uint64_t size_bytes)
{
	void *p;

	AZ(m->p);
	if (size_bytes == 0 || size_bytes > WINDOW_MAP_MAX)
		return;
	m->window = calloc((size_t)((size_bytes + WINDOW_BYTES - 1) / WINDOW_BYTES),
	    sizeof(struct window *));
	if (m->window == NULL)
		return;
	p = mmap(NULL, (size_t)size_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		free(m->window);
		m->window = NULL;
		return;
	}
	m->p = p;
	m->size_bytes = size_bytes;
}

void
window_unmap(struct windows *ws, struct mapping *m)
{
	uint64_t i;

	if (m->p == NULL)
		return;
	for (i = 0; i < (m->size_bytes + WINDOW_BYTES - 1) / WINDOW_BYTES; i++)
		if (m->window[i] != NULL)
			window_drop(ws, m->window[i]);
	(void)munmap((void *)(uintptr_t)m->p, (size_t)m->size_bytes);
	free(m->window);
	m->window = NULL;
	m->p = NULL;
}

/* Takes n bytes of what may be resident, from our oldest window if need be. */
static bool
window_grant(struct windows *ws, uint64_t n, int64_t now_ms)
{
	struct window *w;

	while (atomic_fetch_add(&window_bytes_n, n) + n > WINDOW_RESIDENT_MAX) {
		(void)atomic_fetch_sub(&window_bytes_n, n);
		w = TAILQ_FIRST(&ws->lru);
		if (w == NULL || now_ms - w->used_ms < WINDOW_BUSY_MS)
			return false;
		window_drop(ws, w);
	}
	return true;
}

/* Makes the window resident: it may be touched from now on. NULL: not now. */
static struct window *
window_new(struct windows *ws, struct mapping *m, uint32_t number, int64_t now_ms)
{
	uint64_t from = (uint64_t)number * WINDOW_BYTES, n = m->size_bytes - from;
	struct window *w;

	if (n > WINDOW_BYTES)
		n = WINDOW_BYTES;
	if (!window_grant(ws, n, now_ms))
		return NULL;
	w = calloc(1, sizeof(*w));
	if (w == NULL) {
		(void)atomic_fetch_sub(&window_bytes_n, n);
		return NULL;
	}
	w->m = m;
	w->number = number;
	w->bytes = n;
	m->window[number] = w;
	TAILQ_INSERT_TAIL(&ws->lru, w, lru);
	return w;
}

const char *
window_touch(struct windows *ws, struct mapping *m, uint64_t at, uint64_t *n, int64_t now_ms)
{
	uint32_t number = (uint32_t)(at / WINDOW_BYTES);
	uint64_t left = WINDOW_BYTES - at % WINDOW_BYTES;
	struct window *w;

	CHECK_OBJ(ws, WINDOWS_MAGIC);
	if (m->p == NULL)
		return NULL;
	MUST(at < m->size_bytes);
	w = m->window[number];
	if (w == NULL)
		w = window_new(ws, m, number, now_ms);
	if (w == NULL)
		return NULL;
	if (w->used_ms != now_ms) {
		w->used_ms = now_ms;
		TAILQ_REMOVE(&ws->lru, w, lru);
		TAILQ_INSERT_TAIL(&ws->lru, w, lru);
	}
	if (*n > left)
		*n = left;
	return m->p + at;
}
