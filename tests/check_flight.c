/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A flight between a writer, the verifier and readers, above all when its
 * bytes are wrong, or when no disk takes them: who goes on, who is cut, what
 * is seen when.
 */
#include "cache/flight_priv.h"
#include "include/clock.h"
#include "tests/support/cachedir.h"
#include "tests/support/target.h"

#include <check.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

Suite *check_flight_suite(void);

enum {
	BODY_BYTES = 300000,
	SHOWN_BYTES = BODY_BYTES - FLIGHT_WITHHELD_BYTES,
	WAIT_S = 20,
};
#define URL_TEXT "https://deb.example/pool/a_1_all.deb"

static struct cachedir cd;		/* the directory only: cache_open opens it */
static struct cache *cache;
static struct flight *f;
static sem_t verdicts, wakes, crowds;
static uint8_t body[BODY_BYTES];

static void
on_crowd(void *arg)
{
	(void)arg;
	ck_assert_int_eq(sem_post(&crowds), 0);
}

static void
on_verdict(void *arg)
{
	ck_assert_ptr_eq(arg, &verdicts);
	ck_assert_int_eq(sem_post(&verdicts), 0);
}

static void
on_wake(struct flight_reader *r)
{
	(void)r;
	ck_assert_int_eq(sem_post(&wakes), 0);
}

/* Waits for it, not for ever. */
static void
wait_for(sem_t *sem)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	ck_assert_int_eq(sem_timedwait(sem, &until), 0);
}

/* A flight of URL_TEXT with a driver. */
static struct flight *
new_flight(const struct flight_expect *expect)
{
	const struct flight_driver driver = {on_crowd, on_verdict, &verdicts};
	struct flight *new;
	struct target t;

	target_set(&t, URL_TEXT);
	new = flight_new(cache, &t.url, &t.key, expect, false);
	ck_assert_ptr_nonnull(new);
	flight_drive(new, &driver);
	return new;
}

/* The flight expects these bytes. */
static void
make_flight(const void *want, size_t n, int64_t size_bytes)
{
	struct flight_expect expect = {.hash = APTFILE_SHA256, .size_bytes = size_bytes};

	cachedir_digest(want, n, expect.digest);
	f = new_flight(&expect);
}

static void
setup_with(uint64_t max_bytes)
{
	struct cache_conf conf = {.max_bytes = max_bytes, .test_no_sync = true};
	char *why = NULL;

	cachedir_make(&cd);
	conf.dir = cd.dir;
	ck_assert_int_eq(cache_open(&cache, &conf, &why), REASON_OK);
	ck_assert_int_eq(sem_init(&verdicts, 0, 0), 0);
	ck_assert_int_eq(sem_init(&wakes, 0, 0), 0);
	ck_assert_int_eq(sem_init(&crowds, 0, 0), 0);
	for (size_t i = 0; i < BODY_BYTES; i++)
		body[i] = (uint8_t)(i * 7 + i / 251);
	make_flight(body, BODY_BYTES, BODY_BYTES);
}

static void
setup(void)
{
	setup_with(1 << 30);
}

/* Nothing fits into the budget: every body is only passed on. */
static void
setup_full(void)
{
	setup_with(0);
	flight_drive(f, NULL);
	flight_unref(&f);
	f = new_flight(NULL);
}

static void
teardown(void)
{
	flight_drive(f, NULL);
	flight_unref(&f);
	cache_close(&cache);
	cachedir_remove(&cd);
}

/* The writer: a head that announces total, and these bytes. */
static void
begin(int64_t total)
{
	struct flight_head h = {
		.total_bytes = total, .shareable = true, .keep = true,
		.terms.last_modified_s = 1700000000,
	};

	ck_assert_int_eq(flight_begin(f, &h), REASON_OK);
}

static void
append(const void *data, size_t n)
{
	ck_assert_int_eq(flight_append(f, data, n), REASON_OK);
}

/* Everything, with one byte changed (-1: none), in two pieces. */
static void
send_all(int64_t wrong_at)
{
	uint8_t data[BODY_BYTES];

	memcpy(data, body, BODY_BYTES);
	if (wrong_at >= 0)
		data[wrong_at] ^= 1;
	begin(BODY_BYTES);
	append(data, 1000);
	append(data + 1000, BODY_BYTES - 1000);
	flight_finish(f);
	wait_for(&verdicts);
}

/* A reader whose client has a status line. */
static void
attach(struct flight_reader *r, bool begun)
{
	*r = (struct flight_reader){.wake = on_wake};
	flight_attach(f, r, false);
	if (begun)
		ck_assert_int_eq(flight_follow(r, 0), FLIGHT_ON);
	flight_rest(r);
}

