/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CACHE_H
#define CACHE_H
/*
 * The only door to what is stored. A worker asks through its own view and
 * gets an object to serve, a flight to follow, or both (a flight that checks
 * the object, and the object to serve if that fails).
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/aptfile.h"
#include "include/flight.h"
#include "include/fresh.h"
#include "include/key.h"
#include "include/reason.h"

struct cache;
struct cache_view;

struct cache_conf {
	const char *dir;
	uint64_t max_bytes;		/* 0: nothing is kept longer than its readers need it */
	uint64_t min_free_bytes;
	int64_t stale_if_error_s;
	bool offline;
	bool test_no_sync;
};

/*
 * Takes the lock, opens index and body files, starts the cache's threads.
 * On failure *why_p (malloced, may be NULL) says in words what to do.
 */
enum reason cache_open(struct cache **c_p, const struct cache_conf *conf, char **why_p) MUSTCHECK;
/* Everything verified is committed when it returns. All views must be closed before. */
void cache_close(struct cache **c_p);

struct cache_view *cache_view_open(struct cache *c) MUSTCHECK;
void cache_view_close(struct cache_view **v_p);
/* Once a second or so, from the view's thread: lets go of objects that nobody used lately. */
void cache_view_tick(struct cache_view *v, int64_t now_ms);

/*
 * A stored object as one worker sees it: record, text and, once opened, its
 * body file. Counted references, one thread.
 */
struct object;

struct object *object_ref(struct object *o);
void object_unref(struct object **o_p);
uint64_t object_size(const struct object *o);
struct slice object_etag(const struct object *o);
struct slice object_fields(const struct object *o);
struct slice object_url(const struct object *o);
const struct fresh_terms *object_terms(const struct object *o);
const uint8_t *object_digest(const struct object *o);
bool object_warm(const struct object *o);	/* sent lately: its bytes are likely in memory */
void object_set_warm(struct object *o, bool warm);
/* While held, eviction passes over the body. */
void object_hold(struct object *o);

/*
 * The body file, or -1: then object_open_now, and where that says DISK, object_open_job elsewhere.
 */
int object_fd(const struct object *o);
/*
 * The body mapped for reading, or NULL when it is not open or so large that
 * its pages would show as the daemon's memory. Only for system calls that
 * copy from it: they answer EFAULT where the file is shorter or the disk
 * fails; reading it directly would be fatal.
 */
const char *object_map(struct object *o);
enum object_open { OBJECT_OPENED, OBJECT_MUST_WAIT, OBJECT_GONE };
/*
 * Opens without disk access, if the system can; checks size and mtime. GONE: the record is
 * dropped, ask again.
 */
enum object_open object_open_now(struct object *o);
/* Its bytes ended before their time: record and body are dropped. */
void object_damaged(struct object *o);
/*
 * What a pool thread does for it: opens, hashes where the body is suspect.
 * Make the job on the view's thread, run it anywhere, finish it on the
 * view's thread again.
 */
struct object_job;
struct object_job *object_job_new(struct object *o) MUSTCHECK;	/* NULL: no memory */
void object_job_run(struct object_job *job);
enum object_open object_job_finish(struct object_job **job_p);

struct cache_ask {
	const struct url *url;
	const struct key *key;
	const struct aptfile *af;
	const struct flight_expect *expect;	/* or NULL: nothing says what it must be */
	struct fresh_ask fresh;
	int64_t index_max_age_s;	/* for this upstream */
	int64_t now_ms, now_s;		/* monotonic, wall */
	bool head_only;			/* HEAD: a miss makes a private flight */
	bool alone;			/* credentials: neither join nor share */
	bool object_bad;		/* asked again because the object was GONE or damaged */
};

struct cache_answer {
	struct object *object;		/* a reference, or NULL */
	struct flight *flight;		/* a reference, or NULL */
	/* the flight is new: attach as owner, then start it upstream */
	bool created;
	/* the object must not be served unless the flight confirms it */
	bool strict;
	enum fresh_verdict verdict;	/* with an object */
	enum reason reason;		/* neither: why not */
	/* reason UP_NOT_FOUND or UP_GONE remembered: the origin's status */
	int status;
};

/* Answers at once; never waits. Starting the flight upstream is the caller's part. */
void cache_ask(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out);

/*
 * The flight confirmed the object (304): the record learns the new terms, at
 * most once a second. Validators and fields stay as they are.
 */
void cache_confirm(struct cache_view *v, struct object *o, const struct flight *f);

/* An object served stale would be right now? (stale_if_error and what the origin said) */
bool cache_stale_ok(struct cache_view *v, const struct object *o, const struct aptfile *af,
    int64_t now_s);

/* Validators of what is stored, for the conditional request of a new flight. False: send none. */
struct cache_validators {
	char etag[256];			/* "" none */
	int64_t last_modified_s;	/* INT64_MIN none */
};
bool flight_validators(const struct flight *f, struct cache_validators *out);

/* ---- remembered for a short while ---- */
/* 404, 410: 1 s */
void cache_note_status(struct cache *c, const struct key *k, int status, int64_t now_ms);
/* 120 s: no waiting on others */
void cache_note_unshareable(struct cache *c, const struct key *k, int64_t now_ms);
/* A host whose check timed out isn't waited for again until it answers, or for a minute. */
void cache_note_host(struct cache *c, struct slice authority, bool slow, int64_t now_ms);
bool cache_host_is_slow(struct cache *c, struct slice authority, int64_t now_ms);

/* ---- for pages ---- */
struct cache_totals {
	uint64_t blobs_n, blob_bytes, max_bytes, partial_bytes;
};
void cache_totals(const struct cache *c, struct cache_totals *out);
struct flight_info {
	uint64_t id, visible_bytes;
	int64_t total_bytes, age_ms;
	unsigned readers_n;
	enum flight_state state;
	char url[512];
};
/* Fills at most max_n, returns how many there are. */
unsigned cache_flights(const struct cache *c, struct flight_info *out, unsigned max_n);
const char *flight_state_name(enum flight_state s);

#endif
