/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef REPO_PRIV_H
#define REPO_PRIV_H
/* What the sources of the registry (see repo.h) and their tests share. */
#include <pthread.h>
#include <sys/queue.h>

#include "cache/repo.h"
#include "include/obj.h"

#define REPOS_MAGIC 0x4e905001u
#define REPO_MAGIC 0x4e905002u
#define REPO_GEN_MAGIC 0x4e905003u
#define REPO_VIEW_MAGIC 0x4e905004u

enum {
	REPO_TABLES_MAX = 256,		/* indexes of packages in one generation */
	REPO_UP_MAX = 3,		/* parents of a flat root that file names may start from */
	REPO_DEPTH_MAX = 32,		/* directories of a URL that are looked at */
	REPO_HELD_MAX = 32,		/* repositories of which one connection holds a generation */
	REPO_HELD_GENS_MAX = 64,	/* beyond keep_generations: so many are kept for connections */
	REPO_GEN_KEY_BYTES = KEY_BYTES + 8,
	REPO_MEMO = 1024,		/* answers that a view remembers; a power of two */
	REPO_WAIT_FIRST_MS = 3000,	/* for a missing index, where no earlier generation is */
	REPO_WAIT_PAUSE_MS = 60000,	/* before such a wait is worth another one; then doubled */
};

/* The packages of one index file, by its content: shared by all generations that list it. */
struct repo_table {
	atomic_uint refs;
	TAILQ_ENTRY(repo_table) link;
	struct pkgtable *t;
	uint8_t digest[32];		/* of the index file */
	int64_t made_ms;		/* a new one may wait for its generation */
};

/* Places of a Release's files in the order of their digests. */
struct repo_by_digest {
	uint32_t n, *files;
};

/* Immutable, but for tables that come and days that are noted. References are counted. */
struct repo_gen {
	uint32_t magic;
	atomic_uint refs;
	struct repo *repo;		/* a reference */
	uint64_t seq;			/* grows with each one of the repository */
	_Atomic bool superseded;	/* a newer one is current */
	_Atomic uint32_t connections_n;	/* that see it, since they were given it */
	int64_t adopted_at_s;
	struct sign_signers signers;
	struct release *release;
	struct repo_by_digest by_sha256, by_sha512;
	_Atomic uint32_t *asked_day;	/* of each file: when it was last noted */
	_Atomic uint32_t tables_n;	/* readers see complete entries below it */
	struct repo_table *tables[REPO_TABLES_MAX];
	/*
	 * Written under the registry's lock and the generation's; read under either of them. The
	 * generation's is the inner one, held for a few bytes.
	 */
	pthread_mutex_t files_lock;
	_Atomic bool has[REPO_FILE_N];
	uint8_t digest[REPO_FILE_N][32];
	/* Under the registry's lock. */
	unsigned pins_n;
	char pins[REPO_PINS_MAX][REPO_PIN_BYTES];
	/* Under the generation's lock: until when its missing indexes are waited for, when anew. */
	int64_t wait_until_ms, wait_again_ms, wait_pause_ms;
};

struct repo_member {
	char *path;
	int64_t asked_at_s;
};

/*
 * One root. Made at the first Release that is asked for. References are counted: the registry's,
 * until it makes room for another one, those of generations and of snapshots.
 */
struct repo {
	uint32_t magic;
	atomic_uint refs;
	uint64_t id;			/* never used again */
	_Atomic int64_t used_at_s;
	bool forgotten;			/* the registry knows it no more; lock */
	unsigned adopting_n;		/* stagings that are about to add a generation; lock */
	struct slice root;		/* https://host/.../, malloced */
	struct key key;
	size_t base_n;			/* dists: bytes of root before "dists/"; flat: 0 */
	uint64_t next_seq;
	uint64_t warned_seq;		/* of whose Valid-Until the log has spoken */
	bool warned_past;
	unsigned gens_n, gens_cap;	/* newest first */
	struct repo_gen **gens;
	unsigned members_n;
	struct repo_member members[REPO_MEMBERS_MAX];
};

