/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * From a request's key to an object to serve, a flight to follow, or both.
 * Called by workers, through their views; nothing here waits, and only the
 * miss path takes a lock (cache_flights.c).
 *
 *   cache_ask -> repo_ask        which generation, and what it lists
 *             -> cache_ask_plain, _version, _release    what is stored, is it good?
 *             -> cache_get       else: remembered, alone, or a flight
 */
#include "cache/cache_priv.h"

#include <stdio.h>

#include "cache/ahead.h"
#include "cache/inspect_priv.h"
#include "cache/object_priv.h"
#include "cache/stage.h"
#include "include/clock.h"
#include "include/counter.h"

/* ---- is what is stored good? ---- */

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
 * none is, its origin's words do, if it has any, and the client's; where a
 * root has no generation, it is asked for each time.
 */
enum fresh_verdict
cache_judge_terms(const struct cache *c, const struct fresh_terms *terms,
    const struct cache_ask *ask, enum repo_role role)
{
	struct fresh_policy p = cache_policy(c, ask->now_s);
	struct aptfile af = *ask->af;
	enum fresh_verdict verdict;

	p.index_max_age_s = ask->index_max_age_s;
	if (af.class == APTFILE_PACKAGE && !af.immutable && (role == REPO_ROLE_UNLISTED ||
	    (role == REPO_ROLE_NONE && (fresh_is_said(terms) || ask->fresh.max_age_s == 0))))
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

/* Is it the request alone that asks for a check: would it be a hit without its Cache-Control? */
static bool
cache_is_insisted(const struct cache_view *v, const struct object *o, const struct cache_ask *ask,
    enum repo_role role)
{
	struct cache_ask calm = *ask;

	calm.fresh = (struct fresh_ask){.max_age_s = -1};
	return cache_judge(v, o, &calm, role) == FRESH_HIT;
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
	if (out->reason != REASON_OK)
		return true;
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
cache_link_digest(struct cache *c, struct index_view *view, struct slice url,
    const struct key *key, const uint8_t digest[32])
{
	char text[OBJECT_TEXT_MAX];
	struct object_rec rec;
	struct blob_rec blob;
	struct key plain;

	if (index_get_blob(view, digest, &blob) != REASON_OK)
		return false;
	key_of_text(url, &plain);
	if (index_get_object(view, &plain, &rec, text) != REASON_OK ||
	    memcmp(rec.digest, digest, 32) != 0) {
		if (blob.restricted)
			return false;
		rec = cache_digest_record(url, APTFILE_INDEX, digest, blob.size_bytes, text);
	}
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
	bool is_named = ra->by_digest, is_judged;

	/* Before the look-up: what is judged in between has its generation when we look. */
	is_judged = ask->af->class != APTFILE_RELEASE || ask->alone || ask->fresh.only_if_cached ||
	    !cache_is_being_judged(v->cache, ask->key);
	if (!ask->object_bad && !ask->alone)
		out->object = object_find(v->objects, ask->key, ask->now_ms, ask->now_s);
	if (!is_named && ask->af->class == APTFILE_BYHASH && ask->af->hash == APTFILE_SHA256) {
		named = (struct flight_expect){.hash = APTFILE_SHA256, .size_bytes = -1};
		is_named = key_from_hex(ask->af->hash_hex, named.digest);
	}
	if (out->object == NULL && is_named && !ask->object_bad && !ask->alone)
		out->object = cache_find_digest(v, ask, ask->key, &named);
	/* The newest generation has no such file, but upstream still shows an earlier one's. */
	if (out->object != NULL && ask->af->class == APTFILE_RELEASE && ask->at.n == 0)
		out->gen = repo_of_release(v->repos, ask->url, object_digest(out->object));
	if (out->object != NULL) {
		out->verdict = cache_judge(v, out->object, ask, ra->role);
		/* A Release that is stored and no generation yet is its flight's to show. */
		if (out->verdict == FRESH_HIT && (is_judged || out->gen != NULL))
			return true;
		out->strict = out->verdict == FRESH_CHECK_STRICT;
		out->insisted = cache_is_insisted(v, out->object, ask, ra->role);
	}
	return cache_get(v, ask, ask->key, out);
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
	if (out->created && !flight_is_private(out->flight) && ask->af->class == APTFILE_INDEX)
		out->flight->gen = repo_gen_ref(ra->gen);
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

/* A generation was asked for by name or time: may only that answer, and it has nothing of the path? */
static bool
cache_not_then(const struct cache_ask *ask, enum repo_role role)
{
	if (ask->at.n == 0)
		return false;
	return role != REPO_ROLE_UNLISTED || ask->af->class == APTFILE_RELEASE ||
	    ask->af->class == APTFILE_INDEX || ask->af->class == APTFILE_PACKAGE;
}

static bool
cache_is_unread(void *stage, struct slice root)
{
	return stage_has_unread_below(stage, root);
}

/* Is an index read that may name this package? */
static bool
cache_ask_is_early(const struct cache_view *v, const struct cache_ask *ask)
{
	struct stage *stage = v->cache->parts.stage;

	return ask->may_wait && aptfile_may_be_package(ask->af) && stage_has_unread(stage) &&
	    repo_any_root(v->repos, ask->url, cache_is_unread, stage);
}

static bool
cache_ask_once(struct cache_view *v, const struct cache_ask *ask, struct cache_answer *out)
{
	struct repo_answer ra = {.role = REPO_ROLE_NONE};
	/* Before repo_ask: an index that is settled in between is found there. */
	bool early = cache_ask_is_early(v, ask);
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
	case REPO_ROLE_UNLISTED:
		out->unread = early;
		if (early)
			return true;
		break;
	case REPO_ROLE_NONE:
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
		bool answered = cache_ask_once(v, ask, out);

		if (answered && out->held)
			COUNT(generation_held_total);
		if (answered && out->reason == REASON_OK)
			return;
		/* Who is refused gets nothing else. */
		object_unref(&out->object);
		repo_gen_unref(&out->gen);
		if (answered)
			return;
	}
	/* Stored and dropped four times while we looked: let it be the client's own. */
	memset(out, 0, sizeof(*out));
	cache_fly_alone(v, ask, out);
}

void
cache_confirm(struct cache_view *v, struct object *o, const struct flight *f)
{
	const struct flight_head *h = flight_head(f);

	AN(h);
	if (object_confirm(o, &h->terms, h->checked_at_ms))
		index_confirm(v->cache->parts.index, object_key(o), object_record(o));
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
