/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One generation of a repository: its Release, and the tables of the
 * packages that its indexes name. Everything but the tables is there from
 * the beginning; those come one by one, as their indexes are fetched, and
 * readers see each when it is whole. Snapshots, connections and the registry
 * hold references.
 */
#include "cache/repo_priv.h"

#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"

/* What qsort, which passes no argument, compares by; under the lock. */
static const struct release_file *repo_gen_sorting;
static bool repo_gen_sorting_sha512;
static pthread_mutex_t repo_gen_sort_lock = PTHREAD_MUTEX_INITIALIZER;

/* Orders two digests of the algorithm. */
static int
repo_gen_order(const struct release_file *a, const uint8_t *digest, bool sha512)
{
	return sha512 ? memcmp(a->sha512, digest, 64) : memcmp(a->sha256, digest, 32);
}

static int
repo_gen_compare(const void *a, const void *b)
{
	const struct release_file *fa = &repo_gen_sorting[*(const uint32_t *)a];
	const struct release_file *fb = &repo_gen_sorting[*(const uint32_t *)b];

	return repo_gen_order(fa, repo_gen_sorting_sha512 ? fb->sha512 : fb->sha256,
	    repo_gen_sorting_sha512);
}

/* The files that have such a digest, in its order; false: out of memory. */
static bool
repo_gen_sort(const struct release *r, bool sha512, struct repo_by_digest *out)
{
	out->files = calloc(r->files_n + 1, sizeof(*out->files));
	if (out->files == NULL)
		return false;
	for (uint32_t i = 0; i < r->files_n; i++)
		if (sha512 ? r->files[i].has_sha512 : r->files[i].has_sha256)
			out->files[out->n++] = i;
	AZ(pthread_mutex_lock(&repo_gen_sort_lock));
	repo_gen_sorting = r->files;
	repo_gen_sorting_sha512 = sha512;
	qsort(out->files, out->n, sizeof(*out->files), repo_gen_compare);
	AZ(pthread_mutex_unlock(&repo_gen_sort_lock));
	return true;
}

static void
repo_gen_free(struct repo_gen *g)
{
	release_free(&g->release);
	free(g->by_sha256.files);
	free(g->by_sha512.files);
	free(g->asked_day);
	AZ(pthread_mutex_destroy(&g->files_lock));
	repo_unref(&g->repo);
	OBJ_FREE(g);
}

struct repo_gen *
repo_gen_new(struct repo *repo, uint64_t seq, struct release *release)
{
	struct repo_gen *g;

	OBJ_NEW(g, REPO_GEN_MAGIC);
	if (g == NULL) {
		release_free(&release);
		return NULL;
	}
	atomic_init(&g->refs, 1);
	AZ(pthread_mutex_init(&g->files_lock, NULL));
	g->repo = repo_ref(repo);
	g->seq = seq;
	g->release = release;
	g->asked_day = calloc(release->files_n + 1, sizeof(*g->asked_day));
	if (g->asked_day == NULL || !repo_gen_sort(release, false, &g->by_sha256) ||
	    !repo_gen_sort(release, true, &g->by_sha512)) {
		repo_gen_free(g);
		return NULL;
	}
	return g;
}

struct repo_gen *
repo_gen_ref(struct repo_gen *g)
{
	CHECK_OBJ(g, REPO_GEN_MAGIC);
	(void)atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
	return g;
}

void
repo_gen_unref(struct repo_gen **g_p)
{
	struct repo_gen *g = *g_p;

	*g_p = NULL;
	if (g == NULL)
		return;
	CHECK_OBJ(g, REPO_GEN_MAGIC);
	if (atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < atomic_load(&g->tables_n); i++)
		repo_table_unref(g->tables[i]);
	repo_gen_free(g);
}

const struct release *
repo_gen_release(const struct repo_gen *g)
{
	CHECK_OBJ(g, REPO_GEN_MAGIC);
	return g->release;
}

struct slice
repo_gen_root(const struct repo_gen *g)
{
	return g->repo->root;
}

uint64_t
repo_gen_seq(const struct repo_gen *g)
{
	return g->seq;
}

const struct sign_signers *
repo_gen_signers(const struct repo_gen *g)
{
	return &g->signers;
}

int64_t
repo_gen_adopted_at_s(const struct repo_gen *g)
{
	return g->adopted_at_s;
}

bool
repo_gen_digest(const struct repo_gen *cg, enum repo_file which, uint8_t digest[32])
{
	struct repo_gen *g = (struct repo_gen *)(uintptr_t)cg;
	bool has;

	AZ(pthread_mutex_lock(&g->files_lock));
	has = atomic_load(&g->has[which]);
	if (has)
		memcpy(digest, g->digest[which], 32);
	AZ(pthread_mutex_unlock(&g->files_lock));
	return has;
}

int64_t
repo_gen_wait(struct repo_gen *g, int64_t wait_ms, int64_t now_ms)
{
	int64_t until_ms;

	CHECK_OBJ(g, REPO_GEN_MAGIC);
	/* What a newer one replaced comes no more. */
	if (atomic_load(&g->superseded))
		return 0;
	AZ(pthread_mutex_lock(&g->files_lock));
	if (now_ms >= g->wait_again_ms) {
		g->wait_until_ms = now_ms + (g->seq == 1 ? REPO_WAIT_FIRST_MS : wait_ms);
		/* Some list for good what they have not: seldomer each time. */
		g->wait_pause_ms = g->wait_pause_ms == 0 ? REPO_WAIT_PAUSE_MS : 2 * g->wait_pause_ms;
		g->wait_again_ms = g->wait_until_ms + g->wait_pause_ms;
	}
	until_ms = g->wait_until_ms;
	AZ(pthread_mutex_unlock(&g->files_lock));
	return until_ms;
}

