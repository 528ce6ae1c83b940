/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What commands and pages want of generations: the list, pins, and how long
 * the current ones are valid. Called by the admin thread and the stage; all
 * of it under the registry's lock, which is held for memory alone.
 */
#include "cache/repo_priv.h"

#include <stdio.h>

#include "include/counter.h"
#include "include/log.h"

enum { REPO_VALIDITY_NEAR_S = 86400 };

static void
repo_describe(const struct repo *repo, unsigned i, struct repo_gen_info *info)
{
	const struct repo_gen *g = repo->gens[i];
	size_t n = 0;

	*info = (struct repo_gen_info){
		.root = repo->root, .seq = g->seq, .adopted_at_s = g->adopted_at_s,
		.date_s = g->release->date_s, .valid_until_s = g->release->valid_until_s,
		.current = i == 0, .files_n = (unsigned)g->release->files_n,
		.tables_n = atomic_load(&g->tables_n),
		.suite = g->release->suite, .origin = g->release->origin,
		.digest = g->digest[g->has[REPO_INRELEASE] ? REPO_INRELEASE : REPO_RELEASE],
	};
	for (unsigned t = 0; t < info->tables_n; t++)
		info->packages_n += pkgtable_entries_n(g->tables[t]->t);
	for (unsigned p = 0; p < g->pins_n; p++) {
		int k = snprintf(info->pins + n, sizeof(info->pins) - n, "%s%s",
		    p > 0 ? ", " : "", g->pins[p]);

		n += k > 0 ? (size_t)k : 0;
	}
}

void
repo_each_gen(struct repos *rs, struct slice prefix, repo_gen_f *fn, void *arg)
{
	struct repo_gen_info info;

	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; i < rs->repos_n; i++) {
		const struct repo *repo = rs->repos[i];

		if (!slice_starts(repo->root, prefix) && !slice_starts(prefix, repo->root))
			continue;
		for (unsigned k = 0; k < repo->gens_n; k++) {
			repo_describe(repo, k, &info);
			fn(arg, &info);
		}
	}
	AZ(pthread_mutex_unlock(&rs->lock));
}

/* The repository that the URL is, or lies in: the one with the longest root (lock held). */
static struct repo *
repo_of_url(struct repos *rs, struct slice url)
{
	struct repo *best = NULL;

	for (uint32_t i = 0; i < rs->repos_n; i++) {
		struct repo *repo = rs->repos[i];
		bool is_root = slice_starts(url, repo->root) ||
		    (url.n + 1 == repo->root.n && slice_starts(repo->root, url));

		if (is_root && (best == NULL || repo->root.n > best->root.n))
			best = repo;
	}
	return best;
}

/* The generation that has the name, or NULL (lock held). */
static struct repo_gen *
repo_pin_holder(const struct repo *repo, struct slice name)
{
	for (unsigned i = 0; i < repo->gens_n; i++)
		for (unsigned p = 0; p < repo->gens[i]->pins_n; p++)
			if (slice_eq(slice_of(repo->gens[i]->pins[p]), name))
				return repo->gens[i];
	return NULL;
}

/* How many have names (lock held). */
static unsigned
repo_pinned_n(const struct repo *repo)
{
	unsigned n = 0;

	for (unsigned i = 0; i < repo->gens_n; i++)
		n += repo->gens[i]->pins_n > 0;
	return n;
}

/* By name, by time, or the newest (lock held). */
static struct repo_gen *
repo_gen_named(const struct repo *repo, struct slice at)
{
	struct repo_gen *g;
	int64_t upto_s = 0;

	if (at.n == 0)
		return repo->gens_n > 0 ? repo->gens[0] : NULL;
	g = repo_pin_holder(repo, at);
	if (g != NULL)
		return g;
	if (!repo_time_parse(at, &upto_s))
		return NULL;
	for (unsigned i = 0; i < repo->gens_n; i++)
		if (repo->gens[i]->adopted_at_s <= upto_s)
			return repo->gens[i];
	return NULL;
}

