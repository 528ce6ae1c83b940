/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Staging, with an upstream that is a table: which Releases become generations,
 * what their first askers get meanwhile, what is asked of upstream and how often.
 */
#include "cache/stage.h"

#include <check.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "include/clock.h"
#include "include/counter.h"
#include "tests/support/cachedir.h"
#include "tests/support/pack.h"
#include "tests/support/target.h"

Suite *check_stage_suite(void);

#define ROOT "https://h.example/cuda/"
#define DISTS "https://h.example/debian/dists/stable/"

enum { WAIT_MS = 20000, ROWS_MAX = 16, BODY_MAX = 4096 };

/* What upstream has. */
struct row {
	char url[256];
	char body[BODY_MAX];
	size_t n;
	unsigned wrong_n;		/* so many askers get something else first */
	bool hangs;
	unsigned asked_n;
};

static struct cachedir cd;		/* the directory only: cache_open opens it */
static struct cache *cache;
static struct cache_view *view;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct row rows[ROWS_MAX];
static unsigned rows_n;
static int64_t adopt_older_s;
static struct flight *hanging;		/* a reference */

static struct row *
row_of(struct slice url)
{
	for (unsigned i = 0; i < rows_n; i++)
		if (slice_eq(slice_of(rows[i].url), url))
			return &rows[i];
	return NULL;
}

/* Gives the flight what the table has, at once and on the asker's thread. */
static void
fetch(void *arg, struct flight *f, bool no_cache)
{
	struct flight_head h = {.terms = {.checked_at_s = clock_wall_s(), .date_s = clock_wall_s(),
	    .lifetime_s = -1, .last_modified_s = INT64_MIN, .stale_if_error_s = -1},
	    .checked_at_ms = clock_wall_ms(), .shareable = true, .keep = true};
	char body[BODY_MAX];
	struct row *r;
	size_t n = 0;

	(void)arg;
	(void)no_cache;
	AZ(pthread_mutex_lock(&lock));
	r = row_of(flight_url(f));
	if (r != NULL) {
		r->asked_n++;
		n = r->n;
		memcpy(body, r->body, n);
		if (r->wrong_n > 0 && n > 0) {
			r->wrong_n--;
			body[n - 1] ^= 1;
		}
		if (r->hangs) {
			hanging = flight_ref(f);
			AZ(pthread_mutex_unlock(&lock));
			return;
		}
	}
	AZ(pthread_mutex_unlock(&lock));
	if (r == NULL) {
		flight_fail(f, REASON_UP_NOT_FOUND, 404, false, "not in the table");
		return;
	}
	h.total_bytes = (int64_t)n;
	if (flight_begin(f, &h) != REASON_OK || flight_append(f, body, n) != REASON_OK)
		flight_fail(f, REASON_DISK_ERROR, 0, false, "no room");
	else
		flight_finish(f);
}

static int64_t
adopt_older(void *arg, struct slice host)
{
	(void)arg;
	(void)host;
	return adopt_older_s;
}

static void
start(void)
{
	const struct cache_conf conf = {.dir = cd.dir, .max_bytes = 1 << 30, .test_no_sync = true,
	    .keep_generations = 5, .generation_hold_ms = 300000, .stale_if_error_s = 86400};
	char *why = NULL;

	ck_assert_int_eq(cache_open(&cache, &conf, &why), REASON_OK);
	cache_set_hooks(cache, &(struct cache_hooks){.fetch = fetch, .adopt_older_s = adopt_older});
	view = cache_view_open(cache);
	ck_assert_ptr_nonnull(view);
}

static void
end(void)
{
	cache_view_close(&view);
	if (cache != NULL)
		cache_set_hooks(cache, NULL);
	if (hanging != NULL) {
		flight_fail(hanging, REASON_SHUTDOWN, 0, false, "stopped");
		flight_unref(&hanging);
	}
	cache_close(&cache);
}

static void
setup(void)
{
	cachedir_make(&cd);
	adopt_older_s = 86400;
	start();
}

static void
teardown(void)
{
	end();
	cachedir_remove(&cd);
}

/* ---- the publisher ---- */

