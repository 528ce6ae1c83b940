/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Index records as bytes; pure. Called by the index (reading and writing),
 * and by the child process that examines an index after an unclean stop. Each
 * record is one fixed head, copied as it lies in memory, and for objects and
 * partials the text behind it. The key is part of the CRC: a whole record
 * under a wrong key is as wrong as a torn one.
 */
#include "cache/record.h"
#include "include/obj.h"

#include <stddef.h>
#include <string.h>
#include <zlib.h>

enum {
	RECORD_VERSION = 1,
	RECORD_BLOB_VERSION = 2,	/* 1 ended before the provenance, and is still read */
	RECORD_BLOB_1_BYTES = 64,
	OBJECT_CREDENTIALS = 1 << 0,
	OBJECT_NO_CACHE = 1 << 1,
	OBJECT_MUST_REVALIDATE = 1 << 2,
	OBJECT_VALIDATORS_SHARED = 1 << 3,
	BLOB_SUSPECT = 1 << 0,
	BLOB_RESTRICTED = 1 << 1,
	STATE_REBUILD = 1 << 0,
};

/* First in each record. */
struct record_head {
	uint32_t crc;		/* over the key, then all after this field */
	uint8_t version;
	uint8_t class;		/* objects only */
	uint16_t flags;
};

struct record_object_disk {
	struct record_head head;
	uint8_t digest[32];
	uint64_t size_bytes;
	uint64_t born_seq;
	int64_t stored_at_ms, checked_at_ms, checked_at_s, date_s;
	int64_t last_modified_s;
	int32_t age_s, lifetime_s, stale_if_error_s;
	uint16_t url_n, etag_n;
	uint16_t fields_n, spare[3];
};

struct record_blob_disk {
	struct record_head head;
	uint64_t size_bytes;
	int64_t mtime_ns, stored_at_s, used_at_s;
	uint64_t born_seq, seq;
	uint32_t refs_n, spare;
	/* Not in version 1. */
	uint8_t address[16];
	uint16_t port;
	uint8_t way, proof;
	uint32_t spare2;
};

struct record_partial_disk {
	struct record_head head;
	int64_t total_bytes, started_at_s, last_modified_s;
	uint16_t url_n, etag_n, fields_n, spare;
};

struct record_mark_disk {
	struct record_head head;
	uint8_t digest[32];
};

struct record_state_disk {
	struct record_head head;
	uint64_t seq, synced_seq, blobs_n, blob_bytes;
	char boot_id[RECORD_BOOT_BYTES];
	uint32_t ranges_n;
	struct record_range ranges[RECORD_RANGES_MAX];
	uint64_t spare;
};

_Static_assert(sizeof(struct record_head) == RECORD_HEAD_BYTES, "record head");
_Static_assert(sizeof(struct record_object_disk) == RECORD_OBJECT_BYTES, "url record");
_Static_assert(sizeof(struct record_blob_disk) == RECORD_BLOB_BYTES, "blob record");
_Static_assert(offsetof(struct record_blob_disk, address) == RECORD_BLOB_1_BYTES, "blob record 1");
_Static_assert(sizeof(struct record_partial_disk) == RECORD_PARTIAL_BYTES, "partial record");
_Static_assert(sizeof(struct record_mark_disk) == RECORD_MARK_BYTES, "mark record");
_Static_assert(sizeof(struct record_state_disk) == RECORD_STATE_BYTES, "state record");
_Static_assert(offsetof(struct record_object_disk, head) == 0 &&
    offsetof(struct record_blob_disk, head) == 0, "heads come first");

/* CRC of a record that lies at p, under its key. */
static uint32_t
record_crc(const void *key, size_t key_n, const uint8_t *p, size_t n)
{
	uLong crc = crc32(0, key, (uInt)key_n);

	return (uint32_t)crc32(crc, p + sizeof(uint32_t), (uInt)(n - sizeof(uint32_t)));
}

/* Writes version and CRC into a record whose other bytes are there. */
static size_t
record_seal_as(uint8_t version, uint8_t *out, size_t n, const void *key, size_t key_n)
{
	uint32_t crc;

	out[offsetof(struct record_head, version)] = version;
	crc = record_crc(key, key_n, out, n);
	memcpy(out, &crc, sizeof(crc));
	return n;
}

static size_t
record_seal(uint8_t *out, size_t n, const void *key, size_t key_n)
{
	return record_seal_as(RECORD_VERSION, out, n, key, key_n);
}

