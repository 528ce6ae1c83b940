/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The verifier: one thread that computes digests behind the writers, reading
 * what was just written (page cache, still hot) in 256 KiB slices, round-
 * robin, finished small bodies first. On its way it journals prefix digests,
 * by which an unfinished body can be continued after a restart; and it reads
 * such a body through before a new flight builds on it.
 *
 * A flight is poked in (verify_poke) when it has news; it is on one of two
 * lists from then until there is nothing more to hash for the moment. Only
 * this thread touches a flight's digest state.
 */
#include <errno.h>
#include <unistd.h>

#include "cache/flight_priv.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	VERIFY_SLICE_BYTES = 256 << 10,
	VERIFY_SHORT_BYTES = 1 << 20,	/* finished bodies up to this go first */
};

#define VERIFY_MAGIC 0x7e81f101u

struct verify {
	uint32_t magic;
	struct cache *cache;
	pthread_t thread;
	pthread_mutex_t lock;		/* lists, in_verify, idle, stop, gone */
	pthread_cond_t news;
	TAILQ_HEAD(verify_list, flight) quick, slow;
	bool idle, stop;
	bool gone;			/* the thread: nothing is hashed any more */
	EVP_MD *md[4];			/* by enum aptfile_hash */
	unsigned char slice[VERIFY_SLICE_BYTES], before[VERIFY_SLICE_BYTES];
};

static const char *const verify_md_names[4] = {
	[APTFILE_MD5] = "MD5", [APTFILE_SHA1] = "SHA1",
	[APTFILE_SHA256] = "SHA256", [APTFILE_SHA512] = "SHA512",
};

void
verify_poke(struct verify *v, struct flight *f)
{
	if (v == NULL)
		return;		/* the cache could not be opened, or is closed to its last flights */
	CHECK_OBJ(v, VERIFY_MAGIC);
	AZ(pthread_mutex_lock(&v->lock));
	if (v->gone) {
		AZ(pthread_mutex_unlock(&v->lock));
		return;
	}
	if (!f->in_verify) {
		f->in_verify = true;
		(void)flight_ref(f);
		if (f->writer_done && flight_committed(f) <= VERIFY_SHORT_BYTES)
			TAILQ_INSERT_TAIL(&v->quick, f, verify_link);
		else
			TAILQ_INSERT_TAIL(&v->slow, f, verify_link);
	}
	f->verify_news = true;
	if (v->idle)
		AZ(pthread_cond_signal(&v->news));
	AZ(pthread_mutex_unlock(&v->lock));
}

/* Sets up the digests of a flight that is new here. */
static bool
verify_begin(struct verify *v, struct flight *f)
{
	if (f->sha256 != NULL)
		return true;
	f->sha256 = EVP_MD_CTX_new();
	if (f->sha256 == NULL || EVP_DigestInit_ex(f->sha256, v->md[APTFILE_SHA256], NULL) != 1)
		return false;
	if (f->expected && f->expect.hash != APTFILE_SHA256) {
		f->named = EVP_MD_CTX_new();
		if (f->named == NULL || EVP_DigestInit_ex(f->named, v->md[f->expect.hash], NULL) != 1)
			return false;
	}
	return true;
}

/* The digest of everything hashed so far, while hashing goes on. */
static bool
verify_prefix_digest(const struct flight *f, uint8_t out[32])
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	unsigned n = 0;
	bool ok = copy != NULL && EVP_MD_CTX_copy_ex(copy, f->sha256) == 1 &&
	    EVP_DigestFinal_ex(copy, out, &n) == 1 && n == 32;

	EVP_MD_CTX_free(copy);
	return ok;
}

/*
 * The object is fetched again because what readers have of it is wrong: where does the new body
 * first differ from that? Slice by slice behind the hashing, until it is known.
 */
