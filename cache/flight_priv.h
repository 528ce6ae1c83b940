/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef FLIGHT_PRIV_H
#define FLIGHT_PRIV_H
/*
 * The inside of a flight, for the files that carry it: flight.c (state),
 * flight_reader.c (readers), flight_body.c, flight_ahead.c and flight_ring.c (bytes),
 * flight_verdict.c (what becomes of the body), cache.c (table), verify.c
 * (digest), sync.c (durability).
 */
#include <openssl/evp.h>
#include <pthread.h>

#include "cache/blob.h"
#include "cache/evict.h"
#include "cache/index.h"
#include "include/cache.h"
#include "include/flight.h"
#include "include/obj.h"

#define FLIGHT_MAGIC 0xf1197001u

struct release;
struct verify;
struct sync;
struct flight_ring;
struct stage_unread;

/*
 * One try at the body: its file, and the head that came with it. A flight has two at most: the one
 * that readers are shown, and the one that is being written. These differ only while what was
 * shown turned out to be wrong and the object is fetched again. Readers move from one to the other
 * under the flight's lock (flight_follow); the last one to leave what is no longer shown closes its
 * file.
 */
struct flight_body {
	_Atomic int fd;			/* -1: none */
	_Atomic int64_t total;		/* -1: not known yet */
	_Atomic bool lost;		/* whoever got bytes of it can't go on */
	unsigned readers_n;		/* flight's lock: attached to this one */
	uint64_t window_id;		/* of its bytes; see window.h */
	struct flight_head head;	/* published by the first state that has one */
	char *head_text;		/* malloced; etag and fields point into it */
	_Atomic uint64_t counted_bytes;	/* part of the cache's bytes being fetched */
	_Atomic(struct flight_ring *) ring;	/* the rest, when no disk took it; NULL */
	/* A short body's bytes, malloced: until it is stored it has no file. NULL: it is not short. */
	char *bytes;
	uint64_t bytes_cap;
};

/* Bytes that came before their turn; see flight_ahead.c. */
struct flight_island {
	uint64_t first, end;
};

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
	bool unpaced;			/* its writer waits for no reader: a file, or nothing */
	bool from_credentials;
	bool has_validators;		/* checks a stored object */
	struct cache_validators validators;
	/*
	 * A Release: nothing of it is shown before stage.c has judged it. Set before it is
	 * listed.
	 */
	_Atomic bool gated;
	bool expected;			/* the body must be this one */
	struct flight_expect expect;
	char *alternate;		/* malloced: a URL to be tried first; or NULL */
	struct repo_gen *gen;		/* whose index this is, a reference; NULL: not waited for */

	/* The table's side: under the shard's lock. */
	bool listed;
	TAILQ_ENTRY(flight) shard_link;

	pthread_mutex_t lock;		/* everything down to the next blank line */
	TAILQ_HEAD(, flight_reader) readers;
	_Atomic unsigned readers_n;	/* read without it */
	unsigned ahead_n;		/* nobody waits for these yet */
	struct flight_driver driver;	/* crowd NULL: nobody drives it */
	bool begun, verified;
	uint64_t withheld_bytes;	/* of a body that is expected: at its end, until its digest agrees */
	bool ending;			/* somebody is failing it */
	bool closed;			/* for want of readers: who comes now is late */
	bool digested;			/* the verifier reads the ring, or the file before it */
	enum reason reason;
	int upstream_status;
	char *detail;			/* malloced, or NULL */
	char *challenge;		/* malloced, or NULL */
	unsigned retry_after_s;
	struct stage_unread *unread;	/* an index that is whole and not settled; NULL: not so */
	struct flight_island *islands;	/* malloced; by offset, apart; changed by the writer alone */
	atomic_uint islands_n;
	unsigned islands_cap;		/* 0: there never was one */

	/* Written by the writer under the lock, read without it (published in this order). */
	struct flight_body bodies[2];
	_Atomic(struct flight_body *) body;	/* being written, or written last */
	_Atomic(struct flight_body *) shown;	/* whose bytes are visible */
	_Atomic uint64_t diverges_at;	/* the first byte in which a wrong body differed */
	_Atomic uint64_t committed;	/* written to body */
	_Atomic uint64_t visible;	/* of shown: not withheld */
	_Atomic int state;		/* enum flight_state */
	_Atomic bool is_settled;	/* in the index, or it will never be */
	_Atomic bool is_stored;		/* in the index */

	/* The writer's own. */
	uint64_t reserved_bytes;	/* preallocated up to here */
	uint64_t given_bytes, given_of_bytes;	/* visible and committed when readers last got something, */
	int64_t given_ms;		/* and when that was, by flight_tick's clock */
	_Atomic bool marked;		/* wrong bytes went out under its validators */
	_Atomic bool in_memory;		/* the rest of the body goes through a ring */

	/* The writer's word to the verifier. */
	_Atomic bool writer_done;
	_Atomic bool doubted;		/* stop: the body is not the expected one */
	_Atomic bool keep;		/* to be stored; no longer once it moved to memory */
	_Atomic bool journal;		/* partial_begin was written */

	/* The verifier's own. */
	bool in_verify, verify_news;	/* under the verifier's lock */
	_Atomic bool settled;		/* the verdict was given: not its turn until a new body */
	TAILQ_ENTRY(flight) verify_link;
	EVP_MD_CTX *sha256, *named;	/* named: the by-hash algorithm when it is another */
	_Atomic uint64_t hashed_bytes;
	uint32_t marks_n;
	uint8_t digest[32];
	_Atomic(flight_partial_f *) partial_done;	/* set: read the partial through first */
	void *partial_arg;
	struct partial_rec partial;
	char *partial_text;
	uint64_t partial_bytes;		/* proven; the body goes on from here */

	TAILQ_ENTRY(flight) sync_link;
	struct evict_wish room;		/* done is set once it was asked for */
};

