/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What a URL means in the repositories: which root it lies below, and what
 * the generation that its client sees says that the bytes must be. Answers
 * for clients that hold nothing old are remembered by the view until the epoch
 * moves, so that a hit on a package costs one comparison more than it did.
 */
#include "cache/repo_priv.h"

#include <stdio.h>

#include "include/counter.h"

/* Once a day for each file: more often is no news. */
static void
repo_ask_note(struct repo_view *v, struct repo_gen *g, const struct release_file *rf,
    int64_t now_s)
{
	_Atomic uint32_t *day = &g->asked_day[rf - g->release->files];
	uint32_t today = (uint32_t)(now_s / 86400);

	if (atomic_load_explicit(day, memory_order_relaxed) == today)
		return;
	atomic_store_explicit(day, today, memory_order_relaxed);
	repo_note_member(v->rs, g->repo, rf->path, now_s);
}

/* The repository whose file it is, and which file; NULL: none's. */
static const struct repo_snap *
repo_ask_root(const struct repo_view *v, const struct repo_path *p, enum repo_file *which)
{
	const struct repo_dir *d;
	struct repo_walk w;
	struct slice root;

	repo_walk_begin(&w, v->set, p);
	while ((d = repo_walk_next(&w)) != NULL && d->up != 0)
		;
	if (d == NULL || !repo_split_release(p->url, &root, which) || d->text.n != root.n)
		return NULL;
	return &v->set->repos[d->repo];
}

/*
 * InRelease, Release: the newest generation's, or that of the time asked for. Release.gpg: that
 * of the generation whose Release the client has.
 */
static void
repo_ask_release(struct repo_view *v, const struct repo_path *p, const struct repo_ask *ask,
    struct repo_answer *out)
{
	enum repo_file which;
	const struct repo_snap *snap = repo_ask_root(v, p, &which);

	if (snap == NULL)
		return;
	out->role = REPO_ROLE_UNKNOWN;
	repo_touch(snap->repo, ask->now_s);
	if (snap->gens_n == 0)
		return;
	/* A signature belongs to the Release that this client was given, not to a newer one. */
	out->gen = ask->at.n == 0 && which != REPO_SIGNATURE ? snap->gens[0] :
	    repo_select_in(v, snap, ask);
	if (out->gen == NULL)
		return;
	out->role = REPO_ROLE_UNLISTED;
	out->held = out->gen != snap->gens[0];
	if (!repo_gen_digest(out->gen, which, out->expect.digest))
		return;
	out->role = REPO_ROLE_RELEASE;
	out->expect.hash = APTFILE_SHA256;
	out->expect.size_bytes = -1;
	repo_version_key(ask->url->text, &out->expect, &out->version_key);
}

/*
 * An index under its digest says by its name what it is. Which file that is
 * tells the next staging to fetch it, and by which digest it is stored.
 */
static void
repo_ask_by_hash(struct repo_view *v, const struct repo_path *p, const struct repo_ask *ask,
    struct repo_answer *out)
{
	const struct release_file *rf = NULL;
	const struct repo_snap *snap;
	const struct repo_dir *d;
	struct repo_walk w;
	unsigned i;

	repo_walk_begin(&w, v->set, p);
	while ((d = repo_walk_next(&w)) != NULL && d->up != 0)
		;
	if (d == NULL)
		return;
	snap = &v->set->repos[d->repo];
	for (i = 0; i < snap->gens_n && rf == NULL; i++)
		rf = repo_gen_by_name(snap->gens[i], ask->af);
	if (rf == NULL)
		return;
	out->role = REPO_ROLE_UNLISTED;	/* not by this name, but it is one of its files */
	if (i == 1)
		repo_ask_note(v, snap->gens[0], rf, ask->now_s);
	out->by_digest = repo_file_expect(rf, &out->expect) &&
	    out->expect.hash == APTFILE_SHA256;
}

/* An index or a package: what the generation says that this client sees. */
static bool
repo_ask_listed(struct repo_view *v, const struct repo_path *p, const struct repo_ask *ask,
    bool is_current, struct repo_answer *out)
{
	const struct release_file *rf;
	struct repo_choice c;

	if (!repo_select(&c, v, p, ask, is_current)) {
		out->role = c.knows_gen ? REPO_ROLE_UNLISTED : c.knows_root ? REPO_ROLE_UNKNOWN :
		    REPO_ROLE_NONE;
		return true;
	}
	repo_touch(c.snap->repo, ask->now_s);
	out->role = REPO_ROLE_LISTED;
	out->gen = c.gen;
	out->held = c.gen != c.snap->gens[0];
	out->expect = c.expect;
	repo_version_key(ask->url->text, &out->expect, &out->version_key);
	rf = c.package ? NULL : release_find_url(c.gen->release, c.rel);
	if (rf != NULL)
		repo_ask_note(v, c.gen, rf, ask->now_s);
	return !c.personal;
}

