/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Repositories: what a URL means in them, and which generation a client sees. */
#include "tests/support/repofix.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "include/clock.h"
#include "include/counter.h"
#include "tests/support/target.h"

Suite *check_repo_select_suite(void);

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static const struct {
	const char *url, *at;
	enum repo_role role;
	bool by_digest;
	const char *package;		/* whose digest is expected */
} role_rows[] = {
	{FLAT "InRelease", NULL, REPO_ROLE_RELEASE, false, NULL},
	{FLAT "Release", NULL, REPO_ROLE_UNLISTED, false, NULL},
	{FLAT "Release.gpg", NULL, REPO_ROLE_RELEASE, false, NULL},
	{FLAT "Packages", NULL, REPO_ROLE_LISTED, false, NULL},
	{FLAT "Packages.lzma", NULL, REPO_ROLE_UNLISTED, false, NULL},
	{FLAT "key.pub", NULL, REPO_ROLE_UNLISTED, false, NULL},
	{FLAT "a_1.deb", NULL, REPO_ROLE_LISTED, false, "./a_1.deb"},
	{FLAT "a_1.deb?x=1", NULL, REPO_ROLE_LISTED, false, "./a_1.deb"},
	{FLAT "a_2.deb", NULL, REPO_ROLE_UNLISTED, false, NULL},
	/* Counted from the root's parent. */
	{FLAT "c_1.deb", NULL, REPO_ROLE_LISTED, false, "x86_64/c_1.deb"},
	/* From the parent's parent it might be one of its packages; from the parent it is not. */
	{"https://h.example/cuda/a_1.deb", NULL, REPO_ROLE_UNLISTED, false, NULL},
	{"https://h.example/a_1.deb", NULL, REPO_ROLE_NONE, false, NULL},
	{"http://h.example/cuda/x86_64/a_1.deb", NULL, REPO_ROLE_NONE, false, NULL},
	{"https://h.example/", NULL, REPO_ROLE_NONE, false, NULL},
	{DISTS "InRelease", NULL, REPO_ROLE_RELEASE, false, NULL},
	{DISTS "main/binary-amd64/Packages", NULL, REPO_ROLE_LISTED, false, NULL},
	{DISTS "main/binary-arm64/Packages", NULL, REPO_ROLE_UNLISTED, false, NULL},
	{"https://d.example/debian/dists/InRelease", NULL, REPO_ROLE_NONE, false, NULL},
	{"https://d.example/debian/pool/main/a/a_1.deb", NULL, REPO_ROLE_LISTED, false,
	    "pool/main/a/a_1.deb"},
	{"https://d.example/pool/main/a/a_1.deb", NULL, REPO_ROLE_NONE, false, NULL},
	/* A root that is only known lies in one that lists what is asked for. */
	{"https://n.example/top/sub/Packages", NULL, REPO_ROLE_LISTED, false, NULL},
	{"https://n.example/top/sub/InRelease", NULL, REPO_ROLE_UNKNOWN, false, NULL},
	{"https://u.example/deb/InRelease", NULL, REPO_ROLE_UNKNOWN, false, NULL},
	{"https://u.example/deb/Packages", NULL, REPO_ROLE_UNKNOWN, false, NULL},
	{"https://u.example/deb/a_1.deb", NULL, REPO_ROLE_UNKNOWN, false, NULL},
	{DISTS "main/binary-amd64/by-hash/SHA256/" ZEROS, NULL, REPO_ROLE_NONE, false, NULL},
	/* Some other day. */
	{FLAT "InRelease", "2020-09-14", REPO_ROLE_RELEASE, false, NULL},
	{FLAT "Packages", "2020-09-14", REPO_ROLE_LISTED, false, NULL},
	{FLAT "InRelease", "2001-01-01", REPO_ROLE_NO_SUCH_TIME, false, NULL},
	{FLAT "Packages", "2001-01-01", REPO_ROLE_NO_SUCH_TIME, false, NULL},
	{FLAT "a_1.deb", "2001-01-01", REPO_ROLE_NO_SUCH_TIME, false, NULL},
	{FLAT "a_1.deb", "nobody", REPO_ROLE_NO_SUCH_TIME, false, NULL},
	{"https://x.example/a_1.deb", "2020-09-14", REPO_ROLE_NO_SUCH_TIME, false, NULL},
};

