/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef TROUBLE_H
#define TROUBLE_H
/*
 * What went wrong for clients lately, for the dashboard: answers of 500 and
 * above, refusals by configuration, answers that were cut. The log has all of
 * them; these few are for whoever looks at the page first. Any thread.
 */
#include <stdint.h>

#include "include/reason.h"
#include "include/slice.h"

enum { TROUBLE_MAX = 10 };

struct trouble {
	int64_t at_s;			/* the last time, wall clock */
	unsigned times_n;		/* that URL and reason, since it is in the list */
	uint64_t req_id;		/* of the last request */
	int status;			/* as it was told; 0: its answer was cut */
	enum reason reason;
	char url[400], what[300];	/* cut where they are longer */
};

/* url and what: as in the error's body. */
void trouble_note(int64_t at_s, uint64_t req_id, int status, enum reason reason, struct slice url,
    const char *what);
/* The latest first; how many there are. */
unsigned trouble_list(struct trouble out[TROUBLE_MAX]);

#endif
