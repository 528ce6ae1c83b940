/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Which version this is, and which upstreams may be asked at all; see depot.h. */
#include "proxy/depot.h"

const char depot_version[] = APT_DEPOT_VERSION;

enum {
	DEPOT_OWN_FDS = 32,		/* logs, index, threads, listeners */
	DEPOT_WORKER_FDS = 4,
	DEPOT_SPARE_FDS = 224,		/* upstreams, bodies being written, read ahead; or half, if less */
	DEPOT_LEAST_FDS = 32,		/* below this nothing would be got done */
};

uint64_t
depot_room_for_connections(uint64_t open_files, uint64_t workers)
{
	uint64_t own = DEPOT_OWN_FDS + workers * DEPOT_WORKER_FDS, left;

	if (open_files < own + DEPOT_LEAST_FDS)
		return 0;
	left = open_files - own;
	left -= left / 2 < DEPOT_SPARE_FDS ? left / 2 : DEPOT_SPARE_FDS;
	return left / 2;	/* a connection may hold its socket and a body */
}

bool
depot_is_address(struct slice host)
{
	struct sockaddr_storage sa;

	return access_parse_host(host, &sa);
}

/*
 * A host that is written as a number, in any notation, is judged before
 * anything is asked, and so is a name that means "this machine" wherever it
 * is looked up: behind a parent proxy there is no second look. Other names
 * are judged by the addresses that they lead to.
 */
static bool
depot_address_ok(const struct config *cfg, struct slice host)
{
	struct sockaddr_storage sa;

	if (access_is_localhost(host))
		return depot_address_ok(cfg, SLICE("127.0.0.1")) ||
		    depot_address_ok(cfg, SLICE("::1"));
	return !access_parse_host(host, &sa) || access_address_ok(&cfg->allow_addresses,
	    &cfg->deny_addresses, (const struct sockaddr *)&sa);
}

enum reason
depot_check_target(const struct config *cfg, struct slice host, uint16_t port,
    const struct portset *ports)
{
	if (globset_has(&cfg->deny_upstreams, host, port) ||
	    !globset_has(&cfg->allow_upstreams, host, port))
		return REASON_DENIED_UPSTREAM;
	if (!portset_has(ports, port))
		return REASON_DENIED_PORT;
	if (!depot_address_ok(cfg, host))
		return REASON_DENIED_ADDRESS;
	return REASON_OK;
}

bool
depot_parse_url(const struct depot *d, const char *word, struct arena *a, struct url *url)
{
	struct slice at;

	return depot_parse_url_at(d, word, a, url, &at);
}

bool
depot_parse_url_at(const struct depot *d, const char *word, struct arena *a, struct url *url,
    struct slice *at)
{
	struct httpreq req = {.method = HTTP_GET, .target = slice_of(word)};
	struct slice rest = req.target;
	struct route rt;
	char *p;
	bool tls;

	if (!url_take_scheme(&rest, &tls) && rest.n > 0 && rest.p[0] != '/') {
		p = arena_text(a, rest.n + 1);
		if (p == NULL)
			return false;
		p[0] = '/';
		memcpy(p + 1, rest.p, rest.n);
		req.target = (struct slice){p, rest.n + 1};
	}
	if (route_parse(&rt, a, &req, &d->route) != REASON_OK || rt.kind != ROUTE_OBJECT)
		return false;
	*url = rt.url;
	*at = rt.at;
	return true;
}
