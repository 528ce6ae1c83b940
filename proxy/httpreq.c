/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The request parser. A connection collects bytes until httpreq_head_end
 * says where the head ends, then httpreq_parse reads that head once, front
 * to back, and fills a struct httpreq whose slices point into those bytes:
 * it lives as long as they do and owns nothing.
 *
 * Whatever two readers could understand differently is refused, since a
 * disagreement about where a message ends is how requests are smuggled. The
 * http_ functions below serve the readers of list fields on both sides.
 */
#include "proxy/httpreq.h"

/* Empty lines that are overlooked before a request line: enough for clients that end a body so. */
enum { HTTPREQ_EMPTY_LINES_MAX = 4 };

enum {
	CHAR_TOKEN = 1,		/* RFC 9110 5.6.2 */
	CHAR_VALUE = 2,		/* field values: no control character but HTAB */
	CHAR_TARGET = 4,	/* request target: neither blank nor control character */
	CHAR_HOST = 8,		/* RFC 3986: reg-name, IP literal, port */
	CHAR_DIGIT = 16,
};

/* What each byte may be part of: the CHAR_ bits, sixteen bytes a row. */
static const uint8_t http_char[256] = {
	 0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0,
	 0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
	 2, 15,  6,  7, 15, 15, 15, 15, 14, 14, 15, 15, 14, 15, 15,  6,
	31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 14, 14,  6, 14,  6,  6,
	 6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
	15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14,  6, 14,  7, 15,
	 7, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
	15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  7,  6, 15,  0,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
	 6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,
};

static inline bool
http_char_is(char c, unsigned kinds)
{
	return (http_char[(uint8_t)c] & kinds) != 0;
}

enum httpreq_rule {
	RULE_NONE,		/* no such entry */
	RULE_FIRST,		/* the first one counts */
	RULE_ONCE,		/* repeats are refused */
	RULE_HOST,
	RULE_CONNECTION,
	RULE_CACHE_CONTROL,
	RULE_PRAGMA,
	RULE_CONTENT_LENGTH,
	RULE_TRANSFER_ENCODING,
};

/* A field that means something here. Names hold lower-case letters and hyphens only. */
struct httpreq_known {
	const char *name;
	enum httpreq_rule rule;
	size_t offset;		/* FIRST, ONCE, HOST: the slice in struct httpreq */
};

enum { KNOWN_NAME_MAX = 19, KNOWN_PER_LENGTH = 3 };

#define AT(member) offsetof(struct httpreq, member)
/* By the length of the name. */
static const struct httpreq_known httpreq_known[KNOWN_NAME_MAX + 1][KNOWN_PER_LENGTH] = {
	[3] = {{"via", RULE_FIRST, AT(via)}},
	[4] = {{"host", RULE_HOST, AT(host)}},
	[5] = {{"range", RULE_ONCE, AT(range)}},
	[6] = {{"pragma", RULE_PRAGMA, 0}},
	[8] = {{"if-range", RULE_ONCE, AT(if_range)},
	    {"if-match", RULE_FIRST, AT(if_match)}},
	[10] = {{"user-agent", RULE_FIRST, AT(user_agent)},
	    {"connection", RULE_CONNECTION, 0}},
	[13] = {{"cache-control", RULE_CACHE_CONTROL, 0},
	    {"authorization", RULE_FIRST, AT(authorization)},
	    {"if-none-match", RULE_FIRST, AT(if_none_match)}},
	[14] = {{"content-length", RULE_CONTENT_LENGTH, 0}},
	[17] = {{"if-modified-since", RULE_ONCE, AT(if_modified_since)},
	    {"transfer-encoding", RULE_TRANSFER_ENCODING, 0}},
	[19] = {{"if-unmodified-since", RULE_ONCE, AT(if_unmodified_since)}},
};
#undef AT

/* What is known only once all fields were seen. */
struct httpreq_seen {
	uint64_t length;
	bool has_length, has_encoding;
	bool cache_control, pragma_no_cache;
	bool close, keep_alive;		/* tokens of Connection */
};

/* Skips the empty lines that may precede a request line; returns how many bytes they are. */
static size_t
httpreq_skip_empty_lines(const char *buf, size_t n)
{
	size_t at = 0;

	while (at < 2 * HTTPREQ_EMPTY_LINES_MAX && at + 2 <= n && buf[at] == '\r' &&
	    buf[at + 1] == '\n')
		at += 2;
	return at;
}

