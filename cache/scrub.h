/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SCRUB_H
#define SCRUB_H
/*
 * Reads stored bodies again in the background and compares them with the
 * digests in their names: disks flip bits, and people write into files. A
 * body that is not what its name says is counted, logged and dropped, so
 * that the next client gets good bytes.
 */
#include <stdint.h>

#include "cache/index.h"

struct scrub;

enum {
	SCRUB_RATE_BYTES = 8 << 20,	/* a second */
	SCRUB_FIRST_MS = 600 * 1000,	/* from the start to the first pass */
	SCRUB_EVERY_MS = 86400 * 1000,	/* from the begin of a pass to the next, at least */
};

struct scrub_conf {
	struct index *index;
	struct blobstore *blobs;
	uint64_t rate_bytes;		/* a second; 0: as fast as the disk */
	int64_t first_ms, every_ms;
};

/* Starts the thread. NULL: out of memory or threads. */
struct scrub *scrub_start(const struct scrub_conf *conf);
void scrub_stop(struct scrub **s_p);

#endif
