/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Classes and roots of repository files, as Debian, Ubuntu and NVIDIA lay them out. */
#include "include/aptfile.h"

#include <check.h>

#include "include/obj.h"

Suite *check_aptfile_suite(void);

#define H32 "0123456789abcdef0123456789abcdef"
#define H64 H32 H32
#define FLAT "/compute/cuda/repos/debian12/x86_64/"

static const struct {
	const char *path;
	enum aptfile_class class;
	bool immutable;
	const char *root;
} files[] = {
	{FLAT "InRelease", APTFILE_RELEASE, false, FLAT},
	{FLAT "Release", APTFILE_RELEASE, false, FLAT},
	{FLAT "Release.gpg", APTFILE_RELEASE, false, FLAT},
	{"/InRelease", APTFILE_RELEASE, false, "/"},
	{"/debian/dists/bookworm/InRelease", APTFILE_RELEASE, false, "/debian/dists/bookworm/"},
	{"/dists/stable/updates/Release", APTFILE_RELEASE, false, "/dists/stable/updates/"},
	{"/dists/s/main/binary-amd64/Release", APTFILE_INDEX, false, "/dists/s/"},
	{"/dists/s/main/source/Release", APTFILE_INDEX, false, "/dists/s/"},
	{FLAT "InRelease.gpg", APTFILE_OTHER, false, ""},
	{FLAT "inrelease", APTFILE_OTHER, false, ""},
	{FLAT "Release/", APTFILE_OTHER, false, ""},
	{FLAT "Packages", APTFILE_INDEX, false, FLAT},
	{FLAT "Packages.gz", APTFILE_INDEX, false, FLAT},
	{FLAT "Sources.zst", APTFILE_INDEX, false, FLAT},
	{FLAT "Packages.zip", APTFILE_OTHER, false, ""},
	{FLAT "Contents-amd64.gz", APTFILE_INDEX, false, FLAT},
	{FLAT "en.xz", APTFILE_INDEX, false, FLAT},
	{FLAT "pt_BR.bz2", APTFILE_INDEX, false, FLAT},
	{FLAT "en", APTFILE_OTHER, false, ""},
	{FLAT "pt-BR.bz2", APTFILE_OTHER, false, ""},
	{"/dists/s/main/en.xz", APTFILE_OTHER, false, ""},
	{"/dists/s/main/binary-amd64/Packages.xz", APTFILE_INDEX, false, "/dists/s/"},
	{"/a/dists/s/updates/main/binary-all/Packages", APTFILE_INDEX, false, "/a/dists/s/"},
	{"/dists/debian/dists/sid/main/source/Sources.xz", APTFILE_INDEX, false,
	    "/dists/debian/dists/sid/"},
	{"/dists/s/main/i18n/Translation-en.bz2", APTFILE_INDEX, false, "/dists/s/"},
	{"/dists/s/Contents-source", APTFILE_INDEX, false, "/dists/s/"},
	{"/dists/s/main/Contents-udeb-amd64.gz", APTFILE_INDEX, false, "/dists/s/"},
	{"/dists/s/main/dep11/Components-amd64.yml.gz", APTFILE_INDEX, false, "/dists/s/"},
	{"/dists/s/main/dep11/icons-64x64.tar.gz", APTFILE_INDEX, false, "/dists/s/"},
	{"/dists/s/main/cnf/Commands-amd64.xz", APTFILE_INDEX, false, "/dists/s/"},
	{"/x/cnf/Commands-amd64.xz", APTFILE_OTHER, false, ""},
	{"/dists/s/main/installer-amd64/current/images/SHA256SUMS", APTFILE_OTHER, false, ""},
	{"/dists/s/main/binary-amd64/Packages.diff/Index", APTFILE_INDEX, false, "/dists/s/"},
	{"/dists/s/main/Contents-amd64.diff/Index.gz", APTFILE_INDEX, false, "/dists/s/"},
	{FLAT "Packages.diff/Index", APTFILE_INDEX, false, FLAT},
	{"/x/foo.diff/Index", APTFILE_OTHER, false, ""},
	{"/x/Packages.diff/T-2026-11-01-0203.04-F-2026-10-31-0203.04.gz", APTFILE_PACKAGE, true,
	    ""},
	{"/x/Packages.diff/2026-11-01-0203.04.gz", APTFILE_PACKAGE, true, ""},
	{"/x/Packages.diff/T-1.gz", APTFILE_OTHER, false, ""},
	{"/x/Packages.diff/2026.gz", APTFILE_OTHER, false, ""},
	{"/x/Packages.diff/Release", APTFILE_RELEASE, false, "/x/Packages.diff/"},
	{FLAT "cuda_12.6-1_amd64.deb", APTFILE_PACKAGE, false, ""},
	{"/debian/pool/main/a/apt/apt_2.6.1_amd64.deb", APTFILE_PACKAGE, true, ""},
	{"/pool/x.deb", APTFILE_PACKAGE, true, ""},
	{"/carpool/x.deb", APTFILE_PACKAGE, false, ""},
	{"/pool/main/x.udeb", APTFILE_PACKAGE, true, ""},
	{"/pool/main/x.ddeb", APTFILE_PACKAGE, true, ""},
	{"/pool/main/x.dsc", APTFILE_PACKAGE, true, ""},
	{"/pool/main/x.orig.tar.xz", APTFILE_PACKAGE, true, ""},
	{"/pool/main/x.orig.tar.xz.asc", APTFILE_PACKAGE, true, ""},
	{"/pool/main/x.diff.gz", APTFILE_PACKAGE, true, ""},
	{"/pool/main/x.tar", APTFILE_PACKAGE, true, ""},
	{"/pool/main/x.asc", APTFILE_OTHER, false, ""},
	{"/src/x.tar.xz", APTFILE_OTHER, false, ""},
	{FLAT "3bf863cc.pub", APTFILE_OTHER, false, ""},
	{FLAT "cuda-debian12.pin", APTFILE_OTHER, false, ""},
	{"/x/driver.run", APTFILE_OTHER, false, ""},
	{"/.deb", APTFILE_PACKAGE, false, ""},
	{"/", APTFILE_OTHER, false, ""},
	{"", APTFILE_OTHER, false, ""},
	{"Release", APTFILE_OTHER, false, ""},
};

