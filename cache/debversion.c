/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The order of versions, as Debian's policy manual defines it (5.6.12):
 * epochs as numbers, then upstream version and revision, each as a sequence
 * of parts that alternate between non-digits, where a tilde sorts before the
 * end and letters before all other characters, and digits, read as numbers
 * of any length. For closure.c and who else needs "newer".
 */
#include "cache/debversion.h"

static bool
debversion_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The weight of the character at i, or of the end. */
static int
debversion_weight(struct slice s, size_t i)
{
	unsigned char c = i < s.n ? (unsigned char)s.p[i] : 0;

	if (i >= s.n || debversion_is_digit((char)c))
		return 0;
	if (c == '~')
		return -1;
	if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
		return c;
	return c + 256;
}

/* Takes the number at *i of each, of as many digits as it has: below 0, 0, above 0. */
static int
debversion_compare_number(struct slice a, size_t *i, struct slice b, size_t *j)
{
	int first = 0;

	while (*i < a.n && a.p[*i] == '0')
		++*i;
	while (*j < b.n && b.p[*j] == '0')
		++*j;
	while (*i < a.n && *j < b.n && debversion_is_digit(a.p[*i]) &&
	    debversion_is_digit(b.p[*j])) {
		if (first == 0)
			first = a.p[*i] - b.p[*j];
		++*i;
		++*j;
	}
	if (*i < a.n && debversion_is_digit(a.p[*i]))
		return 1;
	if (*j < b.n && debversion_is_digit(b.p[*j]))
		return -1;
	return first;
}

/* One upstream version or revision against another. */
static int
debversion_compare_part(struct slice a, struct slice b)
{
	size_t i = 0, j = 0;
	int c;

	while (i < a.n || j < b.n) {
		while ((i < a.n && !debversion_is_digit(a.p[i])) ||
		    (j < b.n && !debversion_is_digit(b.p[j]))) {
			c = debversion_weight(a, i) - debversion_weight(b, j);
			if (c != 0)
				return c;
			i++;
			j++;
		}
		c = debversion_compare_number(a, &i, b, &j);
		if (c != 0)
			return c;
	}
	return 0;
}

/* Cuts a version into its three parts; what is missing is empty. */
static void
debversion_split(struct slice v, struct slice *epoch, struct slice *upstream,
    struct slice *revision)
{
	const char *colon = v.n > 0 ? memchr(v.p, ':', v.n) : NULL;
	const char *dash;

	*epoch = *revision = SLICE_NONE;
	if (colon != NULL) {
		*epoch = (struct slice){v.p, (size_t)(colon - v.p)};
		v = slice_skip(v, epoch->n + 1);
	}
	*upstream = v;
	dash = v.n > 0 ? memrchr(v.p, '-', v.n) : NULL;
	if (dash == NULL)
		return;
	upstream->n = (size_t)(dash - v.p);
	*revision = slice_skip(v, upstream->n + 1);
}

int
debversion_compare(struct slice a, struct slice b)
{
	struct slice epoch_a, epoch_b, up_a, up_b, rev_a, rev_b;
	int c;

	debversion_split(a, &epoch_a, &up_a, &rev_a);
	debversion_split(b, &epoch_b, &up_b, &rev_b);
	c = debversion_compare_part(epoch_a, epoch_b);
	if (c == 0)
		c = debversion_compare_part(up_a, up_b);
	return c != 0 ? c : debversion_compare_part(rev_a, rev_b);
}
