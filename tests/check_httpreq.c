/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The request parser: one table row per rule, what clients really send, and lists. */
#include "proxy/httpreq.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

Suite *check_httpreq_suite(void);

#define HOST "Host: a\r\n"
#define APT_HEAD                                                               \
	"GET http://HTTPS///developer.example/compute/cuda/repos/flat/InRelease HTTP/1.1\r\n" \
	"Host: HTTPS\r\n"                                                      \
	"Cache-Control: max-age=0\r\n"                                         \
	"Accept: text/*\r\n"                                                   \
	"User-Agent: Debian APT-HTTP/1.3 (2.6.2)\r\n"                          \
	"\r\n"

/* A head with its length, since some rows hold NUL bytes. */
#define ROW(reason, text) {REASON_##reason, text, sizeof(text) - 1}
static const struct {
	enum reason want;
	const char *text;
	size_t n;
} parse_rows[] = {
	/* request lines */
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "\r\n"),
	ROW(OK, "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"),
	ROW(OK, "GET / HTTP/1.0\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.9\r\n" HOST "\r\n"),
	ROW(OK, "get / HTTP/1.1\r\n" HOST "\r\n"),
	ROW(OK, "M-SEARCH * HTTP/1.1\r\n" HOST "\r\n"),
	ROW(OK, "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_VERSION, "GET / HTTP/2.0\r\n" HOST "\r\n"),
	ROW(REQ_VERSION, "GET / HTTP/0.9\r\n" HOST "\r\n"),
	ROW(REQ_VERSION, "PRI * HTTP/2.0\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET /\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET  HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, " GET / HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET  / HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET /  HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET\t/ HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1 \r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / b HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / http/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.10\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/11\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1,1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / FTP//1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "G(T / HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET /\x01 HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET /\x7f HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET /\0 HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "\nGET / HTTP/1.1\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "\r\n\r\n\r\n\r\n\r\n"),
	ROW(REQ_MALFORMED, "\x16\x03\x01\x02\r\n\r\n"),
	/* line ends and field syntax */
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "X:\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "X: a\tb \xff\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\n" "Host: a\n" "\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\x1b\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X: a\r\n\tb\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n X: a\r\n" HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X : a\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X\t: a\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X a\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X(y): a\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "X\xe4: a\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "\r\nX"),
	/* Host */
	ROW(OK, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\nHOST: [2001:db8::1]:3142\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.2\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\nHost:\r\nhost: a\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.0\r\n" HOST HOST "\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
	/* framing */
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775807\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "Content-Length: 9223372036854775808\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "Content-Length: 18446744073709551616\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b" "chunked\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
	/* fields that must not be repeated */
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "Range: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST "If-Range: \"a\"\r\nif-range: \"a\"\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "If-Modified-Since: a\r\nIf-Modified-Since: b\r\n\r\n"),
	ROW(REQ_MALFORMED, "GET / HTTP/1.1\r\n" HOST
	    "If-Unmodified-Since: a\r\nIf-Unmodified-Since: b\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "Accept: a\r\nAccept: b\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\n" HOST "If-Match: \"a\"\r\nIf-Match: \"b\"\r\n\r\n"),
	ROW(OK, "GET / HTTP/1.1\r\n" HOST
	    "If-None-Match: \"a\"\r\nif-none-match: \"b\"\r\n\r\n"),
};

START_TEST(parse_says_what_is_wrong)
{
	struct httpreq r;
	/* Exactly as large as the head, so that a sanitizer sees a read behind it. */
	char *copy = malloc(parse_rows[_i].n);

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, parse_rows[_i].text, parse_rows[_i].n);
	ck_assert_str_eq(reason_name(httpreq_parse(&r, copy, parse_rows[_i].n)),
	    reason_name(parse_rows[_i].want));
	free(copy);
}
END_TEST

static void
assert_slice(struct slice s, const char *want)
{
	char text[256];

	if (want == NULL) {
		ck_assert_ptr_null(s.p);
		return;
	}
	ck_assert_ptr_nonnull(s.p);
	ck_assert_uint_lt(s.n, sizeof(text));
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	ck_assert_str_eq(text, want);
}

