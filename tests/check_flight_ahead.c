/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Parts of a body that come before their turn: who may read what of them when,
 * who is woken, and which parts the writer hears that readers wait for.
 */
#include "cache/flight_priv.h"
#include "tests/support/cachedir.h"
#include "tests/support/target.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

Suite *check_flight_ahead_suite(void);

enum { BODY_BYTES = 1000000, SHOWN_BYTES = BODY_BYTES - FLIGHT_WITHHELD_BYTES };
#define URL_TEXT "https://deb.example/pool/a_1_all.deb"

static struct cachedir cd;
static struct cache *cache;
static struct flight *f;
static struct flight_reader r;
static uint8_t body[BODY_BYTES];
static unsigned woken;

static void
on_wake(struct flight_reader *who)
{
	(void)who;
	woken++;
}

/* A flight of the body, with its digest expected or not, and a reader of [first, end). */
static void
make(bool expected, uint64_t first, uint64_t end)
{
	const struct flight_head h = {
		.total_bytes = BODY_BYTES, .shareable = true, .keep = true,
		.terms.last_modified_s = 1700000000,
	};
	struct flight_expect expect = {.hash = APTFILE_SHA256, .size_bytes = BODY_BYTES};
	struct target t;

	target_set(&t, URL_TEXT);
	cachedir_digest(body, BODY_BYTES, expect.digest);
	f = flight_new(cache, &t.url, &t.key, expected ? &expect : NULL, false);
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(flight_begin(f, &h), REASON_OK);
	ck_assert_int_eq(flight_append(f, body, 1000), REASON_OK);
	r = (struct flight_reader){.wake = on_wake};
	flight_attach(f, &r, false);
	flight_reader_want(&r, first, end);
	woken = 0;
}

static void
setup(void)
{
	struct cache_conf conf = {.max_bytes = 1 << 30, .test_no_sync = true};
	char *why = NULL;

	cachedir_make(&cd);
	conf.dir = cd.dir;
	ck_assert_int_eq(cache_open(&cache, &conf, &why), REASON_OK);
	for (size_t i = 0; i < BODY_BYTES; i++)
		body[i] = (uint8_t)(i * 7 + i / 251);
}

static void
teardown(void)
{
	flight_detach(&r);
	if (flight_state(f) != FLIGHT_COMPLETE)
		flight_fail(f, REASON_UP_CLOSED, 0, false, "over");
	flight_unref(&f);
	cache_close(&cache);
	cachedir_remove(&cd);
}

/* Another connection brings [first, end). */
static void
ahead(uint64_t first, uint64_t end)
{
	ck_assert_int_eq(flight_write_ahead(f, first, body + first, end - first), REASON_OK);
}

/* What is said of the one reader; NULL: nothing. */
static const struct flight_far *
far(uint64_t window)
{
	static struct flight_far out[2];
	unsigned n = flight_find_far(f, window, out, 2);

	ck_assert_uint_le(n, 1);
	return n == 1 ? &out[0] : NULL;
}

/* Islands in any order grow together; the prefix goes over them, or is written over them. */
START_TEST(test_islands)
{
	static const struct {
		uint64_t first, end, readable;	/* from 500,000 on, afterwards */
	} rows[] = {
		{600000, 610000, 0}, {500000, 510000, 510000}, {520000, 530000, 510000},
		{400000, 410000, 510000}, {510000, 520000, 530000}, {530000, 600000, 610000},
		{410000, 500000, 610000}, {300000, 310000, 610000}, {610000, 700000, 700000},
	};

	make(false, 0, BODY_BYTES);
	for (size_t i = 0; i < NELEM(rows); i++) {
		ahead(rows[i].first, rows[i].end);
		if (rows[i].readable == 0)
			ck_assert_uint_le(flight_readable(&r, 500000), 500000);
		else
			ck_assert_uint_eq(flight_readable(&r, 500000), rows[i].readable);
	}
	ck_assert_uint_eq(f->islands_n, 2);
	ck_assert_uint_eq(flight_readable(&r, 300000), 310000);
	ck_assert_uint_le(flight_readable(&r, 310000), 310000);
	ck_assert_uint_le(flight_readable(&r, 700000), 700000);
	ck_assert_uint_eq(flight_visible(f), 1000);
	ck_assert_int_eq(flight_append(f, body + 1000, 304000), REASON_OK);
	ck_assert_uint_eq(flight_visible(f), 305000);
	flight_advance(f, 310000);
	ck_assert_uint_eq(flight_visible(f), 310000);
	ck_assert_uint_eq(f->islands_n, 1);
	ck_assert_int_eq(flight_append(f, body + 310000, 90000), REASON_OK);
	flight_advance(f, 650000);
	ck_assert_uint_eq(flight_readable(&r, 660000), 700000);
	flight_drop_ahead(f);
	ck_assert_uint_le(flight_readable(&r, 660000), 660000);
	ck_assert_uint_eq(flight_readable(&r, 640000), 650000);
}
END_TEST

