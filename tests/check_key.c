/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Canonical URLs: what is one object, what must stay two. */
#include "include/key.h"

#include <check.h>

Suite *check_key_suite(void);

static char memory[32768];

/* Builds or fails with the reason that the table names. */
static const struct {
	bool tls;
	const char *authority, *path;
	enum reason reason;
	const char *text;
} builds[] = {
	{true, "developer.example", "/a/b", REASON_OK, "https://developer.example/a/b"},
	{false, "developer.example", "/a/b", REASON_OK, "http://developer.example/a/b"},
	{true, "Developer.EXAMPLE", "/A/b", REASON_OK, "https://developer.example/A/b"},
	{true, "h.example.", "/", REASON_OK, "https://h.example/"},
	{true, "h.example.:8443", "/", REASON_OK, "https://h.example:8443/"},
	{true, "h", "", REASON_OK, "https://h/"},
	{true, "h", "?q", REASON_OK, "https://h/?q"},
	{true, "h", "x", REASON_OK, "https://h/x"},
	{true, "a_b-c.9", "/", REASON_OK, "https://a_b-c.9/"},
	/* ports */
	{true, "h:443", "/", REASON_OK, "https://h/"},
	{true, "h:80", "/", REASON_OK, "https://h:80/"},
	{false, "h:80", "/", REASON_OK, "http://h/"},
	{false, "h:443", "/", REASON_OK, "http://h:443/"},
	{true, "h:", "/", REASON_OK, "https://h/"},
	{true, "h:00443", "/", REASON_OK, "https://h/"},
	{true, "h:0000000000000008443", "/", REASON_OK, "https://h:8443/"},
	{true, "h:65535", "/", REASON_OK, "https://h:65535/"},
	{true, "h:65536", "/", REASON_TARGET, NULL},
	{true, "h:4294967739", "/", REASON_TARGET, NULL},
	{true, "h:0", "/", REASON_TARGET, NULL},
	{true, "h:+1", "/", REASON_TARGET, NULL},
	{true, "h:1:2", "/", REASON_TARGET, NULL},
	/* IPv6 */
	{true, "[2001:DB8:0:0::1]", "/", REASON_OK, "https://[2001:db8::1]/"},
	{true, "[::1]:8443", "/", REASON_OK, "https://[::1]:8443/"},
	{true, "[::ffff:0:0]", "/", REASON_OK, "https://[::ffff:0.0.0.0]/"},
	{true, "[::1]:443", "/", REASON_OK, "https://[::1]/"},
	{true, "[::1", "/", REASON_TARGET, NULL},
	{true, "[]", "/", REASON_TARGET, NULL},
	{true, "[::1]x", "/", REASON_TARGET, NULL},
	{true, "[fe80::1%eth0]", "/", REASON_TARGET, NULL},
	{true, "[h.example]", "/", REASON_TARGET, NULL},
	{true, "::1", "/", REASON_TARGET, NULL},
	/* hosts that are none */
	{true, "", "/", REASON_TARGET, NULL},
	{true, ".", "/", REASON_TARGET, NULL},
	{true, "..", "/", REASON_TARGET, NULL},
	{true, ":443", "/", REASON_TARGET, NULL},
	{true, "a..b", "/", REASON_TARGET, NULL},
	{true, ".a", "/", REASON_TARGET, NULL},
	{true, "a..", "/", REASON_TARGET, NULL},
	{true, "a b", "/", REASON_TARGET, NULL},
	{true, "u@h", "/", REASON_TARGET, NULL},
	{true, "h\\x", "/", REASON_TARGET, NULL},
	{true, "h%41", "/", REASON_TARGET, NULL},
	{true, "h\xc3\xa9", "/", REASON_TARGET, NULL},
	/* slashes and dots */
	{true, "h", "//a///b//", REASON_OK, "https://h/a/b/"},
	{true, "h", "/flat/./x.deb", REASON_OK, "https://h/flat/x.deb"},
	{true, "h", "/./././x", REASON_OK, "https://h/x"},
	{true, "h", "/a/.", REASON_OK, "https://h/a/"},
	{true, "h", "/a/b/../c", REASON_OK, "https://h/a/c"},
	{true, "h", "/a/b/..", REASON_OK, "https://h/a/"},
	{true, "h", "/a//../b", REASON_OK, "https://h/b"},
	{true, "h", "/../../etc", REASON_OK, "https://h/etc"},
	{true, "h", "/..", REASON_OK, "https://h/"},
	{true, "h", "..", REASON_OK, "https://h/"},
	{true, "h", "/...", REASON_OK, "https://h/..."},
	{true, "h", "/.a/..b/c..", REASON_OK, "https://h/.a/..b/c.."},
	{true, "h", "/a/%2e%2e/b", REASON_OK, "https://h/a/%2E%2E/b"},
	{true, "h", "/a/b/..?q=../x", REASON_OK, "https://h/a/?q=../x"},
	/* escapes: the same two bytes, and nothing decoded twice */
	{true, "h", "/a%2bb%7ec", REASON_OK, "https://h/a+b~c"},
	{true, "h", "/a%2Bb%7Ec", REASON_OK, "https://h/a+b~c"},
	{true, "h", "/a+b~c", REASON_OK, "https://h/a+b~c"},
	{true, "h", "/a%252bb", REASON_OK, "https://h/a%252bb"},
	{true, "h", "/a%253ab", REASON_OK, "https://h/a%253ab"},
	{true, "h", "/a%3ab", REASON_OK, "https://h/a%3Ab"},
	{true, "h", "/a:b", REASON_OK, "https://h/a:b"},
	{true, "h", "/%", REASON_OK, "https://h/%"},
	{true, "h", "/%2", REASON_OK, "https://h/%2"},
	{true, "h", "/%zz%2", REASON_OK, "https://h/%zz%2"},
	{true, "h", "/%%2b", REASON_OK, "https://h/%+"},
	{true, "h", "/%2%62", REASON_OK, "https://h/%2%62"},
	{true, "h", "/a%2fb", REASON_OK, "https://h/a%2Fb"},
	{true, "h", "/%00", REASON_OK, "https://h/%00"},
	{true, "h", "/\xc3\xa9", REASON_OK, "https://h/\xc3\xa9"},
	/* query and fragment */
	{true, "h", "/a?x=%2b//b/./c", REASON_OK, "https://h/a?x=%2b//b/./c"},
	{true, "h", "/a?x#f", REASON_OK, "https://h/a?x"},
	{true, "h", "/a#f?x", REASON_OK, "https://h/a"},
	{true, "h", "#f", REASON_OK, "https://h/"},
	{true, "h", "/a?", REASON_OK, "https://h/a?"},
	/* control characters and blanks */
	{true, "h", "/a b", REASON_TARGET, NULL},
	{true, "h", "/a\r\nX: y", REASON_TARGET, NULL},
	{true, "h", "/a\x7f", REASON_TARGET, NULL},
	{true, "h", "/a?b\tc", REASON_TARGET, NULL},
};

