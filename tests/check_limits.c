/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Limits per client address, with a clock that the test moves. */
#include "proxy/limits.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>

#include "include/counter.h"

Suite *check_limits_suite(void);

enum { T0_MS = 1000000 };

/* An address from text; good until the fourth call after this one. */
static const struct sockaddr *
address_of(const char *text)
{
	static struct sockaddr_storage ring[4];
	static unsigned n;
	struct sockaddr_storage *sa = &ring[n++ % NELEM(ring)];
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)n)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)n)};

	memset(sa, 0, sizeof(*sa));
	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		memcpy(sa, &v4, sizeof(v4));
	else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		memcpy(sa, &v6, sizeof(v6));
	else
		sa->ss_family = AF_UNIX;
	return (const struct sockaddr *)sa;
}

static struct limits *
limits_of(uint64_t connections, uint64_t rate, uint64_t bandwidth)
{
	const struct limits_conf conf = {connections, rate, bandwidth};
	struct limits *l = limits_new(&conf);

	ck_assert_ptr_nonnull(l);
	return l;
}

START_TEST(nothing_set_is_nothing)
{
	struct limits *l = limits_of(0, 0, 0);
	struct limits_client *a;

	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &a), LIMITS_WELCOME);
	ck_assert_ptr_null(a);
	limits_free(&l);
}
END_TEST

START_TEST(other_limits_hold_at_once)
{
	struct limits *l = limits_of(0, 0, 0);
	struct limits_client *a, *b;

	limits_set(l, &(struct limits_conf){.connections = 1, .rate = 1});
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &a), LIMITS_WELCOME);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &b), LIMITS_TELL);
	limits_leave(l, &b, true);
	ck_assert_uint_eq(limits_take_request(l, a, T0_MS), 0);
	ck_assert_uint_ne(limits_take_request(l, a, T0_MS), 0);
	limits_set(l, &(struct limits_conf){.bandwidth = 1000});
	ck_assert_uint_eq(limits_take_request(l, a, T0_MS), 0);
	ck_assert_uint_lt(limits_allowance(l, a, T0_MS), 1000);
	limits_set(l, &(struct limits_conf){0});
	ck_assert_uint_eq(limits_allowance(l, a, T0_MS), UINT64_MAX);
	limits_sent(l, a, 1000, T0_MS);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &b), LIMITS_WELCOME);
	ck_assert_ptr_null(b);
	limits_leave(l, &a, false);
	limits_free(&l);
}
END_TEST

START_TEST(counts_connections)
{
	struct limits *l = limits_of(2, 0, 0);
	struct limits_client *a, *b, *c, *d;

	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &a), LIMITS_WELCOME);
	/* The same address in IPv6 clothes. */
	ck_assert_int_eq(limits_enter(l, address_of("::ffff:192.0.2.1"), &b), LIMITS_WELCOME);
	ck_assert_ptr_eq(a, b);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &c), LIMITS_TELL);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.2"), &d), LIMITS_WELCOME);
	ck_assert_ptr_ne(a, d);
	limits_leave(l, &b, false);
	ck_assert_ptr_null(b);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &b), LIMITS_WELCOME);
	limits_leave(l, &a, false);
	limits_leave(l, &b, false);
	limits_leave(l, &c, true);
	limits_leave(l, &d, false);
	/* Sockets in the file system have no address. */
	ck_assert_int_eq(limits_enter(l, address_of("unix"), &a), LIMITS_WELCOME);
	ck_assert_ptr_null(a);
	limits_free(&l);
	ck_assert_ptr_null(l);
}
END_TEST

START_TEST(tells_a_few_only)
{
	struct limits *l = limits_of(1, 0, 0);
	struct limits_client *v[40];
	unsigned i, told = 0;

	for (i = 0; i < NELEM(v); i++)
		told += limits_enter(l, address_of("2001:db8::1"), &v[i]) == LIMITS_TELL;
	ck_assert_uint_eq(told, 16);
	ck_assert_ptr_null(v[39]);
	for (i = 0; i < 17; i++)
		limits_leave(l, &v[i], i > 0);
	ck_assert_int_eq(limits_enter(l, address_of("2001:db8::1"), &v[0]), LIMITS_WELCOME);
	limits_leave(l, &v[0], false);
	limits_free(&l);
}
END_TEST

START_TEST(spreads_requests)
{
	struct limits *l = limits_of(0, 10, 0);
	struct limits_client *a, *b;
	unsigned i;

	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &a), LIMITS_WELCOME);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.2"), &b), LIMITS_WELCOME);
	for (i = 0; i < 10; i++)
		ck_assert_uint_eq(limits_take_request(l, a, T0_MS), 0);
	ck_assert_uint_eq(limits_take_request(l, a, T0_MS), 1);
	ck_assert_uint_eq(limits_take_request(l, b, T0_MS), 0);
	ck_assert_uint_eq(limits_take_request(l, a, T0_MS + 99), 1);
	ck_assert_uint_eq(limits_take_request(l, a, T0_MS + 100), 0);
	ck_assert_uint_eq(limits_take_request(l, a, T0_MS + 100), 1);
	/* Sparing does not add up to more than a second's worth. */
	for (i = 0; i < 10; i++)
		ck_assert_uint_eq(limits_take_request(l, a, T0_MS + 3600000), 0);
	ck_assert_uint_ge(limits_take_request(l, a, T0_MS + 3600000), 1);
	/* What it used is not forgotten with its last connection. */
	limits_leave(l, &a, false);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &a), LIMITS_WELCOME);
	ck_assert_uint_ge(limits_take_request(l, a, T0_MS + 3600000), 1);
	limits_leave(l, &a, false);
	limits_leave(l, &b, false);
	limits_free(&l);
}
END_TEST

