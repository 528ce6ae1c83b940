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

struct ahead_client;
struct cache;
struct cache_view;
struct repo_gen;
struct repo_held;
struct sign;

struct cache_conf {
	const char *dir;
	bool has_credentials;		/* `auth` is configured for some upstream */
	struct sign *sign;		/* verify_signatures: who judges; else NULL. Borrowed */
	bool ahead;			/* prefetch = closure */
	bool test_no_sync;
	/* What cache_set_conf changes while it runs. */
	_Atomic uint64_t max_bytes;	/* 0: nothing is kept longer than its readers need it */
	_Atomic uint64_t min_free_bytes;
	_Atomic int64_t stale_if_error_s;
	_Atomic bool offline;
	_Atomic bool hold_signer_changes;	/* on_signer_change = hold */
	_Atomic unsigned keep_generations;
	_Atomic int64_t generation_hold_ms;
};

/* What the cache needs of the daemon around it. Any thread. */
struct cache_hooks {
	void *arg;
	/* Fetches a flight that no client asked for. */
	void (*fetch)(void *arg, struct flight *f, bool no_cache);
	int64_t (*adopt_older_s)(void *arg, struct slice host);
	/* May this host be asked, by the access rules? */
	bool (*may_fetch)(void *arg, const struct url *url);
};
/* NULL, before the upstream thread ends: no fetch is begun any more. */
void cache_set_hooks(struct cache *c, const struct cache_hooks *hooks);

/* Makes cache_dir and its parents where they are missing; *why_p as below. */
enum reason cache_make_dir(const char *dir, char **why_p) MUSTCHECK;
/*
 * Takes the lock, opens index and body files, starts the cache's threads.
 * On failure *why_p (malloced, may be NULL) says in words what to do.
 */
enum reason cache_open(struct cache **c_p, const struct cache_conf *conf, char **why_p) MUSTCHECK;
/* Takes over what may change while it runs. */
void cache_set_conf(struct cache *c, const struct cache_conf *conf);
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
const struct fresh_terms *object_terms(const struct object *o);
const uint8_t *object_digest(const struct object *o);
/* Other bytes went out under its validators: an If-Range proves nothing. */
bool object_validators_shared(const struct object *o);
bool object_warm(const struct object *o);	/* sent lately: its bytes are likely in memory */
void object_set_warm(struct object *o, bool warm);
/* While held, eviction passes over the body. */
void object_hold(struct object *o);

/*
 * The body file, or -1: then object_open_now, and where that says DISK, object_open_job elsewhere.
 */
int object_fd(const struct object *o);
/* Is it large, and do several of the thread's connections send it: are copies worth it? */
bool object_is_shared(const struct object *o);
/*
 * Bytes of the open body from `at` on, up to *n in one piece, from a copy that several readers
 * share, good until the next such call of the thread. `copy`: makes one where there is none; NULL:
 * there is none, or it would have to wait for the disk.
 */
const char *object_bytes(struct object *o, uint64_t at, uint64_t *n, bool copy, int64_t now_ms);
/* The same two of what a flight has in its file, which has bytes for all of *n. */
bool cache_flight_is_shared(const struct flight_reader *r);
const char *cache_flight_bytes(struct cache_view *v, const struct flight_reader *r, uint64_t at,
    uint64_t *n, bool copy, int64_t now_ms);
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

/* A connection as the repositories know it: zeroed at first. One thread. */
struct cache_client {
	bool has_address;
	uint8_t address[16];		/* IPv6, or IPv4 mapped into it */
	struct repo_held *held;		/* what it was given; NULL: nothing yet */
	struct ahead_client *ahead;	/* what it asked for; NULL: no package yet */
};
void cache_client_fini(struct cache_client *client);

struct cache_ask {
	const struct url *url;
	const struct key *key;
	const struct aptfile *af;
	struct cache_client *client;	/* or NULL: no generation is held */
	struct slice at;		/* a time or name of a generation; n == 0: now */
	const struct flight_expect *expect;	/* the cache's own: what it must be, or NULL */
	struct fresh_ask fresh;
	int64_t index_max_age_s;	/* for this upstream */
	int64_t now_ms, now_s;		/* monotonic, wall */
	bool head_only;			/* HEAD: a miss makes a private flight */
	bool alone;			/* credentials: neither join nor share */
	bool object_bad;		/* asked again because the object was GONE or damaged */
	bool may_wait;			/* for an index that is being read: answer->unread */
	/* A gated flight is COMPLETE: what is current now? Neither object nor flight: nothing. */
	bool checked;
};

struct cache_answer {
	struct object *object;		/* a reference, or NULL */
	struct flight *flight;		/* a reference, or NULL */
	/* the flight is new: attach as owner, then start it upstream */
	bool created;
	bool launched;		/* created, but no upstream is needed */
	bool whole;		/* not created, and there is nothing to wait for: a hit */
	/* the object must not be served unless the flight confirms it */
	bool strict;
	bool held;		/* of an earlier generation than the newest */
	bool listed;		/* the generation says that there is such a file, and which */
	bool unread;		/* may_wait, and an index may name it in a moment: nothing else is set */
	/* RELEASE: whose file the object is; a reference, see cache_note_given */
	struct repo_gen *gen;
	enum fresh_verdict verdict;	/* with an object */
	bool insisted;		/* the object is fresh: only the request wants it checked */
	enum reason reason;		/* neither: why not */
	/* reason UP_NOT_FOUND or UP_GONE remembered: the origin's status */
	int status;
};

/* Answers at once; never waits. Starting the flight upstream is the caller's part. */
void cache_ask(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out);

/*
 * The flight confirmed the object (304): this thread knows the new terms at
 * once, the index learns them at most once a second. Validators and fields
 * stay as they are.
 */
void cache_confirm(struct cache_view *v, struct object *o, const struct flight *f);

/* The client gets this generation's Release: its indexes and packages are what it sees next. */
void cache_note_given(struct cache_view *v, struct cache_client *client, struct repo_gen *gen,
    int64_t now_ms);
/* The client asked for a package that its generation lists: what comes next may be fetched ahead. */
/* started: its request had to start a fetch. */
void cache_note_asked(struct cache_view *v, const struct cache_ask *ask, bool started);
void cache_gen_unref(struct repo_gen **gen_p);
/* Is it served because upstream's newer Release does not agree with its indexes? */
bool cache_gen_is_held(struct cache_view *v, const struct repo_gen *gen);
/* Upstream has not what the current generation lists: is there a newer one? */
void cache_suspect(struct cache_view *v, const struct url *url);
/* For a 404: the generations that are kept here, in words; "" none. */
void cache_list_times(struct cache_view *v, const struct url *url, char *out, size_t cap);

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
/* The origin keeps sending bytes that are not the expected ones: 60 s; of an index: 0.5 s */
void cache_note_digest(struct cache *c, const struct key *k, enum aptfile_class class,
    int64_t now_ms);
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

/* What is going on with a key besides its record; see also inspect.h. */
struct cache_peek {
	bool flying;			/* flight is set */
	struct flight_info flight;
	int status;			/* a 404 or 410 that is remembered; 0: none */
	bool unshareable;		/* nobody waits for another's fetch of it */
	bool host_slow;			/* its host let a check time out */
};
void cache_peek(struct cache *c, const struct url *url, const struct key *key, int64_t now_ms,
    struct cache_peek *out);

#endif
