/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Fetches ahead (prefetch = closure). A worker notes each package that a
 * client asks for; this thread guesses what comes next (ahead_guess.c) and
 * starts flights for it, as a reader that nobody waits for: the queue of
 * upstream.c puts those last, and who joins makes it a flight like any other.
 *
 *   note      worker -> queue, bounded; what does not fit is not guessed from
 *   guess     started -> (asked for: used | its client goes, or the body has
 *             been evicted by then: wasted), and its reader detached then or
 *             when the body is whole
 *   client    made at its first note, ends with its connection: the flights
 *             that it leaves behind fall under the policy for the last reader
 *
 * A client's guesses that it has not asked for yet are at most budget_bytes
 * and AHEAD_RUNNING_MAX flights. Clients' counters are atomic; all else is
 * the thread's own, or under the lock. Locks: a flight's, then ours.
 */
#include "cache/ahead.h"

#include <stdio.h>

#include "cache/ahead_priv.h"
#include "cache/closure_path.h"
#include "include/counter.h"
#include "include/log.h"

#define AHEAD_MAGIC 0xa4ead001u
#define AHEAD_CLIENT_MAGIC 0xa4ead002u

enum {
	AHEAD_NOTES_MAX = 4096,
	AHEAD_RUNNING_MAX = 4,		/* flights of one client */
	AHEAD_PLAN_MAX = 1024,		/* packages that one guess looks ahead */
	AHEAD_BUCKETS = 256,
	AHEAD_URL_BYTES = 8192,
};

/* A flight that was started for a client which has not asked for it yet. */
struct ahead_guess {
	LIST_ENTRY(ahead_guess) link;	/* the bucket's */
	TAILQ_ENTRY(ahead_guess) client_link;
	struct ahead *a;
	struct ahead_client *client;
	struct key key;
	uint64_t size_bytes;
	struct flight_reader reader;	/* attached while it runs */
};

struct ahead_client {
	uint32_t magic;
	struct ahead *a;
	atomic_uint refs;		/* the connection, notes, the thread's list */
	/* The thread's. */
	TAILQ_ENTRY(ahead_client) link;
	bool listed, dirty;
	TAILQ_HEAD(, ahead_guess) guesses;
	uint64_t guessed_bytes;
	unsigned running_n;
	struct ahead_model *model;	/* of the repository that it asked last */
	char base[AHEAD_URL_BYTES];	/* what its file names are relative to */
	uint32_t asked[AHEAD_ASKED_MAX];
	unsigned asked_n;
	uint32_t plan[AHEAD_PLAN_MAX];
	unsigned plan_n, plan_at;
};

struct ahead_note {
	TAILQ_ENTRY(ahead_note) link;
	struct ahead_client *client;	/* a reference */
	struct repo_gen *gen;		/* a reference; NULL: the client is gone */
	uint8_t sha256[32];
	bool started;			/* its request started a fetch */
	struct key key;			/* of the version */
	char url[];
};

struct ahead {
	uint32_t magic;
	struct cache *cache;
	struct index_view *view;
	uint64_t budget_bytes;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;		/* down to stop */
	pthread_cond_t news;
	TAILQ_HEAD(ahead_notes, ahead_note) notes;
	unsigned notes_n;
	bool rung, stop;
	/* The thread's. */
	TAILQ_HEAD(, ahead_client) clients;
	LIST_HEAD(, ahead_guess) buckets[AHEAD_BUCKETS];
	struct ahead_models models;
};

/* ---- notes, from workers ---- */

static void
ahead_client_unref(struct ahead_client *cl)
{
	CHECK_OBJ(cl, AHEAD_CLIENT_MAGIC);
	if (atomic_fetch_sub_explicit(&cl->refs, 1, memory_order_acq_rel) != 1)
		return;
	MUST(!cl->listed && TAILQ_EMPTY(&cl->guesses) && cl->model == NULL);
	OBJ_FREE(cl);
}

