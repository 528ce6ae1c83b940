/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Package tables: from lists to files, and what the URLs of apt and others find in them. */
#include "cache/pkgtable_priv.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/relpath.h"
#include "include/key.h"
#include "tests/support/cachedir.h"
#include "tests/support/pack.h"

Suite *check_pkgtable_suite(void);

#define H16 "0123456789abcdef"
#define A256 H16 H16 H16 H16
#define B256 "ffff456789abcdef" H16 H16 H16
#define A512 A256 A256
#define LARGE (UINT64_C(1) << 40)

static struct cachedir cd;
static int dirfd_;
static struct pkgtable_stats stats;
static char why[PKGTABLE_WHY_BYTES];

static void
setup(void)
{
	cachedir_make(&cd);
	dirfd_ = open(cd.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dirfd_, 0);
}

static void
teardown(void)
{
	close(dirfd_);
	cachedir_remove(&cd);
}

/* Builds "table" from a list in memory. */
static enum reason
build(enum unpack_kind kind, const void *p, size_t n, bool sources, uint64_t max)
{
	int fd = openat(dirfd_, "list", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct packed in = pack_make(kind, p, n);
	enum reason r;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, in.p, in.n), (ssize_t)in.n);
	free(in.p);
	r = pkgtable_build(dirfd_, "table", fd, kind, sources, max, &stats, why, sizeof(why));
	close(fd);
	ck_assert_int_ne(faccessat(dirfd_, "table.tmp", F_OK, 0), 0);
	ck_assert_int_ne(faccessat(dirfd_, "table.runs", F_OK, 0), 0);
	return r;
}

static struct pkgtable *
build_open(const char *text, bool sources)
{
	struct pkgtable *t = NULL;

	ck_assert_msg(build(UNPACK_PLAIN, text, strlen(text), sources, LARGE) == REASON_OK, "%s", why);
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_OK);
	ck_assert_uint_eq(pkgtable_entries_n(t), stats.entries_n);
	return t;
}

/*
 * Percent-encodes as apt does in the URLs that it makes of file names: the characters of
 * Acquire::URIEncode, percent signs and what is not printable ASCII, in lower case.
 */
static void
apt_quote(char *out, const char *name, const char *also)
{
	for (; *name != '\0'; name++) {
		unsigned char c = (unsigned char)*name;

		if (c <= ' ' || c >= 0x7f || c == '%' || strchr(also, c) != NULL)
			out += sprintf(out, "%%%02x", c);
		else
			*out++ = *name;
	}
	*out = '\0';
}

/* What the path of a request, behind the repository's directory, finds in canonical form. */
static enum pkgtable_found
find_path(const struct pkgtable *t, const char *path, struct pkgtable_entry *e)
{
	static const struct slice root = {"/cuda/repos/x86_64/", 19};
	char memory[8192], full[4096];
	struct arena a;
	struct url u;

	arena_init(&a, memory, sizeof(memory));
	ck_assert_int_lt(snprintf(full, sizeof(full), "%s%s", root.p, path), (int)sizeof(full));
	ck_assert_int_eq(url_build(&u, &a, true, SLICE("Repo.Example:443"), slice_of(full)),
	    REASON_OK);
	ck_assert_msg(slice_starts(u.path, root), "%s", full);
	return pkgtable_find(t, slice_skip(u.path, root.n), e);
}

static const char *const names[] = {
	"x.deb",
	"./cuda-12-6_12.6.0-1_amd64.deb",
	".//a/./b//c.deb",
	"/leading_1.0_all.deb",
	"./libcudnn8_8.4.0.27-1+cuda11.6_amd64.deb",
	"pool/main/g/g++/g++_4%3a12.2.0-3_amd64.deb",
	"pool/main/a/apt/apt_2.6.1~rc1+b2_amd64.deb",
	"pool/o/odd_1:2.0+git~rc1_amd64.deb",
	"pool/o/odd_1%3A2.0_amd64.deb",
	"pool/o/100%_1_all.deb",
	"pool/o/a%2bb_1_all.deb",
	"pool/o/a%252bb_1_all.deb",
	"pool/o/with blank_1_all.deb",
	"pool/o/gr\xc3\xb6\xc3\x9f" "e_1_all.deb",
	"pool/o/latin\xf6_1_all.deb",
	"pool/o/[x]{y}|\\^`\"<>_1.deb",
	"pool/o/!$&'()*,;=@_1.deb",
	"..a/b../...c.deb",
};

