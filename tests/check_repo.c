/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Repositories: what a URL means in them, which generation a client sees, and
 * what is left of it all after a restart or in a damaged cache directory.
 */
#include "cache/repo_priv.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cache/record.h"
#include "include/clock.h"
#include "include/counter.h"
#include "tests/support/cachedir.h"

Suite *check_repo_suite(void);

#define FLAT "https://h.example/cuda/x86_64/"
#define DISTS "https://d.example/debian/dists/stable/"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

enum { HOLD_MS = 300000, DAY_S = 86400, T0 = 1600000000 };

static struct cachedir cd;
static struct repos *rs;
static struct repo_view *view;
static unsigned keep_n, roots_max;
static uint64_t memory_max_bytes;

static void
repos_start(void)
{
	const struct repos_conf conf = {.index = cd.index, .blobs = cd.blobs, .dir = cd.dir,
	    .keep_n = keep_n, .hold_ms = HOLD_MS, .roots_max = roots_max,
	    .memory_max_bytes = memory_max_bytes};

	ck_assert_int_eq(repos_open(&rs, &conf), REASON_OK);
	view = repo_view_open(rs);
	ck_assert_ptr_nonnull(view);
}

static void
repos_end(void)
{
	repo_view_close(&view);
	repos_close(&rs);
}

static void
setup(void)
{
	keep_n = 3;
	roots_max = 0;
	memory_max_bytes = 0;
	cachedir_make(&cd);
	cachedir_open(&cd);
	repos_start();
}

static void
teardown(void)
{
	repos_end();
	cachedir_remove(&cd);
}

static void
restart(void)
{
	repos_end();
	cachedir_close(&cd);
	cachedir_open(&cd);
	repos_start();
}

/* ---- publications ---- */

/* The digest that the list of edition v gives for a package. */
static void
package_digest(const char *name, int v, uint8_t digest[32])
{
	char text[256];

	(void)snprintf(text, sizeof(text), "%s of %d", name, v);
	cachedir_digest(text, strlen(text), digest);
}

/* A list that names these packages (blanks between), as it was in edition v. */
static void
list_make(const char *names, int v, char *out, size_t cap)
{
	size_t n = 0;

	for (const char *p = names, *end; *p != '\0'; p = end + (*end != '\0')) {
		char name[128], hex[KEY_HEX_BYTES];
		uint8_t digest[32];

		end = strchrnul(p, ' ');
		(void)snprintf(name, sizeof(name), "%.*s", (int)(end - p), p);
		package_digest(name, v, digest);
		key_hex(digest, hex);
		n += (size_t)snprintf(out + n, cap - n, "Package: p\nFilename: %s\nSize: 7\n"
		    "SHA256: %s\n\n", name, hex);
	}
	out[n] = '\0';
}

/* Its table, as stage.c makes it. */
static void
table_make(const char *list)
{
	char path[128], hex[KEY_HEX_BYTES], why[PKGTABLE_WHY_BYTES];
	struct pkgtable_stats stats;
	uint8_t digest[32];
	int fd;

	cachedir_digest(list, strlen(list), digest);
	key_hex(digest, hex);
	(void)snprintf(path, sizeof(path), "%s", cachedir_below(&cd, "list"));
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, list, strlen(list)), (ssize_t)strlen(list));
	ck_assert_int_eq(pkgtable_build(repo_tables_dirfd(rs), hex, fd, UNPACK_PLAIN, false, 1 << 20,
	    &stats, why, sizeof(why)), REASON_OK);
	(void)close(fd);
	(void)unlink(path);
	ck_assert_int_eq(repo_table_attach(rs, digest), REASON_OK);
}

static void
release_make(const char *path, const char *list, int v, char *out, size_t cap)
{
	char hex[KEY_HEX_BYTES];
	uint8_t digest[32];

	cachedir_digest(list, strlen(list), digest);
	key_hex(digest, hex);
	(void)snprintf(out, cap, "Origin: test\nDate: Sat, 09 Jul 2022 09:%02d:00 UTC\n"
	    "SHA256:\n %s %zu %s\n", v, hex, strlen(list), path);
}

/* A body that is stored for a URL, and for its version. */
static void
version_store(const char *url, const char *body)
{
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	struct object_rec rec;
	struct key key;

	ck_assert_int_eq(cachedir_store(&cd, url, body), REASON_OK);
	cachedir_rec(&rec, url, body, strlen(body));
	cachedir_digest(body, strlen(body), e.digest);
	repo_version_key(slice_of(url), &e, &key);
	index_link(cd.index, &key, &rec, NULL, NULL);
	index_flush(cd.index);
}

static bool
version_is_stored(const char *url, const char *body)
{
	static char text[OBJECT_TEXT_MAX];
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	struct object_rec rec;
	struct key key;

	index_flush(cd.index);
	cachedir_digest(body, strlen(body), e.digest);
	repo_version_key(slice_of(url), &e, &key);
	return index_get_object(cd.view, &key, &rec, text) == REASON_OK;
}

/* Edition v of a root whose one index, at path, names these packages. */
static void
publish(const char *root, const char *path, const char *names, int v, int64_t at_s)
{
	struct repo_new n = {.root = slice_of(root), .has = {[REPO_INRELEASE] = true,
	    [REPO_SIGNATURE] = true}, .adopted_at_s = at_s};
	char list[8192], text[2048], url[512], why[RELEASE_WHY_BYTES];

	list_make(names, v, list, sizeof(list));
	release_make(path, list, v, text, sizeof(text));
	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	version_store(url, text);
	(void)snprintf(url, sizeof(url), "%s%s", root, path);
	version_store(url, list);
	ck_assert_msg(release_parse(&n.release, text, strlen(text), why, sizeof(why)) == REASON_OK,
	    "%s", why);
	cachedir_digest(text, strlen(text), n.digest[REPO_INRELEASE]);
	memset(n.digest[REPO_SIGNATURE], v, 32);
	ck_assert_int_eq(repo_adopt(rs, &n), REASON_OK);
	ck_assert_ptr_null(n.release);
	table_make(list);
}

