/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The objects that one worker has at hand: a bounded table from key to
 * record and open body file, so that a hit on a popular object costs neither
 * an index lookup nor an open. An entry is good as long as the index's
 * version for its key (and its count of dropped blobs) has not moved since
 * it was read. Entries are counted references of one thread: connections
 * hold those they are sending; the table drops what was not used for ten
 * seconds, and everything when something was evicted, so that evicted bodies
 * don't keep their disk space.
 */
#include "cache/object_priv.h"
#include "cache/window.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/counter.h"
#include "include/log.h"

#define OBJECT_MAGIC 0x0b1ec7a1u
#define OBJECT_TABLE_MAGIC 0x0b1ec7a2u

enum {
	OBJECT_BUCKETS = 2048,
	OBJECT_IDLE_MS = 10000,
	OBJECT_CONFIRM_MS = 1000,	/* confirmations are written down this often */
	OBJECT_LOOK_MS = 100,		/* an open body's size and mtime are looked at this often */
};

struct object {
	uint32_t magic;
	unsigned refs;
	struct object_table *table;
	bool listed;			/* in the table, which holds one reference */
	TAILQ_ENTRY(object) lru;
	TAILQ_ENTRY(object) bucket;
	struct key key;
	uint32_t version, drop_version;
	struct object_rec rec;
	char *text;			/* malloced; rec's slices point into it */
	int fd;				/* -1: not open */
	uint64_t window_id;		/* of its bytes; see window.h */
	bool gone, warm;
	int hold;			/* slot, -1: not held */
	int64_t used_ms, touched_s;
	int64_t confirmed_ms;		/* wall clock, as the index has it */
	int64_t looked_ms, mtime_ns;	/* of the open body */
};

TAILQ_HEAD(object_list, object);

struct object_table {
	uint32_t magic;
	struct index *ix;
	struct index_view *view;
	struct blobstore *blobs;
	struct windows *windows;	/* copies of what many are being sent */
	unsigned n, max_n;
	uint32_t drop_version;		/* of the last look */
	struct object_list lru;		/* most recent last */
	struct object_list buckets[OBJECT_BUCKETS];
	char text[OBJECT_TEXT_MAX];
};

struct object_table *
object_table_new(struct index *ix, struct index_view *view, struct blobstore *blobs,
    unsigned max_n)
{
	struct object_table *t;
	unsigned i;

	OBJ_NEW(t, OBJECT_TABLE_MAGIC);
	if (t == NULL)
		return NULL;
	t->ix = ix;
	t->view = view;
	t->blobs = blobs;
	t->max_n = max_n;
	t->windows = windows_new();
	if (t->windows == NULL) {
		OBJ_FREE(t);
		return NULL;
	}
	t->drop_version = index_drop_version(ix);
	index_view_closed(view, t->drop_version);
	TAILQ_INIT(&t->lru);
	for (i = 0; i < OBJECT_BUCKETS; i++)
		TAILQ_INIT(&t->buckets[i]);
	return t;
}

/* The bucket of a key; keys are digests, so any bits will do. */
static struct object_list *
object_bucket(struct object_table *t, const struct key *key)
{
	return &t->buckets[(key->b[0] | (unsigned)key->b[1] << 8) % OBJECT_BUCKETS];
}

struct object *
object_ref(struct object *o)
{
	CHECK_OBJ(o, OBJECT_MAGIC);
	o->refs++;
	return o;
}

void
object_unref(struct object **o_p)
{
	struct object *o = *o_p;

	*o_p = NULL;
	if (o == NULL)
		return;
	CHECK_OBJ(o, OBJECT_MAGIC);
	AN(o->refs);
	if (--o->refs == 1 && o->listed && o->hold >= 0) {
		index_view_release(o->table->view, o->hold);
		o->hold = -1;
	}
	if (o->refs > 0)
		return;
	MUST(!o->listed);
	if (o->hold >= 0)
		index_view_release(o->table->view, o->hold);
	if (o->fd >= 0)
		(void)close(o->fd);
	free(o->text);
	OBJ_FREE(o);
}

/* Takes an entry out of the table; who still sends it keeps it. */
static void
object_unlist(struct object *o)
{
	struct object_table *t = o->table;

	if (!o->listed)
		return;
	o->listed = false;
	TAILQ_REMOVE(&t->lru, o, lru);
	TAILQ_REMOVE(object_bucket(t, &o->key), o, bucket);
	t->n--;
	object_unref(&o);
}

void
object_table_free(struct object_table **t_p)
{
	struct object_table *t = *t_p;

	*t_p = NULL;
	if (t == NULL)
		return;
	CHECK_OBJ(t, OBJECT_TABLE_MAGIC);
	while (!TAILQ_EMPTY(&t->lru))
		object_unlist(TAILQ_FIRST(&t->lru));
	windows_free(&t->windows);
	OBJ_FREE(t);
}