/* apt's request for each name finds that name's entry and no other. */
START_TEST(finds_what_apt_asks_for)
{
	static const char *const also[] = {"+~ ", "", "+~ :,[]()'!*"};
	char text[8192], quoted[1024];
	struct pkgtable_entry e;
	struct pkgtable *t;
	size_t n = 0;

	for (size_t i = 0; i < NELEM(names); i++)
		n += (size_t)sprintf(text + n, "Package: p\nFilename: %s\nSize: %zu\nSHA256: " A256 "\n\n",
		    names[i], i + 1);
	t = build_open(text, false);
	ck_assert_uint_eq(stats.entries_n, NELEM(names));
	ck_assert_uint_eq(stats.stanzas_n, NELEM(names));
	for (size_t k = 0; k < NELEM(also); k++) {
		for (size_t i = 0; i < NELEM(names); i++) {
			apt_quote(quoted, names[i], also[k]);
			memset(&e, 0, sizeof(e));
			ck_assert_msg(find_path(t, quoted, &e) == PKGTABLE_FOUND, "%s", quoted);
			ck_assert_msg(e.size_bytes == i + 1, "%s", quoted);
			ck_assert_uint_eq(e.digest_n, 32);
			ck_assert_int_eq(e.digest[1], 0x23);
		}
	}
	pkgtable_close(&t);
	ck_assert_ptr_null(t);
}
END_TEST

START_TEST(finds_nothing_else)
{
	static const struct {
		const char *path;
		uint64_t size_bytes;	/* 0: nothing */
	} rows[] = {
		{"a+b.deb", 1}, {"a%2Bb.deb", 1}, {"a%2bb.deb", 1}, {"%61+b.deb", 1},
		{"a%252bb.deb", 2}, {"a%25252bb.deb", 0}, {"a%20b.deb", 0},
		{"d/c.deb", 3}, {"d%2Fc.deb", 0}, {"d/c.deb?x=1", 0}, {"d/c.deb%3fx", 4},
		{"d/c.deb%3Fx", 4}, {"d/./c.deb", 3}, {"x/../d/c.deb", 3}, {"d//c.deb", 3},
		{"d", 0}, {"d/", 0}, {"d/c.de", 0}, {"D/c.deb", 0}, {"", 0}, {"d/c.deb%00", 0},
	};
	struct pkgtable *t = build_open(
	    "Filename: a+b.deb\nSize: 1\nSHA256: " A256 "\n\n"
	    "Filename: a%2bb.deb\nSize: 2\nSHA256: " A256 "\n\n"
	    "Filename: d/c.deb\nSize: 3\nSHA256: " A256 "\n\n"
	    "Filename: d/c.deb?x\nSize: 4\nSHA256: " A256 "\n", false);
	struct pkgtable_entry e;
	char buf[4 * RELPATH_MAX];

	for (size_t i = 0; i < NELEM(rows); i++) {
		e.size_bytes = 0;
		ck_assert_msg((find_path(t, rows[i].path, &e) == PKGTABLE_FOUND) ==
		    (rows[i].size_bytes != 0), "%s", rows[i].path);
		ck_assert_uint_eq(e.size_bytes, rows[i].size_bytes);
	}
	memset(buf, '%', sizeof(buf));
	ck_assert_int_eq(pkgtable_find(t, (struct slice){buf, sizeof(buf)}, &e), PKGTABLE_ABSENT);
	ck_assert_int_eq(pkgtable_find(t, (struct slice){buf, RELPATH_MAX}, &e), PKGTABLE_ABSENT);
	pkgtable_close(&t);
}
END_TEST

