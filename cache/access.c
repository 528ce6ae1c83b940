/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Who may ask, and what may be reached. The configuration fills the lists
 * before any thread starts; after that they are only read: by the listener
 * for each client, by the router for each host, and by the upstream thread
 * for each address that a name resolved to, redirects included.
 */
#include "include/access.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

enum { ACCESS_V4_BITS = 96 };	/* of ::ffff:0:0/96 */

static const uint8_t access_v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* IPv4 space that is not the public internet's (IANA special-purpose registry). */
static const struct {
	uint8_t addr[4];
	unsigned bits;
} access_special_v4[] = {
	{{0, 0, 0, 0}, 8},		/* this network */
	{{10, 0, 0, 0}, 8},		/* private */
	{{100, 64, 0, 0}, 10},		/* shared, RFC 6598 */
	{{127, 0, 0, 0}, 8},		/* loopback */
	{{169, 254, 0, 0}, 16},		/* link-local: cloud metadata services live here */
	{{172, 16, 0, 0}, 12},		/* private */
	{{192, 0, 0, 0}, 24},		/* protocol assignments */
	{{192, 0, 2, 0}, 24},		/* documentation */
	{{192, 88, 99, 0}, 24},		/* 6to4 relays */
	{{192, 168, 0, 0}, 16},		/* private */
	{{198, 18, 0, 0}, 15},		/* benchmarks */
	{{198, 51, 100, 0}, 24},	/* documentation */
	{{203, 0, 113, 0}, 24},		/* documentation */
	{{224, 0, 0, 0}, 3},		/* multicast, reserved, broadcast */
};

/* Does addr begin with the first `bits` bits of prefix? */
static bool
access_prefix_eq(const uint8_t *addr, const uint8_t *prefix, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(addr, prefix, whole) != 0)
		return false;
	return rest == 0 || ((addr[whole] ^ prefix[whole]) >> (8 - rest)) == 0;
}

static bool
access_is_v4(const uint8_t *addr)
{
	return memcmp(addr, access_v4_prefix, sizeof(access_v4_prefix)) == 0;
}

/* The 16 bytes that cidrs are compared with; false for what is no IP address. */
static bool
access_addr_of(const struct sockaddr *sa, uint8_t addr[16])
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof(v4));
		memcpy(addr, access_v4_prefix, sizeof(access_v4_prefix));
		memcpy(addr + 12, &v4.sin_addr, 4);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(&v6, sa, sizeof(v6));
		memcpy(addr, &v6.sin6_addr, 16);
		return true;
	}
	return false;
}

/* Reads up to three decimal digits. */
static bool
access_parse_bits(struct slice s, unsigned max, unsigned *bits)
{
	uint64_t value;

	if (s.n > 3 || !slice_read_number(s, max, &value))
		return false;
	*bits = (unsigned)value;
	return true;
}

/* Reads "addr" or "addr/bits". */
static bool
cidr_parse(struct cidr *c, struct slice text)
{
	char addr[INET6_ADDRSTRLEN];
	const char *slash = text.n != 0 ? memchr(text.p, '/', text.n) : NULL;
	size_t n = slash != NULL ? (size_t)(slash - text.p) : text.n;
	unsigned max = 128, base = 0;

	if (n == 0 || n >= sizeof(addr))
		return false;
	memcpy(addr, text.p, n);
	addr[n] = '\0';
	if (inet_pton(AF_INET, addr, c->addr + 12) == 1) {
		memcpy(c->addr, access_v4_prefix, sizeof(access_v4_prefix));
		max = 32;
		base = ACCESS_V4_BITS;
	} else if (inet_pton(AF_INET6, addr, c->addr) != 1) {
		return false;
	}
	c->bits = max;
	if (slash != NULL && !access_parse_bits(slice_skip(text, n + 1), max, &c->bits))
		return false;
	c->bits += base;
	return true;
}