/* What the cache gives to its parts. */
struct cache_parts {
	struct index *index;
	struct blobstore *blobs;
	struct verify *verify;
	struct sync *sync;
	struct evict *evict;
	struct repos *repos;
	struct stage *stage;
	struct scrub *scrub;
	struct ahead *ahead;		/* NULL: nothing is fetched ahead */
};
const struct cache_parts *cache_parts(struct cache *c);
/*
 * For the stage and ahead.c: the running flight of this key, or a new one that is fetched at
 * once. A reference; NULL: no memory, or, of what is expected, that it is stored by now.
 * by_hash: whose digests' names may be asked for first, or NULL.
 */
struct flight *cache_start(struct cache *c, struct index_view *view, struct slice url,
    const struct key *key, const struct flight_expect *expect, const struct release *by_hash,
    bool no_cache);
/* For ahead.c: may this be asked for at all? */
bool cache_may_fetch(struct cache *c, const struct url *url);
/* Asks upstream for a flight that waits; it fails when the depot stops. */
void cache_fetch(struct cache *c, struct flight *f, bool no_cache);
/*
 * Is a body with this digest stored that may serve the URL? Then its version's record is made, with
 * the origin's validators if the body came from this very URL.
 */
bool cache_link_digest(struct cache *c, struct index_view *view, struct slice url,
    const struct key *key, const uint8_t digest[32]);
int64_t cache_adopt_older_s(struct cache *c, struct slice root);
/* Who judges signatures, and how strictly; NULL: nobody. */
struct sign *cache_sign(const struct cache *c, bool *hold_changes);
/* out of the table, its reference dropped */
void cache_unlist(struct flight *f);
/* False, and not noted: more would be fetched than the budget has room for. */
bool cache_note_partial_bytes(struct cache *c, int64_t delta);

/* expect NULL: only a by-hash name says what the body must be. */
struct flight *flight_new(struct cache *c, const struct url *url, const struct key *key,
    const struct flight_expect *expect, bool private_) MUSTCHECK;
uint64_t flight_mark_end(uint32_t mark);		/* where journal mark `mark` ends */

/* ---- flight.c, for the others ---- */
/* The one place where the state changes (lock held). */
void flight_set_state(struct flight *f, enum flight_state to);
/* Whoever waits for it to be stored need not any longer. */
void flight_settle(struct flight *f);
/* Tells the writer that the verdict is there (lock held); false: nobody listens. */
bool flight_tell_writer(struct flight *f);
/* Shows readers what they may have by now (lock held). */
void flight_publish(struct flight *f);
/* It is COMPLETE now: its readers may be told how long it is (lock held). */
void flight_note_total(struct flight *f);
/* What is being written, and what readers are shown. */
struct flight_body *flight_body(const struct flight *f);
struct flight_body *flight_shown(const struct flight *f);

