/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* A Release as the command doctor looks at it; see inspect_release.h. */
#include "include/inspect_release.h"

#include <stdio.h>

#include "cache/release.h"

enum { INSPECT_LEAST_BYTES = 64 };	/* of a list with something in it, compressed */

/* May it be tried, and how soon: lower first. */
static uint64_t
inspect_rank(const struct release_file *f)
{
	struct release_index ri;

	release_index_of(&ri, f->path);
	if (ri.list != RELEASE_PACKAGES || ri.kind == UNPACK_UNKNOWN || !f->has_sha256 ||
	    f->size_bytes == 0 || f->path.n >= INSPECT_PATH_BYTES)
		return UINT64_MAX;
	/* Release files list the plain Packages too, which mirrors seldom carry. */
	return f->size_bytes | (ri.kind == UNPACK_PLAIN ? UINT64_C(1) << 62 : 0) |
	    (f->size_bytes < INSPECT_LEAST_BYTES ? UINT64_C(1) << 61 : 0);
}

/* Puts the file among the best so far. */
static void
inspect_offer(struct inspect_release *out, uint64_t ranks[INSPECT_TRY_MAX],
    const struct release_file *f)
{
	uint64_t rank = inspect_rank(f);
	unsigned at = out->listed_n, i;

	while (at > 0 && ranks[at - 1] > rank)
		at--;
	if (rank == UINT64_MAX || at == INSPECT_TRY_MAX)
		return;
	if (out->listed_n < INSPECT_TRY_MAX)
		out->listed_n++;
	for (i = out->listed_n - 1; i > at; i--) {
		out->listed[i] = out->listed[i - 1];
		ranks[i] = ranks[i - 1];
	}
	ranks[at] = rank;
	(void)snprintf(out->listed[at].path, sizeof(out->listed[at].path), "%.*s",
	    SLICE_ARG(f->path));
	out->listed[at].size_bytes = f->size_bytes;
	memcpy(out->listed[at].sha256, f->sha256, sizeof(f->sha256));
}

enum reason
inspect_release(const void *text, size_t n, struct inspect_release *out,
    char why[INSPECT_WHY_BYTES])
{
	uint64_t ranks[INSPECT_TRY_MAX] = {0};
	struct release *r = NULL;
	enum reason reason = release_parse(&r, text, n, why, INSPECT_WHY_BYTES);
	size_t i;

	if (reason != REASON_OK)
		return reason;
	memset(out, 0, sizeof(*out));
	out->is_signed = r->is_signed;
	out->date_s = r->date_s;
	out->valid_until_s = r->valid_until_s == RELEASE_NO_TIME ? INT64_MIN : r->valid_until_s;
	out->files_n = r->files_n;
	(void)snprintf(out->name, sizeof(out->name), "%s%s%s", r->origin,
	    r->origin[0] != '\0' && r->suite[0] != '\0' ? " " : "",
	    r->suite[0] != '\0' ? r->suite : r->codename);
	for (i = 0; i < r->files_n; i++)
		inspect_offer(out, ranks, &r->files[i]);
	release_free(&r);
	return REASON_OK;
}
