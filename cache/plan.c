/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * A plan of what to fetch: Release, lists, closure, as the door to these for
 * proxy/warm.c. Knows no network; what it is given was fetched through
 * the depot, which may have said nothing about its digests.
 *
 *   plan_new -> read_release -> (begin_list, feed*, end_list)* -> ready
 *     -> want*, present* -> resolve -> file_at*
 */
#include "include/plan.h"

#include <stdio.h>

#include "cache/closure.h"
#include "cache/closure_path.h"
#include "cache/release.h"

#define PLAN_MAGIC 0x91a40001u

static const uint64_t PLAN_MODEL_MAX = UINT64_C(2) << 30;

struct plan {
	uint32_t magic;
	struct plan_conf conf;		/* its text is in `words` */
	char *words;
	struct release *release;
	unsigned lists_n;
	const struct release_file *lists[PLAN_LISTS_MAX];
	struct closure *model;
	struct closure_walk *walk;
	unsigned roots_n, roots_cap;
	uint32_t *roots;
	char why[PLAN_WHY_BYTES];
};

struct plan *
plan_new(const struct plan_conf *conf)
{
	struct plan *p;
	size_t words_n = conf->arch.n + conf->components.n + 2;	/* with a NUL behind each */
	struct arena a;

	OBJ_NEW(p, PLAN_MAGIC);
	if (p == NULL)
		return NULL;
	p->conf = *conf;
	p->words = malloc(words_n);
	p->model = closure_new(PLAN_MODEL_MAX);
	if (p->words == NULL || p->model == NULL) {
		plan_free(&p);
		return NULL;
	}
	arena_init(&a, p->words, words_n);
	p->conf.arch = arena_copy(&a, conf->arch);
	p->conf.components = arena_copy(&a, conf->components);
	return p;
}

void
plan_free(struct plan **p_p)
{
	struct plan *p = *p_p;

	*p_p = NULL;
	if (p == NULL)
		return;
	CHECK_OBJ(p, PLAN_MAGIC);
	closure_walk_free(&p->walk);
	closure_free(&p->model);
	release_free(&p->release);
	free(p->roots);
	free(p->words);
	OBJ_FREE(p);
}

const char *
plan_why(const struct plan *p)
{
	CHECK_OBJ(p, PLAN_MAGIC);
	return p->why;
}

/* ---- which lists ---- */

/* How gladly a compression is read: small first. */
static int
plan_preference(enum unpack_kind kind)
{
	static const enum unpack_kind order[] = {
		UNPACK_XZ, UNPACK_ZST, UNPACK_GZ, UNPACK_BZ2, UNPACK_LZMA, UNPACK_PLAIN,
	};

	for (unsigned i = 0; i < NELEM(order); i++)
		if (order[i] == kind)
			return (int)i;
	return -1;
}

/* Adds a list, or puts it in the place of another compression of the same. */
static void
plan_add_list(struct plan *p, const struct release_file *rf, const struct release_index *ri)
{
	struct release_index other;

	for (unsigned i = 0; i < p->lists_n; i++) {
		release_index_of(&other, p->lists[i]->path);
		if (!slice_eq(other.stem, ri->stem))
			continue;
		if (plan_preference(ri->kind) < plan_preference(other.kind))
			p->lists[i] = rf;
		return;
	}
	if (p->lists_n < PLAN_LISTS_MAX)
		p->lists[p->lists_n++] = rf;
}

/* Is COMPONENT/binary-ARCH/ in front of the last name, with a component that is wanted? */
static bool
plan_wants_list(const struct plan *p, struct slice path, struct slice components)
{
	char end[128];
	int n = snprintf(end, sizeof(end), "/binary-%.*s/Packages", SLICE_ARG(p->conf.arch));
	struct slice rest = components, one;

	if (n < 0 || (size_t)n >= sizeof(end) || !slice_ends(path, (struct slice){end, (size_t)n}))
		return false;
	path.n -= (size_t)n;
	/* Packages of the installer and of debug symbols are others than those of that name. */
	if (memmem(path.p, path.n, "debian-installer", 16) != NULL || slice_ends(path, SLICE("/debug")))
		return false;
	if (rest.n == 0)
		return true;
	while (rest.n > 0) {
		const char *comma = memchr(rest.p, ',', rest.n);

		one = (struct slice){rest.p, comma != NULL ? (size_t)(comma - rest.p) : rest.n};
		if (slice_eq(one, path))
			return true;
		rest = slice_skip(rest, one.n + 1);
	}
	return false;
}

