/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef UPSTREAM_H
#define UPSTREAM_H
/*
 * The way upstream: one thread with an event loop and a libcurl multi handle
 * (curlev.c), the steps of each transfer (fetch.c), and the queue of
 * transfers that wait for a connection slot (upstream.c). Workers hand it
 * flights and hear from them through the flight.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/flight.h"
#include "include/reason.h"
#include "include/slice.h"
#include "proxy/depot.h"
#include "proxy/mailbox.h"

struct upstream;

/* A longer Via than this is that of a request that goes in circles. */
enum { UPSTREAM_VIA_BYTES = 1024 };

/* How a flight is to be fetched. Text is copied. */
struct upstream_ask {
	bool head;		/* HEAD only: the flight ends with its head */
	bool no_cache;		/* the client insists: caches on the way are told so */
	bool no_store;		/* not to be stored, once those who wait for it have it */
	bool fresh;		/* a look, on a connection of its own: another edge may answer */
	/*
	 * The client's own end-to-end fields, lines with CRLF: for files that
	 * are no repository's, and with credentials. Empty: our own fields only.
	 */
	struct slice fields;
	struct slice via;	/* the client's Via, shorter than UPSTREAM_VIA_BYTES */
};

struct upstream *upstream_start(struct depot *d) MUSTCHECK;
/* Ends all transfers (what can be continued is kept), then the thread. */
void upstream_stop(struct upstream **u_p);
/*
 * SIGHUP. Reads what the configuration names, and brings it into force for what is asked from here
 * on. False, with the reason in the log: all stays as it was. One thread, which may wait.
 */
bool upstream_reload(struct upstream *u, const struct config *config) MUSTCHECK;
/* The credentials alone are read again. From any thread. */
void upstream_reload_auth(struct upstream *u);
/* Fetches the flight. From any thread, once per flight. */
void upstream_fetch(struct upstream *u, struct flight *f, const struct upstream_ask *ask);

/* An origin's address that is passed over for a while. */
struct upstream_avoided {
	char origin[300];		/* scheme and authority */
	char address[INET6_ADDRSTRLEN];
	const char *why;		/* in words, static */
	int64_t until_ms;		/* of the monotonic clock */
};
enum { UPSTREAM_AVOIDED_MAX = 16 };	/* that are remembered for this */
/* Those of now; returns how many. From any thread; u NULL: there are none. */
unsigned upstream_list_avoided(struct upstream *u, struct upstream_avoided *out, unsigned max_n);

/*
 * A connection for a tunnel. The owner fills host, port, home and mail, keeps
 * the memory until mail is delivered, then owns fd. Names are resolved, the
 * address checked, a parent proxy asked as configured.
 */
struct upstream_dial {
	struct mail mail;		/* to `home`, when settled */
	struct mailbox *home;
	char host[256];
	uint16_t port;
	char via[UPSTREAM_VIA_BYTES];	/* the client's Via */
	int fd;				/* -1: failed */
	enum reason reason;
	char detail[512];
	/* upstream's own */
	struct mail order;
	struct upstream *upstream;
};
void upstream_dial(struct upstream *u, struct upstream_dial *d);

#endif
