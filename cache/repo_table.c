/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Tables of packages. They lie in cache_dir/tables, named by the digest of the
 * index that they were made from, and can be made again from it at any time:
 * a missing or damaged one is no loss. All generations that list an index
 * share its table.
 */
#include "cache/repo_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"

int
repo_tables_dirfd(const struct repos *rs)
{
	return rs->tables_fd;
}

static struct repo_table *
repo_table_find(struct repos *rs, const uint8_t sha256[32])
{
	struct repo_table *t;

	TAILQ_FOREACH(t, &rs->tables, link)
		if (memcmp(t->digest, sha256, 32) == 0)
			return t;
	return NULL;
}

/* Does the generation list the index of this SHA-256? */
static const struct release_file *
repo_table_listed(struct index_view *view, const struct repo_gen *g, const uint8_t sha256[32])
{
	const struct release_file *rf = repo_gen_by_digest(g, APTFILE_SHA256, sha256);

	if (rf != NULL || g->by_sha256.n == g->release->files_n)
		return rf;
	for (size_t i = 0; i < g->release->files_n; i++) {
		const struct release_file *f = &g->release->files[i];
		struct release_index ri;
		uint8_t stored[32];

		release_index_of(&ri, f->path);
		if (!f->has_sha256 && ri.list != RELEASE_OTHER &&
		    repo_stored_as(view, g->repo->root, f, stored) && memcmp(stored, sha256, 32) == 0)
			return f;
	}
	return NULL;
}

/* Gives the table to every generation that lists its index; how many (lock held). */
static unsigned
repo_table_hand_out(struct repos *rs, struct index_view *view, struct repo_table *t)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < rs->repos_n; i++)
		for (unsigned k = 0; k < rs->repos[i]->gens_n; k++) {
			if (repo_table_listed(view, rs->repos[i]->gens[k], t->digest) == NULL)
				continue;
			repo_gen_add_table(rs->repos[i]->gens[k], t);
			n++;
		}
	return n;
}

/* Opens tables/<hex>; NULL: not there, or damaged. */
static struct repo_table *
repo_table_open(struct repos *rs, const uint8_t sha256[32])
{
	char hex[KEY_HEX_BYTES];
	struct repo_table *t = calloc(1, sizeof(*t));

	key_hex(sha256, hex);
	if (t == NULL || pkgtable_open(rs->tables_fd, hex, &t->t) != REASON_OK) {
		free(t);
		return NULL;
	}
	memcpy(t->digest, sha256, 32);
	t->made_ms = clock_mono_ms();
	atomic_init(&t->refs, 1);
	return t;
}

