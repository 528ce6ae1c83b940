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

static void
repo_ask_listed(struct repo_answer *out, const struct repo_snap *snap, struct repo_gen *g,
    const struct repo_ask *ask)
{
	out->role = REPO_ROLE_LISTED;
	out->gen = g;
	out->held = g != snap->gens[0];
	repo_version_key(ask->url->text, &out->expect, &out->version_key);
}

/*
 * InRelease, Release: the newest generation's, or that of the time asked for. Release.gpg: that
 * of the generation whose Release the client has.
 */
static void
repo_ask_release(struct repo_view *v, const struct repo_set *set, const struct repo_path *p,
    const struct repo_ask *ask, struct repo_answer *out)
{
	uint32_t at = repo_set_first(set, p, p->n - 1);
	const struct repo_dir *d;
	struct slice root;
	enum repo_file which;

	while ((d = repo_set_next_dir(set, p, p->n - 1, &at)) != NULL)
		if (d->up == 0)
			break;
	if (d == NULL || !repo_split_release(p->url, &root, &which))
		return;
	out->role = REPO_ROLE_UNKNOWN;
	if (set->repos[d->repo].gens_n == 0)
		return;
	/* A signature belongs to the Release that this client was given, not to a newer one. */
	out->gen = ask->at.n == 0 && which != REPO_SIGNATURE ? set->repos[d->repo].gens[0] :
	    repo_select(v, &set->repos[d->repo], ask, repo_file_names[which], false);
	if (out->gen == NULL)
		return;
	out->role = REPO_ROLE_UNLISTED;
	out->held = out->gen != set->repos[d->repo].gens[0];
	if (!repo_gen_digest(out->gen, which, out->expect.digest))
		return;
	out->role = REPO_ROLE_RELEASE;
	out->expect.hash = APTFILE_SHA256;
	out->expect.size_bytes = -1;
	repo_version_key(ask->url->text, &out->expect, &out->version_key);
}

/* The bytes of a hexadecimal digest; false: not as many digits. */
static bool
repo_ask_hex(struct slice hex, uint8_t *out, size_t n)
{
	if (hex.n != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned v;

		if (sscanf((char[]){hex.p[2 * i], hex.p[2 * i + 1], '\0'}, "%2x", &v) != 1)
			return false;
		out[i] = (uint8_t)v;
	}
	return true;
}

/*
 * An index under its digest says by its name what it is. Which file that is
 * tells the next staging to fetch it, and by which digest it is stored.
 */
static void
repo_ask_by_hash(struct repo_view *v, const struct repo_snap *snap, const struct repo_ask *ask,
    struct repo_answer *out)
{
	const struct release_file *rf = NULL;
	uint8_t digest[64];
	unsigned i;

	if (!repo_ask_hex(ask->af->hash_hex, digest, ask->af->hash == APTFILE_SHA512 ? 64 : 32))
		return;
	for (i = 0; i < snap->gens_n && rf == NULL; i++)
		rf = repo_gen_by_digest(snap->gens[i], ask->af->hash, digest);
	if (rf == NULL)
		return;
	out->role = REPO_ROLE_UNLISTED;	/* not by this name, but it is one of its files */
	if (i == 1)
		repo_ask_note(v, snap->gens[0], rf, ask->now_s);
	out->by_digest = repo_file_expect(rf, &out->expect) &&
	    out->expect.hash == APTFILE_SHA256;
}

/* What lies below a root and may be listed in its Release. */
static void
repo_ask_member(struct repo_view *v, const struct repo_set *set, const struct repo_path *p,
    const struct repo_ask *ask, struct repo_answer *out)
{
	for (unsigned depth = p->n; depth-- > 0 && out->role != REPO_ROLE_LISTED;) {
		uint32_t at = repo_set_first(set, p, depth);
		const struct repo_dir *d;

		while ((d = repo_set_next_dir(set, p, depth, &at)) != NULL) {
			const struct repo_snap *snap = &set->repos[d->repo];
			struct slice rel = slice_skip(p->url, p->dirs[depth].n);
			const struct release_file *rf;
			struct repo_gen *g;

			if (d->up != 0)
				continue;
			if (ask->af->class == APTFILE_BYHASH) {
				repo_ask_by_hash(v, snap, ask, out);
				return;
			}
			if (out->role == REPO_ROLE_NONE)
				out->role = REPO_ROLE_UNKNOWN;
			g = snap->gens_n != 0 ? repo_select(v, snap, ask, rel, false) : NULL;
			if (g == NULL)
				continue;
			out->role = REPO_ROLE_UNLISTED;
			rf = release_find_url(g->release, rel);
			if (rf == NULL || !repo_file_expect(rf, &out->expect))
				continue;
			repo_ask_note(v, g, rf, ask->now_s);
			repo_ask_listed(out, snap, g, ask);
			break;
		}
	}
}

