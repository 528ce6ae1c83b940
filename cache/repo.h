/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef REPO_H
#define REPO_H
/*
 * Repositories and their generations. A repository is the directory that
 * holds InRelease (or Release): a flat one, or .../dists/<suite>/. A
 * generation is one publication of it: a Release file, the digests of all
 * that it lists, and a table of the packages that its indexes name. It is
 * adopted whole (stage.c) and never changes, so a client that was given one
 * can be served from it until it asks for a newer InRelease.
 *
 *   repo.c         the registry
 *   repo_set.c     snapshots of it, by directories of URLs
 *   repo_ask.c     what a URL means in a snapshot
 *   repo_select.c  which generation a client sees
 *   repo_hold.c    which generations a client address was given lately
 *   repo_view.c    one thread's way to look
 *   repo_gen.c     one generation
 *   repo_table.c   the packages that its indexes name
 *   repo_store.c   records: loading at start, adopting
 *   repo_expire.c  generations that go
 *   repo_keep.c    what eviction takes last
 *   repo_pin.c     pins, and what commands list
 *   repo_history.c what they have said of a URL
 *   repo_time.c    times as people write them
 *
 * Readers look without a lock: each view holds an immutable snapshot, and
 * takes a newer one when the epoch has moved. Everything else is under the
 * registry's lock, which is never held across a wait or disk access.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/blob.h"
#include "cache/index.h"
#include "cache/pkgtable.h"
#include "cache/release.h"
#include "include/cache.h"
#include "include/flight.h"
#include "include/key.h"
#include "include/sign.h"

struct repos;
struct repo;
struct repo_gen;
struct repo_view;
struct repo_held;

/* The three files by which a generation is known. */
enum repo_file { REPO_INRELEASE, REPO_RELEASE, REPO_SIGNATURE, REPO_FILE_N };
extern const struct slice repo_file_names[REPO_FILE_N];

enum {
	REPO_ROOTS_MAX = 4096,		/* repositories known at a time; then the least used go */
	REPO_MEMBERS_MAX = 96,		/* indexes of one repository that a staging fetches */
	REPO_PINS_MAX = 16,		/* names of one generation */
	REPO_PIN_BYTES = 64,
	REPO_URL_BYTES = 8192,
	REPO_PINNED_MAX = 1000,		/* generations of one repository that have names */
	/* Of one repository: keep_generations, what is pinned, and what is still held. */
	REPO_GENS_MAX = 4096,
	REPO_MEMBER_ASKED_S = 30 * 86400,
};

/* What the Releases of all generations may take of memory; then the least used roots go. */
#define REPO_MEMORY_MAX_BYTES (UINT64_C(1) << 30)

struct repos_conf {
	struct index *index;
	struct blobstore *blobs;
	const char *dir;		/* cache_dir */
	_Atomic unsigned keep_n;	/* keep_generations */
	_Atomic int64_t hold_ms;	/* generation_hold; these two: repos_set_conf */
	unsigned roots_max;		/* 0: REPO_ROOTS_MAX */
	uint64_t memory_max_bytes;	/* 0: REPO_MEMORY_MAX_BYTES */
};

/* Reads what is recorded; generations whose Release can't be read any more are dropped. */
enum reason repos_open(struct repos **rs_p, const struct repos_conf *conf) MUSTCHECK;
void repos_close(struct repos **rs_p);
void repos_set_conf(struct repos *rs, unsigned keep_n, int64_t hold_ms);

/* ---- one thread's way to look (repo_view.c, repo_ask.c) ---- */
struct repo_view *repo_view_open(struct repos *rs) MUSTCHECK;
void repo_view_close(struct repo_view **v_p);
/* Once a second or so: lets go of what is no longer current. */
void repo_view_tick(struct repo_view *v);

/* What a request asks of the repositories. Borrowed for the call. */
struct repo_ask {
	const struct url *url;
	const struct key *key;		/* of the URL */
	const struct aptfile *af;
	struct cache_client *client;	/* or NULL: whatever is current */
	struct slice at;		/* a time or a name; n == 0: now */
	int64_t now_ms, now_s;
};

enum repo_role {
	REPO_ROLE_NONE,		/* below no known repository */
	REPO_ROLE_RELEASE,	/* one of the three files, and the generation has it */
	REPO_ROLE_LISTED,	/* an index or a package: answer->expect says what it must be */
	REPO_ROLE_UNLISTED,	/* below a repository, but its generation does not name it */
	REPO_ROLE_UNKNOWN,	/* below a repository that has no generation */
	REPO_ROLE_NO_SUCH_TIME,	/* `at` names no kept generation */
};

