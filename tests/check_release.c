/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Release and InRelease as publishers write them, and as nobody should. */
#include "cache/release.h"
#include "cache/relpath.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *check_release_suite(void);

#define H16 "0123456789abcdef"
#define A256 H16 H16 H16 H16
#define B256 "ffff456789abcdef" H16 H16 H16
#define A512 A256 A256
#define A1 "0123456789abcdef0123456789abcdef01234567"
#define A5 H16 H16
#define DATE "Date: Sat, 09 Jul 2022 09:50:57 UTC\n"
#define DATE_S 1657360257
#define LIST " " A256 " 10 Packages\n " B256 " 20 Packages.gz\n"
#define BEGIN "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
#define SIGNATURE "-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n=abcd\n"
#define END SIGNATURE "-----END PGP SIGNATURE-----\n"

static char why[RELEASE_WHY_BYTES];

static enum reason
parse(const char *text, struct release **r_p)
{
	size_t n = strlen(text);
	char *copy = malloc(n + 1);	/* exactly as long, so that a sanitizer sees reads beyond */
	enum reason r;

	memcpy(copy, text, n);
	*r_p = NULL;
	r = release_parse(r_p, copy, n, why, sizeof(why));
	free(copy);
	ck_assert((r == REASON_OK) == (*r_p != NULL));
	ck_assert((r == REASON_OK) == (why[0] == '\0'));
	return r;
}

/* A flat repository as CUDA's generator writes it. */
START_TEST(reads_flat)
{
	static const char text[] = BEGIN
	    "Origin: NVIDIA\nLabel: NVIDIA CUDA\nArchitecture: x86_64\n"
	    "Date: Sat, 9 Jul 2022 09:50:57 +0000\nAcquire-By-Hash: no\n"
	    "MD5Sum:\n " A5 " 10 Packages\n " A5 " 20 Packages.gz\n"
	    "SHA1:\n " A1 " 10 ./Packages\n"
	    "SHA256:\n" LIST END;
	struct release *r;
	const struct release_file *f;

	ck_assert_msg(parse(text, &r) == REASON_OK, "%s", why);
	ck_assert(r->is_signed && !r->by_hash);
	ck_assert_int_eq(r->date_s, DATE_S);
	ck_assert(r->valid_until_s == RELEASE_NO_TIME);
	ck_assert_str_eq(r->origin, "NVIDIA");
	ck_assert_str_eq(r->label, "NVIDIA CUDA");
	ck_assert_str_eq(r->suite, "");
	ck_assert_uint_eq(r->files_n, 2);
	f = release_find(r, SLICE("Packages.gz"));
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(f->size_bytes, 20);
	ck_assert(f->has_sha256 && !f->has_sha512);
	ck_assert_int_eq(f->sha256[0], 0xff);
	ck_assert_int_eq(f->sha256[31], 0xef);
	ck_assert_ptr_null(release_find(r, SLICE("Packages.g")));
	ck_assert_ptr_null(release_find(r, SLICE("")));
	ck_assert_ptr_eq(release_first_packages(r), f);
	ck_assert_uint_eq(release_unpacked_bytes(r, f), 10);
	release_free(&r);
	ck_assert_ptr_null(r);
}
END_TEST