/* Queues it; false: there is no room (what a client's end says always has). */
static bool
ahead_post(struct ahead *a, struct ahead_note *note)
{
	bool queued;

	AZ(pthread_mutex_lock(&a->lock));
	queued = !a->stop && (note->gen == NULL || a->notes_n < AHEAD_NOTES_MAX);
	if (queued) {
		(void)atomic_fetch_add(&note->client->refs, 1);
		TAILQ_INSERT_TAIL(&a->notes, note, link);
		a->notes_n++;
		AZ(pthread_cond_signal(&a->news));
	}
	AZ(pthread_mutex_unlock(&a->lock));
	return queued;
}

void
ahead_note(struct ahead *a, struct ahead_client **client_p, struct repo_gen *gen,
    struct slice url, const struct flight_expect *expect, const struct key *version_key,
    bool started)
{
	struct ahead_client *cl = *client_p;
	struct ahead_note *note;

	CHECK_OBJ(a, AHEAD_MAGIC);
	if (expect->hash != APTFILE_SHA256)
		return;
	if (cl == NULL) {
		OBJ_NEW(cl, AHEAD_CLIENT_MAGIC);
		if (cl == NULL)
			return;
		cl->a = a;
		atomic_init(&cl->refs, 1);
		TAILQ_INIT(&cl->guesses);
		*client_p = cl;
	}
	note = malloc(sizeof(*note) + url.n + 1);
	if (note == NULL)
		return;
	note->client = cl;
	note->gen = repo_gen_ref(gen);
	memcpy(note->sha256, expect->digest, 32);
	note->key = *version_key;
	note->started = started;
	memcpy(note->url, url.p, url.n);
	note->url[url.n] = '\0';
	if (ahead_post(a, note))
		return;
	COUNT(prefetch_notes_dropped_total);
	repo_gen_unref(&note->gen);
	free(note);
}

void
ahead_gone(struct ahead_client **client_p)
{
	struct ahead_client *cl = *client_p;
	struct ahead_note *note;

	*client_p = NULL;
	if (cl == NULL)
		return;
	CHECK_OBJ(cl, AHEAD_CLIENT_MAGIC);
	note = calloc(1, sizeof(*note) + 1);
	if (note != NULL) {
		note->client = cl;
		if (!ahead_post(cl->a, note))
			free(note);
	}
	ahead_client_unref(cl);
}

/* ---- guesses ---- */

static unsigned
ahead_bucket(const struct key *key)
{
	return key->b[7] % AHEAD_BUCKETS;
}

static struct ahead_guess *
ahead_find_guess(struct ahead *a, const struct key *key)
{
	struct ahead_guess *g;

	LIST_FOREACH(g, &a->buckets[ahead_bucket(key)], link)
		if (memcmp(&g->key, key, sizeof(*key)) == 0)
			return g;
	return NULL;
}

/* The flight's call, under its lock. */
static void
ahead_wake(struct flight_reader *r)
{
	struct ahead *a = CONTAINER_OF(r, struct ahead_guess, reader)->a;

	AZ(pthread_mutex_lock(&a->lock));
	a->rung = true;
	AZ(pthread_cond_signal(&a->news));
	AZ(pthread_mutex_unlock(&a->lock));
}

/* Its body is whole, or it is over for us. */
static void
ahead_let_go(struct ahead_guess *g)
{
	if (g->reader.f == NULL)
		return;
	flight_detach(&g->reader);
	AN(g->client->running_n);
	g->client->running_n--;
}

/* It was of no use; what had come of it by now. */
static void
ahead_count_wasted(const struct ahead_guess *g)
{
	COUNT(prefetch_wasted_total);
	COUNT_ADD(prefetch_wasted_bytes_total, g->reader.f != NULL ? flight_committed(g->reader.f) :
	    g->size_bytes);
}

