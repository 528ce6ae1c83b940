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
 * upstream agrees with itself. A root without any generation is tried for
 * three seconds; then its clients get what upstream has.
 *
 * Here is also what else may wait: tables of indexes that come later, and
 * bodies that are unpacked from another compression. One job at a time works
 * on a root.
 */
#include "cache/stage.h"

#include <errno.h>
#include <openssl/evp.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

#define STAGE_MAGIC 0x57a6e001u

enum {
	STAGE_THREADS = 16,		/* a root whose upstream hangs keeps one for 20 s */
	STAGE_TABLE_THREADS = 4,	/* of them for tables alone: those take the processor */
	STAGE_FETCH_MS = 20000,		/* for a set to come */
	STAGE_FIRST_MS = 3000,		/* a root's first clients wait so long for agreement */
	STAGE_RETRY_MS = 500,		/* between two looks: at most two a second */
	STAGE_PROBE_MS = 1000,		/* first background look after a disagreement; then doubled */
	STAGE_PROBE_MAX_MS = 30000,
	STAGE_BROKEN_MS = 60 * 1000,	/* a Release with an unusable index is not read again */
	STAGE_ASKED_MS = 3600 * 1000,	/* nobody asked for so long: no more looks */
	STAGE_TICK_MS = 10000,		/* expiry, Valid-Until */
	STAGE_ROOTS_MAX = REPO_ROOTS_MAX,
	STAGE_JOBS_MAX = 65536,
};
/* Where a Release does not say how large an index is when unpacked. */
static const uint64_t STAGE_UNPACKED_MAX = UINT64_C(4) << 30;

/* What is going on at a root. Kept until the end. */
struct stage_root {
	TAILQ_ENTRY(stage_root) link;
	char *text;
	bool busy;			/* a job works on it */
	enum repo_file which;		/* what its clients begin with */
	int64_t first_ms, asked_ms;
	int64_t tried_ms;		/* when its set was last compared */
	int64_t probed_ms;		/* when it was last looked at in the background; 0: never */
	bool disagrees;
	uint8_t identity[32];		/* of the Release that disagrees */
	int64_t broken_ms;		/* when a Release had an index that can't be used; 0: never */
	uint8_t broken[32];		/* its identity */
	char broken_why[512];
	char why[512];
	int64_t probe_ms, backoff_ms;	/* due; 0: none */
};

enum stage_kind { STAGE_RELEASE, STAGE_TABLE, STAGE_DERIVE };

struct stage_job {
	TAILQ_ENTRY(stage_job) link;
	enum stage_kind kind;
	struct flight *f;		/* RELEASE, DERIVE: a reference */
	struct stage_root *root;	/* RELEASE */
	uint8_t digest[32];		/* TABLE, DERIVE: of the body to read */
	enum unpack_kind unpack;	/* DERIVE */
};

TAILQ_HEAD(stage_jobs, stage_job);

struct stage {
	uint32_t magic;
	struct cache *cache;
	struct repos *repos;
	pthread_t threads[STAGE_THREADS];
	unsigned threads_n;
	pthread_mutex_t lock;		/* everything below */
	pthread_cond_t news;
	bool quiet, stop;
	struct stage_jobs jobs;
	unsigned jobs_n, roots_n;
	TAILQ_HEAD(, stage_root) roots;
	int64_t tick_ms;
	bool ticking;
	uint8_t building[STAGE_THREADS][32];	/* tables under way */
	unsigned building_n;
	unsigned tables_n;		/* threads that work on tables alone */
};

/* ---- waiting for flights ---- */

/* Where flights tell a stage thread that something happened. */
struct stage_bell {
	pthread_mutex_t lock;
	pthread_cond_t rung;
	bool ringing;
};

struct stage_reader {
	struct flight_reader reader;
	struct stage_bell *bell;
	char *path;			/* what is fetched, for words; malloced */
	bool optional;			/* no earlier generation had it: it may be missing */
};

static void
stage_ring(struct flight_reader *r)
{
	struct stage_bell *bell = CONTAINER_OF(r, struct stage_reader, reader)->bell;

	AZ(pthread_mutex_lock(&bell->lock));
	bell->ringing = true;
	AZ(pthread_cond_signal(&bell->rung));
	AZ(pthread_mutex_unlock(&bell->lock));
}

