/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The registry of repositories: every root that is known, from the first
 * Release that is asked for there. See repo.h for what the other sources do.
 */
#include "cache/repo_priv.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"

const struct slice repo_file_names[REPO_FILE_N] = {
	[REPO_INRELEASE] = {"InRelease", sizeof("InRelease") - 1},
	[REPO_RELEASE] = {"Release", sizeof("Release") - 1},
	[REPO_SIGNATURE] = {"Release.gpg", sizeof("Release.gpg") - 1},
};

/* ---- the registry (lock held) ---- */

/* NULL: there is none. */
static struct repo *
repo_find(struct repos *rs, struct slice root)
{
	for (uint32_t i = 0; i < rs->repos_n; i++)
		if (slice_eq(rs->repos[i]->root, root))
			return rs->repos[i];
	return NULL;
}

/* Bytes of the root before "dists/", 0 for a flat one. */
static size_t
repo_base_of(struct slice root)
{
	const struct slice word = SLICE("/dists/");
	const char *p = memmem(root.p, root.n, word.p, word.n), *last = NULL;

	for (; p != NULL; p = memmem(p + 1, root.n - (size_t)(p + 1 - root.p), word.p, word.n))
		last = p;
	/* "dists/" itself holds suites, it is none. */
	if (last == NULL || (size_t)(last - root.p) + word.n == root.n)
		return 0;
	return (size_t)(last - root.p) + 1;
}

struct repo *
repo_ref(struct repo *repo)
{
	CHECK_OBJ(repo, REPO_MAGIC);
	(void)atomic_fetch_add_explicit(&repo->refs, 1, memory_order_relaxed);
	return repo;
}

void
repo_unref(struct repo **repo_p)
{
	struct repo *repo = *repo_p;

	*repo_p = NULL;
	if (repo == NULL)
		return;
	CHECK_OBJ(repo, REPO_MAGIC);
	if (atomic_fetch_sub_explicit(&repo->refs, 1, memory_order_acq_rel) != 1)
		return;
	MUST(repo->gens_n == 0);
	for (unsigned i = 0; i < repo->members_n; i++)
		free(repo->members[i].path);
	free(repo->gens);
	free((void *)(uintptr_t)repo->root.p);
	OBJ_FREE(repo);
}

void
repo_touch(struct repo *repo, int64_t now_s)
{
	/* Written once a second at most: many workers look at it. */
	if (atomic_load_explicit(&repo->used_at_s, memory_order_relaxed) < now_s)
		atomic_store_explicit(&repo->used_at_s, now_s, memory_order_relaxed);
}

struct repo *
repo_find_or_add(struct repos *rs, struct slice root, int64_t now_s)
{
	struct repo *repo = repo_find(rs, root);
	char *text;

	if (repo != NULL)
		return repo;
	if (rs->repos_n >= rs->conf.roots_max && !repo_expire_root(rs, false)) {
		COUNT(repositories_refused_total);
		return NULL;
	}
	text = strndup(root.p, root.n);
	OBJ_NEW(repo, REPO_MAGIC);
	if (repo == NULL || text == NULL) {
		free(text);
		free(repo);
		return NULL;
	}
	repo->root = (struct slice){text, root.n};
	repo->base_n = repo_base_of(repo->root);
	repo->next_seq = 1;
	repo->id = ++rs->next_id;
	atomic_init(&repo->refs, 1);
	atomic_init(&repo->used_at_s, now_s);
	key_of_text(repo->root, &repo->key);
	rs->repos[rs->repos_n++] = repo;
	atomic_store(&rs->known_n, rs->repos_n);
	return repo;
}

void
repo_publish(struct repos *rs)
{
	struct repo_set *set = repo_set_new(rs);

	if (set == NULL)
		return;
	set->epoch = atomic_load(&rs->epoch) + 1;
	repo_set_unref(rs->set);
	rs->set = set;
	atomic_store_explicit(&rs->epoch, set->epoch, memory_order_release);
}

uint64_t
repo_epoch(const struct repos *rs)
{
	return atomic_load_explicit(&rs->epoch, memory_order_acquire);
}

/* ---- opening and closing ---- */

