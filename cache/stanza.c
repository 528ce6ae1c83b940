/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The deb822 reader for lists. The package table and the closure feed it what
 * cache/unpack.c gives; Release is read elsewhere (cache/release.c), since it
 * lies in memory whole.
 *
 * Text is gathered in one buffer that holds the unfinished stanza and what
 * came after it. Lines are read once each, as soon as their end is there;
 * of those that nobody asked for only colon and line end are looked for. When
 * the blank line comes, the callback gets slices of the buffer, which are good
 * until it returns.
 *
 * The rules are apt's: a line that begins with a blank continues a field, a
 * carriage return at a line's end is not part of it, names have no case. Two
 * fields of one name in a stanza are told to the callback: readers differ on
 * which one counts, so neither can be trusted.
 */
#include "cache/stanza.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define STANZA_MAGIC 0x57a72a01u

enum {
	STANZA_PIECE_BYTES = 64 << 10,	/* taken in at once */
	STANZA_SLOTS_N = 64,		/* a power of two */
	STANZA_NONE = 0xff,
};

/* A field's value as offsets from the stanza's start; from 0 is "not there". */
struct stanza_value {
	uint32_t from, to;
};

/* Owned by its caller, one thread at a time. */
struct stanza_reader {
	uint32_t magic;
	bool failed;
	bool begun;			/* the stanza has a field */
	uint8_t current;		/* field that a continuation line belongs to, STANZA_NONE */
	uint8_t slot[STANZA_SLOTS_N];	/* first wanted field by length and first letter */
	uint8_t next[STANZA__N];	/* the one after it in the same slot */
	char *buf;
	size_t cap;
	size_t start;			/* of the stanza in buf */
	size_t at;			/* first line not read yet */
	size_t searched;		/* no line end between `at` and here */
	size_t end;			/* of the text in buf */
	uint64_t stanzas_n;
	uint32_t twice;
	struct stanza_value value[STANZA__N];
	stanza_f *fn;
	void *arg;
	char why[STANZA_WHY_BYTES];
};

static const struct slice stanza_names[STANZA__N] = {
#define F(name, text) {text, sizeof(text) - 1},
	STANZA_FIELDS(F)
#undef F
};

_Static_assert(STANZA__N <= 32, "fields are bits of a word");
_Static_assert(STANZA_MAX_BYTES + STANZA_PIECE_BYTES < UINT32_MAX, "offsets have 32 bits");

/* Which slot names of this length and first letter share. */
static unsigned
stanza_slot(char first, size_t n)
{
	return (((unsigned)first | 0x20) * 5 + (unsigned)n) % STANZA_SLOTS_N;
}

struct stanza_reader *
stanza_new(uint32_t fields, stanza_f *fn, void *arg)
{
	struct stanza_reader *sr;

	OBJ_NEW(sr, STANZA_MAGIC);
	if (sr == NULL)
		return NULL;
	sr->cap = 2 * (size_t)STANZA_PIECE_BYTES;
	sr->buf = malloc(sr->cap);
	if (sr->buf == NULL) {
		OBJ_FREE(sr);
		return NULL;
	}
	sr->fn = fn;
	sr->arg = arg;
	sr->current = STANZA_NONE;
	memset(sr->slot, STANZA_NONE, sizeof(sr->slot));
	for (unsigned i = 0; i < STANZA__N; i++) {
		uint8_t *slot = &sr->slot[stanza_slot(stanza_names[i].p[0], stanza_names[i].n)];

		if ((fields >> i & 1) == 0)
			continue;
		sr->next[i] = *slot;
		*slot = (uint8_t)i;
	}
	return sr;
}

void
stanza_free(struct stanza_reader **sr_p)
{
	struct stanza_reader *sr = *sr_p;

	if (sr == NULL)
		return;
	*sr_p = NULL;
	CHECK_OBJ(sr, STANZA_MAGIC);
	free(sr->buf);
	OBJ_FREE(sr);
}

/* Remembers words and says that the list is bad. */
static enum reason PRINTF_LIKE(2, 3)
stanza_fail(struct stanza_reader *sr, const char *fmt, ...)
{
	va_list ap;
	int n;

	n = snprintf(sr->why, sizeof(sr->why), "stanza %" PRIu64 ": ", sr->stanzas_n + 1);
	MUST(n > 0 && (size_t)n < sizeof(sr->why));
	va_start(ap, fmt);
	(void)vsnprintf(sr->why + n, sizeof(sr->why) - (size_t)n, fmt, ap);
	va_end(ap);
	return REASON_LIST_BAD;
}

/* The wanted field of this name, or STANZA_NONE. */
static uint8_t
stanza_find_field(const struct stanza_reader *sr, struct slice name)
{
	uint8_t i;

	for (i = sr->slot[stanza_slot(name.p[0], name.n)]; i != STANZA_NONE; i = sr->next[i])
		if (slice_caseeq(name, stanza_names[i]))
			break;
	return i;
}

static bool
stanza_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Hands the stanza over, if there is one, and begins the next. */
static enum reason
stanza_emit(struct stanza_reader *sr, size_t next)
{
	const char *base = sr->buf + sr->start;
	struct stanza st = {.twice = sr->twice};
	enum reason r = REASON_OK;

	if (sr->begun) {
		st.number = ++sr->stanzas_n;
		for (unsigned i = 0; i < STANZA__N; i++) {
			struct stanza_value v = sr->value[i];

			if (v.from != 0)
				st.f[i] = (struct slice){base + v.from, v.to - v.from};
		}
		r = sr->fn(sr->arg, &st);
		memset(sr->value, 0, sizeof(sr->value));
		sr->twice = 0;
		sr->begun = false;
	}
	sr->current = STANZA_NONE;
	sr->start = next;
	return r;
}

