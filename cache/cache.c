/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The door: from a key to an object to serve, a flight to follow, or both.
 * Owns the parts (index, blobs, verifier, syncer, keeper), the table of
 * running flights and what is remembered for a short while. Workers come
 * through their own view; only the miss path takes locks, and none across a
 * wait: a shard's lock covers finding or making a flight, and the second
 * index lookup that makes "stored meanwhile" and "still being fetched" the
 * only two possibilities.
 */
#include "include/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/ahead.h"
#include "cache/evict.h"
#include "cache/flight_priv.h"
#include "cache/inspect_priv.h"
#include "cache/object_priv.h"
#include "cache/repo.h"
#include "cache/scrub.h"
#include "cache/stage.h"
#include "cache/window.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

#define CACHE_MAGIC 0xcac4e001u
#define CACHE_VIEW_MAGIC 0xcac4e002u

enum {
	CACHE_SHARDS = 512,
	CACHE_MEMOS = 4096,
	CACHE_MEMO_STATUS_MS = 1000,
	CACHE_MEMO_UNSHAREABLE_MS = 120000,
	CACHE_MEMO_DIGEST_MS = 60000,
	CACHE_MEMO_INDEX_MS = 500,	/* upstream is at it: two looks a second */
	CACHE_MEMO_HOST_MS = 60000,
	CACHE_FLOCK_MIN = 4,		/* readers of a flight who share copies of its bytes */
	CACHE_HOT_MAX = 1024,
	CACHE_AHEAD_PART = 10,		/* of the cache, what one client's prefetching may take */
};

/* What a client has not asked for yet of what is fetched ahead for it, at most. */
#define CACHE_AHEAD_BYTES (UINT64_C(512) << 20)

TAILQ_HEAD(flight_list, flight);

struct cache_shard {
	pthread_mutex_t lock;
	struct flight_list flights;
};

/* Something worth remembering about a key for a short while; a later one may take its place. */
enum memo_kind { MEMO_NONE, MEMO_STATUS, MEMO_UNSHAREABLE, MEMO_DIGEST, MEMO_HOST_SLOW };
struct cache_memo {
	struct key key;
	enum memo_kind kind;
	int status;
	int64_t until_ms;
};

struct cache {
	uint32_t magic;
	struct cache_conf conf;
	int lock_fd;
	struct cache_parts parts;
	_Atomic uint64_t partial_bytes;
	struct cache_shard shards[CACHE_SHARDS];
	pthread_mutex_t memo_lock;
	struct cache_memo memos[CACHE_MEMOS];
	pthread_mutex_t hooks_lock;
	struct cache_hooks hooks;
};

struct cache_view {
	uint32_t magic;
	struct cache *cache;
	struct index_view *index;
	struct object_table *objects;
	struct repo_view *repos;
};

const struct cache_parts *
cache_parts(struct cache *c)
{
	CHECK_OBJ(c, CACHE_MAGIC);
	return &c->parts;
}

const struct cache_parts *
cache_view_parts(const struct cache_view *v)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	return &v->cache->parts;
}

struct index_view *
cache_view_index(struct cache_view *v)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	return v->index;
}

const struct cache *
cache_view_cache(const struct cache_view *v)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	return v->cache;
}

struct repo_view *
cache_view_repos(struct cache_view *v)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	return v->repos;
}

bool
cache_note_partial_bytes(struct cache *c, int64_t delta)
{
	uint64_t was = atomic_fetch_add_explicit(&c->partial_bytes, (uint64_t)delta,
	    memory_order_relaxed);

	if (delta <= 0 || was + (uint64_t)delta <= c->conf.max_bytes)
		return true;
	(void)atomic_fetch_sub_explicit(&c->partial_bytes, (uint64_t)delta, memory_order_relaxed);
	return false;
}

/* For the keeper: bytes of bodies being fetched. */
static uint64_t
cache_partial_bytes(void *arg)
{
	struct cache *c = arg;

	return atomic_load_explicit(&c->partial_bytes, memory_order_relaxed);
}

/* ---- opening and closing ---- */

/* Takes cache_dir/lock; names the holder when another process has it. */
static enum reason
cache_lock(struct cache *c, char **why)
{
	char path[4096], pid[32] = "";
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/lock", c->conf.dir);
	c->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (c->lock_fd < 0) {
		(void)!asprintf(why, "cannot write %s: %s: give it to the user that runs apt-depot, "
		    "or set cache_dir", path, strerror(errno));
		return REASON_DISK_ERROR;
	}
	if (flock(c->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		n = read(c->lock_fd, pid, sizeof(pid) - 1);
		if (n > 0)
			pid[strcspn(pid, "\n")] = '\0';
		(void)!asprintf(why, "%s is in use by process %s: stop it, or set another cache_dir",
		    c->conf.dir, pid[0] != '\0' ? pid : "(unknown)");
		return REASON_LOCKED;
	}
	n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(c->lock_fd, 0) != 0 || pwrite(c->lock_fd, pid, (size_t)n, 0) != n)
		log_warning("cannot write the process number into %s: %s", path, strerror(errno));
	return REASON_OK;
}