void
object_table_tick(struct object_table *t, int64_t now_ms)
{
	uint32_t drop_version = index_drop_version(t->ix);
	struct object *o;

	CHECK_OBJ(t, OBJECT_TABLE_MAGIC);
	/* After an eviction all are looked up again; what it took must not keep its room. */
	while ((o = TAILQ_FIRST(&t->lru)) != NULL && (now_ms - o->used_ms > OBJECT_IDLE_MS ||
	    t->drop_version != drop_version))
		object_unlist(o);
	if (t->drop_version != drop_version)
		index_view_closed(t->view, drop_version);
	t->drop_version = drop_version;
	windows_tick(t->windows, now_ms);
}

/* Is what the entry says still what the index says? */
static bool
object_current(const struct object *o)
{
	return !o->gone && o->version == index_version(o->table->ix, &o->key) &&
	    o->drop_version == index_drop_version(o->table->ix);
}

/* Is the open body still as it was opened? Somebody may have written to the file. */
static bool
object_unchanged(struct object *o, int64_t now_ms)
{
	struct stat st;

	if (o->fd < 0 || now_ms - o->looked_ms < OBJECT_LOOK_MS)
		return true;
	o->looked_ms = now_ms;
	return fstat(o->fd, &st) == 0 && (uint64_t)st.st_size == o->rec.size_bytes &&
	    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec == o->mtime_ns;
}

/* Notes the use: in the table's order, and for eviction once a second. */
static void
object_use(struct object *o, int64_t now_ms, int64_t now_s)
{
	struct object_table *t = o->table;

	if (o->used_ms != now_ms) {
		o->used_ms = now_ms;
		TAILQ_REMOVE(&t->lru, o, lru);
		TAILQ_INSERT_TAIL(&t->lru, o, lru);
	}
	if (o->touched_s != now_s) {
		o->touched_s = now_s;
		index_view_touch(t->view, o->rec.digest, now_s);
	}
}

/* Copies the record's text out of the lookup buffer. */
static bool
object_keep_text(struct object *o)
{
	struct slice *s[3] = {&o->rec.url, &o->rec.etag, &o->rec.fields};
	size_t n = o->rec.url.n + o->rec.etag.n + o->rec.fields.n;
	char *p = malloc(n + 1);
	unsigned i;

	if (p == NULL)
		return false;
	o->text = p;
	for (i = 0; i < NELEM(s); i++) {
		if (s[i]->n != 0)
			memcpy(p, s[i]->p, s[i]->n);
		s[i]->p = p;
		p += s[i]->n;
	}
	return true;
}

/* An entry without a record. NULL: out of memory. */
static struct object *
object_new(struct object_table *t, const struct key *key)
{
	struct object *o;

	OBJ_NEW(o, OBJECT_MAGIC);
	if (o == NULL)
		return NULL;
	o->refs = 1;
	o->table = t;
	o->fd = o->hold = -1;
	o->key = *key;
	o->window_id = window_id();
	return o;
}

/* Reads the record and makes an entry of it. */
static struct object *
object_load(struct object_table *t, const struct key *key)
{
	struct object *o;

	o = object_new(t, key);
	if (o == NULL)
		return NULL;
	o->version = index_version(t->ix, key);		/* before the lookup */
	o->drop_version = index_drop_version(t->ix);
	if (index_get_object(t->view, key, &o->rec, t->text) != REASON_OK || !object_keep_text(o))
		object_unref(&o);
	else
		o->confirmed_ms = o->rec.checked_at_ms;
	return o;
}

/* Into the table, in the place of the longest unused where that is full. */
static void
object_list(struct object *o, struct object_list *b)
{
	struct object_table *t = o->table;

	if (t->n >= t->max_n)
		object_unlist(TAILQ_FIRST(&t->lru));
	o->listed = true;
	t->n++;
	(void)object_ref(o);	/* the table's own; the macro would evaluate it more than once */
	TAILQ_INSERT_TAIL(&t->lru, o, lru);
	TAILQ_INSERT_HEAD(b, o, bucket);
}

struct object *
object_make(struct object_table *t, const struct key *key, const struct object_rec *rec)
{
	struct object *o;

	o = object_new(t, key);
	if (o == NULL)
		return NULL;
	o->version = index_version(t->ix, key);
	o->drop_version = index_drop_version(t->ix);
	o->rec = *rec;
	o->confirmed_ms = rec->checked_at_ms;
	if (object_keep_text(o))
		object_list(o, object_bucket(t, key));
	else
		object_unref(&o);
	return o;
}

