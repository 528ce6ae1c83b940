/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What will this client ask for next? apt asks for what is needed before what
 * needs it, so the package that was named to it comes last: what a package
 * depends on has mostly been asked for when it is. The way to look is up: a
 * larger package whose own order begins with what was asked for so far, at
 * least AHEAD_EVIDENCE packages of it, with few gaps (the client has those
 * installed). Of several, the one that needs least is believed in: with each
 * step the next larger one gets its turn, so a wrong guess costs one step.
 *
 * Models are made of the lists of packages that are stored of a generation.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cache/ahead_priv.h"
#include "include/log.h"

/* ---- models ---- */

static void
ahead_model_free(struct ahead_models *models, struct ahead_model *m)
{
	TAILQ_REMOVE(models, m, link);
	closure_walk_free(&m->walk);
	closure_free(&m->closure);
	free((void *)(uintptr_t)m->root.p);
	free(m);
}

void
ahead_model_unref(struct ahead_model **m_p)
{
	struct ahead_model *m = *m_p;

	*m_p = NULL;
	if (m == NULL)
		return;
	AN(m->refs);
	m->refs--;
}

void
ahead_models_free(struct ahead_models *models)
{
	struct ahead_model *m;

	while ((m = TAILQ_FIRST(models)) != NULL)
		ahead_model_free(models, m);
}

/* Lets the longest unused ones go. */
static void
ahead_models_trim(struct ahead_models *models)
{
	struct ahead_model *m, *next;
	uint64_t bytes = 0;
	unsigned n = 0;

	for (m = TAILQ_FIRST(models); m != NULL; m = next) {
		next = TAILQ_NEXT(m, link);
		bytes += m->bytes;
		if ((++n > AHEAD_MODELS_MAX || bytes > AHEAD_MODELS_BYTES) && m->refs == 0) {
			bytes -= m->bytes;
			n--;
			ahead_model_free(models, m);
		}
	}
}

/* Reads one stored list into the model. */
static enum reason
ahead_read_list(struct closure *model, struct cache *c, const struct release *r,
    const struct release_file *rf)
{
	const char *arch = memmem(rf->path.p, rf->path.n, "/binary-", 8);
	struct slice name = arch != NULL ? slice_skip(rf->path, (size_t)(arch - rf->path.p) + 8) :
	    SLICE_NONE;
	uint64_t at = 0, max = release_unpacked_bytes(r, rf);
	const char *slash = name.n > 0 ? memchr(name.p, '/', name.n) : NULL;
	struct blob_stat bs = {0, 0};
	struct release_index ri;
	char *buf = malloc(65536);
	enum reason e = REASON_NO_MEMORY;
	int fd = -1;

	release_index_of(&ri, rf->path);
	name.n = slash != NULL ? (size_t)(slash - name.p) : 0;
	if (max == 0)
		max = UINT64_C(1) << 30;
	if (buf != NULL)
		e = blob_open(cache_parts(c)->blobs, rf->sha256, &fd, &bs);
	if (e == REASON_OK)
		e = closure_begin_list(model, ri.kind, max, name);
	while (e == REASON_OK && at < bs.size_bytes) {
		ssize_t n = pread(fd, buf, 65536, (off_t)at);

		e = n > 0 ? closure_feed(model, buf, (size_t)n) : REASON_DISK_ERROR;
		at += n > 0 ? (uint64_t)n : 0;
	}
	if (e == REASON_OK)
		e = closure_end_list(model);
	if (fd >= 0)
		(void)close(fd);
	free(buf);
	return e;
}

/* Fills a new model; one that can't be made stays, empty, so that it is not tried each time. */
static void
ahead_model_fill(struct ahead_model *m, struct cache *c, struct repo_gen *gen)
{
	const struct release_file *lists[CLOSURE_LISTS_MAX];
	const struct release *r = repo_gen_release(gen);
	unsigned n = repo_gen_package_lists(gen, lists, NELEM(lists));
	struct closure *model = closure_new(AHEAD_MODELS_BYTES / 2);
	enum reason e = model != NULL ? REASON_OK : REASON_NO_MEMORY;

	for (unsigned i = 0; i < n && e == REASON_OK; i++)
		e = ahead_read_list(model, c, r, lists[i]);
	if (e == REASON_OK)
		e = closure_finish(model, true);
	if (e == REASON_OK) {
		m->walk = closure_walk_new(model, false);
		m->bytes = closure_bytes(model) + 5 * (uint64_t)closure_packages_n(model);
	}
	if (m->walk != NULL) {
		m->closure = model;
		return;
	}
	log_info("%.*s: nothing is fetched ahead: %s", SLICE_ARG(m->root),
	    model != NULL && closure_why(model)[0] != '\0' ? closure_why(model) : reason_text(e));
	closure_free(&model);
}

