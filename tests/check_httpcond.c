/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Preconditions and ranges, by tables. */
#include "proxy/httpcond.h"

#include <check.h>

#include "proxy/httpdate.h"

Suite *check_httpcond_suite(void);

#define D_EARLIER "Sun, 06 Nov 1994 08:49:36 GMT"
#define D_EQUAL "Sun, 06 Nov 1994 08:49:37 GMT"
#define D_EQUAL_850 "Sunday, 06-Nov-94 08:49:37 GMT"
#define D_LATER "Sun, 06 Nov 1994 08:49:38 GMT"
enum { EQUAL_S = 784111777 };

static const struct {
	const char *range;
	uint64_t size_bytes;
	int want;
	uint64_t first, end;
} range_rows[] = {
	{"bytes=0-", 10, 206, 0, 10},
	{"bytes=0-0", 10, 206, 0, 1},
	{"bytes=2-5", 10, 206, 2, 6},
	{"bytes=9-", 10, 206, 9, 10},
	{"bytes=9-9", 10, 206, 9, 10},
	{"bytes=5-99", 10, 206, 5, 10},
	{"bytes=0-18446744073709551615", 10, 206, 0, 10},
	{"bytes=0-99999999999999999999999", 10, 206, 0, 10},
	{"bytes=10-", 10, 416, 0, 0},
	{"bytes=10-20", 10, 416, 0, 0},
	{"bytes=99999999999999999999999-", 10, 416, 0, 0},
	{"bytes=99999999999999999999998-99999999999999999999999", 10, 416, 0, 0},
	{"bytes=-3", 10, 206, 7, 10},
	{"bytes=-10", 10, 206, 0, 10},
	{"bytes=-11", 10, 206, 0, 10},
	{"bytes=-99999999999999999999999", 10, 206, 0, 10},
	{"bytes=-0", 10, 416, 0, 0},
	{"bytes=0-", 0, 416, 0, 0},
	{"bytes=0-0", 0, 416, 0, 0},
	{"bytes=-5", 0, 200, 0, 0},
	{"bytes=-0", 0, 416, 0, 0},
	{"bytes=5-4", 10, 200, 0, 0},
	{"bytes=99999999999999999999999-4", 10, 200, 0, 0},
	{"bytes=", 10, 200, 0, 0},
	{"bytes=-", 10, 200, 0, 0},
	{"bytes=a-", 10, 200, 0, 0},
	{"bytes=1", 10, 200, 0, 0},
	{"bytes=1-b", 10, 200, 0, 0},
	{"bytes=1-2x", 10, 200, 0, 0},
	{"bytes=1 -2", 10, 200, 0, 0},
	{"bytes=--1", 10, 200, 0, 0},
	{"bytes=+1-2", 10, 200, 0, 0},
	{"bytes=0-1,3-4", 10, 200, 0, 0},
	{"bytes=0-1,", 10, 206, 0, 2},
	{"bytes 0-1", 10, 200, 0, 0},
	{"lines=0-1", 10, 200, 0, 0},
	{"", 10, 200, 0, 0},
	{"Bytes=0-1", 10, 206, 0, 2},
	/* beyond 4 GiB, as large as packages get */
	{"bytes=5000000000-", UINT64_C(5847908352), 206, UINT64_C(5000000000),
	    UINT64_C(5847908352)},
	{"bytes=-1", UINT64_C(5847908352), 206, UINT64_C(5847908351), UINT64_C(5847908352)},
};

START_TEST(range_is_read)
{
	uint64_t first = 0, end = 0;

	ck_assert_int_eq(range_parse(slice_of(range_rows[_i].range), range_rows[_i].size_bytes,
	    &first, &end), range_rows[_i].want);
	ck_assert_uint_eq(first, range_rows[_i].first);
	ck_assert_uint_eq(end, range_rows[_i].end);
}
END_TEST

/* The object: 100 bytes, D_EQUAL, tag "a", unless a row says otherwise. */
struct cond_row {
	const char *range, *if_range, *if_none_match, *if_modified_since, *if_match,
	    *if_unmodified_since;
	const char *more;	/* a second line of If-None-Match, or of If-Match where there is one */
	const char *etag;
	enum { GET = 0, HEAD = 1 } method;
	bool exact, no_date, no_size, shared;
	int want;
};