/* What the repositories answer. gen is borrowed from the view until its next question. */
struct repo_answer {
	enum repo_role role;
	struct repo_gen *gen;
	bool held;		/* gen is not the newest one */
	bool by_digest;		/* a by-hash name: expect says under which SHA-256 it is stored */
	struct flight_expect expect;
	struct key version_key;	/* RELEASE, LISTED: of this URL with that digest */
};
void repo_ask(struct repo_view *v, const struct repo_ask *ask, struct repo_answer *out);

/* A number that moves whenever any generation is adopted or goes. */
uint64_t repo_epoch(const struct repos *rs);
/* The canonical URL of a root's file, as a request for it has it; false: it is none. */
bool repo_url(struct slice root, struct slice path, char out[REPO_URL_BYTES], struct slice *url)
    MUSTCHECK;
/* The key of one version of a URL, and that of the same index under its digest's name. */
void repo_version_key(struct slice url, const struct flight_expect *expect, struct key *key);
void repo_by_hash_key(struct slice url, const struct flight_expect *expect, struct key *key);
/* That name of a file at this URL, malloced; NULL: no memory. */
char *repo_by_hash_url(struct slice url, enum aptfile_hash hash, const uint8_t *digest) MUSTCHECK;
/*
 * Under which SHA-256 a listed file is stored, if it is: where the Release has SHA-512 alone, its
 * records say so. False: not known.
 */
bool repo_stored_as(struct index_view *view, struct slice root, const struct release_file *rf,
    uint8_t sha256[32]) MUSTCHECK;
/* The client was given this generation's Release: it sees its indexes from now on. */
void repo_note_given(struct repo_view *v, struct cache_client *client, struct repo_gen *gen,
    int64_t now_ms);
void repo_held_free(struct repo_held **held_p);
/* The kept generation whose InRelease, or Release, these bytes are: a reference, or NULL. */
struct repo_gen *repo_of_release(struct repo_view *v, const struct url *url,
    const uint8_t digest[32]) MUSTCHECK;
/* Does fn say so of any root whose generation may name this package? */
typedef bool repo_root_f(void *arg, struct slice root);
bool repo_any_root(struct repo_view *v, const struct url *url, repo_root_f *fn, void *arg)
    MUSTCHECK;
/* Text for a 404: the generations that there are for this URL. */
void repo_list_times(struct repo_view *v, const struct url *url, char *out, size_t cap);

/* ---- what was said of a URL (repo_history.c) ---- */
/* Generations of one repository, adopted one after the other, that say the same of it. */
struct repo_stretch {
	struct slice root;		/* borrowed from the view, for the call */
	struct flight_expect expect;
	struct key version_key;
	unsigned gens_n;
	uint64_t first_seq, last_seq;
	int64_t from_s;			/* when the first of them was adopted */
	int64_t until_s;		/* when another took the last one's place; INT64_MAX: it is current */
};
typedef void repo_history_f(void *arg, const struct repo_stretch *s);
/* Each repository that has named it, the latest stretch first. */
void repo_history(struct repo_view *v, const struct url *url, const struct aptfile *af,
    repo_history_f *fn, void *arg);

/* ---- generations (repo_gen.c) ---- */
struct repo_gen *repo_gen_ref(struct repo_gen *g);
void repo_gen_unref(struct repo_gen **g_p);
const struct release *repo_gen_release(const struct repo_gen *g);
struct slice repo_gen_root(const struct repo_gen *g);
uint64_t repo_gen_seq(const struct repo_gen *g);
/* Who signed it, as far as that was looked at. */
const struct sign_signers *repo_gen_signers(const struct repo_gen *g);
int64_t repo_gen_adopted_at_s(const struct repo_gen *g);
bool repo_gen_digest(const struct repo_gen *g, enum repo_file which, uint8_t digest[32]);
/* The lists of packages (not of sources) that are stored of it; at most max_n, returns how many. */
unsigned repo_gen_package_lists(const struct repo_gen *g, const struct release_file **out,
    unsigned max_n);
bool repo_file_expect(const struct release_file *rf, struct flight_expect *out);
/*
 * Upstream has not, or has another one, what this generation lists: until when may clients be held
 * meanwhile? The first one to ask begins that time, wait_ms or a first visit's; it is all that the
 * root's clients lose, for whichever of its files. 0: there is nothing to wait for.
 */
int64_t repo_gen_wait(struct repo_gen *g, int64_t wait_ms, int64_t now_ms);

