/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The index: stores, references, journals, versions, failures, crashes, power loss. */
#include "cache/index_priv.h"
#include "include/clock.h"
#include "include/counter.h"
#include "tests/support/cachedir.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define URL_A "https://repo.example/a_1_amd64.deb"
#define URL_B "https://repo.example/b_1_amd64.deb"

Suite *check_index_suite(void);

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

static void
reopen(void)
{
	cachedir_close(&cd);
	cachedir_open(&cd);
}

START_TEST(test_store_and_get)
{
	static char text[OBJECT_TEXT_MAX];
	struct object_rec rec, want;
	struct blob_rec blob;
	struct key key;

	cachedir_key(URL_A, &key);
	ck_assert_int_eq(index_get_object(cd.view, &key, &rec, text), REASON_NOT_FOUND);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body a"), REASON_OK);
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(index_get_object(cd.view, &key, &rec, text), REASON_OK);
		cachedir_rec(&want, URL_A, "body a", 6);
		ck_assert_mem_eq(rec.digest, want.digest, 32);
		ck_assert_uint_eq(rec.size_bytes, 6);
		ck_assert_int_eq(rec.stored_at_ms, want.stored_at_ms);
		ck_assert_int_eq(rec.checked_at_ms, want.checked_at_ms);
		ck_assert_int_eq(rec.class, APTFILE_PACKAGE);
		ck_assert(slice_eq(rec.url, want.url));
		ck_assert(slice_eq(rec.etag, want.etag));
		ck_assert(slice_eq(rec.fields, want.fields));
		ck_assert_int_eq(rec.terms.lifetime_s, -1);
		ck_assert_int_eq(rec.terms.last_modified_s, INT64_MIN);
		ck_assert_int_eq(index_get_blob(cd.view, rec.digest, &blob), REASON_OK);
		ck_assert_uint_eq(blob.size_bytes, 6);
		ck_assert_uint_eq(blob.refs_n, 1);
		ck_assert(!blob.suspect);
		ck_assert_uint_eq(index_blob_bytes(cd.index), 6);
		ck_assert_uint_eq(index_blob_count(cd.index), 1);
		ck_assert(cachedir_has_file(&cd, "body a"));
		ck_assert_int_eq(counter_read(COUNTER_cache_bytes), 6);
		reopen();
	}
}
END_TEST

/* A blob goes with the last URL that names it, and not before. */
START_TEST(test_references)
{
	struct blob_rec blob;
	struct key a, b;

	cachedir_key(URL_A, &a);
	cachedir_key(URL_B, &b);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "same"), REASON_OK);
	ck_assert_int_eq(cachedir_store(&cd, URL_B, "same"), REASON_OK);
	ck_assert_uint_eq(index_blob_count(cd.index), 1);
	ck_assert_int_eq(counter_read(COUNTER_blobs_shared_total), 1);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert_uint_eq(blob.refs_n, 2);
	ck_assert_int_eq(cachedir_store(&cd, URL_B, "same"), REASON_OK);	/* still two */
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert_uint_eq(blob.refs_n, 2);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "other"), REASON_OK);
	index_flush(cd.index);
	ck_assert(cachedir_has_file(&cd, "same"));
	index_forget(cd.index, &b);
	index_flush(cd.index);
	ck_assert(!cachedir_has_file(&cd, "same"));
	ck_assert(cachedir_has_file(&cd, "other"));
	ck_assert_uint_eq(index_blob_count(cd.index), 1);
	ck_assert_uint_eq(index_blob_bytes(cd.index), 5);
	index_forget(cd.index, &a);
	index_flush(cd.index);
	ck_assert_uint_eq(index_blob_count(cd.index), 0);
	ck_assert_uint_eq(index_blob_bytes(cd.index), 0);
	ck_assert(!cachedir_has_file(&cd, "other"));
}
END_TEST

