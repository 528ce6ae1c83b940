/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What is stored, as commands and the explain page see it; see inspect.h.
 * Walks copy a batch of records out of the index, then look at each: no
 * transaction is open while a callback runs, however slow its client is.
 */
#include "include/inspect.h"

#include <fnmatch.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "cache/inspect_priv.h"
#include "include/counter.h"
#include "include/log.h"

enum {
	INSPECT_BATCH = 256,
	INSPECT_READ_BYTES = 1 << 20,
};
_Static_assert((int)INSPECT_TEXT_BYTES == (int)OBJECT_TEXT_MAX, "a record's text must fit");

/* The record as it is shown; text stays where it is. */
static void
inspect_from_record(struct inspect_url *u, const struct key *key, const struct object_rec *rec)
{
	*u = (struct inspect_url){
		.key = *key, .url = rec->url, .etag = rec->etag, .fields = rec->fields,
		.size_bytes = rec->size_bytes, .stored_at_s = rec->stored_at_ms / 1000,
		.checked_at_s = rec->checked_at_ms / 1000, .checked_at_ms = rec->checked_at_ms,
		.class = rec->class, .from_credentials = rec->from_credentials, .terms = rec->terms,
	};
	memcpy(u->digest, rec->digest, sizeof(u->digest));
}

/* Adds what the body's record says. */
static void
inspect_add_blob(struct cache_view *v, struct inspect_url *u)
{
	struct blob_rec blob;

	u->has_body = index_get_blob(cache_view_index(v), u->digest, &blob) == REASON_OK;
	if (!u->has_body)
		return;
	u->used_at_s = blob.used_at_s;
	u->urls_n = blob.refs_n;
	u->suspect = blob.suspect;
	u->from = blob.from;
	u->fetched_at_s = blob.stored_at_s;
}

bool
inspect_get(struct cache_view *v, const struct key *key, struct inspect_url *u,
    char text[INSPECT_TEXT_BYTES])
{
	struct object_rec rec;

	if (index_get_object(cache_view_index(v), key, &rec, text) != REASON_OK)
		return false;
	inspect_from_record(u, key, &rec);
	inspect_add_blob(v, u);
	return true;
}

bool
inspect_find(struct cache_view *v, const struct url *url, const struct inspect_place *at,
    struct inspect_url *u, char text[INSPECT_TEXT_BYTES])
{
	struct key plain;

	key_of_url(url, &plain);
	return inspect_get(v, &at->key, u, text) || inspect_get(v, &plain, u, text);
}

/* ---- walks ---- */

struct inspect_match
inspect_match_of(const char *word)
{
	return (struct inspect_match){.text = word,
	    .glob = word != NULL && strpbrk(word, "*?[") != NULL};
}

static bool
inspect_matches(const struct inspect_match *m, struct slice url)
{
	char text[8192 + 512];

	if (m->text == NULL)
		return true;
	if (m->whole)
		return slice_eq(url, slice_of(m->text));
	if (!m->glob)
		return slice_starts(url, slice_of(m->text));
	if (url.n >= sizeof(text))
		return false;
	memcpy(text, url.p, url.n);
	text[url.n] = '\0';
	return fnmatch(m->text, text, 0) == 0;
}

/* Records copied out of the index, to be looked at when its transaction is over. */
struct inspect_batch {
	const struct inspect_match *match;
	char text[INSPECT_TEXT_BYTES];		/* of inspect_is_again */
	struct inspect_url urls[INSPECT_BATCH];
	unsigned n;
};

static void
inspect_batch_add(void *arg, const struct key *key, const struct object_rec *rec)
{
	struct inspect_batch *b = arg;
	struct inspect_url *u = &b->urls[b->n];
	struct slice *s[3] = {&u->url, &u->etag, &u->fields};
	char *p;
	unsigned i;

	MUST(b->n < INSPECT_BATCH);
	if (!inspect_matches(b->match, rec->url))
		return;
	p = malloc(rec->url.n + rec->etag.n + rec->fields.n + 1);
	if (p == NULL)
		return;
	inspect_from_record(u, key, rec);
	for (i = 0; i < NELEM(s); i++) {
		if (s[i]->n != 0)
			memcpy(p, s[i]->p, s[i]->n);
		s[i]->p = p;
		p += s[i]->n;
	}
	b->n++;
}

static bool
inspect_is_again(struct cache_view *v, const struct inspect_url *u, char text[INSPECT_TEXT_BYTES])
{
	struct object_rec rec;
	struct key plain;

	key_of_text(u->url, &plain);
	return memcmp(&plain, &u->key, sizeof(plain)) != 0 &&
	    index_get_object(cache_view_index(v), &plain, &rec, text) == REASON_OK &&
	    memcmp(rec.digest, u->digest, sizeof(u->digest)) == 0;
}

enum reason
inspect_walk(struct cache_view *v, const struct inspect_match *m, inspect_url_f *fn, void *arg)
{
	struct inspect_batch *b = calloc(1, sizeof(*b));
	struct key last, *after = NULL;
	uint32_t seen_n = INSPECT_BATCH;
	enum reason r = b != NULL ? REASON_OK : REASON_NO_MEMORY;
	bool more = true;
	unsigned i;

	while (r == REASON_OK && more && seen_n == INSPECT_BATCH) {
		b->match = m;
		b->n = 0;
		r = index_walk_objects(cache_view_index(v), after, INSPECT_BATCH, inspect_batch_add,
		    b, &last, &seen_n);
		after = &last;
		for (i = 0; i < b->n; i++) {
			if (r == REASON_OK && more) {
				inspect_add_blob(v, &b->urls[i]);
				b->urls[i].again = inspect_is_again(v, &b->urls[i], b->text);
				more = fn(arg, &b->urls[i]);
			}
			free((char *)(uintptr_t)b->urls[i].url.p);
		}
	}
	free(b);
	return r;
}

