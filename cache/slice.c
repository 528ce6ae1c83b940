/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* What of slice.h is too long to be inline. */
#include "include/slice.h"

static bool
slice_is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice
slice_trim(struct slice s)
{
	while (s.n != 0 && slice_is_blank(s.p[0]))
		s = slice_skip(s, 1);
	while (s.n != 0 && slice_is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}