static struct row *
put(const char *url, const void *body, size_t n)
{
	struct row *r;

	AZ(pthread_mutex_lock(&lock));
	r = row_of(slice_of(url));
	if (r == NULL) {
		ck_assert_uint_lt(rows_n, ROWS_MAX);
		r = &rows[rows_n++];
		(void)snprintf(r->url, sizeof(r->url), "%s", url);
	}
	ck_assert_uint_lt(n, sizeof(r->body));
	memcpy(r->body, body, n);
	r->n = n;
	AZ(pthread_mutex_unlock(&lock));
	return r;
}

static unsigned
asked_n(const char *url)
{
	struct row *r;
	unsigned n;

	AZ(pthread_mutex_lock(&lock));
	r = row_of(slice_of(url));
	n = r != NULL ? r->asked_n : 0;
	AZ(pthread_mutex_unlock(&lock));
	return n;
}

static void
list_line(char *out, size_t cap, const char *path, const void *body, size_t n)
{
	char hex[KEY_HEX_BYTES];
	uint8_t digest[32];
	size_t at = strlen(out);

	cachedir_digest(body, n, digest);
	key_hex(digest, hex);
	(void)snprintf(out + at, cap - at, " %s %zu %s\n", hex, n, path);
}

static void
packages_make(int v, char *out, size_t cap)
{
	(void)snprintf(out, cap, "Package: a\nFilename: ./a_1.deb\nSize: 7\nSHA256: %064d\n\n", v);
}

/* Edition v of a root's InRelease, which lists this index. */
static void
release_put(const char *name, int v, const char *path, const void *index, size_t n)
{
	char text[2048];

	(void)snprintf(text, sizeof(text), "Origin: test\nDate: Sat, 09 Jul 2022 09:%02d:00 UTC\n"
	    "SHA256:\n", v);
	list_line(text, sizeof(text), path, index, n);
	put(name, text, strlen(text));
}

/* Edition v of the flat repository, whole. */
static struct row *
publish(int v)
{
	char list[512];

	packages_make(v, list, sizeof(list));
	release_put(ROOT "InRelease", v, "Packages", list, strlen(list));
	return put(ROOT "Packages", list, strlen(list));
}

/* ---- the client ---- */

/* Asks for the URL; of q all else is taken. */
static struct cache_answer
ask_for(const char *text, struct cache_ask q)
{
	struct cache_answer out;
	struct target t;

	target_set(&t, text);
	q.url = &t.url;
	q.key = &t.key;
	q.af = &t.af;
	q.fresh.max_age_s = -1;
	q.now_ms = clock_mono_ms();
	q.now_s = clock_wall_s();
	cache_ask(view, &q, &out);
	return out;
}

static struct cache_answer
ask_as(const char *text, const char *at, bool checked, bool object_bad)
{
	return ask_for(text, (struct cache_ask){.at = slice_of(at), .checked = checked,
	    .object_bad = object_bad});
}

static struct cache_answer
ask_package(const char *text, bool may_wait)
{
	return ask_for(text, (struct cache_ask){.may_wait = may_wait});
}

static struct cache_answer
ask_url(const char *text, bool checked)
{
	return ask_as(text, NULL, checked, false);
}

static void
answer_free(struct cache_answer *a)
{
	object_unref(&a->object);
	flight_unref(&a->flight);
	cache_gen_unref(&a->gen);
}

/* Waits for the end of a flight. */
static enum flight_state
settle(struct flight *f)
{
	const struct timespec nap = {0, 2000000};
	int64_t until_ms = clock_mono_ms() + WAIT_MS;
	enum flight_state s;

	while ((s = flight_state(f)) == FLIGHT_WAITING || s == FLIGHT_STREAMING || s == FLIGHT_HELD) {
		ck_assert_int_lt(clock_mono_ms(), until_ms);
		(void)nanosleep(&nap, NULL);
	}
	return s;
}

static void
on_wake(struct flight_reader *r)
{
	(void)r;
}

/* The client asks for a Release, as req_step.c does. OK: it may have it; else why not. */
static enum reason
update_from(const char *url)
{
	struct cache_answer a = ask_url(url, false);
	struct flight_reader reader = {.wake = on_wake};
	const struct timespec nap = {0, 2000000};
	enum reason r;

	if (a.flight == NULL) {
		r = a.reason;
		answer_free(&a);
		return r;
	}
	flight_attach(a.flight, &reader, a.created);
	if (a.created && !a.launched)
		fetch(NULL, a.flight, false);
	r = settle(a.flight) == FLIGHT_FAILED ? flight_reason(a.flight) : REASON_OK;
	/* Until it is stored the next asker would join it. */
	while (!flight_is_settled(a.flight))
		(void)nanosleep(&nap, NULL);
	flight_detach(&reader);
	answer_free(&a);
	return r;
}

