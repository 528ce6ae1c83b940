/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The table of running flights, in shards. A flight is found here from its
 * making until its record is committed: a shard's lock covers finding or
 * making one and the second look into the index, so that "stored meanwhile"
 * and "still being fetched" are the only two possibilities. For cache_ask.c
 * and, behind the door, for those who fetch for themselves (cache_start).
 */
#include "cache/cache_priv.h"

#include <stdio.h>

#include "cache/object_priv.h"
#include "include/clock.h"
#include "include/counter.h"

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

bool
cache_is_being_judged(struct cache *c, const struct key *key)
{
	struct cache_shard *sh = cache_shard(c, key);
	const struct flight *f;
	bool yes;

	AZ(pthread_mutex_lock(&sh->lock));
	f = cache_find_flight(sh, key);
	yes = f != NULL && f->gated;
	AZ(pthread_mutex_unlock(&sh->lock));
	return yes;
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

/*
 * An index that its publisher has under its digest too (Acquire-By-Hash): that name, which can't be
 * of another edition, is asked for first. The flight is not started yet.
 */
void
cache_set_by_hash(struct flight *f, const struct release *r)
{
	const struct flight_expect *e = flight_expected(f);

	for (size_t i = 0; i < r->files_n; i++) {
		const struct release_file *rf = &r->files[i];

		if (e->hash == APTFILE_SHA256 ? !rf->has_sha256 || memcmp(rf->sha256, e->digest, 32) != 0 :
		    !rf->has_sha512 || memcmp(rf->sha512, e->digest, 64) != 0)
			continue;
		/* The strongest, as apt does. */
		free(f->alternate);
		f->alternate = repo_by_hash_url(f->url, rf->has_sha512 ? APTFILE_SHA512 : APTFILE_SHA256,
		    rf->has_sha512 ? rf->sha512 : rf->sha256);
		return;
	}
}

/* Makes a private flight, which is in no table: nobody else joins it. */
void
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
 * The flight is there, and referenced. One that had all of its body before the request came is a
 * hit: nothing is waited for, only its record is not committed yet.
 */
static void
cache_join(const struct cache_ask *ask, struct cache_answer *out)
{
	out->whole = flight_is_whole(out->flight) && atomic_load(&out->flight->keep) &&
	    !ask->fresh.no_cache;
	if (out->whole)
		COUNT(hits_total);
	else
		COUNT(joins_total);
}

/*
 * Joins the running flight, or makes one; false: what is stored changed
 * meanwhile, ask again. object_key: under which out->object was looked for.
 */
bool
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
		cache_join(ask, out);
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
		cache_join(ask, out);
	return !changed;
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

/* ---- for pages ---- */

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
