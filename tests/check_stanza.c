/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Stanzas of Packages and Sources, in any pieces, with everything that can be wrong in them. */
#include "cache/stanza.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *check_stanza_suite(void);

#define ALL ((UINT32_C(1) << STANZA__N) - 1)

/* What came, as text: "number{Field=value|...}" with twice fields marked by '!'. */
struct got {
	char text[4096];
	size_t n;
	uint64_t stanzas_n, value_bytes;
	uint64_t stop_at;	/* stanza that the callback refuses */
};

static const char *const names[] = {
#define F(name, text) text,
	STANZA_FIELDS(F)
#undef F
};
static char why[STANZA_WHY_BYTES];

static enum reason
note(void *arg, const struct stanza *st)
{
	struct got *g = arg;

	ck_assert_uint_eq(st->number, ++g->stanzas_n);
	for (unsigned i = 0; i < STANZA__N; i++)
		g->value_bytes += st->f[i].n;
	if (st->number == g->stop_at)
		return REASON_NO_DISK;
	if (g->n > sizeof(g->text) / 2)
		return REASON_OK;
	g->n += (size_t)sprintf(g->text + g->n, "{");
	for (unsigned i = 0; i < STANZA__N; i++)
		if (st->f[i].p != NULL && st->f[i].n < 200)
			g->n += (size_t)sprintf(g->text + g->n, "%s%s=%.*s|",
			    (st->twice >> i & 1) != 0 ? "!" : "", names[i], SLICE_ARG(st->f[i]));
	g->n += (size_t)sprintf(g->text + g->n, "}");
	return REASON_OK;
}

static enum reason
run(const char *p, size_t n, size_t piece_n, uint32_t fields, struct got *g)
{
	struct stanza_reader *sr = stanza_new(fields, note, g);
	enum reason r = REASON_OK;

	ck_assert_ptr_nonnull(sr);
	for (size_t at = 0; at < n && r == REASON_OK; at += piece_n) {
		size_t now_n = n - at < piece_n ? n - at : piece_n;
		char *copy = malloc(now_n);	/* so that a sanitizer sees reads beyond it */

		memcpy(copy, p + at, now_n);
		r = stanza_feed(sr, copy, now_n);
		free(copy);
	}
	if (r == REASON_OK)
		r = stanza_end(sr);
	memcpy(why, stanza_why(sr), sizeof(why));
	stanza_free(&sr);
	ck_assert_ptr_null(sr);
	return r;
}

static const struct {
	const char *text, *want;	/* want NULL: refused, why has words */
	const char *words;
} rows[] = {
	{"", "", NULL},
	{"\n\n\n", "", NULL},
	{"Package: a\nVersion: 1\n", "{Package=a|Version=1|}", NULL},
	{"Package: a\nVersion: 1", "{Package=a|Version=1|}", NULL},
	{"Package: a\n\nPackage: b\n\n", "{Package=a|}{Package=b|}", NULL},
	{"\n\nPackage: a\n\n\n\nPackage: b", "{Package=a|}{Package=b|}", NULL},
	{"Package: a\r\nVersion: 1\r\n\r\nPackage: b\r\n", "{Package=a|Version=1|}{Package=b|}", NULL},
	{"Package: a\r\t\nSize: 1 \r \n", "{Package=a|Size=1|}", NULL},
	{"package:a\nVERSION: \t1:2.0~rc1-1+b2 \t\n", "{Package=a|Version=1:2.0~rc1-1+b2|}", NULL},
	{"Package : a\n", "{Package=a|}", NULL},
	{"Size:\n", "{Size=|}", NULL},
	{"X: 1\n\nY: 2\n", "{}{}", NULL},
	{"Description: long\n text: with colon\n .\n\tmore\nSize: 3\n", "{Size=3|}", NULL},
	{"Checksums-Sha256:\n aa 1 x\n bb 2 y\nDirectory: pool/x\n",
	    "{Directory=pool/x|Checksums-Sha256=\n aa 1 x\n bb 2 y|}", NULL},
	{"Depends: a,\n b (>= 1),\r\n c\nSize: 1\n", "{Size=1|Depends=a,\n b (>= 1),\r\n c|}", NULL},
	{"Depends: a,\n \n b\n", "{Depends=a,\n \n b|}", NULL},
	{"Size: 1\nSize: 2\nSHA256: x\n", "{!Size=1|SHA256=x|}", NULL},
	{"Size: 1\nsize: 2\n continued\n", "{!Size=1|}", NULL},
	{"Sizes: 1\nSiz: 2\nSHA25: 3\nSHA2566: 4\n", "{}", NULL},
	{"Package: a\n#comment: yes\n", "{Package=a|}", NULL},
	{"Package: a\nno colon here\n", NULL, "stanza 1: a line without a colon: \"no colon here\""},
	{"<!doctype html>\n", NULL, "without a colon"},
	{" continued\nPackage: a\n", NULL, "continuation"},
	{"Package: a\n\n continued\n", NULL, "stanza 2: it begins with a continuation"},
	{": value\n", NULL, "without a name"},
	{"  \n", NULL, "continuation"},
	{"\r", "", NULL},
};

