/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Generations, as commands and the explain page see them: where a URL stands,
 * the list, pins. See inspect.h; repo.c and its files do the work.
 */
#include <stdio.h>

#include "cache/inspect_priv.h"
#include "cache/stage.h"
#include "include/clock.h"

_Static_assert(REPO_PIN_BYTES <= 64, "names fit the texts of commands");

/* ---- where a URL stands ---- */

static enum repo_role
inspect_repo_role(enum inspect_role role)
{
	switch (role) {
	case INSPECT_PLAIN:
		return REPO_ROLE_NONE;
	case INSPECT_RELEASE:
		return REPO_ROLE_RELEASE;
	case INSPECT_LISTED:
		return REPO_ROLE_LISTED;
	case INSPECT_BY_HASH:
	case INSPECT_UNLISTED:
		return REPO_ROLE_UNLISTED;
	case INSPECT_NO_GENERATION:
		return REPO_ROLE_UNKNOWN;
	case INSPECT_NO_SUCH_TIME:
		return REPO_ROLE_NO_SUCH_TIME;
	}
	WRONG("not an inspect_role");
}

/* What the generation says that it must be. */
static void
inspect_take_expect(const struct flight_expect *e, char name[8], char hex[129])
{
	bool is512 = e->hash == APTFILE_SHA512;

	(void)snprintf(name, 8, "%s", is512 ? "sha512" : "sha256");
	key_hex_of(e->digest, is512 ? 64 : 32, hex);
}

void
inspect_locate(struct cache_view *v, const struct url *url, const struct aptfile *af,
    struct slice then, struct inspect_place *out)
{
	struct repo_answer ra = {.role = REPO_ROLE_NONE};
	struct repo_ask q = {.url = url, .key = &out->key, .af = af, .at = then,
	    .now_ms = clock_mono_ms(), .now_s = clock_wall_s()};

	memset(out, 0, sizeof(*out));
	out->size_bytes = -1;
	key_of_url(url, &out->key);
	repo_ask(cache_view_repos(v), &q, &ra);
	switch (ra.role) {
	case REPO_ROLE_NONE:
		return;
	case REPO_ROLE_NO_SUCH_TIME:
		out->role = INSPECT_NO_SUCH_TIME;
		return;
	case REPO_ROLE_RELEASE:
		out->role = INSPECT_RELEASE;
		out->key = ra.version_key;
		break;
	case REPO_ROLE_LISTED:
		out->role = INSPECT_LISTED;
		out->key = ra.version_key;
		inspect_take_expect(&ra.expect, out->digest_name, out->digest_hex);
		out->size_bytes = ra.expect.size_bytes;
		break;
	case REPO_ROLE_UNLISTED:
		out->role = af->class == APTFILE_BYHASH ? INSPECT_BY_HASH : INSPECT_UNLISTED;
		break;
	case REPO_ROLE_UNKNOWN:
		out->role = INSPECT_NO_GENERATION;
		break;
	}
	if (ra.gen == NULL)
		return;
	out->root = repo_gen_root(ra.gen);
	(void)stage_pending(cache_view_parts(v)->stage, out->root, out->disagrees,
	    sizeof(out->disagrees));
	out->generation = repo_gen_seq(ra.gen);
	out->adopted_at_s = repo_gen_adopted_at_s(ra.gen);
}

struct inspect_history {
	struct cache_view *view;
	struct inspect_stretch *v;
	unsigned n, max_n;
};

/* Is the body of this edition here, under the URL's version or another one that may serve it? */
static bool
inspect_has_edition(struct cache_view *v, const struct repo_stretch *s)
{
	struct index_view *iv = cache_view_index(v);
	char text[OBJECT_TEXT_MAX];
	struct object_rec rec;
	struct blob_rec blob;

	if (index_get_object(iv, &s->version_key, &rec, text) == REASON_OK)
		return index_get_blob(iv, rec.digest, &blob) == REASON_OK;
	return s->expect.hash == APTFILE_SHA256 &&
	    index_get_blob(iv, s->expect.digest, &blob) == REASON_OK && !blob.restricted;
}

