/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PLAN_H
#define PLAN_H
/*
 * Which files of a repository an installation takes. The caller fetches what
 * the plan asks for (Release, then lists of packages) and gets the files, in
 * the order in which apt asks for them. Pure; one thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

enum {
	PLAN_LISTS_MAX = 64,
	PLAN_WHY_BYTES = 1024,		/* enough for every `why` */
	PLAN_PATH_BYTES = 4096,		/* of a file, escaped */
};

struct plan;

struct plan_conf {
	bool flat;			/* no dists/: the Release lists one Packages */
	struct slice components;	/* of dists/: "main,contrib"; empty: main, or all if there is none */
	struct slice arch;
	bool recommends;
};

/* Text of conf is copied. NULL: out of memory. */
struct plan *plan_new(const struct plan_conf *conf);
void plan_free(struct plan **p_p);

/* InRelease or Release, whole. Not OK: with words in `why`. */
enum reason plan_read_release(struct plan *p, const void *text, size_t n, char *why,
    size_t why_cap) MUSTCHECK;

/* A list of packages, relative to the Release's directory. */
struct plan_list {
	struct slice path;
	uint64_t size_bytes;
	const uint8_t *sha256;		/* NULL: the Release has only another digest */
};
unsigned plan_lists_n(const struct plan *p);
void plan_list_at(const struct plan *p, unsigned k, struct plan_list *out);

/* Each list in turn: begin, feed in any pieces, end; after the last one, ready. */
enum reason plan_begin_list(struct plan *p, unsigned k) MUSTCHECK;
enum reason plan_feed(struct plan *p, const void *data, size_t n) MUSTCHECK;
enum reason plan_end_list(struct plan *p) MUSTCHECK;
enum reason plan_ready(struct plan *p) MUSTCHECK;
const char *plan_why(const struct plan *p);	/* words for the latest failure of these */

/* A package is wanted: NAME, NAME:ARCH, each with =VERSION. Else NOT_FOUND, and why not in words. */
enum reason plan_want(struct plan *p, struct slice word, char *why, size_t why_cap) MUSTCHECK;
/* It is installed already, with all it needs. */
void plan_present(struct plan *p, struct slice name);
/* Everything is said: what is to be fetched? Once. */
enum reason plan_resolve(struct plan *p, char *why, size_t why_cap) MUSTCHECK;

struct plan_file {
	struct slice name, version;
	uint64_t size_bytes;
	const uint8_t *sha256;
	char path[PLAN_PATH_BYTES];	/* as a URL writes it, relative to where file names start */
};
unsigned plan_files_n(const struct plan *p);
/* False: its name is none that could be asked for. */
bool plan_file_at(const struct plan *p, unsigned k, struct plan_file *out) MUSTCHECK;
/* Dependencies that this repository does not satisfy: how many, and the first in words. */
unsigned plan_missing(const struct plan *p, char *words, size_t words_cap);

#endif
