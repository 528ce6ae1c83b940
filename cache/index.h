/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef INDEX_H
#define INDEX_H
/*
 * The index: what is known of URLs, blobs and unfinished bodies, in LMDB.
 * Only its own sources know lmdb.h. Readers use a view each (one parked read
 * transaction, renewed for each lookup and reset before it returns: nothing
 * of LMDB is borrowed across a call). All writing goes through one thread,
 * which drains a queue in batches: one durable transaction 5 ms after the
 * first change that somebody waits for, 50 ms after any other, or for each
 * 1000. It alone renames into blobs/, before the commit that names a blob,
 * and unlinks there, after the commit that drops its last reference.
 */
#include <stdatomic.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/aptfile.h"
#include "include/fresh.h"
#include "include/key.h"
#include "include/provenance.h"
#include "include/reason.h"

struct blobstore;
struct index;
struct index_view;

enum {
	OBJECT_TEXT_MAX = 8192 + 8192 + 512,	/* buffer that holds any record's text */
	PARTIAL_MARK_BYTES = 8 << 20,	/* between prefix digests; the first are closer */
	INDEX_REPO_KEY_MAX = 48,
	INDEX_REPO_VALUE_MAX = 16 << 10,
};

/* What is known of one URL. Text points into the caller's buffer (get) or is copied (store). */
struct object_rec {
	uint8_t digest[32];		/* SHA-256 of the body */
	uint64_t size_bytes;
	int64_t stored_at_ms;		/* wall clock: when this body came */
	int64_t checked_at_ms;		/* wall clock: when the origin last confirmed it */
	enum aptfile_class class;
	bool from_credentials;		/* fetched with client or configured credentials */
	bool validators_shared;		/* other bytes went out under them: see index_mark_wrong */
	struct provenance from;		/* index_store only: becomes the body's */
	struct fresh_terms terms;
	struct slice url;		/* canonical text */
	struct slice etag;		/* empty: none */
	/* Kept end-to-end fields as lines with CRLF, Last-Modified and ETag among them. */
	struct slice fields;
};

struct blob_rec {
	uint64_t size_bytes;
	int64_t mtime_ns;
	int64_t stored_at_s, used_at_s;
	uint32_t refs_n;		/* URLs that name it */
	bool suspect;			/* to be hashed before its next hit */
	/* Only ever fetched with credentials: good for the URLs that name it, for no others. */
	bool restricted;
	struct provenance from;
};

/* An unfinished body: what it is and which validators prove that a resumed part belongs to it. */
struct partial_rec {
	int64_t total_bytes;		/* -1 unknown */
	int64_t started_at_s;
	int64_t last_modified_s;	/* INT64_MIN none */
	uint32_t marks_n;		/* prefix digests: mark i covers [0, flight_mark_end(i)) */
	struct slice url, etag;
	struct slice fields;
};

/* Where the index comes from and what it may use. */
struct index_conf {
	const char *dir;		/* cache_dir */
	struct blobstore *blobs;
	/* Some upstreams have credentials: bodies whose record was lost are restricted. */
	bool has_credentials;
	bool test_no_sync;		/* unit tests: skip durability */
};

/*
 * Opens cache_dir's index, starts the writer thread. After an unclean stop a
 * child process walks it first; a damaged index is set aside (index.damaged-
 * DATE) with a log line, and blobs get records again from their names, marked
 * suspect. A newer format is REASON_NEWER_FORMAT. The exclusive lock file
 * cache_dir/lock is the caller's business (cache_open).
 */
enum reason index_open(struct index **ix_p, const struct index_conf *conf) MUSTCHECK;
/* Commits what is queued, writes the clean marker, ends the thread. Views must be closed before. */
void index_close(struct index **ix_p);

struct index_view *index_view_open(struct index *ix);	/* NULL: no memory or reader slots */
void index_view_close(struct index_view **v_p);

/* ---- reading: REASON_OK, REASON_NOT_FOUND, or REASON_INDEX_ERROR (treat as not found) ---- */
enum reason index_get_object(struct index_view *v, const struct key *key, struct object_rec *rec,
    char text[OBJECT_TEXT_MAX]) MUSTCHECK;
enum reason index_get_blob(struct index_view *v, const uint8_t digest[32], struct blob_rec *rec)
    MUSTCHECK;
enum reason index_get_partial(struct index_view *v, const struct key *key, struct partial_rec *rec,
    char text[OBJECT_TEXT_MAX]) MUSTCHECK;
bool index_is_marked_wrong(struct index_view *v, const struct key *key);
enum reason index_get_partial_mark(struct index_view *v, const struct key *key, uint32_t mark,
    uint8_t digest[32]) MUSTCHECK;

/*
 * A number that changes whenever a commit touched this key (or one that
 * shares its bucket), and one that changes whenever a blob was dropped. Read
 * them before a lookup; a remembered record is good while both stay.
 */
uint32_t index_version(const struct index *ix, const struct key *key);
uint32_t index_drop_version(const struct index *ix);