START_TEST(roles)
{
	repofix_publish_flat(1, T0);
	repofix_publish(DISTS, "main/binary-amd64/Packages", "pool/main/a/a_1.deb", 1, T0);
	repofix_publish("https://n.example/top/", "sub/Packages", "n_1.deb", 1, T0);
	repo_note_root(repofix.rs, SLICE("https://n.example/top/sub/"));
	repo_note_root(repofix.rs, SLICE("https://u.example/deb/"));
	/* The second time what was remembered answers. */
	for (unsigned i = 0; i < 3 * NELEM(role_rows); i++) {
		unsigned k = i % NELEM(role_rows);
		struct repo_answer a = repofix_ask_as(NULL, role_rows[k].url, role_rows[k].at, 1000, T0);

		ck_assert_msg(a.role == role_rows[k].role, "%s: %d", role_rows[k].url, a.role);
		ck_assert_int_eq(a.by_digest, role_rows[k].by_digest);
		if (role_rows[k].package != NULL)
			ck_assert_int_eq(repofix_edition_of(&a, role_rows[k].package), 1);
	}
}
END_TEST

/* A name by digest says what it is, whenever it is asked for. */
START_TEST(by_hash)
{
	static const char *const at[] = {NULL, "2020-09-14"};
	char list[8192], hex[KEY_HEX_BYTES], url[512];
	struct repo_answer a;
	uint8_t digest[32];

	repofix_publish(DISTS, "main/binary-amd64/Packages", "pool/a_1.deb", 1, T0);
	repofix_publish(DISTS, "main/binary-amd64/Packages", "pool/a_1.deb", 2, T0 + 10);
	for (int v = 1; v <= 2; v++)
		for (unsigned i = 0; i < NELEM(at); i++) {
			repofix_list("pool/a_1.deb", v, list, sizeof(list));
			cachedir_digest(list, strlen(list), digest);
			key_hex(digest, hex);
			(void)snprintf(url, sizeof(url), DISTS "main/binary-amd64/by-hash/SHA256/%s",
			    hex);
			a = repofix_ask_as(NULL, url, at[i], 1000, T0);
			ck_assert_int_eq(a.role, REPO_ROLE_UNLISTED);
			ck_assert(a.by_digest);
			ck_assert_mem_eq(a.expect.digest, digest, 32);
		}
}
END_TEST

