/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef FLIGHT_H
#define FLIGHT_H
/*
 * A flight is an object being fetched: one writer (the upstream thread), any
 * number of readers (connections on worker threads), a body file between
 * them, and the verifier behind the writer. It belongs to the object, never
 * to a client: readers come and go.
 *
 * Life: cache_ask makes it WAITING and puts it in the table, or hands out
 * the one that is there. The writer then takes exactly one of these ways:
 *
 *   flight_confirmed              WAITING -> CONFIRMED   (304: what is stored is good)
 *   flight_begin, flight_append*, WAITING -> STREAMING
 *     flight_finish                       -> COMPLETE    once every byte may be read
 *   flight_fail                   any     -> FAILED
 *
 * A body with an expected digest becomes COMPLETE only when the verifier
 * agrees; until then its last 64 KiB are withheld, or less where that would
 * leave readers without a byte for long. Where it does not agree, the writer
 * hears of it (verdict) and either fails the flight or fetches the object
 * again, from flight_restart on: STREAMING -> HELD. Readers that have bytes
 * wait then. Nothing of the new body shows before its digest agrees; a reader
 * goes on with it if it is the same as far as that reader had come, else it
 * is cut (flight_follow). A shareable flight stays findable until its record
 * is committed, so that nobody fetches the object again in between. Each
 * holder (table, writer, verifier, reader) counts one reference.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "include/aptfile.h"
#include "include/fresh.h"
#include "include/key.h"
#include "include/obj.h"
#include "include/provenance.h"
#include "include/reason.h"

enum flight_state {
	FLIGHT_WAITING,		/* nothing known yet */
	FLIGHT_STREAMING,	/* head known, body arriving */
	FLIGHT_HELD,		/* what has come was wrong: it is fetched again */
	FLIGHT_COMPLETE,	/* every byte may be read */
	FLIGHT_CONFIRMED,	/* the stored object is still good */
	FLIGHT_FAILED,		/* see flight_reason, flight_detail */
};

enum { FLIGHT_WITHHELD_BYTES = 64 << 10 };

struct flight;
struct cache;

/* What a body must be: said by its by-hash name, or by the generation that lists it. */
struct flight_expect {
	enum aptfile_hash hash;
	uint8_t digest[64];		/* as many bytes as the algorithm has */
	int64_t size_bytes;		/* -1: not known */
};

/*
 * What the writer learned from the final response head. Copied by flight_begin and
 * flight_confirmed.
 */
struct flight_head {
	int64_t total_bytes;		/* -1: not announced */
	struct fresh_terms terms;
	int64_t checked_at_ms;		/* wall clock, when the request was sent */
	struct slice etag;		/* empty: none */
	struct slice fields;		/* kept end-to-end fields, lines with CRLF */
	struct provenance from;		/* the writer's part of it */
	bool shareable;			/* may other clients have it, now? */
	bool keep;			/* may it be stored? */
	bool no_body;			/* HEAD: the head is all there will be */
};

/*
 * One request that follows a flight. Memory is the caller's; from attach to detach it stays where
 * it is.
 */
struct flight_reader {
	TAILQ_ENTRY(flight_reader) link;	/* flight's list, under its lock */
	struct flight *f;			/* NULL: not attached */
	/*
	 * Called under the flight's lock from any thread, once per flight_wait, and when the reader
	 * is left behind: may only post a message.
	 */
	void (*wake)(struct flight_reader *r);
	uint64_t seen_bytes;			/* flight's lock: it waits for more than these */
	bool waiting;
	bool owner;				/* the one whose request started the flight */
	bool late;				/* it came when the flight was being called off */
	_Atomic bool begun;			/* its client has a status line */
	_Atomic uint64_t at;			/* nothing before it is needed */
	uint64_t want_first, want_end;		/* the part that is asked for; set under flight's lock */
	_Atomic bool left_behind;		/* its bytes are gone, or it was too slow */
	_Atomic bool in_use;			/* of its bytes none may go: flight_follow to flight_rest */
	int64_t slow_ms;			/* flight's lock: measured since; 0: not */
	uint64_t slow_at;
	struct flight_body *body;		/* whose bytes it reads; the flight's */
	/*
	 * Set before flight_attach: its request is queued behind others of its connection, nobody
	 * waits for it yet. Cleared by flight_reader_front.
	 */
	bool ahead;
};

/* ---- reader's side (any thread; a reader is used by one thread at a time) ---- */
void flight_attach(struct flight *f, struct flight_reader *r, bool owner);
/* Safe to call when not attached. After it, wake is never called again. */
void flight_detach(struct flight_reader *r);
/* The reader's turn has come: from now on a client waits for it. Attached or not. */
void flight_reader_front(struct flight_reader *r);
/*
 * True: wake will be called when seen_bytes is no longer the end of what it may read, or the state
 * not seen_state. False: that is so already.
 */