/* Letters, digits and .-_ only: it is written into URLs. */
static bool
repo_pin_name_ok(struct slice name)
{
	if (name.n == 0 || name.n >= REPO_PIN_BYTES)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    c == '.' || c == '-' || c == '_' || c == ':'))
			return false;
	}
	return true;
}

/* Takes the name off whichever generation has it; false: none (lock held). */
static bool
repo_take_pin(struct repos *rs, struct repo *repo, struct slice name)
{
	bool found = false;

	for (unsigned i = 0; i < repo->gens_n; i++) {
		struct repo_gen *g = repo->gens[i];

		for (unsigned p = 0; p < g->pins_n; p++) {
			if (!slice_eq(slice_of(g->pins[p]), name))
				continue;
			g->pins_n--;
			memmove(g->pins[p], g->pins[p + 1], (g->pins_n - p) * sizeof(g->pins[0]));
			repo_store_gen(rs, g, NULL, NULL);
			found = true;
			break;
		}
	}
	return found;
}

/* Adds the name (lock held). */
static enum reason
repo_add_pin(struct repos *rs, struct repo_gen *g, struct slice name, char *why, size_t why_cap)
{
	char when[32];

	repo_time_text(g->adopted_at_s, when);
	for (unsigned p = 0; p < g->pins_n; p++)
		if (slice_eq(slice_of(g->pins[p]), name)) {
			(void)snprintf(why, why_cap, "it is pinned as %.*s already", SLICE_ARG(name));
			return REASON_OK;
		}
	if (g->pins_n == REPO_PINS_MAX) {
		(void)snprintf(why, why_cap, "this generation has %d names already: unpin one",
		    REPO_PINS_MAX);
		return REASON_LOCKED;
	}
	memcpy(g->pins[g->pins_n], name.p, name.n);
	g->pins[g->pins_n++][name.n] = '\0';
	repo_store_gen(rs, g, NULL, NULL);
	(void)snprintf(why, why_cap, "generation %llu of %.*s, adopted %s, is kept as @%.*s",
	    (unsigned long long)g->seq, SLICE_ARG(g->repo->root), when, SLICE_ARG(name));
	return REASON_OK;
}

enum reason
repo_pin(struct repos *rs, struct slice url, struct slice at, struct slice name, char *why,
    size_t why_cap)
{
	enum reason r = REASON_NOT_FOUND;
	struct repo_gen *g = NULL;
	struct repo *repo;
	char when[32], taken[32];
	int64_t upto_s;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_of_url(rs, url);
	if (repo != NULL)
		g = repo_gen_named(repo, at);
	if (g != NULL && name.n == 0) {
		repo_time_text(g->adopted_at_s, when);
		name = slice_of(when);
	}
	if (repo == NULL || repo->gens_n == 0)
		(void)snprintf(why, why_cap, "no generation of %.*s is known: let a client update "
		    "from it first", SLICE_ARG(url));
	else if (g == NULL)
		(void)snprintf(why, why_cap, "%.*s has no generation of %.*s: see apt-depot "
		    "generations", SLICE_ARG(repo->root), SLICE_ARG(at));
	else if (!repo_pin_name_ok(name))
		(void)snprintf(why, why_cap, "a name has letters, digits and .-_: only, at most %d",
		    REPO_PIN_BYTES - 1);
	else if (name.p != when && repo_time_parse(name, &upto_s))
		(void)snprintf(why, why_cap, "%.*s would be read as a time: choose another name",
		    SLICE_ARG(name));
	else if (repo_pin_holder(repo, name) != NULL && repo_pin_holder(repo, name) != g) {
		repo_time_text(repo_pin_holder(repo, name)->adopted_at_s, taken);
		(void)snprintf(why, why_cap, "%.*s: @%.*s is the generation of %s: unpin it first, "
		    "or choose another name", SLICE_ARG(repo->root), SLICE_ARG(name), taken);
	} else if (g->pins_n == 0 && repo_pinned_n(repo) == REPO_PINNED_MAX) {
		(void)snprintf(why, why_cap, "%.*s has %d pinned generations already: unpin one",
		    SLICE_ARG(repo->root), REPO_PINNED_MAX);
		r = REASON_LOCKED;
	} else
		r = repo_add_pin(rs, g, name, why, why_cap);
	AZ(pthread_mutex_unlock(&rs->lock));
	if (r == REASON_OK)
		index_flush(rs->conf.index);
	return r;
}