/* A URL left over from a dropped blob is a hit again when the blob returns, but does not count. */
START_TEST(test_returning_blob)
{
	uint8_t digest[32];
	struct blob_rec blob;
	uint32_t drops;
	struct key a, b;

	cachedir_key(URL_A, &a);
	cachedir_key(URL_B, &b);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body"), REASON_OK);
	cachedir_digest("body", 4, digest);
	drops = index_drop_version(cd.index);
	index_drop_blob(cd.index, digest);
	index_flush(cd.index);
	ck_assert_uint_ne(index_drop_version(cd.index), drops);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_NOT_FOUND);
	ck_assert(!cachedir_has_file(&cd, "body"));
	ck_assert_int_eq(cachedir_store(&cd, URL_B, "body"), REASON_OK);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert_uint_eq(blob.refs_n, 1);
	index_forget(cd.index, &a);
	index_flush(cd.index);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_OK);
	index_drop_blob(cd.index, digest);
	index_forget_dangling(cd.index, &b);
	index_flush(cd.index);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_NOT_FOUND);
}
END_TEST

static atomic_int linked = REASON__N;

static void
link_done(void *arg, enum reason r)
{
	(void)arg;
	atomic_store(&linked, r);
}

START_TEST(test_link)
{
	struct object_rec rec;
	struct blob_rec blob;
	struct key b;

	cachedir_key(URL_B, &b);
	cachedir_rec(&rec, URL_B, "body", 4);
	index_link(cd.index, &b, &rec, link_done, NULL);
	index_flush(cd.index);
	ck_assert_int_eq(atomic_load(&linked), REASON_NOT_FOUND);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body"), REASON_OK);
	index_link(cd.index, &b, &rec, link_done, NULL);
	index_flush(cd.index);
	ck_assert_int_eq(atomic_load(&linked), REASON_OK);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_OK);
	ck_assert_uint_eq(blob.refs_n, 2);
}
END_TEST

START_TEST(test_confirm)
{
	static char text[OBJECT_TEXT_MAX];
	struct object_rec rec, got;
	int64_t commits;
	struct key key;

	cachedir_key(URL_A, &key);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body"), REASON_OK);
	cachedir_rec(&rec, URL_A, "body", 4);
	commits = counter_read(COUNTER_index_commits_total);
	for (int i = 1; i <= 500; i++) {
		rec.checked_at_ms = 1800000000000 + i;
		rec.stored_at_ms = 5;
		index_confirm(cd.index, &key, &rec);
	}
	index_flush(cd.index);
	ck_assert_int_le(counter_read(COUNTER_index_commits_total) - commits, 2);
	ck_assert_int_eq(index_get_object(cd.view, &key, &got, text), REASON_OK);
	ck_assert_int_eq(got.checked_at_ms, 1800000000500);
	ck_assert_int_eq(got.stored_at_ms, 1700000000123);	/* the body did not come anew */
	/* A confirmation of a body that was replaced meanwhile says nothing. */
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "new body"), REASON_OK);
	index_confirm(cd.index, &key, &rec);
	index_flush(cd.index);
	ck_assert_int_eq(index_get_object(cd.view, &key, &got, text), REASON_OK);
	ck_assert_int_eq(got.checked_at_ms, 1700000000456);
	ck_assert_uint_eq(got.size_bytes, 8);
}
END_TEST

START_TEST(test_version)
{
	struct key key;
	uint32_t v;

	cachedir_key(URL_A, &key);
	v = index_version(cd.index, &key);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body"), REASON_OK);
	ck_assert_uint_ne(index_version(cd.index, &key), v);
	v = index_version(cd.index, &key);
	index_forget(cd.index, &key);
	index_flush(cd.index);
	ck_assert_uint_ne(index_version(cd.index, &key), v);
}
END_TEST

