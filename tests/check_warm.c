/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Lists of packages and URLs, as people have them. */
#include "proxy/warm_priv.h"

#include <check.h>

Suite *check_warm_suite(void);

static const struct {
	const char *text;
	enum warm_form form;
	const char *want;		/* entries, a blank behind each */
} rows[] = {
	{"", WARM_NAMES, ""},
	{"# nothing\n\n", WARM_NAMES, ""},
	{"curl\n", WARM_NAMES, "curl "},
	{"curl=7.88.1-10 # pinned\n  libc6:amd64 2.36-9  \r\n\n#x\nbash\n", WARM_NAMES,
	    "curl=7.88.1-10 libc6:amd64=2.36-9 bash "},
	{"adduser\t3.134\napt\t2.6.1\n", WARM_NAMES, "adduser=3.134 apt=2.6.1 "},
	{"adduser\t\t\t\t\tinstall\napt\tinstall\n", WARM_NAMES, "adduser apt "},
	{"ii 1.9-1\n", WARM_NAMES, "ii=1.9-1 "},
	{"Desired=Unknown/Install/Remove/Purge/Hold\n| Status=Not/Inst/Conf-files/Unpacked\n"
	    "|/ Err?=(none)/Reinst-required (Status,Err: uppercase=bad)\n"
	    "||/ Name           Version      Architecture Description\n"
	    "+++-==============-============-============-=====================\n"
	    "ii  adduser        3.134        all          add and remove users\n"
	    "rc  gone           1.0          amd64        only its configuration\n"
	    "un  never          <none>       <none>       (no description available)\n"
	    "hi  libc6:amd64    2.36-9       amd64        held\n", WARM_DPKG,
	    "adduser=3.134 libc6:amd64=2.36-9 "},
	{"ii  adduser  3.134  all  add and remove users\n", WARM_DPKG, "adduser=3.134 "},
	{"# urls\nhttps://a.example/x.deb\n  http://HTTPS///b.example/y.run comment\n", WARM_URLS,
	    "https://a.example/x.deb http://HTTPS///b.example/y.run "},
};

START_TEST(test_row)
{
	struct slice rest = slice_of(rows[_i].text);
	char got[1024] = "", entry[128];

	ck_assert_int_eq(warm_list_form(rest), rows[_i].form);
	while (warm_list_next(rows[_i].form, &rest, entry, sizeof(entry))) {
		ck_assert_uint_lt(strlen(got) + strlen(entry) + 2, sizeof(got));
		(void)strcat(strcat(got, entry), " ");
	}
	ck_assert_str_eq(got, rows[_i].want);
}
END_TEST

/* What does not fit is passed over, not cut. */
START_TEST(test_long)
{
	struct slice rest = SLICE("long-name 1.2.3\nb 1\n");
	char entry[8];

	ck_assert(warm_list_next(WARM_NAMES, &rest, entry, sizeof(entry)));
	ck_assert_str_eq(entry, "b=1");
	ck_assert(!warm_list_next(WARM_NAMES, &rest, entry, sizeof(entry)));
}
END_TEST

START_TEST(test_size)
{
	char text[24];

	warm_size_text(0, text);
	ck_assert_str_eq(text, "0 B");
	warm_size_text(1536, text);
	ck_assert_str_eq(text, "1.5 KiB");
	warm_size_text(UINT64_C(5600) << 20, text);
	ck_assert_str_eq(text, "5.5 GiB");
}
END_TEST

/* Rows of one table, a column less than the screen has. */
START_TEST(test_progress_row)
{
	static const struct {
		const char *name;
		uint64_t have;
		int64_t all;
		double rate;
		const char *want;
	} rows_of_80[] = {
		{"cuda-nvcc-12-4 12.4.131-1", 12898533, 64172851, 21076377,
		    "cuda-nvcc-12-4 12.4.131-1               12.3/61.2 MiB  20%   20.1 MiB/s    0:02"},
		{"a-package-with-a-name-that-is-long 1:2.3", 0, INT64_C(5637144576), -1,
		    "a-package-with-a-name-that-is-long        0.0/5.2 GiB   0%            -       -"},
		{"file.run", 70000, -1, 1e6,
		    "file.run                                     68.4 KiB       976.6 KiB/s       -"},
		{"66 of 66 files", 7, 7, 0,
		    "66 of 66 files                                  7/7 B 100%        0 B/s       -"},
		{"3 of 66 files", UINT64_C(1) << 30, INT64_C(3) << 40, 2e8,
		    "3 of 66 files                             0.0/3.0 TiB   0%  190.7 MiB/s 4:34:47"},
	};
	char row[WARM_ROW_BYTES];

	for (size_t i = 0; i < NELEM(rows_of_80); i++) {
		warm_row_text(rows_of_80[i].name, rows_of_80[i].have, rows_of_80[i].all,
		    rows_of_80[i].rate, 80, row);
		ck_assert_str_eq(row, rows_of_80[i].want);
		ck_assert_uint_le(strlen(row), 80);
	}
}
END_TEST

Suite *
check_warm_suite(void)
{
	Suite *s = suite_create("warm");
	TCase *t = tcase_create("lists");

	tcase_add_loop_test(t, test_row, 0, (int)NELEM(rows));
	tcase_add_test(t, test_long);
	tcase_add_test(t, test_size);
	tcase_add_test(t, test_progress_row);
	suite_add_tcase(s, t);
	return s;
}
