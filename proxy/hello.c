/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The ClientHello, as far as its server name. entry.c calls it, again and
 * again while the message arrives, for connections that a firewall redirected
 * here: the name alone says where they were to go. The message may be spread
 * over records and over packets; nothing of it is consumed.
 */
#include "proxy/hello.h"

#include <stdint.h>
#include <string.h>

enum {
	HELLO_RECORD_HANDSHAKE = 22,
	HELLO_RECORD_MAX = 16384 + 256,
	HELLO_CLIENT = 1,
	HELLO_EXTENSION_NAME = 0,
	HELLO_NAME_HOST = 0,
};

/* A place in the message; `bad` sticks once something lay beyond the end. */
struct hello_cursor {
	const uint8_t *p;
	size_t n;
	bool bad;
};

/* Takes a number of so many bytes. */
static size_t
hello_number(struct hello_cursor *c, unsigned bytes)
{
	size_t v = 0;

	if (c->bad || c->n < bytes) {
		c->bad = true;
		return 0;
	}
	for (; bytes > 0; bytes--, c->p++, c->n--)
		v = v << 8 | *c->p;
	return v;
}

/* Takes n bytes as a part of its own. */
static struct hello_cursor
hello_part(struct hello_cursor *c, size_t n)
{
	struct hello_cursor part = {c->p, n, false};

	if (c->bad || c->n < n) {
		c->bad = true;
		return (struct hello_cursor){NULL, 0, true};
	}
	c->p += n;
	c->n -= n;
	return part;
}

/* Takes a part that its length stands before. */
static struct hello_cursor
hello_vector(struct hello_cursor *c, unsigned length_bytes)
{
	return hello_part(c, hello_number(c, length_bytes));
}

/* How long the message is, header included; 0: not known yet. */
static size_t
hello_length(const uint8_t *p, size_t n)
{
	return n < 4 ? 0 : 4 + ((size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
}

/*
 * The payload of its records, one behind the other, as far as they are there.
 * What follows the message (early data) is not looked at.
 */
static enum hello_result
hello_join(const uint8_t *p, size_t n, uint8_t *out, size_t *out_n, bool *cut)
{
	size_t length, have;

	*out_n = 0;
	*cut = n >= HELLO_BYTES_MAX;
	if (n > HELLO_BYTES_MAX)
		n = HELLO_BYTES_MAX;
	while (n > 0 && (hello_length(out, *out_n) == 0 || *out_n < hello_length(out, *out_n))) {
		if (p[0] != HELLO_RECORD_HANDSHAKE || (n > 1 && p[1] != 3))
			return HELLO_BAD;
		if (n < 5)
			break;
		length = (size_t)p[3] << 8 | p[4];
		if (length == 0 || length > HELLO_RECORD_MAX)
			return HELLO_BAD;
		have = n - 5 < length ? n - 5 : length;
		memcpy(out + *out_n, p + 5, have);
		*out_n += have;
		p += 5 + have;
		n -= 5 + have;
	}
	return HELLO_MORE;
}

/* The list of names: the first host in it. */
static enum hello_result
hello_find_host(struct hello_cursor extension, struct slice *name)
{
	struct hello_cursor list = hello_vector(&extension, 2), host;
	size_t kind;

	while (!list.bad && list.n > 0) {
		kind = hello_number(&list, 1);
		host = hello_vector(&list, 2);
		if (list.bad || host.n == 0 || memchr(host.p, '\0', host.n) != NULL)
			return HELLO_BAD;
		if (kind == HELLO_NAME_HOST) {
			*name = (struct slice){(const char *)host.p, host.n};
			return HELLO_NAMED;
		}
	}
	return list.bad ? HELLO_BAD : HELLO_NAMELESS;
}

/* The body of the message. */
static enum hello_result
hello_read(struct hello_cursor c, struct slice *name)
{
	struct hello_cursor extensions, extension;
	size_t kind;

	(void)hello_part(&c, 2 + 32);	/* version, random */
	(void)hello_vector(&c, 1);	/* session */
	(void)hello_vector(&c, 2);	/* ciphers */
	(void)hello_vector(&c, 1);	/* compression */
	if (c.bad)
		return HELLO_BAD;
	if (c.n == 0)
		return HELLO_NAMELESS;
	extensions = hello_vector(&c, 2);
	while (!extensions.bad && extensions.n > 0) {
		kind = hello_number(&extensions, 2);
		extension = hello_vector(&extensions, 2);
		if (!extensions.bad && kind == HELLO_EXTENSION_NAME)
			return hello_find_host(extension, name);
	}
	return extensions.bad ? HELLO_BAD : HELLO_NAMELESS;
}

enum hello_result
hello_parse(const void *bytes, size_t n, char *scratch, struct slice *name)
{
	struct hello_cursor c = {(const uint8_t *)scratch, 0, false};
	bool cut;
	size_t length;

	if (hello_join(bytes, n, (uint8_t *)scratch, &c.n, &cut) == HELLO_BAD)
		return HELLO_BAD;
	if (c.n > 0 && c.p[0] != HELLO_CLIENT)
		return HELLO_BAD;
	if (c.n >= 4) {
		(void)hello_number(&c, 1);
		length = hello_number(&c, 3);
		if (length > HELLO_BYTES_MAX)
			return HELLO_BAD;
		if (c.n >= length)
			return hello_read(hello_part(&c, length), name);
	}
	return cut ? HELLO_BAD : HELLO_MORE;
}