static void
stage_bell_init(struct stage_bell *bell)
{
	pthread_condattr_t attr;

	AZ(pthread_mutex_init(&bell->lock, NULL));
	AZ(pthread_condattr_init(&attr));
	AZ(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	AZ(pthread_cond_init(&bell->rung, &attr));
	AZ(pthread_condattr_destroy(&attr));
	bell->ringing = false;
}

static void
stage_bell_fini(struct stage_bell *bell)
{
	AZ(pthread_cond_destroy(&bell->rung));
	AZ(pthread_mutex_destroy(&bell->lock));
}

static struct timespec
stage_deadline(int64_t at_ms)
{
	return (struct timespec){.tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000};
}

/* Sleeps until it rings or the time comes. */
static void
stage_bell_wait(struct stage_bell *bell, int64_t until_ms)
{
	struct timespec ts = stage_deadline(until_ms);

	AZ(pthread_mutex_lock(&bell->lock));
	while (!bell->ringing &&
	    pthread_cond_timedwait(&bell->rung, &bell->lock, &ts) != ETIMEDOUT)
		;
	bell->ringing = false;
	AZ(pthread_mutex_unlock(&bell->lock));
}

/* Is there nothing more to wait for? If so far not, the bell will ring. */
static bool
stage_reader_settled(struct stage_reader *sr)
{
	struct flight *f = sr->reader.f;

	/* Its state may move between the two looks: then it would not ring. */
	while (!flight_wait(&sr->reader, UINT64_MAX, flight_state(f)))
		;
	return flight_state(f) == FLIGHT_FAILED || flight_state(f) == FLIGHT_CONFIRMED ||
	    flight_is_settled(f);
}

/* Waits until the flights are stored or have failed; false: not all in time. */
static bool
stage_wait_all(struct stage *st, struct stage_bell *bell, struct stage_reader *v, unsigned n,
    int64_t until_ms)
{
	(void)st;
	for (;;) {
		unsigned open_n = 0;

		for (unsigned i = 0; i < n; i++)
			open_n += v[i].reader.f != NULL && !stage_reader_settled(&v[i]);
		if (open_n == 0)
			return true;
		if (clock_mono_ms() >= until_ms)
			return false;
		stage_bell_wait(bell, until_ms);
	}
}

/* ---- the set of a Release ---- */

enum stage_verdict { STAGE_AGREES, STAGE_DISAGREES, STAGE_UNREACHABLE, STAGE_BROKEN };

/* One staging, on its thread's stack but for the readers. */
struct stage_try {
	struct stage *st;
	struct slice root;
	const struct release *release;
	struct repo_gen *current;	/* a reference, or NULL */
	struct index_view *view;
	struct stage_bell bell;
	bool no_cache;
	int64_t first_ms;		/* when the root's first clients began to wait */
	/* Release.gpg beside a Release, once it was asked for. */
	bool has_signature;
	uint8_t signature[32];
	int signature_fd;		/* -1: none */
	struct sign_signers signers;	/* of this Release */
	unsigned n;
	struct stage_reader v[REPO_MEMBERS_MAX + 1];
	char *why;
	size_t why_cap;
};

/* "https://host/root/" and a path; false: too long. */
static bool
stage_url(struct slice root, struct slice path, char out[8192], struct slice *url)
{
	int n = snprintf(out, 8192, "%.*s%.*s", SLICE_ARG(root), SLICE_ARG(path));

	*url = (struct slice){out, n > 0 && n < 8192 ? (size_t)n : 0};
	return url->n != 0;
}

/* Is a body with this digest stored that may serve this URL? Then the version's record is made. */
static bool
stage_is_stored(struct stage_try *t, struct slice url, const struct key *key,
    const struct flight_expect *e)
{
	char text[OBJECT_TEXT_MAX];
	struct object_rec rec;
	struct blob_rec blob;

	if (index_get_object(t->view, key, &rec, text) == REASON_OK)
		return index_get_blob(t->view, rec.digest, &blob) == REASON_OK;
	if (e->hash != APTFILE_SHA256 || index_get_blob(t->view, e->digest, &blob) != REASON_OK ||
	    blob.restricted)
		return false;
	return cache_link_digest(t->st->cache, url, key, e->digest, blob.size_bytes);
}

/* Was this path's file of the current generation ever stored? */
static bool
stage_was_stored(struct stage_try *t, struct slice path, struct slice url)
{
	const struct release_file *rf = t->current != NULL ?
	    release_find(repo_gen_release(t->current), path) : NULL;
	char text[OBJECT_TEXT_MAX];
	struct flight_expect e;
	struct object_rec rec;
	struct blob_rec blob;
	struct key key;

	if (rf == NULL || !repo_file_expect(rf, &e))
		return false;
	if (e.hash == APTFILE_SHA256 && index_get_blob(t->view, e.digest, &blob) == REASON_OK)
		return true;
	repo_version_key(url, &e, &key);
	return index_get_object(t->view, &key, &rec, text) == REASON_OK;
}

/* Starts the fetch of one file, unless it is here. */
static void
stage_fetch(struct stage_try *t, struct slice path, const struct flight_expect *e)
{
	struct stage_reader *sr = &t->v[t->n];
	char text[8192];
	struct slice url;
	struct key key;
	struct flight *f;

	if (!stage_url(t->root, path, text, &url))
		return;
	if (e != NULL)
		repo_version_key(url, e, &key);
	else
		key_of_text(url, &key);
	if (e != NULL && stage_is_stored(t, url, &key, e))
		return;
	f = cache_start(t->st->cache, url, &key, e, t->release, t->no_cache);
	if (f == NULL)
		return;
	memset(sr, 0, sizeof(*sr));
	sr->bell = &t->bell;
	sr->reader.wake = stage_ring;
	sr->path = strndup(path.p, path.n);
	sr->optional = !stage_was_stored(t, path, url);
	flight_attach(f, &sr->reader, false);
	flight_unref(&f);
	t->n++;
}

/* Which indexes belong to this root's generations; paths are the caller's to free. */
static unsigned
stage_choose_set(struct stage_try *t, char *paths[REPO_MEMBERS_MAX])
{
	unsigned n = repo_members(t->st->repos, t->root, t->release, paths);
	const struct release_file *rf;

	/*
	 * A flat repository has one index that matters, also when nobody asked for any lately;
	 * below dists/ only clients know which.
	 */
	if (n > 0 ||
	    memmem(t->root.p, t->root.n, "/dists/", sizeof("/dists/") - 1) != NULL)
		return n;
	rf = release_first_packages(t->release);
	if (rf != NULL && (paths[0] = strndup(rf->path.p, rf->path.n)) != NULL)
		n = 1;
	return n;
}

/* What became of one member. */
static enum stage_verdict
stage_judge_member(struct stage_try *t, struct stage_reader *sr)
{
	struct flight *f = sr->reader.f;
	enum reason r;

	if (flight_state(f) != FLIGHT_FAILED && flight_is_settled(f))
		return STAGE_AGREES;
	if (flight_state(f) != FLIGHT_FAILED && t->current == NULL)
		return STAGE_AGREES;	/* on its way: compared when it is asked for */
	if (flight_state(f) != FLIGHT_FAILED) {
		(void)snprintf(t->why, t->why_cap, "%s has not come within %d s",
		    sr->path, STAGE_FETCH_MS / 1000);
		return STAGE_UNREACHABLE;
	}
	r = flight_reason(f);
	if ((r == REASON_UP_NOT_FOUND || r == REASON_UP_GONE) && sr->optional)
		return STAGE_AGREES;	/* listed, but never there: many publishers do that */
	(void)snprintf(t->why, t->why_cap, "%s: %s", sr->path, flight_detail(f));
	return r == REASON_UP_DIGEST || r == REASON_UP_NOT_FOUND || r == REASON_UP_GONE ||
	    r == REASON_UP_CHANGED ? STAGE_DISAGREES : STAGE_UNREACHABLE;
}

/* Lets go of what was fetched. */
static void
stage_drop_readers(struct stage_try *t)
{
	for (unsigned i = 0; i < t->n; i++) {
		flight_detach(&t->v[i].reader);
		free(t->v[i].path);
	}
	t->n = 0;
}

/* ---- tables ---- */

/* Is the table of this index being made? If not, it is now by the caller. */
static bool
stage_claim_table(struct stage *st, const uint8_t sha256[32])
{
	bool mine;

	AZ(pthread_mutex_lock(&st->lock));
	mine = st->building_n < STAGE_THREADS;
	for (unsigned i = 0; i < st->building_n; i++)
		mine &= memcmp(st->building[i], sha256, 32) != 0;
	if (mine)
		memcpy(st->building[st->building_n++], sha256, 32);
	AZ(pthread_mutex_unlock(&st->lock));
	return mine;
}

static void
stage_release_table(struct stage *st, const uint8_t sha256[32])
{
	AZ(pthread_mutex_lock(&st->lock));
	for (unsigned i = 0; i < st->building_n; i++) {
		if (memcmp(st->building[i], sha256, 32) != 0)
			continue;
		memcpy(st->building[i], st->building[--st->building_n], 32);
		break;
	}
	AZ(pthread_cond_broadcast(&st->news));
	AZ(pthread_mutex_unlock(&st->lock));
}

/* How much may come out of an index; a Release that does not say gets room for a hundredfold. */
static uint64_t
stage_unpacked_max(uint64_t said_bytes, uint64_t packed_bytes)
{
	uint64_t guess = packed_bytes < STAGE_UNPACKED_MAX / 100 ? packed_bytes * 100 + (1 << 20) :
	    STAGE_UNPACKED_MAX;

	return said_bytes != 0 ? said_bytes : guess;
}

/* Reads a stored index into its table, which nobody looks at yet. */
static enum reason
stage_build_table(struct stage *st, const uint8_t sha256[32], struct slice path,
    uint64_t said_bytes, struct pkgtable_stats *stats, char *why, size_t why_cap)
{
	const struct cache_parts *parts = cache_parts(st->cache);
	struct release_index ri;
	struct blob_stat bs;
	char hex[KEY_HEX_BYTES];
	enum reason r;
	int fd = -1;

	release_index_of(&ri, path);
	key_hex(sha256, hex);
	r = blob_open(parts->blobs, sha256, &fd, &bs);
	if (r != REASON_OK) {
		(void)snprintf(why, why_cap, "its body can't be read: %s", reason_text(r));
		return r;
	}
	r = pkgtable_build(repo_tables_dirfd(parts->repos), hex, fd, ri.kind,
	    ri.list == RELEASE_SOURCES, stage_unpacked_max(said_bytes, bs.size_bytes), stats, why,
	    why_cap);
	(void)close(fd);
	if (r != REASON_OK)
		return r;
	COUNT(tables_built_total);
	log_info("%.*s: %llu files of %llu stanzas have their digests", SLICE_ARG(path),
	    (unsigned long long)stats->entries_n, (unsigned long long)stats->stanzas_n);
	return REASON_OK;
}

/* Does what the index says agree with itself and with what else the Release lists? */
static bool
stage_table_is_sound(const struct release *r, const struct release_index *ri,
    const struct pkgtable_stats *stats, char *why, size_t why_cap)
{
	const struct release_file *plain = release_find(r, ri->stem);

	if (plain != NULL && plain->has_sha256 &&
	    memcmp(plain->sha256, stats->unpacked_sha256, 32) != 0) {
		(void)snprintf(why, why_cap, "it unpacks to something else than the %.*s that is "
		    "listed beside it", SLICE_ARG(ri->stem));
		return false;
	}
	if (stats->ambiguous_n == 0)
		return true;
	(void)snprintf(why, why_cap, "it gives different digests or sizes for %llu of its files",
	    (unsigned long long)stats->ambiguous_n);
	return false;
}

/* The table of one member of a set; BROKEN: the index can't be read, or contradicts itself. */
static enum stage_verdict
stage_read_member(struct stage_try *t, const char *path)
{
	struct stage *st = t->st;
	const struct release_file *rf = release_find(t->release, slice_of(path));
	struct pkgtable_stats stats;
	struct release_index ri;
	char why[PKGTABLE_WHY_BYTES] = "";
	enum reason r;

	if (rf == NULL || !rf->has_sha256)
		return STAGE_AGREES;	/* SHA-512 alone: once it is adopted, by what is stored */
	release_index_of(&ri, rf->path);
	if (ri.list == RELEASE_OTHER || ri.kind == UNPACK_UNKNOWN ||
	    repo_has_table(st->repos, rf->sha256) || !stage_claim_table(st, rf->sha256))
		return STAGE_AGREES;
	r = stage_build_table(st, rf->sha256, rf->path,
	    release_unpacked_bytes(t->release, rf), &stats, why, sizeof(why));
	if (r == REASON_OK && !stage_table_is_sound(t->release, &ri, &stats, why, sizeof(why)))
		r = REASON_LIST_BAD;
	if (r == REASON_OK)
		r = repo_table_attach(st->repos, rf->sha256);
	stage_release_table(st, rf->sha256);
	if (r != REASON_LIST_BAD)
		return STAGE_AGREES;	/* a full disk, say: packages go unchecked, clients don't */
	(void)snprintf(t->why, t->why_cap, "%s can't be used: %s", path, why);
	return STAGE_BROKEN;
}

/*
 * Many publishers list an index without compression that they don't have:
 * what stands in for it is fetched, and it is unpacked when it is asked for.
 */
static void
stage_stand_in(const struct release *r, char **path)
{
	static const char *const suffixes[] = {".xz", ".gz", ".zst", ".bz2"};
	struct release_index ri;
	char *packed;

	release_index_of(&ri, slice_of(*path));
	for (unsigned i = 0; ri.kind == UNPACK_PLAIN && i < NELEM(suffixes); i++) {
		if (asprintf(&packed, "%s%s", *path, suffixes[i]) < 0)
			return;
		if (release_find(r, slice_of(packed)) == NULL) {
			free(packed);
			continue;
		}
		free(*path);
		*path = packed;
		return;
	}
}

/* When a set has to be here: first visitors are not held for what is merely slow. */
static int64_t
stage_set_deadline(const struct stage_try *t)
{
	int64_t now_ms = clock_mono_ms();

	if (t->current != NULL)
		return now_ms + STAGE_FETCH_MS;
	return t->first_ms + STAGE_FIRST_MS > now_ms + STAGE_RETRY_MS ?
	    t->first_ms + STAGE_FIRST_MS : now_ms + STAGE_RETRY_MS;
}

/* Fetches the set once, compares, reads. */
static enum stage_verdict
stage_compare_set(struct stage_try *t)
{
	char *paths[REPO_MEMBERS_MAX];
	enum stage_verdict v = STAGE_AGREES, one;
	unsigned n = stage_choose_set(t, paths), i;
	struct flight_expect e;

	for (i = 0; i < n; i++) {
		const struct release_file *rf;

		stage_stand_in(t->release, &paths[i]);
		rf = release_find(t->release, slice_of(paths[i]));
		if (rf != NULL && repo_file_expect(rf, &e))
			stage_fetch(t, rf->path, &e);
	}
	(void)stage_wait_all(t->st, &t->bell, t->v, t->n, stage_set_deadline(t));
	for (i = 0; i < t->n; i++) {
		one = stage_judge_member(t, &t->v[i]);
		if (one == STAGE_DISAGREES || v == STAGE_AGREES)
			v = one;
		if (v == STAGE_DISAGREES)
			break;
	}
	stage_drop_readers(t);
	for (i = 0; i < n && v == STAGE_AGREES; i++)
		v = stage_read_member(t, paths[i]);
	for (i = 0; i < n; i++)
		free(paths[i]);
	return v;
}

/* ---- one Release ---- */

/* The body of a whole flight. */
static char *
stage_read_body(const struct flight *f, size_t *n_p)
{
	uint64_t n = flight_committed(f);
	char *text = n <= RELEASE_TEXT_MAX ? malloc((size_t)n + 1) : NULL;
	size_t at = 0;

	while (text != NULL && at < n) {
		ssize_t k = pread(flight_fd(f), text + at, (size_t)n - at, (off_t)at);

		if (k <= 0 && !(k < 0 && errno == EINTR)) {
			free(text);
			return NULL;
		}
		at += k > 0 ? (size_t)k : 0;
	}
	*n_p = at;
	return text;
}

/* When upstream last showed the current generation. */
static int64_t
stage_seen_at_s(struct index_view *view, const struct repo_gen *g)
{
	char record[OBJECT_TEXT_MAX];
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	int64_t seen_s = 0;
	char text[8192];
	struct object_rec rec;
	struct slice url;
	struct key key;

	for (unsigned i = 0; i < REPO_FILE_N; i++) {
		if (!repo_gen_digest(g, (enum repo_file)i, e.digest) ||
		    !stage_url(repo_gen_root(g), repo_file_names[i], text, &url))
			continue;
		repo_version_key(url, &e, &key);
		if (index_get_object(view, &key, &rec, record) == REASON_OK &&
		    rec.checked_at_ms / 1000 > seen_s)
			seen_s = rec.checked_at_ms / 1000;
	}
	return seen_s;
}

/* Older than what is current: an edge of a CDN that lags? */
static bool
stage_is_too_old(struct stage_try *t, const struct release *r)
{
	int64_t wait_s = cache_adopt_older_s(t->st->cache, t->root), seen_s;
	char ours[32], theirs[32];

	if (t->current == NULL || r->date_s >= repo_gen_release(t->current)->date_s)
		return false;
	seen_s = stage_seen_at_s(t->view, t->current);
	repo_time_text(repo_gen_release(t->current)->date_s, ours);
	repo_time_text(r->date_s, theirs);
	(void)snprintf(t->why, t->why_cap, "upstream shows a Release of %s, ours is of %s, seen there "
	    "%lld s ago; adopt_older is %lld s", theirs, ours,
	    (long long)(clock_wall_s() - seen_s), (long long)wait_s);
	return clock_wall_s() - seen_s < wait_s;
}

/* Not adopted: the readers get what is current, or the reason. */
static void
stage_refuse(struct stage_try *t, struct flight *f, enum reason r)
{
	COUNT(releases_refused_total);
	log_warning("%.*s: Release not adopted: %s", SLICE_ARG(t->root), t->why);
	flight_fail(f, r, 0, false, "%s", t->why);
}

/* Makes the body findable under the key of this version. False: it could not be stored. */
static bool
stage_store_release(struct stage_try *t, struct flight *f, struct slice url)
{
	struct stage_reader sr = {.bell = &t->bell, .reader.wake = stage_ring};
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	struct key key;
	bool stored;

	flight_attach(f, &sr.reader, false);
	flight_store_gated(f);
	(void)stage_wait_all(t->st, &t->bell, &sr, 1, clock_mono_ms() + STAGE_FETCH_MS);
	stored = flight_is_stored(f);
	flight_detach(&sr.reader);
	if (!stored)
		return false;
	memcpy(e.digest, f->digest, 32);
	repo_version_key(url, &e, &key);
	flight_link(f, &key);
	return true;
}

/* Waits for Release.gpg. A client's flight that we joined may only have confirmed what it had. */
static struct flight *
stage_wait_signature(struct stage_try *t)
{
	for (unsigned tries = 0; tries < 3; tries++) {
		stage_drop_readers(t);
		stage_fetch(t, repo_file_names[REPO_SIGNATURE], NULL);
		if (t->n == 0)
			return NULL;
		(void)stage_wait_all(t->st, &t->bell, t->v, t->n,
		    clock_mono_ms() + STAGE_FETCH_MS);
		if (flight_state(t->v[0].reader.f) != FLIGHT_CONFIRMED)
			break;
	}
	return t->v[0].reader.f;
}

/* Release.gpg beside a Release, as it is upstream now. False: it can't be told whether there is. */
static bool
stage_fetch_signature(struct stage_try *t)
{
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	char text[8192];
	struct slice url;
	struct flight *f;
	struct key key;
	bool ok = true;

	if (!stage_url(t->root, repo_file_names[REPO_SIGNATURE], text, &url))
		return true;
	f = stage_wait_signature(t);
	if (f == NULL)
		return true;
	if (flight_state(f) == FLIGHT_COMPLETE && flight_is_stored(f)) {
		t->has_signature = true;
		memcpy(t->signature, f->digest, 32);
		t->signature_fd = fcntl(flight_fd(f), F_DUPFD_CLOEXEC, 0);
		memcpy(e.digest, f->digest, 32);
		repo_version_key(url, &e, &key);
		flight_link(f, &key);
	} else if (flight_state(f) != FLIGHT_FAILED ||
	    (flight_reason(f) != REASON_UP_NOT_FOUND && flight_reason(f) != REASON_UP_GONE)) {
		(void)snprintf(t->why, t->why_cap, "Release.gpg: %s", flight_state(f) ==
		    FLIGHT_FAILED ? flight_detail(f) : "has not come");
		ok = false;
	}
	stage_drop_readers(t);
	return ok;
}

/* Who signed it, and does the configuration accept that? */
static bool
stage_signature_ok(struct stage_try *t, struct flight *f, enum repo_file which)
{
	bool hold_changes;
	struct sign *sign = cache_sign(t->st->cache, &hold_changes);
	struct sign_input in = {.text_fd = flight_fd(f), .signature_fd = -1};
	const struct sign_signers none = {0};
	char words[SIGN_WORDS_BYTES] = "";
	struct sign_result now = {.verdict = SIGN_NO_SIGNATURE};

	if (sign == NULL)
		return true;
	if (which == REPO_RELEASE)
		in.signature_fd = t->signature_fd;
	if (which == REPO_INRELEASE || in.signature_fd >= 0)
		(void)sign_verify(sign, &in, &now);
	else
		(void)snprintf(now.words, sizeof(now.words), "there is no Release.gpg beside it");
	switch (sign_decide(&now, t->current != NULL ? repo_gen_signers(t->current) : &none,
	    hold_changes, words)) {
	case SIGN_ADOPT:
		break;
	case SIGN_ADOPT_REPORT:
		log_warning("%.*s: signature: %s", SLICE_ARG(t->root), words);
		break;
	case SIGN_HOLD:
		(void)snprintf(t->why, t->why_cap, "signature: %s", words);
		return false;
	}
	t->signers = now.signers;
	return true;
}

/* The set agrees: stored, recorded, current. */
static void
stage_adopt(struct stage_try *t, struct flight *f, struct release *release,
    enum repo_file which)
{
	struct repos *repos = t->st->repos;
	struct repo_new n = {.root = t->root, .release = release, .signers = t->signers,
	    .adopted_at_s = clock_wall_s()};
	char when[32];
	enum reason r;

	repo_time_text(release->date_s, when);
	if (!stage_store_release(t, f, f->url)) {
		release_free(&release);
		(void)snprintf(t->why, t->why_cap, "the Release of %s can't be stored", when);
		if (t->current != NULL)
			flight_fail(f, REASON_NO_DISK, 0, false, "%s", t->why);
		else
			flight_open_gate(f);
		return;
	}
	n.has[which] = true;
	memcpy(n.digest[which], f->digest, 32);
	n.has[REPO_SIGNATURE] = t->has_signature;
	memcpy(n.digest[REPO_SIGNATURE], t->signature, 32);
	r = repo_adopt(repos, &n);
	if (r != REASON_OK) {
		log_error("%.*s: the Release of %s can't be recorded: %s", SLICE_ARG(t->root), when,
		    reason_text(r));
		if (t->current != NULL)
			flight_fail(f, r, 0, false, "%s", reason_text(r));
		else
			flight_open_gate(f);
		return;
	}
	COUNT(generations_adopted_total);
	log_info("%.*s: the Release of %s is current now", SLICE_ARG(t->root), when);
	flight_open_gate(f);
	repo_expire(repos);
	repo_watch_validity(repos, clock_wall_s());
}

/* The current publication once more, perhaps in another form. */
static void
stage_confirm(struct stage_try *t, struct flight *f, enum repo_file which)
{
	uint8_t digest[32];

	if (!stage_store_release(t, f, f->url)) {
		flight_open_gate(f);
		return;
	}
	if (!repo_gen_digest(t->current, which, digest) || memcmp(digest, f->digest, 32) != 0) {
		log_info("%.*s: %.*s in another form", SLICE_ARG(t->root),
		    SLICE_ARG(repo_file_names[which]));
		(void)!repo_attach_file(t->st->repos, t->current, which, f->digest);
	}
	if (t->has_signature && (!repo_gen_digest(t->current, REPO_SIGNATURE, digest) ||
	    memcmp(digest, t->signature, 32) != 0))
		(void)!repo_attach_file(t->st->repos, t->current, REPO_SIGNATURE, t->signature);
	flight_open_gate(f);
}

/* ---- what is known of a root ---- */

/* NULL: too many, or out of memory (lock held). */
static struct stage_root *
stage_root_of(struct stage *st, struct slice text)
{
	struct stage_root *root;

	TAILQ_FOREACH(root, &st->roots, link)
		if (slice_eq(slice_of(root->text), text))
			return root;
	if (st->roots_n >= STAGE_ROOTS_MAX)
		return NULL;
	root = calloc(1, sizeof(*root));
	if (root != NULL)
		root->text = strndup(text.p, text.n);
	if (root == NULL || root->text == NULL) {
		free(root);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&st->roots, root, link);
	st->roots_n++;
	return root;
}

/* Upstream agrees with itself. */
static void
stage_root_settle(struct stage *st, struct stage_root *root)
{
	AZ(pthread_mutex_lock(&st->lock));
	if (root->disagrees)
		log_info("%s: upstream agrees with itself again", root->text);
	root->disagrees = false;
	root->probe_ms = root->backoff_ms = 0;
	root->why[0] = '\0';
	AZ(pthread_mutex_unlock(&st->lock));
}

/* It does not: looked at again later, seldomer each time. */
static void
stage_root_disagree(struct stage *st, struct stage_root *root, const struct release *r,
    const char *why, bool has_current)
{
	bool news;

	AZ(pthread_mutex_lock(&st->lock));
	news = !root->disagrees || memcmp(root->identity, r->identity, 32) != 0;
	root->disagrees = true;
	memcpy(root->identity, r->identity, 32);
	(void)snprintf(root->why, sizeof(root->why), "%s", why);
	if (news || root->backoff_ms == 0)
		root->backoff_ms = STAGE_PROBE_MS;
	root->tried_ms = clock_mono_ms();
	if (news || root->probe_ms == 0 || root->probe_ms > root->tried_ms + root->backoff_ms)
		root->probe_ms = root->tried_ms + root->backoff_ms;
	AZ(pthread_cond_broadcast(&st->news));
	AZ(pthread_mutex_unlock(&st->lock));
	COUNT(generation_disagreements_total);
	if (news)
		log_warning("%s: upstream's Release and indexes are of different publications: %s; %s",
		    root->text, why, has_current ? "the generation before is served meanwhile" :
		    "there is no generation yet, clients get what upstream has");
}

/* The same Release was compared a moment ago, and did not agree. */
static bool
stage_root_tried_now(struct stage *st, struct stage_root *root, const struct release *r,
    char *why, size_t why_cap)
{
	bool yes;

	AZ(pthread_mutex_lock(&st->lock));
	yes = root->disagrees && memcmp(root->identity, r->identity, 32) == 0 &&
	    clock_mono_ms() - root->tried_ms < STAGE_RETRY_MS;
	if (yes)
		(void)snprintf(why, why_cap, "%s", root->why);
	AZ(pthread_mutex_unlock(&st->lock));
	return yes;
}

/* An index of this Release can't be used: reading it again at each check would find the same. */
static void
stage_root_note_broken(struct stage_try *t, struct stage_root *root)
{
	AZ(pthread_mutex_lock(&t->st->lock));
	root->broken_ms = clock_mono_ms();
	memcpy(root->broken, t->release->identity, 32);
	(void)snprintf(root->broken_why, sizeof(root->broken_why), "%s", t->why);
	AZ(pthread_mutex_unlock(&t->st->lock));
}

/* Was that found of this very Release a while ago? Then in the same words. */
static bool
stage_root_is_broken(struct stage_try *t, struct stage_root *root)
{
	bool yes;

	AZ(pthread_mutex_lock(&t->st->lock));
	yes = root->broken_ms != 0 && memcmp(root->broken, t->release->identity, 32) == 0 &&
	    clock_mono_ms() - root->broken_ms < STAGE_BROKEN_MS;
	if (yes)
		(void)snprintf(t->why, t->why_cap, "%s", root->broken_why);
	AZ(pthread_mutex_unlock(&t->st->lock));
	return yes;
}

/* Waits a moment before the next look; false: the depot stops. */
static bool
stage_pause(struct stage *st, int64_t until_ms)
{
	struct timespec ts = stage_deadline(until_ms);
	bool quiet;

	AZ(pthread_mutex_lock(&st->lock));
	while (!st->quiet && clock_mono_ms() < until_ms)
		(void)pthread_cond_timedwait(&st->news, &st->lock, &ts);
	quiet = st->quiet;
	AZ(pthread_mutex_unlock(&st->lock));
	return !quiet;
}

/* Compares until it agrees, or as long as its readers may be held. */
static enum stage_verdict
stage_compare(struct stage_try *t, struct stage_root *root)
{
	enum stage_verdict v;
	int64_t next_ms;

	if (stage_root_tried_now(t->st, root, t->release, t->why, t->why_cap))
		return STAGE_UNREACHABLE;
	if (stage_root_is_broken(t, root))
		return STAGE_BROKEN;
	for (;;) {
		next_ms = clock_mono_ms() + STAGE_RETRY_MS;
		v = stage_compare_set(t);
		if (v == STAGE_BROKEN)
			stage_root_note_broken(t, root);
		if (v == STAGE_AGREES || v == STAGE_BROKEN)
			return v;
		stage_root_disagree(t->st, root, t->release, t->why, t->current != NULL);
		/* Later looks are the background's; only first visitors have nothing else. */
		if (t->current != NULL || next_ms - root->first_ms >= STAGE_FIRST_MS ||
		    !stage_pause(t->st, next_ms))
			return v;
		t->no_cache = true;
	}
}

/* Its signature, where there is one beside it, and what is thought of it. False: *r says why. */
static bool
stage_is_signed(struct stage_try *t, struct flight *f, enum repo_file which, enum reason *r)
{
	*r = REASON_REPO_DISAGREES;
	if (which == REPO_RELEASE && !stage_fetch_signature(t))
		return false;
	*r = REASON_REPO_SIGNATURE;
	return stage_signature_ok(t, f, which);
}

/* A parsed Release that is not the current one. */
static void
stage_candidate(struct stage_try *t, struct stage_root *root, struct flight *f,
    struct release *release, enum repo_file which)
{
	enum reason r = REASON_OK;

	if (stage_is_too_old(t, release))
		r = REASON_REPO_OLDER;
	else if (!stage_is_signed(t, f, which, &r))
		;
	else
		switch (stage_compare(t, root)) {
		case STAGE_AGREES:
			stage_root_settle(t->st, root);
			stage_adopt(t, f, release, which);
			return;
		case STAGE_BROKEN:
			r = REASON_LIST_BAD;
			break;
		case STAGE_DISAGREES:
		case STAGE_UNREACHABLE:
			r = REASON_REPO_DISAGREES;
			break;
		}
	release_free(&release);
	if (t->current == NULL) {
		if (r != REASON_REPO_DISAGREES) {
			COUNT(releases_refused_total);
			log_warning("%.*s: no generation is made of it: %s", SLICE_ARG(t->root), t->why);
		}
		flight_open_gate(f);	/* what upstream has, as it is */
	} else if (r == REASON_REPO_DISAGREES)
		flight_fail(f, r, 0, false, "%s", t->why);
	else
		stage_refuse(t, f, r);
}

/* The job of a gated flight. */
static void
stage_release_job(struct stage *st, struct stage_job *job)
{
	char why[512] = "";
	struct stage_try *t = calloc(1, sizeof(*t));
	struct release *release = NULL;
	struct flight *f = job->f;
	enum repo_file which;
	enum reason r = REASON_NO_MEMORY;
	size_t n = 0;
	char *text = stage_read_body(f, &n);

	if (t != NULL)
		t->view = index_view_open(cache_parts(st->cache)->index);
	if (t == NULL || t->view == NULL || !repo_split_release(f->url, &t->root, &which)) {
		flight_fail(f, REASON_NO_MEMORY, 0, false, "%s", reason_text(REASON_NO_MEMORY));
		goto out;
	}
	t->st = st;
	t->why = why;
	t->why_cap = sizeof(why);
	t->signature_fd = -1;
	t->no_cache = job->root->disagrees;
	t->first_ms = job->root->first_ms;
	stage_bell_init(&t->bell);
	repo_note_root(st->repos, t->root);
	t->current = repo_current(st->repos, t->root);
	if (text != NULL)
		r = release_parse(&release, text, n, why, sizeof(why));
	else {
		r = REASON_RELEASE_BAD;
		(void)snprintf(why, sizeof(why), "it has %llu bytes; %d are the limit",
		    (unsigned long long)flight_committed(f), RELEASE_TEXT_MAX);
	}
	t->release = release;
	if (r != REASON_OK && t->current != NULL)
		stage_refuse(t, f, r);
	else if (r != REASON_OK) {
		COUNT(releases_refused_total);
		log_warning("%.*s: no generation is made of it: %s", SLICE_ARG(t->root), why);
		flight_open_gate(f);
	} else if (t->current != NULL && memcmp(release->identity,
	    repo_gen_release(t->current)->identity, 32) == 0) {
		stage_root_settle(st, job->root);
		if (stage_is_signed(t, f, which, &r))
			stage_confirm(t, f, which);
		else
			stage_refuse(t, f, r);
		release_free(&release);
	} else
		stage_candidate(t, job->root, f, release, which);
	repo_gen_unref(&t->current);
	if (t->signature_fd >= 0)
		(void)close(t->signature_fd);
	stage_bell_fini(&t->bell);
out:
	if (t != NULL)
		index_view_close(&t->view);
	free(text);
	free(t);
}

/* ---- other jobs ---- */

/* A stored index, as some generation lists it, becomes a table. */
static void
stage_table_job(struct stage *st, struct stage_job *job)
{
	char path[1024], why[PKGTABLE_WHY_BYTES] = "";
	struct pkgtable_stats stats;
	uint64_t said_bytes = 0;
	enum reason r;

	if (!repo_table_wanted(st->repos, job->digest, path, &said_bytes) ||
	    !stage_claim_table(st, job->digest))
		return;
	r = stage_build_table(st, job->digest, slice_of(path), said_bytes, &stats, why,
	    sizeof(why));
	if (r == REASON_OK)
		r = repo_table_attach(st->repos, job->digest);
	stage_release_table(st, job->digest);
	if (r != REASON_OK)
		log_warning("%s can't be read, its packages are not checked: %s", path,
		    why[0] != '\0' ? why : reason_text(r));
}

/* Where a body is unpacked to: twice, for its digest first, so that nobody sees a wrong one. */
struct stage_derive {
	struct flight *f;		/* NULL: for the digest alone */
	EVP_MD_CTX *md;
};

static enum reason
stage_derive_sink(void *arg, const void *p, size_t n)
{
	struct stage_derive *d = arg;

	if (d->f != NULL)
		return flight_append(d->f, p, n);
	return EVP_DigestUpdate(d->md, p, n) == 1 ? REASON_OK : REASON_NO_MEMORY;
}

/* Unpacks a stored body once. */
static enum reason
stage_derive_body(struct stage_job *job, int fd, uint64_t packed_bytes, struct stage_derive *d)
{
	uint64_t max_bytes = (uint64_t)flight_expected(job->f)->size_bytes, at = 0;
	struct unpack *u = unpack_new(job->unpack, max_bytes);
	char *buf = malloc(65536);
	enum reason r = u == NULL || buf == NULL ? REASON_NO_MEMORY : REASON_OK;

	while (r == REASON_OK && at < packed_bytes) {
		ssize_t k = pread(fd, buf, 65536, (off_t)at);

		r = k > 0 ? unpack_feed(u, buf, (size_t)k, stage_derive_sink, d) :
		    REASON_DISK_ERROR;
		at += k > 0 ? (uint64_t)k : 0;
	}
	if (r == REASON_OK)
		r = unpack_end(u);
	unpack_free(&u);
	free(buf);
	return r;
}

/* Does the stored body unpack to what is expected? */
static bool
stage_derive_fits(struct stage_job *job, int fd, uint64_t packed_bytes)
{
	const struct flight_expect *e = flight_expected(job->f);
	struct stage_derive d = {.md = EVP_MD_CTX_new()};
	uint8_t got[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	bool fits = d.md != NULL && EVP_DigestInit_ex(d.md, e->hash == APTFILE_SHA512 ?
	    EVP_sha512() : EVP_sha256(), NULL) == 1 &&
	    stage_derive_body(job, fd, packed_bytes, &d) == REASON_OK &&
	    EVP_DigestFinal_ex(d.md, got, &n) == 1 && memcmp(got, e->digest, n) == 0;

	EVP_MD_CTX_free(d.md);
	return fits;
}

static void
stage_derive_job(struct stage *st, struct stage_job *job)
{
	struct flight *f = job->f;
	struct flight_head h = {
		.total_bytes = flight_expected(f)->size_bytes,
		.terms = {.checked_at_s = clock_wall_s(), .date_s = clock_wall_s(),
		    .lifetime_s = -1, .last_modified_s = INT64_MIN, .stale_if_error_s = -1},
		.checked_at_ms = clock_wall_ms(),
		.shareable = true, .keep = true,
	};
	char etag[KEY_HEX_BYTES + 2], fields[256], hex[KEY_HEX_BYTES];
	struct stage_derive to = {.f = f};
	struct blob_stat bs = {0, 0};
	enum reason r;
	int fd = -1;

	if (blob_open(cache_parts(st->cache)->blobs, job->digest, &fd, &bs) != REASON_OK ||
	    !stage_derive_fits(job, fd, bs.size_bytes)) {
		/* Gone, damaged, or a publisher's mistake: then upstream has it. */
		if (fd >= 0)
			(void)close(fd);
		cache_fetch(st->cache, f, false);
		return;
	}
	key_hex(flight_expected(f)->digest, hex);
	(void)snprintf(etag, sizeof(etag), "\"%s\"", hex);
	(void)snprintf(fields, sizeof(fields), "Content-Type: application/octet-stream\r\n"
	    "ETag: %s\r\n", etag);
	h.etag = slice_of(etag);
	h.fields = slice_of(fields);
	r = flight_begin(f, &h);
	if (r == REASON_OK)
		r = stage_derive_body(job, fd, bs.size_bytes, &to);
	(void)close(fd);
	if (r == REASON_OK)
		flight_finish(f);
	else
		flight_fail(f, r, 0, false, "it could not be unpacked from the stored compressed "
		    "index: %s", reason_text(r));
}

/* ---- the queue ---- */

/* Queues a copy of the job; false: no room (lock held). */
static bool
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
	}
	AZ(pthread_mutex_unlock(&st->lock));
	if (queued)
		return;
	/* Nobody can look at it: its readers get what is current, or else what upstream has. */
	COUNT(repositories_refused_total);
	flight_open_gate(f);
	flight_unref(&f);
}