/* The tail of what has a digest to be is withheld here, too. */
START_TEST(test_withheld)
{
	uint8_t got[100];

	make(true, 0, BODY_BYTES);
	ahead(SHOWN_BYTES - 100, BODY_BYTES);
	ck_assert_uint_eq(flight_readable(&r, SHOWN_BYTES - 100), SHOWN_BYTES);
	ck_assert_uint_le(flight_readable(&r, SHOWN_BYTES), SHOWN_BYTES);
	ck_assert(flight_wait(&r, SHOWN_BYTES, FLIGHT_STREAMING));
	ck_assert_int_eq(pread(flight_reader_span(&r, SHOWN_BYTES - 100, 100).fd, got, 100,
	    SHOWN_BYTES - 100), 100);
	ck_assert_mem_eq(got, body + SHOWN_BYTES - 100, 100);
}
END_TEST

/* Who waits is woken by its own bytes, and by no others. */
START_TEST(test_wake)
{
	make(false, 500000, 600000);
	ck_assert(flight_wait(&r, 500000, FLIGHT_STREAMING));
	ahead(400000, 410000);
	ahead(500001, 510000);
	ck_assert_int_eq(flight_append(f, body + 1000, 1000), REASON_OK);
	ck_assert_uint_eq(woken, 0);
	ahead(500000, 500001);
	ck_assert_uint_eq(woken, 1);
	ck_assert(!flight_wait(&r, 500000, FLIGHT_STREAMING));
	ck_assert(flight_wait(&r, 510000, FLIGHT_STREAMING));
	/* The prefix comes there by itself. */
	ck_assert_int_eq(flight_append(f, body + 2000, 508000), REASON_OK);
	ck_assert_uint_eq(woken, 1);
	ck_assert_int_eq(flight_append(f, body + 510000, 1), REASON_OK);
	ck_assert_uint_eq(woken, 2);
}
END_TEST

/* The writer hears of what lies beyond the prefix and is not there, and where a part ends. */
START_TEST(test_far)
{
	const struct flight_far *at;

	make(false, 500000, 600000);
	at = far(1);
	ck_assert_ptr_nonnull(at);
	ck_assert(at->at == 500000 && at->end == 600000 && at->starved);
	ahead(500000, 550000);
	ck_assert_ptr_null(far(50000));
	at = far(50001);
	ck_assert(at != NULL && at->at == 550000 && !at->starved);
	ck_assert_int_eq(flight_follow(&r, 550000), FLIGHT_ON);
	at = far(1);
	ck_assert(at != NULL && at->at == 550000 && at->starved);
	ck_assert_int_eq(flight_follow(&r, 600000), FLIGHT_ON);
	ck_assert_ptr_null(far(BODY_BYTES));
	/* One that follows the prefix is no business of anybody's. */
	flight_detach(&r);
	flight_attach(f, &r, false);
	ck_assert_int_eq(flight_follow(&r, 1000), FLIGHT_ON);
	ck_assert_ptr_null(far(BODY_BYTES));
}
END_TEST

/* What can't be shown need not come first. */
START_TEST(test_far_and_withheld)
{
	make(true, SHOWN_BYTES, BODY_BYTES);
	ck_assert_ptr_null(far(BODY_BYTES));
	flight_reader_want(&r, SHOWN_BYTES - 1, BODY_BYTES);
	ck_assert(far(1) != NULL && far(1)->end == SHOWN_BYTES);
}
END_TEST

