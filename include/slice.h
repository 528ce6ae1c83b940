/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef SLICE_H
#define SLICE_H
/*
 * A slice is borrowed text: pointer and length, not NUL-terminated. An arena
 * is a bump allocator over memory that its owner supplied: what a request
 * parses lives in its arena and goes away with it, whole.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct slice {
	const char *p;
	size_t n;
};

#define SLICE(lit) ((struct slice){(lit), sizeof(lit) - 1})
#define SLICE_NONE ((struct slice){NULL, 0})
/* For printf("%.*s"): lengths that do not fit an int are cut. */
#define SLICE_ARG(s) (int)((s).n > 65535 ? 65535 : (s).n), ((s).p ? (s).p : "")

static inline struct slice
slice_of(const char *cstr)
{
	return cstr ? (struct slice){cstr, strlen(cstr)} : SLICE_NONE;
}

static inline bool
slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
slice_caseeq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool
slice_starts(struct slice s, struct slice prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool
slice_ends(struct slice s, struct slice suffix)
{
	return s.n >= suffix.n &&
	    (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

/* Cuts `from` bytes off the front; `from` beyond the end leaves an empty slice. */
static inline struct slice
slice_skip(struct slice s, size_t from)
{
	if (from > s.n)
		from = s.n;
	return (struct slice){s.p + from, s.n - from};
}

/* Without the blanks and line ends at both ends (cache/slice.c). */
struct slice slice_trim(struct slice s);

/* The value of a hex digit in either case, or -1. */
static inline int
slice_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The n bytes that 2n hex digits are; false, and bytes is of no use: these are not. */
static inline bool
slice_read_hex(struct slice hex, uint8_t *bytes, size_t n)
{
	if (hex.n != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = slice_hex_value(hex.p[2 * i]), low = slice_hex_value(hex.p[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* A number up to max in decimal digits, and nothing else; false: it is none, *value is as it was. */
static inline bool
slice_read_number(struct slice digits, uint64_t max, uint64_t *value)
{
	uint64_t v = 0;

	if (digits.n == 0)
		return false;
	for (size_t i = 0; i < digits.n; i++) {
		uint64_t digit = (uint64_t)(digits.p[i] - '0');

		if (digits.p[i] < '0' || digits.p[i] > '9' || digit > max || v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*value = v;
	return true;
}

struct arena {
	char *base;
	size_t used, cap;
};

static inline void
arena_init(struct arena *a, void *memory, size_t cap)
{
	a->base = memory;
	a->used = 0;
	a->cap = cap;
}

/* n bytes (not aligned: text only), or NULL when the arena is full. */
static inline char *
arena_text(struct arena *a, size_t n)
{
	char *p;

	if (n > a->cap - a->used)
		return NULL;
	p = a->base + a->used;
	a->used += n;
	return p;
}

/* A NUL-terminated copy in the arena, or a NULL slice when it is full. */
static inline struct slice
arena_copy(struct arena *a, struct slice s)
{
	char *p = arena_text(a, s.n + 1);

	if (p == NULL)
		return SLICE_NONE;
	if (s.n != 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return (struct slice){p, s.n};
}

#endif