bool
object_confirm(struct object *o, const struct fresh_terms *terms, int64_t checked_at_ms)
{
	int64_t last_modified_s = o->rec.terms.last_modified_s;

	CHECK_OBJ(o, OBJECT_MAGIC);
	o->rec.terms = *terms;
	o->rec.terms.last_modified_s = last_modified_s;
	o->rec.checked_at_ms = checked_at_ms;
	if (checked_at_ms - o->confirmed_ms < OBJECT_CONFIRM_MS)
		return false;
	o->confirmed_ms = checked_at_ms;
	return true;
}

const struct key *
object_key(const struct object *o)
{
	return &o->key;
}

struct object *
object_find(struct object_table *t, const struct key *key, int64_t now_ms, int64_t now_s)
{
	struct object_list *b = object_bucket(t, key);
	struct object *o;

	TAILQ_FOREACH(o, b, bucket) {
		if (memcmp(&o->key, key, sizeof(*key)) == 0)
			break;
	}
	if (o != NULL && object_current(o) && object_unchanged(o, now_ms)) {
		COUNT(hot_hits_total);
		object_use(o, now_ms, now_s);
		return object_ref(o);
	}
	if (o != NULL)
		object_unlist(o);
	o = object_load(t, key);
	if (o == NULL)
		return NULL;
	object_list(o, b);
	object_use(o, now_ms, now_s);
	return o;
}

uint64_t
object_size(const struct object *o)
{
	return o->rec.size_bytes;
}

struct slice
object_etag(const struct object *o)
{
	return o->rec.etag;
}

struct slice
object_fields(const struct object *o)
{
	return o->rec.fields;
}

const struct fresh_terms *
object_terms(const struct object *o)
{
	return &o->rec.terms;
}

const uint8_t *
object_digest(const struct object *o)
{
	return o->rec.digest;
}

bool
object_validators_shared(const struct object *o)
{
	return o->rec.validators_shared;
}

const struct object_rec *
object_record(const struct object *o)
{
	CHECK_OBJ(o, OBJECT_MAGIC);
	return &o->rec;
}

bool
object_warm(const struct object *o)
{
	return o->warm;
}

void
object_set_warm(struct object *o, bool warm)
{
	o->warm = warm;
}

void
object_hold(struct object *o)
{
	CHECK_OBJ(o, OBJECT_MAGIC);
	if (o->hold < 0)
		o->hold = index_view_hold(o->table->view, o->rec.digest);
}

int
object_fd(const struct object *o)
{
	CHECK_OBJ(o, OBJECT_MAGIC);
	return o->fd;
}

bool
object_is_shared(const struct object *o)
{
	CHECK_OBJ(o, OBJECT_MAGIC);
	return o->rec.size_bytes >= WINDOW_BYTES && o->refs > o->listed + 1u;
}

const char *
object_bytes(struct object *o, uint64_t at, uint64_t *n, bool copy, int64_t now_ms)
{
	CHECK_OBJ(o, OBJECT_MAGIC);
	return o->rec.size_bytes < WINDOW_BYTES ? NULL :
	    window_bytes(o->table->windows, o->window_id, o->fd, at, n, copy, now_ms);
}

struct windows *
object_table_windows(struct object_table *t)
{
	CHECK_OBJ(t, OBJECT_TABLE_MAGIC);
	return t->windows;
}

/* The body is not what the record says: both go, the next request fetches it anew. */
static enum object_open
object_condemn(struct object *o, const char *why)
{
	char hex[KEY_HEX_BYTES];

	key_hex(o->rec.digest, hex);
	log_warning("cached body %s of %.*s %s: dropped, to be fetched again", hex,
	    SLICE_ARG(o->rec.url), why);
	COUNT(blobs_damaged_total);
	index_drop_blob(o->table->ix, o->rec.digest);
	index_forget(o->table->ix, &o->key);
	o->gone = true;
	object_unlist(o);
	return OBJECT_GONE;
}

void
object_damaged(struct object *o)
{
	CHECK_OBJ(o, OBJECT_MAGIC);
	if (!o->gone)
		(void)object_condemn(o, "can't be read to its end");
}

