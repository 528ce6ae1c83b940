/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef INSPECT_RELEASE_H
#define INSPECT_RELEASE_H
/* A Release or InRelease as a person checks it: is it one, and which of its files to try. Pure. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/reason.h"

enum {
	INSPECT_PATH_BYTES = 1024,
	INSPECT_TRY_MAX = 3,
	INSPECT_WHY_BYTES = 256,
};

/* A Packages file that it lists with a SHA-256. */
struct inspect_listed {
	char path[INSPECT_PATH_BYTES];	/* relative to the Release */
	uint64_t size_bytes;
	uint8_t sha256[32];
};

struct inspect_release {
	bool is_signed;			/* it came in armour */
	int64_t date_s;
	int64_t valid_until_s;		/* INT64_MIN: for ever */
	char name[300];			/* Origin and suite, in words; may be "" */
	size_t files_n;
	/* The smallest ones that are not empty, compressed ones first: not all that is listed exists. */
	struct inspect_listed listed[INSPECT_TRY_MAX];
	unsigned listed_n;
};

/* REASON_OK, or what release_parse says, with words in why. */
enum reason inspect_release(const void *text, size_t n, struct inspect_release *out,
    char why[INSPECT_WHY_BYTES]) MUSTCHECK;

#endif