static void
verify_compare(struct verify *v, struct flight *f, size_t n)
{
	const struct flight_body *shown = flight_shown(f);
	struct flight_span span;
	uint64_t visible = flight_visible(f);
	size_t i = 0;
	ssize_t k;

	if (shown == flight_body(f) || atomic_load(&f->diverges_at) != UINT64_MAX ||
	    f->hashed_bytes >= visible)
		return;
	if (n > visible - f->hashed_bytes)
		n = (size_t)(visible - f->hashed_bytes);
	span = flight_body_span(shown, f->hashed_bytes, n);
	if (span.p != NULL)
		memcpy(v->before, span.p, (size_t)(k = (ssize_t)span.n));
	else
		k = pread(span.fd, v->before, (size_t)span.n, (off_t)f->hashed_bytes);
	if (k < 0)
		k = 0;	/* what can't be read can't be vouched for */
	while (i < (size_t)k && v->before[i] == v->slice[i])
		i++;
	if (i < n)
		atomic_store(&f->diverges_at, f->hashed_bytes + i);
}

/* The next bytes to be hashed, into the slice; as pread. */
static ssize_t
verify_read(struct verify *v, const struct flight *f, size_t want)
{
	struct flight_span span = flight_body_span(flight_body(f), f->hashed_bytes, want);
	ssize_t n;

	if (span.p != NULL) {
		memcpy(v->slice, span.p, (size_t)span.n);
		return (ssize_t)span.n;
	}
	do
		n = pread(span.fd, v->slice, (size_t)span.n, (off_t)f->hashed_bytes);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Hashes up to max_n bytes from where the flight's digest stands; 0: end of file; -1: errno. */
static ssize_t
verify_hash(struct verify *v, struct flight *f, uint64_t max_n)
{
	size_t want = max_n < sizeof(v->slice) ? (size_t)max_n : sizeof(v->slice);
	ssize_t n;

	n = verify_read(v, f, want);
	if (n > 0) {
		verify_compare(v, f, (size_t)n);
		MUST(EVP_DigestUpdate(f->sha256, v->slice, (size_t)n) == 1);
		if (f->named != NULL)
			MUST(EVP_DigestUpdate(f->named, v->slice, (size_t)n) == 1);
		atomic_store(&f->hashed_bytes, f->hashed_bytes + (uint64_t)n);
		flight_hashed(f);
	}
	return n;
}

/* Journals the prefix digest when hashing has just reached a mark. */
static void
verify_mark(struct flight *f)
{
	uint8_t digest[32];

	if (f->hashed_bytes != flight_mark_end(f->marks_n))
		return;
	if (f->journal && f->keep && verify_prefix_digest(f, digest)) {
		index_partial_mark(cache_parts(f->cache)->index, &f->key, f->marks_n, digest);
		sync_part(cache_parts(f->cache)->sync);
	}
	f->marks_n++;
}

/* All bytes are hashed and the writer is done: the verdict. */
static void
verify_settle(struct flight *f)
{
	uint8_t named[EVP_MAX_MD_SIZE];
	char hex[KEY_HEX_BYTES];
	unsigned n = 0, named_n = 0;

	MUST(EVP_DigestFinal_ex(f->sha256, f->digest, &n) == 1 && n == 32);
	key_hex(f->digest, hex);
	if (f->expected) {
		if (f->named != NULL)
			MUST(EVP_DigestFinal_ex(f->named, named, &named_n) == 1);
		else
			memcpy(named, f->digest, named_n = 32);
		MUST(named_n <= sizeof(f->expect.digest));
		if (memcmp(named, f->expect.digest, named_n) != 0) {
			flight_digest_bad(f, hex);
			return;
		}
	}
	flight_digest_ok(f);
}

/*
 * Does the journal of the kept body still describe what is in the file? True once there is no more
 * to read.
 */
static bool
verify_partial_step(struct verify *v, struct flight *f)
{
	struct index_view *view;
	uint8_t want[32], got[32];
	uint64_t end = flight_mark_end(f->marks_n);
	bool agrees = false;

	if (f->partial_text == NULL) {
		f->partial_text = malloc(OBJECT_TEXT_MAX);
		view = index_view_open(cache_parts(f->cache)->index);
		if (f->partial_text == NULL || view == NULL || index_get_partial(view, &f->key,
		    &f->partial, f->partial_text) != REASON_OK)
			f->partial.marks_n = 0;
		index_view_close(&view);
	}
	if (f->marks_n >= f->partial.marks_n)
		return true;
	while (f->hashed_bytes < end) {
		if (verify_hash(v, f, end - f->hashed_bytes) <= 0)
			return true;
	}
	view = index_view_open(cache_parts(f->cache)->index);
	if (view != NULL)
		agrees = index_get_partial_mark(view, &f->key, f->marks_n, want) == REASON_OK &&
		    verify_prefix_digest(f, got) && memcmp(want, got, 32) == 0;
	index_view_close(&view);
	if (!agrees)
		return true;
	f->marks_n++;
	f->partial_bytes = end;
	return false;
}

/*
 * The kept body is read through: tells the flight how much of it is good.
 * Digest state past the last good mark is thrown away by hashing again from
 * the start: rare (a torn write), and simple.
 */
static void
verify_partial_end(struct verify *v, struct flight *f)
{
	flight_partial_f *done;
	struct flight_head h = {
		.total_bytes = f->partial.total_bytes,
		.terms.last_modified_s = f->partial.last_modified_s,
		.etag = f->partial.etag, .fields = f->partial.fields,
	};

	if (f->hashed_bytes != f->partial_bytes) {
		EVP_MD_CTX_free(f->sha256);
		EVP_MD_CTX_free(f->named);
		f->sha256 = f->named = NULL;
		f->hashed_bytes = 0;
		if (verify_begin(v, f))
			while (f->hashed_bytes < f->partial_bytes)
				if (verify_hash(v, f, f->partial_bytes - f->hashed_bytes) <= 0)
					break;
		if (f->hashed_bytes != f->partial_bytes)
			f->partial_bytes = 0;
	}
	log_info("flight=%llu unfinished body of %.*s: %llu bytes are proven good",
	    (unsigned long long)f->id, SLICE_ARG(f->url), (unsigned long long)f->partial_bytes);
	/* Unlinking takes its time: not under the lock, which writers take to poke. */
	if (f->partial_bytes == 0 && f->partial_done != NULL)
		flight_drop_partial(f);
	/* Under the lock, so that who calls it off knows whether the word was given. */
	AZ(pthread_mutex_lock(&v->lock));
	done = atomic_exchange(&f->partial_done, NULL);
	if (done != NULL)
		done(f->partial_arg, f->partial_bytes, &h);
	AZ(pthread_mutex_unlock(&v->lock));
}

bool
verify_cancel_partial(struct verify *v, struct flight *f)
{
	bool mine;

	CHECK_OBJ(v, VERIFY_MAGIC);
	AZ(pthread_mutex_lock(&v->lock));
	mine = atomic_exchange(&f->partial_done, NULL) != NULL;
	AZ(pthread_mutex_unlock(&v->lock));
	return mine;
}

enum verify_step { VERIFY_AGAIN, VERIFY_REST };

/* One slice of work on one flight. */
static enum verify_step
verify_step(struct verify *v, struct flight *f)
{
	uint64_t have, end;
	bool done;
	ssize_t n;

	if (flight_state(f) == FLIGHT_FAILED || atomic_load(&f->settled))
		return VERIFY_REST;
	if (atomic_load(&f->doubted)) {
		atomic_store(&f->settled, true);
		flight_doubt_settled(f);
		return VERIFY_REST;
	}
	if (!verify_begin(v, f)) {
		if (f->partial_done != NULL) {
			f->partial_bytes = 0;
			verify_partial_end(v, f);
		} else
			flight_verify_failed(f, REASON_NO_MEMORY);
		return VERIFY_REST;
	}
	if (f->partial_done != NULL) {
		if (!verify_partial_step(v, f))
			return VERIFY_AGAIN;
		verify_partial_end(v, f);
		return VERIFY_REST;	/* comes back when the writer has news */
	}
	if (!f->keep && !f->expected && !f->gated) {
		flight_not_digested(f);
		return VERIFY_REST;
	}
	/* before the state and committed: then these are final */
	done = atomic_load(&f->writer_done);
	if (flight_state(f) == FLIGHT_FAILED)
		return VERIFY_REST;
	have = flight_committed(f);
	if (f->hashed_bytes < have) {
		end = flight_mark_end(f->marks_n);
		n = verify_hash(v, f, (end < have ? end : have) - f->hashed_bytes);
		if (n <= 0) {
			flight_verify_failed(f, REASON_DISK_ERROR);
			return VERIFY_REST;
		}
		verify_mark(f);
		return VERIFY_AGAIN;
	}
	if (done) {
		atomic_store(&f->settled, true);
		verify_settle(f);
	}
	return VERIFY_REST;
}

/* Takes the next flight with work from its list: short ones first, the rest in turn (lock held). */
static struct flight *
verify_take(struct verify *v)
{
	struct flight *f = TAILQ_FIRST(&v->quick);

	if (f != NULL) {
		TAILQ_REMOVE(&v->quick, f, verify_link);
		return f;
	}
	f = TAILQ_FIRST(&v->slow);
	if (f != NULL)
		TAILQ_REMOVE(&v->slow, f, verify_link);
	return f;
}

/* The thread. A flight that waits for its writer leaves the list until it is poked again. */
static void *
verify_main(void *arg)
{
	struct verify *v = arg;
	struct flight *f;
	enum verify_step step;

	(void)pthread_setname_np(pthread_self(), "verifier");
	AZ(pthread_mutex_lock(&v->lock));
	for (;;) {
		f = verify_take(v);
		if (f == NULL) {
			if (v->stop)
				break;
			v->idle = true;
			AZ(pthread_cond_wait(&v->news, &v->lock));
			v->idle = false;
			continue;
		}
		f->verify_news = false;
		AZ(pthread_mutex_unlock(&v->lock));
		step = verify_step(v, f);
		AZ(pthread_mutex_lock(&v->lock));
		if (step == VERIFY_AGAIN || f->verify_news) {
			TAILQ_INSERT_TAIL(&v->slow, f, verify_link);
			continue;
		}
		f->in_verify = false;
		AZ(pthread_mutex_unlock(&v->lock));
		flight_unref(&f);
		AZ(pthread_mutex_lock(&v->lock));
	}
	v->gone = true;
	AZ(pthread_mutex_unlock(&v->lock));
	return NULL;
}

struct verify *
verify_start(struct cache *c)
{
	struct verify *v;
	unsigned i;

	OBJ_NEW(v, VERIFY_MAGIC);
	if (v == NULL)
		return NULL;
	v->cache = c;
	TAILQ_INIT(&v->quick);
	TAILQ_INIT(&v->slow);
	AZ(pthread_mutex_init(&v->lock, NULL));
	AZ(pthread_cond_init(&v->news, NULL));
	for (i = 0; i < NELEM(v->md); i++)
		v->md[i] = EVP_MD_fetch(NULL, verify_md_names[i], NULL);
	if (v->md[APTFILE_SHA256] == NULL ||
	    pthread_create(&v->thread, NULL, verify_main, v) != 0) {
		OBJ_FREE(v);
		return NULL;
	}
	return v;
}

void
verify_stop(struct verify *v)
{
	if (v == NULL)
		return;
	CHECK_OBJ(v, VERIFY_MAGIC);
	AZ(pthread_mutex_lock(&v->lock));
	v->stop = true;
	AZ(pthread_cond_signal(&v->news));
	AZ(pthread_mutex_unlock(&v->lock));
	AZ(pthread_join(v->thread, NULL));
}

void
verify_free(struct verify **v_p)
{
	struct verify *v = *v_p;
	unsigned i;

	*v_p = NULL;
	if (v == NULL)
		return;
	CHECK_OBJ(v, VERIFY_MAGIC);
	MUST(v->gone);
	for (i = 0; i < NELEM(v->md); i++)
		EVP_MD_free(v->md[i]);
	AZ(pthread_mutex_destroy(&v->lock));
	AZ(pthread_cond_destroy(&v->news));
	OBJ_FREE(v);
}
