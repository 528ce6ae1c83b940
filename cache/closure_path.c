/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * From the Filename of a list to a URL's path, the way that apt goes it:
 * a file called cuda_1%3a2.deb is asked for as cuda_1%253a2.deb. What apt
 * escapes besides (+ and ~) the canonical form undoes.
 */
#include "cache/closure_path.h"

#include <stdio.h>

#include "cache/relpath.h"

size_t
closure_path(struct slice filename, char *out, size_t cap)
{
	char name[RELPATH_MAX];
	size_t n, at = 0;

	if (filename.n == 0 || filename.n > sizeof(name))
		return 0;
	memcpy(name, filename.p, filename.n);
	n = relpath_clean(name, filename.n);
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)name[i];
		bool escape = ch <= ' ' || ch >= 0x7f || strchr("%?#\"<>\\^`{|}", ch) != NULL;

		if (at + 4 > cap)
			return 0;
		at += (size_t)snprintf(out + at, cap - at, escape ? "%%%02x" : "%c", ch);
	}
	return at;
}