static const struct cond_row cond_rows[] = {
	{.want = 200},
	/* If-None-Match */
	{.if_none_match = "\"a\"", .want = 304},
	{.if_none_match = "\"a\"", .method = HEAD, .want = 304},
	{.if_none_match = "W/\"a\"", .want = 304},
	{.if_none_match = "\"a\"", .etag = "W/\"a\"", .want = 304},
	{.if_none_match = "\"b\"", .want = 200},
	{.if_none_match = "\"b\", \"a\"", .want = 304},
	{.if_none_match = "\"b\",W/\"c\" , W/\"a\"", .want = 304},
	{.if_none_match = "\"x, \\\", \"a\"", .want = 304},
	{.if_none_match = "a", .want = 200},
	{.if_none_match = "\"a", .want = 200},
	{.if_none_match = "W/", .want = 200},
	{.if_none_match = "", .want = 200},
	{.if_none_match = "\"\"", .etag = "", .want = 200},
	{.if_none_match = "*", .want = 304},
	{.if_none_match = "*", .etag = "", .want = 304},
	{.if_none_match = "\"b\"", .more = "\"c\", \"a\"", .want = 304},
	{.if_none_match = "\"a\"", .more = "\"c\"", .want = 304},
	{.if_none_match = "\"b\"", .more = "\"c\"", .want = 200},
	{.if_none_match = "\"a\"", .if_modified_since = D_EARLIER, .want = 304},
	{.if_none_match = "\"b\"", .if_modified_since = D_EQUAL, .want = 200},
	/* If-Modified-Since */
	{.if_modified_since = D_EQUAL, .want = 304},
	{.if_modified_since = D_EQUAL_850, .want = 304},
	{.if_modified_since = D_LATER, .want = 304},
	{.if_modified_since = D_EARLIER, .want = 200},
	{.if_modified_since = "yesterday", .want = 200},
	{.if_modified_since = D_EQUAL, .no_date = true, .want = 200},
	{.if_modified_since = D_LATER, .no_date = true, .want = 200},
	{.if_modified_since = "yesterday", .no_date = true, .want = 200},
	{.if_modified_since = D_EQUAL, .exact = true, .want = 304},
	{.if_modified_since = D_LATER, .exact = true, .want = 200},
	{.if_modified_since = D_EARLIER, .exact = true, .want = 200},
	{.if_modified_since = D_EQUAL, .method = HEAD, .want = 304},
	/* If-Match, If-Unmodified-Since */
	{.if_match = "\"a\"", .want = 200},
	{.if_match = "*", .want = 200},
	{.if_match = "\"b\", \"a\"", .want = 200},
	{.if_match = "\"b\"", .want = 412},
	{.if_match = "\"b\"", .more = "\"a\"", .want = 200},
	{.if_match = "\"b\"", .more = "W/\"a\"", .want = 412},
	{.if_match = "W/\"a\"", .want = 412},
	{.if_match = "W/\"a\"", .etag = "W/\"a\"", .want = 412},
	{.if_match = "\"a\"", .etag = "", .want = 412},
	{.if_match = "\"a\"", .if_unmodified_since = D_EARLIER, .want = 200},
	{.if_match = "\"a\"", .if_none_match = "\"a\"", .want = 304},
	{.if_match = "\"b\"", .if_none_match = "\"a\"", .want = 412},
	{.if_match = "\"b\"", .range = "bytes=500-", .want = 412},
	{.if_unmodified_since = D_EQUAL, .want = 200},
	{.if_unmodified_since = D_LATER, .want = 200},
	{.if_unmodified_since = D_EARLIER, .want = 412},
	{.if_unmodified_since = D_EARLIER, .no_date = true, .want = 200},
	{.if_unmodified_since = "tomorrow", .want = 200},
	/* Range alone */
	{.range = "bytes=10-19", .want = 206},
	{.range = "bytes=10-19", .method = HEAD, .want = 200},
	{.range = "bytes=10-19", .no_size = true, .want = 200},
	{.range = "bytes=100-", .want = 416},
	{.range = "bytes=10-19", .if_none_match = "\"a\"", .want = 304},
	{.range = "bytes=100-", .if_modified_since = D_EQUAL, .want = 304},
	{.range = "bytes=10-19", .if_none_match = "\"b\"", .want = 206},
	/* If-Range */
	{.range = "bytes=10-19", .if_range = "\"a\"", .want = 206},
	{.range = "bytes=10-19", .if_range = "\"a\"", .shared = true, .want = 200},
	{.range = "bytes=10-19", .if_range = D_EQUAL, .shared = true, .want = 200},
	{.range = "bytes=10-19", .shared = true, .want = 206},
	{.if_none_match = "\"a\"", .shared = true, .want = 304},
	{.range = "bytes=10-19", .if_range = "\"b\"", .want = 200},
	{.range = "bytes=100-", .if_range = "\"a\"", .want = 416},
	{.range = "bytes=100-", .if_range = "\"b\"", .want = 200},
	{.range = "bytes=10-19", .if_range = "W/\"a\"", .want = 200},
	{.range = "bytes=10-19", .if_range = "\"a\"", .etag = "W/\"a\"", .want = 200},
	{.range = "bytes=10-19", .if_range = "W/\"a\"", .etag = "W/\"a\"", .want = 200},
	{.range = "bytes=10-19", .if_range = "\"a\", \"b\"", .want = 200},
	{.range = "bytes=10-19", .if_range = "", .want = 200},
	{.range = "bytes=10-19", .if_range = "*", .want = 200},
	{.range = "bytes=10-19", .if_range = D_EQUAL, .want = 206},
	{.range = "bytes=10-19", .if_range = D_EQUAL_850, .want = 206},
	{.range = "bytes=10-19", .if_range = D_LATER, .want = 200},
	{.range = "bytes=10-19", .if_range = D_EARLIER, .want = 200},
	{.range = "bytes=10-19", .if_range = D_EQUAL, .no_date = true, .want = 200},
	{.range = "bytes=10-19", .if_range = "soon", .no_date = true, .want = 200},
	{.if_range = "\"a\"", .want = 200},
};

