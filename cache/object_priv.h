/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef OBJECT_PRIV_H
#define OBJECT_PRIV_H
/* What cache.c needs of the per-worker table of objects in object.c. */
#include "cache/blob.h"
#include "cache/index.h"
#include "include/cache.h"
#include "include/obj.h"

struct object_table;

struct object_table *object_table_new(struct index *ix, struct index_view *view,
    struct blobstore *blobs, unsigned max_n) MUSTCHECK;
void object_table_free(struct object_table **t_p);
/* What is stored for the key now: a reference, or NULL. */
struct object *object_find(struct object_table *t, const struct key *key, int64_t now_ms,
    int64_t now_s);
/* Lets go of descriptors and records that were not used for a while. */
void object_table_tick(struct object_table *t, int64_t now_ms);

/* The copies that this thread sends from. */
struct windows *object_table_windows(struct object_table *t);

/* An object that no record speaks of yet; in the table until one does. NULL: out of memory. */
struct object *object_make(struct object_table *t, const struct key *key,
    const struct object_rec *rec);
const struct key *object_key(const struct object *o);
const struct object_rec *object_record(const struct object *o);
/* Upstream has confirmed it: the entry knows at once. True: time to write that down, too. */
bool object_confirm(struct object *o, const struct fresh_terms *terms, int64_t checked_at_ms);

#endif
