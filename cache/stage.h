/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef STAGE_H
#define STAGE_H
/*
 * Staging: what happens between a new Release and a generation that clients
 * see. Threads that may wait; workers and the verifier only hand them work.
 */
#include "cache/flight_priv.h"
#include "cache/repo.h"

struct stage;

struct stage *stage_start(struct cache *c) MUSTCHECK;
/*
 * In this order: no new fetches, no new waits; the threads end (the verifier has before, so that
 * nothing new comes); nobody knows of it any more.
 */
void stage_quiet(struct stage *st);
void stage_stop(struct stage *st);
void stage_free(struct stage **st_p);

/* The body of a gated flight is whole and has its digest. From the verifier. */
void stage_submit(struct stage *st, struct flight *f);
/* A body was stored: if some generation lists it as an index of packages, its table is made. */
void stage_note_stored(struct stage *st, const uint8_t sha256[32]);
/*
 * An index that clients may have whole from now on, and whose packages are not known yet: until the
 * end. Any thread; a lock of its own, the innermost. NULL: no memory.
 */
struct stage_unread;
struct stage_unread *stage_unread_begin(struct stage *st, struct slice url,
    const uint8_t sha256[32]) MUSTCHECK;
void stage_unread_end(struct stage *st, struct stage_unread **u_p);
/* Is there one at all; one below this root? */
bool stage_has_unread(struct stage *st);
bool stage_has_unread_below(struct stage *st, struct slice root);
/*
 * The body of this new flight is made from another compression of the same
 * index that is stored. False: there is none, it must be fetched.
 */
bool stage_derive(struct stage *st, struct index_view *view, const struct repo_gen *g,
    struct flight *f) MUSTCHECK;
/* Upstream does not have what the current generation lists: look soon whether there is a newer. */
void stage_suspect(struct stage *st, struct slice root);

/* For pages: what is disagreed about at this root. False: nothing. */
bool stage_pending(struct stage *st, struct slice root, char *why, size_t why_cap);

#endif