/*
 * Finds the empty line. One that ends in a bare LF ends the head too: the
 * parser then refuses it at once, where waiting for a CR would end in a
 * time-out.
 */
size_t
httpreq_head_end(const char *buf, size_t n, size_t *scanned)
{
	size_t from;

	MUST(*scanned <= n);
	from = httpreq_skip_empty_lines(buf, n);
	if (from < *scanned)
		from = *scanned;
	while (from < n) {
		const char *lf = memchr(buf + from, '\n', n - from);
		size_t at;

		if (lf == NULL)
			break;
		at = (size_t)(lf - buf);
		if (at == 0 || buf[at - 1] == '\n' ||
		    (at >= 2 && buf[at - 1] == '\r' && buf[at - 2] == '\n'))
			return at + 1;
		from = at + 1;
	}
	*scanned = n;
	return 0;
}

/* Compares a name with a lower-case one of letters and hyphens: only their own two cases match. */
static bool
httpreq_name_is(const char *name, const char *lower, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((name[i] | 0x20) != lower[i])
			return false;
	return true;
}

/* Finds the table's entry for a name, or NULL. */
static const struct httpreq_known *
httpreq_find_known(struct slice name)
{
	const struct httpreq_known *row;

	if (name.n > KNOWN_NAME_MAX)
		return NULL;
	row = httpreq_known[name.n];
	for (unsigned i = 0; i < KNOWN_PER_LENGTH && row[i].rule != RULE_NONE; i++)
		if (httpreq_name_is(name.p, row[i].name, name.n))
			return &row[i];
	return NULL;
}

/* Is every byte one that a host with port may have? */
static bool
httpreq_host_ok(struct slice host)
{
	for (size_t i = 0; i < host.n; i++)
		if (!http_char_is(host.p[i], CHAR_HOST))
			return false;
	return true;
}

/* Takes the directives of one Cache-Control; of two ages the smaller counts. */
static void
httpreq_take_cache_control(struct httpreq *r, struct slice list)
{
	struct slice element, name, value;

	while (http_list_next(&list, &element)) {
		http_directive_split(element, &name, &value);
		if (slice_caseeq(name, SLICE("max-age"))) {
			int64_t age_s = http_delta_parse(value);

			/* What can't be read asks for a check rather than for nothing. */
			if (age_s < 0)
				age_s = 0;
			if (r->cc_max_age_s < 0 || age_s < r->cc_max_age_s)
				r->cc_max_age_s = age_s;
		} else if (slice_caseeq(name, SLICE("no-cache"))) {
			r->cc_no_cache = true;
		} else if (slice_caseeq(name, SLICE("no-store"))) {
			r->cc_no_store = true;
		} else if (slice_caseeq(name, SLICE("only-if-cached"))) {
			r->cc_only_if_cached = true;
		}
	}
}

/* Takes a Content-Length: digits only, and the same each time. */
static bool
httpreq_take_length(struct httpreq_seen *seen, struct slice value)
{
	uint64_t length;

	if (!slice_read_number(value, INT64_MAX, &length))
		return false;
	if (seen->has_length && seen->length != length)
		return false;
	seen->has_length = true;
	seen->length = length;
	return true;
}

/* Takes what Connection says; all of its lines count. */
static void
httpreq_take_connection(struct httpreq_seen *seen, struct slice list)
{
	seen->close |= http_list_has(list, SLICE("close"));
	seen->keep_alive |= http_list_has(list, SLICE("keep-alive"));
}

/* Lets a known field have its effect; false when the request can't be understood safely. */
static bool
httpreq_take_known(struct httpreq *r, struct httpreq_seen *seen,
    const struct httpreq_known *known, struct slice value)
{
	struct slice *member = (struct slice *)(void *)((char *)r + known->offset);

	switch (known->rule) {
	case RULE_HOST:
		if (!httpreq_host_ok(value))
			return false;
		/* FALLTHROUGH */
	case RULE_ONCE:
		if (member->p != NULL)
			return false;
		*member = value;
		return true;
	case RULE_CONNECTION:
		httpreq_take_connection(seen, value);
		return true;
	case RULE_FIRST:
		if (member->p == NULL)
			*member = value;
		return true;
	case RULE_CACHE_CONTROL:
		seen->cache_control = true;
		httpreq_take_cache_control(r, value);
		return true;
	case RULE_PRAGMA:
		seen->pragma_no_cache |= http_list_has(value, SLICE("no-cache"));
		return true;
	case RULE_CONTENT_LENGTH:
		return httpreq_take_length(seen, value);
	case RULE_TRANSFER_ENCODING:
		if (seen->has_encoding || !slice_caseeq(value, SLICE("chunked")))
			return false;
		seen->has_encoding = true;
		return true;
	case RULE_NONE:
		break;
	}
	WRONG("field table entry without a rule");
}

