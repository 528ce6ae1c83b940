/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Versions in dpkg's order: by a table, and by dpkg itself where there is one. */
#include "cache/debversion.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

Suite *check_debversion_suite(void);

static const struct {
	const char *a, *op, *b;
} rows[] = {
	{"1", "=", "1"}, {"1", "<", "2"}, {"1", "=", "0:1"}, {"0:1", "<", "1:0"},
	{"10", ">", "9"}, {"1.10", ">", "1.9"}, {"1.0", "=", "1.00"}, {"1.01", "=", "1.1"},
	{"1.0~rc1", "<", "1.0"}, {"1.0~~", "<", "1.0~"}, {"1.0~", "<", "1.0"},
	{"1.0", "<", "1.0+b1"}, {"1.0a", "<", "1.0+"}, {"1.0a", ">", "1.0"}, {"1.0a", "<", "1.0b"},
	{"1.0-1", ">", "1.0"}, {"1.0-0", "=", "1.0"}, {"1.0-1~bpo12", "<", "1.0-1"},
	{"1.0-1-1", ">", "1.0-1"}, {"1.0-1.1", ">", "1.0-1"}, {"2:1", ">", "10"},
	{"12.4.127-1", ">", "12.4.99-1"}, {"550.54.15-1", "<", "550.90.07-1"},
	{"8.9.7.29-1+cuda12.2", ">", "8.9.7.29-1+cuda11.8"}, {"1.Z", "<", "1.a"},
	{"123456789012345678901", ">", "99999999999999999999"}, {"0", "=", "00"},
	{"1.2.3", "<", "1.2.3.4"}, {"1.2.3~git1", "<", "1.2.3"}, {"1A", "<", "1B"},
	{"9.0.0-1ubuntu1", ">", "9.0.0-1"}, {"1.0.", ">", "1.0"}, {"1:1-1", ">", "1-1"},
};

static char
order(const char *a, const char *b)
{
	int c = debversion_compare(slice_of(a), slice_of(b));

	return "<=>"[c < 0 ? 0 : c == 0 ? 1 : 2];
}

START_TEST(test_row)
{
	char op = rows[_i].op[0];

	ck_assert_msg(order(rows[_i].a, rows[_i].b) == op, "%s is not %c %s", rows[_i].a, op,
	    rows[_i].b);
	ck_assert_msg(order(rows[_i].b, rows[_i].a) == "<=>"[op == '<' ? 2 : op == '=' ? 1 : 0],
	    "%s and %s the other way round", rows[_i].b, rows[_i].a);
}
END_TEST

/* What dpkg says of the same rows. */
START_TEST(test_dpkg)
{
	char command[512];

	if (access("/usr/bin/dpkg", X_OK) != 0)
		return;
	(void)snprintf(command, sizeof(command), "/usr/bin/dpkg --compare-versions '%s' '%s' '%s'",
	    rows[_i].a, rows[_i].op[0] == '<' ? "lt" : rows[_i].op[0] == '>' ? "gt" : "eq",
	    rows[_i].b);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

Suite *
check_debversion_suite(void)
{
	Suite *s = suite_create("debversion");
	TCase *t = tcase_create("order");

	tcase_add_loop_test(t, test_row, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	tcase_add_loop_test(t, test_dpkg, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	suite_add_tcase(s, t);
	return s;
}
