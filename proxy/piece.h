/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PIECE_H
#define PIECE_H
/*
 * How a body is cut into pieces for its parallel ranges: a list by offset,
 * without overlaps, with gaps that are in no piece yet. Pure: who fetches a
 * piece is a pointer here. See segments.c for the life of a piece.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "include/obj.h"

struct segment;

/* [first, at) is written, [at, end) is not. */
struct piece {
	TAILQ_ENTRY(piece) link;
	uint64_t first, at, end;
	struct segment *by;		/* NULL: a hole, or complete */
	bool wanted;			/* a reader waited for it */
};

TAILQ_HEAD(piece_list, piece);

/* The piece with this byte, or the first one behind it; NULL: none. */
struct piece *piece_find(const struct piece_list *list, uint64_t at);
/* The first byte from `at` on that is in no piece; *end: where the gap ends, total at most. */
uint64_t piece_find_gap(const struct piece_list *list, uint64_t at, uint64_t total, uint64_t *end);
/* A new one; nothing overlaps it. NULL: out of memory. */
struct piece *piece_add(struct piece_list *list, uint64_t first, uint64_t end) MUSTCHECK;
/* The rest of it from `at` on becomes a piece of its own, a hole. NULL: out of memory. */
struct piece *piece_split(struct piece_list *list, struct piece *p, uint64_t at) MUSTCHECK;
void piece_free(struct piece_list *list, struct piece *p);

static inline bool
piece_is_hole(const struct piece *p)
{
	return p->by == NULL && p->at < p->end;
}

#endif
