/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* What commands see of the cache: which URLs a word means, walks, verifying, importing, Releases. */
#include "include/inspect.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/inspect_release.h"

Suite *check_inspect_suite(void);

static struct {
	char dir[64];
	struct cache *cache;
	struct cache_view *view;
} env;

static void
env_start(void)
{
	struct cache_conf conf = {.max_bytes = 1 << 30, .test_no_sync = true};
	char *why = NULL;

	(void)strcpy(env.dir, "/tmp/check-inspect-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(env.dir));
	conf.dir = env.dir;
	ck_assert_int_eq(cache_open(&env.cache, &conf, &why), REASON_OK);
	env.view = cache_view_open(env.cache);
	ck_assert_ptr_nonnull(env.view);
}

static int
env_remove_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
env_stop(void)
{
	cache_view_close(&env.view);
	cache_close(&env.cache);
	(void)nftw(env.dir, env_remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

static bool
never(void *arg)
{
	(void)arg;
	return false;
}

static bool
always(void *arg)
{
	(void)arg;
	return true;
}

/* Imports text under this URL. */
static enum reason
import_text(const char *url, const char *text, bool (*stop)(void *), uint8_t digest[32],
    bool *was_here)
{
	int fd = memfd_create("body", MFD_CLOEXEC);
	uint64_t bytes = 0;
	enum reason r;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	r = inspect_import(env.view, fd, url, stop, NULL, digest, &bytes, was_here);
	(void)close(fd);
	if (r == REASON_OK)
		ck_assert_uint_eq(bytes, strlen(text));
	return r;
}

/* The path of a body's file. */
static const char *
blob_path(const uint8_t digest[32])
{
	static char path[256];
	char hex[KEY_HEX_BYTES];

	key_hex(digest, hex);
	(void)snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", env.dir, hex, hex);
	return path;
}

static bool
count_one(void *arg, const struct inspect_url *u)
{
	unsigned *n = arg;

	ck_assert(u->has_body);
	return ++*n < 1000;
}

static bool
count_first(void *arg, const struct inspect_url *u)
{
	unsigned *n = arg;

	(void)u;
	++*n;
	return false;
}

START_TEST(test_import_and_walk)
{
	static const struct {
		const char *word;
		unsigned n;
	} cases[] = {
		{NULL, 3}, {"file:///a/", 2}, {"file:///a/x.deb", 1}, {"*.deb", 3}, {"file:///?/y.deb", 2},
		{"*/[x]*", 1}, {"https://", 0}, {"x.deb", 0}, {"*x", 0},
	};
	uint8_t digest[32], other[32];
	bool was_here = true;
	char text[INSPECT_TEXT_BYTES];
	struct inspect_match m;
	struct inspect_url u;
	struct key key;
	unsigned i, n;

	ck_assert_int_eq(import_text("file:///a/x.deb", "x", never, digest, &was_here), REASON_OK);
	ck_assert(!was_here);
	ck_assert_int_eq(import_text("file:///a/y.deb", "y", never, other, &was_here), REASON_OK);
	ck_assert_int_eq(import_text("file:///b/y.deb", "x", never, other, &was_here), REASON_OK);
	ck_assert(was_here);
	ck_assert_mem_eq(digest, other, 32);
	for (i = 0; i < NELEM(cases); i++) {
		m = inspect_match_of(cases[i].word);
		n = 0;
		ck_assert_int_eq(inspect_walk(env.view, &m, count_one, &n), REASON_OK);
		ck_assert_msg(n == cases[i].n, "%s: %u", cases[i].word, n);
	}
	m = inspect_match_of(NULL);
	n = 0;
	ck_assert_int_eq(inspect_walk(env.view, &m, count_first, &n), REASON_OK);
	ck_assert_uint_eq(n, 1);
	key_of_text(SLICE("file:///a/x.deb"), &key);
	ck_assert(inspect_get(env.view, &key, &u, text));
	ck_assert_uint_eq(u.urls_n, 2);
	inspect_forget(env.view, &key);
	inspect_flush(env.view);
	ck_assert(!inspect_get(env.view, &key, &u, text));
	ck_assert_int_eq(access(blob_path(digest), F_OK), 0);
}
END_TEST

START_TEST(test_import_called_off)
{
	uint8_t digest[32];
	bool was_here;
	struct inspect_match m = inspect_match_of(NULL);
	unsigned n = 0;

	ck_assert_int_eq(import_text("file:///x.deb", "x", always, digest, &was_here), REASON_SHUTDOWN);
	ck_assert_int_eq(inspect_walk(env.view, &m, count_one, &n), REASON_OK);
	ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(test_verify)
{
	uint8_t digest[32];
	bool was_here;
	uint64_t bytes = 0;
	FILE *f;

	ck_assert_int_eq(import_text("file:///x.deb", "good", never, digest, &was_here), REASON_OK);
	ck_assert_int_eq(inspect_verify(env.view, digest, never, NULL, &bytes), INSPECT_GOOD);
	ck_assert_uint_eq(bytes, 4);
	ck_assert_int_eq(inspect_verify(env.view, digest, always, NULL, &bytes), INSPECT_STOPPED);
	f = fopen(blob_path(digest), "r+");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fputc('G', f), 'G');
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(inspect_verify(env.view, digest, never, NULL, &bytes), INSPECT_DAMAGED);
	inspect_flush(env.view);
	ck_assert_int_ne(access(blob_path(digest), F_OK), 0);
	/* Gone in order: nothing to complain about. */
	ck_assert_int_eq(inspect_verify(env.view, digest, never, NULL, &bytes), INSPECT_GOOD);
	ck_assert_int_eq(import_text("file:///x.deb", "good", never, digest, &was_here), REASON_OK);
	ck_assert_int_eq(unlink(blob_path(digest)), 0);
	ck_assert_int_eq(inspect_verify(env.view, digest, never, NULL, &bytes), INSPECT_MISSING);
}
END_TEST

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Compressed ones before plain ones, small before large, near-empty ones last. */
START_TEST(test_release_choice)
{
	static const char text[] =
	    "Origin: Test\nSuite: stable\nDate: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n"
	    " " HEX64 " 500 main/binary-amd64/Packages\n"
	    " " HEX64 " 0 main/binary-i386/Packages.gz\n"
	    " " HEX64 " 32 main/binary-s390x/Packages.xz\n"
	    " " HEX64 " 900 main/binary-amd64/Packages.xz\n"
	    " " HEX64 " 700 main/binary-arm64/Packages.gz\n"
	    " " HEX64 " 100 main/Contents-amd64.gz\n"
	    " " HEX64 " 80 main/binary-amd64/Packages.lz4\n";
	struct inspect_release r;
	char why[INSPECT_WHY_BYTES] = "";

	ck_assert_msg(inspect_release(text, sizeof(text) - 1, &r, why) == REASON_OK, "%s", why);
	ck_assert_str_eq(r.name, "Test stable");
	ck_assert(!r.is_signed);
	ck_assert_int_eq(r.valid_until_s, INT64_MIN);
	ck_assert_uint_eq(r.listed_n, INSPECT_TRY_MAX);
	ck_assert_str_eq(r.listed[0].path, "main/binary-arm64/Packages.gz");
	ck_assert_str_eq(r.listed[1].path, "main/binary-amd64/Packages.xz");
	ck_assert_str_eq(r.listed[2].path, "main/binary-s390x/Packages.xz");
	ck_assert_uint_eq(r.listed[0].size_bytes, 700);
	ck_assert_uint_eq(r.listed[0].sha256[1], 0x23);
	ck_assert_int_ne(inspect_release("<html>", 6, &r, why), REASON_OK);
	ck_assert_str_ne(why, "");
}
END_TEST

Suite *
check_inspect_suite(void)
{
	Suite *s = suite_create("inspect");
	TCase *tc = tcase_create("cache"), *pure = tcase_create("pure");

	tcase_add_checked_fixture(tc, env_start, env_stop);
	tcase_add_test(tc, test_import_and_walk);
	tcase_add_test(tc, test_import_called_off);
	tcase_add_test(tc, test_verify);
	suite_add_tcase(s, tc);
	tcase_add_test(pure, test_release_choice);
	suite_add_tcase(s, pure);
	return s;
}