START_TEST(test_journal)
{
	static char text[OBJECT_TEXT_MAX];
	struct partial_rec rec = {.total_bytes = INT64_C(5) << 30, .started_at_s = 17,
		.last_modified_s = INT64_MIN, .url = SLICE(URL_A), .etag = SLICE("\"e\"")}, got;
	uint8_t mark[32] = {1}, was[32];
	struct key a, b;

	cachedir_key(URL_A, &a);
	cachedir_key(URL_B, &b);
	index_partial_mark(cd.index, &a, 0, mark);	/* no journal: ignored */
	index_flush(cd.index);
	ck_assert_int_eq(index_get_partial_mark(cd.view, &a, 0, was), REASON_NOT_FOUND);
	index_partial_begin(cd.index, &a, &rec);
	index_partial_begin(cd.index, &b, &rec);
	for (uint32_t i = 0; i < 700; i++) {
		mark[1] = (uint8_t)i;
		index_partial_mark(cd.index, &a, i, mark);
		if (i < 3)
			index_partial_mark(cd.index, &b, i, mark);
	}
	index_flush(cd.index);
	reopen();
	ck_assert_int_eq(index_get_partial(cd.view, &a, &got, text), REASON_OK);
	ck_assert_int_eq(got.total_bytes, INT64_C(5) << 30);
	ck_assert(slice_eq(got.url, rec.url));
	ck_assert_uint_eq(got.marks_n, 700);
	ck_assert_int_eq(index_get_partial_mark(cd.view, &a, 258, was), REASON_OK);
	ck_assert_uint_eq(was[1], 2);
	index_partial_begin(cd.index, &a, &rec);	/* starts over */
	index_flush(cd.index);
	ck_assert_int_eq(index_get_partial(cd.view, &a, &got, text), REASON_OK);
	ck_assert_uint_eq(got.marks_n, 0);
	ck_assert_int_eq(index_get_partial(cd.view, &b, &got, text), REASON_OK);
	ck_assert_uint_eq(got.marks_n, 3);
	index_partial_end(cd.index, &a);
	index_flush(cd.index);
	ck_assert_int_eq(index_get_partial(cd.view, &a, &got, text), REASON_NOT_FOUND);
	/* A store ends the journal of its URL. */
	ck_assert_int_eq(cachedir_store(&cd, URL_B, "body"), REASON_OK);
	ck_assert_int_eq(index_get_partial(cd.view, &b, &got, text), REASON_NOT_FOUND);
	ck_assert_int_eq(index_get_partial_mark(cd.view, &b, 1, was), REASON_NOT_FOUND);
}
END_TEST

/* The file is not what was announced, or not there: nothing is stored. */
START_TEST(test_store_refused)
{
	struct object_rec rec;
	struct blob_rec blob;
	struct key key;

	cachedir_key(URL_A, &key);
	cachedir_rec(&rec, URL_A, "body", 4);
	index_store(cd.index, &key, &rec, link_done, NULL);
	index_flush(cd.index);
	ck_assert_int_eq(atomic_load(&linked), REASON_NOT_FOUND);
	cachedir_partial(&cd, URL_A, "bod", 3);
	index_store(cd.index, &key, &rec, link_done, NULL);
	index_flush(cd.index);
	ck_assert_int_eq(atomic_load(&linked), REASON_DAMAGED);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_NOT_FOUND);
	ck_assert_uint_eq(index_blob_count(cd.index), 0);
}
END_TEST

