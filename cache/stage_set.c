/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The set of a Release: the indexes that clients of its root ask for. They
 * are fetched as versions of their URLs, compared by size and digest on the
 * way, and read into tables of packages. Called for each look at a Release
 * that is not current yet; also fetches its signature.
 */
#include "cache/relpath.h"
#include "cache/stage_priv.h"

#include <stdio.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

/* Is a body with this digest stored that may serve this URL? Then the version's record is made. */
static bool
stage_set_has(struct stage_try *t, struct slice url, const struct key *key,
    const struct flight_expect *e)
{
	const uint8_t *sha256 = e->digest;
	char text[OBJECT_TEXT_MAX];
	struct object_rec rec;
	struct blob_rec blob;
	struct key named;

	if (index_get_object(t->view, key, &rec, text) == REASON_OK)
		return index_get_blob(t->view, rec.digest, &blob) == REASON_OK;
	if (e->hash != APTFILE_SHA256) {
		repo_by_hash_key(url, e, &named);
		if (index_get_object(t->view, &named, &rec, text) != REASON_OK)
			return false;
		sha256 = rec.digest;
	}
	return cache_link_digest(t->st->cache, t->view, url, key, sha256);
}

/* Was this path's file of the current generation ever stored? */
static bool
stage_set_had(struct stage_try *t, struct slice path, struct slice url)
{
	const struct release_file *rf = t->current != NULL ?
	    release_find(repo_gen_release(t->current), path) : NULL;
	char text[OBJECT_TEXT_MAX];
	struct flight_expect e;
	struct object_rec rec;
	struct blob_rec blob;
	struct key key;

	if (rf == NULL || !repo_file_expect(rf, &e))
		return false;
	if (e.hash == APTFILE_SHA256 && index_get_blob(t->view, e.digest, &blob) == REASON_OK)
		return true;
	repo_version_key(url, &e, &key);
	return index_get_object(t->view, &key, &rec, text) == REASON_OK;
}

bool
stage_set_fetch(struct stage_try *t, struct slice path, const struct flight_expect *e)
{
	struct stage_reader *sr = &t->v[t->n];
	char text[REPO_URL_BYTES];
	struct slice url;
	struct key key;
	struct flight *f;

	if (!repo_url(t->root, path, text, &url))
		return true;		/* nobody can ask for it */
	if (e != NULL)
		repo_version_key(url, e, &key);
	else
		key_of_text(url, &key);
	if (e != NULL && stage_set_has(t, url, &key, e))
		return true;
	f = cache_start(t->st->cache, t->view, url, &key, e, t->release, t->no_cache);
	if (f == NULL)
		return e != NULL && stage_set_has(t, url, &key, e);
	memset(sr, 0, sizeof(*sr));
	sr->bell = &t->bell;
	sr->reader.wake = stage_wait_ring;
	sr->path = strndup(path.p, path.n);
	sr->optional = !stage_set_had(t, path, url);
	flight_attach(f, &sr->reader, false);
	flight_unref(&f);
	t->n++;
	return true;
}

void
stage_set_drop(struct stage_try *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		flight_detach(&t->v[i].reader);
		free(t->v[i].path);
		free(t->v[i].passed_over);
	}
	t->n = 0;
}

/* Which indexes belong to this root's generations; paths are the caller's to free. */
static unsigned
stage_set_choose(struct stage_try *t, char *paths[REPO_MEMBERS_MAX])
{
	unsigned n = repo_members(t->st->repos, t->root, t->release, paths);
	const struct release_file *rf;

	/*
	 * A flat repository has one index that matters, also when nobody asked for any lately;
	 * below dists/ only clients know which.
	 */
	if (n > 0 ||
	    memmem(t->root.p, t->root.n, "/dists/", sizeof("/dists/") - 1) != NULL)
		return n;
	rf = release_first_packages(t->release);
	if (rf != NULL && (paths[0] = strndup(rf->path.p, rf->path.n)) != NULL)
		n = 1;
	return n;
}

/* What became of one member. */
static enum stage_verdict
stage_set_judge(struct stage_try *t, struct stage_reader *sr)
{
	struct flight *f = sr->reader.f;
	enum reason r;

	if (flight_state(f) != FLIGHT_FAILED && flight_is_settled(f))
		return STAGE_AGREES;
	if (flight_state(f) != FLIGHT_FAILED && t->current == NULL)
		return STAGE_AGREES;	/* on its way: compared when it is asked for */
	if (flight_state(f) != FLIGHT_FAILED) {
		(void)snprintf(t->why, t->why_cap, "%s has not come within %d s",
		    sr->path, STAGE_FETCH_MS / 1000);
		return STAGE_UNREACHABLE;
	}
	r = flight_reason(f);
	if ((r == REASON_UP_NOT_FOUND || r == REASON_UP_GONE) && sr->optional)
		return STAGE_AGREES;	/* listed, but never there: many publishers do that */
	(void)snprintf(t->why, t->why_cap, "%s: %s", sr->path, flight_detail(f));
	return r == REASON_UP_DIGEST || r == REASON_UP_NOT_FOUND || r == REASON_UP_GONE ||
	    r == REASON_UP_CHANGED ? STAGE_DISAGREES : STAGE_UNREACHABLE;
}

