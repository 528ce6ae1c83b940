/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The syncer: makes verified bodies durable before the index names them, on
 * its own thread, because a 5 GB fdatasync may hold up nobody's last bytes.
 * Bodies under 1 MiB are not synced one by one: once a second at most, one
 * syncfs covers all that came since, and the index notes how far that
 * reaches; after a power cut it hashes what is younger before its first hit.
 * The same covers what has come of larger ones, every ten seconds: what a
 * power cut costs of a long download.
 */
#include <errno.h>
#include <unistd.h>

#include "cache/flight_priv.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	SYNC_EACH_BYTES = 1 << 20,	/* from here on a body is synced by itself */
	SYNC_SMALL_MS = 1000,
	SYNC_PART_MS = 10000,
};

#define SYNC_MAGIC 0x51c0001fu

struct sync {
	uint32_t magic;
	struct cache *cache;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	TAILQ_HEAD(, flight) queue;
	int64_t synced_ms;
	int64_t due_ms;			/* when the next syncfs is; INT64_MAX: nothing needs one */
	bool stop;
};

/* A syncfs then, if not sooner (lock held). */
static void
sync_need(struct sync *s, int64_t due_ms)
{
	if (due_ms >= s->due_ms)
		return;
	s->due_ms = due_ms;
	AZ(pthread_cond_signal(&s->news));
}

void
sync_part(struct sync *s)
{
	CHECK_OBJ(s, SYNC_MAGIC);
	AZ(pthread_mutex_lock(&s->lock));
	sync_need(s, clock_mono_ms() + SYNC_PART_MS);
	AZ(pthread_mutex_unlock(&s->lock));
}

void
sync_submit(struct sync *s, struct flight *f)
{
	bool small = flight_committed(f) < SYNC_EACH_BYTES;

	CHECK_OBJ(s, SYNC_MAGIC);
	if (small)
		flight_store(f);
	AZ(pthread_mutex_lock(&s->lock));
	if (small)
		sync_need(s, s->synced_ms + SYNC_SMALL_MS);
	else {
		(void)flight_ref(f);
		TAILQ_INSERT_TAIL(&s->queue, f, sync_link);
		AZ(pthread_cond_signal(&s->news));
	}
	AZ(pthread_mutex_unlock(&s->lock));
}

/* Makes everything durable, at once. */
static void
sync_all(struct sync *s)
{
	const struct cache_parts *parts = cache_parts(s->cache);
	uint64_t point = index_sync_point(parts->index);

	if (syncfs(blobstore_dirfd(parts->blobs)) == 0)
		index_synced(parts->index, point);
	else
		log_warning("syncfs of the cache directory failed: %s", strerror(errno));
}

/* Sleeps until there is work; true when a syncfs is due (lock held). */
static bool
sync_wait(struct sync *s)
{
	struct timespec until;
	int64_t left_ms;

	while (TAILQ_EMPTY(&s->queue) && !s->stop) {
		if (s->due_ms == INT64_MAX) {
			AZ(pthread_cond_wait(&s->news, &s->lock));
			continue;
		}
		left_ms = s->due_ms - clock_mono_ms();
		if (left_ms <= 0)
			return true;
		until = clock_deadline(left_ms);
		(void)pthread_cond_timedwait(&s->news, &s->lock, &until);
	}
	/* A stop waits for short bodies; parts can do without: the machine goes on. */
	return s->due_ms - clock_mono_ms() <= (s->stop ? SYNC_SMALL_MS : 0);
}

/* The thread. */
static void *
sync_main(void *arg)
{
	struct sync *s = arg;
	struct flight *f;
	bool due;

	(void)pthread_setname_np(pthread_self(), "syncer");
	AZ(pthread_mutex_lock(&s->lock));
	for (;;) {
		due = sync_wait(s);
		f = TAILQ_FIRST(&s->queue);
		if (f == NULL && !due)
			break;
		if (f != NULL)
			TAILQ_REMOVE(&s->queue, f, sync_link);
		if (due)
			s->due_ms = INT64_MAX;
		AZ(pthread_mutex_unlock(&s->lock));
		if (f != NULL) {
			if (fdatasync(flight_fd(f)) != 0)
				flight_verify_failed(f, blob_errno_reason(errno));
			else
				flight_store(f);
			flight_unref(&f);
		}
		if (due)
			sync_all(s);
		AZ(pthread_mutex_lock(&s->lock));
		if (due) {
			s->synced_ms = clock_mono_ms();
			/* What has come meanwhile waits as long as anything else. */
			if (s->due_ms < s->synced_ms + SYNC_SMALL_MS)
				s->due_ms = s->synced_ms + SYNC_SMALL_MS;
		}
	}
	AZ(pthread_mutex_unlock(&s->lock));
	return NULL;
}

struct sync *
sync_start(struct cache *c)
{
	struct sync *s;

	OBJ_NEW(s, SYNC_MAGIC);
	if (s == NULL)
		return NULL;
	s->cache = c;
	s->due_ms = INT64_MAX;
	TAILQ_INIT(&s->queue);
	AZ(pthread_mutex_init(&s->lock, NULL));
	clock_cond_init(&s->news);
	if (pthread_create(&s->thread, NULL, sync_main, s) != 0)
		OBJ_FREE(s);
	return s;
}

void
sync_stop(struct sync **s_p)
{
	struct sync *s = *s_p;

	*s_p = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, SYNC_MAGIC);
	AZ(pthread_mutex_lock(&s->lock));
	s->stop = true;
	AZ(pthread_cond_signal(&s->news));
	AZ(pthread_mutex_unlock(&s->lock));
	AZ(pthread_join(s->thread, NULL));
	MUST(TAILQ_EMPTY(&s->queue));
	AZ(pthread_mutex_destroy(&s->lock));
	AZ(pthread_cond_destroy(&s->news));
	OBJ_FREE(s);
}
