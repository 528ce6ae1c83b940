/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef HTTPREQ_H
#define HTTPREQ_H
/*
 * The request parser: strict, bounded, no I/O. Anything ambiguous (bare LF,
 * obs-fold, space before the colon, two different lengths, length together
 * with chunked, two Hosts) is refused rather than interpreted: RFC 9112
 * sections 2 to 6.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/obj.h"
#include "include/reason.h"
#include "include/slice.h"

enum {
	HTTPREQ_HEAD_MAX = 32768,	/* bytes of request line and fields together */
	HTTPREQ_TARGET_MAX = 8192,
	HTTPREQ_FIELDS_MAX = 64,
};

enum http_method {
	HTTP_GET, HTTP_HEAD, HTTP_CONNECT,
	HTTP_OTHER,		/* a well-formed method that is not served here */
};

struct httpfield {
	struct slice name, value;	/* value without surrounding blanks */
};

/* A parsed head; slices point into the text that was parsed. */
struct httpreq {
	enum http_method method;
	struct slice method_text, target;
	unsigned minor;			/* HTTP/1.minor: 0 or 1 */
	bool keep_alive;		/* from version and Connection */
	bool has_body;			/* Content-Length > 0 or chunked */
	/* Cache-Control of the request; no-cache also by Pragma where there is no Cache-Control. */
	bool cc_no_cache;
	bool cc_no_store, cc_only_if_cached;
	int64_t cc_max_age_s;		/* -1: not given */
	/*
	 * p == NULL where the request has none. Of repeated fields the first is here (all are in
	 * `fields`), except for Host, Range and the If- fields, whose repeats are refused where they
	 * hold no list.
	 */
	struct slice host, range, if_range, if_none_match, if_modified_since, if_match,
	    if_unmodified_since, authorization, user_agent, via;
	unsigned fields_n;
	struct httpfield fields[HTTPREQ_FIELDS_MAX];
};

/*
 * Where the head ends in buf: bytes up to and including the empty line, or 0
 * when it isn't there yet. *scanned (0 at first) remembers how far earlier
 * calls looked, so that a head that trickles in costs linear time. Empty
 * lines before a request line are part of the head (RFC 9112 2.2).
 */
size_t httpreq_head_end(const char *buf, size_t n, size_t *scanned);

/* Parses one whole head (head_bytes as httpreq_head_end said). Fills *r, or says what is wrong. */
enum reason httpreq_parse(struct httpreq *r, const char *head, size_t head_bytes) MUSTCHECK;

/* The next element of a comma-separated list field; false at its end. Quoted strings stay whole. */
bool http_list_next(struct slice *rest, struct slice *element);
/* Does the list hold this token, in any letter case? */
bool http_list_has(struct slice list, struct slice token);
/* Without the optional whitespace at both ends (RFC 9110 5.6.3). */
struct slice http_trim(struct slice s);
/* token characters of RFC 9110 5.6.2 only, at least one */
bool http_is_token(struct slice s);
/* Splits `name=value` or `name` of a Cache-Control; the value without quotes, p == NULL: none. */
void http_directive_split(struct slice element, struct slice *name, struct slice *value);
/* Delta-seconds, cut to 2^31 (RFC 9111 1.2.2); -1 when it is none. */
int64_t http_delta_parse(struct slice s);

#endif
