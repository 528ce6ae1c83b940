/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Indexes that clients may have whole while nobody has read them into a table
 * yet. Who asks for a package that no generation names waits a moment where
 * such an index lies below the same root (cache_ask.c). Noted by the index's
 * flight from its last byte until it is settled; by then the job that makes
 * the table has noted it for itself.
 */
#include "cache/stage_priv.h"

struct stage_unread {
	TAILQ_ENTRY(stage_unread) link;
	uint8_t digest[32];		/* of the index */
	char *url;			/* its own, or its root's; malloced */
};

struct stage_unread *
stage_unread_begin(struct stage *st, struct slice url, const uint8_t sha256[32])
{
	struct stage_unread *u = calloc(1, sizeof(*u));

	CHECK_OBJ(st, STAGE_MAGIC);
	if (u != NULL)
		u->url = strndup(url.p, url.n);
	if (u == NULL || u->url == NULL) {
		free(u);
		return NULL;	/* then nobody waits for it */
	}
	memcpy(u->digest, sha256, 32);
	AZ(pthread_mutex_lock(&st->unread_lock));
	TAILQ_INSERT_TAIL(&st->unread, u, link);
	AZ(pthread_mutex_unlock(&st->unread_lock));
	(void)atomic_fetch_add(&st->unread_n, 1);
	return u;
}

void
stage_unread_end(struct stage *st, struct stage_unread **u_p)
{
	struct stage_unread *u = *u_p;

	*u_p = NULL;
	if (u == NULL)
		return;
	CHECK_OBJ(st, STAGE_MAGIC);
	AZ(pthread_mutex_lock(&st->unread_lock));
	TAILQ_REMOVE(&st->unread, u, link);
	AZ(pthread_mutex_unlock(&st->unread_lock));
	(void)atomic_fetch_sub(&st->unread_n, 1);
	free(u->url);
	free(u);
}

struct stage_unread *
stage_unread_again(struct stage *st, const uint8_t sha256[32])
{
	struct stage_unread *u;
	char *url = NULL;

	AZ(pthread_mutex_lock(&st->unread_lock));
	TAILQ_FOREACH(u, &st->unread, link)
		if (memcmp(u->digest, sha256, 32) == 0) {
			url = strdup(u->url);
			break;
		}
	AZ(pthread_mutex_unlock(&st->unread_lock));
	u = url != NULL ? stage_unread_begin(st, slice_of(url), sha256) : NULL;
	free(url);
	return u;
}

bool
stage_has_unread(struct stage *st)
{
	return atomic_load(&st->unread_n) != 0;
}

bool
stage_has_unread_below(struct stage *st, struct slice root)
{
	struct stage_unread *u;

	AZ(pthread_mutex_lock(&st->unread_lock));
	TAILQ_FOREACH(u, &st->unread, link)
		if (slice_starts(slice_of(u->url), root))
			break;
	AZ(pthread_mutex_unlock(&st->unread_lock));
	return u != NULL;
}
