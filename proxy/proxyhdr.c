/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* The header that load balancers send first; entry.c calls it while the header arrives. */
#include "proxy/proxyhdr.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "include/slice.h"

static const char proxyhdr_v2_mark[12] = {'\r', '\n', '\r', '\n', '\0', '\r', '\n',
    'Q', 'U', 'I', 'T', '\n'};

/* ---- version 1: a line ---- */

/* Takes a word up to the next blank; empty: none. */
static struct slice
proxyhdr_word(struct slice *rest)
{
	const char *blank = rest->n != 0 ? memchr(rest->p, ' ', rest->n) : NULL;
	struct slice word = *rest;

	if (blank == NULL) {
		*rest = SLICE_NONE;
		return word;
	}
	word.n = (size_t)(blank - rest->p);
	*rest = slice_skip(*rest, word.n + 1);
	return word;
}

/* A port in decimal digits. */
static bool
proxyhdr_port(struct slice s, in_port_t *port)
{
	uint64_t value;

	if (!slice_read_number(s, UINT16_MAX, &value))
		return false;
	*port = htons((uint16_t)value);
	return true;
}

/* An address in the family's notation. */
static bool
proxyhdr_address(int family, struct slice s, void *out)
{
	char text[INET6_ADDRSTRLEN];

	if (s.n == 0 || s.n >= sizeof(text))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	return inet_pton(family, text, out) == 1;
}

/* "TCP4 client server port port" behind "PROXY ". */
static enum proxyhdr_result
proxyhdr_read_line(struct slice line, struct sockaddr_in6 *client)
{
	struct slice family = proxyhdr_word(&line), source = proxyhdr_word(&line),
	    target = proxyhdr_word(&line), port = proxyhdr_word(&line);
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	in_port_t other;
	uint8_t addr[16];

	if (slice_eq(family, SLICE("UNKNOWN")))
		return PROXYHDR_LOCAL;
	if (slice_eq(family, SLICE("TCP4")) && proxyhdr_address(AF_INET, source, &v4.sin_addr) &&
	    proxyhdr_address(AF_INET, target, addr) && proxyhdr_port(port, &v4.sin_port) &&
	    proxyhdr_port(line, &other)) {
		memset(client, 0, sizeof(*client));
		memcpy(client, &v4, sizeof(v4));
		return PROXYHDR_CLIENT;
	}
	if (slice_eq(family, SLICE("TCP6")) && proxyhdr_address(AF_INET6, source, &v6.sin6_addr) &&
	    proxyhdr_address(AF_INET6, target, addr) && proxyhdr_port(port, &v6.sin6_port) &&
	    proxyhdr_port(line, &other)) {
		*client = v6;
		return PROXYHDR_CLIENT;
	}
	return PROXYHDR_BAD;
}

static enum proxyhdr_result
proxyhdr_parse_v1(const char *p, size_t n, struct sockaddr_in6 *client, size_t *used)
{
	const char *end = memchr(p, '\n', n < PROXYHDR_V1_MAX ? n : PROXYHDR_V1_MAX);

	if (end == NULL)
		return n >= PROXYHDR_V1_MAX ? PROXYHDR_BAD : PROXYHDR_MORE;
	if (end - p < 7 || end[-1] != '\r')
		return PROXYHDR_BAD;
	*used = (size_t)(end - p) + 1;
	return proxyhdr_read_line((struct slice){p + 6, *used - 8}, client);
}

/* ---- version 2: binary ---- */

static enum proxyhdr_result
proxyhdr_parse_v2(const uint8_t *p, size_t n, struct sockaddr_in6 *client, size_t *used)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	size_t length;

	if (n < 16)
		return PROXYHDR_MORE;
	length = (size_t)p[14] << 8 | p[15];
	if ((p[12] & 0xf0) != 0x20 || (p[12] & 0x0f) > 1 || 16 + length > PROXYHDR_V2_MAX)
		return PROXYHDR_BAD;
	if (n < 16 + length)
		return PROXYHDR_MORE;
	*used = 16 + length;
	if ((p[12] & 0x0f) == 0)
		return PROXYHDR_LOCAL;
	if (p[13] == 0x11 && length >= 12) {		/* TCP over IPv4 */
		memcpy(&v4.sin_addr, p + 16, 4);
		memcpy(&v4.sin_port, p + 24, 2);
		memset(client, 0, sizeof(*client));
		memcpy(client, &v4, sizeof(v4));
		return PROXYHDR_CLIENT;
	}
	if (p[13] == 0x21 && length >= 36) {		/* TCP over IPv6 */
		memcpy(&v6.sin6_addr, p + 16, 16);
		memcpy(&v6.sin6_port, p + 48, 2);
		*client = v6;
		return PROXYHDR_CLIENT;
	}
	/* Unix sockets and what is unspecified: nobody with an address. */
	return p[13] == 0x00 || p[13] == 0x31 ? PROXYHDR_LOCAL : PROXYHDR_BAD;
}

enum proxyhdr_result
proxyhdr_parse(const void *bytes, size_t n, struct sockaddr_in6 *client, size_t *used)
{
	size_t v2_n = n < sizeof(proxyhdr_v2_mark) ? n : sizeof(proxyhdr_v2_mark);
	size_t v1_n = n < 6 ? n : 6;

	if (n == 0)
		return PROXYHDR_MORE;
	if (memcmp(bytes, proxyhdr_v2_mark, v2_n) == 0)
		return v2_n < sizeof(proxyhdr_v2_mark) ? PROXYHDR_MORE :
		    proxyhdr_parse_v2(bytes, n, client, used);
	if (memcmp(bytes, "PROXY ", v1_n) == 0)
		return v1_n < 6 ? PROXYHDR_MORE : proxyhdr_parse_v1(bytes, n, client, used);
	return PROXYHDR_BAD;
}