START_TEST(builds_canonical_url)
{
	struct arena a;
	struct url u = {.port = 7}, again;
	struct key k1, k2;

	arena_init(&a, memory, sizeof(memory));
	ck_assert_str_eq(reason_name(url_build(&u, &a, builds[_i].tls,
	    slice_of(builds[_i].authority), slice_of(builds[_i].path))),
	    reason_name(builds[_i].reason));
	if (builds[_i].reason != REASON_OK) {
		ck_assert_uint_eq(u.port, 7);	/* untouched */
		ck_assert_uint_eq(a.used, 0);
		return;
	}
	ck_assert_str_eq(u.text.p, builds[_i].text);
	ck_assert_uint_eq(u.text.n, strlen(u.text.p));
	ck_assert_uint_eq(a.used, u.text.n + 1);
	ck_assert_ptr_eq(u.path.p + u.path.n, u.text.p + u.text.n);
	ck_assert_ptr_eq(u.authority.p + u.authority.n, u.path.p);
	ck_assert_int_eq(url_parse(&again, &a, u.text), REASON_OK);
	ck_assert_str_eq(again.text.p, u.text.p);
	ck_assert_uint_eq(again.port, u.port);
	key_of_url(&u, &k1);
	key_of_text(slice_of(builds[_i].text), &k2);
	ck_assert_mem_eq(k1.b, k2.b, KEY_BYTES);
}
END_TEST