/* The only name that the repository has, copied; how many it has (lock held). */
static unsigned
repo_only_pin(const struct repo *repo, char only[REPO_PIN_BYTES])
{
	unsigned n = 0;

	for (unsigned i = 0; i < repo->gens_n; i++) {
		n += repo->gens[i]->pins_n;
		if (repo->gens[i]->pins_n > 0)
			(void)snprintf(only, REPO_PIN_BYTES, "%s", repo->gens[i]->pins[0]);
	}
	return n;
}

enum reason
repo_unpin(struct repos *rs, struct slice url, struct slice name, char *why, size_t why_cap)
{
	enum reason r = REASON_NOT_FOUND;
	char only[REPO_PIN_BYTES] = "";
	struct repo *repo;
	unsigned n = 0;

	AZ(pthread_mutex_lock(&rs->lock));
	repo = repo_of_url(rs, url);
	if (repo != NULL && name.n == 0) {
		n = repo_only_pin(repo, only);
		name = slice_of(only);
	}
	if (repo == NULL)
		(void)snprintf(why, why_cap, "no repository at %.*s is known", SLICE_ARG(url));
	else if (name.n == 0)
		(void)snprintf(why, why_cap, "%.*s has no pinned generation",
		    SLICE_ARG(repo->root));
	else if (n > 1)
		(void)snprintf(why, why_cap, "%.*s has %u names: say which; \"apt-depot generations\" "
		    "lists them", SLICE_ARG(repo->root), n);
	else if (!repo_take_pin(rs, repo, name))
		(void)snprintf(why, why_cap, "%.*s has no generation named %.*s",
		    SLICE_ARG(repo->root), SLICE_ARG(name));
	else {
		(void)snprintf(why, why_cap, "%.*s: @%.*s is no longer kept",
		    SLICE_ARG(repo->root), SLICE_ARG(name));
		r = REASON_OK;
	}
	AZ(pthread_mutex_unlock(&rs->lock));
	if (r == REASON_OK)
		index_flush(rs->conf.index);
	return r;
}

int64_t
repo_watch_validity(struct repos *rs, int64_t now_s)
{
	int64_t expired_n = 0, next_s = INT64_MAX;
	char when[32];

	AZ(pthread_mutex_lock(&rs->lock));
	for (uint32_t i = 0; i < rs->repos_n; i++) {
		struct repo *repo = rs->repos[i];
		int64_t until_s;

		if (repo->gens_n == 0)
			continue;
		until_s = repo->gens[0]->release->valid_until_s;
		if (until_s == RELEASE_NO_TIME)
			continue;
		for (int64_t at_s = until_s - REPO_VALIDITY_NEAR_S; at_s <= until_s + 1;
		    at_s += REPO_VALIDITY_NEAR_S + 1)
			if (at_s > now_s && at_s < next_s)
				next_s = at_s;
		if (until_s - now_s > REPO_VALIDITY_NEAR_S)
			continue;
		expired_n += until_s < now_s;
		if (repo->warned_seq == repo->gens[0]->seq && repo->warned_past == (until_s < now_s))
			continue;
		repo->warned_seq = repo->gens[0]->seq;
		repo->warned_past = until_s < now_s;
		repo_time_text(until_s, when);
		log_warning("%.*s: its Release %s valid until %s; apt refuses it after that unless "
		    "told otherwise (Acquire::Check-Valid-Until)", SLICE_ARG(repo->root),
		    repo->warned_past ? "was" : "is", when);
	}
	COUNT_ADD(release_expired, expired_n - rs->expired_n);
	rs->expired_n = expired_n;
	AZ(pthread_mutex_unlock(&rs->lock));
	return next_s;
}