enum reason
cache_make_dir(const char *dir, char **why)
{
	char path[4096];
	size_t i, n = strlen(dir);

	if (n == 0 || n >= sizeof(path)) {
		(void)!asprintf(why, "cache_dir is %s", n == 0 ? "empty" : "too long");
		return REASON_DISK_ERROR;
	}
	for (i = 1; i <= n; i++) {
		if (dir[i] != '/' && dir[i] != '\0')
			continue;
		memcpy(path, dir, i);
		path[i] = '\0';
		/* Those above it may be entered: root makes them, but another user may serve. */
		if (mkdir(path, dir[i] == '\0' ? 0750 : 0755) != 0 && errno != EEXIST) {
			(void)!asprintf(why, "cannot make the directory %s: %s: make it and give it to "
			    "the user that runs apt-depot, or set cache_dir", path, strerror(errno));
			return REASON_DISK_ERROR;
		}
	}
	return REASON_OK;
}

/* The scrubber, slow as it should be; APT_DEPOT_TEST_SCRUB=now begins at once and hurries. */
static struct scrub *
cache_start_scrub(const struct cache *c)
{
	const char *test = getenv("APT_DEPOT_TEST_SCRUB");
	bool now = test != NULL && strcmp(test, "now") == 0;
	struct scrub_conf conf = {
		.index = c->parts.index, .blobs = c->parts.blobs,
		.rate_bytes = now ? 0 : SCRUB_RATE_BYTES,
		.first_ms = now ? 0 : SCRUB_FIRST_MS,
		.every_ms = SCRUB_EVERY_MS,
	};

	return scrub_start(&conf);
}

/* Starts what works behind the scenes. */
static enum reason
cache_start_parts(struct cache *c)
{
	struct evict_conf e = {
		.index = c->parts.index, .blobs = c->parts.blobs,
		.cache_max_bytes = c->conf.max_bytes, .min_free_bytes = c->conf.min_free_bytes,
		.partial_bytes = cache_partial_bytes, .arg = c, .repos = c->parts.repos,
	};

	c->parts.stage = stage_start(c);
	c->parts.verify = verify_start(c);
	c->parts.sync = sync_start(c);
	c->parts.evict = evict_start(&e);
	c->parts.scrub = cache_start_scrub(c);
	if (c->conf.ahead)
		c->parts.ahead = ahead_start(c, c->conf.max_bytes / CACHE_AHEAD_PART <
		    CACHE_AHEAD_BYTES ? c->conf.max_bytes / CACHE_AHEAD_PART : CACHE_AHEAD_BYTES);
	if (c->parts.verify == NULL || c->parts.sync == NULL || c->parts.evict == NULL ||
	    c->parts.stage == NULL || c->parts.scrub == NULL ||
	    (c->conf.ahead && c->parts.ahead == NULL))
		return REASON_NO_MEMORY;
	return REASON_OK;
}

enum reason
cache_open(struct cache **c_p, const struct cache_conf *conf, char **why)
{
	struct index_conf ic = {.dir = conf->dir, .has_credentials = conf->has_credentials,
	    .test_no_sync = conf->test_no_sync};
	struct repos_conf rc = {.dir = conf->dir, .keep_n = conf->keep_generations,
	    .hold_ms = conf->generation_hold_ms};
	struct cache *c;
	enum reason r;
	unsigned i;

	*why = NULL;
	OBJ_NEW(c, CACHE_MAGIC);
	if (c == NULL)
		return REASON_NO_MEMORY;
	c->conf = *conf;
	c->lock_fd = -1;
	AZ(pthread_mutex_init(&c->memo_lock, NULL));
	AZ(pthread_mutex_init(&c->hooks_lock, NULL));
	for (i = 0; i < CACHE_SHARDS; i++) {
		AZ(pthread_mutex_init(&c->shards[i].lock, NULL));
		TAILQ_INIT(&c->shards[i].flights);
	}
	r = cache_make_dir(conf->dir, why);
	if (r == REASON_OK)
		r = cache_lock(c, why);
	if (r == REASON_OK)
		r = blobstore_open(&c->parts.blobs, conf->dir);
	ic.blobs = c->parts.blobs;
	if (r == REASON_OK)
		r = index_open(&c->parts.index, &ic);
	if (r == REASON_OK) {
		rc.index = c->parts.index;
		rc.blobs = c->parts.blobs;
		r = repos_open(&c->parts.repos, &rc);
	}
	if (r == REASON_OK)
		r = cache_start_parts(c);
	if (r != REASON_OK) {
		if (*why == NULL && r == REASON_NEWER_FORMAT)
			(void)!asprintf(why, "%s was written by a newer apt-depot: run that version, "
			    "or set another cache_dir", conf->dir);
		else if (*why == NULL)
			(void)!asprintf(why, "%s: %s", conf->dir, reason_text(r));
		cache_close(&c);
		return r;
	}
	*c_p = c;
	return REASON_OK;
}

void
cache_set_conf(struct cache *c, const struct cache_conf *conf)
{
	CHECK_OBJ(c, CACHE_MAGIC);
	c->conf.max_bytes = conf->max_bytes;
	c->conf.min_free_bytes = conf->min_free_bytes;
	c->conf.stale_if_error_s = conf->stale_if_error_s;
	c->conf.offline = conf->offline;
	c->conf.hold_signer_changes = conf->hold_signer_changes;
	evict_set_budget(c->parts.evict, conf->max_bytes, conf->min_free_bytes);
	repos_set_conf(c->parts.repos, conf->keep_generations, conf->generation_hold_ms);
}

