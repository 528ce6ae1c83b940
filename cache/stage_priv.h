/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef STAGE_PRIV_H
#define STAGE_PRIV_H
/*
 * What the sources of staging share:
 *
 *   stage.c          the queue of jobs and the threads that take them
 *   stage_release.c  one Release, from its body to a generation
 *   stage_set.c      the indexes that belong to it: fetched, compared, read
 *   stage_table.c    tables of packages
 *   stage_unread.c   indexes that are here, and not in a table yet
 *   stage_derive.c   an index made from another compression
 *   stage_root.c     what is going on at a root
 *   stage_wait.c     waiting for flights
 */
#include <pthread.h>
#include <sys/queue.h>

#include "cache/flight_priv.h"
#include "cache/pkgtable.h"
#include "cache/repo.h"
#include "cache/stage.h"
#include "cache/unpack.h"

#define STAGE_MAGIC 0x57a6e001u

enum {
	STAGE_THREADS = 16,		/* a root whose upstream hangs keeps one for 20 s */
	STAGE_TABLE_THREADS = 4,	/* of them for tables alone: those take the processor */
	STAGE_FETCH_MS = 20000,		/* for a set to come */
	STAGE_FIRST_MS = 3000,		/* a root's first clients wait so long for agreement */
	STAGE_RETRY_MS = 500,		/* between two looks: at most two a second */
	STAGE_LOOKS = 2,		/* at a first visitor's Release, before it is asked for again */
	STAGE_PROBE_MS = 1000,		/* first background look after a disagreement; then doubled */
	STAGE_PROBE_MAX_MS = 30000,
	STAGE_BROKEN_MS = 60 * 1000,	/* a Release with an unusable index is not read again */
	STAGE_PASS_OVER_MS = 60 * 1000,	/* a Release waits so long for files that installs don't need */
	STAGE_ASKED_MS = 3600 * 1000,	/* nobody asked for so long: no more looks */
	STAGE_TICK_MS = 10000,		/* expiry, Valid-Until */
	STAGE_JOBS_MAX = 65536,
	STAGE_SIGNATURE_BYTES = 64 << 10,
	STAGE_FUTURE_S = 10,		/* apt's Acquire::Max-FutureTime */
};

/* What is going on at a root. Kept until it makes room for another one. */
struct stage_root {
	TAILQ_ENTRY(stage_root) link;
	char *text;
	unsigned users_n;		/* jobs, queued or at work, and looks: it stays */
	bool busy;			/* a job works on it */
	enum repo_file which;		/* what its clients begin with */
	int64_t first_ms, asked_ms;
	int64_t tried_ms;		/* when its set was last compared */
	int64_t probed_ms;		/* when it was last looked at in the background; 0: never */
	bool disagrees;
	uint8_t identity[32];		/* of the Release that disagrees */
	int64_t since_ms;		/* when it first did; 0: never */
	int64_t broken_ms;		/* when a Release had an index that can't be used; 0: never */
	uint8_t broken[32];		/* its identity */
	char broken_why[512];
	char why[512];
	int64_t probe_ms, backoff_ms;	/* due; 0: none */
};

enum stage_kind { STAGE_RELEASE, STAGE_TABLE, STAGE_DERIVE };

struct stage_job {
	TAILQ_ENTRY(stage_job) link;
	enum stage_kind kind;
	struct flight *f;		/* RELEASE, DERIVE: a reference */
	struct stage_root *root;	/* RELEASE */
	uint8_t digest[32];		/* TABLE, DERIVE: of the body to read */
	enum unpack_kind unpack;	/* DERIVE */
	struct stage_unread *unread;	/* TABLE: what waits for it; or NULL */
};

TAILQ_HEAD(stage_jobs, stage_job);

struct stage {
	uint32_t magic;
	struct cache *cache;
	struct repos *repos;
	pthread_t threads[STAGE_THREADS];
	unsigned threads_n;
	pthread_mutex_t lock;		/* everything below */
	pthread_cond_t news;
	bool quiet, stop;
	struct stage_jobs jobs;
	unsigned jobs_n, roots_n;
	TAILQ_HEAD(, stage_root) roots;
	int64_t tick_ms;
	bool ticking;
	uint8_t building[STAGE_THREADS][32];	/* tables under way */
	unsigned building_n;
	unsigned tables_n;		/* threads that work on tables alone */
	int64_t pass_over_ms;		/* STAGE_PASS_OVER_MS, but in tests */

	pthread_mutex_t unread_lock;	/* the list behind it; held with any other, for a few bytes */
	TAILQ_HEAD(, stage_unread) unread;
	_Atomic unsigned unread_n;
};

/* Where flights tell a stage thread that something happened. */
struct stage_bell {
	pthread_mutex_t lock;
	pthread_cond_t rung;
	bool ringing;
};

struct stage_reader {
	struct flight_reader reader;
	struct stage_bell *bell;
	char *path;			/* what is fetched, for words; malloced */
	bool optional;			/* no earlier generation had it: it may be missing */
	char *passed_over;		/* why the generation does without it; malloced; NULL: it doesn't */
};

