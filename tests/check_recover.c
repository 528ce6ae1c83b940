/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Recovery: marker, leftovers of a kill, damaged and vanished indexes. */
#include "cache/index_priv.h"
#include "cache/recover.h"
#include "tests/support/cachedir.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define URL "https://repo.example/a_1_amd64.deb"
#define URL_B "https://repo.example/b_1_amd64.deb"

enum { URLS_N = 150, PAGE_BYTES = 4096 };

Suite *check_recover_suite(void);

static struct cachedir cd;

static void
setup(void)
{
	cachedir_make(&cd);
	cachedir_open(&cd);
}

static void
teardown(void)
{
	cachedir_remove(&cd);
}

static unsigned
count_damaged(void)
{
	DIR *d = opendir(cd.dir);
	const struct dirent *de;
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while ((de = readdir(d)) != NULL)
		n += strncmp(de->d_name, "index.damaged-", 14) == 0;
	(void)closedir(d);
	return n;
}

START_TEST(test_marker)
{
	static const struct timespec long_ago[2] = {{1000, 0}, {1000, 0}};
	int dirfd;

	ck_assert_int_ne(access(cachedir_below(&cd, "clean"), F_OK), 0);
	ck_assert_int_eq(cachedir_store(&cd, URL, "body"), REASON_OK);
	cachedir_close(&cd);
	dirfd = open(cd.dir, O_RDONLY | O_DIRECTORY);
	ck_assert_int_ge(dirfd, 0);
	ck_assert(recover_clean_matches(dirfd));
	ck_assert_int_eq(utimensat(dirfd, "index/data.mdb", long_ago, 0), 0);
	ck_assert(!recover_clean_matches(dirfd));
	recover_clean_write(dirfd, false);
	ck_assert(recover_clean_matches(dirfd));
	cachedir_open(&cd);
	ck_assert(!recover_clean_matches(dirfd));
	ck_assert_ptr_null(cd.index->recover);	/* a clean start walks nothing */
	(void)close(dirfd);
}
END_TEST