START_TEST(reads_dists)
{
	static const char text[] =
	    "Origin: Debian\nLabel: Debian\nSuite: stable\nVersion: 12.1\nCodename: bookworm\n"
	    "Changelogs: https://changes.example/@CHANGEPATH@\n" DATE
	    "Valid-Until: Sat, 16 Jul 2022 09:50:57 UTC\nacquire-by-hash: yes\n"
	    "Architectures: all amd64\nDescription: Debian 12\n"
	    "SHA512: \n " A512 " 7 main/i18n/Translation-en.bz2\n"
	    "SHA256:\n " A256 "        7 main/i18n/Translation-en.bz2\n "
	    A256 " 123456789012 main/binary-amd64/Packages.xz\n\t"
	    A256 " 0 contrib/.//c++/./Sources\r\n"
	    "MD5Sum:\n " A5 " 9 main/installer/only-md5\n\n\n";
	struct release *r;
	const struct release_file *f;

	ck_assert_msg(parse(text, &r) == REASON_OK, "%s", why);
	ck_assert(!r->is_signed && r->by_hash);
	ck_assert_int_eq(r->valid_until_s, DATE_S + 7 * 86400);
	ck_assert_str_eq(r->codename, "bookworm");
	ck_assert_str_eq(r->suite, "stable");
	ck_assert_uint_eq(r->files_n, 4);
	for (size_t i = 1; i < r->files_n; i++)
		ck_assert_int_lt(strcmp(r->files[i - 1].path.p, r->files[i].path.p), 0);
	f = release_find(r, SLICE("main/i18n/Translation-en.bz2"));
	ck_assert(f != NULL && f->has_sha256 && f->has_sha512 && f->size_bytes == 7);
	f = release_find(r, SLICE("main/binary-amd64/Packages.xz"));
	ck_assert(f != NULL && f->size_bytes == UINT64_C(123456789012));
	ck_assert_uint_eq(release_unpacked_bytes(r, f), 0);
	f = release_find(r, SLICE("contrib/c++/Sources"));
	ck_assert(f != NULL && f->size_bytes == 0);
	ck_assert_ptr_eq(release_find_url(r, SLICE("contrib/c++/Sources")), f);
	ck_assert_ptr_eq(release_find_url(r, SLICE("contrib/c%2B%2b/Sources")), f);
	ck_assert_ptr_null(release_find_url(r, SLICE("contrib%2fc++/Sources")));
	ck_assert_ptr_null(release_find_url(r, SLICE("contrib/c++/Sources?x")));
	f = release_find(r, SLICE("main/installer/only-md5"));
	ck_assert(f != NULL && !f->has_sha256 && !f->has_sha512);
	ck_assert_ptr_null(release_first_packages(r));
	release_free(&r);
}
END_TEST