/* ---- flight_reader.c ---- */
/* There are so many bytes now: wakes who waits for that (lock held). UINT64_MAX: everybody. */
void flight_wake_readers(struct flight *f, uint64_t upto);
void flight_wake_reader(struct flight_reader *r);	/* if it waits (lock held) */

/* ---- flight_ahead.c ---- */
uint64_t flight_readable_locked(const struct flight *f, uint64_t at);
void flight_trim_islands(struct flight *f, uint64_t upto);	/* the prefix has come there */

/* ---- flight_body.c, for the others ---- */
void flight_body_init(struct flight_body *b);
/* Closes its file, frees its text, returns what it was counted for. */
void flight_body_clear(struct flight *f, struct flight_body *b);
void flight_body_close(struct flight *f, struct flight_body *b);	/* its file only */
/* Writes at this place of the file, for which room is made. */
enum reason flight_write_at(struct flight *f, uint64_t at, const char *p, size_t n) MUSTCHECK;
/* The prefix ends there now (lock held). */
void flight_grow_prefix(struct flight *f, uint64_t upto);
enum reason flight_copy_head(struct flight *f, const struct flight_head *h) MUSTCHECK;
/* Leaves the unfinished body for a later flight, or removes it. */
void flight_end_partial(struct flight *f, bool keep);
/* The digests begin anew; the verifier is not at it. */
void flight_forget_digests(struct flight *f);
void flight_close_file(struct flight_body *b);	/* not what it is counted for */
/* The body's bytes are no longer the flight's: stored, or gone. */
void flight_uncount(struct flight *f, struct flight_body *b);

/* ---- flight_ring.c ---- */
/* Makes the ring of the body that is being written, for the bytes from base on. */
enum reason flight_ring_open(struct flight *f, uint64_t base) MUSTCHECK;
void flight_ring_close(struct flight_body *b);
bool flight_ring_has_start(const struct flight_body *b);	/* lock held; true without a ring */
enum reason flight_ring_put(struct flight *f, const char *p, size_t n) MUSTCHECK;
/* Somebody read on or left: is there room for the writer (lock held)? */
void flight_ring_moved(struct flight *f);
void flight_ring_tick(struct flight *f, int64_t now_ms);	/* cuts who holds others back */
bool flight_ring_is_full(const struct flight_body *b);
struct flight_span flight_body_span(const struct flight_body *b, uint64_t at, uint64_t n);

/* The verifier's words to the flight, from its thread. */
void flight_hashed(struct flight *f);			/* some more of it */
void flight_not_digested(struct flight *f);		/* it will not read it any more */
void flight_doubt_settled(struct flight *f);		/* it has let go of a doubted body */
void flight_digest_ok(struct flight *f);		/* f->digest is set */
void flight_digest_bad(struct flight *f, const char *got_hex);
void flight_verify_failed(struct flight *f, enum reason r);	/* could not be read back */
void flight_store(struct flight *f);			/* durable enough: into the index */
/* stage.c's words: a gated body is to be stored; it may be shown, and is done. */
void flight_store_gated(struct flight *f);
void flight_open_gate(struct flight *f);
/* May all of its body be read already, whatever is still to be written down? */
bool flight_is_whole(const struct flight *f);
bool flight_is_stored(const struct flight *f);
/* Another key gets the same record. The flight is stored. */
void flight_link(struct flight *f, const struct key *key);
/* Is it in the index, or will it never be? Waiting readers are woken once that is so. */
bool flight_is_settled(const struct flight *f);

struct verify *verify_start(struct cache *c) MUSTCHECK;
void verify_stop(struct verify *v);	/* finishes what was poked in; later pokes are of no effect */
void verify_free(struct verify **v_p);
/*
 * More bytes, the writer is done, or a partial is to be read through. Takes a reference while it
 * works.
 */
void verify_poke(struct verify *v, struct flight *f);
bool verify_cancel_partial(struct verify *v, struct flight *f) MUSTCHECK;

struct sync *sync_start(struct cache *c) MUSTCHECK;
void sync_stop(struct sync **s_p);			/* finishes what is queued */
void sync_submit(struct sync *s, struct flight *f);	/* takes a reference while it works */
void sync_part(struct sync *s);				/* some of a body has come */

#endif
