/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SOURCES_H
#define SOURCES_H
/* Rewrites sources lists, one-line and deb822, from https:// to http://HTTPS/// and back. Pure. */
#include <stdbool.h>
#include <stdio.h>

#include "include/slice.h"

struct sources_how {
	bool to_https;			/* http://HTTPS///host becomes https://host; else the reverse */
	bool all;			/* plain http:// too */
	/* Called for each line that changes, with its number; lines end without newline. NULL: not. */
	void (*line)(void *arg, unsigned long number, struct slice was, struct slice now);
	void *arg;
};

/* Writes the text with its URIs rewritten; how many were. */
unsigned long sources_rewrite(struct slice text, const struct sources_how *how, FILE *out);

#endif
