/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Decompression: every kind in every cut, several streams, damage, bombs. */
#include "cache/unpack.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "tests/support/pack.h"

Suite *check_unpack_suite(void);

enum { TEXT_BYTES = 200000, KINDS_N = UNPACK_UNKNOWN };

struct got {
	uint8_t *p;
	size_t n, cap;
	enum reason stop;	/* what the sink says */
};

static uint8_t text[TEXT_BYTES];
static char why[UNPACK_WHY_BYTES];

/* Numbers that compress well and differ everywhere. */
static void
make_text(void)
{
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)("Package: x\n"[i % 11] ^ (uint8_t)(i / 4096));
}

static enum reason
sink(void *arg, const void *p, size_t n)
{
	struct got *g = arg;

	ck_assert_uint_gt(n, 0);
	ck_assert_uint_le(n, 64 << 10);
	if (g->stop != REASON_OK)
		return g->stop;
	ck_assert_uint_le(n, g->cap - g->n);
	memcpy(g->p + g->n, p, n);
	g->n += n;
	return REASON_OK;
}

/* Unpacks in pieces; `why` gets the words. */
static enum reason
run(enum unpack_kind kind, struct packed in, size_t piece_n, uint64_t max, struct got *g)
{
	struct unpack *u = unpack_new(kind, max);
	enum reason r = REASON_OK;

	ck_assert_ptr_nonnull(u);
	for (size_t at = 0; at < in.n && r == REASON_OK; at += piece_n)
		r = unpack_feed(u, in.p + at, in.n - at < piece_n ? in.n - at : piece_n, sink, g);
	if (r == REASON_OK)
		r = unpack_end(u);
	if (r == REASON_OK)
		ck_assert_uint_eq(unpack_out_bytes(u), g->n);
	memcpy(why, unpack_why(u), sizeof(why));
	unpack_free(&u);
	ck_assert_ptr_null(u);
	return r;
}

static struct got
got_new(size_t cap)
{
	struct got g = {.p = malloc(cap + 1), .cap = cap};

	ck_assert_ptr_nonnull(g.p);
	return g;
}

START_TEST(unpacks_in_any_pieces)
{
	static const size_t pieces[] = {1, 7, 4096, 1 << 20};
	enum unpack_kind kind = (enum unpack_kind)_i;
	struct packed in;

	make_text();
	in = pack_make(kind, text, sizeof(text));
	for (size_t i = 0; i < NELEM(pieces); i++) {
		struct got g = got_new(sizeof(text));

		ck_assert_int_eq(run(kind, in, pieces[i], sizeof(text), &g), REASON_OK);
		ck_assert_uint_eq(g.n, sizeof(text));
		ck_assert_mem_eq(g.p, text, sizeof(text));
		free(g.p);
	}
	free(in.p);
}
END_TEST

/* Nothing at all in a stream is a content, too. */
START_TEST(unpacks_nothing)
{
	struct got g = got_new(1);
	struct packed in = pack_make((enum unpack_kind)_i, "", 0);

	ck_assert_int_eq(run((enum unpack_kind)_i, in, 100, 0, &g), REASON_OK);
	ck_assert_uint_eq(g.n, 0);
	free(in.p);
	in = (struct packed){g.p, 0};	/* but no bytes at all are no stream */
	ck_assert_int_eq(run((enum unpack_kind)_i, in, 100, 0, &g),
	    _i == UNPACK_PLAIN ? REASON_OK : REASON_LIST_BAD);
	free(g.p);
}
END_TEST

/* Each cut of a stream is noticed at its end, each but the plain one. */
START_TEST(refuses_truncation)
{
	enum unpack_kind kind = (enum unpack_kind)_i;
	struct packed in = pack_make(kind, "Package: a\nVersion: 1\n\n", 23), cut = in;

	for (cut.n = 0; cut.n < in.n; cut.n++) {
		struct got g = got_new(100);

		ck_assert_msg(run(kind, cut, 5, 100, &g) == REASON_LIST_BAD, "%s: %zu of %zu",
		    unpack_kind_name(kind), cut.n, in.n);
		ck_assert_ptr_nonnull(strstr(why, "ends early"));
		free(g.p);
	}
	free(in.p);
}
END_TEST

