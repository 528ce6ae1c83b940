/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Generations that go: those that are neither among the newest of their
 * repository, nor pinned, nor held by a client; with what only they refer to.
 */
#include "cache/repo_priv.h"

#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum { REPO_TABLE_GRACE_MS = 600 * 1000 };

/* Does another kept generation say the same of this path? (lock held) */
static bool
repo_expire_others_list(const struct repo *repo, const struct repo_gen *but, struct slice path,
    const struct flight_expect *e)
{
	for (unsigned i = 0; i < repo->gens_n; i++) {
		const struct release_file *rf;
		struct flight_expect other;

		if (repo->gens[i] == but)
			continue;
		rf = release_find(repo->gens[i]->release, path);
		if (rf != NULL && repo_file_expect(rf, &other) && other.hash == e->hash &&
		    memcmp(other.digest, e->digest, sizeof(e->digest)) == 0)
			return true;
	}
	return false;
}

/* Was another kept generation the same publication, with this very file? (lock held) */
static bool
repo_expire_others_have(const struct repo *repo, const struct repo_gen *but, unsigned which)
{
	for (unsigned i = 0; i < repo->gens_n; i++) {
		const struct repo_gen *g = repo->gens[i];

		if (g != but && atomic_load(&g->has[which]) &&
		    memcmp(g->digest[which], but->digest[which], 32) == 0)
			return true;
	}
	return false;
}

/* The stored version of a file of the generation is wanted no longer. */
static void
repo_expire_version(struct repos *rs, const struct repo *repo, struct slice path,
    const struct flight_expect *e)
{
	char text[REPO_URL_BYTES];
	struct slice url;
	struct key key;

	if (!repo_url(repo->root, path, text, &url))
		return;
	repo_version_key(url, e, &key);
	index_forget(rs->conf.index, &key);
}

/* Takes it out of registry and index, with what only it refers to (lock held). why: for the log. */
static void
repo_expire_gen(struct repos *rs, struct repo *repo, unsigned at, const char *why)
{
	struct repo_gen *g = repo->gens[at];
	uint8_t key[REPO_GEN_KEY_BYTES];
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};

	log_info("generation %llu of %.*s goes: %s", (unsigned long long)g->seq,
	    SLICE_ARG(repo->root), why);
	COUNT(generations_expired_total);
	for (unsigned i = 0; i < REPO_FILE_N; i++) {
		if (!atomic_load(&g->has[i]) || repo_expire_others_have(repo, g, i))
			continue;
		memcpy(e.digest, g->digest[i], 32);
		repo_expire_version(rs, repo, repo_file_names[i], &e);
	}
	for (unsigned i = 0; i < repo->members_n; i++) {
		struct slice path = slice_of(repo->members[i].path);
		const struct release_file *rf = release_find(g->release, path);

		if (rf != NULL && repo_file_expect(rf, &e) && !repo_expire_others_list(repo, g, path, &e))
			repo_expire_version(rs, repo, path, &e);
	}
	repo_store_gen_key(repo, g->seq, key);
	repo_store_drop_gen(rs, key);
	rs->memory_bytes -= g->release->bytes;
	repo->gens_n--;
	memmove(&repo->gens[at], &repo->gens[at + 1],
	    (repo->gens_n - at) * sizeof(struct repo_gen *));
	repo_gen_unref(&g);
}

/* May this root make room for another one (lock held)? */
static bool
repo_expire_may_root(const struct repo *repo)
{
	for (unsigned i = 0; i < repo->gens_n; i++)
		if (repo->gens[i]->pins_n > 0)
			return false;
	return repo->adopting_n == 0;
}

/* Would this one be missed less: nothing adopted there, or not used for longer (lock held)? */
static bool
repo_expire_root_before(const struct repo *a, const struct repo *b)
{
	if ((a->gens_n > 0) != (b->gens_n > 0))
		return a->gens_n == 0;
	return atomic_load(&a->used_at_s) < atomic_load(&b->used_at_s);
}

bool
repo_expire_root(struct repos *rs, bool for_memory)
{
	struct repo *repo;
	uint32_t at = UINT32_MAX;

	for (uint32_t i = 0; i < rs->repos_n; i++)
		if (repo_expire_may_root(rs->repos[i]) &&
		    (!for_memory || rs->repos[i]->gens_n > 0) && (at == UINT32_MAX ||
		    repo_expire_root_before(rs->repos[i], rs->repos[at])))
			at = i;
	if (at == UINT32_MAX)
		return false;
	repo = rs->repos[at];
	COUNT(repositories_forgotten_total);
	if (repo->gens_n > 0) {
		COUNT_DOWN(generations_current);
		log_warning("%.*s is forgotten to make room for another repository: none was used "
		    "for longer", SLICE_ARG(repo->root));
		while (repo->gens_n > 0)
			repo_expire_gen(rs, repo, repo->gens_n - 1, "its repository is forgotten");
		repo_store_drop_root(rs, repo);
	}
	repo->forgotten = true;
	rs->repos[at] = rs->repos[--rs->repos_n];
	repo_unref(&repo);
	return true;
}

/* Tables that no generation refers to go, with their files. */
static void
repo_expire_tables(struct repos *rs)
{
	int64_t before_ms = clock_mono_ms() - REPO_TABLE_GRACE_MS;
	TAILQ_HEAD(, repo_table) gone = TAILQ_HEAD_INITIALIZER(gone);
	struct repo_table *t, *next;
	char hex[KEY_HEX_BYTES];

	AZ(pthread_mutex_lock(&rs->lock));
	for (t = TAILQ_FIRST(&rs->tables); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		if (atomic_load(&t->refs) != 1 || t->made_ms > before_ms)
			continue;
		TAILQ_REMOVE(&rs->tables, t, link);
		TAILQ_INSERT_TAIL(&gone, t, link);
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	while ((t = TAILQ_FIRST(&gone)) != NULL) {
		TAILQ_REMOVE(&gone, t, link);
		key_hex(t->digest, hex);
		(void)unlinkat(rs->tables_fd, hex, 0);
		repo_table_unref(t);
	}
}

/* Is it pinned, or has a client that may go on with it (lock held)? */
static bool
repo_expire_is_wanted(struct repos *rs, const struct repo *repo, unsigned at)
{
	const struct repo_gen *g = repo->gens[at];

	/* Connections live as long as clients like; what is kept for them is bounded. */
	return g->pins_n > 0 ||
	    (atomic_load(&g->connections_n) > 0 && at < rs->conf.keep_n + REPO_HELD_GENS_MAX) ||
	    repo_hold_is_held(rs->holds, repo, g->seq, clock_mono_ms() - rs->conf.hold_ms);
}

void
repo_expire(struct repos *rs)
{
	bool changed = false;

	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; i < rs->repos_n; i++) {
		struct repo *repo = rs->repos[i];

		for (unsigned k = repo->gens_n; k-- > 1;) {
			if (k < rs->conf.keep_n || repo_expire_is_wanted(rs, repo, k))
				continue;
			repo_expire_gen(rs, repo, k, "newer ones are kept");
			changed = true;
		}
	}
	if (changed)
		repo_publish(rs);
	AZ(pthread_mutex_unlock(&rs->lock));
	repo_expire_tables(rs);
}