START_TEST(selects)
{
	struct cache_client a = {.has_address = true, .address = {1}}, again = a, other = a;
	struct cache_client stranger = {.has_address = true, .address = {2}};
	struct repo_answer r;
	int64_t conflicts_n = counter_read(COUNTER_generation_conflicts_total);
	int64_t now_ms = clock_mono_ms();

	repofix_publish_flat(1, T0);
	repofix_give(&a, FLAT, now_ms);
	repofix_publish_flat(2, T0 + 10);
	/* The connection, the address, the newest. */
	ck_assert_int_eq(repofix_sees(&a, "a_1.deb"), 1);
	ck_assert_int_eq(repofix_sees(&again, "a_1.deb"), 1);
	ck_assert_int_eq(repofix_sees(&stranger, "a_1.deb"), 2);
	ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 2);
	r = repofix_ask(&a, FLAT "Packages");
	ck_assert(r.held);
	/* What only an older one names. */
	ck_assert_int_eq(repofix_sees(NULL, "old_1.deb"), 1);
	ck_assert_int_eq(repofix_sees(&stranger, "old_1.deb"), 1);
	/* The Release is the newest, its signature that of the one the client has. */
	r = repofix_ask(&a, FLAT "Release.gpg");
	ck_assert_int_eq(r.expect.digest[0], 1);
	ck_assert(r.held);
	r = repofix_ask(&stranger, FLAT "Release.gpg");
	ck_assert_int_eq(r.expect.digest[0], 2);
	/* Another container behind the address takes the newer one: the latest counts. */
	ck_assert_int_eq(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	repofix_give(&other, FLAT, now_ms + 1);
	cache_client_fini(&again);
	ck_assert_int_eq(repofix_sees(&again, "a_1.deb"), 2);
	ck_assert_int_gt(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	ck_assert_int_eq(repofix_sees(&a, "a_1.deb"), 1);
	/* An address is forgotten after a while, a connection is not. */
	cache_client_fini(&again);
	r = repofix_ask_as(&again, FLAT "a_1.deb", NULL, now_ms + HOLD_MS + 60000, T0);
	ck_assert_int_eq(repofix_edition_of(&r, "./a_1.deb"), 2);
	ck_assert_ptr_null(again.held);
	r = repofix_ask_as(&a, FLAT "a_1.deb", NULL, now_ms + HOLD_MS + 60000, T0);
	ck_assert_int_eq(repofix_edition_of(&r, "./a_1.deb"), 1);
	repofix_give(&a, FLAT, now_ms);
	ck_assert_int_eq(repofix_sees(&a, "a_1.deb"), 2);
	cache_client_fini(&a);
	cache_client_fini(&other);
	cache_client_fini(&stranger);
}
END_TEST

/* Edition v of a suite, which names the pool's package or does not. */
static void
publish_suite(const char *root, bool names, int v, int64_t at_s)
{
	repofix_publish(root, "main/binary-amd64/Packages", names ? "pool/p_1.deb pool/q_1.deb" :
	    "pool/q_1.deb", v, at_s);
}

/*
 * Two suites over one pool, whichever is found first: a generation that was
 * given counts before one that is current, and that before an old one.
 */
START_TEST(shared_pool)
{
	const char *one = _i == 0 ? DISTS : LATER, *two = _i == 0 ? LATER : DISTS;
	struct cache_client c = {.has_address = true, .address = {1}}, again = c;
	struct cache_client stranger = {.has_address = true, .address = {2}};
	int64_t conflicts_n;

	publish_suite(one, true, 1, T0);
	repofix_give(&c, one, clock_mono_ms());
	/* Only the old one names it: then that is its word. */
	publish_suite(one, false, 2, T0 + 10);
	ck_assert_int_eq(repofix_sees_in_pool(NULL), 1);
	publish_suite(two, true, 3, T0 + 5);
	conflicts_n = counter_read(COUNTER_generation_conflicts_total);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(repofix_sees_in_pool(NULL), 3);
		ck_assert_int_eq(repofix_sees_in_pool(&stranger), 3);
		ck_assert_int_eq(repofix_sees_in_pool(&c), 1);
		ck_assert_int_eq(repofix_sees_in_pool(&again), 1);
	}
	ck_assert_int_eq(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	/* Given both, the latest counts; as of connections, so of addresses. */
	repofix_give(&c, two, clock_mono_ms());
	ck_assert_int_eq(repofix_sees_in_pool(&c), 3);
	ck_assert_int_gt(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	cache_client_fini(&again);
	ck_assert_int_eq(repofix_sees_in_pool(&again), 3);
	cache_client_fini(&c);
	cache_client_fini(&again);
	cache_client_fini(&stranger);
}
END_TEST

/* Both are current and disagree: the later one, but who was given the other one keeps it. */
START_TEST(shared_pool_disagrees)
{
	const char *one = _i == 0 ? DISTS : LATER, *two = _i == 0 ? LATER : DISTS;
	struct cache_client c = {.has_address = false};
	int64_t conflicts_n = counter_read(COUNTER_generation_conflicts_total);

	publish_suite(one, true, 1, T0);
	publish_suite(two, true, 2, T0 + 5);
	repofix_give(&c, one, clock_mono_ms());
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(repofix_sees_in_pool(&c), 1);
		ck_assert_int_eq(repofix_sees_in_pool(NULL), 2);
	}
	ck_assert_int_ge(counter_read(COUNTER_generation_conflicts_total), conflicts_n + 3);
	cache_client_fini(&c);
}
END_TEST

/* Two lists of one generation say something else of a package: then nothing is known of it. */
START_TEST(lists_disagree)
{
	int64_t conflicts_n = counter_read(COUNTER_generation_conflicts_total);
	char text[2048], lists[2][512], why[RELEASE_WHY_BYTES];
	struct repo_new n = {.root = SLICE(FLAT), .has = {[REPO_INRELEASE] = true}, .adopted_at_s = T0};

	(void)snprintf(text, sizeof(text), "Date: Sat, 09 Jul 2022 09:00:00 UTC\nSHA256:\n");
	for (int v = 0; v < 2; v++) {
		char hex[KEY_HEX_BYTES];
		uint8_t digest[32];

		repofix_list(v == 0 ? "both.deb same.deb" : "both.deb one.deb", v + 1, lists[v],
		    sizeof(lists[v]));
		cachedir_digest(lists[v], strlen(lists[v]), digest);
		key_hex(digest, hex);
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s %zu %d/Packages\n",
		    hex, strlen(lists[v]), v);
	}
	ck_assert_int_eq(release_parse(&n.release, text, strlen(text), why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_adopt(repofix.rs, &n), REASON_OK);
	repofix_table(lists[0]);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "both.deb").role, REPO_ROLE_LISTED);
	repofix_table(lists[1]);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "both.deb").role, REPO_ROLE_UNLISTED);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "same.deb").role, REPO_ROLE_LISTED);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "one.deb").role, REPO_ROLE_LISTED);
	ck_assert_int_gt(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
}
END_TEST

