/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef REASON_H
#define REASON_H
/* Reasons as an enum, from the table in reason.def. Functions that can fail return one. */
enum reason {
#define R(name, status, text, advice) REASON_##name,
#include "include/reason.def"
#undef R
	REASON__N
};

const char *reason_name(enum reason r);		/* "UP_TIMEOUT" */
const char *reason_text(enum reason r);		/* a sentence without its full stop */
const char *reason_advice(enum reason r);	/* what to do; NULL: never told to a client */
int reason_status(enum reason r);		/* HTTP status; 0: never told to a client */

#endif
