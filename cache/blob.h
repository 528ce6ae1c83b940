/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef BLOB_H
#define BLOB_H
/*
 * Body files: the only module that knows paths below cache_dir. Whole bodies
 * live in blobs/ab/<sha256>, bodies being fetched in partial/<url key>.
 * All functions may be called from any thread; none blocks on anything but
 * the file system, so loops call only blob_partial_create (small, local) and
 * blob_open_nowait, and leave the rest to the threads that may wait.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/key.h"
#include "include/reason.h"

struct blobstore;

struct blob_stat {
	uint64_t size_bytes;
	int64_t mtime_ns;
};

/* Opens (and makes) the directories below dir. Vanished directories are made again whenever met. */
enum reason blobstore_open(struct blobstore **bs_p, const char *dir) MUSTCHECK;
void blobstore_close(struct blobstore **bs_p);
int blobstore_dirfd(const struct blobstore *bs);	/* cache_dir, for syncfs and statvfs */

/* Opens a body for reading, says what is there. Else NOT_FOUND, NO_DESCRIPTORS or DISK_ERROR. */
enum reason blob_open(struct blobstore *bs, const uint8_t digest[32], int *fd,
    struct blob_stat *st) MUSTCHECK;
/* As blob_open, but without reading the disk: OK and *must_wait where that is not possible. */
enum reason blob_open_nowait(struct blobstore *bs, const uint8_t digest[32], int *fd,
    struct blob_stat *st, bool *must_wait) MUSTCHECK;
/*
 * Makes partial/<key>, which must hold size_bytes (else DAMAGED, and it goes), the blob of that
 * digest, by renaming it over whatever is there. Only a blob that is just as `known` says (NULL:
 * none) stays; the partial goes then. *st is what is there afterwards.
 */
enum reason blob_adopt(struct blobstore *bs, const struct key *key, const uint8_t digest[32],
    uint64_t size_bytes, const struct blob_stat *known, struct blob_stat *st) MUSTCHECK;
/*
 * The same for a body that is in memory. Its file grows under its last name: after a crash it may be
 * cut, without a record that says what it should be.
 */
enum reason blob_write(struct blobstore *bs, const uint8_t digest[32], const void *bytes,
    uint64_t size_bytes, const struct blob_stat *known, struct blob_stat *st) MUSTCHECK;
/* REASON_OK also when it was not there. */
enum reason blob_remove(struct blobstore *bs, const uint8_t digest[32]) MUSTCHECK;

/* Creates partial/<key> empty, read-write, replacing what is there (who has that open keeps it). */
enum reason blob_partial_create(struct blobstore *bs, const struct key *key, int *fd) MUSTCHECK;
/* An unnamed body that is never stored (O_TMPFILE, or created and unlinked). */
enum reason blob_scratch_create(struct blobstore *bs, int *fd) MUSTCHECK;
/* Opens an existing partial read-write. */
enum reason blob_partial_open(struct blobstore *bs, const struct key *key, int *fd,
    struct blob_stat *st) MUSTCHECK;
enum reason blob_partial_remove(struct blobstore *bs, const struct key *key) MUSTCHECK;
/* errno as NO_DISK (ENOSPC EDQUOT EROFS EFBIG), NO_DESCRIPTORS, NO_MEMORY or DISK_ERROR. */
enum reason blob_errno_reason(int err);
/* Writes all of it at its place. */
enum reason blob_write_all(int fd, uint64_t at, const void *bytes, uint64_t n) MUSTCHECK;

/* Walks blobs/ (digests) or partial/ (keys), past foreign names; the callback's false stops it. */
typedef bool blob_walk_f(void *arg, const uint8_t name[32], const struct blob_stat *st);
enum reason blob_walk(struct blobstore *bs, blob_walk_f *fn, void *arg) MUSTCHECK;
enum reason blob_partial_walk(struct blobstore *bs, blob_walk_f *fn, void *arg) MUSTCHECK;

#endif
