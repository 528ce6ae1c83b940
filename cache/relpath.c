/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One name for a file, from two sides: as Release and Packages write it, and
 * as a canonical URL asks for it. Called by the parsers of lists and by
 * the look-ups in what they made; the latter are on the hit path.
 *
 * Names in lists are not escaped: "a_1%3a2.deb" is a file with a percent sign
 * in its name. apt escapes '+', '~', blanks, percent signs and what is not
 * ASCII, others escape more or less than that; the canonical URL keeps most of
 * these differences, since it must not guess what an origin makes of them. All
 * of them mean the same file name, so it is the name that is compared:
 * undoing each escape once is right for "%2b" and "+" and for "%253a" alike.
 */
#include "cache/relpath.h"

#include <stdbool.h>

size_t
relpath_clean(char *path, size_t n)
{
	size_t r = 0, w = 0;

	if (n == 0 || path[0] == '/' || path[n - 1] == '/')
		return 0;
	while (r < n) {
		const char *slash = memchr(path + r, '/', n - r);
		size_t part_n = slash != NULL ? (size_t)(slash - path) - r : n - r;

		if (part_n == 2 && path[r] == '.' && path[r + 1] == '.')
			return 0;
		for (size_t i = r; i < r + part_n; i++)
			if ((unsigned char)path[i] < ' ' || path[i] == 0x7f)
				return 0;
		if (part_n != 0 && !(part_n == 1 && path[r] == '.')) {
			if (w != 0)
				path[w++] = '/';
			memmove(path + w, path + r, part_n);
			w += part_n;
		} else if (slash == NULL) {
			return 0;	/* "a/." is a directory */
		}
		r += part_n + 1;
	}
	return w;
}

/* The byte of an escape at p, or -1 for a lone percent sign. */
static int
relpath_escape(const char *p, size_t left)
{
	int high, low;

	if (left < 3)
		return -1;
	high = slice_hex_value(p[1]);
	low = slice_hex_value(p[2]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

struct slice
relpath_of_url(struct slice url_path, char buf[RELPATH_MAX])
{
	size_t n = 0;

	if (url_path.n == 0 || url_path.n > 3 * (size_t)RELPATH_MAX ||
	    memchr(url_path.p, '?', url_path.n) != NULL)
		return SLICE_NONE;
	if (memchr(url_path.p, '%', url_path.n) == NULL)
		return url_path.n <= RELPATH_MAX ? url_path : SLICE_NONE;
	for (size_t i = 0; i < url_path.n; i++) {
		int c = (unsigned char)url_path.p[i];

		if (n == RELPATH_MAX)
			return SLICE_NONE;
		if (c == '%') {
			int byte = relpath_escape(url_path.p + i, url_path.n - i);

			if (byte == '/' || byte == '\0')
				return SLICE_NONE;
			if (byte > 0) {
				c = byte;
				i += 2;
			}
		}
		buf[n++] = (char)c;
	}
	return (struct slice){buf, n};
}