START_TEST(reads_rows)
{
	size_t n = strlen(rows[_i].text);

	for (size_t piece_n = 1; piece_n <= n + 1; piece_n++) {
		struct got g = {.n = 0};
		enum reason r = run(rows[_i].text, n, piece_n, ALL, &g);

		if (rows[_i].want != NULL) {
			ck_assert_msg(r == REASON_OK, "%s", why);
			ck_assert_str_eq(g.text, rows[_i].want);
		} else {
			ck_assert_int_eq(r, REASON_LIST_BAD);
			ck_assert_msg(strstr(why, rows[_i].words) != NULL, "%s", why);
		}
	}
}
END_TEST

START_TEST(gives_only_what_was_asked)
{
	static const char text[] = "Package: a\nSize: 1\nSHA256: x\n\nSize: 2\n";
	struct got g = {.n = 0};

	ck_assert_int_eq(run(text, strlen(text), 3, STANZA_BIT(SIZE) | STANZA_BIT(SHA256), &g),
	    REASON_OK);
	ck_assert_str_eq(g.text, "{Size=1|SHA256=x|}{Size=2|}");
	g = (struct got){.n = 0};
	ck_assert_int_eq(run(text, strlen(text), 100, 0, &g), REASON_OK);
	ck_assert_str_eq(g.text, "{}{}");
}
END_TEST

/* Every field of the table is found under its own name. */
START_TEST(knows_each_field)
{
	char text[2048], want[2048] = "{";
	size_t n = 0, want_n = 1;
	struct got g = {.n = 0};

	for (unsigned i = 0; i < STANZA__N; i++) {
		n += (size_t)sprintf(text + n, "%s: %u\n", names[i], i);
		want_n += (size_t)sprintf(want + want_n, "%s=%u|", names[i], i);
	}
	sprintf(want + want_n, "}");
	ck_assert_int_eq(run(text, n, n, ALL, &g), REASON_OK);
	ck_assert_str_eq(g.text, want);
}
END_TEST

START_TEST(refuses_nul)
{
	static const char text[] = "Package: a\nDescription: b\0c\n";
	struct got g = {.n = 0};

	ck_assert_int_eq(run(text, sizeof(text) - 1, 100, ALL, &g), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "NUL"));
}
END_TEST

START_TEST(stops_with_its_callback)
{
	static const char text[] = "Package: a\n\nPackage: b\n\nPackage: c\n";
	struct got g = {.stop_at = 2};

	ck_assert_int_eq(run(text, strlen(text), 5, ALL, &g), REASON_NO_DISK);
	ck_assert_str_eq(g.text, "{Package=a|}");
	g = (struct got){.stop_at = 3};
	ck_assert_int_eq(run(text, strlen(text), 5, ALL, &g), REASON_NO_DISK);
}
END_TEST

/* A stanza of 4 MiB passes, one that never ends is refused; one line or many. */
START_TEST(bounds_a_stanza)
{
	enum { BYTES = 6 << 20 };
	char *text = malloc(BYTES);
	struct got g = {.n = 0};

	ck_assert_ptr_nonnull(text);
	memset(text, 'd', BYTES);
	memcpy(text, "Depends: ", 9);
	text[STANZA_MAX_BYTES - 2] = text[STANZA_MAX_BYTES - 1] = '\n';
	ck_assert_int_eq(run(text, STANZA_MAX_BYTES, 100000, ALL, &g), REASON_OK);
	ck_assert_uint_eq(g.value_bytes, STANZA_MAX_BYTES - 11);
	text[STANZA_MAX_BYTES - 2] = text[STANZA_MAX_BYTES - 1] = 'd';
	g = (struct got){.n = 0};
	ck_assert_int_eq(run(text, BYTES, 100000, ALL, &g), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "longer than 4 MiB"));
	for (size_t i = 9; i + 2 < BYTES; i += 10)
		memcpy(text + i, "\n ", 2);
	g = (struct got){.n = 0};
	ck_assert_int_eq(run(text, BYTES, 4096, ALL, &g), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "longer than 4 MiB"));
	ck_assert_uint_eq(g.stanzas_n, 0);
	free(text);
}
END_TEST

/* Many stanzas of all lengths, over every kind of piece border. */
START_TEST(survives_piece_borders)
{
	static const size_t pieces[] = {1000, 65535, 65536, 65537, 131072, 1 << 20};
	enum { STANZAS_N = 3000 };
	char *text = malloc(STANZAS_N * 700);
	size_t n = 0, bytes = 0;

	ck_assert_ptr_nonnull(text);
	for (int i = 0; i < STANZAS_N; i++) {
		n += (size_t)sprintf(text + n, "Package: p%d\nX: %0*d\nSize: %d\n\n", i, i % 600 + 1, i,
		    i);
		bytes += (size_t)snprintf(NULL, 0, "p%d%d", i, i);
	}
	for (size_t i = 0; i < NELEM(pieces); i++) {
		struct got g = {.n = 0};

		ck_assert_int_eq(run(text, n, pieces[i], ALL, &g), REASON_OK);
		ck_assert_uint_eq(g.stanzas_n, STANZAS_N);
		ck_assert_uint_eq(g.value_bytes, bytes);
	}
	free(text);
}
END_TEST

Suite *
check_stanza_suite(void)
{
	Suite *s = suite_create("stanza");
	TCase *t = tcase_create("stanza");

	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, reads_rows, 0, NELEM(rows));
	tcase_add_test(t, gives_only_what_was_asked);
	tcase_add_test(t, knows_each_field);
	tcase_add_test(t, refuses_nul);
	tcase_add_test(t, stops_with_its_callback);
	tcase_add_test(t, bounds_a_stanza);
	tcase_add_test(t, survives_piece_borders);
	suite_add_tcase(s, t);
	return s;
}
