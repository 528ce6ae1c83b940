/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef LOG_PRIV_H
#define LOG_PRIV_H
/* What panic.c and the tests need of log.c. */
#include <stdbool.h>
#include <stddef.h>

#include "include/slice.h"

enum {
	LOG_HALF_BYTES = 512 << 10,	/* a stream has two: one fills while the other is written */
	LOG_LINE_BYTES = 16 << 10,
};

/* How bytes that could break a line, or a terminal, are written. */
enum log_escape {
	LOG_ESCAPE_LINE,	/* free text: control bytes only */
	LOG_ESCAPE_BARE,	/* a value up to the next blank */
	LOG_ESCAPE_QUOTED,	/* a value in double quotes */
	LOG_ESCAPE_JSON,	/* the inside of a JSON string */
};

/* Text being put together; what does not fit is left out. */
struct log_out {
	char *p;
	size_t n, cap;
};

/* Appends s with at most limit bytes of output; a longer one ends in "...". */
void log_escape_put(struct log_out *out, struct slice s, enum log_escape how, size_t limit);

/* Where messages go, for a process that is about to end. */
int log_panic_fd(void);
/* Writes what waits in the buffers, unless another thread holds them; waits for that a moment. */
void log_panic_flush(void);

#endif
