/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CACHE_PRIV_H
#define CACHE_PRIV_H
/*
 * What the sources of the door share: cache.c (parts, opening, views),
 * cache_ask.c, cache_flights.c (the table) and cache_memo.c.
 */
#include "cache/flight_priv.h"
#include "cache/repo.h"
#include "include/cache.h"
#include "include/obj.h"

#define CACHE_MAGIC 0xcac4e001u
#define CACHE_VIEW_MAGIC 0xcac4e002u

enum {
	CACHE_SHARDS = 512,
	CACHE_MEMOS = 4096,
};

TAILQ_HEAD(flight_list, flight);

struct cache_shard {
	pthread_mutex_t lock;
	struct flight_list flights;
};

/* Something worth remembering about a key for a short while; a later one may take its place. */
enum memo_kind { MEMO_NONE, MEMO_STATUS, MEMO_UNSHAREABLE, MEMO_DIGEST, MEMO_HOST_SLOW };
struct cache_memo {
	struct key key;
	enum memo_kind kind;
	int status;
	int64_t until_ms;
};

struct cache {
	uint32_t magic;
	struct cache_conf conf;
	int lock_fd;
	struct cache_parts parts;
	_Atomic uint64_t partial_bytes;
	struct cache_shard shards[CACHE_SHARDS];
	pthread_mutex_t memo_lock;
	struct cache_memo memos[CACHE_MEMOS];
	pthread_mutex_t hooks_lock;
	struct cache_hooks hooks;
};

struct cache_view {
	uint32_t magic;
	struct cache *cache;
	struct index_view *index;
	struct object_table *objects;
	struct repo_view *repos;
};

/* ---- cache_memo.c ---- */
/* What is remembered of the key now; *status for MEMO_STATUS. */
enum memo_kind cache_memo_get(struct cache *c, const struct key *k, int64_t now_ms, int *status);

/* ---- cache_flights.c ---- */
/* Does a Release under this key wait for its verdict? */
bool cache_is_being_judged(struct cache *c, const struct key *key);
/* A flight of the client's own, outside the table. */
void cache_fly_alone(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out);
/*
 * Joins the running flight, or makes one; false: what is stored changed meanwhile, ask again.
 * object_key: under which out->object was looked for.
 */
bool cache_fly(struct cache_view *v, const struct cache_ask *ask, const struct key *object_key,
    struct cache_answer *out) MUSTCHECK;
/* An index that its publisher has under its digest too: that name can't be of another edition. */
void cache_set_by_hash(struct flight *f, const struct release *r);

#endif
