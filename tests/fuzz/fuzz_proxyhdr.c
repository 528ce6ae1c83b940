/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Arbitrary bytes as a load balancer's header, whole and in parts. */
#include <stdint.h>

#include "include/obj.h"
#include "proxy/proxyhdr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct sockaddr_in6 client = {.sin6_family = AF_UNSPEC}, other;
	size_t used = 0, i, part_used = 0;
	enum proxyhdr_result whole = proxyhdr_parse(data, n, &client, &used), part;

	MUST(whole != PROXYHDR_MORE || n < PROXYHDR_BYTES_MAX);
	if (whole == PROXYHDR_CLIENT)
		MUST(client.sin6_family == AF_INET || client.sin6_family == AF_INET6);
	if (whole == PROXYHDR_CLIENT || whole == PROXYHDR_LOCAL)
		MUST(used > 0 && used <= n && used <= PROXYHDR_BYTES_MAX);
	for (i = 0; i < n; i++) {
		part = proxyhdr_parse(data, i, &other, &part_used);
		MUST(part == PROXYHDR_MORE || part == whole);
	}
	return 0;
}
