/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Repositories: what goes and what stays of them, and what is left after a
 * restart or in a damaged cache directory.
 */
#include "tests/support/repofix.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cache/record.h"
#include "include/clock.h"
#include "include/counter.h"

Suite *check_repo_suite(void);

/* ---- what goes and what stays ---- */

struct gens {
	unsigned n;
	uint64_t seqs[128];
	char pins[128][64];
	uint64_t packages_n;
};

static void
gens_add(void *arg, const struct repo_gen_info *info)
{
	struct gens *g = arg;

	ck_assert_uint_lt(g->n, NELEM(g->seqs));
	ck_assert_int_eq(info->current, g->n == 0);
	g->seqs[g->n] = info->seq;
	(void)snprintf(g->pins[g->n++], 64, "%.60s", info->pins);
	g->packages_n += info->packages_n;
}

static struct gens
gens_of(const char *root)
{
	struct gens g = {.n = 0};

	repo_each_gen(repofix.rs, slice_of(root), gens_add, &g);
	return g;
}

static bool
is_known(const char *root)
{
	char url[128];

	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	return repofix_ask_as(NULL, url, NULL, 1000, 0).role != REPO_ROLE_NONE;
}

/* Releases take memory: the least used roots go, for what they have. */
START_TEST(memory_is_bounded)
{
	char root[64], why[256];

	repofix_publish(FLAT, "Packages", "./a_1.deb", 1, T0);
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("kept"), why, sizeof(why)),
	    REASON_OK);
	ck_assert_uint_gt(repofix.rs->memory_bytes, 0);
	repofix.memory_max_bytes = 4 * repofix.rs->memory_bytes;
	repofix_restart();
	ck_assert_uint_eq(repofix.rs->memory_bytes, repofix.memory_max_bytes / 4);
	repo_note_root(repofix.rs, SLICE("https://u.example/deb/"));
	for (int i = 0; i < 20; i++) {
		(void)snprintf(root, sizeof(root), "https://r%02d.example/cuda/", i);
		repofix_publish(root, "Packages", "./a_1.deb", 1, T0 + i);
		ck_assert_uint_le(repofix.rs->memory_bytes, repofix.memory_max_bytes + 128);
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
	repofix.roots_max = n;
	repofix_restart();
}

static void
use(const char *root, int64_t now_s)
{
	char url[128];

	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	(void)repofix_ask_as(NULL, url, NULL, 1000, now_s);
}

/* Whoever asks for roots without end loses those; what is used, adopted or pinned stays. */
START_TEST(roots_are_bounded)
{
	int64_t now_s = time(NULL) + 100, forgotten_n, refused_n;
	char root[64], why[256];
	struct cache_client c = {.has_address = true, .address = {1}};

	repofix_publish(FLAT, "Packages", "./a_1.deb", 1, T0);
	repofix_publish(DISTS, "main/binary-amd64/Packages", "pool/p_1.deb", 1, T0);
	limit_roots(4);
	forgotten_n = counter_read(COUNTER_repositories_forgotten_total);
	refused_n = counter_read(COUNTER_repositories_refused_total);
	for (int i = 0; i < 50; i++) {
		(void)snprintf(root, sizeof(root), "https://r%d.example/", i);
		repo_note_root(repofix.rs, slice_of(root));
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
	repofix_give(&c, DISTS, clock_mono_ms());
	use(DISTS, now_s);
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("kept"), why, sizeof(why)),
	    REASON_OK);
	repofix_publish("https://g1.example/", "Packages", "a_1.deb", 1, now_s + 1);
	repofix_publish("https://g2.example/", "Packages", "a_1.deb", 1, now_s + 2);
	ck_assert(is_known(DISTS));
	repofix_publish("https://g3.example/", "Packages", "a_1.deb", 1, now_s + 3);
	ck_assert(!is_known(DISTS));
	ck_assert(is_known(FLAT));
	/* Who was given it holds nothing of its next life; and its records are gone. */
	ck_assert(c.held->gens[0]->repo->forgotten);
	cache_client_fini(&c);
	repofix_restart();
	ck_assert(!is_known(DISTS));
	ck_assert(is_known(FLAT));
	repofix_publish(DISTS, "main/binary-amd64/Packages", "pool/p_1.deb", 2, now_s + 4);
	ck_assert_int_eq(repofix_sees_in_pool(NULL), 2);
	ck_assert_int_eq(counter_read(COUNTER_repositories_refused_total), refused_n);
	/* Full of pinned ones: no more. */
	limit_roots(1);
	ck_assert(is_known(FLAT));
	repo_note_root(repofix.rs, SLICE("https://r50.example/"));
	ck_assert(!is_known("https://r50.example/"));
	ck_assert_int_gt(counter_read(COUNTER_repositories_refused_total), refused_n);
}
END_TEST

