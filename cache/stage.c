/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Staging. A Release that comes from upstream is a gated flight: when its
 * body is whole it lands here, and its readers wait. A thread then
 *
 *   parses it                      malformed, older, badly signed: refused
 *   fetches its set                the indexes that clients of this root ask for
 *   reads their packages           into tables of digests
 *   stores, records, makes current and only then opens the gate
 *
 * Where upstream's files are of different publications, the flight fails with
 * the reason in words, its readers get the generation that is current, and
 * the root is looked at again in the background, at growing intervals, until
 * upstream agrees with itself. Lists of packages are waited for as long as it
 * takes; what else is late after a minute, is left out. A root without any
 * generation is tried for three seconds; then its clients get what upstream
 * has.
 *
 * Here is also what else may wait: tables of indexes that come later, and
 * bodies that are unpacked from another compression. One job at a time works
 * on a root.
 */
#include "cache/stage_priv.h"

#include <stdio.h>

#include "include/clock.h"
#include "include/counter.h"

/* ---- the queue ---- */

bool
stage_queue(struct stage *st, const struct stage_job *from)
{
	struct stage_job *job = st->jobs_n < STAGE_JOBS_MAX ? malloc(sizeof(*job)) : NULL;

	if (job == NULL)
		return false;
	*job = *from;
	TAILQ_INSERT_TAIL(&st->jobs, job, link);
	st->jobs_n++;
	AZ(pthread_cond_signal(&st->news));
	return true;
}

void
stage_submit(struct stage *st, struct flight *f)
{
	struct stage_job job = {.kind = STAGE_RELEASE, .f = flight_ref(f)};
	struct slice root = SLICE_NONE;
	enum repo_file which = REPO_INRELEASE;
	bool queued = false;

	CHECK_OBJ(st, STAGE_MAGIC);
	(void)!repo_split_release(f->url, &root, &which);
	AZ(pthread_mutex_lock(&st->lock));
	job.root = stage_root_of(st, root);
	if (job.root != NULL) {
		job.root->which = which;
		if (job.root->first_ms == 0)
			job.root->first_ms = clock_mono_ms();
		if (flight_readers(f) > 0)
			job.root->asked_ms = clock_mono_ms();
		queued = stage_queue(st, &job);
		job.root->users_n += queued;
	}
	AZ(pthread_mutex_unlock(&st->lock));
	if (queued)
		return;
	/* Nobody can look at it: its readers get what is current, or else what upstream has. */
	COUNT(repositories_refused_total);
	flight_open_gate(f);
	flight_unref(&f);
}

/* Queues the making of a table; unread is taken over. */
static void
stage_queue_table(struct stage *st, const uint8_t sha256[32], struct stage_unread *unread)
{
	struct stage_job job = {.kind = STAGE_TABLE, .unread = unread};
	bool queued;

	memcpy(job.digest, sha256, 32);
	AZ(pthread_mutex_lock(&st->lock));
	queued = !st->stop && stage_queue(st, &job);
	AZ(pthread_mutex_unlock(&st->lock));
	if (!queued)
		stage_unread_end(st, &job.unread);
}

void
stage_note_stored(struct stage *st, const uint8_t sha256[32])
{
	CHECK_OBJ(st, STAGE_MAGIC);
	stage_queue_table(st, sha256, stage_unread_again(st, sha256));
}

void
stage_missing_table(void *arg, struct slice root, const uint8_t sha256[32])
{
	stage_queue_table(arg, sha256, stage_unread_begin(arg, root, sha256));
}

void
stage_suspect(struct stage *st, struct slice root_text)
{
	struct stage_root *root;

	AZ(pthread_mutex_lock(&st->lock));
	root = stage_root_of(st, root_text);
	if (root != NULL && root->probe_ms == 0) {
		root->asked_ms = clock_mono_ms();
		root->probe_ms = root->probed_ms + STAGE_PROBE_MS > root->asked_ms ?
		    root->probed_ms + STAGE_PROBE_MS : root->asked_ms;
		AZ(pthread_cond_broadcast(&st->news));
	}
	AZ(pthread_mutex_unlock(&st->lock));
}

bool
stage_pending(struct stage *st, struct slice root_text, char *why, size_t why_cap)
{
	struct stage_root *root;
	bool pending = false;

	AZ(pthread_mutex_lock(&st->lock));
	TAILQ_FOREACH(root, &st->roots, link) {
		if (!root->disagrees || !slice_eq(slice_of(root->text), root_text))
			continue;
		(void)snprintf(why, why_cap, "%s", root->why);
		pending = true;
	}
	AZ(pthread_mutex_unlock(&st->lock));
	return pending;
}

