/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Heads received. The upstream thread feeds each line it gets to a struct
 * httpresp, which is started anew by every status line and read once the
 * empty line came.
 */
#include "proxy/httpresp.h"

#include "proxy/headbuf.h"
#include "proxy/httpreq.h"

/* Copies text with a NUL behind it, if it fits. */
static bool
httpresp_copy(char *out, size_t cap, struct slice s)
{
	if (s.n >= cap)
		return false;
	if (s.n != 0)
		memcpy(out, s.p, s.n);
	out[s.n] = '\0';
	return true;
}

/* Appends to a comma-separated list, if it fits. */
static bool
httpresp_append(char *out, size_t cap, struct slice s)
{
	size_t n = strlen(out), comma_n = n != 0 ? 2 : 0;

	if (s.n + comma_n >= cap - n)
		return false;
	memcpy(out + n, ", ", comma_n);
	return httpresp_copy(out + n + comma_n, cap - n - comma_n, s);
}

/* Reads a number that fits an int64_t. */
static bool
httpresp_number(struct slice s, int64_t *out)
{
	uint64_t v;

	if (!slice_read_number(s, INT64_MAX, &v))
		return false;
	*out = (int64_t)v;
	return true;
}

/* Lengths: the same one as often as it likes, also as a list (RFC 9110 8.6). */
static bool
httpresp_take_length(struct httpresp *r, struct slice value)
{
	struct slice element;
	bool any = false;
	int64_t length;

	while (http_list_next(&value, &element)) {
		any = true;
		if (!httpresp_number(element, &length))
			r->bad = true;
		else if (r->length >= 0 && r->length != length)
			r->length_conflict = true;
		else
			r->length = length;
	}
	if (!any)
		r->bad = true;
	return false;
}

/* Framing of this hop only; libcurl would undo other codings, or fail once the head is out. */
static bool
httpresp_take_encoding(struct httpresp *r, struct slice value)
{
	struct slice element;

	while (http_list_next(&value, &element)) {
		if (slice_caseeq(element, SLICE("chunked")))
			r->chunked = true;
		else if (!slice_caseeq(element, SLICE("identity")))
			r->transfer_encoded = true;
	}
	return false;
}

/* Reads `bytes 0-4/10`; either the range or the total may be an asterisk, not both. */
static bool
httpresp_read_range(struct httpresp *r, struct slice s)
{
	int64_t first = -1, last = -1, total = -1;
	const char *slash, *dash;
	struct slice range, size;

	if (s.n < 6 || !slice_caseeq((struct slice){s.p, 6}, SLICE("bytes ")))
		return false;
	s = slice_skip(s, 6);
	slash = s.n > 0 ? memchr(s.p, '/', s.n) : NULL;
	if (slash == NULL)
		return false;
	range = (struct slice){s.p, (size_t)(slash - s.p)};
	size = slice_skip(s, range.n + 1);
	if (!slice_eq(size, SLICE("*")) && !httpresp_number(size, &total))
		return false;
	if (!slice_eq(range, SLICE("*"))) {
		dash = range.n > 0 ? memchr(range.p, '-', range.n) : NULL;
		if (dash == NULL ||
		    !httpresp_number((struct slice){range.p, (size_t)(dash - range.p)}, &first) ||
		    !httpresp_number(slice_skip(range, (size_t)(dash - range.p) + 1), &last) ||
		    last < first || (total >= 0 && last >= total))
			return false;
	} else if (total < 0) {
		return false;
	}
	r->range_first = first;
	r->range_last = last;
	r->range_total = total;
	return true;
}

/* Which part of the object this is. */
static bool
httpresp_take_range(struct httpresp *r, struct slice value)
{
	/* Two of them belong to no answer that could be put together. */
	if (r->range_first >= 0 || r->range_total >= 0 || !httpresp_read_range(r, value))
		r->range_bad = true;
	return false;
}

/* apt refuses a head whose Last-Modified has another form: such a one is used, not passed on. */
static bool
httpresp_take_last_modified(struct httpresp *r, struct slice value)
{
	if (r->last_modified != HTTP_NO_DATE)
		return false;
	r->last_modified = http_date_parse(value);
	if (!http_date_is_imf(value))
		return false;
	return httpresp_copy(r->last_modified_text, sizeof(r->last_modified_text), value);
}

/* When the origin made the answer; the depot sends its own Date. */
static bool
httpresp_take_date(struct httpresp *r, struct slice value)
{
	if (r->date == HTTP_NO_DATE)
		r->date = http_date_parse(value);
	return false;
}