/* The reader's bytes from `at` to the end are the right ones. */
static void
check_reads_right(const struct flight_reader *r, uint64_t at)
{
	uint8_t got[BODY_BYTES];

	ck_assert_uint_eq(flight_visible(f), BODY_BYTES);
	ck_assert_int_eq(pread(flight_reader_span(r, at, 1).fd, got, BODY_BYTES - at, (off_t)at),
	    (ssize_t)(BODY_BYTES - at));
	ck_assert_mem_eq(got, body + at, BODY_BYTES - at);
}

/* ---- bytes that are right ---- */

START_TEST(test_right)
{
	struct flight_reader r;

	attach(&r, true);
	begin(BODY_BYTES);
	append(body, BODY_BYTES - 1);
	ck_assert_int_eq(flight_state(f), FLIGHT_STREAMING);
	ck_assert_uint_eq(flight_visible(f), SHOWN_BYTES);
	append(body + BODY_BYTES - 1, 1);
	flight_finish(f);
	wait_for(&verdicts);
	ck_assert_int_eq(flight_state(f), FLIGHT_COMPLETE);
	ck_assert_int_eq(flight_follow(&r, SHOWN_BYTES), FLIGHT_ON);
	check_reads_right(&r, 0);
	flight_detach(&r);
}
END_TEST

/* ---- bytes that are wrong, then right ---- */

static const struct {
	int64_t wrong_at;
	uint64_t at;
	enum flight_follow want;
} heal_rows[] = {
	{BODY_BYTES - 1, 0, FLIGHT_MOVED},
	{BODY_BYTES - 1, SHOWN_BYTES, FLIGHT_MOVED},
	{SHOWN_BYTES, SHOWN_BYTES, FLIGHT_MOVED},
	{SHOWN_BYTES - 1, SHOWN_BYTES, FLIGHT_LOST},
	{SHOWN_BYTES - 1, SHOWN_BYTES - 1, FLIGHT_MOVED},
	{1000, 1000, FLIGHT_MOVED},
	{1000, 1001, FLIGHT_LOST},
	{1000, 0, FLIGHT_MOVED},
	{0, 0, FLIGHT_MOVED},
	{0, 1, FLIGHT_LOST},
};

START_TEST(test_heal)
{
	struct flight_reader r, fresh;

	attach(&r, true);
	send_all(heal_rows[_i].wrong_at);
	ck_assert_int_eq(flight_state(f), FLIGHT_STREAMING);
	flight_restart(f);
	ck_assert_int_eq(flight_state(f), FLIGHT_HELD);
	ck_assert_uint_eq(flight_committed(f), 0);
	attach(&fresh, false);
	/* Nothing of the second one shows, and the first stays readable. */
	begin(BODY_BYTES);
	append(body, BODY_BYTES);
	ck_assert_uint_eq(flight_visible(f), SHOWN_BYTES);
	ck_assert_int_eq(flight_follow(&r, heal_rows[_i].at), FLIGHT_ON);
	ck_assert(flight_wait(&r, UINT64_MAX, FLIGHT_HELD));
	ck_assert(flight_wait(&fresh, UINT64_MAX, FLIGHT_HELD));
	while (sem_trywait(&wakes) == 0)
		;
	flight_finish(f);
	wait_for(&verdicts);
	wait_for(&wakes);
	wait_for(&wakes);
	ck_assert_int_eq(flight_state(f), FLIGHT_COMPLETE);
	ck_assert_int_eq(flight_follow(&r, heal_rows[_i].at), heal_rows[_i].want);
	if (heal_rows[_i].want == FLIGHT_MOVED) {
		ck_assert_int_eq(flight_follow(&r, heal_rows[_i].at), FLIGHT_ON);
		check_reads_right(&r, heal_rows[_i].at);
	} else
		ck_assert_int_eq(flight_follow(&r, heal_rows[_i].at), FLIGHT_LOST);
	ck_assert(flight_refresh(&fresh));
	check_reads_right(&fresh, 0);
	flight_detach(&r);
	flight_detach(&fresh);
	/* The first one's file went with its last reader. */
	ck_assert_int_eq(atomic_load(&f->bodies[0].fd), -1);
	ck_assert(flight_validators_shared(f));
}
END_TEST

START_TEST(test_file_of_the_wrong_body_closes_when_it_heals)
{
	struct flight_reader r;

	attach(&r, true);
	send_all(5);
	flight_detach(&r);
	ck_assert_int_ge(atomic_load(&f->bodies[0].fd), 0);
	flight_restart(f);
	send_all(-1);
	ck_assert_int_eq(flight_state(f), FLIGHT_COMPLETE);
	ck_assert_int_eq(atomic_load(&f->bodies[0].fd), -1);
}
END_TEST