static enum reason
update(void)
{
	return update_from(ROOT "InRelease");
}

/* The Date's minute of the generation that a client gets; 0: none. */
static int
current_of(const char *root)
{
	struct repo_gen *g = repo_current(cache_parts(cache)->repos, slice_of(root));
	int v = g != NULL ? (int)(repo_gen_release(g)->date_s / 60 % 60) : 0;

	repo_gen_unref(&g);
	return v;
}

/* Waits for a counter. */
static void
wait_for(enum counter c, int64_t n)
{
	const struct timespec nap = {0, 2000000};
	int64_t until_ms = clock_mono_ms() + WAIT_MS;

	while (counter_read(c) < n) {
		ck_assert_int_lt(clock_mono_ms(), until_ms);
		(void)nanosleep(&nap, NULL);
	}
}

/* ---- tests ---- */

START_TEST(agrees)
{
	struct cache_answer a;

	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 1);
	/* All of it is here: a client of it needs no upstream. */
	a = ask_url(ROOT "Packages", false);
	ck_assert_ptr_nonnull(a.object);
	ck_assert_ptr_null(a.flight);
	ck_assert(a.listed);
	answer_free(&a);
	ck_assert_uint_eq(asked_n(ROOT "Packages"), 1);
	publish(2);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 2);
	/* The same once more is no other publication. */
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_uint_eq(asked_n(ROOT "Packages"), 2);
	/* It is there after a restart. */
	end();
	start();
	ck_assert_int_eq(current_of(ROOT), 2);
}
END_TEST

/* Only SHA-512 is listed: its packages are known as soon as it is current. */
START_TEST(sha512_alone)
{
	char list[512], text[2048], hex[129];
	uint8_t digest[64];
	struct cache_answer a;

	for (int v = 1; v <= 2; v++) {
		packages_make(v, list, sizeof(list));
		ck_assert_int_eq(EVP_Digest(list, strlen(list), digest, NULL, EVP_sha512(), NULL), 1);
		for (unsigned i = 0; i < sizeof(digest); i++)
			(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
		(void)snprintf(text, sizeof(text), "Origin: test\nDate: Sat, 09 Jul 2022 09:%02d:00 UTC\n"
		    "SHA512:\n %s %zu Packages\n", v, hex, strlen(list));
		put(ROOT "InRelease", text, strlen(text));
		put(ROOT "Packages", list, strlen(list));
		ck_assert_int_eq(update(), REASON_OK);
		ck_assert_int_eq(current_of(ROOT), v);
		a = ask_url(ROOT "a_1.deb", false);
		ck_assert(a.listed);
		ck_assert(a.created);
		flight_fail(a.flight, REASON_UP_NOT_FOUND, 404, false, "none");
		answer_free(&a);
	}
}
END_TEST

START_TEST(disagrees_then_agrees)
{
	char why[512];
	int64_t adopted_n;

	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	publish(2)->wrong_n = 1;
	adopted_n = counter_read(COUNTER_generations_adopted_total);
	ck_assert_int_eq(update(), REASON_REPO_DISAGREES);
	ck_assert_int_eq(current_of(ROOT), 1);
	ck_assert(stage_pending(cache_parts(cache)->stage, SLICE(ROOT), why, sizeof(why)));
	/* The background looks again. */
	wait_for(COUNTER_generations_adopted_total, adopted_n + 1);
	ck_assert_int_eq(current_of(ROOT), 2);
	ck_assert(!stage_pending(cache_parts(cache)->stage, SLICE(ROOT), why, sizeof(why)));
}
END_TEST

/* Nothing to fall back on: what upstream has goes out once it was tried again. */
START_TEST(first_visit_tries_again)
{
	publish(1)->wrong_n = 1;
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 1);
	ck_assert_uint_eq(asked_n(ROOT "Packages"), 2);
}
END_TEST