/* An index that the newest generation does not list any more is still that of a kept one. */
START_TEST(index_of_a_kept_one)
{
	struct repo_answer a;

	repofix_publish(DISTS, "main/binary-amd64/Packages", "pool/p_1.deb", 1, T0);
	repofix_publish(DISTS, "contrib/binary-amd64/Packages", "pool/p_1.deb", 2, T0 + 10);
	a = repofix_ask(NULL, DISTS "main/binary-amd64/Packages");
	ck_assert_int_eq(a.role, REPO_ROLE_LISTED);
	ck_assert(a.held);
	a = repofix_ask(NULL, DISTS "contrib/binary-amd64/Packages");
	ck_assert_int_eq(a.role, REPO_ROLE_LISTED);
	ck_assert(!a.held);
}
END_TEST

struct stretches {
	struct repo_stretch v[8];
	unsigned n;
};

static void
add_stretch(void *arg, const struct repo_stretch *s)
{
	struct stretches *all = arg;

	ck_assert_uint_lt(all->n, NELEM(all->v));
	all->v[all->n++] = *s;
}

static struct stretches
history_of(const char *text)
{
	struct stretches all = {.n = 0};
	struct target t;

	target_set(&t, text);
	repo_history(repofix.view, &t.url, &t.af, add_stretch, &all);
	return all;
}

/* Which generations named it, with what, from when to when. */
START_TEST(history)
{
	uint8_t digest[32];
	struct stretches h;

	repofix_publish(FLAT, "Packages", "./a_1.deb", 1, T0);
	repofix_publish(FLAT, "Packages", "./a_1.deb x.deb", 1, T0 + 10);
	repofix_publish(FLAT, "Packages", "./a_1.deb", 2, T0 + 20);
	h = history_of(FLAT "a_1.deb");
	ck_assert_uint_eq(h.n, 2);
	ck_assert_uint_eq(h.v[0].first_seq, 3);
	ck_assert_uint_eq(h.v[0].last_seq, 3);
	ck_assert_int_eq(h.v[0].from_s, T0 + 20);
	ck_assert_int_eq(h.v[0].until_s, INT64_MAX);
	repofix_digest("./a_1.deb", 2, digest);
	ck_assert_mem_eq(h.v[0].expect.digest, digest, 32);
	ck_assert_uint_eq(h.v[1].first_seq, 1);
	ck_assert_uint_eq(h.v[1].last_seq, 2);
	ck_assert_int_eq(h.v[1].from_s, T0);
	ck_assert_int_eq(h.v[1].until_s, T0 + 20);
	repofix_digest("./a_1.deb", 1, digest);
	ck_assert_mem_eq(h.v[1].expect.digest, digest, 32);
	/* Named for a while only. */
	h = history_of(FLAT "x.deb");
	ck_assert_uint_eq(h.n, 1);
	ck_assert_int_eq(h.v[0].from_s, T0 + 10);
	ck_assert_int_eq(h.v[0].until_s, T0 + 20);
	ck_assert_uint_eq(history_of(FLAT "InRelease").n, 3);
	ck_assert_uint_eq(history_of(FLAT "Packages").n, 3);
	ck_assert_uint_eq(history_of(FLAT "y.deb").n, 0);
	ck_assert_uint_eq(history_of("https://x.example/y.deb").n, 0);
}
END_TEST