static const struct {
	const char *text;
	enum reason reason;
	const char *words;
} bad[] = {
	{"", REASON_NOT_A_RELEASE, "empty"},
	{"\n \n\t\n", REASON_NOT_A_RELEASE, "neither SHA256 nor SHA512"},
	{"<!doctype html><html>", REASON_NOT_A_RELEASE, "HTML"},
	{"\n  <html>\nDate: x\n", REASON_NOT_A_RELEASE, "HTML"},
	{"404 not found\n", REASON_NOT_A_RELEASE, "colon"},
	{"Error: no such thing\n", REASON_NOT_A_RELEASE, "neither SHA256 nor SHA512"},
	{DATE, REASON_NOT_A_RELEASE, "neither SHA256 nor SHA512"},
	{DATE "MD5Sum:\n " A5 " 1 Packages\n", REASON_NOT_A_RELEASE, "neither"},
	{" " DATE "SHA256:\n" LIST, REASON_NOT_A_RELEASE, "continuation"},
	{DATE DATE "SHA256:\n" LIST, REASON_RELEASE_BAD, "two Date"},
	{DATE "Valid-Until: never\nSHA256:\n" LIST, REASON_RELEASE_BAD, "Valid-Until"},
	{DATE "SHA256:\n" LIST "SHA256:\n" LIST, REASON_RELEASE_BAD, "two SHA256 sections"},
	{DATE "SHA256:\n" LIST "\nSHA512:\n", REASON_RELEASE_BAD, "second stanza"},
	{DATE "SHA256:\n " A256 " 10 Packages\n " A256 " 11 Packages\n", REASON_RELEASE_BAD,
	    "two sizes of \"Packages\""},
	{DATE "SHA256:\n " A256 " 10 Packages\n " B256 " 10 ./Packages\n", REASON_RELEASE_BAD,
	    "two SHA256 of \"Packages\""},
	{DATE "SHA256:\n " A256 " 10 P\nSHA512:\n " A512 " 11 P\n", REASON_RELEASE_BAD, "two sizes"},
	{DATE "SHA256:\n " A256 " 10 P\nMD5Sum:\n " A5 " 11 P\n", REASON_RELEASE_BAD, "two sizes"},
	{DATE "SHA256:\n " A512 " 10 P\n", REASON_RELEASE_BAD, "no digest, size and path"},
	{DATE "SHA256:\n " A1 " 10 P\n", REASON_RELEASE_BAD, "no digest"},
	{DATE "SHA256:\n x" A256 " 10 P\n", REASON_RELEASE_BAD, "no digest"},
	{DATE "SHA256:\n " A256 " -1 P\n", REASON_RELEASE_BAD, "no digest"},
	{DATE "SHA256:\n " A256 " 0x10 P\n", REASON_RELEASE_BAD, "no digest"},
	{DATE "SHA256:\n " A256 " 99999999999999999999 P\n", REASON_RELEASE_BAD, "no digest"},
	{DATE "SHA256:\n " A256 " P\n", REASON_RELEASE_BAD, "no digest"},
	{DATE "SHA256:\n abc 10 P\n " A256 " 10 Q\n", REASON_RELEASE_BAD, "path: \"abc 10 P\""},
	{DATE "SHA256:\n " A256 " 10\n", REASON_RELEASE_BAD, "not relative"},
	{DATE "SHA256:\n " A256 " 10 /etc/passwd\n", REASON_RELEASE_BAD, "\"/etc/passwd\""},
	{DATE "SHA256:\n " A256 " 10 ../x\n", REASON_RELEASE_BAD, "not relative"},
	{DATE "SHA256:\n " A256 " 10 a/../../x\n", REASON_RELEASE_BAD, "not relative"},
	{DATE "SHA256:\n " A256 " 10 a/..\n", REASON_RELEASE_BAD, "not relative"},
	{DATE "SHA256:\n " A256 " 10 a/\n", REASON_RELEASE_BAD, "not relative"},
	{DATE "SHA256:\n " A256 " 10 a\x01z\n", REASON_RELEASE_BAD, "not relative"},
	{DATE "SHA256:\n " A256 " 10 .\n", REASON_RELEASE_BAD, "not relative"},
	/* Armour. */
	{BEGIN, REASON_NOT_A_RELEASE, "before its signature"},
	{"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n", REASON_NOT_A_RELEASE, "header"},
	{"-----BEGIN PGP SIGNED MESSAGE-----\n" DATE "\nSHA256:\n" LIST END, REASON_NOT_A_RELEASE,
	    "header other than Hash"},
	{BEGIN DATE "SHA256:\n" LIST, REASON_NOT_A_RELEASE, "before its signature"},
	{BEGIN DATE "SHA256:\n" LIST SIGNATURE, REASON_NOT_A_RELEASE, "within its signature"},
	{BEGIN DATE "SHA256:\n" LIST SIGNATURE "-----END PGP SIGNAT", REASON_NOT_A_RELEASE,
	    "second armour line"},
	{BEGIN DATE "SHA256:\n" LIST SIGNATURE END, REASON_NOT_A_RELEASE, "second armour line"},
	{BEGIN DATE "SHA256:\n" LIST END "X: y\n", REASON_NOT_A_RELEASE, "behind its signature"},
	{BEGIN DATE "SHA256:\n" LIST END BEGIN DATE "SHA256:\n" LIST END, REASON_NOT_A_RELEASE,
	    "behind its signature"},
	{"X: y\n" BEGIN DATE "SHA256:\n" LIST END, REASON_NOT_A_RELEASE, "colon"},
	{BEGIN DATE "-----BEGIN PGP SIGNED MESSAGE-----\nSHA256:\n" LIST END, REASON_NOT_A_RELEASE,
	    "unescaped dash"},
	{BEGIN DATE "-x: y\nSHA256:\n" LIST END, REASON_NOT_A_RELEASE, "unescaped dash"},
};

START_TEST(refuses)
{
	struct release *r;

	ck_assert_msg(parse(bad[_i].text, &r) == bad[_i].reason, "row %d: %s", _i, why);
	ck_assert_msg(strstr(why, bad[_i].words) != NULL, "row %d: %s", _i, why);
}
END_TEST

/* Cut anywhere, an InRelease is no Release: a short body must never become a generation. */
START_TEST(refuses_each_cut)
{
	static const char text[] = BEGIN DATE "SHA256:\n" LIST END;
	struct release *r;
	char cut[sizeof(text)];

	/* Without its very last line end it is still whole. */
	for (size_t n = 0; n < sizeof(text) - 2; n++) {
		memcpy(cut, text, n);
		cut[n] = '\0';
		ck_assert_msg(parse(cut, &r) == REASON_NOT_A_RELEASE, "%zu: %s", n, why);
	}
	memcpy(cut, text, sizeof(text));
	cut[sizeof(text) - 2] = '\0';
	ck_assert_int_eq(parse(cut, &r), REASON_OK);
	release_free(&r);
}
END_TEST