static void
publish_flat(int v, int64_t at_s)
{
	publish(FLAT, "Packages", v == 1 ? "./a_1.deb x86_64/c_1.deb old_1.deb" :
	    "./a_1.deb x86_64/c_1.deb", v, at_s);
}

/* ---- asking ---- */

static struct repo_answer
ask_as(struct cache_client *client, const char *text, const char *at, int64_t now_ms, int64_t now_s)
{
	struct repo_answer out;
	static char room[8192];
	struct aptfile af;
	struct arena a;
	struct url url;
	struct key key;

	arena_init(&a, room, sizeof(room));
	ck_assert_int_eq(url_parse(&url, &a, slice_of(text)), REASON_OK);
	key_of_url(&url, &key);
	aptfile_classify(&af, (struct slice){url.path.p, strcspn(url.path.p, "?")});
	repo_ask(view, &(struct repo_ask){.url = &url, .key = &key, .af = &af, .client = client,
	    .at = slice_of(at), .now_ms = now_ms, .now_s = now_s}, &out);
	return out;
}

static struct repo_answer
ask(struct cache_client *client, const char *text)
{
	return ask_as(client, text, NULL, clock_mono_ms(), time(NULL));
}

/* Of which edition is the package that is expected? */
static int
edition_of(const struct repo_answer *a, const char *name)
{
	uint8_t digest[32];

	ck_assert_int_eq(a->role, REPO_ROLE_LISTED);
	for (int v = 1; v < 10; v++) {
		package_digest(name, v, digest);
		if (memcmp(digest, a->expect.digest, 32) == 0)
			return v;
	}
	return 0;
}

static int
sees(struct cache_client *client, const char *name)
{
	char url[256];
	struct repo_answer a;

	(void)snprintf(url, sizeof(url), FLAT "%s", name);
	a = ask(client, url);
	return edition_of(&a, strcmp(name, "a_1.deb") == 0 ? "./a_1.deb" : name);
}

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
	publish_flat(1, T0);
	publish(DISTS, "main/binary-amd64/Packages", "pool/main/a/a_1.deb", 1, T0);
	publish("https://n.example/top/", "sub/Packages", "n_1.deb", 1, T0);
	repo_note_root(rs, SLICE("https://n.example/top/sub/"));
	repo_note_root(rs, SLICE("https://u.example/deb/"));
	/* The second time what was remembered answers. */
	for (unsigned i = 0; i < 3 * NELEM(role_rows); i++) {
		unsigned k = i % NELEM(role_rows);
		struct repo_answer a = ask_as(NULL, role_rows[k].url, role_rows[k].at, 1000, T0);

		ck_assert_msg(a.role == role_rows[k].role, "%s: %d", role_rows[k].url, a.role);
		ck_assert_int_eq(a.by_digest, role_rows[k].by_digest);
		if (role_rows[k].package != NULL)
			ck_assert_int_eq(edition_of(&a, role_rows[k].package), 1);
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

	publish(DISTS, "main/binary-amd64/Packages", "pool/a_1.deb", 1, T0);
	publish(DISTS, "main/binary-amd64/Packages", "pool/a_1.deb", 2, T0 + 10);
	for (int v = 1; v <= 2; v++)
		for (unsigned i = 0; i < NELEM(at); i++) {
			list_make("pool/a_1.deb", v, list, sizeof(list));
			cachedir_digest(list, strlen(list), digest);
			key_hex(digest, hex);
			(void)snprintf(url, sizeof(url), DISTS "main/binary-amd64/by-hash/SHA256/%s",
			    hex);
			a = ask_as(NULL, url, at[i], 1000, T0);
			ck_assert_int_eq(a.role, REPO_ROLE_UNLISTED);
			ck_assert(a.by_digest);
			ck_assert_mem_eq(a.expect.digest, digest, 32);
		}
}
END_TEST

/* The client gets a Release: the generation it sees from now on. */
static void
give(struct cache_client *client, int64_t now_ms)
{
	struct repo_answer a = ask(client, FLAT "InRelease");

	ck_assert_int_eq(a.role, REPO_ROLE_RELEASE);
	ck_assert(!a.held);
	repo_note_given(view, client, a.gen, now_ms);
}