START_TEST(test_third_body)
{
	struct flight_reader r;

	attach(&r, true);
	send_all(BODY_BYTES - 1);
	flight_restart(f);
	send_all(7);		/* nobody saw it: it can't cut anybody */
	ck_assert_int_eq(flight_state(f), FLIGHT_HELD);
	flight_restart(f);
	send_all(-1);
	ck_assert_int_eq(flight_follow(&r, SHOWN_BYTES), FLIGHT_MOVED);
	check_reads_right(&r, 0);
	flight_detach(&r);
}
END_TEST

START_TEST(test_small_body_waits)
{
	struct flight_reader r;

	flight_drive(f, NULL);
	flight_unref(&f);
	make_flight("right", 5, -1);
	attach(&r, false);
	begin(5);
	append("wrong", 5);
	flight_finish(f);
	wait_for(&verdicts);
	ck_assert_int_eq(flight_state(f), FLIGHT_WAITING);
	flight_restart(f);
	ck_assert_int_eq(flight_state(f), FLIGHT_WAITING);
	ck_assert_uint_eq(flight_visible(f), 0);
	begin(5);
	append("right", 5);
	flight_finish(f);
	wait_for(&verdicts);
	ck_assert_int_eq(flight_state(f), FLIGHT_COMPLETE);
	ck_assert(flight_refresh(&r));
	ck_assert_int_eq(flight_reader_total(&r), 5);
	ck_assert_int_eq(flight_follow(&r, 0), FLIGHT_ON);
	ck_assert(!flight_validators_shared(f));
	flight_detach(&r);
}
END_TEST

/* A second for each of so many steps, in which this many bytes come each: what is seen in the end? */
static uint64_t
let_trickle(int64_t *now_ms, unsigned seconds, size_t n)
{
	for (; seconds > 0; seconds--) {
		if (n > 0)
			append(body + flight_committed(f), n);
		flight_tick(f, *now_ms += 1000);
	}
	return flight_visible(f);
}

static const struct {
	int64_t total, wrong_at;
	size_t first;			/* comes at once */
} slow_rows[] = {
	{60000, -1, 0}, {-1, -1, 0}, {BODY_BYTES, -1, BODY_BYTES - 60000}, {60000, 59999, 0},
};

/* Who waits is not left in silence for longer than a client has patience for. */
START_TEST(test_slow)
{
	struct flight_reader r;
	int64_t now_ms = clock_mono_ms(), total = slow_rows[_i].total;
	uint64_t size = total < 0 ? 60000 : (uint64_t)total, seen, was, silent = 0;
	uint64_t shown = slow_rows[_i].first > FLIGHT_WITHHELD_BYTES ? size - FLIGHT_WITHHELD_BYTES : 0;
	uint8_t last = body[size - 1] ^ (slow_rows[_i].wrong_at >= 0);

	flight_drive(f, NULL);
	flight_unref(&f);
	make_flight(body, size, -1);
	attach(&r, shown > 0);
	begin(total);
	if (slow_rows[_i].first > 0)
		append(body, slow_rows[_i].first);
	was = let_trickle(&now_ms, 8, 1000);
	ck_assert_uint_eq(was, shown);		/* one that is quick enough gives nothing away */
	while (flight_committed(f) < size - 1000) {
		enum flight_state s = flight_state(f);

		seen = let_trickle(&now_ms, 1, 1000);
		silent = seen == was && flight_state(f) == s ? silent + 1 : 0;
		was = seen;
		ck_assert_uint_lt(silent, 11);
		ck_assert_uint_lt(seen, flight_committed(f));
	}
	/* No more than what was given in time, and not for bytes that were there before. */
	ck_assert_uint_lt(was, size - 10000);
	seen = let_trickle(&now_ms, 11, 0);
	ck_assert_uint_eq(let_trickle(&now_ms, 60, 0), seen);
	append(body + size - 1000, 999);
	ck_assert_uint_lt(let_trickle(&now_ms, 1, 0), size - 1);
	append(&last, 1);
	ck_assert_uint_lt(let_trickle(&now_ms, 1, 0), size);
	flight_finish(f);
	wait_for(&verdicts);
	ck_assert_uint_lt(let_trickle(&now_ms, 60, 0), size + (slow_rows[_i].wrong_at < 0));
	ck_assert_int_eq(flight_state(f), slow_rows[_i].wrong_at < 0 ? FLIGHT_COMPLETE :
	    FLIGHT_STREAMING);
	flight_detach(&r);
	if (slow_rows[_i].wrong_at >= 0)
		flight_fail(f, REASON_UP_DIGEST, 0, false, "wrong");
}
END_TEST