void
cache_close(struct cache **c_p)
{
	struct cache *c = *c_p;
	struct flight *f;
	unsigned i;

	*c_p = NULL;
	if (c == NULL)
		return;
	CHECK_OBJ(c, CACHE_MAGIC);
	/*
	 * In the order in which a body passes them, so that each finishes what the one before gave
	 * it.
	 */
	if (c->parts.ahead != NULL)
		ahead_stop(c->parts.ahead);
	if (c->parts.stage != NULL)
		stage_quiet(c->parts.stage);
	verify_stop(&c->parts.verify);
	if (c->parts.stage != NULL)
		stage_stop(c->parts.stage);
	sync_stop(&c->parts.sync);
	if (c->parts.index != NULL)
		index_flush(c->parts.index);
	scrub_stop(&c->parts.scrub);
	evict_stop(&c->parts.evict);
	for (i = 0; i < CACHE_SHARDS; i++)
		while ((f = TAILQ_FIRST(&c->shards[i].flights)) != NULL)
			cache_unlist(f);
	index_close(&c->parts.index);
	ahead_free(&c->parts.ahead);
	stage_free(&c->parts.stage);
	repos_close(&c->parts.repos);
	blobstore_close(&c->parts.blobs);
	if (c->lock_fd >= 0)
		(void)close(c->lock_fd);
	OBJ_FREE(c);
}

struct cache_view *
cache_view_open(struct cache *c)
{
	struct cache_view *v;
	struct rlimit nofile;
	unsigned hot_max = CACHE_HOT_MAX;

	CHECK_OBJ(c, CACHE_MAGIC);
	OBJ_NEW(v, CACHE_VIEW_MAGIC);
	if (v == NULL)
		return NULL;
	v->cache = c;
	/* Open bodies may not starve connections of descriptors. */
	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0 && nofile.rlim_cur / 16 < hot_max)
		hot_max = (unsigned)(nofile.rlim_cur / 16) + 1;
	v->index = index_view_open(c->parts.index);
	if (v->index != NULL)
		v->objects = object_table_new(c->parts.index, v->index, c->parts.blobs, hot_max);
	if (v->objects != NULL)
		v->repos = repo_view_open(c->parts.repos);
	if (v->repos == NULL)
		cache_view_close(&v);
	return v;
}

void
cache_view_close(struct cache_view **v_p)
{
	struct cache_view *v = *v_p;

	*v_p = NULL;
	if (v == NULL)
		return;
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	repo_view_close(&v->repos);
	object_table_free(&v->objects);
	index_view_close(&v->index);
	OBJ_FREE(v);
}

const char *
cache_flight_bytes(struct cache_view *v, const struct flight_reader *r, uint64_t at, uint64_t *n,
    bool fast, int64_t now_ms)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	/* Before a part that came ahead of the prefix there may be nothing yet to be copied. */
	if (at + *n > flight_visible(r->f))
		return NULL;
	return window_bytes(object_table_windows(v->objects), r->body->window_id,
	    atomic_load(&r->body->fd), at, n, fast && flight_readers(r->f) >= CACHE_FLOCK_MIN, now_ms);
}

void
cache_view_tick(struct cache_view *v, int64_t now_ms)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	object_table_tick(v->objects, now_ms);
	repo_view_tick(v->repos);
}

void
cache_scrub_now(struct cache *c)
{
	CHECK_OBJ(c, CACHE_MAGIC);
	scrub_kick(c->parts.scrub);
}

/* ---- remembered for a short while ---- */

/* The one place where a key's memo can be. */
static struct cache_memo *
cache_memo_at(struct cache *c, const struct key *k)
{
	return &c->memos[(k->b[2] | (unsigned)k->b[3] << 8) % CACHE_MEMOS];
}

static void
cache_memo_set(struct cache *c, const struct key *k, enum memo_kind kind, int status,
    int64_t until_ms)
{
	AZ(pthread_mutex_lock(&c->memo_lock));
	*cache_memo_at(c, k) = (struct cache_memo){*k, kind, status, until_ms};
	AZ(pthread_mutex_unlock(&c->memo_lock));
}

/* What is remembered of the key now; *status for MEMO_STATUS. */
static enum memo_kind
cache_memo_get(struct cache *c, const struct key *k, int64_t now_ms, int *status)
{
	const struct cache_memo *m;
	enum memo_kind kind = MEMO_NONE;

	AZ(pthread_mutex_lock(&c->memo_lock));
	m = cache_memo_at(c, k);
	if (m->kind != MEMO_NONE && now_ms < m->until_ms && memcmp(&m->key, k, sizeof(*k)) == 0) {
		kind = m->kind;
		*status = m->status;
	}
	AZ(pthread_mutex_unlock(&c->memo_lock));
	return kind;
}

void
cache_note_status(struct cache *c, const struct key *k, int status, int64_t now_ms)
{
	cache_memo_set(c, k, MEMO_STATUS, status, now_ms + CACHE_MEMO_STATUS_MS);
}

void
cache_note_digest(struct cache *c, const struct key *k, enum aptfile_class class, int64_t now_ms)
{
	cache_memo_set(c, k, MEMO_DIGEST, 0, now_ms + (class == APTFILE_INDEX ? CACHE_MEMO_INDEX_MS :
	    CACHE_MEMO_DIGEST_MS));
}

void
cache_note_unshareable(struct cache *c, const struct key *k, int64_t now_ms)
{
	cache_memo_set(c, k, MEMO_UNSHAREABLE, 0, now_ms + CACHE_MEMO_UNSHAREABLE_MS);
}

void
cache_note_host(struct cache *c, struct slice authority, bool slow, int64_t now_ms)
{
	struct key k;
	int status;

	key_of_text(authority, &k);
	if (slow)
		cache_memo_set(c, &k, MEMO_HOST_SLOW, 0, now_ms + CACHE_MEMO_HOST_MS);
	else if (cache_memo_get(c, &k, now_ms, &status) == MEMO_HOST_SLOW)
		cache_memo_set(c, &k, MEMO_NONE, 0, 0);
}

