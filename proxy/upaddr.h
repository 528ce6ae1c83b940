/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef UPADDR_H
#define UPADDR_H
/*
 * The addresses of an origin: which are known, which are avoided for a while,
 * and which one a new connection is to take. libcurl resolves names and goes
 * through a name's addresses itself; it asks for a socket for each in turn,
 * and one that gets none is passed over. That is where the choice is made.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	UPADDR_MAX = 8,			/* of one origin that are told apart */
	UPADDR_AVOID_MS = 60000,
	UPADDR_LIST_MS = 60000,		/* how long a list of addresses is believed */
};

struct upaddr {
	char ip[INET6_ADDRSTRLEN];
	int64_t avoid_until_ms;
};

/* Part of an origin's record, on the upstream thread. All zero: nothing known. */
struct upaddrs {
	struct upaddr v[UPADDR_MAX];
	unsigned n;
	int64_t listed_ms;		/* when v was all there is; 0: never */
	int64_t none_ms;		/* when all there are were avoided; 0: never */
};

/* What one connection attempt wants, and what it met. All zero: any address will do. */
struct upaddr_choice {
	struct upaddrs *addrs;		/* NULL: no choice is made */
	int64_t now_ms;
	bool list;			/* takes none: only to learn which there are */
	bool any;			/* avoided ones too: nothing else is left */
	char only[INET6_ADDRSTRLEN];	/* "": each that is not avoided */
	bool skipped;			/* some address was passed over */
	char tried[4][INET6_ADDRSTRLEN];	/* the first that were not */
	unsigned tried_n;
};

/* Is this the address that the connection wants? */
bool upaddr_take(struct upaddr_choice *c, const struct sockaddr *sa);
/* False: that was known already. */
bool upaddr_avoid(struct upaddrs *a, const char *ip, int64_t now_ms);
bool upaddr_is_avoided(const struct upaddrs *a, const char *ip, int64_t now_ms);
/* Before a list is made anew: forgets all but what is avoided. */
void upaddr_begin_list(struct upaddrs *a, int64_t now_ms);

#endif