/* A body that was wrong before it was whole: who has bytes from beyond its prefix is cut. */
START_TEST(test_wrong_with_islands)
{
	make(true, 500000, 600000);
	ahead(500000, 510000);
	ck_assert_int_eq(flight_follow(&r, 505000), FLIGHT_ON);
	atomic_store(&f->settled, true);	/* as the verifier, after flight_doubt */
	flight_restart(f);
	ck_assert_int_eq(flight_state(f), FLIGHT_HELD);
	ck_assert_uint_le(flight_readable(&r, 505000), 505000);
	ck_assert_int_eq(flight_begin(f, &(struct flight_head){.total_bytes = BODY_BYTES,
	    .shareable = true, .keep = true, .terms.last_modified_s = 1700000000}), REASON_OK);
	ck_assert_int_eq(flight_append(f, body, BODY_BYTES), REASON_OK);
	flight_finish(f);
	while (flight_state(f) != FLIGHT_COMPLETE)
		usleep(1000);
	ck_assert_int_eq(flight_follow(&r, 505000), FLIGHT_LOST);
	/* Who has none yet can't have wrong ones. */
	ck_assert_int_eq(flight_follow(&r, 500000), FLIGHT_MOVED);
}
END_TEST

/* Copies that readers share are of the prefix: before an island the file may have holes. */
START_TEST(test_copies)
{
	struct cache_view *v = cache_view_open(cache);
	struct flight_reader others[8];
	uint64_t n = 10000;
	const char *p;

	ck_assert_ptr_nonnull(v);
	make(false, 500000, 600000);
	for (size_t i = 0; i < NELEM(others); i++) {
		others[i] = (struct flight_reader){.wake = on_wake};
		flight_attach(f, &others[i], false);
	}
	ahead(500000, 510000);
	ck_assert_ptr_null(cache_flight_bytes(v, &r, 500000, &n, true, 1));
	ck_assert_int_eq(flight_append(f, body + 1000, 499000), REASON_OK);
	flight_advance(f, 510000);
	n = 10000;
	p = cache_flight_bytes(v, &r, 400000, &n, true, 1);
	ck_assert_ptr_nonnull(p);
	ck_assert_mem_eq(p, body + 400000, n);
	for (size_t i = 0; i < NELEM(others); i++)
		flight_detach(&others[i]);
	cache_view_close(&v);
}
END_TEST

/* The disk fills up: what lies ahead is not there any more, and its file can't be mistaken. */
START_TEST(test_disk_full)
{
	struct rlimit was, limit;
	int fd;

	make(false, 500000, 600000);
	ahead(500000, 510000);
	fd = flight_reader_span(&r, 500000, 10000).fd;
	ck_assert_int_eq(flight_follow(&r, 500000), FLIGHT_ON);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
	limit = was;
	limit.rlim_cur = 1000;
	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(flight_append(f, body + 1000, 1000), REASON_OK);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
	ck_assert(flight_passes_through(f) && !flight_takes_ahead(f));
	ck_assert_uint_le(flight_readable(&r, 500000), 500000);
	ck_assert_uint_eq(flight_reader_span(&r, 500000, 10000).n, 0);
	ck_assert(flight_wait(&r, 500000, FLIGHT_STREAMING));
	/* One that saw it a moment ago still reads from the right file. */
	ck_assert(flight_takes(f, 4096));
	ck_assert_int_eq(atomic_load(&flight_body(f)->fd), fd);
	flight_drop_ahead(f);
	ck_assert(flight_find_far(f, 1, &(struct flight_far){.at = 0}, 1) == 0);
}
END_TEST

Suite *
check_flight_ahead_suite(void)
{
	Suite *s = suite_create("flight_ahead");
	TCase *tc = tcase_create("flight_ahead");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_islands);
	tcase_add_test(tc, test_withheld);
	tcase_add_test(tc, test_wake);
	tcase_add_test(tc, test_far);
	tcase_add_test(tc, test_far_and_withheld);
	tcase_add_test(tc, test_wrong_with_islands);
	tcase_add_test(tc, test_copies);
	tcase_add_test(tc, test_disk_full);
	suite_add_tcase(s, tc);
	return s;
}