struct ahead_model *
ahead_model_get(struct ahead_models *models, struct cache *c, struct repo_gen *gen)
{
	const struct release_file *lists[CLOSURE_LISTS_MAX];
	unsigned lists_n = repo_gen_package_lists(gen, lists, NELEM(lists));
	struct slice root = repo_gen_root(gen);
	struct ahead_model *m;

	TAILQ_FOREACH(m, models, link)
		if (m->seq == repo_gen_seq(gen) && m->lists_n == lists_n && slice_eq(m->root, root))
			break;
	if (m != NULL)
		TAILQ_REMOVE(models, m, link);
	else {
		m = lists_n > 0 ? calloc(1, sizeof(*m)) : NULL;
		if (m == NULL)
			return NULL;
		m->root = (struct slice){strndup(root.p, root.n), root.n};
		m->seq = repo_gen_seq(gen);
		m->lists_n = lists_n;
		if (m->root.p == NULL) {
			free(m);
			return NULL;
		}
		ahead_model_fill(m, c, gen);
	}
	m->refs++;
	TAILQ_INSERT_HEAD(models, m, link);
	ahead_models_trim(models);
	return m;
}

/* ---- guesses ---- */

static bool
ahead_was_asked(const uint32_t *asked, unsigned asked_n, uint32_t i)
{
	for (unsigned k = asked_n; k > 0; k--)
		if (asked[k - 1] == i)
			return true;
	return false;
}

/* What this package and its needs make apt ask for; 0: they can't be walked. */
static unsigned
ahead_walk(const struct ahead_model *m, uint32_t i, const uint32_t **order)
{
	unsigned n = 0;

	closure_walk_reset(m->walk);
	closure_walk_present_base(m->walk);
	if (closure_walk_add(m->walk, &i, 1) == REASON_OK)
		*order = closure_walk_order(m->walk, &n);
	return n;
}

/* Does what was asked for agree with this package's order? Then where in it the client is. */
static bool
ahead_agrees(const struct ahead_model *m, uint32_t candidate, const uint32_t *asked,
    unsigned asked_n, unsigned *n, unsigned *at)
{
	const uint32_t *order = NULL;
	unsigned seen_n = 0;

	*n = ahead_walk(m, candidate, &order);
	for (*at = 0; *at < *n; ++*at) {
		seen_n += ahead_was_asked(asked, asked_n, order[*at]);
		if (order[*at] == asked[asked_n - 1])
			break;
	}
	if (*at == *n || seen_n < AHEAD_EVIDENCE || (*at + 1 - seen_n) * 4 > seen_n)
		return false;
	/* It may not have asked for what comes later: then it is another order. */
	for (unsigned i = *at + 1; i < *n; i++)
		if (ahead_was_asked(asked, asked_n, order[i]))
			return false;
	return true;
}

/* The smallest package above the last one that explains what was asked for; CLOSURE_NONE: none. */
static uint32_t
ahead_find_larger(const struct ahead_model *m, const uint32_t *asked, unsigned asked_n)
{
	uint32_t queue[AHEAD_CANDIDATES_MAX], found[AHEAD_CANDIDATES_MAX], best = CLOSURE_NONE;
	unsigned queue_n = 1, best_n = UINT32_MAX, n, at;
	uint64_t steps_n = 0;

	queue[0] = asked[asked_n - 1];
	for (unsigned next = 0; next < queue_n && steps_n <= CLOSURE_STEPS_MAX; next++) {
		unsigned up_n = closure_dependants(m->closure, queue[next], found, NELEM(found));

		for (unsigned i = 0; i < up_n && queue_n < AHEAD_CANDIDATES_MAX; i++)
			if (!ahead_was_asked(queue, queue_n, found[i]))
				queue[queue_n++] = found[i];
		if (next == 0 || ahead_was_asked(asked, asked_n, queue[next]))
			continue;
		if (ahead_agrees(m, queue[next], asked, asked_n, &n, &at) && n < best_n) {
			best = queue[next];
			best_n = n;
		}
		steps_n += closure_walk_steps(m->walk);
	}
	return best;
}

unsigned
ahead_guess(const struct ahead_model *m, const uint32_t *asked, unsigned asked_n, uint32_t *out,
    unsigned max_n)
{
	const uint32_t *order = NULL;
	uint32_t from, larger;
	unsigned n = 0, order_n;

	AN(asked_n);
	from = asked[asked_n - 1];
	larger = asked_n >= AHEAD_EVIDENCE ? ahead_find_larger(m, asked, asked_n) : CLOSURE_NONE;
	order_n = ahead_walk(m, larger != CLOSURE_NONE ? larger : from, &order);
	/* Of the larger one only what comes behind: the rest it has. */
	for (unsigned i = 0; larger != CLOSURE_NONE && i < order_n; i++)
		if (order[i] == from) {
			order += i + 1;
			order_n -= i + 1;
			break;
		}
	for (unsigned i = 0; i < order_n && n < max_n; i++)
		if (!ahead_was_asked(asked, asked_n, order[i]))
			out[n++] = order[i];
	return n;
}
