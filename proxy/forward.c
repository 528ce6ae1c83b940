/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What of a client's request goes upstream with it: for files that are no
 * repository's, and where the client brought credentials. Everything else is
 * asked for with the depot's own fields, so that all clients can share it.
 */
#include "proxy/forward.h"

#include <stdio.h>

/* Fields of the client that go upstream with files that are no repository's (RFC 9110 7.6.1). */
static struct slice
forward_fields(struct req *req)
{
	static const struct slice never[] = {
		{"host", 4}, {"connection", 10}, {"proxy-connection", 16}, {"keep-alive", 10},
		{"proxy-authorization", 19}, {"proxy-authenticate", 18}, {"te", 2},
		{"trailer", 7}, {"transfer-encoding", 17}, {"upgrade", 7}, {"expect", 6},
		{"accept-encoding", 15}, {"range", 5}, {"if-range", 8}, {"if-match", 8},
		{"if-none-match", 13}, {"if-modified-since", 17}, {"if-unmodified-since", 19},
		{"content-length", 14}, {"via", 3}, {"user-agent", 10}, {"max-forwards", 12},
	};
	size_t start = req->text.used;
	unsigned i, j;
	char *p;

	for (i = 0; i < req->http.fields_n; i++) {
		const struct httpfield *f = &req->http.fields[i];

		for (j = 0; j < NELEM(never); j++)
			if (slice_caseeq(f->name, never[j]))
				break;
		if (j < NELEM(never) || http_list_has(req->http.connection, f->name))
			continue;
		p = arena_text(&req->text, f->name.n + f->value.n + 4);
		if (p == NULL)
			break;
		memcpy(p, f->name.p, f->name.n);
		memcpy(p + f->name.n, ": ", 2);
		if (f->value.n != 0)
			memcpy(p + f->name.n + 2, f->value.p, f->value.n);
		memcpy(p + f->name.n + 2 + f->value.n, "\r\n", 2);
	}
	return (struct slice){req->text.base + start, req->text.used - start};
}

/* user:password of a URL as the Authorization that it means (RFC 9110 11.4, RFC 7617). */
static struct slice
forward_basic(struct req *req)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct slice in = req->route.userinfo;
	unsigned char raw[512];
	size_t n = 0, i;
	char *p;

	for (i = 0; i < in.n && n < sizeof(raw); i++) {
		unsigned v;
		char hex[3] = {0};

		if (in.p[i] == '%' && i + 2 < in.n) {
			memcpy(hex, in.p + i + 1, 2);
			if (sscanf(hex, "%2x", &v) == 1) {
				raw[n++] = (unsigned char)v;
				i += 2;
				continue;
			}
		}
		raw[n++] = (unsigned char)in.p[i];
	}
	p = arena_text(&req->text, 21 + (n + 2) / 3 * 4 + 2);
	if (p == NULL)
		return SLICE_NONE;
	in.p = p;
	memcpy(p, "Authorization: Basic ", 21);
	p += 21;
	for (i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)raw[i] << 16 | (uint32_t)(i + 1 < n ? raw[i + 1] : 0) << 8 |
		    (i + 2 < n ? raw[i + 2] : 0);

		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		*p++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*p++ = i + 2 < n ? digits[v & 63] : '=';
	}
	*p++ = '\r';
	*p++ = '\n';
	return (struct slice){in.p, (size_t)(p - in.p)};
}

struct slice
forward_client_fields(struct req *req)
{
	/* Both write to the arena's end, one behind the other. */
	struct slice fields = forward_fields(req), basic;

	if (req->route.userinfo.n == 0 || req->http.authorization.p != NULL)
		return fields;
	basic = forward_basic(req);
	if (fields.n == 0)
		return basic;
	fields.n += basic.n;
	return fields;
}