START_TEST(refuses_nul_and_length)
{
	static const char text[] = DATE "Label: a\0b\nSHA256:\n" LIST;
	struct release *r = NULL;
	char *large = calloc(1, RELEASE_TEXT_MAX + 1);

	ck_assert_int_eq(release_parse(&r, text, sizeof(text) - 1, why, sizeof(why)),
	    REASON_NOT_A_RELEASE);
	ck_assert_ptr_nonnull(strstr(why, "NUL"));
	ck_assert_ptr_nonnull(large);
	ck_assert_int_eq(release_parse(&r, large, RELEASE_TEXT_MAX + 1, why, sizeof(why)),
	    REASON_NOT_A_RELEASE);
	ck_assert_ptr_nonnull(strstr(why, "16 MiB"));
	free(large);
	ck_assert_ptr_null(r);
}
END_TEST

/* Dash escapes, CRLF, blank lines around: all the same content, and the same identity. */
START_TEST(identity_is_of_the_content)
{
	static const char *const same[] = {
		DATE "SHA256:\n" LIST,
		BEGIN DATE "SHA256:\n" LIST END,
		BEGIN "- " DATE "- SHA256:\n" LIST END "\n\n",
		"\n\n" BEGIN DATE "SHA256:\n" LIST END,
		"-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\n"
		"Date: Sat, 09 Jul 2022 09:50:57 UTC\r\nSHA256:\r\n " A256 " 10 Packages\r\n "
		B256 " 20 Packages.gz\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\nxx\r\n"
		"-----END PGP SIGNATURE-----\r\n",
		"SHA256:\n " B256 " 20 ./Packages.gz\n " A256 " 10 Packages\n "
		A256 " 10 Packages\nDate: 09 Jul 2022 09:50:57 GMT\n\n",
		"Label: other\n" DATE "SHA256:\n" LIST,
	};
	static const char *const other[] = {
		"Date: Sat, 09 Jul 2022 09:50:58 UTC\nSHA256:\n" LIST,
		DATE "SHA256:\n " A256 " 10 Packages\n",
		DATE "SHA256:\n " A256 " 10 Packages\n " B256 " 21 Packages.gz\n",
		DATE "SHA256:\n " A256 " 10 Packages\n " A256 " 20 Packages.gz\n",
		DATE "SHA256:\n " A256 " 10 Packages\n " B256 " 20 Packages.xz\n",
		DATE "SHA256:\n" LIST "SHA512:\n " A512 " 10 Packages\n",
	};
	struct release *first, *r;

	ck_assert_int_eq(parse(same[0], &first), REASON_OK);
	for (size_t i = 0; i < NELEM(same); i++) {
		ck_assert_msg(parse(same[i], &r) == REASON_OK, "%zu: %s", i, why);
		ck_assert_mem_eq(r->identity, first->identity, 32);
		release_free(&r);
	}
	for (size_t i = 0; i < NELEM(other); i++) {
		ck_assert_msg(parse(other[i], &r) == REASON_OK, "%zu: %s", i, why);
		ck_assert_mem_ne(r->identity, first->identity, 32);
		release_free(&r);
	}
	release_free(&first);
}
END_TEST