/* A failing transaction fails one store, whose file goes; the next works, whatever LMDB said. */
START_TEST(test_commit_fails)
{
	static const struct {
		int rc;
		enum reason want;
	} cases[] = {
		{ENOSPC, REASON_NO_DISK},
		{EROFS, REASON_NO_DISK},
		{MDB_MAP_FULL, REASON_NO_DISK},
		{EIO, REASON_INDEX_ERROR},
		{MDB_PANIC, REASON_INDEX_ERROR},
	};
	int64_t errors = counter_read(COUNTER_index_errors_total);
	uint8_t digest[32];
	struct blob_rec blob;
	struct key key;
	char body[32];

	/* Once: the retry succeeds, in a new environment where LMDB gave the old one up. */
	ck_assert_int_eq(mdb_env_set_userctx(cd.index->env, &errors), 0);
	atomic_store(&cd.index->test_commit_rc, cases[_i].rc);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "first"), REASON_OK);
	ck_assert_int_gt(counter_read(COUNTER_index_errors_total), errors);
	ck_assert_int_eq(mdb_env_get_userctx(cd.index->env) == NULL, cases[_i].rc == MDB_PANIC);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert_uint_eq(index_blob_count(cd.index), 1);
	/* For good. */
	atomic_store(&cd.index->test_commit_fails, cases[_i].rc);
	(void)snprintf(body, sizeof(body), "body of %d", _i);
	ck_assert_int_eq(cachedir_store(&cd, URL_B, body), cases[_i].want);
	ck_assert(!cachedir_has_file(&cd, body));
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_NOT_FOUND);
	ck_assert_uint_eq(index_blob_count(cd.index), 1);
	/* What would have been replaced or forgotten is still there. */
	ck_assert_int_eq(cachedir_store(&cd, URL_A, body), cases[_i].want);
	cachedir_key(URL_A, &key);
	index_forget(cd.index, &key);
	index_flush(cd.index);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert(cachedir_has_file(&cd, "first"));
	/* Dropping frees the disk even so. */
	cachedir_digest("first", 5, digest);
	index_drop_blob(cd.index, digest);
	index_flush(cd.index);
	ck_assert(!cachedir_has_file(&cd, "first"));
	/* And over. */
	atomic_store(&cd.index->test_commit_fails, 0);
	ck_assert_int_eq(cachedir_store(&cd, URL_B, body), REASON_OK);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_OK);
}
END_TEST

/* A disk that is really full (a limit on file sizes), while views are open; then it is not. */
START_TEST(test_disk_full)
{
	struct rlimit was, low;
	struct blob_rec blob;
	char url[64];
	struct stat sb;
	char path[128];
	enum reason r = REASON_OK;
	int n;

	(void)signal(SIGXFSZ, SIG_IGN);
	(void)snprintf(path, sizeof(path), "%s/index/data.mdb", cd.dir);
	ck_assert_int_eq(stat(path, &sb), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
	low = was;
	low.rlim_cur = (rlim_t)sb.st_size + 65536;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
	for (n = 0; n < 5000 && r == REASON_OK; n++) {
		(void)snprintf(url, sizeof(url), "https://repo.example/%d", n);
		r = cachedir_store(&cd, url, url);
	}
	ck_assert_int_eq(r, REASON_NO_DISK);
	ck_assert_int_eq(cachedir_lookup(&cd, "https://repo.example/0", &blob), REASON_OK);
	ck_assert_uint_eq(index_blob_count(cd.index), (unsigned)n - 1);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
	ck_assert_int_eq(cachedir_store(&cd, url, url), REASON_OK);
	reopen();
	ck_assert_int_eq(cachedir_lookup(&cd, url, &blob), REASON_OK);
	ck_assert_uint_eq(index_blob_count(cd.index), (unsigned)n);
}
END_TEST

/* A damaged record is one that is not there; storing again heals it. */
START_TEST(test_damaged_record)
{
	struct blob_rec blob;
	MDB_val k, val;
	MDB_txn *txn;
	struct key key;

	cachedir_key(URL_A, &key);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body"), REASON_OK);
	index_flush(cd.index);
	ck_assert_int_eq(mdb_txn_begin(cd.index->env, NULL, 0, &txn), 0);
	k = index_val(key.b, KEY_BYTES);
	ck_assert_int_eq(mdb_get(txn, cd.index->dbi[INDEX_DB_URL], &k, &val), 0);
	{
		char copy[2048];

		ck_assert_uint_le(val.mv_size, sizeof(copy));
		memcpy(copy, val.mv_data, val.mv_size);
		copy[val.mv_size / 2] ^= 1;
		val.mv_data = copy;
		ck_assert_int_eq(mdb_put(txn, cd.index->dbi[INDEX_DB_URL], &k, &val, 0), 0);
	}
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_NOT_FOUND);
	ck_assert_int_ge(counter_read(COUNTER_index_errors_total), 1);
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body"), REASON_OK);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
}
END_TEST

