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

#include "cache/evict.h"
#include "cache/flight_priv.h"
#include "cache/object_priv.h"
#include "cache/repo.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

#define CACHE_MAGIC 0xcac4e001u
#define CACHE_VIEW_MAGIC 0xcac4e002u

enum {
	CACHE_SHARDS = 64,
	CACHE_MEMOS = 4096,
	CACHE_MEMO_STATUS_MS = 1000,
	CACHE_MEMO_UNSHAREABLE_MS = 120000,
	CACHE_MEMO_HOST_MS = 60000,
	CACHE_HOT_MAX = 1024,
};

TAILQ_HEAD(flight_list, flight);

struct cache_shard {
	pthread_mutex_t lock;
	struct flight_list flights;
};

/* Something worth remembering about a key for a short while; a later one may take its place. */
enum memo_kind { MEMO_NONE, MEMO_STATUS, MEMO_UNSHAREABLE, MEMO_HOST_SLOW };
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
};

struct cache_view {
	uint32_t magic;
	struct cache *cache;
	struct index_view *index;
	struct object_table *objects;
};

const struct cache_parts *
cache_parts(struct cache *c)
{
	CHECK_OBJ(c, CACHE_MAGIC);
	return &c->parts;
}

void
cache_note_partial_bytes(struct cache *c, int64_t delta)
{
	(void)atomic_fetch_add_explicit(&c->partial_bytes, (uint64_t)delta, memory_order_relaxed);
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

/* Makes cache_dir and its parents where they are missing. */
static enum reason
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
		if (mkdir(path, 0750) != 0 && errno != EEXIST) {
			(void)!asprintf(why, "cannot make the directory %s: %s: make it and give it to "
			    "the user that runs apt-depot, or set cache_dir", path, strerror(errno));
			return REASON_DISK_ERROR;
		}
	}
	return REASON_OK;
}

/* Starts what works behind the scenes. */
static enum reason
cache_start_parts(struct cache *c)
{
	struct evict_conf e = {
		.index = c->parts.index, .blobs = c->parts.blobs,
		.cache_max_bytes = c->conf.max_bytes, .min_free_bytes = c->conf.min_free_bytes,
		.partial_bytes = cache_partial_bytes, .arg = c,
	};

	c->parts.verify = verify_start(c);
	c->parts.sync = sync_start(c);
	c->parts.evict = evict_start(&e);
	if (c->parts.verify == NULL || c->parts.sync == NULL || c->parts.evict == NULL)
		return REASON_NO_MEMORY;
	return REASON_OK;
}

enum reason
cache_open(struct cache **c_p, const struct cache_conf *conf, char **why)
{
	struct index_conf ic = {.dir = conf->dir, .test_no_sync = conf->test_no_sync};
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
	verify_stop(&c->parts.verify);
	sync_stop(&c->parts.sync);
	if (c->parts.index != NULL)
		index_flush(c->parts.index);
	evict_stop(&c->parts.evict);
	for (i = 0; i < CACHE_SHARDS; i++)
		while ((f = TAILQ_FIRST(&c->shards[i].flights)) != NULL)
			cache_unlist(f);
	index_close(&c->parts.index);
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
	if (v->objects == NULL)
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
	object_table_free(&v->objects);
	index_view_close(&v->index);
	OBJ_FREE(v);
}

void
cache_view_tick(struct cache_view *v, int64_t now_ms)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	object_table_tick(v->objects, now_ms);
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
	return &c->shards[k->b[4] % CACHE_SHARDS];
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
 * Fresh by its class; and for a package of a flat repository, named by an index that has not
 * changed since?
 */
static enum fresh_verdict
cache_judge(struct cache_view *v, struct object *o, const struct cache_ask *ask)
{
	struct fresh_policy p = cache_policy(v->cache, ask->now_s);
	enum fresh_verdict verdict;
	const struct object_rec *rec = object_record(o);
	uint64_t epoch;

	p.index_max_age_s = ask->index_max_age_s;
	verdict = fresh_judge(ask->af, object_terms(o), &ask->fresh, &p);
	if (verdict != FRESH_HIT || p.offline || ask->af->class != APTFILE_PACKAGE ||
	    ask->af->immutable)
		return verdict;
	epoch = repo_epoch();
	if (object_repo_epoch(o) == epoch)
		return verdict;
	if (repo_release_newer(v->index, rec->url, rec->checked_at_ms))
		return FRESH_CHECK;
	object_set_repo_epoch(o, epoch);
	return verdict;
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

/* Joins the running flight, or makes one; false: the object was stored meanwhile, ask again. */
static bool
cache_fly(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out)
{
	struct cache_shard *sh = cache_shard(v->cache, ask->key);
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
	f = flight_new(v->cache, ask->url, ask->key, ask->expect, false);
	if (f == NULL) {
		out->reason = REASON_NO_MEMORY;
		return true;
	}
	cache_set_validators(f, out->object);
	AZ(pthread_mutex_lock(&sh->lock));
	out->flight = cache_find_flight(sh, ask->key);
	if (out->flight != NULL)
		(void)flight_ref(out->flight);
	else {
		/* No flight: either nobody fetched it, or its record is committed by now. */
		now = ask->object_bad ? NULL :
		    object_find(v->objects, ask->key, ask->now_ms, ask->now_s);
		changed = now != out->object;
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

void
cache_ask(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out)
{
	unsigned tries;

	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	for (tries = 0; tries < 4; tries++) {
		memset(out, 0, sizeof(*out));
		if (!ask->object_bad && !ask->alone)
			out->object = object_find(v->objects, ask->key, ask->now_ms, ask->now_s);
		if (out->object != NULL) {
			out->verdict = cache_judge(v, out->object, ask);
			if (out->verdict == FRESH_HIT)
				return;
			out->strict = out->verdict == FRESH_CHECK_STRICT;
		}
		out->reason = cache_refuse(v, ask);
		if (out->reason != REASON_OK) {
			object_unref(&out->object);
			return;
		}
		if (ask->alone) {
			cache_fly_alone(v, ask, out);
			return;
		}
		switch (cache_memo_get(v->cache, ask->key, ask->now_ms, &out->status)) {
		case MEMO_STATUS:
			if (out->object != NULL)
				break;
			out->reason = out->status == 410 ? REASON_UP_GONE : REASON_UP_NOT_FOUND;
			return;
		case MEMO_UNSHAREABLE:
			object_unref(&out->object);
			cache_fly_alone(v, ask, out);
			return;
		case MEMO_NONE:
		case MEMO_HOST_SLOW:
			break;
		}
		if (cache_fly(v, ask, out))
			return;
		object_unref(&out->object);
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
	index_confirm(v->cache->parts.index, flight_key(f), &rec);
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
