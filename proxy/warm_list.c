/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Lists that people have: URLs, the table of `dpkg -l`, or names with
 * versions as lock files and `dpkg-query -W` write them. For the command
 * warm, which says how it understood its file.
 */
#include <string.h>

#include "proxy/warm_priv.h"

/* The next line without its end; blanks at both ends go, too. */
static bool
warm_next_line(struct slice *rest, struct slice *line)
{
	const char *end;

	if (rest->n == 0)
		return false;
	end = memchr(rest->p, '\n', rest->n);
	*line = (struct slice){rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
	*rest = slice_skip(*rest, line->n + 1);
	while (line->n > 0 && strchr(" \t\r", line->p[line->n - 1]) != NULL)
		line->n--;
	while (line->n > 0 && strchr(" \t", line->p[0]) != NULL)
		*line = slice_skip(*line, 1);
	return true;
}

/* The next word of a line; empty at its end. */
static struct slice
warm_next_word(struct slice *line)
{
	struct slice word;
	size_t n = 0;

	while (line->n > 0 && (line->p[0] == ' ' || line->p[0] == '\t'))
		*line = slice_skip(*line, 1);
	while (n < line->n && line->p[n] != ' ' && line->p[n] != '\t')
		n++;
	word = (struct slice){line->p, n};
	*line = slice_skip(*line, n);
	return word;
}

/* Do a package's line of `dpkg -l` begin like this: what is wanted, what is? */
static bool
warm_is_dpkg_state(struct slice s)
{
	return (s.n == 2 || s.n == 3) && strchr("uihrp", s.p[0]) != NULL &&
	    strchr("ncHUFWti", s.p[1]) != NULL;
}

enum warm_form
warm_list_form(struct slice text)
{
	struct slice line, first;

	while (warm_next_line(&text, &line)) {
		if (line.n == 0 || line.p[0] == '#')
			continue;
		if (memmem(line.p, line.n, "://", 3) != NULL)
			return WARM_URLS;
		if (slice_starts(line, SLICE("Desired=")) || slice_starts(line, SLICE("||/")))
			return WARM_DPKG;
		first = warm_next_word(&line);
		/* A package may be called ii; its version begins with a digit. */
		if (warm_is_dpkg_state(first)) {
			(void)warm_next_word(&line);
			return warm_next_word(&line).n > 0 ? WARM_DPKG : WARM_NAMES;
		}
		return WARM_NAMES;
	}
	return WARM_NAMES;
}

const char *
warm_form_name(enum warm_form form)
{
	switch (form) {
	case WARM_URLS:
		return "a list of URLs";
	case WARM_DPKG:
		return "the output of dpkg -l";
	case WARM_NAMES:
		return "a list of packages";
	}
	WRONG("form of a list");
}

/* NAME[:ARCH] and a version in the caller's memory; false: too long, or no name. */
static bool
warm_put_package(struct slice name, struct slice version, char *out, size_t cap)
{
	int n;

	if (name.n == 0)
		return false;
	n = snprintf(out, cap, "%.*s%s%.*s", SLICE_ARG(name), version.n > 0 ? "=" : "",
	    SLICE_ARG(version));
	return n > 0 && (size_t)n < cap;
}

bool
warm_list_next(enum warm_form form, struct slice *rest, char *out, size_t cap)
{
	struct slice line, a, b, state;

	while (warm_next_line(rest, &line)) {
		if (line.n == 0 || line.p[0] == '#')
			continue;
		a = state = warm_next_word(&line);
		b = warm_next_word(&line);
		switch (form) {
		case WARM_URLS:
			if (warm_put_package(a, SLICE_NONE, out, cap))
				return true;
			break;
		case WARM_DPKG:
			if (!warm_is_dpkg_state(state) || state.p[1] != 'i')
				break;
			if (warm_put_package(b, warm_next_word(&line), out, cap))
				return true;
			break;
		case WARM_NAMES:
			/* dpkg --get-selections has a word there instead of a version. */
			if (b.n > 0 && (b.p[0] < '0' || b.p[0] > '9'))
				b = SLICE_NONE;
			if (warm_put_package(a, b, out, cap))
				return true;
			break;
		}
	}
	return false;
}

void
warm_size_text(uint64_t bytes, char out[24])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u + 1 < NELEM(units)) {
		v /= 1024;
		u++;
	}
	(void)snprintf(out, 24, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
}