START_TEST(names_its_parts)
{
	struct arena a;
	struct url u;

	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_eq(url_parse(&u, &a, SLICE("HTTPS://us:p@w@[::1]:8443/a%2bb?q#f")),
	    REASON_OK);
	ck_assert_str_eq(u.text.p, "https://[::1]:8443/a+b?q");
	ck_assert(slice_eq(u.host, SLICE("::1")));
	ck_assert(slice_eq(u.authority, SLICE("[::1]:8443")));
	ck_assert(slice_eq(u.path, SLICE("/a+b?q")));
	ck_assert_uint_eq(u.port, 8443);
	ck_assert(u.tls);
	ck_assert_int_eq(url_parse(&u, &a, SLICE("http://h.example")), REASON_OK);
	ck_assert_uint_eq(u.port, 80);
	ck_assert(!u.tls);
	ck_assert(slice_eq(u.host, SLICE("h.example")));
}
END_TEST

START_TEST(refuses_what_is_no_url)
{
	static const char *const bad[] = {"", "h", "ftp://h/", "http:/h", "http//h", "httpx://h",
	    "https:", "http://", "https:///p", "//h/p", "http://u@/p"};
	struct arena a;
	struct url u;
	size_t i;

	for (i = 0; i < NELEM(bad); i++) {
		arena_init(&a, memory, sizeof(memory));
		ck_assert_msg(url_parse(&u, &a, slice_of(bad[i])) == REASON_TARGET, "%s", bad[i]);
	}
	ck_assert_int_eq(url_parse(&u, &a, SLICE_NONE), REASON_TARGET);
}
END_TEST

START_TEST(bounds_host_and_arena)
{
	char host[255], small[40];
	struct arena a;
	struct url u;
	size_t cap;

	memset(host, 'a', sizeof(host));
	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_eq(url_build(&u, &a, true, (struct slice){host, 253}, SLICE("/")), REASON_OK);
	ck_assert_int_eq(url_build(&u, &a, true, (struct slice){host, 254}, SLICE("/")),
	    REASON_TARGET);
	host[253] = '.';
	ck_assert_int_eq(url_build(&u, &a, true, (struct slice){host, 254}, SLICE("/")), REASON_OK);
	arena_init(&a, small, sizeof(small));
	ck_assert_int_eq(url_build(&u, &a, true, SLICE("h"), SLICE("/")),
	    REASON_REQ_URI_TOO_LONG);
	/* Whatever the room, nothing is written beyond it. */
	for (cap = 0; cap < 200; cap++) {
		memset(memory, '!', sizeof(memory));
		arena_init(&a, memory, cap);
		(void)!url_build(&u, &a, true, SLICE("[0:0:0:0:0:ffff:0:0]:65535"),
		    SLICE("/a/%2b"));
		ck_assert_int_eq(memory[cap], '!');
	}
}
END_TEST