START_TEST(expires)
{
	struct cache_client c = {.has_address = true};
	char why[512], list[8192], text[2048];
	struct gens g;

	repofix.keep_n = 2;
	repofix_restart();
	for (int v = 1; v <= 5; v++) {
		repofix_publish_flat(v, T0 + v * 1000);
		if (v == 3)
			repofix_give(&c, FLAT, clock_mono_ms());
	}
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("now"), why, sizeof(why)),
	    REASON_OK);
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE("2020-09-13T12:43:20Z"), SLICE("first"), why,
	    sizeof(why)), REASON_OK);
	/* An address was given the third just now. */
	repo_expire(repofix.rs);
	ck_assert_uint_eq(gens_of(FLAT).n, 4);
	clock_test_advance(HOLD_MS + 1000);
	repo_expire(repofix.rs);
	/* The connection that was given it goes on with it, and its files are kept for it. */
	ck_assert_uint_eq(gens_of(FLAT).n, 4);
	ck_assert_int_eq(repofix_sees(&c, "a_1.deb"), 3);
	repofix_list("./a_1.deb x86_64/c_1.deb", 3, list, sizeof(list));
	repofix_release("Packages", list, 3, text, sizeof(text));
	ck_assert(repofix_is_stored(FLAT "InRelease", text));
	cache_client_fini(&c);
	repo_expire(repofix.rs);
	g = gens_of(FLAT);
	ck_assert_uint_eq(g.n, 3);
	ck_assert_uint_eq(g.seqs[0], 5);
	ck_assert_uint_eq(g.seqs[1], 4);
	ck_assert_uint_eq(g.seqs[2], 1);
	ck_assert_str_eq(g.pins[0], "now");
	ck_assert_str_eq(g.pins[2], "first");
	/* Its Release is forgotten, those of the others are not. */
	for (int v = 1; v <= 5; v++) {
		repofix_list(v == 1 ? "./a_1.deb x86_64/c_1.deb old_1.deb" :
		    "./a_1.deb x86_64/c_1.deb", v, list, sizeof(list));
		repofix_release("Packages", list, v, text, sizeof(text));
		ck_assert_int_eq(repofix_is_stored(FLAT "InRelease", text), v != 2 && v != 3);
	}
	ck_assert_int_eq(repofix_sees_at("first"), 1);
	ck_assert_int_eq(repo_unpin(repofix.rs, SLICE(FLAT), SLICE("first"), why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_unpin(repofix.rs, SLICE(FLAT), SLICE("first"), why, sizeof(why)),
	    REASON_NOT_FOUND);
	repo_expire(repofix.rs);
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
	ck_assert_int_eq(repofix_sees_at("first"), 0);
	repofix_restart();
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
}
END_TEST

/* A connection for each of very many publications: some of those generations are kept. */
START_TEST(connections_keep_few)
{
	struct cache_client c[REPO_HELD_GENS_MAX + 8];

	memset(c, 0, sizeof(c));
	repofix.keep_n = 2;
	repofix_restart();
	for (unsigned i = 0; i < NELEM(c); i++) {
		repofix_publish_flat((int)i + 1, T0 + i * 10);
		repofix_give(&c[i], FLAT, clock_mono_ms());
	}
	repo_expire(repofix.rs);
	ck_assert_uint_eq(gens_of(FLAT).n, REPO_HELD_GENS_MAX + 2);
	for (unsigned i = 0; i < NELEM(c); i++)
		cache_client_fini(&c[i]);
	repo_expire(repofix.rs);
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
}
END_TEST

