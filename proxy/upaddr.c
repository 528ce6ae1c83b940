/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/*
 * Choice among the addresses of an origin; see upaddr.h. Called by upstream.c
 * for each address that libcurl is about to connect to, by fetch_rate.c when
 * one did badly, and by segment.c, which spreads over them. Pure: the caller
 * counts, logs and knows the time.
 */
#include "proxy/upaddr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* The address as text, as libcurl tells a peer's; false: of another family. */
static bool
upaddr_text(const struct sockaddr *sa, char out[INET6_ADDRSTRLEN])
{
	const void *a;

	if (sa->sa_family == AF_INET)
		a = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	else if (sa->sa_family == AF_INET6)
		a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	else
		return false;
	return inet_ntop(sa->sa_family, a, out, INET6_ADDRSTRLEN) != NULL;
}

/* The entry of this address, made when there is room; else NULL. */
static struct upaddr *
upaddr_entry(struct upaddrs *a, const char *ip)
{
	struct upaddr *e;
	unsigned i;

	for (i = 0; i < a->n; i++)
		if (strcmp(a->v[i].ip, ip) == 0)
			return &a->v[i];
	if (a->n == UPADDR_MAX)
		return NULL;
	e = &a->v[a->n++];
	(void)snprintf(e->ip, sizeof(e->ip), "%s", ip);
	e->avoid_until_ms = 0;
	return e;
}

bool
upaddr_is_avoided(const struct upaddrs *a, const char *ip, int64_t now_ms)
{
	unsigned i;

	for (i = 0; i < a->n; i++)
		if (strcmp(a->v[i].ip, ip) == 0)
			return a->v[i].avoid_until_ms > now_ms;
	return false;
}

bool
upaddr_avoid(struct upaddrs *a, const char *ip, int64_t now_ms)
{
	struct upaddr *e;
	bool known;

	if (ip[0] == '\0')
		return false;
	known = upaddr_is_avoided(a, ip, now_ms);
	e = upaddr_entry(a, ip);
	if (e == NULL)
		return false;
	e->avoid_until_ms = now_ms + UPADDR_AVOID_MS;
	return !known;
}

void
upaddr_begin_list(struct upaddrs *a, int64_t now_ms)
{
	unsigned i, n = 0;

	for (i = 0; i < a->n; i++)
		if (a->v[i].avoid_until_ms > now_ms)
			a->v[n++] = a->v[i];
	a->n = n;
}

bool
upaddr_take(struct upaddr_choice *c, const struct sockaddr *sa)
{
	char ip[INET6_ADDRSTRLEN];
	bool ok;

	if (c->addrs == NULL || !upaddr_text(sa, ip))
		return true;
	if (c->list) {
		(void)upaddr_entry(c->addrs, ip);
		ok = false;
	} else if (c->only[0] != '\0')
		ok = strcmp(c->only, ip) == 0;
	else
		ok = c->any || !upaddr_is_avoided(c->addrs, ip, c->now_ms);
	if (!ok)
		c->skipped = true;
	else if (c->tried_n < sizeof(c->tried) / sizeof(c->tried[0]))
		(void)snprintf(c->tried[c->tried_n++], sizeof(c->tried[0]), "%s", ip);
	return ok;
}