/* Runs fn in a child that ends without closing anything. */
static void
in_killed_child(void (*fn)(void))
{
	int status = 0;
	pid_t pid;

	cachedir_close(&cd);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		cachedir_open(&cd);
		fn();
		(void)kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}

static void
child_stores(void)
{
	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body a"), REASON_OK);
	index_synced(cd.index, index_sync_point(cd.index));
	ck_assert_int_eq(cachedir_store(&cd, URL_B, "body b"), REASON_OK);
	index_flush(cd.index);
}

/* What was reported as stored is there after a kill, and trusted: the system did not go down. */
START_TEST(test_killed)
{
	struct blob_rec blob;

	in_killed_child(child_stores);
	cachedir_open(&cd);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert(!blob.suspect);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_OK);
	ck_assert(!blob.suspect);
	ck_assert_uint_eq(index_blob_bytes(cd.index), 12);
}
END_TEST

static void
child_stores_and_reboots(void)
{
	struct record_state st;

	child_stores();
	st = cd.index->state;
	memset(st.boot_id, 'x', sizeof(st.boot_id));
	ck_assert(index_state_commit(cd.index, &st));
}

/* When the system went down, bodies after the last sync point are suspect until hashed. */
START_TEST(test_power_loss)
{
	uint8_t digest[32];
	struct blob_rec blob;

	in_killed_child(child_stores_and_reboots);
	cachedir_open(&cd);
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
		ck_assert(!blob.suspect);
		ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_OK);
		ck_assert(blob.suspect);
		reopen();	/* an orderly stop in between does not make it good */
	}
	cachedir_digest("body b", 6, digest);
	index_clear_suspect(cd.index, digest, blob.mtime_ns);
	index_flush(cd.index);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_OK);
	ck_assert(!blob.suspect);
}
END_TEST

/* A fetched body takes the place of a suspect one. */
START_TEST(test_fetched_over_suspect)
{
	struct blob_rec was, blob;

	in_killed_child(child_stores_and_reboots);
	cachedir_open(&cd);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &was), REASON_OK);
	ck_assert(was.suspect);
	ck_assert_int_eq(cachedir_store(&cd, URL_B, "body b"), REASON_OK);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_B, &blob), REASON_OK);
	ck_assert(!blob.suspect);
	ck_assert_int_ne(blob.mtime_ns, was.mtime_ns);
	ck_assert_uint_eq(blob.refs_n, 1);
	ck_assert_uint_eq(index_blob_bytes(cd.index), 12);
}
END_TEST

START_TEST(test_newer_format)
{
	struct index_conf conf = {.dir = cd.dir, .test_no_sync = true};
	uint32_t format = RECORD_FORMAT + 1;
	struct index *ix = NULL;
	MDB_val k = index_val("format", 6), val = index_val(&format, sizeof(format));
	MDB_txn *txn;

	ck_assert_int_eq(mdb_txn_begin(cd.index->env, NULL, 0, &txn), 0);
	ck_assert_int_eq(mdb_put(txn, cd.index->dbi[INDEX_DB_META], &k, &val, 0), 0);
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
	cachedir_close(&cd);
	ck_assert_int_eq(blobstore_open(&conf.blobs, cd.dir), REASON_OK);
	for (int round = 0; round < 2; round++) {
		char path[128];

		ck_assert_int_eq(index_open(&ix, &conf), REASON_NEWER_FORMAT);
		(void)snprintf(path, sizeof(path), "%s/clean", cd.dir);
		ck_assert_int_eq(access(path, F_OK), round == 0 ? 0 : -1);
		(void)unlink(path);	/* the child process must say the same */
	}
	blobstore_close(&conf.blobs);
}
END_TEST

