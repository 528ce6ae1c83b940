/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Which generation a client sees: that of a time or name that it asked for,
 * that of its connection, that which its address was given lately, the newest,
 * and for what that does not name, the newest kept one that does. Suites share
 * a pool, so each step looks at all repositories that may name a package; where
 * those disagree, the generation that was given last counts.
 */
#include "cache/repo_priv.h"

#include "include/counter.h"

static bool
repo_select_is_pinned(struct repos *rs, const struct repo_gen *g, struct slice name)
{
	bool yes = false;

	AZ(pthread_mutex_lock(&rs->lock));
	for (unsigned i = 0; i < g->pins_n; i++)
		yes |= slice_eq(slice_of(g->pins[i]), name);
	AZ(pthread_mutex_unlock(&rs->lock));
	return yes;
}

/* The generation of that name or time; NULL: none. */
static struct repo_gen *
repo_select_at(struct repos *rs, const struct repo_snap *snap, struct slice at)
{
	int64_t upto_s = 0;
	unsigned i;

	for (i = 0; i < snap->gens_n; i++)
		if (repo_select_is_pinned(rs, snap->gens[i], at))
			return snap->gens[i];
	if (!repo_time_parse(at, &upto_s))
		return NULL;
	for (i = 0; i < snap->gens_n; i++)
		if (snap->gens[i]->adopted_at_s <= upto_s)
			return snap->gens[i];
	return NULL;
}

/* The generation of this number, if it is kept. */
static struct repo_gen *
repo_select_seq(const struct repo_snap *snap, uint64_t seq)
{
	for (unsigned i = 0; i < snap->gens_n; i++)
		if (snap->gens[i]->seq == seq)
			return snap->gens[i];
	return NULL;
}

/* The connection sees this generation no longer. */
static void
repo_held_drop(struct repo_gen **g_p)
{
	if (*g_p != NULL)
		(void)atomic_fetch_sub(&(*g_p)->connections_n, 1);
	repo_gen_unref(g_p);
}

/* Notes in the connection's memory that it sees this generation, in front of what it was given before. */
static void
repo_held_note(struct cache_client *client, struct repo_gen *gen)
{
	struct repo_held *h = client->held;
	unsigned i;

	if (h == NULL)
		h = client->held = calloc(1, sizeof(*h));
	if (h == NULL)
		return;		/* then by address, or the newest */
	for (i = 0; i < h->n && h->gens[i]->repo != gen->repo; i++)
		;
	if (i == REPO_HELD_MAX)
		i--;
	else if (i == h->n)
		h->n++;
	(void)atomic_fetch_add(&repo_gen_ref(gen)->connections_n, 1);
	repo_held_drop(&h->gens[i]);
	memmove(&h->gens[1], &h->gens[0], i * sizeof(struct repo_gen *));
	h->gens[0] = gen;
}

void
repo_held_free(struct repo_held **held_p)
{
	struct repo_held *h = *held_p;

	*held_p = NULL;
	if (h == NULL)
		return;
	for (unsigned i = 0; i < h->n; i++)
		repo_held_drop(&h->gens[i]);
	free(h);
}

void
repo_note_given(struct repo_view *v, struct cache_client *client, struct repo_gen *gen,
    int64_t now_ms)
{
	if (client == NULL)
		return;
	repo_held_note(client, gen);
	if (client->has_address && v->rs->conf.hold_ms > 0)
		repo_hold_note(v->rs->holds, client->address, gen->repo, gen->seq, now_ms);
}

/* Was any generation replaced so lately that an address may hold an older one? */
static bool
repo_select_flipped_lately(const struct repos *rs, int64_t now_ms)
{
	int64_t flipped_ms = atomic_load_explicit(&rs->flipped_ms, memory_order_relaxed);

	return flipped_ms != 0 && now_ms - flipped_ms <= rs->conf.hold_ms;
}

bool
repo_select_is_current(const struct repo_view *v, const struct repo_ask *ask)
{
	const struct cache_client *c = ask->client;

	if (ask->at.n != 0)
		return false;
	if (c == NULL)
		return true;
	if (c->has_address && repo_select_flipped_lately(v->rs, ask->now_ms))
		return false;
	for (unsigned i = 0; c->held != NULL && i < c->held->n; i++)
		if (atomic_load_explicit(&c->held->gens[i]->superseded, memory_order_relaxed))
			return false;
	return true;
}

/* ---- who names a path ---- */

/* Where a client's generation may come from, the best first. */
enum repo_tier {
	REPO_TIER_AT,			/* the time or name that it asks for, and nothing else */
	REPO_TIER_CONNECTION,
	REPO_TIER_ADDRESS,
	REPO_TIER_CURRENT,
	REPO_TIER_KEPT,			/* the newest that names the path */
};

/* This generation has a say, since it was given then; false: it does not name the path. */
static bool
repo_select_offer(struct repo_choice *c, const struct repo_snap *snap, struct slice rel,
    struct repo_gen *g, int64_t given_at)
{
	struct flight_expect e;

	c->knows_gen = true;
	if (!repo_gen_says(g, rel, c->package, &e))
		return false;
	if (c->gen != NULL && (e.hash != c->expect.hash ||
	    memcmp(e.digest, c->expect.digest, sizeof(e.digest)) != 0))
		c->disagree = true;
	if (c->gen != NULL && given_at <= c->given_at)
		return true;
	c->gen = g;
	c->snap = snap;
	c->rel = rel;
	c->expect = e;
	c->given_at = given_at;
	return true;
}