/* Is this a record of that version, at least min_n long and whole? */
static bool
record_is_whole_as(uint8_t version, const void *in, size_t n, size_t min_n, const void *key, size_t key_n)
{
	const uint8_t *p = in;
	uint32_t crc;

	if (n < min_n || n > RECORD_MAX_BYTES)
		return false;
	memcpy(&crc, p, sizeof(crc));
	return crc == record_crc(key, key_n, p, n) &&
	    p[offsetof(struct record_head, version)] == version;
}

static bool
record_is_whole(const void *in, size_t n, size_t min_n, const void *key, size_t key_n)
{
	return record_is_whole_as(RECORD_VERSION, in, n, min_n, key, key_n);
}

/* Seconds that may be -1 (unknown): what does not fit 32 bits is "for ever". */
static int32_t
record_seconds(int64_t s)
{
	if (s < 0)
		return -1;
	return s > INT32_MAX ? INT32_MAX : (int32_t)s;
}

/* Appends the three texts behind a head; returns the new end, 0 when they do not fit. */
static size_t
record_text_put(uint8_t *out, size_t at, const struct slice *text[3])
{
	if (text[0]->n > OBJECT_TEXT_MAX || text[1]->n > OBJECT_TEXT_MAX ||
	    text[2]->n > OBJECT_TEXT_MAX || text[0]->n + text[1]->n + text[2]->n > OBJECT_TEXT_MAX)
		return 0;
	for (unsigned i = 0; i < 3; i++) {
		if (text[i]->n != 0)
			memcpy(out + at, text[i]->p, text[i]->n);
		at += text[i]->n;
	}
	return at;
}

/* Points the three texts at the bytes behind a head, if these are just as long. */
static bool
record_text_get(struct slice *text[3], const uint16_t n[3], const char *p, size_t left)
{
	if ((size_t)n[0] + n[1] + n[2] != left || left > OBJECT_TEXT_MAX)
		return false;
	for (unsigned i = 0; i < 3; i++) {
		*text[i] = n[i] != 0 ? (struct slice){p, n[i]} : SLICE_NONE;
		p += n[i];
	}
	return true;
}

void
record_text_keep(struct slice *s[], size_t n, char text[OBJECT_TEXT_MAX])
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		MUST(s[i]->n <= OBJECT_TEXT_MAX - at);
		if (s[i]->n != 0)
			memcpy(text + at, s[i]->p, s[i]->n);
		s[i]->p = text + at;
		at += s[i]->n;
	}
}

size_t
record_object_encode(uint8_t out[RECORD_MAX_BYTES], const struct key *key,
    const struct object_rec *rec, uint64_t born_seq)
{
	const struct slice *text[3] = {&rec->url, &rec->etag, &rec->fields};
	struct record_object_disk d = {
		.head.class = (uint8_t)rec->class,
		.head.flags = (uint16_t)((rec->from_credentials ? OBJECT_CREDENTIALS : 0) |
		    (rec->validators_shared ? OBJECT_VALIDATORS_SHARED : 0) |
		    (rec->terms.no_cache ? OBJECT_NO_CACHE : 0) |
		    (rec->terms.must_revalidate ? OBJECT_MUST_REVALIDATE : 0)),
		.size_bytes = rec->size_bytes,
		.born_seq = born_seq,
		.stored_at_ms = rec->stored_at_ms,
		.checked_at_ms = rec->checked_at_ms,
		.checked_at_s = rec->terms.checked_at_s,
		.date_s = rec->terms.date_s,
		.last_modified_s = rec->terms.last_modified_s,
		.age_s = record_seconds(rec->terms.age_s),
		.lifetime_s = record_seconds(rec->terms.lifetime_s),
		.stale_if_error_s = record_seconds(rec->terms.stale_if_error_s),
		.url_n = (uint16_t)rec->url.n,
		.etag_n = (uint16_t)rec->etag.n,
		.fields_n = (uint16_t)rec->fields.n,
	};
	size_t n = record_text_put(out, sizeof(d), text);

	if (n == 0)
		return 0;
	memcpy(d.digest, rec->digest, sizeof(d.digest));
	memcpy(out, &d, sizeof(d));
	return record_seal(out, n, key->b, KEY_BYTES);
}