/* What sets up a client, and what does not. */
START_TEST(knows_what_is_volatile)
{
	static const struct {
		const char *path;
		bool is_volatile;
	} names[] = {
		{FLAT "3bf863cc.pub", true}, {FLAT "cuda-debian12.pin", true}, {"/gpgkey", true},
		{"/linux/gpg", false}, {"/k/key.asc", true}, {"/k/ring.gpg", true}, {"/k/x.key", true},
		{"/x/cuda.repo", true}, {"/x/cuda.list", true}, {"/x/cuda.sources", true}, {FLAT, true},
		{"/", true}, {"/x/driver.run", false}, {"/x/a.whl", false}, {"/x/a.iso", false},
		{FLAT "Release.gpg", false}, {"/pool/main/x.asc", true}, {FLAT "x.deb", false},
	};
	struct aptfile af;

	for (size_t i = 0; i < NELEM(names); i++) {
		aptfile_classify(&af, slice_of(names[i].path));
		ck_assert_msg(af.is_volatile == names[i].is_volatile, "%s", names[i].path);
	}
}
END_TEST

START_TEST(classifies)
{
	struct aptfile af;

	aptfile_classify(&af, slice_of(files[_i].path));
	ck_assert_msg(af.class == files[_i].class, "%s is %s", files[_i].path,
	    aptfile_class_name(af.class));
	ck_assert_msg(af.immutable == files[_i].immutable, "%s", files[_i].path);
	ck_assert_msg(af.source == (af.class == APTFILE_OTHER && strstr(files[_i].path, ".tar") != NULL),
	    "%s", files[_i].path);
	ck_assert_msg(aptfile_may_be_package(&af) == (af.source || (af.class == APTFILE_PACKAGE &&
	    !af.patch)), "%s", files[_i].path);
	ck_assert_msg(af.patch == (af.immutable && strstr(files[_i].path, ".diff/") != NULL), "%s",
	    files[_i].path);
	ck_assert_msg(slice_eq(af.root, slice_of(files[_i].root)), "%s: root %.*s", files[_i].path,
	    SLICE_ARG(af.root));
	ck_assert_ptr_null(af.hash_hex.p);
}
END_TEST

START_TEST(reads_by_hash)
{
	static const struct {
		const char *path;
		enum aptfile_hash hash;
		size_t digits_n;	/* 0: not a by-hash path */
	} rows[] = {
		{"/dists/s/main/binary-amd64/by-hash/SHA256/" H64, APTFILE_SHA256, 64},
		{"/x/by-hash/SHA512/" H64 H64, APTFILE_SHA512, 128},
		{"/x/by-hash/SHA1/" H32 "01234567", APTFILE_SHA1, 40},
		{"/by-hash/MD5Sum/" H32, APTFILE_MD5, 32},
		{"/x/by-hash/SHA256/" H32, 0, 0},
		{"/x/by-hash/SHA256/" H64 "0", 0, 0},
		{"/x/by-hash/sha256/" H64, 0, 0},
		{"/x/by-hash/SHA384/" H64 H32, 0, 0},
		{"/x/by-hash/SHA1/" H32 "0123456g", 0, 0},
		{"/x/xby-hash/SHA256/" H64, 0, 0},
		{"/x/by-hash/" H64, 0, 0},
		{"/SHA256/" H64, 0, 0},
	};
	struct aptfile af;
	size_t i;

	for (i = 0; i < NELEM(rows); i++) {
		aptfile_classify(&af, slice_of(rows[i].path));
		ck_assert_msg((af.class == APTFILE_BYHASH) == (rows[i].digits_n != 0), "%s",
		    rows[i].path);
		ck_assert_uint_eq(af.hash_hex.n, rows[i].digits_n);
		if (rows[i].digits_n != 0)
			ck_assert_int_eq(af.hash, rows[i].hash);
	}
}
END_TEST

START_TEST(names_classes)
{
	ck_assert_str_eq(aptfile_class_name(APTFILE_RELEASE), "release");
	ck_assert_str_eq(aptfile_class_name(APTFILE_INDEX), "index");
	ck_assert_str_eq(aptfile_class_name(APTFILE_BYHASH), "by-hash");
	ck_assert_str_eq(aptfile_class_name(APTFILE_PACKAGE), "package");
	ck_assert_str_eq(aptfile_class_name(APTFILE_OTHER), "other");
}
END_TEST

Suite *
check_aptfile_suite(void)
{
	Suite *s = suite_create("aptfile");
	TCase *t = tcase_create("aptfile");

	tcase_add_loop_test(t, classifies, 0, NELEM(files));
	tcase_add_test(t, knows_what_is_volatile);
	tcase_add_test(t, reads_by_hash);
	tcase_add_test(t, names_classes);
	suite_add_tcase(s, t);
	return s;
}
