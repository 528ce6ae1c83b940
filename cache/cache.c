/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The door's frame: owns the parts (index, blobs, verifier, syncer, keeper,
 * stage), opens and closes them in order, and gives each worker its view.
 * What workers ask is in cache_ask.c, the table of running flights in
 * cache_flights.c, what is remembered for a short while in cache_memo.c.
 */
#include "cache/cache_priv.h"

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

enum {
	CACHE_FLOCK_MIN = 4,		/* readers of a flight who share copies of its bytes */
	CACHE_HOT_MAX = 1024,
	CACHE_LOCK_TRIES = 10,		/* 10 ms apart */
	CACHE_AHEAD_PART = 10,		/* of the cache, what one client's prefetching may take */
};

/* What a client has not asked for yet of what is fetched ahead for it, at most. */
#define CACHE_AHEAD_BYTES (UINT64_C(512) << 20)

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

/* Tries a few times: a command that looks whether a depot is running has it for an instant. */
static bool
cache_lock_file(int fd)
{
	const struct timespec instant = {.tv_nsec = 10000000};

	for (unsigned n = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; n++)
		if (errno != EWOULDBLOCK || n == CACHE_LOCK_TRIES)
			return false;
		else
			(void)nanosleep(&instant, NULL);
	return true;
}

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
	if (!cache_lock_file(c->lock_fd)) {
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
	verify_stop(c->parts.verify);
	if (c->parts.stage != NULL)
		stage_stop(c->parts.stage);
	verify_free(&c->parts.verify);	/* a stage thread may have finished a body meanwhile */
	sync_stop(&c->parts.sync);
	if (c->parts.index != NULL)
		index_flush(c->parts.index);
	scrub_stop(&c->parts.scrub);
	evict_stop(c->parts.evict);
	for (i = 0; i < CACHE_SHARDS; i++)
		while ((f = TAILQ_FIRST(&c->shards[i].flights)) != NULL)
			cache_unlist(f);
	index_close(&c->parts.index);
	evict_free(&c->parts.evict);
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

bool
cache_flight_is_shared(const struct flight_reader *r)
{
	return flight_readers(r->f) >= CACHE_FLOCK_MIN;
}

const char *
cache_flight_bytes(struct cache_view *v, const struct flight_reader *r, uint64_t at, uint64_t *n,
    bool copy, int64_t now_ms)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	/* Before a part that came ahead of the prefix there may be nothing yet to be copied. */
	if (at + *n > flight_visible(r->f))
		return NULL;
	return window_bytes(object_table_windows(v->objects), r->body->window_id,
	    atomic_load(&r->body->fd), at, n, copy, now_ms);
}

void
cache_view_tick(struct cache_view *v, int64_t now_ms)
{
	CHECK_OBJ(v, CACHE_VIEW_MAGIC);
	object_table_tick(v->objects, now_ms);
	repo_view_tick(v->repos);
}

/* ---- what the stage wants ---- */

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
