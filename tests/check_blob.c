/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Body files: life from partial to blob, vanished directories, foreign files, errors. */
#include "cache/blob.h"
#include "tests/support/cachedir.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define URL "https://repo.example/a_1_amd64.deb"

Suite *check_blob_suite(void);

static struct cachedir cd;
static struct key key;

static void
setup(void)
{
	cachedir_make(&cd);
	ck_assert_int_eq(blobstore_open(&cd.blobs, cd.dir), REASON_OK);
	cachedir_key(URL, &key);
}

static void
teardown(void)
{
	cachedir_remove(&cd);
}

static void
adopt(const char *body, const struct blob_stat *known, struct blob_stat *st)
{
	uint8_t digest[32];

	cachedir_digest(body, strlen(body), digest);
	cachedir_partial(&cd, URL, body, strlen(body));
	ck_assert_int_eq(blob_adopt(cd.blobs, &key, digest, strlen(body), known, st), REASON_OK);
}

START_TEST(test_life)
{
	uint8_t digest[32];
	char hex[KEY_HEX_BYTES], path[256], got[8];
	struct blob_stat st, found;
	struct stat sb;
	bool must_wait = true;
	int fd = -1;

	cachedir_digest("body", 4, digest);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &st), REASON_NOT_FOUND);
	adopt("body", NULL, &st);
	ck_assert_uint_eq(st.size_bytes, 4);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &found), REASON_OK);
	ck_assert_int_eq(read(fd, got, sizeof(got)), 4);
	ck_assert_mem_eq(got, "body", 4);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(close(fd), 0);
	ck_assert_int_eq(found.mtime_ns, st.mtime_ns);
	ck_assert_uint_eq(found.size_bytes, 4);
	/* Just looked at: the system needs no disk for it, if it can say so at all. */
	ck_assert_int_eq(blob_open_nowait(cd.blobs, digest, &fd, &found, &must_wait), REASON_OK);
	if (!must_wait)
		ck_assert_int_eq(close(fd), 0);
	key_hex(digest, hex);
	(void)snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", cd.dir, hex, hex);
	ck_assert_int_eq(stat(path, &sb), 0);
	ck_assert_uint_eq(sb.st_mode & 0777 & ~0640U, 0);
	ck_assert_int_eq(blob_remove(cd.blobs, digest), REASON_OK);
	ck_assert_int_eq(blob_remove(cd.blobs, digest), REASON_OK);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &st), REASON_NOT_FOUND);
}
END_TEST

/* Gives the stored body a time of its own: file systems may give two files of a moment the same. */
static void
make_old(const uint8_t digest[32], struct blob_stat *st)
{
	static const struct timespec long_ago[2] = {{1000, 0}, {1000, 0}};
	char path[256], hex[65];

	key_hex(digest, hex);
	(void)snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", cd.dir, hex, hex);
	ck_assert_int_eq(utimensat(AT_FDCWD, path, long_ago, 0), 0);
	st->mtime_ns = INT64_C(1000000000000);
}

START_TEST(test_adopt_over)
{
	struct blob_stat first, second, third;
	uint8_t digest[32];
	int fd = -1;

	cachedir_digest("body", 4, digest);
	adopt("body", NULL, &first);
	make_old(digest, &first);
	adopt("body", &first, &second);		/* as known: the first stays */
	ck_assert_int_eq(second.mtime_ns, first.mtime_ns);
	ck_assert_int_eq(blob_partial_open(cd.blobs, &key, &fd, &third), REASON_NOT_FOUND);
	first.mtime_ns--;
	adopt("body", &first, &second);		/* not as known: replaced */
	ck_assert_int_ne(second.mtime_ns, first.mtime_ns + 1);
	make_old(digest, &second);
	adopt("body", NULL, &third);		/* nothing known: replaced */
	ck_assert_int_ne(third.mtime_ns, second.mtime_ns);
	/* Another length than announced never becomes a blob. */
	cachedir_partial(&cd, URL, "bod", 3);
	ck_assert_int_eq(blob_adopt(cd.blobs, &key, digest, 4, NULL, &third), REASON_DAMAGED);
	ck_assert_int_eq(blob_adopt(cd.blobs, &key, digest, 4, NULL, &third), REASON_NOT_FOUND);
}
END_TEST