/* What can't be read, such as "0", means already expired (RFC 9111 5.3). */
static bool
httpresp_take_expires(struct httpresp *r, struct slice value)
{
	int64_t at_s = http_date_parse(value);

	if (at_s == HTTP_NO_DATE)
		at_s = 0;
	if (r->expires == HTTP_NO_DATE || at_s < r->expires)
		r->expires = at_s;
	return true;
}

/* How long caches on the way had it. */
static bool
httpresp_take_age(struct httpresp *r, struct slice value)
{
	struct slice element;

	if (r->age_s < 0 && http_list_next(&value, &element))
		r->age_s = http_delta_parse(element);
	return false;
}

/* Can a transfer be resumed? */
static bool
httpresp_take_accept_ranges(struct httpresp *r, struct slice value)
{
	r->accept_ranges_none |= http_list_has(value, SLICE("none"));
	return false;
}

/* The first one counts: a second is not passed on either. */
static bool
httpresp_take_content_type(struct httpresp *r, struct slice value)
{
	const char *semicolon = value.n > 0 ? memchr(value.p, ';', value.n) : NULL;
	struct slice type = value;

	if (r->content_type[0] != '\0' || value.n == 0)
		return false;
	if (semicolon != NULL)
		type = http_trim((struct slice){value.p, (size_t)(semicolon - value.p)});
	r->is_html = slice_caseeq(type, SLICE("text/html")) ||
	    slice_caseeq(type, SLICE("application/xhtml+xml"));
	return httpresp_copy(r->content_type, sizeof(r->content_type), value);
}

/* Is the body other than the object itself? The label is not passed on: to apt it means nothing. */
static bool
httpresp_take_content_encoding(struct httpresp *r, struct slice value)
{
	struct slice element;

	while (http_list_next(&value, &element)) {
		if (slice_caseeq(element, SLICE("identity")))
			continue;
		if (r->content_encoded ||
		    !httpresp_copy(r->content_coding, sizeof(r->content_coding), element))
			r->content_coding[0] = '\0';
		r->content_encoded = true;
	}
	return false;
}

/* The depot asks for identity always, so only other selecting fields make variants. */
static bool
httpresp_take_vary(struct httpresp *r, struct slice value)
{
	struct slice element;

	while (http_list_next(&value, &element))
		if (!slice_caseeq(element, SLICE("Accept-Encoding")))
			r->vary_any = true;
	return true;
}

/* A cookie belongs to one client. */
static bool
httpresp_take_set_cookie(struct httpresp *r, struct slice value)
{
	(void)value;
	r->set_cookie = true;
	return false;
}

/* Of two lifetimes the shorter counts, and one that can't be read is over (RFC 9111 4.2.1). */
static void
httpresp_take_age_limit(int64_t *limit_s, struct slice value)
{
	int64_t s = http_delta_parse(value);

	if (s < 0)
		s = 0;
	if (*limit_s < 0 || s < *limit_s)
		*limit_s = s;
}

/* Directives that only name fields (`private="set-cookie"`) are taken for the whole answer. */
static bool
httpresp_take_cache_control(struct httpresp *r, struct slice list)
{
	struct slice element, name, value;
	struct http_cc *cc = &r->cc;
	const struct {
		struct slice name;
		bool *flag;
	} flags[] = {
		{SLICE("no-cache"), &cc->no_cache}, {SLICE("no-store"), &cc->no_store},
		{SLICE("private"), &cc->is_private}, {SLICE("public"), &cc->is_public},
		{SLICE("must-revalidate"), &cc->must_revalidate},
		{SLICE("proxy-revalidate"), &cc->must_revalidate},
		/* s-maxage forbids shared caches to serve stale: RFC 9111 5.2.2.10. */
		{SLICE("s-maxage"), &cc->must_revalidate},
		{SLICE("immutable"), &cc->immutable},
	};

	while (http_list_next(&list, &element)) {
		http_directive_split(element, &name, &value);
		for (size_t i = 0; i < NELEM(flags); i++)
			if (slice_caseeq(name, flags[i].name))
				*flags[i].flag = true;
		if (slice_caseeq(name, SLICE("max-age")))
			httpresp_take_age_limit(&cc->max_age_s, value);
		else if (slice_caseeq(name, SLICE("s-maxage")))
			httpresp_take_age_limit(&cc->s_maxage_s, value);
		else if (slice_caseeq(name, SLICE("stale-if-error")))
			httpresp_take_age_limit(&cc->stale_if_error_s, value);
	}
	return true;
}

/* Is it an entity tag, weak or strong? */
static bool
httpresp_is_etag(struct slice s)
{
	if (slice_starts(s, SLICE("W/")))
		s = slice_skip(s, 2);
	return http_etag_is_strong(s);
}