START_TEST(test_touch)
{
	uint8_t digest[32];
	struct blob_rec blob;
	int64_t commits, now_s = clock_wall_s() + 1000;

	ck_assert_int_eq(cachedir_store(&cd, URL_A, "body"), REASON_OK);
	cachedir_digest("body", 4, digest);
	for (int i = 0; i < 20000; i++)
		index_view_touch(cd.view, digest, now_s);
	index_flush(cd.index);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert_int_eq(blob.used_at_s, now_s);
	commits = counter_read(COUNTER_index_commits_total);
	index_view_touch(cd.view, digest, now_s);
	index_view_touch(cd.view, digest, now_s - 5);
	index_flush(cd.index);
	ck_assert_int_eq(counter_read(COUNTER_index_commits_total), commits);
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert_int_eq(blob.used_at_s, now_s);
	/* More than the ring and the table hold: some are lost, nothing else. */
	for (uint32_t i = 0; i < 100000; i++) {
		memcpy(digest, &i, sizeof(i));
		index_view_touch(cd.view, digest, now_s + 1);
	}
	index_flush(cd.index);
	ck_assert_uint_eq(cd.index->touched_n, 0);
	/* An orderly stop writes what is left. */
	cachedir_digest("body", 4, digest);
	index_view_touch(cd.view, digest, now_s + 2);
	reopen();
	ck_assert_int_eq(cachedir_lookup(&cd, URL_A, &blob), REASON_OK);
	ck_assert_int_eq(blob.used_at_s, now_s + 2);
}
END_TEST

START_TEST(test_holds)
{
	struct index_view *other = index_view_open(cd.index);
	uint8_t digest[32] = {1, 2, 3}, none[32] = {9};
	int a, b, n = 0;

	ck_assert_ptr_nonnull(other);
	ck_assert(!index_is_held(cd.index, digest));
	a = index_view_hold(cd.view, digest);
	b = index_view_hold(other, digest);
	ck_assert_int_ge(a, 0);
	ck_assert(index_is_held(cd.index, digest));
	ck_assert(!index_is_held(cd.index, none));
	index_view_release(cd.view, a);
	ck_assert(index_is_held(cd.index, digest));
	index_view_release(other, b);
	index_view_release(other, -1);
	ck_assert(!index_is_held(cd.index, digest));
	while (index_view_hold(other, digest) >= 0)
		n++;
	ck_assert_int_eq(n, INDEX_HOLDS);
	index_view_release(other, 77);
	ck_assert_int_eq(index_view_hold(other, none), 77);
	ck_assert(index_is_held(cd.index, none));
	index_view_close(&other);
	ck_assert(!index_is_held(cd.index, digest));
}
END_TEST

struct walked {
	unsigned n;
	uint64_t bytes;
};

static void
walk_blob(void *arg, const uint8_t digest[32], const struct blob_rec *rec)
{
	struct walked *w = arg;

	(void)digest;
	w->n++;
	w->bytes += rec->size_bytes;
}

static void
walk_object(void *arg, const struct key *key, const struct object_rec *rec)
{
	struct walked *w = arg;
	char url[128];
	struct key want;

	(void)snprintf(url, sizeof(url), "%.*s", SLICE_ARG(rec->url));
	cachedir_key(url, &want);
	ck_assert_mem_eq(want.b, key->b, KEY_BYTES);
	w->n++;
}

START_TEST(test_walks)
{
	uint8_t after[32], last[32];
	struct walked blobs = {0}, objects = {0};
	struct key key_after, key_last;
	uint32_t seen_n;
	char url[64];

	for (int i = 0; i < 25; i++) {
		(void)snprintf(url, sizeof(url), "https://repo.example/%02d", i);
		ck_assert_int_eq(cachedir_store(&cd, url, url), REASON_OK);
	}
	for (int step = 0; step == 0 || seen_n == 10; step++) {
		ck_assert_int_eq(index_walk_blobs(cd.view, step == 0 ? NULL : after, 10, walk_blob,
		    &blobs, last, &seen_n), REASON_OK);
		memcpy(after, last, 32);
	}
	for (int step = 0; step == 0 || seen_n == 10; step++) {
		ck_assert_int_eq(index_walk_objects(cd.view, step == 0 ? NULL : &key_after, 10,
		    walk_object, &objects, &key_last, &seen_n), REASON_OK);
		key_after = key_last;
	}
	ck_assert_uint_eq(blobs.n, 25);
	ck_assert_uint_eq(blobs.bytes, index_blob_bytes(cd.index));
	ck_assert_uint_eq(objects.n, 25);
}
END_TEST