bool flight_wait(struct flight_reader *r, uint64_t seen_bytes, enum flight_state seen_state);

/*
 * Its client asked for this part: where it lies far ahead in the body it is fetched before what
 * nobody waits for. Attached.
 */
void flight_reader_want(struct flight_reader *r, uint64_t first, uint64_t end);

enum flight_state flight_state(const struct flight *f);
uint64_t flight_visible(const struct flight *f);	/* body bytes that may be read now */
/*
 * How far the reader may read from `at` on: what is visible, or part of the body that came before
 * its turn. At most `at`: nothing is there yet.
 */
uint64_t flight_readable(const struct flight_reader *r, uint64_t at);
/* from STREAMING or CONFIRMED on, and then for good; else NULL */
const struct flight_head *flight_head(const struct flight *f);
/*
 * Other bytes than these went out under its validators, so that an If-Range
 * proves nothing.
 */
bool flight_validators_shared(const struct flight *f);

/*
 * What one reader reads. Before its client has anything, flight_refresh turns it to what is shown
 * now; false: the beginning is gone, it has to fetch for itself. From the status line on it asks
 * flight_follow at each turn, after it has looked at state and visible bytes: MOVED means that
 * another body took the place of the wrong one, and that these are to be looked at again; LOST that
 * nothing can be added to what the client has. Bytes before `at` are not read again. What it was
 * told of stays where it is until flight_rest, even where the reader is left behind meanwhile.
 */
enum flight_follow { FLIGHT_ON, FLIGHT_MOVED, FLIGHT_LOST };
bool flight_refresh(struct flight_reader *r) MUSTCHECK;
enum flight_follow flight_follow(struct flight_reader *r, uint64_t at) MUSTCHECK;
void flight_rest(struct flight_reader *r);	/* attached or not */
bool flight_left_behind(const struct flight_reader *r);	/* without asking */
/*
 * Where visible bytes from `at` on are, up to n of them in one piece: in memory, or in a file at
 * that offset. Good until the next flight_follow.
 */
struct flight_span {
	const char *p;			/* NULL: in the file */
	int fd;
	uint64_t n;
};
struct flight_span flight_reader_span(const struct flight_reader *r, uint64_t at, uint64_t n);
const struct flight_head *flight_reader_head(const struct flight_reader *r);
int64_t flight_reader_total(const struct flight_reader *r);	/* -1: unknown until COMPLETE */

enum reason flight_reason(const struct flight *f);	/* FAILED only */
int flight_upstream_status(const struct flight *f);	/* FAILED: the origin's status, or 0 */
/* FAILED: WWW-Authenticate of a 401; "" none */
const char *flight_challenge(const struct flight *f);
unsigned flight_retry_after(const struct flight *f);	/* FAILED: seconds; 0: not said */
/* FAILED: what happened, in words, never NULL */
const char *flight_detail(const struct flight *f);
uint64_t flight_id(const struct flight *f);
struct slice flight_url(const struct flight *f);
const struct key *flight_key(const struct flight *f);
const struct aptfile *flight_aptfile(const struct flight *f);
/* NULL: nothing is known of its content beforehand. */
const struct flight_expect *flight_expected(const struct flight *f);
/* A Release: who waits for it asks the cache again when it is COMPLETE. */
bool flight_is_gated(const struct flight *f);
/* A URL that is to be asked first, and the flight's own where that has not it; NULL: none. */
const char *flight_alternate(const struct flight *f);
/*
 * Upstream has it not, or another one: until when may its readers be held? 0: no longer. wait_ms:
 * how long a root with an earlier generation is waited for.
 */
int64_t flight_wait_until(const struct flight *f, int64_t wait_ms, int64_t now_ms);
bool flight_is_private(const struct flight *f);		/* in no table: one client's own */

struct flight *flight_ref(struct flight *f);
void flight_unref(struct flight **f_p);

/* ---- writer's side (the upstream thread) ---- */
struct flight_driver {
	/*
	 * The last reader left, or the first one came back, or the first one that waits, or there
	 * is room again. From any thread, under the flight's lock: may only post.
	 */
	void (*crowd)(void *arg);
	/*
	 * Of a body with an expected digest, after flight_finish or flight_doubt: the flight is
	 * COMPLETE, or FAILED, or else its body is wrong (flight_restart or flight_fail). Of a
	 * Release: COMPLETE, or FAILED. As above. NULL: what is wrong fails.
	 */
	void (*verdict)(void *arg);
	void *arg;
};
/* d NULL: the writer is done with it */
void flight_drive(struct flight *f, const struct flight_driver *d);
unsigned flight_readers(const struct flight *f);
/* Nobody reads it, and who comes from now on is late: the writer calls it off. False: somebody does. */
bool flight_close_unread(struct flight *f) MUSTCHECK;
/* Of these, the ones whose turn it is. */
unsigned flight_waiting_readers(const struct flight *f);