START_TEST(marks_what_contradicts_itself)
{
	struct pkgtable *t = build_open(
	    "Filename: same.deb\nSize: 1\nSHA256: " A256 "\n\n"
	    "Filename: ./same.deb\nSize: 1\nSHA256: " A256 "\n\n"
	    "Filename: digest.deb\nSize: 1\nSHA256: " A256 "\n\n"
	    "Filename: digest.deb\nSize: 1\nSHA256: " B256 "\n\n"
	    "Filename: digest.deb\nSize: 1\nSHA256: " A256 "\n\n"
	    "Filename: size.deb\nSize: 1\nSHA256: " A256 "\n\n"
	    "Filename: size.deb\nSize: 2\nSHA256: " A256 "\n\n", false);
	struct pkgtable_entry e;

	ck_assert_uint_eq(stats.stanzas_n, 7);
	ck_assert_uint_eq(stats.entries_n, 3);
	ck_assert_uint_eq(stats.repeated_n, 1);
	ck_assert_uint_eq(stats.ambiguous_n, 2);
	ck_assert_int_eq(find_path(t, "same.deb", &e), PKGTABLE_FOUND);
	ck_assert_int_eq(find_path(t, "digest.deb", &e), PKGTABLE_AMBIGUOUS);
	ck_assert_int_eq(find_path(t, "size.deb", &e), PKGTABLE_AMBIGUOUS);
	pkgtable_close(&t);
}
END_TEST

START_TEST(leaves_out_what_is_unusable)
{
	static const char *const bad[] = {
		"Size: 1\nSHA256: " A256 "\n",
		"Filename: x\nSHA256: " A256 "\n",
		"Filename: x\nSize: 1\n",
		"Filename: x\nSize: 1\nSHA512: " A512 "\n",
		"Filename: x\nSize: -1\nSHA256: " A256 "\n",
		"Filename: x\nSize: 1234567890123456789\nSHA256: " A256 "\n",
		"Filename: x\nSize:\nSHA256: " A256 "\n",
		"Filename: x\nSize: 1\nSHA256: " A512 "\n",
		"Filename: x\nSize: 1\nSHA256: z" H16 H16 H16 "123456789abcdef\n",
		"Filename: ../x\nSize: 1\nSHA256: " A256 "\n",
		"Filename: a/../x\nSize: 1\nSHA256: " A256 "\n",
		"Filename: x/\nSize: 1\nSHA256: " A256 "\n",
		"Filename: .\nSize: 1\nSHA256: " A256 "\n",
		"Filename: /\nSize: 1\nSHA256: " A256 "\n",
		"Filename: x\nFilename: y\nSize: 1\nSHA256: " A256 "\n",
		"Filename: x\nSize: 1\nSHA256: " A256 "\nSHA256: " B256 "\n",
		"Filename: a\n b\nSize: 1\nSHA256: " A256 "\n",
		"Package: nothing\n",
	};
	char text[16384];
	size_t n;
	struct pkgtable *t;
	struct pkgtable_entry e;

	n = (size_t)sprintf(text, "Filename: good\nSize: 1\nSHA256: " A256 "\n\n");
	for (size_t i = 0; i < NELEM(bad); i++)
		n += (size_t)sprintf(text + n, "%s\n", bad[i]);
	t = build_open(text, false);
	ck_assert_uint_eq(stats.stanzas_n, NELEM(bad) + 1);
	ck_assert_uint_eq(stats.unusable_n, NELEM(bad));
	ck_assert_uint_eq(stats.entries_n, 1);
	ck_assert_int_eq(find_path(t, "x", &e), PKGTABLE_ABSENT);
	pkgtable_close(&t);
}
END_TEST

