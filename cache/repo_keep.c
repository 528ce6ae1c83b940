/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What eviction takes last: a snapshot of the digests that kept generations
 * refer to, and of all that pinned ones name.
 */
#include "cache/repo_priv.h"

struct repo_keep_one {
	uint8_t digest[32];
	enum repo_keeping keeping;
};

struct repo_keep {
	struct repo_keep_one *v;
	size_t n, cap;
	bool full;
};

static void
repo_keep_add(struct repo_keep *k, const uint8_t *digest, enum repo_keeping keeping)
{
	if (k->n == k->cap) {
		size_t cap = k->cap != 0 ? k->cap * 2 : 256;
		struct repo_keep_one *v = realloc(k->v, cap * sizeof(*v));

		k->full |= v == NULL;
		if (v == NULL)
			return;
		k->v = v;
		k->cap = cap;
	}
	memcpy(k->v[k->n].digest, digest, 32);
	k->v[k->n++].keeping = keeping;
}

/* All that a pinned generation's tables name. */
static bool
repo_keep_entry(void *arg, const struct pkgtable_entry *e)
{
	if (e->digest_n == 32)
		repo_keep_add(arg, e->digest, REPO_KEEP_PINNED);
	return true;
}

static void
repo_keep_gen(struct repo_keep *k, const struct repo *repo, struct repo_gen *g)
{
	enum repo_keeping keeping = g->pins_n > 0 ? REPO_KEEP_PINNED : REPO_KEEP_LONG;

	for (unsigned i = 0; i < REPO_FILE_N; i++)
		if (atomic_load(&g->has[i]))
			repo_keep_add(k, g->digest[i], keeping);
	for (unsigned i = 0; i < repo->members_n; i++) {
		const struct release_file *rf = release_find(g->release,
		    slice_of(repo->members[i].path));

		if (rf != NULL && rf->has_sha256)
			repo_keep_add(k, rf->sha256, keeping);
	}
	for (uint32_t i = 0; i < atomic_load(&g->tables_n); i++)
		repo_keep_add(k, g->tables[i]->digest, keeping);
}

/* A reference to each pinned generation: their tables are on disk, which is not read with the lock. */
static struct repo_gen **
repo_keep_pinned(struct repos *rs, size_t *n)
{
	struct repo_gen **v = NULL;
	size_t cap = 0;

	for (uint32_t i = 0; i < rs->repos_n; i++)
		for (unsigned g = 0; g < rs->repos[i]->gens_n; g++)
			cap += rs->repos[i]->gens[g]->pins_n > 0;
	v = calloc(cap + 1, sizeof(struct repo_gen *));
	for (uint32_t i = 0; v != NULL && i < rs->repos_n; i++)
		for (unsigned g = 0; g < rs->repos[i]->gens_n; g++)
			if (rs->repos[i]->gens[g]->pins_n > 0)
				v[(*n)++] = repo_gen_ref(rs->repos[i]->gens[g]);
	return v;
}

/* By digest, the stronger word first. */
static int
repo_keep_compare(const void *a, const void *b)
{
	const struct repo_keep_one *ka = a, *kb = b;
	int c = memcmp(ka->digest, kb->digest, 32);

	return c != 0 ? c : (int)kb->keeping - (int)ka->keeping;
}

struct repo_keep *
repo_keep_new(struct repos *rs)
{
	struct repo_keep *k = calloc(1, sizeof(*k));
	struct repo_gen **pinned;
	size_t n = 0, pinned_n = 0;

	if (k == NULL)
		return NULL;
	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; i < rs->repos_n; i++)
		for (unsigned g = 0; g < rs->repos[i]->gens_n; g++)
			repo_keep_gen(k, rs->repos[i], rs->repos[i]->gens[g]);
	pinned = repo_keep_pinned(rs, &pinned_n);
	AZ(pthread_mutex_unlock(&rs->lock));
	k->full |= pinned == NULL;
	for (size_t i = 0; pinned != NULL && i < pinned_n; i++) {
		for (uint32_t t = 0; t < atomic_load(&pinned[i]->tables_n); t++)
			pkgtable_each(pinned[i]->tables[t]->t, repo_keep_entry, k);
		repo_gen_unref(&pinned[i]);
	}
	free(pinned);
	if (k->full) {
		repo_keep_free(&k);
		return NULL;
	}
	if (k->n > 1)
		qsort(k->v, k->n, sizeof(*k->v), repo_keep_compare);
	for (size_t i = 0; i < k->n; i++)
		if (n == 0 || memcmp(k->v[n - 1].digest, k->v[i].digest, 32) != 0)
			k->v[n++] = k->v[i];
	k->n = n;
	return k;
}

void
repo_keep_free(struct repo_keep **k_p)
{
	struct repo_keep *k = *k_p;

	*k_p = NULL;
	if (k == NULL)
		return;
	free(k->v);
	free(k);
}

enum repo_keeping
repo_keep_find(const struct repo_keep *k, const uint8_t digest[32])
{
	size_t from = 0, to = k->n;

	while (from < to) {
		size_t mid = from + (to - from) / 2;
		int c = memcmp(k->v[mid].digest, digest, 32);

		if (c == 0)
			return k->v[mid].keeping;
		if (c < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return REPO_KEEP_NO;
}