START_TEST(selects)
{
	struct cache_client a = {.has_address = true, .address = {1}}, again = a, other = a;
	struct cache_client stranger = {.has_address = true, .address = {2}};
	struct repo_answer r;
	int64_t conflicts_n = counter_read(COUNTER_generation_conflicts_total);
	int64_t now_ms = clock_mono_ms();

	publish_flat(1, T0);
	give(&a, now_ms);
	publish_flat(2, T0 + 10);
	/* The connection, the address, the newest. */
	ck_assert_int_eq(sees(&a, "a_1.deb"), 1);
	ck_assert_int_eq(sees(&again, "a_1.deb"), 1);
	ck_assert_int_eq(sees(&stranger, "a_1.deb"), 2);
	ck_assert_int_eq(sees(NULL, "a_1.deb"), 2);
	r = ask(&a, FLAT "Packages");
	ck_assert(r.held);
	/* What only an older one names. */
	ck_assert_int_eq(sees(NULL, "old_1.deb"), 1);
	ck_assert_int_eq(sees(&stranger, "old_1.deb"), 1);
	/* The Release is the newest, its signature that of the one the client has. */
	r = ask(&a, FLAT "Release.gpg");
	ck_assert_int_eq(r.expect.digest[0], 1);
	ck_assert(r.held);
	r = ask(&stranger, FLAT "Release.gpg");
	ck_assert_int_eq(r.expect.digest[0], 2);
	/* Another container behind the address takes the newer one: the latest counts. */
	ck_assert_int_eq(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	give(&other, now_ms + 1);
	cache_client_fini(&again);
	ck_assert_int_eq(sees(&again, "a_1.deb"), 2);
	ck_assert_int_gt(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	ck_assert_int_eq(sees(&a, "a_1.deb"), 1);
	/* An address is forgotten after a while, a connection is not. */
	cache_client_fini(&again);
	r = ask_as(&again, FLAT "a_1.deb", NULL, now_ms + HOLD_MS + 60000, T0);
	ck_assert_int_eq(edition_of(&r, "./a_1.deb"), 2);
	ck_assert_ptr_null(again.held);
	r = ask_as(&a, FLAT "a_1.deb", NULL, now_ms + HOLD_MS + 60000, T0);
	ck_assert_int_eq(edition_of(&r, "./a_1.deb"), 1);
	give(&a, now_ms);
	ck_assert_int_eq(sees(&a, "a_1.deb"), 2);
	cache_client_fini(&a);
	cache_client_fini(&other);
	cache_client_fini(&stranger);
}
END_TEST

#define POOL "https://d.example/debian/pool/p_1.deb"
#define LATER "https://d.example/debian/dists/later/"

/* Edition v of a suite, which names the pool's package or does not. */
static void
publish_suite(const char *root, bool names, int v, int64_t at_s)
{
	publish(root, "main/binary-amd64/Packages", names ? "pool/p_1.deb pool/q_1.deb" :
	    "pool/q_1.deb", v, at_s);
}

static int
sees_in_pool(struct cache_client *client)
{
	struct repo_answer a = ask(client, POOL);

	return edition_of(&a, "pool/p_1.deb");
}

static void
give_of(struct cache_client *client, const char *root)
{
	char url[128];
	struct repo_answer a;

	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	a = ask(client, url);
	repo_note_given(view, client, a.gen, clock_mono_ms());
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
	give_of(&c, one);
	/* Only the old one names it: then that is its word. */
	publish_suite(one, false, 2, T0 + 10);
	ck_assert_int_eq(sees_in_pool(NULL), 1);
	publish_suite(two, true, 3, T0 + 5);
	conflicts_n = counter_read(COUNTER_generation_conflicts_total);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(sees_in_pool(NULL), 3);
		ck_assert_int_eq(sees_in_pool(&stranger), 3);
		ck_assert_int_eq(sees_in_pool(&c), 1);
		ck_assert_int_eq(sees_in_pool(&again), 1);
	}
	ck_assert_int_eq(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	/* Given both, the latest counts; as of connections, so of addresses. */
	give_of(&c, two);
	ck_assert_int_eq(sees_in_pool(&c), 3);
	ck_assert_int_gt(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
	cache_client_fini(&again);
	ck_assert_int_eq(sees_in_pool(&again), 3);
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
	give_of(&c, one);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(sees_in_pool(&c), 1);
		ck_assert_int_eq(sees_in_pool(NULL), 2);
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

		list_make(v == 0 ? "both.deb same.deb" : "both.deb one.deb", v + 1, lists[v],
		    sizeof(lists[v]));
		cachedir_digest(lists[v], strlen(lists[v]), digest);
		key_hex(digest, hex);
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s %zu %d/Packages\n",
		    hex, strlen(lists[v]), v);
	}
	ck_assert_int_eq(release_parse(&n.release, text, strlen(text), why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_adopt(rs, &n), REASON_OK);
	table_make(lists[0]);
	ck_assert_int_eq(ask(NULL, FLAT "both.deb").role, REPO_ROLE_LISTED);
	table_make(lists[1]);
	ck_assert_int_eq(ask(NULL, FLAT "both.deb").role, REPO_ROLE_UNLISTED);
	ck_assert_int_eq(ask(NULL, FLAT "same.deb").role, REPO_ROLE_LISTED);
	ck_assert_int_eq(ask(NULL, FLAT "one.deb").role, REPO_ROLE_LISTED);
	ck_assert_int_gt(counter_read(COUNTER_generation_conflicts_total), conflicts_n);
}
END_TEST

/* An index that the newest generation does not list any more is still that of a kept one. */
START_TEST(index_of_a_kept_one)
{
	struct repo_answer a;

	publish(DISTS, "main/binary-amd64/Packages", "pool/p_1.deb", 1, T0);
	publish(DISTS, "contrib/binary-amd64/Packages", "pool/p_1.deb", 2, T0 + 10);
	a = ask(NULL, DISTS "main/binary-amd64/Packages");
	ck_assert_int_eq(a.role, REPO_ROLE_LISTED);
	ck_assert(a.held);
	a = ask(NULL, DISTS "contrib/binary-amd64/Packages");
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
	char room[8192];
	struct aptfile af;
	struct arena a;
	struct url url;

	arena_init(&a, room, sizeof(room));
	ck_assert_int_eq(url_parse(&url, &a, slice_of(text)), REASON_OK);
	aptfile_classify(&af, url.path);
	repo_history(view, &url, &af, add_stretch, &all);
	return all;
}

/* Which generations named it, with what, from when to when. */
START_TEST(history)
{
	uint8_t digest[32];
	struct stretches h;

	publish(FLAT, "Packages", "./a_1.deb", 1, T0);
	publish(FLAT, "Packages", "./a_1.deb x.deb", 1, T0 + 10);
	publish(FLAT, "Packages", "./a_1.deb", 2, T0 + 20);
	h = history_of(FLAT "a_1.deb");
	ck_assert_uint_eq(h.n, 2);
	ck_assert_uint_eq(h.v[0].first_seq, 3);
	ck_assert_uint_eq(h.v[0].last_seq, 3);
	ck_assert_int_eq(h.v[0].from_s, T0 + 20);
	ck_assert_int_eq(h.v[0].until_s, INT64_MAX);
	package_digest("./a_1.deb", 2, digest);
	ck_assert_mem_eq(h.v[0].expect.digest, digest, 32);
	ck_assert_uint_eq(h.v[1].first_seq, 1);
	ck_assert_uint_eq(h.v[1].last_seq, 2);
	ck_assert_int_eq(h.v[1].from_s, T0);
	ck_assert_int_eq(h.v[1].until_s, T0 + 20);
	package_digest("./a_1.deb", 1, digest);
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
		publish(root, "Packages", "a_1.deb", 1, T0);
		(void)snprintf(url, sizeof(url), "%sInRelease", root);
		a = ask(&c, url);
		repo_note_given(view, &c, a.gen, 1000);
	}
	ck_assert_uint_eq(c.held->n, REPO_HELD_MAX);
	cache_client_fini(&c);
}
END_TEST

START_TEST(memo_ends_with_epoch)
{
	publish_flat(1, T0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(sees(NULL, "a_1.deb"), 1);
	publish_flat(2, T0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(sees(NULL, "a_1.deb"), 2);
}
END_TEST

static unsigned
count_members(void)
{
	char *paths[REPO_MEMBERS_MAX];
	struct repo_gen *g = repo_current(rs, SLICE(FLAT));
	unsigned n = repo_members(rs, SLICE(FLAT), repo_gen_release(g), paths);

	for (unsigned i = 0; i < n; i++)
		free(paths[i]);
	repo_gen_unref(&g);
	return n;
}

/* Asked for each day, by way of the memo too: it stays in the set. */
START_TEST(memo_ends_with_day)
{
	int64_t now_s = time(NULL);

	publish_flat(1, T0);
	for (int i = 0; i < 4; i++)
		(void)ask_as(NULL, FLAT "Packages", NULL, 1000, now_s - 31 * DAY_S);
	ck_assert_uint_eq(count_members(), 0);
	(void)ask_as(NULL, FLAT "Packages", NULL, 1000, now_s);
	ck_assert_uint_eq(count_members(), 1);
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
	{"", -1}, {"good", -1}, {"2020-9-13", -1}, {"2020-13-01", -1}, {"2020-00-01", -1},
	{"1969-12-31", -1}, {"2020-09-32", -1}, {"+020-09-13", -1}, {"2020-09-13 ", -1},
	{"2020-09-13T", -1}, {"2020-09-13T1:2:3", -1}, {"2020-09-13T1:2:3Z", -1},
	{"2020-09-13T12:26:40", -1}, {"2020-09-13T12:26:40.", -1}, {"2020-09-13T12:26:40.5", -1},
	{"2020-09-13T24:26:40Z", -1}, {"2020-09-13T12:26:40+2:00", -1},
	{"2020-09-13T12:26:40+02:00x", -1}, {"2020-09-13T12:26:40Zx", -1},
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

static int
sees_at(const char *at)
{
	struct repo_answer a = ask_as(NULL, FLAT "a_1.deb", at, 1000, T0);

	return a.role == REPO_ROLE_NO_SUCH_TIME ? 0 : edition_of(&a, "./a_1.deb");
}

START_TEST(time_travel)
{
	struct cache_client c = {.has_address = false};
	char why[512], text[1024], room[512];
	struct repo_answer a;
	struct arena arena;
	struct url url;

	publish_flat(1, T0);			/* 2020-09-13T12:26:40Z */
	publish_flat(2, T0 + 5 * DAY_S);
	publish_flat(3, T0 + 9 * DAY_S);
	ck_assert_int_eq(sees_at("2020-09-12"), 0);
	ck_assert_int_eq(sees_at("2020-09-13"), 1);
	ck_assert_int_eq(sees_at("2020-09-13T12:26:39Z"), 0);
	ck_assert_int_eq(sees_at("2020-09-18T12:26:39Z"), 1);
	ck_assert_int_eq(sees_at("2020-09-18T12:26:40Z"), 2);
	ck_assert_int_eq(sees_at("2030-01-01"), 3);
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT "InRelease"), SLICE("2020-09-18"), SLICE("good"),
	    why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(sees_at("good"), 2);
	/* What the connection holds does not matter; nothing is looked for in other editions. */
	give(&c, 1000);
	a = ask_as(&c, FLAT "old_1.deb", "good", 1000, T0);
	ck_assert_int_eq(a.role, REPO_ROLE_UNLISTED);
	a = ask_as(&c, FLAT "Release.gpg", "good", 1000, T0);
	ck_assert_int_eq(a.expect.digest[0], 2);
	arena_init(&arena, room, sizeof(room));
	ck_assert_int_eq(url_parse(&url, &arena, SLICE(FLAT "a_1.deb")), REASON_OK);
	repo_list_times(view, &url, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "@2020-09-13T12:26:40Z"));
	ck_assert_ptr_nonnull(strstr(text, "@good"));
	repo_list_times(view, &url, text, 60);	/* no room is no harm */
	cache_client_fini(&c);
}
END_TEST

/* ---- what goes and what stays ---- */

struct gens {
	unsigned n;
	uint64_t seqs[16];
	char pins[16][64];
	uint64_t packages_n;
};

static void
gens_add(void *arg, const struct repo_gen_info *info)
{
	struct gens *g = arg;

	ck_assert_uint_lt(g->n, 16);
	ck_assert_int_eq(info->current, g->n == 0);
	g->seqs[g->n] = info->seq;
	(void)snprintf(g->pins[g->n++], 64, "%.60s", info->pins);
	g->packages_n += info->packages_n;
}

static struct gens
gens_of(const char *root)
{
	struct gens g = {.n = 0};

	repo_each_gen(rs, slice_of(root), gens_add, &g);
	return g;
}

static bool
is_known(const char *root)
{
	char url[128];

	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	return ask_as(NULL, url, NULL, 1000, 0).role != REPO_ROLE_NONE;
}

/* Releases take memory: the least used roots go, for what they have. */
START_TEST(memory_is_bounded)
{
	char root[64], why[256];

	publish(FLAT, "Packages", "./a_1.deb", 1, T0);
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("kept"), why, sizeof(why)),
	    REASON_OK);
	ck_assert_uint_gt(rs->memory_bytes, 0);
	memory_max_bytes = 4 * rs->memory_bytes;
	restart();
	ck_assert_uint_eq(rs->memory_bytes, memory_max_bytes / 4);
	repo_note_root(rs, SLICE("https://u.example/deb/"));
	for (int i = 0; i < 20; i++) {
		(void)snprintf(root, sizeof(root), "https://r%02d.example/cuda/", i);
		publish(root, "Packages", "./a_1.deb", 1, T0 + i);
		ck_assert_uint_le(rs->memory_bytes, memory_max_bytes + 128);
	}
	ck_assert(is_known(FLAT));
	ck_assert(is_known("https://u.example/deb/"));
	ck_assert(is_known("https://r19.example/cuda/"));
	ck_assert(is_known("https://r18.example/cuda/"));
	ck_assert(!is_known("https://r15.example/cuda/"));
	ck_assert(!is_known("https://r00.example/cuda/"));
}
END_TEST