const struct release_file *
repo_gen_by_digest(const struct repo_gen *g, enum aptfile_hash hash, const uint8_t *digest)
{
	bool sha512 = hash == APTFILE_SHA512;
	const struct repo_by_digest *by = sha512 ? &g->by_sha512 : &g->by_sha256;
	uint32_t from = 0, to = by->n;

	if (hash != APTFILE_SHA256 && !sha512)
		return NULL;
	while (from < to) {
		uint32_t mid = from + (to - from) / 2;
		const struct release_file *rf = &g->release->files[by->files[mid]];
		int c = repo_gen_order(rf, digest, sha512);

		if (c == 0)
			return rf;
		if (c < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return NULL;
}

const struct release_file *
repo_gen_by_name(const struct repo_gen *g, const struct aptfile *af)
{
	uint8_t digest[64];

	return slice_read_hex(af->hash_hex, digest, af->hash == APTFILE_SHA512 ? 64 : 32) ?
	    repo_gen_by_digest(g, af->hash, digest) : NULL;
}

/* ---- tables ---- */

void
repo_table_unref(struct repo_table *t)
{
	if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	pkgtable_close(&t->t);
	free(t);
}

void
repo_gen_add_table(struct repo_gen *g, struct repo_table *t)
{
	uint32_t n = atomic_load(&g->tables_n);

	for (uint32_t i = 0; i < n; i++)
		if (g->tables[i] == t)
			return;
	if (n >= REPO_TABLES_MAX) {
		log_warning("%.*s has more package indexes than can be looked at: packages of the "
		    "rest are not checked", SLICE_ARG(g->repo->root));
		return;
	}
	(void)atomic_fetch_add(&t->refs, 1);
	g->tables[n] = t;
	atomic_store_explicit(&g->tables_n, n + 1, memory_order_release);
}

unsigned
repo_gen_package_lists(const struct repo_gen *g, const struct release_file **out,
    unsigned max_n)
{
	uint32_t tables_n = atomic_load_explicit(&g->tables_n, memory_order_acquire);
	struct release_index ri;
	unsigned n = 0, k;

	for (uint32_t i = 0; i < tables_n && n < max_n; i++) {
		const struct release_file *rf = repo_gen_by_digest(g, APTFILE_SHA256,
		    g->tables[i]->digest);

		if (rf == NULL)
			continue;
		release_index_of(&ri, rf->path);
		if (ri.list != RELEASE_PACKAGES || ri.kind == UNPACK_UNKNOWN)
			continue;
		/* The same list in another compression says the same. */
		for (k = 0; k < n; k++) {
			struct release_index other;

			release_index_of(&other, out[k]->path);
			if (slice_eq(other.stem, ri.stem))
				break;
		}
		if (k == n)
			out[n++] = rf;
	}
	return n;
}

/* Takes the digest that a table has for a path. */
static void
repo_gen_take(const struct pkgtable_entry *e, struct flight_expect *out)
{
	memset(out, 0, sizeof(*out));
	out->hash = e->digest_n == 64 ? APTFILE_SHA512 : APTFILE_SHA256;
	memcpy(out->digest, e->digest, e->digest_n);
	out->size_bytes = (int64_t)e->size_bytes;
}

/* What its lists of packages say of the path; AMBIGUOUS where they differ, which is counted. */
static enum pkgtable_found
repo_gen_find(const struct repo_gen *g, struct slice rel, struct flight_expect *out)
{
	uint32_t n = atomic_load_explicit(&g->tables_n, memory_order_acquire);
	enum pkgtable_found found = PKGTABLE_ABSENT;
	struct pkgtable_entry e, first;

	/* All of them: packages of all architectures are in several lists, which should agree. */
	for (uint32_t i = 0; i < n && found != PKGTABLE_AMBIGUOUS; i++)
		switch (pkgtable_find(g->tables[i]->t, rel, &e)) {
		case PKGTABLE_ABSENT:
			break;
		case PKGTABLE_AMBIGUOUS:
			found = PKGTABLE_AMBIGUOUS;
			break;
		case PKGTABLE_FOUND:
			if (found == PKGTABLE_ABSENT)
				first = e;
			found = e.digest_n != first.digest_n || (e.size_bytes == first.size_bytes &&
			    memcmp(e.digest, first.digest, e.digest_n) == 0) ? PKGTABLE_FOUND :
			    PKGTABLE_AMBIGUOUS;
			break;
		}
	if (found == PKGTABLE_FOUND)
		repo_gen_take(&first, out);
	else if (found == PKGTABLE_AMBIGUOUS)
		COUNT(generation_conflicts_total);
	return found;
}

bool
repo_gen_says(const struct repo_gen *g, struct slice rel, bool package,
    struct flight_expect *out)
{
	const struct release_file *rf;

	if (package && repo_gen_find(g, rel, out) == PKGTABLE_FOUND)
		return true;
	rf = release_find_url(g->release, rel);
	return rf != NULL && repo_file_expect(rf, out);
}
