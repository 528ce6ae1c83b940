/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The scrubber thread. Size and mtime are looked at whenever a body is
 * opened; a bit that flipped on the disk, or a file that was changed and
 * given its old mtime, shows only when the bytes are hashed again. That is
 * what a pass does: every blob once, in the order of digests, from a place
 * drawn anew for each pass (a depot that is restarted daily would else check
 * the same ones again and again).
 *
 * It must not be felt: idle I/O class, lowest priority, SCRUB_RATE_BYTES a
 * second. And it must not cost anybody a warm page: of each window of a file
 * it notes which pages are in memory before it reads, and afterwards lets go
 * of just those that were not.
 *
 * A blob may be evicted, or come anew, while it is read: a verdict counts
 * only if the file still has its name and the index its record.
 *
 * Life: scrub_start when the index is open, scrub_stop before it closes.
 */
#include "cache/scrub.h"
#include "cache/blob.h"
#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"
#include "include/obj.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SCRUB_MAGIC 0x5c12ab01u

enum {
	SCRUB_STEP_N = 256,		/* records per short transaction */
	SCRUB_WINDOW_BYTES = 1 << 20,	/* read at once */
	SCRUB_PAGE_MIN = 4096,
	SCRUB_FILE_COST = 64 << 10,	/* what opening a file counts as, in bytes */
	SCRUB_DEBT_BYTES = 1 << 20,	/* read before it pauses */
	SCRUB_IOPRIO_IDLE = 3 << 13,	/* IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0) */
	SCRUB_IOPRIO_PROCESS = 1,
};

/* Some blobs of the walk, copied out of the index. */
struct scrub_step {
	unsigned n;
	struct {
		uint8_t digest[32];
		struct blob_rec rec;
	} v[SCRUB_STEP_N];
};

/* Owned by the cache; the thread is its own, others come through lock. */
struct scrub {
	uint32_t magic;
	struct scrub_conf conf;
	struct index_view *view;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool stop;
	/* The thread's own. */
	uint64_t debt_bytes;		/* read since the last pause */
	uint64_t pass_blobs_n, pass_bytes, pass_damaged_n;
	unsigned char *window;
	struct scrub_step step;
};

/* What came of reading a blob. */
enum scrub_verdict { SCRUB_GOOD, SCRUB_DAMAGED, SCRUB_UNKNOWN };

/* ---- pace ---- */

/* Sleeps for ms or until it is told to stop (false). */
static bool
scrub_sleep(struct scrub *s, int64_t ms)
{
	struct timespec until = clock_deadline(ms);
	bool go_on;
	int rc = 0;

	AZ(pthread_mutex_lock(&s->lock));
	while (!s->stop && rc == 0)
		rc = pthread_cond_timedwait(&s->news, &s->lock, &until);
	MUST(rc == 0 || rc == ETIMEDOUT);
	go_on = !s->stop;
	AZ(pthread_mutex_unlock(&s->lock));
	return go_on;
}

static bool
scrub_is_stopping(struct scrub *s)
{
	bool stop;

	AZ(pthread_mutex_lock(&s->lock));
	stop = s->stop;
	AZ(pthread_mutex_unlock(&s->lock));
	return stop;
}

/* Notes bytes read and pauses for what the rate makes of them; false: stop. */
static bool
scrub_pay(struct scrub *s, uint64_t bytes)
{
	uint64_t debt;

	s->debt_bytes += bytes;
	if (s->conf.rate_bytes == 0)
		return !scrub_is_stopping(s);
	if (s->debt_bytes < SCRUB_DEBT_BYTES)
		return true;
	debt = s->debt_bytes;
	s->debt_bytes = 0;
	return scrub_sleep(s, (int64_t)(debt * 1000 / s->conf.rate_bytes));
}

/* ---- reading without a trace ---- */

/* Which pages of [at, at + n) are in memory? All of them, where the system won't say. */
static void
scrub_find_resident(int fd, uint64_t at, size_t n, unsigned char *resident, size_t pages_n)
{
	void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, (off_t)at);

	if (map == MAP_FAILED || mincore(map, n, resident) != 0)
		memset(resident, 1, pages_n);
	if (map != MAP_FAILED)
		(void)munmap(map, n);
}

/* Lets go of the pages that were not there before. */
static void
scrub_let_go(int fd, uint64_t at, const unsigned char *resident, size_t pages_n, size_t page)
{
	size_t from, to;

	for (from = 0; from < pages_n; from = to + 1) {
		for (to = from; to < pages_n && (resident[to] & 1) == 0; to++)
			;
		if (to > from)
			(void)posix_fadvise(fd, (off_t)(at + from * page),
			    (off_t)((to - from) * page), POSIX_FADV_DONTNEED);
	}
}