/* ---- the threads ---- */

/* The next job whose root is free; it is taken off the queue (lock held). */
static struct stage_job *
stage_take(struct stage *st)
{
	struct stage_job *job;

	/* What clients wait for goes before tables, which a large depot makes for a while at start. */
	TAILQ_FOREACH(job, &st->jobs, link)
		if (job->kind != STAGE_TABLE && (job->root == NULL || !job->root->busy))
			break;
	/* At the end those are left: they are found missing at the next start. */
	if (job == NULL && !st->quiet && st->tables_n < STAGE_TABLE_THREADS)
		TAILQ_FOREACH(job, &st->jobs, link)
			if (job->kind == STAGE_TABLE)
				break;
	if (job == NULL)
		return NULL;
	TAILQ_REMOVE(&st->jobs, job, link);
	st->jobs_n--;
	st->tables_n += job->kind == STAGE_TABLE;
	if (job->root != NULL)
		job->root->busy = true;
	return job;
}

/* A root whose time has come to be looked at (lock held); *due_ms: when the next one's will. */
static struct stage_root *
stage_take_probe(struct stage *st, int64_t now_ms, int64_t *due_ms)
{
	struct stage_root *root;

	TAILQ_FOREACH(root, &st->roots, link) {
		if (root->probe_ms == 0)
			continue;
		if (now_ms - root->asked_ms > STAGE_ASKED_MS) {
			root->probe_ms = 0;
			continue;
		}
		if (root->probe_ms <= now_ms) {
			/* Until it agrees, or nobody asks any more. */
			root->backoff_ms = 2 * root->backoff_ms < STAGE_PROBE_MAX_MS ?
			    2 * root->backoff_ms : STAGE_PROBE_MAX_MS;
			root->probe_ms = root->disagrees ? now_ms + root->backoff_ms : 0;
			root->probed_ms = now_ms;
			root->users_n++;
			return root;
		}
		if (root->probe_ms < *due_ms)
			*due_ms = root->probe_ms;
	}
	return NULL;
}

/* Asks upstream for the Release anew; what comes is staged as any other. */
static void
stage_probe(struct stage *st, const struct stage_root *root)
{
	struct slice url;
	char text[REPO_URL_BYTES];
	struct flight *f;
	struct key key;

	if (!repo_url(slice_of(root->text), repo_file_names[root->which], text, &url))
		return;
	COUNT(generation_probes_total);
	key_of_text(url, &key);
	f = cache_start(st->cache, NULL, url, &key, NULL, NULL, true);
	flight_unref(&f);
}

static void
stage_run(struct stage *st, struct stage_job *job)
{
	switch (job->kind) {
	case STAGE_RELEASE:
		stage_release_job(st, job);
		break;
	case STAGE_TABLE:
		stage_table_job(st, job);
		break;
	case STAGE_DERIVE:
		stage_derive_job(st, job);
		break;
	}
	stage_unread_end(st, &job->unread);
	flight_unref(&job->f);
}

void
stage_tidy(struct stage *st)
{
	int64_t now_s = clock_wall_s(), next_s, due_ms;

	repo_expire(st->repos);
	next_s = repo_watch_validity(st->repos, now_s);
	if (next_s - now_s >= STAGE_TICK_MS / 1000)
		return;
	due_ms = clock_mono_ms() + (next_s - now_s) * 1000;
	AZ(pthread_mutex_lock(&st->lock));
	if (due_ms < st->tick_ms)
		st->tick_ms = due_ms;
	AZ(pthread_cond_broadcast(&st->news));
	AZ(pthread_mutex_unlock(&st->lock));
}

