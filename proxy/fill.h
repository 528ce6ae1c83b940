/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef FILL_H
#define FILL_H
/* Text for people, in lines. */
#include <stddef.h>
#include <stdio.h>

/*
 * The words of a text in lines of at most `width` columns, each behind the prefix. Without one they
 * are for the manual: no line begins with what would be a macro.
 */
void fill_words(FILE *out, const char *text, const char *prefix, size_t width);

#endif
