/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The scrubber: what rotted is found and goes, the rest stays, warm pages stay warm. */
#include "cache/scrub.h"
#include "include/counter.h"
#include "tests/support/cachedir.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOBS_N = 600, BIG_BYTES = (3 << 20) + 1 };	/* more than two steps of the walk */

Suite *check_scrub_suite(void);

static struct cachedir cd;
static struct scrub *s;
static char *big;

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
	static char body[64];

	(void)snprintf(body, sizeof(body), "body number %d", i);
	return body;
}

/* Where a body's file is. */
static const char *
path_of(const void *body, size_t n)
{
	char name[16 + 64 + 1];
	uint8_t digest[32];
	char hex[KEY_HEX_BYTES];

	cachedir_digest(body, n, digest);
	key_hex(digest, hex);
	(void)snprintf(name, sizeof(name), "blobs/%.2s/%s", hex, hex);
	return cachedir_below(&cd, name);
}

static void
setup(void)
{
	cachedir_make(&cd);
	cachedir_open(&cd);
	big = malloc(BIG_BYTES + 1);
	ck_assert_ptr_nonnull(big);
	memset(big, 'x', BIG_BYTES);
	big[BIG_BYTES] = '\0';
}

static void
teardown(void)
{
	scrub_stop(&s);
	cachedir_remove(&cd);
	free(big);
}

static void
store(int n)
{
	struct object_rec rec;
	struct key key;
	int i;

	for (i = 0; i < n; i++) {
		cachedir_key(url_of(i), &key);
		cachedir_partial(&cd, url_of(i), body_of(i), strlen(body_of(i)));
		cachedir_rec(&rec, url_of(i), body_of(i), strlen(body_of(i)));
		index_store(cd.index, &key, &rec, NULL, NULL);
	}
	index_flush(cd.index);
}

static void
start(uint64_t rate_bytes, int64_t first_ms)
{
	struct scrub_conf conf = {.index = cd.index, .blobs = cd.blobs, .rate_bytes = rate_bytes,
	    .first_ms = first_ms, .every_ms = SCRUB_EVERY_MS};

	s = scrub_start(&conf);
	ck_assert_ptr_nonnull(s);
}

static void
await_passes(int64_t n)
{
	struct timespec ms = {0, 1000000};
	int i;

	for (i = 0; i < 20000 && counter_read(COUNTER_scrub_passes_total) < n; i++)
		(void)nanosleep(&ms, NULL);
	ck_assert_int_eq(counter_read(COUNTER_scrub_passes_total), n);
}

/* Writes into a body and gives the file its old time back. */
static void
rot(const char *path, off_t at, const char *with)
{
	struct timespec times[2];
	struct stat st;
	int fd = open(path, O_WRONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(pwrite(fd, with, 1, at), 1);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	ck_assert_int_eq(futimens(fd, times), 0);
	ck_assert_int_eq(close(fd), 0);
}

/* Wherever a pass begins, it meets each blob once; a flipped bit is found, and nothing else goes. */
START_TEST(test_flipped_bit)
{
	struct blob_rec blob;
	int i;

	store(BLOBS_N);
	ck_assert_int_eq(cachedir_store(&cd, "https://repo.example/big.deb", big), REASON_OK);
	rot(path_of(body_of(7), strlen(body_of(7))), 3, "?");
	rot(path_of(big, BIG_BYTES), BIG_BYTES - 1, "y");
	start(0, 0);
	await_passes(1);
	ck_assert_int_eq(counter_read(COUNTER_scrubbed_blobs_total), BLOBS_N + 1);
	ck_assert_int_eq(counter_read(COUNTER_blobs_damaged_total), 2);
	ck_assert_uint_eq(index_blob_count(cd.index), BLOBS_N - 1);
	for (i = 0; i < BLOBS_N; i++) {
		ck_assert_int_eq(cachedir_lookup(&cd, url_of(i), &blob) == REASON_OK, i != 7);
		ck_assert_int_eq(cachedir_has_file(&cd, body_of(i)), i != 7);
	}
	ck_assert(!cachedir_has_file(&cd, big));
	/* Another pass. */
	scrub_stop(&s);
	start(0, 0);
	await_passes(2);
	ck_assert_int_eq(counter_read(COUNTER_scrubbed_blobs_total), 2 * BLOBS_N);
	ck_assert_int_eq(counter_read(COUNTER_blobs_damaged_total), 2);
}
END_TEST

/* Cut, grown, missing: dropped. Another mtime over good bytes: the record learns it. */
START_TEST(test_other_harm)
{
	struct timespec old[2] = {{1000000000, 0}, {1000000000, 5}};
	struct blob_rec blob;

	store(5);
	ck_assert_int_eq(truncate(path_of(body_of(0), strlen(body_of(0))), 3), 0);
	ck_assert_int_eq(truncate(path_of(body_of(1), strlen(body_of(1))), 3000), 0);
	ck_assert_int_eq(unlink(path_of(body_of(2), strlen(body_of(2)))), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, path_of(body_of(3), strlen(body_of(3))), old, 0), 0);
	start(0, 0);
	await_passes(1);
	ck_assert_int_eq(counter_read(COUNTER_blobs_damaged_total), 3);
	ck_assert_uint_eq(index_blob_count(cd.index), 2);
	ck_assert_int_eq(cachedir_lookup(&cd, url_of(3), &blob), REASON_OK);
	ck_assert_int_eq(blob.mtime_ns, INT64_C(1000000000000000005));
	ck_assert(!blob.suspect);
	ck_assert_int_eq(cachedir_lookup(&cd, url_of(4), &blob), REASON_OK);
}
END_TEST

