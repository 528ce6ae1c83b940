/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What is remembered for a short while of a key or a host: an answer that is
 * no object, wrong bytes, that nobody should wait for another's fetch, that
 * checks take too long. One place a key; a later memo may take it.
 */
#include "cache/cache_priv.h"

enum {
	CACHE_MEMO_STATUS_MS = 1000,
	CACHE_MEMO_UNSHAREABLE_MS = 120000,
	CACHE_MEMO_DIGEST_MS = 60000,
	CACHE_MEMO_INDEX_MS = 500,	/* upstream is at it: two looks a second */
	CACHE_MEMO_HOST_MS = 60000,
};

/* The one place where a key's memo can be. */
static struct cache_memo *
cache_memo_at(struct cache *c, const struct key *k)
{
	return &c->memos[(k->b[2] | (unsigned)k->b[3] << 8) % CACHE_MEMOS];
}

static void
cache_memo_set(struct cache *c, const struct key *k, enum memo_kind kind, int status,
    int64_t until_ms)
{
	AZ(pthread_mutex_lock(&c->memo_lock));
	*cache_memo_at(c, k) = (struct cache_memo){*k, kind, status, until_ms};
	AZ(pthread_mutex_unlock(&c->memo_lock));
}

/* What is remembered of the key now; *status for MEMO_STATUS. */
enum memo_kind
cache_memo_get(struct cache *c, const struct key *k, int64_t now_ms, int *status)
{
	const struct cache_memo *m;
	enum memo_kind kind = MEMO_NONE;

	AZ(pthread_mutex_lock(&c->memo_lock));
	m = cache_memo_at(c, k);
	if (m->kind != MEMO_NONE && now_ms < m->until_ms && memcmp(&m->key, k, sizeof(*k)) == 0) {
		kind = m->kind;
		*status = m->status;
	}
	AZ(pthread_mutex_unlock(&c->memo_lock));
	return kind;
}

void
cache_note_status(struct cache *c, const struct key *k, int status, int64_t now_ms)
{
	cache_memo_set(c, k, MEMO_STATUS, status, now_ms + CACHE_MEMO_STATUS_MS);
}

void
cache_note_digest(struct cache *c, const struct key *k, enum aptfile_class class, int64_t now_ms)
{
	cache_memo_set(c, k, MEMO_DIGEST, 0, now_ms + (class == APTFILE_INDEX ? CACHE_MEMO_INDEX_MS :
	    CACHE_MEMO_DIGEST_MS));
}

void
cache_note_unshareable(struct cache *c, const struct key *k, int64_t now_ms)
{
	cache_memo_set(c, k, MEMO_UNSHAREABLE, 0, now_ms + CACHE_MEMO_UNSHAREABLE_MS);
}

void
cache_note_host(struct cache *c, struct slice authority, bool slow, int64_t now_ms)
{
	struct key k;
	int status;

	key_of_text(authority, &k);
	if (slow)
		cache_memo_set(c, &k, MEMO_HOST_SLOW, 0, now_ms + CACHE_MEMO_HOST_MS);
	else if (cache_memo_get(c, &k, now_ms, &status) == MEMO_HOST_SLOW)
		cache_memo_set(c, &k, MEMO_NONE, 0, 0);
}

bool
cache_host_is_slow(struct cache *c, struct slice authority, int64_t now_ms)
{
	struct key k;
	int status;

	key_of_text(authority, &k);
	return cache_memo_get(c, &k, now_ms, &status) == MEMO_HOST_SLOW;
}
