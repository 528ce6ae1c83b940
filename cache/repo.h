/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef REPO_H
#define REPO_H
/*
 * Repositories: which index names a package. A package of a flat repository
 * may get other bytes under the same name whenever its Release changes, so a
 * stored one is good only as long as no Release above it came after its last
 * check. Where names are never reused (pool/), nothing is asked.
 */
#include <stdbool.h>
#include <stdint.h>

#include "cache/index.h"
#include "include/key.h"

/*
 * A number that moves when any Release changed: equal numbers mean that nothing needs to be looked
 * up.
 */
uint64_t repo_epoch(void);
/* A Release with other bytes than before was stored. Any thread. */
void repo_release_changed(void);
/*
 * Did a Release of a directory above this URL come after checked_at_ms? Looks up at most
 * eight directories. From the view's thread.
 */
bool repo_release_newer(struct index_view *view, struct slice url, int64_t checked_at_ms);

#endif