bool
cidrset_add(struct cidrset *s, struct slice text)
{
	struct cidr c, *v;

	if (!cidr_parse(&c, text))
		return false;
	v = realloc(s->v, (s->n + 1) * sizeof(*v));
	if (v == NULL)
		return false;
	s->v = v;
	s->v[s->n++] = c;
	return true;
}

void
cidrset_fini(struct cidrset *s)
{
	free(s->v);
	s->v = NULL;
	s->n = 0;
}

/* Is the address in one of the ranges? */
static bool
cidrset_has_addr(const struct cidrset *s, const uint8_t addr[16])
{
	bool v4 = access_is_v4(addr);
	size_t i;

	for (i = 0; i < s->n; i++) {
		/* "::/0" means all of IPv6; IPv4 sits in there only by our way of storing it. */
		if (v4 && s->v[i].bits < ACCESS_V4_BITS)
			continue;
		if (access_prefix_eq(addr, s->v[i].addr, s->v[i].bits))
			return true;
	}
	return false;
}

bool
cidrset_has(const struct cidrset *s, const struct sockaddr *sa)
{
	uint8_t addr[16];

	return s->n != 0 && access_addr_of(sa, addr) && cidrset_has_addr(s, addr);
}

static unsigned char
access_lower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Cuts a pattern into its host part and its port, 0 when it names none. */
static bool
glob_cut(struct slice text, struct slice *host, uint16_t *port)
{
	const char *end = NULL;
	uint64_t value;

	if (text.n == 0)
		return false;
	if (text.p[0] == '[') {
		end = memchr(text.p, ']', text.n);
		if (end == NULL)
			return false;
		*host = (struct slice){text.p + 1, (size_t)(end - text.p) - 1};
		end++;
	} else {
		end = memchr(text.p, ':', text.n);
		if (end == NULL)
			end = text.p + text.n;
		*host = (struct slice){text.p, (size_t)(end - text.p)};
	}
	*port = 0;
	text = slice_skip(text, (size_t)(end - text.p));
	if (text.n == 0)
		return true;
	if (text.p[0] != ':' || !slice_read_number(slice_skip(text, 1), UINT16_MAX, &value))
		return false;
	*port = (uint16_t)value;
	return value != 0;
}

/* Letters, digits, dots, '-', '_' and '*'; between brackets what IPv6 is made of. */
static bool
glob_is_valid(struct slice host, bool v6)
{
	size_t i;

	for (i = 0; i < host.n; i++) {
		unsigned char c = (unsigned char)host.p[i], l = access_lower(c);

		if ((c >= '0' && c <= '9') || c == '.' || c == '*' || (l >= 'a' && l <= 'f'))
			continue;
		if (v6 ? c != ':' : !((l >= 'g' && l <= 'z') || c == '-' || c == '_'))
			return false;
	}
	return host.n != 0;
}

/* The pattern as it is kept: lower case, IPv6 in the form that hosts are given in. */
static char *
glob_new_text(struct slice host, bool v6, uint16_t port)
{
	char tail[8] = "", *text;
	struct in6_addr addr;
	size_t i, cap = host.n + INET6_ADDRSTRLEN + 16;

	if (port != 0)
		(void)snprintf(tail, sizeof(tail), ":%u", (unsigned)port);
	text = malloc(cap);
	if (text == NULL)
		return NULL;
	(void)snprintf(text, cap, v6 ? "[%.*s]" : "%.*s", SLICE_ARG(host));
	for (i = 0; text[i] != '\0'; i++)
		text[i] = (char)access_lower((unsigned char)text[i]);
	if (v6) {
		text[i - 1] = '\0';
		if (inet_pton(AF_INET6, text + 1, &addr) == 1)
			AN(inet_ntop(AF_INET6, &addr, text + 1, INET6_ADDRSTRLEN));
		i = strlen(text);
		text[i++] = ']';
	}
	memcpy(text + i, tail, strlen(tail) + 1);
	return text;
}

