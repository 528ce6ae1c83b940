/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Lists of addresses, hosts and ports, and which upstream addresses are reached by default. */
#include "include/access.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

Suite *check_access_suite(void);

static const struct sockaddr *
address_of(const char *text)
{
	static union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} u;

	memset(&u, 0, sizeof(u));
	if (inet_pton(AF_INET, text, &u.v4.sin_addr) == 1) {
		u.sa.sa_family = AF_INET;
	} else {
		ck_assert_int_eq(inet_pton(AF_INET6, text, &u.v6.sin6_addr), 1);
		u.sa.sa_family = AF_INET6;
	}
	return &u.sa;
}

/* Fills a set from text with blanks between the ranges. */
static void
cidrs_of(struct cidrset *s, const char *text)
{
	struct slice rest = slice_of(text);

	memset(s, 0, sizeof(*s));
	while (rest.n != 0) {
		const char *blank = memchr(rest.p, ' ', rest.n);
		size_t n = blank != NULL ? (size_t)(blank - rest.p) : rest.n;

		ck_assert(cidrset_add(s, (struct slice){rest.p, n}));
		rest = slice_skip(rest, n + 1);
	}
}

static const struct {
	const char *set, *address;
	bool has;
} ranges[] = {
	{"10.0.0.0/8", "10.255.0.1", true},
	{"10.0.0.0/8", "11.0.0.0", false},
	{"10.9.9.9/8", "10.0.0.1", true},
	{"192.0.2.1", "192.0.2.1", true},
	{"192.0.2.1", "192.0.2.2", false},
	{"192.0.2.128/25", "192.0.2.127", false},
	{"192.0.2.128/25", "192.0.2.128", true},
	{"192.0.2.1/31", "192.0.2.0", true},
	{"0.0.0.0/0", "203.0.113.9", true},
	{"0.0.0.0/0", "2001:db8::1", false},
	{"::/0", "2001:db8::1", true},
	{"::/0", "192.0.2.1", false},
	{"::/0", "::ffff:192.0.2.1", false},
	{"10.0.0.0/8", "::ffff:10.1.2.3", true},
	{"::ffff:10.0.0.0/104", "10.1.2.3", true},
	{"fd00::/8", "fd12::1", true},
	{"fd00::/8", "fc12::1", false},
	{"2001:db8::/33", "2001:db8:8000::", false},
	{"::1", "::1", true},
	{"10.0.0.0/8 ::1 192.0.2.0/24", "192.0.2.77", true},
	{"", "10.0.0.1", false},
};

START_TEST(finds_ranges)
{
	struct cidrset s;

	cidrs_of(&s, ranges[_i].set);
	ck_assert_msg(cidrset_has(&s, address_of(ranges[_i].address)) == ranges[_i].has,
	    "%s in %s", ranges[_i].address, ranges[_i].set);
	cidrset_fini(&s);
	ck_assert_uint_eq(s.n, 0);
}
END_TEST

