/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The choice among an origin's addresses. */
#include <arpa/inet.h>
#include <check.h>
#include <string.h>

#include "proxy/upaddr.h"

Suite *check_upaddr_suite(void);

/* Asks for one address as libcurl would. */
static bool
take(struct upaddr_choice *c, const char *ip)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr_in v4 = {.sin_family = AF_INET};

	if (inet_pton(AF_INET, ip, &v4.sin_addr) == 1)
		return upaddr_take(c, (const struct sockaddr *)(const void *)&v4);
	ck_assert_int_eq(inet_pton(AF_INET6, ip, &v6.sin6_addr), 1);
	return upaddr_take(c, (const struct sockaddr *)(const void *)&v6);
}

START_TEST(test_no_choice_takes_all)
{
	struct upaddr_choice c = {.now_ms = 1};

	ck_assert(take(&c, "192.0.2.1"));
	ck_assert(take(&c, "2001:db8::1"));
	ck_assert(!c.skipped);
}
END_TEST

START_TEST(test_avoided_for_a_minute)
{
	struct upaddrs a = {.n = 0};
	struct upaddr_choice c = {.addrs = &a, .now_ms = 5000};

	ck_assert(upaddr_avoid(&a, "192.0.2.1", 5000));
	ck_assert(!upaddr_avoid(&a, "192.0.2.1", 6000));	/* again: longer, but no news */
	ck_assert(!take(&c, "192.0.2.1"));
	ck_assert(c.skipped);
	ck_assert(take(&c, "2001:db8::1"));
	ck_assert_uint_eq(c.tried_n, 1);
	ck_assert_str_eq(c.tried[0], "2001:db8::1");
	c.now_ms = 6000 + UPADDR_AVOID_MS - 1;
	ck_assert(!take(&c, "192.0.2.1"));
	c.now_ms++;
	ck_assert(take(&c, "192.0.2.1"));
}
END_TEST

START_TEST(test_any_takes_avoided_ones)
{
	struct upaddrs a = {.n = 0};
	struct upaddr_choice c = {.addrs = &a, .now_ms = 5000, .any = true};

	ck_assert(upaddr_avoid(&a, "192.0.2.1", 5000));
	ck_assert(take(&c, "192.0.2.1"));
	ck_assert(!c.skipped);
}
END_TEST

START_TEST(test_list_takes_none)
{
	struct upaddrs a = {.n = 0};
	struct upaddr_choice c = {.addrs = &a, .now_ms = 5000, .list = true};

	ck_assert(!take(&c, "192.0.2.1"));
	ck_assert(!take(&c, "192.0.2.2"));
	ck_assert(!take(&c, "192.0.2.1"));
	ck_assert_uint_eq(a.n, 2);
	ck_assert(upaddr_avoid(&a, "192.0.2.2", 5000));
	upaddr_begin_list(&a, 6000);
	ck_assert_uint_eq(a.n, 1);
	ck_assert_str_eq(a.v[0].ip, "192.0.2.2");
}
END_TEST

START_TEST(test_only_one)
{
	struct upaddrs a = {.n = 0};
	struct upaddr_choice c = {.addrs = &a, .now_ms = 5000, .only = "192.0.2.2"};

	ck_assert(!take(&c, "192.0.2.1"));
	ck_assert(take(&c, "192.0.2.2"));
}
END_TEST

START_TEST(test_more_than_fit)
{
	struct upaddrs a = {.n = 0};
	struct upaddr_choice c = {.addrs = &a, .now_ms = 5000, .list = true};
	char ip[INET_ADDRSTRLEN] = "192.0.2.0";
	int i;

	for (i = 0; i < 2 * UPADDR_MAX; i++) {
		ip[8] = (char)('0' + i % 10);
		ip[6] = (char)('0' + i / 10);
		(void)take(&c, ip);
	}
	ck_assert_uint_eq(a.n, UPADDR_MAX);
	ck_assert(!upaddr_avoid(&a, "198.51.100.1", 5000));
	ck_assert(!upaddr_is_avoided(&a, "198.51.100.1", 5000));
	ck_assert(!upaddr_avoid(&a, "", 5000));
}
END_TEST

Suite *
check_upaddr_suite(void)
{
	Suite *s = suite_create("upaddr");
	TCase *tc = tcase_create("choice");

	tcase_add_test(tc, test_no_choice_takes_all);
	tcase_add_test(tc, test_avoided_for_a_minute);
	tcase_add_test(tc, test_any_takes_avoided_ones);
	tcase_add_test(tc, test_list_takes_none);
	tcase_add_test(tc, test_only_one);
	tcase_add_test(tc, test_more_than_fit);
	suite_add_tcase(s, tc);
	return s;
}