START_TEST(reads_dates)
{
	static const struct {
		const char *text;
		int64_t want;
	} rows[] = {
		{"Sat, 09 Jul 2022 09:50:57 UTC", DATE_S},
		{"Sat, 9 Jul 2022 09:50:57 GMT", DATE_S},
		{"Sat, 09 Jul 2022 09:50:57 +0000", DATE_S},
		{"Sat, 09 Jul 2022 09:50:57 -0000", DATE_S},
		{"Sat, 09 Jul 2022 11:50:57 +0200", DATE_S},
		{"Fri, 08 Jul 2022 23:20:57 -1030", DATE_S},
		{"Sat, 09 Jul 2022 9:50:57 Z", DATE_S},
		{"  sat,  09 jul 2022 09:50:57   UTC  ", DATE_S},
		{"Thu, 01 Jan 1970 00:00:00 UTC", 0},
		{"Thu, 29 Feb 2024 00:00:00 UTC", 1709164800},
		{"Wed, 31 Dec 2098 23:59:59 UTC", 4070908799},
		{"Mon, 01 Mar 2100 00:00:00 UTC", 4107542400},
		{"Sat, 09 Jul 2022 09:50 UTC", DATE_S - 57},
		{"Sat Jul  9 09:50:57 2022", DATE_S},
		{"Sat Jul 09 09:50:57 2022", DATE_S},
		{"Sat Jul  9 2022 09:50:57", RELEASE_NO_TIME},
		{"Sat Jul  9 09:50:57 2022 UTC", RELEASE_NO_TIME},
		{"Sat 9 Jul 09:50:57 2022", RELEASE_NO_TIME},
		{"Sat", RELEASE_NO_TIME},
		{"", RELEASE_NO_TIME},
		{"2022-07-09T09:50:57Z", RELEASE_NO_TIME},
		{"Sat Jul  9 09:50:57 UTC 2022", RELEASE_NO_TIME},
		{"Sat, 32 Jul 2022 09:50:57 UTC", RELEASE_NO_TIME},
		{"Sat, 00 Jul 2022 09:50:57 UTC", RELEASE_NO_TIME},
		{"Sat, 09 Jux 2022 09:50:57 UTC", RELEASE_NO_TIME},
		{"Sat, 09 Jul 22022 09:50:57 UTC", RELEASE_NO_TIME},
		{"Sat, 09 Jul 2022 24:50:57 UTC", RELEASE_NO_TIME},
		{"Sat, 09 Jul 2022 09:60:57 UTC", RELEASE_NO_TIME},
		{"Sat, 09 Jul 2022 09:50:57", RELEASE_NO_TIME},
		{"Sat, 09 Jul 2022 09:50:57 CEST", RELEASE_NO_TIME},
		{"Sat, 09 Jul 2022 09:50:57 +02:00", RELEASE_NO_TIME},
		{"Sat, 09 Jul 2022 09:50:57 UTC x", RELEASE_NO_TIME},
		{"Sat, 09 Jul 2022 09:-50:57 UTC", RELEASE_NO_TIME},
		{"Sat, 09 Jul 1969 09:50:57 UTC", RELEASE_NO_TIME},
	};

	for (size_t i = 0; i < NELEM(rows); i++)
		ck_assert_msg(release_parse_date(slice_of(rows[i].text)) == rows[i].want, "%s: %lld",
		    rows[i].text, (long long)release_parse_date(slice_of(rows[i].text)));
}
END_TEST

/* apt takes a Release without a Date, or with one that it can't read. */
START_TEST(reads_without_a_date)
{
	static const char *const texts[] = {
		"Origin: NVIDIA\nSHA256:\n" LIST, "Date:\nSHA256:\n" LIST,
		"Date: 2022-07-09T09:50:57Z\nValid-Until:\nSHA256:\n" LIST,
	};
	struct release *r;

	for (size_t i = 0; i < NELEM(texts); i++) {
		ck_assert_msg(parse(texts[i], &r) == REASON_OK, "%s", why);
		ck_assert(r->date_s == RELEASE_NO_TIME && r->valid_until_s == RELEASE_NO_TIME);
		ck_assert_uint_eq(r->files_n, 2);
		release_free(&r);
	}
}
END_TEST

START_TEST(chooses_as_apt_does)
{
	static const struct {
		const char *names[6], *want;
	} rows[] = {
		{{"Packages", "Packages.gz"}, "Packages.gz"},
		{{"Packages"}, "Packages"},
		{{"Packages.lz4", "Packages.zst", "Packages"}, "Packages.zst"},
		{{"Packages.gz", "Packages.xz", "Packages.bz2", "Packages.lzma"}, "Packages.xz"},
		{{"Packages.gz", "Packages.lzma", "Packages.bz2"}, "Packages.bz2"},
		{{"Packages.lz4", "main/binary-amd64/Packages.xz", "Sources.xz"}, NULL},
	};

	for (size_t i = 0; i < NELEM(rows); i++) {
		char text[2048] = DATE "SHA256:\n";
		struct release *r;
		const struct release_file *f;

		for (size_t k = 0; k < NELEM(rows[i].names) && rows[i].names[k] != NULL; k++)
			sprintf(text + strlen(text), " " A256 " 10 %s\n", rows[i].names[k]);
		ck_assert_msg(parse(text, &r) == REASON_OK, "%s", why);
		f = release_first_packages(r);
		if (rows[i].want == NULL)
			ck_assert_ptr_null(f);
		else
			ck_assert_str_eq(f->path.p, rows[i].want);
		release_free(&r);
	}
}
END_TEST