/* Starts again with room for so many roots. */
static void
limit_roots(unsigned n)
{
	roots_max = n;
	restart();
}

static void
use(const char *root, int64_t now_s)
{
	char url[128];

	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	(void)ask_as(NULL, url, NULL, 1000, now_s);
}

/* Whoever asks for roots without end loses those; what is used, adopted or pinned stays. */
START_TEST(roots_are_bounded)
{
	int64_t now_s = time(NULL) + 100, forgotten_n, refused_n;
	char root[64], why[256];
	struct cache_client c = {.has_address = true, .address = {1}};

	publish(FLAT, "Packages", "./a_1.deb", 1, T0);
	publish(DISTS, "main/binary-amd64/Packages", "pool/p_1.deb", 1, T0);
	limit_roots(4);
	forgotten_n = counter_read(COUNTER_repositories_forgotten_total);
	refused_n = counter_read(COUNTER_repositories_refused_total);
	for (int i = 0; i < 50; i++) {
		(void)snprintf(root, sizeof(root), "https://r%d.example/", i);
		repo_note_root(rs, slice_of(root));
		ck_assert(is_known(root));
		if (i == 0)
			use(root, now_s);
	}
	/* Of those without a generation the one that was used lately is left, and the newest. */
	ck_assert(is_known("https://r0.example/"));
	ck_assert(is_known("https://r49.example/"));
	ck_assert(!is_known("https://r48.example/"));
	ck_assert(is_known(FLAT));
	ck_assert(is_known(DISTS));
	ck_assert_int_eq(counter_read(COUNTER_repositories_forgotten_total), forgotten_n + 48);
	/* Then those with one; a pinned one never. */
	give_of(&c, DISTS);
	use(DISTS, now_s);
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("kept"), why, sizeof(why)),
	    REASON_OK);
	publish("https://g1.example/", "Packages", "a_1.deb", 1, now_s + 1);
	publish("https://g2.example/", "Packages", "a_1.deb", 1, now_s + 2);
	ck_assert(is_known(DISTS));
	publish("https://g3.example/", "Packages", "a_1.deb", 1, now_s + 3);
	ck_assert(!is_known(DISTS));
	ck_assert(is_known(FLAT));
	/* Who was given it holds nothing of its next life; and its records are gone. */
	ck_assert(c.held->gens[0]->repo->forgotten);
	cache_client_fini(&c);
	restart();
	ck_assert(!is_known(DISTS));
	ck_assert(is_known(FLAT));
	publish(DISTS, "main/binary-amd64/Packages", "pool/p_1.deb", 2, now_s + 4);
	ck_assert_int_eq(sees_in_pool(NULL), 2);
	ck_assert_int_eq(counter_read(COUNTER_repositories_refused_total), refused_n);
	/* Full of pinned ones: no more. */
	limit_roots(1);
	ck_assert(is_known(FLAT));
	repo_note_root(rs, SLICE("https://r50.example/"));
	ck_assert(!is_known("https://r50.example/"));
	ck_assert_int_gt(counter_read(COUNTER_repositories_refused_total), refused_n);
}
END_TEST