/* A publication that came back is not lost with its first time. */
START_TEST(expires_the_first_of_twins)
{
	char list[8192], text[2048];

	repofix.keep_n = 2;
	repofix_restart();
	repofix_publish_flat(2, T0);
	repofix_publish_flat(3, T0 + 1000);
	repofix_publish_flat(2, T0 + 2000);
	repo_expire(repofix.rs);
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
	repofix_list("./a_1.deb x86_64/c_1.deb", 2, list, sizeof(list));
	repofix_release("Packages", list, 2, text, sizeof(text));
	ck_assert(repofix_is_stored(FLAT "InRelease", text));
}
END_TEST

START_TEST(pin_names)
{
	char why[512], name[80];

	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("a"), why, sizeof(why)),
	    REASON_NOT_FOUND);
	repofix_publish_flat(1, T0);
	repofix_publish_flat(2, T0 + 1000);
	ck_assert_int_ne(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("a/b"), why, sizeof(why)),
	    REASON_OK);
	memset(name, 'x', sizeof(name));
	ck_assert_int_ne(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, (struct slice){name, REPO_PIN_BYTES},
	    why, sizeof(why)), REASON_OK);
	/* Without a name: when it was adopted. A name means one generation, and no time. */
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE_NONE, why, sizeof(why)),
	    REASON_OK);
	ck_assert_str_eq(gens_of(FLAT).pins[0], "2020-09-13T12:43:20Z");
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("b"), why, sizeof(why)),
	    REASON_OK);
	ck_assert_int_ne(repo_pin(repofix.rs, SLICE(FLAT), SLICE("2020-09-13T12:26:40Z"), SLICE("b"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_ne(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("2020-01-01"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_unpin(repofix.rs, SLICE(FLAT), SLICE("b"), why, sizeof(why)), REASON_OK);
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE("2020-09-13T12:26:40Z"), SLICE("b"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_eq(repofix_sees_at("b"), 1);
	for (unsigned i = 1; i < REPO_PINS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, slice_of(name), why,
		    sizeof(why)), REASON_OK);
	}
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("more"), why, sizeof(why)),
	    REASON_LOCKED);
	repofix_restart();
	ck_assert_int_eq(repofix_sees_at("n3"), 2);
	ck_assert_int_eq(repofix_sees_at("b"), 1);
}
END_TEST

/* ---- restarts ---- */

START_TEST(survives_restart)
{
	uint8_t digest[32] = {9};
	struct repo_gen *g;

	repofix_publish_flat(1, T0);
	repofix_publish_flat(2, T0 + 1000);
	repofix_publish(DISTS, "main/binary-amd64/Packages", "pool/a_1.deb", 1, T0);
	(void)repofix_ask(NULL, FLAT "Packages");
	g = repo_current(repofix.rs, SLICE(FLAT));
	ck_assert_int_eq(repo_attach_file(repofix.rs, g, REPO_RELEASE, digest), REASON_OK);
	repo_gen_unref(&g);
	repofix_restart();
	ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 2);
	ck_assert_int_eq(repofix_sees(NULL, "old_1.deb"), 1);
	ck_assert_uint_eq(repofix_members_n(), 1);
	ck_assert_uint_eq(gens_of(FLAT).n, 2);
	ck_assert_uint_eq(gens_of(DISTS).packages_n, 1);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "Release").expect.digest[0], 9);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "Release.gpg").expect.digest[0], 2);
	/* Numbers go on. */
	repofix_publish_flat(3, T0 + 2000);
	ck_assert_uint_eq(gens_of(FLAT).seqs[0], 3);
}
END_TEST

/* Where the body of edition v's Release lies. */
static const char *
release_path(int v)
{
	char list[8192], text[2048], hex[KEY_HEX_BYTES], below[128];
	uint8_t digest[32];

	repofix_list("./a_1.deb x86_64/c_1.deb", v, list, sizeof(list));
	repofix_release("Packages", list, v, text, sizeof(text));
	cachedir_digest(text, strlen(text), digest);
	key_hex(digest, hex);
	(void)snprintf(below, sizeof(below), "blobs/%.2s/%s", hex, hex);
	return cachedir_below(&repofix.cd, below);
}

