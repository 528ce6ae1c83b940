/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * What preconditions and Range mean for an object. Called once per request
 * when the object to serve is known; keeps nothing.
 *
 * apt resumes with If-Range and the date of its partial file. Bytes of
 * another version appended there are a failed build, so everything here that
 * could be read in two ways ends in 200 and the whole object.
 */
#include "proxy/httpcond.h"

#include "proxy/httpdate.h"
#include "proxy/httpresp.h"

/* Reads digits off the front, at least one; a number too large becomes the largest. */
static bool
range_read_number(struct slice *s, uint64_t *out)
{
	struct slice digits = {s->p, 0};

	while (digits.n < s->n && s->p[digits.n] >= '0' && s->p[digits.n] <= '9')
		digits.n++;
	if (digits.n == 0)
		return false;
	if (!slice_read_number(digits, UINT64_MAX, out))
		*out = UINT64_MAX;
	*s = slice_skip(*s, digits.n);
	return true;
}

/* Reads `-N`, the last N bytes. */
static int
range_parse_suffix(struct slice spec, uint64_t size_bytes, uint64_t *first, uint64_t *end)
{
	uint64_t suffix_bytes;

	spec = slice_skip(spec, 1);
	if (!range_read_number(&spec, &suffix_bytes) || spec.n != 0)
		return 200;
	if (suffix_bytes == 0)
		return 416;
	/* The last bytes of nothing are the whole of it, which Content-Range can't say. */
	if (size_bytes == 0)
		return 200;
	*first = suffix_bytes < size_bytes ? size_bytes - suffix_bytes : 0;
	*end = size_bytes;
	return 206;
}

/* Reads a range against a size. */
int
range_parse(struct slice range, uint64_t size_bytes, uint64_t *first, uint64_t *end)
{
	struct slice rest, spec, second;
	uint64_t from, to = UINT64_MAX;

	if (range.n < 6 || !slice_caseeq((struct slice){range.p, 6}, SLICE("bytes=")))
		return 200;
	rest = slice_skip(range, 6);
	if (!http_list_next(&rest, &spec) || http_list_next(&rest, &second))
		return 200;
	if (spec.p[0] == '-')
		return range_parse_suffix(spec, size_bytes, first, end);
	if (!range_read_number(&spec, &from) || !slice_starts(spec, SLICE("-")))
		return 200;
	spec = slice_skip(spec, 1);
	if (spec.n != 0 && (!range_read_number(&spec, &to) || spec.n != 0 || to < from))
		return 200;
	if (from >= size_bytes)
		return 416;
	*first = from;
	*end = to < size_bytes ? to + 1 : size_bytes;
	return 206;
}

/* An entity tag without its weakness. */
static struct slice
cond_opaque(struct slice etag)
{
	return slice_starts(etag, SLICE("W/")) ? slice_skip(etag, 2) : etag;
}

/*
 * Gives the next entity tag of a list, false at its end or at what is none.
 * Backslash and comma are ordinary characters in a tag, so that the list
 * reader for quoted strings won't do.
 */
static bool
cond_next_etag(struct slice *rest, struct slice *etag)
{
	struct slice s = *rest, opaque;
	const char *quote;

	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == ','))
		s = slice_skip(s, 1);
	opaque = cond_opaque(s);
	if (opaque.n < 2 || opaque.p[0] != '"')
		return false;
	quote = memchr(opaque.p + 1, '"', opaque.n - 1);
	if (quote == NULL)
		return false;
	*etag = (struct slice){s.p, (size_t)(quote + 1 - s.p)};
	*rest = slice_skip(s, etag->n);
	return true;
}

/* Does a list of tags, or `*`, match the object's? */
static bool
cond_match_list(struct slice list, struct slice own, bool strong)
{
	struct slice etag;

	if (slice_eq(list, SLICE("*")))
		return true;
	while (own.n != 0 && cond_next_etag(&list, &etag)) {
		if (strong ? slice_eq(etag, own) && http_etag_is_strong(own) :
		    slice_eq(cond_opaque(etag), cond_opaque(own)))
			return true;
	}
	return false;
}

/* The same for a field, whose list may come in several lines (RFC 9110 5.3). */
static bool
cond_match_field(const struct httpreq *req, struct slice name, struct slice own, bool strong)
{
	for (unsigned i = 0; i < req->fields_n; i++)
		if (slice_caseeq(req->fields[i].name, name) &&
		    cond_match_list(req->fields[i].value, own, strong))
			return true;
	return false;
}

/* If-Match, else If-Unmodified-Since: is the object still the one that is meant? */
static bool
cond_is_same(const struct httpreq *req, const struct httpcond_object *obj)
{
	int64_t at_s;

	if (req->if_match.p != NULL)
		return cond_match_field(req, SLICE("If-Match"), obj->etag, true);
	if (req->if_unmodified_since.p == NULL || obj->last_modified == HTTP_NO_DATE)
		return true;
	at_s = http_date_parse(req->if_unmodified_since);
	if (at_s == HTTP_NO_DATE)
		return true;
	return obj->last_modified <= at_s;
}

/*
 * If-None-Match, else If-Modified-Since: has the client got it already?
 * Repository files may go back in time, hence exact_dates.
 */
static bool
cond_is_held(const struct httpreq *req, const struct httpcond_object *obj)
{
	int64_t at_s;

	if (req->if_none_match.p != NULL)
		return cond_match_field(req, SLICE("If-None-Match"), obj->etag, false);
	if (req->if_modified_since.p == NULL || obj->last_modified == HTTP_NO_DATE)
		return false;
	at_s = http_date_parse(req->if_modified_since);
	if (at_s == HTTP_NO_DATE)
		return false;
	return obj->exact_dates ? obj->last_modified == at_s : obj->last_modified <= at_s;
}

/* If-Range: is the client's part one of this very object? */
static bool
cond_range_applies(const struct httpreq *req, const struct httpcond_object *obj)
{
	int64_t at_s;

	if (req->if_range.p == NULL)
		return true;
	if (obj->validators_shared)
		return false;
	if (http_etag_is_strong(req->if_range))
		return slice_eq(req->if_range, obj->etag);
	at_s = http_date_parse(req->if_range);
	return at_s != HTTP_NO_DATE && at_s == obj->last_modified;
}

/* Judges in the order of RFC 9110 13.2.2. */
void
httpcond_evaluate(const struct httpreq *req, const struct httpcond_object *obj,
    struct httpcond_verdict *out)
{
	*out = (struct httpcond_verdict){.status = 200};
	if (!cond_is_same(req, obj))
		out->status = 412;
	else if (cond_is_held(req, obj))
		out->status = 304;
	else if (req->method == HTTP_GET && req->range.p != NULL && obj->size_bytes >= 0 &&
	    cond_range_applies(req, obj))
		out->status = range_parse(req->range, (uint64_t)obj->size_bytes, &out->first,
		    &out->end);
}
