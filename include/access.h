/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef ACCESS_H
#define ACCESS_H
/* Who may ask, and what may be reached: pure decisions on lists from the configuration. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "include/obj.h"
#include "include/slice.h"

/* Lists of text, as the configuration gives them. NULL-safe when n == 0. */
struct strlist {
	char **v;
	size_t n;
};

struct cidr {
	uint8_t addr[16];	/* IPv6, or IPv4 mapped into ::ffff:0:0/96 */
	unsigned bits;		/* 0..128 */
};
struct cidrset {
	struct cidr *v;
	size_t n;
};

/*
 * Appends one CIDR or plain address (v4 or v6). False when it can't be read.
 * IPv6 ranges hold no IPv4 address: "::/0" is all of IPv6 and nothing else.
 */
bool cidrset_add(struct cidrset *s, struct slice text) MUSTCHECK;
void cidrset_fini(struct cidrset *s);
bool cidrset_has(const struct cidrset *s, const struct sockaddr *sa);

/*
 * Host globs `*`, `*.example.com`, `host`, each with an optional `:port`; `*`
 * matches any run of characters. IPv6 stands in brackets.
 */
struct globset {
	struct strlist patterns;	/* lower case */
};
bool globset_add(struct globset *s, struct slice text) MUSTCHECK;	/* false: not a host glob */
void globset_fini(struct globset *s);
bool globset_has(const struct globset *s, struct slice host, uint16_t port);

struct portset {
	bool any;
	uint16_t v[64];
	size_t n;
};
bool portset_add(struct portset *s, struct slice text) MUSTCHECK;	/* a port or "any" */
bool portset_has(const struct portset *s, uint16_t port);

/*
 * May an upstream with this address be connected to? deny wins; then allow;
 * then everything that is not loopback, private (RFC 1918, RFC 4193), link-
 * local, shared (100.64/10), multicast, unspecified, reserved or benchmark
 * space. IPv4 inside IPv6 (mapped, compatible, NAT64 64:ff9b::/96, 6to4) is
 * judged as that IPv4 address too.
 */
enum access_verdict {
	ACCESS_OK,
	ACCESS_SPECIAL,		/* not of the public internet, and not allowed */
	ACCESS_DENIED,		/* in `deny` */
};
enum access_verdict access_judge_address(const struct cidrset *allow, const struct cidrset *deny,
    const struct sockaddr *sa);
bool access_address_ok(const struct cidrset *allow, const struct cidrset *deny,
    const struct sockaddr *sa);

/*
 * Is the host written as an address, in any notation that a resolver would
 * take for one: dotted, short (127.1), decimal, octal, hexadecimal, IPv6?
 */
bool access_parse_host(struct slice host, struct sockaddr_storage *out) MUSTCHECK;

/* A name that means the machine where it is looked up, wherever that is (RFC 6761 6.3)? */
bool access_is_localhost(struct slice host);

/* Numeric text of an address without port; v4-mapped shown as v4. */
void access_address_text(const struct sockaddr *sa, char *out, size_t cap);

#endif
