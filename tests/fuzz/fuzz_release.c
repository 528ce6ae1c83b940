/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Arbitrary bytes as Release or InRelease. What is accepted must keep its
 * promises: sorted, clean paths that are found again, and an identity that
 * does not depend on how it is written.
 */
#include "cache/relpath.h"
#include "cache/release.h"
#include "include/obj.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char why[RELEASE_WHY_BYTES];

static void
fuzz_check_file(const struct release *r, size_t i)
{
	const struct release_file *f = &r->files[i];
	char path[RELPATH_MAX];
	struct release_index ri;

	MUST(f->path.n != 0 && f->path.n <= RELPATH_MAX);
	AZ(f->path.p[f->path.n]);
	memcpy(path, f->path.p, f->path.n);
	MUST(relpath_clean(path, f->path.n) == f->path.n);
	MUST(i == 0 || strcmp(f[-1].path.p, f->path.p) < 0);
	MUST(release_find(r, f->path) == f);
	(void)release_unpacked_bytes(r, f);
	release_index_of(&ri, f->path);
	MUST(ri.stem.n <= f->path.n);
}

/* Puts the content in other words: digests only, another order of sections. */
static void
fuzz_check_identity(const struct release *r)
{
	static char text[1 << 20];
	struct release *again = NULL;
	size_t n;

	if (r->files_n > 100 || r->date_s > INT64_C(253402300799))
		return;
	n = (size_t)snprintf(text, sizeof(text), "SHA512:\n");
	for (int algo = 1; algo >= 0; algo--) {
		for (size_t i = r->files_n; i-- > 0;) {
			const struct release_file *f = &r->files[i];
			const uint8_t *digest = algo == 1 ? f->sha512 : f->sha256;

			if (!(algo == 1 ? f->has_sha512 : f->has_sha256))
				continue;
			text[n++] = ' ';
			for (size_t k = 0; k < (algo == 1 ? 64 : 32); k++)
				n += (size_t)snprintf(text + n, sizeof(text) - n, "%02X", digest[k]);
			n += (size_t)snprintf(text + n, sizeof(text) - n, " %llu ./%s\n",
			    (unsigned long long)f->size_bytes, f->path.p);
		}
		if (algo == 1)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "SHA256:\n");
	}
	for (size_t i = 0; i < r->files_n; i++)
		if (!r->files[i].has_sha256 && !r->files[i].has_sha512)
			return;
	n += (size_t)snprintf(text + n, sizeof(text) - n, "Date: 1 Jan 1970 00:00:00 UTC\n");
	AZ(release_parse(&again, text, n, why, sizeof(why)));
	MUST(again->files_n == r->files_n);
	for (size_t i = 0; i < r->files_n; i++) {
		MUST(slice_eq(again->files[i].path, r->files[i].path));
		MUST(memcmp(again->files[i].sha256, r->files[i].sha256, 32) == 0);
		MUST(again->files[i].size_bytes == r->files[i].size_bytes);
	}
	MUST(r->date_s != 0 || memcmp(again->identity, r->identity, 32) == 0);
	release_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct release *r = NULL;

	if (release_parse(&r, data, size, why, sizeof(why)) != REASON_OK) {
		AZ(r);
		AN(why[0]);
		return 0;
	}
	for (size_t i = 0; i < r->files_n; i++)
		fuzz_check_file(r, i);
	(void)release_first_packages(r);
	fuzz_check_identity(r);
	release_free(&r);
	return 0;
}
