/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef FLIGHT_PRIV_H
#define FLIGHT_PRIV_H
/*
 * The inside of a flight, for the files that carry it: flight.c (state,
 * readers, bytes), cache.c (table), verify.c (digest), sync.c (durability).
 */
#include <openssl/evp.h>
#include <pthread.h>

#include "cache/blob.h"
#include "cache/index.h"
#include "include/cache.h"
#include "include/flight.h"
#include "include/obj.h"

#define FLIGHT_MAGIC 0xf1197001u

struct verify;
struct sync;

struct flight {
	uint32_t magic;
	atomic_uint refs;
	uint64_t id;
	struct cache *cache;
	int64_t started_ms;

	/* What is fetched; never changes. */
	struct key key;
	struct slice url;		/* malloced */
	struct aptfile af;		/* slices point into url */
	bool private_;			/* in no table: one client's own */
	bool from_credentials;
	bool has_validators;		/* checks a stored object */
	struct cache_validators validators;
	bool expected;			/* the body must be this one */
	struct flight_expect expect;

	/* The table's side: under the shard's lock. */
	bool listed;
	TAILQ_ENTRY(flight) shard_link;

	pthread_mutex_t lock;		/* everything down to the next blank line */
	TAILQ_HEAD(, flight_reader) readers;
	unsigned readers_n;
	struct flight_driver driver;	/* crowd NULL: nobody drives it */
	bool begun, verified;
	bool ending;			/* somebody is failing it */
	enum reason reason;
	int upstream_status;
	char *detail;			/* malloced, or NULL */
	char *challenge;		/* malloced, or NULL */

	/* Written by the writer under the lock, read without it (published in this order). */
	_Atomic int fd;
	_Atomic int64_t total;
	_Atomic uint64_t committed;	/* written */
	_Atomic uint64_t visible;	/* of these, not withheld */
	_Atomic int state;		/* enum flight_state */

	/* The writer's own. */
	struct flight_head head;	/* published by the first state that has one */
	char *head_text;		/* malloced; etag and fields point into it */
	uint64_t reserved_bytes;	/* preallocated up to here */
	_Atomic uint64_t counted_bytes;	/* part of the cache's bytes being fetched */
	int memory_fd_was;		/* the file left behind when the body moved to memory; -1 */
	bool in_memory;			/* the body file is in memory: no disk took it */
	uint64_t memory_bytes;		/* granted of what bodies in memory may use */

	/* The writer's word to the verifier. */
	_Atomic bool writer_done;
	_Atomic bool keep;		/* to be stored; no longer once it moved to memory */
	_Atomic bool journal;		/* partial_begin was written */

	/* The verifier's own. */
	bool in_verify, verify_news;	/* under the verifier's lock */
	bool settled;			/* the verdict was given */
	TAILQ_ENTRY(flight) verify_link;
	EVP_MD_CTX *sha256, *named;	/* named: the by-hash algorithm when it is another */
	uint64_t hashed_bytes;
	uint32_t marks_n;
	uint8_t digest[32];
	_Atomic(flight_partial_f *) partial_done;	/* set: read the partial through first */
	void *partial_arg;
	struct partial_rec partial;
	char *partial_text;
	uint64_t partial_bytes;		/* proven; the body goes on from here */

	TAILQ_ENTRY(flight) sync_link;
};

/* What the cache gives to its parts. */
struct cache_parts {
	struct index *index;
	struct blobstore *blobs;
	struct verify *verify;
	struct sync *sync;
	struct evict *evict;
};
const struct cache_parts *cache_parts(struct cache *c);
/* out of the table, its reference dropped */
void cache_unlist(struct flight *f);
void cache_note_partial_bytes(struct cache *c, int64_t delta);

/* expect NULL: only a by-hash name says what the body must be. */
struct flight *flight_new(struct cache *c, const struct url *url, const struct key *key,
    const struct flight_expect *expect, bool private_) MUSTCHECK;
uint64_t flight_mark_end(uint32_t mark);		/* where journal mark `mark` ends */

/* The verifier's words to the flight, from its thread. */
void flight_digest_ok(struct flight *f);		/* f->digest is set */
void flight_digest_bad(struct flight *f, const char *got_hex);
void flight_verify_failed(struct flight *f, enum reason r);	/* could not be read back */
void flight_store(struct flight *f);			/* durable enough: into the index */

struct verify *verify_start(struct cache *c) MUSTCHECK;
void verify_stop(struct verify **v_p);
/*
 * More bytes, the writer is done, or a partial is to be read through. Takes a reference while it
 * works.
 */
void verify_poke(struct verify *v, struct flight *f);
bool verify_cancel_partial(struct verify *v, struct flight *f) MUSTCHECK;

struct sync *sync_start(struct cache *c) MUSTCHECK;
void sync_stop(struct sync **s_p);			/* finishes what is queued */
void sync_submit(struct sync *s, struct flight *f);	/* takes a reference while it works */

#endif
