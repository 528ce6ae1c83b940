/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Text for people, in lines: help, the sample file, the manual. */
#include "proxy/fill.h"

#include <string.h>

void
fill_words(FILE *out, const char *text, const char *prefix, size_t width)
{
	size_t column = 0, n;

	for (; *text != '\0'; text += n, text += strspn(text, " ")) {
		n = strcspn(text, " ");
		if (column != 0 && column + 1 + n > width) {
			(void)putc('\n', out);
			column = 0;
		}
		(void)fprintf(out, "%s%.*s", column != 0 ? " " : prefix[0] == '\0' &&
		    (*text == '.' || *text == '\'') ? "\\&" : prefix, (int)n, text);
		column += n + (column == 0 ? strlen(prefix) : 1);
	}
	(void)putc('\n', out);
}