enum { THREADS_N = 4, STORES_N = 300 };
static atomic_int threads_done;

/* Stores of its own, and lookups of everything: whatever is found is whole. */
static void *
store_and_get_main(void *arg)
{
	struct cachedir mine = cd;
	char url[64], text[OBJECT_TEXT_MAX];
	struct object_rec rec;
	struct blob_rec blob;
	struct key key;

	mine.view = index_view_open(mine.index);
	for (int i = 0; i < STORES_N; i++) {
		(void)snprintf(url, sizeof(url), "https://repo.example/%d/%d",
		    *(const int *)arg, i / 2);
		if (cachedir_store(&mine, url, url + (i & 1)) != REASON_OK)
			return NULL;
		cachedir_key(url, &key);
		if (index_get_object(mine.view, &key, &rec, text) != REASON_OK ||
		    rec.url.n != strlen(url) ||
		    index_get_blob(mine.view, rec.digest, &blob) != REASON_OK)
			return NULL;
		index_view_touch(mine.view, rec.digest, 5);
	}
	index_view_close(&mine.view);
	atomic_fetch_add(&threads_done, 1);
	return NULL;
}

START_TEST(test_threads)
{
	pthread_t t[THREADS_N];
	int number[THREADS_N];

	for (int i = 0; i < THREADS_N; i++) {
		number[i] = i;
		ck_assert_int_eq(pthread_create(&t[i], NULL, store_and_get_main, &number[i]), 0);
	}
	/* Meanwhile the environment is replaced under them, as after an error of LMDB's. */
	for (int i = 0; i < 3; i++) {
		atomic_store(&cd.index->test_commit_rc, MDB_PANIC);
		clock_test_advance(6000);
		index_flush(cd.index);
	}
	for (int i = 0; i < THREADS_N; i++)
		ck_assert_int_eq(pthread_join(t[i], NULL), 0);
	ck_assert_int_eq(atomic_load(&threads_done), THREADS_N);
	index_flush(cd.index);
	ck_assert_uint_eq(index_blob_count(cd.index), THREADS_N * STORES_N / 2);
}
END_TEST

/* Views are bounded, and a slot given back is there for the next. */
START_TEST(test_too_many_views)
{
	struct index_view *v[600];
	unsigned n = 0;

	while (n < NELEM(v) && (v[n] = index_view_open(cd.index)) != NULL)
		n++;
	ck_assert_uint_ge(n, 500);
	ck_assert_uint_lt(n, 600);
	index_view_close(&v[--n]);
	v[n] = index_view_open(cd.index);
	ck_assert_ptr_nonnull(v[n]);
	for (unsigned i = 0; i <= n; i++)
		index_view_close(&v[i]);
}
END_TEST

Suite *
check_index_suite(void)
{
	Suite *s = suite_create("index");
	TCase *tc = tcase_create("index");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_store_and_get);
	tcase_add_test(tc, test_references);
	tcase_add_test(tc, test_returning_blob);
	tcase_add_test(tc, test_link);
	tcase_add_test(tc, test_confirm);
	tcase_add_test(tc, test_version);
	tcase_add_test(tc, test_journal);
	tcase_add_test(tc, test_store_refused);
	tcase_add_loop_test(tc, test_commit_fails, 0, 5);
	tcase_add_test(tc, test_disk_full);
	tcase_add_test(tc, test_damaged_record);
	tcase_add_test(tc, test_killed);
	tcase_add_test(tc, test_power_loss);
	tcase_add_test(tc, test_fetched_over_suspect);
	tcase_add_test(tc, test_newer_format);
	tcase_add_test(tc, test_touch);
	tcase_add_test(tc, test_holds);
	tcase_add_test(tc, test_walks);
	tcase_add_test(tc, test_threads);
	tcase_add_test(tc, test_too_many_views);
	suite_add_tcase(s, tc);
	return s;
}
