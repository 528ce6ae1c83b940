/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#include "tests/support/cachedir.h"
#include "cache/index_priv.h"
#include "cache/recover.h"

#include <check.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
cachedir_make(struct cachedir *cd)
{
	const char *tmp = getenv("TMPDIR");

	/* A file system in memory where there is one: thousands of files are made and unlinked. */
	if (tmp == NULL)
		tmp = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
	memset(cd, 0, sizeof(*cd));
	ck_assert_int_lt(snprintf(cd->dir, sizeof(cd->dir), "%s/depot-check-XXXXXX", tmp),
	    (int)sizeof(cd->dir));
	ck_assert_ptr_nonnull(mkdtemp(cd->dir));
}

void
cachedir_open(struct cachedir *cd)
{
	struct index_conf conf = {.dir = cd->dir, .test_no_sync = true};

	ck_assert_int_eq(blobstore_open(&cd->blobs, cd->dir), REASON_OK);
	conf.blobs = cd->blobs;
	ck_assert_int_eq(index_open(&cd->index, &conf), REASON_OK);
	/* A new index commits once more, when the walk is done; closed before, it is walked again. */
	recover_wait(cd->index->recover);
	cd->view = index_view_open(cd->index);
	ck_assert_ptr_nonnull(cd->view);
}

void
cachedir_close(struct cachedir *cd)
{
	index_view_close(&cd->view);
	index_close(&cd->index);
	blobstore_close(&cd->blobs);
}

static int
cachedir_unlink_cb(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
	(void)sb;
	(void)type;
	(void)ftw;
	return remove(path);
}

void
cachedir_remove(struct cachedir *cd)
{
	cachedir_close(cd);
	(void)nftw(cd->dir, cachedir_unlink_cb, 16, FTW_DEPTH | FTW_PHYS);
}

const char *
cachedir_below(const struct cachedir *cd, const char *what)
{
	static char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", cd->dir, what);
	return path;
}

void
cachedir_digest(const void *body, size_t n, uint8_t digest[32])
{
	ck_assert_int_eq(EVP_Digest(body, n, digest, NULL, EVP_sha256(), NULL), 1);
}

void
cachedir_key(const char *url, struct key *key)
{
	cachedir_digest(url, strlen(url), key->b);
}

void
cachedir_rec(struct object_rec *rec, const char *url, const void *body, size_t n)
{
	*rec = (struct object_rec){
		.size_bytes = n,
		.stored_at_ms = 1700000000123,
		.checked_at_ms = 1700000000456,
		.class = APTFILE_PACKAGE,
		.terms = {.checked_at_s = 1700000000, .date_s = 1699999999, .lifetime_s = -1,
		    .last_modified_s = INT64_MIN, .stale_if_error_s = -1},
		.url = slice_of(url),
		.etag = SLICE("\"abc\""),
		.fields = SLICE("Content-Type: application/vnd.debian.binary-package\r\n"),
	};
	cachedir_digest(body, n, rec->digest);
}

void
cachedir_partial(struct cachedir *cd, const char *url, const void *body, size_t n)
{
	struct key key;
	int fd = -1;

	cachedir_key(url, &key);
	ck_assert_int_eq(blob_partial_create(cd->blobs, &key, &fd), REASON_OK);
	ck_assert_int_eq(write(fd, body, n), (ssize_t)n);
	ck_assert_int_eq(close(fd), 0);
}

enum reason
cachedir_store(struct cachedir *cd, const char *url, const char *body)
{
	struct index_wait w;
	struct object_rec rec;
	struct key key;

	index_wait_begin(&w);
	cachedir_key(url, &key);
	cachedir_partial(cd, url, body, strlen(body));
	cachedir_rec(&rec, url, body, strlen(body));
	index_store(cd->index, &key, &rec, index_wait_done, &w);
	return index_wait_end(&w);
}

enum reason
cachedir_lookup(struct cachedir *cd, const char *url, struct blob_rec *blob)
{
	static char text[OBJECT_TEXT_MAX];
	struct object_rec rec;
	struct key key;
	enum reason r;

	cachedir_key(url, &key);
	r = index_get_object(cd->view, &key, &rec, text);
	return r == REASON_OK ? index_get_blob(cd->view, rec.digest, blob) : r;
}

bool
cachedir_has_file(struct cachedir *cd, const char *body)
{
	uint8_t digest[32];
	struct blob_stat st;
	int fd = -1;

	cachedir_digest(body, strlen(body), digest);
	if (blob_open(cd->blobs, digest, &fd, &st) != REASON_OK)
		return false;
	(void)close(fd);
	return true;
}