void
stage_note_stored(struct stage *st, const uint8_t sha256[32])
{
	struct stage_job job = {.kind = STAGE_TABLE};

	CHECK_OBJ(st, STAGE_MAGIC);
	memcpy(job.digest, sha256, 32);
	AZ(pthread_mutex_lock(&st->lock));
	if (!st->stop)
		(void)stage_queue(st, &job);
	AZ(pthread_mutex_unlock(&st->lock));
}

bool
stage_derive(struct stage *st, struct index_view *view, const struct repo_gen *g,
    struct flight *f)
{
	static const struct slice suffixes[] = {
		{".xz", 3}, {".gz", 3}, {".zst", 4}, {".bz2", 4},
	};
	const struct release *r = repo_gen_release(g);
	struct slice root = repo_gen_root(g), path;
	struct stage_job job = {.kind = STAGE_DERIVE};
	struct release_index ri;
	struct blob_rec blob;
	char name[1100];
	bool queued = false;

	if (flight_expected(f) == NULL || flight_expected(f)->size_bytes < 0 ||
	    !slice_starts(f->url, root))
		return false;
	path = slice_skip(f->url, root.n);
	release_index_of(&ri, path);
	if (path.n > 1024 || (ri.stem.n != path.n))
		return false;
	for (unsigned i = 0; i < NELEM(suffixes) && !queued; i++) {
		int n = snprintf(name, sizeof(name), "%.*s%.*s", SLICE_ARG(path),
		    SLICE_ARG(suffixes[i]));
		const struct release_file *rf = release_find_url(r, (struct slice){name, (size_t)n});

		if (rf == NULL || !rf->has_sha256 ||
		    index_get_blob(view, rf->sha256, &blob) != REASON_OK || blob.restricted)
			continue;
		release_index_of(&ri, rf->path);
		job.unpack = ri.kind;
		memcpy(job.digest, rf->sha256, 32);
		job.f = flight_ref(f);
		AZ(pthread_mutex_lock(&st->lock));
		queued = stage_queue(st, &job);
		AZ(pthread_mutex_unlock(&st->lock));
		if (!queued)
			flight_unref(&job.f);
	}
	return queued;
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
	char text[8192];
	struct flight *f;
	struct key key;