enum reason
repos_open(struct repos **rs_p, const struct repos_conf *conf)
{
	struct repos *rs;
	enum reason r = REASON_NO_MEMORY;

	OBJ_NEW(rs, REPOS_MAGIC);
	if (rs == NULL)
		return r;
	rs->conf = *conf;
	if (rs->conf.roots_max == 0 || rs->conf.roots_max > REPO_ROOTS_MAX)
		rs->conf.roots_max = REPO_ROOTS_MAX;
	if (rs->conf.memory_max_bytes == 0)
		rs->conf.memory_max_bytes = REPO_MEMORY_MAX_BYTES;
	rs->tables_fd = -1;
	TAILQ_INIT(&rs->tables);
	AZ(pthread_mutex_init(&rs->lock, NULL));
	rs->holds = repo_holds_new();
	if (rs->holds != NULL)
		r = repo_store_load(rs);
	if (r == REASON_OK) {
		AZ(pthread_mutex_lock(&rs->lock));
		repo_publish(rs);
		AZ(pthread_mutex_unlock(&rs->lock));
		if (rs->set == NULL)
			r = REASON_NO_MEMORY;
	}
	if (r != REASON_OK) {
		repos_close(&rs);
		return r;
	}
	*rs_p = rs;
	return REASON_OK;
}

void
repos_set_conf(struct repos *rs, unsigned keep_n, int64_t hold_ms)
{
	CHECK_OBJ(rs, REPOS_MAGIC);
	rs->conf.keep_n = keep_n;
	rs->conf.hold_ms = hold_ms;
}

void
repos_close(struct repos **rs_p)
{
	struct repos *rs = *rs_p;
	struct repo_table *t;

	*rs_p = NULL;
	if (rs == NULL)
		return;
	CHECK_OBJ(rs, REPOS_MAGIC);
	repo_set_unref(rs->set);
	for (uint32_t i = 0; i < rs->repos_n; i++) {
		if (rs->repos[i]->gens_n > 0)
			COUNT_DOWN(generations_current);
		while (rs->repos[i]->gens_n > 0)
			repo_gen_unref(&rs->repos[i]->gens[--rs->repos[i]->gens_n]);
		repo_unref(&rs->repos[i]);
	}
	while ((t = TAILQ_FIRST(&rs->tables)) != NULL) {
		TAILQ_REMOVE(&rs->tables, t, link);
		pkgtable_close(&t->t);
		free(t);
	}
	repo_holds_free(&rs->holds);
	if (rs->tables_fd >= 0)
		(void)close(rs->tables_fd);
	AZ(pthread_mutex_destroy(&rs->lock));
	OBJ_FREE(rs);
}

/* ---- versions ---- */

bool
repo_url(struct slice root, struct slice path, char out[REPO_URL_BYTES], struct slice *url)
{
	char text[REPO_URL_BYTES];
	int n = snprintf(text, sizeof(text), "%.*s%.*s", SLICE_ARG(root), SLICE_ARG(path));
	struct arena a;
	struct url u;

	arena_init(&a, out, REPO_URL_BYTES);
	if (n <= 0 || (size_t)n >= sizeof(text) ||
	    url_parse(&u, &a, (struct slice){text, (size_t)n}) != REASON_OK)
		return false;
	*url = u.text;
	return true;
}

void
repo_version_key(struct slice url, const struct flight_expect *expect, struct key *key)
{
	static const char tag[] = "#sha256=", tag512[] = "#sha512=";
	bool is512 = expect->hash == APTFILE_SHA512;
	size_t digest_n = is512 ? 64 : 32;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	/* A digest's raw bytes behind the tag: no URL ends so, fragments are cut off. */
	AN(ctx);
	MUST(EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
	    EVP_DigestUpdate(ctx, url.p, url.n) == 1 &&
	    EVP_DigestUpdate(ctx, is512 ? tag512 : tag, sizeof(tag) - 1) == 1 &&
	    EVP_DigestUpdate(ctx, expect->digest, digest_n) == 1 &&
	    EVP_DigestFinal_ex(ctx, key->b, NULL) == 1);
	EVP_MD_CTX_free(ctx);
}

char *
repo_by_hash_url(struct slice url, enum aptfile_hash hash, const uint8_t *digest)
{
	bool is512 = hash == APTFILE_SHA512;
	char hex[2 * 64 + 1], *text;

	key_hex_of(digest, is512 ? 64 : 32, hex);
	while (url.n > 0 && url.p[url.n - 1] != '/')
		url.n--;
	return asprintf(&text, "%.*sby-hash/%s/%s", SLICE_ARG(url), is512 ? "SHA512" : "SHA256",
	    hex) < 0 ? NULL : text;
}

void
repo_by_hash_key(struct slice url, const struct flight_expect *expect, struct key *key)
{
	char *text = repo_by_hash_url(url, expect->hash, expect->digest);

	AN(text);
	key_of_text(slice_of(text), key);
	free(text);
}

bool
repo_stored_as(struct index_view *view, struct slice root, const struct release_file *rf,
    uint8_t sha256[32])
{
	char room[REPO_URL_BYTES], text[OBJECT_TEXT_MAX];
	struct flight_expect e;
	struct object_rec rec;
	struct slice url;
	struct key key;

	if (rf->has_sha256) {
		memcpy(sha256, rf->sha256, 32);
		return true;
	}
	if (view == NULL || !repo_file_expect(rf, &e) || !repo_url(root, rf->path, room, &url))
		return false;
	repo_version_key(url, &e, &key);
	if (index_get_object(view, &key, &rec, text) != REASON_OK) {
		repo_by_hash_key(url, &e, &key);
		if (index_get_object(view, &key, &rec, text) != REASON_OK)
			return false;
	}
	memcpy(sha256, rec.digest, 32);
	return true;
}

