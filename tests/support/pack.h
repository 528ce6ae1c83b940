/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PACK_H
#define PACK_H
/* Compresses what tests unpack again. Whatever fails fails the test. */
#include <stddef.h>
#include <stdint.h>

#include "cache/unpack.h"

struct packed {
	uint8_t *p;	/* free it */
	size_t n;
};

/* One stream or member; of UNPACK_PLAIN a copy. */
struct packed pack_make(enum unpack_kind kind, const void *p, size_t n);
/* a and b in one, both freed. */
struct packed pack_join(struct packed a, struct packed b);

#endif