/* What is only asked for ahead gives nothing away, and a single byte in a while is something. */
START_TEST(test_slow_for_nobody)
{
	struct flight_reader r = {.wake = on_wake, .ahead = true};
	int64_t now_ms = clock_mono_ms();

	flight_drive(f, NULL);
	flight_unref(&f);
	make_flight(body, 60000, -1);
	flight_attach(f, &r, false);
	begin(60000);
	ck_assert_uint_eq(let_trickle(&now_ms, 60, 10), 0);
	ck_assert_int_eq(flight_state(f), FLIGHT_WAITING);
	flight_reader_front(&r);
	for (unsigned i = 0; i < 4; i++) {
		append(body + flight_committed(f), 1);
		(void)let_trickle(&now_ms, 10, 0);
	}
	ck_assert_int_eq(flight_state(f), FLIGHT_STREAMING);
	ck_assert_uint_gt(flight_visible(f), 0);
	flight_detach(&r);
	flight_fail(f, REASON_CLIENT_GONE, 0, false, "over");
}
END_TEST

/* Called off only while nobody reads it; who comes after that begins no byte of it. */
START_TEST(test_called_off)
{
	struct flight_reader early, late;

	attach(&early, true);
	begin(BODY_BYTES);
	append(body, 1000);
	ck_assert(!flight_close_unread(f));
	attach(&late, false);
	ck_assert(!late.late);
	flight_detach(&late);
	flight_detach(&early);
	ck_assert(flight_close_unread(f));
	attach(&late, false);
	ck_assert(late.late);
	ck_assert(flight_wait(&late, UINT64_MAX, flight_state(f)));
	flight_fail(f, REASON_CLIENT_GONE, 0, false, "over");
	ck_assert(!late.waiting);
	flight_detach(&late);
}
END_TEST

/* Whose client was told another length can't go on, whatever the bytes. */
START_TEST(test_other_length)
{
	struct flight_reader r;
	uint8_t more[BODY_BYTES];

	flight_drive(f, NULL);
	flight_unref(&f);
	make_flight(body, BODY_BYTES, -1);
	attach(&r, true);
	memcpy(more, body, BODY_BYTES);
	begin(BODY_BYTES + 10);
	append(more, BODY_BYTES);
	append(more, 10);
	flight_finish(f);
	wait_for(&verdicts);
	flight_restart(f);
	send_all(-1);
	ck_assert_int_eq(flight_follow(&r, 0), FLIGHT_LOST);
	flight_detach(&r);
}
END_TEST

/* Without a length: one that ends before what was shown. */
START_TEST(test_shorter)
{
	struct flight_reader at_end, behind;

	flight_drive(f, NULL);
	flight_unref(&f);
	make_flight(body, 100000, -1);
	attach(&at_end, true);
	attach(&behind, true);
	begin(-1);
	append(body, BODY_BYTES);
	flight_finish(f);
	wait_for(&verdicts);
	ck_assert_uint_eq(flight_visible(f), SHOWN_BYTES);
	flight_restart(f);
	begin(-1);
	append(body, 100000);
	flight_finish(f);
	wait_for(&verdicts);
	ck_assert_int_eq(flight_state(f), FLIGHT_COMPLETE);
	ck_assert_uint_eq(flight_visible(f), 100000);
	ck_assert_int_eq(flight_follow(&behind, 100000), FLIGHT_MOVED);
	ck_assert_int_eq(flight_follow(&at_end, 100001), FLIGHT_LOST);
	flight_detach(&at_end);
	flight_detach(&behind);
}
END_TEST

START_TEST(test_let_go)
{
	struct flight_reader begun, fresh;

	attach(&begun, true);
	attach(&fresh, false);
	send_all(BODY_BYTES - 1);
	flight_restart(f);
	ck_assert(flight_wait(&begun, UINT64_MAX, FLIGHT_HELD));
	flight_let_go(f);
	wait_for(&wakes);
	ck_assert_int_eq(flight_follow(&begun, 0), FLIGHT_LOST);
	ck_assert(!flight_wait(&begun, UINT64_MAX, FLIGHT_HELD));
	/* Who has nothing yet can wait on. */
	ck_assert(flight_wait(&fresh, UINT64_MAX, FLIGHT_HELD));
	send_all(-1);
	ck_assert_int_eq(flight_follow(&begun, 0), FLIGHT_LOST);
	ck_assert(flight_refresh(&fresh));
	ck_assert_int_eq(flight_follow(&fresh, 0), FLIGHT_ON);
	check_reads_right(&fresh, 0);
	flight_detach(&begun);
	flight_detach(&fresh);
}
END_TEST

