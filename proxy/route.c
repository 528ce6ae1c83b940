/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * From a request target to what is asked for. proxy/req_step.c calls it once
 * for each parsed request; the result lives as long as the request's arena.
 *
 * The upstream is named by the target alone. The Host field never decides: apt
 * puts "HTTPS" there, which is the marker and not a host.
 */
#include "proxy/route.h"

#include <stdio.h>

#include "include/access.h"

static struct slice
route_skip_slashes(struct slice s)
{
	while (s.n != 0 && s.p[0] == '/')
		s = slice_skip(s, 1);
	return s;
}

/* The bytes before the first '/', '?' or '#'. */
static struct slice
route_first_segment(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++)
		if (s.p[i] == '/' || s.p[i] == '?' || s.p[i] == '#')
			break;
	s.n = i;
	return s;
}

/*
 * Is it the marker "HTTPS", with or without a port? wget writes it in lower
 * case; different ports are how users give apt several queues.
 */
static bool
route_is_marker(struct slice s)
{
	size_t i;

	if (s.n < 5 || strncasecmp(s.p, "https", 5) != 0)
		return false;
	if (s.n > 5 && s.p[5] != ':')
		return false;
	for (i = 6; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return true;
}

/* Takes an "@TIME/" or "@NAME/" off the front; false when it is empty or nothing follows it. */
static bool
route_take_at(struct slice *rest, struct slice *at)
{
	struct slice segment;

	if (rest->n == 0 || rest->p[0] != '@')
		return true;
	segment = route_first_segment(*rest);
	*rest = slice_skip(*rest, segment.n);
	if (segment.n < 2 || rest->n == 0 || rest->p[0] != '/')
		return false;
	*rest = route_skip_slashes(*rest);
	*at = slice_skip(segment, 1);
	return true;
}

/* Is plain http to this authority to be fetched over TLS? Cuts a named port 80 off, if so. */
static bool
route_upgrade(const struct route_conf *conf, struct slice *authority)
{
	struct slice host;
	uint16_t port;

	if (conf->https_upgrade == NULL || conf->https_upgrade->patterns.n == 0)
		return false;
	if (!url_split_authority(*authority, &host, &port) || (port != 0 && port != 80))
		return false;
	if (!globset_has(conf->https_upgrade, host, 80))
		return false;
	if (port != 0)
		while (authority->p[--authority->n] != ':')
			;
	return true;
}

bool
route_upgrade_url(const struct route_conf *conf, const struct url *url)
{
	struct slice authority = url->authority;

	return !url->tls && route_upgrade(conf, &authority);
}

/* Builds the URL of an object, over TLS where that was asked for or is configured. */
static enum reason
route_build(struct route *rt, struct arena *a, const struct route_conf *conf, bool tls,
    struct slice authority, struct slice path)
{
	rt->kind = ROUTE_OBJECT;
	if (!tls && route_upgrade(conf, &authority))
		tls = true;
	return url_build(&rt->url, a, tls, authority, path);
}

/* What follows the marker: slashes, perhaps @TIME, the real host and the path. */
static enum reason
route_after_marker(struct route *rt, struct arena *a, const struct route_conf *conf,
    struct slice rest, struct slice outer_userinfo)
{
	struct slice authority, path;

	if (rest.n == 0 || rest.p[0] != '/')
		return REASON_TARGET;
	rest = route_skip_slashes(rest);
	if (!route_take_at(&rest, &rt->at))
		return REASON_TARGET;
	url_split(rest, &rt->userinfo, &authority, &path);
	if (rt->userinfo.n == 0)
		rt->userinfo = outer_userinfo;
	return route_build(rt, a, conf, true, authority, path);
}

/* Cuts at the first '?'. */
static void
route_cut_query(struct slice s, struct slice *path, struct slice *query)
{
	const char *mark = s.n != 0 ? memchr(s.p, '?', s.n) : NULL;

	*path = s;
	if (mark == NULL)
		return;
	path->n = (size_t)(mark - s.p);
	*query = slice_skip(s, path->n + 1);
}

/* An own page: s is what follows "/-". */
static enum reason
route_page(struct route *rt, struct slice s)
{
	rt->kind = ROUTE_PAGE;
	if (s.n != 0 && s.p[0] == '/')
		s = slice_skip(s, 1);
	route_cut_query(s, &rt->page, &rt->query);
	return REASON_OK;
}

/* Origin form: own pages, the marker as first segment, or a host as first segment. */
static enum reason
route_origin(struct route *rt, struct arena *a, const struct route_conf *conf, struct slice target)
{
	struct slice rest = route_skip_slashes(target), first = route_first_segment(rest);
	struct slice authority, path;

	if (first.n == 0) {
		rt->kind = ROUTE_USAGE;
		return REASON_OK;
	}
	if (slice_eq(first, SLICE("-")))
		return route_page(rt, slice_skip(rest, 1));
	if (slice_eq(first, SLICE("acng-report.html"))) {
		rt->kind = ROUTE_REPORT;
		route_cut_query(rest, &path, &rt->query);
		return REASON_OK;
	}
	if (route_is_marker(first))
		return route_after_marker(rt, a, conf, slice_skip(rest, first.n), SLICE_NONE);
	if (!route_take_at(&rest, &rt->at))
		return REASON_TARGET;
	url_split(rest, &rt->userinfo, &authority, &path);
	if (authority.n == 0)
		return REASON_TARGET;
	/* Neither a mistyped page name nor the "http:" of a whole URL is a host to look up. */
	if (authority.p[0] != '[' && memchr(authority.p, '.', authority.n) == NULL &&
	    memchr(authority.p, ':', authority.n - 1) == NULL)
		return REASON_NOT_FOUND_LOCAL;
	return route_build(rt, a, conf, false, authority, path);
}

/* Absolute form: the marker as host, this depot itself, or any other host. */
static enum reason
route_absolute(struct route *rt, struct arena *a, const struct route_conf *conf,
    struct slice target)
{
	struct slice authority, path, host;
	size_t used = a->used;
	uint16_t port;
	enum reason r;
	bool tls;

	if (!url_take_scheme(&target, &tls))
		return REASON_TARGET;
	url_split(target, &rt->userinfo, &authority, &path);
	if (route_is_marker(authority))
		return route_after_marker(rt, a, conf, path, rt->userinfo);
	r = route_build(rt, a, conf, tls, authority, path);
	if (r != REASON_OK || conf->is_self == NULL)
		return r;
	/* Asked with the port as sent: an upgrade to TLS has changed the URL's. */
	MUST(url_split_authority(authority, &host, &port));
	if (port == 0)
		port = tls ? 443 : 80;
	if (!conf->is_self(conf->is_self_arg, rt->url.host, port))
		return REASON_OK;
	a->used = used;
	/* A password in it was meant for this depot, not for an upstream. */
	memset(rt, 0, sizeof(*rt));
	return route_origin(rt, a, conf, path);
}

/* Authority form: host:port, both needed. */
static enum reason
route_connect(struct route *rt, struct arena *a, struct slice target)
{
	struct slice host;

	if (target.n != 0 && target.p[0] == '/')
		return REASON_METHOD;
	if (!url_split_authority(target, &host, &rt->port) || rt->port == 0)
		return REASON_TARGET;
	rt->kind = ROUTE_TUNNEL;
	rt->host = url_host_copy(a, host);
	return rt->host.p != NULL ? REASON_OK : REASON_REQ_URI_TOO_LONG;
}

enum reason
route_parse(struct route *out, struct arena *a, const struct httpreq *req,
    const struct route_conf *conf)
{
	struct route rt;
	enum reason r = REASON_METHOD;

	memset(&rt, 0, sizeof(rt));
	switch (req->method) {
	case HTTP_GET:
	case HTTP_HEAD:
		if (req->target.n != 0 && req->target.p[0] == '/')
			r = route_origin(&rt, a, conf, req->target);
		else
			r = route_absolute(&rt, a, conf, req->target);
		break;
	case HTTP_CONNECT:
		r = route_connect(&rt, a, req->target);
		break;
	case HTTP_OTHER:
		break;
	}
	if (r == REASON_OK)
		*out = rt;
	return r;
}

/* host:port as an authority, in the arena. */
static struct slice
route_authority(struct arena *a, struct slice host, uint16_t port)
{
	bool v6 = memchr(host.p, ':', host.n) != NULL;
	char *p = arena_text(a, host.n + 10);
	int n;

	if (p == NULL)
		return SLICE_NONE;
	n = snprintf(p, host.n + 10, v6 ? "[%.*s]:%u" : "%.*s:%u", SLICE_ARG(host), port);
	return (struct slice){p, (size_t)n};
}

/* Is this authority the one that the connection was opened for? */
static bool
route_is_inside(struct arena *a, struct slice authority, const struct route_inside *in)
{
	size_t used = a->used;
	struct slice host;
	uint16_t port;
	bool same;

	if (!url_split_authority(authority, &host, &port))
		return false;
	host = url_host_copy(a, host);
	same = host.p != NULL && slice_eq(host, in->host) &&
	    (port != 0 ? port : in->tls ? 443 : 80) == in->port;
	a->used = used;
	return same;
}

/* On a connection whose host each request names itself. */
static enum reason
route_redirected(struct route *rt, struct arena *a, const struct route_conf *conf,
    struct slice authority, struct slice path)
{
	struct slice host;
	uint16_t port;

	if (!url_split_authority(authority, &host, &port))
		return REASON_TARGET;
	if (conf->is_self != NULL &&
	    conf->is_self(conf->is_self_arg, host, port != 0 ? port : 80))
		return REASON_LOOP;
	return route_build(rt, a, conf, false, authority, path);
}

enum reason
route_parse_inside(struct route *out, struct arena *a, const struct httpreq *req,
    const struct route_conf *conf, const struct route_inside *in)
{
	struct slice target = req->target, authority = req->host, path = req->target;
	struct route rt;
	enum reason r;
	bool tls;

	memset(&rt, 0, sizeof(rt));
	if (req->method != HTTP_GET && req->method != HTTP_HEAD)
		return REASON_METHOD;
	if (target.n == 0 || target.p[0] != '/') {
		/* In absolute form the Host field says nothing (RFC 9112 3.2.2). */
		if (!url_take_scheme(&target, &tls))
			return REASON_TARGET;
		if (tls != in->tls)
			return REASON_MISDIRECTED;
		url_split(target, &rt.userinfo, &authority, &path);
	}
	if (in->host.n == 0)
		r = route_redirected(&rt, a, conf, authority, path);
	else {
		if (authority.n != 0 && !route_is_inside(a, authority, in))
			return REASON_MISDIRECTED;
		authority = route_authority(a, in->host, in->port);
		if (authority.p == NULL)
			return REASON_REQ_URI_TOO_LONG;
		r = route_build(&rt, a, conf, in->tls, authority, path);
	}
	if (r == REASON_OK)
		*out = rt;
	return r;
}
