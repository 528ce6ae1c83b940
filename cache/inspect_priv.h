/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef INSPECT_PRIV_H
#define INSPECT_PRIV_H
/* What the door (cache.c) shows of itself to those that look at what is stored. */
#include "cache/flight_priv.h"
#include "cache/repo.h"
#include "include/inspect.h"

const struct cache_parts *cache_view_parts(const struct cache_view *v);
struct index_view *cache_view_index(struct cache_view *v);
const struct cache *cache_view_cache(const struct cache_view *v);
struct repo_view *cache_view_repos(struct cache_view *v);
/* May a body with these terms be served as the answer to ask now? */
enum fresh_verdict cache_judge_terms(const struct cache *c, const struct fresh_terms *terms,
    const struct cache_ask *ask, enum repo_role role);

#endif