START_TEST(malformed)
{
	struct cache_answer a;

	put(ROOT "InRelease", "<html>log in", 12);
	ck_assert_int_eq(update(), REASON_OK);		/* passed on */
	ck_assert_int_eq(current_of(ROOT), 0);
	a = ask_url(ROOT "InRelease", true);
	ck_assert_ptr_null(a.object);
	answer_free(&a);
	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	put(ROOT "InRelease", "<html>log in", 12);
	ck_assert_int_ne(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 1);
	a = ask_url(ROOT "InRelease", true);
	ck_assert_ptr_nonnull(a.object);
	ck_assert_ptr_nonnull(a.gen);
	answer_free(&a);
}
END_TEST

START_TEST(older)
{
	publish(2);
	ck_assert_int_eq(update(), REASON_OK);
	publish(1);
	ck_assert_int_eq(update(), REASON_REPO_OLDER);
	ck_assert_int_eq(current_of(ROOT), 2);
	adopt_older_s = 0;
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 1);
}
END_TEST

enum form { RFC1123, ASCTIME, ISO8601, NO_DATE };

/* Edition v of the flat repository, with a Date of this form, so many seconds from now. */
static void
publish_dated(int v, enum form form, int64_t ahead_s)
{
	time_t at = (time_t)(clock_wall_s() + ahead_s);
	char list[512], text[2048];
	struct tm tm;

	packages_make(v, list, sizeof(list));
	(void)gmtime_r(&at, &tm);
	switch (form) {
	case RFC1123:
		(void)strftime(text, sizeof(text), "Date: %a, %d %b %Y %H:%M:%S UTC\nSHA256:\n", &tm);
		break;
	case ASCTIME:
		(void)strftime(text, sizeof(text), "Date: %a %b %e %H:%M:%S %Y\nSHA256:\n", &tm);
		break;
	case ISO8601:
		(void)strftime(text, sizeof(text), "Date: %Y-%m-%dT%H:%M:%SZ\nSHA256:\n", &tm);
		break;
	case NO_DATE:
		(void)snprintf(text, sizeof(text), "SHA256:\n");
		break;
	}
	list_line(text, sizeof(text), "Packages", list, strlen(list));
	put(ROOT "InRelease", text, strlen(text));
	put(ROOT "Packages", list, strlen(list));
}

/* The number of the generation that a client gets. */
static uint64_t
seq_of(const char *root)
{
	struct repo_gen *g = repo_current(cache_parts(cache)->repos, slice_of(root));
	uint64_t seq = g != NULL ? repo_gen_seq(g) : 0;

	repo_gen_unref(&g);
	return seq;
}

/* What apt would call not valid yet does not take a good one's place, nor stays in a good one's way. */
START_TEST(from_the_future)
{
	publish_dated(1, RFC1123, -60);
	ck_assert_int_eq(update(), REASON_OK);
	publish_dated(2, RFC1123, 86400);
	ck_assert_int_eq(update(), REASON_RELEASE_BAD);
	ck_assert_uint_eq(seq_of(ROOT), 1);
	publish_dated(3, RFC1123, 5);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_uint_eq(seq_of(ROOT), 2);
	/* Seen first, or adopted while the clock was wrong. */
	clock_test_advance(2 * 86400 * 1000);
	publish_dated(4, RFC1123, 0);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_uint_eq(seq_of(ROOT), 3);
	clock_test_advance(-2 * 86400 * 1000);
	publish_dated(5, RFC1123, 86400);
	ck_assert_int_eq(update(), REASON_REPO_OLDER);
	publish_dated(6, RFC1123, -30);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_uint_eq(seq_of(ROOT), 4);
}
END_TEST

/* A Release without a date that can be read is a generation too, and neither older nor newer. */
START_TEST(without_a_date)
{
	static const enum form forms[] = {RFC1123, NO_DATE, ISO8601, RFC1123, ASCTIME};

	for (unsigned i = 0; i < NELEM(forms); i++) {
		publish_dated((int)i, forms[i], -100 * (int64_t)(i < 4 ? i : 2));
		ck_assert_int_eq(update(), REASON_OK);
		ck_assert_uint_eq(seq_of(ROOT), i + 1);
	}
	publish_dated(5, ASCTIME, -300);
	ck_assert_int_eq(update(), REASON_REPO_OLDER);
	publish_dated(6, NO_DATE, 0);
	ck_assert_int_eq(update(), REASON_OK);
	end();
	start();
	ck_assert_uint_eq(seq_of(ROOT), 6);
}
END_TEST