bool
cache_host_is_slow(struct cache *c, struct slice authority, int64_t now_ms)
{
	struct key k;
	int status;

	key_of_text(authority, &k);
	return cache_memo_get(c, &k, now_ms, &status) == MEMO_HOST_SLOW;
}

/* ---- the table of flights ---- */

static struct cache_shard *
cache_shard(struct cache *c, const struct key *k)
{
	return &c->shards[(k->b[4] | (unsigned)k->b[5] << 8) % CACHE_SHARDS];
}

/* The running flight of this key, or NULL (shard locked). */
static struct flight *
cache_find_flight(struct cache_shard *sh, const struct key *k)
{
	struct flight *f;

	TAILQ_FOREACH(f, &sh->flights, shard_link) {
		if (memcmp(&f->key, k, sizeof(*k)) == 0)
			return f;
	}
	return NULL;
}

void
cache_unlist(struct flight *f)
{
	struct cache_shard *sh = cache_shard(f->cache, &f->key);
	bool was;

	AZ(pthread_mutex_lock(&sh->lock));
	was = f->listed;
	if (was) {
		f->listed = false;
		TAILQ_REMOVE(&sh->flights, f, shard_link);
	}
	AZ(pthread_mutex_unlock(&sh->lock));
	if (was) {
		COUNT_DOWN(flights_open);
		flight_unref(&f);
	}
}

/* Gives the new flight the validators of what it checks. */
static void
cache_set_validators(struct flight *f, const struct object *o)
{
	const struct object_rec *rec;

	if (o == NULL)
		return;
	rec = object_record(o);
	if (rec->etag.n >= sizeof(f->validators.etag))
		return;
	memcpy(f->validators.etag, rec->etag.p, rec->etag.n);
	f->validators.etag[rec->etag.n] = '\0';
	f->validators.last_modified_s = rec->terms.last_modified_s;
	f->has_validators = rec->etag.n != 0 || rec->terms.last_modified_s != INT64_MIN;
}

/* ---- asking ---- */

/* What the configuration says about freshness now. */
static struct fresh_policy
cache_policy(const struct cache *c, int64_t now_s)
{
	return (struct fresh_policy){
		.now_s = now_s,
		.stale_if_error_s = c->conf.stale_if_error_s,
		.offline = c->conf.offline,
	};
}

bool
cache_stale_ok(struct cache_view *v, const struct object *o, const struct aptfile *af,
    int64_t now_s)
{
	struct fresh_policy p = cache_policy(v->cache, now_s);

	return fresh_stale_ok(af, object_terms(o), &p);
}

/*
 * Fresh by its class, or by what the repositories say of it? Where those are
 * known but do not name a package, RFC 9111 says how long it is good; where
 * a root has no generation, it is asked for each time.
 */
enum fresh_verdict
cache_judge_terms(const struct cache *c, const struct fresh_terms *terms,
    const struct cache_ask *ask, enum repo_role role)
{
	struct fresh_policy p = cache_policy(c, ask->now_s);
	struct aptfile af = *ask->af;
	enum fresh_verdict verdict;

	p.index_max_age_s = ask->index_max_age_s;
	if (af.class == APTFILE_PACKAGE && !af.immutable && role == REPO_ROLE_UNLISTED)
		af.class = APTFILE_OTHER;
	verdict = fresh_judge(&af, terms, &ask->fresh, &p);
	if (verdict == FRESH_HIT && !p.offline && af.class == APTFILE_PACKAGE && !af.immutable &&
	    role == REPO_ROLE_UNKNOWN)
		return FRESH_CHECK;
	return verdict;
}

static enum fresh_verdict
cache_judge(const struct cache_view *v, const struct object *o, const struct cache_ask *ask,
    enum repo_role role)
{
	return cache_judge_terms(v->cache, object_terms(o), ask, role);
}

/* A flight of the client's own, outside the table. */
static void
cache_fly_alone(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out)
{
	out->flight = flight_new(v->cache, ask->url, ask->key, ask->expect, true);
	out->created = out->flight != NULL;
	if (out->flight == NULL)
		out->reason = REASON_NO_MEMORY;
	COUNT(misses_total);
}

/* Is it a Release by which a generation is judged? The signature beside one is not. */
static bool
cache_is_gated(const struct flight *f)
{
	return f->af.class == APTFILE_RELEASE && !f->private_ &&
	    !slice_ends(f->url, SLICE("/Release.gpg"));
}

/* Is the body of this version stored? */
static bool
cache_has_version(struct index_view *view, const struct key *key)
{
	char text[OBJECT_TEXT_MAX];
	struct object_rec rec;
	struct blob_rec blob;

	return index_get_object(view, key, &rec, text) == REASON_OK &&
	    index_get_blob(view, rec.digest, &blob) == REASON_OK;
}

/*
 * The flight of this key, with a reference; else the new one is listed (it is taken over). NULL:
 * there is none, and what it would fetch was stored since its asker looked.
 */
static struct flight *
cache_list_flight(struct cache *c, struct index_view *view, struct flight *f, bool *created)
{
	struct cache_shard *sh = cache_shard(c, &f->key);
	struct flight *there;

	*created = false;
	AZ(pthread_mutex_lock(&sh->lock));
	there = cache_find_flight(sh, &f->key);
	if (there != NULL)
		(void)flight_ref(there);
	else if (!f->expected || !cache_has_version(view, &f->key)) {
		f->listed = *created = true;
		TAILQ_INSERT_TAIL(&sh->flights, f, shard_link);
		there = flight_ref(f);
	}
	AZ(pthread_mutex_unlock(&sh->lock));
	if (!*created)
		flight_unref(&f);
	return there;
}

