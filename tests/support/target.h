/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef TARGET_H
#define TARGET_H
/* A URL as the daemon asks for it. Whatever fails fails the test. */
#include "include/aptfile.h"
#include "include/key.h"

/* Not to be copied: url and af point into room. */
struct target {
	struct url url;
	struct key key;
	struct aptfile af;
	char room[1024];
};

void target_set(struct target *t, const char *text);

#endif