/* One look at a Release; its thread's. */
struct stage_try {
	struct stage *st;
	struct slice root;
	const struct release *release;
	const char *text;		/* of it, as it came */
	size_t text_n;
	struct repo_gen *current;	/* a reference, or NULL */
	struct index_view *view;
	struct stage_bell bell;
	bool no_cache;
	bool may_pass_over;		/* this Release has waited long enough */
	int64_t first_ms;		/* when the root's first clients began to wait */
	/* Release.gpg beside a Release, once it was asked for. */
	bool has_signature;
	uint8_t signature[32];
	int signature_fd;		/* -1: none */
	struct sign_signers signers;	/* of this Release */
	unsigned n;
	struct stage_reader v[REPO_MEMBERS_MAX + 1];
	char *why;
	size_t why_cap;
};

enum stage_verdict {
	STAGE_AGREES,
	STAGE_DISAGREES,
	STAGE_UNREACHABLE,
	STAGE_BROKEN,			/* an index can't be read, or contradicts itself */
	STAGE_UNSIGNED,			/* or not as the configuration wants it */
	STAGE_ANEW,			/* the Release itself may be the older part: ask for it again */
};

/* stage.c */
/* Generations expire, Valid-Until passes: after each flip, and once in a while by whom has nothing to do. */
void stage_tidy(struct stage *st);
/* A repo_missing_f: queues the making of this table; arg: the stage. */
void stage_missing_table(void *arg, struct slice root, const uint8_t sha256[32]);
/* Queues a copy of the job, whose reference it takes; false: no room (lock held). */
bool stage_queue(struct stage *st, const struct stage_job *from) MUSTCHECK;

/* stage_wait.c */
void stage_wait_init(struct stage_bell *bell);
void stage_wait_fini(struct stage_bell *bell);
/* A flight's word to the reader: rings the bell. */
void stage_wait_ring(struct flight_reader *r);
/* Waits until the flights are stored or have failed; false: not all in time. */
bool stage_wait_all(struct stage_bell *bell, struct stage_reader *v, unsigned n, int64_t until_ms);

/* stage_set.c */
/*
 * Starts the fetch of one file as t->v[t->n - 1], unless it is here. e NULL: whatever comes.
 * False: there is no memory for it.
 */
bool stage_set_fetch(struct stage_try *t, struct slice path, const struct flight_expect *e)
    MUSTCHECK;
/* Lets go of what was fetched. */
void stage_set_drop(struct stage_try *t);
/* Fetches the set once, compares, reads. */
enum stage_verdict stage_set_compare(struct stage_try *t) MUSTCHECK;

/* stage_table.c */
/*
 * False: this index has its table, once whoever was making it is done. Else the caller makes it;
 * each thread one at a time.
 */
bool stage_table_claim(struct stage *st, const uint8_t sha256[32]) MUSTCHECK;
void stage_table_unclaim(struct stage *st, const uint8_t sha256[32]);
/* Reads a stored index into its table, which nobody looks at yet. */
enum reason stage_table_build(struct stage *st, const uint8_t sha256[32], struct slice path,
    uint64_t said_bytes, struct pkgtable_stats *stats, char *why, size_t why_cap) MUSTCHECK;
/* Does what the index says agree with itself and with what else the Release lists? */
bool stage_table_is_sound(const struct release *r, const struct release_index *ri,
    const struct pkgtable_stats *stats, char *why, size_t why_cap) MUSTCHECK;
/* A stored index, as some generation lists it, becomes a table. */
void stage_table_job(struct stage *st, struct stage_job *job);

/* stage_unread.c: one more note of what is noted under this digest; NULL: it is not */
struct stage_unread *stage_unread_again(struct stage *st, const uint8_t sha256[32]) MUSTCHECK;

/* stage_derive.c */
void stage_derive_job(struct stage *st, struct stage_job *job);

/* stage_root.c */
/* NULL: too many at work, or out of memory (lock held). */
struct stage_root *stage_root_of(struct stage *st, struct slice text) MUSTCHECK;
/* Upstream agrees with itself. */
void stage_root_settle(struct stage *st, struct stage_root *root);
/* It does not: looked at again later, seldomer each time. */
void stage_root_disagree(struct stage *st, struct stage_root *root, const struct release *r,
    const char *why, bool has_current);
/* The same Release was compared a moment ago, and did not agree. */
bool stage_root_tried_now(struct stage *st, struct stage_root *root, const struct release *r,
    char *why, size_t why_cap) MUSTCHECK;
/* Has this very Release disagreed for so long that it waits for lists of packages alone? */
bool stage_root_may_pass_over(struct stage *st, struct stage_root *root,
    const struct release *r) MUSTCHECK;
/* An index of this Release can't be used: reading it again at each check would find the same. */
void stage_root_note_broken(struct stage_try *t, struct stage_root *root);
/* Was that found of this very Release a while ago? Then in the same words. */
bool stage_root_is_broken(struct stage_try *t, struct stage_root *root) MUSTCHECK;

/* stage_release.c: the job of a gated flight */
void stage_release_job(struct stage *st, struct stage_job *job);

#endif
