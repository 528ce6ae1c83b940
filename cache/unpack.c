/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * One streaming decompressor over zlib, liblzma, libbz2 and libzstd. The
 * package table and the closure feed lists through it; the bytes come from an
 * origin and are hostile until proven otherwise: what comes out is counted
 * against the caller's limit before it is handed on, and the decoders'
 * own memory is bounded (a bomb of a few KiB costs at most the limit).
 *
 * A struct unpack is born with its kind, fed until the input ends, asked with
 * unpack_end whether the stream ended as well, and freed. Several members in
 * one file (gzip, bzip2, xz, zstd) are one content, as apt's tools read them;
 * anything else behind the end is an error, but for zeros behind gzip's.
 */
#include "cache/unpack.h"

#include <bzlib.h>
#include <lzma.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#define UNPACK_MAGIC 0x7c0d5e11u

enum {
	UNPACK_OUT_BYTES = 64 << 10,	/* fits the second-level cache together with its reader */
	UNPACK_XZ_MEMORY = 128 << 20,
	UNPACK_ZST_WINDOW_LOG = 27,	/* 128 MiB, what zstd itself accepts by default */
	UNPACK_MEMBERS_MAX = 1 << 16,	/* each may cost a decoder's set-up for a dozen bytes */
	UNPACK_IN_MAX = 1 << 30,	/* zlib and bzlib count in 32 bits */
};

/* Owned by its caller, one thread at a time. */
struct unpack {
	uint32_t magic;
	enum unpack_kind kind;
	bool ready;			/* the decoder's memory is there */
	bool at_end;			/* behind a whole stream, none begun since */
	bool failed;
	uint64_t out_bytes, max_out_bytes;
	uint64_t members_n;		/* streams that ended */
	union {
		z_stream gz;
		lzma_stream lzma;
		bz_stream bz2;
		ZSTD_DCtx *zst;
	} d;
	char why[UNPACK_WHY_BYTES];
	uint8_t out[UNPACK_OUT_BYTES];
};

/* What one step of a decoder did; its callers go on until nothing moves. */
struct unpack_step {
	const uint8_t *in;
	size_t in_n;
	size_t out_n;			/* bytes in u->out */
};

static const struct {
	struct slice suffix;
	enum unpack_kind kind;
	const char *name;
} unpack_kinds[] = {
	{{".gz", 3}, UNPACK_GZ, "gz"},
	{{".xz", 3}, UNPACK_XZ, "xz"},
	{{".lzma", 5}, UNPACK_LZMA, "lzma"},
	{{".bz2", 4}, UNPACK_BZ2, "bz2"},
	{{".zst", 4}, UNPACK_ZST, "zst"},
	{{".lz4", 4}, UNPACK_UNKNOWN, "unknown"},
};

enum unpack_kind
unpack_kind_of(struct slice name, struct slice *stem)
{
	*stem = name;
	for (size_t i = 0; i < NELEM(unpack_kinds); i++) {
		if (slice_ends(name, unpack_kinds[i].suffix)) {
			stem->n -= unpack_kinds[i].suffix.n;
			return unpack_kinds[i].kind;
		}
	}
	return UNPACK_PLAIN;
}

const char *
unpack_kind_name(enum unpack_kind kind)
{
	for (size_t i = 0; i < NELEM(unpack_kinds); i++)
		if (unpack_kinds[i].kind == kind)
			return unpack_kinds[i].name;
	MUST(kind == UNPACK_PLAIN);
	return "plain";
}

/* Remembers words and says that the input is bad. */
static enum reason PRINTF_LIKE(2, 3)
unpack_fail(struct unpack *u, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(u->why, sizeof(u->why), fmt, ap);
	va_end(ap);
	u->failed = true;
	return REASON_LIST_BAD;
}

/* Damage in the middle, or something else behind the last stream. */
static enum reason
unpack_fail_data(struct unpack *u, const char *what)
{
	if (u->members_n != 0 && u->at_end)
		return unpack_fail(u, "more bytes follow the end of the %s stream",
		    unpack_kind_name(u->kind));
	return unpack_fail(u, "not a whole %s stream: %s", unpack_kind_name(u->kind),
	    what != NULL ? what : "damaged");
}