bool
globset_add(struct globset *s, struct slice text)
{
	struct slice host;
	uint16_t port;
	bool v6 = text.n != 0 && text.p[0] == '[';
	char *copy, **v;

	if (!glob_cut(text, &host, &port))
		return false;
	if (!v6 && host.n > 1 && host.p[host.n - 1] == '.')
		host.n--;
	if (!glob_is_valid(host, v6))
		return false;
	copy = glob_new_text(host, v6, port);
	if (copy == NULL)
		return false;
	v = realloc(s->patterns.v, (s->patterns.n + 1) * sizeof(*v));
	if (v == NULL) {
		free(copy);
		return false;
	}
	s->patterns.v = v;
	s->patterns.v[s->patterns.n++] = copy;
	return true;
}

void
globset_fini(struct globset *s)
{
	size_t i;

	for (i = 0; i < s->patterns.n; i++)
		free(s->patterns.v[i]);
	free(s->patterns.v);
	s->patterns.v = NULL;
	s->patterns.n = 0;
}

/* Matches with '*' as any run of characters; only the latest star is ever gone back to. */
static bool
glob_match(struct slice pattern, struct slice host)
{
	size_t p = 0, h = 0, star = SIZE_MAX, star_h = 0;

	while (h < host.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			star_h = h;
		} else if (p < pattern.n && (unsigned char)pattern.p[p] ==
		    access_lower((unsigned char)host.p[h])) {
			p++;
			h++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			h = ++star_h;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

bool
globset_has(const struct globset *s, struct slice host, uint16_t port)
{
	struct slice pattern;
	uint16_t pattern_port;
	size_t i;

	for (i = 0; i < s->patterns.n; i++) {
		if (!glob_cut(slice_of(s->patterns.v[i]), &pattern, &pattern_port))
			continue;
		if ((pattern_port == 0 || pattern_port == port) && glob_match(pattern, host))
			return true;
	}
	return false;
}

bool
portset_add(struct portset *s, struct slice text)
{
	uint64_t value;

	if (slice_eq(text, SLICE("any"))) {
		s->any = true;
		return true;
	}
	if (!slice_read_number(text, UINT16_MAX, &value) || value == 0)
		return false;
	if (portset_has(s, (uint16_t)value))
		return true;
	if (s->n == NELEM(s->v))
		return false;
	s->v[s->n++] = (uint16_t)value;
	return true;
}

bool
portset_has(const struct portset *s, uint16_t port)
{
	size_t i;

	if (s->any)
		return true;
	for (i = 0; i < s->n; i++)
		if (s->v[i] == port)
			return true;
	return false;
}

/* Finds an IPv4 address that packets to this IPv6 address end up at, and maps it. */
static bool
access_embedded_v4(const uint8_t addr[16], uint8_t out[16])
{
	static const uint8_t zero[12], nat64[12] = {0, 0x64, 0xff, 0x9b};
	const uint8_t *v4;

	if (memcmp(addr, zero, 12) == 0 || memcmp(addr, nat64, 12) == 0)
		v4 = addr + 12;
	else if (addr[0] == 0x20 && addr[1] == 0x02)	/* 6to4 */
		v4 = addr + 2;
	else
		return false;
	memcpy(out, access_v4_prefix, sizeof(access_v4_prefix));
	memcpy(out + 12, v4, 4);
	return true;
}

/* Is it anything but an ordinary address of the public internet? */
static bool
access_is_special(const uint8_t addr[16])
{
	static const uint8_t global[2] = {0x20}, ietf[3] = {0x20, 0x01}, docs3[3] = {0x3f, 0xff},
	    docs[4] = {0x20, 0x01, 0x0d, 0xb8}, nat64[12] = {0, 0x64, 0xff, 0x9b};
	size_t i;

	if (access_is_v4(addr)) {
		for (i = 0; i < NELEM(access_special_v4); i++)
			if (access_prefix_eq(addr + 12, access_special_v4[i].addr,
			    access_special_v4[i].bits))
				return true;
		return false;
	}
	if (access_prefix_eq(addr, nat64, 96))
		return false;	/* judged by what it embeds */
	/* Global unicast is 2000::/3; the rest is special or not assigned. */
	return !access_prefix_eq(addr, global, 3) || access_prefix_eq(addr, ietf, 23) ||
	    access_prefix_eq(addr, docs, 32) || access_prefix_eq(addr, docs3, 20);
}

/* The verdict on an address and on the IPv4 address inside it, if it has one. */
enum access_verdict
access_judge_address(const struct cidrset *allow, const struct cidrset *deny,
    const struct sockaddr *sa)
{
	uint8_t addr[16], inner[16];
	bool has_inner;

	if (!access_addr_of(sa, addr))
		return ACCESS_SPECIAL;
	has_inner = access_embedded_v4(addr, inner);
	if (cidrset_has_addr(deny, addr) || (has_inner && cidrset_has_addr(deny, inner)))
		return ACCESS_DENIED;
	if (cidrset_has_addr(allow, addr))
		return ACCESS_OK;
	if (access_is_special(addr))
		return ACCESS_SPECIAL;
	return !has_inner || cidrset_has_addr(allow, inner) || !access_is_special(inner) ?
	    ACCESS_OK : ACCESS_SPECIAL;
}

bool
access_address_ok(const struct cidrset *allow, const struct cidrset *deny,
    const struct sockaddr *sa)
{
	return access_judge_address(allow, deny, sa) == ACCESS_OK;
}

/*
 * inet_aton reads what resolvers and browsers read: one to four parts, each
 * decimal, octal or hexadecimal, the last one filling what is left.
 */
bool
access_parse_host(struct slice host, struct sockaddr_storage *out)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	char text[INET6_ADDRSTRLEN + 64];

	while (host.n != 0 && host.p[host.n - 1] == '.')
		host.n--;
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (struct slice){host.p + 1, host.n - 2};
	if (host.n == 0 || host.n >= sizeof(text))
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = '\0';
	memset(out, 0, sizeof(*out));
	if (memchr(host.p, ':', host.n) != NULL) {
		/* The zone says through which interface, not whereto. */
		if (strchr(text, '%') != NULL)
			*strchr(text, '%') = '\0';
		if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1)
			return false;
		memcpy(out, &v6, sizeof(v6));
		return true;
	}
	if (text[0] < '0' || text[0] > '9' || inet_aton(text, &v4.sin_addr) != 1)
		return false;
	memcpy(out, &v4, sizeof(v4));
	return true;
}