START_TEST(joins_members)
{
	static const enum unpack_kind kinds[] = {UNPACK_GZ, UNPACK_XZ, UNPACK_BZ2, UNPACK_ZST};

	make_text();
	for (size_t i = 0; i < NELEM(kinds); i++) {
		struct packed in = pack_join(pack_join(pack_make(kinds[i], text, 1000),
		    pack_make(kinds[i], text + 1000, 0)), pack_make(kinds[i], text + 1000, 70000));

		for (size_t piece_n = 1; piece_n < 200000; piece_n += 50000) {
			struct got g = got_new(71000);

			ck_assert_msg(run(kinds[i], in, piece_n, 71000, &g) == REASON_OK, "%s: %s",
			    unpack_kind_name(kinds[i]), why);
			ck_assert_uint_eq(g.n, 71000);
			ck_assert_mem_eq(g.p, text, 71000);
			free(g.p);
		}
		free(in.p);
	}
}
END_TEST

/* Some tools fill a block with zeros; gzip reads past them, and on. */
START_TEST(passes_over_zeros_behind_gzip)
{
	static const char zeros[700];

	make_text();
	for (size_t piece_n = 1; piece_n < 2000; piece_n += 499) {
		struct packed in = pack_join(pack_make(UNPACK_GZ, text, 70000),
		    pack_make(UNPACK_PLAIN, zeros, sizeof(zeros)));
		struct got g = got_new(70000);

		ck_assert_msg(run(UNPACK_GZ, in, piece_n, 70000, &g) == REASON_OK, "%s", why);
		ck_assert_uint_eq(g.n, 70000);
		ck_assert_mem_eq(g.p, text, 70000);
		free(g.p);
		free(in.p);
	}
}
END_TEST

START_TEST(refuses_more_behind_the_end)
{
	static const char *const tails[] = {"x", "<html>nope</html>", "\x1f", "\x1f\x8b junk", "BZ",
		"\xfd" "7z"};
	enum unpack_kind kind = (enum unpack_kind)_i;

	for (size_t i = 0; i < NELEM(tails); i++) {
		struct got g = got_new(100);
		struct packed in = pack_join(pack_make(kind, "abc", 3),
		    pack_make(UNPACK_PLAIN, tails[i], strlen(tails[i])));

		ck_assert_msg(run(kind, in, 1000, 100, &g) == REASON_LIST_BAD, "%s, %s",
		    unpack_kind_name(kind), tails[i]);
		ck_assert_str_ne(why, "");
		free(g.p);
		g = got_new(100);
		ck_assert_int_eq(run(kind, in, 1, 100, &g), REASON_LIST_BAD);
		free(g.p);
		free(in.p);
	}
}
END_TEST

/* Whatever bit is wrong: an error, or the same content (some header bits mean nothing). */
START_TEST(notices_damage)
{
	enum unpack_kind kind = (enum unpack_kind)_i;
	struct packed in;
	size_t missed = 0;

	make_text();
	in = pack_make(kind, text, 3000);
	for (size_t bit = 0; bit < 8 * in.n; bit++) {
		struct got g = got_new(3000);
		enum reason r;

		in.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		r = run(kind, in, 1 << 20, 3000, &g);
		in.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		missed += r == REASON_OK && (g.n != 3000 || memcmp(g.p, text, 3000) != 0);
		ck_assert(r == REASON_OK || (r == REASON_LIST_BAD && why[0] != '\0'));
		free(g.p);
	}
	/* .lzma has no checksum, and zstd's is off by default: the digest is what finds those. */
	if (kind == UNPACK_GZ || kind == UNPACK_XZ || kind == UNPACK_BZ2)
		ck_assert_uint_eq(missed, 0);
	free(in.p);
}
END_TEST

START_TEST(bounds_bombs)
{
	enum { BOMB_BYTES = 50 << 20, LIMIT = 1 << 20 };
	enum unpack_kind kind = (enum unpack_kind)_i;
	uint8_t *zeros = calloc(1, BOMB_BYTES);
	struct packed in;
	struct got g = got_new(LIMIT);

	ck_assert_ptr_nonnull(zeros);
	in = pack_make(kind, zeros, BOMB_BYTES);
	free(zeros);
	ck_assert_int_eq(run(kind, in, 1 << 20, LIMIT, &g), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "more than the 1048576 bytes"));
	ck_assert_uint_le(g.n, LIMIT);
	free(g.p);
	free(in.p);
}
END_TEST

/* One byte less than the content is too little, exactly its size is enough. */
START_TEST(keeps_to_the_limit)
{
	enum unpack_kind kind = (enum unpack_kind)_i;
	struct packed in;
	struct got g = got_new(TEXT_BYTES);

	make_text();
	in = pack_make(kind, text, 65536);
	ck_assert_int_eq(run(kind, in, 1 << 20, 65535, &g), REASON_LIST_BAD);
	g.n = 0;
	ck_assert_int_eq(run(kind, in, 1 << 20, 65536, &g), REASON_OK);
	free(g.p);
	free(in.p);
}
END_TEST