/* Reads n bytes at `at` into the window; 0, or an errno (EIO also where the file is shorter). */
static int
scrub_read(struct scrub *s, int fd, uint64_t at, size_t n)
{
	unsigned char resident[SCRUB_WINDOW_BYTES / SCRUB_PAGE_MIN];
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages_n = (n + page - 1) / page, got = 0;
	int err = 0;

	MUST(pages_n <= sizeof(resident));
	scrub_find_resident(fd, at, n, resident, pages_n);
	while (got < n && err == 0) {
		ssize_t k = pread(fd, s->window + got, n - got, (off_t)(at + got));

		if (k > 0)
			got += (size_t)k;
		else if (k == 0)
			err = EIO;
		else if (errno != EINTR)
			err = errno;
	}
	scrub_let_go(fd, at, resident, pages_n, page);
	return err;
}

/* Hashes the open body. UNKNOWN: told to stop, or the trouble is not the body's. */
static enum scrub_verdict
scrub_hash(struct scrub *s, int fd, const uint8_t digest[32], uint64_t size_bytes)
{
	enum scrub_verdict verdict = SCRUB_UNKNOWN;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char found[EVP_MAX_MD_SIZE];
	unsigned found_n = 0;
	uint64_t at = 0;
	size_t n;
	int err;

	if (ctx == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
		goto out;
	/* No read-ahead: its pages would not be known as ours. */
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (; at < size_bytes; at += n) {
		n = size_bytes - at < SCRUB_WINDOW_BYTES ? (size_t)(size_bytes - at) :
		    SCRUB_WINDOW_BYTES;
		err = scrub_read(s, fd, at, n);
		if (err != 0) {
			verdict = err == EIO ? SCRUB_DAMAGED : SCRUB_UNKNOWN;
			goto out;
		}
		if (EVP_DigestUpdate(ctx, s->window, n) != 1)
			goto out;
		COUNT_ADD(scrubbed_bytes_total, n);
		s->pass_bytes += n;
		if (!scrub_pay(s, n))
			goto out;
	}
	if (EVP_DigestFinal_ex(ctx, found, &found_n) == 1)
		verdict = found_n == 32 && memcmp(found, digest, 32) == 0 ? SCRUB_GOOD :
		    SCRUB_DAMAGED;
out:
	EVP_MD_CTX_free(ctx);
	return verdict;
}

/* ---- one blob ---- */

/* Record and file go; whoever wants it next fetches it. */
static void
scrub_condemn(struct scrub *s, const uint8_t digest[32], const char *why)
{
	char hex[KEY_HEX_BYTES];

	key_hex(digest, hex);
	log_warning("cached body %s %s: dropped, to be fetched again when it is asked for; the "
	    "disk may be failing, or somebody writes below cache_dir", hex, why);
	COUNT(blobs_damaged_total);
	s->pass_damaged_n++;
	index_drop_blob(s->conf.index, digest);
}

/* Is the open file still the one that the store knows by this name? */
static bool
scrub_is_current(struct scrub *s, const uint8_t digest[32], int fd)
{
	struct blob_rec rec;
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_nlink > 0 &&
	    index_get_blob(s->view, digest, &rec) == REASON_OK;
}

/* Compares an open body with its record and its name. */
static void
scrub_check_open(struct scrub *s, const uint8_t digest[32], const struct blob_rec *rec, int fd,
    const struct blob_stat *st)
{
	enum scrub_verdict verdict = SCRUB_DAMAGED;
	bool same_size = st->size_bytes == rec->size_bytes;

	if (same_size)
		verdict = scrub_hash(s, fd, digest, st->size_bytes);
	if (verdict == SCRUB_UNKNOWN)
		return;
	COUNT(scrubbed_blobs_total);
	s->pass_blobs_n++;
	if (verdict == SCRUB_DAMAGED && scrub_is_current(s, digest, fd))
		scrub_condemn(s, digest, same_size ? "has another digest, or can't be read" :
		    "has another size than was stored");
	else if (verdict == SCRUB_GOOD && (rec->suspect || st->mtime_ns != rec->mtime_ns))
		index_clear_suspect(s->conf.index, digest, st->mtime_ns);
}

/* Reads one blob again; true while the pass may go on. */
static bool
scrub_check(struct scrub *s, const uint8_t digest[32], struct blob_rec *rec)
{
	struct blob_stat st;
	enum reason r;
	unsigned tries;
	int fd = -1;

	/* Not there, with a record: it may have gone and come back in between. */
	for (tries = 0; tries < 2; tries++) {
		r = blob_open(s->conf.blobs, digest, &fd, &st);
		if (r != REASON_NOT_FOUND)
			break;
		if (index_get_blob(s->view, digest, rec) != REASON_OK)
			return !scrub_is_stopping(s);
	}
	if (r == REASON_OK) {
		scrub_check_open(s, digest, rec, fd, &st);
		(void)close(fd);
	} else if (r == REASON_NOT_FOUND)
		scrub_condemn(s, digest, "is missing");
	return scrub_pay(s, SCRUB_FILE_COST);
}

/* ---- a pass ---- */

static void
scrub_collect_each(void *arg, const uint8_t digest[32], const struct blob_rec *rec)
{
	struct scrub_step *step = arg;

	MUST(step->n < SCRUB_STEP_N);
	memcpy(step->v[step->n].digest, digest, 32);
	step->v[step->n++].rec = *rec;
}

/*
 * Checks the blobs behind `after` (NULL: all) up to and with `until` (NULL: to the end). False:
 * stopped, or the index can't be read.
 */
static bool
scrub_walk(struct scrub *s, const uint8_t *after, const uint8_t *until)
{
	uint8_t place[32], last[32];
	uint32_t seen_n = 0;
	unsigned i;

	do {
		s->step.n = 0;
		if (index_walk_blobs(s->view, after, SCRUB_STEP_N, scrub_collect_each, &s->step,
		    last, &seen_n) != REASON_OK)
			return false;
		for (i = 0; i < s->step.n; i++) {
			if (until != NULL && memcmp(s->step.v[i].digest, until, 32) > 0)
				return true;
			if (!scrub_check(s, s->step.v[i].digest, &s->step.v[i].rec))
				return false;
		}
		memcpy(place, last, sizeof(place));
		after = place;
	} while (seen_n == SCRUB_STEP_N);
	return true;
}

/* Every blob once. */
static void
scrub_pass(struct scrub *s)
{
	int64_t began_ms = clock_mono_ms();
	uint8_t start[32] = {0};

	(void)RAND_bytes(start, sizeof(start));
	s->pass_blobs_n = s->pass_bytes = s->pass_damaged_n = 0;
	if (!scrub_walk(s, start, NULL) || !scrub_walk(s, NULL, start))
		return;
	index_flush(s->conf.index);	/* what was dropped is gone when the pass counts as done */
	COUNT(scrub_passes_total);
	if (s->pass_blobs_n > 0)
		log_info("scrubbed %llu bodies, %llu MiB, in %lld s: %llu damaged",
		    (unsigned long long)s->pass_blobs_n,
		    (unsigned long long)(s->pass_bytes >> 20),
		    (long long)((clock_mono_ms() - began_ms) / 1000),
		    (unsigned long long)s->pass_damaged_n);
}

/* ---- the thread ---- */

/* Out of everybody's way, as far as the system lets us. */
static void
scrub_step_back(void)
{
	(void)setpriority(PRIO_PROCESS, 0, 19);		/* on Linux: of this thread */
	(void)syscall(SYS_ioprio_set, SCRUB_IOPRIO_PROCESS, 0, SCRUB_IOPRIO_IDLE);
}

static void *
scrub_main(void *arg)
{
	struct scrub *s = arg;
	int64_t due_ms, now_ms = clock_mono_ms();

	CHECK_OBJ(s, SCRUB_MAGIC);
	(void)pthread_setname_np(pthread_self(), "scrubber");
	scrub_step_back();
	due_ms = now_ms + s->conf.first_ms;
	while (now_ms >= due_ms || scrub_sleep(s, due_ms - now_ms)) {
		if (scrub_is_stopping(s))
			break;
		due_ms = clock_mono_ms() + s->conf.every_ms;
		scrub_pass(s);
		now_ms = clock_mono_ms();
	}
	return NULL;
}

/* Frees what scrub_start made. */
static void
scrub_free(struct scrub *s)
{
	index_view_close(&s->view);
	AZ(pthread_cond_destroy(&s->news));
	AZ(pthread_mutex_destroy(&s->lock));
	free(s->window);
	OBJ_FREE(s);
}

struct scrub *
scrub_start(const struct scrub_conf *conf)
{
	struct scrub *s;

	OBJ_NEW(s, SCRUB_MAGIC);
	if (s == NULL)
		return NULL;
	s->conf = *conf;
	AZ(pthread_mutex_init(&s->lock, NULL));
	clock_cond_init(&s->news);
	s->window = malloc(SCRUB_WINDOW_BYTES);
	s->view = index_view_open(conf->index);
	if (s->window != NULL && s->view != NULL &&
	    pthread_create(&s->thread, NULL, scrub_main, s) == 0)
		return s;
	scrub_free(s);
	return NULL;
}

void
scrub_stop(struct scrub **s_p)
{
	struct scrub *s = *s_p;

	*s_p = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, SCRUB_MAGIC);
	AZ(pthread_mutex_lock(&s->lock));
	s->stop = true;
	AZ(pthread_cond_signal(&s->news));
	AZ(pthread_mutex_unlock(&s->lock));
	AZ(pthread_join(s->thread, NULL));
	scrub_free(s);
}
