/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* One thread's way to look at the repositories: the snapshot that it holds, and what it remembers. */
#include "cache/repo_priv.h"

struct repo_view *
repo_view_open(struct repos *rs)
{
	struct repo_view *v;

	CHECK_OBJ(rs, REPOS_MAGIC);
	OBJ_NEW(v, REPO_VIEW_MAGIC);
	if (v != NULL)
		v->rs = rs;
	return v;
}

void
repo_view_close(struct repo_view **v_p)
{
	struct repo_view *v = *v_p;

	*v_p = NULL;
	if (v == NULL)
		return;
	CHECK_OBJ(v, REPO_VIEW_MAGIC);
	repo_set_unref(v->set);
	free(v->memos);
	OBJ_FREE(v);
}

const struct repo_set *
repo_view_refresh(struct repo_view *v)
{
	struct repos *rs = v->rs;

	CHECK_OBJ(v, REPO_VIEW_MAGIC);
	if (v->set != NULL && v->set->epoch == repo_epoch(rs))
		return v->set;
	AZ(pthread_mutex_lock(&rs->lock));
	repo_set_unref(v->set);
	v->set = rs->set;
	(void)atomic_fetch_add(&v->set->refs, 1);
	AZ(pthread_mutex_unlock(&rs->lock));
	return v->set;
}

void
repo_view_tick(struct repo_view *v)
{
	(void)repo_view_refresh(v);
}