/* A connection remembers so many repositories, then the first is forgotten. */
START_TEST(holds_are_bounded)
{
	struct cache_client c = {.has_address = false};
	char root[64];

	for (int i = 0; i < REPO_HELD_MAX + 2; i++) {
		char url[128];
		struct repo_answer a;

		(void)snprintf(root, sizeof(root), "https://r%d.example/", i);
		repofix_publish(root, "Packages", "a_1.deb", 1, T0);
		(void)snprintf(url, sizeof(url), "%sInRelease", root);
		a = repofix_ask(&c, url);
		repo_note_given(repofix.view, &c, a.gen, 1000);
	}
	ck_assert_uint_eq(c.held->n, REPO_HELD_MAX);
	cache_client_fini(&c);
}
END_TEST

START_TEST(memo_ends_with_epoch)
{
	repofix_publish_flat(1, T0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 1);
	repofix_publish_flat(2, T0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 2);
}
END_TEST

/* Asked for each day, by way of the memo too: it stays in the set. */
START_TEST(memo_ends_with_day)
{
	int64_t now_s = time(NULL);

	repofix_publish_flat(1, T0);
	for (int i = 0; i < 4; i++)
		(void)repofix_ask_as(NULL, FLAT "Packages", NULL, 1000, now_s - 31 * DAY_S);
	ck_assert_uint_eq(repofix_members_n(), 0);
	(void)repofix_ask_as(NULL, FLAT "Packages", NULL, 1000, now_s);
	ck_assert_uint_eq(repofix_members_n(), 1);
}
END_TEST

static const struct {
	const char *text;
	int64_t s;		/* -1: no time */
} time_rows[] = {
	{"1970-01-01", 86399},
	{"2020-09-13", 1600041599},
	{"2020-09-13T12:26:40Z", 1600000000},
	{"2020-09-13t12:26:40z", 1600000000},
	{"2020-09-13T12:26:40.123Z", 1600000000},
	{"2020-09-13T14:26:40+02:00", 1600000000},
	{"2020-09-13T11:56:40-00:30", 1600000000},
	{"2020-09-13T14:26:40%2b02:00", 1600000000},
	{"2020-09-13T14:26:40.5%2B02:00", 1600000000},
	{"", -1}, {"good", -1}, {"2020-9-13", -1}, {"2020-13-01", -1}, {"2020-00-01", -1},
	{"1969-12-31", -1}, {"2020-09-32", -1}, {"+020-09-13", -1}, {"2020-09-13 ", -1},
	{"2020-09-13T", -1}, {"2020-09-13T1:2:3", -1}, {"2020-09-13T1:2:3Z", -1},
	{"2020-09-13T12:26:40", -1}, {"2020-09-13T12:26:40.", -1}, {"2020-09-13T12:26:40.5", -1},
	{"2020-09-13T24:26:40Z", -1}, {"2020-09-13T12:26:40+2:00", -1},
	{"2020-09-13T12:26:40+02:00x", -1}, {"2020-09-13T12:26:40Zx", -1},
	{"2020-09-13T12:26:40%2b", -1}, {"2020-09-13T12:26:40%2d02:00", -1},
	{"2020-09-13T12:26:40+-2:00", -1}, {"2020-09-13T12:26:40 02:00", -1},
};