static void
plan_choose_lists(struct plan *p, struct slice components)
{
	struct release_index ri;

	for (size_t i = 0; i < p->release->files_n; i++) {
		const struct release_file *rf = &p->release->files[i];

		release_index_of(&ri, rf->path);
		if (ri.list == RELEASE_PACKAGES && plan_preference(ri.kind) >= 0 &&
		    plan_wants_list(p, ri.stem, components))
			plan_add_list(p, rf, &ri);
	}
}

enum reason
plan_read_release(struct plan *p, const void *text, size_t n, char *why, size_t why_cap)
{
	const struct release_file *flat;
	enum reason r;

	CHECK_OBJ(p, PLAN_MAGIC);
	MUST(p->release == NULL);
	r = release_parse(&p->release, text, n, why, why_cap);
	if (r != REASON_OK)
		return r;
	if (p->conf.flat) {
		flat = release_first_packages(p->release);
		if (flat != NULL)
			p->lists[p->lists_n++] = flat;
	} else if (p->conf.components.n > 0)
		plan_choose_lists(p, p->conf.components);
	else {
		plan_choose_lists(p, SLICE("main"));
		if (p->lists_n == 0)
			plan_choose_lists(p, SLICE_NONE);
	}
	if (p->lists_n > 0)
		return REASON_OK;
	if (p->conf.flat)
		(void)snprintf(why, why_cap, "its Release lists no Packages that can be read here");
	else
		(void)snprintf(why, why_cap, "its Release lists no Packages of architecture %.*s in "
		    "component %.*s: see --arch and --component", SLICE_ARG(p->conf.arch),
		    SLICE_ARG(p->conf.components.n > 0 ? p->conf.components : SLICE("main")));
	return REASON_NOT_FOUND;
}

unsigned
plan_lists_n(const struct plan *p)
{
	CHECK_OBJ(p, PLAN_MAGIC);
	return p->lists_n;
}

void
plan_list_at(const struct plan *p, unsigned k, struct plan_list *out)
{
	CHECK_OBJ(p, PLAN_MAGIC);
	MUST(k < p->lists_n);
	*out = (struct plan_list){
		.path = p->lists[k]->path, .size_bytes = p->lists[k]->size_bytes,
		.sha256 = p->lists[k]->has_sha256 ? p->lists[k]->sha256 : NULL,
	};
}

/* ---- reading them ---- */

/* Notes the model's words. */
static enum reason
plan_note(struct plan *p, enum reason r)
{
	const char *why = closure_why(p->model);

	if (r != REASON_OK)
		(void)snprintf(p->why, sizeof(p->why), "%s", why[0] != '\0' ? why : reason_text(r));
	return r;
}

enum reason
plan_begin_list(struct plan *p, unsigned k)
{
	const struct release_file *rf;
	struct release_index ri;
	uint64_t max;

	CHECK_OBJ(p, PLAN_MAGIC);
	MUST(k < p->lists_n);
	rf = p->lists[k];
	release_index_of(&ri, rf->path);
	max = release_unpacked_bytes(p->release, rf);
	if (max == 0)
		max = rf->size_bytes < (UINT64_C(40) << 20) ? rf->size_bytes * 100 + (1 << 20) :
		    UINT64_C(4) << 30;
	return plan_note(p, closure_begin_list(p->model, ri.kind, max,
	    p->conf.flat ? SLICE_NONE : p->conf.arch));
}

enum reason
plan_feed(struct plan *p, const void *data, size_t n)
{
	CHECK_OBJ(p, PLAN_MAGIC);
	return plan_note(p, closure_feed(p->model, data, n));
}

enum reason
plan_end_list(struct plan *p)
{
	CHECK_OBJ(p, PLAN_MAGIC);
	return plan_note(p, closure_end_list(p->model));
}

enum reason
plan_ready(struct plan *p)
{
	enum reason r;

	CHECK_OBJ(p, PLAN_MAGIC);
	MUST(p->walk == NULL);
	r = plan_note(p, closure_finish(p->model, false));
	if (r == REASON_OK)
		p->walk = closure_walk_new(p->model, p->conf.recommends);
	return r == REASON_OK && p->walk == NULL ? plan_note(p, REASON_NO_MEMORY) : r;
}