/* Makes the decoder; false: no memory. */
static bool
unpack_init(struct unpack *u)
{
	switch (u->kind) {
	case UNPACK_PLAIN:
		u->at_end = true;
		return true;
	case UNPACK_GZ:
		return inflateInit2(&u->d.gz, 15 + 16) == Z_OK;	/* gzip only */
	case UNPACK_XZ:
		u->d.lzma = (lzma_stream)LZMA_STREAM_INIT;
		return lzma_stream_decoder(&u->d.lzma, UNPACK_XZ_MEMORY,
		    LZMA_CONCATENATED) == LZMA_OK;
	case UNPACK_LZMA:
		u->d.lzma = (lzma_stream)LZMA_STREAM_INIT;
		return lzma_alone_decoder(&u->d.lzma, UNPACK_XZ_MEMORY) == LZMA_OK;
	case UNPACK_BZ2:
		return BZ2_bzDecompressInit(&u->d.bz2, 0, 0) == BZ_OK;
	case UNPACK_ZST:
		u->d.zst = ZSTD_createDCtx();
		return u->d.zst != NULL && !ZSTD_isError(ZSTD_DCtx_setParameter(u->d.zst,
		    ZSTD_d_windowLogMax, UNPACK_ZST_WINDOW_LOG));
	case UNPACK_UNKNOWN:
		break;
	}
	WRONG("not a kind that can be unpacked");
}

struct unpack *
unpack_new(enum unpack_kind kind, uint64_t max_out_bytes)
{
	struct unpack *u;

	OBJ_NEW(u, UNPACK_MAGIC);
	if (u == NULL)
		return NULL;
	u->kind = kind;
	u->max_out_bytes = max_out_bytes;
	u->ready = unpack_init(u);
	if (!u->ready)
		unpack_free(&u);
	return u;
}

void
unpack_free(struct unpack **u_p)
{
	struct unpack *u = *u_p;

	if (u == NULL)
		return;
	*u_p = NULL;
	CHECK_OBJ(u, UNPACK_MAGIC);
	switch (u->kind) {
	case UNPACK_GZ:
		if (u->ready)
			(void)inflateEnd(&u->d.gz);
		break;
	case UNPACK_XZ:
	case UNPACK_LZMA:
		lzma_end(&u->d.lzma);
		break;
	case UNPACK_BZ2:
		if (u->ready)
			(void)BZ2_bzDecompressEnd(&u->d.bz2);
		break;
	case UNPACK_ZST:
		(void)ZSTD_freeDCtx(u->d.zst);
		break;
	case UNPACK_PLAIN:
	case UNPACK_UNKNOWN:
		break;
	}
	OBJ_FREE(u);
}

/* A stream ended; should more come, it is the next one. */
static void
unpack_member_ends(struct unpack *u)
{
	u->members_n++;
	u->at_end = true;
}

static enum reason
unpack_step_gz(struct unpack *u, struct unpack_step *st)
{
	z_stream *z = &u->d.gz;
	int rc;

	while (u->at_end && u->members_n > 0 && st->in_n > 0 && st->in[0] == 0) {
		st->in++;
		st->in_n--;
	}
	if (u->at_end && st->in_n == 0) {
		st->out_n = 0;
		return REASON_OK;
	}
	if (u->at_end && (inflateReset(z) != Z_OK || st->in[0] != 0x1f))
		return unpack_fail_data(u, NULL);
	u->at_end = false;
	z->next_in = (z_const Bytef *)(uintptr_t)st->in;
	z->avail_in = (uInt)st->in_n;
	z->next_out = u->out;
	z->avail_out = sizeof(u->out);
	rc = inflate(z, Z_NO_FLUSH);
	st->in += st->in_n - z->avail_in;
	st->in_n = z->avail_in;
	st->out_n = sizeof(u->out) - z->avail_out;
	if (rc == Z_STREAM_END)
		unpack_member_ends(u);
	else if (rc == Z_MEM_ERROR)
		return REASON_NO_MEMORY;
	else if (rc != Z_OK && rc != Z_BUF_ERROR)
		return unpack_fail_data(u, z->msg);
	return REASON_OK;
}