/* What the client's address was given lately of this repository. */
static void
repo_select_by_address(struct repo_choice *c, const struct repo_view *v,
    const struct repo_ask *ask, const struct repo_snap *snap, struct slice rel)
{
	struct repo_given given[REPO_HOLD_GENS];
	unsigned n = repo_hold_find(v->rs->holds, ask->client->address, snap->repo,
	    ask->now_ms - v->rs->conf.hold_ms, given);

	for (unsigned i = 0; i < n; i++) {
		struct repo_gen *g = repo_select_seq(snap, given[i].seq);

		if (g != NULL)
			(void)repo_select_offer(c, snap, rel, g, given[i].given_ms);
	}
}

/* What one repository offers. */
static void
repo_select_ask(struct repo_choice *c, const struct repo_view *v, const struct repo_ask *ask,
    enum repo_tier tier, const struct repo_snap *snap, struct slice rel)
{
	const struct repo_held *h = ask->client != NULL ? ask->client->held : NULL;
	struct repo_gen *g;

	switch (tier) {
	case REPO_TIER_AT:
		g = repo_select_at(v->rs, snap, ask->at);
		if (g != NULL)
			(void)repo_select_offer(c, snap, rel, g, g->adopted_at_s);
		break;
	case REPO_TIER_CONNECTION:
		for (unsigned i = 0; h != NULL && i < h->n; i++)
			if (h->gens[i]->repo == snap->repo)
				(void)repo_select_offer(c, snap, rel, h->gens[i], -(int64_t)i);
		break;
	case REPO_TIER_ADDRESS:
		if (ask->client != NULL && ask->client->has_address &&
		    repo_select_flipped_lately(v->rs, ask->now_ms))
			repo_select_by_address(c, v, ask, snap, rel);
		break;
	case REPO_TIER_CURRENT:
		if (snap->gens_n > 0)
			(void)repo_select_offer(c, snap, rel, snap->gens[0],
			    snap->gens[0]->adopted_at_s);
		break;
	case REPO_TIER_KEPT:
		for (unsigned i = 1; i < snap->gens_n; i++)
			if (repo_select_offer(c, snap, rel, snap->gens[i],
			    snap->gens[i]->adopted_at_s))
				break;
		break;
	}
}

/* What all repositories offer that may name the path; false: none does. */
static bool
repo_select_tier(struct repo_choice *c, const struct repo_view *v, const struct repo_path *p,
    const struct repo_ask *ask, enum repo_tier tier)
{
	const struct repo_dir *d;
	struct repo_walk w;

	c->gen = NULL;
	c->disagree = false;
	repo_walk_begin(&w, v->set, p);
	while ((d = repo_walk_next(&w)) != NULL) {
		if (!repo_walk_may_name(&w, d, c->package))
			continue;
		c->knows_root = true;
		repo_select_ask(c, v, ask, tier, &v->set->repos[d->repo], w.rel);
		/* An index is the innermost root's that lists it; a pool is shared. */
		if (c->gen != NULL && !c->package)
			break;
	}
	return c->gen != NULL;
}

bool
repo_select(struct repo_choice *c, const struct repo_view *v, const struct repo_path *p,
    const struct repo_ask *ask, bool is_current)
{
	memset(c, 0, sizeof(*c));
	c->package = aptfile_may_be_package(ask->af);
	if (ask->at.n != 0)
		return repo_select_tier(c, v, p, ask, REPO_TIER_AT);
	/* Where all that are current say the same, it is what such a client was given as well. */
	if (is_current && repo_select_tier(c, v, p, ask, REPO_TIER_CURRENT) && !c->disagree)
		return true;
	c->personal = c->disagree;
	for (enum repo_tier tier = REPO_TIER_CONNECTION; tier <= REPO_TIER_KEPT; tier++) {
		if (!repo_select_tier(c, v, p, ask, tier))
			continue;
		if (c->disagree)
			COUNT(generation_conflicts_total);
		if (tier == REPO_TIER_ADDRESS)
			repo_held_note(ask->client, c->gen);
		return true;
	}
	return false;
}

struct repo_gen *
repo_select_in(const struct repo_view *v, const struct repo_snap *snap,
    const struct repo_ask *ask)
{
	const struct repo_held *h = ask->client != NULL ? ask->client->held : NULL;
	struct repo_given given[REPO_HOLD_GENS];
	struct repo_gen *g = NULL;
	unsigned n = 0;

	if (ask->at.n != 0)
		return repo_select_at(v->rs, snap, ask->at);
	for (unsigned i = 0; h != NULL && i < h->n; i++)
		if (h->gens[i]->repo == snap->repo)
			return h->gens[i];
	if (ask->client != NULL && ask->client->has_address &&
	    repo_select_flipped_lately(v->rs, ask->now_ms))
		n = repo_hold_find(v->rs->holds, ask->client->address, snap->repo,
		    ask->now_ms - v->rs->conf.hold_ms, given);
	for (unsigned i = 0; i < n && g == NULL; i++)
		g = repo_select_seq(snap, given[i].seq);
	return g != NULL ? g : snap->gens[0];
}
