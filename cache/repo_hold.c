/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Which generations a client address was given lately: apt opens new
 * connections between update and install, and must not meet a newer
 * generation there. Many containers may share one address, so it holds up to
 * four. One bounded table for all workers, in sets of eight under a lock
 * each, which is held for a few comparisons; it is asked only by connections
 * that were given nothing themselves, and only for a while after a generation
 * was replaced. Nothing of it survives a restart.
 */
#include "cache/repo_priv.h"

#include "include/counter.h"

enum { HOLD_SETS = 2048, HOLD_WAYS = 8, HOLD_LOCKS = 64 };

struct repo_hold {
	uint8_t address[16];
	uint64_t repo_id;		/* 0: free */
	int64_t used_ms;
	struct repo_given gens[REPO_HOLD_GENS];	/* latest first; seq 0: none */
};

struct repo_holds {
	pthread_mutex_t locks[HOLD_LOCKS];
	struct repo_hold sets[HOLD_SETS][HOLD_WAYS];
};

struct repo_holds *
repo_holds_new(void)
{
	struct repo_holds *h = calloc(1, sizeof(*h));

	for (unsigned i = 0; h != NULL && i < HOLD_LOCKS; i++)
		AZ(pthread_mutex_init(&h->locks[i], NULL));
	return h;
}

void
repo_holds_free(struct repo_holds **h_p)
{
	struct repo_holds *h = *h_p;

	*h_p = NULL;
	if (h == NULL)
		return;
	for (unsigned i = 0; i < HOLD_LOCKS; i++)
		AZ(pthread_mutex_destroy(&h->locks[i]));
	free(h);
}

/* Where address and repository belong. */
static unsigned
repo_hold_set(const uint8_t address[16], const struct repo *repo)
{
	uint64_t h = repo->id;

	for (unsigned i = 0; i < 16; i++)
		h = (h ^ address[i]) * UINT64_C(0x100000001b3);
	return (unsigned)(h >> 32) % HOLD_SETS;
}

/* The entry, or NULL (lock held). */
static struct repo_hold *
repo_hold_at(struct repo_holds *h, unsigned set, const uint8_t address[16],
    const struct repo *repo)
{
	for (unsigned i = 0; i < HOLD_WAYS; i++) {
		struct repo_hold *e = &h->sets[set][i];

		if (e->repo_id == repo->id && memcmp(e->address, address, 16) == 0)
			return e;
	}
	return NULL;
}

/* A place for a new one: free, or the longest unused (lock held). */
static struct repo_hold *
repo_hold_take(struct repo_holds *h, unsigned set)
{
	struct repo_hold *oldest = &h->sets[set][0];

	for (unsigned i = 0; i < HOLD_WAYS; i++) {
		struct repo_hold *e = &h->sets[set][i];

		if (e->repo_id == 0)
			return e;
		if (e->used_ms < oldest->used_ms)
			oldest = e;
	}
	COUNT(generation_holds_lost_total);
	return oldest;
}

void
repo_hold_note(struct repo_holds *h, const uint8_t address[16], const struct repo *repo,
    uint64_t seq, int64_t now_ms)
{
	unsigned set = repo_hold_set(address, repo), i;
	pthread_mutex_t *lock = &h->locks[set % HOLD_LOCKS];
	struct repo_hold *e;

	AZ(pthread_mutex_lock(lock));
	e = repo_hold_at(h, set, address, repo);
	if (e == NULL) {
		e = repo_hold_take(h, set);
		*e = (struct repo_hold){.repo_id = repo->id};
		memcpy(e->address, address, 16);
	}
	e->used_ms = now_ms;
	for (i = 0; i < REPO_HOLD_GENS - 1 && e->gens[i].seq != 0 && e->gens[i].seq != seq; i++)
		;
	for (; i > 0; i--)
		e->gens[i] = e->gens[i - 1];
	e->gens[0].seq = seq;
	e->gens[0].given_ms = now_ms;
	AZ(pthread_mutex_unlock(lock));
}

unsigned
repo_hold_find(struct repo_holds *h, const uint8_t address[16], const struct repo *repo,
    int64_t since_ms, struct repo_given out[REPO_HOLD_GENS])
{
	unsigned set = repo_hold_set(address, repo), n = 0;
	pthread_mutex_t *lock = &h->locks[set % HOLD_LOCKS];
	const struct repo_hold *e;

	AZ(pthread_mutex_lock(lock));
	e = repo_hold_at(h, set, address, repo);
	for (unsigned i = 0; e != NULL && i < REPO_HOLD_GENS; i++)
		if (e->gens[i].seq != 0 && e->gens[i].given_ms >= since_ms)
			out[n++] = e->gens[i];
	AZ(pthread_mutex_unlock(lock));
	return n;
}

bool
repo_hold_is_held(struct repo_holds *h, const struct repo *repo, uint64_t seq, int64_t since_ms)
{
	bool held = false;

	for (unsigned set = 0; set < HOLD_SETS && !held; set++) {
		AZ(pthread_mutex_lock(&h->locks[set % HOLD_LOCKS]));
		for (unsigned i = 0; i < HOLD_WAYS; i++) {
			const struct repo_hold *e = &h->sets[set][i];

			held |= e->repo_id == repo->id && e->gens[0].seq == seq &&
			    e->gens[0].given_ms >= since_ms;
		}
		AZ(pthread_mutex_unlock(&h->locks[set % HOLD_LOCKS]));
	}
	return held;
}