START_TEST(expires)
{
	struct cache_client c = {.has_address = true};
	char why[512], list[8192], text[2048];
	struct gens g;

	keep_n = 2;
	restart();
	for (int v = 1; v <= 5; v++) {
		publish_flat(v, T0 + v * 1000);
		if (v == 3)
			give(&c, clock_mono_ms());
	}
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("now"), why, sizeof(why)),
	    REASON_OK);
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE("2020-09-13T12:43:20Z"), SLICE("first"), why,
	    sizeof(why)), REASON_OK);
	/* An address was given the third just now. */
	repo_expire(rs);
	ck_assert_uint_eq(gens_of(FLAT).n, 4);
	clock_test_advance(HOLD_MS + 1000);
	repo_expire(rs);
	g = gens_of(FLAT);
	ck_assert_uint_eq(g.n, 3);
	ck_assert_uint_eq(g.seqs[0], 5);
	ck_assert_uint_eq(g.seqs[1], 4);
	ck_assert_uint_eq(g.seqs[2], 1);
	ck_assert_str_eq(g.pins[0], "now");
	ck_assert_str_eq(g.pins[2], "first");
	/* The connection that was given it goes on with it. */
	ck_assert_int_eq(sees(&c, "a_1.deb"), 3);
	cache_client_fini(&c);
	/* Its Release is forgotten, those of the others are not. */
	for (int v = 1; v <= 5; v++) {
		list_make(v == 1 ? "./a_1.deb x86_64/c_1.deb old_1.deb" :
		    "./a_1.deb x86_64/c_1.deb", v, list, sizeof(list));
		release_make("Packages", list, v, text, sizeof(text));
		ck_assert_int_eq(version_is_stored(FLAT "InRelease", text), v != 2 && v != 3);
	}
	ck_assert_int_eq(sees_at("first"), 1);
	ck_assert_int_eq(repo_unpin(rs, SLICE(FLAT), SLICE("first"), why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_unpin(rs, SLICE(FLAT), SLICE("first"), why, sizeof(why)),
	    REASON_NOT_FOUND);
	repo_expire(rs);
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
	ck_assert_int_eq(sees_at("first"), 0);
	restart();
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
}
END_TEST

