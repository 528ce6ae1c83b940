/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Dates, heads to send, heads received. */
#include "proxy/headbuf.h"
#include "proxy/httpdate.h"
#include "proxy/httpresp.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "include/clock.h"

Suite *check_httpmsg_suite(void);

/* ---- dates ---- */

static const struct {
	const char *text;
	int64_t want;
} date_rows[] = {
	{"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
	{"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
	{"Sun Nov  6 08:49:37 1994", 784111777},
	{"Wed Nov 16 08:49:37 1994", 784975777},
	{"Thu, 01 Jan 1970 00:00:00 GMT", 0},
	{"Wed, 31 Dec 1969 23:59:59 GMT", -1},
	{"Tue, 02 Jan 2024 03:04:05 GMT", 1704164645},
	{"Thu, 29 Feb 2024 12:00:00 GMT", 1709208000},
	{"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
	{"Tue, 19 Jan 2038 03:14:08 GMT", INT64_C(2147483648)},
	{"Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799)},
	{"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
	{"Wednesday, 06-Nov-94 08:49:37 GMT", 784111777},
	{"Monday, 06-Nov-94 08:49:37 GMT", 784111777},
	{"Tuesday, 06-Nov-94 08:49:37 GMT", 784111777},
	{"Thursday, 06-Nov-94 08:49:37 GMT", 784111777},
	{"Friday, 06-Nov-94 08:49:37 GMT", 784111777},
	{"Saturday, 06-Nov-94 08:49:37 GMT", 784111777},
	/* none */
	{"", HTTP_NO_DATE},
	{"0", HTTP_NO_DATE},
	{"-1", HTTP_NO_DATE},
	{"now", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 08:49:37", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 08:49:37 UTC", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 08:49:37 GMT ", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 08:49:37 +0000", HTTP_NO_DATE},
	{"Sun, 6 Nov 1994 08:49:37 GMT", HTTP_NO_DATE},
	{"Sun,06 Nov 1994 08:49:37 GMT", HTTP_NO_DATE},
	{"Son, 06 Nov 1994 08:49:37 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nov 94 08:49:37 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nob 1994 08:49:37 GMT", HTTP_NO_DATE},
	{"Sun, 00 Nov 1994 08:49:37 GMT", HTTP_NO_DATE},
	{"Sun, 31 Nov 1994 08:49:37 GMT", HTTP_NO_DATE},
	{"Wed, 29 Feb 2023 12:00:00 GMT", HTTP_NO_DATE},
	{"Wed, 29 Feb 1900 12:00:00 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nov 0000 08:49:37 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 24:00:00 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 08:60:37 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 08:49:61 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 8:49:37 GMT", HTTP_NO_DATE},
	{"Sun, 06 Nov 1994 08.49.37 GMT", HTTP_NO_DATE},
	{"Sun, 06-Nov-94 08:49:37 GMT", HTTP_NO_DATE},
	{"Sunday, 06-Nov-1994 08:49:37 GMT", HTTP_NO_DATE},
	{"Sunday, 06 Nov 94 08:49:37 GMT", HTTP_NO_DATE},
	{"Sun Nov 6 08:49:37 1994", HTTP_NO_DATE},
	{"Sun Nov 06 08:49:37 94", HTTP_NO_DATE},
	{"Sun Nov  6 08:49:37 1994 GMT", HTTP_NO_DATE},
	{"Sun Nov   08:49:37 1994", HTTP_NO_DATE},
};

START_TEST(date_is_read)
{
	ck_assert_int_eq(http_date_parse(slice_of(date_rows[_i].text)), date_rows[_i].want);
}
END_TEST

START_TEST(date_prefixes_are_none)
{
	static const char *const texts[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
	    "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"};

	for (size_t i = 0; i < NELEM(texts); i++)
		for (size_t n = 0; n < strlen(texts[i]); n++)
			ck_assert_int_eq(http_date_parse((struct slice){texts[i], n}),
			    HTTP_NO_DATE);
}
END_TEST

START_TEST(only_imf_is_imf)
{
	ck_assert(http_date_is_imf(SLICE("Sun, 06 Nov 1994 08:49:37 GMT")));
	ck_assert(!http_date_is_imf(SLICE("Sunday, 06-Nov-94 08:49:37 GMT")));
	ck_assert(!http_date_is_imf(SLICE("Sun Nov  6 08:49:37 1994")));
	ck_assert(!http_date_is_imf(SLICE("")));
}
END_TEST

START_TEST(dates_survive_the_round_trip)
{
	/* A step that is no multiple of a day visits all months, weekdays and times. */
	for (int64_t t = -INT64_C(62135596800); t <= INT64_C(253402300799); t += 86399 * 97) {
		char text[HTTP_DATE_BYTES], want[64];
		time_t libc_t = (time_t)t;
		struct tm tm;

		http_date_format(t, text);
		ck_assert_ptr_nonnull(gmtime_r(&libc_t, &tm));
		(void)strftime(want, sizeof(want), "%a, %d %b ", &tm);
		(void)snprintf(want + 12, sizeof(want) - 12, "%04d %02d:%02d:%02d GMT",
		    tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
		ck_assert_str_eq(text, want);
		ck_assert_int_eq(http_date_parse(slice_of(text)), t);
	}
}
END_TEST

START_TEST(format_remembers_the_right_second)
{
	char a[HTTP_DATE_BYTES], b[HTTP_DATE_BYTES];

	http_date_format(784111777, a);
	http_date_format(784111777, b);
	ck_assert_str_eq(a, b);
	http_date_format(784111778, b);
	ck_assert_str_eq(b, "Sun, 06 Nov 1994 08:49:38 GMT");
	http_date_format(HTTP_NO_DATE, b);
	ck_assert_str_eq(b, "Mon, 01 Jan 0001 00:00:00 GMT");
	http_date_format(INT64_MAX, b);
	ck_assert_str_eq(b, "Fri, 31 Dec 9999 23:59:59 GMT");
}
END_TEST

/* The year of a date, as http_date_format says it. */
static int
year_of(int64_t unix_s)
{
	char text[HTTP_DATE_BYTES];

	ck_assert_int_ne(unix_s, HTTP_NO_DATE);
	http_date_format(unix_s, text);
	return atoi(text + 12);
}

/* Two digits mean the latest year not more than 50 years ahead, also as time goes by. */
START_TEST(short_years_follow_the_clock)
{
	const int64_t step_ms = INT64_C(11) * 365 * 86400 * 1000;
	const int steps_n = 12;

	for (int step = 0; step < steps_n; step++) {
		int year = year_of(clock_wall_s()), in_50 = year + 50, in_51 = year + 51;
		char text[64];

		(void)snprintf(text, sizeof(text), "Friday, 01-Jan-%02d 00:00:00 GMT",
		    in_50 % 100);
		ck_assert_int_eq(year_of(http_date_parse(slice_of(text))), in_50);
		(void)snprintf(text, sizeof(text), "Friday, 31-Dec-%02d 23:59:59 GMT",
		    in_51 % 100);
		ck_assert_int_eq(year_of(http_date_parse(slice_of(text))), in_51 - 100);
		(void)snprintf(text, sizeof(text), "Friday, 01-Jan-%02d 00:00:00 GMT", year % 100);
		ck_assert_int_eq(year_of(http_date_parse(slice_of(text))), year);
		clock_test_advance(step_ms);
	}
	/* Other tests share the clock where they are not forked. */
	clock_test_advance(-steps_n * step_ms);
}
END_TEST

/* ---- heads to send ---- */

START_TEST(head_is_built)
{
	static const char want[] =
	    "HTTP/1.1 206 Partial Content\r\n"
	    "ETag: \"a\"\r\n"
	    "Content-Length: 18446744073709551615\r\n"
	    "X-Zero: 0\r\n"
	    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	    "Content-Range: bytes 1-2/3\r\n"
	    "as it is\r\n"
	    "\r\n";
	char memory[sizeof(want) - 1];
	struct headbuf h;

	/* To the last byte, and one too small for each size below. */
	for (size_t cap = sizeof(memory) + 1; cap-- > 0;) {
		headbuf_init(&h, memory, cap);
		headbuf_status(&h, 206, SLICE_NONE);
		headbuf_field(&h, SLICE("ETag"), SLICE("\"a\""));
		headbuf_field_u64(&h, SLICE("Content-Length"), UINT64_MAX);
		headbuf_field_u64(&h, SLICE("X-Zero"), 0);
		headbuf_field_date(&h, SLICE("Last-Modified"), 784111777);
		headbuf_printf(&h, "Content-Range: bytes %d-%d/%d\r\n", 1, 2, 3);
		headbuf_text(&h, SLICE("as it is\r\n"));
		headbuf_end(&h);
		ck_assert_int_eq(headbuf_ok(&h), cap == sizeof(memory));
		if (headbuf_ok(&h)) {
			ck_assert_uint_eq(h.n, sizeof(memory));
			ck_assert_mem_eq(memory, want, sizeof(memory));
		}
	}
}
END_TEST

START_TEST(field_cannot_split_a_head)
{
	char memory[128];
	struct headbuf h;

	headbuf_init(&h, memory, sizeof(memory));
	headbuf_status(&h, 406, SLICE("Usage\r\n Information"));
	headbuf_field(&h, SLICE("X"), SLICE("a\r\nSet-Cookie: b\0c\r"));
	ck_assert(headbuf_ok(&h));
	memory[h.n] = '\0';
	ck_assert_str_eq(memory, "HTTP/1.1 406 Usage Information\r\nX: aSet-Cookie: bc\r\n");
}
END_TEST

START_TEST(overflow_sticks)
{
	char memory[8];
	struct headbuf h;

	headbuf_init(&h, memory, sizeof(memory));
	headbuf_text(&h, SLICE("123456789"));
	headbuf_text(&h, SLICE("1"));
	headbuf_printf(&h, "1");
	ck_assert(!headbuf_ok(&h));
	ck_assert_uint_eq(h.n, 0);
}
END_TEST

/* Formatting needs a byte for its NUL: text that would lose its last byte doesn't fit. */
START_TEST(formatted_text_is_never_cut)
{
	char memory[5];
	struct headbuf h;

	headbuf_init(&h, memory, 4);
	headbuf_printf(&h, "%s", "abcd");
	ck_assert(!headbuf_ok(&h));
	headbuf_init(&h, memory, 5);
	headbuf_printf(&h, "%s", "abcd");
	ck_assert(headbuf_ok(&h));
	ck_assert_uint_eq(h.n, 4);
}
END_TEST

START_TEST(phrases_are_standard)
{
	ck_assert_str_eq(http_phrase(200), "OK");
	ck_assert_str_eq(http_phrase(206), "Partial Content");
	ck_assert_str_eq(http_phrase(504), "Gateway Timeout");
	ck_assert_str_eq(http_phrase(508), "Loop Detected");
	ck_assert_str_eq(http_phrase(299), "Unknown");
}
END_TEST

/* ---- heads received ---- */

/* Feeds lines, separated by LF in the text, with CRLF as libcurl gives them. */
static bool
feed(struct httpresp *r, const char *text)
{
	struct slice rest = slice_of(text);
	bool ok = true;

	while (rest.n > 0) {
		const char *lf = memchr(rest.p, '\n', rest.n);
		size_t n = lf != NULL ? (size_t)(lf - rest.p) : rest.n;
		char *line = malloc(n + 2);

		ck_assert_ptr_nonnull(line);
		memcpy(line, rest.p, n);
		memcpy(line + n, "\r\n", 2);
		ok = httpresp_line(r, (struct slice){line, n + 2});
		free(line);
		rest = slice_skip(rest, n + 1);
	}
	return ok;
}

/* One fresh head of status 200 with these fields. */
static bool
feed_fields(struct httpresp *r, const char *fields)
{
	httpresp_reset(r);
	ck_assert(feed(r, "HTTP/1.1 200 OK"));
	return feed(r, fields);
}

static void
assert_kept(const struct httpresp *r, const char *want)
{
	char text[HTTPRESP_KEPT_MAX + 1];

	memcpy(text, r->kept, r->kept_n);
	text[r->kept_n] = '\0';
	ck_assert_str_eq(text, want);
}

static struct httpresp resp;

START_TEST(package_head_is_read)
{
	httpresp_reset(&resp);
	ck_assert(feed(&resp,
	    "HTTP/2 200\n"
	    "server: AkamaiNetStorage\n"
	    "etag: \"0a1b:2\"\n"
	    "last-modified: Tue, 02 Jan 2024 03:04:05 GMT\n"
	    "content-type: application/x-deb\n"
	    "content-length: 5847908352\n"
	    "accept-ranges: bytes\n"
	    "date: Sun, 06 Nov 1994 08:49:37 GMT\n"
	    "age: 17\n"
	    "cache-control: public, max-age=604800, immutable\n"
	    "x-cdn: akam\n"
	    "\n"));
	ck_assert_int_eq(resp.status, 200);
	ck_assert_int_eq(resp.length, INT64_C(5847908352));
	ck_assert_str_eq(resp.etag, "\"0a1b:2\"");
	ck_assert_int_eq(resp.last_modified, 1704164645);
	ck_assert_str_eq(resp.last_modified_text, "Tue, 02 Jan 2024 03:04:05 GMT");
	ck_assert_str_eq(resp.content_type, "application/x-deb");
	ck_assert_int_eq(resp.date, 784111777);
	ck_assert_int_eq(resp.age_s, 17);
	ck_assert_int_eq(resp.expires, HTTP_NO_DATE);
	ck_assert(resp.cc.is_public && resp.cc.immutable && !resp.cc.no_cache);
	ck_assert(!resp.cc.must_revalidate);
	ck_assert_int_eq(resp.cc.max_age_s, 604800);
	ck_assert_int_eq(resp.cc.s_maxage_s, -1);
	ck_assert(!resp.chunked && !resp.length_conflict && !resp.is_html && !resp.vary_any);
	ck_assert(!resp.accept_ranges_none && !resp.content_encoded && !resp.set_cookie);
	ck_assert(resp.ended && !resp.bad && !resp.kept_cut);
	assert_kept(&resp,
	    "server: AkamaiNetStorage\r\n"
	    "etag: \"0a1b:2\"\r\n"
	    "last-modified: Tue, 02 Jan 2024 03:04:05 GMT\r\n"
	    "content-type: application/x-deb\r\n"
	    "cache-control: public, max-age=604800, immutable\r\n"
	    "x-cdn: akam\r\n");
}
END_TEST

/* What is stored and sent on of one field line. */
static const struct {
	const char *fields, *kept;
} kept_rows[] = {
	{"X-Other:  a  b \t", "X-Other: a  b"},
	{"X-Empty:", "X-Empty: "},
	{"X-Blank : v", "X-Blank: v"},
	{"Content-Disposition: attachment", "Content-Disposition: attachment"},
	{"Vary: Accept-Encoding", "Vary: Accept-Encoding"},
	{"Expires: 0", "Expires: 0"},
	{"Location: /x", "Location: /x"},
	{"WWW-Authenticate: Basic", "WWW-Authenticate: Basic"},
	{"Retry-After: 5", "Retry-After: 5"},
	{"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT",
	    "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"},
	{"ETag: W/\"a\"", "ETag: W/\"a\""},
	{"ETag: \"a\"\nETag: \"b\"", "ETag: \"a\""},
	/* not */
	{"Retry-After: soon", NULL},
	{"Retry-After: 1.5", NULL},
	{"Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT", NULL},
	{"Last-Modified: yesterday", NULL},
	{"ETag: a", NULL},
	{"ETag: \"a", NULL},
	{"ETag: \"a b\"", NULL},
	{"Content-Length: 1", NULL},
	{"Content-Range: bytes 0-0/1", NULL},
	{"Transfer-Encoding: chunked", NULL},
	{"Date: Sun, 06 Nov 1994 08:49:37 GMT", NULL},
	{"AGE: 1", NULL},
	{"Via: 1.1 varnish (Varnish/6.0)", NULL},
	{"Cache-Status: x; hit", NULL},
	{"Accept-Ranges: none", NULL},
	{"Set-Cookie: a=b", NULL},
	{"Alt-Svc: h3=\":443\"", NULL},
	{"Strict-Transport-Security: max-age=1", NULL},
	{"X-Original-Source: http://x", NULL},
	{"Connection: close", NULL},
	{"Keep-Alive: timeout=5", NULL},
	{"Proxy-Connection: close", NULL},
	{"Proxy-Authenticate: Basic", NULL},
	{"TE: trailers", NULL},
	{"Trailer: X-Sum", NULL},
	{"Upgrade: h2c", NULL},
	{"Connection: x-hop, close\nX-Hop: 1", NULL},
	{"X-Hop: 1\nConnection: close , X-HOP", NULL},
	{"X-Hop: 1\nX-Hop: 2\nConnection: x-hop", NULL},
	{"X-Hopper: 1\nConnection: x-hop", "X-Hopper: 1"},
	{"X-A: 1\nX-B: 2\nConnection: a\nConnection: x-a\nX-A: 3", "X-B: 2"},
};

START_TEST(only_end_to_end_fields_are_kept)
{
	char want[256] = "";

	if (kept_rows[_i].kept != NULL)
		(void)snprintf(want, sizeof(want), "%s\r\n", kept_rows[_i].kept);
	ck_assert(feed_fields(&resp, kept_rows[_i].fields));
	assert_kept(&resp, want);
}
END_TEST

/* Heads that no message follows. */
static const struct {
	const char *text;
	size_t n;
} bad_rows[] = {
#define BAD(text) {text, sizeof(text) - 1}
	BAD("no colon"),
	BAD(": no name"),
	BAD(" : no name"),
	BAD("two words: v"),
	BAD(" X: folded"),
	BAD("\tfolded"),
	BAD("X: a\rb"),
	BAD("X: a\nb"),
	BAD("X: a\0b"),
	BAD("X: a\x01"),
	BAD("X: a\x7f"),
	BAD("Content-Length: a"),
	BAD("Content-Length:"),
	BAD("Content-Length: -1"),
	BAD("Content-Length: 9223372036854775808"),
	BAD("HTTP/1.1"),
	BAD("HTTP/1.1 "),
	BAD("HTTP/1.1 20"),
	BAD("HTTP/1.1 2000 OK"),
	BAD("HTTP/1.1 099 OK"),
	BAD("HTTP/1.1 600 OK"),
	BAD("HTTP/1.1 2x0 OK"),
	BAD("HTTP/1.1 200 O\0K"),
#undef BAD
};

START_TEST(bad_lines_spoil_the_head)
{
	httpresp_reset(&resp);
	ck_assert(feed(&resp, "HTTP/1.1 200 OK\nX: y"));
	ck_assert(!httpresp_line(&resp, (struct slice){bad_rows[_i].text, bad_rows[_i].n}));
	ck_assert(resp.bad);
	ck_assert(!feed(&resp, "X: fine"));
	ck_assert(!feed(&resp, "\n"));
	/* The next head is another one. */
	ck_assert(feed(&resp, "HTTP/1.1 200 OK\nX: fine"));
}
END_TEST

START_TEST(fields_need_a_status_line)
{
	httpresp_reset(&resp);
	ck_assert(!feed(&resp, "X: y"));
	httpresp_reset(&resp);
	ck_assert(!feed(&resp, "\n"));
	httpresp_reset(&resp);
	ck_assert(feed(&resp, "HTTP/1.1 404"));
	ck_assert_int_eq(resp.status, 404);
	ck_assert(httpresp_line(&resp, SLICE("X: no line end")));
	ck_assert(httpresp_line(&resp, SLICE("Y: line feed only\n")));
	assert_kept(&resp, "X: no line end\r\nY: line feed only\r\n");
}
END_TEST

START_TEST(status_line_starts_over)
{
	httpresp_reset(&resp);
	ck_assert(feed(&resp,
	    "HTTP/1.1 103 Early Hints\n"
	    "Link: </a>\n"
	    "Content-Length: 7\n"
	    "ETag: \"hint\"\n"
	    "Connection: x-a\n"
	    "\n"
	    "HTTP/1.1 200 Connection established\n"
	    "\n"
	    "HTTP/1.1 200 OK\n"
	    "X-A: b\n"
	    "\n"));
	ck_assert_int_eq(resp.status, 200);
	ck_assert_int_eq(resp.length, -1);
	ck_assert_str_eq(resp.etag, "");
	ck_assert_uint_eq(resp.lines_n, 1);
	assert_kept(&resp, "X-A: b\r\n");
}
END_TEST

START_TEST(trailers_are_not_read)
{
	ck_assert(feed_fields(&resp, "Transfer-Encoding: Chunked\n\nX: y\nContent-Length: 5\nbad"));
	ck_assert(resp.chunked);
	ck_assert_int_eq(resp.length, -1);
	assert_kept(&resp, "");
}
END_TEST

START_TEST(lengths_must_agree)
{
	ck_assert(feed_fields(&resp, "Content-Length: 5\nContent-Length: 5, 5"));
	ck_assert_int_eq(resp.length, 5);
	ck_assert(!resp.length_conflict);
	ck_assert(feed_fields(&resp, "Content-Length: 5\nContent-Length: 6"));
	ck_assert(resp.length_conflict);
	ck_assert(feed_fields(&resp, "Content-Length: 5, 6"));
	ck_assert(resp.length_conflict);
	ck_assert(feed_fields(&resp, "Content-Length: 0"));
	ck_assert_int_eq(resp.length, 0);
}
END_TEST

static const struct {
	const char *value;
	bool bad;
	int64_t first, last, total;
} content_range_rows[] = {
	{"bytes 0-0/1", false, 0, 0, 1},
	{"Bytes 5-9/10", false, 5, 9, 10},
	{"bytes 5000000000-5847908351/5847908352", false, INT64_C(5000000000),
	    INT64_C(5847908351), INT64_C(5847908352)},
	{"bytes 5-9/*", false, 5, 9, -1},
	{"bytes */10", false, -1, -1, 10},
	{"bytes */*", true, -1, -1, -1},
	{"bytes 5-4/10", true, -1, -1, -1},
	{"bytes 5-10/10", true, -1, -1, -1},
	{"bytes 5-/10", true, -1, -1, -1},
	{"bytes -5/10", true, -1, -1, -1},
	{"bytes 5/10", true, -1, -1, -1},
	{"bytes 5-9", true, -1, -1, -1},
	{"bytes 5-9/", true, -1, -1, -1},
	{"bytes 5-9/1x", true, -1, -1, -1},
	{"bytes /10", true, -1, -1, -1},
	{"bytes=5-9/10", true, -1, -1, -1},
	{"bytes  5-9/10", true, -1, -1, -1},
	{"lines 5-9/10", true, -1, -1, -1},
	{"bytes", true, -1, -1, -1},
	{"bytes ", true, -1, -1, -1},
	{"", true, -1, -1, -1},
	{"bytes 0-99999999999999999999/*", true, -1, -1, -1},
};

START_TEST(content_range_is_read)
{
	char line[128];

	(void)snprintf(line, sizeof(line), "Content-Range: %s", content_range_rows[_i].value);
	ck_assert(feed_fields(&resp, line));
	ck_assert_int_eq(resp.range_bad, content_range_rows[_i].bad);
	ck_assert_int_eq(resp.range_first, content_range_rows[_i].first);
	ck_assert_int_eq(resp.range_last, content_range_rows[_i].last);
	ck_assert_int_eq(resp.range_total, content_range_rows[_i].total);
	ck_assert(feed(&resp, "Content-Range: bytes 0-0/1\nContent-Range: bytes 0-0/1"));
	ck_assert(resp.range_bad);
}
END_TEST

START_TEST(freshness_is_read)
{
	ck_assert(feed_fields(&resp, "Cache-Control: No-Cache=\"set-cookie, x\", private=\"a\"\n"
	    "cache-control: no-store,must-revalidate, stale-if-error=\"60\""));
	ck_assert(resp.cc.no_cache && resp.cc.is_private && resp.cc.no_store);
	ck_assert(resp.cc.must_revalidate && !resp.cc.is_public);
	ck_assert_int_eq(resp.cc.stale_if_error_s, 60);
	ck_assert_int_eq(resp.cc.max_age_s, -1);
	ck_assert(feed_fields(&resp, "Cache-Control: max-age=9, max-age=5, s-maxage=x"));
	ck_assert_int_eq(resp.cc.max_age_s, 5);
	ck_assert_int_eq(resp.cc.s_maxage_s, 0);
	ck_assert(resp.cc.must_revalidate);
	ck_assert(feed_fields(&resp, "Cache-Control: proxy-revalidate"));
	ck_assert(resp.cc.must_revalidate);
	ck_assert(feed_fields(&resp, "Expires: 0\nAge: x\nDate: x"));
	ck_assert_int_eq(resp.expires, 0);
	ck_assert_int_eq(resp.age_s, -1);
	ck_assert_int_eq(resp.date, HTTP_NO_DATE);
	ck_assert(feed_fields(&resp, "Expires: Sun, 06 Nov 1994 08:49:37 GMT\nAge: 5, 6"));
	ck_assert_int_eq(resp.expires, 784111777);
	ck_assert_int_eq(resp.age_s, 5);
}
END_TEST

START_TEST(old_date_forms_are_used_but_not_sent)
{
	ck_assert(feed_fields(&resp, "Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT"));
	ck_assert_int_eq(resp.last_modified, 784111777);
	ck_assert_str_eq(resp.last_modified_text, "");
}
END_TEST

START_TEST(signs_of_trouble_are_seen)
{
	ck_assert(feed_fields(&resp, "Content-Type: Text/HTML ; charset=utf-8"));
	ck_assert(resp.is_html);
	ck_assert_str_eq(resp.content_type, "Text/HTML ; charset=utf-8");
	ck_assert(feed_fields(&resp, "Content-Type: text/plain\nContent-Type: text/html"));
	ck_assert(!resp.is_html);
	assert_kept(&resp, "Content-Type: text/plain\r\n");
	ck_assert(feed_fields(&resp, "Content-Encoding: identity"));
	ck_assert(!resp.content_encoded);
	ck_assert(feed_fields(&resp, "Content-Encoding: gzip"));
	ck_assert(resp.content_encoded);
	ck_assert_str_eq(resp.content_coding, "gzip");
	ck_assert(feed_fields(&resp, "Content-Encoding: gzip, x-bzip2"));
	ck_assert(resp.content_encoded);
	ck_assert_str_eq(resp.content_coding, "");
	ck_assert(feed_fields(&resp, "Transfer-Encoding: identity, Chunked"));
	ck_assert(resp.chunked && !resp.transfer_encoded);
	ck_assert(feed_fields(&resp, "Transfer-Encoding: gzip, chunked"));
	ck_assert(resp.chunked && resp.transfer_encoded && !resp.content_encoded);
	ck_assert(feed_fields(&resp, "Vary: accept-encoding"));
	ck_assert(!resp.vary_any);
	ck_assert(feed_fields(&resp, "Vary: Accept-Encoding, Cookie"));
	ck_assert(resp.vary_any);
	ck_assert(feed_fields(&resp, "Vary: *"));
	ck_assert(resp.vary_any);
	ck_assert(feed_fields(&resp, "Set-Cookie: a"));
	ck_assert(resp.set_cookie);
	ck_assert(feed_fields(&resp, "Accept-Ranges: none"));
	ck_assert(resp.accept_ranges_none);
	ck_assert(feed_fields(&resp, "WWW-Authenticate: Negotiate\nWWW-Authenticate: Basic a\n"
	    "Proxy-Authenticate: Basic p\nLocation: https://cdn.example/x\nLocation: /y"));
	ck_assert_str_eq(resp.www_authenticate, "Negotiate, Basic a");
	ck_assert_str_eq(resp.proxy_authenticate, "Basic p");
	ck_assert_str_eq(resp.location, "https://cdn.example/x");
}
END_TEST

/* Builds "NAME: vvv" of n bytes in all and feeds it. */
static bool
feed_long(struct httpresp *r, const char *name, size_t n)
{
	char *line = malloc(n);
	bool ok;

	ck_assert_ptr_nonnull(line);
	memset(line, 'v', n);
	memcpy(line, name, strlen(name));
	ok = httpresp_line(r, (struct slice){line, n});
	free(line);
	return ok;
}

START_TEST(response_limits_hold)
{
	ck_assert(feed_fields(&resp, "X: y"));
	ck_assert(feed_long(&resp, "Date: ", HTTPRESP_LINE_MAX));
	ck_assert(!feed_long(&resp, "Date: ", HTTPRESP_LINE_MAX + 1));

	ck_assert(feed_fields(&resp, "X: 1"));
	for (int i = 1; i < HTTPRESP_LINES_MAX; i++)
		ck_assert(feed(&resp, "X: 2"));
	ck_assert(!feed(&resp, "X: 3"));

	/* Fields that find no room are left out, those after them are not. */
	ck_assert(feed_fields(&resp, "X-A: 1"));
	ck_assert(feed_long(&resp, "Content-Security-Policy: ", HTTPRESP_KEPT_MAX));
	ck_assert(resp.kept_cut);
	ck_assert(feed(&resp, "X-B: 2"));
	assert_kept(&resp, "X-A: 1\r\nX-B: 2\r\n");

	/* Too long for its place: no tag, but no cut Location. */
	ck_assert(feed_fields(&resp, "X-A: 1"));
	ck_assert(feed_long(&resp, "ETag: \"", sizeof(resp.etag) + 8));
	ck_assert_str_eq(resp.etag, "");
	ck_assert(feed_long(&resp, "Location: ", 10 + sizeof(resp.location) - 1));
	ck_assert_uint_eq(strlen(resp.location), sizeof(resp.location) - 1);
	ck_assert(feed_fields(&resp, "X-A: 1"));
	ck_assert(!feed_long(&resp, "Location: ", 10 + sizeof(resp.location)));
}
END_TEST

START_TEST(strong_tags_are_told_apart)
{
	ck_assert(http_etag_is_strong(SLICE("\"\"")));
	ck_assert(http_etag_is_strong(SLICE("\"a\\\xff\"")));
	ck_assert(!http_etag_is_strong(SLICE("W/\"a\"")));
	ck_assert(!http_etag_is_strong(SLICE("\"")));
	ck_assert(!http_etag_is_strong(SLICE("")));
	ck_assert(!http_etag_is_strong(SLICE("a")));
	ck_assert(!http_etag_is_strong(SLICE("\"a\"b\"")));
	ck_assert(!http_etag_is_strong(SLICE("\"a b\"")));
	ck_assert(!http_etag_is_strong(SLICE("\"a\"x")));
}
END_TEST

Suite *
check_httpmsg_suite(void)
{
	Suite *s = suite_create("httpmsg");
	TCase *tc = tcase_create("dates");

	tcase_add_loop_test(tc, date_is_read, 0, (int)NELEM(date_rows));
	tcase_add_test(tc, date_prefixes_are_none);
	tcase_add_test(tc, only_imf_is_imf);
	tcase_add_test(tc, dates_survive_the_round_trip);
	tcase_add_test(tc, format_remembers_the_right_second);
	tcase_add_test(tc, short_years_follow_the_clock);
	suite_add_tcase(s, tc);
	tc = tcase_create("headbuf");
	tcase_add_test(tc, head_is_built);
	tcase_add_test(tc, field_cannot_split_a_head);
	tcase_add_test(tc, overflow_sticks);
	tcase_add_test(tc, formatted_text_is_never_cut);
	tcase_add_test(tc, phrases_are_standard);
	suite_add_tcase(s, tc);
	tc = tcase_create("httpresp");
	tcase_add_test(tc, package_head_is_read);
	tcase_add_loop_test(tc, only_end_to_end_fields_are_kept, 0, (int)NELEM(kept_rows));
	tcase_add_loop_test(tc, bad_lines_spoil_the_head, 0, (int)NELEM(bad_rows));
	tcase_add_test(tc, fields_need_a_status_line);
	tcase_add_test(tc, status_line_starts_over);
	tcase_add_test(tc, trailers_are_not_read);
	tcase_add_test(tc, lengths_must_agree);
	tcase_add_loop_test(tc, content_range_is_read, 0, (int)NELEM(content_range_rows));
	tcase_add_test(tc, freshness_is_read);
	tcase_add_test(tc, old_date_forms_are_used_but_not_sent);
	tcase_add_test(tc, signs_of_trouble_are_seen);
	tcase_add_test(tc, response_limits_hold);
	tcase_add_test(tc, strong_tags_are_told_apart);
	suite_add_tcase(s, tc);
	return s;
}