/* ---- what is wanted ---- */

/* Says which versions, or which names, there are instead. */
static void
plan_explain(const struct plan *p, struct slice word, enum closure_found found, char *why,
    size_t cap)
{
	struct slice near[CLOSURE_NEAR_MAX], name = word;
	const char *end = memchr(word.p, '=', word.n);
	struct closure_package is;
	uint32_t newest;
	size_t at;
	unsigned n;

	if (end != NULL)
		name.n = (size_t)(end - word.p);
	if (found == CLOSURE_NO_VERSION &&
	    closure_find(p->model, name, p->conf.arch, &newest) == CLOSURE_FOUND) {
		closure_get(p->model, newest, &is);
		(void)snprintf(why, cap, "%.*s is not there in this version; the newest is %.*s",
		    SLICE_ARG(word), SLICE_ARG(is.version));
		return;
	}
	n = closure_near(p->model, name, near);
	at = (size_t)snprintf(why, cap, "there is no package %.*s%s", SLICE_ARG(word),
	    n > 0 ? "; did you mean " : "");
	for (unsigned i = 0; i < n && at < cap; i++)
		at += (size_t)snprintf(why + at, cap - at, "%s%.*s", i > 0 ? ", " : "",
		    SLICE_ARG(near[i]));
	if (n > 0 && at + 1 < cap)
		(void)snprintf(why + at, cap - at, "?");
}

enum reason
plan_want(struct plan *p, struct slice word, char *why, size_t why_cap)
{
	enum closure_found found;
	uint32_t i, *roots;
	unsigned cap;

	CHECK_OBJ(p, PLAN_MAGIC);
	found = closure_find(p->model, word, p->conf.arch, &i);
	if (found != CLOSURE_FOUND) {
		plan_explain(p, word, found, why, why_cap);
		return REASON_NOT_FOUND;
	}
	if (p->roots_n == p->roots_cap) {
		cap = p->roots_cap == 0 ? 64 : 2 * p->roots_cap;
		roots = realloc(p->roots, cap * sizeof(*roots));
		if (roots == NULL) {
			(void)snprintf(why, why_cap, "%s", reason_text(REASON_NO_MEMORY));
			return REASON_NO_MEMORY;
		}
		p->roots = roots;
		p->roots_cap = cap;
	}
	p->roots[p->roots_n++] = i;
	return REASON_OK;
}

void
plan_present(struct plan *p, struct slice name)
{
	CHECK_OBJ(p, PLAN_MAGIC);
	closure_walk_present(p->walk, name);
}

enum reason
plan_resolve(struct plan *p, char *why, size_t why_cap)
{
	enum reason r;

	CHECK_OBJ(p, PLAN_MAGIC);
	r = closure_walk_add(p->walk, p->roots, p->roots_n);
	if (r == REASON_LIST_BAD)
		(void)snprintf(why, why_cap, "more than %d candidates for dependencies", CLOSURE_STEPS_MAX);
	else if (r != REASON_OK)
		(void)snprintf(why, why_cap, "%s", reason_text(r));
	return r;
}

unsigned
plan_files_n(const struct plan *p)
{
	unsigned n;

	CHECK_OBJ(p, PLAN_MAGIC);
	(void)closure_walk_order(p->walk, &n);
	return n;
}

bool
plan_file_at(const struct plan *p, unsigned k, struct plan_file *out)
{
	struct closure_package is;
	const uint32_t *order;
	unsigned n;

	CHECK_OBJ(p, PLAN_MAGIC);
	order = closure_walk_order(p->walk, &n);
	MUST(k < n);
	closure_get(p->model, order[k], &is);
	out->name = is.name;
	out->version = is.version;
	out->size_bytes = is.size_bytes;
	out->sha256 = is.sha256;
	return closure_path(is.filename, out->path, sizeof(out->path)) > 0;
}

unsigned
plan_missing(const struct plan *p, char *words, size_t cap)
{
	struct slice missing[CLOSURE_MISSING_MAX];
	unsigned kept_n, n = closure_walk_missing(p->walk, missing, &kept_n);
	size_t at = 0;

	words[0] = '\0';
	for (unsigned i = 0; i < kept_n && at < cap; i++)
		at += (size_t)snprintf(words + at, cap - at, "%s%.*s", i > 0 ? ", " : "",
		    SLICE_ARG(missing[i]));
	return n;
}
