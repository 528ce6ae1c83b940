/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Eviction: the least recently used go, never what is held; nobody spins when nothing can go. */
#include "cache/evict.h"
#include "include/clock.h"
#include "include/counter.h"
#include "tests/support/cachedir.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { BLOBS_N = 10, BODY_BYTES = 100 };

Suite *check_evict_suite(void);

static struct cachedir cd;
static struct evict *e;
static _Atomic uint64_t partials;
static atomic_int looks_n;	/* the keeper asks for partials once a look */

static const char *
url_of(int i)
{
	static char url[64];

	(void)snprintf(url, sizeof(url), "https://repo.example/%d_1_all.deb", i);
	return url;
}

static const char *
body_of(int i)
{
	static char body[BODY_BYTES + 1];

	(void)snprintf(body, sizeof(body), "%-*d", BODY_BYTES, i);
	return body;
}

static void
digest_of(int i, uint8_t digest[32])
{
	cachedir_digest(body_of(i), BODY_BYTES, digest);
}

/* Ten bodies, of which the last was used longest ago. */
static void
setup(void)
{
	int64_t now_s = clock_wall_s();
	uint8_t digest[32];

	cachedir_make(&cd);
	cachedir_open(&cd);
	for (int i = 0; i < BLOBS_N; i++) {
		ck_assert_int_eq(cachedir_store(&cd, url_of(i), body_of(i)), REASON_OK);
		digest_of(i, digest);
		index_view_touch(cd.view, digest, now_s + 1000 - 10 * i);
	}
}

static void
teardown(void)
{
	evict_stop(e);
	evict_free(&e);
	cachedir_remove(&cd);
}

static uint64_t
partial_bytes(void *arg)
{
	(void)arg;
	atomic_fetch_add(&looks_n, 1);
	return atomic_load(&partials);
}

static void
start(uint64_t max_bytes, uint64_t min_free_bytes)
{
	struct evict_conf conf = {.index = cd.index, .blobs = cd.blobs,
		.cache_max_bytes = max_bytes, .min_free_bytes = min_free_bytes,
		.partial_bytes = partial_bytes};

	e = evict_start(&conf);
	ck_assert_ptr_nonnull(e);
}

/* Waits until so many bodies are left, or fails. */
static void
await_blobs(uint64_t n)
{
	struct timespec ms = {0, 1000000};

	for (int i = 0; i < 5000 && index_blob_count(cd.index) != n; i++)
		(void)nanosleep(&ms, NULL);
	ck_assert_uint_eq(index_blob_count(cd.index), n);
	index_flush(cd.index);
}

static void
wish_done(void *arg, bool freed)
{
	atomic_store((atomic_int *)arg, freed ? 1 : 0);
}

/* Wishes for room and waits for the answer; it comes when a look is over. */
static bool
make_room(uint64_t want_bytes)
{
	struct timespec ms = {0, 1000000};
	atomic_int answer = -1;
	struct evict_wish wish = {.want_bytes = want_bytes, .done = wish_done, .arg = &answer};

	evict_wait_for_room(e, &wish);
	for (int i = 0; i < 10000 && atomic_load(&answer) < 0; i++)
		(void)nanosleep(&ms, NULL);
	ck_assert_int_ge(atomic_load(&answer), 0);
	return atomic_load(&answer) == 1;
}

static bool
is_there(int i)
{
	struct blob_rec blob;
	bool file = cachedir_has_file(&cd, body_of(i));

	ck_assert_int_eq(cachedir_lookup(&cd, url_of(i), &blob) == REASON_OK, file);
	return file;
}

START_TEST(test_within_budget)
{
	start(BLOBS_N * BODY_BYTES, 0);
	ck_assert(make_room(0));		/* a run has been */
	ck_assert_uint_eq(index_blob_count(cd.index), BLOBS_N);
}
END_TEST

/* 1000 bytes against a budget of 600: down to 570, the five oldest go. */
START_TEST(test_oldest_first)
{
	start(600, 0);
	await_blobs(5);
	for (int i = 0; i < BLOBS_N; i++)
		ck_assert_int_eq(is_there(i), i < 5);
	ck_assert_uint_eq(index_blob_bytes(cd.index), 500);
	ck_assert(make_room(0));		/* the run has ended */
	ck_assert_int_eq(counter_read(COUNTER_blobs_evicted_total), 5);
}
END_TEST

START_TEST(test_held_stay)
{
	uint8_t digest[32];
	int slot;

	digest_of(9, digest);
	slot = index_view_hold(cd.view, digest);
	ck_assert_int_ge(slot, 0);
	start(600, 0);
	await_blobs(5);
	for (int i = 0; i < BLOBS_N; i++)
		ck_assert_int_eq(is_there(i), i < 4 || i == 9);
	index_view_release(cd.view, slot);
}
END_TEST

