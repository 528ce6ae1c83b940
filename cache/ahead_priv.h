/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef AHEAD_PRIV_H
#define AHEAD_PRIV_H
/* What ahead.c (thread, flights, budget) and ahead_guess.c (models, guesses) share. */
#include <sys/queue.h>

#include "cache/ahead.h"
#include "cache/closure.h"

enum {
	AHEAD_ASKED_MAX = 1024,		/* packages of one client that are remembered */
	AHEAD_EVIDENCE = 3,		/* asked for in order, before a larger package is believed in */
	AHEAD_CANDIDATES_MAX = 32,	/* larger packages that are looked at for each guess */
	AHEAD_MODELS_MAX = 16,
};
/* Of all models together. */
#define AHEAD_MODELS_BYTES (UINT64_C(64) << 20)

/* A generation's dependencies. The thread's; counted by clients. */
struct ahead_model {
	TAILQ_ENTRY(ahead_model) link;	/* lately used first */
	struct slice root;		/* malloced */
	uint64_t seq;
	unsigned lists_n;		/* that there were: with more it is made anew */
	unsigned refs;
	struct closure *closure;	/* NULL: could not be made */
	struct closure_walk *walk;
	uint64_t bytes;
};

TAILQ_HEAD(ahead_models, ahead_model);

/* Finds or makes the model; NULL: no memory, or there is nothing to make it of. */
struct ahead_model *ahead_model_get(struct ahead_models *models, struct cache *c,
    struct repo_gen *gen);
void ahead_model_unref(struct ahead_model **m_p);
void ahead_models_free(struct ahead_models *models);

/*
 * What comes behind these packages, which were asked for in this order: fills
 * at most max_n places, returns how many.
 */
unsigned ahead_guess(const struct ahead_model *m, const uint32_t *asked, unsigned asked_n,
    uint32_t *out, unsigned max_n);

#endif