/* Reads CRLF at *p_p and moves past it. */
static bool
httpreq_read_crlf(const char **p_p, const char *end)
{
	if (end - *p_p < 2 || (*p_p)[0] != '\r' || (*p_p)[1] != '\n')
		return false;
	*p_p += 2;
	return true;
}

/* Reads `HTTP/d.d`; a higher minor version of HTTP/1 is understood as 1.1 (RFC 9110 2.5). */
static enum reason
httpreq_read_version(struct httpreq *r, const char **p_p, const char *end)
{
	const char *p = *p_p;

	if (end - p < 8 || memcmp(p, "HTTP/", 5) != 0 || !http_char_is(p[5], CHAR_DIGIT) ||
	    p[6] != '.' || !http_char_is(p[7], CHAR_DIGIT))
		return REASON_REQ_MALFORMED;
	*p_p = p + 8;
	if (!httpreq_read_crlf(p_p, end))
		return REASON_REQ_MALFORMED;
	if (p[5] != '1')
		return REASON_REQ_VERSION;
	r->minor = p[7] == '0' ? 0 : 1;
	return REASON_OK;
}

/* Names the methods that are served; they are case-sensitive. */
static enum http_method
httpreq_method_of(struct slice text)
{
	if (slice_eq(text, SLICE("GET")))
		return HTTP_GET;
	if (slice_eq(text, SLICE("HEAD")))
		return HTTP_HEAD;
	if (slice_eq(text, SLICE("CONNECT")))
		return HTTP_CONNECT;
	return HTTP_OTHER;
}

/* Reads the request line and moves *p_p to the first field. */
static enum reason
httpreq_read_line(struct httpreq *r, const char **p_p, const char *end)
{
	const char *p = *p_p, *start = p;

	while (p < end && http_char_is(*p, CHAR_TOKEN))
		p++;
	if (p == start || p == end || *p != ' ')
		return REASON_REQ_MALFORMED;
	r->method_text = (struct slice){start, (size_t)(p - start)};
	r->method = httpreq_method_of(r->method_text);
	start = ++p;
	while (p < end && http_char_is(*p, CHAR_TARGET))
		p++;
	if (p == start || p == end || *p != ' ')
		return REASON_REQ_MALFORMED;
	r->target = (struct slice){start, (size_t)(p - start)};
	if (r->target.n > HTTPREQ_TARGET_MAX)
		return REASON_REQ_URI_TOO_LONG;
	*p_p = p + 1;
	return httpreq_read_version(r, p_p, end);
}

/*
 * Reads one field line. A name runs up to its colon and a value up to the
 * first control character, which must be the line's CRLF: that refuses
 * obs-fold, blanks before the colon, bare CR and LF, and NUL, all at once.
 */
static enum reason
httpreq_read_field(struct httpreq *r, struct httpreq_seen *seen, const char **p_p,
    const char *end)
{
	const char *p = *p_p, *start = p, *last;
	const struct httpreq_known *known;
	struct slice name, value;

	while (p < end && http_char_is(*p, CHAR_TOKEN))
		p++;
	if (p == start || p == end || *p != ':')
		return REASON_REQ_MALFORMED;
	name = (struct slice){start, (size_t)(p - start)};
	p++;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	start = p;
	while (p < end && http_char_is(*p, CHAR_VALUE))
		p++;
	last = p;
	if (!httpreq_read_crlf(&p, end))
		return REASON_REQ_MALFORMED;
	while (last > start && (last[-1] == ' ' || last[-1] == '\t'))
		last--;
	value = (struct slice){start, (size_t)(last - start)};
	*p_p = p;
	known = httpreq_find_known(name);
	if (known != NULL && !httpreq_take_known(r, seen, known, value))
		return REASON_REQ_MALFORMED;
	if (r->fields_n == HTTPREQ_FIELDS_MAX)
		return REASON_REQ_HEAD_TOO_BIG;
	r->fields[r->fields_n++] = (struct httpfield){name, value};
	return REASON_OK;
}