/* A new flight as a lookup or the stage wants it; NULL: no memory. */
static struct flight *
cache_make_flight(struct cache *c, const struct url *url, const struct key *key,
    const struct flight_expect *expect)
{
	struct flight *f = flight_new(c, url, key, expect, false);

	if (f != NULL)
		f->gated = expect == NULL && cache_is_gated(f);
	return f;
}

/*
 * Joins the running flight, or makes one; false: what is stored changed
 * meanwhile, ask again. object_key: under which out->object was looked for.
 */
static bool
cache_fly(struct cache_view *v, const struct cache_ask *ask, const struct key *object_key,
    struct cache_answer *out)
{
	struct cache_shard *sh = cache_shard(v->cache, ask->key);
	uint64_t epoch = repo_epoch(v->cache->parts.repos);
	struct object *now;
	struct flight *f;
	bool changed = false;

	AZ(pthread_mutex_lock(&sh->lock));
	f = cache_find_flight(sh, ask->key);
	if (f != NULL)
		out->flight = flight_ref(f);
	AZ(pthread_mutex_unlock(&sh->lock));
	if (f != NULL) {
		COUNT(joins_total);
		return true;
	}
	if (ask->head_only && out->object == NULL) {
		cache_fly_alone(v, ask, out);
		return true;
	}
	f = cache_make_flight(v->cache, ask->url, ask->key, ask->expect);
	if (f == NULL) {
		out->reason = REASON_NO_MEMORY;
		return true;
	}
	cache_set_validators(f, out->object);
	if (f->expected)
		f->marked = index_is_marked_wrong(v->index, ask->key);
	AZ(pthread_mutex_lock(&sh->lock));
	out->flight = cache_find_flight(sh, ask->key);
	if (out->flight != NULL)
		(void)flight_ref(out->flight);
	else {
		/* No flight: either nobody fetched it, or its record is committed by now. */
		now = ask->object_bad ? NULL :
		    object_find(v->objects, object_key, ask->now_ms, ask->now_s);
		changed = (now != out->object && (now == NULL || out->object == NULL ||
		    memcmp(object_digest(now), object_digest(out->object), 32) != 0)) ||
		    (f->gated && repo_epoch(v->cache->parts.repos) != epoch);
		object_unref(&now);
		if (!changed) {
			f->listed = true;
			TAILQ_INSERT_TAIL(&sh->flights, f, shard_link);
			out->flight = flight_ref(f);
			out->created = true;
		}
	}
	AZ(pthread_mutex_unlock(&sh->lock));
	if (out->created) {
		COUNT(flights_open);
		if (out->object == NULL)
			COUNT(misses_total);
		return true;
	}
	flight_unref(&f);
	if (out->flight != NULL)
		COUNT(joins_total);
	return !changed;
}

/* Nothing stored, or nothing that may be served unchecked: may a fetch help? */
static enum reason
cache_refuse(const struct cache_view *v, const struct cache_ask *ask)
{
	if (v->cache->conf.offline)
		return REASON_OFFLINE;
	if (ask->fresh.only_if_cached)
		return REASON_ONLY_IF_CACHED;
	return REASON_OK;
}

/* What has to be fetched: joined, started, or refused. False: ask again. */
static bool
cache_get(struct cache_view *v, const struct cache_ask *ask, const struct key *object_key,
    struct cache_answer *out)
{
	out->reason = cache_refuse(v, ask);
	if (out->reason != REASON_OK) {
		object_unref(&out->object);
		return true;
	}
	if (ask->alone) {
		cache_fly_alone(v, ask, out);
		return true;
	}
	switch (cache_memo_get(v->cache, ask->key, ask->now_ms, &out->status)) {
	case MEMO_STATUS:
		if (out->object != NULL)
			break;
		out->reason = out->status == 410 ? REASON_UP_GONE : REASON_UP_NOT_FOUND;
		return true;
	case MEMO_DIGEST:
		if (out->object != NULL)
			break;
		out->reason = REASON_UP_DIGEST;
		return true;
	case MEMO_UNSHAREABLE:
		object_unref(&out->object);
		cache_fly_alone(v, ask, out);
		return true;
	case MEMO_NONE:
	case MEMO_HOST_SLOW:
		break;
	}
	return cache_fly(v, ask, object_key, out);
}

/* ---- one content, several URLs ---- */

/* The record of a URL whose body is known by its digest alone (text: at least 256 bytes). */
static struct object_rec
cache_digest_record(struct slice url, enum aptfile_class class, const uint8_t digest[32],
    uint64_t size_bytes, char *text)
{
	int64_t now_ms = clock_wall_ms();
	char hex[KEY_HEX_BYTES];
	struct object_rec rec = {
		.size_bytes = size_bytes, .stored_at_ms = now_ms, .checked_at_ms = now_ms,
		.class = class, .url = url,
		.terms = {.checked_at_s = now_ms / 1000, .date_s = now_ms / 1000,
		    .lifetime_s = -1, .last_modified_s = INT64_MIN, .stale_if_error_s = -1},
	};
	int n;

	key_hex(digest, hex);
	memcpy(rec.digest, digest, 32);
	n = snprintf(text, 256, "Content-Type: application/octet-stream\r\nETag: \"%s\"\r\n", hex);
	rec.fields = (struct slice){text, (size_t)n};
	rec.etag = (struct slice){text + n - 68, 66};
	return rec;
}

