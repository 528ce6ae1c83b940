/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Windows of mapped bodies: the right bytes, and never too many of them resident. */
#include "cache/window.h"
#include "tests/support/cachedir.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

Suite *check_window_suite(void);

enum { FILE_MIB = 200, LARGE_BYTES = FILE_MIB << 20 };
static const uint64_t RESIDENT_MAX = 32 << 20, SLACK = 4 << 20;

static struct cachedir cd;
static struct windows *ws;
static int fd;

/* A file whose bytes say where they are. */
static void
setup(void)
{
	uint32_t *page = malloc(1 << 20);

	cachedir_make(&cd);
	fd = open(cachedir_below(&cd, "body"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	for (uint32_t i = 0; i < FILE_MIB; i++) {
		for (uint32_t k = 0; k < (1 << 20) / 4; k++)
			page[k] = (i << 18) + k;
		ck_assert_int_eq(write(fd, page, 1 << 20), 1 << 20);
	}
	free(page);
	ws = windows_new();
	ck_assert_ptr_nonnull(ws);
}

static void
teardown(void)
{
	windows_free(&ws);
	(void)close(fd);
	cachedir_remove(&cd);
}

/* Pages of files in this process, in bytes. */
static uint64_t
resident(void)
{
	unsigned long size, all, files;
	FILE *f = fopen("/proc/self/statm", "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%lu %lu %lu", &size, &all, &files), 3);
	(void)fclose(f);
	return (uint64_t)files * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Touches as a connection does, reads all that it may; its first word says where it is. */
static uint64_t
touch(struct mapping *m, uint64_t at, uint64_t want, int64_t now_ms)
{
	uint64_t n = want;
	const char *p = window_touch(ws, m, at, &n, now_ms);
	volatile char sum = 0;
	uint32_t word;

	if (p == NULL)
		return 0;
	ck_assert_uint_ge(n, 1);
	ck_assert_uint_le(n, want);
	for (uint64_t i = 0; i < n; i += 4096)
		sum = (char)(sum + p[i]);
	memcpy(&word, p, sizeof(word));
	ck_assert_uint_eq(word, at / 4);
	return n;
}

START_TEST(test_reading_through)
{
	struct mapping m = {0};
	uint64_t at = 0, before = resident();
	int64_t now_ms = 1000;

	window_map(&m, fd, LARGE_BYTES);
	ck_assert_ptr_nonnull(m.p);
	for (unsigned round = 0; round < 3; round++)
		for (at = 0; at < LARGE_BYTES; now_ms += 2) {
			uint64_t n = touch(&m, at, LARGE_BYTES - at, now_ms);

			ck_assert_uint_gt(n, 0);
			at += n;
			ck_assert_uint_le(window_resident_bytes(), RESIDENT_MAX);
			ck_assert_uint_le(resident(), before + RESIDENT_MAX + SLACK);
		}
	ck_assert_uint_gt(resident(), before + RESIDENT_MAX / 2);
	windows_tick(ws, now_ms + 1000);
	ck_assert_uint_eq(window_resident_bytes(), 0);
	ck_assert_uint_le(resident(), before + SLACK);
	window_unmap(ws, &m);
	ck_assert_ptr_null(m.p);
}
END_TEST

/* Readers everywhere: the first ones keep their windows, the others get none for a moment. */
START_TEST(test_many_places)
{
	struct mapping m = {0};
	unsigned got = 0;

	window_map(&m, fd, LARGE_BYTES);
	for (uint64_t at = 0; at < LARGE_BYTES; at += 5 << 20)
		got += touch(&m, at, 1000, 1000) > 0;
	ck_assert_uint_eq(got, RESIDENT_MAX / (4 << 20));
	ck_assert_uint_eq(touch(&m, 0, 1000, 1004), 1000);
	ck_assert_uint_eq(touch(&m, LARGE_BYTES - 4096, 1000, 1004), 0);
	/* Some are in use no more. */
	ck_assert_uint_eq(touch(&m, LARGE_BYTES - 4096, 1000, 1005), 1000);
	ck_assert_uint_eq(touch(&m, 0, 1000, 1005), 1000);
	window_unmap(ws, &m);
	ck_assert_uint_eq(window_resident_bytes(), 0);
}
END_TEST

START_TEST(test_many_bodies)
{
	enum { N = 300 };
	struct mapping *m = calloc(N, sizeof(*m));
	uint64_t before = resident();

	for (int i = 0; i < N; i++) {
		window_map(&m[i], fd, 500000);
		ck_assert_uint_eq(touch(&m[i], 0, 500000, 1000 + 10 * i), 500000);
		ck_assert_uint_le(window_resident_bytes(), RESIDENT_MAX);
	}
	ck_assert_uint_le(resident(), before + RESIDENT_MAX + SLACK);
	for (int i = 0; i < N; i++)
		window_unmap(ws, &m[i]);
	ck_assert_uint_eq(window_resident_bytes(), 0);
	free(m);
}
END_TEST

/* A system call that copies from beyond the file's end fails; it does not kill. */
START_TEST(test_file_that_was_cut)
{
	struct mapping m = {0};
	uint64_t n = 4096;
	const char *p;
	int pair[2];

	window_map(&m, fd, LARGE_BYTES);
	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	p = window_touch(ws, &m, 1 << 20, &n, 1000);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(send(pair[0], p, n, MSG_NOSIGNAL), -1);
	ck_assert_int_eq(errno, EFAULT);
	window_unmap(ws, &m);
}
END_TEST

START_TEST(test_not_mapped)
{
	struct mapping m = {0};
	uint64_t n = 1;

	window_map(&m, fd, 0);
	ck_assert_ptr_null(window_touch(ws, &m, 0, &n, 1000));
	window_map(&m, fd, (uint64_t)1 << 30);
	ck_assert_ptr_null(window_touch(ws, &m, 0, &n, 1000));
	window_unmap(ws, &m);
}
END_TEST

Suite *
check_window_suite(void)
{
	Suite *s = suite_create("window");
	TCase *tc = tcase_create("windows");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_reading_through);
	tcase_add_test(tc, test_many_places);
	tcase_add_test(tc, test_many_bodies);
	tcase_add_test(tc, test_file_that_was_cut);
	tcase_add_test(tc, test_not_mapped);
	suite_add_tcase(s, tc);
	return s;
}