/* One line of a snapshot: a directory, and what it is to a repository. */
struct repo_dir {
	struct slice text;		/* prefix of the root */
	uint64_t hash;
	uint32_t repo;			/* place in `repos` */
	uint32_t next;			/* in the bucket; UINT32_MAX: last */
	uint8_t up;			/* 0: the root; above: so many parents up; dists base: 255 */
};
enum { REPO_DIR_BASE = 255 };

struct repo_snap {
	struct repo *repo;		/* a reference */
	unsigned gens_n;
	struct repo_gen **gens;		/* references, newest first */
};

/* Immutable. */
struct repo_set {
	atomic_uint refs;
	uint64_t epoch;
	uint32_t repos_n, dirs_n, buckets_n;
	struct repo_snap *repos;
	struct repo_dir *dirs;
	uint32_t *buckets;		/* a power of two */
};

/* A URL taken apart at its slashes. */
struct repo_path {
	struct slice url;		/* without query */
	unsigned n;
	struct {
		size_t n;
		uint64_t hash;
	} dirs[REPO_DEPTH_MAX];		/* shortest first */
};

struct repo_holds;

struct repos {
	uint32_t magic;
	struct repos_conf conf;
	int tables_fd;
	pthread_mutex_t lock;		/* the fields down to tables */
	uint32_t repos_n;
	struct repo *repos[REPO_ROOTS_MAX];
	uint64_t next_id;
	uint64_t memory_bytes;		/* of the Releases of all that is in gens */
	struct repo_set *set;		/* the newest snapshot */
	TAILQ_HEAD(, repo_table) tables;
	int64_t expired_n;		/* in the gauge */
	_Atomic uint64_t epoch;
	_Atomic int64_t flipped_ms;	/* when a generation was last replaced; 0: never */
	_Atomic uint32_t known_n;	/* repos_n, for a look without the lock */
	struct repo_holds *holds;
};

/* A memory of answers for clients that hold nothing old: key of the URL to key of the version. */
struct repo_memo {
	struct key key;
	uint64_t epoch;
	uint32_t day;			/* since 1970: not for longer than one */
	struct repo_answer answer;
};

struct repo_view {
	uint32_t magic;
	struct repos *rs;
	struct repo_set *set;
	struct repo_memo *memos;	/* REPO_MEMO; made when there is something to remember */
	bool forgetful;			/* for one question only */
};

/* What one connection was given; made at the first. */
struct repo_held {
	unsigned n;
	struct repo_gen *gens[REPO_HELD_MAX];	/* references, one of each repository, latest first */
};

/* repo.c */
struct repo *repo_ref(struct repo *repo);
void repo_unref(struct repo **repo_p);
/* Somebody uses it: it is not the first to go. Any thread. */
void repo_touch(struct repo *repo, int64_t now_s);
/* All with the registry's lock held. */
/* NULL: no room, or no memory. A new one is used since now_s. */
struct repo *repo_find_or_add(struct repos *rs, struct slice root, int64_t now_s);
/* Makes a new snapshot of what the registry says now, and moves the epoch. */
void repo_publish(struct repos *rs);

/* Remembers until the root's next staging that this index is wanted. Takes the lock. */
void repo_note_member(struct repos *rs, struct repo *repo, struct slice path, int64_t now_s);

/* repo_set.c; NULL: out of memory (lock held) */
struct repo_set *repo_set_new(struct repos *rs) MUSTCHECK;
void repo_set_unref(struct repo_set *set);
void repo_set_split(struct repo_path *p, struct slice url);
/* Walks the snapshot's directories that a URL lies in, the longest first, until NULL. */
struct repo_walk {
	const struct repo_set *set;
	const struct repo_path *p;
	unsigned depth;
	uint32_t at;
	struct slice rel;		/* the URL behind the directory that was met last */
};
void repo_walk_begin(struct repo_walk *w, const struct repo_set *set, const struct repo_path *p);
const struct repo_dir *repo_walk_next(struct repo_walk *w);
/* May what lies in this directory be named by its repository, as index or as package? */
bool repo_walk_may_name(const struct repo_walk *w, const struct repo_dir *d, bool package) MUSTCHECK;

/* repo_view.c: the newest snapshot */
const struct repo_set *repo_view_refresh(struct repo_view *v);

