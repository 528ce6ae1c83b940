/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* See repofix.h. */
#include "tests/support/repofix.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "include/clock.h"
#include "tests/support/target.h"

struct repofix repofix;

void
repofix_start(void)
{
	const struct repos_conf conf = {.index = repofix.cd.index, .blobs = repofix.cd.blobs,
	    .dir = repofix.cd.dir, .keep_n = repofix.keep_n, .hold_ms = HOLD_MS,
	    .roots_max = repofix.roots_max, .memory_max_bytes = repofix.memory_max_bytes};

	ck_assert_int_eq(repos_open(&repofix.rs, &conf), REASON_OK);
	repofix.view = repo_view_open(repofix.rs);
	ck_assert_ptr_nonnull(repofix.view);
}

void
repofix_end(void)
{
	repo_view_close(&repofix.view);
	repos_close(&repofix.rs);
}

void
repofix_setup(void)
{
	repofix.keep_n = 3;
	repofix.roots_max = 0;
	repofix.memory_max_bytes = 0;
	cachedir_make(&repofix.cd);
	cachedir_open(&repofix.cd);
	repofix_start();
}

void
repofix_teardown(void)
{
	repofix_end();
	cachedir_remove(&repofix.cd);
}

void
repofix_restart(void)
{
	repofix_end();
	cachedir_close(&repofix.cd);
	cachedir_open(&repofix.cd);
	repofix_start();
}

void
repofix_digest(const char *name, int v, uint8_t digest[32])
{
	char text[256];

	(void)snprintf(text, sizeof(text), "%s of %d", name, v);
	cachedir_digest(text, strlen(text), digest);
}

void
repofix_list(const char *names, int v, char *out, size_t cap)
{
	size_t n = 0;

	for (const char *p = names, *end; *p != '\0'; p = end + (*end != '\0')) {
		char name[128], hex[KEY_HEX_BYTES];
		uint8_t digest[32];

		end = strchrnul(p, ' ');
		(void)snprintf(name, sizeof(name), "%.*s", (int)(end - p), p);
		repofix_digest(name, v, digest);
		key_hex(digest, hex);
		n += (size_t)snprintf(out + n, cap - n, "Package: p\nFilename: %s\nSize: 7\n"
		    "SHA256: %s\n\n", name, hex);
	}
	out[n] = '\0';
}

void
repofix_table(const char *list)
{
	char path[128], hex[KEY_HEX_BYTES], why[PKGTABLE_WHY_BYTES];
	struct pkgtable_stats stats;
	uint8_t digest[32];
	int fd;

	cachedir_digest(list, strlen(list), digest);
	key_hex(digest, hex);
	(void)snprintf(path, sizeof(path), "%s", cachedir_below(&repofix.cd, "list"));
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, list, strlen(list)), (ssize_t)strlen(list));
	ck_assert_int_eq(pkgtable_build(repo_tables_dirfd(repofix.rs), hex, fd, UNPACK_PLAIN, false, 1 << 20,
	    &stats, why, sizeof(why)), REASON_OK);
	(void)close(fd);
	(void)unlink(path);
	ck_assert_int_eq(repo_table_attach(repofix.rs, digest), REASON_OK);
}

void
repofix_release(const char *path, const char *list, int v, char *out, size_t cap)
{
	char hex[KEY_HEX_BYTES];
	uint8_t digest[32];

	cachedir_digest(list, strlen(list), digest);
	key_hex(digest, hex);
	(void)snprintf(out, cap, "Origin: test\nDate: Sat, 09 Jul 2022 09:%02d:00 UTC\n"
	    "SHA256:\n %s %zu %s\n", v, hex, strlen(list), path);
}

void
repofix_store(const char *url, const char *body)
{
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	struct object_rec rec;
	struct key key;

	ck_assert_int_eq(cachedir_store(&repofix.cd, url, body), REASON_OK);
	cachedir_rec(&rec, url, body, strlen(body));
	cachedir_digest(body, strlen(body), e.digest);
	repo_version_key(slice_of(url), &e, &key);
	index_link(repofix.cd.index, &key, &rec, NULL, NULL);
	index_flush(repofix.cd.index);
}

