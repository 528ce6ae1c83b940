/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A body from a file instead of from upstream: copied to partial/ while it is
 * hashed, made durable, then handed to the index writer like a fetched one.
 * The command import calls it on its own thread, one file a call.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <unistd.h>

#include "cache/evict.h"
#include "cache/inspect_priv.h"
#include "include/clock.h"
#include "include/log.h"

enum { IMPORT_READ_BYTES = 1 << 20 };

/* One at a time: two of the same file would write to one partial. */
static pthread_mutex_t import_lock = PTHREAD_MUTEX_INITIALIZER;

/* All n bytes. */
static enum reason
import_write(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return blob_errno_reason(errno);
		p += k;
		n -= (size_t)k;
	}
	return REASON_OK;
}

/* Copies and hashes until the end of `from`. */
static enum reason
import_copy(int from, int to, bool (*stop)(void *arg), void *arg, uint8_t digest[32],
    uint64_t *bytes)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	char *buf = malloc(IMPORT_READ_BYTES);
	enum reason r = md != NULL && buf != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 ?
	    REASON_OK : REASON_NO_MEMORY;
	ssize_t n = 1;

	*bytes = 0;
	while (r == REASON_OK && n > 0) {
		n = read(from, buf, IMPORT_READ_BYTES);
		if (n < 0)
			r = errno == EINTR ? REASON_OK : REASON_DISK_ERROR;
		else if (n > 0 && EVP_DigestUpdate(md, buf, (size_t)n) != 1)
			r = REASON_NO_MEMORY;
		else if (n > 0)
			r = import_write(to, buf, (size_t)n);
		if (n < 0 && r == REASON_OK)
			n = 1;
		else if (n > 0)
			*bytes += (uint64_t)n;
		if (r == REASON_OK && stop(arg))
			r = REASON_SHUTDOWN;
	}
	if (r == REASON_OK && EVP_DigestFinal_ex(md, digest, NULL) != 1)
		r = REASON_NO_MEMORY;
	if (r == REASON_OK && fdatasync(to) != 0)
		r = blob_errno_reason(errno);
	free(buf);
	EVP_MD_CTX_free(md);
	return r;
}

/* Hands the finished partial to the index writer and waits for its commit. */
static enum reason
import_store(const struct cache_parts *parts, const struct key *key, const char *url,
    const uint8_t digest[32], uint64_t bytes)
{
	struct object_rec rec = {
		.size_bytes = bytes,
		.stored_at_ms = clock_wall_ms(),
		.checked_at_ms = clock_wall_ms(),
		.class = APTFILE_PACKAGE,
		.terms = {.checked_at_s = clock_wall_s(), .date_s = clock_wall_s(), .lifetime_s = -1,
		    .last_modified_s = INT64_MIN, .stale_if_error_s = -1},
		.url = slice_of(url),
		.from.way = PROVENANCE_IMPORTED,
	};
	struct index_wait w;

	memcpy(rec.digest, digest, sizeof(rec.digest));
	index_wait_begin(&w);
	index_store(parts->index, key, &rec, index_wait_done, &w);
	return index_wait_end(&w);
}

enum reason
inspect_import(struct cache_view *v, int fd, const char *url, bool (*stop)(void *arg), void *arg,
    uint8_t digest[32], uint64_t *bytes, bool *was_here)
{
	const struct cache_parts *parts = cache_view_parts(v);
	struct blob_rec blob;
	struct key key;
	enum reason r;
	int to;

	key_of_text(slice_of(url), &key);
	AZ(pthread_mutex_lock(&import_lock));
	r = blob_partial_create(parts->blobs, &key, &to);
	if (r == REASON_OK) {
		r = import_copy(fd, to, stop, arg, digest, bytes);
		(void)close(to);
		if (r == REASON_OK) {
			*was_here = index_get_blob(cache_view_index(v), digest, &blob) == REASON_OK;
			r = import_store(parts, &key, url, digest, *bytes);
		}
		if (r != REASON_OK && blob_partial_remove(parts->blobs, &key) != REASON_OK)
			log_warning("import: a part of %s stays in partial/ until the next start", url);
	}
	AZ(pthread_mutex_unlock(&import_lock));
	if (r == REASON_OK)
		evict_kick(parts->evict);
	return r;
}