START_TEST(holds_sha512_where_that_is_listed)
{
	struct pkgtable *t = build_open(
	    "Filename: first\n\n"
	    "Filename: x\nSize: 5\nSHA512: " A256 B256 "\n\n"
	    "Filename: y\nSize: 6\nSHA256: " A256 "\n", false);
	struct pkgtable_entry e;

	ck_assert_uint_eq(stats.unusable_n, 2);
	ck_assert_int_eq(find_path(t, "x", &e), PKGTABLE_FOUND);
	ck_assert_uint_eq(e.digest_n, 64);
	ck_assert_uint_eq(e.size_bytes, 5);
	ck_assert_int_eq(e.digest[0], 0x01);
	ck_assert_int_eq(e.digest[32], 0xff);
	ck_assert_int_eq(e.digest[63], 0xef);
	pkgtable_close(&t);
}
END_TEST

START_TEST(reads_sources)
{
	struct pkgtable *t = build_open(
	    "Package: g++\nDirectory: pool/main/g/g++\nFiles:\n 0 1 ignored.dsc\n"
	    "Checksums-Sha256:\n " A256 " 11 g++_1.dsc\n " B256 " 12 g++_1.orig.tar.xz\n\n"
	    "Package: g++\nDirectory: pool/main/g/g++/\nChecksums-Sha256:\n"
	    " " B256 " 12 g++_1.orig.tar.xz\n " A256 " 13 g++_2.dsc\n\n"
	    "Package: flat\nDirectory: .\nChecksums-Sha256: " A256 " 14 flat_1.dsc\n\n"
	    "Package: none\nChecksums-Sha256:\n " A256 " 15 none_1.dsc\n " A256 " 16\n\n"
	    "Package: bad\nDirectory: ../up\nChecksums-Sha256:\n " A256 " 17 x.dsc\n", true);
	struct pkgtable_entry e;

	ck_assert_uint_eq(stats.stanzas_n, 5);
	ck_assert_uint_eq(stats.entries_n, 5);
	ck_assert_uint_eq(stats.repeated_n, 1);
	ck_assert_uint_eq(stats.unusable_n, 2);
	ck_assert_int_eq(find_path(t, "pool/main/g/g%2b%2b/g%2b%2b_1.orig.tar.xz", &e), PKGTABLE_FOUND);
	ck_assert_uint_eq(e.size_bytes, 12);
	ck_assert_int_eq(e.digest[0], 0xff);
	ck_assert_int_eq(find_path(t, "pool/main/g/g++/g++_2.dsc", &e), PKGTABLE_FOUND);
	ck_assert_int_eq(find_path(t, "./flat_1.dsc", &e), PKGTABLE_FOUND);
	ck_assert_int_eq(find_path(t, "none_1.dsc", &e), PKGTABLE_FOUND);
	ck_assert_int_eq(find_path(t, "ignored.dsc", &e), PKGTABLE_ABSENT);
	pkgtable_close(&t);
}
END_TEST

/* N stanzas whose numbers tell their names, sizes and digests. */
static char *
make_list(uint32_t count, size_t *n)
{
	char *text = malloc((size_t)count * 200 + 1);

	ck_assert_ptr_nonnull(text);
	*n = 0;
	for (uint32_t i = 0; i < count; i++)
		*n += (size_t)sprintf(text + *n,
		    "Package: p%u\nFilename: ./p%u.deb\nSize: %u\nSHA256: %08x" H16 H16 H16 "01234567\n\n",
		    i, i, i + 1, i);
	return text;
}

static bool
sum_cb(void *arg, const struct pkgtable_entry *e)
{
	uint64_t *sum = arg;

	*sum += e->size_bytes;
	return true;
}

static bool
stop_cb(void *arg, const struct pkgtable_entry *e)
{
	uint64_t *left = arg;

	(void)e;
	return --*left != 0;
}