START_TEST(times)
{
	int64_t s = -1;
	size_t n = strlen(time_rows[_i].text);
	char *copy = malloc(n + 1);	/* as long as it is, so that a sanitizer sees reads beyond */
	bool ok;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, time_rows[_i].text, n);
	copy = realloc(copy, n != 0 ? n : 1);
	ok = repo_time_parse((struct slice){copy, n}, &s);
	ck_assert_msg(ok == (time_rows[_i].s >= 0), "%s", time_rows[_i].text);
	ck_assert_int_eq(s, time_rows[_i].s);
	free(copy);
}
END_TEST

START_TEST(time_travel)
{
	struct cache_client c = {.has_address = false};
	char why[512], text[1024];
	struct repo_answer a;
	struct target t;

	repofix_publish_flat(1, T0);			/* 2020-09-13T12:26:40Z */
	repofix_publish_flat(2, T0 + 5 * DAY_S);
	repofix_publish_flat(3, T0 + 9 * DAY_S);
	ck_assert_int_eq(repofix_sees_at("2020-09-12"), 0);
	ck_assert_int_eq(repofix_sees_at("2020-09-13"), 1);
	ck_assert_int_eq(repofix_sees_at("2020-09-13T12:26:39Z"), 0);
	ck_assert_int_eq(repofix_sees_at("2020-09-18T12:26:39Z"), 1);
	ck_assert_int_eq(repofix_sees_at("2020-09-18T12:26:40Z"), 2);
	ck_assert_int_eq(repofix_sees_at("2030-01-01"), 3);
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT "InRelease"), SLICE("2020-09-18"), SLICE("good"),
	    why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(repofix_sees_at("good"), 2);
	/* What the connection holds does not matter; nothing is looked for in other editions. */
	repofix_give(&c, FLAT, 1000);
	a = repofix_ask_as(&c, FLAT "old_1.deb", "good", 1000, T0);
	ck_assert_int_eq(a.role, REPO_ROLE_UNLISTED);
	a = repofix_ask_as(&c, FLAT "Release.gpg", "good", 1000, T0);
	ck_assert_int_eq(a.expect.digest[0], 2);
	target_set(&t, FLAT "a_1.deb");
	repo_list_times(repofix.view, &t.url, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "@2020-09-13T12:26:40Z"));
	ck_assert_ptr_nonnull(strstr(text, "@good"));
	repo_list_times(repofix.view, &t.url, text, 60);	/* no room is no harm */
	cache_client_fini(&c);
}
END_TEST

/* A package whose index came after its request, for whoever has no view. */
START_TEST(expects_late)
{
	struct flight_expect e;
	uint8_t want[32];
	struct target t;

	target_set(&t, FLAT "a_1.deb");
	ck_assert(!repo_late_expect(repofix.rs, &t.url, &t.af, &e));
	repofix_publish_flat(2, T0);
	ck_assert(repo_late_expect(repofix.rs, &t.url, &t.af, &e));
	repofix_digest("./a_1.deb", 2, want);
	ck_assert_mem_eq(e.digest, want, 32);
	ck_assert_int_eq(e.size_bytes, 7);
}
END_TEST

Suite *
check_repo_select_suite(void)
{
	Suite *s = suite_create("repo_select");
	TCase *t = tcase_create("repo_select"), *pure = tcase_create("times");

	tcase_add_checked_fixture(t, repofix_setup, repofix_teardown);
	tcase_add_test(t, roles);
	tcase_add_test(t, by_hash);
	tcase_add_test(t, selects);
	tcase_add_loop_test(t, shared_pool, 0, 2);
	tcase_add_loop_test(t, shared_pool_disagrees, 0, 2);
	tcase_add_test(t, lists_disagree);
	tcase_add_test(t, index_of_a_kept_one);
	tcase_add_test(t, history);
	tcase_add_test(t, holds_are_bounded);
	tcase_add_test(t, memo_ends_with_epoch);
	tcase_add_test(t, memo_ends_with_day);
	tcase_add_test(t, time_travel);
	tcase_add_test(t, expects_late);
	suite_add_tcase(s, t);
	tcase_add_loop_test(pure, times, 0, (int)NELEM(time_rows));
	suite_add_tcase(s, pure);
	return s;
}