bool
cache_link_digest(struct cache *c, struct slice url, const struct key *key,
    const uint8_t digest[32], uint64_t size_bytes)
{
	char text[256];
	struct object_rec rec = cache_digest_record(url, APTFILE_INDEX, digest, size_bytes, text);

	COUNT(linked_total);
	index_link(c->parts.index, key, &rec, NULL, NULL);
	return true;
}

/*
 * A body with the expected digest that came under another key: from this URL
 * before its index was known, or from another mirror. Bodies that were only
 * ever fetched with credentials are good for their own URL.
 */
static struct object *
cache_find_digest(struct cache_view *v, const struct cache_ask *ask, const struct key *key,
    const struct flight_expect *expect)
{
	struct object *plain, *o = NULL;
	struct object_rec rec;
	struct blob_rec blob;
	char text[256];

	if (expect->hash != APTFILE_SHA256 ||
	    index_get_blob(v->index, expect->digest, &blob) != REASON_OK)
		return NULL;
	plain = object_find(v->objects, ask->key, ask->now_ms, ask->now_s);
	if (plain != NULL && memcmp(object_digest(plain), expect->digest, 32) == 0)
		rec = *object_record(plain);
	else if (!blob.restricted)
		rec = cache_digest_record(ask->url->text, ask->af->class, expect->digest,
		    blob.size_bytes, text);
	else {
		object_unref(&plain);
		return NULL;
	}
	o = object_make(v->objects, key, &rec);
	if (o != NULL) {
		COUNT(linked_total);
		index_link(v->cache->parts.index, key, &rec, NULL, NULL);
	}
	object_unref(&plain);
	return o;
}

/* ---- the four ways to answer; each false: ask again ---- */

/* What repositories say nothing about, beyond its class. */
static bool
cache_ask_plain(struct cache_view *v, const struct cache_ask *ask, const struct repo_answer *ra,
    struct cache_answer *out)
{
	struct flight_expect named = ra->expect;
	bool is_named = ra->by_digest;

	if (!ask->object_bad && !ask->alone)
		out->object = object_find(v->objects, ask->key, ask->now_ms, ask->now_s);
	if (!is_named && ask->af->class == APTFILE_BYHASH && ask->af->hash == APTFILE_SHA256) {
		named = (struct flight_expect){.hash = APTFILE_SHA256, .size_bytes = -1};
		is_named = key_from_hex(ask->af->hash_hex, named.digest);
	}
	if (out->object == NULL && is_named && !ask->object_bad && !ask->alone)
		out->object = cache_find_digest(v, ask, ask->key, &named);
	if (out->object != NULL) {
		out->verdict = cache_judge(v, out->object, ask, ra->role);
		if (out->verdict == FRESH_HIT)
			return true;
		out->strict = out->verdict == FRESH_CHECK_STRICT;
	}
	return cache_get(v, ask, ask->key, out);
}

/* An index that its publisher has under its digest too: that name can't be of another edition. */
static void
cache_set_by_hash(struct flight *f, const struct release *r)
{
	const struct flight_expect *e = flight_expected(f);
	size_t dir_n = f->url.n;

	for (size_t i = 0; i < r->files_n; i++) {
		const struct release_file *rf = &r->files[i];

		if (e->hash == APTFILE_SHA256 ? !rf->has_sha256 || memcmp(rf->sha256, e->digest, 32) != 0 :
		    !rf->has_sha512 || memcmp(rf->sha512, e->digest, 64) != 0)
			continue;
		while (dir_n > 0 && f->url.p[dir_n - 1] != '/')
			dir_n--;
		/* The strongest, as apt does. */
		flight_set_by_hash(f, dir_n, rf->has_sha512 ? APTFILE_SHA512 : APTFILE_SHA256,
		    rf->has_sha512 ? rf->sha512 : rf->sha256);
		return;
	}
}

/* An index or a package of a generation: these bytes, and no others. */
static bool
cache_ask_version(struct cache_view *v, const struct cache_ask *ask,
    const struct repo_answer *ra, struct cache_answer *out)
{
	struct cache_ask a = *ask;

	a.key = &ra->version_key;
	a.expect = &ra->expect;
	out->listed = true;
	out->held = ra->held;
	if (!ask->object_bad) {
		out->object = object_find(v->objects, a.key, ask->now_ms, ask->now_s);
		if (out->object == NULL)
			out->object = cache_find_digest(v, ask, a.key, &ra->expect);
	}
	if (out->object != NULL) {
		out->verdict = FRESH_HIT;
		return true;
	}
	if (!cache_get(v, &a, a.key, out))
		return false;
	if (out->created && !flight_is_private(out->flight) && ask->af->class != APTFILE_PACKAGE)
		out->launched = stage_derive(v->cache->parts.stage, v->index, ra->gen,
		    out->flight);
	if (out->created && !out->launched && repo_gen_release(ra->gen)->by_hash &&
	    ask->af->class == APTFILE_INDEX)
		cache_set_by_hash(out->flight, repo_gen_release(ra->gen));
	return true;
}