START_TEST(knows_indexes)
{
	static const struct {
		const char *path, *stem;
		enum release_list list;
		enum unpack_kind kind;
	} rows[] = {
		{"Packages", "Packages", RELEASE_PACKAGES, UNPACK_PLAIN},
		{"main/binary-amd64/Packages.xz", "main/binary-amd64/Packages", RELEASE_PACKAGES, UNPACK_XZ},
		{"main/source/Sources.gz", "main/source/Sources", RELEASE_SOURCES, UNPACK_GZ},
		{"Packages.lz4", "Packages", RELEASE_PACKAGES, UNPACK_UNKNOWN},
		{"main/Contents-amd64.gz", "main/Contents-amd64", RELEASE_OTHER, UNPACK_GZ},
		{"Packages.diff/Index", "Packages.diff/Index", RELEASE_OTHER, UNPACK_PLAIN},
		{"xPackages.gz", "xPackages", RELEASE_OTHER, UNPACK_GZ},
	};
	struct release_index ri;

	for (size_t i = 0; i < NELEM(rows); i++) {
		release_index_of(&ri, slice_of(rows[i].path));
		ck_assert_msg(ri.list == rows[i].list && ri.kind == rows[i].kind &&
		    slice_eq(ri.stem, slice_of(rows[i].stem)), "%s", rows[i].path);
	}
}
END_TEST

/* As many files as are allowed, then one more; a path as long as allowed, then longer. */
START_TEST(bounds_files_and_paths)
{
	char *text = malloc(RELEASE_TEXT_MAX), path[RELPATH_MAX + 2];
	struct release *r;
	size_t n;

	ck_assert_ptr_nonnull(text);
	n = (size_t)sprintf(text, DATE "SHA256:\n");
	for (int i = 0; i < RELEASE_FILES_MAX; i++)
		n += (size_t)sprintf(text + n, " " A256 " %d f%d\n", i, i);
	ck_assert_msg(parse(text, &r) == REASON_OK, "%s", why);
	ck_assert_uint_eq(r->files_n, RELEASE_FILES_MAX);
	ck_assert_uint_eq(release_find(r, SLICE("f65535"))->size_bytes, 65535);
	release_free(&r);
	sprintf(text + n, " " A256 " 1 g\n");
	ck_assert_int_eq(parse(text, &r), REASON_RELEASE_BAD);
	ck_assert_ptr_nonnull(strstr(why, "more than 65536 files"));
	memset(path, 'p', sizeof(path) - 1);
	path[RELPATH_MAX] = path[RELPATH_MAX + 1] = '\0';
	sprintf(text, DATE "SHA256:\n " A256 " 1 %s\n", path);
	ck_assert_int_eq(parse(text, &r), REASON_OK);
	release_free(&r);
	path[RELPATH_MAX] = 'p';
	sprintf(text, DATE "SHA256:\n " A256 " 1 %s\n", path);
	ck_assert_int_eq(parse(text, &r), REASON_RELEASE_BAD);
	free(text);
}
END_TEST

/* Reports show names as they are, but shortened and without control characters. */
START_TEST(keeps_names_short)
{
	char text[2048], name[400];
	struct release *r;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	name[3] = '\x1b';
	sprintf(text, "Origin: %s\n" DATE "SHA512:\n", name);
	ck_assert_msg(parse(text, &r) == REASON_OK, "%s", why);
	ck_assert_uint_eq(strlen(r->origin), RELEASE_NAME_BYTES - 1);
	ck_assert_int_eq(r->origin[3], '?');
	ck_assert_uint_eq(r->files_n, 0);
	ck_assert_ptr_null(release_find(r, SLICE("x")));
	release_free(&r);
}
END_TEST

Suite *
check_release_suite(void)
{
	Suite *s = suite_create("release");
	TCase *t = tcase_create("release");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, reads_flat);
	tcase_add_test(t, reads_dists);
	tcase_add_loop_test(t, refuses, 0, NELEM(bad));
	tcase_add_test(t, refuses_each_cut);
	tcase_add_test(t, refuses_nul_and_length);
	tcase_add_test(t, identity_is_of_the_content);
	tcase_add_test(t, reads_dates);
	tcase_add_test(t, reads_without_a_date);
	tcase_add_test(t, chooses_as_apt_does);
	tcase_add_test(t, knows_indexes);
	tcase_add_test(t, bounds_files_and_paths);
	tcase_add_test(t, keeps_names_short);
	suite_add_tcase(s, t);
	return s;
}