/* A line that begins a field: "Name: value". n is without line end, at least 1. */
static enum reason
stanza_read_field(struct stanza_reader *sr, const char *line, size_t n)
{
	const char *base = sr->buf + sr->start, *colon = memchr(line, ':', n);
	struct slice name = {line, 0};
	const char *from, *to = line + n;
	uint8_t i;

	if (colon == NULL)
		return stanza_fail(sr, "a line without a colon: \"%.*s\"", n > 40 ? 40 : (int)n,
		    line);
	name.n = (size_t)(colon - line);
	while (name.n != 0 && stanza_is_blank(name.p[name.n - 1]))
		name.n--;
	if (name.n == 0)
		return stanza_fail(sr, "a field without a name");
	sr->begun = true;
	sr->current = i = stanza_find_field(sr, name);
	if (i == STANZA_NONE)
		return REASON_OK;
	if (sr->value[i].from != 0) {
		sr->twice |= UINT32_C(1) << i;
		sr->current = STANZA_NONE;
		return REASON_OK;
	}
	for (from = colon + 1; from < to && stanza_is_blank(*from);)
		from++;
	/* As apt trims: of what ends a line, a carriage return too. */
	while (to > from && (stanza_is_blank(to[-1]) || to[-1] == '\r'))
		to--;
	sr->value[i] = (struct stanza_value){(uint32_t)(from - base), (uint32_t)(to - base)};
	return REASON_OK;
}

/* One whole line from sr->at; n is without the line feed, next the line after it. */
static enum reason
stanza_read_line(struct stanza_reader *sr, size_t n, size_t next)
{
	const char *line = sr->buf + sr->at;

	while (n != 0 && line[n - 1] == '\r')
		n--;
	sr->at = sr->searched = next;
	if (n == 0)
		return stanza_emit(sr, next);
	if (!stanza_is_blank(*line))
		return stanza_read_field(sr, line, n);
	if (!sr->begun)
		return stanza_fail(sr, "it begins with a continuation line");
	if (sr->current != STANZA_NONE)
		sr->value[sr->current].to = (uint32_t)(line + n - (sr->buf + sr->start));
	return REASON_OK;
}

/* Reads the whole lines that are in the buffer. */
static enum reason
stanza_read_lines(struct stanza_reader *sr)
{
	const char *lf;
	enum reason r;

	while ((lf = memchr(sr->buf + sr->searched, '\n', sr->end - sr->searched)) != NULL) {
		size_t end = (size_t)(lf - sr->buf);

		r = stanza_read_line(sr, end - sr->at, end + 1);
		if (r != REASON_OK)
			return r;
	}
	sr->searched = sr->end;
	if (sr->end - sr->start > STANZA_MAX_BYTES)
		return stanza_fail(sr, "it is longer than %d MiB", STANZA_MAX_BYTES >> 20);
	return REASON_OK;
}

/* Room for n more bytes: the finished stanzas leave, then the buffer grows. */
static enum reason
stanza_make_room(struct stanza_reader *sr, size_t n)
{
	size_t cap = sr->cap;
	char *buf;

	if (sr->cap - sr->end >= n)
		return REASON_OK;
	if (sr->start != 0) {
		memmove(sr->buf, sr->buf + sr->start, sr->end - sr->start);
		sr->at -= sr->start;
		sr->searched -= sr->start;
		sr->end -= sr->start;
		sr->start = 0;
	}
	while (cap - sr->end < n)	/* sr->end is at most STANZA_MAX_BYTES here */
		cap *= 2;
	if (cap == sr->cap)
		return REASON_OK;
	buf = realloc(sr->buf, cap);
	if (buf == NULL)
		return REASON_NO_MEMORY;
	sr->buf = buf;
	sr->cap = cap;
	return REASON_OK;
}

/* Takes at most STANZA_PIECE_BYTES. */
static enum reason
stanza_feed_piece(struct stanza_reader *sr, const char *p, size_t n)
{
	enum reason r;

	if (memchr(p, '\0', n) != NULL)
		return stanza_fail(sr, "or one soon after it: a NUL byte");
	r = stanza_make_room(sr, n);
	if (r != REASON_OK)
		return r;
	memcpy(sr->buf + sr->end, p, n);
	sr->end += n;
	return stanza_read_lines(sr);
}

enum reason
stanza_feed(struct stanza_reader *sr, const void *p, size_t n)
{
	const char *in = p;
	enum reason r = REASON_OK;

	CHECK_OBJ(sr, STANZA_MAGIC);
	MUST(!sr->failed);
	while (n != 0 && r == REASON_OK) {
		size_t piece_n = n < STANZA_PIECE_BYTES ? n : STANZA_PIECE_BYTES;

		r = stanza_feed_piece(sr, in, piece_n);
		in += piece_n;
		n -= piece_n;
	}
	sr->failed = r != REASON_OK;
	return r;
}

enum reason
stanza_end(struct stanza_reader *sr)
{
	enum reason r = REASON_OK;

	CHECK_OBJ(sr, STANZA_MAGIC);
	MUST(!sr->failed);
	if (sr->at < sr->end)	/* the last line lacks its end */
		r = stanza_read_line(sr, sr->end - sr->at, sr->end);
	if (r == REASON_OK)
		r = stanza_emit(sr, sr->end);
	sr->failed = r != REASON_OK;
	return r;
}

const char *
stanza_why(const struct stanza_reader *sr)
{
	CHECK_OBJ(sr, STANZA_MAGIC);
	return sr->why;
}