START_TEST(refuses_bad_ranges)
{
	static const char *const bad[] = {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129",
	    "fd00::/x", "/8", "10.0.0.0/-1", "10.0.0.0/8/8", "host", "[::1]", "10.0.0.0/ 8",
	    "::1%lo", "10.0.0.0/0008",
	    "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};
	struct cidrset s = {NULL, 0};
	size_t i;

	for (i = 0; i < NELEM(bad); i++)
		ck_assert_msg(!cidrset_add(&s, slice_of(bad[i])), "%s", bad[i]);
	ck_assert(!cidrset_add(&s, SLICE_NONE));
	ck_assert_uint_eq(s.n, 0);
	cidrset_fini(&s);
}
END_TEST

static const struct {
	const char *pattern, *host;
	uint16_t port;
	bool has;
} globs[] = {
	{"*", "h.example", 443, true},
	{"h.example", "h.example", 443, true},
	{"h.example", "H.Example", 443, true},
	{"H.Example", "h.example", 443, true},
	{"h.example.", "h.example", 443, true},
	{"h.example", "x.h.example", 443, false},
	{"h.example", "h.example.evil.test", 443, false},
	{"*.example", "a.b.example", 80, true},
	{"*.example", "example", 80, false},
	{"*.example", "badexample", 80, false},
	{"*example", "badexample", 80, true},
	{"a*b*c", "abxbc", 80, true},
	{"a*b*c", "abxb", 80, false},
	{"a**", "a", 80, true},
	{"h.example:8443", "h.example", 8443, true},
	{"h.example:8443", "h.example", 443, false},
	{"*:443", "h.example", 443, true},
	{"*:443", "h.example", 80, false},
	{"[::1]", "::1", 80, true},
	{"[0:0::1]:80", "::1", 80, true},
	{"[::1]:80", "::1", 81, false},
	{"[2001:DB8:*]", "2001:db8::5", 81, true},
	{"192.0.2.*", "192.0.2.7", 81, true},
};

START_TEST(matches_globs)
{
	struct globset s = {{NULL, 0}};

	ck_assert(globset_add(&s, SLICE("other.test")));
	ck_assert(globset_add(&s, slice_of(globs[_i].pattern)));
	ck_assert_msg(globset_has(&s, slice_of(globs[_i].host), globs[_i].port) == globs[_i].has,
	    "%s for %s:%u", globs[_i].pattern, globs[_i].host, globs[_i].port);
	globset_fini(&s);
	ck_assert(!globset_has(&s, slice_of(globs[_i].host), globs[_i].port));
}
END_TEST

START_TEST(refuses_bad_globs)
{
	static const char *const bad[] = {"", ":80", "h:", "h:0", "h:65536", "h:x", "h/x", "a b",
	    "[::1", "[]", "[::1]x", "[h]", "::1", "h:*", "https://h", "u@h"};
	struct globset s = {{NULL, 0}};
	size_t i;

	for (i = 0; i < NELEM(bad); i++)
		ck_assert_msg(!globset_add(&s, slice_of(bad[i])), "%s", bad[i]);
	ck_assert_uint_eq(s.patterns.n, 0);
	globset_fini(&s);
}
END_TEST

START_TEST(keeps_ports)
{
	struct portset s = {.any = false};
	char text[8];
	unsigned i;

	ck_assert(!portset_has(&s, 443));
	ck_assert(portset_add(&s, SLICE("443")));
	ck_assert(portset_add(&s, SLICE("443")));
	ck_assert_uint_eq(s.n, 1);
	ck_assert(portset_has(&s, 443));
	ck_assert(!portset_has(&s, 80));
	ck_assert(!portset_add(&s, SLICE("0")));
	ck_assert(!portset_add(&s, SLICE("65536")));
	ck_assert(!portset_add(&s, SLICE("")));
	ck_assert(!portset_add(&s, SLICE("https")));
	ck_assert(!portset_add(&s, SLICE("80 ")));
	for (i = 1; i < NELEM(s.v); i++) {
		(void)snprintf(text, sizeof(text), "%u", 1000 + i);
		ck_assert(portset_add(&s, slice_of(text)));
	}
	ck_assert(!portset_add(&s, SLICE("999")));
	ck_assert(portset_add(&s, SLICE("any")));
	ck_assert(portset_has(&s, 1));
}
END_TEST

static const struct {
	const char *address, *allow, *deny;
	bool ok;
} addresses[] = {
	/* by default the public internet, and nothing else */
	{"8.8.8.8", "", "", true},
	{"2600::1", "", "", true},
	{"172.32.0.1", "", "", true},
	{"100.128.0.1", "", "", true},
	{"0.0.0.0", "", "", false},
	{"0.1.2.3", "", "", false},
	{"10.0.0.1", "", "", false},
	{"100.64.0.1", "", "", false},
	{"100.127.255.255", "", "", false},
	{"127.0.0.1", "", "", false},
	{"127.9.9.9", "", "", false},
	{"169.254.169.254", "", "", false},
	{"172.16.0.1", "", "", false},
	{"172.31.255.255", "", "", false},
	{"192.0.0.8", "", "", false},
	{"192.0.2.1", "", "", false},
	{"192.168.1.1", "", "", false},
	{"198.18.0.1", "", "", false},
	{"198.19.255.255", "", "", false},
	{"198.20.0.0", "", "", true},
	{"198.51.100.1", "", "", false},
	{"203.0.113.1", "", "", false},
	{"224.0.0.1", "", "", false},
	{"240.0.0.1", "", "", false},
	{"255.255.255.255", "", "", false},
	{"::", "", "", false},
	{"::1", "", "", false},
	{"fe80::1", "", "", false},
	{"fec0::1", "", "", false},
	{"fc00::1", "", "", false},
	{"fdff::1", "", "", false},
	{"ff02::1", "", "", false},
	{"100::1", "", "", false},
	{"2001::1", "", "", false},
	{"2001:2::1", "", "", false},
	{"2001:db8::1", "", "", false},
	{"2001:4860::8888", "", "", true},
	{"3fff::1", "", "", false},
	{"3fff:1000::1", "", "", true},
	{"4000::1", "", "", false},
	/* IPv4 in IPv6 clothes */
	{"::ffff:8.8.8.8", "", "", true},
	{"::ffff:127.0.0.1", "", "", false},
	{"::ffff:10.0.0.1", "10.0.0.0/8", "", true},
	{"::8.8.8.8", "", "", false},
	{"::127.0.0.1", "127.0.0.0/8", "", false},
	{"64:ff9b::8.8.8.8", "", "", true},
	{"64:ff9b::10.0.0.1", "", "", false},
	{"64:ff9b::10.0.0.1", "10.0.0.0/8", "", true},
	{"64:ff9b::10.0.0.1", "64:ff9b::/96", "", true},
	{"64:ff9b::8.8.8.8", "", "8.8.8.8", false},
	{"64:ff9b:1::8.8.8.8", "", "", false},
	{"2002:808:808::1", "", "", true},
	{"2002:a00:1::1", "", "", false},
	{"2002:7f00:1::1", "", "", false},
	/* lists */
	{"127.0.0.1", "127.0.0.0/8", "", true},
	{"127.0.0.1", "127.0.0.0/8", "127.0.0.1", false},
	{"10.0.0.1", "127.0.0.0/8", "", false},
	{"::1", "127.0.0.0/8", "", false},
	{"::1", "::1", "", true},
	{"fd00::5", "fd00::/64", "", true},
	{"8.8.8.8", "", "8.0.0.0/8", false},
	{"8.8.8.8", "8.8.8.8", "8.0.0.0/8", false},
	{"8.8.8.8", "", "::/0", true},
	{"2600::1", "", "::/0", false},
};

START_TEST(guards_upstream_addresses)
{
	struct cidrset allow, deny;

	cidrs_of(&allow, addresses[_i].allow);
	cidrs_of(&deny, addresses[_i].deny);
	ck_assert_msg(access_address_ok(&allow, &deny, address_of(addresses[_i].address)) ==
	    addresses[_i].ok, "%s, allow %s, deny %s", addresses[_i].address, addresses[_i].allow,
	    addresses[_i].deny);
	cidrset_fini(&allow);
	cidrset_fini(&deny);
}
END_TEST

START_TEST(writes_addresses)
{
	static const char *const rows[][2] = {{"192.0.2.1", "192.0.2.1"},
	    {"::ffff:192.0.2.1", "192.0.2.1"}, {"2001:DB8::0:1", "2001:db8::1"}};
	const struct sockaddr_un local = {.sun_family = AF_UNIX};
	const struct cidrset none = {NULL, 0};
	char text[64];
	size_t i;

	for (i = 0; i < NELEM(rows); i++) {
		access_address_text(address_of(rows[i][0]), text, sizeof(text));
		ck_assert_str_eq(text, rows[i][1]);
	}
	access_address_text((const struct sockaddr *)&local, text, sizeof(text));
	ck_assert_str_eq(text, "unix");
	ck_assert(!access_address_ok(&none, &none, (const struct sockaddr *)&local));
	access_address_text(address_of("192.0.2.1"), text, 4);
	ck_assert_str_eq(text, "");
}
END_TEST

Suite *
check_access_suite(void)
{
	Suite *s = suite_create("access");
	TCase *t = tcase_create("access");

	tcase_add_loop_test(t, finds_ranges, 0, NELEM(ranges));
	tcase_add_test(t, refuses_bad_ranges);
	tcase_add_loop_test(t, matches_globs, 0, NELEM(globs));
	tcase_add_test(t, refuses_bad_globs);
	tcase_add_test(t, keeps_ports);
	tcase_add_loop_test(t, guards_upstream_addresses, 0, NELEM(addresses));
	tcase_add_test(t, writes_addresses);
	suite_add_tcase(s, t);
	return s;
}
