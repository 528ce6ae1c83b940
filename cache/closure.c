/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Walks through the dependencies of a model (closure_model.c). Not a solver:
 * what apt decides in the common case, which is the newest version that the
 * relation allows, the first alternative that is there, the first provider.
 * For warm.c, which fetches a closure before it is asked for, and ahead.c,
 * which guesses what a client asks for next.
 *
 * Seen with apt 2.6: `apt-get install` asks for packages in the order in
 * which they could be unpacked: a walk in depth from left to right, each
 * package behind what it needs.
 */
#include "cache/closure_priv.h"

#include <stdio.h>

#include "cache/debversion.h"

enum closure_state {
	CLOSURE_OPEN,
	CLOSURE_WANTED,		/* a root that the walk has not come to */
	CLOSURE_TAKEN,		/* in the order, or what it needs is being looked at */
	CLOSURE_PRESENT,
};

/* A package whose dependencies are being looked at. */
struct closure_frame {
	uint32_t package;
	unsigned field;			/* 0: Pre-Depends, 1: Depends */
	struct slice rest;
};

struct closure_walk {
	uint32_t magic;
	const struct closure *c;
	bool recommends, base_present;
	uint8_t *state;			/* enum closure_state of each package */
	uint32_t *order;		/* as many as there are packages */
	unsigned order_n;
	unsigned recommended_at;	/* of the order: up to here Recommends were looked at */
	uint64_t steps_n;
	unsigned missing_n, missing_kept_n;
	struct slice missing[CLOSURE_MISSING_MAX];
	struct closure_frame stack[CLOSURE_DEPTH_MAX];
	unsigned depth;
};

struct closure_walk *
closure_walk_new(const struct closure *c, bool recommends)
{
	struct closure_walk *w;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	OBJ_NEW(w, CLOSURE_WALK_MAGIC);
	if (w == NULL)
		return NULL;
	w->c = c;
	w->recommends = recommends;
	w->state = calloc(c->packages_n + 1, 1);
	w->order = malloc((c->packages_n + 1) * sizeof(*w->order));
	if (w->state == NULL || w->order == NULL)
		closure_walk_free(&w);
	return w;
}

void
closure_walk_free(struct closure_walk **w_p)
{
	struct closure_walk *w = *w_p;

	*w_p = NULL;
	if (w == NULL)
		return;
	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	free(w->state);
	free(w->order);
	OBJ_FREE(w);
}

void
closure_walk_reset(struct closure_walk *w)
{
	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	memset(w->state, CLOSURE_OPEN, w->c->packages_n);
	w->base_present = false;
	w->order_n = w->recommended_at = w->depth = 0;
	w->steps_n = 0;
	w->missing_n = w->missing_kept_n = 0;
}

void
closure_walk_present(struct closure_walk *w, struct slice name)
{
	uint32_t from, to;

	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	closure_name_range(w->c, name, &from, &to);
	for (; from < to; from++)
		w->state[w->c->by_name[from]] = CLOSURE_PRESENT;
}

void
closure_walk_present_base(struct closure_walk *w)
{
	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	w->base_present = true;
}

uint64_t
closure_walk_steps(const struct closure_walk *w)
{
	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	return w->steps_n;
}

const uint32_t *
closure_walk_order(const struct closure_walk *w, unsigned *n)
{
	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	*n = w->order_n;
	return w->order;
}

unsigned
closure_walk_missing(const struct closure_walk *w, struct slice out[CLOSURE_MISSING_MAX],
    unsigned *out_n)
{
	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	*out_n = w->missing_kept_n;
	memcpy(out, w->missing, sizeof(w->missing));
	return w->missing_n;
}

/* ---- which package ---- */

/* May a package of this architecture stand for the relation, as one of `wanted` needs it? */
static bool
closure_arch_fits(const struct closure *c, const struct closure_relation *r, uint16_t arch,
    uint16_t wanted)
{
	if (r->arch.n > 0 && !slice_eq(r->arch, SLICE("any")) && !slice_eq(r->arch, SLICE("native")))
		return slice_eq(closure_arch_name(c, arch), r->arch);
	return arch == 0 || wanted == 0 || arch == wanted;
}

/* Does the provided name satisfy the relation? Without a version it satisfies none that has one. */
static bool
closure_provides(const struct closure *c, const struct closure_provided *p,
    const struct closure_relation *r, uint16_t wanted)
{
	if (!closure_arch_fits(c, r, c->packages[p->package].arch, wanted))
		return false;
	return r->op.n == 0 || (p->version.n > 0 &&
	    closure_relation_allows(r, closure_slice(c, p->version)));
}

/* The cost of looking at these candidates: how many, and a long version takes as long for each. */
static uint64_t
closure_cost(const struct closure_relation *r, uint32_t from, uint32_t to)
{
	return (uint64_t)(to - from) * (1 + r->version.n / 32);
}