/* A Release: the current generation's, once upstream was asked whether it still is. */
static bool
cache_ask_release(struct cache_view *v, const struct cache_ask *ask,
    const struct repo_answer *ra, struct cache_answer *out)
{
	bool signature = slice_ends(ask->url->text, SLICE("/Release.gpg"));

	out->listed = true;
	out->held = ra->held;
	if (!ask->object_bad) {
		out->object = object_find(v->objects, &ra->version_key, ask->now_ms, ask->now_s);
		if (out->object == NULL)
			out->object = cache_find_digest(v, ask, &ra->version_key, &ra->expect);
	}
	/* Lost, and only those very bytes will do: not what upstream has by now. */
	if (out->object == NULL && (ask->at.n != 0 || signature))
		return cache_ask_version(v, ask, ra, out);
	if (out->object == NULL)
		return ask->checked ? true : cache_get(v, ask, &ra->version_key, out);
	out->gen = repo_gen_ref(ra->gen);
	out->verdict = FRESH_HIT;
	if (ask->checked || ask->at.n != 0 || signature)
		return true;
	out->verdict = cache_judge(v, out->object, ask, REPO_ROLE_RELEASE);
	if (out->verdict == FRESH_HIT)
		return true;
	return cache_get(v, ask, &ra->version_key, out);
}

/* What is not held under a generation, when one was asked for by name or time. */
static bool
cache_not_then(const struct cache_ask *ask, enum repo_role role)
{
	if (ask->at.n == 0)
		return false;
	return role != REPO_ROLE_UNLISTED || ask->af->class == APTFILE_RELEASE ||
	    ask->af->class == APTFILE_INDEX || ask->af->class == APTFILE_PACKAGE;
}

static bool
cache_ask_once(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out)
{
	struct repo_answer ra = {.role = REPO_ROLE_NONE};
	struct repo_ask q = {
		.url = ask->url, .key = ask->key, .af = ask->af, .client = ask->client,
		.at = ask->at, .now_ms = ask->now_ms, .now_s = ask->now_s,
	};

	if (!ask->alone)
		repo_ask(v->repos, &q, &ra);
	switch (ra.role) {
	case REPO_ROLE_RELEASE:
		return cache_ask_release(v, ask, &ra, out);
	case REPO_ROLE_LISTED:
		return cache_ask_version(v, ask, &ra, out);
	case REPO_ROLE_NO_SUCH_TIME:
		out->reason = REASON_NO_SUCH_TIME;
		return true;
	case REPO_ROLE_NONE:
	case REPO_ROLE_UNLISTED:
	case REPO_ROLE_UNKNOWN:
		break;
	}
	if (cache_not_then(ask, ra.role)) {
		out->reason = REASON_NO_SUCH_TIME;
		return true;
	}
	/* A first Release that did not become a generation: its flight has all there is. */
	return ask->checked ? true : cache_ask_plain(v, ask, &ra, out);
}

void
cache_ask(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out)
{
	unsigned tries;

	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	for (tries = 0; tries < 4; tries++) {
		memset(out, 0, sizeof(*out));
		if (cache_ask_once(v, ask, out)) {
			if (out->held)
				COUNT(generation_held_total);
			return;
		}
		object_unref(&out->object);
		repo_gen_unref(&out->gen);
	}
	/* Stored and dropped four times while we looked: let it be the client's own. */
	memset(out, 0, sizeof(*out));
	cache_fly_alone(v, ask, out);
}

void
cache_confirm(struct cache_view *v, struct object *o, const struct flight *f)
{
	struct object_rec rec = *object_record(o);
	const struct flight_head *h = flight_head(f);

	AN(h);
	/* A check a second is enough to write down. */
	if (h->checked_at_ms - rec.checked_at_ms < 1000)
		return;
	rec.terms = h->terms;
	rec.terms.last_modified_s = object_record(o)->terms.last_modified_s;
	rec.checked_at_ms = h->checked_at_ms;
	index_confirm(v->cache->parts.index, object_key(o), &rec);
}

/* ---- generations ---- */

void
cache_client_fini(struct cache_client *client)
{
	repo_held_free(&client->held);
	ahead_gone(&client->ahead);
}

void
cache_note_given(struct cache_view *v, struct cache_client *client, struct repo_gen *gen,
    int64_t now_ms)
{
	repo_note_given(v->repos, client, gen, now_ms);
}

void
cache_note_asked(struct cache_view *v, const struct cache_ask *ask, bool started)
{
	struct repo_answer ra;
	struct repo_ask q = {
		.url = ask->url, .key = ask->key, .af = ask->af, .client = ask->client,
		.at = ask->at, .now_ms = ask->now_ms, .now_s = ask->now_s,
	};

	if (v->cache->parts.ahead == NULL || ask->client == NULL)
		return;
	repo_ask(v->repos, &q, &ra);
	if (ra.role == REPO_ROLE_LISTED)
		ahead_note(v->cache->parts.ahead, &ask->client->ahead, ra.gen, ask->url->text,
		    &ra.expect, &ra.version_key, started);
}

void
cache_gen_unref(struct repo_gen **gen_p)
{
	repo_gen_unref(gen_p);
}

bool
cache_gen_is_held(struct cache_view *v, const struct repo_gen *gen)
{
	char why[256];

	return stage_pending(v->cache->parts.stage, repo_gen_root(gen), why, sizeof(why));
}

void
cache_list_times(struct cache_view *v, const struct url *url, char *out, size_t cap)
{
	repo_list_times(v->repos, url, out, cap);
}

void
cache_suspect(struct cache_view *v, const struct url *url)
{
	struct repo_answer ra;
	struct aptfile af;
	struct key key;

	aptfile_classify(&af, url->path);
	key_of_url(url, &key);
	repo_ask(v->repos, &(struct repo_ask){.url = url, .key = &key, .af = &af}, &ra);
	if (ra.gen != NULL)
		stage_suspect(v->cache->parts.stage, repo_gen_root(ra.gen));
}