START_TEST(apt_request_is_read)
{
	struct httpreq r;

	ck_assert_int_eq(httpreq_parse(&r, APT_HEAD, sizeof(APT_HEAD) - 1), REASON_OK);
	ck_assert_int_eq(r.method, HTTP_GET);
	assert_slice(r.method_text, "GET");
	assert_slice(r.target,
	    "http://HTTPS///developer.example/compute/cuda/repos/flat/InRelease");
	ck_assert_uint_eq(r.minor, 1);
	ck_assert(r.keep_alive);
	ck_assert(!r.has_body);
	ck_assert_int_eq(r.cc_max_age_s, 0);
	ck_assert(!r.cc_no_cache && !r.cc_no_store && !r.cc_only_if_cached);
	assert_slice(r.host, "HTTPS");
	assert_slice(r.user_agent, "Debian APT-HTTP/1.3 (2.6.2)");
	assert_slice(r.range, NULL);
	ck_assert_uint_eq(r.fields_n, 4);
	assert_slice(r.fields[1].name, "Cache-Control");
	assert_slice(r.fields[1].value, "max-age=0");
}
END_TEST

START_TEST(every_known_field_is_found)
{
	static const char head[] =
	    "HEAD /x HTTP/1.1\r\n"
	    "HOST:\t h:1 \t\r\n"
	    "rAnGe: bytes=5-\r\n"
	    "If-Range: \"r\"\r\n"
	    "If-None-Match: \"n\"\r\n"
	    "If-None-Match: \"second\"\r\n"
	    "If-Modified-Since: im\r\n"
	    "If-Match: \"m\"\r\n"
	    "If-Unmodified-Since: iu\r\n"
	    "Authorization: Basic a\r\n"
	    "User-Agent: ua\r\n"
	    "Via: 1.1 v\r\n"
	    "Via: 1.1 second\r\n"
	    "X-Host: no\r\n"
	    "Ho3t: no\r\n"
	    "\r\n";
	struct httpreq r;

	ck_assert_int_eq(httpreq_parse(&r, head, sizeof(head) - 1), REASON_OK);
	ck_assert_int_eq(r.method, HTTP_HEAD);
	assert_slice(r.host, "h:1");
	assert_slice(r.range, "bytes=5-");
	assert_slice(r.if_range, "\"r\"");
	assert_slice(r.if_none_match, "\"n\"");
	assert_slice(r.if_modified_since, "im");
	assert_slice(r.if_match, "\"m\"");
	assert_slice(r.if_unmodified_since, "iu");
	assert_slice(r.authorization, "Basic a");
	assert_slice(r.user_agent, "ua");
	assert_slice(r.via, "1.1 v");
	ck_assert_uint_eq(r.fields_n, 14);
	ck_assert_int_eq(r.cc_max_age_s, -1);
}
END_TEST