/* The first provider, in its newest version that provides it. */
static uint32_t
closure_resolve_virtual(const struct closure *c, const struct closure_relation *r, uint16_t wanted,
    uint64_t *steps_n)
{
	uint32_t from, to, best = CLOSURE_NONE;

	closure_provided_range(c, r->name, &from, &to);
	*steps_n += closure_cost(r, from, to);
	for (; from < to; from++) {
		uint32_t i = c->provided[from].package;

		if (!closure_provides(c, &c->provided[from], r, wanted))
			continue;
		if (best == CLOSURE_NONE)
			best = i;
		else if (slice_eq(closure_slice(c, c->packages[i].name),
		    closure_slice(c, c->packages[best].name)) &&
		    debversion_compare(closure_slice(c, c->packages[i].version),
		    closure_slice(c, c->packages[best].version)) > 0)
			best = i;
	}
	return best;
}

uint32_t
closure_resolve(const struct closure *c, const struct closure_relation *r, uint16_t wanted,
    uint64_t *steps_n)
{
	uint32_t at, to;

	closure_name_range(c, r->name, &at, &to);
	*steps_n += closure_cost(r, at, to);
	for (; at < to; at++) {
		uint32_t i = c->by_name[at];

		if (closure_arch_fits(c, r, c->packages[i].arch, wanted) &&
		    closure_relation_allows(r, closure_slice(c, c->packages[i].version)))
			return i;
	}
	return closure_resolve_virtual(c, r, wanted, steps_n);
}

enum closure_found
closure_find(const struct closure *c, struct slice word, struct slice arch, uint32_t *i)
{
	const char *eq = word.n > 0 ? memchr(word.p, '=', word.n) : NULL;
	struct closure_relation r = {.op = SLICE_NONE};
	struct slice name = {word.p, eq != NULL ? (size_t)(eq - word.p) : word.n};
	const char *colon = name.n > 0 ? memchr(name.p, ':', name.n) : NULL;
	uint16_t wanted = 0;
	uint64_t steps_n = 0;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	if (eq != NULL) {
		r.op = SLICE("=");
		r.version = slice_skip(word, name.n + 1);
	}
	if (colon != NULL) {
		r.arch = slice_skip(name, (size_t)(colon - name.p) + 1);
		name.n = (size_t)(colon - name.p);
	}
	r.name = name;
	for (unsigned k = 1; k < c->archs_n; k++)
		if (slice_eq(slice_of(c->archs[k]), arch))
			wanted = (uint16_t)k;
	/* "all" is the architecture of packages that are the same everywhere. */
	if (slice_eq(r.arch, SLICE("all")) || (wanted != 0 && slice_eq(r.arch, arch)))
		r.arch = SLICE_NONE;
	*i = closure_resolve(c, &r, wanted, &steps_n);
	if (*i != CLOSURE_NONE)
		return CLOSURE_FOUND;
	r.op = SLICE_NONE;
	return closure_resolve(c, &r, wanted, &steps_n) != CLOSURE_NONE ? CLOSURE_NO_VERSION :
	    CLOSURE_NO_NAME;
}

/* How unlike two names are: edits, up to a limit. */
static unsigned
closure_distance(struct slice a, struct slice b, unsigned limit)
{
	unsigned row[64], diagonal, above;

	if (a.n >= NELEM(row) || b.n >= NELEM(row) || a.n > b.n + limit || b.n > a.n + limit)
		return limit + 1;
	for (size_t j = 0; j <= b.n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= a.n; i++) {
		diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b.n; j++) {
			above = row[j];
			row[j] = diagonal + (a.p[i - 1] != b.p[j - 1]);
			if (row[j] > above + 1)
				row[j] = above + 1;
			if (row[j] > row[j - 1] + 1)
				row[j] = row[j - 1] + 1;
			diagonal = above;
		}
	}
	return row[b.n];
}

unsigned
closure_near(const struct closure *c, struct slice name, struct slice out[CLOSURE_NEAR_MAX])
{
	unsigned score[CLOSURE_NEAR_MAX], n = 0, limit = name.n < 6 ? 1 : 3, d, k;

	CHECK_OBJ(c, CLOSURE_MAGIC);
	for (uint32_t i = 0; i < c->packages_n; i++) {
		struct slice is = closure_slice(c, c->packages[c->by_name[i]].name);

		if (i > 0 && slice_eq(is, closure_slice(c, c->packages[c->by_name[i - 1]].name)))
			continue;
		/* Names that go on, as cuda-toolkit-12-4 does from cuda-toolkit, come behind slips. */
		d = closure_distance(name, is, limit);
		if (d > limit && name.n >= 3 && slice_starts(is, name))
			d = limit + 1;
		else if (d > limit)
			continue;
		for (k = n; k > 0 && score[k - 1] > d; k--)
			if (k < CLOSURE_NEAR_MAX) {
				score[k] = score[k - 1];
				out[k] = out[k - 1];
			}
		if (k == CLOSURE_NEAR_MAX)
			continue;
		score[k] = d;
		out[k] = is;
		n += n < CLOSURE_NEAR_MAX;
	}
	return n;
}

/* ---- the walk ---- */

static enum closure_state
closure_state_of(const struct closure_walk *w, uint32_t i)
{
	if (w->state[i] == CLOSURE_OPEN && w->base_present && w->c->packages[i].base)
		return CLOSURE_PRESENT;
	return w->state[i];
}

