/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef HTTPRESP_H
#define HTTPRESP_H
/* Response heads received, from upstream. No I/O. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/slice.h"
#include "proxy/httpdate.h"

/* Directives of a response's Cache-Control that a shared cache obeys (RFC 9111 5.2.2, RFC 5861). */
struct http_cc {
	bool no_cache, no_store, is_private, must_revalidate, is_public, immutable;
	int64_t max_age_s, s_maxage_s, stale_if_error_s;	/* -1: not given */
};

enum { HTTPRESP_KEPT_MAX = 8192, HTTPRESP_LINE_MAX = 65536, HTTPRESP_LINES_MAX = 128 };

/*
 * A response head as it arrives from upstream, a line at a time. `kept` holds
 * the end-to-end fields that are stored and sent on, one per line with CRLF:
 * never hop-by-hop ones, nor those named in Connection, Content-Length,
 * Content-Range, Date, Age, Via, Cache-Status, Accept-Ranges, Set-Cookie,
 * Alt-Svc, Strict-Transport-Security or X-Original-Source: the depot says
 * these itself or they don't concern its clients. Last-Modified is kept only
 * as an IMF-fixdate, Retry-After only as seconds or a date.
 */
struct httpresp {
	int status;			/* 0: no status line yet */
	int64_t length;			/* Content-Length; -1: none */
	bool chunked;
	bool length_conflict;		/* several different lengths: the body can't be trusted */
	/* Content-Range, unit bytes; -1: none or unknown */
	int64_t range_first, range_last, range_total;
	bool range_bad;			/* a Content-Range that cannot be read */
	/* HTTP_NO_DATE: none or unreadable; but an unreadable Expires is 0: "already" */
	int64_t last_modified, date, expires;
	int64_t age_s;			/* -1: none */
	/* Retry-After, in one of its forms; -1, HTTP_NO_DATE: not */
	int64_t retry_after_s, retry_at;
	bool accept_ranges_none, is_html;
	bool content_encoded, transfer_encoded;	/* other than identity, and chunked */
	char content_coding[16];	/* Content-Encoding; "" none, several, or long */
	bool vary_any;			/* Vary: names a field other than Accept-Encoding, or * */
	bool set_cookie;
	struct http_cc cc;
	char etag[256];			/* as sent, with quotes and W/; "" none */
	char location[8192];		/* "" none */
	char last_modified_text[HTTP_DATE_BYTES];	/* "" none */
	char www_authenticate[512], proxy_authenticate[512];	/* "" none */
	char content_type[128];
	size_t kept_n;
	char kept[HTTPRESP_KEPT_MAX];
	bool kept_cut;			/* fields were left out of kept for want of room */
	char connection[512];		/* field names listed in Connection, so far */
	bool ended;			/* the empty line came: trailers that follow aren't read */
	unsigned lines_n;
	bool bad;			/* malformed or over a limit */
	bool too_large;			/* the latter */
};

void httpresp_reset(struct httpresp *r);
/*
 * Takes one line as libcurl's header callback gives it (with or without line
 * end). A status line starts over, which is how 1xx answers and those of a
 * parent proxy's CONNECT are swallowed. Returns false once the head is bad.
 */
bool httpresp_line(struct httpresp *r, struct slice line);
/* How many seconds Retry-After asks for, by the origin's clock if it gives it; 0: none. */
int64_t httpresp_retry_after(const struct httpresp *r, int64_t now_s);

/* Is the ETag strong and well-formed? */
bool http_etag_is_strong(struct slice etag);

#endif