/* May a package of this name, counted from this directory, be the repository's? */
static bool
repo_ask_may_name(const struct repo_dir *d, const struct repo_snap *snap, struct slice url,
    struct slice rel)
{
	/* Outside of a flat root a bare name is as likely to be a stranger's. */
	return d->up == 0 || d->up == REPO_DIR_BASE || slice_starts(url, snap->repo->root) ||
	    memchr(rel.p, '/', rel.n) != NULL;
}

/* One repository's word on a package; false: it does not name it. */
static bool
repo_ask_snap(struct repo_view *v, const struct repo_snap *snap, const struct repo_ask *ask,
    struct slice rel, struct repo_answer *out)
{
	struct repo_gen *g = repo_select(v, snap, ask, rel, true);

	if (g == NULL)
		return false;
	out->role = REPO_ROLE_UNLISTED;
	if (repo_gen_says(g, rel, true, &out->expect)) {
		repo_ask_listed(out, snap, g, ask);
		return true;
	}
	for (unsigned i = 0; ask->at.n == 0 && i < snap->gens_n; i++) {
		if (!repo_gen_says(snap->gens[i], rel, true, &out->expect))
			continue;
		repo_ask_listed(out, snap, snap->gens[i], ask);
		return true;
	}
	return false;
}

/* A package: any repository whose names may start in one of its directories. */
static void
repo_ask_package(struct repo_view *v, const struct repo_set *set, const struct repo_path *p,
    const struct repo_ask *ask, struct repo_answer *out)
{
	for (unsigned depth = p->n; depth-- > 0;) {
		struct slice rel = slice_skip(p->url, p->dirs[depth].n);
		uint32_t at = repo_set_first(set, p, depth);
		const struct repo_dir *d;

		while ((d = repo_set_next_dir(set, p, depth, &at)) != NULL) {
			const struct repo_snap *snap = &set->repos[d->repo];

			if (!repo_ask_may_name(d, snap, p->url, rel))
				continue;
			if (out->role == REPO_ROLE_NONE)
				out->role = REPO_ROLE_UNKNOWN;
			if (snap->gens_n != 0 && repo_ask_snap(v, snap, ask, rel, out)) {
				COUNT(packages_expected_total);
				return;
			}
		}
	}
}

void
repo_ask(struct repo_view *v, const struct repo_ask *ask, struct repo_answer *out)
{
	const struct repo_set *set = repo_view_refresh(v);
	struct repo_memo *memo = v->memos != NULL ? &v->memos[(ask->key->b[6] |
	    (unsigned)ask->key->b[7] << 8) % REPO_MEMO] : NULL;
	uint32_t day = (uint32_t)(ask->now_s / 86400);
	struct repo_path p;
	bool current;

	memset(out, 0, sizeof(*out));
	if (set->repos_n == 0 && ask->at.n == 0)
		return;
	current = ask->af->class != APTFILE_RELEASE && repo_select_is_current(v, ask);
	/* A new day is looked up again: repo_ask_note writes down which indexes are wanted. */
	if (current && memo != NULL && memo->epoch == set->epoch && memo->day == day &&
	    memcmp(&memo->key, ask->key, sizeof(memo->key)) == 0) {
		*out = memo->answer;
		if (out->role == REPO_ROLE_LISTED && ask->af->class == APTFILE_PACKAGE)
			COUNT(packages_expected_total);
		return;
	}
	repo_set_split(&p, ask->url->text);
	if (p.n > 0) {
		switch (ask->af->class) {
		case APTFILE_RELEASE:
			repo_ask_release(v, set, &p, ask, out);
			break;
		case APTFILE_PACKAGE:
			repo_ask_package(v, set, &p, ask, out);
			break;
		case APTFILE_INDEX:
		case APTFILE_BYHASH:
		case APTFILE_OTHER:
			repo_ask_member(v, set, &p, ask, out);
			break;
		}
	}
	if (ask->at.n != 0 && (out->role == REPO_ROLE_NONE || out->role == REPO_ROLE_UNKNOWN))
		out->role = REPO_ROLE_NO_SUCH_TIME;
	if (current && !out->held && memo != NULL) {
		memo->key = *ask->key;
		memo->epoch = set->epoch;
		memo->day = day;
		memo->answer = *out;
	} else if (current && !v->forgetful && memo == NULL)
		v->memos = calloc(REPO_MEMO, sizeof(*v->memos));
}

void
repo_list_times(struct repo_view *v, const struct url *url, char *out, size_t cap)
{
	const struct repo_set *set = repo_view_refresh(v);
	struct repo_path p;
	size_t n = 0;

	out[0] = '\0';
	repo_set_split(&p, url->text);
	AZ(pthread_mutex_lock(&v->rs->lock));
	for (unsigned depth = p.n; depth-- > 0;) {
		uint32_t at = repo_set_first(set, &p, depth);
		const struct repo_dir *d;

		while ((d = repo_set_next_dir(set, &p, depth, &at)) != NULL) {
			const struct repo_snap *snap = &set->repos[d->repo];

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
	}
	AZ(pthread_mutex_unlock(&v->rs->lock));
}
