/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Which generation a client sees: that of a time or name that it asked for,
 * that of its connection, that which its address was given lately, the newest.
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

/* Do two generations say something else of this path? */
static bool
repo_select_disagree(const struct repo_gen *a, const struct repo_gen *b, struct slice rel,
    bool package)
{
	struct flight_expect ea, eb;

	return repo_gen_says(a, rel, package, &ea) && repo_gen_says(b, rel, package, &eb) &&
	    (ea.hash != eb.hash || memcmp(ea.digest, eb.digest, sizeof(ea.digest)) != 0);
}

/* Notes in the connection's memory that it sees this generation. */
static void
repo_held_note(struct cache_client *client, struct repo_gen *gen)
{
	struct repo_held *h = client->held;
	unsigned i;

	if (h == NULL)
		h = client->held = calloc(1, sizeof(*h));
	if (h == NULL)
		return;		/* then by address, or the newest */
	for (i = 0; i < h->n; i++)
		if (h->gens[i]->repo == gen->repo)
			break;
	if (i == h->n && h->n == REPO_HELD_MAX) {
		i = h->next;
		h->next = (h->next + 1) % REPO_HELD_MAX;
	} else if (i == h->n)
		h->n++;
	(void)repo_gen_ref(gen);
	repo_gen_unref(&h->gens[i]);
	h->gens[i] = gen;
}

void
repo_held_free(struct repo_held **held_p)
{
	struct repo_held *h = *held_p;

	*held_p = NULL;
	if (h == NULL)
		return;
	for (unsigned i = 0; i < h->n; i++)
		repo_gen_unref(&h->gens[i]);
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

/* What the client's address was given lately; NULL: nothing. */
static struct repo_gen *
repo_select_by_address(struct repo_view *v, const struct repo_snap *snap,
    const struct repo_ask *ask, struct slice rel, bool package)
{
	uint64_t seqs[REPO_HOLD_GENS];
	struct repo_gen *first = NULL, *g;
	unsigned i, n;

	if (!ask->client->has_address || !repo_select_flipped_lately(v->rs, ask->now_ms))
		return NULL;
	n = repo_hold_find(v->rs->holds, ask->client->address, snap->repo,
	    ask->now_ms - v->rs->conf.hold_ms, seqs);
	for (i = 0; i < n; i++) {
		g = repo_select_seq(snap, seqs[i]);
		if (g == NULL)
			continue;
		if (first == NULL)
			first = g;
		else if (repo_select_disagree(first, g, rel, package)) {
			COUNT(generation_conflicts_total);
			break;
		}
	}
	if (first != NULL)
		repo_held_note(ask->client, first);
	return first;
}

struct repo_gen *
repo_select(struct repo_view *v, const struct repo_snap *snap, const struct repo_ask *ask,
    struct slice rel, bool package)
{
	const struct repo_held *h = ask->client != NULL ? ask->client->held : NULL;
	struct repo_gen *g = NULL;

	if (ask->at.n != 0)
		return repo_select_at(v->rs, snap, ask->at);
	for (unsigned i = 0; h != NULL && i < h->n; i++)
		if (h->gens[i]->repo == snap->repo)
			return h->gens[i];
	if (ask->client != NULL)
		g = repo_select_by_address(v, snap, ask, rel, package);
	return g != NULL ? g : snap->gens[0];
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
