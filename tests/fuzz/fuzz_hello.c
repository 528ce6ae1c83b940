/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Arbitrary bytes as the beginning of a redirected TLS connection: what is
 * found in a part of them is never taken back by what follows.
 */
#include <stdint.h>

#include "include/obj.h"
#include "proxy/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char scratch[HELLO_BYTES_MAX], again[HELLO_BYTES_MAX];
	struct slice name = SLICE_NONE, other = SLICE_NONE;
	enum hello_result whole = hello_parse(data, n, scratch, &name), part;
	size_t i, step = n / 64 + 1;

	if (whole == HELLO_NAMED)
		MUST(name.n > 0 && name.p >= scratch &&
		    name.p + name.n <= scratch + sizeof(scratch));
	for (i = 0; i < n; i += step) {
		part = hello_parse(data, i, again, &other);
		MUST(part == HELLO_MORE || part == HELLO_BAD || part == whole);
		if (part == HELLO_NAMED)
			MUST(slice_eq(name, other));
		/* A record may still turn out to be none, but a bad one stays bad. */
		if (part == HELLO_BAD)
			MUST(whole == HELLO_BAD);
	}
	return 0;
}
