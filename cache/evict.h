/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef EVICT_H
#define EVICT_H
/*
 * Keeps the cache within its budget: the keeper thread's first duty. When
 * blobs plus running fetches exceed cache_max, or the file system has less
 * than cache_min_free, the least recently used blobs go, never one that is
 * being read (index_is_held). Walks in steps of 1,000 records.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/index.h"

struct evict;

struct repos;

struct evict_conf {
	struct index *index;
	struct blobstore *blobs;
	_Atomic uint64_t cache_max_bytes;	/* these two: evict_set_budget */
	_Atomic uint64_t min_free_bytes;
	uint64_t (*partial_bytes)(void *arg);	/* bytes of bodies being fetched */
	void *arg;
	struct repos *repos;		/* whose bodies go last, or not at all; or NULL */
};

/* Somebody waits for room. The waiter's own; it stays where it is until done is called. */
struct evict_wish {
	uint64_t want_bytes;
	void (*done)(void *arg, bool freed);	/* once, on the keeper's thread: never waits */
	void *arg;
	STAILQ_ENTRY(evict_wish) next;
};

/* Starts the keeper thread. NULL: out of memory or threads. */
struct evict *evict_start(const struct evict_conf *conf);
/* Ends the thread. Until evict_free, a kick has no effect and a wish is answered no. */
void evict_stop(struct evict *e);
void evict_free(struct evict **e_p);
/* Another budget from here on. */
void evict_set_budget(struct evict *e, uint64_t cache_max_bytes, uint64_t min_free_bytes);
/* Something grew: look soon. From any thread, never waits. */
void evict_kick(struct evict *e);
/* As evict_kick: a disk was full, so much is wanted whatever the budget says. */
void evict_want(struct evict *e, uint64_t want_bytes);
/* As evict_want, for somebody who waits for it; done may be called before this returns. */
void evict_wait_for_room(struct evict *e, struct evict_wish *wish);
/* Did the last look find the budget exceeded, and nothing that could go? From any thread. */
bool evict_is_over(const struct evict *e);

#endif
