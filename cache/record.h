/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef RECORD_H
#define RECORD_H
/*
 * The bytes of index records. LMDB has no checksums of its own, so each
 * record begins with a CRC over its key and all that follows, and a version
 * byte. Decoding validates everything: what comes from a disk is a peer's
 * word. Integers are in the machine's byte order, as LMDB's own pages are.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/index.h"

enum {
	RECORD_FORMAT = 1,		/* of the whole index, in meta */
	RECORD_HEAD_BYTES = 8,
	RECORD_OBJECT_BYTES = 120,	/* without text */
	RECORD_BLOB_BYTES = 88,
	RECORD_PARTIAL_BYTES = 40,	/* without text */
	RECORD_MARK_BYTES = 40,
	RECORD_STATE_BYTES = 216,
	RECORD_MAX_BYTES = RECORD_OBJECT_BYTES + OBJECT_TEXT_MAX,
	RECORD_MARK_KEY_BYTES = KEY_BYTES + 4,
	RECORD_BOOT_BYTES = 36,
	RECORD_RANGES_MAX = 8,
};

/* A blob's record: what others may know, and two numbers of the index's own. */
struct record_blob {
	struct blob_rec pub;	/* pub.suspect: marked so in the record */
	uint64_t born_seq;	/* store that made the record: URLs that carry it are references */
	uint64_t seq;		/* store of its bytes: perhaps not on disk above the synced one */
};

/* Store numbers in (above, upto] were not known to be on disk when the power went. */
struct record_range {
	uint64_t above, upto;
};

/* Where the index stands; written with each transaction that changes it. */
struct record_state {
	uint64_t seq;			/* number of the newest store */
	uint64_t synced_seq;		/* stores up to here are on disk */
	uint64_t blobs_n, blob_bytes;
	char boot_id[RECORD_BOOT_BYTES];	/* of the boot that wrote it */
	bool rebuild;			/* blobs/ may hold bodies without a record */
	uint32_t ranges_n;
	struct record_range ranges[RECORD_RANGES_MAX];
};

/* Each encoder returns the bytes used, 0 when text is longer than a record may hold. */
size_t record_object_encode(uint8_t out[RECORD_MAX_BYTES], const struct key *key,
    const struct object_rec *rec, uint64_t born_seq);
size_t record_blob_encode(uint8_t out[RECORD_BLOB_BYTES], const uint8_t digest[32],
    const struct record_blob *rec);
size_t record_partial_encode(uint8_t out[RECORD_MAX_BYTES], const struct key *key,
    const struct partial_rec *rec);
size_t record_mark_encode(uint8_t out[RECORD_MARK_BYTES],
    const uint8_t mark_key[RECORD_MARK_KEY_BYTES], const uint8_t digest[32]);
size_t record_state_encode(uint8_t out[RECORD_STATE_BYTES], const struct record_state *st);

/* Each decoder returns false for damaged bytes. Text of objects and partials points into `in`. */
bool record_object_decode(struct object_rec *rec, uint64_t *born_seq, const struct key *key,
    const void *in, size_t n) MUSTCHECK;
bool record_blob_decode(struct record_blob *rec, const uint8_t digest[32], const void *in,
    size_t n) MUSTCHECK;
bool record_partial_decode(struct partial_rec *rec, const struct key *key, const void *in,
    size_t n) MUSTCHECK;
bool record_mark_decode(uint8_t digest[32], const uint8_t mark_key[RECORD_MARK_KEY_BYTES],
    const void *in, size_t n) MUSTCHECK;
bool record_state_decode(struct record_state *st, const void *in, size_t n) MUSTCHECK;

/*
 * A repository's record: payload_n bytes are at out + RECORD_HEAD_BYTES; what
 * they say is repo_store.c's business. Returns the record's size.
 */
size_t record_repo_seal(uint8_t *out, size_t payload_n, const void *key, size_t key_n);
/* The payload in place; p NULL: damaged. */
struct slice record_repo_payload(const void *key, size_t key_n, const void *in, size_t n);

/* Moves a record's text into the caller's buffer, before what it points into goes away. */
void record_text_keep(struct slice *s[], size_t n, char text[OBJECT_TEXT_MAX]);

/* URL key, then the mark's number with its high byte first, so that marks sort. */
void record_mark_key(uint8_t out[RECORD_MARK_KEY_BYTES], const struct key *key, uint32_t mark);

#endif