/* A tag that can't be compared is not passed on: nobody could use it. */
static bool
httpresp_take_etag(struct httpresp *r, struct slice value)
{
	if (r->etag[0] != '\0' || !httpresp_is_etag(value))
		return false;
	return httpresp_copy(r->etag, sizeof(r->etag), value);
}

/* Where a redirect leads; one that is cut would lead elsewhere. */
static bool
httpresp_take_location(struct httpresp *r, struct slice value)
{
	if (r->location[0] != '\0')
		return false;
	if (!httpresp_copy(r->location, sizeof(r->location), value))
		r->bad = true;
	return true;
}

/* apt takes any other form for a broken header line. */
static bool
httpresp_take_retry_after(struct httpresp *r, struct slice value)
{
	r->retry_after_s = http_delta_parse(value);
	r->retry_at = http_date_is_imf(value) ? http_date_parse(value) : HTTP_NO_DATE;
	return r->retry_after_s >= 0 || r->retry_at != HTTP_NO_DATE;
}

/* The origin's challenges, all of them. */
static bool
httpresp_take_www_authenticate(struct httpresp *r, struct slice value)
{
	(void)httpresp_append(r->www_authenticate, sizeof(r->www_authenticate), value);
	return true;
}

/* A parent proxy's challenges, which concern the operator and not the client. */
static bool
httpresp_take_proxy_authenticate(struct httpresp *r, struct slice value)
{
	(void)httpresp_append(r->proxy_authenticate, sizeof(r->proxy_authenticate), value);
	return false;
}

/* Takes the lines of that name out of what was kept. */
static void
httpresp_drop_kept(struct httpresp *r, struct slice name)
{
	struct slice rest = {r->kept, r->kept_n};
	size_t kept_n = 0;

	while (rest.n > 0) {
		const char *lf = memchr(rest.p, '\n', rest.n);
		size_t line_n;

		MUST(lf != NULL);
		line_n = (size_t)(lf - rest.p) + 1;
		MUST(line_n <= rest.n);
		if (!(name.n < line_n && rest.p[name.n] == ':' &&
		    slice_caseeq((struct slice){rest.p, name.n}, name))) {
			memmove(r->kept + kept_n, rest.p, line_n);
			kept_n += line_n;
		}
		rest = slice_skip(rest, line_n);
	}
	r->kept_n = kept_n;
}

/* Connection may come after the fields that it names, or before. */
static bool
httpresp_take_connection(struct httpresp *r, struct slice value)
{
	struct slice rest = value, name;

	while (http_list_next(&rest, &name))
		httpresp_drop_kept(r, name);
	if (!httpresp_append(r->connection, sizeof(r->connection), value))
		r->bad = true;
	return false;
}

/* Takes a field's value; returns whether its line is kept. */
typedef bool httpresp_take_f(struct httpresp *r, struct slice value);

/* Fields with a meaning here; without a function, dropped. All others are kept. */
static const struct httpresp_field {
	struct slice name;
	httpresp_take_f *take;
} httpresp_fields[] = {
#define FIELD(name, take) {{name, sizeof(name) - 1}, take}
	FIELD("Content-Length", httpresp_take_length),
	FIELD("Transfer-Encoding", httpresp_take_encoding),
	FIELD("Content-Range", httpresp_take_range),
	FIELD("Last-Modified", httpresp_take_last_modified),
	FIELD("Date", httpresp_take_date),
	FIELD("Expires", httpresp_take_expires),
	FIELD("Age", httpresp_take_age),
	FIELD("Accept-Ranges", httpresp_take_accept_ranges),
	FIELD("Content-Type", httpresp_take_content_type),
	FIELD("Content-Encoding", httpresp_take_content_encoding),
	FIELD("Vary", httpresp_take_vary),
	FIELD("Set-Cookie", httpresp_take_set_cookie),
	FIELD("Cache-Control", httpresp_take_cache_control),
	FIELD("ETag", httpresp_take_etag),
	FIELD("Location", httpresp_take_location),
	FIELD("Retry-After", httpresp_take_retry_after),
	FIELD("WWW-Authenticate", httpresp_take_www_authenticate),
	FIELD("Proxy-Authenticate", httpresp_take_proxy_authenticate),
	FIELD("Connection", httpresp_take_connection),
	FIELD("Keep-Alive", NULL),
	FIELD("Proxy-Connection", NULL),
	FIELD("Proxy-Authorization", NULL),
	FIELD("Proxy-Authentication-Info", NULL),
	FIELD("TE", NULL),
	FIELD("Trailer", NULL),
	FIELD("Upgrade", NULL),
	FIELD("Via", NULL),
	FIELD("Cache-Status", NULL),
	FIELD("Set-Cookie2", NULL),
	FIELD("Alt-Svc", NULL),
	FIELD("Strict-Transport-Security", NULL),
	FIELD("X-Original-Source", NULL),
#undef FIELD
};

