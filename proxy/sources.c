/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Rewrites apt's sources lists. Both formats are read line by line, and need
 * not be told apart: a line that begins with deb or deb-src is of the first,
 * URIs: and the lines that continue it are of the second. Only the beginning
 * of a URI is changed; every other byte stays, comments and what is commented
 * out included, so that the way there and back gives the same file.
 *
 * The command itself (files, backups) is in cmd_sources.c.
 */
#include "proxy/sources.h"

#include <ctype.h>
#include <stdlib.h>

#include "include/obj.h"

/* Where in a text we are. */
struct sources_state {
	const struct sources_how *how;
	bool in_field;			/* deb822: lines that begin with a blank continue it */
	bool in_uris;			/* and it is URIs: */
	unsigned long uris_n;
};

static bool
sources_is_blank(char ch)
{
	return ch == ' ' || ch == '\t' || ch == '\r';
}

static struct slice
sources_skip_blanks(struct slice s)
{
	while (s.n > 0 && sources_is_blank(s.p[0]))
		s = slice_skip(s, 1);
	return s;
}

/* Does it begin so, in any letter case, with something behind it? */
static bool
sources_has_prefix(struct slice s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n > n && strncasecmp(s.p, prefix, n) == 0;
}

/*
 * How much of a URI goes, and what comes in its place; 0: it stays. The
 * marker may have any letter case, a port, and any number of slashes.
 */
static size_t
sources_cut(struct slice uri, const struct sources_how *how, const char **instead)
{
	size_t n = sizeof("http://HTTPS") - 1;

	*instead = how->to_https ? "https://" : "http://HTTPS///";
	if (!how->to_https && sources_has_prefix(uri, "https://"))
		return sizeof("https://") - 1;
	if (sources_has_prefix(uri, "http://HTTPS/") || sources_has_prefix(uri, "http://HTTPS:")) {
		if (!how->to_https)
			return 0;
		if (uri.p[n] == ':')
			for (n++; n < uri.n && isdigit((unsigned char)uri.p[n]); n++)
				;
		if (n >= uri.n || uri.p[n] != '/')
			return 0;
		while (n < uri.n && uri.p[n] == '/')
			n++;
		/* A repository as it was (@DATE) is to be had through a depot only. */
		return n < uri.n && uri.p[n] != '@' ? n : 0;
	}
	return how->all && sources_has_prefix(uri, "http://") ? sizeof("http://") - 1 : 0;
}

/* Writes one URI. */
static void
sources_put_uri(struct sources_state *st, struct slice uri, FILE *out)
{
	const char *instead;
	size_t cut = sources_cut(uri, st->how, &instead);

	if (cut > 0) {
		(void)fputs(instead, out);
		st->uris_n++;
	}
	(void)fwrite(uri.p + cut, 1, uri.n - cut, out);
}

/* URIs with blanks between them; blanks are kept. */
static void
sources_put_uris(struct sources_state *st, struct slice rest, FILE *out)
{
	size_t n;

	while (rest.n > 0) {
		for (n = 0; n < rest.n && sources_is_blank(rest.p[n]); n++)
			(void)putc(rest.p[n], out);
		rest = slice_skip(rest, n);
		for (n = 0; n < rest.n && !sources_is_blank(rest.p[n]); n++)
			;
		if (n > 0)
			sources_put_uri(st, (struct slice){rest.p, n}, out);
		rest = slice_skip(rest, n);
	}
}

/* One-line format: what stands before the URI, options in brackets included; 0: no such line. */
static size_t
sources_one_line_uri(struct slice line)
{
	struct slice s = sources_skip_blanks(line);
	const char *end;
	size_t word = slice_starts(s, SLICE("deb-src")) ? 7 : slice_starts(s, SLICE("deb")) ? 3 : 0;

	if (word == 0 || s.n <= word || !(sources_is_blank(s.p[word]) || s.p[word] == '['))
		return 0;
	s = sources_skip_blanks(slice_skip(s, word));
	if (s.n > 0 && s.p[0] == '[') {
		end = memchr(s.p, ']', s.n);
		if (end == NULL)
			return 0;
		s = sources_skip_blanks(slice_skip(s, (size_t)(end - s.p) + 1));
	}
	if (s.n > 0 && s.p[0] == '"')
		s = slice_skip(s, 1);
	return s.n > 0 ? line.n - s.n : 0;
}

/* The length of "Name:" at the start of a deb822 field; 0: none. */
static size_t
sources_field_name(struct slice line)
{
	size_t n;

	for (n = 0; n < line.n && (isalnum((unsigned char)line.p[n]) || line.p[n] == '-'); n++)
		;
	return n > 0 && n < line.n && line.p[n] == ':' ? n + 1 : 0;
}

/* Writes one line without its newline. */
static void
sources_put_line(struct sources_state *st, struct slice line, FILE *out)
{
	bool continues = line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t') && st->in_field;
	size_t n;

	if (continues) {
		/* A stanza's continuation lines may be comments too. */
		if (st->in_uris && sources_skip_blanks(line).n > 0 &&
		    sources_skip_blanks(line).p[0] != '#')
			sources_put_uris(st, line, out);
		else
			(void)fwrite(line.p, 1, line.n, out);
		return;
	}
	if (line.n > 0 && line.p[0] == '#') {	/* in a field too, without ending it */
		(void)fwrite(line.p, 1, line.n, out);
		return;
	}
	n = sources_field_name(line);
	st->in_field = n > 0;
	st->in_uris = n > 0 && slice_caseeq((struct slice){line.p, n}, SLICE("URIs:"));
	if (st->in_uris) {
		(void)fwrite(line.p, 1, n, out);
		sources_put_uris(st, slice_skip(line, n), out);
		return;
	}
	n = st->in_field ? 0 : sources_one_line_uri(line);
	(void)fwrite(line.p, 1, n, out);
	line = slice_skip(line, n);
	if (n > 0) {
		for (n = 0; n < line.n && !sources_is_blank(line.p[n]); n++)
			;
		sources_put_uri(st, (struct slice){line.p, n}, out);
		line = slice_skip(line, n);
	}
	(void)fwrite(line.p, 1, line.n, out);
}

/* One line, told to how->line when it changed. */
static void
sources_do_line(struct sources_state *st, unsigned long number, struct slice line, FILE *out)
{
	unsigned long before = st->uris_n;
	char *text = NULL;
	size_t n = 0;
	FILE *now;

	if (st->how->line == NULL) {
		sources_put_line(st, line, out);
		return;
	}
	now = open_memstream(&text, &n);
	if (now == NULL)
		return;
	sources_put_line(st, line, now);
	if (fclose(now) == 0) {
		(void)fwrite(text, 1, n, out);
		if (st->uris_n != before)
			st->how->line(st->how->arg, number, line, (struct slice){text, n});
	}
	free(text);
}

unsigned long
sources_rewrite(struct slice text, const struct sources_how *how, FILE *out)
{
	struct sources_state st = {.how = how};
	unsigned long number = 1;

	for (; text.n > 0; number++) {
		const char *end = memchr(text.p, '\n', text.n);
		struct slice line = {text.p, end != NULL ? (size_t)(end - text.p) : text.n};

		sources_do_line(&st, number, line, out);
		if (end != NULL)
			(void)putc('\n', out);
		text = slice_skip(text, line.n + 1);
	}
	return st.uris_n;
}
