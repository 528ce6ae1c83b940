/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Arbitrary bytes as a compressed list: the first byte chooses compression and
 * piece length, the rest goes through decompressor and stanza reader. Whatever
 * the pieces, the same stanzas must come out, within the limit.
 */
#include "cache/stanza.h"
#include "cache/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_MAX_BYTES = 128 << 10 };

/* A digest of all that was called back. */
struct fuzz_sum {
	uint64_t sum, stanzas_n;
	struct stanza_reader *reader;
};

static void
fuzz_add(struct fuzz_sum *s, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		s->sum = (s->sum ^ b[i]) * UINT64_C(1099511628211);
}

static enum reason
fuzz_stanza_cb(void *arg, const struct stanza *st)
{
	struct fuzz_sum *s = arg;

	MUST(st->number == ++s->stanzas_n);
	for (unsigned i = 0; i < STANZA__N; i++) {
		MUST(st->f[i].p != NULL || (st->f[i].n == 0 && (st->twice >> i & 1) == 0));
		MUST(st->f[i].n <= STANZA_MAX_BYTES + (64 << 10));
		fuzz_add(s, &i, sizeof(i));
		fuzz_add(s, st->f[i].p, st->f[i].n);
		if (st->f[i].n != 0)
			MUST(memchr(st->f[i].p, '\0', st->f[i].n) == NULL);
	}
	fuzz_add(s, &st->twice, sizeof(st->twice));
	return REASON_OK;
}

static enum reason
fuzz_sink(void *arg, const void *p, size_t n)
{
	struct fuzz_sum *s = arg;

	return stanza_feed(s->reader, p, n);
}

static enum reason
fuzz_run(enum unpack_kind kind, const uint8_t *p, size_t n, size_t piece_n, struct fuzz_sum *s)
{
	struct unpack *u = unpack_new(kind, FUZZ_MAX_BYTES);
	enum reason r = REASON_OK;

	AN(u);
	*s = (struct fuzz_sum){.reader = stanza_new((UINT32_C(1) << STANZA__N) - 1, fuzz_stanza_cb, s)};
	AN(s->reader);
	for (size_t at = 0; at < n && r == REASON_OK; at += piece_n)
		r = unpack_feed(u, p + at, n - at < piece_n ? n - at : piece_n, fuzz_sink, s);
	if (r == REASON_OK)
		r = unpack_end(u);
	if (r == REASON_OK)
		r = stanza_end(s->reader);
	MUST(unpack_out_bytes(u) <= FUZZ_MAX_BYTES);
	MUST(r == REASON_OK || r == REASON_LIST_BAD);
	MUST(r == REASON_OK || unpack_why(u)[0] != '\0' || stanza_why(s->reader)[0] != '\0');
	stanza_free(&s->reader);
	unpack_free(&u);
	return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_sum whole, pieces;
	enum unpack_kind kind;
	enum reason r;

	if (size < 2 || size > 8192)
		return 0;
	kind = (enum unpack_kind)(data[0] % UNPACK_UNKNOWN);
	r = fuzz_run(kind, data + 1, size - 1, size, &whole);
	MUST(fuzz_run(kind, data + 1, size - 1, data[0] / UNPACK_UNKNOWN + 1, &pieces) == r);
	if (r == REASON_OK)
		MUST(whole.sum == pieces.sum && whole.stanzas_n == pieces.stanzas_n);
	return 0;
}
