/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef RELPATH_H
#define RELPATH_H
/* Names of files in a repository, and the paths of the URLs that ask for them. Pure. */
#include <stddef.h>

#include "include/obj.h"
#include "include/slice.h"

enum { RELPATH_MAX = 1024 };
/* The largest file that a list may name: 18 digits, so that no sum of a few overflows. */
#define RELPATH_SIZE_MAX 999999999999999999u

/*
 * Cleans a relative file name in place: "./", "/./" and "//" leave. Returns
 * its new length; 0: empty, absolute, with "..", a slash at its end or a
 * control character in it.
 */
size_t relpath_clean(char *path, size_t n) MUSTCHECK;
/*
 * The file name that the path of a canonical URL asks for, relative to the
 * same directory: escapes are undone, once. Points into the path itself where
 * there is no escape, else into buf; p NULL: no file name (a query, an escaped
 * slash or NUL, longer than RELPATH_MAX).
 */
struct slice relpath_of_url(struct slice url_path, char buf[RELPATH_MAX]);

#endif
