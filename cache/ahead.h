/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef AHEAD_H
#define AHEAD_H
/*
 * prefetch = closure: what a client is about to ask for is fetched ahead. A
 * thread that may wait; workers only tell it what was asked for.
 */
#include "cache/flight_priv.h"
#include "cache/repo.h"

struct ahead;
struct ahead_client;

struct ahead *ahead_start(struct cache *c, uint64_t budget_bytes) MUSTCHECK;
/* Ends the thread and lets go of all flights; when no client is left, ahead_free. */
void ahead_stop(struct ahead *a);
void ahead_free(struct ahead **a_p);

/*
 * This client asked for a package that the generation lists, and its request had to start a fetch,
 * or not. *client_p: NULL at first.
 */
void ahead_note(struct ahead *a, struct ahead_client **client_p, struct repo_gen *gen,
    struct slice url, const struct flight_expect *expect, const struct key *version_key,
    bool started);
/* The client is gone. */
void ahead_gone(struct ahead_client **client_p);

#endif
