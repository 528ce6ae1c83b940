/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The list of a body's pieces; see piece.h. Called by segments.c alone. */
#include "proxy/piece.h"

#include <stdlib.h>

struct piece *
piece_find(const struct piece_list *list, uint64_t at)
{
	struct piece *p;

	TAILQ_FOREACH(p, list, link)
		if (p->end > at)
			break;
	return p;
}

uint64_t
piece_find_gap(const struct piece_list *list, uint64_t at, uint64_t total, uint64_t *end)
{
	const struct piece *p = piece_find(list, at);

	for (; p != NULL && p->first <= at; p = TAILQ_NEXT(p, link))
		at = p->end;
	*end = p != NULL ? p->first : total;
	return at;
}

struct piece *
piece_add(struct piece_list *list, uint64_t first, uint64_t end)
{
	struct piece *p = calloc(1, sizeof(*p)), *next = piece_find(list, first);

	MUST(first < end && (next == NULL || next->first >= end));
	if (p == NULL)
		return NULL;
	p->first = p->at = first;
	p->end = end;
	if (next != NULL)
		TAILQ_INSERT_BEFORE(next, p, link);
	else
		TAILQ_INSERT_TAIL(list, p, link);
	return p;
}

struct piece *
piece_split(struct piece_list *list, struct piece *p, uint64_t at)
{
	struct piece *rest = calloc(1, sizeof(*rest));

	MUST(at > p->first && at >= p->at && at < p->end);
	if (rest == NULL)
		return NULL;
	rest->first = rest->at = at;
	rest->end = p->end;
	p->end = at;
	TAILQ_INSERT_AFTER(list, p, rest, link);
	return rest;
}

void
piece_free(struct piece_list *list, struct piece *p)
{
	TAILQ_REMOVE(list, p, link);
	free(p);
}