/* One run, several runs, borders between them; each entry is found, others are not. */
START_TEST(finds_each_of_many)
{
	static const uint32_t counts[] = {0, 1, 2, 700, 5000, 65536, 65537, 150000};
	uint32_t count = counts[_i];
	size_t n;
	char *text = make_list(count, &n), name[32];
	uint64_t sum = 0, left = 2;
	struct pkgtable_entry e;
	struct pkgtable *t;

	ck_assert_msg(build(UNPACK_GZ, text, n, false, n) == REASON_OK, "%s", why);
	free(text);
	ck_assert_uint_eq(stats.entries_n, count);
	ck_assert_uint_eq(stats.unpacked_bytes, n);
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_OK);
	ck_assert_uint_eq(pkgtable_entries_n(t), count);
	for (uint32_t i = 0; i < count; i++) {
		sprintf(name, "p%u.deb", i);
		if (pkgtable_find(t, slice_of(name), &e) != PKGTABLE_FOUND || e.size_bytes != i + 1 ||
		    e.digest[0] != i >> 24 || e.digest[3] != (i & 0xff))
			ck_abort_msg("%s", name);
		sprintf(name, "q%u.deb", i);
		if (pkgtable_find(t, slice_of(name), &e) != PKGTABLE_ABSENT)
			ck_abort_msg("%s", name);
	}
	pkgtable_each(t, sum_cb, &sum);
	ck_assert_uint_eq(sum, (uint64_t)count * (count + 1) / 2);
	pkgtable_each(t, stop_cb, &left);
	ck_assert_uint_eq(left, count >= 2 ? 0 : 2 - count);
	pkgtable_close(&t);
}
END_TEST

/* Names chosen so that their keys crowd in an eighth of the space: none is where it should be. */
START_TEST(finds_crowded_keys)
{
	char *text = malloc(20000 * 150), name[32];
	uint8_t key[PKGTABLE_KEY_BYTES];
	struct pkgtable_entry e;
	struct pkgtable *t;
	uint32_t *numbers = malloc(20000 * sizeof(*numbers)), count = 0;
	size_t n = 0;

	ck_assert(text != NULL && numbers != NULL);
	for (uint32_t i = 0; count < 20000; i++) {
		pkgtable_key((struct slice){name, (size_t)sprintf(name, "p%u.deb", i)}, key);
		if (key[0] >> 5 != 5)
			continue;
		numbers[count++] = i;
		n += (size_t)sprintf(text + n, "Filename: %s\nSize: %u\nSHA256: " A256 "\n\n", name, i);
	}
	ck_assert_msg(build(UNPACK_PLAIN, text, n, false, LARGE) == REASON_OK, "%s", why);
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_OK);
	for (uint32_t k = 0; k < count; k++) {
		struct slice s = {name, (size_t)sprintf(name, "p%u.deb", numbers[k])};

		if (pkgtable_find(t, s, &e) != PKGTABLE_FOUND || e.size_bytes != numbers[k])
			ck_abort_msg("%s", name);
	}
	pkgtable_close(&t);
	free(numbers);
	free(text);
}
END_TEST

/* Contradictions are found across runs, too; three in one place do not confuse the count. */
START_TEST(merges_across_runs)
{
	size_t n, more_n;
	char *text = make_list(140000, &n), *more = make_list(70000, &more_n);
	struct pkgtable_entry e;
	struct pkgtable *t;

	text = realloc(text, n + more_n + 1);
	ck_assert_ptr_nonnull(text);
	memcpy(text + n, more, more_n + 1);
	memcpy(strstr(text + n, "Size: 69999\n"), "Size: 79999\n", 12);
	ck_assert_msg(build(UNPACK_PLAIN, text, n + more_n, false, LARGE) == REASON_OK, "%s", why);
	free(text);
	free(more);
	ck_assert_uint_eq(stats.entries_n, 140000);
	ck_assert_uint_eq(stats.repeated_n, 69999);
	ck_assert_uint_eq(stats.ambiguous_n, 1);
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_OK);
	ck_assert_int_eq(pkgtable_find(t, SLICE("p69998.deb"), &e), PKGTABLE_AMBIGUOUS);
	ck_assert_int_eq(pkgtable_find(t, SLICE("p139999.deb"), &e), PKGTABLE_FOUND);
	pkgtable_close(&t);
}
END_TEST