static void
ahead_drop_guess(struct ahead_guess *g)
{
	ahead_let_go(g);
	LIST_REMOVE(g, link);
	TAILQ_REMOVE(&g->client->guesses, g, client_link);
	g->client->guessed_bytes -= g->size_bytes;
	free(g);
}

/* Looks at those of a client that run. */
static void
ahead_look(struct ahead_client *cl)
{
	struct ahead_guess *g, *next;

	for (g = TAILQ_FIRST(&cl->guesses); g != NULL; g = next) {
		struct flight *f = g->reader.f;

		next = TAILQ_NEXT(g, client_link);
		if (f == NULL)
			continue;
		/* Its state may move between the looks: then it would not ring. */
		while (!flight_wait(&g->reader, UINT64_MAX, flight_state(f)) &&
		    flight_state(f) != FLIGHT_FAILED && !flight_is_settled(f))
			;
		if (flight_state(f) == FLIGHT_FAILED) {
			log_debug("flight=%llu fetched ahead, and failed: %s",
			    (unsigned long long)flight_id(f), flight_detail(f));
			ahead_count_wasted(g);
			ahead_drop_guess(g);
		} else if (flight_is_settled(f))
			ahead_let_go(g);
	}
}

/* Is a body with this digest stored, for whoever asks? */
static bool
ahead_is_stored(struct ahead *a, const uint8_t sha256[32])
{
	struct blob_rec blob;

	return index_get_blob(a->view, sha256, &blob) == REASON_OK && !blob.restricted;
}

/* One package of a plan: fetched, unless it is here or under way. False: no room for it now. */
static bool
ahead_start_one(struct ahead *a, struct ahead_client *cl, uint32_t i)
{
	char text[2 * AHEAD_URL_BYTES], path[4096], room[2 * AHEAD_URL_BYTES];
	struct flight_expect expect = {.hash = APTFILE_SHA256};
	struct closure_package p;
	struct ahead_guess *g;
	struct arena arena;
	struct flight *f;
	struct url url;
	struct key key;

	closure_get(cl->model->closure, i, &p);
	if (p.size_bytes > a->budget_bytes || ahead_is_stored(a, p.sha256) ||
	    closure_path(p.filename, path, sizeof(path)) == 0)
		return true;
	if (cl->guessed_bytes + p.size_bytes > a->budget_bytes)
		return false;
	arena_init(&arena, room, sizeof(room));
	(void)snprintf(text, sizeof(text), "%s%s", cl->base, path);
	if (url_parse(&url, &arena, slice_of(text)) != REASON_OK ||
	    !cache_may_fetch(a->cache, &url))
		return true;
	memcpy(expect.digest, p.sha256, 32);
	expect.size_bytes = (int64_t)p.size_bytes;
	repo_version_key(url.text, &expect, &key);
	if (ahead_find_guess(a, &key) != NULL)
		return true;
	g = calloc(1, sizeof(*g));
	f = g != NULL ? cache_start(a->cache, a->view, url.text, &key, &expect, NULL,
	    false) : NULL;
	if (f == NULL || flight_readers(f) > 0) {
		flight_unref(&f);	/* somebody asked before */
		free(g);
		return true;
	}
	g->a = a;
	g->client = cl;
	g->key = key;
	g->size_bytes = p.size_bytes;
	g->reader.wake = ahead_wake;
	g->reader.ahead = true;
	LIST_INSERT_HEAD(&a->buckets[ahead_bucket(&key)], g, link);
	TAILQ_INSERT_TAIL(&cl->guesses, g, client_link);
	cl->guessed_bytes += p.size_bytes;
	cl->running_n++;
	flight_attach(f, &g->reader, false);
	/* No byte of it is needed here: where memory stands in for the disk, it holds nobody up. */
	atomic_store(&g->reader.at, UINT64_MAX);
	COUNT(prefetch_started_total);
	log_debug("flight=%llu fetched ahead: %.*s", (unsigned long long)flight_id(f),
	    SLICE_ARG(url.text));
	flight_unref(&f);
	return true;
}