/* A list that contradicts itself is not believed, and not read at each check. */
START_TEST(broken)
{
	char list[512];
	int64_t built_n;

	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	packages_make(2, list, sizeof(list));
	packages_make(3, list + strlen(list), sizeof(list) - strlen(list));
	release_put(ROOT "InRelease", 2, "Packages", list, strlen(list));
	put(ROOT "Packages", list, strlen(list));
	ck_assert_int_eq(update(), REASON_LIST_BAD);
	ck_assert_int_eq(current_of(ROOT), 1);
	built_n = counter_read(COUNTER_tables_built_total);
	ck_assert_int_eq(update(), REASON_LIST_BAD);
	ck_assert_int_eq(counter_read(COUNTER_tables_built_total), built_n);
	publish(4);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 4);
}
END_TEST

/* Release and its signature beside InRelease: one generation. */
START_TEST(another_form)
{
	struct repo_gen *g;
	uint8_t digest[32], now[32];
	struct row *r;

	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	r = row_of(SLICE(ROOT "InRelease"));
	put(ROOT "Release", r->body, r->n);
	put(ROOT "Release.gpg", "signed", 6);
	ck_assert_int_eq(update_from(ROOT "Release"), REASON_OK);
	g = repo_current(cache_parts(cache)->repos, SLICE(ROOT));
	ck_assert_uint_eq(repo_gen_seq(g), 1);
	ck_assert(repo_gen_digest(g, REPO_RELEASE, digest));
	ck_assert(repo_gen_digest(g, REPO_SIGNATURE, digest));
	/* Signed anew, and nothing else. */
	put(ROOT "Release.gpg", "signed again", 12);
	ck_assert_int_eq(update_from(ROOT "Release"), REASON_OK);
	ck_assert_uint_eq(repo_gen_seq(g), 1);
	cachedir_digest("signed again", 12, digest);
	ck_assert(repo_gen_digest(g, REPO_SIGNATURE, now));
	ck_assert_mem_eq(now, digest, 32);
	repo_gen_unref(&g);
}
END_TEST

/* Listed but never there does no harm; gone from there is a disagreement. */
START_TEST(member_missing)
{
	char list[512];

	packages_make(1, list, sizeof(list));
	release_put(ROOT "InRelease", 1, "Packages", list, strlen(list));
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 1);
	publish(2);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(current_of(ROOT), 2);
	publish(3);
	AZ(pthread_mutex_lock(&lock));
	row_of(SLICE(ROOT "Packages"))->url[0] = '-';
	AZ(pthread_mutex_unlock(&lock));
	ck_assert_int_eq(update(), REASON_REPO_DISAGREES);
	ck_assert_int_eq(current_of(ROOT), 2);
}
END_TEST

/* Edition v below dists/: a list of packages in two compressions, and a translation. */
static void
publish_dists(int v)
{
	static const enum unpack_kind kinds[] = {UNPACK_GZ, UNPACK_XZ};
	static const char *const paths[] = {"main/Packages.gz", "main/Packages.xz"};
	char list[512], text[2048], other[64], url[256];

	packages_make(v, list, sizeof(list));
	(void)snprintf(other, sizeof(other), "Package: a\nDescription-en: %d\n", v);
	(void)snprintf(text, sizeof(text), "Date: Sat, 09 Jul 2022 09:%02d:00 UTC\nSHA256:\n", v);
	list_line(text, sizeof(text), "main/i18n/Translation-en", other, strlen(other));
	put(DISTS "main/i18n/Translation-en", other, strlen(other));
	for (unsigned i = 0; i < NELEM(kinds); i++) {
		struct packed p = pack_make(kinds[i], list, strlen(list));

		list_line(text, sizeof(text), paths[i], p.p, p.n);
		(void)snprintf(url, sizeof(url), DISTS "%s", paths[i]);
		put(url, p.p, p.n);
		free(p.p);
	}
	put(DISTS "InRelease", text, strlen(text));
}

/* Edition 2, but for one file of edition 1, or none, that clients have asked for. */
static void
publish_late(const char *path, bool stale)
{
	char old[BODY_MAX], url[256];
	struct row *r;
	size_t n;

	publish_dists(1);
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_OK);
	ck_assert_int_eq(update_from(DISTS "main/Packages.gz"), REASON_OK);
	ck_assert_int_eq(update_from(DISTS "main/Packages.xz"), REASON_OK);
	ck_assert_int_eq(update_from(DISTS "main/i18n/Translation-en"), REASON_OK);
	index_flush(cache_parts(cache)->index);
	(void)snprintf(url, sizeof(url), DISTS "%s", path);
	r = row_of(slice_of(url));
	n = r->n;
	memcpy(old, r->body, n);
	publish_dists(2);
	AZ(pthread_mutex_lock(&lock));
	memcpy(r->body, old, n);
	r->n = n;
	if (!stale)
		r->url[0] = '-';
	AZ(pthread_mutex_unlock(&lock));
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_REPO_DISAGREES);
	ck_assert_int_eq(current_of(DISTS), 1);
}