/* Does a package that is chosen or present satisfy the relation? CLOSURE_NONE: none does. */
static uint32_t
closure_find_chosen(struct closure_walk *w, const struct closure_relation *r, uint16_t arch)
{
	const struct closure *c = w->c;
	uint32_t from, to, i;

	closure_name_range(c, r->name, &from, &to);
	w->steps_n += closure_cost(r, from, to);
	for (; from < to; from++) {
		i = c->by_name[from];
		if (closure_state_of(w, i) != CLOSURE_OPEN &&
		    closure_arch_fits(c, r, c->packages[i].arch, arch) &&
		    closure_relation_allows(r, closure_slice(c, c->packages[i].version)))
			return i;
	}
	closure_provided_range(c, r->name, &from, &to);
	w->steps_n += closure_cost(r, from, to);
	for (; from < to; from++) {
		i = c->provided[from].package;
		if (closure_state_of(w, i) != CLOSURE_OPEN &&
		    closure_provides(c, &c->provided[from], r, arch))
			return i;
	}
	return CLOSURE_NONE;
}

/* What satisfies one group of alternatives; CLOSURE_NONE: nothing here. */
static uint32_t
closure_choose(struct closure_walk *w, uint32_t package, struct slice group)
{
	uint16_t arch = closure_wanted_arch(&w->c->packages[package]);
	struct closure_relation r;
	struct slice rest = group;
	uint32_t i = CLOSURE_NONE;

	while (i == CLOSURE_NONE && w->steps_n <= CLOSURE_STEPS_MAX &&
	    closure_next_relation(&rest, &r)) {
		w->steps_n++;
		i = closure_find_chosen(w, &r, arch);
	}
	rest = group;
	while (i == CLOSURE_NONE && w->steps_n <= CLOSURE_STEPS_MAX &&
	    closure_next_relation(&rest, &r))
		i = closure_resolve(w->c, &r, arch, &w->steps_n);
	if (i != CLOSURE_NONE)
		return i;
	if (w->missing_kept_n < CLOSURE_MISSING_MAX)
		w->missing[w->missing_kept_n++] = group;
	w->missing_n++;
	return CLOSURE_NONE;
}

/* Begins with a package, unless it is done or there. */
static void
closure_push(struct closure_walk *w, uint32_t i)
{
	const struct closure_entry *e = &w->c->packages[i];
	enum closure_state state = closure_state_of(w, i);

	if (state == CLOSURE_TAKEN || state == CLOSURE_PRESENT || w->depth == CLOSURE_DEPTH_MAX)
		return;
	w->state[i] = CLOSURE_TAKEN;
	w->stack[w->depth++] = (struct closure_frame){i, 0, closure_slice(w->c, e->pre_depends)};
}

/* Goes on until everything below the pushed packages is in the order. */
static enum reason
closure_run(struct closure_walk *w)
{
	struct slice group;
	uint32_t i;

	while (w->depth > 0 && w->steps_n <= CLOSURE_STEPS_MAX) {
		struct closure_frame *top = &w->stack[w->depth - 1];

		if (closure_next_group(&top->rest, &group)) {
			i = closure_choose(w, top->package, group);
			if (i != CLOSURE_NONE)
				closure_push(w, i);
		} else if (top->field++ == 0)
			top->rest = closure_slice(w->c, w->c->packages[top->package].depends);
		else {
			w->order[w->order_n++] = top->package;
			w->depth--;
		}
	}
	return w->steps_n <= CLOSURE_STEPS_MAX ? REASON_OK : REASON_LIST_BAD;
}

/* What the packages of the order recommend, and what that needs. Nothing is missed if it is not there. */
static enum reason
closure_run_recommends(struct closure_walk *w)
{
	enum reason r = REASON_OK;

	for (; w->recommended_at < w->order_n && r == REASON_OK; w->recommended_at++) {
		uint32_t package = w->order[w->recommended_at], i;
		struct slice rest = closure_slice(w->c, w->c->packages[package].recommends), group;

		while (r == REASON_OK && closure_next_group(&rest, &group)) {
			unsigned missing_n = w->missing_n, kept_n = w->missing_kept_n;

			i = closure_choose(w, package, group);
			w->missing_n = missing_n;
			w->missing_kept_n = kept_n;
			if (i != CLOSURE_NONE)
				closure_push(w, i);
			r = closure_run(w);
		}
	}
	return r;
}

enum reason
closure_walk_add(struct closure_walk *w, const uint32_t *roots, unsigned n)
{
	enum reason r = REASON_OK;
	unsigned i;

	CHECK_OBJ(w, CLOSURE_WALK_MAGIC);
	for (i = 0; i < n; i++) {
		MUST(roots[i] < w->c->packages_n);
		if (w->state[roots[i]] == CLOSURE_OPEN)
			w->state[roots[i]] = CLOSURE_WANTED;
	}
	for (i = 0; i < n && r == REASON_OK; i++) {
		closure_push(w, roots[i]);
		r = closure_run(w);
	}
	if (r == REASON_OK && w->recommends)
		r = closure_run_recommends(w);
	return r;
}