/* Location against the URL that sent it. */
static const struct {
	const char *base, *location, *text;	/* text NULL: refused */
} resolves[] = {
	{"https://h.example:8443/a/b?q", "https://other.example/x", "https://other.example/x"},
	{"https://h.example:8443/a/b?q", "HTTP://Other.Example/x", "http://other.example/x"},
	{"https://h.example:8443/a/b?q", "//other.example/x", "https://other.example/x"},
	{"http://h.example/a/b", "//other.example:443", "http://other.example:443/"},
	{"https://h.example:8443/a/b?q", "/x/y", "https://h.example:8443/x/y"},
	{"https://h.example:8443/a/b?q", "c", "https://h.example:8443/a/c"},
	{"https://h.example:8443/a/b?q", "./c/", "https://h.example:8443/a/c/"},
	{"https://h.example:8443/a/b?q", "../../../c", "https://h.example:8443/c"},
	{"https://h.example:8443/a/b?q", "?z", "https://h.example:8443/a/b?z"},
	{"https://h.example:8443/a/b?q=/x/", "c", "https://h.example:8443/a/c"},
	{"https://h.example:8443/a/b?q", "#f", "https://h.example:8443/a/b?q"},
	{"https://h.example:8443/a/b?q", "", "https://h.example:8443/a/b?q"},
	{"https://h.example/", "x_1:2.deb", "https://h.example/x_1:2.deb"},
	{"https://h.example/", "./x:2.deb", "https://h.example/x:2.deb"},
	{"https://h.example/a/", "  b c.deb ", "https://h.example/a/b%20c.deb"},
	{"https://[::1]/a", "/b", "https://[::1]/b"},
	{"https://h.example/", "https://u:p@h.example/s", "https://h.example/s"},
	{"https://h.example/", "ftp://h.example/s", NULL},
	{"https://h.example/", "javascript:alert(1)", NULL},
	{"https://h.example/", "https:///p", NULL},
	{"https://h.example/", "///p", NULL},
	{"https://h.example/", "/a\r\nb", NULL},
};

START_TEST(resolves_location)
{
	struct arena a;
	struct url base, u;
	enum reason r;

	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_eq(url_parse(&base, &a, slice_of(resolves[_i].base)), REASON_OK);
	r = url_resolve(&u, &a, &base, slice_of(resolves[_i].location));
	if (resolves[_i].text == NULL) {
		ck_assert_str_eq(reason_name(r), "TARGET");
	} else {
		ck_assert_str_eq(reason_name(r), "OK");
		ck_assert_str_eq(u.text.p, resolves[_i].text);
	}
}
END_TEST

START_TEST(writes_upstream_path)
{
	struct arena a;
	struct url u;

	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_eq(url_parse(&u, &a, SLICE("https://h/a%2bb/c+d~e?x=1+2")), REASON_OK);
	ck_assert_str_eq(url_upstream_path(&u, &a).p, "/a%2bb/c%2bd~e?x=1+2");
	ck_assert_int_eq(url_parse(&u, &a, SLICE("https://h/a%252bb?+")), REASON_OK);
	ck_assert_str_eq(url_upstream_path(&u, &a).p, "/a%252bb?+");
	ck_assert_int_eq(url_parse(&u, &a, SLICE("https://h/++")), REASON_OK);
	a.cap = a.used + 7;
	ck_assert_ptr_null(url_upstream_path(&u, &a).p);
}
END_TEST

START_TEST(digests_and_hex)
{
	/* FIPS 180-2, the message "abc" */
	static const char abc[] =
	    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	char hex[KEY_HEX_BYTES], upper[] =
	    "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
	struct key k, back;

	key_of_text(SLICE("abc"), &k);
	key_hex(k.b, hex);
	ck_assert_str_eq(hex, abc);
	ck_assert(key_from_hex(slice_of(hex), back.b));
	ck_assert_mem_eq(back.b, k.b, KEY_BYTES);
	memset(&back, 0, sizeof(back));
	ck_assert(key_from_hex(slice_of(upper), back.b));
	ck_assert_mem_eq(back.b, k.b, KEY_BYTES);
	upper[40] = 'G';
	ck_assert(!key_from_hex(slice_of(upper), back.b));
	ck_assert(!key_from_hex((struct slice){abc, 63}, back.b));
	ck_assert(!key_from_hex(SLICE_NONE, back.b));
	key_of_text(SLICE_NONE, &k);
	key_hex(k.b, hex);
	ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

Suite *
check_key_suite(void)
{
	Suite *s = suite_create("key");
	TCase *t = tcase_create("key");

	tcase_add_loop_test(t, builds_canonical_url, 0, NELEM(builds));
	tcase_add_test(t, names_its_parts);
	tcase_add_test(t, refuses_what_is_no_url);
	tcase_add_test(t, bounds_host_and_arena);
	tcase_add_loop_test(t, resolves_location, 0, NELEM(resolves));
	tcase_add_test(t, writes_upstream_path);
	tcase_add_test(t, digests_and_hex);
	suite_add_tcase(s, t);
	return s;
}