/* Makes the body file and publishes the head. NO_DISK and the like when there can be no file. */
enum reason flight_begin(struct flight *f, const struct flight_head *h) MUSTCHECK;
/*
 * May n bytes be written now? A body that is only passed on waits for its readers: false, and crowd
 * is called when there is room. Always true for a body that goes to a disk.
 */
bool flight_takes(struct flight *f, size_t n) MUSTCHECK;
bool flight_passes_through(const struct flight *f);	/* it is only passed on */
/* Ten times a second: cuts readers that hold others back, lets a slow body's readers have a little. */
void flight_tick(struct flight *f, int64_t now_ms);
/* Writes at the end and publishes; the readers that wait for it are woken. */
enum reason flight_append(struct flight *f, const void *data, size_t n) MUSTCHECK;
/*
 * The body can't be the expected one, whatever else comes: stops the verifier, who answers with
 * driver's verdict.
 */
void flight_doubt(struct flight *f);
/*
 * The body was wrong, the object is fetched again from its first byte: what was kept of it goes,
 * what is shown stays until flight_follow. After the verdict, or before flight_begin.
 */
void flight_restart(struct flight *f);
/* That takes too long: whoever has bytes of the wrong body is cut. */
void flight_let_go(struct flight *f);
/* After a verdict: the SHA-256 of the body, and the expected digest against what it has, in words. */
const uint8_t *flight_digest(const struct flight *f);
void flight_expected_text(const struct flight *f, char *out, size_t cap);
/*
 * Parts of the body that come before their turn, from other connections: written at their place,
 * where the body goes to a disk, and readable at once. The prefix grows over them with
 * flight_advance, or with flight_append, which may write them again; bytes in between are
 * flight_append's. An unfinished body keeps its prefix only.
 */
bool flight_takes_ahead(const struct flight *f);
enum reason flight_write_ahead(struct flight *f, uint64_t at, const void *data, size_t n) MUSTCHECK;
/* Everything up to here is written: published. */
void flight_advance(struct flight *f, uint64_t upto);
/* What was written ahead is of no use: it will be fetched again. */
void flight_drop_ahead(struct flight *f);
/* Were there ever any? Readers may have bytes that no comparison with the prefix sees. */
bool flight_had_ahead(const struct flight *f);
/*
 * Readers whose next byte lies beyond the prefix and is not there, or of whose part less than
 * `window` bytes is: those who came first, at most max_n.
 */
struct flight_far {
	uint64_t at, end;		/* the first byte that is not there; the end of their part */
	bool starved;			/* it waits for just that byte */
};
unsigned flight_find_far(struct flight *f, uint64_t window, struct flight_far *out,
    unsigned max_n);
/* The body is complete as announced. Verifier, syncer and index do the rest. */
void flight_finish(struct flight *f);
void flight_confirmed(struct flight *f, const struct flight_head *h);
/* It is fetched with credentials of the configuration: noted in its record. */
void flight_set_credentials(struct flight *f);
/* Before flight_fail: what a 401 asks for. */
void flight_set_challenge(struct flight *f, const char *challenge);
/* Before flight_fail: for how long the origin does not want to be asked. */
void flight_set_retry_after(struct flight *f, unsigned s);
/*
 * detail: in words; keep_partial: leave what has come for a later resume. upstream_status 0: none.
 */
void flight_fail(struct flight *f, enum reason r, int upstream_status, bool keep_partial,
    const char *fmt, ...) PRINTF_LIKE(5, 6);
/* Bytes written so far, withheld ones included: where a resume goes on. */
uint64_t flight_committed(const struct flight *f);
/* -1: unknown; known at the latest when COMPLETE */
int64_t flight_total(const struct flight *f);
int flight_fd(const struct flight *f);		/* the file that is written */
/* Compares with bytes already written: proves that a body that starts over is the same one. */
bool flight_same_bytes(const struct flight *f, uint64_t at, const void *data, size_t n);

/*
 * Is there a kept partial of this object? False: none. True: the verifier
 * reads it through against its journal, then calls done once from its
 * thread, with how many bytes are good (0: nothing to build on) and the head
 * with whose validators a resumed part must agree, borrowed for the call.
 */
typedef void flight_partial_f(void *arg, uint64_t bytes, const struct flight_head *head);
bool flight_find_partial(struct flight *f, flight_partial_f *done, void *arg) MUSTCHECK;
/* Calls the reading off: true: done will not be called; false: it was called already. */
bool flight_cancel_partial(struct flight *f) MUSTCHECK;
/* The found partial turned out to belong to another version: forget it, start over. */
void flight_drop_partial(struct flight *f);

#endif
