/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What of a client's request goes upstream with it: for files that are no
 * repository's, and where the client brought credentials. Everything else is
 * asked for with the depot's own fields, so that all clients can share it.
 */
#include "proxy/forward.h"

#include <stdlib.h>

#include "proxy/authfile.h"

/* Is it a field between the client and the depot, by one of the client's Connection lines? */
static bool
forward_is_hop_field(const struct httpreq *http, struct slice name)
{
	unsigned i;

	for (i = 0; i < http->fields_n; i++)
		if (slice_caseeq(http->fields[i].name, SLICE("Connection")) &&
		    http_list_has(http->fields[i].value, name))
			return true;
	return false;
}

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
		if (j < NELEM(never) || forward_is_hop_field(&req->http, f->name))
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

/* user:password of a URL as the field that they mean; empty without memory. */
static struct slice
forward_basic(struct req *req)
{
	static const char name[] = "Authorization: ";
	char *value = authfile_basic(req->route.userinfo), *p;
	size_t n = value != NULL ? strlen(value) : 0;

	p = value != NULL ? arena_text(&req->text, sizeof(name) - 1 + n + 2) : NULL;
	if (p != NULL) {
		memcpy(p, name, sizeof(name) - 1);
		memcpy(p + sizeof(name) - 1, value, n);
		memcpy(p + sizeof(name) - 1 + n, "\r\n", 2);
	}
	free(value);
	return p != NULL ? (struct slice){p, sizeof(name) - 1 + n + 2} : SLICE_NONE;
}

struct slice
forward_client_fields(struct req *req)
{
	bool from_url = req->route.userinfo.n != 0 && req->http.authorization.p == NULL;
	struct slice basic = from_url ? forward_basic(req) : SLICE_NONE;
	/* Written right behind it. */
	struct slice fields = forward_fields(req);

	return basic.n == 0 ? fields : (struct slice){basic.p, basic.n + fields.n};
}