START_TEST(spreads_bytes)
{
	static const uint64_t rates[] = {1, 1000, 1 << 20, UINT64_C(1) << 40};
	uint64_t rate = rates[_i], sent = 0, n;
	struct limits *l = limits_of(0, 0, rate);
	struct limits_client *a;
	int64_t now;

	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &a), LIMITS_WELCOME);
	for (now = T0_MS; now < T0_MS + 60000; now += 20) {
		n = limits_allowance(l, a, now);
		limits_sent(l, a, n, now);
		sent += n;
	}
	ck_assert_uint_le(sent, rate * 60 + rate / 4 + 1);
	ck_assert_uint_ge(sent, rate * 59);
	/* More than was allowed is a debt. */
	limits_sent(l, a, rate * 2, now);
	ck_assert_uint_eq(limits_allowance(l, a, now + 1000), 0);
	ck_assert_uint_gt(limits_allowance(l, a, now + 4000), 0);
	ck_assert_uint_eq(limits_take_request(l, a, now), 0);
	limits_leave(l, &a, false);
	limits_free(&l);
}
END_TEST

START_TEST(is_bounded)
{
	struct limits *l = limits_of(1, 1, 0);
	struct limits_client **v = calloc(40000, sizeof(struct limits_client *)), *again;
	int64_t full_was = counter_read(COUNTER_client_limits_full_total);
	char text[64];
	unsigned i, unlimited = 0;

	ck_assert_ptr_nonnull(v);
	for (i = 0; i < 40000; i++) {
		(void)snprintf(text, sizeof(text), "2001:db8:%x::%x", i >> 8, i & 0xff);
		ck_assert_int_eq(limits_enter(l, address_of(text), &v[i]), LIMITS_WELCOME);
		unlimited += v[i] == NULL;
	}
	/* All of them busy: the rest is served without a limit, and counted. */
	ck_assert_uint_ge(unlimited, 40000 - 32768);
	ck_assert_int_eq(counter_read(COUNTER_client_limits_full_total) - full_was, unlimited);
	for (i = 0; i < 40000; i++)
		limits_leave(l, &v[i], false);
	ck_assert_int_eq(limits_enter(l, address_of("192.0.2.1"), &again), LIMITS_WELCOME);
	ck_assert_ptr_nonnull(again);
	limits_leave(l, &again, false);
	limits_free(&l);
	free(v);
}
END_TEST

/* Enters, asks and leaves until told to stop. */
static void *
hammer(void *arg)
{
	struct limits *l = arg;
	struct limits_client *lc;
	struct sockaddr_in sa = {.sin_family = AF_INET};
	enum limits_verdict v;
	unsigned i, taken = 0;

	for (i = 0; i < 20000; i++) {
		sa.sin_addr.s_addr = htonl(0x0a000000u + i % 3);
		v = limits_enter(l, (const struct sockaddr *)&sa, &lc);
		if (lc == NULL)
			continue;
		taken += limits_take_request(l, lc, T0_MS) == 0;
		limits_sent(l, lc, 10, T0_MS);
		limits_leave(l, &lc, v == LIMITS_TELL);
	}
	return (void *)(uintptr_t)taken;
}

START_TEST(threads_share_it)
{
	struct limits *l = limits_of(2, 500, 1 << 20);
	pthread_t threads[4];
	uintptr_t taken = 0;
	void *n;
	unsigned i;

	for (i = 0; i < NELEM(threads); i++)
		AZ(pthread_create(&threads[i], NULL, hammer, l));
	for (i = 0; i < NELEM(threads); i++) {
		AZ(pthread_join(threads[i], &n));
		taken += (uintptr_t)n;
	}
	/* Three addresses, a second's worth each, however many threads ask for it. */
	ck_assert_uint_eq(taken, 3 * 500);
	limits_free(&l);
}
END_TEST

Suite *
check_limits_suite(void)
{
	Suite *s = suite_create("limits");
	TCase *t = tcase_create("limits");

	tcase_add_test(t, nothing_set_is_nothing);
	tcase_add_test(t, other_limits_hold_at_once);
	tcase_add_test(t, counts_connections);
	tcase_add_test(t, tells_a_few_only);
	tcase_add_test(t, spreads_requests);
	tcase_add_loop_test(t, spreads_bytes, 0, 4);
	tcase_add_test(t, is_bounded);
	tcase_add_test(t, threads_share_it);
	suite_add_tcase(s, t);
	return s;
}