/* By the kind of its name; false: another client may have to get another answer. */
static bool
repo_ask_anew(struct repo_view *v, const struct repo_ask *ask, bool is_current,
    struct repo_answer *out)
{
	struct repo_path p;

	repo_set_split(&p, ask->url->text);
	if (p.n == 0)
		return true;
	switch (ask->af->class) {
	case APTFILE_RELEASE:
		repo_ask_release(v, &p, ask, out);
		return false;
	case APTFILE_BYHASH:
		repo_ask_by_hash(v, &p, ask, out);
		return true;
	case APTFILE_PACKAGE:
	case APTFILE_INDEX:
	case APTFILE_OTHER:
		return repo_ask_listed(v, &p, ask, is_current, out);
	}
	WRONG("not an aptfile_class");
}

void
repo_ask(struct repo_view *v, const struct repo_ask *ask, struct repo_answer *out)
{
	const struct repo_set *set = repo_view_refresh(v);
	struct repo_memo *memo = v->memos != NULL ? &v->memos[(ask->key->b[6] |
	    (unsigned)ask->key->b[7] << 8) % REPO_MEMO] : NULL;
	uint32_t day = (uint32_t)(ask->now_s / 86400);
	bool is_current, is_for_all;

	memset(out, 0, sizeof(*out));
	if (set->repos_n == 0 && ask->at.n == 0)
		return;
	is_current = repo_select_is_current(v, ask);
	/* A new day is looked up again: repo_ask_note writes down which indexes are wanted. */
	if (is_current && memo != NULL && memo->epoch == set->epoch && memo->day == day &&
	    memcmp(&memo->key, ask->key, sizeof(memo->key)) == 0) {
		*out = memo->answer;
		is_for_all = false;	/* it is remembered already */
	} else
		is_for_all = repo_ask_anew(v, ask, is_current, out) && is_current;
	if (out->role == REPO_ROLE_LISTED && ask->af->class == APTFILE_PACKAGE)
		COUNT(packages_expected_total);
	if (ask->at.n != 0 && (out->role == REPO_ROLE_NONE || out->role == REPO_ROLE_UNKNOWN))
		out->role = REPO_ROLE_NO_SUCH_TIME;
	if (is_for_all && !out->held && memo != NULL) {
		memo->key = *ask->key;
		memo->epoch = set->epoch;
		memo->day = day;
		memo->answer = *out;
	} else if (is_for_all && !v->forgetful && memo == NULL)
		v->memos = calloc(REPO_MEMO, sizeof(*v->memos));
}

struct repo_gen *
repo_of_release(struct repo_view *v, const struct url *url, const uint8_t digest[32])
{
	const struct repo_snap *snap;
	enum repo_file which;
	struct repo_path p;
	uint8_t theirs[32];

	(void)repo_view_refresh(v);
	repo_set_split(&p, url->text);
	snap = repo_ask_root(v, &p, &which);
	for (unsigned i = 0; snap != NULL && which != REPO_SIGNATURE && i < snap->gens_n; i++)
		if (repo_gen_digest(snap->gens[i], which, theirs) && memcmp(theirs, digest, 32) == 0)
			return repo_gen_ref(snap->gens[i]);
	return NULL;
}

bool
repo_any_root(struct repo_view *v, const struct url *url, repo_root_f *fn, void *arg)
{
	const struct repo_dir *d;
	struct repo_path p;
	struct repo_walk w;

	repo_set_split(&p, url->text);
	repo_walk_begin(&w, repo_view_refresh(v), &p);
	while ((d = repo_walk_next(&w)) != NULL)
		if (repo_walk_may_name(&w, d, true) && fn(arg, w.set->repos[d->repo].repo->root))
			return true;
	return false;
}

void
repo_list_times(struct repo_view *v, const struct url *url, char *out, size_t cap)
{
	const struct repo_dir *d;
	struct repo_path p;
	struct repo_walk w;
	size_t n = 0;

	out[0] = '\0';
	repo_set_split(&p, url->text);
	repo_walk_begin(&w, repo_view_refresh(v), &p);
	AZ(pthread_mutex_lock(&v->rs->lock));
	while ((d = repo_walk_next(&w)) != NULL) {
		const struct repo_snap *snap = &w.set->repos[d->repo];

		/* Each repository once: what lies in a root lies in its parents too. */
		if (d->up != 0 && slice_starts(p.url, snap->repo->root))
			continue;
		for (unsigned i = 0; i < snap->gens_n && n + 128 < cap; i++) {
			const struct repo_gen *g = snap->gens[i];
			char when[32];
			int k;

			repo_time_text(g->adopted_at_s, when);
			k = snprintf(out + n, cap - n, "%s@%s", n != 0 ? ", " : "", when);
			n += k > 0 ? (size_t)k : 0;
			for (unsigned j = 0; j < g->pins_n && n + 80 < cap; j++) {
				k = snprintf(out + n, cap - n, " @%s", g->pins[j]);
				n += k > 0 ? (size_t)k : 0;
			}
		}
	}
	AZ(pthread_mutex_unlock(&v->rs->lock));
}
