/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CACHEDIR_H
#define CACHEDIR_H
/* A cache directory with an index for unit tests. Whatever fails fails the test. */
#include <stddef.h>
#include <stdint.h>

#include "cache/blob.h"
#include "cache/index.h"

struct cachedir {
	char dir[64];
	struct blobstore *blobs;
	struct index *index;
	struct index_view *view;
};

void cachedir_make(struct cachedir *cd);	/* the directory alone */
void cachedir_open(struct cachedir *cd);	/* blobs, index and a view; recovery has ended */
void cachedir_close(struct cachedir *cd);	/* an orderly stop */
void cachedir_remove(struct cachedir *cd);	/* closes, deletes */

/* A path below the directory; good until the next call. */
const char *cachedir_below(const struct cachedir *cd, const char *what);
void cachedir_digest(const void *body, size_t n, uint8_t digest[32]);
void cachedir_key(const char *url, struct key *key);
/* The record that a fetch of url with this body would store. */
void cachedir_rec(struct object_rec *rec, const char *url, const void *body, size_t n);
/* partial/<key of url> with this body. */
void cachedir_partial(struct cachedir *cd, const char *url, const void *body, size_t n);
/* Stores url as a finished fetch would, waits, returns the outcome. */
enum reason cachedir_store(struct cachedir *cd, const char *url, const char *body);
/* What the index says of url; NOT_FOUND also where its blob has no record. */
enum reason cachedir_lookup(struct cachedir *cd, const char *url, struct blob_rec *blob);
/* Is there a file for the blob of this body? */
bool cachedir_has_file(struct cachedir *cd, const char *body);

#endif