bool
record_object_decode(struct object_rec *rec, uint64_t *born_seq, const struct key *key,
    const void *in, size_t n)
{
	struct slice *text[3] = {&rec->url, &rec->etag, &rec->fields};
	struct record_object_disk d;

	if (!record_is_whole(in, n, sizeof(d), key->b, KEY_BYTES))
		return false;
	memcpy(&d, in, sizeof(d));
	if (d.head.class > APTFILE_PACKAGE ||
	    !record_text_get(text, (const uint16_t[]){d.url_n, d.etag_n, d.fields_n},
	    (const char *)in + sizeof(d), n - sizeof(d)))
		return false;
	memcpy(rec->digest, d.digest, sizeof(d.digest));
	rec->size_bytes = d.size_bytes;
	rec->stored_at_ms = d.stored_at_ms;
	rec->checked_at_ms = d.checked_at_ms;
	rec->class = (enum aptfile_class)d.head.class;
	rec->from_credentials = (d.head.flags & OBJECT_CREDENTIALS) != 0;
	rec->validators_shared = (d.head.flags & OBJECT_VALIDATORS_SHARED) != 0;
	rec->terms = (struct fresh_terms){
		.checked_at_s = d.checked_at_s,
		.date_s = d.date_s,
		.age_s = d.age_s,
		.lifetime_s = d.lifetime_s,
		.last_modified_s = d.last_modified_s,
		.stale_if_error_s = d.stale_if_error_s,
		.no_cache = (d.head.flags & OBJECT_NO_CACHE) != 0,
		.must_revalidate = (d.head.flags & OBJECT_MUST_REVALIDATE) != 0,
	};
	*born_seq = d.born_seq;
	return true;
}

size_t
record_blob_encode(uint8_t out[RECORD_BLOB_BYTES], const uint8_t digest[32],
    const struct record_blob *rec)
{
	struct record_blob_disk d = {
		.head.flags = (uint16_t)((rec->pub.suspect ? BLOB_SUSPECT : 0) |
		    (rec->pub.restricted ? BLOB_RESTRICTED : 0)),
		.size_bytes = rec->pub.size_bytes,
		.mtime_ns = rec->pub.mtime_ns,
		.stored_at_s = rec->pub.stored_at_s,
		.used_at_s = rec->pub.used_at_s,
		.born_seq = rec->born_seq,
		.seq = rec->seq,
		.refs_n = rec->pub.refs_n,
		.port = rec->pub.from.port,
		.way = (uint8_t)rec->pub.from.way,
		.proof = (uint8_t)rec->pub.from.proof,
	};

	memcpy(d.address, rec->pub.from.address, sizeof(d.address));
	memcpy(out, &d, sizeof(d));
	return record_seal_as(RECORD_BLOB_VERSION, out, sizeof(d), digest, 32);
}

bool
record_blob_decode(struct record_blob *rec, const uint8_t digest[32], const void *in, size_t n)
{
	struct record_blob_disk d = {.way = PROVENANCE_UNKNOWN};

	if (!(n == sizeof(d) && record_is_whole_as(RECORD_BLOB_VERSION, in, n, n, digest, 32)) &&
	    !(n == RECORD_BLOB_1_BYTES && record_is_whole_as(1, in, n, n, digest, 32)))
		return false;
	memcpy(&d, in, n);
	if (d.way > PROVENANCE_IMPORTED || d.proof > PROVENANCE_LISTED)
		return false;
	rec->pub = (struct blob_rec){
		.size_bytes = d.size_bytes,
		.mtime_ns = d.mtime_ns,
		.stored_at_s = d.stored_at_s,
		.used_at_s = d.used_at_s,
		.refs_n = d.refs_n,
		.suspect = (d.head.flags & BLOB_SUSPECT) != 0,
		.restricted = (d.head.flags & BLOB_RESTRICTED) != 0,
		.from = {.way = (enum provenance_way)d.way,
		    .proof = (enum provenance_proof)d.proof, .port = d.port},
	};
	memcpy(rec->pub.from.address, d.address, sizeof(d.address));
	rec->born_seq = d.born_seq;
	rec->seq = d.seq;
	return true;
}

size_t
record_partial_encode(uint8_t out[RECORD_MAX_BYTES], const struct key *key,
    const struct partial_rec *rec)
{
	const struct slice *text[3] = {&rec->url, &rec->etag, &rec->fields};
	struct record_partial_disk d = {
		.total_bytes = rec->total_bytes,
		.started_at_s = rec->started_at_s,
		.last_modified_s = rec->last_modified_s,
		.url_n = (uint16_t)rec->url.n,
		.etag_n = (uint16_t)rec->etag.n,
		.fields_n = (uint16_t)rec->fields.n,
	};
	size_t n = record_text_put(out, sizeof(d), text);

	if (n == 0)
		return 0;
	memcpy(out, &d, sizeof(d));
	return record_seal(out, n, key->b, KEY_BYTES);
}

