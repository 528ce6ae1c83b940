/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Server names in ClientHellos: OpenSSL's own, put together by hand, cut and damaged. */
#include <check.h>
#include <openssl/ssl.h>

#include "include/obj.h"
#include "proxy/hello.h"

Suite *check_hello_suite(void);

static char scratch[HELLO_BYTES_MAX];

/* The first message of OpenSSL's client, for a host or for none. */
static size_t
hello_make(const char *host, int version, unsigned char *out, size_t cap)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	BIO *in = BIO_new(BIO_s_mem()), *wire = BIO_new(BIO_s_mem());
	int n;

	ck_assert_ptr_nonnull(ctx);
	ck_assert_int_eq(SSL_CTX_set_max_proto_version(ctx, version), 1);
	ssl = SSL_new(ctx);
	SSL_set_bio(ssl, in, wire);
	if (host != NULL)
		ck_assert_int_eq(SSL_set_tlsext_host_name(ssl, host), 1);
	SSL_set_connect_state(ssl);
	ck_assert_int_eq(SSL_do_handshake(ssl), -1);
	n = BIO_read(wire, out, (int)cap);
	ck_assert_int_gt(n, 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)n;
}

static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};

/* Whole; and whatever part of it has come, the answer is "more", never a wrong name. */
START_TEST(hello_of_openssl)
{
	unsigned char wire[4096];
	size_t n = hello_make("cuda.example", versions[_i], wire, sizeof(wire)), i;
	struct slice name = SLICE_NONE;

	ck_assert_int_eq(hello_parse(wire, n, scratch, &name), HELLO_NAMED);
	ck_assert(slice_eq(name, SLICE("cuda.example")));
	for (i = 0; i < n; i++)
		ck_assert_int_eq(hello_parse(wire, i, scratch, &name), HELLO_MORE);
	n = hello_make(NULL, versions[_i], wire, sizeof(wire));
	ck_assert_int_eq(hello_parse(wire, n, scratch, &name), HELLO_NAMELESS);
}
END_TEST

/* A client that has been here before sends data right behind it. */
START_TEST(hello_with_early_data)
{
	unsigned char wire[4096];
	size_t n = hello_make("cuda.example", TLS1_3_VERSION, wire, sizeof(wire));
	struct slice name = SLICE_NONE;

	memcpy(wire + n, "\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x40", 11);
	ck_assert_int_eq(hello_parse(wire, n + 11, scratch, &name), HELLO_NAMED);
	ck_assert(slice_eq(name, SLICE("cuda.example")));
}
END_TEST

/* The same message in records of so many bytes. */
START_TEST(hello_in_many_records)
{
	static const size_t sizes[] = {1, 2, 3, 5, 64, 200};
	unsigned char wire[4096], split[32768];
	size_t n = hello_make("cuda.example", TLS1_3_VERSION, wire, sizeof(wire)), at, k, out = 0;
	struct slice name = SLICE_NONE;

	for (at = 5; at < n; at += k) {
		k = n - at < sizes[_i] ? n - at : sizes[_i];
		split[out++] = 22;
		split[out++] = 3;
		split[out++] = 1;
		split[out++] = (unsigned char)(k >> 8);
		split[out++] = (unsigned char)k;
		memcpy(split + out, wire + at, k);
		out += k;
	}
	ck_assert_int_eq(hello_parse(split, out, scratch, &name), HELLO_NAMED);
	ck_assert(slice_eq(name, SLICE("cuda.example")));
	ck_assert_int_eq(hello_parse(split, out - 1, scratch, &name), HELLO_MORE);
}
END_TEST

/* Any single byte may be wrong: never more than a wrong name, and never a read beyond the end. */
START_TEST(hello_damaged)
{
	unsigned char wire[4096], *copy;
	size_t n = hello_make("cuda.example", TLS1_2_VERSION, wire, sizeof(wire)), i;
	struct slice name;
	unsigned v;

	for (i = 0; i < n; i++)
		for (v = 0; v < 256; v += 15) {
			copy = malloc(n);
			AN(copy);
			memcpy(copy, wire, n);
			copy[i] = (unsigned char)v;
			if (hello_parse(copy, n, scratch, &name) == HELLO_NAMED)
				ck_assert(name.p >= scratch && name.p + name.n <= scratch + n);
			free(copy);
		}
}
END_TEST

static const struct {
	const char *p;
	size_t n;
	enum hello_result want;
} odd_rows[] = {
	{"GET / HTTP/1.1\r\n", 16, HELLO_BAD},
	{"\x16\x02\x00\x00\x05", 5, HELLO_BAD},
	{"\x16\x03\x01\x00\x00", 5, HELLO_BAD},		/* an empty record */
	{"\x16\x03\x01\xff\xff", 5, HELLO_BAD},
	{"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9, HELLO_BAD},	/* a ServerHello */
	{"\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9, HELLO_BAD},	/* without content */
	{"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, HELLO_BAD},	/* would never end */
	{"\x15\x03\x01\x00\x02\x01\x00", 7, HELLO_BAD},
	{"\x16", 1, HELLO_MORE},
	{"", 0, HELLO_MORE},
};

START_TEST(hello_odd)
{
	struct slice name;

	ck_assert_int_eq(hello_parse(odd_rows[_i].p, odd_rows[_i].n, scratch, &name),
	    odd_rows[_i].want);
}
END_TEST

/* What is not done after so many bytes never will be. */
START_TEST(hello_is_bounded)
{
	static unsigned char wire[HELLO_BYTES_MAX];
	struct slice name;
	size_t at;

	for (at = 0; at + 6 <= sizeof(wire); at += 6)
		memcpy(wire + at, "\x16\x03\x01\x00\x01\x01", 6);
	memcpy(wire + 5 + 6, "\x16\x03\x01\x00\x01\x00", 6);
	memcpy(wire + 6, "\x16\x03\x01\x00\x01\x00", 6);
	memcpy(wire + 12, "\x16\x03\x01\x00\x01\x70", 6);
	memcpy(wire + 18, "\x16\x03\x01\x00\x01\x00", 6);
	ck_assert_int_eq(hello_parse(wire, sizeof(wire) - 8, scratch, &name), HELLO_MORE);
	ck_assert_int_eq(hello_parse(wire, sizeof(wire), scratch, &name), HELLO_BAD);
}
END_TEST

Suite *
check_hello_suite(void)
{
	Suite *s = suite_create("hello");
	TCase *tc = tcase_create("hello");

	tcase_add_loop_test(tc, hello_of_openssl, 0, (int)NELEM(versions));
	tcase_add_test(tc, hello_with_early_data);
	tcase_add_loop_test(tc, hello_in_many_records, 0, 6);
	tcase_add_test(tc, hello_damaged);
	tcase_add_loop_test(tc, hello_odd, 0, (int)NELEM(odd_rows));
	tcase_add_test(tc, hello_is_bounded);
	suite_add_tcase(s, tc);
	return s;
}