enum object_open
object_open_now(struct object *o)
{
	struct blob_rec rec;
	struct blob_stat st;
	bool must_wait = false;
	enum reason r;
	int fd = -1;

	CHECK_OBJ(o, OBJECT_MAGIC);
	if (o->fd >= 0)
		return OBJECT_OPENED;
	if (index_get_blob(o->table->view, o->rec.digest, &rec) != REASON_OK) {
		/* Evicted under us: only the URL is left. */
		index_forget(o->table->ix, &o->key);
		o->gone = true;
		object_unlist(o);
		return OBJECT_GONE;
	}
	r = blob_open_nowait(o->table->blobs, o->rec.digest, &fd, &st, &must_wait);
	/* What may be of this moment only is tried again before a body is dropped for it. */
	if (must_wait || r == REASON_NO_DESCRIPTORS || r == REASON_NO_MEMORY ||
	    r == REASON_DISK_ERROR)
		return OBJECT_MUST_WAIT;
	if (r != REASON_OK)
		return object_condemn(o, r == REASON_NOT_FOUND ? "is missing" : "can't be opened");
	if (rec.suspect || st.mtime_ns != rec.mtime_ns) {
		(void)close(fd);
		return OBJECT_MUST_WAIT;
	}
	if (st.size_bytes != o->rec.size_bytes) {
		(void)close(fd);
		return object_condemn(o, "has another size");
	}
	o->fd = fd;
	o->mtime_ns = st.mtime_ns;
	return OBJECT_OPENED;
}

struct object_job {
	struct object *o;		/* a reference; looked at only by its own thread */
	struct blobstore *blobs;
	uint8_t digest[32];
	uint64_t size_bytes;
	bool hash;			/* suspect, or another mtime than recorded */
	int64_t mtime_ns;		/* recorded; then what was found */
	int fd;
	enum reason r;
	const char *damage;		/* what is wrong with the bytes; NULL: nothing */
};

struct object_job *
object_job_new(struct object *o)
{
	struct object_job *job = calloc(1, sizeof(*job));
	struct blob_rec rec;

	if (job == NULL)
		return NULL;
	job->o = object_ref(o);
	job->blobs = o->table->blobs;
	memcpy(job->digest, o->rec.digest, 32);
	job->size_bytes = o->rec.size_bytes;
	job->fd = -1;
	if (index_get_blob(o->table->view, o->rec.digest, &rec) == REASON_OK) {
		job->hash = rec.suspect;
		job->mtime_ns = rec.mtime_ns;
	}
	return job;
}

/* Reads the whole body: is it what its name says? NO_MEMORY says nothing about it. */
static enum reason
object_job_hash(const struct object_job *job)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t cap = 256 << 10;
	unsigned char *buf = malloc(cap), digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	uint64_t at = 0;
	ssize_t k = 1;
	enum reason r = ctx != NULL && buf != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 ?
	    REASON_OK : REASON_NO_MEMORY;

	while (r == REASON_OK && k > 0 && at < job->size_bytes) {
		k = pread(job->fd, buf, cap, (off_t)at);
		if (k > 0 && EVP_DigestUpdate(ctx, buf, (size_t)k) != 1)
			r = REASON_NO_MEMORY;
		at += k > 0 ? (uint64_t)k : 0;
	}
	if (r == REASON_OK && EVP_DigestFinal_ex(ctx, digest, &n) != 1)
		r = REASON_NO_MEMORY;
	if (r == REASON_OK && (at != job->size_bytes || n != 32 ||
	    memcmp(digest, job->digest, 32) != 0))
		r = REASON_DAMAGED;
	EVP_MD_CTX_free(ctx);
	free(buf);
	return r;
}

void
object_job_run(struct object_job *job)
{
	struct blob_stat st;

	job->r = blob_open(job->blobs, job->digest, &job->fd, &st);
	if (job->r != REASON_OK)
		return;
	if (st.size_bytes != job->size_bytes) {
		job->damage = "has another size";
		return;
	}
	job->hash |= st.mtime_ns != job->mtime_ns;
	job->mtime_ns = st.mtime_ns;
	if (job->hash)
		job->r = object_job_hash(job);
	if (job->r == REASON_DAMAGED)
		job->damage = "has another digest";
}

enum object_open
object_job_finish(struct object_job **job_p)
{
	struct object_job *job = *job_p;
	struct object *o = job->o;
	enum object_open out = OBJECT_OPENED;

	*job_p = NULL;
	CHECK_OBJ(o, OBJECT_MAGIC);
	if (o->fd >= 0 || o->gone) {
		/* Another request of this worker was quicker. */
		if (o->gone)
			out = OBJECT_GONE;
	} else if (job->r == REASON_NO_DESCRIPTORS || job->r == REASON_NO_MEMORY)
		out = OBJECT_MUST_WAIT;
	else if (job->damage != NULL)
		out = object_condemn(o, job->damage);
	else if (job->r != REASON_OK)
		out = object_condemn(o, job->r == REASON_NOT_FOUND ? "is missing" :
		    "can't be opened");
	else {
		if (job->hash)
			index_clear_suspect(o->table->ix, o->rec.digest, job->mtime_ns);
		o->fd = job->fd;
		o->mtime_ns = job->mtime_ns;
		job->fd = -1;
	}
	if (job->fd >= 0)
		(void)close(job->fd);
	object_unref(&job->o);
	free(job);
	return out;
}