	if (!stage_url(slice_of(root->text), repo_file_names[root->which], text, &url))
		return;
	COUNT(generation_probes_total);
	key_of_text(url, &key);
	f = cache_start(st->cache, url, &key, NULL, NULL, true);
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
	flight_unref(&job->f);
}

/* Once in a while, by whichever thread has nothing else to do. */
static void
stage_tick(struct stage *st)
{
	repo_expire(st->repos);
	repo_watch_validity(st->repos, clock_wall_s());
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
		stage_tick(st);
	AZ(pthread_mutex_lock(&st->lock));
	if (tick)
		st->ticking = false;
	if (job != NULL && (job->root != NULL || job->kind == STAGE_TABLE)) {
		if (job->root != NULL)
			job->root->busy = false;
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
		ts = stage_deadline(due_ms);
		(void)pthread_cond_timedwait(&st->news, &st->lock, &ts);
	}
	AZ(pthread_mutex_unlock(&st->lock));
	return NULL;
}

static void
stage_missing_table(void *arg, const uint8_t sha256[32])
{
	stage_note_stored(arg, sha256);
}

struct stage *
stage_start(struct cache *c)
{
	pthread_condattr_t attr;
	struct stage *st;

	OBJ_NEW(st, STAGE_MAGIC);
	if (st == NULL)
		return NULL;
	st->cache = c;
	st->repos = cache_parts(c)->repos;
	TAILQ_INIT(&st->jobs);
	TAILQ_INIT(&st->roots);
	AZ(pthread_mutex_init(&st->lock, NULL));
	AZ(pthread_condattr_init(&attr));
	AZ(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	AZ(pthread_cond_init(&st->news, &attr));
	AZ(pthread_condattr_destroy(&attr));
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
		free(job);
	}
	while ((root = TAILQ_FIRST(&st->roots)) != NULL) {
		TAILQ_REMOVE(&st->roots, root, link);
		free(root->text);
		free(root);
	}
	AZ(pthread_cond_destroy(&st->news));
	AZ(pthread_mutex_destroy(&st->lock));
	OBJ_FREE(st);
}