/* Draws the conclusions that need all fields. */
static enum reason
httpreq_conclude(struct httpreq *r, const struct httpreq_seen *seen)
{
	if (r->minor >= 1 && r->host.p == NULL)
		return REASON_REQ_MALFORMED;
	/* Two lengths, or chunked from a client that can't know it: RFC 9112 6.1. */
	if (seen->has_encoding && (seen->has_length || r->minor == 0))
		return REASON_REQ_MALFORMED;
	r->has_body = seen->has_encoding || seen->length > 0;
	r->keep_alive = !seen->close && (r->minor >= 1 || seen->keep_alive);
	if (!seen->cache_control && seen->pragma_no_cache)
		r->cc_no_cache = true;
	return REASON_OK;
}

/* Parses one head. */
enum reason
httpreq_parse(struct httpreq *r, const char *head, size_t head_bytes)
{
	struct httpreq_seen seen = {0};
	const char *p, *end = head + head_bytes;
	enum reason why;

	/* The array of fields is written before it is read, and is most of the struct. */
	memset(r, 0, offsetof(struct httpreq, fields));
	r->cc_max_age_s = -1;
	if (head_bytes > HTTPREQ_HEAD_MAX)
		return REASON_REQ_HEAD_TOO_BIG;
	p = head + httpreq_skip_empty_lines(head, head_bytes);
	why = httpreq_read_line(r, &p, end);
	while (why == REASON_OK && p < end && *p != '\r')
		why = httpreq_read_field(r, &seen, &p, end);
	if (why != REASON_OK)
		return why;
	if (!httpreq_read_crlf(&p, end) || p != end)
		return REASON_REQ_MALFORMED;
	return httpreq_conclude(r, &seen);
}

struct slice
http_trim(struct slice s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = slice_skip(s, 1);
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* Gives the next element of a list; empty ones don't count (RFC 9110 5.6.1.2). */
bool
http_list_next(struct slice *rest, struct slice *element)
{
	struct slice s = *rest;
	bool quoted = false;
	size_t i;

	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == ','))
		s = slice_skip(s, 1);
	if (s.n == 0) {
		*rest = s;
		return false;
	}
	for (i = 0; i < s.n; i++) {
		if (s.p[i] == '"')
			quoted = !quoted;
		else if (quoted && s.p[i] == '\\' && i + 1 < s.n)
			i++;
		else if (!quoted && s.p[i] == ',')
			break;
	}
	*element = http_trim((struct slice){s.p, i});
	*rest = slice_skip(s, i);
	return true;
}

/* Looks for a token in a list. */
bool
http_list_has(struct slice list, struct slice token)
{
	struct slice element;

	while (http_list_next(&list, &element))
		if (slice_caseeq(element, token))
			return true;
	return false;
}

/* Is it a token? */
bool
http_is_token(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!http_char_is(s.p[i], CHAR_TOKEN))
			return false;
	return s.n > 0;
}

/* Splits a directive at its first equals sign. */
void
http_directive_split(struct slice element, struct slice *name, struct slice *value)
{
	const char *eq = element.n > 0 ? memchr(element.p, '=', element.n) : NULL;
	struct slice v;

	if (eq == NULL) {
		*name = http_trim(element);
		*value = SLICE_NONE;
		return;
	}
	*name = http_trim((struct slice){element.p, (size_t)(eq - element.p)});
	v = http_trim(slice_skip(element, (size_t)(eq - element.p) + 1));
	if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
		v = (struct slice){v.p + 1, v.n - 2};
	*value = v;
}

/* Reads seconds; a number too large for 64 bits is still a very long time. */
int64_t
http_delta_parse(struct slice s)
{
	const uint64_t most = UINT64_C(1) << 31;
	uint64_t v;

	for (size_t i = 0; i < s.n; i++)
		if (!http_char_is(s.p[i], CHAR_DIGIT))
			return -1;
	if (s.n == 0)
		return -1;
	if (!slice_read_number(s, most, &v))
		v = most;
	return (int64_t)v;
}
