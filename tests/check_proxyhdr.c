/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* PROXY headers: both versions, whole, in pieces, and what must not pass. */
#include <check.h>

#include "include/access.h"
#include "proxy/proxyhdr.h"

Suite *check_proxyhdr_suite(void);

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define V4_ADDRS "\xc0\x00\x02\x07\x0a\x00\x00\x01\x30\x39\x01\xbb"
#define V6_ADDR "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"

static const struct row {
	const char *p;
	size_t n;
	enum proxyhdr_result want;
	const char *client;		/* CLIENT only */
	size_t used;
} rows[] = {
#define R(text, want, client, used) {text, sizeof(text) - 1, want, client, used}
	R("PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\nGET", PROXYHDR_CLIENT, "192.0.2.7", 41),
	R("PROXY TCP6 2001:db8::7 ::1 12345 443\r\n", PROXYHDR_CLIENT, "2001:db8::7", 38),
	R("PROXY UNKNOWN\r\n", PROXYHDR_LOCAL, NULL, 15),
	R("PROXY UNKNOWN ::1 ::1 1 2\r\nrest", PROXYHDR_LOCAL, NULL, 27),
	R("PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY TCP4 192.0.2.7 10.0.0.1 12345 443 9\r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY TCP4 2001:db8::7 ::1 12345 443\r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY TCP4 192.0.2.7 10.0.0.1 -1 443\r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY TCP4  192.0.2.7 10.0.0.1 1 443\r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY TCP5 192.0.2.7 10.0.0.1 1 443\r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY TCP4 192.0.2.7 10.0.0.1 1 443\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY \r\n", PROXYHDR_BAD, NULL, 0),
	R("PROXY\r\n", PROXYHDR_BAD, NULL, 0),
	R("GET / HTTP/1.1\r\n", PROXYHDR_BAD, NULL, 0),
	R("\x16\x03\x01", PROXYHDR_BAD, NULL, 0),
	R(V2 "\x21\x11\0\x0c" V4_ADDRS "GET", PROXYHDR_CLIENT, "192.0.2.7", 28),
	R(V2 "\x21\x11\0\x0f" V4_ADDRS "tlvGET", PROXYHDR_CLIENT, "192.0.2.7", 31),
	R(V2 "\x21\x21\0\x24" V6_ADDR V6_ADDR "\0\x01\0\x02", PROXYHDR_CLIENT, "2001:db8::7", 52),
	R(V2 "\x20\x11\0\x0c" V4_ADDRS, PROXYHDR_LOCAL, NULL, 28),
	R(V2 "\x20\0\0\0", PROXYHDR_LOCAL, NULL, 16),
	R(V2 "\x21\0\0\0", PROXYHDR_LOCAL, NULL, 16),
	R(V2 "\x21\x11\0\x0b" V4_ADDRS, PROXYHDR_BAD, NULL, 0),
	R(V2 "\x21\x21\0\x0c" V4_ADDRS, PROXYHDR_BAD, NULL, 0),
	R(V2 "\x21\x12\0\x0c" V4_ADDRS, PROXYHDR_BAD, NULL, 0),
	R(V2 "\x31\x11\0\x0c" V4_ADDRS, PROXYHDR_BAD, NULL, 0),
	R(V2 "\x22\x11\0\x0c" V4_ADDRS, PROXYHDR_BAD, NULL, 0),
	R(V2 "\x21\x11\xff\xff", PROXYHDR_BAD, NULL, 0),
	R("", PROXYHDR_MORE, NULL, 0),
#undef R
};

START_TEST(proxyhdr_reads)
{
	const struct row *row = &rows[_i];
	struct sockaddr_in6 client;
	size_t used = 0, i;
	char text[INET6_ADDRSTRLEN];

	ck_assert_int_eq(proxyhdr_parse(row->p, row->n, &client, &used), row->want);
	if (row->want == PROXYHDR_CLIENT) {
		access_address_text((const struct sockaddr *)&client, text, sizeof(text));
		ck_assert_str_eq(text, row->client);
	}
	if (row->want != PROXYHDR_CLIENT && row->want != PROXYHDR_LOCAL)
		return;
	ck_assert_uint_eq(used, row->used);
	for (i = 0; i < used; i++)
		ck_assert_int_eq(proxyhdr_parse(row->p, i, &client, &used), PROXYHDR_MORE);
}
END_TEST

/* A line that does not end is not waited for without bound. */
START_TEST(proxyhdr_is_bounded)
{
	struct sockaddr_in6 client;
	char text[PROXYHDR_V1_MAX + 1];
	size_t used;

	memset(text, '1', sizeof(text));
	memcpy(text, "PROXY TCP4 ", 11);
	ck_assert_int_eq(proxyhdr_parse(text, PROXYHDR_V1_MAX - 1, &client, &used), PROXYHDR_MORE);
	ck_assert_int_eq(proxyhdr_parse(text, PROXYHDR_V1_MAX, &client, &used), PROXYHDR_BAD);
}
END_TEST

Suite *
check_proxyhdr_suite(void)
{
	Suite *s = suite_create("proxyhdr");
	TCase *tc = tcase_create("proxyhdr");

	tcase_add_loop_test(tc, proxyhdr_reads, 0, (int)NELEM(rows));
	tcase_add_test(tc, proxyhdr_is_bounded);
	suite_add_tcase(s, tc);
	return s;
}
