/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef RECOVER_H
#define RECOVER_H
/*
 * Makes index and files agree after an unclean stop. The clean marker,
 * cache_dir/clean, says that data.mdb is as an orderly stop left it; without
 * it the index is examined before it is used, and where it turns out damaged
 * it is set aside, never deleted unseen.
 */
#include <stdbool.h>

#include "include/obj.h"
#include "include/reason.h"

struct blobstore;
struct index;
struct recover;

/* ---- the marker; dirfd is cache_dir's ---- */
bool recover_clean_matches(int dirfd);
void recover_clean_remove(int dirfd);
void recover_clean_write(int dirfd, bool sync);

/*
 * Reads the whole index in a child process, which may die of it.
 * OK, NEWER_FORMAT, INDEX_ERROR: damaged, or NO_MEMORY when there can be no
 * child. Forks: call it before other threads work on the cache.
 */
enum reason recover_check_index(int dirfd, const char *dir) MUSTCHECK;
/* Renames index to index.damaged-DATE, with a log line; keeps the newest two of these. */
enum reason recover_set_aside(int dirfd, const char *dir) MUSTCHECK;

/* Partials without journal go, room preallocated beyond an end is given back. Before any fetch. */
void recover_partials(struct index *ix, struct blobstore *bs);

/*
 * A thread that walks blobs/ in bounded steps. rebuild: bodies without a
 * record get one, marked suspect; else they go, for they were never whole
 * or are no longer wanted. NULL where there can be no thread.
 */
struct recover *recover_start(struct index *ix, struct blobstore *bs, bool rebuild);
/* False where bodies that no record names may be left: the next start must walk again. */
bool recover_stop(struct recover **rc_p);
/* Waits until the walk is done. For tests. */
void recover_wait(struct recover *rc);

#endif