/* The newest Release is gone, or has other bytes that look as good: the one before is current. */
START_TEST(survives_lost_release)
{
	int fd;

	repofix_publish_flat(2, T0);
	repofix_publish_flat(3, T0 + 1000);
	if (_i == 0)
		ck_assert_int_eq(unlink(release_path(3)), 0);
	else {
		fd = open(release_path(3), O_RDWR | O_CLOEXEC);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(pwrite(fd, "f", 1, 66), 1);	/* in the digest */
		(void)close(fd);
	}
	repofix_restart();
	ck_assert_uint_eq(gens_of(FLAT).n, 1);
	ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 2);
	repofix_publish_flat(4, T0 + 2000);
	ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 4);
	repofix_restart();
	ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 4);
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

	repofix_publish_flat(2, T0);
	for (unsigned i = 0; i < NELEM(rows); i++) {
		memset(key, (int)i + 1, sizeof(key));
		n = (uint16_t)strlen(rows[i].root);
		memcpy(p, &rows[i].version, 2);
		memcpy(p + 2, &n, 2);
		memcpy(p + 4, rows[i].root, n);
		index_put_repo(repofix.cd.index, key, KEY_BYTES, out,
		    record_repo_seal(out, 4u + n, key, KEY_BYTES), NULL, NULL);
		/* One of a generation that is cut off, of a root that is not there. */
		index_put_repo(repofix.cd.index, key, sizeof(key), out,
		    record_repo_seal(out, 3, key, sizeof(key)), NULL, NULL);
		key[0] ^= 0x80;
		index_put_repo(repofix.cd.index, key, KEY_BYTES - i, "rubbish", 7, NULL, NULL);
	}
	repofix_restart();
	ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 2);
	ck_assert_uint_eq(gens_of("").n, 1);
}
END_TEST

static unsigned missing_n;

static void
count_missing(void *arg, struct slice root, const uint8_t sha256[32])
{
	(void)arg;
	(void)root;
	(void)sha256;
	missing_n++;
}

/* A damaged table is none, and can be made again from its index. */
START_TEST(survives_damaged_table)
{
	char list[8192], hex[KEY_HEX_BYTES], below[128], path[1024];
	uint64_t size_bytes = 0;
	uint8_t digest[32];

	repofix_publish_flat(2, T0);
	repofix_list("./a_1.deb x86_64/c_1.deb", 2, list, sizeof(list));
	cachedir_digest(list, strlen(list), digest);
	key_hex(digest, hex);
	(void)snprintf(below, sizeof(below), "tables/%s", hex);
	ck_assert(!repo_table_wanted(repofix.rs, digest, path, &size_bytes));
	ck_assert_int_eq(truncate(cachedir_below(&repofix.cd, below), 50), 0);
	ck_assert_int_eq(close(open(cachedir_below(&repofix.cd, "tables/stranger"), O_CREAT | O_WRONLY |
	    O_CLOEXEC, 0600)), 0);
	repofix_restart();
	ck_assert_int_ne(access(cachedir_below(&repofix.cd, "tables/stranger"), F_OK), 0);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "a_1.deb").role, REPO_ROLE_UNLISTED);
	missing_n = 0;
	repo_each_missing_table(repofix.rs, count_missing, NULL);
	ck_assert_uint_eq(missing_n, 1);
	ck_assert(repo_table_wanted(repofix.rs, digest, path, &size_bytes));
	ck_assert_str_eq(path, "Packages");
	ck_assert_uint_eq(size_bytes, strlen(list));
	repofix_table(list);
	ck_assert_int_eq(repofix_sees(NULL, "a_1.deb"), 2);
	digest[0] ^= 1;
	ck_assert(!repo_table_wanted(repofix.rs, digest, path, &size_bytes));
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
	struct repo_keep *k = repo_keep_new(repofix.rs);
	enum repo_keeping keeping;
	uint8_t digest[32];

	ck_assert_ptr_nonnull(k);
	repofix_digest(name, v, digest);
	keeping = repo_keep_find(k, digest);
	repo_keep_free(&k);
	return keeping;
}

