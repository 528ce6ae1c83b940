/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* A body cut into pieces. */
#include <check.h>
#include <stdio.h>

#include "proxy/piece.h"

Suite *check_piece_suite(void);

static struct piece_list list;

static void
setup(void)
{
	TAILQ_INIT(&list);
}

static void
teardown(void)
{
	while (!TAILQ_EMPTY(&list))
		piece_free(&list, TAILQ_FIRST(&list));
}

/* All pieces in one line. */
static const char *
text(void)
{
	static char out[256];
	struct piece *p;
	size_t n = 0;

	out[0] = '\0';
	TAILQ_FOREACH(p, &list, link)
		n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%d-%d", n > 0 ? " " : "",
		    (int)p->first, (int)p->end);
	return out;
}

static struct piece *
add(uint64_t first, uint64_t end)
{
	struct piece *p = piece_add(&list, first, end);

	ck_assert_ptr_nonnull(p);
	ck_assert(p->at == first && piece_is_hole(p));
	return p;
}

START_TEST(test_order)
{
	(void)add(50, 60);
	(void)add(10, 20);
	(void)add(60, 70);
	(void)add(20, 50);
	ck_assert_str_eq(text(), "10-20 20-50 50-60 60-70");
	ck_assert_uint_eq(piece_find(&list, 0)->first, 10);
	ck_assert_uint_eq(piece_find(&list, 19)->first, 10);
	ck_assert_uint_eq(piece_find(&list, 20)->first, 20);
	ck_assert_ptr_null(piece_find(&list, 70));
}
END_TEST

START_TEST(test_gaps)
{
	static const struct {
		uint64_t at, first, end;
	} rows[] = {
		{0, 0, 10}, {5, 5, 10}, {10, 40, 50}, {25, 40, 50}, {45, 45, 50}, {50, 60, 100},
		{99, 99, 100}, {100, 100, 100},
	};

	(void)add(10, 20);
	(void)add(20, 40);
	(void)add(50, 60);
	for (size_t i = 0; i < NELEM(rows); i++) {
		uint64_t end = 0;

		ck_assert_uint_eq(piece_find_gap(&list, rows[i].at, 100, &end), rows[i].first);
		ck_assert_uint_eq(end, rows[i].end);
	}
}
END_TEST

START_TEST(test_split)
{
	struct piece *p = add(10, 50), *rest;

	(void)add(50, 60);
	p->at = 20;
	rest = piece_split(&list, p, 30);
	ck_assert_str_eq(text(), "10-30 30-50 50-60");
	ck_assert(piece_is_hole(rest) && rest->at == 30 && p->at == 20);
	p->at = 30;
	ck_assert(!piece_is_hole(p));
}
END_TEST

Suite *
check_piece_suite(void)
{
	Suite *s = suite_create("piece");
	TCase *tc = tcase_create("piece");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_order);
	tcase_add_test(tc, test_gaps);
	tcase_add_test(tc, test_split);
	suite_add_tcase(s, tc);
	return s;
}
