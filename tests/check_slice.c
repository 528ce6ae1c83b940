/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Numbers and hex digits in text, up to where they fit. */
#include "include/slice.h"

#include <check.h>

Suite *check_slice_suite(void);

static const struct {
	const char *text;
	uint64_t max;
	bool good;
	uint64_t value;
} numbers[] = {
	{"0", 0, true, 0}, {"1", 0, false, 0}, {"00", 0, true, 0}, {"65535", UINT16_MAX, true, 65535},
	{"65536", UINT16_MAX, false, 0}, {"007", 7, true, 7}, {"9", 8, false, 0},
	{"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
	{"18446744073709551616", UINT64_MAX, false, 0}, {"99999999999999999999", UINT64_MAX, false, 0},
	{"", 9, false, 0}, {"+1", 9, false, 0}, {"-1", UINT64_MAX, false, 0}, {" 1", 9, false, 0},
	{"1 ", 9, false, 0}, {"1a", UINT64_MAX, false, 0}, {"/", 99, false, 0}, {":", 99, false, 0},
};

START_TEST(test_number)
{
	uint64_t value = 4711;

	ck_assert_int_eq(slice_read_number(slice_of(numbers[_i].text), numbers[_i].max, &value),
	    numbers[_i].good);
	ck_assert_uint_eq(value, numbers[_i].good ? numbers[_i].value : 4711);
}
END_TEST

static const struct {
	const char *text;
	bool good;
} hexes[] = {
	{"00ff", true}, {"aBcD", true}, {"00f", false}, {"00ff0", false}, {"", false}, {"00fg", false},
	{"0x11", false}, {"@000", false}, {"G000", false}, {"`000", false}, {"00/0", false},
};

START_TEST(test_hex)
{
	uint8_t bytes[2];

	ck_assert_int_eq(slice_read_hex(slice_of(hexes[_i].text), bytes, sizeof(bytes)),
	    hexes[_i].good);
}
END_TEST

START_TEST(test_trim)
{
	ck_assert(slice_eq(slice_trim(SLICE(" \t a b\r\n")), SLICE("a b")));
	ck_assert(slice_eq(slice_trim(SLICE("a")), SLICE("a")));
	ck_assert_uint_eq(slice_trim(SLICE(" \t\r\n")).n, 0);
	ck_assert_uint_eq(slice_trim(SLICE_NONE).n, 0);
	ck_assert(slice_eq(slice_trim(SLICE("\va")), SLICE("\va")));
}
END_TEST

START_TEST(test_hex_value)
{
	uint8_t bytes[4];

	ck_assert(slice_read_hex(SLICE("0aF09B7e"), bytes, sizeof(bytes)));
	ck_assert_mem_eq(bytes, "\x0a\xf0\x9b\x7e", sizeof(bytes));
	ck_assert(slice_read_hex(SLICE_NONE, bytes, 0));
}
END_TEST

Suite *
check_slice_suite(void)
{
	Suite *s = suite_create("slice");
	TCase *t = tcase_create("read");

	tcase_add_loop_test(t, test_number, 0, (int)(sizeof(numbers) / sizeof(numbers[0])));
	tcase_add_loop_test(t, test_hex, 0, (int)(sizeof(hexes) / sizeof(hexes[0])));
	tcase_add_test(t, test_hex_value);
	tcase_add_test(t, test_trim);
	suite_add_tcase(s, t);
	return s;
}