struct inspect_digests {
	uint8_t d[INSPECT_BATCH][32];
	unsigned n;
};

static void
inspect_digests_add(void *arg, const uint8_t digest[32], const struct blob_rec *rec)
{
	struct inspect_digests *ds = arg;

	(void)rec;
	MUST(ds->n < INSPECT_BATCH);
	memcpy(ds->d[ds->n++], digest, 32);
}

enum reason
inspect_walk_blobs(struct cache_view *v, inspect_blob_f *fn, void *arg)
{
	struct inspect_digests ds;
	uint8_t last[32];
	const uint8_t *after = NULL;
	uint32_t seen_n = INSPECT_BATCH;
	enum reason r = REASON_OK;
	unsigned i;

	while (r == REASON_OK && seen_n == INSPECT_BATCH) {
		ds.n = 0;
		r = index_walk_blobs(cache_view_index(v), after, INSPECT_BATCH, inspect_digests_add,
		    &ds, last, &seen_n);
		after = last;
		for (i = 0; i < ds.n && r == REASON_OK; i++)
			if (!fn(arg, ds.d[i]))
				return REASON_OK;
	}
	return r;
}

/* ---- bodies ---- */

enum reason
inspect_open_body(struct cache_view *v, const struct inspect_url *u, int *fd)
{
	struct blob_stat st;
	enum reason r = blob_open(cache_view_parts(v)->blobs, u->digest, fd, &st);

	if (r == REASON_OK && st.size_bytes != u->size_bytes) {
		(void)close(*fd);
		*fd = -1;
		r = REASON_DAMAGED;
	}
	return r;
}

/* Record and file go: the next request fetches the body anew. */
static enum inspect_health
inspect_condemn(struct cache_view *v, const uint8_t digest[32], enum inspect_health h)
{
	char hex[KEY_HEX_BYTES];

	key_hex(digest, hex);
	log_warning("stored body %s %s: dropped, to be fetched again", hex,
	    h == INSPECT_MISSING ? "is missing" : "has other bytes than its name says");
	COUNT(blobs_damaged_total);
	index_drop_blob(cache_view_parts(v)->index, digest);
	return h;
}

/* SHA-256 of what the descriptor holds. */
static enum inspect_health
inspect_hash(int fd, bool (*stop)(void *arg), void *arg, uint64_t *bytes, uint8_t got[32])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	char *buf = malloc(INSPECT_READ_BYTES);
	enum inspect_health h = INSPECT_GOOD;
	ssize_t n = 1;

	if (md == NULL || buf == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		h = INSPECT_UNREADABLE;
	while (h == INSPECT_GOOD && (n = read(fd, buf, INSPECT_READ_BYTES)) > 0) {
		*bytes += (uint64_t)n;
		if (EVP_DigestUpdate(md, buf, (size_t)n) != 1)
			h = INSPECT_UNREADABLE;
		else if (stop(arg))
			h = INSPECT_STOPPED;
	}
	if (h == INSPECT_GOOD && n < 0)
		h = INSPECT_DAMAGED;	/* the disk can't give it back */
	if (h == INSPECT_GOOD && EVP_DigestFinal_ex(md, got, NULL) != 1)
		h = INSPECT_UNREADABLE;
	free(buf);
	EVP_MD_CTX_free(md);
	return h;
}

enum inspect_health
inspect_verify(struct cache_view *v, const uint8_t digest[32], bool (*stop)(void *arg), void *arg,
    uint64_t *bytes)
{
	const struct cache_parts *parts = cache_view_parts(v);
	uint8_t got[32] = {0};
	struct blob_stat st;
	struct blob_rec rec;
	enum inspect_health h;
	int fd;
	enum reason r = blob_open(parts->blobs, digest, &fd, &st);
	bool known = index_get_blob(cache_view_index(v), digest, &rec) == REASON_OK;

	if (r == REASON_NOT_FOUND && !known)
		return INSPECT_GOOD;	/* evicted meanwhile */
	if (r == REASON_NOT_FOUND)
		return inspect_condemn(v, digest, INSPECT_MISSING);
	if (r != REASON_OK)
		return INSPECT_UNREADABLE;
	h = inspect_hash(fd, stop, arg, bytes, got);
	(void)close(fd);
	if (h == INSPECT_DAMAGED || (h == INSPECT_GOOD && memcmp(got, digest, 32) != 0))
		return inspect_condemn(v, digest, INSPECT_DAMAGED);
	if (h == INSPECT_GOOD && known && (rec.suspect || rec.mtime_ns != st.mtime_ns))
		index_clear_suspect(parts->index, digest, st.mtime_ns);
	return h;
}

/* ---- changes ---- */

void
inspect_forget(struct cache_view *v, const struct key *key)
{
	index_forget(cache_view_parts(v)->index, key);
}

void
inspect_flush(struct cache_view *v)
{
	index_flush(cache_view_parts(v)->index);
}
