/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CLOSURE_H
#define CLOSURE_H
/*
 * Which packages an installation needs, and in which order apt asks for them:
 * a compact model of Packages files, and walks through its dependencies.
 * Pure. A finished model never changes: any thread may walk in it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "cache/unpack.h"
#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

enum {
	CLOSURE_PACKAGES_MAX = 1 << 20,	/* of one model */
	CLOSURE_LISTS_MAX = 64,		/* that are read into one, by who makes it */
	CLOSURE_STEPS_MAX = 1 << 26,	/* candidates looked at in one walk, or by closure_finish */
	CLOSURE_DEPTH_MAX = 1024,	/* what is deeper is left out */
	CLOSURE_MISSING_MAX = 16,	/* names that a walk could not find and remembers */
	CLOSURE_NEAR_MAX = 5,
	CLOSURE_WHY_BYTES = 200,
};

#define CLOSURE_NONE UINT32_MAX

struct closure;
struct closure_walk;

/* ---- the model ---- */

/* Fails (NO_MEMORY) rather than taking more than max_bytes. NULL: out of memory. */
struct closure *closure_new(uint64_t max_bytes);
/*
 * One Packages file after the other: begin, feed in any pieces, end; then
 * finish. arch: of the list, "" where it is of several. LIST_BAD with words
 * in closure_why. After an error only closure_free is legal.
 */
enum reason closure_begin_list(struct closure *c, enum unpack_kind kind, uint64_t max_unpacked,
    struct slice arch) MUSTCHECK;
enum reason closure_feed(struct closure *c, const void *p, size_t n) MUSTCHECK;
enum reason closure_end_list(struct closure *c) MUSTCHECK;
/* reverse: closure_dependants will be asked. LIST_BAD: more than CLOSURE_STEPS_MAX. */
enum reason closure_finish(struct closure *c, bool reverse) MUSTCHECK;
const char *closure_why(const struct closure *c);
void closure_free(struct closure **c_p);

/* Borrowed from the model. */
struct closure_package {
	struct slice name, version, arch;
	struct slice filename;		/* as it is in the list */
	uint64_t size_bytes;
	const uint8_t *sha256;
	bool base;			/* every system has it: essential, required, important, or */
					/* needed by one that is */
};
uint32_t closure_packages_n(const struct closure *c);
uint64_t closure_bytes(const struct closure *c);	/* what the model takes */
void closure_get(const struct closure *c, uint32_t i, struct closure_package *out);
/* A package with this SHA256, or CLOSURE_NONE. */
uint32_t closure_find_digest(const struct closure *c, const uint8_t sha256[32]);
/* Those that directly need this one; at most max_n, returns how many. */
unsigned closure_dependants(const struct closure *c, uint32_t i, uint32_t *out, unsigned max_n);
/* Names much like this one, the nearest first. */
unsigned closure_near(const struct closure *c, struct slice name,
    struct slice out[CLOSURE_NEAR_MAX]);

/* ---- walks ---- */

/* recommends: Recommends are followed too, as apt does unless it is told not to. */
struct closure_walk *closure_walk_new(const struct closure *c, bool recommends);
void closure_walk_free(struct closure_walk **w_p);
void closure_walk_reset(struct closure_walk *w);	/* nothing is chosen or present any more */

/* These are installed: neither they nor what they need is listed. */
void closure_walk_present(struct closure_walk *w, struct slice name);
void closure_walk_present_base(struct closure_walk *w);

/*
 * Finds what a person asks for: NAME, NAME:ARCH, each with =VERSION. arch:
 * that of the machine; empty: any. A virtual name is its first provider.
 */
enum closure_found { CLOSURE_FOUND, CLOSURE_NO_NAME, CLOSURE_NO_VERSION };
enum closure_found closure_find(const struct closure *c, struct slice word, struct slice arch,
    uint32_t *i) MUSTCHECK;

/*
 * The packages and all they need, in the order in which apt asks for them:
 * what is needed before what needs it, each field from left to right. Of
 * alternatives, one that is chosen already, else the first that is there.
 * NO_MEMORY; LIST_BAD: more than CLOSURE_STEPS_MAX.
 */
enum reason closure_walk_add(struct closure_walk *w, const uint32_t *roots, unsigned n) MUSTCHECK;
/* Candidates looked at since the last reset. */
uint64_t closure_walk_steps(const struct closure_walk *w);
const uint32_t *closure_walk_order(const struct closure_walk *w, unsigned *n);
/* Dependencies that nothing in the model satisfies: how many, and the names of the first. */
unsigned closure_walk_missing(const struct closure_walk *w,
    struct slice out[CLOSURE_MISSING_MAX], unsigned *out_n);

#endif