static enum reason
unpack_step_lzma(struct unpack *u, struct unpack_step *st)
{
	lzma_stream *z = &u->d.lzma;
	lzma_ret rc;

	if (u->at_end)		/* only .lzma ends before the input does */
		return unpack_fail_data(u, NULL);
	z->next_in = st->in;
	z->avail_in = st->in_n;
	z->next_out = u->out;
	z->avail_out = sizeof(u->out);
	rc = lzma_code(z, LZMA_RUN);
	st->in = z->next_in;
	st->in_n = z->avail_in;
	st->out_n = sizeof(u->out) - z->avail_out;
	if (rc == LZMA_STREAM_END) {
		unpack_member_ends(u);
		return REASON_OK;
	}
	if (rc == LZMA_OK || rc == LZMA_BUF_ERROR)
		return REASON_OK;
	if (rc == LZMA_MEM_ERROR)
		return REASON_NO_MEMORY;
	if (rc == LZMA_MEMLIMIT_ERROR)
		return unpack_fail(u, "its %s stream wants more than %d MiB of memory",
		    unpack_kind_name(u->kind), UNPACK_XZ_MEMORY >> 20);
	return unpack_fail_data(u, rc == LZMA_FORMAT_ERROR ? "wrong format" : NULL);
}

static enum reason
unpack_step_bz2(struct unpack *u, struct unpack_step *st)
{
	bz_stream *z = &u->d.bz2;
	int rc;

	if (u->at_end) {
		if (st->in[0] != 'B')
			return unpack_fail_data(u, NULL);
		u->ready = false;
		(void)BZ2_bzDecompressEnd(z);
		memset(z, 0, sizeof(*z));
		if (!unpack_init(u))
			return REASON_NO_MEMORY;
		u->ready = true;
		u->at_end = false;
	}
	z->next_in = (char *)(uintptr_t)st->in;
	z->avail_in = (unsigned)st->in_n;
	z->next_out = (char *)u->out;
	z->avail_out = sizeof(u->out);
	rc = BZ2_bzDecompress(z);
	st->in += st->in_n - z->avail_in;
	st->in_n = z->avail_in;
	st->out_n = sizeof(u->out) - z->avail_out;
	if (rc == BZ_STREAM_END)
		unpack_member_ends(u);
	else if (rc == BZ_MEM_ERROR)
		return REASON_NO_MEMORY;
	else if (rc != BZ_OK)
		return unpack_fail_data(u, rc == BZ_DATA_ERROR_MAGIC ? "wrong format" : NULL);
	return REASON_OK;
}

static enum reason
unpack_step_zst(struct unpack *u, struct unpack_step *st)
{
	ZSTD_inBuffer in = {st->in, st->in_n, 0};
	ZSTD_outBuffer out = {u->out, sizeof(u->out), 0};
	size_t rc = ZSTD_decompressStream(u->d.zst, &out, &in);

	if (ZSTD_isError(rc)) {
		const char *what = ZSTD_getErrorName(rc);

		return unpack_fail_data(u, what);
	}
	st->in += in.pos;
	st->in_n -= in.pos;
	st->out_n = out.pos;
	if (rc == 0)
		unpack_member_ends(u);
	else if (in.pos != 0)
		u->at_end = false;
	return REASON_OK;
}

/* One turn of the decoder: takes some input, leaves what came out in u->out. */
static enum reason
unpack_step(struct unpack *u, struct unpack_step *st)
{
	switch (u->kind) {
	case UNPACK_GZ:
		return unpack_step_gz(u, st);
	case UNPACK_XZ:
	case UNPACK_LZMA:
		return unpack_step_lzma(u, st);
	case UNPACK_BZ2:
		return unpack_step_bz2(u, st);
	case UNPACK_ZST:
		return unpack_step_zst(u, st);
	case UNPACK_PLAIN:
	case UNPACK_UNKNOWN:
		break;
	}
	WRONG("not a kind that is stepped");
}

