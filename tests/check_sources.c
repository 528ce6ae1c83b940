/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Sources lists rewritten: both formats, what must stay, there and back. */
#include "proxy/sources.h"

#include <check.h>
#include <stdlib.h>

#include "include/obj.h"

Suite *check_sources_suite(void);

/* https: as it is for TLS sources; depot: the same through the depot; both ways must agree. */
static const struct {
	const char *https, *depot;
	unsigned long uris_n;
} pairs[] = {
	{"", "", 0},
	{"\n", "\n", 0},
	{"deb https://h.example/x s m\n", "deb http://HTTPS///h.example/x s m\n", 1},
	{"deb https://h.example/x s m", "deb http://HTTPS///h.example/x s m", 1},
	{"deb https://h.example/x /\r\n", "deb http://HTTPS///h.example/x /\r\n", 1},
	{"deb\thttps://h.example/x\ts\n", "deb\thttp://HTTPS///h.example/x\ts\n", 1},
	{"  deb-src  https://h.example s\n", "  deb-src  http://HTTPS///h.example s\n", 1},
	{"deb [arch=amd64] https://h.example:8443/x /\n",
	    "deb [arch=amd64] http://HTTPS///h.example:8443/x /\n", 1},
	{"deb [ arch=amd64,i386 signed-by=/a/b.gpg ] https://h.example/ /\n",
	    "deb [ arch=amd64,i386 signed-by=/a/b.gpg ] http://HTTPS///h.example/ /\n", 1},
	{"deb [trusted=yes]https://h.example/ /\n", "deb [trusted=yes]http://HTTPS///h.example/ /\n", 1},
	{"deb[trusted=yes] https://h.example/ /\n", "deb[trusted=yes] http://HTTPS///h.example/ /\n", 1},
	{"deb \"https://h.example/a b\" /\n", "deb \"http://HTTPS///h.example/a b\" /\n", 1},
	{"deb https://u:p@h.example/ /\n", "deb http://HTTPS///u:p@h.example/ /\n", 1},
	{"deb https://a.example/ s # was https://b.example\n",
	    "deb http://HTTPS///a.example/ s # was https://b.example\n", 1},
	{"URIs: https://h.example/\n", "URIs: http://HTTPS///h.example/\n", 1},
	{"uris:https://h.example/\n", "uris:http://HTTPS///h.example/\n", 1},
	{"Types: deb\nURIs: https://a.example/  https://b.example\nSuites: ./\n",
	    "Types: deb\nURIs: http://HTTPS///a.example/  http://HTTPS///b.example\nSuites: ./\n", 2},
	{"URIs:\n https://a.example/\n# https://c.example/\n\thttps://b.example/\nSuites: s\n",
	    "URIs:\n http://HTTPS///a.example/\n# https://c.example/\n\thttp://HTTPS///b.example/\n"
	    "Suites: s\n", 2},
	{"Enabled: no\nURIs: https://a.example/\n\nURIs: https://b.example/\n",
	    "Enabled: no\nURIs: http://HTTPS///a.example/\n\nURIs: http://HTTPS///b.example/\n", 2},
	/* What stays, both ways. */
	{"# deb https://h.example/x s m\n", "# deb https://h.example/x s m\n", 0},
	{"#deb https://h.example/x s m\n", "#deb https://h.example/x s m\n", 0},
	{"# see https://h.example/\n", "# see https://h.example/\n", 0},
	{"deb http://h.example/x s m\n", "deb http://h.example/x s m\n", 0},
	{"deb file:/x s m\n", "deb file:/x s m\n", 0},
	{"deb mirror+https://h.example/x s m\n", "deb mirror+https://h.example/x s m\n", 0},
	{"deb cdrom:[https://x]/ s\n", "deb cdrom:[https://x]/ s\n", 0},
	{"deb [arch=amd64 https://h.example/ /\n", "deb [arch=amd64 https://h.example/ /\n", 0},
	{"deb https:// s\n", "deb https:// s\n", 0},
	{"debian https://h.example/\n", "debian https://h.example/\n", 0},
	{"https://h.example/\n", "https://h.example/\n", 0},
	{"URIs: http://h.example/\nX-Note: https://h.example/\n https://h.example/\n",
	    "URIs: http://h.example/\nX-Note: https://h.example/\n https://h.example/\n", 0},
	{"Signed-By:\n -----BEGIN\n deb https://h.example/ /\n",
	    "Signed-By:\n -----BEGIN\n deb https://h.example/ /\n", 0},
};

