/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef DEPOT_H
#define DEPOT_H
/*
 * What all threads of the daemon share: made by main before they start, and read-only after, but
 * for what a reload changes (main_apply): that is atomic, and old values stay valid.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "include/config.h"
#include "include/reason.h"
#include "proxy/route.h"

struct admin;
struct cache;
struct iopool;
struct limits;
struct listener;
struct sign;
struct tlsconf;
struct upstream;
struct worker;

struct depot {
	_Atomic(const struct config *) config;	/* the one in force */
	struct cache *cache;
	struct upstream *upstream;
	struct admin *admin;		/* NULL: no control socket */
	struct iopool *iopool;
	struct listener *listener;
	struct sign *sign;		/* gpgv; NULL: verify_signatures = no */
	struct limits *limits;		/* for each client address */
	struct tlsconf *tls;
	struct worker **workers;
	unsigned workers_n;
	_Atomic unsigned max_connections;	/* after what RLIMIT_NOFILE allows */
	struct route_conf route;
	char id[17];			/* of this process, for Via: hex */
	int64_t started_s;
	_Atomic bool stopping;
};

extern const char depot_version[];

/*
 * May this host and port be asked at all: by name, port, and, where the host
 * is written as a number in any notation, by address? Names are judged again
 * by each address that is connected to. Pure.
 */
enum reason depot_check_target(const struct config *cfg, struct slice host, uint16_t port,
    const struct portset *ports) MUSTCHECK;

/*
 * A URL as a person writes it, understood as a client's request for it would
 * be; without a scheme, as what stands behind the depot's own address. False:
 * it is none of an object.
 */
bool depot_parse_url(const struct depot *d, const char *word, struct arena *a,
    struct url *url) MUSTCHECK;
/* The same; at: the time or name before the host, or empty. */
bool depot_parse_url_at(const struct depot *d, const char *word, struct arena *a, struct url *url,
    struct slice *at) MUSTCHECK;

/* How many connections so many open files leave room for; 0: too few to serve at all. */
uint64_t depot_room_for_connections(uint64_t open_files, uint64_t workers);

/* Is the host written as an IP address, in any notation? */
bool depot_is_address(struct slice host);

#endif