/* From memory: the same, in one step. */
START_TEST(test_write)
{
	struct blob_stat first, second;
	uint8_t digest[32];
	char got[8];
	int was = -1, fd = -1;

	cachedir_digest("body", 4, digest);
	ck_assert_int_eq(blob_write(cd.blobs, digest, "body", 4, NULL, &first), REASON_OK);
	ck_assert_uint_eq(first.size_bytes, 4);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &was, &second), REASON_OK);
	ck_assert_int_eq(second.mtime_ns, first.mtime_ns);
	/* As known: it stays. In doubt: another takes its place, and who reads the old one keeps it. */
	ck_assert_int_eq(blob_write(cd.blobs, digest, "body", 4, &first, &second), REASON_OK);
	ck_assert_int_eq(second.mtime_ns, first.mtime_ns);
	ck_assert_int_eq(blob_write(cd.blobs, digest, "BODY", 4, NULL, &second), REASON_OK);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &second), REASON_OK);
	ck_assert_int_eq(read(was, got, sizeof(got)), 4);
	ck_assert_mem_eq(got, "body", 4);
	ck_assert_int_eq(read(fd, got, sizeof(got)), 4);
	ck_assert_mem_eq(got, "BODY", 4);
	ck_assert_int_eq(close(was), 0);
	ck_assert_int_eq(close(fd), 0);
}
END_TEST

/* Whoever reads a partial that starts over keeps what he has. */
START_TEST(test_partial_replaced)
{
	struct blob_stat st;
	int was = -1, now = -1, again = -1;
	char got[4];

	ck_assert_int_eq(blob_partial_create(cd.blobs, &key, &was), REASON_OK);
	ck_assert_int_eq(write(was, "old", 3), 3);
	ck_assert_int_eq(blob_partial_create(cd.blobs, &key, &now), REASON_OK);
	ck_assert_int_eq(pread(was, got, 3, 0), 3);
	ck_assert_int_eq(pread(now, got, 3, 0), 0);
	ck_assert_int_eq(blob_partial_open(cd.blobs, &key, &again, &st), REASON_OK);
	ck_assert_int_eq(write(again, "x", 1), 1);
	ck_assert_int_eq(pread(now, got, 3, 0), 1);
	ck_assert_int_eq(blob_partial_remove(cd.blobs, &key), REASON_OK);
	ck_assert_int_eq(blob_partial_remove(cd.blobs, &key), REASON_OK);
	(void)close(was);
	(void)close(now);
	(void)close(again);
}
END_TEST

/* Directories that somebody deleted are made again. */
START_TEST(test_vanished)
{
	struct blob_stat st;
	uint8_t digest[32];
	int fd = -1;

	adopt("body", NULL, &st);
	cachedir_digest("body", 4, digest);
	ck_assert_int_eq(blob_remove(cd.blobs, digest), REASON_OK);
	ck_assert_int_eq(rmdir(cachedir_below(&cd, "partial")), 0);
	ck_assert_int_eq(rmdir(cachedir_below(&cd, "blobs/23")), 0);
	ck_assert_int_eq(rmdir(cachedir_below(&cd, "blobs")), 0);
	ck_assert_int_eq(blob_scratch_create(cd.blobs, &fd), REASON_OK);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	ck_assert_int_eq(close(fd), 0);
	ck_assert_int_eq(rmdir(cachedir_below(&cd, "partial")), 0);	/* nothing left a name there */
	ck_assert_int_eq(blob_remove(cd.blobs, digest), REASON_OK);
	adopt("body", NULL, &st);
	ck_assert(cachedir_has_file(&cd, "body"));
}
END_TEST

static unsigned walked_n;
static uint8_t walked[32];

static bool
walk_each(void *arg, const uint8_t name[32], const struct blob_stat *st)
{
	const unsigned *stop_at = arg;

	ck_assert_uint_eq(st->size_bytes, 6);
	memcpy(walked, name, 32);
	return ++walked_n != *stop_at;
}

/* Only names and places as we make them are walked. */
START_TEST(test_walk)
{
	unsigned stop_at = 0;
	struct blob_stat st;
	char body[8];
	FILE *f;

	for (int i = 0; i < 20; i++) {
		(void)snprintf(body, sizeof(body), "body%02d", i);
		adopt(body, NULL, &st);
	}
	(void)mkdir(cachedir_below(&cd, "blobs/zz"), 0755);
	(void)mkdir(cachedir_below(&cd, "blobs/00"), 0755);
	f = fopen(cachedir_below(&cd, "blobs/00/README"), "w");
	ck_assert_ptr_nonnull(f);
	(void)fclose(f);
	/* The right form in the wrong directory. */
	f = fopen(cachedir_below(&cd, "blobs/00/ff000000000000000000000000000000"
	    "00000000000000000000000000000000"), "w");
	ck_assert_ptr_nonnull(f);
	(void)fclose(f);
	ck_assert_int_eq(blob_walk(cd.blobs, walk_each, &stop_at), REASON_OK);
	ck_assert_uint_eq(walked_n, 20);
	walked_n = 0;
	stop_at = 3;
	ck_assert_int_eq(blob_walk(cd.blobs, walk_each, &stop_at), REASON_OK);
	ck_assert_uint_eq(walked_n, 3);
	walked_n = 0;
	stop_at = 0;
	cachedir_partial(&cd, URL, "abcdef", 6);
	ck_assert_int_eq(blob_partial_walk(cd.blobs, walk_each, &stop_at), REASON_OK);
	ck_assert_uint_eq(walked_n, 1);
	ck_assert_mem_eq(walked, key.b, 32);
}
END_TEST