/* Do installs go without it: no list of packages, or one that is here in another compression? */
static bool
stage_set_is_spare(struct stage_try *t, struct slice path)
{
	static const char *const suffixes[] = {"", ".xz", ".gz", ".zst", ".bz2", ".lzma"};
	char name[RELPATH_MAX + 8];
	struct release_index ri;
	struct blob_rec blob;
	uint8_t sha256[32];

	release_index_of(&ri, path);
	if (ri.list == RELEASE_OTHER)
		return true;
	for (unsigned i = 0; i < NELEM(suffixes); i++) {
		int n = snprintf(name, sizeof(name), "%.*s%s", SLICE_ARG(ri.stem), suffixes[i]);
		const struct release_file *rf = release_find(t->release,
		    (struct slice){name, (size_t)n});

		if (rf != NULL && !slice_eq(rf->path, path) &&
		    repo_stored_as(t->view, t->root, rf, sha256) &&
		    index_get_blob(t->view, sha256, &blob) == REASON_OK)
			return true;
	}
	return false;
}

/* The same, once the Release has waited long enough for what it can do without. */
static enum stage_verdict
stage_set_judge_late(struct stage_try *t, struct stage_reader *sr)
{
	enum stage_verdict v = stage_set_judge(t, sr);

	if (v == STAGE_AGREES || !t->may_pass_over || !stage_set_is_spare(t, slice_of(sr->path)))
		return v;
	sr->passed_over = strdup(t->why);
	return STAGE_AGREES;
}

/* The generation is made without these. */
static void
stage_set_say_passed_over(const struct stage_try *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		if (t->v[i].passed_over == NULL)
			continue;
		COUNT(generation_passed_over_total);
		log_warning("%.*s: adopted without a file that it lists, for which it has waited "
		    "%lld s: %s", SLICE_ARG(t->root), (long long)t->st->pass_over_ms / 1000,
		    t->v[i].passed_over);
	}
}

/* The table of one member of a set; BROKEN: the index can't be read, or contradicts itself. */
static enum stage_verdict
stage_set_read(struct stage_try *t, const char *path)
{
	struct stage *st = t->st;
	const struct release_file *rf = release_find(t->release, slice_of(path));
	struct pkgtable_stats stats;
	struct release_index ri;
	char why[PKGTABLE_WHY_BYTES] = "";
	uint8_t sha256[32];
	enum reason r;

	if (rf == NULL || !repo_stored_as(t->view, t->root, rf, sha256))
		return STAGE_AGREES;
	release_index_of(&ri, rf->path);
	if (ri.list == RELEASE_OTHER || ri.kind == UNPACK_UNKNOWN ||
	    !stage_table_claim(st, sha256))
		return STAGE_AGREES;
	r = stage_table_build(st, sha256, rf->path, release_unpacked_bytes(t->release, rf), &stats,
	    why, sizeof(why));
	if (r == REASON_OK && !stage_table_is_sound(t->release, &ri, &stats, why, sizeof(why)))
		r = REASON_LIST_BAD;
	if (r == REASON_OK)
		r = repo_table_attach(st->repos, sha256);
	stage_table_unclaim(st, sha256);
	if (r != REASON_LIST_BAD)
		return STAGE_AGREES;	/* a full disk, say: packages go unchecked, clients don't */
	(void)snprintf(t->why, t->why_cap, "%s can't be used: %s", path, why);
	return STAGE_BROKEN;
}

/*
 * Many publishers list an index without compression that they don't have:
 * what stands in for it is fetched, and it is unpacked when it is asked for.
 */
static void
stage_set_stand_in(const struct release *r, char **path)
{
	static const char *const suffixes[] = {".xz", ".gz", ".zst", ".bz2"};
	struct release_index ri;
	char *packed;

	release_index_of(&ri, slice_of(*path));
	for (unsigned i = 0; ri.kind == UNPACK_PLAIN && i < NELEM(suffixes); i++) {
		if (asprintf(&packed, "%s%s", *path, suffixes[i]) < 0)
			return;
		if (release_find(r, slice_of(packed)) == NULL) {
			free(packed);
			continue;
		}
		free(*path);
		*path = packed;
		return;
	}
}

/* When a set has to be here: first visitors are not held for what is merely slow. */
static int64_t
stage_set_deadline(const struct stage_try *t)
{
	int64_t now_ms = clock_mono_ms();

	if (t->current != NULL)
		return now_ms + STAGE_FETCH_MS;
	return t->first_ms + STAGE_FIRST_MS > now_ms + STAGE_RETRY_MS ?
	    t->first_ms + STAGE_FIRST_MS : now_ms + STAGE_RETRY_MS;
}

enum stage_verdict
stage_set_compare(struct stage_try *t)
{
	char *paths[REPO_MEMBERS_MAX];
	enum stage_verdict v = STAGE_AGREES, one;
	unsigned n = stage_set_choose(t, paths), i;
	struct flight_expect e;

	for (i = 0; i < n; i++) {
		const struct release_file *rf;

		stage_set_stand_in(t->release, &paths[i]);
		rf = release_find(t->release, slice_of(paths[i]));
		if (rf == NULL || !repo_file_expect(rf, &e) || stage_set_fetch(t, rf->path, &e))
			continue;
		(void)snprintf(t->why, t->why_cap, "%s: %s", paths[i], reason_text(REASON_NO_MEMORY));
		v = STAGE_UNREACHABLE;
	}
	(void)stage_wait_all(&t->bell, t->v, t->n, stage_set_deadline(t));
	for (i = 0; i < t->n; i++) {
		one = stage_set_judge_late(t, &t->v[i]);
		if (one == STAGE_DISAGREES || v == STAGE_AGREES)
			v = one;
		if (v == STAGE_DISAGREES)
			break;
	}
	for (i = 0; i < n && v == STAGE_AGREES; i++)
		v = stage_set_read(t, paths[i]);
	if (v == STAGE_AGREES)
		stage_set_say_passed_over(t);
	stage_set_drop(t);
	for (i = 0; i < n; i++)
		free(paths[i]);
	return v;
}