START_TEST(refuses_bad_lists)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{"<html><body>Please log in</body></html>\n", "without a colon"},
		{"Filename: x\nSize: 1\ngarbage\n", "stanza 1: a line without a colon: \"garbage\""},
		{"Filename: x\n\n continued\n", "continuation"},
	};
	struct pkgtable *t = NULL;
	char zeros[64] = {0};

	for (size_t i = 0; i < NELEM(rows); i++) {
		for (int kind = UNPACK_PLAIN; kind < UNPACK_UNKNOWN; kind++) {
			ck_assert_int_eq(build((enum unpack_kind)kind, rows[i].text,
			    strlen(rows[i].text), false, LARGE), REASON_LIST_BAD);
			ck_assert_msg(strstr(why, rows[i].words) != NULL, "%s", why);
		}
	}
	ck_assert_int_eq(build(UNPACK_PLAIN, zeros, sizeof(zeros), false, LARGE), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "NUL"));
	ck_assert_int_eq(build(UNPACK_GZ, "A: b\n", 5, false, 4), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "more than the 4 bytes"));
	ck_assert_int_eq(pkgtable_build(dirfd_, "table", dirfd_, UNPACK_UNKNOWN, false, 1, &stats, why,
	    sizeof(why)), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "not read here"));
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_NOT_FOUND);
	ck_assert_ptr_null(t);
}
END_TEST

/* A failed build leaves the table of before as it was. */
START_TEST(keeps_the_old_table)
{
	struct pkgtable *t = build_open("Filename: x\nSize: 1\nSHA256: " A256 "\n", false);
	struct pkgtable_entry e;

	pkgtable_close(&t);
	ck_assert_int_eq(build(UNPACK_PLAIN, "junk", 4, false, LARGE), REASON_LIST_BAD);
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_OK);
	/* A new one takes its name; who has the old one open keeps it. */
	ck_assert_int_eq(build(UNPACK_PLAIN, "Filename: y\nSize: 1\nSHA256: " A256 "\n",
	    strlen("Filename: y\nSize: 1\nSHA256: " A256 "\n"), false, LARGE), REASON_OK);
	ck_assert_int_eq(find_path(t, "x", &e), PKGTABLE_FOUND);
	pkgtable_close(&t);
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_OK);
	ck_assert_int_eq(find_path(t, "x", &e), PKGTABLE_ABSENT);
	ck_assert_int_eq(find_path(t, "y", &e), PKGTABLE_FOUND);
	pkgtable_close(&t);
}
END_TEST

/* Any byte changed, any length but the right one: damaged, never believed. */
START_TEST(notices_damage)
{
	struct pkgtable *t = build_open(
	    "Filename: x\nSize: 1\nSHA256: " A256 "\n\nFilename: y\nSize: 1\nSHA256: " B256 "\n", false);
	size_t n = stats.table_bytes;
	uint8_t byte;
	int fd = openat(dirfd_, "table", O_RDWR | O_CLOEXEC);

	pkgtable_close(&t);
	ck_assert_int_ge(fd, 0);
	ck_assert_uint_eq(n, PKGTABLE_HEAD_BYTES + 2 * (PKGTABLE_DIGEST_AT + 32));
	for (size_t i = 0; i < n; i++) {
		ck_assert_int_eq(pread(fd, &byte, 1, (off_t)i), 1);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)i), 1);
		ck_assert_msg(pkgtable_open(dirfd_, "table", &t) == REASON_DAMAGED, "byte %zu", i);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)i), 1);
	}
	ck_assert_int_eq(ftruncate(fd, (off_t)n + 1), 0);
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_DAMAGED);
	for (size_t i = 0; i < n; i++) {
		ck_assert_int_eq(ftruncate(fd, (off_t)(n - 1 - i)), 0);
		ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_DAMAGED);
	}
	close(fd);
	ck_assert_int_eq(mkdirat(dirfd_, "directory", 0700), 0);
	ck_assert_int_eq(pkgtable_open(dirfd_, "directory", &t), REASON_DAMAGED);
}
END_TEST

