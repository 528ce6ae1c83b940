/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#include "tests/support/pack.h"

#include <bzlib.h>
#include <check.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static size_t
pack_gz(uint8_t *out, size_t cap, const void *p, size_t n)
{
	z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)p, .avail_in = (uInt)n};

	ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_out = out;
	z.avail_out = (uInt)cap;
	ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	ck_assert_int_eq(deflateEnd(&z), Z_OK);
	return cap - z.avail_out;
}

static size_t
pack_lzma(uint8_t *out, size_t cap, const void *p, size_t n)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_options_lzma options;

	ck_assert(!lzma_lzma_preset(&options, 1));
	ck_assert_int_eq(lzma_alone_encoder(&z, &options), LZMA_OK);
	z.next_in = p;
	z.avail_in = n;
	z.next_out = out;
	z.avail_out = cap;
	ck_assert_int_eq(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
	lzma_end(&z);
	return cap - z.avail_out;
}

struct packed
pack_make(enum unpack_kind kind, const void *p, size_t n)
{
	size_t cap = n + n / 8 + 4096, got = 0;
	uint8_t *out = malloc(cap);
	unsigned bz_n = (unsigned)cap;

	ck_assert_ptr_nonnull(out);
	switch (kind) {
	case UNPACK_PLAIN:
		if (n != 0)
			memcpy(out, p, n);
		got = n;
		break;
	case UNPACK_GZ:
		got = pack_gz(out, cap, p, n);
		break;
	case UNPACK_XZ:
		ck_assert_int_eq(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL, p, n, out, &got,
		    cap), LZMA_OK);
		break;
	case UNPACK_LZMA:
		got = pack_lzma(out, cap, p, n);
		break;
	case UNPACK_BZ2:
		ck_assert_int_eq(BZ2_bzBuffToBuffCompress((char *)out, &bz_n,
		    (char *)(uintptr_t)p, (unsigned)n, 1, 0, 0), BZ_OK);
		got = bz_n;
		break;
	case UNPACK_ZST:
		got = ZSTD_compress(out, cap, p, n, 1);
		ck_assert(!ZSTD_isError(got));
		break;
	case UNPACK_UNKNOWN:
		ck_abort_msg("not a kind that can be packed");
	}
	return (struct packed){out, got};
}

struct packed
pack_join(struct packed a, struct packed b)
{
	struct packed both = {malloc(a.n + b.n + 1), a.n + b.n};

	ck_assert_ptr_nonnull(both.p);
	memcpy(both.p, a.p, a.n);
	memcpy(both.p + a.n, b.p, b.n);
	free(a.p);
	free(b.p);
	return both;
}
