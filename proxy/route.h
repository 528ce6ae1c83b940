/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef ROUTE_H
#define ROUTE_H
/*
 * From a request target to what is asked for. Pure. The forms:
 *   absolute  http://HTTPS///host[:port]/path   any letter case, 1..n slashes, HTTPS:443 too
 *             http://host/path  https://host/path
 *   origin    /HTTPS///host[:port]/path  /host[:port]/path  /  /-/...  /acng-report.html
 *   authority host:port                          CONNECT only
 * Each object form may carry @TIME or @NAME right before the host.
 * An absolute URL that names this depot is taken as its path.
 */
#include <stdbool.h>

#include "include/key.h"
#include "proxy/httpreq.h"

enum route_kind {
	ROUTE_OBJECT,		/* url is set */
	ROUTE_TUNNEL,		/* CONNECT: host and port are set */
	ROUTE_USAGE,		/* GET / */
	ROUTE_PAGE,		/* /-/...: page is the path after "/-/", query what follows "?" */
	ROUTE_REPORT,		/* /acng-report.html */
};

struct route {
	enum route_kind kind;
	struct url url;
	struct slice userinfo;		/* user:password of the URL, still encoded; empty: none */
	struct slice at;		/* the @segment without "@"; empty: none */
	struct slice page, query;
	struct slice host;		/* tunnel; IPv6 without brackets */
	uint16_t port;
};

/* What routing needs to know of the configuration and of this listener. */
struct route_conf {
	_Atomic(const struct globset *) https_upgrade;	/* whose plain http:// is fetched over TLS */
	/* Does host:port name this depot (`names`, its own listeners)? */
	bool (*is_self)(const void *arg, struct slice host, uint16_t port);
	const void *is_self_arg;
};

/*
 * Decides. Text goes to the arena; slices of *out point there or into the
 * request. REASON_TARGET, REASON_NOT_FOUND_LOCAL (origin form whose first
 * segment has neither dot nor port), REASON_METHOD (e.g. CONNECT to a path)
 * or REASON_REQ_URI_TOO_LONG otherwise.
 */
enum reason route_parse(struct route *out, struct arena *a, const struct httpreq *req,
    const struct route_conf *conf) MUSTCHECK;

/* Is this plain http URL to be asked for over TLS? */
bool route_upgrade_url(const struct route_conf *conf, const struct url *url);

/* The host that a connection is for, when it is not the depot. */
struct route_inside {
	bool tls;
	struct slice host;		/* canonical; empty: each request's Host says which */
	uint16_t port;
};

/*
 * The same on such a connection: every path is the host's, the depot's own
 * pages and prefixes included. REASON_MISDIRECTED when the request names
 * another host than the connection was opened for (RFC 9110 15.5.20).
 */
enum reason route_parse_inside(struct route *out, struct arena *a, const struct httpreq *req,
    const struct route_conf *conf, const struct route_inside *in) MUSTCHECK;

#endif
