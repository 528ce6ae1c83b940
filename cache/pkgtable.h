/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PKGTABLE_H
#define PKGTABLE_H
/*
 * What one Packages or Sources says about files: a sorted, immutable file of
 * path -> size and digest, made off the request path and asked on it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "cache/unpack.h"
#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

enum {
	PKGTABLE_ENTRIES_MAX = 4 << 20,
	PKGTABLE_WHY_BYTES = 256,	/* enough for every `why` */
};

/* What a build found. */
struct pkgtable_stats {
	uint64_t stanzas_n;
	uint64_t entries_n;		/* in the table */
	uint64_t repeated_n;		/* listed again in the same words */
	uint64_t ambiguous_n;		/* entries of them: listed again with another digest or size */
	uint64_t unusable_n;		/* files without a usable path, size or digest: not in the table */
	uint64_t unpacked_bytes;
	uint64_t table_bytes;
	uint8_t unpacked_sha256[32];	/* of the list without its compression */
};

struct pkgtable_entry {
	uint64_t size_bytes;
	uint8_t digest_n;		/* 32: SHA256, 64: SHA512 */
	uint8_t digest[64];
};

enum pkgtable_found { PKGTABLE_ABSENT, PKGTABLE_FOUND, PKGTABLE_AMBIGUOUS };

struct pkgtable;

/*
 * Reads a list from its beginning and makes the table `name` below dirfd,
 * replacing one that is there; nothing is there until it is whole. Uses
 * name.tmp and name.runs, so one build per name at a time. max_unpacked_bytes
 * is what the Release states for the unpacked list. LIST_BAD with words in
 * `why`; NO_DISK, DISK_ERROR, NO_MEMORY.
 */
enum reason pkgtable_build(int dirfd, const char *name, int index_fd, enum unpack_kind kind,
    bool sources, uint64_t max_unpacked_bytes, struct pkgtable_stats *stats, char *why,
    size_t why_cap) MUSTCHECK;

/* Reads all of it once, to compare its CRC: not for an event loop. NOT_FOUND, DAMAGED. */
enum reason pkgtable_open(int dirfd, const char *name, struct pkgtable **t_p) MUSTCHECK;
void pkgtable_close(struct pkgtable **t_p);

/*
 * Looks up what a canonical URL's path has behind the directory that the list's
 * file names are relative to, without a slash in front. Any thread, no lock,
 * no allocation. AMBIGUOUS: the list contradicts itself about this file.
 */
enum pkgtable_found pkgtable_find(const struct pkgtable *t, struct slice url_path,
    struct pkgtable_entry *out);

/* Calls fn for each entry that is not ambiguous, until it says false. */
typedef bool pkgtable_each_f(void *arg, const struct pkgtable_entry *e);
void pkgtable_each(const struct pkgtable *t, pkgtable_each_f *fn, void *arg);
uint64_t pkgtable_entries_n(const struct pkgtable *t);

#endif