/* ---- other ends ---- */

START_TEST(test_more_bytes_than_expected)
{
	begin(-1);
	append(body, BODY_BYTES);
	ck_assert_int_eq(flight_append(f, "x", 1), REASON_UP_DIGEST);
	ck_assert_uint_eq(flight_committed(f), BODY_BYTES);
	/* Its writer gives it up while the verifier is at it. */
	flight_doubt(f);
	wait_for(&verdicts);
	flight_restart(f);
	send_all(-1);
	ck_assert_int_eq(flight_state(f), FLIGHT_COMPLETE);
}
END_TEST

START_TEST(test_wrong_for_good)
{
	struct flight_reader r;
	struct index_view *view;
	struct key key = *flight_key(f);
	struct blob_stat st;
	char text[192];
	int fd = -1;

	attach(&r, true);
	send_all(BODY_BYTES - 1);
	flight_restart(f);
	send_all(BODY_BYTES - 1);
	ck_assert_int_eq(flight_state(f), FLIGHT_HELD);
	flight_expected_text(f, text, sizeof(text));
	ck_assert_int_eq(strncmp(text, "SHA256:", 7), 0);
	flight_fail(f, REASON_UP_DIGEST, 0, false, "twice the same");
	ck_assert_int_eq(flight_state(f), FLIGHT_FAILED);
	ck_assert_str_eq(flight_detail(f), "twice the same");
	flight_detach(&r);
	/* Nothing is kept, and the URL is marked for good. */
	ck_assert_int_eq(blob_partial_open(cache_parts(cache)->blobs, &key, &fd, &st),
	    REASON_NOT_FOUND);
	index_flush(cache_parts(cache)->index);
	view = index_view_open(cache_parts(cache)->index);
	ck_assert(index_is_marked_wrong(view, &key));
	key.b[31] ^= 1;
	ck_assert(!index_is_marked_wrong(view, &key));
	index_view_close(&view);
}
END_TEST

/* When the writer is gone (the depot stops), nobody asks again. */
/* What a stage thread finishes when the verifier has gone is let go of. */
START_TEST(test_finished_after_the_verifier)
{
	struct verify *v = verify_start(cache);

	ck_assert_ptr_nonnull(v);
	verify_stop(v);
	verify_poke(v, f);
	ck_assert(!f->in_verify);
	ck_assert_uint_eq(atomic_load(&f->refs), 1);
	verify_free(&v);
	ck_assert_ptr_null(v);
	verify_poke(v, f);
}
END_TEST

START_TEST(test_wrong_without_a_writer)
{
	struct flight_reader r;
	uint8_t data[BODY_BYTES];

	attach(&r, true);
	memcpy(data, body, BODY_BYTES);
	data[3] ^= 1;
	begin(BODY_BYTES);
	append(data, BODY_BYTES);
	ck_assert(flight_wait(&r, SHOWN_BYTES, FLIGHT_STREAMING));
	while (sem_trywait(&wakes) == 0)
		;
	flight_drive(f, NULL);
	flight_finish(f);
	wait_for(&wakes);
	ck_assert_int_eq(flight_state(f), FLIGHT_FAILED);
	ck_assert_int_eq(flight_reason(f), REASON_UP_DIGEST);
	flight_detach(&r);
}
END_TEST

/* ---- bodies that an earlier flight left ---- */

enum { MARKED_BYTES = 20 << 20 };

static struct {
	uint64_t bytes;
	bool called;
} found;

static void
on_partial(void *arg, uint64_t bytes, const struct flight_head *head)
{
	ck_assert_ptr_eq(arg, &found);
	if (bytes > 0) {
		ck_assert_int_eq(head->total_bytes, MARKED_BYTES);
		ck_assert(slice_eq(head->etag, SLICE("\"e\"")));
	}
	found.bytes = bytes;
	found.called = true;
	ck_assert_int_eq(sem_post(&verdicts), 0);
}

/*
 * What a kill or a power cut can leave: the journal's record or none, some of its marks (at 1, 2,
 * 4, 8, 16 MiB), and a file that is shorter or longer than they say, or has other bytes at a place.
 */
