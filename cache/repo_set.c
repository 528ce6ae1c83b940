/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Snapshots of the registry, which readers look at without a lock. One lists
 * every directory that matters: roots, the parents of dists/, and a few parents
 * of flat roots, because `Filename` starts from one of these. A URL is looked
 * up directory by directory, the longest first.
 */
#include "cache/repo_priv.h"

static const uint64_t repo_set_hash_seed = UINT64_C(0xcbf29ce484222325);

/* FNV-1a, one byte further. */
static inline uint64_t
repo_set_hash_byte(uint64_t h, char c)
{
	return (h ^ (unsigned char)c) * UINT64_C(0x100000001b3);
}

static uint64_t
repo_set_hash(struct slice s)
{
	uint64_t h = repo_set_hash_seed;

	for (size_t i = 0; i < s.n; i++)
		h = repo_set_hash_byte(h, s.p[i]);
	return h;
}

void
repo_set_unref(struct repo_set *set)
{
	if (set == NULL || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < set->repos_n; i++) {
		for (unsigned k = 0; k < set->repos[i].gens_n; k++)
			repo_gen_unref(&set->repos[i].gens[k]);
		free(set->repos[i].gens);
		repo_unref(&set->repos[i].repo);
	}
	free(set->repos);
	free(set->dirs);
	free(set->buckets);
	free(set);
}

/* Lists a directory of a repository in the snapshot. */
static void
repo_set_add_dir(struct repo_set *set, uint32_t repo, struct slice text, uint8_t up)
{
	struct repo_dir *d = &set->dirs[set->dirs_n];
	uint32_t *bucket;

	*d = (struct repo_dir){.text = text, .hash = repo_set_hash(text), .repo = repo, .up = up};
	bucket = &set->buckets[d->hash & (set->buckets_n - 1)];
	d->next = *bucket;
	*bucket = set->dirs_n++;
}

/* The root, and where its packages' names may start. */
static void
repo_set_add_repo(struct repo_set *set, uint32_t i)
{
	const struct repo *repo = set->repos[i].repo;
	struct slice dir = repo->root;
	const char *host = memmem(dir.p, dir.n, "://", 3);

	repo_set_add_dir(set, i, dir, 0);
	if (repo->base_n != 0) {
		dir.n = repo->base_n;
		repo_set_add_dir(set, i, dir, REPO_DIR_BASE);
		return;
	}
	for (unsigned up = 1; up <= REPO_UP_MAX; up++) {
		do
			dir.n--;
		while (dir.n > 0 && dir.p[dir.n - 1] != '/');
		if (host == NULL || dir.p + dir.n <= host + 3)
			return;
		repo_set_add_dir(set, i, dir, (uint8_t)up);
	}
}

struct repo_set *
repo_set_new(struct repos *rs)
{
	struct repo_set *set = calloc(1, sizeof(*set));
	uint32_t i;

	if (set == NULL)
		return NULL;
	atomic_init(&set->refs, 1);
	for (set->buckets_n = 64; set->buckets_n < 8 * rs->repos_n; set->buckets_n *= 2)
		;
	set->repos = calloc(rs->repos_n + 1, sizeof(*set->repos));
	set->dirs = calloc((size_t)(rs->repos_n + 1) * (REPO_UP_MAX + 1), sizeof(*set->dirs));
	set->buckets = malloc(set->buckets_n * sizeof(*set->buckets));
	if (set->repos == NULL || set->dirs == NULL || set->buckets == NULL)
		goto fail;
	memset(set->buckets, 0xff, set->buckets_n * sizeof(*set->buckets));
	for (i = 0; i < rs->repos_n; i++) {
		struct repo_snap *snap = &set->repos[i];

		snap->repo = repo_ref(rs->repos[i]);
		set->repos_n++;
		if (snap->repo->gens_n > 0) {
			snap->gens = calloc(snap->repo->gens_n, sizeof(struct repo_gen *));
			if (snap->gens == NULL)
				goto fail;
		}
		while (snap->gens_n < snap->repo->gens_n) {
			snap->gens[snap->gens_n] = repo_gen_ref(snap->repo->gens[snap->gens_n]);
			snap->gens_n++;
		}
		repo_set_add_repo(set, i);
	}
	return set;
fail:
	repo_set_unref(set);
	return NULL;
}

void
repo_set_split(struct repo_path *p, struct slice url)
{
	const char *q = memchr(url.p, '?', url.n), *host;
	uint64_t h = repo_set_hash_seed;
	size_t from;

	if (q != NULL)
		url.n = (size_t)(q - url.p);
	p->url = url;
	p->n = 0;
	host = memmem(url.p, url.n, "://", 3);
	from = host != NULL ? (size_t)(host - url.p) + 3 : url.n;
	for (size_t i = 0; i < url.n && p->n < REPO_DEPTH_MAX; i++) {
		h = repo_set_hash_byte(h, url.p[i]);
		if (i >= from && url.p[i] == '/') {
			p->dirs[p->n].n = i + 1;
			p->dirs[p->n++].hash = h;
		}
	}
}

void
repo_walk_begin(struct repo_walk *w, const struct repo_set *set, const struct repo_path *p)
{
	*w = (struct repo_walk){.set = set, .p = p, .depth = p->n, .at = UINT32_MAX};
}

const struct repo_dir *
repo_walk_next(struct repo_walk *w)
{
	const struct repo_set *set = w->set;

	for (;;) {
		while (w->at != UINT32_MAX) {
			const struct repo_dir *d = &set->dirs[w->at];
			struct slice dir = {w->p->url.p, w->p->dirs[w->depth].n};

			w->at = d->next;
			if (d->hash != w->p->dirs[w->depth].hash || !slice_eq(d->text, dir))
				continue;
			w->rel = slice_skip(w->p->url, dir.n);
			return d;
		}
		if (w->depth-- == 0)
			return NULL;
		w->at = set->buckets[w->p->dirs[w->depth].hash & (set->buckets_n - 1)];
	}
}

bool
repo_walk_may_name(const struct repo_walk *w, const struct repo_dir *d, bool package)
{
	if (!package)
		return d->up == 0;
	/* Outside of a flat root a bare name is as likely to be a stranger's. */
	return d->up == 0 || d->up == REPO_DIR_BASE ||
	    slice_starts(w->p->url, w->set->repos[d->repo].repo->root) ||
	    memchr(w->rel.p, '/', w->rel.n) != NULL;
}
