/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * The request of one try: URL, header fields, conditions, from which byte on
 * to ask, and where a redirect leads. Called by fetch.c and segment.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "include/counter.h"
#include "include/log.h"
#include "proxy/upstream_priv.h"

/* Adds a header line; false: out of memory. */
PRINTF_LIKE(2, 3)
static bool
fetch_add_header(struct curl_slist **headers, const char *fmt, ...)
{
	struct curl_slist *list;
	va_list ap;
	char *line;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return false;
	list = curl_slist_append(*headers, line);
	free(line);
	if (list == NULL)
		return false;
	*headers = list;
	return true;
}

/* The client's own fields, for files that are no repository's. */
static bool
fetch_add_client_fields(const struct fetch *ft, struct curl_slist **headers)
{
	const char *p = ft->fields, *end;

	for (; (end = strstr(p, "\r\n")) != NULL; p = end + 2) {
		/* libcurl drops a field without value unless it ends in a semicolon. */
		const char *colon = memchr(p, ':', (size_t)(end - p));

		if (colon == NULL)
			continue;
		/* These are added once more below. */
		if (ft->no_cache && (strncasecmp(p, "Cache-Control:", 14) == 0 ||
		    strncasecmp(p, "Pragma:", 7) == 0))
			continue;
		if (end - colon <= 2) {
			if (!fetch_add_header(headers, "%.*s;", (int)(colon - p), p))
				return false;
		} else if (!fetch_add_header(headers, "%.*s", (int)(end - p), p))
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
fetch_add_credentials(struct fetch *ft, const struct config_upstream *conf,
    struct curl_slist **headers)
{
	const char *auth = conf->auth, *value;

	if (conf->client_cert != NULL && ft->url.tls)
		flight_set_credentials(ft->f);
	if (auth == NULL || fetch_has_client_credentials(ft))
		return true;
	ft->auth_match = upauth_find(ft->u->auth, auth, &ft->url, &value);
	if (ft->auth_match != AUTHFILE_FOUND)
		return true;
	flight_set_credentials(ft->f);
	return fetch_add_header(headers, "Authorization: %s", value);
}

/* Validators: If-Range with a part, conditions with a check. */
static bool
fetch_add_conditions(const struct fetch *ft, struct curl_slist **headers)
{
	char date[HTTP_DATE_BYTES];
	bool strong = http_etag_is_strong(slice_of(ft->want.etag));

	if (ft->want.last_modified_s != INT64_MIN)
		http_date_format(ft->want.last_modified_s, date);
	if (ft->resume_at > 0)
		return fetch_add_header(headers, "Range: bytes=%llu-",
		    (unsigned long long)ft->resume_at) &&
		    fetch_add_header(headers, "If-Range: %s", strong ? ft->want.etag : date);
	if (!ft->check)
		return true;
	return (ft->want.etag[0] == '\0' ||
	    fetch_add_header(headers, "If-None-Match: %s", ft->want.etag)) &&
	    (ft->want.last_modified_s == INT64_MIN ||
	    fetch_add_header(headers, "If-Modified-Since: %s", date));
}

/* The header lines that all requests of a fetch have. */
static bool
fetch_add_common(struct fetch *ft, const struct config_upstream *conf,
    struct curl_slist **headers)
{
	bool ok = true;

	ft->auth_match = AUTHFILE_NONE;
	if (ft->fields[0] != '\0' && !ft->abroad)
		ok = fetch_add_client_fields(ft, headers);
	else
		ok = fetch_add_header(headers, "Accept: */*");
	if (ft->no_cache)
		ok = ok && fetch_add_header(headers, "Cache-Control: no-cache") &&
		    fetch_add_header(headers, "Pragma: no-cache");
	return ok && fetch_add_credentials(ft, conf, headers) &&
	    fetch_add_header(headers, "Accept-Encoding: identity") &&
	    fetch_add_header(headers, "User-Agent: apt-depot/%s", depot_version) &&
	    fetch_add_header(headers, "%s", ft->via);
}

/* Puts the URL together as origins understand it best. */
static bool
fetch_set_url(const struct fetch *ft, CURL *curl)
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
	return curl_easy_setopt(curl, CURLOPT_URL, text) == CURLE_OK;
}

bool
fetch_make_request(struct fetch *ft)
{
	CURL *curl = ft->curl;

	if (!fetch_set_url(ft, curl) || !fetch_add_common(ft, ft->host->conf, &ft->headers) ||
	    !fetch_add_conditions(ft, &ft->headers) ||
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

bool
fetch_make_range(struct fetch *ft, const struct config_upstream *conf, CURL *curl,
    struct curl_slist **headers, uint64_t first, uint64_t end)
{
	char date[HTTP_DATE_BYTES] = "";
	bool strong = http_etag_is_strong(slice_of(ft->want.etag));

	MUST(strong || ft->want.last_modified_s != INT64_MIN);
	if (!strong)
		http_date_format(ft->want.last_modified_s, date);
	if (!fetch_set_url(ft, curl) || !fetch_add_common(ft, conf, headers) ||
	    !fetch_add_header(headers, "Range: bytes=%llu-%llu", (unsigned long long)first,
	    (unsigned long long)end - 1) ||
	    !fetch_add_header(headers, "If-Range: %s", strong ? ft->want.etag : date))
		return false;
	(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *headers);
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
	if (ft->same_try)
		return;
	if (ft->resume_at > 0 && flight_committed(ft->f) > 0)
		COUNT(upstream_resumes_total);
	if (ft->check && ft->resume_at == 0)
		COUNT(revalidations_total);
}

enum { FETCH_SHOWN_BYTES = 200 };	/* of what is no URL */

/* A redirect's query may be a signature that opens a door: pages and logs do without. */
static struct slice
fetch_without_query(struct slice text)
{
	const char *query = text.n != 0 ? memchr(text.p, '?', text.n) : NULL;

	return query == NULL ? text : (struct slice){text.p, (size_t)(query - text.p)};
}

void
fetch_redirect(struct fetch *ft)
{
	struct slice shown = fetch_without_query(slice_of(ft->resp->location));
	char *text = malloc(FETCH_URL_BYTES);
	struct arena a;
	struct url next;
	struct key key;
	enum reason r = REASON_NO_MEMORY;
	unsigned i;
	bool again = false;

	AN(ft->resp->location);
	if (text != NULL) {
		arena_init(&a, text, FETCH_URL_BYTES);
		r = url_resolve(&next, &a, &ft->url, slice_of(ft->resp->location));
	}
	/* Where plain http stands for https, it does so in a redirect too. */
	if (r == REASON_OK && route_upgrade_url(&ft->u->depot->route, &next))
		r = url_build(&next, &a, true, next.authority, next.path);
	if (r != REASON_OK) {
		/* What may hold a password stays out of logs and pages, too. */
		if (shown.n > FETCH_SHOWN_BYTES)
			shown.n = FETCH_SHOWN_BYTES;
		if (strchr(ft->resp->location, '@') != NULL)
			shown = SLICE("(hidden)");
		fetch_fail(ft, REASON_UP_REDIRECTS, 0, "%.*s redirects to %.*s, which is no URL that can "
		    "be asked", SLICE_ARG(ft->url.authority), SLICE_ARG(shown));
		free(text);
		return;
	}
	shown = fetch_without_query(next.text);
	key_of_url(&next, &key);
	for (i = 0; i < ft->visited_n; i++)
		again |= memcmp(&ft->visited[i], &key, sizeof(key)) == 0;
	if (ft->u->depot->route.is_self(ft->u->depot->route.is_self_arg, next.host, next.port))
		r = REASON_LOOP;
	else
		r = depot_check_target(ft->u->depot->config, next.host, next.port,
		    &ft->u->depot->config->allow_ports);
	if (again || ft->visited_n > FETCH_REDIRECTS_MAX || (ft->url.tls && !next.tls) ||
	    r != REASON_OK) {
		fetch_fail(ft, r != REASON_OK ? r : REASON_UP_REDIRECTS, 0,
		    "%.*s redirects to %.*s: %s", SLICE_ARG(ft->url.authority), SLICE_ARG(shown),
		    r != REASON_OK ? reason_text(r) : again ? "a circle" : ft->url.tls && !next.tls ?
		    "from https to http, which is not followed" : "too many redirects");
		free(text);
		return;
	}
	COUNT(redirects_total);
	log_debug("flight=%llu redirected to %.*s", (unsigned long long)flight_id(ft->f),
	    SLICE_ARG(shown));
	/* The client's credentials and fields are for the host that it named. */
	if (!slice_eq(next.authority, ft->url.authority))
		ft->abroad = true;
	fetch_end_try(ft);
	free(ft->url_text);
	ft->url_text = text;
	ft->url = next;
	ft->visited[ft->visited_n++] = key;
	upstream_queue(ft);
}
