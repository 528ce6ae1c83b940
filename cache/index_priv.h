/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef INDEX_PRIV_H
#define INDEX_PRIV_H
/*
 * What index.c (opening, reading), index_queue.c (the writer thread),
 * index_write.c (its transactions), index_touch.c (last-used times, holds),
 * recover.c and their tests share. Nobody else includes this.
 *
 * Locks, in this order where two are held: views_lock, a view's lock. The
 * queue's lock is never held together with another.
 */
#include <lmdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "cache/blob.h"
#include "cache/index.h"
#include "cache/record.h"
#include "include/obj.h"

#define INDEX_MAGIC 0x1ba5d0c3u
#define INDEX_VIEW_MAGIC 0x71e3ad59u

enum {
	INDEX_BUCKETS = 65536,		/* versions of keys */
	INDEX_BATCH_MAX = 1000,		/* operations in a transaction */
	INDEX_SOON_MS = 5,		/* somebody waits for it: gather this long */
	INDEX_LAZY_MS = 50,		/* nobody does */
	INDEX_SPARE_OPS = 64,		/* for outcomes to report when memory is out */
	INDEX_RING = 4096,		/* touches between two drains, per view */
	INDEX_SEEN = 1024,		/* touches of this second, per view: repeats cost nothing */
	INDEX_HOLDS = 16384,		/* blobs being read at once, per view */
	INDEX_TOUCHED = 32768,		/* last-used times in memory; a power of two */
	INDEX_TOUCH_TICK_MS = 1000,	/* from a touch to its drain */
	INDEX_TOUCH_WRITE_MS = 60000,	/* from a drain to the records */
	INDEX_TOUCH_WRITE_S = 60,	/* smaller differences wait for index_flush */
	INDEX_WRONG_KEY_BYTES = 7,	/* meta's "wrong" and a slot: one of 65536 URLs */
};

enum index_db { INDEX_DB_META, INDEX_DB_URL, INDEX_DB_BLOB, INDEX_DB_PARTIAL, INDEX_DB_REPO, INDEX_DB__N };
extern const char *const index_db_names[INDEX_DB__N];

struct index_touch {
	uint8_t digest[32];
	int64_t used_at_s;		/* in the table, 0: slot is free */
};

/* Written by the view's thread, drained by the writer thread. */
struct index_ring {
	struct index_ring *next;	/* of the views that are closed */
	_Atomic uint32_t head, tail;	/* head: next to write, tail: next to drain */
	struct index_touch slot[INDEX_RING];
	struct index_touch seen[INDEX_SEEN];	/* view's thread only */
};

/* Slots are read by the keeper, the rest is the view's thread's. */
struct index_holds {
	_Atomic uint64_t slot[INDEX_HOLDS];	/* first bytes of a digest; 0: free */
	atomic_uint top_n;			/* slots above were never used */
	uint32_t free_n;
	uint16_t free[INDEX_HOLDS];
};

/* One thread's way to read. On its index's list from open to close. */
struct index_view {
	uint32_t magic;
	struct index *ix;
	TAILQ_ENTRY(index_view) link;
	pthread_mutex_t lock;		/* lookups against the replacement of env */
	MDB_txn *txn;			/* parked between lookups; NULL: no env now */
	_Atomic(struct index_ring *) ring;	/* made by the first touch */
	_Atomic(struct index_holds *) holds;	/* made by the first hold */
	_Atomic bool keeps_open;		/* its thread has body files open between requests */
	_Atomic uint32_t closed_drops;		/* those dropped up to here are closed */
};

enum index_op_kind {
	INDEX_OP_STORE,
	INDEX_OP_LINK,
	INDEX_OP_CONFIRM,
	INDEX_OP_FORGET,
	INDEX_OP_FORGET_DANGLING,
	INDEX_OP_DROP_BLOB,
	INDEX_OP_CLEAR_SUSPECT,
	INDEX_OP_PARTIAL_BEGIN,
	INDEX_OP_PARTIAL_MARK,
	INDEX_OP_PARTIAL_END,
	INDEX_OP_REPO,			/* key, value behind it; empty: deletes */
	INDEX_OP_MARK_WRONG,
	INDEX_OP_SYNCED,
	INDEX_OP_RECORD_BLOB,		/* recovery: a body without a record gets one */
	INDEX_OP_SWEEP_BLOB,		/* recovery: a body without a record goes */
	INDEX_OP_REBUILT,		/* recovery: every body has its record */
	INDEX_OP_FLUSH,
	INDEX_OP_FAILED,		/* no memory for the operation itself: only the outcome */
};

/* One queued change, its text behind it. The queue's, then the writer's, who frees it. */
struct index_op {
	struct index_op *next;
	enum index_op_kind kind;
	enum reason result;
	bool spare;			/* one of ix->spares */
	bool skip;			/* a later confirm of the batch says it all */
	bool adopted;			/* STORE: the file is in its place, adopted_st says how */
	bool shared;			/* STORE: a blob of that digest was here */
	struct blob_stat adopted_st;
	const void *bytes;		/* STORE: the body, not yet in a file; or NULL */
	index_done_f *done;
	void *arg;
	struct key key;
	uint8_t digest[32];
	uint64_t number;		/* SYNCED; RECORD_BLOB: size */
	int64_t mtime_ns;
	uint32_t mark;
	uint32_t repo_key_n;		/* REPO: bytes of key, and of the value behind the change */
	uint32_t repo_value_n;
	uint8_t repo_key[INDEX_REPO_KEY_MAX];
	union {
		struct object_rec object;
		struct partial_rec partial;
	};
};