bool
record_partial_decode(struct partial_rec *rec, const struct key *key, const void *in, size_t n)
{
	struct slice *text[3] = {&rec->url, &rec->etag, &rec->fields};
	struct record_partial_disk d;

	if (!record_is_whole(in, n, sizeof(d), key->b, KEY_BYTES))
		return false;
	memcpy(&d, in, sizeof(d));
	if (d.total_bytes < -1 ||
	    !record_text_get(text, (const uint16_t[]){d.url_n, d.etag_n, d.fields_n},
	    (const char *)in + sizeof(d), n - sizeof(d)))
		return false;
	rec->total_bytes = d.total_bytes;
	rec->started_at_s = d.started_at_s;
	rec->last_modified_s = d.last_modified_s;
	rec->marks_n = 0;
	return true;
}

void
record_mark_key(uint8_t out[RECORD_MARK_KEY_BYTES], const struct key *key, uint32_t mark)
{
	memcpy(out, key->b, KEY_BYTES);
	for (unsigned i = 0; i < 4; i++)
		out[KEY_BYTES + i] = (uint8_t)(mark >> (24 - 8 * i));
}

size_t
record_mark_encode(uint8_t out[RECORD_MARK_BYTES], const uint8_t mark_key[RECORD_MARK_KEY_BYTES],
    const uint8_t digest[32])
{
	struct record_mark_disk d = {.head.flags = 0};

	memcpy(d.digest, digest, sizeof(d.digest));
	memcpy(out, &d, sizeof(d));
	return record_seal(out, sizeof(d), mark_key, RECORD_MARK_KEY_BYTES);
}

bool
record_mark_decode(uint8_t digest[32], const uint8_t mark_key[RECORD_MARK_KEY_BYTES],
    const void *in, size_t n)
{
	if (n != RECORD_MARK_BYTES ||
	    !record_is_whole(in, n, RECORD_MARK_BYTES, mark_key, RECORD_MARK_KEY_BYTES))
		return false;
	memcpy(digest, (const uint8_t *)in + offsetof(struct record_mark_disk, digest), 32);
	return true;
}

size_t
record_state_encode(uint8_t out[RECORD_STATE_BYTES], const struct record_state *st)
{
	struct record_state_disk d = {
		.head.flags = st->rebuild ? STATE_REBUILD : 0,
		.seq = st->seq,
		.synced_seq = st->synced_seq,
		.blobs_n = st->blobs_n,
		.blob_bytes = st->blob_bytes,
		.ranges_n = st->ranges_n,
	};

	MUST(st->ranges_n <= RECORD_RANGES_MAX);
	memcpy(d.boot_id, st->boot_id, sizeof(d.boot_id));
	memcpy(d.ranges, st->ranges, sizeof(d.ranges));
	memcpy(out, &d, sizeof(d));
	return record_seal(out, sizeof(d), "state", 5);
}

bool
record_state_decode(struct record_state *st, const void *in, size_t n)
{
	struct record_state_disk d;

	if (n != sizeof(d) || !record_is_whole(in, n, sizeof(d), "state", 5))
		return false;
	memcpy(&d, in, sizeof(d));
	if (d.ranges_n > RECORD_RANGES_MAX)
		return false;
	st->seq = d.seq;
	st->synced_seq = d.synced_seq;
	st->blobs_n = d.blobs_n;
	st->blob_bytes = d.blob_bytes;
	st->rebuild = (d.head.flags & STATE_REBUILD) != 0;
	st->ranges_n = d.ranges_n;
	memcpy(st->boot_id, d.boot_id, sizeof(st->boot_id));
	memcpy(st->ranges, d.ranges, sizeof(st->ranges));
	return true;
}

size_t
record_repo_seal(uint8_t *out, size_t payload_n, const void *key, size_t key_n)
{
	memset(out, 0, RECORD_HEAD_BYTES);
	return record_seal(out, RECORD_HEAD_BYTES + payload_n, key, key_n);
}

struct slice
record_repo_payload(const void *key, size_t key_n, const void *in, size_t n)
{
	if (!record_is_whole(in, n, RECORD_HEAD_BYTES, key, key_n))
		return SLICE_NONE;
	return (struct slice){(const char *)in + RECORD_HEAD_BYTES, n - RECORD_HEAD_BYTES};
}
