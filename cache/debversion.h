/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef DEBVERSION_H
#define DEBVERSION_H
/* Versions of Debian packages: epoch:upstream-revision, in the order that dpkg gives them. Pure. */
#include "include/slice.h"

/* Below 0, 0, above 0. Any bytes have some order; a valid version has dpkg's. */
int debversion_compare(struct slice a, struct slice b);

#endif