/* ---- for stage.c: threads that may wait ---- */
/* A flight's URL taken apart: the root and which of the three files. False: none of them. */
bool repo_split_release(struct slice url, struct slice *root, enum repo_file *which) MUSTCHECK;
/* The newest generation of this root: a reference, or NULL. */
struct repo_gen *repo_current(struct repos *rs, struct slice root);
/* Remembers that somebody asks at this root, though there is no generation (yet). */
void repo_note_root(struct repos *rs, struct slice root);
/* The listed indexes that were asked for lately; returns how many. Paths: malloced, caller frees. */
unsigned repo_members(struct repos *rs, struct slice root, const struct release *r,
    char *paths[REPO_MEMBERS_MAX]);
/*
 * Adopts a publication: records it and makes it current. release is taken
 * over. When it returns OK it is durable. The blobs must be stored already.
 */
struct repo_new {
	struct slice root;
	struct release *release;
	bool has[REPO_FILE_N];
	uint8_t digest[REPO_FILE_N][32];
	struct sign_signers signers;	/* n 0: nobody looked */
	int64_t adopted_at_s;
};
enum reason repo_adopt(struct repos *rs, struct repo_new *n) MUSTCHECK;
/* The same publication in another form (signed anew, or Release beside InRelease). */
enum reason repo_attach_file(struct repos *rs, struct repo_gen *g, enum repo_file which,
    const uint8_t digest[32]) MUSTCHECK;

/* The table of an index: is one wanted by some generation, and missing? Its path as listed. */
bool repo_table_wanted(struct repos *rs, const uint8_t sha256[32], char path[1024],
    uint64_t *size_bytes) MUSTCHECK;
bool repo_has_table(struct repos *rs, const uint8_t sha256[32]) MUSTCHECK;
int repo_tables_dirfd(const struct repos *rs);
/* tables/<hex> was made: every generation that lists this index gets it. */
enum reason repo_table_attach(struct repos *rs, const uint8_t sha256[32]) MUSTCHECK;

/* What the newest generation says of a package whose table came after its request. */
bool repo_late_expect(struct repos *rs, const struct url *url, const struct aptfile *af,
    struct flight_expect *out) MUSTCHECK;
/* Each stored index of packages without a table: what stage.c makes at start. */
typedef void repo_missing_f(void *arg, struct slice root, const uint8_t sha256[32]);
void repo_each_missing_table(struct repos *rs, repo_missing_f *fn, void *arg);
/* The same of one generation: what was stored before anybody knew that it lists that. */
void repo_gen_missing_tables(struct repos *rs, const struct repo_gen *g, repo_missing_f *fn,
    void *arg);

/* ---- for commands and pages ---- */
/* "2026-11-01T10:20:30Z"; "an unknown date" of INT64_MIN */
void repo_time_text(int64_t s, char out[32]);
struct repo_gen_info {
	struct slice root;
	uint64_t seq;
	int64_t adopted_at_s, date_s, valid_until_s;	/* INT64_MIN: none */
	bool current;
	unsigned files_n, tables_n;
	uint64_t packages_n;
	const char *suite, *origin;
	char pins[REPO_PINS_MAX * (REPO_PIN_BYTES + 2)];	/* names, comma and blank between */
	const uint8_t *digest;		/* of InRelease, or of Release */
};
typedef void repo_gen_f(void *arg, const struct repo_gen_info *info);
/* Every kept generation, newest first, of the roots that begin with prefix (empty: all). */
void repo_each_gen(struct repos *rs, struct slice prefix, repo_gen_f *fn, void *arg);
/*
 * Keeps a generation, and all that it refers to, under a name. at: a time, a
 * name, or empty for the newest. name empty: the time of its adoption. In
 * words what was done or why not.
 */
enum reason repo_pin(struct repos *rs, struct slice url, struct slice at, struct slice name,
    char *why, size_t why_cap) MUSTCHECK;
/* name empty: the only one that it has. */
enum reason repo_unpin(struct repos *rs, struct slice url, struct slice name, char *why,
    size_t why_cap) MUSTCHECK;
/*
 * Is Valid-Until of a current generation past? Sets the gauge and says so once. Returns when one
 * comes near or is over next; INT64_MAX: none.
 */
int64_t repo_watch_validity(struct repos *rs, int64_t now_s);

/* Lets generations go that are neither among the newest, nor pinned, nor held. */
void repo_expire(struct repos *rs);

/* ---- for eviction: a snapshot of digests that are not to go first ---- */
struct repo_keep;
struct repo_keep *repo_keep_new(struct repos *rs);
void repo_keep_free(struct repo_keep **k_p);
enum repo_keeping { REPO_KEEP_NO, REPO_KEEP_LONG, REPO_KEEP_PINNED };
enum repo_keeping repo_keep_find(const struct repo_keep *k, const uint8_t digest[32]);

#endif