/*
 * What no install needs keeps a generation waiting for a minute: a translation, and one compression
 * of a list that is here in another.
 */
START_TEST(late_member)
{
	static const char *const paths[] = {"main/i18n/Translation-en", "main/Packages.gz"};
	const char *path = paths[_i / 2];
	struct cache_answer a;
	char url[256];

	publish_late(path, _i % 2 != 0);
	clock_test_advance(59000);
	(void)update_from(DISTS "InRelease");
	ck_assert_int_eq(current_of(DISTS), 1);
	clock_test_advance(2000);
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_OK);
	ck_assert_int_eq(current_of(DISTS), 2);
	ck_assert_int_eq(counter_read(COUNTER_generation_passed_over_total), 1);
	/* Its clients get that edition's or none. */
	(void)snprintf(url, sizeof(url), DISTS "%s", path);
	a = ask_url(url, false);
	ck_assert(a.created && a.listed);
	ck_assert_ptr_nonnull(flight_expected(a.flight));
	fetch(NULL, a.flight, false);
	ck_assert_int_eq(settle(a.flight), FLIGHT_FAILED);
	answer_free(&a);
}
END_TEST

/* A list of packages is waited for as long as it takes. */
START_TEST(late_packages)
{
	char list[512];

	for (int v = 1; v <= 2; v++) {
		packages_make(v, list, sizeof(list));
		release_put(DISTS "InRelease", v, "main/Packages", list, strlen(list));
		if (v == 1)
			put(DISTS "main/Packages", list, strlen(list));
		ck_assert_int_eq(update_from(DISTS "InRelease"),
		    v == 1 ? REASON_OK : REASON_REPO_DISAGREES);
		if (v == 1)
			ck_assert_int_eq(update_from(DISTS "main/Packages"), REASON_OK);
	}
	clock_test_advance(600000);
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_REPO_DISAGREES);
	ck_assert_int_eq(current_of(DISTS), 1);
	put(DISTS "main/Packages", list, strlen(list));
	clock_test_advance(1000);
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_OK);
	ck_assert_int_eq(current_of(DISTS), 2);
}
END_TEST

/* Below dists/ only what clients ask for belongs to the set. */
START_TEST(dists_by_asking)
{
	struct cache_answer a;
	char list[512];

	packages_make(1, list, sizeof(list));
	release_put(DISTS "InRelease", 1, "main/binary-amd64/Packages", list, strlen(list));
	put(DISTS "main/binary-amd64/Packages", list, strlen(list));
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_OK);
	ck_assert_int_eq(current_of(DISTS), 1);
	ck_assert_uint_eq(asked_n(DISTS "main/binary-amd64/Packages"), 0);
	a = ask_url(DISTS "main/binary-amd64/Packages", false);
	ck_assert(a.created && a.listed);
	fetch(NULL, a.flight, false);
	ck_assert_int_eq(settle(a.flight), FLIGHT_COMPLETE);
	answer_free(&a);
	packages_make(2, list, sizeof(list));
	release_put(DISTS "InRelease", 2, "main/binary-amd64/Packages", list, strlen(list));
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_REPO_DISAGREES);
	ck_assert_int_eq(current_of(DISTS), 1);
}
END_TEST

/*
 * The plain list comes from the stored compressed one, and from upstream where that unpacks to
 * something else.
 */