/* A publication that came back is not lost with its first time. */
START_TEST(expires_the_first_of_twins)
{
	char list[8192], text[2048];

	keep_n = 2;
	restart();
	publish_flat(2, T0);
	publish_flat(3, T0 + 1000);
	publish_flat(2, T0 + 2000);
	repo_expire(rs);
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
	list_make("./a_1.deb x86_64/c_1.deb", 2, list, sizeof(list));
	release_make("Packages", list, 2, text, sizeof(text));
	ck_assert(version_is_stored(FLAT "InRelease", text));
}
END_TEST

START_TEST(pin_names)
{
	char why[512], name[80];

	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("a"), why, sizeof(why)),
	    REASON_NOT_FOUND);
	publish_flat(1, T0);
	publish_flat(2, T0 + 1000);
	ck_assert_int_ne(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("a/b"), why, sizeof(why)),
	    REASON_OK);
	memset(name, 'x', sizeof(name));
	ck_assert_int_ne(repo_pin(rs, SLICE(FLAT), SLICE_NONE, (struct slice){name, REPO_PIN_BYTES},
	    why, sizeof(why)), REASON_OK);
	/* Without a name: when it was adopted. A name means one generation, and no time. */
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE_NONE, why, sizeof(why)),
	    REASON_OK);
	ck_assert_str_eq(gens_of(FLAT).pins[0], "2020-09-13T12:43:20Z");
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("b"), why, sizeof(why)),
	    REASON_OK);
	ck_assert_int_ne(repo_pin(rs, SLICE(FLAT), SLICE("2020-09-13T12:26:40Z"), SLICE("b"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_ne(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("2020-01-01"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_unpin(rs, SLICE(FLAT), SLICE("b"), why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE("2020-09-13T12:26:40Z"), SLICE("b"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_eq(sees_at("b"), 1);
	for (unsigned i = 1; i < REPO_PINS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, slice_of(name), why,
		    sizeof(why)), REASON_OK);
	}
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("more"), why, sizeof(why)),
	    REASON_LOCKED);
	restart();
	ck_assert_int_eq(sees_at("n3"), 2);
	ck_assert_int_eq(sees_at("b"), 1);
}
END_TEST

/* ---- restarts ---- */

START_TEST(survives_restart)
{
	uint8_t digest[32] = {9};
	struct repo_gen *g;

	publish_flat(1, T0);
	publish_flat(2, T0 + 1000);
	publish(DISTS, "main/binary-amd64/Packages", "pool/a_1.deb", 1, T0);
	(void)ask(NULL, FLAT "Packages");
	g = repo_current(rs, SLICE(FLAT));
	ck_assert_int_eq(repo_attach_file(rs, g, REPO_RELEASE, digest), REASON_OK);
	repo_gen_unref(&g);
	restart();
	ck_assert_int_eq(sees(NULL, "a_1.deb"), 2);
	ck_assert_int_eq(sees(NULL, "old_1.deb"), 1);
	ck_assert_uint_eq(count_members(), 1);
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
	ck_assert_uint_eq(gens_of(DISTS).packages_n, 1);
	ck_assert_int_eq(ask(NULL, FLAT "Release").expect.digest[0], 9);
	ck_assert_int_eq(ask(NULL, FLAT "Release.gpg").expect.digest[0], 2);
	/* Numbers go on. */
	publish_flat(3, T0 + 2000);
	ck_assert_uint_eq(gens_of(FLAT).seqs[0], 3);
}
END_TEST

/* Where the body of edition v's Release lies. */
static const char *
release_path(int v)
{
	char list[8192], text[2048], hex[KEY_HEX_BYTES], below[128];
	uint8_t digest[32];

	list_make("./a_1.deb x86_64/c_1.deb", v, list, sizeof(list));
	release_make("Packages", list, v, text, sizeof(text));
	cachedir_digest(text, strlen(text), digest);
	key_hex(digest, hex);
	(void)snprintf(below, sizeof(below), "blobs/%.2s/%s", hex, hex);
	return cachedir_below(&cd, below);
}

/* The newest Release is gone, or has other bytes that look as good: the one before is current. */
START_TEST(survives_lost_release)
{
	int fd;

	publish_flat(2, T0);
	publish_flat(3, T0 + 1000);
	if (_i == 0)
		ck_assert_int_eq(unlink(release_path(3)), 0);
	else {
		fd = open(release_path(3), O_RDWR | O_CLOEXEC);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(pwrite(fd, "f", 1, 66), 1);	/* in the digest */
		(void)close(fd);
	}
	restart();
	ck_assert_uint_eq(gens_of(FLAT).n, 1);
	ck_assert_int_eq(sees(NULL, "a_1.deb"), 2);
	publish_flat(4, T0 + 2000);
	ck_assert_int_eq(sees(NULL, "a_1.deb"), 4);
	restart();
	ck_assert_int_eq(sees(NULL, "a_1.deb"), 4);
}
END_TEST

/* Records that are none of ours, or say nonsense in good form. */
START_TEST(survives_damaged_records)
{
	static const struct {
		const char *root;
		uint16_t version;
	} rows[] = {{"", 1}, {"x", 1}, {"https://h.example/a", 1}, {"/", 1}, {FLAT "b/", 77}};
	uint8_t out[256], key[KEY_BYTES + 8];
	char *p = (char *)out + RECORD_HEAD_BYTES;
	uint16_t n;

	publish_flat(2, T0);
	for (unsigned i = 0; i < NELEM(rows); i++) {
		memset(key, (int)i + 1, sizeof(key));
		n = (uint16_t)strlen(rows[i].root);
		memcpy(p, &rows[i].version, 2);
		memcpy(p + 2, &n, 2);
		memcpy(p + 4, rows[i].root, n);
		index_put_repo(cd.index, key, KEY_BYTES, out,
		    record_repo_seal(out, 4u + n, key, KEY_BYTES), NULL, NULL);
		/* One of a generation that is cut off, of a root that is not there. */
		index_put_repo(cd.index, key, sizeof(key), out,
		    record_repo_seal(out, 3, key, sizeof(key)), NULL, NULL);
		key[0] ^= 0x80;
		index_put_repo(cd.index, key, KEY_BYTES - i, "rubbish", 7, NULL, NULL);
	}
	restart();
	ck_assert_int_eq(sees(NULL, "a_1.deb"), 2);
	ck_assert_uint_eq(gens_of("").n, 1);
}
END_TEST

static unsigned missing_n;

static void
count_missing(void *arg, const uint8_t sha256[32])
{
	(void)arg;
	(void)sha256;
	missing_n++;
}

/* A damaged table is none, and can be made again from its index. */
START_TEST(survives_damaged_table)
{
	char list[8192], hex[KEY_HEX_BYTES], below[128], path[1024];
	uint64_t size_bytes = 0;
	uint8_t digest[32];

	publish_flat(2, T0);
	list_make("./a_1.deb x86_64/c_1.deb", 2, list, sizeof(list));
	cachedir_digest(list, strlen(list), digest);
	key_hex(digest, hex);
	(void)snprintf(below, sizeof(below), "tables/%s", hex);
	ck_assert(!repo_table_wanted(rs, digest, path, &size_bytes));
	ck_assert_int_eq(truncate(cachedir_below(&cd, below), 50), 0);
	ck_assert_int_eq(close(open(cachedir_below(&cd, "tables/stranger"), O_CREAT | O_WRONLY |
	    O_CLOEXEC, 0600)), 0);
	restart();
	ck_assert_int_ne(access(cachedir_below(&cd, "tables/stranger"), F_OK), 0);
	ck_assert_int_eq(ask(NULL, FLAT "a_1.deb").role, REPO_ROLE_UNLISTED);
	missing_n = 0;
	repo_each_missing_table(rs, count_missing, NULL);
	ck_assert_uint_eq(missing_n, 1);
	ck_assert(repo_table_wanted(rs, digest, path, &size_bytes));
	ck_assert_str_eq(path, "Packages");
	ck_assert_uint_eq(size_bytes, strlen(list));
	table_make(list);
	ck_assert_int_eq(sees(NULL, "a_1.deb"), 2);
	digest[0] ^= 1;
	ck_assert(!repo_table_wanted(rs, digest, path, &size_bytes));
}
END_TEST

/* ---- the rest ---- */

START_TEST(version_keys)
{
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = 1}, e2 = e, e512 = e;
	uint8_t text[128] = FLAT "a_1.deb#sha256=";
	struct key a, b, plain;
	size_t n = strlen((char *)text);

	memset(e.digest, 7, 32);
	e2.digest[0] = e512.digest[0] = 8;
	e512.hash = APTFILE_SHA512;
	memcpy(text + n, e.digest, 32);
	cachedir_digest(text, n + 32, plain.b);
	repo_version_key(SLICE(FLAT "a_1.deb"), &e, &a);
	ck_assert_mem_eq(&a, &plain, sizeof(a));
	repo_version_key(SLICE(FLAT "a_2.deb"), &e, &b);
	ck_assert_mem_ne(&a, &b, sizeof(a));
	repo_version_key(SLICE(FLAT "a_1.deb"), &e2, &a);
	repo_version_key(SLICE(FLAT "a_1.deb"), &e512, &b);
	ck_assert_mem_ne(&a, &b, sizeof(a));
	cachedir_key(FLAT "a_1.deb", &plain);
	ck_assert_mem_ne(&a, &plain, sizeof(a));
}
END_TEST

static enum repo_keeping
keeping_of(const char *name, int v)
{
	struct repo_keep *k = repo_keep_new(rs);
	enum repo_keeping keeping;
	uint8_t digest[32];

	ck_assert_ptr_nonnull(k);
	package_digest(name, v, digest);
	keeping = repo_keep_find(k, digest);
	repo_keep_free(&k);
	return keeping;
}

START_TEST(keeps)
{
	char list[8192], why[512];
	struct repo_keep *k;
	uint8_t digest[32];

	publish_flat(2, T0);
	publish_flat(3, T0 + 1000);
	ck_assert_int_eq(keeping_of("./a_1.deb", 2), REPO_KEEP_NO);
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE("2020-09-13T12:26:40Z"), SLICE("x"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_eq(keeping_of("./a_1.deb", 2), REPO_KEEP_PINNED);
	ck_assert_int_eq(keeping_of("./a_1.deb", 3), REPO_KEEP_NO);
	k = repo_keep_new(rs);
	list_make("./a_1.deb x86_64/c_1.deb", 3, list, sizeof(list));
	cachedir_digest(list, strlen(list), digest);
	ck_assert_int_eq(repo_keep_find(k, digest), REPO_KEEP_LONG);
	list_make("./a_1.deb x86_64/c_1.deb", 2, list, sizeof(list));
	cachedir_digest(list, strlen(list), digest);
	ck_assert_int_eq(repo_keep_find(k, digest), REPO_KEEP_PINNED);
	repo_keep_free(&k);
}
END_TEST

/* A package whose index came after its request, for whoever has no view. */
START_TEST(expects_late)
{
	struct flight_expect e;
	struct aptfile af;
	char room[512];
	uint8_t want[32];
	struct arena a;
	struct url url;

	arena_init(&a, room, sizeof(room));
	ck_assert_int_eq(url_parse(&url, &a, SLICE(FLAT "a_1.deb")), REASON_OK);
	aptfile_classify(&af, url.path);
	ck_assert(!repo_late_expect(rs, &url, &af, &e));
	publish_flat(2, T0);
	ck_assert(repo_late_expect(rs, &url, &af, &e));
	package_digest("./a_1.deb", 2, want);
	ck_assert_mem_eq(e.digest, want, 32);
	ck_assert_int_eq(e.size_bytes, 7);
}
END_TEST

/* ---- many threads ---- */

static atomic_bool stop;

/* A digest is one of those that were attached, never half of each. */
static void *
read_digests(void *arg)
{
	struct repo_gen *g = arg;
	uint8_t digest[32];

	while (!atomic_load(&stop))
		if (repo_gen_digest(g, REPO_RELEASE, digest))
			for (unsigned i = 1; i < 32; i++)
				if (digest[i] != digest[0])
					return arg;
	return NULL;
}

START_TEST(digests_are_whole)
{
	struct repo_gen *g;
	pthread_t thread;
	uint8_t digest[32];
	char why[512];
	void *torn;

	publish_flat(2, T0);
	g = repo_current(rs, SLICE(FLAT));
	ck_assert_int_eq(pthread_create(&thread, NULL, read_digests, g), 0);
	for (int i = 0; i < 20; i++) {
		memset(digest, i, sizeof(digest));
		ck_assert_int_eq(repo_attach_file(rs, g, REPO_RELEASE, digest), REASON_OK);
	}
	atomic_store(&stop, true);
	ck_assert_int_eq(pthread_join(thread, &torn), 0);
	ck_assert_ptr_null(torn);
	ck_assert_int_eq(repo_pin(rs, SLICE(FLAT), SLICE_NONE, SLICE("x"), why, sizeof(why)),
	    REASON_OK);
	repo_gen_unref(&g);
	restart();
	ck_assert_int_eq(sees_at("x"), 2);
	ck_assert_int_eq(ask(NULL, FLAT "Release").expect.digest[0], 19);
}
END_TEST

Suite *
check_repo_suite(void)
{
	Suite *s = suite_create("repo");
	TCase *t = tcase_create("repo"), *pure = tcase_create("times");

	tcase_add_checked_fixture(t, setup, teardown);
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
	tcase_add_test(t, roots_are_bounded);
	tcase_add_test(t, memory_is_bounded);
	tcase_add_test(t, expires);
	tcase_add_test(t, expires_the_first_of_twins);
	tcase_add_test(t, pin_names);
	tcase_add_test(t, survives_restart);
	tcase_add_loop_test(t, survives_lost_release, 0, 2);
	tcase_add_test(t, survives_damaged_records);
	tcase_add_test(t, survives_damaged_table);
	tcase_add_test(t, version_keys);
	tcase_add_test(t, keeps);
	tcase_add_test(t, expects_late);
	tcase_add_test(t, digests_are_whole);
	suite_add_tcase(s, t);
	tcase_add_loop_test(pure, times, 0, (int)NELEM(time_rows));
	suite_add_tcase(s, pure);
	return s;
}