static void
inspect_history_add(void *arg, const struct repo_stretch *s)
{
	struct inspect_history *h = arg;
	struct inspect_stretch *out = &h->v[h->n];
	char *root = h->n < h->max_n ? strndup(s->root.p, s->root.n) : NULL;

	if (root == NULL)
		return;
	*out = (struct inspect_stretch){.root = root, .size_bytes = s->expect.size_bytes,
	    .first = s->first_seq, .last = s->last_seq, .from_s = s->from_s, .until_s = s->until_s,
	    .stored = inspect_has_edition(h->view, s)};
	inspect_take_expect(&s->expect, out->digest_name, out->digest_hex);
	h->n++;
}

unsigned
inspect_history(struct cache_view *v, const struct url *url, const struct aptfile *af,
    struct inspect_stretch *out, unsigned max_n)
{
	struct inspect_history h = {.view = v, .v = out, .max_n = max_n};

	repo_history(cache_view_repos(v), url, af, inspect_history_add, &h);
	return h.n;
}

void
inspect_history_free(struct inspect_stretch *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(list[i].root);
}

enum fresh_verdict
inspect_judge(struct cache_view *v, const struct inspect_url *u, const struct aptfile *af,
    const struct inspect_place *at, int64_t index_max_age_s, int64_t now_s)
{
	struct cache_ask ask = {.af = af, .fresh = {.max_age_s = -1},
	    .index_max_age_s = index_max_age_s, .now_s = now_s};

	if (at->role == INSPECT_LISTED)
		return FRESH_HIT;
	return cache_judge_terms(cache_view_cache(v), &u->terms, &ask, inspect_repo_role(at->role));
}

/* ---- the list ---- */

struct inspect_gens {
	struct inspect_gen *v;
	size_t n, cap;
	bool lost;			/* no memory for one of them */
};

/* Under the registry's lock: copies. */
static void
inspect_gens_add(void *arg, const struct repo_gen_info *info)
{
	struct inspect_gens *l = arg;
	size_t root_n = info->root.n + 1, suite_n = strlen(info->suite) + 1;
	size_t origin_n = strlen(info->origin) + 1, pins_n = strlen(info->pins) + 1;
	struct inspect_gen *grown = l->v, *g;
	char *p = malloc(root_n + suite_n + origin_n + pins_n);

	if (l->n == l->cap) {
		grown = reallocarray(l->v, l->cap * 2 + 16, sizeof(*l->v));
		if (grown != NULL)
			l->cap = l->cap * 2 + 16;
	}
	if (grown == NULL || p == NULL) {
		l->lost = true;
		free(p);
		return;
	}
	l->v = grown;
	g = &l->v[l->n++];
	*g = (struct inspect_gen){.root = p, .number = info->seq, .adopted_at_s = info->adopted_at_s,
	    .date_s = info->date_s, .valid_until_s = info->valid_until_s, .current = info->current,
	    .files_n = info->files_n, .tables_n = info->tables_n, .packages_n = info->packages_n};
	(void)snprintf(p, root_n, "%.*s", SLICE_ARG(info->root));
	g->suite = memcpy(p + root_n, info->suite, suite_n);
	g->origin = memcpy(p + root_n + suite_n, info->origin, origin_n);
	g->pins = memcpy(p + root_n + suite_n + origin_n, info->pins, pins_n);
	memcpy(g->digest, info->digest, sizeof(g->digest));
}

enum reason
inspect_generations(struct cache_view *v, struct slice prefix, struct inspect_gen **list_p,
    size_t *n)
{
	struct inspect_gens l = {.n = 0};

	repo_each_gen(cache_view_parts(v)->repos, prefix, inspect_gens_add, &l);
	if (l.lost) {
		inspect_generations_free(&l.v, l.n);
		return REASON_NO_MEMORY;
	}
	*list_p = l.v;
	*n = l.n;
	return REASON_OK;
}

void
inspect_generations_free(struct inspect_gen **list_p, size_t n)
{
	struct inspect_gen *list = *list_p;
	size_t i;

	*list_p = NULL;
	for (i = 0; i < n; i++)
		free(list[i].root);
	free(list);
}

/* ---- pins ---- */

enum reason
inspect_pin(struct cache_view *v, struct slice url, struct slice at, struct slice name, char *why,
    size_t why_cap)
{
	return repo_pin(cache_view_parts(v)->repos, url, at, name, why, why_cap);
}

enum reason
inspect_unpin(struct cache_view *v, struct slice url, struct slice name, char *why, size_t why_cap)
{
	return repo_unpin(cache_view_parts(v)->repos, url, name, why, why_cap);
}

void
inspect_time_text(int64_t s, char out[32])
{
	repo_time_text(s, out);
}
