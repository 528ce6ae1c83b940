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
	bool again;			/* in a walk: a version, and the same bytes have the plain URL, too */
	struct provenance from;		/* of its body, */
	int64_t fetched_at_s;		/* which came then; 0: not known */
	struct fresh_terms terms;
};

/*
 * Where a URL stands: below which repository, and as which version it would
 * be looked for now by a client that was given nothing before.
 */
enum inspect_role {
	INSPECT_PLAIN,			/* no repository has a say */
	INSPECT_RELEASE,		/* the generation's own file */
	INSPECT_LISTED,			/* the generation says what it must be */
	INSPECT_BY_HASH,		/* a kept generation lists it, and its name says what it must be */
	INSPECT_UNLISTED,		/* below a repository whose generation does not name it */
	INSPECT_NO_GENERATION,		/* below a directory that was asked for a Release in vain */
	INSPECT_NO_SUCH_TIME,		/* no kept generation is of that time or name */
};
struct inspect_place {
	enum inspect_role role;
	struct key key;			/* of that version, or of the URL */
	struct slice root;		/* RELEASE, LISTED, UNLISTED: borrowed until the next question */
	int64_t adopted_at_s;		/* the same */
	uint64_t generation;		/* its number */
	char digest_name[8];		/* LISTED: "sha256" or "sha512"; "" otherwise */
	char digest_hex[129];
	int64_t size_bytes;		/* LISTED; -1: not known */
	char disagrees[512];		/* in which way upstream is no generation now; or "" */
};
/* then: a time or name of a generation; n == 0: now. */
void inspect_locate(struct cache_view *v, const struct url *url, const struct aptfile *af,
    struct slice then, struct inspect_place *out);

/* What the generations of a repository, one after the other, say of a URL. */
struct inspect_stretch {
	char *root;			/* malloced */
	char digest_name[8];		/* "sha256" or "sha512" */
	char digest_hex[129];
	int64_t size_bytes;		/* -1: not known */
	uint64_t first, last;		/* numbers of generations */
	int64_t from_s, until_s;	/* INT64_MAX: it is current */
	bool stored;			/* that body is here */
};
/* At most max_n, those of each repository together, the latest first; returns how many. */
unsigned inspect_history(struct cache_view *v, const struct url *url, const struct aptfile *af,
    struct inspect_stretch *out, unsigned max_n) MUSTCHECK;
void inspect_history_free(struct inspect_stretch *list, unsigned n);

/* Text goes into the caller's buffer. False: not stored. */
bool inspect_get(struct cache_view *v, const struct key *key, struct inspect_url *u,
    char text[INSPECT_TEXT_BYTES]) MUSTCHECK;
/* What such a client would get, or, where that is not stored, what has the URL without a version. */
bool inspect_find(struct cache_view *v, const struct url *url, const struct inspect_place *at,
    struct inspect_url *u, char text[INSPECT_TEXT_BYTES]) MUSTCHECK;

/* What a request without Cache-Control would be told now. */
enum fresh_verdict inspect_judge(struct cache_view *v, const struct inspect_url *u,
    const struct aptfile *af, const struct inspect_place *at, int64_t index_max_age_s,
    int64_t now_s);

/* Which stored URLs: whole ones by a pattern, or by their beginning. */
struct inspect_match {
	const char *text;		/* NULL: all */
	bool glob;			/* as fnmatch(3) has it, * over slashes too */
	bool whole;			/* exactly this URL: all its versions */
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

/* ---- generations ---- */
struct inspect_gen {
	char *root;			/* malloced, with what follows it in one piece */
	uint64_t number;
	int64_t adopted_at_s, date_s, valid_until_s;	/* INT64_MIN: none */
	bool current;
	unsigned files_n, tables_n;
	uint64_t packages_n;
	const char *suite, *origin, *pins;
	uint8_t digest[32];		/* of InRelease, or of Release */
};
/* Those below a URL's beginning (empty: all), newest first for each repository; malloced. */
enum reason inspect_generations(struct cache_view *v, struct slice prefix,
    struct inspect_gen **list_p, size_t *n) MUSTCHECK;
void inspect_generations_free(struct inspect_gen **list_p, size_t n);
/*
 * Keeps the generation of that time or name (n == 0: the newest) under a name (n == 0: its time),
 * or no longer. why: what was done, or why not. Committed when it returns.
 */
enum reason inspect_pin(struct cache_view *v, struct slice url, struct slice at, struct slice name,
    char *why, size_t why_cap) MUSTCHECK;
enum reason inspect_unpin(struct cache_view *v, struct slice url, struct slice name, char *why,
    size_t why_cap) MUSTCHECK;
/* "2026-11-01T10:20:30Z" */
void inspect_time_text(int64_t s, char out[32]);

/* ---- changes ---- */
/* That version is forgotten; its body goes with its last URL. Committed after inspect_flush. */
void inspect_forget(struct cache_view *v, const struct key *key);
void inspect_flush(struct cache_view *v);

#endif
