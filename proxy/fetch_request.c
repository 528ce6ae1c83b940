/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The request of one try: URL, header fields, conditions, and from which
 * byte on to ask. Called by fetch.c.
 */
#include <stdarg.h>
#include <stdio.h>

#include "include/counter.h"
#include "proxy/upstream_priv.h"

/* Adds a header line; false: out of memory. */
PRINTF_LIKE(2, 3)
static bool
fetch_add_header(struct fetch *ft, const char *fmt, ...)
{
	struct curl_slist *list;
	char line[9216];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	list = curl_slist_append(ft->headers, line);
	if (list == NULL)
		return false;
	ft->headers = list;
	return true;
}

/* The client's own fields, for files that are no repository's. */
static bool
fetch_add_client_fields(struct fetch *ft)
{
	const char *p = ft->fields, *end;

	for (; (end = strstr(p, "\r\n")) != NULL; p = end + 2) {
		/* libcurl drops a field without value unless it ends in a semicolon. */
		const char *colon = memchr(p, ':', (size_t)(end - p));

		if (colon == NULL)
			continue;
		if (end - colon <= 2) {
			if (!fetch_add_header(ft, "%.*s;", (int)(colon - p), p))
				return false;
		} else if (!fetch_add_header(ft, "%.*s", (int)(end - p), p))
			return false;
	}
	return true;
}

/* Has the client brought credentials of its own? */
static bool
fetch_has_client_credentials(const struct fetch *ft)
{
	const char *p = ft->fields;

	for (; p != NULL && *p != '\0'; p = strstr(p, "\r\n") != NULL ? strstr(p, "\r\n") + 2 : NULL)
		if (strncasecmp(p, "Authorization:", 14) == 0)
			return true;
	return false;
}

/*
 * The depot's own credentials for this URL, unless the client is to be known
 * by its own. Each URL of a chain of redirects is looked up for itself.
 */
static bool
fetch_add_credentials(struct fetch *ft)
{
	const char *auth = ft->host->conf->auth, *value;

	if (ft->host->conf->client_cert != NULL && ft->url.tls)
		flight_set_credentials(ft->f);
	if (auth == NULL || fetch_has_client_credentials(ft))
		return true;
	ft->auth_match = upauth_find(ft->u->auth, auth, &ft->url, &value);
	if (ft->auth_match != AUTHFILE_FOUND)
		return true;
	flight_set_credentials(ft->f);
	return fetch_add_header(ft, "Authorization: %s", value);
}

/* Validators: If-Range with a part, conditions with a check. */
static bool
fetch_add_conditions(struct fetch *ft)
{
	char date[HTTP_DATE_BYTES];
	bool strong = http_etag_is_strong(slice_of(ft->want.etag));

	if (ft->want.last_modified_s != INT64_MIN)
		http_date_format(ft->want.last_modified_s, date);
	if (ft->resume_at > 0)
		return fetch_add_header(ft, "Range: bytes=%llu-",
		    (unsigned long long)ft->resume_at) &&
		    fetch_add_header(ft, "If-Range: %s", strong ? ft->want.etag : date);
	if (!ft->check)
		return true;
	return (ft->want.etag[0] == '\0' ||
	    fetch_add_header(ft, "If-None-Match: %s", ft->want.etag)) &&
	    (ft->want.last_modified_s == INT64_MIN ||
	    fetch_add_header(ft, "If-Modified-Since: %s", date));
}

/* Every header line of the request. */
static bool
fetch_make_headers(struct fetch *ft)
{
	bool ok = true;

	ft->auth_match = AUTHFILE_NONE;
	if (ft->fields[0] != '\0' && !ft->abroad)
		ok = fetch_add_client_fields(ft);
	else
		ok = fetch_add_header(ft, "Accept: */*");
	if (ft->no_cache)
		ok = ok && fetch_add_header(ft, "Cache-Control: no-cache") &&
		    fetch_add_header(ft, "Pragma: no-cache");
	return ok && fetch_add_credentials(ft) &&
	    fetch_add_header(ft, "Accept-Encoding: identity") &&
	    fetch_add_header(ft, "User-Agent: apt-depot/%s", depot_version) &&
	    fetch_add_header(ft, "%s", ft->via) &&
	    fetch_add_conditions(ft);
}

/* Puts the URL together as origins understand it best. */
static bool
fetch_set_url(struct fetch *ft)
{
	char text[FETCH_URL_BYTES], room[FETCH_URL_BYTES];
	struct arena a;
	struct slice path;

	arena_init(&a, room, sizeof(room));
	path = url_upstream_path(&ft->url, &a);
	if (path.p == NULL)
		return false;
	(void)snprintf(text, sizeof(text), "%s://%.*s%.*s", ft->url.tls ? "https" : "http",
	    SLICE_ARG(ft->url.authority), SLICE_ARG(path));
	return curl_easy_setopt(ft->curl, CURLOPT_URL, text) == CURLE_OK;
}

bool
fetch_make_request(struct fetch *ft)
{
	CURL *curl = ft->curl;

	if (!fetch_set_url(ft) || !fetch_make_headers(ft) ||
	    !upway_prepare(&ft->way, ft->u, &ft->host->way, curl, ft->url.tls))
		return false;
	(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, ft->headers);
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, ft->error);
	if (ft->head_only)
		(void)curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	/* After a failure no connection is trusted that was there before. */
	if (ft->fresh)
		(void)curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
	return true;
}

void
fetch_choose_range(struct fetch *ft)
{
	uint64_t have = flight_committed(ft->f);

	if (have == 0)
		have = ft->partial_bytes;
	ft->resume_at = 0;
	if (have > 0 && (http_etag_is_strong(slice_of(ft->want.etag)) ||
	    ft->want.last_modified_s != INT64_MIN))
		ft->resume_at = have;
	if (ft->resume_at > 0 && flight_committed(ft->f) > 0)
		COUNT(upstream_resumes_total);
	if (ft->check && ft->resume_at == 0)
		COUNT(revalidations_total);
}
