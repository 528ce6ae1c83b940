/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PKGTABLE_PRIV_H
#define PKGTABLE_PRIV_H
/*
 * The file of a package table, for pkgtable.c (which reads it), pkgtable_build.c
 * (which makes it) and tests. A head, then entries sorted by key:
 *
 *     key       16 bytes, the first of SHA-256(relative file name)
 *     size       8 bytes, PKGTABLE_NO_SIZE where the list contradicts itself
 *     digest    32 or 64 bytes, as the head says
 *
 * Numbers are in the machine's byte order: a table never leaves it.
 */
#include "cache/pkgtable.h"

#define PKGTABLE_FILE_MAGIC UINT64_C(0x31424154474b5041)	/* "APKGTAB1" */
#define PKGTABLE_NO_SIZE UINT64_MAX

enum {
	PKGTABLE_HEAD_BYTES = 64,
	PKGTABLE_KEY_BYTES = 16,
	PKGTABLE_DIGEST_AT = PKGTABLE_KEY_BYTES + 8,
	PKGTABLE_ENTRY_MAX_BYTES = PKGTABLE_DIGEST_AT + 64,
};

struct pkgtable_head {
	uint64_t magic;
	uint32_t crc;			/* over the entries, then over the head with 0 here */
	uint32_t digest_n;
	uint64_t entries_n, ambiguous_n;
	uint64_t spare[4];
};

_Static_assert(sizeof(struct pkgtable_head) == PKGTABLE_HEAD_BYTES, "table head");

void pkgtable_key(struct slice file_name, uint8_t key[PKGTABLE_KEY_BYTES]);
uint32_t pkgtable_head_crc(uint32_t entries_crc, const struct pkgtable_head *head);

#endif
