/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef INSPECT_H
#define INSPECT_H
/*
 * What is stored, for people who look at it: commands and the explain page.
 * Through a view, so that nothing is counted as used and nobody is fetched
 * for. Walks, hashing and flushes wait for the disk: not from loops;
 * inspect_get and inspect_judge are index lookups like any request's.
 */
#include "include/cache.h"

enum { INSPECT_TEXT_BYTES = 8192 + 8192 + 512 };

/* One stored URL. */
struct inspect_url {
	struct key key;
	struct slice url, etag;
	struct slice fields;		/* kept header fields, lines with CRLF */
	uint8_t digest[32];
	uint64_t size_bytes;
	int64_t stored_at_s, checked_at_s;
	int64_t checked_at_ms;
	int64_t used_at_s;		/* of its body; 0: not known */
	uint32_t urls_n;		/* that share its body */
	enum aptfile_class class;
	bool from_credentials;
	bool has_body;			/* the body has a record too */
	bool suspect;			/* hashed before its next hit */
	struct fresh_terms terms;
};

/* Text goes into the caller's buffer. False: not stored. */
bool inspect_get(struct cache_view *v, const struct key *key, struct inspect_url *u,
    char text[INSPECT_TEXT_BYTES]) MUSTCHECK;

/*
 * What a request without Cache-Control would be told now. *newer_index: it is
 * checked because an index above it is newer.
 */
enum fresh_verdict inspect_judge(struct cache_view *v, const struct inspect_url *u,
    const struct aptfile *af, const struct fresh_policy *p, bool *newer_index);

/* Which stored URLs: whole ones by a pattern, or by their beginning. */
struct inspect_match {
	const char *text;		/* NULL: all */
	bool glob;			/* as fnmatch(3) has it, * over slashes too */
};
/* Makes a pattern of a word that has *, ? or [ in it, else a beginning. */
struct inspect_match inspect_match_of(const char *word);

/* Text is borrowed for the call. False: enough. */
typedef bool inspect_url_f(void *arg, const struct inspect_url *u);
/* Each stored URL that matches, in no order. */
enum reason inspect_walk(struct cache_view *v, const struct inspect_match *m, inspect_url_f *fn,
    void *arg) MUSTCHECK;
typedef bool inspect_blob_f(void *arg, const uint8_t digest[32]);
enum reason inspect_walk_blobs(struct cache_view *v, inspect_blob_f *fn, void *arg) MUSTCHECK;

/* The body for reading; the caller closes it. */
enum reason inspect_open_body(struct cache_view *v, const struct inspect_url *u, int *fd) MUSTCHECK;

enum inspect_health {
	INSPECT_GOOD,
	INSPECT_DAMAGED,		/* dropped */
	INSPECT_MISSING,		/* dropped */
	INSPECT_UNREADABLE,		/* could not be opened now; left as it is */
	INSPECT_STOPPED,		/* stop said so */
};
/* Reads a body and compares its digest. stop is asked now and then. *bytes grows by what was read. */
enum inspect_health inspect_verify(struct cache_view *v, const uint8_t digest[32],
    bool (*stop)(void *arg), void *arg, uint64_t *bytes);

/*
 * Stores what the descriptor holds as a body, named by url, which is one that
 * no client can ask for: the body serves whoever expects its digest. Commits
 * before it returns. *was_here: there was such a body. SHUTDOWN: stop said so.
 */
enum reason inspect_import(struct cache_view *v, int fd, const char *url,
    bool (*stop)(void *arg), void *arg, uint8_t digest[32], uint64_t *bytes, bool *was_here)
    MUSTCHECK;

/* The URL is forgotten; its body goes with its last URL. Committed after inspect_flush. */
void inspect_forget(struct cache_view *v, const struct key *key);
void inspect_flush(struct cache_view *v);

#endif