/* Decoders that ask for more memory than a list can need. */
START_TEST(bounds_decoder_memory)
{
	static const uint8_t lzma_4g[] = {0x5d, 0, 0, 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	/* A zstd frame with a window of 2 GiB and one empty block. */
	static const uint8_t zst_2g[] = {0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0};
	struct packed in = {(uint8_t *)(uintptr_t)lzma_4g, sizeof(lzma_4g)};
	struct got g = got_new(100);

	ck_assert_int_eq(run(UNPACK_LZMA, in, 100, 100, &g), REASON_LIST_BAD);
	ck_assert_msg(strstr(why, "128 MiB") != NULL, "%s", why);
	in = (struct packed){(uint8_t *)(uintptr_t)zst_2g, sizeof(zst_2g)};
	ck_assert_int_eq(run(UNPACK_ZST, in, 100, 100, &g), REASON_LIST_BAD);
	ck_assert_msg(strstr(why, "memory") != NULL, "%s", why);
	free(g.p);
}
END_TEST

/* Each of tens of thousands of empty streams costs set-up time. */
START_TEST(bounds_members)
{
	struct packed one = pack_make(UNPACK_GZ, "", 0), in = {malloc(70000 * one.n), 70000 * one.n};
	struct got g = got_new(1);

	ck_assert_ptr_nonnull(in.p);
	for (size_t i = 0; i < 70000; i++)
		memcpy(in.p + i * one.n, one.p, one.n);
	ck_assert_int_eq(run(UNPACK_GZ, in, 1 << 20, 1, &g), REASON_LIST_BAD);
	ck_assert_ptr_nonnull(strstr(why, "streams"));
	free(one.p);
	free(in.p);
	free(g.p);
}
END_TEST

START_TEST(stops_with_its_sink)
{
	struct got g = {.stop = REASON_NO_DISK};
	struct packed in = pack_make((enum unpack_kind)_i, "abc", 3);

	ck_assert_int_eq(run((enum unpack_kind)_i, in, 100, 100, &g), REASON_NO_DISK);
	free(in.p);
}
END_TEST

START_TEST(knows_kinds)
{
	static const struct {
		const char *name, *stem;
		enum unpack_kind kind;
	} rows[] = {
		{"Packages", "Packages", UNPACK_PLAIN},
		{"Packages.gz", "Packages", UNPACK_GZ},
		{"a/Sources.xz", "a/Sources", UNPACK_XZ},
		{"Packages.lzma", "Packages", UNPACK_LZMA},
		{"Packages.bz2", "Packages", UNPACK_BZ2},
		{"Packages.zst", "Packages", UNPACK_ZST},
		{"Packages.lz4", "Packages", UNPACK_UNKNOWN},
		{".gz", "", UNPACK_GZ},
		{"", "", UNPACK_PLAIN},
	};
	struct slice stem;

	for (size_t i = 0; i < NELEM(rows); i++) {
		ck_assert_int_eq(unpack_kind_of(slice_of(rows[i].name), &stem), rows[i].kind);
		ck_assert(slice_eq(stem, slice_of(rows[i].stem)));
	}
	ck_assert_str_eq(unpack_kind_name(UNPACK_PLAIN), "plain");
	ck_assert_str_eq(unpack_kind_name(UNPACK_ZST), "zst");
	ck_assert_str_eq(unpack_kind_name(UNPACK_UNKNOWN), "unknown");
}
END_TEST

Suite *
check_unpack_suite(void)
{
	Suite *s = suite_create("unpack");
	TCase *t = tcase_create("unpack");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, unpacks_in_any_pieces, 0, KINDS_N);
	tcase_add_loop_test(t, unpacks_nothing, 0, KINDS_N);
	tcase_add_loop_test(t, refuses_truncation, UNPACK_GZ, KINDS_N);
	tcase_add_test(t, joins_members);
	tcase_add_test(t, passes_over_zeros_behind_gzip);
	tcase_add_loop_test(t, refuses_more_behind_the_end, UNPACK_GZ, KINDS_N);
	tcase_add_loop_test(t, notices_damage, UNPACK_GZ, KINDS_N);
	tcase_add_loop_test(t, bounds_bombs, 0, KINDS_N);
	tcase_add_loop_test(t, keeps_to_the_limit, 0, KINDS_N);
	tcase_add_test(t, bounds_decoder_memory);
	tcase_add_test(t, bounds_members);
	tcase_add_loop_test(t, stops_with_its_sink, 0, KINDS_N);
	tcase_add_test(t, knows_kinds);
	suite_add_tcase(s, t);
	return s;
}