/* What only one way may meet. */
static const struct {
	bool to_https, all;
	const char *was, *now;
} singles[] = {
	{true, false, "deb http://https/h.example/x /\n", "deb https://h.example/x /\n"},
	{true, false, "deb http://HTTPS//h.example/x /\n", "deb https://h.example/x /\n"},
	{true, false, "deb http://Https:443////h.example/x /\n", "deb https://h.example/x /\n"},
	{true, false, "deb http://HTTPS/// /\n", "deb http://HTTPS/// /\n"},
	{true, false, "deb http://HTTPS///@2026-11-01/h.example/x /\n",
	    "deb http://HTTPS///@2026-11-01/h.example/x /\n"},
	{true, false, "deb http://HTTPS:x/h /\n", "deb http://HTTPS:x/h /\n"},
	{true, false, "deb http://HTTPSX///h /\n", "deb http://HTTPSX///h /\n"},
	{true, false, "deb http://h.example/x /\n", "deb http://h.example/x /\n"},
	{true, true, "deb http://h.example/x /\n", "deb https://h.example/x /\n"},
	{false, false, "deb HTTPS://h.example/x /\n", "deb http://HTTPS///h.example/x /\n"},
	{false, true, "deb http://h.example/x /\n", "deb http://HTTPS///h.example/x /\n"},
	{false, true, "deb http://HTTPS///h.example/x /\n", "deb http://HTTPS///h.example/x /\n"},
	{false, true, "URIs: http://a.example https://b.example ftp://c.example\n",
	    "URIs: http://HTTPS///a.example http://HTTPS///b.example ftp://c.example\n"},
};

struct lines {
	unsigned n;
	unsigned long last;
};

static void
lines_count(void *arg, unsigned long number, struct slice was, struct slice now)
{
	struct lines *l = arg;

	ck_assert(!slice_eq(was, now));
	ck_assert_ptr_null(memchr(now.p, '\n', now.n));
	l->n++;
	l->last = number;
}

/* Rewrites and compares; how many URIs changed. */
static unsigned long
expect(const char *was, bool to_https, bool all, const char *want)
{
	struct lines lines = {0, 0};
	struct sources_how how = {.to_https = to_https, .all = all};
	unsigned long n, i;

	for (i = 0; i < 2; i++) {
		char *text = NULL;
		size_t text_n = 0;
		FILE *out = open_memstream(&text, &text_n);

		n = sources_rewrite(slice_of(was), &how, out);
		ck_assert_int_eq(fclose(out), 0);
		ck_assert_str_eq(text, want);
		ck_assert_uint_eq(text_n, strlen(want));
		free(text);
		how.line = lines_count;	/* and the same again, watched */
		how.arg = &lines;
	}
	ck_assert_uint_le(lines.n, n);
	ck_assert_int_eq(lines.n == 0, n == 0);
	return n;
}

START_TEST(test_both_ways)
{
	ck_assert_uint_eq(expect(pairs[_i].https, false, false, pairs[_i].depot), pairs[_i].uris_n);
	ck_assert_uint_eq(expect(pairs[_i].depot, true, false, pairs[_i].https), pairs[_i].uris_n);
}
END_TEST

START_TEST(test_twice_is_once)
{
	ck_assert_uint_eq(expect(pairs[_i].depot, false, false, pairs[_i].depot), 0);
	ck_assert_uint_eq(expect(pairs[_i].https, true, false, pairs[_i].https), 0);
}
END_TEST

START_TEST(test_one_way)
{
	(void)expect(singles[_i].was, singles[_i].to_https, singles[_i].all, singles[_i].now);
}
END_TEST

START_TEST(test_line_numbers)
{
	struct lines lines = {0, 0};
	struct sources_how how = {.line = lines_count, .arg = &lines};
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	ck_assert_uint_eq(sources_rewrite(SLICE("#\n\ndeb https://a /\nURIs: https://a https://b"),
	    &how, out), 3);
	ck_assert_int_eq(fclose(out), 0);
	free(text);
	ck_assert_uint_eq(lines.n, 2);
	ck_assert_uint_eq(lines.last, 4);
}
END_TEST

Suite *
check_sources_suite(void)
{
	Suite *s = suite_create("sources");
	TCase *tc = tcase_create("rewrite");

	tcase_add_loop_test(tc, test_both_ways, 0, (int)NELEM(pairs));
	tcase_add_loop_test(tc, test_twice_is_once, 0, (int)NELEM(pairs));
	tcase_add_loop_test(tc, test_one_way, 0, (int)NELEM(singles));
	tcase_add_test(tc, test_line_numbers);
	suite_add_tcase(s, tc);
	return s;
}