/* Leaves an orphaned blob, an orphaned partial and one with a journal, then dies. */
static void
leave_things(void)
{
	struct partial_rec rec = {.total_bytes = 100, .url = SLICE(URL_B)};
	struct blob_stat st;
	uint8_t digest[32];
	struct key key;
	int fd = -1;

	ck_assert_int_eq(cachedir_store(&cd, URL, "body"), REASON_OK);
	cachedir_key("orphan", &key);
	cachedir_partial(&cd, "orphan", "gone", 4);
	cachedir_digest("gone", 4, digest);
	ck_assert_int_eq(blob_adopt(cd.blobs, &key, digest, 4, NULL, &st), REASON_OK);
	cachedir_partial(&cd, "orphan", "partial", 7);
	cachedir_partial(&cd, URL_B, "begun", 5);
	cachedir_key(URL_B, &key);
	ck_assert_int_eq(blob_partial_open(cd.blobs, &key, &fd, &st), REASON_OK);
	ck_assert_int_eq(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
	ck_assert_int_eq(close(fd), 0);
	index_partial_begin(cd.index, &key, &rec);
	index_flush(cd.index);
	(void)kill(getpid(), SIGKILL);
}

START_TEST(test_leftovers)
{
	static char text[OBJECT_TEXT_MAX];
	struct partial_rec rec;
	struct blob_stat st;
	struct blob_rec blob;
	struct stat sb;
	int status, fd = -1;
	struct key key;
	pid_t pid;

	cachedir_close(&cd);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		cachedir_open(&cd);
		leave_things();
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ck_assert(access(cachedir_below(&cd, "blobs"), F_OK) == 0);
	cachedir_open(&cd);
	ck_assert(!cachedir_has_file(&cd, "gone"));
	ck_assert(cachedir_has_file(&cd, "body"));
	ck_assert_int_eq(cachedir_lookup(&cd, URL, &blob), REASON_OK);
	cachedir_key("orphan", &key);
	ck_assert_int_eq(blob_partial_open(cd.blobs, &key, &fd, &st), REASON_NOT_FOUND);
	cachedir_key(URL_B, &key);
	ck_assert_int_eq(blob_partial_open(cd.blobs, &key, &fd, &st), REASON_OK);
	ck_assert_uint_eq(st.size_bytes, 5);
	ck_assert_int_eq(fstat(fd, &sb), 0);
	ck_assert_int_lt(sb.st_blocks * 512, 1 << 20);	/* the preallocated room was given back */
	(void)close(fd);
	ck_assert_int_eq(index_get_partial(cd.view, &key, &rec, text), REASON_OK);
	ck_assert_int_eq(count_damaged(), 0);
}
END_TEST

/* A stop in the midst of the walk is none that the next start may take for clean. */
START_TEST(test_walk_cut_short)
{
	struct index_conf conf = {.dir = cd.dir, .test_no_sync = true};
	struct index *ix = NULL;
	int status;
	pid_t pid;

	cachedir_close(&cd);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		cachedir_open(&cd);
		leave_things();
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(blobstore_open(&conf.blobs, cd.dir), REASON_OK);
	ck_assert_int_eq(index_open(&ix, &conf), REASON_OK);
	index_close(&ix);
	blobstore_close(&conf.blobs);
	cachedir_open(&cd);
	ck_assert(!cachedir_has_file(&cd, "gone"));
}
END_TEST

static const char *
url_of(int i)
{
	static char url[64];

	(void)snprintf(url, sizeof(url), "https://repo.example/pool/%d_1_amd64.deb", i);
	return url;
}

static void
store_many(void)
{
	struct object_rec rec;
	struct key key;

	for (int i = 0; i < URLS_N; i++) {
		cachedir_key(url_of(i), &key);
		cachedir_partial(&cd, url_of(i), url_of(i), strlen(url_of(i)));
		cachedir_rec(&rec, url_of(i), url_of(i), strlen(url_of(i)));
		index_store(cd.index, &key, &rec, NULL, NULL);
	}
	index_flush(cd.index);
}

/* Every body has a record that says what its file is; true when none had to be entered anew. */
static bool
all_known(void)
{
	unsigned urls = 0, blobs = 0;
	struct blob_rec blob;
	uint8_t digest[32];

	for (int i = 0; i < URLS_N; i++) {
		urls += cachedir_lookup(&cd, url_of(i), &blob) == REASON_OK;
		cachedir_digest(url_of(i), strlen(url_of(i)), digest);
		if (index_get_blob(cd.view, digest, &blob) == REASON_OK) {
			ck_assert_uint_eq(blob.size_bytes, strlen(url_of(i)));
			blobs++;
		}
	}
	ck_assert_uint_eq(blobs, URLS_N);
	ck_assert_uint_eq(index_blob_count(cd.index), URLS_N);
	ck_assert(urls == URLS_N || urls == 0);
	return urls == URLS_N;
}

/* An index that somebody deleted: bodies are found again by their names, and hashed before use. */
START_TEST(test_index_gone)
{
	struct object_rec rec;
	struct blob_rec blob;
	struct key key;

	store_many();
	cachedir_close(&cd);
	ck_assert_int_eq(unlink(cachedir_below(&cd, "index/data.mdb")), 0);
	ck_assert_int_eq(unlink(cachedir_below(&cd, "index/lock.mdb")), 0);
	ck_assert_int_eq(rmdir(cachedir_below(&cd, "index")), 0);
	cachedir_open(&cd);
	ck_assert(!all_known());
	cachedir_key(url_of(7), &key);
	cachedir_rec(&rec, url_of(7), url_of(7), strlen(url_of(7)));
	index_link(cd.index, &key, &rec, NULL, NULL);
	index_flush(cd.index);
	ck_assert_int_eq(cachedir_lookup(&cd, url_of(7), &blob), REASON_OK);
	ck_assert(blob.suspect);
	ck_assert_uint_eq(blob.refs_n, 1);
	ck_assert_int_eq(count_damaged(), 0);
	cachedir_close(&cd);
	cachedir_open(&cd);
	ck_assert_ptr_null(cd.index->recover);	/* done once */
}
END_TEST

/* What may happen to the file; at is a page's offset. */
enum damage { DAMAGE_ZEROS, DAMAGE_ONES, DAMAGE_NOISE, DAMAGE_BIT, DAMAGE_CUT, DAMAGE__N };

static void
damage_page(int fd, off_t at, enum damage kind)
{
	uint8_t page[PAGE_BYTES];
	unsigned seed = 12345;

	ck_assert_int_gt(pread(fd, page, sizeof(page), at), 0);
	switch (kind) {
	case DAMAGE_ZEROS:
		memset(page, 0, sizeof(page));
		break;
	case DAMAGE_ONES:
		memset(page, 0xff, sizeof(page));
		break;
	case DAMAGE_NOISE:
		for (size_t i = 0; i < sizeof(page); i++)
			page[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
		break;
	case DAMAGE_BIT:
		page[sizeof(page) - 20] ^= 4;
		break;
	case DAMAGE_CUT:
		ck_assert_int_eq(ftruncate(fd, at), 0);
		return;
	case DAMAGE__N:
		ck_abort_msg("kind");
	}
	ck_assert_int_eq(pwrite(fd, page, sizeof(page), at), (ssize_t)sizeof(page));
}

/* The whole file, as it is or as it was. */
static void
copy_file(const char *from_path, const char *to_path)
{
	static char buf[1 << 16];
	FILE *from = fopen(from_path, "r"), *to = fopen(to_path, "w");
	size_t n;

	ck_assert(from != NULL && to != NULL);
	while ((n = fread(buf, 1, sizeof(buf), from)) > 0)
		ck_assert_uint_eq(fwrite(buf, 1, n, to), n);
	ck_assert_int_eq(fclose(from) | fclose(to), 0);
}

/* Whatever page is damaged, however: the index opens, whole or made anew, and no body is lost. */
START_TEST(test_damaged_pages)
{
	char data[256], saved[256];
	unsigned kept = 0, replaced = 0;
	struct stat sb;
	int fd;

	store_many();
	cachedir_close(&cd);
	(void)snprintf(data, sizeof(data), "%s/index/data.mdb", cd.dir);
	(void)snprintf(saved, sizeof(saved), "%s/saved", cd.dir);
	copy_file(data, saved);
	ck_assert_int_eq(stat(saved, &sb), 0);
	for (off_t at = 0; at < sb.st_size; at += PAGE_BYTES * (at < 6 * PAGE_BYTES ? 1 : 6)) {
		copy_file(saved, data);
		(void)unlink(cachedir_below(&cd, "clean"));
		fd = open(data, O_RDWR);
		ck_assert_int_ge(fd, 0);
		damage_page(fd, at, (enum damage)_i);
		ck_assert_int_eq(close(fd), 0);
		cachedir_open(&cd);
		if (all_known())
			kept++;
		else
			replaced++;
		ck_assert_uint_le(count_damaged(), 2);
		ck_assert_int_eq(cachedir_store(&cd, URL, url_of(0)), REASON_OK);
		cachedir_close(&cd);
	}
	ck_assert_uint_gt(replaced, 0);
	ck_assert_uint_gt(count_damaged(), 0);
	(void)kept;
}
END_TEST

Suite *
check_recover_suite(void)
{
	Suite *s = suite_create("recover");
	TCase *tc = tcase_create("recover");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_marker);
	tcase_add_test(tc, test_leftovers);
	tcase_add_test(tc, test_walk_cut_short);
	tcase_add_test(tc, test_index_gone);
	tcase_add_loop_test(tc, test_damaged_pages, 0, DAMAGE__N);
	suite_add_tcase(s, tc);
	return s;
}