/* What a transaction would change outside of LMDB; taken over when it is committed. */
struct index_batch {
	MDB_txn *txn;
	struct record_state state;
	bool state_changed;
	bool dropped;			/* a blob's record went */
	bool wrote;			/* anything at all */
	uint32_t unlink_n;
	uint64_t stored_n, shared_n, marks_n;
	uint8_t unlink[2 * INDEX_BATCH_MAX][32];
};

struct recover;

/* One per cache_dir, owned by the cache. */
struct index {
	uint32_t magic;
	char *dir;			/* cache_dir */
	struct blobstore *blobs;
	bool no_sync, has_credentials;
	MDB_env *env;			/* NULL: failed for good, being reopened now and then */
	MDB_dbi dbi[INDEX_DB__N];
	struct record_range ranges[RECORD_RANGES_MAX];	/* fixed while open */
	uint32_t ranges_n;

	pthread_mutex_t views_lock;
	TAILQ_HEAD(index_views, index_view) views;
	struct index_ring *left_rings;	/* of closed views, to be drained and freed */

	pthread_mutex_t queue_lock;	/* the fields down to spares */
	pthread_cond_t spare_freed;
	struct index_op *head, **tail_p;
	uint32_t queue_n;
	int64_t due_ms;			/* when the queue is to be committed */
	bool stopping;
	bool spare_used[INDEX_SPARE_OPS];
	struct index_op spares[INDEX_SPARE_OPS];

	sem_t wake;			/* the writer sleeps on it */
	pthread_t writer;
	atomic_bool touched;		/* a view was touched since the last drain */
	atomic_bool touch_hurry;	/* a ring is half full */

	/* The writer's own. */
	struct record_state state;	/* as committed */
	struct index_batch batch;
	int64_t touch_drain_ms, touch_write_ms;	/* when due; INT64_MAX never */
	uint32_t touched_n;
	struct index_touch *touches;	/* table of INDEX_TOUCHED */
	int64_t error_logged_ms, reopen_ms;
	uint64_t errors_unlogged_n;
	uint64_t reserved_bytes;	/* the env's file has disk up to here; 0: not known */
	bool lost;			/* that file is not the one in index/ any more */

	_Atomic uint64_t blob_bytes, blobs_n, sync_point;
	_Atomic uint32_t drops;
	_Atomic uint32_t versions[INDEX_BUCKETS];
	atomic_int test_commit_rc;	/* tests: the next commit fails with this */
	atomic_int test_commit_fails;	/* tests: each commit does */
	struct recover *recover;
};

/* index.c */
enum reason index_rc_reason(int rc);
/* Takes disk ahead of what the env has, so that a full disk can still be told of evictions. Writer thread. */
void index_env_reserve(struct index *ix);
/* Says it when somebody removed or replaced the env's file, or put it back. Writer thread. */
void index_env_look(struct index *ix);
/* Replaces an environment that LMDB declared dead, under all views. Writer thread. */
int index_env_replace(struct index *ix) MUSTCHECK;
/* The place in meta where a URL is marked; the value is its key. */
void index_wrong_key(uint8_t out[INDEX_WRONG_KEY_BYTES], const struct key *key);
bool index_seq_is_suspect(const struct index *ix, uint64_t seq);
static inline MDB_val
index_val(const void *p, size_t n)
{
	union {
		const void *c;
		void *v;
	} u = {.c = p};		/* LMDB takes what it only reads without const */

	return (MDB_val){.mv_size = n, .mv_data = u.v};
}

/* index_queue.c */
enum reason index_writer_start(struct index *ix) MUSTCHECK;
void index_writer_stop(struct index *ix);
void index_op_free(struct index *ix, struct index_op *op);

/* index_write.c: for the writer thread, or while there is none. int: 0 or LMDB's code. */
void index_batch_run(struct index *ix, struct index_op *first);
int index_batch_begin(struct index *ix) MUSTCHECK;
int index_batch_commit(struct index *ix) MUSTCHECK;
void index_batch_publish(struct index *ix);
int index_txn_get_blob(struct index *ix, const uint8_t digest[32], struct record_blob *rec)
    MUSTCHECK;
int index_txn_put_blob(struct index *ix, const uint8_t digest[32], const struct record_blob *rec)
    MUSTCHECK;
void index_note_error(struct index *ix, int rc);
bool index_state_commit(struct index *ix, const struct record_state *st) MUSTCHECK;

/* index_touch.c; leave: a view closes. The rest is the writer's; step says when to look again. */
void index_touch_leave(struct index *ix, struct index_ring *ring);
int64_t index_touch_step(struct index *ix, int64_t now_ms);
void index_touch_drain(struct index *ix);
void index_touch_flush(struct index *ix, int64_t least_s);

/* For recovery and benchmarks; queued like all writing. suspect: hash before the first hit. */
void index_record_blob(struct index *ix, const uint8_t digest[32], const struct blob_stat *st,
    bool suspect);
void index_sweep_blob(struct index *ix, const uint8_t digest[32]);
void index_rebuilt(struct index *ix);

#endif