static const struct {
	bool journal;
	unsigned marks_n;
	uint64_t file_bytes;
	int64_t torn_at;
	uint64_t want;
} partial_rows[] = {
	{false, 0, 9 << 20, -1, 0},
	{true, 0, 0, -1, 0},
	{true, 0, 500000, -1, 0},
	{true, 0, 9 << 20, -1, 0},
	{true, 1, 1 << 20, -1, 1 << 20},
	{true, 1, 9 << 20, -1, 1 << 20},
	{true, 3, 9 << 20, -1, 4 << 20},
	{true, 4, 9 << 20, -1, 8 << 20},
	{true, 5, MARKED_BYTES, -1, 16 << 20},
	{true, 5, (16 << 20) - 1, -1, 8 << 20},
	{true, 5, 9 << 20, -1, 8 << 20},
	{true, 5, 100, -1, 0},
	{true, 5, 0, -1, 0},
	{true, 5, MARKED_BYTES, 0, 0},
	{true, 5, MARKED_BYTES, (1 << 20) - 1, 0},
	{true, 5, MARKED_BYTES, 1 << 20, 1 << 20},
	{true, 5, MARKED_BYTES, 9 << 20, 8 << 20},
	{true, 5, MARKED_BYTES, (16 << 20) - 1, 8 << 20},
	{true, 5, MARKED_BYTES, 16 << 20, 16 << 20},
};

START_TEST(test_partial)
{
	struct index *ix = cache_parts(cache)->index;
	struct partial_rec rec = {
		.total_bytes = MARKED_BYTES, .last_modified_s = INT64_MIN,
		.url = SLICE(URL_TEXT), .etag = SLICE("\"e\""),
	};
	uint8_t *all = malloc(MARKED_BYTES), digest[32];
	int fd = -1;

	for (size_t i = 0; i < MARKED_BYTES; i++)
		all[i] = (uint8_t)(i * 3 + i / 1009);
	if (partial_rows[_i].journal)
		index_partial_begin(ix, flight_key(f), &rec);
	for (unsigned i = 0; i < partial_rows[_i].marks_n; i++) {
		cachedir_digest(all, flight_mark_end(i), digest);
		index_partial_mark(ix, flight_key(f), i, digest);
	}
	index_flush(ix);
	if (partial_rows[_i].torn_at >= 0)
		all[partial_rows[_i].torn_at] ^= 1;
	ck_assert_int_eq(blob_partial_create(cache_parts(cache)->blobs, flight_key(f), &fd),
	    REASON_OK);
	ck_assert_int_eq(write(fd, all, partial_rows[_i].file_bytes),
	    (ssize_t)partial_rows[_i].file_bytes);
	(void)close(fd);
	ck_assert(flight_find_partial(f, on_partial, &found));
	wait_for(&verdicts);
	ck_assert_uint_eq(found.bytes, partial_rows[_i].want);
	if (found.bytes > 0) {
		struct flight_head h = {.total_bytes = MARKED_BYTES, .shareable = true, .keep = true};

		/* It goes on from there, and nothing of what was behind stays. */
		ck_assert_int_eq(flight_begin(f, &h), REASON_OK);
		ck_assert_uint_eq(flight_committed(f), partial_rows[_i].want);
		ck_assert_int_eq(lseek(flight_fd(f), 0, SEEK_END), (off_t)partial_rows[_i].want);
	} else
		ck_assert_int_eq(flight_fd(f), -1);
	free(all);
}
END_TEST

/* ---- bodies that are only passed on ---- */

enum { RING_BYTES = 1 << 20, PIECE_BYTES = 100000 };

/* Any byte of an endless body. */
static uint8_t
byte_at(uint64_t at)
{
	return (uint8_t)(at * 7 + at / 251 + at / 65537);
}

/* Appends n bytes of it. */
static void
append_more(size_t n)
{
	uint8_t *data = malloc(n);
	uint64_t at = flight_committed(f);

	for (size_t i = 0; i < n; i++)
		data[i] = byte_at(at + i);
	append(data, n);
	free(data);
}

/* The reader takes n bytes at r->at, as a connection does, and they are the right ones. */
static void
take(struct flight_reader *r, uint64_t n)
{
	uint64_t at = atomic_load(&r->at), end = at + n;
	uint8_t got[4096], want[4096];

	ck_assert_uint_ge(flight_visible(f), end);
	while (at < end) {
		struct flight_span span = flight_reader_span(r, at, end - at);
		size_t k = span.n < sizeof(got) ? (size_t)span.n : sizeof(got);

		ck_assert_uint_gt(k, 0);
		if (span.p != NULL)
			memcpy(got, span.p, k);
		else
			ck_assert_int_eq(pread(span.fd, got, k, (off_t)at), (ssize_t)k);
		for (size_t i = 0; i < k; i++)
			want[i] = byte_at(at + i);
		ck_assert_mem_eq(got, want, k);
		at += k;
		ck_assert_int_eq(flight_follow(r, at), FLIGHT_ON);
		flight_rest(r);
	}
}