/* Walk in key order from *after (NULL: start), max_n records a call; fn must not use the view. */
typedef void index_blob_f(void *arg, const uint8_t digest[32], const struct blob_rec *rec);
enum reason index_walk_blobs(struct index_view *v, const uint8_t *after, uint32_t max_n,
    index_blob_f *fn, void *arg, uint8_t last[32], uint32_t *seen_n) MUSTCHECK;
typedef void index_object_f(void *arg, const struct key *key, const struct object_rec *rec);
enum reason index_walk_objects(struct index_view *v, const struct key *after, uint32_t max_n,
    index_object_f *fn, void *arg, struct key *last, uint32_t *seen_n) MUSTCHECK;

/*
 * Records of repositories: their bytes are repo_store.c's business. In key
 * order, all of them, at start; fn must not use the view.
 */
typedef void index_repo_f(void *arg, const void *key, size_t key_n, const void *value, size_t n);
enum reason index_walk_repos(struct index_view *v, index_repo_f *fn, void *arg) MUSTCHECK;

/* ---- writing: any thread; everything is copied; order of submission is kept ---- */
/* Called on the writer thread once the outcome is durable (or failed). */
typedef void index_done_f(void *arg, enum reason r);
/*
 * For threads that may wait: index_wait_done and the wait are the callback and its arg; the answer
 * is in index_wait_end.
 */
struct index_wait {
	sem_t done;
	enum reason r;
};
void index_wait_begin(struct index_wait *w);
index_done_f index_wait_done;
enum reason index_wait_end(struct index_wait *w);

/*
 * partial/<key> holds rec->size_bytes bytes with rec->digest: make it a blob,
 * let the URL name it, drop the URL's journal. done may be NULL.
 */
void index_store(struct index *ix, const struct key *key, const struct object_rec *rec,
    index_done_f *done, void *arg);
/* The same for a body that is in memory, where it stays until `done`; NULL: it is in partial/. */
void index_store_bytes(struct index *ix, const struct key *key, const struct object_rec *rec,
    const void *bytes, index_done_f *done, void *arg);
/* The URL names a blob that is here already (equal digest known without a fetch). */
void index_link(struct index *ix, const struct key *key, const struct object_rec *rec,
    index_done_f *done, void *arg);
/* The origin confirmed it (304): new terms and fields, same digest. Repeats are merged. */
void index_confirm(struct index *ix, const struct key *key, const struct object_rec *rec);
void index_forget(struct index *ix, const struct key *key);		/* drops the URL */
/* Drops the URL if its blob is gone. */
void index_forget_dangling(struct index *ix, const struct key *key);
/* Drops record and file; URLs that name it are misses. */
void index_drop_blob(struct index *ix, const uint8_t digest[32]);
void index_clear_suspect(struct index *ix, const uint8_t digest[32], int64_t mtime_ns);
void index_partial_begin(struct index *ix, const struct key *key, const struct partial_rec *rec);
void index_partial_mark(struct index *ix, const struct key *key, uint32_t mark,
    const uint8_t digest[32]);
/* value_n 0: the record goes. Order with other changes is kept. done may be NULL. */
void index_put_repo(struct index *ix, const void *key, size_t key_n, const void *value,
    size_t value_n, index_done_f *done, void *arg);
/*
 * Wrong bytes were sent under this URL, with validators that the right ones may have too: from now
 * on its record says so (validators_shared). Survives the record; of many URLs the latest are
 * remembered.
 */
void index_mark_wrong(struct index *ix, const struct key *key);
/* Drops the journal (and not the file). */
void index_partial_end(struct index *ix, const struct key *key);
/* Everything queued before is durable when this returns. Not from loops. */
void index_flush(struct index *ix);

/* Remembers that a blob was used; by the view's own thread; no wait; lost when its ring is full. */
void index_view_touch(struct index_view *v, const uint8_t digest[32], int64_t now_s);
/* Marks a blob as being read (slot >= 0): eviction passes over it. -1 when all slots are taken. */
int index_view_hold(struct index_view *v, const uint8_t digest[32]);
void index_view_release(struct index_view *v, int slot);
bool index_is_held(const struct index *ix, const uint8_t digest[32]);
/*
 * By a thread that keeps body files open between requests: it has closed all that were dropped up
 * to this index_drop_version. A file that somebody has open keeps its room on the disk.
 */
void index_view_closed(struct index_view *v, uint32_t drop_version);
/* Have all such threads closed what was dropped by now? From any thread. */
bool index_drops_closed(const struct index *ix);

uint64_t index_blob_bytes(const struct index *ix);	/* sum of all blobs, kept up to date */
uint64_t index_blob_count(const struct index *ix);

/* Number of the newest committed store: ask, syncfs, then say index_synced. */
uint64_t index_sync_point(const struct index *ix);
/* Stores up to sync_point are on disk: not suspect when the power goes. */
void index_synced(struct index *ix, uint64_t sync_point);

#endif
