/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The latest trouble; see trouble.h. answer.c and req_step.c note it, page.c
 * shows it. What happens again takes no second place in the list: a client
 * that repeats a request all night must not push out the rest.
 */
#include "proxy/trouble.h"

#include <pthread.h>
#include <stdio.h>

#include "include/obj.h"

static pthread_mutex_t trouble_lock = PTHREAD_MUTEX_INITIALIZER;
static struct trouble trouble_seen[TROUBLE_MAX];	/* the latest last */
static unsigned trouble_n;

/* Takes the same trouble out of the list, or the oldest one where it is full; gives its place. */
static struct trouble *
trouble_take_place(const struct trouble *t)
{
	unsigned i;

	for (i = 0; i < trouble_n; i++)
		if (trouble_seen[i].reason == t->reason && strcmp(trouble_seen[i].url, t->url) == 0)
			break;
	if (i < trouble_n)
		trouble_seen[i].times_n++;
	else if (trouble_n < TROUBLE_MAX)
		trouble_seen[trouble_n++].times_n = 1;
	else
		trouble_seen[i = 0].times_n = 1;
	return &trouble_seen[i];
}

void
trouble_note(int64_t at_s, uint64_t req_id, int status, enum reason reason, struct slice url,
    const char *what)
{
	struct trouble t = {.at_s = at_s, .req_id = req_id, .status = status, .reason = reason};
	struct trouble *place;

	(void)snprintf(t.url, sizeof(t.url), "%.*s", SLICE_ARG(url));
	(void)snprintf(t.what, sizeof(t.what), "%s", what);
	AZ(pthread_mutex_lock(&trouble_lock));
	place = trouble_take_place(&t);
	t.times_n = place->times_n;
	memmove(place, place + 1, (size_t)(&trouble_seen[trouble_n - 1] - place) * sizeof(*place));
	trouble_seen[trouble_n - 1] = t;
	AZ(pthread_mutex_unlock(&trouble_lock));
}

unsigned
trouble_list(struct trouble out[TROUBLE_MAX])
{
	unsigned i, n;

	AZ(pthread_mutex_lock(&trouble_lock));
	n = trouble_n;
	for (i = 0; i < n; i++)
		out[i] = trouble_seen[n - 1 - i];
	AZ(pthread_mutex_unlock(&trouble_lock));
	return n;
}
