/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The list of the latest trouble: its order, its bounds, and what happens again. */
#include "proxy/trouble.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

Suite *check_trouble_suite(void);

/* Notes trouble number n, at second n. */
static void
note(unsigned n, enum reason reason)
{
	char url[64];
	int len = snprintf(url, sizeof(url), "https://origin.example/%u", n);

	trouble_note(n, 100 + n, 502, reason, (struct slice){url, (size_t)len}, "it failed");
}

START_TEST(latest_first)
{
	struct trouble list[TROUBLE_MAX];
	unsigned i, n;

	ck_assert_uint_eq(trouble_list(list), 0);
	for (i = 1; i <= 2 * TROUBLE_MAX + 3; i++) {
		note(i, REASON_UP_CONNECT);
		n = trouble_list(list);
		ck_assert_uint_eq(n, i < TROUBLE_MAX ? i : TROUBLE_MAX);
		ck_assert_int_eq(list[0].at_s, i);
		ck_assert_int_eq(list[n - 1].at_s, i - n + 1);
	}
	ck_assert_str_eq(list[0].url, "https://origin.example/23");
	ck_assert_str_eq(list[0].what, "it failed");
	ck_assert_uint_eq(list[0].req_id, 123);
	ck_assert_int_eq(list[0].status, 502);
}
END_TEST

/* The same URL and reason have one place, the newest; another reason is another trouble. */
START_TEST(again_is_counted)
{
	struct trouble list[TROUBLE_MAX];
	unsigned i;

	note(1, REASON_UP_CONNECT);
	note(2, REASON_UP_CONNECT);
	note(2, REASON_UP_TIMEOUT);
	for (i = 0; i < 50; i++)
		note(1, REASON_UP_CONNECT);
	ck_assert_uint_eq(trouble_list(list), 3);
	ck_assert_str_eq(list[0].url, "https://origin.example/1");
	ck_assert_uint_eq(list[0].times_n, 51);
	ck_assert_int_eq(list[1].reason, REASON_UP_TIMEOUT);
	ck_assert_uint_eq(list[1].times_n, 1);
	ck_assert_int_eq(list[2].reason, REASON_UP_CONNECT);
}
END_TEST

START_TEST(long_text_is_cut)
{
	struct trouble list[TROUBLE_MAX];
	char text[2000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	trouble_note(1, 1, 502, REASON_UP_CONNECT, slice_of(text), text);
	ck_assert_uint_eq(trouble_list(list), 1);
	ck_assert_uint_eq(strlen(list[0].url), sizeof(list[0].url) - 1);
	ck_assert_uint_eq(strlen(list[0].what), sizeof(list[0].what) - 1);
}
END_TEST

Suite *
check_trouble_suite(void)
{
	Suite *s = suite_create("trouble");
	TCase *tc = tcase_create("trouble");

	tcase_add_test(tc, latest_first);
	tcase_add_test(tc, again_is_counted);
	tcase_add_test(tc, long_text_is_cut);
	suite_add_tcase(s, tc);
	return s;
}
