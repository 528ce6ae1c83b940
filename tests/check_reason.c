/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The table of reasons: what is told to a client says what to do. */
#include "include/reason.h"

#include <check.h>
#include <string.h>

#include "proxy/headbuf.h"

Suite *check_reason_suite(void);

START_TEST(every_error_has_advice)
{
	const char *text = reason_text((enum reason)_i), *advice = reason_advice((enum reason)_i);
	int status = reason_status((enum reason)_i);

	/* The error's body and the log put the full stop behind it. */
	ck_assert_uint_gt(strlen(text), 0);
	ck_assert_int_ne(text[strlen(text) - 1], '.');
	if (status == 0) {
		ck_assert_ptr_null(advice);
		return;
	}
	ck_assert(status >= 400 && status <= 599);
	ck_assert_str_ne(http_phrase(status), "Unknown");
	ck_assert_ptr_nonnull(advice);
	ck_assert_ptr_nonnull(strchr(".?", advice[strlen(advice) - 1]));
}
END_TEST

Suite *
check_reason_suite(void)
{
	Suite *s = suite_create("reason");
	TCase *tc = tcase_create("reason");

	tcase_add_loop_test(tc, every_error_has_advice, 0, REASON__N);
	suite_add_tcase(s, tc);
	return s;
}