void
repo_table_load(struct repos *rs, struct index_view *view)
{
	int fd = fcntl(rs->tables_fd, F_DUPFD_CLOEXEC, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	uint8_t digest[32];

	if (dir == NULL && fd >= 0)
		(void)close(fd);
	while (dir != NULL && (de = readdir(dir)) != NULL) {
		struct repo_table *t = NULL;

		if (de->d_name[0] == '.')
			continue;
		if (key_from_hex(slice_of(de->d_name), digest))
			t = repo_table_open(rs, digest);
		if (t != NULL && repo_table_hand_out(rs, view, t) > 0) {
			TAILQ_INSERT_TAIL(&rs->tables, t, link);
			continue;
		}
		if (t != NULL)
			repo_table_unref(t);
		(void)unlinkat(rs->tables_fd, de->d_name, 0);
	}
	if (dir != NULL)
		(void)closedir(dir);
}

bool
repo_has_table(struct repos *rs, const uint8_t sha256[32])
{
	bool has;

	AZ(pthread_mutex_lock(&rs->lock));
	has = repo_table_find(rs, sha256) != NULL;
	AZ(pthread_mutex_unlock(&rs->lock));
	return has;
}

bool
repo_table_wanted(struct repos *rs, const uint8_t sha256[32], char path[1024],
    uint64_t *size_bytes)
{
	struct index_view *view = index_view_open(rs->conf.index);
	const struct release_file *rf = NULL;
	struct release_index ri;
	bool wanted = false;

	AZ(pthread_mutex_lock(&rs->lock));
	if (repo_table_find(rs, sha256) == NULL)
		for (uint32_t i = 0; i < rs->repos_n && !wanted; i++)
			for (unsigned k = 0; k < rs->repos[i]->gens_n && !wanted; k++) {
				const struct repo_gen *g = rs->repos[i]->gens[k];

				rf = repo_table_listed(view, g, sha256);
				if (rf == NULL || rf->path.n >= 1024)
					continue;
				release_index_of(&ri, rf->path);
				wanted = ri.list != RELEASE_OTHER && ri.kind != UNPACK_UNKNOWN;
				memcpy(path, rf->path.p, rf->path.n);
				path[rf->path.n] = '\0';
				*size_bytes = release_unpacked_bytes(g->release, rf);
			}
	AZ(pthread_mutex_unlock(&rs->lock));
	index_view_close(&view);
	return wanted;
}

enum reason
repo_table_attach(struct repos *rs, const uint8_t sha256[32])
{
	struct repo_table *t = repo_table_open(rs, sha256);
	struct index_view *view = index_view_open(rs->conf.index);

	if (t == NULL) {
		index_view_close(&view);
		return REASON_DISK_ERROR;
	}
	AZ(pthread_mutex_lock(&rs->lock));
	if (repo_table_find(rs, sha256) == NULL) {
		TAILQ_INSERT_TAIL(&rs->tables, t, link);
		if (repo_table_hand_out(rs, view, t) > 0)
			repo_publish(rs);
	} else
		repo_table_unref(t);
	AZ(pthread_mutex_unlock(&rs->lock));
	index_view_close(&view);
	return REASON_OK;
}

/* Is it a list of packages or sources whose body is stored? */
static bool
repo_table_can_be_made(struct index_view *view, const struct repo_gen *g,
    const struct release_file *rf, uint8_t sha256[32])
{
	struct release_index ri;
	struct blob_rec blob;

	release_index_of(&ri, rf->path);
	return ri.list != RELEASE_OTHER && repo_stored_as(view, g->repo->root, rf, sha256) &&
	    index_get_blob(view, sha256, &blob) == REASON_OK;
}

void
repo_each_missing_table(struct repos *rs, repo_missing_f *fn, void *arg)
{
	struct index_view *view = index_view_open(rs->conf.index);
	uint8_t sha256[32];

	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; view != NULL && i < rs->repos_n; i++)
		for (unsigned k = 0; k < rs->repos[i]->gens_n; k++) {
			const struct repo_gen *g = rs->repos[i]->gens[k];

			for (size_t f = 0; f < g->release->files_n; f++)
				if (repo_table_can_be_made(view, g, &g->release->files[f], sha256) &&
				    repo_table_find(rs, sha256) == NULL)
					fn(arg, g->repo->root, sha256);
		}
	AZ(pthread_mutex_unlock(&rs->lock));
	index_view_close(&view);
}

void
repo_gen_missing_tables(struct repos *rs, const struct repo_gen *g, repo_missing_f *fn, void *arg)
{
	struct index_view *view = index_view_open(rs->conf.index);
	uint8_t sha256[32];

	for (size_t f = 0; view != NULL && f < g->release->files_n; f++)
		if (repo_table_can_be_made(view, g, &g->release->files[f], sha256) &&
		    !repo_has_table(rs, sha256))
			fn(arg, g->repo->root, sha256);
	index_view_close(&view);
}

void
repo_table_take(struct repos *rs, struct repo_gen *g)
{
	struct index_view *view = index_view_open(rs->conf.index);
	struct repo_table *t;

	TAILQ_FOREACH(t, &rs->tables, link)
		if (repo_table_listed(view, g, t->digest) != NULL)
			repo_gen_add_table(g, t);
	index_view_close(&view);
}