START_TEST(test_nothing_stored)
{
	start(0, 0);
	await_passes(1);
	scrub_stop(&s);
	ck_assert_int_eq(cachedir_store(&cd, url_of(0), ""), REASON_OK);
	start(0, 0);
	await_passes(2);
	ck_assert_int_eq(counter_read(COUNTER_scrubbed_blobs_total), 1);
	ck_assert_int_eq(counter_read(COUNTER_blobs_damaged_total), 0);
}
END_TEST

/* It waits before its first pass, it pauses within one, and a stop ends both. */
START_TEST(test_pace)
{
	struct timespec ms = {0, 1000000};
	int i;

	ck_assert_int_eq(cachedir_store(&cd, "https://repo.example/big.deb", big), REASON_OK);
	start(1, SCRUB_FIRST_MS);
	scrub_stop(&s);
	ck_assert_int_eq(counter_read(COUNTER_scrubbed_bytes_total), 0);
	start(1, 0);		/* a byte a second: a pause of days behind the first window */
	for (i = 0; i < 20000 && counter_read(COUNTER_scrubbed_bytes_total) == 0; i++)
		(void)nanosleep(&ms, NULL);
	ck_assert_int_eq(counter_read(COUNTER_scrubbed_bytes_total), 1 << 20);
	scrub_stop(&s);
	ck_assert_int_eq(counter_read(COUNTER_scrubbed_bytes_total), 1 << 20);
}
END_TEST

/* How many of the body's pages are in memory; -1: the system does not tell. */
static int
count_resident(int fd, size_t n)
{
	unsigned char resident[BIG_BYTES / 4096 + 1];
	void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
	int found = 0;
	size_t i;

	if (map == MAP_FAILED || mincore(map, n, resident) != 0)
		return -1;
	for (i = 0; i < (n + 4095) / 4096; i++)
		found += resident[i] & 1;
	(void)munmap(map, n);
	return found;
}

/* What was warm is warm afterwards, what was cold is cold again. */
START_TEST(test_leaves_no_trace)
{
	char template[] = "/var/tmp/depot-check-XXXXXX", buf[4096];
	int fd, before;

	/* A directory on a disk, where there is one: in memory nothing is ever cold. */
	cachedir_remove(&cd);
	ck_assert_ptr_nonnull(mkdtemp(template));
	(void)snprintf(cd.dir, sizeof(cd.dir), "%s", template);
	cachedir_open(&cd);
	ck_assert_int_eq(cachedir_store(&cd, "https://repo.example/big.deb", big), REASON_OK);
	fd = open(path_of(big, BIG_BYTES), O_RDONLY);
	ck_assert_int_ge(fd, 0);
	(void)fdatasync(fd);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	ck_assert_int_eq(pread(fd, buf, sizeof(buf), 1 << 20), sizeof(buf));
	before = count_resident(fd, BIG_BYTES);
	if (before > 0 && before < BIG_BYTES / 4096 / 2) {
		start(0, 0);
		await_passes(1);
		ck_assert_int_eq(counter_read(COUNTER_scrubbed_bytes_total), BIG_BYTES);
		ck_assert_int_eq(counter_read(COUNTER_blobs_damaged_total), 0);
		ck_assert_int_eq(count_resident(fd, BIG_BYTES), before);
	}
	ck_assert_int_eq(close(fd), 0);
}
END_TEST

Suite *
check_scrub_suite(void)
{
	Suite *suite = suite_create("scrub");
	TCase *tc = tcase_create("scrub");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_flipped_bit);
	tcase_add_test(tc, test_other_harm);
	tcase_add_test(tc, test_nothing_stored);
	tcase_add_test(tc, test_pace);
	tcase_add_test(tc, test_leaves_no_trace);
	suite_add_tcase(suite, tc);
	return suite;
}