/* All held, far over the budget: looks end, and kicks do not make it look again and again. */
START_TEST(test_nothing_can_go)
{
	struct timespec ms = {0, 1000000};
	int slot[BLOBS_N], looks;
	uint8_t digest[32];

	for (int i = 0; i < BLOBS_N; i++) {
		digest_of(i, digest);
		slot[i] = index_view_hold(cd.view, digest);
	}
	start(0, 0);
	ck_assert(!make_room(1));
	looks = atomic_load(&looks_n);
	for (int i = 0; i < 30; i++) {
		evict_kick(e);
		(void)nanosleep(&ms, NULL);	/* time for a look that should not come */
	}
	ck_assert(!make_room(1));
	ck_assert_int_eq(atomic_load(&looks_n), looks + 1);
	ck_assert_uint_eq(index_blob_count(cd.index), BLOBS_N);
	for (int i = 0; i < BLOBS_N; i++)
		index_view_release(cd.view, slot[i]);
	ck_assert(make_room(1));
	await_blobs(0);
}
END_TEST

/* What is being fetched counts, and a kick is enough to notice. */
START_TEST(test_partials_count)
{
	start(1000, 0);
	ck_assert(make_room(0));
	ck_assert_uint_eq(index_blob_count(cd.index), BLOBS_N);
	atomic_store(&partials, 200);
	evict_kick(e);
	await_blobs(7);		/* 1200 down to 950 */
	ck_assert(is_there(6));
	ck_assert(!is_there(7));
}
END_TEST

START_TEST(test_nothing_kept)
{
	start(0, 0);
	await_blobs(0);
	ck_assert_uint_eq(index_blob_bytes(cd.index), 0);
}
END_TEST

START_TEST(test_file_system_full)
{
	start(UINT64_MAX, UINT64_C(1) << 62);
	await_blobs(0);
}
END_TEST

START_TEST(test_make_room)
{
	start(UINT64_MAX, 0);
	ck_assert(make_room(250));
	await_blobs(7);
	ck_assert(!is_there(7));
	ck_assert(is_there(6));
	ck_assert(!make_room(5000));	/* more than there is */
	await_blobs(0);
}
END_TEST

/* A wish of one byte frees a twentieth of the cache; a stopped keeper answers no at once. */
START_TEST(test_room_for_the_next)
{
	start(UINT64_MAX, 0);
	ck_assert(make_room(1));
	await_blobs(9);
	for (int i = 9; i < 50; i++)
		ck_assert_int_eq(cachedir_store(&cd, url_of(i), body_of(i)), REASON_OK);
	ck_assert(make_room(1));
	await_blobs(47);	/* 5000 bytes: 250 of them */
	evict_stop(e);
	ck_assert(!make_room(1));
	evict_free(&e);
}
END_TEST

static void
count_object(void *arg, const struct key *key, const struct object_rec *rec)
{
	(void)key;
	(void)rec;
	(*(unsigned *)arg)++;
}

/* More bodies than one step walks; their URLs are forgotten an hour later. */
START_TEST(test_dangling_urls)
{
	struct timespec ms = {0, 1000000};
	struct object_rec rec;
	struct key key, last;
	uint32_t seen_n = 1;
	unsigned n = 0;

	for (int i = BLOBS_N; i < 2500; i++) {
		cachedir_key(url_of(i), &key);
		cachedir_partial(&cd, url_of(i), body_of(i), BODY_BYTES);
		cachedir_rec(&rec, url_of(i), body_of(i), BODY_BYTES);
		index_store(cd.index, &key, &rec, NULL, NULL);
	}
	index_flush(cd.index);
	ck_assert_uint_eq(index_blob_count(cd.index), 2500);
	start(0, 0);
	await_blobs(0);
	ck_assert_int_eq(index_walk_objects(cd.view, NULL, 9999, count_object, &n, &last, &seen_n),
	    REASON_OK);
	ck_assert_uint_eq(n, 2500);
	clock_test_advance(2 * 3600 * 1000);
	(void)make_room(1);
	for (int i = 0; i < 5000 && seen_n != 0; i++) {
		(void)nanosleep(&ms, NULL);
		ck_assert_int_eq(index_walk_objects(cd.view, NULL, 9999, count_object, &n, &last,
		    &seen_n), REASON_OK);
	}
	ck_assert_uint_eq(seen_n, 0);
}
END_TEST

Suite *
check_evict_suite(void)
{
	Suite *s = suite_create("evict");
	TCase *tc = tcase_create("evict");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_within_budget);
	tcase_add_test(tc, test_oldest_first);
	tcase_add_test(tc, test_held_stay);
	tcase_add_test(tc, test_nothing_can_go);
	tcase_add_test(tc, test_partials_count);
	tcase_add_test(tc, test_nothing_kept);
	tcase_add_test(tc, test_file_system_full);
	tcase_add_test(tc, test_make_room);
	tcase_add_test(tc, test_room_for_the_next);
	tcase_add_test(tc, test_dangling_urls);
	suite_add_tcase(s, tc);
	return s;
}
