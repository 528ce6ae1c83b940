/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef CLOSURE_PATH_H
#define CLOSURE_PATH_H
/* A package's Filename as apt writes it in a URL. Pure. */
#include <stddef.h>

#include "include/slice.h"

/* Cleaned, with % and what is no printable ASCII escaped; its length, 0: no usable name. */
size_t closure_path(struct slice filename, char *out, size_t cap);

#endif