/* A field that the row does not give is absent, which differs from empty. */
static struct slice
row_field(const char *text)
{
	return text != NULL ? slice_of(text) : SLICE_NONE;
}

/* Adds a line to the request. */
static void
row_line(struct httpreq *req, const char *name, const char *text)
{
	if (text != NULL)
		req->fields[req->fields_n++] = (struct httpfield){slice_of(name), slice_of(text)};
}

START_TEST(conditions_are_judged)
{
	const struct cond_row *row = &cond_rows[_i];
	struct httpreq req = {
		.method = row->method == HEAD ? HTTP_HEAD : HTTP_GET,
		.range = row_field(row->range),
		.if_range = row_field(row->if_range),
		.if_none_match = row_field(row->if_none_match),
		.if_modified_since = row_field(row->if_modified_since),
		.if_match = row_field(row->if_match),
		.if_unmodified_since = row_field(row->if_unmodified_since),
	};
	struct httpcond_object obj = {
		.etag = slice_of(row->etag != NULL ? row->etag : "\"a\""),
		.last_modified = row->no_date ? HTTP_NO_DATE : EQUAL_S,
		.size_bytes = row->no_size ? -1 : 100,
		.exact_dates = row->exact,
		.validators_shared = row->shared,
	};
	struct httpcond_verdict v;

	row_line(&req, "If-Match", row->if_match);
	row_line(&req, "if-none-match", row->if_none_match);
	row_line(&req, row->if_match != NULL ? "IF-MATCH" : "If-None-Match", row->more);
	httpcond_evaluate(&req, &obj, &v);
	ck_assert_int_eq(v.status, row->want);
	ck_assert_uint_eq(v.first, row->want == 206 ? 10 : 0);
	ck_assert_uint_eq(v.end, row->want == 206 ? 20 : 0);
}
END_TEST

Suite *
check_httpcond_suite(void)
{
	Suite *s = suite_create("httpcond");
	TCase *tc = tcase_create("httpcond");

	tcase_add_loop_test(tc, range_is_read, 0, (int)NELEM(range_rows));
	tcase_add_loop_test(tc, conditions_are_judged, 0, (int)NELEM(cond_rows));
	suite_add_tcase(s, tc);
	return s;
}
