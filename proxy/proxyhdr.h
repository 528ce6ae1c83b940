/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef PROXYHDR_H
#define PROXYHDR_H
/*
 * The PROXY protocol's header, versions 1 and 2, by which a load balancer
 * says for whom it opened a connection (HAProxy's doc/proxy-protocol.txt).
 */
#include <netinet/in.h>
#include <stddef.h>

enum {
	PROXYHDR_V1_MAX = 107,
	PROXYHDR_V2_MAX = 2048,		/* with what load balancers add behind the addresses */
	PROXYHDR_BYTES_MAX = PROXYHDR_V2_MAX,
};

enum proxyhdr_result {
	PROXYHDR_CLIENT,	/* *client is set */
	PROXYHDR_LOCAL,		/* the load balancer speaks for itself, or for nobody it can name */
	PROXYHDR_MORE,		/* the rest has not come yet */
	PROXYHDR_BAD,
};

/*
 * Reads what has come so far; *used is the header's length when it is whole.
 * *client is a sockaddr_in or a sockaddr_in6. Pure.
 */
enum proxyhdr_result proxyhdr_parse(const void *bytes, size_t n, struct sockaddr_in6 *client,
    size_t *used);

#endif
