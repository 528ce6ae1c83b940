/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Windows: the right bytes, shared by those who read the same, never too many of them. */
#include "cache/window.h"
#include "tests/support/cachedir.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *check_window_suite(void);

enum { FILE_MIB = 80, MIB = 1 << 20, POOL_MIB = 32 };

static struct cachedir cd;
static struct windows *ws;
static uint64_t id;
static int fd;

/* A file whose words say where they are. */
static void
setup(void)
{
	uint32_t *piece = malloc(MIB);

	cachedir_make(&cd);
	fd = open(cachedir_below(&cd, "body"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	for (uint32_t i = 0; i < FILE_MIB; i++) {
		for (uint32_t k = 0; k < MIB / 4; k++)
			piece[k] = i * (MIB / 4) + k;
		ck_assert_int_eq(write(fd, piece, MIB), MIB);
	}
	free(piece);
	ws = windows_new();
	ck_assert_ptr_nonnull(ws);
	id = window_id();
}

static void
teardown(void)
{
	windows_free(&ws);
	(void)close(fd);
	cachedir_remove(&cd);
}

/* Private memory of this process, in bytes; under a thread sanitizer, which shadows it, nothing. */
static uint64_t
resident(void)
{
#ifdef __SANITIZE_THREAD__
	return 0;
#else
	unsigned long size, all, files;
	FILE *f = fopen("/proc/self/statm", "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%lu %lu %lu", &size, &all, &files), 3);
	(void)fclose(f);
	return (uint64_t)(all - files) * (uint64_t)sysconf(_SC_PAGESIZE);
#endif
}

/* Asks as a connection does: how many bytes there are, and these are the right ones. */
static uint64_t
ask(uint64_t at, uint64_t want, bool fill, int64_t now_ms)
{
	uint64_t n = want;
	const char *p = window_bytes(ws, id, fd, at, &n, fill, now_ms);
	uint32_t first, last;

	if (p == NULL)
		return 0;
	ck_assert_uint_ge(n, 4);
	ck_assert_uint_le(n, want);
	memcpy(&first, p, sizeof(first));
	memcpy(&last, p + (n - 4) / 4 * 4, sizeof(last));
	ck_assert_uint_eq(first, at / 4);
	ck_assert_uint_eq(last, at / 4 + (n - 4) / 4);
	return n;
}

/* Reads all that there is, in pieces of at most `want`; how many of them were copied before. */
static unsigned
read_through(uint64_t want, bool fill, int64_t now_ms)
{
	unsigned there_n = 0;
	uint64_t n;

	for (uint64_t at = 0; at < (uint64_t)FILE_MIB * MIB; at += n) {
		n = ask(at, want, false, now_ms);
		there_n += n > 0;
		if (n == 0)
			n = ask(at, want, fill, now_ms);
		ck_assert_uint_gt(n, 0);
	}
	return there_n;
}

/* Bytes are copied once, up to the window's end, and are there for whoever comes next. */
START_TEST(test_what_one_copies_others_find)
{
	ck_assert_uint_eq(ask(3 * MIB + 4096, 10 * MIB, false, 1000), 0);
	ck_assert_uint_eq(ask(3 * MIB + 4096, 10 * MIB, true, 1000), MIB - 4096);
	ck_assert_uint_eq(ask(3 * MIB, 100, false, 1000), 100);
	ck_assert_uint_eq(ask(4 * MIB - 8, 100, false, 1000), 8);
	ck_assert_uint_eq(ask(4 * MIB, 100, false, 1000), 0);
	id = window_id();
	ck_assert_uint_eq(ask(3 * MIB, 100, false, 1000), 0);
}
END_TEST

/* A body that grows: a window has what could be read when it was asked for. */
START_TEST(test_growing_body)
{
	ck_assert_uint_eq(ask(MIB, 1000, true, 1000), 1000);
	ck_assert_uint_eq(ask(MIB + 1000, 1000, false, 1000), 0);
	ck_assert_uint_eq(ask(MIB + 1000, 5000, true, 1000), 5000);
	ck_assert_uint_eq(ask(MIB, 6000, false, 1000), 6000);
}
END_TEST

/* Who shares nothing uses the same two windows again and again. */
START_TEST(test_one_reader_uses_little)
{
	uint64_t before = resident();

	ck_assert_uint_eq(read_through(MIB, true, 1000), 0);
	ck_assert_uint_eq(read_through(MIB, true, 1000), 0);
	ck_assert_uint_lt(resident(), before + 4 * MIB);
	ck_assert_uint_eq(read_through(MIB / 4, true, 1000), 0);
	ck_assert_uint_lt(resident(), before + 4 * MIB);
}
END_TEST

/* What a second one finds is kept while others come and go, up to the bound. */
START_TEST(test_shared_windows_are_kept)
{
	uint64_t before = resident();

	for (uint64_t i = 0; i < FILE_MIB; i++) {
		ck_assert_uint_eq(ask(i * MIB, MIB, true, 1000 + (int64_t)i), MIB);
		ck_assert_uint_eq(ask(i * MIB, MIB, false, 1000 + (int64_t)i), MIB);
	}
	ck_assert_uint_le(resident(), before + POOL_MIB * MIB + 2 * MIB);
	for (uint64_t i = 0; i < FILE_MIB; i++)
		ck_assert_int_eq(ask(i * MIB, MIB, false, 2000) > 0, i >= FILE_MIB - POOL_MIB);
	windows_tick(ws, 2500);
	ck_assert_uint_gt(ask((FILE_MIB - 1) * (uint64_t)MIB, MIB, false, 2500), 0);
	windows_tick(ws, 3500);
	ck_assert_uint_eq(ask((FILE_MIB - 1) * (uint64_t)MIB, MIB, false, 3500), 0);
	ck_assert_uint_lt(resident(), before + 2 * MIB);
}
END_TEST

/* More threads, fewer windows for each. */
START_TEST(test_threads_share_the_bound)
{
	struct windows *others[3];
	unsigned there_n = 0;

	for (unsigned i = 0; i < 3; i++)
		others[i] = windows_new();
	for (uint64_t i = 0; i < FILE_MIB; i++)
		for (unsigned k = 0; k < 2; k++)
			ck_assert_uint_eq(ask(i * MIB, MIB, true, 1000), MIB);
	for (uint64_t i = 0; i < FILE_MIB; i++)
		there_n += ask(i * MIB, MIB, false, 1000) > 0;
	ck_assert_uint_eq(there_n, POOL_MIB / 4);
	for (unsigned i = 0; i < 3; i++)
		windows_free(&others[i]);
}
END_TEST

/* Not in the file: no window, and room for others. */
START_TEST(test_beyond_the_end)
{
	for (uint64_t i = 0; i < 2 * POOL_MIB; i++)
		ck_assert_uint_eq(ask((FILE_MIB + i) * MIB, MIB, true, 1000), 0);
	ck_assert_uint_eq(ask(0, MIB, true, 1000), MIB);
}
END_TEST

Suite *
check_window_suite(void)
{
	Suite *s = suite_create("window");
	TCase *tc = tcase_create("windows");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_what_one_copies_others_find);
	tcase_add_test(tc, test_growing_body);
	tcase_add_test(tc, test_one_reader_uses_little);
	tcase_add_test(tc, test_shared_windows_are_kept);
	tcase_add_test(tc, test_threads_share_the_bound);
	tcase_add_test(tc, test_beyond_the_end);
	suite_add_tcase(s, tc);
	return s;
}