/* ---- what the stage wants of flights ---- */

void
cache_set_hooks(struct cache *c, const struct cache_hooks *hooks)
{
	CHECK_OBJ(c, CACHE_MAGIC);
	AZ(pthread_mutex_lock(&c->hooks_lock));
	c->hooks = hooks != NULL ? *hooks : (struct cache_hooks){.arg = NULL};
	AZ(pthread_mutex_unlock(&c->hooks_lock));
	if (hooks == NULL)
		stage_quiet(c->parts.stage);
}

void
cache_fetch(struct cache *c, struct flight *f, bool no_cache)
{
	AZ(pthread_mutex_lock(&c->hooks_lock));
	if (c->hooks.fetch != NULL)
		c->hooks.fetch(c->hooks.arg, f, no_cache);
	else
		flight_fail(f, REASON_SHUTDOWN, 0, false, "%s", reason_text(REASON_SHUTDOWN));
	AZ(pthread_mutex_unlock(&c->hooks_lock));
}

struct flight *
cache_start(struct cache *c, struct index_view *view, struct slice text, const struct key *key,
    const struct flight_expect *expect, const struct release *by_hash, bool no_cache)
{
	struct flight *f = NULL;
	char room[8192];
	struct arena a;
	struct url url;
	bool created;

	arena_init(&a, room, sizeof(room));
	if (url_parse(&url, &a, text) == REASON_OK)
		f = cache_make_flight(c, &url, key, expect);
	if (f == NULL)
		return NULL;
	if (by_hash != NULL && by_hash->by_hash && expect != NULL)
		cache_set_by_hash(f, by_hash);
	f = cache_list_flight(c, view, f, &created);
	if (!created)
		return f;
	COUNT(flights_open);
	cache_fetch(c, f, no_cache);
	return f;
}

struct sign *
cache_sign(const struct cache *c, bool *hold_changes)
{
	*hold_changes = c->conf.hold_signer_changes;
	return c->conf.sign;
}

bool
cache_may_fetch(struct cache *c, const struct url *url)
{
	bool yes;

	AZ(pthread_mutex_lock(&c->hooks_lock));
	yes = c->hooks.may_fetch != NULL && c->hooks.may_fetch(c->hooks.arg, url);
	AZ(pthread_mutex_unlock(&c->hooks_lock));
	return yes;
}

int64_t
cache_adopt_older_s(struct cache *c, struct slice root)
{
	char room[8192];
	struct arena a;
	struct url url;
	int64_t s = 86400;

	arena_init(&a, room, sizeof(room));
	if (url_parse(&url, &a, root) != REASON_OK)
		return s;
	AZ(pthread_mutex_lock(&c->hooks_lock));
	if (c->hooks.adopt_older_s != NULL)
		s = c->hooks.adopt_older_s(c->hooks.arg, url.host);
	AZ(pthread_mutex_unlock(&c->hooks_lock));
	return s;
}

/* ---- for pages ---- */

void
cache_totals(const struct cache *c, struct cache_totals *out)
{
	out->blobs_n = index_blob_count(c->parts.index);
	out->blob_bytes = index_blob_bytes(c->parts.index);
	out->max_bytes = c->conf.max_bytes;
	out->partial_bytes = atomic_load_explicit(&c->partial_bytes, memory_order_relaxed);
}

/* One flight as pages show it (shard locked). */
static void
cache_describe_flight(struct flight *f, struct flight_info *out)
{
	out->id = f->id;
	out->visible_bytes = flight_visible(f);
	out->total_bytes = flight_total(f);
	out->age_ms = clock_mono_ms() - f->started_ms;
	out->readers_n = flight_readers(f);
	out->state = flight_state(f);
	(void)snprintf(out->url, sizeof(out->url), "%.*s", SLICE_ARG(f->url));
}

unsigned
cache_flights(const struct cache *cc, struct flight_info *out, unsigned max_n)
{
	struct cache *c = (struct cache *)(uintptr_t)cc;
	struct flight *f;
	unsigned i, n = 0;

	for (i = 0; i < CACHE_SHARDS; i++) {
		AZ(pthread_mutex_lock(&c->shards[i].lock));
		TAILQ_FOREACH(f, &c->shards[i].flights, shard_link) {
			if (n < max_n)
				cache_describe_flight(f, &out[n]);
			n++;
		}
		AZ(pthread_mutex_unlock(&c->shards[i].lock));
	}
	return n;
}

void
cache_peek(struct cache *c, const struct url *url, const struct key *key, int64_t now_ms,
    struct cache_peek *out)
{
	struct cache_shard *sh = cache_shard(c, key);
	struct flight *f;

	memset(out, 0, sizeof(*out));
	AZ(pthread_mutex_lock(&sh->lock));
	f = cache_find_flight(sh, key);
	if (f != NULL) {
		out->flying = true;
		cache_describe_flight(f, &out->flight);
	}
	AZ(pthread_mutex_unlock(&sh->lock));
	switch (cache_memo_get(c, key, now_ms, &out->status)) {
	case MEMO_UNSHAREABLE:
		out->unshareable = true;
		break;
	case MEMO_NONE:
	case MEMO_STATUS:
	case MEMO_DIGEST:
	case MEMO_HOST_SLOW:
		break;
	}
	out->host_slow = cache_host_is_slow(c, url->authority, now_ms);
}