/* Guesses anew where there is news, then starts what there is room for. */
static void
ahead_go_on(struct ahead *a, struct ahead_client *cl)
{
	bool more = true;

	ahead_look(cl);
	if (cl->model == NULL || cl->model->closure == NULL)
		return;
	if (cl->dirty) {
		cl->dirty = false;
		cl->plan_at = 0;
		cl->plan_n = ahead_guess(cl->model, cl->asked, cl->asked_n, cl->plan, AHEAD_PLAN_MAX);
	}
	/* Those that are new are looked at, too: only from then on do they ring. */
	while (more && cl->plan_at < cl->plan_n && cl->running_n < AHEAD_RUNNING_MAX) {
		more = ahead_start_one(a, cl, cl->plan[cl->plan_at]);
		cl->plan_at += more;
		ahead_look(cl);
	}
}

/* ---- what the notes say ---- */

/* The URL without the package's file name; false: it is under another name. */
static bool
ahead_take_base(struct ahead_client *cl, struct slice filename, const char *url)
{
	char text[8192 + 16] = "http://x/", room[2 * AHEAD_URL_BYTES];
	struct slice asked = slice_of(url), name;
	struct arena arena;
	struct url u;

	arena_init(&arena, room, sizeof(room));
	if (closure_path(filename, text + 9, 4096) == 0 ||
	    url_parse(&u, &arena, slice_of(text)) != REASON_OK)
		return false;
	name = slice_skip(u.path, 1);
	if (!slice_ends(asked, name) || asked.n - name.n >= sizeof(cl->base))
		return false;
	memcpy(cl->base, url, asked.n - name.n);
	cl->base[asked.n - name.n] = '\0';
	return cl->base[0] != '\0' && cl->base[asked.n - name.n - 1] == '/';
}

/* The package that was asked for joins what the client asked for before. */
static void
ahead_take_asked(struct ahead *a, const struct ahead_note *note)
{
	struct ahead_client *cl = note->client;
	struct ahead_model *m = ahead_model_get(&a->models, a->cache, note->gen);
	struct closure_package p;
	uint32_t i;

	if (m != cl->model) {
		cl->asked_n = cl->plan_n = cl->plan_at = 0;
		cl->dirty = false;
	}
	ahead_model_unref(&cl->model);
	cl->model = m;
	if (m == NULL || m->closure == NULL)
		return;
	i = closure_find_digest(m->closure, note->sha256);
	if (i == CLOSURE_NONE)
		return;
	closure_get(m->closure, i, &p);
	if (!ahead_take_base(cl, p.filename, note->url))
		return;
	for (unsigned k = 0; k < cl->asked_n; k++)
		if (cl->asked[k] == i)
			return;
	if (cl->asked_n == AHEAD_ASKED_MAX) {
		memmove(cl->asked, cl->asked + 1, (AHEAD_ASKED_MAX - 1) * sizeof(*cl->asked));
		cl->asked_n--;
	}
	cl->asked[cl->asked_n++] = i;
	cl->dirty = true;
}

static void
ahead_end_client(struct ahead *a, struct ahead_client *cl)
{
	struct ahead_guess *g;

	while ((g = TAILQ_FIRST(&cl->guesses)) != NULL) {
		ahead_count_wasted(g);
		ahead_drop_guess(g);
	}
	ahead_model_unref(&cl->model);
	if (!cl->listed)
		return;
	cl->listed = false;
	TAILQ_REMOVE(&a->clients, cl, link);
	ahead_client_unref(cl);
}

