/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Arbitrary bytes as stanzas; the first byte is the length of the pieces that
 * they come in. Whole or in pieces, the same stanzas must come out, and feeding
 * what came out once more must give the same again.
 */
#include "cache/stanza.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_TEXT_BYTES = 1 << 20 };

static const char *const fuzz_names[] = {
#define F(name, text) text,
	STANZA_FIELDS(F)
#undef F
};

/* The stanzas written out again: only fields that were there, doubles once. */
struct fuzz_text {
	char p[FUZZ_TEXT_BYTES];
	size_t n;
	uint64_t stanzas_n, twice_n;
};

static void
fuzz_put(struct fuzz_text *t, const char *p, size_t n)
{
	MUST(n <= FUZZ_TEXT_BYTES - t->n);
	if (n != 0)
		memcpy(t->p + t->n, p, n);
	t->n += n;
}

static enum reason
fuzz_stanza_cb(void *arg, const struct stanza *st)
{
	struct fuzz_text *t = arg;

	MUST(st->number == ++t->stanzas_n);
	for (unsigned i = 0; i < STANZA__N; i++) {
		if (st->f[i].p == NULL) {
			MUST(st->f[i].n == 0 && (st->twice >> i & 1) == 0);
			continue;
		}
		t->twice_n += st->twice >> i & 1;
		fuzz_put(t, fuzz_names[i], strlen(fuzz_names[i]));
		fuzz_put(t, ":", 1);
		fuzz_put(t, st->f[i].p, st->f[i].n);
		fuzz_put(t, "\n", 1);
	}
	fuzz_put(t, "X:\n\n", 4);	/* keeps stanzas without a known field */
	return REASON_OK;
}

static enum reason
fuzz_run(const char *p, size_t n, size_t piece_n, struct fuzz_text *t)
{
	struct stanza_reader *sr = stanza_new((UINT32_C(1) << STANZA__N) - 1, fuzz_stanza_cb, t);
	enum reason r = REASON_OK;

	AN(sr);
	t->n = 0;
	t->stanzas_n = t->twice_n = 0;
	for (size_t at = 0; at < n && r == REASON_OK; at += piece_n)
		r = stanza_feed(sr, p + at, n - at < piece_n ? n - at : piece_n);
	if (r == REASON_OK)
		r = stanza_end(sr);
	MUST(r == REASON_OK || (r == REASON_LIST_BAD && stanza_why(sr)[0] != '\0'));
	stanza_free(&sr);
	return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_text whole, other;
	const char *text = (const char *)data + 1;
	enum reason r;

	if (size < 2 || size > 32768)
		return 0;
	size--;
	r = fuzz_run(text, size, size, &whole);
	MUST(fuzz_run(text, size, data[0] + 1u, &other) == r);
	if (r != REASON_OK)
		return 0;
	MUST(whole.n == other.n && memcmp(whole.p, other.p, whole.n) == 0);
	AZ(fuzz_run(whole.p, whole.n, whole.n + 1, &other));
	MUST(other.stanzas_n == whole.stanzas_n && other.twice_n == 0);
	MUST(whole.n == other.n && memcmp(whole.p, other.p, whole.n) == 0);
	return 0;
}