/* What fields mean together. */
static const struct {
	const char *head;
	bool keep_alive, has_body, no_cache, no_store, only_if_cached;
	int64_t max_age_s;
} meaning_rows[] = {
	{"GET / HTTP/1.1\r\n" HOST, true, false, false, false, false, -1},
	{"GET / HTTP/1.0\r\n", false, false, false, false, false, -1},
	{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", true, false, false, false, false, -1},
	{"GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n", false, false, false, false, false,
	    -1},
	{"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", false, false, false, false, false,
	    -1},
	{"GET / HTTP/1.1\r\n" HOST "Connection: te, CLOSE\r\n", false, false, false, false, false,
	    -1},
	{"GET / HTTP/1.1\r\n" HOST "Connection: te\r\nConnection: close\r\n", false, false, false,
	    false, false, -1},
	{"GET / HTTP/1.1\r\n" HOST "Connection: closed\r\n", true, false, false, false, false, -1},
	{"GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n", true, false, false, false, false, -1},
	{"GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n", true, true, false, false, false, -1},
	{"GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n", true, true, false, false,
	    false, -1},
	{"GET / HTTP/1.1\r\n" HOST "Cache-Control: no-cache\r\nPragma: no-cache\r\n", true, false,
	    true, false, false, -1},
	{"GET / HTTP/1.1\r\n" HOST "Pragma: no-cache\r\n", true, false, true, false, false, -1},
	{"GET / HTTP/1.1\r\n" HOST "Pragma: no-cache\r\nCache-Control: max-age=7\r\n", true, false,
	    false, false, false, 7},
	{"GET / HTTP/1.1\r\n" HOST "Cache-Control: No-Store , only-if-cached\r\n", true, false,
	    false, true, true, -1},
	{"GET / HTTP/1.1\r\n" HOST "Cache-Control: max-age=\"60\"\r\nCache-Control: max-age=5\r\n",
	    true, false, false, false, false, 5},
	{"GET / HTTP/1.1\r\n" HOST "Cache-Control: max-age=soon\r\n", true, false, false, false,
	    false, 0},
	{"GET / HTTP/1.1\r\n" HOST "Cache-Control: max-age=99999999999999999999999\r\n", true,
	    false, false, false, false, INT64_C(1) << 31},
	{"GET / HTTP/1.1\r\n" HOST "Cache-Control: ext=\"no-cache, max-age=1\"\r\n", true, false,
	    false, false, false, -1},
};

START_TEST(fields_have_their_meaning)
{
	struct httpreq r;
	char head[512];
	int n = snprintf(head, sizeof(head), "%s\r\n", meaning_rows[_i].head);

	ck_assert_int_eq(httpreq_parse(&r, head, (size_t)n), REASON_OK);
	ck_assert_int_eq(r.keep_alive, meaning_rows[_i].keep_alive);
	ck_assert_int_eq(r.has_body, meaning_rows[_i].has_body);
	ck_assert_int_eq(r.cc_no_cache, meaning_rows[_i].no_cache);
	ck_assert_int_eq(r.cc_no_store, meaning_rows[_i].no_store);
	ck_assert_int_eq(r.cc_only_if_cached, meaning_rows[_i].only_if_cached);
	ck_assert_int_eq(r.cc_max_age_s, meaning_rows[_i].max_age_s);
}
END_TEST

START_TEST(methods_are_told_apart)
{
	static const struct {
		const char *text;
		enum http_method want;
	} rows[] = {{"GET", HTTP_GET}, {"HEAD", HTTP_HEAD}, {"CONNECT", HTTP_CONNECT},
	    {"POST", HTTP_OTHER}, {"get", HTTP_OTHER}, {"GETS", HTTP_OTHER}, {"G", HTTP_OTHER}};

	for (size_t i = 0; i < NELEM(rows); i++) {
		struct httpreq r;
		char head[64];
		int n = snprintf(head, sizeof(head), "%s a:1 HTTP/1.1\r\n" HOST "\r\n",
		    rows[i].text);

		ck_assert_int_eq(httpreq_parse(&r, head, (size_t)n), REASON_OK);
		ck_assert_int_eq(r.method, rows[i].want);
		assert_slice(r.method_text, rows[i].text);
	}
}
END_TEST

/* Parses a head with a target of target_n bytes and fields_n fields, Host among them. */
static enum reason
parse_sized(size_t target_n, unsigned fields_n, size_t last_value_n)
{
	char *head = malloc(2 * HTTPREQ_HEAD_MAX), *p = head;
	struct httpreq r;
	enum reason why;

	ck_assert_ptr_nonnull(head);
	p += sprintf(p, "GET ");
	memset(p, 'a', target_n);
	p += target_n;
	p += sprintf(p, " HTTP/1.1\r\n" HOST);
	for (unsigned i = 1; i < fields_n; i++)
		p += sprintf(p, "X-%u: v\r\n", i);
	p -= 2;
	memset(p, 'v', last_value_n);
	p += last_value_n;
	p += sprintf(p, "\r\n\r\n");
	why = httpreq_parse(&r, head, (size_t)(p - head));
	free(head);
	return why;
}

START_TEST(limits_hold)
{
	const size_t rest_n = strlen("GET a HTTP/1.1\r\n" HOST "\r\n");

	ck_assert_int_eq(parse_sized(HTTPREQ_TARGET_MAX, 1, 0), REASON_OK);
	ck_assert_int_eq(parse_sized(HTTPREQ_TARGET_MAX + 1, 1, 0), REASON_REQ_URI_TOO_LONG);
	ck_assert_int_eq(parse_sized(1, HTTPREQ_FIELDS_MAX, 0), REASON_OK);
	ck_assert_int_eq(parse_sized(1, HTTPREQ_FIELDS_MAX + 1, 0), REASON_REQ_HEAD_TOO_BIG);
	ck_assert_int_eq(parse_sized(1, 1, HTTPREQ_HEAD_MAX - rest_n), REASON_OK);
	ck_assert_int_eq(parse_sized(1, 1, HTTPREQ_HEAD_MAX - rest_n + 1),
	    REASON_REQ_HEAD_TOO_BIG);
}
END_TEST

/* Feeds text byte by byte and says where the end was found, and at which byte. */
static void
assert_head_end(const char *text, size_t n, size_t want)
{
	size_t scanned = 0, whole = 0;

	ck_assert_uint_eq(httpreq_head_end(text, n, &whole), want);
	for (size_t i = 0; i <= n; i++) {
		size_t got = httpreq_head_end(text, i, &scanned);

		if (want == 0 || i < want) {
			ck_assert_uint_eq(got, 0);
			ck_assert_uint_eq(scanned, i);
		} else {
			ck_assert_uint_eq(got, want);
			return;
		}
	}
}

START_TEST(head_end_is_found_in_any_cut)
{
	static const struct {
		const char *text;
		size_t want;
	} rows[] = {
		{APT_HEAD, sizeof(APT_HEAD) - 1},
		{APT_HEAD APT_HEAD, sizeof(APT_HEAD) - 1},
		{"\r\n\r\n" APT_HEAD "x", sizeof(APT_HEAD) - 1 + 4},
		{"GET / HTTP/1.1\r\nHost: a\r\n", 0},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r", 0},
		{"GET / HTTP/1.1\r\n\r\r\n", 0},
		{"\r\n\r\n\r\n\r\n", 0},
		{"\r\n\r\n\r\n\r\n\r\n", 10},
		{"\r", 0},
		{"\n", 1},
		{"a\n\nb", 3},
		{"a\n\r\nb", 4},
		{"a\r\n\nb", 4},
		{"", 0},
	};

	for (size_t i = 0; i < NELEM(rows); i++)
		assert_head_end(rows[i].text, strlen(rows[i].text), rows[i].want);
}
END_TEST

START_TEST(every_shorter_head_is_refused)
{
	struct httpreq r;

	for (size_t n = 0; n < sizeof(APT_HEAD) - 1; n++)
		ck_assert_int_eq(httpreq_parse(&r, APT_HEAD, n), REASON_REQ_MALFORMED);
}
END_TEST

START_TEST(lists_are_split)
{
	static const struct {
		const char *list;
		const char *want[4];
	} rows[] = {
		{"", {NULL}},
		{" , ,\t", {NULL}},
		{"a", {"a"}},
		{" a , b,,c ", {"a", "b", "c"}},
		{"a=\"x, y\", b", {"a=\"x, y\"", "b"}},
		{"a=\"x\\\", y\", b", {"a=\"x\\\", y\"", "b"}},
		{"\"open, b", {"\"open, b"}},
		{"\"\\", {"\"\\"}},
	};

	for (size_t i = 0; i < NELEM(rows); i++) {
		struct slice rest = slice_of(rows[i].list), element;
		unsigned k = 0;

		while (http_list_next(&rest, &element)) {
			ck_assert_ptr_nonnull(rows[i].want[k]);
			assert_slice(element, rows[i].want[k++]);
		}
		ck_assert_ptr_null(rows[i].want[k]);
		ck_assert_uint_eq(rest.n, 0);
	}
	ck_assert(http_list_has(SLICE("gzip, Chunked"), SLICE("chunked")));
	ck_assert(!http_list_has(SLICE("gzip, xchunked"), SLICE("chunked")));
	ck_assert(!http_list_has(SLICE_NONE, SLICE("chunked")));
}
END_TEST

START_TEST(small_pieces_are_read)
{
	struct slice name, value;

	ck_assert(http_is_token(SLICE("X-a!~1")));
	ck_assert(!http_is_token(SLICE("")));
	ck_assert(!http_is_token(SLICE("a b")));
	ck_assert(!http_is_token(SLICE("a:")));
	ck_assert_int_eq(http_delta_parse(SLICE("60")), 60);
	ck_assert_int_eq(http_delta_parse(SLICE("2147483649")), INT64_C(1) << 31);
	ck_assert_int_eq(http_delta_parse(SLICE("-1")), -1);
	ck_assert_int_eq(http_delta_parse(SLICE("")), -1);
	http_directive_split(SLICE("a = \"b c\""), &name, &value);
	assert_slice(name, "a");
	assert_slice(value, "b c");
	http_directive_split(SLICE("a"), &name, &value);
	assert_slice(name, "a");
	assert_slice(value, NULL);
	http_directive_split(SLICE("=\""), &name, &value);
	assert_slice(name, "");
	assert_slice(value, "\"");
}
END_TEST

Suite *
check_httpreq_suite(void)
{
	Suite *s = suite_create("httpreq");
	TCase *tc = tcase_create("httpreq");

	tcase_add_loop_test(tc, parse_says_what_is_wrong, 0, (int)NELEM(parse_rows));
	tcase_add_loop_test(tc, fields_have_their_meaning, 0, (int)NELEM(meaning_rows));
	tcase_add_test(tc, apt_request_is_read);
	tcase_add_test(tc, every_known_field_is_found);
	tcase_add_test(tc, methods_are_told_apart);
	tcase_add_test(tc, limits_hold);
	tcase_add_test(tc, head_end_is_found_in_any_cut);
	tcase_add_test(tc, every_shorter_head_is_refused);
	tcase_add_test(tc, lists_are_split);
	tcase_add_test(tc, small_pieces_are_read);
	suite_add_tcase(s, tc);
	return s;
}
