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

const struct object_rec *object_record(const struct object *o);
/* Remembers in which repository epoch the object was found to agree with its index. */
uint64_t object_repo_epoch(const struct object *o);
void object_set_repo_epoch(struct object *o, uint64_t epoch);

#endif
