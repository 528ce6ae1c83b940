/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Fuzzes request targets. The first byte chooses the method, the rest is the
 * target. An object's URL must be canonical, with a host and without controls.
 */
#include <stdlib.h>

#include "include/access.h"
#include "include/obj.h"
#include "proxy/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char memory[65536];

static bool
is_self(const void *arg, struct slice host, uint16_t port)
{
	(void)arg;
	return port == 3142 && slice_eq(host, SLICE("depot.example"));
}

/* Does s lie within the target, or is it empty? */
static bool
lies_within(struct slice s, struct slice target)
{
	return s.n == 0 || (s.p >= target.p && s.p + s.n <= target.p + target.n);
}

/* What the route of an object promises. */
static void
object_check(const struct route *rt)
{
	static char again_memory[65536];
	struct arena a;
	struct url again;
	size_t i;

	for (i = 0; i < rt->url.text.n; i++)
		MUST((unsigned char)rt->url.text.p[i] > ' ' && rt->url.text.p[i] != 0x7f);
	AN(rt->url.host.n);
	AN(rt->url.port);
	MUST(rt->url.path.n >= 1 && rt->url.path.p[0] == '/');
	arena_init(&a, again_memory, sizeof(again_memory));
	AZ(url_parse(&again, &a, rt->url.text));
	MUST(slice_eq(again.text, rt->url.text));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct globset upgrade;
	struct route_conf conf = {.https_upgrade = &upgrade, .is_self = is_self};
	struct httpreq req = {.method = HTTP_GET};
	struct route rt;
	struct arena a;

	if (size == 0 || size > HTTPREQ_TARGET_MAX)
		return 0;
	if (upgrade.patterns.n == 0)
		MUST(globset_add(&upgrade, SLICE("*.up.example")));
	req.method = data[0] == 'C' ? HTTP_CONNECT : data[0] == 'O' ? HTTP_OTHER : HTTP_GET;
	req.target = (struct slice){(const char *)data + 1, size - 1};
	arena_init(&a, memory, data[0] == 's' ? 128 : sizeof(memory));
	if (route_parse(&rt, &a, &req, &conf) != REASON_OK)
		return 0;
	MUST(lies_within(rt.at, req.target) && lies_within(rt.userinfo, req.target));
	MUST(lies_within(rt.page, req.target) && lies_within(rt.query, req.target));
	if (rt.kind == ROUTE_OBJECT)
		object_check(&rt);
	if (rt.kind == ROUTE_TUNNEL)
		MUST(rt.host.n != 0 && rt.port != 0);
	return 0;
}