/* One thing to do, if there is one (lock held, and again when it returns). */
static bool
stage_step(struct stage *st, int64_t now_ms, int64_t *due_ms)
{
	struct stage_job *job = stage_take(st);
	struct stage_root *root = NULL;
	bool tick = false;

	if (job == NULL && !st->quiet)
		root = stage_take_probe(st, now_ms, due_ms);
	if (job == NULL && root == NULL && !st->ticking && now_ms >= st->tick_ms) {
		tick = st->ticking = true;
		st->tick_ms = now_ms + STAGE_TICK_MS;
	}
	if (st->tick_ms < *due_ms)
		*due_ms = st->tick_ms;
	if (job == NULL && root == NULL && !tick)
		return false;
	AZ(pthread_mutex_unlock(&st->lock));
	if (job != NULL)
		stage_run(st, job);
	else if (root != NULL)
		stage_probe(st, root);
	else
		stage_tidy(st);
	AZ(pthread_mutex_lock(&st->lock));
	if (tick)
		st->ticking = false;
	if (root != NULL)
		root->users_n--;
	if (job != NULL && (job->root != NULL || job->kind == STAGE_TABLE)) {
		if (job->root != NULL) {
			job->root->busy = false;
			job->root->users_n--;
		}
		st->tables_n -= job->kind == STAGE_TABLE;
		AZ(pthread_cond_broadcast(&st->news));
	}
	free(job);
	return true;
}

static void *
stage_main(void *arg)
{
	struct stage *st = arg;

	CHECK_OBJ(st, STAGE_MAGIC);
	(void)pthread_setname_np(pthread_self(), "stage");
	AZ(pthread_mutex_lock(&st->lock));
	for (;;) {
		int64_t now_ms = clock_mono_ms(), due_ms = now_ms + STAGE_TICK_MS;
		struct timespec ts;

		if (stage_step(st, now_ms, &due_ms))
			continue;
		if (st->stop)
			break;
		ts = clock_deadline(due_ms - now_ms);
		(void)pthread_cond_timedwait(&st->news, &st->lock, &ts);
	}
	AZ(pthread_mutex_unlock(&st->lock));
	return NULL;
}

/* With APT_DEPOT_TEST_PASS_OVER=now in the environment a Release has waited by its second look. */
struct stage *
stage_start(struct cache *c)
{
	const char *test = getenv("APT_DEPOT_TEST_PASS_OVER");
	struct stage *st;

	OBJ_NEW(st, STAGE_MAGIC);
	if (st == NULL)
		return NULL;
	st->cache = c;
	st->repos = cache_parts(c)->repos;
	st->pass_over_ms = test != NULL && strcmp(test, "now") == 0 ? 0 : STAGE_PASS_OVER_MS;
	TAILQ_INIT(&st->jobs);
	TAILQ_INIT(&st->roots);
	TAILQ_INIT(&st->unread);
	AZ(pthread_mutex_init(&st->lock, NULL));
	AZ(pthread_mutex_init(&st->unread_lock, NULL));
	clock_cond_init(&st->news);
	for (; st->threads_n < STAGE_THREADS; st->threads_n++)
		if (pthread_create(&st->threads[st->threads_n], NULL, stage_main, st) != 0) {
			stage_stop(st);
			stage_free(&st);
			return NULL;
		}
	repo_each_missing_table(st->repos, stage_missing_table, st);
	return st;
}

void
stage_quiet(struct stage *st)
{
	CHECK_OBJ(st, STAGE_MAGIC);
	AZ(pthread_mutex_lock(&st->lock));
	st->quiet = true;
	AZ(pthread_cond_broadcast(&st->news));
	AZ(pthread_mutex_unlock(&st->lock));
}

void
stage_stop(struct stage *st)
{
	CHECK_OBJ(st, STAGE_MAGIC);
	AZ(pthread_mutex_lock(&st->lock));
	st->quiet = st->stop = true;
	AZ(pthread_cond_broadcast(&st->news));
	AZ(pthread_mutex_unlock(&st->lock));
	while (st->threads_n > 0)
		AZ(pthread_join(st->threads[--st->threads_n], NULL));
}

void
stage_free(struct stage **st_p)
{
	struct stage *st = *st_p;
	struct stage_root *root;
	struct stage_job *job;

	*st_p = NULL;
	if (st == NULL)
		return;
	CHECK_OBJ(st, STAGE_MAGIC);
	while ((job = TAILQ_FIRST(&st->jobs)) != NULL) {
		TAILQ_REMOVE(&st->jobs, job, link);
		MUST(job->f == NULL);
		stage_unread_end(st, &job->unread);
		free(job);
	}
	while ((root = TAILQ_FIRST(&st->roots)) != NULL) {
		TAILQ_REMOVE(&st->roots, root, link);
		free(root->text);
		free(root);
	}
	MUST(TAILQ_EMPTY(&st->unread));
	AZ(pthread_mutex_destroy(&st->unread_lock));
	AZ(pthread_cond_destroy(&st->news));
	AZ(pthread_mutex_destroy(&st->lock));
	OBJ_FREE(st);
}
