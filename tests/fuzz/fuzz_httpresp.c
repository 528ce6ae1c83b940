/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Arbitrary bytes as lines of a response head: what is kept must be a block
 * of well-formed lines without hop-by-hop fields, and dates that can be read
 * must survive being written.
 */
#include <stdint.h>

#include "proxy/httpdate.h"
#include "proxy/httpresp.h"
#include "proxy/httpreq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Fields that no client may be sent. */
static const char *const fuzz_never_kept[] = {"Connection", "Keep-Alive", "Transfer-Encoding",
    "Content-Length", "Content-Range", "Date", "Age", "Via", "Cache-Status", "Accept-Ranges",
    "Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "X-Original-Source", "Upgrade", "TE",
    "Trailer", "Proxy-Authenticate", "Proxy-Connection"};

/* One line of what is kept, without its CRLF. */
static void
fuzz_check_line(const struct httpresp *r, struct slice line)
{
	const char *colon = memchr(line.p, ':', line.n);
	struct slice name;

	AN(colon);
	name = (struct slice){line.p, (size_t)(colon - line.p)};
	MUST(http_is_token(name));
	MUST(!http_list_has(slice_of(r->connection), name));
	for (size_t i = 0; i < NELEM(fuzz_never_kept); i++)
		MUST(!slice_caseeq(name, slice_of(fuzz_never_kept[i])));
	for (size_t i = 0; i < line.n; i++)
		MUST((uint8_t)line.p[i] >= 0x20 || line.p[i] == '\t');
}

/* What is kept. */
static void
fuzz_check_kept(const struct httpresp *r)
{
	struct slice rest = {r->kept, r->kept_n};

	MUST(r->kept_n <= sizeof(r->kept));
	while (rest.n > 0) {
		const char *lf = memchr(rest.p, '\n', rest.n);

		AN(lf);
		MUST(lf > rest.p && lf[-1] == '\r');
		fuzz_check_line(r, (struct slice){rest.p, (size_t)(lf - rest.p) - 1});
		rest = slice_skip(rest, (size_t)(lf - rest.p) + 1);
	}
}

/* The promises of what was read. */
static void
fuzz_check_head(const struct httpresp *r)
{
	fuzz_check_kept(r);
	MUST(r->length >= -1 && r->age_s >= -1);
	MUST(r->status == 0 || (r->status >= 100 && r->status <= 599));
	MUST(r->range_first <= r->range_last);
	MUST(r->range_total < 0 || r->range_last < r->range_total);
	MUST(r->last_modified_text[0] == '\0' || r->last_modified != HTTP_NO_DATE);
	MUST(r->last_modified_text[0] == '\0' ||
	    http_date_is_imf(slice_of(r->last_modified_text)));
	if (r->last_modified != HTTP_NO_DATE) {
		char text[HTTP_DATE_BYTES];

		http_date_format(r->last_modified, text);
		/* The leap second at the end of the last year that four digits can say. */
		MUST(http_date_parse(slice_of(text)) == r->last_modified ||
		    r->last_modified == INT64_C(253402300800));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct httpresp r;
	struct slice rest = {(const char *)data, n};

	httpresp_reset(&r);
	(void)http_date_parse(rest);
	while (rest.n > 0) {
		const char *lf = memchr(rest.p, '\n', rest.n);
		size_t line_n = lf != NULL ? (size_t)(lf - rest.p) + 1 : rest.n;

		MUST(httpresp_line(&r, (struct slice){rest.p, line_n}) == !r.bad);
		rest = slice_skip(rest, line_n);
	}
	fuzz_check_head(&r);
	return 0;
}