static void
forget(sem_t *sem)
{
	while (sem_trywait(sem) == 0)
		;
}

/* The slowest reader paces the writer, through many turns of the ring. */
START_TEST(test_ring_paces)
{
	struct flight_reader fast, slow;

	attach(&fast, true);
	attach(&slow, true);
	begin(10 << 20);
	ck_assert(flight_passes_through(f));
	for (unsigned turn = 0; turn < 20; turn++) {
		while (flight_takes(f, PIECE_BYTES))
			append_more(PIECE_BYTES);
		take(&fast, flight_visible(f) - atomic_load(&fast.at));
		ck_assert(!flight_takes(f, PIECE_BYTES));
		ck_assert_uint_le(flight_committed(f) - atomic_load(&slow.at), RING_BYTES);
		forget(&crowds);
		take(&slow, 1000);
		ck_assert_int_eq(sem_trywait(&crowds), -1);	/* not for so little */
		take(&slow, RING_BYTES / 4);
		ck_assert_int_eq(sem_trywait(&crowds), 0);
	}
	flight_detach(&slow);
	ck_assert(flight_takes(f, RING_BYTES / 2));
	flight_detach(&fast);
}
END_TEST

START_TEST(test_ring_late_and_slow)
{
	struct flight_reader first, queued, late, dead;

	attach(&first, true);
	attach(&queued, false);
	attach(&dead, true);
	begin(10 << 20);
	while (flight_takes(f, PIECE_BYTES))
		append_more(PIECE_BYTES);
	take(&first, flight_visible(f));
	/* Time passes: who has not begun is left behind, then who does not read. */
	flight_tick(f, 1000);
	ck_assert(flight_refresh(&queued));
	flight_tick(f, 2000);
	ck_assert(!flight_refresh(&queued));
	ck_assert(!flight_takes(f, PIECE_BYTES));
	forget(&crowds);
	flight_tick(f, 5999);
	ck_assert(!flight_left_behind(&dead));
	/* What it is sending this very moment stays, all the same. */
	ck_assert_int_eq(flight_follow(&dead, 0), FLIGHT_ON);
	flight_tick(f, 6000);
	ck_assert(flight_left_behind(&dead));
	ck_assert_int_ne(sem_trywait(&crowds), 0);
	ck_assert(!flight_takes(f, PIECE_BYTES));
	ck_assert_int_eq(flight_follow(&dead, 0), FLIGHT_LOST);
	flight_rest(&dead);
	flight_detach(&dead);
	ck_assert_int_eq(sem_trywait(&crowds), 0);
	ck_assert(flight_takes(f, PIECE_BYTES));
	append_more(PIECE_BYTES);
	take(&first, PIECE_BYTES);
	/* Who comes now would miss the beginning. */
	attach(&late, false);
	ck_assert(!flight_refresh(&late));
	flight_detach(&late);
	flight_detach(&queued);
	flight_detach(&first);
}
END_TEST

/* 64 KiB a second is enough. */
START_TEST(test_ring_slow_enough)
{
	struct flight_reader r;

	attach(&r, true);
	begin(100 << 20);
	for (int64_t now_ms = 1000; now_ms < 60000; now_ms += 500) {
		while (flight_takes(f, 4096))
			append_more(4096);
		take(&r, 33000);
		flight_tick(f, now_ms);
		ck_assert(!flight_left_behind(&r));
	}
	for (int64_t now_ms = 60000; now_ms < 72000 && !flight_left_behind(&r); now_ms += 500) {
		while (flight_takes(f, 4096))
			append_more(4096);
		take(&r, 30000);
		flight_tick(f, now_ms);
	}
	ck_assert(flight_left_behind(&r));
	flight_detach(&r);
}
END_TEST

START_TEST(test_rings_are_bounded)
{
	struct flight_head h = {.total_bytes = 10 << 20, .shareable = true, .keep = true};
	struct flight *many[40], *f0 = f;
	unsigned n;

	for (n = 0; n < NELEM(many); n++) {
		f = many[n] = new_flight(NULL);
		if (flight_begin(f, &h) != REASON_OK)
			break;
	}
	ck_assert_uint_eq(n, 32);
	/* A refused one may try again when another has gone. */
	flight_drive(many[0], NULL);
	flight_unref(&many[0]);
	ck_assert_int_eq(flight_begin(many[n], &h), REASON_OK);
	for (unsigned i = 1; i <= n; i++) {
		flight_drive(many[i], NULL);
		flight_unref(&many[i]);
	}
	f = f0;
	begin(100);		/* small ones take what they need */
}
END_TEST