/* A disk that takes no more is an error with words, for the table and for its runs. */
START_TEST(survives_a_full_disk)
{
	static const uint32_t counts[] = {1000, 70000};
	struct rlimit limit = {16384, 16384};
	struct pkgtable *t = NULL;
	size_t n;
	char *text;
	int fds[NELEM(counts)];

	for (size_t i = 0; i < NELEM(counts); i++) {
		text = make_list(counts[i], &n);
		ck_assert_int_eq(build(UNPACK_PLAIN, text, n, false, LARGE), REASON_OK);
		free(text);
		fds[i] = openat(dirfd_, "list", O_RDONLY | O_CLOEXEC);
		ck_assert_int_ge(fds[i], 0);
		ck_assert_int_eq(unlinkat(dirfd_, "list", 0), 0);
	}
	ck_assert_int_eq(unlinkat(dirfd_, "table", 0), 0);
	ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (size_t i = 0; i < NELEM(counts); i++) {
		ck_assert_int_eq(pkgtable_build(dirfd_, "table", fds[i], UNPACK_PLAIN, false, LARGE, &stats,
		    why, sizeof(why)), REASON_NO_DISK);
		ck_assert_msg(strstr(why, i == 0 ? "writing table.tmp" : "writing table.runs") != NULL,
		    "%s", why);
		ck_assert_int_ne(faccessat(dirfd_, "table.tmp", F_OK, 0), 0);
		ck_assert_int_ne(faccessat(dirfd_, "table.runs", F_OK, 0), 0);
		close(fds[i]);
	}
	ck_assert_int_eq(pkgtable_open(dirfd_, "table", &t), REASON_NOT_FOUND);
}
END_TEST

/* What is left of a path once it is clean; NULL: refused. */
START_TEST(cleans_paths)
{
	static const struct {
		const char *path, *want;
	} rows[] = {
		{"a", "a"}, {"./a", "a"}, {"././a", "a"}, {"a//b", "a/b"}, {"a/./b", "a/b"}, {".a", ".a"},
		{"..a", "..a"}, {"a/...", "a/..."}, {"a b", "a b"}, {".//a", "a"},
		{"", NULL}, {".", NULL}, {"./", NULL}, {"..", NULL}, {"/a", NULL}, {"a/", NULL},
		{"a/.", NULL}, {"a/..", NULL}, {"../a", NULL}, {"a/../b", NULL}, {"a\nb", NULL},
		{"a\x7f", NULL}, {"//", NULL},
	};
	char buf[32];

	for (size_t i = 0; i < NELEM(rows); i++) {
		size_t n;

		strcpy(buf, rows[i].path);
		n = relpath_clean(buf, strlen(buf));
		ck_assert_msg(slice_eq((struct slice){buf, n},
		    slice_of(rows[i].want != NULL ? rows[i].want : "")), "%s", rows[i].path);
	}
}
END_TEST

Suite *
check_pkgtable_suite(void)
{
	Suite *s = suite_create("pkgtable");
	TCase *t = tcase_create("pkgtable");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, finds_what_apt_asks_for);
	tcase_add_test(t, finds_nothing_else);
	tcase_add_test(t, marks_what_contradicts_itself);
	tcase_add_test(t, leaves_out_what_is_unusable);
	tcase_add_test(t, holds_sha512_where_that_is_listed);
	tcase_add_test(t, reads_sources);
	tcase_add_loop_test(t, finds_each_of_many, 0, 8);
	tcase_add_test(t, finds_crowded_keys);
	tcase_add_test(t, merges_across_runs);
	tcase_add_test(t, refuses_bad_lists);
	tcase_add_test(t, keeps_the_old_table);
	tcase_add_test(t, notices_damage);
	tcase_add_test(t, survives_a_full_disk);
	tcase_add_test(t, cleans_paths);
	suite_add_tcase(s, t);
	return s;
}
