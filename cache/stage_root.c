/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What is going on at a root: does upstream disagree with itself there, since
 * when, and when is it looked at again. A root's entry is made when a Release
 * of it is staged.
 */
#include "cache/stage_priv.h"

#include <stdio.h>

#include "include/clock.h"
#include "include/counter.h"
#include "include/log.h"

/* Makes room: the one goes that was not asked for the longest (lock held). */
static bool
stage_root_forget(struct stage *st)
{
	struct stage_root *root, *oldest = NULL;

	TAILQ_FOREACH(root, &st->roots, link)
		if (root->users_n == 0 && (oldest == NULL || root->asked_ms < oldest->asked_ms))
			oldest = root;
	if (oldest == NULL)
		return false;
	TAILQ_REMOVE(&st->roots, oldest, link);
	st->roots_n--;
	free(oldest->text);
	free(oldest);
	return true;
}

struct stage_root *
stage_root_of(struct stage *st, struct slice text)
{
	struct stage_root *root;

	TAILQ_FOREACH(root, &st->roots, link)
		if (slice_eq(slice_of(root->text), text))
			return root;
	if (st->roots_n >= REPO_ROOTS_MAX && !stage_root_forget(st))
		return NULL;
	root = calloc(1, sizeof(*root));
	if (root != NULL)
		root->text = strndup(text.p, text.n);
	if (root == NULL || root->text == NULL) {
		free(root);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&st->roots, root, link);
	st->roots_n++;
	return root;
}

void
stage_root_settle(struct stage *st, struct stage_root *root)
{
	AZ(pthread_mutex_lock(&st->lock));
	if (root->disagrees)
		log_info("%s: upstream agrees with itself again", root->text);
	root->disagrees = false;
	root->probe_ms = root->backoff_ms = 0;
	root->why[0] = '\0';
	AZ(pthread_mutex_unlock(&st->lock));
}

void
stage_root_disagree(struct stage *st, struct stage_root *root, const struct release *r,
    const char *why, bool has_current)
{
	bool news;

	AZ(pthread_mutex_lock(&st->lock));
	news = !root->disagrees || memcmp(root->identity, r->identity, 32) != 0;
	if (root->since_ms == 0 || memcmp(root->identity, r->identity, 32) != 0)
		root->since_ms = clock_mono_ms();
	root->disagrees = true;
	memcpy(root->identity, r->identity, 32);
	(void)snprintf(root->why, sizeof(root->why), "%s", why);
	if (news || root->backoff_ms == 0)
		root->backoff_ms = STAGE_PROBE_MS;
	root->tried_ms = clock_mono_ms();
	if (news || root->probe_ms == 0 || root->probe_ms > root->tried_ms + root->backoff_ms)
		root->probe_ms = root->tried_ms + root->backoff_ms;
	AZ(pthread_cond_broadcast(&st->news));
	AZ(pthread_mutex_unlock(&st->lock));
	COUNT(generation_disagreements_total);
	if (news)
		log_warning("%s: upstream's Release and indexes are of different publications: %s; %s",
		    root->text, why, has_current ? "the generation before is served meanwhile" :
		    "there is no generation yet, clients get what upstream has");
}

bool
stage_root_tried_now(struct stage *st, struct stage_root *root, const struct release *r,
    char *why, size_t why_cap)
{
	bool yes;

	AZ(pthread_mutex_lock(&st->lock));
	yes = root->disagrees && memcmp(root->identity, r->identity, 32) == 0 &&
	    clock_mono_ms() - root->tried_ms < STAGE_RETRY_MS;
	if (yes)
		(void)snprintf(why, why_cap, "%s", root->why);
	AZ(pthread_mutex_unlock(&st->lock));
	return yes;
}

bool
stage_root_may_pass_over(struct stage *st, struct stage_root *root, const struct release *r)
{
	bool yes;

	AZ(pthread_mutex_lock(&st->lock));
	/* Also where an edge showed the current one in between: that does not begin it anew. */
	yes = root->since_ms != 0 && memcmp(root->identity, r->identity, 32) == 0 &&
	    clock_mono_ms() - root->since_ms >= st->pass_over_ms;
	AZ(pthread_mutex_unlock(&st->lock));
	return yes;
}

void
stage_root_note_broken(struct stage_try *t, struct stage_root *root)
{
	AZ(pthread_mutex_lock(&t->st->lock));
	root->broken_ms = clock_mono_ms();
	memcpy(root->broken, t->release->identity, 32);
	(void)snprintf(root->broken_why, sizeof(root->broken_why), "%s", t->why);
	AZ(pthread_mutex_unlock(&t->st->lock));
}

bool
stage_root_is_broken(struct stage_try *t, struct stage_root *root)
{
	bool yes;

	AZ(pthread_mutex_lock(&t->st->lock));
	yes = root->broken_ms != 0 && memcmp(root->broken, t->release->identity, 32) == 0 &&
	    clock_mono_ms() - root->broken_ms < STAGE_BROKEN_MS;
	if (yes)
		(void)snprintf(t->why, t->why_cap, "%s", root->broken_why);
	AZ(pthread_mutex_unlock(&t->st->lock));
	return yes;
}