bool
repofix_is_stored(const char *url, const char *body)
{
	static char text[OBJECT_TEXT_MAX];
	struct flight_expect e = {.hash = APTFILE_SHA256, .size_bytes = -1};
	struct object_rec rec;
	struct key key;

	index_flush(repofix.cd.index);
	cachedir_digest(body, strlen(body), e.digest);
	repo_version_key(slice_of(url), &e, &key);
	return index_get_object(repofix.cd.view, &key, &rec, text) == REASON_OK;
}

void
repofix_publish(const char *root, const char *path, const char *names, int v, int64_t at_s)
{
	struct repo_new n = {.root = slice_of(root), .has = {[REPO_INRELEASE] = true,
	    [REPO_SIGNATURE] = true}, .adopted_at_s = at_s};
	char list[8192], text[2048], url[512], why[RELEASE_WHY_BYTES];

	repofix_list(names, v, list, sizeof(list));
	repofix_release(path, list, v, text, sizeof(text));
	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	repofix_store(url, text);
	(void)snprintf(url, sizeof(url), "%s%s", root, path);
	repofix_store(url, list);
	ck_assert_msg(release_parse(&n.release, text, strlen(text), why, sizeof(why)) == REASON_OK,
	    "%s", why);
	cachedir_digest(text, strlen(text), n.digest[REPO_INRELEASE]);
	memset(n.digest[REPO_SIGNATURE], v, 32);
	ck_assert_int_eq(repo_adopt(repofix.rs, &n), REASON_OK);
	ck_assert_ptr_null(n.release);
	repofix_table(list);
}

void
repofix_publish_flat(int v, int64_t at_s)
{
	repofix_publish(FLAT, "Packages", v == 1 ? "./a_1.deb x86_64/c_1.deb old_1.deb" :
	    "./a_1.deb x86_64/c_1.deb", v, at_s);
}

struct repo_answer
repofix_ask_as(struct cache_client *client, const char *text, const char *at, int64_t now_ms, int64_t now_s)
{
	struct repo_answer out;
	struct target t;

	target_set(&t, text);
	repo_ask(repofix.view, &(struct repo_ask){.url = &t.url, .key = &t.key, .af = &t.af,
	    .client = client, .at = slice_of(at), .now_ms = now_ms, .now_s = now_s}, &out);
	return out;
}

struct repo_answer
repofix_ask(struct cache_client *client, const char *text)
{
	return repofix_ask_as(client, text, NULL, clock_mono_ms(), time(NULL));
}

int
repofix_edition_of(const struct repo_answer *a, const char *name)
{
	uint8_t digest[32];

	ck_assert_int_eq(a->role, REPO_ROLE_LISTED);
	for (int v = 1; v < 10; v++) {
		repofix_digest(name, v, digest);
		if (memcmp(digest, a->expect.digest, 32) == 0)
			return v;
	}
	return 0;
}

int
repofix_sees(struct cache_client *client, const char *name)
{
	char url[256];
	struct repo_answer a;

	(void)snprintf(url, sizeof(url), FLAT "%s", name);
	a = repofix_ask(client, url);
	return repofix_edition_of(&a, strcmp(name, "a_1.deb") == 0 ? "./a_1.deb" : name);
}

int
repofix_sees_in_pool(struct cache_client *client)
{
	struct repo_answer a = repofix_ask(client, "https://d.example/debian/pool/p_1.deb");

	return repofix_edition_of(&a, "pool/p_1.deb");
}

void
repofix_give(struct cache_client *client, const char *root, int64_t now_ms)
{
	char url[128];
	struct repo_answer a;

	(void)snprintf(url, sizeof(url), "%sInRelease", root);
	a = repofix_ask(client, url);
	ck_assert_int_eq(a.role, REPO_ROLE_RELEASE);
	ck_assert(!a.held);
	repo_note_given(repofix.view, client, a.gen, now_ms);
}

int
repofix_sees_at(const char *at)
{
	struct repo_answer a = repofix_ask_as(NULL, FLAT "a_1.deb", at, 1000, T0);

	return a.role == REPO_ROLE_NO_SUCH_TIME ? 0 : repofix_edition_of(&a, "./a_1.deb");
}

unsigned
repofix_members_n(void)
{
	char *paths[REPO_MEMBERS_MAX];
	struct repo_gen *g = repo_current(repofix.rs, SLICE(FLAT));
	unsigned n = repo_members(repofix.rs, SLICE(FLAT), repo_gen_release(g), paths);

	for (unsigned i = 0; i < n; i++)
		free(paths[i]);
	repo_gen_unref(&g);
	return n;
}
