/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Detached signatures that gpg made, over their text and over others; whole, cut, and in pieces. */
#include "cache/sigfit.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *check_sigfit_suite(void);

#define TEXT "Origin: x\nSuite: y\n"
#define BEGIN "-----BEGIN PGP SIGNATURE-----\n\n"
#define END "-----END PGP SIGNATURE-----\n"
/* Over TEXT: as bytes, and as lines. */
#define BYTES "iHUEABYIAB0WIQQKwDGXDQCSlMHA6gimNTMZvimjxQUCawxYvQAKCRCmNTMZvimj\n" \
	"xTP8AP9oLuGxFtfRYOkd0RqFxKlSBogW6kDLpBON1Ukd23FbLgEAxCwVS3r08EaS\n" \
	"dBhj+m971RwEAEmjXyGuxfz4/0tZwws=\n=f7f1\n"
#define LINES "iHUEARYIAB0WIQQKwDGXDQCSlMHA6gimNTMZvimjxQUCawxYvQAKCRCmNTMZvimj\n" \
	"xYcxAPoCxU2IjK/ODzb+EO7Pg5FMpiw/8ulbMEle9BimcnRdDgD/YAUnYBKuTOX8\n" \
	"xysvxADt9XlwqUuG13sLLPdccrUTFgo=\n=cCUY\n"

/* BYTES without armour. */
static const unsigned char plain[] = {
	0x88, 0x75, 0x04, 0x00, 0x16, 0x08, 0x00, 0x1d, 0x16, 0x21, 0x04, 0x0a, 0xc0, 0x31, 0x97, 0x0d,
	0x00, 0x92, 0x94, 0xc1, 0xc0, 0xea, 0x08, 0xa6, 0x35, 0x33, 0x19, 0xbe, 0x29, 0xa3, 0xc5, 0x05,
	0x02, 0x6b, 0x0c, 0x58, 0xbd, 0x00, 0x0a, 0x09, 0x10, 0xa6, 0x35, 0x33, 0x19, 0xbe, 0x29, 0xa3,
	0xc5, 0x33, 0xfc,
};

static const struct {
	const char *sig, *text;
	enum sigfit fit;
} rows[] = {
	{BEGIN BYTES END, TEXT, SIGFIT_YES},
	{"-----BEGIN PGP SIGNATURE-----\r\nVersion: 1\r\n\r\n" BYTES END, TEXT, SIGFIT_YES},
	{"junk before\n" BEGIN BYTES END, TEXT, SIGFIT_YES},
	{BEGIN BYTES END, "Origin: x\nSuite: z\n", SIGFIT_NO},
	{BEGIN BYTES END, "", SIGFIT_NO},
	{BEGIN LINES END, TEXT, SIGFIT_UNKNOWN},
	{BEGIN LINES END, "Origin: x\nSuite: z\n", SIGFIT_UNKNOWN},
	{"", TEXT, SIGFIT_UNKNOWN},
	{"<html>", TEXT, SIGFIT_UNKNOWN},
	{BEGIN, TEXT, SIGFIT_UNKNOWN},
	{BEGIN END, TEXT, SIGFIT_UNKNOWN},
	{BEGIN "AAAAAAAAAAAA" END, TEXT, SIGFIT_UNKNOWN},
	{"-----BEGIN PGP SIGNATURE-----", TEXT, SIGFIT_UNKNOWN},
};

START_TEST(test_rows)
{
	ck_assert_int_eq(sigfit_check(rows[_i].sig, strlen(rows[_i].sig), rows[_i].text,
	    strlen(rows[_i].text)), rows[_i].fit);
}
END_TEST

/* A copy without a byte behind it, so that a sanitizer sees what is read beyond. */
static enum sigfit
check_exactly(const void *sig, size_t n)
{
	char *copy = malloc(n + (n == 0));
	enum sigfit fit;

	ck_assert_ptr_nonnull(copy);
	if (n > 0)
		memcpy(copy, sig, n);
	fit = sigfit_check(copy, n, TEXT, strlen(TEXT));
	free(copy);
	return fit;
}

/* Cut anywhere it is no signature; the packet's end, with the numbers of the key, is not looked at. */
START_TEST(test_cut)
{
	unsigned char whole[2 + 0x75] = {0};
	size_t n;

	memcpy(whole, plain, sizeof(plain));
	for (n = 0; n < sizeof(whole); n++)
		ck_assert_int_eq(check_exactly(whole, n), SIGFIT_UNKNOWN);
	ck_assert_int_eq(check_exactly(whole, n), SIGFIT_YES);
	for (n = 0; n < strlen(BEGIN BYTES END); n++)
		(void)check_exactly(BEGIN BYTES END, n);
}
END_TEST

/* Several packets, of both kinds of length: one that fits is enough, one that can't be read is a doubt. */
START_TEST(test_packets)
{
	unsigned char two[2 * 128] = {0};
	size_t n = 0x75 + 2;

	memcpy(two, plain, sizeof(plain));
	memcpy(two + n, plain, sizeof(plain));
	two[49]++;
	ck_assert_int_eq(check_exactly(two, n), SIGFIT_NO);
	ck_assert_int_eq(check_exactly(two, 2 * n), SIGFIT_YES);
	two[n + 50]++;
	ck_assert_int_eq(check_exactly(two, 2 * n), SIGFIT_NO);
	two[n + 2] = 6;		/* a version that is not known */
	ck_assert_int_eq(check_exactly(two, 2 * n), SIGFIT_UNKNOWN);
	two[0] = 0xc0 | 2;	/* the newer form */
	ck_assert_int_eq(check_exactly(two, n), SIGFIT_NO);
	two[0] = 0xc0 | 13;	/* no signature at all */
	ck_assert_int_eq(check_exactly(two, n), SIGFIT_UNKNOWN);
}
END_TEST

Suite *
check_sigfit_suite(void)
{
	Suite *s = suite_create("sigfit");
	TCase *tc = tcase_create("sigfit");

	tcase_add_loop_test(tc, test_rows, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	tcase_add_test(tc, test_cut);
	tcase_add_test(tc, test_packets);
	suite_add_tcase(s, tc);
	return s;
}