bool
access_is_localhost(struct slice host)
{
	static const struct slice names[] = {
		{"localhost", 9}, {"localhost4", 10}, {"localhost6", 10}, {"ip6-localhost", 13},
		{"ip6-loopback", 12}, {"localdomain", 11}, {"localdomain4", 12},
		{"localdomain6", 12},
	};
	struct slice rest;
	size_t i;

	while (host.n != 0 && host.p[host.n - 1] == '.')
		host.n--;
	for (i = 0; i < NELEM(names); i++) {
		if (host.n < names[i].n)
			continue;
		rest = slice_skip(host, host.n - names[i].n);
		if (slice_caseeq(rest, names[i]) && (rest.n == host.n || rest.p[-1] == '.'))
			return true;
	}
	return false;
}

void
access_address_text(const struct sockaddr *sa, char *out, size_t cap)
{
	uint8_t addr[16];
	const char *text;

	if (cap == 0)
		return;
	if (!access_addr_of(sa, addr)) {
		(void)snprintf(out, cap, "%s", sa->sa_family == AF_UNIX ? "unix" : "unknown");
		return;
	}
	if (access_is_v4(addr))
		text = inet_ntop(AF_INET, addr + 12, out, (socklen_t)cap);
	else
		text = inet_ntop(AF_INET6, addr, out, (socklen_t)cap);
	if (text == NULL)
		out[0] = '\0';
}