bool
repo_file_expect(const struct release_file *rf, struct flight_expect *out)
{
	if (!rf->has_sha256 && !rf->has_sha512)
		return false;
	memset(out, 0, sizeof(*out));
	out->size_bytes = (int64_t)rf->size_bytes;
	out->hash = rf->has_sha256 ? APTFILE_SHA256 : APTFILE_SHA512;
	if (rf->has_sha256)
		memcpy(out->digest, rf->sha256, 32);
	else
		memcpy(out->digest, rf->sha512, 64);
	return true;
}

/* ---- for stage.c ---- */

bool
repo_split_release(struct slice url, struct slice *root, enum repo_file *which)
{
	const char *q = memchr(url.p, '?', url.n);
	struct slice name;
	size_t i;

	if (q != NULL)
		return false;
	for (i = url.n; i > 0 && url.p[i - 1] != '/'; i--)
		;
	*root = (struct slice){url.p, i};
	name = slice_skip(url, i);
	for (unsigned k = 0; k < REPO_FILE_N; k++) {
		if (!slice_eq(name, repo_file_names[k]))
			continue;
		*which = (enum repo_file)k;
		return true;
	}
	return false;
}

struct repo_gen *
repo_current(struct repos *rs, struct slice root)
{
	struct repo_gen *g = NULL;
	struct repo *repo;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_find(rs, root);
	if (repo != NULL && repo->gens_n > 0)
		g = repo_gen_ref(repo->gens[0]);
	AZ(pthread_mutex_unlock(&rs->lock));
	return g;
}

void
repo_note_root(struct repos *rs, struct slice root)
{
	int64_t now_s = clock_wall_s();
	uint64_t before_id;
	struct repo *repo;

	AZ(pthread_mutex_lock(&rs->lock));
	before_id = rs->next_id;
	repo = repo_find_or_add(rs, root, now_s);
	if (repo != NULL)
		repo_touch(repo, now_s);
	if (rs->next_id != before_id)
		repo_publish(rs);
	AZ(pthread_mutex_unlock(&rs->lock));
}

unsigned
repo_members(struct repos *rs, struct slice root, const struct release *r,
    char *paths[REPO_MEMBERS_MAX])
{
	int64_t since_s = (int64_t)time(NULL) - REPO_MEMBER_ASKED_S;
	struct repo *repo;
	unsigned n = 0;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_find(rs, root);
	for (unsigned i = 0; repo != NULL && i < repo->members_n; i++) {
		const struct repo_member *m = &repo->members[i];

		if (m->asked_at_s < since_s || release_find(r, slice_of(m->path)) == NULL)
			continue;
		paths[n] = strdup(m->path);
		n += paths[n] != NULL;
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	return n;
}

void
repo_note_member(struct repos *rs, struct repo *repo, struct slice path, int64_t now_s)
{
	struct repo_member *m = NULL, *oldest = NULL;

	AZ(pthread_mutex_lock(&rs->lock));
	for (unsigned i = 0; i < repo->members_n && !repo->forgotten; i++) {
		if (slice_eq(slice_of(repo->members[i].path), path))
			m = &repo->members[i];
		if (oldest == NULL || repo->members[i].asked_at_s < oldest->asked_at_s)
			oldest = &repo->members[i];
	}
	if (m == NULL && !repo->forgotten) {
		char *text = strndup(path.p, path.n);

		if (text != NULL && repo->members_n < REPO_MEMBERS_MAX)
			m = &repo->members[repo->members_n++];
		else if (text != NULL) {
			m = oldest;
			free(m->path);
		}
		if (m != NULL)
			m->path = text;
	}
	if (m != NULL) {
		m->asked_at_s = now_s;
		repo_store_root(rs, repo);
	}
	AZ(pthread_mutex_unlock(&rs->lock));
}

bool
repo_late_expect(struct repos *rs, const struct url *url, const struct aptfile *af,
    struct flight_expect *out)
{
	struct repo_view *v = repo_view_open(rs);
	struct repo_answer a = {.role = REPO_ROLE_NONE};
	struct key key;

	if (v == NULL)
		return false;
	v->forgetful = true;
	key_of_url(url, &key);
	repo_ask(v, &(struct repo_ask){.url = url, .key = &key, .af = af}, &a);
	*out = a.expect;
	repo_view_close(&v);
	return a.role == REPO_ROLE_LISTED;
}