/* Counts what came out against the limit, then hands it on. */
static enum reason
unpack_give(struct unpack *u, const void *p, size_t n, unpack_sink_f *sink, void *arg)
{
	if (n > u->max_out_bytes - u->out_bytes)
		return unpack_fail(u, "it unpacks to more than the %llu bytes that were expected",
		    (unsigned long long)u->max_out_bytes);
	u->out_bytes += n;
	return n != 0 ? sink(arg, p, n) : REASON_OK;
}

/* Uncompressed: the input in the pieces that a sink is promised. */
static enum reason
unpack_feed_plain(struct unpack *u, const uint8_t *in, size_t n, unpack_sink_f *sink, void *arg)
{
	while (n != 0) {
		size_t piece_n = n < UNPACK_OUT_BYTES ? n : UNPACK_OUT_BYTES;
		enum reason r = unpack_give(u, in, piece_n, sink, arg);

		if (r != REASON_OK)
			return r;
		in += piece_n;
		n -= piece_n;
	}
	return REASON_OK;
}

enum reason
unpack_feed(struct unpack *u, const void *in, size_t n, unpack_sink_f *sink, void *arg)
{
	struct unpack_step st = {.in = in, .in_n = n};
	enum reason r;

	CHECK_OBJ(u, UNPACK_MAGIC);
	MUST(!u->failed);
	MUST(n <= UNPACK_IN_MAX);
	if (u->kind == UNPACK_PLAIN)
		return unpack_feed_plain(u, in, n, sink, arg);
	/* A full output buffer means that the decoder may hold more without further input. */
	while (st.in_n != 0 || st.out_n == sizeof(u->out)) {
		size_t before_n = st.in_n;

		if (st.in_n == 0 && u->at_end)
			break;
		r = unpack_step(u, &st);
		if (r == REASON_OK)
			r = unpack_give(u, u->out, st.out_n, sink, arg);
		if (r != REASON_OK) {
			u->failed = true;
			return r;
		}
		if (u->members_n > UNPACK_MEMBERS_MAX)
			return unpack_fail(u, "it is made of more than %d streams",
			    UNPACK_MEMBERS_MAX);
		if (st.in_n == before_n && st.out_n == 0)
			return st.in_n == 0 ? REASON_OK : unpack_fail_data(u, NULL);
	}
	return REASON_OK;
}

/* With concatenated .xz only the end of the input tells that no further stream comes. */
static enum reason
unpack_end_xz(struct unpack *u)
{
	lzma_stream *z = &u->d.lzma;
	lzma_ret rc;

	z->next_in = NULL;
	z->avail_in = 0;
	z->next_out = u->out;
	z->avail_out = sizeof(u->out);
	rc = lzma_code(z, LZMA_FINISH);
	if (rc == LZMA_STREAM_END && z->avail_out == sizeof(u->out)) {
		unpack_member_ends(u);
		return REASON_OK;
	}
	if (rc == LZMA_OK || rc == LZMA_BUF_ERROR)
		return unpack_fail(u, "the xz stream ends early");
	return unpack_fail_data(u, NULL);
}

enum reason
unpack_end(struct unpack *u)
{
	CHECK_OBJ(u, UNPACK_MAGIC);
	MUST(!u->failed);
	if (u->kind == UNPACK_XZ && !u->at_end)
		return unpack_end_xz(u);
	if (!u->at_end)
		return unpack_fail(u, "the %s stream ends early", unpack_kind_name(u->kind));
	return REASON_OK;
}

const char *
unpack_why(const struct unpack *u)
{
	CHECK_OBJ(u, UNPACK_MAGIC);
	return u->why;
}

uint64_t
unpack_out_bytes(const struct unpack *u)
{
	CHECK_OBJ(u, UNPACK_MAGIC);
	return u->out_bytes;
}