static void
ahead_take_note(struct ahead *a, struct ahead_note *note)
{
	struct ahead_client *cl = note->client;
	struct ahead_guess *g;

	if (note->gen == NULL) {
		ahead_end_client(a, cl);
		return;
	}
	g = ahead_find_guess(a, &note->key);
	if (g != NULL) {
		/* What was evicted before it was asked for is fetched once more. */
		if (note->started)
			ahead_count_wasted(g);
		else
			COUNT(prefetch_used_total);
		ahead_drop_guess(g);
	}
	if (!cl->listed) {
		cl->listed = true;
		TAILQ_INSERT_TAIL(&a->clients, cl, link);
		(void)atomic_fetch_add(&cl->refs, 1);
	}
	ahead_take_asked(a, note);
}

/* ---- the thread ---- */

static void *
ahead_main(void *arg)
{
	struct ahead *a = arg;
	struct ahead_client *cl;
	struct ahead_note *note;

	CHECK_OBJ(a, AHEAD_MAGIC);
	(void)pthread_setname_np(pthread_self(), "ahead");
	AZ(pthread_mutex_lock(&a->lock));
	while (!a->stop) {
		note = TAILQ_FIRST(&a->notes);
		if (note == NULL && !a->rung) {
			AZ(pthread_cond_wait(&a->news, &a->lock));
			continue;
		}
		/* All that was asked for is known before anything is guessed. */
		if (note != NULL) {
			TAILQ_REMOVE(&a->notes, note, link);
			a->notes_n--;
			a->rung = true;
		} else
			a->rung = false;
		AZ(pthread_mutex_unlock(&a->lock));
		if (note != NULL) {
			ahead_take_note(a, note);
			repo_gen_unref(&note->gen);
			ahead_client_unref(note->client);
			free(note);
		} else
			TAILQ_FOREACH(cl, &a->clients, link)
				ahead_go_on(a, cl);
		AZ(pthread_mutex_lock(&a->lock));
	}
	AZ(pthread_mutex_unlock(&a->lock));
	return NULL;
}

struct ahead *
ahead_start(struct cache *c, uint64_t budget_bytes)
{
	struct ahead *a;

	OBJ_NEW(a, AHEAD_MAGIC);
	if (a == NULL)
		return NULL;
	a->cache = c;
	a->budget_bytes = budget_bytes;
	TAILQ_INIT(&a->notes);
	TAILQ_INIT(&a->clients);
	TAILQ_INIT(&a->models);
	AZ(pthread_mutex_init(&a->lock, NULL));
	AZ(pthread_cond_init(&a->news, NULL));
	a->view = index_view_open(cache_parts(c)->index);
	a->started = a->view != NULL && pthread_create(&a->thread, NULL, ahead_main, a) == 0;
	if (!a->started)
		ahead_free(&a);
	return a;
}

void
ahead_stop(struct ahead *a)
{
	struct ahead_client *cl;
	struct ahead_note *note;

	CHECK_OBJ(a, AHEAD_MAGIC);
	AZ(pthread_mutex_lock(&a->lock));
	a->stop = true;
	AZ(pthread_cond_signal(&a->news));
	AZ(pthread_mutex_unlock(&a->lock));
	if (a->started)
		AZ(pthread_join(a->thread, NULL));
	a->started = false;
	/* Nobody posts any more: what is left is ours. */
	while ((note = TAILQ_FIRST(&a->notes)) != NULL) {
		TAILQ_REMOVE(&a->notes, note, link);
		repo_gen_unref(&note->gen);
		ahead_client_unref(note->client);
		free(note);
	}
	while ((cl = TAILQ_FIRST(&a->clients)) != NULL)
		ahead_end_client(a, cl);
	ahead_models_free(&a->models);
	index_view_close(&a->view);
}

void
ahead_free(struct ahead **a_p)
{
	struct ahead *a = *a_p;

	*a_p = NULL;
	if (a == NULL)
		return;
	CHECK_OBJ(a, AHEAD_MAGIC);
	MUST(!a->started && TAILQ_EMPTY(&a->clients));
	AZ(pthread_cond_destroy(&a->news));
	AZ(pthread_mutex_destroy(&a->lock));
	OBJ_FREE(a);
}
