/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Tables of packages: made of a stored index, when a set is staged or when an
 * index comes later. Each by one thread at a time.
 */
#include "cache/stage_priv.h"

#include <stdio.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"

/* Where a Release does not say how large an index is when unpacked. */
static const uint64_t STAGE_UNPACKED_MAX = UINT64_C(4) << 30;

/* Does some thread make it (lock held)? */
static bool
stage_table_is_claimed(const struct stage *st, const uint8_t sha256[32])
{
	for (unsigned i = 0; i < st->building_n; i++)
		if (memcmp(st->building[i], sha256, 32) == 0)
			return true;
	return false;
}

bool
stage_table_claim(struct stage *st, const uint8_t sha256[32])
{
	AZ(pthread_mutex_lock(&st->lock));
	while (stage_table_is_claimed(st, sha256))
		AZ(pthread_cond_wait(&st->news, &st->lock));
	MUST(st->building_n < STAGE_THREADS);
	memcpy(st->building[st->building_n++], sha256, 32);
	AZ(pthread_mutex_unlock(&st->lock));
	/* Not under our lock: the registry's is the outer one. */
	if (!repo_has_table(st->repos, sha256))
		return true;
	stage_table_unclaim(st, sha256);
	return false;
}

void
stage_table_unclaim(struct stage *st, const uint8_t sha256[32])
{
	AZ(pthread_mutex_lock(&st->lock));
	for (unsigned i = 0; i < st->building_n; i++) {
		if (memcmp(st->building[i], sha256, 32) != 0)
			continue;
		memcpy(st->building[i], st->building[--st->building_n], 32);
		break;
	}
	AZ(pthread_cond_broadcast(&st->news));
	AZ(pthread_mutex_unlock(&st->lock));
}

/* How much may come out of an index; a Release that does not say gets room for a hundredfold. */
static uint64_t
stage_table_unpacked_max(uint64_t said_bytes, uint64_t packed_bytes)
{
	uint64_t guess = packed_bytes < STAGE_UNPACKED_MAX / 100 ? packed_bytes * 100 + (1 << 20) :
	    STAGE_UNPACKED_MAX;

	return said_bytes != 0 ? said_bytes : guess;
}

enum reason
stage_table_build(struct stage *st, const uint8_t sha256[32], struct slice path,
    uint64_t said_bytes, struct pkgtable_stats *stats, char *why, size_t why_cap)
{
	const struct cache_parts *parts = cache_parts(st->cache);
	struct release_index ri;
	struct blob_stat bs;
	char hex[KEY_HEX_BYTES];
	enum reason r;
	int fd = -1;

	release_index_of(&ri, path);
	key_hex(sha256, hex);
	r = blob_open(parts->blobs, sha256, &fd, &bs);
	if (r != REASON_OK) {
		(void)snprintf(why, why_cap, "its body can't be read: %s", reason_text(r));
		return r;
	}
	r = pkgtable_build(repo_tables_dirfd(parts->repos), hex, fd, ri.kind,
	    ri.list == RELEASE_SOURCES, stage_table_unpacked_max(said_bytes, bs.size_bytes), stats, why,
	    why_cap);
	(void)close(fd);
	if (r != REASON_OK)
		return r;
	COUNT(tables_built_total);
	log_info("%.*s: %llu files of %llu stanzas have their digests", SLICE_ARG(path),
	    (unsigned long long)stats->entries_n, (unsigned long long)stats->stanzas_n);
	return REASON_OK;
}

bool
stage_table_is_sound(const struct release *r, const struct release_index *ri,
    const struct pkgtable_stats *stats, char *why, size_t why_cap)
{
	const struct release_file *plain = release_find(r, ri->stem);

	if (plain != NULL && plain->has_sha256 &&
	    memcmp(plain->sha256, stats->unpacked_sha256, 32) != 0) {
		(void)snprintf(why, why_cap, "it unpacks to something else than the %.*s that is "
		    "listed beside it", SLICE_ARG(ri->stem));
		return false;
	}
	if (stats->ambiguous_n == 0)
		return true;
	(void)snprintf(why, why_cap, "it gives different digests or sizes for %llu of its files",
	    (unsigned long long)stats->ambiguous_n);
	return false;
}

void
stage_table_job(struct stage *st, struct stage_job *job)
{
	char path[1024], why[PKGTABLE_WHY_BYTES] = "";
	struct pkgtable_stats stats;
	uint64_t said_bytes = 0;
	enum reason r;

	if (!repo_table_wanted(st->repos, job->digest, path, &said_bytes) ||
	    !stage_table_claim(st, job->digest))
		return;
	r = stage_table_build(st, job->digest, slice_of(path), said_bytes, &stats, why,
	    sizeof(why));
	if (r == REASON_OK)
		r = repo_table_attach(st->repos, job->digest);
	stage_table_unclaim(st, job->digest);
	if (r != REASON_OK)
		log_warning("%s can't be read, its packages are not checked: %s", path,
		    why[0] != '\0' ? why : reason_text(r));
}
