/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef RELEASE_H
#define RELEASE_H
/*
 * Release and InRelease, read: what a repository says it consists of. Pure; a
 * parsed one never changes, so that any thread may read it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/unpack.h"
#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

enum {
	RELEASE_TEXT_MAX = 16 << 20,
	RELEASE_FILES_MAX = 65536,
	RELEASE_NAME_BYTES = 128,	/* Origin and its like, with NUL; longer ones are cut */
	RELEASE_WHY_BYTES = 256,	/* enough for every `why` */
};

#define RELEASE_NO_TIME INT64_MIN

/* A file that a Release lists. Without sha256 and sha512 nothing can be held against it. */
struct release_file {
	struct slice path;		/* canonical, relative to the Release; NUL-terminated */
	uint64_t size_bytes;
	bool has_sha256, has_sha512;
	uint8_t sha256[32], sha512[64];
};

struct release {
	uint32_t magic;
	bool is_signed;			/* it came in armour: nothing is said about by whom */
	bool by_hash;			/* Acquire-By-Hash: yes */
	int64_t date_s;			/* RELEASE_NO_TIME: none, or one that cannot be read */
	int64_t valid_until_s;		/* RELEASE_NO_TIME: for ever */
	char origin[RELEASE_NAME_BYTES], label[RELEASE_NAME_BYTES];
	char suite[RELEASE_NAME_BYTES], codename[RELEASE_NAME_BYTES];
	uint8_t identity[32];		/* equal for InRelease and Release of one publication */
	size_t files_n;
	struct release_file *files;	/* sorted by path, each path once */
	char *text;			/* what the paths lie in */
	size_t bytes;			/* of memory, all in all */
};

/*
 * Parses InRelease or Release. NOT_A_RELEASE: it is something else (HTML, cut
 * off, without any SHA256 or SHA512 section); RELEASE_BAD: it is one, but
 * contradicts itself or oversteps a limit. Both with words in `why`.
 */
enum reason release_parse(struct release **r_p, const void *text, size_t n, char *why,
    size_t why_cap) MUSTCHECK;
void release_free(struct release **r_p);

/* The file of this canonical relative path, or NULL. */
const struct release_file *release_find(const struct release *r, struct slice path);
/* The same for what a canonical URL's path has behind the Release's directory: escapes are undone. */
const struct release_file *release_find_url(const struct release *r, struct slice url_path);

enum release_list { RELEASE_PACKAGES, RELEASE_SOURCES, RELEASE_OTHER };

/* What the last component of an index path says. */
struct release_index {
	enum release_list list;
	enum unpack_kind kind;		/* of Packages and Sources; else what the suffix says */
	struct slice stem;		/* the path without the compression's suffix */
};

void release_index_of(struct release_index *ri, struct slice path);

/*
 * The Packages of a flat repository that apt would ask for first: of those
 * that are listed with a digest and can be unpacked here. NULL: there is none.
 */
const struct release_file *release_first_packages(const struct release *r);
/* The size of a listed index when unpacked; 0: the Release does not say. */
uint64_t release_unpacked_bytes(const struct release *r, const struct release_file *f);

/*
 * "Sat, 09 Jul 2022 09:50:57 UTC" or "Sat Jul  9 09:50:57 2022" as seconds since 1970;
 * RELEASE_NO_TIME: neither.
 */
int64_t release_parse_date(struct slice text);

#endif