START_TEST(derives)
{
	char list[512], text[2048] = "Date: Sat, 09 Jul 2022 09:01:00 UTC\nSHA256:\n", other[512];
	struct cache_answer a;
	struct packed gz;

	packages_make(1, list, sizeof(list));
	packages_make(_i == 0 ? 1 : 2, other, sizeof(other));
	gz = pack_make(UNPACK_GZ, other, strlen(other));
	list_line(text, sizeof(text), "main/Packages", list, strlen(list));
	list_line(text, sizeof(text), "main/Packages.gz", gz.p, gz.n);
	put(DISTS "InRelease", text, strlen(text));
	put(DISTS "main/Packages", list, strlen(list));
	put(DISTS "main/Packages.gz", gz.p, gz.n);
	free(gz.p);
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_OK);
	ck_assert_int_eq(update_from(DISTS "main/Packages.gz"), REASON_OK);
	index_flush(cache_parts(cache)->index);
	a = ask_url(DISTS "main/Packages", false);
	ck_assert(a.created && a.launched);
	ck_assert_int_eq(settle(a.flight), FLIGHT_COMPLETE);
	ck_assert_uint_eq(flight_visible(a.flight), strlen(list));
	answer_free(&a);
	ck_assert_uint_eq(asked_n(DISTS "main/Packages"), _i == 0 ? 0 : 1);
}
END_TEST

/* The depot stops in the middle of a staging: soon, and without a generation. */
/* Stored between the stage's look and its word: not fetched again. */
START_TEST(stored_meanwhile)
{
	struct index_view *iv = index_view_open(cache_parts(cache)->index);
	struct repo_gen *g;
	struct flight_expect e;
	struct flight *f;
	struct key key;

	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_uint_eq(asked_n(ROOT "Packages"), 1);
	g = repo_current(cache_parts(cache)->repos, SLICE(ROOT));
	ck_assert(repo_file_expect(release_find(repo_gen_release(g), SLICE("Packages")), &e));
	repo_gen_unref(&g);
	repo_version_key(SLICE(ROOT "Packages"), &e, &key);
	ck_assert_ptr_null(cache_start(cache, iv, SLICE(ROOT "Packages"), &key, &e, NULL, false));
	e.digest[0] ^= 1;
	repo_version_key(SLICE(ROOT "Packages"), &e, &key);
	f = cache_start(cache, iv, SLICE(ROOT "Packages"), &key, &e, NULL, false);
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(settle(f), FLIGHT_FAILED);
	ck_assert_uint_ge(asked_n(ROOT "Packages"), 2);
	flight_unref(&f);
	index_view_close(&iv);
}
END_TEST

START_TEST(stops_in_the_middle)
{
	struct cache_answer a;
	const struct timespec nap = {0, 2000000};
	int64_t begun_ms = clock_mono_ms();

	publish(1)->hangs = true;
	a = ask_url(ROOT "InRelease", false);
	ck_assert(a.created);
	fetch(NULL, a.flight, false);
	while (asked_n(ROOT "Packages") == 0)
		(void)nanosleep(&nap, NULL);
	AZ(pthread_mutex_lock(&lock));	/* it is hanging once that is free */
	AZ(pthread_mutex_unlock(&lock));
	answer_free(&a);
	end();
	ck_assert_int_lt(clock_mono_ms() - begun_ms, 10000);
	start();
	ck_assert_int_eq(current_of(ROOT), 0);
}
END_TEST

/* A Release of a date that was lost is not made good with what upstream has today. */
START_TEST(lost_release_of_a_date)
{
	const struct cache_parts *parts = cache_parts(cache);
	struct cache_answer a;
	char why[512];

	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	ck_assert_int_eq(repo_pin(parts->repos, SLICE(ROOT), SLICE_NONE, SLICE("one"), why,
	    sizeof(why)), REASON_OK);
	a = ask_as(ROOT "InRelease", "one", false, false);
	ck_assert_ptr_nonnull(a.object);
	answer_free(&a);
	publish(2);
	ck_assert_int_eq(update(), REASON_OK);
	a = ask_as(ROOT "InRelease", "one", false, true);
	ck_assert(a.created && a.listed);
	ck_assert_ptr_nonnull(flight_expected(a.flight));
	fetch(NULL, a.flight, false);
	ck_assert_int_eq(settle(a.flight), FLIGHT_FAILED);
	ck_assert_int_eq(flight_reason(a.flight), REASON_UP_DIGEST);
	answer_free(&a);
}
END_TEST

/* What is refused leaves nothing behind. */
START_TEST(only_if_cached)
{
	struct cache_answer a;

	publish(1);
	ck_assert_int_eq(update(), REASON_OK);
	a = ask_for(ROOT "InRelease", (struct cache_ask){.fresh.only_if_cached = true});
	ck_assert_int_eq(a.reason, REASON_ONLY_IF_CACHED);
	ck_assert_ptr_null(a.object);
	ck_assert_ptr_null(a.gen);
}
END_TEST

