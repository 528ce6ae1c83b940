/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef EXPLAIN_H
#define EXPLAIN_H
/*
 * What the depot knows of a URL and what it would do for it: gathered once as
 * a list of facts, shown as text (the command), HTML or JSON (the page).
 * Gathering costs a few index lookups and may be done on a worker's loop.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/obj.h"

struct cache_view;
struct depot;
struct explain;

struct explain_ask {
	const struct depot *depot;
	struct cache_view *view;	/* of the calling thread */
	int64_t now_ms, now_s;
	uint64_t req_id;		/* of the page; 0: a command asks */
};

/* word: a URL in any form that clients send. NULL: out of memory. */
struct explain *explain_new(const struct explain_ask *ask, const char *word) MUSTCHECK;
void explain_free(struct explain **e_p);
/* False: the word is no URL of an object; the only facts say so. */
bool explain_understood(const struct explain *e);

void explain_print_text(const struct explain *e, FILE *out);
void explain_print_json(const struct explain *e, FILE *out);
void explain_print_html(const struct explain *e, FILE *out);

#endif
