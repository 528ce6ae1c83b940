/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef REPOFIX_H
#define REPOFIX_H
/*
 * A registry of repositories over a cache directory, and publishers for it:
 * editions are numbered, and a package's digest is that of its name and the
 * edition. Whatever fails fails the test.
 */
#include "cache/repo_priv.h"
#include "tests/support/cachedir.h"

#define FLAT "https://h.example/cuda/x86_64/"
#define DISTS "https://d.example/debian/dists/stable/"
#define LATER "https://d.example/debian/dists/later/"	/* over the same pool */

enum { HOLD_MS = 300000, DAY_S = 86400, T0 = 1600000000 };

extern struct repofix {
	struct cachedir cd;
	struct repos *rs;
	struct repo_view *view;
	unsigned keep_n, roots_max;	/* for the next start */
	uint64_t memory_max_bytes;
} repofix;

void repofix_setup(void);
void repofix_teardown(void);
/* Of the registry alone; of all, as after an orderly stop. */
void repofix_start(void);
void repofix_end(void);
void repofix_restart(void);

/* ---- publications ---- */
/* The digest that the list of edition v gives for a package. */
void repofix_digest(const char *name, int v, uint8_t digest[32]);
/* A list that names these packages (blanks between), as it was in edition v; its table. */
void repofix_list(const char *names, int v, char *out, size_t cap);
void repofix_table(const char *list);
/* The Release of edition v that lists it. */
void repofix_release(const char *path, const char *list, int v, char *out, size_t cap);
/* A body that is stored for a URL, and for its version. */
void repofix_store(const char *url, const char *body);
bool repofix_is_stored(const char *url, const char *body);
/* Edition v of a root whose one index, at path, names these packages. */
void repofix_publish(const char *root, const char *path, const char *names, int v, int64_t at_s);
void repofix_publish_flat(int v, int64_t at_s);

/* ---- asking ---- */
struct repo_answer repofix_ask_as(struct cache_client *client, const char *text, const char *at,
    int64_t now_ms, int64_t now_s);
struct repo_answer repofix_ask(struct cache_client *client, const char *text);
/* Of which edition is the package that is expected? */
int repofix_edition_of(const struct repo_answer *a, const char *name);
/* The same of a package of the flat one, and of p_1.deb in the pool. */
int repofix_sees(struct cache_client *client, const char *name);
int repofix_sees_in_pool(struct cache_client *client);
/* The same of a_1.deb at a time or name; 0: there is none. */
int repofix_sees_at(const char *at);
/* The client gets this root's Release. */
void repofix_give(struct cache_client *client, const char *root, int64_t now_ms);
/* How many indexes of the flat one are wanted. */
unsigned repofix_members_n(void);

#endif