/* Lets a field have its effect; returns whether its line is kept. */
static bool
httpresp_take_field(struct httpresp *r, struct slice name, struct slice value)
{
	for (size_t i = 0; i < NELEM(httpresp_fields); i++) {
		const struct httpresp_field *field = &httpresp_fields[i];

		if (slice_caseeq(name, field->name))
			return field->take != NULL && field->take(r, value);
	}
	return true;
}

/*
 * Keeps a field for storing and sending on. One that finds no room is left
 * out: a page-long policy for browsers must not cost the object.
 */
static void
httpresp_keep(struct httpresp *r, struct slice name, struct slice value)
{
	struct headbuf h;

	if (http_list_has(slice_of(r->connection), name))
		return;
	headbuf_init(&h, r->kept + r->kept_n, sizeof(r->kept) - r->kept_n);
	headbuf_field(&h, name, value);
	if (headbuf_ok(&h))
		r->kept_n += h.n;
	else
		r->kept_cut = true;
}

/* Reads a status line: "HTTP/1.1 200 OK", "HTTP/2 200". */
static bool
httpresp_read_status(struct httpresp *r, struct slice line)
{
	const char *space = memchr(line.p, ' ', line.n);
	uint64_t status;

	if (space == NULL)
		return false;
	line = slice_skip(line, (size_t)(space - line.p) + 1);
	if (line.n < 3 || (line.n > 3 && line.p[3] != ' ') ||
	    !slice_read_number((struct slice){line.p, 3}, 599, &status) || status < 100)
		return false;
	r->status = (int)status;
	return true;
}

/* Reads a field line; blanks before the colon are tolerated and not passed on (RFC 9112 5.1). */
static bool
httpresp_read_field(struct httpresp *r, struct slice line)
{
	const char *colon = memchr(line.p, ':', line.n);
	struct slice name, value;

	if (colon == NULL)
		return false;
	name = (struct slice){line.p, (size_t)(colon - line.p)};
	value = http_trim(slice_skip(line, name.n + 1));
	while (name.n > 0 && (name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '\t'))
		name.n--;
	/* Not a token: nameless, or a folded line, which begins with a blank. */
	if (!http_is_token(name))
		return false;
	if (httpresp_take_field(r, name, value))
		httpresp_keep(r, name, value);
	return !r->bad;
}

/* Control characters other than HTAB have no place in a head. */
static bool
httpresp_line_is_clean(struct slice line)
{
	for (size_t i = 0; i < line.n; i++) {
		uint8_t c = (uint8_t)line.p[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* Forgets everything. */
void
httpresp_reset(struct httpresp *r)
{
	memset(r, 0, sizeof(*r));
	r->length = r->range_first = r->range_last = r->range_total = r->age_s = -1;
	r->retry_after_s = -1;
	r->last_modified = r->date = r->expires = r->retry_at = HTTP_NO_DATE;
	r->cc.max_age_s = r->cc.s_maxage_s = r->cc.stale_if_error_s = -1;
}

/* Takes a line. */
bool
httpresp_line(struct httpresp *r, struct slice line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (slice_starts(line, SLICE("HTTP/"))) {
		httpresp_reset(r);
		r->bad = !httpresp_line_is_clean(line) || !httpresp_read_status(r, line);
		return !r->bad;
	}
	if (r->bad || r->ended)
		return !r->bad;
	if (r->status == 0)
		r->bad = true;
	else if (line.n == 0)
		r->ended = true;
	else if (++r->lines_n > HTTPRESP_LINES_MAX || line.n > HTTPRESP_LINE_MAX)
		r->bad = r->too_large = true;
	else if (!httpresp_line_is_clean(line) || !httpresp_read_field(r, line))
		r->bad = true;
	return !r->bad;
}

int64_t
httpresp_retry_after(const struct httpresp *r, int64_t now_s)
{
	if (r->date != HTTP_NO_DATE)
		now_s = r->date;
	if (r->retry_after_s >= 0)
		return r->retry_after_s;
	return r->retry_at != HTTP_NO_DATE && r->retry_at > now_s ? r->retry_at - now_s : 0;
}

/* Is it one opaque tag in quotes, without W/? */
bool
http_etag_is_strong(struct slice etag)
{
	if (etag.n < 2 || etag.p[0] != '"' || etag.p[etag.n - 1] != '"')
		return false;
	for (size_t i = 1; i < etag.n - 1; i++) {
		uint8_t c = (uint8_t)etag.p[i];

		if (c <= 0x20 || c == '"' || c == 0x7f)
			return false;
	}
	return true;
}