/* What is not a regular file is not a body, and never blocks. */
START_TEST(test_not_a_file)
{
	char hex[KEY_HEX_BYTES], path[256], dir[256];
	struct blob_stat st;
	uint8_t digest[32];
	int fd = -1;

	cachedir_digest("body", 4, digest);
	key_hex(digest, hex);
	(void)snprintf(dir, sizeof(dir), "%s/blobs/%.2s", cd.dir, hex);
	(void)snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", cd.dir, hex, hex);
	ck_assert_int_eq(mkdir(dir, 0755), 0);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &st), REASON_NOT_FOUND);
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(mkfifo(path, 0644), 0);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &st), REASON_NOT_FOUND);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("/etc/passwd", path), 0);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &st), REASON_NOT_FOUND);
	ck_assert_int_eq(fd, -1);
}
END_TEST

START_TEST(test_no_descriptors)
{
	struct rlimit few = {0, 0};
	struct blob_stat st;
	bool must_wait = false;
	uint8_t digest[32];
	int fd = -1;

	adopt("body", NULL, &st);
	cachedir_digest("body", 4, digest);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &few), 0);
	few.rlim_cur = 3;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	ck_assert_int_eq(blob_open(cd.blobs, digest, &fd, &st), REASON_NO_DESCRIPTORS);
	if (blob_open_nowait(cd.blobs, digest, &fd, &st, &must_wait) != REASON_NO_DESCRIPTORS)
		ck_assert(must_wait);
	ck_assert_int_eq(blob_partial_create(cd.blobs, &key, &fd), REASON_NO_DESCRIPTORS);
	ck_assert_int_eq(blob_scratch_create(cd.blobs, &fd), REASON_NO_DESCRIPTORS);
	few.rlim_cur = few.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
}
END_TEST

START_TEST(test_errno_reason)
{
	static const struct {
		int err;
		enum reason want;
	} cases[] = {
		{ENOSPC, REASON_NO_DISK}, {EDQUOT, REASON_NO_DISK}, {EROFS, REASON_NO_DISK},
		{EFBIG, REASON_NO_DISK}, {EMFILE, REASON_NO_DESCRIPTORS},
		{ENFILE, REASON_NO_DESCRIPTORS}, {ENOMEM, REASON_NO_MEMORY},
		{EIO, REASON_DISK_ERROR}, {EACCES, REASON_DISK_ERROR}, {0, REASON_DISK_ERROR},
	};

	ck_assert_int_eq(blob_errno_reason(cases[_i].err), cases[_i].want);
}
END_TEST

START_TEST(test_open_refused)
{
	struct blobstore *bs = NULL;
	FILE *f = fopen(cachedir_below(&cd, "file"), "w");

	ck_assert_ptr_nonnull(f);
	(void)fclose(f);
	ck_assert_int_eq(blobstore_open(&bs, cachedir_below(&cd, "file")), REASON_DISK_ERROR);
	ck_assert_int_eq(blobstore_open(&bs, cachedir_below(&cd, "file/below")), REASON_DISK_ERROR);
	ck_assert_ptr_null(bs);
	ck_assert_int_eq(blobstore_open(&bs, cachedir_below(&cd, "a/b/c")), REASON_OK);
	blobstore_close(&bs);
	ck_assert_ptr_null(bs);
}
END_TEST

Suite *
check_blob_suite(void)
{
	Suite *s = suite_create("blob");
	TCase *tc = tcase_create("blob");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_life);
	tcase_add_test(tc, test_adopt_over);
	tcase_add_test(tc, test_write);
	tcase_add_test(tc, test_partial_replaced);
	tcase_add_test(tc, test_vanished);
	tcase_add_test(tc, test_walk);
	tcase_add_test(tc, test_not_a_file);
	tcase_add_test(tc, test_no_descriptors);
	tcase_add_loop_test(tc, test_errno_reason, 0, 10);
	tcase_add_test(tc, test_open_refused);
	suite_add_tcase(s, tc);
	return s;
}