/* What the cache says of a package to a client that may wait; true: wait. */
static bool
is_early(const char *text, bool may_wait)
{
	struct cache_answer a = ask_package(text, may_wait);
	bool early = a.unread;

	ck_assert(early == (a.flight == NULL));
	if (a.flight != NULL)
		flight_fail(a.flight, REASON_UP_CONNECT, 0, false, "not asked for");
	answer_free(&a);
	return early;
}

/* A package that no generation names waits while an index below its root is being read. */
START_TEST(early_packages)
{
	struct stage *st = cache_parts(cache)->stage;
	const uint8_t digest[32] = {1};
	struct stage_unread *u;
	char list[512];

	packages_make(1, list, sizeof(list));
	release_put(DISTS "InRelease", 1, "main/binary-amd64/Packages", list, strlen(list));
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_OK);
	ck_assert(!is_early("https://h.example/debian/pool/a_1.deb", true));
	u = stage_unread_begin(st, SLICE(DISTS "main/binary-amd64/Packages"), digest);
	ck_assert_ptr_nonnull(u);
	ck_assert(is_early("https://h.example/debian/pool/a_1.deb", true));
	ck_assert(!is_early("https://h.example/debian/pool/a_1.deb", false));
	ck_assert(!is_early("https://h.example/elsewhere/a_1.deb", true));
	ck_assert(!is_early("https://h.example/debian/README", true));
	ck_assert(!is_early(DISTS "main/binary-amd64/Packages.diff/T-2-F-1.gz", true));
	stage_unread_end(st, &u);
	ck_assert(!is_early("https://h.example/debian/pool/a_1.deb", true));
}
END_TEST

/* It waits for what is read, no longer: then it is known what it must be. */
START_TEST(early_until_read)
{
	struct cache_answer a;
	char list[512];

	(void)snprintf(list, sizeof(list), "Package: a\nFilename: pool/a_1.deb\nSize: 7\n"
	    "SHA256: %064d\n\n", 1);
	release_put(DISTS "InRelease", 1, "main/binary-amd64/Packages", list, strlen(list));
	put(DISTS "main/binary-amd64/Packages", list, strlen(list));
	ck_assert_int_eq(update_from(DISTS "InRelease"), REASON_OK);
	ck_assert_int_eq(update_from(DISTS "main/binary-amd64/Packages"), REASON_OK);
	while (is_early("https://h.example/debian/pool/a_1.deb", true))
		(void)nanosleep(&(const struct timespec){0, 1000000}, NULL);
	a = ask_package("https://h.example/debian/pool/a_1.deb", true);
	ck_assert_ptr_nonnull(a.flight);
	ck_assert(a.listed);
	ck_assert_ptr_nonnull(flight_expected(a.flight));
	flight_fail(a.flight, REASON_UP_CONNECT, 0, false, "not asked for");
	answer_free(&a);
	/* The job that has read it ends a moment later. */
	while (stage_has_unread(cache_parts(cache)->stage))
		(void)nanosleep(&(const struct timespec){0, 1000000}, NULL);
}
END_TEST

Suite *
check_stage_suite(void)
{
	Suite *s = suite_create("stage");
	TCase *t = tcase_create("stage");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, agrees);
	tcase_add_test(t, sha512_alone);
	tcase_add_test(t, disagrees_then_agrees);
	tcase_add_test(t, first_visit_tries_again);
	tcase_add_test(t, malformed);
	tcase_add_test(t, older);
	tcase_add_test(t, from_the_future);
	tcase_add_test(t, without_a_date);
	tcase_add_test(t, broken);
	tcase_add_test(t, another_form);
	tcase_add_test(t, member_missing);
	tcase_add_loop_test(t, late_member, 0, 4);
	tcase_add_test(t, late_packages);
	tcase_add_test(t, dists_by_asking);
	tcase_add_loop_test(t, derives, 0, 2);
	tcase_add_test(t, stored_meanwhile);
	tcase_add_test(t, stops_in_the_middle);
	tcase_add_test(t, lost_release_of_a_date);
	tcase_add_test(t, only_if_cached);
	tcase_add_test(t, early_packages);
	tcase_add_test(t, early_until_read);
	suite_add_tcase(s, t);
	return s;
}