/* The disk is full in the middle: who is behind still reads the file. */
START_TEST(test_ring_after_file)
{
	struct rlimit limit = {5 << 20, 5 << 20};
	struct flight_reader fast, slow;

	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	flight_drive(f, NULL);
	flight_unref(&f);
	f = new_flight(NULL);
	attach(&fast, true);
	attach(&slow, true);
	begin(-1);
	while (!flight_passes_through(f))
		append_more(PIECE_BYTES);
	while (flight_takes(f, PIECE_BYTES))
		append_more(PIECE_BYTES);
	ck_assert_uint_gt(flight_committed(f), 5 << 20);
	ck_assert_int_ge(flight_fd(f), 0);
	take(&fast, flight_visible(f));
	ck_assert(!flight_takes(f, PIECE_BYTES));
	take(&slow, (5 << 20) + 1000);
	/* Nobody needs the file any more, the verifier included. */
	for (unsigned i = 0; i < 1000 && flight_fd(f) >= 0; i++) {
		(void)!flight_takes(f, RING_BYTES);	/* looks who is where */
		(void)usleep(1000);
	}
	ck_assert_int_eq(flight_fd(f), -1);
	take(&slow, flight_visible(f) - atomic_load(&slow.at));
	flight_detach(&fast);
	flight_detach(&slow);
}
END_TEST

/* A wrong body that was only passed on can't be compared with another: it fails. */
START_TEST(test_ring_digest)
{
	struct flight_reader r;
	uint8_t *all = malloc(3 << 20);
	bool wrong = _i != 0;

	for (size_t i = 0; i < 3 << 20; i++)
		all[i] = byte_at(i);
	all[(3 << 20) - 1] ^= wrong;
	flight_drive(f, NULL);
	flight_unref(&f);
	make_flight(all, 3 << 20, -1);
	free(all);
	attach(&r, true);
	begin(3 << 20);
	while (flight_committed(f) < 3 << 20) {
		while (!flight_takes(f, 1 << 16)) {
			forget(&crowds);
			take(&r, flight_visible(f) - atomic_load(&r.at));
			(void)usleep(1000);
		}
		append_more(1 << 16);
	}
	flight_finish(f);
	wait_for(&verdicts);
	if (wrong) {
		ck_assert_int_eq(flight_state(f), FLIGHT_STREAMING);
		ck_assert_uint_eq(flight_visible(f), (3 << 20) - FLIGHT_WITHHELD_BYTES);
		flight_fail(f, REASON_UP_DIGEST, 0, false, "wrong");
	} else {
		ck_assert_int_eq(flight_state(f), FLIGHT_COMPLETE);
		take(&r, flight_visible(f) - atomic_load(&r.at));
		ck_assert_uint_eq(atomic_load(&r.at), 3 << 20);
	}
	flight_detach(&r);
}
END_TEST

Suite *
check_flight_suite(void)
{
	Suite *s = suite_create("flight");
	TCase *full = tcase_create("full");
	TCase *tc = tcase_create("digest");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_right);
	tcase_add_loop_test(tc, test_heal, 0, NELEM(heal_rows));
	tcase_add_test(tc, test_file_of_the_wrong_body_closes_when_it_heals);
	tcase_add_test(tc, test_third_body);
	tcase_add_test(tc, test_small_body_waits);
	tcase_add_loop_test(tc, test_slow, 0, NELEM(slow_rows));
	tcase_add_test(tc, test_slow_for_nobody);
	tcase_add_test(tc, test_called_off);
	tcase_add_test(tc, test_other_length);
	tcase_add_test(tc, test_shorter);
	tcase_add_test(tc, test_let_go);
	tcase_add_test(tc, test_more_bytes_than_expected);
	tcase_add_test(tc, test_wrong_for_good);
	tcase_add_test(tc, test_wrong_without_a_writer);
	tcase_add_test(tc, test_finished_after_the_verifier);
	tcase_add_loop_test(tc, test_partial, 0, NELEM(partial_rows));
	tcase_add_test(tc, test_ring_after_file);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(full, setup_full, teardown);
	tcase_set_timeout(full, 60);
	tcase_add_test(full, test_ring_paces);
	tcase_add_test(full, test_ring_late_and_slow);
	tcase_add_test(full, test_ring_slow_enough);
	tcase_add_test(full, test_rings_are_bounded);
	tcase_add_loop_test(full, test_ring_digest, 0, 2);
	suite_add_tcase(s, full);
	return s;
}