START_TEST(keeps)
{
	char list[8192], why[512];
	struct repo_keep *k;
	uint8_t digest[32];

	repofix_publish_flat(2, T0);
	repofix_publish_flat(3, T0 + 1000);
	ck_assert_int_eq(keeping_of("./a_1.deb", 2), REPO_KEEP_NO);
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE("2020-09-13T12:26:40Z"), SLICE("x"), why,
	    sizeof(why)), REASON_OK);
	ck_assert_int_eq(keeping_of("./a_1.deb", 2), REPO_KEEP_PINNED);
	ck_assert_int_eq(keeping_of("./a_1.deb", 3), REPO_KEEP_NO);
	k = repo_keep_new(repofix.rs);
	repofix_list("./a_1.deb x86_64/c_1.deb", 3, list, sizeof(list));
	cachedir_digest(list, strlen(list), digest);
	ck_assert_int_eq(repo_keep_find(k, digest), REPO_KEEP_LONG);
	repofix_list("./a_1.deb x86_64/c_1.deb", 2, list, sizeof(list));
	cachedir_digest(list, strlen(list), digest);
	ck_assert_int_eq(repo_keep_find(k, digest), REPO_KEEP_PINNED);
	repo_keep_free(&k);
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

	repofix_publish_flat(2, T0);
	g = repo_current(repofix.rs, SLICE(FLAT));
	ck_assert_int_eq(pthread_create(&thread, NULL, read_digests, g), 0);
	for (int i = 0; i < 20; i++) {
		memset(digest, i, sizeof(digest));
		ck_assert_int_eq(repo_attach_file(repofix.rs, g, REPO_RELEASE, digest), REASON_OK);
	}
	atomic_store(&stop, true);
	ck_assert_int_eq(pthread_join(thread, &torn), 0);
	ck_assert_ptr_null(torn);
	ck_assert_int_eq(repo_pin(repofix.rs, SLICE(FLAT), SLICE_NONE, SLICE("x"), why, sizeof(why)),
	    REASON_OK);
	repo_gen_unref(&g);
	repofix_restart();
	ck_assert_int_eq(repofix_sees_at("x"), 2);
	ck_assert_int_eq(repofix_ask(NULL, FLAT "Release").expect.digest[0], 19);
}
END_TEST

/* What a generation lists and upstream has not is waited for once, then seldomer each time. */
START_TEST(missing_indexes_are_waited_for_once)
{
	static const struct {
		int64_t now_ms, until_ms;
	} looks[] = {
		{1000, 4000},			/* a first visit's 3 s, whatever the configuration says */
		{3999, 4000}, {9000, 4000},	/* the same for every file */
		{63999, 4000},
		{64000, 67000},			/* a minute later once more, two minutes later again */
		{186999, 67000}, {187000, 190000},
	};
	struct repo_gen *first, *second;

	repofix_publish_flat(1, T0);
	first = repo_current(repofix.rs, SLICE(FLAT));
	ck_assert_int_eq(repo_gen_wait(first, 2000, 1000), 4000);
	repo_gen_unref(&first);
	repofix_publish(DISTS, "main/binary-amd64/Packages", "p", 1, T0);
	first = repo_current(repofix.rs, SLICE(DISTS));
	for (size_t i = 0; i < NELEM(looks); i++)
		ck_assert_int_eq(repo_gen_wait(first, 2000, looks[i].now_ms), looks[i].until_ms);
	repofix_publish(DISTS, "main/binary-amd64/Packages", "p", 2, T0);
	second = repo_current(repofix.rs, SLICE(DISTS));
	ck_assert_int_eq(repo_gen_wait(second, 2000, 5000), 7000);
	ck_assert_int_eq(repo_gen_wait(first, 2000, 999000), 0);
	repo_gen_unref(&first);
	repo_gen_unref(&second);
}
END_TEST

Suite *
check_repo_suite(void)
{
	Suite *s = suite_create("repo");
	TCase *t = tcase_create("repo");

	tcase_add_checked_fixture(t, repofix_setup, repofix_teardown);
	tcase_add_test(t, roots_are_bounded);
	tcase_add_test(t, memory_is_bounded);
	tcase_add_test(t, expires);
	tcase_add_test(t, connections_keep_few);
	tcase_add_test(t, expires_the_first_of_twins);
	tcase_add_test(t, pin_names);
	tcase_add_test(t, survives_restart);
	tcase_add_loop_test(t, survives_lost_release, 0, 2);
	tcase_add_test(t, survives_damaged_records);
	tcase_add_test(t, survives_damaged_table);
	tcase_add_test(t, version_keys);
	tcase_add_test(t, keeps);
	tcase_add_test(t, digests_are_whole);
	tcase_add_test(t, missing_indexes_are_waited_for_once);
	suite_add_tcase(s, t);
	return s;
}