/* repo_select.c */
/* Whose word on a path counts for a client. */
struct repo_choice {
	bool package;
	bool knows_root, knows_gen;	/* some repository, or generation, might name it */
	bool disagree;			/* several that count as much say something else */
	bool personal;			/* another client that holds nothing old may get another one */
	struct repo_gen *gen;		/* the view's; NULL: none names it */
	const struct repo_snap *snap;
	struct slice rel;		/* the path as it is named */
	struct flight_expect expect;
	int64_t given_at;
};
/*
 * Of an index or a package: the generation that this client sees of all that may name it. False:
 * none does. is_current: it holds nothing old.
 */
bool repo_select(struct repo_choice *c, const struct repo_view *v, const struct repo_path *p,
    const struct repo_ask *ask, bool is_current) MUSTCHECK;
/* Of one repository, whatever it names. NULL: none at that time. */
struct repo_gen *repo_select_in(const struct repo_view *v, const struct repo_snap *snap,
    const struct repo_ask *ask);
/* Does this client see the newest of everything? */
bool repo_select_is_current(const struct repo_view *v, const struct repo_ask *ask);

/* repo_time.c: "2026-11-01" is that day's last second; RFC 3339 is what it says. False: neither. */
bool repo_time_parse(struct slice at, int64_t *out_s) MUSTCHECK;

/* repo_gen.c: takes release over, also when it fails (NULL) */
struct repo_gen *repo_gen_new(struct repo *repo, uint64_t seq, struct release *release) MUSTCHECK;
/* SHA256 or SHA512; other algorithms find nothing. */
const struct release_file *repo_gen_by_digest(const struct repo_gen *g, enum aptfile_hash hash,
    const uint8_t *digest);
/* Of a by-hash name. */
const struct release_file *repo_gen_by_name(const struct repo_gen *g, const struct aptfile *af);
/* With the registry's lock: adds the table to the generation, once. */
void repo_gen_add_table(struct repo_gen *g, struct repo_table *t);
/* What it says of a path, as index or as package; false: nothing. */
bool repo_gen_says(const struct repo_gen *g, struct slice rel, bool package,
    struct flight_expect *out) MUSTCHECK;
/* The last one unmaps it. Its file is repo_table.c's. */
void repo_table_unref(struct repo_table *t);

/* repo_table.c */
/* Opens what is in tables/; what no generation needs, or is damaged, goes. */
void repo_table_load(struct repos *rs, struct index_view *view);
/* The tables that are here already for what it lists (lock held). */
void repo_table_take(struct repos *rs, struct repo_gen *g);

/* repo_hold.c */
struct repo_holds *repo_holds_new(void) MUSTCHECK;
void repo_holds_free(struct repo_holds **h_p);
void repo_hold_note(struct repo_holds *h, const uint8_t address[16], const struct repo *repo,
    uint64_t seq, int64_t now_ms);
/* What this address was given since `since_ms`, latest first; returns how many. */
enum { REPO_HOLD_GENS = 4 };
struct repo_given {
	uint64_t seq;
	int64_t given_ms;
};
unsigned repo_hold_find(struct repo_holds *h, const uint8_t address[16], const struct repo *repo,
    int64_t since_ms, struct repo_given out[REPO_HOLD_GENS]);

/* Is this the generation that some address was given last, since `since_ms`? */
bool repo_hold_is_held(struct repo_holds *h, const struct repo *repo, uint64_t seq,
    int64_t since_ms);

/*
 * repo_expire.c: the root that is missed least is forgotten, of those that have a generation where
 * memory is wanted. False: none may go (lock held).
 */
bool repo_expire_root(struct repos *rs, bool for_memory) MUSTCHECK;

/* repo_store.c */
enum reason repo_store_load(struct repos *rs) MUSTCHECK;
/* Writes the record of the root with its members; of a generation. Lock held. */
void repo_store_root(struct repos *rs, const struct repo *repo);
void repo_store_drop_root(struct repos *rs, const struct repo *repo);
void repo_store_gen(struct repos *rs, const struct repo_gen *g, index_done_f *done, void *arg);
/* Root's key, then the number with its high byte first, so that they sort. */
void repo_store_gen_key(const struct repo *repo, uint64_t seq, uint8_t out[REPO_GEN_KEY_BYTES]);
void repo_store_drop_gen(struct repos *rs, const uint8_t key[REPO_GEN_KEY_BYTES]);
#endif
